//! A node's ballot block: what it promised and what it accepted (Disk Paxos, DESIGN 4). Two slots are written in turn.
//!
//! ```text
//!  32   4  incarnation
//!  36   4  zeros
//!  40   8  boot nonce
//!  48   8  sequence
//!  56   8  promised ballot
//!  64   8  accepted ballot
//!  72   8  number of the accepted view
//!  80   8  Lamport clock
//!  88 256  the view's incarnations, 4 bytes per node
//! 344  32  the view's states, 4 bits per node, even nodes in the low half of a byte
//! 376   8  undo: ballot under which the predecessor was committed
//! 384  32  undo: the predecessor's states, 4 bits per node
//! 416   8  undo: nodes whose incarnation changed, bit n for node n
//! 424  88  undo: per such node, ascending, new less old incarnation (modulo 2³²) as LEB128, not zero; zeros to the end
//! ```
//! The predecessor's number is the view's less one (zero for zero) and is not stored. 88 bytes hold the changes of all
//! 64 nodes as long as each is below 128; what does not fit is refused by [`BallotBlock::encode`], and the caller changes fewer
//! nodes in one view ([`fits`]).

use core::fmt;
use quorate_base::capacity::{NODES_MAX, RECORD_BYTES};
use quorate_base::{Ballot, BootNonce, ClusterId, Incarnation, NodeId, NodeSet, NodeState, View, ViewName};

use crate::block::{Block, RecordError};
use crate::sealed::{Kind, Place, Raw, all_zeros, open_written, put, put_u32, put_u64, reserved, seal, u32_at, u64_at};

const INCARNATIONS_AT: usize = 88;
const STATES_AT: usize = INCARNATIONS_AT + 4 * NODES_MAX;
const UNDO_BALLOT_AT: usize = STATES_AT + NODES_MAX / 2;
const UNDO_STATES_AT: usize = UNDO_BALLOT_AT + 8;
const UNDO_CHANGED_AT: usize = UNDO_STATES_AT + NODES_MAX / 2;
const UNDO_DELTAS_AT: usize = UNDO_CHANGED_AT + 8;
const _: () = assert!(UNDO_DELTAS_AT + NODES_MAX <= RECORD_BYTES, "one small change per node must always fit");

/// The view before the accepted one, rebuilt from the undo record. It is committed, because its successor was only
/// accepted after it was.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Predecessor {
    /// Under which ballot it was committed; its number is the accepted view's less one.
    pub ballot: Ballot,
    /// The whole view.
    pub view: View,
}

impl Predecessor {
    /// Names it.
    pub fn name(&self) -> ViewName {
        ViewName { ballot: self.ballot, number: self.view.number }
    }
}

/// The content of a ballot slot.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct BallotBlock {
    /// Who writes: the life of the node.
    pub incarnation: Incarnation,
    /// Who writes: the boot of that life.
    pub nonce: BootNonce,
    /// Grows by one with each write of either slot, over all lives; the higher valid slot counts.
    pub sequence: u64,
    /// The highest ballot that this node promised.
    pub promised: Ballot,
    /// The ballot under which `view` was accepted; [`Ballot::NONE`] if none ever was.
    pub accepted: Ballot,
    /// The accepted view.
    pub view: View,
    /// Its predecessor, on disk as an undo record.
    pub predecessor: Predecessor,
    /// The node's Lamport clock.
    pub lamport: u64,
}

/// A ballot slot without its views: what each beat compares.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct BallotHead {
    /// Who writes: the life of the node.
    pub incarnation: Incarnation,
    /// Who writes: the boot of that life.
    pub nonce: BootNonce,
    /// Grows by one with each write of either slot.
    pub sequence: u64,
    /// The highest ballot that this node promised.
    pub promised: Ballot,
    /// The ballot under which the view was accepted.
    pub accepted: Ballot,
    /// The accepted view's number.
    pub number: u64,
    /// The node's Lamport clock.
    pub lamport: u64,
}

impl BallotHead {
    /// Names the accepted view.
    pub const fn accepted_name(&self) -> ViewName {
        ViewName { ballot: self.accepted, number: self.number }
    }
}

/// One view changes more incarnations than its undo record can hold: change fewer nodes in one view.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TooManyChanges;

impl fmt::Display for TooManyChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one view changes more incarnations than its undo record can hold")
    }
}

impl core::error::Error for TooManyChanges {}

/// Whether `view` can be written with `predecessor` in its undo record. Always, if no incarnation moves by 128 or more.
pub fn fits(view: &View, predecessor: &Predecessor) -> bool {
    let bytes: usize = changes(view, &predecessor.view).map(|(_, delta)| varint(delta).1).sum();
    bytes <= RECORD_BYTES - UNDO_DELTAS_AT
}

/// Which of two slots counts: the valid one with the higher sequence, of two equal ones the first. `None` if neither is
/// valid; whether that means "never written" or "unknown" is for the caller to see from the blocks.
pub fn newer_slot(slots: [&Block<BallotHead>; 2]) -> Option<u8> {
    match slots.map(Block::good) {
        [Some(a), Some(b)] => Some(u8::from(b.sequence > a.sequence)),
        [Some(_), None] => Some(0),
        [None, Some(_)] => Some(1),
        [None, None] => None,
    }
}

impl BallotBlock {
    /// A slot's place.
    pub const fn place(node: NodeId, slot: u8) -> Place {
        Place { kind: Kind::Ballot, node: Some(node), slot }
    }

    /// Names the accepted view.
    pub fn accepted_name(&self) -> ViewName {
        ViewName { ballot: self.accepted, number: self.view.number }
    }

    /// The block without its views.
    pub fn head(&self) -> BallotHead {
        BallotHead {
            incarnation: self.incarnation,
            nonce: self.nonce,
            sequence: self.sequence,
            promised: self.promised,
            accepted: self.accepted,
            number: self.view.number,
            lamport: self.lamport,
        }
    }

    /// Its bytes on the disk. The predecessor's number is taken to be the view's less one.
    ///
    /// # Errors
    /// If the undo record does not fit.
    pub fn encode(&self, cluster: ClusterId, node: NodeId, slot: u8) -> Result<Raw, TooManyChanges> {
        let mut raw = [0; RECORD_BYTES];
        put_u32(&mut raw, 32, self.incarnation.0);
        put_u64(&mut raw, 40, self.nonce.0);
        put_u64(&mut raw, 48, self.sequence);
        put_u64(&mut raw, 56, self.promised.0);
        put_u64(&mut raw, 64, self.accepted.0);
        put_u64(&mut raw, 72, self.view.number);
        put_u64(&mut raw, 80, self.lamport);
        for n in NodeId::all() {
            put_u32(&mut raw, INCARNATIONS_AT + 4 * n.index(), self.view.incarnation(n).0);
        }
        put_states(&mut raw, STATES_AT, &self.view);
        put_u64(&mut raw, UNDO_BALLOT_AT, self.predecessor.ballot.0);
        put_states(&mut raw, UNDO_STATES_AT, &self.predecessor.view);
        let mut changed = NodeSet::EMPTY;
        let mut at = UNDO_DELTAS_AT;
        for (n, delta) in changes(&self.view, &self.predecessor.view) {
            let (bytes, len) = varint(delta);
            if at + len > RECORD_BYTES {
                return Err(TooManyChanges);
            }
            put(&mut raw, at, &bytes[..len]);
            at += len;
            changed.insert(n);
        }
        put_u64(&mut raw, UNDO_CHANGED_AT, changed.0);
        seal(&mut raw, cluster, Self::place(node, slot));
        Ok(raw)
    }

    /// What stands in `bytes`, a record or the whole pitch that begins with it.
    pub fn decode(bytes: &[u8], cluster: ClusterId, node: NodeId, slot: u8) -> Block<Self> {
        open_written(bytes, cluster, Self::place(node, slot)).and_then(|raw| {
            let head = head(raw)?;
            let (bytes, _) = raw[INCARNATIONS_AT..STATES_AT].as_chunks::<4>();
            let mut incarnations = [Incarnation::NEVER; NODES_MAX];
            for (incarnation, bytes) in incarnations.iter_mut().zip(bytes) {
                incarnation.0 = u32::from_le_bytes(*bytes);
            }
            let (states, before) = (states_at(raw, STATES_AT)?, states_at(raw, UNDO_STATES_AT)?);
            let view = View::new(head.number, states, incarnations);
            for_each_delta(raw, |n, delta| {
                let incarnation = &mut incarnations[n.index()].0;
                *incarnation = incarnation.wrapping_sub(delta);
            })?;
            let before = View::new(head.number.saturating_sub(1), before, incarnations);
            Ok(Self {
                incarnation: head.incarnation,
                nonce: head.nonce,
                sequence: head.sequence,
                promised: head.promised,
                accepted: head.accepted,
                view,
                predecessor: Predecessor { ballot: Ballot(u64_at(raw, UNDO_BALLOT_AT)), view: before },
                lamport: head.lamport,
            })
        })
    }

    /// The same without building the views. Good exactly when [`BallotBlock::decode`] is good.
    pub fn decode_head(bytes: &[u8], cluster: ClusterId, node: NodeId, slot: u8) -> Block<BallotHead> {
        open_written(bytes, cluster, Self::place(node, slot)).and_then(|raw| {
            let head = head(raw)?;
            states_at(raw, STATES_AT)?;
            states_at(raw, UNDO_STATES_AT)?;
            for_each_delta(raw, |_, _| {})?;
            Ok(head)
        })
    }
}

fn head(raw: &Raw) -> Result<BallotHead, RecordError> {
    reserved(raw, 36, 40)?;
    Ok(BallotHead {
        incarnation: Incarnation(u32_at(raw, 32)),
        nonce: BootNonce(u64_at(raw, 40)),
        sequence: u64_at(raw, 48),
        promised: Ballot(u64_at(raw, 56)),
        accepted: Ballot(u64_at(raw, 64)),
        number: u64_at(raw, 72),
        lamport: u64_at(raw, 80),
    })
}

/// Nodes whose incarnation differs, with new less old.
fn changes<'a>(new: &'a View, old: &'a View) -> impl Iterator<Item = (NodeId, u32)> + 'a {
    NodeId::all().map(|n| (n, new.incarnation(n).0.wrapping_sub(old.incarnation(n).0))).filter(|(_, delta)| *delta != 0)
}

/// LEB128: bytes and how many of them count.
fn varint(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut len = 0;
    for byte in &mut bytes {
        *byte = (value & 0x7f) as u8;
        value >>= 7;
        len += 1;
        if value == 0 {
            break;
        }
        *byte |= 0x80;
    }
    (bytes, len)
}

/// Walks the undo record's incarnation changes; every encoding but the one that is written is refused.
fn for_each_delta(raw: &Raw, mut each: impl FnMut(NodeId, u32)) -> Result<(), RecordError> {
    const BAD: RecordError = RecordError::Field("undo");
    let mut at = UNDO_DELTAS_AT;
    for n in NodeSet(u64_at(raw, UNDO_CHANGED_AT)) {
        let (mut value, mut shift) = (0u64, 0u32);
        loop {
            let byte = *raw.get(at).ok_or(BAD)?;
            at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // A last byte of zero is a longer form of the same number, or the number zero: no change.
                if byte == 0 {
                    return Err(BAD);
                }
                break;
            }
            shift += 7;
            if shift > 28 {
                return Err(BAD);
            }
        }
        each(n, u32::try_from(value).map_err(|_| BAD)?);
    }
    if all_zeros(raw, at, RECORD_BYTES) { Ok(()) } else { Err(BAD) }
}

fn put_states(raw: &mut Raw, at: usize, view: &View) {
    for n in NodeId::all() {
        raw[at + n.index() / 2] |= (view.state(n) as u8) << (4 * (n.index() % 2));
    }
}

fn states_at(raw: &Raw, at: usize) -> Result<[NodeState; NODES_MAX], RecordError> {
    let mut states = [NodeState::Inactive; NODES_MAX];
    let (pairs, _) = states.as_chunks_mut::<2>();
    for ([even, odd], byte) in pairs.iter_mut().zip(&raw[at..at + NODES_MAX / 2]) {
        // Most nodes of most clusters are not there.
        if *byte != 0 {
            let state = |nibble| NodeState::from_u8(nibble).ok_or(RecordError::Field("state"));
            (*even, *odd) = (state(byte & 0xf)?, state(byte >> 4)?);
        }
    }
    Ok(states)
}
