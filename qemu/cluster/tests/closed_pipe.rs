//! A reader that has seen enough is no mistake: no command ends with a panic for it, but with its usual exit status.

use std::process::{Command, Output, Stdio};

/// Runs the command with a standard output, and a standard error if `both`, that nobody reads.
fn run(words: &[&str], both: bool) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let stderr = if both { Stdio::from(writer.try_clone().unwrap()) } else { Stdio::piped() };
    let program = env!("CARGO_BIN_EXE_quorate-cluster");
    let child = Command::new(program).args(words).stdin(Stdio::null()).stdout(writer).stderr(stderr).spawn().unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_closed_pipe_is_no_panic() {
    for (words, status) in [
        (&["mutate", "--list"][..], 0),
        (&["sim", "--seeds", "0..2"], 0),
        (&["--help"], 0),
        (&["db", "dump", "no such image"], 2),
        (&["mutate", "--only", "no such mutation"], 2),
    ] {
        let output = run(words, false);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {told}");
        assert!(!told.contains("panicked"), "{words:?}: {told}");
        assert_eq!(run(words, true).status.code(), Some(status), "{words:?}, with nobody at its errors either");
    }
}
