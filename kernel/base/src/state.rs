//! States of a node and transitions between them (EP p. 4).

use core::fmt;
use serde::{Deserialize, Serialize};

/// What a node is to the cluster, as a whole or at one level (EP p. 4, "A node can have any one of the following
/// states").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum NodeState {
    /// Not configured, or not an active member.
    #[default]
    Inactive = 0,
    /// The others know that it wants in; not every level is through.
    Joining = 1,
    /// A member at every level.
    Joined = 2,
    /// It asked to go; not every level is through.
    Leaving = 3,
    /// The others put it out; recovery is not through.
    ForcedLeaving = 4,
}

impl NodeState {
    /// From its number on disk and wire.
    pub const fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            0 => Self::Inactive,
            1 => Self::Joining,
            2 => Self::Joined,
            3 => Self::Leaving,
            4 => Self::ForcedLeaving,
            _ => return None,
        })
    }

    /// The name in traces and scenario files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Joining => "joining",
            Self::Joined => "joined",
            Self::Leaving => "leaving",
            Self::ForcedLeaving => "forced-leaving",
        }
    }

    /// Joining, joined or leaving: its node runs and takes part.
    pub const fn is_member(self) -> bool {
        matches!(self, Self::Joining | Self::Joined | Self::Leaving)
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A kind of transition, which is also the kind of a notification that starts work (EP Table 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Transition {
    /// Inactive to Joined, bottom-up.
    Joining = 1,
    /// Joined to Inactive, top-down.
    Leaving = 3,
    /// Anything to Inactive, bottom-up, without the node's help.
    ForcedLeaving = 4,
}

impl Transition {
    /// From its number on the wire.
    pub const fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            1 => Self::Joining,
            3 => Self::Leaving,
            4 => Self::ForcedLeaving,
            _ => return None,
        })
    }

    /// The state of the subject while it lasts.
    pub const fn during(self) -> NodeState {
        match self {
            Self::Joining => NodeState::Joining,
            Self::Leaving => NodeState::Leaving,
            Self::ForcedLeaving => NodeState::ForcedLeaving,
        }
    }

    /// The state after all nodes have acknowledged (EP Table 1, second column).
    pub const fn after(self) -> NodeState {
        match self {
            Self::Joining => NodeState::Joined,
            Self::Leaving | Self::ForcedLeaving => NodeState::Inactive,
        }
    }

    /// Levels are taken from the lowest up (EP p. 5); a graceful leave goes from the highest down.
    pub const fn is_bottom_up(self) -> bool {
        !matches!(self, Self::Leaving)
    }

    /// The name in traces and scenario files.
    pub const fn name(self) -> &'static str {
        self.during().name()
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
