//! Every verb and every condition of the scenario language, each with a case that holds and one that does not.

mod fake;

use fake::{Fake, all_joined, boot, lock, scenario, view};
use quorate_base::NodeState;
use quorate_scenario::backend::DiskView;
use quorate_scenario::{Outcome, Trouble, engine};
use serde_json::json;

/// A world in which starting node 2 (the last of "all") makes all three join.
fn world() -> Fake {
    Fake::default().on("start 2", all_joined())
}

const UP: &str = r#"
step = [{ do = "start", node = "all" }, { wait = "state", subject = "all", is = "joined", within_ms = 100 }, MORE]
"#;

/// Steps after all nodes are joined.
fn after_up(more: &str, fake: &mut Fake) -> Outcome {
    play_top(&UP.replace("MORE", more), fake)
}

/// `step = […]` must stand before the tables of the head, so it goes first.
fn play_top(step: &str, fake: &mut Fake) -> Outcome {
    let source = quorate_scenario::source::Source::new(
        "test.toml",
        format!("nodes = 3\n{step}\n[[level]]\norder = 60\nname = \"low\"\n[[level]]\norder = 70\nname = \"high\"\n"),
    );
    let scenario = quorate_scenario::Scenario::parse(source).unwrap_or_else(|p| panic!("{p}"));
    engine::run(&scenario, fake)
}

fn holds(more: &str, mut fake: Fake) -> Fake {
    let outcome = after_up(more, &mut fake);
    assert!(outcome.ok(), "{more}: {outcome:#?}");
    fake
}

/// The failure's message and details.
fn fails(more: &str, mut fake: Fake) -> String {
    let outcome = after_up(more, &mut fake);
    let failure = outcome.failure.unwrap_or_else(|| panic!("{more} held"));
    assert!(matches!(failure.trouble, Trouble::Failed(_)), "{failure:?}");
    format!("{}\n{}", failure.trouble, failure.details.join("\n"))
}

#[test]
fn the_time_that_firmware_takes_does_not_count_in_a_wait() {
    let late = || vec![(7_000, boot(2, 1)), (7_004, view(2, 1, 64, 1, ["joining"; 3], [1; 3]))];
    let step = r#"step = [{ do = "start", node = 2 }, { wait = "event", ev = "boot", node = 2, within_ms = 100 },
        { wait = "event", ev = "view", node = 2, within_ms = 1 }]"#;
    // Without firmware 7 s are not within 100 ms.
    assert!(!play_top(step, &mut Fake::default().on("start 2", late())).ok());
    // With one that may take so long they are, but not if it may take less.
    let mut fake = Fake { firmware_us: 10_000_000, ..Fake::default() }.on("start 2", late());
    let outcome = play_top(step, &mut fake);
    assert_eq!(outcome.held, 1, "the machine's time counts again from its first word on: {outcome:#?}");
    let mut short = Fake { firmware_us: 5_000_000, ..Fake::default() }.on("start 2", late());
    assert_eq!(play_top(step, &mut short).held, 0);
}

#[test]
fn kernels_are_installed_on_the_nodes_that_are_named() {
    let step = r#"step = [{ do = "install_kernel", node = [0, 2], slot = "b", version = "next" },
        { do = "install_kernel", node = 1, slot = "a", boot = false }]"#;
    let mut fake = Fake::default();
    assert!(play_top(step, &mut fake).ok());
    assert_eq!(fake.done[..3], ["install 0 b next boot", "install 2 b next boot", "install 1 a as built"]);
}

#[test]
fn a_wait_ends_with_the_event_not_with_its_time() {
    let fake = holds("", world());
    assert_eq!(fake.now_us, 12_000);
    let ends: Vec<_> = fake.lines.iter().filter(|l| l.ev == "end").map(|l| l.fields["ok"].clone()).collect();
    assert_eq!(ends, [json!(true)]);
}

#[test]
fn a_wait_that_fails_says_which_node_lacks_what() {
    let mut lines = all_joined();
    lines.retain(|(_, l)| !(l["node"] == 1 && l["view"] == 2));
    let mut fake = Fake::default().on("start 2", lines);
    fake.replies.insert("status".into(), "state joining\n".into());
    let text = fails("", fake);
    assert!(text.contains("did not come about within 100 ms: wait state"), "{text}");
    assert!(text.contains("missing: node 1 sees node 0 joining, not joined"), "it is joined by now: {text}");
    assert!(!text.contains("node 2 sees"), "{text}");
    let mut fake = world().on("command 0 x", vec![(1, view(1, 1, 64, 3, ["joined", "joined", "leaving"], [1; 3]))]);
    fake.replies.insert("x".into(), String::new());
    fake.replies.insert("status".into(), "state joined".into());
    let more = r#"{ do = "command", node = 0, text = "x" },
        { do = "sleep", ms = 5 }, { expect = "state", subject = "all", is = "joined" }"#;
    let text = fails(more, fake);
    assert!(text.contains("does not hold: expect state"), "{text}");
    assert!(text.contains("missing: node 1 sees node 2 leaving, not joined"), "{text}");
    assert!(text.contains("node 1, incarnation 1, runs; view 3 of ballot 64"), "{text}");
    assert!(text.contains("its own status:\n      state joined"), "{text}");
    assert!(text.contains("node 1: view"), "its last events: {text}");
}

#[test]
fn state_counts_the_running_incarnation_only() {
    // Killed and started again: the others still have the old life joined. The first start of node 1 changes nothing.
    let fake = world().on("start 1", vec![]).on("start 1", vec![(1, boot(1, 2))]);
    let more = r#"{ do = "kill", node = 1 }, { do = "start", node = 1 }, { do = "sleep", ms = 5 },
        { expect = "state", subject = 1, is = "joined", node = 0 }"#;
    let text = fails(more, fake);
    assert!(text.contains("it knows incarnation 1, joined; node 1 is now 2"), "{text}");
    let mut again = world().on("start 1", vec![]).on(
        "start 1",
        vec![
            (1, boot(1, 2)),
            (2, view(0, 1, 64, 3, ["joined", "joined", "joined"], [1, 2, 1])),
            (2, view(2, 1, 64, 3, ["joined", "joined", "joined"], [1, 2, 1])),
            (3, view(1, 2, 64, 3, ["joined", "joined", "joined"], [1, 2, 1])),
        ],
    );
    let more = r#"{ do = "kill", node = 1 }, { do = "start", node = 1 },
        { wait = "state", subject = 1, is = "joined", within_ms = 100 }"#;
    let outcome = after_up(more, &mut again);
    assert!(outcome.ok(), "{outcome:#?}");
}

#[test]
fn without_a_live_joined_node_the_disk_decides() {
    let disk = DiskView { ballot: 64, number: 3, nodes: [(0, (NodeState::Leaving, 4))].into() };
    let mut fake = Fake { disk, ..Fake::default() };
    let ok = play_top(r#"step = [{ expect = "state", subject = 0, is = "leaving" }]"#, &mut fake);
    assert!(ok.ok());
    fake.finished = false;
    let bad = play_top(r#"step = [{ expect = "state", subject = [0, 1], is = "leaving" }]"#, &mut fake);
    let details = bad.failure.unwrap().details.join("\n");
    assert!(details.contains("the disk has node 1 inactive, not leaving"), "{details}");
    // A live node that is joined on the disk is a viewer, though it has not traced that view yet.
    let mut fake = Fake::default().on("start 0", vec![(1, boot(0, 4))]);
    fake.disk = DiskView { ballot: 64, number: 3, nodes: [(0, (NodeState::Joined, 4))].into() };
    let more = r#"step = [{ do = "start", node = 0 }, { wait = "state", subject = 0, is = "joined", within_ms = 9 }]"#;
    let details = play_top(more, &mut fake).failure.unwrap().details.join("\n");
    assert!(details.contains("node 0 sees nothing of node 0 yet, it must be joined"), "{details}");
}

#[test]
fn a_level_has_its_own_state() {
    let step = |ev: &str, key: &str, what: &str, level: u16| json!({"ev": ev, "node": 0, "level": level, "subject": 1, "subject_inc": 1, key: what});
    let fake = || {
        let mut f = world().on(
            "command 0 x",
            vec![
                (1, view(0, 1, 64, 3, ["joined", "forced-leaving", "joined"], [1; 3])),
                (2, step("notify", "transition", "forced-leaving", 60)),
            ],
        );
        f.replies.insert("x".into(), String::new());
        f
    };
    let at = |level: &str, is: &str| {
        format!(
            r#"{{ do = "command", node = 0, text = "x" }}, {{ do = "sleep", ms = 9 }},
            {{ expect = "state", subject = 1, is = "{is}", level = {level}, node = 0 }}"#
        )
    };
    holds(&at("60", "forced-leaving"), fake());
    holds(&at("\"low\"", "forced-leaving"), fake());
    holds(&at("70", "joined"), fake());
    let text = fails(&at("70", "inactive"), fake());
    assert!(text.contains("node 0 sees node 1 joined, not inactive at level 70"), "{text}");
}

#[test]
fn master_is_one_live_node_that_all_agree_on() {
    holds(r#"{ expect = "master" }, { expect = "master", is = 0 }"#, world());
    assert!(fails(r#"{ expect = "master", is = 1 }"#, world()).contains("the master is node 0, not node 1"));
    let text = fails(r#"{ do = "kill", node = "master" }, { expect = "master" }"#, world());
    assert!(text.contains("no live node holds the master lock (live: 1 2)"), "{text}");
    let with = |line| {
        let mut f = world().on("command 0 x", vec![(1, line)]);
        f.replies.insert("x".into(), String::new());
        f
    };
    let more = r#"{ do = "command", node = 0, text = "x" }, { do = "sleep", ms = 5 }, { expect = "master" }"#;
    assert!(fails(more, with(lock(1, "acquired", 129))).contains("nodes 0 1 each hold the master lock"));
    assert!(fails(more, with(lock(0, "lost", 64))).contains("no live node holds"));
    assert!(fails(more, with(view(2, 1, 129, 3, ["joined"; 3], [1; 3]))).contains("node 2 follows ballot 129"));
}

#[test]
fn panicked_wants_an_unwanted_halt_with_the_reason() {
    let end = |ev: &str| {
        let line = json!({"ev": ev, "node": 1, "reason": "put out: view 3"});
        world().on("pause 1", vec![(1, line)])
    };
    let more = |extra: &str| {
        format!(
            r#"{{ do = "pause", node = 1 }}, {{ do = "sleep", ms = 5 }}, {{ expect = "panicked", node = 1{extra} }}"#
        )
    };
    holds(&more(""), end("panic"));
    holds(&more(r#", reason = "put out""#), end("panic"));
    assert!(fails(&more(r#", reason = "left""#), end("panic")).contains("another reason than /left/: put out: view 3"));
    assert!(fails(&more(""), end("halt")).contains("did not panic, it halted: put out"));
    assert!(fails(&more(""), world()).contains("node 1 did not panic; it runs"));
}

#[test]
fn events_count_since_the_last_do() {
    let late = || world().on("pause 1", vec![(5, json!({"ev": "suspect", "node": 0, "peer": 1, "via": "net"}))]);
    let pause = r#"{ do = "pause", node = 1, save = "p" }, "#;
    let event = |rest: &str| format!("{pause}{rest}");
    holds(&event(r#"{ wait = "event", ev = "suspect", peer = "$p", via = ["disk", "net"], within_ms = 50 }"#), late());
    let text = fails(&event(r#"{ wait = "event", ev = "suspect", peer = 2, within_ms = 50 }"#), late());
    assert!(text.contains("no event `suspect` peer=node 2 since the last `do`"), "{text}");
    let again = r#"{ do = "sleep", ms = 9 }, { do = "resume", node = 1 }, "#;
    let text = fails(&event(&format!(r#"{again}{{ expect = "event", ev = "suspect" }}"#)), late());
    assert!(text.contains("no event"), "{text}");
    holds(&event(&format!(r#"{again}{{ expect = "event", ev = "suspect", since = "start" }}"#)), late());
}

#[test]
fn no_event_must_hold_for_the_whole_wait() {
    let late = || world().on("pause 1", vec![(5, json!({"ev": "suspect", "node": 0, "peer": 1, "via": "net"}))]);
    let more =
        |ms: u32| format!(r#"{{ do = "pause", node = 1 }}, {{ wait = "no_event", ev = "suspect", within_ms = {ms} }}"#);
    holds(&more(3), late());
    let text = fails(&more(50), late());
    assert!(text.contains("did not hold for 50 ms"), "{text}");
    assert!(text.contains("there is:") && text.contains("node 0: suspect peer=1 via=net"), "{text}");
    holds(r#"{ do = "pause", node = 1 }, { expect = "no_event", ev = "suspect" }"#, late());
}

#[test]
fn order_goes_by_the_lamport_clock_across_nodes() {
    let a =
        json!({"ev": "state", "node": 0, "lc": 500, "subject": 1, "subject_inc": 1, "level": null, "is": "inactive"});
    let b = json!({"ev": "state", "node": 2, "lc": 400, "subject": 1, "subject_inc": 2, "level": null, "is": "joined"});
    let fake = || world().on("pause 1", vec![(1, a.clone()), (2, b.clone())]);
    let more = |x: u32, y: u32| {
        format!(
            r#"{{ do = "pause", node = 1 }}, {{ do = "sleep", ms = 5 }},
            {{ expect = "order", first = {{ ev = "state", subject_inc = {x}, level = "none", since = "start" }},
               then = {{ ev = "state", subject_inc = {y}, since = "start" }} }}"#
        )
    };
    holds(&more(2, 1), fake());
    assert!(fails(&more(1, 2), fake()).contains("the order is the other way round"));
    assert!(fails(&more(1, 7), fake()).contains("no event `state` subject_inc=7"));
}

#[test]
fn every_event_of_one_kind_before_every_one_of_another() {
    let line = |node: u8, lc: u32, is: &str| json!({"ev": "state", "node": node, "lc": lc, "subject": 1, "subject_inc": 1, "level": null, "is": is});
    let fake = |last: u32| {
        let lines = vec![(1, line(0, 10, "leaving")), (2, line(0, 40, "inactive")), (3, line(2, last, "leaving"))];
        world().on("pause 1", lines)
    };
    let steps = |nodes: &str| {
        format!(
            r#"{{ do = "pause", node = 1 }}, {{ do = "sleep", ms = 5 }},
            {{ expect = "order", every = {{ ev = "state", node = {nodes}, is = "leaving", level = "none" }},
               then = {{ ev = "state", is = "inactive", level = "none" }} }}"#
        )
    };
    holds(&steps("[0, 2]"), fake(30));
    assert!(fails(&steps("[0, 2]"), fake(50)).contains("the order is the other way round"));
    assert!(fails(&steps("\"all\""), fake(30)).contains("on 1"), "each node that is named has one");
}

#[test]
fn unchanged_compares_the_regions_that_are_named() {
    let map = |pairs: &[(&str, u64)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), v.to_string())).collect();
    let fake = || {
        let mut f = world();
        f.regions = map(&[("config.0", 1), ("heartbeat.0", 1), ("heartbeat.1", 1), ("ballot.1", 1)]);
        f.regions_later = Some(map(&[("config.0", 1), ("heartbeat.0", 1), ("heartbeat.1", 2), ("ballot.1", 1)]));
        f
    };
    let more = |rest: &str| {
        format!(
            r#"{{ do = "kill", node = 1, save = "v" }}, {{ do = "snapshot", save = "s" }},
            {{ expect = "unchanged", snapshot = "$s"{rest} }}"#
        )
    };
    assert!(fails(&more(""), fake()).contains("region heartbeat.1 has changed since snapshot $s"));
    holds(&more(r#", except = "heartbeat.$v""#), fake());
    holds(&more(r#", region = ["config.*", "heartbeat.0"]"#), fake());
    assert!(fails(&more(r#", region = "heartbeat.*""#), fake()).contains("heartbeat.1"));
    assert!(fails(&more(r#", region = "identity.*""#), fake()).contains("there is no region `identity.*`"));
}

#[test]
fn keys_are_those_of_the_live_incarnations_and_no_others() {
    let key = |node: u64, inc: u64| 0x51 << 56 | node << 48 | inc << 16 | 0xbeef;
    let with = |keys: &[u64]| Fake { keys: keys.to_vec(), ..world() };
    let all = [key(0, 1), key(1, 1), key(2, 1)];
    let expect = r#"{ expect = "keys" }"#;
    // One that a target lists twice is one key.
    holds(expect, with(&[all.as_slice(), &[key(1, 1)]].concat()));
    assert!(fails(expect, with(&all[..2])).contains("node 2 has no key at the target"));
    let old = [all.as_slice(), &[key(2, 0)]].concat();
    assert!(fails(expect, with(&old)).contains("of node 2, incarnation 0"));
    let foreign = [all.as_slice(), &[7]].concat();
    assert!(fails(expect, with(&foreign)).contains("key 0000000000000007 of nobody"));
    let dead = r#"{ do = "kill", node = 2 }, "#;
    holds(&format!(r#"{dead}{{ expect = "keys" }}"#), with(&all[..2]));
    assert!(fails(&format!(r#"{dead}{{ expect = "keys" }}"#), with(&all)).contains("of node 2, incarnation 1"));
    holds(&format!(r#"{dead}{{ expect = "keys", node = "all" }}"#), with(&all));
}

#[test]
fn every_verb_reaches_the_world() {
    let more = r#"
        { do = "pause", node = 1 }, { do = "resume", node = 1 }, { do = "freeze", node = [1, 2] },
        { do = "thaw", node = [1, 2] }, { do = "reset", node = 2 }, { do = "leave", node = "master" },
        { do = "command", node = 0, text = "status", reply = "^jo.*d" },
        { do = "cut", from = 0, to = [1, 2] }, { do = "cut", from = 0, oneway = true },
        { do = "loss", percent = 12.5 }, { do = "duplicate", percent = 1, from = 1 },
        { do = "reorder", percent = 2 }, { do = "corrupt", percent = 3 },
        { do = "delay", ms = 4, jitter_ms = 5 }, { do = "heal" }, { do = "heal", from = 0, to = 1 },
        { do = "disk_cut", node = 0 }, { do = "disk_cut", node = 0, mode = "gone" },
        { do = "disk_delay", node = 0, ms = 7 }, { do = "disk_error", node = 0, op = "write", count = 3 },
        { do = "disk_tear", node = 0 }, { do = "disk_heal", node = 0 }, { do = "session_cut", node = [0, 1] },
        { do = "target_restart", off_ms = 30 }, { do = "target_restart" },
        { do = "inject", hex = ["ff ff", "00"], rate = 100, for_ms = 50 },
        { do = "inject", hostile = ["replayed", "altered"], rate = 10000, for_ms = 2000 },
        { do = "repeat", times = 2, steps = [{ do = "kill", node = 1 }, { do = "start", node = 1 }] },
        { do = "kill", node = "all" }, { do = "image", edit = "disable", node = 1 },
        { do = "image", edit = "damage-superblock" }, { do = "start", node = 0, as = 1 },
        { do = "start", node = 1, disk = false }, { do = "start", node = 2, identity = false }"#;
    let mut fake = world();
    fake.replies.insert("status".into(), "joined".into());
    let fake = holds(more, fake);
    let want = [
        "start 0",
        "start 1",
        "start 2",
        "pause 1",
        "resume 1",
        "freeze 1",
        "freeze 2",
        "thaw 1",
        "thaw 2",
        "reset 2",
        "leave 0",
        "command 0 status",
        "Cut from 0 to 1 2",
        "Cut from 0 to 0 1 2 oneway",
        "Loss { percent: 12.5 } from 0 1 2 to 0 1 2",
        "Duplicate { percent: 1.0 } from 1 to 0 1 2",
        "Reorder { percent: 2.0 } from 0 1 2 to 0 1 2",
        "Corrupt { percent: 3.0 } from 0 1 2 to 0 1 2",
        "Delay { ms: 4, jitter_ms: 5 } from 0 1 2 to 0 1 2",
        "heal all",
        "heal 0 to 1",
        "Stall 0",
        "Gone 0",
        "Delay(7) 0",
        "Error { write: true, count: Some(3), at: None } 0",
        "Tear { at: None, bytes: None } 0",
        "disk_heal 0",
        "Session 0",
        "Session 1",
        "target_restart 30",
        "target_restart 0",
        "inject [[255, 255], [0]] [] (5, 10000)",
        "inject [] [Replayed, Altered] (20000, 100)",
        "kill 1",
        "start 1",
        "kill 1",
        "start 1",
        "kill 0 1 2",
        "image Disable Some(N1)",
        "image DamageSuperblock None",
        "start 0 as 1",
        "start 1 without disk",
        "start 2 without identity",
    ];
    assert_eq!(fake.done, want);
}

#[test]
fn steps_are_traced_with_the_nodes_they_hit() {
    let fake = holds(r#"{ do = "kill", node = "master", save = "v" }, { do = "start", node = "$v" }"#, world());
    let steps: Vec<String> = fake
        .lines
        .iter()
        .filter(|l| l.ev == "step")
        .map(|l| format!("{} {} {}", l.fields["index"], l.fields["do"], l.fields["nodes"]))
        .collect();
    assert_eq!(steps, ["0 \"start\" [0,1,2]", "2 \"kill\" [0]", "3 \"start\" [0]"]);
    let asserts: Vec<_> = fake.lines.iter().filter(|l| l.ev == "assert").collect();
    assert_eq!(asserts.len(), 1);
    assert_eq!(asserts[0].fields["ok"], json!(true));
}

#[test]
fn what_cannot_be_done_fails_with_the_reason() {
    assert!(fails(r#"{ do = "start", node = 1 }"#, world()).contains("node 1 runs already"));
    assert!(fails(r#"{ do = "kill", node = 1 }, { do = "pause", node = 1 }"#, world()).contains("does not run"));
    holds(r#"{ do = "kill", node = 1 }, { do = "kill", node = 1 }"#, world());
    let mut fake = world();
    fake.replies.insert("status".into(), "joining".into());
    let text = fails(r#"{ do = "command", node = 0, text = "status", reply = "^joined$" }"#, fake);
    assert!(text.contains("replied to `status` not /^joined$/ but: joining"), "{text}");
    let kill_all = r#"{ do = "kill", node = "all" }, { do = "leave", node = "master" }"#;
    assert!(fails(kill_all, world()).contains("there is no master now"));
}

#[test]
fn a_halted_guest_is_started_again() {
    let halted = json!({"ev": "halt", "node": 1, "reason": "left gracefully"});
    let fake = world().on("leave 1", vec![(1, halted)]);
    let fake = holds(r#"{ do = "leave", node = 1 }, { do = "sleep", ms = 5 }, { do = "start", node = 1 }"#, fake);
    assert_eq!(fake.done[3..], ["leave 1", "kill 1", "start 1"]);
}

#[test]
fn a_verb_that_the_world_cannot_do_is_refused_by_name_before_anything_starts() {
    let s = scenario(
        "[[step]]\ndo = \"start\"\nnode = 0\n[[step]]\ndo = \"repeat\"\ntimes = 2\nsteps = [{ do = \"disk_tear\", node = 0 }]\n",
    );
    let fake = Fake { refused: Some("disk_tear"), ..Fake::default() };
    let problems = engine::check(&s, &fake).unwrap_err();
    assert_eq!(problems.to_string(), "test.toml:14:10: `disk_tear` cannot be done here: the fake has none");
    assert!(engine::check(&s, &Fake::default()).is_ok());
}

#[test]
fn an_interrupt_ends_a_wait() {
    let mut fake = Fake { interrupt: true, ..world() };
    let outcome = after_up("", &mut fake);
    assert_eq!(outcome.failure.unwrap().trouble, Trouble::Interrupted);
}

#[test]
fn chaos_makes_faults_ends_them_and_counts_them() {
    let mut fake = world();
    let more = r#"{ do = "chaos", for_ms = 20000, every_ms = 500, settle_every_ms = 5000, settle_ms = 1000,
        kinds = { cut = 2, pause = 1, disk_delay = 1 } }"#;
    let outcome = after_up(more, &mut fake);
    assert!(outcome.ok(), "{outcome:#?}");
    let total: u64 = outcome.injected.values().sum();
    assert!((10..80).contains(&total), "{:?}", outcome.injected);
    assert_eq!(outcome.injected.keys().map(String::as_str).collect::<Vec<_>>(), ["cut", "disk_delay", "pause"]);
    // Whatever was begun was ended.
    let count = |word: &str| fake.done.iter().filter(|d| d.starts_with(word)).count();
    assert_eq!(count("pause "), count("resume "));
    assert_eq!(count("Delay"), count("disk_heal "));
    assert!(count("heal all") >= 4, "once after each round: {:?}", fake.done);
    let said: Vec<_> = fake.lines.iter().filter(|l| l.ev == "chaos").collect();
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].fields["injected"]["cut"], json!(outcome.injected["cut"]));
    let steps = fake.lines.iter().filter(|l| l.ev == "step" && l.text("do") == Some("pause")).count();
    assert_eq!(steps, count("pause "), "every fault stands in the trace as a step");
    // The same seed does the same.
    let mut again = world();
    after_up(more, &mut again);
    assert_eq!(again.done, fake.done);
}

#[test]
fn chaos_fails_if_not_all_are_joined_after_the_healing() {
    let more = r#"{ do = "chaos", for_ms = 5000, every_ms = 500, settle_ms = 2000, kinds = { kill = 1 } }"#;
    // The one that is started again never says a word.
    let text = fails(more, world());
    assert!(text.contains("everything was healed, and not all of nodes 0 1 2 were joined within 2000 ms"), "{text}");
    assert!(text.contains("missing: "), "{text}");
}

#[test]
fn an_event_on_each_node_is_one_that_none_of_them_lacks() {
    holds(r#"{ expect = "event", ev = "view", node = "all", each = true, since = "start" }"#, world());
    let text = fails(r#"{ expect = "event", ev = "lock", node = [0, 1], each = true, since = "start" }"#, world());
    assert!(text.contains("on node 1") && !text.contains("on node 0"), "{text}");
}
