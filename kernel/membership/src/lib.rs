//! The membership manager (EP pp. 5–8; DESIGN 5 and 7): takes every registered level of every node through joins,
//! graceful leaves and forced leaves, in order, with barriers across all nodes.
//!
//! ```text
//! outside ──join asked──▶ joining ──all levels──▶ joined ──leave asked──▶ leaving ──all levels──▶ gone (halt)
//!    any member ──the others commit forced-leaving──▶ halt
//! ```
//! One machine per node, [`Membership`]: the member's side always, the master's side while this node holds the master
//! lock. It owns no lock and no link: each call is given them in a [`Context`]. Nothing here has a clock or allocates.
//!
//! Deviations from EP: the master, not each manager, decides when a level is through (EP lets "the membership managers
//! coordinate"); a forced leave needs the fence before levels from 20 up hear of it (EP relies on the panic alone).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod admission;
pub mod context;
pub mod fence;
pub mod level;
mod local;
pub mod master;
pub mod member;
pub mod membership;
pub mod message;
pub mod notification;
pub mod registration;
mod round;
pub mod rules;
mod stall;
pub mod survivors;
pub mod takeover;
#[cfg(test)]
mod tests;
pub mod transition;

pub use context::{Context, Post};
pub use member::Member;
pub use membership::{Config, Membership};
pub use notification::{Change, Notification, StateVector};
pub use registration::{Deregister, DeregisterError, LevelStatus, RegisterError};
