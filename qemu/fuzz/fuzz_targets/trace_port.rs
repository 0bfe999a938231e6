//! Any bytes on the trace port, cut into any pieces: records and troubles, and the decoder finds its way back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_trace::{Line, PortDecoder};

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let mut decoder = PortDecoder::new();
    for piece in &pieces {
        decoder.push(piece, |record| {
            if let Ok(record) = record {
                let line = Line::of_record(0, 0, record).to_json();
                assert!(Line::parse(&line).is_ok(), "{line}");
            }
        });
    }
    let _ = decoder.end();
});
