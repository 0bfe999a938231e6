//! The machine's identity from its SMBIOS tables (DMTF DSP0134 3.6).
//!
//! Parsing is pure and checked: tables come from firmware and are believed no further than their lengths.

/// A UUID in the order of its text form, as in RFC 9562.
pub type Uuid = [u8; 16];

/// Where the structure table is, from an entry point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableAt {
    /// Physical address.
    pub physical: u64,
    /// Length in bytes; the most it can be for 64-bit entry points.
    pub bytes: u32,
    /// Version, major and minor.
    pub version: (u8, u8),
}

/// First physical address of the area a BIOS puts the entry point into.
pub const AREA_PHYSICAL: u64 = 0xf_0000;
/// Its length.
pub const AREA_BYTES: usize = 0x1_0000;

/// Entry points start at multiples of it (§ 5.2).
const ENTRY_ALIGN_BYTES: usize = 16;
/// A longer structure table is not read. Usual ones have a few KiB.
const TABLE_BYTES_MAX: u32 = 256 << 10;
const TYPE_SYSTEM: u8 = 1;
const TYPE_OEM_STRINGS: u8 = 11;
const TYPE_END: u8 = 127;
/// Since this version the first three fields of a UUID are little-endian (§ 7.2.1).
const VERSION_OF_SWAPPED_UUID: (u8, u8) = (2, 6);

/// Finds an entry point in the area's bytes; a 64-bit one wins.
pub fn find_entry(area: &[u8]) -> Option<TableAt> {
    let places = || (0..area.len()).step_by(ENTRY_ALIGN_BYTES).filter_map(|at| area.get(at..));
    places().find_map(entry_64).or_else(|| places().find_map(entry_32))
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)) == 0
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// § 5.2.2, anchor `_SM3_`.
fn entry_64(bytes: &[u8]) -> Option<TableAt> {
    const LENGTH_MIN: u8 = 0x18;
    let length = *bytes.get(6)?;
    if !bytes.starts_with(b"_SM3_") || length < LENGTH_MIN || !sums_to_zero(bytes.get(..usize::from(length))?) {
        return None;
    }
    Some(TableAt {
        physical: u64::from_le_bytes(number(bytes, 0x10)?),
        bytes: u32::from_le_bytes(number(bytes, 0x0c)?).min(TABLE_BYTES_MAX),
        version: (*bytes.get(7)?, *bytes.get(8)?),
    })
}

/// § 5.2.1, anchor `_SM_`, with the older `_DMI_` part inside.
fn entry_32(bytes: &[u8]) -> Option<TableAt> {
    // One version of the specification gave the length as 0x1e.
    const LENGTHS: [u8; 2] = [0x1f, 0x1e];
    let length = *bytes.get(5)?;
    let known = bytes.starts_with(b"_SM_") && LENGTHS.contains(&length) && bytes.get(0x10..)?.starts_with(b"_DMI_");
    if !known || !sums_to_zero(bytes.get(..0x1f)?) {
        return None;
    }
    Some(TableAt {
        physical: u64::from(u32::from_le_bytes(number(bytes, 0x18)?)),
        bytes: u32::from(u16::from_le_bytes(number(bytes, 0x16)?)),
        version: (*bytes.get(6)?, *bytes.get(7)?),
    })
}

/// The UUID of the system structure (type 1, § 7.2). `None` if there is none, or it says "not set" (all zeros or all ones).
pub fn uuid_in_table(table: &[u8], version: (u8, u8)) -> Option<Uuid> {
    const HEADER_BYTES: usize = 4;
    const UUID_AT: usize = 8;
    let mut rest = table;
    loop {
        let [kind, length, ..] = *rest else {
            return None;
        };
        let structure = rest.get(..usize::from(length)).filter(|structure| structure.len() >= HEADER_BYTES)?;
        match kind {
            TYPE_SYSTEM => return number(structure, UUID_AT).and_then(|raw| in_text_order(raw, version)),
            TYPE_END => return None,
            // The strings after a structure end with two zeros.
            _ => rest = after_strings(rest.get(usize::from(length)..)?)?,
        }
    }
}

/// The OEM strings of the machine (type 11, § 7.12), of all such structures.
pub fn oem_strings(table: &[u8]) -> OemStrings<'_> {
    OemStrings { strings: &[], rest: table }
}

/// See [`oem_strings`].
#[derive(Debug, Clone)]
pub struct OemStrings<'t> {
    strings: &'t [u8],
    rest: &'t [u8],
}

impl<'t> Iterator for OemStrings<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        loop {
            if let Some(end) = self.strings.iter().position(|byte| *byte == 0) {
                let (text, behind) = self.strings.split_at(end);
                self.strings = behind.get(1..).unwrap_or_default();
                match core::str::from_utf8(text) {
                    Ok(text) if !text.is_empty() => return Some(text),
                    _ => continue,
                }
            }
            let [kind, length, ..] = *self.rest else { return None };
            let strings = self.rest.get(usize::from(length)..).filter(|_| length >= 4)?;
            let behind = after_strings(strings)?;
            match kind {
                TYPE_END => return None,
                // All of them with the zero behind the last one.
                TYPE_OEM_STRINGS => self.strings = strings.get(..strings.len() - behind.len() - 1).unwrap_or_default(),
                _ => {}
            }
            self.rest = behind;
        }
    }
}

fn after_strings(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|pair| pair == [0, 0])?;
    bytes.get(end + 2..)
}

fn in_text_order(mut uuid: Uuid, version: (u8, u8)) -> Option<Uuid> {
    if uuid == [0; 16] || uuid == [0xff; 16] {
        return None;
    }
    if version >= VERSION_OF_SWAPPED_UUID {
        uuid[0..4].reverse();
        uuid[4..6].reverse();
        uuid[6..8].reverse();
    }
    Some(uuid)
}

/// Bytes of either entry point that are looked at.
pub const ENTRY_BYTES: usize = 0x20;

/// The machine's UUID, if its firmware has one. `entry` is where the boot path says that an entry point is; else it is searched for.
#[cfg(target_os = "none")]
pub fn system_uuid(entry: Option<u64>) -> Option<Uuid> {
    let area = match entry {
        Some(physical) => mapped(physical, ENTRY_BYTES)?,
        None => mapped(AREA_PHYSICAL, AREA_BYTES)?,
    };
    let table = find_entry(area)?;
    uuid_in_table(mapped(table.physical, table.bytes as usize)?, table.version)
}

#[cfg(target_os = "none")]
fn mapped(physical: u64, bytes: usize) -> Option<&'static [u8]> {
    let start = crate::memory::map_firmware(physical, bytes).ok()?;
    // SAFETY: just mapped, for ever; firmware tables do not change once the kernel runs, and nothing in the kernel writes to this mapping.
    Some(unsafe { core::slice::from_raw_parts(start.as_ptr(), bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    const UUID_TEXT: Uuid =
        [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
    const UUID_RAW: Uuid =
        [0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];

    fn with_sum(mut bytes: Vec<u8>, at: usize, length: usize) -> Vec<u8> {
        let sum = bytes[..length].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        bytes[at] = bytes[at].wrapping_sub(sum);
        bytes
    }

    fn entry_point_32() -> Vec<u8> {
        let mut bytes = std::vec![0; 0x20];
        bytes[..4].copy_from_slice(b"_SM_");
        bytes[5] = 0x1f;
        bytes[6..8].copy_from_slice(&[2, 8]);
        bytes[0x10..0x15].copy_from_slice(b"_DMI_");
        bytes[0x16..0x18].copy_from_slice(&0x123_u16.to_le_bytes());
        bytes[0x18..0x1c].copy_from_slice(&0xf_5a00_u32.to_le_bytes());
        with_sum(bytes, 4, 0x1f)
    }

    fn entry_point_64() -> Vec<u8> {
        let mut bytes = std::vec![0; 0x20];
        bytes[..5].copy_from_slice(b"_SM3_");
        bytes[6..9].copy_from_slice(&[0x18, 3, 2]);
        bytes[0x0c..0x10].copy_from_slice(&0x400_u32.to_le_bytes());
        bytes[0x10..0x18].copy_from_slice(&0x1_2345_6000_u64.to_le_bytes());
        with_sum(bytes, 5, 0x18)
    }

    fn table() -> Vec<u8> {
        let mut bytes = std::vec![0, 6, 0, 0, 1, 2];
        bytes.extend(b"vendor\0version\0\0");
        bytes.extend([1, 27, 0, 1, 1, 2, 3, 4]);
        bytes.extend(UUID_RAW);
        bytes.extend([6, 0, 0]);
        bytes.extend(b"a\0\0");
        bytes.extend([127, 4, 0, 2, 0, 0]);
        bytes
    }

    #[test]
    fn dsp0134_5_2_entry_points_are_found() {
        let mut area = std::vec![0xff; 0x40];
        area.extend(entry_point_32());
        assert_eq!(find_entry(&area), Some(TableAt { physical: 0xf_5a00, bytes: 0x123, version: (2, 8) }));
        area.extend(entry_point_64());
        assert_eq!(find_entry(&area), Some(TableAt { physical: 0x1_2345_6000, bytes: 0x400, version: (3, 2) }));
    }

    #[test]
    fn damaged_entry_points_are_not_found() {
        for mut entry in [entry_point_32(), entry_point_64()] {
            assert!(find_entry(&entry).is_some());
            for end in 0..0x18 {
                assert_eq!(find_entry(&entry[..end]), None);
            }
            entry[0x12] ^= 1;
            assert_eq!(find_entry(&entry), None);
        }
    }

    #[test]
    fn dsp0134_7_2_uuid_is_in_text_order() {
        assert_eq!(uuid_in_table(&table(), (2, 8)), Some(UUID_TEXT));
        assert_eq!(uuid_in_table(&table(), (2, 5)), Some(UUID_RAW));
    }

    #[test]
    fn unset_and_missing_uuids_are_none() {
        for value in [0, 0xff] {
            assert_eq!(in_text_order([value; 16], (3, 0)), None);
        }
        assert_eq!(uuid_in_table(&[127, 4, 0, 0, 0, 0], (3, 0)), None);
        // A type 1 structure of version 2.0 has no UUID.
        assert_eq!(
            uuid_in_table(&[1, 8, 0, 0, 1, 2, 3, 4, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9], (2, 0)),
            None
        );
    }

    #[test]
    fn dsp0134_7_12_oem_strings_of_all_structures_are_found() {
        let mut table = std::vec![0, 6, 0, 0, 1, 2];
        table.extend(b"no oem string\0\0");
        table.extend([11, 5, 0, 1, 2]);
        table.extend(b"quorate.cmdline=level=70:a:1:1:1:0:0:1\0second\0\0");
        table.extend([11, 5, 0, 2, 1]);
        table.extend(b"third\0\0");
        table.extend([127, 4, 0, 3, 0, 0]);
        let found: Vec<&str> = oem_strings(&table).collect();
        assert_eq!(found, ["quorate.cmdline=level=70:a:1:1:1:0:0:1", "second", "third"]);
        for end in 0..table.len() {
            assert!(oem_strings(&table[..end]).count() <= 3);
        }
        assert_eq!(oem_strings(&[11, 5, 0, 1, 1, 0, 0]).count(), 0);
        assert_eq!(oem_strings(&[11, 0, 0, 0, 0, 0]).count(), 0);
    }

    #[test]
    fn damaged_tables_end_the_search() {
        let table = table();
        for end in 0..table.len() {
            let _ = uuid_in_table(&table[..end], (2, 8));
        }
        for at in 0..table.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = table.clone();
                damaged[at] = value;
                let _ = uuid_in_table(&damaged, (2, 8));
            }
        }
        assert_eq!(uuid_in_table(&[5, 0, 0, 0], (3, 0)), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_searched_within_their_bounds(bytes: Vec<u8>, kind in 0_u8..3) {
            let _ = uuid_in_table(&bytes, (3, 0));
            let _ = oem_strings(&bytes).count();
            let anchors: [&[u8]; 3] = [b"_SM_", b"_SM3_", b""];
            let mut area = anchors[usize::from(kind)].to_vec();
            area.extend(&bytes);
            let _ = find_entry(&area);
        }
    }
}
