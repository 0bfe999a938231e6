//! The one source of chance of a run: everything that is drawn comes from here, so that a seed replays exactly.

/// A seeded generator (SplitMix64: Steele, Lea, Flood 2014). Small, fast, and its whole state is one word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed. Near seeds give unrelated sequences.
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed ^ 0x51_7c_c1_b7_27_22_0a_95);
        random.next_u64();
        random
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Multiply and shift: the bias is below bound / 2⁶⁴ and does not matter here.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// In `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True so many times in a million.
    pub fn per_million(&mut self, parts: u32) -> bool {
        parts > 0 && self.below(1_000_000) < u64::from(parts)
    }

    /// One of them; `None` if there is none.
    pub fn pick<T: Copy>(&mut self, among: &[T]) -> Option<T> {
        among.get(self.below(among.len() as u64) as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_sequence_and_stays_in_bounds() {
        let (mut a, mut b, mut c) = (Random::new(7), Random::new(7), Random::new(8));
        let draw = |r: &mut Random| (0..100).map(|_| r.between(3, 9)).collect::<Vec<_>>();
        let first = draw(&mut a);
        assert_eq!(first, draw(&mut b));
        assert_ne!(first, draw(&mut c));
        assert!(first.iter().all(|n| (3..=9).contains(n)) && (3..=9).all(|n| first.contains(&n)));
        assert_eq!((a.below(0), a.pick::<u8>(&[])), (0, None));
    }
}
