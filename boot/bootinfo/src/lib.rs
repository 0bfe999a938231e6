//! What a boot path hands to the kernel.
//!
//! PVH (`-kernel`) and the UEFI bootstrap end in the same [`BootInfo`], so nothing after the entry code knows how the machine was started.
//! Everything in it is copied: the boot loader's own memory is not mapped once the kernel has its page tables.
//!
//! Invariants: memory regions are sorted by address and non-empty; the command line is UTF-8 without control characters.

#![no_std]
#![forbid(unsafe_code)]

mod cmdline;
pub mod handover;
mod memory_map;

pub use cmdline::{CMDLINE_BYTES_MAX, CommandLine, CommandLineError, Word, Words};
pub use memory_map::{MemoryKind, MemoryMap, MemoryMapError, MemoryRegion, REGIONS_MAX};

use core::ops::Range;

/// How the machine was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootPath {
    /// The PVH entry point of the Xen x86/HVM direct boot ABI (QEMU `-kernel`).
    Pvh,
    /// The UEFI bootstrap from the shared disk.
    Uefi,
}

/// All the kernel knows about the machine at its first instruction in Rust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootInfo {
    /// How the machine was started.
    pub path: BootPath,
    /// The kernel command line, or why it cannot be used. A refused line must stop the boot: an ignored `node=` could start the wrong node.
    pub command_line: Result<CommandLine, CommandLineError>,
    /// The firmware's memory map, or why it cannot be used.
    pub memory: Result<MemoryMap, MemoryMapError>,
    /// Physical address of the ACPI root pointer, if the boot path names one.
    pub rsdp: Option<u64>,
    /// Physical address of the SMBIOS entry point, if the boot path names one. A BIOS puts it where it is searched for.
    pub smbios: Option<u64>,
    /// Physical addresses the kernel image occupies, page-aligned.
    pub kernel: Range<u64>,
}
