//! Any lines at a joined node's console: each answer is one line that says what was wrong, or ends with `ok`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_base::NodeId;
use quorate_scenario::Scenario;
use quorate_scenario::backend::{Backend, Trouble};
use quorate_scenario::model::StartOptions;
use quorate_scenario::source::Source;
use quorate_sim::ScenarioWorld;

const ALONE: &str = "nodes = 1\nstep = [{ expect = \"master\" }]\nlevel = [{ order = 70, name = \"probe\" }]\n";

fuzz_target!(|lines: Vec<&str>| {
    let scenario = Scenario::parse(Source::new("alone.toml", ALONE)).expect("a scenario");
    let mut world = ScenarioWorld::new(&scenario, 1);
    let node = NodeId::first(1).next().expect("a node");
    world.start(node, &StartOptions::default()).expect("started");
    world.wait(usize::MAX, 1_500_000).expect("time passes");
    // A console hands over single lines.
    for line in lines.into_iter().flat_map(str::lines).take(8) {
        match world.command(node, line) {
            Ok(answer) => assert!(answer.lines().last() == Some("ok") || answer.lines().count() <= 1, "{answer}"),
            // It left, or a level that it took in did something to it: then there is no console.
            Err(Trouble::Failed(_)) => break,
            Err(trouble) => panic!("{trouble}"),
        }
        let until = world.now_us() + 50_000;
        world.wait(usize::MAX, until).expect("time passes");
    }
});
