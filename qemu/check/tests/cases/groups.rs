//! Broken traces of group services.

use crate::breaking::{Case, find, of, remove, set};
use crate::story::group_services;
use quorate_check::Rule;
use serde_json::json;

pub fn cases() -> Vec<Case> {
    of(
        group_services,
        &[
            ("another text", Rule::GroupOrder, |l| {
                set(l, json!({"node": 1, "text": "last"}), json!({"text": "first"}))
            }),
            ("another sender", Rule::GroupOrder, |l| set(l, json!({"node": 1, "order": 16}), json!({"from": 0}))),
            ("two messages of a frame swapped", Rule::GroupOrder, |l| {
                set(l, json!({"node": 1, "order": 10, "index": 0}), json!({"index": 1}));
                let second = l.iter().rposition(|l| l["node"] == 1 && l["order"] == 10).unwrap();
                l[second]["index"] = json!(0);
            }),
            ("back in the order", Rule::GroupOrder, |l| set(l, json!({"node": 1, "order": 16}), json!({"order": 9}))),
            ("another round's end", Rule::GroupOrder, |l| {
                set(l, json!({"node": 1, "ev": "ack_round"}), json!({"members": 0}));
            }),
            ("a message left out", Rule::GroupGap, |l| remove(l, json!({"node": 1, "order": 10}))),
            ("a change left out", Rule::GroupGap, |l| remove(l, json!({"node": 0, "ev": "group_change"}))),
            ("an epoch left out", Rule::GroupGap, |l| remove(l, json!({"node": 0, "ev": "group_epoch"}))),
            ("a merge's end left out", Rule::GroupGap, |l| remove(l, json!({"node": 1, "phase": "done"}))),
            ("a subgroup's data twice", Rule::GroupData, |l| {
                for node in [0, 1] {
                    set(l, json!({"node": node, "order": 14}), json!({"number": 1}));
                }
            }),
            ("a merge that counts one more", Rule::GroupData, |l| {
                for node in [0, 1] {
                    set(l, json!({"node": node, "phase": "done"}), json!({"number": 3}));
                }
            }),
            ("a numbered message lost", Rule::GroupRow, |l| {
                for node in [0, 1] {
                    remove(l, json!({"node": node, "text": "#2 and more"}));
                }
            }),
            ("a numbered message twice", Rule::GroupRow, |l| {
                for node in [0, 1] {
                    set(l, json!({"node": node, "order": 19}), json!({"text": "#1 and more"}));
                }
            }),
            ("a message of one that went", Rule::GroupMember, |l| {
                for node in [0, 1] {
                    set(l, json!({"node": node, "order": 16}), json!({"job": "k"}));
                }
            }),
            ("one that came twice", Rule::GroupMember, |l| {
                for node in [0, 1] {
                    set(l, json!({"node": node, "order": 20}), json!({"change": "joined"}));
                }
            }),
            ("one that went twice", Rule::GroupMember, |l| {
                for node in [0, 1] {
                    set(
                        l,
                        json!({"node": node, "order": 17}),
                        json!({"change": "unregistered", "job": "k", "member": 1}),
                    );
                }
            }),
            ("no place", Rule::Form, |l| {
                let at = find(l, &json!({"ev": "group_message"}));
                l[at].as_object_mut().unwrap().remove("order");
            }),
        ],
    )
}
