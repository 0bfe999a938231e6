//! A cluster of one node on virtual time.

mod console;
mod watchdog;
mod world;
