//! What a trace's lines mean, put together.

use std::collections::{BTreeMap, BTreeSet};

use quorate_trace::Line;
use serde::Serialize;
use serde_json::Value;

use crate::life::{Fault, Life, Lives, Spell, Term};
use crate::read::Trace;
use crate::round::{Round, Rounds, Step};
use crate::transition::{Stay, Transition, Transitions};

/// How the run ended, as the harness says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase", tag = "is", content = "why")]
pub enum Verdict {
    /// Every expectation held.
    Held,
    /// These did not; empty if the harness does not say which.
    Failed(Vec<String>),
    /// The trace has no end.
    Unfinished,
}

/// A level.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LevelName {
    /// Its order.
    pub order: u16,
    /// Its name.
    pub name: String,
}

/// What a trace's lines mean.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Timeline {
    /// The first line's time, µs.
    pub from_us: u64,
    /// The last line's time, µs.
    pub to_us: u64,
    /// How the run ended.
    pub verdict: Verdict,
    /// Every node that is spoken of.
    pub nodes: Vec<u8>,
    /// Every level that any node registered, by order.
    pub levels: Vec<LevelName>,
    /// Which levels each node registered, or was told at.
    pub levels_of: BTreeMap<u8, BTreeSet<u16>>,
    /// Lives, as they began.
    pub lives: Vec<Life>,
    /// States, as they began.
    pub stays: Vec<Stay>,
    /// Masters' terms, as they began.
    pub terms: Vec<Term>,
    /// Rounds, as they began.
    pub rounds: Vec<Round>,
    /// Notifications with their acknowledgements.
    pub steps: Vec<Step>,
    /// Transitions, as they began.
    pub transitions: Vec<Transition>,
    /// What lasted at nodes.
    pub spells: Vec<Spell>,
    /// What the harness did.
    pub faults: Vec<Fault>,
    /// Cause and effect between nodes, as indices of lines.
    pub arrows: Vec<(usize, usize)>,
    /// How many views were committed.
    pub views: u64,
    /// The last line was cut off: its number, from 1.
    pub cut_off: Option<usize>,
}

impl Timeline {
    /// Reads the meaning out of a trace. Lines that it does not know it passes over.
    pub fn of(trace: &Trace) -> Self {
        let lines = &trace.lines;
        let (mut lives, mut rounds, mut transitions) = (Lives::default(), Rounds::default(), Transitions::default());
        let mut levels = BTreeMap::new();
        let mut nodes = BTreeSet::new();
        let mut levels_of: BTreeMap<u8, BTreeSet<u16>> = BTreeMap::new();
        for (at, line) in lines.iter().enumerate() {
            lives.take(line);
            rounds.take(at, line);
            transitions.take(line);
            nodes.extend(line.node);
            nodes.extend(ids(line, "nodes"));
            if let Some(states) = line.fields.get("states").and_then(Value::as_object) {
                nodes.extend(states.keys().filter_map(|n| n.parse::<u8>().ok()));
            }
            if let (Some(node), Some(level), Some(name)) = (line.node, small(line, "level"), line.text("name")) {
                levels.entry(level).or_insert_with(|| name.to_owned());
                levels_of.entry(node).or_default().insert(level);
            }
        }
        let time = |line: Option<&Line>| line.map_or(0, |l| l.t_us);
        let end = lines.iter().map(|l| l.t_us).max().unwrap_or(0);
        lives.finish(end);
        rounds.finish(lines, end);
        transitions.finish(&rounds.steps, &lives.faults, end);
        Self {
            from_us: time(lines.first()),
            to_us: end,
            verdict: verdict(lines),
            nodes: nodes.into_iter().collect(),
            levels: levels.into_iter().map(|(order, name)| LevelName { order, name }).collect(),
            levels_of,
            lives: lives.lives,
            stays: transitions.stays,
            terms: lives.terms,
            rounds: rounds.rounds,
            steps: rounds.steps,
            transitions: transitions.all,
            spells: lives.spells,
            faults: lives.faults,
            arrows: rounds.arrows,
            views: transitions.views,
            cut_off: trace.cut_off,
        }
    }
}

fn verdict(lines: &[Line]) -> Verdict {
    let failed = |l: &&Line| l.ev == "assert" && l.fields.get("ok") == Some(&Value::Bool(false));
    let failed: Vec<String> =
        lines.iter().filter(failed).map(|l| l.text("what").unwrap_or("an expectation").to_owned()).collect();
    let ended = lines.iter().rev().find(|l| l.node.is_none() && l.ev == "end");
    match ended.and_then(|l| l.fields.get("ok")?.as_bool()) {
        Some(true) if failed.is_empty() => Verdict::Held,
        Some(_) => Verdict::Failed(failed),
        None if failed.is_empty() => Verdict::Unfinished,
        None => Verdict::Failed(failed),
    }
}

/// Joining, leaving or forced-leaving.
pub(crate) fn transitional(state: &str) -> bool {
    matches!(state, "joining" | "leaving" | "forced-leaving")
}

/// A field that is a small number.
pub(crate) fn small<T: TryFrom<u64>>(line: &Line, name: &str) -> Option<T> {
    T::try_from(line.uint(name)?).ok()
}

/// A field that is a node's id.
pub(crate) fn id(line: &Line, name: &str) -> Option<u8> {
    small(line, name)
}

/// A field that is a list of nodes' ids.
pub(crate) fn ids(line: &Line, name: &str) -> Vec<u8> {
    let list = line.fields.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|v| u8::try_from(v.as_u64()?).ok()).collect()
}
