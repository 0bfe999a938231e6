//! Broken traces, by topic.

mod disk;
mod form;
mod groups;
mod levels;
mod steps;
mod takeovers;
mod views;

pub use form::epitaph;

use crate::breaking::Case;

/// All of them.
pub fn all() -> Vec<Case> {
    [form::cases(), views::cases(), steps::cases(), disk::cases(), levels::cases(), takeovers::cases(), groups::cases()]
        .into_iter()
        .flatten()
        .collect()
}
