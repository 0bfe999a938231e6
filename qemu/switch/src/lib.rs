//! The interconnect of a cluster under QEMU: a virtual Ethernet switch on unix datagram sockets, with faults per
//! direction, seeded.
//!
//! One datagram is one bare Ethernet frame, as QEMU's `-netdev dgram` sends it. Each port has a socket of its own, so
//! that the switch knows the port by the socket on which a frame came in, whatever its sender claims.
//!
//! * [`Engine`] decides: a machine without sockets or clock, so that every fault is tested on virtual time.
//! * [`Switch`] is the engine on real sockets, driven by one thread.
//! * [`Stranger`] makes hostile frames of what it sees.
//! * [`pcap`] writes captures and reads frames to inject.
#![forbid(unsafe_code)]

mod engine;
mod fault;
pub mod pcap;
mod port;
mod rng;
mod stranger;

pub use engine::{Engine, Mac, Output, PortCounters, Sent, Source};
pub use fault::{Fault, LinkFaults};
pub use port::{PortSockets, Switch, SwitchOptions};
pub use rng::Rng;
pub use stranger::{Hostile, Stranger};
