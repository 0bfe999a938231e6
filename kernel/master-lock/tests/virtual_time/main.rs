//! Locks that run against each other on virtual time and one simulated disk.

mod seeds;
mod states;
mod world;
