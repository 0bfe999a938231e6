//! Finds the shared disk by its partition's type, and ends what an earlier life of this port may have left under way.

use crate::{clock, machine};
use quorate_database::layout;
use quorate_scsi::Hba;
use quorate_scsi::find::{Finder, Step};
use quorate_scsi::gpt::Guid;
use quorate_shared_disk::{Database, is_short};
use quorate_virtio_scsi::PciScsi;

const FIND_US: u64 = 10_000_000;

/// `None` if no disk has a membership database, or it does not settle.
pub fn find(mut hba: PciScsi) -> Option<Database<PciScsi>> {
    let mut finder = Finder::new(Guid(layout::PARTITION_TYPE), hba.targets());
    let until_us = clock::now_us() + FIND_US;
    let found = loop {
        match finder.poll(&mut hba, clock::now_us()) {
            Step::Candidate(found) if !is_short(&found) => break found,
            Step::Done => return None,
            Step::Pending if clock::now_us() > until_us => return None,
            _ => machine::sleep(),
        }
    };
    let mut database = Database::new(hba, &found, clock::now_us, |_| ());
    database.disk().clear_task_set(clock::now_us()).ok()?;
    while !database.disk().is_settled() {
        machine::sleep();
        let _ = database.disk().poll(clock::now_us());
    }
    Some(database)
}
