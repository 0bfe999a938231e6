//! What is done to machines from outside beside booting, killing and stopping them at once: a stop between two requests, a
//! clock that stands still, a crash in the middle of a call, a word typed at the console.

use std::time::Duration;

use quorate_base::{LevelOrder, NodeState};
use quorate_database::{Superblock, layout};
use quorate_node::{Console, Node, Probes};
use quorate_switch::Hostile;

use crate::faults::LastWrite;
use crate::machine::Machine;
use crate::world::{Broken, World};

/// What of one call's doing gets out before the machine crashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keeps {
    /// Its disk requests, but no frame.
    Requests,
    /// Its frames, but no disk request.
    Frames,
}

/// A crash in the middle of the call that an event brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Trip {
    /// Which event, by [`World::events`].
    pub event: u64,
    /// Whose call.
    pub machine: usize,
    /// What gets out.
    pub keeps: Keeps,
    /// What becomes of its writes.
    pub last: LastWrite,
}

/// Which machine the last event was for, and what its call gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Called {
    pub machine: Option<usize>,
    pub requests: usize,
    pub frames: usize,
}

impl World {
    /// A machine is paused as soon as its disk has just been idle for so long: no request of it is under way, and none has
    /// begun since the last one was answered. As on QEMU, the end of a request is waited for. False if that does not come
    /// about for `limit`.
    ///
    /// # Errors
    /// What was wrong meanwhile.
    pub fn pause_at_idle(&mut self, m: usize, idle: Duration, limit: Duration) -> Result<bool, Box<Broken>> {
        let until = self.now.saturating_add(limit.as_micros() as u64);
        let mut since = None;
        let mut asks = self.asks(m);
        loop {
            let due = since.map_or(u64::MAX, |since: u64| since.saturating_add(idle.as_micros() as u64));
            if due.min(self.next_at()) > until {
                return self.run_until(until).map(|()| false);
            }
            if due < self.next_at() {
                self.run_until(due)?;
                self.pause(m);
                return Ok(true);
            }
            self.step()?;
            let asked = std::mem::replace(&mut asks, self.asks(m));
            match (asked, asks) {
                (_, true) => since = None,
                (true, false) => since = Some(self.now),
                (false, false) => {}
            }
        }
    }

    /// Whether a machine waits for the disk to answer something.
    fn asks(&self, m: usize) -> bool {
        self.disk.has_asked(m) || self.commands.has_asked(m)
    }

    /// A machine is stopped as a whole: its clock stands still, too. What it had submitted lands, answers and frames wait.
    pub fn freeze(&mut self, m: usize) {
        let now = self.now;
        let stops = |machine: &&mut Machine| machine.node().is_some() && machine.hung_at.is_none();
        if let Some(machine) = self.machines.get_mut(m).filter(stops) {
            self.recorder.step(now, "freeze", &[machine.id.get()], "");
            machine.freeze(now);
            if self.disk.target.is_some() {
                self.recorder.suspended.insert(machine.id.get());
            }
        }
    }

    /// It goes on where it was, and finds what came meanwhile.
    pub fn thaw(&mut self, m: usize) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(m) else { return };
        let id = machine.id.get();
        if let Some(stood_us) = machine.thaw(now) {
            self.recorder.step(now, "thaw", &[id], "");
            self.dog_thaws(m, stood_us);
            self.release(m);
        }
    }

    /// From its next boot on a machine has group services, or none.
    pub fn set_groups(&mut self, m: usize, groups: bool) {
        if let Some(machine) = self.machines.get_mut(m) {
            machine.with_groups = groups;
        }
    }

    /// What a machine's next boot says of its kernel: its version, and its command line.
    pub fn set_kernel(&mut self, m: usize, version: String, cmdline: String) {
        if let Some(machine) = self.machines.get_mut(m) {
            machine.kernel = (version, cmdline);
        }
    }

    /// A line is typed at a node's console. Gives what it answers; `None` if nobody does: it is off or stands still.
    pub fn command(&mut self, m: usize, line: &str) -> Option<String> {
        let machine = self.machines.get_mut(m).filter(|machine| machine.is_live())?;
        let (id, mut probes) = (machine.id.get(), std::mem::replace(&mut machine.probes, Probes::new()));
        let mut groups = machine.groups.take();
        self.recorder.step(self.now, "command", &[id], line);
        let mut reply = String::new();
        self.call(m, |node, now, ports| {
            // Writing into a String cannot fail.
            let _ =
                Console { node, probes: &mut probes, groups: groups.as_deref_mut(), ports }.run(now, line, &mut reply);
        });
        if let Some(machine) = self.machines.get_mut(m).filter(|machine| machine.is_live()) {
            (machine.probes, machine.groups) = (probes, groups);
            // What the line brought its levels.
            self.call(m, |_, _, _| {});
        }
        Some(reply)
    }

    /// Registers a test level on a running node, by the word that declares it (as after `level=`).
    ///
    /// # Errors
    /// Why it was not registered, in words.
    pub fn register_level(&mut self, m: usize, word: &str) -> Result<(), String> {
        self.must_do(m, &format!("register {word}"))
    }

    /// De-registers a test level that was registered at run time: gracefully, or because what served it has died.
    ///
    /// # Errors
    /// Why it was not de-registered, in words.
    pub fn deregister_level(&mut self, m: usize, order: LevelOrder, died: bool) -> Result<(), String> {
        self.must_do(m, &format!("{} {order}", if died { "drop" } else { "deregister" }))
    }

    fn must_do(&mut self, m: usize, line: &str) -> Result<(), String> {
        let reply = self.command(m, line).ok_or("the machine does not run")?;
        if reply == "ok\n" { Ok(()) } else { Err(reply) }
    }

    /// A machine that is off boots under the node id of another, which runs or boots now. True if the other one ran.
    pub(crate) fn start_double(&mut self, m: usize, n: usize) -> bool {
        let Some(id) = self.machines.get(n).map(|machine| machine.id) else { return false };
        let off = self.machines.get(m).is_some_and(|machine| machine.node.is_none());
        let hangs = self.machines.get(n).is_some_and(|machine| machine.hung_at.is_some());
        if m == n || !off || hangs || self.double.is_some() {
            return false;
        }
        let ran = self.machines.get(n).is_some_and(|machine| machine.node.is_some());
        self.start(n);
        // A first identity that a second machine's torn write destroys was told of by its life, and nobody else can know.
        self.disk.path(m).tear = false;
        self.double = Some((m, n));
        if !ran && let Some(own) = self.machines.get_mut(n) {
            // Its birth may find a whole life of the other one, which ended well.
            own.born_unclean = false;
        }
        self.boot(m, Some(id), true);
        ran
    }

    /// The second of two machines under one node id is switched off as soon as it is the only one, or is let in or leads:
    /// from then on it would be the node, whose records are not its own.
    pub(crate) fn end_double(&mut self) {
        let Some((m, n)) = self.double else { return };
        let [second, first] = [m, n].map(|i| self.machines.get(i).and_then(Machine::node));
        let is_node =
            |node: &Node| node.membership().is_some_and(|s| s.state() != NodeState::Inactive || s.master().is_some());
        match (second, first) {
            (None, _) => self.double = None,
            (Some(node), first) if first.is_none() || is_node(node) => {
                self.kill(m, LastWrite::Lost);
                self.double = None;
            }
            _ => {}
        }
    }

    /// A stranger sends a frame: garbage of any length, or something hostile.
    pub fn stranger(&mut self) {
        let frame = if self.random.below(4) == 0 {
            let length = self.random.between(1, 400) as usize;
            (0..length).map(|_| self.random.next_u64() as u8).collect()
        } else {
            self.stranger.frame(&Hostile::ALL.map(|(_, kind)| kind))
        };
        self.inject_frame(&frame);
    }

    /// The cluster gets a new key on the disk, as `db rekey --force` gives it one. Who runs keeps the old one.
    pub fn rekey(&mut self) {
        for copy in [0, 1] {
            let raw = self.disk.record(layout::superblock(copy)).copied().unwrap_or([0; 512]);
            if let Some(mut superblock) = Superblock::decode(&raw, copy).good().cloned() {
                superblock.generation += 1;
                superblock.key_epoch = superblock.key_epoch.wrapping_add(1);
                superblock.key.0[0] ^= 1;
                self.disk.put(layout::superblock(copy), superblock.encode(copy));
            }
        }
    }

    /// From here on the run breaks what the lease fence rests on: only the views must be safe (DESIGN 7).
    pub fn demand_views_only(&mut self) {
        self.recorder.views_only = true;
    }
}
