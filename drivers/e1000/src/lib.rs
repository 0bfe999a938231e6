//! Intel's 82540EM Gigabit Ethernet controller, PCI 8086:100e, as smoltcp's [`Device`]; QEMU has it as `e1000`.
//! (Intel 317453, "PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual", cited as *SDM*.)
//!
//! Legacy descriptors, no offloads, no interrupt moderation: a heartbeat is worth its interrupt. A received frame is copied
//! out of device memory and its descriptor given back before anybody looks at it, so the tokens borrow nothing that the
//! other needs: smoltcp consumes a transmit token inside the receive token's closure. Sent frames do not interrupt, they are
//! collected when the next frame is sent.
//!
//! Interrupts: its line only (no MSI-X; SDM § 4.1 has MSI, QEMU's model has not). Whoever takes the interrupt masks the line,
//! and later calls [`E1000::acknowledge`] and unmasks it. It may as well be polled.
//!
//! QEMU's model receives nothing in the second after the receive control register was written, whatever was written
//! (`set_rx_control` in its `hw/net/e1000.c` starts a timer of 1000 ms of virtual time, and `e1000_receive_iov` holds frames
//! while it runs). Only the machine's reset stops that timer, and that clears the register: a receiver that is on was
//! written, so the second is QEMU's and nothing here shortens it. Measured on 7.2.22, frames sent to the adapter with the
//! processor halted: 0, 500 and 950 ms after the write none is taken, at 1050 ms all are; so again after the same value was
//! written a second time; a reset by CTRL, a restart of auto-negotiation, a write of the receive tail, or bus mastering off
//! and on change nothing. The link is up from the start. In eight starts of a node its first frame was out of the ring
//! 1.000 to 1.009 s after the write. So it is brought up as early as can be, and not written again; and the line is raised
//! without a frame ([`E1000::raise`]), lest it be polled until one comes.
//!
//! ```text
//! receive:   the device fills descriptors from its head; the one at the tail is not its own (SDM § 3.2.6), so of RECEIVE
//!            descriptors one is always empty. The driver takes them in order; each it gives back becomes the tail.
//! transmit:  the driver fills descriptors from the tail, the device takes them from the head; tail = head is empty, so
//!            one is never filled (SDM § 3.4).
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

#[cfg(test)]
mod fake;
mod registers;
#[cfg(test)]
mod tests;

use quorate_bus::port::InterruptMode;
use quorate_bus::registers::{Mmio, Registers};
use quorate_bus::ring::{Ring, RingError};
use registers::{
    BROADCASTS, CARRIER, CRC_BY_DEVICE, CRC_REMOVED, CTRL, CTRL_RESET, CTRL_SET, DONE, EEPROM_DONE, EEPROM_READ, EERD,
    END_OF_PACKET, ICR, ICS, IMC, IMS, INTERRUPTS, ITR, LINKED, MTA, MTA_WORDS, MULTICASTS, RAH, RAH_VALID, RAL, RCTL,
    RDBAH, RDBAL, RDH, RDLEN, RDT, RDTR, RECEIVE_ON, RECEIVED_BAD, REPORT_STATUS, STATUS, TCTL, TCTL_SET, TDBAH, TDBAL,
    TDH, TDLEN, TDT, TIDV, TIPG, TIPG_COPPER,
};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

pub use registers::{BAR, DEVICE, REGISTERS_BYTES, VENDOR};

/// Descriptors for received frames, a multiple of 8 (SDM § 13.4.27). One frame from each of 64 nodes fits, and as many that
/// came while those were looked at.
pub const RECEIVE: usize = 128;
/// Descriptors for frames to be sent: a message to each of 63 nodes fits.
pub const TRANSMIT: usize = 64;
/// Longest frame, without its checksum.
pub const FRAME_BYTES_MAX: usize = 1514;
/// Shortest: an Ethernet header.
const FRAME_BYTES_MIN: usize = 14;
/// The size that the device is told (SDM § 13.4.22, BSIZE 0); frames longer than an Ethernet's it drops itself.
const BUFFER_BYTES: usize = 2048;
/// Reads of a register to wait for what takes microseconds; the longest, a word of the EEPROM, takes some 100 µs.
const POLLS_MAX: u32 = 100_000;

/// So many emptied descriptors the device is told of at once: an eighth of the ring.
const TOLD: usize = RECEIVE / 8;

/// Why the adapter could not be brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// There is nobody: its registers read as ones.
    Absent,
    /// It did not finish its reset.
    NoReset,
    /// A word of its EEPROM, which has the hardware address, could not be read.
    Eeprom {
        /// Which word.
        word: u8,
    },
    /// Its hardware address is a group's, or zero.
    Address([u8; 6]),
    /// One of its rings.
    Ring(RingError),
}

impl From<RingError> for InitError {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

/// Counts since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub received: u64,
    /// Frames handed to the device.
    pub sent: u64,
    /// Received descriptors of an impossible length, or that are a part of a frame only.
    pub bad_length: u64,
    /// Received frames that the device found damaged.
    pub damaged: u64,
    /// Times a frame could not be sent or received because all transmit descriptors were in use.
    pub transmit_full: u64,
    /// Frames that were longer than a buffer, and were not sent.
    pub lost: u64,
}

/// The receiving half.
#[derive(Debug)]
struct Receive {
    ring: Ring<RECEIVE>,
    /// The descriptor that the device fills next.
    next: usize,
    /// Descriptors that were emptied and that the device has not been told of.
    kept: usize,
    /// The last descriptor was a part of a frame: what follows up to the frame's end belongs to it.
    in_parts: bool,
}

/// The sending half.
#[derive(Debug)]
struct Send {
    ring: Ring<TRANSMIT>,
    /// The descriptor that is filled next.
    tail: usize,
    /// The oldest that the device has not done with, if `used` is not 0.
    oldest: usize,
    /// Descriptors that are the device's.
    used: usize,
}

/// The adapter.
#[derive(Debug)]
pub struct E1000<R: Registers> {
    registers: R,
    wired: InterruptMode,
    receive: Receive,
    send: Send,
    mac: [u8; 6],
    /// The frame that was received last.
    frame: [u8; FRAME_BYTES_MAX],
    counters: Counters,
}

/// The adapter on the PCI bus.
pub type PciE1000 = E1000<Mmio>;

impl<R: Registers> E1000<R> {
    /// Brings the adapter behind these registers up and offers it all receive buffers. `wired` is how it interrupts, as the bus
    /// says ([`quorate_bus::pci::Pci::wired`]).
    ///
    /// # Errors
    /// [`InitError`].
    pub fn new(mut registers: R, wired: InterruptMode) -> Result<Self, InitError> {
        reset(&mut registers)?;
        let mac = read_address(&mut registers)?;
        let receive = Receive { ring: Ring::new(BUFFER_BYTES)?, next: 0, kept: 0, in_parts: false };
        let send = Send { ring: Ring::new(BUFFER_BYTES)?, tail: 0, oldest: 0, used: 0 };
        let mut adapter =
            Self { registers, wired, receive, send, mac, frame: [0; FRAME_BYTES_MAX], counters: Counters::default() };
        adapter.start()?;
        Ok(adapter)
    }

    /// SDM § 14.3 to 14.5: the filters, the two rings, then both engines and the interrupts.
    fn start(&mut self) -> Result<(), InitError> {
        let registers = &mut self.registers;
        registers.write_u32(CTRL, CTRL_SET);
        let [a, b, c, d, e, f] = self.mac;
        registers.write_u32(RAL, u32::from_le_bytes([a, b, c, d]));
        registers.write_u32(RAH, u32::from_le_bytes([e, f, 0, 0]) | RAH_VALID);
        for word in 0..MTA_WORDS {
            registers.write_u32(MTA + 4 * word, 0);
        }

        let ring = &mut self.receive.ring;
        let base = ring.physical()?;
        for index in 0..RECEIVE {
            ring.give(index, 0);
        }
        registers.write_u32(RDBAL, base as u32);
        registers.write_u32(RDBAH, (base >> 32) as u32);
        registers.write_u32(RDLEN, ring.descriptors_bytes() as u32);
        registers.write_u32(RDH, 0);
        registers.write_u32(RDTR, 0);
        registers.write_u32(ITR, 0);

        let base = self.send.ring.physical()?;
        registers.write_u32(TDBAL, base as u32);
        registers.write_u32(TDBAH, (base >> 32) as u32);
        registers.write_u32(TDLEN, self.send.ring.descriptors_bytes() as u32);
        registers.write_u32(TDH, 0);
        registers.write_u32(TDT, 0);
        registers.write_u32(TIDV, 0);
        registers.write_u32(TIPG, TIPG_COPPER);
        registers.write_u32(TCTL, TCTL_SET);

        // All groups: whose group it is, the stack's own filter knows, and the device's has room for a hash of it only.
        registers.write_u32(RCTL, RECEIVE_ON | MULTICASTS | BROADCASTS | CRC_REMOVED);
        registers.write_u32(RDT, (RECEIVE - 1) as u32);
        registers.write_u32(IMS, INTERRUPTS);
        Ok(())
    }

    /// The adapter's hardware address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The link has carrier.
    pub fn has_carrier(&self) -> bool {
        let status = self.registers.read_u32(STATUS);
        status != u32::MAX && status & LINKED != 0
    }

    /// How it interrupts: by its line.
    pub fn interrupt_mode(&self) -> InterruptMode {
        self.wired
    }

    /// Counts since start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A frame waits. To be asked with interrupts off before the processor sleeps.
    pub fn has_work(&self) -> bool {
        self.receive.ring.is_done(self.receive.next, DONE)
    }

    /// Clears the interrupt's causes, which lowers the line; `true` if the interrupt was this device's.
    pub fn acknowledge(&mut self) -> bool {
        // Reading clears (SDM § 13.4.17). All ones: there is no device any more.
        let causes = self.registers.read_u32(ICR);
        causes != u32::MAX && causes & (INTERRUPTS | CARRIER) != 0
    }

    /// Raises the line as a change of the link does (SDM § 13.4.19), so that whoever routed it learns by [`E1000::acknowledge`]
    /// whether it works without waiting for a frame.
    pub fn raise(&mut self) {
        self.registers.write_u32(ICS, CARRIER);
    }

    /// Takes back the descriptors of frames that were sent, in order.
    fn collect(&mut self) {
        let send = &mut self.send;
        while send.used > 0 && send.ring.take_back(send.oldest, DONE).is_some() {
            send.oldest = (send.oldest + 1) % TRANSMIT;
            send.used -= 1;
        }
    }

    /// A transmit descriptor is free.
    fn can_transmit(&mut self) -> bool {
        self.collect();
        let free = self.send.used < TRANSMIT - 1;
        if !free {
            self.counters.transmit_full += 1;
        }
        free
    }

    /// Copies the next good frame to `self.frame` and gives its descriptor back; its length. The device is told of
    /// [`TOLD`] descriptors at once, and of all that are left when no frame waits: its register costs more than a frame.
    fn next_frame(&mut self) -> Option<usize> {
        loop {
            let Receive { ring, next, kept, in_parts } = &mut self.receive;
            let index = *next;
            let word = ring.take_back(index, DONE)?;
            let len = usize::from(word as u16);
            let ends = word & END_OF_PACKET != 0;
            let continues = core::mem::replace(in_parts, !ends);
            let whole = ends && !continues;
            let fits = (FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&len);
            let good = whole && fits && word & RECEIVED_BAD == 0;
            let source = ring.slot(index).and_then(|slot| slot.get(..len));
            if let (true, Some(source), Some(frame)) = (good, source, self.frame.get_mut(..len)) {
                frame.copy_from_slice(source);
            }
            ring.give(index, 0);
            *next = (index + 1) % RECEIVE;
            *kept += 1;
            if *kept == TOLD {
                self.tell();
            }
            if good {
                self.counters.received += 1;
                return Some(len);
            }
            let count = if whole && fits { &mut self.counters.damaged } else { &mut self.counters.bad_length };
            *count += 1;
        }
    }

    /// Tells the device of the descriptors that were emptied.
    fn tell(&mut self) {
        let Receive { next, kept, .. } = &mut self.receive;
        if core::mem::take(kept) > 0 {
            self.registers.write_u32(RDT, ((*next + RECEIVE - 1) % RECEIVE) as u32);
        }
    }
}

/// Stops whatever firmware or an earlier life had it do, and resets it (SDM § 14.3). Interrupts are off afterwards.
fn reset<R: Registers>(registers: &mut R) -> Result<(), InitError> {
    if registers.read_u32(STATUS) == u32::MAX {
        return Err(InitError::Absent);
    }
    registers.write_u32(IMC, u32::MAX);
    registers.write_u32(RCTL, 0);
    registers.write_u32(TCTL, 0);
    let control = registers.read_u32(CTRL);
    registers.write_u32(CTRL, control | CTRL_RESET);
    if !(0..POLLS_MAX).any(|_| registers.read_u32(CTRL) & CTRL_RESET == 0) {
        return Err(InitError::NoReset);
    }
    // The reset is over for some models without having touched these (QEMU 7.2's).
    registers.write_u32(IMC, u32::MAX);
    registers.write_u32(RCTL, 0);
    registers.write_u32(TCTL, 0);
    let _ = registers.read_u32(ICR);
    Ok(())
}

/// The hardware address, from the first three words of the EEPROM (SDM § 5.6.1, § 13.4.4).
fn read_address<R: Registers>(registers: &mut R) -> Result<[u8; 6], InitError> {
    let mut mac = [0; 6];
    for (word, pair) in (0_u8..).zip(mac.chunks_exact_mut(2)) {
        registers.write_u32(EERD, u32::from(word) << 8 | EEPROM_READ);
        let mut answers = (0..POLLS_MAX).map(|_| registers.read_u32(EERD));
        let answer = answers.find(|answer| answer & EEPROM_DONE != 0 && *answer != u32::MAX);
        let answer = answer.ok_or(InitError::Eeprom { word })?;
        pair.copy_from_slice(&((answer >> 16) as u16).to_le_bytes());
    }
    if mac == [0; 6] || mac.first().is_some_and(|first| first & 1 != 0) {
        return Err(InitError::Address(mac));
    }
    Ok(mac)
}

/// A received frame, already out of the device's reach.
#[derive(Debug)]
pub struct Received<'a> {
    frame: &'a [u8],
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.frame)
    }
}

/// The right to send one frame.
#[derive(Debug)]
pub struct Transmit<'a, R: Registers> {
    registers: &'a mut R,
    send: &'a mut Send,
    counters: &'a mut Counters,
}

impl<B: Registers> TxToken for Transmit<'_, B> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Self { registers, send, counters } = self;
        let index = send.tail;
        let room = send.ring.slot_mut(index).filter(|_| len <= FRAME_BYTES_MAX);
        let Some(frame) = room.and_then(|slot| slot.get_mut(..len)) else {
            // smoltcp must be given room all the same; what it writes goes nowhere.
            counters.lost += 1;
            let mut nowhere = [0; BUFFER_BYTES];
            let len = len.min(BUFFER_BYTES);
            return f(nowhere.get_mut(..len).unwrap_or(&mut []));
        };
        let result = f(frame);
        if send.ring.give(index, len as u64 | END_OF_FRAME) {
            send.tail = (index + 1) % TRANSMIT;
            send.used += 1;
            registers.write_u32(TDT, send.tail as u32);
            counters.sent += 1;
        }
        result
    }
}

/// The command of a frame in one descriptor.
const END_OF_FRAME: u64 = registers::END_OF_FRAME | CRC_BY_DEVICE | REPORT_STATUS;

impl<R: Registers> Device for E1000<R> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Transmit<'a, R>
    where
        Self: 'a;

    fn receive(&mut self, _timestamp: Instant) -> Option<(Received<'_>, Transmit<'_, R>)> {
        if self.has_work() && !self.can_transmit() {
            return None;
        }
        let Some(len) = self.next_frame() else {
            self.tell();
            return None;
        };
        let transmit = Transmit { registers: &mut self.registers, send: &mut self.send, counters: &mut self.counters };
        Some((Received { frame: self.frame.get(..len)? }, transmit))
    }

    fn transmit(&mut self, _timestamp: Instant) -> Option<Transmit<'_, R>> {
        self.can_transmit().then_some(Transmit {
            registers: &mut self.registers,
            send: &mut self.send,
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
