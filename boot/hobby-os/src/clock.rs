//! The clock: the HPET, where every PC chipset of this century has it (IA-PC HPET 1.0a § 2.3), and random bits from it.

use quorate_base::Instant;

const REGISTERS: usize = 0xfed0_0000;
/// Femtoseconds of a tick in the upper half; bit 13: the counter has 64 bits.
const CAPABILITIES: usize = 0x00;
/// Bit 0: it counts.
const CONFIGURATION: usize = 0x10;
const COUNTER: usize = 0xf0;
const FEMTOSECONDS_MAX: u64 = 100_000_000;

fn read(register: usize) -> u64 {
    // SAFETY: the HPET's registers, mapped uncached by the entry code; `start` found them there.
    unsafe { ((REGISTERS + register) as *const u64).read_volatile() }
}

/// Lets it count. False if there is none that will do.
pub fn start() -> bool {
    let period = read(CAPABILITIES) >> 32;
    if period == 0 || period > FEMTOSECONDS_MAX || read(CAPABILITIES) & 1 << 13 == 0 {
        return false;
    }
    // SAFETY: as in `read`.
    unsafe { ((REGISTERS + CONFIGURATION) as *mut u64).write_volatile(1) }
    true
}

/// µs since it began to count.
pub fn now_us() -> u64 {
    (u128::from(read(COUNTER)) * u128::from(read(CAPABILITIES) >> 32) / 1_000_000_000) as u64
}

/// The same for the cluster.
pub fn now() -> Instant {
    Instant(now_us())
}

/// 64 bits that differ from boot to boot: how many processor cycles each of some device reads took.
pub fn nonce() -> u64 {
    // SAFETY: reads a counter.
    let cycles = || unsafe { core::arch::x86_64::_rdtsc() };
    (0..256).fold(cycles(), |bits, _| {
        let _ = read(COUNTER);
        (bits ^ cycles()).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    })
}
