//! What a level is told: its whole state vector plus what changed (DESIGN 5, EP Table 1).
//!
//! EP Table 1 as data: which notification may follow which while a level still works on it.

use heapless::Vec;
use quorate_base::capacity::NODES_MAX;
use quorate_base::event::Subject;
use quorate_base::{Incarnation, LevelOrder, NodeId, NodeSet, NodeState, RoundId, Transition};

/// The state of every node as one level sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StateVector([NodeState; NODES_MAX]);

impl StateVector {
    /// Everybody inactive.
    pub const EMPTY: Self = Self([NodeState::Inactive; NODES_MAX]);

    /// One node's state.
    pub fn state(&self, node: NodeId) -> NodeState {
        self.0[node.index()]
    }

    /// Sets one node's state; the former one is given back.
    pub fn set(&mut self, node: NodeId, state: NodeState) -> NodeState {
        core::mem::replace(&mut self.0[node.index()], state)
    }

    /// Nodes that are not inactive.
    pub fn present(&self) -> NodeSet {
        NodeId::all().filter(|n| self.state(*n) != NodeState::Inactive).collect()
    }
}

/// One thing that a level must work on and acknowledge.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Change {
    /// Whose transition, and which.
    pub subject: Subject,
    /// In which round.
    pub round: RoundId,
    /// Which barrier, from 0.
    pub barrier: u8,
    /// Overtaken at once by a later change of the same notification: nothing to do for it, nothing to acknowledge.
    pub overtaken: bool,
}

/// What a level's thread of control gets when it stops waiting.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Notification {
    /// The level.
    pub level: LevelOrder,
    /// All nodes at this level.
    pub vector: StateVector,
    /// The incarnations that the vector is about.
    pub incarnations: [Incarnation; NODES_MAX],
    /// What changed; each that is not overtaken is to be acknowledged. Room for every node's change and for those that
    /// were overtaken at once.
    pub changes: Vec<Change, { 2 * NODES_MAX }>,
    /// With the first join after a formation: nodes whose last life did not end cleanly; what they owned is to be
    /// recovered before the join is acknowledged.
    pub recover: NodeSet,
}

/// A row of EP Table 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// What was sent to the level (or is known to it) of a node.
    pub sent: NodeState,
    /// The node's state once all have acknowledged.
    pub after: NodeState,
    /// What may be sent while the level still works on it, or without any work in between.
    pub again: &'static [Transition],
    /// What may begin once it is acknowledged by all, besides: no re-notification (EP p. 6, graceful leave).
    pub begins: &'static [Transition],
    /// It may be sent by itself; else only along with real transitions of other nodes.
    pub alone: bool,
}

/// EP Table 1: "sent notification", "new state after all nodes have acknowledged", "allowed re-notifications", notes.
pub const TABLE_1: [Row; 5] = [
    Row {
        sent: NodeState::Joining,
        after: NodeState::Joined,
        again: &[Transition::ForcedLeaving],
        begins: &[],
        alone: true,
    },
    Row {
        sent: NodeState::Leaving,
        after: NodeState::Inactive,
        again: &[Transition::ForcedLeaving],
        begins: &[],
        alone: true,
    },
    Row { sent: NodeState::ForcedLeaving, after: NodeState::Inactive, again: &[], begins: &[], alone: true },
    Row {
        sent: NodeState::Inactive,
        after: NodeState::Inactive,
        again: &[Transition::Joining],
        begins: &[],
        alone: false,
    },
    Row {
        sent: NodeState::Joined,
        after: NodeState::Joined,
        again: &[Transition::ForcedLeaving],
        begins: &[Transition::Leaving],
        alone: false,
    },
];

/// The row of what was sent last.
pub const fn row(sent: NodeState) -> &'static Row {
    match sent {
        NodeState::Joining => &TABLE_1[0],
        NodeState::Leaving => &TABLE_1[1],
        NodeState::ForcedLeaving => &TABLE_1[2],
        NodeState::Inactive => &TABLE_1[3],
        NodeState::Joined => &TABLE_1[4],
    }
}

/// Whether `next` may be sent to a level that has been sent `last` for the same node, or has it in that state. The manager
/// asks this at the one place where a step takes the place of what the level knew
/// ([`Member::on_notify`](crate::Member::on_notify)).
pub fn may_follow(last: NodeState, next: Transition) -> bool {
    let row = row(last);
    row.again.contains(&next) || row.begins.contains(&next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ep_table_1_has_a_row_for_every_state() {
        for state in (0..5).filter_map(NodeState::from_u8) {
            assert_eq!(row(state).sent, state);
        }
        for transition in [Transition::Joining, Transition::Leaving, Transition::ForcedLeaving] {
            assert_eq!(row(transition.during()).after, transition.after());
            assert!(row(transition.during()).alone);
        }
    }
}
