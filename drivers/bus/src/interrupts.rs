//! Interrupts off for a few instructions: the frame of every "last act before the doorbell".

/// Runs `f` with maskable interrupts disabled and restores what was before. On the host it only runs
/// `f`.
pub fn off<R>(f: impl FnOnce() -> R) -> R {
    let were_on = disable();
    let result = f();
    if were_on {
        enable();
    }
    result
}

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
fn disable() -> bool {
    let flags: u64;
    // SAFETY: reads RFLAGS through the stack and masks interrupts; the caller restores them.
    unsafe {
        core::arch::asm!("pushfq", "pop {}", "cli", out(reg) flags, options(preserves_flags));
    }
    flags & (1 << 9) != 0
}

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
fn enable() {
    // SAFETY: only called when interrupts were enabled before `disable`.
    unsafe { core::arch::asm!("sti", options(nostack)) }
}

#[cfg(not(all(target_os = "none", target_arch = "x86_64")))]
fn disable() -> bool {
    false
}

#[cfg(not(all(target_os = "none", target_arch = "x86_64")))]
fn enable() {}
