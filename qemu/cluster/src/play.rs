//! `cargo cluster run`: plays scenario files on QEMU, checks each trace, and compares the disk with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_base::FenceMethod;
use quorate_launch::iscsi::{Disk, prepare};
use quorate_launch::{BootPath, Progress, SetupOptions, Tools, setup, uefi};
use quorate_scenario::engine::{self, Outcome};
use quorate_scenario::model::{Action, ImageEdit};
use quorate_scenario::qemu::{World, WorldOptions, refusal, refusal_of_boot};
use quorate_scenario::source::Problems;
use quorate_scenario::{Scenario, Trouble};
use quorate_trace::{Line, Mark};

use crate::agreement;
use crate::arguments::{DiskArgument, Pictures, RunOptions, SimOptions};
use crate::end::End;
use crate::{report, sim};

/// A scenario that was played.
#[derive(Debug)]
pub struct Played {
    /// How its steps went.
    pub outcome: Outcome,
    /// What the checker found, and how the disk differs from the trace.
    pub findings: Vec<String>,
    /// How long it took.
    pub took: Duration,
    /// The trace.
    pub lines: Vec<Arc<Line>>,
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

/// Says how far the set-up is: on a terminal a build has a bar, which is gone when it is over.
pub fn set_up(progress: Progress<'_>) {
    const BAR: u32 = 30;
    match progress {
        Progress::Begun(what) => eprintln!("{what}"),
        Progress::Built { .. } if !std::io::IsTerminal::is_terminal(&std::io::stderr()) => {}
        Progress::Built { done, all, .. } if done == all => eprint!("\r\x1b[K"),
        Progress::Built { done, all, what } => {
            let full = (done * BAR / all.max(1)).min(BAR) as usize;
            let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR as usize - full));
            let what: String = what.chars().take(30).collect();
            eprint!("\r{bar} {done}/{all} {what}\x1b[K");
        }
    }
}

/// Runs `run`.
pub fn run(options: &RunOptions) -> End {
    if options.sim {
        return sim::sim(&as_sim(options));
    }
    run_all(options).unwrap_or_else(|end| end)
}

/// The same files for the simulator.
fn as_sim(options: &RunOptions) -> SimOptions {
    SimOptions {
        files: options.files.clone(),
        nodes: 3,
        seeds: options.seed.map(|seed| seed..seed.saturating_add(1)),
        for_s: options.for_s,
        from: None,
        trace: options.machines.trace.clone(),
        pictures: options.pictures.clone(),
        shrink: false,
        replay: None,
        groups: false,
        crash_points: false,
        pairs_every: 1,
        point: None,
    }
}

/// `--for`: every `chaos` step lasts so long.
///
/// # Errors
/// If there is none.
pub fn last(scenario: &mut Scenario, seconds: u64) -> Result<(), End> {
    match scenario.set_chaos_for(seconds * 1000) {
        0 => Err(End::CannotRun(format!("--for: {} has no `chaos` step", scenario.name))),
        _ => Ok(()),
    }
}

/// What `chaos` steps did, in one line; nothing if there were none.
pub fn injected(outcome: &Outcome) -> Option<String> {
    let total: u64 = outcome.injected.values().sum();
    let each: Vec<String> = outcome.injected.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    (!each.is_empty()).then(|| format!("        {total} faults: {}", each.join(", ")))
}

fn run_all(options: &RunOptions) -> Result<End, End> {
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
        return Err(End::CannotRun(format!("{wrong} errors in scenario files; nothing was started")));
    }
    // Also which steps can be done with which disk.
    let with_boot =
        |scenario: Scenario| Scenario { boot: options.machines.boot.map_or(scenario.boot, Into::into), ..scenario };
    let scenarios: Vec<_> = scenarios.into_iter().map(|scenario| with_disk(with_boot(scenario), options)).collect();
    scenarios.iter().try_for_each(|(scenario, image)| playable(scenario, image.is_some()))?;
    let wanted = SetupOptions { image: options.image.clone() };
    let mut tools = setup(&wanted, &mut set_up)?;
    let mut failed = 0;
    let several = scenarios.len() > 1;
    for (mut scenario, image) in scenarios {
        scenario.seed = options.seed.unwrap_or(scenario.seed);
        scenario.block_size = options.block_size.unwrap_or(scenario.block_size);
        if let Some(seconds) = options.for_s {
            last(&mut scenario, seconds)?;
        }
        let machines = &options.machines;
        let name = scenario.name.clone();
        // One file each: traces of two runs in one file would be neither.
        let trace = machines.trace.as_ref().map(|p| if several { with_name(p, &name) } else { p.clone() });
        prepare(&scenario.disk, &mut tools, &mut progress)?;
        if scenario.boot == BootPath::Uefi {
            uefi(&mut tools, &mut set_up)?;
        }
        let world = WorldOptions {
            accel: machines.accel.into(),
            nic: machines.nic.map_or(scenario.nic, Into::into),
            image,
            keep_logs: machines.keep_logs.clone(),
            trace_writes: options.trace_writes,
            trace,
            ..WorldOptions::of(&scenario)
        };
        let played = play(&scenario, world, &tools)?;
        let named =
            |path: &Option<PathBuf>| path.as_ref().map(|p| if several { with_name(p, &name) } else { p.clone() });
        let pictures =
            Pictures { report: named(&options.pictures.report), perfetto: named(&options.pictures.perfetto) };
        report::draw(&pictures, &name, &played.lines)?;
        let seconds = played.took.as_secs_f64();
        if played.ok() {
            println!("ok      {name} ({seconds:.1} s)");
        } else {
            println!("FAILED  {name} ({seconds:.1} s)\n{}", played.report(&scenario, end_is_terminal()));
            failed += 1;
        }
        if let Some(line) = injected(&played.outcome) {
            println!("{line}");
        }
    }
    Ok(match failed {
        0 => End::Held,
        n => End::Failed(Some(format!("{n} of {} scenarios failed", options.files.len()))),
    })
}

/// A scenario with the disk that the command line names, if it names one: of another kind, or an image, which may well
/// stand behind the target that the scenario asks for.
fn with_disk(scenario: Scenario, options: &RunOptions) -> (Scenario, Option<PathBuf>) {
    match options.machines.disk.clone() {
        None => (scenario, None),
        Some(DiskArgument { disk: Disk::Image, image }) => (scenario, image),
        Some(DiskArgument { disk, image }) => (Scenario { disk, ..scenario }, image),
    }
}

/// Sees before anything is started that a scenario can be played with its disk. An image that is `given` brings its own
/// fence method.
///
/// # Errors
/// How the command ends if it cannot.
pub fn playable(scenario: &Scenario, given: bool) -> Result<(), End> {
    let disk = &scenario.disk;
    if scenario.fence == FenceMethod::Reservation && *disk == Disk::Image && !given {
        let name = scenario.source.path.display();
        return Err(End::CannotRun(format!(
            "{name}: fence = \"reservation\" needs a target: disk = \"tgt\" or \"lio\" in the file, or --disk; nothing was \
             started"
        )));
    }
    engine::check_steps(scenario, &|step| refusal(disk, step)).map_err(|problems| {
        eprintln!("{}", problems.render(end_is_terminal()));
        End::CannotRun(format!("{} cannot be played on a disk of kind {disk}; nothing was started", scenario.name))
    })?;
    bootable(scenario).map_err(|problems| {
        eprintln!("{}", problems.render(end_is_terminal()));
        End::CannotRun(format!(
            "{} cannot be played so: --boot, or `boot` in the file; nothing was started",
            scenario.name
        ))
    })
}

/// Sees before anything is started that a scenario can be played with machines that come to their kernel as it says.
///
/// # Errors
/// Each step that cannot be done.
pub fn bootable(scenario: &Scenario) -> Result<(), Problems> {
    engine::check_steps(scenario, &|step| refusal_of_boot(scenario.boot, step))
}

/// Whether colours are wanted.
pub fn end_is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}

fn with_name(path: &Path, name: &str) -> PathBuf {
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let kind = path.extension().map_or_else(|| "jsonl".to_owned(), |e| e.to_string_lossy().into_owned());
    path.with_file_name(format!("{stem}-{name}.{kind}"))
}

/// Plays one scenario.
///
/// # Errors
/// How the command ends if it could not be played.
pub fn play(scenario: &Scenario, options: WorldOptions, tools: &Tools) -> Result<Played, End> {
    let begin = Instant::now();
    playable(scenario, options.image.is_some())?;
    let mut world = World::new(options, tools)?;
    let outcome = engine::run(scenario, &mut world);
    world.flush()?;
    if let Some(failure) = &outcome.failure
        && !matches!(failure.trouble, Trouble::Failed(_))
    {
        eprintln!("{}", failure.render(scenario, end_is_terminal()));
        return Err(failure.trouble.clone().into());
    }
    let lines = world.store().since(Mark(0));
    let findings = examine(scenario, &world, &lines)?;
    Ok(Played { outcome, findings, took: begin.elapsed(), lines })
}

/// The checker's violations and the disk's differences.
fn examine(scenario: &Scenario, world: &World, lines: &[Arc<Line>]) -> Result<Vec<String>, End> {
    // Line by line: the trace of an hour as one text would stand in memory twice.
    let mut checker = quorate_check::Checker::new(quorate_check::Options::default());
    let mut violations: Vec<_> = lines.iter().flat_map(|line| checker.push_text(&line.to_json())).collect();
    violations.extend(checker.finish());
    let mut findings: Vec<String> = violations.iter().map(|v| format!("checker: {v}")).collect();
    // An image that the scenario itself made unreadable has nothing to agree with.
    let harmless = |edit: &ImageEdit| {
        use ImageEdit::{BootSlot, DamageKernel, Disable, Enable, NoBackup, Timing, Weight};
        matches!(edit, BootSlot(_) | DamageKernel(_) | Disable | Enable | Weight(_) | Timing(_) | NoBackup)
    };
    let spoilt = |a: &Action| matches!(a, Action::Image { edit, .. } if !harmless(edit));
    if !scenario.any_action(&spoilt) {
        match quorate_image::dump(world.image()?) {
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
