//! Page tables as plain data (AMD64 manual vol. 2 § 5.3).
//!
//! [`PageTables`] builds four-level tables inside a pool of pages and follows only addresses that lie in that pool, so it needs no unsafe code and is
//! tested on the host. `memory.rs` owns the pool and gives the root to the processor.
//!
//! Invariants: no entry is writable and executable; an entry never changes from one physical page or cache type to another.

use crate::layout::PAGE_BYTES;

/// Bytes a large page maps.
pub const LARGE_BYTES: u64 = 2 << 20;

const ENTRIES: usize = 512;
const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// What [`Access`] decides.
const ACCESS: u64 = WRITABLE | WRITE_THROUGH | CACHE_DISABLE | NO_EXECUTE;

/// One page of table entries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C, align(4096))]
pub struct Table([u64; ENTRIES]);

impl Table {
    /// A table that maps nothing.
    pub const EMPTY: Self = Self([0; ENTRIES]);
}

/// What may be done with a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Execute and read.
    Execute,
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and write, uncached: device registers.
    Device,
}

impl Access {
    fn bits(self) -> u64 {
        match self {
            Self::Execute => 0,
            Self::Read => NO_EXECUTE,
            Self::ReadWrite => NO_EXECUTE | WRITABLE,
            Self::Device => NO_EXECUTE | WRITABLE | CACHE_DISABLE | WRITE_THROUGH,
        }
    }
}

/// Whether a mapping may use 2 MiB pages where addresses allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageSize {
    /// 4 KiB pages only.
    Small,
    /// 2 MiB pages where they fit.
    LargeWhereAligned,
}

/// Why a range cannot be mapped or unmapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapError {
    /// An address or a length is not a multiple of the page size, or the range wraps.
    Unaligned,
    /// No page is left in the pool for a table.
    PoolEmpty,
    /// The page at this virtual address is mapped otherwise.
    Conflict(u64),
    /// The page at this virtual address is part of a large page.
    InLargePage(u64),
    /// The physical address cannot be reached from the kernel.
    OutOfReach(u64),
}

impl core::fmt::Display for MapError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unaligned => f.write_str("range is not made of pages"),
            Self::PoolEmpty => f.write_str("no page left for page tables"),
            Self::Conflict(at) => write!(f, "page {at:#x} is mapped otherwise"),
            Self::InLargePage(at) => write!(f, "page {at:#x} is part of a large page"),
            Self::OutOfReach(at) => write!(f, "physical address {at:#x} is out of reach"),
        }
    }
}

impl core::error::Error for MapError {}

/// Four-level tables in a pool; the first page of the pool is the root.
#[derive(Debug)]
pub struct PageTables<'pool> {
    pool: &'pool mut [Table],
    pool_physical: u64,
    used: usize,
}

/// Where the walk for an address ended.
enum Slot {
    /// Entry `.1` of table `.0`, on the level that maps 4 KiB.
    Small(usize, usize),
    /// Entry `.1` of table `.0`, on the level that maps 2 MiB.
    Large(usize, usize),
}

impl<'pool> PageTables<'pool> {
    /// Starts with nothing mapped. `pool_physical` is the physical address of the pool's first page.
    pub fn new(pool: &'pool mut [Table], pool_physical: u64) -> Result<Self, MapError> {
        if !pool_physical.is_multiple_of(PAGE_BYTES) {
            return Err(MapError::Unaligned);
        }
        *pool.first_mut().ok_or(MapError::PoolEmpty)? = Table::EMPTY;
        Ok(Self { pool, pool_physical, used: 1 })
    }

    /// Physical address of the root table.
    pub fn root(&self) -> u64 {
        self.pool_physical
    }

    /// Tables in use, for the boot report.
    pub fn tables_used(&self) -> usize {
        self.used
    }

    /// Maps `bytes` at `virt` to `physical`. Pages that are mapped so already, with at least this access, stay as they are; on an error the pages
    /// before the failing one are mapped.
    pub fn map(
        &mut self,
        virt: u64,
        physical: u64,
        bytes: u64,
        access: Access,
        size: PageSize,
    ) -> Result<(), MapError> {
        let aligned = [virt, physical, bytes].iter().all(|number| number.is_multiple_of(PAGE_BYTES));
        if !aligned || virt.checked_add(bytes.saturating_sub(1)).is_none() || physical.checked_add(bytes).is_none() {
            return Err(MapError::Unaligned);
        }
        let mut done = 0;
        while done < bytes {
            let (at, to) = (virt + done, physical + done);
            let fits = (at | to).is_multiple_of(LARGE_BYTES) && bytes - done >= LARGE_BYTES;
            done += if size == PageSize::LargeWhereAligned && fits {
                self.map_large(at, to, access)?
            } else {
                self.map_small(at, to, access)?
            };
        }
        Ok(())
    }

    /// Removes `bytes` at `virt` from 4 KiB mappings. The caller flushes the processor's copies.
    pub fn unmap(&mut self, virt: u64, bytes: u64) -> Result<(), MapError> {
        if !(virt | bytes).is_multiple_of(PAGE_BYTES) || virt.checked_add(bytes.saturating_sub(1)).is_none() {
            return Err(MapError::Unaligned);
        }
        for page in 0..bytes / PAGE_BYTES {
            let at = virt + page * PAGE_BYTES;
            match self.find(at) {
                Some(Slot::Small(table, entry)) => self.pool[table].0[entry] = 0,
                Some(Slot::Large(..)) => return Err(MapError::InLargePage(at)),
                None => {}
            }
        }
        Ok(())
    }

    /// The physical address behind `virt`, and whether it may be written and executed.
    pub fn translate(&self, virt: u64) -> Option<Translation> {
        let (entry, mask) = match self.find(virt)? {
            Slot::Small(table, entry) => (self.pool[table].0[entry], PAGE_BYTES - 1),
            Slot::Large(table, entry) => (self.pool[table].0[entry], LARGE_BYTES - 1),
        };
        (entry & PRESENT != 0).then_some(Translation {
            physical: (entry & ADDRESS & !mask) | (virt & mask),
            writable: entry & WRITABLE != 0,
            executable: entry & NO_EXECUTE == 0,
            cached: entry & CACHE_DISABLE == 0,
        })
    }

    fn map_large(&mut self, virt: u64, physical: u64, access: Access) -> Result<u64, MapError> {
        let directory = self.table_for(virt, 2)?;
        let entry = &mut self.pool[directory].0[index(virt, 1)];
        if *entry & PRESENT == 0 {
            *entry = physical | access.bits() | LARGE | PRESENT;
            return Ok(LARGE_BYTES);
        }
        if *entry & LARGE == 0 {
            // Smaller pages are there already: fill up around them.
            return self.map_small(virt, physical, access);
        }
        agrees(*entry, *entry & ADDRESS, physical, access, virt).map(|()| LARGE_BYTES)
    }

    fn map_small(&mut self, virt: u64, physical: u64, access: Access) -> Result<u64, MapError> {
        if let Some(Slot::Large(table, entry)) = self.find(virt) {
            let entry = self.pool[table].0[entry];
            let mapped = (entry & ADDRESS & !(LARGE_BYTES - 1)) | (virt & (LARGE_BYTES - 1));
            return agrees(entry, mapped, physical, access, virt).map(|()| PAGE_BYTES);
        }
        let table = self.table_for(virt, 1)?;
        let entry = &mut self.pool[table].0[index(virt, 0)];
        if *entry & PRESENT == 0 {
            *entry = physical | access.bits() | PRESENT;
            return Ok(PAGE_BYTES);
        }
        agrees(*entry, *entry & ADDRESS, physical, access, virt).map(|()| PAGE_BYTES)
    }

    /// The pool index of the table `steps_left` levels above the pages, made if it is missing.
    fn table_for(&mut self, virt: u64, levels_below: u32) -> Result<usize, MapError> {
        let mut table = 0;
        for level in (levels_below..=3).rev() {
            let entry = self.pool[table].0[index(virt, level)];
            table = if entry & PRESENT == 0 {
                let fresh = self.used;
                *self.pool.get_mut(fresh).ok_or(MapError::PoolEmpty)? = Table::EMPTY;
                self.used += 1;
                // Rights are decided by the last level only.
                self.pool[table].0[index(virt, level)] =
                    (self.pool_physical + fresh as u64 * PAGE_BYTES) | WRITABLE | PRESENT;
                fresh
            } else if entry & LARGE != 0 {
                return Err(MapError::InLargePage(virt));
            } else {
                self.pool_index(entry).ok_or(MapError::Conflict(virt))?
            };
        }
        Ok(table)
    }

    fn find(&self, virt: u64) -> Option<Slot> {
        let mut table = 0;
        for level in (1..=3).rev() {
            let entry = self.pool[table].0[index(virt, level)];
            if entry & PRESENT == 0 {
                return None;
            }
            if entry & LARGE != 0 {
                return Some(Slot::Large(table, index(virt, level)));
            }
            table = self.pool_index(entry)?;
        }
        Some(Slot::Small(table, index(virt, 0)))
    }

    fn pool_index(&self, entry: u64) -> Option<usize> {
        let page = (entry & ADDRESS).checked_sub(self.pool_physical)? / PAGE_BYTES;
        usize::try_from(page).ok().filter(|page| *page < self.used)
    }
}

/// What a virtual address leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// The physical address.
    pub physical: u64,
    /// Whether it may be written.
    pub writable: bool,
    /// Whether it may be executed.
    pub executable: bool,
    /// Whether accesses go through the caches.
    pub cached: bool,
}

/// Which of the 512 entries on `level` (0 maps 4 KiB pages) belongs to `virt`.
fn index(virt: u64, level: u32) -> usize {
    (virt >> (12 + 9 * level)) as usize % ENTRIES
}

/// An existing entry serves if it leads to the same page, has the same cache type and at least the wanted rights.
fn agrees(entry: u64, mapped: u64, physical: u64, access: Access, virt: u64) -> Result<(), MapError> {
    let (has, wants) = (entry & ACCESS, access.bits());
    let same_rights = has == wants || (has == Access::ReadWrite.bits() && wants == Access::Read.bits());
    if mapped == physical && same_rights { Ok(()) } else { Err(MapError::Conflict(virt)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec;

    const POOL_AT: u64 = 0x70_0000;
    const HIGH: u64 = crate::layout::DIRECT_OFFSET;

    #[test]
    fn small_pages_translate() {
        let mut pool = vec![Table::EMPTY; 8];
        let mut tables = PageTables::new(&mut pool, POOL_AT).unwrap();
        tables.map(HIGH + 0x1000, 0x5000, 0x3000, Access::Execute, PageSize::Small).unwrap();
        let page = tables.translate(HIGH + 0x2abc).unwrap();
        assert_eq!((page.physical, page.writable, page.executable, page.cached), (0x6abc, false, true, true));
        assert_eq!(tables.translate(HIGH), None);
        assert_eq!(tables.translate(HIGH + 0x4000), None);
        assert_eq!(tables.tables_used(), 4);
    }

    #[test]
    fn no_access_is_writable_and_executable() {
        for access in [Access::Execute, Access::Read, Access::ReadWrite, Access::Device] {
            let mut pool = vec![Table::EMPTY; 8];
            let mut tables = PageTables::new(&mut pool, POOL_AT).unwrap();
            tables.map(HIGH, 0, LARGE_BYTES + PAGE_BYTES, access, PageSize::LargeWhereAligned).unwrap();
            for at in [HIGH, HIGH + LARGE_BYTES] {
                let page = tables.translate(at).unwrap();
                assert!(!(page.writable && page.executable), "{access:?}");
                assert_eq!(page.cached, access != Access::Device);
            }
        }
    }

    #[test]
    fn large_pages_are_used_where_aligned() {
        let mut pool = vec![Table::EMPTY; 8];
        let mut tables = PageTables::new(&mut pool, POOL_AT).unwrap();
        let range = (LARGE_BYTES - PAGE_BYTES, 2 * LARGE_BYTES + 2 * PAGE_BYTES);
        tables.map(HIGH + range.0, range.0, range.1, Access::ReadWrite, PageSize::LargeWhereAligned).unwrap();
        for offset in [range.0, LARGE_BYTES, 2 * LARGE_BYTES + 123, range.0 + range.1 - 1] {
            assert_eq!(tables.translate(HIGH + offset).unwrap().physical, offset);
        }
        assert_eq!(tables.translate(HIGH + range.0 + range.1), None);
        // root, directory pointers, directory, one table on either side
        assert_eq!(tables.tables_used(), 5);
    }

    #[test]
    fn mapping_again_is_no_error_but_mapping_otherwise_is() {
        let mut pool = vec![Table::EMPTY; 8];
        let mut tables = PageTables::new(&mut pool, POOL_AT).unwrap();
        tables.map(HIGH, 0, LARGE_BYTES, Access::ReadWrite, PageSize::LargeWhereAligned).unwrap();
        tables.map(HIGH, 0, LARGE_BYTES, Access::ReadWrite, PageSize::LargeWhereAligned).unwrap();
        tables.map(HIGH + 0x3000, 0x3000, 0x1000, Access::Read, PageSize::Small).unwrap();
        let at = HIGH + 0x3000;
        assert_eq!(tables.map(at, 0x3000, 0x1000, Access::Device, PageSize::Small), Err(MapError::Conflict(at)));
        assert_eq!(tables.map(at, 0x4000, 0x1000, Access::ReadWrite, PageSize::Small), Err(MapError::Conflict(at)));
        assert_eq!(tables.unmap(at, 0x1000), Err(MapError::InLargePage(at)));
    }

    #[test]
    fn a_large_mapping_fills_up_around_small_pages() {
        let mut pool = vec![Table::EMPTY; 8];
        let mut tables = PageTables::new(&mut pool, POOL_AT).unwrap();
        tables.map(HIGH + 0x1000, 0x1000, 0x1000, Access::Device, PageSize::Small).unwrap();
        tables.map(HIGH, 0, LARGE_BYTES, Access::Device, PageSize::LargeWhereAligned).unwrap();
        assert_eq!(tables.translate(HIGH + LARGE_BYTES - 1).unwrap().physical, LARGE_BYTES - 1);
    }

    #[test]
    fn unmapped_guard_page_leads_nowhere() {
        let mut pool = vec![Table::EMPTY; 8];
        let mut tables = PageTables::new(&mut pool, POOL_AT).unwrap();
        tables.map(HIGH, 0x1_0000, 0x3000, Access::ReadWrite, PageSize::Small).unwrap();
        tables.unmap(HIGH + 0x1000, 0x1000).unwrap();
        assert!(tables.translate(HIGH + 0xfff).is_some());
        assert_eq!(tables.translate(HIGH + 0x1000), None);
        assert!(tables.translate(HIGH + 0x2000).is_some());
    }

    #[test]
    fn bad_ranges_and_an_empty_pool_are_errors() {
        let mut pool = vec![Table::EMPTY; 2];
        let mut tables = PageTables::new(&mut pool, POOL_AT).unwrap();
        assert_eq!(tables.map(HIGH + 1, 0, 0x1000, Access::Read, PageSize::Small), Err(MapError::Unaligned));
        assert_eq!(tables.map(u64::MAX - 0xfff, 0, 0x2000, Access::Read, PageSize::Small), Err(MapError::Unaligned));
        assert_eq!(tables.map(HIGH, 0, 0x1000, Access::Read, PageSize::Small), Err(MapError::PoolEmpty));
        assert_eq!(PageTables::new(&mut [], 0).err(), Some(MapError::PoolEmpty));
    }
}
