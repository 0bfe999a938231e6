//! Group services under load: messages a second and how long each takes, three nodes, each a member of one group.
//!
//! | | |
//! |---|---|
//! | native | three host processes over UDP on the loopback interface, several datagrams per system call; a file as the disk (`native`) |
//! | simulator | virtual time: a frame takes 100 µs each way; what is counted is round trips, and frames per message |
//! | QEMU | three machines; a node's own clock |
//!
//! A load is a console word (`job load`); a message's time is from its sending until a work thread of its own sender has it
//! again, in its place in the order: that is when all nodes hold it. The figures of corosync's CPG beside them are those that
//! the project's issue on group services states, for three nodes on such a machine; it was not run here.
//!
//! Native figures are worth something on a machine that does nothing else: three nodes share its processors, and a round trip
//! waits for whoever else runs. The processor time per message is less touched by it, but counts the looking for messages too.
//! `cargo cluster bench groups --no-qemu` leaves the third part out.

use std::path::Path;

use quorate_scenario::Trouble;

use crate::native::Native;
use crate::report::Report;
use crate::rig::Bed;

mod qemu;
mod virtual_time;

/// Nodes, and members of the group.
const NODES: u8 = 3;

/// Where lines are typed.
pub(crate) trait Consoles {
    /// Types a line at a node's console. Gives the answer.
    fn type_at(&mut self, node: u8, line: &str) -> Result<String, Trouble>;
    /// A little time passes.
    fn rest(&mut self) -> Result<(), Trouble>;
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Case {
    bytes: u32,
    senders: u8,
    /// Of each sender.
    outstanding: u32,
    /// What corosync's CPG is said to come to, messages a second.
    peer: Option<f64>,
}

const fn case(bytes: u32, senders: u8, outstanding: u32, peer: Option<f64>) -> Case {
    Case { bytes, senders, outstanding, peer }
}

/// One outstanding, and a flood; the peer's figures where the issue states one. At 16 KiB it states a range: its upper end.
const CASES: [Case; 12] = [
    case(64, 1, 1, Some(6_500.0)),
    case(64, 3, 1, None),
    case(64, 1, 64, Some(30_000.0)),
    case(64, 3, 64, Some(30_000.0)),
    case(1024, 1, 1, None),
    case(1024, 3, 1, None),
    case(1024, 1, 64, Some(22_000.0)),
    case(1024, 3, 64, None),
    case(16_384, 1, 1, None),
    case(16_384, 3, 1, None),
    case(16_384, 1, 64, Some(3_600.0)),
    case(16_384, 3, 64, Some(3_600.0)),
];

/// The peer's median with one outstanding message of 64 bytes, µs.
const PEER_P50_US: f64 = 152.0;

impl Case {
    fn name(self) -> String {
        let senders = if self.senders == 1 { "one sender" } else { "three senders" };
        let how = if self.outstanding == 1 { "one outstanding" } else { "flood" };
        format!("{} B, {senders}, {how}", self.bytes)
    }
}

/// What a load came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Came {
    /// Messages, of all senders.
    count: u64,
    /// From the first sending to the last return, the longest of all senders, µs.
    us: u64,
    /// The median and the 99th of a hundred, the worst sender's, µs.
    p50_us: u64,
    p99_us: u64,
}

impl Came {
    fn per_s(self) -> f64 {
        self.count as f64 * 1e6 / self.us.max(1) as f64
    }
}

/// Measures group services in the three settings.
pub(crate) fn run(
    short: bool,
    program: Option<&Path>,
    bed: Option<Bed<'_>>,
    report: &mut Report,
) -> Result<(), Trouble> {
    virtual_time::run(short, report)?;
    if let Some(program) = program {
        native(short, program, report)?;
    }
    if let Some(bed) = bed {
        qemu::run(short, bed, report)?;
    }
    Ok(())
}

fn native(short: bool, program: &Path, report: &mut Report) -> Result<(), Trouble> {
    let mut cluster =
        Native::start(program, NODES).map_err(|error| Trouble::Failed(format!("bench groups: {error}")))?;
    let first = prepare(&mut cluster)?;
    for case in CASES.into_iter().filter(|case| fits(*case)) {
        let count = match (case.bytes, case.outstanding, short) {
            (64, 1, false) => 20_000,
            (64, _, false) => 150_000,
            (1024, 1, false) => 15_000,
            (1024, _, false) => 50_000,
            (_, 1, false) => 2_000,
            (_, _, false) => 6_000,
            (..16_384, _, true) => 5_000,
            (_, _, true) => 500,
        };
        for sequencer in [true, false] {
            if case.senders == NODES && sequencer {
                continue;
            }
            // Who gives out the places sends with one hop less.
            let from = if sequencer { first } else { (first + 1) % NODES };
            let who = match (case.senders, sequencer) {
                (1, true) => " (the sequencer)",
                (1, false) => " (another)",
                _ => "",
            };
            let before = cluster.ran_ns();
            let came = load(&mut cluster, case, from, count / u32::from(case.senders))?;
            let ran = before.and_then(|before| Some(cluster.ran_ns()? - before));
            let name = format!("native: {}{who}", case.name());
            let row = report.single("groups", &name, "msg/s", came.per_s().round());
            if let Some(peer) = case.peer {
                row.at_least(peer, format!("CPG {peer}"));
                report.single("groups", "  ratio to CPG", "x", came.per_s() / peer);
            }
            let row = report.single("groups", "  p50", "us", came.p50_us as f64);
            if case.bytes == 64 && case.outstanding == 1 && case.senders == 1 {
                row.at_most(PEER_P50_US, format!("CPG {PEER_P50_US}"));
            }
            report.single("groups", "  p99", "us", came.p99_us as f64);
            if let Some(ran) = ran {
                let each = ran as f64 / 1000.0 / came.count as f64;
                report.single("groups", "  processor time of all nodes", "us per message", each);
            }
        }
    }
    Ok(())
}

/// Whether messages may be so long.
fn fits(case: Case) -> bool {
    case.bytes as usize <= quorate_groups::capacity::MESSAGE_MAX
}

/// Each node's job becomes a member of one group. Gives the node that gives out the places.
fn prepare(consoles: &mut dyn Consoles) -> Result<u8, Trouble> {
    for node in 0..NODES {
        order(consoles, node, &format!("job register bench j{node}"))?;
    }
    for _ in 0..100_000 {
        let mut ready = true;
        for node in 0..NODES {
            let said = consoles.type_at(node, "group bench")?;
            ready &= said.lines().filter(|line| line.starts_with("member ")).count() == usize::from(NODES);
        }
        if ready {
            let said = consoles.type_at(0, "groups")?;
            let sequencer = said.split(", node ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
            return sequencer.ok_or_else(|| Trouble::Failed(format!("bench groups: who orders? {said}")));
        }
        consoles.rest()?;
    }
    Err(Trouble::Failed("bench groups: the group of three members does not come about".to_owned()))
}

fn order(consoles: &mut dyn Consoles, node: u8, line: &str) -> Result<(), Trouble> {
    match consoles.type_at(node, line)?.trim_end() {
        "ok" => Ok(()),
        said if said.ends_with("\nok") => Ok(()),
        said => Err(Trouble::Failed(format!("bench groups: node {node}, '{line}': {said}"))),
    }
}

/// Puts a load on one node or on all, and waits until it is through.
fn load(consoles: &mut dyn Consoles, case: Case, from: u8, count: u32) -> Result<Came, Trouble> {
    let senders: Vec<u8> = (0..case.senders).map(|i| (from + i) % NODES).collect();
    for node in &senders {
        let line = format!("job load bench j{node} {count} {} {}", case.bytes, case.outstanding);
        order(consoles, *node, &line)?;
    }
    let mut came = Came::default();
    for node in senders {
        let mut tries = 0;
        let said = loop {
            let said = consoles.type_at(node, &format!("job load bench j{node}"))?;
            if said.starts_with("load done") {
                break said;
            }
            tries += 1;
            if tries > 100_000 {
                return Err(Trouble::Failed(format!("bench groups: {}: {said}", case.name())));
            }
            consoles.rest()?;
        };
        let one = read(&said).ok_or_else(|| Trouble::Failed(format!("bench groups: not understood: {said}")))?;
        came.count += one.count;
        came.us = came.us.max(one.us);
        came.p50_us = came.p50_us.max(one.p50_us);
        came.p99_us = came.p99_us.max(one.p99_us);
    }
    Ok(came)
}

/// Reads what the console says of a load.
fn read(said: &str) -> Option<Came> {
    let number = |text: &str| text.split(' ').next()?.parse().ok();
    let after = |what: &str| said.split(what).nth(1).and_then(number);
    Some(Came { count: after(": ")?, us: after(" bytes in ")?, p50_us: after("p50 ")?, p99_us: after("p99 ")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_console_says_of_a_load_is_read() {
        let said = "load done: 500 of 64 bytes in 81234 us, 0 left, 0 on their way; p50 151 us, p99 303 us\nok\n";
        let came = read(said).unwrap();
        assert_eq!((came.count, came.us, came.p50_us, came.p99_us), (500, 81234, 151, 303));
        assert!(read("no such job on this node").is_none());
    }
}
