//! The shared disk: found by the type of its partition, never by its place.

use quorate_arch_x86_64::clock;
use quorate_base::capacity::RECORD_PITCH;
use quorate_base::{ClusterId, DiskError, HaltReason};
use quorate_database::{Superblock, layout};
use quorate_master_lock::DiskGeometry;
use quorate_scsi::Hba;
use quorate_scsi::disk::Event;
use quorate_scsi::find::{Candidate, Finder, Step};
use quorate_scsi::gpt::Guid;
use quorate_shared_disk::{Database, is_short};
use quorate_virtio_scsi::PciScsi;

use crate::devices::WORK;

/// How long to look for the disk before giving up, µs. A disk that needs longer to become ready is retried by discovery.
const FIND_US: u64 = 10_000_000;

/// The disk with the membership database.
pub struct Shared {
    /// The database on it.
    pub database: Database<PciScsi>,
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
            Step::Candidate(candidate) if is_short(&candidate) => {
                defmt::warn!(
                    "passed over: the partition has {=u64} blocks, fewer than a database needs",
                    candidate.partition.blocks
                );
                none = HaltReason::DatabaseDamaged { what: "its partition is shorter than a membership database" };
            }
            Step::Candidate(candidate) => {
                let mut shared = Shared::new(hba, &candidate);
                shared.end_old_requests().await?;
                if !shared.is_foreign(cluster).await? {
                    return Ok(shared);
                }
                defmt::warn!("passed over: this database belongs to another cluster");
                none = HaltReason::ForeignDisk;
                // Nothing is outstanding: the answer has come.
                hba = shared.database.into_hba().map_err(|error| HaltReason::Disk { error })?;
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
        let tell = |what: core::fmt::Arguments<'_>| defmt::warn!("{}", defmt::Display2Format(&what));
        Self { database: Database::new(hba, candidate, clock::now_us, tell) }
    }

    async fn end_old_requests(&mut self) -> Result<(), HaltReason> {
        let gone = HaltReason::Disk { error: DiskError::Gone };
        self.database.disk().clear_task_set(clock::now_us()).map_err(|_| gone)?;
        while !self.database.disk().is_settled() {
            let due_us = self.database.disk().poll_timeout().unwrap_or(u64::MAX);
            WORK.wait_until(due_us).await;
            let _ = self.database.disk().poll(clock::now_us());
        }
        Ok(())
    }

    /// Whether a valid superblock names another cluster. A damaged one is for the node's birth to judge.
    async fn is_foreign(&mut self, cluster: Option<ClusterId>) -> Result<bool, HaltReason> {
        let Some(cluster) = cluster else { return Ok(false) };
        let DiskGeometry { first_lba, blocks_per_record } = self.database.geometry();
        let error = HaltReason::Disk { error: DiskError::Device };
        self.database.disk().submit_read(clock::now_us(), first_lba, 2 * blocks_per_record, 0).map_err(|_| error)?;
        loop {
            if let Some(completion) = self.database.disk().poll(clock::now_us()) {
                let bytes = completion.result.map_err(|_| HaltReason::Disk { error: DiskError::Medium })?;
                let copies = [0, 1].map(|copy: u8| {
                    let at = usize::from(copy) * RECORD_PITCH as usize;
                    Superblock::decode(bytes.get(at..).unwrap_or_default(), copy)
                });
                let newest = Superblock::newest([&copies[0], &copies[1]]);
                return Ok(newest.is_ok_and(|superblock| superblock.cluster != cluster));
            }
            WORK.wait_until(self.database.disk().poll_timeout().unwrap_or(u64::MAX)).await;
        }
    }

    /// Writes the driver's reports to the log.
    pub fn log_events(&mut self) {
        while let Some(event) = self.database.disk().poll_event() {
            match event {
                Event::UnitAttention(sense) => {
                    defmt::info!("disk: unit attention {}", defmt::Display2Format(&sense));
                }
                Event::TaskSetCleared => defmt::info!("disk: old requests of this port are ended"),
                other => defmt::warn!("disk: {}", defmt::Debug2Format(&other)),
            }
        }
    }
}
