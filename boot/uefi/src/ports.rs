//! The serial ports, as the node image has them: the console for people, the trace for the harness.

use core::fmt::{self, Write};

use quorate_base::Instant;
use quorate_base::event::{Event, Record};
use quorate_bootstrap::Refusal;
use quorate_serial::{CONSOLE, Input, PcPort, SerialPort, TRACE};
use uart_16550::Uart16550;
use uart_16550::backend::PioBackend;

/// Bytes of a line.
const LINE_BYTES: usize = 512;
/// Bytes of one framed event.
const EVENT_BYTES: usize = 1024;

/// A port for the length of a call. The kernel sets them up anew.
fn port<const N: usize>(at: PcPort) -> Option<SerialPort<PioBackend, N>> {
    // SAFETY: a standard port of the PC; the console's is used only if the firmware has no console there, the trace's by nobody else.
    let uart = unsafe { Uart16550::new_port(at.io_port) }.ok()?;
    let mut port = SerialPort::absent();
    port.attach(uart, Input::Ignored).ok()?;
    Some(port)
}

/// A line on the console's port. A machine without one shows it on its screen only.
pub fn say(text: fmt::Arguments<'_>) {
    if let Some(mut port) = port::<LINE_BYTES>(CONSOLE) {
        let _ = writeln!(port.text(), "{text}");
        port.drain();
    }
}

/// The trace's event for a node that does not boot, before it has an incarnation.
pub fn tell_refusal(refusal: &Refusal) {
    let mut reason = heapless::String::<LINE_BYTES>::new();
    // What does not fit is cut off: it is for people.
    let _ = write!(reason, "{refusal}");
    let record =
        Record { incarnation: None, at: Instant(0), seq: 0, lamport: 0, event: Event::Panic { reason: &reason } };
    let mut frame = [0; EVENT_BYTES];
    if let (Some(mut port), Ok(bytes)) = (port::<EVENT_BYTES>(TRACE), postcard::to_slice_cobs(&record, &mut frame)) {
        // A life that a reset ended may have left a frame open; a zero ends it.
        port.queue(&[0]);
        port.queue(bytes);
        port.drain();
    }
}
