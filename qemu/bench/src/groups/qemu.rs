//! On QEMU: the node image with group services, by the nodes' own clocks.

use quorate_base::NodeId;
use quorate_scenario::Trouble;
use quorate_scenario::backend::Backend;
use quorate_scenario::qemu::WorldOptions;

use super::{CASES, Consoles, NODES, fits, load, prepare};
use crate::report::Report;
use crate::rig::{Bed, Rig};

struct Machines(Rig);

impl Consoles for Machines {
    fn type_at(&mut self, node: u8, line: &str) -> Result<String, Trouble> {
        let id = NodeId::new(node).ok_or_else(|| Trouble::Broken(format!("there is no node {node}")))?;
        self.0.world.command(id, line)
    }

    fn rest(&mut self) -> Result<(), Trouble> {
        std::thread::sleep(std::time::Duration::from_millis(50));
        Ok(())
    }
}

pub(super) fn run(short: bool, bed: Bed<'_>, report: &mut Report) -> Result<(), Trouble> {
    let mut rig = Rig::of(WorldOptions { groups: true, ..WorldOptions::new(NODES) }, bed)?;
    rig.start_all()?;
    let mut cluster = Machines(rig);
    let first = prepare(&mut cluster)?;
    for case in CASES.into_iter().filter(|case| fits(*case)) {
        let count = match (case.bytes, case.outstanding, short) {
            (..16_384, 1, false) => 500,
            (..16_384, _, false) => 2_000,
            (_, _, false) => 60,
            (..16_384, _, true) => 150,
            (_, _, true) => 15,
        };
        let came = load(&mut cluster, case, first, count / u32::from(case.senders))?;
        report.single("groups", &format!("QEMU: {}", case.name()), "msg/s", came.per_s().round());
        report.single("groups", "  p50", "us", came.p50_us as f64);
        report.single("groups", "  p99", "us", came.p99_us as f64);
    }
    Ok(())
}
