//! The `critical-section` crate's sections: interrupts off, on the one processor there is.

use critical_section::{Impl, RawRestoreState, set_impl};
use x86_64::instructions::interrupts;

struct InterruptsOff;
set_impl!(InterruptsOff);

// SAFETY: with one processor, nothing else runs while interrupts are off; exceptions end the kernel and do not return.
unsafe impl Impl for InterruptsOff {
    unsafe fn acquire() -> RawRestoreState {
        let were_on = interrupts::are_enabled();
        interrupts::disable();
        were_on
    }

    unsafe fn release(were_on: RawRestoreState) {
        if were_on {
            interrupts::enable();
        }
    }
}
