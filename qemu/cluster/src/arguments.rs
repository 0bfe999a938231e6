//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Run scenarios, or random faults, in the deterministic simulator
    Sim(SimOptions),
    /// Break the protocol code on purpose, one fault at a time, and see the simulator find each
    Mutate(MutateOptions),
    /// Search small systems of the shipped code exhaustively, with all rules or without one
    Model(ModelOptions),
    /// Check traces with the independent checker
    Check {
        /// Trace files
        #[arg(required = true, value_name = "TRACE.jsonl")]
        traces: Vec<PathBuf>,
    },
    /// Measure
    Bench {
        /// Which benchmarks; all if none is named
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Write the figures to this file as well
        #[arg(long, value_name = "OUT")]
        json: Option<PathBuf>,
        /// Fewer repetitions
        #[arg(long)]
        short: bool,
    },
}

/// What `up` and `run` have in common.
#[derive(Clone, Debug, Args)]
pub struct Machines {
    /// How processors are made; auto is tcg unless KVM boots the kernel faster
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    pub accel: Accel,
    /// How the node image is started: by QEMU itself
    #[arg(long, value_enum, default_value_t = Boot::Direct)]
    pub boot: Boot,
    /// The interconnect's NIC
    #[arg(long, value_enum, default_value_t = Nic::Virtio)]
    pub nic: Nic,
    /// The shared disk's image; made if it is not there. Without it a new one, removed at the end
    #[arg(long, value_name = "IMAGE")]
    pub disk: Option<PathBuf>,
    /// Keep consoles, logs and a capture of the interconnect there
    #[arg(long, value_name = "DIR")]
    pub keep_logs: Option<PathBuf>,
    /// Write the trace there
    #[arg(long, value_name = "OUT.jsonl")]
    pub trace: Option<PathBuf>,
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

/// Ways to start the node image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Boot {
    /// QEMU loads the kernel (PVH)
    Direct,
}

/// NICs that have a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Nic {
    /// virtio-net
    Virtio,
}

impl From<Nic> for quorate_launch::Nic {
    fn from(nic: Nic) -> Self {
        match nic {
            Nic::Virtio => Self::Virtio,
        }
    }
}

/// Options of `up`.
#[derive(Clone, Debug, Args)]
pub struct UpOptions {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: u8,
    /// Lines instead of a table that is drawn again; ends when all nodes are joined
    #[arg(long)]
    pub plain: bool,
    /// With --plain: do not end when all nodes are joined
    #[arg(long)]
    pub keep: bool,
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
    /// Write the trace of the (last) run there
    #[arg(long, value_name = "OUT.jsonl")]
    pub trace: Option<PathBuf>,
    /// Make the first failing seed short: print the acts that are needed, and write them to a file for --replay
    #[arg(long, conflicts_with_all = ["files", "replay", "crash_points"])]
    pub shrink: bool,
    /// Run a plan that --shrink wrote
    #[arg(long, value_name = "FILE", conflicts_with_all = ["files", "seeds", "crash_points"])]
    pub replay: Option<PathBuf>,
    /// Try each step of each node as its last one, in scripted runs
    #[arg(long, conflicts_with_all = ["files", "seeds"])]
    pub crash_points: bool,
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
