//! The kernel's stacks: each in `.bss`, with a page below it that `memory` leaves unmapped.

use crate::frame::StackRange;
use crate::layout::PAGE_BYTES;
use core::cell::UnsafeCell;

/// Bytes of the stack that everything but exceptions runs on. The node's composition is one deep call tree with tables passed by value in places.
pub const KERNEL_STACK_BYTES: usize = 1 << 20;

/// Bytes of each stack an exception switches to. A report formats text, which takes a few KiB.
pub const INTERRUPT_STACK_BYTES: usize = 32 << 10;

const GUARD_BYTES: usize = PAGE_BYTES as usize;

/// A guard page and a stack above it.
#[repr(C, align(4096))]
pub struct GuardedStack<const BYTES: usize> {
    guard: UnsafeCell<[u8; GUARD_BYTES]>,
    stack: UnsafeCell<[u8; BYTES]>,
}

// SAFETY: Rust code never takes a reference to the contents; the processor uses each stack for one purpose.
unsafe impl<const BYTES: usize> Sync for GuardedStack<BYTES> {}

impl<const BYTES: usize> GuardedStack<BYTES> {
    /// Bytes from the start of the whole to the top of the stack.
    pub const TOP: usize = GUARD_BYTES + BYTES;

    const fn new() -> Self {
        Self { guard: UnsafeCell::new([0; GUARD_BYTES]), stack: UnsafeCell::new([0; BYTES]) }
    }

    /// Where it is.
    pub fn range(&self, name: &'static str) -> StackRange {
        let bottom = self.stack.get() as u64;
        StackRange { name, guard: self.guard.get() as u64, bottom, top: bottom + BYTES as u64 }
    }
}

/// The stack the entry code switches to.
pub static KERNEL: GuardedStack<KERNEL_STACK_BYTES> = GuardedStack::new();
/// For double faults.
pub static DOUBLE_FAULT: GuardedStack<INTERRUPT_STACK_BYTES> = GuardedStack::new();
/// For non-maskable interrupts.
pub static NMI: GuardedStack<INTERRUPT_STACK_BYTES> = GuardedStack::new();
/// For page faults, which a stack overflow is.
pub static PAGE_FAULT: GuardedStack<INTERRUPT_STACK_BYTES> = GuardedStack::new();
/// For machine checks.
pub static MACHINE_CHECK: GuardedStack<INTERRUPT_STACK_BYTES> = GuardedStack::new();

/// All stacks.
pub fn all() -> [StackRange; 5] {
    [
        KERNEL.range("kernel"),
        DOUBLE_FAULT.range("double fault"),
        NMI.range("NMI"),
        PAGE_FAULT.range("page fault"),
        MACHINE_CHECK.range("machine check"),
    ]
}
