//! The ends of a node: a refusal to start, a bug (panic), a processor exception. Each says why on console and log, flushes all ports and halts.

use crate::{console, log, ports};
use core::fmt::Arguments;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use quorate_arch_x86_64::exception::Report;
use quorate_arch_x86_64::{fault, interrupts, power};

static ENDING: AtomicBool = AtomicBool::new(false);

/// Ends the node because it may not or cannot run; `reason` is for the operator.
pub fn refuse(reason: Arguments<'_>) -> ! {
    end(format_args!("halted: {reason}"))
}

/// Ends the node at a processor exception.
pub fn by_exception(report: &Report) -> ! {
    end(format_args!("{report}"))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let trace = fault::current_back_trace();
    end(format_args!("{info}\n{trace}"))
}

fn end(last_words: Arguments<'_>) -> ! {
    interrupts::disable();
    if ENDING.swap(true, Ordering::Relaxed) {
        // The report itself failed.
        power::halt();
    }
    // SAFETY: interrupts stay off and this function does not return, so whatever held a port or had a log frame open does not go on.
    unsafe {
        ports::take_all_at_end();
        log::abandon_frame();
    }
    console::print(format_args!("quorate: {last_words}\n"));
    defmt::error!("{}", defmt::Display2Format(&last_words));
    ports::flush();
    power::halt()
}
