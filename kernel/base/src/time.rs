//! Time as an argument. The machines have no clock: every call is told `now`.

use core::ops::{Add, AddAssign, Sub};
use serde::{Deserialize, Serialize};

/// Microseconds since this node's boot, by its own monotonic clock. Instants of different nodes never compare.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
pub struct Instant(pub u64);

impl Instant {
    /// Boot.
    pub const ZERO: Self = Self(0);
    /// Later than every deadline.
    pub const FAR: Self = Self(u64::MAX);

    /// Microseconds since `earlier`; zero if `earlier` is later.
    pub const fn since_us(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This instant plus `ms` milliseconds.
    #[must_use]
    pub const fn plus_ms(self, ms: u32) -> Self {
        Self(self.0.saturating_add(ms as u64 * 1000))
    }

    /// This instant plus `us` microseconds.
    #[must_use]
    pub const fn plus_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }
}

impl Add<u64> for Instant {
    type Output = Self;
    fn add(self, us: u64) -> Self {
        self.plus_us(us)
    }
}

impl AddAssign<u64> for Instant {
    fn add_assign(&mut self, us: u64) {
        *self = self.plus_us(us);
    }
}

impl Sub for Instant {
    type Output = u64;
    fn sub(self, earlier: Self) -> u64 {
        self.since_us(earlier)
    }
}
