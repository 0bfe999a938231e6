//! What an answer means: done, to be tried again, or failed. One pure function, [`judge`], so that
//! every machine follows the same rules.
//!
//! | answer | verdict |
//! |---|---|
//! | response OK, GOOD, nothing missing | done |
//! | response OK, GOOD, bytes missing | failed: short |
//! | CHECK CONDITION, recovered error | done, if nothing is missing |
//! | CHECK CONDITION, unit attention | again at once; the condition is reported |
//! | CHECK CONDITION, aborted command; deferred error | again at once |
//! | CHECK CONDITION, not ready but becoming so | again after a pause, with patience |
//! | CHECK CONDITION, anything else | failed |
//! | BUSY, TASK SET FULL, response BUSY | again after a pause |
//! | response RESET or ABORTED | again at once: it was ended, its fate is known |
//! | RESERVATION CONFLICT, TASK ABORTED | failed, never tried again: another initiator meant it |
//! | any other status or response | failed |
//!
//! What "again" means for a command depends on what it does ([`may_repeat`]):
//!
//! | answer | read | write, flush | change of reservations |
//! |---|---|---|---|
//! | unit attention that concerns reservations, while they are in use | again | failed with it | failed with it |
//! | the same while they are not | again | again | again |
//! | other unit attention; deferred error; busy | again | again | again |
//! | aborted command; response RESET or ABORTED | again | again | failed: it may have been carried out |
//!
//! A change is repeated only after an answer that says that it was *not* carried out: unlike a write it
//! may do something else the second time. A write that meets such an attention is not repeated
//! silently, because the right to it may have gone; whoever sent it looks at the reservation first. (The
//! attentions: [`Sense::concerns_reservations`].)
//!
//! "Again" is bounded by the caller. A response other than OK is an error even with status GOOD: QEMU
//! reports an overrun that way.

use crate::hba::{Outcome, Response};
use crate::sense::{Key, Sense};
use core::fmt;

/// Why a request failed, or was tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The guard refused it: this attempt was not submitted.
    Frozen,
    /// The device said why.
    Check(Sense),
    /// CHECK CONDITION without readable sense data.
    CheckUnexplained,
    /// RESERVATION CONFLICT: this initiator is shut out, or the key that it gave is not its own.
    ReservationConflict,
    /// TASK ABORTED: another initiator ended it.
    TaskAborted,
    /// BUSY for too long.
    Busy,
    /// TASK SET FULL for too long.
    TaskSetFull,
    /// A status that no block device should send.
    Status(u8),
    /// Delivery failed.
    Hba(Response),
    /// Bytes are missing.
    Short {
        /// How many.
        residual: u32,
    },
    /// Not answered within `io_max`, and since confirmed to be ended: it does nothing any more, but
    /// what a write has done before is not known. The block must be read or written again.
    TimedOut,
    /// LOGICAL UNIT RESET was denied.
    ResetDenied,
    /// The adapter is dead.
    HbaBroken,
}

impl Cause {
    /// The unit attention that says that reservations may have changed, if it is one. The command was
    /// not carried out.
    pub fn attention(&self) -> Option<Sense> {
        match self {
            Self::Check(sense) if sense.concerns_reservations() => Some(*sense),
            _ => None,
        }
    }

    /// The unit does not know the command, or not in this form: invalid operation code, field in the CDB
    /// or field in the parameter list. Nothing was carried out. (SPC-4 § 4.5)
    pub fn is_unknown_command(&self) -> bool {
        let Self::Check(sense) = self else {
            return false;
        };
        sense.key == Key::IllegalRequest && matches!(sense.asc, 0x20 | 0x24 | 0x26)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frozen => f.write_str("frozen: the lease ran out before it could be submitted"),
            Self::Check(sense) => write!(f, "{sense}"),
            Self::CheckUnexplained => f.write_str("check condition without sense data"),
            Self::ReservationConflict => f.write_str("reservation conflict"),
            Self::TaskAborted => f.write_str("task aborted by another initiator"),
            Self::Busy => f.write_str("unit busy"),
            Self::TaskSetFull => f.write_str("task set full"),
            Self::Status(status) => write!(f, "unexpected status {status:02x}h"),
            Self::Hba(Response::BadTarget) => f.write_str("no such target or unit"),
            Self::Hba(response) => write!(f, "adapter response {response:?}"),
            Self::Short { residual } => write!(f, "short transfer: {residual} bytes missing"),
            Self::TimedOut => f.write_str("timed out and aborted"),
            Self::ResetDenied => f.write_str("the reset of the unit was denied"),
            Self::HbaBroken => f.write_str("the host bus adapter broke its ring"),
        }
    }
}

/// What to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Done,
    /// Try at once.
    Again(Cause),
    /// Try after a pause.
    Later(Cause),
    /// It failed.
    Failed(Cause),
}

/// Status codes. (SAM-5 Table 34)
mod status {
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const BUSY: u8 = 0x08;
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    pub const TASK_SET_FULL: u8 = 0x28;
    pub const TASK_ABORTED: u8 = 0x40;
}

/// Judges an answer. `whole`: every byte must have been transferred (reads and writes; not INQUIRY).
pub fn judge(outcome: &Outcome, whole: bool) -> Verdict {
    match outcome.response {
        Response::Ok => {}
        Response::Busy => return Verdict::Later(Cause::Busy),
        Response::Reset | Response::Aborted => {
            return Verdict::Again(Cause::Hba(outcome.response));
        }
        response => return Verdict::Failed(Cause::Hba(response)),
    }
    match outcome.status {
        status::GOOD => complete(outcome, whole),
        status::CHECK_CONDITION => judge_sense(outcome, whole),
        status::BUSY => Verdict::Later(Cause::Busy),
        status::TASK_SET_FULL => Verdict::Later(Cause::TaskSetFull),
        status::RESERVATION_CONFLICT => Verdict::Failed(Cause::ReservationConflict),
        status::TASK_ABORTED => Verdict::Failed(Cause::TaskAborted),
        other => Verdict::Failed(Cause::Status(other)),
    }
}

/// What a command does, as far as repeating it is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It changes nothing.
    None,
    /// It writes: the same again leaves the same.
    Write,
    /// It changes registrations or the reservation: the same again may do something else, or fail.
    Change,
}

/// Whether a command may be sent again without asking its user. `in_use`: reservations are.
pub fn may_repeat(effect: Effect, cause: &Cause, in_use: bool) -> bool {
    let attention = in_use && cause.attention().is_some();
    match (effect, cause) {
        (Effect::None, _) => true,
        (Effect::Write, _) => !attention,
        (Effect::Change, Cause::Check(sense)) => {
            (sense.key == Key::UnitAttention && !attention) || sense.key == Key::NotReady || sense.deferred
        }
        (Effect::Change, Cause::Busy | Cause::TaskSetFull) => true,
        (Effect::Change, _) => false,
    }
}

fn complete(outcome: &Outcome, whole: bool) -> Verdict {
    match outcome.residual {
        residual if whole && residual != 0 => Verdict::Failed(Cause::Short { residual }),
        _ => Verdict::Done,
    }
}

fn judge_sense(outcome: &Outcome, whole: bool) -> Verdict {
    let Some(sense) = Sense::parse(&outcome.sense) else {
        return Verdict::Failed(Cause::CheckUnexplained);
    };
    let cause = Cause::Check(sense);
    if sense.deferred {
        return Verdict::Again(cause);
    }
    match (sense.key, sense.asc, sense.ascq) {
        (Key::RecoveredError, _, _) => complete(outcome, whole),
        (Key::UnitAttention | Key::AbortedCommand, _, _) => Verdict::Again(cause),
        // Becoming ready; format, rebuild, self-test or access state transition under way.
        (Key::NotReady, 0x04, 0x01 | 0x04..=0x0a | 0x14 | 0x1b..=0x1d) => Verdict::Later(cause),
        _ => Verdict::Failed(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heapless::Vec;

    fn outcome(response: Response, status: u8, sense: &[u8]) -> Outcome {
        Outcome { slot: 0, response, status, residual: 0, sense: Vec::from_slice(sense).unwrap() }
    }

    fn check(sense: [u8; 4]) -> Verdict {
        judge(&outcome(Response::Ok, 2, &sense), true)
    }

    #[test]
    fn a_response_other_than_ok_fails_even_with_status_good() {
        for response in [Response::Overrun, Response::BadTarget, Response::TransportFailure, Response::Unknown(77)] {
            assert_eq!(judge(&outcome(response, 0, &[]), true), Verdict::Failed(Cause::Hba(response)));
        }
    }

    #[test]
    fn a_residual_is_an_error_where_all_bytes_count() {
        let mut short = outcome(Response::Ok, 0, &[]);
        short.residual = 512;
        assert_eq!(judge(&short, true), Verdict::Failed(Cause::Short { residual: 512 }));
        assert_eq!(judge(&short, false), Verdict::Done);
    }

    #[test]
    fn sam_5_table_34_statuses() {
        let verdict = |status| judge(&outcome(Response::Ok, status, &[]), true);
        assert_eq!(verdict(0x00), Verdict::Done);
        assert_eq!(verdict(0x02), Verdict::Failed(Cause::CheckUnexplained));
        assert_eq!(verdict(0x08), Verdict::Later(Cause::Busy));
        assert_eq!(verdict(0x18), Verdict::Failed(Cause::ReservationConflict));
        assert_eq!(verdict(0x28), Verdict::Later(Cause::TaskSetFull));
        assert_eq!(verdict(0x40), Verdict::Failed(Cause::TaskAborted));
        assert_eq!(verdict(0x30), Verdict::Failed(Cause::Status(0x30)));
    }

    #[test]
    fn commands_that_a_unit_does_not_know() {
        let unknown = |bytes| Cause::Check(Sense::parse(bytes).unwrap()).is_unknown_command();
        assert!(unknown(&[0x72, 5, 0x20, 0]) && unknown(&[0x72, 5, 0x24, 0]) && unknown(&[0x72, 5, 0x26, 0]));
        assert!(!unknown(&[0x72, 5, 0x21, 0]) && !unknown(&[0x72, 6, 0x24, 0]));
        assert!(!Cause::ReservationConflict.is_unknown_command());
    }

    #[test]
    fn what_may_be_repeated() {
        let cause = |bytes| Cause::Check(Sense::parse(bytes).unwrap());
        let preempted = cause(&[0x72, 6, 0x2a, 5]);
        let reset = cause(&[0x72, 6, 0x29, 0]);
        let luns = cause(&[0x72, 6, 0x3f, 0x0e]);
        let deferred = cause(&[0x73, 3, 0x0c, 0]);
        let aborted = cause(&[0x72, 0xb, 0, 6]);
        let ended = Cause::Hba(Response::Reset);
        // (read, write, change) while reservations are in use, and while they are not.
        let table = [
            (preempted, (true, false, false), (true, true, true)),
            (reset, (true, false, false), (true, true, true)),
            (luns, (true, true, true), (true, true, true)),
            (deferred, (true, true, true), (true, true, true)),
            (Cause::Busy, (true, true, true), (true, true, true)),
            (Cause::TaskSetFull, (true, true, true), (true, true, true)),
            (aborted, (true, true, false), (true, true, false)),
            (ended, (true, true, false), (true, true, false)),
        ];
        for (cause, in_use, not) in table {
            let of = |in_use| {
                let may = |effect| may_repeat(effect, &cause, in_use);
                (may(Effect::None), may(Effect::Write), may(Effect::Change))
            };
            assert_eq!((of(true), of(false)), (in_use, not), "{cause}");
        }
    }

    #[test]
    fn sense_keys() {
        assert_eq!(check([0x72, 1, 0x17, 1]), Verdict::Done);
        assert!(matches!(check([0x72, 6, 0x29, 0]), Verdict::Again(_)));
        assert!(matches!(check([0x72, 0xb, 0, 6]), Verdict::Again(_)));
        assert!(matches!(check([0x73, 3, 0x0c, 0]), Verdict::Again(_)));
        assert!(matches!(check([0x72, 2, 4, 1]), Verdict::Later(_)));
        assert!(matches!(check([0x72, 2, 4, 2]), Verdict::Failed(_)));
        assert!(matches!(check([0x72, 2, 0x3a, 0]), Verdict::Failed(_)));
        assert!(matches!(check([0x72, 5, 0x21, 0]), Verdict::Failed(_)));
        assert!(matches!(check([0x72, 0, 0, 0]), Verdict::Failed(_)));
    }
}
