//! Plays a scenario: steps in order, waits driven by events, the first thing that does not hold ends it.

mod chaos;

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_base::{NodeId, NodeSet, Timing};
use quorate_trace::Line;
use serde_json::json;

use crate::backend::{Backend, Trouble};
use crate::belief::Beliefs;
use crate::diagnosis::diagnose;
use crate::judge::{Moment, Verdict, judge};
use crate::model::{Action, Condition, MachineVerb, Scenario, Step, StepKind};
use crate::nodes::{Cast, NodeExpr};
use crate::source::{Problem, Problems, Span, render};
use crate::words::ends_the_kernel;

/// What did not hold, or did not work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The step's number.
    pub index: u32,
    /// The step in the text.
    pub span: Span,
    /// The step, in one line.
    pub what: String,
    /// Failed, broken or interrupted, and why.
    pub trouble: Trouble,
    /// For the person at 3 a.m.: what is missing, each node's last events, each node's own status.
    pub details: Vec<String>,
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// How many steps were done, repeated ones counted each time.
    pub steps: u32,
    /// How many conditions held.
    pub held: u32,
    /// How many faults of each kind `chaos` steps made.
    pub injected: BTreeMap<String, u64>,
    /// What ended it, if not its last step.
    pub failure: Option<Failure>,
}

impl Outcome {
    /// Every expectation held.
    pub fn ok(&self) -> bool {
        self.failure.is_none()
    }
}

impl Failure {
    /// With its place in the scenario file, then the details.
    pub fn render(&self, scenario: &Scenario, colour: bool) -> String {
        let problem = Problem {
            message: self.trouble.to_string(),
            span: self.span.clone(),
            label: "this step".to_owned(),
            help: None,
        };
        let mut text = render(&scenario.source, &problem, colour);
        for line in &self.details {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// Checks that a world can do every step of a scenario, before anything is started.
///
/// # Errors
/// Each step that it cannot do, with its place.
pub fn check(scenario: &Scenario, world: &dyn Backend) -> Result<(), Problems> {
    check_steps(scenario, &|kind| match kind {
        StepKind::Do(action) => world.refuses(action),
        StepKind::Wait { condition, .. } | StepKind::Expect(condition) => world.refuses_condition(condition),
    })
}

/// As [`check`], for a world that is not made yet: `refuses` says why it could not do a step, if it could not.
///
/// # Errors
/// Each step that it could not do, with its place.
pub fn check_steps(scenario: &Scenario, refuses: &dyn Fn(&StepKind) -> Option<String>) -> Result<(), Problems> {
    let mut list = Vec::new();
    refused(&scenario.steps, refuses, &mut list);
    if list.is_empty() { Ok(()) } else { Err(Problems { source: scenario.source.clone(), list }) }
}

fn refused(steps: &[Step], refuses: &dyn Fn(&StepKind) -> Option<String>, list: &mut Vec<Problem>) {
    for step in steps {
        if let Some(why) = refuses(&step.kind) {
            let message = match &step.kind {
                StepKind::Do(action) => format!("`{}` cannot be done here: {why}", action.verb()),
                _ => format!("`{}` cannot be judged here: {why}", step.what),
            };
            list.push(Problem { message, span: step.span.clone(), label: "this step".to_owned(), help: None });
        }
        if let StepKind::Do(Action::Repeat { steps, .. }) = &step.kind {
            refused(steps, refuses, list);
        }
    }
}

/// Plays a scenario in a world, ends its machines, and writes the `step`, `assert` and `end` lines. Call [`check`] first.
pub fn run(scenario: &Scenario, world: &mut dyn Backend) -> Outcome {
    let mut engine = Engine {
        world,
        configured: NodeSet::first(scenario.nodes),
        beliefs: Beliefs::default(),
        lines: Vec::new(),
        last_do: 0,
        stopped: NodeSet::EMPTY,
        starting: BTreeMap::new(),
        saved: BTreeMap::new(),
        snapshots: BTreeMap::new(),
        missing: Vec::new(),
        concerned: NodeSet::EMPTY,
        steps: 0,
        held: 0,
        seed: scenario.seed,
        timing: scenario.timing,
        injected: BTreeMap::new(),
    };
    let mut failure = engine.all(&scenario.steps).err().map(|(step, trouble)| engine.report(step, trouble));
    if let (Err(trouble), Some(last), None) = (engine.world.finish(), scenario.steps.last(), &failure) {
        failure = Some(engine.report(last, trouble));
    }
    engine.world.say("end", json!({ "ok": failure.is_none() }));
    Outcome { steps: engine.steps, held: engine.held, injected: engine.injected, failure }
}

struct Engine<'w> {
    world: &'w mut dyn Backend,
    configured: NodeSet,
    beliefs: Beliefs,
    lines: Vec<Arc<Line>>,
    last_do: usize,
    /// Stopped from outside: paused or frozen.
    stopped: NodeSet,
    /// Nodes that were started and have not said a word yet, and when that was, µs.
    starting: BTreeMap<NodeId, u64>,
    saved: BTreeMap<String, NodeSet>,
    snapshots: BTreeMap<String, BTreeMap<String, String>>,
    /// Of the condition that did not hold.
    missing: Vec<String>,
    /// The nodes that a failure is about.
    concerned: NodeSet,
    steps: u32,
    held: u32,
    seed: u64,
    timing: Timing,
    injected: BTreeMap<String, u64>,
}

type Failed<'s> = (&'s Step, Trouble);

impl Engine<'_> {
    fn all<'s>(&mut self, steps: &'s [Step]) -> Result<(), Failed<'s>> {
        for step in steps {
            if let StepKind::Do(Action::Repeat { times, steps }) = &step.kind {
                for _ in 0..*times {
                    self.all(steps)?;
                }
                continue;
            }
            self.steps += 1;
            self.one(step).map_err(|trouble| (step, trouble))?;
        }
        Ok(())
    }

    fn one(&mut self, step: &Step) -> Result<(), Trouble> {
        self.refresh();
        self.concerned = NodeSet::EMPTY;
        let (nodes, outcome) = match &step.kind {
            StepKind::Do(action) => self.act(step, action)?,
            StepKind::Wait { condition, within_ms } => {
                let outcome = self.wait(condition, *within_ms);
                self.assert(step, outcome)?
            }
            StepKind::Expect(condition) => {
                let outcome = self.judge(condition);
                self.assert(step, outcome)?
            }
        };
        if let Some(name) = &step.save
            && !nodes.is_empty()
        {
            self.saved.insert(name.clone(), nodes);
        }
        outcome
    }

    /// Takes in the lines that came meanwhile.
    fn refresh(&mut self) {
        for line in self.world.lines(self.lines.len()) {
            self.beliefs.take(&line);
            if matches!(line.ev.as_str(), "boot" | "panic")
                && let Some(node) = line.node.and_then(NodeId::new)
            {
                self.starting.remove(&node);
            }
            if line.ev == "boot" {
                // A life that begins by itself: the one before hung, and a watchdog reset it.
                self.stopped =
                    self.stopped.minus(line.node.and_then(NodeId::new).map(NodeSet::only).unwrap_or_default());
            }
            self.lines.push(line);
        }
    }

    fn cast(&self) -> Cast {
        let started: NodeSet = self.configured.iter().filter(|n| self.world.runs(*n)).collect();
        let ended: NodeSet = started.iter().filter(|n| self.beliefs.life(*n).end.is_some()).collect();
        let live = started.minus(self.stopped).minus(ended);
        let master = self.beliefs.master(live);
        Cast { configured: self.configured, started, live, master, saved: self.saved.clone() }
    }

    fn resolve(&self, expr: &NodeExpr) -> Result<NodeSet, Trouble> {
        self.cast().resolve(expr).map_err(Trouble::Failed)
    }

    fn judge(&mut self, condition: &Condition) -> Result<Verdict, Trouble> {
        self.refresh();
        let cast = self.cast();
        let moment = Moment {
            beliefs: &self.beliefs,
            cast: &cast,
            lines: &self.lines,
            last_do: self.last_do,
            snapshots: &self.snapshots,
        };
        judge(condition, &moment, self.world)
    }

    /// Until it holds or the time is over; `no_event` must hold all the time.
    fn wait(&mut self, condition: &Condition, within_ms: u64) -> Result<Verdict, Trouble> {
        let mut seen_us = self.world.now_us();
        let mut until_us = seen_us.saturating_add(within_ms * 1000);
        let throughout = matches!(condition, Condition::NoEvent(_));
        loop {
            // Firmware's time is not the cluster's: limits are about what nodes do.
            let now_us = self.world.now_us();
            if self.is_in_firmware(now_us) {
                until_us = until_us.saturating_add(now_us - seen_us);
            }
            seen_us = now_us;
            // The clock is read first: what happened up to the deadline counts.
            let late = self.world.now_us() >= until_us;
            let verdict = self.judge(condition)?;
            if late || verdict.holds() != throughout {
                return Ok(verdict);
            }
            self.world.wait(self.lines.len(), until_us)?;
        }
    }

    /// Whether a machine is on its way through its firmware.
    fn is_in_firmware(&self, now_us: u64) -> bool {
        let most = self.world.firmware_us();
        self.starting.values().any(|begun| now_us < begun.saturating_add(most))
    }

    fn assert(
        &mut self,
        step: &Step,
        outcome: Result<Verdict, Trouble>,
    ) -> Result<(NodeSet, Result<(), Trouble>), Trouble> {
        let verdict = match outcome {
            Ok(verdict) => verdict,
            Err(trouble) => {
                self.world.say("assert", json!({ "index": step.index, "what": step.what, "ok": false }));
                return Err(trouble);
            }
        };
        let ok = verdict.holds();
        self.world.say("assert", json!({ "index": step.index, "what": step.what, "ok": ok }));
        self.concerned = verdict.nodes;
        if ok {
            self.held += 1;
            return Ok((saved_nodes(step, verdict.nodes, self), Ok(())));
        }
        let message = match &step.kind {
            StepKind::Wait { within_ms, condition: Condition::NoEvent(_) } => {
                format!("did not hold for {within_ms} ms: {}", step.what)
            }
            StepKind::Wait { within_ms, .. } => format!("did not come about within {within_ms} ms: {}", step.what),
            _ => format!("does not hold: {}", step.what),
        };
        self.missing = verdict.missing;
        Err(Trouble::Failed(message))
    }

    fn act(&mut self, step: &Step, action: &Action) -> Result<(NodeSet, Result<(), Trouble>), Trouble> {
        let nodes = match action {
            Action::Start { node, .. }
            | Action::Machine { node, .. }
            | Action::Command { node, .. }
            | Action::Disk { node, .. }
            | Action::DiskHeal { node }
            | Action::InstallKernel { node, .. }
            | Action::Chaos { node, .. } => self.resolve(node)?,
            Action::Link { from, .. } => self.resolve(from)?,
            Action::Image { node: Some(node), .. } => self.resolve(node)?,
            _ => NodeSet::EMPTY,
        };
        self.last_do = self.lines.len();
        let ids: Vec<u8> = nodes.iter().map(NodeId::get).collect();
        self.world.say("step", json!({ "index": step.index, "do": action.verb(), "nodes": ids, "what": step.what }));
        self.concerned = nodes;
        Ok((nodes, self.perform(step, action, nodes)))
    }

    fn perform(&mut self, step: &Step, action: &Action, nodes: NodeSet) -> Result<(), Trouble> {
        match action {
            Action::Start { options, .. } => nodes.iter().try_for_each(|n| self.start(n, options)),
            Action::Machine { verb: MachineVerb::Kill, .. } => {
                // One that does not run is as dead as it is to be.
                self.stopped = self.stopped.minus(nodes);
                self.starting.retain(|node, _| !nodes.contains(*node));
                self.world.kill(nodes)
            }
            Action::Machine { verb, .. } => nodes.iter().try_for_each(|n| self.machine(*verb, n)),
            Action::Command { text, reply, .. } => nodes.iter().try_for_each(|n| {
                let got = self.world.command(n, text)?;
                if ends_the_kernel(text).is_some() {
                    // That life is over; the next one begins by itself or by a step.
                    self.stopped.insert(n);
                }
                match reply {
                    Some(want) if !want.is_match(&got) => {
                        Err(Trouble::Failed(format!("node {n} replied to `{text}` not /{want}/ but: {}", got.trim())))
                    }
                    _ => Ok(()),
                }
            }),
            Action::Link { fault, to, oneway, .. } => {
                let to = self.resolve(to)?;
                self.world.link(*fault, nodes, to, *oneway)
            }
            Action::Heal { from: NodeExpr::All, to: NodeExpr::All } => self.world.heal(None),
            Action::Heal { from, to } => {
                let between = (self.resolve(from)?, self.resolve(to)?);
                self.world.heal(Some(between))
            }
            Action::Disk { fault, .. } => nodes.iter().try_for_each(|n| self.world.disk(Some(*fault), n)),
            Action::TargetRestart { off_ms } => self.world.target_restart(*off_ms),
            Action::DiskHeal { .. } => nodes.iter().try_for_each(|n| self.world.disk(None, n)),
            Action::Inject(inject) => self.world.inject(inject),
            Action::Snapshot => {
                let regions = self.world.regions()?;
                self.snapshots.insert(step.save.clone().unwrap_or_default(), regions);
                Ok(())
            }
            Action::Sleep { ms } => {
                let until_us = self.world.now_us().saturating_add(ms * 1000);
                while self.world.now_us() < until_us {
                    self.world.wait(usize::MAX, until_us)?;
                }
                Ok(())
            }
            Action::Image { edit, node } => match node {
                Some(_) => nodes.iter().try_for_each(|n| self.world.edit(*edit, Some(n))),
                None => self.world.edit(*edit, None),
            },
            Action::InstallKernel { install, .. } => {
                nodes.iter().try_for_each(|n| self.world.install_kernel(n, install))
            }
            Action::Chaos { chaos, .. } => self.chaos(step, chaos, nodes),
            // Its steps are done by `all`.
            Action::Repeat { .. } => Ok(()),
        }
    }

    fn start(&mut self, node: NodeId, options: &crate::model::StartOptions) -> Result<(), Trouble> {
        if self.world.runs(node) {
            self.refresh();
            if self.beliefs.life(node).end.is_none() {
                return Err(Trouble::Failed(format!("node {node} runs already")));
            }
            self.world.kill(NodeSet::only(node))?;
        }
        // Lines of the old life that were still under way are not the new one's.
        self.refresh();
        self.beliefs.begin(node);
        self.stopped.remove(node);
        self.starting.insert(node, self.world.now_us());
        self.world.start(node, options)
    }

    fn machine(&mut self, verb: MachineVerb, node: NodeId) -> Result<(), Trouble> {
        if !self.world.runs(node) {
            return Err(Trouble::Failed(format!("`{}`: node {node} does not run", verb.name())));
        }
        if verb == MachineVerb::Reset {
            self.refresh();
            self.beliefs.begin(node);
            self.starting.insert(node, self.world.now_us());
        }
        self.world.machine(verb, node)?;
        match verb {
            MachineVerb::Pause | MachineVerb::PauseAtIdle(_) | MachineVerb::Freeze => drop(self.stopped.insert(node)),
            MachineVerb::Resume | MachineVerb::Thaw | MachineVerb::Reset => drop(self.stopped.remove(node)),
            MachineVerb::Kill | MachineVerb::Leave => {}
        }
        Ok(())
    }

    /// What the person at 3 a.m. needs.
    fn report(&mut self, step: &Step, trouble: Trouble) -> Failure {
        self.refresh();
        let cast = self.cast();
        let concerned = if self.concerned.is_empty() { cast.started } else { self.concerned.or(cast.live) };
        let mut details: Vec<String> = self.missing.iter().map(|m| format!("  missing: {m}")).collect();
        let world: Option<&mut dyn Backend> =
            if trouble == Trouble::Interrupted { None } else { Some(&mut *self.world) };
        details.extend(diagnose(concerned, &self.beliefs, &cast, world));
        Failure { index: step.index, span: step.span.clone(), what: step.what.clone(), trouble, details }
    }
}

/// What `save` keeps of a condition: its subjects; of an event its node.
fn saved_nodes(step: &Step, hit: NodeSet, engine: &Engine<'_>) -> NodeSet {
    let (StepKind::Wait { condition, .. } | StepKind::Expect(condition)) = &step.kind else { return hit };
    match condition {
        Condition::State { subject, .. } => engine.cast().resolve(subject).unwrap_or(hit),
        _ => hit,
    }
}
