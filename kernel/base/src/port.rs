//! The ports through which a node reaches the outside world. An embedder supplies them (or feeds the sans-IO machines
//! directly): a clock and a shared disk here; the link is smoltcp's `phy::Device`.
//!
//! A node never calls the outside from within a call that it answers: requests go out by
//! [`SharedDisk::submit`], completions come back by [`SharedDisk::poll`].

use core::fmt;
use serde::{Deserialize, Serialize};

use crate::capacity::RECORD_BYTES;
use crate::reservation::Attention;
use crate::time::Instant;

/// A monotonic clock, µs since boot. It may stand still only while the whole machine does (DESIGN 7 on suspension).
pub trait Clock {
    /// Now.
    fn now(&self) -> Instant;
}

/// Names one request of this node until its completion. Chosen by the node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct DiskTag(pub u32);

/// A request to the membership database. Places are record numbers: record `n` stands `n * RECORD_PITCH` bytes after the
/// start of the database's partition.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(clippy::large_enum_variant, reason = "a record travels by value: there is no allocator")]
pub enum DiskOp {
    /// Read `count` records (`1..=READ_RECORDS_MAX`) from record `first` on.
    Read {
        /// The first record's number.
        first: u64,
        /// How many records.
        count: u16,
    },
    /// Write one record durably (FUA, or followed by SYNCHRONIZE CACHE). The rest of the logical block is zeros.
    Write {
        /// The record's number.
        at: u64,
        /// Its bytes.
        record: [u8; RECORD_BYTES],
        /// The lease: the port must look at the clock as its last act before the doorbell, with interrupts off, and
        /// answer [`DiskError::Frozen`] instead of submitting if it is past this (DESIGN 7). `None`: no limit.
        not_after: Option<Instant>,
    },
}

/// How a disk request failed. A write that failed in any way but `Frozen`, `Conflict`, `Attention` and `OutOfRange` may or
/// may not have landed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum DiskError {
    /// The medium could not be read or written there.
    Medium,
    /// It was aborted after `io_max`, and the abort or a reset is confirmed: it will not land any more.
    TimedOut,
    /// The disk does not answer any more.
    Gone,
    /// Refused by the port: the lease had run out. Nothing was submitted.
    Frozen,
    /// Refused by the disk (RESERVATION CONFLICT): this node is not registered, or another reservation stands.
    Conflict,
    /// A write of a registered node was answered by a unit attention: it was not executed, and must not be repeated before
    /// the node has looked at views and keys. Reads are repeated by the port, see [`crate::reservation`].
    Attention(Attention),
    /// The place is outside of the partition. Nothing was submitted.
    OutOfRange,
    /// Anything else that the disk or its adapter reported.
    Device,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Medium => "unreadable or unwritable medium",
            Self::TimedOut => "timed out and aborted",
            Self::Gone => "the disk is gone",
            Self::Frozen => "refused: the lease has run out",
            Self::Conflict => "reservation conflict",
            Self::Attention(attention) => attention.name(),
            Self::OutOfRange => "outside of the partition",
            Self::Device => "device error",
        })
    }
}

/// What takes a completion: the request's tag and its outcome, for a read with the bytes.
pub type DiskDone<'a> = dyn FnMut(DiskTag, Result<&[u8], DiskError>) + 'a;

/// The shared disk, as far as the membership database needs it.
pub trait SharedDisk {
    /// Begins a request. At most four are under way at a time; completions may come in any order.
    ///
    /// # Errors
    /// If it cannot be begun; nothing was submitted, no completion will come.
    fn submit(&mut self, tag: DiskTag, op: &DiskOp) -> Result<(), DiskError>;

    /// Hands one completion to `done`, if there is one: the tag, and for a read its bytes (`count * RECORD_PITCH`, each
    /// record at the start of its pitch), for a write none. False if there was none.
    fn poll(&mut self, done: &mut DiskDone<'_>) -> bool;
}

/// How a node that was put out is kept from the shared disk (DESIGN 7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum FenceMethod {
    /// By time: it stops by itself when its lease has run out.
    #[default]
    Lease,
    /// By the disk: its registration is preempted.
    Reservation,
}

impl FenceMethod {
    /// The name in traces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Reservation => "reservation",
        }
    }
}
