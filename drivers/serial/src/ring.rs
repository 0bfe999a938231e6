//! A ring of bytes.
//!
//! Invariants: `length <= N`, `start < N`; the bytes from `start` on, wrapped, are the content in order.

/// A first-in first-out buffer of `N` bytes.
#[derive(Debug, Clone)]
pub struct Ring<const N: usize> {
    bytes: [u8; N],
    start: usize,
    length: usize,
}

impl<const N: usize> Ring<N> {
    /// Empty.
    pub const fn new() -> Self {
        const { assert!(N > 0) };
        Self { bytes: [0; N], start: 0, length: 0 }
    }

    /// Bytes in it.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing is in it.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes that fit.
    pub const fn room(&self) -> usize {
        N - self.length
    }

    /// Takes as many bytes as fit, from the front of `input`; returns how many.
    pub fn push(&mut self, input: &[u8]) -> usize {
        let taken = input.len().min(self.room());
        let (end, input) = ((self.start + self.length) % N, &input[..taken]);
        let first = taken.min(N - end);
        self.bytes[end..end + first].copy_from_slice(&input[..first]);
        self.bytes[..taken - first].copy_from_slice(&input[first..]);
        self.length += taken;
        taken
    }

    /// The oldest bytes that are adjacent in memory; empty only if the ring is.
    pub fn front(&self) -> &[u8] {
        let end = (self.start + self.length).min(N);
        &self.bytes[self.start..end]
    }

    /// Drops up to `count` of the oldest bytes.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.length);
        self.start = (self.start + count) % N;
        self.length -= count;
    }
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::collections::VecDeque;

    #[test]
    fn bytes_come_out_in_order_whatever_the_sizes() {
        let mut ring = Ring::<7>::new();
        let mut model = VecDeque::new();
        let mut next = 0_u8;
        let mut seed = 1_u32;
        for _ in 0..10_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let count = (seed >> 24) as usize % 10;
            if seed & 0x1000 == 0 {
                let input: std::vec::Vec<u8> = (0..count).map(|offset| next.wrapping_add(offset as u8)).collect();
                let taken = ring.push(&input);
                assert_eq!(taken, count.min(7 - model.len()));
                model.extend(&input[..taken]);
                next = next.wrapping_add(taken as u8);
            } else {
                let front = ring.front();
                assert_eq!(front.is_empty(), model.is_empty());
                assert!(front.iter().eq(model.iter().take(front.len())));
                ring.consume(count);
                model.drain(..count.min(model.len()));
            }
            assert_eq!((ring.len(), ring.room()), (model.len(), 7 - model.len()));
        }
    }
}
