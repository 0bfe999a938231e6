//! In what order a transition goes (EP p. 5 to 7): barrier after barrier, level after level, joins upwards and graceful
//! leaves downwards (MISSION A4, A6, A8), and that none ends before all are through.

use crate::ledger::{Progress, Step};
use crate::line::{Life, NodeState, StepEvent, Transition};
use crate::rule::{Findings, Rule};
use crate::steps::{Around, Steps, words};
use std::collections::BTreeSet;

impl Steps {
    pub(crate) fn check_barrier(&mut self, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        self.counts.barriers_ordered += 1;
        let before = Step { barrier: event.barrier - 1, ..Step::from(event) };
        if let Progress::Missing(nodes) = self.ledger.missing(event.round, before, around.at()) {
            let what = format!("{} before nodes {nodes:?} acknowledged barrier {}", words(event), before.barrier);
            out.add(Rule::BarrierOrder, what);
        }
    }

    /// A level completes its join before it is asked to leave; a join is reversed only between levels (EP p. 6).
    pub(crate) fn check_join_done(&mut self, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        if event.transition != Transition::Leaving || event.barrier > 0 {
            return;
        }
        let (subject, ballot) = (event.subject, event.round.ballot);
        for level in self.ledger.levels_of(subject, Transition::Joining, ballot) {
            // A node that stood still takes this step late: a join that began meanwhile is no matter of it.
            let newest = self.ledger.newest(subject, Transition::Joining, level, ballot);
            let is_later = newest.and_then(|join| self.ledger.rounds.get(&join)).is_some_and(|j| j.lc > around.lc);
            if is_later || self.died_there(subject, level, around) {
                continue;
            }
            let join = (subject, Transition::Joining, level);
            if let Progress::Missing(nodes) = self.ledger.transition_through(join, ballot, around.at())
                && !self.ledger.nobody_knows(join, ballot, around.at())
            {
                let what = format!("{} while its join at level {level} waits for nodes {nodes:?}", words(event));
                out.add(Rule::TableOne, what);
            }
        }
    }

    /// Joins and forced leaves climb.
    pub(crate) fn check_levels_below(&mut self, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        let levels = self.ledger.levels_of(event.subject, event.transition, event.round.ballot);
        let mut below: BTreeSet<u16> = levels.into_iter().filter(|l| *l < event.level).collect();
        if event.transition == Transition::Joining
            && let Some(levels) = self.ledger.registered.get(&event.subject)
        {
            let of_node = levels.range(1..event.level.max(1)).filter(|(_, r)| !r.at_run_time);
            below.extend(of_node.map(|(l, _)| *l));
        }
        for lower in below {
            self.check_level_through(event, lower, around, out);
        }
    }

    /// Graceful leaves descend.
    pub(crate) fn check_levels_above(&mut self, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        let (subject, ballot) = (event.subject, event.round.ballot);
        let mut above: BTreeSet<u16> =
            self.ledger.levels_of(subject, Transition::Leaving, ballot).into_iter().collect();
        let joined = self.ledger.levels_of(subject, Transition::Joining, ballot);
        above.extend(joined.into_iter().filter(|l| {
            !self.ledger.nobody_knows((subject, Transition::Joining, *l), ballot, around.at())
                && self.ledger.level(subject, *l, around.lc).is_some()
        }));
        for upper in above.range(event.level.saturating_add(1)..) {
            self.check_level_through(event, *upper, around, out);
        }
    }

    fn check_level_through(&mut self, event: &StepEvent, level: u16, around: &Around<'_>, out: &mut Findings) {
        self.counts.levels_ordered += 1;
        let (subject, transition, ballot) = (event.subject, event.transition, event.round.ballot);
        // A leave of the node passes a level whose process died meanwhile once the others have recovered from that.
        if transition == Transition::Leaving && self.died_there(subject, level, around) {
            return;
        }
        match self.ledger.transition_through((subject, transition, level), ballot, around.at()) {
            Progress::Through(_) => {}
            Progress::Missing(nodes) if self.never_existed(event, level, &nodes, around) => {}
            Progress::Missing(nodes) => {
                let what = format!("{} before nodes {nodes:?} were through at level {level}", words(event));
                out.add(Rule::LevelOrder, what);
            }
            Progress::NoRound if around.master_cut(ballot) => out.tolerated += 1,
            Progress::NoRound => {
                out.add(Rule::LevelSkipped, format!("{}, but level {level} was left out", words(event)));
            }
        }
    }

    /// Whether the process that served a run-time level died, and the others are through with that; or none of them had been
    /// told that it was to join, so that there is nothing to recover.
    fn died_there(&mut self, subject: Life, level: u16, around: &Around<'_>) -> bool {
        let died = (subject, Transition::ForcedLeaving, level);
        if level < crate::steps::USER_FROM {
            return false;
        }
        let here = self.ledger.registered.get(&subject).and_then(|levels| levels.get(&level));
        let is_gone = here.is_some_and(|r| r.gone_lc.is_some_and(|gone| gone < around.lc));
        is_gone && self.ledger.knowing(subject, Transition::Joining, level).iter().all(|life| *life == subject)
            || matches!(self.ledger.transition_through(died, u64::MAX, around.at()), Progress::Through(_))
    }

    /// DESIGN 5: after a takeover, rounds that no survivor knows never existed. So such a level may be passed, if none of
    /// those that were to take part is there: each would have come by that round. Else the level has to be asked anew; but a
    /// level of user space that has the subject inactive is not told (EP Table 1).
    fn never_existed(&mut self, event: &StepEvent, level: u16, missing: &[u8], around: &Around<'_>) -> bool {
        let (of, ballot) = ((event.subject, event.transition, level), event.round.ballot);
        let Some(name) = self.ledger.newest(of.0, of.1, level, ballot) else { return false };
        let Some(round) = self.ledger.rounds.get(&name) else { return false };
        let asked: Vec<Life> = round.lives().filter(|life| missing.contains(&life.node)).collect();
        if !self.ledger.nobody_knows(of, ballot, around.at()) {
            return false;
        }
        !asked.into_iter().any(|life| {
            self.ledger.was_notified(life, level, life, Transition::Joining)
                && (level < crate::steps::USER_FROM
                    || self.vectors.state(life, level, of.0, &mut self.ledger, around.at()) != NodeState::Inactive)
        })
    }

    pub(crate) fn check_join_complete(&mut self, life: Life, around: &Around<'_>, out: &mut Findings) {
        let began = around.history.seen(life, NodeState::Joining).unwrap_or(0);
        let levels: Vec<u16> = match self.ledger.registered.get(&life) {
            Some(levels) => levels.iter().filter(|(_, r)| r.lc < began && !r.at_run_time).map(|(l, _)| *l).collect(),
            None => return,
        };
        for level in levels {
            let progress = self.ledger.transition_through((life, Transition::Joining, level), u64::MAX, around.at());
            self.report_lost(life, ("join", level), progress, around, out);
        }
    }

    pub(crate) fn check_leave_complete(&mut self, life: Life, ballot: u64, around: &Around<'_>, out: &mut Findings) {
        self.check_nothing_owed(life, around, out);
        for level in self.ledger.levels_of(life, Transition::Joining, ballot) {
            let unknown = self.ledger.nobody_knows((life, Transition::Joining, level), ballot, around.at());
            if unknown || self.ledger.level(life, level, around.lc).is_none() && !self.was_told_to_leave(life, level) {
                continue;
            }
            if self.died_there(life, level, around) {
                continue;
            }
            let progress = self.ledger.transition_through((life, Transition::Leaving, level), u64::MAX, around.at());
            self.report_lost(life, ("leave", level), progress, around, out);
        }
    }

    /// A node is gone only once it has acknowledged whatever its levels were told of anybody: participants are fixed.
    fn check_nothing_owed(&self, life: Life, around: &Around<'_>, out: &mut Findings) {
        for (_, step) in self.ledger.all_open().filter(|(who, _)| *who == life) {
            // Nobody waits any more for what the subject's forced leave overtook, nor for a level that went.
            let excused = step.transition != Transition::ForcedLeaving
                && around.seen(step.subject, NodeState::ForcedLeaving)
                || around.history.cut(life, around.lc, around.lives)
                || self.ledger.level(life, step.level, around.lc).is_none();
            if !excused {
                let what = format!(
                    "{life} has left and owes the {} of {} at level {}, barrier {}",
                    step.transition.name(),
                    step.subject,
                    step.level,
                    step.barrier
                );
                out.add(Rule::LeaveTooSoon, what);
            }
        }
    }

    fn was_told_to_leave(&self, life: Life, level: u16) -> bool {
        !self.ledger.knowing(life, Transition::Leaving, level).is_empty()
    }

    /// DESIGN 5: leaving is committed only while no notification of that node is outstanding.
    pub(crate) fn check_leave_begins(&mut self, life: Life, around: &Around<'_>, out: &mut Findings) {
        for (who, step) in self.ledger.open(life) {
            let excused = around.seen(*who, NodeState::ForcedLeaving)
                || around.history.cut(*who, around.lc, around.lives)
                || self.ledger.level(*who, step.level, around.lc).is_none();
            if !excused {
                let what = format!(
                    "the leave of {life} is committed while {who} owes its {} at level {}, barrier {}",
                    step.transition.name(),
                    step.level,
                    step.barrier
                );
                out.add(Rule::LeaveTooSoon, what);
            }
        }
    }

    fn report_lost(
        &self,
        life: Life,
        (name, level): (&str, u16),
        progress: Progress,
        around: &Around<'_>,
        out: &mut Findings,
    ) {
        match progress {
            Progress::Through(_) => {}
            Progress::Missing(nodes) => {
                let what = format!("the {name} of {life} ends, but nodes {nodes:?} are not through at level {level}");
                out.add(Rule::LostTransition, what);
            }
            // The membership manager's own level may do without rounds.
            Progress::NoRound if level == 0 => {}
            Progress::NoRound if around.newest_master_cut() => out.tolerated += 1,
            Progress::NoRound => {
                out.add(Rule::LostTransition, format!("the {name} of {life} ends, but level {level} was left out"));
            }
        }
    }
}
