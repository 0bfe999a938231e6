//! The interconnect's machine: verifies what comes, remembers whom it hears and of which life, suspects the silent,
//! and makes the frames that go out. Sans-IO; nothing blocks and nothing is queued.
//!
//! ```text
//! a peer's life:  unknown ──genuine frame, or the disk names it──▶ introduced ──it answers my boot──▶ proven
//! a proven one:   not heard ──genuine frame──▶ heard ──net_suspect without one, or it says that it halted──▶ not heard
//!                                 (Trust)                                        (Suspect)
//! ```
//! Rules (DESIGN 6, 7):
//! - Every frame is sealed under a key of its sender's life ([`crate::seal`]). Checks that need no computation come first.
//! - A peer has one life at a time: the newest incarnation that was heard or that the disk names. Frames of older ones
//!   are dropped; of two boots that claim one incarnation the disk says which it is.
//! - A life is *proven* when one of its heartbeats answers this very boot of mine with its nonce: so it was sealed after I
//!   booted, and whatever has a lower counter may have been sent before. Until then nothing of it counts, but that it is
//!   answered in turn. So nothing that was ever captured before a boot of mine is taken after it, on no disk's word.
//! - Each counter of a life is taken once ([`ReplayWindow`]). The frame floor on the disk says the same as the answer, more
//!   slowly: at each new life of a peer mine moves up to my counter, so that what is below is dropped unopened.
//! - Every frame of a proven life counts as heard, not only heartbeats.
//! - If the machine itself was not run for more than two heartbeats, nobody's silence meanwhile is evidence: the clocks
//!   of all peers restart. Embedders drain what was received before they call [`Interconnect::handle_timeout`].
//! - A heartbeat goes out when `net_heartbeat` has passed since the last; sooner, but not closer than a tenth of it,
//!   when the set of heard peers changed or a peer waits for an answer, so that a joiner need not wait for periods.
//!
//! Invariants: `hears` holds configured peers only, never this node, and each of them has a proven life and was heard in it.
//! A frame that is dropped changes nothing but its counter (and, at most once a second and reason, a note in the trace); a
//! genuine message of a life that is not proven introduces that life and is dropped.

use core::fmt::{self, Write};

use quorate_base::capacity::NODES_MAX;
use quorate_base::event::Via;
use quorate_base::{BootNonce, ClusterId, ClusterKey, Event, Incarnation, Instant, NodeId, NodeSet, Timing, Trace};

use crate::counters::{Counters, Drop};
use crate::envelope::{self, Channel, Destination, Envelope, Opened, PAYLOAD_MAX, Repr};
use crate::heartbeat::{Heartbeat, Status};
use crate::reach::Reach;
use crate::replay::ReplayWindow;
use crate::seal::{SealKey, TAG_BYTES};

/// After so many frames the frame floor follows the counter. Large, so that the block on the disk seldom changes for it;
/// small against 2⁶⁴, so that a node can boot 2⁴⁴ times.
pub const FLOOR_STEP: u64 = 1 << 20;

/// A note of dropped frames is made at most once in so many µs for each reason: a flood is not to flood the trace.
const NOTE_US: u64 = 1_000_000;

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
    /// The cluster's secret.
    pub key: ClusterKey,
    /// Which of the cluster's keys that is.
    pub key_epoch: u8,
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
    /// Whether that life has answered this node's boot.
    pub proven: bool,
    /// When the last frame of that life came since it is proven.
    pub heard_at: Option<Instant>,
    /// The last heartbeat of that life since it is proven. Stale if the peer is no longer heard.
    pub heartbeat: Option<Heartbeat>,
    /// When it last showed that it wants an answer: it has not said yet that it hears this node.
    asked_at: Option<Instant>,
    /// Whether the disk names that boot.
    named: bool,
    /// The key of that life, computed once a frame of it was opened.
    key: Option<SealKey>,
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
    /// A genuine heartbeat of a life that has yet to show that it lives now. It counts for nothing.
    Introduction {
        /// Of whom.
        from: NodeId,
    },
    /// That life ended by its own word ([`Interconnect::halted`]).
    Halted {
        /// Of whom.
        from: NodeId,
        /// Which life.
        incarnation: Incarnation,
    },
    /// A message of the membership manager or of a level above it.
    Message {
        /// Of whom.
        channel: Channel,
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
    cluster_key: ClusterKey,
    key_epoch: u8,
    /// The key of this life.
    key: SealKey,
    nodes: NodeSet,
    timing: Timing,
    status: Status,
    peers: [Peer; NODES_MAX],
    reach: Reach,
    /// Peers heard within `net_suspect`, as of the last call.
    hears: NodeSet,
    /// Peers of which the trace last said "trust".
    trusted: NodeSet,
    /// Of each node the newest life, and its boot, that said it halted.
    halted: [Option<(Incarnation, BootNonce)>; NODES_MAX],
    /// When dropped frames were last noted in the trace, by reason.
    noted_at: [Option<Instant>; Drop::ALL.len()],
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
            cluster_key: config.key,
            key_epoch: config.key_epoch,
            key: SealKey::derive(&config.key, config.me, config.incarnation, config.nonce),
            nodes: NodeSet::first(config.nodes),
            timing: config.timing,
            status: Status::default(),
            peers: core::array::from_fn(|_| Peer::default()),
            // As long as arbitration may take (DESIGN 7), so that a link that flapped meanwhile is cut to it.
            reach: Reach::new(config.nodes, t.net_suspect.saturating_mul(3), now),
            hears: NodeSet::EMPTY,
            trusted: NodeSet::EMPTY,
            halted: [None; NODES_MAX],
            noted_at: [None; Drop::ALL.len()],
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
        if !same {
            self.begin_life(node, incarnation, nonce);
            self.reach.report(self.me, self.hears, self.run_at);
        }
        let peer = &mut self.peers[node.index()];
        peer.nonce = peer.nonce.or(nonce);
        peer.named |= nonce.is_some();
    }

    /// The frame floor in a node's heartbeat block: frames of that life with lower counters are replays of what it sent
    /// before this node began to listen.
    pub fn expect_floor(&mut self, node: NodeId, incarnation: Incarnation, floor: u64) {
        let peer = &mut self.peers[node.index()];
        if peer.incarnation == incarnation {
            peer.window.raise_floor(floor);
        }
    }

    /// Takes one datagram. Its payload is deciphered into `opened`.
    ///
    /// # Errors
    /// Why it was dropped; it is counted.
    pub fn receive<'a>(
        &mut self,
        now: Instant,
        bytes: &[u8],
        opened: &'a mut Opened,
        trace: &mut Trace<'_>,
    ) -> Result<Received<'a>, Drop> {
        self.run(now);
        let taken = self.open(bytes, opened).and_then(|frame| self.take(&frame, opened, now, trace));
        match taken {
            Ok(received) => Ok(received),
            Err(reason) => {
                self.counters.drop_one(reason);
                self.note(reason, bytes, now, trace);
                Err(reason)
            }
        }
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
        self.send_on(Channel::Membership, to, payload, trace, out)
    }

    /// The same for another channel than the membership manager's.
    ///
    /// # Errors
    /// As [`Interconnect::send`].
    pub fn send_on(
        &mut self,
        channel: Channel,
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
        let len = self.emit(channel, to, payload, trace, out)?;
        self.counters.messages_sent += 1;
        Ok(len)
    }

    /// Makes the heartbeat in `out` if it is due, and says how long it is. It goes to all.
    pub fn poll_heartbeat(&mut self, now: Instant, trace: &mut Trace<'_>, out: &mut [u8]) -> Option<usize> {
        self.run(now);
        if now < self.beat_due {
            return None;
        }
        // Even if nothing can be sent any more, the next attempt is a period away: no embedder is to spin.
        self.beat_due = now.plus_ms(self.timing.net_heartbeat);
        self.emit_heartbeat(now, false, trace, out)
    }

    /// Makes the last frame of this life in `out`, and says how long it is: a heartbeat by which the others learn that this
    /// life submits nothing to the disk any more. It goes to all, once; nothing may be sent after it.
    pub fn halt(&mut self, now: Instant, trace: &mut Trace<'_>, out: &mut [u8]) -> Option<usize> {
        self.beat_due = Instant::FAR;
        self.emit_heartbeat(now, true, trace, out)
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

    /// Whether this very life of `node` has said under its own seal that it submits nothing to the disk any more. What it
    /// submitted before may still be under way: this is no fence for shared storage. Remembered until a newer life of the
    /// node says it, too, or another boot turns out to have that incarnation.
    pub fn halted(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.halted[node.index()].is_some_and(|(life, _)| life == incarnation)
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

    /// All checks, the cheap ones first; what passes is genuine and not seen before. Nothing changes.
    fn open(&self, bytes: &[u8], opened: &mut Opened) -> Result<Frame, Drop> {
        let frame = Envelope::new_checked(bytes)?;
        let repr = *frame.repr();
        self.concerns(&repr)?;
        let peer = &self.peers[repr.from.index()];
        let cached = peer.key.filter(|_| (peer.incarnation, peer.nonce) == (repr.incarnation, Some(repr.nonce)));
        let key = cached.unwrap_or_else(|| SealKey::derive(&self.cluster_key, repr.from, repr.incarnation, repr.nonce));
        frame.open(&key, opened)?;
        if repr.from == self.me {
            return Err(Drop::Namesake);
        }
        Ok(Frame { repr, key })
    }

    /// Whether a header says that the frame is for this node, from a peer's present life, and new.
    fn concerns(&self, repr: &Repr) -> Result<(), Drop> {
        if repr.cluster != self.cluster {
            return Err(Drop::Cluster);
        }
        if repr.from == self.me && (repr.incarnation, repr.nonce) == (self.incarnation, self.nonce) {
            return Err(Drop::Own);
        }
        if !self.nodes.contains(repr.from) {
            return Err(Drop::Stranger);
        }
        if !repr.to.includes(self.me) {
            return Err(Drop::NotForMe);
        }
        if repr.epoch != self.key_epoch {
            return Err(Drop::Epoch);
        }
        let peer = &self.peers[repr.from.index()];
        // Incarnation 0 is "never booted": nobody sends under it.
        if repr.incarnation < peer.incarnation || repr.incarnation == Incarnation::NEVER {
            return Err(Drop::OldIncarnation);
        }
        if repr.incarnation > peer.incarnation || repr.from == self.me {
            return Ok(());
        }
        if self.halted[repr.from.index()] == Some((repr.incarnation, repr.nonce)) {
            return Err(Drop::OldIncarnation);
        }
        // Of two boots the first that proves itself counts, until the disk names one.
        let settled = peer.named || peer.proven;
        match peer.nonce {
            Some(known) if known != repr.nonce => return if settled { Err(Drop::Nonce) } else { Ok(()) },
            _ => {}
        }
        if peer.window.admits(repr.counter) { Ok(()) } else { Err(Drop::Replay) }
    }

    /// A genuine frame has its effect.
    fn take<'a>(
        &mut self,
        frame: &Frame,
        payload: &'a [u8],
        now: Instant,
        trace: &mut Trace<'_>,
    ) -> Result<Received<'a>, Drop> {
        // Read before the frame has any effect, so that a malformed one has none.
        let heartbeat = match frame.repr.channel {
            Channel::Heartbeat => Some(Heartbeat::parse(payload).ok_or(Drop::Heartbeat)?),
            Channel::Membership | Channel::Groups => None,
        };
        let (from, incarnation) = (frame.repr.from, frame.repr.incarnation);
        if !self.take_life(frame, now) {
            return Err(Drop::Replay);
        }
        trace.receive(frame.repr.lamport);
        let answered = heartbeat.is_some_and(|(_, answers)| answers.of(self.me) == Some(self.nonce));
        let peer = &mut self.peers[from.index()];
        if answered && !peer.proven {
            peer.proven = true;
            // What it sent before may be from before this node's boot.
            peer.window.raise_floor(frame.repr.counter);
            // It waits to hear that it is heard.
            self.beat_soon(now);
        }
        let peer = &self.peers[from.index()];
        if !peer.proven {
            let Some(_) = heartbeat else { return Err(Drop::Unproven) };
            self.counters.introductions += 1;
            self.asks(from, now);
            return Ok(Received::Introduction { from });
        }
        match heartbeat {
            Some((heartbeat, _)) if heartbeat.halted => {
                self.counters.heartbeats_received += 1;
                self.halted[from.index()] = Some((incarnation, frame.repr.nonce));
                self.peers[from.index()].asked_at = None;
                self.hears.remove(from);
                self.reach.forget(from, now);
                self.hears_changed(now);
                Ok(Received::Halted { from, incarnation })
            }
            Some((mut heartbeat, _)) => {
                self.heard_now(from, now, trace);
                heartbeat.hears = heartbeat.hears.and(self.nodes).without(from);
                self.counters.heartbeats_received += 1;
                self.reach.report(from, heartbeat.hears, now);
                self.peers[from.index()].heartbeat = Some(heartbeat);
                if heartbeat.hears.contains(self.me) {
                    self.peers[from.index()].asked_at = None;
                } else {
                    self.asks(from, now);
                }
                Ok(Received::Heartbeat { from })
            }
            None => {
                self.heard_now(from, now, trace);
                self.counters.messages_received += 1;
                Ok(Received::Message { channel: frame.repr.channel, from, incarnation, payload })
            }
        }
    }

    /// Takes a frame's counter; a newer life of its sender begins here, or the other of two boots that claim one. False if
    /// the counter is none.
    fn take_life(&mut self, frame: &Frame, now: Instant) -> bool {
        let repr = &frame.repr;
        let peer = &self.peers[repr.from.index()];
        let same = peer.incarnation == repr.incarnation && peer.nonce.is_none_or(|known| known == repr.nonce);
        if !same {
            if !ReplayWindow::default().admits(repr.counter) {
                return false;
            }
            self.begin_life(repr.from, repr.incarnation, Some(repr.nonce));
            // The newcomer hears nobody yet and is to know soon that it is heard.
            self.beat_soon(now);
        }
        let peer = &mut self.peers[repr.from.index()];
        peer.nonce = Some(repr.nonce);
        peer.key = Some(frame.key);
        peer.window.take(repr.counter)
    }

    /// A peer shows that it wants an answer; if it did not want one before, it gets it soon.
    fn asks(&mut self, from: NodeId, now: Instant) {
        let before = self.peers[from.index()].asked_at.replace(now);
        if before.is_none_or(|at| now.since_us(at) >= self.patience_us()) {
            self.beat_soon(now);
        }
    }

    /// A node's life ended and another began, as heard or as read.
    fn begin_life(&mut self, node: NodeId, incarnation: Incarnation, nonce: Option<BootNonce>) {
        self.peers[node.index()].begin(incarnation, nonce);
        // The other of two boots goes on, whatever the first one said.
        let halted = &mut self.halted[node.index()];
        *halted = halted.filter(|(life, boot)| *life != incarnation || nonce.is_none_or(|nonce| nonce == *boot));
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

    /// For so long a peer that wanted an answer gets it with every heartbeat, if it does not say that it has it.
    fn patience_us(&self) -> u64 {
        u64::from(self.timing.net_suspect) * 1000
    }

    /// Makes a heartbeat.
    fn emit_heartbeat(&mut self, now: Instant, halted: bool, trace: &mut Trace<'_>, out: &mut [u8]) -> Option<usize> {
        let heartbeat = Heartbeat { status: self.status, hears: self.hears, first: self.beat_at.is_none(), halted };
        let patience_us = self.patience_us();
        let answers = self.nodes.iter().filter_map(|n| {
            let peer = &self.peers[n.index()];
            peer.nonce
                .filter(|_| peer.asked_at.is_some_and(|at| now.since_us(at) < patience_us))
                .map(|nonce| (n, nonce))
        });
        let payload = heartbeat.emit(answers);
        let len = self.emit(Channel::Heartbeat, Destination::All, &payload, trace, out).ok()?;
        self.beat_at = Some(now);
        self.counters.heartbeats_sent += 1;
        Some(len)
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
        if out.len() < envelope::HEADER_BYTES + payload.len() + TAG_BYTES {
            return Err(SendError::Buffer);
        }
        let repr = Repr {
            epoch: self.key_epoch,
            channel,
            from: self.me,
            to,
            incarnation: self.incarnation,
            nonce: self.nonce,
            cluster: self.cluster,
            counter: self.counter,
            lamport: trace.send(),
        };
        let len = repr.emit(payload, &self.key, out).ok_or(SendError::Buffer)?;
        self.counter = next;
        if next - self.floor >= FLOOR_STEP {
            self.floor = next;
        }
        Ok(len)
    }

    /// Notes in the trace why frames are dropped, the node that they claim to come from, and how many there were: once a
    /// second for each reason. What comes in a sound cluster is only counted.
    fn note(&mut self, reason: Drop, bytes: &[u8], now: Instant, trace: &mut Trace<'_>) {
        let usual = matches!(reason, Drop::Own | Drop::NotForMe | Drop::OldIncarnation | Drop::Replay | Drop::Unproven);
        let noted_at = &mut self.noted_at[reason as usize];
        if usual || noted_at.is_some_and(|at| now.since_us(at) < NOTE_US) {
            return;
        }
        *noted_at = Some(now);
        let (me, count) = (self.me, self.counters.dropped(reason));
        let claimed = Envelope::new_checked(bytes).ok().map(|frame| *frame.repr());
        let mut text = heapless::String::<160>::new();
        let written = match (reason, claimed) {
            (Drop::Version, _) => match envelope::foreign_version(bytes) {
                Some((version, Some(from))) => {
                    write!(text, "node {from} speaks protocol version {version}, this node {}", envelope::VERSION)
                }
                _ => write!(text, "frames of another protocol version"),
            },
            (Drop::Namesake, _) => write!(text, "another machine sends as node {me}"),
            (Drop::Tag, Some(repr)) => write!(text, "frames of node {} do not verify: other key?", repr.from),
            (Drop::Epoch, Some(repr)) => {
                let (from, epoch) = (repr.from, repr.epoch);
                write!(text, "node {from} seals with key epoch {epoch}, this node with {}", self.key_epoch)
            }
            (_, Some(repr)) => write!(text, "bad frames as from node {}: {reason}", repr.from),
            (_, None) => write!(text, "bad frames: {reason}"),
        };
        // The text is bounded by the numbers in it and fits.
        if written.and_then(|()| write!(text, "; {count} dropped")).is_ok() {
            trace.event(Event::Note { what: &text });
        }
    }
}

/// A frame that verified.
struct Frame {
    repr: Repr,
    key: SealKey,
}

#[cfg(test)]
mod tests;
