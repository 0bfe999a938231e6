//! Group services of two nodes, as a trace.

use super::Story;
use serde_json::{Value, json};

impl Story {
    fn delivered(&mut self, nodes: &[usize], fields: &Value) {
        for node in nodes.iter().copied() {
            self.tell(node, fields.clone());
        }
    }
}

/// Two nodes: members come and go, messages, numbered ones, an ACK round, a merge of two subgroups, a domain; node 1 joined when the first message was
/// delivered already.
pub fn group_services() -> Story {
    let mut s = Story::new(&[(20, "dlm", [1, 1, 1])]);
    s.start(&[0, 1]);
    s.acquire(0, 64);
    s.join_at(&[20], &[0, 1], &[0, 1]);
    let message = |order: u64, index: u64, from: usize, text: &str| {
        json!({"ev": "group_message", "group": "g", "order": order, "index": index, "from": from, "job": "j", "to": null,
            "bytes": text.len(), "text": text})
    };
    let merge = |order: u64, phase: &str, from: Value, number: u64| {
        json!({"ev": "merge", "group": "g", "order": order, "index": 0, "merge": 12, "phase": phase, "from": from,
            "number": number, "gone": 0})
    };
    s.delivered(&[0], &message(8, 0, 0, "before node 1 came"));
    s.delivered(&[0, 1], &json!({"ev": "group_epoch", "order": 9, "epoch": "70.0", "nodes": [0, 1]}));
    for index in 0..2 {
        s.delivered(&[0, 1], &message(10, index, 0, "one of two in a frame"));
    }
    let change = json!({"ev": "group_change", "group": "g", "order": 11, "index": 0, "member": 1, "job": "k",
        "change": "fault"});
    let round = json!({"ev": "ack_round", "group": "g", "order": 11, "index": 0, "protocol": 7, "phase": "through",
        "round": 0, "members": 1});
    for event in [change, round] {
        s.delivered(&[0, 1], &event);
    }
    s.delivered(&[0, 1], &merge(12, "begins", Value::Null, 2));
    s.delivered(&[0, 1], &merge(13, "data", json!(0), 1));
    s.delivered(&[0, 1], &merge(14, "data", json!(1), 2));
    s.delivered(&[0, 1], &merge(15, "done", Value::Null, 2));
    // A copy is each node's own.
    let copy = json!({"ev": "domain", "group": "d", "order": 3, "index": 0, "phase": "copy", "op": "", "by": 1, "why": "",
        "version": 1, "nodes": [1]});
    s.delivered(&[1], &copy);
    s.delivered(&[0, 1], &message(16, 0, 1, "last"));
    // Another of the same name: its numbers begin anew.
    let member = |order: u64, change: &str| json!({"ev": "group_change", "group": "g", "order": order, "index": 0, "member": 0, "job": "row", "change": change});
    let numbered = |order: u64, number: u64| {
        json!({"ev": "group_message", "group": "g", "order": order, "index": 0, "from": 0, "job": "row", "to": null,
            "bytes": 64, "text": format!("#{number} and more")})
    };
    s.delivered(&[0, 1], &member(17, "joined"));
    for (order, number) in [(18, 1), (19, 2)] {
        s.delivered(&[0, 1], &numbered(order, number));
    }
    s.delivered(&[0, 1], &numbered(19, 3));
    s.delivered(&[0, 1], &member(20, "unregistered"));
    let ask = |order: u64, phase: &str| {
        json!({"ev": "domain", "group": "d", "order": order, "index": 0, "phase": phase, "op": "add", "by": 1, "why": "",
            "version": 0, "nodes": []})
    };
    s.delivered(&[0, 1], &ask(21, "asked"));
    let protocol = |order: u64, phase: &str| {
        json!({"ev": "ack_round", "group": "g", "order": order, "index": 0, "protocol": 22, "phase": phase, "round": 0,
            "members": 1})
    };
    s.delivered(&[0, 1], &protocol(22, "begins"));
    s.delivered(&[0, 1], &ask(23, "answered"));
    s.delivered(&[0, 1], &protocol(24, "last"));
    s.end()
}
