//! This node's own frames until they are delivered: what is given to a stream waits here, and is submitted again to every new
//! sequencer, so that nothing is lost with one; the numbers tell what it had ordered already, so that nothing is doubled.
//!
//! Small items share a frame: as long as the last one has not been submitted, more go into it.

use heapless::Deque;
use quorate_base::Instant;

use crate::capacity::{BODY_MAX, FILL_FROM, GROUPS_MAX, OUT_CONTROL_MAX, OUT_DATA_MAX};
use crate::item::{Item, STREAMS, Stream};
use crate::store::Body;

/// No room: what was given is not taken. It has room again once some of what was sent before is delivered everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// A frame of one of this node's streams.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Out {
    number: u32,
    /// Its items are fixed: it was submitted.
    sealed: bool,
    /// When it was submitted in this epoch.
    at: Option<Instant>,
    body: Body,
}

#[derive(Clone, Debug, Default)]
struct Frames<const N: usize> {
    frames: Deque<Out, N>,
    /// The number of the last frame that was begun.
    last: u32,
}

impl<const N: usize> Frames<N> {
    fn push(&mut self, item: &Item<'_>) -> Result<(), Full> {
        let mut bytes = [0; BODY_MAX];
        let bytes = postcard::to_slice(item, &mut bytes).map_err(|_| Full)?;
        if let Some(out) = self.frames.back_mut()
            && !out.sealed
            && out.body.extend_from_slice(bytes).is_ok()
        {
            return Ok(());
        }
        let body = Body::from_slice(bytes).map_err(|_| Full)?;
        let number = self.last.wrapping_add(1);
        self.frames.push_back(Out { number, sealed: false, at: None, body }).map_err(|_| Full)?;
        self.last = number;
        Ok(())
    }
}

/// All of this node's streams.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    control: Frames<OUT_CONTROL_MAX>,
    groups: [Frames<OUT_DATA_MAX>; GROUPS_MAX],
}

impl Outbox {
    /// Gives an item to a stream.
    ///
    /// # Errors
    /// If there is no room.
    pub fn push(&mut self, stream: Stream, item: &Item<'_>) -> Result<(), Full> {
        match stream.slot() {
            None => self.control.push(item),
            Some(slot) => self.groups.get_mut(usize::from(slot)).ok_or(Full)?.push(item),
        }
    }

    /// Whether a stream has no room for another frame.
    pub fn is_full(&self, stream: Stream) -> bool {
        match stream.slot() {
            None => self.control.frames.is_full(),
            Some(slot) => self.groups.get(usize::from(slot)).is_none_or(|g| g.frames.is_full()),
        }
    }

    /// Whether all that was given is delivered.
    pub fn is_empty(&self) -> bool {
        self.control.frames.is_empty() && self.groups.iter().all(|g| g.frames.is_empty())
    }

    /// Whether all that was given to one stream is delivered.
    pub fn is_drained(&self, stream: Stream) -> bool {
        match stream.slot() {
            None => self.control.frames.is_empty(),
            Some(slot) => self.groups.get(usize::from(slot)).is_none_or(|g| g.frames.is_empty()),
        }
    }

    /// A frame of this node was delivered.
    pub fn delivered(&mut self, stream: Stream, number: u32) {
        fn forget<const N: usize>(frames: &mut Frames<N>, number: u32) {
            while frames.frames.front().is_some_and(|f| f.sealed && f.number <= number) {
                frames.frames.pop_front();
            }
        }
        match stream.slot() {
            None => forget(&mut self.control, number),
            Some(slot) => {
                if let Some(frames) = self.groups.get_mut(usize::from(slot)) {
                    forget(frames, number);
                }
            }
        }
    }

    /// A new epoch: everything is to be submitted again.
    pub fn begin_again(&mut self) {
        for stream in Stream::all() {
            self.each(stream, |out, _, _| out.at = None);
        }
    }

    fn each(&mut self, stream: Stream, mut f: impl FnMut(&mut Out, usize, bool)) {
        fn walk<const N: usize>(frames: &mut Frames<N>, f: &mut impl FnMut(&mut Out, usize, bool)) {
            let last = frames.frames.len().saturating_sub(1);
            for (i, out) in frames.frames.iter_mut().enumerate() {
                f(out, i, i == last);
            }
        }
        match stream.slot() {
            None => walk(&mut self.control, &mut f),
            Some(slot) => {
                if let Some(frames) = self.groups.get_mut(usize::from(slot)) {
                    walk(frames, &mut f);
                }
            }
        }
    }

    /// Hands over what is to be submitted now: what was not yet, and what was before `again`.
    pub fn submit(&mut self, now: Instant, again: Instant, mut send: impl FnMut(Stream, u32, &[u8])) {
        for stream in Stream::all() {
            self.each(stream, |out, place, is_last| {
                // A flood fills its frames; a single message does not wait.
                if !out.sealed && is_last && place >= FILL_FROM {
                    return;
                }
                if out.at.is_none_or(|at| at <= again) {
                    (out.sealed, out.at) = (true, Some(now));
                    send(stream, out.number, &out.body);
                }
            });
        }
    }

    /// Frames that are not delivered yet, over all streams.
    pub fn len(&self) -> usize {
        self.control.frames.len() + self.groups.iter().map(|g| g.frames.len()).sum::<usize>()
    }
}

const _: () = assert!(STREAMS == 1 + GROUPS_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{MemberId, items};
    use std::vec::Vec;

    fn unregister(place: u8) -> Item<'static> {
        Item::Unregister { member: MemberId { place, since: 1 } }
    }

    fn submitted(out: &mut Outbox, now: u64, again: u64) -> Vec<(u32, usize)> {
        let mut all = Vec::new();
        out.submit(Instant(now), Instant(again), |_, number, body| all.push((number, items(body).count())));
        all
    }

    #[test]
    fn a_single_item_goes_at_once_and_a_flood_fills_frames() {
        let mut out = Outbox::default();
        let stream = Stream::of_group(3);
        for i in 0..2 {
            out.push(stream, &unregister(i)).unwrap();
            assert_eq!(submitted(&mut out, 1, 0), [(u32::from(i) + 1, 1)]);
        }
        for i in 0..50 {
            out.push(stream, &unregister(i)).unwrap();
        }
        assert_eq!(submitted(&mut out, 1, 0), [], "it fills");
        out.delivered(stream, 1);
        assert_eq!(submitted(&mut out, 1, 0), [(3, 50)]);
        assert_eq!(submitted(&mut out, 2, 0), []);
        assert_eq!(submitted(&mut out, 2, 1), [(2, 1), (3, 50)], "what is not delivered is repeated as it was");
    }

    #[test]
    fn a_full_stream_says_so_and_hinders_no_other() {
        let mut out = Outbox::default();
        let big = Item::Data { member: MemberId { place: 0, since: 1 }, to: None, bytes: &[0; 1200] };
        for _ in 0..OUT_DATA_MAX {
            out.push(Stream::of_group(0), &big).unwrap();
        }
        assert_eq!(out.push(Stream::of_group(0), &big), Err(Full));
        assert!(out.is_full(Stream::of_group(0)) && !out.is_full(Stream::of_group(1)));
        out.push(Stream::CONTROL, &unregister(0)).unwrap();
        assert!(!out.is_empty());
    }
}
