//! The cooperative executor: embassy's task queue, driven by interrupts, with the processor halted when there is nothing to do.
//!
//! One turn: run the tasks that were woken; wake those whose deadline has passed; if nobody is awake, give the UARTs a FIFO's worth of output; if there was
//! none, program the timer to the nearest deadline and halt. The look at "is anyone awake" before the halt is made with interrupts off.

use crate::{ports, timers};
use core::sync::atomic::{AtomicBool, Ordering};
use embassy_executor::Spawner;
use embassy_executor::raw::Executor;
use quorate_arch_x86_64::{clock, interrupts, timer};
use spin::Once;

/// How soon to look again at a UART that did not take output, in µs: a FIFO of 16 bytes takes 1.4 ms at 115200 baud.
const BUSY_UART_US: u64 = 1_000;

static AWAKE: AtomicBool = AtomicBool::new(false);

/// Called by embassy when a task is woken, also from interrupt handlers.
#[unsafe(export_name = "__pender")]
fn pender(_context: *mut ()) {
    AWAKE.store(true, Ordering::Release);
}

/// The timer's handler. It may come after the deadline was set and before the halt: then there must be no halt.
fn on_timer() {
    AWAKE.store(true, Ordering::Release);
}

struct Shared(Once<Executor>);

// SAFETY: there is one processor, and interrupt handlers use wakers only, which are made for that.
unsafe impl Sync for Shared {}

static EXECUTOR: Shared = Shared(Once::new());

/// Runs tasks for ever. `start` spawns the first ones; interrupts are off until it returns.
pub fn run(start: impl FnOnce(Spawner)) -> ! {
    let executor = EXECUTOR.0.call_once(|| Executor::new(core::ptr::null_mut()));
    if !timer::init(on_timer) {
        crate::end::refuse(format_args!("no interrupt vector for the timer"));
    }
    start(executor.spawner());
    interrupts::enable();
    loop {
        AWAKE.store(false, Ordering::Relaxed);
        // SAFETY: only this function polls, and tasks cannot call it.
        unsafe { executor.poll() };
        let now_us = clock::now_us();
        let nearest = timers::wake_expired(now_us);
        if AWAKE.load(Ordering::Acquire) || ports::drain_some() > 0 {
            continue;
        }
        let retry = (ports::pending() > 0).then_some(now_us + BUSY_UART_US);
        timer::set_deadline(nearest.into_iter().chain(retry).min());
        interrupts::wait_unless(|| AWAKE.load(Ordering::Acquire));
    }
}
