//! Three shipped nodes, whole, on a disk that does what it is told at once and a wire on which membership messages wait
//! until they are delivered, in any order. The disk's own interleavings are the lock model's.
//!
//! Time stands still while messages are delivered and levels acknowledge; it passes in [`Cluster::advance`], up to the
//! first thing that somebody would notice. Heartbeats are delivered as they are sent.

use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};
use std::hash::Hash;
use std::rc::Rc;

use quorate_base::capacity::{RECORD_BYTES, RECORD_PITCH};
use quorate_base::event::{Record, TraceSink};
use quorate_base::{
    BootNonce, ClusterId, DiskError, DiskOp, FenceMethod, Instant, LevelDecl, LevelOrder, NodeId, NodeState, Timing,
};
use quorate_database::{BallotBlock, ClusterKey, Heartbeat, MachineId, Name, NodeConfig, Raw, Superblock, layout};
use quorate_interconnect::{Channel, Destination};
use quorate_master_lock::DiskGeometry;
use quorate_membership::Membership;
use quorate_node::{Boot, Change, Input, Node, Output, Ports, Post};

use super::letter::{Frame, Letter};
use super::monitor::Monitor;
use crate::explore::{Hash128, Violation};

/// How many nodes.
pub const NODES: u8 = 3;
/// The levels beside membership.
pub const LEVELS: [LevelDecl<'static>; 3] = [
    LevelDecl::new(0, "membership"),
    LevelDecl::new(60, "first").barriers(2, 1, 1),
    LevelDecl::new(70, "second").barriers(1, 2, 2),
];
/// The cluster.
pub const CLUSTER: ClusterId = ClusterId(*b"the model's own!");
/// Its key.
pub const KEY: ClusterKey = ClusterKey([7; 32]);
/// For so long nothing happens: then nothing ever will, µs. Longer than every time-out but the outage's.
const QUIET_US: u64 = 6_000_000;

/// Something that many states share, and what it counts for among what tells states apart: worked out once.
#[derive(Clone, Debug, Default)]
struct Part<T> {
    is: Rc<T>,
    counts_for: OnceCell<u128>,
}

impl<T: Clone> Part<T> {
    fn new(is: T) -> Self {
        Self { is: Rc::new(is), counts_for: OnceCell::new() }
    }

    fn change(&mut self) -> &mut T {
        self.counts_for.take();
        Rc::make_mut(&mut self.is)
    }

    fn counts_for(&self, hash: impl FnOnce(&T, &mut Hash128)) -> u128 {
        *self.counts_for.get_or_init(|| {
            let mut hasher = Hash128::default();
            hash(&self.is, &mut hasher);
            hasher.key()
        })
    }
}

/// One machine.
#[derive(Clone, Debug, Default)]
struct Station {
    node: Option<Part<Node>>,
    /// What its levels were given and have not acknowledged.
    working: Vec<(LevelOrder, Change)>,
    boots: u8,
}

/// Records by their place.
type Disk = BTreeMap<u64, Rc<Raw>>;

/// The whole.
#[derive(Clone, Debug)]
pub struct Cluster {
    now: Instant,
    stations: [Station; NODES as usize],
    disk: Part<Disk>,
    /// Messages that may be delivered now.
    pub wire: Vec<Letter>,
    /// Messages that are delayed until somebody says so.
    pub held: Vec<Letter>,
    monitor: Part<Monitor>,
}

#[derive(Default)]
struct Outbox(Vec<(Destination, Rc<Frame>)>);

impl Post for Outbox {
    fn post(&mut self, to: Destination, datagram: &[u8]) {
        self.0.push((to, Rc::new(Frame::new(datagram))));
    }
}

struct Judge<'a> {
    monitor: &'a mut Part<Monitor>,
    node: NodeId,
    broken: Option<Violation>,
}

impl TraceSink for Judge<'_> {
    fn record(&mut self, record: &Record<'_>) {
        if self.broken.is_none()
            && Monitor::judges(record)
            && let Err(violation) = self.monitor.change().take(self.node, record)
        {
            self.broken = Some(violation);
        }
    }
}

fn machine(n: NodeId) -> MachineId {
    MachineId { uuid: Some([n.get() + 1; 16]), mac: None }
}

impl Cluster {
    /// All machines off, a fresh database.
    pub fn new() -> Self {
        let mut disk = Disk::new();
        if let Ok(name) = Name::new("model") {
            let superblock = Superblock {
                generation: 1,
                cluster: CLUSTER,
                name: name.clone(),
                timing: Timing::DEFAULT,
                nodes: NODES,
                levels_max: 32,
                fence: FenceMethod::Lease,
                preempted: Default::default(),
                registrants: Default::default(),
                blanks: Default::default(),
                key: KEY,
                key_epoch: 0,
            };
            for copy in [0, 1] {
                disk.insert(layout::superblock(copy), Rc::new(superblock.encode(copy)));
            }
            for n in NodeId::first(NODES) {
                let config = NodeConfig { machine: machine(n), ..NodeConfig::named(name.clone()) };
                disk.insert(layout::config(n), Rc::new(config.encode(CLUSTER, n)));
            }
        }
        Self {
            now: Instant(1_000_000),
            stations: Default::default(),
            disk: Part::new(disk),
            wire: Vec::new(),
            held: Vec::new(),
            monitor: Part::default(),
        }
    }

    /// Boots a machine that is off.
    ///
    /// # Errors
    /// The invariant that this breaks.
    pub fn start(&mut self, n: NodeId) -> Result<(), Violation> {
        let station = &mut self.stations[n.index()];
        station.boots += 1;
        let boot = Boot {
            node: Some(n),
            machine: machine(n),
            nonce: BootNonce(u64::from(station.boots) << 8 | u64::from(n.get())),
            cluster: Some(CLUSTER),
            geometry: DiskGeometry { first_lba: 2048, blocks_per_record: 8 },
            trace_writes: false,
        };
        // A table that is sound by its type.
        station.node = Node::new(boot, LEVELS, "model", "").ok().map(Part::new);
        self.call(n, |node, now, ports| node.handle(now, Input::Tick, ports))
    }

    /// Asks a node for a graceful leave.
    ///
    /// # Errors
    /// The invariant that this breaks.
    pub fn leave(&mut self, n: NodeId) -> Result<(), Violation> {
        self.call(n, |node, now, ports| node.leave(now, ports))
    }

    /// A machine dies. What it sent is still on its way.
    pub fn crash(&mut self, n: NodeId) {
        let station = &mut self.stations[n.index()];
        station.node = None;
        station.working.clear();
        for letters in [&mut self.wire, &mut self.held] {
            letters.retain(|l| l.to != n);
        }
    }

    /// Whether a machine runs.
    pub fn runs(&self, n: NodeId) -> bool {
        self.stations[n.index()].node.is_some()
    }

    /// Who works on what.
    pub fn working(&self) -> impl Iterator<Item = (NodeId, usize, &LevelOrder, &Change)> {
        NodeId::first(NODES)
            .zip(&self.stations)
            .flat_map(|(n, s)| s.working.iter().enumerate().map(move |(at, (level, change))| (n, at, level, change)))
    }

    /// A level acknowledges what it works on.
    ///
    /// # Errors
    /// The invariant that this breaks.
    pub fn acknowledge(&mut self, n: NodeId, at: usize) -> Result<(), Violation> {
        let (level, change) = self.stations[n.index()].working.remove(at);
        self.call(n, |node, now, ports| {
            node.acknowledge(now, level, &change, ports);
        })
    }

    /// A message that waits on the wire arrives.
    ///
    /// # Errors
    /// The invariant that this breaks.
    pub fn deliver(&mut self, letter: &Letter) -> Result<(), Violation> {
        let view = self.membership(letter.to).map(|m| m.view().0);
        if let Some((name, sequence)) = letter.frame.sequence.filter(|(name, _)| Some(*name) == view) {
            // It is taken: what it makes stale would be ignored when it comes.
            let stale =
                |l: &Letter| l.to == letter.to && l.frame.sequence.is_some_and(|(n, s)| n == name && s < sequence);
            self.wire.retain(|l| !stale(l));
            self.held.retain(|l| !stale(l));
        }
        self.call(letter.to, |node, now, ports| node.handle(now, Input::Datagram(&letter.frame.bytes), ports))
    }

    /// One call of a node, and what comes out of it.
    fn call(&mut self, n: NodeId, f: impl FnOnce(&mut Node, Instant, &mut Ports<'_>)) -> Result<(), Violation> {
        let station = &mut self.stations[n.index()];
        let Some(node) = &mut station.node else { return Ok(()) };
        let node = node.change();
        let mut outbox = Outbox::default();
        let mut judge = Judge { monitor: &mut self.monitor, node: n, broken: None };
        let mut ports = Ports { post: &mut outbox, sink: &mut judge };
        f(node, self.now, &mut ports);
        let mut halted = false;
        let mut buffer = Vec::new();
        loop {
            while let Some(level) = node.poll_level() {
                let Some(notification) = node.take_notification(level) else { break };
                for change in notification.changes.iter().filter(|c| !c.overtaken) {
                    station.working.retain(|(l, c)| *l != level || c.subject.node != change.subject.node);
                    station.working.push((level, *change));
                }
                // The levels work beside each other: which began first is nothing that tells states apart.
                station.working.sort_unstable_by_key(|(level, change)| (*level, change.subject.node));
            }
            match node.poll_output() {
                None => break,
                Some(Output::Halt(_)) => halted = true,
                Some(Output::Reservation { op, .. }) => unreachable!("{op:?} on a database with leases"),
                Some(Output::Disk { tag, op }) => {
                    let result = disk(&mut self.disk, &op, self.now, &mut buffer);
                    node.handle(self.now, Input::Disk { tag, result }, &mut ports);
                }
            }
        }
        if let Some(violation) = judge.broken {
            return Err(violation);
        }
        if halted {
            self.crash(n);
        }
        self.post(n, outbox.0)
    }

    fn post(&mut self, from: NodeId, sent: Vec<(Destination, Rc<Frame>)>) -> Result<(), Violation> {
        for (to, frame) in sent {
            for n in NodeId::first(NODES).filter(|n| *n != from && to.includes(*n)) {
                if frame.channel == Channel::Heartbeat {
                    self.call(n, |node, now, ports| node.handle(now, Input::Datagram(&frame.bytes), ports))?;
                    continue;
                }
                if !self.runs(n) {
                    // It would find nobody, or a later life, which asks anew.
                    continue;
                }
                // The newer sending of the same message takes the older one's place.
                self.wire.retain(|l| l.to != n || l.frame.said != frame.said);
                self.wire.push(Letter { to: n, from, frame: frame.clone() });
            }
        }
        Ok(())
    }

    /// Takes away what nobody will make anything of: delivered, lost or left where it is, the same comes of it.
    pub fn drop_spent(&mut self) {
        let mut wires = (std::mem::take(&mut self.wire), std::mem::take(&mut self.held));
        for letters in [&mut wires.0, &mut wires.1] {
            letters.retain(|letter| self.membership(letter.to).is_none_or(|at| !letter.is_spent_at(at)));
        }
        (self.wire, self.held) = wires;
    }

    /// Time passes until something happens that anybody would notice; repetitions that change nothing are let through.
    /// `None`: nothing ever will.
    ///
    /// # Errors
    /// The invariant that this breaks.
    pub fn advance(&self) -> Result<Option<Self>, Violation> {
        let before = self.observable();
        let limit = self.now.plus_us(QUIET_US);
        let mut s = self.clone();
        loop {
            let timeouts = s.stations.iter().flat_map(|s| &s.node).map(|n| n.is.poll_timeout());
            let due = timeouts.fold(Instant::FAR, Instant::min);
            if due > limit {
                return Ok(None);
            }
            // A call takes its time: what is due at once comes a moment later.
            s.now = due.max(s.now.plus_us(1));
            for n in NodeId::first(NODES) {
                let late = s.stations[n.index()].node.as_ref().is_some_and(|n| n.is.poll_timeout() <= s.now);
                if late {
                    s.call(n, |node, now, ports| node.handle(now, Input::Tick, ports))?;
                }
            }
            if s.observable() != before {
                return Ok(Some(s));
            }
            if s.wire.is_empty() {
                continue;
            }
            let mut tried = s.clone();
            tried.flush()?;
            if tried.observable() != before {
                return Ok(Some(s));
            }
            s = tried;
        }
    }

    /// Everything on the wire arrives, in the order in which it was sent.
    fn flush(&mut self) -> Result<(), Violation> {
        let mut queue: VecDeque<Letter> = std::mem::take(&mut self.wire).into();
        while let Some(letter) = queue.pop_front() {
            self.deliver(&letter)?;
            queue.extend(std::mem::take(&mut self.wire));
        }
        Ok(())
    }

    /// What the nodes, their levels and the disk are, without clocks and counters, and without the wire.
    fn observable(&self) -> u128 {
        let mut hasher = Hash128::default();
        for station in &self.stations {
            (station.boots, &station.working).hash(&mut hasher);
            let counts_for = |node: &Part<Node>| {
                node.counts_for(|node, hasher| {
                    if let Some(membership) = node.membership() {
                        membership.hash_without_clocks(hasher);
                    }
                })
            };
            station.node.as_ref().map(counts_for).hash(&mut hasher);
        }
        self.disk.counts_for(hash_disk).hash(&mut hasher);
        hasher.key()
    }

    fn membership(&self, n: NodeId) -> Option<&Membership> {
        self.stations[n.index()].node.as_ref().and_then(|node| node.is.membership())
    }

    /// All that tells states apart.
    pub fn key(&self, hasher: &mut Hash128) {
        self.observable().hash(hasher);
        for letters in [&self.wire, &self.held] {
            // Notifications are told apart by their order, too.
            let mut keys: Vec<_> = letters.iter().map(|l| (l.frame.sequence, l.to, l.frame.said)).collect();
            keys.sort_unstable();
            keys.iter().for_each(|(_, to, said)| (to, said).hash(hasher));
            keys.len().hash(hasher);
        }
        self.monitor.counts_for(Monitor::hash).hash(hasher);
    }

    /// Whether all that run are joined, at all levels, by everybody's knowledge, all others are not, and nobody has
    /// anything to do.
    pub fn is_settled(&self) -> bool {
        let running: Vec<NodeId> = NodeId::first(NODES).filter(|n| self.runs(*n)).collect();
        let quiet = self.wire.is_empty() && self.held.is_empty() && self.working().next().is_none();
        quiet
            && running.iter().all(|n| {
                let Some(m) = self.membership(*n) else { return false };
                NodeId::first(NODES).all(|o| {
                    let is = if running.contains(&o) { NodeState::Joined } else { NodeState::Inactive };
                    m.view().1.state(o) == is && LEVELS.iter().all(|l| m.member().state_at(l.order, o) == Some(is))
                })
            })
    }

    /// The nodes in a line.
    pub fn tell(&self) -> String {
        let one = |n: NodeId| match self.stations[n.index()].node.as_ref().map(|node| node.is.membership()) {
            None => format!("{n} off"),
            Some(None) => format!("{n} being born"),
            Some(Some(m)) => {
                let (name, view) = m.view();
                let states: Vec<String> = NodeId::first(NODES).map(|o| view.state(o).to_string()).collect();
                let master = if m.master().is_some() { ", master" } else { "" };
                format!("{n}{master} view {} of {} [{}]", name.number, name.ballot, states.join(" "))
            }
        };
        NodeId::first(NODES).map(one).collect::<Vec<_>>().join("; ")
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

/// What counts of what is on the disk: without what every beat counts up.
fn hash_disk(records: &Disk, hasher: &mut Hash128) {
    let record = |at: u64| records.get(&at).map_or([0; RECORD_BYTES], |raw| **raw);
    for n in NodeId::first(NODES) {
        if let Some(h) = Heartbeat::decode(&record(layout::heartbeat(n)), CLUSTER, n).good() {
            (h.incarnation, h.flag, h.state, h.frozen, h.clean, h.hears, h.committed).hash(hasher);
        }
        let newest = [0, 1]
            .into_iter()
            .filter_map(|slot| BallotBlock::decode(&record(layout::ballot(n, slot)), CLUSTER, n, slot).good().cloned())
            .max_by_key(|b| b.sequence);
        newest.map(|b| (b.promised, b.accepted, b.view)).hash(hasher);
    }
}

/// The disk does it at once.
fn disk<'b>(
    records: &mut Part<Disk>,
    op: &DiskOp,
    now: Instant,
    buffer: &'b mut Vec<u8>,
) -> Result<&'b [u8], DiskError> {
    match op {
        DiskOp::Write { not_after: Some(limit), .. } if now > *limit => Err(DiskError::Frozen),
        DiskOp::Write { at, record, .. } => {
            records.change().insert(*at, Rc::new(*record));
            Ok(&[])
        }
        DiskOp::Read { first, count } => {
            buffer.clear();
            buffer.resize(usize::from(*count) * RECORD_PITCH as usize, 0);
            for (at, place) in (*first..).zip(buffer.chunks_exact_mut(RECORD_PITCH as usize)) {
                if let Some(raw) = records.is.get(&at) {
                    place[..RECORD_BYTES].copy_from_slice(&raw[..]);
                }
            }
            Ok(buffer)
        }
    }
}
