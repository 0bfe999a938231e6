//! What the lines of a trace mean: transitions, pairs of notification and acknowledgement, terms, and what crosses nodes.

use std::fmt::Write;
use std::path::Path;

use quorate_report::{LifeEnd, StepEnd, Timeline, Trace, Transition, TransitionEnd, Verdict, perfetto};
use quorate_scenario::Scenario;
use quorate_sim::run_scenario;
use serde_json::{Value, json};

/// A trace that is written line by line; the Lamport clock follows the order of writing unless it is set.
#[derive(Default)]
struct Story {
    text: String,
    lc: u64,
}

impl Story {
    fn node(&mut self, t_us: u64, node: u8, ev: &str, fields: Value) -> &mut Self {
        self.lc += 1;
        self.at(t_us, node, self.lc, ev, fields)
    }

    fn at(&mut self, t_us: u64, node: u8, lc: u64, ev: &str, fields: Value) -> &mut Self {
        let mut line = json!({"t_us": t_us, "node": node, "inc": 1, "nt_us": t_us, "seq": lc, "lc": lc, "ev": ev});
        line.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        writeln!(self.text, "{line}").unwrap();
        self
    }

    fn harness(&mut self, t_us: u64, ev: &str, fields: Value) -> &mut Self {
        let mut line = json!({"t_us": t_us, "node": null, "inc": null, "nt_us": null, "seq": 0, "lc": null, "ev": ev});
        line.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        writeln!(self.text, "{line}").unwrap();
        self
    }

    fn view(&mut self, t_us: u64, node: u8, view: u64, states: Value) -> &mut Self {
        self.node(t_us, node, "view", json!({"ballot": 64, "view": view, "states": states, "incs": {"0": 1, "1": 1}}))
    }

    fn round(&mut self, t_us: u64, master: u8, level: u16, name: &str, subject: u8, kind: &str) -> &mut Self {
        let transitions = json!([{"subject": subject, "subject_inc": 1, "transition": kind}]);
        let fields = json!({"level": level, "round": name, "transitions": transitions, "participants": [0, 1]});
        self.node(t_us, master, "round", fields)
    }

    fn timeline(&self) -> Timeline {
        Timeline::of(&Trace::parse(self.text.as_bytes()).unwrap())
    }
}

fn step(level: u16, round: &str, subject: u8, kind: &str, barrier: u32) -> Value {
    json!({"level": level, "name": "probe", "round": round, "subject": subject, "subject_inc": 1, "transition": kind,
        "barrier": barrier})
}

fn state(level: Option<u16>, subject: u8, is: &str) -> Value {
    json!({"level": level, "subject": subject, "subject_inc": 1, "is": is})
}

/// Node 1 joins at level 60, two barriers, with node 0 as master; node 1 takes its time at the second.
fn join() -> Story {
    let mut story = Story::default();
    story
        .harness(0, "step", json!({"index": 0, "do": "start", "nodes": [1], "what": "do start node=1"}))
        .node(100, 0, "lock", json!({"phase": "acquired", "ballot": 64}))
        .view(1_000, 0, 1, json!({"0": "joined", "1": "joining"}))
        .round(1_100, 0, 60, "64.1", 1, "joining")
        .node(1_100, 0, "notify", step(60, "64.1", 1, "joining", 0))
        .node(1_200, 1, "notify", step(60, "64.1", 1, "joining", 0))
        .node(1_300, 1, "ack", step(60, "64.1", 1, "joining", 0))
        .node(1_400, 0, "ack", step(60, "64.1", 1, "joining", 0))
        .node(1_500, 0, "notify", step(60, "64.1", 1, "joining", 1))
        .node(1_600, 0, "ack", step(60, "64.1", 1, "joining", 1))
        .node(1_700, 1, "notify", step(60, "64.1", 1, "joining", 1))
        .node(9_700, 1, "ack", step(60, "64.1", 1, "joining", 1))
        .node(9_800, 0, "state", state(Some(60), 1, "joined"))
        .view(9_900, 0, 2, json!({"0": "joined", "1": "joined"}))
        .node(9_900, 0, "state", state(None, 1, "joined"))
        .node(9_950, 1, "state", state(Some(60), 1, "joined"));
    story
}

fn only(timeline: &Timeline, of: impl Fn(&Transition) -> bool) -> Transition {
    let found: Vec<_> = timeline.transitions.iter().filter(|t| of(t)).cloned().collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn a_join_has_its_duration_by_level_and_who_was_waited_for() {
    let timeline = join().timeline();
    let one = only(&timeline, |_| true);
    assert_eq!((one.subject, one.kind.as_str(), one.whole), (1, "joining", true));
    assert_eq!((one.from_us, one.to_us, one.end), (1_000, 9_900, TransitionEnd::Through));
    assert_eq!(one.cause, Some(("start node=1".to_owned(), 0)));
    let stage = &one.stages[0];
    assert_eq!((stage.level, stage.from_us, stage.to_us), (60, 1_100, Some(9_800)));
    let waited = stage.waited.as_ref().unwrap();
    assert_eq!((&waited.nodes[..], waited.us, waited.barrier, waited.answered), (&[1][..], 8_200, 1, true));
    let round = &timeline.rounds[0];
    assert_eq!((round.from_us, round.to_us, round.end), (1_100, 9_800, "through"));
    assert_eq!(timeline.views, 2);
}

#[test]
fn an_acknowledgement_answers_its_own_notification() {
    let timeline = join().timeline();
    let pairs: Vec<_> = timeline.steps.iter().map(|s| (s.node, s.barrier, s.from_us, s.to_us, s.end)).collect();
    assert_eq!(
        pairs,
        [
            (0, 0, 1_100, 1_400, StepEnd::Acked),
            (1, 0, 1_200, 1_300, StepEnd::Acked),
            (0, 1, 1_500, 1_600, StepEnd::Acked),
            (1, 1, 1_700, 9_700, StepEnd::Acked),
        ]
    );
}

#[test]
fn what_passes_between_nodes_is_an_arrow_from_cause_to_effect() {
    let timeline = join().timeline();
    // By line, from 0: the round tells node 1; its answer lets the master begin the second barrier; that tells node 1 again;
    // its answer lets the master say that node 1 is joined.
    assert_eq!(timeline.arrows, [(3, 5), (6, 8), (8, 10), (11, 12)]);
}

#[test]
fn a_trace_that_is_cut_off_leaves_open_what_was_under_way() {
    let text = join().text;
    let cut = text.find("9700").unwrap();
    let trace = Trace::parse(&text.as_bytes()[..cut]).unwrap();
    assert_eq!(trace.cut_off, Some(12));
    let timeline = Timeline::of(&trace);
    let one = only(&timeline, |_| true);
    assert_eq!((one.end, one.to_us, one.stages[0].to_us), (TransitionEnd::Open, 1_700, None));
    let waited = one.stages[0].waited.as_ref().unwrap();
    assert_eq!((&waited.nodes[..], waited.answered), (&[1][..], false));
    assert_eq!(timeline.steps.last().map(|s| (s.end, s.ack)), Some((StepEnd::Open, None)));
    assert_eq!((timeline.rounds[0].end, timeline.verdict), ("open", Verdict::Unfinished));
}

#[test]
fn a_node_that_is_killed_owes_what_it_was_told() {
    let mut story = join();
    story
        .view(20_000, 0, 3, json!({"0": "leaving", "1": "joined"}))
        .round(20_000, 0, 60, "64.2", 0, "leaving")
        .node(20_100, 1, "notify", step(60, "64.2", 0, "leaving", 0))
        .harness(20_200, "step", json!({"index": 1, "do": "kill", "nodes": [1], "what": ""}))
        .harness(30_000, "assert", json!({"index": 2, "ok": false, "what": "expect master"}))
        .harness(30_001, "end", json!({"ok": false}));
    let timeline = story.timeline();
    let last = timeline.steps.last().unwrap();
    assert_eq!((last.end, last.to_us), (StepEnd::Lost, 20_200));
    let life = timeline.lives.iter().find(|l| l.node == 1).unwrap();
    assert_eq!((life.end, life.to_us), (LifeEnd::Killed, 20_200));
    let leave = only(&timeline, |t| t.kind == "leaving");
    assert_eq!(leave.stages[0].waited.as_ref().map(|w| (w.nodes.clone(), w.answered)), Some((vec![1], false)));
    assert_eq!(timeline.verdict, Verdict::Failed(vec!["expect master".to_owned()]));
}

#[test]
fn a_round_that_a_new_master_issues_again_is_the_same_round() {
    let mut story = Story::default();
    story
        .node(10, 0, "lock", json!({"phase": "acquired", "ballot": 64}))
        .view(1_000, 0, 1, json!({"0": "joined", "1": "joining"}))
        .round(1_000, 0, 60, "64.1", 1, "joining")
        .harness(1_100, "step", json!({"index": 0, "do": "pause", "nodes": [0], "what": ""}))
        .node(5_000, 2, "lock", json!({"phase": "acquired", "ballot": 130}))
        .round(5_100, 2, 60, "64.1", 1, "joining")
        .node(5_200, 1, "notify", step(60, "64.1", 1, "joining", 0))
        .node(5_300, 1, "ack", step(60, "64.1", 1, "joining", 0))
        .node(5_400, 2, "state", state(Some(60), 1, "joined"))
        .node(9_000, 0, "lock", json!({"phase": "lost", "ballot": 64}));
    let timeline = story.timeline();
    assert_eq!(timeline.rounds.len(), 1);
    let masters: Vec<u8> = timeline.rounds[0].issued.iter().map(|(_, node)| *node).collect();
    assert_eq!((masters, timeline.rounds[0].end), (vec![0, 2], "through"));
    // The notification comes from the new master's word, not from the old one's.
    assert_eq!(timeline.arrows, [(5, 6), (7, 8)]);
    let terms: Vec<_> = timeline.terms.iter().map(|t| (t.node, t.from_us, t.to_us, t.end)).collect();
    assert_eq!(terms, [(0, 10, 5_000, "overtaken"), (2, 5_000, 9_000, "open")]);
    let paused = &timeline.spells[0];
    assert_eq!((paused.node, paused.from_us, paused.to_us), (0, 1_100, 9_000));
}

#[test]
fn a_line_that_was_received_late_belongs_where_its_clock_puts_it() {
    // The other node's view came before the master's own lines of the round.
    let mut story = Story::default();
    story.at(1_000, 0, 10, "view", json!({"ballot": 64, "view": 1, "states": {"1": "joining"}, "incs": {"1": 1}})).at(
        2_000,
        1,
        30,
        "view",
        json!({"ballot": 64, "view": 2, "states": {"1": "joined"}, "incs": {"1": 1}}),
    );
    story.lc = 14;
    story.round(2_100, 0, 60, "64.1", 1, "joining").node(2_200, 0, "state", state(Some(60), 1, "joined"));
    let timeline = story.timeline();
    let one = only(&timeline, |_| true);
    assert!(one.whole);
    assert_eq!((one.end, one.stages.len()), (TransitionEnd::Through, 1));
    assert_eq!(one.stages[0].to_us, Some(2_200));
}

#[test]
fn a_level_that_comes_at_run_time_has_a_transition_of_its_own() {
    let mut story = join();
    story
        .harness(
            19_000,
            "step",
            json!({"index": 1, "do": "command", "nodes": [1], "what": "register 120:x:1:1:1:0:0:0"}),
        )
        .round(20_000, 0, 120, "64.9", 1, "joining")
        .node(20_500, 0, "state", state(Some(120), 1, "joined"));
    let timeline = story.timeline();
    let local = only(&timeline, |t| !t.whole);
    assert_eq!((local.from_us, local.to_us, local.end), (20_000, 20_500, TransitionEnd::Through));
    assert_eq!(local.stages[0].level, 120);
    assert_eq!(local.cause.map(|c| c.1), Some(19_000));
    let whole = only(&timeline, |t| t.whole);
    assert_eq!(whole.stages.len(), 1, "the join of the node has nothing to do with it");
}

#[test]
fn a_join_that_becomes_a_forced_leave_is_overtaken() {
    let mut story = Story::default();
    story
        .view(1_000, 0, 1, json!({"0": "joined", "1": "joining"}))
        .harness(1_500, "step", json!({"index": 0, "do": "kill", "nodes": [1], "what": ""}))
        .node(1_700, 0, "suspect", json!({"peer": 1, "via": "disk"}))
        .view(2_000, 0, 2, json!({"0": "joined", "1": "forced-leaving"}))
        .view(3_000, 0, 3, json!({"0": "joined", "1": "inactive"}));
    let timeline = story.timeline();
    let join = only(&timeline, |t| t.kind == "joining");
    assert_eq!((join.end, join.to_us), (TransitionEnd::Overtaken, 2_000));
    let leave = only(&timeline, |t| t.kind == "forced-leaving");
    assert_eq!((leave.end, leave.to_us), (TransitionEnd::Through, 3_000));
    assert_eq!((leave.cause, leave.suspected_us), (Some(("kill 1".to_owned(), 1_500)), Some(1_700)));
}

/// What a scenario leaves behind in the simulator.
fn played(name: &str) -> Trace {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name);
    let scenario = &Scenario::read(&file).unwrap()[0];
    let (outcome, lines) = run_scenario(scenario, scenario.seed);
    assert!(outcome.ok());
    Trace::new(lines.iter().map(|l| (**l).clone()).collect())
}

#[test]
fn ep_figures_kill_the_master_as_it_was_played() {
    let trace = played("kill-the-master.toml");
    let timeline = Timeline::of(&trace);
    assert_eq!(timeline.verdict, Verdict::Held);
    assert_eq!(timeline.terms.len(), 2);
    let (old, new) = (&timeline.terms[0], &timeline.terms[1]);
    let leave = only(&timeline, |t| t.kind == "forced-leaving");
    assert_eq!(leave.subject, old.node);
    assert!(leave.cause.as_ref().is_some_and(|(what, _)| what.starts_with("kill")));
    assert!(old.end == "ended" && new.from_us > old.to_us && new.node != old.node);
    let killed = timeline.lives.iter().find(|l| l.end == LifeEnd::Killed).unwrap();
    assert_eq!((killed.node, killed.to_us), (old.node, old.to_us));
    assert_eq!(timeline.transitions.iter().filter(|t| t.kind == "joining").count(), 3);
    for t in &timeline.transitions {
        assert_eq!(t.end, TransitionEnd::Through);
        let levels: Vec<u16> = t.stages.iter().map(|s| s.level).collect();
        assert_eq!(levels, [0, 60, 70]);
        assert!(t.stages.iter().all(|s| s.to_us.is_some() && s.waited.as_ref().is_some_and(|w| w.answered)));
    }
    // Every notification that a live node got was answered, and nothing is drawn against the clock.
    assert!(timeline.steps.iter().all(|s| s.end == StepEnd::Acked && s.to_us >= s.from_us));
    let lc = |at: usize| trace.lines[at].lc.unwrap();
    assert!(timeline.arrows.iter().all(|(from, to)| lc(*from) < lc(*to)));
    let told_elsewhere = timeline.steps.iter().filter(|s| {
        let round = timeline.rounds.iter().find(|r| r.name == s.round).unwrap();
        round.issued.iter().all(|(_, master)| *master != s.node)
    });
    assert_eq!(timeline.arrows.len(), 2 * told_elsewhere.count(), "there and back");
}

#[test]
fn perfetto_slices_of_a_thread_nest_and_arrows_end_at_slices() {
    for name in ["kill-the-master.toml", "barriers-figure-2.toml", "run-time-levels.toml"] {
        let trace = played(name);
        let timeline = Timeline::of(&trace);
        let json: Value = serde_json::from_str(&perfetto(&trace, &timeline)).unwrap();
        let events = json["traceEvents"].as_array().unwrap();
        let of = |ph: &str| events.iter().filter(|e| e["ph"] == ph).collect::<Vec<_>>();
        let place = |e: &Value| (e["pid"].as_u64().unwrap(), e["tid"].as_u64().unwrap());
        let span = |e: &Value| {
            let ts = e["ts"].as_u64().unwrap();
            (ts, ts + e["dur"].as_u64().unwrap())
        };
        let slices = of("X");
        assert!(slices.len() > timeline.steps.len());
        for a in &slices {
            for b in slices.iter().filter(|b| place(b) == place(a)) {
                let ((a0, a1), (b0, b1)) = (span(a), span(b));
                assert!(a1 <= b0 || b1 <= a0 || (a0 <= b0 && b1 <= a1) || (b0 <= a0 && a1 <= b1), "{a} {b}");
            }
        }
        let (starts, ends) = (of("s"), of("f"));
        assert_eq!(starts.len(), ends.len());
        assert_eq!(starts.len(), timeline.arrows.len() + timeline.steps.iter().filter(|s| s.ack.is_some()).count());
        for end in starts.iter().chain(&ends) {
            let ts = end["ts"].as_u64().unwrap();
            let inside = |s: &&&Value| place(s) == place(end) && span(s).0 <= ts && ts <= span(s).1;
            assert!(slices.iter().any(|s| inside(&s)), "{end}");
        }
        let named: Vec<&Value> = of("M").into_iter().filter(|e| e["name"] == "thread_name").collect();
        assert!(slices.iter().all(|s| named.iter().any(|n| place(n) == place(s))), "every thread has a name");
    }
}
