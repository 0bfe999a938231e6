//! Who hears whom: one row per node, from what that node says it hears. Arbitration (DESIGN 7) asks it which links are
//! mutual, since when nothing has changed, and which links flapped.
//!
//! The table serves both paths: the interconnect keeps one from the heartbeats on the network, and membership may keep
//! another from the heartbeat blocks on the disk, where the sets of nodes that this one does not hear stand too.
//!
//! Invariants: a row never contains its own node nor an unconfigured one. A link that was lost stays marked for at
//! least one window and at most two.

use quorate_base::capacity::NODES_MAX;
use quorate_base::{Instant, NodeId, NodeSet};

/// Reach sets of all nodes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Reach {
    nodes: NodeSet,
    window_us: u64,
    window_began: Instant,
    rows: [Row; NODES_MAX],
}

/// What one node says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Row {
    /// Whom it hears.
    hears: NodeSet,
    /// When that last changed.
    changed_at: Instant,
    /// Whom it ceased to hear in this window.
    lost: NodeSet,
    /// Whom it ceased to hear in the window before.
    lost_before: NodeSet,
}

impl Reach {
    /// Nobody hears anybody. `flap_window_ms`: a link that was lost and came back counts as cut for at least so long.
    pub fn new(nodes: u8, flap_window_ms: u32, now: Instant) -> Self {
        let row = Row { hears: NodeSet::EMPTY, changed_at: now, lost: NodeSet::EMPTY, lost_before: NodeSet::EMPTY };
        Self {
            nodes: NodeSet::first(nodes),
            window_us: u64::from(flap_window_ms) * 1000,
            window_began: now,
            rows: [row; NODES_MAX],
        }
    }

    /// `node` says that it hears `hears`. True if that is news. Links that fell out are marked as lost.
    pub fn report(&mut self, node: NodeId, hears: NodeSet, now: Instant) -> bool {
        self.pass(now);
        let hears = hears.and(self.nodes).without(node);
        let row = &mut self.rows[node.index()];
        if row.hears == hears {
            return false;
        }
        row.lost = row.lost.or(row.hears.minus(hears));
        row.hears = hears;
        row.changed_at = now;
        true
    }

    /// Nothing is known of `node`'s reach any more (it fell silent, or a new life of it began). That says nothing about
    /// its links to others, so none is marked as lost.
    pub fn forget(&mut self, node: NodeId, now: Instant) {
        let row = &mut self.rows[node.index()];
        if row.hears != NodeSet::EMPTY {
            row.hears = NodeSet::EMPTY;
            row.changed_at = now;
        }
    }

    /// Lets time pass: marks of lost links grow old.
    pub fn pass(&mut self, now: Instant) {
        let windows = now.since_us(self.window_began).checked_div(self.window_us).unwrap_or(2);
        if windows == 0 {
            return;
        }
        for row in &mut self.rows {
            row.lost_before = if windows == 1 { row.lost } else { NodeSet::EMPTY };
            row.lost = NodeSet::EMPTY;
        }
        self.window_began = now;
    }

    /// Whom `node` hears, by its own word.
    pub fn hears(&self, node: NodeId) -> NodeSet {
        self.rows[node.index()].hears
    }

    /// Whom `node` lately ceased to hear, whether or not it hears them again.
    pub fn flapped(&self, node: NodeId) -> NodeSet {
        let row = &self.rows[node.index()];
        row.lost.or(row.lost_before)
    }

    /// Whether each hears the other. A node hears itself.
    pub fn mutual(&self, a: NodeId, b: NodeId) -> bool {
        a == b || (self.hears(a).contains(b) && self.hears(b).contains(a))
    }

    /// The nodes of `among` that have a mutual link with `node`, itself left out.
    pub fn mutual_with(&self, node: NodeId, among: NodeSet) -> NodeSet {
        among.and(self.hears(node)).iter().filter(|other| self.mutual(node, *other)).collect()
    }

    /// As [`Reach::mutual_with`], but a link that flapped lately, in either direction, counts as cut.
    pub fn steady_with(&self, node: NodeId, among: NodeSet) -> NodeSet {
        let mutual = self.mutual_with(node, among).minus(self.flapped(node));
        mutual.iter().filter(|other| !self.flapped(*other).contains(node)).collect()
    }

    /// Whether all of `among` hear each other.
    pub fn is_complete(&self, among: NodeSet) -> bool {
        among.iter().all(|node| among.without(node).is_subset(self.mutual_with(node, among)))
    }

    /// Since when no reach set of `among` has changed.
    pub fn unchanged_since(&self, among: NodeSet) -> Instant {
        among.iter().map(|node| self.rows[node.index()].changed_at).max().unwrap_or(Instant::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(id: u8) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn set(ids: &[u8]) -> NodeSet {
        ids.iter().map(|id| n(*id)).collect()
    }

    fn ms(ms: u32) -> Instant {
        Instant::ZERO.plus_ms(ms)
    }

    /// Three nodes that all hear each other at 10 ms.
    fn full() -> Reach {
        let mut r = Reach::new(3, 100, Instant::ZERO);
        for node in NodeId::first(3) {
            assert!(r.report(node, NodeSet::first(3), ms(10)));
        }
        r
    }

    #[test]
    fn a_one_way_cut_is_no_mutual_link() {
        let mut r = full();
        assert!(r.is_complete(NodeSet::first(3)));
        assert!(r.report(n(1), set(&[2]), ms(20)));
        assert!(!r.mutual(n(0), n(1)) && !r.mutual(n(1), n(0)) && r.mutual(n(1), n(2)));
        assert_eq!(r.mutual_with(n(0), NodeSet::first(3)), set(&[2]));
        assert!(!r.is_complete(NodeSet::first(3)));
        assert!(r.is_complete(set(&[0, 2])) && r.is_complete(set(&[1])) && r.is_complete(NodeSet::EMPTY));
    }

    #[test]
    fn rows_hold_configured_others_only() {
        let mut r = Reach::new(3, 100, Instant::ZERO);
        r.report(n(0), NodeSet(u64::MAX), ms(1));
        assert_eq!(r.hears(n(0)), set(&[1, 2]));
    }

    #[test]
    fn unchanged_since_is_the_latest_change_of_the_asked() {
        let mut r = full();
        r.report(n(2), set(&[0]), ms(50));
        assert_eq!(r.unchanged_since(set(&[0, 1])), ms(10));
        assert_eq!(r.unchanged_since(NodeSet::first(3)), ms(50));
        assert!(!r.report(n(2), set(&[0]), ms(70)));
        assert_eq!(r.unchanged_since(NodeSet::first(3)), ms(50));
        r.forget(n(2), ms(80));
        assert_eq!(r.unchanged_since(NodeSet::first(3)), ms(80));
    }

    #[test]
    fn design_7_a_link_that_flapped_counts_as_cut_for_one_to_two_windows() {
        let mut r = full();
        r.report(n(1), set(&[2]), ms(90));
        r.report(n(1), set(&[0, 2]), ms(95));
        assert!(r.mutual(n(0), n(1)));
        assert_eq!(r.steady_with(n(0), NodeSet::first(3)), set(&[2]));
        assert_eq!(r.steady_with(n(1), NodeSet::first(3)), set(&[2]));
        r.pass(ms(190));
        assert_eq!(r.steady_with(n(0), NodeSet::first(3)), set(&[2]), "one window is not over");
        r.pass(ms(290));
        assert_eq!(r.steady_with(n(0), NodeSet::first(3)), set(&[1, 2]));
    }

    #[test]
    fn silence_of_a_node_marks_none_of_its_links() {
        let mut r = full();
        r.forget(n(1), ms(20));
        r.report(n(1), set(&[0, 2]), ms(30));
        assert_eq!(r.steady_with(n(1), NodeSet::first(3)), set(&[0, 2]));
    }
}
