//! A running cluster on which to measure: start, wait for lines, kill, with the times of what came.

use std::sync::Arc;

use quorate_base::{Barriers, NodeId, NodeSet, NodeState};
use quorate_launch::{Nic, Tools};
use quorate_scenario::Trouble;
use quorate_scenario::backend::Backend;
use quorate_scenario::belief::{Beliefs, SeenView};
use quorate_scenario::model::{Level, MachineVerb, StartOptions};
use quorate_scenario::qemu::{World, WorldOptions};
use quorate_trace::Line;

/// Nothing that is measured takes longer, µs.
const PATIENCE_US: u64 = 60_000_000;

/// So many lines of each node are told when something does not come about.
const LAST_LINES: usize = 12;

/// What clusters are made on.
#[derive(Clone, Copy, Debug)]
pub struct Bed<'a> {
    /// QEMU and the node image.
    pub tools: &'a Tools,
    /// The NICs' model.
    pub nic: Nic,
}

/// A cluster and what its nodes believe.
#[derive(Debug)]
pub struct Rig {
    /// The machines.
    pub world: World,
    /// What the nodes believe.
    pub beliefs: Beliefs,
    /// All nodes.
    pub nodes: NodeSet,
    seen: usize,
}

/// A level that does no work.
pub fn level(order: u16, name: &str, joining: u8) -> Level {
    let barriers = Barriers { joining, ..Barriers::ONE };
    Level {
        order,
        name: name.to_owned(),
        barriers,
        work_ms: 0,
        hang: NodeSet::EMPTY,
        only_on: None,
        everywhere: true,
        deadline_ms: 0,
    }
}

/// Whether a line is the adoption of a view in which `subject` is in a state, in its present life as the view has it.
pub fn has_state(line: &Line, subject: NodeId, state: NodeState) -> bool {
    line.ev == "view" && SeenView::of(line).is_some_and(|v| v.of_node(subject).0 == state)
}

impl Rig {
    /// Makes a cluster with default timing; nothing is started yet.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(nodes: u8, levels: Vec<Level>, bed: Bed<'_>) -> Result<Self, Trouble> {
        Self::of(WorldOptions { levels, ..WorldOptions::new(nodes) }, bed)
    }

    /// Makes a cluster; nothing is started yet.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn of(options: WorldOptions, bed: Bed<'_>) -> Result<Self, Trouble> {
        let nodes = options.nodes;
        let world = World::new(WorldOptions { nic: bed.nic, ..options }, bed.tools)?;
        Ok(Self { world, beliefs: Beliefs::default(), nodes: NodeSet::first(nodes), seen: 0 })
    }

    /// Starts a node and returns when, µs.
    ///
    /// # Errors
    /// If it cannot.
    pub fn start(&mut self, node: NodeId) -> Result<u64, Trouble> {
        self.take();
        self.beliefs.begin(node);
        let at = self.world.now_us();
        self.world.start(node, &StartOptions::default())?;
        Ok(at)
    }

    /// Starts all and waits until all are joined.
    ///
    /// # Errors
    /// If they do not join.
    pub fn start_all(&mut self) -> Result<(), Trouble> {
        for node in self.nodes {
            self.start(node)?;
        }
        self.wait_joined(self.nodes)
    }

    /// Ends nodes' processes and returns when, µs.
    ///
    /// # Errors
    /// If it cannot.
    pub fn kill(&mut self, nodes: NodeSet) -> Result<u64, Trouble> {
        let at = self.world.now_us();
        self.world.kill(nodes)?;
        Ok(at)
    }

    /// Asks a node to leave and returns when, µs.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn leave(&mut self, node: NodeId) -> Result<u64, Trouble> {
        let at = self.world.now_us();
        self.world.machine(MachineVerb::Leave, node)?;
        Ok(at)
    }

    fn take(&mut self) -> Vec<Arc<Line>> {
        let lines = self.world.lines(self.seen);
        self.seen += lines.len();
        lines.iter().for_each(|l| self.beliefs.take(l));
        lines
    }

    /// Takes lines until `done` says so of one; it is given every line and the beliefs after it.
    ///
    /// # Errors
    /// If that takes too long.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Line, &Beliefs) -> bool) -> Result<Arc<Line>, Trouble> {
        let until_us = self.world.now_us() + PATIENCE_US;
        loop {
            for line in self.world.lines(self.seen) {
                self.seen += 1;
                self.beliefs.take(&line);
                if done(&line, &self.beliefs) {
                    return Ok(line);
                }
            }
            if self.world.now_us() >= until_us {
                return Err(Trouble::Failed(format!("bench: {what} did not come about\n{}", self.last_lines())));
            }
            self.world.wait(self.seen, until_us)?;
        }
    }

    /// What each node traced last, and the harness.
    fn last_lines(&mut self) -> String {
        let lines = self.world.lines(0);
        let mut told = Vec::new();
        for node in self.nodes.iter().map(|n| Some(n.get())).chain([None]) {
            let of_node: Vec<_> = lines.iter().filter(|l| l.node == node).collect();
            let from = of_node.len().saturating_sub(LAST_LINES);
            told.extend(of_node.iter().skip(from).map(|l| l.to_json()));
        }
        told.join("\n")
    }

    /// Waits until each of `nodes` has adopted a view in which all of them are joined in their present life.
    ///
    /// # Errors
    /// If that takes too long.
    pub fn wait_joined(&mut self, nodes: NodeSet) -> Result<(), Trouble> {
        let joined = move |beliefs: &Beliefs| {
            let sees = |viewer: NodeId, n: NodeId| {
                let (seen, inc) = (beliefs.life(viewer).sees(n, None), beliefs.life(n).inc);
                seen.is_some_and(|(state, seen_inc)| state == NodeState::Joined && Some(seen_inc) == inc)
            };
            nodes.iter().all(|viewer| nodes.iter().all(|n| sees(viewer, n)))
        };
        self.take();
        if joined(&self.beliefs) {
            return Ok(());
        }
        self.until("that all are joined", |_, beliefs| joined(beliefs)).map(drop)
    }

    /// Waits until every one of `viewers` has adopted a view in which `subject` is inactive; the last one's line.
    ///
    /// # Errors
    /// If that takes too long.
    pub fn wait_inactive(&mut self, subject: NodeId, viewers: NodeSet) -> Result<Arc<Line>, Trouble> {
        let mut left = viewers;
        self.until("that the node is inactive everywhere", |line, _| {
            if has_state(line, subject, NodeState::Inactive)
                && let Some(node) = line.node.and_then(NodeId::new)
            {
                left.remove(node);
            }
            left.is_empty()
        })
    }

    /// The master now.
    ///
    /// # Errors
    /// If there is none.
    pub fn master(&mut self) -> Result<NodeId, Trouble> {
        self.take();
        let live = self.nodes.iter().filter(|n| self.world.runs(*n)).collect();
        self.beliefs.master(live).ok_or_else(|| Trouble::Failed("bench: there is no master".to_owned()))
    }
}

/// Seconds between two times in µs.
pub fn seconds(from_us: u64, to_us: u64) -> f64 {
    to_us.saturating_sub(from_us) as f64 / 1e6
}
