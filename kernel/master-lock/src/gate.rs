//! What stands between this node and every write of its own while the reservation is in use (DESIGN 7).
//!
//! ```text
//!          conflict of a write, attention             registration stands again
//!  Open ───────────────────────────────────► Closed ───────────────────────────► Look
//!   ▲                                           ▲                                 │ │
//!   │                                           └─────────────────────────────────┘ │
//!   └──────────── a complete scan that began since shows no exclusion ──────────────┘
//! ```
//! Invariants
//! - No write of any kind begins while the gate is not open. Reads go on, and so does the lease: it runs out beneath.
//! - It opens only by a scan that began after the registration stood, so that whoever was put out before it registered anew
//!   sees it there. That the view of the highest accepted ballot excludes this life is enough to keep it shut.
//! - A life that a committed view excludes halts, also if it registered anew meanwhile.

use quorate_base::event::ReservationPhase;
use quorate_base::reservation::{Attention, ReservationAnswer};
use quorate_base::{DiskError, Event, HaltReason, Instant, ReservationError, ReservationOp, Trace};

use crate::lock::MasterLock;
use crate::registration::{Change, Registration};

/// Whether this node may write.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Gate {
    /// It may.
    Open,
    /// Its registration does not stand, or that is not known.
    Closed,
    /// It stands; the views are to be looked at.
    Look,
}

impl MasterLock {
    /// This life is registered with the reservation, and that stands. Told before the first input.
    pub fn guard_reservation(&mut self, registration: Registration, trace: &mut Trace<'_>) {
        self.gate = if registration.stands() { Gate::Look } else { Gate::Closed };
        trace.event(Event::RegisterKey { key: registration.key() });
        self.trace_reservation(&registration, ReservationPhase::Stands, trace);
        self.registration = Some(registration);
    }

    /// The own registration, if the cluster fences by the reservation.
    pub fn registration(&self) -> Option<&Registration> {
        self.registration.as_ref()
    }

    /// Whether nothing is known that keeps this node from writing but its lease.
    pub fn is_open(&self) -> bool {
        self.gate == Gate::Open
    }

    /// A unit attention reached this node, with whatever command; reads are repeated by the port.
    pub fn attention(&mut self, now: Instant, attention: Attention, trace: &mut Trace<'_>) {
        if let Some(mut registration) = self.registration.take() {
            registration.attention();
            self.close(now, registration, attention.name(), trace);
        }
    }

    /// Another command of this node found that it is not registered.
    pub fn not_registered(&mut self, now: Instant, trace: &mut Trace<'_>) {
        self.conflict(now, "another node does not find the own key", trace);
    }

    /// A key was removed: whether the reservation still stands is looked at, before anything is built on that.
    pub fn check_reservation(&mut self, now: Instant) {
        if let Some(registration) = &mut self.registration {
            registration.check(now);
        }
    }

    fn conflict(&mut self, now: Instant, why: &str, trace: &mut Trace<'_>) {
        if let Some(mut registration) = self.registration.take() {
            registration.conflict();
            self.close(now, registration, why, trace);
        }
    }

    /// An own request failed.
    pub(crate) fn doubt(&mut self, now: Instant, error: DiskError, trace: &mut Trace<'_>) {
        match error {
            DiskError::Conflict => self.conflict(now, "reservation conflict", trace),
            DiskError::Attention(attention) => self.attention(now, attention, trace),
            _ => {}
        }
    }

    fn close(&mut self, now: Instant, registration: Registration, why: &str, trace: &mut Trace<'_>) {
        if self.gate == Gate::Open {
            let what = quorate_base::text::format_cut::<96>(format_args!("reservation in doubt: {why}"));
            trace.event(Event::Note { what: &what });
            self.trace_reservation(&registration, ReservationPhase::Doubt, trace);
        }
        self.gate = Gate::Closed;
        self.registration = Some(registration);
        self.registration_turned(now);
    }

    /// A command of the registration is done.
    pub(crate) fn reservation_answered(
        &mut self,
        now: Instant,
        result: Result<&ReservationAnswer, ReservationError>,
        trace: &mut Trace<'_>,
    ) {
        let Some(mut registration) = self.registration.take() else { return };
        match registration.answered(now, result) {
            Some(Change::Registered) => trace.event(Event::RegisterKey { key: registration.key() }),
            Some(Change::Absent) => {
                self.trace_reservation(&registration, ReservationPhase::Absent, trace);
                return self.close(now, registration, "the own key is not listed", trace);
            }
            Some(Change::Doubt) => return self.close(now, registration, "unit attention", trace),
            // It was looked at while it stood.
            Some(Change::Stands) if self.gate != Gate::Closed => {}
            Some(Change::Stands) if registration.stands() => {
                self.trace_reservation(&registration, ReservationPhase::Stands, trace);
                self.gate = Gate::Look;
            }
            Some(Change::Stands) | None => {}
        }
        self.registration = Some(registration);
        self.registration_turned(now);
    }

    /// What was seen before is from before the turn: another look is needed, and soon.
    fn registration_turned(&mut self, now: Instant) {
        self.gate_turns = self.gate_turns.wrapping_add(1);
        if self.needs_clearance() {
            self.not_before = now;
        }
    }

    fn trace_reservation(&self, registration: &Registration, phase: ReservationPhase, trace: &mut Trace<'_>) {
        trace.event(Event::Reservation { phase, kind: registration.kind() });
    }

    /// The next command of the registration.
    pub(crate) fn poll_registration(&mut self, now: Instant) {
        let master = self.master().is_some();
        if let Some(registration) = &mut self.registration {
            registration.watch(now, master);
        }
        if self.command.is_none()
            && let Some(registration) = &mut self.registration
        {
            self.command = registration.poll(now);
        }
    }

    /// When the registration has something to do.
    pub(crate) fn registration_due(&self) -> Instant {
        self.registration.as_ref().map_or(Instant::FAR, Registration::poll_timeout)
    }

    /// Whether a look at the views is awaited.
    pub(crate) fn needs_clearance(&self) -> bool {
        self.gate == Gate::Look || self.registration.as_ref().is_some_and(Registration::awaits_look)
    }

    /// After a complete scan, and after what is committed was judged.
    pub(crate) fn clear(&mut self, now: Instant) {
        if !self.needs_clearance() || self.scan.gate_turns != self.gate_turns {
            return;
        }
        let excluded = self.look.best.view.excludes(self.me, self.incarnation);
        let for_good = self.view.excludes(self.me, self.incarnation);
        if for_good && self.gate == Gate::Look && self.left_gracefully(now) {
            // It is let go, not put out: its clean mark is still to be written.
        } else if for_good && self.left_for_sure() {
            return self.end(HaltReason::Left);
        } else if for_good {
            // It asked to leave; but it is not registered any more, so it was put out meanwhile.
            return self.end(HaltReason::PutOut { view: self.committed, incarnation: self.incarnation });
        } else if excluded {
            // Accepted, and perhaps not committed yet: it is looked at again.
            self.not_before = self.retry_at(now);
            return;
        }
        let Some(registration) = &mut self.registration else { return };
        if self.gate == Gate::Look {
            self.gate = Gate::Open;
            // What could not be written meanwhile.
            self.next_beat = self.next_beat.min(now);
        } else {
            registration.looked();
        }
    }

    pub(crate) fn take_command(&mut self) -> Option<ReservationOp> {
        self.command.take()
    }
}
