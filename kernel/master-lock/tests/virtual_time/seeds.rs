//! Thousands of seeded runs on virtual time: one history of views, one master per ballot, and a master once the faults
//! stop. A failing run names its seed; `LOCK_SEED=<seed>` runs only that one,
//! `LOCK_SEEDS=<n>` n times as many.

use crate::world::{Faults, World};
use quorate_base::Instant;

const MS: u64 = 1000;
const SECOND: u64 = 1000 * MS;

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("LOCK_SEED").ok().and_then(|s| s.parse().ok()) {
        Some(seed) => vec![seed],
        None => {
            let more = std::env::var("LOCK_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
            (0..count * more).collect()
        }
    }
}

fn run(name: &str, nodes: u8, count: u64, faults: impl Fn(u64) -> Faults, more: impl Fn(&World)) {
    let (mut operations, mut views, mut masters) = (0, 0, 0);
    for seed in seeds(count) {
        let mut f = faults(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut w = World::new(nodes, seed, f);
            f.until = Instant(w.now.0 + 6 * SECOND);
            w.faults = f;
            // As tight as the inequality allows, so that a fence which relies on slack is found.
            w.timing.dead = 1019;
            w.timing.check().unwrap();
            for n in 0..usize::from(nodes) {
                w.start(n);
            }
            w.run(f.until, |_| false);
            for n in 0..usize::from(nodes) {
                if w.nodes[n].lock.is_none() && w.nodes[n].life == 0 {
                    w.start(n);
                }
            }
            let limit = w.now + 25 * SECOND;
            assert!(
                w.run(limit, World::settled),
                "no master with everybody joined after the faults stopped\n{}",
                w.describe()
            );
            more(&w);
            (w.operations, w.history.len(), w.ballots.len())
        }));
        match outcome {
            Ok((o, v, m)) => {
                operations += o;
                views += v;
                masters += m;
            }
            Err(_) => {
                panic!(
                    "{name}: replay with LOCK_SEED={seed} cargo test -p quorate-master-lock --test virtual_time {name}"
                )
            }
        }
    }
    println!("{name}: {operations} disk operations, {views} views, {masters} masters");
}

#[test]
fn cold_start_without_faults() {
    for nodes in [1, 2, 3, 5] {
        run(
            "cold_start_without_faults",
            nodes,
            50,
            |_| Faults { delay_us: 5 * MS, bounded: true, ..Faults::default() },
            |w| {
                assert_eq!(w.double_masters, 0);
                assert_eq!(w.ballots.len(), 1, "one master is enough");
            },
        );
    }
}

#[test]
fn crashes_and_restarts() {
    for nodes in [2, 3] {
        run(
            "crashes_and_restarts",
            nodes,
            300,
            |seed| Faults {
                delay_us: 2 * MS + seed % 7 * 3 * MS,
                crashes: 1 + seed % 20,
                bounded: true,
                ..Faults::default()
            },
            |w| assert_eq!(w.double_masters, 0, "two acting masters without a wrong suspicion"),
        );
    }
}

#[test]
fn wrong_suspicion_by_slow_disks_and_pauses() {
    for nodes in [2, 3] {
        run(
            "wrong_suspicion_by_slow_disks_and_pauses",
            nodes,
            300,
            |seed| Faults {
                delay_us: 5 * MS,
                slow: 20 + seed % 200,
                slow_us: 199 * MS,
                pauses: 1 + seed % 30,
                pause_us: 2 * SECOND,
                crashes: seed % 4,
                bounded: true,
                ..Faults::default()
            },
            |_| {},
        );
    }
}

#[test]
fn failing_requests_of_unknown_fate() {
    for nodes in [2, 3] {
        run(
            "failing_requests_of_unknown_fate",
            nodes,
            250,
            |seed| Faults {
                delay_us: 5 * MS,
                errors: 5 + seed % 150,
                crashes: seed % 8,
                pauses: seed % 5,
                pause_us: SECOND,
                bounded: true,
                ..Faults::default()
            },
            |_| {},
        );
    }
}

#[test]
fn writes_that_take_longer_than_any_promise_of_the_disk() {
    run(
        "writes_that_take_longer_than_any_promise_of_the_disk",
        3,
        300,
        |seed| Faults {
            delay_us: 5 * MS,
            slow: 30 + seed % 100,
            slow_us: 3 * SECOND,
            errors: seed % 20,
            pauses: seed % 20,
            pause_us: 2 * SECOND,
            crashes: seed % 6,
            ..Faults::default()
        },
        |_| {},
    );
}
