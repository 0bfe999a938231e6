//! INQUIRY data: what a logical unit is and who it is. (SPC-4 § 6.6, 7.8; SBC-3 § 6.6)

use crate::bytes::{array, be16, be32};
use core::fmt;
use heapless::Vec;

/// VPD page that lists the pages.
pub const PAGE_SUPPORTED: u8 = 0x00;
/// VPD page with the serial number.
pub const PAGE_SERIAL: u8 = 0x80;
/// VPD page with the designators.
pub const PAGE_IDENTIFICATION: u8 = 0x83;
/// VPD page with the transfer limits.
pub const PAGE_BLOCK_LIMITS: u8 = 0xb0;

/// Bytes of a designator or serial number that are kept; longer ones are cut.
pub const NAME_MAX: usize = 64;
/// Designators of one unit that are kept.
pub const DESIGNATORS_MAX: usize = 8;

/// Standard INQUIRY data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inquiry {
    /// Peripheral qualifier: 0 means a device is connected.
    pub qualifier: u8,
    /// Peripheral device type: 0 is a direct-access block device.
    pub kind: u8,
    /// Vendor, padded with blanks.
    pub vendor: [u8; 8],
    /// Product, padded with blanks.
    pub product: [u8; 16],
    /// Revision, padded with blanks.
    pub revision: [u8; 4],
}

impl Inquiry {
    /// Reads standard data; `None` if it is too short.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let first = *data.first()?;
        Some(Self {
            qualifier: first >> 5,
            kind: first & 0x1f,
            vendor: array(data, 8)?,
            product: array(data, 16)?,
            revision: array(data, 32)?,
        })
    }

    /// A connected block device.
    pub fn is_disk(&self) -> bool {
        self.qualifier == 0 && self.kind == 0
    }
}

/// The bytes of a VPD page behind its header; `None` if it is another page or cut before its header
/// ends. A page that is cut in its body yields what is there.
pub fn page_body(data: &[u8], page: u8) -> Option<&[u8]> {
    if *data.get(1)? != page {
        return None;
    }
    let len = usize::from(be16(data, 2)?);
    let body = data.get(4..)?;
    Some(body.get(..len).unwrap_or(body))
}

/// How a designator names the unit, best first. (SPC-4 Table 560)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DesignatorKind {
    /// Network address authority: a world-wide name.
    Naa,
    /// IEEE EUI-64.
    Eui64,
    /// T10 vendor identification.
    T10Vendor,
    /// SCSI name string.
    NameString,
    /// Vendor specific; also QEMU's `device_id`.
    Vendor,
    /// Another kind.
    Other(u8),
}

/// One designator of a logical unit.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Designator {
    /// Its kind.
    pub kind: DesignatorKind,
    /// Its bytes; binary or text.
    pub name: Vec<u8, NAME_MAX>,
    /// The name is text.
    pub text: bool,
}

impl fmt::Display for Designator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DesignatorKind::Naa => "naa.",
            DesignatorKind::Eui64 => "eui.",
            DesignatorKind::T10Vendor => "t10.",
            DesignatorKind::NameString => "",
            DesignatorKind::Vendor => "vendor.",
            DesignatorKind::Other(_) => "other.",
        };
        f.write_str(kind)?;
        for byte in &self.name {
            match (self.text, byte) {
                (true, 0x20..=0x7e) => write!(f, "{}", char::from(*byte))?,
                (true, _) => f.write_str("?")?,
                (false, _) => write!(f, "{byte:02x}")?,
            }
        }
        Ok(())
    }
}

/// The designators of the logical unit itself on page 83h, best kind first.
pub fn parse_designators(data: &[u8]) -> Vec<Designator, DESIGNATORS_MAX> {
    let mut found: Vec<Designator, DESIGNATORS_MAX> = Vec::new();
    let mut rest = page_body(data, PAGE_IDENTIFICATION).unwrap_or(&[]);
    while let Some([codes, kind, _, len]) = array::<4>(rest, 0) {
        let body = rest.get(4..).unwrap_or(&[]);
        let whole = body.get(..usize::from(len));
        let association = (kind >> 4) & 3;
        if let Some(name) = whole.filter(|name| association == 0 && !name.is_empty()) {
            let kept = name.get(..NAME_MAX).unwrap_or(name);
            let designator = Designator {
                kind: match kind & 0xf {
                    0 => DesignatorKind::Vendor,
                    1 => DesignatorKind::T10Vendor,
                    2 => DesignatorKind::Eui64,
                    3 => DesignatorKind::Naa,
                    8 => DesignatorKind::NameString,
                    other => DesignatorKind::Other(other),
                },
                name: Vec::from_slice(kept).unwrap_or_default(),
                text: codes & 0xf != 1,
            };
            if found.push(designator).is_err() {
                break;
            }
        }
        rest = body.get(usize::from(len)..).unwrap_or(&[]);
    }
    found.sort_unstable_by_key(|designator| designator.kind);
    found
}

/// The serial number on page 80h, without the blanks around it.
pub fn parse_serial(data: &[u8]) -> Option<Vec<u8, NAME_MAX>> {
    let serial = page_body(data, PAGE_SERIAL)?.trim_ascii();
    let kept = serial.get(..NAME_MAX).unwrap_or(serial);
    Vec::from_slice(kept).ok()
}

/// Whether page 00h lists a page.
pub fn lists_page(data: &[u8], page: u8) -> bool {
    page_body(data, PAGE_SUPPORTED).is_some_and(|pages| pages.contains(&page))
}

/// Limits on page B0h; 0 means the unit states none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockLimits {
    /// Largest transfer, blocks.
    pub transfer_blocks_max: u32,
    /// Best transfer, blocks.
    pub transfer_blocks_best: u32,
    /// Largest COMPARE AND WRITE, blocks; 0: not offered.
    pub compare_and_write_blocks_max: u8,
}

impl BlockLimits {
    /// Reads page B0h.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let body = page_body(data, PAGE_BLOCK_LIMITS)?;
        Some(Self {
            compare_and_write_blocks_max: *body.get(1)?,
            transfer_blocks_max: be32(body, 4)?,
            transfer_blocks_best: be32(body, 8)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn standard_data_golden() {
        let mut data = [0u8; 36];
        data[8..16].copy_from_slice(b"QEMU    ");
        data[16..32].copy_from_slice(b"QEMU HARDDISK   ");
        data[32..36].copy_from_slice(b"2.5+");
        let inquiry = Inquiry::parse(&data).unwrap();
        assert!(inquiry.is_disk());
        assert_eq!(&inquiry.product, b"QEMU HARDDISK   ");
        data[0] = 0x7f;
        assert!(!Inquiry::parse(&data).unwrap().is_disk());
        assert_eq!(Inquiry::parse(&data[..35]), None);
    }

    #[test]
    fn page_83_golden() {
        let data = [
            0, 0x83, 0, 42, //
            2, 0, 0, 2, b'd', b'0', // vendor text
            2, 1, 0, 8, b'Q', b'E', b'M', b'U', b' ', b' ', b' ', b' ', // T10
            1, 0x93, 0, 2, 9, 9, // NAA of the target port: not this unit
            1, 3, 0, 8, 0x50, 0, 0xc5, 0, 1, 2, 3, 4, // NAA
            1, 2, 0, 2, 0xee, 0xff, // EUI
        ];
        let found = parse_designators(&data);
        assert_eq!(found.len(), 4);
        assert_eq!(found[0].to_string(), "naa.5000c50001020304");
        assert_eq!(found[1].to_string(), "eui.eeff");
        assert_eq!(found[2].to_string(), "t10.QEMU    ");
        assert_eq!(found[3].to_string(), "vendor.d0");
    }

    #[test]
    fn a_cut_designator_is_not_a_name() {
        let data = [0, 0x83, 0, 12, 1, 3, 0, 8, 0x50, 0];
        assert!(parse_designators(&data).is_empty());
        assert!(parse_designators(&[0, 0x80, 0, 0]).is_empty());
    }

    #[test]
    fn pages_00_80_b0_golden() {
        assert!(lists_page(&[0, 0, 0, 3, 0, 0x80, 0x83], 0x83));
        assert!(!lists_page(&[0, 0, 0, 2, 0, 0x80, 0x83], 0x83));
        assert_eq!(parse_serial(b"\0\x80\0\x06  s1  ").unwrap(), b"s1");
        assert_eq!(parse_serial(b"\0\x83\0\x01x"), None);
        let mut data = [0u8; 64];
        data[1] = 0xb0;
        data[3] = 0x3c;
        data[5] = 1;
        data[10..12].copy_from_slice(&[1, 0]);
        data[15] = 8;
        let limits = BlockLimits::parse(&data).unwrap();
        assert_eq!(limits.transfer_blocks_max, 256);
        assert_eq!(limits.transfer_blocks_best, 8);
        assert_eq!(limits.compare_and_write_blocks_max, 1);
    }

    proptest! {
            #[test]
            fn any_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..400), page: bool) {
                let mut data = data;
    if let Some(byte) = data.get_mut(1).filter(|_| page) {
                    *byte = 0x83;
                }
                let _ = Inquiry::parse(&data);
                for designator in parse_designators(&data) {
                    let _ = designator.to_string();
                }
                let _ = parse_serial(&data);
                let _ = lists_page(&data, 0x83);
                let _ = BlockLimits::parse(&data);
            }
        }
}
