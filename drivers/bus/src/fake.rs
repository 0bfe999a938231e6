//! A virtio device made of test code, for the host: it reads the rings that a driver fills and
//! answers as the test says. It exists so that ring logic is tested without a virtual machine, also
//! by the driver crates that forbid unsafe code.

use crate::dma;
use crate::port::{InterruptMode, Port};
use std::cell::RefCell;
use std::rc::Rc;
use std::vec::Vec;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr, Result};

const NEXT: u16 = 1;
const WRITE: u16 = 2;

#[derive(Debug, Default, Clone)]
struct FakeQueue {
    max: u32,
    size: u16,
    descriptors: PhysAddr,
    driver_area: PhysAddr,
    device_area: PhysAddr,
    next_avail: u16,
    used: u16,
    notified: usize,
}

#[derive(Debug)]
struct State {
    kind: DeviceType,
    offered: u64,
    agreed: u64,
    status: DeviceStatus,
    config: Vec<u8>,
    queues: Vec<FakeQueue>,
}

/// The device's side, in the hands of the test.
#[derive(Clone, Debug)]
pub struct FakeDevice(Rc<RefCell<State>>);

/// The driver's side.
#[derive(Debug)]
pub struct FakeTransport(Rc<RefCell<State>>);

/// A request as the device finds it in the ring.
#[derive(Debug)]
pub struct Chain {
    /// Its token.
    pub head: u16,
    /// The bytes the driver sends.
    pub readable: Vec<u8>,
    writable: Vec<(PhysAddr, u32)>,
}

impl Chain {
    /// Bytes the driver offers for the answer.
    pub fn writable_bytes(&self) -> usize {
        self.writable.iter().map(|(_, len)| *len as usize).sum()
    }
}

impl FakeDevice {
    /// A device of a kind, with features, configuration bytes and the sizes of its queues.
    pub fn new(kind: DeviceType, offered: u64, config: &[u8], queues: &[u32]) -> Self {
        let queue = |max: &u32| FakeQueue { max: *max, ..FakeQueue::default() };
        Self(Rc::new(RefCell::new(State {
            kind,
            offered,
            agreed: 0,
            status: DeviceStatus::empty(),
            config: config.into(),
            queues: queues.iter().map(queue).collect(),
        })))
    }

    /// The port for the driver.
    pub fn port(&self) -> Port<FakeTransport> {
        let mode = InterruptMode::IntX { line: 11, pin: 1 };
        Port::new(FakeTransport(self.0.clone()), None, 0, mode)
    }

    /// Features the driver accepted.
    pub fn agreed(&self) -> u64 {
        self.0.borrow().agreed
    }

    /// Changes a byte of the configuration space.
    pub fn set_config(&self, offset: usize, value: u8) {
        if let Some(byte) = self.0.borrow_mut().config.get_mut(offset) {
            *byte = value;
        }
    }

    /// How often the driver rang the doorbell of a queue.
    pub fn notified(&self, queue: usize) -> usize {
        self.0.borrow().queues[queue].notified
    }

    /// Whether the driver wants an interrupt for what comes back in a queue (VirtIO 1.2 § 2.7.7).
    pub fn wants_interrupts(&self, queue: usize) -> bool {
        const NO_INTERRUPT: u16 = 1;
        read::<u16>(self.0.borrow().queues[queue].driver_area) & NO_INTERRUPT == 0
    }

    /// The next request in a queue.
    pub fn take(&self, queue: usize) -> Option<Chain> {
        let mut state = self.0.borrow_mut();
        let queue = &mut state.queues[queue];
        if queue.size == 0 || read::<u16>(queue.driver_area + 2) == queue.next_avail {
            return None;
        }
        let entry = u64::from(queue.next_avail % queue.size);
        let head = read::<u16>(queue.driver_area + 4 + 2 * entry);
        queue.next_avail = queue.next_avail.wrapping_add(1);
        let mut chain = Chain { head, readable: Vec::new(), writable: Vec::new() };
        let mut index = head;
        loop {
            let descriptor = queue.descriptors + 16 * u64::from(index);
            let address = read::<u64>(descriptor);
            let len = read::<u32>(descriptor + 8);
            let flags = read::<u16>(descriptor + 12);
            if flags & WRITE == 0 {
                let bytes = (0..u64::from(len)).map(|i| read::<u8>(address + i));
                chain.readable.extend(bytes);
            } else {
                chain.writable.push((address, len));
            }
            if flags & NEXT == 0 {
                return Some(chain);
            }
            index = read::<u16>(descriptor + 14);
        }
    }

    /// Writes the answer and returns the request.
    pub fn complete(&self, queue: usize, chain: Chain, answer: &[u8]) {
        let written = self.write_answer(&chain, answer);
        self.push_used(queue, u32::from(chain.head), written as u32);
    }

    /// Writes the answer without returning the request; how many bytes there was room for.
    pub fn write_answer(&self, chain: &Chain, answer: &[u8]) -> usize {
        let mut bytes = answer.iter();
        for (address, len) in &chain.writable {
            for i in 0..u64::from(*len) {
                if let Some(byte) = bytes.next() {
                    write::<u8>(address + i, *byte);
                }
            }
        }
        answer.len() - bytes.len()
    }

    /// Puts any element into the used ring, as a hostile device might.
    pub fn push_used(&self, queue: usize, token: u32, written: u32) {
        let mut state = self.0.borrow_mut();
        let queue = &mut state.queues[queue];
        let entry = queue.device_area + 4 + 8 * u64::from(queue.used % queue.size);
        write::<u32>(entry, token);
        write::<u32>(entry + 4, written);
        queue.used = queue.used.wrapping_add(1);
        write::<u16>(queue.device_area + 2, queue.used);
    }
}

/// Reads DMA memory as a device does; `None` if it reaches beyond what was handed out.
pub fn memory_read(address: u64, len: usize) -> Option<Vec<u8>> {
    let start = dma::reached_by_device(address, len)?;
    // SAFETY: `len` bytes of the pool, which are initialised and there for ever.
    Some((0..len).map(|i| unsafe { start.add(i).read_volatile() }).collect())
}

/// Writes DMA memory as a device does; `false`, and nothing written, if it reaches beyond what was handed out.
pub fn memory_write(address: u64, bytes: &[u8]) -> bool {
    let Some(start) = dma::reached_by_device(address, bytes.len()) else { return false };
    for (i, byte) in bytes.iter().enumerate() {
        // SAFETY: as in `memory_read`.
        unsafe { start.add(i).write_volatile(*byte) }
    }
    true
}

fn read<V: Copy>(address: PhysAddr) -> V {
    let pointer = core::ptr::with_exposed_provenance::<V>(address as usize);
    // SAFETY: addresses come from a queue of this process, whose memory is never returned.
    unsafe { pointer.read_volatile() }
}

fn write<V: Copy>(address: PhysAddr, value: V) {
    let pointer = core::ptr::with_exposed_provenance_mut::<V>(address as usize);
    // SAFETY: as in `read`.
    unsafe { pointer.write_volatile(value) }
}

impl Transport for FakeTransport {
    fn device_type(&self) -> DeviceType {
        self.0.borrow().kind
    }

    fn read_device_features(&mut self) -> u64 {
        self.0.borrow().offered
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        self.0.borrow_mut().agreed = driver_features;
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        let state = self.0.borrow();
        state.queues.get(usize::from(queue)).map_or(0, |q| q.max)
    }

    fn notify(&mut self, queue: u16) {
        self.0.borrow_mut().queues[usize::from(queue)].notified += 1;
    }

    fn get_status(&self) -> DeviceStatus {
        self.0.borrow().status
    }

    fn set_status(&mut self, status: DeviceStatus) {
        let mut state = self.0.borrow_mut();
        state.status = status;
        if status.is_empty() {
            // A reset: the rings are forgotten. (VirtIO 1.2 § 2.4)
            for queue in &mut state.queues {
                *queue = FakeQueue { max: queue.max, notified: queue.notified, ..FakeQueue::default() };
            }
        }
    }

    fn set_guest_page_size(&mut self, _guest_page_size: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        let queue = &mut self.0.borrow_mut().queues[usize::from(queue)];
        queue.size = size as u16;
        queue.descriptors = descriptors;
        queue.driver_area = driver_area;
        queue.device_area = device_area;
    }

    fn queue_unset(&mut self, _queue: u16) {}

    fn queue_used(&mut self, queue: u16) -> bool {
        let state = self.0.borrow();
        state.queues.get(usize::from(queue)).is_some_and(|q| q.size != 0)
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::QUEUE_INTERRUPT
    }

    fn read_config_generation(&self) -> u32 {
        0
    }

    fn read_config_space<V: zerocopy::FromBytes + zerocopy::IntoBytes>(&self, offset: usize) -> Result<V> {
        let state = self.0.borrow();
        let bytes = state.config.get(offset..offset + size_of::<V>());
        bytes.and_then(|bytes| V::read_from_bytes(bytes).ok()).ok_or(Error::ConfigSpaceTooSmall)
    }

    fn write_config_space<V: zerocopy::IntoBytes + zerocopy::Immutable>(
        &mut self,
        _offset: usize,
        _value: V,
    ) -> Result<()> {
        Err(Error::Unsupported)
    }
}
