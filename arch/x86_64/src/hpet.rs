//! The high precision event timer's main counter, the reference for the other clocks (IA-PC HPET specification 1.0a § 2.3).

use crate::memory;
use crate::paging::MapError;
use core::ptr::NonNull;

const CAPABILITIES: usize = 0x00;
const CONFIGURATION: usize = 0x10;
const MAIN_COUNTER: usize = 0xf0;
const REGISTERS_BYTES: usize = 0x400;
const ENABLE: u64 = 1;
const COUNTER_IS_64_BITS: u64 = 1 << 13;
/// The longest period the specification allows, in femtoseconds (100 ns).
const PERIOD_MAX_FS: u64 = 100_000_000;

/// The running counter.
pub(crate) struct Hpet {
    registers: NonNull<u64>,
    mask: u64,
    /// Femtoseconds per tick.
    pub(crate) period_fs: u64,
}

/// Why it cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HpetError {
    /// Its registers cannot be mapped.
    Map(MapError),
    /// Its period is outside the specification: there is no such device at the address.
    Period(u64),
}

impl Hpet {
    /// Maps the registers and starts the counter.
    pub(crate) fn start(physical: u64) -> Result<Self, HpetError> {
        let registers = memory::map_mmio(physical, REGISTERS_BYTES).map_err(HpetError::Map)?.cast();
        let mut hpet = Self { registers, mask: u64::MAX, period_fs: 0 };
        let capabilities = hpet.read(CAPABILITIES);
        hpet.period_fs = capabilities >> 32;
        if hpet.period_fs == 0 || hpet.period_fs > PERIOD_MAX_FS {
            return Err(HpetError::Period(hpet.period_fs));
        }
        if capabilities & COUNTER_IS_64_BITS == 0 {
            hpet.mask = u64::from(u32::MAX);
        }
        let configuration = hpet.read(CONFIGURATION);
        // SAFETY: an aligned register inside the mapped area; only the enable bit changes.
        unsafe { hpet.registers.byte_add(CONFIGURATION).write_volatile(configuration | ENABLE) };
        Ok(hpet)
    }

    fn read(&self, offset: usize) -> u64 {
        // SAFETY: the callers' offsets are aligned and inside the mapped area.
        unsafe { self.registers.byte_add(offset).read_volatile() }
    }

    /// The counter.
    pub(crate) fn now(&self) -> u64 {
        self.read(MAIN_COUNTER) & self.mask
    }

    /// Ticks from one reading to a later one.
    pub(crate) fn ticks(&self, from: u64, to: u64) -> u64 {
        to.wrapping_sub(from) & self.mask
    }

    /// Ticks in a time.
    pub(crate) fn ticks_of_us(&self, us: u64) -> u64 {
        us * 1_000_000_000 / self.period_fs
    }
}
