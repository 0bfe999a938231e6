//! Membership's level 10 as the engines see it, by its rules (DESIGN 5): joins and graceful leaves in rounds with barriers,
//! forced leaves beside them, none of a dead node's acknowledgements awaited; each node is told after a delay of its own.

use quorate_base::event::Subject;
use quorate_base::{Ballot, Incarnation, NodeId, NodeSet, NodeState, RoundId, Transition};
use quorate_membership::{Change, Notification, StateVector};

/// A transition that runs.
#[derive(Clone, Debug)]
struct Running {
    subject: Subject,
    round: RoundId,
    barrier: u8,
    participants: NodeSet,
    awaiting: NodeSet,
}

/// What a node is to be told at once: steps of one round, as one message of the master.
#[derive(Clone, Debug)]
pub struct Step {
    pub to: NodeId,
    pub changes: Vec<Change>,
}

/// The whole cluster's membership.
#[derive(Clone, Debug)]
pub struct Membership {
    pub state: [NodeState; 64],
    pub life: [Incarnation; 64],
    waiting_joins: NodeSet,
    waiting_leaves: NodeSet,
    running: Vec<Running>,
    ballot: Ballot,
    sequence: u32,
    /// What each node's level knows.
    known: Vec<[NodeState; 64]>,
}

impl Membership {
    pub fn new() -> Self {
        Self {
            state: [NodeState::Inactive; 64],
            life: [Incarnation(0); 64],
            waiting_joins: NodeSet::EMPTY,
            waiting_leaves: NodeSet::EMPTY,
            running: Vec::new(),
            ballot: Ballot(64),
            sequence: 0,
            known: vec![[NodeState::Inactive; 64]; 64],
        }
    }

    /// A node was started: a new life of it wants to join.
    pub fn start(&mut self, n: NodeId) -> Incarnation {
        self.life[n.index()].0 += 1;
        self.known[n.index()] = [NodeState::Inactive; 64];
        self.waiting_joins.insert(n);
        self.life[n.index()]
    }

    pub fn leave(&mut self, n: NodeId) {
        if self.state[n.index()] == NodeState::Joined {
            self.waiting_leaves.insert(n);
        }
    }

    /// A node is put out: it is dead, or thought to be.
    pub fn put_out(&mut self, n: NodeId) -> Vec<Step> {
        self.waiting_joins.remove(n);
        self.waiting_leaves.remove(n);
        // Somebody's takeover, or the next term of the same master.
        self.ballot = Ballot(self.ballot.0 + 64);
        for r in &mut self.running {
            r.awaiting.remove(n);
        }
        if matches!(self.state[n.index()], NodeState::Inactive | NodeState::ForcedLeaving) {
            return self.step();
        }
        self.running.retain(|r| r.subject.node != n);
        self.state[n.index()] = NodeState::ForcedLeaving;
        let participants = self.present().without(n);
        let mut steps = self.begin(n, Transition::ForcedLeaving, participants);
        steps.extend(self.step());
        steps
    }

    fn present(&self) -> NodeSet {
        NodeId::all().filter(|n| self.state[n.index()].is_member()).collect()
    }

    fn begin(&mut self, n: NodeId, transition: Transition, participants: NodeSet) -> Vec<Step> {
        self.sequence += 1;
        let round = RoundId { ballot: self.ballot, sequence: self.sequence };
        let subject = Subject { node: n, incarnation: self.life[n.index()], transition };
        self.running.push(Running { subject, round, barrier: 0, participants, awaiting: participants });
        Self::tell(subject, round, 0, participants)
    }

    fn tell(subject: Subject, round: RoundId, barrier: u8, to: NodeSet) -> Vec<Step> {
        let change = Change { subject, round, barrier, overtaken: false };
        to.iter().map(|to| Step { to, changes: vec![change] }).collect()
    }

    /// A level acknowledged.
    pub fn acknowledge(&mut self, from: NodeId, life: Incarnation, change: &Change) -> Vec<Step> {
        if self.life[from.index()] == life {
            for r in &mut self.running {
                if r.subject == change.subject && r.round == change.round && r.barrier == change.barrier {
                    r.awaiting.remove(from);
                }
            }
        }
        self.step()
    }

    /// Whether a transition runs or waits.
    pub fn is_quiet(&self) -> bool {
        self.running.is_empty() && self.waiting_joins.is_empty() && self.waiting_leaves.is_empty()
    }

    pub fn describe(&self) -> String {
        format!("running {:?}, joins wait {:?}", self.running, self.waiting_joins)
    }

    /// Goes on with all that nobody is awaited for.
    pub fn step(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(at) = self.running.iter().position(|r| r.awaiting.is_empty()) {
            let r = &mut self.running[at];
            let barriers = quorate_groups::LEVEL.barriers.of(r.subject.transition);
            if r.barrier + 1 < barriers {
                r.barrier += 1;
                r.awaiting = r.participants.iter().filter(|n| self.state[n.index()].is_member()).collect();
                steps.extend(Self::tell(r.subject, r.round, r.barrier, r.awaiting));
                continue;
            }
            let r = self.running.swap_remove(at);
            self.state[r.subject.node.index()] = r.subject.transition.after();
            if !r.subject.transition.after().is_member() {
                for other in &mut self.running {
                    other.awaiting.remove(r.subject.node);
                }
            }
            if self.present().is_empty() {
                // Whoever comes next takes the lock under a new ballot.
                self.ballot = Ballot(self.ballot.0 + 64);
            }
        }
        if self.running.is_empty() {
            let (joins, leaves) = (self.waiting_joins, self.waiting_leaves);
            (self.waiting_joins, self.waiting_leaves) = (NodeSet::EMPTY, NodeSet::EMPTY);
            for n in joins {
                self.state[n.index()] = NodeState::Joining;
            }
            for n in leaves {
                self.state[n.index()] = NodeState::Leaving;
            }
            let participants = self.present();
            let mut round = Vec::new();
            for n in joins {
                round.extend(self.begin(n, Transition::Joining, participants));
            }
            for n in leaves {
                round.extend(self.begin(n, Transition::Leaving, participants));
            }
            for to in participants.iter().filter(|_| !round.is_empty()) {
                let mine = round.iter().filter(|s| s.to == to).flat_map(|s| s.changes.clone());
                steps.push(Step { to, changes: mine.collect() });
            }
        }
        steps
    }

    /// A step reaches a node's level: what it takes. `None` if it is nobody's business any more.
    pub fn arrive(&mut self, step: &Step) -> Option<Notification> {
        let to = step.to;
        let is_current = |change: &&Change| {
            self.running
                .iter()
                .any(|r| r.subject == change.subject && r.round == change.round && r.barrier == change.barrier)
                && self.life[change.subject.node.index()] == change.subject.incarnation
        };
        let changes: heapless::Vec<Change, 128> = step.changes.iter().filter(is_current).copied().collect();
        if changes.is_empty() {
            return None;
        }
        for n in NodeId::all() {
            let state = self.state[n.index()];
            if matches!(state, NodeState::Joined | NodeState::Inactive) {
                self.known[to.index()][n.index()] = state;
            }
        }
        for change in &changes {
            self.known[to.index()][change.subject.node.index()] = change.subject.transition.during();
        }
        let mut vector = StateVector::EMPTY;
        for n in NodeId::all() {
            vector.set(n, self.known[to.index()][n.index()]);
        }
        let level = quorate_groups::LEVEL.order;
        Some(Notification { level, vector, incarnations: self.life, changes, recover: NodeSet::EMPTY })
    }
}
