//! One serial port: a UART and the ring before it.

use crate::ring::Ring;
use core::convert::Infallible;
use core::fmt;
use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use uart_16550::backend::Backend;
use uart_16550::spec::registers::{FifoTriggerLevel, IER};
use uart_16550::{BaudRate, Config, InitError, Uart16550};

/// Whether a port's input raises interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// An interrupt for received bytes.
    Interrupts,
    /// Input is not looked at.
    Ignored,
}

/// A port with `N` bytes of output buffer.
///
/// Waiting for a UART that does not take bytes ends only when it does; QEMU's takes them at once, or drops them if nobody is connected.
#[derive(Debug)]
pub struct SerialPort<B: Backend, const N: usize> {
    uart: Option<Uart16550<B>>,
    output: Ring<N>,
}

impl<B: Backend, const N: usize> SerialPort<B, N> {
    /// A port without a UART: output is dropped, there is no input. What a machine without the port, or a static before start-up, has.
    pub const fn absent() -> Self {
        Self { uart: None, output: Ring::new() }
    }

    /// Sets the UART up (115200 baud, 8 data bits, no parity, FIFOs on) and uses it from now on. If that fails the port stays absent.
    pub fn attach(&mut self, mut uart: Uart16550<B>, input: Input) -> Result<(), InitError> {
        let interrupts = match input {
            Input::Interrupts => IER::DATA_READY,
            Input::Ignored => IER::empty(),
        };
        let config = Config {
            interrupts,
            // Commands come by key strokes: wake at the first byte.
            fifo_trigger_level: Some(FifoTriggerLevel::One),
            baud_rate: BaudRate::Baud115200,
            ..Config::DEFAULT
        };
        uart.init(config)?;
        self.uart = Some(uart);
        Ok(())
    }

    /// Whether there is a UART.
    pub const fn is_attached(&self) -> bool {
        self.uart.is_some()
    }

    /// Bytes that wait for the UART.
    pub const fn pending(&self) -> usize {
        self.output.len()
    }

    /// Takes all bytes, in order. Waits for the UART only while the ring is full.
    pub fn queue(&mut self, mut bytes: &[u8]) {
        if self.uart.is_none() {
            return;
        }
        loop {
            bytes = &bytes[self.output.push(bytes)..];
            if bytes.is_empty() {
                return;
            }
            self.drain_some();
        }
    }

    /// Gives the UART what its FIFO takes now, without waiting. Returns the number of bytes: 0 if none wait or the UART is busy.
    pub fn drain_some(&mut self) -> usize {
        let Some(uart) = &mut self.uart else {
            return 0;
        };
        let sent = uart.send_bytes(self.output.front());
        self.output.consume(sent);
        sent
    }

    /// Waits until the UART has taken everything.
    pub fn drain(&mut self) {
        while !self.output.is_empty() && self.is_attached() {
            self.drain_some();
        }
    }

    /// Formats text for a terminal.
    pub const fn text(&mut self) -> Text<'_, B, N> {
        Text(self)
    }

    /// Reads what has arrived, without waiting; returns the number of bytes.
    pub fn receive(&mut self, buffer: &mut [u8]) -> usize {
        self.uart.as_mut().map_or(0, |uart| uart.receive_bytes(buffer))
    }
}

impl<B: Backend, const N: usize> ErrorType for SerialPort<B, N> {
    type Error = Infallible;
}

impl<B: Backend, const N: usize> Write for SerialPort<B, N> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.queue(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        self.drain();
        Ok(())
    }
}

impl<B: Backend, const N: usize> WriteReady for SerialPort<B, N> {
    fn write_ready(&mut self) -> Result<bool, Infallible> {
        Ok(self.output.room() > 0)
    }
}

impl<B: Backend, const N: usize> Read for SerialPort<B, N> {
    /// As the trait asks, waits for at least one byte. A port without a UART is at its end: 0 bytes.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        loop {
            let received = self.receive(buffer);
            if received > 0 || buffer.is_empty() || !self.is_attached() {
                return Ok(received);
            }
            core::hint::spin_loop();
        }
    }
}

impl<B: Backend, const N: usize> ReadReady for SerialPort<B, N> {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(self.uart.as_mut().is_some_and(|uart| uart.ready_to_receive().is_ok()))
    }
}

/// Text for a terminal: `\n` goes out as `\r\n`. From [`SerialPort::text`].
#[derive(Debug)]
pub struct Text<'a, B: Backend, const N: usize>(&'a mut SerialPort<B, N>);

impl<B: Backend, const N: usize> fmt::Write for Text<'_, B, N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.0.queue(b"\r\n");
            }
            self.0.queue(line.as_bytes());
        }
        Ok(())
    }
}
