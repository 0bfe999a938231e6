//! The time-outs of a cluster, kept in the superblock and only there (DESIGN 7).
//!
//! ```text
//! node dies          t = 0
//! last frame heard   t ≤ 0                 network: silent at net_suspect after it
//! last counter seen  t ≤ disk_heartbeat    disk: silent at disk_suspect of completed reads after it
//! both silent        forced leave is committed, two disk operations
//! fence              `dead` after the first read that showed the last counter; then levels 20 and up recover
//! ```

use core::fmt;
use serde::{Deserialize, Serialize};

/// Time-outs in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Timing {
    /// Period of the network heartbeat. Shorter finds a dead node sooner and costs frames.
    pub net_heartbeat: u32,
    /// A peer of which nothing verified came for so long is silent on the network.
    pub net_suspect: u32,
    /// Period of the disk heartbeat (the beat).
    pub disk_heartbeat: u32,
    /// A counter that stood still over so much of my own completed reads is silent on the disk. At least two beats.
    pub disk_suspect: u32,
    /// A disk request that is not done after so long is aborted.
    pub io_max: u32,
    /// A node may write to the shared disk for so long after the submission of the heartbeat of its last full beat.
    pub lease: u32,
    /// After so long without a heartbeat a node's lease has certainly run out and its writes have certainly landed.
    pub dead: u32,
    /// After an outage that stopped everybody, a node that is heard and says "frozen" is kept for so long.
    pub outage_grace: u32,
}

/// Why a set of time-outs is no good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimingError {
    /// A value is outside its bounds, in ms.
    OutOfBounds {
        /// Which.
        name: &'static str,
        /// What it is.
        value: u32,
        /// The least it may be.
        min: u32,
        /// The most it may be.
        max: u32,
    },
    /// `lease · 1.01 + io_max < dead · 0.99` does not hold: a late write could land after the fence.
    LateWrite,
    /// A suspicion time is shorter than two heartbeats: every lost one would be a death.
    Hasty {
        /// The suspicion time.
        suspect: &'static str,
        /// The heartbeat.
        heartbeat: &'static str,
    },
    /// The lease does not outlast two disk heartbeats: a healthy node would freeze.
    ShortLease,
}

impl fmt::Display for TimingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds { name, value, min, max } => {
                write!(f, "timing: {name} is {value} ms, it must be {min} to {max} ms")
            }
            Self::LateWrite => f.write_str("timing: lease * 1.01 + io_max must be below dead * 0.99"),
            Self::Hasty { suspect, heartbeat } => {
                write!(f, "timing: {suspect} must be at least two times {heartbeat}")
            }
            Self::ShortLease => f.write_str("timing: lease must be more than two times disk_heartbeat"),
        }
    }
}

impl core::error::Error for TimingError {}

impl Timing {
    /// The profile `default`.
    pub const DEFAULT: Self = Self {
        net_heartbeat: 100,
        net_suspect: 400,
        disk_heartbeat: 200,
        disk_suspect: 400,
        io_max: 200,
        lease: 800,
        dead: 1200,
        outage_grace: 30_000,
    };

    /// The profile `fast`, for disks and networks that answer within a few milliseconds.
    pub const FAST: Self = Self {
        net_heartbeat: 20,
        net_suspect: 50,
        disk_heartbeat: 20,
        disk_suspect: 40,
        io_max: 50,
        lease: 150,
        dead: 250,
        outage_grace: 30_000,
    };

    /// The profile of that name.
    pub fn profile(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Self::DEFAULT),
            "fast" => Some(Self::FAST),
            _ => None,
        }
    }

    /// Names and values, in the order of the fields.
    pub const fn entries(&self) -> [(&'static str, u32); 8] {
        [
            ("net_heartbeat", self.net_heartbeat),
            ("net_suspect", self.net_suspect),
            ("disk_heartbeat", self.disk_heartbeat),
            ("disk_suspect", self.disk_suspect),
            ("io_max", self.io_max),
            ("lease", self.lease),
            ("dead", self.dead),
            ("outage_grace", self.outage_grace),
        ]
    }

    /// Checks bounds and relations; the inequality is the one that the lease fence stands on (DESIGN 7).
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), TimingError> {
        for (name, value) in self.entries() {
            let (min, max) = if name == "outage_grace" { (0, 3_600_000) } else { (5, 600_000) };
            if value < min || value > max {
                return Err(TimingError::OutOfBounds { name, value, min, max });
            }
        }
        if self.net_suspect < 2 * self.net_heartbeat {
            return Err(TimingError::Hasty { suspect: "net_suspect", heartbeat: "net_heartbeat" });
        }
        if self.disk_suspect < 2 * self.disk_heartbeat {
            return Err(TimingError::Hasty { suspect: "disk_suspect", heartbeat: "disk_heartbeat" });
        }
        if self.lease <= 2 * self.disk_heartbeat {
            return Err(TimingError::ShortLease);
        }
        if u64::from(self.lease) * 101 + u64::from(self.io_max) * 100 >= u64::from(self.dead) * 99 {
            return Err(TimingError::LateWrite);
        }
        Ok(())
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_profiles_hold_the_inequality() {
        assert_eq!(Timing::DEFAULT.check(), Ok(()));
        assert_eq!(Timing::FAST.check(), Ok(()));
    }

    #[test]
    fn each_relation_is_checked() {
        let t = Timing::DEFAULT;
        assert_eq!(Timing { lease: 990, ..t }.check(), Err(TimingError::LateWrite));
        assert_eq!(Timing { lease: 400, ..t }.check(), Err(TimingError::ShortLease));
        assert!(matches!(Timing { net_suspect: 199, ..t }.check(), Err(TimingError::Hasty { .. })));
        assert!(matches!(Timing { disk_suspect: 399, ..t }.check(), Err(TimingError::Hasty { .. })));
        assert!(matches!(Timing { io_max: 0, ..t }.check(), Err(TimingError::OutOfBounds { name: "io_max", .. })));
    }
}
