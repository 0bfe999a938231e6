//! What one transition step (a level's barrier) costs: frames beyond heartbeats, time, disk writes.
//!
//! A level with many joining barriers makes the steps of one join; what is counted lies between its first and its last
//! notification at the master.

use quorate_base::NodeId;
use quorate_scenario::Trouble;

use crate::report::Report;
use crate::rig::{Bed, Rig, level, seconds};

/// Barriers of the level: so many steps less one are counted.
const BARRIERS: u8 = 16;

/// Nodes: participants of each step.
const NODES: u8 = 3;

/// Measures one join.
pub(crate) fn run(bed: Bed<'_>, report: &mut Report) -> Result<(), Trouble> {
    let mut rig = Rig::new(NODES, vec![level(60, "steps", BARRIERS)], bed)?;
    let Some(joiner) = NodeId::new(NODES - 1) else { return Ok(()) };
    let others = rig.nodes.without(joiner);
    for node in others {
        rig.start(node)?;
    }
    rig.wait_joined(others)?;
    let master = rig.master()?;
    rig.start(joiner)?;
    let at_barrier = |rig: &mut Rig, barrier: u8| -> Result<(u64, u64), Trouble> {
        let line = rig.until("the level's barriers", |line, _| {
            line.ev == "notify"
                && line.node == Some(master.get())
                && line.uint("level") == Some(60)
                && line.uint("subject") == Some(joiner.get().into())
                && line.uint("barrier") == Some(barrier.into())
        })?;
        Ok((line.t_us, frames(rig)))
    };
    let (begin_us, frames_before) = at_barrier(&mut rig, 0)?;
    let (end_us, frames_after) = at_barrier(&mut rig, BARRIERS - 1)?;
    rig.wait_joined(rig.nodes)?;
    let steps = f64::from(BARRIERS - 1);
    let took = seconds(begin_us, end_us);
    // Every node sends one heartbeat frame per period, also meanwhile.
    let period_s = f64::from(quorate_base::Timing::DEFAULT.net_heartbeat) / 1000.0;
    let heartbeats = took / period_s * f64::from(NODES);
    let messages = ((frames_after - frames_before) as f64 - heartbeats).max(0.0) / steps;
    let most = 2 * (NODES - 1);
    let row = report.single(
        "failover",
        "frames per transition step, heartbeats taken off, 3 participants",
        "frames",
        messages,
    );
    // The counters are read a moment after the line, so up to a step's frames, over all steps, are too many or too few in
    // the figure. The target is not widened for that.
    row.at_most(f64::from(most), format!("2(n-1) = {most}"));
    report.single("failover", "time per transition step", "ms", took * 1000.0 / steps);
    Ok(())
}

/// Frames that all nodes sent so far.
fn frames(rig: &Rig) -> u64 {
    rig.nodes.iter().map(|n| rig.world.cluster().switch().counters(n.index()).received).sum()
}
