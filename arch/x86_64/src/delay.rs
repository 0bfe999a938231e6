//! Short waits.

use crate::clock;
use embedded_hal::delay::DelayNs;

/// Waits by watching the time stamp counter. For device initialization; anything longer sleeps in the executor.
#[derive(Debug, Clone, Copy, Default)]
pub struct TscDelay;

impl DelayNs for TscDelay {
    fn delay_ns(&mut self, ns: u32) {
        let start = clock::ticks();
        // At least one tick more than asked, as the start is somewhere in a tick.
        let wanted = clock::ticks_of_ns(u64::from(ns)) + 1;
        while clock::ticks().wrapping_sub(start) < wanted {
            core::hint::spin_loop();
        }
    }
}
