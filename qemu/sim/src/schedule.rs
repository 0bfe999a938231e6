//! Random schedules: first everything is damaged, then all is healed, and the cluster must settle.
//!
//! ```text
//! boot ──▶ damage (kills, pauses, cuts, stalls, leaves, boots, at any moment) ──▶ heal ──▶ settled within a bound ──▶ quiet
//! ```

use quorate_base::{NodeId, NodeSet};

use crate::faults::{Faults, LastWrite};
use crate::random::Random;
use crate::world::{Broken, World};

/// Within so many ms after everything was healed all nodes must be joined under one master: an old life's fence, an
/// arbitration at its longest and a formation, several times over.
pub(crate) const SETTLE_MS: u64 = 8_000;
/// For so long the cluster must stay as it is, ms.
const QUIET_MS: u64 = 2_000;
/// How often the settling is looked at, and what ended meanwhile is booted again, µs.
const STEP_US: u64 = 5_000;

/// What is done at one moment of the damage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Start,
    Kill,
    KillAll,
    Leave,
    Pause,
    Resume,
    CutOneWay,
    CutBoth,
    Isolate,
    HealNet,
    StallDisk,
    StallAll,
    HealDisk,
}

/// How often each is drawn. Boots outweigh ends, so that there is mostly a cluster to damage.
const WEIGHTS: [(Act, u64); 13] = [
    (Act::Start, 30),
    (Act::Kill, 12),
    (Act::KillAll, 1),
    (Act::Leave, 8),
    (Act::Pause, 8),
    (Act::Resume, 12),
    (Act::CutOneWay, 4),
    (Act::CutBoth, 4),
    (Act::Isolate, 3),
    (Act::HealNet, 12),
    (Act::StallDisk, 5),
    (Act::StallAll, 1),
    (Act::HealDisk, 10),
];

/// One schedule under way.
#[derive(Debug)]
pub(crate) struct Schedule {
    random: Random,
    nodes: u8,
    /// A machine that is to be killed after so many more events.
    ambush: Option<(usize, u64)>,
}

impl Schedule {
    /// Its draws are its own, so that the world's do not depend on them.
    pub fn new(seed: u64, nodes: u8) -> Self {
        Self { random: Random::new(seed.rotate_left(32) ^ 0x5c4e), nodes, ambush: None }
    }

    /// The whole schedule. Gives how long the settling took, µs.
    pub fn run(&mut self, world: &mut World, damage_ms: u64) -> Result<u64, Box<Broken>> {
        for m in 0..usize::from(self.nodes) {
            if self.random.below(4) > 0 {
                world.start(m);
            }
        }
        let until = world.now + damage_ms * 1000;
        while world.now < until {
            // Mostly busy times, now and then a pause in which something may end.
            let wait = if self.random.below(5) == 0 { 3_000_000 } else { 400_000 };
            let next = (world.now + self.random.below(wait)).min(until);
            self.pass(world, next)?;
            let act = self.draw();
            self.act(world, act);
            if self.random.below(4) == 0 {
                let victim = self.machine();
                self.ambush = Some((victim, self.random.below(600)));
            }
        }
        self.heal(world);
        self.settle(world)
    }

    /// Lets time pass; the ambush strikes between two events.
    fn pass(&mut self, world: &mut World, until: u64) -> Result<(), Box<Broken>> {
        while let Some((victim, left)) = self.ambush {
            if world.next_at() > until {
                break;
            }
            world.step()?;
            self.ambush = Some((victim, left.saturating_sub(1)));
            if left == 0 {
                self.ambush = None;
                let last = self.last_write();
                world.kill(victim, last);
            }
        }
        world.run_until(until)
    }

    fn machine(&mut self) -> usize {
        self.random.below(u64::from(self.nodes)) as usize
    }

    fn node(&mut self) -> NodeId {
        // Below `nodes`, which is at most 64.
        NodeId::new(self.machine() as u8).unwrap_or_else(|| NodeId::first(1).next().expect("node 0"))
    }

    fn last_write(&mut self) -> LastWrite {
        self.random.pick(&[LastWrite::Lands, LastWrite::Lost, LastWrite::Torn]).unwrap_or_default()
    }

    fn draw(&mut self) -> Act {
        let total = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut at = self.random.below(total);
        for (act, weight) in WEIGHTS {
            if at < weight {
                return act;
            }
            at -= weight;
        }
        Act::Start
    }

    fn act(&mut self, world: &mut World, act: Act) {
        let all = 0..usize::from(self.nodes);
        let m = self.machine();
        let (a, b) = (self.node(), self.node());
        match act {
            Act::Start => {
                let off: Vec<usize> = all.filter(|m| world.machines()[*m].node().is_none()).collect();
                if let Some(m) = self.random.pick(&off) {
                    world.start(m);
                }
            }
            Act::Kill => {
                let last = self.last_write();
                world.kill(m, last);
            }
            Act::KillAll => {
                for m in all {
                    let last = self.last_write();
                    world.kill(m, last);
                }
            }
            Act::Leave => world.leave(m),
            Act::Pause => world.pause(m),
            Act::Resume => all.for_each(|m| world.resume(m)),
            Act::CutOneWay if a != b => {
                world.mark("cut", &[a.get(), b.get()], "one way");
                world.network.cut(a, b);
            }
            Act::CutBoth if a != b => {
                world.mark("cut", &[a.get(), b.get()], "");
                world.network.cut(a, b);
                world.network.cut(b, a);
            }
            Act::CutOneWay | Act::CutBoth => {}
            Act::Isolate => {
                world.mark("cut", &[a.get()], "from all");
                world.network.isolate(a);
            }
            Act::HealNet => {
                world.mark("heal", &[], "");
                world.network.heal();
            }
            Act::StallDisk => world.stall_disk(m),
            Act::StallAll => all.for_each(|m| world.stall_disk(m)),
            Act::HealDisk => all.for_each(|m| world.heal_disk(m)),
        }
    }

    fn heal(&mut self, world: &mut World) {
        world.mark("heal", &[], "everything");
        self.ambush = None;
        world.network.heal();
        let healthy = Faults::default();
        (world.disk.faults, world.network.faults) = (healthy.disk, healthy.net);
        for m in 0..usize::from(self.nodes) {
            world.heal_disk(m);
            world.resume(m);
        }
    }

    /// Boots whatever is off until all are joined and stay so. What was decided before the healing may still end a node.
    /// Gives when they were, µs after the healing.
    fn settle(&mut self, world: &mut World) -> Result<u64, Box<Broken>> {
        let (began, all) = (world.now, NodeSet::first(self.nodes));
        let mut since = None;
        loop {
            match since {
                _ if !stays(world, all) => since = None,
                None => since = Some(world.now),
                Some(since) if world.now - since >= QUIET_MS * 1000 => return Ok(since - began),
                Some(_) => {}
            }
            if since.is_none() && world.now - began > SETTLE_MS * 1000 {
                return Err(
                    world.describe("all nodes joined under one master after all was healed: not in time".into())
                );
            }
            for m in 0..usize::from(self.nodes) {
                world.start(m);
            }
            world.run_until(world.now + STEP_US)?;
        }
    }
}

/// Settled, and nobody has a leave from the time of the damage before it.
fn stays(world: &World, all: NodeSet) -> bool {
    let wishes = |m: &crate::machine::Machine| m.node().and_then(|n| n.membership()).is_some_and(|s| s.is_leaving());
    world.settled(all) && !world.machines().iter().any(wishes)
}
