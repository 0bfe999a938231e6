//! Any text as a trace, given to the checker and to the trace's own reader.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_check::{Options, check};
use quorate_trace::Line;

fuzz_target!(|text: &str| {
    for options in [Options::default(), Options::simulator()] {
        if let Ok(report) = check(text.as_bytes(), options) {
            let _ = report.to_string();
        }
    }
    for line in text.lines() {
        let _ = Line::parse(line);
    }
});
