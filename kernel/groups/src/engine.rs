//! The cluster engine of one node (ACK claims 1, 7, 8; MISSION F1): ordered, reliable group messages and membership changes.
//!
//! ```text
//! sender ──Submit──▶ sequencer ──Ordered──▶ all ──Status (held)──▶ all: delivered once everybody holds it
//!
//! membership's notification ──▶ leader: Collect ──▶ all: Collected (nothing of earlier epochs any more)
//!      ──▶ leader fetches what it lacks ──▶ Install (cut) ──▶ all; the new sequencer's first frame is the roster
//!      ──▶ delivered like any other ──▶ the change is acknowledged
//! ```
//! Invariants:
//! - **Same order.** One sequencer per epoch gives out places; an epoch begins only when all that are in it have promised to
//!   take nothing of earlier ones, and with the longest chain of frames that any of them holds.
//! - **Uniform.** A frame is delivered only when all of the epoch hold it. So what anybody ever delivered every survivor holds,
//!   and keeps its place: also what a node delivered that died in the next moment.
//! - **Virtual synchrony.** The roster is a frame: all that go from one roster to the next delivered the same frames before.
//! - **Once.** A stream's frames are numbered; the tables know the last one of each. A sender repeats what is not delivered, to
//!   each new sequencer, which orders only the next number.
//! - **Bounded.** Windows are counted by what the slowest has delivered, and for messages by what its jobs have taken.
//!
//! After ISIS's virtual synchrony (Birman and Joseph 1987), the sequencer of Amoeba (Kaashoek and Tanenbaum 1991), and for who
//! may call up an epoch the promises of Paxos. Deviation: no majority; who is in is membership's to say, and every one of them
//! must promise.

use heapless::{Deque, Vec};
use quorate_base::capacity::NODES_MAX;
use quorate_base::{ClusterId, Incarnation, Instant, NodeId, NodeSet, NodeState, RoundId, Transition};
use quorate_interconnect::Destination;
use quorate_interconnect::envelope::PAYLOAD_MAX;
use quorate_membership::{Change, Notification};

use crate::capacity::{GROUPS_MAX, REPEAT_US, SNAPSHOT_MAX, WAITING_MAX};
use crate::copies::Copies;
use crate::domain::AskPhase;
use crate::epoch::{EpochId, Roster};
use crate::flush::Lead;
use crate::item::{Position, STREAMS};
use crate::job::Jobs;
use crate::message::{Message, decode};
use crate::outbox::Outbox;
use crate::store::{Frame, Store};
use crate::tables::{ASKS_MAX, Tables};
use crate::told::{Hear, Told};

/// Takes payloads for the interconnect's group channel.
pub trait Post {
    /// Sends one, or drops it: everything is repeated until it is answered.
    fn post(&mut self, to: Destination, payload: &[u8]);
}

/// What is around an engine: where messages go, and who is told what is delivered.
pub trait Outside: Post + Hear {}

impl<T: Post + Hear> Outside for T {}

/// For one call.
pub struct Context<'a> {
    /// The call's time.
    pub now: Instant,
    /// What is around.
    pub outside: &'a mut dyn Outside,
}

impl Context<'_> {
    pub(crate) fn send(&mut self, to: Destination, message: &Message<'_>) {
        let mut payload = [0; PAYLOAD_MAX];
        // Every message fits: asserted by the tests.
        if let Some(bytes) = message.encode(&mut payload) {
            self.outside.post(to, bytes);
        }
    }
}

/// What the machine must know from the start.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its cluster.
    pub cluster: ClusterId,
    /// How many nodes are configured.
    pub nodes: u8,
}

/// The epoch that this node is in.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Epoch {
    pub id: EpochId,
    pub roster: Roster,
    pub source: Option<NodeId>,
    /// The last place of earlier epochs; the roster stands at the next one.
    pub cut: u64,
}

/// What another one of the epoch said of itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Known {
    /// It has begun this epoch.
    pub begun: bool,
    pub held: u64,
    /// 0: it has no state yet.
    pub applied: u64,
    pub taken: [u32; GROUPS_MAX],
}

/// The tables as they are given to nodes that have none.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub order: u64,
    pub parts: u8,
    pub bytes: Vec<u8, SNAPSHOT_MAX>,
}

/// What this node last said of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Said {
    pub held: u64,
    pub applied: u64,
    pub taken: [u32; GROUPS_MAX],
}

/// How many messages came and what became of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Frames delivered.
    pub delivered: u64,
    /// Messages that do not decode, or of lives that are not in the epoch.
    pub dropped: u64,
    /// Frames sent again.
    pub repeated: u64,
    /// Epochs begun.
    pub epochs: u64,
    /// Frames that found no open window when they came.
    pub waited: u64,
}

/// The engine.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) me: NodeId,
    pub(crate) life: Incarnation,
    // What membership says.
    pub(crate) target: Roster,
    /// Nodes that were joining when it last said something.
    pub(crate) joining: NodeSet,
    /// Lives that left gracefully and have nothing to say any more.
    pub(crate) left: Roster,
    /// This node leaves: its jobs go first.
    pub(crate) draining: bool,
    /// They are gone.
    drained: bool,
    changes: Vec<Change, { 2 * NODES_MAX }>,
    /// The newest round that was heard of: an epoch and an order that begin from nothing begin above all that were before.
    pub(crate) seed: RoundId,
    // Epochs.
    pub(crate) promised: Option<EpochId>,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) lead: Option<Lead>,
    pub(crate) lead_from: Instant,
    // The order.
    pub(crate) fresh: bool,
    pub(crate) held: u64,
    pub(crate) known: [Known; NODES_MAX],
    pub(crate) store: Store,
    pub(crate) tables: Tables,
    pub(crate) out: Outbox,
    pub(crate) said: Said,
    // The sequencer's.
    pub(crate) waiting: Vec<Frame, WAITING_MAX>,
    pub(crate) ordered: [[u32; STREAMS]; NODES_MAX],
    /// Whose frame got the last place.
    pub(crate) served: NodeId,
    /// Places of the last frames with control items.
    pub(crate) controls: Deque<u64, 64>,
    /// Frames with messages per group, when the epoch's roster was delivered.
    pub(crate) base: [u32; GROUPS_MAX],
    /// Per group, whose message has begun and needs the next places.
    pub(crate) mid: [Option<NodeId>; GROUPS_MAX],
    /// State for those that have none; while this node has none itself, what came of it.
    pub(crate) snapshot: Option<Snapshot>,
    /// More messages are at hand: what others need not know at once is said after the last.
    quiet: bool,
    // What stands on it.
    pub(crate) jobs: Jobs,
    pub(crate) copies: Copies,
    pub(crate) announce: bool,
    pub(crate) voted: Vec<(Position, AskPhase), { 2 * ASKS_MAX }>,
    /// Requests whose change this node's copy shows, and those for which it told its copy to a new node.
    pub(crate) changed: Vec<Position, ASKS_MAX>,
    pub(crate) copied: Vec<Position, ASKS_MAX>,
    pub(crate) repeat_at: Instant,
    /// No deadline is looked at before: word of one that is over had no room.
    pub(crate) deadlines_at: Instant,
    pub(crate) counters: Counters,
}

impl Engine {
    /// An engine that is in no epoch yet.
    pub fn new(config: &Config) -> Self {
        Self {
            me: config.me,
            life: config.incarnation,
            target: Roster::new(),
            joining: NodeSet::EMPTY,
            left: Roster::new(),
            draining: false,
            drained: false,
            changes: Vec::new(),
            seed: RoundId::default(),
            promised: None,
            epoch: None,
            lead: None,
            lead_from: Instant::ZERO,
            fresh: true,
            held: 0,
            known: [Known::default(); NODES_MAX],
            store: Store::default(),
            tables: Tables::default(),
            out: Outbox::default(),
            said: Said::default(),
            waiting: Vec::new(),
            ordered: [[0; STREAMS]; NODES_MAX],
            served: config.me,
            controls: Deque::new(),
            base: [0; GROUPS_MAX],
            mid: [None; GROUPS_MAX],
            snapshot: None,
            quiet: false,
            jobs: Jobs::default(),
            copies: Copies::new(config.me, config.cluster, config.nodes),
            announce: false,
            voted: Vec::new(),
            changed: Vec::new(),
            copied: Vec::new(),
            repeat_at: Instant::FAR,
            deadlines_at: Instant::ZERO,
            counters: Counters::default(),
        }
    }

    /// The tables, as far as they are delivered.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The epoch that this node is in, and who is in it.
    pub fn epoch(&self) -> Option<(EpochId, &Roster)> {
        self.epoch.as_ref().map(|e| (e.id, &e.roster))
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// This node's own copies of domains.
    pub fn copies(&self) -> &Copies {
        &self.copies
    }

    /// Whether this node waits for a new epoch: nothing is delivered meanwhile.
    pub fn is_flushing(&self) -> bool {
        self.promised != self.epoch.as_ref().map(|e| e.id)
    }

    /// Whether this node has the state that all have.
    pub fn is_caught_up(&self) -> bool {
        !self.fresh
    }

    /// How many frames are ordered and not delivered here, how many are kept here for jobs, and how many of this node's own
    /// are not delivered.
    pub fn queues(&self) -> (u64, usize, usize) {
        (self.held.saturating_sub(self.tables.order), self.store.len(), self.out.len())
    }

    /// Membership's level 10 has something new.
    pub fn notified(&mut self, n: &Notification, ctx: &mut Context<'_>) {
        for change in &n.changes {
            let subject = change.subject;
            self.seed = self.seed.max(change.round);
            self.changes.retain(|c| c.subject.node != subject.node);
            match subject.transition {
                Transition::Joining => self.left.remove(subject.node),
                Transition::Leaving if change.barrier > 0 => self.left.put(subject.node, subject.incarnation),
                Transition::Leaving if subject.node == self.me => self.draining = true,
                _ => {}
            }
            if !change.overtaken {
                // Never full: one per node.
                let _ = self.changes.push(*change);
            }
        }
        let mut target = Roster::new();
        self.joining = NodeSet::EMPTY;
        for (node, life) in NodeId::all().zip(n.incarnations) {
            let state = n.vector.state(node);
            if state.is_member() && !self.left.has(node, life) {
                target.put(node, life);
            }
            if state == NodeState::Joining {
                self.joining.insert(node);
            }
        }
        if target != self.target {
            self.lead_from = ctx.now;
        }
        self.target = target;
        self.turn(ctx);
    }

    /// A change that this level is through with.
    pub fn poll_acknowledge(&mut self) -> Option<Change> {
        let at = self.changes.iter().position(|c| self.is_through(c))?;
        let change = self.changes.swap_remove(at);
        self.drained |= change.subject.node == self.me && change.subject.transition == Transition::Leaving;
        Some(change)
    }

    /// This node's leave needs nothing more of it, and there is nobody else.
    pub(crate) fn is_drained_alone(&self) -> bool {
        self.drained && self.target.nodes().is_subset(NodeSet::only(self.me))
    }

    fn is_through(&self, c: &Change) -> bool {
        let own = c.subject.node == self.me;
        match (c.subject.transition, c.barrier) {
            // Its jobs go, and all that it sent is delivered.
            (Transition::Leaving, 0) if own => {
                self.fresh || (self.tables.members.iter().all(|m| m.node != self.me) && self.out.is_empty())
            }
            (Transition::Leaving, _) if own => true,
            // It is told its own last barrier: it owes nobody anything.
            _ if self.left.has(self.me, self.life) => true,
            // The others too wait at the first barrier: what only the leaving one knows is handed over before it goes.
            _ => self.is_settled() || self.is_drained_alone(),
        }
    }

    /// The roster that membership wants is delivered, and this node's copies of domains are there.
    fn is_settled(&self) -> bool {
        !self.fresh && !self.is_flushing() && self.tables.roster == self.target && self.copies.is_loaded()
    }

    /// A message came on the group channel.
    pub fn receive(&mut self, from: NodeId, life: Incarnation, payload: &[u8], ctx: &mut Context<'_>) {
        let Some(message) = decode(payload) else {
            self.counters.dropped += 1;
            return;
        };
        match &message {
            Message::Collect { epoch, roster } => self.on_collect(from, life, *epoch, roster, ctx),
            Message::Collected { epoch, installed, held, fresh } => {
                self.on_collected(from, *epoch, *installed, *held, *fresh);
            }
            Message::Outbid { epoch, promised } => self.on_outbid(*epoch, *promised, ctx.now),
            Message::Fetch { epoch, order } => self.on_fetch(from, *epoch, *order, ctx),
            Message::Install { epoch, roster, cut, source } => {
                self.on_install(from, *epoch, roster, *cut, *source, ctx);
            }
            Message::Ordered { epoch, order, node, stream, number, body } => {
                let frame = |body| Frame { order: *order, node: *node, stream: *stream, number: *number, body };
                if let Ok(body) = Vec::from_slice(body) {
                    self.on_ordered(from, *epoch, frame(body));
                }
            }
            Message::Submit { epoch, stream, number, body } => {
                let frame = |body| Frame { order: 0, node: from, stream: *stream, number: *number, body };
                if self.is_sequencer_of(*epoch)
                    && self.epoch.as_ref().is_some_and(|e| e.roster.has(from, life))
                    && let Ok(body) = Vec::from_slice(body)
                {
                    self.on_submit(frame(body));
                }
            }
            Message::Status { epoch, held, applied, taken, asks } => {
                let known = Known { begun: true, held: *held, applied: *applied, taken: *taken };
                self.on_status(from, *epoch, known, *asks, ctx);
            }
            Message::Snapshot { epoch, order, part, parts, bytes } => {
                self.on_snapshot(*epoch, *order, *part, *parts, bytes, ctx);
            }
        }
        self.turn(ctx);
    }

    /// The same where more messages are at hand, each of which is given by this call, and the last by the other.
    pub fn receive_one_of_many(&mut self, from: NodeId, life: Incarnation, payload: &[u8], ctx: &mut Context<'_>) {
        self.quiet = true;
        self.receive(from, life, payload, ctx);
        self.quiet = false;
    }

    /// No more of the many are at hand after all: what others need to know is said now.
    pub fn say_how_far(&mut self, ctx: &mut Context<'_>) {
        self.turn(ctx);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, ctx: &mut Context<'_>) {
        self.check_deadlines(ctx);
        self.turn(ctx);
        if ctx.now >= self.repeat_at {
            self.repeat_at = Instant::FAR;
            self.repeat(ctx);
            self.turn(ctx);
        }
    }

    /// When [`Engine::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Instant {
        self.repeat_at.min(self.deadline()).min(self.copies.poll_timeout())
    }

    /// The next request to the disk, of which there is one at a time. Who passes it on puts the lease to a write.
    pub fn poll_disk(&mut self, now: Instant) -> Option<quorate_base::DiskOp> {
        self.copies.poll_disk(now)
    }

    /// It is done; a read with its records' bytes, without what follows them in their pitch.
    pub fn on_disk(&mut self, result: Result<&[u8], quorate_base::DiskError>, ctx: &mut Context<'_>) {
        self.copies.on_disk(ctx.now, result);
        self.turn(ctx);
    }

    /// Does all that can be done now.
    pub(crate) fn turn(&mut self, ctx: &mut Context<'_>) {
        self.step_lead(ctx);
        // Bounded: each pass delivers a frame, or is the last.
        loop {
            self.submit(ctx);
            self.order_waiting(ctx);
            self.react(ctx);
            if !self.deliver(ctx) {
                break;
            }
        }
        if !self.quiet {
            self.say(ctx);
        }
        if self.is_busy() {
            self.repeat_at = self.repeat_at.min(ctx.now.plus_us(REPEAT_US));
        }
    }

    /// Tells something to this node's jobs and to whoever else hears.
    pub(crate) fn tell(&mut self, told: &Told<'_>, ctx: &mut Context<'_>) {
        self.jobs.hear(self.me, ctx.now, told);
        ctx.outside.hear(told);
    }
}
