//! A 6300ESB watchdog made of test code: it counts when the test says that time passes, and it is as particular about
//! widths and the unlock sequence as the device.

use std::cell::RefCell;
use std::rc::Rc;

use quorate_bus::registers::{Config, Registers};

use crate::I6300esb;

#[derive(Clone, Debug)]
struct State {
    present: bool,
    config: u16,
    lock: u8,
    /// How much of the unlock sequence was written.
    unlocked: u8,
    stages: [u32; 2],
    /// The stage that is counted, and the ns that are left of it.
    running: Option<(usize, u64)>,
    fired: bool,
    resets: u32,
}

/// As reset leaves it, but for the word about the last reset.
const AFTER_RESET: State = State {
    present: true,
    config: 0,
    lock: 0,
    unlocked: 0,
    stages: [0xf_ffff; 2],
    running: None,
    fired: false,
    resets: 0,
};

impl State {
    fn begin(&mut self, stage: usize) {
        if self.lock & 2 != 0 {
            self.running = Some((stage, u64::from(self.stages[stage]) * (30 << 15)));
        }
    }

    fn pass(&mut self, mut ns: u64) {
        while let Some((stage, left)) = self.running {
            if ns < left {
                self.running = Some((stage, left - ns));
                return;
            }
            ns -= left;
            self.running = None;
            if stage == 0 {
                self.begin(1);
            } else if self.config & 1 << 5 == 0 {
                *self = Self { fired: true, resets: self.resets + 1, ..AFTER_RESET };
            }
        }
    }

    /// Whether a write counts now.
    fn take_unlocked(&mut self) -> bool {
        core::mem::take(&mut self.unlocked) == 2
    }
}

/// The device's side, in the hands of the test.
#[derive(Clone, Debug)]
pub(crate) struct Device(Rc<RefCell<State>>);

impl Device {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(AFTER_RESET)))
    }

    /// An empty slot: everything reads as ones.
    pub(crate) fn absent() -> Self {
        Self(Rc::new(RefCell::new(State { present: false, ..AFTER_RESET })))
    }

    pub(crate) fn driver(&self) -> I6300esb<Self, Self> {
        I6300esb::new(self.clone(), self.clone())
    }

    pub(crate) fn pass_ns(&self, ns: u64) {
        self.0.borrow_mut().pass(ns);
    }

    pub(crate) fn resets(&self) -> u32 {
        self.0.borrow().resets
    }

    pub(crate) fn stages(&self) -> [u32; 2] {
        self.0.borrow().stages
    }

    /// Firmware locks it, enabled or not.
    pub(crate) fn lock(&self, enabled: bool) {
        let mut state = self.0.borrow_mut();
        state.lock = 1 | u8::from(enabled) << 1;
        state.begin(0);
    }
}

impl Registers for Device {
    fn read_u16(&self, offset: usize) -> u16 {
        let state = self.0.borrow();
        match offset {
            _ if !state.present => u16::MAX,
            0xc => u16::from(state.fired) << 9,
            _ => 0,
        }
    }

    /// The watchdog has no register of that width to be read.
    fn read_u32(&self, _offset: usize) -> u32 {
        u32::MAX
    }

    fn write_u16(&mut self, offset: usize, value: u16) {
        let mut state = self.0.borrow_mut();
        match (offset, value, state.unlocked) {
            (0xc, 0x80, _) => state.unlocked = 1,
            (0xc, 0x86, 1) => state.unlocked = 2,
            (0xc, _, _) if state.take_unlocked() => {
                if value & 1 << 8 != 0 {
                    state.begin(0);
                }
                if value & 1 << 9 != 0 {
                    state.fired = false;
                }
            }
            _ => state.unlocked = 0,
        }
    }

    fn write_u32(&mut self, offset: usize, value: u32) {
        let mut state = self.0.borrow_mut();
        if state.take_unlocked() && matches!(offset, 0 | 4) {
            state.stages[offset / 4] = value & 0xf_ffff;
        }
    }
}

impl Config for Device {
    fn read_u8(&self, offset: u8) -> u8 {
        let state = self.0.borrow();
        match offset {
            _ if !state.present => u8::MAX,
            0x68 => state.lock,
            _ => 0,
        }
    }

    fn read_u16(&self, offset: u8) -> u16 {
        let state = self.0.borrow();
        match offset {
            _ if !state.present => u16::MAX,
            0x60 => state.config,
            _ => 0,
        }
    }

    fn write_u8(&mut self, offset: u8, value: u8) {
        let mut state = self.0.borrow_mut();
        if offset != 0x68 || !state.present || state.lock & 1 != 0 {
            return;
        }
        let before = core::mem::replace(&mut state.lock, value & 7);
        if value & 2 == 0 {
            state.running = None;
        } else if before & 2 == 0 {
            state.begin(0);
        }
    }

    fn write_u16(&mut self, offset: u8, value: u16) {
        let mut state = self.0.borrow_mut();
        if offset == 0x60 && state.present {
            // As QEMU has it: of the interrupt's kind one bit is kept.
            state.config = value & 0x25;
        }
    }
}
