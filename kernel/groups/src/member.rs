//! Members of groups, and sets of them.

use quorate_base::NodeId;
use serde::{Deserialize, Serialize};

use crate::item::{MemberId, Name};

/// Subgroups that a group's members may come with.
pub const SUBGROUPS_MAX: u8 = 32;

/// A job that is a member of a group.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Member {
    /// What names it.
    pub id: MemberId,
    /// The group's slot.
    pub slot: u8,
    /// On which node it runs.
    pub node: NodeId,
    /// The job's name.
    pub name: Name,
    /// Its subgroup.
    pub subgroup: u8,
}

impl Member {
    /// The unique characteristic by which leaders are determined (SUB claims 8 and 9): the name, and between equal names of
    /// two nodes the node.
    pub fn rank(&self) -> (&str, NodeId) {
        (self.name.as_str(), self.node)
    }
}

/// A set of members, by place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Serialize, Deserialize)]
pub struct MemberSet(pub u128);

impl MemberSet {
    /// Nobody.
    pub const EMPTY: Self = Self(0);

    /// Whether that place is in it.
    pub const fn contains(self, place: u8) -> bool {
        self.0 >> (place & 127) & 1 == 1
    }

    /// Puts a place in.
    pub const fn insert(&mut self, place: u8) {
        self.0 |= 1 << (place & 127);
    }

    /// Takes a place out. True if it was in it.
    pub const fn remove(&mut self, place: u8) -> bool {
        let was = self.contains(place);
        self.0 &= !(1 << (place & 127));
        was
    }

    /// In this one, not in `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Nobody in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }
}

impl FromIterator<u8> for MemberSet {
    fn from_iter<T: IntoIterator<Item = u8>>(places: T) -> Self {
        let mut set = Self::EMPTY;
        for place in places {
            set.insert(place);
        }
        set
    }
}
