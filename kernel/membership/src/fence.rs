//! The fence: what stands between *forced-leaving committed* and *recovery may touch what the dead node owned* (DESIGN 7).
//!
//! ```text
//!               by lease                         by reservation (fence/keys.rs)
//! begin ──► lease counted from the commit   key sought ─► preempted ─► READ KEYS shows it gone
//!   │              │ over                        │ absent, whatever the reason        │ settled, the reservation stands
//!   │              ▼                             ▼                                    ▼
//!   │           through ◄ lease over, settled ─ by time after all                  through
//!   └─ `stopped`, with either method: the lease is over as well, or the victim's own word that it halted came
//! ```
//! Levels from 20 up hear of a forced leave when the fence is *through*: nothing of that life reaches the disk any more.
//! Levels from 100 up (services) hear of it when that life has *stopped* as well: fenced is not stopped.

pub(crate) mod keys;
pub(crate) mod lease;
pub(crate) mod sweep;

use quorate_base::event::{Event, Trace};
use quorate_base::{FenceMethod, Incarnation, Instant, LevelOrder, NodeId, Preempted, ReservationKey, Timing};
use quorate_master_lock::MasterLock;

pub use keys::Hunt;
use keys::Settling;
pub use sweep::Command;

/// How one victim is fenced.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Means {
    /// By time.
    Lease,
    /// By its key.
    Reservation(Hunt),
}

/// The fence of one victim.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fence {
    incarnation: Incarnation,
    /// How.
    pub(crate) means: Means,
    /// When its lease has certainly run out.
    lease_over: Instant,
    /// Whether what the disk had accepted of it is over; counts once its key is gone or absent.
    pub(crate) settling: Settling,
    /// The trace says that it began.
    begun: bool,
    through: bool,
    /// That moment has come.
    over: bool,
    /// What the disk had accepted is over.
    settled: bool,
    /// It serves nobody any more: that moment has come, or it said so itself.
    stopped: bool,
}

impl Fence {
    /// Begins. To be called after a read that was completed after the commit. `seen` is the victim's key, if it was read
    /// already.
    pub fn begin(
        now: Instant,
        (victim, incarnation): (NodeId, Incarnation),
        lock: &MasterLock,
        timing: &Timing,
        seen: Option<ReservationKey>,
    ) -> Self {
        let lease_over = lease::over_at(now, victim, incarnation, lock, timing);
        let means = match lock.registration() {
            // Nothing is written after a clean mark: there is nothing to be kept out.
            Some(_) if lease::is_clean(victim, incarnation, lock) => Means::Lease,
            Some(_) => Means::Reservation(seen.map_or(Hunt::Sought, Hunt::Found)),
            None => Means::Lease,
        };
        let settling = Settling::begin(now, Preempted::default(), timing);
        Self {
            incarnation,
            means,
            lease_over,
            settling,
            begun: false,
            through: false,
            over: false,
            settled: false,
            stopped: false,
        }
    }

    /// How it is done, or was: by time also if the key proved nothing.
    pub fn method(&self) -> FenceMethod {
        match self.means {
            Means::Lease | Means::Reservation(Hunt::Absent) => FenceMethod::Lease,
            Means::Reservation(_) => FenceMethod::Reservation,
        }
    }

    /// Nothing of that life reaches the disk any more.
    pub fn is_through(&self) -> bool {
        self.through
    }

    /// Whether a level may hear of the forced leave.
    pub fn lets(&self, level: LevelOrder) -> bool {
        level < LevelOrder::FENCED_FROM || self.through && (level < LevelOrder::USER_FROM || self.stopped)
    }

    /// When [`poll`](Self::poll) is due by time; `FAR` once that is over.
    pub fn due(&self) -> Instant {
        let lease = if self.over { Instant::FAR } else { self.lease_over };
        let settles = !self.through && matches!(self.means, Means::Reservation(Hunt::Gone | Hunt::Absent));
        // What came already waits for something else than time.
        if settles && !self.settled { lease.min(self.settling.due()) } else { lease }
    }

    /// A read that is to come back before it is through.
    pub(crate) fn wants_read(&self) -> bool {
        let gone = matches!(self.means, Means::Reservation(Hunt::Gone | Hunt::Absent));
        gone && !self.through && self.settling.wants_read()
    }

    /// What is being waited for, in words.
    pub fn waits_for(&self) -> &'static str {
        match self.means {
            _ if self.through => "its lease to run out",
            Means::Lease => "the fence, its lease to run out",
            Means::Reservation(hunt) => hunt.waits_for(),
        }
    }

    /// Looks whether it is through. Asked only while the master may act: one that learns while it is frozen that its view is
    /// committed fences nobody yet.
    ///
    /// `halted`: the victim's own sealed word that it ended. What it had under way may still land. `kept_out`: the reservation
    /// is known to stand, looked at since the last key was removed.
    pub fn poll(&mut self, now: Instant, victim: NodeId, halted: bool, kept_out: bool, trace: &mut Trace<'_>) {
        let (incarnation, method) = (self.incarnation, self.method());
        if !core::mem::replace(&mut self.begun, true) {
            trace.event(Event::FenceBegin { peer: victim, incarnation, method, ok: true });
        }
        self.over |= now >= self.lease_over;
        self.stopped |= self.over || halted;
        self.settled = now >= self.settling.due();
        let through = match self.means {
            Means::Lease => self.over,
            Means::Reservation(Hunt::Absent) => self.over && self.settled,
            Means::Reservation(hunt) => hunt == Hunt::Gone && self.settled && kept_out,
        };
        if through && !self.through {
            self.through = true;
            trace.event(Event::Fence { peer: victim, incarnation, method, ok: true });
        }
    }
}
