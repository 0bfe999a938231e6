//! The lease: until when this node may write to the shared disk (DESIGN 4 *beat*, DESIGN 7 *freeze*).
//!
//! It runs from the submission of a heartbeat that is durable, and is given only by a scan that began after that, shows
//! that very heartbeat (a disk that acknowledged it may have lost it, and hide that: then nobody else sees it either), and
//! shows this incarnation as a member in the view of the **highest accepted** ballot. Why that is enough for the lease
//! fence: whoever puts this node out reads its heartbeat after the putting out is accepted. A heartbeat that this read
//! does not show was written after the accepting, and the scan after it shows the accepting, so it gives no lease; one
//! that it shows was submitted before it.
//!
//! The rule does not ask that the scan is the second read of a beat: a later look at the same heartbeat gives the same
//! end of the lease. So a node that forms the cluster has its lease with its first own committed view.
//!
//! A node that is in no view has no lease and needs none. While it forms the cluster, its ballot writes are bounded in
//! the same way, as long as the highest accepted view does not exclude it (`writes_until`).

use quorate_base::{DiskError, Event, HaltReason, Instant, Trace, View};

use crate::api::LockEvent;
use crate::lock::{Farewell, MasterLock};
use crate::rules::Rule;

/// The lease of this node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Lease {
    /// Its end.
    pub until: Instant,
    /// The end of what this node may write to its ballot block.
    pub writes_until: Instant,
    /// The highest accepted view has this node as a member, so that it needs a lease.
    pub had: bool,
    /// This node is known to be a member, but no beat gave it a lease yet: by then it must have one, else it is frozen as if
    /// the lease had run out.
    pub owed: Option<Instant>,
    /// It ran out, and that was noticed.
    pub frozen: bool,
    /// The highest accepted view excludes this node since; [`Instant::FAR`]: it does not.
    pub excluded_since: Instant,
    /// What went wrong last; for the trace.
    trouble: Option<DiskError>,
}

impl Lease {
    /// Before the first beat.
    pub(crate) const NONE: Self = Self {
        until: Instant::ZERO,
        writes_until: Instant::ZERO,
        had: false,
        owed: None,
        frozen: false,
        excluded_since: Instant::FAR,
        trouble: None,
    };

    pub(crate) fn trouble(&mut self, error: DiskError) {
        self.trouble = Some(error);
    }
}

impl MasterLock {
    /// After a complete scan.
    pub(crate) fn renew(&mut self, now: Instant, trace: &mut Trace<'_>) {
        self.notice_accepted_exclusion(now);
        if self.ended {
            return;
        }
        let Some(issued) = self.heartbeat_issued.filter(|_| self.scan.own_shown) else { return };
        let end = issued.plus_ms(self.timing.lease);
        let view = if self.rules.keep(Rule::RenewByHighestAccepted) { &self.look.best.view } else { &self.view };
        if view.has_member(self.me, self.incarnation) {
            if self.farewell != Farewell::No {
                // It was let in while it says farewell: after the clean mark nothing is written, whoever counts from it.
                return;
            }
            (self.lease.had, self.lease.owed) = (true, None);
            self.lease.writes_until = self.lease.writes_until.max(end);
            if end > self.lease.until {
                self.lease.until = end;
                if trace.writes() {
                    trace.event(Event::Lease { issued, until: end });
                }
            }
            if self.lease.frozen && now < self.lease.until {
                self.thaw("a full beat", trace);
            }
        } else if !view.excludes(self.me, self.incarnation) {
            self.lease.writes_until = self.lease.writes_until.max(end);
            // Its admission was accepted once but never committed: it is outside again, and needs no lease.
            (self.lease.had, self.lease.owed) = (false, None);
            if self.lease.frozen {
                self.thaw("in no view", trace);
            }
        }
    }

    // Its exclusion is accepted, but whoever accepted it died before the commit. The next takeover can only commit it; but
    // nobody may take over: this node is frozen, and it counts as a live joined node, so that joining ones keep off. So it
    // ends by itself when that lasts. (An addition to DESIGN 4; found by a seed: without it such a cluster stood still
    // for ever.)
    fn notice_accepted_exclusion(&mut self, now: Instant) {
        if !self.look.best.view.excludes(self.me, self.incarnation) {
            self.lease.excluded_since = Instant::FAR;
            return;
        }
        self.lease.excluded_since = self.lease.excluded_since.min(now);
        let limit_us = u64::from(self.timing.dead) * 1000;
        if self.lease.frozen && now.since_us(self.lease.excluded_since) >= limit_us {
            self.end(HaltReason::PutOut { view: self.look.best.name(), incarnation: self.incarnation });
        }
    }

    fn thaw(&mut self, why: &str, trace: &mut Trace<'_>) {
        self.lease.frozen = false;
        self.lease.trouble = None;
        trace.event(Event::Thaw { why });
        self.event(LockEvent::Thawed);
        self.restart_evidence();
    }

    /// The lease ran out.
    pub(crate) fn notice_freeze(&mut self, now: Instant, trace: &mut Trace<'_>) {
        if !self.frozen(now) || self.lease.frozen {
            return;
        }
        self.lease.frozen = true;
        let member = |view: &View| view.has_member(self.me, self.incarnation);
        let why = if member(&self.look.best.view) || self.lease.owed.is_some() {
            match self.lease.trouble {
                None => "no full beat for the time of the lease",
                Some(DiskError::Medium) => "the disk reports bad blocks",
                Some(DiskError::TimedOut) => "disk requests time out",
                Some(DiskError::Gone) => "the disk is gone",
                Some(DiskError::Conflict | DiskError::Attention(_)) => "the disk refuses this node",
                Some(DiskError::Frozen | DiskError::OutOfRange | DiskError::Device) => "disk requests fail",
            }
        } else {
            "the highest accepted view leaves this node out"
        };
        trace.event(Event::Freeze { why });
        self.event(LockEvent::Frozen);
        self.restart_evidence();
    }

    /// A beat is later than its time by more than a beat, or no scan was completed for so long: this node stood still, or
    /// its disk did, perhaps for all. What it saw before says nothing about the others any more. Asked before each input,
    /// so that a read that was under way meanwhile is not judged either.
    pub(crate) fn notice_stall(&mut self, now: Instant) {
        let beat = self.timing.disk_heartbeat;
        if now > self.next_beat.plus_ms(beat) || now > self.last_scan.plus_ms(2 * beat) {
            self.restart_evidence();
        }
    }

    fn restart_evidence(&mut self) {
        for peer in &mut self.peers {
            peer.restart();
        }
        self.lease.excluded_since = Instant::FAR;
    }
}
