//! The operator's commands, typed at the console. They are the node's (`quorate_node::console`), so they go to its task.

use crate::cluster;
use crate::console::{self, LINE_BYTES_MAX, Reader, TooLong};

/// Reads commands and passes them on, for ever.
#[embassy_executor::task]
pub async fn commands() {
    let mut reader = Reader::default();
    loop {
        match reader.next_line().await {
            Ok(line) => {
                if !cluster::ask(&line) {
                    console::print(format_args!("too many commands wait; try again\n"));
                }
            }
            Err(TooLong) => console::print(format_args!("a command has at most {LINE_BYTES_MAX} bytes\n")),
        }
    }
}
