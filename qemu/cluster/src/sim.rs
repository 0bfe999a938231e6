//! `cargo cluster sim`: the same node code in the deterministic simulator, on virtual time.

use std::ops::Range;
use std::path::{Path, PathBuf};

use quorate_check::{Checker, Options};
use quorate_scenario::Scenario;
use quorate_scenario::engine;
use quorate_sim::{RunOptions, ScenarioWorld, run_scenario_from, run_seeds};

use crate::arguments::SimOptions;
use crate::end::End;
use crate::play::end_is_terminal;
use crate::{replay, report, what_if};

/// Runs `sim`.
pub fn sim(options: &SimOptions) -> End {
    match &options.replay {
        Some(path) => replay::replay(path, options),
        None if options.crash_points => replay::crash_points(options),
        None if options.files.is_empty() => seeds(options),
        None => files(options),
    }
}

/// Parses `A..B`; `A` alone is one seed.
///
/// # Errors
/// What it should look like.
pub fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |part: &str| part.parse::<u64>().map_err(|_| format!("'{part}' is no seed; give A..B, as 0..100"));
    let range = match text.split_once("..") {
        Some((from, to)) => number(from)?..number(to)?,
        None => {
            let seed = number(text)?;
            seed..seed.checked_add(1).ok_or("this seed has no next one; give A..B")?
        }
    };
    if range.is_empty() { Err(format!("{text}: there is no seed in it")) } else { Ok(range) }
}

/// Random faults for every seed.
fn seeds(options: &SimOptions) -> End {
    let range = options.seeds.clone().unwrap_or(0..100);
    let one = range.end - range.start == 1;
    let wanted = options.trace.is_some() || options.pictures.any();
    if wanted && !one {
        return End::CannotRun(
            "--trace, --report and --perfetto without a file take one seed: --seeds S..S+1".to_owned(),
        );
    }
    let run = RunOptions { keep_trace: wanted, groups: options.groups.then_some(true), ..RunOptions::default() };
    let begun = std::time::Instant::now();
    let mut trace = Vec::new();
    let mut done = 0u64;
    let total = range.end - range.start;
    let result = run_seeds(range, options.nodes, &run, |outcome| {
        done += 1;
        if done.is_multiple_of(100) {
            eprintln!("{done} of {total} seeds");
        }
        if one {
            trace.clone_from(&outcome.trace);
        }
    });
    let (end, trace) = match result {
        Ok(summary) => {
            let (virtual_s, real_s) = (summary.virtual_us as f64 / 1e6, begun.elapsed().as_secs_f64());
            let (slowest_us, seed) = summary.slowest;
            println!(
                "{} seeds held on {} nodes: {virtual_s:.0} s of cluster time in {real_s:.1} s ({:.0} x real time), {} views, \
                 {} notifications, {} fences; slowest to settle: {:.2} s (seed {seed})",
                summary.runs,
                options.nodes,
                virtual_s / real_s,
                summary.views,
                summary.notifies,
                summary.fences,
                slowest_us as f64 / 1e6,
            );
            let each: Vec<String> = summary.injected.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
            println!("faults: {}", each.join(", "));
            let (runs, delivered) = summary.groups;
            println!("group services: in {runs} of the runs, {delivered} messages, changes and rounds in order");
            (End::Held, trace)
        }
        Err(failure) if options.shrink => match replay::shorten(&failure, &run, options.trace.as_deref()) {
            Ok(short) => (End::Failed(Some(short.broken.what.clone())), short.trace),
            Err(end) => return end,
        },
        Err(failure) => (End::Failed(Some(failure.to_string())), failure.trace),
    };
    let name = format!("seed {}", options.seeds.as_ref().map_or(0, |seeds| seeds.start));
    let written = write_trace(options.trace.as_deref(), &trace);
    match written.and_then(|()| report::draw_text(&options.pictures, &name, &trace)) {
        Ok(()) => end,
        Err(end) => end,
    }
}

/// Scenario files, once per seed.
fn files(options: &SimOptions) -> End {
    let mut scenarios = Vec::new();
    for file in &options.files {
        match Scenario::read(file) {
            Ok(sizes) => scenarios.extend(sizes),
            Err(problems) => {
                eprintln!("{}", problems.render(end_is_terminal()));
                return End::CannotRun(format!("{} is no scenario; nothing was run", file.display()));
            }
        }
    }
    if let Some(seconds) = options.for_s {
        for scenario in &mut scenarios {
            if let Err(end) = crate::play::last(scenario, seconds) {
                return end;
            }
        }
    }
    let from = match options.from.as_deref().map(|image| what_if::from_image(image, &mut scenarios)).transpose() {
        Ok(from) => from,
        Err(end) => return end,
    };
    for scenario in &scenarios {
        if let Err(problems) =
            engine::check(scenario, &ScenarioWorld::from_database(scenario, scenario.seed, from.as_ref()))
        {
            eprintln!("{}", problems.render(end_is_terminal()));
            return End::CannotRun(format!("{} cannot be played in the simulator; nothing was run", scenario.name));
        }
    }
    let mut failed = 0usize;
    for scenario in &scenarios {
        let seeds = options.seeds.clone().unwrap_or(scenario.seed..scenario.seed + 1);
        for seed in seeds {
            let (outcome, lines) = run_scenario_from(scenario, seed, from.as_ref());
            if let Err(end) = report::draw(&options.pictures, &scenario.name, &lines) {
                return end;
            }
            let lines: Vec<String> = lines.iter().map(|line| line.to_json()).collect();
            let findings = findings(&lines);
            if outcome.ok() && findings.is_empty() {
                println!("ok      {} seed {seed}", scenario.name);
            } else {
                failed += 1;
                println!("FAILED  {} seed {seed}", scenario.name);
                if let Some(failure) = &outcome.failure {
                    println!("{}", failure.render(scenario, end_is_terminal()));
                }
                findings.iter().for_each(|finding| println!("  checker: {finding}"));
            }
            if let Some(line) = crate::play::injected(&outcome) {
                println!("{line}");
            }
            if let Err(end) = write_trace(options.trace.as_deref(), &lines) {
                return end;
            }
        }
    }
    match failed {
        0 => End::Held,
        n => End::Failed(Some(format!("{n} runs failed"))),
    }
}

fn findings(lines: &[String]) -> Vec<String> {
    let mut checker = Checker::new(Options { needs_end: true, faults_in_trace: true, ..Options::simulator() });
    let mut violations: Vec<_> = lines.iter().flat_map(|line| checker.push_text(line)).collect();
    violations.extend(checker.finish());
    violations.iter().map(ToString::to_string).collect()
}

/// Writes a trace, if it is wanted.
///
/// # Errors
/// If it cannot be written.
pub fn write_trace(path: Option<&Path>, lines: &[String]) -> Result<(), End> {
    let Some(path) = path else { return Ok(()) };
    let mut text = lines.join("\n");
    text.push('\n');
    std::fs::write(path, text)
        .map_err(|error| End::CannotRun(format!("cannot write {}: {error}", PathBuf::from(path).display())))
}

#[cfg(test)]
mod tests {
    use super::parse_seeds;

    #[test]
    fn a_range_of_seeds_is_parsed_and_mistakes_are_named() {
        assert_eq!(parse_seeds("3..7"), Ok(3..7));
        assert_eq!(parse_seeds("5"), Ok(5..6));
        for bad in ["", "a..b", "3..", "7..3", "4..4", "18446744073709551615"] {
            assert!(parse_seeds(bad).is_err(), "{bad}");
        }
    }
}
