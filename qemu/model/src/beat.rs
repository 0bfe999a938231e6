//! Beat against eviction (DESIGN 7): the shipped lock on two nodes with clocks, the shipped lease fence, and a victim that may
//! stand still at any point.
//!
//! Node 0 is master, node 1 is a member with a valid lease; so it begins. Node 0 beats, then puts node 1 out, for whatever
//! reason, and fences it: the fence begins with the look after the accept and is done any time after it is due. Node 1 goes on
//! beating, and its other layers write to the shared disk as long as its lease lets them: the port looks at the clock as its last
//! act before the doorbell, and what was submitted lands within `io_max`. So what can land last was submitted in the last instant
//! of the lease, and the fence must not be done before it has landed. Node 1 does each of its steps whenever it likes: it is
//! paused at any point, its heartbeats land at any time after they were decided. Without the look at the doorbell it may
//! also be paused between the check of its lease and the doorbell. It may be reset and come back as a new life while an old
//! write is under way.
//!
//! Time is true time in µs; the nodes' clocks are off by up to 1 %. It moves to the next instant at which anything changes: a
//! beat that is due, the end of the lease, the fence. What can happen between two such instants
//! can happen at one of them, in any order.

use std::fmt::Write as _;

use quorate_base::{BootNonce, Incarnation, Timing};
use quorate_master_lock::{Detail, Rules};
use quorate_membership::fence::Fence;

use crate::explore::{Hash128, Model, Violation};
use crate::machine::{BLANK, BLOCKS_MAX, Event, Machines, NOBODY, Policy, RecordId, Request, node_id};

/// What is checked.
pub const INVARIANTS: [&str; 4] = [
    AFTER_THE_FENCE,
    LEASE_OVER,
    "committed exclusion → halt unwritten",
    "who reads an accepted view knows its predecessor",
];
const AFTER_THE_FENCE: &str = "no shared write of the victim lands after the fence is done";
const LEASE_OVER: &str = "when the fence is done the victim's lease has run out";

/// Time-outs with little to spare in the inequality: a rule that is left out is not hidden by a margin.
const TIGHT: Timing = Timing {
    net_heartbeat: 100,
    net_suspect: 400,
    disk_heartbeat: 200,
    disk_suspect: 400,
    io_max: 80,
    lease: 900,
    dead: 1000,
    outage_grace: 30_000,
};

/// The rules of the fence and the port that the model itself keeps or leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outside {
    /// The port looks at the clock as its last act before the doorbell.
    pub doorbell: bool,
    /// The fence begins with a read after the commit, not with the decision.
    pub read_after_commit: bool,
    /// The inequality counts with clocks that are off by 1 %.
    pub drift: bool,
}

impl Outside {
    /// All kept.
    pub const ALL: Self = Self { doorbell: true, read_after_commit: true, drift: true };
}

/// What a run may contain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Beats of the master before it has put the victim out.
    pub master_beats: u8,
    /// Beats of the victim.
    pub victim_beats: u8,
    /// The victim may be reset, and come back.
    pub reset: bool,
    /// Rates of the clocks, per mille of true time.
    pub rates: &'static [(u64, u64)],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Op {
    None,
    Read {
        seen: u16,
        blocks: [RecordId; BLOCKS_MAX],
    },
    Write {
        at: u8,
        record: RecordId,
    },
    /// It has landed, and its node does not know yet.
    Landed,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Node {
    local: u32,
    op: Op,
    /// By its own clock, when it was called last.
    called: u64,
    beats: u8,
}

/// One state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    now: u64,
    rates: [u64; 2],
    nodes: [Node; 2],
    disk: [RecordId; BLOCKS_MAX],
    /// Without the look at the doorbell: node 1 found its lease good and has not rung yet.
    checked: bool,
    evicting: bool,
    /// When the fence is due, by node 0's clock.
    fence: Option<u64>,
    fenced: bool,
    /// True time at which node 1 was reset.
    reset: Option<u64>,
    /// By node 1's clock, the end of the lease of its first life.
    lease_until: u64,
}

/// What can happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// A node does its next step: its beat, the end of its read, its write; the bits say which reads saw the block before.
    Go(u8, u8),
    /// Node 0 decides to put node 1 out.
    Evict,
    /// The fence is done.
    Fenced,
    /// Without the look at the doorbell: node 1 finds its lease good and wants to write.
    Check,
    /// It rings the doorbell.
    Ring,
    /// Node 1 is reset and begins a new life.
    Reset,
    /// Time passes to the next instant at which anything changes.
    Wait,
}

/// The model.
#[derive(Debug)]
pub struct BeatModel {
    name: String,
    bounds: Bounds,
    outside: Outside,
    timing: Timing,
    all: Machines,
}

impl BeatModel {
    /// With these bounds, rules and what stands around the machines.
    pub fn new(name: &str, bounds: Bounds, rules: Rules, outside: Outside) -> Self {
        let policy = Policy { views: 2, contenders: 1, admits: true, evicts: false, hasty: false };
        let timing = if outside.drift { TIGHT } else { Timing { dead: 985, ..TIGHT } };
        let all = Machines::new(2, timing, policy, rules, Detail { counters: 1 << 20, changed_at: true });
        Self { name: name.to_owned(), bounds, outside, timing, all }
    }

    fn clock(state: &State, n: usize) -> u64 {
        START_US + state.now * state.rates[n] / 1000
    }

    /// True time at which node `n`'s clock shows `at`.
    fn when(state: &State, n: usize, at: u64) -> u64 {
        at.saturating_sub(START_US).saturating_mul(1000).div_ceil(state.rates[n])
    }

    /// The last true time at which node `n`'s clock is not past `at`.
    fn last(state: &State, n: usize, at: u64) -> u64 {
        (at.saturating_sub(START_US) + 1).saturating_mul(1000).div_ceil(state.rates[n]).saturating_sub(1)
    }

    fn call(&mut self, state: &mut State, n: usize, event: impl Fn(u32) -> Event) -> Result<(), Violation> {
        let now = Self::clock(state, n);
        let event = event((now - state.nodes[n].called) as u32);
        let id = self.all.answer(state.nodes[n].local, event);
        self.take(state, n, id)
    }

    fn take(&mut self, state: &mut State, n: usize, id: u32) -> Result<(), Violation> {
        let outcome = self.all.outcome(id).clone();
        let node = &mut state.nodes[n];
        node.local = outcome.local;
        node.op = match outcome.request {
            Request::None => Op::None,
            Request::Read => Op::Read { seen: 0, blocks: [BLANK; BLOCKS_MAX] },
            Request::Write { at, record, .. } => Op::Write { at, record },
        };
        let heartbeat = matches!(outcome.request, Request::Write { at, .. } if at % 3 == 0);
        node.beats = node.beats.saturating_add(u8::from(heartbeat));
        state.nodes[n].called = Self::clock(state, n);
        if let Some(violation) = outcome.violation {
            return Err(violation);
        }
        if n == 1 && outcome.local != NOBODY && state.reset.is_none() {
            let facts = self.all.local(outcome.local).facts;
            if facts.lease_us > 0 {
                state.lease_until = Self::clock(state, 1) + facts.lease_us;
                if state.fenced {
                    let what = format!("its lease is good for {} ms more", facts.lease_us / 1000);
                    return Err(Violation::new(AFTER_THE_FENCE, what));
                }
            }
        }
        if n == 0 && outcome.committed && state.evicting && state.fence.is_none() {
            self.begin_fence(state);
        }
        Ok(())
    }

    fn begin_fence(&mut self, state: &mut State) {
        let local = self.all.local(state.nodes[0].local);
        let fence = Fence::begin(local.now, (node_id(1), Incarnation(1)), &local.lock, &self.timing, None);
        // The machine's own clock and this model's differ by a shift.
        state.fence = Some(Self::clock(state, 0) + fence.due().since_us(local.now));
        // Node 0 does nothing more that matters.
        state.nodes[0].op = Op::None;
        state.nodes[0].beats = u8::MAX;
    }

    fn fence_due(state: &State) -> Option<u64> {
        state.fence.filter(|_| !state.fenced)
    }

    fn overwrite(state: &mut State, at: u8, record: RecordId, saw: u8) {
        let old = std::mem::replace(&mut state.disk[usize::from(at)], record);
        for (m, node) in state.nodes.iter_mut().enumerate() {
            if let Op::Read { seen, blocks } = &mut node.op
                && saw >> m & 1 == 1
            {
                *seen |= 1 << at;
                blocks[usize::from(at)] = old;
            }
        }
    }

    fn go(&mut self, state: &mut State, n: usize, saw: u8) -> Result<(), Violation> {
        match state.nodes[n].op {
            Op::None => self.call(state, n, Event::Tick),
            Op::Read { seen, mut blocks } => {
                for at in (0..6).filter(|at| seen >> at & 1 == 0) {
                    blocks[at] = state.disk[at];
                }
                self.call(state, n, move |us| Event::Read(us, blocks))
            }
            Op::Write { at, record } => {
                Self::overwrite(state, at, record, saw);
                if n == 1 {
                    state.nodes[1].op = Op::Landed;
                    return Ok(());
                }
                self.call(state, n, Event::Wrote)
            }
            Op::Landed => self.call(state, n, Event::Wrote),
        }
    }

    // Both nodes up to where node 0 is master, both are joined and know it, and nothing is under way.
    fn form(&mut self, rates: (u64, u64)) -> Result<State, Violation> {
        let node = Node { local: NOBODY, op: Op::None, called: START_US, beats: 0 };
        let mut state = State {
            now: 0,
            rates: [rates.0, rates.1],
            nodes: [node; 2],
            disk: [BLANK; BLOCKS_MAX],
            checked: false,
            evicting: false,
            fence: None,
            fenced: false,
            reset: None,
            lease_until: 0,
        };
        for n in 0..2 {
            let born = self.all.born(n, Incarnation(1), BootNonce(10 + n as u64), &state.disk, true);
            self.take(&mut state, n, born)?;
        }
        // Node 0 first, so that it is master; then both by their clocks, without delay.
        for turn in 0..400 {
            let n = if turn < 20 { 0 } else { turn % 2 };
            match state.nodes[n].op {
                Op::None => {
                    let facts = [0, 1].map(|n| self.all.local(state.nodes[n].local).facts);
                    let idle = state.nodes.iter().all(|n| n.op == Op::None);
                    let joined = facts.iter().all(|f| f.committed.is_some_and(|(name, _)| name.number == 2));
                    if idle && joined && facts[1].lease_us > 0 && facts[0].acting {
                        break;
                    }
                    let due =
                        [0, 1].map(|n| Self::when(&state, n, state.nodes[n].called.saturating_add(facts[n].due_us)));
                    if idle || turn < 20 {
                        state.now = state.now.max(if turn < 20 { due[0] } else { due[0].min(due[1]) });
                    }
                    if state.now >= due[n] {
                        self.go(&mut state, n, 0)?;
                    }
                }
                Op::Read { .. } | Op::Write { .. } | Op::Landed => self.go(&mut state, n, 0)?,
            }
        }
        let formed =
            (0..2).all(|n| self.all.local(state.nodes[n].local).facts.committed.is_some_and(|c| c.0.number == 2));
        if !formed {
            return Err(Violation::new("the model begins with a formed cluster", format!("{state:?}")));
        }
        for node in &mut state.nodes {
            node.beats = 0;
        }
        Ok(state)
    }

    // The instants at which something changes.
    fn corners(&self, state: &State) -> [Option<u64>; 4] {
        let due = |n: usize| {
            let node = &state.nodes[n];
            let live = node.local != NOBODY && node.op == Op::None && node.beats <= self.beats_max(n);
            live.then(|| Self::when(state, n, node.called.saturating_add(self.all.local(node.local).facts.due_us)))
        };
        let fence = Self::fence_due(state).map(|due| Self::when(state, 0, due));
        // The first instant at which the lease is over.
        let over = state.reset.is_none().then(|| Self::when(state, 1, state.lease_until));
        [due(0), due(1), fence, over]
    }

    /// The last true time at which a shared write of node 1's first life can land.
    fn last_landing(&self, state: &State) -> u64 {
        let submitted = Self::last(state, 1, state.lease_until);
        state.reset.map_or(submitted, |reset| submitted.min(reset)) + self.io_max_us()
    }

    fn beats_max(&self, n: usize) -> u8 {
        if n == 0 { self.bounds.master_beats } else { self.bounds.victim_beats }
    }

    fn io_max_us(&self) -> u64 {
        u64::from(self.timing.io_max) * 1000
    }
}

/// What the nodes' clocks show at the true time 0; as the machines are born.
const START_US: u64 = 10_000_000;

impl Model for BeatModel {
    type State = State;
    type Action = Action;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn bounds(&self) -> String {
        let b = &self.bounds;
        let mut text = format!(
            "2 nodes, {} beats of the master before the putting out, {} of the victim, shared writes of it at any time",
            b.master_beats, b.victim_beats
        );
        if b.reset {
            text += ", one reset of it";
        }
        let rates: Vec<_> = b.rates.iter().map(|(m, v)| format!("{m}/{v}")).collect();
        let _ = write!(
            text,
            "; clocks (master/victim, per mille): {}; lease {}, io_max {}, dead {} ms",
            rates.join(", "),
            self.timing.lease,
            self.timing.io_max,
            self.timing.dead
        );
        text
    }

    fn invariants(&self) -> &'static [&'static str] {
        &INVARIANTS
    }

    fn initial(&mut self) -> Result<Vec<State>, Violation> {
        self.bounds.rates.iter().map(|rates| self.form(*rates)).collect()
    }

    fn key(&self, state: &State) -> u128 {
        Hash128::of(state)
    }

    fn actions(&mut self, state: &State, actions: &mut Vec<Action>) {
        for n in 0..2u8 {
            let node = &state.nodes[usize::from(n)];
            // A node whose beats are used up stands still for ever.
            let over = node.beats > self.beats_max(usize::from(n));
            if node.local == NOBODY || over || n == 0 && state.fence.is_some() {
                continue;
            }
            match node.op {
                Op::None => {
                    let due = node.called.saturating_add(self.all.local(node.local).facts.due_us);
                    if Self::clock(state, usize::from(n)) >= due {
                        actions.push(Action::Go(n, 0));
                    }
                }
                Op::Read { .. } | Op::Landed => actions.push(Action::Go(n, 0)),
                Op::Write { at, .. } => {
                    let other = &state.nodes[1 - usize::from(n)];
                    let unseen = matches!(other.op, Op::Read { seen, .. } if seen >> at & 1 == 0);
                    actions.push(Action::Go(n, 0));
                    actions.extend(unseen.then_some(Action::Go(n, 1 << (1 - n))));
                }
            }
        }
        if !state.evicting && self.all.local(state.nodes[0].local).facts.acting && state.nodes[0].op == Op::None {
            actions.push(Action::Evict);
        }
        if Self::fence_due(state).is_some_and(|due| Self::clock(state, 0) >= due) {
            actions.push(Action::Fenced);
        }
        if !self.outside.doorbell && state.reset.is_none() && state.nodes[1].local != NOBODY {
            actions.push(if state.checked { Action::Ring } else { Action::Check });
        }
        if self.bounds.reset && state.reset.is_none() {
            actions.push(Action::Reset);
        }
        actions.push(Action::Wait);
    }

    fn step(&mut self, state: &State, action: Action) -> Result<Option<State>, Violation> {
        let mut next = *state;
        match action {
            Action::Go(n, saw) => self.go(&mut next, usize::from(n), saw)?,
            Action::Evict => {
                next.evicting = true;
                self.call(&mut next, 0, Event::Tick)?;
                if next.nodes[0].op == Op::None {
                    self.call(&mut next, 0, |_| Event::Evict(1))?;
                }
                if !self.outside.read_after_commit {
                    self.begin_fence(&mut next);
                }
            }
            Action::Fenced => {
                next.fenced = true;
                if state.reset.is_none() && Self::clock(state, 1) < state.lease_until {
                    let left = state.lease_until - Self::clock(state, 1);
                    return Err(Violation::new(LEASE_OVER, format!("it lasts {} ms more", left / 1000)));
                }
                if state.now <= self.last_landing(state) {
                    let late = self.last_landing(state) - state.now;
                    let what =
                        format!("one that was submitted while the lease was good lands up to {late} µs after it");
                    return Err(Violation::new(AFTER_THE_FENCE, what));
                }
            }
            Action::Check => {
                if Self::clock(state, 1) >= state.lease_until {
                    return Ok(None);
                }
                next.checked = true;
            }
            Action::Ring => {
                next.checked = false;
                if state.fenced {
                    return Err(Violation::new(AFTER_THE_FENCE, "it is submitted after the fence"));
                }
            }
            Action::Reset => {
                // Birth ends what the old life had under way at its heartbeat. A shared write may be another port's.
                next.reset = Some(state.now);
                next.nodes[1] = Node { local: NOBODY, op: Op::None, called: Self::clock(state, 1), beats: 0 };
                let born = self.all.born(1, Incarnation(2), BootNonce(21), &state.disk, false);
                self.take(&mut next, 1, born)?;
            }
            Action::Wait => {
                let corner = self.corners(state).into_iter().flatten().filter(|at| *at > state.now).min();
                let Some(at) = corner else { return Ok(None) };
                next.now = at;
            }
        }
        Ok(Some(next))
    }

    fn is_within(&self, state: &State) -> bool {
        // After the fence a good lease is what would be wrong.
        !state.fenced || state.nodes[1].local != NOBODY && (state.reset.is_none() || state.checked)
    }

    fn tell(&mut self, before: &State, action: Action, _: Option<&State>) -> String {
        let op = |n: u8| match before.nodes[usize::from(n)].op {
            Op::None => "begins a beat".to_owned(),
            Op::Read { .. } => "ends its read".to_owned(),
            Op::Write { at, record } => format!("writes {}", self.all.tell(at, record)),
            Op::Landed => "hears that its write is done".to_owned(),
        };
        let text = match action {
            Action::Go(n, 0) => format!("node {n} {}", op(n)),
            Action::Go(n, _) => format!("node {n} {}; the other's read has seen the old block", op(n)),
            Action::Evict => "node 0 decides to put node 1 out".to_owned(),
            Action::Fenced => "the fence is done".to_owned(),
            Action::Check => "node 1 finds its lease good and prepares a shared write".to_owned(),
            Action::Ring => "node 1 rings the doorbell for its shared write".to_owned(),
            Action::Reset => "node 1 is reset; its next life begins".to_owned(),
            Action::Wait => "time passes".to_owned(),
        };
        let lease = before.lease_until as i64 - Self::clock(before, 1) as i64;
        let fence = Self::fence_due(before).map(|due| due as i64 - Self::clock(before, 0) as i64);
        let fence = fence.map_or(String::new(), |us| format!(", fence due in {} ms", us / 1000));
        format!("{:>5} ms: {text} (lease {} ms{fence})", before.now / 1000, lease / 1000)
    }
}
