//! The end of a run.

use crate::port;
use x86_64::instructions::{hlt, interrupts};

/// Stops the processor for good.
pub fn halt() -> ! {
    interrupts::disable();
    loop {
        hlt();
    }
}

/// Resets the machine: by the chipset's reset control register, else by the keyboard controller. If neither works, halts.
pub fn reset() -> ! {
    interrupts::disable();
    // SAFETY: 0xcf9 is the reset control register of PC chipsets (Intel ICH9 datasheet § 13.7.5): first choose a full reset, then start it. Port 0x64,
    // command 0xfe pulses the keyboard controller's reset line.
    unsafe {
        port::write_u8(0xcf9, 0x02);
        port::write_u8(0xcf9, 0x06);
        port::write_u8(0x64, 0xfe);
    }
    halt()
}
