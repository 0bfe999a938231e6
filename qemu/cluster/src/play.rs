//! `cargo cluster run`: plays scenario files on QEMU, checks each trace, and compares the disk with it.

use std::path::Path;
use std::time::{Duration, Instant};

use quorate_launch::{SetupOptions, Tools, setup};
use quorate_scenario::engine::{self, Outcome};
use quorate_scenario::model::{Action, ImageEdit};
use quorate_scenario::qemu::{World, WorldOptions};
use quorate_scenario::{Scenario, Trouble};
use quorate_trace::Mark;

use crate::agreement;
use crate::arguments::RunOptions;
use crate::end::End;

/// A scenario that was played.
#[derive(Debug)]
pub struct Played {
    /// How its steps went.
    pub outcome: Outcome,
    /// What the checker found, and how the disk differs from the trace.
    pub findings: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl Played {
    /// Everything held.
    pub fn ok(&self) -> bool {
        self.outcome.ok() && self.findings.is_empty()
    }

    /// All that did not hold, for people.
    pub fn report(&self, scenario: &Scenario, colour: bool) -> String {
        let failure = self.outcome.failure.as_ref().map(|f| f.render(scenario, colour));
        let findings = self.findings.iter().map(|f| format!("  {f}\n"));
        failure.into_iter().chain(findings).collect()
    }
}

/// Says what takes time.
pub fn progress(line: &str) {
    eprintln!("{line}");
}

/// Runs `run`.
pub fn run(options: &RunOptions) -> End {
    let mut scenarios = Vec::new();
    let mut wrong = 0;
    // All files first: a mistake in the last one must not show after minutes.
    for file in &options.files {
        match Scenario::read(file) {
            Ok(sizes) => scenarios.extend(sizes),
            Err(problems) => {
                eprintln!("{}", problems.render(end_is_terminal()));
                wrong += problems.list.len();
            }
        }
    }
    if wrong > 0 {
        return End::CannotRun(format!("{wrong} errors in scenario files; nothing was started"));
    }
    let tools = match setup(&SetupOptions::default(), &mut progress) {
        Ok(tools) => tools,
        Err(error) => return error.into(),
    };
    let mut failed = 0;
    let several = scenarios.len() > 1;
    for mut scenario in scenarios {
        scenario.seed = options.seed.unwrap_or(scenario.seed);
        let machines = &options.machines;
        let name = scenario.name.clone();
        // One file each: traces of two runs in one file would be neither.
        let trace = machines.trace.as_ref().map(|p| if several { with_name(p, &name) } else { p.clone() });
        let world = WorldOptions {
            accel: machines.accel.into(),
            nic: machines.nic.into(),
            disk: machines.disk.clone(),
            keep_logs: machines.keep_logs.clone(),
            trace_writes: options.trace_writes,
            trace,
            ..WorldOptions::of(&scenario)
        };
        match play(&scenario, world, &tools) {
            Ok(played) if played.ok() => println!("ok      {name} ({:.1} s)", played.took.as_secs_f64()),
            Ok(played) => {
                println!(
                    "FAILED  {name} ({:.1} s)\n{}",
                    played.took.as_secs_f64(),
                    played.report(&scenario, end_is_terminal())
                );
                failed += 1;
            }
            Err(end) => return end,
        }
    }
    match failed {
        0 => End::Held,
        n => End::Failed(Some(format!("{n} of {} scenarios failed", options.files.len()))),
    }
}

/// Whether colours are wanted.
pub fn end_is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}

fn with_name(path: &Path, name: &str) -> std::path::PathBuf {
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("{stem}-{name}.jsonl"))
}

/// Plays one scenario.
///
/// # Errors
/// How the command ends if it could not be played.
pub fn play(scenario: &Scenario, options: WorldOptions, tools: &Tools) -> Result<Played, End> {
    let begin = Instant::now();
    let mut world = World::new(options, tools)?;
    engine::check(scenario, &world).map_err(|problems| {
        eprintln!("{}", problems.render(end_is_terminal()));
        End::CannotRun("this scenario cannot be played on QEMU; nothing was started".to_owned())
    })?;
    let outcome = engine::run(scenario, &mut world);
    world.flush()?;
    if let Some(failure) = &outcome.failure
        && !matches!(failure.trouble, Trouble::Failed(_))
    {
        eprintln!("{}", failure.render(scenario, end_is_terminal()));
        return Err(failure.trouble.clone().into());
    }
    let findings = examine(scenario, &world)?;
    Ok(Played { outcome, findings, took: begin.elapsed() })
}

/// The checker's violations and the disk's differences.
fn examine(scenario: &Scenario, world: &World) -> Result<Vec<String>, End> {
    let lines = world.store().since(Mark(0));
    let text: String = lines.iter().flat_map(|l| [l.to_json(), "\n".to_owned()]).collect();
    let report = quorate_check::check(text.as_bytes(), quorate_check::Options::default())
        .map_err(|e| End::CannotRun(format!("the trace cannot be checked: {e}")))?;
    let mut findings: Vec<String> = report.violations.iter().map(|v| format!("checker: {v}")).collect();
    // An image that the scenario itself made unreadable has nothing to agree with.
    let harmless = |edit: &ImageEdit| {
        use ImageEdit::{Disable, Enable, Timing, Weight};
        matches!(edit, Disable | Enable | Weight(_) | Timing(_))
    };
    let spoilt = |a: &Action| matches!(a, Action::Image { edit, .. } if !harmless(edit));
    if !scenario.any_action(&spoilt) {
        match quorate_image::dump(world.image()) {
            Ok(dump) => {
                let difference = agreement::difference(dump.active.as_ref(), lines.iter().map(|l| &**l));
                findings.extend(difference.map(|d| format!("disk against trace: {d}")));
                findings.extend(dump.damaged.map(|d| format!("disk: {d}")));
            }
            Err(error) => findings.push(format!("disk: {error}")),
        }
    }
    Ok(findings)
}
