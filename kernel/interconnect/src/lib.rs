//! The interconnect (DESIGN 6): what the nodes of a cluster say to each other over a private Ethernet, and whom each of
//! them hears.
//!
//! ```text
//! envelope      every datagram: who, which life, to whom, which channel, counter, Lamport clock, tag
//! seal          the key of a life, the cipher
//! heartbeat     the payload that each node broadcasts once per `net_heartbeat`
//! reach         who hears whom, since when, and which links flapped
//! replay        the window of counters seen of a peer
//! interconnect  the sans-IO machine: verifies, counts, suspects, sends
//! stack         the smoltcp glue: datagrams over any Ethernet device, without ARP
//! ```
//! Everything but `stack` is pure; nothing here allocates, sleeps or reads a clock.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod counters;
pub mod envelope;
pub mod heartbeat;
pub mod interconnect;
pub mod reach;
pub mod replay;
pub mod seal;
pub mod stack;

pub use counters::{Counters, Drop};
pub use envelope::{Channel, Destination, Opened, PAYLOAD_MAX};
pub use heartbeat::{Heartbeat, Status};
pub use interconnect::{Config, Interconnect, Peer, Received, SendError};
pub use reach::Reach;
pub use stack::{Stack, StackError, StackFull, StackStorage};
