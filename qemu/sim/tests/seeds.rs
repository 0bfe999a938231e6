//! Random schedules: hundreds of seeds, every invariant after every event; and that a seed replays exactly.

use quorate_sim::{Plan, RunOptions, run_plan, run_seed, run_seeds};

fn seeds(range: std::ops::Range<u64>, nodes: u8) {
    let began = std::time::Instant::now();
    match run_seeds(range, nodes, &RunOptions::default(), |_| {}) {
        Ok(summary) => {
            let ratio = summary.virtual_us as f64 / began.elapsed().as_micros() as f64;
            println!("{nodes} nodes: {summary:?}, {ratio:.0} times as fast as real time");
        }
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn random_faults_with_two_nodes() {
    seeds(0..300, 2);
}

#[test]
fn random_faults_with_three_nodes() {
    seeds(1000..1600, 3);
}

#[test]
fn random_faults_with_five_nodes() {
    seeds(2000..2200, 5);
}

#[test]
fn random_faults_with_nine_nodes() {
    seeds(3000..3020, 9);
}

#[test]
fn group_traffic_under_the_same_faults() {
    let options = RunOptions { groups: Some(true), ..RunOptions::default() };
    for (range, nodes) in [(0..30, 2), (30..70, 3), (70..90, 5)] {
        match run_seeds(range, nodes, &options, |_| {}) {
            Ok(summary) => {
                let (runs, delivered) = summary.groups;
                assert!(runs == summary.runs && delivered > 100 * runs, "{summary:?}");
            }
            Err(failure) => panic!("{failure}"),
        }
    }
}

#[test]
fn a_plan_carries_its_group_traffic_and_one_without_says_nothing_of_it() {
    let with = Plan::draw(3, 3, &RunOptions { groups: Some(true), damage_ms: 5_000, ..RunOptions::default() });
    let text = with.to_text().unwrap();
    assert!(text.contains("groups = true") && text.contains("line = \"job load"), "{text}");
    assert_eq!(Plan::parse(&text).unwrap(), with);
    let options = RunOptions { keep_trace: true, ..RunOptions::default() };
    let [a, b] = [run_plan(&with, &options), run_plan(&Plan::parse(&text).unwrap(), &options)];
    assert_eq!(a.map(|o| o.trace).ok(), b.map(|o| o.trace).ok());
    let without = (0..).map(|seed| Plan::draw(seed, 3, &RunOptions::default())).find(|plan| !plan.groups).unwrap();
    assert!(!without.to_text().unwrap().contains("groups"));
}

#[test]
fn a_seed_replays_byte_for_byte() {
    let options = RunOptions { keep_trace: true, damage_ms: 5_000, ..RunOptions::default() };
    for seed in [2, 5] {
        let (a, b) = (run_seed(seed, 3, &options), run_seed(seed, 3, &options));
        assert_eq!(a, b);
        let trace = a.map(|o| o.trace).unwrap_or_default();
        assert!(trace.len() > 100);
    }
}
