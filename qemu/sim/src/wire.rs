//! One machine's end of the interconnect: a simulated NIC, and on it the stack that ships.
//!
//! ```text
//! node ──datagram──▶ Stack ──frame──▶ Nic ──▶ switch ──▶ Nic's ring ──▶ Stack ──datagram──▶ node
//! ```
//! Invariants: a frame that came stays in the ring until the stack takes it; the ring is finite, and what finds it full is
//! lost and counted; before the node knows which node it is there is no stack and nothing is sent.
//!
//! All that the stack does by itself is on the node's clock: what `Interface::poll_at` would say is what
//! [`Stack::poll_timeout`] says (one UDP socket, no fragments, no neighbours), and an IGMP report that is due goes out
//! with the next poll, at the latest with the next heartbeat.

use std::collections::VecDeque;
use std::rc::Rc;

use quorate_base::{Instant, NodeId};
use quorate_interconnect::Destination;
use quorate_interconnect::stack::{
    RECEIVE_BYTES, SEND_BYTES, SLOTS, Stack, StackCounters, StackError, StackMemory, group,
};
use quorate_node::Post;
use smoltcp::iface::{SocketSet, SocketStorage};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata};
use smoltcp::time::Instant as WireInstant;

/// An Ethernet address.
pub type Mac = [u8; 6];
/// An Ethernet frame, without its checksum. Its receivers share it.
pub type Frame = Rc<[u8]>;

/// Longest frame, as on the real NIC.
const FRAME_BYTES_MAX: usize = 1514;
/// Frames that the NIC keeps for a processor that does not take them: as many buffers as the driver gives the real one.
const RING: usize = 64;

/// The NIC address of a machine, as in the harness.
pub const fn mac(machine: NodeId) -> Mac {
    [0x52, 0x54, 0x00, 0x51, 0x00, machine.get()]
}

/// The Ethernet address of a node's own group: the lower 23 bits are those of the IPv4 group (RFC 1112, 6.4).
pub(crate) fn group_mac(node: NodeId) -> Mac {
    let [_, b, c, d] = group(node).octets();
    [0x01, 0x00, 0x5e, b & 0x7f, c, d]
}

/// The NIC: what came and was not taken, what is to go out.
#[derive(Debug, Default)]
pub struct Nic {
    ring: VecDeque<Frame>,
    sent: Vec<Frame>,
}

impl Nic {
    /// A frame comes from the switch. False: the ring is full, the frame is lost.
    pub fn deliver(&mut self, frame: Frame) -> bool {
        let fits = self.ring.len() < RING;
        if fits {
            self.ring.push_back(frame);
        }
        fits
    }

    /// Whether all that came was taken.
    pub fn is_drained(&self) -> bool {
        self.ring.is_empty()
    }

    /// Frames that go out.
    pub fn take_sent(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.sent)
    }

    /// Gives the vector back, so that the next frames need no new one.
    pub fn reuse(&mut self, mut sent: Vec<Frame>) {
        sent.clear();
        if self.sent.is_empty() {
            self.sent = sent;
        }
    }
}

/// A frame that came.
#[derive(Debug)]
pub struct Received(Frame);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Room for one that goes out.
#[derive(Debug)]
pub struct Sending<'a>(&'a mut Vec<Frame>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame: Frame = std::iter::repeat_n(0, len).collect();
        // Nobody else has it yet.
        let result = f(Rc::make_mut(&mut frame));
        self.0.push(frame);
        result
    }
}

impl Device for Nic {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: WireInstant) -> Option<(Received, Sending<'_>)> {
        let frame = self.ring.pop_front()?;
        Some((Received(frame), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: WireInstant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        // Checksums are the stack's own work, both ways, as on the real NIC.
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_BYTES_MAX;
        capabilities
    }
}

/// NIC and stack of a machine that is on.
#[derive(Debug)]
pub(crate) struct Wire {
    mac: Mac,
    nic: Nic,
    stack: Option<Stack<'static>>,
    posted: bool,
    /// The node's time in this turn.
    now: Instant,
    /// Frames that found the ring full.
    pub overrun: u64,
}

impl Wire {
    /// The machine's NIC as power-on leaves it.
    pub fn new(machine: NodeId) -> Self {
        Self { mac: mac(machine), nic: Nic::default(), stack: None, posted: false, now: Instant::ZERO, overrun: 0 }
    }

    /// The node is known: from here on it is heard.
    pub fn open(&mut self, node: NodeId, now: Instant) -> Result<(), StackError> {
        if self.stack.is_none() {
            self.stack = Some(Stack::new(memory(), node, self.mac, &mut self.nic, now)?);
            // Its first report of its group goes out with the next poll.
            self.posted = true;
        }
        Ok(())
    }

    /// Whether the node is known.
    pub fn is_open(&self) -> bool {
        self.stack.is_some()
    }

    /// A frame comes from the switch.
    pub fn deliver(&mut self, frame: Frame) {
        self.overrun += u64::from(!self.nic.deliver(frame));
    }

    /// Moves frames both ways, if there are any, as the node image does.
    pub fn poll(&mut self, now: Instant) {
        self.now = now;
        if let Some(stack) = &mut self.stack
            && (self.posted || !self.nic.is_drained() || stack.poll_timeout(now) <= now)
        {
            self.posted = false;
            stack.poll(now, &mut self.nic);
        }
    }

    /// Puts one datagram into `datagram`, if one came.
    pub fn receive(&mut self, datagram: &mut Vec<u8>) -> bool {
        let take = |bytes: &[u8], _| {
            datagram.clear();
            datagram.extend_from_slice(bytes);
        };
        self.stack.as_mut().is_some_and(|stack| stack.receive(take))
    }

    /// Frames that go out.
    pub fn take_sent(&mut self) -> Vec<Frame> {
        self.nic.take_sent()
    }

    /// Gives the vector back, so that the next frames need no new one.
    pub fn reuse(&mut self, sent: Vec<Frame>) {
        self.nic.reuse(sent);
    }

    /// When [`Wire::poll`] is due without a frame.
    pub fn poll_timeout(&self, now: Instant) -> Instant {
        self.stack.as_ref().map_or(Instant::FAR, |stack| stack.poll_timeout(now))
    }

    /// What the stack counted; zeros before it is there.
    pub fn counters(&self) -> StackCounters {
        self.stack.as_ref().map_or(StackCounters::default(), |stack| *stack.counters())
    }
}

impl Post for Wire {
    fn post(&mut self, to: Destination, datagram: &[u8]) {
        self.posted = true;
        if let Some(stack) = &mut self.stack {
            // No room is a lost datagram: every message is repeated until it is answered. The stack counts it.
            let _ = stack.send_through(self.now, to, datagram, &mut self.nic);
        }
    }
}

/// A stack's memory, freed with the machine's life.
pub fn memory() -> StackMemory<'static> {
    StackMemory {
        sockets: SocketSet::new(vec![SocketStorage::EMPTY]),
        receive: PacketBuffer::new(vec![PacketMetadata::EMPTY; SLOTS], vec![0; RECEIVE_BYTES]),
        send: PacketBuffer::new(vec![PacketMetadata::EMPTY; SLOTS], vec![0; SEND_BYTES]),
    }
}
