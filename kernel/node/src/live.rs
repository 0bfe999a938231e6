//! A node that has its identity: lock, interconnect and membership, in one turn each (DESIGN 4: the beat runs in the same
//! turn as the membership machine, so that a stuck machine shows).

use heapless::Deque;
use quorate_base::capacity::{DATAGRAM_MAX, RECORD_BYTES, RECORD_PITCH};
use quorate_base::event::Trace;
use quorate_base::{
    BootNonce, ClusterId, DiskError, DiskOp, DiskTag, FenceMethod, HaltReason, Incarnation, Instant, LevelOrder,
    NodeId, ReservationOp, Timing,
};
use quorate_database::layout;
use quorate_groups::copies::NODES_PER_READ;
use quorate_interconnect::envelope::{Channel, PAYLOAD_MAX};
use quorate_interconnect::{self as interconnect, Destination, Interconnect, Opened, Received};
use quorate_master_lock::{self as master_lock, LockEvent, MasterLock, OwnIdentity};
use quorate_membership::fence::Command;
use quorate_membership::{Change, Config, Context, Membership, Post};

use crate::birth::{BIRTH_TAG, Boot, Born};
use crate::history::{Cause, History};
use crate::node::{Input, Output};

/// First tag of the lock's requests; birth's own is below it.
const LOCK_TAG: u32 = 1;
/// The tag of the fence's reads; above the lock's.
const FENCE_TAG: DiskTag = DiskTag(LOCK_TAG + master_lock::TAGS);
/// The tag of group services' requests.
pub(crate) const GROUPS_TAG: DiskTag = DiskTag(FENCE_TAG.0 + 1);

/// Messages of group services that wait for their level's thread, at most. What finds no room comes again.
const GROUP_MESSAGES_MAX: usize = 8;

/// The records of one read of group services.
pub(crate) type GroupRecords = heapless::Vec<u8, { 2 * NODES_PER_READ as usize * RECORD_BYTES }>;

/// A request of group services to the disk.
#[derive(Clone, Debug, Default)]
#[expect(clippy::large_enum_variant, reason = "records travel by value: there is no allocator")]
enum GroupDisk {
    #[default]
    Free,
    Asked(DiskOp),
    UnderWay,
    Done(Result<GroupRecords, DiskError>),
}

/// Bytes of a node's buffers for group services, which a node without them does not use.
pub const GROUP_BUFFER_BYTES: usize = size_of::<Deque<GroupMessage, GROUP_MESSAGES_MAX>>() + size_of::<GroupDisk>();

/// A message of group services: from which life of whom, and what.
pub(crate) type GroupMessage = (NodeId, Incarnation, heapless::Vec<u8, PAYLOAD_MAX>);

/// Reservation commands of the own registration, in birth and in life.
pub(crate) const OWN: DiskTag = DiskTag(0);
/// Reservation commands of the fence.
pub(crate) const FENCE: DiskTag = DiskTag(1);

/// The identity is read back a beat after it was written; until then nothing but it is written. Who sees another's there
/// leaves the heartbeat block to it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Verify {
    At(Instant),
    Reading,
    Done,
}

/// A node with an identity.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub me: NodeId,
    pub lock: MasterLock,
    pub net: Interconnect,
    pub membership: Membership,
    pub nodes: u8,
    pub timing: Timing,
    /// When this life began.
    pub since: Instant,
    nonce: BootNonce,
    pub cluster: ClusterId,
    identity: OwnIdentity,
    verify: Verify,
    disk: Option<(DiskTag, DiskOp)>,
    /// The own registration's next command.
    command: Option<ReservationOp>,
    /// What came for group services.
    group_messages: Deque<GroupMessage, GROUP_MESSAGES_MAX>,
    group_disk: GroupDisk,
}

impl Live {
    pub(crate) fn new(boot: &Boot, born: &Born, now: Instant) -> Self {
        let (me, incarnation, nonce) = (born.me, born.incarnation, boot.nonce);
        let superblock = &born.superblock;
        let (cluster, nodes, timing) = (superblock.cluster, superblock.nodes, superblock.timing);
        let lock = master_lock::Config {
            me,
            incarnation,
            nonce,
            cluster,
            nodes,
            timing,
            first_tag: LOCK_TAG,
            blanks: superblock.blanks,
            own: born.own.clone(),
            geometry: boot.geometry,
        };
        let net = interconnect::Config {
            me,
            incarnation,
            nonce,
            cluster,
            key: superblock.key,
            key_epoch: superblock.key_epoch,
            nodes,
            timing,
            counter_floor: born.frame_floor,
        };
        let membership = Config {
            me,
            incarnation,
            nodes,
            timing,
            weights: born.weights,
            preempted: superblock.preempted,
            was_clean: born.own.clean,
        };
        let mut lock = MasterLock::new(lock, now);
        lock.guard_identity(born.identity);
        Self {
            me,
            lock,
            net: Interconnect::new(net, now),
            membership: Membership::new(&membership),
            nodes,
            timing,
            since: now,
            nonce,
            cluster,
            identity: born.identity,
            verify: Verify::At(now.plus_ms(timing.disk_heartbeat)),
            disk: None,
            command: None,
            group_messages: Deque::new(),
            group_disk: GroupDisk::Free,
        }
    }

    pub(crate) fn fence_method(&self) -> FenceMethod {
        self.lock.registration().map_or(FenceMethod::Lease, |_| FenceMethod::Reservation)
    }

    /// One turn. Gives the reason if the node must halt.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        input: Input<'_>,
        carrier: bool,
        post: &mut dyn Post,
        trace: &mut Trace<'_>,
    ) -> Option<HaltReason> {
        match input {
            Input::Disk { tag: BIRTH_TAG, result } => {
                if let Err(reason) = self.verified(result) {
                    return Some(reason);
                }
            }
            Input::Disk { tag: FENCE_TAG, result } => {
                let mut ctx = Context { now, lock: &mut self.lock, net: &mut self.net, post, trace };
                self.membership.on_fence_read(result, &mut ctx);
            }
            Input::Disk { tag: GROUPS_TAG, result } => {
                let bytes = |bytes: &[u8]| {
                    // A record at the start of each pitch; a write has none.
                    bytes
                        .chunks(RECORD_PITCH as usize)
                        .filter_map(|pitch| pitch.get(..RECORD_BYTES))
                        .flatten()
                        .copied()
                        .collect()
                };
                self.group_disk = GroupDisk::Done(result.map(bytes));
            }
            Input::Disk { tag, result } => {
                self.lock.handle(now, master_lock::Input::Disk { tag, result }, trace);
            }
            Input::Reservation { tag: FENCE, result } => {
                let mut ctx = Context { now, lock: &mut self.lock, net: &mut self.net, post, trace };
                self.membership.on_reservation(result, &mut ctx);
            }
            Input::Reservation { result, .. } => {
                self.lock.handle(now, master_lock::Input::Reservation(result), trace);
            }
            Input::Attention(attention) => {
                self.lock.attention(now, attention, trace);
            }
            // What was dropped makes nothing due, nor does what is for group services: a flood is to cost no turns. What time
            // makes due comes with its tick.
            Input::Datagram(bytes) => {
                if !self.receive(now, bytes, post, trace) {
                    return None;
                }
            }
            Input::Tick | Input::Carrier(_) => {}
        }
        if self.verify != Verify::Done {
            return self.verify_turn(now, carrier, post, trace);
        }
        let halt = self.turn(now, carrier, post, trace);
        self.heartbeat(now, post, trace);
        halt
    }

    /// What the view and the ballot say now goes into the history.
    pub(crate) fn remember(&self, now: Instant, history: &mut History) {
        let (_, view) = self.membership.view();
        history.observe(now, self.membership.ballot(), view, self.nodes, |n, life| self.cause(now, n, life));
    }

    /// Why a life of a node is put out, or is gone, as far as this node can know.
    fn cause(&self, now: Instant, n: NodeId, life: Incarnation) -> Cause {
        if self.net.halted(n, life) {
            return Cause::Halted;
        }
        let peer = self.lock.peer(n);
        if let Some(heartbeat) = &peer.heartbeat {
            if heartbeat.incarnation > life {
                return Cause::Rebooted;
            }
            if heartbeat.clean && heartbeat.incarnation == life {
                return Cause::Asked;
            }
        }
        let ms = |us: u64| u32::try_from(us / 1000).unwrap_or(u32::MAX);
        let net_ms = self.net.peer(n).heard_at.map(|at| ms(now.since_us(at)));
        let silent = Cause::Silent { disk_ms: ms(peer.still_us), net_ms };
        if self.lock.disk_silent(n) {
            silent
        } else if self.membership.outside().contains(n) {
            Cause::OutOfReach
        } else if !self.net.heard(n, life) {
            silent
        } else {
            Cause::Master
        }
    }

    /// Until the identity is verified the node listens and is heard, and writes nothing.
    fn verify_turn(
        &mut self,
        now: Instant,
        carrier: bool,
        post: &mut dyn Post,
        trace: &mut Trace<'_>,
    ) -> Option<HaltReason> {
        if let Verify::At(at) = self.verify
            && now >= at
        {
            self.verify = Verify::Reading;
            self.disk = Some((BIRTH_TAG, OwnIdentity::read(self.me)));
        }
        self.net.handle_timeout(now, trace);
        self.tell(now, carrier);
        self.heartbeat(now, post, trace);
        None
    }

    fn verified(&mut self, result: Result<&[u8], quorate_base::DiskError>) -> Result<(), HaltReason> {
        if self.verify != Verify::Reading {
            return Ok(());
        }
        let bytes = result.map_err(|error| HaltReason::Disk { error })?;
        self.identity.check(bytes, self.cluster, self.me, self.nonce)?;
        self.verify = Verify::Done;
        Ok(())
    }

    /// Takes a datagram. False if a turn has nothing to do for it: it was dropped and counted, or kept for group services.
    fn receive(&mut self, now: Instant, bytes: &[u8], post: &mut dyn Post, trace: &mut Trace<'_>) -> bool {
        let mut opened = Opened::new();
        let heard = self.net.hears();
        let Ok(received) = self.net.receive(now, bytes, &mut opened, trace) else { return false };
        if self.verify != Verify::Done {
            return true;
        }
        let mut ctx = Context { now, lock: &mut self.lock, net: &mut self.net, post, trace };
        match received {
            Received::Heartbeat { from } => self.membership.on_heartbeat(from, &mut ctx),
            Received::Message { channel: Channel::Groups, from, incarnation, payload } => {
                if let Ok(payload) = heapless::Vec::from_slice(payload) {
                    // What finds no room comes again.
                    let _ = self.group_messages.push_back((from, incarnation, payload));
                }
                // Of a peer that was heard before it is no news to the membership manager.
                return self.net.hears() != heard;
            }
            Received::Message { from, incarnation, payload, .. } => {
                self.membership.on_message(from, incarnation, payload, &mut ctx);
            }
            // The interconnect remembers what it says; the turn that follows looks at it.
            Received::Introduction { .. } | Received::Halted { .. } => {}
        }
        true
    }

    /// Lock, evidence, membership; again as long as the lock has something to do at once.
    fn turn(&mut self, now: Instant, carrier: bool, post: &mut dyn Post, trace: &mut Trace<'_>) -> Option<HaltReason> {
        // Bounded: each pass lets the lock begin a request at most, and with one under way it has nothing to do at once.
        for _ in 0..8 {
            self.tell(now, carrier);
            self.lock.handle(now, master_lock::Input::Tick, trace);
            while let Some(output) = self.lock.poll_output() {
                match output {
                    master_lock::Output::Disk { tag, op } => self.disk = Some((tag, op)),
                    master_lock::Output::Reservation(op) => self.command = Some(op),
                    master_lock::Output::Halt(reason) => return Some(reason),
                    master_lock::Output::Event(event) => {
                        if event == LockEvent::Beat {
                            self.expect_peers();
                        }
                        let mut ctx = Context { now, lock: &mut self.lock, net: &mut self.net, post, trace };
                        self.membership.on_lock_event(event, &mut ctx);
                    }
                }
            }
            self.net.handle_timeout(now, trace);
            let mut ctx = Context { now, lock: &mut self.lock, net: &mut self.net, post, trace };
            self.membership.handle_timeout(&mut ctx);
            if let Some(reason) = self.membership.take_halt() {
                return Some(reason);
            }
            if self.lock.poll_timeout() > now {
                break;
            }
        }
        None
    }

    /// What the disk says of the peers' lives: older ones are not listened to any more.
    fn expect_peers(&mut self) {
        for n in NodeId::first(self.nodes).filter(|n| *n != self.me) {
            if let Some(h) = &self.lock.peer(n).heartbeat {
                self.net.expect(n, h.incarnation, Some(h.nonce));
                self.net.expect_floor(n, h.incarnation, h.frame_floor);
            }
        }
    }

    /// What the next heartbeats say of this node.
    fn tell(&mut self, now: Instant, carrier: bool) {
        self.membership.set_carrier(carrier);
        let state = self.membership.told_state();
        self.lock.set_status(master_lock::Status {
            state,
            hears: self.net.hears(),
            carrier,
            frame_floor: self.net.frame_floor(),
        });
        let (committed, _) = self.lock.committed();
        self.net.set_status(interconnect::Status {
            state,
            frozen: self.lock.frozen(now),
            carrier,
            ballot: self.lock.highest_promise(),
            is_master: self.lock.may_act(now),
            committed,
        });
    }

    fn heartbeat(&mut self, now: Instant, post: &mut dyn Post, trace: &mut Trace<'_>) {
        if self.net.poll_timeout() > now {
            return;
        }
        let mut datagram = [0; DATAGRAM_MAX];
        if let Some(len) = self.net.poll_heartbeat(now, trace, &mut datagram)
            && let Some(bytes) = datagram.get(..len)
        {
            post.post(Destination::All, bytes);
        }
    }

    /// The last frame of this life: it submits nothing any more.
    pub(crate) fn say_halted(&mut self, now: Instant, post: &mut dyn Post, trace: &mut Trace<'_>) {
        let mut datagram = [0; DATAGRAM_MAX];
        if let Some(len) = self.net.halt(now, trace, &mut datagram)
            && let Some(bytes) = datagram.get(..len)
        {
            post.post(Destination::All, bytes);
        }
    }

    pub(crate) fn acknowledge(
        &mut self,
        now: Instant,
        level: LevelOrder,
        change: &Change,
        post: &mut dyn Post,
        trace: &mut Trace<'_>,
    ) -> bool {
        let mut ctx = Context { now, lock: &mut self.lock, net: &mut self.net, post, trace };
        self.membership.acknowledge(level, change, &mut ctx)
    }

    /// Whether this node's lease stands, or it needs none, or it ran out and the lock's machine has noticed it.
    pub(crate) fn lease_in_hand(&self, now: Instant) -> bool {
        !self.lock.frozen(now) || self.lock.knows_frozen()
    }

    /// Whether there is another message for group services.
    pub(crate) fn has_group_message(&self) -> bool {
        !self.group_messages.is_empty()
    }

    /// Whether another would be kept.
    pub(crate) fn has_room_for_group_message(&self) -> bool {
        !self.group_messages.is_full()
    }

    /// The next message for group services.
    pub(crate) fn take_group_message(&mut self) -> Option<GroupMessage> {
        self.group_messages.pop_front()
    }

    /// Seals and posts a message of group services.
    pub(crate) fn post_group(&mut self, to: Destination, payload: &[u8], post: &mut dyn Post, trace: &mut Trace<'_>) {
        let mut datagram = [0; DATAGRAM_MAX];
        if let Ok(len) = self.net.send_on(Channel::Groups, to, payload, trace, &mut datagram)
            && let Some(bytes) = datagram.get(..len)
        {
            post.post(to, bytes);
        }
    }

    /// Whether a request of group services may be begun.
    pub(crate) fn group_disk_is_free(&self) -> bool {
        matches!(self.group_disk, GroupDisk::Free)
    }

    /// Begins one. A write is bound to the lease, and is not begun without one.
    pub(crate) fn begin_group_disk(&mut self, now: Instant, op: DiskOp) {
        self.group_disk = match op {
            DiskOp::Write { at, record, .. } => {
                let until = self.lock.lease_until();
                if self.lock.frozen(now) || now >= until || !self.lock.is_open() {
                    GroupDisk::Done(Err(DiskError::Frozen))
                } else {
                    GroupDisk::Asked(DiskOp::Write { at, record, not_after: Some(until) })
                }
            }
            read @ DiskOp::Read { .. } => GroupDisk::Asked(read),
        };
    }

    /// What became of it.
    pub(crate) fn take_group_disk(&mut self) -> Option<Result<GroupRecords, DiskError>> {
        match core::mem::take(&mut self.group_disk) {
            GroupDisk::Done(result) => Some(result),
            other => {
                self.group_disk = other;
                None
            }
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        if let GroupDisk::Asked(op) = &self.group_disk {
            let op = op.clone();
            self.group_disk = GroupDisk::UnderWay;
            return Some(Output::Disk { tag: GROUPS_TAG, op });
        }
        if let Some(op) = self.command.take() {
            return Some(Output::Reservation { tag: OWN, op });
        }
        match self.membership.poll_command() {
            Some(Command::Reservation(op)) => return Some(Output::Reservation { tag: FENCE, op }),
            Some(Command::Heartbeat(node)) => {
                let op = DiskOp::Read { first: layout::heartbeat(node), count: 1 };
                return Some(Output::Disk { tag: FENCE_TAG, op });
            }
            None => {}
        }
        self.disk.take().map(|(tag, op)| Output::Disk { tag, op })
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        let own = match self.verify {
            Verify::At(at) => at,
            Verify::Reading => Instant::FAR,
            Verify::Done => self.lock.poll_timeout().min(self.membership.poll_timeout()),
        };
        own.min(self.net.poll_timeout())
    }
}
