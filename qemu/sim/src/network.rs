//! The private Ethernet: a switch that loses, delays, doubles, reorders and damages frames, and links that are cut one
//! way. It forwards as the harness's switch does: a frame to a known station or group to its port, any other to all.
//! What may go wrong is drawn for each receiver by itself.

use std::collections::BTreeMap;

use quorate_base::{NodeId, NodeSet};
use quorate_interconnect::Channel;
use quorate_switch::{Fault, LinkFaults};

use crate::faults::NetFaults;
use crate::random::Random;
use crate::wire::{Frame, Mac, group_mac};

/// A frame that a link fault holds back comes up to so much later, µs, as in the harness's switch.
const HELD_US: u64 = 10_000;

/// Where a frame of a node says what it is about: behind the headers of Ethernet, IPv4 and UDP, in the envelope.
const CHANNEL_AT: usize = 14 + 20 + 8 + 6;

/// The Ethernet address of everybody.
const BROADCAST: Mac = [0xff; 6];

/// A frame at one receiver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// The machine.
    pub to: usize,
    /// When, µs.
    pub at: u64,
    /// As it arrives.
    pub frame: Frame,
}

/// The switch.
#[derive(Clone, Debug)]
pub struct Network {
    nodes: u8,
    /// What may go wrong on every link.
    pub faults: NetFaults,
    /// Whom each node's frames do not reach.
    cut: Vec<NodeSet>,
    /// What a scenario set on single links, by sender and receiver.
    links: BTreeMap<(NodeId, NodeId), LinkFaults>,
    /// It does not watch who is in which group: frames to a group go to all, as over a plain switch.
    pub floods_groups: bool,
    /// Whose frames came from each port.
    stations: Vec<Mac>,
    /// Frames that machines gave it.
    pub frames: u64,
    /// Membership messages that each machine gave it.
    pub messages: Vec<u64>,
}

impl Network {
    /// For so many nodes, nothing cut.
    pub fn new(nodes: u8) -> Self {
        Self {
            nodes,
            faults: NetFaults::default(),
            cut: vec![NodeSet::EMPTY; usize::from(nodes)],
            links: BTreeMap::new(),
            floods_groups: false,
            stations: vec![[0; 6]; usize::from(nodes)],
            frames: 0,
            messages: vec![0; usize::from(nodes)],
        }
    }

    /// Frames from one no longer reach the other.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        if let Some(cut) = self.cut.get_mut(from.index()) {
            cut.insert(to);
        }
    }

    /// A node is cut from all others, both ways.
    pub fn isolate(&mut self, node: NodeId) {
        for other in NodeId::first(self.nodes).filter(|o| *o != node) {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    /// One more fault of one direction of one link.
    pub fn set(&mut self, from: NodeId, to: NodeId, fault: Fault) {
        match fault {
            Fault::Cut => self.cut(from, to),
            other => self.links.entry((from, to)).or_default().set(other),
        }
    }

    /// Every cut and every fault of a single link ends.
    pub fn heal(&mut self) {
        self.cut.fill(NodeSet::EMPTY);
        self.links.clear();
    }

    /// Those between two nodes end, both ways.
    pub fn heal_between(&mut self, a: NodeId, b: NodeId) {
        for (from, to) in [(a, b), (b, a)] {
            if let Some(cut) = self.cut.get_mut(from.index()) {
                cut.remove(to);
            }
            self.links.remove(&(from, to));
        }
    }

    /// Whether anything is cut.
    pub fn is_whole(&self) -> bool {
        self.cut.iter().all(|c| c.is_empty())
    }

    /// Where and when a frame of a machine arrives, and in what shape.
    pub fn send(&mut self, now: u64, from: usize, frame: &Frame, random: &mut Random, out: &mut Vec<Arrival>) {
        self.frames += 1;
        if let Some(messages) = self.messages.get_mut(from)
            && frame.get(CHANNEL_AT) == Some(&(Channel::Membership as u8))
        {
            *messages += 1;
        }
        if let (Some(station), Some(source)) = (self.stations.get_mut(from), address(frame, 6))
            && source[0] & 1 == 0
        {
            *station = source;
        }
        let Some(from) = NodeId::new(from as u8) else { return };
        let unreached = self.cut.get(from.index()).copied().unwrap_or_default();
        for to in self.destinations(frame).without(from) {
            if unreached.contains(to) {
                continue;
            }
            self.transfer(now, (from, to), frame, random, out);
        }
    }

    /// Where and when a stranger's frame arrives. Nothing is learned from it, and no fault concerns it.
    pub(crate) fn inject(&mut self, now: u64, bytes: &[u8], random: &mut Random, out: &mut Vec<Arrival>) {
        let frame: Frame = bytes.into();
        for to in self.destinations(&frame) {
            let at = now + random.between(self.faults.delay_us.0, self.faults.delay_us.1);
            out.push(Arrival { to: to.index(), at, frame: frame.clone() });
        }
    }

    /// A frame to a known station or group goes to its port only, any other to all.
    fn destinations(&self, frame: &[u8]) -> NodeSet {
        let all = NodeSet::first(self.nodes);
        let Some(to) = address(frame, 0) else { return all };
        let one = if to == BROADCAST {
            None
        } else if to[0] & 1 == 1 {
            NodeId::first(self.nodes).find(|n| !self.floods_groups && group_mac(*n) == to)
        } else {
            NodeId::first(self.nodes).zip(&self.stations).find(|(_, station)| **station == to).map(|(n, _)| n)
        };
        one.map_or(all, NodeSet::only)
    }

    /// One direction of one link.
    fn transfer(&self, now: u64, link: (NodeId, NodeId), frame: &Frame, random: &mut Random, out: &mut Vec<Arrival>) {
        let f = &self.faults;
        let to = link.1.index();
        let link = if self.links.is_empty() { None } else { self.links.get(&link) };
        let mut draw = |everywhere: u32, percent: fn(&LinkFaults) -> f64| {
            random.per_million(everywhere) || link.is_some_and(|l| random.per_million(parts(percent(l))))
        };
        if draw(f.loss_per_million, |l| l.loss) {
            return;
        }
        let twice = draw(f.duplicate_per_million, |l| l.duplicate);
        for _ in 0..if twice { 2 } else { 1 } {
            let slow = link.map_or(0, |l| {
                let held = if random.per_million(parts(l.reorder)) { random.below(HELD_US) } else { 0 };
                u64::from(l.delay_ms) * 1000 + random.below(u64::from(l.jitter_ms) * 1000 + 1) + held
            });
            let late = if random.per_million(f.late_per_million) { random.below(f.late_us + 1) } else { 0 };
            let at = now + random.between(f.delay_us.0, f.delay_us.1) + late + slow;
            let damaged =
                random.per_million(f.corrupt_per_million) || link.is_some_and(|l| random.per_million(parts(l.corrupt)));
            let frame = if damaged { one_bit_off(frame, random) } else { frame.clone() };
            out.push(Arrival { to, at, frame });
        }
    }
}

/// The address at a place of an Ethernet header.
fn address(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..at + 6)?.try_into().ok()
}

/// The same frame with one bit flipped.
fn one_bit_off(frame: &Frame, random: &mut Random) -> Frame {
    let mut frame = frame.clone();
    let bit = random.below(frame.len() as u64 * 8);
    if let Some(byte) = Frame::make_mut(&mut frame).get_mut((bit / 8) as usize) {
        *byte ^= 1 << (bit % 8);
    }
    frame
}

/// Percent as parts of a million.
fn parts(percent: f64) -> u32 {
    (percent.clamp(0.0, 100.0) * 10_000.0) as u32
}
