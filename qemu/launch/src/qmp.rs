//! A QMP client: QEMU's monitor, one JSON object a line.
//!
//! QEMU connects to the harness's socket, greets, and answers commands by their id; events come in between. One thread
//! reads; any thread may ask.
//!
//! Source: QEMU's QMP specification (docs/interop/qmp-spec).

use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How a QMP command failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QmpError {
    /// QEMU refused it and said why.
    Refused(String),
    /// QEMU did not answer in time.
    TimedOut,
    /// QEMU is gone.
    Closed,
}

impl fmt::Display for QmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::TimedOut => f.write_str("no answer"),
            Self::Closed => f.write_str("QEMU is gone"),
        }
    }
}

impl std::error::Error for QmpError {}

/// One QEMU's monitor.
#[derive(Debug, Default)]
pub struct Qmp {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Set once QEMU has accepted the capabilities.
    writer: Option<UnixStream>,
    closed: bool,
    next_id: u64,
    replies: HashMap<u64, Result<Value, String>>,
    /// Ids whose askers gave up: their late answers are dropped.
    given_up: Vec<u64>,
    events: Vec<Value>,
}

/// The id of the greeting's answer; commands count from 1.
const GREETING_ID: u64 = 0;

/// Events that are kept at most; a guest that resets in a loop must not fill the memory.
const EVENTS_MAX: usize = 1000;

impl Qmp {
    /// Runs the connection until QEMU closes it. To be called by the reading thread.
    pub fn serve(&self, stream: UnixStream) {
        if let Ok(writer) = stream.try_clone() {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { break };
                // QEMU speaks JSON; a line that is none (it cannot be) is passed over.
                let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
                self.take(&message, &writer);
            }
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

    /// Runs a command and waits for its answer.
    ///
    /// # Errors
    /// If QEMU refuses, does not answer in time, or is gone.
    pub fn execute(&self, command: &str, arguments: Value, timeout: Duration) -> Result<Value, QmpError> {
        let deadline = Instant::now() + timeout;
        let mut state = self.wait(deadline, |s| s.writer.is_some())?;
        state.next_id += 1;
        let id = state.next_id;
        let message = json!({"execute": command, "arguments": arguments, "id": id});
        let writer = state.writer.as_mut().ok_or(QmpError::Closed)?;
        writer.write_all(format!("{message}\n").as_bytes()).map_err(|_| QmpError::Closed)?;
        drop(state);
        match self.wait(deadline, |s| s.replies.contains_key(&id)) {
            Ok(mut state) => state.replies.remove(&id).unwrap_or(Ok(Value::Null)).map_err(QmpError::Refused),
            Err(error) => {
                self.lock().given_up.push(id);
                Err(error)
            }
        }
    }

    /// Runs a command of the human monitor and returns what it prints.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn human(&self, command: &str, timeout: Duration) -> Result<String, QmpError> {
        let reply = self.execute("human-monitor-command", json!({"command-line": command}), timeout)?;
        Ok(reply.as_str().unwrap_or_default().to_owned())
    }

    /// Whether an event of that name has come.
    pub fn saw(&self, event: &str) -> bool {
        self.lock().events.iter().any(|e| e["event"] == event)
    }

    fn take(&self, message: &Value, writer: &UnixStream) {
        let mut state = self.lock();
        if message.get("QMP").is_some() {
            let hello = json!({"execute": "qmp_capabilities", "id": GREETING_ID});
            // If it cannot be written, QEMU is gone and the reading thread will see that.
            let _ = (&mut &*writer).write_all(format!("{hello}\n").as_bytes());
        } else if message.get("event").is_some() {
            if state.events.len() < EVENTS_MAX {
                state.events.push(message.clone());
            }
        } else if let Some(id) = message.get("id").and_then(Value::as_u64) {
            if id == GREETING_ID {
                state.writer = writer.try_clone().ok();
            } else if let Some(at) = state.given_up.iter().position(|g| *g == id) {
                state.given_up.swap_remove(at);
            } else {
                state.replies.insert(id, outcome(message));
            }
        }
        self.changed.notify_all();
    }

    fn wait(&self, deadline: Instant, ready: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>, QmpError> {
        let mut state = self.lock();
        loop {
            if ready(&state) {
                return Ok(state);
            }
            if state.closed {
                return Err(QmpError::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Err(QmpError::TimedOut);
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn outcome(message: &Value) -> Result<Value, String> {
    match (message.get("return"), message.get("error")) {
        (Some(value), _) => Ok(value.clone()),
        (None, Some(error)) => Err(error["desc"].as_str().unwrap_or("refused without a reason").to_owned()),
        (None, None) => Err("an answer without content".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const SOON: Duration = Duration::from_secs(10);

    /// A QEMU that answers each command with its script's next line (`ID` stands for the command's id).
    fn rig(script: &'static [&'static str]) -> (Arc<Qmp>, Vec<std::thread::JoinHandle<()>>) {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let qmp = Arc::new(Qmp::default());
        let reader = qmp.clone();
        let serve = std::thread::spawn(move || reader.serve(ours));
        let qemu = std::thread::spawn(move || {
            let mut out = theirs.try_clone().expect("socket");
            let mut lines = BufReader::new(theirs).lines();
            writeln!(out, r#"{{"QMP": {{"version": {{}}, "capabilities": []}}}}"#).expect("write");
            let hello: Value = serde_json::from_str(&lines.next().expect("hello").expect("line")).expect("JSON");
            assert_eq!(hello["execute"], "qmp_capabilities");
            writeln!(out, r#"{{"return": {{}}, "id": 0}}"#).expect("write");
            for answer in script {
                let ask: Value = serde_json::from_str(&lines.next().expect("command").expect("line")).expect("JSON");
                writeln!(out, "{}", answer.replace("ID", &ask["id"].to_string())).expect("write");
            }
        });
        (qmp, vec![serve, qemu])
    }

    #[test]
    fn answers_are_matched_and_events_kept() {
        let (qmp, threads) = rig(&[
            "{\"event\": \"STOP\", \"data\": {}}\n{\"return\": {\"a\": 1}, \"id\": ID}",
            "not JSON\n{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such\"}, \"id\": ID}",
        ]);
        assert_eq!(qmp.execute("stop", json!({}), SOON), Ok(json!({"a": 1})));
        assert!(qmp.saw("STOP") && !qmp.saw("RESET"));
        assert_eq!(qmp.execute("device_del", json!({"id": "x"}), SOON), Err(QmpError::Refused("no such".into())));
        assert_eq!(qmp.execute("cont", json!({}), SOON), Err(QmpError::Closed));
        threads.into_iter().for_each(|t| t.join().expect("thread"));
    }

    #[test]
    fn a_qemu_that_never_greets_is_a_time_out_and_one_that_never_came_is_closed() {
        let qmp = Qmp::default();
        assert_eq!(qmp.execute("stop", json!({}), Duration::ZERO), Err(QmpError::TimedOut));
        qmp.close();
        assert_eq!(qmp.execute("stop", json!({}), SOON), Err(QmpError::Closed));
    }
}
