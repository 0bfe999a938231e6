//! The I/O ports this crate uses itself.

use x86_64::instructions::port::Port;

/// Writes a byte to an I/O port.
///
/// # Safety
/// The caller knows the device at `port` and what the write does.
pub unsafe fn write_u8(port: u16, value: u8) {
    // SAFETY: the caller's promise.
    unsafe { Port::new(port).write(value) }
}

/// Reads a byte from an I/O port.
///
/// # Safety
/// The caller knows the device at `port` and what the read does.
pub unsafe fn read_u8(port: u16) -> u8 {
    // SAFETY: the caller's promise.
    unsafe { Port::new(port).read() }
}

/// Masks every line of the two legacy interrupt controllers, after moving their vectors (a spurious one can still arrive) away from the exceptions.
pub(crate) fn mask_legacy_controllers() {
    const MAIN: u16 = 0x20;
    const SECOND: u16 = 0xa0;
    // Initialization words 1–4, then the mask (Intel 8259A).
    let words = [(MAIN, 0x11), (MAIN + 1, 32), (MAIN + 1, 4), (MAIN + 1, 1), (MAIN + 1, 0xff)];
    let second_words = [(SECOND, 0x11), (SECOND + 1, 40), (SECOND + 1, 2), (SECOND + 1, 1), (SECOND + 1, 0xff)];
    for (port, word) in words.into_iter().chain(second_words) {
        // SAFETY: these ports are the controllers' on every PC; where there are none, the writes go nowhere.
        unsafe { write_u8(port, word) };
    }
}
