//! The heartbeat: what each node broadcasts once per `net_heartbeat` (DESIGN 6). Byte for byte in `PROTOCOL.md`.
//!
//! ```text
//! 0  1  overall state (EP p. 4)         8  8  whom the sender hears, one bit per node
//! 1  1  bits: 0 frozen, 1 carrier,     16  8  highest ballot that the sender knows
//!       2 is the master of that        24  8  newest committed view: ballot
//!       ballot, 3 first of this boot,  32  8  newest committed view: number
//!       4 halted                       40  8  whom the sender answers, one bit per node
//! 2  6  zero                           48 8n  the boot nonces of those, ascending by node
//! ```
//! An *answer* is the boot nonce of a peer that has not said yet that it hears the sender. It shows to that peer that the
//! sender lives now: nobody could have sealed it before that boot.
//!
//! A heartbeat informs; nothing is decided on it alone. Only the database proves a view.

use quorate_base::capacity::NODES_MAX;
use quorate_base::{Ballot, BootNonce, NodeId, NodeSet, NodeState, ViewName};

/// Bytes of a heartbeat that answers nobody.
pub const HEARTBEAT_BYTES: usize = 48;
/// Bytes of one that answers everybody, 560.
pub const HEARTBEAT_BYTES_MAX: usize = HEARTBEAT_BYTES + 8 * NODES_MAX;

const FROZEN: u8 = 1;
const CARRIER: u8 = 2;
const MASTER: u8 = 4;
const FIRST: u8 = 8;
const HALTED: u8 = 16;

/// What a node says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Status {
    /// Its overall state, by the newest view that it knows.
    pub state: NodeState,
    /// Its lease has run out.
    pub frozen: bool,
    /// Its NIC has a link.
    pub carrier: bool,
    /// The highest ballot that it has seen.
    pub ballot: Ballot,
    /// Whether it is the master under that ballot.
    pub is_master: bool,
    /// The newest view that it knows to be committed.
    pub committed: ViewName,
}

/// The payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Heartbeat {
    /// The sender about itself.
    pub status: Status,
    /// Whom the sender hears, itself not counted.
    pub hears: NodeSet,
    /// The first frame after its boot.
    pub first: bool,
    /// The last frame of this life: it submits no request to the disk any more and sends nothing. What it submitted before
    /// may still be under way, and this says nothing about any other life.
    pub halted: bool,
}

/// What a heartbeat answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answers<'a> {
    nodes: NodeSet,
    nonces: &'a [[u8; 8]],
}

impl Answers<'_> {
    /// The boot of `node` that the sender has heard of, if it says so.
    pub fn of(&self, node: NodeId) -> Option<BootNonce> {
        let before = self.nodes.iter().take_while(|n| *n < node).count();
        let nonce = self.nonces.get(before).filter(|_| self.nodes.contains(node))?;
        Some(BootNonce(u64::from_le_bytes(*nonce)))
    }
}

impl Heartbeat {
    /// Reads it, and what it answers. `None` if these bytes are no heartbeat.
    pub fn parse(bytes: &[u8]) -> Option<(Self, Answers<'_>)> {
        let (fixed, nonces) = bytes.split_first_chunk::<HEARTBEAT_BYTES>()?;
        let [state, bits, 0, 0, 0, 0, 0, 0, ..] = *fixed else { return None };
        if bits & !(FROZEN | CARRIER | MASTER | FIRST | HALTED) != 0 {
            return None;
        }
        let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| fixed[at + i]));
        let (nonces, []) = nonces.as_chunks::<8>() else { return None };
        let answers = Answers { nodes: NodeSet(word(40)), nonces };
        if answers.nodes.len() != nonces.len() {
            return None;
        }
        let heartbeat = Self {
            status: Status {
                state: NodeState::from_u8(state)?,
                frozen: bits & FROZEN != 0,
                carrier: bits & CARRIER != 0,
                ballot: Ballot(word(16)),
                is_master: bits & MASTER != 0,
                committed: ViewName { ballot: Ballot(word(24)), number: word(32) },
            },
            hears: NodeSet(word(8)),
            first: bits & FIRST != 0,
            halted: bits & HALTED != 0,
        };
        Some((heartbeat, answers))
    }

    /// Writes it, with these answers, ascending by node.
    pub fn emit(&self, answers: impl Iterator<Item = (NodeId, BootNonce)>) -> heapless::Vec<u8, HEARTBEAT_BYTES_MAX> {
        let s = &self.status;
        let flags = [
            (s.frozen, FROZEN),
            (s.carrier, CARRIER),
            (s.is_master, MASTER),
            (self.first, FIRST),
            (self.halted, HALTED),
        ];
        let bits = flags.iter().fold(0, |bits, (on, bit)| if *on { bits | bit } else { bits });
        let mut bytes = heapless::Vec::from_array([0; HEARTBEAT_BYTES]);
        let mut answered = NodeSet::EMPTY;
        for (node, nonce) in answers {
            // There is room for every node, once.
            if answered.insert(node) {
                let _ = bytes.extend_from_slice(&nonce.0.to_le_bytes());
            }
        }
        if let Some((fixed, _)) = bytes.split_first_chunk_mut::<HEARTBEAT_BYTES>() {
            (fixed[0], fixed[1]) = (s.state as u8, bits);
            let words = [self.hears.0, s.ballot.0, s.committed.ballot.0, s.committed.number, answered.0];
            for (place, word) in fixed[8..].chunks_exact_mut(8).zip(words) {
                place.copy_from_slice(&word.to_le_bytes());
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn n(id: u8) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn golden() -> Heartbeat {
        Heartbeat {
            status: Status {
                state: NodeState::Leaving,
                frozen: true,
                carrier: true,
                ballot: Ballot(0x1112_1314_1516_1718),
                is_master: false,
                committed: ViewName { ballot: Ballot(0x2122_2324_2526_2728), number: 0x3132_3334_3536_3738 },
            },
            hears: NodeSet(0x0102_0304_0506_0708),
            first: true,
            halted: false,
        }
    }

    fn answered() -> [(NodeId, BootNonce); 2] {
        [(n(1), BootNonce(0x4142_4344_4546_4748)), (n(63), BootNonce(0x5152_5354_5556_5758))]
    }

    #[rustfmt::skip]
    const GOLDEN: [u8; HEARTBEAT_BYTES + 16] = [
        3, 0b0_1011, 0, 0, 0, 0, 0, 0,
        0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,
        0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
        0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,
        0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,
        0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80,
        0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41,
        0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51,
    ];

    #[test]
    fn protocol_md_heartbeat_golden_bytes() {
        assert_eq!(golden().emit(answered().into_iter()), GOLDEN);
        let (heartbeat, answers) = Heartbeat::parse(&GOLDEN).unwrap();
        assert_eq!(heartbeat, golden());
        for node in NodeId::all() {
            let wanted = answered().into_iter().find(|(n, _)| *n == node).map(|(_, nonce)| nonce);
            assert_eq!(answers.of(node), wanted);
        }
        let halted = Heartbeat { halted: true, ..golden() }.emit(core::iter::empty());
        assert_eq!((halted[1], halted.len()), (0b1_1011, HEARTBEAT_BYTES));
        assert!(Heartbeat::parse(&halted).unwrap().0.halted);
    }

    #[test]
    fn protocol_md_heartbeat_refusals() {
        let with = |at: usize, byte: u8| {
            let mut bytes = GOLDEN;
            bytes[at] = byte;
            Heartbeat::parse(&bytes).map(|_| ())
        };
        assert_eq!(with(0, 5), None, "no such state");
        assert_eq!(with(1, 32), None, "no such bit");
        for reserved in 2..8 {
            assert_eq!(with(reserved, 1), None, "reserved");
        }
        assert_eq!(with(40, 3), None, "one answer is missing");
        assert_eq!(with(40, 0), None, "one is too many");
        for len in [0, 47, 49, 55, 56, 63] {
            assert_eq!(Heartbeat::parse(&GOLDEN[..len]), None, "{len}");
        }
        assert_eq!(Heartbeat::parse(&[0; 48]).unwrap().0, Heartbeat::default());
    }

    #[test]
    fn capacity_64_all_are_answered_at_once() {
        let bytes = golden().emit(NodeId::all().map(|n| (n, BootNonce(u64::from(n.get()) + 1))));
        assert_eq!(bytes.len(), HEARTBEAT_BYTES_MAX);
        let (_, answers) = Heartbeat::parse(&bytes).unwrap();
        assert!(NodeId::all().all(|n| answers.of(n) == Some(BootNonce(u64::from(n.get()) + 1))));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Some((_, answers)) = Heartbeat::parse(&bytes) {
                let _ = answers.of(n(63));
            }
        }

        #[test]
        fn what_parses_is_emitted_alike(state in 0u8..5, bits in 0u8..32, words in any::<[u64; 5]>(), nonce: u64) {
            let mut bytes: Vec<u8> = [state, bits, 0, 0, 0, 0, 0, 0].into();
            words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
            (0..words[4].count_ones()).for_each(|i| bytes.extend((nonce ^ u64::from(i)).to_le_bytes()));
            let (heartbeat, answers) = Heartbeat::parse(&bytes).unwrap();
            let given = NodeId::all().filter_map(|n| answers.of(n).map(|nonce| (n, nonce)));
            prop_assert_eq!(&heartbeat.emit(given)[..], &bytes[..]);
        }
    }
}
