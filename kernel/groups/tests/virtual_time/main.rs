//! Engines of several nodes on virtual time: a network that delays, reorders, loses and doubles; a membership that tells them
//! of joins and leaves; a shared disk; and a check after every step.
#![forbid(unsafe_code)]

mod ack;
mod check;
mod domains;
mod engine;
mod long;
mod membership;
mod merge;
mod seeds;
mod world;
