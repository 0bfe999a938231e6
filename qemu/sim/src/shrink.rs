//! Shrinks a plan that breaks an invariant to a short one that still breaks the same (delta debugging: Zeller and
//! Hildebrandt 2002).
//!
//! ```text
//! acts: drop halves, quarters, … single ones ──▶ faults: each off ──▶ nodes: fewer ──▶ times: shorter, closer ──▶ again
//! ```
//! Each attempt is a run; a smaller plan is taken if it breaks the same invariant. The result is what the last successful
//! attempt ran, so replaying it gives the same failure, byte for byte.

use crate::faults::Faults;
use crate::plan::{Act, Plan};
use crate::run::{Failure, RunOptions, run_plan};

/// A plan that was made short.
#[derive(Clone, PartialEq, Debug)]
pub struct Shrunk {
    /// How the short plan fails; it holds the plan.
    pub failure: Box<Failure>,
    /// How many acts there were.
    pub acts_before: usize,
    /// Runs that it took.
    pub runs: u32,
}

struct Shrinker<'o> {
    options: &'o RunOptions,
    best: Box<Failure>,
    kind: String,
    /// How long the damage lasted at first.
    damage_us: u64,
    runs: u32,
    runs_max: u32,
}

/// Makes the plan of a failure as short as `runs_max` runs allow. `options` are those of the failing run.
pub fn shrink(failure: &Failure, options: &RunOptions, runs_max: u32) -> Shrunk {
    let acts_before = failure.plan.acts.len();
    let kind = kind_of(&failure.broken.what);
    let damage_us = failure.plan.damage_us;
    let mut shrinker = Shrinker { options, best: Box::new(failure.clone()), kind, damage_us, runs: 0, runs_max };
    loop {
        let before = shrinker.best.plan.clone();
        shrinker.drop_later_acts();
        shrinker.drop_acts();
        shrinker.drop_faults();
        shrinker.drop_nodes();
        shrinker.shorten();
        if shrinker.best.plan == before || shrinker.runs >= shrinker.runs_max {
            break;
        }
    }
    Shrunk { failure: shrinker.best, acts_before, runs: shrinker.runs }
}

/// Which invariant a failure is about: the checker's rule, or the simulator's sentence without its numbers.
pub fn kind_of(what: &str) -> String {
    match what.split_once(':') {
        Some((rule, _)) if !rule.contains(' ') => rule.to_owned(),
        _ => what.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("#"),
    }
}

impl Shrinker<'_> {
    /// Runs a plan; keeps it if it breaks the same invariant.
    fn attempt(&mut self, plan: Plan) -> bool {
        if self.runs >= self.runs_max || plan == *self.best.plan {
            return false;
        }
        self.runs += 1;
        match run_plan(&plan, self.options) {
            Err(failure) if kind_of(&failure.broken.what) == self.kind => {
                self.best = failure;
                true
            }
            _ => false,
        }
    }

    fn changed(&self, change: impl FnOnce(&mut Plan)) -> Plan {
        let mut plan = (*self.best.plan).clone();
        change(&mut plan);
        plan
    }

    /// The same without some acts: without them it may take longer to come about, up to as long as at first.
    fn attempt_without(&mut self, plan: Plan) -> bool {
        let patient = Plan { damage_us: self.damage_us.max(plan.damage_us), ..plan.clone() };
        self.attempt(plan) || self.attempt(patient)
    }

    /// What comes after the violation did not lead to it.
    fn drop_later_acts(&mut self) {
        let at = self.best.broken.at_us;
        let plan = self.changed(|plan| plan.acts.retain(|step| step.at_us <= at));
        self.attempt(plan);
    }

    /// The damage may end sooner.
    fn end_early(&mut self) {
        let at = self.best.broken.at_us;
        let plan = self.changed(|plan| plan.damage_us = plan.damage_us.min(at + 1));
        if !self.attempt(plan) {
            let last = self.best.plan.acts.last().map_or(0, |step| step.at_us);
            let plan = self.changed(|plan| plan.damage_us = plan.damage_us.min(last + 1));
            self.attempt(plan);
        }
    }

    /// Leaves out chunks of acts, from halves down to single ones, as long as something can be left out.
    fn drop_acts(&mut self) {
        let mut chunk = self.best.plan.acts.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            let mut dropped = false;
            while at < self.best.plan.acts.len() {
                let end = (at + chunk).min(self.best.plan.acts.len());
                let plan = self.changed(|plan| drop(plan.acts.drain(at..end)));
                if self.attempt_without(plan) {
                    dropped = true;
                } else {
                    at = end;
                }
            }
            match chunk {
                1 if !dropped => return,
                1 => {}
                _ => chunk = chunk.div_ceil(2),
            }
            if self.runs >= self.runs_max {
                return;
            }
        }
    }

    fn drop_faults(&mut self) {
        let healthy = Faults::default();
        let changes: [fn(&mut Plan, &Faults); 15] = [
            |plan, _| plan.off.clear(),
            |plan, _| plan.cuts.clear(),
            |plan, _| plan.cuts.truncate(1),
            |plan, _| (plan.views_only, plan.faults.disk.late_us) = (false, 0),
            |plan, healthy| plan.faults = *healthy,
            |plan, healthy| plan.faults.net = healthy.net,
            |plan, healthy| plan.faults.disk = healthy.disk,
            |plan, _| plan.clock_ppm = 0,
            |plan, _| plan.faults.disk.slow_per_million = 0,
            |plan, _| (plan.faults.disk.read_error_per_million, plan.faults.disk.write_error_per_million) = (0, 0),
            |plan, healthy| plan.faults.disk.delay_us = healthy.disk.delay_us,
            |plan, healthy| plan.faults.net.delay_us = healthy.net.delay_us,
            |plan, _| plan.faults.net.loss_per_million = 0,
            |plan, _| plan.faults.net.duplicate_per_million = 0,
            |plan, _| plan.faults.net.late_per_million = 0,
        ];
        for change in changes {
            let plan = self.changed(|plan| change(plan, &healthy));
            self.attempt(plan);
        }
        // Levels that only make it longer.
        for at in (0..self.best.plan.levels.iter().map(Vec::len).max().unwrap_or(0)).rev() {
            let plan = self.changed(|plan| {
                for words in plan.levels.iter_mut().filter(|words| at < words.len()) {
                    words.remove(at);
                }
            });
            self.attempt(plan);
        }
    }

    /// Nodes from the end on that no act needs.
    fn drop_nodes(&mut self) {
        while self.best.plan.nodes > 1 {
            let plan = self.changed(|plan| {
                plan.nodes -= 1;
                let nodes = plan.nodes;
                plan.levels.truncate(usize::from(nodes));
                plan.off.retain(|n| *n < nodes);
                plan.cuts.retain(|cut| cut.from.max(cut.to) < nodes);
                plan.acts.retain(|step| step.act.nodes().into_iter().flatten().all(|n| n < nodes));
            });
            if !self.attempt(plan) {
                return;
            }
        }
    }

    /// Halves lengths, countings and pauses between acts; whole milliseconds where that is as good.
    fn shorten(&mut self) {
        for i in 0..self.best.plan.acts.len() {
            while self.shorten_act(i, |us| us / 2) {}
            self.shorten_act(i, |us| us / 1000 * 1000);
        }
        for i in 0..self.best.plan.acts.len() {
            while self.bring_forward(i, |gap| gap / 2) {}
            self.bring_forward(i, |gap| gap / 1000 * 1000);
        }
        self.end_early();
    }

    fn shorten_act(&mut self, i: usize, shorter: fn(u64) -> u64) -> bool {
        let plan = self.changed(|plan| {
            let Some(step) = plan.acts.get_mut(i) else { return };
            match &mut step.act {
                Act::Ambush { events, .. } => *events = shorter(*events),
                Act::Flap { times, .. } => *times = shorter(u64::from(*times)).max(1) as u32,
                Act::DiskErrors { count, .. } => *count = shorter(u64::from(*count)).max(1) as u32,
                act => {
                    if let Some(us) = act.for_us() {
                        *us = shorter(*us);
                    }
                }
            }
        });
        self.attempt(plan)
    }

    /// An act and all after it come sooner after the one before.
    fn bring_forward(&mut self, i: usize, shorter: fn(u64) -> u64) -> bool {
        let plan = self.changed(|plan| {
            let before = i.checked_sub(1).and_then(|before| plan.acts.get(before)).map_or(0, |step| step.at_us);
            let Some(at) = plan.acts.get(i).map(|step| step.at_us) else { return };
            let saved = (at - before) - shorter(at - before);
            for step in plan.acts.iter_mut().skip(i) {
                step.at_us -= saved;
            }
            plan.damage_us = plan.damage_us.saturating_sub(saved);
        });
        self.attempt(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_failure_has_no_numbers() {
        assert_eq!(kind_of("OneHistory: line 12, node 1: x"), "OneHistory");
        assert_eq!(kind_of("node 3 spins: it ticks"), kind_of("node 17 spins: it ticks"));
        assert_ne!(kind_of("node 3 spins"), kind_of("node 3 may write"));
    }
}
