//! Two machines are started under one node id at once (DESIGN 3 *birth*; MISSION: a second machine under an id halts).
//!
//! They have the same incarnation and share no memory; only the nonces tell them apart. However the disk orders what they do,
//! at most one of them writes the ballot block, at most one lives on, and the other says why it does not.

use std::collections::BTreeSet;

use quorate_base::{BootNonce, HaltReason, NodeId, NodeState};
use quorate_database::{BallotBlock, Block, Superblock, layout};
use quorate_sim::{Broken, DiskFaults, Random, Setup, World};

fn twin() -> NodeId {
    NodeId::new(1).unwrap()
}

/// Whose promises stand in the twins' ballot block.
fn writers(world: &World) -> impl Iterator<Item = BootNonce> + '_ {
    let superblock = world.disk.record(layout::superblock(0)).map(|raw| Superblock::decode(raw, 0));
    [0, 1].into_iter().filter_map(move |slot| {
        let Some(Block::Good(superblock)) = &superblock else { panic!("the superblock is good") };
        let raw = world.disk.record(layout::ballot(twin(), slot))?;
        BallotBlock::decode(raw, superblock.cluster, twin(), slot).good().map(|b| b.nonce)
    })
}

/// Machines 0 and 1 boot as node 1, the second one by so much later. Gives how many of them live on.
/// The trace of a machine bears its own id: where one lives on that runs under another's, the checker cannot judge the run.
fn boot_twins(setup: &Setup, gap_us: u64, checked: bool) -> Result<usize, Box<Broken>> {
    let mut world = World::new(setup);
    world.start(2);
    world.boot(0, Some(twin()), true);
    let before = world.run_until(gap_us);
    if checked {
        before?;
    }
    world.boot(1, Some(twin()), true);
    let mut wrote = BTreeSet::new();
    let until = world.now + 4 * u64::from(setup.timing.dead) * 1000;
    while world.now < until {
        match world.step() {
            Ok(true) => {}
            Ok(false) => break,
            Err(broken) if checked => return Err(broken),
            Err(_) => {}
        }
        wrote.extend(writers(&world).map(|nonce| nonce.0));
    }
    assert!(wrote.len() <= 1, "seed {}: both wrote the ballot block", setup.seed);
    let mut alive = 0;
    for machine in &world.machines()[..2] {
        match &machine.halted {
            None => alive += 1,
            Some(HaltReason::ForeignNonce { .. } | HaltReason::NodeIdInUse) => {}
            // On so slow a disk the one that lives on may be suspected, and rightly so.
            Some(HaltReason::PutOut { .. }) if !checked => {}
            Some(other) => panic!("seed {}: machine {} halts: {other}", setup.seed, machine.id),
        }
    }
    assert!(alive <= 1, "seed {}: both live on", setup.seed);
    let joined = (0..2).filter(|m| world.own_state(*m) == NodeState::Joined).count();
    assert!(joined <= alive);
    if checked {
        world.finish()?;
    }
    Ok(alive)
}

fn healthy(seed: u64) -> Setup {
    Setup { levels: Vec::new(), ..Setup::new(seed, 3) }
}

/// Each request takes no time at all or about `io_max`: the orders that a node's own checks must not depend on.
fn jumpy(seed: u64) -> Setup {
    let mut setup = healthy(seed);
    let longest = u64::from(setup.timing.io_max) * 1000;
    setup.faults.disk =
        DiskFaults { delay_us: (0, 200), slow_per_million: 400_000, slow_us: longest, ..DiskFaults::default() };
    setup
}

#[test]
fn of_two_machines_that_boot_at_once_under_one_id_one_lives_on() {
    for seed in 0..200 {
        // Within less than a beat, so that the first one sees the second's identity when it reads its own back.
        let gap = Random::new(seed).between(0, 150_000);
        match boot_twins(&healthy(seed), gap, true) {
            Ok(alive) => assert_eq!(alive, 1, "seed {seed}"),
            Err(broken) => panic!("seed {seed}: {broken}"),
        }
    }
}

#[test]
fn however_late_their_requests_are_at_most_one_machine_of_an_id_lives_on() {
    let mut alive = [0; 2];
    for seed in 0..300 {
        let gap = Random::new(seed).between(0, 400_000);
        match boot_twins(&jumpy(seed), gap, false) {
            Ok(n) => alive[n] += 1,
            Err(broken) => panic!("seed {seed}: {broken}"),
        }
    }
    println!("one lived on {} times, none {} times", alive[1], alive[0]);
    assert!(alive[1] > 0);
}
