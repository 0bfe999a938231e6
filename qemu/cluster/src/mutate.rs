//! `cargo cluster mutate`: the protocol code is broken on purpose, one fault at a time; the simulator must find each: by a
//! seed, or by a directed plan or a scenario.

use quorate_launch::{interrupt, workspace_root};
use quorate_model::catalog::switch;
use quorate_mutate::{Campaign, List, Mutation, Outcome, Plan, Report, render};

use crate::arguments::MutateOptions;
use crate::end::End;

/// Runs `mutate`.
pub fn mutate(options: &MutateOptions) -> End {
    let root = workspace_root();
    let list = match List::shipped() {
        Ok(list) => list,
        Err(error) => return End::CannotRun(error.to_string()),
    };
    let wrong = list.check(root);
    if !wrong.is_empty() {
        wrong.iter().for_each(|error| eprintln!("{error}"));
        return End::CannotRun(format!("{} entries of qemu/mutate/mutations.toml do not fit the sources", wrong.len()));
    }
    let unknown = list.mutations.iter().filter_map(|m| m.rule.as_deref()).find(|rule| switch(rule).is_none());
    if let Some(rule) = unknown {
        return End::CannotRun(format!("qemu/mutate/mutations.toml: the model checker has no rule `{rule}`"));
    }
    let mutations = match list.only(&options.only) {
        Ok(mutations) => mutations,
        Err(error) => return End::CannotRun(error.to_string()),
    };
    if options.list {
        for m in &mutations {
            println!("{}\n    {}\n    {}", m.name, m.file, m.breaks);
        }
        return End::Held;
    }
    let plan = Plan {
        workspace: root.to_owned(),
        place: root.join("target").join("mutate"),
        seeds: options.seeds.clone(),
        nodes: options.nodes.clone(),
        jobs: options.jobs,
        trust_tree: options.trust_tree,
        stop: interrupt::requested,
    };
    let campaign = match Campaign::begin(plan, &|line| eprintln!("{line}")) {
        Ok(campaign) => campaign,
        Err(error) => return End::CannotRun(error.to_string()),
    };
    match campaign.run(&mutations, &progress) {
        Ok(mut reports) => {
            for (report, mutation) in reports.iter_mut().zip(&mutations) {
                ask_the_model(report, mutation);
            }
            print!("{}", render(&reports));
            let all = reports.iter().all(|r| matches!(r.outcome, Outcome::Caught(_) | Outcome::ByModel(_)));
            if all { End::Held } else { End::Failed(None) }
        }
        Err(error) => End::CannotRun(error.to_string()),
    }
}

/// What no seed found the model checker must find without the rule.
fn ask_the_model(report: &mut Report, mutation: &Mutation) {
    let rule = mutation.rule.as_deref().filter(|_| report.outcome == Outcome::Survived);
    let Some(switch) = rule.and_then(switch) else { return };
    let found = switch.run();
    if let Some(counterexample) = found.counterexample() {
        report.outcome = Outcome::ByModel(counterexample.violation.invariant.to_string());
    }
    progress(report);
}

fn progress(report: &Report) {
    let Report { name, outcome, runs, directed, build_s, run_s } = report;
    let what = match outcome {
        Outcome::Caught(catch) => format!("found by {}: {}", catch.run.in_words(), catch.what),
        Outcome::Survived => "SURVIVED".to_owned(),
        Outcome::ByModel(invariant) => format!("found by the model checker without the rule: {invariant}"),
        Outcome::NoPlace(error) => error.clone(),
        Outcome::DoesNotCompile(errors) => format!("does not compile: {errors}"),
    };
    eprintln!("{name} ({runs} + {directed} runs, {build_s:.0} + {run_s:.0} s): {what}");
}
