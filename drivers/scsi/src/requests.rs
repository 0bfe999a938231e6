//! The requests of a [`Disk`]: how they start, what their answers do to them, how they end.

use crate::capacity::parse_capacity_16;
use crate::cdb::Cdb;
use crate::disk::{Disk, Durability, Event, Operation, Write};
use crate::hba::{Command, Hba, HbaError, HbaEvent, Outcome, Transfer};
use crate::judge::{Cause, Effect, Verdict, judge, may_repeat};
use crate::reservation::{Change, PARAMETERS_BYTES, Report};
use crate::sense::{Key, Sense};

/// Bytes of READ CAPACITY(16) data.
const CAPACITY_BYTES: usize = 32;
/// The pause before a retry grows to this power of two.
const PAUSE_DOUBLINGS_MAX: u8 = 5;

/// Which command of a request is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Read,
    Write,
    Synchronize,
    Capacity,
    Report { report: Report, bytes: u16 },
    Change(Change),
    Reset,
}

impl Step {
    fn effect(self) -> Effect {
        match self {
            Self::Read | Self::Capacity | Self::Report { .. } => Effect::None,
            Self::Write | Self::Synchronize | Self::Reset => Effect::Write,
            Self::Change(_) => Effect::Change,
        }
    }

    /// GOOD with bytes missing is not good. What reports is free to be shorter; and a change is done when
    /// its status says so, whatever a transport counts.
    fn is_whole(self) -> bool {
        matches!(self, Self::Read | Self::Write | Self::Synchronize)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not at the device; to be submitted at this time.
    Waiting { at_us: u64 },
    /// At the device.
    Flying { deadline_us: u64 },
    /// At the device for too long; its fate is not known.
    Overdue,
    /// Its fate is known. `returned`: the adapter has given the slot back.
    Finished { result: Result<(), Cause>, returned: bool },
    /// Delivered, but the adapter still holds the slot.
    Lost,
    /// Waits for the confirmation of a LOGICAL UNIT RESET that is sent after it was asked for.
    Resetting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) tag: u64,
    pub(crate) operation: Operation,
    pub(crate) step: Step,
    pub(crate) lba: u64,
    pub(crate) blocks: u32,
    pub(crate) how: Write,
    pub(crate) state: State,
    pub(crate) retries: u8,
    pub(crate) patience_until_us: u64,
    /// Number of the latest submission; later submissions have higher ones.
    pub(crate) serial: u64,
    /// Bytes that a report has.
    pub(crate) received: usize,
}

impl Request {
    pub(crate) fn end(&self) -> u64 {
        self.lba.saturating_add(u64::from(self.blocks))
    }

    pub(crate) fn is_undecided_write(&self) -> bool {
        let undecided = !matches!(self.state, State::Finished { .. } | State::Lost);
        undecided && self.operation == Operation::Write
    }

    pub(crate) fn is_at_device(&self) -> bool {
        matches!(self.state, State::Flying { .. } | State::Overdue)
    }
}

impl<H: Hba, const SLOTS: usize> Disk<H, SLOTS> {
    pub(crate) fn free_slot(&self) -> Option<usize> {
        let free = |slot: &usize| matches!(self.requests.get(*slot), Some(None));
        (0..SLOTS).find(|slot| free(slot) && self.hba.data(*slot).is_some())
    }

    pub(crate) fn request_mut(&mut self, slot: usize) -> Option<&mut Request> {
        self.requests.get_mut(slot)?.as_mut()
    }

    /// Frees the slot whose completion was handed out by the call before.
    pub(crate) fn release(&mut self) {
        let Some(slot) = self.delivered.take() else {
            return;
        };
        if let Some(place) = self.requests.get_mut(slot) {
            match place.as_mut().map(|request| &mut request.state) {
                Some(state @ State::Finished { returned: false, .. }) => *state = State::Lost,
                _ => *place = None,
            }
        }
    }

    /// Takes everything from the adapter, looks at the clock, submits what is due.
    pub(crate) fn advance(&mut self, now_us: u64) {
        while let Some(event) = self.hba.poll_event() {
            self.on_hba_event(event);
        }
        loop {
            // The answer to an abort is looked at after all that came back before it.
            let task = self.hba.poll_task();
            while let Some(outcome) = self.hba.poll() {
                self.on_outcome(outcome, now_us);
            }
            match task {
                Some(task) => self.on_task_outcome(task, now_us),
                None => break,
            }
        }
        self.on_time(now_us);
        self.restart_if_worn();
        self.ask_capacity(now_us);
        self.start_due(now_us);
    }

    fn on_hba_event(&mut self, event: HbaEvent) {
        if let HbaEvent::ParametersChanged { address, asc, ascq } = event {
            self.recheck_capacity |= address == self.address && (asc, ascq) == (0x2a, 0x09);
        }
        self.recheck_capacity |= matches!(event, HbaEvent::Missed);
        self.report(Event::Hba(event));
    }

    /// Submits the current command of a request that waits.
    pub(crate) fn start(&mut self, slot: usize, now_us: u64) -> Result<(), HbaError> {
        let serial = self.serial;
        let Some(Some(request)) = self.requests.get_mut(slot) else {
            return Err(HbaError::Unfit);
        };
        let bytes = request.blocks as usize * self.geometry.block_bytes as usize;
        let fua = request.how.durable && self.durability == Durability::Fua;
        let (lba, blocks) = (request.lba, request.blocks);
        let (cdb, transfer) = match request.step {
            Step::Read => (Cdb::read(lba, blocks), Transfer::In(bytes)),
            Step::Write => (Cdb::write(lba, blocks, fua), Transfer::Out(bytes)),
            Step::Synchronize => (Cdb::synchronize_cache(lba, blocks), Transfer::None),
            Step::Capacity => (Cdb::read_capacity_16(CAPACITY_BYTES as u32), Transfer::In(CAPACITY_BYTES)),
            Step::Report { report, bytes } => (report.cdb(bytes), Transfer::In(usize::from(bytes))),
            Step::Change(change) => (change.cdb(), Transfer::Out(PARAMETERS_BYTES)),
            Step::Reset => {
                self.start_reset(slot);
                return Ok(());
            }
        };
        let command = Command { address: self.address, cdb, transfer };
        // Only the write itself changes shared data; a flush of what is written does not.
        let limit = request.how.not_after_us.filter(|_| request.step == Step::Write);
        let clock = self.clock;
        let mut guard = || limit.is_none_or(|limit_us| clock() <= limit_us);
        self.hba.submit(slot, &command, &mut guard)?;
        request.serial = serial;
        request.state = State::Flying { deadline_us: now_us.saturating_add(self.config.io_max_us) };
        self.serial += 1;
        Ok(())
    }

    fn start_due(&mut self, now_us: u64) {
        if self.is_holding() {
            return;
        }
        for slot in 0..SLOTS {
            let Some(Some(request)) = self.requests.get(slot) else {
                continue;
            };
            if !matches!(request.state, State::Waiting { at_us } if at_us <= now_us) {
                continue;
            }
            match self.start(slot, now_us) {
                Ok(()) => {}
                Err(HbaError::Busy) => {
                    let at_us = now_us.saturating_add(self.config.pause_us);
                    if let Some(request) = self.request_mut(slot) {
                        request.state = State::Waiting { at_us };
                    }
                }
                Err(HbaError::Refused) => {
                    self.counters.frozen += 1;
                    self.finish(slot, Err(Cause::Frozen), true);
                }
                Err(HbaError::Unfit | HbaError::Broken) => {
                    self.finish(slot, Err(Cause::HbaBroken), true);
                }
            }
        }
    }

    fn on_outcome(&mut self, outcome: Outcome, now_us: u64) {
        let slot = outcome.slot;
        let Some(Some(request)) = self.requests.get_mut(slot) else {
            self.counters.strays += 1;
            return;
        };
        let overdue = match &mut request.state {
            State::Flying { .. } => false,
            State::Overdue => true,
            State::Finished { returned, .. } => {
                *returned = true;
                return;
            }
            State::Lost => {
                if let Some(place) = self.requests.get_mut(slot) {
                    *place = None;
                }
                return;
            }
            State::Waiting { .. } | State::Resetting => {
                self.counters.strays += 1;
                return;
            }
        };
        let (tag, step) = (request.tag, request.step);
        if let Step::Report { bytes, .. } = step {
            request.received = usize::from(bytes).saturating_sub(outcome.residual as usize);
        }
        let verdict = match judge(&outcome, step.is_whole()) {
            // What our own abort brought back says no more than that.
            Verdict::Again(Cause::Hba(_)) if overdue => Verdict::Failed(Cause::TimedOut),
            Verdict::Again(cause) | Verdict::Later(cause)
                if !may_repeat(step.effect(), &cause, self.config.reservations) =>
            {
                self.note_attention(&outcome, true);
                Verdict::Failed(cause)
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Done => self.on_done(slot, overdue, now_us),
            // Its fate is known now; nobody waits for another attempt of an overdue request.
            Verdict::Again(_) | Verdict::Later(_) if overdue => {
                self.note_attention(&outcome, false);
                self.finish(slot, Err(Cause::TimedOut), true);
            }
            Verdict::Again(cause) => {
                self.note_attention(&outcome, false);
                let retries = self.request_mut(slot).map_or(0, |request| request.retries);
                if retries >= self.config.retries_max {
                    self.finish(slot, Err(cause), true);
                } else {
                    self.again(slot, tag, cause, now_us);
                }
            }
            Verdict::Later(cause) => {
                let patience = self.request_mut(slot).map_or(0, |r| r.patience_until_us);
                if patience <= now_us {
                    self.finish(slot, Err(cause), true);
                } else {
                    self.again(slot, tag, cause, now_us.saturating_add(self.pause_us(slot)));
                }
            }
            Verdict::Failed(Cause::Check(sense)) if self.refuses_fua(slot, &sense) => {
                self.durability = Durability::Synchronize;
                self.report(Event::FuaRefused);
                self.again(slot, tag, Cause::Check(sense), now_us);
            }
            Verdict::Failed(cause) => self.finish(slot, Err(cause), true),
        }
    }

    fn refuses_fua(&self, slot: usize, sense: &Sense) -> bool {
        let Some(Some(request)) = self.requests.get(slot) else {
            return false;
        };
        let refused = sense.key == Key::IllegalRequest && matches!(sense.asc, 0x20 | 0x24);
        let with_fua = request.how.durable && self.durability == Durability::Fua;
        refused && with_fua && request.step == Step::Write
    }

    fn pause_us(&self, slot: usize) -> u64 {
        let retries = match self.requests.get(slot) {
            Some(Some(request)) => request.retries.min(PAUSE_DOUBLINGS_MAX),
            _ => 0,
        };
        self.config.pause_us << retries
    }

    /// `told`: the request fails with it, so that its user hears of it by that.
    fn note_attention(&mut self, outcome: &Outcome, told: bool) {
        let Some(sense) = Sense::parse(&outcome.sense) else {
            return;
        };
        if sense.key == Key::UnitAttention {
            self.counters.unit_attentions += 1;
            self.recheck_capacity |= (sense.asc, sense.ascq) == (0x2a, 0x09);
            if sense.concerns_reservations() && !told {
                self.attention = Some(sense);
            }
            self.report(Event::UnitAttention(sense));
        }
    }

    fn again(&mut self, slot: usize, tag: u64, cause: Cause, at_us: u64) {
        self.counters.retries += 1;
        if let Some(request) = self.request_mut(slot) {
            request.retries = request.retries.saturating_add(1);
            request.state = State::Waiting { at_us };
        }
        self.report(Event::Retried { tag, cause });
    }

    fn on_done(&mut self, slot: usize, overdue: bool, now_us: u64) {
        let synchronize = self.durability == Durability::Synchronize;
        let Some(request) = self.request_mut(slot) else {
            return;
        };
        let tag = request.tag;
        // With FUA refused meanwhile, a write that was sent with it is durable all the same; the
        // flush after it costs nothing but time.
        if request.step == Step::Write && request.how.durable && synchronize {
            request.step = Step::Synchronize;
            request.state = State::Waiting { at_us: now_us };
        } else {
            self.finish(slot, Ok(()), true);
        }
        if overdue {
            self.report(Event::Late { tag });
        }
    }

    /// Ends a request. `returned`: the adapter has given the slot back.
    pub(crate) fn finish(&mut self, slot: usize, result: Result<(), Cause>, returned: bool) {
        let Some(request) = self.request_mut(slot) else {
            return;
        };
        request.state = State::Finished { result, returned };
        let operation = request.operation;
        match (operation, result) {
            (Operation::Read, Ok(())) => self.counters.reads += 1,
            (Operation::Write, Ok(())) => self.counters.writes += 1,
            (Operation::Capacity, Ok(())) => self.on_capacity(slot),
            (_, Ok(())) => self.counters.reservations += 1,
            (_, Err(_)) => self.counters.errors += 1,
        }
        if operation == Operation::Capacity {
            if let Some(place) = self.requests.get_mut(slot) {
                match place {
                    Some(request) if !returned => request.state = State::Lost,
                    _ => *place = None,
                }
            }
        } else {
            // There is room: every slot is in the queue at most once.
            let _ = self.finished.push_back(slot);
        }
    }

    fn ask_capacity(&mut self, now_us: u64) {
        if !self.recheck_capacity {
            return;
        }
        let Some(slot) = self.free_slot() else {
            return;
        };
        self.recheck_capacity = false;
        if let Some(place) = self.requests.get_mut(slot) {
            *place = Some(Request {
                tag: 0,
                operation: Operation::Capacity,
                step: Step::Capacity,
                lba: 0,
                blocks: 0,
                how: Write::default(),
                state: State::Waiting { at_us: now_us },
                retries: 0,
                patience_until_us: now_us.saturating_add(self.config.patience_us),
                serial: 0,
                received: 0,
            });
        }
    }

    fn on_capacity(&mut self, slot: usize) {
        let data = self.hba.data(slot).and_then(|data| data.get(..CAPACITY_BYTES));
        let (old, new) = match data.map(parse_capacity_16) {
            Some(Ok(new)) if new != self.geometry => (self.geometry, new),
            _ => return,
        };
        self.report(Event::GeometryChanged { old, new });
        if new.block_bytes == old.block_bytes {
            self.geometry = new;
        } else {
            self.foreign_geometry = true;
        }
    }
}
