//! What a signal does to a command that works in its own process alone.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_long_search_ends_at_the_first_signal() {
    let mut searching = Command::new(env!("CARGO_BIN_EXE_quorate-cluster"))
        .args(["model", "--without", "each"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It has begun: each rule that is left out is a line.
    let mut said = BufReader::new(searching.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "it says what it found");
    let told = Command::new("kill").args(["-TERM", &searching.id().to_string()]).status().unwrap();
    assert!(told.success());
    // The whole search takes minutes; the end of one part of it is not waited for.
    let patience = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = searching.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > patience {
            searching.kill().unwrap();
            panic!("it goes on");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(!status.success());
}
