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
    /// Its deadline for a step, ms, on all nodes the same; 0: none.
    pub deadline_ms: u32,
    /// The nodes that registered it.
    pub nodes: NodeSet,
    /// Nodes that a survivor of the last master has there, whether or not they still live.
    pub present: NodeSet,
    /// Nodes whose process there died, though the node lives: nobody waits for them any more, and their forced leave of this
    /// level is to come or under way.
    pub dead: NodeSet,
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
                Some(o) if o.deadline_ms != e.deadline_ms => return Err(RefuseReason::Deadline { level: e.order.0 }),
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
            return Err(RefuseReason::TooManyLevels);
        }
        for o in offers {
            self.insert(o, NodeSet::only(node));
        }
        Ok(())
    }

    /// Takes one level of a node in that registered it at run time.
    ///
    /// # Errors
    /// Nothing is taken in if it does not fit: other barriers, another deadline, a level that every node must have, or no
    /// room.
    pub fn add_run_time(&mut self, node: NodeId, offer: &LevelOffer) -> Result<(), RefuseReason> {
        let level = offer.order.0;
        if !offer.barriers.is_valid() {
            return Err(RefuseReason::Barriers { level });
        }
        if offer.everywhere || offer.order < LevelOrder::USER_FROM {
            return Err(RefuseReason::Levels);
        }
        match self.get(offer.order) {
            Some(e) if e.everywhere => return Err(RefuseReason::Levels),
            Some(e) if e.barriers != offer.barriers => return Err(RefuseReason::Barriers { level }),
            Some(e) if e.deadline_ms != offer.deadline_ms => return Err(RefuseReason::Deadline { level }),
            None if self.entries.is_full() => return Err(RefuseReason::TooManyLevels),
            _ => {}
        }
        self.insert(offer, NodeSet::only(node));
        Ok(())
    }

    /// Takes one level of a node out.
    pub fn take(&mut self, node: NodeId, level: LevelOrder) {
        if let Some(e) = self.entries.iter_mut().find(|e| e.order == level) {
            e.nodes = e.nodes.without(node);
            e.present = e.present.without(node);
            e.dead = e.dead.without(node);
        }
        self.entries.retain(|e| !e.nodes.is_empty());
    }

    /// Whether a node has a level.
    pub fn has(&self, node: NodeId, level: LevelOrder) -> bool {
        self.get(level).is_some_and(|e| e.nodes.contains(node))
    }

    /// Takes what a survivor knows in, without judging: its node was judged when it joined. `died`: those of the offers, by
    /// place, whose process died; whether the others knew of them the others say.
    pub fn restore(&mut self, node: NodeId, offers: &[LevelOffer], died: u32) {
        for (at, o) in offers.iter().enumerate() {
            let has_died = 1u32.checked_shl(at as u32).is_some_and(|bit| died & bit != 0);
            self.insert(o, if has_died { NodeSet::EMPTY } else { NodeSet::only(node) });
            if let Some(e) = self.entries.iter_mut().find(|e| e.order == o.order) {
                e.present = e.present.or(o.present);
                if has_died {
                    e.dead.insert(node);
                }
            }
        }
    }

    /// Takes in, of nodes that are out and cannot tell any more, and of processes that died, where survivors have them. A node that lives says itself
    /// where it is: who has left a level has an old picture of it.
    pub fn restore_dead(&mut self, dead: NodeSet) {
        for e in &mut self.entries {
            e.nodes = e.nodes.or(e.present.and(dead.or(e.dead)));
            e.dead = e.dead.and(e.nodes);
        }
        self.entries.retain(|e| !e.nodes.is_empty());
    }

    fn insert(&mut self, offer: &LevelOffer, nodes: NodeSet) {
        if let Some(e) = self.entries.iter_mut().find(|e| e.order == offer.order) {
            if e.nodes.is_empty() {
                (e.barriers, e.everywhere, e.deadline_ms) = (offer.barriers, offer.everywhere, offer.deadline_ms);
            }
            e.nodes = e.nodes.or(nodes);
            return;
        }
        let at = self.entries.iter().position(|e| e.order > offer.order).unwrap_or(self.entries.len());
        let LevelOffer { order, barriers, everywhere, deadline_ms, .. } = *offer;
        let entry = LevelEntry {
            order,
            barriers,
            everywhere,
            deadline_ms,
            nodes,
            present: NodeSet::EMPTY,
            dead: NodeSet::EMPTY,
        };
        // `add` checked the room; a survivor's levels were checked when it joined.
        let _ = self.entries.insert(at, entry);
    }

    /// Says that a node has a known level.
    pub fn put(&mut self, node: NodeId, level: LevelOrder) {
        if let Some(e) = self.entries.iter_mut().find(|e| e.order == level) {
            e.nodes = e.nodes.with(node);
        }
    }

    /// Says that what served a level on a node has died.
    pub fn bury(&mut self, node: NodeId, level: LevelOrder) {
        if let Some(e) = self.entries.iter_mut().find(|e| e.order == level) {
            e.dead = e.dead.with(node);
        }
    }

    /// Takes a node's levels out; a level that nobody has any more goes.
    pub fn remove(&mut self, node: NodeId) {
        for e in &mut self.entries {
            (e.nodes, e.dead) = (e.nodes.without(node), e.dead.without(node));
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
            deadline_ms: 0,
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
    fn a_node_with_another_deadline_is_refused_by_level() {
        let mut map = LevelMap::default();
        let late = LevelOffer { deadline_ms: 2000, ..offer(70, 2, true) };
        map.add(n(0), &[offer(0, 1, true), late]).unwrap();
        let other = [offer(0, 1, true), offer(70, 2, true)];
        assert_eq!(map.add(n(1), &other), Err(RefuseReason::Deadline { level: 70 }));
        assert_eq!(map.add(n(1), &[offer(0, 1, true), late]), Ok(()));
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
    fn a_run_time_level_that_differs_or_finds_no_room_is_refused_by_name() {
        let mut map = LevelMap::default();
        map.add(n(0), &[offer(0, 1, true), offer(150, 1, true)]).unwrap();
        assert_eq!(map.add_run_time(n(0), &offer(100, 2, false)), Ok(()));
        assert_eq!(map.add_run_time(n(1), &offer(100, 3, false)), Err(RefuseReason::Barriers { level: 100 }));
        let late = LevelOffer { deadline_ms: 9, ..offer(100, 2, false) };
        assert_eq!(map.add_run_time(n(1), &late), Err(RefuseReason::Deadline { level: 100 }));
        assert_eq!(map.add_run_time(n(1), &offer(150, 1, false)), Err(RefuseReason::Levels));
        assert_eq!(map.add_run_time(n(1), &offer(99, 1, false)), Err(RefuseReason::Levels));
        assert!(!map.has(n(1), LevelOrder(100)));
        assert_eq!(map.add_run_time(n(1), &offer(100, 2, false)), Ok(()));
        map.take(n(0), LevelOrder(100));
        assert!(map.has(n(1), LevelOrder(100)) && !map.has(n(0), LevelOrder(100)));
        for order in 0..LEVELS_MAX as u16 - 3 {
            assert_eq!(map.add_run_time(n(2), &offer(200 + order, 1, false)), Ok(()));
        }
        assert_eq!(map.add_run_time(n(2), &offer(400, 1, false)), Err(RefuseReason::TooManyLevels));
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
