//! The master's side of levels that come and go at run time: transitions at one level alone, of nodes that stay joined
//! (DESIGN 5: "run-time levels join each by itself afterwards; the death of a process that serves one is a forced leave
//! local to that level").
//!
//! ```text
//! wish ─▶ waiting for the level's round ─▶ each barrier ─▶ ending: every manager that took part is told ─▶ nothing
//! ```
//! Invariants:
//! - one such transition per node at a time; others wait with their node, which repeats its wish;
//! - the death of what serves a level overtakes a join or leave of that level (EP Table 1), waits for no round and for no
//!   fence, because the node lives; nobody waits for that node at that level any more;
//! - a leave of the node begins between two such steps and takes the level along; a forced leave of the node overtakes them,
//!   but for the death of a process, which goes on beside it.

use heapless::Vec;
use quorate_base::event::Event;
use quorate_base::halt::RefuseReason;
use quorate_base::text::format_cut;
use quorate_base::{Incarnation, LevelOrder, NodeId, NodeState, Transition};

use crate::context::Context;
use crate::master::Master;
use crate::message::{LevelOffer, LevelOutcome, LevelRequest, LevelResult, LevelWish};
use crate::transition::{At, Overtaken, Progress, local};

impl Master {
    /// What a node wants of its run-time levels. Gives what needs no transition.
    pub fn on_level_request(
        &mut self,
        from: NodeId,
        incarnation: Incarnation,
        request: &LevelRequest,
        ctx: &mut Context<'_, '_>,
    ) -> Option<LevelResult> {
        let serial = &mut self.serials[from.index()];
        let is_member = self.view.has_member(from, incarnation);
        if self.takeover.is_some() || !is_member || request.ballot != self.ballot || request.serial <= *serial {
            return None;
        }
        *serial = request.serial;
        let mut results = Vec::new();
        for wish in &request.wishes {
            let (level, outcome) = match wish {
                LevelWish::Died(level) => (*level, self.on_level_died(from, *level)),
                LevelWish::Leave(level) => (*level, self.on_level_leave(from, *level)),
                LevelWish::Join(offer) => (offer.order, self.on_level_join(from, offer, ctx)),
            };
            if let Some(outcome) = outcome {
                // Never full: as many as wishes.
                let _ = results.push((level, outcome));
            }
        }
        (!results.is_empty()).then_some(LevelResult {
            ballot: self.ballot,
            incarnation,
            serial: request.serial,
            results,
        })
    }

    /// Whether a wish of a node that needs its help may begin now.
    fn takes_wishes(&self, n: NodeId) -> bool {
        self.view.state(n) == NodeState::Joined
            && !self.leaves.contains(n)
            && !self.reversing.contains(n)
            && self.progress[local(n)].is_none()
    }

    fn on_level_join(&mut self, n: NodeId, offer: &LevelOffer, ctx: &mut Context<'_, '_>) -> Option<LevelOutcome> {
        if !self.takes_wishes(n) || self.map.has(n, offer.order) {
            return None;
        }
        match self.map.add_run_time(n, offer) {
            Ok(()) => {
                self.begin_local(n, Transition::Joining, offer.order, None);
                None
            }
            Err(reason) => Some(self.refuse_level(n, reason, ctx)),
        }
    }

    fn refuse_level(&self, n: NodeId, reason: RefuseReason, ctx: &mut Context<'_, '_>) -> LevelOutcome {
        let text = format_cut::<96>(format_args!("{reason}"));
        let incarnation = self.view.incarnation(n);
        ctx.trace.event(Event::Refuse { peer: n, incarnation, reason: &text });
        LevelOutcome::Refused(reason)
    }

    fn on_level_leave(&mut self, n: NodeId, level: LevelOrder) -> Option<LevelOutcome> {
        if !self.map.has(n, level) {
            return Some(LevelOutcome::Gone);
        }
        if self.takes_wishes(n) {
            self.begin_local(n, Transition::Leaving, level, None);
        }
        None
    }

    fn on_level_died(&mut self, n: NodeId, level: LevelOrder) -> Option<LevelOutcome> {
        let Some(entry) = self.map.get(level).copied().filter(|e| e.nodes.contains(n)) else {
            return Some(LevelOutcome::Gone);
        };
        let alone = self.progress[local(n)].is_some_and(|p| p.only == Some(level));
        if !alone && self.state_at(&entry, n) == NodeState::Inactive {
            // A leave of the node has passed this level; the node does not know it yet.
            return Some(LevelOutcome::Gone);
        }
        self.bury(n, level);
        if self.progress[local(n)].is_some_and(|p| p.only != Some(level)) {
            // What waits elsewhere is asked for again; it may wait for this very level.
            self.drop_waiting_local(n);
        }
        let other = self.progress[local(n)].is_some_and(|p| p.only != Some(level));
        let dead = self.progress[local(n)].is_some_and(|p| p.transition == Transition::ForcedLeaving);
        // All have acknowledged its leave; the others are told so first.
        let left = self.progress[local(n)].is_some_and(|p| p.transition == Transition::Leaving && p.ending);
        // A leave is committed only while no notification of the node is outstanding: between proposal and commit none begins.
        let waits = other || dead || left || self.reversing.contains(n);
        if waits || !matches!(self.view.state(n), NodeState::Joined | NodeState::Leaving) {
            return None;
        }
        let mut overtakes = self.overtake_local(n);
        if !self.map.has(n, level) {
            // Nobody had heard of its join, or all are through with its leave.
            return Some(LevelOutcome::Gone);
        }
        // A leave of the node that is at this level goes on without it.
        if let Some(own) = self.progress[n.index()].as_mut().filter(|own| own.level() == Some(level)) {
            overtakes = own.under_way().or(overtakes);
            (own.at, own.news) = (At::Waiting(level), false);
        }
        self.begin_local(n, Transition::ForcedLeaving, level, overtakes);
        None
    }

    /// Nobody waits any more for what served a level on a node.
    fn bury(&mut self, n: NodeId, level: LevelOrder) {
        self.map.bury(n, level);
        for p in self.progress.iter_mut().flatten().filter(|p| !p.ending) {
            if let At::Running { level: at, awaiting, .. } = &mut p.at
                && *at == level
            {
                awaiting.remove(n);
            }
        }
    }

    fn begin_local(&mut self, n: NodeId, transition: Transition, level: LevelOrder, overtakes: Option<Overtaken>) {
        let aborts_at = self.participants_of(overtakes.and_then(|o| o.round));
        let progress = Progress::local(transition, self.view.incarnation(n), level);
        self.progress[local(n)] = Some(Progress { overtakes, aborts_at, ..progress });
    }

    /// Ends a join or leave at one level for a forced leave that overtakes it; gives the step that was under way.
    pub(crate) fn overtake_local(&mut self, n: NodeId) -> Option<Overtaken> {
        let p = self.progress[local(n)].take_if(|p| p.transition != Transition::ForcedLeaving)?;
        let level = p.only?;
        let unheard = p.transition == Transition::Joining && !p.is_running();
        let left = p.transition == Transition::Leaving && p.ending;
        if unheard || left {
            self.map.take(n, level);
        }
        p.under_way()
    }

    /// A leave of the node begins: what waits at one level alone is not begun any more.
    pub(crate) fn drop_waiting_local(&mut self, n: NodeId) {
        let waits = |p: &mut Progress| !p.is_running() && p.transition != Transition::ForcedLeaving;
        let Some(p) = self.progress[local(n)].take_if(waits) else { return };
        if let (Transition::Joining, Some(level)) = (p.transition, p.only) {
            self.map.take(n, level);
        }
    }

    /// Whether nothing is told of this transition now: the forced leave of a level whose node was put out meanwhile goes on
    /// once that node is fenced, like the node's own.
    pub(crate) fn holds(&self, n: NodeId, p: &Progress) -> bool {
        p.only.is_some_and(|level| !self.is_fenced_for(n, level))
    }

    /// Where a forced leave of `n` up to `top` begins.
    pub(crate) fn first_forced(&self, n: NodeId, top: Option<LevelOrder>) -> Option<LevelOrder> {
        let first = self.map.iter().find(|e| e.nodes.contains(n) && !self.is_recovered_alone(n, e.order))?;
        top.is_some_and(|top| first.order <= top).then_some(first.order)
    }

    /// The level after `level` for a forced leave of `n`. One whose process died before the node did is recovered already.
    pub(crate) fn next_forced(&self, n: NodeId, level: LevelOrder) -> Option<LevelOrder> {
        let top = self.progress[n.index()].and_then(|p| p.top)?;
        let here = |o: &LevelOrder| self.map.has(n, *o) && !self.is_recovered_alone(n, *o);
        self.map.iter().map(|e| e.order).filter(|o| *o > level && *o <= top).find(here)
    }
}
