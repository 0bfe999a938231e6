//! A virtio device as a driver sees it: features, configuration space, doorbell, interrupts.
//! (VirtIO 1.2 § 3.1 for the order of initialisation.)

use crate::msix::MsiX;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};

/// VIRTIO_F_VERSION_1: the device speaks virtio 1.0 or later. Every driver here requires it.
pub const VERSION_1: u64 = 1 << 32;

/// Reads of the status register to wait for a reset; QEMU answers the first.
const RESET_POLLS_MAX: u32 = 100_000;

/// How the device tells that something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptMode {
    /// Message-signalled; entry `i` of the table raises the i-th vector given at opening.
    MsiX,
    /// The shared, level-triggered line: the handler masks it, the driver is polled and
    /// [`Port::acknowledge`] called, then it is unmasked.
    IntX {
        /// What firmware wrote as the line (an ISA interrupt number; 0xff if it did not).
        line: u8,
        /// INTA to INTD as 1 to 4; 0 is none.
        pin: u8,
    },
}

/// Why a device could not be brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortError {
    /// It is of another kind.
    WrongDevice(DeviceType),
    /// It did not finish its reset.
    NoReset,
    /// A feature this driver cannot do without is not offered.
    MissingFeature {
        /// The bits that are missing.
        missing: u64,
    },
    /// It refused the features that it had itself offered.
    FeaturesRefused,
    /// The configuration space is shorter than the device's kind demands.
    ConfigTooSmall,
    /// It refused an interrupt vector for a queue.
    VectorRefused {
        /// The queue.
        queue: u16,
    },
}

/// One opened virtio device.
#[derive(Debug)]
pub struct Port<T: Transport> {
    transport: T,
    msix: Option<MsiX>,
    /// Table entries that were programmed.
    vectors: u16,
    mode: InterruptMode,
}

/// A virtio device on the PCI bus.
pub type PciPort = Port<PciTransport>;

impl<T: Transport> Port<T> {
    pub(crate) fn new(transport: T, msix: Option<MsiX>, vectors: u16, mode: InterruptMode) -> Self {
        Self { transport, msix, vectors, mode }
    }

    pub(crate) fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// How the device interrupts.
    pub fn interrupt_mode(&self) -> InterruptMode {
        self.mode
    }

    /// Resets the device and negotiates: `required` must all be offered, of `optional` what is.
    /// Returns what was agreed. Then come the queues, then [`Port::start`].
    ///
    /// # Errors
    /// Every [`PortError`] but those of vectors and configuration.
    pub fn negotiate(&mut self, kind: DeviceType, required: u64, optional: u64) -> Result<u64, PortError> {
        if self.transport.device_type() != kind {
            return Err(PortError::WrongDevice(self.transport.device_type()));
        }
        self.transport.set_status(DeviceStatus::empty());
        if !(0..RESET_POLLS_MAX).any(|_| self.transport.get_status() == DeviceStatus::empty()) {
            return Err(PortError::NoReset);
        }
        let known = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        self.transport.set_status(known);
        let offered = self.transport.read_device_features();
        let required = required | VERSION_1;
        if offered & required != required {
            self.transport.set_status(known | DeviceStatus::FAILED);
            return Err(PortError::MissingFeature { missing: required & !offered });
        }
        let agreed = offered & (required | optional);
        self.transport.write_driver_features(agreed);
        let wanted = known | DeviceStatus::FEATURES_OK;
        self.transport.set_status(wanted);
        if !self.transport.get_status().contains(DeviceStatus::FEATURES_OK) {
            self.transport.set_status(known | DeviceStatus::FAILED);
            return Err(PortError::FeaturesRefused);
        }
        Ok(agreed)
    }

    /// The queues are there: the device may work.
    pub fn start(&mut self) {
        self.transport.set_status(
            DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER | DeviceStatus::FEATURES_OK | DeviceStatus::DRIVER_OK,
        );
    }

    /// The device gave up and says so (DEVICE_NEEDS_RESET).
    pub fn needs_reset(&self) -> bool {
        self.transport.get_status().contains(DeviceStatus::DEVICE_NEEDS_RESET)
    }

    /// Four bytes of the device's configuration space, little-endian.
    ///
    /// # Errors
    /// [`PortError::ConfigTooSmall`].
    pub fn config_u32(&self, offset: usize) -> Result<u32, PortError> {
        self.config::<4>(offset).map(u32::from_le_bytes)
    }

    /// Two bytes of the device's configuration space, little-endian.
    ///
    /// # Errors
    /// [`PortError::ConfigTooSmall`].
    pub fn config_u16(&self, offset: usize) -> Result<u16, PortError> {
        self.transport.read_config_space::<u16>(offset & !1).map_err(|_| PortError::ConfigTooSmall)
    }

    /// `N` bytes of the device's configuration space, read consistently.
    ///
    /// # Errors
    /// [`PortError::ConfigTooSmall`].
    pub fn config<const N: usize>(&self, offset: usize) -> Result<[u8; N], PortError> {
        self.transport
            .read_consistent(|| {
                let mut bytes = [0; N];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = self.transport.read_config_space::<u8>(offset + i)?;
                }
                Ok(bytes)
            })
            .map_err(|_| PortError::ConfigTooSmall)
    }

    /// Sends the completions of `queue` to MSI-X table entry `entry`, or to the last one there is;
    /// nothing to do without MSI-X.
    /// Must come after [`Port::negotiate`], which resets the device's routing.
    ///
    /// # Errors
    /// [`PortError::VectorRefused`].
    pub fn route(&mut self, queue: u16, entry: u16) -> Result<(), PortError> {
        let routed = match &mut self.msix {
            Some(msix) => msix.route(queue, entry.min(self.vectors.saturating_sub(1))),
            None => true,
        };
        if routed { Ok(()) } else { Err(PortError::VectorRefused { queue }) }
    }

    /// Sends configuration changes to MSI-X table entry `entry`, or to the last one there is;
    /// nothing to do without MSI-X.
    pub fn route_config(&mut self, entry: u16) {
        if let Some(msix) = &mut self.msix {
            msix.route_config(entry.min(self.vectors.saturating_sub(1)));
        }
    }

    /// Reads and so clears the interrupt status; with INTx this lowers the line. `true` if the
    /// interrupt was this device's.
    pub fn acknowledge(&mut self) -> bool {
        self.transport.ack_interrupt() != InterruptStatus::empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeDevice;

    #[test]
    fn event_idx_is_only_agreed_if_asked_for() {
        let offered = VERSION_1 | 1 << 29 | 1 << 28 | 2;
        let device = FakeDevice::new(DeviceType::Network, offered, &[], &[]);
        let mut port = device.port();
        let agreed = port.negotiate(DeviceType::Network, 0, 2 | 4).unwrap();
        assert_eq!(agreed, VERSION_1 | 2);
        assert_eq!(device.agreed(), VERSION_1 | 2);
        port.start();
        assert!(!port.needs_reset());
    }

    #[test]
    fn wrong_devices_and_missing_features_are_named() {
        let device = FakeDevice::new(DeviceType::Network, 0, &[], &[]);
        let mut port = device.port();
        assert_eq!(port.negotiate(DeviceType::ScsiHost, 0, 0), Err(PortError::WrongDevice(DeviceType::Network)));
        assert_eq!(port.negotiate(DeviceType::Network, 0, 0), Err(PortError::MissingFeature { missing: VERSION_1 }));
    }

    #[test]
    fn a_short_configuration_space_is_an_error() {
        let device = FakeDevice::new(DeviceType::Network, VERSION_1, &[1, 2, 3, 4, 5], &[]);
        let port = device.port();
        assert_eq!(port.config_u32(0), Ok(0x0403_0201));
        assert_eq!(port.config_u32(4), Err(PortError::ConfigTooSmall));
        assert_eq!(port.config_u16(4), Err(PortError::ConfigTooSmall));
        assert_eq!(port.config::<5>(0), Ok([1, 2, 3, 4, 5]));
    }
}
