//! What was said so far about levels, rounds, notifications and acknowledgements, and the one question that most rules
//! ask: who has not acknowledged yet?

use crate::form::Lives;
use crate::history::History;
use crate::line::{Barriers, Life, NodeState, RoundName, StepEvent, Transition};
use crate::map::Map;
use crate::steps::USER_FROM;
use std::collections::{BTreeMap, BTreeSet};

/// One step of a subject's transition at a level, whatever the round.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Step {
    pub(crate) level: u16,
    pub(crate) subject: Life,
    pub(crate) transition: Transition,
    pub(crate) barrier: u32,
}

impl From<&StepEvent> for Step {
    fn from(e: &StepEvent) -> Self {
        Self { level: e.level, subject: e.subject, transition: e.transition, barrier: e.barrier }
    }
}

/// A level on a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Registered {
    pub(crate) name: String,
    pub(crate) barriers: Barriers,
    pub(crate) lc: u64,
    pub(crate) gone_lc: Option<u64>,
    /// Registered when the node had begun to act: it joins by itself.
    pub(crate) at_run_time: bool,
    /// Its join has not begun: what the trace says of the level on this node is about an earlier registration.
    pub(crate) waits: bool,
}

/// A round, as first issued.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Round {
    pub(crate) level: u16,
    pub(crate) transitions: BTreeSet<(Life, Transition)>,
    /// The participants, with the incarnation that they had in the master's view.
    pub(crate) participants: BTreeMap<u8, Option<u32>>,
    /// The newest ballot under which it was issued.
    pub(crate) issued: u64,
    /// When it was begun.
    pub(crate) lc: u64,
}

impl Round {
    /// The participants whose incarnation is known.
    pub(crate) fn lives(&self) -> impl Iterator<Item = Life> + '_ {
        self.participants.iter().filter_map(|(node, inc)| Some(Life { node: *node, inc: (*inc)? }))
    }
}

/// Whether all that had to acknowledge have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// All that could be asked have; the last of them at this Lamport clock.
    Through(u64),
    /// These have not.
    Missing(Vec<u8>),
    /// No round of it is known.
    NoRound,
}

/// The facts.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) registered: Map<Life, BTreeMap<u16, Registered>>,
    pub(crate) rounds: Map<RoundName, Round>,
    /// All rounds of a transition at a level, by name.
    of: Map<(Life, Transition, u16), BTreeSet<RoundName>>,
    levels: Map<(Life, Transition), BTreeSet<u16>>,
    pub(crate) notified: Map<(Life, Step), RoundName>,
    /// Lives that were notified of a transition at a level.
    knowing: Map<(Life, Transition, u16), Vec<Life>>,
    /// What was notified and not acknowledged, by subject.
    open: Map<Life, Vec<(Life, Step)>>,
    acked: Map<(Life, RoundName, Step), u64>,
    acked_by: Map<(Life, Step), u64>,
    through: Map<(RoundName, Step), u64>,
    pub(crate) tolerated: u64,
}

/// What a question about missing acknowledgements is asked against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    pub(crate) lc: u64,
    pub(crate) history: &'a History,
    pub(crate) lives: &'a Lives,
}

impl Ledger {
    /// A level as `life` registered it and has not taken back before `lc`, once its join has begun.
    pub(crate) fn level(&self, life: Life, level: u16, lc: u64) -> Option<&Registered> {
        self.registered.get(&life)?.get(&level).filter(|r| !r.waits && r.gone_lc.is_none_or(|gone| gone > lc))
    }

    /// A new round.
    pub(crate) fn add_round(&mut self, name: RoundName, round: Round) {
        for (subject, transition) in &round.transitions {
            self.of.entry((*subject, *transition, round.level)).or_default().insert(name);
            self.levels.entry((*subject, *transition)).or_default().insert(round.level);
        }
        self.rounds.insert(name, round);
    }

    /// Levels that have, or had, a round for this transition, under any ballot up to this.
    pub(crate) fn levels_of(&self, subject: Life, transition: Transition, ballot: u64) -> Vec<u16> {
        let levels = self.levels.get(&(subject, transition)).into_iter().flatten().copied();
        levels.filter(|l| self.newest(subject, transition, *l, ballot).is_some()).collect()
    }

    /// The newest round of a transition at a level that a ballot up to this began. A deposed master that does not know it
    /// yet goes on from its own rounds; its successor's mean nothing to it.
    pub(crate) fn newest(&self, subject: Life, transition: Transition, level: u16, ballot: u64) -> Option<RoundName> {
        let limit = RoundName { ballot, sequence: u64::MAX };
        self.of.get(&(subject, transition, level))?.range(..=limit).next_back().copied()
    }

    /// The newest round of a transition at a level that began before `lc`.
    pub(crate) fn newest_begun(
        &self,
        (subject, transition, level): (Life, Transition, u16),
        lc: u64,
    ) -> Option<RoundName> {
        let began = |name: &&RoundName| self.rounds.get(name).is_some_and(|round| round.lc < lc);
        self.of.get(&(subject, transition, level))?.iter().rev().find(began).copied()
    }

    /// Lives that were notified of a transition at a level.
    pub(crate) fn knowing(&self, subject: Life, transition: Transition, level: u16) -> &[Life] {
        self.knowing.get(&(subject, transition, level)).map_or(&[], Vec::as_slice)
    }

    /// Whether `life` was notified of the transition at the level.
    pub(crate) fn was_notified(&self, life: Life, level: u16, subject: Life, transition: Transition) -> bool {
        self.knowing(subject, transition, level).contains(&life)
    }

    /// What of this subject was notified and not acknowledged.
    pub(crate) fn open(&self, subject: Life) -> &[(Life, Step)] {
        self.open.get(&subject).map_or(&[], Vec::as_slice)
    }

    /// Everything that was notified and not acknowledged.
    pub(crate) fn all_open(&self) -> impl Iterator<Item = &(Life, Step)> {
        self.open.values().flatten()
    }

    /// A notification. False if the same step was notified to this life before.
    pub(crate) fn add_notify(&mut self, life: Life, event: &StepEvent) -> bool {
        let step = Step::from(event);
        let knowing = self.knowing.entry((event.subject, event.transition, event.level)).or_default();
        if !knowing.contains(&life) {
            knowing.push(life);
        }
        let open = self.open.entry(event.subject).or_default();
        // A newer step of the same subject at that level overtakes: nobody waits for the older one (Table 1).
        open.retain(|(who, old)| *who != life || old.level != event.level);
        open.push((life, step));
        self.notified.insert((life, step), event.round).is_none()
    }

    /// An acknowledgement. False if there was one already.
    pub(crate) fn add_ack(&mut self, life: Life, event: &StepEvent, lc: u64) -> bool {
        let step = Step::from(event);
        if let Some(open) = self.open.get_mut(&event.subject) {
            open.retain(|known| *known != (life, step));
        }
        self.acked_by.insert((life, step), lc);
        self.acked.insert((life, event.round, step), lc).is_none()
    }

    /// Whether `life` acknowledged this step.
    pub(crate) fn has_acked(&self, life: Life, step: Step) -> bool {
        self.acked_by.contains_key(&(life, step))
    }

    /// Whether `life` acknowledged the last barrier of a transition at a level before `lc`.
    pub(crate) fn acked_last(&self, life: Life, level: u16, subject: Life, transition: Transition, lc: u64) -> bool {
        let Some(registered) = self.registered.get(&life).and_then(|l| l.get(&level)) else { return false };
        let barrier = registered.barriers.of(transition) - 1;
        self.acked_by.get(&(life, Step { level, subject, transition, barrier })).is_some_and(|at| *at < lc)
    }

    /// Who has not acknowledged this step of this round before `at.lc`, though he had to.
    pub(crate) fn missing(&mut self, name: RoundName, step: Step, at: At<'_>) -> Progress {
        if let Some(lc) = self.through.get(&(name, step)).filter(|lc| **lc < at.lc) {
            return Progress::Through(*lc);
        }
        let Some(round) = self.rounds.get(&name) else { return Progress::NoRound };
        let (mut missing, mut last, mut excused) = (Vec::new(), 0, false);
        for (node, inc) in &round.participants {
            let Some(inc) = inc else {
                excused = true;
                continue;
            };
            let life = Life { node: *node, inc: *inc };
            match self.acked.get(&(life, name, step)).filter(|lc| **lc < at.lc) {
                Some(lc) => last = last.max(*lc),
                None if self.is_struck(life, step.level, name, at) || self.never_knew(life, step, at) => excused = true,
                None if at.history.cut(life, at.lc, at.lives) => {
                    excused = true;
                    self.tolerated += 1;
                }
                None => missing.push(*node),
            }
        }
        if !missing.is_empty() {
            return Progress::Missing(missing);
        }
        if !excused {
            self.through.insert((name, step), last);
        }
        Progress::Through(last)
    }

    /// Whether the last barrier of a transition at a level is through, by its newest round up to `ballot`.
    pub(crate) fn transition_through(
        &mut self,
        (subject, transition, level): (Life, Transition, u16),
        ballot: u64,
        at: At<'_>,
    ) -> Progress {
        let Some(name) = self.newest(subject, transition, level, ballot) else { return Progress::NoRound };
        self.round_through(name, subject, transition, at)
    }

    /// Whether the last barrier of a transition of this round is through.
    pub(crate) fn round_through(
        &mut self,
        name: RoundName,
        subject: Life,
        transition: Transition,
        at: At<'_>,
    ) -> Progress {
        let Some(level) = self.rounds.get(&name).map(|r| r.level) else { return Progress::NoRound };
        let Some(barriers) = self.barriers_in(name, level) else { return Progress::NoRound };
        let barrier = barriers.of(transition) - 1;
        self.missing(name, Step { level, subject, transition, barrier }, at)
    }

    /// DESIGN 5: after a takeover, rounds that no survivor knows never existed. Only a master of a later ballot may think
    /// so; a participant knows the round from its first notification on, and survives until the others put it out.
    pub(crate) fn nobody_knows(
        &self,
        (subject, transition, level): (Life, Transition, u16),
        ballot: u64,
        at: At<'_>,
    ) -> bool {
        let Some(name) = self.newest(subject, transition, level, ballot) else { return false };
        if name.ballot >= ballot {
            return false;
        }
        let knows = |life: &Life| !at.history.seen_before(*life, NodeState::ForcedLeaving, at.lc);
        !self.knowing(subject, transition, level).iter().any(knows)
    }

    /// The barriers of a round's level, as its participants registered them.
    pub(crate) fn barriers_in(&self, name: RoundName, level: u16) -> Option<Barriers> {
        let round = self.rounds.get(&name)?;
        round.lives().find_map(|life| self.registered.get(&life)?.get(&level).map(|r| r.barriers))
    }

    /// Levels of user space may come again in one life: the subject's steps there begin anew.
    pub(crate) fn forget(&mut self, subject: Life, level: u16) {
        let other = |step: &Step| step.subject != subject || step.level != level;
        self.notified.retain(|(_, step), _| other(step));
        self.acked_by.retain(|(_, step), _| other(step));
        for transition in [Transition::Joining, Transition::Leaving, Transition::ForcedLeaving] {
            self.of.remove(&(subject, transition, level));
            self.knowing.remove(&(subject, transition, level));
            if let Some(levels) = self.levels.get_mut(&(subject, transition)) {
                levels.remove(&level);
            }
        }
        if let Some(open) = self.open.get_mut(&subject) {
            open.retain(|(_, step)| step.level != level);
        }
    }

    /// The process that served this level of `life` is gone: it has nothing to acknowledge any more.
    pub(crate) fn forget_own(&mut self, life: Life, level: u16) {
        for open in self.open.values_mut() {
            open.retain(|(who, step)| *who != life || step.level != level);
        }
        self.notified.retain(|(who, step), _| *who != life || step.level != level);
        self.acked_by.retain(|(who, step), _| *who != life || step.level != level);
        // What comes at this level later in the same life knows nothing of what its predecessor was told of others.
        for ((subject, _, at), known) in &mut self.knowing {
            if *at == level && *subject != life {
                known.retain(|who| *who != life);
            }
        }
    }

    /// Table 1: a level that has the dead node inactive is not told of its forced leave. It has if its own join began after
    /// that passed it.
    fn never_knew(&self, life: Life, step: Step, at: At<'_>) -> bool {
        if step.transition != Transition::ForcedLeaving {
            return false;
        }
        let came = self.newest(life, Transition::Joining, step.level, u64::MAX).and_then(|name| self.rounds.get(&name));
        came.is_some_and(|round| at.history.seen_before(step.subject, NodeState::ForcedLeaving, round.lc))
            || !self.was_notified(life, step.level, life, Transition::Joining)
    }

    fn came_after(&self, life: Life, level: u16, name: RoundName) -> bool {
        let here = self.registered.get(&life).and_then(|levels| levels.get(&level));
        let began = self.rounds.get(&name).map(|round| round.lc);
        here.is_some_and(|r| r.at_run_time && began.is_some_and(|began| r.lc > began))
    }

    /// Whether a level of `life` was de-registered, and its last transition there, if others were there to take part in
    /// one, had nothing to do with `survivor`.
    pub(crate) fn was_gone_before(&self, life: Life, level: u16, survivor: Life) -> bool {
        let gone = |r: &Registered| r.at_run_time && (r.waits || r.gone_lc.is_some());
        let here = self.registered.get(&life).and_then(|levels| levels.get(&level));
        let takes_part = |transition| {
            let name = self.newest(life, transition, level, u64::MAX);
            // Of this registration of the survivor's level, not of one before it.
            let since = self.registered.get(&survivor).and_then(|levels| levels.get(&level)).map_or(0, |r| r.lc);
            let round = name.and_then(|name| self.rounds.get(&name)).filter(|r| r.lc > since);
            round.is_some_and(|r| r.lives().any(|l| l == survivor))
        };
        here.is_some_and(gone) && !takes_part(Transition::ForcedLeaving) && !takes_part(Transition::Leaving)
    }

    /// Whether nobody waits for this participant any more: the others put it out, as a whole or at this level.
    fn is_struck(&self, life: Life, level: u16, name: RoundName, at: At<'_>) -> bool {
        at.history.seen_before(life, NodeState::ForcedLeaving, at.lc)
            || self
                .registered
                .get(&life)
                .and_then(|levels| levels.get(&level))
                .is_some_and(|r| r.waits || r.gone_lc.is_some_and(|gone| gone < at.lc))
            // It came again after that round had begun: what took part in the round is gone.
            || (level >= USER_FROM && self.newest(life, Transition::Joining, level, u64::MAX).is_some_and(|j| j > name))
            || (level >= USER_FROM && self.came_after(life, level, name))
            || (level >= USER_FROM && self.newest(life, Transition::ForcedLeaving, level, u64::MAX).is_some())
    }
}
