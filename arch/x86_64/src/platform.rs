//! What the ACPI tables say about the machine.
//!
//! Uses the allocator-free part of the `acpi` crate: finding tables, and their raw structures.

use crate::memory;
use acpi::hpet::HpetInfo;
use acpi::madt::{Madt, MadtEntry};
use acpi::mcfg::Mcfg;
use acpi::{AcpiError, AcpiHandler, AcpiTables, PhysicalMapping};
use core::ptr::NonNull;
use heapless::Vec;

/// Most I/O APICs kept.
pub const IO_APICS_MAX: usize = 8;
/// Most interrupt overrides kept: there are 16 ISA lines.
const OVERRIDES_MAX: usize = 16;

/// An I/O APIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoApicAt {
    /// Physical address of its registers.
    pub physical: u64,
    /// The global interrupt its first input has.
    pub first_interrupt: u32,
}

/// An ISA line that is wired otherwise than by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IsaOverride {
    /// The ISA line.
    pub line: u8,
    /// Its global interrupt.
    pub interrupt: u32,
    /// Polarity (bits 0–1) and trigger mode (bits 2–3) as in the MPS INTI flags.
    pub flags: u16,
}

/// Configuration space of PCI buses in memory (ECAM).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ecam {
    /// Physical address of bus 0's configuration space.
    pub physical: u64,
    /// First bus it reaches.
    pub first_bus: u8,
    /// Last bus it reaches.
    pub last_bus: u8,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Platform {
    /// Physical address of the HPET's registers.
    pub hpet: Option<u64>,
    /// I/O APICs.
    pub io_apics: Vec<IoApicAt, IO_APICS_MAX>,
    /// Unusual ISA lines.
    pub overrides: Vec<IsaOverride, OVERRIDES_MAX>,
    /// PCI segment 0.
    pub ecam: Option<Ecam>,
}

impl Platform {
    /// Reads the tables the root pointer leads to. A missing or damaged table leaves its part empty.
    pub fn discover(rsdp: u64) -> Result<Self, AcpiError> {
        // SAFETY: the boot path named this address; the handler maps whatever the tables name read-only, and the crate checks sums and signatures.
        let tables = unsafe { AcpiTables::from_rsdp(Firmware, rsdp as usize)? };
        let mut platform =
            Self { hpet: HpetInfo::new(&tables).ok().map(|hpet| hpet.base_address as u64), ..Self::default() };
        if let Ok(madt) = tables.find_table::<Madt>() {
            platform.read_madt(&madt);
        }
        if let Ok(mcfg) = tables.find_table::<Mcfg>() {
            let segment_0 = mcfg.entries().iter().find(|entry| entry.pci_segment_group == 0);
            platform.ecam = segment_0.map(|entry| Ecam {
                physical: entry.base_address,
                first_bus: entry.bus_number_start,
                last_bus: entry.bus_number_end,
            });
        }
        Ok(platform)
    }

    fn read_madt(&mut self, madt: &PhysicalMapping<Firmware, Madt>) {
        for entry in madt.get().entries() {
            match entry {
                MadtEntry::IoApic(entry) => {
                    let (physical, first_interrupt) =
                        (u64::from(entry.io_apic_address), entry.global_system_interrupt_base);
                    // More than the kernel has room for are of no use to it.
                    let _ = self.io_apics.push(IoApicAt { physical, first_interrupt });
                }
                MadtEntry::InterruptSourceOverride(entry) => {
                    let (interrupt, flags) = (entry.global_system_interrupt, entry.flags);
                    let _ = self.overrides.push(IsaOverride { line: entry.irq, interrupt, flags });
                }
                _ => {}
            }
        }
    }

    /// The global interrupt and the flags of an ISA line.
    pub fn isa_line(&self, line: u8) -> IsaOverride {
        let usual = IsaOverride { line, interrupt: u32::from(line), flags: 0 };
        self.overrides.iter().copied().find(|entry| entry.line == line).unwrap_or(usual)
    }
}

/// Maps tables for the crate.
#[derive(Debug, Clone, Copy)]
struct Firmware;

/// Stands in for a table at an impossible address: it has no signature and no length, so the crate refuses it.
#[repr(align(16))]
struct NoTable([u8; 4096]);

static NO_TABLE: NoTable = NoTable([0; 4096]);

impl AcpiHandler for Firmware {
    unsafe fn map_physical_region<T>(&self, physical_address: usize, size: usize) -> PhysicalMapping<Self, T> {
        const { assert!(size_of::<T>() <= size_of::<NoTable>()) };
        let mapped = memory::map_firmware(physical_address as u64, size);
        let (start, length) =
            mapped.map_or((NonNull::from(&NO_TABLE.0).cast(), size_of::<NoTable>()), |start| (start, size));
        // SAFETY: `start` is mapped for `length` bytes, for ever.
        unsafe { PhysicalMapping::new(physical_address, start.cast(), length, length, *self) }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {
        // Mappings stay: tables share pages, and there are few.
    }
}
