//! Birth of an incarnation (DESIGN 3): who am I, may I run, is somebody else running under my id; then the identity is
//! written.
//!
//! ```text
//! superblock → configuration → own records → [ watch the old heartbeat for `dead` ]
//!   → [ registered with the reservation, proved, identity read again ] → identity written
//!   → [ a beat ] → read back → first heartbeat → read back → ballot block open
//! ```
//! The caller has ended this port's old requests before (ABORT TASK SET or a reset). What the second line shows is not done
//! here: the first reading back is the node's next stage, because the interconnect may already listen meanwhile; the second
//! one is the lock's, which is sure then that no other machine writes this node's blocks (`identity.rs` there).
//!
//! Invariant: nothing is written but the identity block, and that only after the old heartbeat was clean, this very
//! machine's, or still for `dead`.

use quorate_base::capacity::{NODES_MAX, READ_RECORDS_MAX, RECORD_PITCH};
use quorate_base::reservation::ReservationAnswer;
use quorate_base::{
    BootNonce, ClusterId, DiskError, DiskOp, DiskTag, FenceMethod, HaltReason, Incarnation, Instant, NodeId,
    ReservationError, ReservationKey, ReservationOp,
};
use quorate_database::{
    BallotBlock, Block, EndAction, FindError, Heartbeat, Identity, LastLife, MachineId, NodeConfig, RecordError,
    Superblock, SuperblockError, find_node, layout,
};
use quorate_master_lock::{DiskGeometry, OwnIdentity, OwnRecords, Refusal, Registration};

/// What a node is told when it boots.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Boot {
    /// `node=N` of the command line, if given.
    pub node: Option<NodeId>,
    /// What the machine is, as far as it is known: SMBIOS UUID and NIC address.
    pub machine: MachineId,
    /// 64 random bits, fresh at each boot.
    pub nonce: BootNonce,
    /// The cluster this machine belongs to, if it is told; a disk of another one is foreign.
    pub cluster: Option<ClusterId>,
    /// Where the database's partition begins, for the trace of shared writes.
    pub geometry: DiskGeometry,
    /// Trace shared writes and leases.
    pub trace_writes: bool,
}

/// Everything birth found out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Born {
    /// This node.
    pub me: NodeId,
    /// This life.
    pub incarnation: Incarnation,
    /// The cluster's superblock.
    pub superblock: Superblock,
    /// The nodes' weights in arbitration.
    pub weights: [u8; NODES_MAX],
    /// This node's records as the old life left them.
    pub own: OwnRecords,
    /// All frame counters of the old life are below this.
    pub frame_floor: u64,
    /// The highest Lamport clock of the old life that was found.
    pub lamport: u64,
    /// The identity as it was written and what stands beside it.
    pub identity: OwnIdentity,
    /// The registration with the reservation, if the cluster fences by it.
    pub registration: Option<Registration>,
}

/// What birth is doing. Each step is one read or write.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Step {
    Superblock,
    Configs {
        next: u8,
    },
    Identity,
    State,
    Watch {
        since: Instant,
        next: Instant,
        reading: bool,
    },
    /// Registering with the reservation.
    Register,
    /// The identity is read again after that: another machine may have come to this life's number meanwhile.
    Again,
    Write,
    Done,
}

/// The machine. Public for those who step it alone: a node composes it by itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Birth {
    boot: Boot,
    step: Step,
    retry_at: Instant,
    tries: u8,
    waiting: bool,
    superblock: Option<Superblock>,
    configs: [Block<NodeConfig>; NODES_MAX],
    me: Option<NodeId>,
    life: LastLife,
    own: OwnRecords,
    registration: Option<Registration>,
    born: Option<Born>,
}

/// One result of a call.
#[expect(clippy::large_enum_variant, reason = "a record travels by value: there is no allocator")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BirthOutput {
    /// Begin a disk request.
    Disk(DiskTag, DiskOp),
    /// Begin a reservation command: [`Birth::reservation`] takes its answer.
    Reservation(ReservationOp),
    /// The node must halt.
    Halt(HaltReason),
    /// The identity is written: [`Birth::take_born`].
    Born,
}

/// The one tag that birth uses: one request at a time.
pub(crate) const BIRTH_TAG: DiskTag = DiskTag(0);
/// A read that fails is tried again so often before the node halts.
const TRIES_MAX: u8 = 5;
/// Pause between two tries, µs.
const RETRY_US: u64 = 100_000;

impl Birth {
    /// Begins with reading the superblock.
    pub fn new(boot: Boot) -> Self {
        Self {
            boot,
            step: Step::Superblock,
            retry_at: Instant::ZERO,
            tries: 0,
            waiting: false,
            superblock: None,
            configs: [const { Block::Unread }; NODES_MAX],
            me: None,
            life: LastLife::Never,
            own: OwnRecords::default(),
            registration: None,
            born: None,
        }
    }

    pub(crate) fn boot(&self) -> &Boot {
        &self.boot
    }

    pub(crate) fn me(&self) -> Option<NodeId> {
        self.me
    }

    /// What was found out, once.
    pub fn take_born(&mut self) -> Option<Born> {
        self.born.take()
    }

    /// What this node's record says to do at the end: after a graceful leave, and after any other end.
    pub(crate) fn ends(&self) -> Option<(EndAction, EndAction)> {
        let config = self.configs[self.me?.index()].good()?;
        Some((config.on_shutdown, config.on_panic))
    }

    /// What is being waited for, in words.
    pub(crate) fn waits_for(&self) -> &'static str {
        match self.step {
            Step::Superblock => "reading the superblock",
            Step::Configs { .. } => "reading the node configuration",
            Step::Identity | Step::State => "reading this node's own records",
            Step::Watch { .. } => "watching whether this node's old heartbeat still moves",
            Step::Register => "registering with the shared disk's reservation",
            Step::Again => "reading this node's identity again",
            Step::Write => "writing this node's identity",
            Step::Done => "born",
        }
    }

    /// When [`poll`](Self::poll) is due.
    pub fn poll_timeout(&self) -> Instant {
        match self.step {
            _ if self.waiting => Instant::FAR,
            Step::Watch { next, .. } => next,
            Step::Register => self.registration.as_ref().map_or(Instant::ZERO, Registration::poll_timeout),
            Step::Done => Instant::FAR,
            _ => self.retry_at,
        }
    }

    /// The next request, if one is due.
    pub fn poll(&mut self, now: Instant) -> Option<BirthOutput> {
        if self.waiting || now < self.poll_timeout() {
            return None;
        }
        let op = match &mut self.step {
            Step::Superblock => DiskOp::Read { first: layout::superblock(0), count: 2 },
            Step::Configs { next } => {
                let nodes = self.superblock.as_ref().map_or(0, |s| s.nodes);
                let count = u16::from(nodes.saturating_sub(*next)).min(READ_RECORDS_MAX as u16);
                DiskOp::Read { first: layout::CONFIG_FIRST + u64::from(*next), count }
            }
            Step::Identity | Step::Again => DiskOp::Read { first: layout::identity(self.me?, 0), count: 2 },
            Step::State => DiskOp::Read { first: layout::heartbeat(self.me?), count: layout::STATE_PER_NODE as u16 },
            Step::Watch { reading, .. } => {
                *reading = true;
                DiskOp::Read { first: layout::heartbeat(self.me?), count: 1 }
            }
            Step::Register => return self.poll_registration(now),
            Step::Write => return self.write_identity(),
            Step::Done => return None,
        };
        self.waiting = true;
        Some(BirthOutput::Disk(BIRTH_TAG, op))
    }

    /// A completion came.
    pub fn completed(&mut self, now: Instant, result: Result<&[u8], DiskError>) -> Option<BirthOutput> {
        if !core::mem::take(&mut self.waiting) {
            return None;
        }
        let done = match result {
            Ok(bytes) => {
                self.tries = 0;
                self.take(now, bytes)
            }
            Err(error) if self.is_unregistered(error) => {
                self.retry_at = now;
                Ok(())
            }
            // What cannot be read in one piece may still be readable but for one block; birth needs them all.
            Err(error) if self.tries + 1 >= TRIES_MAX => Err(HaltReason::Disk { error }),
            Err(_) => {
                self.tries += 1;
                self.retry_at = now.plus_us(RETRY_US);
                Ok(())
            }
        };
        match done {
            Err(reason) => Some(BirthOutput::Halt(reason)),
            Ok(()) if self.step == Step::Done => Some(BirthOutput::Born),
            Ok(()) => None,
        }
    }

    fn take(&mut self, now: Instant, bytes: &[u8]) -> Result<(), HaltReason> {
        match self.step {
            Step::Superblock => self.take_superblock(bytes),
            Step::Configs { next } => self.take_configs(next, bytes),
            Step::Identity => self.take_identity(bytes),
            Step::State => self.take_state(now, bytes),
            Step::Watch { since, .. } => self.take_watch(now, since, bytes),
            Step::Again => self.take_again(bytes),
            Step::Register => Ok(()),
            Step::Write => {
                self.step = Step::Done;
                Ok(())
            }
            Step::Done => Ok(()),
        }
    }

    fn take_superblock(&mut self, bytes: &[u8]) -> Result<(), HaltReason> {
        let copies = [Superblock::decode(record(bytes, 0), 0), Superblock::decode(record(bytes, 1), 1)];
        let superblock = match Superblock::newest([&copies[0], &copies[1]]) {
            Ok(superblock) => superblock.clone(),
            Err(SuperblockError::Version(found)) => return Err(HaltReason::WrongVersion { found }),
            Err(SuperblockError::TwoClusters) => return Err(HaltReason::ForeignDisk),
            Err(SuperblockError::Unreadable(error)) => return Err(HaltReason::Disk { error }),
            Err(SuperblockError::Blank | SuperblockError::Damaged(_)) => return Err(HaltReason::SuperblockDamaged),
        };
        if self.boot.cluster.is_some_and(|c| c != superblock.cluster) {
            return Err(HaltReason::ForeignDisk);
        }
        superblock.check_timing().map_err(|_| HaltReason::BadTiming)?;
        self.superblock = Some(superblock);
        self.step = Step::Configs { next: 0 };
        Ok(())
    }

    fn take_configs(&mut self, next: u8, bytes: &[u8]) -> Result<(), HaltReason> {
        let Some(superblock) = &self.superblock else { return Err(impossible()) };
        let count = usize::from(superblock.nodes.saturating_sub(next)).min(READ_RECORDS_MAX);
        for (i, n) in NodeId::first(superblock.nodes).skip(usize::from(next)).take(count).enumerate() {
            self.configs[n.index()] = NodeConfig::decode(record(bytes, i), superblock.cluster, n);
        }
        let next = next + count as u8;
        if next < superblock.nodes {
            self.step = Step::Configs { next };
            return Ok(());
        }
        let me = self.find_me(superblock.nodes)?;
        match &self.configs[me.index()] {
            Block::Good(config) if config.enabled => {}
            Block::Good(_) => return Err(HaltReason::Disabled { node: me }),
            Block::Blank => return Err(HaltReason::NotConfigured),
            _ => return Err(HaltReason::DatabaseDamaged { what: "this node's configuration record" }),
        }
        self.me = Some(me);
        self.step = Step::Identity;
        Ok(())
    }

    fn find_me(&self, nodes: u8) -> Result<NodeId, HaltReason> {
        if let Some(node) = self.boot.node {
            return if node.get() < nodes { Ok(node) } else { Err(HaltReason::NotConfigured) };
        }
        let configs = NodeId::first(nodes).filter_map(|n| self.configs[n.index()].good().map(|c| (n, c)));
        find_node(configs, self.boot.machine.uuid, self.boot.machine.mac).map_err(|e| match e {
            FindError::NotConfigured => HaltReason::NotConfigured,
            FindError::Ambiguous(..) => HaltReason::DatabaseDamaged { what: "two node records name this machine" },
        })
    }

    fn take_identity(&mut self, bytes: &[u8]) -> Result<(), HaltReason> {
        let (Some(superblock), Some(me)) = (&self.superblock, self.me) else { return Err(impossible()) };
        let slots = [0, 1].map(|slot| {
            let bytes = record(bytes, usize::from(slot));
            superblock.blanks.judge(bytes, Identity::decode(bytes, superblock.cluster, me, slot))
        });
        self.life = Identity::last_life([&slots[0], &slots[1]]);
        self.step = Step::State;
        Ok(())
    }

    fn take_state(&mut self, now: Instant, bytes: &[u8]) -> Result<(), HaltReason> {
        let (Some(superblock), Some(me)) = (&self.superblock, self.me) else { return Err(impossible()) };
        let heartbeat = heartbeat(superblock, me, bytes);
        let ballots = [0, 1].map(|slot| {
            let bytes = record(bytes, 1 + usize::from(slot));
            superblock.blanks.judge(bytes, BallotBlock::decode(bytes, superblock.cluster, me, slot))
        });
        let clean = match &heartbeat {
            Block::Blank => self.life == LastLife::Never,
            Block::Good(h) => h.clean && self.incarnation_of_identity().is_none_or(|i| i <= h.incarnation),
            _ => false,
        };
        self.own = OwnRecords { heartbeat, ballots, clean };
        let same_machine = match &self.life {
            LastLife::Known { identity, .. } => identity.machine.meets(&self.boot.machine),
            LastLife::Never | LastLife::Unknown => false,
        };
        let blank = matches!(self.own.heartbeat, Block::Blank);
        let timing = superblock.timing;
        self.last_incarnation()?;
        self.step = if clean || same_machine || blank {
            self.after_watch()
        } else {
            Step::Watch { since: now, next: now.plus_ms(timing.disk_heartbeat), reading: false }
        };
        Ok(())
    }

    fn take_watch(&mut self, now: Instant, since: Instant, bytes: &[u8]) -> Result<(), HaltReason> {
        let (Some(superblock), Some(me)) = (&self.superblock, self.me) else { return Err(impossible()) };
        let seen = heartbeat(superblock, me, bytes);
        let (old, new) = (self.own.heartbeat.good(), seen.good());
        if let Some(new) = new
            && old.is_none_or(|old| (old.nonce, old.counter) != (new.nonce, new.counter))
        {
            if new.clean {
                // It ended while it was watched.
                self.own.heartbeat = seen;
                self.own.clean = true;
                self.step = self.after_watch();
                return Ok(());
            }
            return Err(HaltReason::NodeIdInUse);
        }
        let timing = superblock.timing;
        self.step = if now.since_us(since) >= u64::from(timing.dead) * 1000 {
            self.after_watch()
        } else {
            Step::Watch { since, next: now.plus_ms(timing.disk_heartbeat), reading: false }
        };
        Ok(())
    }

    /// Nobody else runs under this id.
    fn after_watch(&self) -> Step {
        match self.superblock.as_ref().map(|s| s.fence) {
            Some(FenceMethod::Reservation) => Step::Register,
            Some(FenceMethod::Lease) | None => Step::Write,
        }
    }

    fn poll_registration(&mut self, now: Instant) -> Option<BirthOutput> {
        if self.registration.is_none() {
            let key = match self.next_incarnation() {
                Ok(incarnation) => ReservationKey::new(self.me?, incarnation, self.boot.nonce),
                Err(reason) => return Some(BirthOutput::Halt(reason)),
            };
            let registrants = self.superblock.as_ref().map_or(Default::default(), |s| s.registrants);
            self.registration = Some(Registration::new(key, registrants));
        }
        self.registration.as_mut()?.poll(now).map(BirthOutput::Reservation)
    }

    /// A reservation command is done.
    pub fn reservation(
        &mut self,
        now: Instant,
        result: Result<&ReservationAnswer, ReservationError>,
    ) -> Option<BirthOutput> {
        let registration = self.registration.as_mut()?;
        registration.answered(now, result);
        registration.looked();
        let refused = registration.refusal().map(|refusal| match refusal {
            Refusal::Unsupported => HaltReason::NoReservations,
            Refusal::Foreign(kind) => HaltReason::ForeignReservation { kind: kind.code() },
            Refusal::Failed(error) => HaltReason::Reservation { error },
        });
        if self.step == Step::Register && registration.stands() {
            self.step = Step::Again;
            self.retry_at = now;
        }
        refused.map(BirthOutput::Halt)
    }

    /// A read met a unit attention.
    pub fn attention(&mut self) {
        if let Some(registration) = &mut self.registration {
            registration.attention();
        }
    }

    /// The identity could not be written because the registration does not stand. True if that was it.
    fn is_unregistered(&mut self, error: DiskError) -> bool {
        let Some(registration) = self.registration.as_mut().filter(|_| self.step == Step::Write) else { return false };
        match error {
            DiskError::Conflict => registration.conflict(),
            DiskError::Attention(_) => registration.attention(),
            _ => return false,
        }
        self.register_again();
        true
    }

    fn register_again(&mut self) {
        self.step = Step::Register;
        if let Some(registration) = &mut self.registration {
            // No view knows this life. What another machine did under its number shows when the identity is read again.
            registration.looked();
        }
    }

    /// Whoever registered a life of this node meanwhile, and wrote its identity, is there.
    fn take_again(&mut self, bytes: &[u8]) -> Result<(), HaltReason> {
        let before = self.life;
        self.take_identity(bytes)?;
        let mine = matches!(self.life, LastLife::Known { identity, .. } if identity.nonce == self.boot.nonce);
        if self.life != before && !mine {
            return Err(HaltReason::NodeIdInUse);
        }
        self.life = before;
        self.step = Step::Write;
        if self.registration.as_ref().is_some_and(|registration| !registration.stands()) {
            self.register_again();
        }
        Ok(())
    }

    fn next_incarnation(&self) -> Result<Incarnation, HaltReason> {
        let last = self.last_incarnation()?;
        // Another machine may have torn the record of a life that had begun under the next number: two booted under this id.
        let doubtful = matches!(self.life, LastLife::Known { doubtful: true, .. });
        let next = if doubtful { last.next().and_then(Incarnation::next) } else { last.next() };
        next.ok_or(HaltReason::DatabaseDamaged { what: "incarnations are used up" })
    }

    fn incarnation_of_identity(&self) -> Option<Incarnation> {
        match &self.life {
            LastLife::Known { identity, .. } => Some(identity.incarnation),
            LastLife::Never | LastLife::Unknown => None,
        }
    }

    /// The highest incarnation that any of this node's own records tells of, or why that cannot be known.
    fn last_incarnation(&self) -> Result<Incarnation, HaltReason> {
        let heartbeat = self.own.heartbeat.good().map(|h| h.incarnation);
        let known = self.incarnation_of_identity();
        let unknown = self.life == LastLife::Unknown
            || matches!(self.life, LastLife::Known { doubtful: true, .. } if heartbeat.is_none());
        // Another place's heartbeat was misdirected here; this node never wrote one, for its identity comes first.
        let stray = matches!(self.own.heartbeat, Block::Damaged(RecordError::Misplaced));
        // Its first life ended while it wrote its first identity: none has beaten or promised anything.
        let ended_in_birth = self.own.heartbeat == Block::Blank && self.own.ballots.iter().all(|b| *b == Block::Blank);
        match known.max(heartbeat) {
            None if ended_in_birth => Ok(Incarnation::NEVER),
            None if unknown || self.own.heartbeat.is_unknown() && !stray => {
                Err(HaltReason::DatabaseDamaged { what: "this node's identity and heartbeat are both unreadable" })
            }
            found => {
                let ballots = self.own.ballots.iter().filter_map(|b| b.good()).map(|b| b.incarnation).max();
                Ok(found.max(ballots).unwrap_or(Incarnation::NEVER))
            }
        }
    }

    fn write_identity(&mut self) -> Option<BirthOutput> {
        let (Some(superblock), Some(me)) = (self.superblock.clone(), self.me) else {
            return Some(BirthOutput::Halt(impossible()));
        };
        let incarnation = match self.next_incarnation() {
            Err(reason) => return Some(BirthOutput::Halt(reason)),
            Ok(incarnation) => incarnation,
        };
        let (slot, beside) = match self.life {
            LastLife::Known { slot, identity, .. } => (1 - (slot & 1), Some(identity.nonce)),
            LastLife::Never | LastLife::Unknown => (0, None),
        };
        let identity = Identity { incarnation, nonce: self.boot.nonce, machine: self.boot.machine, nexus_reset: true };
        let record = identity.encode(superblock.cluster, me, slot);
        let mut weights = [1; NODES_MAX];
        for (weight, config) in weights.iter_mut().zip(&self.configs) {
            *weight = config.good().map_or(1, |c| c.weight);
        }
        let old = self.own.heartbeat.good();
        self.born = Some(Born {
            me,
            incarnation,
            superblock,
            weights,
            frame_floor: old.map_or(0, |h| h.frame_floor),
            lamport: self
                .own
                .ballots
                .iter()
                .filter_map(|b| b.good())
                .map(|b| b.lamport)
                .fold(old.map_or(0, |h| h.lamport), u64::max),
            own: self.own.clone(),
            identity: OwnIdentity { slot, beside },
            registration: self.registration.clone(),
        });
        self.waiting = true;
        Some(BirthOutput::Disk(BIRTH_TAG, DiskOp::Write { at: layout::identity(me, slot), record, not_after: None }))
    }
}

/// The heartbeat that a read of it gave.
fn heartbeat(superblock: &Superblock, me: NodeId, bytes: &[u8]) -> Block<Heartbeat> {
    let bytes = record(bytes, 0);
    superblock.blanks.judge(bytes, Heartbeat::decode(bytes, superblock.cluster, me))
}

/// The bytes of the `n`th record of a read; empty (and so no valid record) if they are missing.
fn record(bytes: &[u8], n: usize) -> &[u8] {
    let at = n * RECORD_PITCH as usize;
    bytes.get(at..).map_or(&[], |rest| rest.get(..RECORD_PITCH as usize).unwrap_or(rest))
}

fn impossible() -> HaltReason {
    HaltReason::Impossible { what: "birth without a superblock" }
}
