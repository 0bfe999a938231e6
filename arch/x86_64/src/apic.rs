//! The local APIC: end of interrupt, and its timer in one-shot mode (AMD64 manual vol. 2 § 16).
//!
//! Registers are reached by model-specific registers if the processor has x2APIC (QEMU's TCG has not), else through memory.

use crate::interrupts;
use crate::memory;
use crate::paging::MapError;
use core::arch::x86_64::__cpuid;
use core::ptr::NonNull;
use spin::Once;
use x86_64::registers::model_specific::Msr;

/// Register numbers: memory offset / 16, or model-specific register - 0x800.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
enum Register {
    Id = 0x02,
    EndOfInterrupt = 0x0b,
    Spurious = 0x0f,
    LvtTimer = 0x32,
    LvtLint0 = 0x35,
    LvtLint1 = 0x36,
    LvtError = 0x37,
    InitialCount = 0x38,
    CurrentCount = 0x39,
    Divide = 0x3e,
}

const BASE: u32 = 0x1b;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const REGISTERS_BYTES: usize = 4096;
const X2_FIRST: u32 = 0x800;
const MASKED: u32 = 1 << 16;
const NON_MASKABLE: u32 = 0b100 << 8;
const SOFTWARE_ENABLE: u32 = 1 << 8;
/// The timer counts bus cycles / 16: 16 ns and 68 s range at QEMU's 1 GHz.
const DIVIDE_BY_16: u32 = 0b0011;

enum Access {
    Memory(NonNull<u32>),
    X2,
}

// SAFETY: the address is that of device registers of this processor, valid for ever.
unsafe impl Send for Access {}
// SAFETY: as above; each access is one volatile read or write.
unsafe impl Sync for Access {}

static ACCESS: Once<Access> = Once::new();

/// Switches the local APIC on with its timer masked.
pub(crate) fn init() -> Result<(), MapError> {
    let has_x2 = __cpuid(1).ecx & (1 << 21) != 0;
    let mut base = Msr::new(BASE);
    // SAFETY: reads the base register every x86_64 processor has.
    let value = unsafe { base.read() };
    let access = if has_x2 {
        // SAFETY: CPUID says x2APIC exists; from here on only model-specific registers are used.
        unsafe { base.write(value | BASE_ENABLE | BASE_X2) };
        Access::X2
    } else {
        // SAFETY: keeps the address and mode, only enables.
        unsafe { base.write(value | BASE_ENABLE) };
        Access::Memory(memory::map_mmio(value & BASE_ADDRESS, REGISTERS_BYTES)?.cast())
    };
    ACCESS.call_once(|| access);
    for line in [Register::LvtTimer, Register::LvtLint0, Register::LvtError] {
        write(line, MASKED);
    }
    // PCs wire memory errors and the operator's button to this input; they are reported like exceptions.
    write(Register::LvtLint1, NON_MASKABLE);
    write(Register::Divide, DIVIDE_BY_16);
    write(Register::Spurious, SOFTWARE_ENABLE | u32::from(interrupts::SPURIOUS));
    Ok(())
}

fn write(register: Register, value: u32) {
    match ACCESS.get() {
        // SAFETY: the registers are mapped, and `Register` lists only existing ones.
        Some(Access::Memory(base)) => unsafe { base.add(register as usize * 4).write_volatile(value) },
        // SAFETY: x2APIC mode is on.
        Some(Access::X2) => unsafe { Msr::new(X2_FIRST + register as u32).write(u64::from(value)) },
        None => {}
    }
}

fn read(register: Register) -> u32 {
    match ACCESS.get() {
        // SAFETY: the registers are mapped, and `Register` lists only existing ones.
        Some(Access::Memory(base)) => unsafe { base.add(register as usize * 4).read_volatile() },
        // SAFETY: x2APIC mode is on; the registers that are read here are 32 bits wide.
        Some(Access::X2) => unsafe { Msr::new(X2_FIRST + register as u32).read() as u32 },
        None => 0,
    }
}

/// This processor's APIC id, for interrupt messages.
pub(crate) fn id() -> u32 {
    match ACCESS.get() {
        Some(Access::Memory(_)) => read(Register::Id) >> 24,
        _ => read(Register::Id),
    }
}

pub(crate) fn end_of_interrupt() {
    write(Register::EndOfInterrupt, 0);
}

/// Starts the timer: one interrupt at `vector` after `count` counts. Zero stops it.
pub(crate) fn start_timer(vector: u8, count: u32) {
    write(Register::LvtTimer, u32::from(vector));
    write(Register::InitialCount, count);
}

/// Lets the timer count down from its maximum without an interrupt, for calibration.
pub(crate) fn start_silent() {
    write(Register::LvtTimer, MASKED);
    write(Register::InitialCount, u32::MAX);
}

/// What is left of the count.
pub(crate) fn count() -> u32 {
    read(Register::CurrentCount)
}
