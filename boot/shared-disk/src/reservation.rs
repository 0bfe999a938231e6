//! Persistent reservations: the node's commands as the driver's requests, and back. Nothing is decided here; what the unit
//! answered is what the node is told, also that it is not known (see `quorate_base::reservation`).

use heapless::{Deque, Vec};
use quorate_base::DiskTag;
use quorate_base::reservation::{
    Attention, Held, KEYS_MAX, Keys, ReservationAnswer, ReservationCapabilities, ReservationDone, ReservationError,
    ReservationKey, ReservationOp, ReservationType, Reservations,
};
use quorate_scsi::disk::{Completion, Config, Operation};
use quorate_scsi::hba::Response;
use quorate_scsi::registrations::{self, Capabilities, Holder};
use quorate_scsi::reservation::{Change, Key, Kind, Report};
use quorate_scsi::sense::Sense;
use quorate_scsi::{Cause, Hba, SubmitError};

use crate::{Database, Tell};

/// A command's end.
pub type Answer = (DiskTag, Result<ReservationAnswer, ReservationError>);

/// Ends that wait to be handed out: the node has two commands under way at most.
pub type Answers = Deque<Answer, 2>;

impl<H: Hba> Database<H> {
    /// Begins a command, and keeps a refusal as its answer: the node's machines know one way of failing only.
    pub fn begin_reservation(&mut self, tag: DiskTag, op: &ReservationOp) {
        if let Err(error) = Reservations::submit(self, tag, op) {
            // There is room, as above.
            let _ = self.answers.push_back((tag, Err(error)));
        }
    }

    /// What a read was answered instead, before it was repeated.
    pub fn take_attention(&mut self) -> Option<Attention> {
        self.disk.take_attention().map(|sense| attention(&sense))
    }

    /// Begins a change. From the first registration on, a write that meets a unit attention is not repeated.
    fn change(&mut self, tag: DiskTag, change: &Change) -> Result<(), SubmitError> {
        let registers = matches!(change, Change::RegisterAnyway { new, .. } if *new != Key::NONE);
        if registers && !self.disk.config().reservations {
            self.disk.set_config(Config { reservations: true, ..*self.disk.config() });
        }
        (self.tell)(format_args!("reservation: {change:?}"));
        self.disk.submit_change((self.clock)(), change, u64::from(tag.0))
    }

    fn report(&mut self, tag: DiskTag, report: Report, bytes: u16) -> Result<(), SubmitError> {
        self.disk.submit_report((self.clock)(), report, bytes, u64::from(tag.0))
    }
}

impl<H: Hba> Reservations for Database<H> {
    fn submit(&mut self, tag: DiskTag, op: &ReservationOp) -> Result<(), ReservationError> {
        let begun = match *op {
            ReservationOp::Capabilities => self.report(tag, Report::Capabilities, Capabilities::BYTES),
            ReservationOp::ReadKeys => self.report(tag, Report::Keys, registrations::Keys::bytes_for(KEYS_MAX)),
            ReservationOp::ReadReservation => self.report(tag, Report::Reservation, Holder::BYTES),
            ReservationOp::Register { key, persist } => {
                let new = key.map_or(Key::NONE, |key| Key(key.0));
                self.change(tag, &Change::RegisterAnyway { new, persist })
            }
            ReservationOp::Reserve { key, kind } => {
                self.change(tag, &Change::Reserve { key: Key(key.0), kind: kind_of(kind)? })
            }
            ReservationOp::Preempt { key, victim, kind, abort } => {
                let (key, victim, kind) = (Key(key.0), Key(victim.0), kind_of(kind)?);
                self.change(
                    tag,
                    &match abort {
                        true => Change::PreemptAndAbort { key, victim, kind },
                        false => Change::Preempt { key, victim, kind },
                    },
                )
            }
            ReservationOp::ResetUnit => {
                (self.tell)(format_args!("reservation: reset of the unit"));
                self.disk.submit_reset((self.clock)(), u64::from(tag.0))
            }
        };
        begun.map_err(|error| match error {
            SubmitError::HbaBroken => ReservationError::Gone,
            _ => ReservationError::Device,
        })
    }

    fn poll(&mut self, done: &mut ReservationDone<'_>) -> bool {
        let Some((tag, result)) = self.answers.pop_front() else { return false };
        done(tag, result.as_ref().map_err(|error| *error));
        true
    }
}

/// The kind that the driver knows by this number.
fn kind_of(kind: ReservationType) -> Result<Kind, ReservationError> {
    Kind::from_code(kind.code()).ok_or(ReservationError::Unsupported)
}

/// A completion as an answer about reservations; `None` if it is about something else.
pub fn answer(completion: &Completion<'_>, tell: Tell) -> Option<Answer> {
    let tag = DiskTag(completion.tag as u32);
    let result = match completion.operation {
        Operation::Read | Operation::Write | Operation::Capacity => return None,
        Operation::Report(_) | Operation::Change(_) | Operation::Reset => match &completion.result {
            Ok(data) => read(completion.operation, data).ok_or(ReservationError::Device),
            Err(error) => {
                tell(format_args!("reservation: {error}"));
                Err(reservation_error(&error.cause))
            }
        },
    };
    Some((tag, result))
}

/// What was answered with GOOD; `None` if the answer cannot be read.
fn read(operation: Operation, data: &[u8]) -> Option<ReservationAnswer> {
    let Operation::Report(report) = operation else { return Some(ReservationAnswer::Done) };
    match report {
        Report::Capabilities => {
            let found = Capabilities::parse(data).ok()?;
            // A unit that names no kinds is of before SPC-3, which has the other kind only.
            let has = |kind| found.kinds.map(|kinds| kinds.has(kind));
            Some(ReservationAnswer::Capabilities(ReservationCapabilities {
                all_registrants: has(Kind::WriteExclusiveAllRegistrants).unwrap_or(false),
                registrants_only: has(Kind::WriteExclusiveRegistrantsOnly).unwrap_or(true),
                persist_through_power_loss: found.can_persist,
            }))
        }
        Report::Keys => {
            let found = registrations::Keys::parse(data).ok()?;
            let keys: Vec<ReservationKey, KEYS_MAX> =
                found.iter().take(KEYS_MAX).map(|key| ReservationKey(key.0)).collect();
            // What was cut off counts, however it came to be.
            let more = keys.len() < found.registered();
            Some(ReservationAnswer::Keys(Keys { generation: found.generation, keys, more }))
        }
        Report::Reservation => {
            let held = Holder::parse(data).ok()?.reservation.map(|reservation| Held {
                holder: ReservationKey(reservation.key.0),
                kind: ReservationType::from_code(reservation.kind.map_or_else(|code| code, Kind::code)),
            });
            Some(ReservationAnswer::Reservation(held))
        }
        // The node does not ask for it.
        Report::FullStatus => None,
    }
}

/// What a unit attention of the driver's [`Sense::concerns_reservations`] says.
pub fn attention(sense: &Sense) -> Attention {
    match (sense.asc, sense.ascq) {
        (0x2a, 0x03) => Attention::ReservationsPreempted,
        (0x2a, 0x04) => Attention::ReservationsReleased,
        (0x2a, 0x05) => Attention::RegistrationsPreempted,
        _ => Attention::Reset,
    }
}

fn reservation_error(cause: &Cause) -> ReservationError {
    if let Some(sense) = cause.attention() {
        return ReservationError::Attention(attention(&sense));
    }
    match cause {
        Cause::ReservationConflict => ReservationError::Conflict,
        cause if cause.is_unknown_command() => ReservationError::Unsupported,
        // Ended by somebody: it will not be done any more.
        Cause::TimedOut | Cause::TaskAborted | Cause::Hba(Response::Reset | Response::Aborted) => {
            ReservationError::TimedOut
        }
        Cause::Hba(_) | Cause::HbaBroken => ReservationError::Gone,
        _ => ReservationError::Device,
    }
}
