//! Any text as a scenario file: a scenario, or problems that can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_scenario::Scenario;
use quorate_scenario::source::Source;

fuzz_target!(|text: &str| {
    if let Err(problems) = Scenario::parse(Source::new("fuzz.toml", text)) {
        assert!(!problems.list.is_empty());
        let _ = problems.render(false);
    }
});
