//! What happened at the levels, without judgement: who registered what, which rounds there were, who was notified of
//! which step and who acknowledged it; and the one question that all rules of order ask: *who is still missing?*

use crate::form::Lives;
use crate::history::History;
use crate::line::{Barriers, Life, RoundName, StepEvent, Transition};
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
}

/// A round, as first issued.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Round {
    pub(crate) level: u16,
    pub(crate) transitions: BTreeSet<(Life, Transition)>,
    /// The participants, with the incarnation that they had in the master's view.
    pub(crate) participants: BTreeMap<u8, Option<u32>>,
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
    pub(crate) registered: HashMap<Life, BTreeMap<u16, Registered>>,
    pub(crate) rounds: HashMap<RoundName, Round>,
    latest: HashMap<(Life, Transition, u16), RoundName>,
    levels: HashMap<(Life, Transition), BTreeSet<u16>>,
    pub(crate) notified: HashMap<(Life, Step), RoundName>,
    /// Levels at which anybody was notified of the subject, by transition.
    heard: HashMap<(Life, Transition), BTreeSet<u16>>,
    acked: HashMap<(Life, RoundName, Step), u64>,
    acked_by: HashMap<(Life, Step), u64>,
    through: HashMap<(RoundName, Step), u64>,
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
    /// A level as `life` registered it and has not taken back before `lc`.
    pub(crate) fn level(&self, life: Life, level: u16, lc: u64) -> Option<&Registered> {
        self.registered.get(&life)?.get(&level).filter(|r| r.gone_lc.is_none_or(|gone| gone > lc))
    }

    /// A new round.
    pub(crate) fn add_round(&mut self, name: RoundName, round: Round) {
        for (subject, transition) in &round.transitions {
            // A deposed master that does not know it yet may begin one that nobody obeys: it does not count.
            let latest = self.latest.entry((*subject, *transition, round.level)).or_insert(name);
            *latest = name.max(*latest);
            self.levels.entry((*subject, *transition)).or_default().insert(round.level);
        }
        self.rounds.insert(name, round);
    }

    /// Levels that have, or had, a round for this transition.
    pub(crate) fn levels_of(&self, subject: Life, transition: Transition) -> impl Iterator<Item = u16> + '_ {
        self.levels.get(&(subject, transition)).into_iter().flatten().copied()
    }

    /// Levels at which anybody was notified of it.
    pub(crate) fn heard(&self, subject: Life, transition: Transition) -> Option<&BTreeSet<u16>> {
        self.heard.get(&(subject, transition))
    }

    /// Whether `life` was notified of the transition at the level.
    pub(crate) fn was_notified(&self, life: Life, level: u16, subject: Life, transition: Transition) -> bool {
        self.notified.contains_key(&(life, Step { level, subject, transition, barrier: 0 }))
    }

    /// A notification. False if the same step was notified to this life before.
    pub(crate) fn add_notify(&mut self, life: Life, event: &StepEvent) -> bool {
        self.heard.entry((event.subject, event.transition)).or_default().insert(event.level);
        self.notified.insert((life, Step::from(event)), event.round).is_none()
    }

    /// An acknowledgement. False if there was one already.
    pub(crate) fn add_ack(&mut self, life: Life, event: &StepEvent, lc: u64) -> bool {
        self.acked_by.insert((life, Step::from(event)), lc);
        self.acked.insert((life, event.round, Step::from(event)), lc).is_none()
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
                None if self.is_struck(life, step.level, at) => excused = true,
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

    /// Whether the last barrier of a transition at a level is through, by its newest round.
    pub(crate) fn transition_through(
        &mut self,
        subject: Life,
        transition: Transition,
        level: u16,
        at: At<'_>,
    ) -> Progress {
        let Some(name) = self.latest.get(&(subject, transition, level)).copied() else { return Progress::NoRound };
        let Some(barriers) = self.barriers_in(name, level) else { return Progress::NoRound };
        let barrier = barriers.of(transition) - 1;
        self.missing(name, Step { level, subject, transition, barrier }, at)
    }

    /// The newest round of a transition at a level.
    pub(crate) fn newest_round(
        &self,
        subject: Life,
        transition: Transition,
        level: u16,
    ) -> Option<(RoundName, &Round)> {
        let name = *self.latest.get(&(subject, transition, level))?;
        Some((name, self.rounds.get(&name)?))
    }

    /// The barriers of a round's level, as its participants registered them.
    pub(crate) fn barriers_in(&self, name: RoundName, level: u16) -> Option<Barriers> {
        let round = self.rounds.get(&name)?;
        round.participants.iter().find_map(|(node, inc)| {
            let life = Life { node: *node, inc: (*inc)? };
            self.registered.get(&life)?.get(&level).map(|r| r.barriers)
        })
    }

    /// Levels of user space may come again in one life: the subject's steps there begin anew.
    pub(crate) fn forget(&mut self, subject: Life, level: u16) {
        let other = |step: &Step| step.subject != subject || step.level != level;
        self.notified.retain(|(_, step), _| other(step));
        self.acked_by.retain(|(_, step), _| other(step));
    }

    /// Whether nobody waits for this participant any more: the others put it out, as a whole or at this level.
    fn is_struck(&self, life: Life, level: u16, at: At<'_>) -> bool {
        at.history.seen_before(life, crate::line::NodeState::ForcedLeaving, at.lc)
            || self
                .registered
                .get(&life)
                .and_then(|levels| levels.get(&level))
                .and_then(|r| r.gone_lc)
                .is_some_and(|gone| gone < at.lc)
            || (level >= crate::steps::USER_FROM
                && self.heard(life, Transition::ForcedLeaving).is_some_and(|levels| levels.contains(&level)))
    }
}
