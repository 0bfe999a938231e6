//! What happens on a machine in one turn, in the order of the node image: what came over the link, the input, what the
//! levels do, the node's requests, what goes out over the link. And the ways to a turn: a frame, a tick, an answer.

use std::rc::Rc;

use quorate_base::{DiskOp, DiskTag, HaltReason, Instant};
use quorate_node::{Input, Node, Output, Ports};
use quorate_switch::Hostile;

use crate::acts::{Called, Keeps};
use crate::disk::{Disk, DiskEvent, Request};
use crate::faults::LastWrite;
use crate::machine::Held;
use crate::recorder::Tap;
use crate::wire::Frame;
use crate::world::{What, World};

impl World {
    /// A frame from somebody who is not part of the cluster, to all machines: links' faults and cuts do not concern it.
    pub fn inject_frame(&mut self, bytes: &[u8]) {
        self.network.inject(self.now, bytes, &mut self.random, &mut self.arrivals);
        self.schedule_arrivals();
    }

    /// From now on a stranger sends so many hostile frames, one after each gap, µs.
    pub fn flood(&mut self, kinds: &[Hostile], count: u64, gap_us: u64) {
        self.schedule(self.now, What::Hostile { left: count, gap_us, kinds: kinds.into() });
    }

    pub(crate) fn one_hostile(&mut self, left: u64, gap_us: u64, kinds: Rc<[Hostile]>) {
        let Some(left) = left.checked_sub(1) else { return };
        let frame = self.stranger.frame(&kinds);
        self.inject_frame(&frame);
        self.schedule(self.now + gap_us, What::Hostile { left, gap_us, kinds });
    }

    /// A tick that was scheduled is due, unless something changed since.
    pub(crate) fn tick(&mut self, m: usize, boot: u64, at: u64) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(m) else { return };
        if machine.boots != boot || machine.wake_at != at || !machine.is_live() {
            return;
        }
        machine.wake_at = u64::MAX;
        if !machine.count_tick(now) {
            return self.fail(format!("node {m} spins: it ticks more often than it may"));
        }
        self.call(m, |node, now, ports| {
            // The tick may be a level's or the link's.
            if node.poll_timeout() <= now {
                node.handle(now, Input::Tick, ports);
            }
        });
    }

    /// A frame comes to a machine's NIC, which raises an interrupt. A machine that stands still finds it later.
    pub(crate) fn frame(&mut self, m: usize, frame: Frame) {
        let Some(machine) = self.machines.get_mut(m).filter(|machine| machine.node.is_some()) else { return };
        machine.wire.deliver(frame);
        self.call(m, |_, _, _| {});
    }

    /// A part of a disk request is carried out.
    pub(crate) fn piece(&mut self, request: u64, from: u16, to: u16) {
        let Some(landed) = self.disk.piece(request, from, to) else { return };
        if !landed.astray {
            self.check_landed(landed);
        }
        self.spot_landed(landed.machine, request, landed.at);
        let alive = self.machines.get(landed.machine).is_some_and(|m| m.boots == landed.boot);
        if landed.torn && alive {
            self.kill(landed.machine, LastWrite::Lost);
        }
    }

    pub(crate) fn disk_done(&mut self, request: u64) {
        let machine = self.disk.owner(request).and_then(|m| self.machines.get_mut(m));
        if let Some(machine) = machine.filter(|m| m.stands_still()) {
            machine.held.push(Held::Disk(request));
            return;
        }
        if let Some(at) = self.disk.silent_until(request) {
            return self.schedule(at, What::Disk(DiskEvent::Done { request }));
        }
        if let Some(request) = self.disk.done(request) {
            self.answer(request);
        }
    }

    pub(crate) fn answer(&mut self, request: Box<Request>) {
        let Some(machine) = self.machines.get_mut(request.machine) else { return };
        if machine.boots != request.boot || machine.node.is_none() {
            return;
        }
        if machine.stands_still() {
            machine.held.push(Held::Answer(request));
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = Disk::answer(&request, &mut buffer);
        let now_us = machine.clock(self.now).0;
        self.looks.answered((request.machine, request.boot), now_us, request.tag, request.op(), result);
        self.call(request.machine, |node, now, ports| {
            if let Some(attention) = request.attention {
                node.handle(now, Input::Attention(attention), ports);
            }
            node.handle(now, Input::Disk { tag: request.tag, result }, ports);
        });
        self.buffer = buffer;
    }

    /// One turn: what came over the link, `f`, and everything that comes out of it.
    pub(crate) fn call(&mut self, m: usize, f: impl FnOnce(&mut Node, Instant, &mut Ports<'_>)) {
        let Some(machine) = self.machines.get_mut(m).filter(|machine| machine.is_live()) else { return };
        let Some(mut node) = machine.node.take() else { return };
        let (now, boot) = (machine.clock(self.now), machine.boots);
        let seen = (self.recorder.masters.len(), self.recorder.lost);
        let mute = self.double.is_some_and(|(second, _)| second == m);
        let mut sink = Tap { recorder: &mut self.recorder, t_us: self.now, node: machine.id.get(), mute };
        let mut lie = None;
        self.looks.turns((m, boot), self.now, now.0);
        machine.wire.poll(now);
        while machine.wire.receive(&mut self.datagram) {
            let mut ports = Ports { post: &mut machine.wire, sink: &mut sink };
            let taken = |node: &Node| node.frames().map(|counters| counters.received());
            let before = taken(&node);
            node.handle(now, Input::Datagram(&self.datagram), &mut ports);
            if before < taken(&node) && before.is_some() {
                lie = lie.or(self.truth.takes(m, machine.booted_at, &self.datagram));
                lie = lie.or(self.looks.takes(m, &self.datagram).filter(|_| !self.looks.blind));
            }
            machine.groups.iter_mut().for_each(|groups| groups.make_room(now, &mut node, &mut ports));
        }
        let mut ports = Ports { post: &mut machine.wire, sink: &mut sink };
        f(&mut node, now, &mut ports);
        // Bounded: each pass of a level takes a step of a transition, and those end.
        for _ in 0..1000 {
            let groups = machine.groups.as_mut().is_some_and(|groups| groups.poll(now, &mut node, &mut ports));
            if !machine.probes.poll(now, &mut node, &mut ports) && !groups {
                break;
            }
        }
        let mut requests = std::mem::take(&mut self.requests);
        let mut asked = std::mem::take(&mut self.asked);
        let mut halted = None;
        while let Some(output) = node.poll_output() {
            match output {
                Output::Disk { tag, op } => requests.push((tag, op)),
                Output::Reservation { tag, op } => asked.push((tag, op)),
                Output::Halt(reason) => halted = Some(reason),
            }
        }
        let opened = match node.id() {
            Some(id) if !machine.wire.is_open() => machine.wire.open(id, now),
            _ => Ok(()),
        };
        machine.wire.poll(now);
        let mut sent = machine.wire.take_sent();
        machine.node = Some(node);
        if let Err(error) = opened {
            self.fail(format!("machine {m} has no interconnect: {error}"));
        }
        if let Some(lie) = lie {
            self.fail(lie);
        }
        self.check_told(m, now);
        self.check_fenced(m);
        if (self.recorder.masters.len(), self.recorder.lost) != seen {
            self.check_masters(m, seen);
        }
        if self.formed.is_some() {
            self.check_formed(m);
        }
        let trip = self.trip.take_if(|trip| trip.machine == m && trip.event == self.events);
        self.called = Called { machine: Some(m), requests: requests.len() + asked.len(), frames: sent.len() };
        match trip.map(|trip| trip.keeps) {
            None => {}
            Some(Keeps::Requests) => sent.clear(),
            Some(Keeps::Frames) => {
                requests.clear();
                asked.clear();
            }
        }
        if mute {
            // It has no cable: it never is let in.
            sent.clear();
        }
        if !self.aims.is_empty() {
            sent = self.held_before_doorbell(m, &mut requests, sent);
        }
        for (tag, op) in requests.drain(..) {
            self.submit(m, boot, tag, op, now);
        }
        self.requests = requests;
        for (tag, op) in asked.drain(..) {
            self.submit_command(m, boot, tag, op);
        }
        self.asked = asked;
        self.send(m, sent);
        if let Some(trip) = trip {
            return self.kill(m, trip.last);
        }
        if let Some(reason) = halted {
            return self.halts(m, reason);
        }
        self.pat(m);
        self.rearm(m);
    }

    /// A node halted, and its machine is off.
    fn halts(&mut self, m: usize, reason: HaltReason) {
        if let HaltReason::Impossible { .. } = reason {
            self.fail(format!("node {m} halted: {reason}"));
        }
        if reason.is_wanted() {
            self.check_left(m);
        }
        self.machines[m].power_off(self.now);
        self.machines[m].halted = Some(reason);
    }

    /// A request that waited in a machine that stood still reaches the doorbell.
    pub(crate) fn ring(&mut self, m: usize, tag: DiskTag, op: DiskOp) {
        let Some(machine) = self.machines.get_mut(m).filter(|machine| machine.node.is_some()) else { return };
        if machine.stands_still() {
            return machine.held.push(Held::Asked(tag, Box::new(op)));
        }
        let (boot, now) = (machine.boots, machine.clock(self.now));
        self.submit(m, boot, tag, op, now);
    }

    /// The frames of a turn that was held back go out, unless the machine stands still again.
    pub(crate) fn send_or_hold(&mut self, m: usize, frames: Vec<Frame>) {
        match self.machines.get_mut(m) {
            Some(machine) if machine.stands_still() => machine.held.push(Held::Frames(frames)),
            Some(machine) if machine.node.is_some() => self.send(m, frames),
            _ => {}
        }
    }

    /// The switch takes what a machine sent.
    fn send(&mut self, m: usize, sent: Vec<Frame>) {
        for frame in &sent {
            self.stranger.sees(frame);
            self.truth.sends(self.now, frame);
            self.network.send(self.now, m, frame, &mut self.random, &mut self.arrivals);
        }
        self.schedule_arrivals();
        if let Some(machine) = self.machines.get_mut(m) {
            machine.wire.reuse(sent);
        }
    }

    fn schedule_arrivals(&mut self) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        for arrival in arrivals.drain(..) {
            self.schedule(arrival.at, What::Frame { machine: arrival.to, frame: arrival.frame });
        }
        self.arrivals = arrivals;
    }

    fn submit(&mut self, m: usize, boot: u64, tag: DiskTag, op: DiskOp, now: Instant) {
        if let DiskOp::Write { at, not_after, .. } = &op {
            self.check_owner(m, *at);
            if not_after.is_some_and(|limit| now > limit) {
                let refused = self.disk.refuse(m, boot, tag);
                return self.schedule(self.now, What::Disk(DiskEvent::Done { request: refused }));
            }
        }
        let disk = &self.disk;
        let unread = self.looks.asked((m, boot), tag, &op, |at| disk.record(at).map(|raw| &raw[..]));
        if let Some(what) = unread.filter(|_| !self.looks.blind) {
            self.fail(what);
        }
        let writes = if let DiskOp::Write { at, .. } = &op { Some(*at) } else { None };
        for (at, event) in self.disk.submit(self.now, (m, boot), (tag, op), &mut self.random) {
            self.schedule(at, What::Disk(event));
        }
        if let Some(record) = writes {
            self.spot_submitted(m, self.disk.newest(), record);
        }
    }

    fn rearm(&mut self, m: usize) {
        let Some(machine) = self.machines.get_mut(m) else { return };
        let due = machine.due(self.now);
        if due == u64::MAX || due == machine.wake_at {
            machine.wake_at = due;
            return;
        }
        // A call takes its time: what is due at once comes a moment later.
        let at = due.max(self.now + 1);
        machine.wake_at = at;
        let boot = machine.boots;
        self.schedule(at, What::Tick { machine: m, boot });
    }
}
