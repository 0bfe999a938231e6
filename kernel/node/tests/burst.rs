//! More datagrams in a row than a node keeps messages for its group services ([`Groups::make_room`]), on virtual time.

use std::collections::BTreeMap;

use quorate_base::capacity::{RECORD_BYTES, RECORD_PITCH};
use quorate_base::event::{Record, TraceSink};
use quorate_base::{BootNonce, ClusterId, DiskOp, DiskTag, Instant, LevelDecl, NodeId, Timing};
use quorate_database::{ClusterKey, MachineId, Name, NodeConfig, Superblock, layout};
use quorate_interconnect::Destination;
use quorate_master_lock::DiskGeometry;
use quorate_node::{Boot, Console, Groups, Input, Node, Output, Ports, Post, Probes};

const CLUSTER: ClusterId = ClusterId([7; 16]);
const NODES: u8 = 2;
/// The master orders what jobs send; the other node takes it.
const SEQUENCER: usize = 0;
const TAKER: usize = 1;

struct NoTrace;

impl TraceSink for NoTrace {
    fn record(&mut self, _: &Record<'_>) {}
}

/// What a node posted, whoever it is for: of two nodes it is the other one.
#[derive(Clone, Default)]
struct Wire(Vec<Vec<u8>>);

impl Post for Wire {
    fn post(&mut self, _: Destination, datagram: &[u8]) {
        self.0.push(datagram.to_vec());
    }
}

/// Whether a datagram is on the channel of group services (PROTOCOL, "Envelope").
fn is_group(datagram: &[u8]) -> bool {
    datagram[6] == 2
}

#[derive(Clone)]
struct Machine {
    node: Box<Node>,
    groups: Box<Groups>,
    wire: Wire,
    answer: Option<(DiskTag, Vec<u8>)>,
}

impl Machine {
    fn new(id: NodeId) -> Self {
        let boot = Boot {
            node: Some(id),
            machine: MachineId { uuid: Some([id.get() + 1; 16]), mac: None },
            nonce: BootNonce(42 + u64::from(id.get())),
            cluster: None,
            geometry: DiskGeometry::default(),
            trace_writes: false,
        };
        let levels = [LevelDecl::new(0, "membership"), quorate_groups::LEVEL];
        let node = Box::new(Node::new(boot, levels, "test", "").unwrap());
        Self { node, groups: Box::default(), wire: Wire::default(), answer: None }
    }

    fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.node.handle(now, input, &mut Ports { post: &mut self.wire, sink: &mut NoTrace });
    }

    fn poll(&mut self, now: Instant) {
        let mut ports = Ports { post: &mut self.wire, sink: &mut NoTrace };
        while self.groups.poll(now, &mut self.node, &mut ports) {}
    }

    /// Takes datagrams one after another; with room made after each, or without.
    fn burst(&mut self, now: Instant, datagrams: &[Vec<u8>], room: bool) {
        for datagram in datagrams {
            self.handle(now, Input::Datagram(datagram));
            if room {
                let mut ports = Ports { post: &mut self.wire, sink: &mut NoTrace };
                self.groups.make_room(now, &mut self.node, &mut ports);
            }
        }
    }

    /// What it said to group services of the other node since this was last asked.
    fn said(&mut self) -> usize {
        std::mem::take(&mut self.wire.0).iter().filter(|datagram| is_group(datagram)).count()
    }

    /// The last place in the order up to which it has all frames.
    fn held(&self) -> u64 {
        let engine = self.groups.engine().unwrap();
        engine.tables().order + engine.queues().0
    }

    fn say(&mut self, now: Instant, line: &str) -> String {
        let mut text = String::new();
        let (node, probes, groups) = (&mut *self.node, &mut Probes::new(), Some(&mut *self.groups));
        let ports = &mut Ports { post: &mut self.wire, sink: &mut NoTrace };
        Console { node, probes, groups, ports }.run(now, line, &mut text).unwrap();
        text
    }
}

struct World {
    disk: BTreeMap<u64, [u8; RECORD_BYTES]>,
    machines: Vec<Machine>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let superblock = Superblock {
            generation: 1,
            cluster: CLUSTER,
            name: Name::new("test").unwrap(),
            timing: Timing::DEFAULT,
            nodes: NODES,
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
        for id in NodeId::first(NODES) {
            let config = NodeConfig::named(Name::new(&format!("node-{id}")).unwrap());
            disk.insert(layout::config(id), config.encode(CLUSTER, id));
        }
        Self { disk, machines: NodeId::first(NODES).map(Machine::new).collect(), now: Instant(1000) }
    }

    /// A turn of each node: what the other posted and the disk answered before, each after 100 µs.
    fn step(&mut self) {
        self.now += 100;
        let came: Vec<Vec<Vec<u8>>> =
            self.machines.iter_mut().map(|machine| std::mem::take(&mut machine.wire.0)).collect();
        for (machine, came) in self.machines.iter_mut().zip(came.iter().rev()) {
            machine.burst(self.now, came, true);
            if let Some((tag, bytes)) = machine.answer.take() {
                machine.handle(self.now, Input::Disk { tag, result: Ok(&bytes) });
            }
            machine.handle(self.now, Input::Tick);
            machine.poll(self.now);
            match machine.node.poll_output() {
                Some(Output::Disk { tag, op: DiskOp::Write { at, record, .. } }) => {
                    self.disk.insert(at, record);
                    machine.answer = Some((tag, Vec::new()));
                }
                Some(Output::Disk { tag, op: DiskOp::Read { first, count } }) => {
                    let mut bytes = Vec::new();
                    for at in first..first + u64::from(count) {
                        bytes.extend(self.disk.get(&at).copied().unwrap_or([0; RECORD_BYTES]));
                        bytes.resize(bytes.len().next_multiple_of(RECORD_PITCH as usize), 0);
                    }
                    machine.answer = Some((tag, bytes));
                }
                None => {}
                Some(other) => panic!("{other:?}"),
            }
        }
    }

    fn until(&mut self, what: &str, holds: impl Fn(&mut Self) -> bool) {
        let end = self.now.plus_ms(20_000);
        while !holds(self) {
            assert!(self.now < end, "{what}");
            self.step();
        }
    }

    /// Two nodes in one epoch; the sequencer has just sent two long messages, and the taker has seen nothing of them. The
    /// datagrams of group services that are on their way to it.
    fn with_long_messages_on_their_way() -> (Self, Vec<Vec<u8>>) {
        let mut world = Self::new();
        world.until("both take part", |world| {
            let wanted = format!("of nodes {},", quorate_base::NodeSet::first(NODES));
            let now = world.now;
            world.machines.iter_mut().all(|machine| machine.say(now, "groups").contains(&wanted))
        });
        assert!(world.machines[SEQUENCER].say(world.now, "job register g j").ends_with("ok\n"));
        world.until("the job is a member at both", |world| {
            let now = world.now;
            world.machines.iter_mut().all(|machine| machine.say(now, "group g").contains("node 0"))
        });
        // Until all that was said about that has come.
        for _ in 0..1000 {
            world.step();
        }
        world.machines[SEQUENCER].wire.0.clear();
        world.machines[TAKER].wire.0.clear();
        let sequencer = &mut world.machines[SEQUENCER];
        assert!(sequencer.say(world.now, "job load g j 2 16384 2").ends_with("ok\n"));
        sequencer.poll(world.now);
        let sent = std::mem::take(&mut sequencer.wire.0).into_iter().filter(|datagram| is_group(datagram)).collect();
        (world, sent)
    }
}

#[test]
fn a_burst_loses_nothing_for_want_of_room() {
    let (world, sent) = World::with_long_messages_on_their_way();
    let (mut one_by_one, mut in_a_row) = (world.machines[TAKER].clone(), world.machines[TAKER].clone());
    let mut without = in_a_row.clone();
    for datagram in &sent {
        one_by_one.burst(world.now, std::slice::from_ref(datagram), false);
        one_by_one.poll(world.now);
    }
    let before = in_a_row.held();
    assert!(one_by_one.held() >= before + 20, "{} frames in {} datagrams", one_by_one.held() - before, sent.len());
    in_a_row.burst(world.now, &sent, true);
    in_a_row.poll(world.now);
    assert_eq!(in_a_row.held(), one_by_one.held());
    // Else the burst would be none.
    without.burst(world.now, &sent, false);
    without.poll(world.now);
    assert!(before < without.held() && without.held() < one_by_one.held(), "{}", without.held() - before);
}

/// Of bursts of all lengths some end with the room that was just made, so that nothing is left for the poll to take.
#[test]
fn how_far_a_node_is_it_says_once_after_a_burst() {
    let (world, sent) = World::with_long_messages_on_their_way();
    for len in 1..=sent.len() {
        let mut taker = world.machines[TAKER].clone();
        taker.burst(world.now, &sent[..len], true);
        assert_eq!(taker.said(), 0, "while {len} datagrams came");
        taker.poll(world.now);
        assert_eq!(taker.said(), 1, "after {len} datagrams");
        taker.poll(world.now);
        assert_eq!(taker.said(), 0, "{len} datagrams: no more than once");
    }
}
