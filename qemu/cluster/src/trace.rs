//! `cargo cluster check` and `bench`: traces that are there, figures that are wanted.

use std::path::{Path, PathBuf};

use quorate_bench::{Bed, Bench};
use quorate_launch::iscsi::{Disk, prepare};
use quorate_launch::{Nic, SetupOptions, setup};

use crate::end::End;
use crate::play::{progress, set_up};

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

/// Is a node until its standard input ends.
pub fn host_node(id: u8, disk: &Path, ports: &[u16]) -> End {
    match quorate_bench::native::live(id, disk, ports) {
        Ok(()) => End::Held,
        Err(error) => End::CannotRun(format!("node {id}: {error}")),
    }
}

/// Measures. `no_qemu`: group services without their part on QEMU.
pub fn bench(names: &[String], json: Option<&Path>, short: bool, disk: Option<Disk>, nic: Nic, no_qemu: bool) -> End {
    let benches = match quorate_bench::select(names) {
        Ok(benches) => benches,
        Err(why) => return End::CannotRun(why),
    };
    if let Some(bench) = benches.iter().find(|bench| no_qemu && bench.needs_qemu() && **bench != Bench::Groups) {
        return End::CannotRun(format!("bench {} needs QEMU", bench.name()));
    }
    let mut tools = if !no_qemu && benches.iter().any(|bench| bench.needs_qemu()) {
        match setup(&SetupOptions::default(), &mut set_up) {
            Ok(tools) => Some(tools),
            Err(error) => return error.into(),
        }
    } else {
        None
    };
    if let (Some(disk), Some(tools)) = (&disk, &mut tools)
        && let Err(error) = prepare(disk, tools, &mut progress)
    {
        return error.into();
    }
    let bed = tools.as_ref().map(|tools| Bed { tools, nic });
    let host = std::env::current_exe().ok();
    let report = match quorate_bench::run(&benches, short, bed, disk.as_ref(), host.as_deref(), &mut progress) {
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
