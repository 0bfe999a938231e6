//! `cargo cluster model`: the model checker on the shipped code; every rule can be left out.

use quorate_model::catalog::{SWITCHES, Size, chosen, describe, switch};
use quorate_model::explore::Report;
use quorate_model::rounds::catalog as rounds;

use crate::arguments::ModelOptions;
use crate::end::End;

/// Runs `model`.
pub fn model(options: &ModelOptions) -> End {
    if let Some(name) = &options.without {
        return without(name);
    }
    let stories: Vec<_> = rounds::STORIES
        .iter()
        .filter(|(story, short)| {
            if options.names.is_empty() {
                *short || !options.short
            } else {
                options.names.contains(&story.name.to_owned())
            }
        })
        .filter(|_| options.nodes.is_none_or(|n| n == 3))
        .collect();
    let names: Vec<String> =
        options.names.iter().filter(|n| stories.iter().all(|(s, _)| s.name != **n)).cloned().collect();
    let models = match chosen(&names, options.nodes) {
        Ok(_) if names.is_empty() && !options.names.is_empty() => Vec::new(),
        Ok(models) if models.is_empty() && stories.is_empty() => {
            return End::CannotRun("no model has so many nodes".to_owned());
        }
        Ok(models) => models,
        Err(name) => return End::CannotRun(format!("there is no model '{name}'; without a name all are run")),
    };
    let size = if options.short { Size::Short } else { Size::Full };
    let begun = std::time::Instant::now();
    let (mut failed, mut states, mut transitions) = (Vec::new(), 0, 0);
    let mut take = |name: &'static str, report: &Report| {
        println!("{}", describe(report));
        states += report.states;
        transitions += report.transitions;
        if !report.held() {
            failed.push(name);
        }
    };
    for model in &models {
        println!("{}", model.about);
        take(model.name, &model.run(size));
    }
    for (story, _) in &stories {
        println!("the shipped nodes, whole: every order of messages and acknowledgements");
        take(story.name, &rounds::run(story));
    }
    if !failed.is_empty() {
        return End::Failed(Some(format!("not held: {}", failed.join(", "))));
    }
    println!(
        "{} models held: {states} states, {transitions} transitions in {:.1} s; {} rules can be left out with --without RULE",
        models.len() + stories.len(),
        begun.elapsed().as_secs_f64(),
        SWITCHES.len() + rounds::SWITCHES.len()
    );
    End::Held
}

/// The counterexample without one rule, or for each rule in turn.
fn without(name: &str) -> End {
    let switches: Vec<_> = if name == "each" { SWITCHES.iter().collect() } else { switch(name).into_iter().collect() };
    let round_switches: Vec<_> = rounds::SWITCHES.iter().filter(|s| name == "each" || s.name == name).collect();
    if switches.is_empty() && round_switches.is_empty() {
        let names = SWITCHES.iter().map(|s| (s.name, s.rule));
        let names = names.chain(rounds::SWITCHES.iter().map(|s| (s.name, s.rule)));
        let names: Vec<_> = names.map(|(name, rule)| format!("  {name:<26} {rule}")).collect();
        return End::CannotRun(format!("there is no rule '{name}'; there are `each` and\n{}", names.join("\n")));
    }
    let runs = switches.iter().map(|s| (s.name, s.rule, s.cost.name(), s.run()));
    let round_runs = round_switches.iter().map(|s| (s.name, s.rule, "rounds", s.run()));
    let several = switches.len() + round_switches.len() > 1;
    let mut not_found = Vec::new();
    for (name, rule, cost, report) in runs.chain(round_runs) {
        match report.counterexample() {
            None => not_found.push(name),
            Some(found) if several => println!(
                "{name:<26} {cost:<10} {:>3} steps, {:>8} states, {:>5.1} s: {}",
                found.steps.len(),
                report.states,
                report.seconds,
                found.violation.invariant
            ),
            Some(_) => println!("without: {rule} (costs {cost})\n{}", describe(&report)),
        }
    }
    if not_found.is_empty() {
        End::Held
    } else {
        End::Failed(Some(format!("no counterexample without: {}", not_found.join(", "))))
    }
}
