//! A scenario after parsing: everything typed, nothing left to find out but what the run itself decides.

use quorate_base::{Barriers, FenceMethod, NodeId, NodeSet, NodeState, Preempted, Registrants, Timing};
use quorate_database::KernelSlot;
use quorate_launch::iscsi::Disk;
use quorate_launch::{BootPath, Nic};
use quorate_switch::{Fault, Hostile};
use regex::Regex;

use crate::chaos::Chaos;
use crate::nodes::NodeExpr;
use crate::pattern::Pattern;
use crate::source::{Source, Span};
use crate::words::ends_the_kernel;

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
    /// Whether the file says so itself.
    pub timing_said: bool,
    /// Bytes of a logical block of the shared disk: 512 or 4096.
    pub block_size: u32,
    /// What stands behind the shared disk on QEMU. The simulator has its own.
    pub disk: Disk,
    /// How the database says that nodes are fenced.
    pub fence: FenceMethod,
    /// Whether the file says so itself.
    pub fence_said: bool,
    /// What it says of the commands of a preempted nexus. `None`: what is known of the disk.
    pub preempted: Option<Preempted>,
    /// Who holds the reservation by it. `None`: what is known of the disk.
    pub registrants: Option<Registrants>,
    /// Its nodes have group services, level 10.
    pub groups: bool,
    /// How its nodes come to their kernel: from outside, or out of their slots on the disk.
    pub boot: BootPath,
    /// The NICs' model on QEMU. The simulator has its own.
    pub nic: Nic,
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
    /// The same, as soon as the disk has been idle for so long, ms: between two of the node's requests.
    PauseAtIdle(u32),
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
            Self::Pause | Self::PauseAtIdle(_) => "pause",
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
    /// Some fail.
    Error {
        /// Writes, else reads.
        write: bool,
        /// How many; `None`: all.
        count: Option<u32>,
        /// Those that touch these; `None`: any.
        at: Option<Records>,
    },
    /// Its iSCSI session breaks, once: the target forgets the node's registration and whatever was under way.
    Session,
    /// The next write, of these records or of any, stops half way and the node dies.
    Tear {
        /// Of which.
        at: Option<Records>,
        /// After so many bytes, if not half way.
        bytes: Option<u32>,
    },
    /// Reads give what stands in another place, or writes go there: as many records.
    Misdirect {
        /// Writes, else reads.
        write: bool,
        /// Of these.
        at: Records,
        /// The first one of the others.
        to: u64,
        /// How many requests; `None`: all.
        count: Option<u32>,
    },
    /// Reads give what stands there now, whatever is written.
    Stale {
        /// Of these.
        at: Records,
    },
    /// Writes are answered as done, and are not.
    Lose {
        /// Of these; `None`: of any.
        at: Option<Records>,
        /// How many; `None`: all.
        count: Option<u32>,
    },
    /// Another cluster's disk stands in the place of this one.
    Swap,
}

/// Records of the membership database that stand side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records {
    /// The first one's number.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl DiskFault {
    /// The verb, as in scenario files.
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Stall | Self::Gone => "disk_cut",
            Self::Delay(_) => "disk_delay",
            Self::Error { .. } => "disk_error",
            Self::Session => "session_cut",
            Self::Tear { .. } => "disk_tear",
            Self::Misdirect { .. } => "disk_misdirect",
            Self::Stale { .. } => "disk_stale",
            Self::Lose { .. } => "disk_lose",
            Self::Swap => "disk_swap",
        }
    }
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
    /// The image ends in the middle of the area of heartbeats and ballots.
    Cut,
    /// The membership database's partition is half as long as the database.
    Short,
    /// The backup partition table is gone.
    NoBackup,
    /// The kernel in a slot of the node is damaged.
    DamageKernel(KernelSlot),
    /// The node boots this slot first from now on.
    BootSlot(KernelSlot),
}

impl ImageEdit {
    /// All, by their word in scenario files, and whether each is about one node. What has a number has it from a key of
    /// its own.
    pub const ALL: [(&'static str, Self, bool); 14] = [
        ("disable", Self::Disable, true),
        ("enable", Self::Enable, true),
        ("unconfigure", Self::Unconfigure, true),
        ("weight", Self::Weight(0), true),
        ("timing", Self::Timing(Timing::DEFAULT), false),
        ("damage-superblock", Self::DamageSuperblock, false),
        ("version", Self::Version, false),
        ("foreign", Self::Foreign, false),
        ("erase", Self::Erase, false),
        ("cut", Self::Cut, false),
        ("short", Self::Short, false),
        ("no-backup-table", Self::NoBackup, false),
        ("damage-kernel", Self::DamageKernel(KernelSlot::A), true),
        ("boot-slot", Self::BootSlot(KernelSlot::A), true),
    ];

    /// Whether it is about a node's slots.
    pub const fn is_of_slots(self) -> bool {
        matches!(self, Self::DamageKernel(_) | Self::BootSlot(_))
    }
}

/// A kernel that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// In which slot.
    pub slot: KernelSlot,
    /// What it says of its version; `None`: what it was built as.
    pub version: Option<String>,
    /// Whether the node boots it from now on.
    pub boot: bool,
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
    /// Which kernel it boots on QEMU. In the simulator all are nodes alike.
    pub kernel: Kernel,
}

/// The kernels that can be a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernel {
    /// The node image.
    #[default]
    NodeImage,
    /// The independent minimal OS that embeds the crates. Of the levels it has one, `hobby` of order 70, whatever its command
    /// line says.
    HobbyOs,
}

impl Kernel {
    /// All, with their names.
    pub const WORDS: [(&'static str, Self); 2] = [("node-image", Self::NodeImage), ("hobby-os", Self::HobbyOs)];
}

impl Default for StartOptions {
    fn default() -> Self {
        Self { as_node: None, disk: true, identity: true, cluster: false, kernel: Kernel::NodeImage }
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
    /// The target behind the shared disk loses power: sessions break, registrations and reservation are gone.
    TargetRestart {
        /// How long it is off, ms.
        off_ms: u32,
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
    /// A kernel is installed in a slot, while whoever runs goes on.
    InstallKernel {
        /// Of which nodes.
        node: NodeExpr,
        /// What.
        install: Install,
    },
    /// Faults at random.
    Chaos {
        /// Which.
        chaos: Chaos,
        /// Whom they may hit.
        node: NodeExpr,
    },
}

impl Action {
    /// The verb, as in scenario files.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Machine { verb, .. } => verb.name(),
            // What ends a kernel is a fault, and stands in the trace as one.
            Self::Command { text, .. } => ends_the_kernel(text).unwrap_or("command"),
            Self::Link { fault, .. } => match fault {
                Fault::Cut => "cut",
                Fault::Loss { .. } => "loss",
                Fault::Duplicate { .. } => "duplicate",
                Fault::Reorder { .. } => "reorder",
                Fault::Corrupt { .. } => "corrupt",
                Fault::Delay { .. } => "delay",
            },
            Self::Heal { .. } => "heal",
            Self::Disk { fault, .. } => fault.verb(),
            Self::TargetRestart { .. } => "target_restart",
            Self::DiskHeal { .. } => "disk_heal",
            Self::Inject(_) => "inject",
            Self::Snapshot => "snapshot",
            Self::Sleep { .. } => "sleep",
            Self::Repeat { .. } => "repeat",
            Self::Image { .. } => "image",
            Self::InstallKernel { .. } => "install_kernel",
            Self::Chaos { .. } => "chaos",
        }
    }
}

/// Frames that a stranger sends on the interconnect: given ones, or hostile ones made of what it sees there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inject {
    /// Given frames, sent in turn; the next step begins when they are sent.
    pub frames: Vec<Vec<u8>>,
    /// Kinds of hostile frames, drawn from the run's seed; the next step begins at once, they are sent meanwhile.
    pub hostile: Vec<Hostile>,
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
    /// It has, on each of the nodes that are named.
    EventOnEach(Pattern),
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
    /// At the target exactly these nodes' running incarnations are registered.
    Keys {
        /// Whose; `None`: every live node's.
        node: Option<NodeExpr>,
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

    /// Every `chaos` step lasts so long, ms, in the place of what the file says. How many there are.
    pub fn set_chaos_for(&mut self, for_ms: u64) -> usize {
        fn set(steps: &mut [Step], for_ms: u64) -> usize {
            let one = |step: &mut Step| match &mut step.kind {
                StepKind::Do(Action::Repeat { steps, .. }) => set(steps, for_ms),
                StepKind::Do(Action::Chaos { chaos, .. }) => {
                    chaos.for_ms = for_ms;
                    1
                }
                _ => 0,
            };
            steps.iter_mut().map(one).sum()
        }
        set(&mut self.steps, for_ms)
    }
}
