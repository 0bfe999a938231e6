//! Messages that are longer than a frame: in parts, whole or not at all, with nobody else's between them.

use crate::engine::number;
use crate::world::{MS, Net, Threads, World, n};
use quorate_groups::capacity::{GROUPS_MAX, JOBS_MAX, MESSAGE_MAX, OUT_CONTROL_MAX, PARTS_MAX};
use quorate_groups::{CallError, JobId};

fn longest(i: u64) -> Vec<u8> {
    number(i, MESSAGE_MAX - 8)
}

fn check_all(w: &mut World) {
    for node in w.running() {
        let life = w.up(node).life;
        w.check.check_taken(node, life, &w.nodes[node.index()].as_ref().unwrap().engine);
        w.check.ended(node, life);
    }
}

#[test]
fn the_longest_messages_of_three_senders_come_whole_over_a_lossy_link() {
    let mut w = World::joined(3, 3);
    w.net = Net { delay_us: (10, 900), lost_permille: 100, doubled_permille: 50 };
    let jobs: Vec<_> = (0..3).map(|i| w.register(i, "g", "job", 0)).collect();
    w.settle();
    for k in 1..=5 {
        for i in 0..3u8 {
            while w.send(i, jobs[usize::from(i)], &longest(k)).is_err() {
                assert!(w.one());
            }
        }
    }
    w.settle();
    assert_eq!(w.check.messages(), 15);
    check_all(&mut w);
}

#[test]
fn one_byte_more_is_refused_and_the_length_of_a_part_divides_nothing() {
    let mut w = World::joined(2, 4);
    let job = w.register(0, "g", "job", 0);
    w.register(1, "g", "job", 0);
    w.settle();
    let long = vec![0; MESSAGE_MAX + 1];
    assert_eq!(w.send(0, job, &long), Err(CallError::TooLong { max: MESSAGE_MAX }));
    for (k, len) in (1..).zip([1279, 1280, 1281, 2559, 2560, 2561, MESSAGE_MAX]) {
        w.send(0, job, &number(k, len - 8)).unwrap();
        w.settle();
    }
    assert_eq!(w.check.messages(), 7);
    check_all(&mut w);
}

/// One sends long messages, another short ones; `victim` dies after so many steps.
fn dies(victim: u8, steps: usize) -> World {
    let mut w = World::joined(3, 5);
    let jobs: Vec<_> = (0..3).map(|i| w.register(i, "g", "job", 0)).collect();
    w.settle();
    w.send(1, jobs[1], &longest(1)).unwrap();
    for k in 1..=3 {
        w.send(2, jobs[2], &number(k, 900)).unwrap();
    }
    for _ in 0..steps {
        w.one();
    }
    w.kill(n(victim), 500);
    w.settle();
    w
}

#[test]
fn a_sender_or_sequencer_that_dies_in_the_middle_leaves_all_or_nothing() {
    let (mut whole, mut nothing) = (0, 0);
    for victim in 0..3 {
        for steps in 0..120 {
            let mut w = dies(victim, steps);
            check_all(&mut w);
            // From those that live everything came, and who was between the parts of one that died did not wait for it.
            let due = if victim == 2 { 1 } else { 3 };
            let came = w.check.messages();
            match victim {
                0 => assert_eq!(came, 4),
                1 => assert!(came == due || came == due + 1),
                _ => assert!((1..=4).contains(&came)),
            }
            if victim == 1 {
                (whole, nothing) = (whole + usize::from(came == 4), nothing + usize::from(came == 3));
            }
            let tables = w.engine(if victim == 0 { 1 } else { 0 }).tables();
            assert!(tables.partial.iter().all(Option::is_none), "victim {victim} after {steps}: {:?}", tables.partial);
        }
    }
    assert!(whole > 10 && nothing > 10, "{whole} {nothing}");
}

#[test]
fn who_joins_in_the_middle_of_a_message_is_not_told_it() {
    for steps in 0..60 {
        let mut w = World::joined(3, 6);
        let sender = w.register(0, "g", "job", 0);
        w.register(1, "g", "job", 0);
        w.settle();
        w.send(0, sender, &longest(1)).unwrap();
        for _ in 0..steps {
            w.one();
        }
        w.register(2, "g", "late", 0);
        w.send(0, sender, &number(2, 8)).unwrap();
        w.settle();
        check_all(&mut w);
    }
}

#[test]
fn a_node_that_joins_in_the_middle_of_a_message_learns_of_it() {
    for steps in 0..40 {
        let mut w = World::joined(2, 8);
        w.nodes.push(None);
        let sender = w.register(0, "g", "job", 0);
        w.register(1, "g", "job", 0);
        w.settle();
        w.send(0, sender, &longest(1)).unwrap();
        for _ in 0..steps {
            w.one();
        }
        w.start(n(2));
        w.settle();
        let late = w.register(2, "g", "late", 0);
        w.send(0, sender, &longest(2)).unwrap();
        w.settle();
        assert!(w.state(2, late).is_some());
        check_all(&mut w);
    }
}

#[test]
fn long_messages_in_all_groups_do_not_wait_for_each_other() {
    let mut w = World::joined(3, 9);
    let mut jobs: Vec<(u8, JobId)> = Vec::new();
    for g in 0..GROUPS_MAX.min(JOBS_MAX) {
        for node in 0..3 {
            let job = w.register(node, &format!("g{g}"), "job", 0);
            jobs.push((node, job));
            if g % OUT_CONTROL_MAX == 0 {
                w.settle();
            }
        }
    }
    w.settle();
    for (node, job) in &jobs {
        // Each takes in its own time.
        let threads = Threads { take_us: 50 + 40 * u64::from(*node), ..Threads::default() };
        w.nodes[usize::from(*node)].as_mut().unwrap().threads.insert(*job, threads);
    }
    for k in 1..=2 {
        for (node, job) in &jobs {
            while w.send(*node, *job, &longest(k)).is_err() {
                assert!(w.one(), "{}", w.describe());
            }
        }
    }
    w.settle();
    assert_eq!(w.check.messages(), 2 * jobs.len());
    check_all(&mut w);
}

#[test]
fn a_slow_group_leaves_room_for_long_messages_of_another() {
    let mut w = World::joined(3, 10);
    let slow: Vec<_> = (0..3).map(|i| w.register(i, "slow", "job", 0)).collect();
    let quick: Vec<_> = (0..3).map(|i| w.register(i, "quick", "job", 0)).collect();
    w.settle();
    let hang = Threads { hang: true, ..Threads::default() };
    w.nodes[2].as_mut().unwrap().threads.insert(slow[2], hang);
    for i in 0..3u8 {
        for k in 1.. {
            if w.send(i, slow[usize::from(i)], &number(k, 1200)).is_err() {
                break;
            }
        }
        w.run_for(MS);
    }
    w.run_for(50 * MS);
    let before = w.check.messages();
    // A message of as many frames as fit beside what the slow group holds.
    let mut size = MESSAGE_MAX;
    while w.send(0, quick[0], &number(1, size - 8)).is_err() {
        size -= MESSAGE_MAX / PARTS_MAX;
    }
    assert!(size > 2 * 1280, "{size}");
    w.run_for(200 * MS);
    assert_eq!(w.check.messages(), before + 1, "{}", w.describe());
}
