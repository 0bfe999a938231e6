//! The private Ethernet: a switch that loses, delays, doubles and reorders frames, and links that are cut one way.

use std::collections::BTreeMap;

use quorate_base::{NodeId, NodeSet};
use quorate_interconnect::Destination;
use quorate_switch::{Fault, LinkFaults};

use crate::faults::NetFaults;
use crate::random::Random;

/// A frame that a link fault holds back comes up to so much later, µs, as in the harness's switch.
const HELD_US: u64 = 10_000;

/// A frame at one receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrival {
    pub to: NodeId,
    pub at: u64,
    /// One bit of it is flipped.
    pub damaged: bool,
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
    /// Frames that entered it.
    pub frames: u64,
}

impl Network {
    /// For so many nodes, nothing cut.
    pub fn new(nodes: u8) -> Self {
        Self {
            nodes,
            faults: NetFaults::default(),
            cut: vec![NodeSet::EMPTY; usize::from(nodes)],
            links: BTreeMap::new(),
            frames: 0,
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

    /// Where and when a frame arrives.
    pub(crate) fn send(&mut self, now: u64, from: NodeId, to: Destination, random: &mut Random) -> Vec<Arrival> {
        self.frames += 1;
        let mut arrivals = Vec::new();
        let cut = self.cut.get(from.index()).copied().unwrap_or_default();
        for node in NodeId::first(self.nodes).filter(|n| *n != from && to.includes(*n) && !cut.contains(*n)) {
            let f = &self.faults;
            let link = self.links.get(&(from, node)).copied().unwrap_or_default();
            if random.per_million(f.loss_per_million) || random.per_million(parts(link.loss)) {
                continue;
            }
            let twice = random.per_million(f.duplicate_per_million) || random.per_million(parts(link.duplicate));
            for _ in 0..if twice { 2 } else { 1 } {
                let held = if random.per_million(parts(link.reorder)) { random.below(HELD_US) } else { 0 };
                let jitter = random.below(u64::from(link.jitter_ms) * 1000 + 1);
                let slow = u64::from(link.delay_ms) * 1000 + jitter + held;
                let late = if random.per_million(f.late_per_million) { random.below(f.late_us + 1) } else { 0 };
                let at = now + random.between(f.delay_us.0, f.delay_us.1) + late + slow;
                arrivals.push(Arrival { to: node, at, damaged: random.per_million(parts(link.corrupt)) });
            }
        }
        arrivals
    }
}

/// Percent as parts of a million.
fn parts(percent: f64) -> u32 {
    (percent.clamp(0.0, 100.0) * 10_000.0) as u32
}
