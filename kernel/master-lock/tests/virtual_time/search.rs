//! Exhaustive small search of the shipped code: two nodes, all interleavings of single-block reads and writes.
//!
//! Bounds: two nodes; each read samples the other node's heartbeat and its ballot slots in two steps, each write lands in one step;
//! the clocks of the nodes are independent (so suspicion,
//! right or wrong, arises); the first beat and all that it leads to, then `beats` beats more per life, at most
//! `crashes` crashes, after which a write that was under way is lost, has landed, or lands at any later step before the
//! restart (which ends it, as birth does); ballots up to round 5, views up to number 4.
//! Checked: one history of views, one master per ballot, no halt but *put out*.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use quorate_base::capacity::{RECORD_BYTES, RECORD_PITCH};
use quorate_base::event::{NoTrace, TraceClock};
use quorate_base::{
    Ballot, BootNonce, DiskError, DiskOp, DiskTag, HaltReason, Incarnation, Instant, NodeState, Timing, Trace, View,
};
use quorate_database::{BallotBlock, Block, Heartbeat, layout};
use quorate_master_lock::{Config, DiskGeometry, Input, LockEvent, MasterLock, Output, OwnRecords, Status};

use crate::world::{CLUSTER, World};

type Record = [u8; RECORD_BYTES];

#[derive(Clone, Hash)]
enum Op {
    /// Which block comes next, and what was read.
    Read {
        tag: DiskTag,
        next: usize,
        blocks: Box<[Record; 6]>,
    },
    Write {
        tag: DiskTag,
        at: usize,
        record: Box<Record>,
        not_after: Option<Instant>,
    },
}

#[derive(Clone, Hash)]
struct Node {
    lock: Option<MasterLock>,
    now: Instant,
    op: Option<Op>,
    /// A write of a crashed life that may still land.
    late: Option<(usize, Record)>,
    life: u32,
    beats_left: u32,
}

#[derive(Clone, Hash)]
struct State {
    nodes: [Node; 2],
    disk: [Record; 6],
    crashes_left: u32,
    history: BTreeMap<u64, View>,
    masters: BTreeMap<u64, usize>,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Go(usize),
    Crash(usize, Fate),
    Late(usize),
    Restart(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Lost,
    Landed,
    Open,
}

struct Bounds {
    beats: [u32; 2],
    crashes: u32,
}

impl State {
    fn new(bounds: &Bounds) -> Self {
        let node = Node { lock: None, now: Instant(1_000_000), op: None, late: None, life: 0, beats_left: 0 };
        let mut state = Self {
            nodes: [node.clone(), node],
            disk: [[0; RECORD_BYTES]; 6],
            crashes_left: bounds.crashes,
            history: BTreeMap::new(),
            masters: BTreeMap::new(),
        };
        for n in 0..2 {
            state.start(n, bounds);
        }
        state
    }

    fn start(&mut self, n: usize, bounds: &Bounds) {
        let id = World::id(n);
        let heartbeat = Heartbeat::decode(&self.disk[3 * n], CLUSTER, id);
        let clean = matches!(heartbeat, Block::Blank);
        let ballots = [0, 1].map(|s| BallotBlock::decode(&self.disk[3 * n + 1 + usize::from(s)], CLUSTER, id, s));
        let node = &mut self.nodes[n];
        node.life += 1;
        node.beats_left = bounds.beats[n];
        let config = Config {
            me: id,
            incarnation: Incarnation(node.life),
            nonce: BootNonce(u64::from(10 * node.life) + n as u64),
            cluster: CLUSTER,
            nodes: 2,
            timing: Timing::DEFAULT,
            first_tag: 0,
            own: OwnRecords { heartbeat, ballots, clean },
            geometry: DiskGeometry::default(),
        };
        let mut lock = MasterLock::new(config, node.now);
        lock.contend(true);
        node.lock = Some(lock);
        self.call(n, None);
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for n in 0..2 {
            let node = &self.nodes[n];
            if node.lock.is_some() {
                if node.op.is_some() || node.beats_left > 0 {
                    actions.push(Action::Go(n));
                }
                if self.crashes_left > 0 {
                    actions.push(Action::Crash(n, Fate::Lost));
                    if matches!(node.op, Some(Op::Write { .. })) {
                        actions.push(Action::Crash(n, Fate::Landed));
                        actions.push(Action::Crash(n, Fate::Open));
                    }
                }
            } else {
                if node.late.is_some() {
                    actions.push(Action::Late(n));
                }
                // A node that was put out stays down: the bound on crashes bounds the lives.
                if node.life == 1 && node.beats_left > 0 {
                    actions.push(Action::Restart(n));
                }
            }
        }
        actions
    }

    fn apply(&mut self, action: Action, bounds: &Bounds) {
        match action {
            Action::Go(n) => self.go(n),
            Action::Crash(n, fate) => {
                self.crashes_left -= 1;
                let node = &mut self.nodes[n];
                node.lock = None;
                if let Some(Op::Write { at, record, .. }) = node.op.take() {
                    match fate {
                        Fate::Lost => {}
                        Fate::Landed => self.disk[at] = *record,
                        Fate::Open => node.late = Some((at, *record)),
                    }
                }
            }
            Action::Late(n) => {
                if let Some((at, record)) = self.nodes[n].late.take() {
                    self.disk[at] = record;
                }
            }
            Action::Restart(n) => {
                self.nodes[n].late = None;
                self.start(n, bounds);
            }
        }
    }

    fn go(&mut self, n: usize) {
        match self.nodes[n].op.take() {
            None => {
                let node = &mut self.nodes[n];
                node.beats_left -= 1;
                let due = node.lock.as_ref().map_or(Instant::FAR, MasterLock::poll_timeout);
                node.now = node.now.max(due);
                self.call(n, None);
            }
            Some(Op::Read { tag, mut next, mut blocks }) => {
                // Own blocks change by nobody else's hand: they are read with the first of the other's.
                let own = 3 * n;
                let other = 3 * (1 - n);
                if next == 0 {
                    blocks[own..own + 3].copy_from_slice(&self.disk[own..own + 3]);
                }
                // The heartbeat first, then the slots: between the two is where a lock can be misjudged.
                let range = if next == 0 { other..other + 1 } else { other + 1..other + 3 };
                blocks[range.clone()].copy_from_slice(&self.disk[range]);
                next += 1;
                if next < 2 {
                    self.nodes[n].op = Some(Op::Read { tag, next, blocks });
                    return;
                }
                let mut bytes = vec![0; 6 * RECORD_PITCH as usize];
                for (i, block) in blocks.iter().enumerate() {
                    let at = i * RECORD_PITCH as usize;
                    bytes[at..at + RECORD_BYTES].copy_from_slice(block);
                }
                self.call(n, Some((tag, Ok(&bytes))));
            }
            Some(Op::Write { tag, at, record, not_after }) => {
                if not_after.is_some_and(|t| self.nodes[n].now > t) {
                    return self.call(n, Some((tag, Err(DiskError::Frozen))));
                }
                self.disk[at] = *record;
                self.call(n, Some((tag, Ok(&[]))));
            }
        }
    }

    fn call(&mut self, n: usize, done: Option<(DiskTag, Result<&[u8], DiskError>)>) {
        let mut input = match done {
            None => Input::Tick,
            Some((tag, result)) => Input::Disk { tag, result },
        };
        loop {
            let node = &mut self.nodes[n];
            let Some(lock) = node.lock.as_mut() else { return };
            // No Lamport clock: it would only make equal states differ.
            let mut clock = TraceClock::default();
            let mut sink = NoTrace;
            lock.handle(node.now, input, &mut Trace::new(node.now, &mut clock, &mut sink));
            let mut halted = false;
            while let Some(output) = lock.poll_output() {
                match output {
                    Output::Disk { tag, op: DiskOp::Read { .. } } => {
                        node.op = Some(Op::Read { tag, next: 0, blocks: Box::new([[0; RECORD_BYTES]; 6]) });
                    }
                    Output::Disk { tag, op: DiskOp::Write { at, record, not_after } } => {
                        let at = (at - layout::STATE_FIRST) as usize;
                        node.op = Some(Op::Write { tag, at, record: Box::new(record), not_after });
                    }
                    Output::Event(LockEvent::Acquired { ballot, .. }) => {
                        assert_eq!(self.masters.insert(ballot.0, n), None, "two masters of {ballot:?}");
                    }
                    Output::Event(_) => {}
                    Output::Halt(HaltReason::PutOut { .. }) => halted = true,
                    Output::Halt(reason) => panic!("node {n} halts: {reason}"),
                }
            }
            self.check(n);
            if halted {
                self.nodes[n].lock = None;
                self.nodes[n].beats_left = 0;
                return;
            }
            if !self.propose(n) {
                return;
            }
            input = Input::Tick;
        }
    }

    fn check(&mut self, n: usize) {
        let Some(lock) = &self.nodes[n].lock else { return };
        let (name, view) = lock.committed();
        if name.ballot != Ballot::NONE {
            let known = self.history.entry(name.number).or_insert_with(|| view.clone());
            assert!(known.same_content(view), "two histories: {known:?}, {view:?}");
        }
    }

    // The stand-in for membership: lets itself in, and puts a silent node out.
    fn propose(&mut self, n: usize) -> bool {
        let (me, other) = (World::id(n), World::id(1 - n));
        let node = &mut self.nodes[n];
        let incarnation = Incarnation(node.life);
        let Some(lock) = node.lock.as_mut() else { return false };
        let mut next = lock.committed().1.clone();
        lock.set_status(Status { state: next.state(me), ..Status::default() });
        if !lock.may_act(node.now) || next.number >= 4 {
            return false;
        }
        if !next.has_member(me, incarnation) {
            next.set(me, NodeState::Joined, incarnation);
        } else if next.state(other).is_member() && lock.disk_silent(other) {
            next.set(other, NodeState::ForcedLeaving, next.incarnation(other));
        } else {
            return false;
        }
        next.number += 1;
        lock.propose(next).is_ok()
    }

    fn beyond(&self) -> bool {
        self.nodes.iter().flat_map(|n| &n.lock).any(|l| l.highest_promise().0 >> 6 > 5)
    }
}

fn search(bounds: &Bounds, limit: usize) -> (usize, usize) {
    let mut seen = HashSet::new();
    let mut stack = vec![State::new(bounds)];
    let mut masters = 0;
    while let Some(state) = stack.pop() {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        if !seen.insert(hasher.finish()) || state.beyond() {
            continue;
        }
        assert!(seen.len() <= limit, "the search did not end within {limit} states");
        masters = masters.max(state.masters.len());
        for action in state.actions() {
            let mut next = state.clone();
            next.apply(action, bounds);
            stack.push(next);
        }
    }
    (seen.len(), masters)
}

fn all(bounds: &[([u32; 2], u32)]) {
    for &(beats, crashes) in bounds {
        let (states, masters) = search(&Bounds { beats, crashes }, 3_000_000);
        println!("beats {beats:?}, crashes {crashes}: {states} states, up to {masters} masters in one run");
        assert!(masters >= 1);
    }
}

#[test]
fn two_nodes_race_from_cold() {
    all(&[([0, 0], 0), ([1, 0], 0)]);
}

#[test]
fn two_nodes_race_from_cold_with_one_crash() {
    all(&[([0, 0], 1)]);
}

/// `LOCK_SEARCH=1`: one node's clock runs on until it suspects the other, which may be anywhere. A minute each, released.
#[test]
fn two_nodes_race_with_a_wrong_suspicion() {
    if std::env::var_os("LOCK_SEARCH").is_some() {
        all(&[([3, 0], 0), ([0, 3], 0)]);
    }
}
