//! What a level has not acknowledged for long: `waiting`, and `overdue` where it has a deadline (DESIGN 5, MISSION H8).
//!
//! An acknowledgement may be under way while its sender is still waited for. So of a wait it is held: that it names a
//! step which its master told and has not gone beyond, nodes that take part and have not been put out, never the master's
//! own level once that acknowledged, and a time that grows from 1 s on. What is overdue is put out, or its master halts.

use crate::ledger::Step;
use crate::line::{Life, NodeState, RoundName, StallEvent};
use crate::map::Map;
use crate::rule::{Findings, Rule};
use crate::steps::{Around, Steps};

/// Nothing is reported sooner, ms.
const FIRST_MS: u64 = 1000;

/// For so long a master may need to commit that somebody is put out, µs: much longer than any disk that works.
const DECIDES_US: u64 = 2_000_000;

/// The reports.
#[derive(Debug, Default)]
pub(crate) struct Stalls {
    /// By master, its ballot, round and step: for how long it was waited for at the last report, and when that was. Who
    /// takes over again asks anew.
    waited_ms: Map<(Life, u64, RoundName, Step), (u64, u64)>,
    overdue: Vec<Overdue>,
    pub(crate) reports: u64,
}

/// Nodes that are to be put out.
#[derive(Debug)]
struct Overdue {
    line: u64,
    t_us: u64,
    master: Life,
    ballot: u64,
    late: Vec<Life>,
}

impl Stalls {
    /// A master reports a wait.
    pub(crate) fn on_stall(
        &mut self,
        master: Life,
        (stall, overdue): (&StallEvent, bool),
        steps: &Steps,
        around: &Around<'_>,
        out: &mut Findings,
    ) {
        self.reports += 1;
        let held = around.history.acts_as_master(master, "a report of a wait", out);
        let step = Step::from(&stall.step);
        let wait = || format!("the wait for {:?} at level {}, barrier {}", stall.awaiting, step.level, step.barrier);
        if stall.awaiting.is_empty() {
            out.add(Rule::Waiting, format!("{}: for nobody", wait()));
        }
        self.check_time((master, held.unwrap_or_default()), (stall, overdue), around.t_us, out);
        let Some(round) = steps.ledger.rounds.get(&stall.step.round) else {
            out.add(Rule::Waiting, format!("{}: round {} was not begun", wait(), stall.step.round));
            return;
        };
        if round.level != step.level || !round.transitions.contains(&(step.subject, step.transition)) {
            out.add(Rule::Waiting, format!("{}: round {} has no such transition", wait(), stall.step.round));
        }
        let mut late = Vec::new();
        for node in &stall.awaiting {
            let Some(inc) = round.participants.get(node).copied() else {
                out.add(Rule::Waiting, format!("{}: node {node} does not take part", wait()));
                continue;
            };
            let Some(life) = inc.map(|inc| Life { node: *node, inc }) else { continue };
            late.push(life);
            let adopted = around.history.adopted(master);
            let out_already = adopted.and_then(|m| m.get(node)).is_some_and(|(s, _)| *s == NodeState::ForcedLeaving);
            if out_already {
                out.add(Rule::Waiting, format!("{}: {life} is being put out", wait()));
            } else if life == master && steps.ledger.has_acked(life, step) {
                out.add(Rule::Waiting, format!("{}: this very node has acknowledged", wait()));
            }
        }
        let next = Step { barrier: step.barrier.saturating_add(1), ..step };
        let told = |life: Life| steps.ledger.notified.get(&(life, next)) == Some(&stall.step.round);
        // Who takes the round over goes on with it under its name, and the master before may not know that.
        let of_its = |life: &Life| held.is_some_and(|held| around.history.ballot_known(*life) <= held);
        if round.lives().filter(of_its).any(told) {
            out.add(Rule::Waiting, format!("{}: the next barrier was told already", wait()));
        }
        if overdue {
            let (line, ballot) = (out.line(), held.unwrap_or_default());
            self.overdue.push(Overdue { line, t_us: around.t_us, master, ballot, late });
        }
    }

    /// The trace ends: whoever was overdue has been put out, or its master has not lived to do it.
    pub(crate) fn finish(&self, around: &Around<'_>, out: &mut Findings) {
        for Overdue { line, t_us, master, ballot, late } in &self.overdue {
            let gone = |life: &Life| {
                around.history.seen(*life, NodeState::ForcedLeaving).is_some()
                    || around.lives.get(life).is_some_and(|end| end.ended)
            };
            let ended = around.lives.get(master).is_none_or(|end| end.ended || around.history.may_be_cut());
            let soon = around.t_us < t_us.saturating_add(DECIDES_US);
            if ended || soon || around.history.held(*master) != Some(*ballot) {
                continue;
            }
            out.at(*line, None);
            if late.contains(master) {
                out.add(Rule::Overdue, format!("{master} goes on, though its own level is overdue"));
            }
            for life in late.iter().filter(|life| *life != master && !gone(life)) {
                out.add(Rule::Overdue, format!("{life} was overdue and was not put out"));
            }
        }
    }

    fn check_time(
        &mut self,
        (master, ballot): (Life, u64),
        (stall, overdue): (&StallEvent, bool),
        t_us: u64,
        out: &mut Findings,
    ) {
        let key = (master, ballot, stall.step.round, Step::from(&stall.step));
        let last = self.waited_ms.insert(key, (stall.waited_ms, t_us));
        // Reported after one second, again after two, four, eight. It counts anew after its master stood still; then at
        // least that much time has gone by since the last report, clocks being right within one per cent.
        let anew = |at: u64| t_us.saturating_sub(at) >= stall.waited_ms.saturating_mul(980);
        let least = match last {
            Some((waited_ms, at)) if !anew(at) => waited_ms.saturating_add(u64::from(!overdue)),
            _ if overdue => 0,
            _ => FIRST_MS,
        };
        if stall.waited_ms < least {
            out.add(Rule::Waiting, format!("waited {} ms, less than {least}", stall.waited_ms));
        }
    }
}
