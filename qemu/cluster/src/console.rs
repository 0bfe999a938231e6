//! A running cluster on lines: what happens is printed, commands are read from the standard input.

use std::io::{self, BufRead, Write};
use std::sync::mpsc::{Receiver, channel};

use quorate_trace::TraceStore;

/// Prints lines and takes what is typed.
#[derive(Debug)]
pub struct Console {
    typed: Receiver<String>,
}

impl Console {
    /// Begins to read. Each line that is typed wakes those who wait at `store`.
    pub fn open(store: &TraceStore) -> Self {
        let (send, typed) = channel();
        let store = store.clone();
        // The thread ends with the process: a read from a terminal cannot be called off.
        let reader = move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
                store.wake();
            }
        };
        let _ = std::thread::Builder::new().name("keys".into()).spawn(reader);
        Self { typed }
    }

    /// Lines typed since the last call.
    pub fn typed(&self) -> Vec<String> {
        self.typed.try_iter().filter(|line| !line.trim().is_empty()).collect()
    }

    /// Prints lines.
    pub fn show<S: AsRef<str>>(&self, lines: impl IntoIterator<Item = S>) {
        let mut out = io::stdout().lock();
        // Nothing can be done if nobody reads it any more.
        let _ = lines.into_iter().try_for_each(|line| writeln!(out, "{}", line.as_ref())).and_then(|()| out.flush());
    }
}
