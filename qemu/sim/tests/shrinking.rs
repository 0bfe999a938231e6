//! A failing seed is made short, and the short plan fails in the same way, byte for byte, also from its file.

use quorate_base::NodeState;
use quorate_sim::{Act, Failure, Plan, RunOptions, Who, World, kind_of, run_plan, run_seed, shrink};

/// Not wrong at all: planted, so that there is something to be found.
fn killed_while_another_joins(world: &World) -> Option<String> {
    let killed = world.machine(1).is_some_and(|m| m.boots > 0 && m.node().is_none() && m.halted.is_none());
    let joins = world.own_state(2) == NodeState::Joining;
    (killed && joins).then(|| format!("Planted: node 1 was killed while node 2 joins, event {}", world.events))
}

fn options(keep_trace: bool) -> RunOptions {
    RunOptions { keep_trace, invariant: Some(killed_while_another_joins), ..RunOptions::default() }
}

fn failing(seeds: std::ops::Range<u64>) -> Box<Failure> {
    seeds
        .into_iter()
        .filter_map(|seed| run_seed(seed, 4, &options(false)).err())
        // Not one whose healing ends nodes by itself: that needs no act.
        .find(|failure| kind_of(&failure.broken.what) == "Planted" && failure.plan.off.is_empty())
        .expect("no seed kills node 1 while node 2 joins")
}

#[test]
fn a_planted_violation_shrinks_to_the_acts_that_are_needed() {
    for first in [0, 500, 1000] {
        let failure = failing(first..first + 500);
        assert_eq!(kind_of(&failure.broken.what), "Planted");
        let short = shrink(&failure, &options(false), 3000);
        let plan = &short.failure.plan;
        println!("{} of {} acts after {} runs", plan.acts.len(), short.acts_before, short.runs);
        plan.acts.iter().for_each(|step| println!("{step}"));
        assert_eq!(kind_of(&short.failure.broken.what), "Planted");
        assert!(short.acts_before >= 10, "{} acts are short already", short.acts_before);
        // Node 1 must boot and end, node 2 must boot. The end of a node may need something that makes it end.
        assert!((3..=5).contains(&plan.acts.len()), "{:?}", plan.acts);
        let starts = |n| move |step: &quorate_sim::Step| step.act == Act::Start { node: n };
        assert!(plan.acts.iter().any(starts(1)) && plan.acts.iter().any(starts(2)), "{:?}", plan.acts);
        assert_eq!((plan.nodes, plan.clock_ppm), (3, 0));
        assert!(plan.damage_us <= failure.plan.damage_us);
    }
}

#[test]
fn a_short_plan_replays_byte_for_byte_also_from_its_file() {
    let short = shrink(&failing(0..500), &options(true), 3000);
    let again = run_plan(&short.failure.plan, &options(true)).unwrap_err();
    assert_eq!(again, short.failure);
    assert!(!again.trace.is_empty());
    let read = Plan::parse(&short.failure.plan.to_text().unwrap()).unwrap();
    assert_eq!(read, *short.failure.plan);
    assert_eq!(run_plan(&read, &options(true)).unwrap_err(), short.failure);
}

#[test]
fn every_drawn_plan_survives_its_file_and_mistakes_in_one_are_named() {
    for seed in 0..300 {
        let plan = Plan::draw(seed, 2 + (seed % 6) as u8, &RunOptions::default());
        assert_eq!(Plan::parse(&plan.to_text().unwrap()), Ok(plan.clone()), "seed {seed}");
    }
    let mut plan = Plan::draw(1, 3, &RunOptions::default());
    plan.acts.truncate(2);
    let good = plan.to_text().unwrap();
    let bad = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan.clone();
        change(&mut plan);
        Plan::parse(&plan.to_text().unwrap()).unwrap_err().0
    };
    assert!(bad(&|p| p.nodes = 65).contains("65"));
    assert!(bad(&|p| p.levels[0] = vec!["7".into()]).contains("level '7'"));
    assert!(bad(&|p| drop(p.levels.pop())).contains("2 lists for 3 nodes"));
    assert!(bad(&|p| p.timing.lease = p.timing.dead).contains("lease"));
    assert!(bad(&|p| p.acts[1].act = Act::Leave { node: Who::Node(3) }).contains("no node 3"));
    assert!(bad(&|p| p.acts[1].act = Act::BadRecord { record: 5000, for_us: 1 }).contains("no record 5000"));
    assert!(bad(&|p| p.acts[0].at_us = 1 << 40).contains("order"));
    for (from, to) in [("nodes = 3", "nodes = 3\nsurprise = 1"), ("do = \"start\"", "do = \"dance\"")] {
        assert!(Plan::parse(&good.replacen(from, to, 1)).is_err(), "{to}");
    }
}
