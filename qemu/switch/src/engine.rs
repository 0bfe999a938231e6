//! The switch without sockets: who gets a frame, when, in what shape.
//!
//! A frame that came in is either forwarded to the port of its destination (a station or a group that was told or
//! learned) or to all other ports; per direction it runs through that link's faults and into a queue ordered by the time
//! at which it is due. Equal inputs and an equal seed give equal outputs.
//!
//! Invariants: a frame never goes back to its own port; without delay, jitter and reordering the frames of one direction
//! keep their order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use crate::fault::{Fault, LinkFaults};
use crate::rng::Rng;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Frames waiting for their time at most. A flood beyond it is dropped and counted: memory is bounded whatever a guest sends.
const QUEUE_MAX: usize = 65_536;

/// How long a reordered frame is held back at most, µs: ten heartbeats of the fast profile fit behind it, none of the default one.
const REORDER_HOLD_US: u64 = 10_000;

/// Learned stations at most: a stranger that invents source addresses must not fill the memory.
const LEARNED_MAX: usize = 1024;

/// A unix datagram socket that is not connected to the switch holds few datagrams (ten by default on Linux), fewer than a
/// burst of a busy cluster. A frame that finds it full is tried again this often, µs: ten frames each time are five times
/// what the worst flood brings. At 2 ms they were half of it, and a third of all frames never reached an idle node…
const RETRY_US: u64 = 200;

/// … for this long, µs. Longer than a node is held up by a loaded host, shorter than any heartbeat time-out.
const RETRY_FOR_US: u64 = 20_000;

/// Frames of one port that wait for its socket at most: the ring of a NIC.
const BACKLOG_MAX: usize = 256;

/// Where a frame came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A port, by number.
    Port(usize),
    /// Somebody who is not part of the cluster. No link faults apply, nothing is learned, and all ports get it: a stranger is
    /// not held to send to one node what it can send to all.
    Stranger,
}

/// What one port has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortCounters {
    /// Frames that its node sent.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames that its node was given.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames to it that a cut or a loss took.
    pub dropped_fault: u64,
    /// Frames to it while nobody listened there.
    pub dropped_absent: u64,
    /// Frames to it that found a full buffer.
    pub dropped_full: u64,
}

/// One frame to be sent now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// To which port.
    pub port: usize,
    /// Its bytes.
    pub frame: Arc<[u8]>,
    /// When it is given up, if it found its node's socket full before.
    give_up_us: Option<u64>,
}

/// A frame in the queue. Ordered by due time, then by arrival.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Waiting {
    due_us: u64,
    order: u64,
    port: usize,
    frame: Arc<[u8]>,
}

/// Frames that found their node's socket full.
#[derive(Debug, Default)]
struct Backlog {
    /// In order, each with the time at which it is given up.
    frames: VecDeque<(u64, Arc<[u8]>)>,
    retry_us: u64,
}

/// The switch's decisions.
#[derive(Debug)]
pub struct Engine {
    ports: usize,
    /// Row: from; column: to.
    links: Vec<LinkFaults>,
    rng: Rng,
    told: HashMap<Mac, usize>,
    learned: HashMap<Mac, usize>,
    queue: BinaryHeap<Reverse<Waiting>>,
    order: u64,
    backlogs: Vec<Backlog>,
    counters: Vec<PortCounters>,
}

impl Engine {
    /// A switch of `ports` ports without faults.
    pub fn new(ports: usize, seed: u64) -> Self {
        Self {
            ports,
            links: vec![LinkFaults::default(); ports * ports],
            rng: Rng::new(seed),
            told: HashMap::new(),
            learned: HashMap::new(),
            queue: BinaryHeap::new(),
            order: 0,
            backlogs: (0..ports).map(|_| Backlog::default()).collect(),
            counters: vec![PortCounters::default(); ports],
        }
    }

    /// How many ports.
    pub fn ports(&self) -> usize {
        self.ports
    }

    /// Frames to `address`, a station or a multicast group, go to `port` only. What is told outweighs what is learned.
    pub fn tell(&mut self, address: Mac, port: usize) {
        self.told.insert(address, port);
    }

    /// Sets a fault from each of `from` to each of `to`, and back if `both_ways`. Unknown ports are left out.
    pub fn set(&mut self, from: &[usize], to: &[usize], both_ways: bool, fault: Fault) {
        self.each_link(from, to, both_ways, |link| link.set(fault));
    }

    /// Ends all faults between `from` and `to`, in both directions.
    pub fn heal_between(&mut self, from: &[usize], to: &[usize]) {
        self.each_link(from, to, true, |link| *link = LinkFaults::default());
    }

    /// Ends all faults. Frames that are under way keep their delay.
    pub fn heal(&mut self) {
        self.links.fill(LinkFaults::default());
    }

    /// One direction's faults; none for an unknown port.
    pub fn link(&self, from: usize, to: usize) -> LinkFaults {
        self.index(from, to).and_then(|i| self.links.get(i)).copied().unwrap_or_default()
    }

    /// One port's counters; zeros for an unknown port.
    pub fn counters(&self, port: usize) -> PortCounters {
        self.counters.get(port).copied().unwrap_or_default()
    }

    /// A frame came in.
    pub fn frame(&mut self, now_us: u64, source: Source, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Source::Port(port) = source {
            self.came_from(port, bytes);
        }
        let frame: Arc<[u8]> = bytes.into();
        let known = match source {
            Source::Port(_) => self.destination(bytes),
            Source::Stranger => None,
        };
        match known {
            Some(port) => self.forward(now_us, source, port, &frame),
            None => (0..self.ports).for_each(|port| self.forward(now_us, source, port, &frame)),
        }
    }

    /// The next frame that is due. The caller sends it and says what became of it: [`Engine::sent`].
    pub fn poll_output(&mut self, now_us: u64) -> Option<Output> {
        if let Some(output) = self.poll_backlog(now_us) {
            return Some(output);
        }
        while self.queue.peek().is_some_and(|Reverse(w)| w.due_us <= now_us) {
            let Reverse(Waiting { port, frame, .. }) = self.queue.pop()?;
            match self.backlogs.get(port) {
                // Order: nothing overtakes what waits for this port's socket.
                Some(backlog) if !backlog.frames.is_empty() => self.hold(now_us, port, frame),
                _ => return Some(Output { port, frame, give_up_us: None }),
            }
        }
        None
    }

    /// When [`Engine::poll_output`] next has something.
    pub fn poll_timeout(&self) -> Option<u64> {
        let retries = self.backlogs.iter().filter(|b| !b.frames.is_empty()).map(|b| b.retry_us);
        retries.chain(self.queue.peek().map(|Reverse(w)| w.due_us)).min()
    }

    /// What became of a frame that was to be sent now.
    pub fn sent(&mut self, now_us: u64, output: Output, fate: Sent) {
        let Some(counters) = self.counters.get_mut(output.port) else { return };
        match fate {
            Sent::Done => {
                counters.sent += 1;
                counters.sent_bytes += output.frame.len() as u64;
            }
            Sent::Absent => counters.dropped_absent += 1,
            Sent::Full => {
                let give_up_us = output.give_up_us.unwrap_or(now_us + RETRY_FOR_US);
                if let Some(backlog) = self.backlogs.get_mut(output.port) {
                    backlog.frames.push_front((give_up_us, output.frame));
                    backlog.retry_us = now_us + RETRY_US;
                }
            }
        }
    }

    /// The oldest frame that waits for its node's socket, if it is time to try again.
    fn poll_backlog(&mut self, now_us: u64) -> Option<Output> {
        for (port, backlog) in self.backlogs.iter_mut().enumerate() {
            while backlog.retry_us <= now_us
                && let Some((give_up_us, frame)) = backlog.frames.pop_front()
            {
                if now_us < give_up_us {
                    return Some(Output { port, frame, give_up_us: Some(give_up_us) });
                }
                if let Some(counters) = self.counters.get_mut(port) {
                    counters.dropped_full += 1;
                }
            }
        }
        None
    }

    fn hold(&mut self, now_us: u64, port: usize, frame: Arc<[u8]>) {
        let Some(backlog) = self.backlogs.get_mut(port) else { return };
        if backlog.frames.len() < BACKLOG_MAX {
            backlog.frames.push_back((now_us + RETRY_FOR_US, frame));
        } else if let Some(counters) = self.counters.get_mut(port) {
            counters.dropped_full += 1;
        }
    }

    fn came_from(&mut self, port: usize, bytes: &[u8]) {
        if let Some(counters) = self.counters.get_mut(port) {
            counters.received += 1;
            counters.received_bytes += bytes.len() as u64;
        }
        if let Some(source) = address(bytes, 6)
            && source[0] & 1 == 0
            && (self.learned.len() < LEARNED_MAX || self.learned.contains_key(&source))
        {
            self.learned.insert(source, port);
        }
    }

    /// The one port that a frame is for; `None`: all.
    fn destination(&self, bytes: &[u8]) -> Option<usize> {
        let destination = address(bytes, 0)?;
        self.told.get(&destination).or_else(|| self.learned.get(&destination)).copied()
    }

    fn forward(&mut self, now_us: u64, source: Source, to: usize, frame: &Arc<[u8]>) {
        let link = match source {
            Source::Port(from) if from == to => return,
            Source::Port(from) => self.link(from, to),
            Source::Stranger => LinkFaults::default(),
        };
        if link.cut || self.rng.percent(link.loss) {
            if let Some(counters) = self.counters.get_mut(to) {
                counters.dropped_fault += 1;
            }
            return;
        }
        let copies = if self.rng.percent(link.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let frame = if self.rng.percent(link.corrupt) { self.damaged(frame) } else { frame.clone() };
            let due_us = now_us.saturating_add(self.delay_us(&link));
            self.enqueue(due_us, to, frame);
        }
    }

    fn delay_us(&mut self, link: &LinkFaults) -> u64 {
        let mut delay_us = u64::from(link.delay_ms) * 1000;
        if link.jitter_ms > 0 {
            delay_us += self.rng.below(u64::from(link.jitter_ms) * 1000 + 1);
        }
        if self.rng.percent(link.reorder) {
            delay_us += 1 + self.rng.below(REORDER_HOLD_US);
        }
        delay_us
    }

    fn damaged(&mut self, frame: &Arc<[u8]>) -> Arc<[u8]> {
        let mut bytes = frame.to_vec();
        let bit = self.rng.below(bytes.len() as u64 * 8);
        if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
            *byte ^= 1 << (bit % 8);
        }
        bytes.into()
    }

    fn enqueue(&mut self, due_us: u64, port: usize, frame: Arc<[u8]>) {
        if self.queue.len() >= QUEUE_MAX {
            if let Some(counters) = self.counters.get_mut(port) {
                counters.dropped_full += 1;
            }
            return;
        }
        self.order += 1;
        self.queue.push(Reverse(Waiting { due_us, order: self.order, port, frame }));
    }

    fn each_link(&mut self, from: &[usize], to: &[usize], both_ways: bool, mut act: impl FnMut(&mut LinkFaults)) {
        for &a in from {
            for &b in to.iter().filter(|b| **b != a) {
                let there = self.index(a, b);
                let back = if both_ways { self.index(b, a) } else { None };
                for index in [there, back].into_iter().flatten() {
                    if let Some(link) = self.links.get_mut(index) {
                        act(link);
                    }
                }
            }
        }
    }

    fn index(&self, from: usize, to: usize) -> Option<usize> {
        (from < self.ports && to < self.ports).then_some(from * self.ports + to)
    }
}

/// What became of a frame at the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// It is in the node's socket.
    Done,
    /// Nobody listens there.
    Absent,
    /// The node's socket is full.
    Full,
}

fn address(bytes: &[u8], at: usize) -> Option<Mac> {
    bytes.get(at..at + 6)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROADCAST: Mac = [0xff; 6];

    fn mac(node: u8) -> Mac {
        [0x52, 0x54, 0, 0x51, 0, node]
    }

    fn frame(to: Mac, from: Mac, tag: u16) -> Vec<u8> {
        [&to[..], &from, &[0x08, 0x00], &tag.to_be_bytes()].concat()
    }

    fn tag(frame: &[u8]) -> u16 {
        u16::from_be_bytes([frame[14], frame[15]])
    }

    fn drain(engine: &mut Engine, now_us: u64) -> Vec<(usize, u16)> {
        let mut out = Vec::new();
        while let Some(o) = engine.poll_output(now_us) {
            out.push((o.port, tag(&o.frame)));
            engine.sent(now_us, o, Sent::Done);
        }
        out
    }

    #[test]
    fn a_broadcast_reaches_all_others_and_a_known_station_only_its_port() {
        let mut e = Engine::new(3, 1);
        e.frame(0, Source::Port(1), &frame(BROADCAST, mac(1), 7));
        assert_eq!(drain(&mut e, 0), [(0, 7), (2, 7)]);
        e.frame(0, Source::Port(2), &frame(mac(1), mac(2), 8));
        assert_eq!(drain(&mut e, 0), [(1, 8)], "node 1 was learned from its first frame");
        e.frame(0, Source::Port(0), &frame(mac(9), mac(0), 9));
        assert_eq!(drain(&mut e, 0), [(1, 9), (2, 9)], "an unknown station is flooded");
        assert_eq!(e.counters(1).received, 1);
        assert_eq!(e.counters(1).sent, 2);
    }

    #[test]
    fn a_group_that_was_told_goes_to_its_port_and_an_unknown_one_to_all() {
        let mut e = Engine::new(3, 1);
        let group = [0x01, 0, 0x5e, 0x4d, 0, 3];
        e.tell(group, 2);
        e.frame(0, Source::Port(0), &frame(group, mac(0), 1));
        assert_eq!(drain(&mut e, 0), [(2, 1)]);
        e.frame(0, Source::Port(2), &frame(group, mac(2), 2));
        assert_eq!(drain(&mut e, 0), [], "never back to its own port");
        e.frame(0, Source::Port(0), &frame([0x01, 0, 0x5e, 0, 0, 1], mac(0), 3));
        assert_eq!(drain(&mut e, 0), [(1, 3), (2, 3)]);
    }

    #[test]
    fn a_cut_is_per_direction_and_heals() {
        let mut e = Engine::new(3, 1);
        e.set(&[0], &[1], false, Fault::Cut);
        e.frame(0, Source::Port(0), &frame(BROADCAST, mac(0), 1));
        e.frame(0, Source::Port(1), &frame(BROADCAST, mac(1), 2));
        assert_eq!(drain(&mut e, 0), [(2, 1), (0, 2), (2, 2)]);
        assert_eq!(e.counters(1).dropped_fault, 1);
        e.set(&[0, 1], &[2], true, Fault::Cut);
        e.frame(0, Source::Port(2), &frame(BROADCAST, mac(2), 3));
        assert_eq!(drain(&mut e, 0), []);
        e.heal_between(&[2], &[0]);
        e.frame(0, Source::Port(2), &frame(BROADCAST, mac(2), 4));
        assert_eq!(drain(&mut e, 0), [(0, 4)]);
        e.heal();
        e.frame(0, Source::Port(0), &frame(BROADCAST, mac(0), 5));
        assert_eq!(drain(&mut e, 0), [(1, 5), (2, 5)]);
    }

    fn survivors(seed: u64, fault: Fault) -> Vec<u16> {
        let mut e = Engine::new(2, seed);
        e.set(&[0], &[1], false, fault);
        for t in 0..1000 {
            e.frame(0, Source::Port(0), &frame(BROADCAST, mac(0), t));
        }
        drain(&mut e, u64::MAX).into_iter().map(|(_, t)| t).collect()
    }

    #[test]
    fn loss_is_near_its_percentage_and_the_seed_replays_it() {
        let fault = Fault::Loss { percent: 30.0 };
        let a = survivors(5, fault);
        assert!((620..780).contains(&a.len()), "{} of 1000 came through 30 % loss", a.len());
        assert_eq!(a, survivors(5, fault));
        assert_ne!(a, survivors(6, fault));
        assert_eq!(survivors(5, Fault::Loss { percent: 100.0 }), []);
        assert_eq!(survivors(5, Fault::Loss { percent: 0.0 }).len(), 1000);
    }

    #[test]
    fn duplicates_come_twice_and_reordered_frames_are_overtaken() {
        assert_eq!(survivors(1, Fault::Duplicate { percent: 100.0 }).len(), 2000);
        let order = survivors(1, Fault::Reorder { percent: 20.0 });
        assert_eq!(order.len(), 1000);
        assert!(!order.is_sorted());
    }

    #[test]
    fn corruption_flips_exactly_one_bit() {
        let mut e = Engine::new(2, 3);
        e.set(&[0], &[1], false, Fault::Corrupt { percent: 100.0 });
        let sent = frame(BROADCAST, mac(0), 1);
        e.frame(0, Source::Port(0), &sent);
        let got = e.poll_output(0).expect("a damaged frame is still a frame").frame;
        let bits: u32 = sent.iter().zip(got.iter()).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((got.len(), bits), (sent.len(), 1));
    }

    #[test]
    fn a_delayed_frame_is_due_later_and_order_is_kept() {
        let mut e = Engine::new(2, 3);
        e.set(&[0], &[1], false, Fault::Delay { ms: 20, jitter_ms: 0 });
        for t in 0..5 {
            e.frame(u64::from(t), Source::Port(0), &frame(BROADCAST, mac(0), t));
        }
        assert_eq!(e.poll_timeout(), Some(20_000));
        assert_eq!(drain(&mut e, 19_999), []);
        assert_eq!(drain(&mut e, 20_001), [(1, 0), (1, 1)]);
        assert_eq!(drain(&mut e, 30_000), [(1, 2), (1, 3), (1, 4)]);
        e.set(&[0], &[1], false, Fault::Delay { ms: 20, jitter_ms: 10 });
        e.frame(0, Source::Port(0), &frame(BROADCAST, mac(0), 9));
        let due = e.poll_timeout().expect("it waits");
        assert!((20_000..=30_000).contains(&due));
    }

    #[test]
    fn frames_of_any_length_and_a_stranger_are_taken() {
        let mut e = Engine::new(2, 3);
        for length in 0..20 {
            e.frame(0, Source::Port(0), &vec![0xff; length]);
        }
        e.set(&[0, 1], &[0, 1], true, Fault::Cut);
        e.frame(0, Source::Stranger, &frame(BROADCAST, mac(1), 1));
        let mut frames = 0;
        while e.poll_output(0).is_some() {
            frames += 1;
        }
        assert_eq!(frames, 19 + 2);
    }

    #[test]
    fn a_frame_that_finds_the_socket_full_is_tried_again_in_order_and_given_up_in_time() {
        let mut e = Engine::new(2, 3);
        for t in 0..3 {
            e.frame(0, Source::Port(0), &frame(BROADCAST, mac(0), t));
        }
        let first = e.poll_output(0).expect("due");
        e.sent(0, first, Sent::Full);
        assert_eq!(e.poll_output(0), None, "nothing overtakes it");
        assert_eq!(e.poll_timeout(), Some(RETRY_US));
        let again = e.poll_output(RETRY_US).expect("due again");
        assert_eq!(tag(&again.frame), 0);
        e.sent(RETRY_US, again, Sent::Full);
        assert_eq!(drain(&mut e, 2 * RETRY_US), [(1, 0), (1, 1), (1, 2)]);
        assert_eq!(e.counters(1).dropped_full, 0);
        e.frame(0, Source::Port(0), &frame(BROADCAST, mac(0), 9));
        let last = e.poll_output(0).expect("due");
        e.sent(0, last, Sent::Full);
        assert_eq!(drain(&mut e, RETRY_FOR_US), []);
        assert_eq!((e.counters(1).dropped_full, e.poll_timeout()), (1, None));
    }

    /// A node that reads a frame every 50 µs from a socket that holds ten, as Linux's do.
    #[test]
    fn a_node_that_reads_fast_enough_loses_nothing_of_a_flood_that_comes_in_bursts() {
        const SPAN_US: u64 = 200_000;
        let mut e = Engine::new(2, 3);
        let (mut now_us, mut held, mut read_us) = (0, 0_u32, 0);
        for (tag, at_us) in (0..SPAN_US).step_by(1000).flat_map(|ms| [ms; 10]).enumerate() {
            while let Some(due_us) = e.poll_timeout().filter(|due_us| *due_us < at_us) {
                now_us = due_us.max(now_us);
                while held > 0 && read_us + 50 <= now_us {
                    (held, read_us) = (held - 1, read_us + 50);
                }
                while let Some(output) = e.poll_output(now_us) {
                    let full = held == 10;
                    if held == 0 {
                        read_us = now_us;
                    }
                    held += u32::from(!full);
                    e.sent(now_us, output, if full { Sent::Full } else { Sent::Done });
                }
            }
            e.frame(at_us, Source::Stranger, &frame(BROADCAST, mac(9), tag as u16));
        }
        assert_eq!(e.counters(1).dropped_full, 0);
        assert!(e.counters(1).sent >= SPAN_US / 100 - 20, "{:?}", e.counters(1));
    }

    #[test]
    fn a_strangers_frame_goes_to_all_ports_whomever_it_names() {
        let mut e = Engine::new(3, 1);
        e.tell(mac(2), 2);
        e.frame(0, Source::Stranger, &frame(mac(2), mac(1), 1));
        assert_eq!(drain(&mut e, 0), [(0, 1), (1, 1), (2, 1)]);
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut e = Engine::new(2, 3);
        for _ in 0..QUEUE_MAX + 5 {
            e.frame(0, Source::Port(0), &frame(BROADCAST, mac(0), 1));
        }
        assert_eq!(e.counters(1).dropped_full, 5);
    }
}
