//! Domains of one node (DOM claim 5: a unique persistent object): its own copies, all in one record, in two slots that are
//! written in turn. Byte for byte in PROTOCOL.md.

use heapless::Vec;
use quorate_base::capacity::RECORD_BYTES;
use quorate_base::{ClusterId, NodeId, NodeSet};
use serde::{Deserialize, Serialize};

use crate::block::{Block, RecordError};
use crate::sealed::{
    BODY_AT, Kind, Place, Raw, bytes_at, open, put, put_u16, put_u32, put_u64, reserved, seal, u16_at, u32_at, u64_at,
};

/// Copies of domains that a node keeps at most.
pub const DOMAINS_MAX: usize = 8;

/// Bytes of a domain's name at most. Eight entries fit a record with it.
pub const DOMAIN_NAME_MAX: usize = 24;

const COUNT_AT: usize = BODY_AT + 8;
const ENTRIES_AT: usize = BODY_AT + 16;
const ENTRY_BYTES: usize = 32 + DOMAIN_NAME_MAX;
const DELETED: u8 = 1;

const _: () = assert!(ENTRIES_AT + DOMAINS_MAX * ENTRY_BYTES <= RECORD_BYTES);

/// Where in the order of all group services a domain was created: tells domains of one name apart, and the later from the
/// earlier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
pub struct Birth {
    /// The frame.
    pub order: u64,
    /// The place in it.
    pub index: u16,
}

/// One node's copy of a domain.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct DomainEntry {
    /// Its name, unique in the cluster.
    pub name: heapless::String<DOMAIN_NAME_MAX>,
    /// When it was created.
    pub birth: Birth,
    /// From 1; one more with each change.
    pub version: u32,
    /// Nodes of all potential members.
    pub nodes: NodeSet,
    /// Nodes whose copies may not show this yet. It is kept until there are none, also by a node that it does not list.
    pub behind: NodeSet,
    /// It was deleted.
    pub deleted: bool,
}

impl DomainEntry {
    /// Whether this copy takes the place of another of the same name: the later creation does, then the later change. Copies
    /// of equal age are equal; if ever they are not, the larger set decides, everywhere alike.
    pub fn is_newer(&self, other: &Self) -> bool {
        let rank = |e: &Self| (e.birth, e.version, e.deleted, e.nodes);
        rank(self) > rank(other)
    }

    /// Whether two copies claim equal age and differ.
    pub fn contradicts(&self, other: &Self) -> bool {
        (self.birth, self.version) == (other.birth, other.version)
            && (self.deleted, self.nodes) != (other.deleted, other.nodes)
    }
}

/// All of a node's copies.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct DomainBlock {
    /// One more with each write of either slot.
    pub sequence: u64,
    /// The copies.
    pub entries: Vec<DomainEntry, DOMAINS_MAX>,
}

impl DomainBlock {
    /// Its place.
    pub const fn place(node: NodeId, slot: u8) -> Place {
        Place { kind: Kind::Domain, node: Some(node), slot: slot & 1 }
    }

    /// Its bytes on the disk.
    pub fn encode(&self, cluster: ClusterId, node: NodeId, slot: u8) -> Raw {
        let mut raw = [0; RECORD_BYTES];
        put_u64(&mut raw, BODY_AT, self.sequence);
        // At most DOMAINS_MAX.
        raw[COUNT_AT] = self.entries.len() as u8;
        for (i, e) in self.entries.iter().enumerate() {
            let at = ENTRIES_AT + i * ENTRY_BYTES;
            raw[at] = e.name.len() as u8;
            raw[at + 1] = if e.deleted { DELETED } else { 0 };
            put_u16(&mut raw, at + 2, e.birth.index);
            put_u32(&mut raw, at + 4, e.version);
            put_u64(&mut raw, at + 8, e.birth.order);
            put_u64(&mut raw, at + 16, e.nodes.0);
            put_u64(&mut raw, at + 24, e.behind.0);
            put(&mut raw, at + 32, e.name.as_bytes());
        }
        seal(&mut raw, cluster, Self::place(node, slot));
        raw
    }

    /// What stands in `bytes`, a record or the whole pitch that begins with it.
    pub fn decode(bytes: &[u8], cluster: ClusterId, node: NodeId, slot: u8) -> Block<Self> {
        open(bytes, Some(cluster), Self::place(node, slot)).and_then(|raw| {
            let count = usize::from(raw[COUNT_AT]);
            if count > DOMAINS_MAX {
                return Err(RecordError::Field("domains"));
            }
            reserved(raw, COUNT_AT + 1, ENTRIES_AT)?;
            reserved(raw, ENTRIES_AT + count * ENTRY_BYTES, RECORD_BYTES)?;
            let mut entries = Vec::new();
            for i in 0..count {
                let entry = entry(raw, ENTRIES_AT + i * ENTRY_BYTES)?;
                if entries.iter().any(|e: &DomainEntry| e.name == entry.name) {
                    return Err(RecordError::Field("domain name"));
                }
                // At most DOMAINS_MAX.
                let _ = entries.push(entry);
            }
            Ok(Self { sequence: u64_at(raw, BODY_AT), entries })
        })
    }

    /// Of two slots the newer one, and which it is.
    pub fn newer(slots: [Block<Self>; 2]) -> Option<(u8, Self)> {
        let [a, b] = slots;
        match (a, b) {
            (Block::Good(a), Block::Good(b)) if b.sequence > a.sequence => Some((1, b)),
            (Block::Good(a), _) => Some((0, a)),
            (_, Block::Good(b)) => Some((1, b)),
            _ => None,
        }
    }
}

fn entry(raw: &Raw, at: usize) -> Result<DomainEntry, RecordError> {
    const NAME: RecordError = RecordError::Field("domain name");
    let len = usize::from(raw[at]);
    if len == 0 || len > DOMAIN_NAME_MAX {
        return Err(NAME);
    }
    reserved(raw, at + 32 + len, at + ENTRY_BYTES).map_err(|_| NAME)?;
    let bytes: [u8; DOMAIN_NAME_MAX] = bytes_at(raw, at + 32);
    let text = bytes.get(..len).and_then(|b| core::str::from_utf8(b).ok()).ok_or(NAME)?;
    if text.chars().any(char::is_control) {
        return Err(NAME);
    }
    let deleted = match raw[at + 1] {
        0 => false,
        DELETED => true,
        _ => return Err(RecordError::Field("domain state")),
    };
    let version = u32_at(raw, at + 4);
    let (nodes, behind) = (NodeSet(u64_at(raw, at + 16)), NodeSet(u64_at(raw, at + 24)));
    // A living domain lists somebody, a deleted one nobody.
    if version == 0 || nodes.is_empty() != deleted {
        return Err(RecordError::Field("domain"));
    }
    Ok(DomainEntry {
        name: heapless::String::try_from(text).map_err(|_| NAME)?,
        birth: Birth { order: u64_at(raw, at + 8), index: u16_at(raw, at + 2) },
        version,
        nodes,
        behind,
        deleted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealed::reseal;

    const CLUSTER: ClusterId = ClusterId(*b"0123456789abcdef");

    fn n(id: u8) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn sample(name: &str, version: u32) -> DomainEntry {
        DomainEntry {
            name: heapless::String::try_from(name).unwrap(),
            birth: Birth { order: 0x0102_0304_0506_0708, index: 0x090a },
            version,
            nodes: NodeSet::first(3),
            behind: NodeSet::EMPTY,
            deleted: false,
        }
    }

    fn block() -> DomainBlock {
        let gone = DomainEntry { nodes: NodeSet::EMPTY, behind: NodeSet::only(n(2)), deleted: true, ..sample("b", 9) };
        DomainBlock { sequence: 5, entries: Vec::from_slice(&[sample("payroll", 4), gone]).unwrap() }
    }

    #[test]
    fn protocol_md_domain_golden_bytes() {
        let raw = block().encode(CLUSTER, n(3), 1);
        assert_eq!(raw[..8], *b"QRDB\x01\x00\x06\x03");
        assert_eq!(raw[24], 1);
        assert_eq!(raw[32..48], [5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(raw[48..64], [7, 0, 0x0a, 9, 4, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(raw[64..80], [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(raw[80..104], *b"payroll\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(raw[104..112], [1, 1, 0x0a, 9, 9, 0, 0, 0]);
        assert_eq!(raw[128..136], [4, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(DomainBlock::decode(&raw, CLUSTER, n(3), 1).good(), Some(&block()));
        assert!(matches!(DomainBlock::decode(&raw, CLUSTER, n(3), 0), Block::Damaged(RecordError::Misplaced)));
    }

    #[test]
    fn impossible_fields_are_named() {
        let bad = |at: usize, byte: u8| {
            let mut raw = block().encode(CLUSTER, n(3), 0);
            raw[at] = byte;
            reseal(&mut raw);
            DomainBlock::decode(&raw, CLUSTER, n(3), 0)
        };
        for (at, byte) in
            [(40, 9), (41, 1), (48, 0), (48, 25), (48, 6), (49, 2), (49, 1), (52, 0), (64, 0), (80, 7), (500, 1)]
        {
            assert!(matches!(bad(at, byte), Block::Damaged(RecordError::Field(_))), "byte {at}");
        }
        let twice = DomainBlock { sequence: 1, entries: Vec::from_slice(&[sample("a", 1), sample("a", 2)]).unwrap() };
        let raw = twice.encode(CLUSTER, n(0), 0);
        assert!(matches!(DomainBlock::decode(&raw, CLUSTER, n(0), 0), Block::Damaged(_)));
    }

    #[test]
    fn dom_claim_5_a_full_block_is_read_back_and_the_newer_slot_counts() {
        let mut all = DomainBlock { sequence: 1, entries: Vec::new() };
        for i in 0..DOMAINS_MAX as u32 {
            let mut e = sample("x", i + 1);
            e.name.clear();
            for _ in 0..DOMAIN_NAME_MAX {
                e.name.push(char::from(b'a' + i as u8)).unwrap();
            }
            all.entries.push(e).unwrap();
        }
        let a = DomainBlock::decode(&all.encode(CLUSTER, n(1), 0), CLUSTER, n(1), 0);
        assert_eq!(a.good(), Some(&all));
        let b = Block::Good(DomainBlock { sequence: 2, ..DomainBlock::default() });
        assert_eq!(DomainBlock::newer([a.clone(), b.clone()]).map(|(slot, _)| slot), Some(1));
        assert_eq!(DomainBlock::newer([b, a.clone()]).map(|(slot, _)| slot), Some(0));
        assert_eq!(DomainBlock::newer([Block::Damaged(RecordError::Checksum), a]).map(|(slot, _)| slot), Some(1));
        assert_eq!(DomainBlock::newer([Block::Blank, Block::Blank]), None);
    }

    #[test]
    fn the_later_creation_then_the_later_change_takes_the_place() {
        let (old, new) = (sample("a", 3), sample("a", 4));
        assert!(new.is_newer(&old) && !old.is_newer(&new) && !old.is_newer(&old));
        let again = DomainEntry { birth: Birth { order: u64::MAX, index: 0 }, ..sample("a", 1) };
        assert!(again.is_newer(&new));
        let other = DomainEntry { nodes: NodeSet::first(4), ..old.clone() };
        assert!(other.contradicts(&old) && other.is_newer(&old) && !old.is_newer(&other));
    }
}
