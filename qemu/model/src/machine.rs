//! The shipped [`MasterLock`] as the models step it: states of one node, records and views are kept once and known by
//! number, and what a machine answers to one input is worked out once.
//!
//! A machine is told apart by its fingerprint ([`MasterLock::fingerprint`]), so that time is relative; heartbeat counters
//! count modulo a small number in the machine and on the disk, which makes runs of any length finite. Who misses exactly so many
//! beats takes a live node for a silent one; where that must not be, the model bounds how far a node can fall behind.
//!
//! A stand-in for membership rides on each machine: it contends, lets itself in, puts silent nodes out, lets others in.

use std::collections::HashMap;

use quorate_base::capacity::{RECORD_BYTES, RECORD_PITCH};
use quorate_base::event::{NoTrace, TraceClock};
use quorate_base::{
    Ballot, BootNonce, ClusterId, DiskError, DiskOp, DiskTag, HaltReason, Incarnation, Instant, NodeId, NodeState,
    Timing, Trace, View, ViewName,
};
use quorate_database::layout::{self, Region};
use quorate_database::{BallotBlock, Block, Flag, Heartbeat};
use quorate_master_lock::{
    Config, Detail, DiskGeometry, Input, LockEvent, MasterLock, Output, OwnRecords, Rules, Status,
};

use crate::explore::{Hash128, Violation};

/// The cluster of all models.
pub const CLUSTER: ClusterId = ClusterId([7; 16]);
/// Nodes at most.
pub const NODES_MAX: usize = 3;
/// Records of the state area at most.
pub const BLOCKS_MAX: usize = 3 * NODES_MAX;

/// A record by its number.
pub type RecordId = u16;
/// A view's content by its number.
pub type ViewId = u16;
/// A node's machine by its number.
pub type LocalId = u32;

/// A block that was never written.
pub const BLANK: RecordId = 0;
/// A block whose write was torn.
pub const TORN: RecordId = 1;
/// No machine.
pub const NOBODY: LocalId = LocalId::MAX;

/// The `n`th node.
pub fn node_id(n: usize) -> NodeId {
    NodeId::new(n as u8).expect("models have few nodes")
}

/// What one record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Content {
    /// If it is a valid heartbeat.
    pub heartbeat: Option<Heartbeat>,
    /// If it is a valid ballot slot.
    pub ballot: Option<Accepted>,
}

/// What a ballot slot says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// Higher counts.
    pub sequence: u64,
    /// The promise.
    pub promised: Ballot,
    /// The accepted view's name.
    pub name: ViewName,
    /// Its content.
    pub view: ViewId,
    /// Its predecessor's content.
    pub predecessor: ViewId,
    /// Who wrote it.
    pub nonce: BootNonce,
}

/// What a machine knows and says, asked once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// The newest view that it takes for committed, if any.
    pub committed: Option<(ViewName, ViewId)>,
    /// Its ballot while it is master.
    pub master: Option<Ballot>,
    /// It may act as master.
    pub acting: bool,
    /// Its flag.
    pub flag: Flag,
    /// The highest ballot it knows.
    pub highest: Ballot,
    /// Something of an old life may still land, by time.
    pub quarantined: bool,
    /// µs until it is to be called, from its now.
    pub due_us: u64,
    /// µs that its lease lasts from its now.
    pub lease_us: u64,
    /// Bit n: it takes node n for silent.
    pub silent: u8,
}

/// One machine.
#[derive(Debug)]
pub struct Local {
    /// The shipped code.
    pub lock: Box<MasterLock>,
    /// Its clock.
    pub now: Instant,
    /// Which life.
    pub incarnation: Incarnation,
    /// Which boot.
    pub nonce: BootNonce,
    /// What it says.
    pub facts: Facts,
}

/// What a machine is given.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// Its clock moves to when it is next to be called.
    Due,
    /// Its clock moves by so many µs, and it is called.
    Tick(u32),
    /// Its write is done, after so many µs.
    Wrote(u32),
    /// Its write failed; nobody knows whether it landed.
    Failed(u32),
    /// The port refused its write: the lease had run out.
    Refused(u32),
    /// Its read is done, after so many µs, and showed these.
    Read(u32, [RecordId; BLOCKS_MAX]),
    /// Membership gives the lock back.
    Release,
    /// Membership puts this node out.
    Evict(u8),
}

/// What a machine wants of the disk next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Request {
    /// Nothing more: what is under way, or the next beat.
    #[default]
    None,
    /// A read of the whole state area.
    Read,
    /// A write.
    Write {
        /// Which block of the state area.
        at: u8,
        /// What.
        record: RecordId,
        /// µs from its now until which the port may submit it.
        not_after: Option<i64>,
    },
}

/// What came of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The machine now; [`NOBODY`] if it halted.
    pub local: LocalId,
    /// Why it halted.
    pub halted: Option<HaltReason>,
    /// What it wants.
    pub request: Request,
    /// By how much its clock moved, µs.
    pub moved_us: u64,
    /// It became master under this ballot.
    pub acquired: Option<Ballot>,
    /// It lost the lock to a higher promise.
    pub lost: bool,
    /// It committed a view.
    pub committed: bool,
    /// It broke a rule that one node alone can break.
    pub violation: Option<Violation>,
}

/// What membership does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// No view beyond this number.
    pub views: u64,
    /// Bit n: node n contends.
    pub contenders: u8,
    /// A node that is heard on the disk and is not in is let in.
    pub admits: bool,
    /// A silent member is put out.
    pub evicts: bool,
    /// A second change is proposed while one is under way, if the lock takes it.
    pub hasty: bool,
}

/// All machines, records and views of one model.
#[derive(Debug)]
pub struct Machines {
    /// How many nodes.
    pub nodes: usize,
    /// The time-outs.
    pub timing: Timing,
    /// What membership does.
    pub policy: Policy,
    rules: Rules,
    detail: Detail,
    records: Vec<[u8; RECORD_BYTES]>,
    contents: Vec<Content>,
    record_ids: HashMap<(u8, [u8; RECORD_BYTES]), RecordId>,
    view_ids: HashMap<Vec<(NodeState, Incarnation)>, ViewId>,
    views: Vec<View>,
    locals: Vec<Local>,
    local_ids: HashMap<u128, LocalId>,
    answers: HashMap<(LocalId, Event), u32>,
    outcomes: Vec<Outcome>,
}

impl Machines {
    /// None yet.
    pub fn new(nodes: usize, timing: Timing, policy: Policy, rules: Rules, detail: Detail) -> Self {
        let mut all = Self {
            nodes,
            timing,
            policy,
            rules,
            detail,
            records: vec![[0; RECORD_BYTES], [0xa5; RECORD_BYTES]],
            contents: vec![Content::default(); 2],
            record_ids: HashMap::new(),
            view_ids: HashMap::new(),
            views: Vec::new(),
            locals: Vec::new(),
            local_ids: HashMap::new(),
            answers: HashMap::new(),
            outcomes: Vec::new(),
        };
        all.view(&View::EMPTY);
        all
    }

    /// A machine.
    pub fn local(&self, id: LocalId) -> &Local {
        &self.locals[id as usize]
    }

    /// What came of an event.
    pub fn outcome(&self, id: u32) -> &Outcome {
        &self.outcomes[id as usize]
    }

    /// What a record says.
    pub fn content(&self, id: RecordId) -> &Content {
        &self.contents[usize::from(id)]
    }

    /// A view by its number.
    pub fn view_of(&self, id: ViewId) -> &View {
        &self.views[usize::from(id)]
    }

    /// How many different machines, records and views there are.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.locals.len(), self.records.len(), self.views.len())
    }

    /// The number of a view's content.
    pub fn view(&mut self, view: &View) -> ViewId {
        let key = (0..self.nodes).map(node_id).map(|n| (view.state(n), view.incarnation(n))).collect();
        let views = &mut self.views;
        *self.view_ids.entry(key).or_insert_with(|| {
            views.push(view.clone());
            (views.len() - 1) as ViewId
        })
    }

    /// The number of a record, with its stamps taken off and its counter brought into range.
    fn record(&mut self, at: u8, raw: &[u8; RECORD_BYTES]) -> RecordId {
        let region = Region::of(layout::STATE_FIRST + u64::from(at));
        let (raw, content) = match region {
            Region::Heartbeat(node) => match Heartbeat::decode(raw, CLUSTER, node) {
                Block::Good(h) => {
                    let h = Heartbeat { counter: h.counter % self.detail.counters, lamport: 0, ..h };
                    (h.encode(CLUSTER, node), Content { heartbeat: Some(h), ballot: None })
                }
                _ => (*raw, Content::default()),
            },
            Region::Ballot(node, slot) => match BallotBlock::decode(raw, CLUSTER, node, slot) {
                Block::Good(b) => {
                    let b = BallotBlock { lamport: 0, ..b };
                    let accepted = Accepted {
                        sequence: b.sequence,
                        promised: b.promised,
                        name: b.accepted_name(),
                        view: self.view(&b.view),
                        predecessor: self.view(&b.predecessor.view),
                        nonce: b.nonce,
                    };
                    let raw = b.encode(CLUSTER, node, slot).unwrap_or(*raw);
                    (raw, Content { heartbeat: None, ballot: Some(accepted) })
                }
                _ => (*raw, Content::default()),
            },
            _ => (*raw, Content::default()),
        };
        if let Some(id) = self.record_ids.get(&(at, raw)) {
            return *id;
        }
        let id = RecordId::try_from(self.records.len()).expect("fewer than 65536 different records");
        self.records.push(raw);
        self.contents.push(content);
        self.record_ids.insert((at, raw), id);
        id
    }

    /// The newest valid ballot slot of a node.
    pub fn newest(&self, disk: &[RecordId; BLOCKS_MAX], n: usize) -> Option<Accepted> {
        let slots = [disk[3 * n + 1], disk[3 * n + 2]].map(|id| self.content(id).ballot);
        slots.into_iter().flatten().max_by_key(|b| b.sequence)
    }

    /// A new life of node `n`, which reads its own records from `disk`.
    pub fn born(
        &mut self,
        n: usize,
        incarnation: Incarnation,
        nonce: BootNonce,
        disk: &[RecordId; BLOCKS_MAX],
        clean: bool,
    ) -> u32 {
        let id = node_id(n);
        let raw = |at: usize| &self.records[usize::from(disk[at])];
        let own = OwnRecords {
            heartbeat: Heartbeat::decode(raw(3 * n), CLUSTER, id),
            ballots: [0, 1].map(|s| BallotBlock::decode(raw(3 * n + 1 + usize::from(s)), CLUSTER, id, s)),
            clean,
        };
        let config = Config {
            me: id,
            incarnation,
            nonce,
            cluster: CLUSTER,
            nodes: self.nodes as u8,
            timing: self.timing,
            first_tag: 0,
            blanks: Default::default(),
            own,
            geometry: DiskGeometry::default(),
        };
        let now = Instant(10_000_000);
        let mut lock = Box::new(MasterLock::new(config, now));
        lock.set_rules(self.rules);
        lock.contend(self.policy.contenders >> n & 1 == 1);
        let local = Local { lock, now, incarnation, nonce, facts: Facts::default() };
        let outcome = self.play(local, Event::Tick(0), now);
        self.outcomes.push(outcome);
        (self.outcomes.len() - 1) as u32
    }

    /// What a machine answers.
    pub fn answer(&mut self, local: LocalId, event: Event) -> u32 {
        if let Some(known) = self.answers.get(&(local, event)) {
            return *known;
        }
        let machine = &self.locals[local as usize];
        let copy = Local { lock: machine.lock.clone(), ..*machine };
        let before = machine.now;
        let outcome = self.play(copy, event, before);
        self.outcomes.push(outcome);
        let id = (self.outcomes.len() - 1) as u32;
        self.answers.insert((local, event), id);
        id
    }

    /// A record as a machine reads it: a counter beside the one that it read last, which those on the disk count modulo
    /// something.
    fn as_read(&self, lock: &MasterLock, at: usize, id: RecordId) -> [u8; RECORD_BYTES] {
        let raw = self.records[usize::from(id)];
        let (Some(h), node) = (self.content(id).heartbeat, node_id(at / 3)) else { return raw };
        let Some(old) = lock.peer(node).heartbeat.as_ref().filter(|old| old.nonce == h.nonce) else { return raw };
        let modulus = self.detail.counters;
        let ahead = (h.counter + modulus - old.counter % modulus) % modulus;
        let counter = old.counter + ahead;
        let counter = if ahead > modulus / 2 { counter.saturating_sub(modulus) } else { counter };
        Heartbeat { counter, ..h }.encode(CLUSTER, node)
    }

    fn play(&mut self, mut local: Local, event: Event, before: Instant) -> Outcome {
        let mut bytes = Vec::new();
        let tag = DiskTag(local.lock.tag_under_way());
        local.now = match event {
            Event::Due => local.now.max(local.lock.poll_timeout()),
            Event::Tick(us) | Event::Wrote(us) | Event::Failed(us) | Event::Refused(us) | Event::Read(us, _) => {
                local.now.plus_us(u64::from(us))
            }
            Event::Release | Event::Evict(_) => local.now,
        };
        let mut input = match event {
            Event::Due | Event::Tick(_) | Event::Release | Event::Evict(_) => Input::Tick,
            Event::Wrote(_) => Input::Disk { tag, result: Ok(&[]) },
            Event::Failed(_) => Input::Disk { tag, result: Err(DiskError::TimedOut) },
            Event::Refused(_) => Input::Disk { tag, result: Err(DiskError::Frozen) },
            Event::Read(_, blocks) => {
                bytes.resize(3 * self.nodes * RECORD_PITCH as usize, 0);
                for (i, block) in blocks.iter().enumerate().take(3 * self.nodes) {
                    let at = i * RECORD_PITCH as usize;
                    bytes[at..at + RECORD_BYTES].copy_from_slice(&self.as_read(&local.lock, i, *block));
                }
                Input::Disk { tag, result: Ok(&bytes) }
            }
        };
        match event {
            Event::Release => local.lock.release(),
            Event::Evict(n) => {
                let mut next = local.lock.committed().1.successor();
                let victim = node_id(usize::from(n));
                next.set(victim, NodeState::ForcedLeaving, next.incarnation(victim));
                // Refused if this node is not master any more: then nothing happens.
                let _ = local.lock.propose(next);
            }
            _ => {}
        }
        let mut outcome = Outcome {
            local: NOBODY,
            halted: None,
            request: Request::None,
            moved_us: local.now - before,
            acquired: None,
            lost: false,
            committed: false,
            violation: None,
        };
        for _ in 0..4 {
            // No clock for the stamps: they would only make equal states differ.
            let (mut clock, mut sink) = (TraceClock::default(), NoTrace);
            local.lock.handle(local.now, input, &mut Trace::new(local.now, &mut clock, &mut sink));
            while let Some(output) = local.lock.poll_output() {
                self.take(output, local.now, &mut outcome);
            }
            if outcome.halted.is_some() || !self.act(&mut local) {
                break;
            }
            input = Input::Tick;
        }
        outcome.violation = self.alone(&local, event, &outcome);
        if outcome.halted.is_none() {
            outcome.local = self.keep(local);
        }
        outcome
    }

    fn take(&mut self, output: Output, now: Instant, outcome: &mut Outcome) {
        match output {
            Output::Disk { op: DiskOp::Read { .. }, .. } => outcome.request = Request::Read,
            Output::Disk { op: DiskOp::Write { at, record, not_after }, .. } => {
                let at = (at - layout::STATE_FIRST) as u8;
                let not_after = not_after.map(|t| t.0 as i64 - now.0 as i64);
                outcome.request = Request::Write { at, record: self.record(at, &record), not_after };
            }
            Output::Event(LockEvent::Acquired { ballot, .. }) => outcome.acquired = Some(ballot),
            Output::Event(LockEvent::Lost { .. }) => outcome.lost = true,
            Output::Event(LockEvent::Committed { .. }) => outcome.committed = true,
            Output::Event(_) => {}
            Output::Reservation(op) => unreachable!("{op:?} on a database with leases"),
            Output::Halt(reason) => outcome.halted = Some(reason),
        }
    }

    // The stand-in for membership. True if the lock is to be called again.
    fn act(&self, local: &mut Local) -> bool {
        let me = local.lock.node();
        let lock = &mut local.lock;
        let mut next = lock.committed().1.clone();
        lock.set_status(Status { state: next.state(me), ..Status::default() });
        lock.contend(self.policy.contenders >> me.get() & 1 == 1);
        if let Some(under_way) = lock.proposal().filter(|_| self.policy.hasty) {
            next = under_way.clone();
        }
        if !lock.may_act(local.now) || next.number >= self.policy.views {
            return false;
        }
        let others = || (0..self.nodes).map(node_id).filter(move |n| *n != me);
        let silent = others().find(|n| next.state(*n).is_member() && lock.disk_silent(*n) && self.policy.evicts);
        let newcomer = others().find_map(|n| {
            let h = lock.peer(n).heartbeat.filter(|_| self.policy.admits && !lock.disk_silent(n))?;
            (!next.state(n).is_member() && h.incarnation > next.incarnation(n)).then_some((n, h.incarnation))
        });
        if !next.has_member(me, local.incarnation) {
            next.set(me, NodeState::Joined, local.incarnation);
        } else if let Some(n) = silent {
            next.set(n, NodeState::ForcedLeaving, next.incarnation(n));
        } else if let Some((n, incarnation)) = newcomer {
            next.set(n, NodeState::Joined, incarnation);
        } else {
            return false;
        }
        next.number += 1;
        lock.propose(next).is_ok()
    }

    // What a node that is looked at alone must keep.
    fn alone(&self, local: &Local, event: Event, outcome: &Outcome) -> Option<Violation> {
        let me = local.lock.node();
        let writes = matches!(outcome.request, Request::Write { .. });
        let (name, view) = local.lock.committed();
        if writes && name.ballot != Ballot::NONE && view.excludes(me, local.incarnation) {
            let what = format!("node {me} knows {} excludes it, and writes", name_of(name));
            return Some(Violation::new("committed exclusion → halt unwritten", what));
        }
        if let Request::Write { record, .. } = outcome.request
            && let Some(b) = self.content(record).ballot.filter(|b| b.name.ballot < b.promised)
        {
            let read = (0..self.nodes).map(|n| local.lock.peer(node_id(n)).promised).max();
            if Some(b.promised) < read {
                let what = format!("node {me} promises {:?} and has read {read:?}", b.promised);
                return Some(Violation::new("nothing is promised below what was read", what));
            }
        }
        let Event::Read(_, blocks) = event else { return None };
        let own = self.content(blocks[3 * me.index()]).heartbeat;
        if let Some(h) = own.filter(|h| writes && h.nonce != local.nonce && h.incarnation >= local.incarnation) {
            let what = format!("node {me} finds the nonce {:?} in its own heartbeat block, and writes", h.nonce);
            return Some(Violation::new("foreign nonce → halt unwritten", what));
        }
        if outcome.halted.is_some() || blocks[..3 * self.nodes].contains(&TORN) {
            return None;
        }
        let newest = || (0..self.nodes).filter_map(|n| self.newest(&blocks, n));
        let promised = newest().map(|b| b.promised).max().unwrap_or(Ballot::NONE);
        if let Some(ballot) = local.lock.master().filter(|ballot| *ballot < promised) {
            let what = format!("node {me} read the promise {promised:?} and stays master under {ballot:?}");
            return Some(Violation::new("a higher promise that was read deposes", what));
        }
        let best = newest().max_by_key(|b| b.name.ballot)?;
        if best.name.number > name.number + 1 && best.predecessor != 0 {
            let what =
                format!("node {me} read {} as accepted and knows only number {}", name_of(best.name), name.number);
            return Some(Violation::new("who reads an accepted view knows its predecessor", what));
        }
        None
    }

    fn keep(&mut self, mut local: Local) -> LocalId {
        let mut print = Hash128::default();
        local.lock.fingerprint(local.now, self.detail, &mut print);
        if let Some(id) = self.local_ids.get(&print.key()) {
            return *id;
        }
        let (name, view) = local.lock.committed();
        let view = view.clone();
        let lock = &local.lock;
        let silent = (0..self.nodes).filter(|n| lock.disk_silent(node_id(*n))).fold(0, |all, n| all | 1 << n);
        local.facts = Facts {
            committed: (name.ballot != Ballot::NONE).then(|| (name, self.view(&view))),
            master: lock.master(),
            acting: lock.may_act(local.now),
            flag: lock.flag(),
            highest: lock.highest_promise(),
            quarantined: lock.old_writes_until().is_some_and(|until| local.now < until),
            due_us: lock.poll_timeout().since_us(local.now),
            lease_us: lock.lease_until().since_us(local.now),
            silent,
        };
        let id = self.locals.len() as LocalId;
        self.locals.push(local);
        self.local_ids.insert(print.key(), id);
        id
    }

    /// A record in words.
    pub fn tell(&self, at: u8, id: RecordId) -> String {
        let region = Region::of(layout::STATE_FIRST + u64::from(at));
        let slot = if let Region::Ballot(_, slot) = region { format!(" slot {slot}") } else { String::new() };
        let content = self.content(id);
        match (id, content.heartbeat, content.ballot) {
            (BLANK, ..) => format!("{region}{slot}: blank"),
            (_, Some(h), _) => format!(
                "{region}: life {:?}, counter {}, flag {}, {}{}{}",
                h.incarnation,
                h.counter,
                h.flag.name(),
                if h.frozen { "frozen, " } else { "" },
                if h.clean { "clean, " } else { "" },
                if h.committed.ballot == Ballot::NONE {
                    "knows no view".to_owned()
                } else {
                    format!("knows {}", name_of(h.committed))
                },
            ),
            (.., Some(b)) => format!(
                "{region}{slot}: promised {:?}, accepted {} {}",
                b.promised,
                name_of(b.name),
                self.members(b.view)
            ),
            _ => format!("{region}{slot}: torn"),
        }
    }

    /// A view's members in words.
    pub fn members(&self, id: ViewId) -> String {
        let view = self.view_of(id);
        let known = (0..self.nodes).map(node_id).filter(|n| view.incarnation(*n) != Incarnation::NEVER);
        let words: Vec<_> = known.map(|n| format!("{n}:{} {:?}", view.state(n), view.incarnation(n))).collect();
        format!("{{{}}}", words.join(", "))
    }
}

/// A view's name in words.
pub fn name_of(name: ViewName) -> String {
    if name.ballot == Ballot::NONE {
        "nothing".to_owned()
    } else {
        format!("view ({:?}, {})", name.ballot, name.number)
    }
}
