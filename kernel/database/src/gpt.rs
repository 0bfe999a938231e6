//! The GUID partition table, as far as a membership database is found by it (UEFI 2.10 § 5.3). Parsing and building of
//! blocks only; who reads them is elsewhere.
//!
//! The header stands at block 1 and, as a backup, at the last block of the disk; each has its own copy of the entries.
//! Invariant: nothing from the disk is followed before it was bounded, so that any bytes give an error and no panic.

use core::fmt;
use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};
use quorate_base::capacity::RECORD_PITCH;

use crate::layout::{PARTITION_BYTES, PARTITION_TYPE};

static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// Bytes of a header that count.
pub const HEADER_BYTES: usize = 92;
/// Bytes of an entry that have a meaning.
pub const ENTRY_BYTES: usize = 128;
/// Bytes of a table of entries at most: eight times what the standard asks for at least.
pub const TABLE_BYTES_MAX: u64 = 128 * 1024;

const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;

/// Why bytes are no partition table, or not one with a membership database.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GptError {
    /// No signature.
    Signature,
    /// The header's checksum does not fit.
    HeaderChecksum,
    /// The header belongs to another block.
    Misplaced,
    /// A field holds a value that cannot be.
    Field(&'static str),
    /// The checksum of the entries does not fit.
    TableChecksum,
    /// No partition is a membership database.
    NoDatabase,
    /// More than one partition is a membership database.
    TwoDatabases,
    /// The database's partition is too small, not inside the usable blocks, or not aligned to 4096 bytes.
    BadPlace,
}

impl fmt::Display for GptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature => f.write_str("no GPT header"),
            Self::HeaderChecksum => f.write_str("wrong checksum of the GPT header"),
            Self::Misplaced => f.write_str("the GPT header belongs to another block"),
            Self::Field(name) => write!(f, "impossible value in field {name} of the GPT header"),
            Self::TableChecksum => f.write_str("wrong checksum of the GPT entries"),
            Self::NoDatabase => f.write_str("no partition is a membership database"),
            Self::TwoDatabases => f.write_str("more than one partition is a membership database"),
            Self::BadPlace => f.write_str(
                "the membership database's partition is too small, outside of the disk, or not 4096-aligned",
            ),
        }
    }
}

impl core::error::Error for GptError {}

/// A header, primary or backup.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// The block it stands in.
    pub at: u64,
    /// The block of the other header.
    pub other: u64,
    /// First block that partitions may use.
    pub first_usable: u64,
    /// Last block that partitions may use.
    pub last_usable: u64,
    /// The disk's GUID as on disk.
    pub disk_guid: [u8; 16],
    /// First block of its entries.
    pub table: u64,
    /// How many entries.
    pub entries: u32,
    /// Bytes from one entry to the next.
    pub entry_bytes: u32,
    /// Checksum of all entries.
    pub table_crc: u32,
}

impl Header {
    /// What stands in `block`, read from block number `at`.
    ///
    /// # Errors
    /// If it is no header, is damaged, or says what cannot be.
    pub fn decode(block: &[u8], at: u64) -> Result<Self, GptError> {
        let raw = block.first_chunk::<HEADER_BYTES>().ok_or(GptError::Signature)?;
        if !raw.starts_with(SIGNATURE) {
            return Err(GptError::Signature);
        }
        let len = u32_at(raw, 12) as usize;
        let counted = block.get(..len).filter(|_| len >= HEADER_BYTES).ok_or(GptError::Field("header_size"))?;
        let mut digest = CRC.digest();
        digest.update(&counted[..16]);
        digest.update(&[0; 4]);
        digest.update(&counted[20..]);
        if digest.finalize() != u32_at(raw, 16) {
            return Err(GptError::HeaderChecksum);
        }
        let header = Self {
            at: u64_at(raw, 24),
            other: u64_at(raw, 32),
            first_usable: u64_at(raw, 40),
            last_usable: u64_at(raw, 48),
            disk_guid: guid_at(raw, 56),
            table: u64_at(raw, 72),
            entries: u32_at(raw, 80),
            entry_bytes: u32_at(raw, 84),
            table_crc: u32_at(raw, 88),
        };
        if header.at != at {
            return Err(GptError::Misplaced);
        }
        if !header.entry_bytes.is_power_of_two() || header.entry_bytes < ENTRY_BYTES as u32 {
            return Err(GptError::Field("entry_bytes"));
        }
        if header.entries == 0 || header.table_bytes() > TABLE_BYTES_MAX {
            return Err(GptError::Field("entries"));
        }
        if header.first_usable > header.last_usable {
            return Err(GptError::Field("usable"));
        }
        Ok(header)
    }

    /// The first [`HEADER_BYTES`] of its block; the rest of the block is zeros.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut raw = [0; HEADER_BYTES];
        raw[..8].copy_from_slice(SIGNATURE);
        raw[8..12].copy_from_slice(&REVISION.to_le_bytes());
        raw[12..16].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
        raw[24..32].copy_from_slice(&self.at.to_le_bytes());
        raw[32..40].copy_from_slice(&self.other.to_le_bytes());
        raw[40..48].copy_from_slice(&self.first_usable.to_le_bytes());
        raw[48..56].copy_from_slice(&self.last_usable.to_le_bytes());
        raw[56..72].copy_from_slice(&self.disk_guid);
        raw[72..80].copy_from_slice(&self.table.to_le_bytes());
        raw[80..84].copy_from_slice(&self.entries.to_le_bytes());
        raw[84..88].copy_from_slice(&self.entry_bytes.to_le_bytes());
        raw[88..92].copy_from_slice(&self.table_crc.to_le_bytes());
        let sum = CRC.checksum(&raw);
        raw[16..20].copy_from_slice(&sum.to_le_bytes());
        raw
    }

    /// Bytes of all its entries.
    pub const fn table_bytes(&self) -> u64 {
        self.entries as u64 * self.entry_bytes as u64
    }
}

/// One partition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    /// Its type's GUID as on disk.
    pub kind: [u8; 16],
    /// Its own GUID as on disk.
    pub guid: [u8; 16],
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
}

impl Entry {
    /// What stands in an entry; `None` if it is unused (or cut short).
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let raw = bytes.first_chunk::<ENTRY_BYTES>()?;
        let kind = guid_at(raw, 0);
        (kind != [0; 16]).then(|| Self { kind, guid: guid_at(raw, 16), first: u64_at(raw, 32), last: u64_at(raw, 40) })
    }

    /// Its bytes, with a name of at most 36 ASCII characters.
    pub fn encode(&self, name: &str) -> [u8; ENTRY_BYTES] {
        let mut raw = [0; ENTRY_BYTES];
        raw[..16].copy_from_slice(&self.kind);
        raw[16..32].copy_from_slice(&self.guid);
        raw[32..40].copy_from_slice(&self.first.to_le_bytes());
        raw[40..48].copy_from_slice(&self.last.to_le_bytes());
        for (to, from) in raw[56..].chunks_exact_mut(2).zip(name.bytes()) {
            to[0] = from;
        }
        raw
    }
}

/// Looks for the one partition of a type (a membership database, or what is asked for) while the entries are read piece by
/// piece, and checks their checksum.
#[derive(Clone)]
pub struct Search {
    header: Header,
    block_bytes: u32,
    kind: [u8; 16],
    bytes_min: u64,
    digest: Digest<'static, u32, Table<1>>,
    seen: u64,
    found: Result<Entry, GptError>,
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("header", &self.header).field("found", &self.found).finish_non_exhaustive()
    }
}

/// Where a partition stands on its disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Found {
    /// First byte of the partition.
    pub first_byte: u64,
    /// Bytes of the partition.
    pub bytes: u64,
    /// The partition's own GUID as on disk.
    pub guid: [u8; 16],
}

impl Search {
    /// For the membership database in the entries of `header`, on a disk with blocks of `block_bytes`.
    pub fn new(header: &Header, block_bytes: u32) -> Self {
        Self::of(header, block_bytes, PARTITION_TYPE, PARTITION_BYTES)
    }

    /// For the partition of another type, as it stands in an entry, which has at least `bytes_min` bytes. The errors are the
    /// same: of them [`GptError::NoDatabase`], [`GptError::TwoDatabases`] and [`GptError::BadPlace`] are then about that one.
    pub fn of(header: &Header, block_bytes: u32, kind: [u8; 16], bytes_min: u64) -> Self {
        let found = Err(GptError::NoDatabase);
        Self { header: *header, block_bytes, kind, bytes_min, digest: CRC.digest(), seen: 0, found }
    }

    /// Takes the next bytes of the table: whole entries, as many as there are. What is beyond the table's end does not
    /// count.
    pub fn entries(&mut self, bytes: &[u8]) {
        let left = self.header.table_bytes() - self.seen;
        let bytes = usize::try_from(left).ok().and_then(|left| bytes.get(..left)).unwrap_or(bytes);
        self.digest.update(bytes);
        self.seen += bytes.len() as u64;
        for entry in bytes.chunks_exact(self.header.entry_bytes as usize).filter_map(Entry::decode) {
            if entry.kind == self.kind {
                self.found = match self.found {
                    Err(GptError::NoDatabase) => Ok(entry),
                    _ => Err(GptError::TwoDatabases),
                };
            }
        }
    }

    /// The outcome, once all entries are in.
    ///
    /// # Errors
    /// If the table is damaged or cut short, or has not exactly one such partition in a sound place.
    pub fn finish(self) -> Result<Found, GptError> {
        if self.seen != self.header.table_bytes() || self.digest.finalize() != self.header.table_crc {
            return Err(GptError::TableChecksum);
        }
        let entry = self.found?;
        let inside = entry.first >= self.header.first_usable && entry.last <= self.header.last_usable;
        let block = u64::from(self.block_bytes);
        let bytes = entry
            .last
            .checked_sub(entry.first)
            .and_then(|n| n.checked_add(1))
            .and_then(|n| n.checked_mul(block))
            .filter(|n| *n >= self.bytes_min);
        let first_byte = entry.first.checked_mul(block).filter(|n| n % RECORD_PITCH == 0);
        match (inside, first_byte, bytes) {
            (true, Some(first_byte), Some(bytes)) => Ok(Found { first_byte, bytes, guid: entry.guid }),
            _ => Err(GptError::BadPlace),
        }
    }
}

/// Checksum of a whole table.
pub fn table_checksum(table: &[u8]) -> u32 {
    CRC.checksum(table)
}

fn u32_at<const N: usize>(raw: &[u8; N], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&raw[at..at + 4]);
    u32::from_le_bytes(out)
}

fn u64_at<const N: usize>(raw: &[u8; N], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&raw[at..at + 8]);
    u64::from_le_bytes(out)
}

fn guid_at<const N: usize>(raw: &[u8; N], at: usize) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&raw[at..at + 16]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: Entry = Entry { kind: PARTITION_TYPE, guid: [7; 16], first: 2048, last: 2048 + 8191 };
    const OTHER: Entry = Entry { kind: [1; 16], guid: [8; 16], first: 20_000, last: 30_000 };

    fn table(entries: &[Entry]) -> [u8; 1024] {
        let mut table = [0; 1024];
        for (to, from) in table.chunks_exact_mut(ENTRY_BYTES).zip(entries) {
            to.copy_from_slice(&from.encode("x"));
        }
        table
    }

    fn header(table: &[u8]) -> Header {
        Header {
            at: 1,
            other: 99_999,
            first_usable: 34,
            last_usable: 90_000,
            disk_guid: [9; 16],
            table: 2,
            entries: (table.len() / ENTRY_BYTES) as u32,
            entry_bytes: ENTRY_BYTES as u32,
            table_crc: table_checksum(table),
        }
    }

    fn search(entries: &[Entry]) -> Result<Found, GptError> {
        let table = table(entries);
        let mut search = Search::new(&header(&table), 512);
        table.chunks(512).for_each(|part| search.entries(part));
        search.finish()
    }

    #[test]
    fn a_header_survives_and_every_bit_flip_is_seen() {
        let header = header(&table(&[]));
        let mut block = [0; 512];
        block[..HEADER_BYTES].copy_from_slice(&header.encode());
        assert_eq!(Header::decode(&block, 1), Ok(header));
        assert_eq!(Header::decode(&block, 2), Err(GptError::Misplaced));
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = block;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&flipped, 1).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn wild_headers_are_refused() {
        let good = header(&table(&[]));
        let decode = |h: Header| Header::decode(&h.encode(), 1);
        assert_eq!(decode(Header { entry_bytes: 64, ..good }), Err(GptError::Field("entry_bytes")));
        assert_eq!(decode(Header { entry_bytes: 1 << 31, entries: u32::MAX, ..good }), Err(GptError::Field("entries")));
        assert_eq!(decode(Header { entries: 0, ..good }), Err(GptError::Field("entries")));
        assert_eq!(decode(Header { last_usable: 1, ..good }), Err(GptError::Field("usable")));
        assert_eq!(Header::decode(&[], 1), Err(GptError::Signature));
        assert_eq!(Header::decode(&[0; 4096], 1), Err(GptError::Signature));
        let mut long = [0; 512];
        long[..HEADER_BYTES].copy_from_slice(&good.encode());
        long[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Header::decode(&long, 1), Err(GptError::Field("header_size")));
    }

    #[test]
    fn the_database_is_found_by_its_type() {
        let found = Found { first_byte: 1 << 20, bytes: PARTITION_BYTES, guid: [7; 16] };
        assert_eq!(search(&[OTHER, DATABASE]), Ok(found));
        assert_eq!(search(&[OTHER]), Err(GptError::NoDatabase));
        assert_eq!(search(&[DATABASE, OTHER, DATABASE]), Err(GptError::TwoDatabases));
    }

    #[test]
    fn a_database_in_an_unsound_place_is_refused() {
        for (first, last) in [(2049, 2049 + 8191), (2048, 2048 + 8190), (89_904, 99_000), (5000, 10), (8, 20_000)] {
            assert_eq!(search(&[Entry { first, last, ..DATABASE }]), Err(GptError::BadPlace), "{first}..{last}");
        }
        assert_eq!(search(&[Entry { first: 0, last: u64::MAX, ..DATABASE }]), Err(GptError::BadPlace));
    }

    #[test]
    fn a_damaged_or_short_table_is_refused() {
        let mut bytes = table(&[DATABASE]);
        let header = header(&bytes);
        let mut short = Search::new(&header, 512);
        short.entries(&bytes[..512]);
        assert_eq!(short.finish(), Err(GptError::TableChecksum));
        bytes[40] ^= 1;
        let mut damaged = Search::new(&header, 512);
        damaged.entries(&bytes);
        assert_eq!(damaged.finish(), Err(GptError::TableChecksum));
    }
}
