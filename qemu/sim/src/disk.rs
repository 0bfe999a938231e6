//! The shared disk: 1024 records, requests that take their time, and what may go wrong with them.
//!
//! ```text
//! submit ──▶ piece(s): a write lands, a read takes records, some at another moment than the others ──▶ done
//! ```
//! Invariants: a record changes only by a piece of a write of the machine that owns it; a write lands at most `io_max`
//! after its submission, or never, or, if it had been accepted of a nexus that was preempted, at most `io_max` after that;
//! nothing is answered while a machine's path stalls.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use quorate_base::capacity::{RECORD_BYTES, RECORD_PITCH};
use quorate_base::{Attention, ClusterId, DiskError, DiskOp, DiskTag, Incarnation, Preempted};
use quorate_database::sealed::{self, BODY_AT, CLUSTER_AT};
use quorate_database::{Raw, layout};

use crate::faults::{DiskFaults, LastWrite};
use crate::random::Random;
use crate::reservation::{Nexus, Target};

/// What is to happen to a request, and when it was due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DiskEvent {
    /// Records `from..to` of its range are read, or the record is written.
    Piece { request: u64, from: u16, to: u16 },
    /// It is answered.
    Done { request: u64 },
}

/// One request under way.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub machine: usize,
    pub boot: u64,
    pub tag: DiskTag,
    op: DiskOp,
    /// What was read so far, record after record.
    data: Vec<Rc<Raw>>,
    error: Option<DiskError>,
    lost: bool,
    torn: bool,
    /// It lands so much later than it would have, µs.
    late_us: u64,
    was_late: bool,
    landed: bool,
    /// It reached the target.
    met: bool,
    /// The target had accepted it when its nexus lost its registration: nothing but time or order ends it.
    accepted: bool,
    /// When it lands, if nothing comes between.
    lands: u64,
    /// The unit attention that answered it, a read, before it was repeated.
    pub attention: Option<Attention>,
    /// It is not answered before that moment: the target ended it without a status.
    silent_until: Option<u64>,
    submitted: u64,
    /// Its machine crashed: nobody waits for the answer.
    orphan: bool,
    /// What the rules of its path make of it.
    astray: Astray,
    /// It went to another cluster's disk.
    other: Option<Rc<RefCell<Vec<Rc<Raw>>>>>,
}

impl Request {
    /// What was asked.
    pub fn op(&self) -> &DiskOp {
        &self.op
    }
}

/// What a piece did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Landed {
    pub machine: usize,
    pub boot: u64,
    pub at: u64,
    /// Half of it only.
    pub torn: bool,
    /// Not where it belongs.
    pub astray: bool,
}

/// What is wrong between one machine and the disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PathFaults {
    /// Nothing is answered until it ends.
    stalled: bool,
    /// The device is not there.
    pub gone: bool,
    /// Each request takes so much longer, ms.
    pub delay_ms: u32,
    /// So many reads fail.
    pub read_errors: u32,
    /// So many writes fail.
    pub write_errors: u32,
    /// The next write stops half way and the machine dies.
    pub tear: bool,
    /// What goes wrong with single records.
    pub rules: Vec<Rule>,
    /// Another cluster's disk stands in its place: its records.
    pub other: Option<Rc<RefCell<Vec<Rc<Raw>>>>>,
}

/// What goes wrong with requests that touch some records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Writes, else reads.
    pub write: bool,
    /// Which records.
    pub at: Range<u64>,
    /// How many requests; `None`: all.
    pub count: Option<u32>,
    /// What happens.
    pub trick: Trick,
    /// Until which moment of the run, µs.
    pub until_us: u64,
}

/// What happens to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trick {
    /// It fails.
    Fail,
    /// A write stops after so many bytes, half way if none are given, and the machine dies.
    Tear(Option<u32>),
    /// A write is answered as done, and is not.
    Lose,
    /// Records come from there, or go there, instead.
    Redirect(u64),
    /// Reads give these records.
    Old(Vec<Raw>),
}

/// What the rules make of one request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Astray {
    fails: bool,
    /// After so many bytes.
    torn: Option<usize>,
    lost: bool,
    /// A write lands there.
    lands_at: Option<u64>,
    /// A read gives, for this record, what stands there, or this.
    gives: Vec<(u64, Result<u64, Rc<Raw>>)>,
}

impl PathFaults {
    /// Ends everything but a stall, which has requests to answer.
    pub(crate) fn mend(&mut self) {
        *self = Self { stalled: self.stalled, ..Self::default() };
    }

    /// Applies the rules to a request and counts it.
    fn judge(&mut self, now: u64, op: &DiskOp) -> Astray {
        let mut astray = Astray::default();
        let (write, range) = match op {
            DiskOp::Read { first, count } => (false, *first..*first + u64::from(*count)),
            DiskOp::Write { at, .. } => (true, *at..*at + 1),
        };
        self.rules.retain(|rule| rule.until_us > now);
        for rule in &mut self.rules {
            if rule.write != write || rule.count == Some(0) || rule.at.start >= range.end || range.start >= rule.at.end
            {
                continue;
            }
            rule.count = rule.count.map(|left| left - 1);
            let both = rule.at.start.max(range.start)..rule.at.end.min(range.end);
            match &rule.trick {
                Trick::Fail => astray.fails = true,
                Trick::Tear(bytes) => astray.torn = write.then_some(bytes.map_or(RECORD_BYTES / 2, |n| n as usize)),
                Trick::Lose => astray.lost = write,
                Trick::Redirect(to) if write => astray.lands_at = Some(to + (range.start - rule.at.start)),
                Trick::Redirect(from) => {
                    astray.gives.extend(both.map(|at| (at, Ok(from + (at - rule.at.start)))));
                }
                Trick::Old(records) => {
                    let of = |at: u64| records.get((at - rule.at.start) as usize).map(|raw| (at, Err(Rc::new(*raw))));
                    astray.gives.extend(both.filter_map(of));
                }
            }
        }
        self.rules.retain(|rule| rule.count != Some(0));
        astray
    }
}

/// Requests that went wrong by chance (not by an act of a plan).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Chances {
    pub slow: u64,
    pub timed_out: u64,
    pub read_errors: u64,
    pub write_errors: u64,
}

impl Chances {
    /// Those that came about, each with its name.
    pub fn by_kind(self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = [
            ("slow_request", self.slow),
            ("timed_out_request", self.timed_out),
            ("random_read_error", self.read_errors),
            ("random_write_error", self.write_errors),
        ];
        all.into_iter().filter(|(_, count)| *count > 0)
    }
}

/// The disk.
#[derive(Debug)]
pub struct Disk {
    /// A read takes a record as it stands; a write puts another in its place.
    records: Vec<Rc<Raw>>,
    /// What no read has taken yet.
    blank: Rc<Raw>,
    requests: BTreeMap<u64, Box<Request>>,
    next: u64,
    io_max_us: u64,
    /// Reads that were submitted.
    pub reads: u64,
    /// Writes that were submitted.
    pub writes: u64,
    /// How many requests went wrong by chance, by kind.
    pub(crate) chances: Chances,
    /// What may go wrong.
    pub faults: DiskFaults,
    paths: Vec<PathFaults>,
    /// Records that cannot be read.
    pub(crate) bad: BadRecords,
    /// Answers that a stall held back.
    held: Vec<u64>,
    /// Of the accepted writes of preempted nexuses those that the target carries out before any request from that one on.
    behind: Vec<(u64, u64)>,
    /// The reservations, where the cluster fences by them.
    pub(crate) target: Option<Target>,
}

/// Records that cannot be read, whoever asks, until they are mended from outside. A write of one is no cure.
#[derive(Clone, Debug, Default)]
pub(crate) struct BadRecords(BTreeSet<u64>);

impl BadRecords {
    pub fn spoil(&mut self, at: u64) {
        self.0.insert(at);
    }

    pub fn mend(&mut self, at: u64) {
        self.0.remove(&at);
    }

    pub fn mend_all(&mut self) {
        self.0.clear();
    }

    /// Whether this one cannot be read.
    pub fn holds(&self, at: u64) -> bool {
        self.0.contains(&at)
    }

    /// A read of several fails as a whole, as a drive fails it.
    fn touches(&self, op: &DiskOp) -> bool {
        match op {
            DiskOp::Read { first, count } => self.0.range(*first..*first + u64::from(*count)).next().is_some(),
            DiskOp::Write { .. } => false,
        }
    }
}

impl Request {
    /// It reaches the target: a unit attention answers a write, which is not executed, and a read, which its port repeats;
    /// a write of a nexus that is not registered is refused.
    fn meet(&mut self, target: &mut Target) {
        if std::mem::replace(&mut self.met, true) || self.lost {
            return;
        }
        // Nobody is behind a nexus of a boot before to be told something.
        let attention = if self.orphan { None } else { target.attention(self.machine) };
        let may_write =
            if self.orphan { target.former_may_write(self.machine) } else { target.may_write(self.machine) };
        if matches!(self.op, DiskOp::Read { .. }) {
            self.attention = attention;
            return;
        }
        let refusal = match attention {
            Some(attention) => Some(DiskError::Attention(attention)),
            None if !may_write => Some(DiskError::Conflict),
            None => None,
        };
        if refusal.is_some() {
            (self.error, self.lost) = (refusal, true);
        }
    }
}

impl Disk {
    /// A blank one.
    pub fn new(machines: usize, io_max_us: u64) -> Self {
        let blank = Rc::new([0; RECORD_BYTES]);
        Self {
            records: vec![blank.clone(); layout::RECORDS as usize],
            blank,
            requests: BTreeMap::new(),
            next: 0,
            io_max_us,
            reads: 0,
            writes: 0,
            chances: Chances::default(),
            faults: DiskFaults::default(),
            paths: vec![PathFaults::default(); machines],
            bad: BadRecords::default(),
            held: Vec::new(),
            behind: Vec::new(),
            target: None,
        }
    }

    /// What is wrong between a machine and the disk.
    ///
    /// # Panics
    /// If there is no such machine.
    pub fn path(&mut self, machine: usize) -> &mut PathFaults {
        &mut self.paths[machine]
    }

    /// A record as it stands.
    pub fn record(&self, at: u64) -> Option<&Raw> {
        self.records.get(at as usize).map(|record| &**record)
    }

    /// Puts a record there, from outside of the cluster.
    pub fn put(&mut self, at: u64, raw: Raw) {
        if let Some(place) = self.records.get_mut(at as usize) {
            *place = Rc::new(raw);
        }
    }

    /// A rule of a machine's path.
    pub fn add_rule(&mut self, machine: usize, write: bool, at: Range<u64>, count: Option<u32>, trick: Trick) {
        self.path(machine).rules.push(Rule { write, at, count, trick, until_us: u64::MAX });
    }

    /// From now on a machine's reads of these give what stands there now.
    pub fn keep(&mut self, machine: usize, at: Range<u64>) {
        let old = at.clone().map(|at| self.record(at).copied().unwrap_or([0; RECORD_BYTES])).collect();
        self.add_rule(machine, false, at, None, Trick::Old(old));
    }

    /// From now on a machine has another cluster's disk in the place of this one: every record with another cluster's id.
    pub fn swap(&mut self, machine: usize, cluster: ClusterId) {
        let foreign = |raw: &Rc<Raw>| {
            let mut raw = **raw;
            if sealed::header(&raw).is_some() {
                raw[CLUSTER_AT..CLUSTER_AT + cluster.0.len()].copy_from_slice(&cluster.0);
                sealed::reseal(&mut raw);
            }
            Rc::new(raw)
        };
        let records = self.records.iter().map(foreign).collect();
        self.path(machine).other = Some(Rc::new(RefCell::new(records)));
    }

    /// Takes a request of a machine. Gives what is to happen, each with its time.
    pub(crate) fn submit(
        &mut self,
        now: u64,
        (machine, boot): (usize, u64),
        (tag, op): (DiskTag, DiskOp),
        random: &mut Random,
    ) -> Vec<(u64, DiskEvent)> {
        let (least, most) = self.faults.delay_us;
        let slow = random.per_million(self.faults.slow_per_million);
        let wanted =
            if slow { random.between(most, most.max(self.faults.slow_us)) } else { random.between(least, most) };
        let path = self.path(machine);
        let wanted = wanted + u64::from(path.delay_ms) * 1000;
        let (astray, other) = (path.judge(now, &op), path.other.clone());
        let torn = matches!(op, DiskOp::Write { .. }) && std::mem::take(&mut path.tear) || astray.torn.is_some();
        let counted = if matches!(op, DiskOp::Write { .. }) { &mut path.write_errors } else { &mut path.read_errors };
        let failing = *counted > 0 || astray.fails;
        *counted = counted.saturating_sub(1);
        let gone = path.gone;
        let timed_out = wanted > self.io_max_us;
        let takes = wanted.min(self.io_max_us);
        self.chances.slow += u64::from(slow);
        self.chances.timed_out += u64::from(timed_out);
        let request = self.next;
        self.next += 1;
        let done = now + takes;
        let mut events = Vec::with_capacity(3);
        let mut error = timed_out.then_some(DiskError::TimedOut);
        if failing {
            error = Some(DiskError::Medium);
        }
        if gone {
            error = Some(DiskError::Gone);
        }
        if self.bad.touches(&op) && other.is_none() {
            error = error.or(Some(DiskError::Medium));
        }
        let mut lost = failing || gone || astray.lost || (timed_out && random.below(2) == 0);
        match &op {
            DiskOp::Read { count, .. } => {
                self.reads += 1;
                if random.per_million(self.faults.read_error_per_million) {
                    self.chances.read_errors += 1;
                    error = error.or(Some(DiskError::Medium));
                }
                let split = random.between(0, u64::from(*count)) as u16;
                let at = [random.between(now, done), random.between(now, done)];
                for (from, to, at) in [(0, split, at[0]), (split, *count, at[1])] {
                    if from < to {
                        events.push((at, DiskEvent::Piece { request, from, to }));
                    }
                }
            }
            DiskOp::Write { .. } => {
                self.writes += 1;
                if random.per_million(self.faults.write_error_per_million) {
                    self.chances.write_errors += 1;
                    error = error.or(Some(DiskError::Device));
                    lost |= random.below(2) == 0;
                }
                events.push((random.between(now, done), DiskEvent::Piece { request, from: 0, to: 1 }));
            }
        }
        let lands = events.last().map_or(done, |(at, _)| *at);
        events.push((done, DiskEvent::Done { request }));
        let data = match &op {
            DiskOp::Read { count, .. } => vec![self.blank.clone(); usize::from(*count)],
            DiskOp::Write { .. } => Vec::new(),
        };
        let taken = Request {
            machine,
            boot,
            tag,
            op,
            data,
            error,
            lost,
            torn,
            late_us: 0,
            was_late: false,
            landed: false,
            met: false,
            accepted: false,
            lands,
            attention: None,
            silent_until: None,
            submitted: now,
            orphan: false,
            astray,
            other,
        };
        self.requests.insert(request, Box::new(taken));
        events
    }

    /// A part of a request is carried out. Says what was written, if anything was.
    pub(crate) fn piece(&mut self, request: u64, from: u16, to: u16) -> Option<Landed> {
        let r = self.requests.get_mut(&request)?;
        if let Some(target) = &mut self.target {
            r.meet(target);
        }
        match &r.op {
            DiskOp::Read { first, .. } => {
                for i in from..to {
                    let at = *first + u64::from(i);
                    let given = r.astray.gives.iter().rev().find(|(of, _)| *of == at).map(|(_, given)| given);
                    let stands = |at: u64| match &r.other {
                        Some(other) => other.borrow().get(at as usize).cloned(),
                        None => self.records.get(at as usize).cloned(),
                    };
                    let source = match given {
                        None => stands(at),
                        Some(Ok(from)) => stands(*from),
                        Some(Err(old)) => Some(old.clone()),
                    };
                    if let (Some(source), Some(place)) = (source, r.data.get_mut(usize::from(i))) {
                        *place = source;
                    }
                }
                None
            }
            DiskOp::Write { at, record, .. } => {
                if r.lost || r.landed {
                    return None;
                }
                if let Some(other) = &r.other {
                    if let Some(place) = other.borrow_mut().get_mut(*at as usize) {
                        *place = Rc::new(*record);
                    }
                    r.landed = true;
                    return None;
                }
                let lands_at = r.astray.lands_at.unwrap_or(*at);
                let place = self.records.get_mut(lands_at as usize)?;
                if r.torn {
                    // Heartbeat and identity have all their fields in the first half: some stop sooner.
                    let some = [RECORD_BYTES / 2, 56, 448];
                    let at = r.astray.torn.unwrap_or(some[request as usize % some.len()]).min(RECORD_BYTES);
                    Rc::make_mut(place)[..at].copy_from_slice(&record[..at]);
                } else {
                    *place = Rc::new(*record);
                }
                r.landed = true;
                let astray = lands_at != *at;
                let landed = Landed { machine: r.machine, boot: r.boot, at: *at, torn: r.torn, astray };
                if r.orphan && r.was_late {
                    self.requests.remove(&request);
                }
                Some(landed)
            }
        }
    }

    /// A write that the port itself refuses: the lease had run out before the doorbell.
    pub(crate) fn refuse(&mut self, machine: usize, boot: u64, tag: DiskTag) -> u64 {
        let request = self.next;
        self.next += 1;
        let op = DiskOp::Read { first: 0, count: 0 };
        let error = Some(DiskError::Frozen);
        let refused = Request {
            machine,
            boot,
            tag,
            op,
            data: Vec::new(),
            error,
            lost: true,
            torn: false,
            late_us: 0,
            was_late: false,
            landed: false,
            met: true,
            accepted: false,
            lands: 0,
            attention: None,
            silent_until: None,
            submitted: 0,
            orphan: false,
            astray: Astray::default(),
            other: None,
        };
        self.requests.insert(request, Box::new(refused));
        request
    }

    /// The request that was submitted last.
    pub(crate) fn newest(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// A write that is under way fails, and lands all the same or is lost. One that landed already only fails.
    pub(crate) fn spoil_write(&mut self, request: u64, lands: bool) {
        if let Some(r) = self.requests.get_mut(&request) {
            r.error = r.error.or(Some(DiskError::Device));
            r.lost |= !lands;
        }
    }

    /// Whose request it is.
    pub(crate) fn owner(&self, request: u64) -> Option<usize> {
        self.requests.get(&request).map(|r| r.machine)
    }

    /// Which life wrote a ballot or heartbeat record; `None` if the record is torn.
    pub(crate) fn incarnation_at(&self, at: u64) -> Option<Incarnation> {
        let raw = self.record(at)?;
        quorate_database::sealed::header(raw)?;
        // Both kinds have it as their first field.
        raw.get(BODY_AT..).and_then(|rest| rest.first_chunk()).map(|bytes| Incarnation(u32::from_le_bytes(*bytes)))
    }

    /// A request is over. `None` while the machine's path stalls: it is answered when that ends.
    pub(crate) fn done(&mut self, request: u64) -> Option<Box<Request>> {
        let r = self.requests.get(&request)?;
        let machine = r.machine;
        if r.orphan && r.was_late && !r.landed {
            return None;
        }
        if self.path(machine).stalled {
            self.held.push(request);
            return None;
        }
        self.requests.remove(&request)
    }

    /// What the machine is told: for a read its bytes, each record at the start of its pitch. They are put into `buffer`,
    /// whose bytes between the records stay zeros.
    pub(crate) fn answer<'b>(request: &Request, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], DiskError> {
        if let Some(error) = request.error {
            return Err(error);
        }
        let DiskOp::Read { first, count } = request.op else { return Ok(&[]) };
        if first + u64::from(count) > layout::RECORDS {
            return Err(DiskError::OutOfRange);
        }
        let bytes = usize::from(count) * RECORD_PITCH as usize;
        if buffer.len() < bytes {
            buffer.resize(bytes, 0);
        }
        for (place, record) in buffer.chunks_exact_mut(RECORD_PITCH as usize).zip(&request.data) {
            place[..RECORD_BYTES].copy_from_slice(&record[..]);
        }
        Ok(&buffer[..bytes])
    }

    /// A machine's path to the disk stalls. What it submitted lands or is lost within `io_max`, but it is not told.
    pub(crate) fn stall(&mut self, machine: usize, random: &mut Random) {
        self.path(machine).stalled = true;
        let late_us = self.faults.late_us;
        for r in self.requests.values_mut().filter(|r| r.machine == machine) {
            r.lost |= random.below(2) == 0;
            r.late_us = random.below(late_us + 1);
        }
    }

    /// A machine boots: its adapter ends what this port still had under way (DESIGN 3, birth). What was to land within
    /// `io_max` may do so meanwhile, as if another machine had sent it; so may what the target had accepted.
    pub(crate) fn reset_port(&mut self, machine: usize) {
        if let Some(target) = &mut self.target {
            target.log_in(machine);
        }
        let late = |r: &Request| r.late_us > 0 || r.was_late;
        self.requests.retain(|_, r| !(r.machine == machine && r.orphan && late(r) && !r.accepted));
    }

    /// A nexus is not registered any more. What the target had accepted of it by now lands all the same: at most `io_max` from
    /// now on, or before any request that is submitted from now on. What is still on its way to the target is refused there.
    pub(crate) fn put_out(&mut self, now: u64, nexus: Nexus, random: &mut Random) {
        let Some(kind) = self.target.as_ref().map(|target| target.kind) else { return };
        let (next, latest) = (self.next, now + self.io_max_us);
        let of_it = |r: &Request| r.machine == nexus.machine && (r.orphan || !nexus.former) && !r.met && !r.lost;
        for (id, r) in self.requests.iter_mut().filter(|(_, r)| of_it(r)) {
            // One that is late already is late on its way.
            if !matches!(r.op, DiskOp::Write { .. }) || r.was_late || random.below(2) == 0 {
                continue;
            }
            (r.met, r.accepted) = (true, true);
            r.late_us = random.below(latest.saturating_sub(r.lands) + 1);
            r.silent_until = Some(r.lands + r.late_us + 1);
            if kind.preempted == Preempted::Ends {
                self.behind.push((*id, next));
            }
        }
    }

    /// An accepted write of a preempted nexus that the target carries out before this request, if there is one.
    pub(crate) fn before(&mut self, request: u64) -> Option<u64> {
        let at = self.behind.iter().position(|(_, from)| request >= *from)?;
        let (first, _) = self.behind.remove(at);
        if let Some(r) = self.requests.get_mut(&first) {
            (r.late_us, r.was_late) = (0, true);
        }
        Some(first)
    }

    /// How much later a request's next piece comes, if it is late.
    pub(crate) fn postponed(&mut self, request: u64) -> Option<u64> {
        let r = self.requests.get_mut(&request)?;
        let later = std::mem::take(&mut r.late_us);
        r.was_late |= later > 0;
        (later > 0 && matches!(r.op, DiskOp::Write { .. })).then_some(later)
    }

    /// Ends what is under way, of one nexus or of all: it does not land any more. Some of it gets a status, some none.
    pub(crate) fn end_requests(&mut self, nexus: Option<Nexus>, random: &mut Random) {
        let io_max_us = self.io_max_us;
        let of = |r: &Request, nexus: Nexus| r.machine == nexus.machine && (r.orphan || !nexus.former);
        let open = |r: &Request| !r.landed && !r.accepted && nexus.is_none_or(|nexus| of(r, nexus));
        for r in self.requests.values_mut().filter(|r| open(r)) {
            r.lost = true;
            r.met = true;
            if random.below(2) == 0 {
                r.error = Some(DiskError::Device);
            } else {
                r.error = Some(DiskError::TimedOut);
                r.silent_until = Some(r.submitted + io_max_us);
            }
        }
    }

    /// When a request that the target ended without a status is aborted by its own port, if it is one.
    pub(crate) fn silent_until(&mut self, request: u64) -> Option<u64> {
        self.requests.get_mut(&request)?.silent_until.take()
    }

    /// Draws the way of a reservation command: when it is executed and answered, whether it is lost, whether its answer is.
    pub(crate) fn draw_command(&mut self, now: u64, machine: usize, random: &mut Random) -> (u64, u64, bool, bool) {
        let (least, most) = self.faults.delay_us;
        let takes = random.between(least, most) + u64::from(self.path(machine).delay_ms) * 1000;
        let lost_per_million = self.target.as_ref().map_or(0, |target| target.kind.lost_per_million);
        let fails = random.per_million(lost_per_million) || takes > self.io_max_us;
        let lost = self.path(machine).gone || fails && random.below(2) == 0;
        let done = now + if fails { self.io_max_us } else { takes };
        (random.between(now, done), done, lost, fails)
    }

    pub(crate) fn is_stalled(&self, machine: usize) -> bool {
        self.paths.get(machine).is_some_and(|path| path.stalled)
    }

    pub(crate) fn is_gone(&self, machine: usize) -> bool {
        self.paths.get(machine).is_some_and(|path| path.gone)
    }

    /// Whether a machine that runs waits for an answer.
    pub(crate) fn has_asked(&self, machine: usize) -> bool {
        self.requests.values().any(|r| r.machine == machine && !r.orphan)
    }

    /// Whether a write of a machine is under way that may still land.
    pub(crate) fn is_writing(&self, machine: usize) -> bool {
        let open = |r: &Request| r.machine == machine && !r.lost && !r.landed;
        let writes = |r: &Request| open(r) && matches!(r.op, DiskOp::Write { .. });
        self.requests.values().any(|r| writes(r))
    }

    /// The stall ends: every request that it held was aborted. Gives them, to be answered.
    pub(crate) fn unstall(&mut self, machine: usize) -> Vec<Request> {
        self.path(machine).stalled = false;
        let requests = &mut self.requests;
        let mut answered = Vec::new();
        self.held.retain(|id| {
            if requests.get(id).is_none_or(|r| r.machine != machine) {
                return true;
            }
            if let Some(mut r) = requests.remove(id) {
                r.error = Some(DiskError::TimedOut);
                answered.push(*r);
            }
            false
        });
        answered
    }

    /// A machine ended in the middle of what it did.
    pub(crate) fn crash(&mut self, machine: usize, last: LastWrite) {
        let late_us = self.faults.late_us;
        for r in self.requests.values_mut().filter(|r| r.machine == machine) {
            r.orphan = true;
            match last {
                LastWrite::Lands => {}
                LastWrite::Late => r.late_us = late_us,
                LastWrite::Lost => r.lost = true,
                LastWrite::Torn => r.torn = true,
            }
        }
        let requests = &mut self.requests;
        self.held.retain(|id| {
            let held = requests.get(id).is_some_and(|r| r.machine == machine);
            if held {
                requests.remove(id);
            }
            !held
        });
        self.path(machine).stalled = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE_AT: u64 = 500;

    fn write() -> DiskOp {
        DiskOp::Write { at: WRITE_AT, record: [7; RECORD_BYTES], not_after: None }
    }

    fn disk(late_us: u64) -> (Disk, Random) {
        let mut disk = Disk::new(2, 200_000);
        disk.faults.late_us = late_us;
        (disk, Random::new(1))
    }

    fn submit(disk: &mut Disk, random: &mut Random, op: DiskOp) -> Vec<(u64, DiskEvent)> {
        disk.submit(0, (0, 1), (DiskTag(1), op), random)
    }

    fn stands(disk: &Disk) -> bool {
        disk.record(WRITE_AT).is_some_and(|raw| raw[0] == 7)
    }

    #[test]
    fn design_9_the_last_write_of_a_crash_lands_is_lost_or_is_torn() {
        for (last, first, rest) in [(LastWrite::Lands, 7, 7), (LastWrite::Lost, 0, 0), (LastWrite::Torn, 7, 0)] {
            let (mut disk, mut random) = disk(0);
            submit(&mut disk, &mut random, write());
            assert!(disk.is_writing(0) && !disk.is_writing(1));
            disk.crash(0, last);
            let landed = disk.piece(0, 0, 1);
            assert_eq!(landed.is_some(), last != LastWrite::Lost);
            let raw = disk.record(WRITE_AT).unwrap();
            assert_eq!((raw[0], raw[RECORD_BYTES - 1]), (first, rest), "{last:?}");
            assert!(!disk.is_writing(0));
        }
    }

    #[test]
    fn design_7_a_write_lands_after_io_max_only_where_that_is_allowed() {
        let (mut sound, mut random) = disk(0);
        let events = submit(&mut sound, &mut random, write());
        sound.crash(0, LastWrite::Late);
        assert!(events.iter().all(|(at, _)| *at <= 200_000));
        assert_eq!(sound.postponed(0), None);
        assert!(sound.piece(0, 0, 1).is_some() && stands(&sound));

        let (mut late, mut random) = disk(900_000);
        submit(&mut late, &mut random, write());
        late.crash(0, LastWrite::Late);
        assert_eq!(late.postponed(0), Some(900_000));
        // Its completion comes and goes; nobody is there to be told.
        assert!(late.done(0).is_none());
        assert!(late.piece(0, 0, 1).is_some() && stands(&late));
        assert!(late.done(0).is_none());
    }

    #[test]
    fn design_3_a_late_write_is_ended_by_the_next_boot_of_its_port() {
        let (mut disk, mut random) = disk(900_000);
        submit(&mut disk, &mut random, write());
        disk.crash(0, LastWrite::Late);
        disk.postponed(0);
        disk.reset_port(1);
        assert!(disk.is_writing(0), "another port's boot does not matter");
        disk.reset_port(0);
        assert!(disk.piece(0, 0, 1).is_none() && !stands(&disk));
    }

    #[test]
    fn a_record_that_cannot_be_read_stays_so_until_it_is_mended() {
        let (mut disk, mut random) = disk(0);
        let mut buffer = Vec::new();
        let mut read = |disk: &mut Disk, first, count| {
            submit(disk, &mut random, DiskOp::Read { first, count });
            let id = disk.next - 1;
            disk.piece(id, 0, count);
            let request = disk.done(id).unwrap();
            Disk::answer(&request, &mut buffer).map(|_| ())
        };
        disk.bad.spoil(WRITE_AT);
        assert_eq!(read(&mut disk, WRITE_AT - 3, 3), Ok(()));
        assert_eq!(read(&mut disk, WRITE_AT - 3, 4), Err(DiskError::Medium));
        assert_eq!(read(&mut disk, WRITE_AT, 1), Err(DiskError::Medium));
        let mut random = Random::new(2);
        submit(&mut disk, &mut random, write());
        disk.piece(disk.next - 1, 0, 1);
        assert!(disk.bad.touches(&DiskOp::Read { first: WRITE_AT, count: 1 }), "a write is no cure");
        disk.bad.mend(WRITE_AT);
        assert!(!disk.bad.touches(&DiskOp::Read { first: WRITE_AT, count: 1 }));
    }
}
