//! This node's whole traffic with the state area of the membership database: the beat (heartbeat and lease), Dekker's
//! flags, the ballot (Disk Paxos), the commit of views, what may be trusted as committed, and the disk evidence about the
//! other nodes. (EP p. 4, "Decker" lock; DESIGN 3, 4, 7.)
//!
//! [`MasterLock`] is sans-IO: [`handle`](MasterLock::handle) takes one input, then
//! [`poll_output`](MasterLock::poll_output) is drained, then the caller waits for
//! [`poll_timeout`](MasterLock::poll_timeout) or a completion. It keeps one disk request under way.
//!
//! ```text
//!  beat, every disk_heartbeat        scan ─► heartbeat written ─► scan ─► (lease renewed, peers judged)
//!                                     │                    │       │
//!                                     │                    └ a life's first: identity slots read (`identity.rs`)
//!                                     └ foreign nonce, committed exclusion: halt, nothing is written
//!
//!  lock        Idle ── Hold written ─► Raised ── look: no other Hold ─► Promise ── look: none higher ─► Accept
//!             (flag None, Want)          │ another Hold: Want                          │               │ look: none higher
//!               ▲                        ▼                                             ▼               ▼
//!               └─────────────────────────────────── a higher promise, release ──────────────────── Master ⟲ commit
//! ```
//! Invariants
//! - One request at a time, so every scan is a look after every write before it, and no block has two writes under way.
//! - A ballot write follows the read of the identity slots that follows this life's first durable heartbeat.
//! - A ballot write follows only a complete scan: each configured node's ballot block was known in it.
//! - A ballot write carries the end of the lease as its limit; a heartbeat write carries none, but follows a scan that
//!   showed this node's own nonce and no committed exclusion.
//! - Views are named by (ballot, number); what one number was committed with never changes ([`HaltReason::Impossible`]
//!   if it does).
//! - While the reservation is in use no write begins before the registration stands and a look came after it (`gate.rs`).
//! - After [`Output::Halt`] and after [`LockEvent::Farewell`] nothing is written.
//!
//! Additions to DESIGN 3 and 4, each found by a failing seed or the model checker
//! - A ballot slot that the *disk cannot read* counts as torn only after `dead` of completed reads: a read that fails in
//!   passing would hide what is committed. Its writer repairs it meanwhile.
//! - A *damaged* slot counts as torn from the second read on that shows it: one read of two slots can show one from before
//!   a write and the other, torn, from after two more; so it would miss a promise that was durable before it began.
//! - What was once read as promised or accepted stays known, also when its slot goes bad.
//! - A proposal whose write was of unknown fate, and which the readers' rules find committed, is not written again: it
//!   would become its own predecessor.
//! - A frozen node that the highest accepted view excludes, uncommitted, for `dead`, halts: nobody else could go on.
//!
//! The feature `rule-switches` is for the model checker only: a machine made under it can be told to leave out one of the
//! rules ([`Rule`]). Without the feature every question for a rule is the constant `true`.
//!
//! [`HaltReason::Impossible`]: quorate_base::HaltReason::Impossible
#![no_std]
#![forbid(unsafe_code)]

mod api;
mod ballot;
mod cycle;
#[cfg(feature = "rule-switches")]
mod fingerprint;
mod flag;
mod gate;
mod identity;
mod lease;
mod lock;
mod peer;
mod registration;
mod rules;
mod trust;

pub use api::{Config, Counters, DiskGeometry, Input, LockEvent, Output, OwnRecords, ProposeError, Status};
pub use identity::OwnIdentity;
pub use lock::{MasterLock, TAGS};
pub use peer::Peer;
pub use registration::{Refusal, Registration};
pub use rules::Rule;
#[cfg(feature = "rule-switches")]
pub use {fingerprint::Detail, rules::Rules};
