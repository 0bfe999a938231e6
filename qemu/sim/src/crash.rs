//! Crash points (MISSION A8, DESIGN 9): not drawn but enumerated. For scripted runs every step that a node takes is tried
//! as its last one: before it, after it, and in its middle, with what it was writing landed, lost or torn.
//!
//! ```text
//! learn the script's events ──▶ for each that concerns a node: run to it ── crash ── boot again ── settled, all invariants
//! ```
//! Only events that concern a node are points for it: a tick, a frame, a request's piece at the disk or its completion.
//! Between two of them nothing that it does or that is done for it changes, so a crash there is the same crash. For
//! *pairs* a second node crashes at one of its steps while the others deal with the first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use quorate_base::{NodeId, NodeSet, NodeState, Timing};

use crate::acts::{Keeps, Trip};
use crate::faults::LastWrite;
use crate::plan::settle_us;
use crate::settle::settle_for;
use crate::world::{Broken, Setup, World};

/// After the crash the cluster must stay as it is for so long, once it has settled, µs.
const QUIET_US: u64 = 500_000;
/// A script that is not through after so long is broken, µs.
const SCRIPT_US: u64 = 20_000_000;
/// After the first crash the second one comes after so many events of its victim.
const SECOND_AFTER: [u64; 8] = [1, 4, 9, 16, 30, 50, 80, 120];

/// What happens, apart from the crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Script {
    /// All boot at once on a fresh disk.
    Form,
    /// The last node joins the others.
    Join,
    /// A node that is not the master leaves.
    Leave,
    /// The master leaves.
    LeaveOfMaster,
    /// A node that is not the master is killed.
    ForcedLeave,
    /// The master is killed.
    LossOfMaster,
    /// A node is asked to leave while it joins.
    LeaveWhileJoining,
}

impl Script {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Form,
        Self::Join,
        Self::Leave,
        Self::LeaveOfMaster,
        Self::ForcedLeave,
        Self::LossOfMaster,
        Self::LeaveWhileJoining,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::LeaveOfMaster => "leave of the master",
            Self::ForcedLeave => "forced leave",
            Self::LossOfMaster => "loss of the master",
            Self::LeaveWhileJoining => "leave while joining",
        }
    }
}

/// Where the first crash is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// Before the event, counted from the script's beginning.
    Before(u64),
    /// In the middle of what the node does at that event.
    Within(u64, Keeps),
}

/// One crash, or two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    /// In which script.
    pub script: Script,
    /// Of how many nodes.
    pub nodes: u8,
    part: Part,
    victim: usize,
    last: LastWrite,
    /// The others put the victim out before it boots again; else it boots at once.
    late: bool,
    /// The second crash: whose, and after how many events that concern it.
    second: Option<(usize, u64)>,
}

impl Point {
    /// Whether a second node crashes, too.
    pub fn has_second(&self) -> bool {
        self.second.is_some()
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let boots = if self.late { "later" } else { "at once" };
        write!(f, "{}, {} nodes: node {} crashes ", self.script.name(), self.nodes, self.victim)?;
        match self.part {
            Part::Before(event) => write!(f, "before event {event}")?,
            Part::Within(event, Keeps::Requests) => write!(f, "at event {event} before it sends")?,
            Part::Within(event, Keeps::Frames) => write!(f, "at event {event} before it writes")?,
        }
        write!(f, ", {}, and boots {boots}", self.last)?;
        match self.second {
            Some((m, after)) => write!(f, "; node {m} crashes {after} of its events later"),
            None => Ok(()),
        }
    }
}

/// A script under way.
struct Play {
    script: Script,
    world: World,
    all: NodeSet,
    /// Who joins, leaves or is killed.
    subject: NodeId,
    /// It was asked to leave, if the script asks for that in the middle.
    asked: bool,
    began: (u64, u64),
}

impl Play {
    /// Up to the moment at which the script begins, and its first act.
    fn begin(script: Script, nodes: u8, keep_trace: bool) -> Result<Self, Box<Broken>> {
        let mut world = World::new(&Setup { keep_trace, ..Setup::new(1, nodes) });
        let all = NodeSet::first(nodes);
        let Some(last) = all.iter().last() else { return Err(world.describe("a script needs nodes".to_owned())) };
        let waiting = match script {
            Script::Form => all,
            Script::Join | Script::LeaveWhileJoining => NodeSet::only(last),
            _ => NodeSet::EMPTY,
        };
        let first = all.minus(waiting);
        first.iter().for_each(|n| world.start(n.index()));
        if !first.is_empty() {
            world.wait("the script's cluster", 10_000, |w| w.settled(first))?;
            world.run_ms(300)?;
        }
        let master = world.master().unwrap_or(last);
        let other = all.without(master).lowest().unwrap_or(master);
        let subject = match script {
            Script::Form | Script::Join | Script::LeaveWhileJoining => last,
            Script::Leave | Script::ForcedLeave => other,
            Script::LeaveOfMaster | Script::LossOfMaster => master,
        };
        match script {
            Script::Form | Script::Join | Script::LeaveWhileJoining => {
                waiting.iter().for_each(|n| world.start(n.index()));
            }
            Script::Leave | Script::LeaveOfMaster => world.leave(subject.index()),
            Script::ForcedLeave | Script::LossOfMaster => world.kill(subject.index(), LastWrite::Lands),
        }
        let began = (world.now, world.events);
        Ok(Self { script, world, all, subject, asked: false, began })
    }

    fn step(&mut self) -> Result<(), Box<Broken>> {
        self.world.step()?;
        let subject = self.subject.index();
        if self.script == Script::LeaveWhileJoining
            && !self.asked
            && self.world.own_state(subject) == NodeState::Joining
        {
            self.asked = true;
            self.world.leave(subject);
        }
        Ok(())
    }

    fn is_through(&self) -> bool {
        let left = self.all.without(self.subject);
        let world = &self.world;
        let off = world.machine(self.subject.index()).is_some_and(|m| m.node().is_none());
        match self.script {
            Script::Form | Script::Join => world.settled(self.all),
            Script::Leave | Script::LeaveOfMaster | Script::LeaveWhileJoining => off && world.settled(left),
            Script::ForcedLeave | Script::LossOfMaster => world.is_out(self.subject) && world.settled(left),
        }
    }

    /// Lets so many events happen.
    fn run(&mut self, events: u64) -> Result<(), Box<Broken>> {
        (0..events).try_for_each(|_| self.step())
    }

    /// Lets events happen until so many of them concerned this machine, or it ended, or nothing more comes for long.
    fn run_of(&mut self, m: usize, events: u64) -> Result<(), Box<Broken>> {
        let until = self.world.now + SCRIPT_US;
        let mut seen = 0;
        while seen < events && self.world.now < until && self.world.machine(m).is_some_and(|m| m.node().is_some()) {
            self.step()?;
            seen += u64::from(self.world.called.machine == Some(m));
        }
        Ok(())
    }
}

/// All points of a script, in the order of its events. `pairs`: with a second crash.
///
/// # Errors
/// If the script does not come through without a crash.
pub fn points(script: Script, nodes: u8, pairs: bool) -> Result<Vec<Point>, Box<Broken>> {
    let mut play = Play::begin(script, nodes, false)?;
    let mut points = Vec::new();
    for event in 0.. {
        if play.is_through() {
            break;
        }
        if play.world.now > play.began.0 + SCRIPT_US {
            return Err(play.world.describe(format!("the script \"{}\" does not come through", script.name())));
        }
        let writing: Vec<bool> = (0..usize::from(nodes)).map(|m| play.world.disk.is_writing(m)).collect();
        let running = play.world.running();
        play.step()?;
        let called = play.world.called;
        let Some(victim) = called.machine.filter(|m| running.iter().any(|n| n.index() == *m)) else { continue };
        let mut add = |part, lasts: &[LastWrite]| {
            for last in lasts {
                let late = points.len() % 2 == 1;
                points.push(Point { script, nodes, part, victim, last: *last, late, second: None });
            }
        };
        let all = [LastWrite::Lands, LastWrite::Lost, LastWrite::Torn];
        let open = writing.get(victim).copied().unwrap_or(false);
        add(Part::Before(event), if open { &all } else { &all[..1] });
        if called.requests > 0 && called.frames > 0 {
            add(Part::Within(event, Keeps::Requests), &all);
            add(Part::Within(event, Keeps::Frames), &all[..1]);
        }
    }
    if !pairs {
        return Ok(points);
    }
    let second = |point: &Point| {
        let victim = point.victim;
        let others = (0..usize::from(nodes)).filter(move |m| *m != victim);
        let point = *point;
        others.flat_map(move |m| SECOND_AFTER.map(|after| Point { second: Some((m, after)), ..point }))
    };
    Ok(points.iter().flat_map(second).collect())
}

/// Runs one point. Gives the trace, if it is to be kept, beside what went wrong.
///
/// # Errors
/// The invariant that broke, or that the cluster did not settle.
pub fn run_point(point: &Point, keep_trace: bool) -> (Result<(), Box<Broken>>, Vec<String>) {
    match Play::begin(point.script, point.nodes, keep_trace) {
        Err(broken) => (Err(broken), Vec::new()),
        Ok(mut play) => {
            let result = crash(&mut play, point);
            (result, play.world.trace())
        }
    }
}

fn crash(play: &mut Play, point: &Point) -> Result<(), Box<Broken>> {
    match point.part {
        Part::Before(event) => {
            play.run(event)?;
            play.world.kill(point.victim, point.last);
        }
        Part::Within(event, keeps) => {
            play.run(event)?;
            let event = play.world.events + 1;
            play.world.trip = Some(Trip { event, machine: point.victim, keeps, last: point.last });
            play.step()?;
        }
    }
    if let Some((m, after)) = point.second {
        play.run_of(m, after)?;
        play.world.kill(m, point.last);
    }
    let timing = Timing::DEFAULT;
    if point.late {
        let until = play.world.now + 2 * u64::from(timing.dead) * 1000;
        while play.world.next_at() <= until {
            play.step()?;
        }
    }
    let levels = play.world.machine(0).map(|m| m.levels.clone()).unwrap_or_default();
    let within = settle_us(&timing, &levels, point.nodes);
    let all = play.world.machines().iter().map(|m| m.id).collect();
    settle_for(&mut play.world, all, within, QUIET_US)?;
    play.world.finish()
}

/// A point that did not hold: its number in the list, and what was wrong.
pub type Failed = (usize, Box<Broken>);

/// Runs many points on so many threads. Gives those that failed, in the order of the list. `progress` is told how many
/// were run, now and then.
pub fn run_points(points: &[Point], threads: usize, progress: &(dyn Fn(usize) + Sync)) -> Vec<Failed> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(point) = points.get(i) else { return };
                    if let (Err(broken), _) = run_point(point, false) {
                        // A thread that panicked has its panic reported at the end of the scope.
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push((i, broken));
                    }
                    if (i + 1).is_multiple_of(1000) {
                        progress(i + 1);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_by_key(|(i, _)| *i);
    failed
}
