//! The trace of a run: every record as a line of the harness contract, given to the checker at once.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use quorate_base::event::{Event, LockPhase, Record, TraceSink, Via};
use quorate_base::{Ballot, FenceMethod, Incarnation, NodeId, NodeState, ViewName};
use quorate_check::{self as check, Checker, Options, Rule, Violation};
use quorate_trace::Line;
use serde_json::{Map, Value, json};

use crate::typed;

/// Lines that a failure shows.
const TAIL_LINES: usize = 60;

/// The longest record: a round of 64 transitions or a view of 64 nodes, with long texts.
const RECORD_BYTES_MAX: usize = 2048;

/// One of the last lines.
#[derive(Debug)]
enum Kept {
    Line(Arc<Line>),
    /// As on a node's trace port.
    Record {
        t_us: u64,
        node: u8,
        bytes: Vec<u8>,
    },
}

impl Kept {
    fn text(&self) -> Option<String> {
        match self {
            Self::Line(line) => Some(line.to_json()),
            Self::Record { t_us, node, bytes } => {
                let record = postcard::from_bytes(bytes).ok()?;
                Some(Line::of_record(*t_us, *node, &record).to_json())
            }
        }
    }
}

/// A view that a node adopted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Adopted {
    pub node: u8,
    pub name: ViewName,
    /// The lives that are joining in it.
    pub joining: Vec<(NodeId, Incarnation)>,
}

/// What a node says that rests on what it read of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Claim {
    /// Another is silent.
    Silent(NodeId),
    /// Another is not heard any more.
    Unheard(NodeId),
    /// It has a lease.
    Lease { lasts_us: u64 },
    /// It adopted a view that puts a life out.
    Excluded(NodeId, Incarnation),
    /// It begins to wait for another's lease.
    FenceBegins(NodeId),
    /// That lease is over.
    Fenced(NodeId, Incarnation),
    /// It removed that life's key.
    Removed(NodeId, Incarnation),
}

/// Takes records, checks them, keeps what is asked for.
#[derive(Debug)]
pub(crate) struct Recorder {
    checker: Checker,
    keep: bool,
    lines: Vec<Arc<Line>>,
    tail: VecDeque<Kept>,
    /// For one record's bytes.
    scratch: Box<[u8; RECORD_BYTES_MAX]>,
    harness_seq: u64,
    /// No steps of the simulator's own.
    pub quiet: bool,
    /// The run breaks what the lease fence rests on, so that only the views must be safe (DESIGN 7).
    pub views_only: bool,
    /// The first thing that was wrong.
    pub broken: Option<String>,
    /// Lives whose fence is through: nothing of them may be written any more.
    pub fenced: BTreeSet<(NodeId, Incarnation)>,
    /// The cluster fences by the reservation.
    pub reserves: bool,
    /// Those whom the disk shuts out, whether this fence removed their key or found it absent: nothing of them lands any more.
    pub shut_out: BTreeSet<(NodeId, Incarnation)>,
    /// Machines whose clock stood still for longer than the lease can bear.
    pub suspended: BTreeSet<u8>,
    /// Views that were adopted and not looked at yet, with the lives that are joining in them.
    pub adopted: Vec<Adopted>,
    /// What the node of this turn said that rests on what it read.
    pub claims: Vec<Claim>,
    /// Ballots under which the lock was acquired.
    pub masters: Vec<(u64, Ballot)>,
    /// Times at which a master lost the lock to another.
    pub lost: u64,
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
            scratch: Box::new([0; RECORD_BYTES_MAX]),
            harness_seq: 0,
            quiet: false,
            views_only: false,
            broken: None,
            fenced: BTreeSet::new(),
            reserves: false,
            shut_out: BTreeSet::new(),
            suspended: BTreeSet::new(),
            adopted: Vec::new(),
            claims: Vec::new(),
            masters: Vec::new(),
            lost: 0,
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
        let violations = self.checker.push(&value(&line));
        self.judge(&violations);
        let kept = if self.keep {
            let line = Arc::new(line);
            self.lines.push(line.clone());
            line
        } else {
            Arc::new(line)
        };
        self.remember(Kept::Line(kept));
    }

    /// A record of a node. It becomes a line of text only if the trace is kept, or at the end if something is wrong.
    fn take_record(&mut self, t_us: u64, node: u8, record: &Record<'_>) {
        let Some(typed) = typed::line(t_us, node, record) else {
            return self.take(Line::of_record(t_us, node, record));
        };
        if self.keep {
            let line = Arc::new(Line::of_record(t_us, node, record));
            if check::Line::parse(&value(&line)).as_ref() != Ok(&typed) {
                self.broken.get_or_insert_with(|| format!("the checker is told otherwise than {}", line.to_json()));
            }
            self.lines.push(line);
        }
        let violations = self.checker.push_line(typed);
        self.judge(&violations);
        let mut bytes = if self.tail.len() == TAIL_LINES { self.spare() } else { Vec::new() };
        match postcard::to_slice(record, &mut self.scratch[..]) {
            Ok(used) => {
                bytes.clear();
                bytes.extend_from_slice(used);
                self.remember(Kept::Record { t_us, node, bytes });
            }
            Err(_) => self.remember(Kept::Line(Arc::new(Line::of_record(t_us, node, record)))),
        }
    }

    fn judge(&mut self, violations: &[Violation]) {
        self.count += 1;
        // What rests on clocks that go on and on writes that land in time: a run that breaks that demands the views alone.
        let timed = |rule: Rule| matches!(rule, Rule::WriteAfterFence | Rule::FenceEarly | Rule::ServicesEarly);
        let counts = |rule: Rule| !(self.views_only && timed(rule));
        // By its own clock, which stood still, a write is from later than it was. What lands is seen to by the world.
        let suspended = |v: &Violation| timed(v.rule) && v.node.is_some_and(|node| self.suspended.contains(&node));
        if let Some(first) = violations.iter().find(|v| counts(v.rule) && !suspended(v)) {
            self.broken.get_or_insert_with(|| format!("{first}"));
        }
    }

    /// The bytes of the oldest line of the tail, which makes room.
    fn spare(&mut self) -> Vec<u8> {
        match self.tail.pop_front() {
            Some(Kept::Record { bytes, .. }) => bytes,
            _ => Vec::new(),
        }
    }

    fn remember(&mut self, kept: Kept) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(kept);
    }

    /// The last lines, for people.
    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().filter_map(Kept::text).collect()
    }

    /// All lines, if they were to be kept.
    pub fn lines(&self) -> &[Arc<Line>] {
        &self.lines
    }

    /// The run ends: what the checker says about the whole. Of one that says that its cluster has `settled` also what is
    /// not finished.
    pub fn finish(&mut self, settled: bool) {
        let violations = if settled { self.checker.finish_settled() } else { self.checker.finish() };
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
    /// Nobody listens.
    pub mute: bool,
}

impl TraceSink for Tap<'_> {
    fn record(&mut self, record: &Record<'_>) {
        if self.mute {
            return;
        }
        match &record.event {
            Event::Fence { peer, incarnation, method, ok: true } => {
                self.recorder.fenced.insert((*peer, *incarnation));
                self.recorder.claims.push(match method {
                    FenceMethod::Lease => Claim::Fenced(*peer, *incarnation),
                    FenceMethod::Reservation => Claim::Removed(*peer, *incarnation),
                });
                if self.recorder.reserves {
                    self.recorder.shut_out.insert((*peer, *incarnation));
                }
            }
            Event::View { name, members } => {
                let all = NodeId::all().zip(members.iter());
                let out = all.clone().filter(|(_, (state, _))| *state == NodeState::ForcedLeaving);
                self.recorder.claims.extend(out.map(|(n, (_, life))| Claim::Excluded(n, *life)));
                let joining =
                    all.filter(|(_, (state, _))| *state == NodeState::Joining).map(|(n, (_, life))| (n, *life));
                self.recorder.adopted.push(Adopted { node: self.node, name: *name, joining: joining.collect() });
            }
            Event::Suspect { peer, via: Via::Disk } => self.recorder.claims.push(Claim::Silent(*peer)),
            Event::Suspect { peer, via: Via::Net } => self.recorder.claims.push(Claim::Unheard(*peer)),
            Event::Lease { issued, until } => {
                self.recorder.claims.push(Claim::Lease { lasts_us: until.since_us(*issued) });
            }
            Event::FenceBegin { peer, .. } => {
                self.recorder.claims.push(Claim::FenceBegins(*peer));
            }
            Event::Lock { phase: LockPhase::Acquired, ballot } => self.recorder.masters.push((self.t_us, *ballot)),
            Event::Lock { phase: LockPhase::Lost, .. } => self.recorder.lost += 1,
            _ => {}
        }
        self.recorder.take_record(self.t_us, self.node, record);
    }
}
