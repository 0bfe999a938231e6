//! A stranger who sees every frame, keeps what it likes, and sends 10,000 frames a second of it, altered or not. What any node
//! takes is held against what was really sent, in every run of the simulator; here also how long things take meanwhile.

use quorate_base::{NodeId, NodeSet};
use quorate_sim::{Broken, LastWrite, Setup, World};
use quorate_switch::Hostile;

fn n(id: u8) -> NodeId {
    NodeId::new(id).unwrap()
}

fn must<T>(result: Result<T, Box<Broken>>) -> T {
    result.unwrap_or_else(|broken| panic!("{broken}"))
}

fn all() -> Vec<Hostile> {
    Hostile::ALL.map(|(_, kind)| kind).to_vec()
}

fn formed(seed: u64, nodes: u8) -> World {
    let mut world = World::new(&Setup::new(seed, nodes));
    (0..usize::from(nodes)).for_each(|m| world.start(m));
    must(world.wait("formed", 5000, |w| w.settled(NodeSet::first(nodes))));
    world
}

fn dropped(world: &World, m: usize) -> u64 {
    world.machine(m).unwrap().node().unwrap().frames().unwrap().dropped_total()
}

/// A node leaves and joins again, one is killed and joins again: how long each took, µs.
fn transitions(world: &mut World) -> [u64; 4] {
    let rest = |out: u8| NodeSet::first(3).without(n(out));
    let whole = NodeSet::first(3);
    world.leave(2);
    let left = must(world.wait("left", 5000, |w| w.settled(rest(2))));
    must(world.run_ms(100));
    world.start(2);
    let joined = must(world.wait("joined", 5000, |w| w.settled(whole)));
    world.kill(1, LastWrite::Lands);
    let forced = must(world.wait("put out", 5000, |w| w.settled(rest(1))));
    must(world.run_ms(100));
    world.start(1);
    let again = must(world.wait("joined again", 5000, |w| w.settled(whole)));
    [left, joined, forced, again]
}

#[test]
fn h6_no_transition_is_delayed_by_100_ms_under_10_000_frames_a_second() {
    // Each seed's own beats fall otherwise, by up to a beat and what waits for one: medians are compared.
    let seeds = 0..9u64;
    let run = |flooded: bool| -> Vec<[u64; 4]> {
        let one = |seed| {
            let mut world = formed(seed, 3);
            if flooded {
                world.flood(&all(), 10_000 * 6, 100);
            }
            let took = transitions(&mut world);
            if flooded {
                assert!(dropped(&world, 0) > 5_000, "{}", dropped(&world, 0));
            }
            must(world.finish());
            took
        };
        seeds.clone().map(one).collect()
    };
    let (calm, flooded) = (run(false), run(true));
    for (i, what) in ["leave", "join", "forced leave", "join after it"].into_iter().enumerate() {
        let median = |runs: &[[u64; 4]]| {
            let mut times: Vec<u64> = runs.iter().map(|run| run[i]).collect();
            times.sort_unstable();
            times[times.len() / 2]
        };
        let (before, under) = (median(&calm), median(&flooded));
        println!("{what}: {before} us, under the flood {under} us");
        assert!(under < before + 100_000, "{what}: {before} us, under the flood {under} us");
    }
}

#[test]
fn h6_a_stranger_neither_changes_a_view_nor_is_anybody_suspected() {
    let mut world = formed(1, 3);
    let views = world.view_of(0);
    world.flood(&all(), 30_000, 100);
    must(world.run_ms(3000));
    assert!(world.settled(NodeSet::first(3)));
    assert_eq!(world.view_of(0), views);
    for m in 0..3 {
        assert!(dropped(&world, m) > 20_000, "{}", dropped(&world, m));
    }
    must(world.finish());
}

/// Nodes that lost their memory are shown everything that was ever sent, by a cluster of which most are dead by now.
#[test]
fn h6_replays_from_before_a_reboot_keep_nobody_alive() {
    let form = |flooded: bool| {
        let mut world = formed(3, 3);
        must(world.run_ms(5_000));
        (0..3).for_each(|m| world.kill(m, LastWrite::Lands));
        must(world.run_ms(3_000));
        if flooded {
            world.flood(&[Hostile::Replayed], 30_000, 100);
        }
        world.start(0);
        let took = must(world.wait("formed alone", 8_000, |w| w.settled(NodeSet::only(n(0)))));
        let heard = world.status_of(0);
        assert_eq!(heard.matches("never heard").count(), 2, "{heard}");
        must(world.finish());
        took
    };
    let (calm, flooded) = (form(false), form(true));
    assert!(flooded < calm + 100_000, "{calm} us, with replays {flooded} us");
}

#[test]
fn a_node_with_another_key_is_named_and_not_let_in() {
    let mut setup = Setup::new(5, 3);
    setup.keep_trace = true;
    let mut world = World::new(&setup);
    (0..2).for_each(|m| world.start(m));
    must(world.wait("formed", 5000, |w| w.settled(NodeSet::first(2))));
    // The key is changed under the running nodes, as `db rekey --force` would; node 2 boots with the new one.
    world.rekey();
    world.start(2);
    must(world.run_ms(3000));
    assert!(world.settled(NodeSet::first(2)));
    let named = world.trace().iter().any(|line| line.contains("node 2 seals with key epoch 1, this node with 0"));
    assert!(named);
    must(world.finish());
}
