//! The operator's words, on a cluster of one node: each answer ends with `ok` or is one line that says what was wrong; test
//! levels come and go at run time; what a level owes is named with its time, and at its deadline the node halts.

use quorate_base::capacity::LEVELS_MAX;
use quorate_base::{HaltReason, NodeState};

use crate::world::World;

#[test]
fn every_word_is_answered_and_every_mistake_is_named() {
    let mut world = World::joined();
    for word in ["status", "waits", "help", " help ", "why 0", "who-is-master", "history"] {
        assert!(world.say(word).ends_with("ok\n"), "{word}");
    }
    assert!(world.say("waits").starts_with("nothing is waited for\n"));
    for (line, want) in [
        ("", "unknown command ''"),
        ("weights", "unknown command 'weights'"),
        ("status all", "'status' takes nothing, not 'all'"),
        ("history 3", "'history' takes nothing, not '3'"),
        ("who-is-master?", "unknown command 'who-is-master?'"),
        ("why", "'' is no node of this cluster; try 'why 0' to 'why 0'"),
        ("why 1", "'1' is no node of this cluster"),
        ("why -1", "'-1' is no node of this cluster"),
        ("why me", "'me' is no node of this cluster"),
        ("register", "a level takes ORDER:NAME"),
        ("register 120:x:0:1:1:0:0:0", "1 to 16 barriers"),
        ("register 80:x:1:1:1:0:0:0", "level 80: a run-time level's order is 100 or more"),
        ("deregister x", "'x' is no level's order"),
        ("deregister 120", "level 120: no level of this node"),
        ("drop 0", "level 0: this level was not registered at run time"),
    ] {
        let got = world.say(line);
        assert!(got.contains(want) && !got.ends_with("ok\n"), "{line}: {got}");
    }
    assert!(world.said.0.is_empty(), "{:?}", world.said.0);
}

#[test]
fn a_node_that_is_being_born_says_so_and_registers_nothing() {
    let mut world = World::new();
    assert!(world.say("waits").contains("waits: being born: "));
    assert!(world.say("status").contains("being born: "));
    for word in ["why 0", "why", "who-is-master"] {
        let answer = world.say(word);
        assert!(answer.starts_with("this node is being born: "), "{word}: {answer}");
    }
    assert_eq!(world.say("history"), "nothing yet: this life of the node has seen no transition\nok\n");
    assert_eq!(world.say("register 120:x:1:1:1:0:0:0"), "level 120: the node is not alive\n");
    assert_eq!(world.say("leave"), "leaving\nok\n");
    assert_eq!(world.node.halted(), Some(HaltReason::Left));
    assert_eq!(world.say("waits"), "halted: left gracefully\nok\n");
}

#[test]
fn mission_h8_a_node_alone_says_who_is_master_and_how_it_came() {
    let mut world = World::joined();
    let who = world.say("who-is-master");
    assert!(who.starts_with("node 0 is master: ballot 64, view 2, known for "), "{who}");
    let why = world.say("why 0");
    assert!(why.starts_with("node 0 is in: joined as incarnation 1 (view 2)\n"), "{why}");
    assert!(why.contains(" ms ago: node 0 joining, incarnation 1: it asked; after "), "{why}");
    let history = world.say("history");
    let lines: Vec<&str> = history.lines().collect();
    assert!(lines[0].ends_with(" ms ago: node 0 is master, ballot 64"), "{history}");
    assert!(lines[1].contains(" ms ago: node 0 joining, incarnation 1: it asked; after "), "{history}");
    assert_eq!((lines[2], lines.len()), ("ok", 3));
}

#[test]
fn mission_h8_why_names_what_a_level_owes_and_what_froze_the_node() {
    let mut world = World::joined();
    assert_eq!(world.say("register 120:service:2:2:1:50:0:0"), "ok\n");
    world.pass(10);
    let why = world.say("why 0");
    assert!(why.contains("waits: node 0 joining at level 120 (service) barrier 0 round "), "{why}");
    world.pass(300);
    assert!(!world.say("why 0").contains("waits: "));
    world.stalled = true;
    world.pass(1500);
    let who = world.say("who-is-master");
    assert!(who.contains("but it may not act now: its lease has run out"), "{who}");
    assert!(world.say("why 0").contains("waits: the shared disk"));
}

#[test]
fn mission_a3_a_level_comes_at_run_time_and_goes() {
    let mut world = World::joined();
    assert_eq!(world.say("register 120:service:2:2:1:50:0:0"), "ok\n");
    assert!(world.say("register 120:service:2:2:1:50:0:0").contains("level 120: another level"));
    world.pass(300);
    assert_eq!(world.state_at(120), Some(NodeState::Joined));
    assert_eq!(world.say("deregister 120"), "ok\n");
    world.pass(60);
    let waits = world.say("waits");
    assert!(waits.contains("node 0 leaving at level 120 (service) barrier 1 round "), "{waits}");
    assert!(waits.contains("told 10 ms ago, this node's level has not acknowledged"), "{waits}");
    world.pass(100);
    assert_eq!(world.state_at(120), None);
    assert_eq!(world.say("register 120:service:1:1:1:0:0:0"), "ok\n");
    world.pass(10);
    assert_eq!(world.state_at(120), Some(NodeState::Joined), "another life of that level, with other barriers");
    assert_eq!(world.say("drop 120"), "ok\n");
    assert_eq!(world.state_at(120), None);
    world.pass(500);
    assert_eq!(world.said.0, ["register 120", "deregister 120", "register 120", "deregister 120"], "no view");
    assert!(world.say("waits").starts_with("nothing is waited for\n"));
}

#[test]
fn there_is_room_for_as_many_levels_as_the_node_takes() {
    let mut world = World::joined();
    for order in 0..LEVELS_MAX as u16 - 1 {
        assert_eq!(world.say(&format!("register {}:x:1:1:1:0:0:0", 100 + order)), "ok\n");
        world.pass(10);
    }
    assert_eq!(world.say("register 200:x:1:1:1:0:0:0"), "level 200: this node has 32 levels already\n");
    assert_eq!(world.say("deregister 100"), "ok\n");
    world.pass(50);
    assert_eq!(world.say("register 200:x:1:1:1:0:0:0"), "ok\n");
}

#[test]
fn what_a_level_owes_is_reported_and_at_its_deadline_the_master_halts() {
    let mut world = World::joined();
    assert_eq!(world.say("register 120:late:1:1:1:0:1:0:4500"), "ok\n");
    world.pass(2600);
    assert_eq!(world.said.0, ["register 120", "waiting 120 1", "waiting 120 2"]);
    let waits = world.say("waits");
    assert!(waits.contains("told 2600 ms ago, this node's level has not acknowledged"), "{waits}");
    let master =
        "waits: node 0 joining at level 120 (late) barrier 0 round 64.2: for 2600 ms no acknowledgement from node 0\n";
    assert!(waits.contains(master), "{waits}");
    world.pass(1000);
    assert_eq!(world.node.halted(), None);
    world.pass(1000);
    assert_eq!(world.node.halted(), Some(HaltReason::LevelOverdue { level: 120 }));
    assert_eq!(world.said.0[3..], ["waiting 120 4", "overdue 120", "deregister 120"]);
}
