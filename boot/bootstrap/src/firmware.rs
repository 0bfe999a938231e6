//! What UEFI firmware hands out as plain data: its memory map's types, and the device path of its console (UEFI 2.10 § 7.2, § 10.3).

use heapless::Vec;
use quorate_bootinfo::{MemoryKind, REGIONS_MAX};

/// A piece of memory: first address, bytes, what for.
pub type Piece = (u64, u64, MemoryKind);

/// Bytes of a page of the memory map.
const PAGE_BYTES: u64 = 4096;

/// What memory of a UEFI type is for once boot services are over: the loader's and the boot services' own is free.
pub const fn kind_of(uefi_type: u32) -> MemoryKind {
    match uefi_type {
        // Loader code and data, boot services code and data, conventional.
        1..=4 | 7 => MemoryKind::Usable,
        9 => MemoryKind::AcpiTables,
        10 => MemoryKind::AcpiNvs,
        _ => MemoryKind::Reserved,
    }
}

/// Memory as a kernel takes it: neighbours of one kind are one. `pages` are (first address, pages, UEFI type), ascending.
///
/// What is beyond [`REGIONS_MAX`] is left out: memory that no region names is not used.
pub fn regions(pages: impl Iterator<Item = (u64, u64, u32)>) -> Vec<Piece, REGIONS_MAX> {
    let mut all: Vec<Piece, REGIONS_MAX> = Vec::new();
    for (start, count, uefi_type) in pages {
        let (bytes, kind) = (count.saturating_mul(PAGE_BYTES), kind_of(uefi_type));
        match all.last_mut() {
            Some(last) if last.2 == kind && last.0.checked_add(last.1) == Some(start) => {
                last.1 = last.1.saturating_add(bytes)
            }
            _ => drop(all.push((start, bytes, kind))),
        }
    }
    all
}

/// Whether a device path, or several in one, leads over a UART: then what the firmware shows is on a serial line, too.
pub fn has_uart(path: &[u8]) -> bool {
    const MESSAGING: u8 = 3;
    const UART: u8 = 14;
    let mut rest = path;
    while let [kind, sub, low, high, ..] = *rest {
        if (kind, sub) == (MESSAGING, UART) {
            return true;
        }
        let length = usize::from(u16::from_le_bytes([low, high]));
        // A node has a head of four bytes.
        let Some(next) = rest.get(length..).filter(|_| length >= 4) else { return false };
        rest = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;

    #[test]
    fn uefi_2_10_table_7_6_neighbours_of_one_kind_are_one() {
        let found = regions(
            [(0, 1, 3), (0x1000, 0x9e, 7), (0x9f000, 1, 0), (0x10_0000, 0x700, 7), (0x80_0000, 8, 10)].into_iter(),
        );
        assert_eq!(
            found.as_slice(),
            [
                (0, 0x9f000, MemoryKind::Usable),
                (0x9f000, 0x1000, MemoryKind::Reserved),
                (0x10_0000, 0x70_0000, MemoryKind::Usable),
                (0x80_0000, 0x8000, MemoryKind::AcpiNvs),
            ]
        );
        assert_eq!([1, 2, 3, 4, 7].map(kind_of), [MemoryKind::Usable; 5]);
        assert_eq!([0, 5, 6, 8, 11, 12, 13, 14, 0x8000_0000].map(kind_of), [MemoryKind::Reserved; 9]);
        assert_eq!(kind_of(9), MemoryKind::AcpiTables);
    }

    #[test]
    fn a_map_with_too_many_regions_loses_the_last_ones_only() {
        let many = (0..REGIONS_MAX as u64 + 9).map(|n| (n * 0x2000, 1, 7));
        let found = regions(many);
        assert_eq!((found.len(), found[REGIONS_MAX - 1].0), (REGIONS_MAX, (REGIONS_MAX as u64 - 1) * 0x2000));
        assert_eq!(regions([(u64::MAX - 1, u64::MAX, 7)].into_iter()).len(), 1);
    }

    #[test]
    fn a_uart_is_found_in_any_of_several_paths() {
        let screen = [2, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 1, 4, 0];
        let uart = [
            2, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 14, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff,
            4, 0,
        ];
        assert!(!has_uart(&screen) && has_uart(&uart));
        let both: std::vec::Vec<u8> = screen.into_iter().chain(uart).collect();
        assert!(has_uart(&both));
        for damaged in [&[][..], &[3], &[2, 1, 0, 0], &[2, 1, 3, 0, 9], &[2, 1, 0xff, 0xff]] {
            assert!(!has_uart(damaged));
        }
    }
}
