//! Rounds, barriers, levels, forced leaves.

use crate::breaking::{Break, Case, copy, find, of, remove, set};
use crate::story::{self, whole_life};
use quorate_check::Rule;
use serde_json::{Value, json};

/// The join of node 2's first life at a level: one notification or acknowledgement of it.
fn join(ev: &str, node: u8, level: u16, barrier: u8) -> Value {
    json!({"ev": ev, "node": node, "level": level, "subject": 2, "subject_inc": 1, "transition": "joining",
        "barrier": barrier})
}

/// The forced leave of node 0's first life.
fn forced(ev: &str, node: u8, level: u16, barrier: u8) -> Value {
    json!({"ev": ev, "node": node, "level": level, "subject": 0, "subject_inc": 1, "transition": "forced-leaving",
        "barrier": barrier})
}

/// The first graceful leave of node 2.
fn leave(ev: &str, node: u8, level: u16) -> Value {
    json!({"ev": ev, "node": node, "level": level, "subject": 2, "subject_inc": 1, "transition": "leaving"})
}

pub fn cases() -> Vec<Case> {
    let cases: &[(&str, Rule, Break)] = &[
        ("an acknowledgement is missing before a barrier", Rule::BarrierOrder, |l| remove(l, join("ack", 1, 70, 0))),
        ("an acknowledgement is missing before a level", Rule::LevelOrder, |l| remove(l, join("ack", 1, 20, 0))),
        ("a leave descends too early", Rule::LevelOrder, |l| remove(l, leave("ack", 0, 70))),
        ("a forced leave climbs too early", Rule::LevelOrder, |l| remove(l, forced("ack", 2, 20, 0))),
        ("a level is left out", Rule::LevelSkipped, |l| {
            l.retain(|l| l["level"] != 20 || l["ev"] == "register");
            story::renumber(l);
        }),
        ("the same step again", Rule::StepTwice, |l| copy(l, join("notify", 1, 70, 1), json!({}), 0)),
        ("a barrier too many", Rule::BarrierCount, |l| copy(l, join("notify", 1, 70, 1), json!({"barrier": 2}), 1)),
        ("an unregistered level", Rule::NotRegistered, |l| {
            remove(l, json!({"ev": "register", "node": 1, "inc": 1, "level": 70}));
        }),
        ("other barriers", Rule::NotRegistered, |l| {
            let barriers = json!({"joining": 3, "leaving": 1, "forced_leaving": 3});
            set(l, json!({"ev": "register", "node": 1, "level": 70}), json!({"barriers": barriers}));
        }),
        ("another name", Rule::NotRegistered, |l| set(l, join("notify", 1, 70, 0), json!({"name": "other"}))),
        ("an unknown round", Rule::UnknownRound, |l| set(l, join("notify", 1, 70, 0), json!({"round": "64.99"}))),
        ("not in its round", Rule::UnknownRound, |l| set(l, join("notify", 1, 70, 0), json!({"subject": 0}))),
        ("a round changes", Rule::RoundChanged, |l| {
            let reissued = find(l, &json!({"ev": "round", "node": 1, "round": "64.9"}));
            l[reissued]["participants"] = json!([1, 2]);
        }),
        ("a participant is left out", Rule::Participants, |l| {
            set(l, json!({"ev": "round", "level": 20, "round": "64.3"}), json!({"participants": [0, 1]}));
        }),
        ("a joined node is left out", Rule::Participants, |l| {
            set(l, json!({"ev": "round", "level": 20, "round": "64.7"}), json!({"participants": [0, 2]}));
        }),
        ("one that has left takes part", Rule::Participants, |l| {
            let round =
                l.iter().position(|l| l["ev"] == "round" && l["level"] == 70 && l["round"] == "129.11").unwrap();
            l[round]["participants"] = json!([1, 2]);
        }),
        ("a round before its view", Rule::NotCommitted, |l| remove(l, json!({"ev": "view", "view": 5}))),
        ("an acknowledgement of nothing", Rule::AckWithoutNotify, |l| remove(l, join("notify", 1, 70, 0))),
        ("an acknowledgement twice", Rule::AckWithoutNotify, |l| copy(l, join("ack", 1, 70, 0), json!({}), 0)),
        ("a join goes on after the forced leave", Rule::TableOne, |l| {
            let step = json!({"transition": "joining"});
            copy(l, forced("notify", 1, 70, 0), step, 1);
        }),
        ("an overtaken acknowledgement", Rule::TableOne, |l| {
            copy(l, forced("notify", 1, 70, 0), json!({"ev": "ack", "transition": "leaving"}), 0);
        }),
        ("a join ends too early", Rule::LostTransition, |l| remove(l, join("ack", 2, 70, 1))),
        ("a forced leave ends too early", Rule::LostTransition, |l| remove(l, forced("ack", 1, 70, 2))),
        ("a state too early", Rule::StateEarly, |l| {
            copy(l, join("notify", 0, 70, 1), json!({"ev": "state", "is": "joined"}), 0);
        }),
    ];
    let more: &[(&str, Rule, Break)] = &[
        ("a cause needs the smaller clock", Rule::BarrierOrder, |l| {
            // The acknowledgement is there, and is received first, but its clock says that it did not come before.
            let ack = find(l, &join("ack", 1, 70, 0));
            let notify = l[find(l, &join("notify", 1, 70, 1))]["lc"].as_u64().unwrap();
            l[ack]["lc"] = json!(notify - 1);
        }),
        ("a state twice", Rule::StateTwice, |l| {
            copy(l, json!({"ev": "state", "node": 1, "level": 20, "subject": 2}), json!({}), 0);
        }),
        ("a state that ends nothing", Rule::StateEarly, |l| {
            set(l, json!({"ev": "state", "node": 1, "level": 20, "subject": 2}), json!({"is": "leaving"}));
        }),
        ("late, though nothing overtook it", Rule::StaleAck, |l| {
            set(l, join("ack", 1, 70, 0), json!({"ev": "stale_ack"}));
        }),
        ("late, though it was never told", Rule::AckWithoutNotify, |l| {
            copy(l, join("ack", 1, 70, 1), json!({"ev": "stale_ack", "subject": 0}), 0);
        }),
        ("a leave is told to one that has it inactive", Rule::TableOne, |l| {
            set(l, leave("notify", 1, 20), json!({"subject": 0, "subject_inc": 1}));
        }),
        ("a leave is committed too soon", Rule::LeaveTooSoon, |l| {
            // The last acknowledgement of the join comes after the view that begins the leave.
            let ack = find(l, &join("ack", 1, 70, 1));
            let view = l.iter().position(|l| l["ev"] == "view" && l["node"] == 1 && l["view"] == 5).unwrap();
            let lc = l[view]["lc"].as_u64().unwrap();
            for line in l.iter_mut().filter(|l| l["lc"].as_u64() >= Some(lc) && l["seq"].is_u64()) {
                line["lc"] = json!(line["lc"].as_u64().unwrap() + 10);
            }
            let mut late = l.remove(ack);
            late["lc"] = json!(lc + 11);
            late["nt_us"] = l[view - 1]["nt_us"].clone();
            late["t_us"] = l[view - 1]["t_us"].clone();
            l.insert(view, late);
            story::renumber(l);
        }),
        ("one that has left owes an acknowledgement of another's transition", Rule::LeaveTooSoon, |l| {
            remove(l, json!({"ev": "ack", "node": 2, "round": "129.10"}));
        }),
        ("a leave begins before a forced leave came to its level", Rule::RoundOverlap, |l| {
            let new = json!({"ev": "round", "level": 20, "round": "129.999", "participants": [1, 2], "transitions":
                [{"subject": 2, "subject_inc": 2, "transition": "leaving"}]});
            copy(l, json!({"ev": "view", "node": 1, "view": 10}), new, 0);
        }),
        ("two rounds of one level at once", Rule::RoundOverlap, |l| {
            let new = json!({"round": "64.999", "transitions": [{"subject": 1, "subject_inc": 1,
                "transition": "joining"}]});
            copy(l, json!({"ev": "round", "level": 70, "round": "64.4"}), new, 0);
        }),
        ("a leave begins before a forced leave passed", Rule::RoundOverlap, |l| {
            let new = json!({"level": 70, "round": "129.999", "participants": [1, 2], "transitions":
                [{"subject": 2, "subject_inc": 2, "transition": "leaving"}]});
            copy(l, json!({"ev": "round", "level": 20, "round": "129.10"}), new, 0);
        }),
    ];
    let fig_13_to_15 = || story::fig_13_to_15(80, 70);
    let fig_13: &[(&str, Rule, Break)] = &[("above", Rule::TooHigh, |l| *l = story::fig_13_to_15(80, 80).lines)];
    let fig_15: &[(&str, Rule, Break)] =
        &[("not far enough", Rule::LostTransition, |l| *l = story::fig_13_to_15(80, 20).lines)];
    [of(whole_life, cases), of(whole_life, more), of(fig_13_to_15, fig_13), of(fig_13_to_15, fig_15)]
        .into_iter()
        .flatten()
        .collect()
}
