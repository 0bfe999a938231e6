//! The one timer: the local APIC's, one shot at a time, no tick.

use crate::{apic, clock, interrupts};
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Once;

/// No deadline is asked for. Also the state after an interrupt.
const NONE: u64 = u64::MAX;

static VECTOR: Once<u8> = Once::new();
static ON_EXPIRY: Once<fn()> = Once::new();
/// The deadline that the timer is set to. Programming it costs a virtual machine more than the rest of an idle turn, and
/// most turns end with the deadline that they began with.
static ARMED_US: AtomicU64 = AtomicU64::new(NONE);

fn expired() {
    ARMED_US.store(NONE, Ordering::Relaxed);
    if let Some(on_expiry) = ON_EXPIRY.get() {
        on_expiry();
    }
}

/// Reserves a vector. `on_expiry` runs as an interrupt handler. `false` if there is no vector left.
pub fn init(on_expiry: fn()) -> bool {
    match interrupts::alloc_vector(expired) {
        Some(vector) => {
            ON_EXPIRY.call_once(|| on_expiry);
            VECTOR.call_once(|| vector);
            true
        }
        None => false,
    }
}

/// Asks for one interrupt at `deadline_us` of [`clock::now_us`], at once if that has passed. Replaces an earlier request; `None` cancels it.
///
/// A deadline beyond the counter's range (above a minute) gives an early interrupt: the caller looks at the clock and asks again.
pub fn set_deadline(deadline_us: Option<u64>) {
    let Some(vector) = VECTOR.get() else {
        return;
    };
    let wanted = deadline_us.unwrap_or(NONE);
    if ARMED_US.swap(wanted, Ordering::Relaxed) == wanted {
        return;
    }
    let count = deadline_us.map_or(0, |deadline_us| {
        let wait_us = deadline_us.saturating_sub(clock::now_us());
        // One count more: rounding must not let it expire before the deadline.
        u32::try_from(clock::apic_counts(wait_us).saturating_add(1)).unwrap_or(u32::MAX)
    });
    apic::start_timer(*vector, count);
}
