//! The frame of every record: who, what, where, and a checksum over all of it.
//!
//! ```text
//!  0  4  magic "QRDB"
//!  4  2  format version
//!  6  1  kind
//!  7  1  node id; 255 if the kind belongs to no node
//!  8 16  cluster id
//! 24  1  slot or copy; 0 if the kind has one place only
//! 25  3  zeros
//! 28  4  CRC-32C of bytes 0..28 and 32..512
//! 32     the record's own fields, little endian, zeros to the end
//! ```
//! Where a node has not written yet stands such a record without content ([`blank`]), or zeros ([`Blanks`](crate::Blanks)).
//!
//! Invariants: a record names its own place, so that a misdirected read or write is seen; every byte of it is either
//! given by its fields or zero, so that equal records have equal bytes. Magic, version and checksum stand where they
//! stand in every format version to come: a record of another version is known as such only if its checksum holds.

use crc::{CRC_32_ISCSI, Crc, Digest, Table};
use quorate_base::capacity::RECORD_BYTES;
use quorate_base::{ClusterId, NodeId};

use crate::block::{Block, RecordError};

/// The format version that is written and read. Changes with every change of a record's bytes.
pub const FORMAT_VERSION: u16 = 1;
/// First bytes of every record.
pub const MAGIC: [u8; 4] = *b"QRDB";
/// Where the format version stands.
pub const VERSION_AT: usize = 4;
/// Where the cluster id stands.
pub const CLUSTER_AT: usize = 8;
/// Where the checksum stands.
pub const CHECKSUM_AT: usize = 28;
/// Where a record's own fields begin.
pub const BODY_AT: usize = 32;

const KIND_AT: usize = 6;
const NODE_AT: usize = 7;
const SLOT_AT: usize = 24;
const NO_NODE: u8 = 255;

/// A record's bytes.
pub type Raw = [u8; RECORD_BYTES];

/// CRC-32C (Castagnoli), as iSCSI has it. Sixteen tables, 16 KiB read-only: a beat checks hundreds of records in a
/// cluster of 64, and the simulator lives on this loop.
static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// What a record is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A copy of the superblock.
    Superblock = 1,
    /// A node's configuration.
    Config = 2,
    /// A slot of a node's identity.
    Identity = 3,
    /// A node's heartbeat.
    Heartbeat = 4,
    /// A slot of a node's ballot.
    Ballot = 5,
    /// A slot of a node's copies of domains.
    Domain = 6,
    /// A slot of a node's kernels, in the kernels' partition.
    Kernel = 7,
}

/// Where a record belongs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// What it is.
    pub kind: Kind,
    /// Whose it is, if it is a node's.
    pub node: Option<NodeId>,
    /// Which slot or copy; 0 if there is one only.
    pub slot: u8,
}

/// What the frame says, whether or not it is where it belongs. For tools that explain a misplaced record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// Format version.
    pub version: u16,
    /// Kind, as a number.
    pub kind: u8,
    /// Node id, 255 for none.
    pub node: u8,
    /// Slot or copy.
    pub slot: u8,
    /// Whose database it is from.
    pub cluster: ClusterId,
}

/// For sums over more than a record.
pub(crate) fn digest() -> Digest<'static, u32, Table<16>> {
    CRC.digest()
}

/// A record's checksum.
pub fn checksum(raw: &Raw) -> u32 {
    let mut sum = after(0, &raw[..CHECKSUM_AT]);
    let (blocks, rest) = raw[BODY_AT..].as_chunks::<ZEROS_UNIT>();
    let mut at = 0;
    while let Some(first) = blocks.get(at) {
        let zeros = is_zero(first);
        let run = blocks[at..].iter().take_while(|block| is_zero(block) == zeros).count();
        sum = if zeros { after_zeros(sum, run) } else { after(sum, blocks[at..at + run].as_flattened()) };
        at += run;
    }
    after(sum, rest)
}

/// Zeros are counted in runs of so many bytes.
const ZEROS_UNIT: usize = 32;
/// So many powers of two of that: a record's body has 15 units.
const ZEROS_POWERS: usize = 4;
const _: () = assert!((RECORD_BYTES - BODY_AT) / ZEROS_UNIT < 1 << ZEROS_POWERS, "a run of zeros may be too long");

/// What `1 << power` units of zeros make of a checksum's register, by the register's nibbles: each is a sum of bits, and
/// zeros do not mix them. Most of every record is zeros, and a lookup for a nibble is cheaper than one for each byte.
static ZEROS: [[[u32; 16]; 8]; ZEROS_POWERS] = zeros();

const fn zeros() -> [[[u32; 16]; 8]; ZEROS_POWERS] {
    const REFLECTED: u32 = CRC_32_ISCSI.poly.reverse_bits();
    let mut tables = [[[0; 16]; 8]; ZEROS_POWERS];
    // What each bit becomes: first by one unit, then always by twice as much.
    let mut bits = [0; 32];
    let mut bit = 0;
    while bit < 32 {
        let mut register = 1u32 << bit;
        let mut shifts = 0;
        while shifts < 8 * ZEROS_UNIT {
            register = (register >> 1) ^ if register & 1 == 1 { REFLECTED } else { 0 };
            shifts += 1;
        }
        bits[bit] = register;
        bit += 1;
    }
    let mut power = 0;
    while power < ZEROS_POWERS {
        let mut entry = 0;
        while entry < 8 * 16 {
            let (nibble, value) = (entry / 16, entry % 16);
            tables[power][nibble][value] = sum_of(&bits, (value as u32) << (4 * nibble));
            entry += 1;
        }
        let mut twice = [0; 32];
        let mut bit = 0;
        while bit < 32 {
            twice[bit] = sum_of(&bits, bits[bit]);
            bit += 1;
        }
        bits = twice;
        power += 1;
    }
    tables
}

/// What a register becomes whose bits become these.
const fn sum_of(bits: &[u32; 32], register: u32) -> u32 {
    let (mut sum, mut bit) = (0, 0);
    while bit < 32 {
        if register >> bit & 1 == 1 {
            sum ^= bits[bit];
        }
        bit += 1;
    }
    sum
}

/// The checksum that goes on from `sum`, 0 at the beginning, over these bytes. On hosts by the processor's own instruction,
/// where it has one.
fn after(sum: u32, bytes: &[u8]) -> u32 {
    #[cfg(unix)]
    return crc32c::crc32c_append(sum, bytes);
    #[cfg(not(unix))]
    after_by_tables(sum, bytes)
}

#[cfg(any(test, not(unix)))]
fn after_by_tables(sum: u32, bytes: &[u8]) -> u32 {
    let mut digest = CRC.digest_with_initial((sum ^ CRC_32_ISCSI.xorout).reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// The same over so many units of zeros.
fn after_zeros(sum: u32, units: usize) -> u32 {
    let mut register = sum ^ CRC_32_ISCSI.xorout;
    for (power, tables) in ZEROS.iter().enumerate() {
        if units >> power & 1 == 1 {
            let nibbles = (0..).step_by(4).zip(tables);
            register = nibbles.fold(0, |all, (shift, table)| all ^ table[(register >> shift & 0xf) as usize]);
        }
    }
    register ^ CRC_32_ISCSI.xorout
}

fn is_zero(block: &[u8; ZEROS_UNIT]) -> bool {
    let (words, _) = block.as_chunks::<8>();
    words.iter().fold(0, |any, word| any | u64::from_ne_bytes(*word)) == 0
}

/// Puts the right checksum into a record whose other bytes stand.
pub fn reseal(raw: &mut Raw) {
    let sum = checksum(raw);
    put_u32(raw, CHECKSUM_AT, sum);
}

/// Puts the frame around a record whose own fields stand.
pub fn seal(raw: &mut Raw, cluster: ClusterId, place: Place) {
    raw[..4].copy_from_slice(&MAGIC);
    put_u16(raw, VERSION_AT, FORMAT_VERSION);
    raw[KIND_AT] = place.kind as u8;
    raw[NODE_AT] = node_byte(place.node);
    raw[CLUSTER_AT..SLOT_AT].copy_from_slice(&cluster.0);
    raw[SLOT_AT] = place.slot;
    reseal(raw);
}

/// The frame of bytes that carry the magic and a right checksum, wherever they belong.
pub fn header(bytes: &[u8]) -> Option<Header> {
    let raw = bytes.first_chunk::<RECORD_BYTES>()?;
    (raw.starts_with(&MAGIC) && checksum(raw) == u32_at(raw, CHECKSUM_AT)).then(|| header_of(raw))
}

/// A record without content: what stands where a node has not written yet, if the database's blanks are sealed.
pub fn blank(cluster: ClusterId, place: Place) -> Raw {
    let mut raw = [0; RECORD_BYTES];
    seal(&mut raw, cluster, place);
    raw
}

/// Whether a record's place holds nothing but zeros.
pub fn is_zeros(bytes: &[u8]) -> bool {
    bytes.first_chunk::<RECORD_BYTES>().is_some_and(|raw| all_zeros(raw, 0, RECORD_BYTES))
}

/// [`open`] for what nodes write: a sealed record without content is blank, as zeros are.
pub(crate) fn open_written(bytes: &[u8], cluster: ClusterId, place: Place) -> Block<&Raw> {
    match open(bytes, Some(cluster), place) {
        Block::Good(raw) if all_zeros(raw, BODY_AT, RECORD_BYTES) => Block::Blank,
        block => block,
    }
}

/// Checks the frame: magic, checksum, version, cluster, place, in this order. `bytes` may be longer than a record (a
/// whole pitch or logical block); what follows the record does not count. `cluster` is `None` only where it is not yet
/// known, at the superblock.
pub fn open(bytes: &[u8], cluster: Option<ClusterId>, place: Place) -> Block<&Raw> {
    let Some(raw) = bytes.first_chunk::<RECORD_BYTES>() else {
        return Block::Damaged(RecordError::Short);
    };
    if !raw.starts_with(&MAGIC) {
        return if all_zeros(raw, 0, RECORD_BYTES) { Block::Blank } else { Block::Damaged(RecordError::Magic) };
    }
    if checksum(raw) != u32_at(raw, CHECKSUM_AT) {
        return Block::Damaged(RecordError::Checksum);
    }
    let found = header_of(raw);
    let error = if found.version != FORMAT_VERSION {
        RecordError::Version(found.version)
    } else if cluster.is_some_and(|c| c != found.cluster) {
        RecordError::ForeignCluster
    } else if (found.kind, found.node, found.slot) != (place.kind as u8, node_byte(place.node), place.slot) {
        RecordError::Misplaced
    } else if !all_zeros(raw, SLOT_AT + 1, CHECKSUM_AT) {
        RecordError::Field("reserved")
    } else {
        return Block::Good(raw);
    };
    Block::Damaged(error)
}

fn header_of(raw: &Raw) -> Header {
    Header {
        version: u16_at(raw, VERSION_AT),
        kind: raw[KIND_AT],
        node: raw[NODE_AT],
        slot: raw[SLOT_AT],
        cluster: ClusterId(bytes_at(raw, CLUSTER_AT)),
    }
}

fn node_byte(node: Option<NodeId>) -> u8 {
    node.map_or(NO_NODE, NodeId::get)
}

// Fields. Every offset below is a constant of a record's layout, never a value from the disk.

/// `N` bytes.
pub(crate) fn bytes_at<const N: usize>(raw: &Raw, at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&raw[at..at + N]);
    out
}

pub(crate) fn u16_at(raw: &Raw, at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(raw, at))
}

pub(crate) fn u32_at(raw: &Raw, at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(raw, at))
}

pub(crate) fn u64_at(raw: &Raw, at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(raw, at))
}

pub(crate) fn put(raw: &mut Raw, at: usize, bytes: &[u8]) {
    raw[at..at + bytes.len()].copy_from_slice(bytes);
}

pub(crate) fn put_u16(raw: &mut Raw, at: usize, value: u16) {
    put(raw, at, &value.to_le_bytes());
}

pub(crate) fn put_u32(raw: &mut Raw, at: usize, value: u32) {
    put(raw, at, &value.to_le_bytes());
}

pub(crate) fn put_u64(raw: &mut Raw, at: usize, value: u64) {
    put(raw, at, &value.to_le_bytes());
}

/// Whether bytes `from..to` are zeros. Word by word: most of every record is, and every read looks.
pub(crate) fn all_zeros(raw: &Raw, from: usize, to: usize) -> bool {
    let (words, rest) = raw[from..to].as_chunks::<8>();
    words.iter().fold(0, |any, word| any | u64::from_ne_bytes(*word)) == 0 && rest.iter().all(|b| *b == 0)
}

/// Fails if a byte in `from..to` is not zero: every byte of a record is given by its fields.
pub(crate) fn reserved(raw: &Raw, from: usize, to: usize) -> Result<(), RecordError> {
    if all_zeros(raw, from, to) { Ok(()) } else { Err(RecordError::Field("reserved")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(*b"0123456789abcdef");
    const PLACE: Place = Place { kind: Kind::Heartbeat, node: NodeId::new(3), slot: 0 };

    fn record() -> Raw {
        let mut raw = [0; RECORD_BYTES];
        raw[100] = 7;
        seal(&mut raw, CLUSTER, PLACE);
        raw
    }

    fn resealed(change: impl FnOnce(&mut Raw)) -> Raw {
        let mut raw = record();
        change(&mut raw);
        reseal(&mut raw);
        raw
    }

    #[test]
    fn golden_bytes_of_the_frame() {
        let raw = record();
        assert_eq!(&raw[..28], b"QRDB\x01\x00\x04\x030123456789abcdef\0\0\0\0");
        assert_eq!(CRC.checksum(b"123456789"), 0xe306_9283);
        let mut all = [0; RECORD_BYTES - 4];
        all[..28].copy_from_slice(&raw[..28]);
        all[28..].copy_from_slice(&raw[32..]);
        assert_eq!(u32_at(&raw, CHECKSUM_AT), CRC.checksum(&all));
    }

    #[test]
    fn zeros_are_skipped_and_counted() {
        let whole = |raw: &Raw| {
            let mut all = [0; RECORD_BYTES - 4];
            all[..CHECKSUM_AT].copy_from_slice(&raw[..CHECKSUM_AT]);
            all[CHECKSUM_AT..].copy_from_slice(&raw[BODY_AT..]);
            CRC.checksum(&all)
        };
        assert_eq!(checksum(&[0; RECORD_BYTES]), whole(&[0; RECORD_BYTES]));
        // Every run of something in zeros, and every run of zeros in something.
        for from in (0..RECORD_BYTES).step_by(4) {
            for to in (from..=RECORD_BYTES).step_by(4) {
                let mut raw = [0; RECORD_BYTES];
                raw[from..to].iter_mut().zip(1..).for_each(|(byte, n)| *byte = (n * 37_u32) as u8 | 1);
                assert_eq!(checksum(&raw), whole(&raw), "{from}..{to}");
                let (sum, bytes) = (whole(&raw), &raw[from..to]);
                assert_eq!(after(sum, bytes), after_by_tables(sum, bytes), "{from}..{to}");
                raw.iter_mut().for_each(|byte| *byte ^= 0x5a);
                let mut raw = raw.map(|byte| if byte == 0x5a { 0x5a } else { 0 });
                assert_eq!(checksum(&raw), whole(&raw), "all but {from}..{to}");
                raw[RECORD_BYTES - 1] ^= 1;
                assert_eq!(checksum(&raw), whole(&raw), "all but {from}..{to}, and the last byte");
            }
        }
    }

    #[test]
    fn each_error_has_its_name() {
        fn open(raw: &[u8]) -> Block<&Raw> {
            super::open(raw, Some(CLUSTER), PLACE)
        }
        assert!(open(&record()).good().is_some());
        assert_eq!(open(&[0; RECORD_BYTES]), Block::Blank);
        assert_eq!(open(&record()[..511]), Block::Damaged(RecordError::Short));
        assert_eq!(open(&[0xe5; RECORD_BYTES]), Block::Damaged(RecordError::Magic));
        assert_eq!(open(&resealed(|r| r[VERSION_AT] = 2)), Block::Damaged(RecordError::Version(2)));
        assert_eq!(open(&resealed(|r| r[CLUSTER_AT] ^= 1)), Block::Damaged(RecordError::ForeignCluster));
        for at in [KIND_AT, NODE_AT, SLOT_AT] {
            assert_eq!(open(&resealed(|r| r[at] ^= 1)), Block::Damaged(RecordError::Misplaced));
        }
        assert_eq!(open(&resealed(|r| r[26] = 1)), Block::Damaged(RecordError::Field("reserved")));
        let mut torn = record();
        torn[100] = 8;
        assert_eq!(open(&torn), Block::Damaged(RecordError::Checksum));
    }

    #[test]
    fn every_single_bit_flip_is_seen() {
        let raw = record();
        for bit in 0..RECORD_BYTES * 8 {
            let mut flipped = raw;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(open(&flipped, Some(CLUSTER), PLACE), Block::Damaged(_)), "bit {bit}");
            assert_eq!(header(&flipped), None);
        }
    }

    #[test]
    fn what_follows_the_record_does_not_count() {
        let mut block = [0xff; 4096];
        block[..RECORD_BYTES].copy_from_slice(&record());
        assert!(open(&block, Some(CLUSTER), PLACE).good().is_some());
        assert_eq!(header(&block).map(|h| (h.kind, h.node, h.slot, h.cluster)), Some((4, 3, 0, CLUSTER)));
    }
}
