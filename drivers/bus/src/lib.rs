//! The bus: DMA memory, PCI, MSI-X and virtqueues behind interfaces that need no `unsafe`.
//!
//! This is the only driver crate with unsafe code. It knows no kind of device: the drivers above it
//! (`virtio-scsi`, `virtio-net`) are `forbid(unsafe_code)` and reach the hardware through
//! [`port::Port`] and [`queue::Queue`], or, if it is no virtio, through [`registers`] and [`ring`].
//!
//! Invariants:
//! - Memory that a device may write is never lent out: a slot of a [`queue::Queue`] or [`ring::Ring`] is
//!   readable only while nothing in it is outstanding.
//! - DMA memory is carved from a static pool and never returned ([`dma`]), so that a forgotten device
//!   can never write into memory that has found another owner.
//! - Nothing read from a ring is used as an index before it is checked.
//!
//! Deviation from the `virtio-drivers` crate, whose transport and rings are used: EVENT_IDX is never
//! negotiated (its notification check does not wrap with the 16-bit index); without it the device's own
//! flag says whether it wants to be notified.
#![no_std]

#[cfg(not(target_os = "none"))]
extern crate std;

pub mod dma;
#[cfg(not(target_os = "none"))]
pub mod fake;
pub mod interrupts;
mod io;
pub mod msix;
pub mod pci;
pub mod platform;
pub mod port;
pub mod queue;
pub mod registers;
pub mod ring;

pub use virtio_drivers::transport::pci::PciTransport;
pub use virtio_drivers::transport::{DeviceType, Transport};
