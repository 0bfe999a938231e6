//! When the watchdog may be patted: never by a node that does not do what is due, always by a healthy or a frozen one.

use quorate_base::{Instant, Timing};
use quorate_node::{Input, Order, Patting, Ports};

use crate::world::{Nobody, World};

/// The watchdog as the device counts.
struct Dog {
    patting: Patting,
    resets_at: Instant,
    pats: u32,
    arms: Vec<u32>,
}

impl Dog {
    fn new(now: Instant) -> Self {
        let patting = Patting::new(now);
        let resets_at = now.plus_ms(2 * patting.stage_ms());
        Self { patting, resets_at, pats: 0, arms: Vec::new() }
    }

    /// So much of the node's time in steps of 10 ms; it is asked after each.
    fn watch(&mut self, world: &mut World, ms: u32) {
        for _ in 0..ms / 10 {
            world.pass(10);
            let Some(order) = self.patting.poll(world.now, &world.node) else { continue };
            assert!(world.now < self.resets_at);
            match order {
                Order::Arm { stage_ms } => self.arms.push(stage_ms),
                Order::Pat => self.pats += 1,
            }
            self.resets_at = world.now.plus_ms(2 * self.patting.stage_ms());
        }
    }

    fn has_reset(&self, world: &World) -> bool {
        world.now >= self.resets_at
    }
}

fn tick(world: &mut World) {
    let mut ports = Ports { post: &mut Nobody, sink: &mut world.said };
    world.node.handle(world.now, Input::Tick, &mut ports);
}

#[test]
fn from_birth_on_it_is_patted_and_takes_the_clusters_time() {
    let mut world = World::new();
    let mut dog = Dog::new(world.now);
    dog.watch(&mut world, 10_000);
    assert_eq!(dog.arms, [Timing::DEFAULT.dead], "once, when the superblock was read");
    // A quarter of a stage is 300 ms; the tests' steps are 10 ms.
    assert!((28..=34).contains(&dog.pats), "{}", dog.pats);
}

#[test]
fn an_idle_node_is_never_woken_for_it() {
    let mut world = World::joined();
    let mut patting = Patting::new(world.now);
    patting.poll(world.now, &world.node);
    for _ in 0..1000 {
        let due = world.node.poll_timeout();
        assert!(due < patting.poll_timeout(), "its own turns come first");
        world.now = world.now.max(due);
        world.pass(1);
        patting.poll(world.now, &world.node);
    }
}

#[test]
fn mission_h3_an_outage_of_the_disk_of_any_length_resets_nobody() {
    let mut world = World::joined();
    let mut dog = Dog::new(world.now);
    dog.watch(&mut world, 1000);
    world.stalled = true;
    dog.watch(&mut world, 120_000);
    assert!(!dog.has_reset(&world) && dog.pats > 300);
    assert!(!world.node.may_write(world.now), "it is frozen");
    world.stalled = false;
    dog.watch(&mut world, 2000);
    assert!(world.node.may_write(world.now) && !dog.has_reset(&world));
}

#[test]
fn a_disk_that_stalls_at_birth_resets_nobody_either() {
    let mut world = World::new();
    let mut dog = Dog::new(world.now);
    world.stalled = true;
    dog.watch(&mut world, 200_000);
    assert!(!dog.has_reset(&world) && dog.arms.is_empty());
}

#[test]
fn a_lease_that_ran_out_unnoticed_is_not_patted() {
    let mut world = World::joined();
    world.pass(500);
    assert!(world.node.may_pat(world.now));
    // It stood still; it has not had its turn since.
    world.now = world.now.plus_ms(Timing::DEFAULT.lease + 300);
    assert!(!world.node.may_pat(world.now));
    tick(&mut world);
    while world.node.poll_output().is_some() {}
    assert!(!world.node.may_write(world.now));
    assert!(world.node.may_pat(world.now), "now it knows");
}

#[test]
fn work_that_is_due_is_done_first() {
    let world = World::new();
    assert!(!world.node.may_pat(world.now), "its first turn is due");
    let mut world = World::joined();
    let mut patting = Patting::new(Instant::ZERO);
    // Stuck without a turn: every deadline passes, nothing is done, and nobody pats.
    for _ in 0..100 {
        world.now = world.node.poll_timeout().plus_ms(100).max(world.now.plus_ms(100));
        assert_eq!(patting.poll(world.now, &world.node), None);
    }
}

#[test]
fn who_has_halted_is_not_patted() {
    let mut world = World::joined();
    world.say("leave");
    world.pass(2000);
    assert!(world.node.halted().is_some() && !world.node.may_pat(world.now));
}

#[test]
fn the_published_figures() {
    // PROTOCOL.md, "The watchdog".
    assert_eq!(Patting::promised_us(&Timing::DEFAULT), 2_424_000);
    assert_eq!(Patting::promised_us(&Timing::FAST), 505_000);
}
