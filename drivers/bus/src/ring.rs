//! A ring of descriptors of 16 bytes, each with a buffer of its own: what plain NICs work on. A descriptor is the buffer's
//! bus address and one more word, of which the device's data sheet says what its bits mean.
//!
//! Invariants:
//! - A buffer is reachable only while its descriptor is the driver's: between [`Ring::take_back`] and [`Ring::give`].
//! - The device's word is read once per look; what the driver judges is a copy that the device cannot change any more.
//! - The addresses are written by the driver alone, anew with each [`Ring::give`], and never read back.

use crate::dma::Region;
use crate::platform;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

/// Bytes of a descriptor.
pub const DESCRIPTOR_BYTES: usize = 16;

/// Why there is no ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// The DMA pool is exhausted or no platform is installed.
    NoMemory,
}

/// `N` descriptors and their buffers.
#[derive(Debug)]
pub struct Ring<const N: usize> {
    descriptors: Region,
    buffers: Region,
    buffer_bytes: usize,
    /// The descriptor is the device's.
    given: [bool; N],
}

impl<const N: usize> Ring<N> {
    /// A ring with buffers of `buffer_bytes` each, all zero, all the driver's.
    ///
    /// # Errors
    /// [`RingError::NoMemory`].
    pub fn new(buffer_bytes: usize) -> Result<Self, RingError> {
        let bytes = buffer_bytes.checked_mul(N).ok_or(RingError::NoMemory)?;
        let descriptors = Region::take(N * DESCRIPTOR_BYTES).ok_or(RingError::NoMemory)?;
        let buffers = Region::take(bytes).ok_or(RingError::NoMemory)?;
        Ok(Self { descriptors, buffers, buffer_bytes, given: [false; N] })
    }

    /// Where the device finds the descriptors.
    ///
    /// # Errors
    /// [`RingError::NoMemory`]: no platform is installed.
    pub fn physical(&self) -> Result<u64, RingError> {
        let start = self.descriptors.at(0, N * DESCRIPTOR_BYTES);
        start.and_then(|start| platform::virt_to_phys(start.as_ptr())).ok_or(RingError::NoMemory)
    }

    /// Bytes of the descriptors, as devices ask for them.
    pub const fn descriptors_bytes(&self) -> usize {
        N * DESCRIPTOR_BYTES
    }

    /// The two words of a descriptor.
    fn words(&self, index: usize) -> Option<[NonNull<u64>; 2]> {
        let at = |offset| self.descriptors.at(index.checked_mul(DESCRIPTOR_BYTES)? + offset, 8);
        if index >= N {
            return None;
        }
        Some([at(0)?.cast(), at(8)?.cast()])
    }

    /// Makes a descriptor the device's: its buffer's address, then `word`. The device may look at it from now on. `false` if it
    /// is the device's already, or there is none.
    pub fn give(&mut self, index: usize, word: u64) -> bool {
        let Some([address_at, word_at]) = self.words(index) else { return false };
        let buffer = self.buffer(index).and_then(|buffer| platform::virt_to_phys(buffer.as_ptr()));
        let (Some(buffer), Some(given)) = (buffer, self.given.get_mut(index)) else { return false };
        *given = true;
        // SAFETY: both words lie in this ring's own region, which lives for ever, and are aligned to 8 bytes: a region begins
        // at a page. The device may read and write them at any time, so every access is volatile.
        unsafe {
            address_at.write_volatile(buffer);
            word_at.write_volatile(word);
        }
        // The device sees the buffer's bytes and the descriptor before the doorbell that follows.
        fence(Ordering::SeqCst);
        true
    }

    /// Whether the device is done with a descriptor: it has set a bit of `done` in it.
    pub fn is_done(&self, index: usize, done: u64) -> bool {
        self.given.get(index) == Some(&true) && self.word(index).is_some_and(|word| word & done != 0)
    }

    fn word(&self, index: usize) -> Option<u64> {
        let [_, word_at] = self.words(index)?;
        // SAFETY: as in `give`.
        Some(unsafe { word_at.read_volatile() })
    }

    /// Makes a descriptor that the device is done with (see [`Ring::is_done`]) the driver's, and gives its word, unchecked.
    pub fn take_back(&mut self, index: usize, done: u64) -> Option<u64> {
        let word = self.word(index).filter(|word| word & done != 0)?;
        let given = self.given.get_mut(index).filter(|given| **given)?;
        *given = false;
        // The buffer is read after the word that says that it is complete.
        fence(Ordering::SeqCst);
        Some(word)
    }

    /// The buffer of a descriptor; `None` while it is the device's or if there is none.
    pub fn slot(&self, index: usize) -> Option<&[u8]> {
        let start = self.buffer(index)?;
        // SAFETY: the region is ours and initialised (zeroed static); a device that keeps to its data sheet writes only to
        // buffers that are its own, and this one is the driver's.
        Some(unsafe { core::slice::from_raw_parts(start.as_ptr(), self.buffer_bytes) })
    }

    /// The buffer of a descriptor for writing; `None` while it is the device's or if there is none.
    pub fn slot_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let start = self.buffer(index)?;
        // SAFETY: as in `slot`; `&mut self` makes it the only access.
        Some(unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), self.buffer_bytes) })
    }

    /// The buffer of a descriptor that is the driver's.
    fn buffer(&self, index: usize) -> Option<NonNull<u8>> {
        let free = self.given.get(index).is_some_and(|given| !given);
        let start = index.checked_mul(self.buffer_bytes)?;
        free.then(|| self.buffers.at(start, self.buffer_bytes)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{memory_read, memory_write};

    const DONE: u64 = 1 << 32;

    #[test]
    fn a_buffer_is_out_of_reach_while_its_descriptor_is_the_devices() {
        let mut ring: Ring<4> = Ring::new(64).unwrap();
        ring.slot_mut(2).unwrap().fill(7);
        assert!(ring.give(2, 0xabcd));
        assert!(ring.slot(2).is_none() && ring.slot_mut(2).is_none());
        assert!(!ring.give(2, 0), "twice");
        assert!(ring.take_back(2, DONE).is_none() && !ring.is_done(2, DONE));
        let at = ring.physical().unwrap() + 2 * 16;
        let descriptor = memory_read(at, 16).unwrap();
        assert_eq!(descriptor[8..], 0xabcd_u64.to_le_bytes());
        let buffer = u64::from_le_bytes(descriptor[..8].try_into().unwrap());
        assert_eq!(memory_read(buffer, 64).unwrap(), [7; 64]);
        assert!(memory_write(buffer, &[9; 64]));
        assert!(memory_write(at + 8, &(DONE | 5).to_le_bytes()));
        assert!(ring.is_done(2, DONE));
        assert_eq!(ring.take_back(2, DONE), Some(DONE | 5));
        assert!(ring.take_back(2, DONE).is_none(), "once");
        assert_eq!(ring.slot(2).unwrap(), [9; 64]);
    }

    #[test]
    fn there_is_nothing_beyond_the_ring() {
        let mut ring: Ring<4> = Ring::new(64).unwrap();
        for index in [4, 5, usize::MAX] {
            assert!(!ring.give(index, 0));
            assert!(ring.slot(index).is_none() && ring.slot_mut(index).is_none());
            assert!(!ring.is_done(index, u64::MAX) && ring.take_back(index, u64::MAX).is_none());
        }
        assert_eq!(ring.descriptors_bytes(), 64);
        assert_eq!(Ring::<4>::new(usize::MAX).unwrap_err(), RingError::NoMemory);
    }

    #[test]
    fn a_done_bit_in_a_descriptor_that_was_never_given_counts_for_nothing() {
        let mut ring: Ring<4> = Ring::new(64).unwrap();
        let at = ring.physical().unwrap();
        assert!(memory_write(at + 8, &DONE.to_le_bytes()));
        assert!(!ring.is_done(0, DONE) && ring.take_back(0, DONE).is_none());
    }
}
