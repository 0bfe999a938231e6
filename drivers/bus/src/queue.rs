//! A virtqueue that owns its buffers.
//!
//! A queue has `SLOTS` buffers of equal size. A request is made of ranges of one slot's buffer, first
//! those the device reads, then those it writes. While a request is outstanding its slot is not
//! accessible; it comes back through [`Queue::pop`] and only there.
//!
//! The device is not trusted: a token that is not outstanding breaks the queue for good
//! ([`QueueError::Broken`]) instead of the kernel; a length beyond what was offered is clamped and
//! marked. It cannot be an error as such: QEMU's SCSI host counts the bytes of a write among those it
//! wrote. (VirtIO 1.2 § 2.7)

use crate::dma::{BusHal, Region};
use crate::interrupts;
use crate::port::Port;
use core::ops::Range;
use core::sync::atomic::{Ordering, fence};
use heapless::Vec;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;

/// Ranges one request may have in each direction: header and data.
pub const SEGMENTS_MAX: usize = 2;

/// Why a queue operation failed. The slot is then as it was before, except after `Broken`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// The device has no such queue, or a smaller one than the driver needs.
    TooSmall {
        /// Entries the device offers.
        offered: u32,
    },
    /// The DMA pool is exhausted or no platform is installed.
    NoMemory,
    /// There is no such slot.
    NoSuchSlot,
    /// The slot's request is outstanding.
    SlotBusy,
    /// A range is empty or lies outside the slot, or there are too many.
    BadRange,
    /// No descriptors are free.
    Full,
    /// The guard refused: nothing was submitted.
    Refused,
    /// The device broke the rules of the ring earlier; the queue is dead until the device is reset.
    Broken,
}

/// What the device did to a queue that it must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It returned a token that is not outstanding.
    UnknownToken(u16),
}

/// A request that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Its slot, accessible again.
    pub slot: usize,
    /// Bytes the device says it wrote, at most what was offered. The bytes themselves are unchecked.
    pub written: u32,
    /// It said more than was offered.
    pub overlong: bool,
}

type Segments = Vec<(usize, usize), SEGMENTS_MAX>;

#[derive(Debug)]
struct Flight {
    token: u16,
    readable: Segments,
    writable: Segments,
}

/// A virtqueue of `SIZE` descriptors with `SLOTS` buffers.
#[derive(Debug)]
pub struct Queue<const SIZE: usize, const SLOTS: usize> {
    ring: VirtQueue<BusHal, SIZE>,
    index: u16,
    region: Region,
    slot_bytes: usize,
    flights: [Option<Flight>; SLOTS],
    broken: bool,
}

impl<const SIZE: usize, const SLOTS: usize> Queue<SIZE, SLOTS> {
    /// Sets up queue `index` of the device with `slot_bytes` of buffer per slot, all zero.
    ///
    /// # Errors
    /// [`QueueError::TooSmall`] or [`QueueError::NoMemory`].
    pub fn new<T: Transport>(port: &mut Port<T>, index: u16, slot_bytes: usize) -> Result<Self, QueueError> {
        let transport = port.transport_mut();
        let offered = transport.max_queue_size(index);
        if offered < SIZE as u32 {
            return Err(QueueError::TooSmall { offered });
        }
        let bytes = slot_bytes.checked_mul(SLOTS).ok_or(QueueError::NoMemory)?;
        let region = Region::take(bytes).ok_or(QueueError::NoMemory)?;
        let ring = VirtQueue::new(transport, index, false, false).map_err(|_| QueueError::NoMemory)?;
        Ok(Self { ring, index, region, slot_bytes, flights: [const { None }; SLOTS], broken: false })
    }

    /// Starts over after the device was reset, which [`Port::negotiate`] does: every slot comes back, and
    /// the ring is a new one. The buffers stay; the old ring's memory is never used again.
    ///
    /// # Errors
    /// [`QueueError::NoMemory`]: no memory for another ring.
    pub fn renew<T: Transport>(&mut self, port: &mut Port<T>) -> Result<(), QueueError> {
        let ring = VirtQueue::new(port.transport_mut(), self.index, false, false);
        self.ring = ring.map_err(|_| QueueError::NoMemory)?;
        self.flights = [const { None }; SLOTS];
        self.broken = false;
        Ok(())
    }

    /// Bytes of each slot.
    pub fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// The queue's number at the device.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The device broke the ring's rules.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Requests outstanding.
    pub fn outstanding(&self) -> usize {
        self.flights.iter().flatten().count()
    }

    /// The lowest slot without an outstanding request.
    pub fn free_slot(&self) -> Option<usize> {
        self.flights.iter().position(Option::is_none)
    }

    /// The buffer of a slot; `None` while its request is outstanding or if there is none.
    pub fn slot(&self, slot: usize) -> Option<&[u8]> {
        let start = self.idle(slot)?;
        // SAFETY: the region is ours, initialised (zeroed static), and the device has no descriptor
        // into this slot because nothing in it is outstanding.
        Some(unsafe { core::slice::from_raw_parts(start.as_ptr(), self.slot_bytes) })
    }

    /// The buffer of a slot for writing; `None` while its request is outstanding or if there is none.
    pub fn slot_mut(&mut self, slot: usize) -> Option<&mut [u8]> {
        let start = self.idle(slot)?;
        // SAFETY: as in `slot`; `&mut self` makes it the only access.
        Some(unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), self.slot_bytes) })
    }

    fn idle(&self, slot: usize) -> Option<core::ptr::NonNull<u8>> {
        match self.flights.get(slot)? {
            Some(_) => None,
            None => self.region.at(slot * self.slot_bytes, self.slot_bytes),
        }
    }

    /// Tells the device whether completions of this queue shall interrupt. It may do so all the same for a while; what came
    /// before it was told "yes" may not have interrupted, so [`Queue::has_used`] is to be asked afterwards.
    pub fn set_interrupts(&mut self, wanted: bool) {
        self.ring.set_dev_notify(wanted);
        // The device must see it before the used ring is looked at (VirtIO 1.2 § 2.7.7.1).
        fence(Ordering::SeqCst);
    }

    /// Something came back and waits for [`Queue::pop`].
    pub fn has_used(&self) -> bool {
        !self.broken && self.ring.can_pop()
    }

    /// Hands the ranges of `slot` to the device and rings the doorbell.
    ///
    /// `guard` is the last thing that runs before the request becomes visible to the device, with
    /// interrupts off; if it says `false` nothing is submitted.
    ///
    /// # Errors
    /// Every [`QueueError`]; the slot stays with the caller on all of them.
    pub fn submit<T: Transport>(
        &mut self,
        port: &mut Port<T>,
        slot: usize,
        readable: &[Range<usize>],
        writable: &[Range<usize>],
        guard: impl FnOnce() -> bool,
    ) -> Result<(), QueueError> {
        if self.broken {
            return Err(QueueError::Broken);
        }
        match self.flights.get(slot) {
            None => return Err(QueueError::NoSuchSlot),
            Some(Some(_)) => return Err(QueueError::SlotBusy),
            Some(None) => {}
        }
        let readable = self.segments(readable)?;
        let writable = self.segments(writable)?;
        if overlap(&readable, &writable) {
            return Err(QueueError::BadRange);
        }
        let needed = readable.len() + writable.len();
        if needed == 0 {
            return Err(QueueError::BadRange);
        }
        if self.ring.available_desc() < needed {
            return Err(QueueError::Full);
        }
        let mut slices = slices(&self.region, slot * self.slot_bytes, &readable, &writable)?;
        let inputs = slices.inputs.get(..readable.len()).ok_or(QueueError::BadRange)?;
        let outputs = slices.outputs.get_mut(..writable.len()).ok_or(QueueError::BadRange)?;
        let (ring, index) = (&mut self.ring, self.index);
        let token = interrupts::off(|| {
            if !guard() {
                return Err(QueueError::Refused);
            }
            // SAFETY: the slices lie in this queue's own region, which lives for ever, and the slot
            // is inaccessible until `pop` has taken the token back.
            let token = unsafe { ring.add(inputs, outputs) }.map_err(|_| QueueError::Full)?;
            // The device may say that it looks at the ring by itself (VirtIO 1.2 § 2.7.10, USED_F_NO_NOTIFY); it must
            // be asked after the request is visible to it. Without EVENT_IDX this is a flag and cannot wrap.
            fence(Ordering::SeqCst);
            if ring.should_notify() {
                port.transport_mut().notify(index);
            }
            Ok(token)
        })?;
        if let Some(flight) = self.flights.get_mut(slot) {
            *flight = Some(Flight { token, readable, writable });
        }
        Ok(())
    }

    /// Takes back the next request the device is done with.
    ///
    /// # Errors
    /// A [`Violation`], once; from then on the queue is broken and yields nothing more.
    pub fn pop(&mut self) -> Option<Result<Used, Violation>> {
        if self.broken {
            return None;
        }
        let token = self.ring.peek_used()?;
        let found = self.flights.iter().position(|flight| matches!(flight, Some(flight) if flight.token == token));
        let Some(slot) = found else {
            self.broken = true;
            return Some(Err(Violation::UnknownToken(token)));
        };
        let result = self.take_back(slot, token);
        self.broken |= result.is_err();
        Some(result)
    }

    fn take_back(&mut self, slot: usize, token: u16) -> Result<Used, Violation> {
        let unknown = Violation::UnknownToken(token);
        let flight = self.flights.get(slot).and_then(Option::as_ref).ok_or(unknown)?;
        let offered: usize = flight.writable.iter().map(|(start, end)| end - start).sum();
        let offered = offered as u32;
        let mut slices =
            slices(&self.region, slot * self.slot_bytes, &flight.readable, &flight.writable).map_err(|_| unknown)?;
        let inputs = slices.inputs.get(..flight.readable.len()).ok_or(unknown)?;
        let outputs = slices.outputs.get_mut(..flight.writable.len()).ok_or(unknown)?;
        // SAFETY: the same ranges of the same slot as were given to `add` for this token.
        let claimed = unsafe { self.ring.pop_used(token, inputs, outputs) }.map_err(|_| unknown)?;
        if let Some(flight) = self.flights.get_mut(slot) {
            *flight = None;
        }
        Ok(Used { slot, written: claimed.min(offered), overlong: claimed > offered })
    }

    fn segments(&self, ranges: &[Range<usize>]) -> Result<Segments, QueueError> {
        let mut segments = Segments::new();
        for range in ranges {
            if range.start >= range.end || range.end > self.slot_bytes {
                return Err(QueueError::BadRange);
            }
            segments.push((range.start, range.end)).map_err(|_| QueueError::BadRange)?;
        }
        Ok(segments)
    }
}

/// A range the device writes must not share bytes with any other.
fn overlap(readable: &Segments, writable: &Segments) -> bool {
    let meet = |a: &(usize, usize), b: &(usize, usize)| a.0 < b.1 && b.0 < a.1;
    writable
        .iter()
        .enumerate()
        .any(|(i, a)| readable.iter().any(|b| meet(a, b)) || writable.iter().skip(i + 1).any(|b| meet(a, b)))
}

/// A request's ranges as the ring wants them.
struct Slices<'a> {
    inputs: [&'a [u8]; SEGMENTS_MAX],
    outputs: [&'a mut [u8]; SEGMENTS_MAX],
}

fn slices<'a>(
    region: &Region,
    base: usize,
    readable: &Segments,
    writable: &Segments,
) -> Result<Slices<'a>, QueueError> {
    let mut slices = Slices { inputs: Default::default(), outputs: Default::default() };
    for (&(start, end), input) in readable.iter().zip(&mut slices.inputs) {
        let pointer = region.at(base + start, end - start).ok_or(QueueError::BadRange)?;
        // SAFETY: inside the region, which lives for ever; used only for the ring's bookkeeping of
        // addresses and lengths, while the slot is not lent out.
        *input = unsafe { core::slice::from_raw_parts(pointer.as_ptr(), end - start) };
    }
    for (&(start, end), output) in writable.iter().zip(&mut slices.outputs) {
        let pointer = region.at(base + start, end - start).ok_or(QueueError::BadRange)?;
        // SAFETY: as above, and `overlap` was checked, so this is the only slice of these bytes.
        *output = unsafe { core::slice::from_raw_parts_mut(pointer.as_ptr(), end - start) };
    }
    Ok(slices)
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "ranges are what is meant")]
mod tests {
    use super::*;
    use crate::fake::{FakeDevice, FakeTransport};

    type TestQueue = Queue<8, 4>;

    fn pair() -> (FakeDevice, Port<FakeTransport>, TestQueue) {
        let device = FakeDevice::new(DeviceType::ScsiHost, 1 << 32, &[], &[8]);
        let mut port = device.port();
        let queue = TestQueue::new(&mut port, 0, 256).unwrap();
        (device, port, queue)
    }
    use crate::DeviceType;

    #[test]
    fn a_request_goes_out_and_comes_back() {
        let (device, mut port, mut queue) = pair();
        queue.slot_mut(1).unwrap()[..4].copy_from_slice(b"ping");
        queue.submit(&mut port, 1, &[0..4], &[64..72], || true).unwrap();
        assert!(queue.slot(1).is_none(), "outstanding slots are out of reach");
        assert_eq!(queue.submit(&mut port, 1, &[0..4], &[], || true), Err(QueueError::SlotBusy));
        assert_eq!(device.notified(0), 1);
        let chain = device.take(0).unwrap();
        assert_eq!(chain.readable, b"ping");
        assert_eq!(chain.writable_bytes(), 8);
        device.complete(0, chain, b"pong");
        assert!(queue.has_used());
        assert_eq!(queue.pop(), Some(Ok(Used { slot: 1, written: 4, overlong: false })));
        assert_eq!(&queue.slot(1).unwrap()[64..68], b"pong");
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn completions_out_of_order_find_their_slots() {
        let (device, mut port, mut queue) = pair();
        for slot in 0..4 {
            queue.submit(&mut port, slot, &[0..1], &[8..16], || true).unwrap();
        }
        assert_eq!(queue.submit(&mut port, 4, &[0..1], &[], || true), Err(QueueError::NoSuchSlot));
        let chains: std::vec::Vec<_> = core::iter::from_fn(|| device.take(0)).collect();
        for (slot, chain) in chains.into_iter().enumerate().rev() {
            device.complete(0, chain, &[slot as u8]);
        }
        for slot in [3usize, 2, 1, 0] {
            assert_eq!(queue.pop(), Some(Ok(Used { slot, written: 1, overlong: false })));
            assert_eq!(queue.slot(slot).unwrap()[8], slot as u8);
        }
    }

    #[test]
    fn a_renewed_queue_has_all_slots_and_a_ring_of_its_own() {
        let (device, mut port, mut queue) = pair();
        for slot in 0..4 {
            queue.submit(&mut port, slot, &[0..1], &[8..16], || true).unwrap();
        }
        let stale = device.take(0).unwrap();
        port.negotiate(DeviceType::ScsiHost, 0, 0).unwrap();
        queue.renew(&mut port).unwrap();
        port.start();
        assert_eq!(queue.outstanding(), 0);
        queue.slot_mut(0).unwrap()[0] = 7;
        queue.submit(&mut port, 0, &[0..1], &[8..16], || true).unwrap();
        let chain = device.take(0).unwrap();
        assert_eq!(chain.readable, [7]);
        assert!(device.take(0).is_none(), "what was in the old ring is gone");
        device.complete(0, chain, &[1]);
        assert_eq!(queue.pop(), Some(Ok(Used { slot: 0, written: 1, overlong: false })));
        drop(stale);
    }

    #[test]
    fn a_refused_guard_submits_nothing() {
        let (device, mut port, mut queue) = pair();
        assert_eq!(queue.submit(&mut port, 0, &[0..1], &[], || false), Err(QueueError::Refused));
        assert_eq!(device.notified(0), 0);
        assert!(device.take(0).is_none());
        assert!(queue.slot_mut(0).is_some());
    }

    #[test]
    fn bad_ranges_are_refused() {
        let (_device, mut port, mut queue) = pair();
        for (readable, writable) in [
            (&[][..], &[][..]),
            (&[0..0][..], &[][..]),
            (&[0..257][..], &[][..]),
            (&[0..8][..], &[7..9][..]),
            (&[][..], &[0..8, 4..12][..]),
            (&[0..1, 1..2, 2..3][..], &[][..]),
        ] {
            assert_eq!(queue.submit(&mut port, 0, readable, writable, || true), Err(QueueError::BadRange));
        }
    }

    #[test]
    fn a_foreign_token_breaks_the_queue_not_the_kernel() {
        for token in [1u32, 7, 8, 0xffff, 0x1_0000 + 3] {
            let (device, mut port, mut queue) = pair();
            queue.submit(&mut port, 0, &[0..1], &[8..16], || true).unwrap();
            device.take(0).unwrap();
            device.push_used(0, token, 0);
            assert_eq!(queue.pop(), Some(Err(Violation::UnknownToken(token as u16))));
            assert_eq!(queue.pop(), None);
            assert!(queue.is_broken() && !queue.has_used());
            assert_eq!(queue.submit(&mut port, 1, &[0..1], &[], || true), Err(QueueError::Broken));
            assert!(queue.slot(0).is_none(), "its buffer stays with the device");
        }
    }

    #[test]
    fn a_request_completed_twice_breaks_the_queue() {
        let (device, mut port, mut queue) = pair();
        queue.submit(&mut port, 0, &[0..1], &[8..16], || true).unwrap();
        let chain = device.take(0).unwrap();
        let head = chain.head;
        device.complete(0, chain, &[]);
        device.push_used(0, u32::from(head), 0);
        assert!(matches!(queue.pop(), Some(Ok(_))));
        assert!(matches!(queue.pop(), Some(Err(Violation::UnknownToken(_)))));
    }

    #[test]
    fn an_overlong_length_is_clamped_and_marked() {
        let (device, mut port, mut queue) = pair();
        queue.submit(&mut port, 0, &[0..1], &[8..16], || true).unwrap();
        let chain = device.take(0).unwrap();
        device.push_used(0, u32::from(chain.head), 9);
        let used = Used { slot: 0, written: 8, overlong: true };
        assert_eq!(queue.pop(), Some(Ok(used)));
    }

    #[test]
    fn the_ring_wraps_its_16_bit_index() {
        let (device, mut port, mut queue) = pair();
        for round in 0..70_000u32 {
            let slot = (round % 4) as usize;
            queue.submit(&mut port, slot, &[0..1], &[8..16], || true).unwrap();
            let chain = device.take(0).unwrap();
            device.complete(0, chain, &[1]);
            assert_eq!(queue.pop(), Some(Ok(Used { slot, written: 1, overlong: false })));
        }
        assert_eq!(device.notified(0), 70_000);
    }

    #[test]
    fn a_queue_smaller_than_needed_is_refused() {
        let device = FakeDevice::new(DeviceType::ScsiHost, 1 << 32, &[], &[4]);
        let mut port = device.port();
        assert!(matches!(TestQueue::new(&mut port, 0, 64), Err(QueueError::TooSmall { offered: 4 })));
        assert!(matches!(TestQueue::new(&mut port, 1, 64), Err(QueueError::TooSmall { offered: 0 })));
    }
}
