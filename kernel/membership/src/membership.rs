//! The machine: what this node is to the cluster, who is master for it, and the two sides behind it.
//!
//! Invariants:
//! - only messages of the highest ballot that was seen are obeyed (DESIGN 4);
//! - a view is adopted only when it is known to be committed; numbers of adopted views grow;
//! - an outsider contends for the lock only if no joined node is alive; nobody outside of the set that arbitration leaves
//!   contends.

mod evidence;
#[cfg(feature = "rule-switches")]
mod fingerprint;

use quorate_base::capacity::NODES_MAX;
use quorate_base::event::{Event, Trace};
use quorate_base::reservation::ReservationAnswer;
use quorate_base::text::format_cut;
use quorate_base::{
    Ballot, DiskError, HaltReason, Incarnation, Instant, LevelDecl, LevelOrder, NodeId, NodeSet, NodeState, Preempted,
    ReservationError, Timing, View, ViewName,
};
use quorate_database::Flag;
use quorate_interconnect::Destination;
use quorate_master_lock::LockEvent;

use crate::admission::fits;
use crate::context::Context;
use crate::fence::Command;
use crate::fence::sweep::Asked;
use crate::master::{Master, MasterAt};
use crate::member::Member;
use crate::message::{JoinRequest, LevelResult, Message, Notify, PROTOCOL_VERSION, Refuse, ViewMessage, other_version};
use crate::notification::{Change, Notification};
use crate::registration::{Deregister, DeregisterError, LevelStatus, RegisterError};
use crate::rules::{Rule, keep};
use crate::survivors::Settling;

/// How often an outsider repeats its request to join, and a member its request to leave, µs.
const ASK_US: u64 = 50_000;
/// How often a member that notices a gap asks for the newest view at most, µs.
const VIEW_ASK_US: u64 = 20_000;

/// What the machine must know from the start.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Configured nodes.
    pub nodes: u8,
    /// The cluster's time-outs.
    pub timing: Timing,
    /// Each node's weight in arbitration.
    pub weights: [u8; NODES_MAX],
    /// What the disk makes of the requests of a node whose registration was preempted.
    pub preempted: Preempted,
    /// The former life of this node ended with a clean mark (or there was none).
    pub was_clean: bool,
}

/// The membership manager of one node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Membership {
    me: NodeId,
    incarnation: Incarnation,
    nodes: u8,
    timing: Timing,
    weights: [u8; NODES_MAX],
    preempted: Preempted,
    was_clean: bool,
    ballot: Ballot,
    name: ViewName,
    view: View,
    adopted: bool,
    adopted_at: Instant,
    member: Member,
    master: Option<Master>,
    settling: Settling,
    lately: evidence::Lately,
    outside: NodeSet,
    leaving: bool,
    heard_sequence: (Ballot, u32),
    ask_at: Instant,
    view_ask_at: Instant,
    refused: Option<Refuse>,
    thawed_at: Option<Instant>,
    hears: NodeSet,
    carrier: bool,
    /// The master's side could act at the last call; else only a beat wakes it.
    leads: bool,
    /// The master under `ballot` asked what this node knows, and is not answered yet.
    asked: bool,
    /// What a master of this node asked of the disk for its fences, and under which ballot; it outlives the master.
    asked_of_disk: Option<(Ballot, Asked)>,
    command: Option<Command>,
    halt: Option<HaltReason>,
}

impl Membership {
    /// For a new life of this node, outside of the cluster.
    pub fn new(config: &Config) -> Self {
        Self {
            me: config.me,
            incarnation: config.incarnation,
            nodes: config.nodes.min(NODES_MAX as u8),
            timing: config.timing,
            weights: config.weights,
            preempted: config.preempted,
            was_clean: config.was_clean,
            ballot: Ballot::NONE,
            name: ViewName::default(),
            view: View::EMPTY,
            adopted: false,
            adopted_at: Instant::ZERO,
            member: Member::new(config.me),
            master: None,
            settling: Settling::default(),
            lately: evidence::Lately::default(),
            outside: NodeSet::EMPTY,
            leaving: false,
            heard_sequence: (Ballot::NONE, 0),
            // The first request follows the first beat: before it the master would look for this node's heartbeat in vain.
            ask_at: Instant::FAR,
            view_ask_at: Instant::ZERO,
            refused: None,
            thawed_at: None,
            hears: NodeSet::EMPTY,
            carrier: true,
            leads: false,
            asked: false,
            asked_of_disk: None,
            command: None,
            halt: None,
        }
    }

    /// Registers a level. Kernel levels register before the node asks to join.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub fn register(&mut self, level: &LevelDecl<'_>, trace: &mut Trace<'_>) -> Result<(), RegisterError> {
        self.member.register(level, trace)
    }

    /// Registers a level at run time: of user space, above every static level of this node. It joins by itself as soon as the
    /// node is joined; [`level_status`](Self::level_status) tells how it stands.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub fn register_run_time(
        &mut self,
        now: Instant,
        level: &LevelDecl<'_>,
        trace: &mut Trace<'_>,
    ) -> Result<(), RegisterError> {
        if self.is_going() {
            return Err(RegisterError::Leaving);
        }
        self.member.register_run_time(level, self.state().is_member(), trace)?;
        self.ask_soon(now);
        Ok(())
    }

    /// De-registers a level that was registered at run time.
    ///
    /// # Errors
    /// See [`DeregisterError`]. A death is taken in also while the node is leaving.
    pub fn deregister(
        &mut self,
        now: Instant,
        level: LevelOrder,
        how: Deregister,
        trace: &mut Trace<'_>,
    ) -> Result<(), DeregisterError> {
        if self.is_going() && how == Deregister::Graceful {
            return Err(DeregisterError::Leaving);
        }
        let joined = matches!(self.state(), NodeState::Joined | NodeState::Leaving);
        self.member.deregister(level, how, joined, trace)?;
        self.ask_soon(now);
        Ok(())
    }

    /// The node ends: its run-time levels are de-registered (MISSION A3).
    pub fn deregister_all(&mut self, trace: &mut Trace<'_>) {
        self.member.deregister_all(trace);
    }

    /// How a level of this node stands; `None` if it has no such level.
    pub fn level_status(&self, level: LevelOrder) -> Option<LevelStatus> {
        self.member.level_status(level)
    }

    /// A leave of this node was asked for or is under way, or the others put it out.
    fn is_going(&self) -> bool {
        self.leaving
            || self.view.excludes(self.me, self.incarnation)
            || !matches!(self.state(), NodeState::Inactive | NodeState::Joining | NodeState::Joined)
    }

    /// A new wish is not to wait for the next repetition.
    fn ask_soon(&mut self, now: Instant) {
        if self.asks_for_levels() {
            self.ask_at = now;
        }
    }

    /// There is something to ask the master for that is about run-time levels.
    fn asks_for_levels(&self) -> bool {
        matches!(self.state(), NodeState::Joined | NodeState::Leaving) && self.member.has_wishes(self.leaving)
    }

    /// The member's side, for questions.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// The master's side, for questions, while this node is master.
    pub fn master(&self) -> Option<&Master> {
        self.master.as_ref()
    }

    /// The newest committed view that this node adopted, and its name.
    pub fn view(&self) -> (ViewName, &View) {
        (self.name, &self.view)
    }

    /// The highest ballot that this node has seen: its node is the master to the best of this node's knowledge.
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// This node's own overall state.
    pub fn state(&self) -> NodeState {
        if self.view.incarnation(self.me) == self.incarnation { self.view.state(self.me) } else { NodeState::Inactive }
    }

    /// What this node's heartbeats say of its state. A joined node that asked to leave says so at once, so that nobody hands
    /// the lock over to it; and one that a view let go is "leaving" until its clean mark is written.
    pub fn told_state(&self) -> NodeState {
        match self.state() {
            NodeState::Joined => self.wish(),
            NodeState::Inactive if self.view.incarnation(self.me) == self.incarnation => self.wish(),
            state => state,
        }
    }

    fn wish(&self) -> NodeState {
        if self.leaving { NodeState::Leaving } else { self.state() }
    }

    /// The last refusal of this node's join, if it was refused and is not in.
    pub fn refused(&self) -> Option<&Refuse> {
        self.refused.as_ref().filter(|_| self.state() == NodeState::Inactive)
    }

    /// Whether a graceful leave was asked for.
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Nodes that arbitration would drop now.
    pub fn outside(&self) -> NodeSet {
        self.outside
    }

    /// The node must halt, if it says so. Once.
    pub fn take_halt(&mut self) -> Option<HaltReason> {
        self.halt.take()
    }

    /// Whether this node's NIC has a link: a node without one goes first in arbitration.
    pub fn set_carrier(&mut self, carrier: bool) {
        self.carrier = carrier;
    }

    /// Asks for a graceful leave. It is repeated to whoever is master until it is through.
    pub fn leave(&mut self, now: Instant) {
        self.leaving = true;
        self.ask_at = now;
    }

    /// Whether a level has something to take.
    pub fn has_notification(&self, level: LevelOrder) -> bool {
        self.member.has_notification(level)
    }

    /// A level's thread of control takes its notification.
    pub fn take_notification(&mut self, level: LevelOrder) -> Option<Notification> {
        self.member.take_notification(level, &self.view)
    }

    /// A level acknowledges a change. False if that was overtaken meanwhile.
    pub fn acknowledge(&mut self, level: LevelOrder, change: &Change, ctx: &mut Context<'_, '_>) -> bool {
        let taken = self.member.acknowledge(level, change, ctx.trace);
        self.after(ctx);
        taken
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Instant {
        let asks = self.state() == NodeState::Inactive || self.leaving || self.asks_for_levels();
        let ask = if asks && self.master.is_none() { self.ask_at } else { Instant::FAR };
        self.master.as_ref().filter(|_| self.leads).map_or(ask, |m| ask.min(m.poll_timeout()))
    }

    /// Time passed, or evidence changed.
    pub fn handle_timeout(&mut self, ctx: &mut Context<'_, '_>) {
        self.after(ctx);
    }

    /// The lock or the disk says something.
    pub fn on_lock_event(&mut self, event: LockEvent, ctx: &mut Context<'_, '_>) {
        match event {
            LockEvent::Beat => {
                if self.ask_at == Instant::FAR {
                    self.ask_at = ctx.now;
                }
                self.on_beat(ctx);
            }
            LockEvent::Acquired { ballot, .. } => {
                self.ballot = self.ballot.max(ballot);
                self.adopt(ctx);
                // One that lost the lock again in the same turn begins nothing: that event comes next.
                if ctx.lock.master() == Some(ballot) {
                    let at = MasterAt {
                        me: self.me,
                        incarnation: self.incarnation,
                        nodes: self.nodes,
                        timing: self.timing,
                        preempted: self.preempted,
                        unclean: self.unclean(ctx),
                    };
                    self.master = Some(Master::new(ballot, &self.view, ctx, &self.member, at));
                }
            }
            LockEvent::Lost { to } => {
                self.ballot = self.ballot.max(to);
                self.master = None;
            }
            LockEvent::Released | LockEvent::Unknown { .. } => self.master = None,
            LockEvent::Committed { .. } => {
                self.adopt(ctx);
                // The same look may have shown a higher promise: a master that is deposed fences nobody.
                if let Some(master) = self.master.as_mut().filter(|m| ctx.lock.master() == Some(m.ballot())) {
                    master.on_committed(&self.view, ctx, &self.member);
                }
            }
            LockEvent::Learned { .. } => self.adopt(ctx),
            LockEvent::Frozen => {}
            LockEvent::Thawed => {
                self.thawed_at = Some(ctx.now);
                if let Some(master) = &mut self.master {
                    master.stalls.restart(ctx.now);
                }
            }
            LockEvent::Farewell => self.halt = Some(HaltReason::Left),
        }
        self.after(ctx);
    }

    /// What is to be asked of the disk for the fences. One is under way at a time.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.command.take()
    }

    /// The reservation command that was asked for is done.
    pub fn on_reservation(&mut self, result: Result<&ReservationAnswer, ReservationError>, ctx: &mut Context<'_, '_>) {
        if let Some((ballot, asked)) = self.asked_of_disk.take()
            && let Some(master) = self.master.as_mut().filter(|m| m.ballot() == ballot)
        {
            master.command_answered(asked, result, ctx);
        }
        self.after(ctx);
    }

    /// The read that was asked for is done.
    pub fn on_fence_read(&mut self, result: Result<&[u8], DiskError>, ctx: &mut Context<'_, '_>) {
        if let Some((ballot, Asked::Heartbeat(node))) = self.asked_of_disk.take()
            && let Some(master) = self.master.as_mut().filter(|m| m.ballot() == ballot)
        {
            master.heartbeat_read(node, result, ctx);
        }
        self.after(ctx);
    }

    /// A verified membership datagram came.
    pub fn on_message(&mut self, from: NodeId, incarnation: Incarnation, payload: &[u8], ctx: &mut Context<'_, '_>) {
        // By reference from here on: messages are large.
        let Ok(message) = &Message::decode(payload) else {
            if other_version(payload).is_some()
                && let Some(master) = self.master.as_mut().filter(|m| ctx.lock.master() == Some(m.ballot()))
                && !ctx.lock.frozen(ctx.now)
            {
                master.on_other_version(from, incarnation, ctx);
                return;
            }
            let what = format_cut::<64>(format_args!("damaged membership message from node {from}"));
            ctx.trace.event(Event::Note { what: &what });
            return;
        };
        self.dispatch(from, incarnation, message, ctx);
        self.after(ctx);
    }

    /// A verified heartbeat came. A master tells a peer that has missed the newest view of it again: the peer would else
    /// learn it from the disk only with its next beat.
    pub fn on_heartbeat(&mut self, from: NodeId, ctx: &mut Context<'_, '_>) {
        let known = ctx.net.peer(from).heartbeat.map_or(ViewName::default(), |h| h.status.committed);
        if let Some(master) = &self.master
            && self.leads
            && (known.number, known.ballot) < (self.name.number, self.name.ballot)
            && ctx.now >= self.adopted_at.plus_us(VIEW_ASK_US)
        {
            ctx.send_to(from, &master.view_message());
        }
    }

    fn dispatch(&mut self, from: NodeId, incarnation: Incarnation, message: &Message, ctx: &mut Context<'_, '_>) {
        match message {
            Message::View(m) => self.on_view_message(m, ctx),
            Message::Notify(m) => self.on_notify(from, m, ctx),
            Message::Query { ballot } => self.on_query(from, *ballot, ctx),
            Message::Refuse(m) => self.on_refuse(*m, ctx),
            Message::LevelResult(m) => self.on_level_result(m, ctx),
            Message::ViewRequest => {
                let (name, view) = (self.name, &self.view);
                if name.ballot != Ballot::NONE {
                    ctx.send_to(from, &Message::View(ViewMessage::new(name, view, self.nodes)));
                }
            }
            _ => self.dispatch_to_master(from, incarnation, message, ctx),
        }
    }

    fn dispatch_to_master(
        &mut self,
        from: NodeId,
        incarnation: Incarnation,
        message: &Message,
        ctx: &mut Context<'_, '_>,
    ) {
        let Some(master) = self.master.as_mut().filter(|m| ctx.lock.master() == Some(m.ballot())) else { return };
        if ctx.lock.frozen(ctx.now) {
            return;
        }
        match message {
            Message::JoinRequest(request) => master.on_join_request(from, incarnation, request, ctx),
            Message::LeaveRequest => master.on_leave_request(from, incarnation, ctx),
            Message::LevelRequest(request) => {
                if let Some(result) = master.on_level_request(from, incarnation, request, ctx) {
                    ctx.send_to(from, &Message::LevelResult(result));
                }
            }
            Message::Ack { ballot, entries } if *ballot == master.ballot() => {
                master.on_acks(from, incarnation, entries)
            }
            // Only the life that is the member knows; a later one of that node would answer that it knows nothing.
            Message::AnswerLevels { ballot, levels, died }
                if *ballot == master.ballot() && self.view.has_member(from, incarnation) =>
            {
                let died = *died;
                master.on_answer_levels(from, levels, died);
                if !self.view.has_member(self.me, self.incarnation) {
                    let ballot = master.ballot();
                    if let Err(reason) = fits(self.me, &self.member.offers(), (from, levels, died)) {
                        self.take_refusal(Refuse { ballot, incarnation: self.incarnation, reason }, ctx);
                    }
                }
            }
            Message::Answer(answer) if answer.ballot == master.ballot() && self.view.has_member(from, incarnation) => {
                master.on_answer(from, answer);
            }
            _ => {}
        }
    }

    /// Whether a master's message under `ballot` is to be obeyed.
    fn obeys(&mut self, ballot: Ballot, ctx: &mut Context<'_, '_>) -> bool {
        if ballot < self.ballot {
            return false;
        }
        if ballot > self.ballot {
            self.ballot = ballot;
            self.asked = false;
            ctx.lock.note_ballot(ballot);
            if self.master.as_ref().is_some_and(|m| m.ballot() < ballot) {
                // Somebody promised more: the disk will say so too. Nothing is sent as master from here on.
                self.master = None;
            }
        }
        true
    }

    fn on_view_message(&mut self, m: &ViewMessage, ctx: &mut Context<'_, '_>) {
        if m.members.len() != usize::from(self.nodes) || !self.obeys(m.name.ballot, ctx) {
            return;
        }
        ctx.lock.note_committed(m.name, &m.view());
        self.adopt(ctx);
    }

    fn on_notify(&mut self, from: NodeId, m: &Notify, ctx: &mut Context<'_, '_>) {
        if !self.obeys(m.view.ballot, ctx) || m.view.ballot.node() != Some(from) {
            return;
        }
        if (m.view.number != self.view.number || m.view.ballot != self.name.ballot) && keep(Rule::ViewFirst) {
            if (m.view.number, m.view.ballot) > (self.view.number, self.name.ballot) && ctx.now >= self.view_ask_at {
                self.view_ask_at = ctx.now.plus_us(VIEW_ASK_US);
                ctx.send_to(from, &Message::ViewRequest);
            }
            return;
        }
        // An older one that comes late would put an older vector in place.
        if (m.view.ballot, m.sequence) <= self.heard_sequence || !self.view.has_member(self.me, self.incarnation) {
            return;
        }
        self.heard_sequence = (m.view.ballot, m.sequence);
        self.member.on_notify(m, ctx.trace);
        self.member.acknowledge_membership_level(&self.view, ctx.trace);
        // The end of one local transition lets the next wish begin.
        self.ask_soon(ctx.now);
    }

    fn on_level_result(&mut self, m: &LevelResult, ctx: &mut Context<'_, '_>) {
        if m.incarnation == self.incarnation && self.obeys(m.ballot, ctx) {
            self.member.on_level_result(m, ctx.trace);
            self.ask_soon(ctx.now);
        }
    }

    fn on_query(&mut self, from: NodeId, ballot: Ballot, ctx: &mut Context<'_, '_>) {
        if !self.obeys(ballot, ctx) || ballot.node() != Some(from) {
            return;
        }
        // What this node knows counts only by the view that the master took over: that may have ended transitions.
        self.asked = true;
        if self.name.ballot < ballot {
            ctx.send_to(from, &Message::ViewRequest);
        }
        self.answer(ctx);
    }

    /// Answers the master that asked, once its view is adopted.
    fn answer(&mut self, ctx: &mut Context<'_, '_>) {
        let ballot = self.ballot;
        let Some(to) = ballot.node().filter(|_| self.asked && self.name.ballot == ballot) else { return };
        self.asked = false;
        let (levels, died) = self.member.all_offers();
        ctx.send_to(to, &Message::AnswerLevels { ballot, levels, died });
        let mut first = 0;
        loop {
            let part = self.member.answer(ballot, first);
            let (is_last, next) = (part.is_last(), part.next);
            ctx.send_to(to, &Message::Answer(part));
            if is_last || next <= first {
                return;
            }
            first = next;
        }
    }

    fn on_refuse(&mut self, m: Refuse, ctx: &mut Context<'_, '_>) {
        if m.incarnation != self.incarnation || self.state() != NodeState::Inactive || !self.obeys(m.ballot, ctx) {
            return;
        }
        self.take_refusal(m, ctx);
    }

    fn take_refusal(&mut self, m: Refuse, ctx: &mut Context<'_, '_>) {
        if self.refused.is_none_or(|r| r.reason != m.reason) {
            let what = format_cut::<128>(format_args!("join refused: {}", m.reason));
            ctx.trace.event(Event::Note { what: &what });
        }
        self.refused = Some(m);
        if !m.reason.is_passing() {
            self.halt = Some(HaltReason::Refused { reason: m.reason });
        }
    }

    /// Takes over what the lock knows as committed, if it is newer.
    fn adopt(&mut self, ctx: &mut Context<'_, '_>) {
        let (name, view) = ctx.lock.committed();
        if name.ballot == Ballot::NONE || (name.number, name.ballot) <= (self.name.number, self.name.ballot) {
            return;
        }
        let old = core::mem::replace(&mut self.view, view.clone());
        let first = !core::mem::replace(&mut self.adopted, true);
        self.name = name;
        self.adopted_at = ctx.now;
        ctx.trace.event(Event::view(name.ballot, &self.view, self.nodes));
        // One that is out has heard nothing of what the others did since.
        let me = (!self.view.excludes(self.me, self.incarnation)).then_some(self.me);
        self.member.on_view(&old, &self.view, me, ctx.trace);
        if self.state().is_member() {
            self.member.tell_registrations(ctx.trace);
        }
        self.answer(ctx);
        if first {
            // A newcomer's starting vector is not written out.
            return;
        }
        for n in NodeId::first(self.nodes) {
            let (is, incarnation) = (self.view.state(n), self.view.incarnation(n));
            let changed = old.state(n) != is || old.incarnation(n) != incarnation;
            if changed && matches!(is, NodeState::Joined | NodeState::Inactive) {
                ctx.trace.event(Event::State { subject: n, incarnation, level: None, is });
            }
        }
        // A change of who hears or is in is told at once, not with the next period.
        ctx.net.heartbeat_now();
    }

    /// Nodes whose last life did not end with a clean mark; of this node, its former life.
    fn unclean(&self, ctx: &Context<'_, '_>) -> NodeSet {
        NodeId::first(self.nodes)
            .filter(|n| {
                if *n == self.me {
                    return !self.was_clean;
                }
                // The view knows of a life that its block does not show: blank, unreadable or older is no clean mark.
                let known = ctx.lock.committed().1.incarnation(*n);
                match &ctx.lock.peer(*n).heartbeat {
                    Some(h) => (!h.clean || h.incarnation < known) && h.incarnation != Incarnation::NEVER,
                    None => known != Incarnation::NEVER,
                }
            })
            .collect()
    }

    /// After every input: evidence, contention, the master's work, what is to be sent.
    fn after(&mut self, ctx: &mut Context<'_, '_>) {
        if self.halt.is_some() {
            // It ends with this turn, and does nothing more as a member or as master.
            self.master = None;
            return;
        }
        let hears = ctx.net.hears();
        if hears != self.hears {
            self.hears = hears;
            ctx.net.heartbeat_now();
        }
        let want = self.wants_lock(ctx);
        ctx.lock.contend(want);
        self.lead(ctx);
        if self.member.has_acks() {
            self.send_acks(ctx);
        }
        if self.master.is_none() && ctx.now >= self.ask_at {
            self.ask(ctx);
        }
        if let Some(what) = self.member.impossible() {
            self.halt = Some(HaltReason::Impossible { what });
        }
    }

    // Apart, because messages are large and most turns send none.
    #[inline(never)]
    fn send_acks(&mut self, ctx: &mut Context<'_, '_>) {
        let acks = self.member.take_acks();
        if self.master.is_none()
            && let Some(to) = self.ballot.node().filter(|n| *n != self.me)
        {
            ctx.send_to(to, &Message::Ack { ballot: self.ballot, entries: acks });
        }
    }

    /// The master's part.
    fn lead(&mut self, ctx: &mut Context<'_, '_>) {
        self.leads = false;
        if self.master.is_none() {
            return;
        }
        let condemned = self.condemned(ctx);
        let hand_over = self.leaving && !self.heirs(ctx).is_empty();
        let outside = self.outside.contains(self.me);
        self.leads = false;
        let Some(master) = &mut self.master else { return };
        if ctx.lock.master() != Some(master.ballot()) || ctx.lock.frozen(ctx.now) {
            return;
        }
        if hand_over || outside {
            // `contend(false)` has begun the release; nothing new is begun under this ballot.
            return;
        }
        if self.view.state(self.me) != NodeState::Inactive || self.view.incarnation(self.me) < self.incarnation {
            master.ask_for_self(self.incarnation, ctx.now);
        }
        if self.leaving {
            // The last one waits until those that are joining are in, and hands over to them, or until all others left.
            if self.view.members().without(self.me).is_empty() {
                master.leave_self();
            }
        }
        self.leads = true;
        master.condemn(condemned);
        if self.member.has_wishes(self.leaving) && self.view.has_member(self.me, self.incarnation) {
            ask_own_master(master, &mut self.member, self.leaving, ctx);
        }
        master.take_own_acks(&mut self.member, ctx);
        master.drive(ctx, &mut self.member);
        if self.asked_of_disk.is_none()
            && let Some((asked, command)) = master.next_command(ctx)
        {
            self.asked_of_disk = Some((master.ballot(), asked));
            self.command = Some(command);
        }
        if let Some(reason) = master.halt.take() {
            self.halt = Some(reason);
        }
    }

    /// Live joined nodes but this one that do not want to leave themselves, nor are put out by a cut: the lock is for one of
    /// them.
    fn heirs(&self, ctx: &Context<'_, '_>) -> NodeSet {
        let stays = |n: &NodeId| {
            let block = ctx.lock.peer(*n).heartbeat.as_ref().is_some_and(|h| h.state == NodeState::Leaving);
            let frame = ctx.net.peer(*n).heartbeat.as_ref().is_some_and(|h| h.status.state == NodeState::Leaving);
            !(block || frame)
        };
        self.alive(self.view.joined(), ctx).without(self.me).minus(self.outside).iter().filter(stays).collect()
    }

    /// Members of these whose heartbeat block moves.
    fn alive(&self, members: NodeSet, ctx: &Context<'_, '_>) -> NodeSet {
        members
            .iter()
            .filter(|n| {
                let incarnation = self.view.incarnation(*n);
                let peer = ctx.lock.peer(*n);
                *n == self.me && incarnation == self.incarnation
                    || (*n != self.me
                        && !ctx.lock.disk_silent(*n)
                        && peer.heartbeat.as_ref().is_none_or(|h| h.incarnation == incarnation && !h.clean))
            })
            .collect()
    }

    fn wants_lock(&self, ctx: &Context<'_, '_>) -> bool {
        if self.halt.is_some() || self.outside.contains(self.me) || self.view.excludes(self.me, self.incarnation) {
            return false;
        }
        if self.refused.is_some_and(|r| !r.reason.is_passing()) {
            return false;
        }
        match self.state() {
            NodeState::Joined if self.leaving => self.heirs(ctx).is_empty(),
            NodeState::Joined => true,
            // An outsider leaves it to any member that is alive: between members a cut is arbitrated, but it is in no view.
            // One that wants to go has no need of it.
            NodeState::Inactive => !self.leaving && self.alive(self.view.members(), ctx).is_empty(),
            // A joining or leaving one finishes its way. Joined nodes that a cut puts out do not take the lock any more.
            _ => self.alive(self.view.joined(), ctx).minus(self.outside).is_empty(),
        }
    }

    /// Repeats this node's own wish to whoever is master.
    fn ask(&mut self, ctx: &mut Context<'_, '_>) {
        self.ask_at = ctx.now.plus_us(ASK_US);
        let outsider = self.state() == NodeState::Inactive && !self.view.excludes(self.me, self.incarnation);
        if outsider && self.leaving {
            // Never in: there is nothing to leave but the clean mark.
            ctx.lock.farewell();
            return;
        }
        let to = self.find_master(ctx).map_or(Destination::All, Destination::Node);
        if outsider {
            let request = JoinRequest { protocol: PROTOCOL_VERSION, timing: self.timing, levels: self.member.offers() };
            ctx.send(to, &Message::JoinRequest(request));
        } else if self.leaving && self.state() != NodeState::Inactive {
            ctx.send(to, &Message::LeaveRequest);
        }
        if self.asks_for_levels()
            && let Some(master) = self.ballot.node().filter(|n| *n != self.me)
        {
            let request = self.member.level_request(self.ballot, self.leaving);
            ctx.send_to(master, &Message::LevelRequest(request));
        }
    }

    /// The master, as the database shows it: "joining nodes will examine such area for the heartbeat in order to identify
    /// the master node" (EP p. 6). Among several flags the highest ballot heard decides.
    fn find_master(&self, ctx: &Context<'_, '_>) -> Option<NodeId> {
        NodeId::first(self.nodes)
            .filter(|n| *n != self.me && !ctx.lock.disk_silent(*n))
            .filter(|n| ctx.lock.peer(*n).heartbeat.as_ref().is_some_and(|h| h.flag == Flag::Hold))
            .max_by_key(|n| ctx.lock.peer(*n).promised)
    }
}

/// What this node's own run-time levels want, while it is the master itself.
// Apart, because requests are large and most turns have none.
#[inline(never)]
fn ask_own_master(master: &mut Master, member: &mut Member, leaving: bool, ctx: &mut Context<'_, '_>) {
    let (me, incarnation) = (member.me, master.view.incarnation(member.me));
    let request = member.level_request(master.ballot(), leaving);
    if let Some(result) = master.on_level_request(me, incarnation, &request, ctx) {
        member.on_level_result(&result, ctx.trace);
    }
}
