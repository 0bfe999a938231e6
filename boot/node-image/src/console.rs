//! The node's console: lines of text in, text out.

use crate::event::Event;
use crate::ports::CONSOLE_PORT;
use core::fmt::{Arguments, Write};
use heapless::String;
use quorate_arch_x86_64::platform::Platform;
use quorate_arch_x86_64::{interrupts, ioapic};
use quorate_serial::CONSOLE;

/// Longest command line, in bytes. What is beyond is dropped with the whole line.
pub use quorate_node::console::LINE_BYTES_MAX;

/// One typed line.
pub type Line = String<LINE_BYTES_MAX>;

static INPUT: Event = Event::new();

fn on_input() {
    INPUT.raise();
}

/// Writes text, `\n` as line end.
pub fn print(text: Arguments<'_>) {
    // Writing to a port cannot fail.
    let _ = CONSOLE_PORT.with(|port| port.text().write_fmt(text));
}

/// Why no console input can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, defmt::Format)]
pub enum NoInput {
    /// No interrupt vector is left.
    NoVector,
    /// The port's line leads to no I/O APIC.
    NotWired,
}

/// Lets input through. Call once.
pub fn open_input(platform: &Platform) -> Result<(), NoInput> {
    let vector = interrupts::alloc_vector(on_input).ok_or(NoInput::NoVector)?;
    ioapic::route_isa(platform, CONSOLE.line, vector).map_err(|_| NoInput::NotWired)
}

/// A line above [`LINE_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// Makes lines of what is typed. One reader only.
#[derive(Default)]
pub struct Reader {
    line: Line,
    too_long: bool,
}

impl Reader {
    /// Waits for a line that is not blank; without its end, and without blanks around it.
    pub async fn next_line(&mut self) -> Result<Line, TooLong> {
        loop {
            let mut byte = [0];
            while CONSOLE_PORT.with(|port| port.receive(&mut byte)) > 0 {
                if let Some(line) = self.take(byte[0]) {
                    return line;
                }
            }
            INPUT.wait().await;
        }
    }

    /// Takes one byte; returns a line when it is complete and not blank.
    fn take(&mut self, byte: u8) -> Option<Result<Line, TooLong>> {
        const BACKSPACE: u8 = 0x08;
        const DELETE: u8 = 0x7f;
        match byte {
            b'\r' | b'\n' => {
                let line = core::mem::take(&mut self.line);
                if core::mem::take(&mut self.too_long) {
                    return Some(Err(TooLong));
                }
                let trimmed = line.trim();
                return (!trimmed.is_empty()).then(|| Line::try_from(trimmed).map_err(|_| TooLong));
            }
            BACKSPACE | DELETE => drop(self.line.pop()),
            b' '..=b'~' => self.too_long |= self.line.push(char::from(byte)).is_err(),
            _ => {}
        }
        None
    }
}
