//! What this life leaves for the next one, and what the last one left (`quorate_epitaph` has the format).

use core::fmt::Arguments;

use quorate_arch_x86_64::bootinfo::BootInfo;
use quorate_arch_x86_64::survivor::{self, SURVIVOR_BYTES};
use quorate_arch_x86_64::{clock, entropy};
use quorate_base::{BootNonce, Instant, Record};
use quorate_epitaph::{Epitaph, How, REGION_BYTES, Recorder};
use spin::Mutex;

static RECORDER: Mutex<Option<Recorder<'static>>> = Mutex::new(None);

const _: () = assert!(SURVIVOR_BYTES == REGION_BYTES);

/// Reads what the last life left and says it in the log, and begins this life's part. `fired`: the watchdog reset the
/// machine.
#[inline(never)]
pub fn open(info: &BootInfo, fired: bool) -> Option<Epitaph> {
    let Some(region) = survivor::take(info) else {
        defmt::warn!("no memory for an epitaph");
        return None;
    };
    let last = Epitaph::read(region, fired);
    match &last {
        Some(epitaph) => {
            defmt::warn!("{}", defmt::Display2Format(epitaph));
            for record in epitaph.events() {
                defmt::info!("its event at {=u64} us: {}", record.at.0, defmt::Debug2Format(&record.event));
            }
        }
        None if fired => defmt::warn!("reset by the watchdog; the last life left no epitaph"),
        None => {}
    }
    *RECORDER.lock() = Some(Recorder::begin(region, BootNonce(entropy::nonce())));
    last
}

/// An event happened.
pub fn record(record: &Record<'_>) {
    if let Some(recorder) = RECORDER.lock().as_mut() {
        recorder.record(record);
    }
}

/// This life ends. It waits for nobody: an end from within [`record`] leaves no last word.
pub fn last_word(how: How, reason: Arguments<'_>) {
    if let Some(mut held) = RECORDER.try_lock()
        && let Some(recorder) = held.as_mut()
    {
        recorder.last_word(how, Instant(clock::now_us()), reason);
    }
}
