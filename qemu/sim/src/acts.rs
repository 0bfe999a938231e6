//! What is done to machines from outside beside booting, killing and stopping them: a clock that stands still, a crash in
//! the middle of a call, a word typed at the console.

use quorate_base::{LevelOrder, NodeState};
use quorate_interconnect::stack::PORT;
use quorate_node::{Console, Node, Probes};

use crate::faults::LastWrite;
use crate::machine::Machine;
use crate::world::World;

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
    /// A machine is stopped as a whole: its clock stands still, too. What it had submitted lands, answers and frames wait.
    pub fn freeze(&mut self, m: usize) {
        let now = self.now;
        if let Some(machine) = self.machines.get_mut(m).filter(|machine| machine.node().is_some()) {
            self.recorder.step(now, "freeze", &[machine.id.get()], "");
            machine.freeze(now);
        }
    }

    /// It goes on where it was, and finds what came meanwhile.
    pub fn thaw(&mut self, m: usize) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(m) else { return };
        let id = machine.id.get();
        if machine.thaw(now) {
            self.recorder.step(now, "thaw", &[id], "");
            self.release(m);
        }
    }

    /// A line is typed at a node's console. Gives what it answers; `None` if nobody does: it is off or stands still.
    pub fn command(&mut self, m: usize, line: &str) -> Option<String> {
        let machine = self.machines.get_mut(m).filter(|machine| machine.is_live())?;
        let (id, mut probes) = (machine.id.get(), std::mem::replace(&mut machine.probes, Probes::new()));
        self.recorder.step(self.now, "command", &[id], line);
        let mut reply = String::new();
        self.call(m, |node, now, ports| {
            // Writing into a String cannot fail.
            let _ = Console { node, probes: &mut probes, ports }.run(now, line, &mut reply);
        });
        if let Some(machine) = self.machines.get_mut(m).filter(|machine| machine.is_live()) {
            machine.probes = probes;
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
        if m == n || !off || self.double.is_some() {
            return false;
        }
        let ran = self.machines.get(n).is_some_and(|machine| machine.node.is_some());
        self.start(n);
        self.double = Some((m, n));
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

    /// A stranger sends a frame: garbage of any length, or a datagram to the nodes' own port that says nothing.
    pub fn stranger(&mut self) {
        let length = self.random.between(1, 400) as usize;
        let mut payload: Vec<u8> = (0..length).map(|_| self.random.next_u64() as u8).collect();
        if self.random.below(2) == 0 {
            payload = datagram_frame(&payload, self.random.below(64) as u8);
        }
        self.inject_frame(&payload);
    }

    /// From here on the run breaks what the lease fence rests on: only the views must be safe (DESIGN 7).
    pub fn demand_views_only(&mut self) {
        self.recorder.views_only = true;
    }
}

/// An Ethernet frame with a broadcast datagram to the interconnect's port, as if `from` had sent it.
fn datagram_frame(payload: &[u8], from: u8) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([0x52, 0x54, 0, 0x51, 0, from, 0x08, 0x00]);
    let length = |headers: usize| ((payload.len() + headers) as u16).to_be_bytes();
    let mut ip =
        vec![0x45, 0, length(28)[0], length(28)[1], 0, 0, 0, 0, 1, 17, 0, 0, 10, 77, 0, from + 1, 10, 77, 0, 255];
    // RFC 1071: the complement of the sum of all 16-bit words with the carries added in.
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(ip);
    let port = PORT.to_be_bytes();
    // A UDP checksum of zero is none.
    frame.extend([port[0], port[1], port[0], port[1], length(8)[0], length(8)[1], 0, 0]);
    frame.extend(payload);
    frame
}
