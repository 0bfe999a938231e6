//! RAM that a reset leaves as it is: outside of everything that is loaded or cleared, at a fixed place, so that the next
//! image finds it too. What stands in it after power-on is anybody's guess.

use crate::layout::SURVIVOR;
use crate::memory;
use core::sync::atomic::{AtomicBool, Ordering};
use quorate_bootinfo::BootInfo;

/// Bytes of it.
pub const SURVIVOR_BYTES: usize = (SURVIVOR.end - SURVIVOR.start) as usize;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Gives the memory to its one user. `None` if it is taken, or the machine has no RAM of its own there.
pub fn take(info: &BootInfo) -> Option<&'static mut [u8; SURVIVOR_BYTES]> {
    let is_ram = info.memory.as_ref().is_ok_and(|map| map.is_usable(SURVIVOR));
    if !is_ram || TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    let start = memory::phys_to_virt(SURVIVOR.start)?.cast::<[u8; SURVIVOR_BYTES]>();
    // SAFETY: usable RAM is in the direct map, for ever; the linker script keeps the image out of this range, nothing else
    // uses memory by its physical address, and this is the only reference, because it is given once. Any bytes are bytes.
    Some(unsafe { &mut *start.as_ptr() })
}
