//! A new master asks every member what it knows; the furthest progress wins; known rounds are issued again verbatim;
//! rounds that no survivor knows never existed (DESIGN 5). All answer, or are first forced out.

use heapless::Vec;
use quorate_base::capacity::NODES_MAX;
use quorate_base::event::{Event, Subject};
use quorate_base::{Ballot, Incarnation, LevelOrder, NodeId, NodeSet, NodeState, RoundId, Transition};

use crate::context::Context;
use crate::master::Master;
use crate::member::Member;
use crate::message::{Answer, KnownStep, LevelOffer, ROUNDS_MAX, Round};
use crate::rules::{Rule, keep};
use crate::transition::{At, Overtaken, Progress, SLOTS, local, slots};

/// The furthest step of one subject that a survivor knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Furthest {
    subject: Subject,
    level: LevelOrder,
    round: RoundId,
    barrier: u8,
    top: LevelOrder,
    overtakes: Option<Overtaken>,
    acked: NodeSet,
}

/// The last local transition of a node that any survivor knows to be through, and who knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Through {
    incarnation: Incarnation,
    round: RoundId,
    by: NodeSet,
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
    /// The place up to which each member has answered.
    next: [u8; NODES_MAX],
    furthest: [Option<Furthest>; SLOTS],
    through: [Option<Through>; NODES_MAX],
    rounds: Vec<Round, { 2 * ROUNDS_MAX }>,
}

impl Takeover {
    /// Waits for `others`; takes what this node itself knows (if it was a member) at once.
    pub fn new(others: NodeSet, ballot: Ballot, member: &Member, me: Option<NodeId>) -> Self {
        let mut takeover = Self {
            levels_from: others,
            steps_from: others,
            next: [0; NODES_MAX],
            furthest: [None; SLOTS],
            through: [None; NODES_MAX],
            rounds: Vec::new(),
        };
        if let Some(me) = me {
            let mut first = 0;
            while usize::from(first) < SLOTS {
                let part = member.answer(ballot, first);
                takeover.on_answer(me, &part);
                first = part.next;
            }
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

    /// A part of what a member knows came. Parts are taken in order, each once; what got lost comes with the next answer.
    pub fn on_answer(&mut self, from: NodeId, answer: &Answer) {
        let next = &mut self.next[from.index()];
        if *next != answer.first || answer.next <= answer.first {
            return;
        }
        *next = answer.next;
        if answer.is_last() {
            self.steps_from.remove(from);
        }
        for step in &answer.steps {
            let Some(round) = answer.rounds.get(usize::from(step.round)) else { continue };
            self.merge(from, step, round);
        }
        for ended in &answer.ended {
            let known = &mut self.through[ended.node.index()];
            let is_newer = |t: &Through| (t.incarnation, t.round) < (ended.incarnation, ended.round);
            if known.as_ref().is_none_or(is_newer) {
                *known = Some(Through { incarnation: ended.incarnation, round: ended.round, by: NodeSet::EMPTY });
            }
            if let Some(t) = known.as_mut().filter(|t| t.round == ended.round) {
                t.by.insert(from);
            }
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
            overtakes: step.overtakes,
            acked,
        };
        let n = step.subject.node;
        let known = &mut self.furthest[if step.local { local(n) } else { n.index() }];
        match known {
            Some(old) if old.subject.incarnation == new.subject.incarnation && old.rank() == new.rank() => {
                // Two rounds at the same step: only if a master before the last one died too. The newer one counts.
                if new.round > old.round {
                    *old = new;
                } else if new.round == old.round {
                    old.acked = old.acked.or(acked);
                }
            }
            Some(old) if (old.subject.incarnation, old.rank()) > (new.subject.incarnation, new.rank()) => {
                if !keep(Rule::FurthestWins) {
                    *old = new;
                }
            }
            Some(old) if old.subject.incarnation == new.subject.incarnation && !keep(Rule::FurthestWins) => {}
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

impl Takeover {
    /// The local transition of a node that is under way, with those who know its end among those who acknowledged.
    fn local(&self, n: NodeId, incarnation: Incarnation) -> Option<Furthest> {
        let mut f = self.furthest[local(n)].filter(|f| f.subject.incarnation == incarnation)?;
        match self.through[n.index()] {
            // A later one is through: this step is a leftover.
            Some(t) if t.incarnation == incarnation && t.round > f.round => return None,
            Some(t) if t.incarnation == incarnation && t.round == f.round => f.acked = f.acked.or(t.by),
            _ => {}
        }
        Some(f)
    }
}

impl Master {
    /// A member's levels.
    pub fn on_answer_levels(&mut self, from: NodeId, levels: &[LevelOffer], died: u32) {
        if let Some(t) = &mut self.takeover
            && t.on_levels(from)
        {
            self.map.restore(from, levels, died);
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
        self.map.restore_dead(self.view.nodes_in(&[NodeState::ForcedLeaving]));
        for n in NodeId::first(self.nodes) {
            let alone = takeover.local(n, self.view.incarnation(n));
            self.progress[local(n)] = alone.and_then(|f| self.resume_local(n, f));
        }
        // The forced leaves come last: who took part in the dead one's last round is told by where the others are.
        for forced in [false, true] {
            for n in NodeId::first(self.nodes) {
                let incarnation = self.view.incarnation(n);
                let known = takeover.furthest[n.index()].filter(|f| f.subject.incarnation == incarnation);
                let progress = match self.view.state(n) {
                    NodeState::ForcedLeaving if forced => {
                        let alone = takeover.local(n, incarnation);
                        Some(self.resume_forced(n, known, alone, &takeover.rounds))
                    }
                    NodeState::Joining if !forced => Some(self.resume(n, Transition::Joining, known)),
                    NodeState::Leaving if !forced => Some(self.resume(n, Transition::Leaving, known)),
                    _ if forced => continue,
                    _ => None,
                };
                self.progress[n.index()] = progress;
            }
        }
        for round in &takeover.rounds {
            let runs = |p: &Progress| matches!(p.at, At::Running { round: id, .. } if id == round.id);
            if self.progress.iter().flatten().any(runs) && keep(Rule::RoundsKeepTheirNames) {
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
        for (slot, _) in slots(self.nodes) {
            let Some(p) = &mut self.progress[slot] else { continue };
            if let At::Running { level, round, .. } = p.at
                && self.rounds.iter().all(|r| r.id != round)
            {
                p.at = At::Waiting(level);
            }
        }
        for (slot, _) in slots(self.nodes) {
            let Some(At::Running { round, .. }) = self.progress[slot].map(|p| p.at) else { continue };
            let takers = self.rounds.iter().find(|r| r.id == round).map_or(NodeSet::EMPTY, |r| self.takers(r));
            if let Some(p) = &mut self.progress[slot]
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
            // It says itself where it is: nowhere, if its join was reversed before it was told of it.
            None if transition == Transition::Leaving => {
                Progress::new(transition, incarnation, self.map.highest_present(n))
            }
            _ => Progress::new(transition, incarnation, self.map.first(n, transition)),
        }
    }

    /// A transition at one level alone, of a node that lives: it goes on where it stands. A join or leave of a node that is
    /// forced out is what that forced leave overtakes.
    fn resume_local(&mut self, n: NodeId, f: Furthest) -> Option<Progress> {
        let forced = f.subject.transition == Transition::ForcedLeaving;
        let goes_on = match self.view.state(n) {
            NodeState::Joined => true,
            NodeState::Leaving | NodeState::ForcedLeaving => forced,
            NodeState::Joining | NodeState::Inactive => false,
        };
        if !goes_on {
            return None;
        }
        self.map.put(n, f.level);
        Some(Progress {
            at: At::Running { level: f.level, round: f.round, barrier: f.barrier, awaiting: f.acked },
            overtakes: f.overtakes,
            aborts_at: NodeSet::first(self.nodes),
            ..Progress::local(f.subject.transition, self.view.incarnation(n), f.level)
        })
    }

    /// A forced leave: goes on, or begins at the bottom and climbs to the highest level that may have heard. `alone` is what
    /// survivors know of a transition of the node at one level alone.
    fn resume_forced(
        &mut self,
        n: NodeId,
        known: Option<Furthest>,
        alone: Option<Furthest>,
        rounds: &[Round],
    ) -> Progress {
        let incarnation = self.view.incarnation(n);
        if let Some(f) = known.filter(|f| f.subject.transition == Transition::ForcedLeaving) {
            return Progress {
                at: At::Running { level: f.level, round: f.round, barrier: f.barrier, awaiting: f.acked },
                top: Some(f.top),
                overtakes: f.overtakes,
                // Since the join was aborted nobody has begun to join at that level: whoever is told took part in it.
                aborts_at: NodeSet::first(self.nodes),
                ..Progress::new(Transition::ForcedLeaving, incarnation, None)
            };
        }
        // The local one is younger than the node's own join.
        let alone = alone.filter(|f| f.subject.transition != Transition::ForcedLeaving);
        let known = alone.or(known);
        let round = known.and_then(|f| rounds.iter().find(|r| r.id == f.round));
        let (top, overtakes) = match known {
            // Where survivors have it, not where it has levels: it may have been joining, and of this node's own former
            // life the map knows nothing.
            None => (self.map.highest_present(n), None),
            Some(f) => self.heard_of(n, &f, round, alone.is_some()),
        };
        let takers = round.map_or(NodeSet::EMPTY, |r| r.participants);
        let first = self.first_forced(n, top);
        Progress { top, overtakes, aborts_at: takers, ..Progress::new(Transition::ForcedLeaving, incarnation, first) }
    }

    /// Up to where a dead node may have been heard of, and what it was doing there.
    fn heard_of(
        &mut self,
        n: NodeId,
        f: &Furthest,
        round: Option<&Round>,
        is_local: bool,
    ) -> (Option<LevelOrder>, Option<Overtaken>) {
        let last = self.map.get(f.level).map_or(1, |e| e.barriers.of(f.subject.transition));
        // Of those who took part a later life knows nothing, and is not waited for.
        let takers = round.map_or(NodeSet::EMPTY, |r| self.takers(r));
        let is_higher = !is_local && self.map.highest_present(n) > Some(f.level);
        let through = f.barrier + 1 >= last && takers.is_subset(f.acked)
            || f.subject.transition == Transition::Joining && is_higher;
        let overtaken = |was, round| Some(Overtaken { level: f.level, was, round });
        let under_way = match f.subject.transition {
            Transition::Joining => overtaken(NodeState::Joining, Some(f.round)),
            _ => overtaken(NodeState::Leaving, None),
        };
        match (f.subject.transition, through) {
            // It is joined at its other levels, up to the highest that a survivor has it at.
            (_, false) if is_local => (self.map.highest_present(n).max(Some(f.level)), under_way),
            (Transition::Joining, true) if is_local => (self.map.highest_present(n).max(Some(f.level)), None),
            (_, true) if is_local => {
                self.map.take(n, f.level);
                (self.map.highest(n), None)
            }
            (_, false) => (Some(f.level), under_way),
            // The level below was through and the joiner died without answering: the next may have heard. A survivor that
            // joined later than it knows it at a level whose step no survivor took part in.
            (Transition::Joining, true) => {
                let highest = self.map.highest_present(n).map_or(f.level, |present| present.max(f.level));
                match self.next_kernel_level(highest) {
                    Some(next) => {
                        self.map.put(n, next);
                        (Some(next), Some(Overtaken { level: next, was: NodeState::Joining, round: None }))
                    }
                    None => (Some(highest), None),
                }
            }
            (_, true) => (self.map.below(n, f.level), None),
        }
    }

    fn next_kernel_level(&self, level: LevelOrder) -> Option<LevelOrder> {
        self.map.iter().find(|e| e.order > level && e.everywhere).map(|e| e.order)
    }
}
