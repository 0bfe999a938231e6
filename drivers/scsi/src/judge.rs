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
    /// RESERVATION CONFLICT: this initiator is shut out.
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
    /// The adapter is dead.
    HbaBroken,
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
