//! What was really sent: every datagram of every node, so that whatever a node takes for genuine can be held against it.
//!
//! Invariants, held at every datagram that a node takes:
//! - a node sent exactly these bytes, that is, the very life that they name;
//! - since the taker's machine was switched on;
//! - and this life of the taker has not taken them before.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::wire::Frame;

/// What is in front of a datagram: the headers of Ethernet, IPv4 and UDP.
const BEFORE: usize = 14 + 20 + 8;
/// Where IPv4 says what it carries, and the number of UDP.
const PROTOCOL: (usize, u8) = (14 + 9, 17);

/// A datagram's tag, by which it is found: its last 16 bytes, as good as random.
type Tag = [u8; 16];

#[derive(Debug)]
struct Sent {
    at: u64,
    frame: Frame,
    /// Bit `m`: machine `m` took it. A later life of that machine may not at all, so none is ever cleared.
    taken: u64,
}

/// The datagrams of a run.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    sent: HashMap<Tag, Sent, BuildHasherDefault<Plain>>,
    /// How many were taken.
    pub taken: u64,
}

impl Truth {
    /// A node sends a frame.
    pub fn sends(&mut self, at: u64, frame: &Frame) {
        if frame.get(PROTOCOL.0) == Some(&PROTOCOL.1)
            && let Some(tag) = frame.get(BEFORE..).and_then(|datagram| datagram.last_chunk())
        {
            self.sent.insert(*tag, Sent { at, frame: frame.clone(), taken: 0 });
        }
    }

    /// A machine that was switched on at `on_since` takes a datagram. What is wrong with that, if anything is.
    pub fn takes(&mut self, m: usize, on_since: u64, datagram: &[u8]) -> Option<String> {
        self.taken += 1;
        let genuine = datagram.last_chunk::<16>().and_then(|tag| self.sent.get_mut(tag));
        let Some(sent) = genuine.filter(|sent| sent.frame.get(BEFORE..) == Some(datagram)) else {
            return Some(format!("node {m} takes a datagram that nobody sent"));
        };
        let bit = 1 << (m % 64);
        let twice = sent.taken & bit != 0;
        sent.taken |= bit;
        if sent.at < on_since {
            return Some(format!("node {m} takes a datagram that was sent before its boot"));
        }
        twice.then(|| format!("node {m} takes a datagram twice"))
    }
}

/// The hash of what is random already: its first eight bytes.
#[derive(Default)]
struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {
        // The length of an array, the same for all.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8) -> Frame {
        let mut bytes = [byte; BEFORE + 80];
        bytes[PROTOCOL.0] = PROTOCOL.1;
        Frame::from(bytes.as_slice())
    }

    #[test]
    fn each_lie_is_found() {
        let mut truth = Truth::default();
        truth.sends(10, &frame(1));
        let datagram = &frame(1)[BEFORE..];
        assert_eq!(truth.takes(0, 10, datagram), None);
        assert!(truth.takes(0, 10, datagram).unwrap().contains("twice"));
        assert_eq!(truth.takes(1, 0, datagram), None, "a broadcast has many takers");
        assert!(truth.takes(2, 11, datagram).unwrap().contains("before its boot"));
        assert!(truth.takes(1, 0, &frame(2)[BEFORE..]).unwrap().contains("nobody sent"));
        let mut altered = datagram.to_vec();
        altered[0] ^= 1;
        assert!(truth.takes(1, 0, &altered).unwrap().contains("nobody sent"));
        assert!(truth.takes(1, 0, b"short").unwrap().contains("nobody sent"));
        assert_eq!(truth.taken, 7);
    }
}
