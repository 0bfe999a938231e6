//! The membership database on a SCSI disk: the node's ports for the shared disk and for reservations (`quorate-base`) upon the
//! disk driver (`quorate-scsi`), for any host adapter. Records become blocks, and the driver's failures the node's.
//!
//! It is told the time by a function, because the driver asks for it as its last act before a write.
#![no_std]
#![forbid(unsafe_code)]

mod reservation;

use core::fmt;
use quorate_base::capacity::{RECORD_BYTES, RECORD_PITCH};
use quorate_base::port::{DiskDone, SharedDisk};
use quorate_base::{DiskError, DiskOp, DiskTag, Timing};
use quorate_database::layout;
use quorate_master_lock::DiskGeometry;
use quorate_scsi::disk::{Config, Operation};
use quorate_scsi::find::Candidate;
use quorate_scsi::hba::Response;
use quorate_scsi::{Cause, Disk, Hba, SubmitError, Write};
use reservation::Answers;

/// Requests at a time: the database has one under way, the rest is for the layers above.
pub const SLOTS: usize = 8;
/// Bytes of the largest logical block.
const BLOCK_MAX: usize = 4096;

/// Takes what is worth a line of a log.
pub type Tell = fn(fmt::Arguments<'_>);

/// The partition with the membership database.
pub struct Database<H: Hba> {
    disk: Disk<H, SLOTS>,
    clock: fn() -> u64,
    tell: Tell,
    first_lba: u64,
    blocks: u64,
    block_bytes: u32,
    refused: Option<(DiskTag, DiskError)>,
    /// Answers about reservations that have not been handed out.
    answers: Answers,
}

/// Whether a partition has no room for the whole database.
pub fn is_short(candidate: &Candidate) -> bool {
    let bytes = u64::from(candidate.unit.geometry.block_bytes);
    candidate.partition.blocks.saturating_mul(bytes) < layout::PARTITION_BYTES
}

impl<H: Hba> Database<H> {
    /// The one that a finder found, with the `io_max` of the usual timing. `clock` gives µs, monotonic.
    ///
    /// Before the first request the old ones of this port are to be ended: [`Disk::clear_task_set`], then [`Disk::poll`] until
    /// [`Disk::is_settled`] (DESIGN 3, birth).
    pub fn new(hba: H, candidate: &Candidate, clock: fn() -> u64, tell: Tell) -> Self {
        let config = Config::with_io_max_us(u64::from(Timing::DEFAULT.io_max) * 1000);
        Self {
            disk: Disk::new(hba, &candidate.unit, config, clock),
            clock,
            tell,
            first_lba: candidate.partition.first_lba,
            blocks: candidate.partition.blocks,
            block_bytes: candidate.unit.geometry.block_bytes,
            refused: None,
            answers: Answers::new(),
        }
    }

    /// The driver.
    pub fn disk(&mut self) -> &mut Disk<H, SLOTS> {
        &mut self.disk
    }

    /// Gives the adapter back.
    ///
    /// # Errors
    /// [`DiskError::Device`]: something is under way.
    pub fn into_hba(self) -> Result<H, DiskError> {
        self.disk.into_hba().map_err(|_| DiskError::Device)
    }

    /// The cluster's `io_max`, once the superblock is known.
    pub fn set_timing(&mut self, timing: &Timing) {
        let reservations = self.disk.config().reservations;
        self.disk.set_config(Config { reservations, ..Config::with_io_max_us(u64::from(timing.io_max) * 1000) });
    }

    /// Where the database stands, for the trace.
    pub fn geometry(&self) -> DiskGeometry {
        DiskGeometry { first_lba: self.first_lba, blocks_per_record: self.blocks_per_record() }
    }

    fn blocks_per_record(&self) -> u32 {
        RECORD_PITCH as u32 / self.block_bytes
    }

    /// When [`SharedDisk::poll`] is due without an interrupt, µs.
    pub fn poll_timeout_us(&self) -> u64 {
        if self.refused.is_some() || !self.answers.is_empty() {
            0
        } else {
            self.disk.poll_timeout().unwrap_or(u64::MAX)
        }
    }

    fn lba(&self, record: u64, count: u64) -> Result<u64, DiskError> {
        let blocks = u64::from(self.blocks_per_record());
        let end = record.checked_add(count).and_then(|end| end.checked_mul(blocks));
        match end {
            Some(end) if end <= self.blocks => Ok(self.first_lba + record * blocks),
            _ => Err(DiskError::OutOfRange),
        }
    }

    /// Submits, and keeps a refusal as the request's completion: the node's machines know one way of failing only.
    pub fn begin(&mut self, tag: DiskTag, op: &DiskOp) {
        if let Err(error) = self.submit(tag, op) {
            self.refused = Some((tag, error));
        }
    }
}

impl<H: Hba> SharedDisk for Database<H> {
    fn submit(&mut self, tag: DiskTag, op: &DiskOp) -> Result<(), DiskError> {
        let now_us = (self.clock)();
        let submitted = match op {
            DiskOp::Read { first, count } => {
                let lba = self.lba(*first, u64::from(*count))?;
                let blocks = u32::from(*count) * self.blocks_per_record();
                self.disk.submit_read(now_us, lba, blocks, u64::from(tag.0))
            }
            DiskOp::Write { at, record, not_after } => {
                let lba = self.lba(*at, 1)?;
                let mut block = [0; BLOCK_MAX];
                block[..RECORD_BYTES].copy_from_slice(record);
                let block = block.get(..self.block_bytes as usize).ok_or(DiskError::Device)?;
                let write = Write { durable: true, not_after_us: not_after.map(|at| at.0) };
                self.disk.submit_write(now_us, lba, block, write, u64::from(tag.0))
            }
        };
        submitted.map_err(|error| match error {
            SubmitError::Frozen => DiskError::Frozen,
            SubmitError::OutOfRange => DiskError::OutOfRange,
            SubmitError::HbaBroken | SubmitError::GeometryChanged => DiskError::Gone,
            SubmitError::TooLarge | SubmitError::BadLength | SubmitError::WriteOutstanding | SubmitError::NoSlot => {
                DiskError::Device
            }
        })
    }

    fn poll(&mut self, done: &mut DiskDone<'_>) -> bool {
        if let Some((tag, error)) = self.refused.take() {
            done(tag, Err(error));
            return true;
        }
        let completion = loop {
            let Some(completion) = self.disk.poll((self.clock)()) else { return false };
            match reservation::answer(&completion, self.tell) {
                // There is room: the node has two under way at most.
                Some(answer) => drop(self.answers.push_back(answer)),
                None => break completion,
            }
        };
        let tag = DiskTag(completion.tag as u32);
        let reading = completion.operation == Operation::Read;
        match completion.result {
            Ok(bytes) => done(tag, Ok(bytes)),
            Err(error) => {
                (self.tell)(format_args!("disk: {error}"));
                done(tag, Err(disk_error(error.cause, reading)));
            }
        }
        true
    }
}

/// What a failure means to the database. A request that a reset or another node's preemption ended without a status does
/// nothing any more, as one that was aborted. What the unit reports for a read is taken for that place's fault, so that the
/// reader tries its neighbours apart.
fn disk_error(cause: Cause, reading: bool) -> DiskError {
    if let Some(attention) = cause.attention().filter(|_| !reading) {
        return DiskError::Attention(reservation::attention(&attention));
    }
    match cause {
        Cause::Frozen => DiskError::Frozen,
        Cause::Check(_) | Cause::CheckUnexplained | Cause::Short { .. } if reading => DiskError::Medium,
        Cause::ReservationConflict => DiskError::Conflict,
        Cause::TimedOut | Cause::TaskAborted | Cause::Hba(Response::Reset | Response::Aborted) => DiskError::TimedOut,
        Cause::Hba(_) | Cause::HbaBroken => DiskError::Gone,
        Cause::Check(_)
        | Cause::CheckUnexplained
        | Cause::Short { .. }
        | Cause::Busy
        | Cause::TaskSetFull
        | Cause::ResetDenied
        | Cause::Status(_) => DiskError::Device,
    }
}
