//! One machine: a node that runs or does not, its levels, its clock.

use quorate_base::{DiskOp, DiskTag, HaltReason, Instant, LevelDecl, LevelOrder, NodeId};
use quorate_interconnect::stack::StackCounters;
use quorate_node::{LevelStatus, Node, ProbeLevel, Probes};

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
    /// The levels beside membership that its next boot declares.
    pub levels: Vec<ProbeLevel>,
    /// Those that its last boot declared.
    pub(crate) booted_with: Vec<ProbeLevel>,
    /// Boots so far.
    pub boots: u64,
    booted_at: u64,
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
    /// Why the last life halted by itself.
    pub halted: Option<HaltReason>,
}

/// What waits for a paused machine.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Disk(u64),
    Answer(Box<crate::disk::Request>),
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
            levels: Vec::new(),
            booted_with: Vec::new(),
            boots: 0,
            booted_at: 0,
            ended_at: 0,
            born_unclean: false,
            ppm: 0,
            paused: false,
            frozen_at: None,
            stood_us: 0,
            plays: id,
            held: Vec::new(),
            wire: Wire::new(id),
            wake_at: u64::MAX,
            ticks: 0,
            ticks_since: 0,
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

    /// Whether it was stopped from outside, with its clock or without.
    pub fn stands_still(&self) -> bool {
        self.paused || self.frozen_at.is_some()
    }

    pub(crate) fn freeze(&mut self, now: u64) {
        self.frozen_at.get_or_insert(now);
    }

    /// False if it was not frozen.
    pub(crate) fn thaw(&mut self, now: u64) -> bool {
        let Some(since) = self.frozen_at.take() else { return false };
        self.stood_us += now - since;
        true
    }

    pub(crate) fn power_on(&mut self, now: u64, node: Node, ppm: i64) {
        self.node = Some(Box::new(node));
        self.probes = self.levels.iter().cloned().collect();
        self.booted_with.clone_from(&self.levels);
        self.boots += 1;
        self.booted_at = now;
        self.ppm = ppm;
        self.paused = false;
        (self.frozen_at, self.stood_us) = (None, 0);
        self.held.clear();
        self.wire = Wire::new(self.id);
        self.halted = None;
        (self.wake_at, self.ticks, self.ticks_since) = (u64::MAX, 0, now);
    }

    pub(crate) fn power_off(&mut self, now: u64) {
        self.ended_at = now;
        self.node = None;
        self.probes = Probes::new();
        self.paused = false;
        self.frozen_at = None;
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
        let at = own.min(self.probes.poll_timeout());
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
pub(crate) fn declarations(levels: &[ProbeLevel]) -> Vec<LevelDecl<'_>> {
    let mut all = vec![LevelDecl::new(0, "membership")];
    all.extend(levels.iter().map(ProbeLevel::decl));
    all.sort_by_key(|l| l.order);
    all
}
