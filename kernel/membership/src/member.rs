//! The member's side: takes the master's rounds to this node's levels and their acknowledgements back.
//!
//! Invariants:
//! - a level is given a step (round, subject, incarnation, barrier) once, however often the master repeats it;
//! - a later step of a subject implies that its earlier levels and barriers are through everywhere, because the master
//!   begins it only then; so `state` is known without a message of its own;
//! - an acknowledgement counts only for the step that is outstanding; any other is stale (EP Table 1: overtaken).

use heapless::Vec;
use quorate_base::capacity::{LEVELS_MAX, NODES_MAX};
use quorate_base::event::{Event, StepEvent, Subject, Trace};
use quorate_base::{
    Barriers, Incarnation, LevelDecl, LevelName, LevelOrder, NodeId, NodeSet, NodeState, RoundId, Transition, View,
};

use crate::message::{AckEntry, Answer, KnownStep, LevelOffer, LevelOffers, Notify, ROUNDS_MAX, Round};
use crate::notification::{Change, Notification, StateVector, may_follow};

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
    vector: StateVector,
    recover: NodeSet,
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
    /// A join that this level had not taken yet when it was overtaken.
    overtook: Option<RoundId>,
    taken: bool,
    acked: bool,
}

/// Why a level could not be registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegisterError {
    /// Another level has this order.
    OrderTaken,
    /// More than `LEVELS_MAX`.
    Full,
    /// A barrier count outside `1..=BARRIERS_MAX`.
    Barriers,
    /// No name, or one that is too long.
    Name,
}

/// The member's side of the membership manager.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Member {
    levels: Vec<Level, LEVELS_MAX>,
    steps: [Option<Step>; NODES_MAX],
    /// The round of each node's join that was given to a level last.
    joins: [Option<RoundId>; NODES_MAX],
    rounds: Vec<Round, ROUNDS_MAX>,
    acks: Vec<AckEntry, NODES_MAX>,
}

impl Member {
    /// With no level registered.
    pub const fn new() -> Self {
        Self {
            levels: Vec::new(),
            steps: [None; NODES_MAX],
            joins: [None; NODES_MAX],
            rounds: Vec::new(),
            acks: Vec::new(),
        }
    }

    /// Registers a level (EP p. 5).
    ///
    /// # Errors
    /// [`RegisterError`]; nothing is registered then.
    pub fn register(&mut self, decl: &LevelDecl<'_>, trace: &mut Trace<'_>) -> Result<(), RegisterError> {
        if !decl.barriers.is_valid() {
            return Err(RegisterError::Barriers);
        }
        let name = LevelName::try_from(decl.name).map_err(|_| RegisterError::Name)?;
        if name.is_empty() {
            return Err(RegisterError::Name);
        }
        let at = self.levels.iter().position(|l| l.order >= decl.order).unwrap_or(self.levels.len());
        if self.levels.get(at).is_some_and(|l| l.order == decl.order) {
            return Err(RegisterError::OrderTaken);
        }
        let level = Level {
            order: decl.order,
            name,
            barriers: decl.barriers,
            everywhere: decl.everywhere,
            vector: StateVector::EMPTY,
            recover: NodeSet::EMPTY,
        };
        self.levels.insert(at, level).map_err(|_| RegisterError::Full)?;
        trace.event(Event::Register { level: decl.order, name: decl.name, barriers: decl.barriers });
        Ok(())
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

    /// What this node declares to the master.
    pub fn offers(&self) -> LevelOffers {
        self.levels
            .iter()
            .map(|l| LevelOffer {
                order: l.order,
                barriers: l.barriers,
                everywhere: l.everywhere,
                present: l.vector.present(),
            })
            .collect()
    }

    /// The answer to a new master.
    pub fn answer(&self, ballot: quorate_base::Ballot) -> Answer {
        let mut answer = Answer { ballot, steps: Vec::new(), rounds: Vec::new() };
        for step in self.steps.iter().flatten() {
            let Some(round) = self.rounds.iter().find(|r| r.id == step.round) else { continue };
            let at = answer
                .rounds
                .iter()
                .position(|r| r.id == round.id)
                .or_else(|| answer.rounds.push(round.clone()).ok().map(|()| answer.rounds.len() - 1));
            let Some(at) = at else { continue };
            // Never full: one step per node.
            let _ = answer.steps.push(KnownStep {
                subject: step.subject,
                round: at as u8,
                barrier: step.barrier,
                acked: step.acked,
                top: step.top,
            });
        }
        answer
    }

    /// A round's message from the master (or from the master in this very node).
    pub fn on_notify(&mut self, notify: &Notify, trace: &mut Trace<'_>) {
        let round = &notify.round;
        self.remember(round);
        if let Some(level) = self.levels.iter_mut().find(|l| l.order == round.level) {
            for n in NodeId::all() {
                let is = notify.vector.state(n);
                let was = level.vector.set(n, is);
                // The level's vector may be the first to tell that a subject is through here.
                if let Some(step) = self.steps[n.index()]
                    && was == step.subject.transition.during()
                    && is == step.subject.transition.after()
                {
                    state_event(level, step.subject, trace);
                }
            }
            level.recover = level.recover.or(notify.recover);
        }
        for at in &notify.steps {
            // A message that names a subject it does not list is damaged; the envelope makes that a bug, not an attack.
            let Some(subject) = round.subjects.get(usize::from(at.subject)).copied() else { continue };
            self.through_before(subject, round.level, trace);
            let step = Step {
                level: round.level,
                round: round.id,
                subject,
                barrier: at.barrier,
                top: at.top,
                overtook: None,
                taken: false,
                acked: false,
            };
            self.begin(step, at.overtakes, trace);
        }
    }

    /// Begins a step, or acknowledges it again if it is an old one.
    fn begin(&mut self, mut step: Step, overtakes: Option<RoundId>, trace: &mut Trace<'_>) {
        let slot = &mut self.steps[step.subject.node.index()];
        if let Some(known) = slot
            && known.subject == step.subject
            && known.level == step.level
        {
            if known.barrier == step.barrier && known.acked {
                let again = ack_entry(known);
                self.push_ack(again);
                return;
            }
            if known.barrier >= step.barrier {
                return;
            }
        }
        let Some(level) = self.levels.iter_mut().find(|l| l.order == step.level) else { return };
        if let Some(round) = overtakes
            && self.joins[step.subject.node.index()] != Some(round)
            && step.subject.transition == Transition::ForcedLeaving
        {
            // This manager had not delivered the Joining: it delivers it, overtaken at once (DESIGN 5, EP Table 1).
            debug_assert!(may_follow(NodeState::Joining, Transition::ForcedLeaving));
            step.overtook = Some(round);
            self.joins[step.subject.node.index()] = Some(round);
            let subject = Subject { transition: Transition::Joining, ..step.subject };
            trace.event(Event::Notify(StepEvent { level: level.order, name: &level.name, round, subject, barrier: 0 }));
        }
        level.vector.set(step.subject.node, step.subject.transition.during());
        trace.event(Event::Notify(StepEvent {
            level: level.order,
            name: &level.name,
            round: step.round,
            subject: step.subject,
            barrier: step.barrier,
        }));
        if step.subject.transition == Transition::Joining {
            self.joins[step.subject.node.index()] = Some(step.round);
        }
        *slot = Some(step);
    }

    /// Keeps the round for a later answer; rounds that no step belongs to any more go first.
    fn remember(&mut self, round: &Round) {
        if let Some(known) = self.rounds.iter_mut().find(|r| r.id == round.id) {
            known.clone_from(round);
            return;
        }
        let steps = &self.steps;
        self.rounds.retain(|r| steps.iter().flatten().any(|s| s.round == r.id));
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
        for l in self.levels.iter_mut().filter(|l| before(l)) {
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
    pub fn on_view(&mut self, view: &View, me: Option<NodeId>, trace: &mut Trace<'_>) {
        for n in NodeId::all() {
            let (state, incarnation) = (view.state(n), view.incarnation(n));
            let settled = matches!(state, NodeState::Joined | NodeState::Inactive);
            if let Some(step) = self.steps[n.index()]
                && (settled || step.subject.incarnation != incarnation)
            {
                self.steps[n.index()] = None;
            }
            if !settled {
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
        self.rounds.retain(|r| steps.iter().flatten().any(|s| s.round == r.id));
    }

    /// Whether a level has something to take.
    pub fn has_notification(&self, level: LevelOrder) -> bool {
        self.steps.iter().flatten().any(|s| s.level == level && !s.taken)
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
        let step = self.steps[change.subject.node.index()].as_mut().filter(|s| {
            s.taken
                && !s.acked
                && s.level == order
                && s.round == change.round
                && s.subject == change.subject
                && s.barrier == change.barrier
        });
        let Some(step) = step else {
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

impl Default for Member {
    fn default() -> Self {
        Self::new()
    }
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
