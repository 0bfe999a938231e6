//! Which models there are, in full and in short, and for each rule the model that shows what it is for.

use std::fmt::Write as _;

use quorate_base::Timing;
use quorate_master_lock::{Rule, Rules};

use crate::beat::{self, BeatModel, Outside};
use crate::birth::{self, BirthModel, Kept};
use crate::explore::{Limits, Report, Verdict, explore};
use crate::lock::{Bounds, LockModel, Port};

/// How much time there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// Some minutes.
    Full,
    /// About a minute in all.
    Short,
}

/// A model by name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// How many nodes.
    pub nodes: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// In full and in short, with how often a fair run is followed.
    Lock(Bounds, Bounds),
    Beat(beat::Bounds, beat::Bounds),
    Birth(birth::Bounds, birth::Bounds),
}

const KEPT: Port = Port { durable: true, one_write: true };

const fn beats(bounds: Bounds, beats: [u8; 3]) -> Bounds {
    Bounds { beats, ..bounds }
}
const TWO: Bounds = Bounds::quiet(2);
const THREE: Bounds = Bounds::quiet(3);

/// Clocks that are right, and each as wrong as it may be.
const RATES: &[(u64, u64)] = &[(1000, 1000), (1010, 990), (990, 1010), (1010, 1010), (990, 990)];

/// All models of lock, beat and birth.
pub const MODELS: [Entry; 13] = [
    Entry {
        name: "lock-2",
        about: "two nodes race, any suspicion",
        nodes: 2,
        kind: Kind::Lock(
            Bounds { rounds: 1, ..beats(TWO, [4; 3]) },
            Bounds { rounds: 1, views: 1, ..beats(TWO, [1; 3]) },
        ),
    },
    Entry {
        name: "lock-2-rounds",
        about: "two nodes depose each other, any suspicion",
        nodes: 2,
        kind: Kind::Lock(beats(TWO, [2; 3]), beats(TWO, [1; 3])),
    },
    Entry {
        name: "calm-2",
        about: "two nodes, no wrong suspicion, runs of any length",
        nodes: 2,
        kind: Kind::Lock(Bounds { calm: true, ..TWO }, Bounds { calm: true, rounds: 1, views: 1, ..TWO }),
    },
    Entry {
        name: "hand-over-2",
        about: "two nodes give the lock back and want it again",
        nodes: 2,
        kind: Kind::Lock(
            Bounds { calm: true, rounds: 4, views: 0, releases: 2, overtakings: 1, ..beats(TWO, [2; 3]) },
            Bounds { calm: true, rounds: 3, views: 0, releases: 1, overtakings: 1, ..beats(TWO, [1; 3]) },
        ),
    },
    Entry {
        name: "crash-2",
        about: "two nodes, one crash with a write lost, landed, torn or late, and a restart",
        nodes: 2,
        kind: Kind::Lock(
            Bounds { crashes: 1, restarts: 1, tears: true, views: 1, ..beats(TWO, [1; 3]) },
            Bounds { crashes: 1, restarts: 1, tears: true, rounds: 1, ..beats(TWO, [0; 3]) },
        ),
    },
    Entry {
        name: "late-2",
        about: "two nodes, one crash and a restart that does not end the old write",
        nodes: 2,
        kind: Kind::Lock(
            Bounds { crashes: 1, restarts: 1, open_restarts: true, views: 1, ..beats(TWO, [1; 3]) },
            Bounds { crashes: 1, restarts: 1, open_restarts: true, rounds: 1, ..beats(TWO, [0; 3]) },
        ),
    },
    Entry {
        name: "failure-2",
        about: "two nodes, one request fails and nobody knows whether it landed",
        nodes: 2,
        kind: Kind::Lock(
            Bounds { failures: 1, ..beats(TWO, [1; 3]) },
            Bounds { failures: 1, rounds: 1, ..beats(TWO, [0; 3]) },
        ),
    },
    Entry {
        name: "lock-3",
        about: "three nodes race, any suspicion",
        nodes: 3,
        kind: Kind::Lock(
            Bounds { rounds: 1, views: 1, ..beats(THREE, [0; 3]) },
            Bounds { rounds: 1, views: 1, contenders: 0b011, ..beats(THREE, [0; 3]) },
        ),
    },
    Entry {
        name: "beat",
        about: "beat against eviction: freeze, thaw, lease fence, a victim that is paused or reset, clocks off by 1 %",
        nodes: 2,
        kind: Kind::Beat(
            beat::Bounds { master_beats: 1, victim_beats: 2, reset: true, rates: RATES },
            beat::Bounds { master_beats: 1, victim_beats: 1, reset: true, rates: RATES },
        ),
    },
    Entry {
        name: "birth",
        about: "two machines boot under one node id on a blank record",
        nodes: 2,
        kind: Kind::Birth(AT_ONCE_LATE, birth::Bounds { slack_ms: 50, ..AT_ONCE_LATE }),
    },
    Entry {
        name: "birth-fast",
        about: "the same at fast timing",
        nodes: 2,
        kind: Kind::Birth(AT_ONCE_FAST, birth::Bounds { slack_ms: 10, ..AT_ONCE_FAST }),
    },
    Entry {
        name: "birth-one-lives",
        about: "two machines boot under one node id within a beat",
        nodes: 2,
        kind: Kind::Birth(AT_ONCE, AT_ONCE),
    },
    Entry {
        name: "birth-in-use",
        about: "a machine boots under the id of one that runs",
        nodes: 2,
        kind: Kind::Birth(IN_USE, IN_USE),
    },
];

/// Heartbeats for longer than `dead`.
const IN_USE: birth::Bounds = birth::Bounds { first_beats: true, beats: 8, one_lives: false, slack_ms: 50, ..AT_ONCE };
/// Two machines boot at once, and are through with it within a beat.
const AT_ONCE: birth::Bounds =
    birth::Bounds { first_beats: false, slack_ms: 30, beats: 1, timing: Timing::DEFAULT, one_lives: true };
/// Each step as late as `io_max` lets it be.
const AT_ONCE_LATE: birth::Bounds = birth::Bounds { slack_ms: 200, beats: 2, one_lives: false, ..AT_ONCE };
/// The same at fast timing; with steps later than its beat, up to `io_max`, there are too many states to visit all.
const AT_ONCE_FAST: birth::Bounds = birth::Bounds { slack_ms: 20, timing: Timing::FAST, ..AT_ONCE_LATE };

/// The model of that name.
pub fn model(name: &str) -> Option<&'static Entry> {
    MODELS.iter().find(|m| m.name == name)
}

impl Entry {
    /// Searches it with all rules on.
    pub fn run(&self, size: Size) -> Report {
        let full = size == Size::Full;
        match self.kind {
            Kind::Lock(long, short) => {
                let bounds = if full { long } else { short };
                explore(&mut LockModel::new(self.name, bounds, Rules::ALL, KEPT), Limits::default())
            }
            Kind::Beat(long, short) => {
                let bounds = if full { long } else { short };
                explore(&mut BeatModel::new(self.name, bounds, Rules::ALL, Outside::ALL), Limits::default())
            }
            Kind::Birth(long, short) => {
                let bounds = if full { long } else { short };
                explore(&mut BirthModel::new(self.name, bounds, Rules::ALL, Kept::ALL), Limits::default())
            }
        }
    }
}

/// What leaving a rule out costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cost {
    /// Safety: two histories, two masters, trust in what is not committed, a write after the fence.
    Safety,
    /// A node that should have halted, or that is no longer what it takes itself for, goes on.
    Standing,
    /// Progress: a fair run never gets there, or a waiting node is overtaken without bound.
    Liveness,
    /// Turmoil: a live master is deposed without need, promises are written in vain.
    Churn,
    /// Time: a reader knows later what is committed.
    Knowledge,
}

impl Cost {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Safety => "safety",
            Self::Standing => "standing",
            Self::Liveness => "liveness",
            Self::Churn => "churn",
            Self::Knowledge => "knowledge",
        }
    }
}

/// A rule that can be left out.
#[derive(Clone, Copy, Debug)]
pub struct Switch {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it says.
    pub rule: &'static str,
    /// What leaving it out costs.
    pub cost: Cost,
    /// One of these invariants is what is broken.
    pub breaks: &'static str,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Lock(Rule, Bounds),
    Port(Port, Bounds),
    Beat(Rule, beat::Bounds),
    Outside(Outside),
    Birth(Kept, birth::Bounds),
    Nonce(Rule, birth::Bounds),
}

const RACE: Bounds = Bounds { rounds: 3, views: 3, ..beats(TWO, [2; 3]) };
const CALM: Bounds = Bounds { calm: true, ..TWO };
const EVICTION: beat::Bounds = beat::Bounds { master_beats: 1, victim_beats: 1, reset: false, rates: &[(1010, 990)] };

const fn lock(
    name: &'static str,
    of: Rule,
    cost: Cost,
    breaks: &'static str,
    bounds: Bounds,
    rule: &'static str,
) -> Switch {
    Switch { name, rule, cost, breaks, what: What::Lock(of, bounds) }
}

/// All rules that can be left out, each with the model in which that shows.
pub const SWITCHES: [Switch; 35] = [
    lock(
        "look-after-hold",
        Rule::LookAfterHold,
        Cost::Churn,
        "no live master is deposed",
        CALM,
        "after Hold is written, all are read before anything is promised",
    ),
    lock(
        "hold-then-promise",
        Rule::HoldThenPromise,
        Cost::Churn,
        "no live master is deposed",
        CALM,
        "Hold and the promise are never one step",
    ),
    lock(
        "want-kept",
        Rule::WantKept,
        Cost::Liveness,
        "a master emerges",
        RACE,
        "who may not raise Hold writes Want and keeps it",
    ),
    lock(
        "cyclic-precedence",
        Rule::CyclicPrecedence,
        Cost::Liveness,
        "overtaken",
        Bounds { rounds: 4, views: 0, releases: 2, overtakings: 1, ..CALM },
        "precedence begins behind the last master",
    ),
    lock(
        "pass-over-silent",
        Rule::PassOverSilent,
        Cost::Churn,
        "no live master is deposed",
        CALM,
        "a flag is passed over only after disk_suspect of completed reads",
    ),
    lock(
        "ballot-above-all",
        Rule::BallotAboveAll,
        Cost::Churn,
        "below what was read",
        RACE,
        "a ballot is above all that were read",
    ),
    lock(
        "ballot-above-own",
        Rule::BallotAboveOwn,
        Cost::Safety,
        "one master per ballot",
        Bounds { releases: 1, ..beats(TWO, [2; 3]) },
        "a ballot is above one's own",
    ),
    lock(
        "promise-keeps-accepted",
        Rule::PromiseKeepsAccepted,
        Cost::Safety,
        "",
        Bounds { rounds: 3, views: 3, ..beats(TWO, [2, 1, 0]) },
        "a promise keeps the block's accepted ballot and view",
    ),
    lock(
        "higher-promise-stops",
        Rule::HigherPromiseStops,
        Cost::Safety,
        "",
        RACE,
        "a higher promise stops the taking over and the commit",
    ),
    lock(
        "take-highest-accepted",
        Rule::TakeHighestAccepted,
        Cost::Safety,
        "one history",
        Bounds { halts: true, ..RACE },
        "the view of the highest accepted ballot is taken",
    ),
    lock(
        "accept-under-own-ballot",
        Rule::AcceptUnderOwnBallot,
        Cost::Safety,
        "",
        RACE,
        "it is accepted again under the own ballot before anything is built on it",
    ),
    lock(
        "look-after-accept",
        Rule::LookAfterAccept,
        Cost::Safety,
        "no commit by a deposed master",
        RACE,
        "after an accept all are read before it counts",
    ),
    lock("one-change-at-a-time", Rule::OneChangeAtATime, Cost::Safety, "", RACE, "one change at a time"),
    lock(
        "holding-looks",
        Rule::HoldingLooks,
        Cost::Standing,
        "a higher promise that was read deposes",
        RACE,
        "a master looks at all promises at every beat, also when idle",
    ),
    lock(
        "trust-by-name",
        Rule::TrustByName,
        Cost::Safety,
        "",
        Bounds { views: 1, crashes: 1, restarts: 1, open_restarts: true, halts: true, ..beats(TWO, [0, 3, 0]) },
        "a mark counts for exactly (ballot, number)",
    ),
    lock(
        "predecessor",
        Rule::Predecessor,
        Cost::Knowledge,
        "knows its predecessor",
        RACE,
        "the predecessor of an accepted view is committed",
    ),
    lock(
        "later-read",
        Rule::LaterRead,
        Cost::Safety,
        "",
        RACE,
        "what is read as accepted counts only after a later read without a higher promise",
    ),
    lock(
        "exclusion-halts",
        Rule::ExclusionHalts,
        Cost::Standing,
        "committed exclusion",
        RACE,
        "a committed exclusion ends a node, unwritten",
    ),
    lock(
        "alternating-slots",
        Rule::AlternatingSlots,
        Cost::Safety,
        "",
        Bounds { crashes: 1, tears: true, halts: true, ..beats(TWO, [2; 3]) },
        "the ballot slots are written in turn, so that a torn one leaves the other",
    ),
    lock(
        "torn-read-again",
        Rule::TornReadAgain,
        Cost::Safety,
        "",
        Bounds { crashes: 1, tears: true, views: 1, ..beats(TWO, [0, 2, 0]) },
        "a torn slot leaves the truth to the other one as that stands when it is read again",
    ),
    lock(
        "unclean-birth-waits",
        Rule::UncleanBirthWaits,
        Cost::Safety,
        "one history",
        Bounds { crashes: 1, restarts: 1, open_restarts: true, halts: true, ..beats(TWO, [1; 3]) },
        "without a clean mark the ballot block waits until nothing of the old life can land",
    ),
    Switch {
        name: "durable-before-read",
        rule: "a write is durable before the read that follows it",
        cost: Cost::Safety,
        breaks: "",
        what: What::Port(Port { durable: false, ..KEPT }, Bounds { halts: true, ..RACE }),
    },
    Switch {
        name: "one-write",
        rule: "the next write begins when the fate of the last is known",
        cost: Cost::Safety,
        breaks: "",
        what: What::Port(Port { one_write: false, ..KEPT }, Bounds { failures: 1, ..RACE }),
    },
    Switch {
        name: "renew-by-highest-accepted",
        rule: "the lease follows the view of the highest accepted ballot, not the committed one",
        cost: Cost::Safety,
        breaks: "",
        what: What::Beat(Rule::RenewByHighestAccepted, EVICTION),
    },
    Switch {
        name: "second-read",
        rule: "the lease is renewed by a read that follows the heartbeat's write",
        cost: Cost::Safety,
        breaks: "",
        what: What::Beat(Rule::SecondRead, EVICTION),
    },
    Switch {
        name: "lease-from-submission",
        rule: "the lease runs from the submission of the heartbeat",
        cost: Cost::Safety,
        breaks: "",
        what: What::Beat(Rule::LeaseFromSubmission, EVICTION),
    },
    Switch {
        name: "new-life-proves-nothing",
        rule: "another life in a victim's heartbeat block proves nothing about the old one",
        cost: Cost::Safety,
        breaks: "after the fence",
        what: What::Beat(Rule::NewLifeProvesNothing, beat::Bounds { reset: true, ..EVICTION }),
    },
    Switch {
        name: "doorbell",
        rule: "the port looks at the clock as its last act before the doorbell",
        cost: Cost::Safety,
        breaks: "after the fence",
        what: What::Outside(Outside { doorbell: false, ..Outside::ALL }),
    },
    Switch {
        name: "read-after-commit",
        rule: "the fence counts from a read after the commit",
        cost: Cost::Safety,
        breaks: "",
        what: What::Outside(Outside { read_after_commit: false, ..Outside::ALL }),
    },
    Switch {
        name: "clocks-off",
        rule: "the inequality allows for clocks that are off by 1 %",
        cost: Cost::Safety,
        breaks: "after the fence",
        what: What::Outside(Outside { drift: false, ..Outside::ALL }),
    },
    Switch {
        name: "identity-read-back",
        rule: "a new life reads its identity back before it beats",
        cost: Cost::Standing,
        breaks: "lives on",
        what: What::Birth(Kept { read_back: false, ..Kept::ALL }, AT_ONCE),
    },
    Switch {
        name: "wait-a-beat",
        rule: "a new life waits a beat before it reads its identity back",
        cost: Cost::Standing,
        breaks: "lives on",
        what: What::Birth(Kept { wait_a_beat: false, ..Kept::ALL }, AT_ONCE),
    },
    Switch {
        name: "identity-after-beat",
        rule: "a new life reads its identity once more after its first heartbeat, before it writes the ballot block",
        cost: Cost::Safety,
        breaks: "both write",
        what: What::Nonce(Rule::IdentityAfterBeat, AT_ONCE_LATE),
    },
    Switch {
        name: "watch-old-heartbeat",
        rule: "a machine watches another machine's old heartbeat for dead before it takes over the id",
        cost: Cost::Safety,
        breaks: "while another's heartbeat moves",
        what: What::Birth(Kept { watch: false, ..Kept::ALL }, IN_USE),
    },
    Switch {
        name: "foreign-nonce-halts",
        rule: "a foreign nonce in the own block ends a node, unwritten",
        cost: Cost::Standing,
        breaks: "foreign nonce",
        what: What::Nonce(Rule::ForeignNonceHalts, AT_ONCE_LATE),
    },
];

/// The rule of that name.
pub fn switch(name: &str) -> Option<&'static Switch> {
    SWITCHES.iter().find(|s| s.name == name)
}

impl Switch {
    /// Searches its model without the rule.
    pub fn run(&self) -> Report {
        self.search(true, 6_000_000)
    }

    /// Searches the same model with the rule, through so many states.
    pub fn run_with_rule(&self, states: usize) -> Report {
        self.search(false, states)
    }

    fn search(&self, without: bool, states: usize) -> Report {
        let name = format!("{} {}", if without { "without" } else { "with" }, self.name);
        let rules = |rule| if without { Rules::ALL.without(rule) } else { Rules::ALL };
        // The rule that costs progress is found by fair runs; for the others they would only take time.
        let fair_every = if self.cost == Cost::Liveness { 1 } else { 1 << 20 };
        let limits = Limits { states, fair_every, ..Limits::default() };
        match self.what {
            What::Lock(rule, bounds) => explore(&mut LockModel::new(&name, bounds, rules(rule), KEPT), limits),
            What::Port(port, bounds) => {
                explore(&mut LockModel::new(&name, bounds, Rules::ALL, if without { port } else { KEPT }), limits)
            }
            What::Beat(rule, bounds) => explore(&mut BeatModel::new(&name, bounds, rules(rule), Outside::ALL), limits),
            What::Outside(outside) => {
                let outside = if without { outside } else { Outside::ALL };
                explore(&mut BeatModel::new(&name, EVICTION, Rules::ALL, outside), limits)
            }
            What::Birth(kept, bounds) => {
                let kept = if without { kept } else { Kept::ALL };
                explore(&mut BirthModel::new(&name, bounds, Rules::ALL, kept), limits)
            }
            What::Nonce(rule, bounds) => explore(&mut BirthModel::new(&name, bounds, rules(rule), Kept::ALL), limits),
        }
    }
}

/// A report in words: what was searched, what it cost, and each invariant by name.
pub fn describe(report: &Report) -> String {
    let mut text = format!("{}\n  bounds: {}\n", report.model, report.bounds);
    let _ = writeln!(
        text,
        "  {} states, {} transitions, depth {}, {} states at the bounds, {:.1} s",
        report.states, report.transitions, report.depth, report.at_bounds, report.seconds
    );
    if report.fair_from > 0 {
        let _ = writeln!(
            text,
            "  a fair run was followed from {} states, the longest {} steps",
            report.fair_from, report.fair_longest
        );
    }
    for invariant in &report.invariants {
        let broken = report.counterexample().is_some_and(|c| c.violation.invariant == *invariant);
        let verdict = match report.verdict {
            _ if broken => "BROKEN",
            Verdict::Held => "held",
            Verdict::Unfinished | Verdict::Broken(_) => "held as far as was searched",
        };
        let _ = writeln!(text, "    {verdict}: {invariant}");
    }
    match &report.verdict {
        Verdict::Held => {}
        Verdict::Unfinished => text += "  NOT FINISHED: more states than the limit\n",
        Verdict::Broken(c) => {
            let _ = writeln!(text, "  counterexample, {} steps: {}", c.steps.len(), c.violation.invariant);
            for (i, step) in c.steps.iter().enumerate() {
                let _ = writeln!(text, "  {:>4}  {step}", i + 1);
            }
            let _ = writeln!(text, "        {}", c.violation.what);
        }
    }
    text
}

/// Which models a command names: all of that many nodes if it names none.
///
/// # Errors
/// The name that is none.
pub fn chosen(names: &[String], nodes: Option<u8>) -> Result<Vec<&'static Entry>, String> {
    let fits = |m: &&Entry| nodes.is_none_or(|n| m.nodes == usize::from(n));
    if names.is_empty() {
        return Ok(MODELS.iter().filter(fits).collect());
    }
    let find = |name: &String| model(name).ok_or_else(|| name.clone());
    Ok(names.iter().map(find).collect::<Result<Vec<_>, _>>()?.into_iter().filter(|m| fits(m)).collect())
}
