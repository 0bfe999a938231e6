//! Holds what the project promises about its own source: the shape of the tree, the direction of dependencies, where
//! `unsafe` may stand, how large a file and a function may be, what must not be left over, that documents name what is there.
//!
//! Each rule is a plain function from text (or names) to findings, with a test that shows that it can fail; the test
//! `tree` applies all of them to the tree.

#![forbid(unsafe_code)]

pub mod dependencies;
pub mod documents;
pub mod layout;
pub mod rules;
pub mod source;
pub mod tree;
