//! The interconnect's machine: verifies what comes, remembers whom it hears and of which life, suspects the silent,
//! and makes the frames that go out. Sans-IO; nothing blocks and nothing is queued.
//!
//! ```text
//! a peer:   not heard ──verified frame──▶ heard ──net_suspect without one──▶ not heard
//!                          (Trust)                        (Suspect)
//! ```
//! Rules (DESIGN 6, 7):
//! - Every verified frame counts as heard, not only heartbeats.
//! - A peer has one life at a time: the newest incarnation that was heard or that the disk names. Frames of older ones
//!   are dropped; of two boots that claim one incarnation the disk says which it is.
//! - Each counter of a life is taken once ([`ReplayWindow`]). At each new life of a peer my frame floor moves up to my
//!   counter: once the peer reads it on the disk, nothing that I sent before can be replayed to a node that has lost its
//!   window with its memory.
//! - If the machine itself was not run for more than two heartbeats, nobody's silence meanwhile is evidence: the clocks
//!   of all peers restart. Embedders drain what was received before they call [`Interconnect::handle_timeout`].
//! - A heartbeat goes out when `net_heartbeat` has passed since the last; sooner, but not closer than a tenth of it,
//!   when the set of heard peers changed, so that a joiner need not wait for periods.
//!
//! Invariants: `hears` holds configured peers only, never this node, and each of them has a life and was heard in it.
//! A frame that is dropped changes nothing but its counter (and, once per peer, a note in the trace).

use core::fmt::{self, Write};

use quorate_base::capacity::NODES_MAX;
use quorate_base::event::Via;
use quorate_base::{BootNonce, ClusterId, Event, Incarnation, Instant, NodeId, NodeSet, Timing, Trace};

use crate::counters::{Counters, Drop};
use crate::envelope::{self, Channel, Destination, Envelope, PAYLOAD_MAX, Repr};
use crate::heartbeat::{Heartbeat, Status};
use crate::reach::Reach;
use crate::replay::ReplayWindow;

/// After so many frames the frame floor follows the counter. Large, so that the block on the disk seldom changes for it;
/// small against 2⁶⁴, so that a node can boot 2⁴⁴ times.
pub const FLOOR_STEP: u64 = 1 << 20;

/// What the machine must know from the start.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its boot.
    pub nonce: BootNonce,
    /// Its cluster.
    pub cluster: ClusterId,
    /// How many nodes are configured.
    pub nodes: u8,
    /// The cluster's time-outs.
    pub timing: Timing,
    /// The frame floor in this node's heartbeat block on the disk: counters start above it.
    pub counter_floor: u64,
}

/// What is known of one peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Peer {
    /// Its newest life that was heard or that the disk names; [`Incarnation::NEVER`] if there is none.
    pub incarnation: Incarnation,
    /// The boot of that life, if known.
    pub nonce: Option<BootNonce>,
    /// When the last verified frame of that life came.
    pub heard_at: Option<Instant>,
    /// The last heartbeat of that life. Stale if the peer is no longer heard.
    pub heartbeat: Option<Heartbeat>,
    window: ReplayWindow,
}

impl Peer {
    /// Forgets the life before and begins another.
    fn begin(&mut self, incarnation: Incarnation, nonce: Option<BootNonce>) {
        *self = Self { incarnation, nonce, ..Self::default() };
    }
}

/// What a verified frame was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received<'a> {
    /// A heartbeat; its content is in [`Interconnect::peer`].
    Heartbeat {
        /// Of whom.
        from: NodeId,
    },
    /// A message of the membership manager.
    Message {
        /// From whom.
        from: NodeId,
        /// From which life.
        incarnation: Incarnation,
        /// Its bytes, still untrusted in content.
        payload: &'a [u8],
    },
}

/// Why nothing was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendError {
    /// The payload is longer than a datagram can carry, in bytes.
    TooLong {
        /// Its length.
        len: usize,
        /// The most it may have.
        max: usize,
    },
    /// The buffer given is smaller than the frame.
    Buffer,
    /// The addressee is this node or is not configured.
    Nobody,
    /// All 2⁶⁴ counters of this life are used up.
    Exhausted,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len, max } => write!(f, "message of {len} bytes, at most {max} fit"),
            Self::Buffer => f.write_str("the buffer is smaller than the frame"),
            Self::Nobody => f.write_str("no such peer"),
            Self::Exhausted => f.write_str("frame counters are used up"),
        }
    }
}

impl core::error::Error for SendError {}

/// The machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Interconnect {
    me: NodeId,
    incarnation: Incarnation,
    nonce: BootNonce,
    cluster: ClusterId,
    nodes: NodeSet,
    timing: Timing,
    status: Status,
    peers: [Peer; NODES_MAX],
    reach: Reach,
    /// Peers heard within `net_suspect`, as of the last call.
    hears: NodeSet,
    /// Peers of which the trace last said "trust".
    trusted: NodeSet,
    /// Nodes whose foreign version, or whose namesake, was noted.
    noted: NodeSet,
    /// The next frame's counter.
    counter: u64,
    /// At most `counter`, and less than [`FLOOR_STEP`] below it: no later frame has a lower counter.
    floor: u64,
    /// When the last heartbeat went out; `None` before the first.
    beat_at: Option<Instant>,
    /// When the next one is due.
    beat_due: Instant,
    /// When this machine was last run.
    run_at: Instant,
    /// Since when silence counts: the end of this machine's last stall.
    evidence_from: Instant,
    counters: Counters,
}

impl Interconnect {
    /// A machine that has heard nobody. The first heartbeat is due at once.
    pub fn new(config: Config, now: Instant) -> Self {
        let t = &config.timing;
        // The last life used no counter as far above the floor that it left behind.
        let counter = config.counter_floor.saturating_add(FLOOR_STEP);
        let mut machine = Self {
            me: config.me,
            incarnation: config.incarnation,
            nonce: config.nonce,
            cluster: config.cluster,
            nodes: NodeSet::first(config.nodes),
            timing: config.timing,
            status: Status::default(),
            peers: core::array::from_fn(|_| Peer::default()),
            // As long as arbitration may take (DESIGN 7), so that a link that flapped meanwhile is cut to it.
            reach: Reach::new(config.nodes, t.net_suspect.saturating_mul(3), now),
            hears: NodeSet::EMPTY,
            trusted: NodeSet::EMPTY,
            noted: NodeSet::EMPTY,
            counter,
            floor: counter,
            beat_at: None,
            beat_due: now,
            run_at: now,
            evidence_from: now,
            counters: Counters::default(),
        };
        let own = &mut machine.peers[config.me.index()];
        own.begin(config.incarnation, Some(config.nonce));
        machine
    }

    /// What the next heartbeats say about this node.
    pub fn set_status(&mut self, status: Status) {
        self.status = status;
    }

    /// Makes a heartbeat due at once: after a change of status that others should know soon.
    pub fn heartbeat_now(&mut self) {
        self.beat_due = Instant::ZERO;
    }

    /// What the disk says about a node's life (its identity or heartbeat block). Frames of older lives are dropped from
    /// now on; a boot that claims the same incarnation with another nonce is forgotten. What is older than the life
    /// already known is ignored: the block was read before that life was heard.
    pub fn expect(&mut self, node: NodeId, incarnation: Incarnation, nonce: Option<BootNonce>) {
        let peer = &self.peers[node.index()];
        if node == self.me || incarnation < peer.incarnation {
            return;
        }
        let same = incarnation == peer.incarnation
            && match (peer.nonce, nonce) {
                (Some(known), Some(named)) => known == named,
                _ => true,
            };
        if same {
            // Nothing can have been heard of it while its nonce was not known.
            let peer = &mut self.peers[node.index()];
            peer.nonce = peer.nonce.or(nonce);
        } else {
            self.begin_life(node, incarnation, nonce);
            self.reach.report(self.me, self.hears, self.run_at);
        }
    }

    /// The frame floor in a node's heartbeat block: frames of that life with lower counters are replays of what it sent
    /// before this node began to listen.
    pub fn expect_floor(&mut self, node: NodeId, incarnation: Incarnation, floor: u64) {
        let peer = &mut self.peers[node.index()];
        if peer.incarnation == incarnation {
            peer.window.raise_floor(floor);
        }
    }

    /// Takes one datagram.
    ///
    /// # Errors
    /// Why it was dropped; it is counted.
    pub fn receive<'a>(&mut self, now: Instant, bytes: &'a [u8], trace: &mut Trace<'_>) -> Result<Received<'a>, Drop> {
        self.run(now);
        let verified = self.verify(bytes).and_then(|frame| {
            // Read before the frame has any effect, so that a malformed one has none.
            match frame.repr().channel {
                Channel::Heartbeat => Heartbeat::parse(frame.payload()).map(Some).ok_or(Drop::Heartbeat),
                Channel::Membership => Ok(None),
            }
            .map(|heartbeat| (frame, heartbeat))
        });
        let verified = verified.and_then(|(frame, heartbeat)| {
            self.take_life_and_counter(frame.repr(), now)?;
            Ok((frame, heartbeat))
        });
        let (frame, heartbeat) = match verified {
            Ok(good) => good,
            Err(reason) => {
                self.counters.drop_one(reason);
                self.note(reason, bytes, trace);
                return Err(reason);
            }
        };
        let from = frame.repr().from;
        trace.receive(frame.repr().lamport);
        self.heard_now(from, now, trace);
        Ok(match heartbeat {
            Some(mut heartbeat) => {
                heartbeat.hears = heartbeat.hears.and(self.nodes).without(from);
                self.counters.heartbeats_received += 1;
                self.reach.report(from, heartbeat.hears, now);
                self.peers[from.index()].heartbeat = Some(heartbeat);
                Received::Heartbeat { from }
            }
            None => {
                self.counters.messages_received += 1;
                Received::Message { from, incarnation: frame.repr().incarnation, payload: frame.payload() }
            }
        })
    }

    /// Makes a membership datagram in `out` (of at least [`DATAGRAM_MAX`](quorate_base::capacity::DATAGRAM_MAX) bytes)
    /// and says how long it is.
    ///
    /// # Errors
    /// Nothing was made and no counter is used.
    pub fn send(
        &mut self,
        to: Destination,
        payload: &[u8],
        trace: &mut Trace<'_>,
        out: &mut [u8],
    ) -> Result<usize, SendError> {
        if payload.len() > PAYLOAD_MAX {
            return Err(SendError::TooLong { len: payload.len(), max: PAYLOAD_MAX });
        }
        if let Destination::Node(node) = to
            && (node == self.me || !self.nodes.contains(node))
        {
            return Err(SendError::Nobody);
        }
        let len = self.emit(Channel::Membership, to, payload, trace, out)?;
        self.counters.messages_sent += 1;
        Ok(len)
    }

    /// Makes the heartbeat in `out` if it is due, and says how long it is. It goes to all.
    pub fn poll_heartbeat(&mut self, now: Instant, trace: &mut Trace<'_>, out: &mut [u8]) -> Option<usize> {
        self.run(now);
        if now < self.beat_due {
            return None;
        }
        let heartbeat = Heartbeat { status: self.status, hears: self.hears, first: self.beat_at.is_none() };
        // Even if nothing can be sent any more, the next attempt is a period away: no embedder is to spin.
        self.beat_due = now.plus_ms(self.timing.net_heartbeat);
        let len = self.emit(Channel::Heartbeat, Destination::All, &heartbeat.emit(), trace, out).ok()?;
        self.beat_at = Some(now);
        self.counters.heartbeats_sent += 1;
        Some(len)
    }

    /// When [`Interconnect::poll_heartbeat`] or [`Interconnect::handle_timeout`] has something to do next.
    pub fn poll_timeout(&self) -> Instant {
        let silent = self.hears.iter().map(|peer| self.silent_at(peer)).min();
        self.beat_due.min(silent.unwrap_or(Instant::FAR))
    }

    /// Suspects the peers that fell silent. Call it after what was received has been taken.
    pub fn handle_timeout(&mut self, now: Instant, trace: &mut Trace<'_>) {
        self.run(now);
        for peer in self.hears {
            if now >= self.silent_at(peer) {
                self.hears.remove(peer);
                self.reach.forget(peer, now);
            }
        }
        self.hears_changed(now);
        for peer in self.trusted.minus(self.hears) {
            self.trusted.remove(peer);
            trace.event(Event::Suspect { peer, via: Via::Net });
        }
    }

    /// What is known of a node. Of this node itself: its life only.
    pub fn peer(&self, node: NodeId) -> &Peer {
        &self.peers[node.index()]
    }

    /// The peers that were heard within `net_suspect`. This node is not among them.
    pub fn hears(&self) -> NodeSet {
        self.hears
    }

    /// Whether this very life of `node` was heard within `net_suspect`.
    pub fn heard(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.hears.contains(node) && self.peers[node.index()].incarnation == incarnation
    }

    /// Whom `node` hears by its last heartbeat; nobody if this node does not hear it.
    pub fn hears_of(&self, node: NodeId) -> NodeSet {
        if node == self.me { self.hears } else { self.reach.hears(node) }
    }

    /// The reach sets as the network tells them.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// A value for this node's heartbeat block: no later frame has a lower counter, so a peer may refuse what has. When
    /// it moves, it is above every counter used so far. It moves at each new life of a peer and every [`FLOOR_STEP`]
    /// frames, never per frame.
    pub fn frame_floor(&self) -> u64 {
        self.floor
    }

    /// How many frames there were.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Notices a stall of this machine.
    fn run(&mut self, now: Instant) {
        if now.since_us(self.run_at) > u64::from(self.timing.net_heartbeat) * 2000 {
            self.evidence_from = now;
        }
        self.run_at = self.run_at.max(now);
    }

    /// When a heard peer becomes a silent one.
    fn silent_at(&self, peer: NodeId) -> Instant {
        let heard_at = self.peers[peer.index()].heard_at.unwrap_or(Instant::ZERO);
        heard_at.max(self.evidence_from).plus_ms(self.timing.net_suspect)
    }

    /// All checks that need no memory of the sender's frames.
    fn verify<'a>(&self, bytes: &'a [u8]) -> Result<Envelope<'a>, Drop> {
        let frame = Envelope::new_checked(bytes)?;
        frame.verify_plain()?;
        let repr = frame.repr();
        if repr.cluster != self.cluster {
            return Err(Drop::Cluster);
        }
        if repr.from == self.me {
            let mine = repr.incarnation == self.incarnation && repr.nonce == self.nonce;
            let old = repr.incarnation < self.incarnation;
            return Err(if mine {
                Drop::Own
            } else if old {
                Drop::OldIncarnation
            } else {
                Drop::Namesake
            });
        }
        if !self.nodes.contains(repr.from) {
            return Err(Drop::Stranger);
        }
        if !repr.to.includes(self.me) {
            return Err(Drop::NotForMe);
        }
        Ok(frame)
    }

    /// The checks against what is known of the sender; a newer life of it begins here.
    fn take_life_and_counter(&mut self, repr: &Repr, now: Instant) -> Result<(), Drop> {
        let peer = &mut self.peers[repr.from.index()];
        // Incarnation 0 is "never booted": nobody sends under it.
        if repr.incarnation < peer.incarnation || repr.incarnation == Incarnation::NEVER {
            return Err(Drop::OldIncarnation);
        }
        if repr.incarnation > peer.incarnation {
            let mut window = ReplayWindow::default();
            if !window.take(repr.counter) {
                return Err(Drop::Replay);
            }
            self.begin_life(repr.from, repr.incarnation, Some(repr.nonce));
            self.peers[repr.from.index()].window = window;
            // The newcomer hears nobody yet and is to know soon that it is heard.
            self.beat_soon(now);
            return Ok(());
        }
        if peer.nonce.is_some_and(|known| known != repr.nonce) {
            return Err(Drop::Nonce);
        }
        if !peer.window.take(repr.counter) {
            return Err(Drop::Replay);
        }
        peer.nonce = Some(repr.nonce);
        Ok(())
    }

    /// A node's life ended and another began, as heard or as read.
    fn begin_life(&mut self, node: NodeId, incarnation: Incarnation, nonce: Option<BootNonce>) {
        self.peers[node.index()].begin(incarnation, nonce);
        self.hears.remove(node);
        self.reach.forget(node, self.run_at);
        self.floor = self.counter;
    }

    /// A verified frame of `from` came.
    fn heard_now(&mut self, from: NodeId, now: Instant, trace: &mut Trace<'_>) {
        self.peers[from.index()].heard_at = Some(now);
        self.hears.insert(from);
        self.hears_changed(now);
        if self.trusted.insert(from) {
            trace.event(Event::Trust { peer: from, via: Via::Net });
        }
    }

    /// Brings my own row up to date; if it changed, the others learn it soon.
    fn hears_changed(&mut self, now: Instant) {
        if self.reach.report(self.me, self.hears, now) {
            self.beat_soon(now);
        }
    }

    /// Makes the next heartbeat due, but not closer to the last than a tenth of the period.
    fn beat_soon(&mut self, now: Instant) {
        let earliest = self.beat_at.map_or(now, |at| at.plus_us(u64::from(self.timing.net_heartbeat) * 100));
        self.beat_due = self.beat_due.min(earliest.max(now));
    }

    /// Makes a frame.
    fn emit(
        &mut self,
        channel: Channel,
        to: Destination,
        payload: &[u8],
        trace: &mut Trace<'_>,
        out: &mut [u8],
    ) -> Result<usize, SendError> {
        let next = self.counter.checked_add(1).ok_or(SendError::Exhausted)?;
        if out.len() < envelope::HEADER_BYTES + payload.len() + envelope::TAG_BYTES {
            return Err(SendError::Buffer);
        }
        let repr = Repr {
            sealed: None,
            channel,
            from: self.me,
            to,
            incarnation: self.incarnation,
            nonce: self.nonce,
            cluster: self.cluster,
            counter: self.counter,
            lamport: trace.send(),
        };
        let len = repr.emit_plain(payload, out).ok_or(SendError::Buffer)?;
        self.counter = next;
        if next - self.floor >= FLOOR_STEP {
            self.floor = next;
        }
        Ok(len)
    }

    /// Names a node of another version and a machine that uses my node id: once each, so that a flood does not fill the
    /// trace.
    fn note(&mut self, reason: Drop, bytes: &[u8], trace: &mut Trace<'_>) {
        let mut text = heapless::String::<128>::new();
        let written = match reason {
            Drop::Version => {
                let Some((version, Some(from))) = envelope::foreign_version(bytes) else { return };
                if from == self.me || !self.nodes.contains(from) || !self.noted.insert(from) {
                    return;
                }
                write!(text, "node {from} speaks protocol version {version}, this node {}: dropped", envelope::VERSION)
            }
            Drop::Namesake if self.noted.insert(self.me) => {
                write!(text, "another machine sends as node {}: dropped", self.me)
            }
            _ => return,
        };
        // The text is bounded by the numbers in it and fits.
        if written.is_ok() {
            trace.event(Event::Note { what: &text });
        }
    }
}

#[cfg(test)]
mod tests;
