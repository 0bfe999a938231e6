//! The node's task: disk, link, levels and commands around the one [`Node`] (DESIGN 2). Everything that the cluster does on
//! this machine happens in this task's turns; it sleeps until a device, a command or a deadline wakes it.

use core::fmt::Write;

use heapless::{Deque, Vec};
use quorate_arch_x86_64::bootinfo::CommandLine;
use quorate_arch_x86_64::{clock, entropy, smbios};
use quorate_base::capacity::LEVELS_MAX;
use quorate_base::level::{LevelDecl, LevelTable};
use quorate_base::port::SharedDisk;
use quorate_base::reservation::Reservations;
use quorate_base::{BootNonce, ClusterId, HaltReason, Instant, NodeId};
use quorate_database::{EndAction, MachineId};
use quorate_master_lock::DiskGeometry;
use quorate_node::{Boot, Console, Groups, Input, Node, Output, Patting, Ports, ProbeLevel, Probes};
use spin::Mutex;
use static_cell::StaticCell;

use crate::console::Line;
use crate::devices::{Bus, WORK};
use crate::link::Link;
use crate::shared_disk::Shared;
use crate::trace::PortTrace;
use crate::{console, end, epitaph, shared_disk, test_commands, watchdog};

/// The kernel's own levels. Those of scenarios are added from the command line.
const LEVELS: LevelTable<1> = LevelTable::new([LevelDecl::new(0, "membership")]);

/// Commands that wait for the node's task.
static COMMANDS: Mutex<Deque<Line, 4>> = Mutex::new(Deque::new());

/// Passes a console command to the node. False if too many wait.
pub fn ask(command: &Line) -> bool {
    let taken =
        quorate_arch_x86_64::interrupts::without_interrupts(|| COMMANDS.lock().push_back(command.clone()).is_ok());
    WORK.raise();
    taken
}

fn next_command() -> Option<Line> {
    quorate_arch_x86_64::interrupts::without_interrupts(|| COMMANDS.lock().pop_front())
}

fn now() -> Instant {
    Instant(clock::now_us())
}

// The large parts have places of their own, so that they are never moved over the stack more than once.
static NODE: StaticCell<Node> = StaticCell::new();
static PROBES: StaticCell<Probes> = StaticCell::new();
static GROUPS: StaticCell<Groups> = StaticCell::new();
static DISK: StaticCell<Shared> = StaticCell::new();
static LINK: StaticCell<Link> = StaticCell::new();

/// Everything of this node.
struct Cluster {
    node: &'static mut Node,
    probes: &'static mut Probes,
    groups: Option<&'static mut Groups>,
    disk: &'static mut Shared,
    link: &'static mut Link,
    trace: PortTrace,
    patting: Patting,
    timing_known: bool,
    test_commands: bool,
}

/// Runs the node for its whole life.
#[embassy_executor::task]
pub async fn run(machine: &'static crate::Boot) {
    let command_line = &machine.command_line;
    let mut bus = match Bus::scan() {
        Ok(bus) => bus,
        Err(error) => end::refuse(format_args!("PCI bus: {error}")),
    };
    let patting = Patting::new(now());
    let fired = watchdog::open(&mut bus, patting.stage_ms());
    let last_life = epitaph::open(&machine.info, fired);
    let link = match bus.net(&machine.machine.platform) {
        Ok(nic) => LINK.init_with(|| Link::new(nic)),
        Err(error) => end::refuse(format_args!("NIC: {error}")),
    };
    let disk = match bus.scsi() {
        Ok(hba) => shared_disk::find(hba, cluster(command_line)).await.map(|disk| DISK.init_with(|| disk)),
        Err(error) => {
            defmt::warn!("disk adapter: {}", defmt::Display2Format(&error));
            Err(HaltReason::NoDisk)
        }
    };
    let levels = declared(command_line);
    let geometry = disk.as_ref().map_or(DiskGeometry::default(), |disk| disk.database.geometry());
    let boot = boot(machine, link, geometry);
    let node = new_node(boot, &levels, command_line);
    if let Some(epitaph) = last_life {
        node.set_epitaph(epitaph);
    }
    match disk {
        Ok(disk) => {
            let probes = new_probes(levels);
            let groups = has_groups(command_line).then(|| GROUPS.init_with(Groups::new));
            let test_commands = command_line.value("test_commands") == Some("1");
            let trace = PortTrace;
            Cluster { node, probes, groups, disk, link, trace, patting, timing_known: false, test_commands }
                .run()
                .await;
        }
        Err(reason) => {
            // The node says why it halts by its trace, as after any other reason.
            let (mut nobody, mut trace) = (Nobody, PortTrace);
            node.end(now(), reason, &mut Ports { post: &mut nobody, sink: &mut trace });
            halt(reason, EndAction::Halt);
        }
    }
}

/// Where datagrams go when there is no cluster.
struct Nobody;

impl quorate_node::Post for Nobody {
    fn post(&mut self, _: quorate_interconnect::Destination, _: &[u8]) {}
}

#[inline(never)]
fn declared(command_line: &CommandLine) -> Vec<ProbeLevel, LEVELS_MAX> {
    let mut levels = Vec::new();
    for word in command_line.words() {
        let value = word.value;
        if word.key != "level" {
            continue;
        }
        match ProbeLevel::parse(value) {
            Ok(level) => {
                if levels.push(level).is_err() {
                    end::refuse(format_args!("more than {LEVELS_MAX} levels"));
                }
            }
            Err(error) => end::refuse(format_args!("'{value}': {error}")),
        }
    }
    levels
}

/// `groups=1`: this node has group services, level 10. All nodes of a cluster must have them, or none.
fn has_groups(command_line: &CommandLine) -> bool {
    command_line.value("groups") == Some("1")
}

/// `cluster=` names the cluster that this machine belongs to, as a UUID: the database of any other is foreign.
fn cluster(command_line: &CommandLine) -> Option<ClusterId> {
    let text = command_line.value("cluster")?;
    match ClusterId::parse(text) {
        Some(cluster) => Some(cluster),
        None => end::refuse(format_args!("cluster={text}: not a UUID")),
    }
}

fn boot(machine: &crate::Boot, link: &Link, geometry: DiskGeometry) -> Boot {
    let (command_line, smbios_entry) = (&machine.command_line, machine.info.smbios);
    let node = match command_line.number::<u8>("node") {
        Ok(None) => None,
        Ok(Some(id)) => match NodeId::new(id) {
            Some(id) => Some(id),
            None => end::refuse(format_args!("node={id}: ids are 0 to 63")),
        },
        Err(error) => end::refuse(format_args!("{error}")),
    };
    Boot {
        node,
        machine: MachineId { uuid: smbios::system_uuid(smbios_entry), mac: Some(link.mac()) },
        nonce: BootNonce(entropy::nonce()),
        cluster: cluster(command_line),
        geometry,
        trace_writes: command_line.value("trace_writes") == Some("1"),
    }
}

// Kept apart, as everything that is built once: the stack of the task's turns is not to hold room for it.
#[inline(never)]
fn new_node(boot: Boot, levels: &[ProbeLevel], command_line: &CommandLine) -> &'static mut Node {
    NODE.init_with(|| {
        let groups = has_groups(command_line).then_some(quorate_groups::LEVEL);
        let all = LEVELS.levels().iter().copied().chain(groups).chain(levels.iter().map(ProbeLevel::decl));
        match Node::new(boot, all, quorate_arch_x86_64::version(), command_line.as_str()) {
            Ok(node) => node,
            Err(error) => end::refuse(format_args!("levels: {error}")),
        }
    })
}

#[inline(never)]
fn new_probes(levels: Vec<ProbeLevel, LEVELS_MAX>) -> &'static mut Probes {
    PROBES.init_with(|| levels.into_iter().collect())
}

/// The trace has said why; the console says it too, and the machine does what the node's record says.
fn halt(reason: HaltReason, action: EndAction) -> ! {
    console::print(format_args!("quorate: halted: {reason}\n"));
    end::by_node(&reason, action)
}

impl Cluster {
    async fn run(mut self) {
        loop {
            self.turn();
            if let Some(order) = self.patting.poll(now(), self.node) {
                watchdog::obey(order);
            }
            let deadline = self.deadline();
            WORK.wait_until(deadline.0).await;
        }
    }

    /// One turn: what came in, what is due, what goes out.
    #[inline(never)]
    fn turn(&mut self) {
        self.link.poll(now());
        while self.link.receive_into(self.node, &mut self.trace) {
            if let Some(groups) = &mut self.groups {
                let mut ports = Ports { post: self.link, sink: &mut self.trace };
                groups.make_room(now(), self.node, &mut ports);
            }
        }
        while self.disk.complete_into(self.node, self.link, &mut self.trace) {}
        self.disk.log_events();
        if let Some(up) = self.link.carrier_change(now()) {
            self.handle(Input::Carrier(up));
        }
        // Every input was followed by what it made due; a tick is for what only time makes due.
        if self.node.poll_timeout() <= now() {
            self.handle(Input::Tick);
        }
        self.drain();
        self.work_levels();
        while let Some(command) = next_command() {
            self.command(&command);
        }
        self.drain();
        self.link.poll(now());
    }

    fn handle(&mut self, input: Input<'_>) {
        let mut ports = Ports { post: self.link, sink: &mut self.trace };
        self.node.handle(now(), input, &mut ports);
        self.drain();
    }

    /// The node's requests, and its halt.
    fn drain(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Disk { tag, op } => self.disk.database.begin(tag, &op),
                Output::Reservation { tag, op } => self.disk.database.begin_reservation(tag, &op),
                Output::Halt(reason) => {
                    self.link.poll(now());
                    halt(reason, self.node.end_action(&reason));
                }
            }
        }
        if let Some(id) = self.node.id()
            && let Err(error) = self.link.open(id, now())
        {
            end::refuse(format_args!("interconnect: {error:?}"));
        }
        if !self.timing_known
            && let Some(timing) = self.node.timing()
        {
            self.disk.database.set_timing(&timing);
            end::set_on_panic(
                self.node.end_action(&HaltReason::Impossible { what: "an end that the node does not see" }),
            );
            self.timing_known = true;
        }
    }

    fn work_levels(&mut self) {
        loop {
            let mut ports = Ports { post: self.link, sink: &mut self.trace };
            let groups = self.groups.as_mut().is_some_and(|groups| groups.poll(now(), self.node, &mut ports));
            let busy = self.probes.poll(now(), self.node, &mut ports) || groups;
            self.drain();
            if !busy {
                return;
            }
        }
    }

    fn deadline(&mut self) -> Instant {
        let disk = Instant(self.disk.database.poll_timeout_us());
        let parts =
            self.node.poll_timeout().min(disk).min(self.probes.poll_timeout()).min(self.link.poll_timeout(now()));
        parts.min(self.patting.poll_timeout()).min(self.groups.as_ref().map_or(Instant::FAR, |g| g.poll_timeout()))
    }

    #[inline(never)]
    fn command(&mut self, command: &Line) {
        if self.test_commands {
            test_commands::run(command);
        }
        let mut ports = Ports { post: self.link, sink: &mut self.trace };
        let mut console =
            Console { node: self.node, probes: self.probes, groups: self.groups.as_deref_mut(), ports: &mut ports };
        // The console's writer does not fail.
        let _ = console.run(now(), command, &mut ConsoleText);
        self.drain();
        self.work_levels();
    }
}

struct ConsoleText;

impl Write for ConsoleText {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        console::print(format_args!("{text}"));
        Ok(())
    }
}

impl Link {
    /// Gives one datagram to the node, if one came. Answers go out with the next poll of the link.
    fn receive_into(&mut self, node: &mut Node, trace: &mut PortTrace) -> bool {
        let mut datagram: Vec<u8, { quorate_base::capacity::DATAGRAM_MAX }> = Vec::new();
        let came = self.receive(|bytes| {
            // Longer than the interconnect's frames can be: dropped as the empty frame that it leaves.
            let _ = datagram.extend_from_slice(bytes);
        });
        if came {
            node.handle(now(), Input::Datagram(&datagram), &mut Ports { post: self, sink: trace });
        }
        came
    }
}

impl Shared {
    /// Gives one completion to the node, if there is one, and begins what follows from it. What a read was answered before it
    /// was repeated comes before the read.
    fn complete_into(&mut self, node: &mut Node, link: &mut Link, trace: &mut PortTrace) -> bool {
        let mut ports = Ports { post: link, sink: trace };
        if let Some(attention) = self.database.take_attention() {
            node.handle(now(), Input::Attention(attention), &mut ports);
            return true;
        }
        SharedDisk::poll(&mut self.database, &mut |tag, result| {
            node.handle(now(), Input::Disk { tag, result }, &mut ports)
        }) || Reservations::poll(&mut self.database, &mut |tag, result| {
            node.handle(now(), Input::Reservation { tag, result }, &mut ports);
        })
    }
}
