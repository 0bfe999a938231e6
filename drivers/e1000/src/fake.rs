//! An 82540EM made of test code: registers as its manual has them, and the two rings read and written in DMA memory as the
//! device does it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec::Vec;

use quorate_bus::fake::{memory_read, memory_write};
use quorate_bus::port::InterruptMode;
use quorate_bus::registers::Registers;

use crate::registers::{
    CARRIER, CTRL, CTRL_RESET, DONE, EERD, END_OF_FRAME, END_OF_PACKET, ICR, ICS, IMC, IMS, LINKED, RCTL, RDBAH, RDBAL,
    RDH, RDLEN, RDT, RECEIVE_ON, REPORT_STATUS, STATUS, TCTL, TDBAH, TDBAL, TDH, TDLEN, TDT,
};
use crate::{E1000, InitError};

/// A frame came.
const FRAME_CAME: u32 = 1 << 7;
/// No descriptor was left for one.
const OVERRUN: u32 = 1 << 6;

pub(crate) const MAC: [u8; 6] = [0x52, 0x54, 0, 0x51, 0, 3];

/// What is wrong with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Everything reads as ones.
    Absent,
    /// The reset never ends.
    NoReset,
    /// The EEPROM does not answer.
    NoEeprom,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    words: BTreeMap<usize, u32>,
    causes: u32,
    enabled: u32,
    address: [u8; 6],
    linked: bool,
    /// Frames that the device took to send.
    wire: Vec<Vec<u8>>,
    /// It does not take frames to send.
    stuck: bool,
    resets: u32,
}

/// The device's side, in the hands of the test.
#[derive(Clone, Debug)]
pub(crate) struct Device(Rc<RefCell<State>>);

impl State {
    fn word(&self, register: usize) -> u32 {
        self.words.get(&register).copied().unwrap_or(0)
    }

    fn base(&self, low: usize, high: usize) -> u64 {
        u64::from(self.word(low)) | u64::from(self.word(high)) << 32
    }

    fn descriptor(at: u64) -> (u64, u64) {
        let bytes = memory_read(at, 16).expect("a descriptor in DMA memory");
        let word = |range: core::ops::Range<usize>| u64::from_le_bytes(bytes[range].try_into().unwrap());
        (word(0..8), word(8..16))
    }

    /// Takes what stands between head and tail, as the doorbell asks it to.
    fn send(&mut self) {
        let count = self.word(TDLEN) / 16;
        while !self.stuck && self.word(TDH) != self.word(TDT) {
            assert!(self.word(TCTL) & 1 << 1 != 0, "the transmitter is off");
            let head = self.word(TDH);
            let at = self.base(TDBAL, TDBAH) + 16 * u64::from(head);
            let (buffer, word) = Self::descriptor(at);
            assert!(word & END_OF_FRAME != 0 && word & REPORT_STATUS != 0 && word & DONE == 0, "{word:#x}");
            self.wire.push(memory_read(buffer, usize::from(word as u16)).expect("a buffer in DMA memory"));
            assert!(memory_write(at + 8, &(word | DONE).to_le_bytes()));
            self.words.insert(TDH, (head + 1) % count);
        }
    }
}

impl Device {
    pub(crate) fn new() -> Self {
        Self::with(Fault::None, MAC)
    }

    pub(crate) fn with(fault: Fault, address: [u8; 6]) -> Self {
        // As firmware's network boot leaves it: on, with interrupts.
        let words = [(RCTL, RECEIVE_ON), (TCTL, 2)].into();
        let (wire, stuck, resets) = (Vec::new(), false, 0);
        let state = State { fault, words, causes: CARRIER, enabled: 4, address, linked: true, wire, stuck, resets };
        Self(Rc::new(RefCell::new(state)))
    }

    pub(crate) fn driver(&self) -> Result<E1000<Self>, InitError> {
        E1000::new(self.clone(), InterruptMode::IntX { line: 11, pin: 1 })
    }

    pub(crate) fn word(&self, register: usize) -> u32 {
        self.0.borrow().word(register)
    }

    /// A frame comes. `false` if there was no descriptor for it.
    pub(crate) fn deliver(&self, frame: &[u8]) -> bool {
        self.deliver_as(frame, frame.len() as u64 | END_OF_PACKET | DONE)
    }

    /// Fills the next descriptor's buffer, and claims anything about it.
    pub(crate) fn deliver_as(&self, frame: &[u8], word: u64) -> bool {
        let mut state = self.0.borrow_mut();
        assert!(state.word(RCTL) & RECEIVE_ON != 0, "the receiver is off");
        let head = state.word(RDH);
        if head == state.word(RDT) {
            state.causes |= OVERRUN;
            return false;
        }
        let at = state.base(RDBAL, RDBAH) + 16 * u64::from(head);
        let (buffer, _) = State::descriptor(at);
        assert!(memory_write(buffer, frame) && memory_write(at + 8, &word.to_le_bytes()));
        let count = state.word(RDLEN) / 16;
        state.words.insert(RDH, (head + 1) % count);
        state.causes |= FRAME_CAME;
        true
    }

    /// Writes a word into any receive descriptor, as a device out of its mind might.
    pub(crate) fn scribble(&self, index: u64, word: u64) {
        let at = self.0.borrow().base(RDBAL, RDBAH) + 16 * index;
        assert!(memory_write(at + 8, &word.to_le_bytes()));
    }

    /// What was sent since the last look.
    pub(crate) fn take_sent(&self) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.0.borrow_mut().wire)
    }

    /// It stops taking frames to send, or goes on.
    pub(crate) fn set_stuck(&self, stuck: bool) {
        let mut state = self.0.borrow_mut();
        state.stuck = stuck;
        state.send();
    }

    pub(crate) fn set_link(&self, up: bool) {
        let mut state = self.0.borrow_mut();
        state.linked = up;
        state.causes |= CARRIER;
    }

    /// It is pulled out.
    pub(crate) fn pull(&self) {
        self.0.borrow_mut().fault = Fault::Absent;
    }

    /// It raises its line.
    pub(crate) fn line(&self) -> bool {
        let state = self.0.borrow();
        state.causes & state.enabled != 0
    }

    pub(crate) fn resets(&self) -> u32 {
        self.0.borrow().resets
    }
}

impl Registers for Device {
    /// The device has no register of that width.
    fn read_u16(&self, _offset: usize) -> u16 {
        u16::MAX
    }

    fn read_u32(&self, offset: usize) -> u32 {
        let mut state = self.0.borrow_mut();
        if state.fault == Fault::Absent {
            return u32::MAX;
        }
        match offset {
            STATUS => 0x8008_0281 | if state.linked { LINKED } else { 0 },
            ICR => core::mem::take(&mut state.causes),
            EERD => {
                let asked = state.word(EERD);
                let word = (asked >> 8 & 0xff) as usize;
                let data = state.address.get(2 * word..2 * word + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
                let done = asked & 1 != 0 && state.fault != Fault::NoEeprom;
                asked | if done { 1 << 4 | u32::from(data) << 16 } else { 0 }
            }
            _ => state.word(offset),
        }
    }

    fn write_u16(&mut self, offset: usize, value: u16) {
        panic!("a write of two bytes at {offset:#x}: {value:#x}");
    }

    fn write_u32(&mut self, offset: usize, value: u32) {
        let mut state = self.0.borrow_mut();
        match offset {
            CTRL if value & CTRL_RESET != 0 => {
                state.resets += 1;
                state.enabled = 0;
                state.words.clear();
                if state.fault == Fault::NoReset {
                    state.words.insert(CTRL, CTRL_RESET);
                }
            }
            ICS => state.causes |= value,
            IMS => state.enabled |= value,
            IMC => state.enabled &= !value,
            TDT => {
                state.words.insert(TDT, value);
                state.send();
            }
            _ => drop(state.words.insert(offset, value)),
        }
    }
}
