//! The machines' watchdogs, and the fault that they are for: a kernel that hangs. As the device and QEMU have it: two equal
//! stages; a machine that is stopped as a whole is not reset; one whose process alone was stopped finds, when it goes on, the
//! first stage over and the second one before it.
//!
//! Invariants, the watchdog's own (DESIGN 7): it never resets a machine whose kernel does not hang, be it healthy, frozen, cut
//! off or in the middle of its birth; a machine that hangs is reset within what is promised, and boots by itself.

use quorate_node::{Node, Order, Patting};

use crate::faults::LastWrite;
use crate::machine::Machine;
use crate::world::{What, World};

/// A machine's watchdog, and who pats it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Watchdog {
    pub patting: Patting,
    /// When both stages will have passed, run time, µs.
    fires_at: u64,
    /// For when that is looked at next; `u64::MAX`: when the machine goes on.
    looked_at: u64,
}

impl Watchdog {
    /// Armed for a birth.
    pub fn armed(now: u64) -> Self {
        let patting = Patting::new(quorate_base::Instant::ZERO);
        let fires_at = now + both_us(&patting);
        Self { patting, fires_at, looked_at: u64::MAX }
    }
}

fn both_us(patting: &Patting) -> u64 {
    2 * u64::from(patting.stage_ms()) * 1000
}

impl World {
    /// A machine's kernel hangs with interrupts off: it executes nothing any more. Its devices finish what was submitted. One
    /// that stands still already, or shares its node id with another, is left alone.
    pub fn hang(&mut self, m: usize) {
        let now = self.now;
        if self.double.is_some() {
            return;
        }
        let Some(machine) = self.machines.get_mut(m).filter(|machine| machine.is_live()) else { return };
        machine.hung_at = Some(now);
        let (id, boot) = (machine.id.get(), machine.boots);
        let timing = machine.node().and_then(Node::timing);
        let promised = timing.map_or(both_us(&machine.dog.patting), |timing| Patting::promised_us(&timing));
        self.recorder.step(now, "hang", &[id], "");
        self.schedule(now + promised + 1, What::Promised { machine: m, boot });
    }

    /// After a turn of a node: its watchdog may be patted.
    pub(crate) fn pat(&mut self, m: usize) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(m) else { return };
        let clock = machine.clock(now);
        let Some(node) = machine.node.as_deref() else { return };
        let Some(order) = machine.dog.patting.poll(clock, node) else { return };
        machine.dog.fires_at = now + both_us(&machine.dog.patting);
        if let Order::Arm { .. } = order {
            self.look_at_dog(m);
        }
    }

    /// It is looked at when it would fire as things are now.
    pub(crate) fn look_at_dog(&mut self, m: usize) {
        let Some(machine) = self.machines.get_mut(m).filter(|machine| machine.node.is_some()) else { return };
        let (at, boot) = (machine.dog.fires_at, machine.boots);
        machine.dog.looked_at = at;
        self.schedule(at, What::Watchdog { machine: m, boot });
    }

    /// A moment came at which it would have fired if nobody had patted it.
    pub(crate) fn watchdog(&mut self, m: usize, boot: u64, at: u64) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(m).filter(|machine| machine.node.is_some()) else { return };
        if machine.boots != boot || machine.dog.looked_at != at {
            return;
        }
        if machine.paused || machine.frozen_at.is_some() {
            machine.dog.looked_at = u64::MAX;
        } else if machine.dog.fires_at > now {
            self.look_at_dog(m);
        } else if machine.hung_at.is_some() {
            machine.resets += 1;
            self.kill(m, LastWrite::Lands);
            self.start(m);
        } else {
            self.fail(format!("the watchdog of node {m} resets it although its kernel does not hang"));
        }
    }

    /// What hangs is reset by now.
    pub(crate) fn promised(&mut self, m: usize, boot: u64) {
        let hangs = |machine: &&Machine| machine.boots == boot && machine.hung_at.is_some();
        if self.machines.get(m).filter(hangs).is_some() {
            self.fail(format!("node {m} hangs, and its watchdog has not reset it in the promised time"));
        }
    }

    /// The process of a machine goes on: a first stage that is over ends now, and the second one begins.
    pub(crate) fn dog_resumes(&mut self, m: usize) {
        let now = self.now;
        // One that is frozen as well has a watchdog that stands still until it thaws.
        let Some(machine) = self.machines.get_mut(m).filter(|machine| machine.frozen_at.is_none()) else { return };
        let stage_us = both_us(&machine.dog.patting) / 2;
        if now + stage_us >= machine.dog.fires_at {
            machine.dog.fires_at = now + stage_us;
        }
        self.look_at_dog(m);
    }

    /// A machine goes on whose watchdog stood still with it.
    pub(crate) fn dog_thaws(&mut self, m: usize, stood_us: u64) {
        let Some(machine) = self.machines.get_mut(m) else { return };
        machine.dog.fires_at += stood_us;
        if machine.dog.fires_at <= self.now {
            // Its process had been stopped for as long, and went on within the freeze.
            return self.dog_resumes(m);
        }
        self.look_at_dog(m);
    }
}
