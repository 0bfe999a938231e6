//! Every scenario file that ships, on virtual time, under several seeds each.

use std::path::Path;

use quorate_scenario::Scenario;
use quorate_scenario::engine::check;
use quorate_sim::{ScenarioWorld, run_scenario};

const SEEDS: u64 = 5;

/// What the simulator refuses.
const ON_QEMU_ONLY: [&str; 13] = [
    "epitaph",
    "iscsi-lease",
    "reservation-freeze",
    "reservation-kill-and-restart",
    "reservation-late-write",
    "reservation-life",
    "reservation-lio",
    "reservation-lio-target-restart",
    "reservation-master-returns",
    "reservation-pause",
    "reservation-reform",
    "reservation-session-cut",
    "reservation-target-restart",
];

#[test]
fn every_scenario_file_holds_in_the_simulator() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let folders = [folder.clone(), folder.join("long")];
    let mut files: Vec<_> =
        folders.iter().flat_map(|f| std::fs::read_dir(f).unwrap()).map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    files.sort();
    let (mut played, mut failed) = (0, Vec::new());
    for path in &files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let sizes = match Scenario::read(path) {
            Ok(sizes) => sizes,
            Err(problems) => panic!("{name}: {}", problems.render(false)),
        };
        for scenario in sizes {
            if let Err(problems) = check(&scenario, &ScenarioWorld::new(&scenario, 0)) {
                // By name: a kernel's own mistakes, and a target's sessions, are real machines' only.
                assert!(ON_QEMU_ONLY.contains(&name.as_str()), "{name}: {}", problems.render(false));
                continue;
            }
            played += 1;
            for seed in 0..SEEDS {
                let (outcome, lines) = run_scenario(&scenario, seed);
                if let Some(failure) = &outcome.failure {
                    failed.push(format!("{name}, seed {seed}:\n{}", failure.render(&scenario, false)));
                    break;
                }
                assert!(lines.len() > 2, "{name}: {} lines", lines.len());
            }
        }
    }
    assert!(failed.is_empty(), "{} of {played} failed\n{}", failed.len(), failed.join("\n"));
    assert!(played >= 36, "{played} scenarios in {} files", files.len());
}
