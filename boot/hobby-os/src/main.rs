//! A hobby OS that is a node: it shares the crates of `kernel` and `drivers` with the node image, and nothing else. One loop
//! polls everything, once a millisecond. Its own level is `hobby`.
#![no_std]
#![no_main]

mod clock;
mod disk;
mod machine;

use core::fmt::Write;
use machine::Serial;
use quorate_base::capacity::DATAGRAM_MAX;
use quorate_base::event::{Record, TraceSink};
use quorate_base::level::{LevelDecl, LevelTable};
use quorate_base::port::SharedDisk;
use quorate_base::reservation::Reservations;
use quorate_base::{BootNonce, HaltReason, LevelOrder, NodeId};
use quorate_bus::DeviceType;
use quorate_bus::pci::{BAR_WINDOW, Function, Pci, Vectors};
use quorate_database::MachineId;
use quorate_interconnect::Destination;
use quorate_interconnect::stack::{Stack, StackStorage};
use quorate_node::{Boot, Console, Input, Node, Output, Ports, Post, Probes};
use quorate_shared_disk::Database;
use quorate_virtio_net::PciNet;
use quorate_virtio_scsi::PciScsi;
use smoltcp::phy::Device;

/// Its levels: the membership manager's, and this one declaration for its own.
const LEVELS: LevelTable<2> = LevelTable::new([LevelDecl::new(0, "membership"), LevelDecl::new(HOBBY.0, "hobby")]);
const HOBBY: LevelOrder = LevelOrder(70);

/// Trace events go out by the third serial port, as the harness reads them.
struct Trace(Serial);

impl TraceSink for Trace {
    fn record(&mut self, record: &Record<'_>) {
        if let Ok(bytes) = postcard::to_slice_cobs(record, &mut [0; 2048]) {
            self.0.queue(bytes);
        }
    }
}

/// NIC and stack; nothing is sent before the node knows its id.
struct Link<'a, D: Device> {
    nic: D,
    memory: Option<&'a mut StackStorage<'a>>,
    stack: Option<Stack<'a>>,
}

impl<D: Device> Post for Link<'_, D> {
    fn post(&mut self, to: Destination, datagram: &[u8]) {
        if let Some(stack) = &mut self.stack {
            let _ = stack.send_through(clock::now(), to, datagram, &mut self.nic);
        }
    }
}

/// Finds the devices; the rest is [`run`].
fn main(command_line: &str) -> ! {
    let mut console = machine::serial(quorate_serial::CONSOLE);
    if !clock::start() {
        end(&mut console, format_args!("no HPET"));
    }
    let id = command_line.split(' ').find_map(|word| word.strip_prefix("node="));
    let id = id.and_then(|id| id.parse().ok()).and_then(NodeId::new);
    let mut pci = Pci::port_io();
    let functions = pci.functions();
    let no_interrupts = Vectors { vectors: &[], destination: 0 };
    let assigned = pci.assign_bars(&functions, BAR_WINDOW);
    let of = |kind| functions.iter().find(|f: &&Function| f.virtio == Some(kind));
    let scsi = of(DeviceType::ScsiHost).and_then(|f| pci.open_virtio(f, no_interrupts).ok());
    let Some(disk) = scsi.and_then(|port| PciScsi::new(port).ok()).and_then(disk::find) else {
        end(&mut console, format_args!("no disk with a membership database, {assigned:?}"));
    };
    if let Some(nic) = of(DeviceType::Network).and_then(|f| PciNet::new(pci.open_virtio(f, no_interrupts).ok()?).ok()) {
        let mac = nic.mac();
        run(nic, mac, id, disk, console);
    }
    let is = |f: &&Function| (f.vendor, f.device) == (quorate_e1000::VENDOR, quorate_e1000::DEVICE);
    let plain = functions.iter().find(is).and_then(|f| {
        let (registers, _) = pci.open_master(f, quorate_e1000::BAR, quorate_e1000::REGISTERS_BYTES).ok()?;
        quorate_e1000::E1000::new(registers, pci.wired(f)).ok()
    });
    match plain {
        Some(nic) => {
            let mac = nic.mac();
            run(nic, mac, id, disk, console)
        }
        None => end(&mut console, format_args!("no NIC")),
    }
}

/// The node's life.
fn run<D: Device>(nic: D, mac: [u8; 6], id: Option<NodeId>, mut disk: Database<PciScsi>, mut console: Serial) -> ! {
    let machine = MachineId { uuid: None, mac: Some(mac) };
    let nonce = BootNonce(clock::nonce());
    let boot = Boot { node: id, machine, nonce, cluster: None, geometry: disk.geometry(), trace_writes: false };
    let levels = LEVELS.levels().iter().copied();
    let mut node = match Node::new(boot, levels, concat!("hobby ", env!("CARGO_PKG_VERSION")), "") {
        Ok(node) => node,
        Err(error) => end(&mut console, format_args!("{error}")),
    };
    let mut trace = Trace(machine::serial(quorate_serial::TRACE));
    let mut storage = StackStorage::new();
    let mut link = Link { nic, memory: Some(&mut storage), stack: None };
    let mut line = heapless::String::<128>::new();
    loop {
        let halted = turn(&mut node, &mut disk, &mut link, mac, &mut trace, &mut console);
        if halted.is_none() {
            listen(&mut node, &mut link, &mut trace, &mut console, &mut line);
        }
        trace.0.drain_some();
        console.drain_some();
        if let Some(reason) = halted {
            trace.0.drain();
            end(&mut console, format_args!("{reason}"));
        }
        machine::sleep();
    }
}

/// Everything that came, everything that is due, everything that goes out.
fn turn<D: Device>(
    node: &mut Node,
    disk: &mut Database<PciScsi>,
    link: &mut Link<'_, D>,
    mac: [u8; 6],
    trace: &mut Trace,
    console: &mut Serial,
) -> Option<HaltReason> {
    poll(link);
    let mut datagram = heapless::Vec::<u8, DATAGRAM_MAX>::new();
    while link.stack.as_mut().is_some_and(|stack| {
        datagram.clear();
        stack.receive(|bytes, _| drop(datagram.extend_from_slice(bytes)))
    }) {
        node.handle(clock::now(), Input::Datagram(&datagram), &mut Ports { post: link, sink: trace });
    }
    let mut ports = Ports { post: link, sink: trace };
    let mut done = |input: Input<'_>| node.handle(clock::now(), input, &mut ports);
    // What a read met is told before the read's completion, which comes with a later look.
    loop {
        disk.take_attention().into_iter().for_each(|attention| done(Input::Attention(attention)));
        if !SharedDisk::poll(disk, &mut |tag, result| done(Input::Disk { tag, result })) {
            break;
        }
    }
    while Reservations::poll(disk, &mut |tag, result| done(Input::Reservation { tag, result })) {}
    node.handle(clock::now(), Input::Tick, &mut ports);
    while let Some(told) = node.poll_level().and_then(|level| node.take_notification(level)) {
        for change in told.changes.iter().filter(|change| !change.overtaken) {
            if told.level == HOBBY {
                let (subject, transition) = (change.subject.node, change.subject.transition);
                let _ = writeln!(console.text(), "hobby: node {subject} is {transition}");
            }
            node.acknowledge(clock::now(), told.level, change, &mut ports);
        }
    }
    while let Some(output) = node.poll_output() {
        match output {
            Output::Disk { tag, op } => disk.begin(tag, &op),
            Output::Reservation { tag, op } => disk.begin_reservation(tag, &op),
            Output::Halt(reason) => {
                poll(link);
                return Some(reason);
            }
        }
    }
    if let Some(timing) = node.timing() {
        disk.set_timing(&timing);
    }
    if let Some(id) = node.id()
        && let Some(memory) = link.memory.take()
    {
        link.stack = Stack::new(memory, id, mac, &mut link.nic, clock::now()).ok();
    }
    poll(link);
    None
}

fn poll<D: Device>(link: &mut Link<'_, D>) {
    if let Some(stack) = &mut link.stack {
        stack.poll(clock::now(), &mut link.nic);
    }
}

/// Takes a line from the console, if one is whole, and answers it as the node image does.
fn listen<D: Device>(
    node: &mut Node,
    link: &mut Link<'_, D>,
    trace: &mut Trace,
    console: &mut Serial,
    line: &mut heapless::String<128>,
) {
    let mut byte = [0];
    while console.receive(&mut byte) > 0 {
        if !matches!(byte[0], b'\r' | b'\n') {
            let _ = line.push(char::from(byte[0]));
        } else if !line.trim().is_empty() {
            let (mut ports, mut no_probes) = (Ports { post: link, sink: trace }, Probes::new());
            let mut answers = Console { node, probes: &mut no_probes, groups: None, ports: &mut ports };
            let _ = answers.run(clock::now(), line.trim(), &mut console.text());
            line.clear();
        }
    }
}

/// Says why, and stands still.
fn end(console: &mut Serial, why: core::fmt::Arguments<'_>) -> ! {
    let _ = writeln!(console.text(), "quorate: halted: {why}");
    console.drain();
    loop {
        machine::sleep();
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    end(&mut machine::serial(quorate_serial::CONSOLE), format_args!("{info}"))
}
