//! How a cluster must end up after the damage: all nodes joined; those that are on, while some stay off; those that hear
//! each other, while some links stay cut.

use quorate_base::{HaltReason, NodeId, NodeSet, NodeState};

use crate::director::STEP_US;
use crate::machine::Machine;
use crate::plan::Broke;
use crate::world::{Broken, World};

/// For so long the cluster must stay as it is, µs.
const QUIET_US: u64 = 2_000_000;
/// How often a node that was refused for a cut asks again, µs.
const AGAIN_US: u64 = 500_000;

/// Boots which of these nodes is off until they and nobody else are joined within `within_us` and stay so. Gives when
/// they were, µs after the beginning. What was decided before may still end a node.
pub(crate) fn settle(world: &mut World, nodes: NodeSet, within_us: u64) -> Result<u64, Box<Broken>> {
    settle_for(world, nodes, within_us, QUIET_US)
}

/// The same with another length of staying so, µs.
pub(crate) fn settle_for(world: &mut World, nodes: NodeSet, within_us: u64, quiet_us: u64) -> Result<u64, Box<Broken>> {
    let began = world.now;
    let mut since = None;
    loop {
        match since {
            _ if !stays(world, nodes) => since = None,
            None => since = Some(world.now),
            Some(since) if world.now - since >= quiet_us => return Ok(since - began),
            Some(_) => {}
        }
        if since.is_none() && world.now - began > within_us {
            let (ms, which) =
                (within_us / 1000, if nodes.len() == world.machines().len() { "all" } else { "the other" });
            let what = format!("{which} nodes joined under one master after all was healed: not in time ({ms} ms)");
            return Err(world.describe(what));
        }
        nodes.iter().for_each(|n| world.start(n.index()));
        world.run_until(world.now + STEP_US)?;
    }
}

/// Settled, and nobody has a leave from the time of the damage before it.
fn stays(world: &World, nodes: NodeSet) -> bool {
    let wishes = |m: &Machine| m.node().and_then(|n| n.membership()).is_some_and(|s| s.is_leaving());
    world.settled(nodes) && !world.machines().iter().any(wishes)
}

/// Of two machines that run under one node id one ends (DESIGN 3).
pub(crate) fn one_of_two(world: &mut World, within_us: u64) -> Result<(), Box<Broken>> {
    let began = world.now;
    while world.double.is_some() {
        if world.now - began > within_us {
            return Err(world.describe("two machines run under one node id".to_owned()));
        }
        world.run_until(world.now + STEP_US)?;
        world.end_double();
    }
    Ok(())
}

/// While some links are cut (DESIGN 7): who is joined comes to be a set in which everybody hears everybody, under one
/// master, and the view changes no more.
pub(crate) fn apart(world: &mut World, cuts: &[Broke], within_us: u64) -> Result<(), Box<Broken>> {
    let (mut began, mut asked) = (world.now, None);
    let mut since: Option<(u64, NodeSet)> = None;
    let mut left = NodeSet::EMPTY;
    loop {
        let joined: NodeSet = world
            .machines()
            .iter()
            .filter(|m| world.own_state(m.id.index()) == NodeState::Joined)
            .map(|m| m.id)
            .collect();
        let deaf =
            |cut: &Broke| [cut.from, cut.to].into_iter().all(|n| NodeId::new(n).is_some_and(|n| joined.contains(n)));
        let good = !joined.is_empty() && !cuts.iter().any(deaf) && world.settled(joined);
        since = since.filter(|(_, before)| good && *before == joined).or(good.then_some((world.now, joined)));
        if since.is_some_and(|(at, _)| world.now - at >= QUIET_US) {
            return Ok(());
        }
        if since.is_none() && world.now - began > within_us {
            let what =
                format!("nodes that hear each other joined while links are cut: not in time ({} ms)", within_us / 1000);
            return Err(world.describe(what));
        }
        if asked.is_none_or(|at| world.now - at >= AGAIN_US) {
            asked = Some(world.now);
            // Who was still leaving at the healing, and is gone now, joins from here on: the time begins anew, once for each.
            for machine in world.machines().iter().filter(|machine| machine.node().is_none()) {
                if machine.halted.as_ref().is_some_and(HaltReason::is_wanted) && left.insert(machine.id) {
                    began = world.now;
                }
            }
            (0..world.machines().len()).for_each(|m| world.start(m));
        }
        world.run_until(world.now + STEP_US)?;
    }
}
