//! The seal of a frame: XChaCha20-Poly1305 (RFC 8439, AEAD_CHACHA20_POLY1305; its nonce extended as in
//! draft-irtf-cfrg-xchacha-03), taken apart so that the first half is computed once for each life of a sender.
//!
//! ```text
//! 24-byte nonce:  "QRN" ‖ node (1) ‖ incarnation (4) ‖ boot nonce (8) ‖ frame counter (8)
//!                 └──────────── HChaCha20(cluster key, ·) ──────────┘
//!                          = the key of that life             0⁴ ‖ counter = nonce of ChaCha20-Poly1305
//! ```
//! So a frame is what any implementation of XChaCha20-Poly1305 makes of the cluster key, that nonce, the header as
//! associated data, and the payload.
//!
//! Invariants: a life has one key, and a counter is used once in a life, so no nonce is used twice under one key; two boots
//! that claim one incarnation differ in the 64 random bits of their boot nonces. A payload whose tag does not match is never
//! deciphered; tags are compared in constant time.

use core::fmt;

use chacha20::R20;
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use quorate_base::{BootNonce, ClusterKey, Incarnation, NodeId};

/// Bytes of a tag.
pub const TAG_BYTES: usize = 16;

/// What the derived keys are for: the first bytes of HChaCha20's input. Another use of the cluster key takes another.
const FRAMES: [u8; 3] = *b"QRN";
/// The input of HChaCha20 for a key's fingerprint: no life has it.
const FINGERPRINT: [u8; 16] = *b"QRF key shown as";

/// The key under which one life of a node seals its frames.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SealKey([u8; 32]);

impl fmt::Debug for SealKey {
    /// Says nothing: it must not get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(…)")
    }
}

/// HChaCha20 as a pseudorandom function of one block.
fn hchacha20(key: &ClusterKey, input: [u8; 16]) -> [u8; 32] {
    chacha20::hchacha::<R20>(&key.0.into(), &input.into()).into()
}

/// The nonce of a frame under its life's key.
fn nonce(counter: u64) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h] = counter.to_le_bytes();
    [0, 0, 0, 0, a, b, c, d, e, f, g, h]
}

/// What may be shown of a cluster key: 64 bits by which two people can tell whether they have the same one.
pub fn fingerprint(key: &ClusterKey) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = hchacha20(key, FINGERPRINT);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl SealKey {
    /// The key of one life.
    pub fn derive(cluster: &ClusterKey, node: NodeId, incarnation: Incarnation, boot: BootNonce) -> Self {
        let mut input = [0; 16];
        let (label, rest) = input.split_at_mut(FRAMES.len());
        label.copy_from_slice(&FRAMES);
        let incarnation = incarnation.0.to_le_bytes();
        let fields = [node.get()].into_iter().chain(incarnation).chain(boot.0.to_le_bytes());
        for (place, byte) in rest.iter_mut().zip(fields) {
            *place = byte;
        }
        Self(hchacha20(cluster, input))
    }

    /// Enciphers a payload in place and gives its tag, which also covers `header`. `counter` must not have been used
    /// under this key. `None` only for payloads longer than the cipher can take (256 GiB).
    pub fn seal(&self, counter: u64, header: &[u8], payload: &mut [u8]) -> Option<[u8; TAG_BYTES]> {
        let cipher = ChaCha20Poly1305::new(&self.0.into());
        let tag = cipher.encrypt_inout_detached(&nonce(counter).into(), header, payload.into()).ok()?;
        Some(tag.into())
    }

    /// Deciphers a payload in place if the tag is genuine. Otherwise it stays enciphered, and the answer is false.
    #[must_use]
    pub fn open(&self, counter: u64, header: &[u8], payload: &mut [u8], tag: &[u8; TAG_BYTES]) -> bool {
        let cipher = ChaCha20Poly1305::new(&self.0.into());
        cipher.decrypt_inout_detached(&nonce(counter).into(), header, payload.into(), &(*tag).into()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
    }

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        hex(text).try_into().unwrap()
    }

    const SUNSCREEN: &[u8] =
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
        sunscreen would be it.";

    #[test]
    fn rfc_8439_2_8_2_aead() {
        // Its nonce does not begin with zeros, so this is the cipher underneath.
        let cipher =
            ChaCha20Poly1305::new(&bytes("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f").into());
        let nonce: [u8; 12] = bytes("070000004041424344454647");
        let mut text = SUNSCREEN.to_vec();
        let tag = cipher
            .encrypt_inout_detached(&nonce.into(), &hex("50515253c0c1c2c3c4c5c6c7"), text.as_mut_slice().into())
            .unwrap();
        assert_eq!(
            text,
            hex("d31a8d34648e60db7b86afbc53ef7ec2 a4aded51296e08fea9e2b5a736ee62d6 3dbea45e8ca9671282fafb69da92728b
                 1a71de0a9e060b2905d6a5b67ecd3b36 92ddbd7f2d778b8c9803aee328091b58 fab324e4fad675945585808b4831d7bc
                 3ff4def08e4b7a9de576d26586cec64b 6116")
        );
        assert_eq!(<[u8; 16]>::from(tag), bytes::<16>("1ae10b594f09e26a7e902ecbd0600691"));
    }

    #[test]
    fn rfc_8439_a_5_aead_decryption() {
        let key = SealKey(bytes("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0"));
        let mut text =
            hex("64a0861575861af460f062c79be643bd 5e805cfd345cf389f108670ac76c8cb2 4c6cfc18755d43eea09ee94e382d26b0
             bdb7b73c321b0100d4f03b7f355894cf 332f830e710b97ce98c8a84abd0b9481 14ad176e008d33bd60f982b1ff37c855
             9797a06ef4f0ef61c186324e2b350638 3606907b6a7c02b0f9f6157b53c867e4 b9166c767b804d46a59b5216cde7a4e9
             9040c5a40433225ee282a1b0a06c523e af4534d7f83fa1155b0047718cbc546a 0d072b04b3564eea1b422273f548271a
             0bb2316053fa76991955ebd63159434e cebb4e466dae5a1073a6727627097a10 49e617d91d361094fa68f0ff77987130
             305beaba2eda04df997b714d6c6f2c29 a6ad5cb4022b02709b");
        // The vector's nonce is 0⁴ ‖ 0102030405060708: as ours are.
        let counter = u64::from_le_bytes(bytes("0102030405060708"));
        assert_eq!(nonce(counter), bytes("000000000102030405060708"));
        let (header, tag) = (hex("f33388860000000000004e91"), bytes("eead9d67890cbb22392336fea1851f38"));
        assert!(key.open(counter, &header, &mut text, &tag));
        assert!(text.starts_with(b"Internet-Drafts are draft documents valid for a maximum of six months"));
        assert!(text.ends_with("as /\u{201c}work in progress./\u{201d}".as_bytes()));
    }

    #[test]
    fn draft_irtf_cfrg_xchacha_2_2_1_hchacha20() {
        let key = ClusterKey(core::array::from_fn(|i| i as u8));
        assert_eq!(
            hchacha20(&key, bytes("000000090000004a0000000031415927")),
            bytes::<32>("82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc")
        );
    }

    /// A frame is XChaCha20-Poly1305's, whole: computed by the crate's own composition of it.
    #[test]
    fn a_frame_is_what_xchacha20_poly1305_makes_of_the_cluster_key() {
        use chacha20poly1305::XChaCha20Poly1305;
        let cluster = ClusterKey(core::array::from_fn(|i| 0x80 + i as u8));
        let (node, incarnation, boot) =
            (NodeId::new(2).unwrap(), Incarnation(0x0102_0304), BootNonce(0x1112_1314_1516_1718));
        let counter = 0x2122_2324_2526_2728;
        let whole: [u8; 24] = bytes("51524e 02 04030201 1817161514131211 2827262524232221");
        let mut ours = SUNSCREEN.to_vec();
        let tag = SealKey::derive(&cluster, node, incarnation, boot).seal(counter, b"header", &mut ours).unwrap();
        let mut theirs = SUNSCREEN.to_vec();
        let cipher = XChaCha20Poly1305::new(&cluster.0.into());
        let their_tag = cipher.encrypt_inout_detached(&whole.into(), b"header", theirs.as_mut_slice().into()).unwrap();
        assert_eq!((ours, tag), (theirs, their_tag.into()));
    }

    #[test]
    fn every_field_of_a_life_makes_another_key() {
        let cluster = ClusterKey([9; 32]);
        let derive = |cluster, node, incarnation, boot| {
            SealKey::derive(&cluster, NodeId::new(node).unwrap(), Incarnation(incarnation), BootNonce(boot))
        };
        let keys = [
            derive(cluster, 1, 2, 3),
            derive(ClusterKey([8; 32]), 1, 2, 3),
            derive(cluster, 2, 2, 3),
            derive(cluster, 1, 3, 3),
            derive(cluster, 1, 2, 4),
            derive(cluster, 1, 2 << 8, 3),
            derive(cluster, 1, 2, 3 << 56),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|b| a != b), "{i}");
        }
        assert_ne!(fingerprint(&cluster), fingerprint(&ClusterKey([8; 32])));
    }

    #[test]
    fn keys_are_not_shown() {
        let key = SealKey::derive(&ClusterKey([7; 32]), NodeId::new(0).unwrap(), Incarnation(1), BootNonce(1));
        assert_eq!(std::format!("{key:?} {:?}", ClusterKey([7; 32])), "SealKey(…) ClusterKey(…)");
    }

    proptest! {
        #[test]
        fn what_was_touched_does_not_open(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            counter in 0..u64::MAX,
            bit: prop::sample::Index,
        ) {
            let key = SealKey([3; 32]);
            let mut sealed = payload.clone();
            let tag = key.seal(counter, b"abcd", &mut sealed).unwrap();
            let open = |counter, header: &[u8], sealed: &[u8], tag: &[u8; 16]| {
                let mut text = sealed.to_vec();
                let good = key.open(counter, header, &mut text, tag);
                assert!(good || text == sealed, "stays enciphered");
                good.then_some(text)
            };
            prop_assert_eq!(open(counter, b"abcd", &sealed, &tag), Some(payload));
            prop_assert_eq!(open(counter + 1, b"abcd", &sealed, &tag), None);
            prop_assert_eq!(open(counter, b"abce", &sealed, &tag), None);
            let mut other = tag;
            let at = bit.index(128);
            other[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(open(counter, b"abcd", &sealed, &other), None);
            if !sealed.is_empty() {
                let mut other = sealed.clone();
                let at = bit.index(other.len() * 8);
                other[at / 8] ^= 1 << (at % 8);
                prop_assert_eq!(open(counter, b"abcd", &other, &tag), None);
            }
        }
    }
}
