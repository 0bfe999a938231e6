//! Directed plans. Plans of failing seeds, made short: each shows a bug that is mended, and says which; and plans that find a
//! deliberate fault (`qemu/mutate`) for which no seed makes the situation.

use std::path::Path;

use quorate_sim::{Plan, RunOptions, run_plan};

#[test]
fn plans_that_once_failed_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut failed = Vec::new();
    for path in &files {
        let name = path.file_stem().unwrap().to_string_lossy();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.starts_with("# "), "{name} does not say what it showed");
        let plan = Plan::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Err(failure) = run_plan(&plan, &RunOptions::default()) {
            failed.push(format!("{name}: {}", failure.broken.what));
        }
    }
    assert!(!files.is_empty());
    assert!(failed.is_empty(), "{} of {} failed\n{}", failed.len(), files.len(), failed.join("\n"));
}
