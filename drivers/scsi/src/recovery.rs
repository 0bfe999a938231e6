//! What a [`Disk`] does about requests that are not answered: ABORT TASK for each, LOGICAL UNIT RESET
//! when that is denied or not confirmed in time, and again until it is.
//!
//! A confirmation covers what was submitted before the function was sent, and nothing later: every
//! submission and every function has a serial number, and they are compared. Nothing is submitted
//! while the unit is being reset or cleared, so nothing innocent is ended without an answer.

use crate::disk::{Disk, Event, SubmitError};
use crate::hba::{Function, Hba, HbaError, Response, Task, TaskOutcome};
use crate::judge::Cause;
use crate::requests::State;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    Idle,
    /// ABORT TASK is under way for the submission `serial` in `slot`.
    Aborting {
        slot: usize,
        serial: u64,
        deadline_us: u64,
    },
    /// ABORT TASK SET is under way.
    Clearing {
        deadline_us: u64,
    },
    /// LOGICAL UNIT RESET is under way.
    Resetting {
        deadline_us: u64,
    },
}

impl Recovery {
    pub(crate) fn deadline_us(&self) -> Option<u64> {
        match *self {
            Self::Idle => None,
            Self::Aborting { deadline_us, .. } | Self::Clearing { deadline_us } | Self::Resetting { deadline_us } => {
                Some(deadline_us)
            }
        }
    }
}

impl<H: Hba, const SLOTS: usize> Disk<H, SLOTS> {
    /// New submissions wait.
    pub(crate) fn is_holding(&self) -> bool {
        matches!(self.recovery, Recovery::Clearing { .. } | Recovery::Resetting { .. })
    }

    fn send_task(&mut self, function: Function, serial: u64) -> Result<(), HbaError> {
        self.hba.submit_task(Task { address: self.address, function, serial })
    }

    pub(crate) fn begin_clearing(&mut self, now_us: u64) -> Result<(), SubmitError> {
        if !self.is_settled() {
            return Err(SubmitError::NoSlot);
        }
        match self.send_task(Function::AbortSet, self.serial) {
            Ok(()) => {
                self.recovery = Recovery::Clearing { deadline_us: now_us.saturating_add(self.config.abort_wait_us) };
                Ok(())
            }
            Err(HbaError::Broken) => Err(SubmitError::HbaBroken),
            Err(_) => Err(SubmitError::NoSlot),
        }
    }

    /// Finds requests that are overdue and moves the recovery on.
    pub(crate) fn on_time(&mut self, now_us: u64) {
        for slot in 0..SLOTS {
            let Some(Some(request)) = self.requests.get_mut(slot) else {
                continue;
            };
            if matches!(request.state, State::Flying { deadline_us } if deadline_us <= now_us) {
                request.state = State::Overdue;
                let event = Event::Overdue { tag: request.tag, operation: request.operation, lba: request.lba };
                self.counters.overdue += 1;
                self.report(event);
            }
        }
        match self.recovery {
            Recovery::Aborting { slot, serial, .. } if !self.is_overdue(slot, serial) => {
                // It was answered before its abort was.
                self.recovery = Recovery::Idle;
                self.abort_next(now_us);
            }
            Recovery::Idle => self.abort_next(now_us),
            _ if self.recovery.deadline_us().is_some_and(|at| at <= now_us) => self.reset(now_us),
            _ => {}
        }
    }

    fn is_overdue(&self, slot: usize, serial: u64) -> bool {
        let request = self.requests.get(slot).and_then(Option::as_ref);
        request.is_some_and(|r| r.state == State::Overdue && r.serial == serial)
    }

    fn abort_next(&mut self, now_us: u64) {
        let overdue = self.requests.iter().enumerate().find_map(|(slot, request)| {
            let request = request.as_ref()?;
            (request.state == State::Overdue).then_some((slot, request.serial))
        });
        let Some((slot, serial)) = overdue else {
            return;
        };
        match self.send_task(Function::Abort { slot }, serial) {
            Ok(()) => {
                self.recovery =
                    Recovery::Aborting { slot, serial, deadline_us: now_us.saturating_add(self.config.abort_wait_us) };
            }
            Err(_) => self.reset(now_us),
        }
    }

    fn reset(&mut self, now_us: u64) {
        // An adapter that cannot send it now is asked again at the deadline; one that is broken never
        // confirms, and what is outstanding stays so.
        if self.send_task(Function::ResetUnit, self.serial).is_ok() {
            self.counters.resets += 1;
            self.report(Event::ResetSent);
        }
        self.recovery = Recovery::Resetting { deadline_us: now_us.saturating_add(self.config.reset_wait_us) };
    }

    pub(crate) fn on_task_outcome(&mut self, outcome: TaskOutcome, now_us: u64) {
        let Task { function, serial, .. } = outcome.task;
        match (function, outcome.confirmed) {
            (Function::Abort { slot }, true) => {
                if self.is_overdue(slot, serial) {
                    self.finish(slot, Err(Cause::TimedOut), false);
                }
                self.report(Event::AbortConfirmed);
                if matches!(self.recovery, Recovery::Aborting { serial: s, .. } if s == serial) {
                    self.recovery = Recovery::Idle;
                }
            }
            (Function::Abort { slot }, false) => {
                if matches!(self.recovery, Recovery::Aborting { serial: s, .. } if s == serial)
                    && self.is_overdue(slot, serial)
                {
                    self.reset(now_us);
                }
            }
            (Function::AbortSet, true) => {
                self.end_before(serial);
                self.report(Event::TaskSetCleared);
                if matches!(self.recovery, Recovery::Clearing { .. }) {
                    self.recovery = Recovery::Idle;
                }
            }
            (Function::AbortSet, false) => {
                if matches!(self.recovery, Recovery::Clearing { .. }) {
                    self.reset(now_us);
                }
            }
            (Function::ResetUnit, true) => {
                self.end_before(serial);
                self.report(Event::ResetConfirmed);
                self.recovery = Recovery::Idle;
            }
            // Denied: asked again at the deadline.
            (Function::ResetUnit, false) => {}
        }
    }

    /// Everything submitted before `serial` has been ended by the unit.
    fn end_before(&mut self, serial: u64) {
        for slot in 0..SLOTS {
            let Some(Some(request)) = self.requests.get(slot) else {
                continue;
            };
            if !request.is_at_device() || request.serial >= serial {
                continue;
            }
            let cause = match request.state {
                State::Overdue => Cause::TimedOut,
                _ => Cause::Hba(Response::Reset),
            };
            self.finish(slot, Err(cause), false);
        }
    }
}
