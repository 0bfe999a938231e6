//! The timeline as Chrome trace events, which Perfetto's and Chrome's own viewers open: a process for each node, a thread for
//! each of its levels.
//!
//! Slices of one thread must nest, so steps that overlap stand in threads beside each other. Format: "Trace Event Format"
//! (Chromium), JSON object form.

use std::collections::BTreeMap;

use quorate_trace::Line;
use serde_json::{Value, json};

use crate::read::Trace;
use crate::round::StepEnd;
use crate::timeline::Timeline;
use crate::transition::about;

/// The harness's process; nodes' are their ids plus one.
const HARNESS: u64 = 1000;
/// A node's own threads.
const STATE: u64 = 1;
const MASTER: u64 = 2;
const EVENTS: u64 = 3;
/// The first thread of a level's, and how many each level may have.
const LEVELS: u64 = 16;
const SLOTS: u64 = 8;

fn pid(node: Option<u8>) -> u64 {
    node.map_or(HARNESS, |n| u64::from(n) + 1)
}

fn tid(level: u16, slot: u8) -> u64 {
    LEVELS + u64::from(level) * SLOTS + u64::from(slot)
}

/// The trace as one JSON object.
pub fn perfetto(trace: &Trace, timeline: &Timeline) -> String {
    let mut events = Vec::new();
    names(timeline, &mut events);
    slices(timeline, &mut events);
    steps(timeline, &mut events);
    arrows(trace, timeline, &mut events);
    events.extend(trace.lines.iter().filter_map(instant));
    json!({ "traceEvents": events, "displayTimeUnit": "ms" }).to_string()
}

fn names(timeline: &Timeline, out: &mut Vec<Value>) {
    let process =
        |pid: u64, name: String| json!({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}});
    let order = |pid: u64, index: u64| json!({"ph": "M", "name": "process_sort_index", "pid": pid, "args": {"sort_index": index}});
    let thread = |pid: u64, tid: u64, name: String| json!({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}});
    out.push(process(HARNESS, "harness".to_owned()));
    out.push(order(HARNESS, 0));
    out.push(thread(HARNESS, EVENTS, "steps and expectations".to_owned()));
    for node in &timeline.nodes {
        let pid = pid(Some(*node));
        out.push(process(pid, format!("node {node}")));
        out.push(order(pid, pid));
        for (tid, name) in [(STATE, "state"), (MASTER, "master"), (EVENTS, "events")] {
            out.push(thread(pid, tid, name.to_owned()));
        }
        for level in timeline.levels_of.get(node).into_iter().flatten() {
            let name = timeline.levels.iter().find(|l| l.order == *level).map_or("", |l| &l.name);
            let of = |s: &&crate::Step| (s.node, s.level) == (*node, *level);
            let slots = timeline.steps.iter().filter(of).map(|s| s.slot).max().unwrap_or(0);
            for slot in 0..=slots {
                let beside = if slot == 0 { String::new() } else { format!(" ({})", slot + 1) };
                out.push(thread(pid, tid(*level, slot), format!("{level} {name}{beside}")));
            }
        }
    }
}

fn slice(name: String, category: &str, pid: u64, tid: u64, from_us: u64, to_us: u64, args: Value) -> Value {
    let dur = to_us.saturating_sub(from_us).max(1);
    json!({"ph": "X", "name": name, "cat": category, "pid": pid, "tid": tid, "ts": from_us, "dur": dur, "args": args})
}

fn slices(timeline: &Timeline, out: &mut Vec<Value>) {
    for stay in timeline.stays.iter().filter(|s| s.level.is_none()) {
        let args = json!({"incarnation": stay.inc});
        out.push(slice(stay.is.clone(), "state", pid(Some(stay.subject)), STATE, stay.from_us, stay.to_us, args));
    }
    for term in &timeline.terms {
        let args = json!({"ballot": term.ballot, "end": term.end});
        let name = format!("master, ballot {}", term.ballot);
        out.push(slice(name, "master", pid(Some(term.node)), MASTER, term.from_us, term.to_us, args));
    }
    // Transitions and rounds overlap as they like: each is a track of its own, by its id.
    let nested = |ph: &str, name: &str, category: &str, id: String, pid: u64, ts: u64, args: Value| json!({"ph": ph, "name": name, "cat": category, "id": id, "pid": pid, "tid": STATE, "ts": ts, "args": args});
    for (i, t) in timeline.transitions.iter().enumerate() {
        let (name, id, pid) = (format!("node {} {}", t.subject, t.kind), format!("t{i}"), pid(Some(t.subject)));
        let args = json!({"incarnation": t.inc, "end": t.end, "cause": t.cause.as_ref().map(|c| &c.0)});
        out.push(nested("b", &name, "transition", id.clone(), pid, t.from_us, args));
        out.push(nested("e", &name, "transition", id, pid, t.to_us, json!({})));
    }
    for (i, r) in timeline.rounds.iter().enumerate() {
        let Some((_, master)) = r.issued.first() else { continue };
        let (name, id) = (format!("round {} at {}: {}", r.name, r.level, about(r)), format!("r{i}"));
        let args = json!({"participants": r.participants, "end": r.end});
        out.push(nested("b", &name, "round", id.clone(), pid(Some(*master)), r.from_us, args));
        out.push(nested("e", &name, "round", id, pid(Some(*master)), r.to_us, json!({})));
    }
}

fn steps(timeline: &Timeline, out: &mut Vec<Value>) {
    for s in &timeline.steps {
        let name = format!("{} {}, barrier {}", s.subject, s.transition, s.barrier);
        let args = json!({"round": s.round, "subject_incarnation": s.subject_inc, "end": s.end});
        out.push(slice(name, "step", pid(Some(s.node)), tid(s.level, s.slot), s.from_us, s.to_us, args));
    }
}

/// From each notification to its acknowledgement, and what passed between nodes.
fn arrows(trace: &Trace, timeline: &Timeline, out: &mut Vec<Value>) {
    let mut next = 0u64;
    let mut arrow = |name: &str, from: (u64, u64, u64), to: (u64, u64, u64)| {
        next += 1;
        out.push(
            json!({"ph": "s", "name": name, "cat": "cause", "id": next, "pid": from.0, "tid": from.1, "ts": from.2}),
        );
        let (pid, tid, ts) = to;
        out.push(
            json!({"ph": "f", "bp": "e", "name": name, "cat": "cause", "id": next, "pid": pid, "tid": tid, "ts": ts}),
        );
    };
    let tids: BTreeMap<usize, u64> = timeline
        .steps
        .iter()
        .flat_map(|s| std::iter::once(s.notify).chain(s.ack).map(|at| (at, tid(s.level, s.slot))))
        .collect();
    let place = |at: usize| {
        let line = trace.lines.get(at)?;
        Some((pid(line.node), tids.get(&at).copied().unwrap_or(EVENTS), line.t_us))
    };
    for s in timeline.steps.iter().filter(|s| s.end == StepEnd::Acked) {
        let (pid, tid) = (pid(Some(s.node)), tid(s.level, s.slot));
        arrow("acknowledged", (pid, tid, s.from_us), (pid, tid, s.to_us));
    }
    for (from, to) in &timeline.arrows {
        if let (Some(from), Some(to)) = (place(*from), place(*to)) {
            arrow("message", from, to);
        }
    }
}

/// What has no duration, with all its fields.
fn instant(line: &Line) -> Option<Value> {
    if matches!(line.ev.as_str(), "notify" | "ack") {
        return None;
    }
    let detail = ["do", "phase", "peer", "is", "what"].iter().find_map(|f| line.fields.get(*f));
    let name = match detail {
        Some(Value::String(text)) => format!("{} {text}", line.ev),
        Some(value) => format!("{} {value}", line.ev),
        None => line.ev.clone(),
    };
    let mut args = line.fields.clone();
    args.insert("lc".to_owned(), json!(line.lc));
    args.insert("incarnation".to_owned(), json!(line.inc));
    // An arrow can only end at a slice.
    if matches!(line.ev.as_str(), "round" | "state") {
        return Some(slice(name, &line.ev, pid(line.node), EVENTS, line.t_us, line.t_us, Value::Object(args)));
    }
    Some(json!({"ph": "i", "s": "t", "name": name, "cat": line.ev, "pid": pid(line.node), "tid": EVENTS,
        "ts": line.t_us, "args": args}))
}
