//! The virtio SCSI host as a [`Hba`]. (VirtIO 1.2 § 5.6)
//!
//! Three queues: control (task management), event, one request queue. Of the features only VERSION_1
//! is required; HOTPLUG and CHANGE are taken if offered, because they only add reports. EVENT_IDX and
//! indirect descriptors are never negotiated.
//!
//! Interrupts: request completions at MSI-X entry 0, everything else at entry 1 (or 0 if there is only
//! one). With INTx the caller acknowledges the interrupt through [`VirtioScsi::acknowledge`].
//!
//! What the device writes is not trusted: tokens and lengths are checked by the queue, the response is
//! filled with impossible values before it is sent out, sense length and residual are clamped.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod wire;

use core::slice::from_ref;
use heapless::Vec;
use quorate_bus::port::{InterruptMode, Port, PortError};
use quorate_bus::queue::{Queue, QueueError, Violation};
use quorate_bus::{DeviceType, PciTransport, Transport, dma};
use quorate_scsi::hba::{Command, Hba, HbaError, HbaEvent, Outcome, Response, Task, TaskOutcome, Transfer};
use wire::{Config, EVENT_BYTES, REQUEST_BYTES, RESPONSE_BYTES, TASK_BYTES};

/// Commands in flight at most.
pub const SLOTS: usize = 24;
/// Bytes of a transfer at most: nine blocks of 4096, one read of all nodes' heartbeats of 64 nodes on
/// a 512-byte disk and the like.
pub const TRANSFER_BYTES: usize = 36 * 1024;
/// Task management functions in flight at most.
const TASKS: usize = 4;
/// Event buffers.
const EVENTS: usize = 8;

/// Descriptors: three for each command.
const REQUEST_QUEUE_SIZE: usize = 128;
const CONTROL_QUEUE_SIZE: usize = 8;
const EVENT_QUEUE_SIZE: usize = 8;

const CONTROL_QUEUE: u16 = 0;
const EVENT_QUEUE: u16 = 1;
const REQUEST_QUEUE: u16 = 2;

/// Where things are in a slot: the data page-aligned behind a page with the headers.
const RESPONSE_AT: usize = 64;
const DATA_AT: usize = 4096;
const SLOT_BYTES: usize = DATA_AT + TRANSFER_BYTES;
const TASK_RESPONSE_AT: usize = 32;
const TASK_SLOT_BYTES: usize = 64;

/// Pages of the pool that new rings of all three queues take at most.
const RINGS_PAGES: usize = 16;

/// VIRTIO_SCSI_F_HOTPLUG and VIRTIO_SCSI_F_CHANGE.
const OPTIONAL_FEATURES: u64 = 1 << 1 | 1 << 2;

/// Why the adapter could not be brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// The device itself.
    Port(PortError),
    /// One of its queues.
    Queue(QueueError),
    /// Its configuration demands what this driver does not do.
    Config(Config),
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
    /// Commands sent.
    pub commands: u64,
    /// Commands answered with a response other than OK.
    pub bad_responses: u64,
    /// Task management functions sent.
    pub tasks: u64,
    /// Reports on the event queue.
    pub events: u64,
    /// Reports that could not be read.
    pub unreadable_events: u64,
    /// Resets of the adapter.
    pub restarts: u64,
}

/// The adapter.
pub struct VirtioScsi<T: Transport> {
    port: Port<T>,
    control: Queue<CONTROL_QUEUE_SIZE, TASKS>,
    events: Queue<EVENT_QUEUE_SIZE, EVENTS>,
    requests: Queue<REQUEST_QUEUE_SIZE, SLOTS>,
    /// The id of the latest command in each slot, by which it can be aborted.
    ids: [u64; SLOTS],
    tasks: [Option<Task>; TASKS],
    next_id: u64,
    config: Config,
    features: u64,
    slots: usize,
    transfer_bytes: usize,
    violation: Option<Violation>,
    violation_reported: bool,
    /// A restart failed half way.
    dead: bool,
    counters: Counters,
}

/// The adapter on the PCI bus.
pub type PciScsi = VirtioScsi<PciTransport>;

impl<T: Transport> VirtioScsi<T> {
    /// Brings the adapter up.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn new(mut port: Port<T>) -> Result<Self, InitError> {
        let (features, config) = prepare(&mut port)?;
        let control = Queue::new(&mut port, CONTROL_QUEUE, TASK_SLOT_BYTES)?;
        let mut events = Queue::new(&mut port, EVENT_QUEUE, EVENT_BYTES)?;
        let requests = Queue::new(&mut port, REQUEST_QUEUE, SLOT_BYTES)?;
        port.start();
        for slot in 0..EVENTS {
            events.submit(&mut port, slot, &[], from_ref(&(0..EVENT_BYTES)), || true)?;
        }
        Ok(Self {
            port,
            control,
            events,
            requests,
            ids: [0; SLOTS],
            tasks: [None; TASKS],
            next_id: 1,
            slots: SLOTS.min(config.commands_per_unit_max as usize),
            transfer_bytes: TRANSFER_BYTES.min(config.sectors_max.saturating_mul(512) as usize),
            config,
            features,
            violation: None,
            violation_reported: false,
            dead: false,
            counters: Counters::default(),
        })
    }

    fn start_over(&mut self) -> Result<(), InitError> {
        (self.features, self.config) = prepare(&mut self.port)?;
        self.control.renew(&mut self.port)?;
        self.events.renew(&mut self.port)?;
        self.requests.renew(&mut self.port)?;
        self.port.start();
        for slot in 0..EVENTS {
            self.events.submit(&mut self.port, slot, &[], from_ref(&(0..EVENT_BYTES)), || true)?;
        }
        self.tasks = [None; TASKS];
        (self.violation, self.violation_reported) = (None, false);
        Ok(())
    }

    /// The device's configuration, for the log.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The features agreed on, for the log.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// How it interrupts.
    pub fn interrupt_mode(&self) -> InterruptMode {
        self.port.interrupt_mode()
    }

    /// Counts since start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the device did that it must not, if it did.
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }

    /// Something waits to be polled. To be asked with interrupts off before the processor sleeps.
    pub fn has_work(&self) -> bool {
        self.requests.has_used() || self.control.has_used() || self.events.has_used()
    }

    /// Clears the interrupt status (INTx only); `true` if the interrupt was this device's.
    pub fn acknowledge(&mut self) -> bool {
        self.port.acknowledge()
    }

    fn check<V>(&mut self, popped: Result<V, Violation>) -> Option<V> {
        match popped {
            Ok(used) => Some(used),
            Err(violation) => {
                self.violation = self.violation.or(Some(violation));
                None
            }
        }
    }
}

/// Resets the device and agrees with it on everything but its queues.
fn prepare<T: Transport>(port: &mut Port<T>) -> Result<(u64, Config), InitError> {
    let features = port.negotiate(DeviceType::ScsiHost, 0, OPTIONAL_FEATURES)?;
    let config = Config::parse(&port.config(0)?);
    if !config.is_usable() {
        return Err(InitError::Config(config));
    }
    port.route(REQUEST_QUEUE, 0)?;
    port.route(CONTROL_QUEUE, 1)?;
    port.route(EVENT_QUEUE, 1)?;
    port.route_config(1);
    Ok((features, config))
}

fn hba_error(error: QueueError) -> HbaError {
    match error {
        QueueError::Refused => HbaError::Refused,
        QueueError::SlotBusy | QueueError::Full => HbaError::Busy,
        QueueError::Broken => HbaError::Broken,
        QueueError::NoSuchSlot | QueueError::BadRange | QueueError::NoMemory | QueueError::TooSmall { .. } => {
            HbaError::Unfit
        }
    }
}

impl<T: Transport> Hba for VirtioScsi<T> {
    fn slots(&self) -> usize {
        self.slots
    }

    fn slot_bytes(&self) -> usize {
        self.transfer_bytes
    }

    fn targets(&self) -> u16 {
        self.config.target_max.saturating_add(1).min(256)
    }

    fn data(&self, slot: usize) -> Option<&[u8]> {
        if slot >= self.slots {
            return None;
        }
        self.requests.slot(slot)?.get(DATA_AT..DATA_AT + self.transfer_bytes)
    }

    fn data_mut(&mut self, slot: usize) -> Option<&mut [u8]> {
        if slot >= self.slots {
            return None;
        }
        self.requests.slot_mut(slot)?.get_mut(DATA_AT..DATA_AT + self.transfer_bytes)
    }

    fn submit(&mut self, slot: usize, command: &Command, guard: &mut dyn FnMut() -> bool) -> Result<(), HbaError> {
        let (sent, received) = match command.transfer {
            Transfer::None => (0, 0),
            Transfer::Out(bytes) => (bytes, 0),
            Transfer::In(bytes) => (0, bytes),
        };
        if self.dead {
            return Err(HbaError::Broken);
        }
        if slot >= self.slots || sent.max(received) > self.transfer_bytes {
            return Err(HbaError::Unfit);
        }
        let id = self.next_id;
        let buffer = self.requests.slot_mut(slot).ok_or(HbaError::Busy)?;
        let header = wire::request(command.address, id, &command.cdb);
        buffer.get_mut(..REQUEST_BYTES).ok_or(HbaError::Unfit)?.copy_from_slice(&header);
        buffer.get_mut(RESPONSE_AT..RESPONSE_AT + RESPONSE_BYTES).ok_or(HbaError::Unfit)?.fill(0xff);
        let segments = |header: core::ops::Range<usize>, bytes: usize| {
            let mut segments: Vec<core::ops::Range<usize>, 2> = Vec::new();
            let _ = segments.push(header);
            if bytes > 0 {
                let _ = segments.push(DATA_AT..DATA_AT + bytes);
            }
            segments
        };
        let readable = segments(0..REQUEST_BYTES, sent);
        let writable = segments(RESPONSE_AT..RESPONSE_AT + RESPONSE_BYTES, received);
        self.requests.submit(&mut self.port, slot, &readable, &writable, guard).map_err(hba_error)?;
        if let Some(latest) = self.ids.get_mut(slot) {
            *latest = id;
        }
        self.next_id += 1;
        self.counters.commands += 1;
        Ok(())
    }

    fn poll(&mut self) -> Option<Outcome> {
        let popped = self.requests.pop()?;
        let slot = self.check(popped)?.slot;
        let response = self.requests.slot(slot)?;
        let outcome = wire::parse_response(slot, response.get(RESPONSE_AT..)?)?;
        if outcome.response != Response::Ok {
            self.counters.bad_responses += 1;
        }
        Some(outcome)
    }

    fn submit_task(&mut self, task: Task) -> Result<(), HbaError> {
        if self.dead {
            return Err(HbaError::Broken);
        }
        let aborted = match task.function {
            quorate_scsi::hba::Function::Abort { slot } => {
                if slot >= self.slots || self.requests.slot(slot).is_some() {
                    return Err(HbaError::Unfit);
                }
                self.ids.get(slot).copied().unwrap_or(0)
            }
            _ => 0,
        };
        let slot = self.control.free_slot().ok_or(HbaError::Busy)?;
        let buffer = self.control.slot_mut(slot).ok_or(HbaError::Busy)?;
        buffer.get_mut(..TASK_BYTES).ok_or(HbaError::Unfit)?.copy_from_slice(&wire::task(
            task.address,
            task.function,
            aborted,
        ));
        if let Some(byte) = buffer.get_mut(TASK_RESPONSE_AT) {
            *byte = 0xff;
        }
        self.control
            .submit(
                &mut self.port,
                slot,
                from_ref(&(0..TASK_BYTES)),
                from_ref(&(TASK_RESPONSE_AT..TASK_RESPONSE_AT + 1)),
                || true,
            )
            .map_err(hba_error)?;
        if let Some(place) = self.tasks.get_mut(slot) {
            *place = Some(task);
        }
        self.counters.tasks += 1;
        Ok(())
    }

    fn poll_task(&mut self) -> Option<TaskOutcome> {
        let popped = self.control.pop()?;
        let slot = self.check(popped)?.slot;
        let response = *self.control.slot(slot)?.get(TASK_RESPONSE_AT)?;
        Some(TaskOutcome { task: self.tasks.get_mut(slot)?.take()?, confirmed: wire::task_confirmed(response) })
    }

    fn restart(&mut self) -> Result<(), HbaError> {
        if dma::pages_free() < RINGS_PAGES {
            return Err(HbaError::Unfit);
        }
        self.counters.restarts += 1;
        let restarted = self.start_over();
        self.dead = restarted.is_err();
        restarted.map_err(|_| HbaError::Broken)
    }

    fn poll_event(&mut self) -> Option<HbaEvent> {
        if self.violation.is_some() && !self.violation_reported {
            self.violation_reported = true;
            return Some(HbaEvent::Violation);
        }
        loop {
            let popped = self.events.pop()?;
            let used = self.check(popped)?;
            let event = self.events.slot(used.slot).and_then(wire::parse_event);
            self.counters.events += 1;
            // A buffer that cannot be given back is one buffer less; the queue says if it is broken.
            let _ = self.events.submit(&mut self.port, used.slot, &[], from_ref(&(0..EVENT_BYTES)), || true);
            match event {
                Some(wire::Event::Report(event)) => return Some(event),
                Some(wire::Event::Nothing) => {}
                None => self.counters.unreadable_events += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests;
