//! What the bus must know about the machine's memory: two functions, installed once at start.
//!
//! The drivers never import the architecture crate; the composition hands these in.

use core::ptr::NonNull;
use spin::Once;

/// The memory functions of the machine the drivers run on.
#[derive(Clone, Copy, Debug)]
pub struct Platform {
    /// Physical address of a byte of the kernel's own static memory.
    pub virt_to_phys: fn(*const u8) -> u64,
    /// Maps `len` bytes of device memory at a physical address, uncached, for ever. Asked for the
    /// same range twice it may return the same mapping.
    pub map_mmio: fn(u64, usize) -> NonNull<u8>,
}

/// A second [`install`] was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyInstalled;

static PLATFORM: Once<Platform> = Once::new();

/// Installs the machine's memory functions. Must come before any device is opened.
///
/// # Safety
/// The static memory of the kernel image must be physically contiguous under `virt_to_phys`, and
/// `map_mmio` must return a mapping of exactly the range asked for that nothing else in the kernel
/// treats as ordinary memory.
///
/// # Errors
/// [`AlreadyInstalled`] if there is one; the first stays.
pub unsafe fn install(platform: Platform) -> Result<(), AlreadyInstalled> {
    let mut fresh = false;
    PLATFORM.call_once(|| {
        fresh = true;
        platform
    });
    if fresh { Ok(()) } else { Err(AlreadyInstalled) }
}

/// Devices can be opened: a platform is there, or this is the host, which needs none.
pub(crate) fn is_usable() -> bool {
    PLATFORM.get().is_some() || cfg!(not(target_os = "none"))
}

/// Physical address of a byte of static memory; `None` before [`install`].
pub(crate) fn virt_to_phys(address: *const u8) -> Option<u64> {
    match PLATFORM.get() {
        Some(platform) => Some((platform.virt_to_phys)(address)),
        // On the host the "device" is test code in the same address space.
        None if cfg!(not(target_os = "none")) => Some(address as u64),
        None => None,
    }
}

/// Maps device memory; `None` before [`install`].
pub(crate) fn map_mmio(physical: u64, len: usize) -> Option<NonNull<u8>> {
    match PLATFORM.get() {
        Some(platform) => Some((platform.map_mmio)(physical, len)),
        None if cfg!(not(target_os = "none")) => {
            NonNull::new(core::ptr::with_exposed_provenance_mut(physical as usize))
        }
        None => None,
    }
}
