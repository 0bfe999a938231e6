//! The machine, as little of it as possible: entry, a tick that ends a halt, the command line, memory as it is. All that needs
//! `unsafe` besides the clock.

use core::ptr::NonNull;
use quorate_bus::platform::{self, Platform};
use quorate_serial::{Input, PcPort, SerialPort};
use uart_16550::Uart16550;
use uart_16550::backend::PioBackend;
use x86_64::VirtAddr;
use x86_64::instructions::interrupts;
use x86_64::instructions::port::PortWriteOnly;
use x86_64::structures::idt::InterruptDescriptorTable;

core::arch::global_asm!(include_str!("boot.s"), main = sym entry);

unsafe extern "C" {
    static on_tick: u8;
}

/// A serial port with 32 KiB of room.
pub type Serial = SerialPort<PioBackend, 32768>;

/// Where the first interrupt controller's eight lines go.
const TICK: u8 = 32;
/// Port and byte: both interrupt controllers to vectors 32 and 40, edge-triggered, all masked but the timer; the timer to its
/// clock over 1193, a tick each ms.
const SET_UP: [u16; 13] =
    [0x2011, 0xa011, 0x2120, 0xa128, 0x2104, 0xa102, 0x2101, 0xa101, 0x21fe, 0xa1ff, 0x4334, 0x40a9, 0x4004];

/// Called on the boot stack, once, with interrupts off.
extern "C" fn entry(information: u32) -> ! {
    // SAFETY: the first use of either: memory is its own physical memory, below 4 GiB, and mapped as a whole.
    let command_line = unsafe {
        let _ = platform::install(Platform {
            virt_to_phys: |address| address as u64,
            map_mmio: |physical, _| NonNull::new(physical as *mut u8).unwrap_or(NonNull::dangling()),
        });
        command_line(information)
    };
    start_ticks();
    crate::main(command_line)
}

/// The words behind the kernel's name (Multiboot § 3.3: flags, and from byte 16 the address of the line).
///
/// # Safety
/// `information` is what the boot loader gave, and stays.
unsafe fn command_line(information: u32) -> &'static str {
    let words = information as *const u32;
    // SAFETY: the caller's promise; the line ends with a zero.
    let line = unsafe {
        if words.read() & 1 << 2 == 0 {
            return "";
        }
        core::ffi::CStr::from_ptr(words.add(4).read() as usize as *const core::ffi::c_char)
    };
    line.to_str().unwrap_or("")
}

static TABLE: spin::Once<InterruptDescriptorTable> = spin::Once::new();

/// Interrupt controllers and timer: 1000 ticks a second, nothing else.
fn start_ticks() {
    let mut table = InterruptDescriptorTable::new();
    // SAFETY: the stub keeps all registers and ends with `iretq`; the table lives for ever; the ports are the PC's, and do
    // what `SET_UP` says.
    unsafe {
        table[TICK].set_handler_addr(VirtAddr::new(&raw const on_tick as u64));
        TABLE.call_once(|| table).load();
        for step in SET_UP {
            PortWriteOnly::<u8>::new(step >> 8).write(step as u8);
        }
    }
}

/// Halts until the next tick. Interrupts are on only meanwhile.
pub fn sleep() {
    interrupts::enable_and_hlt();
    interrupts::disable();
}

/// Opens a serial port; one that is not there swallows what is written.
pub fn serial(at: PcPort) -> Serial {
    let mut serial = Serial::absent();
    // SAFETY: a standard port of the PC, opened once.
    if let Ok(uart) = unsafe { Uart16550::new_port(at.io_port) } {
        let _ = serial.attach(uart, Input::Ignored);
    }
    serial
}
