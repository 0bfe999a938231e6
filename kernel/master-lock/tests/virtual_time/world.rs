//! N locks on virtual time over one simulated disk: per-block atomic, random delays, block-by-block reads, crashes,
//! restarts, pauses, writes that land late, failures of which the writer does not know whether they landed.
//!
//! A small stand-in for membership drives each lock: it contends, lets nodes in, puts silent ones out, fences by lease.
//! After every event the invariants are checked.

use std::collections::{BTreeMap, HashMap};

use quorate_base::capacity::{RECORD_BYTES, RECORD_PITCH};
use quorate_base::event::{NoTrace, TraceClock};
use quorate_base::{
    Ballot, BootNonce, ClusterId, DiskError, DiskOp, DiskTag, HaltReason, Incarnation, Instant, NodeId, NodeState,
    Timing, Trace, View, ViewName,
};
use quorate_database::layout;
use quorate_database::{BallotBlock, Block, Heartbeat};
use quorate_master_lock::{Config, DiskGeometry, Input, LockEvent, MasterLock, Output, OwnRecords, Status};

pub const CLUSTER: ClusterId = ClusterId([7; 16]);

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// What may go wrong in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Longest normal operation, µs.
    pub delay_us: u64,
    /// Operations per mille that take up to `slow_us`.
    pub slow: u64,
    pub slow_us: u64,
    /// Operations per mille that fail.
    pub errors: u64,
    /// Crashes and pauses per 1000 operations.
    pub crashes: u64,
    pub pauses: u64,
    pub pause_us: u64,
    /// Faults end here.
    pub until: Instant,
    /// A write is done or lost within `io_max`: the lease fence holds.
    pub bounded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Tick(usize, u64),
    Sample(u64, u16),
    Land(u64),
    Done(u64),
    Restart(usize, u64),
    Resume(usize),
}

struct Op {
    node: usize,
    life: u64,
    tag: DiskTag,
    op: DiskOp,
    bytes: Vec<u8>,
    error: Option<DiskError>,
    bad: bool,
    torn: bool,
    doorbell: Instant,
    incarnation: Incarnation,
}

pub struct Node {
    pub lock: Option<MasterLock>,
    last_heartbeat: Instant,
    pub life: u64,
    pub incarnation: Incarnation,
    paused_until: Instant,
    waiting: Vec<u64>,
    trace: TraceClock,
    pub halted: Option<HaltReason>,
    pub events: Vec<LockEvent>,
    fences: HashMap<(NodeId, Incarnation), Instant>,
    ticks: u64,
}

pub struct World {
    pub now: Instant,
    pub random: Random,
    pub faults: Faults,
    pub timing: Timing,
    pub nodes: Vec<Node>,
    pub disk: HashMap<u64, [u8; RECORD_BYTES]>,
    queue: BTreeMap<(u64, u64), Event>,
    ops: HashMap<u64, Op>,
    sequence: u64,
    pub history: BTreeMap<u64, View>,
    parents: HashMap<ViewName, View>,
    pub ballots: HashMap<Ballot, usize>,
    pub double_masters: u64,
    pub contend: bool,
    /// The stand-in for membership acts.
    pub policy: bool,
    /// Any halt is expected.
    pub halts: bool,
    /// Every request fails.
    pub outage: bool,
    /// Requests in order: node, `R`, `H`, `B`.
    pub log: Vec<(usize, char)>,
    pub operations: u64,
    fenced: Vec<(usize, Incarnation)>,
    pub bad_records: Vec<u64>,
}

impl World {
    pub fn new(count: u8, seed: u64, faults: Faults) -> Self {
        let nodes = (0..count)
            .map(|_| Node {
                lock: None,
                last_heartbeat: Instant::ZERO,
                life: 0,
                incarnation: Incarnation::NEVER,
                paused_until: Instant::ZERO,
                waiting: Vec::new(),
                trace: TraceClock::default(),
                halted: None,
                events: Vec::new(),
                fences: HashMap::new(),
                ticks: 0,
            })
            .collect();
        Self {
            now: Instant(1_000_000),
            random: Random(seed),
            faults,
            timing: Timing::DEFAULT,
            nodes,
            disk: HashMap::new(),
            queue: BTreeMap::new(),
            ops: HashMap::new(),
            sequence: 0,
            history: BTreeMap::new(),
            parents: HashMap::new(),
            ballots: HashMap::new(),
            double_masters: 0,
            contend: true,
            policy: true,
            halts: false,
            outage: false,
            log: Vec::new(),
            operations: 0,
            fenced: Vec::new(),
            bad_records: Vec::new(),
        }
    }

    pub fn id(n: usize) -> NodeId {
        NodeId::new(n as u8).unwrap()
    }

    pub fn lock(&self, n: usize) -> &MasterLock {
        self.nodes[n].lock.as_ref().unwrap()
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.0, self.sequence), event);
    }

    /// Calls a lock's method, then tells it.
    pub fn with<T>(&mut self, n: usize, f: impl FnOnce(&mut MasterLock) -> T) -> T {
        let result = f(self.nodes[n].lock.as_mut().unwrap());
        self.feed(n, None);
        result
    }

    pub fn record(&self, at: u64) -> [u8; RECORD_BYTES] {
        self.disk.get(&at).copied().unwrap_or([0; RECORD_BYTES])
    }

    /// Birth: old requests are ended, own records read, a new life begins.
    pub fn start(&mut self, n: usize) {
        let id = Self::id(n);
        let bounded = self.faults.bounded;
        // The nexus reset: a heartbeat on its way is gone. Ballot writes of another machine may still be on their way.
        let heartbeat_at = layout::heartbeat(id);
        self.ops
            .retain(|_, op| op.node != n || bounded && matches!(op.op, DiskOp::Write { at, .. } if at != heartbeat_at));
        let heartbeat = Heartbeat::decode(&self.record(heartbeat_at), CLUSTER, id);
        let ballots = [0, 1].map(|slot| BallotBlock::decode(&self.record(layout::ballot(id, slot)), CLUSTER, id, slot));
        let clean = match &heartbeat {
            Block::Good(h) => h.clean,
            other => matches!(other, Block::Blank),
        };
        let nonce = BootNonce(self.random.next());
        let node = &mut self.nodes[n];
        node.life += 1;
        node.incarnation = node.incarnation.next().unwrap();
        node.halted = None;
        node.events.clear();
        node.fences.clear();
        node.waiting.clear();
        node.paused_until = Instant::ZERO;
        let config = Config {
            me: id,
            incarnation: node.incarnation,
            nonce,
            cluster: CLUSTER,
            nodes: self.nodes.len() as u8,
            timing: self.timing,
            first_tag: 100,
            blanks: Default::default(),
            own: OwnRecords { heartbeat, ballots, clean },
            geometry: DiskGeometry { first_lba: 34, blocks_per_record: 8 },
        };
        let now = self.now;
        let node = &mut self.nodes[n];
        node.lock = Some(MasterLock::new(config, now));
        let life = node.life;
        self.push(now, Event::Tick(n, life));
    }

    pub fn crash(&mut self, n: usize) {
        for op in self.ops.values_mut().filter(|op| op.node == n && !op.bad) {
            // The last write of a crashed node may be lost, or torn.
            (op.bad, op.torn) = match self.random.below(8) {
                _ if op.doorbell > self.now => (true, false),
                0 => (true, true),
                1 | 2 => (true, false),
                _ => (false, false),
            };
        }
        self.nodes[n].lock = None;
        self.nodes[n].life += 1;
        self.nodes[n].waiting.clear();
        let until = self.random.below(2_500_000);
        let life = self.nodes[n].life;
        self.push(self.now + until, Event::Restart(n, life));
    }

    pub fn kill_for_good(&mut self, n: usize) {
        self.nodes[n].lock = None;
        self.nodes[n].life += 1;
        self.nodes[n].waiting.clear();
    }

    pub fn pause(&mut self, n: usize, us: u64) {
        let until = self.now + us;
        self.nodes[n].paused_until = until;
        self.push(until, Event::Resume(n));
    }

    /// Runs until `until` or until `stop` says so after an event.
    pub fn run(&mut self, until: Instant, mut stop: impl FnMut(&Self) -> bool) -> bool {
        while let Some((&(at, sequence), &event)) = self.queue.first_key_value() {
            if at > until.0 {
                break;
            }
            self.queue.remove(&(at, sequence));
            self.now = self.now.max(Instant(at));
            self.step(event);
            self.check();
            if stop(self) {
                return true;
            }
        }
        self.now = self.now.max(until);
        false
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Tick(n, life) => {
                if self.nodes[n].life == life && self.nodes[n].lock.is_some() && self.nodes[n].paused_until <= self.now
                {
                    self.feed(n, None);
                }
            }
            Event::Sample(id, i) => {
                let Some(op) = self.ops.get(&id) else { return };
                let DiskOp::Read { first, .. } = op.op else { return };
                let bytes = self.record(first + u64::from(i));
                let at = usize::from(i) * RECORD_PITCH as usize;
                if let Some(op) = self.ops.get_mut(&id) {
                    op.bytes[at..at + RECORD_BYTES].copy_from_slice(&bytes);
                }
            }
            Event::Land(id) => {
                let Some(op) = self.ops.get(&id) else { return };
                let DiskOp::Write { at, record, .. } = &op.op else { return };
                let (at, record) = (*at, *record);
                if !op.bad {
                    // DESIGN 7: nothing that a node owns is written after its fence but a heartbeat on its way.
                    let fenced = self.fenced.contains(&(op.node, op.incarnation));
                    assert!(
                        !self.faults.bounded || !fenced || at == layout::heartbeat(Self::id(op.node)),
                        "a ballot write of node {} landed after its fence\n{}",
                        op.node,
                        self.describe()
                    );
                    self.disk.insert(at, record);
                } else if op.torn {
                    let mut torn = self.record(at);
                    torn[..256].copy_from_slice(&record[..256]);
                    torn[100] ^= 0xff;
                    self.disk.insert(at, torn);
                }
            }
            Event::Done(id) => {
                let Some(op) = self.ops.get(&id) else { return };
                let (n, life) = (op.node, op.life);
                if self.nodes[n].life != life || self.nodes[n].lock.is_none() {
                    self.ops.remove(&id);
                } else if self.nodes[n].paused_until > self.now {
                    self.nodes[n].waiting.push(id);
                } else {
                    self.feed(n, Some(id));
                }
            }
            Event::Restart(n, life) => {
                if self.nodes[n].life == life {
                    self.start(n);
                }
            }
            Event::Resume(n) => {
                if self.nodes[n].paused_until > self.now || self.nodes[n].lock.is_none() {
                    return;
                }
                for id in std::mem::take(&mut self.nodes[n].waiting) {
                    self.feed(n, Some(id));
                }
                if self.nodes[n].lock.is_some() {
                    self.feed(n, None);
                }
            }
        }
    }

    fn feed(&mut self, n: usize, done: Option<u64>) {
        let op = done.and_then(|id| self.ops.remove(&id));
        if done.is_some() && op.is_none() {
            return;
        }
        self.call(n, op.as_ref());
        for _ in 0..4 {
            if !self.policy || !self.policy(n) {
                break;
            }
            self.call(n, None);
        }
        let Some(lock) = &self.nodes[n].lock else { return };
        let at = lock.poll_timeout();
        if at != Instant::FAR {
            assert!(at > self.now, "node {n}: due at {at:?} after it was called at {:?}", self.now);
            let life = self.nodes[n].life;
            self.nodes[n].ticks += 1;
            self.push(at, Event::Tick(n, life));
        }
    }

    fn call(&mut self, n: usize, op: Option<&Op>) {
        let now = self.now;
        let node = &mut self.nodes[n];
        let Some(lock) = node.lock.as_mut() else { return };
        let input = match op {
            None => Input::Tick,
            Some(op) => Input::Disk {
                tag: op.tag,
                result: match op.error {
                    Some(e) => Err(e),
                    None => Ok(op.bytes.as_slice()),
                },
            },
        };
        let mut sink = NoTrace;
        lock.handle(now, input, &mut Trace::new(now, &mut node.trace, &mut sink));
        let mut outputs = Vec::new();
        while let Some(output) = lock.poll_output() {
            outputs.push(output);
        }
        for output in outputs {
            match output {
                Output::Disk { tag, op } => self.submit(n, tag, op),
                Output::Event(event) => self.on_event(n, event),
                Output::Reservation(op) => unreachable!("{op:?} on a database with leases"),
                Output::Halt(reason) => self.on_halt(n, reason),
            }
        }
    }

    fn on_halt(&mut self, n: usize, reason: HaltReason) {
        assert!(
            self.halts || matches!(reason, HaltReason::PutOut { .. }),
            "node {n} halts: {reason} at {:?}\n{}",
            self.now,
            self.describe()
        );
        self.nodes[n].halted = Some(reason);
        if self.halts { self.kill_for_good(n) } else { self.crash(n) }
    }

    fn on_event(&mut self, n: usize, event: LockEvent) {
        self.nodes[n].events.push(event);
        if let LockEvent::Acquired { ballot, .. } = event {
            let before = self.ballots.insert(ballot, n);
            assert!(before.is_none(), "ballot {ballot:?} has two masters");
            self.nodes[n].fences.clear();
        }
    }

    fn submit(&mut self, n: usize, tag: DiskTag, op: DiskOp) {
        self.operations += 1;
        if matches!(op, DiskOp::Write { at, .. } if at == layout::heartbeat(Self::id(n))) {
            self.nodes[n].last_heartbeat = self.now;
        }
        if self.log.len() < 10_000 {
            let kind = match &op {
                DiskOp::Read { .. } => 'R',
                DiskOp::Write { at, .. } if *at == layout::heartbeat(Self::id(n)) => 'H',
                DiskOp::Write { .. } => 'B',
            };
            self.log.push((n, kind));
        }
        let faulty = self.now < self.faults.until;
        let f = self.faults;
        let mut delay = 100 + self.random.below(f.delay_us);
        let mut error = None;
        let (mut bad, mut torn) = (false, false);
        if faulty && self.random.chance(f.slow) {
            delay += self.random.below(f.slow_us);
        }
        // The node may stand still between its last step and the doorbell.
        let mut doorbell = self.now;
        if faulty && self.random.chance(f.pauses) {
            let us = self.random.below(f.pause_us);
            self.pause(n, us);
            doorbell += us;
        }
        if f.bounded {
            delay = delay.min(u64::from(self.timing.io_max) * 1000);
        }
        if faulty && self.random.chance(f.errors) {
            error = Some([DiskError::TimedOut, DiskError::Medium, DiskError::Device][self.random.below(3) as usize]);
            bad = self.random.chance(500);
            torn = bad && self.random.chance(400);
        }
        if self.outage {
            (error, bad) = (Some(DiskError::TimedOut), true);
        }
        if let DiskOp::Read { first, count } = op
            && self.bad_records.iter().any(|r| (first..first + u64::from(count)).contains(r))
        {
            error = Some(DiskError::Medium);
        }
        let id = self.sequence + 1;
        let mut bytes = Vec::new();
        match &op {
            DiskOp::Read { count, .. } => {
                bytes.resize(usize::from(*count) * RECORD_PITCH as usize, 0);
                for i in 0..*count {
                    let at = doorbell + self.random.below(delay);
                    self.push(at, Event::Sample(id, i));
                }
            }
            DiskOp::Write { not_after, .. } => {
                if not_after.is_some_and(|t| doorbell > t) {
                    error = Some(DiskError::Frozen);
                    (bad, torn) = (true, false);
                }
                let at = doorbell + self.random.below(delay);
                self.push(at, Event::Land(id));
            }
        }
        self.push(doorbell + delay, Event::Done(id));
        let (life, incarnation) = (self.nodes[n].life, self.nodes[n].incarnation);
        self.ops.insert(id, Op { node: n, life, tag, op, bytes, error, bad, torn, doorbell, incarnation });
        if faulty && self.random.chance(f.crashes) {
            self.crash(n);
        }
    }

    // The stand-in for membership. True if it set something.
    fn policy(&mut self, n: usize) -> bool {
        let (now, me) = (self.now, Self::id(n));
        let contend = self.contend;
        let node = &mut self.nodes[n];
        let Some(lock) = node.lock.as_mut() else { return false };
        let (name, view) = lock.committed();
        let view = view.clone();
        let joined_alive = view.joined().iter().any(|p| {
            p != me
                && !lock.disk_silent(p)
                && lock.peer(p).heartbeat.is_none_or(|h| h.incarnation == view.incarnation(p))
        });
        let want =
            contend && (view.has_member(me, node.incarnation) && view.state(me) == NodeState::Joined || !joined_alive);
        lock.set_status(Status { state: view.state(me), ..Status::default() });
        let before = lock.poll_timeout();
        lock.contend(want);
        let mut acted = lock.poll_timeout() < before;
        if lock.may_act(now)
            && let Some(next) = Self::next_view(&view, lock, node.incarnation, &mut node.fences, now, self.timing)
        {
            let name = ViewName { ballot: lock.master().unwrap(), number: name.number + 1 };
            if lock.propose(next.clone()).is_ok() {
                self.parents.insert(name, view.clone());
                acted = true;
                for victim in view.nodes_in(&[NodeState::ForcedLeaving]) {
                    if next.state(victim) == NodeState::Inactive {
                        self.check_fenced(victim, view.incarnation(victim));
                    }
                }
            }
        }
        acted
    }

    fn next_view(
        view: &View,
        lock: &MasterLock,
        incarnation: Incarnation,
        fences: &mut HashMap<(NodeId, Incarnation), Instant>,
        now: Instant,
        timing: Timing,
    ) -> Option<View> {
        let mut next = view.clone();
        next.number += 1;
        let me = NodeId::all().find(|n| lock.master().and_then(Ballot::node) == Some(*n))?;
        let mut changed = false;
        for node in NodeId::all() {
            let peer = lock.peer(node);
            let entry = view.incarnation(node);
            let alive = node == me || !lock.disk_silent(node);
            let lives =
                if node == me { Some(incarnation) } else { peer.heartbeat.filter(|_| alive).map(|h| h.incarnation) };
            match view.state(node) {
                NodeState::Inactive => {
                    if let Some(i) = lives.filter(|i| *i > entry) {
                        next.set(node, NodeState::Joining, i);
                        changed = true;
                    }
                }
                NodeState::Joining if lives == Some(entry) => {
                    next.set(node, NodeState::Joined, entry);
                    changed = true;
                }
                NodeState::ForcedLeaving => {
                    // The look of the commit (or of the takeover) read the victim's heartbeat after the accepting.
                    let fence = *fences.entry((node, entry)).or_insert_with(|| {
                        let same = peer.heartbeat.is_some_and(|h| h.incarnation == entry);
                        (if same { peer.changed_at } else { now }).plus_ms(timing.dead)
                    });
                    if now >= fence {
                        next.set(node, NodeState::Inactive, entry);

                        changed = true;
                    }
                }
                _ if lives != Some(entry) => {
                    next.set(node, NodeState::ForcedLeaving, entry);
                    changed = true;
                }
                _ => {}
            }
        }
        changed.then_some(next)
    }

    // DESIGN 7, *beat against eviction*: the victim's lease has certainly run out when its fence is through.
    fn check_fenced(&mut self, victim: NodeId, incarnation: Incarnation) {
        self.fenced.push((victim.index(), incarnation));
        let node = &self.nodes[victim.index()];
        if self.faults.bounded
            && node.incarnation == incarnation
            && let Some(lock) = &node.lock
        {
            assert!(
                lock.lease_until() <= self.now,
                "fenced, but its lease is valid: {victim:?} {incarnation:?}\n{}",
                self.describe()
            );
        }
    }

    fn check(&mut self) {
        let mut acting = 0;
        for n in 0..self.nodes.len() {
            let Some(lock) = &self.nodes[n].lock else { continue };
            assert!(
                !self.faults.bounded
                    || lock.lease_until() <= self.now
                    || !self.fenced.contains(&(n, self.nodes[n].incarnation)),
                "node {n} was fenced, but has a lease"
            );
            assert!(
                lock.lease_until() <= self.nodes[n].last_heartbeat.plus_ms(self.timing.lease),
                "the lease runs from the submission"
            );
            acting += u64::from(lock.may_act(self.now) && self.nodes[n].paused_until <= self.now);
            let (name, view) = lock.committed();
            if name.ballot == Ballot::NONE {
                continue;
            }
            assert_eq!(name.number, view.number);
            match self.history.get(&name.number) {
                Some(known) => {
                    assert!(
                        known.same_content(view),
                        "two histories at {name:?}: {known:?} and {view:?}, node {n}\n{}",
                        self.describe()
                    );
                }
                None => {
                    if let Some(parent) = self.parents.get(&name)
                        && let Some(before) = self.history.get(&(name.number - 1))
                    {
                        assert!(parent.same_content(before), "{name:?} was built on {parent:?}, not on {before:?}");
                    }
                    let view = view.clone();
                    self.history.insert(name.number, view);
                }
            }
        }
        self.double_masters += u64::from(acting > 1);
    }

    /// For a failing run.
    pub fn describe(&self) -> String {
        let mut text = format!("at {:?}\n", self.now);
        for id in (0..self.nodes.len()).map(Self::id) {
            let h = Heartbeat::decode(&self.record(layout::heartbeat(id)), CLUSTER, id);
            text += &format!("disk {id}: {h:?}\n");
            for slot in [0, 1] {
                let b = BallotBlock::decode(&self.record(layout::ballot(id, slot)), CLUSTER, id, slot);
                text += &format!("disk {id}.{slot}: {b:?}\n");
            }
        }
        for (n, node) in self.nodes.iter().enumerate() {
            text += &match &node.lock {
                None => format!("N{n}: down, {:?}\n", node.halted),
                Some(l) => format!(
                    "N{n} {:?}: master {:?} flag {:?} lease {:?} frozen {} highest {:?} committed {:?} {:?} beats {} silent {:?} {l:?}\n",
                    node.incarnation,
                    l.master(),
                    l.flag(),
                    l.lease_until(),
                    l.frozen(self.now),
                    l.highest_promise(),
                    l.committed().0,
                    l.committed().1,
                    l.beats(),
                    (0..self.nodes.len()).map(|p| l.disk_silent(Self::id(p))).collect::<Vec<_>>(),
                ),
            };
        }
        text
    }

    /// Who is master and may act.
    pub fn acting(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|n| self.nodes[*n].lock.as_ref().is_some_and(|l| l.may_act(self.now)))
    }

    /// All nodes are joined by the newest view that the acting master knows.
    pub fn settled(&self) -> bool {
        self.acting().is_some_and(|m| self.lock(m).committed().1.joined().len() == self.nodes.len())
    }
}
