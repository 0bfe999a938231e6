//! Rounds: at each level a set of joins and graceful leaves with fixed participants; forced leaves beside them (DESIGN 5).

use heapless::Vec;
use quorate_base::capacity::NODES_MAX;
use quorate_base::event::{Event, Subject};
use quorate_base::{LevelOrder, NodeId, NodeSet, NodeState, Transition};

use crate::context::Context;
use crate::level::LevelEntry;
use crate::master::Master;
use crate::member::Member;
use crate::message::{Message, Notify, Round, StepAt, VectorSets};
use crate::transition::{At, Progress};

impl Master {
    /// Takes every transition as far as it goes now.
    pub(crate) fn advance(&mut self, ctx: &mut Context<'_, '_>, member: &mut Member) {
        loop {
            let moved = self.pass_barriers(ctx, member);
            let begun = self.begin_rounds(ctx, member);
            let told = self.tell(ctx, member);
            if !(moved || begun || told) {
                return;
            }
        }
    }

    /// Barriers and levels that all participants have acknowledged.
    fn pass_barriers(&mut self, ctx: &mut Context<'_, '_>, member: &mut Member) -> bool {
        let mut moved = false;
        for n in NodeId::first(self.nodes) {
            let Some(p) = &self.progress[n.index()] else { continue };
            let At::Running { level, round, barrier, awaiting } = p.at else { continue };
            let count = self.map.get(level).map_or(1, |e| e.barriers.of(p.transition));
            let ends_leave = p.transition == Transition::Leaving && barrier + 1 >= count;
            if !awaiting.is_empty() || (ends_leave && self.is_needed_at(n, level)) {
                continue;
            }
            moved = true;
            if barrier + 1 < count {
                let awaiting = self.rounds.iter().find(|r| r.id == round).map_or(NodeSet::EMPTY, |r| self.takers(r));
                let Some(p) = &mut self.progress[n.index()] else { continue };
                p.at = At::Running { level, round, barrier: barrier + 1, awaiting };
                p.news = true;
                continue;
            }
            let subject = Subject { node: n, incarnation: p.incarnation, transition: p.transition };
            member.through(subject, level, ctx.trace);
            self.pass_level(n, level);
        }
        if moved {
            self.rearm(ctx.now);
            let progress = &self.progress;
            self.rounds.retain(|r| progress.iter().flatten().any(|p| in_round(p, r)));
        }
        moved
    }

    /// Who still takes part in a round. A participant that died and came back as a later life is not at the level any more.
    pub(crate) fn takers(&self, round: &Round) -> NodeSet {
        let Some(entry) = self.map.get(round.level) else { return NodeSet::EMPTY };
        let here = |n: &NodeId| {
            round.subjects.iter().any(|s| s.node == *n && s.incarnation == self.view.incarnation(*n))
                || self.state_at(entry, *n) != NodeState::Inactive
        };
        round.participants.and(self.view.members()).iter().filter(here).collect()
    }

    /// Whether another transition at `level` in which `n` takes part has barriers to come: participants are fixed, so `n`
    /// must not be gone before.
    fn is_needed_at(&self, n: NodeId, level: LevelOrder) -> bool {
        NodeId::first(self.nodes).filter(|other| *other != n).any(|other| {
            let Some(p) = &self.progress[other.index()] else { return false };
            let At::Running { level: at, round, barrier, awaiting } = p.at else { return false };
            let last = self.map.get(level).map_or(1, |e| e.barriers.of(p.transition));
            let takes_part = self.rounds.iter().any(|r| r.id == round && r.participants.contains(n));
            at == level && takes_part && (!awaiting.is_empty() || barrier + 1 < last)
        })
    }

    fn pass_level(&mut self, n: NodeId, level: LevelOrder) {
        let Some(p) = &mut self.progress[n.index()] else { return };
        let next = self.map.after(n, p.transition, level);
        let next = match p.transition {
            Transition::ForcedLeaving => next.filter(|l| p.top.is_some_and(|top| *l <= top)),
            _ => next,
        };
        p.at = next.map_or(At::Done, At::Waiting);
        p.news = false;
    }

    /// A node's state at a level, as the cluster has it.
    pub(crate) fn state_at(&self, entry: &LevelEntry, n: NodeId) -> NodeState {
        if !entry.nodes.contains(n) {
            return NodeState::Inactive;
        }
        match (self.view.state(n), &self.progress[n.index()]) {
            (NodeState::Inactive, _) => NodeState::Inactive,
            (NodeState::Joined, _) => NodeState::Joined,
            (_, Some(p)) => p.state_at(entry.order),
            (_, None) => NodeState::Inactive,
        }
    }

    fn waiting_at(&self, level: LevelOrder, forced: bool) -> NodeSet {
        NodeId::first(self.nodes)
            .filter(|n| forced || !self.reversing.contains(*n))
            .filter(|n| {
                self.progress[n.index()].as_ref().is_some_and(|p| {
                    // A joining node that asked to leave is reversed here, between two levels (EP p. 6).
                    let turns_back = p.transition == Transition::Joining && self.leaves.contains(*n);
                    p.at == At::Waiting(level) && (p.transition == Transition::ForcedLeaving) == forced && !turns_back
                })
            })
            .collect()
    }

    /// Begins what may begin.
    fn begin_rounds(&mut self, ctx: &mut Context<'_, '_>, member: &mut Member) -> bool {
        let mut begun = false;
        let orders: Vec<LevelOrder, { quorate_base::capacity::LEVELS_MAX }> =
            self.map.iter().map(|e| e.order).collect();
        for level in orders {
            let forced: NodeSet =
                self.waiting_at(level, true).iter().filter(|n| self.is_fenced_for(*n, level)).collect();
            if !forced.is_empty() {
                begun |= self.begin_round(level, forced, true, ctx, member);
            }
            let running = |p: &Progress| {
                p.transition != Transition::ForcedLeaving
                    && matches!(p.at, At::Running { level: at, .. } if at == level)
            };
            let busy = self.progress.iter().flatten().any(|p| running(p) || p.blocks(level));
            let subjects = self.waiting_at(level, false);
            if !busy && !subjects.is_empty() {
                begun |= self.begin_round(level, subjects, false, ctx, member);
            }
        }
        begun
    }

    /// Whether the fence of `n` lets its forced leave be told to `level`.
    fn is_fenced_for(&self, n: NodeId, level: LevelOrder) -> bool {
        level < LevelOrder::FENCED_FROM
            || self.fences[n.index()].as_ref().is_none_or(|f| f.due() == quorate_base::Instant::FAR)
    }

    fn begin_round(
        &mut self,
        level: LevelOrder,
        subjects: NodeSet,
        forced: bool,
        ctx: &mut Context<'_, '_>,
        member: &mut Member,
    ) -> bool {
        let Some(entry) = self.map.get(level).copied() else { return false };
        let takes_part = |s: NodeState| match s {
            NodeState::Joined => true,
            NodeState::Joining | NodeState::Leaving => forced,
            NodeState::Inactive | NodeState::ForcedLeaving => false,
        };
        let mut participants: NodeSet =
            (entry.nodes.and(self.view.members())).iter().filter(|n| takes_part(self.state_at(&entry, *n))).collect();
        if !forced {
            participants = participants.or(subjects);
        }
        if participants.is_empty() {
            for n in subjects {
                if let Some(p) = &self.progress[n.index()] {
                    let subject = Subject { node: n, incarnation: p.incarnation, transition: p.transition };
                    member.through(subject, level, ctx.trace);
                }
                self.pass_level(n, level);
            }
            return true;
        }
        if self.rounds.is_full() {
            return false;
        }
        if forced {
            self.name_aborted_joins(level, subjects, participants, ctx);
        }
        let id = self.new_round_id();
        let mut round = Round { id, level, participants, subjects: Vec::new() };
        for n in subjects {
            let Some(p) = &mut self.progress[n.index()] else { continue };
            p.at = At::Running { level, round: id, barrier: 0, awaiting: participants };
            p.news = true;
            let subject = Subject { node: n, incarnation: p.incarnation, transition: p.transition };
            // Never full: one per node.
            let _ = round.subjects.push(subject);
        }
        ctx.trace.event(Event::Round { level, round: id, transitions: round.subjects.clone(), participants });
        let _ = self.rounds.push(round);
        self.rearm(ctx.now);
        true
    }

    /// After a takeover a level may have heard of a join in a round that no survivor knows: it gets a name here, so that
    /// the Joining which the forced leave overtakes belongs to a round (DESIGN 5).
    fn name_aborted_joins(
        &mut self,
        level: LevelOrder,
        subjects: NodeSet,
        participants: NodeSet,
        ctx: &mut Context<'_, '_>,
    ) {
        for n in subjects {
            let unnamed = self.progress[n.index()]
                .as_ref()
                .is_some_and(|p| p.top == Some(level) && p.was == NodeState::Joining && p.aborts.is_none());
            if !unnamed {
                continue;
            }
            let id = self.new_round_id();
            if let Some(p) = &mut self.progress[n.index()] {
                (p.aborts, p.aborts_at) = (Some(id), participants);
                let mut transitions = Vec::new();
                let subject = Subject { node: n, incarnation: p.incarnation, transition: Transition::Joining };
                let _ = transitions.push(subject);
                ctx.trace.event(Event::Round { level, round: id, transitions, participants });
            }
        }
    }

    /// Sends what is new to those who have not acknowledged it; to this node's own manager without the network.
    pub(crate) fn tell(&mut self, ctx: &mut Context<'_, '_>, member: &mut Member) -> bool {
        let mut told_self = false;
        for i in 0..self.rounds.len() {
            let Some(round) = self.rounds.get(i) else { break };
            let mut to = NodeSet::EMPTY;
            for p in self.progress.iter_mut().flatten() {
                if let At::Running { round: id, awaiting, .. } = p.at
                    && id == round.id
                    && core::mem::take(&mut p.news)
                {
                    to = to.or(awaiting);
                }
            }
            if to.is_empty() {
                continue;
            }
            let Some(notify) = self.notify_message(i) else { continue };
            told_self |= to.contains(self.me);
            if to.contains(self.me) {
                let mut own = notify.clone();
                self.hide_aborted(&mut own, self.me);
                member.on_notify(&own, ctx.trace);
            }
            self.send_notify(notify, to.without(self.me), ctx);
        }
        if told_self {
            self.take_own_acks(member, ctx);
        }
        told_self
    }

    fn send_notify(&self, notify: Notify, to: NodeSet, ctx: &mut Context<'_, '_>) {
        if notify.steps.iter().all(|s| s.overtakes.is_none()) {
            let message = Message::Notify(notify);
            return to.iter().for_each(|n| ctx.send_to(n, &message));
        }
        for n in to {
            let mut own = notify.clone();
            self.hide_aborted(&mut own, n);
            ctx.send_to(n, &Message::Notify(own));
        }
    }

    /// Who had no part in an aborted join is not told of it.
    fn hide_aborted(&self, notify: &mut Notify, n: NodeId) {
        for step in &mut notify.steps {
            let subject = notify.round.subjects.get(usize::from(step.subject));
            let progress = subject.and_then(|s| self.progress[s.node.index()].as_ref());
            if progress.is_none_or(|p| !p.aborts_at.contains(n)) {
                step.overtakes = None;
            }
        }
    }

    /// Acknowledgements of this node's own levels.
    pub fn take_own_acks(&mut self, member: &mut Member, ctx: &mut Context<'_, '_>) {
        member.acknowledge_membership_level(&self.view, ctx.trace);
        if !member.has_acks() {
            return;
        }
        let acks = member.take_acks();
        let incarnation = self.view.incarnation(self.me);
        self.on_acks(self.me, incarnation, &acks);
    }

    fn notify_message(&mut self, round: usize) -> Option<Notify> {
        let round = self.rounds.get(round)?.clone();
        let mut steps: Vec<StepAt, NODES_MAX> = Vec::new();
        for (at, s) in round.subjects.iter().enumerate() {
            let Some(p) = &self.progress[s.node.index()] else { continue };
            if let At::Running { round: id, barrier, .. } = p.at
                && id == round.id
                && p.transition == s.transition
            {
                let overtakes = p.aborts.filter(|_| p.top == Some(round.level) && p.was == NodeState::Joining);
                let top = p.top.unwrap_or(round.level);
                let _ = steps.push(StepAt { subject: at as u8, barrier, top, overtakes });
            }
        }
        let entry = *self.map.get(round.level)?;
        let mut vector = VectorSets::default();
        for n in NodeId::first(self.nodes) {
            vector.insert(n, self.state_at(&entry, n));
        }
        self.sequence = self.sequence.wrapping_add(1);
        Some(Notify { view: self.view_name(), sequence: self.sequence, round, steps, vector, recover: self.recover })
    }
}

fn in_round(p: &Progress, round: &Round) -> bool {
    matches!(p.at, At::Running { round: id, .. } if id == round.id)
}
