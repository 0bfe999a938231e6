//! Finds the partitions of one type on all disks of an adapter: discovery, and the partition table of
//! each disk as it is found. The caller opens each candidate, looks whether it is its own, and goes on
//! if it is not.

use crate::cdb::Cdb;
use crate::discovery::{Discovery, Failure, Progress, Unit};
use crate::gpt::{Found, GptError, Guid, Next, NoGpt, PARTITIONS_MAX, Partition, Search};
use crate::hba::{Command, Hba, Transfer};
use crate::runner::{Runner, SLOT};
use heapless::Vec;

/// A partition of the type sought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The disk.
    pub unit: Unit,
    /// Its partition.
    pub partition: Partition,
    /// The primary table is damaged and the backup answered.
    pub primary_damage: Option<GptError>,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Waiting for the adapter, or for [`Finder::poll_timeout`].
    Pending,
    /// A partition. Call again for more.
    Candidate(Candidate),
    /// A disk without one: no table, or none of that type in it (`None`). Call again.
    Foreign(Unit, Option<NoGpt>),
    /// Every disk has been looked at.
    Done,
}

struct Looking {
    unit: Unit,
    search: Search,
}

/// The machine.
pub struct Finder {
    kind: Guid,
    discovery: Discovery,
    looking: Option<Looking>,
    runner: Runner,
    found: Vec<Candidate, PARTITIONS_MAX>,
}

impl Finder {
    /// Looks for partitions of type `kind` at targets 0 to `targets` - 1.
    pub fn new(kind: Guid, targets: u16) -> Self {
        Self { kind, discovery: Discovery::new(targets), looking: None, runner: Runner::default(), found: Vec::new() }
    }

    /// Units that answered but could not be used.
    pub fn failures(&self) -> &[Failure] {
        self.discovery.failures()
    }

    /// When [`Finder::poll`] must be called even without an interrupt.
    pub fn poll_timeout(&self) -> Option<u64> {
        match self.looking {
            Some(_) => self.runner.poll_timeout(),
            None => self.discovery.poll_timeout(),
        }
    }

    /// Moves on as far as it goes. Needs slot 0 of the adapter for itself.
    pub fn poll<H: Hba>(&mut self, hba: &mut H, now_us: u64) -> Step {
        loop {
            if let Some(candidate) = self.found.pop() {
                return Step::Candidate(candidate);
            }
            let Some(looking) = &mut self.looking else {
                match self.discovery.poll(hba, now_us) {
                    Progress::Pending => return Step::Pending,
                    Progress::Done => return Step::Done,
                    Progress::Unit(unit) => {
                        let search = Search::new(self.kind, unit.geometry);
                        self.looking = Some(Looking { unit, search });
                    }
                }
                continue;
            };
            match looking.search.next() {
                Next::Read { lba, blocks } => {
                    if !self.runner.is_busy() {
                        let bytes = blocks as usize * looking.unit.geometry.block_bytes as usize;
                        let command = Command {
                            address: looking.unit.address,
                            cdb: Cdb::read(lba, blocks),
                            transfer: Transfer::In(bytes),
                        };
                        self.runner.begin(command, true, now_us);
                    }
                    let Some(result) = self.runner.poll(hba, now_us) else {
                        return Step::Pending;
                    };
                    let data = result.ok().and_then(|bytes| hba.data(SLOT)?.get(..bytes));
                    looking.search.on_blocks(data);
                }
                Next::Done(result) => {
                    if let Some(foreign) = self.on_searched(result) {
                        return foreign;
                    }
                }
            }
        }
    }

    fn on_searched(&mut self, result: Result<Found, NoGpt>) -> Option<Step> {
        let Looking { unit, .. } = self.looking.take()?;
        match result {
            Err(error) => Some(Step::Foreign(unit, Some(error))),
            Ok(found) if found.partitions.is_empty() => Some(Step::Foreign(unit, None)),
            Ok(found) => {
                for partition in found.partitions.into_iter().rev() {
                    // As many as a search reports.
                    let _ = self.found.push(Candidate {
                        unit: unit.clone(),
                        partition,
                        primary_damage: found.primary_damage,
                    });
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Behaviour, FakeHba};
    use crate::gpt::tests::{KIND, image};

    fn run(hba: &mut FakeHba) -> Step {
        let mut finder = Finder::new(KIND, 4);
        let mut now_us = 0;
        for _ in 0..10_000 {
            match finder.poll(hba, now_us) {
                Step::Pending => {
                    if !hba.has_outcome() {
                        now_us = finder.poll_timeout().unwrap_or(now_us);
                    }
                }
                step => return step,
            }
        }
        panic!("the finder does not end");
    }

    #[test]
    fn the_partition_is_found_by_its_type_on_both_block_sizes() {
        for (block, blocks) in [(512usize, 4096u64), (4096, 512)] {
            let mut hba = FakeHba::new(block as u32, blocks);
            hba.disk = image(block, blocks as usize, 64, 127);
            let Step::Candidate(candidate) = run(&mut hba) else { panic!("{block}") };
            assert_eq!(candidate.partition.first_lba, 64);
            assert_eq!(candidate.partition.blocks, 64);
        }
    }

    #[test]
    fn a_foreign_disk_and_no_disk_are_told_apart() {
        let mut hba = FakeHba::new(512, 4096);
        assert!(matches!(run(&mut hba), Step::Foreign(_, Some(_))));
        let mut hba = FakeHba::new(512, 4096);
        hba.script.push_back(Behaviour::Response(crate::hba::Response::BadTarget));
        assert_eq!(run(&mut hba), Step::Done);
    }

    #[test]
    fn an_unreadable_primary_table_is_answered_by_the_backup() {
        let mut hba = FakeHba::new(512, 4096);
        hba.disk = image(512, 4096, 64, 127);
        hba.unreadable = Some(1);
        let Step::Candidate(candidate) = run(&mut hba) else { panic!() };
        assert_eq!(candidate.primary_damage, Some(GptError::Unreadable));
    }
}
