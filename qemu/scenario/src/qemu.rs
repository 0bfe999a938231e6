//! QEMU as the world in which scenarios are played: a cluster of machines, a disk image, the run's trace.
//!
//! Machine `n` is node `n`, except where a scenario starts it under another id. Dropping the world ends every process,
//! and removes the disk image unless it was given.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use quorate_base::{ClusterId, NodeId, NodeSet, Timing};
use quorate_database::{MachineId, Region};
use quorate_image::{BlockSize, CreateOptions, Damage, ImageError};
use quorate_launch::{
    Accel, Cluster, ClusterOptions, DiskCut, DiskOperation, LaunchError, Nic, Tools, identity, interrupt,
};
use quorate_switch::Fault;
use quorate_trace::{Line, TraceStore};
use serde_json::Value;

use crate::backend::{Backend, DiskView, Trouble};
use crate::belief::state_of;
use crate::model::{Action, DiskFault, ImageEdit, Inject, Level, MachineVerb, Scenario, StartOptions};
use crate::words::words;

/// How long a console may take to answer. It answers at once unless the guest is stopped or hangs.
const CONSOLE_WAIT: Duration = Duration::from_secs(5);

/// No wait is longer in one go: an interrupt between the look at the flag and the wait must not be missed for long.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// A format version that nobody knows, for [`ImageEdit::Version`].
const UNKNOWN_VERSION: u16 = 0x7fff;

/// Which bit of a superblock is turned for [`ImageEdit::DamageSuperblock`]: one of its time-outs.
const SUPERBLOCK_BIT: u32 = 800;

/// How often a disk that is being written is read before what is found counts.
const READ_ATTEMPTS: u32 = 5;

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
    /// Test levels.
    pub levels: Vec<Level>,
    /// For the switch's faults.
    pub seed: u64,
    /// How processors are made.
    pub accel: Accel,
    /// Which NIC.
    pub nic: Nic,
    /// An image to use; it is created if it is not there. `None`: a new one, removed at the end.
    pub disk: Option<PathBuf>,
    /// Whether disk requests go through the harness.
    pub disk_faults: bool,
    /// Where logs are kept.
    pub keep_logs: Option<PathBuf>,
    /// Whether nodes trace their writes.
    pub trace_writes: bool,
    /// Where the trace is written.
    pub trace: Option<PathBuf>,
}

impl WorldOptions {
    /// For `nodes` nodes, everything else as usual.
    pub fn new(nodes: u8) -> Self {
        Self {
            nodes,
            timing: Timing::DEFAULT,
            block_size: 512,
            levels: Vec::new(),
            seed: 1,
            accel: Accel::Auto,
            nic: Nic::Virtio,
            disk: None,
            disk_faults: false,
            keep_logs: None,
            trace_writes: false,
            trace: None,
        }
    }

    /// For a scenario.
    pub fn of(scenario: &Scenario) -> Self {
        let behind_harness = |a: &Action| matches!(a, Action::Disk { fault, .. } if *fault != DiskFault::Gone);
        Self {
            timing: scenario.timing,
            block_size: scenario.block_size,
            levels: scenario.levels.clone(),
            seed: scenario.seed,
            disk_faults: scenario.any_action(&behind_harness),
            ..Self::new(scenario.nodes)
        }
    }
}

/// A cluster under QEMU.
#[derive(Debug)]
pub struct World {
    // Dropped first: nobody uses the image any more when it is removed.
    cluster: Cluster,
    image: DiskImage,
    options: WorldOptions,
    cluster_id: String,
    /// Machines whose disk is taken away because their node was started without one.
    diskless: NodeSet,
}

/// A disk image; one of our own is removed with it.
#[derive(Debug)]
struct DiskImage {
    path: PathBuf,
    own: bool,
}

impl Drop for DiskImage {
    fn drop(&mut self) {
        if self.own {
            let _ = std::fs::remove_file(&self.path);
        }
    }
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

fn temporary_image() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("quorate-disk-{}-{count}.img", std::process::id()))
}

impl World {
    /// Makes the disk image, the switch and the machines; nothing is started yet.
    ///
    /// # Errors
    /// If the image is not one for these nodes, or something cannot be made.
    pub fn new(options: WorldOptions, tools: &Tools) -> Result<Self, Trouble> {
        let image = disk_image(&options)?;
        let dump = quorate_image::dump(&image.path).map_err(image_failed)?;
        if dump.nodes.len() != usize::from(options.nodes) {
            let (has, wanted) = (dump.nodes.len(), options.nodes);
            let path = image.path.display();
            return Err(Trouble::Broken(format!(
                "{path} configures {has} nodes, {wanted} are wanted: give another --disk"
            )));
        }
        let store = TraceStore::new();
        interrupt::wakes(&store);
        if let Some(path) = &options.trace {
            store.write_to(path).map_err(|e| Trouble::Broken(format!("cannot write {}: {e}", path.display())))?;
        }
        let cluster_options = ClusterOptions {
            block_size: options.block_size,
            seed: options.seed,
            accel: options.accel,
            nic: options.nic,
            disk_faults: options.disk_faults,
            keep_logs: options.keep_logs.clone(),
            ..ClusterOptions::new(options.nodes, image.path.clone())
        };
        let cluster = Cluster::new(cluster_options, tools, store)?;
        Ok(Self { cluster, image, options, cluster_id: dump.cluster, diskless: NodeSet::EMPTY })
    }

    /// The machines.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The disk image.
    pub fn image(&self) -> &Path {
        &self.image.path
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

    fn look<T>(&self, mut read: impl FnMut(&Path) -> Result<T, ImageError>) -> Result<T, Trouble> {
        let mut outcome = read(&self.image.path);
        for _ in 1..READ_ATTEMPTS {
            // A record that is being written right now may be read half; the next look finds it whole.
            if outcome.is_ok() {
                break;
            }
            outcome = read(&self.image.path);
        }
        outcome.map_err(image_failed)
    }
}

fn disk_image(options: &WorldOptions) -> Result<DiskImage, Trouble> {
    if let Some(path) = &options.disk
        && path.exists()
    {
        return Ok(DiskImage { path: path.clone(), own: false });
    }
    let image = match &options.disk {
        Some(path) => DiskImage { path: path.clone(), own: false },
        None => DiskImage { path: temporary_image(), own: true },
    };
    let block_size = BlockSize::from_bytes(options.block_size)
        .ok_or_else(|| Trouble::Broken(format!("no disk has blocks of {} bytes", options.block_size)))?;
    let create = CreateOptions {
        nodes: options.nodes,
        timing: options.timing,
        block_size,
        machines: machine_ids(options.nodes),
        // Left behind by a process of the same number that was killed.
        overwrite: image.own,
        ..CreateOptions::default()
    };
    quorate_image::create(&image.path, &create).map_err(image_failed)?;
    Ok(image)
}

fn ports(nodes: NodeSet) -> Vec<usize> {
    nodes.iter().map(NodeId::index).collect()
}

impl Backend for World {
    fn refuses(&self, _: &Action) -> Option<String> {
        None
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
        if options.cluster {
            words.push(format!("cluster={}", self.cluster_id));
        }
        Ok(self.cluster.start(n, &words)?)
    }

    fn kill(&mut self, nodes: NodeSet) -> Result<(), Trouble> {
        Ok(self.cluster.kill_all(&ports(nodes))?)
    }

    fn machine(&mut self, verb: MachineVerb, node: NodeId) -> Result<(), Trouble> {
        let n = node.index();
        match verb {
            MachineVerb::Kill => self.cluster.kill(n)?,
            MachineVerb::Pause => self.cluster.pause(n)?,
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
            Some(DiskFault::Error { write, count }) => {
                let operation = if write { DiskOperation::Write } else { DiskOperation::Read };
                self.cluster.disk_error(n, operation, count)?;
            }
            Some(DiskFault::Tear) => self.cluster.disk_tear(n)?,
        }
        Ok(())
    }

    fn inject(&mut self, inject: &Inject) -> Result<(), Trouble> {
        // Without a rate all at once; without a time each once.
        let rate = inject.rate.map_or(f64::INFINITY, f64::from);
        let (count, gap_us) = inject.schedule();
        let span = Duration::from_micros(if inject.for_ms.is_some() { count * gap_us } else { 0 });
        self.cluster.switch().inject(&inject.frames, rate, span);
        Ok(())
    }

    fn edit(&mut self, edit: ImageEdit, node: Option<NodeId>) -> Result<(), Trouble> {
        let path = &self.image.path;
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
            ImageEdit::Foreign => quorate_image::set_cluster(path, ClusterId(*b"another cluster!")),
            ImageEdit::Erase => return erase_tables(path).map_err(|e| broken(&format!("{}: {e}", path.display()))),
        };
        done.map_err(image_failed)
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

/// Overwrites both partition tables: the disk is blank to whoever looks for a database.
fn erase_tables(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len();
    let zeros = vec![0; TABLE_BYTES.min(usize::try_from(length).unwrap_or(0))];
    file.write_all_at(&zeros, 0)?;
    file.write_all_at(&zeros, length - zeros.len() as u64)?;
    file.sync_data()
}
