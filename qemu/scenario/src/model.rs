//! A scenario after parsing: everything typed, nothing left to find out but what the run itself decides.

use quorate_base::{Barriers, NodeId, NodeSet, NodeState, Timing};
use quorate_switch::Fault;
use regex::Regex;

use crate::nodes::NodeExpr;
use crate::pattern::Pattern;
use crate::source::{Source, Span};

/// One scenario file.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file.
    pub source: Source,
    /// Its name; the file's name without its ending if it gives none.
    pub name: String,
    /// How many nodes are configured, 1 to 64.
    pub nodes: u8,
    /// For everything random in the run.
    pub seed: u64,
    /// What the database is created with. Checked.
    pub timing: Timing,
    /// Bytes of a logical block of the shared disk: 512 or 4096.
    pub block_size: u32,
    /// The test subsystems, ascending by order. Several of one order are on different nodes.
    pub levels: Vec<Level>,
    /// What happens.
    pub steps: Vec<Step>,
}

/// A test subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its place in the order.
    pub order: u16,
    /// Its name.
    pub name: String,
    /// Its barriers.
    pub barriers: Barriers,
    /// How long it takes to process a notification, ms.
    pub work_ms: u32,
    /// On these nodes it never acknowledges a join.
    pub hang: NodeSet,
    /// Only these nodes register it; `None`: all.
    pub only_on: Option<NodeSet>,
    /// Those that register it say that every node must have it.
    pub everywhere: bool,
    /// A node that has not acknowledged a step for so long is forced out, ms; 0: never.
    pub deadline_ms: u32,
}

impl Level {
    /// Whether `node` registers it.
    pub fn is_on(&self, node: NodeId) -> bool {
        self.only_on.is_none_or(|set| set.contains(node))
    }
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its number in the file, from 0, nested ones counted.
    pub index: u32,
    /// Its table in the text.
    pub span: Span,
    /// What it says, in one line.
    pub what: String,
    /// What it is.
    pub kind: StepKind,
    /// Under which name what it hit is kept.
    pub save: Option<String>,
}

/// The three kinds of steps.
#[derive(Clone, Debug)]
pub enum StepKind {
    /// Acts.
    Do(Action),
    /// Waits until something holds.
    Wait {
        /// What.
        condition: Condition,
        /// For so long at most.
        within_ms: u64,
    },
    /// Fails unless something holds now.
    Expect(Condition),
}

/// What a step does to one node's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineVerb {
    /// The process, at once.
    Kill,
    /// SIGSTOP.
    Pause,
    /// SIGCONT.
    Resume,
    /// The guest's clock stands still.
    Freeze,
    /// It goes on.
    Thaw,
    /// Of the whole machine, as by its button.
    Reset,
    /// Graceful, at the node's console.
    Leave,
}

impl MachineVerb {
    /// The word in scenario files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Reset => "reset",
            Self::Leave => "leave",
        }
    }
}

/// What happens to a node's requests to the shared disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// They never complete.
    Stall,
    /// The device is removed.
    Gone,
    /// Each takes so much longer, ms.
    Delay(u32),
    /// The next ones fail.
    Error {
        /// Writes, else reads.
        write: bool,
        /// How many.
        count: u32,
    },
    /// The next write stops half way and the node dies.
    Tear,
}

/// A change to the image from outside, while nothing of it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageEdit {
    /// The node's record says that it must not join.
    Disable,
    /// The reverse.
    Enable,
    /// The node's record is taken out.
    Unconfigure,
    /// The node's weight in arbitration becomes this.
    Weight(u8),
    /// The superblock's time-outs become these, all of them. Who runs goes on with the old ones.
    Timing(Timing),
    /// Both copies of the superblock are damaged.
    DamageSuperblock,
    /// The format version becomes one that nobody knows.
    Version,
    /// The disk becomes that of another cluster.
    Foreign,
    /// The membership database's partition is taken out.
    Erase,
}

impl ImageEdit {
    /// All, by their word in scenario files, and whether each is about one node. What has a number has it from a key of
    /// its own.
    pub const ALL: [(&'static str, Self, bool); 9] = [
        ("disable", Self::Disable, true),
        ("enable", Self::Enable, true),
        ("unconfigure", Self::Unconfigure, true),
        ("weight", Self::Weight(0), true),
        ("timing", Self::Timing(Timing::DEFAULT), false),
        ("damage-superblock", Self::DamageSuperblock, false),
        ("version", Self::Version, false),
        ("foreign", Self::Foreign, false),
        ("erase", Self::Erase, false),
    ];
}

/// How a node's machine is started, beside the usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartOptions {
    /// Under which node id it boots, if not its own: two machines under one id.
    pub as_node: Option<NodeId>,
    /// Whether it has the shared disk.
    pub disk: bool,
    /// Whether its command line says which node it is; else it must know by its machine identity.
    pub identity: bool,
    /// Whether its command line says which cluster it is of.
    pub cluster: bool,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self { as_node: None, disk: true, identity: true, cluster: false }
    }
}

/// What a `do` step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Powers on.
    Start {
        /// Whom.
        node: NodeExpr,
        /// How.
        options: StartOptions,
    },
    /// Something to machines.
    Machine {
        /// What.
        verb: MachineVerb,
        /// Whose.
        node: NodeExpr,
    },
    /// A text is typed at consoles.
    Command {
        /// Whose.
        node: NodeExpr,
        /// The text.
        text: String,
        /// What the reply must match.
        reply: Option<Regex>,
    },
    /// Something happens to frames.
    Link {
        /// What.
        fault: Fault,
        /// Of whom.
        from: NodeExpr,
        /// To whom.
        to: NodeExpr,
        /// In this direction only.
        oneway: bool,
    },
    /// Link faults end; all, or those between two sets.
    Heal {
        /// Between these …
        from: NodeExpr,
        /// … and these.
        to: NodeExpr,
    },
    /// Something happens to a node's disk requests.
    Disk {
        /// What.
        fault: DiskFault,
        /// Whose.
        node: NodeExpr,
    },
    /// Every disk fault of the nodes ends.
    DiskHeal {
        /// Whose.
        node: NodeExpr,
    },
    /// Frames from a stranger.
    Inject(Inject),
    /// Hashes the shared disk by region.
    Snapshot,
    /// Lets time pass.
    Sleep {
        /// How much.
        ms: u64,
    },
    /// Does steps several times.
    Repeat {
        /// How often.
        times: u32,
        /// What.
        steps: Vec<Step>,
    },
    /// Changes the image from outside.
    Image {
        /// How.
        edit: ImageEdit,
        /// About which node.
        node: Option<NodeExpr>,
    },
}

impl Action {
    /// The verb, as in scenario files.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Machine { verb, .. } => verb.name(),
            Self::Command { .. } => "command",
            Self::Link { fault, .. } => match fault {
                Fault::Cut => "cut",
                Fault::Loss { .. } => "loss",
                Fault::Duplicate { .. } => "duplicate",
                Fault::Reorder { .. } => "reorder",
                Fault::Corrupt { .. } => "corrupt",
                Fault::Delay { .. } => "delay",
            },
            Self::Heal { .. } => "heal",
            Self::Disk { fault, .. } => match fault {
                DiskFault::Stall | DiskFault::Gone => "disk_cut",
                DiskFault::Delay(_) => "disk_delay",
                DiskFault::Error { .. } => "disk_error",
                DiskFault::Tear => "disk_tear",
            },
            Self::DiskHeal { .. } => "disk_heal",
            Self::Inject(_) => "inject",
            Self::Snapshot => "snapshot",
            Self::Sleep { .. } => "sleep",
            Self::Repeat { .. } => "repeat",
            Self::Image { .. } => "image",
        }
    }
}

/// Frames that a stranger sends on the interconnect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inject {
    /// The frames, sent in turn, at least one.
    pub frames: Vec<Vec<u8>>,
    /// Frames per second; `None`: at once.
    pub rate: Option<u32>,
    /// For so long the frames are sent again and again, ms; `None`: each once.
    pub for_ms: Option<u32>,
}

impl Inject {
    /// How many frames are sent in all, and the distance between two of them in µs.
    pub fn schedule(&self) -> (u64, u64) {
        let rate = u64::from(self.rate.unwrap_or(0));
        let count = match (self.for_ms, rate) {
            (Some(ms), 1..) => (u64::from(ms) * rate / 1000).max(1),
            _ => self.frames.len() as u64,
        };
        (count, 1_000_000_u64.checked_div(rate).unwrap_or(0))
    }
}

/// Regions of the shared disk by name: a name, or one with `*` for any ending. `$name` in it stands for the id of the
/// one node that was saved under that name.
pub type RegionNames = Vec<String>;

/// What a step waits for or expects.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Nodes are in a state, as a whole or at a level.
    State {
        /// Who.
        subject: NodeExpr,
        /// In which.
        is: NodeState,
        /// At which level; `None`: as a whole.
        level: Option<u16>,
        /// As seen by whom; `None`: every live joined node.
        node: Option<NodeExpr>,
    },
    /// There is exactly one live master, and all live nodes agree on it.
    Master {
        /// Who it must be.
        is: Option<NodeExpr>,
    },
    /// Nodes have halted unwanted.
    Panicked {
        /// Who.
        node: NodeExpr,
        /// What the reason must match.
        reason: Option<Regex>,
    },
    /// A trace event has happened.
    Event(Pattern),
    /// None has.
    NoEvent(Pattern),
    /// One event came before another.
    Order {
        /// The first of these …
        first: Pattern,
        /// … before the first of these.
        then: Pattern,
    },
    /// All events of one kind, one at least on each node that is named, came before all of another.
    OrderOfAll {
        /// Every one of these …
        every: Pattern,
        /// … before every one of these.
        then: Pattern,
    },
    /// Regions of the shared disk are as they were.
    Unchanged {
        /// The snapshot's name.
        snapshot: String,
        /// Which regions; empty: all.
        region: RegionNames,
        /// But these.
        except: RegionNames,
    },
}

impl Scenario {
    /// Whether an action, also a repeated one, is as wanted.
    pub fn any_action(&self, wanted: &dyn Fn(&Action) -> bool) -> bool {
        fn any(steps: &[Step], wanted: &dyn Fn(&Action) -> bool) -> bool {
            steps.iter().any(|step| match &step.kind {
                StepKind::Do(Action::Repeat { steps, .. }) => any(steps, wanted),
                StepKind::Do(action) => wanted(action),
                _ => false,
            })
        }
        any(&self.steps, wanted)
    }
}
