//! Scenario files: what they say ([`Scenario`]), whether it holds ([`judge`]), and the engine that makes it happen on
//! any [`Backend`], be it QEMU or the simulator.
#![forbid(unsafe_code)]

pub mod backend;
pub mod belief;
pub mod chaos;
pub mod diagnosis;
pub mod engine;
pub mod judge;
pub mod model;
pub mod nodes;
mod parse;
pub mod pattern;
pub mod qemu;
mod shared;
pub mod source;
pub mod words;

pub use backend::{Backend, Trouble};
pub use engine::{Outcome, run};
pub use model::Scenario;
