//! What a whole trace came to: the violations, and how much there was to check.

use crate::rule::Violation;
use crate::{Checker, Options};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// How often things were there to be checked.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Lines of the trace.
    pub lines: u64,
    /// Lives of nodes.
    pub lives: u64,
    /// Different views.
    pub views: u64,
    /// Ballots that were acquired.
    pub ballots: u64,
    /// Rounds, repetitions included.
    pub rounds: u64,
    /// Notifications.
    pub notifies: u64,
    /// Acknowledgements.
    pub acks: u64,
    /// Reported states.
    pub states: u64,
    /// Notifications whose barrier was compared with the one before.
    pub barriers_ordered: u64,
    /// Comparisons of a notification with another level of the same transition.
    pub levels_ordered: u64,
    /// Fences that hold.
    pub fences: u64,
    /// Leases.
    pub leases: u64,
    /// Shared writes.
    pub writes: u64,
    /// Reports of steps that were not acknowledged for long.
    pub waits: u64,
    /// Expectations of the scenario.
    pub asserts: u64,
    /// Things in the order of group services, each counted once.
    pub group_places: u64,
    /// What could not be proved because a killed node's last lines are missing.
    pub tolerated: u64,
}

/// A checked trace.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Rules of the cluster that are broken.
    pub violations: Vec<Violation>,
    /// Expectations of the scenario that did not hold.
    pub failed: Vec<Violation>,
    /// How much was checked.
    pub counts: Counts,
}

impl Report {
    /// Whether nothing is broken and there was something to check: an empty trace is not fine.
    pub fn is_fine(&self) -> bool {
        self.violations.is_empty() && self.failed.is_empty() && self.counts.lines > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in self.violations.iter().chain(&self.failed) {
            writeln!(f, "{violation}")?;
        }
        let c = &self.counts;
        write!(
            f,
            "{} lines, {} lives, {} views, {} ballots, {} rounds, {} notifications, {} acknowledgements, {} barriers and \
             {} levels in order, {} fences, {} writes: {} violations, {} failed expectations",
            c.lines,
            c.lives,
            c.views,
            c.ballots,
            c.rounds,
            c.notifies,
            c.acks,
            c.barriers_ordered,
            c.levels_ordered,
            c.fences,
            c.writes,
            self.violations.len(),
            self.failed.len()
        )
    }
}

/// Checks a trace file of the harness, line by line.
///
/// # Errors
/// If the file cannot be read.
pub fn check_file(path: &Path) -> io::Result<Report> {
    check(BufReader::new(File::open(path)?), Options::default())
}

/// Checks a trace, line by line.
///
/// # Errors
/// If it cannot be read.
pub fn check(trace: impl BufRead, options: Options) -> io::Result<Report> {
    let mut checker = Checker::new(options);
    let mut report = Report::default();
    for line in trace.lines() {
        report.add(checker.push_text(&line?));
    }
    report.add(checker.finish());
    report.counts = checker.counts();
    Ok(report)
}

impl Report {
    /// Puts each violation where it belongs.
    pub fn add(&mut self, found: Vec<Violation>) {
        for violation in found {
            if violation.rule.is_harness() { self.failed.push(violation) } else { self.violations.push(violation) }
        }
    }
}
