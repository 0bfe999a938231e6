//! Persistent reservations: what can be asked of a unit and what can be changed at it. (SPC-4 § 5.13, 6.15, 6.16)
//!
//! An initiator port registers a key with the unit. A reservation then lets some registered ports do
//! what others may not; its kind says who may do what. Answers are in [`crate::registrations`].
//!
//! | command | service action | SPC-4 | here |
//! |---|---|---|---|
//! | PERSISTENT RESERVE IN | READ KEYS | § 6.15.2 | [`Report::Keys`] |
//! | | READ RESERVATION | § 6.15.3 | [`Report::Reservation`] |
//! | | REPORT CAPABILITIES | § 6.15.4 | [`Report::Capabilities`] |
//! | | READ FULL STATUS | § 6.15.5 | [`Report::FullStatus`] |
//! | PERSISTENT RESERVE OUT | REGISTER | § 5.13.7 | [`Change::Register`] |
//! | | RESERVE | § 5.13.9 | [`Change::Reserve`] |
//! | | RELEASE | § 5.13.11.2 | [`Change::Release`] |
//! | | CLEAR | § 5.13.11.6 | [`Change::Clear`] |
//! | | PREEMPT | § 5.13.11.4 | [`Change::Preempt`] |
//! | | PREEMPT AND ABORT | § 5.13.11.5 | [`Change::PreemptAndAbort`] |
//! | | REGISTER AND IGNORE EXISTING KEY | § 5.13.7 | [`Change::RegisterAnyway`] |
//!
//! Not used: REGISTER AND MOVE; SPEC_I_PT and ALL_TG_PT (a registration is for the port that sends it
//! and the port that it is sent to); scopes other than the logical unit, which SPC-4 does not have.

use crate::cdb::Cdb;
use core::fmt;

/// Bytes of a PERSISTENT RESERVE OUT parameter list. (SPC-4 § 6.16.3)
pub const PARAMETERS_BYTES: usize = 24;

/// A reservation key. Zero is no key: registering it removes the registration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(pub u64);

impl Key {
    /// No key.
    pub const NONE: Self = Self(0);
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

/// Who may do what while the unit is reserved. (SPC-4 § 6.15.3.4)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only the holder writes.
    WriteExclusive,
    /// Only the holder reads and writes.
    ExclusiveAccess,
    /// Only registered ports write; the reservation ends with its holder's registration.
    WriteExclusiveRegistrantsOnly,
    /// Only registered ports read and write; the reservation ends with its holder's registration.
    ExclusiveAccessRegistrantsOnly,
    /// Only registered ports write, and all of them are holders.
    WriteExclusiveAllRegistrants,
    /// Only registered ports read and write, and all of them are holders.
    ExclusiveAccessAllRegistrants,
}

impl Kind {
    /// All kinds, for those who try each.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// The TYPE field.
    pub fn code(self) -> u8 {
        match self {
            Self::WriteExclusive => 1,
            Self::ExclusiveAccess => 3,
            Self::WriteExclusiveRegistrantsOnly => 5,
            Self::ExclusiveAccessRegistrantsOnly => 6,
            Self::WriteExclusiveAllRegistrants => 7,
            Self::ExclusiveAccessAllRegistrants => 8,
        }
    }

    /// The kind of a TYPE field's low four bits; `None` for the obsolete and reserved ones.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code & 0xf)
    }

    /// Every registered port holds it: it ends with the last registration, not with one's.
    pub fn is_held_by_all(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }
}

/// What can be asked. (SPC-4 § 6.15)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    /// The registered keys: [`crate::registrations::Keys`].
    Keys,
    /// The reservation: [`crate::registrations::Holder`].
    Reservation,
    /// What the unit can do: [`crate::registrations::Capabilities`].
    Capabilities,
    /// Every registration in full: [`crate::registrations::FullStatus`].
    FullStatus,
}

impl Report {
    /// The command, for at most `allocation` bytes.
    pub fn cdb(self, allocation: u16) -> Cdb {
        let action = match self {
            Self::Keys => 0,
            Self::Reservation => 1,
            Self::Capabilities => 2,
            Self::FullStatus => 3,
        };
        Cdb::persistent_reserve_in(action, allocation)
    }
}

/// What can be changed. `key` is everywhere the key that the sender has registered; with any other the
/// unit answers RESERVATION CONFLICT. (SPC-4 § 6.16)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Registers `new` if `key` is what is registered ([`Key::NONE`]: nothing is). `new` may be
    /// [`Key::NONE`] to end the registration.
    Register {
        /// What is registered.
        key: Key,
        /// What shall be.
        new: Key,
        /// All registrations and the reservation shall survive a loss of power of the target.
        persist: bool,
    },
    /// Registers `new`, whatever is registered.
    RegisterAnyway {
        /// What shall be.
        new: Key,
        /// As in [`Change::Register`].
        persist: bool,
    },
    /// Reserves the unit; GOOD too if it is reserved so already by this port.
    Reserve {
        /// The own key.
        key: Key,
        /// How.
        kind: Kind,
    },
    /// Gives the reservation up; does nothing where it is not held by this port.
    Release {
        /// The own key.
        key: Key,
        /// How it is reserved.
        kind: Kind,
    },
    /// Removes all registrations, one's own too, and the reservation.
    Clear {
        /// The own key.
        key: Key,
    },
    /// Removes every registration with the key `victim`, and takes the reservation over if `victim`
    /// held it. Commands of the victim that are under way may still be carried out.
    Preempt {
        /// The own key.
        key: Key,
        /// The key to remove. [`Key::NONE`] is every other one where all registered ports hold the reservation.
        victim: Key,
        /// How the unit is reserved afterwards, if it is taken over.
        kind: Kind,
    },
    /// As [`Change::Preempt`], and answered only when no command of the victim is under way any more.
    PreemptAndAbort {
        /// The own key.
        key: Key,
        /// The key to remove.
        victim: Key,
        /// As in [`Change::Preempt`].
        kind: Kind,
    },
}

impl Change {
    /// The command; its parameter list is [`Change::parameters`].
    pub fn cdb(&self) -> Cdb {
        let (action, kind) = match *self {
            Self::Register { .. } => (0, None),
            Self::Reserve { kind, .. } => (1, Some(kind)),
            Self::Release { kind, .. } => (2, Some(kind)),
            Self::Clear { .. } => (3, None),
            Self::Preempt { kind, .. } => (4, Some(kind)),
            Self::PreemptAndAbort { kind, .. } => (5, Some(kind)),
            Self::RegisterAnyway { .. } => (6, None),
        };
        // Scope 0 in the high bits: the logical unit. (SPC-4 § 6.15.3.3)
        let scope_and_type = kind.map_or(0, Kind::code);
        Cdb::persistent_reserve_out(action, scope_and_type, PARAMETERS_BYTES as u32)
    }

    /// The parameter list. (SPC-4 § 6.16.3)
    pub fn parameters(&self) -> [u8; PARAMETERS_BYTES] {
        let (key, other, persist) = match *self {
            Self::Register { key, new, persist } => (key, new, persist),
            // The own key is ignored. (SPC-4 § 6.16.3)
            Self::RegisterAnyway { new, persist } => (Key::NONE, new, persist),
            Self::Reserve { key, .. } | Self::Release { key, .. } | Self::Clear { key } => (key, Key::NONE, false),
            Self::Preempt { key, victim, .. } | Self::PreemptAndAbort { key, victim, .. } => (key, victim, false),
        };
        let mut list = [0; PARAMETERS_BYTES];
        // APTPL is bit 0 of byte 20; SPEC_I_PT and ALL_TG_PT beside it stay off.
        let flags = [0, 0, 0, 0, u8::from(persist)];
        let bytes = key.0.to_be_bytes().into_iter().chain(other.0.to_be_bytes()).chain(flags);
        for (to, from) in list.iter_mut().zip(bytes) {
            *to = from;
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Key = Key(0x0102_0304_0506_0708);
    const OTHER: Key = Key(0x1112_1314_1516_1718);

    #[test]
    fn spc_4_6_15_1_persistent_reserve_in() {
        assert_eq!(Report::Keys.cdb(0x0408).as_bytes(), [0x5e, 0, 0, 0, 0, 0, 0, 4, 8, 0]);
        assert_eq!(Report::Reservation.cdb(24).as_bytes(), [0x5e, 1, 0, 0, 0, 0, 0, 0, 24, 0]);
        assert_eq!(Report::Capabilities.cdb(8).as_bytes(), [0x5e, 2, 0, 0, 0, 0, 0, 0, 8, 0]);
        assert_eq!(Report::FullStatus.cdb(0xffff).as_bytes(), [0x5e, 3, 0, 0, 0, 0, 0, 0xff, 0xff, 0]);
    }

    #[test]
    fn spc_4_6_16_1_persistent_reserve_out() {
        let kind = Kind::WriteExclusiveAllRegistrants;
        let cases = [
            (Change::Register { key: OWN, new: OTHER, persist: false }, 0, 0),
            (Change::Reserve { key: OWN, kind }, 1, 7),
            (Change::Release { key: OWN, kind: Kind::ExclusiveAccess }, 2, 3),
            (Change::Clear { key: OWN }, 3, 0),
            (Change::Preempt { key: OWN, victim: OTHER, kind: Kind::WriteExclusiveRegistrantsOnly }, 4, 5),
            (Change::PreemptAndAbort { key: OWN, victim: OTHER, kind }, 5, 7),
            (Change::RegisterAnyway { new: OTHER, persist: true }, 6, 0),
        ];
        for (change, action, kind) in cases {
            assert_eq!(change.cdb().as_bytes(), [0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], "{change:?}");
        }
    }

    #[test]
    fn spc_4_6_16_3_parameter_list() {
        let list = |change: Change| change.parameters();
        let mut expected = [0; 24];
        expected[..8].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(list(Change::Clear { key: OWN }), expected);
        assert_eq!(list(Change::Reserve { key: OWN, kind: Kind::WriteExclusive }), expected);
        assert_eq!(list(Change::Release { key: OWN, kind: Kind::WriteExclusive }), expected);
        expected[8..16].copy_from_slice(&[0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
        assert_eq!(list(Change::Register { key: OWN, new: OTHER, persist: false }), expected);
        let kind = Kind::WriteExclusive;
        assert_eq!(list(Change::Preempt { key: OWN, victim: OTHER, kind }), expected);
        assert_eq!(list(Change::PreemptAndAbort { key: OWN, victim: OTHER, kind }), expected);
        expected[20] = 1;
        assert_eq!(list(Change::Register { key: OWN, new: OTHER, persist: true }), expected);
        expected[..8].fill(0);
        assert_eq!(list(Change::RegisterAnyway { new: OTHER, persist: true }), expected);
    }

    #[test]
    fn spc_4_6_15_3_4_kinds() {
        let codes = [1, 3, 5, 6, 7, 8];
        assert_eq!(Kind::ALL.map(Kind::code), codes);
        for code in 0..=255 {
            let known = codes.contains(&(code & 0xf));
            assert_eq!(Kind::from_code(code).is_some(), known, "{code}");
        }
        assert!(Kind::WriteExclusiveAllRegistrants.is_held_by_all());
        assert!(!Kind::WriteExclusiveRegistrantsOnly.is_held_by_all());
    }
}
