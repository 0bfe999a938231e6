//! How long a third node takes from its process's start to joined, clean, TCG, direct boot.

use quorate_base::{NodeId, NodeSet, NodeState};
use quorate_scenario::Trouble;

use crate::report::Report;
use crate::rig::{Bed, Rig, has_state, level, seconds};

/// The most that joining may take beyond QEMU's own start, s (DESIGN 10).
const TARGET_S: f64 = 0.3;

/// Measures it `times` times.
pub(crate) fn run(times: u32, bed: Bed<'_>, report: &mut Report) -> Result<(), Trouble> {
    let mut rig = Rig::new(3, vec![level(60, "probe-a", 1), level(70, "probe-b", 1)], bed)?;
    let Some(third) = NodeId::new(2) else { return Ok(()) };
    let others = rig.nodes.without(third);
    for node in others {
        rig.start(node)?;
    }
    rig.wait_joined(others)?;
    let (mut whole, mut qemu, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..times {
        let start_us = rig.start(third)?;
        let line = rig.until("that the third node is joined", |line, beliefs| {
            // In its present life: the views before may have the one before joined.
            line.node == Some(third.get())
                && has_state(line, third, NodeState::Joined)
                && beliefs.life(third).inc == line.inc
        })?;
        // The guest's clock starts with the guest, so what is before that is QEMU's.
        let own = line.nt_us.unwrap_or(0) as f64 / 1e6;
        let all = seconds(start_us, line.t_us);
        whole.push(all);
        qemu.push(all - own);
        beyond.push(own);
        rig.leave(third)?;
        rig.until("that the third node has halted", |line, _| line.ev == "halt" && line.node == Some(third.get()))?;
        rig.kill(NodeSet::only(third))?;
    }
    report.samples("boot", "process start to joined, third node", "s", whole);
    report.samples("boot", "  of that QEMU's own start, until the guest's clock runs", "s", qemu);
    let row = report.samples("boot", "  beyond QEMU's own start, on the node's clock", "s", beyond);
    row.at_most(TARGET_S, format!("<= {TARGET_S}"));
    Ok(())
}
