//! One machine: a node that runs or does not, its levels, its clock.

use quorate_base::{HaltReason, Instant, LevelDecl, LevelOrder, NodeId};
use quorate_node::{Node, Probe, ProbeLevel};

/// Ticks of a node in one second of its time, at most. A node that has nothing to do sleeps; one that wakes more often
/// spins.
pub(crate) const TICKS_MAX: u32 = 10_000;

/// A machine.
#[derive(Debug)]
pub struct Machine {
    /// The node id that it is configured for.
    pub id: NodeId,
    pub(crate) node: Option<Box<Node>>,
    pub(crate) probes: Vec<Probe>,
    /// The levels beside membership that its next boot declares.
    pub levels: Vec<ProbeLevel>,
    /// Boots so far.
    pub boots: u64,
    booted_at: u64,
    /// How much faster its clock runs, in parts per million.
    pub(crate) ppm: i64,
    /// Its processor stands still; its clock does not.
    pub(crate) paused: bool,
    pub(crate) held: Vec<Held>,
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
    Frame(std::rc::Rc<[u8]>),
}

impl Machine {
    pub(crate) fn new(id: NodeId) -> Self {
        Self {
            id,
            node: None,
            probes: Vec::new(),
            levels: Vec::new(),
            boots: 0,
            booted_at: 0,
            ppm: 0,
            paused: false,
            held: Vec::new(),
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

    /// Whether its node has this level.
    pub fn has_level(&self, order: LevelOrder) -> bool {
        order == LevelOrder::MEMBERSHIP || self.levels.iter().any(|l| l.order == order)
    }

    /// Whether it runs and is not paused.
    pub fn is_live(&self) -> bool {
        self.node.is_some() && !self.paused
    }

    pub(crate) fn power_on(&mut self, now: u64, node: Node, ppm: i64) {
        self.node = Some(Box::new(node));
        self.probes = self.levels.iter().cloned().map(Probe::new).collect();
        self.boots += 1;
        self.booted_at = now;
        self.ppm = ppm;
        self.paused = false;
        self.held.clear();
        self.halted = None;
        (self.wake_at, self.ticks, self.ticks_since) = (u64::MAX, 0, now);
    }

    pub(crate) fn power_off(&mut self) {
        self.node = None;
        self.probes.clear();
        self.paused = false;
        self.held.clear();
        self.wake_at = u64::MAX;
    }

    /// Its clock at a moment of the run.
    pub(crate) fn clock(&self, now: u64) -> Instant {
        let since = (now.saturating_sub(self.booted_at)) as i128;
        Instant((since + since * i128::from(self.ppm) / 1_000_000) as u64)
    }

    /// The moment of the run at which its clock has reached `at`.
    fn moment(&self, at: Instant) -> u64 {
        if at == Instant::FAR {
            return u64::MAX;
        }
        let wanted = i128::from(at.0) * 1_000_000;
        let rate = 1_000_000 + i128::from(self.ppm);
        let since = (wanted + rate - 1) / rate;
        self.booted_at.saturating_add(since.clamp(0, i128::from(u64::MAX / 2)) as u64)
    }

    /// When it has something to do without an input.
    pub(crate) fn due(&self) -> u64 {
        let Some(node) = &self.node else { return u64::MAX };
        let at = self.probes.iter().map(Probe::poll_timeout).fold(node.poll_timeout(), Instant::min);
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
