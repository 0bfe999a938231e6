//! Pictures of given beliefs at two sizes: what must stand where, not how all of it looks.

use std::sync::Arc;

use quorate_base::{NodeId, NodeSet};
use quorate_launch::MachineState;
use quorate_trace::Line;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use serde_json::{Value, json};

use super::draw::{HEIGHT_MIN, Palette, WIDTH_MIN, draw};
use super::facts::Facts;
use super::keys::Ui;
use super::status::{Heard, Said};
use crate::view::{Changes, Told};

/// A line of a trace, with what all lines have.
pub fn line(t_ms: u64, mut fields: Value) -> Arc<Line> {
    let common = json!({"t_us": t_ms * 1000, "inc": 1, "nt_us": 0, "seq": 0, "lc": 0});
    if let (Some(to), Some(from)) = (fields.as_object_mut(), common.as_object()) {
        for (key, value) in from {
            to.entry(key).or_insert(value.clone());
        }
    }
    Arc::new(Line::parse(&fields.to_string()).unwrap())
}

fn n(id: u8) -> NodeId {
    NodeId::new(id).unwrap()
}

/// Three nodes: 0 and 1 are joined, 1 is master, 2 joins and stands at the second barrier of level 70.
fn facts() -> Facts {
    let mut facts = Facts::new(NodeSet::first(3), "fence lease · tcg".to_owned());
    let mut changes = Changes::default();
    for node in facts.nodes {
        facts.begin(node, 100_000);
        facts.machine_mut(node).state = Some(MachineState::Running);
    }
    let view = json!({"ballot": 65, "view": 4, "states": {"0": "joined", "1": "joined", "2": "joining"}, "incs": {"0": 1, "1": 1, "2": 1}});
    let mut lines = Vec::new();
    for node in 0..3 {
        lines.push(line(200, json!({"node": node, "ev": "boot", "version": "", "cmdline": ""})));
        for (level, name) in [(0, "membership"), (60, "probe-a"), (70, "probe-b")] {
            lines
                .push(line(210, json!({"node": node, "ev": "register", "level": level, "name": name, "barriers": {}})));
        }
    }
    lines.push(line(300, json!({"node": 1, "ev": "lock", "phase": "acquired", "ballot": 65})));
    for node in 0..3 {
        let mut own = json!({"node": node, "ev": "view"});
        own.as_object_mut().unwrap().extend(view.as_object().unwrap().clone());
        lines.push(line(310, own));
    }
    for level in [0, 60] {
        lines.push(line(
            320,
            json!({"node": 1, "ev": "state", "level": level, "subject": 2, "subject_inc": 1, "is": "joined"}),
        ));
    }
    let step = |node: u8, ev: &str| {
        line(
            400,
            json!({"node": node, "ev": ev, "level": 70, "name": "probe-b", "round": "65.9", "barrier": 1, "subject": 2,
            "subject_inc": 1, "transition": "joining"}),
        )
    };
    lines.push(line(
        399,
        json!({"node": 1, "ev": "round", "level": 70, "round": "65.9", "participants": [0, 1, 2], "transitions": []}),
    ));
    lines.extend([step(1, "notify"), step(0, "notify"), step(1, "ack"), step(0, "ack")]);
    lines.iter().for_each(|line| facts.take(line, &mut changes));
    facts.now_us = 2_400_000;
    let peers = |a: u8, b: u8| {
        [(a, Heard { net_ms: Some(12), disk_ms: Some(140) }), (b, Heard { net_ms: Some(99), disk_ms: None })]
    };
    let said = Said { lease_ms: Some(1320), peers: peers(0, 2).into(), ..Said::default() };
    facts.machine_mut(n(1)).said = Some((2_300_000, said));
    for (at, total) in [(1_000_000, 0), (2_000_000, 41)] {
        facts.machine_mut(n(0)).frames.0.read(at, total);
        facts.machine_mut(n(0)).frames.1.read(at, total * 2);
    }
    facts
}

fn picture(width: u16, height: u16, facts: &Facts, ui: &Ui, colours: bool) -> (Vec<String>, Vec<Color>) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, facts, ui, Palette { colours })).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(width));
    let text = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()).collect();
    (text, buffer.content().iter().map(|cell| cell.fg).collect())
}

fn rows(width: u16, height: u16, facts: &Facts, ui: &Ui) -> Vec<String> {
    picture(width, height, facts, ui, true).0
}

/// The first row that has all of these, in this order.
fn row<'r>(rows: &'r [String], words: &[&str]) -> &'r str {
    let has = |row: &&String| {
        let mut rest = row.as_str();
        words.iter().all(|word| rest.split_once(word).map(|(_, after)| rest = after).is_some())
    };
    rows.iter().find(has).unwrap_or_else(|| panic!("no row with {words:?} in\n{}", rows.join("\n")))
}

#[test]
fn all_of_it_is_there_in_eighty_by_twenty_four() {
    let (facts, ui) = (facts(), Ui::default());
    let rows = rows(80, 24, &facts, &ui);
    row(&rows, &["Quorate", "2 of 3 nodes joined", "view 4", "ballot 65", "master 1", "2.4 s"]);
    row(&rows, &["node", "machine", "inc", "state", "0 membership", "60 probe-a", "70 probe-b", "frm/s", "io/s"]);
    row(&rows, &[">0", "runs", "1", "joined", "joined", "joined", "joined", "123", "–"]);
    row(&rows, &["1*", "runs"]);
    row(&rows, &["2", "runs", "joining", "joined", "joined", "join b1 2/3", "–", "–"]);
    row(&rows, &["hears", "under way"]);
    row(&rows, &["1", "12/140", "lease 1320", "99/–"]);
    row(&rows, &[">0", "–/–", "│ 2 joining at 70 b1: waits for 2, 2.0 s"]);
    row(&rows, &["2 ██", "5/7 probe-b, 2.3 s"]);
    row(&rows, &["groups –"]);
    row(&rows, &["0.300 s  node 1 is master, ballot 65"]);
    row(&rows, &["k kill p pause r restart l leave c cut h heal d disk f log : type ? help q quit"]);
    assert_eq!(rows.len(), 24);
}

#[test]
fn a_wide_screen_tells_directions_and_the_run() {
    let rows = rows(120, 40, &facts(), &Ui::default());
    row(&rows, &["master 1", "fence lease · tcg", "2.4 s"]);
    row(&rows, &["frm out", "frm in", "reads/s", "wrts/s"]);
    row(&rows, &[">0", "joined", " 41", " 82", "–", "–"]);
    row(&rows, &["2", "join b1 2/3"]);
}

#[test]
fn trouble_is_said_in_words_and_signs_and_not_by_colour_alone() {
    let mut facts = facts();
    let mut changes = Changes::default();
    facts.set_cut(n(1), n(0), true);
    facts.take(&line(900, json!({"node": 1, "ev": "suspect", "peer": 0, "via": "net"})), &mut changes);
    facts.take(&line(950, json!({"node": 0, "ev": "freeze", "why": "lease"})), &mut changes);
    facts.machine_mut(n(0)).stalled = true;
    facts.machine_mut(n(2)).state = Some(MachineState::Killed);
    let (rows, colours) = picture(80, 24, &facts, &Ui::default(), true);
    row(&rows, &["1", "!12/140x", "lease"]);
    row(&rows, &[">0", "FROZEN", "STALL"]);
    row(&rows, &["2", "killed"]);
    row(&rows, &["links cut: 0-1"]);
    row(&rows, &["disk stalled: node 0"]);
    row(&rows, &["node 0 FROZEN"]);
    assert!(colours.contains(&Color::Red) && colours.contains(&Color::Green));
    let (plain, colours) = picture(80, 24, &facts, &Ui::default(), false);
    assert_eq!(plain, rows);
    assert!(colours.iter().all(|c| *c == Color::Reset), "NO_COLOR is kept");
    // Thawed, healed and heard again: nothing of it is left.
    facts.set_cut(n(0), n(1), false);
    facts.take(&line(990, json!({"node": 1, "ev": "trust", "peer": 0, "via": "net"})), &mut changes);
    facts.take(&line(991, json!({"node": 0, "ev": "thaw", "why": "beat"})), &mut changes);
    facts.machine_mut(n(0)).stalled = false;
    let rows = picture(80, 24, &facts, &Ui::default(), true).0;
    row(&rows, &[">0", "runs"]);
    assert!(!rows.iter().any(|r| r.contains("cut:") || r.contains("STALL") || r.contains('!')), "{}", rows.join("\n"));
}

#[test]
fn what_a_node_said_long_ago_is_not_shown() {
    let mut facts = facts();
    facts.now_us += 5_000_000;
    let rows = rows(80, 24, &facts, &Ui::default());
    assert!(
        !rows.iter().any(|r| r.contains("12/140") || r.contains("lease 1320") || r.contains("123")),
        "{}",
        rows.join("\n")
    );
}

#[test]
fn the_log_is_filtered_by_node_and_scrolls() {
    let mut facts = facts();
    (0..60).for_each(|i| facts.tell(Told { text: format!("of two {i}"), about: NodeSet::only(n(2)), grave: false }));
    facts.tell(Told { text: "of one".into(), about: NodeSet::only(n(1)), grave: true });
    facts.tell(Told::all("> of all"));
    let mut ui = Ui { filter: Some(n(1)), ..Ui::default() };
    let filtered = rows(80, 24, &facts, &ui);
    row(&filtered, &["log of node 1"]);
    row(&filtered, &["of one"]);
    row(&filtered, &["> of all"]);
    assert!(!filtered.iter().any(|r| r.contains("of two")));
    facts.tell(Told::all(format!("{}the end", "long ".repeat(20))));
    let long = rows(80, 24, &facts, &Ui::default());
    row(&long, &["long long"]);
    row(&long, &["              long", "the end"]);
    ui = Ui { scroll: 22, ..Ui::default() };
    let back = rows(80, 24, &facts, &ui);
    row(&back, &["log, 22 lines below"]);
    row(&back, &["of two 41"]);
    assert!(!back.iter().any(|r| r.contains("of one")));
}

#[test]
fn the_command_line_shows_what_is_open() {
    let ui = Ui { line: Some("cut 0 ".into()), choices: vec!["1".into(), "2".into()], ..Ui::default() };
    let rows = rows(80, 24, &facts(), &ui);
    assert_eq!((rows[22].as_str(), rows[23].as_str()), ("1  2", ":cut 0"));
}

#[test]
fn the_help_names_every_verb_and_fits() {
    let rows = rows(80, 24, &facts(), &Ui { help: true, ..Ui::default() });
    for verb in crate::commands::VERBS {
        row(&rows, &[verb.key, &verb.form(), verb.does()]);
    }
    row(&rows, &["at barrier 1, 2 of 3 have acknowledged"]);
}

#[test]
fn a_terminal_that_is_too_small_is_told_so() {
    row(&rows(40, 10, &facts(), &Ui::default()), &["this terminal has 40×10 characters"]);
}

#[test]
fn sixty_four_nodes_and_many_levels_are_scrolled() {
    let mut facts = facts();
    let mut changes = Changes::default();
    facts.nodes = NodeSet::first(64);
    for level in (100_u16..).step_by(10).take(12) {
        let name = format!("level{level}");
        facts.take(
            &line(500, json!({"node": 0, "ev": "register", "level": level, "name": name, "barriers": {}})),
            &mut changes,
        );
    }
    let mut ui = Ui { selected: n(63), ..Ui::default() };
    let rows_at = rows(80, 24, &facts, &ui);
    row(&rows_at, &[">63", "off"]);
    row(&rows_at, &["0 membership", "+12>"]);
    ui.levels_left = 14;
    row(&rows(80, 24, &facts, &ui), &["190 level190", "200 level200", "210 level210"]);
    // Whatever the size, the keys stand in the last row, or it is said that there is no room.
    ui.choices = vec!["63".into()];
    for (width, height) in (1..140).step_by(7).flat_map(|w| (1..50).step_by(3).map(move |h| (w, h))) {
        let rows_at = rows(width, height, &facts, &ui);
        if width >= WIDTH_MIN && height >= HEIGHT_MIN {
            assert!(rows_at.last().is_some_and(|r| r.starts_with("k kill")), "{width}×{height}");
        } else {
            assert!("this terminal".starts_with(rows_at[0].get(..1).unwrap_or("t")), "{width}×{height}");
        }
        for open in [Ui { help: true, ..ui.clone() }, Ui { line: Some("kill 6".into()), ..ui.clone() }] {
            assert_eq!(rows(width, height, &facts, &open).len(), usize::from(height));
        }
    }
}
