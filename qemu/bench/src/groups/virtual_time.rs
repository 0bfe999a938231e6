//! In the simulator: what a message costs in round trips and frames, whatever the machine.

use quorate_scenario::Trouble;
use quorate_sim::{Faults, NetFaults, Setup, World};

use super::{CASES, Came, Consoles, NODES, fits, load, prepare};
use crate::report::Report;

/// A frame takes so long, µs; there and back twice that.
const HOP_US: u64 = 100;

/// It joins in less, µs.
const JOIN_US: u64 = 10_000_000;

struct Virtual(World);

impl Consoles for Virtual {
    fn type_at(&mut self, node: u8, line: &str) -> Result<String, Trouble> {
        let said = self.0.command(usize::from(node), line);
        said.ok_or_else(|| Trouble::Failed(format!("bench groups: node {node} of the simulator does not answer")))
    }

    fn rest(&mut self) -> Result<(), Trouble> {
        let until = self.0.now + 1000;
        self.0.run_until(until).map_err(|broken| Trouble::Failed(broken.to_string()))
    }
}

pub(super) fn run(short: bool, report: &mut Report) -> Result<(), Trouble> {
    let faults = Faults { net: NetFaults { delay_us: (HOP_US, HOP_US), ..NetFaults::default() }, ..Faults::default() };
    let mut world = World::new(&Setup { faults, ..Setup::new(1, NODES) });
    for m in 0..usize::from(NODES) {
        world.set_groups(m, true);
        world.start(m);
    }
    let mut cluster = Virtual(world);
    let end = cluster.0.now + JOIN_US;
    while cluster.0.now < end {
        cluster.rest()?;
    }
    let first = prepare(&mut cluster)?;
    for case in CASES.into_iter().filter(|case| fits(*case)) {
        let senders = if case.senders == NODES {
            vec![(first, "")]
        } else {
            vec![(first, " (the sequencer)"), ((first + 1) % NODES, " (another)")]
        };
        for (from, who) in senders {
            let count = match (case.bytes, short) {
                (..16_384, false) => 600,
                (..16_384, true) => 150,
                (_, false) => 90,
                (_, true) => 30,
            };
            let before = cluster.0.network.frames;
            let came: Came = load(&mut cluster, case, from, count / u32::from(case.senders))?;
            let frames = cluster.0.network.frames - before;
            let name = format!("virtual time: {}{who}", case.name());
            report.single("groups", &name, "round trips, median", came.p50_us as f64 / (2 * HOP_US) as f64);
            report.single("groups", "  frames of all nodes", "per message", frames as f64 / came.count as f64);
        }
    }
    Ok(())
}
