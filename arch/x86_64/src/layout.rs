//! The virtual address space.
//!
//! | from | to | what |
//! |---|---|---|
//! | `DIRECT_OFFSET` | + `PHYSICAL_MAX` | physical memory at its address plus the offset: RAM, firmware tables, devices |
//! | `KERNEL_OFFSET` | end | the kernel image, at its physical address plus the offset |
//!
//! The kernel image itself is left out of the direct map, so that its text and constants have no writable alias.

use core::ops::Range;

/// Bytes in a page. Every mapping is a multiple of it.
pub const PAGE_BYTES: u64 = 4096;

/// Added to a physical address of the kernel image. The linker script has the same number; the code model needs the highest 2 GiB.
pub const KERNEL_OFFSET: u64 = 0xffff_ffff_8000_0000;

/// Added to any other physical address: the lowest address of the higher half.
pub const DIRECT_OFFSET: u64 = 0xffff_8000_0000_0000;

/// Physical memory that nobody loads or clears, so that a reset leaves it as it is. The linker script begins the image behind
/// it. A fixed place: an image of another size finds it too.
pub const SURVIVOR: Range<u64> = 0x10_0000..0x10_2000;

/// First physical address that cannot be reached: 64 TiB, half of the higher half, more than any machine this runs on has.
pub const PHYSICAL_MAX: u64 = 1 << 46;

/// Physical to virtual, given the physical range of the kernel image. `None` beyond [`PHYSICAL_MAX`].
pub fn virtual_of(physical: u64, kernel: &Range<u64>) -> Option<u64> {
    if kernel.contains(&physical) {
        Some(physical + KERNEL_OFFSET)
    } else {
        (physical < PHYSICAL_MAX).then(|| physical + DIRECT_OFFSET)
    }
}

/// Virtual to physical. `None` for addresses outside both areas.
pub fn physical_of(virt: u64, kernel: &Range<u64>) -> Option<u64> {
    if virt >= KERNEL_OFFSET {
        let physical = virt - KERNEL_OFFSET;
        kernel.contains(&physical).then_some(physical)
    } else {
        let physical = virt.checked_sub(DIRECT_OFFSET)?;
        (physical < PHYSICAL_MAX && !kernel.contains(&physical)).then_some(physical)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_translate_both_ways() {
        let kernel = 0x10_8000..0x20_0000;
        for physical in [0, 0x10_7fff, 0x10_8000, 0x1f_ffff, 0x20_0000, 0xfee0_0000, PHYSICAL_MAX - 1] {
            let virt = virtual_of(physical, &kernel).unwrap();
            assert_eq!(physical_of(virt, &kernel), Some(physical));
        }
        assert_eq!(virtual_of(0x10_8000, &kernel), Some(0xffff_ffff_8010_8000));
        assert_eq!(virtual_of(PHYSICAL_MAX, &kernel), None);
    }

    #[test]
    fn the_kernel_image_has_one_virtual_address() {
        let kernel = 0x10_8000..0x20_0000;
        assert_eq!(physical_of(DIRECT_OFFSET + 0x10_8000, &kernel), None);
        assert_eq!(physical_of(KERNEL_OFFSET + 0x20_0000, &kernel), None);
        assert_eq!(physical_of(0x1000, &kernel), None);
    }
}
