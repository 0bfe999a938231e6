//! Where the records stand: record numbers, counted in `RECORD_PITCH` from the start of the database's partition.
//!
//! ```text
//! 0, 1            superblock, two copies
//! 2 .. 8          spare
//! 8 .. 72         node configuration, one per node id
//! 72 .. 200       identity, two slots per node
//! 200 .. 208      spare
//! 208 .. 400      per node: heartbeat, ballot slot 0, ballot slot 1
//! 400 .. 528      a node's copies of domains, two slots per node
//! 528 .. 1024     spare (what later layers keep here)
//! ```
//! Heartbeats and ballots of neighbouring nodes are contiguous, so that one read fetches those of three nodes.
//!
//! The partition is found by its type in the GPT ([`PARTITION_TYPE`]), never by its place.

use core::fmt;
use quorate_base::NodeId;
use quorate_base::capacity::{NODES_MAX, RECORD_PITCH};

/// Records in the whole database.
pub const RECORDS: u64 = 1024;
/// Bytes of the database's partition at least.
pub const PARTITION_BYTES: u64 = RECORDS * RECORD_PITCH;
/// Partition type GUID of a membership database, in its text form: drawn at random for this product, means nothing else.
pub const PARTITION_TYPE_TEXT: &str = "F4823F2D-70AB-4C5A-92FA-0774188A8674";
/// The same as it stands in a GPT entry (UEFI 2.10 appendix A: the first three fields are little endian).
pub const PARTITION_TYPE: [u8; 16] =
    [0x2d, 0x3f, 0x82, 0xf4, 0xab, 0x70, 0x5a, 0x4c, 0x92, 0xfa, 0x07, 0x74, 0x18, 0x8a, 0x86, 0x74];
/// First node configuration.
pub const CONFIG_FIRST: u64 = 8;
/// First identity slot.
pub const IDENTITY_FIRST: u64 = 72;
/// First record of the state area (heartbeats and ballots).
pub const STATE_FIRST: u64 = 208;
/// Records per node in the state area.
pub const STATE_PER_NODE: u64 = 3;
/// First slot of a node's copies of domains.
pub const DOMAIN_FIRST: u64 = 400;

/// A copy of the superblock, 0 or 1.
pub const fn superblock(copy: u8) -> u64 {
    (copy & 1) as u64
}

/// A node's configuration.
pub const fn config(node: NodeId) -> u64 {
    CONFIG_FIRST + node.get() as u64
}

/// An identity slot, 0 or 1, of a node.
pub const fn identity(node: NodeId, slot: u8) -> u64 {
    IDENTITY_FIRST + 2 * node.get() as u64 + (slot & 1) as u64
}

/// A node's heartbeat.
pub const fn heartbeat(node: NodeId) -> u64 {
    STATE_FIRST + STATE_PER_NODE * node.get() as u64
}

/// A ballot slot, 0 or 1, of a node.
pub const fn ballot(node: NodeId, slot: u8) -> u64 {
    heartbeat(node) + 1 + (slot & 1) as u64
}

/// A slot, 0 or 1, of a node's copies of domains.
pub const fn domain(node: NodeId, slot: u8) -> u64 {
    DOMAIN_FIRST + 2 * node.get() as u64 + (slot & 1) as u64
}

/// Which region a record belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Region {
    /// A copy of the superblock.
    Superblock(u8),
    /// A node's configuration.
    Config(NodeId),
    /// A node's identity slot.
    Identity(NodeId, u8),
    /// A node's heartbeat.
    Heartbeat(NodeId),
    /// A node's ballot slot.
    Ballot(NodeId, u8),
    /// A slot of a node's copies of domains.
    Domain(NodeId, u8),
    /// Unused.
    Spare,
}

impl Region {
    /// The region of a record number.
    pub fn of(record: u64) -> Self {
        const NODES: u64 = NODES_MAX as u64;
        let node = |n: u64| u8::try_from(n).ok().and_then(NodeId::new);
        match record {
            0 | 1 => Self::Superblock(record as u8),
            CONFIG_FIRST.. if record < CONFIG_FIRST + NODES => {
                node(record - CONFIG_FIRST).map_or(Self::Spare, Self::Config)
            }
            IDENTITY_FIRST.. if record < IDENTITY_FIRST + 2 * NODES => {
                let at = record - IDENTITY_FIRST;
                node(at / 2).map_or(Self::Spare, |n| Self::Identity(n, (at % 2) as u8))
            }
            STATE_FIRST.. if record < STATE_FIRST + STATE_PER_NODE * NODES => {
                let at = record - STATE_FIRST;
                node(at / STATE_PER_NODE).map_or(Self::Spare, |n| match at % STATE_PER_NODE {
                    0 => Self::Heartbeat(n),
                    slot => Self::Ballot(n, slot as u8 - 1),
                })
            }
            DOMAIN_FIRST.. if record < DOMAIN_FIRST + 2 * NODES => {
                let at = record - DOMAIN_FIRST;
                node(at / 2).map_or(Self::Spare, |n| Self::Domain(n, (at % 2) as u8))
            }
            _ => Self::Spare,
        }
    }
}

impl fmt::Display for Region {
    /// As in traces and scenario files: `superblock`, `config.3`, `identity.3`, `heartbeat.3`, `ballot.3`,
    /// `domain.3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superblock(_) => f.write_str("superblock"),
            Self::Config(n) => write!(f, "config.{n}"),
            Self::Identity(n, _) => write!(f, "identity.{n}"),
            Self::Heartbeat(n) => write!(f, "heartbeat.{n}"),
            Self::Ballot(n, _) => write!(f, "ballot.{n}"),
            Self::Domain(n, _) => write!(f, "domain.{n}"),
            Self::Spare => f.write_str("spare"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_type_is_the_same_in_both_forms() {
        const DIGITS: &[u8] = PARTITION_TYPE_TEXT.as_bytes();
        let text: heapless::String<36> = PARTITION_TYPE_TEXT.chars().filter(|c| *c != '-').collect();
        let byte = |i: usize| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap();
        let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        assert_eq!(order.map(byte), PARTITION_TYPE);
        assert!([8, 13, 18, 23].iter().all(|i| DIGITS[*i] == b'-'));
    }

    #[test]
    fn every_place_has_its_region_and_no_two_meet() {
        for n in NodeId::all() {
            assert_eq!(Region::of(config(n)), Region::Config(n));
            assert_eq!(Region::of(heartbeat(n)), Region::Heartbeat(n));
            for slot in [0, 1] {
                assert_eq!(Region::of(identity(n, slot)), Region::Identity(n, slot));
                assert_eq!(Region::of(ballot(n, slot)), Region::Ballot(n, slot));
                assert_eq!(Region::of(domain(n, slot)), Region::Domain(n, slot));
            }
        }
        assert_eq!(Region::of(528), Region::Spare);
        assert_eq!(Region::of(RECORDS), Region::Spare);
    }
}
