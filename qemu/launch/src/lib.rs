//! Starts a cluster's machines under QEMU, on one shared disk and one virtual switch, and does to them what a scenario
//! says: kill, pause, freeze, cut, stall.
//!
//! ```text
//! setup()          targets, QEMU, the node image            -> Tools
//! Cluster::new()   run directory, guard, switch, listeners  -> Cluster
//!   .start(n, …)   one QEMU process; its trace, log, console and QMP come back over unix sockets
//!   .kill(n) .pause(n) .freeze(n) .reset(n) .command(n, …) .switch() .disk_…(n)
//! drop             every process is gone, every socket is removed
//! ```
//! Invariant: whatever ends the harness, the guard (`guard.rs`) ends its children and removes the run directory.
#![forbid(unsafe_code)]

mod accel;
mod cluster;
mod console;
mod disk;
mod error;
mod fault;
mod firmware;
mod guard;
pub mod identity;
mod idle;
pub mod interrupt;
pub mod iscsi;
mod machine;
mod nbd;
mod options;
mod probe;
mod qemu;
mod qmp;
mod run_dir;
mod setup;
mod usage;

pub use accel::Accel;
pub use cluster::Cluster;
pub use disk::DiskCut;
pub use error::{LaunchError, SetupError};
pub use fault::{DiskOperation, DiskRule, Extent, Trick};
pub use firmware::{Uefi, uefi};
pub use idle::IDLE_LIMIT;
pub use machine::MachineState;
pub use options::{BootPath, ClusterOptions, MachineOptions, Nic};
pub use probe::Probe;
pub use qmp::{Qmp, QmpError};
pub use setup::{Progress, SetupOptions, Tools, bootstrap, hobby_os, node_image, setup, workspace_root};
pub use usage::Usage;
