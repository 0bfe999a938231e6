//! UEFI entry: `uefi.s` leaves the firmware's tables and calls [`uefi_main`], which copies what the bootstrap left.

use crate::{memory, start};
use quorate_bootinfo::handover::{self, Found, HEAD_BYTES};
use quorate_bootinfo::{BootInfo, BootPath, CommandLineError, MemoryMapError};

/// The entry code maps this much to itself.
const REACHABLE: u64 = 4 << 30;

/// Called by `uefi.s` with the physical address of the handover.
pub(crate) extern "C" fn uefi_main(handover: u64) -> ! {
    // SAFETY: called by the entry code, once, on its page tables.
    let found = unsafe { read(handover) };
    let kernel = memory::kernel_range();
    let info = match found {
        Some(Found { rsdp, smbios, command_line, memory }) => {
            BootInfo { path: BootPath::Uefi, command_line, memory, rsdp, smbios, kernel }
        }
        // Another version's, or none: without memory and a command line the image says so and halts.
        None => BootInfo {
            path: BootPath::Uefi,
            command_line: Err(CommandLineError::NotText),
            memory: Err(MemoryMapError::NoRam),
            rsdp: None,
            smbios: None,
            kernel,
        },
    };
    // SAFETY: as above; the info is a copy.
    unsafe { start::on_boot_tables(info) }
}

/// # Safety
/// The entry code's page tables are in use.
unsafe fn read(at: u64) -> Option<Found> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { peek(at, HEAD_BYTES) }.and_then(|head| handover::length(head).ok())?;
    // SAFETY: the caller's promise.
    unsafe { peek(at, bytes) }.and_then(|whole| handover::decode(whole).ok())
}

/// Bytes at a physical address, if they can be reached. The slice is used only while the entry code's tables are.
///
/// # Safety
/// The entry code's page tables are in use, and nobody writes there.
unsafe fn peek<'a>(physical: u64, bytes: usize) -> Option<&'a [u8]> {
    let reachable = physical != 0 && physical.checked_add(bytes as u64).is_some_and(|end| end <= REACHABLE);
    // SAFETY: the low 4 GiB are mapped to themselves; reading what is there gives some bytes, which bytes may be.
    reachable.then(|| unsafe { core::slice::from_raw_parts(physical as *const u8, bytes) })
}
