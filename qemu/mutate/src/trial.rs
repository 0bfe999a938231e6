//! One trial: the program with the fault in it is built and runs seed after seed, or one directed plan or scenario after the
//! other, until one breaks.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A run that takes longer than this hangs. A seed takes a fraction of a second, on a busy machine a few.
const HANG: Duration = Duration::from_secs(60);

/// How often a wait asks whether it is to stop.
const LOOK: Duration = Duration::from_millis(200);

/// The program that is built: `src/bin/trial.rs`.
const PROGRAM: &str = "quorate-mutate-trial";

/// Which run.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Run {
    /// What a seed draws.
    Seed {
        /// The seed.
        seed: u64,
        /// The number of nodes.
        nodes: u8,
    },
    /// A directed plan, `qemu/sim/tests/plans/NAME.toml`.
    Plan(String),
    /// A scenario in the simulator, of `qemu/scenarios`.
    Scenario {
        /// Its name, with its size if its file has several.
        name: String,
        /// The seed of what it leaves open.
        seed: u64,
    },
}

impl Run {
    /// From the words that [`fmt::Display`] writes.
    fn parse(words: &str) -> Option<Self> {
        let (kind, rest) = words.split_once(' ')?;
        let last = || rest.rsplit_once(' ');
        match kind {
            "seed" => last()
                .and_then(|(seed, nodes)| Some(Self::Seed { seed: seed.parse().ok()?, nodes: nodes.parse().ok()? })),
            "plan" => Some(Self::Plan(rest.to_owned())),
            "scenario" => {
                last().and_then(|(name, seed)| Some(Self::Scenario { name: name.to_owned(), seed: seed.parse().ok()? }))
            }
            _ => None,
        }
    }
}

impl Run {
    /// For people.
    pub fn in_words(&self) -> String {
        match self {
            Self::Seed { seed, nodes } => format!("seed {seed} with {nodes} nodes"),
            Self::Plan(name) => format!("plan {name}"),
            Self::Scenario { name, seed } => format!("scenario {name}, seed {seed}"),
        }
    }
}

/// As the words in which a trial says what it runs.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed { seed, nodes } => write!(f, "seed {seed} {nodes}"),
            Self::Plan(name) => write!(f, "plan {name}"),
            Self::Scenario { name, seed } => write!(f, "scenario {name} {seed}"),
        }
    }
}

/// What a program is to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Task {
    /// Seeds with each number of nodes, but for some.
    Seeds {
        seeds: Range<u64>,
        nodes: Vec<u8>,
        /// Group services in every seed, not only in some.
        groups: bool,
        /// By seed and nodes.
        left_out: Vec<(u64, u8)>,
    },
    /// Directed plans, then scenarios.
    Directed(Vec<PathBuf>),
}

impl Task {
    fn arguments(&self) -> Vec<OsString> {
        match self {
            Self::Seeds { seeds, nodes, groups, left_out } => {
                let nodes: Vec<String> = nodes.iter().map(u8::to_string).collect();
                let kind = if *groups { "groups" } else { "seeds" };
                let words = [kind.to_owned(), seeds.start.to_string(), seeds.end.to_string(), nodes.join(",")];
                let left_out = left_out.iter().map(|(seed, nodes)| format!("{seed}:{nodes}"));
                words.into_iter().chain(left_out).map(OsString::from).collect()
            }
            Self::Directed(files) => {
                std::iter::once("directed".into()).chain(files.iter().map(|file| file.clone().into())).collect()
            }
        }
    }
}

/// A fault was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Catch {
    /// By this run.
    pub run: Run,
    /// What was wrong in it.
    pub what: String,
}

impl Catch {
    /// The rule or invariant, without the details of the run: what stands before the first colon of a rule's finding, the
    /// whole of an invariant's.
    pub fn rule(&self) -> &str {
        let is_name = |head: &str| !head.is_empty() && head.bytes().all(|b| b.is_ascii_alphanumeric());
        match self.what.split_once(':') {
            Some((head, _)) if is_name(head) => head,
            Some((head, _)) if self.what.starts_with("all nodes joined") => head,
            _ => &self.what,
        }
    }
}

/// How a mutation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was found.
    Caught(Catch),
    /// All runs held.
    Survived,
    /// All runs held, but the model checker finds a counterexample without the rule that is broken: to this invariant.
    ByModel(String),
    /// An error of the list: the text has no single place.
    NoPlace(String),
    /// An error of the list: the first errors of the compiler.
    DoesNotCompile(String),
}

/// What one mutation came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The mutation.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Seeds' runs that were needed, the one that found it included.
    pub runs: u64,
    /// Plans and scenarios that were run after them, in the same way.
    pub directed: u64,
    /// Building, s.
    pub build_s: f64,
    /// Running, s.
    pub run_s: f64,
}

/// What a program's runs came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ran {
    pub catch: Option<Catch>,
    pub runs: u64,
}

/// Where to build.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    /// The sources.
    pub tree: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
}

impl Builder {
    /// Builds the program. Gives its path, or the compiler's errors.
    pub fn build(&self) -> std::io::Result<Result<PathBuf, String>> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .current_dir(&self.tree)
            .args(["build", "--quiet", "--release", "--package", "quorate-mutate", "--bin", PROGRAM])
            .env("CARGO_TARGET_DIR", &self.target)
            // A fault changes one crate; its neighbours' code is mostly built already.
            .env("CARGO_INCREMENTAL", "1")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .env("CARGO_TERM_COLOR", "never")
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            return Ok(Ok(self.target.join("release").join(PROGRAM)));
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Ok(Err(first_errors(&text)))
    }
}

fn first_errors(text: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("error"));
    let errors: Vec<&str> = lines.by_ref().take(6).map(str::trim_end).collect();
    if errors.is_empty() { text.lines().last().unwrap_or("cargo said nothing").to_owned() } else { errors.join("\n") }
}

/// Runs a program until one of its runs breaks.
pub(crate) fn run(program: &Path, task: &Task, stop: fn() -> bool) -> std::io::Result<Ran> {
    let mut child = Command::new(program)
        .args(task.arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (last, runs, end) = match child.stdout.take() {
        Some(stdout) => follow(stdout, HANG, stop),
        None => (None, 0, End::Gone),
    };
    // It has ended, or it hangs.
    let _ = child.kill();
    let status = child.wait()?;
    let what = match end {
        End::Held => return Ok(Ran { catch: None, runs }),
        End::Stopped => return Err(std::io::Error::new(std::io::ErrorKind::Interrupted, "interrupted")),
        End::Found(what) => what,
        End::Silent => format!("the run hangs: no end after {} s", HANG.as_secs()),
        End::Gone => format!("the program died: {status}"),
    };
    match last {
        Some(run) => Ok(Ran { catch: Some(Catch { run, what }), runs }),
        None => Err(std::io::Error::other(format!("{} began no run: {what}", program.display()))),
    }
}

/// How a program's output ended.
#[derive(Clone, PartialEq, Eq, Debug)]
enum End {
    Held,
    Found(String),
    /// Nothing came for too long.
    Silent,
    /// Neither word came.
    Gone,
    /// It was to be stopped.
    Stopped,
}

/// Reads a program's output. Gives the last run that began, how many did, and how it ended.
fn follow(output: impl Read + Send + 'static, hang: Duration, stop: fn() -> bool) -> (Option<Run>, u64, End) {
    let (lines, incoming) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    let (mut last, mut runs, mut since) = (None, 0, Instant::now());
    loop {
        if stop() {
            return (last, runs, End::Stopped);
        }
        let line = match incoming.recv_timeout(hang.min(LOOK)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) if since.elapsed() < hang => continue,
            Err(RecvTimeoutError::Timeout) => return (last, runs, End::Silent),
            Err(RecvTimeoutError::Disconnected) => return (last, runs, End::Gone),
        };
        since = Instant::now();
        match line.split_once(' ') {
            Some(("run", words)) => {
                last = Run::parse(words);
                runs += 1;
            }
            Some(("found", what)) => return (last, runs, End::Found(what.to_owned())),
            None if line == "held" => return (last, runs, End::Held),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> (Option<Run>, u64, End) {
        follow(text.as_bytes(), Duration::from_secs(5), || false)
    }

    #[test]
    fn a_programs_words_are_understood() {
        let run = |seed, nodes| Some(Run::Seed { seed, nodes });
        assert_eq!(read("run seed 0 3\nrun seed 0 5\nheld\n"), (run(0, 5), 2, End::Held));
        let found = || End::Found("Lease: too late: by 3".into());
        assert_eq!(read("run seed 7 3\nfound Lease: too late: by 3\n"), (run(7, 3), 1, found()));
        assert_eq!(read("run seed 7 3\nrun seed 7 5\n"), (run(7, 5), 2, End::Gone));
        let plan = Some(Run::Plan("a-plan".into()));
        assert_eq!(read("run plan a-plan\nfound Lease: too late: by 3\n"), (plan, 1, found()));
        assert_eq!(read(""), (None, 0, End::Gone));
    }

    #[test]
    fn a_run_is_read_as_it_is_written() {
        let scenario = Run::Scenario { name: "power-on-3".into(), seed: 4 };
        for run in [Run::Seed { seed: 7, nodes: 3 }, Run::Plan("a-plan".into()), scenario] {
            assert_eq!(Run::parse(&run.to_string()), Some(run));
        }
        for words in ["", "seed", "seed 7", "seed x 3", "scenario power-on", "other 1 2"] {
            assert_eq!(Run::parse(words), None, "{words}");
        }
    }

    #[test]
    fn a_program_that_says_nothing_hangs() {
        struct Silent(std::sync::mpsc::Receiver<()>);
        impl Read for Silent {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                // Ends when the test does.
                let _ = self.0.recv();
                Ok(0)
            }
        }
        let (_until_the_end, end) = channel();
        assert_eq!(follow(Silent(end), Duration::from_millis(1), || false), (None, 0, End::Silent));
        assert_eq!(follow(std::io::empty(), HANG, || true), (None, 0, End::Stopped));
    }

    #[test]
    fn a_catch_names_its_rule() {
        let rule = |what: &str| Catch { run: Run::Seed { seed: 0, nodes: 3 }, what: what.into() }.rule().to_owned();
        assert_eq!(rule("OneHistory: line 3, node 1: view 4 has another content"), "OneHistory");
        assert_eq!(
            rule("a ballot write of node 1 landed after its fence"),
            "a ballot write of node 1 landed after its fence"
        );
        assert_eq!(
            rule("all nodes joined under one master after all was healed: not in time"),
            "all nodes joined under one master after all was healed"
        );
        assert_eq!(rule("panic: at the end"), "panic");
    }

    #[test]
    fn the_compilers_first_errors_are_kept() {
        let text = "warning: unused\n\nerror[E0308]: mismatched types\n --> a.rs:1:2\nmore\n";
        assert_eq!(first_errors(text), "error[E0308]: mismatched types\n --> a.rs:1:2\nmore");
        assert_eq!(first_errors("killed\n"), "killed");
        assert_eq!(first_errors(""), "cargo said nothing");
    }
}
