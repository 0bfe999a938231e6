//! Levels of user space that come and go; levels that do not acknowledge.

use crate::breaking::{Break, Case, copy, exact, find, of, remove, set};
use crate::story::{overdue, renumber, run_time_level};
use quorate_check::Rule;
use serde_json::{Value, json};

fn app(ev: &str, node: u8) -> Value {
    json!({"ev": ev, "node": node, "level": 120})
}

/// Node 0 goes on for nine seconds.
fn much_later(l: &mut Vec<Value>) {
    let at = l.iter().rposition(|l| l["node"] == 0).unwrap();
    let mut note = l[at].clone();
    (note["ev"], note["what"]) = (json!("note"), json!("still here"));
    note["lc"] = json!(note["lc"].as_u64().unwrap() + 1);
    (note["t_us"], note["nt_us"]) = (json!(9_000_000), json!(9_000_000));
    l.insert(l.len() - 2, note);
    let count = l.len();
    for line in &mut l[count - 2..] {
        line["t_us"] = json!(9_000_001);
    }
    renumber(l);
}

pub fn cases() -> Vec<Case> {
    let run_time: &[(&str, Rule, Break)] = &[
        ("a second master without any suspicion", Rule::TwoMasters, |l| {
            copy(l, json!({"ev": "view", "node": 1}), json!({"ev": "lock", "phase": "acquired", "ballot": 129}), 4);
        }),
        ("the lock is lost without any suspicion", Rule::TwoMasters, |l| {
            copy(l, json!({"ev": "view", "node": 0}), json!({"ev": "lock", "phase": "lost", "ballot": 64}), 4);
        }),
        ("a kernel level comes at run time", Rule::RunTimeLevel, |l| {
            for line in l.iter_mut().filter(|l| l["level"] == 120) {
                line["level"] = json!(90);
            }
        }),
        ("it is still there at the halt", Rule::RunTimeLevel, |l| {
            let last = l.iter().rposition(|l| l["ev"] == "deregister").unwrap();
            l.remove(last);
            renumber(l);
        }),
        ("below a static level", Rule::RunTimeLevel, |l| {
            let more = json!({"level": 130, "name": "static"});
            copy(l, json!({"ev": "register", "node": 0, "level": 20}), more, 0);
        }),
        ("its join takes part in no round", Rule::AckWithoutNotify, |l| remove(l, app("notify", 0))),
        ("registered twice", Rule::NotRegistered, |l| copy(l, app("register", 1), json!({}), 1)),
        ("de-registered twice", Rule::NotRegistered, |l| copy(l, app("deregister", 1), json!({}), 0)),
        ("told after it went", Rule::NotRegistered, |l| {
            let notify = find(l, &app("notify", 1));
            let line = l[notify].clone();
            let fields = ["ev", "name", "round", "subject", "subject_inc", "transition", "barrier"];
            let fields: serde_json::Map<_, _> = fields.iter().map(|f| (f.to_string(), line[f].clone())).collect();
            copy(l, app("deregister", 1), Value::Object(fields), 0);
        }),
        ("the others do not hear that its process died", Rule::TableOne, |l| {
            l.retain(|l| l["transition"] != "forced-leaving");
            l.retain(|l| l["ev"] != "round" || l["transitions"][0]["transition"] != "forced-leaving");
            renumber(l);
        }),
        ("its node leaves and its level does not", Rule::LostTransition, |l| {
            let view = l.iter().position(|l| l["ev"] == "view" && l["view"] == 3).unwrap();
            let mut at = 0;
            l.retain(|l| {
                at += 1;
                at <= view || l["level"] != 120 || l["ev"] == "deregister"
            });
            // Taken back only after the view, so it was there.
            renumber(l);
        }),
        ("a participant is left out", Rule::Participants, |l| {
            let leave = l.iter().position(|l| {
                l["ev"] == "round" && l["level"] == 120 && l["transitions"][0]["transition"] == "leaving"
            });
            l[leave.unwrap()]["participants"] = json!([1]);
        }),
        ("a local join of a node that has not joined", Rule::NotCommitted, |l| {
            for line in l.iter_mut().filter(|l| l["ev"] == "view" && l["view"] == 2) {
                line["states"]["0"] = json!("joining");
            }
        }),
    ];
    let stalls: &[(&str, Rule, Break)] = &[
        ("reported too soon", Rule::Waiting, |l| set(l, json!({"ev": "waiting"}), json!({"waited_ms": 999}))),
        ("waited less than before", Rule::Waiting, |l| {
            set(l, json!({"ev": "waiting", "waited_ms": 2000}), json!({"waited_ms": 1000}));
        }),
        ("for nobody", Rule::Waiting, |l| set(l, json!({"ev": "waiting"}), json!({"awaiting": []}))),
        ("for one that does not take part", Rule::Waiting, |l| {
            set(l, json!({"ev": "waiting"}), json!({"awaiting": [1, 2]}));
        }),
        ("for itself, though it acknowledged", Rule::Waiting, |l| {
            set(l, json!({"ev": "waiting"}), json!({"awaiting": [0, 1]}));
        }),
        ("at a barrier that it has gone beyond", Rule::Waiting, |l| {
            copy(l, json!({"ev": "notify", "node": 1, "barrier": 0}), json!({"barrier": 1}), 1);
        }),
        ("for what is no step", Rule::Waiting, |l| set(l, json!({"ev": "waiting"}), json!({"round": "64.99"}))),
        ("by another", Rule::NotMaster, |l| {
            let line = l[find(l, &json!({"ev": "waiting"}))].clone();
            let fields = [
                "ev",
                "level",
                "name",
                "round",
                "subject",
                "subject_inc",
                "transition",
                "barrier",
                "awaiting",
                "waited_ms",
            ];
            let fields: serde_json::Map<_, _> = fields.iter().map(|f| (f.to_string(), line[f].clone())).collect();
            copy(l, json!({"ev": "notify", "node": 1}), Value::Object(fields), 0);
        }),
    ];
    let late: &[(&str, Rule, Break)] = &[
        ("what is overdue is not put out", Rule::Overdue, |l| {
            let at = find(l, &json!({"ev": "overdue"}));
            l.drain(at + 1..l.len() - 2);
            much_later(l);
        }),
        ("a master that is overdue itself goes on", Rule::Overdue, |l| {
            remove(l, json!({"ev": "ack", "node": 0, "subject": 1, "transition": "joining"}));
            for line in l.iter_mut().filter(|l| l["ev"] == "waiting" || l["ev"] == "overdue") {
                line["awaiting"] = json!([0]);
            }
            much_later(l);
        }),
    ];
    [of(run_time_level, run_time), of(overdue, stalls), exact(overdue, late)].into_iter().flatten().collect()
}
