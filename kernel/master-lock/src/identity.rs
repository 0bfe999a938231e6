//! Two machines that boot at once under one node id: at most one of them ever writes the ballot block (DESIGN 3 *birth*).
//!
//! Each life does these in this order, and each write is durable before the read that follows it:
//!
//! ```text
//! identity written ─► own heartbeat block read ─► own heartbeat written ─► identity slots read ─► ballot block open
//!                       │ another life's                                     │ another's write
//!                       └ halt, unwritten                                    └ halt
//! ```
//! Why that is enough, however late any of it is and whatever the clocks do (it is the splitter of Moir and Anderson 1995,
//! after Lamport's fast mutual exclusion of 1987): take two lives A and B, and let A's identity land first. If B's lands
//! before A's last read, A sees it there: in its own slot, or in the other one, which B takes if it booted from A's
//! identity; what stands there is not what A wrote and found, because no nonce comes twice. So A halts. Else A's last read
//! came before B's identity landed, and A's heartbeat before that; B reads the heartbeat block after its own identity, so it
//! sees A's heartbeat there and halts, unwritten. Never do both go on; a third life is seen in the same ways.
//!
//! Assumed: B's birth did not find A's heartbeat there already. If it did, A was beating before B had looked around, and B
//! watched it stand still for `dead`. So a life whose own heartbeats came further apart than such a watch may last does the
//! same once more, from its own heartbeat block on: its identity counts as landed long ago, and till the identity slots are
//! read the ballot block is closed again. A life whose heartbeats came closer was not taken for dead.
//!
//! It costs one read of two records in the first beat of a life and after a stall of `dead`, and no waiting. The wait of a
//! beat before the first read back makes it likely that one of the two lives on: without it each may see the other.

use quorate_base::capacity::RECORD_PITCH;
use quorate_base::{BootNonce, ClusterId, DiskError, DiskOp, HaltReason, Instant, NodeId};
use quorate_database::{Block, Identity, layout};

use crate::cycle::{Purpose, Step};
use crate::lock::MasterLock;
use crate::rules::Rule;

/// What a life wrote into its identity slot, and what stood in the other one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OwnIdentity {
    /// The slot that was written, 0 or 1.
    pub slot: u8,
    /// The nonce in the other slot, if birth found a valid identity there.
    pub beside: Option<BootNonce>,
}

impl OwnIdentity {
    /// The read of both slots.
    pub fn read(node: NodeId) -> DiskOp {
        DiskOp::Read { first: layout::identity(node, 0), count: 2 }
    }

    /// Checks what [`read`](Self::read) gave.
    ///
    /// # Errors
    /// The reason to halt: another life's nonce in either slot, or the own one that cannot be read.
    pub fn check(&self, bytes: &[u8], cluster: ClusterId, me: NodeId, nonce: BootNonce) -> Result<(), HaltReason> {
        let slot = |slot: u8| {
            let at = usize::from(slot) * RECORD_PITCH as usize;
            Identity::decode(bytes.get(at..).unwrap_or(&[]), cluster, me, slot)
        };
        match slot(self.slot & 1) {
            Block::Good(own) if own.nonce == nonce => {}
            Block::Good(other) => return Err(HaltReason::ForeignNonce { found: other.nonce }),
            _ => {
                return Err(HaltReason::DatabaseDamaged { what: "this node's identity could not be read back" });
            }
        }
        match slot(1 - (self.slot & 1)) {
            Block::Good(other) if Some(other.nonce) != self.beside => {
                Err(HaltReason::ForeignNonce { found: other.nonce })
            }
            _ => Ok(()),
        }
    }
}

/// A read that the medium fails so often in a row is not tried again.
const TRIES_MAX: u8 = 5;

/// The identity of this life, and whether it is to be read once more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Guarded {
    identity: OwnIdentity,
    /// It was read after a heartbeat, and nobody may have taken this life for dead since.
    sure: bool,
    /// How often the medium failed to give it.
    tries: u8,
}

impl MasterLock {
    /// This life wrote this identity: after its first heartbeat is durable it is read once more, and before that nothing is
    /// written into the ballot block; and again whenever the own heartbeats stood still for long enough to be taken for dead.
    /// Told before the first input.
    pub fn guard_identity(&mut self, identity: OwnIdentity) {
        let guarded = Guarded { identity, sure: false, tries: 0 };
        self.identity = self.rules.keep(Rule::IdentityAfterBeat).then_some(guarded);
    }

    /// Whether it is not yet sure that no other machine writes this node's blocks.
    pub(crate) fn is_identity_unsure(&self) -> bool {
        self.identity.is_some_and(|guarded| !guarded.sure)
    }

    /// An own heartbeat is durable; the one before it was submitted at `before`.
    pub(crate) fn notice_gap(&mut self, now: Instant, before: Instant) {
        // `dead` of a watch whose clock is fast by 1 %, on an own one that is slow by as much.
        let watch_us = u64::from(self.timing.dead) * 980;
        if let Some(guarded) = self.identity.as_mut().filter(|_| now.since_us(before) >= watch_us) {
            (guarded.sure, guarded.tries) = (false, 0);
        }
    }

    /// After a durable heartbeat: the read that is still owed, if it is.
    pub(crate) fn begin_identity(&mut self, now: Instant) -> bool {
        let unsure = self.is_identity_unsure();
        if unsure {
            self.request(now, Step::Identity, OwnIdentity::read(self.me));
        }
        unsure
    }

    pub(crate) fn identity_completed(&mut self, now: Instant, result: Result<&[u8], DiskError>) {
        let Some(Guarded { identity, tries, .. }) = self.identity else { return };
        match result.map(|bytes| identity.check(bytes, self.cluster, self.me, self.nonce)) {
            Ok(Ok(())) => {
                self.identity = Some(Guarded { identity, sure: true, tries: 0 });
                self.begin_scan(now, Purpose::BeatSecond);
            }
            Ok(Err(reason)) => self.end(reason),
            // A slot that has gone bad will not read better; this node would hold up the others for ever.
            Err(error @ DiskError::Medium) if tries + 1 >= TRIES_MAX => self.end(HaltReason::Disk { error }),
            // The disk's trouble: again with the next beat.
            Err(error) => {
                let tries = tries + u8::from(error == DiskError::Medium);
                self.identity = Some(Guarded { identity, sure: false, tries });
                self.pause(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_base::Incarnation;
    use quorate_base::capacity::RECORD_BYTES;
    use quorate_database::MachineId;

    use super::*;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    fn me() -> NodeId {
        NodeId::new(1).unwrap()
    }

    /// Both slots: who wrote them.
    fn slots(nonces: [Option<u64>; 2]) -> [u8; 2 * RECORD_PITCH as usize] {
        let mut bytes = [0; 2 * RECORD_PITCH as usize];
        for (slot, nonce) in nonces.into_iter().enumerate() {
            let Some(nonce) = nonce else { continue };
            let machine = MachineId { uuid: Some([1; 16]), mac: None };
            let identity =
                Identity { incarnation: Incarnation(3), nonce: BootNonce(nonce), machine, nexus_reset: true };
            let at = slot * RECORD_PITCH as usize;
            bytes[at..at + RECORD_BYTES].copy_from_slice(&identity.encode(CLUSTER, me(), slot as u8));
        }
        bytes
    }

    #[test]
    fn design_3_birth_a_foreign_nonce_in_either_identity_slot_halts() {
        let check = |slot: u8, beside: Option<u64>, found: [Option<u64>; 2]| {
            let own = OwnIdentity { slot, beside: beside.map(BootNonce) };
            own.check(&slots(found), CLUSTER, me(), BootNonce(5))
        };
        let foreign = |nonce| Err(HaltReason::ForeignNonce { found: BootNonce(nonce) });
        // As it was written and found: the first life, the next one, one beside a damaged slot.
        assert_eq!(check(0, None, [Some(5), None]), Ok(()));
        assert_eq!(check(1, Some(4), [Some(4), Some(5)]), Ok(()));
        assert_eq!(check(0, Some(4), [Some(5), None]), Ok(()));
        // Another machine read what this one read, or booted from what this one wrote.
        assert_eq!(check(0, None, [Some(6), None]), foreign(6));
        assert_eq!(check(0, None, [Some(5), Some(6)]), foreign(6));
        assert_eq!(check(1, Some(4), [Some(6), Some(5)]), foreign(6));
        assert!(matches!(check(0, None, [None, None]), Err(HaltReason::DatabaseDamaged { .. })));
        assert!(matches!(
            OwnIdentity { slot: 1, beside: None }.check(&[], CLUSTER, me(), BootNonce(5)),
            Err(HaltReason::DatabaseDamaged { .. })
        ));
    }
}
