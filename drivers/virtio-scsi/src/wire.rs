//! The structures of the three queues and of the configuration space. (VirtIO 1.2 § 5.6.4, 5.6.6)

use heapless::Vec;
use quorate_scsi::bytes::{array, le32};
use quorate_scsi::cdb::Cdb;
use quorate_scsi::hba::{Address, Function, HbaEvent, Outcome, Response};
use quorate_scsi::sense::SENSE_MAX;

/// CDB bytes of a request; the device's default, which is never changed.
const CDB_BYTES: usize = 32;
/// Bytes of a request without its data.
pub const REQUEST_BYTES: usize = 19 + CDB_BYTES;
/// Bytes of a response without its data.
pub const RESPONSE_BYTES: usize = 12 + SENSE_MAX;
/// Bytes of a task management request without its response byte.
pub const TASK_BYTES: usize = 24;
/// Bytes of an event.
pub const EVENT_BYTES: usize = 16;
/// Bytes of the configuration that are read.
pub const CONFIG_BYTES: usize = 36;

/// The device's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Request queues.
    pub request_queues: u32,
    /// Data segments of one command at most.
    pub segments_max: u32,
    /// Sectors of 512 bytes of one command at most.
    pub sectors_max: u32,
    /// Commands in flight at one unit at most.
    pub commands_per_unit_max: u32,
    /// Bytes of an event.
    pub event_bytes: u32,
    /// Bytes of sense data.
    pub sense_bytes: u32,
    /// Bytes of a CDB.
    pub cdb_bytes: u32,
    /// Highest target number.
    pub target_max: u16,
    /// Highest logical unit number.
    pub lun_max: u32,
}

impl Config {
    /// Reads the configuration space.
    pub fn parse(bytes: &[u8; CONFIG_BYTES]) -> Self {
        let field = |offset| le32(bytes, offset).unwrap_or(0);
        Self {
            request_queues: field(0),
            segments_max: field(4),
            sectors_max: field(8),
            commands_per_unit_max: field(12),
            event_bytes: field(16),
            sense_bytes: field(20),
            cdb_bytes: field(24),
            target_max: (field(28) >> 16) as u16,
            lun_max: field(32),
        }
    }

    /// This driver can work with it: the default sizes, and limits that leave room for one command.
    pub fn is_usable(&self) -> bool {
        self.request_queues >= 1
            && self.segments_max >= 1
            && self.sectors_max >= 8
            && self.commands_per_unit_max >= 1
            && self.event_bytes as usize == EVENT_BYTES
            && self.sense_bytes as usize == SENSE_MAX
            && self.cdb_bytes as usize == CDB_BYTES
    }
}

/// The address of a unit: one level, flat addressing, behind virtio's leading 1.
fn lun(address: Address) -> [u8; 8] {
    let [high, low] = address.lun.to_be_bytes();
    [1, address.target, 0x40 | high & 0x3f, low, 0, 0, 0, 0]
}

fn address(lun: [u8; 8]) -> Address {
    let [_, target, high, low, ..] = lun;
    Address { target, lun: u16::from(high & 0x3f) << 8 | u16::from(low) }
}

/// A command, task attribute simple.
pub fn request(address: Address, id: u64, cdb: &Cdb) -> [u8; REQUEST_BYTES] {
    let mut bytes = [0; REQUEST_BYTES];
    let parts = lun(address).into_iter().chain(id.to_le_bytes()).chain([0; 3]).chain(cdb.as_bytes().iter().copied());
    for (to, from) in bytes.iter_mut().zip(parts) {
        *to = from;
    }
    bytes
}

/// A task management function; `id` is that of the command to abort.
pub fn task(address: Address, function: Function, id: u64) -> [u8; TASK_BYTES] {
    let subtype: u32 = match function {
        Function::Abort { .. } => 0,
        Function::AbortSet => 1,
        Function::ResetUnit => 5,
    };
    let mut bytes = [0; TASK_BYTES];
    let parts = 0u32.to_le_bytes().into_iter().chain(subtype.to_le_bytes()).chain(lun(address)).chain(id.to_le_bytes());
    for (to, from) in bytes.iter_mut().zip(parts) {
        *to = from;
    }
    bytes
}

/// FUNCTION COMPLETE and FUNCTION SUCCEEDED confirm; everything else does not.
pub fn task_confirmed(response: u8) -> bool {
    matches!(response, 0 | 10)
}

/// Reads a command's response; `None` if the slice is too short.
pub fn parse_response(slot: usize, bytes: &[u8]) -> Option<Outcome> {
    let sense_len = (le32(bytes, 0)? as usize).min(SENSE_MAX);
    let residual = le32(bytes, 4)?;
    let [status, response] = array::<2>(bytes, 10)?;
    let response = match response {
        0 => Response::Ok,
        1 => Response::Overrun,
        2 => Response::Aborted,
        3 => Response::BadTarget,
        4 => Response::Reset,
        5 => Response::Busy,
        6 => Response::TransportFailure,
        7 => Response::TargetFailure,
        8 => Response::NexusFailure,
        9 => Response::Failure,
        other => Response::Unknown(other),
    };
    // Sense data is there only if the command got as far as the unit.
    let sense_len = if response == Response::Ok { sense_len } else { 0 };
    let sense = bytes.get(12..)?.get(..sense_len)?;
    Some(Outcome { slot, response, status, residual, sense: Vec::from_slice(sense).ok()? })
}

/// A report on the event queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// One that says something.
    Report(HbaEvent),
    /// NO_EVENT.
    Nothing,
}

/// Reads an event; `None` if it is of an unknown kind.
pub fn parse_event(bytes: &[u8]) -> Option<Event> {
    const MISSED: u32 = 1 << 31;
    let kind = le32(bytes, 0)?;
    if kind & MISSED != 0 {
        return Some(Event::Report(HbaEvent::Missed));
    }
    let address = address(array(bytes, 4)?);
    let reason = le32(bytes, 12)?;
    let event = match kind {
        0 => return Some(Event::Nothing),
        1 => HbaEvent::TransportChanged { address, present: reason != 2 },
        // Asynchronous notification and parameter change both carry ASC and ASCQ or a media code;
        // only the second is asked for.
        3 => HbaEvent::ParametersChanged { address, asc: reason as u8, ascq: (reason >> 8) as u8 },
        _ => return None,
    };
    Some(Event::Report(event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: Address = Address { target: 5, lun: 0x102 };

    #[test]
    fn request_golden() {
        let bytes = request(AT, 0x0102_0304, &Cdb::read(1000, 1));
        assert_eq!(bytes[..8], [1, 5, 0x41, 2, 0, 0, 0, 0]);
        assert_eq!(bytes[8..16], [4, 3, 2, 1, 0, 0, 0, 0]);
        assert_eq!(bytes[16..19], [0; 3]);
        assert_eq!(bytes[19..29], [0x28, 0, 0, 0, 3, 0xe8, 0, 0, 1, 0]);
        assert_eq!(bytes[29..], [0; 22]);
    }

    #[test]
    fn task_golden() {
        let bytes = task(AT, Function::Abort { slot: 3 }, 9);
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 1, 5, 0x41, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(task(AT, Function::AbortSet, 0)[4], 1);
        assert_eq!(task(AT, Function::ResetUnit, 0)[4], 5);
        assert!(task_confirmed(0) && task_confirmed(10));
        assert!(!task_confirmed(11) && !task_confirmed(12) && !task_confirmed(0xff));
    }

    #[test]
    fn response_golden() {
        let mut bytes = [0u8; RESPONSE_BYTES];
        bytes[0] = 18;
        bytes[4] = 7;
        bytes[10] = 2;
        bytes[12] = 0x70;
        let outcome = parse_response(4, &bytes).unwrap();
        assert_eq!((outcome.slot, outcome.status, outcome.residual), (4, 2, 7));
        assert_eq!(outcome.response, Response::Ok);
        assert_eq!(outcome.sense.len(), 18);
        bytes[11] = 3;
        let outcome = parse_response(4, &bytes).unwrap();
        assert_eq!(outcome.response, Response::BadTarget);
        assert!(outcome.sense.is_empty());
        bytes = [0xff; RESPONSE_BYTES];
        assert_eq!(parse_response(0, &bytes).unwrap().response, Response::Unknown(0xff));
    }

    #[test]
    fn config_golden() {
        let mut bytes = [0u8; CONFIG_BYTES];
        for (offset, value) in [(0, 1u32), (4, 126), (8, 0xffff), (12, 128), (16, 16), (20, 96)] {
            bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes[24] = 32;
        bytes[30] = 255;
        let config = Config::parse(&bytes);
        assert!(config.is_usable());
        assert_eq!(config.target_max, 255);
        bytes[24] = 16;
        assert!(!Config::parse(&bytes).is_usable());
    }

    #[test]
    fn events_golden() {
        let mut bytes = [0u8; EVENT_BYTES];
        assert_eq!(parse_event(&bytes), Some(Event::Nothing));
        bytes[0] = 3;
        bytes[4..8].copy_from_slice(&[1, 2, 0, 1]);
        bytes[12..14].copy_from_slice(&[0x2a, 9]);
        let address = Address { target: 2, lun: 1 };
        assert_eq!(
            parse_event(&bytes),
            Some(Event::Report(HbaEvent::ParametersChanged { address, asc: 0x2a, ascq: 9 }))
        );
        bytes[0] = 1;
        bytes[12..14].copy_from_slice(&[2, 0]);
        assert_eq!(parse_event(&bytes), Some(Event::Report(HbaEvent::TransportChanged { address, present: false })));
        bytes[3] = 0x80;
        assert_eq!(parse_event(&bytes), Some(Event::Report(HbaEvent::Missed)));
        bytes[3] = 0;
        bytes[0] = 9;
        assert_eq!(parse_event(&bytes), None);
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_response(0, &bytes);
            let _ = parse_event(&bytes);
        }
    }
}
