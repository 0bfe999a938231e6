//! The plan of a run: everything that is decided before it begins, as a list of acts with their times. A run is a
//! function of its plan, so that any part of a plan can be run again; a plan can be read and written as a file.
//!
//! ```text
//! seed ──▶ draw (schedule) ──▶ Plan ──▶ Director ──▶ World
//!                               ▲ │
//!                        shrink └─┘      file ◀──▶ Plan
//! ```

use std::fmt;

use quorate_base::{FenceMethod, Timing};
use quorate_database::layout;
use quorate_node::ProbeLevel;
use serde::{Deserialize, Serialize};

use crate::faults::{Faults, LastWrite};
use crate::lie::{Lack, Lie};
use crate::reservation::TargetKind;

/// Everything that a run is made of.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Configured nodes, 1 to 64.
    pub nodes: u8,
    /// The seed of what is drawn while it runs: times of requests and frames, clocks, what a fault hits.
    pub seed: u64,
    /// For how long things are damaged, µs. Then everything is healed, and the cluster must settle.
    pub damage_us: u64,
    /// Clocks run fast or slow by up to so many parts in a million; each life draws its own.
    pub clock_ppm: u64,
    /// The plan breaks what the lease fence rests on (DESIGN 7): clocks that stand still for long, writes that land
    /// after `io_max`. Then the views must still be safe, but a write after a fence is no violation.
    pub views_only: bool,
    /// Nothing that makes a sound node look dead: no disk fault, no stand-still, exact clocks. Then there is never a
    /// second master, and no master loses the lock (DESIGN 4).
    #[serde(default)]
    pub calm: bool,
    /// Every node has group services, level 10.
    #[serde(default, skip_serializing_if = "is_not")]
    pub groups: bool,
    /// After the healing these machines stay off at first: the others must settle without them.
    #[serde(default)]
    pub off: Vec<u8>,
    /// After the healing these links stay cut at first: who is joined then must hear each other.
    #[serde(default)]
    pub cuts: Vec<Broke>,
    /// What each machine declares beside membership, as words `level=` without their key.
    pub levels: Vec<Vec<String>>,
    /// How the cluster fences. By the reservation machines may stand still with their clocks for as long as they like.
    #[serde(default)]
    pub fence: FenceMethod,
    /// What kind of target the disk is, where it fences by the reservation.
    #[serde(default)]
    pub target: TargetKind,
    /// The cluster's time-outs.
    pub timing: Timing,
    /// What disk and network do wrong during the damage.
    pub faults: Faults,
    /// What is done, ascending by time.
    #[serde(rename = "act", default)]
    pub acts: Vec<Step>,
}

/// For what is left out of a file where it is not so.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_not(flag: &bool) -> bool {
    !flag
}

/// A link that stays cut after the healing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broke {
    /// From this node …
    pub from: u8,
    /// … to this one.
    pub to: u8,
    /// Back it carries.
    pub oneway: bool,
}

/// One act with its time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Run time, µs.
    pub at_us: u64,
    /// What is done.
    #[serde(flatten)]
    pub act: Act,
}

/// Whom an act hits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Who {
    /// This node's machine.
    Node(u8),
    /// Whoever is the master then; nobody, if there is none.
    Role(Role),
}

/// A node by what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The master.
    Master,
    /// Of an act that lies in wait: whoever comes by, the master or a contender. Of any other: nobody.
    Any,
}

/// The moment for which an act lies in wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// A node gave a ballot write to its port, which has not yet looked at the clock for the last time (DESIGN 7).
    BallotAsked,
    /// A ballot write was submitted.
    BallotSubmitted,
    /// A ballot write landed; its writer does not know yet, and has not read again.
    BallotLanded,
    /// A heartbeat was submitted.
    HeartbeatSubmitted,
    /// A heartbeat landed; its writer has not read again.
    HeartbeatLanded,
}

/// What strikes then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blow {
    /// The processor stands still for so long, µs.
    Pause(u64),
    /// The machine does, with its clock, µs.
    Freeze(u64),
    /// Its disk requests are not answered for so long, µs.
    Stall(u64),
    /// It ends.
    Kill(LastWrite),
    /// This very write fails; whether it lands all the same.
    Fail(bool),
    /// The record cannot be read by anybody for so long, µs.
    Spoil(u64),
}

impl Blow {
    fn us(&mut self) -> Option<&mut u64> {
        match self {
            Self::Pause(us) | Self::Freeze(us) | Self::Stall(us) | Self::Spoil(us) => Some(us),
            Self::Kill(_) | Self::Fail(_) => None,
        }
    }
}

/// One act. One that makes no sense when its time comes (a boot of a machine that runs) does nothing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[allow(missing_docs, reason = "fields are named for what they are: ids of nodes, times in their unit")]
pub enum Act {
    /// A machine boots.
    Start { node: u8 },
    /// A machine ends at once.
    Kill { node: Who, last: LastWrite },
    /// All end at once.
    KillAll { last: LastWrite },
    /// A machine is killed after so many more events, that is, in the middle of what comes next.
    Ambush { node: u8, events: u64, last: LastWrite },
    /// A machine is reset: it ends and boots.
    Reset { node: u8, last: LastWrite },
    /// A node is struck at the next such moment but `skip`.
    Waylay { node: Who, moment: Moment, skip: u32, blow: Blow },
    /// A node is asked for a graceful leave.
    Leave { node: Who },
    /// A clean restart: it leaves, and boots so long after it ended.
    Reboot { node: Who, after_us: u64 },
    /// A processor stands still, its clock runs on.
    Pause { node: Who, for_us: u64 },
    /// A machine stands still with its clock.
    Freeze { node: Who, for_us: u64 },
    /// A machine's kernel hangs with interrupts off, until its watchdog resets it.
    Hang { node: Who },
    /// A machine's disk requests are not answered.
    Stall { node: Who, for_us: u64 },
    /// Nobody's are.
    StallAll { for_us: u64 },
    /// Each request of a machine takes so much longer.
    SlowDisk { node: u8, ms: u32, for_us: u64 },
    /// The next requests of a machine fail.
    DiskErrors { node: u8, write: bool, count: u32 },
    /// The next write of a machine stops half way, and the machine dies.
    Tear { node: u8 },
    /// A machine's connection to the target breaks and is made again, without its registration.
    Reconnect { node: u8 },
    /// Somebody resets the logical unit: everybody's requests are ended, some without a status.
    UnitReset,
    /// The target loses its power and comes back.
    TargetPower,
    /// A record cannot be read by anybody.
    BadRecord { record: u64, for_us: u64 },
    /// The disk lies to a machine about a record.
    Lie { node: u8, record: u64, lie: Lie, for_us: u64 },
    /// A machine's disk is not there, or is another cluster's.
    Lack { node: Who, lack: Lack, for_us: u64 },
    /// Nobody's disk is there.
    LackAll { for_us: u64 },
    /// A link carries nothing.
    Cut { from: u8, to: u8, oneway: bool, for_us: u64 },
    /// A node is cut from all others.
    Isolate { node: u8, for_us: u64 },
    /// The nodes up to this one are cut from the others.
    Split { last: u8, for_us: u64 },
    /// A link goes down and up, so often and each time for so long.
    Flap { from: u8, to: u8, times: u32, down_us: u64, up_us: u64 },
    /// Nobody's frames reach anybody.
    Silence { for_us: u64 },
    /// A bad cable between two nodes; parts of a million.
    Noise { from: u8, to: u8, noise: Noise, for_us: u64 },
    /// A stranger on the interconnect sends so many frames at once.
    Stranger { frames: u32 },
    /// A node registers a level at run time, by the word that declares it.
    Register { node: u8, word: String },
    /// It de-registers that level: gracefully, or because what served it has died.
    Deregister { node: u8, order: u16, died: bool },
    /// A machine that is off boots under another's node id, whose own machine boots, too, or is paused for so long. Until
    /// one has ended nothing of the second one is traced; a node id's records are those of its own machine.
    Double { machine: u8, node: u8, for_us: u64 },
    /// From its next boot on a machine declares these levels.
    Levels { node: u8, words: Vec<String> },
    /// A line is typed at a node's console; what it answers does not matter.
    Console { node: u8, line: String },
}

/// What a bad cable does to frames, both ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Noise {
    /// So many percent are lost.
    pub loss: u32,
    /// So many percent come twice.
    pub duplicate: u32,
    /// So many percent are overtaken.
    pub reorder: u32,
    /// In so many percent a bit is flipped.
    pub corrupt: u32,
    /// All come so much later, ms, …
    pub delay_ms: u32,
    /// … and up to so much more.
    pub jitter_ms: u32,
}

/// Why a file is no plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadPlan(pub String);

impl fmt::Display for BadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadPlan {}

impl Plan {
    /// From the text of a file.
    ///
    /// # Errors
    /// What is wrong with it, with its place.
    pub fn parse(text: &str) -> Result<Self, BadPlan> {
        let plan: Self = toml::from_str(text).map_err(|error| BadPlan(error.to_string()))?;
        plan.check().map_err(BadPlan)?;
        Ok(plan)
    }

    /// As the text of a file.
    ///
    /// # Errors
    /// If a number is too large for the form (a seed above 2⁶³ − 1).
    pub fn to_text(&self) -> Result<String, BadPlan> {
        let body = toml::to_string(self).map_err(|error| BadPlan(error.to_string()))?;
        Ok(format!("# Replay: cargo cluster sim --replay FILE\n{body}"))
    }

    fn check(&self) -> Result<(), String> {
        if !(1..=64).contains(&self.nodes) {
            return Err(format!("nodes = {}: 1 to 64 can be configured", self.nodes));
        }
        self.timing.check().map_err(|error| error.to_string())?;
        if self.levels.len() != usize::from(self.nodes) {
            return Err(format!("levels: {} lists for {} nodes", self.levels.len(), self.nodes));
        }
        let declared = self.acts.iter().filter_map(|step| match &step.act {
            Act::Levels { words, .. } => Some(words),
            _ => None,
        });
        let registered = self.acts.iter().filter_map(|step| match &step.act {
            Act::Register { word, .. } => Some(word),
            _ => None,
        });
        for word in self.levels.iter().chain(declared).flatten().chain(registered) {
            ProbeLevel::parse(word).map_err(|error| format!("level '{word}': {error}"))?;
        }
        for (i, step) in self.acts.iter().enumerate() {
            if let Some(node) = step.act.nodes().into_iter().flatten().find(|n| *n >= self.nodes) {
                return Err(format!("act {i}: there is no node {node}"));
            }
            let records = match step.act {
                Act::BadRecord { record, .. } => [Some(record), None],
                Act::Lie { record, lie: Lie::ReadFrom(other) | Lie::WriteTo(other), .. } => [Some(record), Some(other)],
                Act::Lie { record, .. } => [Some(record), None],
                _ => [None, None],
            };
            if let Some(record) = records.into_iter().flatten().find(|record| *record >= layout::RECORDS) {
                return Err(format!("act {i}: there is no record {record}"));
            }
        }
        let left = self.cuts.iter().flat_map(|cut| [cut.from, cut.to]).chain(self.off.iter().copied());
        if let Some(node) = left.into_iter().find(|n| *n >= self.nodes) {
            return Err(format!("off, cuts: there is no node {node}"));
        }
        if !self.acts.is_sorted_by_key(|step| step.at_us) {
            return Err("the acts are not in the order of their times".to_owned());
        }
        Ok(())
    }

    /// The declared levels of a machine.
    pub(crate) fn levels_of(&self, m: usize) -> Vec<ProbeLevel> {
        parse_levels(self.levels.get(m).map_or(&[], Vec::as_slice))
    }

    /// How long the cluster may take to settle after everything was healed, µs.
    pub fn settle_us(&self) -> u64 {
        let most = (0..self.levels.len()).map(|m| {
            let levels = self.levels_of(m);
            settle_us(&self.timing, &levels, self.nodes)
        });
        // Group services begin an epoch for each transition: they ask, and may defer to another who asks.
        let epochs = if self.groups { (2 + u64::from(self.nodes) / 2) * EPOCH_US } else { 0 };
        most.max().unwrap_or(0) + epochs
    }
}

/// An epoch of group services takes so long at most on sound nodes, µs: a call is put off for 100 ms, answers are repeated after
/// 10 ms each, and a node that joins reads all nodes' copies of domains twice.
const EPOCH_US: u64 = 400_000;

/// How long a cluster may take to settle after the last thing was healed, µs: with the default time-outs and no level that
/// works for long 6.0 s, with those of the profile `fast` 1.0 s.
///
/// From then on everybody is sound; but what was seen before may still end a node, which then has to come back, each step
/// after the other:
/// - it is silent, or its links are judged: the longest of `net_suspect`, `disk_suspect + 2 beats`, and arbitration at its
///   latest, `3 · net_suspect + 2 beats` (DESIGN 7);
/// - it is fenced: `dead`, by clocks that differ by 2 %;
/// - if it was the master, another takes over first: 2 beats (DESIGN 10: one, and six disk operations);
/// - it is born again: its old block is watched for `dead`, its identity is read back a beat later, and it is asked in
///   with its first beat: 3 beats;
/// - five requests that were under way take as long as a request may: `io_max`.
///
/// Beside that levels work at their barriers: the node is forced out and joins, and others' transitions are in the way, as
/// many as half of the nodes and one have.
pub(crate) fn settle_us(timing: &Timing, levels: &[ProbeLevel], nodes: u8) -> u64 {
    let [net_suspect, beat, suspect, dead, io_max] =
        [timing.net_suspect, timing.disk_heartbeat, timing.disk_suspect, timing.dead, timing.io_max].map(u64::from);
    let evidence = net_suspect.max(suspect + 2 * beat).max(3 * net_suspect + 2 * beat);
    let fence = dead + dead / 50;
    let master = 2 * beat;
    let birth = dead + dead / 50 + 3 * beat;
    let alone = evidence + fence + master + birth + 5 * io_max;
    let work =
        |l: &ProbeLevel| (u64::from(l.barriers.joining) + u64::from(l.barriers.forced_leaving)) * u64::from(l.work_ms);
    let work: u64 = levels.iter().map(work).sum();
    (alone + (2 + u64::from(nodes) / 2) * work) * 1000
}

/// Words that parse; the others were refused when the plan was made.
pub(crate) fn parse_levels(words: &[String]) -> Vec<ProbeLevel> {
    words.iter().filter_map(|word| ProbeLevel::parse(word).ok()).collect()
}

impl Who {
    fn id(self) -> Option<u8> {
        match self {
            Self::Node(n) => Some(n),
            Self::Role(_) => None,
        }
    }
}

impl Act {
    /// What it is called where faults are counted; `None` if it is none.
    pub fn fault(&self) -> Option<&'static str> {
        Some(match self {
            Self::Start { .. }
            | Self::Register { .. }
            | Self::Deregister { died: false, .. }
            | Self::Levels { .. }
            | Self::Console { .. } => return None,
            Self::Kill { .. } => "kill",
            Self::KillAll { .. } => "kill_all",
            Self::Ambush { .. } => "ambush",
            Self::Reset { .. } => "reset",
            Self::Hang { .. } => "hang",
            Self::Waylay { .. } => "waylay",
            Self::Leave { .. } => "leave",
            Self::Reboot { .. } => "reboot",
            Self::Pause { .. } => "pause",
            Self::Freeze { .. } => "freeze",
            Self::Stall { .. } => "disk_stall",
            Self::StallAll { .. } => "outage",
            Self::SlowDisk { .. } => "disk_delay",
            Self::DiskErrors { .. } => "disk_error",
            Self::Tear { .. } => "disk_tear",
            Self::Reconnect { .. } => "reconnect",
            Self::UnitReset => "unit_reset",
            Self::TargetPower => "target_power",
            Self::BadRecord { .. } => "bad_record",
            Self::Lie { lie, .. } => lie.name(),
            Self::Lack { lack, .. } => lack.name(),
            Self::LackAll { .. } => "disk_gone_for_all",
            Self::Cut { .. } | Self::Isolate { .. } | Self::Split { .. } => "cut",
            Self::Flap { .. } => "flap",
            Self::Silence { .. } => "silence",
            Self::Noise { .. } => "noise",
            Self::Stranger { .. } => "stranger",
            Self::Deregister { .. } => "level_died",
            Self::Double { .. } => "double",
        })
    }

    /// The nodes that it names.
    pub fn nodes(&self) -> [Option<u8>; 2] {
        match self {
            Self::Start { node }
            | Self::Ambush { node, .. }
            | Self::Reset { node, .. }
            | Self::SlowDisk { node, .. }
            | Self::DiskErrors { node, .. }
            | Self::Tear { node }
            | Self::Lie { node, .. }
            | Self::Isolate { node, .. }
            | Self::Split { last: node, .. }
            | Self::Reconnect { node }
            | Self::Register { node, .. }
            | Self::Deregister { node, .. }
            | Self::Levels { node, .. }
            | Self::Console { node, .. } => [Some(*node), None],
            Self::Kill { node, .. }
            | Self::Waylay { node, .. }
            | Self::Leave { node }
            | Self::Hang { node }
            | Self::Reboot { node, .. }
            | Self::Pause { node, .. }
            | Self::Freeze { node, .. }
            | Self::Lack { node, .. }
            | Self::Stall { node, .. } => [node.id(), None],
            Self::Double { machine, node, .. } => [Some(*machine), Some(*node)],
            Self::Cut { from, to, .. } | Self::Flap { from, to, .. } | Self::Noise { from, to, .. } => {
                [Some(*from), Some(*to)]
            }
            Self::KillAll { .. }
            | Self::StallAll { .. }
            | Self::BadRecord { .. }
            | Self::UnitReset
            | Self::TargetPower
            | Self::LackAll { .. }
            | Self::Silence { .. }
            | Self::Stranger { .. } => [None, None],
        }
    }

    /// For how long it lasts, if it does.
    pub(crate) fn for_us(&mut self) -> Option<&mut u64> {
        match self {
            Self::Reboot { after_us: us, .. }
            | Self::Pause { for_us: us, .. }
            | Self::Freeze { for_us: us, .. }
            | Self::Stall { for_us: us, .. }
            | Self::StallAll { for_us: us }
            | Self::SlowDisk { for_us: us, .. }
            | Self::BadRecord { for_us: us, .. }
            | Self::Lie { for_us: us, .. }
            | Self::Lack { for_us: us, .. }
            | Self::LackAll { for_us: us }
            | Self::Cut { for_us: us, .. }
            | Self::Isolate { for_us: us, .. }
            | Self::Split { for_us: us, .. }
            | Self::Silence { for_us: us }
            | Self::Noise { for_us: us, .. }
            | Self::Double { for_us: us, .. } => Some(us),
            Self::Waylay { blow, .. } => blow.us(),
            _ => None,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(n) => write!(f, "node {n}"),
            Self::Role(Role::Master) => f.write_str("the master"),
            Self::Role(Role::Any) => f.write_str("any node"),
        }
    }
}

impl fmt::Display for LastWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lands => "what it was writing lands",
            Self::Lost => "what it was writing is lost",
            Self::Torn => "what it was writing is torn",
            Self::Late => "what it was writing lands late",
        })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BallotAsked => "before its port submits a ballot write",
            Self::BallotSubmitted => "after it submitted a ballot write",
            Self::BallotLanded => "after its ballot write landed",
            Self::HeartbeatSubmitted => "after it submitted a heartbeat",
            Self::HeartbeatLanded => "after its heartbeat landed",
        })
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pause(us) => write!(f, "it is paused for {}", Ms(*us)),
            Self::Freeze(us) => write!(f, "it is frozen for {}", Ms(*us)),
            Self::Stall(us) => write!(f, "the disk does not answer it for {}", Ms(*us)),
            Self::Kill(last) => write!(f, "it is killed, {last}"),
            Self::Fail(lands) => write!(f, "the write fails, and {}", if *lands { "lands" } else { "is lost" }),
            Self::Spoil(us) => write!(f, "the record cannot be read for {}", Ms(*us)),
        }
    }
}

/// µs as ms, without useless zeros.
struct Ms(u64);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(f, "{} ms", self.0 / 1000)
        } else {
            write!(f, "{}.{:03} ms", self.0 / 1000, self.0 % 1000)
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4}.{:06} s  {}", self.at_us / 1_000_000, self.at_us % 1_000_000, self.act)
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { node } => write!(f, "start node {node}"),
            Self::Kill { node, last } => write!(f, "kill {node}, {last}"),
            Self::KillAll { last } => write!(f, "kill all, {last}"),
            Self::Ambush { node, events, last } => write!(f, "kill node {node} {events} events later, {last}"),
            Self::Reset { node, last } => write!(f, "reset node {node}, {last}"),
            Self::Waylay { node, moment, skip, blow } => {
                write!(f, "lie in wait for {node}: {moment}, {skip} times not, {blow}")
            }
            Self::Leave { node } => write!(f, "{node} is to leave"),
            Self::Reboot { node, after_us } => write!(f, "{node} is to leave, and boots {} later", Ms(*after_us)),
            Self::Pause { node, for_us } => write!(f, "pause {node} for {}", Ms(*for_us)),
            Self::Freeze { node, for_us } => write!(f, "freeze {node} for {}", Ms(*for_us)),
            Self::Hang { node } => write!(f, "the kernel of {node} hangs"),
            Self::Stall { node, for_us } => write!(f, "the disk does not answer {node} for {}", Ms(*for_us)),
            Self::StallAll { for_us } => write!(f, "the disk answers nobody for {}", Ms(*for_us)),
            Self::SlowDisk { node, ms, for_us } => {
                write!(f, "the disk is {ms} ms slower for node {node} for {}", Ms(*for_us))
            }
            Self::DiskErrors { node, write, count } => {
                write!(f, "the next {count} {} of node {node} fail", if *write { "writes" } else { "reads" })
            }
            Self::Tear { node } => write!(f, "the next write of node {node} is torn, and it dies"),
            Self::Reconnect { node } => write!(f, "node {node} connects to the target anew"),
            Self::UnitReset => f.write_str("the logical unit is reset"),
            Self::TargetPower => f.write_str("the target loses its power"),
            Self::BadRecord { record, for_us } => {
                let region = quorate_database::Region::of(*record);
                write!(f, "record {record} ({region}) cannot be read for {}", Ms(*for_us))
            }
            Self::Lie { node, record, lie, for_us } => {
                let region = quorate_database::Region::of(*record);
                write!(f, "of record {record} ({region}) node {node}'s {lie}, for {}", Ms(*for_us))
            }
            Self::Lack { node, lack: Lack::Gone, for_us } => write!(f, "{node} has no disk for {}", Ms(*for_us)),
            Self::Lack { node, lack: Lack::Other, for_us } => {
                write!(f, "{node} has another cluster's disk for {}", Ms(*for_us))
            }
            Self::LackAll { for_us } => write!(f, "nobody has a disk for {}", Ms(*for_us)),
            Self::Cut { from, to, oneway, for_us } => {
                let arrow = if *oneway { "->" } else { "<->" };
                write!(f, "cut {from} {arrow} {to} for {}", Ms(*for_us))
            }
            Self::Isolate { node, for_us } => write!(f, "cut node {node} from all for {}", Ms(*for_us)),
            Self::Split { last, for_us } => write!(f, "cut nodes 0 to {last} from the others for {}", Ms(*for_us)),
            Self::Flap { from, to, times, down_us, up_us } => {
                write!(f, "link {from} <-> {to} goes down {times} times for {}, {} apart", Ms(*down_us), Ms(*up_us))
            }
            Self::Silence { for_us } => write!(f, "all frames are lost for {}", Ms(*for_us)),
            Self::Noise { from, to, noise, for_us } => {
                let Noise { loss, duplicate, reorder, corrupt, delay_ms, jitter_ms } = noise;
                write!(
                    f,
                    "link {from} <-> {to} loses {loss} %, doubles {duplicate} %, swaps {reorder} %, damages {corrupt} %, \
                     delays by {delay_ms} to {} ms, for {}",
                    delay_ms + jitter_ms,
                    Ms(*for_us)
                )
            }
            Self::Stranger { frames } => write!(f, "a stranger sends {frames} frames"),
            Self::Register { node, word } => write!(f, "node {node} registers the level {word}"),
            Self::Deregister { node, order, died } => {
                write!(f, "node {node} {} level {order}", if *died { "loses" } else { "de-registers" })
            }
            Self::Double { machine, node, for_us } => {
                write!(f, "machine {machine} boots as node {node}, which is paused for {} if it runs", Ms(*for_us))
            }
            Self::Console { node, line } => write!(f, "at node {node}'s console: {line}"),
            Self::Levels { node, words } => {
                write!(f, "from its next boot on node {node} has the levels {}", words.join(" "))
            }
        }
    }
}
