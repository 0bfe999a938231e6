//! What this node knows of the others, from its network and from the disk, and what follows (DESIGN 7): whom it would put
//! out, who is outside of the set that arbitration leaves, and whose join cannot come about because it is not heard.
//!
//! Invariants:
//! - arbitration is judged from what stands on the disk, this node's own row too: all compute from the same;
//! - evidence is of one life: what another life of a node says or writes is none.

use quorate_base::capacity::NODES_MAX;
use quorate_base::event::Event;
use quorate_base::halt::RefuseReason;
use quorate_base::text::format_cut;
use quorate_base::{Incarnation, Instant, NodeId, NodeSet, NodeState};
use quorate_database::Flag;

use super::Membership;
use crate::context::Context;
use crate::message::Refuse;
use crate::survivors::{Contestant, Evidence, Verdict, judge};

/// What was seen at the last beats.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Lately {
    /// Who said "frozen" at the last beat and at the one before. One that thaws says so before a read of this node shows
    /// its beat: of a read that was under way meanwhile it would look like a node that is silent and not frozen.
    frozen: [NodeSet; 2],
    /// This node is outside, and it and some member do not hear each other, since; [`Instant::FAR`]: all do.
    unheard_since: Instant,
    /// Nodes whose join this master refused because it does not hear them.
    refused: NodeSet,
}

impl Default for Lately {
    fn default() -> Self {
        Self { frozen: [NodeSet::EMPTY; 2], unheard_since: Instant::FAR, refused: NodeSet::EMPTY }
    }
}

impl Membership {
    /// Members that the evidence puts out.
    pub(super) fn condemned(&self, ctx: &Context<'_, '_>) -> NodeSet {
        let grace_us = u64::from(self.timing.outage_grace) * 1000;
        let outage = self.thawed_at.is_some_and(|t| ctx.now.since_us(t) < grace_us);
        self.view
            .members()
            .without(self.me)
            .iter()
            .filter(|n| {
                // One that this node hears may still be cut from another: the reach sets decide about all that beat.
                judge(&self.evidence(*n, ctx), &self.timing, outage) == Verdict::Out || self.outside.contains(*n)
            })
            .collect()
    }

    fn evidence(&self, n: NodeId, ctx: &Context<'_, '_>) -> Evidence {
        let (peer, incarnation) = (ctx.lock.peer(n), self.view.incarnation(n));
        let beat = peer.heartbeat.as_ref();
        Evidence {
            heard: ctx.net.heard(n, incarnation),
            disk_silent: ctx.lock.disk_silent(n),
            still_us: peer.still_us,
            over: beat.is_some_and(|h| h.incarnation > incarnation || (h.incarnation == incarnation && h.clean)),
            frozen: says_frozen(n, ctx) || self.lately.frozen.iter().any(|f| f.contains(n)),
        }
    }

    /// At each beat.
    pub(super) fn on_beat(&mut self, ctx: &mut Context<'_, '_>) {
        let frozen = self.view.members().iter().filter(|n| says_frozen(*n, ctx)).collect();
        self.lately.frozen = [frozen, self.lately.frozen[0]];
        self.arbitrate(ctx);
        self.notice_unheard(ctx);
    }

    /// Who would be out by the reach sets that stand on the disk.
    fn arbitrate(&mut self, ctx: &mut Context<'_, '_>) {
        let mut contestants = [Contestant::default(); NODES_MAX];
        let mut alive = NodeSet::EMPTY;
        for n in self.view.members() {
            let block = ctx.lock.peer(n).heartbeat.as_ref().filter(|h| h.incarnation == self.view.incarnation(n));
            let Some(h) = block.filter(|h| n == self.me || !(h.clean || ctx.lock.disk_silent(n))) else { continue };
            contestants[n.index()] = Contestant {
                hears: h.hears,
                joining: self.view.state(n) == NodeState::Joining,
                carrier: h.carrier,
                weight: self.weights[n.index()],
                master: h.flag == Flag::Hold,
            };
            alive.insert(n);
        }
        let outside = if alive.contains(self.me) && self.state().is_member() {
            self.settling.observe(ctx.now, &self.timing, alive, &contestants)
        } else {
            NodeSet::EMPTY
        };
        if outside != self.outside {
            let what = format_cut::<96>(format_args!("arbitration: outside of the reach set: {outside}"));
            ctx.trace.event(Event::Note { what: &what });
            self.outside = outside;
        }
    }

    /// A join that cannot come about because two nodes do not hear each other is refused by name (DESIGN 7), also where the
    /// cut keeps the request or the answer away. The disk is the third voice: the outsider reads there who does not hear
    /// it, the master who is there and is not heard.
    fn notice_unheard(&mut self, ctx: &mut Context<'_, '_>) {
        if self.state() == NodeState::Inactive {
            self.refuse_myself(ctx);
        }
        // The turn that brings the beat may have brought the loss of the lock, too: that event comes next.
        let holds = |ballot| ctx.lock.master() == Some(ballot) && !ctx.lock.frozen(ctx.now);
        if self.leads && self.master.as_ref().is_some_and(|m| holds(m.ballot())) {
            self.refuse_unheard(ctx);
        }
    }

    /// As long as an admission may take to find that somebody is not heard.
    fn patience_us(&self) -> u64 {
        u64::from(self.timing.net_suspect) * 3000
    }

    fn refuse_myself(&mut self, ctx: &mut Context<'_, '_>) {
        let deaf = |m: &NodeId| {
            let incarnation = self.view.incarnation(*m);
            let block = ctx.lock.peer(*m).heartbeat.as_ref().filter(|h| h.incarnation == incarnation && !h.clean);
            let heard = |hears: NodeSet| hears.contains(self.me) && ctx.net.heard(*m, incarnation);
            block.is_some_and(|h| !ctx.lock.disk_silent(*m) && !heard(h.hears))
        };
        let by = self.view.members().without(self.me).iter().find(deaf);
        let Some(node) = by else {
            self.lately.unheard_since = Instant::FAR;
            self.refused = self.refused.filter(|r| !r.reason.is_passing());
            return;
        };
        self.lately.unheard_since = self.lately.unheard_since.min(ctx.now);
        if self.leaving || ctx.now.since_us(self.lately.unheard_since) < self.patience_us() {
            return;
        }
        let refuse =
            Refuse { ballot: self.ballot, incarnation: self.incarnation, reason: RefuseReason::NotHeardBy { node } };
        self.take_refusal(refuse, ctx);
    }

    fn refuse_unheard(&mut self, ctx: &mut Context<'_, '_>) {
        for n in NodeId::first(self.nodes).filter(|n| self.view.state(*n) == NodeState::Inactive) {
            let entry = self.view.incarnation(n);
            let block = ctx.lock.peer(n).heartbeat.as_ref().filter(|h| h.incarnation > entry && !h.clean);
            let waits = block.filter(|_| !ctx.lock.disk_silent(n)).filter(|h| {
                // Its counter says how many beats it has been there.
                let there_us = h.counter.saturating_mul(u64::from(self.timing.disk_heartbeat) * 1000);
                there_us >= self.patience_us() && !ctx.net.heard(n, h.incarnation)
            });
            let waits = waits.map(|h| h.incarnation).filter(|i| *i != Incarnation::NEVER);
            let Some(incarnation) = waits else {
                self.lately.refused.remove(n);
                continue;
            };
            if self.lately.refused.insert(n) {
                let text = format_cut::<96>(format_args!("{}", RefuseReason::NotHeardBy { node: self.me }));
                ctx.trace.event(Event::Refuse { peer: n, incarnation, reason: &text });
            }
        }
    }
}

/// By its last heartbeat, on the network or on the disk.
fn says_frozen(n: NodeId, ctx: &Context<'_, '_>) -> bool {
    let frame = ctx.net.peer(n).heartbeat.as_ref().is_some_and(|h| h.status.frozen);
    frame || ctx.lock.peer(n).heartbeat.as_ref().is_some_and(|h| h.frozen)
}
