//! Serial ports with buffered output, on 16550 UARTs.
//!
//! A byte through a UART costs far more than a byte into memory, so writers only fill a ring, and the ring is emptied when the processor has nothing better
//! to do, a FIFO's worth (16 bytes) per look at the status. If the ring is full the writer empties it itself: bytes are never lost and never
//! overtake each other. Input is read from the UART's own FIFO; its interrupt wakes the reader.
//!
//! Register access is the `uart_16550` crate's, behind its `Backend` trait, so that everything here is tested on the host.

#![no_std]
#![forbid(unsafe_code)]

mod port;
mod ring;

pub use port::{Input, SerialPort, Text};
pub use ring::Ring;
pub use uart_16550::InitError;

/// A standard PC serial port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcPort {
    /// First of its eight I/O ports.
    pub io_port: u16,
    /// Its ISA interrupt line.
    pub line: u8,
}

/// COM1: the node's console, text in both directions.
pub const CONSOLE: PcPort = PcPort { io_port: 0x3f8, line: 4 };
/// COM2: log, defmt frames (rzCOBS).
pub const LOG: PcPort = PcPort { io_port: 0x2f8, line: 3 };
/// COM3: trace events (postcard in COBS frames).
pub const TRACE: PcPort = PcPort { io_port: 0x3e8, line: 4 };

/// Ring of the console, in bytes: a `status` table of 64 nodes.
pub const CONSOLE_RING_BYTES: usize = 16 << 10;
/// Ring of the log, in bytes: about a thousand frames, more than a boot's or a transition's.
pub const LOG_RING_BYTES: usize = 32 << 10;
/// Ring of the trace, in bytes: about a thousand events.
pub const TRACE_RING_BYTES: usize = 64 << 10;
