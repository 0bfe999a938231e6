//! A host bus adapter with one scripted disk, for the tests of this crate.

use crate::bytes::{be16, be32, be64};
use crate::fake_target::{Answer, Shared};
use crate::hba::*;
use heapless::Vec;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec as StdVec;

pub(crate) const SLOTS: usize = 20;
pub(crate) const SLOT_BYTES: usize = 36 * 1024;

/// What happens to the next command.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Behaviour {
    Good,
    /// CHECK CONDITION with key, ASC, ASCQ; nothing is done.
    Sense([u8; 3]),
    /// This status; nothing is done.
    Status(u8),
    /// This response with status GOOD; nothing is done.
    Response(Response),
    /// Done, but with so many bytes missing.
    Residual(u32),
    /// Not answered until released. A unit with reservations has looked at them before.
    Hold,
    /// Done, but the answer is lost.
    Mute,
}

pub(crate) struct FakeHba {
    pub(crate) address: Address,
    pub(crate) disk: StdVec<u8>,
    pub(crate) block_bytes: u32,
    pub(crate) script: VecDeque<Behaviour>,
    pub(crate) no_capacity_16: bool,
    pub(crate) refuse_fua: bool,
    pub(crate) unreadable: Option<u64>,
    /// Answers to task management: `None` is silence.
    pub(crate) confirm: Option<bool>,
    /// A confirmed abort brings the command back.
    pub(crate) abort_returns: bool,
    /// Answer the newest command first.
    pub(crate) reversed: bool,
    pub(crate) tasks: StdVec<Task>,
    pub(crate) opcodes: StdVec<(u8, u8)>,
    pub(crate) held: StdVec<(usize, Command)>,
    /// Slots whose commands the unit has ended, or answered, without a word.
    pub(crate) gone: StdVec<usize>,
    /// The unit, where several initiators share one.
    pub(crate) shared: Option<Shared>,
    pub(crate) events: VecDeque<HbaEvent>,
    pub(crate) broken: bool,
    /// It cannot be reset.
    pub(crate) no_restart: bool,
    pub(crate) restarts: usize,
    buffers: StdVec<StdVec<u8>>,
    busy: [bool; SLOTS],
    outcomes: VecDeque<Outcome>,
    task_outcomes: VecDeque<TaskOutcome>,
}

impl FakeHba {
    pub(crate) fn new(block_bytes: u32, blocks: u64) -> Self {
        Self {
            address: Address { target: 0, lun: 0 },
            disk: vec![0; block_bytes as usize * blocks as usize],
            block_bytes,
            script: VecDeque::new(),
            no_capacity_16: false,
            refuse_fua: false,
            unreadable: None,
            confirm: Some(true),
            abort_returns: true,
            reversed: false,
            tasks: StdVec::new(),
            opcodes: StdVec::new(),
            held: StdVec::new(),
            gone: StdVec::new(),
            shared: None,
            events: VecDeque::new(),
            broken: false,
            no_restart: false,
            restarts: 0,
            buffers: vec![vec![0; SLOT_BYTES]; SLOTS],
            busy: [false; SLOTS],
            outcomes: VecDeque::new(),
            task_outcomes: VecDeque::new(),
        }
    }

    /// One initiator's adapter at a shared unit.
    pub(crate) fn at(shared: Shared) -> Self {
        let mut fake = Self::new(512, 0);
        fake.disk = vec![0; shared.disk_bytes()];
        fake.shared = Some(shared);
        fake
    }

    /// Loses what the unit has ended because of another initiator: no status comes for it.
    fn lose_ended(&mut self) {
        if self.shared.as_mut().is_some_and(Shared::take_ended) {
            self.gone.extend(self.held.drain(..).map(|(slot, _)| slot));
        }
    }

    pub(crate) fn has_outcome(&self) -> bool {
        !self.outcomes.is_empty() || !self.task_outcomes.is_empty()
    }

    fn answer(&mut self, slot: usize, response: Response, status: u8, residual: u32, s: &[u8]) {
        self.outcomes.push_back(Outcome { slot, response, status, residual, sense: Vec::from_slice(s).unwrap() });
    }

    fn check(&mut self, slot: usize, [key, asc, ascq]: [u8; 3]) {
        let mut sense = [0; 18];
        sense[0] = 0x70;
        sense[2] = key;
        sense[7] = 10;
        sense[12] = asc;
        sense[13] = ascq;
        self.answer(slot, Response::Ok, 2, 0, &sense);
    }

    /// Answers a held command after all, unless the unit has ended it meanwhile.
    pub(crate) fn release(&mut self, slot: usize) {
        self.lose_ended();
        let Some(at) = self.held.iter().position(|(held, _)| *held == slot) else {
            return;
        };
        let (slot, command) = self.held.remove(at);
        self.execute(slot, &command, 0);
    }

    /// Answers a task management function by hand.
    pub(crate) fn answer_task(&mut self, task: Task, confirmed: bool) {
        self.task_outcomes.push_back(TaskOutcome { task, confirmed });
    }

    /// Brings a held command back without doing it.
    pub(crate) fn bring_back(&mut self, slot: usize, response: Response) {
        self.held.retain(|(held, _)| *held != slot);
        self.answer(slot, response, 0, 0, &[]);
    }

    fn execute(&mut self, slot: usize, command: &Command, missing: u32) {
        let cdb = command.cdb.as_bytes();
        let buffer = &self.buffers[slot];
        if let Some(answer) = self.shared.as_mut().and_then(|shared| shared.execute(cdb, buffer)) {
            return self.give(slot, command, answer);
        }
        self.swap_disk();
        self.execute_here(slot, command, missing);
        self.swap_disk();
    }

    fn swap_disk(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.swap_disk(&mut self.disk);
        }
    }

    fn give(&mut self, slot: usize, command: &Command, answer: Answer) {
        match answer {
            Answer::Good(data) if data.is_empty() => self.answer(slot, Response::Ok, 0, 0, &[]),
            Answer::Good(data) => self.data_in(slot, command, &data),
            Answer::Check(sense) => self.check(slot, sense),
            Answer::Conflict => self.answer(slot, Response::Ok, 0x18, 0, &[]),
        }
    }

    fn execute_here(&mut self, slot: usize, command: &Command, missing: u32) {
        let cdb = command.cdb.as_bytes();
        let blocks = self.disk.len() as u64 / u64::from(self.block_bytes);
        match cdb[0] {
            0x00 | 0x35 => self.answer(slot, Response::Ok, 0, 0, &[]),
            0x12 => {
                let data = self.inquiry(cdb[1], cdb[2]);
                self.data_in(slot, command, &data);
            }
            0xa0 => {
                let mut data = vec![0, 0, 0, 8, 0, 0, 0, 0];
                data.extend([0, self.address.lun as u8, 0, 0, 0, 0, 0, 0]);
                self.data_in(slot, command, &data);
            }
            0x25 => {
                let mut data = ((blocks - 1) as u32).to_be_bytes().to_vec();
                data.extend(self.block_bytes.to_be_bytes());
                self.data_in(slot, command, &data);
            }
            0x9e if self.no_capacity_16 => self.check(slot, [5, 0x20, 0]),
            0x9e => {
                let mut data = (blocks - 1).to_be_bytes().to_vec();
                data.extend(self.block_bytes.to_be_bytes());
                data.resize(32, 0);
                self.data_in(slot, command, &data);
            }
            0x28 | 0x2a | 0x88 | 0x8a => self.transfer(slot, command, missing),
            _ => self.check(slot, [5, 0x20, 0]),
        }
    }

    fn transfer(&mut self, slot: usize, command: &Command, missing: u32) {
        let cdb = command.cdb.as_bytes();
        let (lba, count) = if cdb.len() == 10 {
            (u64::from(be32(cdb, 2).unwrap()), u32::from(be16(cdb, 7).unwrap()))
        } else {
            (be64(cdb, 2).unwrap(), be32(cdb, 10).unwrap())
        };
        if self.unreadable == Some(lba) {
            return self.check(slot, [3, 0x11, 0]);
        }
        let start = lba as usize * self.block_bytes as usize;
        let range = start..start + count as usize * self.block_bytes as usize;
        let bytes = range.len();
        match command.transfer {
            Transfer::In(asked) => {
                assert_eq!(asked, bytes);
                self.buffers[slot][..bytes].copy_from_slice(&self.disk[range]);
            }
            Transfer::Out(sent) => {
                assert_eq!(sent, bytes);
                if self.refuse_fua && cdb[1] & 8 != 0 {
                    return self.check(slot, [5, 0x24, 0]);
                }
                self.disk[range].copy_from_slice(&self.buffers[slot][..bytes]);
            }
            Transfer::None => panic!("read or write without data"),
        }
        self.answer(slot, Response::Ok, 0, missing, &[]);
    }

    fn data_in(&mut self, slot: usize, command: &Command, data: &[u8]) {
        let Transfer::In(asked) = command.transfer else { panic!("no data phase") };
        let sent = asked.min(data.len());
        self.buffers[slot][..sent].copy_from_slice(&data[..sent]);
        self.answer(slot, Response::Ok, 0, (asked - sent) as u32, &[]);
    }

    fn inquiry(&self, vital: u8, page: u8) -> StdVec<u8> {
        match (vital, page) {
            (0, _) => {
                let mut data = vec![0; 36];
                data[8..16].copy_from_slice(b"QUORATE ");
                data
            }
            (_, 0x00) => vec![0, 0, 0, 4, 0, 0x80, 0x83, 0xb0],
            (_, 0x80) => b"\0\x80\0\x08serial-1".to_vec(),
            (_, 0x83) => vec![0, 0x83, 0, 12, 1, 3, 0, 8, 0x50, 0, 0xc5, 0, 0, 0, 0, 1],
            _ => {
                let mut data = vec![0; 64];
                data[1] = 0xb0;
                data[3] = 60;
                data
            }
        }
    }
}

impl Hba for FakeHba {
    fn slots(&self) -> usize {
        SLOTS
    }

    fn slot_bytes(&self) -> usize {
        SLOT_BYTES
    }

    fn targets(&self) -> u16 {
        256
    }

    fn data(&self, slot: usize) -> Option<&[u8]> {
        if *self.busy.get(slot)? {
            return None;
        }
        self.buffers.get(slot).map(|buffer| &buffer[..])
    }

    fn data_mut(&mut self, slot: usize) -> Option<&mut [u8]> {
        if *self.busy.get(slot)? {
            return None;
        }
        self.buffers.get_mut(slot).map(|buffer| &mut buffer[..])
    }

    fn submit(&mut self, slot: usize, command: &Command, guard: &mut dyn FnMut() -> bool) -> Result<(), HbaError> {
        if self.broken {
            return Err(HbaError::Broken);
        }
        assert!(!self.busy[slot], "a slot was used while outstanding");
        if !guard() {
            return Err(HbaError::Refused);
        }
        self.busy[slot] = true;
        let cdb = command.cdb.as_bytes();
        self.opcodes.push((cdb[0], cdb[1]));
        if command.address.target != self.address.target {
            self.answer(slot, Response::BadTarget, 0, 0, &[]);
            return Ok(());
        }
        self.lose_ended();
        if let Some(answer) = self.shared.as_mut().and_then(|shared| shared.admit(cdb)) {
            self.give(slot, command, answer);
            return Ok(());
        }
        match self.script.pop_front().unwrap_or(Behaviour::Good) {
            Behaviour::Good => self.execute(slot, command, 0),
            Behaviour::Sense(sense) => self.check(slot, sense),
            Behaviour::Status(status) => self.answer(slot, Response::Ok, status, 0, &[]),
            Behaviour::Response(response) => self.answer(slot, response, 0, 0, &[]),
            Behaviour::Residual(missing) => self.execute(slot, command, missing),
            Behaviour::Hold => self.held.push((slot, *command)),
            Behaviour::Mute => {
                let before = self.outcomes.len();
                self.execute(slot, command, 0);
                self.outcomes.truncate(before);
                self.gone.push(slot);
            }
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Outcome> {
        self.lose_ended();
        let outcome = if self.reversed { self.outcomes.pop_back() } else { self.outcomes.pop_front() }?;
        self.busy[outcome.slot] = false;
        Some(outcome)
    }

    fn submit_task(&mut self, task: Task) -> Result<(), HbaError> {
        self.tasks.push(task);
        let Some(confirmed) = self.confirm else {
            return Ok(());
        };
        if confirmed
            && task.function == Function::ResetUnit
            && let Some(shared) = &mut self.shared
        {
            shared.reset();
        }
        if confirmed && self.abort_returns {
            let response = match task.function {
                Function::ResetUnit => Response::Reset,
                _ => Response::Aborted,
            };
            let held: StdVec<usize> = self.held.iter().map(|(slot, _)| *slot).collect();
            for held in held {
                if !matches!(task.function, Function::Abort { slot } if slot != held) {
                    self.bring_back(held, response);
                }
            }
            // What has no task any more comes back with the abort, as QEMU's adapter has it.
            let of_task = |slot: &usize| !matches!(task.function, Function::Abort { slot: at } if at != *slot);
            let gone: StdVec<usize> = self.gone.iter().copied().filter(of_task).collect();
            self.gone.retain(|slot| !of_task(slot));
            for slot in gone {
                self.answer(slot, response, 0, 0, &[]);
            }
        }
        self.answer_task(task, confirmed);
        Ok(())
    }

    fn poll_task(&mut self) -> Option<TaskOutcome> {
        self.task_outcomes.pop_front()
    }

    fn restart(&mut self) -> Result<(), HbaError> {
        if self.no_restart {
            return Err(HbaError::Unfit);
        }
        assert!(self.outcomes.is_empty() && self.task_outcomes.is_empty(), "somebody waits");
        self.restarts += 1;
        self.held.clear();
        self.gone.clear();
        self.busy = [false; SLOTS];
        Ok(())
    }

    fn poll_event(&mut self) -> Option<HbaEvent> {
        self.events.pop_front()
    }
}
