//! Command descriptor blocks. (SPC-4 § 6, SBC-3 § 5)

/// A command descriptor block of 6, 10 or 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cdb {
    bytes: [u8; 16],
    len: u8,
}

/// SYNCHRONIZE CACHE(10)'s and others' bit: force unit access, byte 1.
const FUA: u8 = 1 << 3;

impl Cdb {
    fn new<const N: usize>(content: [u8; N]) -> Self {
        const { assert!(N <= 16) };
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(content) {
            *to = from;
        }
        Self { bytes, len: N as u8 }
    }

    /// The bytes as they go to the device.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// TEST UNIT READY.
    pub fn test_unit_ready() -> Self {
        Self::new([0; 6])
    }

    /// INQUIRY, standard data, at most `allocation` bytes.
    pub fn inquiry(allocation: u16) -> Self {
        let [a, b] = allocation.to_be_bytes();
        Self::new([0x12, 0, 0, a, b, 0])
    }

    /// INQUIRY for a vital product data page.
    pub fn inquiry_vpd(page: u8, allocation: u16) -> Self {
        let [a, b] = allocation.to_be_bytes();
        Self::new([0x12, 1, page, a, b, 0])
    }

    /// REPORT LUNS of all logical units but the well-known ones. Padded to the 12 bytes of its form.
    pub fn report_luns(allocation: u32) -> Self {
        let [a, b, c, d] = allocation.to_be_bytes();
        Self::new([0xa0, 0, 0, 0, 0, 0, a, b, c, d, 0, 0])
    }

    /// READ CAPACITY(10).
    pub fn read_capacity_10() -> Self {
        Self::new([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// READ CAPACITY(16).
    pub fn read_capacity_16(allocation: u32) -> Self {
        let [a, b, c, d] = allocation.to_be_bytes();
        Self::new([0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d, 0, 0])
    }

    /// READ(10), or READ(16) where the address or the count needs it.
    pub fn read(lba: u64, blocks: u32) -> Self {
        Self::transfer(0x28, 0x88, 0, lba, blocks)
    }

    /// WRITE(10), or WRITE(16); `fua`: on the medium before it is answered.
    pub fn write(lba: u64, blocks: u32, fua: bool) -> Self {
        Self::transfer(0x2a, 0x8a, if fua { FUA } else { 0 }, lba, blocks)
    }

    fn transfer(short: u8, long: u8, flags: u8, lba: u64, blocks: u32) -> Self {
        match (u32::try_from(lba), u16::try_from(blocks)) {
            (Ok(lba), Ok(blocks)) => {
                let [l0, l1, l2, l3] = lba.to_be_bytes();
                let [n0, n1] = blocks.to_be_bytes();
                Self::new([short, flags, l0, l1, l2, l3, 0, n0, n1, 0])
            }
            _ => {
                let [l0, l1, l2, l3, l4, l5, l6, l7] = lba.to_be_bytes();
                let [n0, n1, n2, n3] = blocks.to_be_bytes();
                Self::new([long, flags, l0, l1, l2, l3, l4, l5, l6, l7, n0, n1, n2, n3, 0, 0])
            }
        }
    }

    /// SYNCHRONIZE CACHE(10) of a range; of everything where the range does not fit the form.
    pub fn synchronize_cache(lba: u64, blocks: u32) -> Self {
        let (lba, blocks) = match (u32::try_from(lba), u16::try_from(blocks)) {
            (Ok(lba), Ok(blocks)) => (lba, blocks),
            // Count 0 means: from here to the end.
            _ => (0, 0),
        };
        let [l0, l1, l2, l3] = lba.to_be_bytes();
        let [n0, n1] = blocks.to_be_bytes();
        Self::new([0x35, 0, l0, l1, l2, l3, 0, n0, n1, 0])
    }

    /// PERSISTENT RESERVE IN; see [`crate::reservation::Report`].
    pub fn persistent_reserve_in(action: u8, allocation: u16) -> Self {
        let [a, b] = allocation.to_be_bytes();
        Self::new([0x5e, action & 0x1f, 0, 0, 0, 0, 0, a, b, 0])
    }

    /// PERSISTENT RESERVE OUT with a parameter list of `len` bytes; see [`crate::reservation::Change`].
    pub fn persistent_reserve_out(action: u8, scope_and_type: u8, len: u32) -> Self {
        let [a, b, c, d] = len.to_be_bytes();
        Self::new([0x5f, action & 0x1f, scope_and_type, 0, 0, a, b, c, d, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_spc_4() {
        assert_eq!(Cdb::test_unit_ready().as_bytes(), [0; 6]);
        assert_eq!(Cdb::inquiry(96).as_bytes(), [0x12, 0, 0, 0, 96, 0]);
        assert_eq!(Cdb::inquiry_vpd(0x83, 0x1ff).as_bytes(), [0x12, 1, 0x83, 1, 0xff, 0]);
        assert_eq!(Cdb::report_luns(0x1000).as_bytes(), [0xa0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0]);
    }

    #[test]
    fn golden_bytes_sbc_3() {
        assert_eq!(Cdb::read_capacity_10().as_bytes(), [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Cdb::read_capacity_16(32).as_bytes(), [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]);
        assert_eq!(Cdb::read(0x0102_0304, 0x0506).as_bytes(), [0x28, 0, 1, 2, 3, 4, 0, 5, 6, 0]);
        assert_eq!(Cdb::write(1000, 1, true).as_bytes(), [0x2a, 8, 0, 0, 3, 0xe8, 0, 0, 1, 0]);
        assert_eq!(Cdb::write(1000, 1, false).as_bytes(), [0x2a, 0, 0, 0, 3, 0xe8, 0, 0, 1, 0]);
        assert_eq!(Cdb::synchronize_cache(1000, 1).as_bytes(), [0x35, 0, 0, 0, 3, 0xe8, 0, 0, 1, 0]);
        assert_eq!(Cdb::synchronize_cache(1 << 32, 1).as_bytes(), [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn sixteen_byte_forms_where_ten_do_not_reach() {
        assert_eq!(
            Cdb::read(0x0001_0203_0405_0607, 0x0809_0a0b).as_bytes(),
            [0x88, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 0]
        );
        assert_eq!(Cdb::write(0, 0x1_0000, true).as_bytes()[..2], [0x8a, 8]);
        assert_eq!(Cdb::read(u64::from(u32::MAX), 1).as_bytes().len(), 10);
    }
}
