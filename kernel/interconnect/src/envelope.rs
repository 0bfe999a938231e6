//! The envelope of every datagram: a checked view of the bytes ([`Envelope`]) and a representation that can hold only
//! legal values ([`Repr`]). Byte for byte in `PROTOCOL.md`; all numbers are little-endian.
//!
//! ```text
//!  0  4  magic "QRNT"            16  8  boot nonce of the sender
//!  4  1  protocol version        24 16  cluster id
//!  5  1  flags: 1 (sealed)       40  8  counter: grows with each frame of this sender and life
//!  6  1  channel                 48  8  Lamport clock of the sender
//!  7  1  epoch of the cluster key 56  n  payload, at most 1400
//!  8  1  from                  56+n 16  tag
//!  9  1  to, 255 = all
//! 10  2  length n of the payload
//! 12  4  incarnation of the sender
//! ```
//! The payload is enciphered in place; the tag covers it and the whole header ([`crate::seal`]). What the header says is
//! plain, so that a frame which cannot be genuine is dropped before anything is computed.
//!
//! Invariants: magic, version and sender stand where they stand in every future version, so that a node of another
//! version can be named. A frame is exactly header, payload and tag: nothing follows.

use quorate_base::capacity::DATAGRAM_MAX;
use quorate_base::{BootNonce, ClusterId, Incarnation, NodeId};

use crate::counters::Drop;
use crate::seal::{SealKey, TAG_BYTES};

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"QRNT";
/// Version of envelope, heartbeat and messages together. A frame of another version is dropped.
pub const VERSION: u8 = 2;
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 56;
/// Bytes of a payload at most, 1400.
pub const PAYLOAD_MAX: usize = DATAGRAM_MAX - HEADER_BYTES - TAG_BYTES;

const _: () = assert!(PAYLOAD_MAX == 1400);

/// The addressee that means every node.
const TO_ALL: u8 = 255;
/// The flags of every frame: sealed. Version 1 had frames without.
const SEALED: u8 = 1;

/// Room for the payload of one frame, deciphered.
pub type Opened = heapless::Vec<u8, PAYLOAD_MAX>;

/// What a frame is about. Numbers from 3 on are for later levels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Channel {
    /// [`Heartbeat`](crate::Heartbeat).
    Heartbeat = 0,
    /// A message of the membership manager.
    Membership = 1,
    /// A message of group services.
    Groups = 2,
}

impl Channel {
    const fn from_u8(n: u8) -> Option<Self> {
        match n {
            0 => Some(Self::Heartbeat),
            1 => Some(Self::Membership),
            2 => Some(Self::Groups),
            _ => None,
        }
    }
}

/// To whom a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Destination {
    /// To one node.
    Node(NodeId),
    /// To all nodes.
    All,
}

impl Destination {
    /// Whether `node` is meant.
    pub fn includes(self, node: NodeId) -> bool {
        match self {
            Self::Node(to) => to == node,
            Self::All => true,
        }
    }
}

/// A frame whose structure is right: lengths match, every field holds a legal value. Whether it is genuine is for
/// [`Envelope::open`] to say.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    header: &'a [u8; HEADER_BYTES],
    payload: &'a [u8],
    tag: &'a [u8; TAG_BYTES],
    repr: Repr,
}

/// All that an envelope says beside its payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Repr {
    /// Under which of the cluster's keys it is sealed.
    pub epoch: u8,
    /// What it is about.
    pub channel: Channel,
    /// Who sends.
    pub from: NodeId,
    /// To whom.
    pub to: Destination,
    /// Which life of the sender.
    pub incarnation: Incarnation,
    /// Which boot of the sender.
    pub nonce: BootNonce,
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Grows by at least one with each frame of one life.
    pub counter: u64,
    /// The sender's Lamport clock.
    pub lamport: u64,
}

/// `N` bytes of a header from `AT` on. Both are checked when this is compiled.
fn field<const AT: usize, const N: usize>(header: &[u8; HEADER_BYTES]) -> [u8; N] {
    const { assert!(AT + N <= HEADER_BYTES) };
    core::array::from_fn(|i| header[AT + i])
}

/// Puts `N` bytes into a header from `AT` on.
fn put<const AT: usize, const N: usize>(header: &mut [u8; HEADER_BYTES], bytes: [u8; N]) {
    const { assert!(AT + N <= HEADER_BYTES) };
    for (place, byte) in header[AT..AT + N].iter_mut().zip(bytes) {
        *place = byte;
    }
}

/// The version and sender of a frame of another version, if it is one of this product.
pub fn foreign_version(bytes: &[u8]) -> Option<(u8, Option<NodeId>)> {
    let (header, _) = bytes.split_first_chunk::<9>()?;
    let [m0, m1, m2, m3, version, .., from] = *header;
    ([m0, m1, m2, m3] == MAGIC && version != VERSION).then_some((version, NodeId::new(from)))
}

impl<'a> Envelope<'a> {
    /// Checks the structure.
    ///
    /// # Errors
    /// The first check that fails, from [`Drop::Short`] to [`Drop::To`].
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Drop> {
        if foreign_version(bytes).is_some() {
            return Err(Drop::Version);
        }
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(Drop::Short)?;
        let (payload, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(Drop::Short)?;
        if bytes.len() > DATAGRAM_MAX {
            return Err(Drop::Long);
        }
        let repr = Repr::parse(header)?;
        if usize::from(u16::from_le_bytes(field::<10, 2>(header))) != payload.len() {
            return Err(Drop::Length);
        }
        Ok(Self { header, payload, tag, repr })
    }

    /// What the header says.
    pub fn repr(&self) -> &Repr {
        &self.repr
    }

    /// Deciphers the payload into `out`.
    ///
    /// # Errors
    /// [`Drop::Tag`]: it was not sealed so under this key. Then `out` is empty.
    pub fn open(&self, key: &SealKey, out: &mut Opened) -> Result<(), Drop> {
        out.clear();
        let fits = out.extend_from_slice(self.payload).is_ok();
        if fits && key.open(self.repr.counter, self.header, out, self.tag) {
            return Ok(());
        }
        out.clear();
        Err(Drop::Tag)
    }
}

impl Repr {
    /// Reads a header; the length of the payload is not looked at.
    fn parse(header: &[u8; HEADER_BYTES]) -> Result<Self, Drop> {
        if field::<0, 4>(header) != MAGIC {
            return Err(Drop::Magic);
        }
        let [version, flags, channel, epoch, from, to] = field::<4, 6>(header);
        if version != VERSION {
            return Err(Drop::Version);
        }
        if flags != SEALED {
            return Err(Drop::Flags);
        }
        Ok(Self {
            epoch,
            channel: Channel::from_u8(channel).ok_or(Drop::Channel)?,
            from: NodeId::new(from).ok_or(Drop::From)?,
            to: match to {
                TO_ALL => Destination::All,
                n => Destination::Node(NodeId::new(n).ok_or(Drop::To)?),
            },
            incarnation: Incarnation(u32::from_le_bytes(field::<12, 4>(header))),
            nonce: BootNonce(u64::from_le_bytes(field::<16, 8>(header))),
            cluster: ClusterId(field::<24, 16>(header)),
            counter: u64::from_le_bytes(field::<40, 8>(header)),
            lamport: u64::from_le_bytes(field::<48, 8>(header)),
        })
    }

    /// Makes the header of a frame with a payload of `len` bytes.
    fn header(&self, len: u16) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let to = match self.to {
            Destination::Node(n) => n.get(),
            Destination::All => TO_ALL,
        };
        put::<0, 4>(&mut header, MAGIC);
        put::<4, 6>(&mut header, [VERSION, SEALED, self.channel as u8, self.epoch, self.from.get(), to]);
        put::<10, 2>(&mut header, len.to_le_bytes());
        put::<12, 4>(&mut header, self.incarnation.0.to_le_bytes());
        put::<16, 8>(&mut header, self.nonce.0.to_le_bytes());
        put::<24, 16>(&mut header, self.cluster.0);
        put::<40, 8>(&mut header, self.counter.to_le_bytes());
        put::<48, 8>(&mut header, self.lamport.to_le_bytes());
        header
    }

    /// Writes a whole frame into `out`, sealed under the key of this life, and says how many bytes it has. `None` if the
    /// payload is longer than [`PAYLOAD_MAX`] or `out` is too small.
    pub fn emit(&self, payload: &[u8], key: &SealKey, out: &mut [u8]) -> Option<usize> {
        if payload.len() > PAYLOAD_MAX {
            return None;
        }
        let header = self.header(u16::try_from(payload.len()).ok()?);
        let total = HEADER_BYTES + payload.len() + TAG_BYTES;
        let (head, rest) = out.get_mut(..total)?.split_first_chunk_mut::<HEADER_BYTES>()?;
        let (body, tag) = rest.split_last_chunk_mut::<TAG_BYTES>()?;
        *head = header;
        body.copy_from_slice(payload);
        *tag = key.seal(self.counter, &header, body)?;
        Some(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use quorate_base::ClusterKey;
    use std::vec::Vec;

    /// The frame of the golden bytes.
    fn golden() -> Repr {
        Repr {
            epoch: 9,
            channel: Channel::Membership,
            from: NodeId::new(2).unwrap(),
            to: Destination::Node(NodeId::new(63).unwrap()),
            incarnation: Incarnation(0x0102_0304),
            nonce: BootNonce(0x1112_1314_1516_1718),
            cluster: ClusterId([
                0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
            ]),
            counter: 0x2122_2324_2526_2728,
            lamport: 0x3132_3334_3536_3738,
        }
    }

    /// The key of the golden frame's life.
    fn key() -> SealKey {
        let cluster = ClusterKey(core::array::from_fn(|i| 0x40 + i as u8));
        SealKey::derive(&cluster, golden().from, golden().incarnation, golden().nonce)
    }

    /// Written by hand from the table in PROTOCOL.md; payload and tag by libsodium's XChaCha20-Poly1305.
    #[rustfmt::skip]
    const GOLDEN: [u8; 75] = [
        b'Q', b'R', b'N', b'T', 2, 1, 1, 9,
        2, 63, 3, 0, 0x04, 0x03, 0x02, 0x01,
        0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
        0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
        0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
        0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,
        0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,
        0xe5, 0x68, 0xdf,
        0x6f, 0xeb, 0x72, 0x95, 0x7a, 0x50, 0xdb, 0x89, 0x7a, 0xb1, 0x0a, 0x5e, 0x09, 0x04, 0x1c, 0x51,
    ];

    #[test]
    fn protocol_md_envelope_golden_bytes() {
        let (mut out, mut opened) = ([0xee; 80], Opened::new());
        assert_eq!(golden().emit(b"abc", &key(), &mut out), Some(GOLDEN.len()));
        assert_eq!(out[..75], GOLDEN);
        assert_eq!(out[75..], [0xee; 5]);
        let envelope = Envelope::new_checked(&GOLDEN).unwrap();
        assert_eq!(envelope.repr(), &golden());
        assert_eq!(envelope.open(&key(), &mut opened), Ok(()));
        assert_eq!(opened, b"abc");
    }

    /// The golden frame with one byte set, as far as the structure is concerned.
    fn set(at: usize, byte: u8) -> Result<Repr, Drop> {
        let mut bytes = GOLDEN;
        bytes[at] = byte;
        Envelope::new_checked(&bytes).map(|e| *e.repr())
    }

    #[test]
    fn protocol_md_envelope_refusals() {
        assert_eq!(Envelope::new_checked(&[]).unwrap_err(), Drop::Short);
        assert_eq!(Envelope::new_checked(&GOLDEN[..71]).unwrap_err(), Drop::Short);
        assert_eq!(Envelope::new_checked(&GOLDEN[..74]).unwrap_err(), Drop::Length);
        assert_eq!(Envelope::new_checked(&[0; DATAGRAM_MAX + 1]).unwrap_err(), Drop::Long);
        assert_eq!(set(0, b'q'), Err(Drop::Magic));
        assert_eq!(set(4, 1), Err(Drop::Version), "the plain frames of version 1");
        assert_eq!(set(4, 3), Err(Drop::Version));
        assert_eq!(set(5, 0), Err(Drop::Flags), "not sealed");
        assert_eq!(set(5, 3), Err(Drop::Flags));
        assert_eq!(set(7, 1).unwrap().epoch, 1);
        assert_eq!(set(6, 3), Err(Drop::Channel));
        assert_eq!(set(6, 2).unwrap().channel, Channel::Groups);
        assert_eq!(set(8, 64), Err(Drop::From));
        assert_eq!(set(9, 64), Err(Drop::To));
        assert_eq!(set(10, 4), Err(Drop::Length));
        assert_eq!(set(9, 255).unwrap().to, Destination::All);
    }

    #[test]
    fn a_frame_of_another_version_is_named_whatever_its_length() {
        let mut bytes = GOLDEN;
        bytes[4] = 9;
        assert_eq!(foreign_version(&bytes[..9]), Some((9, NodeId::new(2))));
        assert_eq!(Envelope::new_checked(&bytes[..9]).unwrap_err(), Drop::Version);
        assert_eq!(foreign_version(&bytes[..8]), None);
        assert_eq!(foreign_version(&GOLDEN), None);
    }

    #[test]
    fn the_longest_payload_fills_the_datagram() {
        let (mut out, mut opened) = ([0; DATAGRAM_MAX], Opened::new());
        assert_eq!(golden().emit(&[7; PAYLOAD_MAX], &key(), &mut out), Some(DATAGRAM_MAX));
        assert_eq!(Envelope::new_checked(&out).unwrap().open(&key(), &mut opened), Ok(()));
        assert_eq!(opened, [7; PAYLOAD_MAX]);
        assert_eq!(golden().emit(&[7; PAYLOAD_MAX + 1], &key(), &mut [0; 2000]), None);
        assert_eq!(golden().emit(b"abc", &key(), &mut [0; 74]), None);
    }

    #[test]
    fn a_payload_is_not_seen_on_the_wire() {
        let mut out = [0; 200];
        let len = golden().emit(&[0x55; 64], &key(), &mut out).unwrap();
        assert!(!out[..len].windows(4).any(|w| w == [0x55; 4]));
    }

    fn any_repr() -> impl Strategy<Value = Repr> {
        let to = prop_oneof![Just(255u8), 0u8..64];
        (any::<bool>(), 0u8..64, to, any::<u32>(), any::<[u64; 3]>(), any::<[u8; 16]>()).prop_map(
            |(membership, from, to, incarnation, [nonce, counter, lamport], cluster)| Repr {
                epoch: 0,
                channel: if membership { Channel::Membership } else { Channel::Heartbeat },
                from: NodeId::new(from).unwrap(),
                to: NodeId::new(to).map_or(Destination::All, Destination::Node),
                incarnation: Incarnation(incarnation),
                nonce: BootNonce(nonce),
                cluster: ClusterId(cluster),
                counter,
                lamport,
            },
        )
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..1600)) {
            if let Ok(e) = Envelope::new_checked(&bytes) {
                let mut opened = Opened::new();
                prop_assert_eq!(e.open(&key(), &mut opened), Err(Drop::Tag));
                prop_assert!(opened.is_empty());
            }
        }

        #[test]
        fn what_is_emitted_is_read_back(repr in any_repr(), payload in prop::collection::vec(any::<u8>(), 0..=PAYLOAD_MAX)) {
            let (mut out, mut opened) = ([0; DATAGRAM_MAX], Opened::new());
            let len = repr.emit(&payload, &key(), &mut out).unwrap();
            let e = Envelope::new_checked(&out[..len]).unwrap();
            prop_assert_eq!(e.repr(), &repr);
            prop_assert_eq!(e.open(&key(), &mut opened), Ok(()));
            prop_assert_eq!(&opened[..], &payload[..]);
        }

        #[test]
        fn any_flipped_bits_are_found(repr in any_repr(), at in 0usize..131 * 8 - 32, burst in 1u32..) {
            let mut out: Vec<u8> = std::vec![0; DATAGRAM_MAX];
            let len = repr.emit(&[3; 59], &key(), &mut out).unwrap();
            out.truncate(len);
            for bit in (0..32).filter(|b| burst >> b & 1 == 1) {
                out[(at + bit) / 8] ^= 1 << ((at + bit) % 8);
            }
            prop_assert!(Envelope::new_checked(&out).and_then(|e| e.open(&key(), &mut Opened::new())).is_err());
        }

        #[test]
        fn anything_cut_off_or_added_is_found(repr in any_repr(), len in 0usize..200) {
            let mut out = [0; 200];
            let whole = repr.emit(&[3; 40], &key(), &mut out).unwrap();
            prop_assume!(len != whole);
            prop_assert!(Envelope::new_checked(&out[..len]).is_err());
        }
    }
}
