//! What was found at a place on the disk. Unreadable is a value of its own, never "empty" (DESIGN 3).

use core::fmt;
use quorate_base::capacity::RECORD_BYTES;
use quorate_base::{ClusterId, DiskError, NodeId};

use crate::ballot_block::BallotBlock;
use crate::heartbeat::Heartbeat;
use crate::identity::Identity;
use crate::layout;
use crate::sealed::{Place, Raw, blank, is_zeros};

/// The content of one record's place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Block<T> {
    /// Not read yet.
    #[default]
    Unread,
    /// Never written: a sealed record without content, or zeros. What zeros are worth says [`Blanks`].
    Blank,
    /// A valid record.
    Good(T),
    /// Something that is no valid record of this kind, cluster, version and place.
    Damaged(RecordError),
    /// The disk could not read it.
    Unreadable(DiskError),
}

impl<T> Block<T> {
    /// The record, if it is valid.
    pub fn good(&self) -> Option<&T> {
        match self {
            Self::Good(t) => Some(t),
            _ => None,
        }
    }

    /// Neither valid nor blank: nothing is known about it.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unread | Self::Damaged(_) | Self::Unreadable(_))
    }

    /// Whether it hides what belongs there, rather than being what a write that stopped half way left: the disk could not
    /// read it, or gave a whole record of another place, cluster or version.
    pub fn is_hidden(&self) -> bool {
        match self {
            Self::Unreadable(_) => true,
            Self::Damaged(error) => {
                use RecordError::{ForeignCluster, Misplaced, Version, Zeros};
                matches!(error, Misplaced | ForeignCluster | Version(_) | Zeros)
            }
            Self::Unread | Self::Blank | Self::Good(_) => false,
        }
    }

    /// Goes on with a valid record; what the next step refuses is damaged.
    pub fn and_then<U>(self, next: impl FnOnce(T) -> Result<U, RecordError>) -> Block<U> {
        match self {
            Self::Unread => Block::Unread,
            Self::Blank => Block::Blank,
            Self::Good(t) => match next(t) {
                Ok(u) => Block::Good(u),
                Err(e) => Block::Damaged(e),
            },
            Self::Damaged(e) => Block::Damaged(e),
            Self::Unreadable(e) => Block::Unreadable(e),
        }
    }
}

/// What stands in a database where a node has not written yet: in its identity slots, heartbeat and ballot slots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Blanks {
    /// Zeros, as in a new file. A misdirected read that gives a place where nothing was ever written cannot be told from them.
    #[default]
    Zeros,
    /// A sealed record without content, which names its place ([`sealed::blank`](crate::sealed::blank)): zeros are
    /// another place's.
    Sealed,
}

impl Blanks {
    /// As tools print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zeros => "zeros",
            Self::Sealed => "sealed",
        }
    }

    /// What was found in a place that a node writes, given its bytes: zeros are no blank where blanks are sealed.
    pub fn judge<T>(self, bytes: &[u8], found: Block<T>) -> Block<T> {
        match found {
            Block::Blank if self == Self::Sealed && is_zeros(bytes) => Block::Damaged(RecordError::Zeros),
            found => found,
        }
    }

    /// What is written when the database is made, record by record: nothing where zeros will do.
    pub fn records(self, cluster: ClusterId, nodes: u8) -> impl Iterator<Item = (u64, Raw)> {
        let nodes = if self == Self::Sealed { nodes } else { 0 };
        NodeId::first(nodes).flat_map(move |n| {
            let identity = |slot| (layout::identity(n, slot), Identity::place(n, slot));
            let ballot = |slot| (layout::ballot(n, slot), BallotBlock::place(n, slot));
            let heartbeat = (layout::heartbeat(n), Heartbeat::place(n));
            [identity(0), identity(1), heartbeat, ballot(0), ballot(1)].map(|(at, place)| (at, blank(cluster, place)))
        })
    }

    /// The record of a place where its node has not written yet.
    pub fn record(self, cluster: ClusterId, place: Place) -> Raw {
        match self {
            Self::Zeros => [0; RECORD_BYTES],
            Self::Sealed => blank(cluster, place),
        }
    }
}

/// Why bytes are not a valid record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RecordError {
    /// Fewer bytes than a record has.
    Short,
    /// No magic: not a record of this product.
    Magic,
    /// Another format version.
    Version(u16),
    /// The checksum does not fit.
    Checksum,
    /// A record of another kind, node or slot: a misdirected read or write.
    Misplaced,
    /// Another cluster's.
    ForeignCluster,
    /// Nothing but zeros, where even what was never written is sealed: another place's content, or one that was wiped.
    Zeros,
    /// A field holds a value that cannot be.
    Field(&'static str),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("cut short"),
            Self::Magic => f.write_str("no record of a membership database"),
            Self::Version(found) => write!(f, "format version {found}, this is version {}", crate::FORMAT_VERSION),
            Self::Checksum => f.write_str("wrong checksum"),
            Self::Misplaced => f.write_str("a record that belongs to another place"),
            Self::ForeignCluster => f.write_str("a record of another cluster"),
            Self::Zeros => f.write_str("zeros, where even what was never written has a seal"),
            Self::Field(name) => write!(f, "impossible value in field {name}"),
        }
    }
}

impl core::error::Error for RecordError {}
