//! For the model checker: what of a machine decides its future, and nothing else.
//!
//! Two machines with one fingerprint answer the same inputs alike, but for a shift of their clocks: instants count from
//! `now`, and one that lies so far back that nothing asks for it any more is only *long ago*. Left out are the places of
//! nodes that are not configured, request tags, what only the trace and `status` ask for, and a scan that is over.

use core::hash::{Hash, Hasher};

use quorate_base::{Incarnation, Instant, NodeId, View};
use quorate_database::layout::Region;
use quorate_database::{BallotBlock, Block, Heartbeat, Predecessor};

use crate::cycle::{Accepted, Step};
use crate::lock::MasterLock;
use crate::rules::Rules;

/// How fine a fingerprint is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Detail {
    /// Heartbeat counters count modulo this. The disk has to show them in the same way.
    pub counters: u64,
    /// Since when each heartbeat stands: only the lease fence asks for it.
    pub changed_at: bool,
}

struct Print<'a, H> {
    into: &'a mut H,
    now: Instant,
    nodes: u8,
    counters: u64,
}

impl<H: Hasher> Print<'_, H> {
    fn put(&mut self, value: impl Hash) {
        value.hash(self.into);
    }

    /// An instant; more than `matters_ms` back is long ago.
    fn time(&mut self, at: Instant, matters_ms: u32) {
        let long_ago = u64::from(matters_ms) * 1000 + 1;
        self.put(match at {
            Instant::FAR => i64::MAX,
            at if at >= self.now => at.since_us(self.now) as i64,
            at => -(self.now.since_us(at).min(long_ago) as i64),
        });
    }

    fn view(&mut self, view: &View) {
        self.put(view.number);
        for n in NodeId::first(self.nodes) {
            self.put((view.state(n), view.incarnation(n)));
        }
    }

    fn predecessor(&mut self, predecessor: &Predecessor) {
        self.put(predecessor.ballot);
        self.view(&predecessor.view);
    }

    fn accepted(&mut self, accepted: &Accepted) {
        self.put(accepted.ballot);
        self.view(&accepted.view);
        self.predecessor(&accepted.predecessor);
    }

    fn heartbeat(&mut self, h: &Heartbeat) {
        self.put(Heartbeat { counter: h.counter % self.counters, lamport: 0, ..*h });
    }

    fn ballot(&mut self, b: &BallotBlock) {
        self.put((b.incarnation, b.nonce, b.sequence, b.promised, b.accepted));
        self.view(&b.view);
        self.predecessor(&b.predecessor);
    }
}

impl MasterLock {
    /// This machine keeps only these rules.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Which node it is.
    pub fn node(&self) -> NodeId {
        self.me
    }

    /// Which life of it.
    pub fn life(&self) -> Incarnation {
        self.incarnation
    }

    /// The tag of the request that is under way.
    pub fn tag_under_way(&self) -> u32 {
        self.current_tag().0
    }

    /// The view that is being committed.
    pub fn proposal(&self) -> Option<&View> {
        self.proposal.as_ref()
    }

    /// Until when something of an old life without a clean mark may still land, whatever rules are kept.
    pub fn old_writes_until(&self) -> Option<Instant> {
        self.quarantine
    }

    /// Writes what decides this machine's future.
    pub fn fingerprint(&self, now: Instant, detail: Detail, into: &mut impl Hasher) {
        let timing = self.timing;
        let p = &mut Print { into, now, nodes: self.nodes, counters: detail.counters.max(1) };
        p.put((self.me, self.incarnation, self.nonce, self.ended));
        if self.ended {
            return;
        }
        // The request that is under way.
        p.put((self.step, self.scan.purpose, self.kick));
        if self.step == Step::Heartbeat {
            p.time(self.issued, timing.lease);
        }
        // Where a beat is as short as the shortest pause, there is no hurrying.
        if timing.disk_heartbeat > 1 {
            p.put(self.hurry);
        }
        if self.step == Step::Scan {
            let scan = &self.scan;
            p.put((
                scan.next,
                scan.count,
                scan.single_below,
                scan.complete,
                scan.adopt,
                scan.own_heartbeat,
                scan.own_shown,
                scan.own_ballot_lost,
                scan.foreign,
                scan.marks,
            ));
            p.put(scan.foreign && scan.own_seen_before);
            if scan.first_slot.good().is_some()
                && let Region::Ballot(n, slot) = Region::of(scan.next.saturating_sub(1))
                && let Block::Good(b) = BallotBlock::decode(&scan.first_bytes, self.cluster, n, slot)
            {
                p.ballot(&b);
            }
            p.put(scan.look.promised);
            p.accepted(&scan.look.best);
        }
        p.time(self.next_beat, timing.disk_heartbeat);
        p.time(self.not_before, 0);
        p.time(self.wake, 0);
        p.time(self.last_scan, 2 * timing.disk_heartbeat);
        // What the disk showed.
        for n in NodeId::first(self.nodes) {
            let peer = &self.peers[n.index()];
            p.put((peer.readable, peer.promised, peer.silent, peer.bad, peer.stale));
            p.put(peer.heartbeat.is_some());
            if let Some(h) = &peer.heartbeat {
                p.heartbeat(h);
            }
            p.time(peer.since, timing.disk_suspect);
            p.time(peer.unreadable_since, timing.dead);
            p.time(peer.slots_since, timing.dead);
            if detail.changed_at {
                p.time(peer.changed_at, timing.dead);
            }
        }
        p.put((self.look.promised, self.marks, self.highest));
        p.accepted(&self.look.best);
        // This node's own blocks.
        p.put((self.birth, self.identity, self.counter % p.counters, self.flag, self.heartbeat_doubt, self.own_slot));
        p.put(self.counter_taken % p.counters);
        p.put((self.own_known, self.own_stale, self.own_seen, self.foreign));
        p.time(self.own_damaged_since, timing.dead);
        let gap = if self.identity.is_some() { timing.dead } else { timing.lease };
        p.time(self.heartbeat_issued.unwrap_or(Instant::FAR), gap);
        p.ballot(&self.own);
        p.put(self.quarantine.is_some());
        p.time(self.quarantine.unwrap_or(Instant::FAR), 0);
        // The lock.
        p.put((self.phase, self.want, self.releasing, self.farewell));
        p.put(self.proposal.is_some());
        if let Some(view) = &self.proposal {
            p.view(view);
        }
        let lease = &self.lease;
        p.time(lease.until, 0);
        p.time(lease.writes_until, 0);
        p.put((lease.had, lease.owed.is_some(), lease.frozen));
        p.time(lease.owed.unwrap_or(Instant::FAR), 0);
        p.time(lease.excluded_since, timing.dead);
        p.put((self.gate, &self.registration, self.command.is_some()));
        p.put((self.status, self.committed, self.unjudged, self.let_go));
        p.view(&self.view);
    }
}
