//! The kernel's address space: built once at start from the linker script's symbols and the memory map, extended by device mappings later.
//!
//! See `layout` for what is where. Nothing is ever unmapped after start, so no processor's copy of an entry can be stale.

use crate::layout::{self, DIRECT_OFFSET, KERNEL_OFFSET, PAGE_BYTES, PHYSICAL_MAX};
use crate::paging::{Access, MapError, PageSize, PageTables, Table};
use crate::{interrupts, stack};
use core::cell::UnsafeCell;
use core::ops::Range;
use core::ptr::NonNull;
use quorate_bootinfo::{BootInfo, MemoryKind};
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::{PhysFrame, Size4KiB};

/// Pages for page tables. The image takes about 10, RAM one per GiB and a few at borders, each device area one or two.
const TABLES_MAX: usize = 96;

/// RAM beyond this is not mapped: 32 GiB, a third of the pool. The kernel's own memory is in its image.
const RAM_MAPPED_MAX: u64 = 32 << 30;

struct TablePool(UnsafeCell<[Table; TABLES_MAX]>);

// SAFETY: only `init` takes the contents, once, and gives them to the mutex below.
unsafe impl Sync for TablePool {}

static POOL: TablePool = TablePool(UnsafeCell::new([Table::EMPTY; TABLES_MAX]));
static TABLES: spin::Mutex<Option<PageTables<'static>>> = spin::Mutex::new(None);

unsafe extern "C" {
    static __kernel_start: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __data_end: u8;
    static __kernel_end: u8;
}

/// Address of a linker symbol.
macro_rules! symbol {
    ($name:ident) => {
        &raw const $name as u64
    };
}

/// Physical addresses of the higher-half image.
pub fn kernel_range() -> Range<u64> {
    symbol!(__kernel_start) - KERNEL_OFFSET..symbol!(__kernel_end) - KERNEL_OFFSET
}

/// Builds the final address space and switches to it. The boot code's mappings are gone afterwards.
///
/// # Safety
/// Runs once, on the entry code's page tables, which map the image at [`KERNEL_OFFSET`].
pub(crate) unsafe fn init(info: &BootInfo) -> Result<(), MapError> {
    // SAFETY: the caller runs this once, so this is the only reference to the pool.
    let pool: &'static mut [Table] = unsafe { &mut *POOL.0.get() };
    let pool_physical = pool.as_ptr() as u64 - KERNEL_OFFSET;
    let mut tables = PageTables::new(pool, pool_physical)?;
    let sections = [
        (symbol!(__text_start), symbol!(__text_end), Access::Execute),
        (symbol!(__rodata_start), symbol!(__rodata_end), Access::Read),
        (symbol!(__data_start), symbol!(__data_end), Access::ReadWrite),
    ];
    for (start, end, access) in sections {
        tables.map(start, start - KERNEL_OFFSET, end - start, access, PageSize::Small)?;
    }
    for stack in stack::all() {
        tables.unmap(stack.guard, stack.bottom - stack.guard)?;
    }
    map_ram(&mut tables, info)?;
    let root = PhysFrame::<Size4KiB>::containing_address(PhysAddr::new(tables.root()));
    *TABLES.lock() = Some(tables);
    // SAFETY: the new tables map the running code, the stack and all data where they were.
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
    Ok(())
}

/// Maps usable RAM except the kernel image, whole pages only.
fn map_ram(tables: &mut PageTables<'static>, info: &BootInfo) -> Result<(), MapError> {
    let kernel = kernel_range();
    let regions = info.memory.as_ref().map_or(&[][..], |map| map.regions());
    for region in regions.iter().filter(|region| region.kind == MemoryKind::Usable) {
        let start = region.start.next_multiple_of(PAGE_BYTES);
        let end = region.end.min(RAM_MAPPED_MAX) & !(PAGE_BYTES - 1);
        for (from, to) in [(start, end.min(kernel.start)), (start.max(kernel.end), end)] {
            if from < to {
                tables.map(from + DIRECT_OFFSET, from, to - from, Access::ReadWrite, PageSize::LargeWhereAligned)?;
            }
        }
    }
    Ok(())
}

/// Maps the pages around a physical range into the direct map and gives the range's virtual address.
fn map_direct(physical: u64, bytes: usize, access: Access) -> Result<NonNull<u8>, MapError> {
    let end =
        physical.checked_add(bytes as u64).filter(|end| *end <= PHYSICAL_MAX).ok_or(MapError::OutOfReach(physical))?;
    let kernel = kernel_range();
    if physical < kernel.end && kernel.start < end {
        return Err(MapError::Conflict(physical + KERNEL_OFFSET));
    }
    let first = physical & !(PAGE_BYTES - 1);
    let length = end.next_multiple_of(PAGE_BYTES) - first;
    interrupts::without_interrupts(|| match TABLES.lock().as_mut() {
        Some(tables) => tables.map(first + DIRECT_OFFSET, first, length, access, PageSize::LargeWhereAligned),
        None => Err(MapError::PoolEmpty),
    })?;
    NonNull::new((physical + DIRECT_OFFSET) as *mut u8).ok_or(MapError::OutOfReach(physical))
}

/// Maps device registers, uncached. The same range may be mapped again; the address is the same.
pub fn map_mmio(physical: u64, bytes: usize) -> Result<NonNull<u8>, MapError> {
    map_direct(physical, bytes, Access::Device)
}

/// Maps firmware data (ACPI and SMBIOS tables), read-only.
pub fn map_firmware(physical: u64, bytes: usize) -> Result<NonNull<u8>, MapError> {
    map_direct(physical, bytes, Access::Read)
}

/// The virtual address of a physical one. It may be used only if the page is mapped: RAM of the memory map, the kernel image, or what `map_mmio` was
/// asked for.
pub fn phys_to_virt(physical: u64) -> Option<NonNull<u8>> {
    NonNull::new(layout::virtual_of(physical, &kernel_range())? as *mut u8)
}

/// The physical address of kernel memory: statics, the stack, the direct map.
pub fn virt_to_phys<T: ?Sized>(pointer: *const T) -> Option<u64> {
    layout::physical_of(pointer.cast::<u8>() as u64, &kernel_range())
}

/// Page tables in use, of [`TABLES_MAX`].
pub fn tables_used() -> usize {
    interrupts::without_interrupts(|| TABLES.lock().as_ref().map_or(0, PageTables::tables_used))
}
