//! Identities: nodes, their lives, sets of nodes, the cluster.

use core::fmt;
use serde::{Deserialize, Serialize};

use crate::capacity::NODES_MAX;

/// A configured node's number, `0..NODES_MAX`. It indexes the node's records in the membership database (EP p. 4:
/// "indexed by a node identification number").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct NodeId(u8);

impl NodeId {
    /// The node of that number, or `None` if it is not below [`NODES_MAX`].
    pub const fn new(id: u8) -> Option<Self> {
        if (id as usize) < NODES_MAX { Some(Self(id)) } else { None }
    }

    /// The number, `0..NODES_MAX`.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The number as an index into tables of [`NODES_MAX`] entries.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All possible nodes, ascending.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + Clone {
        (0..NODES_MAX as u8).map(Self)
    }

    /// The first `count` nodes: those that a database of `count` nodes configures.
    pub fn first(count: u8) -> impl DoubleEndedIterator<Item = Self> + Clone {
        (0..count.min(NODES_MAX as u8)).map(Self)
    }
}

impl TryFrom<u8> for NodeId {
    type Error = &'static str;
    fn try_from(id: u8) -> Result<Self, Self::Error> {
        Self::new(id).ok_or("node id out of range")
    }
}

impl From<NodeId> for u8 {
    fn from(id: NodeId) -> u8 {
        id.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "N{}", self.0)
    }
}

/// One life of a node, from boot to halt. It grows by one at each boot and is kept in the node's identity record.
/// Zero means *never booted*.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Incarnation(pub u32);

impl Incarnation {
    /// No life yet.
    pub const NEVER: Self = Self(0);

    /// The life after this one, or `None` after 2³² − 1 boots.
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "i{}", self.0)
    }
}

/// 64 random bits drawn at boot. Two machines that run under one node id may have equal incarnations; their nonces
/// differ (DESIGN 3, *birth of an incarnation*).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct BootNonce(pub u64);

impl fmt::Debug for BootNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The cluster's secret, 256 random bits. All keys of the interconnect are derived from it; it stands in the superblock
/// and nowhere else.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterKey(pub [u8; 32]);

impl fmt::Debug for ClusterKey {
    /// Says nothing: it must not get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(…)")
    }
}

/// 128 random bits that name a cluster; in every record and every message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl ClusterId {
    /// From its text: 32 hexadecimal digits, hyphens anywhere between them. `None` if it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut digits = text.chars().filter(|c| *c != '-').map(|c| c.to_digit(16));
        let mut id = [0; 16];
        for byte in &mut id {
            let (high, low) = (digits.next()??, digits.next()??);
            *byte = (high * 16 + low) as u8;
        }
        digits.next().is_none().then_some(Self(id))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, b) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{b:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A set of nodes, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeSet(pub u64);

impl NodeSet {
    /// No node.
    pub const EMPTY: Self = Self(0);

    /// The set of one node.
    pub const fn only(node: NodeId) -> Self {
        Self(1 << node.0)
    }

    /// The first `count` nodes.
    pub const fn first(count: u8) -> Self {
        if count as usize >= NODES_MAX { Self(u64::MAX) } else { Self((1 << count) - 1) }
    }

    /// Whether `node` is in it.
    pub const fn contains(self, node: NodeId) -> bool {
        self.0 >> node.0 & 1 == 1
    }

    /// Puts `node` in. True if it was not in it before.
    pub fn insert(&mut self, node: NodeId) -> bool {
        let new = !self.contains(node);
        self.0 |= 1 << node.0;
        new
    }

    /// Takes `node` out. True if it was in it.
    pub fn remove(&mut self, node: NodeId) -> bool {
        let was = self.contains(node);
        self.0 &= !(1 << node.0);
        was
    }

    /// This set with `node`.
    #[must_use]
    pub const fn with(self, node: NodeId) -> Self {
        Self(self.0 | 1 << node.0)
    }

    /// This set without `node`.
    #[must_use]
    pub const fn without(self, node: NodeId) -> Self {
        Self(self.0 & !(1 << node.0))
    }

    /// In both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// In either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// In this one, not in `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of this set is in `other`.
    pub const fn is_subset(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// No node in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The lowest, if any.
    pub fn lowest(self) -> Option<NodeId> {
        self.iter().next()
    }

    /// Its nodes, ascending.
    pub fn iter(self) -> NodeSetIter {
        NodeSetIter(self.0)
    }
}

/// Iterator over a [`NodeSet`].
#[derive(Clone, Debug)]
pub struct NodeSetIter(u64);

impl Iterator for NodeSetIter {
    type Item = NodeId;
    fn next(&mut self) -> Option<NodeId> {
        if self.0 == 0 {
            return None;
        }
        let id = self.0.trailing_zeros() as u8;
        self.0 &= self.0 - 1;
        NodeId::new(id)
    }
}

impl IntoIterator for NodeSet {
    type Item = NodeId;
    type IntoIter = NodeSetIter;
    fn into_iter(self) -> NodeSetIter {
        self.iter()
    }
}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<T: IntoIterator<Item = NodeId>>(nodes: T) -> Self {
        nodes.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (i, n) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{n}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_set_has_all_64_places() {
        let mut s = NodeSet::EMPTY;
        for n in NodeId::all() {
            assert!(s.insert(n));
            assert!(!s.insert(n));
        }
        assert_eq!(s, NodeSet::first(64));
        assert_eq!(s.len(), NODES_MAX);
        assert!(s.iter().eq(NodeId::all()));
        assert!(s.remove(NodeId(63)));
        assert_eq!(s, NodeSet::first(63));
    }

    #[test]
    fn a_cluster_id_is_read_back_from_its_text() {
        extern crate std;
        use std::string::ToString;
        let id = ClusterId([0x12, 0xab, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0xff]);
        assert_eq!(ClusterId::parse(&id.to_string()), Some(id));
        for bad in ["", "12", "zz000000000000000000000000000000", "000000000000000000000000000000000"] {
            assert_eq!(ClusterId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn node_id_ends_at_the_capacity() {
        assert!(NodeId::new(63).is_some());
        assert!(NodeId::new(64).is_none());
    }
}
