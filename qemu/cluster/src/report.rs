//! `cargo cluster report`, and `--report` and `--perfetto` of `run` and `sim`: traces as pictures.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use quorate_report::{Timeline, Trace, page, perfetto};
use quorate_trace::Line;

use crate::arguments::{Pictures, ReportOptions};
use crate::end::End;

impl Pictures {
    /// Whether any is wanted.
    pub fn any(&self) -> bool {
        self.report.is_some() || self.perfetto.is_some()
    }
}

/// How many of the lines that are left out are told one by one.
const DAMAGED_TOLD: usize = 10;

/// Runs `report`.
pub fn report(options: &ReportOptions) -> End {
    let path = &options.trace;
    let trace = match Trace::read(path) {
        Ok(trace) => trace,
        Err(error) => return End::CannotRun(format!("{}: {error}", path.display())),
    };
    if let Some(number) = trace.cut_off {
        eprintln!("{}: line {number}, the last one, is cut off; the report ends before it", path.display());
    }
    for damaged in trace.damaged.iter().take(DAMAGED_TOLD) {
        eprintln!("{}: {damaged}; the report leaves it out", path.display());
    }
    if let more @ 1.. = trace.damaged.len().saturating_sub(DAMAGED_TOLD) {
        eprintln!("{}: {more} more of its lines are no trace lines; the report leaves them out", path.display());
    }
    let beside = || options.perfetto.is_none().then(|| path.with_extension("html"));
    let pictures = Pictures { report: options.output.clone().or_else(beside), perfetto: options.perfetto.clone() };
    for out in [&pictures.report, &pictures.perfetto].into_iter().flatten() {
        if same(out, path) {
            return End::CannotRun(format!("{}: this is the trace itself; nothing was written", out.display()));
        }
    }
    let title = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    match draw_trace(&pictures, &title, &trace) {
        Ok(()) => End::Held,
        Err(end) => end,
    }
}

fn same(a: &Path, b: &Path) -> bool {
    let real = |p: &Path| p.canonicalize().ok();
    real(a).is_some_and(|a| Some(a) == real(b))
}

/// Draws what is wanted of a run's lines.
///
/// # Errors
/// If it cannot be written.
pub fn draw(pictures: &Pictures, title: &str, lines: &[Arc<Line>]) -> Result<(), End> {
    if !pictures.any() || lines.is_empty() {
        return Ok(());
    }
    let trace = Trace::new(lines.iter().map(|line| (**line).clone()).collect());
    draw_trace(pictures, title, &trace)
}

/// The same for lines of text.
///
/// # Errors
/// If it cannot be written, or a line is no trace line.
pub fn draw_text(pictures: &Pictures, title: &str, lines: &[String]) -> Result<(), End> {
    if !pictures.any() {
        return Ok(());
    }
    let trace = Trace::parse(lines.join("\n").as_bytes());
    let no_trace = |what: &dyn Display| End::CannotRun(format!("the trace of {title}: {what}"));
    let trace = trace.map_err(|error| no_trace(&error))?;
    // Nobody but this program wrote it.
    if let Some(damaged) = trace.damaged.first() {
        return Err(no_trace(damaged));
    }
    draw_trace(pictures, title, &trace)
}

fn draw_trace(pictures: &Pictures, title: &str, trace: &Trace) -> Result<(), End> {
    let timeline = Timeline::of(trace);
    if let Some(path) = &pictures.report {
        write(path, &page(trace, &timeline, title))?;
    }
    if let Some(path) = &pictures.perfetto {
        write(path, &perfetto(trace, &timeline))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), End> {
    std::fs::write(path, text).map_err(|e| End::CannotRun(format!("cannot write {}: {e}", path.display())))?;
    println!("{} ({} KiB)", path.display(), text.len().div_ceil(1024));
    Ok(())
}
