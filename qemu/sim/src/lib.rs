//! The deterministic simulator (DESIGN 9): real nodes on virtual time, with a simulated disk and a simulated switch, and
//! every invariant held after every event. The first place where every failure is looked for.
//!
//! ```text
//! random      the one seeded generator          machine    a node, its levels, its clock
//! faults      what may go wrong                 recorder   trace lines, given to the checker at once
//! disk        records, requests                 typed      lines without the detour over JSON
//! reservation the target's registrations        commands   its commands on their way
//! network     links                             wire       a machine's end of the interconnect
//! world       the queue, the questions          turn       what a node does in one event
//! acts        what is done to machines          scenario   scenario files on virtual time
//! looks       read before written, committed in truth   told   what a node says, against that
//!
//! plan        all that a run is made of         schedule   draws a plan from a seed
//! director    carries a plan out                run        a seed or a plan from beginning to end
//! waylay      strikes at a moment                settle     how a cluster must end up
//! traffic     draws what group services are asked      gathered   and what they must have come to
//! shrink      makes a failing plan short        crash      every step of a script as some node's last
//! ```
//! A run is a function of its seed: the same seed gives the same trace, byte for byte.
#![forbid(unsafe_code)]

mod acts;
mod commands;
pub mod crash;
mod database;
mod director;
mod disk;
pub mod faults;
mod gathered;
mod lie;
mod looks;
mod machine;
mod network;
mod plan;
mod random;
mod recorder;
mod reservation;
mod run;
pub mod scenario;
mod schedule;
mod settle;
mod shrink;
mod slots;
mod told;
mod traffic;
mod truth;
mod turn;
mod typed;
mod watchdog;
mod waylay;
pub mod wire;
mod world;

pub use database::Database;
pub use disk::Disk;
pub use faults::{DiskFaults, Faults, LastWrite, NetFaults};
pub use lie::{Lack, Lie};
pub use machine::Machine;
pub use network::{Arrival, Network};
pub use plan::{Act, BadPlan, Blow, Broke, Moment, Noise, Plan, Role, Step, Who};
pub use random::Random;
pub use reservation::TargetKind;
pub use run::{Failure, Outcome, RunOptions, Summary, run_plan, run_seed, run_seeds};
pub use scenario::{ScenarioWorld, run_scenario, run_scenario_from};
pub use shrink::{Shrunk, kind_of, shrink};
pub use world::{Broken, Invariant, Setup, World};
