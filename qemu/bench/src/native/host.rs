//! One node as a host process: the shipped node and its group services over UDP on the loopback interface, with a file as the
//! shared disk (MISSION G2: a plain host program). Lines on its standard input are what would be typed at its console.
//!
//! One thread is the node; one does its disk requests, so that a slow `fdatasync` holds no message up; one reads lines. The
//! node looks at its socket for a while before it sleeps: a wake-up costs more than a message. What it sends in a turn goes
//! down at the turn's end ([`Link`]).

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Error, Read, Result, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use quorate_base::capacity::{READ_RECORDS_MAX, RECORD_PITCH};
use quorate_base::event::{Record, TraceSink};
use quorate_base::{BootNonce, DiskError, DiskOp, DiskTag, HaltReason, Instant, LevelDecl, NodeId};
use quorate_database::MachineId;
use quorate_master_lock::DiskGeometry;
use quorate_node::{Boot, Console, Groups, Input, Node, Output, Ports, Probes};

use super::link::{Came, Link};

/// It looks for a message for so long before it sleeps.
const LOOK: Duration = Duration::from_micros(60);

/// It sleeps no longer than this, so that lines and the disk's answers are seen to.
const SLEEP_US: u64 = 1000;

/// Ends an answer.
pub const END: &str = ".";

/// What a request is.
enum Asked {
    Read(u64, u16),
    Write(u64, Vec<u8>, Option<Instant>),
}

type Done = (DiskTag, std::result::Result<Vec<u8>, DiskError>);

#[derive(Clone, Copy)]
struct Clock(std::time::Instant);

impl Clock {
    fn now(self) -> Instant {
        Instant(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

/// Nobody looks at the trace here.
struct NoTrace;

impl TraceSink for NoTrace {
    fn record(&mut self, _: &Record<'_>) {}
}

/// Lives until its standard input ends.
///
/// # Errors
/// If the socket or the disk cannot be used, or the node halts.
pub fn live(me: u8, disk: &Path, ports: &[u16]) -> Result<()> {
    let other = |what: &dyn std::fmt::Display| Error::other(what.to_string());
    let peers: Vec<SocketAddr> = ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect();
    let own = peers.get(usize::from(me)).ok_or_else(|| other(&format!("there is no port for node {me}")))?;
    let socket = UdpSocket::bind(own)?;
    let link = Link::new(socket, usize::from(me), peers)?;
    let mut nonce = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut nonce)?;
    let boot = Boot {
        node: NodeId::new(me),
        machine: MachineId::default(),
        nonce: BootNonce(u64::from_le_bytes(nonce)),
        cluster: None,
        geometry: DiskGeometry::default(),
        trace_writes: false,
    };
    let levels = [LevelDecl::new(0, "membership"), quorate_groups::LEVEL];
    let node = Node::new(boot, levels, env!("CARGO_PKG_VERSION"), "").map_err(|error| other(&error))?;
    let clock = Clock(std::time::Instant::now());
    let file = OpenOptions::new().read(true).write(true).open(disk)?;
    let (ask, asked) = channel();
    let (tell, done) = channel();
    std::thread::spawn(move || serve(&file, clock, &asked, &tell));
    let (type_line, lines) = channel();
    std::thread::spawn(move || {
        let read = std::io::stdin().lock().lines().map_while(Result::ok);
        // Dropping the sender tells that there are no more.
        read.take_while(|line| type_line.send(line.clone()).is_ok()).for_each(drop);
    });
    let mut host = Box::new(Host {
        node,
        groups: Groups::new(),
        probes: Probes::new(),
        link,
        came: Came::new(),
        clock,
        ask,
        done,
    });
    loop {
        match lines.try_recv() {
            Ok(line) => host.answer(&line)?,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        host.turn().map_err(|reason| other(&reason))?;
    }
}

/// The disk's thread.
fn serve(file: &File, clock: Clock, asked: &Receiver<(DiskTag, Asked)>, tell: &Sender<Done>) {
    while let Ok((tag, op)) = asked.recv() {
        let result = match op {
            Asked::Read(first, count) => {
                let mut bytes = vec![0; usize::from(count).min(READ_RECORDS_MAX) * RECORD_PITCH as usize];
                file.read_exact_at(&mut bytes, first * RECORD_PITCH).map(|()| bytes).map_err(|_| DiskError::Medium)
            }
            // The last act before the write: whoever was put out meanwhile must not write any more.
            Asked::Write(_, _, Some(until)) if clock.now() > until => Err(DiskError::Frozen),
            Asked::Write(at, record, _) => {
                let written = file.write_all_at(&record, at * RECORD_PITCH).and_then(|()| file.sync_data());
                written.map(|()| Vec::new()).map_err(|_| DiskError::Medium)
            }
        };
        if tell.send((tag, result)).is_err() {
            return;
        }
    }
}

struct Host {
    node: Node,
    groups: Groups,
    probes: Probes,
    link: Link,
    came: Came,
    clock: Clock,
    ask: Sender<(DiskTag, Asked)>,
    done: Receiver<Done>,
}

impl Host {
    fn answer(&mut self, line: &str) -> Result<()> {
        let Self { node, groups, probes, link, clock, .. } = self;
        let mut reply = String::new();
        let ports = &mut Ports { post: link, sink: &mut NoTrace };
        let mut console = Console { node, probes, groups: Some(groups), ports };
        console.run(clock.now(), line, &mut reply).map_err(Error::other)?;
        link.flush();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}\n{END}", reply.trim_end())?;
        out.flush()
    }

    /// Waits for something to do, and does it. An error is the node's end.
    fn turn(&mut self) -> std::result::Result<(), HaltReason> {
        self.wait();
        let Self { node, groups, link, came, clock, ask, done, .. } = self;
        let mut ports = Ports { post: link, sink: &mut NoTrace };
        for datagram in came.datagrams() {
            let now = clock.now();
            node.handle(now, Input::Datagram(datagram), &mut ports);
            groups.make_room(now, node, &mut ports);
        }
        while let Ok((tag, result)) = done.try_recv() {
            let result = result.as_deref().map_err(|error| *error);
            node.handle(clock.now(), Input::Disk { tag, result }, &mut ports);
        }
        let now = clock.now();
        if node.poll_timeout() <= now {
            node.handle(now, Input::Tick, &mut ports);
        }
        while groups.poll(clock.now(), node, &mut ports) {}
        while let Some(output) = node.poll_output() {
            match output {
                Output::Halt(reason) => {
                    link.flush();
                    return Err(reason);
                }
                Output::Disk { tag, op: DiskOp::Read { first, count } } => {
                    let _ = ask.send((tag, Asked::Read(first, count)));
                }
                Output::Disk { tag, op: DiskOp::Write { at, record, not_after } } => {
                    let _ = ask.send((tag, Asked::Write(at, record.to_vec(), not_after)));
                }
                Output::Reservation { tag, .. } => {
                    let result = Err(quorate_base::reservation::ReservationError::Unsupported);
                    node.handle(clock.now(), Input::Reservation { tag, result }, &mut ports);
                }
            }
        }
        link.flush();
        Ok(())
    }

    /// Waits for datagrams: looked for at first, then slept for, but not beyond what is due.
    fn wait(&mut self) {
        let began = std::time::Instant::now();
        while !self.link.take(&mut self.came) {
            let now = self.clock.now();
            let due = self.node.poll_timeout().min(self.groups.poll_timeout());
            if due <= now {
                return;
            }
            if began.elapsed() > LOOK {
                let sleep_us = due.since_us(now).min(SLEEP_US);
                let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: (sleep_us * 1000) as _ };
                let mut fds = [rustix::event::PollFd::new(&self.link, rustix::event::PollFlags::IN)];
                let _ = rustix::event::poll(&mut fds, Some(&timeout));
                self.link.take(&mut self.came);
                return;
            }
            // Others may have what this one waits for.
            std::thread::yield_now();
        }
    }
}
