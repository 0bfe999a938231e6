//! The ends of a node: a refusal to start, a bug (panic), a processor exception, a halt that the node asks for. Each says why
//! on console and log, flushes all ports, and does what the node's record says: halt, with the watchdog disarmed, or reset.

use crate::{console, epitaph, log, ports, watchdog};
use core::fmt::Arguments;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use quorate_arch_x86_64::exception::Report;
use quorate_arch_x86_64::{fault, interrupts, power};
use quorate_base::HaltReason;
use quorate_database::EndAction;
use quorate_epitaph::How;

static ENDING: AtomicBool = AtomicBool::new(false);

/// The node's record says that an unwanted end is followed by a reset.
static RESETS: AtomicBool = AtomicBool::new(false);

/// What to do at an end that the node itself does not see (EP p. 4: "needed to boot, shutdown, or panic a node"). Until it is
/// said, such an end halts.
pub fn set_on_panic(action: EndAction) {
    RESETS.store(action != EndAction::Halt, Ordering::Relaxed);
}

/// The node has halted and said why.
pub fn by_node(reason: &HaltReason, action: EndAction) -> ! {
    epitaph::last_word(if reason.is_wanted() { How::Halt } else { How::Panic }, format_args!("{reason}"));
    finish(action != EndAction::Halt)
}

fn finish(resets: bool) -> ! {
    if resets {
        // The watchdog stays armed: it resets what does not reset itself. Firmware boots what it is set to boot; the choice
        // of another kernel is the bootstrap's.
        ports::flush();
        power::reset();
    }
    watchdog::disarm();
    ports::flush();
    power::halt()
}

/// Ends the node because it may not or cannot run; `reason` is for the operator.
pub fn refuse(reason: Arguments<'_>) -> ! {
    epitaph::last_word(How::Panic, reason);
    end(format_args!("halted: {reason}"), false)
}

/// Ends the node at a processor exception.
pub fn by_exception(report: &Report) -> ! {
    epitaph::last_word(How::Exception, format_args!("{report}"));
    end(format_args!("{report}"), RESETS.load(Ordering::Relaxed))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    epitaph::last_word(How::Bug, format_args!("{info}"));
    let trace = fault::current_back_trace();
    end(format_args!("{info}\n{trace}"), RESETS.load(Ordering::Relaxed))
}

fn end(last_words: Arguments<'_>, resets: bool) -> ! {
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
    finish(resets)
}
