//! The program that is built with one fault in it: runs what it is told and says which run is the first that breaks.
//!
//! - `quorate-mutate-trial seeds|groups FROM TO NODES[,NODES…] [SEED:NODES …]`: seeds `FROM..TO`, each with every number of
//!   nodes but for the pairs that are to be left out; with `groups` each has group services;
//! - `quorate-mutate-trial directed FILE.toml …`: plans and scenarios, told apart by what is in them. A scenario that the
//!   simulator refuses is passed over.
//!
//! A line before each run, `run seed SEED NODES`, `run plan NAME` or `run scenario NAME SEED`; at the end `held`, or `found`
//! and what was wrong.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use quorate_check::{Checker, Options};
use quorate_mutate::Run;
use quorate_scenario::{Scenario, engine};
use quorate_sim::{Plan, RunOptions, ScenarioWorld, run_plan, run_scenario, run_seed};

/// A scenario is played once for each: what it leaves open is drawn anew.
const SCENARIO_SEEDS: std::ops::Range<u64> = 0..5;

const USAGE: &str = "give seeds|groups FROM TO NODES[,NODES] [SEED:NODES ...], or directed FILE.toml ...";

/// What is told of a run that broke something.
type Found = Result<(), String>;

struct Seeds {
    seeds: std::ops::Range<u64>,
    nodes: Vec<u8>,
    left_out: BTreeSet<(u64, u8)>,
}

impl Seeds {
    fn parse(words: &[String]) -> Option<Self> {
        let [from, to, nodes, left_out @ ..] = words else { return None };
        let pair = |word: &String| {
            let (seed, nodes) = word.split_once(':')?;
            Some((seed.parse().ok()?, nodes.parse().ok()?))
        };
        Some(Self {
            seeds: from.parse().ok()?..to.parse().ok()?,
            nodes: nodes.split(',').map(|n| n.parse().ok()).collect::<Option<_>>()?,
            left_out: left_out.iter().map(pair).collect::<Option<_>>()?,
        })
    }
}

/// Says what is run, runs it, and makes a panic a finding.
struct Runner {
    panicked: Arc<Mutex<String>>,
}

impl Runner {
    fn new() -> Self {
        let panicked = Arc::new(Mutex::new(String::new()));
        let note = panicked.clone();
        std::panic::set_hook(Box::new(move |info| {
            *note.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
        }));
        Self { panicked }
    }

    fn run(&self, what: &Run, run: impl FnOnce() -> Found) -> Found {
        println!("run {what}");
        catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|_| Err(format!("panic: {}", self.panicked.lock().unwrap_or_else(PoisonError::into_inner))))
    }

    fn seeds(&self, arguments: Seeds, groups: bool) -> Found {
        let options = RunOptions { groups: groups.then_some(true), ..RunOptions::default() };
        for seed in arguments.seeds {
            for &nodes in arguments.nodes.iter().filter(|n| !arguments.left_out.contains(&(seed, **n))) {
                self.run(&Run::Seed { seed, nodes }, || {
                    run_seed(seed, nodes, &options).map(drop).map_err(|failure| failure.broken.what)
                })?;
            }
        }
        Ok(())
    }

    fn directed(&self, files: &[String]) -> Result<Found, String> {
        for file in files.iter().map(Path::new) {
            let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
            let found = match Plan::parse(&text) {
                Ok(plan) => self.plan(file, &plan),
                Err(not_a_plan) => match Scenario::read(file) {
                    Ok(sizes) => sizes.iter().try_for_each(|scenario| self.scenario(scenario)),
                    Err(problems) => {
                        let not_a_scenario = problems.render(false);
                        return Err(format!(
                            "{} is no plan: {not_a_plan}; and no scenario: {not_a_scenario}",
                            file.display()
                        ));
                    }
                },
            };
            if found.is_err() {
                return Ok(found);
            }
        }
        Ok(Ok(()))
    }

    fn plan(&self, file: &Path, plan: &Plan) -> Found {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        self.run(&Run::Plan(name), || {
            run_plan(plan, &RunOptions::default()).map(drop).map_err(|failure| failure.broken.what)
        })
    }

    fn scenario(&self, scenario: &Scenario) -> Found {
        if engine::check(scenario, &ScenarioWorld::new(scenario, 0)).is_err() {
            return Ok(());
        }
        SCENARIO_SEEDS.clone().try_for_each(|seed| {
            let name = scenario.name.clone();
            self.run(&Run::Scenario { name, seed }, || {
                let (outcome, lines) = run_scenario(scenario, seed);
                if let Some(failure) = &outcome.failure {
                    return Err(in_short(&failure.trouble.to_string()));
                }
                let rules = Options { needs_end: true, faults_in_trace: true, ..Options::simulator() };
                let mut checker = Checker::new(rules);
                let wrong = lines.iter().find_map(|line| checker.push_text(&line.to_json()).into_iter().next());
                match wrong.or_else(|| checker.finish().into_iter().next()) {
                    Some(violation) => Err(violation.to_string()),
                    None => Ok(()),
                }
            })
        })
    }
}

/// What a scenario's failure says, without the trace: of a broken invariant what stands after its time, at the end.
fn in_short(told: &str) -> String {
    let last = told.lines().last().and_then(|line| line.strip_prefix("at ")?.split_once(" us: "));
    last.map_or_else(|| told.lines().next().unwrap_or_default(), |(_, what)| what).to_owned()
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runner = Runner::new();
    let found = match words.split_first() {
        Some((kind, files)) if kind == "directed" => runner.directed(files),
        Some((kind, words)) if kind == "seeds" || kind == "groups" => match Seeds::parse(words) {
            Some(arguments) => Ok(runner.seeds(arguments, kind == "groups")),
            None => Err(USAGE.to_owned()),
        },
        _ => Err(USAGE.to_owned()),
    };
    match found {
        Ok(Ok(())) => {
            println!("held");
            ExitCode::SUCCESS
        }
        Ok(Err(what)) => {
            println!("found {}", what.replace(['\n', '\r'], " "));
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
