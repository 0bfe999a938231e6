//! The simulated world: machines, disk, network, and the queue of what happens when.
//!
//! Invariants, held after every event (beside the checker's own):
//! - nobody writes a record of another node;
//! - nothing of a life lands once its fence is through, but for a heartbeat that was on its way; nothing at all once the
//!   reservation has shut it out, however long its machine or its clock stood still;
//! - a life whose fence is through may not write;
//! - in a calm run (no stand-still, no disk fault) there is one master at most, and none loses the lock;
//! - at formation every level is told of all whose last life did not end cleanly, with its first join;
//! - whatever datagram a node takes, the life that it names sent it, since the taker's boot, and it is taken once;
//! - a watchdog resets a machine only if its kernel hangs, and then in the promised time (`watchdog.rs`);
//! - a node obeys no older ballot after a newer one; nobody is let in before its heartbeat stands;
//! - nothing is written before what it rests on was read, no view adopted that is not committed (`looks`);
//! - a node does not spin ([`TICKS_MAX`](crate::machine::TICKS_MAX)).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;

use quorate_base::{
    BootNonce, ClusterId, DiskOp, DiskTag, FenceMethod, HaltReason, Incarnation, LevelOrder, NodeId, NodeSet,
    NodeState, ReservationOp, Timing, ViewName,
};
use quorate_database::{Block, Heartbeat, Identity, RecordError, Region, layout, sealed};
use quorate_node::{Boot, Input, Node, ProbeLevel};
use quorate_switch::{Hostile, Stranger};
use quorate_trace::Line;

use crate::acts::{Called, Trip};
use crate::commands::Commands;
use crate::database::{Database, create_database, machine_id, quorate_node_geometry};
use crate::disk::{Disk, DiskEvent, Landed};
use crate::faults::{Faults, LastWrite};
use crate::looks::Looks;
use crate::machine::{Held, Machine, declarations};
use crate::network::{Arrival, Network};
use crate::random::Random;
use crate::recorder::Recorder;
use crate::reservation::{Target, TargetKind};
use crate::truth::Truth;
use crate::waylay::{Aim, Spot};
use crate::wire::Frame;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed of everything that is drawn.
    pub seed: u64,
    /// Configured nodes, 1 to 64.
    pub nodes: u8,
    /// The cluster's time-outs.
    pub timing: Timing,
    /// Levels beside membership, on every node.
    pub levels: Vec<ProbeLevel>,
    /// What disk and network do wrong from the start.
    pub faults: Faults,
    /// Clocks run fast or slow by up to so many parts in a million.
    pub clock_ppm: u64,
    /// How the cluster fences.
    pub fence: FenceMethod,
    /// What kind of target the disk is, where it fences by the reservation.
    pub target: TargetKind,
    /// Keep the trace.
    pub keep_trace: bool,
    /// A real cluster's configuration, in the place of one of the simulator's own. Its nodes, time-outs and fence are to be
    /// those above.
    pub database: Option<Database>,
}

impl Setup {
    /// Healthy, default timing, one probe level at 30 and one at 70 on every node, as scenarios have them.
    pub fn new(seed: u64, nodes: u8) -> Self {
        let levels = ["30:lower:1:1:1:0:0:1", "70:probe:2:1:3:5:0:1"];
        Self {
            seed,
            nodes,
            timing: Timing::DEFAULT,
            levels: levels.iter().filter_map(|word| ProbeLevel::parse(word).ok()).collect(),
            faults: Faults::default(),
            clock_ppm: 0,
            fence: FenceMethod::Lease,
            target: TargetKind::default(),
            keep_trace: false,
            database: None,
        }
    }
}

/// Neither in nor out.
const PASSING: [NodeState; 3] = [NodeState::Joining, NodeState::Leaving, NodeState::ForcedLeaving];

/// What was wrong, when, and what led to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Run time, µs.
    pub at_us: u64,
    /// What.
    pub what: String,
    /// The last lines of the trace.
    pub tail: Vec<String>,
    /// What every running node said of itself.
    pub status: Vec<String>,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.tail {
            writeln!(f, "{line}")?;
        }
        for status in &self.status {
            writeln!(f, "{status}")?;
        }
        write!(f, "at {} us: {}", self.at_us, self.what)
    }
}

impl std::error::Error for Broken {}

#[derive(Debug)]
pub(crate) enum What {
    Tick {
        machine: usize,
        boot: u64,
    },
    Disk(DiskEvent),
    /// A reservation command reaches the target.
    Executed(u64),
    /// Its answer is due.
    Answered(u64),
    Frame {
        machine: usize,
        frame: Frame,
    },
    /// A stranger sends one more of so many hostile frames.
    Hostile {
        left: u64,
        gap_us: u64,
        kinds: Rc<[Hostile]>,
    },
    /// A machine's watchdog would fire if nobody had patted it.
    Watchdog {
        machine: usize,
        boot: u64,
    },
    /// What hangs must have been reset.
    Promised {
        machine: usize,
        boot: u64,
    },
}

#[derive(Debug)]
struct Scheduled {
    at: u64,
    order: u64,
    what: What,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A master of a cluster without members, and whom its levels are to recover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Formed {
    pub(crate) machine: usize,
    pub(crate) boot: u64,
    pub(crate) unclean: NodeSet,
}

/// An invariant of a test's own: what is wrong, if anything is.
pub type Invariant = fn(&World) -> Option<String>;

/// The world.
#[derive(Debug)]
pub struct World {
    /// Run time, µs.
    pub now: u64,
    /// Everything that is drawn.
    pub random: Random,
    /// The shared disk.
    pub disk: Disk,
    /// The interconnect.
    pub network: Network,
    /// Events so far.
    pub events: u64,
    /// Asked after every event.
    pub invariant: Option<Invariant>,
    pub(crate) machines: Vec<Machine>,
    /// A crash in the middle of a call.
    pub(crate) trip: Option<Trip>,
    /// Nothing makes a sound node look dead (DESIGN 4: without wrong suspicion one master).
    pub(crate) calm: bool,
    /// What a master that formed the cluster must tell its levels.
    pub(crate) formed: Option<Formed>,
    /// A second machine that runs under the node id of a first one.
    pub(crate) double: Option<(usize, usize)>,
    /// For which moments somebody lies in wait.
    pub(crate) aims: Vec<Aim>,
    /// Which of them came.
    pub(crate) spots: Vec<Spot>,
    /// What the last event was to the machines.
    pub(crate) called: Called,
    /// Who listens on the wire and sends what it makes of it.
    pub(crate) stranger: Stranger<Frame>,
    /// What was really sent.
    pub(crate) truth: Truth,
    pub(crate) looks: Looks,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    pub(crate) recorder: Recorder,
    /// For the bytes of one answer.
    pub(crate) buffer: Vec<u8>,
    /// For one datagram.
    pub(crate) datagram: Vec<u8>,
    /// For what one turn asks of the disk.
    pub(crate) requests: Vec<(DiskTag, DiskOp)>,
    /// Reservation commands under way.
    pub(crate) commands: Commands,
    /// For what one turn asks of the reservation.
    pub(crate) asked: Vec<(DiskTag, ReservationOp)>,
    /// For what becomes of one turn's frames.
    pub(crate) arrivals: Vec<Arrival>,
    cluster: ClusterId,
    clock_ppm: u64,
    broken: Option<String>,
}

impl World {
    /// A disk with a fresh database, and machines that are off.
    pub fn new(setup: &Setup) -> Self {
        let mut random = Random::new(setup.seed);
        let cluster = ClusterId((u128::from(random.next_u64()) << 64 | u128::from(random.next_u64())).to_le_bytes());
        // Drawn in any case: what comes after it is the seed's alone.
        let cluster = setup.database.as_ref().map_or(cluster, |database| database.superblock.cluster);
        let mut disk = Disk::new(usize::from(setup.nodes), u64::from(setup.timing.io_max) * 1000);
        let mut network = Network::new(setup.nodes);
        (disk.faults, network.faults) = (setup.faults.disk, setup.faults.net);
        let blanks = create_database(&mut disk, setup, cluster);
        let mut recorder = Recorder::new(setup.keep_trace);
        recorder.reserves = setup.fence == FenceMethod::Reservation;
        if recorder.reserves {
            disk.target = Some(Target::new(usize::from(setup.nodes), setup.target));
        }
        let mut machines: Vec<Machine> = NodeId::first(setup.nodes).map(Machine::new).collect();
        for machine in &mut machines {
            machine.levels.clone_from(&setup.levels);
        }
        Self {
            now: 0,
            random,
            disk,
            network,
            events: 0,
            invariant: None,
            machines,
            trip: None,
            calm: false,
            formed: None,
            double: None,
            aims: Vec::new(),
            spots: Vec::new(),
            called: Called::default(),
            stranger: Stranger::new(setup.seed),
            truth: Truth::default(),
            looks: Looks::new(cluster, blanks, setup.nodes, setup.timing),
            queue: BinaryHeap::new(),
            order: 0,
            recorder,
            buffer: Vec::new(),
            datagram: Vec::new(),
            requests: Vec::new(),
            commands: Commands::default(),
            asked: Vec::new(),
            arrivals: Vec::new(),
            cluster,
            clock_ppm: setup.clock_ppm,
            broken: None,
        }
    }

    // What is done to machines.

    /// Boots a machine, if it is off.
    pub fn start(&mut self, m: usize) {
        self.start_as(m, true, true);
    }

    /// Boots a machine that may not be told which node it is, or which cluster it is of.
    pub fn start_as(&mut self, m: usize, identity: bool, cluster: bool) {
        let own = self.machines.get(m).map(|machine| machine.id);
        self.boot(m, own.filter(|_| identity), cluster);
    }

    /// Boots a machine under a node id, its own or another's: two machines may come to run under one.
    pub fn boot(&mut self, m: usize, told: Option<NodeId>, cluster: bool) {
        let ppm = self.random.between(0, 2 * self.clock_ppm) as i64 - self.clock_ppm as i64;
        let nonce = BootNonce(self.random.next_u64());
        if self.machines.get(m).is_none_or(|machine| machine.node.is_some()) {
            return;
        }
        let unclean = told.is_some_and(|n| self.is_unclean(n));
        let Some(machine) = self.machines.get_mut(m) else { return };
        if told == Some(machine.id) && self.double.is_some_and(|(second, _)| second == m) {
            // It ran as another node, was ended, and is itself again.
            self.double = None;
        }
        self.recorder.step(self.now, "start", &[machine.id.get()], "");
        let boot = Boot {
            node: told,
            machine: machine_id(machine.id),
            nonce,
            cluster: cluster.then_some(self.cluster),
            geometry: quorate_node_geometry(),
            trace_writes: true,
        };
        let (version, cmdline) = &machine.kernel;
        match Node::new(boot, declarations(&machine.levels, machine.with_groups), version, cmdline) {
            Ok(node) => {
                machine.power_on(self.now, Box::new(node), ppm);
                machine.born_unclean = unclean;
                machine.plays = told.unwrap_or(machine.id);
                self.disk.reset_port(m);
            }
            Err(error) => return self.fail(format!("a node could not begin: {error}")),
        }
        self.look_at_dog(m);
        self.call(m, |node, now, ports| node.handle(now, Input::Tick, ports));
    }

    /// What a machine declares beside membership from its next boot on.
    pub fn set_levels(&mut self, m: usize, levels: Vec<ProbeLevel>) {
        if let Some(machine) = self.machines.get_mut(m) {
            machine.levels = levels;
        }
    }

    /// Ends a machine at once. What it was writing meets its fate.
    pub fn kill(&mut self, m: usize, last: LastWrite) {
        let Some(machine) = self.machines.get_mut(m).filter(|machine| machine.node.is_some()) else { return };
        self.recorder.step(self.now, "kill", &[machine.id.get()], "");
        machine.power_off(self.now);
        let plays = machine.plays;
        self.disk.crash(m, last);
        self.commands.crash(m);
        self.check_promises(plays);
    }

    /// Ends a node from its own outside: its driver failed for good.
    pub fn end(&mut self, m: usize, reason: HaltReason) {
        self.call(m, |node, now, ports| node.end(now, reason, ports));
    }

    /// Asks a node for a graceful leave.
    pub fn leave(&mut self, m: usize) {
        if let Some(machine) = self.machines.get(m) {
            self.recorder.step(self.now, "leave", &[machine.id.get()], "");
        }
        self.call(m, |node, now, ports| node.leave(now, ports));
    }

    /// A machine's processor stands still; its clock runs on.
    pub fn pause(&mut self, m: usize) {
        let stops = |machine: &&mut Machine| machine.node.is_some() && machine.hung_at.is_none();
        if let Some(machine) = self.machines.get_mut(m).filter(stops) {
            self.recorder.step(self.now, "pause", &[machine.id.get()], "");
            machine.paused = true;
        }
    }

    /// It goes on, and finds what came meanwhile.
    pub fn resume(&mut self, m: usize) {
        let Some(machine) = self.machines.get_mut(m).filter(|machine| machine.paused) else { return };
        self.recorder.step(self.now, "resume", &[machine.id.get()], "");
        machine.paused = false;
        self.dog_resumes(m);
        self.release(m);
    }

    /// A machine takes up what came while it stood still, if it goes on.
    pub(crate) fn release(&mut self, m: usize) {
        let Some(machine) = self.machines.get_mut(m).filter(|machine| machine.is_live()) else { return };
        let held = std::mem::take(&mut machine.held);
        for held in held {
            match held {
                Held::Disk(request) => self.disk_done(request),
                Held::Answer(request) => self.answer(request),
                Held::Command(id, late) => self.answer_command(id, late),
                Held::Asked(tag, op) => self.ring(m, tag, *op),
                Held::Frames(frames) => self.send_or_hold(m, frames),
            }
        }
        self.call(m, |node, now, ports| node.handle(now, Input::Tick, ports));
    }

    /// A machine's requests are no longer answered.
    pub fn stall_disk(&mut self, m: usize) {
        self.recorder.step(self.now, "disk_cut", &[m as u8], "");
        self.disk.stall(m, &mut self.random);
        self.commands.stall(m, &mut self.random);
    }

    /// They are again: those that waited were aborted.
    pub fn heal_disk(&mut self, m: usize) {
        self.recorder.step(self.now, "disk_heal", &[m as u8], "");
        for request in self.disk.unstall(m) {
            self.answer(Box::new(request));
        }
        self.unstall_commands(m);
    }

    /// What an operator's `db check --repair` does for a node whose first identity was torn and whose heartbeat another's
    /// stray write took the place of: no record tells that it never lived, so it may not boot before.
    pub(crate) fn repair_first_life(&mut self, m: usize) {
        let Some(id) = self.machines.get(m).filter(|machine| machine.node().is_none()).map(|machine| machine.id) else {
            return;
        };
        let cluster = self.cluster;
        let none = |slot: u8| {
            self.disk.record(layout::identity(id, slot)).is_none_or(|raw| {
                sealed::header(raw).is_none() || Identity::decode(raw, cluster, id, slot) == Block::Blank
            })
        };
        let beat = self.disk.record(layout::heartbeat(id)).map(|raw| Heartbeat::decode(raw, cluster, id));
        if none(0) && none(1) && matches!(beat, Some(Block::Damaged(RecordError::Misplaced))) {
            self.mark("repair", &[m as u8], "its first identity is torn, its heartbeat another's");
            let places = [0, 1].map(|slot| (layout::identity(id, slot), Identity::place(id, slot)));
            for (at, place) in places.into_iter().chain([(layout::heartbeat(id), Heartbeat::place(id))]) {
                self.disk.put(at, self.looks.blanks.record(cluster, place));
            }
        }
    }

    /// No steps of the simulator in the trace: a scenario's engine writes its own.
    pub(crate) fn quiet(&mut self) {
        self.recorder.quiet = true;
    }

    /// A line of the harness in the trace. `fields` is a JSON object.
    pub(crate) fn say(&mut self, ev: &str, fields: serde_json::Value) {
        self.recorder.say(self.now, ev, fields);
    }

    /// Whose database it is.
    pub(crate) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// All lines, if they are kept.
    pub(crate) fn kept(&self) -> &[Arc<Line>] {
        self.recorder.lines()
    }

    /// Nodes whose machine runs, paused or not.
    pub fn running(&self) -> NodeSet {
        self.machines.iter().filter(|m| m.node.is_some()).map(|m| m.id).collect()
    }

    /// A note of the simulator in the trace.
    pub fn mark(&mut self, verb: &str, nodes: &[u8], what: &str) {
        self.recorder.step(self.now, verb, nodes, what);
    }

    // Time.

    /// The next event happens.
    ///
    /// # Errors
    /// What was wrong.
    pub fn step(&mut self) -> Result<bool, Box<Broken>> {
        let Some(Reverse(next)) = self.queue.pop() else { return self.judged().map(|()| false) };
        self.now = self.now.max(next.at);
        self.events += 1;
        self.called = Called::default();
        match next.what {
            What::Tick { machine, boot } => self.tick(machine, boot, next.at),
            What::Disk(DiskEvent::Piece { request, from, to }) => {
                self.called.machine = self.disk.owner(request);
                if let Some(later) = self.disk.postponed(request) {
                    self.schedule(self.now + later, What::Disk(DiskEvent::Piece { request, from, to }));
                } else {
                    while let Some(first) = self.disk.before(request) {
                        self.piece(first, 0, 1);
                    }
                    self.piece(request, from, to);
                }
            }
            What::Disk(DiskEvent::Done { request }) => self.disk_done(request),
            What::Executed(id) => self.command_executed(id),
            What::Answered(id) => self.command_answered(id),
            What::Frame { machine, frame } => self.frame(machine, frame),
            What::Hostile { left, gap_us, kinds } => self.one_hostile(left, gap_us, kinds),
            What::Watchdog { machine, boot } => self.watchdog(machine, boot, next.at),
            What::Promised { machine, boot } => self.promised(machine, boot),
        }
        if self.double.is_some() {
            self.end_double();
        }
        self.judged().map(|()| true)
    }

    /// When the next event happens; `u64::MAX` if nothing ever will.
    pub fn next_at(&self) -> u64 {
        self.queue.peek().map_or(u64::MAX, |Reverse(next)| next.at)
    }

    /// Everything until a moment of the run happens.
    ///
    /// # Errors
    /// What was wrong.
    pub fn run_until(&mut self, at: u64) -> Result<(), Box<Broken>> {
        while self.queue.peek().is_some_and(|Reverse(next)| next.at <= at) {
            self.step()?;
        }
        self.now = self.now.max(at);
        self.judged()
    }

    /// Everything for so many ms happens.
    ///
    /// # Errors
    /// What was wrong.
    pub fn run_ms(&mut self, ms: u64) -> Result<(), Box<Broken>> {
        self.run_until(self.now + ms * 1000)
    }

    /// Runs until `done`, at most for so many ms. Gives how long it took, µs.
    ///
    /// # Errors
    /// What was wrong; also that `done` did not come about.
    pub fn wait(&mut self, what: &str, ms: u64, done: impl Fn(&Self) -> bool) -> Result<u64, Box<Broken>> {
        let began = self.now;
        let limit = began + ms * 1000;
        while !done(self) {
            if self.queue.peek().is_none_or(|Reverse(next)| next.at > limit) {
                self.now = self.now.max(limit);
                return Err(self.describe(format!("waited {ms} ms in vain for: {what}")));
            }
            self.step()?;
        }
        Ok(self.now - began)
    }

    // Questions.

    /// A machine.
    pub fn machine(&self, m: usize) -> Option<&Machine> {
        self.machines.get(m)
    }

    /// All machines.
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// Nodes that run and are not paused.
    pub fn live(&self) -> NodeSet {
        self.machines.iter().filter(|m| m.is_live()).map(|m| m.id).collect()
    }

    /// The newest view that a node adopted.
    pub fn view_of(&self, m: usize) -> Option<ViewName> {
        Some(self.machines.get(m)?.node()?.membership()?.view().0)
    }

    /// What a node itself is, by its own knowledge.
    pub fn own_state(&self, m: usize) -> NodeState {
        self.machines
            .get(m)
            .and_then(Machine::node)
            .and_then(Node::membership)
            .map_or(NodeState::Inactive, |s| s.state())
    }

    /// Whether these nodes are joined, by the view of each of them, and nobody else is, and all agree on one master.
    pub fn settled(&self, nodes: NodeSet) -> bool {
        let mut masters = NodeSet::EMPTY;
        let mut name = None;
        for n in nodes {
            let node = self.machines.get(n.index()).and_then(Machine::node);
            let Some((node, membership)) = node.and_then(|node| Some((node, node.membership()?))) else { return false };
            let (at, view) = membership.view();
            let whole = view.joined() == nodes && view.nodes_in(&PASSING).is_empty();
            if !whole || membership.state() != NodeState::Joined || *name.get_or_insert(at) != at {
                return false;
            }
            if membership.master().is_some() && node.may_write(self.machines[n.index()].clock(self.now)) {
                masters.insert(n);
            }
        }
        masters.len() == 1 && self.levels_agree(nodes)
    }

    /// Every level of these nodes has exactly these joined.
    fn levels_agree(&self, nodes: NodeSet) -> bool {
        let member = |n: NodeId| self.machines[n.index()].node().and_then(Node::membership).map(|m| m.member());
        // Who has each level, asked of everybody once. A level that a master refused knows nobody.
        let mut there: Vec<(LevelOrder, NodeSet)> = Vec::new();
        for n in nodes {
            let levels = member(n).into_iter().flat_map(|member| member.levels());
            for level in levels.map(|l| l.order).filter(|order| self.machines[n.index()].has_level(*order)) {
                match there.iter_mut().find(|(order, _)| *order == level) {
                    Some((_, nodes)) => _ = nodes.insert(n),
                    None => there.push((level, NodeSet::only(n))),
                }
            }
        }
        nodes.iter().all(|n| {
            member(n).is_some_and(|member| {
                there.iter().filter(|(_, nodes)| nodes.contains(n)).all(|(level, nodes)| {
                    self.machines.iter().all(|o| {
                        let wanted = if nodes.contains(o.id) { NodeState::Joined } else { NodeState::Inactive };
                        member.state_at(*level, o.id) == Some(wanted)
                    })
                })
            })
        })
    }

    /// Whether every live joined node has this one inactive, as a whole and at all its levels. False if there is none.
    pub fn is_out(&self, out: NodeId) -> bool {
        let mut seen = false;
        for machine in self.machines.iter().filter(|m| m.is_live() && m.id != out) {
            let Some(membership) = machine.node().and_then(Node::membership) else { continue };
            if membership.state() != NodeState::Joined {
                continue;
            }
            seen = true;
            let at = |l: LevelOrder| membership.member().state_at(l, out);
            let inactive = membership.view().1.state(out) == NodeState::Inactive
                && membership.member().levels().iter().all(|l| at(l.order) == Some(NodeState::Inactive));
            if !inactive {
                return false;
            }
        }
        seen
    }

    /// The node that is master with a valid lease, if exactly one is.
    pub fn master(&self) -> Option<NodeId> {
        let mut masters = self.machines.iter().filter(|m| {
            m.is_live()
                && m.node().is_some_and(|n| {
                    n.membership().is_some_and(|s| s.master().is_some()) && n.may_write(m.clock(self.now))
                })
        });
        match (masters.next(), masters.next()) {
            (Some(one), None) => Some(one.id),
            _ => None,
        }
    }

    /// What `status` says on a node.
    pub fn status_of(&self, m: usize) -> String {
        let mut text = String::new();
        if let Some(machine) = self.machines.get(m) {
            text = format!("-- node {} boot {}", machine.id, machine.boots);
            match machine.node() {
                Some(node) => {
                    text.push_str(if machine.stands_still() { ", paused\n" } else { "\n" });
                    // Writing into a String cannot fail.
                    let _ = node.write_status(machine.clock(self.now), &mut text);
                }
                None => text.push_str(&format!(" is off ({:?})", machine.halted)),
            }
        }
        text
    }

    /// The trace, if it was to be kept.
    pub fn trace(&self) -> Vec<String> {
        self.recorder.lines().iter().map(|line| line.to_json()).collect()
    }

    /// How much the checker has seen.
    pub fn counts(&self) -> quorate_check::Counts {
        self.recorder.checker().counts()
    }

    /// The run ends.
    ///
    /// # Errors
    /// What the checker says about the whole.
    pub fn finish(&mut self) -> Result<(), Box<Broken>> {
        self.recorder.finish(false);
        self.judged()
    }

    /// The run ends with a cluster that has settled.
    ///
    /// # Errors
    /// What the checker says about the whole, and what is not finished.
    pub fn finish_settled(&mut self) -> Result<(), Box<Broken>> {
        self.recorder.finish(true);
        self.judged()
    }

    // Inside.

    pub(crate) fn schedule(&mut self, at: u64, what: What) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at: at.max(self.now), order: self.order, what }));
    }

    pub(crate) fn fail(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// Whether everything is well so far.
    fn judged(&mut self) -> Result<(), Box<Broken>> {
        if let Some(what) = self.invariant.and_then(|invariant| invariant(self)) {
            self.fail(what);
        }
        match self.broken.clone().or_else(|| self.recorder.broken.clone()) {
            None => Ok(()),
            Some(what) => Err(self.describe(what)),
        }
    }

    /// This is wrong, now.
    pub(crate) fn describe(&self, what: String) -> Box<Broken> {
        let status = (0..self.machines.len()).map(|m| self.status_of(m)).collect();
        Box::new(Broken { at_us: self.now, what, tail: self.recorder.tail(), status })
    }

    // Invariants.

    pub(crate) fn check_owner(&mut self, m: usize, at: u64) {
        let owner = match Region::of(at) {
            Region::Identity(n, _) | Region::Heartbeat(n) | Region::Ballot(n, _) | Region::Domain(n, _) => {
                Some(n.index())
            }
            Region::Superblock(_) | Region::Config(_) | Region::Spare => None,
        };
        if owner != self.machines.get(m).map(|machine| machine.plays.index()) {
            self.fail(format!("node {m} writes record {at}, which is not its own"));
        }
    }

    pub(crate) fn check_landed(&mut self, landed: Landed) {
        let n = match Region::of(landed.at) {
            Region::Ballot(n, _) | Region::Heartbeat(n) | Region::Identity(n, _) => n,
            _ => return,
        };
        if let Some(raw) = self.disk.record(landed.at) {
            self.looks.landed(landed.at, raw);
        }
        self.check_promises(n);
        // The writer may be dead by now; its incarnation stands in what it wrote.
        let written = self.disk.incarnation_at(landed.at);
        if written.is_some_and(|incarnation| self.recorder.shut_out.contains(&(n, incarnation))) {
            let at = landed.at;
            self.fail(format!("a write of node {n} to record {at} landed after the reservation shut that life out"));
        }
        if self.recorder.views_only || !matches!(Region::of(landed.at), Region::Ballot(..)) {
            return;
        }
        if written.is_some_and(|incarnation| self.recorder.fenced.contains(&(n, incarnation))) {
            self.fail(format!("a ballot write of node {n} landed after its fence"));
        }
    }

    /// What holds of masters, looked at after each turn in which one came or went.
    pub(crate) fn check_masters(&mut self, m: usize, seen: (usize, u64)) {
        if self.calm && self.recorder.lost > seen.1 {
            self.fail(format!("node {m} lost the lock although nobody was suspected wrongly"));
        }
        if self.recorder.masters.len() == seen.0 {
            return;
        }
        let is_master = |m: &&Machine| m.node().and_then(Node::membership).is_some_and(|s| s.master().is_some());
        let masters: NodeSet = self.machines.iter().filter(is_master).map(|m| m.id).collect();
        if self.calm && masters.len() > 1 {
            self.fail(format!("nodes {masters} are masters at once although nobody was suspected wrongly"));
        }
        self.note_formation(m);
    }

    /// Whether a node's heartbeat block, as it stands, shows a life without a clean end.
    pub(crate) fn is_unclean(&self, n: NodeId) -> bool {
        let block = self.disk.record(layout::heartbeat(n)).map(|raw| Heartbeat::decode(raw, self.cluster, n));
        matches!(block, Some(Block::Good(h)) if !h.clean && h.incarnation != Incarnation::NEVER)
    }
}
