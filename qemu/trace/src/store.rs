//! A run's lines in memory, in the order of receipt, with one clock for all of them.
//!
//! Threads that read nodes append, the scenario engine waits. A line gets its time under the same lock that orders it, so
//! `t_us` never runs backwards in the file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quorate_base::Record;
use serde_json::{Map, Value};

use crate::line::Line;

/// A place between two lines: how many came before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mark(pub usize);

/// A run's lines. Clones share them.
#[derive(Clone, Debug)]
pub struct TraceStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    kept: Mutex<Kept>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Kept {
    lines: Vec<Arc<Line>>,
    /// Per node: which of `lines` are its.
    by_node: Vec<Vec<usize>>,
    /// The harness's own count of lines.
    harness_seq: u64,
    file: Option<BufWriter<File>>,
    file_error: Option<io::Error>,
    /// Raised by [`TraceStore::wake`], so that waiters look at more than lines.
    wakes: u64,
}

impl Default for TraceStore {
    fn default() -> Self {
        Self::new()
    }
}

impl TraceStore {
    /// An empty store; the run begins now.
    pub fn new() -> Self {
        let kept = Mutex::new(Kept::default());
        Self(Arc::new(Shared { start: Instant::now(), kept, changed: Condvar::new() }))
    }

    /// From now on every line also goes to this file; those that are there already go first.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        let mut kept = self.lock();
        for line in &kept.lines {
            writeln!(file, "{}", line.to_json())?;
        }
        kept.file = Some(file);
        Ok(())
    }

    /// Hands what is buffered to the file. Reports the first error since the last call.
    ///
    /// # Errors
    /// If a line could not be written.
    pub fn flush(&self) -> io::Result<()> {
        let mut kept = self.lock();
        if let Some(error) = kept.file_error.take() {
            return Err(error);
        }
        kept.file.as_mut().map_or(Ok(()), Write::flush)
    }

    /// µs since the run began.
    pub fn now_us(&self) -> u64 {
        self.0.start.elapsed().as_micros() as u64
    }

    /// Adds a node's record.
    pub fn record(&self, node: u8, record: &Record<'_>) {
        let mut kept = self.lock();
        let line = Line::of_record(self.now_us(), node, record);
        self.append(&mut kept, line);
    }

    /// Adds a line of the harness (`step`, `assert`, `end`, `note`). `fields` must be a JSON object; anything else
    /// makes a line without fields.
    pub fn harness(&self, ev: &str, fields: Value) {
        let fields = match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        let mut kept = self.lock();
        let seq = kept.harness_seq;
        kept.harness_seq += 1;
        let line = Line::of_harness(self.now_us(), seq, ev, fields);
        self.append(&mut kept, line);
    }

    /// Adds a `note` of the harness: something that a reader of the trace may want to know and no checker judges.
    pub fn note(&self, what: &str) {
        self.harness("note", serde_json::json!({ "what": what }));
    }

    /// Where the next line will stand.
    pub fn mark(&self) -> Mark {
        Mark(self.lock().lines.len())
    }

    /// All lines from `mark` on.
    pub fn since(&self, mark: Mark) -> Vec<Arc<Line>> {
        self.lock().lines.get(mark.0..).unwrap_or_default().to_vec()
    }

    /// The first line from `mark` on that `wanted` takes.
    pub fn find(&self, mark: Mark, wanted: impl Fn(&Line) -> bool) -> Option<Arc<Line>> {
        self.lock().lines.get(mark.0..).unwrap_or_default().iter().find(|l| wanted(l)).cloned()
    }

    /// The newest line of `node` that `wanted` takes.
    pub fn last_of(&self, node: u8, wanted: impl Fn(&Line) -> bool) -> Option<Arc<Line>> {
        let kept = self.lock();
        let places = kept.by_node.get(usize::from(node))?;
        places.iter().rev().filter_map(|p| kept.lines.get(*p)).find(|l| wanted(l)).cloned()
    }

    /// All lines of `node`.
    pub fn of_node(&self, node: u8) -> Vec<Arc<Line>> {
        let kept = self.lock();
        let places = kept.by_node.get(usize::from(node)).map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(|p| kept.lines.get(*p).cloned()).collect()
    }

    /// Waits until there are lines from `mark` on, somebody calls [`TraceStore::wake`], or `deadline` has come. Returns
    /// the lines from `mark` on: none after a wake or at the deadline.
    pub fn wait_since(&self, mark: Mark, deadline: Instant) -> Vec<Arc<Line>> {
        let mut kept = self.lock();
        let wakes = kept.wakes;
        loop {
            let new = kept.lines.get(mark.0..).unwrap_or_default();
            let left = deadline.saturating_duration_since(Instant::now());
            if !new.is_empty() || kept.wakes != wakes || left == Duration::ZERO {
                return new.to_vec();
            }
            kept = self.0.changed.wait_timeout(kept, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a line from `mark` on that `wanted` takes, at most until `deadline`.
    pub fn wait_for(&self, mark: Mark, deadline: Instant, mut wanted: impl FnMut(&Line) -> bool) -> Option<Arc<Line>> {
        let mut at = mark;
        loop {
            let new = self.wait_since(at, deadline);
            at.0 += new.len();
            if let Some(line) = new.iter().find(|l| wanted(l)) {
                return Some(line.clone());
            }
            if new.is_empty() && Instant::now() >= deadline {
                return None;
            }
        }
    }

    /// Makes everybody who waits look up: a process ended, the user pressed Ctrl-C.
    pub fn wake(&self) {
        self.lock().wakes += 1;
        self.0.changed.notify_all();
    }

    fn append(&self, kept: &mut Kept, line: Line) {
        if let Some(file) = kept.file.as_mut()
            && let Err(error) = writeln!(file, "{}", line.to_json())
        {
            kept.file_error.get_or_insert(error);
        }
        if let Some(node) = line.node {
            let node = usize::from(node);
            if kept.by_node.len() <= node {
                kept.by_node.resize_with(node + 1, Vec::new);
            }
            kept.by_node[node].push(kept.lines.len());
        }
        kept.lines.push(Arc::new(line));
        self.0.changed.notify_all();
    }

    // A panic while the lock is held can only come from `wanted`, which changes nothing here.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_base::{Event, Incarnation, Instant as NodeInstant};
    use serde_json::json;

    fn record(seq: u64, what: &str) -> Record<'_> {
        let event = Event::Note { what };
        Record { incarnation: Some(Incarnation(1)), at: NodeInstant(1), seq, lamport: 1, event }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn lines_keep_the_order_of_receipt_and_time_never_runs_back() {
        let store = TraceStore::new();
        std::thread::scope(|s| {
            for node in 0..4 {
                let store = store.clone();
                s.spawn(move || (0..200).for_each(|seq| store.record(node, &record(seq, "x"))));
            }
        });
        store.harness("end", json!({"ok": true}));
        let lines = store.since(Mark(0));
        assert_eq!(lines.len(), 801);
        assert!(lines.is_sorted_by_key(|l| l.t_us));
        for node in 0..4 {
            let seqs: Vec<u64> = store.of_node(node).iter().map(|l| l.seq).collect();
            assert_eq!(seqs, (0..200).collect::<Vec<_>>());
        }
        assert_eq!(store.last_of(2, |_| true).map(|l| l.seq), Some(199));
        assert_eq!(store.last_of(9, |_| true), None);
    }

    #[test]
    fn harness_lines_count_for_themselves() {
        let store = TraceStore::new();
        store.harness("step", json!({"index": 0}));
        store.record(0, &record(0, "x"));
        store.note("n");
        let seqs: Vec<_> = store.since(Mark(0)).iter().map(|l| (l.node, l.seq)).collect();
        assert_eq!(seqs, [(None, 0), (Some(0), 0), (None, 1)]);
    }

    #[test]
    fn who_waits_is_woken_by_a_line_a_wake_or_the_deadline() {
        let store = TraceStore::new();
        let mark = store.mark();
        let other = store.clone();
        let writer = std::thread::spawn(move || {
            other.record(0, &record(0, "a"));
            other.record(1, &record(0, "b"));
        });
        let found = store.wait_for(mark, soon(), |l| l.node == Some(1)).expect("it comes");
        assert_eq!(found.text("what"), Some("b"));
        writer.join().expect("writer");
        assert_eq!(store.wait_for(mark, Instant::now(), |l| l.node == Some(2)), None);
        assert!(store.wait_since(store.mark(), Instant::now()).is_empty());
        let other = store.clone();
        let end = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = end.clone();
        let waker = std::thread::spawn(move || {
            while !flag.load(std::sync::atomic::Ordering::Acquire) {
                other.wake();
                std::thread::yield_now();
            }
        });
        assert!(store.wait_since(store.mark(), soon()).is_empty());
        end.store(true, std::sync::atomic::Ordering::Release);
        waker.join().expect("waker");
    }

    #[test]
    fn the_file_has_every_line_also_those_from_before() {
        let path = std::env::temp_dir().join(format!("quorate-trace-{}.jsonl", std::process::id()));
        let store = TraceStore::new();
        store.record(0, &record(0, "before"));
        store.write_to(&path).expect("file");
        store.record(0, &record(1, "after"));
        store.flush().expect("file");
        let text = std::fs::read_to_string(&path).expect("file");
        std::fs::remove_file(&path).expect("file");
        let lines: Vec<Line> = text.lines().map(|l| Line::parse(l).expect("a line")).collect();
        assert_eq!(lines, store.since(Mark(0)).iter().map(|l| (**l).clone()).collect::<Vec<_>>());
    }
}
