//! Plain devices, those that are no virtio: their registers in memory, and their configuration space by single bytes and
//! half words. Drivers are generic over the two traits, so that their logic runs on the host against a made-up device.

use crate::interrupts;
use crate::pci::{DeviceFunction, OpenError, address};
use crate::{io, platform};
use core::ptr::NonNull;

/// A device's registers. Every access is volatile, of the width that it says.
pub trait Registers {
    /// Two bytes at `offset`, which is even. What lies outside of the registers reads as ones.
    fn read_u16(&self, offset: usize) -> u16;
    /// Four bytes at `offset`, a multiple of four. What lies outside of the registers reads as ones.
    fn read_u32(&self, offset: usize) -> u32;
    /// Writes two bytes at `offset`, which is even. Outside of the registers nothing happens.
    fn write_u16(&mut self, offset: usize, value: u16);
    /// Writes four bytes at `offset`, a multiple of four. Outside of the registers nothing happens.
    fn write_u32(&mut self, offset: usize, value: u32);
}

/// A function's own configuration space, by the width that the device demands: some registers ignore any other.
pub trait Config {
    /// One byte.
    fn read_u8(&self, offset: u8) -> u8;
    /// Two bytes at an even offset.
    fn read_u16(&self, offset: u8) -> u16;
    /// Writes one byte.
    fn write_u8(&mut self, offset: u8, value: u8);
    /// Writes two bytes at an even offset.
    fn write_u16(&mut self, offset: u8, value: u16);
}

/// Registers that are mapped for ever.
#[derive(Debug)]
pub struct Mmio {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: device memory is reachable from every processor; there is one owner.
unsafe impl Send for Mmio {}

impl Mmio {
    /// Maps `bytes` of device memory at a physical address.
    pub(crate) fn map(physical: u64, bytes: usize) -> Result<Self, OpenError> {
        let start = platform::map_mmio(physical, bytes).ok_or(OpenError::NoPlatform)?;
        Ok(Self { start, bytes })
    }

    /// Pointer to a register of type `T`, if it lies inside and is aligned (mappings begin at an aligned address).
    fn at<T>(&self, offset: usize) -> Option<NonNull<T>> {
        let end = offset.checked_add(size_of::<T>())?;
        let inside = end <= self.bytes && offset.is_multiple_of(size_of::<T>());
        // SAFETY: checked to lie inside the mapping.
        inside.then(|| unsafe { self.start.add(offset) }.cast())
    }
}

impl Registers for Mmio {
    fn read_u16(&self, offset: usize) -> u16 {
        // SAFETY: `at` gives a place inside the mapping, which is there for ever.
        self.at::<u16>(offset).map_or(u16::MAX, |at| unsafe { at.read_volatile() })
    }

    fn read_u32(&self, offset: usize) -> u32 {
        // SAFETY: as in `read_u16`.
        self.at::<u32>(offset).map_or(u32::MAX, |at| unsafe { at.read_volatile() })
    }

    fn write_u16(&mut self, offset: usize, value: u16) {
        if let Some(at) = self.at::<u16>(offset) {
            // SAFETY: as in `read_u16`.
            unsafe { at.write_volatile(value) }
        }
    }

    fn write_u32(&mut self, offset: usize, value: u32) {
        if let Some(at) = self.at::<u32>(offset) {
            // SAFETY: as in `read_u16`.
            unsafe { at.write_volatile(value) }
        }
    }
}

/// One function's configuration space through I/O ports.
#[derive(Clone, Copy, Debug)]
pub struct PortConfig {
    function: DeviceFunction,
}

impl PortConfig {
    pub(crate) const fn new(function: DeviceFunction) -> Self {
        Self { function }
    }

    /// Chooses the register and gives the data port of its byte: two accesses that belong together.
    fn chosen<R>(&self, offset: u8, access: impl FnOnce(u16) -> R) -> R {
        interrupts::off(|| {
            io::outl(io::ADDRESS, address(self.function, offset));
            access(io::DATA + u16::from(offset & 3))
        })
    }
}

impl Config for PortConfig {
    fn read_u8(&self, offset: u8) -> u8 {
        self.chosen(offset, io::inb)
    }

    fn read_u16(&self, offset: u8) -> u16 {
        self.chosen(offset & !1, io::inw)
    }

    fn write_u8(&mut self, offset: u8, value: u8) {
        self.chosen(offset, |port| io::outb(port, value));
    }

    fn write_u16(&mut self, offset: u8, value: u16) {
        self.chosen(offset & !1, |port| io::outw(port, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_end_where_the_device_ends() {
        let words = [0x1111_2222_u32, 0x3333_4444, 0x5555_6666];
        let place = std::boxed::Box::leak(std::boxed::Box::new(words));
        let mut mmio = Mmio::map(place.as_ptr().expose_provenance() as u64, 8).unwrap();
        assert_eq!((mmio.read_u16(0), mmio.read_u16(6)), (0x2222, 0x3333));
        assert_eq!((mmio.read_u32(4), mmio.read_u32(6), mmio.read_u32(8)), (0x3333_4444, u32::MAX, u32::MAX));
        for outside in [8, 7, 1, usize::MAX] {
            assert_eq!(mmio.read_u16(outside), u16::MAX, "{outside}");
            mmio.write_u16(outside, 0);
            mmio.write_u32(outside, 0);
        }
        mmio.write_u32(6, 0);
        mmio.write_u16(2, 0xabcd);
        mmio.write_u32(4, 7);
        // SAFETY: the box is leaked, so its words are there for ever.
        let now = [0, 1, 2].map(|i| mmio.at::<u32>(i * 4).map(|at| unsafe { at.read_volatile() }));
        assert_eq!(now, [Some(0xabcd_2222), Some(7), None]);
    }

    #[test]
    fn a_host_process_has_an_empty_configuration_space() {
        let mut config = PortConfig::new(DeviceFunction { bus: 0, device: 1, function: 0 });
        config.write_u16(0x60, 3);
        config.write_u8(0x68, 2);
        assert_eq!((config.read_u16(0x60), config.read_u8(0x68)), (u16::MAX, u8::MAX));
    }
}
