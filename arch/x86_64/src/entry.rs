//! The first instructions, of both boot paths: assembly that comes to 64-bit code on tables of our own and calls `pvh_main` or `uefi_main`.

use crate::layout::PAGE_BYTES;
use crate::{pvh, stack, uefi};

core::arch::global_asm!(
    include_str!("boot_tables.s"),
    include_str!("pvh.s"),
    include_str!("uefi.s"),
    kernel_stack = sym stack::KERNEL,
    kernel_stack_bytes = const stack::GuardedStack::<{ stack::KERNEL_STACK_BYTES }>::TOP,
    pvh_main = sym pvh::pvh_main,
    uefi_main = sym uefi::uefi_main,
);

// The entry code adds to the stack's address what `GuardedStack` says, and memory.rs unmaps whole pages.
const _: () = assert!((stack::KERNEL_STACK_BYTES as u64).is_multiple_of(PAGE_BYTES));
