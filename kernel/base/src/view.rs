//! A view: the whole active membership at one moment of the cluster's one history.

use core::fmt;
use serde::{Deserialize, Serialize};

use crate::ballot::Ballot;
use crate::capacity::NODES_MAX;
use crate::id::{Incarnation, NodeId, NodeSet};
use crate::state::NodeState;

/// Names a view. Never by the number alone: two masters may each have tried the same number (DESIGN 4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
pub struct ViewName {
    /// The ballot under which it was accepted.
    pub ballot: Ballot,
    /// Its number, consecutive over the cluster's whole life; zero is the empty view before the first.
    pub number: u64,
}

/// State and incarnation of every node: the transient part of the membership database (EP p. 4, "active membership
/// state database").
///
/// Invariant: a node that is `Inactive` keeps the incarnation of its last life, so that an older one cannot come back.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct View {
    /// Consecutive over the cluster's whole life; zero before the first.
    pub number: u64,
    states: [NodeState; NODES_MAX],
    incarnations: [Incarnation; NODES_MAX],
    /// The nodes in each state but `Inactive`, kept beside `states`: they are asked for at every turn of an idle node.
    sets: [NodeSet; 4],
}

impl View {
    /// The view before the first: nobody is in.
    pub const EMPTY: Self = Self {
        number: 0,
        states: [NodeState::Inactive; NODES_MAX],
        incarnations: [Incarnation::NEVER; NODES_MAX],
        sets: [NodeSet::EMPTY; 4],
    };

    /// With these entries, node 0 first.
    pub fn new(number: u64, states: [NodeState; NODES_MAX], incarnations: [Incarnation; NODES_MAX]) -> Self {
        let mut sets = [NodeSet::EMPTY; 4];
        let (eights, _) = states.as_chunks::<8>();
        for (first, eight) in (0..).step_by(8).zip(eights) {
            // Most nodes of most clusters are not there.
            if eight.iter().fold(0, |any, state| any | *state as u8) == NodeState::Inactive as u8 {
                continue;
            }
            for (node, state) in (first..).zip(eight) {
                if let Some(set) = (*state as usize).checked_sub(1).and_then(|at| sets.get_mut(at)) {
                    set.0 |= 1 << node;
                }
            }
        }
        Self { number, states, incarnations, sets }
    }

    /// Nobody in, under a number.
    pub const fn empty(number: u64) -> Self {
        Self { number, ..Self::EMPTY }
    }

    /// The same content under the next number: to be changed before it is proposed.
    #[must_use]
    pub fn successor(&self) -> Self {
        Self { number: self.number + 1, ..self.clone() }
    }

    /// A node's state.
    pub fn state(&self, node: NodeId) -> NodeState {
        self.states[node.index()]
    }

    /// The incarnation that the state is about.
    pub fn incarnation(&self, node: NodeId) -> Incarnation {
        self.incarnations[node.index()]
    }

    /// Sets one entry.
    pub fn set(&mut self, node: NodeId, state: NodeState, incarnation: Incarnation) {
        self.states[node.index()] = state;
        for (number, set) in (1..).zip(&mut self.sets) {
            if state as usize == number {
                set.insert(node);
            } else {
                set.remove(node);
            }
        }
        self.incarnations[node.index()] = incarnation;
    }

    /// The nodes that are in one of `states`.
    pub fn nodes_in(&self, states: &[NodeState]) -> NodeSet {
        states.iter().fold(NodeSet::EMPTY, |all, state| all.or(self.set_of(*state)))
    }

    fn set_of(&self, state: NodeState) -> NodeSet {
        match self.sets.get((state as usize).wrapping_sub(1)) {
            Some(set) => *set,
            None => NodeSet(!self.sets.iter().fold(0, |all, set| all | set.0)),
        }
    }

    /// Joining, joined and leaving nodes.
    pub fn members(&self) -> NodeSet {
        self.nodes_in(&[NodeState::Joining, NodeState::Joined, NodeState::Leaving])
    }

    /// Joined nodes.
    pub fn joined(&self) -> NodeSet {
        self.set_of(NodeState::Joined)
    }

    /// Whether this very incarnation is joining, joined or leaving in it.
    pub fn has_member(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.state(node).is_member() && self.incarnation(node) == incarnation
    }

    /// Whether `incarnation` of `node` is shut out by it for good: it is being forced out or it is gone, or a later
    /// life stands in its place. An incarnation that is newer than the entry was never in.
    pub fn excludes(&self, node: NodeId, incarnation: Incarnation) -> bool {
        let entry = self.incarnation(node);
        entry > incarnation || (entry == incarnation && !self.state(node).is_member())
    }

    /// Same content; the number is not compared.
    pub fn same_content(&self, other: &Self) -> bool {
        self.states == other.states && self.incarnations == other.incarnations
    }
}

impl Default for View {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "view {} {{", self.number)?;
        for n in NodeId::all().filter(|n| self.incarnation(*n) != Incarnation::NEVER) {
            write!(f, " {:?}:{}:{:?}", n, self.state(n), self.incarnation(n))?;
        }
        f.write_str(" }")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_say_what_the_entries_say() {
        let mut view = View::EMPTY;
        let states =
            [NodeState::Joining, NodeState::Joined, NodeState::Leaving, NodeState::ForcedLeaving, NodeState::Inactive];
        for (turn, node) in NodeId::all().chain(NodeId::all()).enumerate() {
            view.set(node, states[turn * 7 % 5], Incarnation(1));
            for state in states {
                let wanted: NodeSet = NodeId::all().filter(|n| view.state(*n) == state).collect();
                assert_eq!(view.nodes_in(&[state]), wanted, "{state}");
            }
            let members: NodeSet = NodeId::all().filter(|n| view.state(*n).is_member()).collect();
            assert_eq!(view.members(), members);
            assert_eq!(View::new(view.number, view.states, view.incarnations), view);
        }
    }

    #[test]
    fn excludes_the_dead_and_the_replaced_but_not_the_unborn() {
        let n = NodeId::new(3).unwrap();
        let mut v = View::EMPTY;
        assert!(!v.excludes(n, Incarnation(1)));
        v.set(n, NodeState::Joined, Incarnation(2));
        assert!(v.excludes(n, Incarnation(1)));
        assert!(!v.excludes(n, Incarnation(2)));
        assert!(!v.excludes(n, Incarnation(3)));
        v.set(n, NodeState::ForcedLeaving, Incarnation(2));
        assert!(v.excludes(n, Incarnation(2)));
        v.set(n, NodeState::Inactive, Incarnation(2));
        assert!(v.excludes(n, Incarnation(2)));
        assert!(!v.excludes(n, Incarnation(3)));
    }
}
