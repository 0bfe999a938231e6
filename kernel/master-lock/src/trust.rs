//! What a reader may trust as committed (DESIGN 4), and what follows from it.
//!
//! A view is named by (ballot, number), never by the number alone, and is committed if
//! 1. a mark (a heartbeat) or a message names exactly that, or
//! 2. it is the predecessor of an accepted view, or
//! 3. it was read as accepted at b, and a *later* complete scan shows no promise above b.
//!
//! "The highest accepted" alone is not committed: its writer may not have looked yet.
//! Of all accepted views only that of the highest ballot needs to be looked at: whoever accepted it knew everything that
//! was committed before, and it is either that or the successor of it.

use quorate_base::{Ballot, HaltReason, Instant, NodeId, NodeState, View, ViewName};

use crate::api::LockEvent;
use crate::ballot::Phase;
use crate::lock::{Farewell, MasterLock};
use crate::rules::Rule;

/// The highest of what heartbeats, messages and this node itself named as committed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Marks {
    ballot: Ballot,
    number: u64,
}

impl Marks {
    pub(crate) fn raise(&mut self, name: ViewName) {
        self.ballot = self.ballot.max(name.ballot);
        self.number = self.number.max(name.number);
    }

    /// Whether a disk whose highest accepted view is `best` has less than was named.
    pub(crate) fn exceed(&self, best: ViewName) -> bool {
        self.ballot > best.ballot || self.number > best.number
    }
}

impl MasterLock {
    /// After a complete scan; `previous` is what the complete scan before it showed as highest accepted.
    pub(crate) fn trust(&mut self, previous: ViewName) {
        let best = &self.look.best;
        let name = best.name();
        if name.ballot == Ballot::NONE {
            return;
        }
        let before = self.committed;
        if name.number > 0 && self.is_newer(best.predecessor.name()) && self.rules.keep(Rule::Predecessor) {
            let predecessor = best.predecessor.clone();
            self.learn(predecessor.name(), &predecessor.view);
        }
        let later_read = previous == name && self.look.promised <= name.ballot || !self.rules.keep(Rule::LaterRead);
        if self.is_newer(name) && (later_read || self.is_marked(name)) {
            let view = self.look.best.view.clone();
            self.learn(name, &view);
        }
        let mine = matches!(self.phase, Phase::Master { ballot, .. } if ballot == self.committed.ballot);
        if self.committed != before && !mine {
            self.event(LockEvent::Learned { name: self.committed });
        }
    }

    fn is_marked(&self, name: ViewName) -> bool {
        let by_name = self.rules.keep(Rule::TrustByName);
        let names =
            |mark: ViewName| mark == name || !by_name && mark.number == name.number && mark.ballot != Ballot::NONE;
        NodeId::first(self.nodes).any(|n| self.peers[n.index()].heartbeat.as_ref().is_some_and(|h| names(h.committed)))
    }

    fn is_newer(&self, name: ViewName) -> bool {
        (name.number, name.ballot) > (self.committed.number, self.committed.ballot)
    }

    /// The view is known to be committed.
    pub(crate) fn learn(&mut self, name: ViewName, view: &View) {
        self.marks.raise(name);
        if name.number == self.committed.number
            && self.committed.ballot != Ballot::NONE
            && !view.same_content(&self.view)
        {
            return self.end(HaltReason::Impossible { what: "two committed views with one number" });
        }
        if self.is_newer(name) {
            let mine = |v: &View| (v.incarnation(self.me) == self.incarnation).then(|| v.state(self.me));
            self.let_go |= name.number == self.committed.number + 1
                && mine(&self.view) == Some(NodeState::Leaving)
                && mine(view) == Some(NodeState::Inactive);
            self.committed = name;
            self.view.clone_from(view);
            self.unjudged = true;
        }
    }

    /// A committed view that excludes this incarnation ends it, before anything else is written. After a graceful leave
    /// the clean mark is still written.
    pub(crate) fn judge_exclusion(&mut self, now: Instant) {
        self.unjudged = false;
        self.end_quarantine();
        if !self.view.excludes(self.me, self.incarnation) {
            if self.view.has_member(self.me, self.incarnation) && !self.lease.had && self.lease.owed.is_none() {
                self.lease.owed = Some(now.plus_ms(self.timing.lease));
            }
            return;
        }
        if self.left_gracefully(now) {
            if self.farewell == Farewell::No {
                self.farewell();
            }
        } else if self.rules.keep(Rule::ExclusionHalts) {
            self.end(HaltReason::PutOut { view: self.committed, incarnation: self.incarnation });
        }
    }

    // A forced leave commits ForcedLeaving first, and Inactive only after the fence, when the lease has run out. So a
    // node with a valid lease that finds itself inactive left gracefully; so did one that was leaving in the view before.
    pub(crate) fn left_gracefully(&self, now: Instant) -> bool {
        let inactive =
            self.view.state(self.me) == NodeState::Inactive && self.view.incarnation(self.me) == self.incarnation;
        let best = &self.look.best;
        let was_leaving = best.name() == self.committed
            && best.predecessor.view.state(self.me) == NodeState::Leaving
            && best.predecessor.view.incarnation(self.me) == self.incarnation;
        let leaving = self.status.state == NodeState::Leaving || self.farewell != Farewell::No;
        inactive && (self.let_go || was_leaving || (leaving && now < self.lease.until))
    }

    /// A committed view let this node go right after one in which it was leaving. (With a reservation the lease says
    /// nothing: the fence may be through before it has run out.)
    pub(crate) fn left_for_sure(&self) -> bool {
        self.let_go && self.view.excludes(self.me, self.incarnation)
    }

    // The old life's forced leave is done: its fence stands, nothing of it lands any more.
    fn end_quarantine(&mut self) {
        if let Some(old) = self.birth.incarnation
            && self.view.incarnation(self.me) == old
            && self.view.state(self.me) == NodeState::Inactive
            && old < self.incarnation
        {
            self.quarantine = None;
        }
    }
}
