//! The watchdog in every situation in which it must fire, and in those in which it must not (DESIGN 7, MISSION H1, H3).
//! That it never fires otherwise is an invariant of every run.

use quorate_base::{NodeId, NodeSet, NodeState, Timing};
use quorate_node::Patting;
use quorate_sim::{Act, Broken, LastWrite, Plan, RunOptions, Setup, World};

type Run = Result<(), Box<Broken>>;

/// For a few seeds each, so that the interleavings differ.
fn seeds(test: impl Fn(u64) -> Run) {
    for seed in 0..8 {
        if let Err(broken) = test(seed) {
            panic!("seed {seed}: {broken}");
        }
    }
}

fn formed(seed: u64) -> Result<World, Box<Broken>> {
    let mut world = World::new(&Setup::new(seed, 3));
    (0..3).for_each(|m| world.start(m));
    world.wait("all joined", 10_000, |w| w.settled(NodeSet::first(3)))?;
    Ok(world)
}

fn resets(world: &World) -> u64 {
    world.machines().iter().map(|machine| machine.resets).sum()
}

/// Its kernel hangs: the others put it out, then its watchdog resets it, then it is in again. Gives when it was reset, ms.
fn hang_and_return(world: &mut World, m: usize) -> Result<u64, Box<Broken>> {
    let (began, boots) = (world.now, world.machine(m).map_or(0, |machine| machine.boots));
    let id = NodeId::new(m as u8).expect("small");
    world.hang(m);
    let put_out = world.wait("the others put it out", 2000, |w| w.is_out(id))?;
    let booted = move |w: &World| w.machine(m).is_some_and(|machine| machine.boots == boots + 1);
    world.wait("its watchdog resets it", 3000, booted)?;
    let reset = world.now - began;
    assert!(put_out < reset && reset <= Patting::promised_us(&Timing::DEFAULT), "{put_out} {reset}");
    world.wait("it is back", 10_000, |w| w.settled(NodeSet::first(3)))?;
    assert_eq!(resets(world), world.machine(m).map_or(0, |machine| machine.resets));
    Ok(reset / 1000)
}

#[test]
fn mission_h1_a_member_that_hangs_is_put_out_reset_and_returns() {
    seeds(|seed| {
        let mut world = formed(seed)?;
        let master = world.master().map_or(0, NodeId::index);
        let ms = hang_and_return(&mut world, (master + 1) % 3)?;
        // Patted at the latest a quarter of a stage and one turn before.
        assert!((2000..=2400).contains(&ms), "{ms}");
        world.finish_settled()
    });
}

#[test]
fn mission_h1_a_master_that_hangs_is_put_out_reset_and_returns() {
    seeds(|seed| {
        let mut world = formed(seed)?;
        let master = world.master().map_or(0, NodeId::index);
        hang_and_return(&mut world, master)?;
        world.finish_settled()
    });
}

#[test]
fn a_node_that_hangs_at_its_birth_is_reset() {
    seeds(|seed| {
        let mut world = World::new(&Setup::new(seed, 3));
        world.start(0);
        world.run_until(300 + 100 * seed)?;
        world.hang(0);
        world.run_ms(59_000)?;
        assert_eq!((world.own_state(0), resets(&world)), (NodeState::Inactive, 0));
        world.wait("it is in", 5000, |w| w.settled(NodeSet::first(1)))?;
        assert_eq!(resets(&world), 1);
        world.finish_settled()
    });
}

#[test]
fn mission_h3_an_outage_of_twenty_seconds_resets_nobody() {
    seeds(|seed| {
        let mut world = formed(seed)?;
        world.kill(2, LastWrite::Lands);
        (0..3).for_each(|m| world.stall_disk(m));
        world.start(2);
        world.run_ms(20_000)?;
        (0..3).for_each(|m| world.heal_disk(m));
        world.wait("all are back", 10_000, |w| w.settled(NodeSet::first(3)))?;
        assert_eq!(resets(&world), 0);
        world.finish_settled()
    });
}

#[test]
fn who_was_stopped_from_outside_is_not_reset() {
    seeds(|seed| {
        let mut world = formed(seed)?;
        // Past both stages, and in the middle of the second one.
        for ms in [5000, 1800] {
            world.pause(1);
            world.run_ms(ms)?;
            world.resume(1);
            world.wait("it learns that it is out", 5000, |w| w.machine(1).is_some_and(|m| m.node().is_none()))?;
            world.start(1);
            world.wait("all are back", 10_000, |w| w.settled(NodeSet::first(3)))?;
        }
        world.demand_views_only();
        world.freeze(2);
        world.run_ms(9000)?;
        world.thaw(2);
        world.run_ms(3000)?;
        assert_eq!(resets(&world), 0);
        world.finish()
    });
}

#[test]
fn random_plans_have_kernels_that_hang() {
    let options = RunOptions::default();
    let plans: Vec<Plan> = (0..40).map(|seed| Plan::draw(seed, 3, &options)).collect();
    let hangs = plans.iter().filter(|p| p.acts.iter().any(|step| matches!(step.act, Act::Hang { .. }))).count();
    assert!((10..=30).contains(&hangs), "{hangs} of 40");
    assert!(plans.iter().filter(|p| p.calm).all(|p| !p.acts.iter().any(|s| matches!(s.act, Act::Hang { .. }))));
}
