//! Rounds: at each level a set of joins and graceful leaves with fixed participants; forced leaves beside them (DESIGN 5).

use heapless::Vec;
use quorate_base::capacity::NODES_MAX;
use quorate_base::event::{Event, Subject};
use quorate_base::{LevelOrder, NodeId, NodeSet, NodeState, RoundId, Transition};

use crate::context::Context;
use crate::level::LevelEntry;
use crate::master::Master;
use crate::member::Member;
use crate::message::{FORCED_AT_ONCE_MAX, Message, Notify, Round, Scope, StepAt, VectorSets};
use crate::rules::{Rule, keep};
use crate::transition::{At, Overtaken, Progress, local, slots};

impl Master {
    /// Takes every transition as far as it goes now.
    pub(crate) fn advance(&mut self, ctx: &mut Context<'_, '_>, member: &mut Member) {
        // An idle cluster's master comes here at every turn.
        if slots(self.nodes).all(|(slot, _)| self.progress[slot].is_none()) {
            return;
        }
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
        for (slot, n) in slots(self.nodes) {
            let Some(p) = self.progress[slot] else { continue };
            let At::Running { level, round, barrier, awaiting } = p.at else { continue };
            let count = self.map.get(level).map_or(1, |e| e.barriers.of(p.transition));
            let ends_leave = p.transition == Transition::Leaving && !p.ending && barrier + 1 >= count;
            let enough = awaiting.len() < 2 && !keep(Rule::AllAcknowledge);
            let needed = ends_leave && keep(Rule::NeededUntilTheEnd) && self.is_needed_at(n, level);
            if !(awaiting.is_empty() || enough) || needed {
                continue;
            }
            moved = true;
            if p.ending {
                self.end_local(n, &p, level);
                continue;
            }
            if barrier + 1 < count {
                self.next_step(slot, (level, round, barrier + 1), false);
                continue;
            }
            let subject = Subject { node: n, incarnation: p.incarnation, transition: p.transition };
            member.through(subject, level, ctx.trace);
            if p.only.is_some() {
                self.next_step(slot, (level, round, barrier + 1), true);
            } else {
                self.pass_level(n, level);
            }
        }
        if moved {
            self.rearm(ctx.now);
            let progress = &self.progress;
            self.rounds.retain(|r| progress.iter().flatten().any(|p| in_round(p, r)));
        }
        moved
    }

    /// The next barrier; or, for a local transition, the news that it is through.
    fn next_step(&mut self, slot: usize, (level, round, barrier): (LevelOrder, RoundId, u8), ending: bool) {
        let takers = self.rounds.iter().find(|r| r.id == round).map_or(NodeSet::EMPTY, |r| self.takers(r));
        if let Some(p) = &mut self.progress[slot] {
            p.at = At::Running { level, round, barrier, awaiting: takers };
            (p.news, p.ending) = (true, ending);
        }
    }

    /// All managers know that a local transition is through.
    pub(crate) fn end_local(&mut self, n: NodeId, p: &Progress, level: LevelOrder) {
        self.progress[local(n)] = None;
        if p.transition == Transition::Joining {
            return;
        }
        self.map.take(n, level);
        // A leave of the node that came to this level meanwhile finds nothing to do there.
        if self.progress[n.index()].is_some_and(|own| own.at == At::Waiting(level)) {
            self.pass_level(n, level);
        }
    }

    /// Where the transition of `n` at `level` stands: at the level alone, or the node's own.
    fn slot_at(&self, n: NodeId, level: LevelOrder) -> usize {
        if self.progress[local(n)].is_some_and(|p| p.only == Some(level)) { local(n) } else { n.index() }
    }

    /// Whether what served `level` on `n` has died, though the node lives: nobody waits for it there.
    pub(crate) fn died_at(&self, n: NodeId, level: LevelOrder) -> bool {
        self.is_recovered_alone(n, level) || self.map.get(level).is_some_and(|e| e.dead.contains(n))
    }

    /// Whether the others recover from that now: then a forced leave of the node has nothing to do at that level.
    pub(crate) fn is_recovered_alone(&self, n: NodeId, level: LevelOrder) -> bool {
        self.progress[local(n)].is_some_and(|p| p.only == Some(level) && p.transition == Transition::ForcedLeaving)
    }

    /// Whether the others still recover a lower level whose process died before its node did: the node's own forced leave
    /// goes on above it after that (EP p. 5: from the lowest level up).
    fn is_recovered_below(&self, n: NodeId, level: LevelOrder) -> bool {
        self.progress[local(n)].is_some_and(|p| p.only.is_some_and(|only| only < level))
    }

    /// Who still takes part in a round. A participant that died and came back as a later life is not at the level any more, or
    /// came to it by a round that began after this one.
    pub(crate) fn takers(&self, round: &Round) -> NodeSet {
        let Some(entry) = self.map.get(round.level) else { return NodeSet::EMPTY };
        let came_later = |n: NodeId| {
            self.progress[n.index()].is_some_and(|p| {
                let own =
                    matches!(p.at, At::Running { level, round: own, .. } if level == round.level && own > round.id);
                p.transition == Transition::Joining && own
            })
        };
        let here = |n: &NodeId| {
            let is_subject = round.subjects.iter().any(|s| s.node == *n && s.incarnation == self.view.incarnation(*n));
            !self.died_at(*n, round.level)
                && !came_later(*n)
                && (is_subject && entry.nodes.contains(*n) || self.state_at(entry, *n) != NodeState::Inactive)
        };
        round.participants.and(self.view.members()).iter().filter(here).collect()
    }

    /// Whether another transition at `level` in which `n` takes part has barriers to come: participants are fixed, so `n`
    /// must not be gone before.
    fn is_needed_at(&self, n: NodeId, level: LevelOrder) -> bool {
        slots(self.nodes).filter(|(_, other)| *other != n).any(|(slot, _)| {
            let Some(p) = &self.progress[slot] else { return false };
            let At::Running { level: at, round, barrier, awaiting } = p.at else { return false };
            let last = self.map.get(level).map_or(1, |e| e.barriers.of(p.transition));
            let takes_part = self.rounds.iter().any(|r| r.id == round && r.participants.contains(n));
            at == level && takes_part && (!awaiting.is_empty() || barrier + 1 < last)
        })
    }

    fn pass_level(&mut self, n: NodeId, level: LevelOrder) {
        let Some(transition) = self.progress[n.index()].map(|p| p.transition) else { return };
        let next = match transition {
            Transition::ForcedLeaving => self.next_forced(n, level),
            _ => self.map.after(n, transition, level),
        };
        let Some(p) = &mut self.progress[n.index()] else { return };
        p.at = next.map_or(At::Done, At::Waiting);
        p.news = false;
    }

    /// A node's state at a level, as the cluster has it.
    pub(crate) fn state_at(&self, entry: &LevelEntry, n: NodeId) -> NodeState {
        if !entry.nodes.contains(n) {
            return NodeState::Inactive;
        }
        if let Some(p) = self.progress[local(n)].as_ref().filter(|p| p.only == Some(entry.order)) {
            return p.state_at(entry.order);
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
                self.progress[self.slot_at(*n, level)].as_ref().is_some_and(|p| {
                    // A joining node that asked to leave is reversed here, between two levels (EP p. 6).
                    let turns_back = p.transition != Transition::ForcedLeaving
                        && (p.only.is_some() || p.transition == Transition::Joining)
                        && self.leaves.contains(*n);
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
            let forced: NodeSet = self
                .waiting_at(level, true)
                .iter()
                .filter(|n| self.is_fenced_for(*n, level) && !self.is_recovered_below(*n, level))
                .collect();
            if !forced.is_empty() {
                begun |= self.begin_round(level, forced, true, ctx, member);
            }
            let running = |p: &Progress| {
                p.transition != Transition::ForcedLeaving
                    && matches!(p.at, At::Running { level: at, .. } if at == level)
            };
            let busy =
                self.progress.iter().flatten().any(|p| running(p) || (p.blocks(level) && keep(Rule::ForcedFirst)));
            let subjects = self.waiting_at(level, false);
            if !busy && !subjects.is_empty() && self.may_recover_at(level) {
                begun |= self.begin_round(level, subjects, false, ctx, member);
            }
        }
        begun
    }

    /// Whether a first join may be told to `level`: with it the level recovers what the dead of the old cluster owned, and
    /// the fence stands before that as it does before a forced leave (DESIGN 7).
    fn may_recover_at(&self, level: LevelOrder) -> bool {
        self.recover.is_empty() || NodeId::first(self.nodes).all(|n| self.is_fenced_for(n, level))
    }

    /// Whether the fence of `n` lets its forced leave be told to `level`.
    pub(crate) fn is_fenced_for(&self, n: NodeId, level: LevelOrder) -> bool {
        !keep(Rule::FencedFirst) || self.fences[n.index()].as_ref().is_none_or(|f| f.lets(level))
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
        let subjects: NodeSet = if forced { subjects.iter().take(FORCED_AT_ONCE_MAX).collect() } else { subjects };
        let takes_part = |s: NodeState| match s {
            NodeState::Joined => true,
            NodeState::Joining | NodeState::Leaving => forced,
            NodeState::Inactive | NodeState::ForcedLeaving => false,
        };
        let mut participants: NodeSet =
            (entry.nodes.and(self.view.members())).iter().filter(|n| takes_part(self.state_at(&entry, *n))).collect();
        participants = participants.iter().filter(|n| !self.died_at(*n, level)).collect();
        if !forced {
            participants = participants.or(subjects);
        }
        if participants.is_empty() {
            for n in subjects {
                let Some(p) = self.progress[self.slot_at(n, level)] else { continue };
                let subject = Subject { node: n, incarnation: p.incarnation, transition: p.transition };
                member.through(subject, level, ctx.trace);
                if p.only.is_some() { self.end_local(n, &p, level) } else { self.pass_level(n, level) }
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
            let slot = self.slot_at(n, level);
            let Some(p) = &mut self.progress[slot] else { continue };
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
            let unnamed = |o: &Overtaken| o.level == level && o.was == NodeState::Joining && o.round.is_none();
            if !self.progress[n.index()].and_then(|p| p.overtakes).as_ref().is_some_and(unnamed) {
                continue;
            }
            let id = self.new_round_id();
            if let Some(p) = &mut self.progress[n.index()] {
                p.overtakes = p.overtakes.map(|o| Overtaken { round: Some(id), ..o });
                p.aborts_at = participants;
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
            let id = round.id;
            for (slot, n) in slots(self.nodes) {
                let Some(p) = self.progress[slot].filter(|p| p.news && !self.holds(n, p)) else { continue };
                if let At::Running { round, awaiting, .. } = p.at
                    && round == id
                {
                    to = to.or(awaiting);
                    self.progress[slot] = Some(Progress { news: false, ..p });
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
        if notify.steps.iter().all(|s| !s.took_part) {
            let message = Message::Notify(notify);
            return to.iter().for_each(|n| ctx.send_to(n, &message));
        }
        for n in to {
            let mut own = notify.clone();
            self.hide_aborted(&mut own, n);
            ctx.send_to(n, &Message::Notify(own));
        }
    }

    /// Who had no part in an aborted join does not deliver it.
    pub(crate) fn hide_aborted(&self, notify: &mut Notify, n: NodeId) {
        for step in &mut notify.steps {
            let subject = notify.round.subjects.get(usize::from(step.subject));
            let progress = subject.and_then(|s| self.progress[self.slot_at(s.node, notify.round.level)].as_ref());
            step.took_part &= progress.is_some_and(|p| p.aborts_at.contains(n));
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

    pub(crate) fn notify_message(&mut self, round: usize) -> Option<Notify> {
        let round = self.rounds.get(round)?.clone();
        let mut steps: Vec<StepAt, NODES_MAX> = Vec::new();
        for (at, s) in round.subjects.iter().enumerate() {
            let Some(p) = &self.progress[self.slot_at(s.node, round.level)] else { continue };
            if let At::Running { round: id, barrier, .. } = p.at
                && id == round.id
                && p.transition == s.transition
                && !self.holds(s.node, p)
            {
                let aborts = |o: &Overtaken| o.level == round.level && o.was == NodeState::Joining;
                let scope = match (p.only, p.ending) {
                    (None, _) => Scope::Node,
                    (Some(_), false) => Scope::Local,
                    (Some(_), true) => Scope::LocalEnd,
                };
                let overtakes = p.overtakes.filter(|_| scope != Scope::LocalEnd);
                let (top, took_part) = (p.top.unwrap_or(round.level), overtakes.as_ref().is_some_and(aborts));
                let _ = steps.push(StepAt { subject: at as u8, barrier, scope, top, overtakes, took_part });
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
