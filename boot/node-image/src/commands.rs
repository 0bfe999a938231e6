//! The operator's commands, typed at the console. Those about the cluster go to the node's task.

use crate::cluster;
use crate::console::{self, LINE_BYTES_MAX, Line, Reader, TooLong};

/// Reads and runs commands for ever.
#[embassy_executor::task]
pub async fn commands() {
    let mut reader = Reader::default();
    loop {
        match reader.next_line().await {
            Ok(line) => run(&line),
            Err(TooLong) => console::print(format_args!("a command has at most {LINE_BYTES_MAX} bytes\n")),
        }
    }
}

/// Runs one command. Every answer ends with a line `ok` or is one line that says what was wrong.
fn run(line: &Line) {
    if line.as_str() == "help" {
        console::print(format_args!(
            "status  who is in, who is master, what is being waited for\n\
             leave   leave the cluster gracefully, then halt\n\
             help    this list\n\
             ok\n"
        ));
    } else if !cluster::ask(line) {
        console::print(format_args!("too many commands wait; try again\n"));
    }
}
