//! The heartbeat: what each node broadcasts once per `net_heartbeat` (DESIGN 6). Byte for byte in `PROTOCOL.md`.
//!
//! ```text
//! 0  1  overall state (EP p. 4)         8  8  whom the sender hears, one bit per node
//! 1  1  bits: 0 frozen, 1 carrier,     16  8  highest ballot that the sender knows
//!       2 is the master of that        24  8  newest committed view: ballot
//!       ballot, 3 first of this boot   32  8  newest committed view: number
//! 2  6  zero
//! ```
//! A heartbeat informs; nothing is decided on it alone. Only the database proves a view.

use quorate_base::{Ballot, NodeSet, NodeState, ViewName};

/// Bytes of a heartbeat.
pub const HEARTBEAT_BYTES: usize = 40;

const FROZEN: u8 = 1;
const CARRIER: u8 = 2;
const MASTER: u8 = 4;
const FIRST: u8 = 8;

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
}

impl Heartbeat {
    /// Reads it. `None` if these bytes are no heartbeat.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEARTBEAT_BYTES] = bytes.try_into().ok()?;
        let [state, bits, 0, 0, 0, 0, 0, 0, ..] = *bytes else { return None };
        if bits & !(FROZEN | CARRIER | MASTER | FIRST) != 0 {
            return None;
        }
        let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| bytes[at + i]));
        Some(Self {
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
        })
    }

    /// Writes it.
    pub fn emit(&self) -> [u8; HEARTBEAT_BYTES] {
        let s = &self.status;
        let flags = [(s.frozen, FROZEN), (s.carrier, CARRIER), (s.is_master, MASTER), (self.first, FIRST)];
        let bits = flags.iter().fold(0, |bits, (on, bit)| if *on { bits | bit } else { bits });
        let mut bytes = [0; HEARTBEAT_BYTES];
        (bytes[0], bytes[1]) = (s.state as u8, bits);
        let words = [self.hears.0, s.ballot.0, s.committed.ballot.0, s.committed.number];
        for (place, word) in bytes[8..].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        }
    }

    #[rustfmt::skip]
    const GOLDEN: [u8; HEARTBEAT_BYTES] = [
        3, 0b1011, 0, 0, 0, 0, 0, 0,
        0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,
        0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
        0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,
        0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,
    ];

    #[test]
    fn protocol_md_heartbeat_golden_bytes() {
        assert_eq!(golden().emit(), GOLDEN);
        assert_eq!(Heartbeat::parse(&GOLDEN), Some(golden()));
    }

    #[test]
    fn protocol_md_heartbeat_refusals() {
        let with = |at: usize, byte: u8| {
            let mut bytes = GOLDEN;
            bytes[at] = byte;
            Heartbeat::parse(&bytes)
        };
        assert_eq!(with(0, 5), None, "no such state");
        assert_eq!(with(1, 16), None, "no such bit");
        for reserved in 2..8 {
            assert_eq!(with(reserved, 1), None, "reserved");
        }
        assert_eq!(Heartbeat::parse(&GOLDEN[..39]), None);
        assert_eq!(Heartbeat::parse(&[0; 41]), None);
        assert_eq!(Heartbeat::parse(&[0; 40]), Some(Heartbeat::default()));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Heartbeat::parse(&bytes);
        }

        #[test]
        fn what_parses_is_emitted_alike(state in 0u8..5, bits in 0u8..16, words in any::<[u64; 4]>()) {
            let mut bytes = [0; HEARTBEAT_BYTES];
            (bytes[0], bytes[1]) = (state, bits);
            for (i, w) in words.iter().enumerate() {
                bytes[8 + i * 8..16 + i * 8].copy_from_slice(&w.to_le_bytes());
            }
            prop_assert_eq!(Heartbeat::parse(&bytes).unwrap().emit(), bytes);
        }
    }
}
