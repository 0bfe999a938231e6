//! `cargo cluster test`: host tests, then every scenario on QEMU. The last line is `N passed, M failed`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;
use quorate_launch::iscsi::{Disk, prepare};
use quorate_launch::{BootPath, SetupOptions, Tools, interrupt, setup, uefi, workspace_root};
use quorate_scenario::Scenario;
use quorate_scenario::qemu::WorldOptions;

use crate::arguments::TestOptions;
use crate::end::End;
use crate::play::{bootable, end_is_terminal, play, progress, set_up};

/// Scenarios that are also played on a disk of 4096-byte blocks; all are with `--block-size 4096`. Between them they write
/// every kind of record, from cold, after crashes, and with disk faults.
const WITH_LARGE_BLOCKS: [&str; 6] =
    ["kill-the-master-and-restart", "disk-errors", "power-loss", "storage-outage", "torn-write", "run-time-levels"];

/// What their names end with then.
const LARGE_BLOCKS: &str = "-on-4096-byte-blocks";

/// How many tests went how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
}

impl Count {
    fn add(&mut self, ok: bool) {
        if ok { self.passed += 1 } else { self.failed += 1 }
    }
}

/// Runs `test`.
pub fn test(options: &TestOptions) -> End {
    let mut tools = match setup(&SetupOptions::default(), &mut set_up) {
        Ok(tools) => tools,
        Err(error) => return error.into(),
    };
    let mut count = Count::default();
    if !options.qemu
        && let Err(end) = host_tests(options.filter.as_deref(), &mut count)
    {
        return end;
    }
    if !options.host
        && let Err(end) = scenarios(options, &mut tools, &mut count)
    {
        return end;
    }
    if count == Count::default() {
        eprintln!("no test has a name that contains `{}`", options.filter.as_deref().unwrap_or(""));
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    if count.failed > 0 || count == Count::default() { End::Failed(None) } else { End::Held }
}

/// Runs cargo's tests of the default members and takes its output apart.
fn host_tests(filter: Option<&str>, count: &mut Count) -> Result<(), End> {
    let cannot = |what: &str, error: std::io::Error| End::CannotRun(format!("cannot {what}: {error}"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let (reader, writer) = std::io::pipe().map_err(|e| cannot("make a pipe", e))?;
    let mut command = Command::new(cargo);
    command.current_dir(workspace_root()).args(["test", "--no-fail-fast"]).args(filter).stdin(Stdio::null());
    let other = writer.try_clone().map_err(|e| cannot("make a pipe", e))?;
    let mut child = command.stdout(writer).stderr(other).spawn().map_err(|e| cannot("run cargo test", e))?;
    // The command keeps its ends of the pipe open, and then the reader would never see its end.
    drop(command);
    let mut output = HostOutput::default();
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        if let Some((name, ok)) = output.line(&String::from_utf8_lossy(&line)) {
            println!("{}  {name}", if ok { "ok    " } else { "FAILED" });
            count.add(ok);
        }
        if interrupt::requested() {
            // Cargo got the signal as well if it came from the terminal; else it must be told.
            let _ = child.kill();
        }
    }
    let status = child.wait().map_err(|e| cannot("wait for cargo test", e))?;
    if interrupt::requested() {
        return Err(End::CannotRun("interrupted".to_owned()));
    }
    if !status.success() {
        println!("{}", output.rest());
        if output.failed == 0 {
            println!("FAILED  cargo test");
            count.add(false);
        }
    }
    Ok(())
}

/// Cargo's output, line by line.
#[derive(Debug, Default)]
struct HostOutput {
    /// The test binary that runs.
    binary: String,
    /// Everything that is no test's line, of binaries with failures and of builds.
    rest: Vec<String>,
    failed: u32,
}

/// How much of cargo's output is shown after a failure.
const REST_LINES: usize = 200;

impl HostOutput {
    /// A test's name and whether it passed, if the line is about one.
    fn line(&mut self, line: &str) -> Option<(String, bool)> {
        let trimmed = line.trim();
        if let Some(rest) = trimmed.strip_prefix("Running ") {
            // `Running unittests src/lib.rs (target/debug/deps/quorate_base-0123456789abcdef)`
            let file = rest.rsplit(['/', '(']).next().unwrap_or("").trim_end_matches(')');
            self.binary = file.rsplit_once('-').map_or(file, |(name, _)| name).to_owned();
            return None;
        }
        if let Some(rest) = trimmed.strip_prefix("Doc-tests ") {
            self.binary = format!("{rest} (doc)");
            return None;
        }
        if let Some((name, result)) = trimmed.strip_prefix("test ").and_then(|t| t.rsplit_once(" ... ")) {
            let ok = match result {
                "ok" => true,
                r if r.starts_with("FAILED") => false,
                _ => return None,
            };
            self.failed += u32::from(!ok);
            return Some((format!("{}::{name}", self.binary), ok));
        }
        if !trimmed.is_empty() && !trimmed.starts_with("running ") && !trimmed.starts_with("test result: ok") {
            self.rest.push(line.to_owned());
        }
        None
    }

    fn rest(&self) -> String {
        self.rest.get(self.rest.len().saturating_sub(REST_LINES)..).unwrap_or_default().join("\n")
    }
}

/// All scenario files of the tree, by name.
pub fn scenario_files() -> std::io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(workspace_root().join("qemu/scenarios"))?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    Ok(files)
}

fn scenarios(options: &TestOptions, tools: &mut Tools, count: &mut Count) -> Result<(), End> {
    let files = scenario_files().map_err(|e| End::CannotRun(format!("cannot list qemu/scenarios: {e}")))?;
    let traces = workspace_root().join("target/scenarios");
    std::fs::create_dir_all(&traces).map_err(|e| End::CannotRun(format!("cannot make {}: {e}", traces.display())))?;
    let wanted = |file: &&PathBuf| {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        options.filter.as_ref().is_none_or(|f| stem.contains(f.as_str()))
    };
    let (mut skipped, mut missing, mut no_firmware) = (0, Vec::new(), None);
    for file in files.iter().filter(wanted) {
        match Scenario::read(file) {
            Ok(sizes) => {
                for mut scenario in sizes {
                    if let Err(why) = prepared(&scenario.disk, tools, &mut missing) {
                        println!("skipped scenario {}: {why}", scenario.name);
                        skipped += 1;
                        continue;
                    }
                    scenario.boot = options.boot.map_or(scenario.boot, Into::into);
                    if let Err(why) = with_firmware(&scenario, tools, &mut no_firmware) {
                        println!("skipped scenario {}: {why}", scenario.name);
                        skipped += 1;
                        continue;
                    }
                    scenario.block_size = options.block_size.unwrap_or(scenario.block_size);
                    count.add(play_one(&scenario, file, &traces, options, tools)?);
                    if scenario.block_size != 4096 && WITH_LARGE_BLOCKS.contains(&scenario.name.as_str()) {
                        scenario.block_size = 4096;
                        scenario.name.push_str(LARGE_BLOCKS);
                        count.add(play_one(&scenario, file, &traces, options, tools)?);
                    }
                }
            }
            Err(problems) => {
                println!("FAILED  scenario {}\n{}", file.display(), problems.render(end_is_terminal()));
                count.add(false);
            }
        }
    }
    if skipped > 0 {
        println!("{skipped} scenarios were skipped, the lines above say why");
    }
    Ok(())
}

/// Sees to it that a scenario's disk can be had. What cannot is not tried a second time.
///
/// # Errors
/// Why it cannot.
fn prepared(disk: &Disk, tools: &mut Tools, missing: &mut Vec<(Disk, String)>) -> Result<(), String> {
    if let Some((_, why)) = missing.iter().find(|(known, _)| known == disk) {
        return Err(why.clone());
    }
    prepare(disk, tools, &mut progress).map_err(|error| {
        let why = error.to_string().replace('\n', "; ");
        missing.push((disk.clone(), why.clone()));
        why
    })
}

/// Sees to it that machines can boot by firmware, where a scenario wants that, and that all its steps can be done so. What cannot
/// be had is not tried a second time.
///
/// # Errors
/// Why it cannot.
fn with_firmware(scenario: &Scenario, tools: &mut Tools, missing: &mut Option<String>) -> Result<(), String> {
    if let Err(problems) = bootable(scenario) {
        return Err(problems.list.first().map_or_else(String::new, |problem| problem.message.clone()));
    }
    if scenario.boot == BootPath::Direct {
        return Ok(());
    }
    if let Some(why) = missing {
        return Err(why.clone());
    }
    uefi(tools, &mut set_up).map_err(|error| {
        let why = error.to_string().replace('\n', "; ");
        *missing = Some(why.clone());
        why
    })
}

fn play_one(
    scenario: &Scenario,
    file: &Path,
    traces: &Path,
    options: &TestOptions,
    tools: &Tools,
) -> Result<bool, End> {
    let name = &scenario.name;
    let trace = traces.join(format!("{name}.jsonl"));
    let world = WorldOptions {
        accel: options.accel.into(),
        nic: options.nic.map_or(scenario.nic, Into::into),
        trace: Some(trace.clone()),
        ..WorldOptions::of(scenario)
    };
    let played = play(scenario, world, tools)?;
    let seconds = played.took.as_secs_f64();
    if played.ok() {
        println!("ok      scenario {name} ({seconds:.1} s)");
        return Ok(true);
    }
    println!("FAILED  scenario {name} ({seconds:.1} s)\n{}", played.report(scenario, end_is_terminal()));
    let large = if scenario.block_size == 4096 { " --block-size 4096" } else { "" };
    let nic = options
        .nic
        .and_then(|nic| nic.to_possible_value())
        .map_or(String::new(), |v| format!(" --nic {}", v.get_name()));
    let boot = options
        .boot
        .and_then(|boot| boot.to_possible_value())
        .map_or(String::new(), |v| format!(" --boot {}", v.get_name()));
    println!("  trace: {}\n  again: cargo cluster run {}{large}{nic}{boot}", trace.display(), file.display());
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_output_is_taken_apart() {
        let mut output = HostOutput::default();
        let text = "     Running unittests src/lib.rs (target/debug/deps/quorate_base-0123456789abcdef)\n\
                    \nrunning 2 tests\ntest id::tests::a ... ok\ntest id::tests::b ... FAILED\n\nfailures:\n\
                    ---- id::tests::b stdout ----\nboom\ntest result: FAILED. 1 passed; 1 failed\n   \
                    Doc-tests quorate_base\ntest src/level.rs - level (line 3) ... ok\n\
                    test src/level.rs - level (line 9) - compile fail ... ok\ntest x ... ignored\n";
        let tests: Vec<_> = text.lines().filter_map(|l| output.line(l)).collect();
        let names: Vec<_> = tests.iter().map(|(n, ok)| (n.as_str(), *ok)).collect();
        assert_eq!(
            names,
            [
                ("quorate_base::id::tests::a", true),
                ("quorate_base::id::tests::b", false),
                ("quorate_base (doc)::src/level.rs - level (line 3)", true),
                ("quorate_base (doc)::src/level.rs - level (line 9) - compile fail", true),
            ]
        );
        assert_eq!(output.failed, 1);
        assert!(output.rest().contains("boom"));
    }

    #[test]
    fn every_scenario_of_the_tree_is_sound() {
        let files = scenario_files().unwrap();
        let there = |name: &str| files.iter().any(|f| f.file_stem().is_some_and(|stem| stem == name));
        assert!(WITH_LARGE_BLOCKS.iter().all(|name| there(name)));
        for file in files {
            let sizes = Scenario::read(&file).unwrap_or_else(|p| panic!("{p}"));
            let stem = file.file_stem().unwrap().to_string_lossy();
            for scenario in &sizes {
                let want = if sizes.len() > 1 { format!("{stem}-{}", scenario.nodes) } else { stem.to_string() };
                assert_eq!(scenario.name, want, "the name is the file's");
            }
        }
    }
}
