//! QEMU as the world in which scenarios are played: a cluster of machines, a disk image, the run's trace.
//!
//! Machine `n` is node `n`, except where a scenario starts it under another id. Dropping the world ends every process,
//! and removes the disk image unless it was given.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_base::capacity::RECORD_PITCH;
use quorate_base::{ClusterId, FenceMethod, NodeId, NodeSet, Preempted, Registrants, Timing};
use quorate_database::{BootChoice, KernelSlot, MachineId, Region, layout};
use quorate_image::{CreateOptions, Damage, ImageError, KernelError, bootable_bytes, kernels};
use quorate_launch::iscsi::Disk;
use quorate_launch::{
    Accel, BootPath, Cluster, ClusterOptions, DiskCut, DiskOperation, DiskRule, Extent, LaunchError, Nic, Progress,
    Tools, Trick, hobby_os, identity, interrupt,
};
use quorate_switch::Fault;
use quorate_trace::{Line, TraceStore};
use serde_json::Value;

use crate::backend::{Backend, DiskView, Trouble};
use crate::belief::state_of;
use crate::chaos::Kind;
use crate::model::{
    Action, Condition, DiskFault, ImageEdit, Inject, Install, Kernel, Level, MachineVerb, Records, Scenario,
    StartOptions, StepKind,
};
use crate::shared::Shared;
use crate::words::{ends_the_kernel, words};

/// How long a console may take to answer. It answers at once unless the guest is stopped or hangs.
const CONSOLE_WAIT: Duration = Duration::from_secs(5);

/// No wait is longer in one go: an interrupt between the look at the flag and the wait must not be missed for long.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Whose a foreign disk is.
const ANOTHER_CLUSTER: [u8; 16] = *b"another cluster!";

/// A format version that nobody knows, for [`ImageEdit::Version`].
const UNKNOWN_VERSION: u16 = 0x7fff;

/// Which bit of a superblock is turned for [`ImageEdit::DamageSuperblock`]: one of its time-outs.
const SUPERBLOCK_BIT: u32 = 800;

/// How often a disk that is being written is read before what is found counts.
const READ_ATTEMPTS: u32 = 5;

/// How long firmware may take to come to a kernel at most. OVMF under TCG takes three seconds on a quiet host.
const FIRMWARE_US: u64 = 120_000_000;

/// Bytes at either end of an image within which both partition tables stand, for blocks of 512 and 4096 bytes.
const TABLE_BYTES: usize = 64 << 10;

/// What a world is made from.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// Configured nodes.
    pub nodes: u8,
    /// What the database is created with.
    pub timing: Timing,
    /// Bytes of a logical block of the disk.
    pub block_size: u32,
    /// Nodes have group services, level 10.
    pub groups: bool,
    /// Test levels.
    pub levels: Vec<Level>,
    /// For the switch's faults.
    pub seed: u64,
    /// How processors are made.
    pub accel: Accel,
    /// How machines come to their kernel.
    pub boot: BootPath,
    /// Which NIC.
    pub nic: Nic,
    /// What stands behind the shared disk.
    pub disk: Disk,
    /// An image to use; it is created if it is not there. `None`: a new one, removed at the end.
    pub image: Option<PathBuf>,
    /// What the database says about the fence, if it is created.
    pub fence: FenceMethod,
    /// What it says of the commands of a preempted nexus. `None`: what is known of the disk.
    pub preempted: Option<Preempted>,
    /// Who holds the reservation by it. `None`: what is known of the disk.
    pub registrants: Option<Registrants>,
    /// Whether disk requests go through the harness.
    pub disk_faults: bool,
    /// Where logs are kept.
    pub keep_logs: Option<PathBuf>,
    /// Whether nodes trace their writes.
    pub trace_writes: bool,
    /// Whether nodes obey the console words that end their kernel (`hang`, `panic`, `fault`).
    pub test_commands: bool,
    /// Where the trace is written.
    pub trace: Option<PathBuf>,
    /// Whether a machine boots the hobby OS.
    pub hobby_os: bool,
}

impl WorldOptions {
    /// For `nodes` nodes, everything else as usual.
    pub fn new(nodes: u8) -> Self {
        Self {
            nodes,
            timing: Timing::DEFAULT,
            block_size: 512,
            groups: false,
            levels: Vec::new(),
            seed: 1,
            accel: Accel::Auto,
            boot: BootPath::Direct,
            nic: Nic::Virtio,
            disk: Disk::Image,
            image: None,
            fence: FenceMethod::Lease,
            preempted: None,
            registrants: None,
            disk_faults: false,
            keep_logs: None,
            trace_writes: false,
            test_commands: false,
            trace: None,
            hobby_os: false,
        }
    }

    /// For a scenario.
    pub fn of(scenario: &Scenario) -> Self {
        let behind_harness = |a: &Action| match a {
            Action::Disk { fault, .. } => *fault != DiskFault::Gone,
            Action::Machine { verb, .. } => matches!(verb, MachineVerb::PauseAtIdle(_)),
            Action::Chaos { chaos, .. } => chaos.kinds.iter().any(|(kind, _)| kind.needs_disk_faults()),
            _ => false,
        };
        let boots_hobby_os =
            |a: &Action| matches!(a, Action::Start { options, .. } if options.kernel == Kernel::HobbyOs);
        let ends_a_kernel = |a: &Action| matches!(a, Action::Command { text, .. } if ends_the_kernel(text).is_some());
        Self {
            timing: scenario.timing,
            block_size: scenario.block_size,
            disk: scenario.disk.clone(),
            fence: scenario.fence,
            preempted: scenario.preempted,
            registrants: scenario.registrants,
            groups: scenario.groups,
            boot: scenario.boot,
            nic: scenario.nic,
            levels: scenario.levels.clone(),
            seed: scenario.seed,
            disk_faults: scenario.any_action(&behind_harness),
            test_commands: scenario.any_action(&ends_a_kernel),
            hobby_os: scenario.any_action(&boots_hobby_os),
            ..Self::new(scenario.nodes)
        }
    }
}

/// The image of another cluster's disk; it is removed with this.
#[derive(Debug)]
struct OtherDisk(PathBuf);

impl Drop for OtherDisk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A cluster under QEMU.
#[derive(Debug)]
pub struct World {
    // Dropped first: nobody uses the image any more when it is removed.
    cluster: Cluster,
    shared: Shared,
    /// Another cluster's disk, once it was needed.
    other: Option<OtherDisk>,
    /// Where the database begins in the image, bytes.
    database_at: u64,
    options: WorldOptions,
    cluster_id: String,
    /// Machines whose disk is taken away because their node was started without one.
    diskless: NodeSet,
    /// The other kernel, if a machine boots it.
    hobby_os: Option<PathBuf>,
    /// The node image, for slots.
    elf: Arc<[u8]>,
}

fn broken(error: &dyn std::fmt::Display) -> Trouble {
    Trouble::Broken(error.to_string())
}

fn image_failed(error: ImageError) -> Trouble {
    broken(&error)
}

impl From<LaunchError> for Trouble {
    fn from(error: LaunchError) -> Self {
        match error {
            // A node that does not answer is a finding about the node.
            LaunchError::Console { .. } => Self::Failed(error.to_string()),
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// The identities that the harness gives its machines, as the database has them.
pub fn machine_ids(nodes: u8) -> Vec<MachineId> {
    (0..nodes).map(|n| MachineId { uuid: Some(identity::uuid(n)), mac: Some(identity::mac(n)) }).collect()
}

impl World {
    /// Makes the disk image, the switch and the machines; nothing is started yet.
    ///
    /// # Errors
    /// If the image is not one for these nodes, or something cannot be made.
    pub fn new(options: WorldOptions, tools: &Tools) -> Result<Self, Trouble> {
        let (preempted, registrants) = options.disk.preemption();
        let bootstrap = match (options.boot, &tools.uefi) {
            (BootPath::Uefi, Some(uefi)) => Some(uefi.bootstrap.to_vec()),
            _ => None,
        };
        let create = CreateOptions {
            nodes: options.nodes,
            timing: options.timing,
            fence: options.fence,
            preempted: options.preempted.unwrap_or(preempted),
            registrants: options.registrants.unwrap_or(registrants),
            machines: machine_ids(options.nodes),
            bytes: if bootstrap.is_some() { bootable_bytes(options.nodes) } else { CreateOptions::default().bytes },
            bootstrap,
            ..CreateOptions::default()
        };
        let shared = Shared::new(&options.disk, options.image.as_deref(), &create, options.block_size, tools)?;
        let dump = quorate_image::dump(shared.image()).map_err(image_failed)?;
        if dump.nodes.len() != usize::from(options.nodes) {
            let (has, wanted) = (dump.nodes.len(), options.nodes);
            let path = shared.portal().map_or_else(|| shared.image().display().to_string(), |p| p.to_string());
            return Err(Trouble::Broken(format!(
                "{path} configures {has} nodes, {wanted} are wanted: give another --disk"
            )));
        }
        if options.boot == BootPath::Uefi {
            make_bootable(shared.image(), options.nodes, &tools.elf)?;
            shared.publish()?;
        }
        let hobby_os = if options.hobby_os {
            let mut tell = |progress: Progress<'_>| {
                if let Progress::Begun(what) = progress {
                    // Nothing can be done if nobody reads it.
                    let _ = writeln!(std::io::stderr(), "{what}");
                }
            };
            Some(hobby_os(&mut tell).map_err(|e| Trouble::Broken(e.to_string()))?)
        } else {
            None
        };
        let store = TraceStore::new();
        interrupt::wakes(&store);
        if let Some(path) = &options.trace {
            store.write_to(path).map_err(|e| Trouble::Broken(format!("cannot write {}: {e}", path.display())))?;
        }
        let cluster_options = ClusterOptions {
            block_size: options.block_size,
            seed: options.seed,
            accel: options.accel,
            boot: options.boot,
            nic: options.nic,
            iscsi: shared.portal(),
            disk_faults: options.disk_faults,
            keep_logs: options.keep_logs.clone(),
            ..ClusterOptions::new(options.nodes, shared.image().to_owned())
        };
        let cluster = Cluster::new(cluster_options, tools, store)?;
        let database_at = quorate_image::Image::open(shared.image(), false).map_err(image_failed)?.offset(0);
        let (cluster_id, diskless) = (dump.cluster, NodeSet::EMPTY);
        let elf = tools.elf.clone();
        Ok(Self { cluster, shared, other: None, database_at, options, cluster_id, diskless, hobby_os, elf })
    }

    /// The machines.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The disk image; of a disk that is somebody else's a copy of what the harness looks at, made now.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn image(&self) -> Result<&Path, Trouble> {
        self.shared.refresh()?;
        Ok(self.shared.image())
    }

    /// The run's directory, which is gone when the world is.
    pub fn run_dir(&self) -> &Path {
        self.cluster.run_dir()
    }

    /// All lines so far.
    pub fn store(&self) -> &TraceStore {
        self.cluster.store()
    }

    /// Hands the trace to its file.
    ///
    /// # Errors
    /// If it could not be written.
    pub fn flush(&self) -> Result<(), Trouble> {
        self.store().flush().map_err(|e| Trouble::Broken(format!("the trace could not be written: {e}")))
    }

    /// Where a record stands in the image, bytes.
    fn offset(&self, record: u64) -> u64 {
        self.database_at + record * RECORD_PITCH
    }

    fn extent(&self, at: Records) -> Extent {
        self.offset(at.first)..self.offset(at.first + at.count)
    }

    fn disk_rule(
        &self,
        n: usize,
        write: bool,
        at: Option<Records>,
        count: Option<u32>,
        trick: Trick,
    ) -> Result<(), LaunchError> {
        let operation = if write { DiskOperation::Write } else { DiskOperation::Read };
        let extent = at.map(|at| self.extent(at));
        self.cluster.disk_rule(n, DiskRule { operation, extent, count, trick })
    }

    /// Another cluster's disk: this one as it is now, with another cluster's id in every record.
    fn other_disk(&mut self) -> Result<PathBuf, Trouble> {
        if let Some(OtherDisk(path)) = &self.other {
            return Ok(path.clone());
        }
        let image = self.shared.image();
        let path = image.with_extension("other");
        std::fs::copy(image, &path).map_err(|e| broken(&format!("cannot copy {}: {e}", image.display())))?;
        // From here on it is removed with the world.
        self.other = Some(OtherDisk(path.clone()));
        quorate_image::set_cluster(&path, ClusterId(ANOTHER_CLUSTER)).map_err(image_failed)?;
        Ok(path)
    }

    fn look<T>(&self, mut read: impl FnMut(&Path) -> Result<T, ImageError>) -> Result<T, Trouble> {
        let mut outcome = read(self.image()?);
        for _ in 1..READ_ATTEMPTS {
            // A record that is being written right now may be read half; the next look finds it whole.
            if outcome.is_ok() {
                break;
            }
            outcome = read(self.image()?);
        }
        outcome.map_err(image_failed)
    }
}

fn kernels_failed(error: KernelError) -> Trouble {
    broken(&error)
}

/// Sees to it that every node has a kernel in a slot and is known by its machine. What an image has already stays.
fn make_bootable(image: &Path, nodes: u8, elf: &[u8]) -> Result<(), Trouble> {
    let old = |error| match error {
        KernelError::NoPartition => broken(&format!("{}: {error}, or boot directly", image.display())),
        other => kernels_failed(other),
    };
    let slots = kernels::list(image).map_err(old)?;
    for node in NodeId::first(nodes) {
        if slots.iter().all(|s| s.node != node || s.installed.is_none()) {
            kernels::install(image, node, KernelSlot::A, elf, "").map_err(kernels_failed)?;
        }
        let machine = MachineId { uuid: Some(identity::uuid(node.get())), mac: Some(identity::mac(node.get())) };
        quorate_image::edit_node(image, node, |config| {
            if config.machine == MachineId::default() {
                config.machine = machine;
            }
        })
        .map_err(image_failed)?;
    }
    Ok(())
}

/// Why a step cannot be done on machines that come to their kernel so, if it cannot.
pub fn refusal_of_boot(boot: BootPath, step: &StepKind) -> Option<String> {
    use ImageEdit::{Cut, DamageSuperblock, Erase, Foreign, Short, Version};
    let StepKind::Do(action) = step else { return None };
    match (boot, action) {
        (BootPath::Direct, Action::InstallKernel { .. }) => {
            Some("machines boot directly, not from slots; boot = \"uefi\"".into())
        }
        (BootPath::Direct, Action::Image { edit, .. }) if edit.is_of_slots() => {
            Some("machines boot directly, not from slots; boot = \"uefi\"".into())
        }
        (BootPath::Uefi, Action::Start { options, .. }) if options.as_node.is_some() => {
            Some("`as`: a machine that boots from the disk is the node whose record names it; boot = \"direct\"".into())
        }
        (BootPath::Uefi, Action::Start { options, .. }) if !options.disk => {
            Some("without its disk a machine has nothing to boot; boot = \"direct\"".into())
        }
        (BootPath::Uefi, Action::Start { options, .. }) if options.kernel != Kernel::NodeImage => {
            Some("that kernel has no entry for the bootstrap; boot = \"direct\"".into())
        }
        (BootPath::Uefi, Action::Image { edit: Cut | DamageSuperblock | Erase | Foreign | Short | Version, .. }) => {
            Some("with such a disk a machine does not come to its kernel; boot = \"direct\"".into())
        }
        _ => None,
    }
}

/// Why a fault of single requests is refused.
const NO_REQUESTS: &str = "over iSCSI the harness sees no single requests; disk = \"image\"";

/// Why a step cannot be done on QEMU with that disk, if it cannot. Asked before anything is started.
pub fn refusal(disk: &Disk, step: &StepKind) -> Option<String> {
    let no_target = || "the shared disk is an image, not behind a target; disk = \"tgt\" or \"lio\"".to_owned();
    let (iscsi, foreign) = (disk.is_iscsi(), matches!(disk, Disk::Iscsi(_)));
    match step {
        StepKind::Do(Action::Disk { fault: DiskFault::Session, .. }) if !iscsi => Some(no_target()),
        StepKind::Do(Action::Disk { fault, .. })
            if iscsi
                && !matches!(fault, DiskFault::Stall | DiskFault::Gone | DiskFault::Delay(_) | DiskFault::Session) =>
        {
            Some(NO_REQUESTS.to_owned())
        }
        StepKind::Do(Action::Chaos { chaos, .. }) if iscsi => {
            let single = |(kind, _): &&(Kind, u32)| matches!(kind, Kind::DiskError | Kind::DiskTear);
            chaos.kinds.iter().find(single).map(|(kind, _)| format!("{}: {NO_REQUESTS}", kind.name()))
        }
        StepKind::Do(Action::TargetRestart { .. }) if !iscsi => Some(no_target()),
        StepKind::Do(Action::TargetRestart { .. }) if foreign => {
            Some("the target is not ours; disk = \"tgt\" or \"lio\"".to_owned())
        }
        StepKind::Wait { condition: Condition::Keys { .. }, .. } | StepKind::Expect(Condition::Keys { .. })
            if !iscsi =>
        {
            Some(no_target())
        }
        _ => None,
    }
}

fn ports(nodes: NodeSet) -> Vec<usize> {
    nodes.iter().map(NodeId::index).collect()
}

impl Backend for World {
    fn refuses(&self, action: &Action) -> Option<String> {
        let step = StepKind::Do(action.clone());
        refusal(&self.options.disk, &step).or_else(|| refusal_of_boot(self.options.boot, &step))
    }

    fn refuses_condition(&self, condition: &Condition) -> Option<String> {
        refusal(&self.options.disk, &StepKind::Expect(condition.clone()))
    }

    fn now_us(&self) -> u64 {
        self.store().now_us()
    }

    fn lines(&self, from: usize) -> Vec<Arc<Line>> {
        self.store().since(quorate_trace::Mark(from))
    }

    fn wait(&mut self, seen: usize, until_us: u64) -> Result<(), Trouble> {
        if interrupt::requested() {
            return Err(Trouble::Interrupted);
        }
        let left = Duration::from_micros(until_us.saturating_sub(self.now_us())).min(WAIT_MAX);
        self.store().wait_since(quorate_trace::Mark(seen), Instant::now() + left);
        if interrupt::requested() { Err(Trouble::Interrupted) } else { Ok(()) }
    }

    fn say(&mut self, ev: &str, fields: Value) {
        self.store().harness(ev, fields);
    }

    fn runs(&self, node: NodeId) -> bool {
        self.cluster.state(node.index()).has_process()
    }

    fn start(&mut self, node: NodeId, options: &StartOptions) -> Result<(), Trouble> {
        let n = node.index();
        if !options.disk && self.diskless.insert(node) {
            self.cluster.disk_cut(n, DiskCut::Gone)?;
        } else if options.disk && self.diskless.remove(node) {
            self.cluster.disk_heal(n)?;
        }
        let mut words = words(&self.options.levels, node, options, self.options.trace_writes);
        if self.options.groups {
            words.push("groups=1".to_owned());
        }
        if self.options.test_commands {
            words.push("test_commands=1".to_owned());
        }
        if self.options.boot == BootPath::Uefi {
            // Who it is, and of which cluster, the bootstrap finds out and says.
            words.retain(|word| !word.starts_with("node="));
        } else if options.cluster {
            words.push(format!("cluster={}", self.cluster_id));
        }
        let started = match (options.kernel, &self.hobby_os) {
            (Kernel::NodeImage, _) => self.cluster.start(n, &words),
            (Kernel::HobbyOs, Some(image)) => self.cluster.start_image(n, &words, image),
            (Kernel::HobbyOs, None) => return Err(Trouble::Broken("the hobby OS was not built".to_owned())),
        };
        Ok(started?)
    }

    fn kill(&mut self, nodes: NodeSet) -> Result<(), Trouble> {
        Ok(self.cluster.kill_all(&ports(nodes))?)
    }

    fn machine(&mut self, verb: MachineVerb, node: NodeId) -> Result<(), Trouble> {
        let n = node.index();
        match verb {
            MachineVerb::Kill => self.cluster.kill(n)?,
            MachineVerb::Pause => self.cluster.pause(n)?,
            MachineVerb::PauseAtIdle(ms) => self.cluster.pause_at_idle(n, Duration::from_millis(ms.into()))?,
            MachineVerb::Resume => self.cluster.resume(n)?,
            MachineVerb::Freeze => self.cluster.freeze(n)?,
            MachineVerb::Thaw => self.cluster.thaw(n)?,
            MachineVerb::Reset => self.cluster.reset(n)?,
            MachineVerb::Leave => drop(self.cluster.command(n, "leave", CONSOLE_WAIT)?),
        }
        Ok(())
    }

    fn command(&mut self, node: NodeId, text: &str) -> Result<String, Trouble> {
        Ok(self.cluster.command(node.index(), text, CONSOLE_WAIT)?)
    }

    fn link(&mut self, fault: Fault, from: NodeSet, to: NodeSet, oneway: bool) -> Result<(), Trouble> {
        self.cluster.switch().set(&ports(from), &ports(to), !oneway, fault);
        Ok(())
    }

    fn heal(&mut self, between: Option<(NodeSet, NodeSet)>) -> Result<(), Trouble> {
        match between {
            None => self.cluster.switch().heal(),
            Some((from, to)) => self.cluster.switch().heal_between(&ports(from), &ports(to)),
        }
        Ok(())
    }

    fn disk(&mut self, fault: Option<DiskFault>, node: NodeId) -> Result<(), Trouble> {
        let n = node.index();
        match fault {
            None => self.cluster.disk_heal(n)?,
            Some(DiskFault::Stall) => self.cluster.disk_cut(n, DiskCut::Stall)?,
            Some(DiskFault::Gone) => self.cluster.disk_cut(n, DiskCut::Gone)?,
            Some(DiskFault::Delay(ms)) => self.cluster.disk_delay(n, Duration::from_millis(ms.into()))?,
            Some(DiskFault::Error { write, count, at }) => self.disk_rule(n, write, at, count, Trick::Fail)?,
            Some(DiskFault::Tear { at, bytes }) => self.disk_rule(n, true, at, Some(1), Trick::Tear(bytes))?,
            Some(DiskFault::Misdirect { write, at, to, count }) => {
                let to = self.offset(to);
                self.disk_rule(n, write, Some(at), count, Trick::Redirect(to))?;
            }
            Some(DiskFault::Stale { at }) => self.cluster.disk_keep(n, self.extent(at))?,
            Some(DiskFault::Lose { at, count }) => self.disk_rule(n, true, at, count, Trick::Lose)?,
            Some(DiskFault::Swap) => {
                let other = self.other_disk()?;
                self.cluster.disk_swap(n, &other)?;
            }
            Some(DiskFault::Session) => self.cluster.session_cut(n)?,
        }
        Ok(())
    }

    fn target_restart(&mut self, off_ms: u32) -> Result<(), Trouble> {
        self.shared.restart(Duration::from_millis(off_ms.into()))
    }

    fn keys(&mut self) -> Result<Vec<u64>, Trouble> {
        self.shared.keys()
    }

    fn inject(&mut self, inject: &Inject) -> Result<(), Trouble> {
        if !inject.hostile.is_empty() {
            let (rate, span) = (inject.rate.unwrap_or(0), inject.for_ms.unwrap_or(0));
            let span = Duration::from_millis(span.into());
            return self.cluster.switch().flood(&inject.hostile, rate, span).map_err(|e| broken(&e.to_string()));
        }
        // Without a rate all at once; without a time each once.
        let rate = inject.rate.map_or(f64::INFINITY, f64::from);
        let (count, gap_us) = inject.schedule();
        let span = Duration::from_micros(if inject.for_ms.is_some() { count * gap_us } else { 0 });
        self.cluster.switch().inject(&inject.frames, rate, span);
        Ok(())
    }

    fn edit(&mut self, edit: ImageEdit, node: Option<NodeId>) -> Result<(), Trouble> {
        let path = self.image()?;
        let node = || node.ok_or_else(|| Trouble::Broken("this edit needs a node".to_owned()));
        let done = match edit {
            ImageEdit::Disable => quorate_image::edit_node(path, node()?, |c| c.enabled = false),
            ImageEdit::Enable => quorate_image::edit_node(path, node()?, |c| c.enabled = true),
            ImageEdit::Weight(weight) => quorate_image::edit_node(path, node()?, |c| c.weight = weight),
            ImageEdit::Timing(timing) => quorate_image::edit_superblock(path, |s| s.timing = timing),
            ImageEdit::Unconfigure => quorate_image::damage(path, Region::Config(node()?), Damage::Fill(0)),
            ImageEdit::DamageSuperblock => [0, 1].iter().try_for_each(|copy| {
                quorate_image::damage(path, Region::Superblock(*copy), Damage::Flip(SUPERBLOCK_BIT))
            }),
            ImageEdit::Version => quorate_image::set_version(path, UNKNOWN_VERSION),
            ImageEdit::DamageKernel(slot) => return kernels::damage(path, node()?, slot).map_err(kernels_failed),
            ImageEdit::BootSlot(slot) => {
                return kernels::choose(path, node()?, BootChoice::of(slot)).map_err(kernels_failed);
            }
            ImageEdit::Foreign => quorate_image::set_cluster(path, ClusterId(ANOTHER_CLUSTER)),
            ImageEdit::Short => quorate_image::shorten(path),
            ImageEdit::Erase | ImageEdit::Cut | ImageEdit::NoBackup => {
                let cut_at = self.database_at + (layout::STATE_FIRST + 1) * RECORD_PITCH;
                let done = match edit {
                    ImageEdit::Cut => OpenOptions::new().write(true).open(path).and_then(|f| f.set_len(cut_at)),
                    _ => erase_tables(path, edit == ImageEdit::Erase),
                };
                done.map_err(|e| broken(&format!("{}: {e}", path.display())))?;
                Ok(())
            }
        };
        done.map_err(image_failed)?;
        self.shared.publish()
    }

    fn install_kernel(&mut self, node: NodeId, install: &Install) -> Result<(), Trouble> {
        let path = self.shared.image();
        let relabelled = install.version.as_ref().map(|version| kernels::relabelled(&self.elf, version));
        let relabelled = relabelled.transpose().map_err(kernels_failed)?;
        let elf = relabelled.as_deref().unwrap_or(&self.elf);
        kernels::install(path, node, install.slot, elf, "").map_err(kernels_failed)?;
        if install.boot {
            kernels::choose(path, node, BootChoice::of(install.slot)).map_err(kernels_failed)?;
        }
        Ok(())
    }

    fn firmware_us(&self) -> u64 {
        if self.options.boot == BootPath::Uefi { FIRMWARE_US } else { 0 }
    }

    fn regions(&mut self) -> Result<BTreeMap<String, String>, Trouble> {
        self.look(quorate_image::region_hashes)
    }

    fn disk_view(&mut self) -> Result<DiskView, Trouble> {
        let dump = self.look(quorate_image::dump)?;
        let Some(active) = dump.active else { return Ok(DiskView::default()) };
        let nodes = active
            .states
            .iter()
            .filter_map(|(n, state)| Some((*n, (state_of(state)?, active.incs.get(n).copied().unwrap_or(0)))));
        Ok(DiskView { ballot: active.ballot, number: active.view, nodes: nodes.collect() })
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        self.kill(NodeSet::first(self.options.nodes))
    }
}

/// Overwrites the backup partition table, or both: then the disk is blank to whoever looks for a database.
fn erase_tables(path: &Path, both: bool) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len();
    let zeros = vec![0; TABLE_BYTES.min(usize::try_from(length).unwrap_or(0))];
    if both {
        file.write_all_at(&zeros, 0)?;
    }
    file.write_all_at(&zeros, length - zeros.len() as u64)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn refusals(steps: &str, disk: &Disk) -> Vec<String> {
        let text = format!("nodes = 3\nstep = [{steps}]\n");
        let scenario = Scenario::parse(Source::new("test.toml", text)).unwrap_or_else(|p| panic!("{p}"));
        scenario.steps.iter().filter_map(|step| refusal(disk, &step.kind)).collect()
    }

    #[test]
    fn a_pause_between_requests_needs_the_disk_behind_the_harness() {
        for (step, behind) in [(r#"disk_idle_ms = 50"#, true), ("", false)] {
            let step = format!("{{ do = \"repeat\", times = 1, steps = [{{ do = \"pause\", node = 0, {step} }}] }}");
            let text = format!("nodes = 1\nstep = [{step}]\n");
            let scenario = Scenario::parse(Source::new("test.toml", text)).unwrap_or_else(|p| panic!("{p}"));
            assert_eq!(WorldOptions::of(&scenario).disk_faults, behind);
            assert_eq!(refusals(&step, &Disk::Image), refusals(&step, &Disk::Tgt));
        }
    }

    #[test]
    fn what_a_disk_cannot_is_refused_before_anything_is_started() {
        let single = r#"{ do = "disk_error", node = 0, op = "read" }, { do = "disk_tear", node = 0 },
            { do = "chaos", for_ms = 10, kinds = { disk_tear = 1 } }"#;
        let target = r#"{ do = "session_cut", node = 0 }, { do = "target_restart" }, { expect = "keys" }"#;
        let both = r#"{ do = "disk_cut", node = 0 }, { do = "disk_cut", node = 0, mode = "gone" },
            { do = "disk_delay", node = 0, ms = 5 }, { do = "chaos", for_ms = 10, kinds = { disk_stall = 1 } }"#;
        let foreign = Disk::named("iscsi://san/iqn.x/1").unwrap().0;
        for disk in [Disk::Image, Disk::Tgt, Disk::Lio, foreign.clone()] {
            let iscsi = disk.is_iscsi();
            assert_eq!(refusals(single, &disk).len(), if iscsi { 3 } else { 0 }, "{disk}");
            assert_eq!(refusals(both, &disk), Vec::<String>::new(), "{disk}");
            let without = if disk == foreign { 1 } else { 0 };
            assert_eq!(refusals(target, &disk).len(), if iscsi { without } else { 3 }, "{disk}");
        }
    }
}
