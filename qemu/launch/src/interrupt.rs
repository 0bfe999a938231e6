//! Ctrl-C and its like: the first one asks, the second one insists.
//!
//! After the first SIGINT, SIGTERM or SIGHUP [`requested`] is true and the stores that asked for it are woken; whoever
//! runs a cluster is then to drop it. After the second the process ends at once, and the guards do the rest.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use quorate_trace::TraceStore;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static REQUESTED: AtomicBool = AtomicBool::new(false);
static LAST: Mutex<Vec<fn()>> = Mutex::new(Vec::new());
static STORES: Mutex<Vec<TraceStore>> = Mutex::new(Vec::new());

/// The shell's status for a process that Ctrl-C ended.
const STATUS_INTERRUPTED: i32 = 130;

/// Begins to listen. To be called once, by the command.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn install() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("interrupt".into()).spawn(move || {
        for _ in signals.forever() {
            if REQUESTED.swap(true, Ordering::AcqRel) {
                LAST.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|last| last());
                std::process::exit(STATUS_INTERRUPTED);
            }
            STORES.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(TraceStore::wake);
        }
    })?;
    Ok(())
}

/// Whether the user asked to stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Acquire)
}

/// From now on the first interrupt wakes those who wait at `store`.
pub fn wakes(store: &TraceStore) {
    STORES.lock().unwrap_or_else(PoisonError::into_inner).push(store.clone());
}

/// From now on `last` is run before the process ends at the second interrupt: what no destructor will do.
pub fn before_end(last: fn()) {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).push(last);
}
