//! Monotonic time from the time stamp counter, calibrated against HPET.
//!
//! The PIT would do for real hardware, but on a loaded host it is off by tens of per cent, while HPET stays within 0.01 %.

use crate::apic;
use crate::hpet::Hpet;
use crate::rate::{Scale, hertz};
use spin::Once;

/// How long the counters are compared, in µs. Each reading is exact to about 1 µs, so this gives 0.02 %; longer would delay every boot.
const CALIBRATION_US: u64 = 10_000;

/// Readings at each end, of which the tightest counts: one that an interruption of the (virtual) processor stretched would spoil the rate.
const READINGS: usize = 16;

/// Rates found at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Time stamp counter, in Hz.
    pub tsc_hz: u64,
    /// Local APIC timer after its divider, in Hz.
    pub apic_hz: u64,
}

struct Clock {
    origin: u64,
    to_us: Scale,
    us_to_apic: Scale,
    ns_to_tsc: Scale,
    rates: Rates,
}

static CLOCK: Once<Clock> = Once::new();

/// The time stamp counter.
pub fn ticks() -> u64 {
    // SAFETY: every x86_64 processor has the instruction, and kernel mode may use it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Microseconds since the clock was calibrated, which is shortly after entry; 0 before. Never goes back.
pub fn now_us() -> u64 {
    CLOCK.get().map_or(0, |clock| clock.to_us.convert(ticks().saturating_sub(clock.origin)))
}

/// Rates, once calibrated.
pub fn rates() -> Option<Rates> {
    CLOCK.get().map(|clock| clock.rates)
}

/// The local APIC timer's counts in a time; 0 before calibration.
pub(crate) fn apic_counts(us: u64) -> u64 {
    CLOCK.get().map_or(0, |clock| clock.us_to_apic.convert(us))
}

/// The time stamp counter's ticks in a time; 0 before calibration.
pub(crate) fn ticks_of_ns(ns: u64) -> u64 {
    CLOCK.get().map_or(0, |clock| clock.ns_to_tsc.convert(ns))
}

struct Sample {
    tsc: u64,
    hpet: u64,
    apic: u32,
}

/// Reads the three counters in as short a time as `READINGS` tries allow.
fn sample(hpet: &Hpet) -> Sample {
    let mut best = (u64::MAX, Sample { tsc: 0, hpet: 0, apic: 0 });
    for _ in 0..READINGS {
        let before = ticks();
        let reading = hpet.now();
        let between = ticks();
        let apic = apic::count();
        let after = ticks();
        if after - before < best.0 {
            best = (after - before, Sample { tsc: before + (between - before) / 2, hpet: reading, apic });
        }
    }
    best.1
}

/// Calibrates the clock and the local APIC timer. `None` if a counter stands still.
pub(crate) fn init(hpet: &Hpet) -> Option<Rates> {
    apic::start_silent();
    let start = sample(hpet);
    let wanted = hpet.ticks_of_us(CALIBRATION_US);
    // A counter that stands still must not hang the boot: 2^32 TSC ticks are about a second.
    while hpet.ticks(start.hpet, hpet.now()) < wanted {
        if ticks().wrapping_sub(start.tsc) > 1 << 32 {
            return None;
        }
    }
    let end = sample(hpet);
    let reference = hpet.ticks(start.hpet, end.hpet);
    let tsc_hz = hertz(end.tsc.wrapping_sub(start.tsc), reference, hpet.period_fs)?;
    let apic_hz = hertz(u64::from(start.apic.wrapping_sub(end.apic)), reference, hpet.period_fs)?;
    let rates = Rates { tsc_hz, apic_hz };
    let clock = Clock {
        origin: start.tsc,
        to_us: Scale::new(1_000_000, tsc_hz)?,
        us_to_apic: Scale::new(apic_hz, 1_000_000)?,
        ns_to_tsc: Scale::new(tsc_hz, 1_000_000_000)?,
        rates,
    };
    CLOCK.call_once(|| clock);
    Some(rates)
}
