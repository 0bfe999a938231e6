//! `cargo cluster check` and `bench`: traces that are there, figures that are wanted.

use std::path::{Path, PathBuf};

use quorate_launch::{SetupOptions, setup};

use crate::end::End;
use crate::play::progress;

/// Checks trace files with the independent checker.
pub fn check(traces: &[PathBuf]) -> End {
    let mut bad = 0;
    for path in traces {
        match quorate_check::check_file(path) {
            Ok(report) => {
                println!("{}: {report}", path.display());
                bad += usize::from(!report.is_fine());
            }
            Err(error) => return End::CannotRun(format!("cannot read {}: {error}", path.display())),
        }
    }
    match bad {
        0 => End::Held,
        n => End::Failed(Some(format!("{n} of {} traces break a rule or have a failed expectation", traces.len()))),
    }
}

/// Measures.
pub fn bench(names: &[String], json: Option<&Path>, short: bool) -> End {
    let benches = match quorate_bench::select(names) {
        Ok(benches) => benches,
        Err(why) => return End::CannotRun(why),
    };
    let tools = if benches.iter().any(|bench| bench.needs_qemu()) {
        match setup(&SetupOptions::default(), &mut progress) {
            Ok(tools) => Some(tools),
            Err(error) => return error.into(),
        }
    } else {
        None
    };
    let report = match quorate_bench::run(&benches, short, tools.as_ref(), &mut progress) {
        Ok(report) => report,
        Err(trouble) => return trouble.into(),
    };
    print!("{}", report.table());
    if let Some(path) = json
        && let Err(error) = std::fs::write(path, format!("{:#}\n", report.json()))
    {
        return End::CannotRun(format!("cannot write {}: {error}", path.display()));
    }
    End::Held
}
