//! Epochs: the engines' own views. One epoch has one roster and one sequencer, who alone gives out the places in the order.

use core::fmt;

use heapless::Vec;
use quorate_base::capacity::NODES_MAX;
use quorate_base::{Incarnation, NodeId, NodeSet};
use serde::{Deserialize, Serialize};

/// Names an epoch: larger is later. The node is the one that called it up and orders in it, so that two nodes never name
/// the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct EpochId {
    /// Above every one that its members had promised before.
    pub counter: u64,
    /// The sequencer.
    pub node: NodeId,
}

impl EpochId {
    /// The name that `node` gives to the epoch after this one, not below `least`.
    pub const fn next_for(self, node: NodeId, least: u64) -> Self {
        let next = self.counter.saturating_add(1);
        Self { counter: if next > least { next } else { least }, node }
    }
}

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.counter, self.node)
    }
}

/// Nodes, each in one of its lives.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Roster {
    nodes: NodeSet,
    /// One per node, ascending.
    lives: Vec<Incarnation, NODES_MAX>,
}

impl Roster {
    /// Nobody.
    pub const fn new() -> Self {
        Self { nodes: NodeSet::EMPTY, lives: Vec::new() }
    }

    /// Whether it is one that a correct node may have made: a message's content is checked with it.
    pub fn is_sound(&self) -> bool {
        self.lives.len() == self.nodes.len()
    }

    /// Its nodes.
    pub fn nodes(&self) -> NodeSet {
        self.nodes
    }

    /// A node's life in it.
    pub fn life(&self, node: NodeId) -> Option<Incarnation> {
        if !self.nodes.contains(node) {
            return None;
        }
        let below = NodeSet::first(node.get()).and(self.nodes).len();
        self.lives.get(below).copied()
    }

    /// Whether exactly that life is in it.
    pub fn has(&self, node: NodeId, life: Incarnation) -> bool {
        self.life(node) == Some(life)
    }

    /// Puts a node's life in, in place of any other of its lives.
    pub fn put(&mut self, node: NodeId, life: Incarnation) {
        self.remove(node);
        let below = NodeSet::first(node.get()).and(self.nodes).len();
        // Never full: one entry per node.
        if self.lives.insert(below, life).is_ok() {
            self.nodes.insert(node);
        }
    }

    /// Takes a node out.
    pub fn remove(&mut self, node: NodeId) {
        let below = NodeSet::first(node.get()).and(self.nodes).len();
        if self.nodes.remove(node) && below < self.lives.len() {
            self.lives.remove(below);
        }
    }

    /// Those that stand here in the same life as there.
    pub fn common(&self, other: &Self) -> NodeSet {
        self.iter().filter(|(n, life)| other.has(*n, *life)).map(|(n, _)| n).collect()
    }

    /// All, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, Incarnation)> + '_ {
        self.nodes.iter().zip(self.lives.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(id: u8) -> NodeId {
        NodeId::new(id).unwrap()
    }

    #[test]
    fn a_roster_keeps_each_node_with_its_life() {
        let mut r = Roster::new();
        for id in [5, 0, 63, 7, 5] {
            r.put(n(id), Incarnation(u32::from(id) + 10));
        }
        assert!(r.is_sound() && r.nodes().len() == 4);
        assert_eq!((r.life(n(0)), r.life(n(63)), r.life(n(6))), (Some(Incarnation(10)), Some(Incarnation(73)), None));
        r.put(n(7), Incarnation(1));
        r.remove(n(0));
        assert!(r.has(n(7), Incarnation(1)) && !r.has(n(7), Incarnation(17)) && r.life(n(0)).is_none());
        let mut other = r.clone();
        other.put(n(5), Incarnation(1));
        assert_eq!(r.common(&other), NodeSet::only(n(7)).with(n(63)));
    }

    #[test]
    fn epochs_of_two_nodes_never_meet_and_always_grow() {
        let first = EpochId { counter: 3, node: n(9) };
        let (a, b) = (first.next_for(n(1), 0), first.next_for(n(2), 0));
        assert!(first < a && a < b);
        assert_eq!(first.next_for(n(1), 100).counter, 100);
    }
}
