//! The virtio network adapter as smoltcp's [`Device`]. (VirtIO 1.2 § 5.1)
//!
//! One pair of queues, no offloads. A received frame is copied out of device memory and its buffer
//! given back before anybody looks at it, so the tokens borrow nothing that the other needs: smoltcp
//! consumes a transmit token inside the receive token's closure. Every frame is notified; completions
//! of transmissions do not interrupt, they are collected when the next frame is sent.
//!
//! Interrupts: received frames at MSI-X entry 0, configuration changes (the link) at entry 1, or 0 if
//! there is only one. With INTx the caller acknowledges through [`VirtioNet::acknowledge`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

use quorate_bus::port::{InterruptMode, Port, PortError};
use quorate_bus::queue::{Queue, QueueError, Violation};
use quorate_bus::{DeviceType, PciTransport, Transport};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Buffers in each direction: a burst of one frame from each of 64 nodes fits.
pub const BUFFERS: usize = 64;
/// Longest frame, without its checksum.
pub const FRAME_BYTES_MAX: usize = 1514;
/// Shortest: an Ethernet header.
const FRAME_BYTES_MIN: usize = 14;
/// The header before each frame, with VERSION_1.
const HEADER_BYTES: usize = 12;
const BUFFER_BYTES: usize = 1536;

const RECEIVE_QUEUE: u16 = 0;
const TRANSMIT_QUEUE: u16 = 1;

/// VIRTIO_NET_F_MAC: the device has an address.
const MAC: u64 = 1 << 5;
/// VIRTIO_NET_F_STATUS: the configuration tells about the link.
const STATUS: u64 = 1 << 16;
const STATUS_AT: usize = 6;
const LINK_UP: u16 = 1;

/// Why the adapter could not be brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// The device itself.
    Port(PortError),
    /// One of its queues.
    Queue(QueueError),
}

impl From<PortError> for InitError {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

impl From<QueueError> for InitError {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

/// Counts since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub received: u64,
    /// Frames handed to the device.
    pub sent: u64,
    /// Received frames of an impossible length.
    pub bad_length: u64,
    /// Times a frame could not be sent or received because all transmit buffers were in use.
    pub transmit_full: u64,
    /// Frames lost because a queue refused them.
    pub lost: u64,
}

/// The adapter.
pub struct VirtioNet<T: Transport> {
    port: Port<T>,
    receive: Queue<BUFFERS, BUFFERS>,
    transmit: Queue<BUFFERS, BUFFERS>,
    mac: [u8; 6],
    tells_link: bool,
    /// The frame that was received last.
    frame: [u8; FRAME_BYTES_MAX],
    violation: Option<Violation>,
    counters: Counters,
}

/// The adapter on the PCI bus.
pub type PciNet = VirtioNet<PciTransport>;

impl<T: Transport> VirtioNet<T> {
    /// Brings the adapter up and offers it all receive buffers.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn new(mut port: Port<T>) -> Result<Self, InitError> {
        let features = port.negotiate(DeviceType::Network, MAC, STATUS)?;
        let mac = port.config(0)?;
        port.route(RECEIVE_QUEUE, 0)?;
        port.route(TRANSMIT_QUEUE, 0)?;
        port.route_config(1);
        let mut receive = Queue::new(&mut port, RECEIVE_QUEUE, BUFFER_BYTES)?;
        let mut transmit: Queue<BUFFERS, BUFFERS> = Queue::new(&mut port, TRANSMIT_QUEUE, BUFFER_BYTES)?;
        transmit.set_interrupts(false);
        port.start();
        for slot in 0..BUFFERS {
            offer(&mut receive, &mut port, slot)?;
        }
        Ok(Self {
            port,
            receive,
            transmit,
            mac,
            tells_link: features & STATUS != 0,
            frame: [0; FRAME_BYTES_MAX],
            violation: None,
            counters: Counters::default(),
        })
    }

    /// The adapter's hardware address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The link has carrier. Devices that do not tell are taken to have it.
    pub fn has_carrier(&self) -> bool {
        if !self.tells_link {
            return true;
        }
        let status = self.port.config_u16(STATUS_AT);
        status.is_ok_and(|status| status & LINK_UP != 0)
    }

    /// How it interrupts.
    pub fn interrupt_mode(&self) -> InterruptMode {
        self.port.interrupt_mode()
    }

    /// Counts since start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the device did that it must not, if it did. The adapter is then dead.
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }

    /// A frame waits. To be asked with interrupts off before the processor sleeps.
    pub fn has_work(&self) -> bool {
        self.receive.has_used()
    }

    /// Tells the device whether received frames shall interrupt. They do at first. A "no" saves one interrupt for each frame
    /// that comes while the caller is at work anyway; after a "yes" [`VirtioNet::has_work`] is to be asked before it sleeps.
    pub fn set_interrupts(&mut self, wanted: bool) {
        self.receive.set_interrupts(wanted);
    }

    /// Clears the interrupt status (INTx only); `true` if the interrupt was this device's.
    pub fn acknowledge(&mut self) -> bool {
        self.port.acknowledge()
    }

    /// Takes back the buffers of frames that were sent.
    fn collect(&mut self) {
        while let Some(popped) = self.transmit.pop() {
            if let Err(violation) = popped {
                self.violation = self.violation.or(Some(violation));
            }
        }
    }

    /// A transmit buffer is free.
    fn can_transmit(&mut self) -> bool {
        self.collect();
        let free = self.transmit.free_slot().is_some();
        if !free {
            self.counters.transmit_full += 1;
        }
        free
    }

    /// Copies the next good frame to `self.frame` and gives its buffer back; its length.
    fn next_frame(&mut self) -> Option<usize> {
        loop {
            let used = match self.receive.pop()? {
                Ok(used) => used,
                Err(violation) => {
                    self.violation = self.violation.or(Some(violation));
                    return None;
                }
            };
            let len = (used.written as usize).saturating_sub(HEADER_BYTES);
            let good = !used.overlong && (FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&len);
            let source = self.receive.slot(used.slot);
            let source = source.and_then(|slot| slot.get(HEADER_BYTES..HEADER_BYTES + len));
            if let (true, Some(source), Some(frame)) = (good, source, self.frame.get_mut(..len)) {
                frame.copy_from_slice(source);
            }
            if offer(&mut self.receive, &mut self.port, used.slot).is_err() {
                self.counters.lost += 1;
            }
            if good {
                self.counters.received += 1;
                return Some(len);
            }
            self.counters.bad_length += 1;
        }
    }
}

/// Offers a receive buffer to the device.
fn offer<T: Transport>(
    receive: &mut Queue<BUFFERS, BUFFERS>,
    port: &mut Port<T>,
    slot: usize,
) -> Result<(), QueueError> {
    let room = 0..HEADER_BYTES + FRAME_BYTES_MAX;
    receive.submit(port, slot, &[], core::slice::from_ref(&room), || true)
}

/// A received frame, already out of the device's reach.
pub struct Received<'a> {
    frame: &'a [u8],
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.frame)
    }
}

/// The right to send one frame.
pub struct Transmit<'a, T: Transport> {
    queue: &'a mut Queue<BUFFERS, BUFFERS>,
    port: &'a mut Port<T>,
    counters: &'a mut Counters,
}

impl<T: Transport> TxToken for Transmit<'_, T> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Self { queue, port, counters } = self;
        let slot = queue.free_slot();
        let buffer = slot.and_then(|slot| queue.slot_mut(slot));
        let end = HEADER_BYTES.saturating_add(len);
        let split = buffer.and_then(|buffer| buffer.get_mut(..end)?.split_at_mut_checked(HEADER_BYTES));
        let Some((header, frame)) = split else {
            // smoltcp must be given room all the same; what it writes goes nowhere.
            counters.lost += 1;
            let mut nowhere = [0; BUFFER_BYTES];
            let len = len.min(BUFFER_BYTES);
            return f(nowhere.get_mut(..len).unwrap_or(&mut []));
        };
        header.fill(0);
        let result = f(frame);
        let whole = 0..end;
        let sent = queue.submit(port, slot.unwrap_or(BUFFERS), core::slice::from_ref(&whole), &[], || true);
        match sent {
            Ok(()) => counters.sent += 1,
            Err(_) => counters.lost += 1,
        }
        result
    }
}

impl<T: Transport> Device for VirtioNet<T> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Transmit<'a, T>
    where
        Self: 'a;

    fn receive(&mut self, _timestamp: Instant) -> Option<(Received<'_>, Transmit<'_, T>)> {
        if !self.has_work() || !self.can_transmit() {
            return None;
        }
        let len = self.next_frame()?;
        Some((
            Received { frame: self.frame.get(..len)? },
            Transmit { queue: &mut self.transmit, port: &mut self.port, counters: &mut self.counters },
        ))
    }

    fn transmit(&mut self, _timestamp: Instant) -> Option<Transmit<'_, T>> {
        self.can_transmit().then_some(Transmit {
            queue: &mut self.transmit,
            port: &mut self.port,
            counters: &mut self.counters,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_BYTES_MAX;
        capabilities
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_bus::fake::{FakeDevice, FakeTransport};
    use quorate_bus::port::VERSION_1;
    use std::vec;

    const CONFIG: [u8; 12] = [0x52, 0x54, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0];

    fn adapter() -> (FakeDevice, VirtioNet<FakeTransport>) {
        let offered = VERSION_1 | 1 << 29 | MAC | STATUS | 1 << 15;
        let device = FakeDevice::new(DeviceType::Network, offered, &CONFIG, &[256, 256]);
        let adapter = VirtioNet::new(device.port()).unwrap();
        (device, adapter)
    }

    fn deliver(device: &FakeDevice, frame: &[u8]) {
        let chain = device.take(0).unwrap();
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend(frame);
        device.complete(0, chain, &bytes);
    }

    #[test]
    fn only_address_and_status_are_negotiated() {
        let (device, adapter) = adapter();
        assert_eq!(device.agreed(), VERSION_1 | MAC | STATUS);
        assert_eq!(adapter.mac(), [0x52, 0x54, 0, 0, 0, 1]);
        assert_eq!(device.notified(0), BUFFERS);
    }

    #[test]
    fn frames_interrupt_unless_the_caller_is_at_work() {
        let (device, mut adapter) = adapter();
        assert!(device.wants_interrupts(0) && !device.wants_interrupts(1));
        adapter.set_interrupts(false);
        assert!(!device.wants_interrupts(0));
        deliver(&device, &[1; 60]);
        assert!(adapter.receive(Instant::ZERO).is_some());
        assert!(!device.wants_interrupts(0), "also after buffers were given back");
        deliver(&device, &[2; 60]);
        adapter.set_interrupts(true);
        assert!(device.wants_interrupts(0) && !device.wants_interrupts(1));
        assert!(adapter.has_work(), "what came without an interrupt is seen");
    }

    #[test]
    fn the_link_is_read_from_the_configuration() {
        let (device, adapter) = adapter();
        assert!(adapter.has_carrier());
        device.set_config(STATUS_AT, 0);
        assert!(!adapter.has_carrier());
    }

    #[test]
    fn an_answer_is_sent_from_within_the_receive_closure() {
        let (device, mut adapter) = adapter();
        for round in 0..3 * BUFFERS {
            deliver(&device, &[round as u8; 60]);
            let (received, transmit) = adapter.receive(Instant::ZERO).unwrap();
            received.consume(|frame| {
                transmit.consume(frame.len(), |answer| answer.copy_from_slice(frame));
            });
            let sent = device.take(1).unwrap();
            assert_eq!(sent.readable[..HEADER_BYTES], [0; HEADER_BYTES]);
            assert_eq!(sent.readable[HEADER_BYTES..], [round as u8; 60]);
            device.complete(1, sent, &[]);
        }
        assert!(adapter.receive(Instant::ZERO).is_none());
        assert_eq!(adapter.counters().received, 3 * BUFFERS as u64);
        assert_eq!(adapter.counters().sent, 3 * BUFFERS as u64);
    }

    #[test]
    fn frames_of_impossible_length_are_counted_and_skipped() {
        let (device, mut adapter) = adapter();
        let chain = device.take(0).unwrap();
        device.complete(0, chain, &[0; 5]);
        deliver(&device, &[1; 13]);
        deliver(&device, &[2; FRAME_BYTES_MAX]);
        let (received, _) = adapter.receive(Instant::ZERO).unwrap();
        received.consume(|frame| assert_eq!(frame, [2; FRAME_BYTES_MAX]));
        assert_eq!(adapter.counters().bad_length, 2);
        let chain = device.take(0).unwrap();
        device.push_used(0, u32::from(chain.head), 60_000);
        assert!(adapter.receive(Instant::ZERO).is_none());
        assert_eq!(adapter.counters().bad_length, 3);
        device.push_used(0, 60_000, 20);
        assert!(adapter.receive(Instant::ZERO).is_none());
        assert_eq!(adapter.violation(), Some(Violation::UnknownToken(60_000)));
    }

    #[test]
    fn a_full_transmit_queue_is_back_pressure() {
        let (device, mut adapter) = adapter();
        for _ in 0..BUFFERS {
            let transmit = adapter.transmit(Instant::ZERO).unwrap();
            transmit.consume(60, |frame| frame.fill(1));
        }
        assert!(adapter.transmit(Instant::ZERO).is_none());
        deliver(&device, &[1; 60]);
        assert!(adapter.receive(Instant::ZERO).is_none(), "the frame is kept");
        let sent = device.take(1).unwrap();
        device.complete(1, sent, &[]);
        assert!(adapter.receive(Instant::ZERO).is_some());
        assert_eq!(adapter.counters().transmit_full, 2);
    }

    #[test]
    fn an_oversized_frame_is_lost_not_a_panic() {
        let (device, mut adapter) = adapter();
        let transmit = adapter.transmit(Instant::ZERO).unwrap();
        transmit.consume(1_000_000, |frame| frame.fill(1));
        assert_eq!(adapter.counters().lost, 1);
        assert!(device.take(1).is_none());
    }
}
