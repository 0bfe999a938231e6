//! The end of the firmware's services, and the kernel's beginning.

use core::sync::atomic::{AtomicBool, Ordering};

use quorate_bootinfo::MemoryMap;
use quorate_bootinfo::handover::{BYTES_MAX, Handover};
use quorate_bootstrap::firmware::regions;
use uefi::boot;
use uefi::mem::memory_map::{MemoryMap as _, MemoryMapMut};

use crate::firmware::{Pages, rsdp, smbios_entry};
use crate::screen::say;
use crate::{Ready, firmware};

/// Boot services are over: nothing of the firmware may be called.
static OVER: AtomicBool = AtomicBool::new(false);

/// Whether boot services are over.
pub fn is_over() -> bool {
    OVER.load(Ordering::Relaxed)
}

/// Five-level page tables: a kernel's entry code has four levels, and the number cannot be changed in 64-bit mode.
const CR4_LA57: u64 = 1 << 12;

/// Ends boot services and enters the kernel.
pub fn leave(ready: Ready) -> ! {
    if cr4() & CR4_LA57 != 0 {
        say!("NOT BOOTED: the firmware uses five-level page tables");
        say!("  what to do: switch them off in the firmware's set-up (\"5-level paging\", \"LA57\")");
        stop();
    }
    let Some(block) = Pages::anywhere(BYTES_MAX as u64) else {
        say!("NOT BOOTED: the firmware gives no memory for the handover");
        stop();
    };
    let (block, rsdp, smbios) = (block.into_slice(), rsdp(), smbios_entry());
    OVER.store(true, Ordering::Relaxed);
    // SAFETY: every protocol that was opened is dropped (disks and NICs live in functions that have returned), pages that are kept are no
    // allocation of a pool, and nothing of the firmware is called below.
    let mut map = unsafe { boot::exit_boot_services(None) };
    map.sort();
    let pages = map.entries().map(|piece| (piece.phys_start, piece.page_count, piece.ty.0));
    let memory = MemoryMap::from_regions(regions(pages)).unwrap_or_default();
    let handover = Handover { rsdp, smbios, command_line: &ready.command_line, memory: &memory };
    // Its length was looked at: the block has room for the longest.
    let _ = handover.encode(block);
    // SAFETY: the kernel was checked and stands where it wants to; boot services are over.
    unsafe { enter(ready.entry, block.as_ptr() as u64) }
}

fn stop() -> ! {
    firmware::wait_for_key();
    firmware::start_anew()
}

fn cr4() -> u64 {
    let value;
    // SAFETY: reading it changes nothing; UEFI applications run in ring 0.
    unsafe { core::arch::asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Jumps to a kernel's 64-bit entry.
///
/// # Safety
/// A kernel stands in memory, whose entry this is, and boot services are over.
unsafe fn enter(entry: u64, handover: u64) -> ! {
    // SAFETY: the caller's promise. Interrupts are off from here on, and nothing comes back.
    unsafe { core::arch::asm!("cli", "jmp {}", in(reg) entry, in("rdi") handover, options(noreturn)) }
}
