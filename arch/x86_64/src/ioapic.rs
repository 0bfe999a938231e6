//! I/O APICs: wired interrupts (Intel 82093AA § 3).

use crate::interrupts::without_interrupts;
use crate::paging::MapError;
use crate::platform::{IO_APICS_MAX, Platform};
use crate::{apic, memory};
use core::ptr::NonNull;
use heapless::Vec;
use spin::Mutex;

const REGISTERS_BYTES: usize = 0x20;
const DATA_OFFSET_BYTES: usize = 0x10;
const VERSION: u32 = 0x01;
const REDIRECTIONS: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;

struct IoApic {
    registers: NonNull<u32>,
    first_interrupt: u32,
    inputs: u32,
}

// SAFETY: device registers, valid for ever; the mutex below serializes select and data accesses.
unsafe impl Send for IoApic {}

static IO_APICS: Mutex<Vec<IoApic, IO_APICS_MAX>> = Mutex::new(Vec::new());

/// Why a line cannot be routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteError {
    /// No I/O APIC has this global interrupt.
    NoInput(u32),
}

impl IoApic {
    fn write(&mut self, register: u32, value: u32) {
        // SAFETY: the select register and the data window of a mapped I/O APIC.
        unsafe {
            self.registers.write_volatile(register);
            self.registers.byte_add(DATA_OFFSET_BYTES).write_volatile(value);
        }
    }

    fn read(&mut self, register: u32) -> u32 {
        // SAFETY: the select register and the data window of a mapped I/O APIC.
        unsafe {
            self.registers.write_volatile(register);
            self.registers.byte_add(DATA_OFFSET_BYTES).read_volatile()
        }
    }
}

/// Maps all I/O APICs and masks every input.
pub(crate) fn init(platform: &Platform) -> Result<(), MapError> {
    for at in &platform.io_apics {
        let registers = memory::map_mmio(at.physical, REGISTERS_BYTES)?.cast();
        let mut io_apic = IoApic { registers, first_interrupt: at.first_interrupt, inputs: 0 };
        io_apic.inputs = (io_apic.read(VERSION) >> 16 & 0xff) + 1;
        for input in 0..io_apic.inputs {
            io_apic.write(REDIRECTIONS + 2 * input, MASKED);
        }
        // `Platform` holds no more than fit.
        let _ = without_interrupts(|| IO_APICS.lock().push(io_apic));
    }
    Ok(())
}

/// Sends an ISA line's interrupts to `vector` on this processor.
pub fn route_isa(platform: &Platform, line: u8, vector: u8) -> Result<(), RouteError> {
    let wired = platform.isa_line(line);
    // MPS INTI flags: 3 in each field says active low / level; 0 is the bus's default, high and edge for ISA.
    let polarity = if wired.flags & 0b11 == 0b11 { ACTIVE_LOW } else { 0 };
    let trigger = if wired.flags >> 2 & 0b11 == 0b11 { LEVEL } else { 0 };
    route(wired.interrupt, u32::from(vector) | polarity | trigger)
}

/// Sends the interrupts of a PCI function to `vector` on this processor, by the line that firmware wrote into its configuration space;
/// gives the global interrupt, for [`set_masked`]. Level-triggered, and active low unless the ACPI tables say otherwise of that line. The
/// handler must quiet the device or mask the interrupt. Whether the line is wired like this only the machine's AML would tell: whoever
/// relies on it looks whether interrupts come.
pub fn route_pci_line(platform: &Platform, line: u8, vector: u8) -> Result<u32, RouteError> {
    let wired = platform.isa_line(line);
    let polarity = if wired.flags & 0b11 == 0b01 { 0 } else { ACTIVE_LOW };
    route(wired.interrupt, u32::from(vector) | polarity | LEVEL)?;
    Ok(wired.interrupt)
}

fn route(interrupt: u32, low: u32) -> Result<(), RouteError> {
    with_input(interrupt, |io_apic, register| {
        io_apic.write(register, MASKED);
        io_apic.write(register + 1, apic::id() << 24);
        io_apic.write(register, low);
    })
}

/// Holds a routed interrupt back, or lets it through again: then it comes at once if its level-triggered line is still up. For a
/// handler that cannot quiet the device itself.
pub fn set_masked(interrupt: u32, masked: bool) -> Result<(), RouteError> {
    with_input(interrupt, |io_apic, register| {
        let low = io_apic.read(register);
        io_apic.write(register, if masked { low | MASKED } else { low & !MASKED });
    })
}

/// Runs `body` with the I/O APIC that has the interrupt, and the input's first register.
fn with_input(interrupt: u32, body: impl FnOnce(&mut IoApic, u32)) -> Result<(), RouteError> {
    without_interrupts(|| {
        let mut io_apics = IO_APICS.lock();
        let serves = |io_apic: &&mut IoApic| {
            interrupt.checked_sub(io_apic.first_interrupt).is_some_and(|input| input < io_apic.inputs)
        };
        let io_apic = io_apics.iter_mut().find(serves).ok_or(RouteError::NoInput(interrupt))?;
        let register = REDIRECTIONS + 2 * (interrupt - io_apic.first_interrupt);
        body(io_apic, register);
        Ok(())
    })
}
