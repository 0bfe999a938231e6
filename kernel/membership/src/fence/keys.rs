//! By the disk: the victim's registration is removed, and what it has under way is over (SPC-4 §5.13.11).
//!
//! ```text
//!           READ KEYS                PREEMPT AND ABORT             READ KEYS         settled
//! Sought ──────────────► Found ──────────────────────► Removed ──────────────► Gone ─────────► through
//!   │ absent               ▲ │  │ no such command          │ it is there again
//!   ▼                      │ │  ▼ PREEMPT                  └──► Found
//! Absent ◄── absent ── Unsure │ Unended ─ LOGICAL UNIT RESET ─► Removed (where they linger)
//!   │                      ▲  │
//!   │                      └──┘ the fate of the command is unknown
//!   └──────────────── settled, and the lease is over as well ─────────────────────────────────► through
//! ```
//! *Settled*: what the disk had accepted of the victim before its registration went is over. The answer to PREEMPT AND ABORT
//! does not say so: tgt has no such command and carries out what it accepted, LIO ends the commands of the reservation's
//! holder only, and a LOGICAL UNIT RESET need not reach the disk. So a read that is sent after that answer comes back, which
//! on a disk that works in order comes after all of them; and where the superblock does not say that preempted commands end,
//! `io_max` has gone by.
//!
//! An absent key proves nothing unless this fence removed it: the victim may have lost its registration by a reconnect, or its
//! next life has the same nexus and took the registration over. So then the lease decides, too; a victim without a
//! registration cannot begin a write meanwhile. The same if this fence may have removed it and does not know. That a next
//! life had its nexus reset before it registered proves nothing either: whether it has the same nexus nobody can know.

use quorate_base::reservation::Keys;
use quorate_base::{BootNonce, Incarnation, Instant, NodeId, Preempted, ReservationKey, Timing};

/// How far the removal of one key has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hunt {
    /// The keys are to be read.
    Sought,
    /// This is it; it is to be preempted.
    Found(ReservationKey),
    /// It was preempted; what it had under way is to be ended by a reset.
    Unended(ReservationKey),
    /// Preempted; the keys are to prove it.
    Removed(ReservationKey),
    /// The command was not answered: the keys say whether it is to be repeated.
    Unsure(ReservationKey),
    /// It is not there, and this fence does not know why.
    Absent,
    /// This fence removed it.
    Gone,
}

/// Whether what the disk had accepted of a victim is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Settling {
    /// By time, whatever the disk does.
    until: Instant,
    /// A read that was sent after the registration went came back.
    read: bool,
}

impl Settling {
    /// The registration is known to be gone, from now on at the latest.
    pub(crate) fn begin(now: Instant, preempted: Preempted, timing: &Timing) -> Self {
        let until = match preempted {
            // The own clock may be fast by 1 %.
            Preempted::Lingers => now.plus_us((u64::from(timing.io_max) * 100_000).div_ceil(99)),
            Preempted::Ends => now,
        };
        Self { until, read: false }
    }

    /// The read came back.
    pub(crate) fn take_read(&mut self) {
        self.read = true;
    }

    /// The read is still to be sent, or was not answered.
    pub(crate) fn wants_read(&self) -> bool {
        !self.read
    }

    /// When nothing but time is missing: then.
    pub(crate) fn due(&self) -> Instant {
        if self.read { self.until } else { Instant::FAR }
    }
}

impl Hunt {
    /// What is being waited for, in words.
    pub const fn waits_for(self) -> &'static str {
        match self {
            Self::Sought => "the fence: the reservation's keys to be read",
            Self::Found(_) => "the fence: its key to be preempted",
            Self::Unended(_) => "the fence: the disk to be reset",
            Self::Removed(_) | Self::Unsure(_) => "the fence: the keys to be read as proof",
            Self::Absent => "the fence: its key is absent, so its lease to run out",
            Self::Gone => "the fence: what the disk had accepted of it to be over",
        }
    }

    /// Whether the keys are to be read for it.
    pub(crate) const fn wants_keys(self) -> bool {
        matches!(self, Self::Sought | Self::Removed(_) | Self::Unsure(_))
    }

    /// The keys were read. `early`: the command may have been sent before the commit, so that an absent key says nothing.
    pub(crate) fn take_keys(self, found: Option<ReservationKey>, early: bool) -> Self {
        match (self, found) {
            (Self::Sought | Self::Removed(_) | Self::Unsure(_), Some(key)) => Self::Found(key),
            (Self::Sought, None) if early => Self::Sought,
            (Self::Sought | Self::Unsure(_), None) => Self::Absent,
            (Self::Removed(_), None) => Self::Gone,
            (other, _) => other,
        }
    }
}

/// The key of a life among those that are registered. The nonce is known if the life's blocks were read.
pub(crate) fn key_of(
    keys: &Keys,
    node: NodeId,
    incarnation: Incarnation,
    nonce: Option<BootNonce>,
) -> Option<ReservationKey> {
    keys.keys.iter().copied().find(|key| {
        key.owner().is_some_and(|owner| {
            owner.node == node
                && owner.incarnation == incarnation
                && nonce.is_none_or(|nonce| nonce.0 as u16 == owner.nonce_bits)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(node: u8, incarnation: u32, nonce: u64) -> ReservationKey {
        ReservationKey::new(NodeId::new(node).unwrap(), Incarnation(incarnation), BootNonce(nonce))
    }

    #[test]
    fn exactly_the_victims_life_is_found() {
        let mut keys = Keys::default();
        for k in [key(1, 3, 7), key(2, 2, 7), key(2, 3, 8), ReservationKey(99), key(2, 4, 9)] {
            keys.keys.push(k).unwrap();
        }
        let two = NodeId::new(2).unwrap();
        assert_eq!(key_of(&keys, two, Incarnation(3), None), Some(key(2, 3, 8)));
        assert_eq!(key_of(&keys, two, Incarnation(3), Some(BootNonce(0x1_0008))), Some(key(2, 3, 8)));
        assert_eq!(key_of(&keys, two, Incarnation(3), Some(BootNonce(7))), None, "another machine under that id");
        assert_eq!(key_of(&keys, two, Incarnation(5), None), None);
    }

    #[test]
    fn design_7_an_absent_key_proves_nothing_unless_this_fence_removed_it() {
        let k = key(2, 3, 8);
        assert_eq!(Hunt::Sought.take_keys(None, false), Hunt::Absent);
        assert_eq!(Hunt::Sought.take_keys(None, true), Hunt::Sought, "read before the commit");
        assert_eq!(Hunt::Sought.take_keys(Some(k), true), Hunt::Found(k));
        assert_eq!(Hunt::Unsure(k).take_keys(None, false), Hunt::Absent);
        assert_eq!(Hunt::Unsure(k).take_keys(Some(k), false), Hunt::Found(k));
        assert_eq!(Hunt::Removed(k).take_keys(None, false), Hunt::Gone);
        assert_eq!(Hunt::Removed(k).take_keys(Some(k), false), Hunt::Found(k), "it registered again");
        assert_eq!(Hunt::Unended(k).take_keys(None, false), Hunt::Unended(k), "its requests are not ended");
    }

    #[test]
    fn design_7_what_was_accepted_is_over_after_a_read_and_where_it_lingers_after_io_max_of_the_slowest_clock() {
        let (now, timing) = (Instant::ZERO.plus_ms(1000), Timing::DEFAULT);
        let mut ends = Settling::begin(now, Preempted::Ends, &timing);
        assert!(ends.wants_read() && ends.due() == Instant::FAR, "a read must come back, whatever the disk is");
        ends.take_read();
        assert_eq!((ends.wants_read(), ends.due()), (false, now));
        let mut lingers = Settling::begin(now, Preempted::Lingers, &timing);
        assert_eq!(lingers.due(), Instant::FAR);
        lingers.take_read();
        let waited_us = lingers.due().since_us(now);
        assert!(waited_us * 99 >= u64::from(timing.io_max) * 100_000 && waited_us < u64::from(timing.io_max) * 1020);
    }
}
