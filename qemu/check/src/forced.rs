//! Forced leaves (EP p. 7, Fig. 13 to 15; DESIGN 5 and 7; MISSION A7, A10): fenced before recovery, up to the highest level
//! that may have heard of the node and not above, through at every survivor that did.

use crate::history::Members;
use crate::ledger::Progress;
use crate::line::{Life, NodeState, StepEvent, Transition};
use crate::rule::{Findings, Rule};
use crate::steps::{Around, FENCED_FROM, Steps, USER_FROM, words};

impl Steps {
    pub(crate) fn check_fence(&mut self, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        let of_node = around.seen(event.subject, NodeState::ForcedLeaving);
        if event.level < FENCED_FROM || !of_node {
            return;
        }
        if !around.storage.fenced_before(event.subject, around.lc) && !around.master_cut(event.round.ballot) {
            out.add(Rule::Fence, format!("{} before its fence", words(event)));
        }
    }

    /// DESIGN 7: fenced is not stopped. Services hear of it when the victim has certainly stopped its own.
    pub(crate) fn check_services(&mut self, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        if event.level < USER_FROM || !around.seen(event.subject, NodeState::ForcedLeaving) {
            return;
        }
        if let Some(until) = around.storage.lease_end(event.subject).filter(|until| around.t_us < *until) {
            let ended = around.lives.get(&event.subject).is_some_and(|end| end.ended);
            if !ended {
                out.add(Rule::ServicesEarly, format!("{}, whose lease runs until {until} µs", words(event)));
            }
        }
    }

    /// No level is passed over on the way up.
    pub(crate) fn check_levels_left_behind(
        &mut self,
        life: Life,
        event: &StepEvent,
        around: &Around<'_>,
        out: &mut Findings,
    ) {
        if event.barrier > 0 || self.is_local(event.subject, event.transition, event.level, around) {
            return;
        }
        let Some(levels) = self.ledger.registered.get(&life) else { return };
        let here = levels.iter().filter(|(_, r)| r.gone_lc.is_none() && !r.waits).map(|(l, _)| *l);
        for lower in self.vectors.unfinished_below(life, event.level, event.subject, here) {
            // A node that is on its way out has left the level before; of a level of user space that the subject left alone
            // there is nothing to recover.
            let is_left = lower >= USER_FROM
                && self.ledger.acked_last(life, lower, event.subject, Transition::Leaving, around.lc);
            if !is_left && !self.ledger.was_notified(life, lower, life, Transition::Leaving) {
                out.add(Rule::LevelSkipped, format!("{}, but level {lower} was not told", words(event)));
            }
        }
    }

    /// EP Fig. 13 to 15: no level hears of a forced leave that cannot have heard of the node.
    pub(crate) fn check_too_high(&mut self, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        let (level, subject, ballot) = (event.level, event.subject, event.round.ballot);
        if event.barrier > 0 || !around.seen(subject, NodeState::ForcedLeaving) || !around.lives.contains_key(&subject)
        {
            return;
        }
        // Of a leaving node: up to the highest level where any survivor does not yet have it inactive.
        if let Some(round) = self.ledger.rounds.get(&event.round) {
            let has_left = |life: Life| self.vectors.told(life, level, subject) == Some(NodeState::Inactive);
            if round.lives().next().is_some() && round.lives().all(has_left) {
                out.add(Rule::TooHigh, format!("{}, though all have it inactive there", words(event)));
            }
        }
        if self.ledger.newest(subject, Transition::Joining, level, u64::MAX).is_some()
            || self.may_have_heard(subject, level, ballot, around)
            || around.master_cut(ballot)
        {
            return;
        }
        out.add(Rule::TooHigh, format!("{}, though its join was never begun there", words(event)));
    }

    /// DESIGN 5: heard means that the master may have sent it. After a takeover a level counts as having heard if a
    /// participant died without answering and the level below was through, for all that the survivors know. The subject is
    /// a participant, and it did not answer.
    pub(crate) fn may_have_heard(&mut self, subject: Life, level: u16, ballot: u64, around: &Around<'_>) -> bool {
        let Some(joining) = around.history.seen_under(subject, NodeState::Joining) else { return true };
        let below = self.ledger.levels_of(subject, Transition::Joining, ballot);
        let Some(lower) = below.into_iter().filter(|l| *l < level).max() else { return joining < ballot };
        let Some(name) = self.ledger.newest(subject, Transition::Joining, lower, ballot) else { return false };
        let next =
            self.ledger.registered.get(&subject).and_then(|levels| {
                levels.range(lower.saturating_add(1)..).find(|(_, r)| !r.at_run_time).map(|(l, _)| *l)
            });
        if name.ballot >= ballot || next.is_some_and(|next| next < level) {
            return false;
        }
        match self.ledger.round_through(name, subject, Transition::Joining, around.at()) {
            Progress::Through(_) => true,
            Progress::Missing(nodes) => {
                let Some(round) = self.ledger.rounds.get(&name) else { return false };
                let mut missing = round.lives().filter(|life| nodes.contains(&life.node));
                missing.all(|life| around.seen(life, NodeState::ForcedLeaving))
            }
            Progress::NoRound => false,
        }
    }

    /// Every survivor that knew the dead node at a level has acknowledged its forced leave there.
    pub(crate) fn check_forced_leave_complete(
        &mut self,
        dead: Life,
        around: &Around<'_>,
        members: &Members,
        out: &mut Findings,
    ) {
        if !around.storage.fenced_before(dead, around.lc) && !around.newest_master_cut() {
            out.add(Rule::Fence, format!("the forced leave of {dead} ends without a fence"));
        }
        let Some(forced_lc) = around.history.seen(dead, NodeState::ForcedLeaving) else { return };
        for (node, (state, inc)) in members {
            let survivor = Life { node: *node, inc: *inc };
            let was_there = around.history.seen_before(survivor, NodeState::Joining, forced_lc);
            if *node == dead.node || !state.is_member() || !was_there {
                continue;
            }
            let levels: Vec<u16> = match self.ledger.registered.get(&survivor) {
                Some(levels) => {
                    levels.iter().filter(|(_, r)| r.gone_lc.is_none() && !r.waits).map(|(l, _)| *l).collect()
                }
                None => continue,
            };
            for level in levels {
                if !self.is_done_with(survivor, level, dead, around) {
                    let what =
                        format!("the forced leave of {dead} ends, but {survivor} is not through at level {level}");
                    out.add(Rule::LostTransition, what);
                }
            }
        }
    }

    /// Whether a survivor's level never knew the dead node, or has it through, or has left itself.
    fn is_done_with(&mut self, survivor: Life, level: u16, dead: Life, around: &Around<'_>) -> bool {
        let told = self.vectors.told(survivor, level, dead);
        let is = self.vectors.state(survivor, level, dead, &mut self.ledger, around.at());
        let transitions = [Transition::Joining, Transition::Leaving, Transition::ForcedLeaving];
        let was_told = transitions.iter().any(|t| self.ledger.was_notified(survivor, level, dead, *t));
        self.ledger.was_gone_before(dead, level, survivor)
            || (is == NodeState::Inactive && !was_told)
            || (told.is_none() && is == NodeState::ForcedLeaving)
            || self.ledger.acked_last(survivor, level, dead, Transition::Leaving, around.lc)
            || self.ledger.acked_last(survivor, level, dead, Transition::ForcedLeaving, around.lc)
            || around.history.cut(survivor, around.lc, around.lives)
            || matches!(
                self.ledger.transition_through((survivor, Transition::Leaving, level), u64::MAX, around.at()),
                Progress::Through(_)
            )
    }
}
