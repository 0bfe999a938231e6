//! From one epoch to the next (virtual synchrony's flush): all that are to be in it stop, the longest chain is completed, and
//! the next one begins after it.
//!
//! Who calls it up: the lowest node that has begun this epoch and stays. Two that both think so (one knows more than the other)
//! bid with epochs of different names; the later one wins, because everybody's promise is needed.
//!
//! Invariants: who has promised takes and orders nothing of earlier epochs; what it held then it holds at the begin of the
//! next one; a frame above the chain's end that was ordered and held by nobody who lives is delivered nowhere, and whoever
//! sent it sends it again.

use quorate_base::capacity::NODES_MAX;
use quorate_base::{Incarnation, Instant, NodeId, NodeSet, RoundId};
use quorate_interconnect::Destination;

use crate::capacity::REPEAT_US;
use crate::engine::{Context, Engine, Epoch, Known};
use crate::epoch::{EpochId, Roster};
use crate::message::Message;
use crate::store::Store;
use crate::tables::Tables;

/// Who has promised another's epoch waits so long for it before it calls up one of its own.
const DEFER_US: u64 = 10 * REPEAT_US;

/// Frames that are fetched at a time.
const FETCH_MAX: usize = 16;

/// How far an order that begins from nothing starts above the one before: more frames than are ordered from one round of
/// membership to the next, and more rounds than are begun under one ballot. Room for 2²⁸ ballots.
const ORDER_PER_ROUND: u64 = 1 << 18;
const ORDER_PER_BALLOT: u64 = 1 << 36;

/// The same for the counters of epochs.
const EPOCHS_PER_BALLOT: u64 = ORDER_PER_BALLOT / ORDER_PER_ROUND;

/// What a node answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Answer {
    installed: Option<EpochId>,
    held: u64,
    fresh: bool,
}

/// An epoch that this node calls up.
#[derive(Clone, Debug)]
pub(crate) struct Lead {
    id: EpochId,
    roster: Roster,
    answers: [Option<Answer>; NODES_MAX],
    /// The longest chain's end, once all have answered.
    cut: Option<u64>,
    /// Who was asked for missing frames since the last repetition.
    asked: NodeSet,
    fetched: bool,
}

impl Lead {
    fn missing(&self, of: NodeSet) -> NodeSet {
        of.iter().filter(|n| self.answers[n.index()].is_none()).collect()
    }
}

impl Engine {
    /// Whether this node is the one to call up the next epoch.
    fn leads(&self) -> bool {
        if !self.target.has(self.me, self.life) || self.left.has(self.me, self.life) {
            return false;
        }
        // Who has left and is alone has nobody to speak for; one that was put out meanwhile may think the same of itself.
        if self.is_drained_alone() {
            return false;
        }
        match &self.epoch {
            Some(epoch) => {
                // One that is to be in it may never have begun it; if it has, and this node does not know, both bid.
                let begun = |n: &NodeId| *n == self.me || *n == epoch.id.node || self.known[n.index()].begun;
                epoch.roster.common(&self.target).iter().find(begun) == Some(self.me)
            }
            // Nobody has anything yet.
            None => self.target.nodes().is_subset(self.joining) && self.target.nodes().lowest() == Some(self.me),
        }
    }

    fn needs_epoch(&self) -> bool {
        self.is_flushing() || self.epoch.as_ref().is_none_or(|e| e.roster != self.target)
    }

    /// Goes on with the epoch that this node calls up, or begins to.
    pub(crate) fn step_lead(&mut self, ctx: &mut Context<'_>) {
        if self.lead.as_ref().is_some_and(|l| l.roster != self.target || !self.leads()) {
            self.lead = None;
        }
        if self.lead.is_none() {
            if !self.leads() || !self.needs_epoch() || ctx.now < self.lead_from {
                return;
            }
            let least =
                self.seed.ballot.0.saturating_mul(EPOCHS_PER_BALLOT).saturating_add(u64::from(self.seed.sequence));
            let last = self.promised.max(self.epoch.as_ref().map(|e| e.id));
            let id = last.unwrap_or(EpochId { counter: 0, node: self.me }).next_for(self.me, least);
            let lead = Lead {
                id,
                roster: self.target.clone(),
                answers: [None; NODES_MAX],
                cut: None,
                asked: NodeSet::EMPTY,
                fetched: false,
            };
            self.lead = Some(lead);
        }
        self.collect(ctx);
        self.complete(ctx);
    }

    /// Asks who has not answered: first those that are new, so that one which does not come stops nobody.
    fn collect(&mut self, ctx: &mut Context<'_>) {
        let Some(lead) = &self.lead else { return };
        let inside = self.epoch.as_ref().map_or(NodeSet::EMPTY, |e| e.roster.common(&lead.roster));
        let strangers = lead.missing(lead.roster.nodes().minus(inside));
        let others = strangers.without(self.me);
        let (ask, own) = if others.is_empty() {
            (lead.missing(lead.roster.nodes()), lead.answers[self.me.index()].is_none())
        } else {
            (others, false)
        };
        let (id, roster) = (lead.id, lead.roster.clone());
        if own {
            self.promise(id);
            let answer = self.answer();
            if let Some(lead) = &mut self.lead {
                lead.answers[self.me.index()] = Some(answer);
            }
        }
        let message = Message::Collect { epoch: id, roster };
        for node in ask.without(self.me) {
            let Some(lead) = &mut self.lead else { return };
            if lead.asked.insert(node) {
                ctx.send(Destination::Node(node), &message);
            }
        }
    }

    fn answer(&self) -> Answer {
        Answer { installed: self.epoch.as_ref().map(|e| e.id), held: self.held, fresh: self.fresh }
    }

    /// Nothing of earlier epochs is taken any more; frames beyond a gap are nothing that this node holds.
    fn promise(&mut self, id: EpochId) {
        self.promised = Some(id);
        let held = self.held;
        self.store.retain(|f| f.order <= held);
        self.waiting.clear();
    }

    pub(crate) fn on_collect(
        &mut self,
        from: NodeId,
        life: Incarnation,
        epoch: EpochId,
        roster: &Roster,
        ctx: &mut Context<'_>,
    ) {
        let fits = if self.epoch.is_some() { *roster == self.target } else { self.target.has(from, life) };
        if epoch.node != from || !roster.has(from, life) || !roster.has(self.me, self.life) || !fits {
            self.counters.dropped += 1;
            return;
        }
        if self.promised.is_some_and(|p| p > epoch) {
            let promised = self.promised.unwrap_or(epoch);
            ctx.send(Destination::Node(from), &Message::Outbid { epoch, promised });
            return;
        }
        if self.promised != Some(epoch) {
            self.promise(epoch);
            self.lead = None;
        }
        self.lead_from = ctx.now.plus_us(DEFER_US);
        let Answer { installed, held, fresh } = self.answer();
        ctx.send(Destination::Node(from), &Message::Collected { epoch, installed, held, fresh });
    }

    pub(crate) fn on_collected(
        &mut self,
        from: NodeId,
        epoch: EpochId,
        installed: Option<EpochId>,
        held: u64,
        fresh: bool,
    ) {
        if let Some(lead) = self.lead.as_mut().filter(|l| l.id == epoch) {
            lead.answers[from.index()] = Some(Answer { installed, held, fresh });
        }
    }

    pub(crate) fn on_outbid(&mut self, epoch: EpochId, promised: EpochId, now: Instant) {
        if self.lead.as_ref().is_some_and(|l| l.id == epoch) {
            self.lead = None;
            self.promised = self.promised.max(Some(promised));
            let held = self.held;
            self.store.retain(|f| f.order <= held);
            // Whoever bade it may be about to begin it.
            self.lead_from = now.plus_us(DEFER_US);
        }
    }

    /// All have answered: fetches what the longest chain has more, and begins the epoch.
    fn complete(&mut self, ctx: &mut Context<'_>) {
        let Some(lead) = &mut self.lead else { return };
        if !lead.missing(lead.roster.nodes()).is_empty() {
            return;
        }
        let answers = || lead.roster.nodes().iter().filter_map(|n| lead.answers[n.index()].map(|a| (n, a)));
        let with_state = || answers().filter(|(_, a)| !a.fresh);
        let best = with_state().max_by_key(|(_, a)| (a.installed, a.held));
        let (cut, source) = match best {
            Some((_, a)) => (a.held, with_state().map(|(n, _)| n).next()),
            None => {
                let above = answers().map(|(_, a)| a.held).max().unwrap_or(0);
                let RoundId { ballot, sequence } = self.seed;
                let from = ballot.0.saturating_mul(ORDER_PER_BALLOT);
                (above.max(from.saturating_add(u64::from(sequence) * ORDER_PER_ROUND)), None)
            }
        };
        let low = with_state().map(|(_, a)| a.held).min().unwrap_or(cut);
        if lead.cut.is_none() {
            lead.cut = Some(cut);
            if self.fresh {
                self.store = Store::default();
            }
        }
        let mut missing = (low + 1..=cut).filter(|order| self.store.get(*order).is_none()).peekable();
        if let (Some(_), Some((holder, _))) = (missing.peek(), best) {
            if !core::mem::replace(&mut lead.fetched, true) {
                let epoch = lead.id;
                for order in missing.take(FETCH_MAX) {
                    ctx.send(Destination::Node(holder), &Message::Fetch { epoch, order });
                }
            }
            return;
        }
        let Some(lead) = self.lead.take() else { return };
        self.begin(lead.id, &lead.roster, cut, source, ctx);
        self.install(self.epoch_others(), ctx);
    }

    /// A frame that was fetched. True if it was one.
    pub(crate) fn fetched(&mut self, epoch: EpochId, frame: crate::store::Frame) -> bool {
        let Some(lead) = self.lead.as_mut().filter(|l| l.id == epoch && l.cut.is_some()) else { return false };
        if lead.cut.is_some_and(|cut| frame.order <= cut) {
            self.store.insert(frame);
            // The next ones may be asked for.
            lead.fetched = false;
        }
        true
    }

    pub(crate) fn on_fetch(&mut self, from: NodeId, epoch: EpochId, order: u64, ctx: &mut Context<'_>) {
        if self.promised != Some(epoch) || epoch.node != from {
            return;
        }
        if let Some(f) = self.store.get(order) {
            let (node, stream, number) = (f.node, f.stream, f.number);
            let message = Message::Ordered { epoch, order, node, stream, number, body: &f.body };
            ctx.send(Destination::Node(from), &message);
        }
    }

    pub(crate) fn on_install(
        &mut self,
        from: NodeId,
        epoch: EpochId,
        roster: &Roster,
        cut: u64,
        source: Option<NodeId>,
        ctx: &mut Context<'_>,
    ) {
        if epoch.node != from || !roster.has(self.me, self.life) {
            self.counters.dropped += 1;
        } else if self.epoch.as_ref().is_some_and(|e| e.id == epoch) {
            self.say_status(Destination::Node(from), false, ctx);
        } else if self.promised == Some(epoch) && self.epoch.as_ref().is_none_or(|e| e.id < epoch) {
            self.begin(epoch, roster, cut, source, ctx);
        }
    }

    /// The epoch begins.
    fn begin(&mut self, id: EpochId, roster: &Roster, cut: u64, source: Option<NodeId>, ctx: &mut Context<'_>) {
        self.counters.epochs += 1;
        self.lead = None;
        self.store.retain(|f| f.order <= cut);
        // More than the longest chain of a later epoch, which this node was not in any more: nobody delivered it, because
        // whoever has that chain was here and did not hold it.
        self.held = self.held.min(cut);
        self.known = [Known::default(); NODES_MAX];
        self.waiting.clear();
        self.controls.clear();
        self.snapshot = None;
        if self.fresh {
            if self.me != id.node {
                self.store = Store::default();
            }
            self.held = cut;
            if source.is_none() {
                // Nobody has anything: all begin with empty tables.
                self.tables = Tables::default();
                self.tables.order = cut;
                (self.fresh, self.announce) = (false, true);
            }
        }
        self.advance_held();
        self.epoch = Some(Epoch { id, roster: roster.clone(), source, cut });
        self.out.begin_again();
        if id.node == self.me {
            self.order_roster(cut + 1);
        }
        self.say_status(Destination::All, true, ctx);
    }

    /// Tells those of the epoch that have not begun it.
    pub(crate) fn install(&mut self, to: NodeSet, ctx: &mut Context<'_>) {
        let Some(e) = self.epoch.as_ref().filter(|e| e.id.node == self.me) else { return };
        let message = Message::Install { epoch: e.id, roster: e.roster.clone(), cut: e.cut, source: e.source };
        for node in to {
            ctx.send(Destination::Node(node), &message);
        }
    }

    /// What of a call for an epoch is outstanding is asked again.
    pub(crate) fn repeat_lead(&mut self, ctx: &mut Context<'_>) {
        if let Some(lead) = &mut self.lead {
            (lead.asked, lead.fetched) = (NodeSet::EMPTY, false);
        }
        let not_begun = self.epoch_others().iter().filter(|n| !self.known[n.index()].begun).collect();
        self.install(not_begun, ctx);
    }

    /// The others of the epoch.
    pub(crate) fn epoch_others(&self) -> NodeSet {
        self.epoch.as_ref().map_or(NodeSet::EMPTY, |e| e.roster.nodes().without(self.me))
    }

    /// When a call of one's own is due, if it is put off.
    pub(crate) fn is_flush_due(&self) -> bool {
        self.lead.is_some() || (self.leads() && self.needs_epoch())
    }
}
