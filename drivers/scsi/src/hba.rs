//! What a host bus adapter does for the block layer. A second adapter is one more implementation.
//!
//! The adapter owns one data buffer per slot. While a slot's command is outstanding nobody can reach
//! its buffer; the slot comes back with its [`Outcome`], and only then: also an aborted command is
//! outstanding until the adapter has it back.

use crate::cdb::Cdb;
use crate::sense::SENSE_MAX;
use heapless::Vec;

/// A logical unit at an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Target number.
    pub target: u8,
    /// Logical unit number, below 16384.
    pub lun: u16,
}

/// The data phase of a command: how many bytes of the slot's buffer, in which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// No data.
    None,
    /// From the device.
    In(usize),
    /// To the device.
    Out(usize),
}

/// One command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// For whom.
    pub address: Address,
    /// What.
    pub cdb: Cdb,
    /// Its data.
    pub transfer: Transfer,
}

/// How delivery went, apart from the device's own status. (VirtIO 1.2 § 5.6.6.1 has the same list)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are those of the specification.
pub enum Response {
    Ok,
    Overrun,
    Aborted,
    BadTarget,
    Reset,
    Busy,
    TransportFailure,
    TargetFailure,
    NexusFailure,
    Failure,
    Unknown(u8),
}

/// A command that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its slot, whose buffer is accessible again.
    pub slot: usize,
    /// How delivery went. Anything but `Ok` is an error, whatever the status says.
    pub response: Response,
    /// The device's status byte (SAM-5 § 5.3); means something only if `response` is `Ok`.
    pub status: u8,
    /// Bytes that were not transferred.
    pub residual: u32,
    /// Sense data, empty if there is none.
    pub sense: Vec<u8, SENSE_MAX>,
}

/// What a task management function ends. (SAM-5 § 7)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// ABORT TASK: the command in a slot.
    Abort {
        /// Its slot.
        slot: usize,
    },
    /// ABORT TASK SET: every command of this initiator at the unit.
    AbortSet,
    /// LOGICAL UNIT RESET.
    ResetUnit,
}

/// A task management function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    /// For whom.
    pub address: Address,
    /// What.
    pub function: Function,
    /// A number of the caller that comes back with the answer, so that a late answer is not taken
    /// for one about a later command in the same slot.
    pub serial: u64,
}

/// The answer to a task management function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskOutcome {
    /// Which.
    pub task: Task,
    /// The function was carried out: what it covers does nothing any more.
    pub confirmed: bool,
}

/// Why a command was not taken. Nothing reached the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HbaError {
    /// The guard refused at the last moment.
    Refused,
    /// The slot is outstanding, or the queue is full: later.
    Busy,
    /// There is no such slot, or its buffer is too small, or the address cannot be expressed.
    Unfit,
    /// The adapter is dead until it is reset.
    Broken,
}

/// What an adapter reports unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HbaEvent {
    /// Units came, went or were reset at a target.
    TransportChanged {
        /// Which.
        address: Address,
        /// A unit appeared or everything there must be looked at again (`true`), or it is gone.
        present: bool,
    },
    /// A unit's parameters changed; the codes are those of the unit attention that goes with it.
    ParametersChanged {
        /// Which.
        address: Address,
        /// Additional sense code.
        asc: u8,
        /// Its qualifier.
        ascq: u8,
    },
    /// Reports were lost: look at everything again.
    Missed,
    /// The adapter broke its own rules; it is dead.
    Violation,
}

/// A host bus adapter.
pub trait Hba {
    /// Command slots, numbered from 0.
    fn slots(&self) -> usize;

    /// Bytes of each slot's data buffer: the largest transfer.
    fn slot_bytes(&self) -> usize;

    /// Targets that may exist, numbered from 0.
    fn targets(&self) -> u16;

    /// The data buffer of a slot; `None` while its command is outstanding or if there is none.
    fn data(&self, slot: usize) -> Option<&[u8]>;

    /// The data buffer of a slot for writing; `None` as in [`Hba::data`].
    fn data_mut(&mut self, slot: usize) -> Option<&mut [u8]>;

    /// Sends a command. `guard` runs with interrupts off as the last act before the device can see
    /// it; if it says `false` nothing is sent.
    ///
    /// # Errors
    /// Every [`HbaError`]; the slot stays with the caller.
    fn submit(&mut self, slot: usize, command: &Command, guard: &mut dyn FnMut() -> bool) -> Result<(), HbaError>;

    /// The next command that came back, in any order.
    fn poll(&mut self) -> Option<Outcome>;

    /// Sends a task management function; several may be outstanding.
    ///
    /// # Errors
    /// [`HbaError::Busy`] when too many are, [`HbaError::Unfit`] if the slot to abort has nothing
    /// outstanding, [`HbaError::Broken`].
    fn submit_task(&mut self, task: Task) -> Result<(), HbaError>;

    /// The next answer to a task management function. Whoever acts on it must first take all
    /// [`Hba::poll`] has, because an abort is confirmed after the aborted command came back.
    fn poll_task(&mut self) -> Option<TaskOutcome>;

    /// Resets the adapter. Whatever was outstanding is over, without an answer, and all slots are back;
    /// units meet the port with a unit attention. For when slots do not come back; nobody waits for a
    /// command or a task management function meanwhile.
    ///
    /// # Errors
    /// [`HbaError::Unfit`]: it cannot, and nothing was changed. [`HbaError::Broken`]: it is dead.
    fn restart(&mut self) -> Result<(), HbaError>;

    /// The next unasked report.
    fn poll_event(&mut self) -> Option<HbaEvent>;
}
