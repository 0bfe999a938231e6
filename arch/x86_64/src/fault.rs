//! The end of the kernel by a processor exception.

use crate::exception::Report;
use crate::frame::{BackTrace, Frame, back_trace};
use crate::{power, stack};
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Once;
use x86_64::registers::control::Cr2;

static REPORTER: Once<fn(&Report) -> !> = Once::new();
static ENDING: AtomicBool = AtomicBool::new(false);

/// Names the function that shows a report and ends the machine. It runs with interrupts off and must not wait for a lock that the interrupted code may
/// hold. Only the first call counts.
pub fn set_reporter(reporter: fn(&Report) -> !) {
    REPORTER.call_once(|| reporter);
}

/// Reports an exception. A second one, in the reporter, halts at once.
pub(crate) fn end(frame: &Frame) -> ! {
    let cr2 = Cr2::read_raw();
    if ENDING.swap(true, Ordering::Relaxed) {
        power::halt();
    }
    let stacks = stack::all();
    let report = Report::new(*frame, cr2, &stacks, trace_from(frame.rbp));
    match REPORTER.get() {
        Some(reporter) => reporter(&report),
        None => power::halt(),
    }
}

/// The callers of the function that calls this one.
pub fn current_back_trace() -> BackTrace {
    let rbp: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    trace_from(rbp)
}

fn trace_from(rbp: u64) -> BackTrace {
    back_trace(rbp, &stack::all(), |address| {
        // SAFETY: `back_trace` asks only for aligned words inside a stack, which is always mapped above its guard page.
        unsafe { (address as *const u64).read_volatile() }
    })
}
