//! What the rounds and barriers must keep, judged from the events that the nodes trace, as they come. Written from the
//! requirements, not from the code: a small memory of who was told what and who acknowledged it.

use std::collections::{BTreeMap, BTreeSet};

use quorate_base::event::{Event, Members, Record, StepEvent, Subject};
use quorate_base::{Barriers, Incarnation, LevelOrder, NodeId, NodeSet, NodeState, RoundId, Transition};

use crate::explore::Violation;

/// No step is told twice to the same level (DESIGN 5).
pub const ONCE: &str = "no level sees a step twice";
/// EP p. 8, MISSION A6.
pub const BARRIERS: &str = "all acknowledge barrier b before b + 1";
/// MISSION A4.
pub const LEVELS: &str = "no level before every participant's level before it has acknowledged";
/// DESIGN 5: a round's participants are fixed, a notification is one of its.
pub const ROUNDS: &str = "a round is what it was when it began";
/// DESIGN 5: the master commits a view for each change of overall state, before anybody is told.
pub const COMMITTED: &str = "nobody is told of a transition that is not committed";
/// DESIGN 4.
pub const HISTORY: &str = "one history of views";
/// DESIGN 5, MISSION B3.
pub const THROUGH: &str = "a view ends no transition that is not through everywhere";
/// DESIGN 5: joins and leaves not yet begun at a level wait for a forced leave there.
pub const FORCED_FIRST: &str = "no join or leave begins at a level with a forced leave outstanding";
/// DESIGN 7.
pub const FENCED: &str = "no forced leave at level 20 or above before the fence";
/// EP Table 1.
pub const TABLE_1: &str = "only what EP Table 1 allows follows a notification";
/// MISSION A10.
pub const NO_TRACE: &str = "a forced leave goes no higher than the node was heard of";

/// All of them, with the liveness of the model.
pub const INVARIANTS: [&str; 12] =
    [ONCE, BARRIERS, LEVELS, ROUNDS, COMMITTED, HISTORY, THROUGH, FORCED_FIRST, FENCED, TABLE_1, NO_TRACE, SETTLES];
/// DESIGN 9.
pub const SETTLES: &str = "when faults stop, every transition completes and all agree";

/// One transition of one life at one level.
type Passage = (LevelOrder, NodeId, Incarnation, Transition);

/// Who was told a barrier, and who acknowledged it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
struct Barrier {
    told: NodeSet,
    acked: NodeSet,
}

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Passing {
    participants: NodeSet,
    barriers: Vec<Barrier>,
}

/// The memory.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Monitor {
    rounds: BTreeMap<RoundId, (LevelOrder, Vec<Subject>, NodeSet)>,
    passages: BTreeMap<Passage, Passing>,
    views: BTreeMap<u64, Members>,
    /// The newest view that each node adopted.
    adopted: BTreeMap<NodeId, u64>,
    /// What each node's level was told last of each life.
    last: BTreeMap<(NodeId, LevelOrder, NodeId, Incarnation), Transition>,
    fenced: BTreeSet<(NodeId, Incarnation)>,
    /// The levels and their barriers.
    counts: BTreeMap<LevelOrder, Barriers>,
}

impl Monitor {
    /// Nodes that are members of the newest view.
    fn members(&self) -> NodeSet {
        let Some((_, members)) = self.views.last_key_value() else { return NodeSet::EMPTY };
        NodeId::all().zip(members).filter(|(_, (state, _))| state.is_member()).map(|(n, _)| n).collect()
    }

    fn newest(&self, node: NodeId) -> Option<(NodeState, Incarnation)> {
        self.views.last_key_value().and_then(|(_, members)| members.get(node.index()).copied())
    }

    /// Whether an event says anything to it.
    pub fn judges(record: &Record<'_>) -> bool {
        matches!(
            record.event,
            Event::Register { .. }
                | Event::Round { .. }
                | Event::Notify(_)
                | Event::Ack(_)
                | Event::View { .. }
                | Event::Boot { .. }
                | Event::Fence { .. }
        )
    }

    /// Takes one event. One that it does not judge changes nothing.
    ///
    /// # Errors
    /// The invariant that it breaks.
    pub fn take(&mut self, node: NodeId, record: &Record<'_>) -> Result<(), Violation> {
        match &record.event {
            Event::Register { level, barriers, .. } => {
                self.counts.insert(*level, *barriers);
                Ok(())
            }
            Event::Round { level, round, transitions, participants } => {
                self.round(*level, *round, transitions, *participants)
            }
            Event::Notify(step) => self.notify(node, step),
            Event::Ack(step) => self.ack(node, step),
            Event::View { name, members } => {
                let newest = self.adopted.entry(node).or_default();
                *newest = name.number.max(*newest);
                self.view(name.number, members)
            }
            Event::Boot { .. } => {
                self.adopted.remove(&node);
                Ok(())
            }
            Event::Fence { peer, incarnation, .. } => {
                self.fenced.insert((*peer, *incarnation));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn round(
        &mut self,
        level: LevelOrder,
        round: RoundId,
        subjects: &[Subject],
        participants: NodeSet,
    ) -> Result<(), Violation> {
        if let Some(known) = self.rounds.get(&round) {
            if *known != (level, subjects.to_vec(), participants) {
                return Err(Violation::new(ROUNDS, format!("round {round} at level {level} became another")));
            }
            return Ok(());
        }
        self.rounds.insert(round, (level, subjects.to_vec(), participants));
        let graceful = subjects.iter().any(|s| s.transition != Transition::ForcedLeaving && self.is_current(s));
        // Rounds that no survivor knows never existed (DESIGN 5): nobody who is left has anything of this one to undo.
        let is_known = |p: &Passing| p.barriers.iter().any(|b| !b.told.and(self.members()).is_empty());
        let outstanding = self.passages.iter().find(|((l, n, i, t), p)| {
            *l == level
                && is_known(p)
                && *t == Transition::ForcedLeaving
                && !self.is_through(*l, *t, p)
                && self.newest(*n) == Some((NodeState::ForcedLeaving, *i))
        });
        match outstanding {
            Some(((_, n, _, _), _)) if graceful => {
                let what = format!("round {round} begins at level {level} while node {n} is being forced out there");
                Err(Violation::new(FORCED_FIRST, what))
            }
            _ => Ok(()),
        }
    }

    /// Whether the newest view has the subject in that transition: a join that is named only to be aborted is not.
    fn is_current(&self, subject: &Subject) -> bool {
        self.newest(subject.node) == Some((subject.transition.during(), subject.incarnation))
    }

    fn is_through(&self, level: LevelOrder, transition: Transition, passing: &Passing) -> bool {
        let count = self.counts.get(&level).map_or(1, |b| b.of(transition));
        let awaited = passing.participants.and(self.members());
        passing.barriers.len() >= usize::from(count)
            && passing.barriers.last().is_some_and(|last| awaited.is_subset(last.acked))
    }

    fn notify(&mut self, node: NodeId, step: &StepEvent<'_>) -> Result<(), Violation> {
        let Subject { node: subject, incarnation, transition } = step.subject;
        let text = || {
            let (level, b, round) = (step.level, step.barrier, step.round);
            format!("node {node}, level {level}: node {subject} {transition} barrier {b} of round {round}")
        };
        let participants = match self.rounds.get(&step.round) {
            Some((level, subjects, participants))
                if *level == step.level && subjects.contains(&step.subject) && participants.contains(node) =>
            {
                *participants
            }
            _ => return Err(Violation::new(ROUNDS, text())),
        };
        self.table_1(node, step).map_err(|what| Violation::new(TABLE_1, format!("{}: {what}", text())))?;
        let adopted = self.adopted.get(&node).and_then(|number| self.views.get(number));
        let entry = adopted.and_then(|members| members.get(subject.index()).copied());
        let aborted = entry != Some((transition.during(), incarnation));
        if aborted && (transition != Transition::Joining || entry != Some((NodeState::ForcedLeaving, incarnation))) {
            return Err(Violation::new(COMMITTED, text()));
        }
        let passage = (step.level, subject, incarnation, transition);
        if transition == Transition::ForcedLeaving {
            let fenced = self.fenced.contains(&(subject, incarnation));
            if step.level >= LevelOrder::FENCED_FROM && !fenced {
                return Err(Violation::new(FENCED, text()));
            }
        }
        if !aborted {
            self.order(&passage).map_err(|what| Violation::new(LEVELS, format!("{}: {what}", text())))?;
        }
        let members = self.members();
        let passing = self.passages.entry(passage).or_default();
        passing.participants = passing.participants.or(participants);
        let b = usize::from(step.barrier);
        if passing.barriers.len() < b + 1 {
            passing.barriers.resize(b + 1, Barrier::default());
        }
        if let Some(before) = b.checked_sub(1).and_then(|before| passing.barriers.get(before)) {
            let missing = participants.and(members).minus(before.acked);
            if !missing.is_empty() {
                return Err(Violation::new(BARRIERS, format!("{}: not acknowledged before by {missing}", text())));
            }
        }
        if !passing.barriers[b].told.insert(node) {
            return Err(Violation::new(ONCE, text()));
        }
        Ok(())
    }

    /// EP Table 1: what a level may be told after what it was told last of that life.
    fn table_1(&mut self, node: NodeId, step: &StepEvent<'_>) -> Result<(), String> {
        let key = (node, step.level, step.subject.node, step.subject.incarnation);
        let next = step.subject.transition;
        let last = self.last.insert(key, next);
        match (last, next) {
            (None, _) | (Some(Transition::Joining | Transition::Leaving), Transition::ForcedLeaving) => Ok(()),
            (Some(last), next) if last == next => Ok(()),
            (Some(Transition::Joining), Transition::Leaving) => Ok(()),
            (Some(last), next) => Err(format!("after {last} comes {next}")),
        }
    }

    /// The level before this one must be through.
    fn order(&self, (level, subject, incarnation, transition): &Passage) -> Result<(), String> {
        let before = |l: &&LevelOrder| if transition.is_bottom_up() { **l < *level } else { **l > *level };
        let previous =
            if transition.is_bottom_up() { self.counts.keys().rfind(before) } else { self.counts.keys().find(before) };
        let Some(previous) = previous else { return Ok(()) };
        let passing = self.passages.get(&(*previous, *subject, *incarnation, *transition));
        match passing {
            Some(p) if self.is_through(*previous, *transition, p) => Ok(()),
            Some(_) => Err(format!("level {previous} is not through")),
            // A leave that reverses a join begins where the join was.
            None if *transition == Transition::Leaving
                && !self.passages.contains_key(&(*previous, *subject, *incarnation, Transition::Joining)) =>
            {
                Ok(())
            }
            None => Err(format!("level {previous} was left out")),
        }
    }

    fn ack(&mut self, node: NodeId, step: &StepEvent<'_>) -> Result<(), Violation> {
        let passage = (step.level, step.subject.node, step.subject.incarnation, step.subject.transition);
        let barrier = self.passages.get_mut(&passage).and_then(|p| p.barriers.get_mut(usize::from(step.barrier)));
        if barrier.is_some_and(|b| b.told.contains(node) && b.acked.insert(node)) {
            return Ok(());
        }
        Err(Violation::new(ONCE, format!("node {node} acknowledges what it was not told: {passage:?}")))
    }

    fn view(&mut self, number: u64, members: &Members) -> Result<(), Violation> {
        if let Some(known) = self.views.get(&number) {
            let same = known == members;
            return if same { Ok(()) } else { Err(Violation::new(HISTORY, format!("view {number} has two contents"))) };
        }
        let old = self.views.get(&number.wrapping_sub(1)).cloned().unwrap_or_default();
        for (n, (state, incarnation)) in NodeId::all().zip(members) {
            let before = old.get(n.index()).copied().unwrap_or_default();
            if before.1 == *incarnation && before.0 != *state {
                self.ended(n, *incarnation, before.0, *state)
                    .map_err(|what| Violation::new(THROUGH, format!("view {number}, node {n}: {what}")))?;
            }
        }
        self.views.insert(number, members.clone());
        Ok(())
    }

    /// A transition that a view ends must be through at all levels that it concerns.
    fn ended(&self, n: NodeId, incarnation: Incarnation, was: NodeState, is: NodeState) -> Result<(), String> {
        let transition = match (was, is) {
            (NodeState::Joining, NodeState::Joined) => Transition::Joining,
            (NodeState::Leaving, NodeState::Inactive) => Transition::Leaving,
            (NodeState::ForcedLeaving, NodeState::Inactive) => Transition::ForcedLeaving,
            _ => return Ok(()),
        };
        let members = self.members();
        for level in self.counts.keys() {
            let heard_by = |t: Transition| {
                let told = self
                    .passages
                    .get(&(*level, n, incarnation, t))
                    .map(|p| p.barriers.iter().fold(NodeSet::EMPTY, |s, b| s.or(b.told)));
                told.unwrap_or_default().and(members).without(n)
            };
            let joined_here = !heard_by(Transition::Joining).is_empty();
            let left = self.passages.get(&(*level, n, incarnation, Transition::Leaving));
            let is_out = left.is_some_and(|p| self.is_through(*level, Transition::Leaving, p));
            let concerned = match transition {
                Transition::Joining => true,
                Transition::Leaving => joined_here,
                Transition::ForcedLeaving => joined_here && !is_out,
            };
            let passing = self.passages.get(&(*level, n, incarnation, transition));
            if concerned && !passing.is_some_and(|p| self.is_through(*level, transition, p)) {
                return Err(format!("{transition} is not through at level {level}"));
            }
            // What nobody alive heard of needs no undoing, and what was never told cannot be undone.
            if transition == Transition::ForcedLeaving
                && passing.is_some()
                && !self.passages.contains_key(&(*level, n, incarnation, Transition::Joining))
            {
                return Err(format!("{NO_TRACE}: level {level} never heard of it"));
            }
        }
        Ok(())
    }
}
