//! The firmware's memory map, sorted.
//!
//! Firmware hands maps over unsorted and with overlaps (qboot does); consumers want sorted regions and one rule for overlaps: memory is usable
//! only if no region that is not usable covers it.

use core::fmt;
use core::ops::Range;
use heapless::Vec;

/// Most regions kept. QEMU's machines give about ten, UEFI machines about a hundred.
pub const REGIONS_MAX: usize = 256;

/// What a region of physical memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryKind {
    /// Free RAM.
    Usable,
    /// RAM with ACPI tables, free once they are read.
    AcpiTables,
    /// RAM the firmware keeps for ACPI.
    AcpiNvs,
    /// Anything else: firmware, memory-mapped devices, defective RAM.
    Reserved,
}

/// One region of physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryRegion {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// What it is for.
    pub kind: MemoryKind,
}

/// Regions sorted by start address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryMap {
    regions: Vec<MemoryRegion, REGIONS_MAX>,
}

/// Why a memory map is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryMapError {
    /// More than [`REGIONS_MAX`] regions.
    TooMany,
    /// A region that ends beyond the address space.
    Wraps {
        /// Its first address.
        start: u64,
    },
    /// No usable RAM in it.
    NoRam,
}

impl MemoryMap {
    /// Sorts `(start, bytes, kind)` triples; empty ones are left out.
    pub fn from_regions(triples: impl IntoIterator<Item = (u64, u64, MemoryKind)>) -> Result<Self, MemoryMapError> {
        let mut regions = Vec::new();
        for (start, bytes, kind) in triples {
            let end = start.checked_add(bytes).ok_or(MemoryMapError::Wraps { start })?;
            if start < end {
                regions.push(MemoryRegion { start, end, kind }).map_err(|_| MemoryMapError::TooMany)?;
            }
        }
        regions.sort_unstable_by_key(|region| (region.start, region.end));
        if !regions.iter().any(|region| region.kind == MemoryKind::Usable) {
            return Err(MemoryMapError::NoRam);
        }
        Ok(Self { regions })
    }

    /// All regions, sorted by start address.
    pub fn regions(&self) -> &[MemoryRegion] {
        &self.regions
    }

    /// RAM in bytes.
    pub fn usable_bytes(&self) -> u64 {
        let usable = self.regions.iter().filter(|region| region.kind == MemoryKind::Usable);
        usable.fold(0, |sum: u64, region| sum.saturating_add(region.end - region.start))
    }

    /// Whether every byte of `range` is RAM that no other region claims.
    pub fn is_usable(&self, range: Range<u64>) -> bool {
        let claimed = |region: &MemoryRegion| {
            region.kind != MemoryKind::Usable && region.start < range.end && range.start < region.end
        };
        if range.is_empty() || self.regions.iter().any(claimed) {
            return false;
        }
        let mut covered = range.start;
        for region in self.regions.iter().filter(|region| region.kind == MemoryKind::Usable) {
            if region.start <= covered {
                covered = covered.max(region.end);
            }
        }
        covered >= range.end
    }
}

impl fmt::Display for MemoryMapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "memory map has more than {REGIONS_MAX} regions"),
            Self::Wraps { start } => write!(f, "memory region at {start:#x} ends beyond the address space"),
            Self::NoRam => f.write_str("memory map has no usable RAM"),
        }
    }
}

impl core::error::Error for MemoryMapError {}

#[cfg(test)]
mod tests {
    use super::*;

    const RAM: MemoryKind = MemoryKind::Usable;
    const RES: MemoryKind = MemoryKind::Reserved;

    #[test]
    fn regions_are_sorted_and_empty_ones_dropped() {
        let map = MemoryMap::from_regions([
            (0x10_0000, 0x100_0000, RAM),
            (0xf_0000, 0x1_0000, RES),
            (5, 0, RAM),
            (0, 0x9_fc00, RAM),
        ])
        .unwrap();
        let starts: Vec<u64, 8> = map.regions().iter().map(|r| r.start).collect();
        assert_eq!(starts, [0, 0xf_0000, 0x10_0000]);
        assert_eq!(map.usable_bytes(), 0x9_fc00 + 0x100_0000);
    }

    #[test]
    fn usable_needs_cover_and_no_other_claim() {
        let map =
            MemoryMap::from_regions([(0x1000, 0x1000, RAM), (0x2000, 0x2000, RAM), (0x3000, 0x100, RES)]).unwrap();
        assert!(map.is_usable(0x1000..0x3000));
        assert!(!map.is_usable(0x1000..0x3001));
        assert!(map.is_usable(0x3100..0x4000));
        assert!(!map.is_usable(0x3100..0x4001));
        assert!(!map.is_usable(0x0..0x1001));
        assert!(!map.is_usable(0x1000..0x1000));
    }

    #[test]
    fn bad_maps_are_refused() {
        assert_eq!(MemoryMap::from_regions([(u64::MAX, 2, RAM)]), Err(MemoryMapError::Wraps { start: u64::MAX }));
        assert_eq!(MemoryMap::from_regions([(0, 4096, RES)]), Err(MemoryMapError::NoRam));
        let many = (0..REGIONS_MAX as u64 + 1).map(|i| (i * 4096, 4096, RAM));
        assert_eq!(MemoryMap::from_regions(many), Err(MemoryMapError::TooMany));
    }
}
