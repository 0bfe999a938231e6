//! The lease fence: waits until a node that was put out has certainly stopped writing (DESIGN 7).
//!
//! After the commit the victim's heartbeat is read; the fence is done `dead` after the completion of the master's first
//! read that showed that counter. Another life in the block proves nothing about the old one: then it counts from the
//! commit. A clean mark of that very life does: nothing is written after it.

use quorate_base::event::{Event, Trace};
use quorate_base::{FenceMethod, Incarnation, Instant, NodeId, Timing};
use quorate_master_lock::{MasterLock, Rule};

/// The fence of one victim.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LeaseFence {
    incarnation: Incarnation,
    due: Instant,
    done: bool,
}

impl LeaseFence {
    /// Begins. To be called after a read that was completed after the commit.
    pub fn begin(
        now: Instant,
        victim: NodeId,
        incarnation: Incarnation,
        lock: &MasterLock,
        timing: &Timing,
        trace: &mut Trace<'_>,
    ) -> Self {
        let method = FenceMethod::Lease;
        trace.event(Event::FenceBegin { peer: victim, incarnation, method, ok: true });
        let peer = lock.peer(victim);
        let due = match &peer.heartbeat {
            Some(h) if h.incarnation == incarnation && h.clean => now,
            Some(h) if h.incarnation == incarnation => peer.changed_at.plus_ms(timing.dead),
            Some(_) if !lock.keeps(Rule::NewLifeProvesNothing) => now,
            _ => now.plus_ms(timing.dead),
        };
        Self { incarnation, due, done: false }
    }

    /// When it is due; `FAR` once it is done.
    pub fn due(&self) -> Instant {
        if self.done { Instant::FAR } else { self.due }
    }

    /// Whether the victim has certainly stopped writing.
    pub fn poll(&mut self, now: Instant, victim: NodeId, trace: &mut Trace<'_>) -> bool {
        if !self.done && now >= self.due {
            self.done = true;
            trace.event(Event::Fence {
                peer: victim,
                incarnation: self.incarnation,
                method: FenceMethod::Lease,
                ok: true,
            });
        }
        self.done
    }
}
