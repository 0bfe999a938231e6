//! One node's transition as the master drives it, and which state it makes at each level.
//!
//! A node has at most two at a time: its own, through all its levels, which a view shows; and a *local* one, at one level
//! that it registered or de-registers at run time, which no view shows (DESIGN 5). Each has a slot of its own, because the
//! forced leave of a level whose process died goes on beside a leave or forced leave of the node.

use quorate_base::capacity::NODES_MAX;
use quorate_base::{Incarnation, LevelOrder, NodeId, NodeSet, NodeState, RoundId, Transition};
use serde::{Deserialize, Serialize};

/// Places for transitions: of each node its own, then of each node the local one.
pub const SLOTS: usize = 2 * NODES_MAX;

/// The place of a node's local transition. Its own is at the node's index.
pub const fn local(node: NodeId) -> usize {
    NODES_MAX + node.index()
}

/// All places of the first `nodes` nodes, with whose they are.
pub fn slots(nodes: u8) -> impl Iterator<Item = (usize, NodeId)> {
    NodeId::first(nodes).flat_map(|n| [(n.index(), n), (local(n), n)])
}

/// What a forced leave finds at the one level where the node was not simply joined.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Overtaken {
    /// The level.
    pub level: LevelOrder,
    /// What the node was there: joining or leaving.
    pub was: NodeState,
    /// The round of the join that is aborted there, if it is known. A manager that took part in it and had not delivered
    /// the Joining yet delivers it first (DESIGN 5).
    pub round: Option<RoundId>,
}

/// Where a transition stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum At {
    /// Through at the levels before this one; not begun at it.
    Waiting(LevelOrder),
    /// In a round at a level.
    Running {
        /// The level.
        level: LevelOrder,
        /// The round.
        round: RoundId,
        /// The barrier that is out.
        barrier: u8,
        /// Who has not acknowledged it.
        awaiting: NodeSet,
    },
    /// Through at every level; the view that says so is to be committed.
    Done,
}

/// One node's transition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Progress {
    /// Which.
    pub transition: Transition,
    /// Of which life.
    pub incarnation: Incarnation,
    /// Where it stands.
    pub at: At,
    /// For a forced leave: the highest level that may have heard of the node; `None` if none has.
    pub top: Option<LevelOrder>,
    /// For a forced leave: the step that it overtakes.
    pub overtakes: Option<Overtaken>,
    /// Who took part in the round of an overtaken join: nobody else is told of that Joining.
    pub aborts_at: NodeSet,
    /// The one level that it is about, if it is local.
    pub only: Option<LevelOrder>,
    /// Local, and all have acknowledged: the managers are told so, because no later step and no view says it.
    pub ending: bool,
    /// There is something new to tell the participants.
    pub news: bool,
}

impl Progress {
    /// A join or graceful leave that begins at `level` (or ends at once where there is none).
    pub fn new(transition: Transition, incarnation: Incarnation, level: Option<LevelOrder>) -> Self {
        Self {
            transition,
            incarnation,
            at: level.map_or(At::Done, At::Waiting),
            top: None,
            overtakes: None,
            aborts_at: NodeSet::EMPTY,
            only: None,
            ending: false,
            news: false,
        }
    }

    /// A transition at one level alone.
    pub fn local(transition: Transition, incarnation: Incarnation, level: LevelOrder) -> Self {
        Self { only: Some(level), top: Some(level), ..Self::new(transition, incarnation, Some(level)) }
    }

    /// The level where it stands, if it is not through.
    pub fn level(&self) -> Option<LevelOrder> {
        match self.at {
            At::Waiting(level) | At::Running { level, .. } => Some(level),
            At::Done => None,
        }
    }

    /// Whether a notification of it is outstanding somewhere.
    pub fn is_running(&self) -> bool {
        matches!(self.at, At::Running { .. })
    }

    /// A forced leave that has not passed `level` yet and will touch it.
    pub fn blocks(&self, level: LevelOrder) -> bool {
        self.transition == Transition::ForcedLeaving
            && self.top.is_some_and(|top| level <= top)
            && self.level().is_some_and(|at| at <= level)
    }

    /// The node's state at one of its levels.
    pub fn state_at(&self, level: LevelOrder) -> NodeState {
        use NodeState::{ForcedLeaving, Inactive, Joined, Joining, Leaving};
        use core::cmp::Ordering::{Equal, Greater, Less};
        let (at, running) = match self.at {
            At::Done => return self.transition.after(),
            At::Running { .. } if self.ending => return self.transition.after(),
            At::Waiting(at) => (at, false),
            At::Running { level: at, .. } => (at, true),
        };
        match (self.transition, level.cmp(&at), running) {
            (Transition::Joining, Less, _) => Joined,
            (Transition::Joining, Equal, true) => Joining,
            (Transition::Joining, _, _) => Inactive,
            (Transition::Leaving, Less, _) | (Transition::Leaving, Equal, false) => Joined,
            (Transition::Leaving, Equal, true) => Leaving,
            (Transition::Leaving, Greater, _) => Inactive,
            (Transition::ForcedLeaving, Less, _) => Inactive,
            (Transition::ForcedLeaving, Equal, true) => ForcedLeaving,
            (Transition::ForcedLeaving, _, _) => match self.overtakes {
                Some(o) if o.level == level => o.was,
                _ if self.top.is_some_and(|top| level <= top) => Joined,
                _ => Inactive,
            },
        }
    }

    /// What a forced leave of this node has to undo: the highest level that may have heard of it, and the step that it
    /// overtakes. `below` is the node's next level under a given one.
    pub fn heard(&self, below: impl Fn(LevelOrder) -> Option<LevelOrder>) -> Heard {
        let top = match (self.transition, self.at) {
            (Transition::Joining, At::Waiting(level)) => below(level),
            // A join that is through at every level: up to the highest one.
            (Transition::Joining, At::Done) => below(LevelOrder(u16::MAX)),
            (Transition::Leaving, At::Done) => None,
            (Transition::ForcedLeaving, _) => self.top,
            (_, At::Running { level, .. }) | (Transition::Leaving, At::Waiting(level)) => Some(level),
        };
        Heard { top, overtakes: self.under_way() }
    }

    /// The step that a forced leave of this node overtakes, if there is one.
    pub fn under_way(&self) -> Option<Overtaken> {
        match (self.transition, self.at) {
            (Transition::ForcedLeaving, _) => self.overtakes,
            (_, At::Waiting(_) | At::Done) => None,
            (_, At::Running { .. }) if self.ending => None,
            (Transition::Joining, At::Running { level, round, .. }) => {
                Some(Overtaken { level, was: NodeState::Joining, round: Some(round) })
            }
            (Transition::Leaving, At::Running { level, .. }) => {
                Some(Overtaken { level, was: NodeState::Leaving, round: None })
            }
        }
    }
}

/// See [`Progress::heard`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// The highest level that may have heard of the node.
    pub top: Option<LevelOrder>,
    /// The step that the forced leave overtakes.
    pub overtakes: Option<Overtaken>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_base::Ballot;

    const ROUND: RoundId = RoundId { ballot: Ballot(65), sequence: 1 };
    fn running(level: u16) -> At {
        At::Running { level: LevelOrder(level), round: ROUND, barrier: 0, awaiting: NodeSet::EMPTY }
    }
    fn below(level: LevelOrder) -> Option<LevelOrder> {
        [52, 50, 48, 0].into_iter().map(LevelOrder).find(|l| *l < level)
    }

    /// EP p. 7: DLM (48) and VDM (50) are through, SFS (52) hangs: the forced leave goes up to SFS.
    #[test]
    fn ep_fig_13_to_15_the_forced_leave_goes_as_high_as_the_join_was_heard() {
        let mut p = Progress::new(Transition::Joining, Incarnation(2), Some(LevelOrder(0)));
        p.at = running(52);
        let heard = p.heard(below);
        let join = Overtaken { level: LevelOrder(52), was: NodeState::Joining, round: Some(ROUND) };
        assert_eq!(heard, Heard { top: Some(LevelOrder(52)), overtakes: Some(join) });
        p.at = At::Waiting(LevelOrder(52));
        assert_eq!(p.heard(below).top, Some(LevelOrder(50)));
        p.at = At::Waiting(LevelOrder(0));
        assert_eq!(p.heard(below).top, None);
    }

    #[test]
    fn a_leaving_node_is_forced_out_up_to_the_level_that_still_has_it() {
        let mut p = Progress::new(Transition::Leaving, Incarnation(2), Some(LevelOrder(52)));
        p.at = running(50);
        assert_eq!(p.heard(below).top, Some(LevelOrder(50)));
        assert_eq!(p.state_at(LevelOrder(52)), NodeState::Inactive);
        assert_eq!(p.state_at(LevelOrder(50)), NodeState::Leaving);
        assert_eq!(p.state_at(LevelOrder(48)), NodeState::Joined);
    }

    #[test]
    fn a_forced_leave_shows_the_old_state_above_where_it_stands() {
        let p = Progress {
            top: Some(LevelOrder(52)),
            overtakes: Some(Overtaken { level: LevelOrder(52), was: NodeState::Joining, round: None }),
            at: running(50),
            ..Progress::new(Transition::ForcedLeaving, Incarnation(2), None)
        };
        assert_eq!(p.state_at(LevelOrder(48)), NodeState::Inactive);
        assert_eq!(p.state_at(LevelOrder(50)), NodeState::ForcedLeaving);
        assert_eq!(p.state_at(LevelOrder(52)), NodeState::Joining);
        assert_eq!(p.state_at(LevelOrder(100)), NodeState::Inactive);
        assert!(p.blocks(LevelOrder(52)) && p.blocks(LevelOrder(50)));
        assert!(!p.blocks(LevelOrder(48)) && !p.blocks(LevelOrder(100)));
    }

    #[test]
    fn a_local_transition_that_is_ending_shows_its_end() {
        let mut p = Progress::local(Transition::Joining, Incarnation(2), LevelOrder(100));
        assert_eq!(p.state_at(LevelOrder(100)), NodeState::Inactive);
        p.at = running(100);
        assert_eq!(p.state_at(LevelOrder(100)), NodeState::Joining);
        assert_eq!(p.under_way().map(|o| o.was), Some(NodeState::Joining));
        p.ending = true;
        assert_eq!(p.state_at(LevelOrder(100)), NodeState::Joined);
        assert_eq!(p.under_way(), None);
    }
}
