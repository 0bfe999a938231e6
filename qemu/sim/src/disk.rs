//! The shared disk: 1024 records, requests that take their time, and what may go wrong with them.
//!
//! ```text
//! submit ──▶ piece(s): a write lands, a read takes records, some at another moment than the others ──▶ done
//! ```
//! Invariants: a record changes only by a piece of a write of the machine that owns it; a write lands at most `io_max`
//! after its submission, or never; nothing is answered while a machine's path stalls.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

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
    data: Vec<Rc<Raw>>,
    error: Option<DiskError>,
    lost: bool,
    torn: bool,
    /// It lands so much later than it would have, µs.
    late_us: u64,
    was_late: bool,
    landed: bool,
    /// Its machine crashed: nobody waits for the answer.
    orphan: bool,
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
    /// What may go wrong.
    pub faults: DiskFaults,
    paths: Vec<PathFaults>,
    /// Records that cannot be read.
    pub(crate) bad: BadRecords,
    /// Answers that a stall held back.
    held: Vec<u64>,
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
            faults: DiskFaults::default(),
            paths: vec![PathFaults::default(); machines],
            bad: BadRecords::default(),
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
        self.records.get(at as usize).map(|record| &**record)
    }

    /// Puts a record there, from outside of the cluster.
    pub fn put(&mut self, at: u64, raw: Raw) {
        if let Some(place) = self.records.get_mut(at as usize) {
            *place = Rc::new(raw);
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
        if self.bad.touches(&op) {
            error = error.or(Some(DiskError::Medium));
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
            orphan: false,
        };
        self.requests.insert(request, Box::new(taken));
        events
    }

    /// A part of a request is carried out. Says what was written, if anything was.
    pub(crate) fn piece(&mut self, request: u64, from: u16, to: u16) -> Option<Landed> {
        let r = self.requests.get_mut(&request)?;
        match &r.op {
            DiskOp::Read { first, .. } => {
                for i in from..to {
                    let source = self.records.get((*first + u64::from(i)) as usize);
                    if let (Some(source), Some(place)) = (source, r.data.get_mut(usize::from(i))) {
                        place.clone_from(source);
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
                    Rc::make_mut(place)[..RECORD_BYTES / 2].copy_from_slice(&record[..RECORD_BYTES / 2]);
                } else {
                    *place = Rc::new(*record);
                }
                r.landed = true;
                let landed = Landed { machine: r.machine, boot: r.boot, at: *at, torn: r.torn };
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
            orphan: false,
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
    /// `io_max` may do so meanwhile, as if another machine had sent it.
    pub(crate) fn reset_port(&mut self, machine: usize) {
        self.requests.retain(|_, r| !(r.machine == machine && r.orphan && (r.late_us > 0 || r.was_late)));
    }

    /// How much later a request's next piece comes, if it is late.
    pub(crate) fn postponed(&mut self, request: u64) -> Option<u64> {
        let r = self.requests.get_mut(&request)?;
        let later = std::mem::take(&mut r.late_us);
        r.was_late |= later > 0;
        (later > 0 && matches!(r.op, DiskOp::Write { .. })).then_some(later)
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
