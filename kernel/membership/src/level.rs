//! The levels of this node and, at the master, of all nodes.
//!
//! EP p. 8: all subsystems at a level must register with the same number of barriers; a node that differs is refused by
//! name.

use heapless::Vec;
use quorate_base::capacity::LEVELS_MAX;
use quorate_base::halt::RefuseReason;
use quorate_base::{Barriers, LevelOrder, NodeId, NodeSet, Transition};

use crate::message::LevelOffer;

/// A level somewhere in the cluster, as the master knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LevelEntry {
    /// Its order.
    pub order: LevelOrder,
    /// Its barriers, on all nodes the same.
    pub barriers: Barriers,
    /// Whether every node must have it.
    pub everywhere: bool,
    /// The nodes that registered it.
    pub nodes: NodeSet,
    /// Nodes that a survivor of the last master has there, whether or not they still live.
    pub present: NodeSet,
}

/// All levels of the cluster, ascending. Kept by the master.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct LevelMap {
    entries: Vec<LevelEntry, LEVELS_MAX>,
}

impl LevelMap {
    /// Takes a node's levels in.
    ///
    /// # Errors
    /// Nothing is taken in if one does not fit: other barriers, kernel levels that are missing or too many, or no room.
    pub fn add(&mut self, node: NodeId, offers: &[LevelOffer]) -> Result<(), RefuseReason> {
        let others = |e: &&LevelEntry| !e.nodes.without(node).is_empty();
        for e in self.entries.iter().filter(others) {
            match offers.iter().find(|o| o.order == e.order) {
                None if e.everywhere => return Err(RefuseReason::Levels),
                Some(o) if o.everywhere != e.everywhere => return Err(RefuseReason::Levels),
                Some(o) if o.barriers != e.barriers => return Err(RefuseReason::Barriers { level: e.order.0 }),
                _ => {}
            }
        }
        let anybody = self.entries.iter().any(|e| others(&e));
        for o in offers {
            let known = self.entries.iter().any(|e| e.order == o.order && others(&e));
            if !o.barriers.is_valid() {
                return Err(RefuseReason::Barriers { level: o.order.0 });
            }
            if !known && o.everywhere && anybody {
                return Err(RefuseReason::Levels);
            }
        }
        let fresh = offers.iter().filter(|o| !self.entries.iter().any(|e| e.order == o.order)).count();
        self.remove(node);
        if self.entries.len() + fresh > LEVELS_MAX {
            return Err(RefuseReason::Levels);
        }
        for o in offers {
            self.insert(o, NodeSet::only(node));
        }
        Ok(())
    }

    /// Takes what a survivor knows in, without judging: its node was judged when it joined.
    pub fn restore(&mut self, node: NodeId, offers: &[LevelOffer]) {
        for o in offers {
            self.insert(o, o.present.with(node));
            if let Some(e) = self.entries.iter_mut().find(|e| e.order == o.order) {
                e.present = e.present.or(o.present);
            }
        }
    }

    fn insert(&mut self, offer: &LevelOffer, nodes: NodeSet) {
        if let Some(e) = self.entries.iter_mut().find(|e| e.order == offer.order) {
            if e.nodes.is_empty() {
                (e.barriers, e.everywhere) = (offer.barriers, offer.everywhere);
            }
            e.nodes = e.nodes.or(nodes);
            return;
        }
        let at = self.entries.iter().position(|e| e.order > offer.order).unwrap_or(self.entries.len());
        let (order, barriers, everywhere) = (offer.order, offer.barriers, offer.everywhere);
        let entry = LevelEntry { order, barriers, everywhere, nodes, present: NodeSet::EMPTY };
        // `add` checked the room; a survivor's levels were checked when it joined.
        let _ = self.entries.insert(at, entry);
    }

    /// Says that a node has a known level.
    pub fn put(&mut self, node: NodeId, level: LevelOrder) {
        if let Some(e) = self.entries.iter_mut().find(|e| e.order == level) {
            e.nodes = e.nodes.with(node);
        }
    }

    /// Takes a node's levels out; a level that nobody has any more goes.
    pub fn remove(&mut self, node: NodeId) {
        for e in &mut self.entries {
            e.nodes = e.nodes.without(node);
        }
        self.entries.retain(|e| !e.nodes.is_empty());
    }

    /// All levels, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &LevelEntry> {
        self.entries.iter()
    }

    /// One level.
    pub fn get(&self, order: LevelOrder) -> Option<&LevelEntry> {
        self.entries.iter().find(|e| e.order == order)
    }

    /// Where a transition of `node` begins.
    pub fn first(&self, node: NodeId, transition: Transition) -> Option<LevelOrder> {
        let mut of_node = self.entries.iter().filter(|e| e.nodes.contains(node)).map(|e| e.order);
        if transition.is_bottom_up() { of_node.next() } else { of_node.next_back() }
    }

    /// Where a transition of `node` goes after `level`.
    pub fn after(&self, node: NodeId, transition: Transition, level: LevelOrder) -> Option<LevelOrder> {
        let mut of_node = self.entries.iter().filter(|e| e.nodes.contains(node)).map(|e| e.order);
        if transition.is_bottom_up() { of_node.find(|o| *o > level) } else { of_node.rfind(|o| *o < level) }
    }

    /// The highest level of `node`.
    pub fn highest(&self, node: NodeId) -> Option<LevelOrder> {
        self.first(node, Transition::Leaving)
    }

    /// The highest level at which a survivor has `node`.
    pub fn highest_present(&self, node: NodeId) -> Option<LevelOrder> {
        self.entries.iter().rev().find(|e| e.present.contains(node)).map(|e| e.order)
    }

    /// The highest level of `node` below `level`.
    pub fn below(&self, node: NodeId, level: LevelOrder) -> Option<LevelOrder> {
        self.after(node, Transition::Leaving, level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(order: u16, joining: u8, everywhere: bool) -> LevelOffer {
        LevelOffer {
            order: LevelOrder(order),
            barriers: Barriers { joining, ..Barriers::ONE },
            everywhere,
            present: NodeSet::EMPTY,
        }
    }
    fn n(id: u8) -> NodeId {
        NodeId::new(id).unwrap()
    }

    #[test]
    fn ep_p8_a_node_with_other_barriers_is_refused_by_level() {
        let mut map = LevelMap::default();
        map.add(n(0), &[offer(0, 1, true), offer(70, 2, true)]).unwrap();
        assert_eq!(map.add(n(1), &[offer(0, 1, true), offer(70, 3, true)]), Err(RefuseReason::Barriers { level: 70 }));
        assert_eq!(map.get(LevelOrder(70)).unwrap().nodes, NodeSet::only(n(0)));
    }

    #[test]
    fn kernel_levels_stand_on_every_node_and_others_need_not() {
        let mut map = LevelMap::default();
        map.add(n(0), &[offer(0, 1, true), offer(70, 2, true)]).unwrap();
        assert_eq!(map.add(n(1), &[offer(0, 1, true)]), Err(RefuseReason::Levels));
        let more = [offer(0, 1, true), offer(70, 2, true), offer(80, 1, true)];
        assert_eq!(map.add(n(1), &more), Err(RefuseReason::Levels));
        let only_here = [offer(0, 1, true), offer(70, 2, true), offer(80, 1, false)];
        assert_eq!(map.add(n(1), &only_here), Ok(()));
        assert_eq!(map.highest(n(0)), Some(LevelOrder(70)));
        assert_eq!(map.highest(n(1)), Some(LevelOrder(80)));
    }

    #[test]
    fn ep_p5_joins_climb_and_graceful_leaves_descend() {
        let mut map = LevelMap::default();
        map.add(n(0), &[offer(0, 1, true), offer(20, 1, true), offer(70, 1, true)]).unwrap();
        let walk = |t| {
            let mut at = map.first(n(0), t);
            let mut seen = std::vec::Vec::new();
            while let Some(l) = at {
                seen.push(l.0);
                at = map.after(n(0), t, l);
            }
            seen
        };
        assert_eq!(walk(Transition::Joining), [0, 20, 70]);
        assert_eq!(walk(Transition::ForcedLeaving), [0, 20, 70]);
        assert_eq!(walk(Transition::Leaving), [70, 20, 0]);
    }
}
