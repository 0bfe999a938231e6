//! The virtual cluster: engines, the network between them, their disk, their jobs' threads, and time.

use crate::check::Check;
use crate::membership::{Membership, Step};
use quorate_base::{ClusterId, DiskError, DiskOp, Incarnation, Instant, NodeId, NodeSet, NodeState};
use quorate_groups::capacity::{MESSAGE_MAX, THREADS_MAX};
use quorate_groups::{CallError, Config, Context, Engine, Hear, JobId, JobState, Post, Registration, Taken, Told};
use quorate_interconnect::Destination;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

pub const MS: u64 = 1000;
pub const SECOND: u64 = 1000 * MS;

pub fn n(id: u8) -> NodeId {
    NodeId::new(id).unwrap()
}

/// The one source of chance (xorshift64*).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        let mut chance = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            chance.next();
        }
        chance
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    pub fn permille(&mut self, n: u64) -> bool {
        self.below(1000) < n
    }
}

/// What goes wrong on the network.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    pub delay_us: (u64, u64),
    pub lost_permille: u64,
    pub doubled_permille: u64,
}

impl Net {
    pub const CALM: Self = Self { delay_us: (20, 60), lost_permille: 0, doubled_permille: 0 };
}

#[derive(Clone, Debug)]
enum Event {
    Message { to: NodeId, from: NodeId, life: Incarnation, bytes: Vec<u8> },
    Step(Step),
    Disk { node: NodeId, life: Incarnation, result: Result<Vec<u8>, DiskError> },
    Work { node: NodeId, life: Incarnation, job: JobId, thread: u8 },
    Take { node: NodeId, life: Incarnation, job: JobId },
    PutOut { node: NodeId, life: Incarnation },
    Tick { node: NodeId, life: Incarnation },
}

/// How a job's threads behave.
#[derive(Clone, Copy, Debug)]
pub struct Threads {
    /// Local work between ACK rounds takes so long.
    pub work_us: u64,
    /// They end a protocol after so many rounds.
    pub rounds: u16,
    /// They take a message so long after it came.
    pub take_us: u64,
    /// They never return.
    pub hang: bool,
}

impl Default for Threads {
    fn default() -> Self {
        Self { work_us: 50, rounds: 2, take_us: 5, hang: false }
    }
}

/// A running node.
#[derive(Debug)]
pub struct Up {
    pub engine: Engine,
    pub life: Incarnation,
    pub threads: HashMap<JobId, Threads>,
    ticks_at: u64,
    working: HashSet<(JobId, u8)>,
    taking: HashSet<JobId>,
    writing: Option<DiskOp>,
}

pub struct World {
    pub now: u64,
    pub chance: Chance,
    pub net: Net,
    pub nodes: Vec<Option<Box<Up>>>,
    pub membership: Membership,
    pub disk: HashMap<u64, Vec<u8>>,
    pub check: Check,
    /// Reads of these nodes' records fail.
    pub unreadable: HashSet<u64>,
    /// Nodes that nothing reaches and that reach nobody.
    pub cut: NodeSet,
    pub sent: u64,
    handled: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: HashMap<u64, Event>,
    count: u64,
}

struct Around<'a> {
    wire: Vec<(Destination, Vec<u8>)>,
    check: &'a mut Check,
    node: NodeId,
    life: Incarnation,
}
impl Post for Around<'_> {
    fn post(&mut self, to: Destination, payload: &[u8]) {
        self.wire.push((to, payload.to_vec()));
    }
}
impl Hear for Around<'_> {
    fn hear(&mut self, told: &Told<'_>) {
        self.check.hear(self.node, self.life, told);
    }
}

pub const CLUSTER: ClusterId = ClusterId(*b"groups on a disk");

impl World {
    pub fn new(nodes: u8, seed: u64) -> Self {
        Self {
            now: SECOND,
            chance: Chance::new(seed),
            net: Net::CALM,
            nodes: (0..nodes).map(|_| None).collect(),
            membership: Membership::new(),
            disk: HashMap::new(),
            check: Check::default(),
            unreadable: HashSet::new(),
            cut: NodeSet::EMPTY,
            sent: 0,
            handled: 0,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            count: 0,
        }
    }

    /// All nodes started and joined.
    pub fn joined(nodes: u8, seed: u64) -> Self {
        let mut w = Self::new(nodes, seed);
        for id in 0..nodes {
            w.start(n(id));
        }
        w.settle();
        w
    }

    fn at(&mut self, time: u64, event: Event) {
        self.count += 1;
        self.events.insert(self.count, event);
        self.queue.push(Reverse((time, self.count)));
    }

    pub fn up(&self, node: NodeId) -> &Up {
        self.nodes[node.index()].as_deref().unwrap_or_else(|| panic!("{node:?} is down"))
    }

    pub fn is_up(&self, node: NodeId) -> bool {
        self.nodes[node.index()].is_some()
    }

    pub fn running(&self) -> Vec<NodeId> {
        (0..self.nodes.len() as u8).map(n).filter(|n| self.is_up(*n)).collect()
    }

    pub fn engine(&self, node: u8) -> &Engine {
        &self.up(n(node)).engine
    }

    /// Starts a node. False if its old life is not out everywhere yet: it is put out first (MISSION A9).
    pub fn start(&mut self, node: NodeId) -> bool {
        assert!(!self.is_up(node));
        if self.membership.state[node.index()] != NodeState::Inactive {
            let life = self.membership.life[node.index()];
            self.put_out(node, life);
            if self.membership.state[node.index()] != NodeState::Inactive {
                return false;
            }
        }
        let life = self.membership.start(node);
        let config = Config { me: node, incarnation: life, cluster: CLUSTER, nodes: self.nodes.len() as u8 };
        self.nodes[node.index()] = Some(Box::new(Up {
            engine: Engine::new(&config),
            life,
            threads: HashMap::new(),
            ticks_at: u64::MAX,
            working: HashSet::new(),
            taking: HashSet::new(),
            writing: None,
        }));
        self.after(node);
        let steps = self.membership.step();
        self.tell(steps);
        true
    }

    /// A node dies. The others' membership notices it after `notice_us`.
    pub fn kill(&mut self, node: NodeId, notice_us: u64) {
        let Some(up) = self.nodes[node.index()].take() else { return };
        // What is on its way to the disk lands, or does not, or lands torn.
        if let Some(DiskOp::Write { at, record, .. }) = up.writing {
            match self.chance.below(3) {
                0 => drop(self.disk.insert(at, record.to_vec())),
                1 => {
                    let mut torn = record;
                    torn[256..].fill(0xa5);
                    self.disk.insert(at, torn.to_vec());
                }
                _ => {}
            }
        }
        self.check.ended(node, up.life);
        self.at(self.now + notice_us, Event::PutOut { node, life: up.life });
    }

    /// A node that lives is put out: the others are told, and it goes on for a while.
    pub fn evict(&mut self, node: NodeId) {
        let life = self.up(node).life;
        self.put_out(node, life);
    }

    fn put_out(&mut self, node: NodeId, life: Incarnation) {
        if self.membership.life[node.index()] == life {
            let steps = self.membership.put_out(node);
            self.tell(steps);
        }
    }

    pub fn leave(&mut self, node: NodeId) {
        self.membership.leave(node);
        let steps = self.membership.step();
        self.tell(steps);
    }

    fn tell(&mut self, steps: Vec<Step>) {
        for step in steps {
            let delay = 100 + self.chance.below(3000);
            self.at(self.now + delay, Event::Step(step));
        }
    }

    /// Calls a node's engine, and lets the world see what comes of it.
    pub fn call<T>(&mut self, node: NodeId, f: impl FnOnce(&mut Engine, &mut Context<'_>) -> T) -> T {
        let up = self.nodes[node.index()].as_mut().expect("a running node");
        let life = up.life;
        let mut around = Around { wire: Vec::new(), check: &mut self.check, node, life };
        let result = f(&mut up.engine, &mut Context { now: Instant(self.now), outside: &mut around });
        let wire = around.wire;
        self.carry(node, life, wire);
        self.after(node);
        result
    }

    fn carry(&mut self, from: NodeId, life: Incarnation, wire: Vec<(Destination, Vec<u8>)>) {
        for (to, bytes) in wire {
            self.sent += 1;
            for id in 0..self.nodes.len() as u8 {
                let to_node = n(id);
                let cut = self.cut.contains(from) || self.cut.contains(to_node);
                if to_node == from || !to.includes(to_node) || cut {
                    continue;
                }
                if self.chance.permille(self.net.lost_permille) {
                    continue;
                }
                let copies = 1 + u64::from(self.chance.permille(self.net.doubled_permille));
                for _ in 0..copies {
                    let (low, high) = self.net.delay_us;
                    let delay = low + self.chance.below(high - low + 1);
                    let event = Event::Message { to: to_node, from, life, bytes: bytes.clone() };
                    self.at(self.now + delay, event);
                }
            }
        }
    }

    /// What a node's host does after each call: acknowledgements, the disk, threads, time.
    fn after(&mut self, node: NodeId) {
        let now = Instant(self.now);
        loop {
            let Some(up) = self.nodes[node.index()].as_mut() else { return };
            self.check.look(node, up.life, &up.engine);
            let life = up.life;
            if let Some(change) = up.engine.poll_acknowledge() {
                let steps = self.membership.acknowledge(node, life, &change);
                self.tell(steps);
                continue;
            }
            let Some(op) = up.engine.poll_disk(now) else { break };
            self.begin_disk(node, life, op);
        }
        self.halt_those_that_left();
        if !self.is_up(node) {
            return;
        }
        self.begin_threads(node);
        let up = self.nodes[node.index()].as_mut().expect("it runs");
        let (due, life) = (up.engine.poll_timeout().0, up.life);
        if due < up.ticks_at {
            up.ticks_at = due;
            self.at(due.max(self.now), Event::Tick { node, life });
        }
    }

    /// Who has left halts.
    fn halt_those_that_left(&mut self) {
        for node in self.running() {
            let left = self.membership.state[node.index()] == NodeState::Inactive;
            if left && self.check.was_member(node, self.up(node).life) {
                let up = self.nodes[node.index()].take().expect("it runs");
                self.check.ended(node, up.life);
            }
        }
    }

    fn begin_disk(&mut self, node: NodeId, life: Incarnation, op: DiskOp) {
        let delay = 100 + self.chance.below(2000);
        let result = match &op {
            DiskOp::Read { first, count } => {
                let fails = (*first..*first + u64::from(*count)).any(|r| self.unreadable.contains(&r));
                let mut bytes = vec![0; usize::from(*count) * 512];
                for i in 0..u64::from(*count) {
                    if let Some(record) = self.disk.get(&(first + i)) {
                        bytes[i as usize * 512..][..record.len()].copy_from_slice(record);
                    }
                }
                if fails { Err(DiskError::Medium) } else { Ok(bytes) }
            }
            DiskOp::Write { .. } => Ok(Vec::new()),
        };
        self.nodes[node.index()].as_mut().expect("it runs").writing = Some(op);
        self.at(self.now + delay, Event::Disk { node, life, result });
    }

    fn begin_threads(&mut self, node: NodeId) {
        let mut events = Vec::new();
        let up = self.nodes[node.index()].as_mut().expect("it runs");
        let jobs: Vec<(JobId, JobState, bool)> =
            up.engine.jobs().map(|(id, _, _, state, waits)| (id, state, waits.is_some())).collect();
        for (job, state, waits) in jobs {
            let t = up.threads.get(&job).copied().unwrap_or_default();
            if t.hang || !waits || !matches!(state, JobState::Member(_) | JobState::Leaving(_)) {
                continue;
            }
            for thread in 0..THREADS_MAX {
                if up.engine.step(job, thread).is_some() && up.working.insert((job, thread)) {
                    let event = Event::Work { node, life: up.life, job, thread };
                    events.push((t.work_us, event));
                }
            }
            if up.engine.has_next(job) && up.taking.insert(job) {
                events.push((t.take_us, Event::Take { node, life: up.life, job }));
            }
        }
        for (delay, event) in events {
            let more = if delay == 0 { 0 } else { self.chance.below(delay) };
            self.at(self.now + delay + more, event);
        }
    }

    /// Runs until nothing is left to do, or for a long time.
    pub fn settle(&mut self) {
        let limit = self.now + 30 * SECOND;
        self.run_until(limit, |_| false);
        assert!(self.queue.is_empty(), "still busy after 30 s\n{}", self.describe());
    }

    pub fn run_for(&mut self, us: u64) {
        let limit = self.now + us;
        self.run_until(limit, |_| false);
        self.now = limit;
    }

    /// Runs until `done`, at most to `limit`. True if it was done.
    pub fn run_until(&mut self, limit: u64, done: impl Fn(&World) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            let Some(Reverse((time, _))) = self.queue.peek() else { return false };
            if *time > limit {
                return false;
            }
            self.one();
        }
    }

    /// The next event.
    pub fn one(&mut self) -> bool {
        let Some(Reverse((time, id))) = self.queue.pop() else { return false };
        self.handled += 1;
        assert!(self.handled < 3_000_000, "it goes in circles: {:?}\n{}", self.events.get(&id), self.describe());
        self.now = self.now.max(time);
        let event = self.events.remove(&id).expect("queued");
        self.handle(event);
        self.halt_those_that_left();
        true
    }

    fn has(&self, node: NodeId, life: Incarnation) -> bool {
        self.nodes[node.index()].as_ref().is_some_and(|up| up.life == life)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Message { to, from, life, bytes } if self.is_up(to) => {
                self.call(to, |e, ctx| e.receive(from, life, &bytes, ctx));
            }
            Event::Step(step) => {
                if self.is_up(step.to)
                    && let Some(notification) = self.membership.arrive(&step)
                {
                    self.call(step.to, |e, ctx| e.notified(&notification, ctx));
                }
            }
            Event::PutOut { node, life } => self.put_out(node, life),
            Event::Tick { node, life } if self.has(node, life) => {
                self.nodes[node.index()].as_mut().expect("it runs").ticks_at = u64::MAX;
                self.call(node, |e, ctx| e.handle_timeout(ctx));
                let spins = self.nodes[node.index()].as_ref().is_some_and(|up| up.ticks_at <= self.now);
                assert!(!spins, "node {node} wants time at {} again, and has just had it", self.now);
            }
            Event::Disk { node, life, result } if self.has(node, life) => {
                let up = self.nodes[node.index()].as_mut().expect("it runs");
                if let Some(DiskOp::Write { at, record, .. }) = up.writing.take() {
                    self.disk.insert(at, record.to_vec());
                }
                let result = result.as_deref().map_err(|e| *e);
                self.call(node, |e, ctx| e.on_disk(result, ctx));
            }
            Event::Work { node, life, job, thread } if self.has(node, life) => {
                let up = self.nodes[node.index()].as_mut().expect("it runs");
                up.working.remove(&(job, thread));
                let t = up.threads.get(&job).copied().unwrap_or_default();
                if let Some(step) = up.engine.step(job, thread).filter(|_| !t.hang) {
                    let done = step.round + 1 >= t.rounds;
                    match self.call(node, |e, ctx| e.ack_round(job, thread, done, ctx)) {
                        Ok(()) | Err(CallError::Full) => {}
                        Err(e) => panic!("{node:?}: {e}"),
                    }
                }
            }
            Event::Take { node, life, job } if self.has(node, life) => {
                let up = self.nodes[node.index()].as_mut().expect("it runs");
                up.taking.remove(&job);
                if up.threads.get(&job).is_none_or(|t| !t.hang) {
                    self.take(node, job);
                }
            }
            _ => {}
        }
    }

    /// A work thread takes what is next.
    pub fn take(&mut self, node: NodeId, job: JobId) -> Option<Vec<u8>> {
        let mut bytes = heapless::Vec::<u8, MESSAGE_MAX>::new();
        let life = self.up(node).life;
        match self.call(node, |e, ctx| e.take(job, &mut bytes, ctx))? {
            Taken::Message { from, order, .. } => {
                self.check.took(node, life, job, from, order, &bytes);
                Some(bytes.to_vec())
            }
            Taken::Change(_) => None,
        }
    }

    // Calls, for short.

    pub fn register(&mut self, node: u8, group: &str, job: &str, subgroup: u8) -> JobId {
        let r = Registration { group, job, subgroup, deadline_ms: 0, of_domain: false };
        self.call(n(node), |e, ctx| e.register(&r, ctx)).unwrap()
    }

    pub fn send(&mut self, node: u8, job: JobId, bytes: &[u8]) -> Result<(), CallError> {
        self.call(n(node), |e, ctx| e.send(job, None, bytes, ctx))
    }

    pub fn state(&self, node: u8, job: JobId) -> Option<JobState> {
        self.engine(node).job(job)
    }

    /// A named sequence of what one life heard, as text.
    pub fn log(&self, node: u8) -> Vec<String> {
        self.check.log_of(n(node), self.up(n(node)).life)
    }

    pub fn describe(&self) -> String {
        let mut text = format!("at {} µs; {}\n", self.now, self.membership.describe());
        for node in self.running() {
            let e = &self.up(node).engine;
            text += &format!(
                "{node:?} {:?} life {:?} epoch {:?} flushing {} caught up {} order {} queues {:?} {:?}\n  {:?}\n",
                e.jobs().collect::<Vec<_>>(),
                self.up(node).life,
                e.epoch(),
                e.is_flushing(),
                e.is_caught_up(),
                e.tables().order,
                e.queues(),
                e.counters(),
                (&e.tables().asks, &e.tables().members),
            );
        }
        text
    }
}
