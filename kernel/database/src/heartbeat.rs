//! A node's heartbeat block: written by that node only, once per beat.
//!
//! ```text
//! 32  4  incarnation
//! 36  1  flag for the master lock: 0 none, 1 want, 2 hold
//! 37  1  the node's own overall state: 0 inactive, 1 joining, 2 joined, 3 leaving, 4 forced-leaving
//! 38  1  bits: 0 frozen, 1 clean, 2 carrier
//! 39  1  zero
//! 40  8  boot nonce
//! 48  8  counter
//! 56  8  whom it hears, bit n for node n
//! 64  8  newest committed view that it knows: ballot
//! 72  8  and number
//! 80  8  frame-counter floor
//! 88  8  Lamport clock
//! 96     zeros
//! ```

use quorate_base::capacity::RECORD_BYTES;
use quorate_base::{Ballot, BootNonce, ClusterId, Incarnation, NodeId, NodeSet, NodeState, ViewName};

use crate::block::{Block, RecordError};
use crate::sealed::{Kind, Place, Raw, open_written, put_u32, put_u64, reserved, seal, u32_at, u64_at};

/// The node's flag for the master lock (Dekker; DESIGN 4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum Flag {
    /// It does not want the lock.
    #[default]
    None = 0,
    /// It wants the lock and waits.
    Want = 1,
    /// It holds the lock, or is looking whether it may.
    Hold = 2,
}

impl Flag {
    /// From its number on the disk.
    pub const fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            0 => Self::None,
            1 => Self::Want,
            2 => Self::Hold,
            _ => return None,
        })
    }

    /// The name in dumps.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Want => "want",
            Self::Hold => "hold",
        }
    }
}

/// The content of a heartbeat block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Heartbeat {
    /// Who writes: the life of the node.
    pub incarnation: Incarnation,
    /// Who writes: the boot of that life.
    pub nonce: BootNonce,
    /// Grows by one with each write of this block in this life.
    pub counter: u64,
    /// The flag for the master lock.
    pub flag: Flag,
    /// The node's own overall state, by the newest view that it knows.
    pub state: NodeState,
    /// Its lease has run out: it writes nothing else until it thaws.
    pub frozen: bool,
    /// It left gracefully (or has never contended in this life and ended): nobody need wait for it.
    pub clean: bool,
    /// Its NIC has a link.
    pub carrier: bool,
    /// Whom it hears on the interconnect.
    pub hears: NodeSet,
    /// The newest committed view that it knows.
    pub committed: ViewName,
    /// Every frame counter it used so far is below this.
    pub frame_floor: u64,
    /// Its Lamport clock.
    pub lamport: u64,
}

const FROZEN: u8 = 1;
const CLEAN: u8 = 2;
const CARRIER: u8 = 4;

impl Heartbeat {
    /// Its place.
    pub const fn place(node: NodeId) -> Place {
        Place { kind: Kind::Heartbeat, node: Some(node), slot: 0 }
    }

    /// Its bytes on the disk.
    pub fn encode(&self, cluster: ClusterId, node: NodeId) -> Raw {
        let mut raw = [0; RECORD_BYTES];
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        put_u32(&mut raw, 32, self.incarnation.0);
        raw[36] = self.flag as u8;
        raw[37] = self.state as u8;
        raw[38] = bit(self.frozen, FROZEN) | bit(self.clean, CLEAN) | bit(self.carrier, CARRIER);
        put_u64(&mut raw, 40, self.nonce.0);
        put_u64(&mut raw, 48, self.counter);
        put_u64(&mut raw, 56, self.hears.0);
        put_u64(&mut raw, 64, self.committed.ballot.0);
        put_u64(&mut raw, 72, self.committed.number);
        put_u64(&mut raw, 80, self.frame_floor);
        put_u64(&mut raw, 88, self.lamport);
        seal(&mut raw, cluster, Self::place(node));
        raw
    }

    /// What stands in `bytes`, a record or the whole pitch that begins with it.
    pub fn decode(bytes: &[u8], cluster: ClusterId, node: NodeId) -> Block<Self> {
        open_written(bytes, cluster, Self::place(node)).and_then(|raw| {
            let bits = raw[38];
            if bits & !(FROZEN | CLEAN | CARRIER) != 0 {
                return Err(RecordError::Field("bits"));
            }
            reserved(raw, 39, 40)?;
            reserved(raw, 96, RECORD_BYTES)?;
            Ok(Self {
                incarnation: Incarnation(u32_at(raw, 32)),
                nonce: BootNonce(u64_at(raw, 40)),
                counter: u64_at(raw, 48),
                flag: Flag::from_u8(raw[36]).ok_or(RecordError::Field("flag"))?,
                state: NodeState::from_u8(raw[37]).ok_or(RecordError::Field("state"))?,
                frozen: bits & FROZEN != 0,
                clean: bits & CLEAN != 0,
                carrier: bits & CARRIER != 0,
                hears: NodeSet(u64_at(raw, 56)),
                committed: ViewName { ballot: Ballot(u64_at(raw, 64)), number: u64_at(raw, 72) },
                frame_floor: u64_at(raw, 80),
                lamport: u64_at(raw, 88),
            })
        })
    }
}
