//! A node in somebody else's program: all that the embedder writes. Here the clock is the process's, the shared disk is a
//! file, the link is UDP; a kernel has its own three.

use quorate_base::capacity::{DATAGRAM_MAX, READ_RECORDS_MAX, RECORD_PITCH};
use quorate_base::event::TraceSink;
use quorate_base::level::{LevelDecl, LevelTable};
use quorate_base::port::{Clock, DiskDone, SharedDisk};
use quorate_base::{DiskError, DiskOp, DiskTag, HaltReason, Instant, LevelOrder};
use quorate_interconnect::Destination;
use quorate_node::{Input, Node, Notification, Output, Ports, Post};
use std::{fs::File, net::SocketAddr, net::UdpSocket, os::unix::fs::FileExt, time::Duration};

/// The order of this program's own level.
pub const SERVICE: LevelOrder = LevelOrder(70);
/// All levels of a node: this one declaration registers the program's own.
pub const LEVELS: LevelTable<2> = LevelTable::new([LevelDecl::new(0, "membership"), LevelDecl::new(70, "service")]);

/// The clock: monotonic, µs.
#[derive(Clone, Copy)]
pub struct ProcessClock(pub std::time::Instant);

impl Clock for ProcessClock {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

/// The shared disk: record `n` stands `n * RECORD_PITCH` bytes after the start. A request is done when `submit` returns.
pub struct FileDisk {
    pub file: File,
    pub clock: ProcessClock,
    pub done: Vec<(DiskTag, Result<Vec<u8>, DiskError>)>,
}

impl SharedDisk for FileDisk {
    fn submit(&mut self, tag: DiskTag, op: &DiskOp) -> Result<(), DiskError> {
        let result = match op {
            DiskOp::Read { first, count } => {
                let mut bytes = vec![0; usize::from(*count).min(READ_RECORDS_MAX) * RECORD_PITCH as usize];
                self.file.read_exact_at(&mut bytes, first * RECORD_PITCH).map(|()| bytes)
            }
            // The last act before the write: whoever was put out meanwhile must not write any more.
            DiskOp::Write { not_after: Some(until), .. } if self.clock.now() > *until => return Err(DiskError::Frozen),
            DiskOp::Write { at, record, .. } => {
                let written = self.file.write_all_at(record, at * RECORD_PITCH);
                written.and_then(|()| self.file.sync_data()).map(|()| Vec::new())
            }
        };
        self.done.push((tag, result.map_err(|_| DiskError::Medium)));
        Ok(())
    }

    fn poll(&mut self, done: &mut DiskDone<'_>) -> bool {
        let Some((tag, result)) = self.done.pop() else { return false };
        done(tag, result.as_deref().map_err(|error| *error));
        true
    }
}

/// The link: node `n` listens at the `n`-th address. What is lost is sent again by the node.
pub struct UdpLink {
    pub socket: UdpSocket,
    pub peers: Vec<SocketAddr>,
}

impl Post for UdpLink {
    fn post(&mut self, to: Destination, datagram: &[u8]) {
        let all = self.peers.iter().enumerate();
        for (_, peer) in all.filter(|(n, _)| !matches!(to, Destination::Node(node) if node.index() != *n)) {
            let _ = self.socket.send_to(datagram, peer);
        }
    }
}

/// A node and what it stands on.
pub struct Embedded<S> {
    pub node: Node,
    pub clock: ProcessClock,
    pub disk: FileDisk,
    pub link: UdpLink,
    pub trace: S,
}

impl<S: TraceSink> Embedded<S> {
    /// Sleeps until there is something to do, and does it. `service` is the program's own level at work: what it was told of is
    /// acknowledged when it returns. An error is the node's end: nothing shared may be touched after it.
    pub fn turn(&mut self, service: &mut dyn FnMut(&Notification)) -> Result<(), HaltReason> {
        let Self { node, clock, disk, link, trace } = self;
        let mut datagram = [0; DATAGRAM_MAX + 1];
        let mut came = 0;
        if disk.done.is_empty() {
            let idle_us = node.poll_timeout().since_us(clock.now()).clamp(1, 100_000);
            let _ = link.socket.set_read_timeout(Some(Duration::from_micros(idle_us)));
            came = link.socket.recv(&mut datagram).unwrap_or(0);
        }
        let mut ports = Ports { post: link, sink: trace };
        if came > 0 {
            node.handle(clock.now(), Input::Datagram(&datagram[..came]), &mut ports);
        }
        while disk.poll(&mut |tag, result| node.handle(clock.now(), Input::Disk { tag, result }, &mut ports)) {}
        node.handle(clock.now(), Input::Tick, &mut ports);
        while let Some(level) = node.poll_level() {
            let Some(notification) = node.take_notification(level) else { break };
            service(&notification);
            for change in notification.changes.iter().filter(|change| !change.overtaken) {
                node.acknowledge(clock.now(), level, change, &mut ports);
            }
        }
        while let Some(output) = node.poll_output() {
            match output {
                Output::Halt(reason) => return Err(reason),
                Output::Disk { tag, op } => {
                    if let Err(error) = disk.submit(tag, &op) {
                        disk.done.push((tag, Err(error)));
                    }
                }
                // Only a cluster whose database says `fence = reservation` asks for these.
                Output::Reservation { tag, .. } => {
                    let result = Err(quorate_base::reservation::ReservationError::Unsupported);
                    node.handle(clock.now(), Input::Reservation { tag, result }, &mut ports);
                }
            }
        }
        Ok(())
    }
}
