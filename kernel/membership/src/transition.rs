//! One node's transition as the master drives it, and which state it makes at each level.

use quorate_base::{Incarnation, LevelOrder, NodeSet, NodeState, RoundId, Transition};

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
    /// For a forced leave: what the node was at `top` when it was forced out.
    pub was: NodeState,
    /// For a forced leave that aborts a join at `top`: the join's round, if it is known.
    pub aborts: Option<RoundId>,
    /// Who took part in that round: nobody else is told of the Joining that is overtaken.
    pub aborts_at: NodeSet,
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
            was: NodeState::Inactive,
            aborts: None,
            aborts_at: NodeSet::EMPTY,
            news: false,
        }
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
            At::Done => {
                return self.transition.after();
            }
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
            (Transition::ForcedLeaving, _, _) => match self.top {
                Some(top) if level < top => Joined,
                Some(top) if level == top => self.was,
                _ => Inactive,
            },
        }
    }

    /// What a forced leave of this node has to undo: the highest level that may have heard of it, its state there, and the
    /// join's round if it was in one. `highest` is the node's highest level, `below` its next level under a given one.
    pub fn heard(&self, below: impl Fn(LevelOrder) -> Option<LevelOrder>) -> Heard {
        match (self.transition, self.at) {
            (Transition::Joining, At::Running { level, round, .. }) => {
                Heard { top: Some(level), was: NodeState::Joining, aborts: Some(round) }
            }
            (Transition::Joining, At::Waiting(level)) => {
                Heard { top: below(level), was: NodeState::Joined, aborts: None }
            }
            (Transition::Leaving, At::Running { level, .. }) => {
                Heard { top: Some(level), was: NodeState::Leaving, aborts: None }
            }
            (Transition::Leaving, At::Waiting(level)) => {
                Heard { top: Some(level), was: NodeState::Joined, aborts: None }
            }
            (Transition::Leaving, At::Done) => Heard { top: None, was: NodeState::Inactive, aborts: None },
            (Transition::ForcedLeaving, _) => Heard { top: self.top, was: self.was, aborts: self.aborts },
            // A join that is through at every level: the caller knows the highest one.
            (Transition::Joining, At::Done) => {
                Heard { top: below(LevelOrder(u16::MAX)), was: NodeState::Joined, aborts: None }
            }
        }
    }
}

/// See [`Progress::heard`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// The highest level that may have heard of the node.
    pub top: Option<LevelOrder>,
    /// Its state there.
    pub was: NodeState,
    /// The round of the join that is aborted there.
    pub aborts: Option<RoundId>,
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
        assert_eq!(heard, Heard { top: Some(LevelOrder(52)), was: NodeState::Joining, aborts: Some(ROUND) });
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
            was: NodeState::Joining,
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
}
