//! PVH entry (Xen x86/HVM direct boot ABI): `pvh.s` brings the processor to long mode and calls [`pvh_main`], which copies what the boot loader left.

use crate::{memory, start};
use quorate_bootinfo::{
    BootInfo, BootPath, CMDLINE_BYTES_MAX, CommandLine, CommandLineError, MemoryKind, MemoryMap, MemoryMapError,
};

const MAGIC: u32 = 0x336e_c578;
/// The first version with a memory map.
const VERSION_WITH_MAP: u32 = 1;
/// The entry code maps this much to itself.
const REACHABLE: u64 = 4 << 30;

/// `hvm_start_info`.
#[derive(Clone, Copy)]
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    _flags: u32,
    _modules: u32,
    _module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    _reserved: u32,
}

/// `hvm_memmap_table_entry`.
#[derive(Clone, Copy)]
#[repr(C)]
struct MapEntry {
    start: u64,
    bytes: u64,
    kind: u32,
    _reserved: u32,
}

/// Copies a `T` from a physical address of the boot loader, if it can be reached.
///
/// # Safety
/// The entry code's page tables are in use, and `T` is valid for any bytes.
unsafe fn peek<T: Copy>(physical: u64) -> Option<T> {
    let reachable = physical != 0 && physical.checked_add(size_of::<T>() as u64).is_some_and(|end| end <= REACHABLE);
    // SAFETY: the low 4 GiB are mapped to themselves; reading RAM or devices that are not there gives some bytes, which `T` may be.
    reachable.then(|| unsafe { (physical as *const T).read_unaligned() })
}

/// Called by `pvh.s` with the physical address of the start info.
pub(crate) extern "C" fn pvh_main(start_info: u64) -> ! {
    // SAFETY: called by the entry code, once, on its page tables.
    let info = unsafe { read(start_info) };
    // SAFETY: as above; the info is a copy.
    unsafe { start::on_boot_tables(info) }
}

/// # Safety
/// The entry code's page tables are in use.
unsafe fn read(start_info: u64) -> BootInfo {
    // SAFETY: the caller's promise; the structure has only integers.
    let found = unsafe { peek::<StartInfo>(start_info) }.filter(|found| found.magic == MAGIC);
    let memory = match found {
        // SAFETY: the caller's promise.
        Some(found) if found.version >= VERSION_WITH_MAP => unsafe {
            read_map(found.memory_map, found.memory_map_entries)
        },
        _ => Err(MemoryMapError::NoRam),
    };
    // SAFETY: the caller's promise.
    let command_line = unsafe { read_command_line(found.map_or(0, |found| found.command_line)) };
    let rsdp = found.map(|found| found.rsdp).filter(|rsdp| *rsdp != 0);
    BootInfo { path: BootPath::Pvh, command_line, memory, rsdp, smbios: None, kernel: memory::kernel_range() }
}

/// # Safety
/// As for [`peek`].
unsafe fn read_map(start: u64, entries: u32) -> Result<MemoryMap, MemoryMapError> {
    let addresses = (0..u64::from(entries)).map(|index| start.saturating_add(index * size_of::<MapEntry>() as u64));
    // SAFETY: the caller's promise; the structure has only integers.
    let found = addresses.map_while(|address| unsafe { peek::<MapEntry>(address) });
    MemoryMap::from_regions(found.map(|entry| {
        let kind = match entry.kind {
            1 => MemoryKind::Usable,
            3 => MemoryKind::AcpiTables,
            4 => MemoryKind::AcpiNvs,
            _ => MemoryKind::Reserved,
        };
        (entry.start, entry.bytes, kind)
    }))
}

/// # Safety
/// As for [`peek`].
unsafe fn read_command_line(start: u64) -> Result<CommandLine, CommandLineError> {
    if start == 0 {
        return CommandLine::parse(b"");
    }
    let mut bytes = heapless::Vec::<u8, CMDLINE_BYTES_MAX>::new();
    for offset in 0.. {
        // SAFETY: the caller's promise.
        match unsafe { peek::<u8>(start.saturating_add(offset)) } {
            None | Some(0) => break,
            Some(byte) => bytes.push(byte).map_err(|_| CommandLineError::TooLong)?,
        }
    }
    CommandLine::parse(&bytes)
}
