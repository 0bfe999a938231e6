//! The independent checker: reads a trace in the form of the harness contract and holds what MISSION demands of every
//! run. It is written from the contract and from the seeds, and uses none of the code that it checks.
//!
//! ```
//! use quorate_check::{Checker, Options, Rule};
//! let mut checker = Checker::new(Options::default());
//! assert!(checker.push_text(r#"{"t_us": 0, "node": 0, "inc": 1, "nt_us": 0, "seq": 1, "lc": 1, "ev": "boot",
//!     "version": "1", "cmdline": ""}"#).iter().any(|v| v.rule == Rule::Seq));
//! ```
//!
//! What a stream keeps by itself (form, numbering, lives) is checked as lines come in. What holds between nodes is
//! checked along the Lamport clock: with [`Order::Lamport`], for traces of real machines whose lines arrive in any order,
//! at [`Checker::finish`], when all lines are there; with [`Order::Receipt`], for the simulator, whose lines come in an
//! order that respects causality, with each line. Sorting by Lamport clock gives an order that respects causality, because
//! a cause always has the smaller clock; every rule that compares two nodes compares their clocks besides.
//!
//! A killed node's last lines may be lost. So what would follow from lines that are missing at the *end* of a life without
//! `panic` or `halt` is tolerated and counted ([`Counts::tolerated`]): an acknowledgement that is missing there; a view, a
//! round or a fence of a master that was killed. `seq` shows every other loss.

#![forbid(unsafe_code)]

mod forced;
mod form;
mod groups;
mod history;
mod ledger;
mod line;
mod map;
mod order;
mod report;
mod rule;
mod stall;
mod steps;
mod storage;
mod vector;

pub use history::{Members, wrong_successor};
pub use line::{
    Barriers, FenceMethod, Life, Line, LockPhase, Member, MergePhase, NodeState, Ordered, RoundName, StallEvent,
    StepEvent, Topic, Transition, Via, What, numbered,
};
pub use report::{Counts, Report, check, check_file};
pub use rule::{Rule, Violation};

use form::Form;
use groups::Groups;
use history::History;
use rule::Findings;
use serde_json::Value;
use stall::Stalls;
use steps::{Around, Steps};
use storage::Storage;

/// In which order lines come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// In the order of receipt, which says nothing about two nodes: rules between nodes are held at the end.
    #[default]
    Lamport,
    /// In an order that respects causality, complete, with exact times (the simulator): all rules are held at once.
    Receipt,
}

/// What is known of the trace besides its lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// In which order lines come.
    pub order: Order,
    /// Every kill, reset and stop stands in the trace as a harness line, so that a new life without one is wrong.
    pub faults_in_trace: bool,
    /// The trace must end with the harness's `end`.
    pub needs_end: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { order: Order::Lamport, faults_in_trace: true, needs_end: true }
    }
}

impl Options {
    /// For the simulator: everything at once, nothing about the harness.
    pub fn simulator() -> Self {
        Self { order: Order::Receipt, faults_in_trace: false, needs_end: false }
    }
}

/// What a run may do without anybody standing still or being taken for silent.
const HARMLESS: &[&str] = &["start", "leave", "command", "sleep", "snapshot"];

/// Reads a trace and holds the rules.
#[derive(Debug)]
pub struct Checker {
    options: Options,
    lines: u64,
    asserts: u64,
    ballots: u64,
    form: Form,
    history: History,
    steps: Steps,
    stalls: Stalls,
    groups: Groups,
    storage: Storage,
    now: (u64, u64),
    waiting: Vec<(u64, Line)>,
    out: Findings,
}

impl Checker {
    /// Before the first line.
    pub fn new(options: Options) -> Self {
        let history = History::new(options.order == Order::Lamport);
        Self {
            options,
            lines: 0,
            asserts: 0,
            ballots: 0,
            form: Form::default(),
            history,
            steps: Steps::default(),
            stalls: Stalls::default(),
            groups: Groups::default(),
            now: (0, 0),
            storage: Storage::default(),
            waiting: Vec::new(),
            out: Findings::default(),
        }
    }

    /// Takes a line as text.
    pub fn push_text(&mut self, text: &str) -> Vec<Violation> {
        match serde_json::from_str(text) {
            Ok(value) => self.push(&value),
            Err(error) => self.malformed(&format!("not JSON: {error}")),
        }
    }

    /// Takes a line as JSON.
    pub fn push(&mut self, value: &Value) -> Vec<Violation> {
        match Line::parse(value) {
            Ok(line) => self.push_line(line),
            Err(what) => self.malformed(&what),
        }
    }

    /// Takes a line that is read already.
    pub fn push_line(&mut self, line: Line) -> Vec<Violation> {
        self.lines += 1;
        self.out.at(self.lines, Some(&line));
        self.asserts += u64::from(matches!(line.what, What::Assert { .. }));
        self.form.check(&line, self.options.faults_in_trace, &mut self.out);
        if let What::Step { verb, nodes } = &line.what {
            let ends = matches!(verb.as_str(), "kill" | "reset");
            if ends && self.options.order == Order::Receipt {
                self.history.fell(nodes);
            } else if ends || !HARMLESS.contains(&verb.as_str()) {
                self.history.doubt();
            }
        }
        if line.life().is_some() {
            match self.options.order {
                Order::Lamport => self.waiting.push((self.lines, line)),
                Order::Receipt => self.follow(&line),
            }
        }
        self.out.take()
    }

    /// The trace ends here.
    pub fn finish(&mut self) -> Vec<Violation> {
        let mut waiting = std::mem::take(&mut self.waiting);
        // Of one life `lc` grows with `seq`; equal clocks of two nodes are independent of each other.
        waiting.sort_by_key(|(number, line)| (line.lc, line.node, line.inc, *number));
        // Lamport clocks do not show which of two nodes was first, so what casts doubt does so for the whole run.
        if waiting.iter().any(|(_, line)| matches!(line.what, What::Suspect { .. } | What::Freeze)) {
            self.history.doubt();
        }
        for (number, line) in &waiting {
            self.out.at(*number, Some(line));
            self.follow(line);
        }
        let around = around(self.now, &self.history, &self.storage, &self.form);
        self.stalls.finish(&around, &mut self.out);
        self.out.at(0, None);
        self.groups.finish(&mut self.out);
        if self.lines == 0 {
            self.out.add(Rule::Form, "the trace is empty");
        }
        if self.options.needs_end && !self.form.has_end() {
            self.out.add(Rule::EndLast, "`end` is missing");
        }
        self.out.take()
    }

    /// The same for a run that says that its cluster has settled: no transition may be under way, nothing unacknowledged,
    /// all live members know the newest view, and every ACK round, merge and request for a domain has ended.
    pub fn finish_settled(&mut self) -> Vec<Violation> {
        let mut found = self.finish();
        let Some((number, members)) = self.history.newest_view() else { return found };
        for (node, (state, inc)) in members {
            let life = Life { node: *node, inc: *inc };
            if !matches!(state, NodeState::Joined | NodeState::Inactive) {
                self.out.add(Rule::Unfinished, format!("{life} is still {}", state.name()));
            } else if *state == NodeState::Joined && self.history.adopted_number(life) != Some(number) {
                self.out.add(Rule::Unfinished, format!("{life} does not know view {number}"));
            }
        }
        let is_joined = |life: &Life| members.get(&life.node) == Some(&(NodeState::Joined, life.inc));
        for (life, step) in self.steps.ledger.all_open().filter(|(life, _)| is_joined(life)) {
            let what = format!(
                "{life} owes the {} of {} at level {}, barrier {}",
                step.transition.name(),
                step.subject,
                step.level,
                step.barrier
            );
            self.out.add(Rule::Unfinished, what);
        }
        for (life, what) in self.groups.all_open().filter(|(life, _)| is_joined(life)) {
            self.out.add(Rule::Unfinished, format!("{life} waits for the end of {what}"));
        }
        found.extend(self.out.take());
        found
    }

    /// How much was checked so far.
    pub fn counts(&self) -> Counts {
        let steps = self.steps.counts;
        Counts {
            lines: self.lines,
            lives: self.form.lives.len() as u64,
            views: self.history.views() as u64,
            ballots: self.ballots,
            rounds: steps.rounds,
            notifies: steps.notifies,
            acks: steps.acks,
            states: steps.states,
            barriers_ordered: steps.barriers_ordered,
            levels_ordered: steps.levels_ordered,
            fences: self.storage.fences,
            leases: self.storage.leases,
            writes: self.storage.writes,
            waits: self.stalls.reports,
            asserts: self.asserts,
            group_places: self.groups.places(),
            tolerated: self.out.tolerated + self.steps.ledger.tolerated,
        }
    }

    fn malformed(&mut self, what: &str) -> Vec<Violation> {
        self.lines += 1;
        self.out.at(self.lines, None);
        self.out.add(Rule::Form, what);
        self.out.take()
    }

    /// Holds the rules between nodes for one line.
    fn follow(&mut self, line: &Line) {
        let Some(life) = line.life() else { return };
        self.now = (line.lc, line.t_us);
        let out = &mut self.out;
        self.storage.on_line(life, line, self.options.order == Order::Receipt, out);
        let steps = &mut self.steps;
        // What most lines are, first: nothing but the disk's business.
        match &line.what {
            What::Lock { phase, ballot } => {
                self.ballots += u64::from(*phase == LockPhase::Acquired);
                return self.history.on_lock(life, (*phase, *ballot), &self.form.lives, out);
            }
            What::Suspect { .. } => self.history.doubt(),
            What::Ordered(event) => return self.groups.on_ordered(life, event, out),
            What::Freeze | What::Thaw => return self.history.on_freeze(life, matches!(line.what, What::Freeze)),
            What::View { ballot, view, members } => {
                if let Some((state, inc)) = members.get(&life.node)
                    && (*inc > life.inc || *inc == life.inc && *state == NodeState::ForcedLeaving)
                {
                    self.storage.on_put_out(life, line.nt_us);
                }
                let changes = self.history.on_view(life, line, &self.form.lives, out);
                if let Some(members) = self.history.members(*view).filter(|_| !changes.is_empty()) {
                    let around = around(self.now, &self.history, &self.storage, &self.form);
                    for change in changes {
                        steps.on_change(change, *ballot, &around, members, out);
                    }
                }
                return;
            }
            _ => {}
        }
        let around = around(self.now, &self.history, &self.storage, &self.form);
        match &line.what {
            What::Register { level, name, barriers } => {
                steps.on_register(life, (*level, name, *barriers), &around, out);
            }
            What::Deregister { level } => steps.on_deregister(life, *level, &around, out),
            What::Round { level, round, transitions, participants } => {
                steps.on_round(life, (*round, *level), (transitions, participants), &around, out);
            }
            What::Notify(event) => steps.on_notify(life, event, &around, out),
            What::Ack(event) => steps.on_ack(life, event, &around, out),
            What::StaleAck(event) => steps.on_stale_ack(life, event, &around, out),
            What::State { subject, level, is } => steps.on_state(life, (*subject, *level, *is), &around, out),
            What::Waiting(stall) => self.stalls.on_stall(life, (stall, false), steps, &around, out),
            What::Overdue(stall) => self.stalls.on_stall(life, (stall, true), steps, &around, out),
            What::Refuse { peer } => {
                self.history.acts_as_master(life, &format!("the refusal of {peer}"), out);
            }
            What::FenceBegin { peer, method } | What::Fence { peer, method, .. } => {
                // To wait a lease out is to look on, which a frozen master may.
                if *method == FenceMethod::Reservation || self.history.held(life).is_none() {
                    self.history.acts_as_master(life, "a fence", out);
                }
                if !around.seen(*peer, NodeState::ForcedLeaving) {
                    out.add(Rule::Fence, format!("a fence of {peer}, which no view puts out"));
                }
            }
            What::Halt { .. } => steps.on_halt(life, out),
            _ => {}
        }
    }
}

fn around<'a>((lc, t_us): (u64, u64), history: &'a History, storage: &'a Storage, form: &'a Form) -> Around<'a> {
    Around { lc, t_us, history, storage, lives: &form.lives }
}
