//! Transitions of nodes from their lines: when each began and was through, level by level, and who was waited for.
//!
//! A transition begins with the first view that has the node in the transitional state, and is through with the first
//! `state` of the node as a whole. At a level it begins with that level's round and is through with that level's `state`.
//! A level that comes or goes at run time has a transition of its own.

use std::collections::BTreeMap;

use quorate_trace::Line;
use serde::Serialize;

use crate::life::Fault;
use crate::round::{Round, Step, StepEnd};
use crate::timeline::{id, small, transitional};

/// How a transition ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TransitionEnd {
    /// All levels are through, and the view says so.
    Through,
    /// Another transition of the same node took its place.
    Overtaken,
    /// Not when the trace ended.
    Open,
}

/// Who was waited for longest in a stage.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Waited {
    /// The last node that acknowledged, or all that did not.
    pub nodes: Vec<u8>,
    /// From the first notification of that barrier to that acknowledgement (to the end of the stage, if there was none),
    /// µs.
    pub us: u64,
    /// Which barrier.
    pub barrier: u32,
    /// Whether it came.
    pub answered: bool,
}

/// A transition at one level.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Stage {
    /// The level.
    pub level: u16,
    /// Its rounds, by name: more than one if a new master had to begin again.
    pub rounds: Vec<String>,
    /// µs.
    pub from_us: u64,
    /// µs; none if it was not through.
    pub to_us: Option<u64>,
    /// Who was waited for.
    pub waited: Option<Waited>,
}

/// A transition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Transition {
    /// The node.
    pub subject: u8,
    /// Its incarnation.
    pub inc: u32,
    /// `joining`, `leaving`, `forced-leaving`.
    pub kind: String,
    /// Of the node as a whole; else of one level at run time.
    pub whole: bool,
    /// µs.
    pub from_us: u64,
    /// Its end, or the trace's, µs.
    pub to_us: u64,
    /// How.
    pub end: TransitionEnd,
    /// Level by level, in the order in which they began.
    pub stages: Vec<Stage>,
    /// The harness's step before it that explains it, with its time, µs.
    pub cause: Option<(String, u64)>,
    /// The first suspicion of the node after that, µs; of a forced leave.
    pub suspected_us: Option<u64>,
    #[serde(skip)]
    end_lc: u64,
}

/// A time in which a node was in one state, as a whole or at a level.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Stay {
    /// The node.
    pub subject: u8,
    /// Its incarnation.
    pub inc: u32,
    /// The level; none for the node as a whole.
    pub level: Option<u16>,
    /// The state.
    pub is: String,
    /// µs.
    pub from_us: u64,
    /// µs.
    pub to_us: u64,
}

/// Gathers transitions and states.
#[derive(Debug, Default)]
pub(crate) struct Transitions {
    pub all: Vec<Transition>,
    pub stays: Vec<Stay>,
    /// The state that lasts, by node and level.
    lasting: BTreeMap<(u8, Option<u16>), usize>,
    /// The newest view that was looked at.
    view: u64,
    /// Views so far.
    pub views: u64,
    suspicions: Vec<(u8, u64)>,
}

impl Transitions {
    pub fn take(&mut self, line: &Line) {
        match line.ev.as_str() {
            "view" => self.view(line),
            "round" => self.round(line),
            "state" => self.state(line),
            "suspect" => self.suspicions.extend(id(line, "peer").map(|peer| (peer, line.t_us))),
            _ => {}
        }
    }

    /// Views are consecutive, and all who adopt one adopt the same: the first that brings it counts.
    fn view(&mut self, line: &Line) {
        let Some(number) = line.uint("view").filter(|n| *n > self.view) else { return };
        self.view = number;
        self.views += 1;
        let states = line.fields.get("states").and_then(|v| v.as_object());
        for (node, state) in states.into_iter().flatten() {
            let (Ok(node), Some(state)) = (node.parse::<u8>(), state.as_str()) else { continue };
            let inc = line.fields.get("incs").and_then(|v| v.get(node.to_string())).and_then(|v| v.as_u64());
            let inc = inc.and_then(|i| u32::try_from(i).ok()).unwrap_or(0);
            self.stay(node, inc, None, state, line.t_us);
            if transitional(state) {
                self.begin(node, inc, state, line.t_us);
            } else {
                self.whole_is(node, inc, state, line);
            }
        }
    }

    fn stay(&mut self, subject: u8, inc: u32, level: Option<u16>, is: &str, t: u64) {
        if let Some(i) = self.lasting.get(&(subject, level)) {
            let last = &mut self.stays[*i];
            if last.is == is && last.inc == inc {
                return;
            }
            last.to_us = t;
        }
        self.lasting.insert((subject, level), self.stays.len());
        let is = is.to_owned();
        self.stays.push(Stay { subject, inc, level, is, from_us: t, to_us: t });
    }

    fn open(&mut self, subject: u8, whole: bool) -> impl Iterator<Item = &mut Transition> {
        let open = move |t: &&mut Transition| t.subject == subject && t.whole == whole && t.end == TransitionEnd::Open;
        self.all.iter_mut().rev().take(LOOK_BACK).filter(open)
    }

    /// A transition of the node as a whole, unless it is under way.
    fn begin(&mut self, subject: u8, inc: u32, kind: &str, t: u64) {
        if self.open(subject, true).any(|o| o.inc == inc && o.kind == kind) {
            return;
        }
        for old in self.open(subject, true) {
            (old.to_us, old.end) = (t, TransitionEnd::Overtaken);
        }
        self.all.push(Transition::new(subject, inc, kind, true, t));
    }

    /// The node is, as a whole, in a state that lasts.
    fn whole_is(&mut self, subject: u8, inc: u32, is: &str, line: &Line) {
        for open in self.open(subject, true).filter(|o| o.inc == inc) {
            let end = if leads_to(&open.kind) == is { TransitionEnd::Through } else { TransitionEnd::Overtaken };
            (open.to_us, open.end, open.end_lc) = (line.t_us, end, line.lc.unwrap_or(u64::MAX));
        }
    }

    fn round(&mut self, line: &Line) {
        let (Some(level), Some(name)) = (small::<u16>(line, "level"), line.text("round")) else { return };
        let list = line.fields.get("transitions").and_then(|v| v.as_array());
        for one in list.into_iter().flatten() {
            let number = |field: &str| one.get(field).and_then(|v| v.as_u64());
            let (Some(subject), Some(inc), Some(kind)) = (
                number("subject").and_then(|n| u8::try_from(n).ok()),
                number("subject_inc").and_then(|n| u32::try_from(n).ok()),
                one.get("transition").and_then(|v| v.as_str()),
            ) else {
                continue;
            };
            let (t, lc) = (line.t_us, line.lc.unwrap_or(0));
            let mut recent = self.all.iter_mut().rev().take(LOOK_BACK);
            // A line that was received late still belongs to the transition that it causally came before the end of.
            let its = recent.find(|o| {
                let now = o.end == TransitionEnd::Open || (o.end == TransitionEnd::Through && lc < o.end_lc);
                let here = o.whole || o.stages.iter().any(|s| s.level == level);
                (o.subject, o.inc, o.kind.as_str()) == (subject, inc, kind) && now && here
            });
            match its {
                Some(its) => its.round(level, name, t),
                None => {
                    let mut local = Transition::new(subject, inc, kind, false, t);
                    local.round(level, name, t);
                    self.all.push(local);
                }
            }
            self.stay(subject, inc, Some(level), kind, t);
        }
    }

    fn state(&mut self, line: &Line) {
        let (Some(subject), Some(is)) = (id(line, "subject"), line.text("is")) else { return };
        let Some(inc) = small::<u32>(line, "subject_inc") else { return };
        let Some(level) = small::<u16>(line, "level") else { return self.whole_is(subject, inc, is, line) };
        let mut through = false;
        let mut recent = self.all.iter_mut().rev().take(LOOK_BACK);
        let its = recent.find(|o| {
            let same = o.subject == subject && o.inc == inc && leads_to(&o.kind) == is;
            same && o.stages.iter().any(|s| s.level == level && s.to_us.is_none())
        });
        if let Some(its) = its {
            through = true;
            for stage in its.stages.iter_mut().filter(|s| s.level == level && s.to_us.is_none()) {
                stage.to_us = Some(line.t_us);
            }
            if !its.whole {
                (its.to_us, its.end) = (line.t_us, TransitionEnd::Through);
                its.end_lc = line.lc.unwrap_or(u64::MAX);
            }
        }
        // Each node says it; the first counts.
        if through {
            self.stay(subject, inc, Some(level), is, line.t_us);
        }
    }

    /// The trace ends.
    pub fn finish(&mut self, steps: &[Step], faults: &[Fault], t: u64) {
        for i in self.lasting.values() {
            self.stays[*i].to_us = t;
        }
        self.stays.retain(|s| s.is != "inactive");
        let mut by_round: BTreeMap<(u16, &str, u8), Vec<&Step>> = BTreeMap::new();
        for step in steps {
            by_round.entry((step.level, &step.round, step.subject)).or_default().push(step);
        }
        for one in &mut self.all {
            if one.end == TransitionEnd::Open {
                one.to_us = t;
            }
            let (subject, end) = (one.subject, one.to_us);
            for stage in &mut one.stages {
                let its = stage.rounds.iter().filter_map(|r| by_round.get(&(stage.level, r.as_str(), subject)));
                let its: Vec<&Step> = its.flatten().copied().collect();
                stage.waited = waited(&its, stage.to_us.unwrap_or(end));
            }
            one.explain(faults, &self.suspicions);
        }
    }
}

/// How many transitions back one is looked for: more than can be under way at once, in a cluster of 64 nodes of 32 levels
/// those of whole nodes and a few of levels.
const LOOK_BACK: usize = 256;

/// The state in which a transition ends.
fn leads_to(kind: &str) -> &'static str {
    if kind == "joining" { "joined" } else { "inactive" }
}

impl Transition {
    fn new(subject: u8, inc: u32, kind: &str, whole: bool, t: u64) -> Self {
        Self {
            subject,
            inc,
            kind: kind.to_owned(),
            whole,
            from_us: t,
            to_us: t,
            end: TransitionEnd::Open,
            stages: Vec::new(),
            cause: None,
            suspected_us: None,
            end_lc: 0,
        }
    }

    fn round(&mut self, level: u16, name: &str, t: u64) {
        match self.stages.iter_mut().find(|s| s.level == level) {
            Some(stage) if stage.rounds.iter().any(|r| r == name) => {}
            Some(stage) => stage.rounds.push(name.to_owned()),
            None => {
                let rounds = vec![name.to_owned()];
                self.stages.push(Stage { level, rounds, from_us: t, to_us: None, waited: None });
            }
        }
    }

    /// Finds the harness's step that explains it: the newest one before it that hit this node and can have done it.
    fn explain(&mut self, faults: &[Fault], suspicions: &[(u8, u64)]) {
        let can = |fault: &Fault| match self.kind.as_str() {
            "joining" if self.whole => fault.verb == "start" || fault.verb == "reset",
            "leaving" if self.whole => fault.verb == "leave",
            "forced-leaving" if self.whole => fault.kind == "fault",
            _ => fault.verb == "command",
        };
        let before = faults.iter().take_while(|f| f.from_us <= self.from_us);
        let cause = before.filter(|f| f.nodes.contains(&self.subject) && can(f)).last();
        self.cause = cause.map(|f| (f.told(), f.from_us));
        if self.kind == "forced-leaving" {
            let since = self.cause.as_ref().map_or(0, |(_, at)| *at);
            let mut its = suspicions.iter().filter(|(peer, at)| *peer == self.subject && *at <= self.from_us);
            self.suspected_us = its.find(|(_, at)| *at >= since).map(|(_, at)| *at).filter(|_| since > 0);
        }
    }
}

/// The barrier that took longest, and who was last to acknowledge it.
fn waited(steps: &[&Step], end_us: u64) -> Option<Waited> {
    let mut by_barrier: BTreeMap<(&str, u32), Vec<&Step>> = BTreeMap::new();
    for step in steps {
        by_barrier.entry((&step.round, step.barrier)).or_default().push(step);
    }
    let one = |((_, barrier), steps): ((&str, u32), Vec<&Step>)| {
        let from = steps.iter().map(|s| s.from_us).min()?;
        let silent = |s: &&&Step| matches!(s.end, StepEnd::Open | StepEnd::Lost | StepEnd::Stale);
        let answered_later = |node| steps.iter().any(|s| s.node == node && s.end == StepEnd::Acked);
        let mut silent: Vec<u8> = steps.iter().filter(silent).map(|s| s.node).filter(|n| !answered_later(*n)).collect();
        silent.sort_unstable();
        silent.dedup();
        if !silent.is_empty() {
            return Some(Waited { nodes: silent, us: end_us.saturating_sub(from), barrier, answered: false });
        }
        let last = steps.iter().max_by_key(|s| s.to_us)?;
        Some(Waited { nodes: vec![last.node], us: last.to_us.saturating_sub(from), barrier, answered: true })
    };
    by_barrier.into_iter().filter_map(one).max_by_key(|w| (!w.answered, w.us))
}

/// How a round is told of: what it is about.
pub(crate) fn about(round: &Round) -> String {
    let each = round.transitions.iter().map(|(subject, _, kind)| format!("{subject} {kind}"));
    each.collect::<Vec<_>>().join(", ")
}
