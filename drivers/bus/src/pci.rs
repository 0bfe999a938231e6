//! The PCI bus: who is there, addresses for BARs that firmware left empty, opening virtio devices.
//!
//! Configuration space is reached by port I/O (0xcf8/0xcfc), 32 bits at a time, the first 256 bytes
//! of a function, which is all that is needed here. Everything but [`PortIo`] is generic over the
//! access and tested on the host against a made-up bus.

use crate::dma::BusHal;
use crate::interrupts;
use crate::io;
use crate::msix::{self, MsiX};
use crate::platform;
use crate::port::{InterruptMode, PciPort, Port};
use crate::registers::{Mmio, PortConfig};
use core::ops::Range;
use heapless::Vec;
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, HeaderType, PCI_CAP_ID_VNDR, PciRoot,
};
use virtio_drivers::transport::pci::{PciTransport, VIRTIO_PCI_CAP_COMMON_CFG, VirtioPciError, virtio_device_type};

pub use virtio_drivers::transport::pci::bus::DeviceFunction;

/// Functions that are remembered; a node has about ten.
pub const FUNCTIONS_MAX: usize = 64;
/// Buses that are followed behind bridges.
const BUSES_MAX: usize = 32;
/// Where BARs go that firmware left empty: below the I/O APIC, above the RAM of a small q35 and its
/// ECAM window.
pub const BAR_WINDOW: Range<u32> = 0xc000_0000..0xfe00_0000;

/// Register 0x18 of a bridge: its secondary bus in bits 8 to 15.
const BRIDGE_BUSES: u8 = 0x18;
/// Interrupt line and pin.
const INTERRUPT: u8 = 0x3c;
/// First BAR register.
const BAR0: u8 = 0x10;

/// One function on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Bus, device and function number.
    pub address: DeviceFunction,
    /// PCI vendor id.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// Class and subclass.
    pub class: (u8, u8),
    /// The kind of virtio device, if it is one.
    pub virtio: Option<DeviceType>,
}

/// The functions of a machine.
pub type Functions = Vec<Function, FUNCTIONS_MAX>;

/// Why a device could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// [`platform::install`] has not been called.
    NoPlatform,
    /// There is no free address for a BAR of this many bytes.
    NoAddressSpace {
        /// Size of the BAR.
        bytes: u64,
    },
    /// The function is not a usable virtio device.
    NotVirtio(VirtioPciError),
    /// The MSI-X capability points outside its BAR, or its table has too few entries.
    BadMsiX,
    /// The BAR is no memory below 4 GiB, or has no address.
    NoRegisters {
        /// Which BAR.
        bar: u8,
    },
}

/// The interrupts a driver wants.
#[derive(Clone, Copy, Debug)]
pub struct Vectors<'a> {
    /// Interrupt vectors for the table entries 0, 1, …; empty to ask for INTx.
    pub vectors: &'a [u8],
    /// Local APIC id of the processor that takes them.
    pub destination: u8,
}

/// Configuration space through I/O ports.
#[derive(Clone, Copy, Debug)]
pub struct PortIo;

impl ConfigurationAccess for PortIo {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        // Two accesses that belong together.
        interrupts::off(|| {
            io::outl(io::ADDRESS, address(function, offset));
            io::inl(io::DATA)
        })
    }

    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        interrupts::off(|| {
            io::outl(io::ADDRESS, address(function, offset));
            io::outl(io::DATA, data);
        });
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Self
    }
}

/// What the address port takes for a register of a function.
pub(crate) fn address(function: DeviceFunction, offset: u8) -> u32 {
    1 << 31
        | u32::from(function.bus) << 16
        | u32::from(function.device) << 11
        | u32::from(function.function) << 8
        | u32::from(offset & 0xfc)
}

/// The bus, reached through `C`.
pub struct Pci<C: ConfigurationAccess> {
    access: C,
    root: PciRoot<C>,
}

impl Pci<PortIo> {
    /// The machine's own bus, by port I/O.
    pub fn port_io() -> Self {
        Self::new(PortIo, PortIo)
    }

    /// Opens a plain device: enables its memory, maps `bytes` of a 32-bit memory BAR, and gives its configuration space. The
    /// driver knows from the device's data sheet how many bytes there are; they are not asked for, because finding the size
    /// takes the device off the bus for a moment.
    ///
    /// # Errors
    /// [`OpenError::NoPlatform`], [`OpenError::NoRegisters`].
    pub fn open_plain(&mut self, function: &Function, bar: u8, bytes: usize) -> Result<(Mmio, PortConfig), OpenError> {
        self.open_with(function, bar, bytes, Command::MEMORY_SPACE)
    }

    /// As [`Pci::open_plain`], for a device that reads and writes memory by itself. It may do so from now on, if it was told
    /// to before: the driver's first act is to stop it.
    ///
    /// # Errors
    /// As [`Pci::open_plain`].
    pub fn open_master(&mut self, function: &Function, bar: u8, bytes: usize) -> Result<(Mmio, PortConfig), OpenError> {
        self.open_with(function, bar, bytes, Command::MEMORY_SPACE | Command::BUS_MASTER)
    }

    fn open_with(
        &mut self,
        function: &Function,
        bar: u8,
        bytes: usize,
        command: Command,
    ) -> Result<(Mmio, PortConfig), OpenError> {
        if !platform::is_usable() {
            return Err(OpenError::NoPlatform);
        }
        let physical = plain_memory(self.bar_register(function, bar)).ok_or(OpenError::NoRegisters { bar })?;
        self.root.set_command(function.address, command);
        Ok((Mmio::map(physical, bytes)?, PortConfig::new(function.address)))
    }
}

impl<C: ConfigurationAccess> Pci<C> {
    /// A bus behind two handles of the same access.
    pub fn new(access: C, same: C) -> Self {
        Self { access, root: PciRoot::new(same) }
    }

    /// Everything on bus 0 and behind bridges that firmware has numbered, in bus order.
    pub fn functions(&self) -> Functions {
        let mut functions = Functions::new();
        let mut buses: Vec<u8, BUSES_MAX> = Vec::new();
        let _ = buses.push(0);
        let mut next = 0;
        while let Some(&bus) = buses.get(next) {
            next += 1;
            for (address, info) in self.root.enumerate_bus(bus) {
                if info.header_type == HeaderType::PciPciBridge {
                    let secondary = (self.access.read_word(address, BRIDGE_BUSES) >> 8) as u8;
                    if !buses.contains(&secondary) {
                        // More buses than are followed: what lies there is not found.
                        let _ = buses.push(secondary);
                    }
                }
                let _ = functions.push(Function {
                    address,
                    vendor: info.vendor_id,
                    device: info.device_id,
                    class: (info.class, info.subclass),
                    virtio: virtio_device_type(&info),
                });
            }
        }
        functions
    }

    /// Gives every memory BAR that firmware left at 0 an address in `window`, above those in use
    /// there. Returns how many were given.
    ///
    /// # Errors
    /// [`OpenError::NoAddressSpace`] when the window is full.
    pub fn assign_bars(&mut self, functions: &[Function], window: Range<u32>) -> Result<usize, OpenError> {
        // Finding the size of a BAR in use unmaps it for a moment, and each time an emulator rebuilds its memory map: tens of
        // milliseconds over all devices. So nothing is sized as long as no BAR is empty.
        if !functions.iter().any(|function| self.has_empty_bar(function)) {
            return Ok(0);
        }
        let mut next = u64::from(window.start);
        for function in functions {
            self.each_memory_bar(function, |_, _, address, size| {
                if (u64::from(window.start)..u64::from(window.end)).contains(&address) {
                    next = next.max(address + size);
                }
                Ok(())
            })?;
        }
        let mut given = 0;
        for function in functions {
            let mut orders: Vec<(u8, bool, u64), 6> = Vec::new();
            self.each_memory_bar(function, |index, wide, address, size| {
                if address == 0 && size != 0 {
                    let full = OpenError::NoAddressSpace { bytes: size };
                    // BARs are naturally aligned powers of two; a page keeps mappings apart.
                    let align = size.next_power_of_two().max(4096);
                    let start = next.next_multiple_of(align);
                    if start + size > u64::from(window.end) {
                        return Err(full);
                    }
                    next = start + size;
                    let _ = orders.push((index, wide, start));
                }
                Ok(())
            })?;
            for (index, wide, address) in orders {
                if wide {
                    self.root.set_bar_64(function.address, index, address);
                } else {
                    self.root.set_bar_32(function.address, index, address as u32);
                }
                given += 1;
            }
        }
        Ok(given)
    }

    /// A memory BAR of an ordinary function has no address yet.
    fn has_empty_bar(&mut self, function: &Function) -> bool {
        const WIDE_MEMORY: u32 = 0b100;
        if function.class.0 == 6 {
            return false;
        }
        let mut index = 0;
        while index < 6 {
            let register = self.bar_register(function, index);
            if register & !0xf == 0
                && let Ok(Some(BarInfo::Memory { address: 0, size: 1.., .. })) =
                    self.root.bar_info(function.address, index)
            {
                return true;
            }
            index += if register & 0b111 == WIDE_MEMORY { 2 } else { 1 };
        }
        false
    }

    /// Calls `f(index, is_64_bit, address, size)` for each memory BAR of an ordinary function.
    fn each_memory_bar(
        &mut self,
        function: &Function,
        mut f: impl FnMut(u8, bool, u64, u64) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        // Bridges have two BARs only, and other registers where devices have BARs.
        if function.class.0 == 6 {
            return Ok(());
        }
        let mut index = 0;
        while index < 6 {
            let Ok(bar) = self.root.bar_info(function.address, index) else {
                return Ok(());
            };
            let wide = bar.as_ref().is_some_and(BarInfo::takes_two_entries);
            if let Some(BarInfo::Memory { address, size, .. }) = bar {
                f(index, wide, address, size)?;
            }
            index += if wide { 2 } else { 1 };
        }
        Ok(())
    }

    /// Opens a virtio device: enables it on the bus, maps it, programs MSI-X for the vectors given.
    /// Without MSI-X at the device, or without vectors, it interrupts by its line.
    ///
    /// # Errors
    /// Every [`OpenError`] but [`OpenError::NoAddressSpace`].
    pub fn open_virtio(&mut self, function: &Function, wanted: Vectors<'_>) -> Result<PciPort, OpenError> {
        if !platform::is_usable() {
            return Err(OpenError::NoPlatform);
        }
        let address = function.address;
        self.root.set_command(address, Command::MEMORY_SPACE | Command::BUS_MASTER | Command::IO_SPACE);
        let transport = PciTransport::new::<BusHal, C>(&mut self.root, address).map_err(OpenError::NotVirtio)?;
        let msix = if wanted.vectors.is_empty() { None } else { self.program_msix(address, wanted)? };
        let mode = if msix.is_some() { InterruptMode::MsiX } else { self.wired(function) };
        Ok(Port::new(transport, msix, wanted.vectors.len() as u16, mode))
    }

    /// How a function interrupts by its line: always [`InterruptMode::IntX`].
    pub fn wired(&self, function: &Function) -> InterruptMode {
        let word = self.access.read_word(function.address, INTERRUPT);
        InterruptMode::IntX { line: word as u8, pin: (word >> 8) as u8 }
    }

    /// `None` if the device has no MSI-X.
    fn program_msix(&mut self, address: DeviceFunction, wanted: Vectors<'_>) -> Result<Option<MsiX>, OpenError> {
        let mut capability = None;
        let mut common = None;
        for found in self.root.capabilities(address) {
            if found.id == msix::CAPABILITY {
                capability = Some(found.offset);
            }
            let kind = (found.private_header >> 8) as u8;
            if found.id == PCI_CAP_ID_VNDR && kind == VIRTIO_PCI_CAP_COMMON_CFG {
                let bar = self.access.read_word(address, found.offset.wrapping_add(4)) as u8;
                let offset = self.access.read_word(address, found.offset.wrapping_add(8));
                common = common.or(Some((bar, offset)));
            }
        }
        let (Some(capability), Some((bar, offset))) = (capability, common) else {
            return Ok(None);
        };
        let common = self.map_bar(address, bar, offset, msix::COMMON_BYTES)?;
        let control = self.access.read_word(address, capability);
        let entries = ((control >> 16) & 0x7ff) as u16 + 1;
        let place = self.access.read_word(address, capability.wrapping_add(4));
        let bytes = usize::from(entries) * msix::ENTRY_BYTES;
        let table = self.map_bar(address, (place & 7) as u8, place & !7, bytes)?;
        // SAFETY: both ranges were checked against their BARs and are mapped for ever.
        let mut table = unsafe { MsiX::new(table.cast(), entries, common) };
        let off = control & !(msix::ENABLE | msix::MASK_ALL);
        self.access.write_word(address, capability, off | msix::ENABLE | msix::MASK_ALL);
        for (entry, vector) in wanted.vectors.iter().enumerate() {
            if !table.program(entry as u16, *vector, wanted.destination) {
                self.access.write_word(address, capability, off);
                return Err(OpenError::BadMsiX);
            }
        }
        self.access.write_word(address, capability, off | msix::ENABLE);
        Ok(Some(table))
    }

    fn map_bar(
        &mut self,
        function: DeviceFunction,
        bar: u8,
        offset: u32,
        bytes: usize,
    ) -> Result<core::ptr::NonNull<u8>, OpenError> {
        if bar > 5 {
            return Err(OpenError::BadMsiX);
        }
        let info = self.root.bar_info(function, bar).ok().flatten();
        let (start, size) = info.and_then(|info| info.memory_address_size()).ok_or(OpenError::BadMsiX)?;
        if start == 0 || u64::from(offset) + bytes as u64 > size {
            return Err(OpenError::BadMsiX);
        }
        platform::map_mmio(start + u64::from(offset), bytes).ok_or(OpenError::NoPlatform)
    }

    /// The raw BAR register, for reports.
    pub fn bar_register(&self, function: &Function, index: u8) -> u32 {
        self.access.read_word(function.address, BAR0 + 4 * (index % 6))
    }
}

/// The address in the register of a 32-bit memory BAR, if it is one and has an address (PCI Local Bus 3.0 § 6.2.5.1).
fn plain_memory(register: u32) -> Option<u64> {
    const NO_PLAIN_MEMORY: u32 = 0b111;
    let address = register & !0xf;
    (register & NO_PLAIN_MEMORY == 0 && address != 0 && register != u32::MAX).then_some(u64::from(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    /// Bus, device, function and offset; value and writable bits.
    type Registers = BTreeMap<(u8, u8, u8, u8), (u32, u32)>;

    /// Configuration words of a made-up bus; BARs answer the sizing protocol.
    #[derive(Clone, Default)]
    struct Words(Rc<RefCell<Registers>>);

    impl Words {
        fn put(&self, at: (u8, u8, u8), offset: u8, value: u32, writable: u32) {
            self.0.borrow_mut().insert((at.0, at.1, at.2, offset), (value, writable));
        }

        fn device(&self, at: (u8, u8, u8), id: u32, class: u32) {
            self.put(at, 0, id, 0);
            self.put(at, 4, 0, 0xffff);
            self.put(at, 8, class << 16, 0);
            for offset in (12..=60).step_by(4) {
                self.put(at, offset, 0, 0);
            }
        }
    }

    impl ConfigurationAccess for Words {
        fn read_word(&self, f: DeviceFunction, offset: u8) -> u32 {
            self.0.borrow().get(&(f.bus, f.device, f.function, offset)).map_or(u32::MAX, |word| word.0)
        }

        fn write_word(&mut self, f: DeviceFunction, offset: u8, data: u32) {
            let mut words = self.0.borrow_mut();
            if let Some(word) = words.get_mut(&(f.bus, f.device, f.function, offset)) {
                word.0 = word.0 & !word.1 | data & word.1;
            }
        }

        unsafe fn unsafe_clone(&self) -> Self {
            self.clone()
        }
    }

    fn bus() -> Words {
        let words = Words::default();
        words.device((0, 0, 0), 0x29c0_8086, 0x0600);
        words.device((0, 2, 0), 0x1004_1af4, 0x0100);
        words.put((0, 2, 0), 0x14, 0, 0xffff_f000);
        words.put((0, 2, 0), 0x20, 0b1100, 0xffff_c000);
        words.put((0, 2, 0), 0x24, 0, 0xffff_ffff);
        words.device((0, 3, 0), 0x000c_1b36, 0x0604);
        words.put((0, 3, 0), 12, 0x0001_0000, 0);
        words.put((0, 3, 0), 0x18, 0x0001_0100, 0);
        words.device((1, 0, 0), 0x1041_1af4, 0x0200);
        words.put((1, 0, 0), 0x10, 0xfd00_0000, 0xfff0_0000);
        words
    }

    #[test]
    fn functions_are_found_also_behind_a_bridge() {
        let words = bus();
        let functions = Pci::new(words.clone(), words).functions();
        let kinds: std::vec::Vec<_> = functions.iter().map(|f| f.virtio).collect();
        assert_eq!(kinds, [None, Some(DeviceType::ScsiHost), None, Some(DeviceType::Network)]);
        assert_eq!(functions[3].address.bus, 1);
    }

    #[test]
    fn a_host_process_has_an_empty_bus() {
        assert!(Pci::port_io().functions().is_empty());
    }

    #[test]
    fn empty_bars_get_aligned_addresses_above_those_in_use() {
        let words = bus();
        let mut pci = Pci::new(words.clone(), words);
        let functions = pci.functions();
        assert_eq!(pci.assign_bars(&functions, BAR_WINDOW), Ok(2));
        let scsi = &functions[1];
        assert_eq!(pci.bar_register(scsi, 1), 0xfd10_0000);
        assert_eq!(pci.bar_register(scsi, 4), 0xfd10_4000 | 0b1100);
        assert_eq!(pci.bar_register(&functions[3], 0), 0xfd00_0000);
        assert_eq!(pci.assign_bars(&functions, BAR_WINDOW), Ok(0));
    }

    #[test]
    fn registers_are_in_plain_memory_only() {
        assert_eq!(plain_memory(0xfeb0_0000), Some(0xfeb0_0000));
        assert_eq!(plain_memory(0xfeb0_0008), Some(0xfeb0_0000), "prefetchable");
        for no in [0, 8, 0xc001, 0xfeb0_0004, u32::MAX] {
            assert_eq!(plain_memory(no), None, "{no:#x}");
        }
    }

    #[test]
    fn a_full_window_is_an_error() {
        let words = bus();
        let mut pci = Pci::new(words.clone(), words);
        let functions = pci.functions();
        assert_eq!(
            pci.assign_bars(&functions, 0x8000_0000..0x8000_1000),
            Err(OpenError::NoAddressSpace { bytes: 0x4000 })
        );
    }
}
