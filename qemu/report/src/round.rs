//! Rounds and their steps: which acknowledgement answers which notification, and what the master did once all were there.
//!
//! Lines stand in the order of receipt; across nodes the Lamport clock tells what can have caused what.

use std::collections::BTreeMap;

use quorate_trace::Line;
use serde::Serialize;

use crate::life::ends_lives;
use crate::timeline::{id, ids, small};

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepEnd {
    /// The acknowledgement was accepted.
    Acked,
    /// It came too late.
    Stale,
    /// The node ended first, or was told anew.
    Lost,
    /// Not when the trace ended.
    Open,
}

/// One notification of one level on one node, and its acknowledgement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Step {
    /// The node that was told.
    pub node: u8,
    /// The level.
    pub level: u16,
    /// The round.
    pub round: String,
    /// Whose transition.
    pub subject: u8,
    /// Its incarnation.
    pub subject_inc: u32,
    /// `joining`, `leaving`, `forced-leaving`.
    pub transition: String,
    /// From 0.
    pub barrier: u32,
    /// The notification's line, an index.
    pub notify: usize,
    /// The line that ended it, an index; none if it is open or its node ended.
    pub ack: Option<usize>,
    /// µs.
    pub from_us: u64,
    /// µs.
    pub to_us: u64,
    /// How.
    pub end: StepEnd,
    /// Steps of a level that overlap stand in different slots, from 0.
    pub slot: u8,
    #[serde(skip)]
    inc: Option<u32>,
}

/// A round of notifications at one level.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Round {
    /// Its name: `ballot.sequence`.
    pub name: String,
    /// The level.
    pub level: u16,
    /// The master that began it, and those that issued it again: the lines, as indices, with the node.
    pub issued: Vec<(usize, u8)>,
    /// Who is to be told.
    pub participants: Vec<u8>,
    /// Whose transitions: subject, incarnation, transition.
    pub transitions: Vec<(u8, u32, String)>,
    /// µs.
    pub from_us: u64,
    /// When all subjects were through, or another round took its place, or the trace's end, µs.
    pub to_us: u64,
    /// `through`, `overtaken`, `open`.
    pub end: &'static str,
    #[serde(skip)]
    pending: Vec<(u8, u32)>,
}

/// What a line of a step is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    node: u8,
    inc: Option<u32>,
    level: u16,
    round: String,
    subject: u8,
    subject_inc: u32,
    transition: String,
    barrier: u32,
}

impl Key {
    fn of(line: &Line) -> Option<Self> {
        Some(Self {
            node: line.node?,
            inc: line.inc,
            level: small(line, "level")?,
            round: line.text("round")?.to_owned(),
            subject: id(line, "subject")?,
            subject_inc: small(line, "subject_inc")?,
            transition: line.text("transition")?.to_owned(),
            barrier: small(line, "barrier")?,
        })
    }
}

/// Gathers rounds and steps.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub rounds: Vec<Round>,
    pub steps: Vec<Step>,
    /// From what to what, by line: the master tells a node; a node's answer lets the master go on.
    pub arrows: Vec<(usize, usize)>,
    open: BTreeMap<Key, usize>,
    by_name: BTreeMap<(u16, String), usize>,
    /// Rounds that are not through; few at any time.
    running: Vec<usize>,
    /// The highest barrier that anybody was told of, per round and subject.
    barriers: BTreeMap<(usize, u8), u32>,
    /// Per round, subject and barrier: the line with which a master went on.
    went_on: BTreeMap<(usize, u8, u32), Vec<usize>>,
}

impl Rounds {
    pub fn take(&mut self, at: usize, line: &Line) {
        match line.ev.as_str() {
            "round" => self.round(at, line),
            "notify" => self.notify(at, line),
            "ack" => self.ack(at, line, StepEnd::Acked),
            "stale_ack" => self.ack(at, line, StepEnd::Stale),
            "state" => self.state(at, line),
            "panic" | "halt" | "boot" => self.lose(line.node, line.inc, line.t_us, line.ev == "boot"),
            "step" if line.text("do").is_some_and(ends_lives) => {
                ids(line, "nodes").into_iter().for_each(|n| self.lose(Some(n), None, line.t_us, false));
            }
            _ => {}
        }
    }

    fn round(&mut self, at: usize, line: &Line) {
        let (Some(node), Some(level), Some(name)) = (line.node, small(line, "level"), line.text("round")) else {
            return;
        };
        if let Some(i) = self.by_name.get(&(level, name.to_owned())) {
            self.rounds[*i].issued.push((at, node));
            return;
        }
        let transitions = transitions(line);
        let pending: Vec<_> = transitions.iter().map(|(subject, inc, _)| (*subject, *inc)).collect();
        // What an older round still owed these subjects at this level is this one's now.
        let rounds = &mut self.rounds;
        self.running.retain(|i| {
            let old = &mut rounds[*i];
            if old.level == level {
                old.pending.retain(|p| !pending.contains(p));
            }
            if old.pending.is_empty() {
                (old.to_us, old.end) = (line.t_us, "overtaken");
            }
            !old.pending.is_empty()
        });
        self.running.push(self.rounds.len());
        self.by_name.insert((level, name.to_owned()), self.rounds.len());
        self.rounds.push(Round {
            name: name.to_owned(),
            level,
            issued: vec![(at, node)],
            participants: ids(line, "participants"),
            transitions,
            from_us: line.t_us,
            to_us: line.t_us,
            end: "open",
            pending,
        });
    }

    fn notify(&mut self, at: usize, line: &Line) {
        let Some(key) = Key::of(line) else { return };
        if let Some(old) = self.open.remove(&key) {
            let old = &mut self.steps[old];
            (old.to_us, old.end) = (line.t_us, StepEnd::Lost);
        }
        if let Some(round) = self.by_name.get(&(key.level, key.round.clone())).copied() {
            let highest = self.barriers.entry((round, key.subject)).or_default();
            *highest = key.barrier.max(*highest);
            if let Some(before) = key.barrier.checked_sub(1)
                && self.rounds[round].issued.iter().any(|(_, master)| *master == key.node)
            {
                self.went_on.entry((round, key.subject, before)).or_default().push(at);
            }
        }
        self.open.insert(key.clone(), self.steps.len());
        self.steps.push(Step {
            node: key.node,
            level: key.level,
            round: key.round,
            subject: key.subject,
            subject_inc: key.subject_inc,
            transition: key.transition,
            barrier: key.barrier,
            notify: at,
            ack: None,
            from_us: line.t_us,
            to_us: line.t_us,
            end: StepEnd::Open,
            slot: 0,
            inc: key.inc,
        });
    }

    fn ack(&mut self, at: usize, line: &Line, end: StepEnd) {
        let Some(step) = Key::of(line).and_then(|key| self.open.remove(&key)) else { return };
        let step = &mut self.steps[step];
        (step.ack, step.to_us, step.end) = (Some(at), line.t_us, end);
    }

    fn state(&mut self, at: usize, line: &Line) {
        let (Some(node), Some(level)) = (line.node, small::<u16>(line, "level")) else { return };
        let (Some(subject), Some(inc)) = (id(line, "subject"), small(line, "subject_inc")) else { return };
        // The newest round that owes it this.
        let owes = |i: &&usize| self.rounds[**i].level == level && self.rounds[**i].pending.contains(&(subject, inc));
        let Some(i) = self.running.iter().rev().find(owes).copied() else { return };
        let round = &mut self.rounds[i];
        if round.issued.iter().all(|(_, master)| *master != node) {
            return;
        }
        round.pending.retain(|p| *p != (subject, inc));
        if round.pending.is_empty() {
            (round.to_us, round.end) = (line.t_us, "through");
            self.running.retain(|r| *r != i);
        }
        if let Some(barrier) = self.barriers.get(&(i, subject)) {
            self.went_on.entry((i, subject, *barrier)).or_default().push(at);
        }
    }

    /// A node's life is over: it answers nothing any more. `before`: all lives but this one.
    fn lose(&mut self, node: Option<u8>, inc: Option<u32>, t_us: u64, before: bool) {
        let steps = &mut self.steps;
        self.open.retain(|key, step| {
            let lost = Some(key.node) == node && !(before && key.inc == inc);
            if lost {
                let step = &mut steps[*step];
                (step.to_us, step.end) = (t_us, StepEnd::Lost);
            }
            !lost
        });
    }

    /// The trace ends.
    pub fn finish(&mut self, lines: &[Line], t: u64) {
        self.steps.iter_mut().filter(|s| s.end == StepEnd::Open).for_each(|s| s.to_us = t);
        self.rounds.iter_mut().filter(|r| r.end == "open").for_each(|r| r.to_us = t);
        self.place();
        self.draw_arrows(lines);
    }

    /// Steps of one level of one node that overlap get different slots.
    fn place(&mut self) {
        let mut ends: BTreeMap<(u8, u16), Vec<u64>> = BTreeMap::new();
        for step in &mut self.steps {
            let slots = ends.entry((step.node, step.level)).or_default();
            let slot = slots.iter().position(|end| *end < step.from_us).unwrap_or(slots.len());
            // Not many subjects are under way at once; what is beyond shares the last slot.
            let slot = slot.min(7);
            match slots.get_mut(slot) {
                Some(end) => *end = step.to_us.max(*end),
                None => slots.push(step.to_us),
            }
            step.slot = slot as u8;
        }
    }

    fn draw_arrows(&mut self, lines: &[Line]) {
        let clock = |at: usize| lines.get(at).and_then(|l| l.lc).unwrap_or(0);
        for step in &self.steps {
            let Some(round) = self.by_name.get(&(step.level, step.round.clone())).copied() else { continue };
            // The newest word of a master that this notification can come from.
            let begun = self.rounds[round].issued.iter().map(|(at, _)| *at);
            let next = step.barrier.checked_sub(1).and_then(|b| self.went_on.get(&(round, step.subject, b)));
            let words: Vec<usize> = match next {
                Some(next) => next.clone(),
                None => begun.collect(),
            };
            let told = words.into_iter().filter(|at| clock(*at) < clock(step.notify)).max_by_key(|at| clock(*at));
            if let Some(told) = told.filter(|at| lines.get(*at).is_some_and(|l| l.node != Some(step.node))) {
                self.arrows.push((told, step.notify));
            }
            if let Some(ack) = step.ack.filter(|_| step.end == StepEnd::Acked) {
                let on = self.went_on.get(&(round, step.subject, step.barrier)).into_iter().flatten();
                let on = on.copied().filter(|at| clock(*at) > clock(ack)).min_by_key(|at| clock(*at));
                if let Some(on) = on.filter(|at| lines.get(*at).is_some_and(|l| l.node != Some(step.node))) {
                    self.arrows.push((ack, on));
                }
            }
        }
    }
}

fn transitions(line: &Line) -> Vec<(u8, u32, String)> {
    let list = line.fields.get("transitions").and_then(|v| v.as_array()).map(Vec::as_slice).unwrap_or_default();
    let one = |t: &serde_json::Value| {
        let subject = u8::try_from(t.get("subject")?.as_u64()?).ok()?;
        let inc = u32::try_from(t.get("subject_inc")?.as_u64()?).ok()?;
        Some((subject, inc, t.get("transition")?.as_str()?.to_owned()))
    };
    list.iter().filter_map(one).collect()
}
