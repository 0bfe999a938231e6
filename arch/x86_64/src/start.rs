//! The order of start-up.

use crate::hpet::{Hpet, HpetError};
use crate::paging::MapError;
use crate::platform::Platform;
use crate::{apic, clock, interrupts, ioapic, memory, port, power, segments};
use acpi::AcpiError;
use core::fmt;
use quorate_bootinfo::BootInfo;

unsafe extern "Rust" {
    /// Made by [`kernel_main!`](crate::kernel_main).
    fn quorate_kernel_main(info: BootInfo) -> !;
}

/// Names the image's main function, `fn(BootInfo) -> !`. It is called with interrupts off, on the final address space, with exceptions caught.
#[macro_export]
macro_rules! kernel_main {
    ($main:path) => {
        /// Called once by the entry code.
        #[unsafe(no_mangle)]
        fn quorate_kernel_main(info: $crate::bootinfo::BootInfo) -> ! {
            let main: fn($crate::bootinfo::BootInfo) -> ! = $main;
            main(info)
        }
    };
}

/// Builds the address space and the descriptor tables and goes on to the image.
///
/// # Safety
/// Called once, on the entry code's page tables and the kernel stack.
pub(crate) unsafe fn on_boot_tables(info: BootInfo) -> ! {
    // SAFETY: the caller's promise.
    if unsafe { memory::init(&info) }.is_err() {
        // Without an address space there is nothing to report with.
        power::halt();
    }
    segments::init();
    interrupts::init();
    port::mask_legacy_controllers();
    // SAFETY: `kernel_main!` checks the type of the one function of this name.
    unsafe { quorate_kernel_main(info) }
}

/// What [`init`] found.
#[derive(Debug, Clone)]
pub struct Machine {
    /// From the ACPI tables.
    pub platform: Platform,
    /// The clocks.
    pub rates: clock::Rates,
}

/// Why the machine cannot be used.
#[derive(Debug)]
pub enum InitError {
    /// The boot path named no ACPI root pointer.
    NoAcpi,
    /// The ACPI tables cannot be read.
    Acpi(AcpiError),
    /// An interrupt controller cannot be mapped.
    Map(MapError),
    /// There is no HPET, so there is no reference for the clock.
    NoHpet,
    /// The HPET is not usable.
    Hpet(HpetError),
    /// A counter stands still.
    NoClock,
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAcpi => f.write_str("no ACPI root pointer"),
            Self::Acpi(error) => write!(f, "ACPI tables: {error:?}"),
            Self::Map(error) => write!(f, "interrupt controller: {error}"),
            Self::NoHpet => f.write_str("no HPET, the reference of the clock"),
            Self::Hpet(HpetError::Map(error)) => write!(f, "HPET: {error}"),
            Self::Hpet(HpetError::Period(period)) => write!(f, "HPET: impossible period of {period} fs"),
            Self::NoClock => f.write_str("a counter stands still"),
        }
    }
}

impl core::error::Error for InitError {}

/// Finds the interrupt controllers and the clock. Call once, with interrupts off; they are still off afterwards.
pub fn init(info: &BootInfo) -> Result<Machine, InitError> {
    let platform = Platform::discover(info.rsdp.ok_or(InitError::NoAcpi)?).map_err(InitError::Acpi)?;
    apic::init().map_err(InitError::Map)?;
    ioapic::init(&platform).map_err(InitError::Map)?;
    let hpet = Hpet::start(platform.hpet.ok_or(InitError::NoHpet)?).map_err(InitError::Hpet)?;
    let rates = clock::init(&hpet).ok_or(InitError::NoClock)?;
    Ok(Machine { platform, rates })
}
