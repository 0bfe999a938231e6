//! A cluster of one node on virtual time, with a disk that answers at once or not at all.

use std::collections::BTreeMap;

use quorate_base::capacity::{RECORD_BYTES, RECORD_PITCH};
use quorate_base::event::{Event, Record, TraceSink};
use quorate_base::level::LevelDecl;
use quorate_base::{BootNonce, ClusterId, DiskOp, DiskTag, Instant, NodeId, NodeSet, NodeState, Timing, Transition};
use quorate_database::{ClusterKey, MachineId, Name, NodeConfig, Superblock, layout};
use quorate_interconnect::Destination;
use quorate_master_lock::DiskGeometry;
use quorate_node::{Boot, Console, Input, Node, Output, Ports, Post, Probes};

const CLUSTER: ClusterId = ClusterId([7; 16]);

pub struct Nobody;
impl Post for Nobody {
    fn post(&mut self, _: Destination, _: &[u8]) {}
}

/// What the trace said of levels and stalls, a word each.
#[derive(Default)]
pub struct Said(pub Vec<String>);

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

pub struct World {
    pub disk: BTreeMap<u64, [u8; RECORD_BYTES]>,
    pub node: Node,
    pub probes: Probes,
    pub said: Said,
    pub now: Instant,
    pub answer: Option<(DiskTag, Vec<u8>)>,
    /// The disk answers nothing, and the node's turns go on.
    pub stalled: bool,
}

impl World {
    pub fn new() -> Self {
        let superblock = Superblock {
            generation: 1,
            cluster: CLUSTER,
            name: Name::new("test").unwrap(),
            timing: Timing::DEFAULT,
            nodes: 1,
            levels_max: 32,
            fence: Default::default(),
            preempted: Default::default(),
            registrants: Default::default(),
            blanks: Default::default(),
            key: ClusterKey([0; 32]),
            key_epoch: 0,
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
        Self { disk, node, probes, said, now: Instant(1000), answer: None, stalled: false }
    }

    /// A node that has formed its cluster.
    pub fn joined() -> Self {
        let mut world = Self::new();
        world.pass(3000);
        assert_eq!(world.node.membership().map(|m| m.state()), Some(NodeState::Joined));
        world.said.0.clear();
        world
    }

    pub fn pass(&mut self, ms: u32) {
        let end = self.now.plus_ms(ms);
        while self.now < end && self.node.halted().is_none() {
            let mut ports = Ports { post: &mut Nobody, sink: &mut self.said };
            match self.answer.take_if(|_| !self.stalled) {
                Some((tag, bytes)) => {
                    self.node.handle(self.now, Input::Disk { tag, result: Ok(&bytes) }, &mut ports);
                }
                None => self.node.handle(self.now, Input::Tick, &mut ports),
            }
            while self.probes.poll(self.now, &mut self.node, &mut ports) {}
            self.now += 100;
            match self.node.poll_output() {
                Some(Output::Disk { tag, op }) => self.answer = Some((tag, self.disk_op(op))),
                Some(Output::Reservation { op, .. }) => panic!("{op:?} on a database with leases"),
                Some(Output::Halt(_)) => break,
                None if self.answer.is_some() && !self.stalled => {}
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

    pub fn say(&mut self, line: &str) -> String {
        let mut text = String::new();
        let mut ports = Ports { post: &mut Nobody, sink: &mut self.said };
        let mut console = Console { node: &mut self.node, probes: &mut self.probes, groups: None, ports: &mut ports };
        console.run(self.now, line, &mut text).unwrap();
        assert!(text.ends_with("ok\n") || text.matches('\n').count() == 1, "{line}: {text}");
        text
    }

    pub fn state_at(&self, order: u16) -> Option<NodeState> {
        let member = self.node.membership()?.member();
        member.state_at(quorate_base::LevelOrder(order), NodeId::new(0).unwrap())
    }
}
