//! The master's side: commits a view for each change of overall state and drives transitions through the levels.
//!
//! ```text
//! acquired → ask every member (takeover) → [ judge evidence → commit a view → rounds → … ] → lost or released
//! ```
//! Invariants:
//! - nothing is sent, judged or committed while the lease does not stand (`MasterLock::may_act`);
//! - one proposal at a time; nothing is built on it before it is known committed;
//! - a node is in at most one transition of its own, and in one at a level alone; a forced leave replaces any other.

use heapless::Vec;
use quorate_base::capacity::NODES_MAX;
use quorate_base::event::Event;
use quorate_base::halt::RefuseReason;
use quorate_base::text::format_cut;
use quorate_base::{
    Ballot, HaltReason, Incarnation, Instant, NodeId, NodeSet, NodeState, Preempted, RoundId, Timing, Transition, View,
    ViewName,
};
use quorate_interconnect::Destination;
use quorate_master_lock::{ProposeError, Registration};

use crate::admission::admit;
use crate::context::Context;
use crate::fence::Fence;
use crate::fence::sweep::Sweep;
use crate::level::LevelMap;
use crate::member::Member;
use crate::message::{AckEntry, JoinRequest, Message, ROUNDS_MAX, Refuse, Round, ViewMessage};
use crate::rules::{Rule, keep};
use crate::stall::Stalls;
use crate::takeover::Takeover;
use crate::transition::{At, Progress, SLOTS, local, slots};

/// First repetition of a message that nobody answered, µs. Above a round trip on a busy machine; a lost frame costs this
/// much of a transition.
const RESEND_FIRST_US: u64 = 40_000;
/// Later repetitions back off to this, µs: a level that works for long is asked again about three times a second.
const RESEND_LAST_US: u64 = 320_000;

/// A node that asked to join.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Ask {
    incarnation: Incarnation,
    since: Instant,
}

/// The master's state. Exists while this node is master.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Master {
    pub(crate) me: NodeId,
    pub(crate) nodes: u8,
    pub(crate) timing: Timing,
    pub(crate) preempted: Preempted,
    pub(crate) ballot: Ballot,
    pub(crate) view: View,
    pub(crate) map: LevelMap,
    /// By slot: each node's own transition, and its local one.
    pub(crate) progress: [Option<Progress>; SLOTS],
    /// The newest request about run-time levels of each node.
    pub(crate) serials: [u32; NODES_MAX],
    pub(crate) rounds: Vec<Round, ROUNDS_MAX>,
    pub(crate) fences: [Option<Fence>; NODES_MAX],
    /// What is asked of the disk for them.
    pub(crate) sweep: Sweep,
    pub(crate) takeover: Option<Takeover>,
    /// Nodes whose last life ended without a clean mark before the cluster formed: the first join recovers them.
    pub(crate) recover: NodeSet,
    /// Those that a first join of this term has recovered. If its node is put out before another has joined, nobody knows
    /// how far that came.
    recovered: NodeSet,
    pub(crate) sequence: u32,
    pub(crate) next_round: u32,
    pub(crate) resend_at: Instant,
    pub(crate) resend_us: u64,
    pub(crate) stalls: Stalls,
    /// When this term began.
    pub(crate) began: Instant,
    /// Why this node must halt, if a level of its own is overdue.
    pub(crate) halt: Option<HaltReason>,
    asks: [Option<Ask>; NODES_MAX],
    pub(crate) leaves: NodeSet,
    pub(crate) condemned: NodeSet,
    /// Nodes that the proposed view has leaving: their joins begin no further level.
    pub(crate) reversing: NodeSet,
    pub(crate) proposed: bool,
}

impl Master {
    /// This node acquired the lock; `view` stands accepted under its ballot.
    pub fn new(ballot: Ballot, view: &View, ctx: &mut Context<'_, '_>, member: &Member, at: MasterAt) -> Self {
        let mut master = Self {
            me: at.me,
            nodes: at.nodes,
            timing: at.timing,
            preempted: at.preempted,
            ballot,
            view: view.clone(),
            map: LevelMap::default(),
            progress: [None; SLOTS],
            serials: [0; NODES_MAX],
            rounds: Vec::new(),
            fences: [None; NODES_MAX],
            sweep: Sweep::NEW,
            takeover: None,
            recover: NodeSet::EMPTY,
            recovered: NodeSet::EMPTY,
            sequence: 0,
            next_round: 1,
            resend_at: Instant::FAR,
            resend_us: RESEND_FIRST_US,
            stalls: Stalls::NONE,
            began: ctx.now,
            halt: None,
            asks: [None; NODES_MAX],
            leaves: NodeSet::EMPTY,
            condemned: NodeSet::EMPTY,
            reversing: NodeSet::EMPTY,
            proposed: false,
        };
        let (levels, died) = member.all_offers();
        master.map.restore(at.me, &levels, died);
        let am_member = view.has_member(at.me, at.incarnation);
        if !am_member || view.joined().is_empty() {
            // Formation: whoever did not end cleanly is recovered with the first join. The own former life too. Nobody has
            // joined since, so a master that lost the lock meanwhile, or one that joins beside it, forms it all the same.
            master.recover = NodeId::first(at.nodes).filter(|n| at.unclean.contains(*n)).collect();
        }
        let others = view.members().without(at.me);
        // The own former life cannot answer: it is forced out before anything goes on.
        let waiting = if am_member { others } else { view.members() };
        master.takeover = Some(Takeover::new(waiting, ballot, member, am_member.then_some(at.me)));
        for n in view.nodes_in(&[NodeState::ForcedLeaving]) {
            master.begin_fence(n, ctx);
        }
        master.rearm(ctx.now);
        ctx.send(Destination::All, &master.view_message());
        for n in others {
            ctx.send_to(n, &Message::Query { ballot });
        }
        master
    }

    /// The ballot of this term.
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Names the newest view that this master committed (or took over).
    pub(crate) fn view_name(&self) -> ViewName {
        ViewName { ballot: self.ballot, number: self.view.number }
    }

    pub(crate) fn view_message(&self) -> Message {
        Message::View(ViewMessage::new(self.view_name(), &self.view, self.nodes))
    }

    /// How a node's transition stands, if it is in one.
    pub fn progress(&self, node: NodeId) -> Option<&Progress> {
        self.progress[node.index()].as_ref()
    }

    /// How a transition of a node at one level alone stands, if there is one.
    pub fn local_progress(&self, node: NodeId) -> Option<&Progress> {
        self.progress[local(node)].as_ref()
    }

    /// Members whose answer to the takeover is awaited.
    pub fn unanswered(&self) -> NodeSet {
        self.takeover.as_ref().map_or(NodeSet::EMPTY, Takeover::waiting)
    }

    /// The life of a node that asked to join and is not in yet.
    #[cfg(feature = "rule-switches")]
    pub(crate) fn asked_by(&self, n: NodeId) -> Option<Incarnation> {
        self.asks[n.index()].map(|ask| ask.incarnation)
    }

    /// When something is to be done without an input.
    pub fn poll_timeout(&self) -> Instant {
        let first = self.resend_at.min(self.stalls.due()).min(self.sweep.wake);
        self.fences.iter().flatten().map(Fence::due).fold(first, Instant::min)
    }

    /// `from` wants in.
    pub fn on_join_request(
        &mut self,
        from: NodeId,
        incarnation: Incarnation,
        request: &JoinRequest,
        ctx: &mut Context<'_, '_>,
    ) {
        let entry = self.view.incarnation(from);
        if self.takeover.is_some() || from == self.me || from.get() >= self.nodes {
            return;
        }
        if self.view.state(from) != NodeState::Inactive {
            if incarnation > entry {
                // It rebooted before anyone noticed: the old life goes first (EP p. 6); it asks again.
                self.condemned.insert(from);
            } else {
                ctx.send_to(from, &self.view_message());
            }
            return;
        }
        if incarnation <= entry {
            ctx.send_to(from, &self.view_message());
            return;
        }
        match admit(from, request, &self.timing, &mut self.map) {
            Err(reason) => {
                self.asks[from.index()] = None;
                self.refuse(from, incarnation, reason, ctx);
            }
            Ok(()) => {
                if !is_born(from, incarnation, ctx) {
                    // It has just written its first heartbeat; half a beat of waiting for everybody is saved.
                    ctx.lock.beat_now(ctx.now);
                }
                let ask = &mut self.asks[from.index()];
                if ask.is_none_or(|a| a.incarnation != incarnation) {
                    *ask = Some(Ask { incarnation, since: ctx.now });
                }
            }
        }
    }

    /// `from` wants in and speaks another version of these messages.
    pub fn on_other_version(&mut self, from: NodeId, incarnation: Incarnation, ctx: &mut Context<'_, '_>) {
        let outside = from.get() < self.nodes && self.view.state(from) == NodeState::Inactive;
        if self.takeover.is_none() && outside {
            self.refuse(from, incarnation, RefuseReason::ProtocolVersion, ctx);
        }
    }

    fn refuse(&mut self, to: NodeId, incarnation: Incarnation, reason: RefuseReason, ctx: &mut Context<'_, '_>) {
        let text = format_cut::<96>(format_args!("{reason}"));
        ctx.trace.event(Event::Refuse { peer: to, incarnation, reason: &text });
        ctx.send_to(to, &Message::Refuse(Refuse { ballot: self.ballot, incarnation, reason }));
    }

    /// `from` wants out.
    pub fn on_leave_request(&mut self, from: NodeId, incarnation: Incarnation, ctx: &mut Context<'_, '_>) {
        if self.view.has_member(from, incarnation) {
            self.leaves.insert(from);
        } else {
            ctx.send_to(from, &self.view_message());
        }
    }

    /// `from` acknowledges.
    pub fn on_acks(&mut self, from: NodeId, incarnation: Incarnation, entries: &[AckEntry]) {
        if !self.view.has_member(from, incarnation) {
            return;
        }
        for entry in entries {
            let n = entry.subject.node;
            for slot in [n.index(), local(n)] {
                let Some(progress) = &mut self.progress[slot] else { continue };
                if progress.incarnation != entry.subject.incarnation || progress.transition != entry.subject.transition
                {
                    continue;
                }
                if let At::Running { level, round, barrier, awaiting } = &mut progress.at
                    && *level == entry.level
                    && *round == entry.round
                    && (*barrier == entry.barrier || !keep(Rule::AckOfThisStep))
                    && awaiting.remove(from)
                {
                    self.resend_us = RESEND_FIRST_US;
                }
            }
        }
    }

    /// Condemned by the caller's evidence.
    pub fn condemn(&mut self, nodes: NodeSet) {
        self.condemned = self.condemned.or(nodes);
    }

    /// The proposal was committed.
    pub fn on_committed(&mut self, view: &View, ctx: &mut Context<'_, '_>, member: &Member) {
        self.proposed = false;
        self.reversing = NodeSet::EMPTY;
        self.sweep.committed();
        let old = core::mem::replace(&mut self.view, view.clone());
        for n in NodeId::first(self.nodes) {
            let (was, is) = (old.state(n), self.view.state(n));
            if was != is || old.incarnation(n) != self.view.incarnation(n) {
                self.on_changed(n, is, ctx, member);
            }
        }
        let out = self.view.members();
        for p in self.progress.iter_mut().flatten() {
            // The dead are struck from every awaited set at once; what is outstanding is told anew on the new view.
            if let At::Running { awaiting, .. } = &mut p.at {
                if keep(Rule::StruckAtOnce) {
                    *awaiting = awaiting.and(out);
                }
                p.news = true;
            }
        }
        ctx.send(Destination::All, &self.view_message());
        self.rearm(ctx.now);
    }

    /// One node's overall state changed by a commit.
    fn on_changed(&mut self, n: NodeId, is: NodeState, ctx: &mut Context<'_, '_>, member: &Member) {
        let incarnation = self.view.incarnation(n);
        let i = n.index();
        match is {
            NodeState::Joining => {
                self.asks[i] = None;
                let first = self.map.first(n, Transition::Joining);
                self.progress[i] = Some(Progress::new(Transition::Joining, incarnation, first));
            }
            NodeState::Leaving => {
                self.drop_waiting_local(n);
                let from = match &self.progress[i] {
                    // Reversed between levels: it leaves from the highest level that it is through at (EP p. 6).
                    Some(join) => join.level().and_then(|level| self.map.below(n, level)),
                    None => self.map.highest(n),
                };
                self.progress[i] = Some(Progress::new(Transition::Leaving, incarnation, from));
            }
            NodeState::ForcedLeaving => {
                self.begin_forced_leave(n);
                self.begin_fence(n, ctx);
                if self.view.joined().is_empty() {
                    // The cluster forms anew, with whoever joins next.
                    self.recover = self.recover.or(self.recovered).with(n);
                }
                if let Some(t) = &mut self.takeover {
                    t.forced_out(n);
                }
            }
            NodeState::Joined => {
                self.progress[i] = None;
                // The levels recovered the former lives before they acknowledged this join.
                self.recovered = self.recovered.or(core::mem::take(&mut self.recover));
            }
            NodeState::Inactive => {
                (self.progress[i], self.progress[local(n)]) = (None, None);
                self.fences[i] = None;
                self.map.remove(n);
                if n == self.me {
                    // The view was about the former life, whose levels the survivors told; those of this life stay.
                    let (levels, died) = member.all_offers();
                    self.map.restore(n, &levels, died);
                }
                self.condemned.remove(n);
                self.leaves.remove(n);
            }
        }
    }

    fn begin_forced_leave(&mut self, n: NodeId) {
        if self.takeover.is_some() {
            // What the survivors know of it decides, once all have answered.
            return;
        }
        let alone = self.overtake_local(n);
        let map = &self.map;
        let below = |level| map.below(n, level);
        let (top, overtakes) = match &self.progress[n.index()] {
            Some(p) => {
                let heard = p.heard(below);
                (heard.top, heard.overtakes)
            }
            None => (map.highest(n), alone),
        };
        let aborts_at = self.participants_of(overtakes.and_then(|o| o.round));
        let first = self.first_forced(n, top);
        self.progress[n.index()] = Some(Progress {
            top,
            overtakes,
            aborts_at,
            ..Progress::new(Transition::ForcedLeaving, self.view.incarnation(n), first)
        });
    }

    /// Who takes part in a round that is under way.
    pub(crate) fn participants_of(&self, round: Option<RoundId>) -> NodeSet {
        self.rounds.iter().find(|r| Some(r.id) == round).map_or(NodeSet::EMPTY, |r| r.participants)
    }

    fn begin_fence(&mut self, n: NodeId, ctx: &mut Context<'_, '_>) {
        let incarnation = self.view.incarnation(n);
        let seen = self.sweep.take_seen(n);
        let fence = Fence::begin(ctx.now, (n, incarnation), ctx.lock, &self.timing, seen);
        self.fences[n.index()] = Some(fence);
    }

    /// Does everything that can be done now. Called after every input.
    pub fn drive(&mut self, ctx: &mut Context<'_, '_>, member: &mut Member) {
        // A forming master is in no view yet and has no lease; its ballot writes are bounded by the port all the same.
        if ctx.lock.master() != Some(self.ballot) || ctx.lock.frozen(ctx.now) {
            return;
        }
        let kept_out = ctx.lock.registration().is_none_or(Registration::is_sure);
        for n in NodeId::first(self.nodes) {
            if let Some(f) = &mut self.fences[n.index()] {
                let halted = ctx.net.halted(n, self.view.incarnation(n));
                f.poll(ctx.now, n, halted, kept_out, ctx.trace);
            }
        }
        if self.takeover.as_ref().is_some_and(|t| t.waiting().is_empty() || !keep(Rule::AllAnswer))
            && let Some(takeover) = self.takeover.take()
        {
            self.restore(takeover, ctx);
        }
        if self.takeover.is_none() {
            self.advance(ctx, member);
        }
        self.watch_stalls(ctx, member);
        self.propose(ctx);
        if ctx.now >= self.resend_at {
            self.resend(ctx, member);
        }
    }

    fn resend(&mut self, ctx: &mut Context<'_, '_>, member: &mut Member) {
        for n in self.unanswered().without(self.me) {
            ctx.send_to(n, &Message::Query { ballot: self.ballot });
        }
        let mut outstanding = !self.unanswered().is_empty();
        if self.takeover.is_none() {
            for p in self.progress.iter_mut().flatten() {
                if p.is_running() {
                    p.news = true;
                    outstanding = true;
                }
            }
            self.tell(ctx, member);
        }
        self.resend_us = (self.resend_us * 2).min(RESEND_LAST_US);
        self.resend_at = if outstanding { ctx.now.plus_us(self.resend_us) } else { Instant::FAR };
    }

    pub(crate) fn rearm(&mut self, now: Instant) {
        self.resend_us = RESEND_FIRST_US;
        self.resend_at = now.plus_us(self.resend_us);
    }

    /// Whether anything can give a reason for a new view. In an idle cluster nothing does.
    fn may_change(&self) -> bool {
        !self.condemned.is_empty()
            || !self.leaves.is_empty()
            || NodeId::first(self.nodes).any(|n| self.asks[n.index()].is_some())
            || slots(self.nodes).any(|(slot, _)| self.progress[slot].is_some())
    }

    /// Proposes the next view, if anything is to change.
    fn propose(&mut self, ctx: &mut Context<'_, '_>) {
        if self.proposed || !self.may_change() {
            return;
        }
        let mut joins_max = NODES_MAX;
        loop {
            let next = self.next_view(joins_max, ctx);
            if next.same_content(&self.view) {
                return;
            }
            let before = self.view.nodes_in(&[NodeState::Joining, NodeState::Joined]);
            let reversing = before.and(next.nodes_in(&[NodeState::Leaving]));
            let forced = |view: &View| view.nodes_in(&[NodeState::ForcedLeaving]);
            let forces = !forced(&next).is_subset(forced(&self.view));
            match ctx.lock.propose(next) {
                Ok(()) => {
                    self.proposed = true;
                    self.reversing = reversing;
                    if forces {
                        self.sweep.expect();
                    }
                    return;
                }
                // More new incarnations than the undo record has room for: the rest joins with the next view.
                Err(ProposeError::TooManyChanges) if joins_max > 1 => joins_max /= 2,
                Err(_) => return,
            }
        }
    }

    /// The newest view with every change of overall state that is due.
    fn next_view(&mut self, joins_max: usize, ctx: &mut Context<'_, '_>) -> View {
        let mut next = self.view.successor();
        for n in NodeId::first(self.nodes) {
            let (state, incarnation) = (self.view.state(n), self.view.incarnation(n));
            if self.condemned.contains(n) && state.is_member() {
                next.set(n, NodeState::ForcedLeaving, incarnation);
            } else if self.takeover.is_none()
                && let Some(is) = self.due(n, state)
            {
                next.set(n, is, incarnation);
            }
        }
        if self.takeover.is_none() {
            let mut joins = 0;
            for n in NodeId::first(self.nodes) {
                if joins < joins_max
                    && let Some(incarnation) = self.admissible(n, &next, ctx)
                {
                    next.set(n, NodeState::Joining, incarnation);
                    joins += 1;
                }
            }
        }
        next
    }

    /// The next overall state of a node, if it is due by its transition or its wish.
    fn due(&self, n: NodeId, state: NodeState) -> Option<NodeState> {
        let progress = self.progress[n.index()].as_ref();
        let alone = self.progress[local(n)].as_ref();
        let done = progress.is_some_and(|p| p.at == At::Done);
        match state {
            NodeState::Joining if done => Some(NodeState::Joined),
            NodeState::Leaving if done => alone.is_none().then_some(NodeState::Inactive),
            NodeState::ForcedLeaving if done => {
                let fenced = self.fences[n.index()].as_ref().is_none_or(Fence::is_through);
                (fenced && alone.is_none()).then_some(NodeState::Inactive)
            }
            // Reversed only between levels: the level in progress completes its join first (EP p. 6).
            NodeState::Joining if self.leaves.contains(n) => progress
                .is_some_and(|p| !p.is_running() || !keep(Rule::ReversedBetweenLevels))
                .then_some(NodeState::Leaving),
            // The same for a level that joins or leaves alone.
            NodeState::Joined if self.leaves.contains(n) => {
                let waits = |p: &Progress| !p.is_running() && p.transition != Transition::ForcedLeaving;
                alone.is_none_or(waits).then_some(NodeState::Leaving)
            }
            _ => None,
        }
    }

    /// Whether the join that `n` asked for may be committed now. A joiner and all members must hear each other, so that
    /// nothing re-forms endlessly (DESIGN 7).
    fn admissible(&mut self, n: NodeId, next: &View, ctx: &mut Context<'_, '_>) -> Option<Incarnation> {
        let ask = self.asks[n.index()]?;
        let born = is_born(n, ask.incarnation, ctx);
        if next.state(n) != NodeState::Inactive || !(born || n == self.me) {
            return None;
        }
        if n == self.me {
            return Some(ask.incarnation);
        }
        let hears = |a: NodeId, b: NodeId| ctx.net.hears_of(a).contains(b);
        let members = next.members().without(n);
        let deaf = members.iter().find(|m| !(hears(n, *m) && hears(*m, n)));
        let Some(by) = deaf else {
            // While members do not hear each other it waits for what becomes of that.
            let whole = members.iter().all(|m| members.without(m).is_subset(ctx.net.hears_of(m)));
            return whole.then_some(ask.incarnation);
        };
        if ctx.now.since_us(ask.since) > u64::from(self.timing.net_suspect) * 3000 {
            self.asks[n.index()] = None;
            self.refuse(n, ask.incarnation, RefuseReason::NotHeardBy { node: by }, ctx);
        }
        None
    }

    /// This node itself asks to join (at formation) or to leave.
    pub fn ask_for_self(&mut self, incarnation: Incarnation, now: Instant) {
        let ask = &mut self.asks[self.me.index()];
        if self.view.state(self.me) == NodeState::Inactive
            && self.view.incarnation(self.me) < incarnation
            && ask.is_none()
        {
            *ask = Some(Ask { incarnation, since: now });
        } else if self.view.state(self.me).is_member() && self.view.incarnation(self.me) < incarnation {
            self.condemned.insert(self.me);
        }
    }

    /// This node itself wants out.
    pub fn leave_self(&mut self) {
        self.leaves.insert(self.me);
    }

    pub(crate) fn new_round_id(&mut self) -> RoundId {
        let id = RoundId { ballot: self.ballot, sequence: self.next_round };
        self.next_round += 1;
        id
    }
}

/// Whether a node's heartbeat block shows this life.
fn is_born(n: NodeId, incarnation: Incarnation, ctx: &Context<'_, '_>) -> bool {
    ctx.lock.peer(n).heartbeat.as_ref().is_some_and(|h| h.incarnation == incarnation && !h.clean)
}

/// Who the new master is.
#[derive(Clone, Copy, Debug)]
pub struct MasterAt {
    /// This node.
    pub me: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Configured nodes.
    pub nodes: u8,
    /// The cluster's time-outs.
    pub timing: Timing,
    /// What the disk makes of the requests of a node whose registration was preempted.
    pub preempted: Preempted,
    /// Nodes whose last life did not end with a clean mark.
    pub unclean: NodeSet,
}
