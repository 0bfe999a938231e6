//! The superblock: what holds for the whole cluster. Two copies; of the valid ones that with the higher generation
//! counts. Written offline only, copy 1 first with the new generation, then copy 0.
//!
//! ```text
//!  32  8  generation
//!  40  1  bytes of the name
//!  41  1  configured nodes, 1..=64
//!  42  1  places for nodes: 64
//!  43  1  levels of a node at most, 1..=32
//!  44  4  distance between two records in bytes: 4096
//!  48  1  fence method: 0 lease, 1 reservation
//!  49  1  commands of a preempted nexus: 0 linger, 1 end
//!  50  1  who holds the reservation: 0 all registrants where the disk has that, 1 one of them
//!  51  1  what stands where a node has not written yet: 0 zeros, 1 a sealed record without content
//!  52  4  zeros
//!  56 32  time-outs in ms, 4 bytes each: net_heartbeat, net_suspect, disk_heartbeat, disk_suspect, io_max, lease, dead,
//!         outage_grace
//!  88 32  the cluster's name
//! 120 32  the cluster's key
//! 152  1  the key's epoch: one more, modulo 256, with each new key
//! 153     zeros
//! ```
//! A rotation while nodes run would need the next key beside this one: its place would be 160 … 191 and its epoch's 153,
//! under a new format version. Frames name the epoch of their key already.

use core::fmt;
use quorate_base::capacity::{LEVELS_MAX, NODES_MAX, RECORD_BYTES, RECORD_PITCH};
use quorate_base::timing::TimingError;
use quorate_base::{ClusterId, ClusterKey, DiskError, FenceMethod, Preempted, Registrants, Timing};

use crate::block::{Blanks, Block, RecordError};
use crate::name::Name;
use crate::sealed::{
    CLUSTER_AT, Kind, Place, Raw, bytes_at, open, put, put_u32, put_u64, reserved, seal, u32_at, u64_at,
};

const TIMING_AT: usize = 56;

/// The content of a superblock.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Superblock {
    /// Grows by one with each change.
    pub generation: u64,
    /// Whose database it is.
    pub cluster: ClusterId,
    /// The cluster's name, for people.
    pub name: Name,
    /// Time-outs. Not checked by decoding: see [`Superblock::check_timing`].
    pub timing: Timing,
    /// Configured nodes: ids `0..nodes`.
    pub nodes: u8,
    /// Levels of a node at most.
    pub levels_max: u8,
    /// How a node that was put out is kept from the disk.
    pub fence: FenceMethod,
    /// What this disk makes of the commands of a node whose registration was preempted.
    pub preempted: Preempted,
    /// Who holds the reservation.
    pub registrants: Registrants,
    /// What stands where a node has not written yet.
    pub blanks: Blanks,
    /// The cluster's secret.
    pub key: ClusterKey,
    /// Which of the cluster's keys that is; frames name it, so that a node with another one is told from a stranger.
    pub key_epoch: u8,
}

/// Why there is no superblock to go by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SuperblockError {
    /// Both copies are blank: no database was ever made here.
    Blank,
    /// No copy is valid, and one of them could not be read.
    Unreadable(DiskError),
    /// No copy is valid, and one of them is of another format version.
    Version(u16),
    /// No copy is valid.
    Damaged(RecordError),
    /// Two valid copies belong to two clusters.
    TwoClusters,
}

impl fmt::Display for SuperblockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("both copies of the superblock are blank"),
            Self::Unreadable(e) => write!(f, "no copy of the superblock can be read: {e}"),
            Self::Version(found) => {
                write!(f, "wrong format version {found} of the membership database, this is {}", crate::FORMAT_VERSION)
            }
            Self::Damaged(e) => write!(f, "no copy of the superblock is valid: {e}"),
            Self::TwoClusters => f.write_str("the two copies of the superblock belong to two clusters"),
        }
    }
}

impl core::error::Error for SuperblockError {}

impl Superblock {
    /// A copy's place.
    pub const fn place(copy: u8) -> Place {
        Place { kind: Kind::Superblock, node: None, slot: copy }
    }

    /// The bytes of copy 0 or 1.
    pub fn encode(&self, copy: u8) -> Raw {
        let mut raw = [0; RECORD_BYTES];
        put_u64(&mut raw, 32, self.generation);
        self.name.put(&mut raw, 40, 88);
        raw[41] = self.nodes;
        raw[42] = NODES_MAX as u8;
        raw[43] = self.levels_max;
        put_u32(&mut raw, 44, RECORD_PITCH as u32);
        raw[48] = match self.fence {
            FenceMethod::Lease => 0,
            FenceMethod::Reservation => 1,
        };
        raw[49] = match self.preempted {
            Preempted::Lingers => 0,
            Preempted::Ends => 1,
        };
        raw[50] = match self.registrants {
            Registrants::All => 0,
            Registrants::Only => 1,
        };
        raw[51] = match self.blanks {
            Blanks::Zeros => 0,
            Blanks::Sealed => 1,
        };
        for (i, (_, ms)) in self.timing.entries().into_iter().enumerate() {
            put_u32(&mut raw, TIMING_AT + 4 * i, ms);
        }
        put(&mut raw, 120, &self.key.0);
        raw[152] = self.key_epoch;
        seal(&mut raw, self.cluster, Self::place(copy));
        raw
    }

    /// What stands in `bytes`, a record or the whole pitch that begins with it. The time-outs are taken as they are.
    pub fn decode(bytes: &[u8], copy: u8) -> Block<Self> {
        open(bytes, None, Self::place(copy)).and_then(|raw| {
            let (nodes, levels_max) = (raw[41], raw[43]);
            if !(1..=NODES_MAX).contains(&usize::from(nodes)) {
                return Err(RecordError::Field("nodes"));
            }
            if usize::from(raw[42]) != NODES_MAX {
                return Err(RecordError::Field("nodes_max"));
            }
            if !(1..=LEVELS_MAX).contains(&usize::from(levels_max)) {
                return Err(RecordError::Field("levels_max"));
            }
            if u64::from(u32_at(raw, 44)) != RECORD_PITCH {
                return Err(RecordError::Field("record_pitch"));
            }
            let fence = match raw[48] {
                0 => FenceMethod::Lease,
                1 => FenceMethod::Reservation,
                _ => return Err(RecordError::Field("fence")),
            };
            let preempted = match raw[49] {
                0 => Preempted::Lingers,
                1 => Preempted::Ends,
                _ => return Err(RecordError::Field("preempted")),
            };
            let registrants = match raw[50] {
                0 => Registrants::All,
                1 => Registrants::Only,
                _ => return Err(RecordError::Field("registrants")),
            };
            let blanks = match raw[51] {
                0 => Blanks::Zeros,
                1 => Blanks::Sealed,
                _ => return Err(RecordError::Field("blanks")),
            };
            reserved(raw, 52, TIMING_AT)?;
            reserved(raw, 153, RECORD_BYTES)?;
            Ok(Self {
                generation: u64_at(raw, 32),
                cluster: ClusterId(bytes_at(raw, CLUSTER_AT)),
                name: Name::get(raw, 40, 88)?,
                timing: timing_at(raw),
                nodes,
                levels_max,
                fence,
                preempted,
                registrants,
                blanks,
                key: ClusterKey(bytes_at(raw, 120)),
                key_epoch: raw[152],
            })
        })
    }

    /// The copy that counts.
    ///
    /// # Errors
    /// If neither is valid, or if they belong to two clusters.
    pub fn newest(copies: [&Block<Self>; 2]) -> Result<&Self, SuperblockError> {
        match copies.map(Block::good) {
            [Some(a), Some(b)] if a.cluster != b.cluster => Err(SuperblockError::TwoClusters),
            [Some(a), Some(b)] => Ok(if b.generation > a.generation { b } else { a }),
            [Some(one), None] | [None, Some(one)] => Ok(one),
            [None, None] => Err(copies.map(why_not).into_iter().max_by_key(weight).unwrap_or(SuperblockError::Blank)),
        }
    }

    /// Whether the time-outs are safe; to be asked wherever they are loaded (DESIGN 7, the inequality).
    ///
    /// # Errors
    /// The first rule that they break.
    pub fn check_timing(&self) -> Result<(), TimingError> {
        self.timing.check()
    }
}

fn timing_at(raw: &Raw) -> Timing {
    let ms = |i: usize| u32_at(raw, TIMING_AT + 4 * i);
    Timing {
        net_heartbeat: ms(0),
        net_suspect: ms(1),
        disk_heartbeat: ms(2),
        disk_suspect: ms(3),
        io_max: ms(4),
        lease: ms(5),
        dead: ms(6),
        outage_grace: ms(7),
    }
}

fn why_not(copy: &Block<Superblock>) -> SuperblockError {
    match copy {
        Block::Blank | Block::Good(_) => SuperblockError::Blank,
        Block::Damaged(RecordError::Version(v)) => SuperblockError::Version(*v),
        Block::Damaged(e) => SuperblockError::Damaged(*e),
        // Not having read it is the reader's mistake; it is no reason to take the disk for blank.
        Block::Unread => SuperblockError::Unreadable(DiskError::Device),
        Block::Unreadable(e) => SuperblockError::Unreadable(*e),
    }
}

/// Of two reasons the more telling one is named.
fn weight(error: &SuperblockError) -> u8 {
    match error {
        SuperblockError::Blank => 0,
        SuperblockError::Damaged(_) => 1,
        SuperblockError::Unreadable(_) => 2,
        SuperblockError::Version(_) => 3,
        SuperblockError::TwoClusters => 4,
    }
}
