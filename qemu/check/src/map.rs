//! A hash map for small keys. The checker looks things up at every event of the simulator, its keys are not chosen by an
//! adversary, and the standard hasher would be a third of its time.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map with the hasher of this file.
pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;
/// A set with it.
pub(crate) type Set<K> = HashSet<K, BuildHasherDefault<Mixer>>;

/// Multiplies and folds each word that it is given.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, word: u64) {
        // The fractional part of the golden ratio: odd, and with bits everywhere.
        let product = u128::from(self.0 ^ word.rotate_left(29) ^ 0x5bd1) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            self.mix(chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.mix(n.into());
    }

    fn write_u16(&mut self, n: u16) {
        self.mix(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.mix(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }

    fn write_isize(&mut self, n: isize) {
        self.mix(n as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::Hash;

    #[test]
    fn neighbouring_keys_do_not_fall_together() {
        let hash = |key: (u8, u32, u16)| {
            let mut mixer = Mixer::default();
            key.hash(&mut mixer);
            mixer.finish()
        };
        let mut seen = [Set::default(), Set::default()];
        for key in (0..8).flat_map(|a| (0..8).flat_map(move |b| (0..8).map(move |c| (a, b, c * 10)))) {
            seen[0].insert(hash(key));
            seen[1].insert(hash(key) >> 57);
        }
        assert_eq!(seen[0].len(), 512);
        assert!(seen[1].len() > 100, "the upper bits choose the bucket's tag");
    }
}
