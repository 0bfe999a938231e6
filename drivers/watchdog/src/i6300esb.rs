//! The watchdog timer of Intel's 6300ESB I/O controller hub (its data sheet, order number 300641, "Watchdog Timer"), PCI
//! 8086:25ab, and QEMU's model of it.
//!
//! ```text
//! config 0x60 (16 bits)  0–1 what the first stage's end raises (3: nothing)   2 clock: 0 is 1 kHz   5 no reset at the end
//! config 0x68 (8 bits)   0 locked until the next reset   1 enabled   2 free-running
//! BAR 0  +0x0, +0x4      length of stages 1 and 2 in ticks, 20 bits
//!        +0xc            8 reload: begin stage 1 anew   9 the last reset was this timer's; write 1 to forget it
//! ```
//! Each write to a length or to `+0xc` counts only right after 0x80 and 0x86 were written to `+0xc`. An access of another
//! width than given is ignored without a sign (seen on QEMU), so both configuration registers are read back.

use quorate_bus::registers::{Config, Mmio, PortConfig, Registers};

use crate::{ArmError, Watchdog};

/// PCI vendor id.
pub const VENDOR: u16 = 0x8086;
/// PCI device id.
pub const DEVICE: u16 = 0x25ab;
/// The BAR with the registers.
pub const BAR: u8 = 0;
/// How many bytes they have.
pub const REGISTERS_BYTES: usize = 16;

const CONFIG: u8 = 0x60;
/// The end of stage 1 raises no interrupt; 1 kHz; the end of stage 2 resets the machine.
const CONFIG_RESET_ONLY: u16 = 0b11;
/// What must read back as zero: another clock, no reset. (QEMU's model forgets a bit of the interrupt's kind.)
const CONFIG_WRONG: u16 = 1 << 2 | 1 << 5;
const LOCK: u8 = 0x68;
const LOCKED: u8 = 1;
const ENABLED: u8 = 1 << 1;

const STAGE_1: usize = 0x0;
const STAGE_2: usize = 0x4;
const RELOAD: usize = 0xc;
const RELOAD_NOW: u16 = 1 << 8;
const FIRED: u16 = 1 << 9;
const UNLOCK: [u16; 2] = [0x80, 0x86];

/// One tick is 2¹⁵ PCI clocks of 30 ns (33 MHz; a clock of exactly 33 MHz makes it 1 % longer), ns.
const TICK_NS: u64 = 30 << 15;
/// The longest stage: 20 bits of ticks.
const TICKS_MAX: u64 = (1 << 20) - 1;
/// The shortest stage that is taken: below this a single slow access to the device would be the end. A choice of ours.
const MIN_MS: u32 = 10;
/// 17 minutes.
const MAX_MS: u32 = (TICKS_MAX * TICK_NS / 1_000_000) as u32;

/// The watchdog, reached through `R` and `C`.
#[derive(Debug)]
pub struct I6300esb<R: Registers, C: Config> {
    registers: R,
    config: C,
}

/// The watchdog on the PCI bus.
pub type PciI6300esb = I6300esb<Mmio, PortConfig>;

impl<R: Registers, C: Config> I6300esb<R, C> {
    /// The device behind these registers. Nothing is touched yet: what firmware armed goes on.
    pub fn new(registers: R, config: C) -> Self {
        Self { registers, config }
    }

    fn unlock(&mut self) {
        for word in UNLOCK {
            self.registers.write_u16(RELOAD, word);
        }
    }

    fn set_stage(&mut self, register: usize, ticks: u32) {
        self.unlock();
        self.registers.write_u32(register, ticks);
    }

    fn write_reload(&mut self, bits: u16) {
        self.unlock();
        self.registers.write_u16(RELOAD, bits);
    }

    fn enable(&mut self, on: bool) -> Result<(), ArmError> {
        let wanted = if on { ENABLED } else { 0 };
        if self.config.read_u8(LOCK) & (LOCKED | ENABLED) != wanted {
            self.config.write_u8(LOCK, wanted);
        }
        if self.config.read_u8(LOCK) & ENABLED == wanted { Ok(()) } else { Err(ArmError::Refused) }
    }
}

/// A stage's length in ticks; never longer than what was asked for.
fn ticks(stage_ms: u32) -> Result<u32, ArmError> {
    let fits = (MIN_MS..=MAX_MS).contains(&stage_ms);
    let ticks = u64::from(stage_ms) * 1_000_000 / TICK_NS;
    match u32::try_from(ticks) {
        Ok(ticks) if fits => Ok(ticks),
        _ => Err(ArmError::Time { asked_ms: stage_ms, min_ms: MIN_MS, max_ms: MAX_MS }),
    }
}

impl<R: Registers, C: Config> Watchdog for I6300esb<R, C> {
    fn arm(&mut self, stage_ms: u32) -> Result<(), ArmError> {
        let ticks = ticks(stage_ms)?;
        // While it counts this changes nothing but what comes after the next reload.
        self.config.write_u16(CONFIG, CONFIG_RESET_ONLY);
        if self.config.read_u16(CONFIG) & CONFIG_WRONG != 0 {
            return Err(ArmError::Refused);
        }
        self.set_stage(STAGE_1, ticks);
        self.set_stage(STAGE_2, ticks);
        self.enable(true)?;
        // If it counted already, it takes the new lengths with the reload.
        self.pat();
        Ok(())
    }

    fn pat(&mut self) {
        self.write_reload(RELOAD_NOW);
    }

    fn disarm(&mut self) -> Result<(), ArmError> {
        self.enable(false)
    }

    fn take_fired(&mut self) -> bool {
        let fired = self.registers.read_u16(RELOAD);
        // All ones: there is no device.
        if fired == u16::MAX || fired & FIRED == 0 {
            return false;
        }
        self.write_reload(FIRED);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Device;
    use std::string::ToString;

    fn ms(stage_ms: u32) -> u64 {
        u64::from(stage_ms) * 1_000_000
    }

    #[test]
    fn it_resets_after_both_stages_and_not_before() {
        let device = Device::new();
        let mut dog = device.driver();
        dog.arm(1200).unwrap();
        device.pass_ns(ms(2400) * 98 / 100);
        assert_eq!(device.resets(), 0);
        device.pass_ns(ms(2400) * 2 / 100);
        assert_eq!(device.resets(), 1, "never longer than promised");
    }

    #[test]
    fn a_pat_begins_anew_also_in_the_second_stage() {
        let device = Device::new();
        let mut dog = device.driver();
        dog.arm(100).unwrap();
        for _ in 0..50 {
            device.pass_ns(ms(150));
            dog.pat();
        }
        assert_eq!(device.resets(), 0);
        device.pass_ns(ms(200));
        assert_eq!(device.resets(), 1);
    }

    #[test]
    fn disarmed_it_never_resets_and_a_pat_does_not_arm_it() {
        let device = Device::new();
        let mut dog = device.driver();
        dog.pat();
        device.pass_ns(ms(10_000_000));
        dog.arm(100).unwrap();
        dog.disarm().unwrap();
        dog.pat();
        device.pass_ns(ms(10_000_000));
        assert_eq!(device.resets(), 0);
    }

    #[test]
    fn it_is_armed_anew_with_another_time_while_it_counts() {
        let device = Device::new();
        let mut dog = device.driver();
        dog.arm(30_000).unwrap();
        device.pass_ns(ms(1000));
        dog.arm(250).unwrap();
        device.pass_ns(ms(480));
        assert_eq!(device.resets(), 0);
        device.pass_ns(ms(20));
        assert_eq!(device.resets(), 1);
    }

    #[test]
    fn times_that_it_cannot_keep_are_errors_and_change_nothing() {
        let device = Device::new();
        let mut dog = device.driver();
        dog.arm(1000).unwrap();
        for asked_ms in [0, 9, MAX_MS + 1, u32::MAX] {
            let error = dog.arm(asked_ms).unwrap_err();
            assert_eq!(error, ArmError::Time { asked_ms, min_ms: 10, max_ms: 1_030_791 });
            assert!(error.to_string().contains("10 to 1030791 ms"));
        }
        device.pass_ns(ms(1900));
        assert_eq!(device.resets(), 0);
        device.pass_ns(ms(100));
        assert_eq!(device.resets(), 1);
        dog.arm(MAX_MS).unwrap();
        assert_eq!(device.stages(), [1_048_574; 2], "the longest, rounded to a whole ms");
        dog.arm(10).unwrap();
        assert_eq!(device.stages(), [10; 2]);
    }

    #[test]
    fn its_word_about_the_last_reset_is_given_once() {
        let device = Device::new();
        let mut dog = device.driver();
        assert!(!dog.take_fired(), "power on");
        dog.arm(100).unwrap();
        device.pass_ns(ms(200));
        let mut next = device.driver();
        assert!(next.take_fired());
        assert!(!next.take_fired());
        assert!(!device.driver().take_fired());
    }

    #[test]
    fn what_firmware_locked_is_taken_as_it_is() {
        let device = Device::new();
        device.lock(false);
        assert_eq!(device.driver().arm(100), Err(ArmError::Refused));
        assert_eq!(device.driver().disarm(), Ok(()));
        let device = Device::new();
        device.lock(true);
        assert_eq!(device.driver().disarm(), Err(ArmError::Refused));
        device.driver().arm(100).unwrap();
        device.pass_ns(ms(200));
        assert_eq!(device.resets(), 1);
    }

    #[test]
    fn a_slot_without_a_device_is_refused() {
        let device = Device::absent();
        let mut dog = device.driver();
        assert_eq!(dog.arm(1000), Err(ArmError::Refused));
        assert!(!dog.take_fired());
    }
}
