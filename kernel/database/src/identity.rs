//! A node's identity: which life it is in. Written by that node only, once per boot, two slots in turn (DESIGN 3, birth
//! of an incarnation).
//!
//! ```text
//! 32  4  incarnation
//! 36  1  bits: 0 has a UUID, 1 has a NIC address, 2 nexus reset done before it registered with the reservation
//! 37  3  zeros
//! 40  8  boot nonce
//! 48 16  SMBIOS UUID in the order of its text form, or zeros
//! 64  6  NIC address, or zeros
//! 70     zeros
//! ```

use quorate_base::capacity::RECORD_BYTES;
use quorate_base::{BootNonce, ClusterId, Incarnation, NodeId};

use crate::block::{Block, RecordError};
use crate::config::MachineId;
use crate::sealed::{Kind, Place, Raw, open_written, put_u32, put_u64, reserved, seal, u32_at, u64_at};

/// The content of an identity slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Identity {
    /// This life.
    pub incarnation: Incarnation,
    /// The random number that was drawn at its boot.
    pub nonce: BootNonce,
    /// On which machine.
    pub machine: MachineId,
    /// What the life before had under way at the disk was ended before this one registered with the reservation.
    pub nexus_reset: bool,
}

/// Which life a node's two identity slots tell of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LastLife {
    /// Both slots are blank: it never booted.
    Never,
    /// This slot counts; the next life is written to the other one.
    Known {
        /// 0 or 1.
        slot: u8,
        /// Its content.
        identity: Identity,
        /// The other slot holds something unknown. It may have told of a later life: look at the node's other records
        /// before the next number is taken.
        doubtful: bool,
    },
    /// No slot is valid, and at least one is not blank.
    Unknown,
}

impl Identity {
    /// A slot's place.
    pub const fn place(node: NodeId, slot: u8) -> Place {
        Place { kind: Kind::Identity, node: Some(node), slot }
    }

    /// Its bytes on the disk.
    pub fn encode(&self, cluster: ClusterId, node: NodeId, slot: u8) -> Raw {
        let mut raw = [0; RECORD_BYTES];
        put_u32(&mut raw, 32, self.incarnation.0);
        raw[36] = self.machine.put(&mut raw, 48, 64) | if self.nexus_reset { NEXUS_RESET } else { 0 };
        put_u64(&mut raw, 40, self.nonce.0);
        seal(&mut raw, cluster, Self::place(node, slot));
        raw
    }

    /// What stands in `bytes`, a record or the whole pitch that begins with it.
    pub fn decode(bytes: &[u8], cluster: ClusterId, node: NodeId, slot: u8) -> Block<Self> {
        open_written(bytes, cluster, Self::place(node, slot)).and_then(|raw| {
            let bits = raw[36];
            if bits & !(HAS_MACHINE | NEXUS_RESET) != 0 {
                return Err(RecordError::Field("bits"));
            }
            reserved(raw, 37, 40)?;
            reserved(raw, 70, RECORD_BYTES)?;
            let incarnation = Incarnation(u32_at(raw, 32));
            if incarnation == Incarnation::NEVER {
                return Err(RecordError::Field("incarnation"));
            }
            Ok(Self {
                incarnation,
                nonce: BootNonce(u64_at(raw, 40)),
                machine: MachineId::get(raw, bits, 48, 64)?,
                nexus_reset: bits & NEXUS_RESET != 0,
            })
        })
    }

    /// Which of two slots counts: the valid one with the higher incarnation, of two equal ones the first.
    pub fn last_life(slots: [&Block<Self>; 2]) -> LastLife {
        let known = |slot: u8, identity: &Self, doubtful| LastLife::Known { slot, identity: *identity, doubtful };
        match (slots[0], slots[1]) {
            (Block::Good(a), Block::Good(b)) if b.incarnation > a.incarnation => known(1, b, false),
            (Block::Good(a), Block::Good(_) | Block::Blank) => known(0, a, false),
            (Block::Blank, Block::Good(b)) => known(1, b, false),
            (Block::Good(a), _) => known(0, a, true),
            (_, Block::Good(b)) => known(1, b, true),
            (Block::Blank, Block::Blank) => LastLife::Never,
            _ => LastLife::Unknown,
        }
    }
}

const HAS_MACHINE: u8 = 3;
const NEXUS_RESET: u8 = 4;
