//! The mutation check (DESIGN 9, STYLE 12): the shipped protocol code is broken on purpose, one fault at a time, and the
//! simulator must find each: by its random schedules within a bounded number of seeds, or, where the situation is rare, by a
//! directed plan or a scenario. A fault that survives is a rule that nothing holds.
//!
//! ```text
//! list (mutations.toml) ──▶ tree (a copy of the sources, one fault in it) ──▶ trial (built, run by seeds, plans, scenarios)
//!                                            campaign (all of them) ──▶ table
//! ```
//! Rules:
//! - the tree itself is never changed: faults are put into a copy under the target directory;
//! - a fault whose text does not stand in its file exactly once, or that does not compile, is an error of the list and
//!   never counts as found;
//! - a seed counts as finding a fault only if the unmutated tree holds that very seed; all plans and scenarios it holds;
//! - what no seed finds is tried with the plans, then with the scenarios; the table says which of them found it;
//! - a fault of group services is looked for with group services in every seed;
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
