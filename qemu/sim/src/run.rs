//! A seed's run from beginning to end, and many of them.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::ops::Range;
use std::sync::{Mutex, mpsc};

use quorate_base::FenceMethod;

use crate::director::Director;
use crate::faults::Faults;
use crate::plan::Plan;
use crate::traffic;
use crate::world::{Broken, Invariant, Setup, World};

/// How a seed is run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// What disk and network do wrong during the damage; `None`: the seed decides between healthy, light and full.
    pub faults: Option<Faults>,
    /// How the cluster fences; `None`: the seed decides.
    pub fence: Option<FenceMethod>,
    /// Whether all nodes have group services, with traffic; `None`: the seed decides, and every eighth has them.
    pub groups: Option<bool>,
    /// For how long things are damaged, ms of run time.
    pub damage_ms: u64,
    /// Keep the trace.
    pub keep_trace: bool,
    /// An invariant beside those of the simulator and the checker: what is wrong, if anything is. For tests.
    pub invariant: Option<Invariant>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { faults: None, fence: None, groups: None, damage_ms: 15_000, keep_trace: false, invariant: None }
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
    /// How long it might have taken, µs.
    pub settle_bound_us: u64,
    /// Events.
    pub events: u64,
    /// What the checker saw.
    pub counts: quorate_check::Counts,
    /// Whether its nodes had group services.
    pub groups: bool,
    /// How many faults of each kind were made.
    pub injected: BTreeMap<&'static str, u64>,
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
    /// What was done.
    pub plan: Box<Plan>,
    /// The trace's lines, if they were to be kept.
    pub trace: Vec<String>,
}

impl Failure {
    /// The command that runs this seed again, with its trace.
    pub fn replay(&self) -> String {
        let (nodes, seed, next) = (self.nodes, self.seed, self.seed + 1);
        let groups = if self.plan.groups && !traffic::is_drawn(seed) { " --groups" } else { "" };
        format!("cargo cluster sim --nodes {nodes} --seeds {seed}..{next}{groups} --trace seed-{seed}.jsonl")
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
    /// Runs with group services, and what they delivered, each once.
    pub groups: (u64, u64),
    /// How many faults of each kind were made.
    pub injected: BTreeMap<&'static str, u64>,
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
        self.groups.0 += u64::from(outcome.groups);
        self.groups.1 += outcome.counts.group_places;
        for (fault, count) in &outcome.injected {
            *self.injected.entry(fault).or_default() += count;
        }
    }
}

/// Runs one seed.
///
/// # Errors
/// The first invariant that broke, or that the cluster did not settle.
pub fn run_seed(seed: u64, nodes: u8, options: &RunOptions) -> Result<Outcome, Box<Failure>> {
    run_plan(&Plan::draw(seed, nodes, options), options)
}

/// Runs a plan; of the options only those that are no part of a plan count.
///
/// # Errors
/// The first invariant that broke, or that the cluster did not settle.
pub fn run_plan(plan: &Plan, options: &RunOptions) -> Result<Outcome, Box<Failure>> {
    let mut world = world_of(plan, options);
    let mut director = Director::new(plan);
    let result = director.run(&mut world).and_then(|settled_us| {
        world.finish_settled()?;
        Ok(settled_us)
    });
    let mut injected = std::mem::take(&mut director.injected);
    injected.extend(world.disk.chances.by_kind());
    let (seed, trace) = (plan.seed, world.trace());
    match result {
        Ok(settled_us) => {
            let (virtual_us, settle_bound_us) = (world.now, plan.settle_us());
            Ok(Outcome {
                seed,
                virtual_us,
                settled_us,
                settle_bound_us,
                events: world.events,
                counts: world.counts(),
                groups: plan.groups,
                injected,
                trace,
            })
        }
        Err(broken) => Err(Box::new(Failure { seed, nodes: plan.nodes, broken, plan: Box::new(plan.clone()), trace })),
    }
}

/// Runs all seeds of a range on all processors, and stops at the first that fails: the first by number, whichever was
/// found first. `progress` is told after each, in the order of the seeds.
///
/// # Errors
/// The first failure.
pub fn run_seeds(
    seeds: Range<u64>,
    nodes: u8,
    options: &RunOptions,
    mut progress: impl FnMut(&Outcome),
) -> Result<Summary, Box<Failure>> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let workers = processors.min(seeds.end.saturating_sub(seeds.start));
    // The next seed, and the first that is not to be run.
    let left = Mutex::new(seeds.clone());
    let take = || left.lock().ok().and_then(|mut left| left.next());
    let stop = || left.lock().map(|mut left| *left = 0..0).is_ok();
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let tell = tell.clone();
            scope.spawn(move || {
                while let Some(seed) = take() {
                    let result = run_seed(seed, nodes, options);
                    if result.is_err() {
                        // Those with a lower number are under way or done.
                        stop();
                    }
                    if tell.send((seed, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(tell);
        let (mut summary, mut due, mut early) = (Summary::default(), seeds.start, BTreeMap::new());
        for (seed, result) in told {
            early.insert(seed, result);
            while let Some(result) = early.remove(&due) {
                let outcome = result?;
                due += 1;
                summary.add(&outcome);
                progress(&outcome);
            }
        }
        Ok(summary)
    })
}

/// The cluster of a plan, everything off.
fn world_of(plan: &Plan, options: &RunOptions) -> World {
    let setup = Setup {
        faults: plan.faults,
        clock_ppm: plan.clock_ppm,
        timing: plan.timing,
        fence: plan.fence,
        target: plan.target,
        levels: Vec::new(),
        keep_trace: options.keep_trace,
        ..Setup::new(plan.seed, plan.nodes)
    };
    let mut world = World::new(&setup);
    world.invariant = options.invariant;
    if plan.views_only {
        world.demand_views_only();
    }
    world.calm = plan.calm;
    for m in 0..usize::from(plan.nodes) {
        world.set_levels(m, plan.levels_of(m));
        world.set_groups(m, plan.groups);
    }
    world
}
