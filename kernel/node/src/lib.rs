//! One node of the cluster: birth, then the composition of lock, interconnect and membership (DESIGN 2).
//!
//! Exactly this code runs in the kernel, in the simulator and in somebody else's OS. It is given the time, datagrams and
//! disk completions, and gives out datagrams, disk requests, notifications for levels and at last a halt.
//!
//! ```text
//! birth (read superblock, configuration, own records; watch; write identity) → verify (a beat later) → live → halted
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod birth;
pub mod console;
mod group_words;
pub mod groups;
pub mod history;
mod live;
pub mod load;
pub mod node;
pub mod probe;
pub mod status;
pub mod watchdog;
pub mod why;

pub use birth::Boot;
pub use console::Console;
pub use groups::Groups;
pub use live::GROUP_BUFFER_BYTES;
pub use node::{Input, Node, Output, Ports};
pub use probe::{Probe, ProbeLevel, ProbeWordError, Probes};
pub use quorate_membership::{Change, Deregister, DeregisterError, LevelStatus, Notification, Post, RegisterError};
pub use watchdog::{Order, Patting};
