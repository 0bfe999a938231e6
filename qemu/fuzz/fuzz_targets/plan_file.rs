//! Any text as the plan of a simulator run: an error, or a plan that is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_sim::Plan;

fuzz_target!(|text: &str| {
    match Plan::parse(text) {
        Ok(plan) => {
            if let Ok(written) = plan.to_text() {
                assert_eq!(Plan::parse(&written).as_ref(), Ok(&plan), "{written}");
            }
        }
        Err(error) => _ = error.to_string(),
    }
});
