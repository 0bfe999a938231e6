//! The operator's words, on a cluster of one node: each answer ends with `ok` or is one line that says what was wrong; test
//! levels come and go at run time; what a level owes is named with its time, and at its deadline the node halts.

use std::collections::BTreeMap;

use quorate_base::capacity::{LEVELS_MAX, RECORD_BYTES, RECORD_PITCH};
use quorate_base::event::{Event, Record, TraceSink};
use quorate_base::level::LevelDecl;
use quorate_base::{
    BootNonce, ClusterId, DiskOp, DiskTag, HaltReason, Instant, NodeId, NodeSet, NodeState, Timing, Transition,
};
use quorate_database::{ClusterKey, MachineId, Name, NodeConfig, Superblock, layout};
use quorate_interconnect::Destination;
use quorate_master_lock::DiskGeometry;
use quorate_node::{Boot, Console, Input, Node, Output, Ports, Post, Probes};

const CLUSTER: ClusterId = ClusterId([7; 16]);

struct Nobody;
impl Post for Nobody {
    fn post(&mut self, _: Destination, _: &[u8]) {}
}

/// What the trace said of levels and stalls, a word each.
#[derive(Default)]
struct Said(Vec<String>);

impl TraceSink for Said {
    fn record(&mut self, record: &Record<'_>) {
        match &record.event {
            Event::Register { level, .. } => self.0.push(format!("register {level}")),
            Event::Deregister { level, .. } => self.0.push(format!("deregister {level}")),
            Event::Waiting(s) => self.0.push(format!("waiting {} {}", s.step.level, s.waited_ms / 1000)),
            Event::Overdue(s) => {
                assert_eq!((s.awaiting, s.step.name), (NodeSet::first(1), "late"));
                assert_eq!(s.step.subject.transition, Transition::Joining);
                self.0.push(format!("overdue {}", s.step.level));
            }
            Event::View { name, .. } => self.0.push(format!("view {}", name.number)),
            _ => {}
        }
    }
}

struct World {
    disk: BTreeMap<u64, [u8; RECORD_BYTES]>,
    node: Node,
    probes: Probes,
    said: Said,
    now: Instant,
    answer: Option<(DiskTag, Vec<u8>)>,
}

impl World {
    fn new() -> Self {
        let superblock = Superblock {
            generation: 1,
            cluster: CLUSTER,
            name: Name::new("test").unwrap(),
            timing: Timing::DEFAULT,
            nodes: 1,
            levels_max: 32,
            fence: Default::default(),
            key: ClusterKey([0; 32]),
        };
        let mut disk = BTreeMap::new();
        for copy in [0, 1] {
            disk.insert(layout::superblock(copy), superblock.encode(copy));
        }
        let me = NodeId::new(0).unwrap();
        disk.insert(layout::config(me), NodeConfig::named(Name::new("node").unwrap()).encode(CLUSTER, me));
        let boot = Boot {
            node: Some(me),
            machine: MachineId { uuid: Some([3; 16]), mac: Some([2, 0, 0, 0, 0, 1]) },
            nonce: BootNonce(42),
            cluster: None,
            geometry: DiskGeometry::default(),
            trace_writes: false,
        };
        let node = Node::new(boot, [LevelDecl::new(0, "membership")], "test", "").unwrap();
        let (probes, said) = (Probes::new(), Said::default());
        Self { disk, node, probes, said, now: Instant(1000), answer: None }
    }

    /// A node that has formed its cluster.
    fn joined() -> Self {
        let mut world = Self::new();
        world.pass(3000);
        assert_eq!(world.node.membership().map(|m| m.state()), Some(NodeState::Joined));
        world.said.0.clear();
        world
    }

    fn pass(&mut self, ms: u32) {
        let end = self.now.plus_ms(ms);
        while self.now < end && self.node.halted().is_none() {
            let mut ports = Ports { post: &mut Nobody, sink: &mut self.said };
            match self.answer.take() {
                Some((tag, bytes)) => {
                    self.node.handle(self.now, Input::Disk { tag, result: Ok(&bytes) }, &mut ports);
                }
                None => self.node.handle(self.now, Input::Tick, &mut ports),
            }
            while self.probes.poll(self.now, &mut self.node, &mut ports) {}
            self.now += 100;
            match self.node.poll_output() {
                Some(Output::Disk { tag, op }) => self.answer = Some((tag, self.disk_op(op))),
                Some(Output::Halt(_)) => break,
                None if self.answer.is_some() => {}
                None => self.now = self.now.max(self.node.poll_timeout().min(self.probes.poll_timeout())).min(end),
            }
        }
    }

    fn disk_op(&mut self, op: DiskOp) -> Vec<u8> {
        match op {
            DiskOp::Write { at, record, .. } => {
                self.disk.insert(at, record);
                Vec::new()
            }
            DiskOp::Read { first, count } => (first..first + u64::from(count))
                .flat_map(|at| {
                    let mut pitch = self.disk.get(&at).map_or_else(Vec::new, |record| record.to_vec());
                    pitch.resize(RECORD_PITCH as usize, 0);
                    pitch
                })
                .collect(),
        }
    }

    fn say(&mut self, line: &str) -> String {
        let mut text = String::new();
        let mut ports = Ports { post: &mut Nobody, sink: &mut self.said };
        let mut console = Console { node: &mut self.node, probes: &mut self.probes, ports: &mut ports };
        console.run(self.now, line, &mut text).unwrap();
        assert!(text.ends_with("ok\n") || text.matches('\n').count() == 1, "{line}: {text}");
        text
    }

    fn state_at(&self, order: u16) -> Option<NodeState> {
        let member = self.node.membership()?.member();
        member.state_at(quorate_base::LevelOrder(order), NodeId::new(0).unwrap())
    }
}

#[test]
fn every_word_is_answered_and_every_mistake_is_named() {
    let mut world = World::joined();
    for word in ["status", "waits", "help", " help "] {
        assert!(world.say(word).ends_with("ok\n"), "{word}");
    }
    assert!(world.say("waits").starts_with("nothing is waited for\n"));
    for (line, want) in [
        ("", "unknown command ''"),
        ("weights", "unknown command 'weights'"),
        ("status all", "'status' takes nothing, not 'all'"),
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
    assert_eq!(world.say("register 120:x:1:1:1:0:0:0"), "level 120: the node is not alive\n");
    assert_eq!(world.say("leave"), "leaving\nok\n");
    assert_eq!(world.node.halted(), Some(HaltReason::Left));
    assert_eq!(world.say("waits"), "halted: left gracefully\nok\n");
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
