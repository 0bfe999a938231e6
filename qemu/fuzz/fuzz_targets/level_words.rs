//! Any text as the value of a `level=` word.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_node::ProbeLevel;

fuzz_target!(|word: &str| {
    match ProbeLevel::parse(word) {
        Ok(level) => _ = format!("{level:?}"),
        Err(error) => _ = error.to_string(),
    }
});
