//! This node's own frames until they are delivered: what is given to a stream waits here, and is submitted again to every new
//! sequencer, so that nothing is lost with one; the numbers tell what it had ordered already, so that nothing is doubled.
//!
//! Small items share a frame: as long as the last one has not been submitted, more go into it.

use heapless::Vec;
use quorate_base::Instant;

use crate::capacity::{
    BODY_MAX, FILL_FROM, GROUPS_MAX, OUT_CONTROL_MAX, OUT_DATA, OUT_GROUP_MAX, OUT_MAX, OUT_SHARED, PART_MAX,
};
use crate::item::{Item, MemberId, STREAMS, Stream};
use crate::store::Body;

/// No room: what was given is not taken. It has room again once some of what was sent before is delivered everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// What became of an item that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// It stands in a frame that waits for more.
    Joined,
    /// A frame began with it.
    Began,
}

/// A frame of one of this node's streams.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Out {
    stream: Stream,
    number: u32,
    /// Its items are fixed: it was submitted, or is to be without waiting for more.
    sealed: bool,
    /// It has its place.
    ordered: bool,
    /// When it was submitted in this epoch.
    at: Option<Instant>,
    body: Body,
}

/// All of this node's streams.
#[derive(Clone, Debug)]
pub struct Outbox {
    places: Vec<Option<Out>, OUT_MAX>,
    /// The frames' places, in the order in which they began.
    order: Vec<u8, OUT_MAX>,
    /// Per stream, the number of the last frame that was begun, and how many frames there are.
    last: [u32; STREAMS],
    count: [u8; STREAMS],
}

impl Default for Outbox {
    fn default() -> Self {
        Self { places: Vec::new(), order: Vec::new(), last: [0; STREAMS], count: [0; STREAMS] }
    }
}

impl Outbox {
    /// Gives an item to a stream.
    ///
    /// # Errors
    /// If there is no room.
    pub fn push(&mut self, stream: Stream, item: &Item<'_>) -> Result<Put, Full> {
        let mut bytes = [0; BODY_MAX];
        let bytes = postcard::to_slice(item, &mut bytes).map_err(|_| Full)?;
        let last = self.order.iter().rev().filter_map(|at| self.places.get(usize::from(*at))?.as_ref());
        let unsealed = last.into_iter().find(|o| o.stream == stream).filter(|o| !o.sealed).map(|o| o.number);
        if let Some(number) = unsealed
            && let Some(out) = self.get_mut(stream, number)
            && out.body.extend_from_slice(bytes).is_ok()
        {
            return Ok(Put::Joined);
        }
        if !self.has_room(stream, 1) {
            return Err(Full);
        }
        self.begin(stream, bytes, false)?;
        Ok(Put::Began)
    }

    /// Gives a message that is longer than a frame to a stream, as a whole or not at all.
    ///
    /// # Errors
    /// If there is no room.
    pub fn push_parts(
        &mut self,
        stream: Stream,
        member: MemberId,
        to: Option<MemberId>,
        bytes: &[u8],
    ) -> Result<(), Full> {
        if !self.has_room(stream, bytes.len().div_ceil(PART_MAX)) {
            return Err(Full);
        }
        let mut offset = 0;
        for part in bytes.chunks(PART_MAX) {
            let more = usize::from(offset) + part.len() < bytes.len();
            let mut out = [0; BODY_MAX];
            let item = Item::Part { member, to, offset, more, bytes: part };
            let encoded = postcard::to_slice(&item, &mut out).map_err(|_| Full)?;
            self.begin(stream, encoded, true)?;
            offset += part.len() as u16;
        }
        Ok(())
    }

    fn begin(&mut self, stream: Stream, bytes: &[u8], sealed: bool) -> Result<(), Full> {
        let body = Body::from_slice(bytes).map_err(|_| Full)?;
        let (last, count) = (self.last.get_mut(stream.index()), self.count.get_mut(stream.index()));
        let (Some(last), Some(count)) = (last, count) else { return Err(Full) };
        let number = last.wrapping_add(1);
        let out = Out { stream, number, sealed, ordered: false, at: None, body };
        let at = match self.places.iter().position(Option::is_none) {
            Some(at) => at,
            None => {
                self.places.push(None).map_err(|_| Full)?;
                self.places.len() - 1
            }
        };
        self.order.push(at as u8).map_err(|_| Full)?;
        if let Some(place) = self.places.get_mut(at) {
            *place = Some(out);
        }
        (*last, *count) = (number, *count + 1);
        Ok(())
    }

    fn get_mut(&mut self, stream: Stream, number: u32) -> Option<&mut Out> {
        self.places.iter_mut().flatten().find(|o| o.stream == stream && o.number == number)
    }

    fn count(&self, stream: Stream) -> usize {
        self.count.get(stream.index()).copied().unwrap_or(0).into()
    }

    /// Whether so many more frames have room.
    fn has_room(&self, stream: Stream, more: usize) -> bool {
        let wanted = self.count(stream) + more;
        if stream == Stream::CONTROL {
            return wanted <= OUT_CONTROL_MAX;
        }
        let shared = |s: Stream| (if s == stream { wanted } else { self.count(s) }).saturating_sub(OUT_DATA);
        let used: usize = Stream::all().filter(|s| *s != Stream::CONTROL).map(shared).sum();
        wanted <= OUT_DATA || (wanted <= OUT_GROUP_MAX && used <= OUT_SHARED)
    }

    /// Whether a message of so many bytes has room for certain. A short one may have it even if this is false: in the frame that
    /// waits for more.
    pub fn has_room_for(&self, stream: Stream, bytes: usize) -> bool {
        self.has_room(stream, bytes.div_ceil(PART_MAX).max(1))
    }

    /// Whether a stream has no room for another frame.
    pub fn is_full(&self, stream: Stream) -> bool {
        !self.has_room(stream, 1)
    }

    /// Whether all that was given is delivered.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether anything has no place yet.
    pub fn awaits_place(&self) -> bool {
        self.places.iter().flatten().any(|out| !out.ordered)
    }

    /// Whether all that was given to one stream is delivered.
    pub fn is_drained(&self, stream: Stream) -> bool {
        self.count(stream) == 0
    }

    /// A frame of this node has its place.
    pub fn ordered(&mut self, stream: Stream, number: u32) {
        if let Some(out) = self.get_mut(stream, number) {
            out.ordered = true;
        }
    }

    /// A frame of this node was delivered.
    pub fn delivered(&mut self, stream: Stream, number: u32) {
        let Self { places, order, count, .. } = self;
        order.retain(|at| {
            let Some(place) = places.get_mut(usize::from(*at)) else { return false };
            let through = |o: &mut Out| o.stream == stream && o.sealed && o.number <= number;
            let gone = place.take_if(through).is_some();
            if let (true, Some(count)) = (gone, count.get_mut(stream.index())) {
                *count = count.saturating_sub(1);
            }
            !gone
        });
    }

    /// A new epoch: everything is to be submitted again.
    pub fn begin_again(&mut self) {
        self.places.iter_mut().flatten().for_each(|out| (out.at, out.ordered) = (None, false));
    }

    /// Hands over what is to be submitted now: what was not yet, and what was before `again`. Of each stream so many at most
    /// as may wait for their places at a time.
    pub fn submit(&mut self, now: Instant, again: Instant, ahead: usize, mut send: impl FnMut(Stream, u32, &[u8])) {
        let mut place = [0_usize; STREAMS];
        let mut waiting = [0_usize; STREAMS];
        for at in &self.order {
            let Some(out) = self.places.get_mut(usize::from(*at)).and_then(Option::as_mut) else { continue };
            let index = out.stream.index() % STREAMS;
            place[index] += 1;
            if out.ordered {
                continue;
            }
            // A flood fills its frames; a single message does not wait.
            let is_last = place[index] == usize::from(self.count[index]);
            if !out.sealed && is_last && place[index] > FILL_FROM {
                continue;
            }
            waiting[index] += 1;
            if waiting[index] <= ahead && out.at.is_none_or(|at| at <= again) {
                (out.sealed, out.at) = (true, Some(now));
                send(out.stream, out.number, &out.body);
            }
        }
    }

    /// The number of the next frame of a stream that may have its place, if there is one.
    pub fn head(&self, stream: Stream) -> Option<u32> {
        if self.count(stream) == 0 {
            return None;
        }
        let frames = self.order.iter().filter_map(|at| self.places.get(usize::from(*at))?.as_ref());
        let (place, out) = frames.filter(|o| o.stream == stream).enumerate().find(|(_, o)| !o.ordered)?;
        let waits = !out.sealed && place + 1 == self.count(stream) && place >= FILL_FROM;
        (!waits).then_some(out.number)
    }

    /// That one, which takes nothing more.
    pub fn seal_head(&mut self, stream: Stream, now: Instant) -> Option<(u32, Body)> {
        let number = self.head(stream)?;
        let out = self.get_mut(stream, number)?;
        (out.sealed, out.at) = (true, Some(now));
        Some((number, out.body.clone()))
    }

    /// Frames that are not delivered yet, over all streams.
    pub fn len(&self) -> usize {
        self.order.len()
    }
}

const _: () = assert!(STREAMS == 1 + GROUPS_MAX && OUT_MAX <= u8::MAX as usize);

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
        out.submit(Instant(now), Instant(again), 8, |_, number, body| all.push((number, items(body).count())));
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
        for _ in 0..OUT_GROUP_MAX {
            out.push(Stream::of_group(0), &big).unwrap();
        }
        assert_eq!(out.push(Stream::of_group(0), &big), Err(Full));
        assert!(out.is_full(Stream::of_group(0)) && !out.is_full(Stream::of_group(1)));
        out.push(Stream::CONTROL, &unregister(0)).unwrap();
        assert!(!out.is_empty());
    }
}
