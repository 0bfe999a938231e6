//! Ballots and round names.

use core::fmt;
use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// Names one term of one master: (round, node), ordered, larger is newer. In the low six bits stands the node, so that
/// two nodes never make the same ballot. Zero is *no ballot yet*. (Disk Paxos, Gafni and Lamport 2003; DESIGN 4.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Ballot(pub u64);

impl Ballot {
    /// Before the first.
    pub const NONE: Self = Self(0);

    /// The smallest ballot of `node` that is above `self`; `None` when 2⁵⁸ rounds are used up.
    pub const fn next_for(self, node: NodeId) -> Option<Self> {
        let round = (self.0 >> 6) + 1;
        if round >> 58 != 0 { None } else { Some(Self(round << 6 | node.get() as u64)) }
    }

    /// Whose it is. [`Ballot::NONE`] is nobody's.
    pub const fn node(self) -> Option<NodeId> {
        if self.0 == 0 { None } else { NodeId::new((self.0 & 63) as u8) }
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node() {
            None => f.write_str("b-"),
            Some(n) => write!(f, "b{}/{}", self.0 >> 6, n),
        }
    }
}

/// The name of a round: the ballot under which it began and a number under that ballot. A new master that issues a
/// known round again keeps its name (DESIGN 5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct RoundId {
    /// The ballot of the master that began it.
    pub ballot: Ballot,
    /// From 1 under each ballot; zero is never used.
    pub sequence: u32,
}

impl fmt::Display for RoundId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ballot.0, self.sequence)
    }
}

impl fmt::Debug for RoundId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballots_of_two_nodes_never_meet_and_always_grow() {
        let (a, b) = (NodeId::new(0).unwrap(), NodeId::new(63).unwrap());
        let first = Ballot::NONE.next_for(b).unwrap();
        let second = first.next_for(a).unwrap();
        assert!(Ballot::NONE < first && first < second);
        assert_eq!((first.node(), second.node()), (Some(b), Some(a)));
        assert_eq!(Ballot::NONE.node(), None);
        assert_eq!(Ballot(u64::MAX).next_for(a), None);
    }
}
