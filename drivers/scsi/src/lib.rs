//! SCSI block devices, without I/O: commands, their answers, and the machines that drive a logical
//! unit over any host bus adapter.
//!
//! | module | what |
//! |---|---|
//! | [`cdb`] | the command descriptor blocks |
//! | [`sense`] | sense data, fixed and descriptor format |
//! | [`inquiry`], [`capacity`] | INQUIRY, VPD pages, REPORT LUNS, READ CAPACITY |
//! | [`hba`] | the trait of a host bus adapter |
//! | [`judge`] | what an answer means: done, again, failed |
//! | [`disk`] | reads and writes, many in flight, with retry, time-out, abort and reset |
//! | [`discovery`] | which logical units there are |
//! | [`gpt`] | partitions by type GUID |
//! | [`find`] | discovery and partitions in one sequence |
//!
//! All times are microseconds of one monotonic clock.
//!
//! Sources: SPC-4 (T10/1731-D), SBC-3 (T10/BSR INCITS 514), SAM-5; UEFI 2.10 § 5.3 for GPT.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod bytes;
pub mod capacity;
pub mod cdb;
pub mod discovery;
pub mod disk;
pub mod find;
pub mod gpt;
pub mod hba;
pub mod inquiry;
pub mod judge;
mod recovery;
mod requests;
mod runner;
pub mod sense;

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod fake;

pub use disk::{Completion, Disk, SubmitError, Write};
pub use hba::{Address, Hba};
pub use judge::Cause;
