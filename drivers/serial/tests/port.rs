//! The port against a UART made of memory. (A file of its own because the register trait is unsafe to implement, which the crate forbids.)

use core::fmt::Write as _;
use embedded_io::{Read, ReadReady, Write as _};
use quorate_serial::{InitError, Input, SerialPort};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use uart_16550::Uart16550;
use uart_16550::backend::Backend;

const DATA: u8 = 0;
const STATUS: u8 = 5;

/// A UART that takes 16 bytes and is then busy for two looks at its status.
#[derive(Debug, Default)]
struct Device {
    sent: Vec<u8>,
    input: VecDeque<u8>,
    registers: [u8; 8],
    divisor: [u8; 2],
    in_fifo: usize,
    busy_looks: usize,
    overruns: usize,
}

#[derive(Debug, Clone, Default)]
struct Fake(Rc<RefCell<Device>>);

impl Device {
    fn divisor_selected(&self) -> bool {
        self.registers[3] & 0x80 != 0
    }
}

impl Backend for Fake {
    unsafe fn read(&mut self, register: u8) -> u8 {
        let mut device = self.0.borrow_mut();
        match register {
            DATA if !device.divisor_selected() => device.input.pop_front().unwrap_or(0),
            STATUS => {
                if device.busy_looks > 0 {
                    device.busy_looks -= 1;
                } else {
                    device.in_fifo = 0;
                }
                let ready = u8::from(!device.input.is_empty());
                if device.in_fifo == 0 { 0x60 | ready } else { ready }
            }
            // FIFOs on.
            2 => 0xc1,
            other => device.registers[usize::from(other)],
        }
    }

    unsafe fn write(&mut self, register: u8, value: u8) {
        let mut device = self.0.borrow_mut();
        match register {
            0 | 1 if device.divisor_selected() => device.divisor[usize::from(register)] = value,
            DATA => {
                device.overruns += usize::from(device.in_fifo == 16);
                device.in_fifo += 1;
                device.busy_looks = 2;
                device.sent.push(value);
            }
            _ => device.registers[usize::from(register)] = value,
        }
    }
}

fn port<const N: usize>() -> (SerialPort<Fake, N>, Fake) {
    let fake = Fake::default();
    let mut port = SerialPort::absent();
    // SAFETY: the registers are memory of this test.
    let uart = unsafe { Uart16550::new_with_backend(fake.clone()) };
    port.attach(uart, Input::Interrupts).unwrap();
    (port, fake)
}

#[test]
fn output_waits_in_the_ring_until_drained() {
    let (mut port, fake) = port::<64>();
    port.queue(&[7; 40]);
    assert_eq!((port.pending(), fake.0.borrow().sent.len()), (40, 0));
    assert_eq!(port.drain_some(), 16);
    assert_eq!(port.drain_some(), 0, "the FIFO is busy");
    port.drain();
    assert_eq!((port.pending(), fake.0.borrow().sent.len(), fake.0.borrow().overruns), (0, 40, 0));
}

#[test]
fn a_full_ring_loses_nothing_and_keeps_the_order() {
    let (mut port, fake) = port::<10>();
    let bytes: Vec<u8> = (0..=255).collect();
    port.queue(&bytes);
    port.flush().unwrap();
    assert_eq!((fake.0.borrow().sent.as_slice(), fake.0.borrow().overruns), (bytes.as_slice(), 0));
}

#[test]
fn received_bytes_are_read_without_waiting() {
    let (mut port, fake) = port::<8>();
    let mut buffer = [0; 4];
    assert_eq!((port.receive(&mut buffer), port.read_ready()), (0, Ok(false)));
    fake.0.borrow_mut().input.extend(b"leave\n");
    assert_eq!(port.read_ready(), Ok(true));
    assert_eq!((port.read(&mut buffer), &buffer), (Ok(4), b"leav"));
    assert_eq!(port.receive(&mut buffer), 2);
    assert_eq!(fake.0.borrow().registers[1], 1, "the interrupt for received bytes is on");
}

#[test]
fn text_gets_both_line_end_characters() {
    let (mut port, fake) = port::<64>();
    write!(port.text(), "a\nb {}\n", 1).unwrap();
    port.drain();
    assert_eq!(fake.0.borrow().sent, b"a\r\nb 1\r\n");
}

#[test]
fn an_absent_port_drops_output() {
    let mut port = SerialPort::<Fake, 4>::absent();
    port.queue(&[1; 100]);
    port.drain();
    assert_eq!((port.pending(), port.is_attached()), (0, false));
    assert_eq!(port.read(&mut [0]), Ok(0));
}

#[test]
fn a_missing_uart_is_noticed() {
    #[derive(Debug)]
    struct Nothing;
    impl Backend for Nothing {
        unsafe fn read(&mut self, _register: u8) -> u8 {
            0xff
        }
        unsafe fn write(&mut self, _register: u8, _value: u8) {}
    }
    let mut port = SerialPort::<Nothing, 4>::absent();
    // SAFETY: there are no registers.
    let uart = unsafe { Uart16550::new_with_backend(Nothing) };
    assert_eq!(port.attach(uart, Input::Ignored), Err(InitError::DeviceNotPresent));
    assert!(!port.is_attached());
}
