//! The DMA pool: whole pages carved from static memory, physically contiguous, never returned.
//!
//! Never returning them is what makes the queues safe: a device that is reset late or not at all can
//! only ever write into memory that was its own from the start. Devices are opened once per boot.

use crate::platform;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;

/// Pages of the pool: one SCSI host adapter takes some 330, a network adapter some 40. The host's
/// tests open many devices in one process.
pub const POOL_PAGES: usize = if cfg!(target_os = "none") { 512 } else { 32 * 1024 };

#[repr(C, align(4096))]
struct Pool(UnsafeCell<[u8; POOL_PAGES * PAGE_BYTES]>);

// SAFETY: the pool's bytes are only reached through the regions handed out by `carve`, each of which
// is handed out once.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool(UnsafeCell::new([0; POOL_PAGES * PAGE_BYTES]));
static CARVED: AtomicUsize = AtomicUsize::new(0);

/// Pages that are still free, for reports.
pub fn pages_free() -> usize {
    POOL_PAGES.saturating_sub(CARVED.load(Ordering::Relaxed))
}

/// Takes `pages` contiguous zeroed pages; `None` when the pool is exhausted.
fn carve(pages: usize) -> Option<NonNull<u8>> {
    let first = CARVED
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |carved| {
            carved.checked_add(pages).filter(|end| *end <= POOL_PAGES)
        })
        .ok()?;
    // SAFETY: `first + pages <= POOL_PAGES`, so the offset stays inside the pool.
    NonNull::new(unsafe { POOL.0.get().cast::<u8>().add(first * PAGE_BYTES) })
}

/// A region of the pool that belongs to its holder for ever.
#[derive(Debug)]
pub(crate) struct Region {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a region is plain memory with one owner.
unsafe impl Send for Region {}

impl Region {
    /// Takes at least `bytes`, rounded up to pages.
    pub(crate) fn take(bytes: usize) -> Option<Self> {
        let pages = bytes.div_ceil(PAGE_BYTES);
        Some(Self { start: carve(pages)?, bytes: pages * PAGE_BYTES })
    }

    /// Pointer to `len` bytes at `offset`; `None` outside the region.
    pub(crate) fn at(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len)?;
        // SAFETY: checked to lie inside the region.
        (end <= self.bytes).then(|| unsafe { self.start.add(offset) })
    }
}

/// The pool as a device made of test code reaches it: a pointer to `len` bytes at a bus address, which on the host is the
/// address itself; `None` if they do not all lie in pages that were handed out.
#[cfg(not(target_os = "none"))]
pub(crate) fn reached_by_device(address: u64, len: usize) -> Option<NonNull<u8>> {
    let start = POOL.0.get().expose_provenance() as u64;
    let offset = usize::try_from(address.checked_sub(start)?).ok()?;
    let end = offset.checked_add(len)?;
    let carved = CARVED.load(Ordering::SeqCst) * PAGE_BYTES;
    // SAFETY: checked to lie inside the pool.
    (end <= carved).then(|| NonNull::new(unsafe { POOL.0.get().cast::<u8>().add(offset) })).flatten()
}

/// The memory functions that `virtio-drivers` asks for, on top of the pool and the platform.
#[derive(Debug)]
pub enum BusHal {}

// SAFETY: `dma_alloc` hands out pages of the pool once, zeroed and page-aligned; `mmio_phys_to_virt`
// relies on the contract of `platform::install`.
unsafe impl Hal for BusHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // Address 0 is the crate's "no memory".
        carve(pages)
            .and_then(|start| Some((platform::virt_to_phys(start.as_ptr())?, start)))
            .unwrap_or((0, NonNull::dangling()))
    }

    unsafe fn dma_dealloc(_paddr: PhysAddr, _vaddr: NonNull<u8>, _pages: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(paddr: PhysAddr, size: usize) -> NonNull<u8> {
        // Devices are opened only through `Pci::open_virtio`, which refuses without a platform.
        platform::map_mmio(paddr, size).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        platform::virt_to_phys(buffer.cast::<u8>().as_ptr()).unwrap_or(0)
    }

    unsafe fn unshare(_paddr: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_disjoint_and_bounded() {
        let a = Region::take(5000).unwrap();
        let b = Region::take(1).unwrap();
        assert_eq!(a.bytes, 8192);
        assert!(a.at(8191, 1).is_some());
        assert!(a.at(8191, 2).is_none());
        assert!(a.at(usize::MAX, 2).is_none());
        let (a, b) = (a.start.as_ptr() as usize, b.start.as_ptr() as usize);
        assert!(b >= a + 8192 || b + 4096 <= a);
    }

    #[test]
    fn an_exhausted_pool_says_so() {
        assert!(carve(POOL_PAGES + 1).is_none());
        assert!(carve(usize::MAX).is_none());
        assert!(pages_free() <= POOL_PAGES);
    }
}
