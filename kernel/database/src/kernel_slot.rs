//! The kernels that nodes boot by the UEFI bootstrap: two slots per node, in a partition of their own beside the membership
//! database. Written offline only, by the tool that installs a kernel; the bootstrap reads.
//!
//! ```text
//! byte 0         records, one per node and slot, RECORD_PITCH apart: node 0 slot A, node 0 slot B, node 1 slot A, …
//! byte 1 MiB     the kernels in the same order, SLOT_BYTES apart
//! ```
//! A record, in the frame of every record ([`sealed`]):
//! ```text
//!  32   8  how often a kernel was installed here
//!  40   4  bytes of the kernel
//!  44   4  CRC-32C of these bytes
//!  48   1  bytes of the version
//!  49   1  zero
//!  50   2  bytes of the command line
//!  52   4  zeros
//!  56  32  the kernel's version
//!  88 256  words for its command line
//! 344      zeros
//! ```
//! An install blanks the record, writes the kernel, makes it durable, and writes the record: one that stops half way leaves a
//! blank or torn record, or bytes that its checksum does not fit. So a slot is either whole or known not to be.

use core::fmt;
use crc::Digest;
use quorate_base::capacity::{NODES_MAX, RECORD_BYTES, RECORD_PITCH};
use quorate_base::{ClusterId, NodeId};

use crate::block::{Block, RecordError};
use crate::sealed::{
    self, Kind, Place, Raw, bytes_at, open, put, put_u16, put_u32, put_u64, reserved, seal, u16_at, u32_at, u64_at,
};

/// Partition type GUID of the kernels' partition, in its text form: drawn at random for this product.
pub const KERNELS_TYPE_TEXT: &str = "7EE90DD7-4958-4D5B-B11E-872635C6B4D2";
/// The same as it stands in a GPT entry.
pub const KERNELS_TYPE: [u8; 16] =
    [0xd7, 0x0d, 0xe9, 0x7e, 0x58, 0x49, 0x5b, 0x4d, 0xb1, 0x1e, 0x87, 0x26, 0x35, 0xc6, 0xb4, 0xd2];
/// Bytes of a kernel at most: what a kernel loads is under one MiB today; with its own growth it stays under this.
pub const SLOT_BYTES: u64 = 4 << 20;
/// Bytes of a kernel's version at most.
pub const VERSION_MAX: usize = 32;
/// Bytes of the words for its command line at most.
pub const WORDS_MAX: usize = 256;

const SLOTS: u64 = 2;
const KERNELS_AT: u64 = 1 << 20;
const VERSION_AT: usize = 56;
const WORDS_AT: usize = VERSION_AT + VERSION_MAX;
const END: usize = WORDS_AT + WORDS_MAX;
const _: () = assert!(NODES_MAX as u64 * SLOTS * RECORD_PITCH <= KERNELS_AT && END <= RECORD_BYTES);

/// Bytes of the partition with room for `nodes` nodes.
pub const fn partition_bytes(nodes: u8) -> u64 {
    KERNELS_AT + nodes as u64 * SLOTS * SLOT_BYTES
}

/// One of a node's two places for a kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum KernelSlot {
    /// The first.
    A,
    /// The second.
    B,
}

impl KernelSlot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The one that it is not.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its letter, as in commands, traces and on screens.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    const fn index(self) -> u8 {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    const fn number(self, node: NodeId) -> u64 {
        SLOTS * node.get() as u64 + self.index() as u64
    }

    /// First byte of its record in the partition.
    pub const fn record_at(self, node: NodeId) -> u64 {
        self.number(node) * RECORD_PITCH
    }

    /// First byte of its kernel in the partition.
    pub const fn kernel_at(self, node: NodeId) -> u64 {
        KERNELS_AT + self.number(node) * SLOT_BYTES
    }
}

impl fmt::Display for KernelSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.letter())
    }
}

/// What stands in a slot.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct InstalledKernel {
    /// How often a kernel was installed here, this one counted.
    pub sequence: u64,
    /// Bytes of the kernel, an ELF file without what is not loaded.
    pub bytes: u32,
    /// Their checksum, see [`Checksum`].
    pub checksum: u32,
    /// What the kernel says that it is.
    pub version: heapless::String<VERSION_MAX>,
    /// Words for its command line, beside those that the bootstrap adds.
    pub words: heapless::String<WORDS_MAX>,
}

impl InstalledKernel {
    /// A slot's place.
    pub const fn place(node: NodeId, slot: KernelSlot) -> Place {
        Place { kind: Kind::Kernel, node: Some(node), slot: slot.index() }
    }

    /// Its record's bytes.
    pub fn encode(&self, cluster: ClusterId, node: NodeId, slot: KernelSlot) -> Raw {
        let mut raw = [0; RECORD_BYTES];
        put_u64(&mut raw, 32, self.sequence);
        put_u32(&mut raw, 40, self.bytes);
        put_u32(&mut raw, 44, self.checksum);
        // The capacities are 32 and 256.
        raw[48] = self.version.len() as u8;
        put_u16(&mut raw, 50, self.words.len() as u16);
        put(&mut raw, VERSION_AT, self.version.as_bytes());
        put(&mut raw, WORDS_AT, self.words.as_bytes());
        seal(&mut raw, cluster, Self::place(node, slot));
        raw
    }

    /// What stands in `bytes`, a record or the whole pitch that begins with it.
    pub fn decode(bytes: &[u8], cluster: ClusterId, node: NodeId, slot: KernelSlot) -> Block<Self> {
        open(bytes, Some(cluster), Self::place(node, slot)).and_then(|raw| {
            reserved(raw, 49, 50)?;
            reserved(raw, 52, VERSION_AT)?;
            reserved(raw, END, RECORD_BYTES)?;
            let bytes = u32_at(raw, 40);
            if bytes == 0 || u64::from(bytes) > SLOT_BYTES {
                return Err(RecordError::Field("bytes"));
            }
            let version: [u8; VERSION_MAX] = bytes_at(raw, VERSION_AT);
            let words: [u8; WORDS_MAX] = bytes_at(raw, WORDS_AT);
            Ok(Self {
                sequence: u64_at(raw, 32),
                bytes,
                checksum: u32_at(raw, 44),
                version: text(&version, usize::from(raw[48])).ok_or(RecordError::Field("version"))?,
                words: text(&words, usize::from(u16_at(raw, 50))).ok_or(RecordError::Field("words"))?,
            })
        })
    }
}

/// The first `len` bytes as text; the rest must be zeros.
fn text<const N: usize>(field: &[u8; N], len: usize) -> Option<heapless::String<N>> {
    let (bytes, rest) = field.split_at_checked(len)?;
    let text = core::str::from_utf8(bytes).ok()?;
    let plain = rest.iter().all(|b| *b == 0) && !text.chars().any(char::is_control);
    heapless::String::try_from(text).ok().filter(|_| plain)
}

/// A kernel's checksum, CRC-32C, over its bytes piece by piece.
#[derive(Clone)]
pub struct Checksum(Digest<'static, u32, crc::Table<16>>);

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checksum").finish_non_exhaustive()
    }
}

impl Default for Checksum {
    fn default() -> Self {
        Self(sealed::digest())
    }
}

impl Checksum {
    /// Of whole bytes.
    pub fn of(bytes: &[u8]) -> u32 {
        let mut sum = Self::default();
        sum.add(bytes);
        sum.finish()
    }

    /// Takes the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum.
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(*b"0123456789abcdef");

    fn node(n: u8) -> NodeId {
        NodeId::new(n).unwrap()
    }

    fn error(block: Block<InstalledKernel>) -> Option<RecordError> {
        match block {
            Block::Damaged(error) => Some(error),
            _ => None,
        }
    }

    fn kernel() -> InstalledKernel {
        InstalledKernel {
            sequence: 3,
            bytes: 0x000b_2120,
            checksum: 0xe306_9283,
            version: "0.1.0".try_into().unwrap(),
            words: "groups=1".try_into().unwrap(),
        }
    }

    #[test]
    fn golden_bytes_of_a_slot() {
        let raw = kernel().encode(CLUSTER, node(2), KernelSlot::B);
        assert_eq!(&raw[..8], b"QRDB\x01\x00\x07\x02");
        assert_eq!(raw[24], 1);
        assert_eq!(&raw[32..56], b"\x03\0\0\0\0\0\0\0\x20\x21\x0b\0\x83\x92\x06\xe3\x05\0\x08\0\0\0\0\0");
        assert_eq!(&raw[56..62], b"0.1.0\0");
        assert_eq!(&raw[88..97], b"groups=1\0");
        assert_eq!(InstalledKernel::decode(&raw, CLUSTER, node(2), KernelSlot::B), Block::Good(kernel()));
    }

    #[test]
    fn the_checksum_is_crc_32c_in_any_pieces() {
        assert_eq!(Checksum::of(b"123456789"), 0xe306_9283);
        let mut sum = Checksum::default();
        [&b"1234"[..], b"", b"56789"].into_iter().for_each(|part| sum.add(part));
        assert_eq!(sum.finish(), 0xe306_9283);
    }

    #[test]
    fn a_slot_of_another_node_slot_or_cluster_is_refused() {
        let raw = kernel().encode(CLUSTER, node(2), KernelSlot::A);
        let error = |cluster, n, slot| error(InstalledKernel::decode(&raw, cluster, node(n), slot));
        assert_eq!(error(CLUSTER, 2, KernelSlot::B), Some(RecordError::Misplaced));
        assert_eq!(error(CLUSTER, 1, KernelSlot::A), Some(RecordError::Misplaced));
        assert_eq!(error(ClusterId([1; 16]), 2, KernelSlot::A), Some(RecordError::ForeignCluster));
        assert_eq!(InstalledKernel::decode(&[0; 512], CLUSTER, node(2), KernelSlot::A), Block::Blank);
    }

    #[test]
    fn each_field_that_cannot_be_is_named() {
        let cases: [(&str, usize, u8); 8] = [
            ("bytes", 43, 1),
            ("version", 48, 33),
            ("version", 48, 4),
            ("version", 57, 7),
            ("words", 51, 0xff),
            ("words", 90, 0xff),
            ("reserved", 53, 1),
            ("reserved", 400, 1),
        ];
        for (field, at, byte) in cases {
            let mut raw = kernel().encode(CLUSTER, node(0), KernelSlot::A);
            raw[at] = byte;
            sealed::reseal(&mut raw);
            let found = error(InstalledKernel::decode(&raw, CLUSTER, node(0), KernelSlot::A));
            assert_eq!(found, Some(RecordError::Field(field)), "byte {at}");
        }
        let empty = InstalledKernel { bytes: 0, ..kernel() }.encode(CLUSTER, node(0), KernelSlot::A);
        let found = error(InstalledKernel::decode(&empty, CLUSTER, node(0), KernelSlot::A));
        assert_eq!(found, Some(RecordError::Field("bytes")));
    }

    #[test]
    fn places_of_all_nodes_are_apart_and_inside_the_partition() {
        let mut end = KERNELS_AT;
        for n in NodeId::all() {
            for slot in KernelSlot::ALL {
                assert_eq!(slot.kernel_at(n), end);
                end += SLOT_BYTES;
                assert!(slot.record_at(n) + RECORD_PITCH <= KERNELS_AT);
            }
            assert_eq!(partition_bytes(n.get() + 1), end);
        }
    }

    #[test]
    fn the_partition_type_is_the_same_in_both_forms() {
        let text: heapless::String<36> = KERNELS_TYPE_TEXT.chars().filter(|c| *c != '-').collect();
        let byte = |i: usize| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap();
        let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        assert_eq!(order.map(byte), KERNELS_TYPE);
    }
}
