//! The cluster: its machines, its switch, its disks; and every verb that a scenario can do to them.
//!
//! All methods take `&self`: threads may act on different machines at once.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_iscsi::Portal;
use quorate_switch::{PortSockets, Switch, SwitchOptions};
use quorate_trace::TraceStore;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::accel::Accel;
use crate::disk::{DiskCut, FaultDisk};
use crate::error::LaunchError;
use crate::fault::{DiskRule, Extent};
use crate::guard::Guard;
use crate::identity;
use crate::idle::{IDLE_LIMIT, comes_true, stop_when_idle};
use crate::iscsi::{Relay, initiator_name};
use crate::machine::{Common, MachineState, Process};
use crate::options::{BOOTSTRAP_MEMORY_MIB, BootPath, ClusterOptions, MachineOptions};
use crate::probe::Probe;
use crate::qemu::{self, DiskRoute, Spec, Start};
use crate::qmp::Qmp;
use crate::run_dir::{self, MachinePaths};
use crate::setup::Tools;
use crate::usage::{self, Usage};

/// How long QEMU may take to answer. It answers in milliseconds, unless the host is overloaded or a drain waits for a
/// stalled disk.
const QMP_WAIT: Duration = Duration::from_secs(10);

/// A cluster under QEMU. Dropping it ends every process and removes every socket.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: first the machines, then what they are connected to, last the guard (in `common`).
    machines: Vec<Machine>,
    switch: Switch,
    common: Arc<Common>,
    options: ClusterOptions,
    image: PathBuf,
    /// The firmware and a fresh copy of its variables, if machines boot by it.
    firmware: Option<(PathBuf, PathBuf)>,
    dir: PathBuf,
}

#[derive(Debug)]
struct Machine {
    options: MachineOptions,
    paths: MachinePaths,
    process: Arc<Mutex<Slot>>,
    way: Way,
}

/// What stands between a machine and its disk, for faults.
#[derive(Debug)]
enum Way {
    /// Nothing.
    Straight,
    /// The harness serves the image.
    Served(FaultDisk),
    /// The harness passes iSCSI on; and the unit as the machine finds it there.
    Relayed(Relay, Portal),
}

#[derive(Debug, Default)]
struct Slot {
    process: Option<Process>,
    killed: bool,
    /// The disk is taken away.
    disk_gone: bool,
    /// The disk's requests are held.
    disk_stalled: bool,
    /// How often it was started.
    starts: u32,
}

impl Slot {
    /// Whether there is a QEMU to be told things.
    fn has_process(&mut self, guard: &Guard) -> bool {
        self.process.as_mut().is_some_and(|p| p.state(guard).has_process())
    }
}

impl Cluster {
    /// Makes the surroundings; no machine is started yet.
    ///
    /// # Errors
    /// If a directory, socket, process or disk image cannot be had.
    pub fn new(options: ClusterOptions, tools: &Tools, store: TraceStore) -> Result<Self, LaunchError> {
        let dir = run_dir::make().map_err(LaunchError::io("cannot make a directory for the run"))?;
        let guard = Guard::start(&dir).map_err(LaunchError::io("cannot start the guard"))?;
        if let Some(keep) = &options.keep_logs {
            std::fs::create_dir_all(keep).map_err(LaunchError::io(format!("cannot make {}", keep.display())))?;
        }
        let paths: Vec<_> = (0..options.machines.len()).map(|n| MachinePaths::new(&dir, n)).collect();
        let switch = Switch::start(&SwitchOptions {
            ports: paths.iter().map(|p| PortSockets { hub: p.hub.clone(), peer: p.nic.clone() }).collect(),
            seed: options.seed,
            told: told(&options.machines),
            capture: options.keep_logs.as_ref().map(|d| d.join("interconnect.pcap")),
        })
        .map_err(LaunchError::io("cannot start the switch"))?;
        let machines = options.machines.iter().zip(paths).map(|(own, paths)| Machine::new(own, paths, &options));
        let machines = machines.collect::<Result<Vec<_>, _>>()?;
        let common = Arc::new(Common {
            qemu: tools.qemu.clone(),
            environment: tools.programs.qemu_environment().to_vec(),
            log: tools.log.clone(),
            store,
            guard,
            keep_logs: options.keep_logs.clone(),
        });
        let (accel, firmware, memory_mib) = match (options.boot, &tools.uefi) {
            (BootPath::Direct, _) => (options.accel.resolve(&tools.qemu, &tools.image), None, options.memory_mib),
            (BootPath::Uefi, Some(uefi)) => {
                // Which of the two is faster was measured with a kernel that needs no firmware; there are KVMs under which OVMF does not boot.
                let accel = if options.accel == Accel::Auto { Accel::Tcg } else { options.accel };
                let firmware = (uefi.code.clone(), uefi.variables.clone());
                (accel, Some(firmware), options.memory_mib.max(BOOTSTRAP_MEMORY_MIB))
            }
            (BootPath::Uefi, None) => return Err(LaunchError::NoFirmware),
        };
        let options = ClusterOptions { accel, memory_mib, ..options };
        Ok(Self { machines, switch, common, options, image: tools.image.clone(), firmware, dir })
    }

    /// How many machines.
    pub fn len(&self) -> usize {
        self.machines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.machines.is_empty()
    }

    /// The run's directory: only this user may enter it, and it is gone when the cluster is.
    pub fn run_dir(&self) -> &Path {
        &self.dir
    }

    /// The run's lines.
    pub fn store(&self) -> &TraceStore {
        &self.common.store
    }

    /// The interconnect. Port numbers are machine numbers.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// What was chosen to make the processors.
    pub fn accel(&self) -> crate::Accel {
        self.options.accel
    }

    /// Starts a machine; `words` are its kernel command line. One whose guest has halted, or whose QEMU has ended, is
    /// started anew. Returns when the process exists, not when it has booted.
    ///
    /// # Errors
    /// If it runs already, or its process cannot be made.
    pub fn start(&self, n: usize, words: &[String]) -> Result<(), LaunchError> {
        let Some((code, fresh)) = &self.firmware else { return self.start_image(n, words, &self.image) };
        let variables = &self.machine(n)?.paths.variables;
        if !variables.exists() {
            let what = format!("cannot copy {}", fresh.display());
            std::fs::copy(fresh, variables).map_err(LaunchError::io(what))?;
        }
        self.start_by(n, words, Start::Firmware(code))
    }

    /// As [`Cluster::start`], with another kernel than the node image, which QEMU loads.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_image(&self, n: usize, words: &[String], image: &Path) -> Result<(), LaunchError> {
        self.start_by(n, words, Start::Kernel(image))
    }

    fn start_by(&self, n: usize, words: &[String], start: Start<'_>) -> Result<(), LaunchError> {
        let machine = self.machine(n)?;
        let mut slot = machine.slot();
        if let Some(process) = &mut slot.process {
            if process.state(&self.common.guard).is_live() {
                return Err(LaunchError::Running(n));
            }
            process.end(&self.common.guard);
            slot.process = None;
        }
        if let (Way::Relayed(relay, _), true) = (&machine.way, slot.disk_stalled) {
            // QEMU would never come up: it logs in before it does anything else.
            relay.heal();
        }
        slot.starts += 1;
        let initiator = initiator_name(n, slot.starts);
        let arguments = qemu::arguments(&Spec {
            machine: &machine.options,
            paths: &machine.paths,
            start,
            words,
            accel: self.options.accel,
            nic: self.options.nic,
            memory_mib: self.options.memory_mib,
            route: self.route(machine, &initiator),
            block_size: self.options.block_size,
            disk_present: !slot.disk_gone,
            waits: slot.disk_stalled,
            extra: &self.options.extra_arguments,
        });
        let process = Process::start(n, machine.options.node, &self.common, &machine.paths, &arguments)?;
        let stalled = slot.disk_stalled;
        slot.process = Some(process);
        slot.killed = false;
        drop(slot);
        if stalled {
            // The guest waits until its disk is as it is to be. QEMU answers when it has opened the disk.
            self.qmp(n, "query-status", json!({}))?;
            self.hold_disk(n)?;
            self.qmp(n, "cont", json!({}))?;
        }
        Ok(())
    }

    /// How a machine reaches its disk, as this initiator.
    fn route<'a>(&'a self, machine: &'a Machine, initiator: &'a str) -> DiskRoute<'a> {
        match (&machine.way, &self.options.iscsi) {
            (Way::Relayed(_, portal), _) | (Way::Straight, Some(portal)) => DiskRoute::Iscsi { portal, initiator },
            (Way::Served(_), _) => DiskRoute::Harness,
            (Way::Straight, None) => DiskRoute::Direct,
        }
    }

    /// Ends a machine's process at once. One that does not run is left as it is: no error.
    ///
    /// # Errors
    /// If there is no such machine.
    pub fn kill(&self, n: usize) -> Result<(), LaunchError> {
        let mut slot = self.machine(n)?.slot();
        if let Some(mut process) = slot.process.take() {
            process.end(&self.common.guard);
            slot.killed = true;
            self.common.store.wake();
        }
        Ok(())
    }

    /// Ends several machines' processes as nearly at once as can be.
    ///
    /// # Errors
    /// If there is no such machine.
    pub fn kill_all(&self, machines: &[usize]) -> Result<(), LaunchError> {
        for n in machines {
            if let Some(process) = &self.machine(*n)?.slot().process {
                process.killer().1.store(true, Ordering::Release);
                // Already gone is as good.
                let _ = process.signal(Signal::KILL);
            }
        }
        machines.iter().try_for_each(|n| self.kill(*n))
    }

    /// Stops a machine's process (SIGSTOP): when it goes on, the guest's clock has jumped.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self, n: usize) -> Result<(), LaunchError> {
        self.signal(n, Signal::STOP, true)
    }

    /// The same as soon as its disk has been idle for so long: no request was on its way when it was stopped, or begun
    /// but for one that had not left QEMU yet (see `idle.rs`). Returns when it stands still.
    ///
    /// # Errors
    /// If it does not run, the disk is not behind the harness, or never idle for so long.
    pub fn pause_at_idle(&self, n: usize, idle: Duration) -> Result<(), LaunchError> {
        let way = &self.machine(n)?.way;
        let look = || match way {
            Way::Straight => None,
            Way::Served(disk) => disk.idle(),
            Way::Relayed(relay, _) => relay.idle(),
        };
        if matches!(way, Way::Straight) {
            return Err(LaunchError::NoDiskFaults);
        }
        self.monitor(n)?;
        let stop = || {
            self.pause(n)?;
            let stands = || self.with(n, |process| process.has_stopped()).unwrap_or(false);
            if comes_true(IDLE_LIMIT, stands) {
                return Ok(());
            }
            self.resume(n)?;
            Err(LaunchError::io(format!("machine {n} was told to stand still and does not"))(
                ErrorKind::TimedOut.into(),
            ))
        };
        let stopped = stop_when_idle(idle, look, stop, || self.resume(n))?;
        if stopped { Ok(()) } else { Err(LaunchError::NeverIdle { machine: n, idle }) }
    }

    /// Lets a paused machine go on (SIGCONT).
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self, n: usize) -> Result<(), LaunchError> {
        self.signal(n, Signal::CONT, false)
    }

    /// Stops a machine's processor and clock (QMP `stop`). While the disk is stalled, QEMU does not answer this.
    ///
    /// # Errors
    /// If it does not run or does not obey.
    pub fn freeze(&self, n: usize) -> Result<(), LaunchError> {
        self.qmp(n, "stop", json!({}))?;
        self.with(n, |process| process.frozen = true)
    }

    /// Lets a frozen machine go on (QMP `cont`).
    ///
    /// # Errors
    /// If it does not run or does not obey.
    pub fn thaw(&self, n: usize) -> Result<(), LaunchError> {
        self.qmp(n, "cont", json!({}))?;
        self.with(n, |process| process.frozen = false)
    }

    /// Presses the reset button. A guest that had halted boots again.
    ///
    /// # Errors
    /// If it does not run or does not obey.
    pub fn reset(&self, n: usize) -> Result<(), LaunchError> {
        self.with(n, |process| process.forget_last_word())?;
        self.qmp(n, "system_reset", json!({})).map(drop)
    }

    /// Pulls the network plug, or puts it back: unlike a cut, the guest sees that.
    ///
    /// # Errors
    /// If it does not run or does not obey.
    pub fn set_carrier(&self, n: usize, up: bool) -> Result<(), LaunchError> {
        self.qmp(n, "set_link", json!({"name": "nic0", "up": up})).map(drop)
    }

    /// Types a line at the node's console and returns its reply.
    ///
    /// # Errors
    /// If no reply comes in time.
    pub fn command(&self, n: usize, text: &str, timeout: Duration) -> Result<String, LaunchError> {
        let console = self.with(n, |process| process.console.clone())?;
        let lost = |so_far| LaunchError::Console { machine: n, text: text.to_owned(), so_far };
        console.command(text, timeout).map_err(lost)
    }

    /// A running machine, to be asked by another thread; `None` for one that is paused, has halted or does not run.
    pub fn probe(&self, n: usize) -> Option<Probe> {
        let mut slot = self.machine(n).ok()?.slot();
        let process = slot.process.as_mut()?;
        let running = process.state(&self.common.guard) == MachineState::Running;
        running.then(|| Probe { console: process.console.clone(), qmp: process.qmp.clone() })
    }

    /// Everything that the node said at its console since it was started.
    pub fn console_text(&self, n: usize) -> String {
        self.with(n, |process| process.console.text()).unwrap_or_default()
    }

    /// The newest lines of the node's log since it was started.
    pub fn recent_log(&self, n: usize) -> Vec<String> {
        let log = self.with(n, |process| process.log.clone());
        log.map(|l| l.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()).unwrap_or_default()
    }

    /// What the machine is doing. One that does not exist was never started.
    pub fn state(&self, n: usize) -> MachineState {
        let Ok(machine) = self.machine(n) else { return MachineState::NotStarted };
        let mut slot = machine.slot();
        let slot = &mut *slot;
        match &mut slot.process {
            Some(process) => process.state(&self.common.guard),
            None if slot.killed => MachineState::Killed,
            None => MachineState::NotStarted,
        }
    }

    /// What its QEMU costs the host.
    pub fn usage(&self, n: usize) -> Option<Usage> {
        usage::of_process(self.with(n, |process| process.id()).ok()?)
    }

    /// Cuts a machine's disk off.
    ///
    /// # Errors
    /// If the disk is not behind the harness (for a stall), or QEMU does not obey.
    pub fn disk_cut(&self, n: usize, how: DiskCut) -> Result<(), LaunchError> {
        if how == DiskCut::Stall {
            if matches!(self.machine(n)?.way, Way::Straight) {
                return Err(LaunchError::NoDiskFaults);
            }
            let runs = {
                let mut slot = self.machine(n)?.slot();
                slot.disk_stalled = true;
                slot.has_process(&self.common.guard) && !slot.disk_gone
            };
            if runs {
                self.hold_disk(n)?;
            }
            if let Way::Served(disk) = &self.machine(n)?.way {
                disk.stall();
            }
            return Ok(());
        }
        let runs = {
            let mut slot = self.machine(n)?.slot();
            if std::mem::replace(&mut slot.disk_gone, true) {
                return Ok(());
            }
            slot.has_process(&self.common.guard)
        };
        if runs { self.qmp(n, "device_del", json!({"id": qemu::DISK_ID})).map(drop) } else { Ok(()) }
    }

    /// Delays each of a machine's disk requests by this much.
    ///
    /// # Errors
    /// If the disk is not behind the harness.
    pub fn disk_delay(&self, n: usize, delay: Duration) -> Result<(), LaunchError> {
        match &self.machine(n)?.way {
            Way::Straight => return Err(LaunchError::NoDiskFaults),
            Way::Served(disk) => disk.delay(delay),
            Way::Relayed(relay, _) => relay.delay(delay),
        }
        Ok(())
    }

    /// Breaks a machine's iSCSI session: the target forgets it, and QEMU makes another and sends again what was open.
    ///
    /// # Errors
    /// If there is none, or it does not go through the harness.
    pub fn session_cut(&self, n: usize) -> Result<(), LaunchError> {
        match &self.machine(n)?.way {
            Way::Relayed(relay, _) => relay.cut(),
            _ => return Err(LaunchError::NoDiskFaults),
        }
        Ok(())
    }

    /// Lets some of a machine's disk requests go wrong.
    ///
    /// # Errors
    /// If the disk is not behind the harness.
    pub fn disk_rule(&self, n: usize, rule: DiskRule) -> Result<(), LaunchError> {
        self.served(n, "let single requests go wrong").map(|d| d.rule(rule))
    }

    /// From now on a machine's reads of an extent give what stands there now.
    ///
    /// # Errors
    /// If the disk is not behind the harness, or cannot be read.
    pub fn disk_keep(&self, n: usize, extent: Extent) -> Result<(), LaunchError> {
        self.served(n, "give old blocks")?
            .keep(extent)
            .map_err(LaunchError::io(format!("cannot read the disk of machine {n}")))
    }

    /// From now on a machine has another disk in the place of its own: that image, of the same size.
    ///
    /// # Errors
    /// If the disk is not behind the harness, or the image cannot be opened.
    pub fn disk_swap(&self, n: usize, image: &Path) -> Result<(), LaunchError> {
        self.served(n, "put another disk in the place of this one")?
            .swap(image)
            .map_err(LaunchError::io(format!("cannot open {}", image.display())))
    }

    /// Ends every fault of a machine's disk.
    ///
    /// # Errors
    /// If QEMU does not obey.
    pub fn disk_heal(&self, n: usize) -> Result<(), LaunchError> {
        let machine = self.machine(n)?;
        match &machine.way {
            Way::Straight => {}
            Way::Served(disk) => disk.heal(),
            Way::Relayed(relay, _) => relay.heal(),
        }
        let (was_gone, was_stalled, runs) = {
            let mut slot = machine.slot();
            let was = |flag: &mut bool| std::mem::replace(flag, false);
            (was(&mut slot.disk_gone), was(&mut slot.disk_stalled), slot.has_process(&self.common.guard))
        };
        if was_stalled && !was_gone && runs && matches!(machine.way, Way::Served(_)) {
            self.qmp(n, "block_set_io_throttle", qemu::throttle(false))?;
        }
        if was_gone && runs {
            self.qmp(n, "device_add", qemu::disk_device(self.route(machine, ""), self.options.block_size)).map(drop)
        } else {
            Ok(())
        }
    }

    /// Runs a QMP command on a machine.
    ///
    /// # Errors
    /// If it does not run or does not obey.
    pub fn qmp(&self, n: usize, command: &str, arguments: Value) -> Result<Value, LaunchError> {
        let qmp = self.monitor(n)?;
        let failed = |error| LaunchError::Qmp { machine: n, command: command.to_owned(), error };
        qmp.execute(command, arguments, QMP_WAIT).map_err(failed)
    }

    /// Holds all requests of a machine's disk: in QEMU, or on their way to the target.
    fn hold_disk(&self, n: usize) -> Result<(), LaunchError> {
        if let Way::Relayed(relay, _) = &self.machine(n)?.way {
            relay.hold();
            return Ok(());
        }
        self.qmp(n, "block_set_io_throttle", qemu::throttle(true))?;
        let command_line = json!({"command-line": qemu::request_that_owes()});
        self.qmp(n, "human-monitor-command", command_line).map(drop)
    }

    /// A running, not paused machine's monitor.
    fn monitor(&self, n: usize) -> Result<Arc<Qmp>, LaunchError> {
        let mut slot = self.machine(n)?.slot();
        let process = slot.process.as_mut().ok_or(LaunchError::NotRunning(n))?;
        match process.state(&self.common.guard) {
            MachineState::Paused => Err(LaunchError::Paused(n)),
            MachineState::Exited { stderr, .. } => Err(LaunchError::Ended { machine: n, stderr }),
            _ => Ok(process.qmp.clone()),
        }
    }

    fn signal(&self, n: usize, signal: Signal, paused: bool) -> Result<(), LaunchError> {
        let mut slot = self.machine(n)?.slot();
        let process = slot.process.as_mut().ok_or(LaunchError::NotRunning(n))?;
        process.signal(signal).map_err(LaunchError::io(format!("cannot signal machine {n}")))?;
        process.paused = paused;
        Ok(())
    }

    fn served(&self, n: usize, what: &'static str) -> Result<&FaultDisk, LaunchError> {
        match &self.machine(n)?.way {
            Way::Served(disk) => Ok(disk),
            Way::Straight if self.options.iscsi.is_none() => Err(LaunchError::NoDiskFaults),
            _ => Err(LaunchError::NotOverIscsi(what)),
        }
    }

    fn with<R>(&self, n: usize, body: impl FnOnce(&mut Process) -> R) -> Result<R, LaunchError> {
        self.machine(n)?.slot().process.as_mut().map(body).ok_or(LaunchError::NotRunning(n))
    }

    fn machine(&self, n: usize) -> Result<&Machine, LaunchError> {
        self.machines.get(n).ok_or(LaunchError::NoSuchMachine(n))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let all: Vec<usize> = (0..self.machines.len()).collect();
        // Every number exists, so this cannot fail.
        let _ = self.kill_all(&all);
    }
}

impl Machine {
    fn new(own: &MachineOptions, paths: MachinePaths, all: &ClusterOptions) -> Result<Self, LaunchError> {
        let process = Arc::new(Mutex::new(Slot::default()));
        let way = match (&own.disk, &all.iscsi) {
            (Some(_), Some(portal)) if all.disk_faults => {
                let what = format!("cannot pass on to {portal}");
                let relay = Relay::start(portal.address()).map_err(LaunchError::io(what))?;
                let there = Portal { host: "127.0.0.1".to_owned(), port: relay.port(), ..portal.clone() };
                Way::Relayed(relay, there)
            }
            (Some(image), None) if all.disk_faults => {
                let victim = process.clone();
                let what = format!("cannot serve {}", image.display());
                let kill = Box::new(move || kill_now(&victim));
                Way::Served(FaultDisk::start(image, &paths.disk, kill).map_err(LaunchError::io(what))?)
            }
            _ => Way::Straight,
        };
        Ok(Self { options: own.clone(), paths, process, way })
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a machine's QEMU from the thread that serves its disk. It is reaped by whoever asks for its state next.
fn kill_now(slot: &Mutex<Slot>) {
    let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(process) = &slot.process {
        let (pid, ending) = process.killer();
        ending.store(true, Ordering::Release);
        // Already gone is as good.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Stations and groups that the switch knows beforehand, so that no frame wakes a machine that it is not for. Two
/// machines with one node number (a scenario's mistake to be found out) share the group: it is then flooded.
fn told(machines: &[MachineOptions]) -> Vec<(quorate_switch::Mac, usize)> {
    let alone = |m: &MachineOptions| machines.iter().filter(|o| o.node == m.node || o.mac == m.mac).count() == 1;
    let known = machines.iter().enumerate().filter(|(_, m)| alone(m));
    known.flat_map(|(port, m)| [(m.mac, port), (identity::group(m.node), port)]).collect()
}
