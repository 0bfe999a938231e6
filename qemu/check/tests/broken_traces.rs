//! Good traces of a small cluster pass; the same traces, each broken in one way, are caught by the rule for it.
//!
//! The traces come from a story told here (join, graceful leave, restart, a master killed in the middle of a leave,
//! takeover, forced leave; EP Fig. 13–15; loss of all power), not from the code that is checked.

mod story;

use quorate_check::{Checker, Options, Order, Report, Rule};
use serde_json::{Value, json};
use story::{Story, fig_13_to_15, power_loss, whole_life};

fn run(lines: &[Value], options: Options) -> Report {
    let (mut checker, mut report) = (Checker::new(options), Report::default());
    for line in lines {
        report.add(checker.push_text(&line.to_string()));
    }
    report.add(checker.finish());
    report.counts = checker.counts();
    report
}

fn assert_fine(lines: &[Value], options: Options) -> Report {
    let report = run(lines, options);
    assert!(report.is_fine(), "{report}");
    report
}

#[test]
fn a_whole_life_is_fine() {
    let lines = whole_life().lines;
    for order in [Order::Lamport, Order::Receipt] {
        let counts = assert_fine(&lines, Options { order, ..Options::default() }).counts;
        assert_eq!(counts.views, 14);
        assert_eq!(counts.ballots, 2);
        assert!(counts.barriers_ordered > 10 && counts.levels_ordered > 10 && counts.fences == 1, "{counts:?}");
    }
}

#[test]
fn ep_fig_13_to_15_is_fine() {
    for order in [Order::Lamport, Order::Receipt] {
        assert_fine(&fig_13_to_15(80, 70).lines, Options { order, ..Options::default() });
    }
}

#[test]
fn a_loss_of_all_power_is_fine() {
    for order in [Order::Lamport, Order::Receipt] {
        assert_fine(&power_loss().lines, Options { order, ..Options::default() });
    }
}

#[test]
fn lines_of_one_node_may_arrive_late() {
    for late in 0..3 {
        let mut lines = whole_life().lines;
        // Harness lines keep their place, all of one node's lines come as late as the next harness line allows.
        let mut parts: Vec<Vec<Value>> = vec![Vec::new()];
        for line in lines.drain(..) {
            let harness = line["node"].is_null();
            parts.last_mut().unwrap().push(line);
            if harness {
                parts.push(Vec::new());
            }
        }
        for part in &mut parts {
            let end = part.len() - part.last().is_some_and(|l| l["node"].is_null()) as usize;
            part[..end].sort_by_key(|l| l["node"] == json!(late));
            lines.append(part);
        }
        for (t, line) in lines.iter_mut().enumerate() {
            line["t_us"] = json!(t);
        }
        assert_fine(&lines, Options::default());
    }
}

#[test]
fn an_empty_trace_is_not_fine() {
    assert!(!run(&[], Options::default()).is_fine());
    assert!(!run(&[], Options::simulator()).is_fine());
}

#[test]
fn a_killed_node_may_lose_its_last_lines() {
    for lost in 1..12 {
        let mut lines = whole_life().lines;
        for _ in 0..lost {
            let last = lines.iter().rposition(|l| l["node"] == 0 && l["inc"] == 1).unwrap();
            lines.remove(last);
        }
        assert_fine(&lines, Options::default());
    }
}

/// Line number of the first line with these fields.
fn find(lines: &[Value], fields: &Value) -> usize {
    let matches = |l: &Value| fields.as_object().unwrap().iter().all(|(k, v)| &l[k] == v);
    lines.iter().position(matches).unwrap_or_else(|| panic!("no line with {fields}"))
}

/// Sets fields of the first line that has `fields`.
fn set(lines: &mut [Value], fields: Value, new: Value) {
    let at = find(lines, &fields);
    for (k, v) in new.as_object().unwrap() {
        lines[at][k] = v.clone();
    }
}

/// Takes out all lines with these fields and closes the holes in `seq`.
fn remove(lines: &mut Vec<Value>, fields: Value) {
    find(lines, &fields);
    let matches = |l: &Value| fields.as_object().unwrap().iter().all(|(k, v)| &l[k] == v);
    lines.retain(|l| !matches(l));
    story::renumber(lines);
}

/// Puts a copy of the first line with `fields`, changed by `new`, `after` lines further on in the same stream.
fn copy(lines: &mut Vec<Value>, fields: Value, new: Value, after: usize) {
    let at = find(lines, &fields);
    let mut line = lines[at].clone();
    for (k, v) in new.as_object().unwrap() {
        line[k] = v.clone();
    }
    let same = |l: &Value| l["node"] == line["node"] && l["inc"] == line["inc"];
    let stream: Vec<usize> = (at..lines.len()).filter(|i| same(&lines[*i])).collect();
    let place = stream[after.min(stream.len() - 1)];
    for field in ["lc", "nt_us", "t_us"] {
        line[field] = lines[place][field].clone();
    }
    // Clocks of this stream move on by one, so that the copy has its own; all others stay behind causally.
    for l in lines.iter_mut() {
        if let Some(lc) = l["lc"].as_u64() {
            l["lc"] = json!(lc * 2);
        }
    }
    line["lc"] = json!(line["lc"].as_u64().map(|lc| lc * 2 + 1));
    lines.insert(place + 1, line);
    story::renumber(lines);
}

type Break = fn(&mut Vec<Value>);

fn assert_caught(name: &str, good: Story, rule: Rule, change: Break) {
    let mut lines = good.lines;
    change(&mut lines);
    let report = run(&lines, Options::default());
    let found = report.violations.iter().chain(&report.failed).any(|v| v.rule == rule);
    assert!(found, "{name}: {rule} was not found, but\n{report}");
}

#[test]
fn form_and_lives() {
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
    for (name, rule, change) in cases {
        assert_caught(name, whole_life(), *rule, *change);
    }
}

#[test]
fn views_and_master() {
    let cases: &[(&str, Rule, Break)] = &[
        ("two contents", Rule::OneHistory, |l| {
            let states = json!({"0": "joined", "1": "joined", "2": "joining"});
            set(l, json!({"ev": "view", "view": 4, "node": 2}), json!({"states": states}));
        }),
        ("a gap", Rule::ViewGap, |l| remove(l, json!({"ev": "view", "view": 4}))),
        ("an older view", Rule::ViewOrder, |l| copy(l, json!({"ev": "view", "view": 3, "node": 1}), json!({}), 60)),
        ("a late old ballot", Rule::ViewBallot, |l| {
            set(l, json!({"ev": "view", "view": 11, "node": 2}), json!({"ballot": 64}));
        }),
        ("joined to inactive", Rule::ViewChange, |l| {
            for line in l.iter_mut().filter(|l| l["ev"] == "view" && l["view"] == 5) {
                line["states"]["2"] = json!("inactive");
            }
        }),
        ("the new incarnation joins over the old one", Rule::NewIncarnation, |l| {
            for line in l.iter_mut().filter(|l| l["ev"] == "view" && l["view"] == 11) {
                line["states"]["0"] = json!("joining");
                line["incs"]["0"] = json!(2);
            }
        }),
        ("an incarnation joins again", Rule::NewIncarnation, |l| {
            for line in l.iter_mut().filter(|l| l["ev"] == "view" && l["view"].as_u64() >= Some(7)) {
                line["incs"]["2"] = json!(1);
            }
        }),
        ("two masters of one ballot", Rule::OneMaster, |l| {
            set(l, json!({"ev": "lock", "phase": "acquired", "node": 1}), json!({"ballot": 64}));
        }),
        ("an old ballot is acquired", Rule::BallotGrows, |l| {
            set(l, json!({"ev": "lock", "phase": "acquired", "node": 1}), json!({"ballot": 63}));
        }),
        ("a round by another", Rule::NotMaster, |l| {
            remove(l, json!({"ev": "lock", "phase": "acquired", "node": 1}));
        }),
        ("a frozen master goes on", Rule::NotMaster, |l| {
            let what = json!({"ev": "freeze", "why": "lease"});
            copy(l, json!({"ev": "lock", "phase": "acquired", "node": 1}), what, 0);
        }),
        ("frozen twice", Rule::FreezeThaw, |l| {
            copy(l, json!({"node": 2, "inc": 1}), json!({"ev": "freeze", "why": "lease"}), 4);
            copy(l, json!({"node": 2, "ev": "freeze"}), json!({}), 2);
        }),
        ("suspected twice", Rule::SuspectTrust, |l| copy(l, json!({"ev": "suspect"}), json!({}), 1)),
    ];
    for (name, rule, change) in cases {
        assert_caught(name, whole_life(), *rule, *change);
    }
}

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

#[test]
fn rounds_and_barriers() {
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
    for (name, rule, change) in cases {
        assert_caught(name, whole_life(), *rule, *change);
    }
}

#[test]
fn a_cause_needs_the_smaller_lamport_clock() {
    // The acknowledgement is there, and is received first, but its clock says that it did not come before.
    assert_caught("lc", whole_life(), Rule::BarrierOrder, |l| {
        let ack = find(l, &join("ack", 1, 70, 0));
        let next = l.iter().position(|l| l["node"] == 1 && l["seq"] == json!(0)).unwrap();
        assert!(next < ack);
        let notify = l[find(l, &join("notify", 1, 70, 1))]["lc"].as_u64().unwrap();
        l[ack]["lc"] = json!(notify - 1);
    });
}

#[test]
fn fences_and_leases() {
    let cases: &[(&str, Rule, Break)] = &[
        ("no fence", Rule::Fence, |l| remove(l, json!({"ev": "fence"}))),
        ("a fence that does not hold", Rule::Fence, |l| set(l, json!({"ev": "fence"}), json!({"ok": false}))),
        ("a write after the lease", Rule::Lease, |l| {
            let lease = json!({"ev": "lease", "issued_nt_us": 10, "until_nt_us": 20});
            copy(l, json!({"node": 2, "inc": 1}), lease, 4);
            let write = json!({"ev": "shared_write", "region": "ballot.2", "lba": 1, "blocks": 1, "issued_nt_us": 21});
            copy(l, json!({"node": 2, "ev": "lease"}), write, 1);
        }),
        ("a write by one that knows", Rule::WriteAfterFence, |l| {
            let write = json!({"ev": "shared_write", "region": "ballot.0", "lba": 1, "blocks": 1,
                "issued_nt_us": 1_000_000_000});
            set(
                l,
                json!({"ev": "view", "node": 0, "view": 9}),
                json!({"states":
                {"0": "forced-leaving", "1": "joined", "2": "leaving"}}),
            );
            copy(l, json!({"node": 0, "ev": "view", "view": 9}), write, 1);
        }),
    ];
    for (name, rule, change) in cases {
        assert_caught(name, whole_life(), *rule, *change);
    }
}

#[test]
fn in_the_simulator_a_write_after_the_fence_shows_by_its_time() {
    let mut lines = whole_life().lines;
    let fence = find(&lines, &json!({"ev": "fence"}));
    let last = lines.iter().rposition(|l| l["node"] == 0 && l["inc"] == 1).unwrap();
    let mut write = lines[last].clone();
    for field in ["seq", "lc", "nt_us"] {
        write[field] = json!(write[field].as_u64().unwrap() + 1);
    }
    (write["ev"], write["region"], write["lba"], write["blocks"]) =
        (json!("shared_write"), json!("heartbeat.0"), json!(1), json!(1));
    (write["issued_nt_us"], write["t_us"]) = (write["nt_us"].clone(), lines[fence + 1]["t_us"].clone());
    lines.insert(fence + 1, write);
    let options = Options { order: Order::Receipt, ..Options::default() };
    assert_fine(&lines, options);
    lines[fence + 1]["region"] = json!("ballot.0");
    lines[fence + 1]["t_us"] = lines[fence + 2]["t_us"].clone();
    let report = run(&lines, options);
    assert!(report.violations.iter().any(|v| v.rule == Rule::WriteAfterFence), "{report}");
}

#[test]
fn ep_fig_15_no_forced_leave_above_the_level_that_heard() {
    assert_caught("above", fig_13_to_15(80, 80), Rule::TooHigh, |_| {});
    assert_caught("not far enough", fig_13_to_15(80, 20), Rule::LostTransition, |_| {});
}

#[test]
fn fuzzed_lines_never_panic() {
    // Every field of every line of a good trace, replaced by each kind of value.
    let good = whole_life().lines;
    let values = [json!(null), json!(-1), json!(u64::MAX), json!(1e300), json!("x"), json!([]), json!({}), json!(true)];
    for (i, value) in values.iter().cycle().take(600).enumerate() {
        let mut lines = good.clone();
        let at = i * 7 % lines.len();
        let keys: Vec<String> = lines[at].as_object().unwrap().keys().cloned().collect();
        lines[at][&keys[i % keys.len()]] = value.clone();
        run(&lines, Options::default());
        run(&lines, Options::simulator());
    }
}

#[test]
fn no_single_line_of_a_transition_can_be_left_out() {
    for (name, good) in [("life", whole_life()), ("power", power_loss())] {
        for at in 0..good.lines.len() {
            let line = &good.lines[at];
            let same = |l: &&Value| ["node", "inc", "level"].iter().all(|f| l[*f] == line[*f]);
            let used = || good.lines.iter().filter(same).any(|l| l["ev"] == "notify");
            let needed = match line["ev"].as_str() {
                Some("ack" | "fence" | "boot") => true,
                // What was not acknowledged may not have come.
                Some("notify") => {
                    let key = ["node", "inc", "level", "round", "subject", "transition", "barrier"];
                    good.lines.iter().any(|l| l["ev"] == "ack" && key.iter().all(|f| l[*f] == line[*f]))
                }
                // A level that its node never came to may as well not be there.
                Some("register") => used(),
                _ => false,
            };
            // The master's own words; a round may be known from its repetition.
            let needed = needed || (line["ev"] == "lock" && line["phase"] == "acquired");
            if !needed {
                continue;
            }
            let mut lines = good.lines.clone();
            lines.remove(at);
            story::renumber(&mut lines);
            let report = run(&lines, Options::default());
            // A killed node's last words may be lost; nobody can tell whether it wrote more.
            let killed = line["node"] == 0 && line["inc"] == 1 && name == "life";
            let last_words =
                killed && good.lines[at + 1..].iter().filter(|l| l["node"] == 0 && l["inc"] == 1).count() < 2;
            assert!(!report.violations.is_empty() || last_words, "{name}: without {line}\n{report}");
        }
    }
}
