//! Persistent reservations, as far as the cluster needs them (SPC-4 §5.13): what a node asks of the shared disk to be
//! registered with it, and to have another node's registration removed. The port behind it is a driver's or a simulator's.
//!
//! One key stands for one life of one node:
//!
//! ```text
//!  63      56 55      48 47                            16 15             0
//! ┌──────────┬──────────┬────────────────────────────────┬────────────────┐
//! │ 51 ("Q") │ node id  │ incarnation                    │ nonce, low 16  │
//! └──────────┴──────────┴────────────────────────────────┴────────────────┘
//! ```
//! so that `sg_persist` and a trace show whose it is, it is never 0 (which means "no key"), and two machines that run under
//! one node id and reach the same incarnation are still told apart.
//!
//! What a port has to keep (the rules behind DESIGN 7):
//! - a command that was answered by UNIT ATTENTION was *not* executed (SAM-5 §5.14): that is
//!   [`ReservationError::Attention`], and it is not repeated by the port;
//! - from the first [`ReservationOp::Register`] with a key on, a *write* that is answered by UNIT ATTENTION 29h or 2Ah is
//!   not repeated by the port either: its answer is `DiskError::Attention`. A read may be repeated, and the node is told of
//!   the attention before it is told of the read;
//! - RESERVATION CONFLICT (status 18h) is never repeated.

use core::fmt;
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::capacity::NODES_MAX;
use crate::id::{BootNonce, Incarnation, NodeId};
use crate::port::DiskTag;

/// Keys of one READ KEYS at most: each node's present life and as many that are not cleaned up yet.
pub const KEYS_MAX: usize = 2 * NODES_MAX;

/// A registration's key (SPC-4 §5.13.7), as it stands on the disk. It may be anybody's: see [`owner`](Self::owner).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReservationKey(pub u64);

/// Marks the keys of this product's nodes.
const MARK: u64 = 0x51;

/// Whose key it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct KeyOwner {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// The low bits of that life's boot nonce.
    pub nonce_bits: u16,
}

impl ReservationKey {
    /// The key of a life.
    pub const fn new(node: NodeId, incarnation: Incarnation, nonce: BootNonce) -> Self {
        Self(MARK << 56 | (node.get() as u64) << 48 | (incarnation.0 as u64) << 16 | nonce.0 & 0xffff)
    }

    /// Whose it is; `None` if it is not of this form, so that something else than a node of a cluster registered it.
    pub const fn owner(self) -> Option<KeyOwner> {
        let Some(node) = NodeId::new((self.0 >> 48) as u8) else { return None };
        if self.0 >> 56 != MARK {
            return None;
        }
        Some(KeyOwner { node, incarnation: Incarnation((self.0 >> 16) as u32), nonce_bits: self.0 as u16 })
    }
}

impl fmt::Display for ReservationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ReservationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a reservation keeps from whom (SPC-4 table 62, TYPE).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ReservationType {
    /// 5h: only registered nexuses write; it stands as long as its holder is registered.
    WriteExclusiveRegistrantsOnly,
    /// 7h: only registered nexuses write; it stands as long as anybody is registered.
    WriteExclusiveAllRegistrants,
    /// Any other: not the cluster's.
    Other(u8),
}

impl ReservationType {
    /// Its number in SPC-4, 4 bits.
    pub const fn code(self) -> u8 {
        match self {
            Self::WriteExclusiveRegistrantsOnly => 5,
            Self::WriteExclusiveAllRegistrants => 7,
            Self::Other(code) => code & 15,
        }
    }

    /// The type of a number.
    pub const fn from_code(code: u8) -> Self {
        match code & 15 {
            5 => Self::WriteExclusiveRegistrantsOnly,
            7 => Self::WriteExclusiveAllRegistrants,
            code => Self::Other(code),
        }
    }

    /// Whether it keeps exactly those from writing that are not registered.
    pub const fn fences(self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// The name in traces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WriteExclusiveRegistrantsOnly => "write-exclusive-registrants-only",
            Self::WriteExclusiveAllRegistrants => "write-exclusive-all-registrants",
            Self::Other(_) => "other",
        }
    }
}

/// What becomes of the commands that a disk had accepted of a nexus before its registration was preempted. A property of the
/// disk that no command of SPC-4 reports; the superblock says it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preempted {
    /// They may still be carried out, for as long as a request may take: `io_max`.
    #[default]
    Lingers,
    /// They are ended, or are carried out before any read or write that the disk accepts after the preemption was answered.
    Ends,
}

impl Preempted {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Lingers, Self::Ends];

    /// The name at the command line and in scenarios.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lingers => "lingers",
            Self::Ends => "ends",
        }
    }
}

/// Who holds the cluster's reservation; the superblock says it, so that all nodes ask for the same type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registrants {
    /// All registrants, where the disk has that type.
    #[default]
    All,
    /// One of the registrants: type Registrants Only, also where the disk has both. For a disk that does not know any more
    /// who holds it when one of all holders was preempted.
    Only,
}

impl Registrants {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::All, Self::Only];

    /// The name at the command line and in scenarios.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Only => "only",
        }
    }
}

/// What a disk can do (REPORT CAPABILITIES, SPC-4 §6.16.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct ReservationCapabilities {
    /// Write Exclusive – All Registrants (WR_EX_AR).
    pub all_registrants: bool,
    /// Write Exclusive – Registrants Only (WR_EX_RO).
    pub registrants_only: bool,
    /// Registrations can be made to survive the loss of the target's power (PTPL_C).
    pub persist_through_power_loss: bool,
}

impl ReservationCapabilities {
    /// The type that a cluster takes on such a disk; `None` if there is none that fences.
    pub const fn best(self, wanted: Registrants) -> Option<ReservationType> {
        match (self, wanted) {
            (Self { all_registrants: true, .. }, Registrants::All) => {
                Some(ReservationType::WriteExclusiveAllRegistrants)
            }
            (Self { registrants_only: true, .. }, _) => Some(ReservationType::WriteExclusiveRegistrantsOnly),
            (Self { .. }, _) => None,
        }
    }
}

/// One command. Each is answered exactly once, and not before its fate is known. Of each of the node's two users (its own
/// registration, the master's fence) one is under way at a time, beside the disk requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReservationOp {
    /// What can the disk do? Answered by [`ReservationAnswer::Capabilities`]. A disk without the service action but with
    /// READ KEYS answers [`ReservationError::Unsupported`].
    Capabilities,
    /// Who is registered? Answered by [`ReservationAnswer::Keys`].
    ReadKeys,
    /// What reservation stands? Answered by [`ReservationAnswer::Reservation`].
    ReadReservation,
    /// REGISTER AND IGNORE EXISTING KEY, for this nexus.
    Register {
        /// The own key; `None` ends the registration.
        key: Option<ReservationKey>,
        /// Set APTPL.
        persist: bool,
    },
    /// RESERVE, logical unit scope.
    Reserve {
        /// The own key.
        key: ReservationKey,
        /// Which.
        kind: ReservationType,
    },
    /// PREEMPT, or PREEMPT AND ABORT, of exactly one key. RESERVATION CONFLICT also says that either key is not registered.
    Preempt {
        /// The own key.
        key: ReservationKey,
        /// The key to be removed.
        victim: ReservationKey,
        /// The reservation's type: a holder's is replaced by the own one of that type.
        kind: ReservationType,
        /// PREEMPT AND ABORT: what the victim has under way is ended, too. A disk without it answers
        /// [`ReservationError::Unsupported`], and did nothing.
        abort: bool,
    },
    /// LOGICAL UNIT RESET: ends what anybody has under way at the disk, this node's own requests too. Answered when it is
    /// confirmed.
    ResetUnit,
}

/// What READ KEYS found.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Keys {
    /// PRGENERATION: one more with each change of registrations.
    pub generation: u32,
    /// The registered keys, one for each nexus, in no order: a key may be there twice.
    pub keys: Vec<ReservationKey, KEYS_MAX>,
    /// There are more than that.
    pub more: bool,
}

/// What READ RESERVATION found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Held {
    /// The holder's key; 0 where all registrants hold it.
    pub holder: ReservationKey,
    /// Of which type.
    pub kind: ReservationType,
}

/// The answer to a command that was executed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(clippy::large_enum_variant, reason = "it travels by reference")]
pub enum ReservationAnswer {
    /// To [`ReservationOp::Capabilities`].
    Capabilities(ReservationCapabilities),
    /// To [`ReservationOp::ReadKeys`].
    Keys(Keys),
    /// To [`ReservationOp::ReadReservation`]; `None`: none stands.
    Reservation(Option<Held>),
    /// To any other: it was executed with GOOD.
    Done,
}

/// What a UNIT ATTENTION said (SPC-4 annex F).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Attention {
    /// 29h: power on, reset, nexus loss. Requests of this nexus may have ended without a status.
    Reset,
    /// 2Ah/03h: the reservations were preempted.
    ReservationsPreempted,
    /// 2Ah/04h: the reservations were released.
    ReservationsReleased,
    /// 2Ah/05h: the registrations were preempted.
    RegistrationsPreempted,
}

impl Attention {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reset => "power on or reset",
            Self::ReservationsPreempted => "reservations preempted",
            Self::ReservationsReleased => "reservations released",
            Self::RegistrationsPreempted => "registrations preempted",
        }
    }
}

/// Why a command was not answered with GOOD.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ReservationError {
    /// RESERVATION CONFLICT: not registered, or no such key, or another reservation stands. Nothing was done.
    Conflict,
    /// The disk has no such command or service action (5/20/00, 5/24/00, 5/26/00). Nothing was done.
    Unsupported,
    /// A unit attention reached this node instead. Nothing was done.
    Attention(Attention),
    /// No status within `io_max`, and the abort is confirmed: it may have been done or not, and will not be any more.
    TimedOut,
    /// The disk does not answer any more.
    Gone,
    /// Anything else that the disk or its adapter reported, also an answer that cannot be read. It may have been done.
    Device,
}

impl fmt::Display for ReservationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Conflict => "reservation conflict",
            Self::Unsupported => "not supported",
            Self::Attention(attention) => attention.name(),
            Self::TimedOut => "timed out and aborted",
            Self::Gone => "the disk is gone",
            Self::Device => "device error",
        })
    }
}

/// What takes an answer.
pub type ReservationDone<'a> = dyn FnMut(DiskTag, Result<&ReservationAnswer, ReservationError>) + 'a;

/// The shared disk's persistent reservations.
pub trait Reservations {
    /// Begins a command. Two at most are under way at a time.
    ///
    /// # Errors
    /// If it cannot be begun; nothing was submitted, no answer will come.
    fn submit(&mut self, tag: DiskTag, op: &ReservationOp) -> Result<(), ReservationError>;

    /// Hands one answer to `done`, if there is one. False if there was none.
    fn poll(&mut self, done: &mut ReservationDone<'_>) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_life_and_is_never_zero() {
        for (node, incarnation, nonce) in
            [(0, 0, 0), (0, 1, 0xabcd), (5, 7, 0x1234_5678_9abc_def0), (63, u32::MAX, u64::MAX)]
        {
            let node = NodeId::new(node).unwrap();
            let key = ReservationKey::new(node, Incarnation(incarnation), BootNonce(nonce));
            let nonce_bits = nonce as u16;
            assert_eq!(key.owner(), Some(KeyOwner { node, incarnation: Incarnation(incarnation), nonce_bits }));
            assert_ne!(key.0, 0);
        }
        let five = NodeId::new(5).unwrap();
        assert_eq!(ReservationKey::new(five, Incarnation(7), BootNonce(0xdef0)).0, 0x5105_0000_0007_def0);
    }

    #[test]
    fn a_key_that_is_not_of_this_form_is_nobodys() {
        for raw in [0, 1, 0xabcd_ef01_2345_6789, 0x5140_0000_0001_0000, 0x51ff_0000_0001_0000, u64::MAX] {
            assert_eq!(ReservationKey(raw).owner(), None, "{raw:x}");
        }
    }

    #[test]
    fn spc_4_types_keep_their_numbers() {
        for code in 0..16 {
            let kind = ReservationType::from_code(code);
            assert_eq!(kind.code(), code);
            assert_eq!(kind.fences(), code == 5 || code == 7);
        }
        let all = ReservationCapabilities { all_registrants: true, registrants_only: true, ..Default::default() };
        assert_eq!(all.best(Registrants::All), Some(ReservationType::WriteExclusiveAllRegistrants));
        assert_eq!(all.best(Registrants::Only), Some(ReservationType::WriteExclusiveRegistrantsOnly));
        let only = ReservationCapabilities { all_registrants: false, ..all };
        assert_eq!(only.best(Registrants::All), Some(ReservationType::WriteExclusiveRegistrantsOnly));
        assert_eq!(ReservationCapabilities::default().best(Registrants::All), None);
    }
}
