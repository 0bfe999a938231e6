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

/// Whether `next` may be sent to a level that has been sent `last` (or is in that state) for the same node (EP Table 1,
/// column "allowed re-notifications").
pub const fn may_follow(last: NodeState, next: Transition) -> bool {
    match last {
        NodeState::Joining | NodeState::Leaving => matches!(next, Transition::ForcedLeaving),
        NodeState::ForcedLeaving => false,
        NodeState::Inactive => matches!(next, Transition::Joining),
        NodeState::Joined => matches!(next, Transition::ForcedLeaving | Transition::Leaving),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows: sent notification; columns: Joining, Leaving, Forced-Leaving as re-notification. Joined → Leaving is no
    /// re-notification but the start of a graceful leave (EP p. 6).
    #[test]
    fn ep_table_1_row_by_row() {
        let rows = [
            (NodeState::Joining, [false, false, true]),
            (NodeState::Leaving, [false, false, true]),
            (NodeState::ForcedLeaving, [false, false, false]),
            (NodeState::Inactive, [true, false, false]),
            (NodeState::Joined, [false, true, true]),
        ];
        for (last, allowed) in rows {
            for (next, want) in
                [Transition::Joining, Transition::Leaving, Transition::ForcedLeaving].into_iter().zip(allowed)
            {
                assert_eq!(may_follow(last, next), want, "{last} then {next}");
            }
        }
    }
}
