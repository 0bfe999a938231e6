//! The member's side: takes the master's rounds to this node's levels and their acknowledgements back.
//!
//! Invariants:
//! - a level is given a step (round, subject, incarnation, barrier) once, however often the master repeats it;
//! - a later step of a subject implies that its earlier levels and barriers are through everywhere, because the master
//!   begins it only then; so `state` is known without a message of its own;
//! - an acknowledgement counts only for the step that is outstanding; any other is stale (EP Table 1: overtaken);
//! - one step replaces another at a level only as EP Table 1 allows it; else the node halts ([`Member::impossible`]);
//! - a level hears of its own node's join before anything else, and of a state that is no rest (joining, leaving,
//!   forced-leaving) only by a step (EP Table 1: only Inactive and Joined are sent along).

use heapless::Vec;
use quorate_base::capacity::{LEVELS_MAX, NODES_MAX};
use quorate_base::event::{Event, StepEvent, Subject, Trace};
use quorate_base::halt::RefuseReason;
use quorate_base::{
    Ballot, Barriers, Incarnation, Instant, LevelName, LevelOrder, NodeId, NodeSet, NodeState, RoundId, Transition,
    View,
};

use crate::message::{
    AckEntry, Answer, Ended, KnownStep, LevelOffer, LevelOffers, Notify, ROUNDS_MAX, Round, Scope, StepAt,
};
use crate::notification::{Change, Notification, StateVector, may_follow};
use crate::rules::{Rule, keep};
use crate::transition::{Overtaken, SLOTS, local};

/// A level of this node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Level {
    /// Its order.
    pub order: LevelOrder,
    /// Its name.
    pub name: LevelName,
    /// Its barriers.
    pub barriers: Barriers,
    /// Whether every node must have it.
    pub everywhere: bool,
    /// Its deadline for a step, ms; 0: none.
    pub deadline_ms: u32,
    pub(crate) vector: StateVector,
    /// The round in which this node joined here last.
    joined_in: Option<RoundId>,
    recover: NodeSet,
    pub(crate) run_time: Option<RunTime>,
}

/// What a level has besides that was registered at run time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct RunTime {
    /// Its registration is in the trace. One from before the node began to join comes after the kernel levels' join all the
    /// same (EP p. 6), and is told only when that has begun.
    pub told: bool,
    /// It was told of its node's join: once it has left it goes.
    pub was_in: bool,
    /// It is to leave.
    pub unwanted: bool,
    /// The master refused it.
    pub refused: Option<RefuseReason>,
    /// The first request that can tell of the present wish.
    pub since: u32,
    /// When the present wish was made.
    pub wished: Instant,
}

impl Level {
    /// A level that nobody is at yet.
    pub(crate) fn new(decl: &quorate_base::LevelDecl<'_>, name: LevelName, run_time: Option<RunTime>) -> Self {
        Self {
            order: decl.order,
            name,
            barriers: decl.barriers,
            everywhere: decl.everywhere && run_time.is_none(),
            deadline_ms: decl.deadline_ms,
            vector: StateVector::EMPTY,
            joined_in: None,
            recover: NodeSet::EMPTY,
            run_time,
        }
    }

    /// Whether it was registered at run time.
    pub fn is_run_time(&self) -> bool {
        self.run_time.is_some()
    }

    /// What is said of it to the master.
    pub(crate) fn offer(&self) -> LevelOffer {
        LevelOffer {
            order: self.order,
            barriers: self.barriers,
            everywhere: self.everywhere,
            deadline_ms: self.deadline_ms,
            present: self.vector.present(),
        }
    }
}

/// The step of a subject that this node knows last.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Step {
    /// At which level.
    pub level: LevelOrder,
    /// In which round.
    pub round: RoundId,
    /// Whose transition.
    pub subject: Subject,
    /// Which barrier.
    pub barrier: u8,
    /// For a forced leave: the highest level that it goes to.
    pub top: LevelOrder,
    /// When this node was told.
    pub since: Instant,
    /// For a forced leave: the step that it overtakes, wherever.
    overtakes: Option<Overtaken>,
    /// A join that this level had not taken yet when it was overtaken.
    overtook: Option<RoundId>,
    taken: bool,
    acked: bool,
    /// Of one level alone, and through on all nodes.
    ended: bool,
}

#[cfg(feature = "rule-switches")]
impl Step {
    pub(crate) fn without_clock(&self) -> Self {
        Self { since: Instant::ZERO, ..*self }
    }
}

/// The member's side of the membership manager.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Member {
    pub(crate) me: NodeId,
    pub(crate) levels: Vec<Level, LEVELS_MAX>,
    /// By slot: each node's own transition, and its local one.
    pub(crate) steps: [Option<Step>; SLOTS],
    /// The round of each node's join that was given to a level last.
    pub(crate) joins: [Option<RoundId>; NODES_MAX],
    pub(crate) rounds: Vec<Round, ROUNDS_MAX>,
    pub(crate) acks: Vec<AckEntry, NODES_MAX>,
    /// Run-time levels whose process died, until the others are through with it; and the first request that tells of it.
    pub(crate) died: Vec<(LevelOffer, u32), LEVELS_MAX>,
    /// Requests about run-time levels so far.
    pub(crate) serial: u32,
    /// Whether any of `steps` is not taken, kept beside them: every level asks at every turn, and mostly there is none.
    untaken: bool,
    impossible: Option<&'static str>,
    unneeded: u32,
}

impl Member {
    /// With no level registered.
    pub const fn new(me: NodeId) -> Self {
        Self {
            me,
            levels: Vec::new(),
            steps: [None; SLOTS],
            joins: [None; NODES_MAX],
            rounds: Vec::new(),
            acks: Vec::new(),
            died: Vec::new(),
            serial: 0,
            untaken: false,
            impossible: None,
            unneeded: 0,
        }
    }

    /// The levels of this node, ascending.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// A node's state at one of this node's levels.
    pub fn state_at(&self, level: LevelOrder, node: NodeId) -> Option<NodeState> {
        self.levels.iter().find(|l| l.order == level).map(|l| l.vector.state(node))
    }

    /// The step of a subject that this node knows last, and whether its level acknowledged it.
    pub fn step(&self, subject: NodeId) -> Option<(&Step, bool)> {
        self.steps[subject.index()].as_ref().map(|s| (s, s.acked))
    }

    /// The same of a transition at one level alone, while it lasts.
    pub fn local_step(&self, subject: NodeId) -> Option<(&Step, bool)> {
        self.steps[local(subject)].as_ref().filter(|s| !s.ended).map(|s| (s, s.acked))
    }

    /// Steps towards what the level in question had from its start: acknowledged without telling it.
    pub fn unneeded(&self) -> u32 {
        self.unneeded
    }

    /// What cannot be, if it was seen: the node must halt.
    pub fn impossible(&self) -> Option<&'static str> {
        self.impossible
    }

    /// What this node declares to the master. A run-time level that has not begun to join is no matter of the others yet.
    pub fn offers(&self) -> LevelOffers {
        let here = |l: &&Level| l.run_time.is_none() || l.vector.state(self.me) != NodeState::Inactive;
        self.levels.iter().filter(here).map(Level::offer).collect()
    }

    /// The same for a new master, with those whose process died until the others are through with that; and which they are.
    pub fn all_offers(&self) -> (LevelOffers, u32) {
        let mut offers = self.offers();
        let mut died = 0;
        for (offer, _) in &self.died {
            died |= 1u32.checked_shl(offers.len() as u32).unwrap_or(0);
            // Never full: `register_run_time` counts the dead among the levels.
            let _ = offers.push(*offer);
        }
        (offers, died)
    }

    /// A part of the answer to a new master, about the places from `first` on; the last part says so.
    pub fn answer(&self, ballot: Ballot, first: u8) -> Answer {
        let mut answer = Answer::begin(ballot, first);
        for (at, step) in self.steps.iter().enumerate().skip(usize::from(first)) {
            let Some(step) = step else { continue };
            let told = if step.ended {
                let Subject { node, incarnation, .. } = step.subject;
                answer.push_ended(Ended { node, incarnation, round: step.round })
            } else {
                let round = self.rounds.iter().find(|r| r.id == step.round);
                round.is_none_or(|round| answer.push(known_step(step, at >= NODES_MAX), round))
            };
            if !told {
                answer.next = at as u8;
                return answer;
            }
        }
        answer.next = SLOTS as u8;
        answer
    }

    /// A round's message from the master (or from the master in this very node).
    pub fn on_notify(&mut self, notify: &Notify, trace: &mut Trace<'_>) {
        let round = &notify.round;
        let takes_part = self.takes_part(notify);
        if takes_part {
            self.remember(round);
            self.show(notify, trace);
        }
        for at in &notify.steps {
            // A message that names a subject it does not list is damaged; the envelope makes that a bug, not an attack.
            let Some(subject) = round.subjects.get(usize::from(at.subject)).copied() else { continue };
            match at.scope {
                Scope::LocalEnd => self.end_local(subject, round, at, trace),
                // It is told again: the manager has not been told of its own join there, or what served the level died.
                _ if !takes_part => {}
                Scope::Node => {
                    self.through_before(subject, round.level, trace);
                    self.begin(step_of(subject, round, at, trace.now), at, trace);
                }
                Scope::Local => self.begin(step_of(subject, round, at, trace.now), at, trace),
            }
        }
        self.note_untaken();
        self.retire(trace);
    }

    /// Whether a level of this node takes part: it is there, it lives, and it is in or is told of its own join now.
    fn takes_part(&self, notify: &Notify) -> bool {
        let round = &notify.round;
        let Some(level) = self.levels.iter().find(|l| l.order == round.level) else { return false };
        let begins = notify.steps.iter().any(|at| {
            let subject = round.subjects.get(usize::from(at.subject));
            at.scope != Scope::LocalEnd
                && subject.is_some_and(|s| s.node == self.me && s.transition == Transition::Joining)
        });
        let in_it = begins || level.vector.state(self.me) != NodeState::Inactive;
        in_it && self.died.iter().all(|(died, _)| died.order != round.level)
    }

    /// Takes over what a level's vector says of those who rest there.
    fn show(&mut self, notify: &Notify, trace: &mut Trace<'_>) {
        let Some(level) = self.levels.iter_mut().find(|l| l.order == notify.round.level) else { return };
        let fresh = level.vector.state(self.me) == NodeState::Inactive;
        for n in NodeId::all() {
            let is = match notify.vector.state(n) {
                NodeState::Leaving | NodeState::ForcedLeaving if fresh => NodeState::Joined,
                NodeState::Joining | NodeState::Leaving | NodeState::ForcedLeaving => continue,
                rest => rest,
            };
            let was = level.vector.set(n, is);
            // The level's vector may be the first to tell that a subject is through here.
            let at_level = self.steps[local(n)].filter(|s| s.level == level.order && !s.ended);
            if let Some(step) = at_level.or(self.steps[n.index()])
                && was == step.subject.transition.during()
                && is == step.subject.transition.after()
            {
                state_event(level, step.subject, trace);
            }
        }
        level.recover = level.recover.or(notify.recover);
    }

    /// Begins a step, or acknowledges it again if it is an old one.
    fn begin(&mut self, mut step: Step, at: &StepAt, trace: &mut Trace<'_>) {
        let (n, transition) = (step.subject.node, step.subject.transition);
        let slot = if at.scope == Scope::Node { n.index() } else { local(n) };
        let mut goes_on = false;
        if let Some(known) = &self.steps[slot]
            && known.subject == step.subject
            && known.level == step.level
            && (!known.ended || known.round == step.round)
        {
            if known.ended || (known.barrier == step.barrier && known.acked) {
                let again = AckEntry { barrier: step.barrier, ..ack_entry(known) };
                self.push_ack(again);
                return;
            }
            if known.barrier >= step.barrier && keep(Rule::StepOnce) {
                return;
            }
            goes_on = true;
        }
        if transition == Transition::Leaving && !goes_on {
            self.through_before_leave(step.subject, trace);
        }
        let Some(level) = self.levels.iter_mut().find(|l| l.order == step.level) else { return };
        let mut last = level.vector.state(n);
        if let Some(round) = step.overtakes.filter(|o| o.level == step.level && at.took_part).and_then(|o| o.round)
            && !goes_on
            && self.joins[n.index()] != Some(round)
            && level.joined_in <= Some(round)
            && transition == Transition::ForcedLeaving
            && may_follow(last, Transition::Joining)
            && keep(Rule::JoiningBeforeForced)
        {
            // This manager had not delivered the Joining: it delivers it, overtaken at once (DESIGN 5, EP Table 1). A level
            // that came after that join had begun has the node as joined, and is told of the forced leave alone; one that came
            // after that forced leave had passed here, in a later life of its node, is told nothing.
            last = NodeState::Joining;
            step.overtook = Some(round);
            self.joins[n.index()] = Some(round);
            let subject = Subject { transition: Transition::Joining, ..step.subject };
            trace.event(Event::Notify(StepEvent { level: level.order, name: &level.name, round, subject, barrier: 0 }));
        }
        if !goes_on && last == transition.after() && n != self.me {
            // A later life of a participant is asked in its stead after a takeover. Its level has had the node from the start
            // as the transition leaves it, and hears nothing of it (EP Table 1): there is nothing to do, and that is what is
            // acknowledged.
            self.unneeded = self.unneeded.saturating_add(1);
            self.push_ack(ack_entry(&step));
            return;
        }
        if !goes_on {
            self.impossible = self.impossible.or(unless_allowed(last, transition));
        }
        if self.impossible.is_some() {
            return;
        }
        level.vector.set(n, transition.during());
        trace.event(Event::Notify(StepEvent {
            level: level.order,
            name: &level.name,
            round: step.round,
            subject: step.subject,
            barrier: step.barrier,
        }));
        if transition == Transition::Joining {
            self.joins[n.index()] = Some(step.round);
            if n == self.me {
                level.joined_in = Some(step.round);
            }
        }
        if transition == Transition::ForcedLeaving {
            // What was under way at this level alone is overtaken.
            let order = step.level;
            self.steps[local(n)].take_if(|s| s.level == order && s.subject.transition != Transition::ForcedLeaving);
            self.steps[n.index()].take_if(|s| s.level == order && s.subject.transition != Transition::ForcedLeaving);
        }
        self.steps[slot] = Some(step);
    }

    /// A local transition is through on all nodes. Acknowledged whatever became of the level meanwhile.
    fn end_local(&mut self, subject: Subject, round: &Round, at: &StepAt, trace: &mut Trace<'_>) {
        self.through(subject, round.level, trace);
        let step = Step { taken: true, acked: true, ended: true, ..step_of(subject, round, at, trace.now) };
        let slot = &mut self.steps[local(subject.node)];
        if slot.as_ref().is_none_or(|known| known.round <= round.id) {
            *slot = Some(step);
        }
        self.push_ack(ack_entry(&step));
    }

    /// A leave that begins at a level says that the node's join is through at every level where it had begun: a join is
    /// reversed only between levels (EP p. 6). No later level said so, or the view that did was missed.
    fn through_before_leave(&mut self, subject: Subject, trace: &mut Trace<'_>) {
        let unacked = |s: &Step| s.subject.transition == Transition::Joining && !s.acked;
        let open = self.steps[subject.node.index()].filter(unacked).map(|s| s.level);
        let apart = self.steps[local(subject.node)].filter(|s| !s.ended).map(|s| s.level);
        let join = Subject { transition: Transition::Joining, ..subject };
        for l in self.levels.iter_mut().filter(|l| ![open, apart].contains(&Some(l.order))) {
            if l.vector.state(subject.node) == NodeState::Joining {
                l.vector.set(subject.node, NodeState::Joined);
                state_event(l, join, trace);
            }
        }
    }

    /// Keeps the round for a later answer; rounds that no step belongs to any more go first.
    fn remember(&mut self, round: &Round) {
        if let Some(known) = self.rounds.iter_mut().find(|r| r.id == round.id) {
            known.clone_from(round);
            return;
        }
        let steps = &self.steps;
        self.rounds.retain(|r| steps.iter().flatten().any(|s| s.round == r.id && !s.ended));
        // The master keeps at most ROUNDS_MAX rounds; those that this node still knows are among them or through.
        if self.rounds.is_full() {
            self.rounds.remove(0);
        }
        let _ = self.rounds.push(round.clone());
    }

    /// That `subject` is at `level` says that it is through at the levels before it.
    fn through_before(&mut self, subject: Subject, level: LevelOrder, trace: &mut Trace<'_>) {
        let before = |l: &Level| {
            if subject.transition.is_bottom_up() { l.order < level } else { l.order > level }
        };
        // A process that died before the node did is recovered by a forced leave of its own.
        let apart = self.steps[local(subject.node)].filter(|s| !s.ended).map(|s| s.level);
        for l in self.levels.iter_mut().filter(|l| before(l) && apart != Some(l.order)) {
            if l.vector.state(subject.node) == subject.transition.during() {
                l.vector.set(subject.node, subject.transition.after());
                state_event(l, subject, trace);
            } else if subject.transition == Transition::ForcedLeaving {
                l.vector.set(subject.node, NodeState::Inactive);
            }
        }
    }

    /// The master found that all nodes have acknowledged a subject's last barrier at a level.
    pub fn through(&mut self, subject: Subject, level: LevelOrder, trace: &mut Trace<'_>) {
        if let Some(l) = self.levels.iter_mut().find(|l| l.order == level)
            && l.vector.state(subject.node) == subject.transition.during()
        {
            l.vector.set(subject.node, subject.transition.after());
            state_event(l, subject, trace);
        }
    }

    /// A committed view was adopted: transitions that it ends are through at every level. `me` is this node
    /// if it is not out itself: then it says so of the levels that it has not left.
    /// `old` is the view that was adopted before: of whom it said the same there is nothing to end, and what goes on at one
    /// level alone goes on.
    pub fn on_view(&mut self, old: &View, view: &View, me: Option<NodeId>, trace: &mut Trace<'_>) {
        for n in NodeId::all() {
            let (state, incarnation) = (view.state(n), view.incarnation(n));
            let settled = matches!(state, NodeState::Joined | NodeState::Inactive);
            if settled && (old.state(n), old.incarnation(n)) == (state, incarnation) {
                continue;
            }
            self.steps[local(n)].take_if(|s| state == NodeState::Inactive || s.subject.incarnation != incarnation);
            if let Some(step) = self.steps[n.index()]
                && (settled || step.subject.incarnation != incarnation)
            {
                self.steps[n.index()] = None;
            }
            if !settled {
                if old.incarnation(n) != incarnation {
                    // A view was missed: the life before is gone, and this one is at no level yet.
                    self.levels.iter_mut().for_each(|l| _ = l.vector.set(n, NodeState::Inactive));
                }
                continue;
            }
            for l in &mut self.levels {
                let was = l.vector.state(n);
                if state == NodeState::Joined && was == NodeState::Inactive && !l.everywhere {
                    // A level that this node has and that one may lack: only a round says so.
                    continue;
                }
                l.vector.set(n, state);
                let speaks = me.is_some_and(|me| l.vector.state(me) != NodeState::Inactive);
                if speaks && matches!(was, NodeState::Joining | NodeState::Leaving | NodeState::ForcedLeaving) {
                    trace.event(Event::State { subject: n, incarnation, level: Some(l.order), is: state });
                }
            }
        }
        let steps = &self.steps;
        self.rounds.retain(|r| steps.iter().flatten().any(|s| s.round == r.id && !s.ended));
        self.note_untaken();
        self.retire(trace);
    }

    /// After steps changed.
    fn note_untaken(&mut self) {
        self.untaken = self.steps.iter().flatten().any(|s| !s.taken);
    }

    /// Whether a level has something to take.
    pub fn has_notification(&self, level: LevelOrder) -> bool {
        self.untaken && self.steps.iter().flatten().any(|s| s.level == level && !s.taken)
    }

    /// The level's thread of control takes what there is for it.
    pub fn take_notification(&mut self, order: LevelOrder, view: &View) -> Option<Notification> {
        if !self.has_notification(order) {
            return None;
        }
        let level = self.levels.iter_mut().find(|l| l.order == order)?;
        let mut incarnations = [Incarnation::NEVER; NODES_MAX];
        for n in NodeId::all() {
            incarnations[n.index()] = view.incarnation(n);
        }
        let mut changes = Vec::new();
        for s in self.steps.iter_mut().flatten().filter(|s| s.level == order && !s.taken) {
            s.taken = true;
            // Never full: two changes per node at most.
            if let Some(round) = s.overtook.take() {
                let subject = Subject { transition: Transition::Joining, ..s.subject };
                let _ = changes.push(Change { subject, round, barrier: 0, overtaken: true });
            }
            let _ = changes.push(Change { subject: s.subject, round: s.round, barrier: s.barrier, overtaken: false });
        }
        self.untaken = self.steps.iter().flatten().any(|s| !s.taken);
        let recover = core::mem::take(&mut level.recover);
        Some(Notification { level: order, vector: level.vector, incarnations, changes, recover })
    }

    /// A level acknowledges one change. False if it is stale.
    pub fn acknowledge(&mut self, order: LevelOrder, change: &Change, trace: &mut Trace<'_>) -> bool {
        let Some(level) = self.levels.iter().find(|l| l.order == order) else { return false };
        let event = StepEvent {
            level: order,
            name: &level.name,
            round: change.round,
            subject: change.subject,
            barrier: change.barrier,
        };
        let is_it = |s: &Step| {
            s.taken
                && !s.acked
                && s.level == order
                && s.round == change.round
                && s.subject == change.subject
                && s.barrier == change.barrier
        };
        let n = change.subject.node;
        let slot = [n.index(), local(n)].into_iter().find(|slot| self.steps[*slot].as_ref().is_some_and(is_it));
        let Some(step) = slot.and_then(|slot| self.steps[slot].as_mut()) else {
            trace.event(Event::StaleAck(event));
            return false;
        };
        step.acked = true;
        let entry = ack_entry(step);
        trace.event(Event::Ack(event));
        self.push_ack(entry);
        true
    }

    /// The membership level is this manager itself: it has taken the subject in (its entry of the view is adopted
    /// before any notification), so it acknowledges at once.
    pub fn acknowledge_membership_level(&mut self, view: &View, trace: &mut Trace<'_>) {
        if let Some(own) = self.take_notification(LevelOrder::MEMBERSHIP, view) {
            for change in own.changes.iter().filter(|c| !c.overtaken) {
                self.acknowledge(LevelOrder::MEMBERSHIP, change, trace);
            }
        }
    }

    /// Forgets everything about a level that is gone.
    pub(crate) fn forget_level(&mut self, order: LevelOrder) {
        for step in &mut self.steps {
            step.take_if(|s| s.level == order && !s.ended);
        }
        self.note_untaken();
    }

    fn push_ack(&mut self, entry: AckEntry) {
        if self.acks.iter().all(|a| *a != entry) {
            // If it is full the master repeats its notification and is answered then.
            let _ = self.acks.push(entry);
        }
    }

    /// Whether there are acknowledgements to be sent.
    pub fn has_acks(&self) -> bool {
        !self.acks.is_empty()
    }

    /// Acknowledgements to be sent to the master.
    pub fn take_acks(&mut self) -> Vec<AckEntry, NODES_MAX> {
        core::mem::take(&mut self.acks)
    }
}

fn step_of(subject: Subject, round: &Round, at: &StepAt, now: Instant) -> Step {
    Step {
        level: round.level,
        round: round.id,
        subject,
        barrier: at.barrier,
        top: at.top,
        since: now,
        overtakes: at.overtakes,
        overtook: None,
        taken: false,
        acked: false,
        ended: false,
    }
}

fn known_step(step: &Step, local: bool) -> KnownStep {
    let Step { subject, barrier, acked, top, overtakes, .. } = *step;
    KnownStep { subject, local, round: 0, barrier, acked, top, overtakes }
}

/// What cannot be, if EP Table 1 does not allow it.
fn unless_allowed(last: NodeState, next: Transition) -> Option<&'static str> {
    (!may_follow(last, next)).then_some("a notification that EP Table 1 does not allow here")
}

fn ack_entry(step: &Step) -> AckEntry {
    AckEntry { level: step.level, round: step.round, subject: step.subject, barrier: step.barrier }
}

fn state_event(level: &Level, subject: Subject, trace: &mut Trace<'_>) {
    trace.event(Event::State {
        subject: subject.node,
        incarnation: subject.incarnation,
        level: Some(level.order),
        is: subject.transition.after(),
    });
}
