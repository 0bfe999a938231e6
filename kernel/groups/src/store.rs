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

/// The frames, in the order of their places.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Store(Vec<Frame, STORE_MAX>);

impl Store {
    /// The frame at a place.
    pub fn get(&self, order: u64) -> Option<&Frame> {
        self.0.binary_search_by_key(&order, |f| f.order).ok().and_then(|at| self.0.get(at))
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, order: u64) -> Option<&mut Frame> {
        self.0.binary_search_by_key(&order, |f| f.order).ok().and_then(|at| self.0.get_mut(at))
    }

    /// Whether nothing more has room.
    pub fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// Takes a frame in. False if its place is taken, or there is no room.
    pub fn insert(&mut self, frame: Frame) -> bool {
        match self.0.binary_search_by_key(&frame.order, |f| f.order) {
            Ok(_) => false,
            Err(at) => self.0.insert(at, frame).is_ok(),
        }
    }

    /// Keeps those that are still needed.
    pub fn retain(&mut self, needed: impl FnMut(&Frame) -> bool) {
        self.0.retain(needed);
    }

    /// All, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Frame> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
