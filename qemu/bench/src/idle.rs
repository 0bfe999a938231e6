//! What a node costs that has nothing to do: frames, disk requests, processor time.

use std::time::Duration;

use quorate_base::{NodeId, Timing};
use quorate_scenario::Trouble;
use quorate_scenario::backend::Backend;

use crate::report::Report;
use crate::rig::{Bed, Rig, level};

/// The counters of one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Counters {
    at_us: u64,
    frames: u64,
    reads: u64,
    writes: u64,
    cpu: Duration,
    resident_kib: u64,
}

/// Watches three idle nodes for `span_s` seconds.
pub(crate) fn run(span_s: u32, bed: Bed<'_>, report: &mut Report) -> Result<(), Trouble> {
    let timing = Timing::DEFAULT;
    let mut rig = Rig::new(3, vec![level(60, "probe-a", 1), level(70, "probe-b", 1)], bed)?;
    rig.start_all()?;
    let master = rig.master()?;
    // Let what joining left behind come to rest.
    pass(&mut rig, 1)?;
    let nodes: Vec<NodeId> = rig.nodes.iter().collect();
    let before = nodes.iter().map(|n| counters(&mut rig, *n)).collect::<Result<Vec<_>, _>>()?;
    pass(&mut rig, span_s)?;
    let after = nodes.iter().map(|n| counters(&mut rig, *n)).collect::<Result<Vec<_>, _>>()?;
    for ((node, a), b) in nodes.iter().zip(&before).zip(&after) {
        let span = (b.at_us - a.at_us) as f64 / 1e6;
        let per = |count: u64, period_ms: u32| count as f64 / (span * 1000.0 / f64::from(period_ms));
        let role = if *node == master { "master" } else { "member" };
        let figure = |what: &str| format!("node {node} ({role}): {what}");
        let share = (b.cpu - a.cpu).as_secs_f64() / span * 100.0;
        report.single("idle", &figure("processor time of its QEMU"), "% of a core", share).at_most(1.0, "<= 1");
        let frames = per(b.frames - a.frames, timing.net_heartbeat);
        report.single("idle", &figure("frames per net heartbeat"), "frames", frames).at_most(1.05, "1");
        let (reads, writes) = (b.reads - a.reads, b.writes - a.writes);
        let row =
            report.single("idle", &figure("writes per disk heartbeat"), "writes", per(writes, timing.disk_heartbeat));
        row.at_most(1.05, "1");
        let row =
            report.single("idle", &figure("reads per disk heartbeat"), "reads", per(reads, timing.disk_heartbeat));
        row.at_most(2.1, "2");
        report.single("idle", &figure("resident memory of its QEMU"), "MiB", b.resident_kib as f64 / 1024.0);
    }
    Ok(())
}

fn pass(rig: &mut Rig, span_s: u32) -> Result<(), Trouble> {
    let until_us = rig.world.now_us() + u64::from(span_s) * 1_000_000;
    while rig.world.now_us() < until_us {
        rig.world.wait(usize::MAX, until_us)?;
    }
    Ok(())
}

fn counters(rig: &mut Rig, node: NodeId) -> Result<Counters, Trouble> {
    // All is looked at before the console is asked, which costs the node something itself.
    let at_us = rig.world.now_us();
    let usage = rig.world.cluster().usage(node.index()).unwrap_or_default();
    let frames = rig.world.cluster().switch().counters(node.index()).received;
    let status = rig.world.command(node, "status")?;
    let (reads, writes) = disk_counts(&status)
        .ok_or_else(|| Trouble::Failed(format!("node {node}: no `disk reads N writes N` in its status: {status}")))?;
    Ok(Counters { at_us, frames, reads, writes, cpu: usage.cpu, resident_kib: usage.resident_kib })
}

/// The two numbers of `disk reads N writes N`.
fn disk_counts(status: &str) -> Option<(u64, u64)> {
    let (_, rest) = status.split_once("disk reads ")?;
    let mut words = rest.split_whitespace();
    let reads = words.next()?.parse().ok()?;
    let writes = words.next().filter(|w| *w == "writes").and(words.next())?.parse().ok()?;
    Some((reads, writes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_counts_are_found_in_a_status() {
        let status = "node 0 joined\nframes sent 12 received 9 dropped 0; disk reads 40 writes 21\n";
        assert_eq!(disk_counts(status), Some((40, 21)));
        assert_eq!(disk_counts("disk reads 40"), None);
        assert_eq!(disk_counts("nothing"), None);
    }
}
