//! `cargo cluster fuzz`: every fuzz target for so long, with the corpus that the tree keeps. Needs nightly Rust and
//! `cargo-fuzz`, as libFuzzer does; nothing else of the project needs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use quorate_launch::{interrupt, workspace_root};

use crate::arguments::FuzzOptions;
use crate::end::End;

/// A new input is tried at most for so long before it counts as a hang, s.
const INPUT_S: u64 = 10;

/// Runs `fuzz`.
pub fn fuzz(options: &FuzzOptions) -> End {
    let folder = workspace_root().join("qemu/fuzz");
    let targets = match targets(&folder, &options.targets) {
        Ok(targets) => targets,
        Err(end) => return end,
    };
    if !cargo_fuzz().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
        return End::CannotRun(
            "cargo-fuzz is missing; run: rustup toolchain install nightly && cargo install cargo-fuzz".to_owned(),
        );
    }
    let each_s = (options.minutes * 60).div_ceil(targets.len() as u64).max(1);
    let (mut runs, mut found, begun) = (0u64, 0u32, Instant::now());
    for target in &targets {
        match run(target, each_s, &folder) {
            Ok(Fuzzed { executions, clean, text }) => {
                runs += executions;
                println!("{}  {target}: {executions} executions", if clean { "ok    " } else { "FAILED" });
                if !clean {
                    found += 1;
                    println!("{}", tail(&text));
                }
            }
            Err(end) => return end,
        }
        if interrupt::requested() {
            return End::CannotRun("interrupted".to_owned());
        }
    }
    println!(
        "{} targets, {runs} executions in {:.0} s, {found} with a finding",
        targets.len(),
        begun.elapsed().as_secs_f64()
    );
    if found == 0 { End::Held } else { End::Failed(None) }
}

fn cargo_fuzz() -> Command {
    let mut command = Command::new("cargo");
    // This command may itself be cargo's child, with another toolchain in its environment.
    command.env_remove("RUSTUP_TOOLCHAIN").args(["+nightly", "fuzz"]).current_dir(workspace_root());
    command
}

/// The wanted targets, or all: one file each.
fn targets(folder: &Path, wanted: &[String]) -> Result<Vec<String>, End> {
    let files = std::fs::read_dir(folder.join("fuzz_targets"))
        .map_err(|e| End::CannotRun(format!("cannot list the fuzz targets: {e}")))?;
    let stem = |path: PathBuf| path.file_stem().map(|s| s.to_string_lossy().into_owned());
    let mut all: Vec<String> = files.filter_map(|entry| stem(entry.ok()?.path())).collect();
    all.sort();
    match wanted.iter().find(|w| !all.contains(w)) {
        Some(unknown) => {
            Err(End::CannotRun(format!("there is no fuzz target {unknown}; there are: {}", all.join(", "))))
        }
        None if wanted.is_empty() => Ok(all),
        None => Ok(wanted.to_vec()),
    }
}

struct Fuzzed {
    executions: u64,
    clean: bool,
    text: String,
}

fn run(target: &str, for_s: u64, folder: &Path) -> Result<Fuzzed, End> {
    let cannot = |what: &str, e: std::io::Error| End::CannotRun(format!("cannot {what}: {e}"));
    // What is found goes to the first one, which is not kept: what the tree keeps is changed only by hand.
    let (corpus, seeds) = (folder.join("corpus").join(target), folder.join("seeds").join(target));
    std::fs::create_dir_all(&corpus).map_err(|e| cannot("make the corpus", e))?;
    let output = cargo_fuzz()
        .args(["run", "--fuzz-dir"])
        .arg(folder)
        .arg(target)
        .arg(&corpus)
        .args(seeds.is_dir().then_some(&seeds))
        .args(["--", "-print_final_stats=1", "-rss_limit_mb=2048"])
        .args([format!("-max_total_time={for_s}"), format!("-timeout={INPUT_S}")])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| cannot("run cargo fuzz", e))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    match executions(&text) {
        Some(executions) => Ok(Fuzzed { executions, clean: output.status.success(), text }),
        None => Err(End::CannotRun(format!("{target} did not run:\n{}", tail(&text)))),
    }
}

/// From libFuzzer's last words.
fn executions(text: &str) -> Option<u64> {
    text.lines().rev().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok())
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executions_stand_in_libfuzzers_last_words() {
        let text = "Done 3 runs\nstat::number_of_executed_units: 1234567\nstat::average_exec_per_sec:     9\n";
        assert_eq!(executions(text), Some(1_234_567));
        assert_eq!(executions("error: could not compile"), None);
    }

    #[test]
    fn every_target_has_its_entry_in_the_manifest() {
        let folder = workspace_root().join("qemu/fuzz");
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let Ok(all) = targets(&folder, &[]) else { panic!("no targets") };
        assert!(all.len() >= 14, "{all:?}");
        for target in all {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
        }
    }
}
