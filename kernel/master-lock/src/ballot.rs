//! Disk Paxos on one disk (Gafni and Lamport 2003; DESIGN 4): promise, accept, commit.
//!
//! Deviations: one disk, so a look reads everybody's block at once; the two phases of one consensus instance serve a
//! whole term: after the highest accepted view was accepted again under the own ballot, each further view needs one write
//! and one look. The predecessor of an accepted view is committed; that is why one change is under way at a time.
//!
//! A write whose fate is unknown is not relied on: the own block is read back, and the same content is written again.

use quorate_base::{Ballot, DiskError, DiskOp, Event, HaltReason, Instant, LockPhase, NodeId, Trace, View, ViewName};
use quorate_database::ballot_block::fits;
use quorate_database::{Flag, Predecessor, layout};

use crate::api::{LockEvent, ProposeError};
use crate::cycle::{Purpose, Step};
use crate::lock::{Farewell, MasterLock};
use crate::rules::Rule;

/// How far this node has come. `written`: the write of this phase is durable, and the next complete scan is its look.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Phase {
    /// No flag, or Want.
    Idle,
    /// Hold is raised.
    Raised { written: bool },
    /// The look after Hold has passed; a ballot is promised.
    Promise { ballot: Ballot, written: bool },
    /// The look after the promise has passed; the newest view is accepted again.
    Accept { ballot: Ballot, written: bool },
    /// Master. `written`: the proposal is.
    Master { ballot: Ballot, written: bool },
}

impl MasterLock {
    /// Something waits for a complete scan.
    pub(crate) fn needs_look(&self) -> bool {
        match self.phase {
            Phase::Idle => false,
            Phase::Raised { written } => written,
            Phase::Promise { written, .. } | Phase::Accept { written, .. } => written || !self.own_known,
            Phase::Master { written, .. } => written || !self.own_known,
        }
    }

    /// Something is to be written into the ballot block, and may be.
    pub(crate) fn needs_write(&self, now: Instant) -> bool {
        let due = self.own_stale
            || match self.phase {
                Phase::Idle | Phase::Raised { .. } => false,
                Phase::Promise { written, .. } | Phase::Accept { written, .. } => !written,
                Phase::Master { written, .. } => !written && self.proposal.is_some(),
            };
        let sure = !self.is_identity_unsure();
        due && sure && self.own_known && !self.foreign && self.is_open() && now < self.lease.writes_until
    }

    pub(crate) fn begin_ballot_write(&mut self, now: Instant, trace: &mut Trace<'_>) {
        let repair = self.own_stale;
        let mut block = self.own.clone();
        match self.phase {
            _ if repair => {}
            Phase::Promise { .. } => {
                let Some(ballot) = self.highest_read(block.promised).next_for(self.me) else {
                    return self.end(HaltReason::Impossible { what: "all ballots are used up" });
                };
                self.highest = ballot;
                self.phase = Phase::Promise { ballot, written: false };
                block.promised = ballot;
                if !self.rules.keep(Rule::PromiseKeepsAccepted) {
                    (block.accepted, block.view, block.predecessor) = Default::default();
                }
            }
            Phase::Accept { ballot, .. } => {
                let best = &self.look.best;
                block.promised = ballot;
                block.accepted = ballot;
                if self.rules.keep(Rule::TakeHighestAccepted) {
                    block.view.clone_from(&best.view);
                    block.predecessor.clone_from(&best.predecessor);
                }
            }
            Phase::Master { ballot, .. } => {
                let Some(view) = &self.proposal else { return };
                block.predecessor = if self.rules.keep(Rule::OneChangeAtATime) {
                    Predecessor { ballot: self.committed.ballot, view: self.view.clone() }
                } else {
                    Predecessor { ballot: block.accepted, view: block.view.clone() }
                };
                block.promised = ballot;
                block.accepted = ballot;
                block.view.clone_from(view);
            }
            Phase::Idle | Phase::Raised { .. } => return,
        }
        block.incarnation = self.incarnation;
        block.nonce = self.nonce;
        block.sequence = block.sequence.saturating_add(1);
        block.lamport = trace.send();
        // Until it was seen to stand, what was written last is written over: the other slot is all that there is. Once it
        // was, others may rest on it, and a slot that cannot be read may hold it still. A slot that stays bad is left.
        let same = repair && !self.own_seen && !self.is_slot_bad(now) || !self.rules.keep(Rule::AlternatingSlots);
        let slot = if same { self.own_slot } else { 1 - (self.own_slot & 1) };
        let Ok(record) = block.encode(self.cluster, self.me, slot) else {
            return self.end(HaltReason::Impossible { what: "a ballot block does not fit its record" });
        };
        self.own = block;
        self.own_slot = slot;
        self.own_seen = false;
        let at = layout::ballot(self.me, slot);
        let not_after = Some(self.lease.writes_until);
        self.request(now, Step::Ballot { repair }, DiskOp::Write { at, record, not_after });
    }

    /// Whether the slot that was written last could not be read for as long as would make a heartbeat silent.
    fn is_slot_bad(&self, now: Instant) -> bool {
        let me = &self.peers[self.me.index()];
        let since = me.slots_since;
        let bad = me.bad.get(1 + usize::from(self.own_slot & 1)).is_some_and(|bad| *bad);
        bad && since != Instant::FAR && now.since_us(since) >= u64::from(self.timing.disk_suspect) * 1000
    }

    pub(crate) fn ballot_completed(
        &mut self,
        now: Instant,
        repair: bool,
        result: Result<(), DiskError>,
        trace: &mut Trace<'_>,
    ) {
        if result.is_err() {
            // Landed or not: the next scan tells, and this node's block is taken from it.
            self.own_known = false;
            return self.pause(now);
        }
        self.trace_write(layout::ballot(self.me, self.own_slot), trace);
        if repair {
            self.own_stale = false;
            return;
        }
        let overtaken = self.is_overtaken();
        match &mut self.phase {
            Phase::Promise { written, .. } | Phase::Accept { written, .. } => *written = true,
            Phase::Master { written, .. } => *written = !overtaken,
            Phase::Idle | Phase::Raised { .. } => {}
        }
        if !self.rules.keep(Rule::LookAfterAccept) {
            match self.phase {
                Phase::Accept { ballot, .. } => self.acquired(ballot, trace),
                Phase::Master { ballot, .. } => self.commit(ballot),
                Phase::Idle | Phase::Raised { .. } | Phase::Promise { .. } => {}
            }
        }
    }

    // Only without the rule *one change at a time*: another view waits already to be written over the one that was.
    fn is_overtaken(&self) -> bool {
        !self.rules.keep(Rule::OneChangeAtATime)
            && self.proposal.as_ref().is_some_and(|proposal| proposal.number > self.own.view.number)
    }

    /// The highest ballot of all that was read; the next own one is above it.
    fn highest_read(&self, own: Ballot) -> Ballot {
        if !self.rules.keep(Rule::BallotAboveAll) {
            return own;
        }
        if !self.rules.keep(Rule::BallotAboveOwn) {
            let others = NodeId::first(self.nodes).filter(|n| *n != self.me);
            return others.map(|n| self.peers[n.index()].promised).max().unwrap_or(Ballot::NONE);
        }
        self.highest.max(own)
    }

    /// Hold is durable. What is promised waits for the look after it.
    pub(crate) fn hold_written(&mut self) {
        let Phase::Raised { written } = &mut self.phase else { return };
        *written = true;
        if !self.rules.keep(Rule::LookAfterHold) || !self.rules.keep(Rule::HoldThenPromise) {
            self.phase = Phase::Promise { ballot: Ballot::NONE, written: false };
        }
    }

    /// Whether a higher promise deposes this node now.
    fn is_deposed(&self, ballot: Ballot) -> bool {
        let holding = matches!(self.phase, Phase::Master { written: false, .. });
        self.highest > ballot
            && self.rules.keep(Rule::HigherPromiseStops)
            && (!holding || self.rules.keep(Rule::HoldingLooks))
    }

    /// After a complete scan: whatever was written before it has now been looked after.
    pub(crate) fn on_look(&mut self, now: Instant, trace: &mut Trace<'_>) {
        let name = self.look.best.name();
        self.notice_committed_proposal();
        match self.phase {
            Phase::Idle | Phase::Raised { written: false } => {}
            Phase::Raised { written: true } => {
                if !self.wants(now) || self.other_holds() {
                    self.hurry = 4;
                    self.step_back();
                } else {
                    self.phase = Phase::Promise { ballot: Ballot::NONE, written: false };
                }
            }
            Phase::Promise { written: false, .. } => {}
            Phase::Promise { ballot, .. } | Phase::Accept { ballot, .. } | Phase::Master { ballot, .. }
                if self.is_deposed(ballot) =>
            {
                self.lost(trace);
            }
            Phase::Promise { .. } if !self.rules.keep(Rule::HoldThenPromise) && self.other_holds() => self.step_back(),
            _ if self.scan.marks.exceed(name) => {
                self.end(HaltReason::DatabaseDamaged {
                    what: "the ballot blocks hold less than a heartbeat names as committed",
                });
            }
            Phase::Promise { ballot, .. } if !self.rules.keep(Rule::AcceptUnderOwnBallot) => {
                self.own.view.clone_from(&self.look.best.view);
                self.acquired(ballot, trace);
            }
            Phase::Promise { ballot, .. } => self.phase = Phase::Accept { ballot, written: false },
            Phase::Accept { ballot, written: true } => self.acquired(ballot, trace),
            Phase::Master { ballot, written: true } => self.commit(ballot),
            Phase::Accept { .. } | Phase::Master { .. } => {}
        }
    }

    // A write of unknown fate landed, and by the rule for readers the view is committed. Writing it again would make it
    // its own predecessor.
    fn notice_committed_proposal(&mut self) {
        if let (Phase::Master { ballot, .. }, Some(view)) = (self.phase, &self.proposal)
            && self.committed == (ViewName { ballot, number: view.number })
        {
            self.commit(ballot);
        }
    }

    fn acquired(&mut self, ballot: Ballot, trace: &mut Trace<'_>) {
        let view = self.own.view.clone();
        let name = ViewName { ballot, number: view.number };
        self.learn(name, &view);
        if self.ended {
            return;
        }
        self.phase = Phase::Master { ballot, written: false };
        self.hurry = 0;
        trace.event(Event::Lock { phase: LockPhase::Acquired, ballot });
        self.event(LockEvent::Acquired { ballot, name });
        if self.releasing || !self.want {
            // The wish was taken back while the lock was being acquired.
            self.releasing = true;
            self.kick = true;
        }
    }

    fn commit(&mut self, ballot: Ballot) {
        self.phase = Phase::Master { ballot, written: false };
        let Some(view) = self.proposal.take() else { return };
        let name = ViewName { ballot, number: view.number };
        self.learn(name, &view);
        if !self.ended {
            self.event(LockEvent::Committed { name });
            self.kick |= self.releasing;
        }
    }

    /// A message told of a ballot above the own one.
    pub(crate) fn notice_higher_ballot(&mut self, trace: &mut Trace<'_>) {
        match self.phase {
            Phase::Promise { ballot, written: true } | Phase::Accept { ballot, .. } | Phase::Master { ballot, .. }
                if self.is_deposed(ballot) =>
            {
                self.lost(trace);
                self.kick = true;
            }
            _ => {}
        }
    }

    fn lost(&mut self, trace: &mut Trace<'_>) {
        let (ballot, master) = match self.phase {
            Phase::Idle | Phase::Raised { .. } => return,
            Phase::Promise { ballot, .. } | Phase::Accept { ballot, .. } => (ballot, false),
            Phase::Master { ballot, .. } => (ballot, true),
        };
        self.drop_proposal(ballot);
        self.step_back();
        trace.event(Event::Lock { phase: LockPhase::Lost, ballot });
        if master {
            self.event(LockEvent::Lost { to: self.highest });
        }
    }

    // The flag is lowered by the next heartbeat; it comes at once unless this scan is the one before it.
    fn step_back(&mut self) {
        self.phase = Phase::Idle;
        self.kick |= self.scan.purpose != Purpose::BeatFirst && self.flag != Flag::None;
    }

    pub(crate) fn drop_proposal(&mut self, ballot: Ballot) {
        if let Some(view) = self.proposal.take() {
            self.event(LockEvent::Unknown { name: ViewName { ballot, number: view.number } });
        }
    }

    pub(crate) fn may_propose(&self, view: &View) -> Result<(), ProposeError> {
        if self.master().is_none() || self.releasing || self.farewell != Farewell::No {
            return Err(ProposeError::NotMaster);
        }
        let begun = self.proposal.as_ref().is_some_and(|under_way| under_way.number == self.own.view.number);
        let over = begun && !self.rules.keep(Rule::OneChangeAtATime);
        if self.proposal.is_some() && !over {
            return Err(ProposeError::Busy);
        }
        let next = 1 + self.proposal.as_ref().map_or(self.committed.number, |under_way| under_way.number);
        if view.number != next {
            return Err(ProposeError::NotNext(next));
        }
        let predecessor = Predecessor { ballot: self.committed.ballot, view: self.view.clone() };
        if fits(view, &predecessor) { Ok(()) } else { Err(ProposeError::TooManyChanges) }
    }
}
