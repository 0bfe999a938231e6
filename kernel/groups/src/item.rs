//! What stands in frames: the items that the tables of every node apply in one order.
//!
//! Each node has one control stream and one stream per group. Items of a stream come in the order in which they were given to
//! it. Control items overtake messages: an acknowledgement must not wait for a window that is closed because others wait for
//! that very acknowledgement.

use quorate_base::NodeSet;
use serde::{Deserialize, Serialize};

use crate::capacity::{GROUPS_MAX, NAME_MAX};
use crate::domain::{DomainAsk, DomainEntry, Verdict};
use crate::epoch::{EpochId, Roster};

/// The name of a group, a job or a domain.
pub type Name = heapless::String<NAME_MAX>;

/// A job's membership of a group: a place, and since which place in the order it is that member's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct MemberId {
    /// `0..MEMBERS_MAX`.
    pub place: u8,
    /// The order of the frame by which it joined.
    pub since: u64,
}

/// Names an item for ever: the order of its frame and its place in it. Protocols, merges and requests are named by the item
/// that began them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
pub struct Position {
    /// The frame's place in the order.
    pub order: u64,
    /// The item's place in the frame.
    pub index: u16,
}

/// Why a member is no member any more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Reason {
    /// It unregistered.
    Unregistered,
    /// A work thread failed, with a number of its own (ACK claim 1: the main thread signals the fault).
    Fault(u16),
    /// A work thread did not return within its job's deadline.
    Deadline,
    /// It let more membership changes gather than it may.
    Overrun,
    /// Its domain says that it is none (Remove_Member, Leave_Member, Delete).
    Removed,
    /// Its node left gracefully.
    NodeLeft,
    /// Its node was put out.
    NodeFailed,
}

impl Reason {
    /// The name in traces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unregistered => "unregistered",
            Self::Fault(_) => "fault",
            Self::Deadline => "deadline",
            Self::Overrun => "overrun",
            Self::Removed => "removed",
            Self::NodeLeft => "node left",
            Self::NodeFailed => "node failed",
        }
    }

    /// Whether others see it as a failure (SUB claim 5: "identifying the failed member").
    pub const fn is_failure(self) -> bool {
        !matches!(self, Self::Unregistered | Self::NodeLeft | Self::Removed)
    }
}

/// One item.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "an item is decoded, applied and dropped: there is no allocator")]
pub enum Item<'a> {
    /// The engines' roster from here on. Made by the sequencer, alone in its frame.
    Roster {
        /// The epoch that begins with it.
        epoch: EpochId,
        /// All of it.
        roster: Roster,
        /// Of those that are no more in it: who left gracefully.
        left: NodeSet,
    },
    /// A job wants to become a member of a group.
    Register {
        /// Which group.
        group: Name,
        /// Under which name.
        job: Name,
        /// With which subgroup it comes, `0..SUBGROUPS_MAX`.
        subgroup: u8,
    },
    /// A member goes at once, overtaking its messages.
    Out {
        /// Who.
        member: MemberId,
        /// Why.
        reason: Reason,
    },
    /// A member starts a protocol in its group.
    Start {
        /// Who.
        member: MemberId,
        /// For which work thread.
        thread: u8,
        /// What the protocol is told.
        #[serde(with = "crate::bytes", borrow)]
        bytes: &'a [u8],
    },
    /// A member is through with its local work.
    Ack {
        /// Who.
        member: MemberId,
        /// In which protocol.
        protocol: Position,
        /// Before which ACK round, from 0.
        round: u16,
        /// It takes no part in any further one.
        done: bool,
    },
    /// A member asks for a merge of its group's subgroups (SUB claim 1).
    MergeRequest {
        /// Who.
        member: MemberId,
    },
    /// The group data of a subgroup.
    GroupData {
        /// Its leader.
        member: MemberId,
        /// Of which merge.
        merge: Position,
        /// The data.
        #[serde(with = "crate::bytes", borrow)]
        bytes: &'a [u8],
    },
    /// A member acknowledges a round of a merge.
    MergeAck {
        /// Who.
        member: MemberId,
        /// Of which merge.
        merge: Position,
        /// Which round, from 0.
        round: u16,
    },
    /// A node invokes an interface of a domain.
    Ask(DomainAsk),
    /// An active member's node has looked in its own copy, and has written what is to be written.
    Vote {
        /// On which request.
        ask: Position,
        /// What it found.
        verdict: Verdict,
    },
    /// A node's copy of a domain, told to the others.
    Copy(DomainEntry),
    /// A node that has just got its state asks for the copies that concern it.
    AskCopies,
    /// A message to the group. In the group's own stream.
    Data {
        /// From whom.
        member: MemberId,
        /// To one member alone.
        to: Option<MemberId>,
        /// The message.
        #[serde(with = "crate::bytes", borrow)]
        bytes: &'a [u8],
    },
    /// A member goes when all that it sent is delivered. In the group's own stream.
    Unregister {
        /// Who.
        member: MemberId,
    },
    /// A part of a message that is longer than a frame. In the group's own stream, one after another, with nobody else's
    /// messages between them.
    Part {
        /// From whom.
        member: MemberId,
        /// To one member alone.
        to: Option<MemberId>,
        /// How many bytes come before it.
        offset: u16,
        /// Others follow.
        more: bool,
        /// Its bytes.
        #[serde(with = "crate::bytes", borrow)]
        bytes: &'a [u8],
    },
}

/// Names one of a node's streams.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Stream(u8);

/// How many streams a node has.
pub const STREAMS: usize = 1 + GROUPS_MAX;

impl Stream {
    /// The control stream.
    pub const CONTROL: Self = Self(0);

    /// The stream of the group at `slot`.
    pub const fn of_group(slot: u8) -> Self {
        Self(1 + slot % GROUPS_MAX as u8)
    }

    /// The group's slot, if it is a group's.
    pub const fn slot(self) -> Option<u8> {
        self.0.checked_sub(1)
    }

    /// As an index into tables of [`STREAMS`] entries.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..STREAMS as u8).map(Self)
    }
}

impl TryFrom<u8> for Stream {
    type Error = &'static str;
    fn try_from(n: u8) -> Result<Self, Self::Error> {
        if usize::from(n) < STREAMS { Ok(Self(n)) } else { Err("stream out of range") }
    }
}

impl From<Stream> for u8 {
    fn from(stream: Stream) -> u8 {
        stream.0
    }
}

/// Walks over the items of a frame; ends at the first that does not decode.
pub fn items(body: &[u8]) -> Items<'_> {
    Items { body, at: 0 }
}

/// Iterator over a frame's items, each with the range of its bytes.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Items<'a> {
    /// From a place that this iterator gave out before.
    pub fn from(body: &'a [u8], at: usize) -> Self {
        Self { body, at }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = (core::ops::Range<usize>, Item<'a>);
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.body.get(self.at..).filter(|rest| !rest.is_empty())?;
        let (item, left) = postcard::take_from_bytes::<Item<'a>>(rest).ok()?;
        let range = self.at..self.body.len() - left.len();
        self.at = range.end;
        Some((range, item))
    }
}
