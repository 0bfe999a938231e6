//! The three serial ports: console (COM1), log (COM2), trace (COM3).
//!
//! Each is behind a lock that is held for one call, with interrupts off. Output waits in rings (see `quorate-serial`) until the executor is idle.

use quorate_arch_x86_64::interrupts::without_interrupts;
use quorate_serial::{
    CONSOLE, CONSOLE_RING_BYTES, Input, LOG, LOG_RING_BYTES, PcPort, SerialPort, TRACE, TRACE_RING_BYTES,
};
use spin::Mutex;
use uart_16550::Uart16550;
use uart_16550::backend::PioBackend;

/// A port of a PC.
pub type Port<const N: usize> = SerialPort<PioBackend, N>;

/// Text in and out.
pub static CONSOLE_PORT: Shared<CONSOLE_RING_BYTES> = Shared::new();
/// defmt frames.
pub static LOG_PORT: Shared<LOG_RING_BYTES> = Shared::new();
/// Trace events.
pub static TRACE_PORT: Shared<TRACE_RING_BYTES> = Shared::new();

/// A port everyone may use for the length of a call.
pub struct Shared<const N: usize>(Mutex<Port<N>>);

impl<const N: usize> Shared<N> {
    const fn new() -> Self {
        Self(Mutex::new(SerialPort::absent()))
    }

    /// Runs `body` with the port. Not nested.
    pub fn with<R>(&self, body: impl FnOnce(&mut Port<N>) -> R) -> R {
        without_interrupts(|| body(&mut self.0.lock()))
    }

    fn open(&self, at: PcPort, input: Input) {
        // SAFETY: a standard port of the PC; this image is its only user, and opens each once.
        let uart = unsafe { Uart16550::new_port(at.io_port) };
        if let Ok(uart) = uart {
            // A machine without this port runs without its stream.
            let _ = self.with(|port| port.attach(uart, input));
        }
    }
}

/// Opens all three.
pub fn open() {
    CONSOLE_PORT.open(CONSOLE, Input::Interrupts);
    LOG_PORT.open(LOG, Input::Ignored);
    TRACE_PORT.open(TRACE, Input::Ignored);
    // A life that a reset ended may have left a frame open; a zero ends it, and an empty frame is none.
    LOG_PORT.with(|port| port.queue(&[0]));
    TRACE_PORT.with(|port| port.queue(&[0]));
}

/// Gives each UART what it takes now. Returns the number of bytes: 0 if none wait or no UART takes any.
pub fn drain_some() -> usize {
    TRACE_PORT.with(Port::drain_some) + LOG_PORT.with(Port::drain_some) + CONSOLE_PORT.with(Port::drain_some)
}

/// Bytes that wait for a UART.
pub fn pending() -> usize {
    TRACE_PORT.with(|port| port.pending())
        + LOG_PORT.with(|port| port.pending())
        + CONSOLE_PORT.with(|port| port.pending())
}

/// Releases the locks of whoever was interrupted, so that the end of the kernel can be reported.
///
/// # Safety
/// Nothing that held a port goes on.
pub unsafe fn take_all_at_end() {
    // SAFETY: the caller's promise.
    unsafe {
        CONSOLE_PORT.0.force_unlock();
        LOG_PORT.0.force_unlock();
        TRACE_PORT.0.force_unlock();
    }
}

/// Waits until all UARTs have taken everything.
pub fn flush() {
    TRACE_PORT.with(Port::drain);
    LOG_PORT.with(Port::drain);
    CONSOLE_PORT.with(Port::drain);
}
