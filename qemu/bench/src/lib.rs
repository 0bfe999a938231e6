//! Benchmarks on QEMU: how long a boot, a failover, a leave and a transition step take, and what an idle node costs.
//!
//! All times are the harness's, of the receipt of trace lines, so they include the serial port's delay; what is measured
//! on a node's own clock says so. Targets are the design's.
#![forbid(unsafe_code)]

mod boot;
mod failover;
mod idle;
mod report;
mod rig;
mod sizes;
mod step;

use quorate_launch::Tools;
use quorate_scenario::Trouble;

pub use report::{Report, Row};

/// A benchmark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bench {
    /// Process start to joined.
    Boot,
    /// Kill to forced leave done, graceful leave, transition steps.
    Failover,
    /// What an idle node costs, and static sizes.
    Idle,
}

impl Bench {
    /// All, with their names.
    pub const ALL: [(&'static str, Self); 3] =
        [("boot", Self::Boot), ("failover", Self::Failover), ("idle", Self::Idle)];
}

/// The benchmarks of those names; all if there is none.
///
/// # Errors
/// If a name is none.
pub fn select(names: &[String]) -> Result<Vec<Bench>, String> {
    if names.is_empty() {
        return Ok(Bench::ALL.map(|(_, bench)| bench).to_vec());
    }
    let find = |name: &String| {
        let found = Bench::ALL.iter().find(|(known, _)| known == name).map(|(_, bench)| *bench);
        found.ok_or_else(|| {
            format!("no benchmark `{name}`; there are {}", Bench::ALL.map(|(known, _)| known).join(", "))
        })
    };
    names.iter().map(find).collect()
}

/// Runs benchmarks. `short`: fewer repetitions.
///
/// # Errors
/// If a cluster cannot be run, or does not do what is to be measured.
pub fn run(benches: &[Bench], short: bool, tools: &Tools, progress: &mut dyn FnMut(&str)) -> Result<Report, Trouble> {
    let mut report = Report::default();
    for bench in benches {
        match bench {
            Bench::Boot => {
                progress("bench boot");
                boot::run(if short { 3 } else { 20 }, tools, &mut report)?;
            }
            Bench::Failover => {
                progress("bench failover");
                failover::run(if short { 3 } else { 20 }, tools, &mut report)?;
                step::run(tools, &mut report)?;
            }
            Bench::Idle => {
                progress("bench idle");
                idle::run(if short { 3 } else { 10 }, tools, &mut report)?;
                sizes::add(&mut report);
            }
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn benchmarks_are_chosen_by_name() {
        assert_eq!(select(&[]).unwrap().len(), 3);
        assert_eq!(select(&["idle".into(), "boot".into()]), Ok(vec![Bench::Idle, Bench::Boot]));
        assert_eq!(select(&["x".into()]), Err("no benchmark `x`; there are boot, failover, idle".into()));
    }
}
