//! What a [`Disk`] does about requests that are not answered: ABORT TASK for each, LOGICAL UNIT RESET
//! when that is denied or not confirmed in time, and again until it is.
//!
//! A confirmation covers what was submitted before the function was sent, and nothing later: every
//! submission and every function has a serial number, and they are compared. A reset that the user asked
//! for has a serial number too, so that only one that was sent afterwards counts.
//!
//! An adapter may confirm an abort and keep the command. QEMU 7.2 does so when the command that it is
//! about to cancel ends with an error in the same moment (a unit attention, TASK ABORTED): the function is
//! answered, and the command is not put into the ring. Such slots are had back by a reset of the adapter. Nothing is submitted
//! while the unit is being reset or cleared, so nothing innocent is ended without an answer.

use crate::disk::{Disk, Event, SubmitError};
use crate::hba::{Function, Hba, HbaError, Response, Task, TaskOutcome};
use crate::judge::Cause;
use crate::requests::{Request, State};

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
    /// LOGICAL UNIT RESET is under way. `needed`: for requests of unknown fate, which nothing else ends;
    /// not only because the user asked for it.
    Resetting {
        deadline_us: u64,
        needed: bool,
    },
}

impl Recovery {
    pub(crate) fn deadline_us(&self) -> Option<u64> {
        match *self {
            Self::Idle => None,
            Self::Aborting { deadline_us, .. }
            | Self::Clearing { deadline_us }
            | Self::Resetting { deadline_us, .. } => Some(deadline_us),
        }
    }
}

impl<H: Hba, const SLOTS: usize> Disk<H, SLOTS> {
    /// New submissions wait.
    pub(crate) fn is_holding(&self) -> bool {
        self.is_ending_all() || self.wants_restart()
    }

    /// Everything at the unit is being ended.
    pub(crate) fn is_ending_all(&self) -> bool {
        matches!(self.recovery, Recovery::Clearing { .. } | Recovery::Resetting { .. })
    }

    /// Slots that the adapter keeps although nobody waits for them.
    fn lost(&self) -> usize {
        self.requests.iter().flatten().filter(|request| request.state == State::Lost).count()
    }

    fn wants_restart(&self) -> bool {
        !self.worn && self.lost() >= (SLOTS / 2).max(1)
    }

    /// Resets an adapter that keeps too many slots, as soon as nothing else is under way.
    pub(crate) fn restart_if_worn(&mut self) {
        let busy = |request: &Request| request.is_at_device() || request.state == State::Resetting;
        if !self.wants_restart() || !self.is_settled() || self.requests.iter().flatten().any(busy) {
            return;
        }
        let slots = self.lost();
        if self.hba.restart().is_err() {
            self.worn = true;
            return self.report(Event::AdapterWorn);
        }
        for place in &mut self.requests {
            match place.as_mut().map(|request| &mut request.state) {
                Some(State::Lost) => *place = None,
                Some(State::Finished { returned, .. }) => *returned = true,
                _ => {}
            }
        }
        self.report(Event::AdapterRestarted { slots });
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
        self.reset_if_asked(now_us);
        match self.recovery {
            Recovery::Aborting { slot, serial, .. } if !self.is_overdue(slot, serial) => {
                // It was answered before its abort was.
                self.recovery = Recovery::Idle;
                self.abort_next(now_us);
            }
            Recovery::Idle => self.abort_next(now_us),
            Recovery::Resetting { deadline_us, needed } if deadline_us <= now_us => self.reset(needed, now_us),
            _ if self.recovery.deadline_us().is_some_and(|at| at <= now_us) => self.reset(true, now_us),
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
            Err(_) => self.reset(true, now_us),
        }
    }

    /// Sends the reset that somebody waits for, unless one is under way (which may have been sent before
    /// it was asked for: then another follows it).
    fn reset_if_asked(&mut self, now_us: u64) {
        let asked = self.requests.iter().flatten().any(|request| request.state == State::Resetting);
        if asked && !self.is_ending_all() {
            self.reset(false, now_us);
        }
    }

    fn reset(&mut self, needed: bool, now_us: u64) {
        // An adapter that cannot send it now is asked again at the deadline; one that is broken never
        // confirms, and what is outstanding stays so.
        if self.send_task(Function::ResetUnit, self.serial).is_ok() {
            self.counters.resets += 1;
            self.report(Event::ResetSent);
        }
        self.recovery = Recovery::Resetting { deadline_us: now_us.saturating_add(self.config.reset_wait_us), needed };
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
                    self.reset(true, now_us);
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
                    self.reset(true, now_us);
                }
            }
            (Function::ResetUnit, true) => {
                self.end_before(serial);
                self.end_resets(serial, Ok(()));
                self.report(Event::ResetConfirmed);
                self.recovery = Recovery::Idle;
            }
            (Function::ResetUnit, false) => {
                self.end_resets(serial, Err(Cause::ResetDenied));
                // One that is needed is asked for again at the deadline.
                if matches!(self.recovery, Recovery::Resetting { needed: false, .. }) {
                    self.recovery = Recovery::Idle;
                }
            }
        }
    }

    /// Ends the waits for a reset that were begun before `serial`.
    fn end_resets(&mut self, serial: u64, result: Result<(), Cause>) {
        for slot in 0..SLOTS {
            let Some(Some(request)) = self.requests.get(slot) else {
                continue;
            };
            if request.state == State::Resetting && request.serial < serial {
                self.finish(slot, result, true);
            }
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
