//! Hardware watchdogs: a timer that resets the machine unless it is patted in time.
//!
//! [`Watchdog`] is what a machine needs of one; [`I6300esb`] is the one of Intel's 6300ESB chipset, which QEMU has too.
//! When patting is right is nobody's business here: the image decides.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

#[cfg(test)]
mod fake;
mod i6300esb;

pub use i6300esb::{BAR, DEVICE, I6300esb, PciI6300esb, REGISTERS_BYTES, VENDOR};

use core::fmt;

/// A watchdog with two stages of equal length. It counts by a clock of its own; it resets the machine when both stages
/// have passed without a pat. The first one's end changes nothing: a machine that stood still as a whole, and comes to
/// when its watchdog's clock has jumped past everything, still has the second one to pat it.
pub trait Watchdog {
    /// Counts from now on, both stages as long as that, ms; or goes on counting with another time, from now.
    ///
    /// # Errors
    /// See [`ArmError`]. What it did before goes on if the time is refused.
    fn arm(&mut self, stage_ms: u32) -> Result<(), ArmError>;

    /// Begins the first stage anew. Nothing happens if it is not armed.
    fn pat(&mut self);

    /// Stops counting: nothing resets the machine any more.
    ///
    /// # Errors
    /// [`ArmError::Refused`]: it cannot be stopped, and the machine will be reset.
    fn disarm(&mut self) -> Result<(), ArmError>;

    /// Whether it was this watchdog that last reset the machine. Forgets it.
    fn take_fired(&mut self) -> bool;
}

/// Why a watchdog does not do what it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArmError {
    /// It cannot keep such a time.
    Time {
        /// What was asked, ms.
        asked_ms: u32,
        /// The least that it can keep, ms.
        min_ms: u32,
        /// The most that it can keep, ms.
        max_ms: u32,
    },
    /// Its registers do not keep what was written: locked by the firmware, or no such device.
    Refused,
}

impl fmt::Display for ArmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time { asked_ms, min_ms, max_ms } => {
                write!(f, "the watchdog cannot keep {asked_ms} ms, only {min_ms} to {max_ms} ms")
            }
            Self::Refused => f.write_str("the watchdog's registers do not keep what is written to them"),
        }
    }
}

impl core::error::Error for ArmError {}
