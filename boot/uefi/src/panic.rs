//! A mistake of the bootstrap itself: said, then the machine stands still.

use core::panic::PanicInfo;

use crate::screen::say;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if !crate::leave::is_over() {
        say!("NOT BOOTED: the bootstrap has a mistake: {info}");
    }
    loop {
        core::hint::spin_loop();
    }
}
