//! Sense data: why a command was refused. (SPC-4 § 4.5)
//!
//! Four response codes: 70h and 72h are about the command they answer, 71h and 73h ("deferred") about
//! an earlier one; 7xh even is fixed, 72h and 73h descriptor format.

use crate::bytes::{array, be32, be64};
use core::fmt;

/// Sense bytes that are kept; more is never sent by block devices.
pub const SENSE_MAX: usize = 96;

/// Sense key, the coarse reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // SPC-4 Table 55 names them; there is nothing to add.
pub enum Key {
    NoSense,
    RecoveredError,
    NotReady,
    MediumError,
    HardwareError,
    IllegalRequest,
    UnitAttention,
    DataProtect,
    BlankCheck,
    VendorSpecific,
    CopyAborted,
    AbortedCommand,
    Reserved,
    VolumeOverflow,
    Miscompare,
    Completed,
}

impl Key {
    fn from_low_bits(byte: u8) -> Self {
        match byte & 0xf {
            0x0 => Self::NoSense,
            0x1 => Self::RecoveredError,
            0x2 => Self::NotReady,
            0x3 => Self::MediumError,
            0x4 => Self::HardwareError,
            0x5 => Self::IllegalRequest,
            0x6 => Self::UnitAttention,
            0x7 => Self::DataProtect,
            0x8 => Self::BlankCheck,
            0x9 => Self::VendorSpecific,
            0xa => Self::CopyAborted,
            0xb => Self::AbortedCommand,
            0xd => Self::VolumeOverflow,
            0xe => Self::Miscompare,
            0xf => Self::Completed,
            _ => Self::Reserved,
        }
    }

    /// The key in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::NoSense => "no sense",
            Self::RecoveredError => "recovered error",
            Self::NotReady => "not ready",
            Self::MediumError => "medium error",
            Self::HardwareError => "hardware error",
            Self::IllegalRequest => "illegal request",
            Self::UnitAttention => "unit attention",
            Self::DataProtect => "data protect",
            Self::BlankCheck => "blank check",
            Self::VendorSpecific => "vendor specific",
            Self::CopyAborted => "copy aborted",
            Self::AbortedCommand => "aborted command",
            Self::Reserved => "reserved sense key",
            Self::VolumeOverflow => "volume overflow",
            Self::Miscompare => "miscompare",
            Self::Completed => "completed",
        }
    }
}

/// Parsed sense data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sense {
    /// Coarse reason.
    pub key: Key,
    /// Additional sense code.
    pub asc: u8,
    /// Additional sense code qualifier.
    pub ascq: u8,
    /// It is about an earlier command, not the one it answers.
    pub deferred: bool,
    /// The INFORMATION field, where valid: mostly the block address that failed.
    pub information: Option<u64>,
}

impl Sense {
    /// Reads sense data; `None` if it is too short or of an unknown format.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let code = first & 0x7f;
        match code {
            0x70 | 0x71 => Self::parse_fixed(bytes, first & 0x80 != 0, code == 0x71),
            0x72 | 0x73 => Self::parse_descriptors(bytes, code == 0x73),
            _ => None,
        }
    }

    fn parse_fixed(bytes: &[u8], valid: bool, deferred: bool) -> Option<Self> {
        let key = Key::from_low_bits(*bytes.get(2)?);
        let additional = bytes.get(7).copied().unwrap_or(0);
        // A field counts only if both the transport and the additional length reach it.
        let field = |offset: usize| {
            let reached = offset < 8 + usize::from(additional);
            bytes.get(offset).copied().filter(|_| reached).unwrap_or(0)
        };
        Some(Self {
            key,
            asc: field(12),
            ascq: field(13),
            deferred,
            information: be32(bytes, 3).filter(|_| valid).map(u64::from),
        })
    }

    fn parse_descriptors(bytes: &[u8], deferred: bool) -> Option<Self> {
        let [_, key, asc, ascq] = array::<4>(bytes, 0)?;
        let additional = usize::from(bytes.get(7).copied().unwrap_or(0));
        let end = bytes.len().min(8 + additional);
        let mut rest = bytes.get(8..end).unwrap_or(&[]);
        let mut information = None;
        while let Some([kind, len]) = array::<2>(rest, 0) {
            if kind == 0 && len == 0x0a && rest.get(2).is_some_and(|flags| flags & 0x80 != 0) {
                information = be64(rest, 4);
            }
            rest = rest.get(2 + usize::from(len)..).unwrap_or(&[]);
        }
        Some(Self { key: Key::from_low_bits(key), asc, ascq, deferred, information })
    }

    /// A unit attention after which reservations and registrations may be other than they were: a reset
    /// or lost nexus (29h), reservations preempted (2Ah/03h) or released (04h), registrations preempted
    /// (05h). Targets differ in which of these they send, so they mean the same here. The rest of 2Ah is
    /// about other parameters. The command that it answers was not executed. (SPC-4 § 5.13.11.4,
    /// SAM-5 § 5.14)
    pub fn concerns_reservations(&self) -> bool {
        self.key == Key::UnitAttention && matches!((self.asc, self.ascq), (0x29, _) | (0x2a, 0x03..=0x05))
    }

    /// The additional sense code in words, for those a block device and its cluster meet.
    pub fn words(&self) -> &'static str {
        ADDITIONAL
            .iter()
            .find(|(asc, ascq, _)| *asc == self.asc && ascq.is_none_or(|ascq| ascq == self.ascq))
            .map_or("unnamed additional sense code", |(_, _, words)| words)
    }
}

impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, asc, ascq, .. } = self;
        let deferred = if self.deferred { "deferred " } else { "" };
        write!(f, "{deferred}{}: {} ({asc:02x}/{ascq:02x})", key.words(), self.words())
    }
}

/// ASC, ASCQ (`None`: any), words. Exact qualifiers come before the general entry. (SPC-4 annex D)
const ADDITIONAL: &[(u8, Option<u8>, &str)] = &[
    (0x00, Some(0x00), "no additional sense information"),
    (0x00, Some(0x06), "i/o process terminated"),
    (0x04, Some(0x01), "logical unit is becoming ready"),
    (0x04, Some(0x02), "initializing command required"),
    (0x04, Some(0x03), "manual intervention required"),
    (0x04, Some(0x04), "format in progress"),
    (0x04, Some(0x09), "self-test in progress"),
    (0x04, Some(0x0a), "asymmetric access state transition"),
    (0x04, Some(0x0b), "target port in standby state"),
    (0x04, Some(0x0c), "target port in unavailable state"),
    (0x04, None, "logical unit not ready"),
    (0x08, Some(0x00), "logical unit communication failure"),
    (0x0c, None, "write error"),
    (0x11, None, "unrecovered read error"),
    (0x20, Some(0x00), "invalid command operation code"),
    (0x21, Some(0x00), "logical block address out of range"),
    (0x24, Some(0x00), "invalid field in cdb"),
    (0x25, Some(0x00), "logical unit not supported"),
    (0x26, None, "invalid field in parameter list"),
    (0x27, None, "write protected"),
    (0x29, Some(0x01), "power on occurred"),
    (0x29, Some(0x03), "bus device reset function occurred"),
    (0x29, Some(0x04), "device internal reset"),
    (0x29, Some(0x07), "i_t nexus loss occurred"),
    (0x29, None, "power on, reset, or bus device reset occurred"),
    (0x2a, Some(0x01), "mode parameters changed"),
    (0x2a, Some(0x03), "reservations preempted"),
    (0x2a, Some(0x04), "reservations released"),
    (0x2a, Some(0x05), "registrations preempted"),
    (0x2a, Some(0x06), "asymmetric access state changed"),
    (0x2a, Some(0x09), "capacity data has changed"),
    (0x2a, None, "parameters changed"),
    (0x2f, None, "commands cleared by another initiator"),
    (0x3a, None, "medium not present"),
    (0x3f, Some(0x0e), "reported luns data has changed"),
    (0x3f, None, "target operating conditions have changed"),
    (0x44, None, "internal target failure"),
    (0x47, None, "scsi parity error"),
    (0x48, None, "initiator detected error message received"),
    (0x4b, None, "data phase error"),
    (0x5d, None, "failure prediction threshold exceeded"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fixed_format_golden() {
        // QEMU's answer to a read beyond the end.
        let mut bytes = [0u8; 18];
        bytes[0] = 0x70;
        bytes[2] = 5;
        bytes[7] = 10;
        bytes[12] = 0x21;
        let sense = Sense::parse(&bytes).unwrap();
        assert_eq!((sense.key, sense.asc, sense.ascq), (Key::IllegalRequest, 0x21, 0));
        assert_eq!(sense.information, None);
        assert_eq!(std::format!("{sense}"), "illegal request: logical block address out of range (21/00)");
        bytes[0] = 0xf1;
        bytes[3..7].copy_from_slice(&[0, 1, 2, 3]);
        let sense = Sense::parse(&bytes).unwrap();
        assert!(sense.deferred);
        assert_eq!(sense.information, Some(0x0001_0203));
    }

    #[test]
    fn fixed_format_cut_short_keeps_the_key() {
        let sense = Sense::parse(&[0x70, 0, 6]).unwrap();
        assert_eq!((sense.key, sense.asc), (Key::UnitAttention, 0));
        // The additional length does not reach the code.
        let mut bytes = [0x29u8; 18];
        bytes[0] = 0x70;
        bytes[7] = 2;
        assert_eq!(Sense::parse(&bytes).unwrap().asc, 0);
        assert_eq!(Sense::parse(&[0x70, 0]), None);
    }

    #[test]
    fn descriptor_format_golden() {
        let bytes = [
            0x72, 3, 0x11, 1, 0, 0, 0, 20, //
            0x02, 6, 0, 0, 0, 0, 0, 0, // sense key specific, skipped
            0x00, 0x0a, 0x80, 0, 0, 0, 0, 0, 0, 0, 2, 1, // information
        ];
        let sense = Sense::parse(&bytes).unwrap();
        assert_eq!((sense.key, sense.asc, sense.ascq), (Key::MediumError, 0x11, 1));
        assert_eq!(sense.information, Some(0x201));
        assert!(!sense.deferred);
        let deferred = [0x73, 4, 0x44, 0];
        assert!(Sense::parse(&deferred).unwrap().deferred);
    }

    #[test]
    fn unknown_formats_are_none() {
        assert_eq!(Sense::parse(&[]), None);
        assert_eq!(Sense::parse(&[0; 18]), None);
        assert_eq!(Sense::parse(&[0x7f; 18]), None);
    }

    #[test]
    fn exact_qualifiers_win_over_general_words() {
        let mut sense = Sense::parse(&[0x72, 6, 0x2a, 0x05]).unwrap();
        assert_eq!(sense.words(), "registrations preempted");
        sense.ascq = 0x77;
        assert_eq!(sense.words(), "parameters changed");
        sense.asc = 0xff;
        assert_eq!(sense.words(), "unnamed additional sense code");
    }

    #[test]
    fn attentions_that_concern_reservations() {
        let concerns = |bytes| Sense::parse(bytes).unwrap().concerns_reservations();
        assert!(concerns(&[0x72, 6, 0x29, 0x07]));
        assert!(concerns(&[0x72, 6, 0x2a, 0x03]) && concerns(&[0x72, 6, 0x2a, 0x05]));
        assert!(!concerns(&[0x72, 6, 0x3f, 0x0e]) && !concerns(&[0x72, 6, 0x2a, 0x09]));
        assert!(!concerns(&[0x72, 5, 0x2a, 0x05]));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(sense) = Sense::parse(&bytes) {
                let _ = std::format!("{sense}");
            }
        }

        #[test]
        fn any_descriptors_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = std::vec![0x72];
            bytes.extend(tail);
            let _ = Sense::parse(&bytes);
        }
    }
}
