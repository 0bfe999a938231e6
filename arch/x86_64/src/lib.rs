//! The x86_64 machine: entry, address space, interrupts, clock, timer.
//!
//! Start-up has two parts. The entry code (`entry`, then `pvh` or `uefi`) builds the final address space, descriptor tables and exception reports, and calls the image's main
//! function (see `kernel_main!`). That function opens its ports, so that it can speak, and calls `init`, which finds the interrupt controllers
//! and the reference clock.
//!
//! Invariants: one processor; no page is both writable and executable; every stack ends in an unmapped page; interrupt handlers are short functions
//! that only set flags and wake tasks.
//!
//! The parts without privileged instructions also build for the host, where they are tested.

#![no_std]

pub mod exception;
pub mod frame;
pub mod layout;
pub mod paging;
pub mod rate;
pub mod smbios;

#[cfg(target_os = "none")]
mod apic;
#[cfg(target_os = "none")]
pub mod clock;
#[cfg(target_os = "none")]
mod critical;
#[cfg(target_os = "none")]
pub mod delay;
#[cfg(target_os = "none")]
pub mod entropy;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
pub mod fault;
#[cfg(target_os = "none")]
mod hpet;
#[cfg(target_os = "none")]
pub mod interrupts;
#[cfg(target_os = "none")]
pub mod ioapic;
#[cfg(target_os = "none")]
pub mod memory;
#[cfg(target_os = "none")]
pub mod msi;
#[cfg(target_os = "none")]
pub mod platform;
#[cfg(target_os = "none")]
pub mod port;
#[cfg(target_os = "none")]
pub mod power;
#[cfg(target_os = "none")]
mod pvh;
#[cfg(target_os = "none")]
mod segments;
#[cfg(target_os = "none")]
mod stack;
#[cfg(target_os = "none")]
pub mod survivor;
#[cfg(target_os = "none")]
pub mod timer;
#[cfg(target_os = "none")]
mod uefi;
#[cfg(target_os = "none")]
mod version;

#[cfg(target_os = "none")]
mod start;
#[cfg(target_os = "none")]
pub use start::{InitError, Machine, init};
#[cfg(target_os = "none")]
pub use version::version;

/// What the boot path hands over, for `kernel_main!`.
pub use quorate_bootinfo as bootinfo;
