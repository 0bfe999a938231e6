//! How fast the simulator is: seconds of cluster time per second of one processor, five nodes, all invariants held; without
//! group services (the membership manager, the lock, the disk and the interconnect alone), and as seeds are run, with group
//! traffic in every eighth.
//!
//! Each seed is a random schedule of damage that is healed at the end, as in `cargo cluster sim`. It is the time of this
//! thread's processor that counts, so that whatever else runs on the host does not.

use std::time::Instant;

use quorate_scenario::Trouble;
use quorate_sim::{Faults, RunOptions, run_seed};

use crate::report::Report;

/// Nodes (DESIGN 10).
const NODES: u8 = 5;

/// Runs the seeds from 0 on, each with light and with full faults.
pub(crate) fn run(seeds: u64, report: &mut Report) -> Result<(), Trouble> {
    let runs = [
        ("light faults, without group services", Faults::light(), Some(false), Some(1000.0)),
        ("light faults", Faults::light(), None, None),
        ("full faults", Faults::full(), None, Some(300.0)),
    ];
    for (name, faults, groups, least) in runs {
        let options = RunOptions { faults: Some(faults), groups, ..RunOptions::default() };
        let clock = Clock::start();
        let (mut virtual_us, mut events) = (0, 0);
        for seed in 0..seeds {
            let outcome = run_seed(seed, NODES, &options).map_err(|failure| Trouble::Failed(failure.to_string()))?;
            virtual_us += outcome.virtual_us;
            events += outcome.events;
        }
        let took = clock.seconds();
        let figure = format!("{NODES} nodes, {name}, seeds 0..{seeds}, one core");
        let row = report.single("sim", &figure, "x real time", virtual_us as f64 / 1e6 / took);
        if let Some(least) = least {
            row.at_least(least, format!(">= {least}"));
        }
        report.single("sim", &format!("  {name}: events"), "per s", events as f64 / took);
    }
    Ok(())
}

/// The time that this thread had a processor; the time that passed, where the system does not tell.
pub(crate) struct Clock {
    began: Instant,
    ran_ns: Option<u64>,
}

impl Clock {
    /// From now on.
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), ran_ns: ran_ns() }
    }

    /// Since then.
    pub(crate) fn seconds(&self) -> f64 {
        match (self.ran_ns, ran_ns()) {
            (Some(before), Some(after)) => (after - before) as f64 / 1e9,
            _ => self.began.elapsed().as_secs_f64(),
        }
    }
}

/// Linux: the first number of a thread's `schedstat` is the time it ran, ns.
fn ran_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_speeds_stand_in_the_report() {
        let mut report = Report::default();
        run(2, &mut report).unwrap();
        let speeds: Vec<_> = report.rows.iter().filter(|row| row.target.is_some()).collect();
        assert_eq!(speeds.len(), 2);
        assert!(speeds.iter().all(|row| row.value > 1.0), "{}", report.table());
    }
}
