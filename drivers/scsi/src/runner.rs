//! One command at a time over slot 0, with retries: what discovery is made of.

use crate::hba::{Command, Function, Hba, HbaError, Outcome, Task, Transfer};
use crate::judge::{Cause, Verdict, judge};

/// Slot that is used before a disk takes the adapter over.
pub(crate) const SLOT: usize = 0;
/// A unit reports each condition that is pending once; QEMU has up to three at start.
const RETRIES_MAX: u8 = 8;
/// Pause before a unit that is not ready or busy is asked again.
const PAUSE_US: u64 = 5_000;
/// How long a unit may take to become ready.
const PATIENCE_US: u64 = 10_000_000;
/// How long one command may take at boot before it is aborted: a cold disk, not a running cluster's.
const ANSWER_US: u64 = 5_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting {
        at_us: u64,
    },
    Flying {
        deadline_us: u64,
    },
    /// Aborted; the adapter has not given the slot back yet.
    Aborting,
}

#[derive(Clone, Debug)]
struct Current {
    command: Command,
    whole: bool,
    state: State,
    retries: u8,
    patience_until_us: u64,
}

/// Runs commands one by one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runner(Option<Current>);

impl Runner {
    pub(crate) fn is_busy(&self) -> bool {
        self.0.is_some()
    }

    /// Starts a command; `whole`: a short transfer is an error.
    pub(crate) fn begin(&mut self, command: Command, whole: bool, now_us: u64) {
        self.0 = Some(Current {
            command,
            whole,
            state: State::Waiting { at_us: now_us },
            retries: 0,
            patience_until_us: now_us.saturating_add(PATIENCE_US),
        });
    }

    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        match self.0.as_ref()?.state {
            State::Waiting { at_us } => Some(at_us),
            State::Flying { deadline_us } => Some(deadline_us),
            State::Aborting => None,
        }
    }

    /// Moves the command on; its end is the number of bytes transferred, which are in slot 0.
    pub(crate) fn poll<H: Hba>(&mut self, hba: &mut H, now_us: u64) -> Option<Result<usize, Cause>> {
        // Reports and answers of before are of no interest to a discovery that looks at everything.
        while hba.poll_event().is_some() {}
        while hba.poll_task().is_some() {}
        while let Some(outcome) = hba.poll() {
            if outcome.slot == SLOT
                && let Some(end) = self.on_outcome(&outcome, now_us)
            {
                self.0 = None;
                return Some(end);
            }
        }
        let current = self.0.as_mut()?;
        match current.state {
            State::Waiting { at_us } if at_us <= now_us => match hba.submit(SLOT, &current.command, &mut || true) {
                Ok(()) => {
                    let deadline_us = now_us.saturating_add(ANSWER_US);
                    current.state = State::Flying { deadline_us };
                }
                Err(HbaError::Busy) => {
                    let at_us = now_us.saturating_add(PAUSE_US);
                    current.state = State::Waiting { at_us };
                }
                Err(_) => {
                    self.0 = None;
                    return Some(Err(Cause::HbaBroken));
                }
            },
            State::Flying { deadline_us } if deadline_us <= now_us => {
                // Denied or not: the slot comes back, or the caller's own patience ends.
                let _ = hba.submit_task(Task {
                    address: current.command.address,
                    function: Function::Abort { slot: SLOT },
                    serial: 0,
                });
                current.state = State::Aborting;
            }
            _ => {}
        }
        None
    }

    fn on_outcome(&mut self, outcome: &Outcome, now_us: u64) -> Option<Result<usize, Cause>> {
        let current = self.0.as_mut()?;
        let verdict = judge(outcome, current.whole);
        let (cause, at_us) = match verdict {
            Verdict::Done => {
                let asked = match current.command.transfer {
                    Transfer::None => 0,
                    Transfer::In(bytes) | Transfer::Out(bytes) => bytes,
                };
                return Some(Ok(asked.saturating_sub(outcome.residual as usize)));
            }
            Verdict::Failed(cause) => return Some(Err(cause)),
            _ if current.state == State::Aborting => return Some(Err(Cause::TimedOut)),
            Verdict::Again(cause) => (cause, now_us),
            Verdict::Later(cause) => {
                if current.patience_until_us <= now_us {
                    return Some(Err(cause));
                }
                current.retries = 0;
                (cause, now_us.saturating_add(PAUSE_US))
            }
        };
        if current.retries >= RETRIES_MAX {
            return Some(Err(cause));
        }
        current.retries += 1;
        current.state = State::Waiting { at_us };
        None
    }
}
