//! GUID partition table: finds partitions by type GUID. (UEFI 2.10 § 5.3)
//!
//! [`Search`] is a machine: it names blocks to read and is fed their contents. The protective MBR is
//! ignored. The primary header is believed if its signature, sizes, own address and both CRCs are
//! right; else the backup in the last block is asked, which stands on its own. What the entries say is
//! checked against the unit's size before it is passed on.

use crate::bytes::{array, le32, le64};
use crate::capacity::Geometry;
use core::fmt;
use crc::{CRC_32_ISO_HDLC, Crc, Digest};
use heapless::Vec;

static CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// Partitions of one type on one unit that are reported.
pub const PARTITIONS_MAX: usize = 8;
/// Entries of a table that are accepted; tables have 128.
const ENTRIES_MAX: u32 = 4096;
/// Bytes read at once.
const CHUNK_BYTES: u32 = 32 * 1024;
const SIGNATURE: &[u8; 8] = b"EFI PART";
const HEADER_BYTES_MIN: u32 = 92;
const ENTRY_BYTES_MIN: u32 = 128;

/// A GUID in the byte order of the disk (first three fields little-endian).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// From the number that the GUID's text spells.
    pub const fn from_u128(number: u128) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = number.to_be_bytes();
        let [i, j, k, l, m, n, o, p] = rest;
        Self([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([d, c, b, a, ff, e, h, g, tail @ ..]) = self;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}-{e:02x}{ff:02x}-{g:02x}{h:02x}-")?;
        for (i, byte) in tail.iter().enumerate() {
            write!(f, "{}{byte:02x}", if i == 2 { "-" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its own GUID.
    pub unique: Guid,
    /// First block.
    pub first_lba: u64,
    /// Blocks.
    pub blocks: u64,
}

/// Why a copy of the table is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GptError {
    /// A block could not be read.
    Unreadable,
    /// No signature: there is no table here.
    NoTable,
    /// A size, address or count in the header is impossible.
    BadHeader,
    /// The header's CRC is wrong.
    HeaderCrc,
    /// The CRC over the entries is wrong.
    EntriesCrc,
    /// An entry of the type sought lies outside the unit.
    BadEntry,
    /// More partitions of the type sought than are reported.
    TooMany,
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The partitions of the type sought; maybe none.
    pub partitions: Vec<Partition, PARTITIONS_MAX>,
    /// Why the primary table was not believed, if it was the backup that answered.
    pub primary_damage: Option<GptError>,
}

/// Both copies failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoGpt {
    /// The copy in block 1.
    pub primary: GptError,
    /// The copy in the last block.
    pub backup: GptError,
}

/// What the search wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is no heap to box into")]
pub enum Next {
    /// Read these blocks and call [`Search::on_blocks`].
    Read {
        /// First block.
        lba: u64,
        /// Blocks.
        blocks: u32,
    },
    /// The end.
    Done(Result<Found, NoGpt>),
}

#[derive(Clone)]
struct Entries {
    lba: u64,
    bytes_left: u32,
    entry_bytes: u32,
    crc: u32,
    digest: Digest<'static, u32>,
    partitions: Vec<Partition, PARTITIONS_MAX>,
    /// Judged only after the CRC: a damaged table is damage, not a bad entry.
    bad: Option<GptError>,
}

#[derive(Clone)]
enum Phase {
    Header,
    Entries(Entries),
    Done(Result<Found, NoGpt>),
}

/// The search for one type of partition on one unit.
#[derive(Clone)]
pub struct Search {
    kind: Guid,
    geometry: Geometry,
    primary_damage: Option<GptError>,
    phase: Phase,
}

impl Search {
    /// Starts a search for partitions of type `kind`.
    pub fn new(kind: Guid, geometry: Geometry) -> Self {
        Self { kind, geometry, primary_damage: None, phase: Phase::Header }
    }

    /// What to do next.
    pub fn next(&self) -> Next {
        match &self.phase {
            Phase::Header => Next::Read { lba: self.header_lba(), blocks: 1 },
            Phase::Entries(entries) => Next::Read { lba: entries.lba, blocks: self.chunk_blocks(entries) },
            Phase::Done(result) => Next::Done(result.clone()),
        }
    }

    /// The blocks asked for, or `None` if they could not be read.
    pub fn on_blocks(&mut self, data: Option<&[u8]>) {
        let result = match (&self.phase, data) {
            (Phase::Done(_), _) => return,
            (_, None) => Err(GptError::Unreadable),
            (Phase::Header, Some(data)) => self.on_header(data),
            (Phase::Entries(entries), Some(data)) => {
                let entries = entries.clone();
                self.on_entries(entries, data)
            }
        };
        match result {
            Ok(phase) => self.phase = phase,
            Err(error) => self.on_damage(error),
        }
    }

    fn on_damage(&mut self, error: GptError) {
        self.phase = match self.primary_damage {
            None => {
                self.primary_damage = Some(error);
                Phase::Header
            }
            Some(primary) => Phase::Done(Err(NoGpt { primary, backup: error })),
        };
    }

    fn header_lba(&self) -> u64 {
        match self.primary_damage {
            None => 1,
            Some(_) => self.geometry.blocks.saturating_sub(1),
        }
    }

    fn chunk_blocks(&self, entries: &Entries) -> u32 {
        entries.bytes_left.min(CHUNK_BYTES).div_ceil(self.geometry.block_bytes.max(1))
    }

    fn on_header(&self, block: &[u8]) -> Result<Phase, GptError> {
        if block.get(..8) != Some(SIGNATURE) {
            return Err(GptError::NoTable);
        }
        let field = |offset| le32(block, offset).ok_or(GptError::BadHeader);
        let wide = |offset| le64(block, offset).ok_or(GptError::BadHeader);
        let size = field(12)?;
        if size < HEADER_BYTES_MIN || size > self.geometry.block_bytes {
            return Err(GptError::BadHeader);
        }
        let header = block.get(..size as usize).ok_or(GptError::BadHeader)?;
        if header_crc(header) != field(16)? {
            return Err(GptError::HeaderCrc);
        }
        let entry_bytes = field(84)?;
        let bytes = field(80)?.checked_mul(entry_bytes).filter(|_| (1..=ENTRIES_MAX).contains(&field(80).unwrap_or(0)));
        // Entries are powers of two and never straddle a block.
        let sound = entry_bytes.is_power_of_two()
            && (ENTRY_BYTES_MIN..=self.geometry.block_bytes).contains(&entry_bytes)
            && wide(24)? == self.header_lba();
        let lba = wide(72)?;
        let bytes = bytes.filter(|_| sound).ok_or(GptError::BadHeader)?;
        let blocks = u64::from(bytes.div_ceil(self.geometry.block_bytes));
        let end = lba.checked_add(blocks).ok_or(GptError::BadHeader)?;
        if lba < 2 || end > self.geometry.blocks {
            return Err(GptError::BadHeader);
        }
        Ok(Phase::Entries(Entries {
            lba,
            bytes_left: bytes,
            entry_bytes,
            crc: field(88)?,
            digest: CRC32.digest(),
            partitions: Vec::new(),
            bad: None,
        }))
    }

    fn on_entries(&self, mut entries: Entries, data: &[u8]) -> Result<Phase, GptError> {
        let blocks = self.chunk_blocks(&entries);
        let wanted = entries.bytes_left.min(blocks * self.geometry.block_bytes);
        let chunk = data.get(..wanted as usize).ok_or(GptError::Unreadable)?;
        entries.digest.update(chunk);
        for entry in chunk.chunks_exact(entries.entry_bytes as usize) {
            if array(entry, 0) == Some(self.kind.0) {
                match self.partition(entry) {
                    None => entries.bad = entries.bad.or(Some(GptError::BadEntry)),
                    Some(partition) => {
                        if entries.partitions.push(partition).is_err() {
                            entries.bad = entries.bad.or(Some(GptError::TooMany));
                        }
                    }
                }
            }
        }
        entries.bytes_left -= wanted;
        entries.lba += u64::from(blocks);
        if entries.bytes_left > 0 {
            return Ok(Phase::Entries(entries));
        }
        if entries.digest.finalize() != entries.crc {
            return Err(GptError::EntriesCrc);
        }
        match entries.bad {
            Some(error) => Err(error),
            None => Ok(Phase::Done(Ok(Found { partitions: entries.partitions, primary_damage: self.primary_damage }))),
        }
    }

    fn partition(&self, entry: &[u8]) -> Option<Partition> {
        let (first, last) = (le64(entry, 32)?, le64(entry, 40)?);
        if first < 2 || last < first || last >= self.geometry.blocks {
            return None;
        }
        Some(Partition { unique: Guid(array(entry, 16)?), first_lba: first, blocks: last - first + 1 })
    }
}

/// CRC of a header with its CRC field taken as zero.
fn header_crc(header: &[u8]) -> u32 {
    let mut digest = CRC32.digest();
    digest.update(header.get(..16).unwrap_or(&[]));
    digest.update(&[0; 4]);
    digest.update(header.get(20..).unwrap_or(&[]));
    digest.finalize()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec;
    use std::vec::Vec as StdVec;

    pub(crate) const KIND: Guid = Guid::from_u128(0x51554f52_4154_4531_8000_00504152544e);

    /// A disk image with one partition of `KIND` as entry 3.
    pub(crate) fn image(block: usize, blocks: usize, first: u64, last: u64) -> StdVec<u8> {
        let mut disk = vec![0u8; block * blocks];
        let table_blocks = (128 * 128) / block;
        let mut table = vec![0u8; 128 * 128];
        table[3 * 128..3 * 128 + 16].copy_from_slice(&KIND.0);
        table[3 * 128 + 16..3 * 128 + 32].copy_from_slice(&[7; 16]);
        table[3 * 128 + 32..3 * 128 + 40].copy_from_slice(&first.to_le_bytes());
        table[3 * 128 + 40..3 * 128 + 48].copy_from_slice(&last.to_le_bytes());
        let backup_table = blocks - 1 - table_blocks;
        for (lba, other, entries) in [(1, blocks - 1, 2), (blocks - 1, 1, backup_table)] {
            let mut header = [0u8; 92];
            header[..8].copy_from_slice(SIGNATURE);
            header[8..12].copy_from_slice(&0x1_0000u32.to_le_bytes());
            header[12..16].copy_from_slice(&92u32.to_le_bytes());
            header[24..32].copy_from_slice(&(lba as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(other as u64).to_le_bytes());
            header[40..48].copy_from_slice(&((2 + table_blocks) as u64).to_le_bytes());
            header[48..56].copy_from_slice(&((backup_table - 1) as u64).to_le_bytes());
            header[72..80].copy_from_slice(&(entries as u64).to_le_bytes());
            header[80..84].copy_from_slice(&128u32.to_le_bytes());
            header[84..88].copy_from_slice(&128u32.to_le_bytes());
            header[88..92].copy_from_slice(&CRC32.checksum(&table).to_le_bytes());
            let crc = header_crc(&header);
            header[16..20].copy_from_slice(&crc.to_le_bytes());
            disk[lba * block..lba * block + 92].copy_from_slice(&header);
            disk[entries * block..entries * block + table.len()].copy_from_slice(&table);
        }
        disk
    }

    fn run(disk: &[u8], block: u32) -> Result<Found, NoGpt> {
        let geometry = Geometry { blocks: disk.len() as u64 / u64::from(block), block_bytes: block };
        let mut search = Search::new(KIND, geometry);
        for _ in 0..100 {
            match search.next() {
                Next::Done(result) => return result,
                Next::Read { lba, blocks } => {
                    assert!(blocks * block <= CHUNK_BYTES);
                    let start = lba as usize * block as usize;
                    search.on_blocks(disk.get(start..start + (blocks * block) as usize));
                }
            }
        }
        panic!("the search does not end");
    }

    #[test]
    fn guid_text_and_bytes() {
        let guid = Guid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
        assert_eq!(guid.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(guid.0[..8], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]);
    }

    #[test]
    fn the_partition_is_found_on_both_block_sizes() {
        for (block, blocks) in [(512usize, 4096usize), (4096, 512)] {
            let found = run(&image(block, blocks, 64, 255), block as u32).unwrap();
            assert_eq!(found.primary_damage, None);
            assert_eq!(found.partitions, [Partition { unique: Guid([7; 16]), first_lba: 64, blocks: 192 }]);
        }
    }

    #[test]
    fn a_damaged_primary_is_answered_by_the_backup() {
        let good = image(512, 4096, 64, 255);
        for (offset, error) in [
            (512, GptError::NoTable),
            (512 + 60, GptError::HeaderCrc),
            (512 + 12, GptError::HeaderCrc),
            (2 * 512 + 5000, GptError::EntriesCrc),
        ] {
            let mut disk = good.clone();
            disk[offset] ^= 1;
            let found = run(&disk, 512).unwrap();
            assert_eq!(found.primary_damage, Some(error), "offset {offset}");
            assert_eq!(found.partitions.len(), 1);
        }
    }

    #[test]
    fn no_table_is_an_error_and_no_partition_is_not() {
        assert_eq!(run(&[0; 512 * 100], 512), Err(NoGpt { primary: GptError::NoTable, backup: GptError::NoTable }));
        let mut disk = image(512, 4096, 64, 255);
        // The same table, another type sought: flip the type in both copies and mend the sums.
        let other = image(512, 4096, 64, 255);
        disk.copy_from_slice(&other);
        let geometry = Geometry { blocks: 4096, block_bytes: 512 };
        let mut search = Search::new(Guid([1; 16]), geometry);
        while let Next::Read { lba, blocks } = search.next() {
            let start = lba as usize * 512;
            search.on_blocks(disk.get(start..start + blocks as usize * 512));
        }
        let Next::Done(Ok(found)) = search.next() else { panic!() };
        assert!(found.partitions.is_empty());
    }

    #[test]
    fn a_partition_outside_the_unit_is_refused() {
        for (first, last) in [(64, 4096), (255, 64), (0, 10)] {
            assert_eq!(
                run(&image(512, 4096, first, last), 512),
                Err(NoGpt { primary: GptError::BadEntry, backup: GptError::BadEntry })
            );
        }
    }

    #[test]
    fn an_unreadable_disk_is_named() {
        let geometry = Geometry { blocks: 100, block_bytes: 512 };
        let mut search = Search::new(KIND, geometry);
        search.on_blocks(None);
        search.on_blocks(None);
        assert_eq!(
            search.next(),
            Next::Done(Err(NoGpt { primary: GptError::Unreadable, backup: GptError::Unreadable }))
        );
    }

    proptest! {
        #[test]
        fn any_damage_never_panics(
            at in proptest::collection::vec((512usize..512 * 34, any::<u8>()), 1..8),
            mend: bool,
        ) {
            let mut disk = image(512, 200, 64, 100);
            for (offset, value) in at {
                disk[offset] = value;
            }
            if mend {
                // So that fields behind the checksum are reached.
                let crc = header_crc(&disk[512..512 + 92]);
                disk[512 + 16..512 + 20].copy_from_slice(&crc.to_le_bytes());
            }
            let _ = run(&disk, 512);
        }

        #[test]
        fn any_header_never_panics(fields in proptest::collection::vec(any::<u8>(), 80)) {
            let mut disk = vec![0u8; 512 * 64];
            disk[512..520].copy_from_slice(SIGNATURE);
            disk[524..528].copy_from_slice(&92u32.to_le_bytes());
            disk[512 + 20..512 + 100].copy_from_slice(&fields);
            disk[512 + 24..512 + 32].copy_from_slice(&1u64.to_le_bytes());
            let crc = header_crc(&disk[512..512 + 92]);
            disk[512 + 16..512 + 20].copy_from_slice(&crc.to_le_bytes());
            let _ = run(&disk, 512);
        }
    }
}
