//! What the UEFI bootstrap decides, without UEFI (EP "cluster-cognizant bootstrap"; MISSION B4): which disk holds the membership
//! database, which node this machine is, how the cluster stands, which kernel is to be booted, and whether it is whole.
//!
//! ```text
//! disks ─▶ database ─▶ this machine's record ─▶ slot that is chosen ─▶ checksum ─▶ ELF ─▶ boot
//!            │refuse        │refuse: unconfigured,      └─ no good: the other slot ─┘
//!            ▼              ▼ ambiguous, disabled           └─ neither: refuse
//! ```
//! Invariant: nothing here can write to a disk: [`Blocks`] has no way to. Whatever stands there, the answer is a kernel that was
//! checked, or a [`Refusal`] that says what, where and what to do; never a panic.
#![no_std]
#![forbid(unsafe_code)]

pub mod command_line;
pub mod disk;
pub mod elf;
pub mod firmware;
pub mod machine;
pub mod node;
pub mod refusal;
pub mod slot;
pub mod standing;

#[cfg(test)]
mod fake;

pub use disk::{Blocks, Database, ReadFailed};
pub use elf::{ElfError, KernelFile};
pub use machine::Machine;
pub use node::{ThisNode, this_node};
pub use refusal::Refusal;
pub use slot::{Bad, Chosen, choose};
pub use standing::{Standing, standing};
