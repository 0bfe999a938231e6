//! `cargo cluster ask NODE "…"`: what a node of a running `cargo cluster up` says at its console.
//!
//! `up` listens at a unix socket in its run's directory, which only its user may enter and which is gone when it is. A question
//! is one line, `{"node": "2", "text": "why 1"}`, the answer another, `{"ok": true, "text": "…"}`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use quorate_trace::TraceStore;
use serde_json::{Value, json};

use crate::arguments::AskOptions;
use crate::end::End;

/// The socket's name.
const SOCKET: &str = "ask";

/// Bytes of a question at most; a node's console takes 128.
const QUESTION_MAX: u64 = 4096;

/// A console answers within five seconds or not at all; `up` may be busy with another.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A question that was asked.
#[derive(Debug)]
pub struct Question {
    /// Whom.
    pub node: String,
    /// What.
    pub text: String,
    reply: Sender<Result<String, String>>,
}

impl Question {
    /// Answers it.
    pub fn answer(&self, answer: Result<String, String>) {
        // Who asked may have gone.
        let _ = self.reply.send(answer);
    }
}

/// The listening side.
#[derive(Debug)]
pub struct Asked {
    questions: Receiver<Question>,
}

impl Asked {
    /// Listens in a run's directory. Each question wakes those who wait at `store`.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub fn listen(dir: &Path, store: &TraceStore) -> io::Result<Self> {
        let listener = UnixListener::bind(dir.join(SOCKET))?;
        let (send, questions) = channel();
        let store = store.clone();
        // The threads end with the process, or with the first question after nobody takes them any more.
        std::thread::Builder::new().name("ask".into()).spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (send, store) = (send.clone(), store.clone());
                let serve = move || {
                    // Who asks and goes away loses an answer, nothing else.
                    let _ = serve(stream, &send, &store);
                };
                if std::thread::Builder::new().name("asked".into()).spawn(serve).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { questions })
    }

    /// Questions since the last call.
    pub fn take(&self) -> Vec<Question> {
        self.questions.try_iter().collect()
    }
}

fn serve(mut stream: UnixStream, send: &Sender<Question>, store: &TraceStore) -> io::Result<()> {
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let mut line = String::new();
    BufReader::new((&stream).take(QUESTION_MAX)).read_line(&mut line)?;
    let answer = match question(&line) {
        Err(why) => Err(why),
        Ok((node, text)) => {
            let (reply, answer) = channel();
            let sent = send.send(Question { node, text, reply });
            store.wake();
            let ended = || Err("the cluster is being ended".to_owned());
            if sent.is_ok() { answer.recv().unwrap_or_else(|_| ended()) } else { ended() }
        }
    };
    let ok = answer.is_ok();
    let text = answer.unwrap_or_else(|why| why);
    writeln!(stream, "{}", json!({"ok": ok, "text": text}))
}

fn question(line: &str) -> Result<(String, String), String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("no question: {e}"))?;
    let part = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    part("node").zip(part("text")).ok_or_else(|| "no question: it has `node` and `text`".to_owned())
}

/// Runs `ask`.
pub fn ask(options: &AskOptions) -> End {
    let text = options.text.join(" ");
    if text.trim().is_empty() || text.contains(['\n', '\r']) {
        return End::CannotRun("ask one line, as `cargo cluster ask 0 \"why 2\"`".to_owned());
    }
    let mut bases = vec![std::env::temp_dir(), PathBuf::from("/tmp")];
    bases.dedup();
    let running = running(&bases);
    match choose(running, options.up) {
        Err(why) => End::CannotRun(why),
        Ok(stream) => match exchange(&stream, &options.node, &text) {
            Err(why) => End::CannotRun(why),
            Ok((false, why)) => End::CannotRun(why),
            Ok((true, answer)) => told(&answer),
        },
    }
}

/// Prints a console's answer. One that does not end with `ok` says what was wrong with the question.
fn told(answer: &str) -> End {
    let answer = answer.trim_end();
    match answer.strip_suffix("ok").filter(|rest| rest.is_empty() || rest.ends_with('\n')) {
        Some(rest) => {
            rest.lines().for_each(|line| println!("{}", line.trim_end()));
            End::Held
        }
        None => End::Failed(Some(answer.to_owned())),
    }
}

/// The clusters that run: process id and open socket.
fn running(bases: &[PathBuf]) -> Vec<(u32, UnixStream)> {
    let entries = bases.iter().filter_map(|base| std::fs::read_dir(base).ok()).flatten().filter_map(Result::ok);
    let one = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix("quorate-")?;
        let pid = name.split('-').next()?.parse().ok()?;
        // One that was left behind refuses.
        Some((pid, UnixStream::connect(path.join(SOCKET)).ok()?))
    };
    let mut found: Vec<(u32, UnixStream)> = entries.filter_map(|entry| one(entry.path())).collect();
    found.sort_by_key(|(pid, _)| *pid);
    found
}

fn choose(mut running: Vec<(u32, UnixStream)>, up: Option<u32>) -> Result<UnixStream, String> {
    let pids: Vec<String> = running.iter().map(|(pid, _)| pid.to_string()).collect();
    let pids = pids.join(", ");
    match up {
        Some(wanted) => {
            running.into_iter().find(|(pid, _)| *pid == wanted).map(|(_, stream)| stream).ok_or_else(|| {
                let others = if pids.is_empty() { "no cluster runs".to_owned() } else { format!("these do: {pids}") };
                format!("no cluster is run by process {wanted}; {others}")
            })
        }
        None => match running.len() {
            0 => Err("no cluster runs; start one with `cargo cluster up`".to_owned()),
            1 => Ok(running.remove(0).1),
            n => Err(format!("{n} clusters run; say which with --up: {pids}")),
        },
    }
}

fn exchange(stream: &UnixStream, node: &str, text: &str) -> Result<(bool, String), String> {
    let failed = |error: io::Error| format!("the cluster does not answer: {error}");
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
    let mut to = stream;
    writeln!(to, "{}", json!({"node": node, "text": text})).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(failed)?;
    let value: Value = serde_json::from_str(&line).map_err(|_| "the cluster ended before it answered".to_owned())?;
    let answer = value.get("ok").and_then(Value::as_bool).zip(value.get("text").and_then(Value::as_str));
    answer.map(|(ok, text)| (ok, text.to_owned())).ok_or_else(|| format!("no answer: {}", line.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A cluster's directory among others, and somebody who answers `questions` of them.
    fn cluster(base: &Path, pid: u32, questions: usize) -> std::thread::JoinHandle<Vec<(String, String)>> {
        let dir = base.join(format!("quorate-{pid}-0"));
        std::fs::create_dir(&dir).unwrap();
        let store = TraceStore::new();
        let asked = Asked::listen(&dir, &store).unwrap();
        std::thread::spawn(move || {
            let mut seen = Vec::new();
            while seen.len() < questions {
                store.wait_since(store.mark(), Instant::now() + Duration::from_millis(100));
                for question in asked.take() {
                    let answer = match question.text.as_str() {
                        "why 1" => Ok("node 1 is out\nok\n".to_owned()),
                        other => Err(format!("not {other}")),
                    };
                    question.answer(answer);
                    seen.push((question.node, question.text));
                }
            }
            seen
        })
    }

    #[test]
    fn a_question_reaches_the_cluster_and_its_answer_comes_back() {
        let base = tempfile::tempdir().unwrap();
        let answering = cluster(base.path(), 71, 2);
        let bases = [base.path().to_owned()];
        let stream = choose(running(&bases), None).unwrap();
        assert_eq!(exchange(&stream, "master", "why 1"), Ok((true, "node 1 is out\nok\n".to_owned())));
        let stream = choose(running(&bases), Some(71)).unwrap();
        assert_eq!(exchange(&stream, "2", "explode"), Ok((false, "not explode".to_owned())));
        let seen = answering.join().unwrap();
        assert_eq!(seen[0], ("master".to_owned(), "why 1".to_owned()));
        // It is gone now, and its socket is left behind.
        assert!(bases[0].join("quorate-71-0/ask").exists());
        let late = choose(running(&bases), None).map(|stream| exchange(&stream, "0", "why 1"));
        assert!(!matches!(late, Ok(Ok((true, _)))), "{late:?}");
    }

    #[test]
    fn what_runs_is_found_and_named() {
        let base = tempfile::tempdir().unwrap();
        let bases = [base.path().to_owned(), base.path().join("nowhere")];
        assert_eq!(
            choose(running(&bases), None).err().as_deref(),
            Some("no cluster runs; start one with `cargo cluster up`")
        );
        // A socket that somebody left behind, and directories that are nobody's.
        std::fs::create_dir(base.path().join("quorate-5-0")).unwrap();
        drop(UnixListener::bind(base.path().join("quorate-5-0/ask")).unwrap());
        std::fs::create_dir(base.path().join("quorate-x-0")).unwrap();
        assert!(running(&bases).is_empty());
        let (_a, _b) = (cluster(base.path(), 71, 0), cluster(base.path(), 72, 0));
        assert_eq!(choose(running(&bases), None).err().as_deref(), Some("2 clusters run; say which with --up: 71, 72"));
        assert_eq!(
            choose(running(&bases), Some(9)).err().as_deref(),
            Some("no cluster is run by process 9; these do: 71, 72")
        );
    }

    #[test]
    fn what_is_no_question_is_answered_too() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("quorate-71-0");
        std::fs::create_dir(&dir).unwrap();
        let asked = Asked::listen(&dir, &TraceStore::new()).unwrap();
        for bad in ["\n", "why 1\n", "{\"node\": \"0\"}\n", &format!("\"{}\n", "x".repeat(5000))] {
            let mut stream = UnixStream::connect(dir.join(SOCKET)).unwrap();
            stream.write_all(bad.as_bytes()).unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            assert!(line.starts_with("{\"ok\":false,\"text\":\"no question: "), "{line}");
        }
        assert!(asked.take().is_empty());
    }

    #[test]
    fn a_console_that_says_what_is_wrong_fails_the_command() {
        assert_eq!(told("ok\n"), End::Held);
        assert_eq!(told("node 1 is out\r\nok\r\n"), End::Held);
        let wrong = "unknown command 'whi'; try 'help'";
        assert_eq!(told(wrong), End::Failed(Some(wrong.to_owned())));
        assert_eq!(told("not ok"), End::Failed(Some("not ok".to_owned())));
    }
}
