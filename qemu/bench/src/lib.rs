//! Benchmarks. On QEMU: how long a boot, a failover, a leave and a transition step take, and what an idle node costs. In the
//! simulator, without QEMU: how fast it is, and how times, messages and disk operations grow from 2 to 64 nodes. Without
//! either: what carries group traffic.
//!
//! On QEMU all times are the harness's, of the receipt of trace lines, so they include the serial port's delay; what is
//! measured on a node's own clock says so. Targets are the design's.
#![forbid(unsafe_code)]

mod boot;
mod failover;
mod groups;
mod idle;
pub mod native;
mod report;
mod rig;
mod scale;
mod sim;
mod sizes;
mod step;
mod streams;
mod wire;

use std::path::Path;

use quorate_launch::iscsi::Disk;
use quorate_scenario::Trouble;

pub use report::{Bound, Report, Row};
pub use rig::Bed;

/// A benchmark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bench {
    /// Process start to joined.
    Boot,
    /// Kill to forced leave done, graceful leave, transition steps.
    Failover,
    /// What an idle node costs, and static sizes.
    Idle,
    /// How fast the simulator is.
    Sim,
    /// 2 to 64 nodes in the simulator.
    Scale,
    /// What the seal costs; transitions under hostile frames.
    Wire,
    /// Group services under load: in virtual time, as host processes, on QEMU.
    Groups,
    /// What carries group traffic: datagrams against streams of TCP, in virtual time and by processor time.
    Streams,
}

impl Bench {
    /// All, with their names.
    pub const ALL: [(&'static str, Self); 8] = [
        ("boot", Self::Boot),
        ("failover", Self::Failover),
        ("idle", Self::Idle),
        ("sim", Self::Sim),
        ("scale", Self::Scale),
        ("wire", Self::Wire),
        ("groups", Self::Groups),
        ("streams", Self::Streams),
    ];

    /// Whether it runs machines.
    pub const fn needs_qemu(self) -> bool {
        matches!(self, Self::Boot | Self::Failover | Self::Idle | Self::Wire | Self::Groups)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, bench)| *bench == self).map_or("", |(name, _)| name)
    }
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

/// Runs benchmarks. `short`: fewer repetitions. `bed` is there if one of them needs QEMU, prepared for `disk`: the target
/// over which the failover is measured as well; without it group services are measured without QEMU. `host`: the program that is a node as a host process, when it is given
/// `host-node ID FILE PORTS` ([`native::live`]).
///
/// # Errors
/// If a cluster cannot be run, or does not do what is to be measured.
pub fn run(
    benches: &[Bench],
    short: bool,
    bed: Option<Bed<'_>>,
    disk: Option<&Disk>,
    host: Option<&Path>,
    progress: &mut dyn FnMut(&str),
) -> Result<Report, Trouble> {
    let mut report = Report::default();
    for bench in benches {
        progress(&format!("bench {}", bench.name()));
        let qemu = || bed.ok_or_else(|| Trouble::Broken(format!("bench {} needs QEMU", bench.name())));
        match bench {
            Bench::Boot => boot::run(if short { 3 } else { 20 }, qemu()?, &mut report)?,
            Bench::Failover => {
                failover::run(if short { 3 } else { 20 }, qemu()?, disk, &mut report)?;
                step::run(qemu()?, &mut report)?;
            }
            Bench::Idle => {
                idle::run(if short { 3 } else { 10 }, qemu()?, &mut report)?;
                sizes::add(&mut report);
            }
            Bench::Sim => sim::run(if short { 60 } else { 400 }, &mut report)?,
            Bench::Scale => scale::run(if short { 1 } else { 5 }, &mut report)?,
            Bench::Wire => wire::run(if short { 5 } else { 30 }, qemu()?, &mut report)?,
            Bench::Groups => groups::run(short, host, bed, &mut report)?,
            Bench::Streams => streams::run(short, &mut report)?,
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn benchmarks_are_chosen_by_name() {
        assert_eq!(select(&[]).unwrap().len(), 8);
        assert_eq!(select(&["idle".into(), "boot".into()]), Ok(vec![Bench::Idle, Bench::Boot]));
        assert_eq!(
            select(&["x".into()]),
            Err("no benchmark `x`; there are boot, failover, idle, sim, scale, wire, groups, streams".into())
        );
    }
}
