//! defmt frames to the log port, buffered, with time stamps in µs since the clock was calibrated.
//!
//! A frame is made by several calls (acquire, write …, release), so interrupts stay off from the first to the last.

use crate::ports::LOG_PORT;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use critical_section::RestoreState;
use quorate_arch_x86_64::clock;

#[defmt::global_logger]
struct Log;

struct State {
    encoder: defmt::Encoder,
    restore: RestoreState,
}

struct Cell(UnsafeCell<State>);

// SAFETY: the contents are used between acquire and release only, with interrupts off, on one processor; `OPEN` holds nested use off.
unsafe impl Sync for Cell {}

static STATE: Cell = Cell(UnsafeCell::new(State { encoder: defmt::Encoder::new(), restore: RestoreState::invalid() }));
static OPEN: AtomicBool = AtomicBool::new(false);

fn put(bytes: &[u8]) {
    LOG_PORT.with(|port| port.queue(bytes));
}

// SAFETY: between `acquire` and `release` nobody else can run, see above.
unsafe impl defmt::Logger for Log {
    fn acquire() {
        // SAFETY: given back in `release`.
        let restore = unsafe { critical_section::acquire() };
        if OPEN.swap(true, Ordering::Relaxed) {
            // A `Format` implementation that logs: the frame under way cannot be saved.
            panic!("log statement inside a log statement");
        }
        // SAFETY: `OPEN` was free, so this is the only use.
        let state = unsafe { &mut *STATE.0.get() };
        state.restore = restore;
        state.encoder.start_frame(put);
    }

    unsafe fn flush() {
        LOG_PORT.with(|port| port.drain());
    }

    unsafe fn release() {
        // SAFETY: the macros call this after `acquire`.
        let state = unsafe { &mut *STATE.0.get() };
        state.encoder.end_frame(put);
        OPEN.store(false, Ordering::Relaxed);
        // SAFETY: pairs with `acquire`.
        unsafe { critical_section::release(state.restore) };
    }

    unsafe fn write(bytes: &[u8]) {
        // SAFETY: the macros call this between `acquire` and `release`.
        let state = unsafe { &mut *STATE.0.get() };
        state.encoder.write(bytes, put);
    }
}

/// Ends a frame that was under way when the kernel ended, so that the last words can be logged. The decoder sees one damaged frame.
///
/// # Safety
/// The code that made the frame does not go on.
pub unsafe fn abandon_frame() {
    if OPEN.swap(false, Ordering::Relaxed) {
        // SAFETY: the caller's promise: this is the only use.
        let state = unsafe { &mut *STATE.0.get() };
        state.encoder.end_frame(put);
    }
}

defmt::timestamp!("{=u64:us}", clock::now_us());
