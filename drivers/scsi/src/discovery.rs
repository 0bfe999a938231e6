//! Which logical units there are, who they are, how large they are.
//!
//! Target by target: REPORT LUNS, then for each unit TEST UNIT READY (which takes the unit attentions
//! of power-on), INQUIRY, VPD pages 00h, 83h, 80h, B0h, READ CAPACITY. A disk is known by what it says
//! about itself, never by its place.

use crate::capacity::{CapacityError, Geometry, LUNS_MAX, parse_capacity_10, parse_capacity_16, parse_luns};
use crate::cdb::Cdb;
use crate::hba::{Address, Command, Hba, Response, Transfer};
use crate::inquiry::{
    BlockLimits, DESIGNATORS_MAX, Designator, Inquiry, NAME_MAX, PAGE_BLOCK_LIMITS, PAGE_IDENTIFICATION, PAGE_SERIAL,
    PAGE_SUPPORTED, lists_page, parse_designators, parse_serial,
};
use crate::judge::Cause;
use crate::runner::{Runner, SLOT};
use heapless::Vec;

/// Bytes asked of INQUIRY pages.
const PAGE_BYTES: u16 = 512;
/// Bytes asked of REPORT LUNS.
const LUNS_BYTES: u32 = 8 + 8 * LUNS_MAX as u32;
/// Failures that are remembered.
pub const FAILURES_MAX: usize = 8;

/// A disk as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Where it is now.
    pub address: Address,
    /// Vendor, product, revision.
    pub inquiry: Inquiry,
    /// Its designators (page 83h), the best kind first.
    pub designators: Vec<Designator, DESIGNATORS_MAX>,
    /// Its serial number (page 80h).
    pub serial: Vec<u8, NAME_MAX>,
    /// Its transfer limits (page B0h), zeros if it states none.
    pub limits: BlockLimits,
    /// Its size.
    pub geometry: Geometry,
}

/// A unit that could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub address: Address,
    /// What it failed at.
    pub during: Phase,
    /// Why; `None`: its data could not be read.
    pub cause: Option<Cause>,
}

/// What is asked of a unit, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// REPORT LUNS of the target.
    Luns,
    /// TEST UNIT READY.
    Ready,
    /// Standard INQUIRY.
    Inquiry,
    /// VPD page 00h.
    Pages,
    /// VPD page 83h.
    Designators,
    /// VPD page 80h.
    Serial,
    /// VPD page B0h.
    Limits,
    /// READ CAPACITY(16).
    Capacity16,
    /// READ CAPACITY(10), for units that do not know the other.
    Capacity10,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is no heap to box into")]
pub enum Progress {
    /// Waiting for the adapter, or for [`Discovery::poll_timeout`].
    Pending,
    /// A disk. Call again for more.
    Unit(Unit),
    /// All targets have been looked at.
    Done,
}

/// Pages a unit lists.
#[derive(Clone, Copy, Debug, Default)]
struct Pages {
    designators: bool,
    serial: bool,
    limits: bool,
}

/// The discovery machine.
#[derive(Clone, Debug)]
pub struct Discovery {
    targets: u16,
    target: u16,
    luns: Vec<u16, LUNS_MAX>,
    phase: Phase,
    pages: Pages,
    unit: Unit,
    runner: Runner,
    failures: Vec<Failure, FAILURES_MAX>,
}

impl Discovery {
    /// Looks at targets 0 to `targets` - 1.
    pub fn new(targets: u16) -> Self {
        Self {
            targets: targets.min(256),
            target: 0,
            luns: Vec::new(),
            phase: Phase::Luns,
            pages: Pages::default(),
            unit: blank(Address { target: 0, lun: 0 }),
            runner: Runner::default(),
            failures: Vec::new(),
        }
    }

    /// Units that answered but could not be used.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// When [`Discovery::poll`] must be called even without an interrupt.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.runner.poll_timeout()
    }

    /// Moves on as far as it goes. Needs slot 0 of the adapter for itself.
    pub fn poll<H: Hba>(&mut self, hba: &mut H, now_us: u64) -> Progress {
        loop {
            if !self.runner.is_busy() {
                if self.target >= self.targets {
                    return Progress::Done;
                }
                self.runner.begin(self.command(), false, now_us);
            }
            let Some(result) = self.runner.poll(hba, now_us) else {
                return Progress::Pending;
            };
            let answer = match result {
                Ok(bytes) => Ok(hba.data(SLOT).and_then(|data| data.get(..bytes)).unwrap_or(&[])),
                Err(cause) => Err(cause),
            };
            if let Some(unit) = self.on_answer(answer) {
                return Progress::Unit(unit);
            }
        }
    }

    fn command(&self) -> Command {
        let page = usize::from(PAGE_BYTES);
        let (cdb, transfer) = match self.phase {
            Phase::Luns => (Cdb::report_luns(LUNS_BYTES), LUNS_BYTES as usize),
            Phase::Ready => (Cdb::test_unit_ready(), 0),
            Phase::Inquiry => (Cdb::inquiry(96), 96),
            Phase::Pages => (Cdb::inquiry_vpd(PAGE_SUPPORTED, PAGE_BYTES), page),
            Phase::Designators => (Cdb::inquiry_vpd(PAGE_IDENTIFICATION, PAGE_BYTES), page),
            Phase::Serial => (Cdb::inquiry_vpd(PAGE_SERIAL, PAGE_BYTES), page),
            Phase::Limits => (Cdb::inquiry_vpd(PAGE_BLOCK_LIMITS, PAGE_BYTES), page),
            Phase::Capacity16 => (Cdb::read_capacity_16(32), 32),
            Phase::Capacity10 => (Cdb::read_capacity_10(), 8),
        };
        Command {
            address: self.unit.address,
            cdb,
            transfer: match transfer {
                0 => Transfer::None,
                bytes => Transfer::In(bytes),
            },
        }
    }

    fn on_answer(&mut self, answer: Result<&[u8], Cause>) -> Option<Unit> {
        match self.phase {
            Phase::Luns => self.on_luns(answer),
            Phase::Ready => match answer {
                Ok(_) => self.phase = Phase::Inquiry,
                Err(cause) => self.fail(Some(cause)),
            },
            Phase::Inquiry => match answer.map(Inquiry::parse) {
                Ok(Some(inquiry)) if inquiry.is_disk() => {
                    self.unit.inquiry = inquiry;
                    self.phase = Phase::Pages;
                }
                // Another kind of device, or an empty place.
                Ok(Some(_)) => self.next_unit(),
                Ok(None) => self.fail(None),
                Err(cause) => self.fail(Some(cause)),
            },
            Phase::Pages => {
                let data = answer.unwrap_or(&[]);
                self.pages = Pages {
                    designators: lists_page(data, PAGE_IDENTIFICATION),
                    serial: lists_page(data, PAGE_SERIAL),
                    limits: lists_page(data, PAGE_BLOCK_LIMITS),
                };
                self.next_page();
            }
            // A page that is listed and refused all the same is as good as not there.
            Phase::Designators => {
                self.unit.designators = parse_designators(answer.unwrap_or(&[]));
                self.next_page();
            }
            Phase::Serial => {
                self.unit.serial = parse_serial(answer.unwrap_or(&[])).unwrap_or_default();
                self.next_page();
            }
            Phase::Limits => {
                self.unit.limits = BlockLimits::parse(answer.unwrap_or(&[])).unwrap_or_default();
                self.next_page();
            }
            Phase::Capacity16 => match answer.map(parse_capacity_16) {
                Ok(parsed) => return self.on_capacity(parsed),
                Err(Cause::Check(_)) => self.phase = Phase::Capacity10,
                Err(cause) => self.fail(Some(cause)),
            },
            Phase::Capacity10 => match answer.map(parse_capacity_10) {
                Ok(parsed) => return self.on_capacity(parsed),
                Err(cause) => self.fail(Some(cause)),
            },
        }
        None
    }

    fn on_luns(&mut self, answer: Result<&[u8], Cause>) {
        self.luns = match answer {
            Ok(data) => parse_luns(data),
            Err(Cause::Hba(Response::BadTarget)) => Vec::new(),
            // A target that does not know the command has unit 0 at least.
            Err(Cause::Check(_)) => Vec::from_iter([0]),
            Err(cause) => {
                self.remember(Some(cause));
                Vec::new()
            }
        };
        self.luns.reverse();
        self.next_unit();
    }

    /// The pages in their order, those the unit does not list left out.
    fn next_page(&mut self) {
        self.phase = if core::mem::take(&mut self.pages.designators) {
            Phase::Designators
        } else if core::mem::take(&mut self.pages.serial) {
            Phase::Serial
        } else if core::mem::take(&mut self.pages.limits) {
            Phase::Limits
        } else {
            Phase::Capacity16
        };
    }

    fn on_capacity(&mut self, parsed: Result<Geometry, CapacityError>) -> Option<Unit> {
        let Ok(geometry) = parsed else {
            self.fail(None);
            return None;
        };
        self.unit.geometry = geometry;
        let unit = self.unit.clone();
        self.next_unit();
        Some(unit)
    }

    fn fail(&mut self, cause: Option<Cause>) {
        self.remember(cause);
        self.next_unit();
    }

    fn remember(&mut self, cause: Option<Cause>) {
        // The first failures say most.
        let _ = self.failures.push(Failure { address: self.unit.address, during: self.phase, cause });
    }

    fn next_unit(&mut self) {
        let lun = match self.luns.pop() {
            Some(lun) => {
                self.phase = Phase::Ready;
                lun
            }
            None => {
                self.target += 1;
                self.phase = Phase::Luns;
                0
            }
        };
        // Past the last target nothing is sent any more.
        let target = u8::try_from(self.target).unwrap_or(u8::MAX);
        self.unit = blank(Address { target, lun });
    }
}

fn blank(address: Address) -> Unit {
    Unit {
        address,
        inquiry: Inquiry::default(),
        designators: Vec::new(),
        serial: Vec::new(),
        limits: BlockLimits::default(),
        geometry: Geometry { blocks: 0, block_bytes: 512 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Behaviour, FakeHba};
    use std::string::ToString;
    use std::vec::Vec as StdVec;

    fn run(hba: &mut FakeHba, discovery: &mut Discovery) -> StdVec<Unit> {
        let mut units = StdVec::new();
        let mut now_us = 0;
        for _ in 0..10_000 {
            match discovery.poll(hba, now_us) {
                Progress::Unit(unit) => units.push(unit),
                Progress::Done => return units,
                Progress::Pending => match discovery.poll_timeout() {
                    Some(at) if !hba.has_outcome() => now_us = now_us.max(at),
                    _ => {}
                },
            }
        }
        panic!("discovery does not end");
    }

    #[test]
    fn a_disk_describes_itself_and_absent_targets_are_skipped() {
        let mut hba = FakeHba::new(512, 4096);
        hba.address = Address { target: 3, lun: 0 };
        let mut discovery = Discovery::new(8);
        let units = run(&mut hba, &mut discovery);
        assert_eq!(units.len(), 1);
        let unit = &units[0];
        assert_eq!(unit.address.target, 3);
        assert_eq!(unit.geometry, Geometry { blocks: 4096, block_bytes: 512 });
        assert_eq!(unit.designators[0].to_string(), "naa.5000c50000000001");
        assert_eq!(unit.serial, b"serial-1");
        assert!(discovery.failures().is_empty());
    }

    #[test]
    fn unit_attentions_of_power_on_are_taken() {
        let mut hba = FakeHba::new(4096, 64);
        for _ in 0..3 {
            hba.script.push_back(Behaviour::Sense([6, 0x29, 0]));
        }
        let units = run(&mut hba, &mut Discovery::new(2));
        assert_eq!(units[0].geometry.block_bytes, 4096);
    }

    #[test]
    fn a_unit_that_becomes_ready_is_waited_for() {
        let mut hba = FakeHba::new(512, 64);
        hba.script.push_back(Behaviour::Good); // REPORT LUNS
        for _ in 0..20 {
            hba.script.push_back(Behaviour::Sense([2, 4, 1]));
        }
        assert_eq!(run(&mut hba, &mut Discovery::new(1)).len(), 1);
    }

    #[test]
    fn a_unit_that_never_becomes_ready_is_a_failure() {
        let mut hba = FakeHba::new(512, 64);
        hba.script.push_back(Behaviour::Good);
        hba.script.push_back(Behaviour::Sense([2, 0x3a, 0]));
        let mut discovery = Discovery::new(1);
        assert!(run(&mut hba, &mut discovery).is_empty());
        assert_eq!(discovery.failures()[0].during, Phase::Ready);
    }

    #[test]
    fn capacity_10_where_16_is_unknown() {
        let mut hba = FakeHba::new(512, 64);
        hba.no_capacity_16 = true;
        let units = run(&mut hba, &mut Discovery::new(1));
        assert_eq!(units[0].geometry.blocks, 64);
    }

    #[test]
    fn a_command_that_is_never_answered_is_aborted() {
        let mut hba = FakeHba::new(512, 64);
        hba.script.push_back(Behaviour::Good);
        hba.script.push_back(Behaviour::Hold);
        let mut discovery = Discovery::new(1);
        assert!(run(&mut hba, &mut discovery).is_empty());
        assert_eq!(discovery.failures()[0].cause, Some(Cause::TimedOut));
        assert_eq!(hba.tasks.len(), 1);
    }
}
