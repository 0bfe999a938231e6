//! Any bytes as what a disk may answer to PERSISTENT RESERVE IN, and what must hold of what is read from them: nothing that
//! is not there, and whole only if it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_scsi::registrations::{Capabilities, FullStatus, Holder, Keys, TransportId};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(found) = Capabilities::parse(bytes) {
        if let Some(kind) = found.shut_out_writers() {
            assert!(found.kinds.is_none_or(|kinds| kinds.has(kind)));
        }
    }
    if let Ok(holder) = Holder::parse(bytes)
        && let Some(reservation) = holder.reservation
    {
        assert!(bytes.len() >= 22 && reservation.scope < 16);
    }
    if let Ok(keys) = Keys::parse(bytes) {
        let there = keys.iter().count();
        assert!(there <= keys.registered() && there <= bytes.len() / 8);
        assert_eq!(keys.is_whole(), there == keys.registered() && bytes.len() >= 8 + 8 * there);
        for key in keys.iter() {
            assert_eq!(keys.has(key), Some(true));
        }
    }
    if let Ok(status) = FullStatus::parse(bytes) {
        let mut used = 8;
        for registration in status.iter() {
            let name = registration.initiator.iscsi_name();
            assert!(name.is_none_or(|name| name.len() + 4 <= registration.initiator.0.len()));
            used += 24 + registration.initiator.0.len();
        }
        assert!(used <= bytes.len());
        assert!(!status.is_whole() || bytes.get(4..8) == Some(&((used - 8) as u32).to_be_bytes()));
    }
    let _ = TransportId(bytes).iscsi_name();
});
