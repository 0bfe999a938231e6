//! The shared disk: found by the type of its partition, never by its place; records of the membership database as blocks.

use quorate_arch_x86_64::clock;
use quorate_base::capacity::{RECORD_BYTES, RECORD_PITCH};
use quorate_base::port::{DiskDone, SharedDisk};
use quorate_base::{ClusterId, DiskError, DiskOp, DiskTag, HaltReason, Timing};
use quorate_database::{Superblock, layout};
use quorate_master_lock::DiskGeometry;
use quorate_scsi::disk::{Config, Event, Operation};
use quorate_scsi::find::{Candidate, Finder, Step};
use quorate_scsi::gpt::Guid;
use quorate_scsi::{Cause, Disk, Hba, SubmitError, Write};
use quorate_virtio_scsi::PciScsi;

use crate::devices::WORK;

/// Requests at a time: the database has one under way, the rest is for the layers above.
const SLOTS: usize = 8;
/// Bytes of the largest logical block.
const BLOCK_MAX: usize = 4096;
/// How long to look for the disk before giving up, µs. A disk that needs longer to become ready is retried by discovery.
const FIND_US: u64 = 10_000_000;

/// The disk with the membership database.
pub struct Shared {
    disk: Disk<PciScsi, SLOTS>,
    first_lba: u64,
    blocks: u64,
    block_bytes: u32,
    refused: Option<(DiskTag, DiskError)>,
}

/// Looks at every disk of the adapter for the partition of the membership database, and ends the old requests of this
/// port (DESIGN 3, birth). With `cluster`, a database of another cluster is passed over.
///
/// # Errors
/// The reason to halt: no membership database at all, or only another cluster's.
pub async fn find(hba: PciScsi, cluster: Option<ClusterId>) -> Result<Shared, HaltReason> {
    let mut finder = Finder::new(Guid(layout::PARTITION_TYPE), hba.targets());
    let give_up_us = clock::now_us() + FIND_US;
    let mut hba = hba;
    let mut none = HaltReason::NoDisk;
    loop {
        let now_us = clock::now_us();
        match finder.poll(&mut hba, now_us) {
            Step::Candidate(candidate) => {
                let mut shared = Shared::new(hba, &candidate);
                shared.end_old_requests().await?;
                if !shared.is_foreign(cluster).await? {
                    return Ok(shared);
                }
                defmt::warn!("passed over: this database belongs to another cluster");
                none = HaltReason::ForeignDisk;
                // Nothing is outstanding: the answer has come.
                hba = shared.disk.into_hba().map_err(|_| HaltReason::Disk { error: DiskError::Device })?;
            }
            Step::Foreign(unit, why) => {
                defmt::warn!(
                    "disk at {} has no membership database: {}",
                    defmt::Debug2Format(&unit.address),
                    defmt::Debug2Format(&why)
                );
            }
            Step::Done => return Err(none),
            Step::Pending if now_us >= give_up_us => return Err(none),
            Step::Pending => {
                WORK.wait_until(finder.poll_timeout().unwrap_or(give_up_us).min(give_up_us)).await;
            }
        }
    }
}

impl Shared {
    fn new(hba: PciScsi, candidate: &Candidate) -> Self {
        let config = Config::with_io_max_us(u64::from(Timing::DEFAULT.io_max) * 1000);
        let block_bytes = candidate.unit.geometry.block_bytes;
        defmt::info!(
            "shared disk {}: partition at block {=u64}, {=u64} blocks of {=u32} bytes",
            defmt::Debug2Format(&candidate.unit.designators.first()),
            candidate.partition.first_lba,
            candidate.partition.blocks,
            block_bytes,
        );
        if candidate.primary_damage.is_some() {
            defmt::warn!("the primary partition table is damaged; the backup was used");
        }
        Self {
            disk: Disk::new(hba, &candidate.unit, config, clock::now_us),
            first_lba: candidate.partition.first_lba,
            blocks: candidate.partition.blocks,
            block_bytes,
            refused: None,
        }
    }

    async fn end_old_requests(&mut self) -> Result<(), HaltReason> {
        let gone = HaltReason::Disk { error: DiskError::Gone };
        self.disk.clear_task_set(clock::now_us()).map_err(|_| gone)?;
        while !self.disk.is_settled() {
            let due_us = self.disk.poll_timeout().unwrap_or(u64::MAX);
            WORK.wait_until(due_us).await;
            let _ = self.disk.poll(clock::now_us());
        }
        Ok(())
    }

    /// Whether a valid superblock names another cluster. A damaged one is for the node's birth to judge.
    async fn is_foreign(&mut self, cluster: Option<ClusterId>) -> Result<bool, HaltReason> {
        let Some(cluster) = cluster else { return Ok(false) };
        let blocks = 2 * self.blocks_per_record();
        let error = HaltReason::Disk { error: DiskError::Device };
        self.disk.submit_read(clock::now_us(), self.first_lba, blocks, 0).map_err(|_| error)?;
        loop {
            if let Some(completion) = self.disk.poll(clock::now_us()) {
                let bytes = completion.result.map_err(|_| HaltReason::Disk { error: DiskError::Medium })?;
                let copies = [0, 1].map(|copy: u8| {
                    let at = usize::from(copy) * RECORD_PITCH as usize;
                    Superblock::decode(bytes.get(at..).unwrap_or_default(), copy)
                });
                let newest = Superblock::newest([&copies[0], &copies[1]]);
                return Ok(newest.is_ok_and(|superblock| superblock.cluster != cluster));
            }
            WORK.wait_until(self.disk.poll_timeout().unwrap_or(u64::MAX)).await;
        }
    }

    /// The cluster's `io_max`, once the superblock is known.
    pub fn set_timing(&mut self, timing: &Timing) {
        self.disk.set_config(Config::with_io_max_us(u64::from(timing.io_max) * 1000));
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
        if self.refused.is_some() { 0 } else { self.disk.poll_timeout().unwrap_or(u64::MAX) }
    }

    /// Writes the driver's reports to the log.
    pub fn log_events(&mut self) {
        while let Some(event) = self.disk.poll_event() {
            match event {
                Event::UnitAttention(sense) => {
                    defmt::info!("disk: unit attention {}", defmt::Display2Format(&sense));
                }
                Event::TaskSetCleared => defmt::info!("disk: old requests of this port are ended"),
                other => defmt::warn!("disk: {}", defmt::Debug2Format(&other)),
            }
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
}

impl SharedDisk for Shared {
    fn submit(&mut self, tag: DiskTag, op: &DiskOp) -> Result<(), DiskError> {
        let now_us = clock::now_us();
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
        let Some(completion) = self.disk.poll(clock::now_us()) else { return false };
        let tag = DiskTag(completion.tag as u32);
        let reading = completion.operation == Operation::Read;
        match completion.result {
            Ok(bytes) => done(tag, Ok(bytes)),
            Err(error) => {
                defmt::warn!("disk: {}", defmt::Display2Format(&error));
                done(tag, Err(disk_error(error.cause, reading)));
            }
        }
        true
    }
}

impl Shared {
    /// Submits, and keeps a refusal as the request's completion: the node's machines know one way of failing only.
    pub fn begin(&mut self, tag: DiskTag, op: &DiskOp) {
        if let Err(error) = self.submit(tag, op) {
            self.refused = Some((tag, error));
        }
    }
}

/// What a failure means to the database. What the unit reports for a read is taken for that place's fault, so that the
/// reader tries its neighbours apart.
fn disk_error(cause: Cause, reading: bool) -> DiskError {
    match cause {
        Cause::Frozen => DiskError::Frozen,
        Cause::Check(_) | Cause::CheckUnexplained | Cause::Short { .. } if reading => DiskError::Medium,
        Cause::ReservationConflict => DiskError::Conflict,
        Cause::TimedOut => DiskError::TimedOut,
        Cause::Hba(_) | Cause::HbaBroken => DiskError::Gone,
        Cause::Check(_)
        | Cause::CheckUnexplained
        | Cause::Short { .. }
        | Cause::TaskAborted
        | Cause::Busy
        | Cause::TaskSetFull
        | Cause::Status(_) => DiskError::Device,
    }
}
