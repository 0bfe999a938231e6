//! The model checker: small systems made of the shipped code, in every order that can be thought of within stated bounds.
//!
//! Every rule that the protocols stand on can be left out, and the search then finds the run for which it is needed.
#![forbid(unsafe_code)]

pub mod beat;
pub mod birth;
pub mod catalog;
pub mod explore;
pub mod lock;
pub mod machine;
pub mod rounds;
