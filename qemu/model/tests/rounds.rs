//! Rounds and barriers: what holds in every order, and that every rule is needed. One test, because a rule is left out for
//! the whole process.

use quorate_model::catalog::describe;
use quorate_model::rounds::catalog::{STORIES, SWITCHES, run};

#[test]
fn design_5_rounds_hold_in_every_order_and_each_rule_is_needed() {
    for switch in SWITCHES.iter().filter(|s| !s.far) {
        let report = switch.run();
        let found = report.counterexample().unwrap_or_else(|| panic!("{}: nothing found", switch.name));
        println!("{}: {} states: {}", switch.name, report.states, found.violation.invariant);
    }
    for (story, _) in STORIES.iter().filter(|(story, short)| *short && story.crashes == 0) {
        let report = run(story);
        assert!(report.held(), "{}", describe(&report));
        println!("{}: {} states, {:.1} s", story.name, report.states, report.seconds);
    }
}
