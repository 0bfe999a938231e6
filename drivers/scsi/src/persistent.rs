//! Persistent reservations and ordered resets as requests of a [`Disk`].
//!
//! Whether a unit knows PREEMPT AND ABORT is in no report: REPORT CAPABILITIES has no field for it, and
//! REPORT SUPPORTED OPERATION CODES is known by few. Trying it is the probe: a unit without it refuses it
//! before anything is done ([`Cause::is_unknown_command`](crate::Cause::is_unknown_command)). Then the same
//! is had in two steps, in this order:
//!
//! ```text
//! PREEMPT ──good: nothing new of the victim is carried out──► LOGICAL UNIT RESET ──confirmed: nothing old either
//! ```
//!
//! The reset ends other initiators' commands as well, some without a status; their next command meets a
//! unit attention.

use crate::disk::{Disk, Operation, SubmitError, Write};
use crate::hba::Hba;
use crate::requests::{Request, State, Step};
use crate::reservation::{Change, Report};

impl<H: Hba, const SLOTS: usize> Disk<H, SLOTS> {
    /// Asks about reservations, for at most `bytes` bytes of answer. The completion has the bytes that came.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was submitted.
    pub fn submit_report(&mut self, now_us: u64, report: Report, bytes: u16, tag: u64) -> Result<(), SubmitError> {
        let slot = self.free_slot().ok_or(SubmitError::NoSlot)?;
        let buffer = self.hba.data_mut(slot).ok_or(SubmitError::NoSlot)?;
        // What an earlier request left must not be read as an answer if the unit sends less than it says.
        buffer.get_mut(..usize::from(bytes)).ok_or(SubmitError::TooLarge)?.fill(0);
        let (operation, step) = (Operation::Report(report), Step::Report { report, bytes });
        self.submit(slot, self.request(operation, step, tag, now_us), now_us)
    }

    /// Changes registrations or the reservation. A failure tells what is known: after
    /// [`Cause::attention`](crate::Cause::attention), [`Cause::ReservationConflict`](crate::Cause) and
    /// [`Cause::is_unknown_command`](crate::Cause::is_unknown_command) nothing was changed; after anything
    /// else, a time-out above all, it may have been, and a report tells.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was submitted.
    pub fn submit_change(&mut self, now_us: u64, change: &Change, tag: u64) -> Result<(), SubmitError> {
        let slot = self.free_slot().ok_or(SubmitError::NoSlot)?;
        let buffer = self.hba.data_mut(slot).ok_or(SubmitError::NoSlot)?;
        let parameters = change.parameters();
        buffer.get_mut(..parameters.len()).ok_or(SubmitError::TooLarge)?.copy_from_slice(&parameters);
        self.submit(slot, self.request(Operation::Change(*change), Step::Change(*change), tag, now_us), now_us)
    }

    /// LOGICAL UNIT RESET: completed when one that was sent after this call is confirmed, or denied
    /// ([`Cause::ResetDenied`](crate::Cause)). It ends the commands of all initiators at the unit; this
    /// disk's are tried again as their kind allows, and what is submitted meanwhile waits.
    ///
    /// # Errors
    /// [`SubmitError::NoSlot`].
    pub fn submit_reset(&mut self, now_us: u64, tag: u64) -> Result<(), SubmitError> {
        let slot = self.free_slot().ok_or(SubmitError::NoSlot)?;
        self.submit(slot, self.request(Operation::Reset, Step::Reset, tag, now_us), now_us)
    }

    fn request(&self, operation: Operation, step: Step, tag: u64, now_us: u64) -> Request {
        Request {
            tag,
            operation,
            step,
            lba: 0,
            blocks: 0,
            how: Write::default(),
            state: State::Waiting { at_us: now_us },
            retries: 0,
            patience_until_us: now_us.saturating_add(self.config.patience_us),
            serial: 0,
            received: 0,
        }
    }

    /// A request waits for a reset from now on; [`Disk::poll`] sends it.
    pub(crate) fn start_reset(&mut self, slot: usize) {
        let serial = self.serial;
        self.serial += 1;
        if let Some(request) = self.request_mut(slot) {
            request.serial = serial;
            request.state = State::Resetting;
        }
    }
}
