//! The operator's commands, typed at the console.

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

/// Runs one command.
fn run(line: &Line) {
    match line.as_str() {
        "help" => console::print(format_args!("help    this list\n")),
        unknown => console::print(format_args!("unknown command '{unknown}'; try 'help'\n")),
    }
}
