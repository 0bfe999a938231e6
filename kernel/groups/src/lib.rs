//! Group services (DOM, SUB, ACK; MISSION F1–F4), level 10: ordered group messages, jobs with ACK rounds, persistent domains,
//! subgroup merge.
//!
//! One [`Engine`] per node. It is told membership's notifications of its level, messages of the interconnect's group channel,
//! and completions of its disk requests; it tells what is delivered ([`Told`]), in one order on every node. Sans-IO: no clock,
//! no allocator, nothing waits. See the crate's README for the trace events and capacities.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod ack;
pub mod api;
mod bytes;
pub mod capacity;
pub mod copies;
pub mod domain;
pub mod engine;
pub mod epoch;
mod flush;
pub mod item;
pub mod job;
pub mod member;
pub mod merge;
pub mod message;
mod order;
pub mod outbox;
mod react;
pub mod store;
pub mod tables;
pub mod told;

pub use api::{CallError, Registration, Taken, WorkStep};
pub use domain::{DomainAsk, DomainOp, Refusal};
pub use engine::{Config, Context, Counters, Engine, Outside, Post};
pub use epoch::{EpochId, Roster};
pub use item::{MemberId, Name, Position, Reason};
pub use job::{Change, JobId, JobState};
pub use member::{Member, MemberSet};
pub use told::{ChangeKind, Denied, Hear, Told};

use quorate_base::LevelDecl;

/// How the level registers: directly above membership. A graceful leave has two barriers: at the first the leaving node's jobs
/// go and what they sent is delivered, at the second the others go on without it.
pub const LEVEL: LevelDecl<'static> = LevelDecl::new(10, "groups").barriers(1, 2, 1);
