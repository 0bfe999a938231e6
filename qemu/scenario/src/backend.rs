//! What the engine needs from the world in which a scenario is played: QEMU, or the simulator.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use quorate_base::{NodeId, NodeSet, NodeState};
use quorate_switch::Fault;
use quorate_trace::Line;
use serde_json::Value;

use crate::model::{Action, Condition, DiskFault, ImageEdit, Inject, Install, MachineVerb, StartOptions};

/// Why something did not go as a step wants it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The cluster did not do it: the scenario has failed (exit status 1).
    Failed(String),
    /// The world could not do it: nothing is known about the cluster (exit status 2).
    Broken(String),
    /// The user pressed Ctrl-C (exit status 2).
    Interrupted,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) | Self::Broken(why) => f.write_str(why),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Trouble {}

/// The active membership as it stands committed on the disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DiskView {
    /// The view's ballot.
    pub ballot: u64,
    /// Its number.
    pub number: u64,
    /// State and incarnation, by node.
    pub nodes: BTreeMap<u8, (NodeState, u32)>,
}

/// A world in which scenarios are played.
///
/// Time is its own: wall time under QEMU, virtual time in the simulator. Lines are numbered from 0 in the order of
/// receipt and never change.
pub trait Backend {
    /// Why it cannot do this kind of action, if it cannot. Asked for every step before anything is started.
    fn refuses(&self, action: &Action) -> Option<String>;

    /// Why it cannot judge this kind of condition, if it cannot. Asked likewise.
    fn refuses_condition(&self, condition: &Condition) -> Option<String>;

    /// µs since the run began.
    fn now_us(&self) -> u64;

    /// All lines from number `from` on.
    fn lines(&self, from: usize) -> Vec<Arc<Line>>;

    /// Lets time pass until there are more than `seen` lines, a machine ended, or `until_us` has come. May return early.
    ///
    /// # Errors
    /// [`Trouble::Interrupted`], or what broke.
    fn wait(&mut self, seen: usize, until_us: u64) -> Result<(), Trouble>;

    /// Adds a line of the harness to the trace. `fields` is a JSON object.
    fn say(&mut self, ev: &str, fields: Value);

    /// Whether the node's machine runs (also if it is stopped from outside, or its guest has halted).
    fn runs(&self, node: NodeId) -> bool;

    /// Powers a node on.
    ///
    /// # Errors
    /// If it cannot.
    fn start(&mut self, node: NodeId, options: &StartOptions) -> Result<(), Trouble>;

    /// Ends the machines of several nodes as nearly at once as can be. One that does not run is no error.
    ///
    /// # Errors
    /// If it cannot.
    fn kill(&mut self, nodes: NodeSet) -> Result<(), Trouble>;

    /// Does something else than a kill to a node's machine that runs.
    ///
    /// # Errors
    /// If it cannot, or the node refuses to leave.
    fn machine(&mut self, verb: MachineVerb, node: NodeId) -> Result<(), Trouble>;

    /// Types a line at a node's console and returns the reply.
    ///
    /// # Errors
    /// If no reply comes.
    fn command(&mut self, node: NodeId, text: &str) -> Result<String, Trouble>;

    /// Something happens to frames from one set to the other, or between them.
    ///
    /// # Errors
    /// If it cannot.
    fn link(&mut self, fault: Fault, from: NodeSet, to: NodeSet, oneway: bool) -> Result<(), Trouble>;

    /// Ends all link faults, or those between two sets.
    ///
    /// # Errors
    /// If it cannot.
    fn heal(&mut self, between: Option<(NodeSet, NodeSet)>) -> Result<(), Trouble>;

    /// Sets a disk fault of a node; `None` ends all of them.
    ///
    /// # Errors
    /// If it cannot.
    fn disk(&mut self, fault: Option<DiskFault>, node: NodeId) -> Result<(), Trouble>;

    /// The target behind the shared disk loses power for a time. Returns when it is there again.
    ///
    /// # Errors
    /// If it cannot.
    fn target_restart(&mut self, off_ms: u32) -> Result<(), Trouble>;

    /// The keys that are registered at the shared disk, as an outsider reads them.
    ///
    /// # Errors
    /// If the disk has no persistent reservations, or cannot be asked.
    fn keys(&mut self) -> Result<Vec<u64>, Trouble>;

    /// Sends a stranger's frames; returns when they are sent.
    ///
    /// # Errors
    /// If it cannot.
    fn inject(&mut self, inject: &Inject) -> Result<(), Trouble>;

    /// Changes the image from outside.
    ///
    /// # Errors
    /// If it cannot.
    fn edit(&mut self, edit: ImageEdit, node: Option<NodeId>) -> Result<(), Trouble>;

    /// Installs a kernel in a node's slot.
    ///
    /// # Errors
    /// If it cannot.
    fn install_kernel(&mut self, node: NodeId, install: &Install) -> Result<(), Trouble>;

    /// How long a machine may take from power-on to its kernel's first word at most, µs, where that is firmware's time: it does
    /// not count in a wait. 0: there is no firmware that takes time.
    fn firmware_us(&self) -> u64 {
        0
    }

    /// Hashes of the shared disk's regions.
    ///
    /// # Errors
    /// If the disk cannot be read.
    fn regions(&mut self) -> Result<BTreeMap<String, String>, Trouble>;

    /// The active membership on the disk.
    ///
    /// # Errors
    /// If the disk cannot be read, or shows no committed view.
    fn disk_view(&mut self) -> Result<DiskView, Trouble>;

    /// Ends all machines: after this no node writes a line.
    ///
    /// # Errors
    /// If it cannot.
    fn finish(&mut self) -> Result<(), Trouble>;
}
