//! The NIC, of whichever kind the machine has, as one device.
//!
//! An 82540EM interrupts by its line, which others may share and whose wiring firmware may tell wrongly. So the handler only
//! masks the line and wakes the node's task; the task acknowledges the device and unmasks the line. The device is asked for
//! one interrupt at the start. Until the first has come, and again if the line turns out to be busy with others, the NIC is
//! looked at every [`POLL_US`].

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use quorate_arch_x86_64::platform::Platform;
use quorate_arch_x86_64::{interrupts, ioapic};
use quorate_base::Instant;
use quorate_bus::PciTransport;
use quorate_bus::port::InterruptMode;
use quorate_bus::registers::Mmio;
use quorate_e1000::PciE1000;
use quorate_virtio_net::PciNet;
use smoltcp::phy::{Device, DeviceCapabilities, RxToken, TxToken};
use smoltcp::time::Instant as WireInstant;

use crate::devices::WORK;

/// How often a NIC without an interrupt is looked at, µs: a twentieth of the shortest time between two heartbeats.
const POLL_US: u64 = 1_000;
/// Interrupts of others in a row after which the line is given up: it never falls.
const FOREIGN_MAX: u32 = 1_000;
/// Firmware's word for "no line".
const NO_LINE: [u8; 2] = [0, 0xff];

/// The global interrupt of the line, once it is routed.
static LINE: AtomicU32 = AtomicU32::new(u32::MAX);
/// The line was up, and is masked since.
static CAME: AtomicBool = AtomicBool::new(false);

fn on_line() {
    // It was routed, so there is such an input.
    let _ = ioapic::set_masked(LINE.load(Ordering::Relaxed), true);
    CAME.store(true, Ordering::Release);
    WORK.raise();
}

/// The NIC.
#[expect(clippy::large_enum_variant, reason = "there is one NIC, and no allocator")]
pub enum Nic {
    /// It interrupts by messages.
    Virtio(PciNet),
    /// It interrupts by its line, if at all.
    E1000 {
        /// The adapter.
        adapter: PciE1000,
        /// An interrupt of it has come.
        proven: bool,
        /// Interrupts of others on its line, in a row.
        foreign: u32,
    },
}

impl Nic {
    /// A virtio NIC.
    pub fn virtio(adapter: PciNet) -> Self {
        Self::Virtio(adapter)
    }

    /// An 82540EM, with its line routed if there is one.
    pub fn e1000(mut adapter: PciE1000, wiring: &Platform) -> Self {
        if route(adapter.interrupt_mode(), wiring) {
            // The first frame may take long, a second on QEMU's model: the line is proven without one.
            adapter.raise();
        } else {
            defmt::info!("NIC: it has no interrupt line, and is polled");
        }
        Self::E1000 { adapter, proven: false, foreign: 0 }
    }

    /// Its address.
    pub fn mac(&self) -> [u8; 6] {
        match self {
            Self::Virtio(adapter) => adapter.mac(),
            Self::E1000 { adapter, .. } => adapter.mac(),
        }
    }

    /// The link has carrier.
    pub fn has_carrier(&self) -> bool {
        match self {
            Self::Virtio(adapter) => adapter.has_carrier(),
            Self::E1000 { adapter, .. } => adapter.has_carrier(),
        }
    }

    /// A frame waits.
    pub fn has_work(&self) -> bool {
        match self {
            Self::Virtio(adapter) => adapter.has_work(),
            Self::E1000 { adapter, .. } => adapter.has_work(),
        }
    }

    /// Whether frames shall interrupt. After a "yes" [`Nic::has_work`] is to be asked before the node sleeps. A NIC on a line
    /// does not interrupt between its interrupt and [`Nic::settle`] anyway.
    pub fn set_interrupts(&mut self, wanted: bool) {
        match self {
            Self::Virtio(adapter) => adapter.set_interrupts(wanted),
            Self::E1000 { .. } => {}
        }
    }

    /// Acknowledges an interrupt that came by the line, and lets the next one through. Frames are looked for afterwards, so none
    /// is missed in between.
    pub fn settle(&mut self) {
        let Self::E1000 { adapter, proven, foreign } = self else { return };
        if !CAME.swap(false, Ordering::Acquire) {
            return;
        }
        if adapter.acknowledge() {
            if !*proven {
                defmt::info!("NIC: its interrupt line works");
            }
            (*proven, *foreign) = (true, 0);
        } else {
            *foreign += 1;
        }
        if *foreign < FOREIGN_MAX {
            let _ = ioapic::set_masked(LINE.load(Ordering::Relaxed), false);
        } else {
            defmt::warn!("NIC: its interrupt line is always up for others; it is polled");
            *proven = false;
        }
    }

    /// When it is to be looked at without an interrupt.
    pub fn poll_timeout(&self, now: Instant) -> Instant {
        match self {
            Self::Virtio(_) | Self::E1000 { proven: true, .. } => Instant::FAR,
            Self::E1000 { proven: false, .. } => Instant(now.0.saturating_add(POLL_US)),
        }
    }
}

/// Sends the line's interrupts to [`on_line`]. False if there is no line, no vector, or no such input.
fn route(mode: InterruptMode, wiring: &Platform) -> bool {
    let InterruptMode::IntX { line, pin } = mode else { return false };
    if pin == 0 || NO_LINE.contains(&line) {
        return false;
    }
    let Some(vector) = interrupts::alloc_vector(on_line) else { return false };
    // The handler must know which line it is before the first interrupt.
    LINE.store(wiring.isa_line(line).interrupt, Ordering::Relaxed);
    ioapic::route_pci_line(wiring, line, vector).is_ok()
}

/// A frame of either kind of NIC.
pub enum Received<'a> {
    /// Of a virtio NIC.
    Virtio(quorate_virtio_net::Received<'a>),
    /// Of an 82540EM.
    E1000(quorate_e1000::Received<'a>),
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        match self {
            Self::Virtio(token) => token.consume(f),
            Self::E1000(token) => token.consume(f),
        }
    }
}

/// The right to send one frame by either kind of NIC.
pub enum Transmit<'a> {
    /// By a virtio NIC.
    Virtio(quorate_virtio_net::Transmit<'a, PciTransport>),
    /// By an 82540EM.
    E1000(quorate_e1000::Transmit<'a, Mmio>),
}

impl TxToken for Transmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        match self {
            Self::Virtio(token) => token.consume(len, f),
            Self::E1000(token) => token.consume(len, f),
        }
    }
}

impl Device for Nic {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Transmit<'a>;

    fn receive(&mut self, timestamp: WireInstant) -> Option<(Received<'_>, Transmit<'_>)> {
        match self {
            Self::Virtio(adapter) => {
                let (received, transmit) = adapter.receive(timestamp)?;
                Some((Received::Virtio(received), Transmit::Virtio(transmit)))
            }
            Self::E1000 { adapter, .. } => {
                let (received, transmit) = adapter.receive(timestamp)?;
                Some((Received::E1000(received), Transmit::E1000(transmit)))
            }
        }
    }

    fn transmit(&mut self, timestamp: WireInstant) -> Option<Transmit<'_>> {
        match self {
            Self::Virtio(adapter) => adapter.transmit(timestamp).map(Transmit::Virtio),
            Self::E1000 { adapter, .. } => adapter.transmit(timestamp).map(Transmit::E1000),
        }
    }

    fn capabilities(&self) -> DeviceCapabilities {
        match self {
            Self::Virtio(adapter) => adapter.capabilities(),
            Self::E1000 { adapter, .. } => adapter.capabilities(),
        }
    }
}
