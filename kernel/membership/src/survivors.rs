//! Who is out (DESIGN 7): two kinds of evidence, decided in pairs, and arbitration on the reach sets.
//!
//! Pure: the evidence comes in as values, the verdicts go out as sets. Every node computes the same from what stands on
//! the disk; the commit decides, not the guess.

use quorate_base::capacity::NODES_MAX;
use quorate_base::{Instant, NodeId, NodeSet, Timing};

/// What is known of one member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Evidence {
    /// Verified frames of this incarnation came within `net_suspect`.
    pub heard: bool,
    /// Its heartbeat block stands still over `disk_suspect` of completed reads.
    pub disk_silent: bool,
    /// For how long of my own completed cycles it stood still, µs.
    pub still_us: u64,
    /// Another life, or another boot, or a clean mark stands in its block: this incarnation is over.
    pub over: bool,
    /// Its last heartbeat, by frame or block, said "frozen".
    pub frozen: bool,
}

/// What follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// Out, at once.
    Out,
    /// It writes its heartbeat but is not heard: arbitration.
    Cut,
}

/// The four pairs of DESIGN 7. `outage` is set while an outage that stopped everybody, this node too, is not yet over
/// for `outage_grace`.
pub fn judge(e: &Evidence, timing: &Timing, outage: bool) -> Verdict {
    if e.over {
        return Verdict::Out;
    }
    match (e.heard, e.disk_silent) {
        (true, false) => Verdict::Keep,
        (false, true) => Verdict::Out,
        (false, false) => Verdict::Cut,
        // Its disk path stalls and it is frozen: it is kept until `dead`.
        (true, true) if e.still_us < u64::from(timing.dead) * 1000 => Verdict::Keep,
        (true, true) if outage && e.frozen => Verdict::Keep,
        (true, true) => Verdict::Out,
    }
}

/// What arbitration knows of one node. All of it stands on the disk, so that all nodes compute alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Contestant {
    /// Whom it hears.
    pub hears: NodeSet,
    /// Joining: it goes before a joined one.
    pub joining: bool,
    /// Its NIC has a link.
    pub carrier: bool,
    /// Its configured weight.
    pub weight: u8,
    /// It holds the master lock.
    pub master: bool,
}

/// Drops nodes until all that remain hear each other: each time the one with the fewest mutual links; ties: joining
/// before joined, without carrier, lower weight, not the master, higher id (DESIGN 7). Gives the dropped ones.
pub fn arbitrate(nodes: NodeSet, contestants: &[Contestant; NODES_MAX]) -> NodeSet {
    let mutual = |set: NodeSet, n: NodeId| {
        set.without(n)
            .iter()
            .filter(|m| contestants[n.index()].hears.contains(*m) && contestants[m.index()].hears.contains(n))
            .count()
    };
    let mut left = nodes;
    loop {
        let loser = left.iter().filter(|n| mutual(left, *n) + 1 < left.len()).min_by_key(|n| {
            let c = &contestants[n.index()];
            (mutual(left, *n), !c.joining, c.carrier, c.weight, c.master, core::cmp::Reverse(*n))
        });
        match loser {
            Some(n) => left = left.without(n),
            None => return nodes.minus(left),
        }
    }
}

/// Waits until the reach sets have settled (DESIGN 7: unchanged for `net_suspect` + 2 beats, at latest after
/// 3 × `net_suspect`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Settling {
    began: Option<Instant>,
    changed: Instant,
    last: u64,
    nodes: NodeSet,
    flapped: [NodeSet; NODES_MAX],
}

impl Default for Settling {
    fn default() -> Self {
        Self {
            began: None,
            changed: Instant::ZERO,
            last: 0,
            nodes: NodeSet::EMPTY,
            flapped: [NodeSet::EMPTY; NODES_MAX],
        }
    }
}

impl Settling {
    /// Told at each beat. Gives the nodes to be dropped once the sets have settled on a graph that is not whole, else
    /// none.
    pub fn observe(
        &mut self,
        now: Instant,
        timing: &Timing,
        nodes: NodeSet,
        contestants: &[Contestant; NODES_MAX],
    ) -> NodeSet {
        if arbitrate(nodes, contestants).is_empty() {
            *self = Self::default();
            return NodeSet::EMPTY;
        }
        let print = fingerprint(nodes, contestants);
        let Some(began) = self.began else {
            *self = Self { began: Some(now), changed: now, last: print, nodes, ..Self::default() };
            self.note_links(contestants);
            return NodeSet::EMPTY;
        };
        if print != self.last {
            (self.changed, self.last) = (now, print);
        }
        self.nodes = self.nodes.or(nodes);
        self.note_links(contestants);
        let quiet_us = u64::from(timing.net_suspect + 2 * timing.disk_heartbeat) * 1000;
        let latest_us = u64::from(timing.net_suspect) * 3000;
        if now.since_us(self.changed) < quiet_us && now.since_us(began) < latest_us {
            return NodeSet::EMPTY;
        }
        let mut judged = *contestants;
        for n in nodes {
            // A link that was seen cut while the sets settled counts as cut.
            judged[n.index()].hears = judged[n.index()].hears.minus(self.flapped[n.index()]);
        }
        arbitrate(nodes, &judged)
    }

    fn note_links(&mut self, contestants: &[Contestant; NODES_MAX]) {
        for n in self.nodes {
            let deaf = self.nodes.without(n).minus(contestants[n.index()].hears);
            self.flapped[n.index()] = self.flapped[n.index()].or(deaf);
        }
    }
}

/// FNV-1a over who hears whom.
fn fingerprint(nodes: NodeSet, contestants: &[Contestant; NODES_MAX]) -> u64 {
    nodes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, n| {
        let hears = contestants[n.index()].hears.and(nodes).0;
        (hash ^ hears ^ u64::from(n.get()) << 56).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(id: u8) -> NodeId {
        NodeId::new(id).unwrap()
    }
    fn whole(count: u8) -> [Contestant; NODES_MAX] {
        let mut c = [Contestant::default(); NODES_MAX];
        for i in NodeId::first(count) {
            c[i.index()] = Contestant { hears: NodeSet::first(count), carrier: true, weight: 1, ..c[i.index()] };
        }
        c
    }
    fn cut(c: &mut [Contestant; NODES_MAX], from: u8, to: u8) {
        c[usize::from(to)].hears = c[usize::from(to)].hears.without(n(from));
    }

    #[test]
    fn design_7_the_four_pairs() {
        let t = Timing::DEFAULT;
        let e = |heard, disk_silent, still_ms: u64| Evidence {
            heard,
            disk_silent,
            still_us: still_ms * 1000,
            ..Evidence::default()
        };
        assert_eq!(judge(&e(false, true, 400), &t, false), Verdict::Out);
        assert_eq!(judge(&e(true, true, 1199), &t, false), Verdict::Keep);
        assert_eq!(judge(&e(true, true, 1200), &t, false), Verdict::Out);
        assert_eq!(judge(&e(false, false, 0), &t, false), Verdict::Cut);
        assert_eq!(judge(&e(true, false, 0), &t, false), Verdict::Keep);
        let frozen = Evidence { frozen: true, ..e(true, true, 5000) };
        assert_eq!(judge(&frozen, &t, true), Verdict::Keep);
        assert_eq!(judge(&frozen, &t, false), Verdict::Out);
        assert_eq!(judge(&Evidence { over: true, ..e(true, false, 0) }, &t, false), Verdict::Out);
    }

    #[test]
    fn of_two_the_one_that_is_not_master_goes() {
        let mut c = whole(2);
        cut(&mut c, 0, 1);
        c[0].master = true;
        assert_eq!(arbitrate(NodeSet::first(2), &c), NodeSet::only(n(1)));
        c[0].master = false;
        c[1].master = true;
        assert_eq!(arbitrate(NodeSet::first(2), &c), NodeSet::only(n(0)));
    }

    #[test]
    fn two_against_one_drops_the_one_even_if_it_is_the_master() {
        let mut c = whole(3);
        for other in [1, 2] {
            cut(&mut c, 0, other);
            cut(&mut c, other, 0);
        }
        c[0].master = true;
        assert_eq!(arbitrate(NodeSet::first(3), &c), NodeSet::only(n(0)));
    }

    #[test]
    fn fig_13_a_joining_node_goes_before_a_joined_one() {
        let mut c = whole(2);
        cut(&mut c, 0, 1);
        c[0].joining = true;
        assert_eq!(arbitrate(NodeSet::first(2), &c), NodeSet::only(n(0)));
    }

    #[test]
    fn a_cut_between_two_that_both_hear_a_third_drops_one_of_them() {
        let mut c = whole(3);
        cut(&mut c, 0, 1);
        cut(&mut c, 1, 0);
        let out = arbitrate(NodeSet::first(3), &c);
        assert_eq!(out, NodeSet::only(n(1)), "a tie falls on the higher id");
    }

    #[test]
    fn settles_only_after_the_reach_sets_are_quiet() {
        let t = Timing::DEFAULT;
        let mut c = whole(3);
        let (mut s, nodes) = (Settling::default(), NodeSet::first(3));
        assert!(s.observe(Instant(0), &t, nodes, &c).is_empty());
        for other in [1, 2] {
            cut(&mut c, 0, other);
        }
        assert!(s.observe(Instant(1_000), &t, nodes, &c).is_empty());
        assert!(s.observe(Instant(700_000), &t, nodes, &c).is_empty());
        assert_eq!(s.observe(Instant(801_000), &t, nodes, &c), NodeSet::only(n(0)));
        assert!(s.observe(Instant(900_000), &t, nodes, &whole(3)).is_empty(), "healed: begins anew");
        assert!(s.observe(Instant(901_000), &t, nodes, &c).is_empty());
    }
}
