//! The fault models (DESIGN 9): what the simulated disk, network and clocks may do wrong. All off in [`Faults::default`];
//! everything that happens is drawn from the run's generator.

use serde::{Deserialize, Serialize};

/// What the disk may do wrong, to every machine.
///
/// Always true: a record is written and read whole unless it is torn at a crash; a write that was submitted lands, if it
/// ever does, within `io_max`, also when its writer is dead by then (DESIGN 7 rests on that; `late_us` breaks it); completions of different
/// machines come in any order; a read of many records does not show one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskFaults {
    /// Shortest and longest time of a request, µs.
    pub delay_us: (u64, u64),
    /// So many requests in a million take much longer, up to `slow_us`.
    pub slow_per_million: u32,
    /// The longest time of a slow one, µs. Beyond `io_max` it is aborted: it landed or it did not.
    pub slow_us: u64,
    /// So many reads in a million fail with a medium error.
    pub read_error_per_million: u32,
    /// So many writes in a million fail; whether they landed is open.
    pub write_error_per_million: u32,
    /// Not 0: the disk breaks the assumption that a submitted request is done or lost within `io_max`. A write whose
    /// writer crashed or whose path stalls may land by so much later, µs. Then only the views must be safe (DESIGN 7).
    pub late_us: u64,
}

impl Default for DiskFaults {
    /// A healthy disk on the same host.
    fn default() -> Self {
        Self {
            delay_us: (100, 600),
            slow_per_million: 0,
            slow_us: 0,
            read_error_per_million: 0,
            write_error_per_million: 0,
            late_us: 0,
        }
    }
}

/// What becomes of the writes that are under way when a machine crashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LastWrite {
    /// They land, when they would have, at the latest `io_max` after their submission.
    #[default]
    Lands,
    /// They are lost.
    Lost,
    /// They stop half way: the first part of the record is new, the rest is old.
    Torn,
    /// They land [`DiskFaults::late_us`] after their time, unless the machine boots before: then its adapter ends them.
    Late,
}

/// What the network may do wrong, on every link. Cuts are set link by link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetFaults {
    /// Shortest and longest time of a frame, µs. Frames of one link overtake each other as their times are drawn.
    pub delay_us: (u64, u64),
    /// So many frames in a million are lost.
    pub loss_per_million: u32,
    /// So many in a million come twice.
    pub duplicate_per_million: u32,
    /// In so many in a million one bit is flipped.
    pub corrupt_per_million: u32,
    /// So many in a million are late by up to `late_us`, so that many others overtake them.
    pub late_per_million: u32,
    /// How late at most, µs.
    pub late_us: u64,
}

impl Default for NetFaults {
    /// A healthy switch.
    fn default() -> Self {
        Self {
            delay_us: (20, 120),
            loss_per_million: 0,
            duplicate_per_million: 0,
            corrupt_per_million: 0,
            late_per_million: 0,
            late_us: 0,
        }
    }
}

/// All of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// The disk's.
    pub disk: DiskFaults,
    /// The network's.
    pub net: NetFaults,
}

impl Faults {
    /// What a busy but sound installation shows: now and then a slow request, a lost frame.
    pub fn light() -> Self {
        Self {
            disk: DiskFaults { slow_per_million: 1_000, slow_us: 20_000, ..DiskFaults::default() },
            net: NetFaults { loss_per_million: 1_000, ..NetFaults::default() },
        }
    }

    /// Everything at once, much more often than real equipment does it.
    pub fn full() -> Self {
        Self {
            disk: DiskFaults {
                delay_us: (50, 5_000),
                slow_per_million: 5_000,
                slow_us: 400_000,
                read_error_per_million: 2_000,
                write_error_per_million: 2_000,
                late_us: 0,
            },
            net: NetFaults {
                delay_us: (20, 2_000),
                loss_per_million: 30_000,
                duplicate_per_million: 20_000,
                corrupt_per_million: 5_000,
                late_per_million: 20_000,
                late_us: 300_000,
            },
        }
    }
}
