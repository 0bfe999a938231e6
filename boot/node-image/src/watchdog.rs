//! The machine's watchdog, if it has one. When it is patted the node says (`quorate_node::watchdog`); this file is the hand.
//!
//! A machine without a watchdog runs, and says so once in its log: what it is for is a second line (DESIGN 7).

use quorate_node::Order;
use quorate_watchdog::{PciI6300esb, Watchdog};
use spin::Mutex;

use crate::devices::Bus;

static DOG: Mutex<Option<PciI6300esb>> = Mutex::new(None);

/// Takes the watchdog and arms it. Gives whether it was it that reset the machine.
pub fn open(bus: &mut Bus, stage_ms: u32) -> bool {
    let mut dog = match bus.watchdog() {
        Ok(Some(dog)) => dog,
        Ok(None) => {
            defmt::info!("no hardware watchdog: a kernel that hangs stays so");
            return false;
        }
        Err(error) => {
            defmt::warn!("watchdog: {}", defmt::Display2Format(&error));
            return false;
        }
    };
    let fired = dog.take_fired();
    if let Err(error) = dog.arm(stage_ms) {
        defmt::warn!("{}", defmt::Display2Format(&error));
    }
    *DOG.lock() = Some(dog);
    fired
}

/// Does what the node says.
pub fn obey(order: Order) {
    let mut held = DOG.lock();
    let Some(dog) = held.as_mut() else { return };
    match order {
        Order::Pat => dog.pat(),
        Order::Arm { stage_ms } => match dog.arm(stage_ms) {
            Ok(()) => defmt::info!("watchdog: two stages of {=u32} ms", stage_ms),
            Err(error) => defmt::warn!("{}", defmt::Display2Format(&error)),
        },
    }
}

/// The machine is to stand: nothing resets it any more. At the end of a node, so it waits for nobody: if the end came from
/// within this file the watchdog stays armed, and resets the machine.
pub fn disarm() {
    let Some(mut held) = DOG.try_lock() else { return };
    if let Some(dog) = held.as_mut()
        && let Err(error) = dog.disarm()
    {
        defmt::warn!("{}", defmt::Display2Format(&error));
    }
}
