//! A pause between two requests of a node: at no moment at which one is under way, and none that began less than so long before.

use std::time::Duration;

use quorate_base::NodeSet;
use quorate_scenario::Scenario;
use quorate_scenario::backend::Trouble;
use quorate_scenario::source::Source;
use quorate_sim::{Setup, World, run_scenario};

const IDLE_MS: u64 = 50;
const LIMIT: Duration = Duration::from_secs(10);

/// Each request of the one node takes at least so long.
const DELAY_MS: u32 = 20;

/// A node alone that is joined, so many ms later.
fn formed(seed: u64, after_ms: u64) -> World {
    let mut world = World::new(&Setup::new(seed, 1));
    world.start(0);
    world.wait("the node", 10_000, |w| w.settled(NodeSet::first(1))).unwrap_or_else(|broken| panic!("{broken}"));
    world.disk.path(0).delay_ms = DELAY_MS;
    world.run_ms(after_ms).unwrap_or_else(|broken| panic!("{broken}"));
    world
}

/// The moments of the last request before `until` and of the first one after it, of the same run without a pause.
fn around(seed: u64, until: u64) -> (u64, u64) {
    let mut world = formed(seed, 500);
    let asked = |world: &World| world.disk.reads + world.disk.writes;
    let (mut before, mut count) = (0, asked(&world));
    loop {
        world.step().unwrap_or_else(|broken| panic!("{broken}"));
        if asked(&world) == count {
            continue;
        }
        count = asked(&world);
        if world.now > until {
            return (before, world.now);
        }
        before = world.now;
    }
}

fn pauses(world: &mut World, idle_ms: u64) -> bool {
    let idle = Duration::from_millis(idle_ms);
    world.pause_at_idle(0, idle, LIMIT).unwrap_or_else(|broken| panic!("{broken}"))
}

#[test]
fn a_pause_at_idle_comes_so_long_after_an_answer_and_not_later() {
    for seed in 0..3 {
        // All over the time from one beat to the next.
        for after_ms in (1_000..1_200).step_by(9) {
            let mut world = formed(seed, after_ms);
            assert!(pauses(&mut world, IDLE_MS));
            assert!(world.machine(0).unwrap().stands_still());
            let (before, after) = around(seed, world.now);
            // Its answer takes no longer than that and the healthy disk's own time.
            let least = (IDLE_MS + u64::from(DELAY_MS)) * 1000;
            let since = world.now - before;
            assert!((least..least + 1_000).contains(&since), "seed {seed}, {after_ms} ms: {since} us");
            assert!(after > world.now);
        }
    }
}

#[test]
fn a_disk_that_is_never_idle_for_so_long_lets_the_node_go_on() {
    let mut world = formed(0, 1_000);
    let begun = world.now;
    assert!(!pauses(&mut world, 200), "a beat comes first");
    assert_eq!(world.now - begun, LIMIT.as_micros() as u64);
    assert!(!world.machine(0).unwrap().stands_still());
    world.disk.path(0).delay_ms = 90;
    assert!(!pauses(&mut world, IDLE_MS), "one request follows the other");
    world.pause(0);
    assert!(!pauses(&mut world, IDLE_MS), "it asks nothing");
}

#[test]
fn a_scenario_says_so() {
    let with = |idle_ms: u32| {
        let text = format!(
            "nodes = 3\nstep = [{{ do = \"start\", node = \"all\" }},
                {{ wait = \"state\", subject = \"all\", is = \"joined\", within_ms = 20000 }},
                {{ do = \"pause\", node = 2, disk_idle_ms = {idle_ms} }},
                {{ wait = \"state\", subject = 2, is = \"inactive\", within_ms = 8000 }}]\n"
        );
        Scenario::parse(Source::new("test.toml", text)).unwrap_or_else(|p| panic!("{p}"))
    };
    for seed in 0..10 {
        assert_eq!(run_scenario(&with(50), seed).0.failure, None);
    }
    let failure = run_scenario(&with(500), 0).0.failure.expect("a failure");
    assert!(
        matches!(&failure.trouble, Trouble::Broken(why) if why.contains("machine 2 was not paused: in 10 s")),
        "{failure:?}"
    );
    assert!(failure.what.starts_with("do pause"), "{failure:?}");
}
