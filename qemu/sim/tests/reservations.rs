//! The races of DESIGN 7 around the reservation, each by name; and random faults on clusters that fence by it.

use quorate_base::{FenceMethod, HaltReason, NodeId, NodeSet, Preempted, Registrants};
use quorate_sim::{LastWrite, RunOptions, Setup, TargetKind, World, run_seeds};

/// What it accepted lingers, and each boot is a nexus of its own.
const LIO: TargetKind = TargetKind {
    all_registrants: true,
    abort: true,
    persist: true,
    preempted: Preempted::Lingers,
    registrants: Registrants::All,
    fresh_nexus: true,
    forgets_holder: false,
    lost_per_million: 0,
};
/// tgt with one thread: no PREEMPT AND ABORT, works in order, and nothing survives. It forgets who of all holds it.
const TGT: TargetKind = TargetKind {
    abort: false,
    persist: false,
    preempted: Preempted::Ends,
    registrants: Registrants::Only,
    forgets_holder: true,
    ..LIO
};
/// Registrants only: one node holds the reservation.
const ONLY: TargetKind = TargetKind { all_registrants: false, ..LIO };

fn node(n: u8) -> NodeId {
    NodeId::new(n).unwrap()
}

/// Three nodes that are joined and quiet.
fn formed(seed: u64, target: TargetKind) -> World {
    let setup = Setup { fence: FenceMethod::Reservation, target, keep_trace: true, ..Setup::new(seed, 3) };
    let mut world = World::new(&setup);
    (0..3).for_each(|m| world.start(m));
    settled(&mut world, NodeSet::first(3));
    world
}

fn settled(world: &mut World, nodes: NodeSet) {
    world.wait("a settled cluster", 20_000, |w| w.settled(nodes)).unwrap_or_else(|broken| panic!("{broken}"));
}

fn run(world: &mut World, ms: u64) {
    world.run_ms(ms).unwrap_or_else(|broken| panic!("{broken}"));
}

fn is_out(world: &mut World, n: u8, ms: u64) -> u64 {
    world.wait("the forced leave", ms, |w| w.is_out(node(n))).unwrap_or_else(|broken| panic!("{broken}"))
}

fn master(world: &World) -> u8 {
    world.master().unwrap().get()
}

/// Some node that is not the master.
fn other(world: &World) -> u8 {
    (0..3).find(|n| *n != master(world)).unwrap()
}

/// Lines of an event, as they stand in the trace.
fn told(world: &World, ev: &str) -> Vec<String> {
    let wanted = format!(r#""ev":"{ev}""#);
    world.trace().into_iter().filter(|line| line.contains(&wanted)).collect()
}

fn fenced_by(world: &World, n: u8, method: FenceMethod) -> usize {
    let (peer, method) = (format!(r#""peer":{n},"#), format!(r#""method":"{}""#, method.name()));
    told(world, "fence").iter().filter(|line| line.contains(&peer) && line.contains(&method)).count()
}

/// The keys of the lives that run, and no other.
fn only_live_keys(world: &mut World) {
    run(world, 1_000);
    world.check_keys().unwrap_or_else(|what| panic!("{what}"));
}

fn put_out(world: &World, n: u8) -> bool {
    matches!(world.machine(usize::from(n)).unwrap().halted, Some(HaltReason::PutOut { .. }))
}

#[test]
fn a_killed_node_is_out_long_before_its_lease_could_run_out() {
    for target in [LIO, TGT, ONLY] {
        for seed in 0..5 {
            let mut world = formed(seed, target);
            let victim = other(&world);
            world.kill(usize::from(victim), LastWrite::Lands);
            let took_us = is_out(&mut world, victim, 2_000);
            // What the target lets linger is waited for: `io_max`, by the slowest clock.
            let lingers_us = if target.preempted == Preempted::Lingers { 202_021 } else { 0 };
            assert!(took_us < 700_000 + lingers_us, "{took_us} us");
            assert_eq!(fenced_by(&world, victim, FenceMethod::Reservation), 1);
            assert_eq!(fenced_by(&world, victim, FenceMethod::Lease), 0);
            only_live_keys(&mut world);
        }
    }
}

#[test]
fn a_killed_master_is_fenced_by_its_successor() {
    for target in [LIO, TGT, ONLY] {
        for seed in 0..5 {
            let mut world = formed(seed, target);
            let victim = master(&world);
            world.kill(usize::from(victim), LastWrite::Lands);
            is_out(&mut world, victim, 2_000);
            assert_eq!(fenced_by(&world, victim, FenceMethod::Reservation), 1);
            only_live_keys(&mut world);
        }
    }
}

#[test]
fn design_7_a_suspended_machine_writes_nothing_after_its_fence_whatever_its_clock_says() {
    for target in [LIO, TGT, ONLY] {
        for seed in 0..10 {
            let mut world = formed(seed, target);
            let victim = if seed % 2 == 0 { master(&world) } else { other(&world) };
            // Somewhere in a beat, so that its next write is under way, or is submitted at once when it goes on.
            run(&mut world, seed * 23);
            world.freeze(usize::from(victim));
            is_out(&mut world, victim, 3_000);
            run(&mut world, 5_000);
            world.thaw(usize::from(victim));
            run(&mut world, 2_000);
            assert!(put_out(&world, victim), "{:?}", world.machine(usize::from(victim)).unwrap().halted);
            only_live_keys(&mut world);
        }
    }
}

#[test]
fn design_7_re_registration_against_preemption_who_is_out_does_not_get_back_in() {
    for target in [LIO, TGT, ONLY] {
        for seed in 0..10 {
            let mut world = formed(seed, target);
            let victim = other(&world);
            // It is to register anew, and is put out meanwhile.
            world.pause(usize::from(victim));
            world.reconnect(usize::from(victim));
            run(&mut world, 350 + seed * 20);
            world.resume(usize::from(victim));
            run(&mut world, 4_000);
            // Either it came back in time, or it is out for good; nobody else was harmed.
            let back = world.settled(NodeSet::first(3));
            assert!(back || put_out(&world, victim), "seed {seed}");
            let whole = if back { NodeSet::first(3) } else { NodeSet::first(3).without(node(victim)) };
            settled(&mut world, whole);
        }
    }
}

#[test]
fn design_7_a_reboot_is_fenced_by_its_old_key_or_where_the_nexus_is_the_same_by_time() {
    for (fresh_nexus, seed) in [true, false].into_iter().flat_map(|fresh| (0..10).map(move |seed| (fresh, seed))) {
        let mut world = formed(seed, TargetKind { fresh_nexus, ..LIO });
        let victim = other(&world);
        world.kill(usize::from(victim), LastWrite::Lands);
        run(&mut world, 20 + seed * 30);
        world.start(usize::from(victim));
        let took = world.wait("it is back", 5_000, |w| w.settled(NodeSet::first(3)));
        let took_us = took.unwrap_or_else(|broken| panic!("{broken}"));
        // On the same nexus its new registration took the place of the old one: nobody removed that, and nobody knows.
        let by = if fresh_nexus { FenceMethod::Reservation } else { FenceMethod::Lease };
        assert_eq!(fenced_by(&world, victim, by), 1, "seed {seed}: {took_us} us");
        only_live_keys(&mut world);
    }
}

#[test]
fn design_7_a_leaving_holder_does_not_take_the_reservation_with_it() {
    for target in [LIO, ONLY] {
        for seed in 0..5 {
            let mut world = formed(seed, target);
            for left in [2usize, 1] {
                // The master mostly holds it: it was there first.
                let leaver = master(&world);
                world.leave(usize::from(leaver));
                world
                    .wait("it has left", 10_000, |w| w.running().len() == left)
                    .unwrap_or_else(|broken| panic!("{broken}"));
                assert_eq!(world.machine(usize::from(leaver)).unwrap().halted, Some(HaltReason::Left));
                let rest = world.running();
                settled(&mut world, rest);
                only_live_keys(&mut world);
            }
            // The last to leave stays registered; the next formation removes its key.
            let last = master(&world);
            world.leave(usize::from(last));
            world.wait("all have left", 10_000, |w| w.running().is_empty()).unwrap_or_else(|broken| panic!("{broken}"));
            assert_eq!(world.keys().len(), 1);
            assert!(world.is_reserved());
            let first = (last + 1) % 3;
            world.start(usize::from(first));
            settled(&mut world, NodeSet::only(node(first)));
            only_live_keys(&mut world);
        }
    }
}

#[test]
fn design_7_a_target_that_lost_its_power_puts_nobody_out() {
    for target in [LIO, TGT, TargetKind { persist: false, ..ONLY }] {
        for seed in 0..10 {
            let mut world = formed(seed, target);
            let view = world.view_of(0);
            run(&mut world, seed * 17);
            world.lose_power();
            run(&mut world, 3_000);
            assert_eq!(world.view_of(0), view, "seed {seed}");
            assert!(told(&world, "freeze").is_empty() && told(&world, "panic").is_empty());
            only_live_keys(&mut world);
        }
    }
}

#[test]
fn a_reset_of_the_unit_and_a_reconnect_freeze_and_halt_nobody() {
    for seed in 0..10 {
        let mut world = formed(seed, TGT);
        let view = world.view_of(0);
        for round in 0..5 {
            run(&mut world, 100 + seed * 13 + round * 40);
            if round % 2 == 0 { world.reset_unit() } else { world.reconnect(usize::from((round % 3) as u8)) }
        }
        run(&mut world, 2_000);
        assert_eq!(world.view_of(0), view, "seed {seed}");
        assert!(told(&world, "freeze").is_empty() && told(&world, "panic").is_empty(), "seed {seed}");
        assert!(world.settled(NodeSet::first(3)));
    }
}

#[test]
fn after_the_loss_of_all_nodes_each_old_life_is_fenced_by_its_key() {
    for target in [LIO, ONLY] {
        let mut world = formed(1, target);
        (0..3).for_each(|m| world.kill(m, LastWrite::Lands));
        run(&mut world, 3_000);
        (0..3).for_each(|m| world.start(m));
        settled(&mut world, NodeSet::first(3));
        for n in 0..3 {
            assert_eq!(fenced_by(&world, n, FenceMethod::Lease), 0);
        }
        only_live_keys(&mut world);
    }
}

#[test]
fn tgt_forgets_which_of_all_holders_was_preempted_and_a_killed_master_comes_back_all_the_same() {
    let target = TargetKind { registrants: Registrants::All, ..TGT };
    for seed in 0..10 {
        let mut world = formed(seed, target);
        // The first master reserved; whoever is preempted and registers next is taken for the holder.
        for _ in 0..3 {
            let victim = master(&world);
            world.kill(usize::from(victim), LastWrite::Lands);
            is_out(&mut world, victim, 3_000);
            world.start(usize::from(victim));
            settled(&mut world, NodeSet::first(3));
            only_live_keys(&mut world);
        }
    }
}

#[test]
fn a_target_that_forgets_all_registrations_and_tells_nobody_is_noticed_within_two_seconds() {
    for target in [LIO, TGT] {
        for seed in 0..10 {
            let mut world = formed(seed, target);
            let view = world.view_of(0);
            run(&mut world, seed * 170);
            world.forget_registrations();
            assert!(world.keys().is_empty() && !world.is_reserved());
            run(&mut world, 2_000);
            assert_eq!(world.view_of(0), view, "seed {seed}");
            assert!(told(&world, "panic").is_empty() && told(&world, "freeze").is_empty());
            world.check_keys().unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        }
    }
}

fn seeds(range: std::ops::Range<u64>, nodes: u8) {
    let options = RunOptions { fence: Some(FenceMethod::Reservation), ..RunOptions::default() };
    if let Err(failure) = run_seeds(range, nodes, &options, |_| {}) {
        panic!("{failure}");
    }
}

#[test]
fn random_faults_with_two_nodes_and_a_reservation() {
    seeds(10_000..10_060, 2);
}

#[test]
fn random_faults_with_three_nodes_and_a_reservation() {
    seeds(11_000..11_120, 3);
}

#[test]
fn random_faults_with_five_nodes_and_a_reservation() {
    seeds(12_000..12_040, 5);
}
