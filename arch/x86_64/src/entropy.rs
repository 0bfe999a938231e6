//! Numbers nobody can guess, for the boot nonce.
//!
//! From the processor's generator if it has one. Without (QEMU's TCG by default) from jitter: the time between reads of the time stamp counter, over
//! which the host's scheduling and caches have a say, on top of the counter's absolute value. That makes nonces of different boots different, which is
//! what the protocol needs; keys do not come from here.

use crate::{apic, clock};
use core::arch::x86_64::__cpuid;

const HAS_RDRAND: u32 = 1 << 30;
const RDRAND_TRIES: u32 = 10;
const JITTER_ROUNDS: u32 = 256;

/// A fresh 64-bit number, never 0.
pub fn nonce() -> u64 {
    let mut state = jitter();
    if __cpuid(1).ecx & HAS_RDRAND != 0
        && let Some(random) = random()
    {
        state = mix(state, random);
    }
    state.max(1)
}

/// The processor's random number generator; it may fail, so it is asked ten times (the manuals' advice).
fn random() -> Option<u64> {
    (0..RDRAND_TRIES).find_map(|_| {
        let (value, ok): (u64, u8);
        // SAFETY: CPUID says the instruction exists; it changes only the named registers.
        unsafe { core::arch::asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack)) };
        (ok != 0).then_some(value)
    })
}

fn jitter() -> u64 {
    let mut state = clock::ticks();
    for _ in 0..JITTER_ROUNDS {
        // A device read leaves the virtual processor or the core: its duration varies.
        let before = clock::ticks();
        let count = apic::count();
        state = mix(state, (clock::ticks() - before) ^ u64::from(count) << 32);
    }
    mix(state, clock::ticks())
}

/// Adds a number to the state (the output function of SplitMix64).
fn mix(state: u64, number: u64) -> u64 {
    let mut x = (state ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
