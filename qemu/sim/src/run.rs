//! A seed's run from beginning to end, and many of them.

use std::fmt;
use std::ops::Range;

use quorate_base::Timing;
use quorate_node::ProbeLevel;

use crate::faults::Faults;
use crate::random::Random;
use crate::schedule::Schedule;
use crate::world::{Broken, Setup, World};

/// How a seed is run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// What disk and network do wrong during the damage; `None`: the seed decides between healthy, light and full.
    pub faults: Option<Faults>,
    /// For how long things are damaged, ms of run time.
    pub damage_ms: u64,
    /// Keep the trace.
    pub keep_trace: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { faults: None, damage_ms: 15_000, keep_trace: false }
    }
}

/// What a run that kept every invariant leaves.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Run time, µs.
    pub virtual_us: u64,
    /// How long the cluster took to settle after everything was healed, µs.
    pub settled_us: u64,
    /// Events.
    pub events: u64,
    /// What the checker saw.
    pub counts: quorate_check::Counts,
    /// The trace's lines, if they were to be kept.
    pub trace: Vec<String>,
}

/// A run that broke an invariant or did not settle.
#[derive(Clone, PartialEq, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// Nodes.
    pub nodes: u8,
    /// What was wrong.
    pub broken: Box<Broken>,
    /// The trace's lines, if they were to be kept.
    pub trace: Vec<String>,
}

impl Failure {
    /// The command that runs this seed again, with its trace.
    pub fn replay(&self) -> String {
        let (nodes, seed, next) = (self.nodes, self.seed, self.seed + 1);
        format!("cargo cluster sim --nodes {nodes} --seeds {seed}..{next} --trace seed-{seed}.jsonl")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.broken)?;
        writeln!(f, "seed {} failed", self.seed)?;
        write!(f, "replay: {}", self.replay())
    }
}

impl std::error::Error for Failure {}

/// What many runs came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Seeds that were run.
    pub runs: u64,
    /// Run time of all of them, µs.
    pub virtual_us: u64,
    /// Events of all of them.
    pub events: u64,
    /// The longest settling, µs, and its seed.
    pub slowest: (u64, u64),
    /// Committed views.
    pub views: u64,
    /// Notifications.
    pub notifies: u64,
    /// Fences.
    pub fences: u64,
    /// Lives.
    pub lives: u64,
}

impl Summary {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.virtual_us += outcome.virtual_us;
        self.events += outcome.events;
        self.slowest = self.slowest.max((outcome.settled_us, outcome.seed));
        self.views += outcome.counts.views;
        self.notifies += outcome.counts.notifies;
        self.fences += outcome.counts.fences;
        self.lives += outcome.counts.lives;
    }
}

/// Runs one seed.
///
/// # Errors
/// The first invariant that broke, or that the cluster did not settle.
pub fn run_seed(seed: u64, nodes: u8, options: &RunOptions) -> Result<Outcome, Box<Failure>> {
    let mut world = draw_world(seed, nodes, options);
    let result = Schedule::new(seed, nodes).run(&mut world, options.damage_ms).and_then(|settled_us| {
        world.finish()?;
        Ok(settled_us)
    });
    let trace = world.trace();
    match result {
        Ok(settled_us) => {
            Ok(Outcome { seed, virtual_us: world.now, settled_us, events: world.events, counts: world.counts(), trace })
        }
        Err(broken) => Err(Box::new(Failure { seed, nodes, broken, trace })),
    }
}

/// Runs all seeds of a range, and stops at the first that fails. `progress` is told after each.
///
/// # Errors
/// The first failure.
pub fn run_seeds(
    seeds: Range<u64>,
    nodes: u8,
    options: &RunOptions,
    mut progress: impl FnMut(&Outcome),
) -> Result<Summary, Box<Failure>> {
    let mut summary = Summary::default();
    for seed in seeds {
        let outcome = run_seed(seed, nodes, options)?;
        summary.add(&outcome);
        progress(&outcome);
    }
    Ok(summary)
}

/// The cluster of a seed: its faults, clocks, time-outs and levels.
fn draw_world(seed: u64, nodes: u8, options: &RunOptions) -> World {
    let faults = options.faults.unwrap_or_else(|| match seed % 3 {
        0 => Faults::default(),
        1 => Faults::light(),
        _ => Faults::full(),
    });
    // DESIGN 7 allows clocks that differ by one per cent.
    let clock_ppm = if seed.is_multiple_of(2) { 0 } else { 10_000 };
    let timing = if seed % 5 == 4 { Timing::FAST } else { Timing::DEFAULT };
    let setup = Setup { faults, clock_ppm, timing, keep_trace: options.keep_trace, ..Setup::new(seed, nodes) };
    let mut world = World::new(&setup);
    if seed % 4 == 3 {
        draw_levels(&mut world, Random::new(!seed), nodes);
    }
    world
}

/// Levels that work for long, so that other things happen meanwhile, and one that only some nodes have.
fn draw_levels(world: &mut World, mut random: Random, nodes: u8) {
    let [short, long] = [random.below(20), random.below(200)];
    let everywhere = [format!("10:first:2:2:2:{short}:0:1"), format!("60:second:1:3:2:{long}:0:1")];
    let some = format!("80:some:2:1:1:{short}:0:0");
    for m in 0..usize::from(nodes) {
        let words = everywhere.iter().chain((random.below(2) == 0).then_some(&some));
        world.set_levels(m, words.filter_map(|word| ProbeLevel::parse(word).ok()).collect());
    }
}
