//! What the bootstrap says: on the firmware's console, and on the first serial port if the firmware's console is not there already.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use quorate_bootstrap::firmware::has_uart;
use uefi::runtime::{self, VariableVendor};
use uefi::{cstr16, system};

use crate::ports;

/// The firmware does not show its console on a serial port.
static SERIAL: AtomicBool = AtomicBool::new(false);

/// Says a line.
macro_rules! say {
    ($($part:tt)*) => { $crate::screen::line(format_args!($($part)*)) };
}
pub(crate) use say;

/// Begins with an empty screen.
pub fn open() {
    system::with_stdout(|out| {
        // A console that cannot be cleared is written on as it is.
        let _ = out.clear();
    });
    SERIAL.store(!firmware_is_on_serial(), Ordering::Relaxed);
}

/// Whether the firmware's own console leads over a serial port, by its variable `ConOut`.
fn firmware_is_on_serial() -> bool {
    let mut path = [0; 1024];
    let found = runtime::get_variable(cstr16!("ConOut"), &VariableVendor::GLOBAL_VARIABLE, &mut path);
    found.is_ok_and(|(path, _)| has_uart(path))
}

/// Says a line everywhere. A console that fails is left out: there is nobody to tell.
pub fn line(text: fmt::Arguments<'_>) {
    system::with_stdout(|out| {
        let _ = writeln!(out, "{text}");
    });
    if SERIAL.load(Ordering::Relaxed) {
        ports::say(text);
    }
}
