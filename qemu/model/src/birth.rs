//! Birth of an incarnation (DESIGN 3): two machines under one node id, the shipped birth, then the shipped lock.
//!
//! Both boot at any time, in any order: each reads the superblock, the configuration and its own records, watches an old heartbeat
//! that is not its own machine's, writes its identity, waits a beat, reads it back, beats, and reads it once more. Machine 0 may
//! run already when machine 1 begins. The two share no memory and have the same incarnation; only the nonce tells them apart.
//!
//! Time: true time that moves to the next instant at which something is due. A step of a machine may be late by at most
//! `slack`, its disk request included. That at most one of two that boot at once writes the ballot block holds for any lateness
//! (`identity.rs` of the lock has the proof); at default timing it is searched with steps as late as `io_max`, at fast timing
//! with steps a beat late. That one of the two lives on holds where both get through their births within a beat: later
//! than that each may see the other.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::Hash;

use quorate_base::capacity::{RECORD_BYTES, RECORD_PITCH};
use quorate_base::event::{NoTrace, TraceClock};
use quorate_base::{BootNonce, DiskOp, HaltReason, Instant, NodeId, Timing, Trace};
use quorate_database::layout::{self, Region};
use quorate_database::{BallotBlock, ClusterKey, Heartbeat, Identity, MachineId, Name, NodeConfig, Superblock};
use quorate_master_lock::{Config, Detail, DiskGeometry, Input, MasterLock, Output, OwnIdentity, Rules};
use quorate_node::Boot;
use quorate_node::birth::{Birth, BirthOutput};

use crate::explore::{Hash128, Model, Violation};
use crate::machine::CLUSTER;

/// What is checked.
pub const INVARIANTS: [&str; 5] = [BOTH_WRITE, FOREIGN, IN_USE, UNEXPECTED, ONE_LIVES];
const BOTH_WRITE: &str = "no two lives of one id both write the ballot block";
const FOREIGN: &str = "foreign nonce → halt unwritten";
const IN_USE: &str = "no life begins to beat while another's heartbeat moves";
/// Checked where births take less than a beat.
const ONE_LIVES: &str = "one of two that boot at once lives on";
const UNEXPECTED: &str = "a machine halts only because another runs under its id";

/// The rules of birth that the model itself keeps or leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The identity is read back a beat after it was written.
    pub read_back: bool,
    /// It is read back after a wait of a beat, not at once.
    pub wait_a_beat: bool,
    /// An old heartbeat of another machine is watched; without it both machines claim to be the same one.
    pub watch: bool,
}

impl Kept {
    /// All.
    pub const ALL: Self = Self { read_back: true, wait_a_beat: true, watch: true };
}

/// What a run may contain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Machine 0 is beating when machine 1 begins to boot.
    pub first_beats: bool,
    /// A step, with its disk request, is late by at most so much, ms.
    pub slack_ms: u64,
    /// Heartbeats of a machine.
    pub beats: u8,
    /// The cluster's timing.
    pub timing: Timing,
    /// One lives on: both get through their births within a beat.
    pub one_lives: bool,
}

/// A machine: which one, where it stands in its life.
#[derive(Clone, Debug)]
enum Stage {
    Birth(Box<Birth>),
    /// The identity is written; it is read back then.
    Wait(Instant, Box<quorate_node::birth::Born>),
    /// It is being read back.
    Verify(Box<quorate_node::birth::Born>),
    Lock(Box<MasterLock>),
    Halted,
}

#[derive(Clone, Debug)]
struct Machine {
    stage: Stage,
    /// What it has under way.
    op: Option<DiskOp>,
    tag: u32,
    nonce: BootNonce,
    print: u128,
}

/// A machine by its number.
type MachineId32 = u32;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Place {
    machine: MachineId32,
    /// When its next step is enabled, true µs.
    since: u64,
    beats: u8,
    /// It wrote the ballot block.
    wrote: bool,
    /// It wrote a heartbeat.
    beat: bool,
    halted: bool,
}

/// One state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    now: u64,
    places: [Place; 2],
    /// Identity slots, heartbeat, ballot slots of the node.
    disk: [u16; 5],
}

/// What can happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// A machine does its next step.
    Go(u8),
    /// Time passes.
    Wait,
}

/// The model.
#[derive(Debug)]
pub struct BirthModel {
    name: String,
    bounds: Bounds,
    kept: Kept,
    rules: Rules,
    machines: Vec<Machine>,
    ids: HashMap<u128, MachineId32>,
    records: Vec<[u8; RECORD_BYTES]>,
    record_ids: HashMap<[u8; RECORD_BYTES], u16>,
    fixed: HashMap<u64, [u8; RECORD_BYTES]>,
}

fn me() -> NodeId {
    NodeId::new(1).expect("a node id")
}

const NODES: u8 = 2;

impl BirthModel {
    /// With these bounds and rules.
    pub fn new(name: &str, bounds: Bounds, rules: Rules, kept: Kept) -> Self {
        let superblock = Superblock {
            generation: 1,
            cluster: CLUSTER,
            name: Name::new("model").expect("a name"),
            timing: bounds.timing,
            nodes: NODES,
            levels_max: 32,
            fence: Default::default(),
            preempted: Default::default(),
            registrants: Default::default(),
            blanks: Default::default(),
            key: ClusterKey([0; 32]),
            key_epoch: 0,
        };
        let mut fixed = HashMap::new();
        for copy in [0, 1] {
            fixed.insert(layout::superblock(copy), superblock.encode(copy));
        }
        for n in NodeId::first(NODES) {
            let config = NodeConfig::named(Name::new("node").expect("a name"));
            fixed.insert(layout::config(n), config.encode(CLUSTER, n));
        }
        Self {
            name: name.to_owned(),
            bounds,
            kept,
            rules,
            machines: Vec::new(),
            ids: HashMap::new(),
            records: vec![[0; RECORD_BYTES]],
            record_ids: HashMap::new(),
            fixed,
        }
    }

    fn boot(&self, m: usize) -> Machine {
        let uuid = if self.kept.watch { m as u8 + 1 } else { 1 };
        let nonce = BootNonce(100 + m as u64);
        let boot = Boot {
            node: Some(me()),
            machine: MachineId { uuid: Some([uuid; 16]), mac: None },
            nonce,
            cluster: None,
            geometry: DiskGeometry::default(),
            trace_writes: false,
        };
        Machine { stage: Stage::Birth(Box::new(Birth::new(boot))), op: None, tag: 0, nonce, print: 0 }
    }

    fn record(&mut self, raw: [u8; RECORD_BYTES]) -> u16 {
        if raw == [0; RECORD_BYTES] {
            return 0;
        }
        let records = &mut self.records;
        *self.record_ids.entry(raw).or_insert_with(|| {
            records.push(raw);
            (records.len() - 1) as u16
        })
    }

    fn index(at: u64) -> Option<usize> {
        match Region::of(at) {
            Region::Identity(n, slot) if n == me() => Some(usize::from(slot)),
            Region::Heartbeat(n) if n == me() => Some(2),
            Region::Ballot(n, slot) if n == me() => Some(3 + usize::from(slot)),
            _ => None,
        }
    }

    fn read(&self, state: &State, first: u64, count: u16) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(count) * RECORD_PITCH as usize];
        for i in 0..u64::from(count) {
            let raw = match Self::index(first + i) {
                Some(index) => self.records[usize::from(state.disk[index])],
                None => self.fixed.get(&(first + i)).copied().unwrap_or([0; RECORD_BYTES]),
            };
            bytes[i as usize * RECORD_PITCH as usize..][..RECORD_BYTES].copy_from_slice(&raw);
        }
        bytes
    }

    fn keep(&mut self, mut machine: Machine, now: Instant) -> MachineId32 {
        let mut print = Hash128::default();
        machine.nonce.hash(&mut print);
        machine.op.hash(&mut print);
        match &machine.stage {
            Stage::Birth(birth) => birth.hash(&mut print),
            Stage::Wait(at, born) => (1, at, born).hash(&mut print),
            Stage::Verify(born) => (2, born).hash(&mut print),
            Stage::Lock(lock) => {
                lock.fingerprint(now, Detail { counters: 1 << 20, changed_at: false }, &mut print);
                now.hash(&mut print);
            }
            Stage::Halted => 3.hash(&mut print),
        }
        machine.print = print.key();
        if let Some(id) = self.ids.get(&machine.print) {
            return *id;
        }
        let id = self.machines.len() as MachineId32;
        self.ids.insert(machine.print, id);
        self.machines.push(machine);
        id
    }

    /// When a machine that has nothing under way goes on by itself.
    fn due(machine: &Machine) -> u64 {
        match &machine.stage {
            Stage::Birth(birth) => birth.poll_timeout().0,
            Stage::Wait(at, _) => at.0,
            Stage::Verify(_) | Stage::Halted => u64::MAX,
            Stage::Lock(lock) => lock.poll_timeout().0,
        }
    }

    /// One step of machine `m`: its request is done, or it goes on by itself.
    fn go(&mut self, state: &State, m: usize) -> Result<State, Violation> {
        let mut next = *state;
        let mut machine = self.machines[state.places[m].machine as usize].clone();
        let now = Instant(state.now);
        let mut bytes = None;
        match machine.op.take() {
            Some(DiskOp::Read { first, count }) => bytes = Some(self.read(state, first, count)),
            Some(DiskOp::Write { at, record, .. }) => {
                bytes = Some(Vec::new());
                self.land(&mut next, m, at, record)?;
            }
            None => {}
        }
        let halted = self.turn(&mut machine, m, now, bytes.as_deref())?;
        next.places[m].halted = halted;
        if halted && self.bounds.one_lives && next.places.iter().all(|p| p.halted) {
            return Err(Violation::new(ONE_LIVES, "both machines halt"));
        }
        if halted {
            machine = Machine { stage: Stage::Halted, op: None, ..machine };
        }
        let place = &mut next.places[m];
        let due = if machine.op.is_some() { state.now } else { Self::due(&machine).max(state.now) };
        if matches!(machine.op, Some(DiskOp::Write { at, .. }) if at == layout::heartbeat(me())) {
            place.beats += 1;
        }
        place.since = due;
        next.places[m].machine = self.keep(machine, now);
        Ok(next)
    }

    fn turn(&mut self, machine: &mut Machine, m: usize, now: Instant, bytes: Option<&[u8]>) -> Result<bool, Violation> {
        // Each pass does at most one change of stage; with a request under way there is nothing more to do.
        let mut bytes = bytes;
        for _ in 0..8 {
            let done = bytes.take();
            let stage = std::mem::replace(&mut machine.stage, Stage::Halted);
            machine.stage = match stage {
                Stage::Birth(mut birth) => {
                    let output = match done {
                        Some(bytes) => birth.completed(now, Ok(bytes)),
                        None => birth.poll(now),
                    };
                    match output {
                        Some(BirthOutput::Disk(_, op)) => {
                            machine.op = Some(op);
                            Stage::Birth(birth)
                        }
                        Some(BirthOutput::Reservation(op)) => unreachable!("{op:?} on a database with leases"),
                        Some(BirthOutput::Halt(reason)) => return Self::halt(m, reason),
                        Some(BirthOutput::Born) => {
                            let Some(born) = birth.take_born() else { return Ok(true) };
                            let wait = if self.kept.wait_a_beat { self.bounds.timing.disk_heartbeat } else { 0 };
                            Stage::Wait(now.plus_ms(wait), Box::new(born))
                        }
                        None => Stage::Birth(birth),
                    }
                }
                Stage::Wait(at, born) if now < at => Stage::Wait(at, born),
                Stage::Wait(_, born) if !self.kept.read_back => self.live(&born, machine.nonce, now),
                Stage::Wait(_, born) => {
                    machine.op = Some(OwnIdentity::read(me()));
                    Stage::Verify(born)
                }
                Stage::Verify(born) => {
                    if let Err(reason) = born.identity.check(done.unwrap_or(&[]), CLUSTER, me(), machine.nonce) {
                        return Self::halt(m, reason);
                    }
                    self.live(&born, machine.nonce, now)
                }
                Stage::Lock(mut lock) => {
                    if self.beat(&mut lock, machine, m, now, done)? {
                        return Ok(true);
                    }
                    Stage::Lock(lock)
                }
                Stage::Halted => return Ok(true),
            };
            if machine.op.is_some() || Self::due(machine) > now.0 {
                return Ok(false);
            }
        }
        Ok(false)
    }

    fn live(&self, born: &quorate_node::birth::Born, nonce: BootNonce, now: Instant) -> Stage {
        let config = Config {
            me: me(),
            incarnation: born.incarnation,
            nonce,
            cluster: CLUSTER,
            nodes: NODES,
            timing: self.bounds.timing,
            first_tag: 1,
            blanks: Default::default(),
            own: born.own.clone(),
            geometry: DiskGeometry::default(),
        };
        let mut lock = Box::new(MasterLock::new(config, now));
        lock.set_rules(self.rules);
        lock.guard_identity(born.identity);
        lock.contend(true);
        Stage::Lock(lock)
    }

    fn beat(
        &self,
        lock: &mut MasterLock,
        machine: &mut Machine,
        m: usize,
        now: Instant,
        done: Option<&[u8]>,
    ) -> Result<bool, Violation> {
        let foreign = done.filter(|bytes| !bytes.is_empty()).and_then(|bytes| {
            let at = (layout::heartbeat(me()) - layout::STATE_FIRST) as usize * RECORD_PITCH as usize;
            let h = *Heartbeat::decode(bytes.get(at..)?, CLUSTER, me()).good()?;
            (h.nonce != machine.nonce && h.nonce.0 >= 100).then_some(h)
        });
        let input = match done {
            Some(bytes) => Input::Disk { tag: quorate_base::DiskTag(machine.tag), result: Ok(bytes) },
            None => Input::Tick,
        };
        let (mut clock, mut sink) = (TraceClock::default(), NoTrace);
        lock.handle(now, input, &mut Trace::new(now, &mut clock, &mut sink));
        while let Some(output) = lock.poll_output() {
            match output {
                Output::Disk { tag, op } => {
                    machine.tag = tag.0;
                    machine.op = Some(op);
                }
                Output::Reservation(op) => unreachable!("{op:?} on a database with leases"),
                Output::Halt(reason) => return Self::halt(m, reason),
                Output::Event(_) => {}
            }
        }
        let watched = machine_saw(lock, foreign);
        if watched && matches!(machine.op, Some(DiskOp::Write { .. })) {
            return Err(Violation::new(
                FOREIGN,
                format!("machine {m} reads another's heartbeat in its block, and writes"),
            ));
        }
        Ok(false)
    }

    fn halt(m: usize, reason: HaltReason) -> Result<bool, Violation> {
        match reason {
            HaltReason::ForeignNonce { .. } | HaltReason::NodeIdInUse => Ok(true),
            other => Err(Violation::new(UNEXPECTED, format!("machine {m} halts: {other}"))),
        }
    }

    fn land(&mut self, state: &mut State, m: usize, at: u64, raw: [u8; RECORD_BYTES]) -> Result<(), Violation> {
        let Some(index) = Self::index(at) else { return Ok(()) };
        state.disk[index] = self.record(raw);
        // One whose heartbeats are used up stands still for ever.
        let other = state.places[1 - m];
        let runs = !other.halted && other.beats <= self.bounds.beats;
        match index {
            2 => {
                // The other one beats, and has been seen to: this one began after that.
                let place = &mut state.places[m];
                let first = !place.beat;
                place.beat = true;
                if first && self.bounds.first_beats && m == 1 && runs {
                    return Err(Violation::new(IN_USE, "machine 1 begins to beat while machine 0 does"));
                }
            }
            3 | 4 => {
                if other.wrote && runs {
                    return Err(Violation::new(
                        BOTH_WRITE,
                        format!("machine {m} writes, machine {} did and runs", 1 - m),
                    ));
                }
                state.places[m].wrote = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn tell_op(&self, machine: &Machine) -> String {
        match &machine.op {
            None => match &machine.stage {
                Stage::Halted => "is halted".to_owned(),
                _ => "goes on".to_owned(),
            },
            Some(DiskOp::Read { first, count }) => {
                format!("reads {} ({count} records)", Region::of(*first))
            }
            Some(DiskOp::Write { at, record, .. }) => {
                let region = Region::of(*at);
                let what = match region {
                    Region::Identity(n, slot) => Identity::decode(record, CLUSTER, n, slot)
                        .good()
                        .map(|i| format!("incarnation {:?}", i.incarnation)),
                    Region::Heartbeat(n) => Heartbeat::decode(record, CLUSTER, n)
                        .good()
                        .map(|h| format!("counter {}, flag {}", h.counter, h.flag.name())),
                    Region::Ballot(n, slot) => BallotBlock::decode(record, CLUSTER, n, slot)
                        .good()
                        .map(|b| format!("slot {slot}, promised {:?}", b.promised)),
                    _ => None,
                };
                format!("writes {region}: {}", what.unwrap_or_default())
            }
        }
    }
}

// A foreign heartbeat that this life must take for another machine's: not what its birth found there before its first own.
fn machine_saw(lock: &MasterLock, foreign: Option<Heartbeat>) -> bool {
    foreign.is_some_and(|h| h.incarnation >= lock.life())
}

impl Model for BirthModel {
    type State = State;
    type Action = Action;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn bounds(&self) -> String {
        let mut text = format!(
            "2 machines under one node id, {} heartbeats each, each step late by at most {} ms",
            self.bounds.beats, self.bounds.slack_ms
        );
        let _ = write!(text, ", a beat of {} ms", self.bounds.timing.disk_heartbeat);
        if self.bounds.first_beats {
            let _ = write!(text, "; machine 0 runs when machine 1 begins");
        }
        text
    }

    fn invariants(&self) -> &'static [&'static str] {
        &INVARIANTS
    }

    fn initial(&mut self) -> Result<Vec<State>, Violation> {
        let place = Place { machine: 0, since: 0, beats: 0, wrote: false, beat: false, halted: false };
        let mut state = State { now: 1_000_000, places: [place; 2], disk: [0; 5] };
        for m in 0..2 {
            let machine = self.boot(m);
            state.places[m].since = if m == 1 && self.bounds.first_beats { u64::MAX } else { state.now };
            state.places[m].machine = self.keep(machine, Instant(state.now));
        }
        if self.bounds.first_beats {
            // Machine 0 alone, without delay, through two heartbeats.
            while state.places[0].beats < 2 || self.machines[state.places[0].machine as usize].op.is_some() {
                state.now = state.now.max(state.places[0].since);
                state = self.go(&state, 0)?;
            }
            state.places[0].beats = 0;
            state.places[1].since = state.now;
        }
        Ok(vec![state])
    }

    fn key(&self, state: &State) -> u128 {
        Hash128::of(state)
    }

    fn actions(&mut self, state: &State, actions: &mut Vec<Action>) {
        for m in 0..2 {
            let place = &state.places[m];
            if !place.halted && place.since <= state.now && place.beats <= self.bounds.beats {
                actions.push(Action::Go(m as u8));
            }
        }
        actions.push(Action::Wait);
    }

    fn step(&mut self, state: &State, action: Action) -> Result<Option<State>, Violation> {
        match action {
            Action::Go(m) => self.go(state, usize::from(m)).map(Some),
            Action::Wait => {
                let live = |p: &&Place| !p.halted && p.beats <= self.bounds.beats;
                let slack = self.bounds.slack_ms * 1000;
                let latest = state.places.iter().filter(live).map(|p| p.since.saturating_add(slack)).min();
                let due = state.places.iter().filter(live).map(|p| p.since).filter(|s| *s > state.now).min();
                let Some(latest) = latest else { return Ok(None) };
                let at = due.unwrap_or(latest).min(latest);
                if at <= state.now || at == u64::MAX {
                    return Ok(None);
                }
                Ok(Some(State { now: at, ..*state }))
            }
        }
    }

    fn is_within(&self, state: &State) -> bool {
        state.places.iter().any(|p| !p.halted)
    }

    fn tell(&mut self, before: &State, action: Action, after: Option<&State>) -> String {
        match action {
            Action::Wait => format!("{:>5} ms: time passes", before.now / 1000),
            Action::Go(m) => {
                let place = &before.places[usize::from(m)];
                let machine = &self.machines[place.machine as usize];
                let halts = after.is_some_and(|after| after.places[usize::from(m)].halted && !place.halted);
                let end = if halts { " → it halts" } else { "" };
                format!("{:>5} ms: machine {m} {}{end}", before.now / 1000, self.tell_op(machine))
            }
        }
    }
}
