//! The deterministic simulator (DESIGN 9): real nodes on virtual time, with a simulated disk and a simulated switch, and
//! every invariant held after every event. The first place where every failure is looked for.
//!
//! ```text
//! random      the one seeded generator          machine    a node, its levels, its clock
//! faults      what may go wrong                 recorder   trace lines, given to the checker at once
//! disk        records, requests                 world      the queue, and what is done to machines
//! network     links                             schedule   random damage, then healing
//! scenario    scenario files on virtual time    run        a seed from beginning to end
//! ```
//! A run is a function of its seed: the same seed gives the same trace, byte for byte.
#![forbid(unsafe_code)]

mod disk;
pub mod faults;
mod machine;
mod network;
mod random;
mod recorder;
mod run;
pub mod scenario;
mod schedule;
mod world;

pub use disk::Disk;
pub use faults::{DiskFaults, Faults, LastWrite, NetFaults};
pub use machine::Machine;
pub use network::Network;
pub use random::Random;
pub use run::{Failure, Outcome, RunOptions, Summary, run_seed, run_seeds};
pub use scenario::{ScenarioWorld, run_scenario};
pub use world::{Broken, Setup, World};
