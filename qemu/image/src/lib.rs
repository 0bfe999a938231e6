//! Disk images with a membership database, offline: make, print, verify, repair, and damage on purpose.
//!
//! The formats are `quorate-database`'s; here they meet files. Every entry point takes any file and answers with an
//! [`ImageError`] or a list of [`Finding`]s, never with a panic.
//!
//! The GPT code is our own ([`quorate_database::gpt`], shared with the kernel) and not the crate `gpt`: that one panics
//! on entries that are not 128 bytes long, does not look at the backup table when the first one is damaged, and draws
//! its GUIDs at random, so that no image could be made twice. The tests read our images with it, at both block sizes.
#![forbid(unsafe_code)]

pub mod active;
pub mod check;
pub mod create;
pub mod disk;
pub mod dump;
pub mod error;
pub mod esp;
pub mod kernels;
pub mod machine;
pub mod random;
pub mod rekey;
pub mod repair;
pub mod snapshot;
pub mod tamper;
pub mod text;

pub use check::{Finding, Severity, check};
pub use create::{CreateOptions, Summary, bootable_bytes, create};
pub use disk::{BlockSize, Image};
pub use dump::{Dump, dump, render_json};
pub use error::ImageError;
pub use kernels::{KernelError, SlotState};
pub use machine::{format_mac, format_uuid, parse_mac, parse_uuid};
pub use rekey::{RekeyError, Rekeyed, rekey};
pub use tamper::{Damage, damage, edit_node, edit_superblock, region_hashes, set_cluster, set_version, shorten};
pub use text::{render_findings, render_text};
