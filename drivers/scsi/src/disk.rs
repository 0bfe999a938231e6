//! One logical unit as a block device: reads, writes and persistent reservations in flight together,
//! completed out of order.
//!
//! ```text
//!            submit            answer: again / later
//! (free) ───────────► waiting ◄───────────────┐
//!                        │ doorbell            │
//!                        ▼          answer     │
//!                     flying ─────────────────►┼──► finished ──► (free)
//!                        │ io_max              │         ▲
//!                        ▼     answer          │         │ abort or reset confirmed
//!                     overdue ─────────────────┴─────────┘
//! ```
//!
//! Invariants:
//! - The fate of a write is known before the next write to the same block is taken: a write that
//!   overlaps a waiting, flying or overdue one is refused ([`SubmitError::WriteOutstanding`]).
//! - A request that is not answered within `io_max` is aborted (ABORT TASK, then LOGICAL UNIT RESET);
//!   until one of them is confirmed it stays outstanding, however long that takes.
//! - A slot is used again only when the adapter has given it back. If half of them do not come back,
//!   although what they carried is confirmed to be ended, the adapter is reset at the next moment at
//!   which nothing is under way.
//! - A write's time limit is checked at every doorbell, also of retries, with interrupts off.
//! - A change of reservations is never repeated after an answer that leaves its fate open.
//! - A durable write is answered when it is on the medium: FUA, or WRITE and SYNCHRONIZE CACHE where
//!   the unit refuses FUA.

use crate::capacity::Geometry;
use crate::discovery::Unit;
use crate::hba::{Address, Hba, HbaError, HbaEvent};
use crate::judge::Cause;
use crate::recovery::Recovery;
use crate::requests::{Request, State, Step};
use crate::reservation::{Change, Report};
use crate::sense::Sense;
use core::fmt;
use heapless::Deque;

/// Events kept for the user; the oldest goes when there are more.
pub const EVENTS_MAX: usize = 32;

/// How long an abort may stay unconfirmed before the unit is reset: as long as the outage a cluster
/// survives frozen. Shorter is harmful under QEMU: its unit reset drains the disk inside the main loop,
/// so a reset during a stall stops the whole virtual machine, where an abort only waits for its end.
pub const ABORT_WAIT_US: u64 = 30_000_000;

/// How writes are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// WRITE with FUA; becomes `Synchronize` when the unit refuses the bit.
    Fua,
    /// WRITE, then SYNCHRONIZE CACHE.
    Synchronize,
}

/// Times and bounds. Microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Longest time to an answer before a request is aborted (the cluster's `io_max`).
    pub io_max_us: u64,
    /// Longest time to the confirmation of an abort before the unit is reset. A denied abort leads to
    /// the reset at once.
    pub abort_wait_us: u64,
    /// Time after which an unconfirmed reset is sent again.
    pub reset_wait_us: u64,
    /// Immediate retries of one request (unit attention, aborted command).
    pub retries_max: u8,
    /// First pause before a retry of a busy unit; doubles up to 32-fold.
    pub pause_us: u64,
    /// How long a unit may be busy or not ready before the request fails.
    pub patience_us: u64,
    /// How writes are made durable.
    pub durability: Durability,
    /// Reservations are in use: a write, flush or change that meets a unit attention which concerns them
    /// fails with it ([`Cause::attention`]) instead of being tried again, because this initiator may have
    /// been put out. See the tables of [`crate::judge`], and [`Disk::take_attention`] for reads.
    pub reservations: bool,
}

impl Config {
    /// For a given `io_max`, with what goes with it.
    pub const fn with_io_max_us(io_max_us: u64) -> Self {
        Self {
            io_max_us,
            abort_wait_us: ABORT_WAIT_US,
            reset_wait_us: 5_000_000,
            // QEMU queues up to three unit attentions at once.
            retries_max: 8,
            pause_us: 500,
            patience_us: 5_000_000,
            durability: Durability::Fua,
            reservations: false,
        }
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Read blocks.
    Read,
    /// Write blocks.
    Write,
    /// Ask for the capacity again; the machine's own.
    Capacity,
    /// Ask about persistent reservations.
    Report(Report),
    /// Change persistent reservations.
    Change(Change),
    /// LOGICAL UNIT RESET, asked for.
    Reset,
}

/// How to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Write {
    /// Answer only when it is on the medium.
    pub durable: bool,
    /// The latest time at which any attempt may be submitted, by the disk's clock.
    pub not_after_us: Option<u64>,
}

/// Why a request was not taken. Nothing was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// It begins or ends outside the unit, or has no blocks.
    OutOfRange,
    /// It does not fit a slot's buffer.
    TooLarge,
    /// The data is not a whole number of blocks.
    BadLength,
    /// The fate of an earlier write to one of the blocks is not known yet.
    WriteOutstanding,
    /// All slots are in use.
    NoSlot,
    /// The time limit passed: the last look before the doorbell refused it.
    Frozen,
    /// The unit's block size changed; it must be discovered again.
    GeometryChanged,
    /// The adapter is dead.
    HbaBroken,
}

/// A failed request in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Error {
    /// What was asked.
    pub operation: Operation,
    /// First block.
    pub lba: u64,
    /// Blocks.
    pub blocks: u32,
    /// Why it failed.
    pub cause: Cause,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, lba, blocks, cause } = self;
        match operation {
            Operation::Read | Operation::Write => write!(f, "{operation:?} of {blocks} block(s) at {lba}: {cause}"),
            _ => write!(f, "{operation:?}: {cause}"),
        }
    }
}

/// A request that is done. The data is valid until the next call to the disk.
#[derive(Debug, PartialEq, Eq)]
pub struct Completion<'a> {
    /// The caller's tag.
    pub tag: u64,
    /// What was asked.
    pub operation: Operation,
    /// First block.
    pub lba: u64,
    /// The bytes read or reported (none for what sends or changes), or why it failed. Either way it does nothing any more; of a
    /// write that failed the block may have the old or the new content.
    pub result: Result<&'a [u8], Error>,
}

/// What the user should know beside completions; worth a line in the log each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The unit reported a condition (reset, reservations preempted, …). The request that it answered was
    /// not carried out; it was tried again or failed with it (see the tables of [`crate::judge`]).
    UnitAttention(Sense),
    /// A request is tried again for this cause.
    Retried {
        /// The caller's tag.
        tag: u64,
        /// Why.
        cause: Cause,
    },
    /// The unit refused FUA; durable writes are followed by SYNCHRONIZE CACHE from now on.
    FuaRefused,
    /// A request was not answered within `io_max`; it is outstanding until its end is confirmed.
    Overdue {
        /// The caller's tag.
        tag: u64,
        /// What it is.
        operation: Operation,
        /// First block.
        lba: u64,
    },
    /// An overdue request was answered after all, before its abort was confirmed.
    Late {
        /// The caller's tag.
        tag: u64,
    },
    /// ABORT TASK was confirmed.
    AbortConfirmed,
    /// ABORT TASK was denied or not confirmed in time; LOGICAL UNIT RESET was sent.
    ResetSent,
    /// LOGICAL UNIT RESET was confirmed.
    ResetConfirmed,
    /// ABORT TASK SET was confirmed: nothing of this initiator is under way any more.
    TaskSetCleared,
    /// The adapter kept so many slots for good; it was reset and has given them back.
    AdapterRestarted {
        /// How many.
        slots: usize,
    },
    /// The adapter keeps slots for good and could not be reset: there are fewer from now on.
    AdapterWorn,
    /// The unit has another size than before.
    GeometryChanged {
        /// Before.
        old: Geometry,
        /// Now.
        new: Geometry,
    },
    /// A report of the adapter.
    Hba(HbaEvent),
}

/// Counts since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads that were answered well.
    pub reads: u64,
    /// Writes that were answered well.
    pub writes: u64,
    /// Reports, changes and resets that were answered well.
    pub reservations: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Attempts that were repeated.
    pub retries: u64,
    /// Unit attentions.
    pub unit_attentions: u64,
    /// Requests that were not answered in time.
    pub overdue: u64,
    /// Unit resets sent.
    pub resets: u64,
    /// Writes refused because their time limit had passed.
    pub frozen: u64,
    /// Events that were dropped because nobody took them.
    pub events_lost: u64,
    /// Answers about nothing that was asked.
    pub strays: u64,
}

/// A logical unit behind an adapter, with up to `SLOTS` requests at a time.
pub struct Disk<H: Hba, const SLOTS: usize> {
    pub(crate) hba: H,
    pub(crate) address: Address,
    pub(crate) geometry: Geometry,
    pub(crate) config: Config,
    pub(crate) clock: fn() -> u64,
    pub(crate) requests: [Option<Request>; SLOTS],
    pub(crate) finished: Deque<usize, SLOTS>,
    pub(crate) delivered: Option<usize>,
    pub(crate) recovery: Recovery,
    pub(crate) serial: u64,
    pub(crate) durability: Durability,
    /// The latest that concerns reservations and has not been taken.
    pub(crate) attention: Option<Sense>,
    pub(crate) recheck_capacity: bool,
    pub(crate) foreign_geometry: bool,
    /// The adapter cannot be reset any more.
    pub(crate) worn: bool,
    pub(crate) events: Deque<Event, EVENTS_MAX>,
    pub(crate) counters: Counters,
}

impl<H: Hba, const SLOTS: usize> Disk<H, SLOTS> {
    /// Takes over the adapter for one unit. `clock` gives the time that `not_after_us` is compared
    /// with; it must be the clock whose readings are passed as `now_us`.
    pub fn new(hba: H, unit: &Unit, config: Config, clock: fn() -> u64) -> Self {
        Self {
            hba,
            address: unit.address,
            geometry: unit.geometry,
            config,
            clock,
            requests: [const { None }; SLOTS],
            finished: Deque::new(),
            delivered: None,
            recovery: Recovery::Idle,
            serial: 1,
            durability: config.durability,
            attention: None,
            recheck_capacity: false,
            foreign_geometry: false,
            worn: false,
            events: Deque::new(),
            counters: Counters::default(),
        }
    }

    /// Gives the adapter back if nothing is outstanding.
    ///
    /// # Errors
    /// The disk itself, if something is.
    #[expect(clippy::result_large_err, reason = "there is no heap to box into")]
    pub fn into_hba(mut self) -> Result<H, Self> {
        self.release();
        if self.requests.iter().all(Option::is_none) && self.is_settled() { Ok(self.hba) } else { Err(self) }
    }

    /// The unit's size.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The unit's address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Counts since start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How writes are made durable now.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Times and bounds.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Replaces times and bounds, as when the cluster's timing has been read from the disk itself.
    /// Requests under way keep the deadlines they have.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// The adapter, for interrupts.
    pub fn hba_mut(&mut self) -> &mut H {
        &mut self.hba
    }

    /// No abort, clearing or reset is under way.
    pub fn is_settled(&self) -> bool {
        matches!(self.recovery, Recovery::Idle)
    }

    /// Requests taken and not yet delivered, or delivered while the adapter still holds their slot.
    pub fn outstanding(&self) -> usize {
        self.requests.iter().flatten().count()
    }

    /// Reads blocks.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was submitted.
    pub fn submit_read(&mut self, now_us: u64, lba: u64, blocks: u32, tag: u64) -> Result<(), SubmitError> {
        self.check_range(lba, blocks)?;
        let slot = self.free_slot().ok_or(SubmitError::NoSlot)?;
        let request = Request {
            tag,
            operation: Operation::Read,
            step: Step::Read,
            lba,
            blocks,
            how: Write::default(),
            state: State::Waiting { at_us: now_us },
            retries: 0,
            patience_until_us: now_us.saturating_add(self.config.patience_us),
            serial: 0,
            received: 0,
        };
        self.submit(slot, request, now_us)
    }

    /// Writes whole blocks. The data is copied.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was submitted.
    pub fn submit_write(
        &mut self,
        now_us: u64,
        lba: u64,
        data: &[u8],
        how: Write,
        tag: u64,
    ) -> Result<(), SubmitError> {
        let block_bytes = self.geometry.block_bytes as usize;
        if data.is_empty() || !data.len().is_multiple_of(block_bytes) {
            return Err(SubmitError::BadLength);
        }
        let blocks = u32::try_from(data.len() / block_bytes).map_err(|_| SubmitError::TooLarge)?;
        self.check_range(lba, blocks)?;
        let end = lba + u64::from(blocks);
        let busy = |request: &Request| request.is_undecided_write() && request.lba < end && lba < request.end();
        if self.requests.iter().flatten().any(busy) {
            return Err(SubmitError::WriteOutstanding);
        }
        let slot = self.free_slot().ok_or(SubmitError::NoSlot)?;
        let buffer = self.hba.data_mut(slot).ok_or(SubmitError::NoSlot)?;
        buffer.get_mut(..data.len()).ok_or(SubmitError::TooLarge)?.copy_from_slice(data);
        let request = Request {
            tag,
            operation: Operation::Write,
            step: Step::Write,
            lba,
            blocks,
            how,
            state: State::Waiting { at_us: now_us },
            retries: 0,
            patience_until_us: now_us.saturating_add(self.config.patience_us),
            serial: 0,
            received: 0,
        };
        self.submit(slot, request, now_us)
    }

    pub(crate) fn submit(&mut self, slot: usize, request: Request, now_us: u64) -> Result<(), SubmitError> {
        let Some(place) = self.requests.get_mut(slot) else {
            return Err(SubmitError::NoSlot);
        };
        *place = Some(request);
        if self.is_holding() {
            return Ok(());
        }
        let refused = match self.start(slot, now_us) {
            Ok(()) => return Ok(()),
            Err(HbaError::Busy) => return Ok(()),
            Err(HbaError::Refused) => {
                self.counters.frozen += 1;
                SubmitError::Frozen
            }
            Err(HbaError::Unfit | HbaError::Broken) => SubmitError::HbaBroken,
        };
        if let Some(place) = self.requests.get_mut(slot) {
            *place = None;
        }
        Err(refused)
    }

    fn check_range(&self, lba: u64, blocks: u32) -> Result<(), SubmitError> {
        if self.foreign_geometry {
            return Err(SubmitError::GeometryChanged);
        }
        let end = lba.checked_add(u64::from(blocks));
        if blocks == 0 || end.is_none_or(|end| end > self.geometry.blocks) {
            return Err(SubmitError::OutOfRange);
        }
        let bytes = u64::from(blocks) * u64::from(self.geometry.block_bytes);
        if bytes > self.hba.slot_bytes() as u64 {
            return Err(SubmitError::TooLarge);
        }
        Ok(())
    }

    /// Ends everything this initiator has under way at the unit (ABORT TASK SET, then, if that is not
    /// confirmed, LOGICAL UNIT RESET). Until [`Disk::is_settled`] new requests wait.
    ///
    /// # Errors
    /// [`SubmitError::NoSlot`] while another recovery is under way; [`SubmitError::HbaBroken`].
    pub fn clear_task_set(&mut self, now_us: u64) -> Result<(), SubmitError> {
        self.begin_clearing(now_us)
    }

    /// Moves everything on and yields the next completion. Call it until `None` after each interrupt
    /// of the adapter and whenever [`Disk::poll_timeout`] has come.
    pub fn poll(&mut self, now_us: u64) -> Option<Completion<'_>> {
        self.release();
        self.advance(now_us);
        let slot = self.finished.pop_front()?;
        let request = self.requests.get(slot)?.as_ref()?;
        let State::Finished { result, .. } = request.state else {
            return None;
        };
        self.delivered = Some(slot);
        let bytes = match request.operation {
            Operation::Read => request.blocks as usize * self.geometry.block_bytes as usize,
            Operation::Report(_) => request.received,
            _ => 0,
        };
        let error = |cause| Error { operation: request.operation, lba: request.lba, blocks: request.blocks, cause };
        let data = self.hba.data(slot).and_then(|data| data.get(..bytes));
        Some(Completion {
            tag: request.tag,
            operation: request.operation,
            lba: request.lba,
            result: match result {
                Ok(()) => data.ok_or_else(|| error(Cause::HbaBroken)),
                Err(cause) => Err(error(cause)),
            },
        })
    }

    /// When [`Disk::poll`] must be called even without an interrupt.
    pub fn poll_timeout(&self) -> Option<u64> {
        if !self.finished.is_empty() {
            return Some(0);
        }
        let holding = self.is_holding();
        let requests = self.requests.iter().flatten();
        let of_requests = requests.filter_map(|request| match request.state {
            State::Waiting { at_us } if !holding => Some(at_us),
            State::Flying { deadline_us } => Some(deadline_us),
            State::Resetting if !self.is_ending_all() => Some(0),
            _ => None,
        });
        of_requests.chain(self.recovery.deadline_us()).min()
    }

    /// The unit attention, the latest if there were several, that said since the last call that
    /// reservations may have changed, and with which no request failed. One that went on in spite of it (a
    /// read, a report) is completed by a later [`Disk::poll`] than the one that noticed it: whoever asks
    /// before each poll hears of it first.
    pub fn take_attention(&mut self) -> Option<Sense> {
        self.attention.take()
    }

    /// The next event for the log.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) fn report(&mut self, event: Event) {
        if self.events.is_full() {
            self.events.pop_front();
            self.counters.events_lost += 1;
        }
        let _ = self.events.push_back(event);
    }
}
