//! All trials: the unmutated tree first, then one mutation after the other, by as many workers as are asked for. Each
//! worker has its own copy of the sources and its own target directory, so that none waits for another's build.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::list::Mutation;
use crate::tree::Tree;
use crate::trial::{Builder, Catch, Outcome, Report, Run, Task, run};

/// Where the directed plans stand.
const PLANS: &str = "qemu/sim/tests/plans";

/// Where the scenarios stand. Those that the simulator refuses are passed over.
const SCENARIOS: &str = "qemu/scenarios";

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The workspace's folder.
    pub workspace: PathBuf,
    /// Where copies and their builds go.
    pub place: PathBuf,
    /// Seeds that are tried with each number of nodes before a mutation counts as survived.
    pub seeds: Range<u64>,
    /// Numbers of nodes, one after the other for each seed.
    pub nodes: Vec<u8>,
    /// Workers.
    pub jobs: usize,
    /// The unmutated tree is not run over all seeds first, but only over those that found something.
    pub trust_tree: bool,
    /// Whether to stop: asked again and again.
    pub stop: fn() -> bool,
}

/// Why there is no result.
#[derive(Debug)]
pub enum CampaignError {
    /// A file or a program could not be used.
    Io(io::Error),
    /// Another campaign works in the same place.
    Busy(PathBuf),
    /// The unmutated tree does not build.
    Build(String),
    /// The unmutated tree does not hold its own seeds, plans or scenarios: no mutation can be judged.
    Tree(Catch),
}

impl fmt::Display for CampaignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(place) => write!(f, "another mutation check works in {}: wait for its end", place.display()),
            Self::Io(error) => write!(f, "the mutation check cannot go on: {error}"),
            Self::Build(errors) => write!(f, "the tree does not build, without any mutation:\n{errors}"),
            Self::Tree(Catch { run, what }) => {
                write!(f, "the tree fails {}, without any mutation: {what}", run.in_words())
            }
        }
    }
}

impl std::error::Error for CampaignError {}

impl From<io::Error> for CampaignError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A campaign whose unmutated tree is built.
#[derive(Debug)]
pub struct Campaign {
    plan: Plan,
    unmutated: PathBuf,
    /// Directed plans, then scenarios. The unmutated tree holds them all.
    directed: Task,
    /// Held as long as the campaign works in its place.
    _lock: File,
}

impl Campaign {
    /// Builds the unmutated tree and holds it against all plans, scenarios and seeds. `progress` is given a line for each thing that takes time.
    ///
    /// # Errors
    /// See [`CampaignError`].
    pub fn begin(plan: Plan, progress: &dyn Fn(&str)) -> Result<Self, CampaignError> {
        std::fs::create_dir_all(&plan.place)?;
        let lock = File::create(plan.place.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CampaignError::Busy(plan.place)),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        progress("building the tree without a mutation");
        let (tree, builder) = workshop(&plan, 0)?;
        let built = builder.build()?.map_err(CampaignError::Build)?;
        drop(tree);
        // Kept apart: the next build in that directory is a mutated one.
        let unmutated = plan.place.join("unmutated");
        std::fs::copy(built, &unmutated)?;
        let directed = Task::Directed(directed(&plan.workspace)?);
        let held = |task: &Task| match run(&unmutated, task, plan.stop)?.catch {
            Some(catch) => Err(CampaignError::Tree(catch)),
            None => Ok(()),
        };
        progress("plans and scenarios without a mutation");
        held(&directed)?;
        if !plan.trust_tree {
            progress(&format!("seeds {:?} without a mutation", plan.seeds));
            let (seeds, nodes) = (plan.seeds.clone(), plan.nodes.clone());
            held(&Task::Seeds { seeds, nodes, groups: false, left_out: Vec::new() })?;
        }
        Ok(Self { plan, unmutated, directed, _lock: lock })
    }

    /// Tries all of these. `progress` is given each report when it is there; the reports come in the order of the list.
    ///
    /// # Errors
    /// See [`CampaignError`].
    pub fn run(
        &self,
        mutations: &[Mutation],
        progress: &(dyn Fn(&Report) + Sync),
    ) -> Result<Vec<Report>, CampaignError> {
        let waiting: Mutex<VecDeque<usize>> = Mutex::new((0..mutations.len()).collect());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = |worker: usize| -> Result<Vec<(usize, Report)>, CampaignError> {
            let (mut tree, builder) = workshop(&self.plan, worker)?;
            let mut reports = Vec::new();
            while let Some(at) = next() {
                let Some(mutation) = mutations.get(at) else { break };
                let report = self.try_one(mutation, &mut tree, &builder)?;
                progress(&report);
                reports.push((at, report));
            }
            tree.restore()?;
            Ok(reports)
        };
        let results = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.plan.jobs.max(1)).map(|w| scope.spawn(move || work(w))).collect();
            workers.into_iter().map(|w| w.join()).collect::<Vec<_>>()
        });
        let mut reports = Vec::new();
        for result in results {
            match result {
                Ok(done) => reports.extend(done?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        reports.sort_by_key(|(at, _)| *at);
        Ok(reports.into_iter().map(|(_, report)| report).collect())
    }

    fn try_one(&self, mutation: &Mutation, tree: &mut Tree, builder: &Builder) -> Result<Report, CampaignError> {
        let begun = Instant::now();
        let applied = tree.apply(mutation)?;
        let built = match applied {
            Ok(()) => builder.build()?.map_err(Outcome::DoesNotCompile),
            Err(error) => Err(Outcome::NoPlace(error.to_string())),
        };
        let build_s = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let (outcome, runs, directed) = match built {
            Ok(program) => match self.try_seeds(&program, mutation)? {
                (Outcome::Survived, runs) => {
                    let ran = run(&program, &self.directed, self.plan.stop)?;
                    (ran.catch.map_or(Outcome::Survived, Outcome::Caught), runs, ran.runs)
                }
                (outcome, runs) => (outcome, runs, 0),
            },
            Err(outcome) => (outcome, 0, 0),
        };
        let run_s = begun.elapsed().as_secs_f64();
        Ok(Report { name: mutation.name.clone(), outcome, runs, directed, build_s, run_s })
    }

    /// Runs seeds until one finds the fault that the unmutated tree holds.
    fn try_seeds(&self, program: &Path, mutation: &Mutation) -> Result<(Outcome, u64), CampaignError> {
        let nodes = if mutation.nodes.is_empty() { &self.plan.nodes } else { &mutation.nodes };
        let groups = mutation.is_of_groups();
        let task = |seeds, nodes: &[u8], left_out: &[(u64, u8)]| Task::Seeds {
            seeds,
            nodes: nodes.to_vec(),
            groups,
            left_out: left_out.to_vec(),
        };
        let (mut runs, mut left_out, mut from) = (0, Vec::new(), self.plan.seeds.start);
        loop {
            let ran = run(program, &task(from..self.plan.seeds.end, nodes, &left_out), self.plan.stop)?;
            runs += ran.runs;
            let Some(catch) = ran.catch else { return Ok((Outcome::Survived, runs)) };
            let Run::Seed { seed, nodes: count } = catch.run else { return Ok((Outcome::Caught(catch), runs)) };
            if run(&self.unmutated, &task(seed..seed + 1, &[count], &[]), self.plan.stop)?.catch.is_none() {
                return Ok((Outcome::Caught(catch), runs));
            }
            // The tree has a fault of its own here: that proves nothing about this one. What was run of this seed is left out.
            from = seed;
            left_out.retain(|(s, _)| *s >= seed);
            let upto = nodes.iter().position(|n| *n == count).unwrap_or(0);
            left_out.extend(nodes.iter().take(upto + 1).map(|n| (seed, *n)));
        }
    }
}

/// The directed plans and the scenarios of the tree, each kind by name.
fn directed(workspace: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in [PLANS, SCENARIOS] {
        let from = files.len();
        for entry in std::fs::read_dir(workspace.join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "toml") {
                files.push(path);
            }
        }
        if let Some(these) = files.get_mut(from..) {
            these.sort();
        }
    }
    Ok(files)
}

/// A worker's copy of the sources, and where it builds.
fn workshop(plan: &Plan, worker: usize) -> io::Result<(Tree, Builder)> {
    let place = plan.place.join(format!("worker-{worker}"));
    let tree = Tree::copy(&plan.workspace, &place.join("tree"))?;
    let builder = Builder { tree: tree.root().to_owned(), target: place.join("target") };
    Ok((tree, builder))
}
