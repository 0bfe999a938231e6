//! A new master asks every member what it knows; the furthest progress wins; known rounds are issued again verbatim;
//! rounds that no survivor knows never existed (DESIGN 5). All answer, or are first forced out.

use heapless::Vec;
use quorate_base::capacity::NODES_MAX;
use quorate_base::event::{Event, Subject};
use quorate_base::{Ballot, LevelOrder, NodeId, NodeSet, NodeState, RoundId, Transition};

use crate::context::Context;
use crate::master::Master;
use crate::member::Member;
use crate::message::{Answer, KnownStep, LevelOffer, ROUNDS_MAX, Round};
use crate::transition::{At, Progress};

/// The furthest step of one subject that a survivor knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Furthest {
    subject: Subject,
    level: LevelOrder,
    round: RoundId,
    barrier: u8,
    top: LevelOrder,
    acked: NodeSet,
}

impl Furthest {
    /// Later transitions replace earlier ones (join, reversed to leave, forced leave); within one the level in its
    /// direction, then the barrier.
    fn rank(&self) -> (Transition, i32, u8) {
        let level = i32::from(self.level.0);
        let level = if self.subject.transition.is_bottom_up() { level } else { -level };
        (self.subject.transition, level, self.barrier)
    }
}

/// What the members have answered so far.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Takeover {
    levels_from: NodeSet,
    steps_from: NodeSet,
    furthest: [Option<Furthest>; NODES_MAX],
    rounds: Vec<Round, { 2 * ROUNDS_MAX }>,
}

impl Takeover {
    /// Waits for `others`; takes what this node itself knows (if it was a member) at once.
    pub fn new(others: NodeSet, ballot: Ballot, member: &Member, me: Option<NodeId>) -> Self {
        let mut takeover =
            Self { levels_from: others, steps_from: others, furthest: [None; NODES_MAX], rounds: Vec::new() };
        if let Some(me) = me {
            takeover.on_answer(me, &member.answer(ballot));
        }
        takeover
    }

    /// Who has not answered.
    pub fn waiting(&self) -> NodeSet {
        self.levels_from.or(self.steps_from)
    }

    /// `n` is out: its answer is not awaited any more.
    pub fn forced_out(&mut self, n: NodeId) {
        self.levels_from.remove(n);
        self.steps_from.remove(n);
    }

    /// A member's levels came. True if they are news.
    pub fn on_levels(&mut self, from: NodeId) -> bool {
        self.levels_from.remove(from)
    }

    /// A member's steps came.
    pub fn on_answer(&mut self, from: NodeId, answer: &Answer) {
        self.steps_from.remove(from);
        for step in &answer.steps {
            let Some(round) = answer.rounds.get(usize::from(step.round)) else { continue };
            self.merge(from, step, round);
        }
    }

    fn merge(&mut self, from: NodeId, step: &KnownStep, round: &Round) {
        let acked = if step.acked { NodeSet::only(from) } else { NodeSet::EMPTY };
        let new = Furthest {
            subject: step.subject,
            level: round.level,
            round: round.id,
            barrier: step.barrier,
            top: step.top,
            acked,
        };
        let known = &mut self.furthest[step.subject.node.index()];
        match known {
            Some(old) if old.subject.incarnation == new.subject.incarnation && old.rank() == new.rank() => {
                // Two rounds at the same step: only if a master before the last one died too. The newer one counts.
                if new.round > old.round {
                    *old = new;
                } else if new.round == old.round {
                    old.acked = old.acked.or(acked);
                }
            }
            Some(old) if (old.subject.incarnation, old.rank()) > (new.subject.incarnation, new.rank()) => {}
            _ => *known = Some(new),
        }
        if self.rounds.iter().all(|r| r.id != round.id) {
            // Full only if survivors disagree about more rounds than one master can have under way: rounds that no
            // furthest step belongs to are then the ones to go.
            let furthest = &self.furthest;
            if self.rounds.is_full() {
                self.rounds.retain(|r| furthest.iter().flatten().any(|f| f.round == r.id));
            }
            let _ = self.rounds.push(round.clone());
        }
    }
}

impl Master {
    /// A member's levels.
    pub fn on_answer_levels(&mut self, from: NodeId, levels: &[LevelOffer]) {
        if let Some(t) = &mut self.takeover
            && t.on_levels(from)
        {
            self.map.restore(from, levels);
        }
    }

    /// What a member knows of transitions.
    pub fn on_answer(&mut self, from: NodeId, answer: &Answer) {
        if let Some(t) = &mut self.takeover {
            t.on_answer(from, answer);
        }
    }

    /// All have answered: every transition goes on where the furthest survivor is.
    pub(crate) fn restore(&mut self, takeover: Takeover, ctx: &mut Context<'_, '_>) {
        for n in NodeId::first(self.nodes) {
            let incarnation = self.view.incarnation(n);
            let known = takeover.furthest[n.index()].filter(|f| f.subject.incarnation == incarnation);
            let progress = match self.view.state(n) {
                NodeState::Joined | NodeState::Inactive => None,
                NodeState::Joining => Some(self.resume(n, Transition::Joining, known)),
                NodeState::Leaving => Some(self.resume(n, Transition::Leaving, known)),
                NodeState::ForcedLeaving => Some(self.resume_forced(n, known, &takeover.rounds)),
            };
            self.progress[n.index()] = progress;
        }
        for round in &takeover.rounds {
            let runs = |p: &Progress| matches!(p.at, At::Running { round: id, .. } if id == round.id);
            if self.progress.iter().flatten().any(runs) {
                let (level, participants) = (round.level, round.participants);
                ctx.trace.event(Event::Round {
                    level,
                    round: round.id,
                    transitions: round.subjects.clone(),
                    participants,
                });
                let _ = self.rounds.push(round.clone());
            }
        }
        // Steps are shared between rounds only as far as they fit; the others begin anew under a round of this master.
        for n in NodeId::first(self.nodes) {
            let Some(p) = &mut self.progress[n.index()] else { continue };
            if let At::Running { level, round, .. } = p.at
                && self.rounds.iter().all(|r| r.id != round)
            {
                p.at = At::Waiting(level);
            }
        }
        for n in NodeId::first(self.nodes) {
            let Some(At::Running { round, .. }) = self.progress[n.index()].map(|p| p.at) else { continue };
            let takers = self.rounds.iter().find(|r| r.id == round).map_or(NodeSet::EMPTY, |r| self.takers(r));
            if let Some(p) = &mut self.progress[n.index()]
                && let At::Running { awaiting, .. } = &mut p.at
            {
                *awaiting = takers.minus(*awaiting);
                p.news = true;
            }
        }
        self.rearm(ctx.now);
    }

    /// A join or graceful leave. In `Running` the set stands, until the round is known, for those who acknowledged.
    fn resume(&self, n: NodeId, transition: Transition, known: Option<Furthest>) -> Progress {
        let incarnation = self.view.incarnation(n);
        match known {
            Some(f) if f.subject.transition == transition => Progress {
                at: At::Running { level: f.level, round: f.round, barrier: f.barrier, awaiting: f.acked },
                ..Progress::new(transition, incarnation, None)
            },
            // A join that was reversed: the leave was committed only after the last level known completed its join.
            Some(f) if transition == Transition::Leaving => Progress::new(transition, incarnation, Some(f.level)),
            _ => Progress::new(transition, incarnation, self.map.first(n, transition)),
        }
    }

    /// A forced leave: goes on, or begins at the bottom and climbs to the highest level that may have heard.
    fn resume_forced(&mut self, n: NodeId, known: Option<Furthest>, rounds: &[Round]) -> Progress {
        let incarnation = self.view.incarnation(n);
        if let Some(f) = known.filter(|f| f.subject.transition == Transition::ForcedLeaving) {
            return Progress {
                at: At::Running { level: f.level, round: f.round, barrier: f.barrier, awaiting: f.acked },
                top: Some(f.top),
                was: NodeState::Joined,
                ..Progress::new(Transition::ForcedLeaving, incarnation, None)
            };
        }
        let round = known.and_then(|f| rounds.iter().find(|r| r.id == f.round));
        let takers = round.map_or(NodeSet::EMPTY, |r| r.participants);
        let (top, was, aborts) = match known {
            // Where survivors have it, not where it has levels: it may have been joining, and of this node's own former
            // life the map knows nothing.
            None => (self.map.highest_present(n), NodeState::Joined, None),
            Some(f) => {
                let last = self.map.get(f.level).map_or(1, |e| e.barriers.of(f.subject.transition));
                let takers = takers.and(self.view.members());
                let through = f.barrier + 1 >= last && takers.is_subset(f.acked);
                match (f.subject.transition, through) {
                    (Transition::Joining, false) => (Some(f.level), NodeState::Joining, Some(f.round)),
                    // The level below was through and the joiner died without answering: the next may have heard.
                    (Transition::Joining, true) => match self.next_kernel_level(f.level) {
                        Some(next) => {
                            self.map.put(n, next);
                            (Some(next), NodeState::Joining, None)
                        }
                        None => (Some(f.level), NodeState::Joined, None),
                    },
                    (_, false) => (Some(f.level), NodeState::Leaving, None),
                    (_, true) => (self.map.below(n, f.level), NodeState::Joined, None),
                }
            }
        };
        let first = self.map.first(n, Transition::ForcedLeaving).filter(|f| top.is_some_and(|top| *f <= top));
        Progress { top, was, aborts, aborts_at: takers, ..Progress::new(Transition::ForcedLeaving, incarnation, first) }
    }

    fn next_kernel_level(&self, level: LevelOrder) -> Option<LevelOrder> {
        self.map.iter().find(|e| e.order > level && e.everywhere).map(|e| e.order)
    }
}
