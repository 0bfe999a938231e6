//! One machine: its QEMU process, the threads that read it, and what is known of its state.
//!
//! ```text
//! NotStarted --start--> Running <--pause/resume--> Paused
//!                       Running <--freeze/thaw---> Frozen
//!                       Running --guest's last word--> Halted --reset--> Running
//!       any of these --kill--> Killed          --QEMU ends by itself--> Exited
//! ```

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use quorate_base::Event;
use quorate_trace::{LogTable, PortDecoder, TraceStore};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::console::Console;
use crate::error::LaunchError;
use crate::guard::Guard;
use crate::qmp::Qmp;
use crate::run_dir::MachinePaths;

/// Lines of the log that are kept in memory.
const LOG_LINES_KEPT: usize = 500;

/// How many pieces of garbage on one connection are reported one by one; the rest is summed up at its end.
const TROUBLES_TOLD: u64 = 16;

/// What a machine is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MachineState {
    /// Never started.
    NotStarted,
    /// QEMU runs and the guest has not said its last word.
    Running,
    /// QEMU's process is stopped.
    Paused,
    /// QEMU runs, the guest's clock stands still.
    Frozen,
    /// QEMU runs, the guest has said its last word.
    Halted {
        /// That word.
        reason: String,
        /// Whether it was asked for (a graceful leave), or EP's panic.
        wanted: bool,
    },
    /// QEMU ended by itself.
    Exited {
        /// Its status.
        status: String,
        /// What it said.
        stderr: String,
    },
    /// The harness ended QEMU.
    Killed,
}

impl MachineState {
    /// The node may still do something: it runs, or it will when it is let go on.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Frozen)
    }

    /// There is a QEMU process.
    pub fn has_process(&self) -> bool {
        self.is_live() || matches!(self, Self::Halted { .. })
    }
}

/// What a run's machines have in common.
#[derive(Debug)]
pub struct Common {
    /// The QEMU program.
    pub qemu: PathBuf,
    /// What it needs in its environment.
    pub environment: Vec<(&'static str, PathBuf)>,
    /// How to read logs.
    pub log: Option<Arc<LogTable>>,
    /// The run's lines.
    pub store: TraceStore,
    /// Who cleans up if this process cannot.
    pub guard: Guard,
    /// Where logs are kept.
    pub keep_logs: Option<PathBuf>,
}

/// A QEMU that was started and not yet ended by the harness.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: Pid,
    /// Its monitor.
    pub qmp: Arc<Qmp>,
    /// Its console.
    pub console: Arc<Console>,
    /// Newest lines of its log.
    pub log: Arc<Mutex<VecDeque<String>>>,
    /// SIGSTOP was sent.
    pub paused: bool,
    /// `stop` was done.
    pub frozen: bool,
    guest: Arc<Mutex<Guest>>,
    ending: Arc<AtomicBool>,
    exited: Option<String>,
    threads: Vec<JoinHandle<()>>,
    paths: MachinePaths,
}

/// The guest's last word, once it is said.
#[derive(Debug, Default)]
struct Guest {
    last_word: Option<(String, bool)>,
}

/// The NIC's end of the wire to the switch. It is connected: what comes from its peer is bounded by bytes, some 250 short
/// frames as in the ring of a NIC, while a socket that others may send to holds ten datagrams.
fn wire(paths: &MachinePaths) -> std::io::Result<UnixDatagram> {
    let _ = std::fs::remove_file(&paths.nic);
    let socket = UnixDatagram::bind(&paths.nic)?;
    socket.connect(&paths.hub)?;
    Ok(socket)
}

impl Process {
    /// Starts QEMU with `arguments` for machine `number`, which is `node` in the trace.
    ///
    /// # Errors
    /// If its sockets or its process cannot be made.
    pub fn start(
        number: usize,
        node: u8,
        common: &Arc<Common>,
        paths: &MachinePaths,
        arguments: &[String],
    ) -> Result<Self, LaunchError> {
        let listen = |path: &Path| {
            let _ = std::fs::remove_file(path);
            UnixListener::bind(path).map_err(LaunchError::io(format!("cannot listen at {}", path.display())))
        };
        let [console_port, log_port, trace_port, qmp_port] =
            [listen(&paths.console)?, listen(&paths.log)?, listen(&paths.trace)?, listen(&paths.qmp)?];
        let wire = wire(paths).map_err(LaunchError::io(format!("cannot plug in {}", paths.nic.display())))?;
        let what = format!("cannot open {}", paths.stderr.display());
        let stderr = File::create(&paths.stderr).map_err(LaunchError::io(what))?;
        let child = Command::new(&common.qemu)
            .args(arguments)
            .envs(common.environment.iter().map(|(name, value)| (*name, value)))
            // Where `qemu::arguments` says that the NIC's socket is.
            .stdin(OwnedFd::from(wire))
            .stdout(Stdio::null())
            .stderr(stderr)
            // Ctrl-C at the terminal is the harness's business.
            .process_group(0)
            .spawn()
            .map_err(LaunchError::io(format!("cannot start {}", common.qemu.display())))?;
        common.guard.add(child.id());
        let pid = Pid::from_child(&child);
        let (qmp, console) = (Arc::new(Qmp::default()), Arc::new(Console::default()));
        let (log, guest) = (Arc::new(Mutex::new(VecDeque::new())), Arc::new(Mutex::new(Guest::default())));
        let ending = Arc::new(AtomicBool::new(false));
        let mut process = Self {
            child,
            pid,
            qmp,
            console,
            log,
            paused: false,
            frozen: false,
            guest,
            ending,
            exited: None,
            threads: Vec::new(),
            paths: paths.clone(),
        };
        let reading = process
            .read_qmp(number, common, qmp_port)
            .and_then(|()| process.read_console(number, common, console_port))
            .and_then(|()| process.read_log(number, common, log_port))
            .and_then(|()| process.read_trace(node, common, trace_port));
        match reading {
            Ok(()) => Ok(process),
            Err(error) => {
                process.end(&common.guard);
                Err(error)
            }
        }
    }

    /// What it is doing.
    pub fn state(&mut self, guard: &Guard) -> MachineState {
        if self.exited.is_none() {
            // Off the list first: once it is reaped its number may be another's. Asking costs a system call only.
            if let Ok(Some(status)) = self.child.try_wait() {
                guard.remove(self.child.id());
                self.exited = Some(status.to_string());
            }
        }
        if let Some(status) = &self.exited {
            return MachineState::Exited { status: status.clone(), stderr: self.stderr() };
        }
        if self.paused {
            return MachineState::Paused;
        }
        if self.frozen {
            return MachineState::Frozen;
        }
        match &lock(&self.guest).last_word {
            Some((reason, wanted)) => MachineState::Halted { reason: reason.clone(), wanted: *wanted },
            None => MachineState::Running,
        }
    }

    /// The guest begins anew.
    pub fn forget_last_word(&self) {
        lock(&self.guest).last_word = None;
    }

    /// Sends the process a signal.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> std::io::Result<()> {
        if self.exited.is_some() {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        Ok(kill_process(self.pid, signal)?)
    }

    /// Whether all its threads stand still after a SIGSTOP.
    pub fn has_stopped(&self) -> bool {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        self.exited.is_none() && matches!(waitid(WaitId::Pid(self.pid), options), Ok(Some(_)))
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How to end it from another thread.
    pub fn killer(&self) -> (Pid, Arc<AtomicBool>) {
        (self.pid, self.ending.clone())
    }

    /// What QEMU said.
    pub fn stderr(&self) -> String {
        let text = std::fs::read(&self.paths.stderr).unwrap_or_default();
        String::from_utf8_lossy(&text).trim().to_owned()
    }

    /// Ends it and waits until everything that it said is read.
    pub fn end(&mut self, guard: &Guard) {
        self.ending.store(true, Ordering::Release);
        // Already gone is as good. SIGKILL also ends a stopped process.
        let _ = self.child.kill();
        guard.remove(self.child.id());
        let _ = self.child.wait();
        // A thread that QEMU never connected to waits for a connection: it gets an empty one.
        for path in [&self.paths.console, &self.paths.log, &self.paths.trace, &self.paths.qmp] {
            let _ = UnixStream::connect(path);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for path in [&self.paths.console, &self.paths.log, &self.paths.trace, &self.paths.qmp, &self.paths.nic] {
            let _ = std::fs::remove_file(path);
        }
    }

    fn read_qmp(&mut self, number: usize, common: &Arc<Common>, port: UnixListener) -> Result<(), LaunchError> {
        let (qmp, ending, common) = (self.qmp.clone(), self.ending.clone(), common.clone());
        let stderr = self.paths.stderr.clone();
        self.spawn("qmp", move || {
            match port.accept() {
                Ok((stream, _)) => qmp.serve(stream),
                Err(_) => qmp.close(),
            }
            if !ending.load(Ordering::Acquire) {
                let said = std::fs::read(stderr).unwrap_or_default();
                let said = String::from_utf8_lossy(&said).trim().to_owned();
                common.store.note(&format!("machine {number}: QEMU ended by itself: {said}"));
            }
            common.store.wake();
        })
    }

    fn read_console(&mut self, number: usize, common: &Arc<Common>, port: UnixListener) -> Result<(), LaunchError> {
        let console = self.console.clone();
        let mut file = kept(common, number, "console")?;
        self.spawn("console", move || match port.accept() {
            Ok((stream, _)) => console.serve(stream, |bytes| keep(&mut file, bytes)),
            Err(_) => console.close(),
        })
    }

    fn read_log(&mut self, number: usize, common: &Arc<Common>, port: UnixListener) -> Result<(), LaunchError> {
        let (log, common) = (self.log.clone(), common.clone());
        let mut file = kept(&common, number, "log")?;
        self.spawn("log", move || {
            let Ok((stream, _)) = port.accept() else { return };
            let Some(table) = &common.log else {
                return each_read(stream, |bytes| keep(&mut file, bytes));
            };
            let mut decoder = table.stream();
            each_read(stream, |bytes| {
                decoder.push(bytes, |line| {
                    let line = line.to_string();
                    keep(&mut file, line.as_bytes());
                    keep(&mut file, b"\n");
                    let mut log = lock(&log);
                    if log.len() >= LOG_LINES_KEPT {
                        log.pop_front();
                    }
                    log.push_back(line);
                });
            });
            if decoder.malformed() > 0 {
                common.store.note(&format!("machine {number}: {} log frames were damaged", decoder.malformed()));
            }
        })
    }

    fn read_trace(&mut self, node: u8, common: &Arc<Common>, port: UnixListener) -> Result<(), LaunchError> {
        let (guest, ending, common) = (self.guest.clone(), self.ending.clone(), common.clone());
        self.spawn("trace", move || {
            let Ok((stream, _)) = port.accept() else { return };
            let store = &common.store;
            let mut decoder = PortDecoder::new();
            let mut troubles = 0;
            each_read(stream, |bytes| {
                decoder.push(bytes, |piece| match piece {
                    Ok(record) => {
                        // First the state, then the line: who saw the line finds the state.
                        take_last_word(&guest, &record.event);
                        store.record(node, record);
                    }
                    Err(trouble) => {
                        troubles += 1;
                        if troubles <= TROUBLES_TOLD {
                            store.note(&format!("node {node}: {trouble}"));
                        }
                    }
                });
            });
            if troubles > TROUBLES_TOLD {
                store.note(&format!("node {node}: trace port: {troubles} pieces of garbage in all"));
            }
            // Who is killed is cut off in mid-word: nothing to report.
            if let (Some(cut), false) = (decoder.end(), ending.load(Ordering::Acquire)) {
                store.note(&format!("node {node}: {cut}"));
            }
        })
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), LaunchError> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(body);
        self.threads.push(thread.map_err(LaunchError::io("cannot start a thread"))?);
        Ok(())
    }
}

fn take_last_word(guest: &Mutex<Guest>, event: &Event<'_>) {
    match event {
        Event::Boot { .. } => lock(guest).last_word = None,
        Event::Panic { reason } => lock(guest).last_word = Some(((*reason).to_owned(), false)),
        Event::Halt { reason } => lock(guest).last_word = Some(((*reason).to_owned(), true)),
        _ => {}
    }
}

fn each_read(mut stream: UnixStream, mut body: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        body(buffer.get(..length).unwrap_or_default());
    }
}

fn kept(common: &Common, number: usize, end: &str) -> Result<Option<File>, LaunchError> {
    let Some(dir) = &common.keep_logs else { return Ok(None) };
    let path = dir.join(format!("machine-{number}.{end}"));
    let file = File::options().create(true).append(true).open(&path);
    file.map(Some).map_err(LaunchError::io(format!("cannot open {}", path.display())))
}

fn keep(file: &mut Option<File>, bytes: &[u8]) {
    if let Some(f) = file
        && f.write_all(bytes).is_err()
    {
        // A full disk ends the file, not the run.
        *file = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nic_that_is_not_read_holds_more_frames_than_a_burst_and_a_bounded_number() {
        let dir = std::env::temp_dir().join(format!("quorate-wire-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("temporary folder");
        let paths = MachinePaths::new(&dir, 0);
        assert!(wire(&paths).is_err(), "there is no switch");
        let hub = UnixDatagram::bind(&paths.hub).expect("the switch's socket");
        hub.set_nonblocking(true).expect("nonblocking");
        for life in 0..2 {
            let nic = wire(&paths).expect("plugged in");
            let held = (0..5000).take_while(|_| hub.send_to(&[life; 150], &paths.nic).is_ok()).count();
            assert!((64..5000).contains(&held), "{held}");
            nic.send(&[life; 60]).expect("the other way");
            let mut frame = [9; 150];
            assert_eq!((nic.recv(&mut frame).expect("a frame"), frame[0]), (150, life));
            assert_eq!((hub.recv(&mut frame).expect("a frame"), frame[0]), (60, life));
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
