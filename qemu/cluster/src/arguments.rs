//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use quorate_iscsi::PortalError;
use quorate_launch::iscsi::Disk;

/// Boots clusters under QEMU, plays scenarios, tests, measures.
#[derive(Debug, Parser)]
#[command(name = "cargo cluster", bin_name = "cargo cluster", version, about)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Set up, build, boot a cluster and show it
    Up(UpOptions),
    /// Set up and run every test: host tests, then scenarios on QEMU
    Test(TestOptions),
    /// Play scenario files on QEMU
    Run(RunOptions),
    /// Make, print or verify a membership database in a disk image
    #[command(subcommand)]
    Db(DbVerb),
    /// Install kernels in a disk image, choose what a node boots, list the slots
    #[command(subcommand)]
    Image(ImageVerb),
    /// Run scenarios, or random faults, in the deterministic simulator
    Sim(SimOptions),
    /// Break the protocol code on purpose, one fault at a time, and see the simulator find each
    Mutate(MutateOptions),
    /// Search small systems of the shipped code exhaustively, with all rules or without one
    Model(ModelOptions),
    /// Run the fuzz targets (needs nightly Rust and cargo-fuzz)
    Fuzz(FuzzOptions),
    /// Check traces with the independent checker
    Check {
        /// Trace files
        #[arg(required = true, value_name = "TRACE.jsonl")]
        traces: Vec<PathBuf>,
    },
    /// Ask a node of a running `up` at its console: status, why N, who-is-master, history, waits, …
    Ask(AskOptions),
    /// Show a trace as one self-contained HTML page
    Report(ReportOptions),
    /// A node as a host process, for `bench groups`: its console is standard input and output
    #[command(hide = true)]
    HostNode {
        /// Its id
        id: u8,
        /// The file that is the shared disk
        disk: PathBuf,
        /// All nodes' UDP ports on the loopback interface, in the order of their ids
        #[arg(value_delimiter = ',')]
        ports: Vec<u16>,
    },
    /// Measure
    Bench {
        /// Which benchmarks; all if none is named: boot, failover, idle, sim, scale, wire, groups, streams (what carries
        /// group services: datagrams against TCP)
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Write the figures to this file as well
        #[arg(long, value_name = "OUT")]
        json: Option<PathBuf>,
        /// Fewer repetitions
        #[arg(long)]
        short: bool,
        /// failover: over this iSCSI target as well, with the reservation fence: tgt or lio
        #[arg(long, value_name = "tgt|lio", value_parser = DiskArgument::target)]
        disk: Option<DiskArgument>,
        /// The interconnect's NIC
        #[arg(long, value_enum, default_value_t = Nic::Virtio)]
        nic: Nic,
        /// groups: leave out the part on QEMU, so that none is needed
        #[arg(long)]
        no_qemu: bool,
    },
}

/// A logical block's bytes.
fn parse_block_size(text: &str) -> Result<u32, String> {
    match text {
        "512" => Ok(512),
        "4096" => Ok(4096),
        _ => Err("disks have blocks of 512 or 4096 bytes".to_owned()),
    }
}

/// Other forms of a trace.
#[derive(Clone, Debug, Default, Args)]
pub struct Pictures {
    /// Write a report there: one self-contained HTML page
    #[arg(long, value_name = "OUT.html")]
    pub report: Option<PathBuf>,
    /// Write a trace for Perfetto and Chrome there
    #[arg(long, value_name = "OUT.json")]
    pub perfetto: Option<PathBuf>,
}

/// Options of `ask`.
#[derive(Clone, Debug, Args)]
pub struct AskOptions {
    /// Whom: a node's number, or `master`
    pub node: String,
    /// What, as at the node's console; `help` lists it
    #[arg(required = true, num_args = 1..)]
    pub text: Vec<String>,
    /// Of which `up`, by its process id, if several run
    #[arg(long, value_name = "PID")]
    pub up: Option<u32>,
}

/// Options of `report`.
#[derive(Clone, Debug, Args)]
pub struct ReportOptions {
    /// The trace, as `run` and `sim` write it with --trace
    #[arg(value_name = "TRACE.jsonl")]
    pub trace: PathBuf,
    /// Where the page goes; beside the trace if it is not said
    #[arg(short, long, value_name = "OUT.html")]
    pub output: Option<PathBuf>,
    /// Write a trace for Perfetto and Chrome there, instead of a page; with -o both
    #[arg(long, value_name = "OUT.json")]
    pub perfetto: Option<PathBuf>,
}

/// What `up` and `run` have in common.
#[derive(Clone, Debug, Args)]
pub struct Machines {
    /// How processors are made; auto is tcg unless KVM boots the kernel faster
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    pub accel: Accel,
    /// How nodes come to their kernel; direct if neither this nor the scenario says
    #[arg(long, value_enum)]
    pub boot: Option<Boot>,
    /// The interconnect's NIC; virtio if neither this nor the scenario says
    #[arg(long, value_enum)]
    pub nic: Option<Nic>,
    /// The shared disk: an image (made if it is not there), `tgt` or `lio` (a new image behind an iSCSI target that is
    /// started and stopped along with the cluster), or a unit of another target. Without it a new image
    #[arg(long, value_name = "IMAGE|tgt|lio|iscsi://HOST:PORT/IQN/LUN", value_parser = DiskArgument::parse)]
    pub disk: Option<DiskArgument>,
    /// Keep consoles, logs and a capture of the interconnect there
    #[arg(long, value_name = "DIR")]
    pub keep_logs: Option<PathBuf>,
    /// Write the trace there
    #[arg(long, value_name = "OUT.jsonl")]
    pub trace: Option<PathBuf>,
}

/// What `--disk` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskArgument {
    /// What stands behind the disk.
    pub disk: Disk,
    /// The image.
    pub image: Option<PathBuf>,
}

impl DiskArgument {
    fn parse(word: &str) -> Result<Self, PortalError> {
        Disk::named(word).map(|(disk, image)| Self { disk, image })
    }

    /// One of our own targets.
    fn target(word: &str) -> Result<Self, String> {
        match Disk::named(word).map_err(|e| e.to_string())?.0 {
            disk @ (Disk::Tgt | Disk::Lio) => Ok(Self { disk, image: None }),
            _ => Err("it must be tgt or lio".to_owned()),
        }
    }
}

/// Ways to fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fence {
    /// By time
    Lease,
    /// By the disk's persistent reservations
    Reservation,
}

impl From<Fence> for quorate_base::FenceMethod {
    fn from(fence: Fence) -> Self {
        match fence {
            Fence::Lease => Self::Lease,
            Fence::Reservation => Self::Reservation,
        }
    }
}

/// What the disk makes of the commands of a node whose registration was preempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preempted {
    /// They may be carried out for as long as a request may take; the fence waits for that
    Lingers,
    /// They are ended, or carried out before any read or write that comes later
    Ends,
}

impl From<Preempted> for quorate_base::Preempted {
    fn from(preempted: Preempted) -> Self {
        match preempted {
            Preempted::Lingers => Self::Lingers,
            Preempted::Ends => Self::Ends,
        }
    }
}

/// Who holds the reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Registrants {
    /// All registered nodes, where the disk has that
    All,
    /// One of them
    Only,
}

impl From<Registrants> for quorate_base::Registrants {
    fn from(registrants: Registrants) -> Self {
        match registrants {
            Registrants::All => Self::All,
            Registrants::Only => Self::Only,
        }
    }
}

/// Accelerators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// TCG, unless KVM is there and boots the kernel faster
    Auto,
    /// QEMU's own translator
    Tcg,
    /// The host's
    Kvm,
}

impl From<Accel> for quorate_launch::Accel {
    fn from(accel: Accel) -> Self {
        match accel {
            Accel::Auto => Self::Auto,
            Accel::Tcg => Self::Tcg,
            Accel::Kvm => Self::Kvm,
        }
    }
}

/// Ways to come to a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Boot {
    /// QEMU loads it (PVH)
    Direct,
    /// UEFI firmware starts the bootstrap on the shared disk, which loads it from the node's slot there
    Uefi,
}

impl From<Boot> for quorate_launch::BootPath {
    fn from(boot: Boot) -> Self {
        match boot {
            Boot::Direct => Self::Direct,
            Boot::Uefi => Self::Uefi,
        }
    }
}

/// NICs that have a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Nic {
    /// virtio-net
    Virtio,
    /// Intel 82540EM
    E1000,
}

impl From<Nic> for quorate_launch::Nic {
    fn from(nic: Nic) -> Self {
        match nic {
            Nic::Virtio => Self::Virtio,
            Nic::E1000 => Self::E1000,
        }
    }
}

/// Options of `up`.
#[derive(Clone, Debug, Args)]
pub struct UpOptions {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: u8,
    /// Lines instead of the full screen; ends when all nodes are joined
    #[arg(long)]
    pub plain: bool,
    /// With --plain: do not end when all nodes are joined
    #[arg(long)]
    pub keep: bool,
    /// How nodes that are put out are kept from the disk; for a database that is made now
    #[arg(long, value_enum, default_value_t = Fence::Lease)]
    pub fence: Fence,
    /// What the disk makes of the commands of a preempted node; usual is what is known of the disk
    #[arg(long, value_enum)]
    pub preempted: Option<Preempted>,
    /// Who holds the reservation; usual is what is known of the disk
    #[arg(long, value_enum)]
    pub registrants: Option<Registrants>,
    // A doc comment here would replace the help of the whole command.
    #[command(flatten)]
    pub machines: Machines,
}

/// Options of `test`.
#[derive(Clone, Debug, Args)]
pub struct TestOptions {
    /// Only tests whose name contains this
    pub filter: Option<String>,
    /// Only host tests
    #[arg(long, conflicts_with = "qemu")]
    pub host: bool,
    /// Only scenarios on QEMU
    #[arg(long)]
    pub qemu: bool,
    /// How processors are made
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    pub accel: Accel,
    /// How nodes come to their kernel, in every scenario that can be played so; the others are skipped
    #[arg(long, value_enum)]
    pub boot: Option<Boot>,
    /// The interconnect's NIC, in every scenario
    #[arg(long, value_enum)]
    pub nic: Option<Nic>,
    /// Bytes of a logical block of the shared disk, 512 or 4096, in every scenario
    #[arg(long, value_parser = parse_block_size, value_name = "BYTES")]
    pub block_size: Option<u32>,
}

/// Options of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// Scenario files
    #[arg(required = true, value_name = "FILE.toml")]
    pub files: Vec<PathBuf>,
    /// In the place of the scenario's own seed
    #[arg(long)]
    pub seed: Option<u64>,
    /// Nodes trace their writes to the shared disk
    #[arg(long)]
    pub trace_writes: bool,
    /// Bytes of a logical block of the shared disk, 512 or 4096, in the place of the scenario's own
    #[arg(long, value_parser = parse_block_size, value_name = "BYTES")]
    pub block_size: Option<u32>,
    /// Steps `chaos` last so many seconds, in the place of the scenario's own time
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub for_s: Option<u64>,
    /// Take this node image (an ELF file) instead of building one
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// In the simulator instead of on QEMU
    #[arg(long, conflicts_with_all = ["image", "block_size", "trace_writes", "disk", "keep_logs"])]
    pub sim: bool,
    // A doc comment here would replace the help of the whole command.
    #[command(flatten)]
    pub pictures: Pictures,
    // A doc comment here would replace the help of the whole command.
    #[command(flatten)]
    pub machines: Machines,
}

/// Commands of `db`.
#[derive(Clone, Debug, Subcommand)]
pub enum DbVerb {
    /// Make an image with an empty membership database
    Create {
        /// The image to make
        image: PathBuf,
        /// How many nodes
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=64))]
        nodes: u8,
        /// The cluster's name
        #[arg(long, default_value = "quorate")]
        name: String,
        /// Time-outs to begin with: default or fast
        #[arg(long, default_value = "default")]
        profile: String,
        /// One time-out in ms, as in `--timing dead=1500`; again for more
        #[arg(long, value_name = "KEY=MS")]
        timing: Vec<String>,
        /// Bytes of a logical block of the disk: 512 or 4096
        #[arg(long, default_value_t = 512)]
        block_size: u32,
        /// Only the database: without a boot partition and one for kernels, so that machines cannot boot from the disk
        #[arg(long)]
        no_esp: bool,
        /// How nodes that are put out are kept from the disk
        #[arg(long, value_enum, default_value_t = Fence::Lease)]
        fence: Fence,
        /// What the disk makes of the commands of a node whose registration was preempted
        #[arg(long, value_enum, default_value_t = Preempted::Lingers)]
        preempted: Preempted,
        /// Who holds the reservation
        #[arg(long, value_enum, default_value_t = Registrants::All)]
        registrants: Registrants,
        /// Replace an existing file
        #[arg(long)]
        force: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print everything that stands in it
    Dump {
        /// The image
        image: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give the cluster a new key; only while no node runs
    Rekey {
        /// The image
        image: PathBuf,
        /// Also if a node's last word is no graceful leave: all are off for certain
        #[arg(long)]
        force: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Verify it
    Check {
        /// The image
        image: PathBuf,
        /// Put right what can be put right; only while no node runs
        #[arg(long)]
        repair: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Commands of `image`.
#[derive(Clone, Debug, Subcommand)]
pub enum ImageVerb {
    /// Install a kernel in a slot of a node, also while nodes run
    InstallKernel {
        /// The image
        image: PathBuf,
        /// Which node, or `all`
        #[arg(long, value_name = "N|all", value_parser = parse_nodes)]
        node: Nodes,
        /// Which of its slots
        #[arg(long, value_enum, ignore_case = true)]
        slot: Slot,
        /// The kernel, an ELF file; without it the node image is built
        #[arg(long, value_name = "FILE")]
        kernel: Option<PathBuf>,
        /// What the kernel is to say of its version, in the place of what it was built as
        #[arg(long, value_name = "LABEL")]
        label: Option<String>,
        /// Words for its command line, as in `--words groups=1`
        #[arg(long, default_value = "", value_name = "KEY=VALUE …")]
        words: String,
        /// The node boots this slot from now on
        #[arg(long)]
        boot: bool,
    },
    /// Choose which slot a node boots; if the kernel there is no good, the other one is booted
    Boot {
        /// The image
        image: PathBuf,
        /// Which node, or `all`
        #[arg(long, value_name = "N|all", value_parser = parse_nodes)]
        node: Nodes,
        /// Which of its slots, or nothing
        #[arg(long, value_enum, ignore_case = true)]
        slot: SlotOrNothing,
    },
    /// Say which machine a node is: by its SMBIOS UUID, the address of its NIC, or both
    Machine {
        /// The image
        image: PathBuf,
        /// Which node
        #[arg(long)]
        node: u8,
        /// The machine's SMBIOS UUID
        #[arg(long, value_name = "UUID")]
        uuid: Option<String>,
        /// The address of its NIC
        #[arg(long, value_name = "ADDRESS")]
        mac: Option<String>,
    },
    /// Show all slots: version, size, checksum, which is booted, and whether it is good
    List {
        /// The image
        image: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Nodes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// All that it configures.
    All,
    /// One.
    One(quorate_base::NodeId),
}

fn parse_nodes(text: &str) -> Result<Nodes, String> {
    if text == "all" {
        return Ok(Nodes::All);
    }
    let id = text.parse().ok().and_then(quorate_base::NodeId::new);
    id.map(Nodes::One).ok_or_else(|| "a node is 0 to 63, or all".to_owned())
}

/// A node's slots for kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Slot {
    /// The first
    A,
    /// The second
    B,
}

impl From<Slot> for quorate_database::KernelSlot {
    fn from(slot: Slot) -> Self {
        match slot {
            Slot::A => Self::A,
            Slot::B => Self::B,
        }
    }
}

/// What a node boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SlotOrNothing {
    /// The first
    A,
    /// The second
    B,
    /// Nothing: the machine stays off the cluster
    Nothing,
}

impl From<SlotOrNothing> for quorate_database::BootChoice {
    fn from(choice: SlotOrNothing) -> Self {
        match choice {
            SlotOrNothing::A => Self::SlotA,
            SlotOrNothing::B => Self::SlotB,
            SlotOrNothing::Nothing => Self::Nothing,
        }
    }
}

/// Options of `mutate`.
#[derive(Args, Clone, Debug)]
pub struct MutateOptions {
    /// Only this one; again for more
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Print the list and end
    #[arg(long)]
    pub list: bool,
    /// Seeds that are tried, A..B without B, with each number of nodes
    #[arg(long, value_parser = crate::sim::parse_seeds, default_value = "0..2000", value_name = "A..B")]
    pub seeds: std::ops::Range<u64>,
    /// Numbers of nodes
    #[arg(long, value_delimiter = ',', default_values_t = [3, 5], value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: Vec<u8>,
    /// Mutations that are built and run at a time, each in its own copy of the sources
    #[arg(long, default_value_t = 1)]
    pub jobs: usize,
    /// Do not run the unmutated tree over all seeds first, only over those that find something
    #[arg(long)]
    pub trust_tree: bool,
}

/// Options of `sim`.
#[derive(Args, Clone, Debug)]
pub struct SimOptions {
    /// Scenario files; without one, random faults for every seed
    #[arg(value_name = "FILE.toml")]
    pub files: Vec<PathBuf>,
    /// Nodes, where no file says how many
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: u8,
    /// Seeds, A..B without B; 0..100 by default, with files their own seed
    #[arg(long, value_parser = crate::sim::parse_seeds, value_name = "A..B")]
    pub seeds: Option<std::ops::Range<u64>>,
    /// With files: start from this image's nodes, time-outs, fence, weights and disabled nodes, all off and nothing happened
    #[arg(long, value_name = "IMAGE", requires = "files")]
    pub from: Option<PathBuf>,
    /// With files: steps `chaos` last so many seconds, in the place of the scenario's own time
    #[arg(long = "for", value_name = "SECONDS", requires = "files", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub for_s: Option<u64>,
    /// Write the trace of the (last) run there
    #[arg(long, value_name = "OUT.jsonl")]
    pub trace: Option<PathBuf>,
    // A doc comment here would replace the help of the whole command.
    #[command(flatten)]
    pub pictures: Pictures,
    /// Make the first failing seed short: print the acts that are needed, and write them to a file for --replay
    #[arg(long, conflicts_with_all = ["files", "replay", "crash_points"])]
    pub shrink: bool,
    /// Run a plan that --shrink wrote
    #[arg(long, value_name = "FILE", conflicts_with_all = ["files", "seeds", "crash_points"])]
    pub replay: Option<PathBuf>,
    /// Try each step of each node as its last one, in scripted runs
    #[arg(long, conflicts_with_all = ["files", "seeds"])]
    pub crash_points: bool,
    /// Group services on every node, with traffic: jobs, messages, ACK rounds, merges, domains; without it every eighth seed has it
    #[arg(long, conflicts_with_all = ["files", "replay", "crash_points"])]
    pub groups: bool,
    /// With --crash-points: every so many-th pair of crashes
    #[arg(long, default_value_t = 16, requires = "crash_points", value_name = "N")]
    pub pairs_every: usize,
    /// With --crash-points: this one alone
    #[arg(long, requires = "crash_points", value_name = "NUMBER")]
    pub point: Option<usize>,
}

/// Options of `model`.
#[derive(Args, Clone, Debug)]
pub struct ModelOptions {
    /// Which models; all if none is named
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Leave out this rule and print the counterexample; `each`: one line for every rule
    #[arg(long, value_name = "RULE", conflicts_with_all = ["names", "nodes", "short"])]
    pub without: Option<String>,
    /// Only models of so many nodes
    #[arg(long)]
    pub nodes: Option<u8>,
    /// Tighter bounds, about a minute
    #[arg(long)]
    pub short: bool,
}

/// Options of `fuzz`.
#[derive(Args, Clone, Debug)]
pub struct FuzzOptions {
    /// Which targets; all if none is named
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// For how long, all together
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub minutes: u64,
}
