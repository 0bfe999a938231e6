//! The last transitions as this node saw them: what, from when to when, and why, as far as it could know.
//!
//! A ring of fixed size, written from the views that the node adopts (EP p. 6: a node knows of the cluster what its views say).
//! A view that was never seen by itself, because a newer one came first, has left no time: such an entry says so. What was
//! known when a transition began is kept with it, because a day later nothing else tells it any more.

use core::fmt;

use quorate_base::capacity::NODES_MAX;
use quorate_base::{Ballot, Incarnation, Instant, NodeId, NodeState, View};

/// Entries: a cold start of a cluster of eight nodes, and what put one of them out. More would be a log, which a node's trace
/// is.
pub const ENTRIES: usize = 24;

/// Why a transition began, by what this node knew then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It booted and asked to be let in, or asked to leave.
    Asked,
    /// The node said that this life of it has ended.
    Halted,
    /// The disk shows a newer life of it.
    Rebooted,
    /// It was silent: for so long on the disk, and on the interconnect (`None`: never heard), ms.
    Silent {
        /// Its heartbeat block stood still.
        disk_ms: u32,
        /// Since its last frame.
        net_ms: Option<u32>,
    },
    /// It was alive, but not in the set of nodes that all hear each other (DESIGN 7).
    OutOfReach,
    /// This node saw nothing of it: the master did.
    Master,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("it asked"),
            Self::Halted => f.write_str("it said that it halts"),
            Self::Rebooted => f.write_str("the disk shows a newer life of it"),
            Self::Silent { disk_ms, net_ms: Some(net_ms) } => {
                write!(f, "silent: on the disk for {disk_ms} ms, on the interconnect for {net_ms} ms")
            }
            Self::Silent { disk_ms, net_ms: None } => {
                write!(f, "silent: on the disk for {disk_ms} ms, on the interconnect always")
            }
            Self::OutOfReach => f.write_str("it is not heard by all others"),
            Self::Master => f.write_str("the master saw why; this node did not"),
        }
    }
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A node's transition.
    Transition {
        /// The node.
        subject: NodeId,
        /// Its life.
        incarnation: Incarnation,
        /// `Joining`, `Leaving` or `ForcedLeaving`.
        state: NodeState,
        /// Why.
        cause: Cause,
        /// Its end, and in which state.
        end: Option<(Instant, NodeState)>,
        /// Only the view after it was seen.
        skipped: bool,
    },
    /// Another node took the lock.
    Master {
        /// Under this ballot.
        ballot: Ballot,
    },
}

/// An entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// When it began, by this node's clock.
    pub at: Instant,
    /// What.
    pub what: What,
}

/// The ring.
#[derive(Clone, Debug)]
pub struct History {
    entries: heapless::Deque<Entry, ENTRIES>,
    /// The view that was looked at last.
    number: u64,
    states: [(NodeState, Incarnation); NODES_MAX],
    ballot: Ballot,
}

impl Default for History {
    fn default() -> Self {
        Self {
            entries: heapless::Deque::new(),
            number: 0,
            states: [(NodeState::Inactive, Incarnation::NEVER); NODES_MAX],
            ballot: Ballot::NONE,
        }
    }
}

impl History {
    /// Entries, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The newest transition of a node.
    pub fn last_of(&self, node: NodeId) -> Option<&Entry> {
        self.entries().rev().find(|e| matches!(e.what, What::Transition { subject, .. } if subject == node))
    }

    /// Since when the present master is known, if that is not too long ago.
    pub fn master_since(&self, ballot: Ballot) -> Option<Instant> {
        self.entries().rev().find(|e| e.what == What::Master { ballot }).map(|e| e.at)
    }

    fn write(&mut self, entry: Entry) {
        if self.entries.is_full() {
            self.entries.pop_front();
        }
        // There is room: the oldest went.
        let _ = self.entries.push_back(entry);
    }

    /// Looks at the view and the ballot that a node has now. `cause` is asked for a node and the life that is put out.
    pub fn observe(
        &mut self,
        now: Instant,
        ballot: Ballot,
        view: &View,
        nodes: u8,
        cause: impl Fn(NodeId, Incarnation) -> Cause,
    ) {
        if ballot != self.ballot {
            self.ballot = ballot;
            self.write(Entry { at: now, what: What::Master { ballot } });
        }
        if view.number == self.number {
            return;
        }
        // A node's first view: what it finds there began before its time.
        let first = self.number == 0 && view.number > 1;
        self.number = view.number;
        for n in NodeId::first(nodes) {
            let new = (view.state(n), view.incarnation(n));
            let old = core::mem::replace(&mut self.states[n.index()], new);
            let lasts = matches!(new.0, NodeState::Inactive | NodeState::Joined);
            if new != old && !(first && lasts) {
                self.change(now, n, old, new, &cause);
            }
        }
    }

    fn change(
        &mut self,
        now: Instant,
        n: NodeId,
        old: (NodeState, Incarnation),
        new: (NodeState, Incarnation),
        cause: &impl Fn(NodeId, Incarnation) -> Cause,
    ) {
        let (state, life) = new;
        let closed = self.close(now, n, state);
        let entry = |state: NodeState, incarnation: Incarnation, cause: Cause, skipped: bool| {
            let end = skipped.then_some((now, new.0));
            Entry { at: now, what: What::Transition { subject: n, incarnation, state, cause, end, skipped } }
        };
        match state {
            NodeState::Joining | NodeState::Leaving => self.write(entry(state, life, Cause::Asked, false)),
            NodeState::ForcedLeaving => self.write(entry(state, life, cause(n, life), false)),
            NodeState::Joined if !closed => self.write(entry(NodeState::Joining, life, Cause::Asked, true)),
            // It was in and is out, and the view in between was not seen: its own mark on the disk tells which way it went.
            NodeState::Inactive if !closed && old.0 != NodeState::Inactive => {
                let cause = cause(n, old.1);
                let way = if cause == Cause::Asked { NodeState::Leaving } else { NodeState::ForcedLeaving };
                self.write(entry(way, old.1, cause, true));
            }
            NodeState::Joined | NodeState::Inactive => {}
        }
    }

    /// Ends what was under way for a node. False if that was nothing.
    fn close(&mut self, now: Instant, n: NodeId, state: NodeState) -> bool {
        let mut under_way = self.entries.iter_mut().rev().filter_map(|entry| match &mut entry.what {
            What::Transition { subject, end, .. } if *subject == n && end.is_none() => Some(end),
            _ => None,
        });
        match under_way.next() {
            Some(end) => {
                *end = Some((now, state));
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: Ballot = Ballot(64);

    fn n(id: u8) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn view(number: u64, states: [(NodeState, u32); 2]) -> View {
        let mut view = View::empty(number);
        for (id, (state, incarnation)) in (0..).zip(states) {
            view.set(n(id), state, Incarnation(incarnation));
        }
        view
    }

    /// Views, one each ms.
    fn seen(views: &[View], cause: Cause) -> History {
        let mut history = History::default();
        for (ms, view) in (1..).zip(views) {
            history.observe(Instant::ZERO.plus_ms(ms), MASTER, view, 2, |_, _| cause);
        }
        history
    }

    /// The transition, its cause, its end, and whether it was not seen itself.
    type Told = (NodeState, Cause, Option<(Instant, NodeState)>, bool);

    fn ends(history: &History, of: u8) -> std::vec::Vec<Told> {
        let one = |e: &Entry| match e.what {
            What::Transition { subject, state, cause, end, skipped, .. } if subject == n(of) => {
                Some((state, cause, end, skipped))
            }
            _ => None,
        };
        history.entries().filter_map(one).collect()
    }

    use NodeState::{ForcedLeaving, Inactive, Joined, Joining, Leaving};
    const SILENT: Cause = Cause::Silent { disk_ms: 700, net_ms: None };

    #[test]
    fn a_transition_has_its_times_and_its_cause() {
        let views = [
            view(1, [(Joining, 1), (Inactive, 0)]),
            view(2, [(Joined, 1), (Joining, 4)]),
            view(3, [(Joined, 1), (Joined, 4)]),
            view(3, [(Joined, 1), (Joined, 4)]),
            view(4, [(Joined, 1), (ForcedLeaving, 4)]),
            view(5, [(Joined, 1), (Inactive, 4)]),
        ];
        let history = seen(&views, SILENT);
        let at = |ms| Instant::ZERO.plus_ms(ms);
        assert_eq!(
            ends(&history, 1),
            [
                (Joining, Cause::Asked, Some((at(3), Joined)), false),
                (ForcedLeaving, SILENT, Some((at(6), Inactive)), false),
            ]
        );
        assert_eq!(history.last_of(n(1)).map(|e| e.at), Some(at(5)));
        assert_eq!(history.master_since(MASTER), Some(at(1)));
        assert_eq!(history.master_since(Ballot(129)), None);
    }

    #[test]
    fn what_is_overtaken_ends_where_the_next_begins() {
        let views = [view(1, [(Joined, 1), (Joining, 4)]), view(2, [(Joined, 1), (ForcedLeaving, 4)])];
        let one = ends(&seen(&views, Cause::Halted), 1);
        assert_eq!(one[0].2, Some((Instant::ZERO.plus_ms(2), ForcedLeaving)));
        assert_eq!((one[1].0, one[1].1, one[1].2), (ForcedLeaving, Cause::Halted, None));
    }

    #[test]
    fn a_view_that_was_not_seen_leaves_no_time() {
        let views = [view(1, [(Joined, 1), (Inactive, 0)]), view(3, [(Joined, 1), (Joined, 4)])];
        assert_eq!(ends(&seen(&views, SILENT), 1), [(Joining, Cause::Asked, Some((Instant(2000), Joined)), true)]);
        let gone = [view(1, [(Joined, 1), (Joined, 4)]), view(3, [(Joined, 1), (Inactive, 4)])];
        assert_eq!(ends(&seen(&gone, SILENT), 1)[1].0, ForcedLeaving);
        assert_eq!(ends(&seen(&gone, Cause::Asked), 1)[1].0, Leaving, "its clean mark stands on the disk");
    }

    #[test]
    fn what_a_newcomer_finds_began_before_its_time() {
        let views = [view(9, [(Joined, 1), (Joining, 4)]), view(10, [(Joined, 1), (Joined, 4)])];
        let history = seen(&views, SILENT);
        assert_eq!(ends(&history, 0), []);
        assert_eq!(ends(&history, 1).len(), 1);
    }

    #[test]
    fn the_oldest_go_first() {
        let mut history = History::default();
        for ballot in 1..=100 {
            history.observe(Instant(ballot), Ballot(ballot), &View::empty(0), 2, |_, _| Cause::Master);
        }
        let ballots = history.entries().map(|e| e.what);
        let newest = (101 - ENTRIES as u64..=100).map(|b| What::Master { ballot: Ballot(b) });
        assert!(ballots.eq(newest));
    }
}
