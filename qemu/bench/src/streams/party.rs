//! One node's part in the pattern of group traffic, whatever carries it: who sends gives a frame to the sequencer, which gives
//! it its place and sends it to all others; it is delivered where all are known to hold it.
//!
//! Frames, batching, windows, what is said and what is repeated are those of group services (`quorate_groups`): its messages,
//! items, outbox and store. What is not there is whatever does not load a carrier: epochs, jobs, tables.
//!
//! Invariant: what is not delivered everywhere is repeated every [`REPEAT_US`], unless the carrier repeats by itself.

use std::collections::VecDeque;

use quorate_base::{Instant, NodeId};
use quorate_groups::EpochId;
use quorate_groups::MemberId;
use quorate_groups::capacity::{DATA_WINDOW, GROUP_WINDOW_MAX, REPEAT_US, WAITING_MAX};
use quorate_groups::item::{Item, Stream, items};
use quorate_groups::message::{Message, decode};
use quorate_groups::outbox::Outbox;
use quorate_groups::store::{Body, Frame, Store};
use quorate_interconnect::Destination;

use super::NODES;

/// Frames that one who is behind is sent at a time, as by group services.
const RESEND_MAX: u64 = 8;
/// The sequencer is told of so many frames that were delivered, as by group services.
const TELL: u64 = DATA_WINDOW as u64 / 2;

/// Who gives out the places.
const SEQUENCER: usize = 0;

/// What a node sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Load {
    /// Bytes of each message, 4 at least.
    pub bytes: usize,
    /// So many are not delivered at a time.
    pub outstanding: usize,
    /// Small ones share a frame.
    pub batched: bool,
}

/// What another one said of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Known {
    held: u64,
    applied: u64,
}

/// A message that was delivered: whose, which of its sender's, how long.
pub(super) type Delivered = (usize, u32, usize);

/// A node.
#[derive(Debug)]
pub(super) struct Party {
    me: usize,
    epoch: EpochId,
    repeats: bool,
    load: Load,
    /// Messages that are still to be sent, and how many were.
    left: u32,
    sent: u32,
    /// When those that are on their way were sent.
    on_their_way: VecDeque<Instant>,
    out: Outbox,
    store: Store,
    /// The last place up to which all frames are here, and the last one delivered.
    held: u64,
    applied: u64,
    said: Known,
    known: [Known; NODES],
    /// The sequencer's: frames without a place, the last number of each node that has one, whose got the last place.
    waiting: Vec<Frame>,
    ordered: [u32; NODES],
    served: usize,
    repeat_at: Instant,
    /// Messages of each that have begun.
    partial: [Vec<u8>; NODES],
    /// In their order.
    pub delivered: Vec<Delivered>,
    /// Of own messages, from sending to delivery, µs.
    pub took_us: Vec<f64>,
    /// When the last message was delivered, and the longest time without one, µs.
    last_at: Option<Instant>,
    pub gap_us: u64,
}

impl Party {
    /// A node that has nothing to send. `repeats`: what it sends may be lost.
    pub fn new(me: usize, sequencer: NodeId, repeats: bool) -> Self {
        Self {
            me,
            epoch: EpochId { counter: 1, node: sequencer },
            repeats,
            load: Load { bytes: 4, outstanding: 1, batched: true },
            left: 0,
            sent: 0,
            on_their_way: VecDeque::new(),
            out: Outbox::default(),
            store: Store::default(),
            held: 0,
            applied: 0,
            said: Known::default(),
            known: [Known::default(); NODES],
            waiting: Vec::new(),
            ordered: [0; NODES],
            served: 0,
            repeat_at: Instant::FAR,
            partial: [const { Vec::new() }; NODES],
            delivered: Vec::new(),
            took_us: Vec::new(),
            last_at: None,
            gap_us: 0,
        }
    }

    /// It is to send so many messages.
    pub fn begin(&mut self, load: Load, count: u32) {
        (self.load, self.left) = (load, count);
    }

    /// What was measured so far is forgotten.
    pub fn forget(&mut self) {
        self.delivered.clear();
        self.took_us.clear();
        (self.last_at, self.gap_us) = (None, 0);
    }

    /// Whether all that it has sent is delivered here, and all that it holds.
    pub fn is_through(&self) -> bool {
        self.left == 0 && self.on_their_way.is_empty() && self.applied == self.held
    }

    /// When [`Party::turn`] has something to repeat.
    pub fn poll_timeout(&self) -> Instant {
        self.repeat_at
    }

    /// A payload came.
    pub fn receive(&mut self, from: usize, payload: &[u8], post: &mut dyn FnMut(Destination, &Message<'_>)) {
        match decode(payload) {
            Some(Message::Submit { stream, number, body, .. }) if self.me == SEQUENCER => {
                let Some((node, body)) = NodeId::new(from as u8).zip(Body::from_slice(body).ok()) else { return };
                let known = self.waiting.iter().any(|f| f.node == node && f.number == number);
                if !known && number > self.ordered[from] && self.waiting.len() < WAITING_MAX {
                    self.waiting.push(Frame { order: 0, node, stream, number, body });
                }
            }
            Some(Message::Ordered { order, node, stream, number, body, .. }) => {
                let Ok(body) = Body::from_slice(body) else { return };
                self.known[from].held = self.known[from].held.max(order);
                if node.index() == self.me {
                    self.out.ordered(stream, number);
                }
                if order > self.held && self.store.insert(Frame { order, node, stream, number, body }) {
                    self.advance_held();
                }
            }
            Some(Message::Status { held, applied, asks, .. }) => {
                let known = &mut self.known[from];
                // They may overtake each other; everything in them only grows.
                *known = Known { held: known.held.max(held), applied: known.applied.max(applied) };
                if let (true, Some(from)) = (asks, NodeId::new(from as u8)) {
                    self.say(Destination::Node(from), false, post);
                }
            }
            _ => {}
        }
    }

    /// Does all that can be done now.
    pub fn turn(&mut self, now: Instant, post: &mut dyn FnMut(Destination, &Message<'_>)) {
        self.work(now, post);
        if self.repeats && now >= self.repeat_at {
            self.repeat_at = Instant::FAR;
            self.repeat(now, post);
            self.work(now, post);
        }
        if self.repeats && self.is_busy() {
            self.repeat_at = self.repeat_at.min(now.plus_us(REPEAT_US));
        }
    }

    fn work(&mut self, now: Instant, post: &mut dyn FnMut(Destination, &Message<'_>)) {
        loop {
            self.fill(now);
            self.submit(now, Instant::ZERO, post);
            self.order_waiting(now, post);
            if !self.deliver(now) {
                break;
            }
        }
        if self.held != self.said.held {
            self.say(Destination::All, false, post);
        } else if self.me != SEQUENCER && self.applied - self.said.applied >= TELL {
            self.say(Destination::Node(self.epoch.node), false, post);
        }
    }

    /// Messages go into the outbox as long as it has room.
    fn fill(&mut self, now: Instant) {
        let stream = Stream::of_group(0);
        let member = MemberId { place: self.me as u8, since: 1 };
        while self.left > 0 && self.on_their_way.len() < self.load.outstanding {
            let number = self.sent + 1;
            let mut bytes = vec![number as u8; self.load.bytes];
            bytes[..4].copy_from_slice(&number.to_le_bytes());
            let taken = if self.load.batched && bytes.len() <= quorate_groups::capacity::PART_MAX {
                self.out.push(stream, &Item::Data { member, to: None, bytes: &bytes }).is_ok()
            } else {
                self.out.push_parts(stream, member, None, &bytes).is_ok()
            };
            if !taken {
                return;
            }
            self.on_their_way.push_back(now);
            (self.left, self.sent) = (self.left - 1, number);
        }
    }

    fn submit(&mut self, now: Instant, again: Instant, post: &mut dyn FnMut(Destination, &Message<'_>)) {
        if self.me == SEQUENCER {
            return;
        }
        let epoch = self.epoch;
        self.out.submit(now, again, WAITING_MAX / (NODES - 1), |stream, number, body| {
            post(Destination::Node(epoch.node), &Message::Submit { epoch, stream, number, body });
        });
    }

    /// Gives places while the window is open: to the frame whose turn it is, one node after the other.
    fn order_waiting(&mut self, now: Instant, post: &mut dyn FnMut(Destination, &Message<'_>)) {
        if self.me != SEQUENCER {
            return;
        }
        let stream = Stream::of_group(0);
        let slowest = self.known.iter().skip(1).map(|k| k.applied).fold(self.applied, u64::min);
        while self.held - slowest < GROUP_WINDOW_MAX as u64 {
            let after = |node: usize| (node + NODES - self.served - 1) % NODES;
            let has_turn = |(_, f): &(usize, &Frame)| f.number == self.ordered[f.node.index()] + 1;
            let others =
                self.waiting.iter().enumerate().filter(has_turn).map(|(at, f)| (after(f.node.index()), at)).min();
            let own = self.out.head(stream).map(|_| after(self.me));
            let frame = match (others, own) {
                (Some((rank, at)), own) if own.is_none_or(|own| rank < own) => self.waiting.swap_remove(at),
                (_, Some(_)) => {
                    let Some((number, body)) = self.out.seal_head(stream, now) else { break };
                    self.out.ordered(stream, number);
                    Frame { order: 0, node: self.epoch.node, stream, number, body }
                }
                _ => break,
            };
            let Frame { node, stream, number, ref body, .. } = frame;
            let (epoch, order) = (self.epoch, self.held + 1);
            post(Destination::All, &Message::Ordered { epoch, order, node, stream, number, body });
            self.served = node.index();
            self.ordered[node.index()] = number;
            if self.store.insert(Frame { order, ..frame }) {
                self.advance_held();
            }
            // Who gives out a place has all up to it: nobody needs to be told twice.
            self.said.held = self.held;
        }
        let ordered = self.ordered;
        self.waiting.retain(|f| f.number > ordered[f.node.index()]);
    }

    fn advance_held(&mut self) {
        while self.store.get(self.held + 1).is_some() {
            self.held += 1;
        }
        self.known[self.me].held = self.held;
    }

    /// Delivers the next frame if all hold it. True if it did.
    fn deliver(&mut self, now: Instant) -> bool {
        let order = self.applied + 1;
        if self.known.iter().any(|known| known.held < order) {
            return false;
        }
        let Some(frame) = self.store.get(order).cloned() else { return false };
        self.store.retain(|f| f.order != order);
        self.applied = order;
        self.known[self.me].applied = order;
        let node = frame.node.index();
        for (_, item) in items(&frame.body) {
            match item {
                Item::Data { bytes, .. } => self.message(node, bytes, now),
                Item::Part { more, bytes, .. } => {
                    self.partial[node].extend_from_slice(bytes);
                    if !more {
                        let whole = std::mem::take(&mut self.partial[node]);
                        self.message(node, &whole, now);
                    }
                }
                _ => {}
            }
        }
        if node == self.me {
            self.out.delivered(frame.stream, frame.number);
        }
        true
    }

    fn message(&mut self, node: usize, bytes: &[u8], now: Instant) {
        let number = bytes.first_chunk().map_or(0, |n| u32::from_le_bytes(*n));
        // What is not as it was sent does not pass for the message.
        let whole = bytes.iter().skip(4).all(|b| *b == number as u8);
        self.delivered.push((node, if whole { number } else { 0 }, bytes.len()));
        if let (true, Some(at)) = (node == self.me, self.on_their_way.front()) {
            self.took_us.push(now.since_us(*at) as f64);
            self.on_their_way.pop_front();
        }
        if let Some(last) = self.last_at.replace(now) {
            self.gap_us = self.gap_us.max(now.since_us(last));
        }
    }

    fn say(&mut self, to: Destination, asks: bool, post: &mut dyn FnMut(Destination, &Message<'_>)) {
        let (epoch, held, applied) = (self.epoch, self.held, self.applied);
        if to == Destination::All {
            self.said.held = held;
        }
        if to == Destination::All || to == Destination::Node(epoch.node) {
            self.said.applied = applied;
        }
        let mut taken = [0; quorate_groups::capacity::GROUPS_MAX];
        taken[0] = applied as u32;
        post(to, &Message::Status { epoch, held, applied, taken, asks });
    }

    /// Whether anything is outstanding that may have to be repeated.
    fn is_busy(&self) -> bool {
        let behind = |k: &Known| k.held < self.held || k.applied < self.applied;
        self.applied < self.held
            || !self.out.is_empty()
            || self.said != (Known { held: self.held, applied: self.applied })
            || (self.me == SEQUENCER && self.known.iter().any(behind))
    }

    /// Repeats what is outstanding.
    fn repeat(&mut self, now: Instant, post: &mut dyn FnMut(Destination, &Message<'_>)) {
        self.submit(now, Instant(now.0.saturating_sub(REPEAT_US)), post);
        if self.me == SEQUENCER {
            for (node, known) in NodeId::first(NODES as u8).zip(self.known) {
                for order in (known.held + 1..=self.held).take(RESEND_MAX as usize) {
                    let Some(f) = self.store.get(order) else { continue };
                    let (epoch, node_of, stream, number) = (self.epoch, f.node, f.stream, f.number);
                    let again = Message::Ordered { epoch, order, node: node_of, stream, number, body: &f.body };
                    post(Destination::Node(node), &again);
                }
            }
        }
        if self.is_busy() {
            self.say(Destination::All, self.applied < self.held || self.me == SEQUENCER, post);
        }
    }
}
