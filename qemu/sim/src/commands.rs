//! Reservation commands on their way to the target and back, and what happens to target and nexuses from outside.
//!
//! ```text
//! submit ──▶ executed (or eaten by a unit attention, or lost) ──▶ answered (or not, until `io_max`)
//! ```

use std::collections::BTreeMap;

use quorate_base::reservation::{ReservationAnswer, ReservationType};
use quorate_base::{DiskTag, ReservationError, ReservationKey, ReservationOp};
use quorate_node::Input;

use crate::machine::Held;
use crate::random::Random;
use crate::reservation::{Ends, Nexus};
use crate::world::{What, World};

/// One command under way.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    machine: usize,
    boot: u64,
    tag: DiskTag,
    op: ReservationOp,
    /// It never reaches the target.
    lost: bool,
    /// Its answer never reaches the machine.
    mute: bool,
    answer: Option<Result<ReservationAnswer, ReservationError>>,
}

/// All that are under way.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    all: BTreeMap<u64, Command>,
    next: u64,
    /// Answers that a stall holds back.
    held: Vec<u64>,
}

impl Commands {
    /// Whether a machine that runs waits for an answer.
    pub fn has_asked(&self, machine: usize) -> bool {
        self.all.values().any(|c| c.machine == machine && c.boot != u64::MAX)
    }

    /// The machine ends: nobody waits for the answers.
    pub fn crash(&mut self, machine: usize) {
        let gone: Vec<u64> = self.all.iter().filter(|(_, c)| c.machine == machine).map(|(id, _)| *id).collect();
        self.held.retain(|id| !gone.contains(id));
        for command in self.all.values_mut().filter(|c| c.machine == machine) {
            command.boot = u64::MAX;
        }
    }

    /// Its path stalls: what it asked is carried out or not, but it is not told.
    pub fn stall(&mut self, machine: usize, random: &mut Random) {
        for command in self.all.values_mut().filter(|c| c.machine == machine) {
            command.lost |= random.below(2) == 0;
        }
    }

    /// Everything that is under way is gone.
    fn lose_all(&mut self) {
        for command in self.all.values_mut().filter(|c| c.answer.is_none()) {
            command.lost = true;
        }
    }

    fn unstall(&mut self, machine: usize) -> Vec<u64> {
        let all = &self.all;
        let (over, held) = self.held.iter().partition(|id| all.get(id).is_some_and(|c| c.machine == machine));
        self.held = held;
        over
    }
}

impl World {
    /// A node asks something of the reservation.
    pub(crate) fn submit_command(&mut self, m: usize, boot: u64, tag: DiskTag, op: ReservationOp) {
        let now = self.now;
        if let ReservationOp::Preempt { victim, .. } = op {
            self.check_preempted(m, victim);
        }
        let (executed, done, lost, mute) = self.disk.draw_command(now, m, &mut self.random);
        let id = self.commands.next;
        self.commands.next += 1;
        let command = Command { machine: m, boot, tag, op, lost, mute, answer: None };
        self.commands.all.insert(id, command);
        self.schedule(executed, What::Executed(id));
        self.schedule(done, What::Answered(id));
    }

    /// A command reaches the target.
    pub(crate) fn command_executed(&mut self, id: u64) {
        let Some(command) = self.commands.all.get_mut(&id).filter(|c| !c.lost) else { return };
        let (m, op) = (command.machine, command.op);
        let Some(target) = self.disk.target.as_mut() else {
            command.answer = Some(Err(ReservationError::Unsupported));
            return;
        };
        // A task management function is no command: it meets no unit attention.
        let attention = if op == ReservationOp::ResetUnit { None } else { target.attention(m) };
        if let Some(attention) = attention {
            command.answer = Some(Err(ReservationError::Attention(attention)));
            return;
        }
        let stood = target.standing().is_some();
        let (answer, ends) = target.execute(m, &op);
        let released = stood && target.standing().is_none();
        command.answer = Some(answer);
        if released {
            self.fail(format!("machine {m} let the reservation go: whoever was put out may write again"));
        }
        match ends {
            Ends::None => {}
            Ends::Out(gone) => gone.into_iter().for_each(|nexus| self.disk.put_out(self.now, nexus, &mut self.random)),
            Ends::Of(gone) => gone.into_iter().for_each(|nexus| self.disk.end_requests(Some(nexus), &mut self.random)),
            Ends::All => self.disk.end_requests(None, &mut self.random),
        }
    }

    /// A key is removed only of a life that the asking node's view knows: never of one that is being born.
    fn check_preempted(&mut self, m: usize, victim: ReservationKey) {
        let Some(owner) = victim.owner() else { return self.fail(format!("{victim} was preempted, nobody's key")) };
        // A target that forgot the holder is mended so, in the end by anybody; and again by who read of it before.
        if self.disk.target.as_ref().is_some_and(|target| target.mistook(victim)) {
            return;
        }
        let membership = self.machines.get(m).and_then(|machine| machine.node()?.membership());
        if membership.is_some_and(|membership| owner.incarnation > membership.view().1.incarnation(owner.node)) {
            let (node, life) = (owner.node, owner.incarnation);
            self.fail(format!("the key of node {node} was preempted, whose life {life} is being born"));
        }
    }

    /// At rest the registered keys are those of the lives that run.
    ///
    /// # Errors
    /// What is registered instead.
    pub fn check_keys(&self) -> Result<(), String> {
        if self.disk.target.is_none() {
            return Ok(());
        }
        let mut lives: Vec<_> =
            self.machines.iter().filter_map(|m| Some((m.plays, m.node()?.incarnation()?))).collect();
        let owner = |key: &ReservationKey| key.owner().map(|owner| (owner.node, owner.incarnation));
        let mut keys: Vec<_> = self.keys().iter().filter_map(owner).collect();
        lives.sort_unstable();
        keys.sort_unstable();
        // One that was being born and died is left alone until its node's next life is let in.
        keys.retain(|(node, incarnation)| lives.iter().all(|(n, i)| n != node || i >= incarnation));
        // A target may list one twice: of a nexus that is gone, and of the one after it.
        keys.dedup();
        if lives == keys && self.is_reserved() {
            Ok(())
        } else {
            Err(format!("registered are {keys:?}, alive are {lives:?}"))
        }
    }

    /// Its answer is due.
    pub(crate) fn command_answered(&mut self, id: u64) {
        let Some(command) = self.commands.all.get(&id) else { return };
        let m = command.machine;
        if self.disk.is_stalled(m) && command.boot != u64::MAX {
            self.commands.held.push(id);
            return;
        }
        self.answer_command(id, false);
    }

    /// `late`: it was aborted, whatever became of it.
    pub(crate) fn answer_command(&mut self, id: u64, late: bool) {
        let Some(command) = self.commands.all.get(&id) else { return };
        let Some(machine) = self.machines.get_mut(command.machine) else { return };
        if machine.node.is_some() && machine.boots == command.boot && machine.stands_still() {
            machine.held.push(Held::Command(id, late));
            return;
        }
        let (alive, gone) =
            (machine.node.is_some() && machine.boots == command.boot, self.disk.is_gone(command.machine));
        let Some(command) = self.commands.all.remove(&id) else { return };
        if !alive {
            return;
        }
        let result = match &command.answer {
            _ if gone => Err(ReservationError::Gone),
            Some(answer) if !late && !command.mute => answer.as_ref().map_err(|error| *error),
            _ => Err(ReservationError::TimedOut),
        };
        self.call(command.machine, |node, now, ports| {
            node.handle(now, Input::Reservation { tag: command.tag, result }, ports);
        });
    }

    /// The path's stall is over.
    pub(crate) fn unstall_commands(&mut self, m: usize) {
        for id in self.commands.unstall(m) {
            self.answer_command(id, true);
        }
    }

    /// The registered keys as the target lists them.
    pub fn keys(&self) -> Vec<ReservationKey> {
        self.disk.target.as_ref().map(|target| target.keys()).unwrap_or_default()
    }

    /// Whether a reservation stands.
    pub fn is_reserved(&self) -> bool {
        self.disk.target.as_ref().is_some_and(|target| target.standing().is_some_and(ReservationType::fences))
    }

    /// A machine's connection to the target breaks and is made again: its registration is lost, what is under way is sent
    /// again.
    pub fn reconnect(&mut self, m: usize) {
        let id = self.machines.get(m).map(|machine| machine.id.get());
        if let (Some(target), Some(id)) = (self.disk.target.as_mut(), id) {
            target.reconnect(m);
            self.disk.put_out(self.now, Nexus { machine: m, former: false }, &mut self.random);
            self.recorder.step(self.now, "reconnect", &[id], "");
        }
    }

    /// The target loses its power and comes back: what is under way is lost.
    pub fn lose_power(&mut self) {
        if let Some(target) = self.disk.target.as_mut() {
            target.lose_power();
            self.recorder.step(self.now, "target_power", &[], "");
            self.commands.lose_all();
            self.disk.end_requests(None, &mut self.random);
        }
    }

    /// The target forgets registrations and reservation, and tells nobody.
    pub fn forget_registrations(&mut self) {
        if let Some(target) = self.disk.target.as_mut() {
            target.forget();
            self.recorder.step(self.now, "target_power", &[], "");
        }
    }

    /// Somebody resets the logical unit.
    pub fn reset_unit(&mut self) {
        if let Some(target) = self.disk.target.as_mut() {
            target.reset_unit();
            self.recorder.step(self.now, "unit_reset", &[], "");
            self.disk.end_requests(None, &mut self.random);
        }
    }

    /// A unit attention for one machine out of nothing.
    pub fn tell_attention(&mut self, m: usize) {
        if let Some(target) = self.disk.target.as_mut() {
            target.log_in(m);
        }
    }
}
