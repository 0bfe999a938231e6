//! The two carriers: datagrams as the interconnect sends them, and a stream of TCP for each pair of nodes.
//!
//! | | datagrams | streams |
//! |---|---|---|
//! | stack | `quorate_interconnect::stack`, as it ships | smoltcp's interface on the same device, with its TCP sockets |
//! | to all | one frame, broadcast | into the stream to each: N − 1 times; sealed once |
//! | a frame ends | with its datagram | after its length, 2 bytes before it |
//! | lost | repeated by whoever waits for it | repeated by TCP |
//!
//! A frame is sealed in the interconnect's envelope in both. The streams are given what is good for them: no Nagle, no
//! congestion control, acknowledgements that wait 10 ms for something to go with, buffers of their own, room for 32 gaps
//! (a feature of smoltcp; 4 without).

use core::net::Ipv4Addr;

use quorate_base::capacity::DATAGRAM_MAX;
use quorate_base::{BootNonce, ClusterId, ClusterKey, Incarnation, Instant, NodeId};
use quorate_interconnect::Destination;
use quorate_interconnect::envelope::{Channel, Envelope, Opened, Repr};
use quorate_interconnect::seal::SealKey;
use quorate_interconnect::stack::{Stack, StackError, address};
use quorate_sim::wire::{Nic, mac, memory};
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as WireInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

use super::NODES;

/// Bytes that a stream holds in each direction: more than a full window of group services.
const BUFFER_BYTES: usize = 64 * 1024;
/// The end with the lower id listens here, plus the other's id.
const LISTEN: u16 = 7100;
/// The other end's own port, plus the lower id.
const CONNECT: u16 = 7200;

/// Takes payloads to other nodes and brings theirs.
pub(super) trait Carrier {
    /// Whether what is given to it may be lost.
    fn loses(&self) -> bool;
    /// Whether all others can be reached.
    fn is_open(&self) -> bool;
    /// Takes frames from the device.
    fn take(&mut self, now: Instant, nic: &mut Nic);
    /// One payload that came and is genuine, and from whom; it is in `opened`.
    fn receive(&mut self, opened: &mut Opened) -> Option<NodeId>;
    /// Sends one.
    fn post(&mut self, now: Instant, nic: &mut Nic, to: Destination, payload: &[u8]);
    /// Gives the device what is to go out.
    fn give(&mut self, now: Instant, nic: &mut Nic);
    /// When it has something to do without a frame.
    fn poll_timeout(&mut self, now: Instant) -> Instant;
}

/// Seals and opens frames.
#[derive(Debug)]
struct Seal {
    me: NodeId,
    keys: Vec<SealKey>,
    counter: u64,
}

impl Seal {
    fn new(me: NodeId) -> Self {
        let key = |node| SealKey::derive(&ClusterKey([7; 32]), node, Incarnation(1), BootNonce(1));
        Self { me, keys: NodeId::first(NODES as u8).map(key).collect(), counter: 0 }
    }

    /// Writes a whole frame and says how long it is.
    fn seal(&mut self, to: Destination, payload: &[u8], out: &mut [u8]) -> usize {
        self.counter += 1;
        let repr = Repr {
            epoch: 0,
            channel: Channel::Groups,
            from: self.me,
            to,
            incarnation: Incarnation(1),
            nonce: BootNonce(1),
            cluster: ClusterId([3; 16]),
            counter: self.counter,
            lamport: self.counter,
        };
        let key = self.keys.get(self.me.index());
        key.and_then(|key| repr.emit(payload, key, out)).unwrap_or(0)
    }

    fn open(&self, frame: &[u8], opened: &mut Opened) -> Option<NodeId> {
        let envelope = Envelope::new_checked(frame).ok()?;
        let from = envelope.repr().from;
        envelope.open(self.keys.get(from.index())?, opened).ok()?;
        (from != self.me && envelope.repr().to.includes(self.me)).then_some(from)
    }
}

/// Datagrams.
#[derive(Debug)]
pub(super) struct Datagrams {
    stack: Stack<'static>,
    seal: Seal,
}

impl Datagrams {
    /// A node's end.
    ///
    /// # Errors
    /// If the device cannot serve.
    pub fn new(me: NodeId, nic: &mut Nic) -> Result<Self, StackError> {
        Ok(Self { stack: Stack::new(memory(), me, mac(me), nic, Instant::ZERO)?, seal: Seal::new(me) })
    }
}

impl Carrier for Datagrams {
    fn loses(&self) -> bool {
        true
    }

    fn is_open(&self) -> bool {
        true
    }

    fn take(&mut self, now: Instant, nic: &mut Nic) {
        self.stack.poll(now, nic);
    }

    fn receive(&mut self, opened: &mut Opened) -> Option<NodeId> {
        let Self { stack, seal } = self;
        let mut from = None;
        while from.is_none() && stack.receive(|frame, _| from = seal.open(frame, opened)) {}
        from
    }

    fn post(&mut self, now: Instant, nic: &mut Nic, to: Destination, payload: &[u8]) {
        let mut frame = [0; DATAGRAM_MAX];
        let len = self.seal.seal(to, payload, &mut frame);
        // No room is a lost datagram; the device of this measurement takes everything.
        let _ = self.stack.send_through(now, to, &frame[..len], nic);
    }

    fn give(&mut self, now: Instant, nic: &mut Nic) {
        self.stack.poll(now, nic);
    }

    fn poll_timeout(&mut self, now: Instant) -> Instant {
        self.stack.poll_timeout(now)
    }
}

/// A stream to one other node.
#[derive(Debug)]
struct Line {
    peer: NodeId,
    socket: SocketHandle,
    /// What found no room in the socket.
    rest: Vec<u8>,
}

/// A stream to each other node.
pub(super) struct Streams {
    interface: Interface,
    sockets: SocketSet<'static>,
    lines: Vec<Line>,
    seal: Seal,
    /// So many times faster than time its timers run.
    speed: u64,
}

impl Streams {
    /// A node's end: it listens for those with a higher id and connects to those with a lower one. smoltcp repeats after a
    /// second at the soonest (RFC 6298, 2.4), after 1 s / `speed` here.
    pub fn new(me: NodeId, speed: u64, nic: &mut Nic) -> Self {
        let hardware = HardwareAddress::Ethernet(EthernetAddress(mac(me)));
        let mut interface = Interface::new(Config::new(hardware), nic, WireInstant::ZERO);
        interface.update_ip_addrs(|list| {
            // One of two that have room.
            let _ = list.push(IpCidr::new(IpAddress::Ipv4(address(me)), 24));
        });
        let mut sockets = SocketSet::new(Vec::new());
        let mut lines = Vec::new();
        for peer in NodeId::first(NODES as u8).filter(|peer| *peer != me) {
            let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_BYTES]);
            let mut socket = tcp::Socket::new(buffer(), buffer());
            socket.set_nagle_enabled(false);
            // A socket that cannot open shows in `is_open`, which is waited for.
            if me < peer {
                let _ = socket.listen(LISTEN + u16::from(peer.get()));
            } else {
                let to: (Ipv4Addr, u16) = (address(peer), LISTEN + u16::from(me.get()));
                let _ = socket.connect(interface.context(), to, CONNECT + u16::from(peer.get()));
            }
            lines.push(Line { peer, socket: sockets.add(socket), rest: Vec::new() });
        }
        Self { interface, sockets, lines, seal: Seal::new(me), speed }
    }

    fn wire(&self, now: Instant) -> WireInstant {
        WireInstant::from_micros(i64::try_from(now.0.saturating_mul(self.speed)).unwrap_or(i64::MAX))
    }
}

impl Carrier for Streams {
    fn loses(&self) -> bool {
        false
    }

    fn is_open(&self) -> bool {
        self.lines
            .iter()
            .all(|line| self.sockets.get::<tcp::Socket<'_>>(line.socket).state() == tcp::State::Established)
    }

    fn take(&mut self, now: Instant, nic: &mut Nic) {
        let now = self.wire(now);
        // What goes out waits until what came is answered, so that acknowledgements go with the answers.
        while self.interface.poll_ingress_single(now, nic, &mut self.sockets) != PollIngressSingleResult::None {}
    }

    fn receive(&mut self, opened: &mut Opened) -> Option<NodeId> {
        let Self { sockets, lines, seal, .. } = self;
        for line in lines {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(line.socket);
            loop {
                let (mut len, mut frame) = ([0; 2], [0; 2 + DATAGRAM_MAX]);
                if socket.peek_slice(&mut len) != Ok(2) {
                    break;
                }
                let whole = 2 + usize::from(u16::from_le_bytes(len));
                if socket.recv_queue() < whole {
                    break;
                }
                let Some(frame) = frame.get_mut(..whole) else { break };
                if socket.recv_slice(frame) != Ok(whole) {
                    break;
                }
                if let Some(from) = seal.open(&frame[2..], opened) {
                    return Some(from);
                }
            }
        }
        None
    }

    fn post(&mut self, _: Instant, _: &mut Nic, to: Destination, payload: &[u8]) {
        let mut frame = [0; 2 + DATAGRAM_MAX];
        let len = self.seal.seal(to, payload, &mut frame[2..]);
        frame[..2].copy_from_slice(&(len as u16).to_le_bytes());
        let frame = &frame[..2 + len];
        for line in self.lines.iter_mut().filter(|line| to.includes(line.peer)) {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(line.socket);
            let sent = if line.rest.is_empty() { socket.send_slice(frame).unwrap_or(0) } else { 0 };
            line.rest.extend_from_slice(&frame[sent..]);
        }
    }

    fn give(&mut self, now: Instant, nic: &mut Nic) {
        let now = self.wire(now);
        for line in self.lines.iter_mut().filter(|line| !line.rest.is_empty()) {
            let sent = self.sockets.get_mut::<tcp::Socket<'_>>(line.socket).send_slice(&line.rest).unwrap_or(0);
            line.rest.drain(..sent);
        }
        self.interface.poll_maintenance(now);
        while self.interface.poll_egress(now, nic, &mut self.sockets) != PollResult::None {}
    }

    fn poll_timeout(&mut self, now: Instant) -> Instant {
        let due = self.interface.poll_at(self.wire(now), &self.sockets);
        due.map_or(Instant::FAR, |due| Instant((due.total_micros().max(0) as u64).div_ceil(self.speed)))
    }
}
