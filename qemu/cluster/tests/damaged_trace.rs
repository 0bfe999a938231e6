//! A trace in which lines are damaged: `report` shows the rest and says what it leaves out, `check` refuses it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

const LINE: &str = r#"{"t_us":1,"node":2,"inc":3,"nt_us":4,"seq":5,"lc":6,"ev":"note","what":"x"}"#;

fn run(verb: &str, trace: &Path) -> Output {
    let program = env!("CARGO_BIN_EXE_quorate-cluster");
    Command::new(program).arg(verb).arg(trace).stdin(Stdio::null()).output().unwrap()
}

/// What `report` says on its standard error, and its page.
fn reported(trace: &Path) -> (String, String) {
    let output = run("report", trace);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    (told, std::fs::read_to_string(trace.with_extension("html")).unwrap())
}

#[test]
fn a_report_leaves_a_damaged_line_out_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("run.jsonl");
    std::fs::write(&trace, format!("{LINE}\n{{\"t_us\":1}}\n{LINE}\n{{\"t_us\":")).unwrap();
    let (told, page) = reported(&trace);
    let name = trace.display();
    let lines: Vec<String> = told.lines().map(str::to_owned).collect();
    let why = "line 2 is no trace line: field `node` is missing or of the wrong kind";
    let cut = "line 4, the last one, is cut off; the report ends before it";
    assert_eq!(lines, [format!("{name}: {cut}"), format!("{name}: {why}; the report leaves it out")]);
    assert!(page.contains("1 line of the trace is damaged and left out") && page.contains(why));
    assert!(page.contains("The trace is cut off in line 4"));

    std::fs::write(&trace, format!("{LINE}\n{}", "{\n".repeat(12))).unwrap();
    let (told, page) = reported(&trace);
    assert_eq!(told.lines().count(), 11, "{told}");
    assert!(
        told.ends_with("run.jsonl: 2 more of its lines are no trace lines; the report leaves them out\n"),
        "{told}"
    );
    assert!(page.contains("12 lines of the trace are damaged and left out"));

    // What has no trace line at all is none.
    std::fs::write(&trace, "{\n{\n").unwrap();
    let output = run("report", &trace);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("run.jsonl: no line of it is one of a trace; line 1 is no trace line: "), "{told}");
}

/// A checker that passes over damage proves nothing.
#[test]
fn check_refuses_a_trace_with_a_damaged_line() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("run.jsonl");
    let program = env!("CARGO_BIN_EXE_quorate-cluster");
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/kill-the-master.toml");
    let sim = Command::new(program).arg("sim").arg(scenario).arg("--trace").arg(&trace).output().unwrap();
    assert!(sim.status.success(), "{}", String::from_utf8_lossy(&sim.stderr));
    let sound = std::fs::read(&trace).unwrap();
    assert_eq!(run("check", &trace).status.code(), Some(0), "without damage");
    let middle = sound.len() / 2;
    let end = middle + sound[middle..].iter().position(|b| *b == b'\n').unwrap();
    // A line too many that is no JSON is a broken rule; a file that is no text cannot be read.
    for (what, status) in [(&b"{"[..], 1), (&b"\xff"[..], 2)] {
        let mut bytes = sound.clone();
        bytes.splice(end + 1..end + 1, [what, b"\n"].concat());
        std::fs::write(&trace, bytes).unwrap();
        assert_eq!(run("check", &trace).status.code(), Some(status), "{what:?}");
        assert!(reported(&trace).0.contains("is no trace line"));
    }
}
