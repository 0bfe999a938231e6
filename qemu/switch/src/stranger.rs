//! A stranger on the cluster's Ethernet who knows everything but the key: sees all frames, keeps some from every time of
//! the run, and makes others of them.
//!
//! ```text
//! frame:  Ethernet 14 | IPv4 20 | UDP 8 | envelope: header 56, payload, tag 16
//! ```
//! What it alters reaches the nodes: lengths and the IPv4 checksum are put right, and a UDP checksum of zero is none
//! (RFC 768).

use crate::rng::Rng;

/// What is in front of a datagram.
const BEFORE: usize = 14 + 20 + 8;
/// An envelope's header.
const HEADER: usize = 56;
/// Longest datagram.
const DATAGRAM_MAX: usize = 1472;
/// Frames kept from the whole run, evenly.
const KEPT: usize = 256;
/// Newest frames kept.
const NEWEST: usize = 64;

/// What kind of frame a stranger sends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Hostile {
    /// One that was captured, as it was, from any time of the run.
    Replayed,
    /// A captured one with some bits changed.
    Altered,
    /// A captured one, cut short.
    Truncated,
    /// A captured one with something behind it.
    Extended,
    /// A captured one that names another node, life, boot, counter, channel or key in its header.
    Forged,
    /// Random bytes; half of the time behind a header as the nodes send it.
    Random,
}

impl Hostile {
    /// All, by name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("replayed", Self::Replayed),
        ("altered", Self::Altered),
        ("truncated", Self::Truncated),
        ("extended", Self::Extended),
        ("forged", Self::Forged),
        ("random", Self::Random),
    ];

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }
}

/// The stranger. `F` is a frame as its holder keeps it.
#[derive(Clone, Debug)]
pub struct Stranger<F> {
    kept: Vec<F>,
    newest: Vec<F>,
    count: u64,
    rng: Rng,
}

impl<F: AsRef<[u8]> + Clone> Stranger<F> {
    /// Has seen nothing. What it does is drawn from a seed.
    pub fn new(seed: u64) -> Self {
        Self { kept: Vec::new(), newest: Vec::new(), count: 0, rng: Rng::new(seed) }
    }

    /// A node sent a frame.
    pub fn sees(&mut self, frame: &F) {
        if datagram(frame.as_ref()).is_none() {
            return;
        }
        let at = (self.count % NEWEST as u64) as usize;
        self.count += 1;
        replace(&mut self.newest, at, frame);
        // Algorithm R (Vitter 1985): every frame of the run is kept with the same chance.
        let place = if self.count <= KEPT as u64 { self.kept.len() } else { self.rng.below(self.count) as usize };
        if place < KEPT {
            replace(&mut self.kept, place, frame);
        }
    }

    /// A frame of one of these kinds; random bytes as long as nothing was seen.
    pub fn frame(&mut self, kinds: &[Hostile]) -> Vec<u8> {
        let kind = kinds.get(self.rng.below(kinds.len() as u64) as usize).copied().unwrap_or(Hostile::Random);
        let Some((mut before, mut body)) = self.captured() else { return self.bytes(400) };
        match kind {
            Hostile::Replayed => return [before, body].concat(),
            Hostile::Altered => {
                for _ in 0..=self.rng.below(4) {
                    let bit = self.rng.below(body.len() as u64 * 8) as usize;
                    flip(&mut body, bit);
                }
            }
            Hostile::Truncated => body.truncate(self.rng.below(body.len() as u64) as usize),
            Hostile::Extended => {
                let more = 1 + self.rng.below((DATAGRAM_MAX - body.len().min(DATAGRAM_MAX - 1)) as u64);
                body.extend(self.bytes(more).into_iter().chain([0]));
                body.truncate(DATAGRAM_MAX);
            }
            Hostile::Forged => self.forge(&mut body),
            Hostile::Random => {
                let random = self.bytes(400);
                // Behind a header, the length that it names is right.
                let keep = if self.rng.below(2) == 0 { 0 } else { HEADER.min(body.len()) };
                let rest = body.len() - keep;
                body.truncate(keep);
                body.extend(if keep == 0 { random } else { (0..rest).map(|_| self.rng.next_u64() as u8).collect() });
            }
        }
        put_right(&mut before, body.len());
        [before, body].concat()
    }

    /// What is in front of the datagram of a frame that was seen, and the datagram. Half of the time one of the newest.
    fn captured(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        let from = if self.rng.below(2) == 0 { &self.newest } else { &self.kept };
        let frame = from.get(self.rng.below(from.len() as u64) as usize)?.as_ref();
        let (before, body) = frame.split_at_checked(BEFORE)?;
        Some((before.to_vec(), body.to_vec()))
    }

    /// Up to so many random bytes.
    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.rng.below(most)).map(|_| self.rng.next_u64() as u8).collect()
    }

    /// Changes one field of a header.
    fn forge(&mut self, body: &mut [u8]) {
        let node = self.rng.below(8) as u8;
        let (at, new): (usize, Vec<u8>) = match self.rng.below(7) {
            0 => (8, vec![node]),
            1 => (9, vec![if node == 7 { 255 } else { node }]),
            2 => (12, (word(body, 12) as u32).wrapping_add(1).to_le_bytes().to_vec()),
            3 => (16, self.rng.next_u64().to_le_bytes().to_vec()),
            4 => (6, vec![body.get(6).map_or(0, |channel| channel ^ 1)]),
            5 => (7, vec![node]),
            _ => (40, word(body, 40).wrapping_add(1 + self.rng.below(1000)).to_le_bytes().to_vec()),
        };
        for (place, byte) in body.iter_mut().skip(at).zip(new) {
            *place = byte;
        }
    }
}

/// The datagram in a frame, if it is UDP in IPv4 without options, and a sender of this cluster made it.
fn datagram(frame: &[u8]) -> Option<&[u8]> {
    let udp = frame.get(12..15) == Some(&[8, 0, 0x45]) && frame.get(23) == Some(&17);
    frame.get(BEFORE..).filter(|body| udp && body.len() >= HEADER)
}

fn replace<F: Clone>(list: &mut Vec<F>, at: usize, frame: &F) {
    match list.get_mut(at) {
        Some(place) => place.clone_from(frame),
        None => list.push(frame.clone()),
    }
}

fn flip(bytes: &mut [u8], bit: usize) {
    if let Some(byte) = bytes.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.iter().skip(at).take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Lengths and checksums in front of a datagram of so many bytes.
fn put_right(before: &mut [u8], body: usize) {
    let mut put = |at: usize, value: u16| {
        for (place, byte) in before.iter_mut().skip(at).zip(value.to_be_bytes()) {
            *place = byte;
        }
    };
    put(16, (20 + 8 + body) as u16);
    put(24, 0);
    put(38, (8 + body) as u16);
    put(40, 0);
    // RFC 1071: the complement of the sum of all 16-bit words with the carries added in.
    let ip = before.get(14..34).unwrap_or_default();
    let mut sum: u32 = ip.chunks(2).map(|pair| pair.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !(sum as u16);
    for (place, byte) in before.iter_mut().skip(24).zip(checksum.to_be_bytes()) {
        *place = byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with an envelope of that counter.
    fn genuine(counter: u8) -> Vec<u8> {
        let mut frame = vec![0xff; 12];
        frame.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 1, 17, 0, 0, 10, 77, 0, 1, 10, 77, 0, 255]);
        frame.extend([0x1b, 0xa5, 0x1b, 0xa5, 0, 0, 9, 9]);
        frame.extend(b"QRNT");
        frame.extend([counter; 52 + 48 + 16]);
        frame
    }

    fn full() -> (Stranger<Vec<u8>>, Vec<Vec<u8>>) {
        let mut stranger = Stranger::new(1);
        let frames: Vec<Vec<u8>> = (0..200).map(genuine).collect();
        frames.iter().for_each(|frame| stranger.sees(frame));
        (stranger, frames)
    }

    #[test]
    fn each_kind_is_what_it_says() {
        let (mut stranger, frames) = full();
        for (name, kind) in Hostile::ALL {
            assert_eq!(Hostile::named(name), Some(kind));
            for _ in 0..500 {
                let frame = stranger.frame(&[kind]);
                assert_eq!(frames.contains(&frame), kind == Hostile::Replayed, "{name}");
                let (before, body) = frame.split_at(BEFORE);
                match kind {
                    Hostile::Truncated => assert!(body.len() < 120),
                    Hostile::Extended => assert!(body.len() > 120 && body.len() <= DATAGRAM_MAX),
                    Hostile::Altered | Hostile::Forged => assert_eq!(body.len(), 120),
                    Hostile::Replayed | Hostile::Random => {}
                }
                if kind != Hostile::Replayed {
                    let length = |at: usize| usize::from(u16::from_be_bytes([before[at], before[at + 1]]));
                    assert_eq!((length(16), length(38), length(40)), (28 + body.len(), 8 + body.len(), 0));
                    let sum: u32 = before[14..34].chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(p[1])).sum();
                    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the IPv4 checksum is right");
                }
            }
        }
        assert_eq!(Hostile::named("kind"), None);
    }

    #[test]
    fn it_replays_from_every_time_of_the_run() {
        let mut stranger = Stranger::new(2);
        for second in 0..100u8 {
            (0..100).for_each(|_| stranger.sees(&genuine(second)));
        }
        let mut seen = [0; 100];
        (0..4000).for_each(|_| seen[usize::from(stranger.frame(&[Hostile::Replayed])[60])] += 1);
        assert!(seen[..20].iter().sum::<i32>() > 100, "the oldest");
        assert!(seen[99] > 1000, "and the newest above all");
    }

    #[test]
    fn it_needs_nothing_to_begin_with_and_learns_from_datagrams_only() {
        let mut stranger: Stranger<Vec<u8>> = Stranger::new(3);
        stranger.sees(&vec![0xff; 60]);
        assert!(stranger.frame(&[Hostile::Replayed]).len() < 400);
        assert!(stranger.kept.is_empty());
        assert!(stranger.frame(&[]).len() < 400);
    }
}
