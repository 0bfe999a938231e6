//! Good traces of a small cluster pass; the same traces, each broken in one way, are caught by the rule for it.
//!
//! The traces come from a story told here (join, graceful leave, restart, a master killed in the middle of a leave,
//! takeover, forced leave; EP Fig. 13–15; loss of all power), not from the code that is checked.

mod breaking;
mod cases;
mod story;

use breaking::{assert_fine, find, run};
use quorate_check::{Checker, Options, Order, Rule};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use story::{Story, fig_13_to_15, power_loss, whole_life};

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
fn takeovers_are_fine() {
    let stories: [fn() -> Story; 6] = [
        || story::round_that_nobody_knows(&[]),
        || story::round_that_nobody_knows(&[0]),
        || story::one_level_further(true),
        story::deposed_master,
        story::deposed_master_waits,
        whole_life,
    ];
    for (i, good) in stories.iter().enumerate() {
        for order in [Order::Lamport, Order::Receipt] {
            let report = run(&good().lines, Options { order, ..Options::default() });
            assert!(report.is_fine(), "story {i}: {report}");
        }
    }
}

#[test]
fn a_node_that_hung_and_tells_of_its_last_life_is_fine() {
    for (order, verb) in [(Order::Lamport, "hang"), (Order::Receipt, "hang"), (Order::Lamport, "panic")] {
        let mut lines = whole_life().lines;
        breaking::set(&mut lines, json!({"do": "kill"}), json!({"do": verb}));
        cases::epitaph(&mut lines, 1, 0);
        assert_fine(&lines, Options { order, ..Options::default() });
    }
}

#[test]
fn levels_that_come_at_run_time_are_fine() {
    for order in [Order::Lamport, Order::Receipt] {
        let counts = assert_fine(&story::run_time_level().lines, Options { order, ..Options::default() }).counts;
        assert_eq!((counts.fences, counts.views), (0, 4), "no view changes for a level, and none is fenced");
        assert_fine(&story::service_of_a_dead_node().lines, Options { order, ..Options::default() });
        assert_eq!(assert_fine(&story::overdue().lines, Options { order, ..Options::default() }).counts.waits, 4);
    }
}

#[test]
fn a_killed_master_takes_its_last_line_along() {
    for (order, lost) in [(Order::Lamport, false), (Order::Receipt, false), (Order::Lamport, true)] {
        let lines = story::run_time_level_across_a_takeover(lost).lines;
        assert_fine(&lines, Options { order, ..Options::default() });
    }
    // Where no line can be lost, it is a round that nobody began.
    let report = run(&story::run_time_level_across_a_takeover(true).lines, Options::simulator());
    assert!(report.violations.iter().any(|v| v.rule == Rule::UnknownRound), "{report}");
}

#[test]
fn group_services_are_fine() {
    for order in [Order::Lamport, Order::Receipt] {
        let counts = assert_fine(&story::group_services().lines, Options { order, ..Options::default() }).counts;
        assert_eq!(counts.group_places, 20);
    }
}

#[test]
fn every_rule_is_broken_by_some_trace_and_caught() {
    let cases = cases::all();
    let mut caught = BTreeSet::new();
    let mut wrong = Vec::new();
    for case in &cases {
        wrong.extend(case.wrong());
        caught.insert(case.rule);
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    // What only a run that says that it has settled can break.
    caught.insert(Rule::Unfinished);
    let left: Vec<&Rule> = Rule::ALL.iter().filter(|rule| !caught.contains(rule)).collect();
    assert!(left.is_empty(), "no broken trace for {left:?}");
}

#[test]
fn a_settled_run_has_nothing_under_way() {
    let settled = |lines: &[Value]| {
        let mut checker = Checker::new(Options { order: Order::Receipt, needs_end: false, ..Options::default() });
        let mut found: Vec<_> = lines.iter().flat_map(|line| checker.push_text(&line.to_string())).collect();
        found.extend(checker.finish_settled());
        found
    };
    let lines = whole_life().lines;
    assert_eq!(settled(&lines), []);
    // Cut off after any line: mostly in the middle of something, which is the only thing that is wrong.
    let unfinished = |at: &usize| {
        let found = settled(&lines[..*at]);
        assert!(found.iter().all(|v| v.rule == Rule::Unfinished), "{found:?}");
        !found.is_empty()
    };
    let count = (1..lines.len()).filter(unfinished).count();
    assert!(count > lines.len() / 2, "{count} of {}", lines.len());
}

#[test]
fn a_settled_run_has_ended_what_group_services_began() {
    let open = |without: Option<(&str, &str)>| {
        let mut lines = story::group_services().lines;
        if let Some((event, phase)) = without {
            breaking::remove(&mut lines, json!({"ev": event, "phase": phase, "node": 1}));
        }
        let end = lines.pop().unwrap();
        assert_eq!(end["ev"], "end");
        let mut checker = Checker::new(Options { order: Order::Receipt, needs_end: false, ..Options::default() });
        lines.iter().for_each(|line| drop(checker.push_text(&line.to_string())));
        let found = checker.finish_settled();
        found.iter().filter(|v| v.rule == Rule::Unfinished).map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(open(None), "");
    for (event, phase, what) in [
        ("ack_round", "last", "protocol 22"),
        ("merge", "done", "merge 12 of g"),
        ("domain", "answered", "a request for domain d"),
    ] {
        let found = open(Some((event, phase)));
        assert!(found.contains(what), "{event}: {found}");
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
