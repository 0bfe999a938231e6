//! What `cargo cluster sim` can do besides seeds and scenarios: a failing seed made short, a short plan run again, and
//! every crash point tried.

use std::path::{Path, PathBuf};

use quorate_sim::crash::{Point, Script, points, run_point, run_points};
use quorate_sim::{Failure, Plan, RunOptions, run_plan, shrink};

use crate::arguments::SimOptions;
use crate::end::End;
use crate::sim::write_trace;

/// How many runs making a plan short may take.
const SHRINK_RUNS_MAX: u32 = 5_000;

/// Makes the plan of a failure short, prints it, and writes it where it can be replayed. Gives the short failure.
pub fn shorten(failure: &Failure, options: &RunOptions, out: Option<&Path>) -> Result<Box<Failure>, End> {
    println!("{}", failure.broken.what);
    println!("seed {} failed; making it short", failure.seed);
    let short = shrink(failure, options, SHRINK_RUNS_MAX);
    let plan = &short.failure.plan;
    println!("{} of {} acts are needed ({} runs):", plan.acts.len(), short.acts_before, short.runs);
    println!("{}", described(plan));
    let path =
        out.map_or_else(|| PathBuf::from(format!("seed-{}.toml", failure.seed)), |out| out.with_extension("toml"));
    let text = plan.to_text().map_err(|error| End::CannotRun(format!("the plan cannot be written: {error}")))?;
    std::fs::write(&path, text).map_err(|error| End::CannotRun(format!("cannot write {}: {error}", path.display())))?;
    println!("replay: cargo cluster sim --replay {}", path.display());
    Ok(short.failure)
}

/// A plan in lines for people.
fn described(plan: &Plan) -> String {
    let mut lines =
        vec![format!("  {} nodes, seed {}, clocks off by up to {} ppm", plan.nodes, plan.seed, plan.clock_ppm)];
    if plan.views_only {
        lines.push("  only the views must be safe: what the lease fence rests on is broken".to_owned());
    }
    let nodes =
        plan.levels.iter().enumerate().map(|(n, words)| format!("  node {n} has the levels {}", words.join(" ")));
    lines.extend(nodes);
    lines.extend(plan.acts.iter().map(|step| format!("  {step}")));
    lines.push(format!("  {:>4}.{:06} s  all is healed", plan.damage_us / 1_000_000, plan.damage_us % 1_000_000));
    lines.join("\n")
}

/// Runs a plan from a file.
pub fn replay(path: &Path, options: &SimOptions) -> End {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return End::CannotRun(format!("cannot read {}: {error}", path.display())),
    };
    let plan = match Plan::parse(&text) {
        Ok(plan) => plan,
        Err(error) => return End::CannotRun(format!("{} is no plan: {error}", path.display())),
    };
    println!("{}", described(&plan));
    let run = RunOptions { keep_trace: options.trace.is_some(), ..RunOptions::default() };
    let (end, trace) = match run_plan(&plan, &run) {
        Ok(outcome) => {
            println!("held; settled {:.2} s after the healing", outcome.settled_us as f64 / 1e6);
            (End::Held, outcome.trace)
        }
        Err(failure) => (End::Failed(Some(failure.broken.to_string())), failure.trace),
    };
    write_trace(options.trace.as_deref(), &trace).err().unwrap_or(end)
}

/// Tries every crash point, or one of them.
pub fn crash_points(options: &SimOptions) -> End {
    let mut list = Vec::new();
    for pairs in [false, true] {
        for script in Script::ALL {
            match points(script, options.nodes, pairs) {
                // With a second crash there are many times as many.
                Ok(points) if pairs => list.extend(points.into_iter().step_by(options.pairs_every.max(1))),
                Ok(points) => {
                    println!("{}: {} points", script.name(), points.len());
                    list.extend(points);
                }
                Err(broken) => return End::Failed(Some(format!("without any crash: {broken}"))),
            }
        }
    }
    if let Some(number) = options.point {
        return one_point(&list, number, options);
    }
    let seconds = list.iter().filter(|point| point.has_second()).count();
    println!("{} pairs of crashes, every {}th", seconds, options.pairs_every.max(1));
    let begun = std::time::Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failed = run_points(&list, threads, &|done| eprintln!("{done} of {} points", list.len()));
    let took = begun.elapsed().as_secs_f64();
    println!("{} crash points tried on {} nodes in {took:.1} s, {} failed", list.len(), options.nodes, failed.len());
    for (number, broken) in &failed {
        if let Some(point) = list.get(*number) {
            println!("point {number}: {point}\n  at {} us: {}", broken.at_us, broken.what);
        }
    }
    match failed.first() {
        None => End::Held,
        Some((number, _)) => End::Failed(Some(format!(
            "replay: cargo cluster sim --crash-points --nodes {} --pairs-every {} --point {number} --trace point.jsonl",
            options.nodes,
            options.pairs_every.max(1),
        ))),
    }
}

fn one_point(list: &[Point], number: usize, options: &SimOptions) -> End {
    let Some(point) = list.get(number) else {
        return End::CannotRun(format!("there are {} points, from 0 on", list.len()));
    };
    println!("{point}");
    let (result, trace) = run_point(point, options.trace.is_some());
    let end = match result {
        Ok(()) => End::Held,
        Err(broken) => End::Failed(Some(broken.to_string())),
    };
    write_trace(options.trace.as_deref(), &trace).err().unwrap_or(end)
}
