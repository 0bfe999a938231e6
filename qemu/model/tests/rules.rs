//! Every rule is needed: left out, the checker finds the run that shows it; kept, the same search finds nothing.

use quorate_model::catalog::{Cost, MODELS, SWITCHES, Size, describe};

/// The rule's counterexample, and none with the rule.
fn needed(names: &[&str]) {
    for name in names {
        let switch = SWITCHES.iter().find(|s| s.name == *name).expect("a rule of that name");
        let report = switch.run();
        let found = report.counterexample().unwrap_or_else(|| panic!("{name}: nothing found\n{}", describe(&report)));
        let invariant = found.violation.invariant;
        assert!(
            report.invariants.contains(&invariant),
            "{name}: {invariant:?} is not among what the model says it checks"
        );
        assert!(invariant.contains(switch.breaks), "{name} breaks {invariant:?}: {}", describe(&report));
        // The whole of it would take as long again; the short models search all of theirs with all rules.
        let kept = switch.run_with_rule(report.states.clamp(10_000, 300_000));
        assert_eq!(kept.counterexample(), None, "{name}: broken with the rule, too");
        println!("{name}: {} steps, {} states: {invariant}", found.steps.len(), report.states);
    }
}

/// Those whose counterexamples lie far away; the rest is quick.
const FAR: [&str; 5] =
    ["promise-keeps-accepted", "trust-by-name", "torn-read-again", "alternating-slots", "unclean-birth-waits"];

#[test]
fn design_4_flags_and_ballots_each_rule_is_needed() {
    let quick: Vec<_> = SWITCHES.iter().map(|s| s.name).filter(|n| !FAR.contains(n)).collect();
    needed(&quick);
}

#[test]
fn design_3_and_4_rules_whose_counterexamples_are_long_are_needed() {
    needed(&FAR);
}

#[test]
fn every_safety_rule_breaks_safety() {
    // What leaving a rule out costs is told from what it breaks; a rule that costs only time must not claim more.
    for switch in SWITCHES.iter().filter(|s| s.cost != Cost::Safety) {
        assert!(!switch.breaks.is_empty(), "{}: says what it costs, not what shows it", switch.name);
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = SWITCHES.iter().map(|s| s.name).chain(MODELS.iter().map(|m| m.name)).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn all_rules_kept_nothing_breaks() {
    for model in MODELS {
        let report = model.run(Size::Short);
        assert!(report.held(), "{}", describe(&report));
        println!("{}: {} states, {:.1} s", report.model, report.states, report.seconds);
    }
}
