//! The private Ethernet: a switch that loses, delays, doubles and reorders frames, and links that are cut one way.

use quorate_base::{NodeId, NodeSet};
use quorate_interconnect::Destination;

use crate::faults::NetFaults;
use crate::random::Random;

/// The switch.
#[derive(Clone, Debug)]
pub struct Network {
    nodes: u8,
    /// What may go wrong on every link.
    pub faults: NetFaults,
    /// Whom each node's frames do not reach.
    cut: Vec<NodeSet>,
    /// Frames that entered it.
    pub frames: u64,
}

impl Network {
    /// For so many nodes, nothing cut.
    pub fn new(nodes: u8) -> Self {
        Self { nodes, faults: NetFaults::default(), cut: vec![NodeSet::EMPTY; usize::from(nodes)], frames: 0 }
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

    /// Every cut ends.
    pub fn heal(&mut self) {
        self.cut.fill(NodeSet::EMPTY);
    }

    /// Whether anything is cut.
    pub fn is_whole(&self) -> bool {
        self.cut.iter().all(|c| c.is_empty())
    }

    /// Where and when a frame arrives.
    pub(crate) fn send(&mut self, now: u64, from: NodeId, to: Destination, random: &mut Random) -> Vec<(NodeId, u64)> {
        self.frames += 1;
        let mut arrivals = Vec::new();
        let cut = self.cut.get(from.index()).copied().unwrap_or_default();
        for node in NodeId::first(self.nodes).filter(|n| *n != from && to.includes(*n) && !cut.contains(*n)) {
            let f = &self.faults;
            if random.per_million(f.loss_per_million) {
                continue;
            }
            let copies = if random.per_million(f.duplicate_per_million) { 2 } else { 1 };
            for _ in 0..copies {
                let late = if random.per_million(f.late_per_million) { random.below(f.late_us + 1) } else { 0 };
                arrivals.push((node, now + random.between(f.delay_us.0, f.delay_us.1) + late));
            }
        }
        arrivals
    }
}
