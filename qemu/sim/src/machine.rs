//! One machine: a node that runs or does not, its levels, its clock.

use quorate_base::{Ballot, DiskOp, DiskTag, HaltReason, Instant, LevelDecl, LevelOrder, NodeId};
use quorate_interconnect::stack::StackCounters;
use quorate_node::{Groups, LevelStatus, Node, ProbeLevel, Probes};

use crate::watchdog::Watchdog;
use crate::wire::{Frame, Wire};

/// Ticks of a node in one second of its time, at most. A node that has nothing to do sleeps; one that wakes more often
/// spins.
pub(crate) const TICKS_MAX: u32 = 10_000;

/// A machine.
#[derive(Debug)]
pub struct Machine {
    /// The node id that it is configured for.
    pub id: NodeId,
    pub(crate) node: Option<Box<Node>>,
    pub(crate) probes: Probes,
    /// Its next boot has group services, level 10.
    pub(crate) with_groups: bool,
    pub(crate) groups: Option<Box<Groups>>,
    /// What its next boot says of its kernel: version and command line.
    pub(crate) kernel: (String, String),
    /// The levels beside membership that its next boot declares.
    pub levels: Vec<ProbeLevel>,
    /// Those that its last boot declared.
    pub(crate) booted_with: Vec<ProbeLevel>,
    /// Boots so far.
    pub boots: u64,
    pub(crate) booted_at: u64,
    /// When its last life ended, run time, µs.
    pub(crate) ended_at: u64,
    /// At its last boot its heartbeat block showed a life without a clean end.
    pub(crate) born_unclean: bool,
    /// How much faster its clock runs, in parts per million.
    pub(crate) ppm: i64,
    /// Its processor stands still; its clock does not.
    pub(crate) paused: bool,
    /// The moment of the run at which the whole machine was stopped, its clock with it.
    pub(crate) frozen_at: Option<u64>,
    /// Its kernel hangs with interrupts off since then, run time, µs: only a reset ends that.
    pub(crate) hung_at: Option<u64>,
    pub(crate) dog: Watchdog,
    /// So often its watchdog has reset it.
    pub resets: u64,
    /// For so long its clock stood still in this life, µs.
    stood_us: u64,
    /// The node id that it was told at its boot; its own, unless two machines are to run under one.
    pub(crate) plays: NodeId,
    pub(crate) held: Vec<Held>,
    /// Its end of the interconnect.
    pub(crate) wire: Wire,
    /// When its next tick is scheduled, run time.
    pub(crate) wake_at: u64,
    ticks: u32,
    ticks_since: u64,
    /// The ballot that its node obeyed after its last turn, and in which boot.
    pub(crate) obeys: (u64, Ballot),
    /// Why the last life halted by itself.
    pub halted: Option<HaltReason>,
}

/// What waits for a paused machine.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Disk(u64),
    Answer(Box<crate::disk::Request>),
    /// The answer to a reservation command; whether it was aborted meanwhile.
    Command(u64, bool),
    /// What its node asked of the disk in its last turn: it stood still before the doorbell.
    Asked(DiskTag, Box<DiskOp>),
    /// What that turn was to send.
    Frames(Vec<Frame>),
}

impl Machine {
    pub(crate) fn new(id: NodeId) -> Self {
        Self {
            id,
            node: None,
            probes: Probes::new(),
            with_groups: false,
            groups: None,
            kernel: (env!("CARGO_PKG_VERSION").to_owned(), String::new()),
            levels: Vec::new(),
            booted_with: Vec::new(),
            boots: 0,
            booted_at: 0,
            ended_at: 0,
            born_unclean: false,
            ppm: 0,
            paused: false,
            frozen_at: None,
            hung_at: None,
            dog: Watchdog::armed(0),
            resets: 0,
            stood_us: 0,
            plays: id,
            held: Vec::new(),
            wire: Wire::new(id),
            wake_at: u64::MAX,
            ticks: 0,
            ticks_since: 0,
            obeys: (0, Ballot::NONE),
            halted: None,
        }
    }

    /// Its node, while it runs.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_deref()
    }

    /// What its stack counted in this life; zeros while it has none.
    pub fn stack_counters(&self) -> StackCounters {
        self.wire.counters()
    }

    /// Frames of this life that found its NIC's ring full.
    pub fn frames_overrun(&self) -> u64 {
        self.wire.overrun
    }

    /// Whether its node has this level, static or registered at run time, and no master refused it.
    pub fn has_level(&self, order: LevelOrder) -> bool {
        let status = self.node().and_then(Node::membership).and_then(|m| m.level_status(order));
        matches!(status, Some(LevelStatus::At(_)))
    }

    /// Whether it runs and does not stand still.
    pub fn is_live(&self) -> bool {
        self.node.is_some() && !self.stands_still()
    }

    /// Whether it was stopped from outside, with its clock or without, or hangs.
    pub fn stands_still(&self) -> bool {
        self.paused || self.frozen_at.is_some() || self.hung_at.is_some()
    }

    pub(crate) fn freeze(&mut self, now: u64) {
        self.frozen_at.get_or_insert(now);
    }

    /// For how long it was frozen, µs; `None` if it was not.
    pub(crate) fn thaw(&mut self, now: u64) -> Option<u64> {
        let stood_us = now - self.frozen_at.take()?;
        self.stood_us += stood_us;
        Some(stood_us)
    }

    pub(crate) fn power_on(&mut self, now: u64, node: Box<Node>, ppm: i64) {
        self.node = Some(node);
        self.probes = self.levels.iter().cloned().collect();
        self.groups = self.with_groups.then(Box::default);
        self.booted_with.clone_from(&self.levels);
        self.boots += 1;
        self.booted_at = now;
        self.ppm = ppm;
        self.paused = false;
        (self.frozen_at, self.stood_us) = (None, 0);
        self.hung_at = None;
        self.dog = Watchdog::armed(now);
        self.held.clear();
        self.wire = Wire::new(self.id);
        self.halted = None;
        (self.wake_at, self.ticks, self.ticks_since) = (u64::MAX, 0, now);
    }

    pub(crate) fn power_off(&mut self, now: u64) {
        self.ended_at = now;
        self.node = None;
        self.probes = Probes::new();
        self.groups = None;
        self.paused = false;
        self.frozen_at = None;
        self.hung_at = None;
        self.held.clear();
        self.wire = Wire::new(self.id);
        self.wake_at = u64::MAX;
    }

    /// Its clock at a moment of the run.
    pub(crate) fn clock(&self, now: u64) -> Instant {
        let stopped = self.frozen_at.unwrap_or(now).min(now);
        let since = stopped.saturating_sub(self.booted_at + self.stood_us) as i64;
        Instant((since + since * self.ppm / 1_000_000) as u64)
    }

    /// The moment of the run at which its clock has reached `at`.
    fn moment(&self, at: Instant) -> u64 {
        // What is 200 days away is as far as `Instant::FAR`.
        let Some(wanted) = at.0.checked_mul(1_000_000) else { return u64::MAX };
        self.booted_at + self.stood_us + wanted.div_ceil(1_000_000_u64.saturating_add_signed(self.ppm))
    }

    /// When it has something to do without an input.
    pub(crate) fn due(&self, now: u64) -> u64 {
        let Some(node) = &self.node else { return u64::MAX };
        let own = node.poll_timeout().min(self.wire.poll_timeout(self.clock(now)));
        let groups = self.groups.as_ref().map_or(Instant::FAR, |groups| groups.poll_timeout());
        let at = own.min(groups).min(self.probes.poll_timeout()).min(self.dog.patting.poll_timeout());
        self.moment(at)
    }

    /// Counts a tick. False if there are too many.
    pub(crate) fn count_tick(&mut self, now: u64) -> bool {
        if now >= self.ticks_since + 1_000_000 {
            (self.ticks, self.ticks_since) = (0, now);
        }
        self.ticks += 1;
        self.ticks <= TICKS_MAX
    }
}

/// The levels of a node: membership and what the run declares.
pub(crate) fn declarations(levels: &[ProbeLevel], groups: bool) -> Vec<LevelDecl<'_>> {
    let mut all = vec![LevelDecl::new(0, "membership")];
    all.extend(groups.then_some(quorate_groups::LEVEL));
    all.extend(levels.iter().map(ProbeLevel::decl));
    all.sort_by_key(|l| l.order);
    all
}
