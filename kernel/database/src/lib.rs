//! The membership database on the shared disk (EP p. 4; DESIGN 3): layout, sealed records, and the kinds of record.
//!
//! Every record is 512 bytes, little endian, sealed ([`sealed`]), and stands at the start of its pitch ([`layout`]).
//! Each kind has `encode` and `decode`; what was found at a place is a [`Block`]. Nothing here reads or writes a disk.
#![no_std]
#![forbid(unsafe_code)]

pub mod ballot_block;
pub mod block;
pub mod config;
pub mod domain_block;
pub mod gpt;
pub mod heartbeat;
pub mod identity;
pub mod kernel_slot;
pub mod layout;
pub mod name;
pub mod sealed;
pub mod superblock;

pub use ballot_block::{BallotBlock, BallotHead, Predecessor, TooManyChanges, fits, newer_slot};
pub use block::{Blanks, Block, RecordError};
pub use config::{BootChoice, EndAction, FindError, MachineId, NodeConfig, find_node};
pub use domain_block::{DOMAINS_MAX, DomainBlock, DomainEntry};
pub use heartbeat::{Flag, Heartbeat};
pub use identity::{Identity, LastLife};
pub use kernel_slot::{InstalledKernel, KernelSlot};
pub use layout::Region;
pub use name::{NAME_MAX, Name, NameError};
pub use quorate_base::ClusterKey;
pub use sealed::{FORMAT_VERSION, Raw};
pub use superblock::{Superblock, SuperblockError};
