//! By time: waits until a node that was put out has certainly stopped by itself, because its lease has run out.
//!
//! After the commit the victim's heartbeat is read; it is over `dead` after the completion of the master's first read that
//! showed that counter. Another life in the block proves nothing about the old one, and a block that this read could not read
//! may hold a later counter: then it counts from the commit. A clean mark of that very life does: nothing is written after
//! it.

use quorate_base::{Incarnation, Instant, NodeId, Timing};
use quorate_master_lock::{MasterLock, Rule};

/// Whether the heartbeat block says that this life wrote its last.
pub(crate) fn is_clean(victim: NodeId, incarnation: Incarnation, lock: &MasterLock) -> bool {
    lock.peer(victim).heartbeat.as_ref().is_some_and(|h| h.incarnation == incarnation && h.clean)
}

/// When the lease of a life that was put out has certainly run out. To be called after a read that was completed after the
/// commit.
pub(crate) fn over_at(
    now: Instant,
    victim: NodeId,
    incarnation: Incarnation,
    lock: &MasterLock,
    timing: &Timing,
) -> Instant {
    let peer = lock.peer(victim);
    match &peer.heartbeat {
        Some(h) if h.incarnation == incarnation && h.clean => now,
        Some(h) if h.incarnation == incarnation && peer.readable => peer.changed_at.plus_ms(timing.dead),
        Some(_) if !lock.keeps(Rule::NewLifeProvesNothing) => now,
        _ => now.plus_ms(timing.dead),
    }
}
