//! The shared disk: 1024 records, requests that take their time, and what may go wrong with them.
//!
//! ```text
//! submit ──▶ piece(s): a write lands, a read takes records, some at another moment than the others ──▶ done
//! ```
//! Invariants: a record changes only by a piece of a write of the machine that owns it; a write lands at most `io_max`
//! after its submission, or never; nothing is answered while a machine's path stalls.

use std::collections::BTreeMap;

use quorate_base::capacity::{RECORD_BYTES, RECORD_PITCH};
use quorate_base::{DiskError, DiskOp, DiskTag, Incarnation};
use quorate_database::sealed::BODY_AT;
use quorate_database::{Raw, layout};

use crate::faults::{DiskFaults, LastWrite};
use crate::random::Random;

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
    data: Vec<u8>,
    error: Option<DiskError>,
    lost: bool,
    torn: bool,
}

/// What a piece did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Landed {
    pub machine: usize,
    pub boot: u64,
    pub at: u64,
    /// Half of it only.
    pub torn: bool,
}

/// What is wrong between one machine and the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
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
}

/// The disk.
#[derive(Debug)]
pub struct Disk {
    records: Vec<Raw>,
    requests: BTreeMap<u64, Request>,
    next: u64,
    io_max_us: u64,
    /// Reads that were submitted.
    pub reads: u64,
    /// Writes that were submitted.
    pub writes: u64,
    /// What may go wrong.
    pub faults: DiskFaults,
    paths: Vec<PathFaults>,
    /// Answers that a stall held back.
    held: Vec<u64>,
}

impl Disk {
    /// A blank one.
    pub fn new(machines: usize, io_max_us: u64) -> Self {
        Self {
            records: vec![[0; RECORD_BYTES]; layout::RECORDS as usize],
            requests: BTreeMap::new(),
            next: 0,
            io_max_us,
            reads: 0,
            writes: 0,
            faults: DiskFaults::default(),
            paths: vec![PathFaults::default(); machines],
            held: Vec::new(),
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
        self.records.get(at as usize)
    }

    /// Puts a record there, from outside of the cluster.
    pub fn put(&mut self, at: u64, raw: Raw) {
        if let Some(place) = self.records.get_mut(at as usize) {
            *place = raw;
        }
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
        let torn = matches!(op, DiskOp::Write { .. }) && std::mem::take(&mut path.tear);
        let counted = if matches!(op, DiskOp::Write { .. }) { &mut path.write_errors } else { &mut path.read_errors };
        let failing = *counted > 0;
        *counted = counted.saturating_sub(1);
        let gone = path.gone;
        let timed_out = wanted > self.io_max_us;
        let takes = wanted.min(self.io_max_us);
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
        let mut lost = failing || gone || (timed_out && random.below(2) == 0);
        match &op {
            DiskOp::Read { count, .. } => {
                self.reads += 1;
                if random.per_million(self.faults.read_error_per_million) {
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
                    error = error.or(Some(DiskError::Device));
                    lost = random.below(2) == 0;
                }
                events.push((random.between(now, done), DiskEvent::Piece { request, from: 0, to: 1 }));
            }
        }
        events.push((done, DiskEvent::Done { request }));
        let data = match &op {
            DiskOp::Read { count, .. } => vec![0; usize::from(*count) * RECORD_BYTES],
            DiskOp::Write { .. } => Vec::new(),
        };
        self.requests.insert(request, Request { machine, boot, tag, op, data, error, lost, torn });
        events
    }

    /// A part of a request is carried out. Says what was written, if anything was.
    pub(crate) fn piece(&mut self, request: u64, from: u16, to: u16) -> Option<Landed> {
        let r = self.requests.get_mut(&request)?;
        match &r.op {
            DiskOp::Read { first, .. } => {
                for i in from..to {
                    let source = self.records.get((*first + u64::from(i)) as usize);
                    let at = usize::from(i) * RECORD_BYTES;
                    if let (Some(source), Some(place)) = (source, r.data.get_mut(at..at + RECORD_BYTES)) {
                        place.copy_from_slice(source);
                    }
                }
                None
            }
            DiskOp::Write { at, record, .. } => {
                if r.lost {
                    return None;
                }
                let place = self.records.get_mut(*at as usize)?;
                if r.torn {
                    place[..RECORD_BYTES / 2].copy_from_slice(&record[..RECORD_BYTES / 2]);
                } else {
                    *place = *record;
                }
                Some(Landed { machine: r.machine, boot: r.boot, at: *at, torn: r.torn })
            }
        }
    }

    /// A write that the port itself refuses: the lease had run out before the doorbell.
    pub(crate) fn refuse(&mut self, machine: usize, boot: u64, tag: DiskTag) -> u64 {
        let request = self.next;
        self.next += 1;
        let op = DiskOp::Read { first: 0, count: 0 };
        let error = Some(DiskError::Frozen);
        let refused = Request { machine, boot, tag, op, data: Vec::new(), error, lost: true, torn: false };
        self.requests.insert(request, refused);
        request
    }

    /// Whose request it is.
    pub(crate) fn owner(&self, request: u64) -> Option<usize> {
        self.requests.get(&request).map(|r| r.machine)
    }

    /// Which life wrote a ballot or heartbeat record; `None` if the record is torn.
    pub(crate) fn incarnation_at(&self, at: u64) -> Option<Incarnation> {
        let raw = self.records.get(at as usize)?;
        quorate_database::sealed::header(raw)?;
        // Both kinds have it as their first field.
        raw.get(BODY_AT..).and_then(|rest| rest.first_chunk()).map(|bytes| Incarnation(u32::from_le_bytes(*bytes)))
    }

    /// A request is over. `None` while the machine's path stalls: it is answered when that ends.
    pub(crate) fn done(&mut self, request: u64) -> Option<Request> {
        let machine = self.requests.get(&request)?.machine;
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
        for (place, record) in
            buffer.chunks_exact_mut(RECORD_PITCH as usize).zip(request.data.chunks_exact(RECORD_BYTES))
        {
            place[..RECORD_BYTES].copy_from_slice(record);
        }
        Ok(&buffer[..bytes])
    }

    /// A machine's path to the disk stalls. What it submitted lands or is lost within `io_max`, but it is not told.
    pub(crate) fn stall(&mut self, machine: usize, random: &mut Random) {
        self.path(machine).stalled = true;
        for r in self.requests.values_mut().filter(|r| r.machine == machine) {
            r.lost |= random.below(2) == 0;
        }
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
                answered.push(r);
            }
            false
        });
        answered
    }

    /// A machine ended in the middle of what it did.
    pub(crate) fn crash(&mut self, machine: usize, last: LastWrite) {
        for r in self.requests.values_mut().filter(|r| r.machine == machine) {
            match last {
                LastWrite::Lands => {}
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
