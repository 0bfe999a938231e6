//! The smoltcp glue: datagrams between the nodes of a cluster over any Ethernet device.
//!
//! Addresses are static and private to the cluster's own Ethernet: node `n` is 10.77.0.(n+1)/24, UDP port 7077 on both
//! sides. A datagram to all goes to 10.77.0.255 (an Ethernet broadcast), a datagram to one node to the multicast group
//! 239.77.0.(n+1), which only that node joins (Ethernet 01:00:5e:4d:00:(n+1)).
//!
//! Why groups: a unicast needs ARP. In smoltcp one neighbour that does not answer silences the whole socket for a
//! second, so a dead peer would stop this node's heartbeats and make everybody else suspect it; and whoever answers ARP
//! faster than a peer takes its frames. Group addresses map to Ethernet ones by rule. A switch that watches IGMP sends
//! them to the one port, a switch that does not sends them to all; the NIC or the address filter here drops them there.
//!
//! `Gate` stands between device and stack: only UDP to our port and IGMP (so that such a switch can ask who is in
//! which group) reach smoltcp. So strangers get no ARP, ICMP or other answer from a node, and cannot fill its tables.
//! IGMP costs at most one report per query.
//!
//! Invariants: one `poll` takes at most [`BURST`] frames, however many come; a datagram that got into the socket is
//! never lost there, because frames stay in the device while there is no room.

use core::fmt;
use core::net::Ipv4Addr;

use quorate_base::capacity::{DATAGRAM_MAX, NODES_MAX};
use quorate_base::{Instant, NodeId};
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::socket::udp;
use smoltcp::time::Instant as WireInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use crate::envelope::Destination;

/// UDP port of the interconnect, as source and as destination.
pub const PORT: u16 = 7077;
/// Frames taken by one [`Stack::poll`] at most. As many as one round of heartbeats of 64 nodes, so that a flood cannot
/// hold a node in one call.
pub const BURST: usize = NODES_MAX;

/// Datagrams that the socket holds in each direction. A master sends one to each peer at once.
pub const SLOTS: usize = 2 * NODES_MAX;
/// Bytes that the socket holds of what came: a full window of one group of group services.
pub const RECEIVE_BYTES: usize = 48 * 1024;
/// Bytes that the socket holds of what goes out: 63 membership messages of half a kibibyte and a heartbeat.
pub const SEND_BYTES: usize = 40 * 1024;
/// When the device took nothing, it is asked again after so many µs, if its interrupt does not come before.
const RETRY_US: u64 = 1000;

/// The memory of a [`Stack`], about 94 KiB. Meant for a `static` or another place that outlives the stack.
#[derive(Debug)]
pub struct StackStorage<'a> {
    sockets: [SocketStorage<'a>; 1],
    receive_slots: [udp::PacketMetadata; SLOTS],
    send_slots: [udp::PacketMetadata; SLOTS],
    receive_bytes: [u8; RECEIVE_BYTES],
    send_bytes: [u8; SEND_BYTES],
}

impl StackStorage<'_> {
    /// Empty storage.
    pub const fn new() -> Self {
        Self {
            sockets: [SocketStorage::EMPTY; 1],
            receive_slots: [udp::PacketMetadata::EMPTY; SLOTS],
            send_slots: [udp::PacketMetadata::EMPTY; SLOTS],
            receive_bytes: [0; RECEIVE_BYTES],
            send_bytes: [0; SEND_BYTES],
        }
    }
}

impl Default for StackStorage<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// What a [`Stack`] lives in: one socket and its queues, of [`SLOTS`] datagrams, [`RECEIVE_BYTES`] and [`SEND_BYTES`].
/// Borrowed from a [`StackStorage`], or owned where there is an allocator.
#[derive(Debug)]
pub struct StackMemory<'a> {
    /// Room for the one socket.
    pub sockets: SocketSet<'a>,
    /// What came.
    pub receive: udp::PacketBuffer<'a>,
    /// What goes out.
    pub send: udp::PacketBuffer<'a>,
}

impl<'a> From<&'a mut StackStorage<'a>> for StackMemory<'a> {
    fn from(storage: &'a mut StackStorage<'a>) -> Self {
        Self {
            sockets: SocketSet::new(&mut storage.sockets[..]),
            receive: udp::PacketBuffer::new(&mut storage.receive_slots[..], &mut storage.receive_bytes[..]),
            send: udp::PacketBuffer::new(&mut storage.send_slots[..], &mut storage.send_bytes[..]),
        }
    }
}

/// Why there is no stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StackError {
    /// The device is no Ethernet.
    Medium,
    /// The NIC's address is a group address or zero.
    Mac([u8; 6]),
    /// The device cannot carry a whole datagram; its MTU in bytes, with the Ethernet header.
    Mtu(usize),
    /// smoltcp was built with too small tables.
    Tables,
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Medium => f.write_str("the NIC is no Ethernet"),
            Self::Mac(mac) => write!(f, "the NIC's address is not a station's: {}", EthernetAddress(*mac)),
            Self::Mtu(mtu) => write!(f, "the NIC's frames are too short: {mtu} bytes"),
            Self::Tables => f.write_str("the network stack's tables are too small"),
        }
    }
}

impl core::error::Error for StackError {}

/// The datagram does not fit (yet): the device does not take frames as fast as they are sent, or the datagram is longer
/// than [`DATAGRAM_MAX`]. It was not queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StackFull;

impl fmt::Display for StackFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the send queue is full")
    }
}

impl core::error::Error for StackFull {}

/// How many frames and datagrams there were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StackCounters {
    /// Frames taken from the device.
    pub frames_received: u64,
    /// Frames that were neither UDP to our port nor IGMP: dropped before the stack.
    pub frames_refused: u64,
    /// Frames that passed for one of those and gave no bytes: IGMP, another group's, or damaged.
    pub frames_dropped: u64,
    /// Frames given to the device.
    pub frames_sent: u64,
    /// Datagrams handed to the caller.
    pub datagrams_received: u64,
    /// Datagrams queued.
    pub datagrams_sent: u64,
    /// Datagrams that were not queued for want of room.
    pub datagrams_unsent: u64,
}

/// One node's end of the interconnect.
pub struct Stack<'a> {
    interface: Interface,
    sockets: SocketSet<'a>,
    socket: SocketHandle,
    /// Frames that went to the socket since it was last seen empty.
    held: usize,
    /// Frames were left in the device for want of room or of turn.
    more: bool,
    counters: StackCounters,
}

impl fmt::Debug for Stack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("held", &self.held).field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// The address of a node.
pub const fn address(node: NodeId) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, node.get() + 1)
}

/// The group of a node.
pub const fn group(node: NodeId) -> Ipv4Addr {
    Ipv4Addr::new(239, 77, 0, node.get() + 1)
}

/// The address that every node listens on.
pub const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 255);

fn wire(now: Instant) -> WireInstant {
    WireInstant::from_micros(i64::try_from(now.0).unwrap_or(i64::MAX))
}

impl<'a> Stack<'a> {
    /// A stack for `node` on `device`, whose station address is `mac`.
    ///
    /// # Errors
    /// If the device cannot serve.
    pub fn new(
        memory: impl Into<StackMemory<'a>>,
        node: NodeId,
        mac: [u8; 6],
        device: &mut impl Device,
        now: Instant,
    ) -> Result<Self, StackError> {
        let capabilities = device.capabilities();
        if capabilities.medium != Medium::Ethernet {
            return Err(StackError::Medium);
        }
        if !EthernetAddress(mac).is_unicast() || mac == [0; 6] {
            return Err(StackError::Mac(mac));
        }
        // Ethernet, IPv4 and UDP headers.
        if capabilities.max_transmission_unit < DATAGRAM_MAX + 14 + 20 + 8 {
            return Err(StackError::Mtu(capabilities.max_transmission_unit));
        }
        let hardware = HardwareAddress::Ethernet(EthernetAddress(mac));
        let mut interface = Interface::new(Config::new(hardware), device, wire(now));
        let mut full = false;
        interface.update_ip_addrs(|list| full = list.push(IpCidr::new(IpAddress::Ipv4(address(node)), 24)).is_err());
        if full || interface.join_multicast_group(group(node)).is_err() {
            return Err(StackError::Tables);
        }
        let StackMemory { mut sockets, receive, send } = memory.into();
        let mut socket = udp::Socket::new(receive, send);
        // No router is to carry the cluster's datagrams on.
        socket.set_hop_limit(Some(1));
        socket.bind(PORT).map_err(|_| StackError::Tables)?;
        let socket = sockets.add(socket);
        Ok(Self { interface, sockets, socket, held: 0, more: false, counters: StackCounters::default() })
    }

    /// Takes up to [`BURST`] frames from the device and gives it all that is queued.
    pub fn poll(&mut self, now: Instant, device: &mut impl Device) {
        let now = wire(now);
        let mut gate = Gate { device, counters: &mut self.counters };
        self.interface.poll_maintenance(now);
        self.more = true;
        for _ in 0..BURST {
            let socket = self.sockets.get::<udp::Socket<'_>>(self.socket);
            if !socket.can_recv() {
                self.held = 0;
            }
            let free = socket.payload_recv_capacity() - socket.recv_queue();
            // A datagram takes a slot and, where the ring wraps, one more and as much padding as itself at most.
            if 2 * self.held + 2 > SLOTS || free < 2 * DATAGRAM_MAX {
                break;
            }
            let before = (socket.recv_queue(), gate.counters.frames_refused);
            if self.interface.poll_ingress_single(now, &mut gate, &mut self.sockets) == PollIngressSingleResult::None {
                self.more = false;
                break;
            }
            let socket = self.sockets.get::<udp::Socket<'_>>(self.socket);
            self.held += usize::from(socket.can_recv());
            if (socket.recv_queue(), gate.counters.frames_refused) == before {
                gate.counters.frames_dropped += 1;
            }
        }
        self.give(now, device);
    }

    fn give(&mut self, now: WireInstant, device: &mut impl Device) {
        let mut gate = Gate { device, counters: &mut self.counters };
        // Each turn sends at most one datagram and one IGMP report.
        for _ in 0..=SLOTS {
            if self.interface.poll_egress(now, &mut gate, &mut self.sockets) == smoltcp::iface::PollResult::None {
                break;
            }
        }
    }

    /// Queues one datagram. [`Stack::poll`] sends it.
    ///
    /// # Errors
    /// There is no room; it is counted.
    pub fn send(&mut self, to: Destination, bytes: &[u8]) -> Result<(), StackFull> {
        let queued = self.queue(to, bytes);
        self.count(queued)
    }

    /// The same; if there is no room, the device is given what is queued first. A master that tells 63 nodes of the joins
    /// of 63 others sends more in one turn than the queue holds.
    ///
    /// # Errors
    /// There is no room, because the device takes no more; it is counted.
    pub fn send_through(
        &mut self,
        now: Instant,
        to: Destination,
        bytes: &[u8],
        device: &mut impl Device,
    ) -> Result<(), StackFull> {
        let mut queued = self.queue(to, bytes);
        if !queued {
            self.give(wire(now), device);
            queued = self.queue(to, bytes);
        }
        self.count(queued)
    }

    fn queue(&mut self, to: Destination, bytes: &[u8]) -> bool {
        let to = match to {
            Destination::All => BROADCAST,
            Destination::Node(node) => group(node),
        };
        let endpoint = IpEndpoint::new(IpAddress::Ipv4(to), PORT);
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.socket);
        bytes.len() <= DATAGRAM_MAX && socket.send_slice(bytes, endpoint).is_ok()
    }

    fn count(&mut self, queued: bool) -> Result<(), StackFull> {
        let counter = if queued { &mut self.counters.datagrams_sent } else { &mut self.counters.datagrams_unsent };
        *counter += 1;
        if queued { Ok(()) } else { Err(StackFull) }
    }

    /// Hands one datagram that came to `take`, with the address that it claims to come from. False if there is none.
    pub fn receive(&mut self, take: impl FnOnce(&[u8], Ipv4Addr)) -> bool {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.socket);
        let Ok((bytes, from)) = socket.recv() else {
            self.held = 0;
            return false;
        };
        let IpAddress::Ipv4(source) = from.endpoint.addr;
        self.counters.datagrams_received += 1;
        take(bytes, source);
        true
    }

    /// When to call [`Stack::poll`] again, if no interrupt of the device comes before: now if frames or datagrams wait
    /// here, soon if the device is full, else never.
    pub fn poll_timeout(&self, now: Instant) -> Instant {
        let socket = self.sockets.get::<udp::Socket<'_>>(self.socket);
        if self.more || socket.can_recv() {
            now
        } else if socket.send_queue() > 0 {
            now.plus_us(RETRY_US)
        } else {
            Instant::FAR
        }
    }

    /// How many frames and datagrams there were.
    pub fn counters(&self) -> &StackCounters {
        &self.counters
    }
}

/// What a frame is to a node.
fn concerns_us(frame: &[u8]) -> bool {
    const IPV4: [u8; 2] = [0x08, 0x00];
    const IGMP: u8 = 2;
    const UDP: u8 = 17;
    let Some((ethernet, ip)) = frame.split_first_chunk::<14>() else { return false };
    let Some((header, _)) = ip.split_first_chunk::<20>() else { return false };
    if ethernet[12..] != IPV4 || header[0] >> 4 != 4 {
        return false;
    }
    // Datagrams are never fragmented: the MTU was checked.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return false;
    }
    match header[9] {
        IGMP => true,
        UDP => {
            let at = usize::from(header[0] & 0xf) * 4 + 2;
            ip.get(at..at + 2) == Some(&PORT.to_be_bytes()[..])
        }
        _ => false,
    }
}

/// Lets through to smoltcp only what the interconnect needs, and counts.
struct Gate<'d, D> {
    device: &'d mut D,
    counters: &'d mut StackCounters,
}

impl<D: Device> Device for Gate<'_, D> {
    type RxToken<'t>
        = GateRx<'t, D::RxToken<'t>>
    where
        Self: 't;
    type TxToken<'t>
        = GateTx<'t, D::TxToken<'t>>
    where
        Self: 't;

    fn receive(&mut self, timestamp: WireInstant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let (rx, tx) = self.device.receive(timestamp)?;
        let StackCounters { frames_received, frames_refused, frames_sent, .. } = &mut *self.counters;
        *frames_received += 1;
        Some((GateRx { token: rx, refused: frames_refused }, GateTx { token: tx, sent: frames_sent }))
    }

    fn transmit(&mut self, timestamp: WireInstant) -> Option<Self::TxToken<'_>> {
        let token = self.device.transmit(timestamp)?;
        Some(GateTx { token, sent: &mut self.counters.frames_sent })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.device.capabilities()
    }
}

struct GateRx<'t, T> {
    token: T,
    refused: &'t mut u64,
}

impl<T: RxToken> RxToken for GateRx<'_, T> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let Self { token, refused } = self;
        token.consume(|frame| {
            if concerns_us(frame) {
                f(frame)
            } else {
                *refused += 1;
                // smoltcp takes an empty frame for no frame.
                f(&[])
            }
        })
    }

    fn meta(&self) -> PacketMeta {
        self.token.meta()
    }
}

struct GateTx<'t, T> {
    token: T,
    sent: &'t mut u64,
}

impl<T: TxToken> TxToken for GateTx<'_, T> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        *self.sent += 1;
        self.token.consume(len, f)
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.token.set_meta(meta);
    }
}

#[cfg(test)]
mod tests;
