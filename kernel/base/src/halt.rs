//! Why a node ended. EP calls the unwanted ones *panic*: "a node panics by halting further processing in order to avoid
//! corrupting shared cluster resources" (EP p. 5).

use core::fmt;
use serde::{Deserialize, Serialize};

use crate::capacity::LEVELS_MAX;
use crate::id::{BootNonce, Incarnation, NodeId};
use crate::view::ViewName;

/// Why a node halted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub enum HaltReason {
    /// The graceful leave is through. The only wanted one.
    Left,
    /// The others put this incarnation out.
    PutOut {
        /// The view that says so.
        view: ViewName,
        /// This incarnation.
        incarnation: Incarnation,
    },
    /// Another machine writes to this node's own blocks: a foreign boot nonce stands there.
    ForeignNonce {
        /// The nonce that was found.
        found: BootNonce,
    },
    /// At boot the old heartbeat of this node id was still moving.
    NodeIdInUse,
    /// The master refused the join for good.
    Refused {
        /// Why.
        reason: RefuseReason,
    },
    /// The database has less than what a heartbeat names as committed, or a block that must be readable is not.
    DatabaseDamaged {
        /// What was found.
        what: &'static str,
    },
    /// No record for this machine: `node=` on the command line names none, and no machine identity matches.
    NotConfigured,
    /// The node's record says that it must not join.
    Disabled {
        /// Which.
        node: NodeId,
    },
    /// No disk with a membership database was found.
    NoDisk,
    /// A membership database was found, but of another cluster.
    ForeignDisk,
    /// Both copies of the superblock are damaged.
    SuperblockDamaged,
    /// The database's format has another version.
    WrongVersion {
        /// The version that was found.
        found: u16,
    },
    /// The superblock's time-outs break the inequality, or this machine cannot keep them.
    BadTiming,
    /// The disk failed at boot.
    Disk {
        /// How.
        error: crate::port::DiskError,
    },
    /// A level of this node did not acknowledge within its deadline while this node was the master: another is to take
    /// over.
    LevelOverdue {
        /// The level's order.
        level: u16,
    },
    /// The database asks for reservations, and the disk has none that fence.
    NoReservations,
    /// A reservation that is not the cluster's stands on the disk.
    ForeignReservation {
        /// Of which type, as SPC-4 numbers them.
        kind: u8,
    },
    /// The disk did not do what a registration needs.
    Reservation {
        /// How it failed.
        error: crate::reservation::ReservationError,
    },
    /// Something that cannot be. A wrong node is worse than a dead one.
    Impossible {
        /// What was seen.
        what: &'static str,
    },
}

impl HaltReason {
    /// Whether it was asked for; else it is EP's panic.
    pub const fn is_wanted(&self) -> bool {
        matches!(self, Self::Left)
    }
}

impl fmt::Display for HaltReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("left gracefully"),
            Self::PutOut { view, incarnation } => {
                write!(f, "put out: view {} of ballot {} excludes incarnation {incarnation}", view.number, view.ballot)
            }
            Self::ForeignNonce { found } => write!(
                f,
                "another machine runs under this node id: its boot nonce {found:?} stands in this node's block"
            ),
            Self::NodeIdInUse => f.write_str("node id in use: its heartbeat is still moving"),
            Self::Refused { reason } => write!(f, "join refused: {reason}"),
            Self::DatabaseDamaged { what } => {
                write!(f, "database damaged: {what}; run `cargo cluster db check IMAGE --repair`")
            }
            Self::NotConfigured => f.write_str(
                "this machine is not configured: give node=N on the kernel command line or put its SMBIOS UUID or NIC \
                 address into a node record",
            ),
            Self::Disabled { node } => write!(f, "node {node} is disabled in the membership database"),
            Self::NoDisk => f.write_str("no shared disk with a membership database was found"),
            Self::ForeignDisk => f.write_str("foreign disk: its membership database belongs to another cluster"),
            Self::SuperblockDamaged => {
                f.write_str("superblock damaged: neither copy is valid; run `cargo cluster db check IMAGE`")
            }
            Self::WrongVersion { found } => write!(f, "wrong format version {found} of the membership database"),
            Self::BadTiming => {
                f.write_str("the superblock's time-outs are not safe: see `cargo cluster db check IMAGE`")
            }
            Self::Disk { error } => write!(f, "shared disk failed: {error}"),
            Self::LevelOverdue { level } => {
                write!(f, "level {level} of this node did not acknowledge within its deadline")
            }
            Self::NoReservations => f.write_str(
                "this disk has no persistent reservations to fence with, as the database asks: attach one that has, or make \
                 the database with `cargo cluster db create IMAGE --fence lease`",
            ),
            Self::ForeignReservation { kind } => write!(
                f,
                "a reservation of type {kind} that is not this cluster's stands on the shared disk: whoever made it must \
                 release it (`sg_persist --read-reservation` shows its key)"
            ),
            Self::Reservation { error } => write!(f, "this node could not be registered with the reservation: {error}"),
            Self::Impossible { what } => write!(f, "impossible state: {what}"),
        }
    }
}

/// Why a master refuses a join. Sent to the joiner by number; a refused node says it in its own words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum RefuseReason {
    /// Another version of the interconnect protocol.
    ProtocolVersion,
    /// Another set of kernel levels.
    Levels,
    /// The cluster has as many different levels as it can have.
    TooManyLevels,
    /// Other barriers for a level.
    Barriers {
        /// The level's order.
        level: u16,
    },
    /// Other time-outs.
    Timing,
    /// Not a configured, enabled node.
    Disabled,
    /// Another deadline for a level.
    Deadline {
        /// The level's order.
        level: u16,
    },
    /// The joiner and this joined node do not hear each other. The joiner tries again.
    NotHeardBy {
        /// The node.
        node: NodeId,
    },
}

impl RefuseReason {
    /// Whether the joiner should try again by itself; else it halts.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::NotHeardBy { .. })
    }
}

impl fmt::Display for RefuseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProtocolVersion => f.write_str("it speaks another version of the interconnect protocol"),
            Self::Levels => f.write_str("its kernel levels differ from the cluster's"),
            Self::TooManyLevels => write!(f, "the cluster has no room for another level: it has {LEVELS_MAX}"),
            Self::Barriers { level } => write!(f, "its barriers differ at level {level}"),
            Self::Deadline { level } => write!(f, "its deadline differs at level {level}"),
            Self::Timing => f.write_str("its time-outs differ from the cluster's"),
            Self::Disabled => f.write_str("it is not configured or disabled"),
            Self::NotHeardBy { node } => write!(f, "not heard by node {node}"),
        }
    }
}
