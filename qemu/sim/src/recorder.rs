//! The trace of a run: every record as a line of the harness contract, given to the checker at once.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use quorate_base::event::{Event, LockPhase, Record, TraceSink};
use quorate_base::{Ballot, Incarnation, NodeId};
use quorate_check::{Checker, Options};
use quorate_trace::Line;
use serde_json::{Map, Value, json};

/// Lines that a failure shows.
const TAIL_LINES: usize = 60;

/// Takes records, checks them, keeps what is asked for.
#[derive(Debug)]
pub(crate) struct Recorder {
    checker: Checker,
    keep: bool,
    lines: Vec<Arc<Line>>,
    tail: VecDeque<Arc<Line>>,
    harness_seq: u64,
    /// No steps of the simulator's own.
    pub quiet: bool,
    /// The first thing that was wrong.
    pub broken: Option<String>,
    /// Lives whose fence is through: nothing of them may be written any more.
    pub fenced: BTreeSet<(NodeId, Incarnation)>,
    /// Ballots under which the lock was acquired.
    pub masters: Vec<(u64, Ballot)>,
    /// Lines so far.
    pub count: u64,
}

impl Recorder {
    pub fn new(keep: bool) -> Self {
        Self {
            checker: Checker::new(Options::simulator()),
            keep,
            lines: Vec::new(),
            tail: VecDeque::new(),
            harness_seq: 0,
            quiet: false,
            broken: None,
            fenced: BTreeSet::new(),
            masters: Vec::new(),
            count: 0,
        }
    }

    /// A line of the simulator itself.
    pub fn step(&mut self, t_us: u64, verb: &str, nodes: &[u8], what: &str) {
        if !self.quiet {
            self.say(t_us, "step", json!({"index": self.harness_seq, "do": verb, "nodes": nodes, "what": what}));
        }
    }

    /// A line of the harness. `fields` is a JSON object.
    pub fn say(&mut self, t_us: u64, ev: &str, fields: Value) {
        let fields = match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        let line = Line::of_harness(t_us, self.harness_seq, ev, fields);
        self.harness_seq += 1;
        self.take(line);
    }

    fn take(&mut self, line: Line) {
        self.count += 1;
        let line = Arc::new(line);
        if self.keep {
            self.lines.push(line.clone());
        }
        let violations = self.checker.push(&value(&line));
        if let Some(first) = violations.first()
            && self.broken.is_none()
        {
            self.broken = Some(format!("{first}"));
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// The last lines, for people.
    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().map(|line| line.to_json()).collect()
    }

    /// All lines, if they were to be kept.
    pub fn lines(&self) -> &[Arc<Line>] {
        &self.lines
    }

    /// The run ends: what the checker says about the whole.
    pub fn finish(&mut self) {
        let violations = self.checker.finish();
        if let Some(first) = violations.first()
            && self.broken.is_none()
        {
            self.broken = Some(format!("{first}"));
        }
    }

    pub fn checker(&self) -> &Checker {
        &self.checker
    }
}

fn value(line: &Line) -> Value {
    let mut fields = line.fields.clone();
    for name in ["t_us", "node", "inc", "nt_us", "seq", "lc", "ev"] {
        fields.insert(name.into(), line.get(name).unwrap_or(Value::Null));
    }
    Value::Object(fields)
}

/// The recorder as one node's trace port.
pub(crate) struct Tap<'a> {
    pub recorder: &'a mut Recorder,
    pub t_us: u64,
    pub node: u8,
}

impl TraceSink for Tap<'_> {
    fn record(&mut self, record: &Record<'_>) {
        match &record.event {
            Event::Fence { peer, incarnation, ok: true, .. } => {
                self.recorder.fenced.insert((*peer, *incarnation));
            }
            Event::Lock { phase: LockPhase::Acquired, ballot } => self.recorder.masters.push((self.t_us, *ballot)),
            _ => {}
        }
        self.recorder.take(Line::of_record(self.t_us, self.node, record));
    }
}
