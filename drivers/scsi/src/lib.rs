//! SCSI block devices, without I/O: commands, their answers, and the machines that drive a logical
//! unit over any host bus adapter.
//!
//! | module | what |
//! |---|---|
//! | [`cdb`] | the command descriptor blocks |
//! | [`sense`] | sense data, fixed and descriptor format |
//! | [`inquiry`], [`capacity`] | INQUIRY, VPD pages, REPORT LUNS, READ CAPACITY |
//! | [`reservation`], [`registrations`] | persistent reservations: what is asked and changed, what is answered |
//! | [`hba`] | the trait of a host bus adapter |
//! | [`judge`] | what an answer means: done, again, failed |
//! | [`disk`] | reads, writes, reservations, many in flight, with retry, time-out, abort and reset |
//! | [`discovery`] | which logical units there are |
//! | [`gpt`] | partitions by type GUID |
//! | [`find`] | discovery and partitions in one sequence |
//!
//! All times are microseconds of one monotonic clock.
//!
//! # Commands
//! | command | code | source | sent by |
//! |---|---|---|---|
//! | TEST UNIT READY | 00h | SPC-4 § 6.47 | [`discovery`] |
//! | INQUIRY, pages 00h 80h 83h B0h | 12h | SPC-4 § 6.6, 7.8; SBC-3 § 6.6 | [`discovery`] |
//! | READ CAPACITY(10), (16) | 25h, 9Eh/10h | SBC-3 § 5.15, 5.16 | [`discovery`], [`disk`] |
//! | READ(10), (16) | 28h, 88h | SBC-3 § 5.11, 5.13 | [`find`], [`disk`] |
//! | WRITE(10), (16), with FUA | 2Ah, 8Ah | SBC-3 § 5.32, 5.34 | [`disk`] |
//! | SYNCHRONIZE CACHE(10) | 35h | SBC-3 § 5.24 | [`disk`], where FUA is refused |
//! | PERSISTENT RESERVE IN | 5Eh/00h–03h | SPC-4 § 6.15 | [`Disk::submit_report`] |
//! | PERSISTENT RESERVE OUT | 5Fh/00h–06h | SPC-4 § 6.16 | [`Disk::submit_change`] |
//! | REPORT LUNS | A0h | SPC-4 § 6.33 | [`discovery`] |
//! | ABORT TASK, ABORT TASK SET | | SAM-5 § 7.2, 7.3 | [`disk`] |
//! | LOGICAL UNIT RESET | | SAM-5 § 7.7 | [`disk`], [`Disk::submit_reset`] |
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
mod persistent;
mod recovery;
pub mod registrations;
mod requests;
pub mod reservation;
mod runner;
pub mod sense;

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod fake_target;
#[cfg(test)]
mod persistent_tests;

pub use disk::{Completion, Disk, SubmitError, Write};
pub use hba::{Address, Hba};
pub use judge::Cause;
