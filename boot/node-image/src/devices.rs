//! The devices of a node: the adapter of the shared disk and the NIC, with an interrupt vector each that wakes the node's
//! task, and a watchdog if there is one. Found on the PCI bus.

use core::fmt;
use core::ptr::NonNull;
use quorate_arch_x86_64::platform::Platform as Wiring;
use quorate_arch_x86_64::{interrupts, memory, msi};
use quorate_bus::DeviceType;
use quorate_bus::pci::{BAR_WINDOW, Function, OpenError, Pci, PortIo, Vectors};
use quorate_bus::platform::{self, Platform};
use quorate_bus::port::InterruptMode;
use quorate_e1000::PciE1000;
use quorate_virtio_net::PciNet;
use quorate_virtio_scsi::PciScsi;
use quorate_watchdog::{I6300esb, PciI6300esb};

use crate::event::Event;
use crate::nic::Nic;

/// Raised when the disk or the NIC has something to say, and when a command waits.
pub static WORK: Event = Event::new();

fn on_device() {
    WORK.raise();
}

/// Why a device cannot be used.
#[derive(Debug)]
pub enum DeviceError {
    /// There is none.
    Missing,
    /// No interrupt vector is left.
    NoVector,
    /// It has no MSI-X: its line would be shared with others and masked between turns, which this image does not do.
    NoMsiX,
    /// It could not be opened.
    Open(OpenError),
    /// The disk adapter could not be brought up.
    Scsi(quorate_virtio_scsi::InitError),
    /// The NIC could not be brought up.
    Net(quorate_virtio_net::InitError),
    /// The NIC could not be brought up.
    E1000(quorate_e1000::InitError),
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is none on the PCI bus"),
            Self::NoVector => f.write_str("no interrupt vector is left"),
            Self::NoMsiX => f.write_str("it has no MSI-X"),
            Self::Open(e) => write!(f, "{e:?}"),
            Self::Scsi(e) => write!(f, "{e:?}"),
            Self::Net(e) => write!(f, "{e:?}"),
            Self::E1000(e) => write!(f, "{e:?}"),
        }
    }
}

fn virt_to_phys(pointer: *const u8) -> u64 {
    // A DMA buffer outside of the kernel image would be a mistake of this image.
    memory::virt_to_phys(pointer).unwrap_or_else(|| panic!("no physical address for {pointer:p}"))
}

fn map_mmio(physical: u64, bytes: usize) -> NonNull<u8> {
    match memory::map_mmio(physical, bytes) {
        Ok(mapped) => mapped,
        Err(error) => panic!("device memory at {physical:#x} cannot be mapped: {error:?}"),
    }
}

/// The bus, with every device given an address.
pub struct Bus {
    pci: Pci<PortIo>,
    functions: quorate_bus::pci::Functions,
}

impl Bus {
    /// Looks at the bus. Once.
    ///
    /// # Errors
    /// No room for a device's registers.
    #[inline(never)]
    pub fn scan() -> Result<Self, DeviceError> {
        let platform = Platform { virt_to_phys, map_mmio };
        // SAFETY: the kernel image is loaded contiguously (see `arch`'s layout), and `map_mmio` maps device memory at
        // addresses that nothing else uses.
        let installed = unsafe { platform::install(platform) };
        debug_assert!(installed.is_ok(), "the bus is scanned once");
        let mut pci = Pci::port_io();
        let functions = pci.functions();
        pci.assign_bars(&functions, BAR_WINDOW).map_err(DeviceError::Open)?;
        Ok(Self { pci, functions })
    }

    fn open(&mut self, kind: DeviceType) -> Result<quorate_bus::port::PciPort, DeviceError> {
        let is = |f: &&Function| f.virtio == Some(kind);
        let function = self.functions.iter().find(is).cloned().ok_or(DeviceError::Missing)?;
        let vector = interrupts::alloc_vector(on_device).ok_or(DeviceError::NoVector)?;
        let destination = (msi::message(vector).0 >> 12) as u8;
        let wanted = Vectors { vectors: &[vector, vector], destination };
        let port = self.pci.open_virtio(&function, wanted).map_err(DeviceError::Open)?;
        if port.interrupt_mode() == InterruptMode::MsiX { Ok(port) } else { Err(DeviceError::NoMsiX) }
    }

    /// The disk adapter.
    ///
    /// # Errors
    /// See [`DeviceError`].
    #[inline(never)]
    pub fn scsi(&mut self) -> Result<PciScsi, DeviceError> {
        PciScsi::new(self.open(DeviceType::ScsiHost)?).map_err(DeviceError::Scsi)
    }

    /// The watchdog, if there is one.
    ///
    /// # Errors
    /// It has no registers.
    #[inline(never)]
    pub fn watchdog(&mut self) -> Result<Option<PciI6300esb>, DeviceError> {
        let is = |f: &&Function| (f.vendor, f.device) == (quorate_watchdog::VENDOR, quorate_watchdog::DEVICE);
        let Some(function) = self.functions.iter().find(is).cloned() else { return Ok(None) };
        let opened = self.pci.open_plain(&function, quorate_watchdog::BAR, quorate_watchdog::REGISTERS_BYTES);
        let (registers, config) = opened.map_err(DeviceError::Open)?;
        Ok(Some(I6300esb::new(registers, config)))
    }

    /// The NIC: a virtio one, or else an 82540EM.
    ///
    /// # Errors
    /// See [`DeviceError`].
    #[inline(never)]
    pub fn net(&mut self, wiring: &Wiring) -> Result<Nic, DeviceError> {
        let is = |f: &&Function| (f.vendor, f.device) == (quorate_e1000::VENDOR, quorate_e1000::DEVICE);
        match self.open(DeviceType::Network) {
            Err(DeviceError::Missing) => {}
            port => return PciNet::new(port?).map(Nic::virtio).map_err(DeviceError::Net),
        }
        let function = self.functions.iter().find(is).cloned().ok_or(DeviceError::Missing)?;
        let opened = self.pci.open_master(&function, quorate_e1000::BAR, quorate_e1000::REGISTERS_BYTES);
        let (registers, _) = opened.map_err(DeviceError::Open)?;
        let adapter = PciE1000::new(registers, self.pci.wired(&function)).map_err(DeviceError::E1000)?;
        Ok(Nic::e1000(adapter, wiring))
    }
}
