//! Form, numbering, lives, the harness.

use crate::breaking::{Break, Case, copy, find, of, remove, set};
use crate::story::whole_life;
use quorate_check::Rule;
use serde_json::{Value, json};

/// Node 2's second life tells of another one, so many lines after its `boot`.
pub fn epitaph(lines: &mut Vec<Value>, last_inc: u32, after: usize) {
    let event = json!({"ev": "freeze", "nt_us": 5, "seq": 7, "lc": 9, "why": "x"});
    let new = json!({"ev": "epitaph", "last_inc": last_inc, "how": "watchdog", "reason": "no last word",
        "last_nt_us": 5, "events": [event]});
    copy(lines, json!({"ev": "boot", "node": 2, "inc": 2}), new, after);
}

pub fn cases() -> Vec<Case> {
    let cases: &[(&str, Rule, Break)] = &[
        ("a field is missing", Rule::Form, |l| _ = l[5].as_object_mut().unwrap().remove("lc")),
        ("a field of the wrong type", Rule::Form, |l| l[5]["seq"] = json!("3")),
        ("receipt goes back", Rule::Form, |l| l[30]["t_us"] = json!(0)),
        ("a hole in seq", Rule::Seq, |l| _ = l.remove(6)),
        ("a line twice", Rule::Seq, |l| l.insert(6, l[6].clone())),
        ("a harness line is missing", Rule::Seq, |l| {
            let at = find(l, &json!({"do": "kill"}));
            l.remove(at);
        }),
        ("boot is not first", Rule::BootFirst, |l| remove(l, json!({"ev": "boot", "node": 1, "inc": 1}))),
        ("boot in the middle", Rule::BootFirst, |l| copy(l, json!({"ev": "boot"}), json!({}), 9)),
        ("lc stands still", Rule::Lamport, |l| {
            let lc = l[find(l, &json!({"node": 1, "seq": 4}))]["lc"].clone();
            set(l, json!({"node": 1, "seq": 5}), json!({"lc": lc}));
        }),
        ("nt_us goes back", Rule::NodeClock, |l| set(l, json!({"node": 1, "seq": 9}), json!({"nt_us": 1}))),
        ("an incarnation again", Rule::IncarnationGrows, |l| {
            for line in l.iter_mut().filter(|l| l["node"] == 2 && l["inc"] == 2) {
                line["inc"] = json!(1);
            }
        }),
        ("a line after halt", Rule::AfterHalt, |l| {
            let at = find(l, &json!({"ev": "halt", "node": 2}));
            let mut late = l[at].clone();
            (late["ev"], late["what"]) = (json!("note"), json!("still here"));
            for field in ["seq", "lc"] {
                late[field] = json!(late[field].as_u64().unwrap() + 1);
            }
            l.insert(at + 1, late);
        }),
        ("an epitaph of this very life", Rule::Form, |l| epitaph(l, 2, 0)),
        ("an epitaph in mid-life", Rule::Form, |l| epitaph(l, 1, 1)),
        ("a restart without an end", Rule::Restart, |l| set(l, json!({"do": "kill"}), json!({"do": "sleep"}))),
        ("no end", Rule::EndLast, |l| _ = l.pop()),
        ("a line after end", Rule::EndLast, |l| {
            let mut more = l[l.len() - 1].clone();
            more["seq"] = json!(more["seq"].as_u64().unwrap() + 1);
            l.push(more);
        }),
        ("an expectation failed", Rule::Assert, |l| set(l, json!({"ev": "assert"}), json!({"ok": false}))),
        ("the run failed", Rule::End, |l| set(l, json!({"ev": "end"}), json!({"ok": false}))),
    ];
    of(whole_life, cases)
}
