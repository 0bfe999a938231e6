//! READ CAPACITY and REPORT LUNS parameter data. (SBC-3 § 5.15, 5.16; SPC-4 § 6.33)

use crate::bytes::{array, be32, be64};
use heapless::Vec;

/// Logical units of one target that are looked at.
pub const LUNS_MAX: usize = 32;

/// Size of a logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Logical blocks.
    pub blocks: u64,
    /// Bytes of a logical block: 512 or 4096.
    pub block_bytes: u32,
}

/// Why capacity data is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapacityError {
    /// The data is cut short.
    Short,
    /// READ CAPACITY(10) cannot express the size; the 16-byte form must be asked.
    NeedsSixteen,
    /// Blocks of a size other than 512 or 4096 bytes.
    BlockBytes(u32),
    /// The last block address is the largest there is: no count fits.
    TooLarge,
}

fn checked(last: u64, block_bytes: u32) -> Result<Geometry, CapacityError> {
    if block_bytes != 512 && block_bytes != 4096 {
        return Err(CapacityError::BlockBytes(block_bytes));
    }
    let blocks = last.checked_add(1).ok_or(CapacityError::TooLarge)?;
    Ok(Geometry { blocks, block_bytes })
}

/// READ CAPACITY(10) data.
///
/// # Errors
/// Every [`CapacityError`] but `TooLarge`.
pub fn parse_capacity_10(data: &[u8]) -> Result<Geometry, CapacityError> {
    let last = be32(data, 0).ok_or(CapacityError::Short)?;
    let block_bytes = be32(data, 4).ok_or(CapacityError::Short)?;
    if last == u32::MAX {
        return Err(CapacityError::NeedsSixteen);
    }
    checked(u64::from(last), block_bytes)
}

/// READ CAPACITY(16) data.
///
/// # Errors
/// Every [`CapacityError`] but `NeedsSixteen`.
pub fn parse_capacity_16(data: &[u8]) -> Result<Geometry, CapacityError> {
    let last = be64(data, 0).ok_or(CapacityError::Short)?;
    let block_bytes = be32(data, 8).ok_or(CapacityError::Short)?;
    checked(last, block_bytes)
}

/// REPORT LUNS data: the single-level LUNs in peripheral or flat addressing; others are skipped.
pub fn parse_luns(data: &[u8]) -> Vec<u16, LUNS_MAX> {
    let mut luns = Vec::new();
    let bytes = be32(data, 0).unwrap_or(0) as usize;
    let list = data.get(8..).unwrap_or(&[]);
    let list = list.get(..bytes).unwrap_or(list);
    for entry in list.chunks_exact(8) {
        let Some([high, low, deeper @ ..]) = array::<8>(entry, 0) else {
            continue;
        };
        if deeper != [0; 6] {
            continue;
        }
        let lun = match high >> 6 {
            // Peripheral device addressing on bus 0.
            0 if high == 0 => u16::from(low),
            // Flat space addressing.
            1 => u16::from(high & 0x3f) << 8 | u16::from(low),
            _ => continue,
        };
        if !luns.contains(&lun) && luns.push(lun).is_err() {
            break;
        }
    }
    luns
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn capacity_10_golden() {
        assert_eq!(
            parse_capacity_10(&[0, 1, 0xff, 0xff, 0, 0, 2, 0]),
            Ok(Geometry { blocks: 0x2_0000, block_bytes: 512 })
        );
        assert_eq!(parse_capacity_10(&[0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]), Err(CapacityError::NeedsSixteen));
        assert_eq!(parse_capacity_10(&[0; 7]), Err(CapacityError::Short));
    }

    #[test]
    fn capacity_16_golden() {
        let mut data = [0; 32];
        data[3] = 1;
        data[10] = 0x10;
        assert_eq!(parse_capacity_16(&data), Ok(Geometry { blocks: (1 << 32) + 1, block_bytes: 4096 }));
        data[10] = 0x02;
        data[11] = 0x08;
        assert_eq!(parse_capacity_16(&data), Err(CapacityError::BlockBytes(520)));
        data = [0xff; 32];
        data[8..12].copy_from_slice(&[0, 0, 2, 0]);
        assert_eq!(parse_capacity_16(&data), Err(CapacityError::TooLarge));
    }

    #[test]
    fn luns_golden() {
        let mut data = [0u8; 48];
        data[3] = 40;
        data[17] = 5; // peripheral 5
        data[24..26].copy_from_slice(&[0x41, 0x02]); // flat 0x102
        data[32] = 0xc1; // well-known: skipped
        data[41] = 1;
        data[43] = 9; // second level: skipped
        assert_eq!(parse_luns(&data), [0, 5, 0x102]);
        assert_eq!(parse_luns(&data[..20]), [0]);
        assert!(parse_luns(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse_luns(&data);
            let _ = parse_capacity_10(&data);
            let _ = parse_capacity_16(&data);
        }
    }
}
