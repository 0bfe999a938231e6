//! When a node's hardware watchdog is patted, and for how long it is set (DESIGN 7, end).
//!
//! A watchdog of two equal stages resets the machine when both have passed without a pat. Each stage is as long as `dead`:
//! ```text
//! last pat ≤ hang         others: silent, forced out, fenced (from the last beat on)       reset         next life
//! ──┼────────┼──────────────────────────────┼──────────────────────────────────────────────┼─────────────┼──▶
//!   0        ≤ dead/2                       about dead                                     2·dead        birth
//! ```
//! Two inequalities, for watches and clocks that are up to 1 % off:
//! - *It never decides who is out.* A hang that ends before the others may give the node up is no business of the
//!   watchdog's: the shortest one that it ends is `2·dead·0.99 − dead/2`, and that is above `dead·1.01`.
//! - *What it promises.* A machine that hangs is reset within `2·dead·1.01` of the beginning of the hang.
//!
//! Rejected: so short that the reset comes before the fence is through (`lease·1.01 + both stages·1.01 < dead·0.99`). It
//! would close the gap between the look at the lease and the doorbell for a lease fence, but it leaves 0.37 s by default and
//! 0.09 s in the profile `fast`, and a busy host would reset healthy nodes. Reservations close that gap.
//!
//! Patting costs an idle node no wake-up: it is done in a turn that comes anyway, once a quarter of a stage has passed;
//! only if no turn came for half a stage is one asked for.

use quorate_base::{Instant, Timing};

use crate::node::Node;

/// The stages before the cluster's timing is known, ms: above the 10 s for which a node looks for its disk.
const BIRTH_STAGE_MS: u32 = 30_000;

/// Stages of the watchdog.
const STAGES: u64 = 2;

/// The inequality above, in hundredths of `dead`: half a stage is the longest time between two pats.
const _: () = assert!(STAGES * 99 - 50 > 101);

/// What is to be done to the watchdog.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Set both stages to so many ms, and begin anew.
    Arm {
        /// Length of a stage, ms.
        stage_ms: u32,
    },
    /// Begin anew.
    Pat,
}

/// Keeps a node's watchdog. The outside asks it after each turn and does what it says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Patting {
    stage_ms: u32,
    last: Instant,
}

impl Patting {
    /// Before the node's first turn: the watchdog is to be armed with [`Patting::stage_ms`].
    pub const fn new(now: Instant) -> Self {
        Self { stage_ms: BIRTH_STAGE_MS, last: now }
    }

    /// Length of a stage now, ms.
    pub const fn stage_ms(&self) -> u32 {
        self.stage_ms
    }

    /// A machine of a cluster with this timing that hangs is reset at the latest so long after, µs: both stages, by a watch
    /// that is 1 % slow.
    pub const fn promised_us(timing: &Timing) -> u64 {
        STAGES * timing.dead as u64 * 1_010
    }

    /// After a turn of the node.
    pub fn poll(&mut self, now: Instant, node: &Node) -> Option<Order> {
        let wanted_ms = node.timing().map_or(self.stage_ms, |timing| timing.dead);
        let due = now.since_us(self.last) >= u64::from(self.stage_ms) * 1000 / 4;
        if !(due || wanted_ms != self.stage_ms) || !node.may_pat(now) {
            return None;
        }
        self.last = now;
        if wanted_ms == self.stage_ms {
            return Some(Order::Pat);
        }
        self.stage_ms = wanted_ms;
        Some(Order::Arm { stage_ms: wanted_ms })
    }

    /// By then the node must have had a turn, for the watchdog's sake alone.
    pub const fn poll_timeout(&self) -> Instant {
        self.last.plus_us(self.stage_ms as u64 * 1000 / 2)
    }
}
