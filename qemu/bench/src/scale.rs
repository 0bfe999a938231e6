//! How time, messages and disk operations grow with the number of nodes, in the simulator, on a healthy disk and network
//! with default timing and the two levels of scenarios.
//!
//! | | |
//! |---|---|
//! | cold | all nodes power on together |
//! | join | one more node joins those that are there |
//! | leave | a node that is not the master leaves |
//! | forced | a node that is not the master is killed |
//! | master | the master is killed |
//!
//! It is over when exactly the nodes that are to be joined are, at every level and by every node's view. Messages are
//! frames of the membership channel that a node sends, heartbeats are none; a broadcast is one. Frames of one link keep
//! their order, as on a real switch. A cold start of N nodes has N transitions, everything else one; messages are told for
//! each transition. Disk operations are counted over whole beats, and what the same nodes do when idle is taken off.

use quorate_base::{NodeId, NodeSet};
use quorate_scenario::Trouble;
use quorate_sim::{Broken, LastWrite, Setup, World};

use crate::report::Report;

/// Numbers of nodes.
const SIZES: [u8; 6] = [2, 4, 8, 16, 32, 64];
/// Time of every frame, µs.
const FRAME_US: u64 = 70;
/// All nodes of the largest cluster together, to one joining: at most so many times as long (DESIGN 10).
const COLD_RATIO: f64 = 3.0;
/// "Does not grow": at 64 nodes at most so many times what it is at 8. A step is repeated now and then.
const CONSTANT: f64 = 2.0;
/// Nothing takes longer, ms.
const PATIENCE_MS: u64 = 30_000;
/// For so long an idle cluster is watched, ms: ten beats.
const IDLE_MS: u64 = 2_000;

fn operations(world: &World) -> u64 {
    world.disk.reads + world.disk.writes
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Cold,
    Join,
    Leave,
    Forced,
    Master,
}

impl What {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Cold, "cold start of all"),
        (Self::Join, "join of one more"),
        (Self::Leave, "graceful leave"),
        (Self::Forced, "forced leave"),
        (Self::Master, "loss of the master"),
    ];
}

/// What it took.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Cost {
    ms: f64,
    /// Messages of the one that is master at the end.
    master: f64,
    /// Of each other, on average.
    member: f64,
    all: f64,
    disk: f64,
}

impl What {
    /// How many transitions it has.
    fn transitions(self, nodes: u8) -> f64 {
        if self == Self::Cold { f64::from(nodes) } else { 1.0 }
    }
}

/// Counters of one moment.
struct Counters {
    messages: Vec<u64>,
    disk: u64,
    at_us: u64,
}

impl Counters {
    fn of(world: &World) -> Self {
        Self { messages: world.network.messages.clone(), disk: operations(world), at_us: world.now }
    }
}

/// Measures everything under `seeds` seeds each.
pub(crate) fn run(seeds: u64, report: &mut Report) -> Result<(), Trouble> {
    let mut medians = Vec::new();
    let one = samples(What::Cold, 1, seeds)?.iter().map(|c| c.ms).collect::<Vec<f64>>();
    let one_ms = report.samples("scale", "cold start of a single node: time", "ms", one).value;
    for (what, name) in What::ALL {
        for nodes in SIZES {
            let costs = samples(what, nodes, seeds)?;
            let mut add = |figure: &str, unit: &'static str, pick: fn(&Cost) -> f64| {
                let figure = format!("{name}, {nodes} nodes: {figure}");
                report.samples("scale", &figure, unit, costs.iter().map(pick).collect()).value
            };
            let ms = add("time", "ms", |c| c.ms);
            let member = add("messages of a member, per transition", "messages", |c| c.member);
            let master = add("messages of the master, per transition", "messages", |c| c.master);
            let all = add("messages of all", "messages", |c| c.all);
            let disk = add("disk operations beyond heartbeats", "operations", |c| c.disk);
            medians.push((what, nodes, Cost { ms, master, member, all, disk }));
        }
    }
    compare(one_ms, &medians, report);
    Ok(())
}

fn samples(what: What, nodes: u8, seeds: u64) -> Result<Vec<Cost>, Trouble> {
    let measured = (0..seeds).map(|seed| {
        let failed = |broken| Trouble::Failed(format!("bench scale: {what:?}, {nodes} nodes, seed {seed}: {broken}"));
        measure(what, nodes, seed).map_err(failed)
    });
    measured.collect()
}

/// The figures that have a target.
fn compare(one_ms: f64, medians: &[(What, u8, Cost)], report: &mut Report) {
    let find = |what: What, nodes: u8| medians.iter().find(|m| (m.0, m.1) == (what, nodes)).map(|m| m.2);
    let most = SIZES.iter().copied().max().unwrap_or(64);
    if let (Some(cold), Some(join)) = (find(What::Cold, most), find(What::Join, 2)) {
        for (than, ms) in [("a single join", join.ms), ("cold start of a single node", one_ms)] {
            let row = report.single("scale", &format!("cold start of {most} : {than}"), "x", cold.ms / ms);
            row.at_most(COLD_RATIO, format!("<= {COLD_RATIO}"));
        }
    }
    for (what, name) in What::ALL {
        let (Some(few), Some(many)) = (find(what, 8), find(what, most)) else { continue };
        let ratio = many.member / few.member;
        let row = report.single("scale", &format!("{name}: member's messages, {most} nodes : 8"), "x", ratio);
        row.at_most(CONSTANT, format!("<= {CONSTANT}, O(1)"));
        let per_node = |cost: Cost, nodes: u8| cost.master / f64::from(nodes);
        let ratio = per_node(many, most) / per_node(few, 8);
        let row = report.single("scale", &format!("{name}: master's messages per node, {most} nodes : 8"), "x", ratio);
        row.at_most(CONSTANT, format!("<= {CONSTANT}, O(N)"));
    }
}

fn measure(what: What, nodes: u8, seed: u64) -> Result<Cost, Box<Broken>> {
    let all = NodeSet::first(nodes);
    let mut setup = Setup::new(seed, nodes);
    setup.faults.net.delay_us = (FRAME_US, FRAME_US);
    let mut world = World::new(&setup);
    let last = NodeId::new(nodes - 1).map_or(NodeSet::EMPTY, NodeSet::only);
    let first = match what {
        What::Cold => NodeSet::EMPTY,
        What::Join => all.minus(last),
        _ => all,
    };
    start(&mut world, first);
    let beat_us = u64::from(setup.timing.disk_heartbeat) * 1000;
    if !first.is_empty() {
        settle(&mut world, first)?;
        // What forming left behind comes to rest; and not every run begins at the same moment of a beat.
        world.run_ms(1_000 + 37 * seed)?;
    }
    let master = world.master();
    let other = master.and_then(|master| first.without(master).lowest());
    let before = Counters::of(&world);
    let left = match (what, master, other) {
        (What::Leave, _, Some(other)) => {
            world.leave(other.index());
            all.without(other)
        }
        (What::Forced, _, Some(other)) => {
            world.kill(other.index(), LastWrite::Lands);
            all.without(other)
        }
        (What::Master, Some(master), _) => {
            world.kill(master.index(), LastWrite::Lands);
            all.without(master)
        }
        _ => {
            start(&mut world, all.minus(first));
            all
        }
    };
    settle(&mut world, left)?;
    let after = Counters::of(&world);
    let beats = (after.at_us - before.at_us).div_ceil(beat_us);
    world.run_until(before.at_us + beats * beat_us)?;
    let disk = operations(&world) - before.disk;
    world.run_ms(IDLE_MS)?;
    let idle = (operations(&world) - before.disk - disk) * beat_us / (IDLE_MS * 1000) * beats;
    let disk = disk.saturating_sub(if what == What::Cold { 0 } else { idle });
    Ok(cost(&world, (&before, &after), what.transitions(nodes), disk))
}

fn start(world: &mut World, nodes: NodeSet) {
    nodes.iter().for_each(|n| world.start(n.index()));
}

fn settle(world: &mut World, nodes: NodeSet) -> Result<(), Box<Broken>> {
    world.wait("that exactly those are joined", PATIENCE_MS, |w| w.settled(nodes)).map(drop)
}

fn cost(world: &World, (before, after): (&Counters, &Counters), transitions: f64, disk: u64) -> Cost {
    let sent: Vec<u64> = after.messages.iter().zip(&before.messages).map(|(after, before)| after - before).collect();
    let all: u64 = sent.iter().sum();
    let master = world.master().and_then(|m| sent.get(m.index()).copied()).unwrap_or(0);
    let members = sent.len().saturating_sub(1).max(1) as f64;
    Cost {
        ms: (after.at_us - before.at_us) as f64 / 1000.0,
        master: master as f64 / transitions,
        member: (all - master) as f64 / members / transitions,
        all: all as f64,
        disk: disk as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_costs_a_member_one_message_and_the_master_one_for_each() {
        let cost = measure(What::Forced, 4, 0).unwrap();
        assert!(cost.ms > 100.0 && cost.member >= 1.0, "{cost:?}");
        assert!(cost.master >= cost.member && cost.all >= cost.master, "{cost:?}");
    }

    #[test]
    fn every_change_is_measured_for_the_smallest_cluster() {
        for (what, name) in What::ALL {
            let cost = measure(what, 2, 1).unwrap();
            assert!(
                cost.ms > 0.0 && cost.all > 0.0 || what == What::Forced || what == What::Master,
                "{name}: {cost:?}"
            );
        }
    }
}
