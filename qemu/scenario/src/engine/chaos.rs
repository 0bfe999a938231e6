//! Plays a `chaos` step: faults at random, ends each in its time, starts what ended, and heals everything now and then, when
//! all must be joined again.
//!
//! ```text
//!        ┌──────────── settle_every_ms ────────────┐
//! faults, each with its end; who ended starts anew ──▶ heal ──▶ all joined within settle_ms ──▶ again, until for_ms
//! ```
//! It uses only what any world can do, so that it is the same on QEMU and in the simulator. A node has at most one lasting
//! fault of its own, for a machine that stands still can be told nothing else. What the world itself cannot do (a QEMU that
//! an overloaded host keeps from answering) ends that machine, and is counted; more than a few fail the step.

use std::collections::BTreeMap;

use quorate_base::{NodeId, NodeSet, NodeState};
use quorate_switch::Fault;
use serde_json::json;

use super::Engine;
use crate::backend::Trouble;
use crate::chaos::{Chaos, Draws, Kind};
use crate::model::{Condition, DiskFault, MachineVerb, StartOptions, Step};
use crate::nodes::NodeExpr;

/// How often it is looked whether a node ended, µs.
const LOOK_US: u64 = 100_000;

/// What the world could not do fails the step beyond so many, …
const MISSES_MIN: u64 = 3;
/// … and one in so many faults.
const MISSES_ONE_IN: u64 = 20;

/// Frozen again only after so many times `dead`: two short ones within one lease are as bad as a long one.
const FREEZES_APART: u64 = 2;

/// What lasts on one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ill {
    Paused,
    Frozen,
    Disk,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Patient {
    ill: Option<(Ill, u64)>,
    /// Ended, and to be started then.
    back_at: Option<u64>,
    thawed_at: Option<u64>,
}

/// One `chaos` step under way.
struct Havoc<'c> {
    chaos: &'c Chaos,
    draws: Draws,
    nodes: NodeSet,
    patients: BTreeMap<NodeId, Patient>,
    links: Vec<(u64, NodeSet, NodeSet)>,
    counts: BTreeMap<&'static str, u64>,
    index: u32,
}

impl Engine<'_> {
    /// Makes faults for as long as the step says.
    pub(super) fn chaos(&mut self, step: &Step, chaos: &Chaos, nodes: NodeSet) -> Result<(), Trouble> {
        let draws = Draws::new(chaos.seed.unwrap_or(self.seed), self.timing);
        let patients = nodes.iter().map(|n| (n, Patient::default())).collect();
        let mut havoc =
            Havoc { chaos, draws, nodes, patients, links: Vec::new(), counts: BTreeMap::new(), index: step.index };
        let result = self.rounds(&mut havoc);
        self.world.say("chaos", json!({ "index": step.index, "injected": havoc.counts }));
        for (kind, count) in &havoc.counts {
            *self.injected.entry((*kind).to_owned()).or_default() += count;
        }
        result
    }

    fn rounds(&mut self, havoc: &mut Havoc<'_>) -> Result<(), Trouble> {
        let end = self.world.now_us().saturating_add(havoc.chaos.for_ms * 1000);
        while self.world.now_us() < end {
            let until = end.min(self.world.now_us().saturating_add(havoc.chaos.settle_every_ms * 1000));
            self.make_faults(havoc, until)?;
            self.settle(havoc)?;
        }
        Ok(())
    }

    fn make_faults(&mut self, havoc: &mut Havoc<'_>, until: u64) -> Result<(), Trouble> {
        let mut next = self.world.now_us().saturating_add(havoc.draws.gap_ms(havoc.chaos.every_ms) * 1000);
        loop {
            self.refresh();
            let now = self.world.now_us();
            if now >= until {
                return Ok(());
            }
            self.end_faults(havoc, now)?;
            self.bring_back(havoc, now)?;
            if now >= next {
                self.strike(havoc, now)?;
                next = self.world.now_us().saturating_add(havoc.draws.gap_ms(havoc.chaos.every_ms) * 1000);
            }
            let due = havoc.next_end().min(next).min(until).min(now + LOOK_US);
            self.world.wait(usize::MAX, due)?;
        }
    }

    /// Ends what has lasted long enough.
    fn end_faults(&mut self, havoc: &mut Havoc<'_>, now: u64) -> Result<(), Trouble> {
        for n in havoc.nodes {
            let over = havoc.patient(n).ill.take_if(|(_, until)| *until <= now);
            if let Some((ill, _)) = over {
                self.cure(havoc, n, ill)?;
            }
        }
        let over: Vec<_> = havoc.links.extract_if(.., |(until, _, _)| *until <= now).collect();
        for (_, from, to) in over {
            self.told(havoc, "heal", from, &format!("to {to}"));
            self.world.heal(Some((from, to)))?;
        }
        Ok(())
    }

    /// Ends one lasting fault of a node.
    fn cure(&mut self, havoc: &mut Havoc<'_>, n: NodeId, ill: Ill) -> Result<(), Trouble> {
        let verb = match ill {
            Ill::Paused => MachineVerb::Resume,
            Ill::Frozen => MachineVerb::Thaw,
            Ill::Disk => {
                self.told(havoc, "disk_heal", NodeSet::only(n), "");
                let healed = self.world.disk(None, n);
                return self.tried(havoc, n, healed);
            }
        };
        if ill == Ill::Frozen {
            havoc.patient(n).thawed_at = Some(self.world.now_us());
        }
        if !self.world.runs(n) {
            self.stopped.remove(n);
            return Ok(());
        }
        self.told(havoc, verb.name(), NodeSet::only(n), "");
        let done = self.machine(verb, n);
        self.tried(havoc, n, done)
    }

    /// Starts what ended, each after a while.
    fn bring_back(&mut self, havoc: &mut Havoc<'_>, now: u64) -> Result<(), Trouble> {
        for n in havoc.nodes {
            if !self.has_ended(n) {
                continue;
            }
            match havoc.patient(n).back_at {
                None => {
                    let away_ms = havoc.draws.between(0, 3 * u64::from(self.timing.dead));
                    havoc.patient(n).back_at = Some(now + away_ms * 1000);
                }
                Some(at) if at <= now => self.start_again(havoc, n)?,
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn has_ended(&self, n: NodeId) -> bool {
        !self.world.runs(n) || self.beliefs.life(n).end.is_some()
    }

    fn start_again(&mut self, havoc: &mut Havoc<'_>, n: NodeId) -> Result<(), Trouble> {
        let patient = havoc.patient(n);
        patient.back_at = None;
        if let Some((ill, _)) = patient.ill.take() {
            self.cure(havoc, n, ill)?;
        }
        self.told(havoc, "start", NodeSet::only(n), "");
        let started = self.start(n, &StartOptions::default());
        self.tried(havoc, n, started)
    }

    /// One fault.
    fn strike(&mut self, havoc: &mut Havoc<'_>, now: u64) -> Result<(), Trouble> {
        let Some(kind) = havoc.draws.kind(havoc.chaos) else { return Ok(()) };
        let done = match kind {
            Kind::Cut | Kind::CutOneWay | Kind::Noise => self.strike_links(havoc, kind, now)?,
            Kind::KillAll => {
                self.told(havoc, "kill", havoc.nodes, "all at once");
                self.stopped = self.stopped.minus(havoc.nodes);
                self.world.kill(havoc.nodes)?;
                true
            }
            Kind::Outage => {
                let for_ms = havoc.draws.length_ms();
                let well: Vec<NodeId> = havoc.nodes.iter().filter(|n| self.can_be_told(havoc, *n)).collect();
                for n in &well {
                    // Each gets its disk back at a moment of its own.
                    let until = now + (for_ms + havoc.draws.between(0, 100)) * 1000;
                    self.fault_disk(havoc, *n, DiskFault::Stall, until)?;
                }
                !well.is_empty()
            }
            _ => {
                let well: Vec<NodeId> = havoc.nodes.iter().filter(|n| self.can_be_told(havoc, *n)).collect();
                // The master more often than by chance: most of what can go wrong goes wrong there.
                let master = self.cast().master.filter(|m| well.contains(m) && havoc.draws.between(0, 3) == 0);
                match master.or_else(|| havoc.draws.pick(&well)) {
                    Some(n) => self.strike_node(havoc, kind, n, now)?,
                    None => false,
                }
            }
        };
        if done {
            *havoc.counts.entry(kind.name()).or_default() += 1;
        }
        Ok(())
    }

    /// Whether a node runs and has no lasting fault.
    fn can_be_told(&self, havoc: &Havoc<'_>, n: NodeId) -> bool {
        !self.has_ended(n) && havoc.patients.get(&n).is_none_or(|p| p.ill.is_none())
    }

    fn strike_node(&mut self, havoc: &mut Havoc<'_>, kind: Kind, n: NodeId, now: u64) -> Result<bool, Trouble> {
        let one = NodeSet::only(n);
        let for_ms = if kind == Kind::Freeze { havoc.draws.freeze_ms() } else { havoc.draws.length_ms() };
        let until = now + for_ms * 1000;
        let fault = match kind {
            Kind::Kill => {
                self.told(havoc, "kill", one, "");
                self.world.kill(one)?;
                return Ok(true);
            }
            // Not while its firmware runs: QEMU keeps over a reset what the firmware has half remapped, and the machine may
            // never come up again.
            Kind::Reset if self.beliefs.life(n).inc.is_none() => return Ok(false),
            Kind::Reset | Kind::Leave => {
                let verb = if kind == Kind::Reset { MachineVerb::Reset } else { MachineVerb::Leave };
                self.told(havoc, verb.name(), one, "");
                let done = self.machine(verb, n);
                return self.tried(havoc, n, done).map(|()| true);
            }
            Kind::Pause | Kind::Freeze => {
                let (verb, ill) = match kind {
                    Kind::Pause => (MachineVerb::Pause, Ill::Paused),
                    _ => (MachineVerb::Freeze, Ill::Frozen),
                };
                let apart_us = FREEZES_APART * u64::from(self.timing.dead) * 1000;
                let too_soon = havoc.patient(n).thawed_at.is_some_and(|at| now < at + apart_us);
                if kind == Kind::Freeze && too_soon {
                    return Ok(false);
                }
                self.told(havoc, verb.name(), one, &format!("{for_ms} ms"));
                let done = self.machine(verb, n);
                havoc.patient(n).ill = Some((ill, until));
                return self.tried(havoc, n, done).map(|()| true);
            }
            Kind::DiskStall => DiskFault::Stall,
            Kind::DiskGone => DiskFault::Gone,
            Kind::DiskDelay => DiskFault::Delay(havoc.draws.delay_ms()),
            Kind::DiskTear => DiskFault::Tear { at: None, bytes: None },
            _ => {
                let (write, count) = (havoc.draws.between(0, 1) == 0, havoc.draws.between(1, 20));
                DiskFault::Error { write, count: Some(count as u32), at: None }
            }
        };
        self.fault_disk(havoc, n, fault, until)?;
        Ok(true)
    }

    fn fault_disk(&mut self, havoc: &mut Havoc<'_>, n: NodeId, fault: DiskFault, until: u64) -> Result<(), Trouble> {
        let verb = fault.verb();
        let for_ms = until.saturating_sub(self.world.now_us()) / 1000;
        self.told(havoc, verb, NodeSet::only(n), &format!("{fault:?}, {for_ms} ms"));
        let done = self.world.disk(Some(fault), n);
        havoc.patient(n).ill = Some((Ill::Disk, until));
        self.tried(havoc, n, done)
    }

    fn strike_links(&mut self, havoc: &mut Havoc<'_>, kind: Kind, now: u64) -> Result<bool, Trouble> {
        let all: Vec<NodeId> = havoc.nodes.iter().collect();
        let Some(from) = havoc.draws.pick(&all) else { return Ok(false) };
        let others: Vec<NodeId> = all.into_iter().filter(|n| *n != from).collect();
        let Some(other) = havoc.draws.pick(&others) else { return Ok(false) };
        let to: NodeSet =
            if havoc.draws.between(0, 3) == 0 { others.into_iter().collect() } else { NodeSet::only(other) };
        let (verb, fault) = if kind == Kind::Noise {
            let fault = havoc.draws.noise();
            (verb_of(&fault), fault)
        } else {
            ("cut", Fault::Cut)
        };
        let oneway = kind == Kind::CutOneWay;
        let for_ms = havoc.draws.length_ms();
        let from = NodeSet::only(from);
        let way = if oneway { " one way" } else { "" };
        self.told(havoc, verb, from, &format!("to {to}{way}, {for_ms} ms"));
        self.world.link(fault, from, to, oneway)?;
        havoc.links.push((now + for_ms * 1000, from, to));
        Ok(true)
    }

    /// Heals everything and waits until all are joined and agree on a master. Who ends meanwhile is started again: a node
    /// that was put out may only now find out.
    fn settle(&mut self, havoc: &mut Havoc<'_>) -> Result<(), Trouble> {
        self.told(havoc, "heal", havoc.nodes, "everything");
        havoc.links.clear();
        self.world.heal(None)?;
        for n in havoc.nodes {
            if let Some((ill, _)) = havoc.patient(n).ill.take() {
                self.cure(havoc, n, ill)?;
            }
        }
        let joined =
            Condition::State { subject: NodeExpr::Ids(havoc.nodes), is: NodeState::Joined, level: None, node: None };
        let until = self.world.now_us().saturating_add(havoc.chaos.settle_ms * 1000);
        loop {
            for n in havoc.nodes {
                if self.has_ended(n) {
                    self.start_again(havoc, n)?;
                }
            }
            let late = self.world.now_us() >= until;
            let mut verdict = self.judge(&joined)?;
            if verdict.holds() {
                verdict = self.judge(&Condition::Master { is: None })?;
            }
            // Of one that was started and has said nothing yet the others have its old life.
            let silent = havoc.nodes.iter().filter(|n| self.beliefs.life(*n).inc.is_none());
            verdict.missing.extend(silent.map(|n| format!("node {n} has not booted")));
            if verdict.missing.is_empty() {
                return Ok(());
            }
            if late {
                self.missing = verdict.missing;
                self.concerned = havoc.nodes;
                let within_ms = havoc.chaos.settle_ms;
                return Err(Trouble::Failed(format!(
                    "everything was healed, and not all of nodes {} were joined within {within_ms} ms",
                    havoc.nodes
                )));
            }
            let due = until.min(self.world.now_us() + LOOK_US);
            self.world.wait(usize::MAX, due)?;
            self.refresh();
        }
    }

    /// What is done stands in the trace as a step of its own.
    fn told(&mut self, havoc: &Havoc<'_>, verb: &str, nodes: NodeSet, what: &str) {
        let ids: Vec<u8> = nodes.iter().map(NodeId::get).collect();
        let what = format!("chaos: {verb} {what}");
        self.world.say("step", json!({ "index": havoc.index, "do": verb, "nodes": ids, "what": what.trim_end() }));
    }

    /// An act on a node's machine was tried. If the world could not do it, the machine ends: nothing is known about it.
    fn tried(&mut self, havoc: &mut Havoc<'_>, n: NodeId, result: Result<(), Trouble>) -> Result<(), Trouble> {
        let why = match result {
            Ok(()) => return Ok(()),
            Err(Trouble::Interrupted) => return Err(Trouble::Interrupted),
            Err(Trouble::Failed(why) | Trouble::Broken(why)) => why,
        };
        self.refresh();
        if self.has_ended(n) {
            // It ended by itself meanwhile, and could not be told anything.
            return Ok(());
        }
        self.told(havoc, "kill", NodeSet::only(n), &format!("because: {why}"));
        self.stopped.remove(n);
        self.world.kill(NodeSet::only(n))?;
        let faults: u64 = havoc.counts.values().sum();
        let misses = havoc.counts.entry("harness_trouble").or_default();
        *misses += 1;
        if *misses > MISSES_MIN + faults / MISSES_ONE_IN {
            return Err(Trouble::Broken(format!("{misses} acts of {faults} could not be done, the last: {why}")));
        }
        Ok(())
    }
}

impl Havoc<'_> {
    fn patient(&mut self, n: NodeId) -> &mut Patient {
        self.patients.entry(n).or_default()
    }

    fn next_end(&self) -> u64 {
        let ill = self.patients.values().filter_map(|p| p.ill.map(|(_, until)| until));
        let back = self.patients.values().filter_map(|p| p.back_at);
        ill.chain(back).chain(self.links.iter().map(|(until, _, _)| *until)).min().unwrap_or(u64::MAX)
    }
}

fn verb_of(fault: &Fault) -> &'static str {
    match fault {
        Fault::Cut => "cut",
        Fault::Loss { .. } => "loss",
        Fault::Duplicate { .. } => "duplicate",
        Fault::Reorder { .. } => "reorder",
        Fault::Corrupt { .. } => "corrupt",
        Fault::Delay { .. } => "delay",
    }
}
