//! All that the live view shows: from the trace, from what nodes answer, from the harness's own counters. What is not known is
//! not there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use quorate_base::{NodeId, NodeSet, NodeState};
use quorate_launch::MachineState;
use quorate_scenario::belief::Beliefs;
use quorate_trace::Line;

use super::meter::Meter;
use super::status::Said;
use super::steps::Steps;
use crate::view::{Changes, Told};

/// Lines of the log that are kept.
const LOG_MAX: usize = 5000;

/// What a node said is old after so long, µs: it is asked twice a second.
const OLD_US: u64 = 3_000_000;

/// One machine beside what its node traces.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// What it is doing; `None`: it does not run.
    pub state: Option<MachineState>,
    /// When it was started, µs.
    pub started_us: Option<u64>,
    /// Frames that its node sent, and was given.
    pub frames: (Meter, Meter),
    /// Reads and writes of its disk.
    pub disk: (Meter, Meter),
    /// Its disk is stalled.
    pub stalled: bool,
    /// What its node said, and when, µs.
    pub said: Option<(u64, Said)>,
    /// It writes nothing more to the shared disk, for the time being.
    pub frozen: bool,
    /// Whom it suspects, on the network and on the disk.
    pub suspects: (NodeSet, NodeSet),
}

/// All of it.
#[derive(Debug, Default)]
pub struct Facts {
    /// Configured nodes.
    pub nodes: NodeSet,
    /// µs since the run began.
    pub now_us: u64,
    /// Of the whole run: fence and accelerator.
    pub about: String,
    /// What each node believes.
    pub beliefs: Beliefs,
    /// What is under way.
    pub steps: Steps,
    /// Links that are cut, lower node first.
    pub cuts: BTreeSet<(u8, u8)>,
    /// For people.
    pub log: VecDeque<Told>,
    machines: BTreeMap<u8, Machine>,
}

impl Facts {
    /// Of a cluster that is not started yet.
    pub fn new(nodes: NodeSet, about: String) -> Self {
        Self { nodes, about, ..Self::default() }
    }

    /// A node's machine.
    pub fn machine(&self, node: NodeId) -> Option<&Machine> {
        self.machines.get(&node.get())
    }

    /// A node's machine, to be told what is new.
    pub fn machine_mut(&mut self, node: NodeId) -> &mut Machine {
        self.machines.entry(node.get()).or_default()
    }

    /// A machine is started now.
    pub fn begin(&mut self, node: NodeId, now_us: u64) {
        self.beliefs.begin(node);
        self.steps.begin(node);
        let stalled = self.machine(node).is_some_and(|m| m.stalled);
        *self.machine_mut(node) = Machine { started_us: Some(now_us), stalled, ..Machine::default() };
    }

    /// Takes one line into account; `changes` finds what there is to say about it.
    pub fn take(&mut self, line: &Arc<Line>, changes: &mut Changes) {
        changes.take(line).into_iter().for_each(|told| self.tell(told));
        self.beliefs.take(line);
        self.steps.take(line);
        let Some(node) = line.node.and_then(NodeId::new) else { return };
        if line.inc.is_some() && line.inc != self.beliefs.life(node).inc {
            return;
        }
        let machine = self.machine_mut(node);
        let peer = line.uint("peer").and_then(|p| u8::try_from(p).ok()).and_then(NodeId::new);
        let via_net = line.text("via") == Some("net");
        let suspects = if via_net { &mut machine.suspects.0 } else { &mut machine.suspects.1 };
        match (line.ev.as_str(), peer) {
            ("boot", _) => {
                machine.frozen = false;
                machine.suspects = Default::default();
            }
            ("freeze", _) => machine.frozen = true,
            ("thaw", _) => machine.frozen = false,
            ("suspect", Some(peer)) => drop(suspects.insert(peer)),
            ("trust", Some(peer)) => drop(suspects.remove(peer)),
            _ => {}
        }
    }

    /// Something for the log.
    pub fn tell(&mut self, told: Told) {
        if self.log.len() == LOG_MAX {
            self.log.pop_front();
        }
        self.log.push_back(told);
    }

    /// What a node that can act said lately.
    pub fn said(&self, node: NodeId) -> Option<&Said> {
        if !self.live().contains(node) {
            return None;
        }
        let machine = self.machine(node)?;
        machine.said.as_ref().filter(|(at, _)| at + OLD_US >= self.now_us).map(|(_, said)| said)
    }

    /// What the master waits for with a node that is on its way in or out while no level is told anything: in the master's
    /// words, if it has said any since.
    pub fn between_levels(&self, node: NodeId) -> Option<String> {
        let state = self.state(node, None).filter(|s| !matches!(s, NodeState::Joined | NodeState::Inactive))?;
        if self.steps.all().any(|(_, subject, _)| subject == node.get()) {
            return None;
        }
        let about = format!("node {node} {state}");
        let said = self.master().and_then(|m| self.said(m));
        // What it waits for as master comes after what its own levels do.
        let words = said.and_then(|s| s.waits.iter().rfind(|w| w.starts_with(&about)));
        Some(words.and_then(|w| w.strip_prefix("node ")).map_or_else(|| format!("{node} {state}"), str::to_owned))
    }

    /// A node is on its way in or out.
    pub fn is_moving(&self) -> bool {
        let lasting = |n| matches!(self.state(n, None), Some(NodeState::Joined | NodeState::Inactive));
        self.steps.all().next().is_some() || self.nodes.iter().any(|n| !lasting(n))
    }

    /// Those with a process.
    pub fn running(&self) -> NodeSet {
        let runs = |n: &NodeId| self.machine(*n).and_then(|m| m.state.as_ref()).is_some_and(MachineState::has_process);
        self.nodes.iter().filter(runs).collect()
    }

    /// Those that can act.
    pub fn live(&self) -> NodeSet {
        let lives = |n: &NodeId| {
            let state = self.machine(*n).and_then(|m| m.state.as_ref());
            state == Some(&MachineState::Running) && self.beliefs.life(*n).end.is_none()
        };
        self.nodes.iter().filter(lives).collect()
    }

    /// Who is master.
    pub fn master(&self) -> Option<NodeId> {
        self.beliefs.master(self.live())
    }

    /// All levels that any node has, by order.
    pub fn levels(&self) -> BTreeMap<u16, String> {
        let of = |n: NodeId| self.beliefs.life(n).levels.iter().map(|(l, name)| (*l, name.clone()));
        self.nodes.iter().flat_map(of).collect()
    }

    /// A node's state, as a whole or at a level.
    pub fn state(&self, node: NodeId, level: Option<u16>) -> Option<NodeState> {
        crate::view::seen(node, level, self.master(), self.live(), &self.beliefs)
    }

    /// How far a node that was started is on its way to joined: what it reached, of how many stations, and the name of
    /// the next one. `None` once it is there, and for one that does not run.
    pub fn way(&self, node: NodeId) -> Option<(usize, usize, String)> {
        if !self.live().contains(node) {
            return None;
        }
        let life = self.beliefs.life(node);
        let own = |level| life.inc.and_then(|inc| self.current(node, level).filter(|(_, i)| *i == inc).map(|(s, _)| s));
        let levels: Vec<_> =
            life.levels.iter().map(|(l, name)| (own(Some(*l)) == Some(NodeState::Joined), name.clone())).collect();
        let whole = own(None);
        if matches!(whole, Some(NodeState::Joined | NodeState::Leaving | NodeState::ForcedLeaving)) {
            return None;
        }
        let first = [
            (life.inc.is_some(), "kernel".to_owned()),
            (life.view.is_some(), "first view".to_owned()),
            (whole == Some(NodeState::Joining), "to be let in".to_owned()),
        ];
        let last = (false, "committed view".to_owned());
        let stations: Vec<_> = first.into_iter().chain(levels).chain([last]).collect();
        let reached = stations.iter().take_while(|(reached, _)| *reached).count();
        let next = stations.get(reached).map(|(_, name)| name.clone()).unwrap_or_default();
        Some((reached, stations.len(), next))
    }

    fn current(&self, node: NodeId, level: Option<u16>) -> Option<(NodeState, u32)> {
        let viewers = self.master().into_iter().chain([node]);
        viewers.into_iter().find_map(|v| self.beliefs.life(v).sees(node, level))
    }

    /// Whether the link between two nodes is cut.
    pub fn is_cut(&self, a: NodeId, b: NodeId) -> bool {
        self.cuts.contains(&pair(a, b))
    }

    /// The link between two nodes is cut now, or mended.
    pub fn set_cut(&mut self, a: NodeId, b: NodeId, cut: bool) {
        let pair = pair(a, b);
        let _ = if cut { self.cuts.insert(pair) } else { self.cuts.remove(&pair) };
    }
}

fn pair(a: NodeId, b: NodeId) -> (u8, u8) {
    (a.get().min(b.get()), a.get().max(b.get()))
}
