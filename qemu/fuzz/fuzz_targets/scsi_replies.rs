//! Any bytes as what a disk may answer: sense data, INQUIRY and its pages, capacities, lists of units.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_scsi::{capacity, inquiry, sense};

fuzz_target!(|bytes: &[u8]| {
    if let Some(sense) = sense::Sense::parse(bytes) {
        let _ = sense.words();
    }
    if let Some(inquiry) = inquiry::Inquiry::parse(bytes) {
        let _ = inquiry.is_disk();
    }
    for page in [0x00, 0x80, 0x83, 0xb0] {
        let _ = inquiry::page_body(bytes, page);
        let _ = inquiry::lists_page(bytes, page);
    }
    for designator in inquiry::parse_designators(bytes) {
        let _ = designator.to_string();
    }
    let _ = inquiry::parse_serial(bytes);
    let _ = inquiry::BlockLimits::parse(bytes);
    let _ = capacity::parse_capacity_10(bytes);
    let _ = capacity::parse_capacity_16(bytes);
    let _ = capacity::parse_luns(bytes);
});
