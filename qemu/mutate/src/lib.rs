//! The mutation check (DESIGN 9, STYLE 12): the shipped protocol code is broken on purpose, one fault at a time, and the
//! simulator's random schedules must find each within a bounded number of seeds. A fault that survives is a rule that
//! nothing holds.
//!
//! ```text
//! list (mutations.toml) ──▶ tree (a copy of the sources, one fault in it) ──▶ trial (built, run seed by seed)
//!                                            campaign (all of them) ──▶ table
//! ```
//! Rules:
//! - the tree itself is never changed: faults are put into a copy under the target directory;
//! - a fault whose text does not stand in its file exactly once, or that does not compile, is an error of the list and
//!   never counts as found;
//! - a seed counts as finding a fault only if the unmutated tree holds that very seed;
//! - what counts: a broken invariant or rule of the checker, a cluster that does not settle, a panic, a run that hangs.
#![forbid(unsafe_code)]

mod campaign;
mod list;
mod table;
mod tree;
mod trial;

pub use campaign::{Campaign, CampaignError, Plan};
pub use list::{List, ListError, Mutation};
pub use table::render;
pub use tree::Tree;
pub use trial::{Catch, Outcome, Report, Run};
