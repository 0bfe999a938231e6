//! What was found at a place on the disk. Unreadable is a value of its own, never "empty" (DESIGN 3).

use core::fmt;
use quorate_base::DiskError;

/// The content of one record's place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Block<T> {
    /// Not read yet.
    #[default]
    Unread,
    /// All zeros: never written.
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
                matches!(error, RecordError::Misplaced | RecordError::ForeignCluster | RecordError::Version(_))
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
            Self::Field(name) => write!(f, "impossible value in field {name}"),
        }
    }
}

impl core::error::Error for RecordError {}
