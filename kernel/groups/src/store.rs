//! Frames that are ordered and still needed: until they are delivered, and those with messages until every work thread of
//! this node that is to take them has.

use heapless::Vec;
use quorate_base::NodeId;

use crate::capacity::{BODY_MAX, STORE_MAX};
use crate::item::Stream;

/// The items of a frame.
pub type Body = Vec<u8, BODY_MAX>;

/// A frame with its place in the order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Frame {
    /// The place.
    pub order: u64,
    /// Whose it is.
    pub node: NodeId,
    /// Of which of its streams.
    pub stream: Stream,
    /// Its number in that; 0 for a roster.
    pub number: u32,
    /// Its items; once it is delivered only the messages that count.
    pub body: Body,
}

/// The frames, in the order of their places. They stay where they are: what is kept in order is where each is.
#[derive(Clone, Debug, Default)]
pub struct Store {
    places: Vec<Option<Frame>, STORE_MAX>,
    /// The frames' orders and places, ascending.
    index: Vec<(u64, u8), STORE_MAX>,
}

impl Store {
    fn at(&self, order: u64) -> Option<usize> {
        let found = self.index.binary_search_by_key(&order, |(order, _)| *order).ok()?;
        self.index.get(found).map(|(_, at)| usize::from(*at))
    }

    /// The frame at a place.
    pub fn get(&self, order: u64) -> Option<&Frame> {
        self.places.get(self.at(order)?)?.as_ref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, order: u64) -> Option<&mut Frame> {
        let at = self.at(order)?;
        self.places.get_mut(at)?.as_mut()
    }

    /// Whether nothing more has room.
    pub fn is_full(&self) -> bool {
        self.index.is_full()
    }

    /// Takes a frame in. False if its place is taken, or there is no room.
    pub fn insert(&mut self, frame: Frame) -> bool {
        let Err(found) = self.index.binary_search_by_key(&frame.order, |(order, _)| *order) else { return false };
        let at = match self.places.iter().position(Option::is_none) {
            Some(at) => at,
            None if self.places.push(None).is_ok() => self.places.len() - 1,
            None => return false,
        };
        if self.index.insert(found, (frame.order, at as u8)).is_err() {
            return false;
        }
        if let Some(place) = self.places.get_mut(at) {
            *place = Some(frame);
        }
        true
    }

    /// Keeps those that are still needed.
    pub fn retain(&mut self, mut needed: impl FnMut(&Frame) -> bool) {
        let Self { places, index } = self;
        index.retain(|(_, at)| {
            let Some(place) = places.get_mut(usize::from(*at)) else { return false };
            let keeps = place.as_ref().is_some_and(&mut needed);
            if !keeps {
                *place = None;
            }
            keeps
        });
    }

    /// All, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Frame> {
        self.index.iter().filter_map(|(_, at)| self.places.get(usize::from(*at))?.as_ref())
    }

    /// From an order on, in order.
    pub fn iter_from(&self, order: u64) -> impl Iterator<Item = &Frame> {
        let from = self.index.partition_point(|(known, _)| *known < order);
        let rest = self.index.get(from..).unwrap_or_default();
        rest.iter().filter_map(|(_, at)| self.places.get(usize::from(*at))?.as_ref())
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
}

const _: () = assert!(STORE_MAX <= u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_by_their_places_in_whatever_order_they_came() {
        let node = NodeId::new(0).unwrap();
        let frame = |order| Frame { order, node, stream: Stream::CONTROL, number: order as u32, body: Body::new() };
        let mut store = Store::default();
        for order in [7, 3, 9, 5] {
            assert!(store.insert(frame(order)));
        }
        assert!(!store.insert(frame(9)), "once");
        store.retain(|f| f.order != 5);
        assert!(store.get(5).is_none() && store.insert(frame(4)) && store.len() == 4);
        assert!(store.iter().map(|f| f.order).eq([3, 4, 7, 9]) && store.iter_from(5).map(|f| f.order).eq([7, 9]));
        for order in 100..100 + STORE_MAX as u64 - 4 {
            assert!(store.insert(frame(order)));
        }
        assert!(store.is_full() && !store.insert(frame(50)));
    }
}
