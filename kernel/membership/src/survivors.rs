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

impl Contestant {
    /// Whether `hears` has all of `nodes` but `me` in it.
    fn hears_all(&self, nodes: NodeSet, me: NodeId) -> bool {
        nodes.without(me).is_subset(self.hears)
    }
}

/// Whether all of `nodes` hear each other.
pub fn is_whole(nodes: NodeSet, contestants: &[Contestant; NODES_MAX]) -> bool {
    nodes.iter().all(|n| contestants[n.index()].hears_all(nodes, n))
}

/// Drops nodes until all that remain hear each other: each time the one with the fewest mutual links; ties: joining
/// before joined, without carrier, lower weight, not the master, higher id (DESIGN 7). Gives the dropped ones: never all,
/// and none if all hear each other.
pub fn arbitrate(nodes: NodeSet, contestants: &[Contestant; NODES_MAX]) -> NodeSet {
    if is_whole(nodes, contestants) {
        return NodeSet::EMPTY;
    }
    let mut mutual = [NodeSet::EMPTY; NODES_MAX];
    for n in nodes {
        let hears = contestants[n.index()].hears.and(nodes).without(n);
        mutual[n.index()] = hears.iter().filter(|m| contestants[m.index()].hears.contains(n)).collect();
    }
    let links = |n: NodeId, left: NodeSet| mutual[n.index()].and(left).len();
    let mut left = nodes;
    loop {
        let loser = left.iter().filter(|n| links(*n, left) + 1 < left.len()).min_by_key(|n| {
            let c = &contestants[n.index()];
            (links(*n, left), !c.joining, c.carrier, c.weight, c.master, core::cmp::Reverse(*n))
        });
        match loser {
            Some(n) => left = left.without(n),
            None => return nodes.minus(left),
        }
    }
}

/// Waits until the reach sets have settled (DESIGN 7: unchanged for `net_suspect` + 2 beats, at latest after
/// 3 × `net_suspect`; links that flapped meanwhile count as cut).
///
/// ```text
/// quiet ──not whole──▶ settling ──unchanged, or too long──▶ decided ──a set changed──▶ settling, the old decision kept
///   ▲                     │                                    │
///   └──whole, unchanged───┴────────────────────────────────────┘
/// ```
/// A whole graph puts nobody out, at once. But what flapped is forgotten only when the sets have been quiet as long as
/// for a decision: a link that comes and goes would else never count as cut. Nodes that cease to be alive change no set.
/// Who saw what flap, and who as the master then, depends on when each looked, so that two nodes may decide otherwise and
/// wait for each other: where the sets have stood still for 3 × `net_suspect` and nothing came of it, only they count, and
/// who holds the lock now, which all read alike.
/// After a stall of this node's own all of it begins anew.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Settling {
    /// The graph was first seen not whole; `None`: it is whole and quiet.
    began: Option<Instant>,
    changed: Instant,
    observed: Instant,
    /// Who was alive at the last beat, and whom of them each heard.
    nodes: NodeSet,
    hears: [NodeSet; NODES_MAX],
    /// Whom each ceased to hear since `began`. Whom it has not heard yet is no link that flapped: a node that has just begun
    /// shows an empty set first.
    lost: [NodeSet; NODES_MAX],
    /// Who held the lock when the links broke: it would else pass on while the nodes decide one after another, and the
    /// tie with it.
    masters: NodeSet,
    /// The sets had settled: the decision is taken anew from them at each beat.
    decided: bool,
    outside: NodeSet,
}

impl Default for Settling {
    fn default() -> Self {
        Self {
            began: None,
            changed: Instant::ZERO,
            observed: Instant::ZERO,
            nodes: NodeSet::EMPTY,
            hears: [NodeSet::EMPTY; NODES_MAX],
            lost: [NodeSet::EMPTY; NODES_MAX],
            masters: NodeSet::EMPTY,
            decided: false,
            outside: NodeSet::EMPTY,
        }
    }
}

impl Settling {
    /// Told at each beat who is alive by the disk, and their sets. Gives the nodes to be dropped once the sets have
    /// settled on a graph that is not whole, else none.
    pub fn observe(
        &mut self,
        now: Instant,
        timing: &Timing,
        nodes: NodeSet,
        contestants: &[Contestant; NODES_MAX],
    ) -> NodeSet {
        if now.since_us(self.observed) > u64::from(timing.disk_heartbeat) * 2000 {
            // This node stood still, or its disk did: what it saw before is no evidence of now.
            *self = Self::default();
        }
        self.observed = now;
        let mut ceased = [NodeSet::EMPTY; NODES_MAX];
        let changed = self.take(nodes, contestants, &mut ceased);
        let whole = is_whole(nodes, contestants);
        let stood_still = now.since_us(self.changed) >= u64::from(timing.net_suspect) * 3000;
        if whole || stood_still || self.masters.and(nodes).is_empty() {
            self.masters = nodes.iter().filter(|n| contestants[n.index()].master).collect();
        }
        let Some(began) = self.began.filter(|_| !(changed && self.decided)) else {
            let goes_on = self.began.is_some() || !whole;
            (self.began, self.changed) = (goes_on.then_some(now), now);
            (self.decided, self.lost) = (false, ceased);
            self.outside = if whole { NodeSet::EMPTY } else { self.outside.and(nodes) };
            return self.outside;
        };
        if changed {
            self.changed = now;
        }
        if stood_still && !changed {
            self.lost = [NodeSet::EMPTY; NODES_MAX];
        }
        for (lost, ceased) in self.lost.iter_mut().zip(ceased) {
            *lost = lost.or(ceased);
        }
        let quiet = now.since_us(self.changed) >= u64::from(timing.net_suspect + 2 * timing.disk_heartbeat) * 1000;
        let late = now.since_us(began) >= u64::from(timing.net_suspect) * 3000;
        if whole {
            (self.decided, self.outside) = (false, NodeSet::EMPTY);
            self.began = self.began.filter(|_| !quiet);
        } else if self.decided || quiet || late {
            self.decided = true;
            let mut judged = *contestants;
            for n in nodes {
                let c = &mut judged[n.index()];
                (c.hears, c.master) = (c.hears.minus(self.lost[n.index()]), self.masters.contains(n));
            }
            self.outside = arbitrate(nodes, &judged);
        } else {
            self.outside = self.outside.and(nodes);
        }
        self.outside
    }

    /// Keeps the sets, and notes whom each ceased to hear. True if a link between two nodes is another than before, or a node
    /// is new.
    fn take(
        &mut self,
        nodes: NodeSet,
        contestants: &[Contestant; NODES_MAX],
        ceased: &mut [NodeSet; NODES_MAX],
    ) -> bool {
        let mut changed = !nodes.is_subset(self.nodes);
        for n in nodes {
            let hears = contestants[n.index()].hears.and(nodes);
            let before = if self.nodes.contains(n) { self.hears[n.index()].and(nodes) } else { NodeSet::EMPTY };
            changed |= hears != before;
            ceased[n.index()] = before.minus(hears);
            self.hears[n.index()] = hears;
        }
        self.nodes = nodes;
        changed
    }
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

    const T: Timing = Timing::DEFAULT;

    fn set(ids: &[u8]) -> NodeSet {
        ids.iter().map(|id| n(*id)).collect()
    }

    fn cut_both(c: &mut [Contestant; NODES_MAX], a: u8, b: u8) {
        cut(c, a, b);
        cut(c, b, a);
    }

    /// Only nodes of one group hear each other.
    fn split(count: u8, groups: &[&[u8]]) -> [Contestant; NODES_MAX] {
        let mut c = whole(count);
        for group in groups {
            for i in *group {
                c[usize::from(*i)].hears = set(group);
            }
        }
        c
    }

    /// DESIGN 7's table, row by row, with the values on both sides of each limit.
    #[test]
    fn design_7_the_four_pairs() {
        let e = |heard, disk_silent, still_ms: u64| Evidence {
            heard,
            disk_silent,
            still_us: still_ms * 1000,
            ..Evidence::default()
        };
        for outage in [false, true] {
            // Silent and silent: at once. That the last it said was "frozen" does not keep it.
            assert_eq!(judge(&e(false, true, 400), &T, outage), Verdict::Out);
            assert_eq!(judge(&Evidence { frozen: true, ..e(false, true, 400) }, &T, outage), Verdict::Out);
            // Heard and silent: kept until `dead`.
            assert_eq!(judge(&e(true, true, 400), &T, outage), Verdict::Keep);
            assert_eq!(judge(&e(true, true, 1199), &T, outage), Verdict::Keep);
            assert_eq!(judge(&e(true, true, 1200), &T, outage), Verdict::Out, "it does not say that it is frozen");
            // Silent and alive: the interconnect is cut.
            assert_eq!(judge(&e(false, false, 0), &T, outage), Verdict::Cut);
            assert_eq!(judge(&e(true, false, 0), &T, outage), Verdict::Keep);
            // Over is over, whatever else is seen.
            for (heard, disk_silent) in [(true, false), (true, true), (false, false), (false, true)] {
                let over = Evidence { over: true, frozen: true, ..e(heard, disk_silent, 0) };
                assert_eq!(judge(&over, &T, outage), Verdict::Out);
            }
        }
        // After an outage of all, one that says "frozen" is kept for `outage_grace`; without one it is not.
        let frozen = Evidence { frozen: true, ..e(true, true, 5000) };
        assert_eq!(judge(&frozen, &T, true), Verdict::Keep);
        assert_eq!(judge(&frozen, &T, false), Verdict::Out);
    }

    #[test]
    fn of_two_the_one_that_is_not_master_goes() {
        for (master, other) in [(0u8, 1u8), (1, 0)] {
            for (from, to) in [(0, 1), (1, 0)] {
                let mut c = whole(2);
                cut(&mut c, from, to);
                c[usize::from(master)].master = true;
                assert_eq!(arbitrate(set(&[0, 1]), &c), set(&[other]), "one way {from} to {to}, master {master}");
            }
        }
        let mut c = split(2, &[&[0], &[1]]);
        assert_eq!(arbitrate(set(&[0, 1]), &c), set(&[1]), "without a master the higher id goes");
        c[0].weight = 0;
        c[0].master = true;
        assert_eq!(arbitrate(set(&[0, 1]), &c), set(&[0]), "weight stands before the lock");
    }

    #[test]
    fn two_against_one_drops_the_one_even_if_it_is_the_master_and_heavy() {
        for one in 0..3u8 {
            let others: std::vec::Vec<u8> = (0..3).filter(|o| *o != one).collect();
            let mut c = split(3, &[&[one], &others]);
            (c[usize::from(one)].master, c[usize::from(one)].weight) = (true, 255);
            assert_eq!(arbitrate(set(&[0, 1, 2]), &c), set(&[one]));
        }
    }

    #[test]
    fn two_against_two_the_tie_falls_on_the_higher_id_that_is_not_master() {
        let all = NodeSet::first(4);
        let mut c = split(4, &[&[0, 1], &[2, 3]]);
        assert_eq!(arbitrate(all, &c), set(&[2, 3]));
        c[0].master = true;
        assert_eq!(arbitrate(all, &c), set(&[2, 3]));
        // The master does not carry its whole side: its mate of the same weight is dropped first, and then it has no links.
        c[0].master = false;
        c[2].master = true;
        assert_eq!(arbitrate(all, &c), set(&[2, 3]));
        // Weights do, if the whole side is heavier.
        (c[2].weight, c[3].weight) = (2, 2);
        assert_eq!(arbitrate(all, &c), set(&[0, 1]));
        (c[2].weight, c[3].weight) = (0, 2);
        assert_eq!(arbitrate(all, &c), set(&[2, 3]), "the lightest node goes, and its side with it");
    }

    #[test]
    fn without_carrier_goes_before_lighter_before_not_master_before_higher_id() {
        let mut c = split(4, &[&[0], &[1], &[2], &[3]]);
        c[0].carrier = false;
        c[1].weight = 0;
        c[2].master = true;
        // 0 has no link, 1 is light, 3 is not master: 2 remains.
        assert_eq!(arbitrate(NodeSet::first(4), &c), set(&[0, 1, 3]));
        c[3].carrier = false;
        c[2].joining = true;
        assert_eq!(arbitrate(NodeSet::first(4), &c), set(&[0, 2, 3]), "a joining one before all that");
    }

    #[test]
    fn fig_13_a_joining_node_goes_before_a_joined_one() {
        let mut c = whole(2);
        cut(&mut c, 0, 1);
        c[0].joining = true;
        (c[0].weight, c[0].master) = (255, true);
        assert_eq!(arbitrate(NodeSet::first(2), &c), NodeSet::only(n(0)));
    }

    #[test]
    fn a_cut_between_two_that_both_hear_a_third_drops_one_of_them() {
        for (from, to) in [(0, 1), (1, 0)] {
            let mut c = whole(3);
            cut(&mut c, from, to);
            assert_eq!(arbitrate(NodeSet::first(3), &c), set(&[1]), "a tie falls on the higher id");
            c[1].master = true;
            assert_eq!(arbitrate(NodeSet::first(3), &c), set(&[0]));
        }
    }

    #[test]
    fn of_all_alone_one_remains() {
        for count in 1..8u8 {
            let groups: std::vec::Vec<[u8; 1]> = (0..count).map(|i| [i]).collect();
            let groups: std::vec::Vec<&[u8]> = groups.iter().map(|g| &g[..]).collect();
            let out = arbitrate(NodeSet::first(count), &split(count, &groups));
            assert_eq!(out, NodeSet::first(count).without(n(0)));
        }
    }

    const MS: u64 = 1000;
    const BEAT: u64 = 200 * MS;

    /// Beats from `from` on, every 200 ms, until `until`; gives the first that dropped somebody, and whom.
    fn beats(
        s: &mut Settling,
        (from, until): (u64, u64),
        nodes: NodeSet,
        c: &[Contestant; NODES_MAX],
    ) -> Option<(u64, NodeSet)> {
        (from..until).step_by(BEAT as usize).find_map(|at| {
            let out = s.observe(Instant(at), &T, nodes, c);
            (!out.is_empty()).then_some((at, out))
        })
    }

    #[test]
    fn design_7_settles_when_the_sets_are_unchanged_for_net_suspect_and_two_beats() {
        let (mut s, nodes) = (Settling::default(), NodeSet::first(3));
        assert_eq!(beats(&mut s, (0, 2000 * MS), nodes, &whole(3)), None);
        let c = split(3, &[&[0], &[1, 2]]);
        assert_eq!(beats(&mut s, (2000 * MS, 9000 * MS), nodes, &c), Some((2800 * MS, set(&[0]))));
        assert!(s.observe(Instant(3000 * MS), &T, nodes, &whole(3)).is_empty(), "whole: nobody goes, at once");
        assert_eq!(beats(&mut s, (3200 * MS, 9000 * MS), nodes, &c), Some((4000 * MS, set(&[0]))), "begins anew");
    }

    #[test]
    fn design_7_sets_that_change_settle_at_the_latest_after_three_net_suspect() {
        let (mut s, nodes) = (Settling::default(), NodeSet::first(4));
        let [mut a, mut b] = [whole(4), whole(4)];
        cut_both(&mut a, 0, 1);
        cut_both(&mut b, 0, 2);
        let mut decided = None;
        for i in 0..10 {
            let c = if i % 2 == 0 { &a } else { &b };
            let out = s.observe(Instant(i * BEAT), &T, nodes, c);
            if !out.is_empty() {
                decided = Some((i * BEAT, out));
                break;
            }
        }
        // Both links flapped, so both count as cut, though only one is now.
        assert_eq!(decided, Some((1200 * MS, set(&[0]))));
    }

    #[test]
    fn a_link_that_was_cut_once_and_is_back_puts_nobody_out() {
        for down_beats in 1..4 {
            let (mut s, nodes) = (Settling::default(), NodeSet::first(2));
            let c = split(2, &[&[0], &[1]]);
            let back = down_beats * BEAT;
            assert_eq!(beats(&mut s, (0, back), nodes, &c), None);
            assert_eq!(beats(&mut s, (back, back + 5000 * MS), nodes, &whole(2)), None);
            // And it is forgotten: the next cut settles for as long as the first.
            let again = back + 5000 * MS;
            assert_eq!(beats(&mut s, (again, again + 5000 * MS), nodes, &c), Some((again + 800 * MS, set(&[1]))));
        }
    }

    #[test]
    fn a_link_that_comes_and_goes_counts_as_cut_in_the_end() {
        let (mut s, nodes) = (Settling::default(), NodeSet::first(3));
        let mut down = whole(3);
        cut_both(&mut down, 1, 2);
        let mut first = None;
        for i in 0..20 {
            let c = if i % 3 == 0 { &down } else { &whole(3) };
            let out = s.observe(Instant(i * BEAT), &T, nodes, c);
            if first.is_none() && !out.is_empty() {
                first = Some((i * BEAT, out));
            }
        }
        assert_eq!(first, Some((1200 * MS, set(&[2]))), "the first beat at 3 × net_suspect or later that sees it down");
    }

    #[test]
    fn a_node_that_has_just_begun_and_is_not_heard_yet_has_no_links_that_flapped() {
        for beats_whole in 1..4 {
            let (mut s, mut c) = (Settling::default(), whole(3));
            c[2].master = true;
            assert_eq!(beats(&mut s, (0, 1000 * MS), set(&[1, 2]), &c), None);
            // Node 0 begins; its first heartbeat says that it hears nobody, and it is soon heard.
            let mut fresh = split(3, &[&[0], &[1, 2]]);
            fresh[2].master = true;
            assert!(s.observe(Instant(1000 * MS), &T, NodeSet::first(3), &fresh).is_empty());
            let cut_at = 1200 * MS + beats_whole * BEAT;
            assert_eq!(beats(&mut s, (1200 * MS, cut_at), NodeSet::first(3), &c), None);
            // The master is cut off: the two that hear each other remain.
            let mut cut = split(3, &[&[0, 1], &[2]]);
            cut[2].master = true;
            let (_, out) = beats(&mut s, (cut_at, cut_at + 5000 * MS), NodeSet::first(3), &cut).unwrap();
            assert_eq!(out, set(&[2]), "after {beats_whole} beats");
        }
    }

    #[test]
    fn nodes_that_saw_other_links_flap_decide_alike_once_all_is_quiet() {
        let nodes = NodeSet::first(3);
        let mut c = whole(3);
        cut_both(&mut c, 0, 1);
        (c[0].joining, c[2].joining, c[1].master) = (true, true, true);
        // Node 1 looked once while node 2 did not hear it; node 2 looked before and after.
        let mut once = c;
        cut(&mut once, 1, 2);
        let [mut one, mut two] = [Settling::default(), Settling::default()];
        let mut decided = [None; 2];
        for at in (0..=1600).step_by(200) {
            let seen = if at == 200 { &once } else { &c };
            let outs = [one.observe(Instant(at * MS), &T, nodes, seen), two.observe(Instant(at * MS), &T, nodes, &c)];
            for (first, out) in decided.iter_mut().zip(outs) {
                *first = first.or((!out.is_empty()).then_some((at, out)));
            }
            if at == 1600 {
                assert_eq!(outs, [set(&[0]); 2]);
            }
        }
        assert_eq!(decided, [Some((1200, set(&[1]))), Some((800, set(&[0])))], "node 1 takes itself for the loser");
    }

    #[test]
    fn a_second_cut_settles_too_and_the_first_decision_stands_meanwhile() {
        let (mut s, nodes) = (Settling::default(), NodeSet::first(5));
        let mut c = split(5, &[&[0, 1, 2, 3], &[4]]);
        assert_eq!(beats(&mut s, (0, 9000 * MS), nodes, &c), Some((800 * MS, set(&[4]))));
        // Seen link by link: first only that 0 and 2 do not hear each other, of 2 + 2.
        cut_both(&mut c, 0, 2);
        assert_eq!(s.observe(Instant(1000 * MS), &T, nodes, &c), set(&[4]));
        c = split(5, &[&[0, 1], &[2, 3], &[4]]);
        (c[2].weight, c[3].weight) = (2, 2);
        for at in [1200, 1400, 1600, 1800] {
            assert_eq!(s.observe(Instant(at * MS), &T, nodes, &c), set(&[4]), "at {at} ms");
        }
        assert_eq!(s.observe(Instant(2000 * MS), &T, nodes, &c), set(&[0, 1, 4]));
    }

    #[test]
    fn a_lock_that_passes_on_while_the_nodes_decide_changes_no_tie() {
        let (mut s, nodes) = (Settling::default(), NodeSet::first(2));
        let [mut first, mut cut] = [whole(2), split(2, &[&[0], &[1]])];
        (first[1].master, cut[1].master) = (true, true);
        assert_eq!(beats(&mut s, (0, 1000 * MS), nodes, &first), None);
        assert_eq!(beats(&mut s, (1000 * MS, 9000 * MS), nodes, &cut), Some((1800 * MS, set(&[0]))));
        (cut[0].master, cut[1].master) = (true, false);
        assert_eq!(s.observe(Instant(2000 * MS), &T, nodes, &cut), set(&[0]));
        // Once it is dead the lock is whose it is.
        assert!(s.observe(Instant(2200 * MS), &T, set(&[0]), &cut).is_empty());
    }

    #[test]
    fn nodes_that_remember_different_masters_decide_alike_once_all_is_quiet() {
        let nodes = NodeSet::first(2);
        let [mut first, second, cut] = [whole(2), whole(2), split(2, &[&[0], &[1]])];
        first[0].master = true;
        // Node 0 leaves and has lowered its flag; node 1 looked before that, node 0 after it.
        let [mut one, mut two] = [Settling::default(), Settling::default()];
        let mut holder = Some(1);
        for at in (0..=4000).step_by(200) {
            let (mut before, mut after) = if at == 0 { (second, first) } else { (cut, cut) };
            for (c, n) in [&mut before, &mut after].into_iter().zip(holder.filter(|_| at > 0)) {
                c[usize::from(n)].master = true;
            }
            if at > 0 {
                after[0].master = false;
                after[1].master = holder == Some(1);
            }
            let outs =
                [one.observe(Instant(at * MS), &T, nodes, &before), two.observe(Instant(at * MS), &T, nodes, &after)];
            // Who takes itself for the loser lowers its flag.
            holder = holder.filter(|n| !outs[1].contains(self::n(*n)));
            match at {
                1000 => assert_eq!(outs, [set(&[0]), set(&[1])], "each puts itself out"),
                1600.. => assert_eq!(outs, [set(&[1]); 2], "the lock is nobody's: the higher id, at {at} ms"),
                _ => {}
            }
        }
    }

    #[test]
    fn who_dies_while_the_sets_settle_does_not_prolong_it() {
        let mut s = Settling::default();
        let c = split(4, &[&[0], &[1, 2, 3]]);
        assert_eq!(beats(&mut s, (0, 400 * MS), NodeSet::first(4), &c), None);
        assert_eq!(beats(&mut s, (400 * MS, 9000 * MS), NodeSet::first(3), &c), Some((800 * MS, set(&[0]))));
        // Of those that were to remain all die: the last is not outside of itself.
        assert!(s.observe(Instant(1000 * MS), &T, set(&[0]), &c).is_empty());
    }

    #[test]
    fn design_7_after_a_stall_of_its_own_all_clocks_restart() {
        let (mut s, nodes) = (Settling::default(), NodeSet::first(2));
        let c = split(2, &[&[0], &[1]]);
        assert_eq!(beats(&mut s, (0, 800 * MS), nodes, &c), None);
        // The next beat would decide; but this node stood still for three beats.
        assert_eq!(beats(&mut s, (1200 * MS, 9000 * MS), nodes, &c), Some((2000 * MS, set(&[1]))));
        // What was decided before a stall does not count after it either.
        assert!(s.observe(Instant(9000 * MS), &T, nodes, &c).is_empty());
    }

    mod properties {
        use super::*;
        use proptest::prelude::*;

        /// Any graph over up to 9 of the 64 ids, with any marks.
        fn graph() -> impl Strategy<Value = (NodeSet, [Contestant; NODES_MAX])> {
            let one = (any::<u64>(), 0..4u8, any::<bool>(), 0..3u8, any::<bool>());
            let ids = proptest::collection::btree_set(0..64u8, 1..10);
            // Links are mostly there: random halves of them would leave nobody with anybody.
            (ids, proptest::collection::vec(one, NODES_MAX), any::<bool>()).prop_map(|(ids, rows, dense)| {
                let nodes: NodeSet = ids.into_iter().map(n).collect();
                let mut c = [Contestant::default(); NODES_MAX];
                for (i, (hears, joining, carrier, weight, master)) in rows.into_iter().enumerate() {
                    let mut thinned = hears;
                    if dense {
                        thinned |= hears.rotate_left(17) | hears.rotate_left(40);
                    }
                    c[i] = Contestant { hears: NodeSet(thinned), joining: joining == 0, carrier, weight, master };
                }
                (nodes, c)
            })
        }

        proptest! {
            #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

            #[test]
            fn the_survivors_hear_each_other_and_there_is_one((nodes, c) in graph()) {
                let out = arbitrate(nodes, &c);
                let left = nodes.minus(out);
                prop_assert!(out.is_subset(nodes) && !left.is_empty());
                prop_assert!(is_whole(left, &c));
            }

            #[test]
            fn nobody_is_dropped_of_a_whole_graph((nodes, mut c) in graph()) {
                for m in nodes {
                    c[m.index()].hears = c[m.index()].hears.or(nodes);
                }
                prop_assert!(is_whole(nodes, &c));
                prop_assert_eq!(arbitrate(nodes, &c), NodeSet::EMPTY);
            }

            /// What nodes outside of the question say, and whom of them the others hear, changes nothing; nor does what a
            /// node says of itself. So all that read the same blocks compute the same.
            #[test]
            fn only_what_the_asked_say_of_each_other_counts((nodes, c) in graph(), noise in any::<u64>()) {
                let mut other = c;
                for m in NodeId::all() {
                    let row = &mut other[m.index()];
                    if nodes.contains(m) {
                        row.hears = NodeSet(row.hears.0 ^ (noise & !nodes.0)).with(m);
                    } else {
                        *row = Contestant { hears: NodeSet(noise), weight: noise as u8, master: true, ..*row };
                    }
                }
                prop_assert_eq!(arbitrate(nodes, &c), arbitrate(nodes, &other));
            }

            /// To drop the dropped ones changes nothing more: one view change is enough.
            #[test]
            fn once_is_enough((nodes, c) in graph()) {
                let left = nodes.minus(arbitrate(nodes, &c));
                prop_assert_eq!(arbitrate(left, &c), NodeSet::EMPTY);
            }

            /// A node that hears all, and that all hear, is never dropped: whoever is dropped lacks a link.
            #[test]
            fn only_who_lacks_a_link_is_dropped((nodes, mut c) in graph(), pick in any::<prop::sample::Index>()) {
                let all: std::vec::Vec<NodeId> = nodes.iter().collect();
                let linked = all[pick.index(all.len())];
                for m in nodes {
                    c[m.index()].hears.insert(linked);
                }
                c[linked.index()].hears = nodes;
                prop_assert!(!arbitrate(nodes, &c).contains(linked));
            }

            /// Two nodes that look at the same disk at different moments of the same beats, whatever the graphs were before:
            /// once the graph stands for 3 × net_suspect + 2 beats, they say the same, and it is what `arbitrate` says of it
            /// (less the links that flapped).
            #[test]
            fn settled_nodes_agree_and_leave_a_whole_graph(
                (nodes, c) in graph(),
                before in proptest::collection::vec(any::<u64>(), 0..8),
            ) {
                let [mut one, mut two] = [Settling::default(), Settling::default()];
                let mut at = 0;
                for noise in before {
                    let mut flapped = c;
                    for m in nodes {
                        flapped[m.index()].hears = NodeSet(c[m.index()].hears.0 ^ (noise.rotate_left(m.get().into())));
                    }
                    one.observe(Instant(at), &T, nodes, &flapped);
                    two.observe(Instant(at + 90 * MS), &T, nodes, &flapped);
                    at += BEAT;
                }
                let mut last = (NodeSet::EMPTY, NodeSet::EMPTY);
                for _ in 0..9 {
                    last = (one.observe(Instant(at), &T, nodes, &c), two.observe(Instant(at + 90 * MS), &T, nodes, &c));
                    at += BEAT;
                }
                prop_assert_eq!(last.0, last.1);
                prop_assert!(is_whole(nodes.minus(last.0), &c));
                prop_assert!(last.0 != nodes && (is_whole(nodes, &c) == last.0.is_empty()));
            }
        }
    }
}
