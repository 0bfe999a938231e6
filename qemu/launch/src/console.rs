//! A node's console: what it said, and commands typed at it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The last line of an answer to a command that was done. An answer to one that was not is a single line.
const DONE: &str = "ok";

/// An answer without that line is over when the node has said nothing for this long after a whole line.
const QUIET: Duration = Duration::from_millis(300);

/// Bytes that are kept. More than a run's worth; a guest that talks without end must not fill the memory.
const KEPT_MAX: usize = 1 << 20;

/// One console.
#[derive(Debug, Default)]
pub struct Console {
    state: Mutex<State>,
    changed: Condvar,
    /// One command at a time.
    asking: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    said: Vec<u8>,
    /// Bytes that were dropped from the front of `said`.
    dropped: usize,
    writer: Option<UnixStream>,
    closed: bool,
}

impl Console {
    /// Runs the connection until QEMU closes it. To be called by the reading thread. `copy` gets all bytes.
    pub fn serve(&self, mut stream: UnixStream, mut copy: impl FnMut(&[u8])) {
        self.lock().writer = stream.try_clone().ok();
        self.changed.notify_all();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            let bytes = buffer.get(..length).unwrap_or_default();
            copy(bytes);
            self.take(bytes);
        }
        self.close();
    }

    /// QEMU is gone, or never came.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.writer = None;
        self.changed.notify_all();
    }

    /// Everything that is kept of what the node said.
    pub fn text(&self) -> String {
        text(&self.lock().said)
    }

    /// Types a line and returns the reply.
    ///
    /// # Errors
    /// If no whole line of reply comes in time; what came so far.
    pub fn command(&self, line: &str, timeout: Duration) -> Result<String, String> {
        let _one_at_a_time = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        while state.writer.is_none() {
            if state.closed || Instant::now() >= deadline {
                return Err(String::new());
            }
            state = self.wait(state, deadline);
        }
        let from = state.dropped + state.said.len();
        let written = state.writer.as_mut().map(|w| w.write_all(format!("{line}\n").as_bytes()));
        if !matches!(written, Some(Ok(()))) {
            return Err(String::new());
        }
        let mut quiet_since = Instant::now();
        let mut length = 0;
        loop {
            let reply = state.said.get(from.saturating_sub(state.dropped)..).unwrap_or_default();
            if reply.len() != length {
                length = reply.len();
                quiet_since = Instant::now();
            }
            let reply = without_echo(&text(reply), line);
            let whole = reply.ends_with('\n');
            let done = whole && reply.lines().next_back() == Some(DONE);
            if done || whole && (state.closed || quiet_since.elapsed() >= QUIET) {
                return Ok(reply.trim_end().to_owned());
            }
            if state.closed || Instant::now() >= deadline {
                return Err(reply);
            }
            let until = if whole { (quiet_since + QUIET).min(deadline) } else { deadline };
            state = self.wait(state, until);
        }
    }

    fn take(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.said.extend_from_slice(bytes);
        if state.said.len() > KEPT_MAX {
            let surplus = state.said.len() - KEPT_MAX / 2;
            state.said.drain(..surplus);
            state.dropped += surplus;
        }
        self.changed.notify_all();
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>, until: Instant) -> MutexGuard<'s, State> {
        let left = until.saturating_duration_since(Instant::now());
        self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\r', "")
}

/// A console may or may not echo what is typed.
fn without_echo(reply: &str, line: &str) -> String {
    match reply.split_once('\n') {
        Some((first, rest)) if first.trim_end().ends_with(line) => rest.to_owned(),
        _ => reply.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::sync::Arc;

    fn rig(node: impl FnOnce(&mut dyn BufRead, &mut dyn Write) + Send + 'static) -> Arc<Console> {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let console = Arc::new(Console::default());
        let reader = console.clone();
        std::thread::spawn(move || reader.serve(ours, |_| ()));
        std::thread::spawn(move || node(&mut BufReader::new(theirs.try_clone().expect("socket")), &mut &theirs));
        console
    }

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn a_reply_is_all_lines_up_to_ok_or_until_the_node_is_quiet_without_the_echo() {
        let console = rig(|input, output| {
            let mut line = String::new();
            while input.read_line(&mut line).is_ok_and(|n| n > 0) {
                output.write_all(format!("> {line}node 0 joined\r\nnode 1 ").as_bytes()).expect("write");
                output.write_all(b"inactive\r\n").expect("write");
                line.clear();
            }
        });
        assert_eq!(console.command("status", SOON), Ok("node 0 joined\nnode 1 inactive".into()));
        let begin = Instant::now();
        let console = rig(|input, output| {
            let _ = input.read_line(&mut String::new());
            output.write_all(b"node 0 joined\nok\nunasked\n").expect("write");
            let _ = input.read_line(&mut String::new());
            output.write_all(b"later\r\nok\r\n").expect("write");
            let _ = input.read_line(&mut String::new());
        });
        let first = console.command("status", SOON).expect("a reply");
        assert!(first.starts_with("node 0 joined\nok"));
        assert_eq!(console.command("status", SOON), Ok("later\nok".into()));
        assert!(begin.elapsed() < SOON);
    }

    #[test]
    fn a_node_that_goes_while_it_answers_has_answered() {
        let console = rig(|input, output| {
            let _ = input.read_line(&mut String::new());
            output.write_all(b"leaving\n").expect("write");
        });
        assert_eq!(console.command("leave", SOON), Ok("leaving".into()));
        assert_eq!(console.command("status", SOON), Err(String::new()));
    }

    #[test]
    fn a_node_that_says_nothing_is_an_error() {
        let console = rig(|input, _| {
            let _ = input.read_line(&mut String::new());
            let _ = input.read_line(&mut String::new());
        });
        assert_eq!(console.command("status", Duration::from_millis(20)), Err(String::new()));
    }
}
