//! Broken traces, by topic.

mod disk;
mod form;
mod levels;
mod steps;
mod takeovers;
mod views;

use crate::breaking::Case;

/// All of them.
pub fn all() -> Vec<Case> {
    [form::cases(), views::cases(), steps::cases(), disk::cases(), levels::cases(), takeovers::cases()]
        .into_iter()
        .flatten()
        .collect()
}
