//! The interrupt descriptor table, device vectors and the processor's interrupt flag.
//!
//! Vectors 0–31 are exceptions and go to `fault`. 32–47 stay free for the masked legacy controller. Devices get 48–239 by [`alloc_vector`]; 255 is the
//! local APIC's spurious vector.

use crate::frame::Frame;
use crate::{apic, fault, segments};
use core::sync::atomic::{AtomicU32, Ordering};
use spin::{Mutex, Once};
use x86_64::VirtAddr;
use x86_64::instructions::interrupts as flag;
use x86_64::structures::idt::{Entry, InterruptDescriptorTable};

core::arch::global_asm!(include_str!("stubs.s"), dispatch = sym dispatch);

/// Bytes from one stub to the next in `stubs.s`.
const STUB_BYTES: u64 = 16;

/// First vector for devices.
const DEVICE_FIRST: u8 = 48;
/// Last vector for devices.
const DEVICE_LAST: u8 = 239;
/// The local APIC's spurious vector.
pub(crate) const SPURIOUS: u8 = 255;

type Handlers = [Option<fn()>; (DEVICE_LAST - DEVICE_FIRST) as usize + 1];

static IDT: Once<InterruptDescriptorTable> = Once::new();
static HANDLERS: Mutex<Handlers> = Mutex::new([None; (DEVICE_LAST - DEVICE_FIRST) as usize + 1]);
static UNEXPECTED: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    static interrupt_stubs: u8;
}

fn stub(vector: u8) -> VirtAddr {
    VirtAddr::new(&raw const interrupt_stubs as u64 + u64::from(vector) * STUB_BYTES)
}

/// Points an entry of any handler type to the stub of `vector`.
fn set<F>(entry: &mut Entry<F>, vector: u8, stack: Option<u16>) {
    // SAFETY: the stubs keep the interrupted code's registers and end with `iretq`.
    let options = unsafe { entry.set_handler_addr(stub(vector)) };
    if let Some(stack) = stack {
        // SAFETY: `segments` put a stack of its own at each place of the table.
        unsafe { options.set_stack_index(stack) };
    }
}

/// Loads the table: every exception and every other vector has a stub.
pub(crate) fn init() {
    let idt = IDT.call_once(|| {
        let mut idt = InterruptDescriptorTable::new();
        set(&mut idt.divide_error, 0, None);
        set(&mut idt.debug, 1, None);
        set(&mut idt.non_maskable_interrupt, 2, Some(segments::IST_NMI));
        set(&mut idt.breakpoint, 3, None);
        set(&mut idt.overflow, 4, None);
        set(&mut idt.bound_range_exceeded, 5, None);
        set(&mut idt.invalid_opcode, 6, None);
        set(&mut idt.device_not_available, 7, None);
        set(&mut idt.double_fault, 8, Some(segments::IST_DOUBLE_FAULT));
        set(&mut idt.invalid_tss, 10, None);
        set(&mut idt.segment_not_present, 11, None);
        set(&mut idt.stack_segment_fault, 12, None);
        set(&mut idt.general_protection_fault, 13, None);
        set(&mut idt.page_fault, 14, Some(segments::IST_PAGE_FAULT));
        set(&mut idt.x87_floating_point, 16, None);
        set(&mut idt.alignment_check, 17, None);
        set(&mut idt.machine_check, 18, Some(segments::IST_MACHINE_CHECK));
        set(&mut idt.simd_floating_point, 19, None);
        set(&mut idt.virtualization, 20, None);
        set(&mut idt.cp_protection_exception, 21, None);
        set(&mut idt.hv_injection_exception, 28, None);
        set(&mut idt.vmm_communication_exception, 29, None);
        set(&mut idt.security_exception, 30, None);
        for vector in 32..=255 {
            set(&mut idt[vector], vector, None);
        }
        idt
    });
    idt.load();
}

/// Where all stubs go. Runs with interrupts off.
extern "C" fn dispatch(frame: &mut Frame) {
    let vector = frame.vector();
    match vector {
        0..32 => fault::end(frame),
        SPURIOUS => {}
        DEVICE_FIRST..=DEVICE_LAST => {
            // The lock is free: everyone else takes it with interrupts off.
            let handler = HANDLERS.lock()[usize::from(vector - DEVICE_FIRST)];
            match handler {
                Some(handler) => handler(),
                None => count_unexpected(),
            }
            apic::end_of_interrupt();
        }
        _ => {
            count_unexpected();
            apic::end_of_interrupt();
        }
    }
}

fn count_unexpected() {
    UNEXPECTED.fetch_add(1, Ordering::Relaxed);
}

/// Interrupts nobody had asked for, since start.
pub fn unexpected() -> u32 {
    UNEXPECTED.load(Ordering::Relaxed)
}

/// Reserves a vector for a device. `handler` runs with interrupts off, on whatever stack was in use: it sets a flag or wakes a task and returns.
/// `None` if no vector is left.
pub fn alloc_vector(handler: fn()) -> Option<u8> {
    without_interrupts(|| {
        let mut handlers = HANDLERS.lock();
        let place = handlers.iter().position(Option::is_none)?;
        handlers[place] = Some(handler);
        u8::try_from(place).ok().map(|place| DEVICE_FIRST + place)
    })
}

/// Lets interrupts in and halts until one has been handled; returns with interrupts on. Called with interrupts off, after a look at what the handlers
/// set: no interrupt gets lost between that look and the halt.
pub fn wait_for_interrupt() {
    flag::enable_and_hlt();
}

/// Halts until an interrupt, unless `ready` says that there is work; `ready` runs with interrupts off. Returns with interrupts on.
pub fn wait_unless(ready: impl FnOnce() -> bool) {
    flag::disable();
    if ready() { flag::enable() } else { flag::enable_and_hlt() }
}

/// Runs `body` with interrupts off and puts the flag back as it was. May be nested.
pub fn without_interrupts<R>(body: impl FnOnce() -> R) -> R {
    flag::without_interrupts(body)
}

/// Lets interrupts in.
pub fn enable() {
    flag::enable();
}

/// Holds interrupts back.
pub fn disable() {
    flag::disable();
}
