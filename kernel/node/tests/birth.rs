//! Birth on every kind of disk: what is refused, by which name, and that nothing but the identity is written before it is
//! known that nobody else runs under this id (DESIGN 3).

use std::collections::BTreeMap;

use quorate_base::capacity::{RECORD_BYTES, RECORD_PITCH};
use quorate_base::event::{Event, Record, TraceSink};
use quorate_base::level::LevelDecl;
use quorate_base::reservation::{Attention, Held, Keys, ReservationAnswer, ReservationCapabilities, ReservationType};
use quorate_base::{
    BootNonce, ClusterId, DiskError, DiskOp, DiskTag, FenceMethod, HaltReason, Incarnation, Instant, NodeId,
    ReservationError, ReservationKey, ReservationOp, Timing,
};
use quorate_database::{
    Blanks, ClusterKey, EndAction, Heartbeat, Identity, MachineId, Name, NodeConfig, Superblock, layout,
};
use quorate_interconnect::Destination;
use quorate_master_lock::DiskGeometry;
use quorate_node::{Boot, Input, Node, Output, Ports, Post};

const CLUSTER: ClusterId = ClusterId([7; 16]);
const ME: u8 = 1;
const MACHINE: MachineId = MachineId { uuid: Some([3; 16]), mac: Some([2, 0, 0, 0, 0, 1]) };
const OTHER_MACHINE: MachineId = MachineId { uuid: Some([9; 16]), mac: Some([2, 0, 0, 0, 0, 9]) };

fn me() -> NodeId {
    NodeId::new(ME).unwrap()
}

struct Outside {
    panics: Vec<String>,
    boots: Vec<Option<Incarnation>>,
}

impl TraceSink for Outside {
    fn record(&mut self, record: &Record<'_>) {
        match &record.event {
            Event::Panic { reason } => self.panics.push((*reason).to_owned()),
            Event::Boot { .. } => self.boots.push(record.incarnation),
            _ => {}
        }
    }
}

struct Nobody;
impl Post for Nobody {
    fn post(&mut self, _: Destination, _: &[u8]) {}
}

/// A disk and the node that is born on it.
struct World {
    disk: BTreeMap<u64, [u8; RECORD_BYTES]>,
    bad: Vec<u64>,
    written: Vec<u64>,
    now: Instant,
    /// Another machine beats under this id, every so many µs.
    beats: Option<Heartbeat>,
    /// What the disk says to each kind of reservation command; `None`: it has none.
    target: Option<Target>,
    asked: Vec<ReservationOp>,
    outside: Outside,
}

/// A target with one nexus.
#[derive(Default)]
struct Target {
    registered: Option<ReservationKey>,
    held: Option<Held>,
    /// So many commands are eaten by unit attentions.
    attentions: u32,
}

impl Target {
    fn answer(&mut self, op: &ReservationOp) -> Result<ReservationAnswer, ReservationError> {
        if self.attentions > 0 {
            self.attentions -= 1;
            return Err(ReservationError::Attention(Attention::Reset));
        }
        Ok(match op {
            ReservationOp::Capabilities => ReservationAnswer::Capabilities(ReservationCapabilities {
                all_registrants: true,
                ..ReservationCapabilities::default()
            }),
            ReservationOp::ReadKeys => {
                ReservationAnswer::Keys(Keys { keys: self.registered.into_iter().collect(), ..Keys::default() })
            }
            ReservationOp::ReadReservation => ReservationAnswer::Reservation(self.held),
            ReservationOp::Register { key, .. } => {
                self.registered = *key;
                ReservationAnswer::Done
            }
            ReservationOp::Reserve { kind, .. } => {
                self.held = Some(Held { holder: ReservationKey(0), kind: *kind });
                ReservationAnswer::Done
            }
            ReservationOp::Preempt { .. } | ReservationOp::ResetUnit => return Err(ReservationError::Device),
        })
    }
}

impl World {
    fn new() -> Self {
        let superblock = Superblock {
            generation: 1,
            cluster: CLUSTER,
            name: Name::new("test").unwrap(),
            timing: Timing::DEFAULT,
            nodes: 3,
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
        for n in NodeId::first(3) {
            let config = NodeConfig::named(Name::new("node").unwrap());
            disk.insert(layout::config(n), config.encode(CLUSTER, n));
        }
        let outside = Outside { panics: Vec::new(), boots: Vec::new() };
        let (target, asked) = (None, Vec::new());
        Self { disk, bad: Vec::new(), written: Vec::new(), now: Instant(1000), beats: None, target, asked, outside }
    }

    /// The database asks for reservations.
    fn reserved(mut self, target: Option<Target>) -> Self {
        for copy in [0, 1] {
            let raw = self.disk[&layout::superblock(copy)];
            let mut superblock = Superblock::decode(&raw, copy).good().unwrap().clone();
            superblock.fence = FenceMethod::Reservation;
            self.disk.insert(layout::superblock(copy), superblock.encode(copy));
        }
        self.target = target;
        self
    }

    fn lived(mut self, machine: MachineId, heartbeat: Heartbeat) -> Self {
        let identity =
            Identity { incarnation: heartbeat.incarnation, nonce: heartbeat.nonce, machine, nexus_reset: true };
        self.disk.insert(layout::identity(me(), 0), identity.encode(CLUSTER, me(), 0));
        self.disk.insert(layout::heartbeat(me()), heartbeat.encode(CLUSTER, me()));
        self
    }

    fn flip(&mut self, record: u64) {
        self.disk.entry(record).or_insert([0; RECORD_BYTES])[100] ^= 1;
    }

    /// Runs a node for at most 5 s of its time, until it halts or has `writes` writes.
    fn run(&mut self, boot: Boot, writes: usize) -> Node {
        let mut node = Node::new(boot, [LevelDecl::new(0, "membership")], "test", "").unwrap();
        let end = self.now.plus_ms(5000);
        let mut input: Option<(DiskTag, Result<Vec<u8>, DiskError>)> = None;
        let mut answer: Option<(DiskTag, Result<ReservationAnswer, ReservationError>)> = None;
        while self.now < end && node.halted().is_none() && self.written.len() < writes {
            let mut ports = Ports { post: &mut Nobody, sink: &mut self.outside };
            if let Some((tag, result)) = answer.take() {
                let result = result.as_ref().map_err(|error| *error);
                node.handle(self.now, Input::Reservation { tag, result }, &mut ports);
            }
            match input.take() {
                Some((tag, Ok(bytes))) => node.handle(self.now, Input::Disk { tag, result: Ok(&bytes) }, &mut ports),
                Some((tag, Err(e))) => node.handle(self.now, Input::Disk { tag, result: Err(e) }, &mut ports),
                None => node.handle(self.now, Input::Tick, &mut ports),
            }
            self.now += 100;
            match node.poll_output() {
                Some(Output::Disk { tag, op }) => input = Some((tag, self.disk_op(op))),
                Some(Output::Reservation { tag, op }) => {
                    self.asked.push(op);
                    let unsupported = Err(ReservationError::Unsupported);
                    answer = Some((tag, self.target.as_mut().map_or(unsupported, |target| target.answer(&op))));
                }
                Some(Output::Halt(_)) => break,
                None => self.now = self.now.max(node.poll_timeout()),
            }
        }
        node
    }

    fn disk_op(&mut self, op: DiskOp) -> Result<Vec<u8>, DiskError> {
        if let Some(beat) = &mut self.beats {
            beat.counter += 1;
            self.disk.insert(layout::heartbeat(me()), beat.encode(CLUSTER, me()));
        }
        match op {
            DiskOp::Write { at, record, .. } => {
                self.written.push(at);
                self.disk.insert(at, record);
                Ok(Vec::new())
            }
            DiskOp::Read { first, count } => {
                let mut bytes = vec![0; usize::from(count) * RECORD_PITCH as usize];
                for (i, record) in (first..first + u64::from(count)).enumerate() {
                    if self.bad.contains(&record) {
                        return Err(DiskError::Medium);
                    }
                    if let Some(content) = self.disk.get(&record) {
                        bytes[i * RECORD_PITCH as usize..][..RECORD_BYTES].copy_from_slice(content);
                    }
                }
                Ok(bytes)
            }
        }
    }
}

fn boot() -> Boot {
    Boot {
        node: Some(me()),
        machine: MACHINE,
        nonce: BootNonce(42),
        cluster: None,
        geometry: DiskGeometry::default(),
        trace_writes: false,
    }
}

fn beat(incarnation: u32, clean: bool) -> Heartbeat {
    Heartbeat {
        incarnation: Incarnation(incarnation),
        nonce: BootNonce(u64::from(incarnation)),
        counter: 10,
        clean,
        ..Heartbeat::default()
    }
}

/// The node halts for this reason, says it in its trace, and has written nothing.
fn refused(mut world: World, boot: Boot, reason: HaltReason) {
    let node = world.run(boot, usize::MAX);
    assert_eq!(node.halted(), Some(reason));
    assert_eq!(world.outside.panics, [reason.to_string()]);
    assert_eq!(world.written, []);
    assert_eq!(world.outside.boots, []);
}

#[test]
fn the_first_life_is_number_one_and_writes_its_identity_first() {
    let mut world = World::new();
    let node = world.run(boot(), 1);
    assert_eq!(world.written, [layout::identity(me(), 0)]);
    assert_eq!(node.halted(), None);
}

#[test]
fn the_next_life_goes_to_the_other_slot_and_is_the_boot_events_incarnation() {
    let mut world = World::new().lived(MACHINE, beat(4, true));
    let node = world.run(boot(), 2);
    assert_eq!(world.written, [layout::identity(me(), 1), layout::heartbeat(me())]);
    assert_eq!(node.incarnation(), Some(Incarnation(5)));
    assert_eq!(world.outside.boots, [Some(Incarnation(5))]);
}

#[test]
fn what_tore_the_other_slot_may_have_hidden_a_life_whose_number_is_left_out() {
    let mut world = World::new().lived(MACHINE, beat(4, true));
    world.disk.insert(layout::identity(me(), 1), [0xa5; RECORD_BYTES]);
    let node = world.run(boot(), 2);
    assert_eq!(world.written, [layout::identity(me(), 1), layout::heartbeat(me())]);
    assert_eq!(node.incarnation(), Some(Incarnation(6)));
}

#[test]
fn zeros_are_no_blank_where_blanks_are_sealed() {
    let sealed = || {
        let mut world = World::new();
        for copy in [0, 1] {
            let mut superblock =
                Superblock::decode(&world.disk[&layout::superblock(copy)], copy).good().unwrap().clone();
            superblock.blanks = Blanks::Sealed;
            world.disk.insert(layout::superblock(copy), superblock.encode(copy));
        }
        world.disk.extend(Blanks::Sealed.records(CLUSTER, 3));
        world
    };
    let node = sealed().run(boot(), 2);
    assert_eq!((node.halted(), node.incarnation()), (None, Some(Incarnation(1))));
    // Nothing tells whether it lived.
    let mut world = sealed();
    for at in [layout::identity(me(), 0), layout::identity(me(), 1), layout::heartbeat(me())] {
        world.disk.remove(&at);
    }
    refused(
        world,
        boot(),
        HaltReason::DatabaseDamaged { what: "this node's identity and heartbeat are both unreadable" },
    );
}

#[test]
fn nothing_but_the_identity_is_written_for_a_beat() {
    let mut world = World::new();
    world.run(boot(), 1);
    let named = world.now;
    let mut world = World::new();
    world.run(boot(), 2);
    assert!(world.now.since_us(named) >= u64::from(Timing::DEFAULT.disk_heartbeat) * 1000);
}

#[test]
fn a_foreign_nonce_in_the_identity_after_a_beat_ends_the_node() {
    let mut world = World::new();
    let mut node = world.run(boot(), 1);
    let identity =
        Identity { incarnation: Incarnation(1), nonce: BootNonce(99), machine: OTHER_MACHINE, nexus_reset: true };
    world.disk.insert(layout::identity(me(), 0), identity.encode(CLUSTER, me(), 0));
    // Its write is done; what follows is the wait and the reading back.
    let mut input = Some(DiskTag(0));
    while node.halted().is_none() && world.now < Instant(5_000_000) {
        let bytes = match input {
            Some(_) => world.disk_op(DiskOp::Read { first: layout::identity(me(), 0), count: 1 }).unwrap(),
            None => Vec::new(),
        };
        let mut ports = Ports { post: &mut Nobody, sink: &mut world.outside };
        match input.take() {
            Some(tag) => node.handle(world.now, Input::Disk { tag, result: Ok(&bytes) }, &mut ports),
            None => node.handle(world.now, Input::Tick, &mut ports),
        }
        match node.poll_output() {
            Some(Output::Disk { tag, .. }) => input = Some(tag),
            _ => world.now = world.now.max(node.poll_timeout()).plus_us(1),
        }
    }
    assert_eq!(node.halted(), Some(HaltReason::ForeignNonce { found: BootNonce(99) }));
    assert_eq!(world.written, [layout::identity(me(), 0)]);
}

#[test]
fn design_7_the_key_is_registered_and_proved_before_the_identity_is_written() {
    for attentions in 0..4 {
        let mut world = World::new().reserved(Some(Target { attentions, ..Target::default() }));
        let node = world.run(boot(), 1);
        assert_eq!((node.halted(), &world.written[..]), (None, &[layout::identity(me(), 0)][..]));
        let target = world.target.unwrap();
        let owner = target.registered.and_then(ReservationKey::owner).unwrap();
        assert_eq!((owner.node, owner.incarnation), (me(), Incarnation(1)));
        assert!(target.held.is_some());
        assert_eq!(world.asked.last(), Some(&ReservationOp::ReadReservation));
    }
}

#[test]
fn a_disk_without_reservations_is_refused_by_name() {
    let mut world = World::new().reserved(None);
    let node = world.run(boot(), 1);
    assert_eq!(node.halted(), Some(HaltReason::NoReservations));
    assert!(world.written.is_empty());
    assert!(world.outside.panics[0].contains("db create IMAGE --fence lease"), "{:?}", world.outside.panics);
}

#[test]
fn a_foreign_reservation_is_refused_by_name() {
    let held = Some(Held { holder: ReservationKey(0xabc), kind: ReservationType::Other(3) });
    let mut world = World::new().reserved(Some(Target { held, ..Target::default() }));
    let node = world.run(boot(), 1);
    assert_eq!(node.halted(), Some(HaltReason::ForeignReservation { kind: 3 }));
    assert!(world.written.is_empty());
}

#[test]
fn this_very_machine_need_not_watch_its_own_old_heartbeat() {
    let mut world = World::new().lived(MACHINE, beat(4, false));
    world.run(boot(), 1);
    assert!(world.now < Instant(100_000));
}

#[test]
fn another_machine_watches_for_dead_and_then_takes_over_the_id() {
    let mut world = World::new().lived(OTHER_MACHINE, beat(4, false));
    world.run(boot(), 1);
    assert_eq!(world.written, [layout::identity(me(), 1)]);
    assert!(world.now >= Instant(u64::from(Timing::DEFAULT.dead) * 1000));
}

#[test]
fn a_heartbeat_that_moves_is_a_node_id_in_use() {
    let mut world = World::new().lived(OTHER_MACHINE, beat(4, false));
    world.beats = Some(beat(4, false));
    refused(world, boot(), HaltReason::NodeIdInUse);
}

#[test]
fn one_damaged_copy_of_the_superblock_does_no_harm_and_two_are_named() {
    let mut world = World::new();
    world.flip(layout::superblock(0));
    world.run(boot(), 1);
    assert_eq!(world.written.len(), 1);
    let mut world = World::new();
    world.flip(layout::superblock(0));
    world.flip(layout::superblock(1));
    refused(world, boot(), HaltReason::SuperblockDamaged);
}

#[test]
fn each_identity_that_is_refused_is_refused_by_name() {
    refused(World::new(), Boot { node: NodeId::new(3), ..boot() }, HaltReason::NotConfigured);
    refused(World::new(), Boot { node: None, ..boot() }, HaltReason::NotConfigured);
    refused(World::new(), Boot { cluster: Some(ClusterId([8; 16])), ..boot() }, HaltReason::ForeignDisk);
    let mut world = World::new();
    let config = NodeConfig { enabled: false, ..NodeConfig::named(Name::new("node").unwrap()) };
    world.disk.insert(layout::config(me()), config.encode(CLUSTER, me()));
    refused(world, boot(), HaltReason::Disabled { node: me() });
    let mut world = World::new();
    world.flip(layout::config(me()));
    refused(world, boot(), HaltReason::DatabaseDamaged { what: "this node's configuration record" });
    let mut world = World::new();
    world.flip(layout::identity(me(), 0));
    world.flip(layout::heartbeat(me()));
    let what = "this node's identity and heartbeat are both unreadable";
    refused(world, boot(), HaltReason::DatabaseDamaged { what });
}

#[test]
fn a_machine_without_a_number_finds_its_record_by_its_uuid() {
    let mut world = World::new();
    let config = NodeConfig { machine: MACHINE, ..NodeConfig::named(Name::new("node").unwrap()) };
    world.disk.insert(layout::config(me()), config.encode(CLUSTER, me()));
    world.run(Boot { node: None, ..boot() }, 1);
    assert_eq!(world.written, [layout::identity(me(), 0)]);
}

#[test]
fn the_record_says_what_to_do_at_the_end() {
    let mut world = World::new().lived(OTHER_MACHINE, beat(4, false));
    world.beats = Some(beat(4, false));
    let config = NodeConfig {
        on_shutdown: EndAction::BootAgain,
        on_panic: EndAction::Reset,
        ..NodeConfig::named(Name::new("node").unwrap())
    };
    world.disk.insert(layout::config(me()), config.encode(CLUSTER, me()));
    let node = world.run(boot(), usize::MAX);
    assert_eq!(node.end_action(&HaltReason::NodeIdInUse), EndAction::Reset);
    assert_eq!(node.end_action(&HaltReason::Left), EndAction::BootAgain);
    let unborn = World::new().run(boot(), 0);
    assert_eq!(unborn.end_action(&HaltReason::Left), EndAction::Halt);
}

#[test]
fn a_record_that_cannot_be_read_ends_the_node_after_some_tries() {
    let mut world = World::new();
    world.bad.push(layout::config(me()));
    refused(world, boot(), HaltReason::Disk { error: DiskError::Medium });
}
