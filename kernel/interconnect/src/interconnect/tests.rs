//! Machines on virtual time with a network that loses, delays, doubles, reorders and cuts.

use super::*;
use crate::envelope::{HEADER_BYTES, TAG_BYTES};
use proptest::prelude::*;
use quorate_base::capacity::DATAGRAM_MAX;
use quorate_base::event::TraceClock;
use quorate_base::{Record, TraceSink};
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

const CLUSTER: ClusterId = ClusterId([7; 16]);

fn n(id: u8) -> NodeId {
    NodeId::new(id).unwrap()
}

fn set(ids: &[u8]) -> NodeSet {
    ids.iter().map(|id| n(*id)).collect()
}

fn ms(ms: u64) -> Instant {
    Instant(ms * 1000)
}

/// Keeps suspicions, trusts and notes as text, with the time in ms.
#[derive(Default)]
struct Log(Vec<(u64, String)>);

impl TraceSink for Log {
    fn record(&mut self, record: &Record<'_>) {
        let text = match &record.event {
            Event::Suspect { peer, via: Via::Net } => format!("suspect {peer}"),
            Event::Trust { peer, via: Via::Net } => format!("trust {peer}"),
            Event::Note { what } => what.to_string(),
            other => panic!("{other:?}"),
        };
        self.0.push((record.at.0 / 1000, text));
    }
}

/// One node: the machine and its trace.
struct Host {
    machine: Interconnect,
    clock: TraceClock,
    log: Log,
    runs: bool,
}

impl Host {
    fn new(config: Config, now: Instant) -> Self {
        Self { machine: Interconnect::new(config, now), clock: TraceClock::default(), log: Log::default(), runs: true }
    }

    fn receive(&mut self, now: Instant, bytes: &[u8]) -> Result<Vec<u8>, Drop> {
        let mut trace = Trace::new(now, &mut self.clock, &mut self.log);
        self.machine.receive(now, bytes, &mut trace).map(|received| match received {
            Received::Heartbeat { .. } => Vec::new(),
            Received::Message { payload, .. } => payload.to_vec(),
        })
    }

    fn send(&mut self, to: Destination, payload: &[u8]) -> Vec<u8> {
        let mut out = [0; DATAGRAM_MAX];
        let mut trace = Trace::new(Instant::ZERO, &mut self.clock, &mut self.log);
        let len = self.machine.send(to, payload, &mut trace, &mut out).unwrap();
        out[..len].to_vec()
    }

    fn timeout(&mut self, now: Instant) {
        let mut trace = Trace::new(now, &mut self.clock, &mut self.log);
        self.machine.handle_timeout(now, &mut trace);
    }

    fn heartbeat(&mut self, now: Instant) -> Option<Vec<u8>> {
        let mut out = [0; DATAGRAM_MAX];
        let mut trace = Trace::new(now, &mut self.clock, &mut self.log);
        self.machine.poll_heartbeat(now, &mut trace, &mut out).map(|len| out[..len].to_vec())
    }
}

fn config(me: u8, nodes: u8, incarnation: u32) -> Config {
    Config {
        me: n(me),
        incarnation: Incarnation(incarnation),
        nonce: BootNonce(1000 * u64::from(incarnation) + u64::from(me)),
        cluster: CLUSTER,
        nodes,
        timing: Timing::DEFAULT,
        counter_floor: 0,
    }
}

fn host(me: u8, nodes: u8) -> Host {
    Host::new(config(me, nodes, 1), Instant::ZERO)
}

/// What the network does to one frame: nothing is random beyond the seed.
struct Net {
    now: Instant,
    hosts: Vec<Host>,
    flying: BTreeMap<(Instant, u64), (u8, Vec<u8>)>,
    serial: u64,
    seed: u64,
    /// Frames arrive after 0.2 ms and up to so many µs.
    delay_us: u64,
    /// One in so many is lost, never more than two in a row of one link; 0: none.
    lose_one_in: u64,
    /// One in so many comes twice; 0: none.
    double_one_in: u64,
    cuts: BTreeSet<(u8, u8)>,
    lost_in_row: BTreeMap<(u8, u8), u64>,
}

impl Net {
    fn new(nodes: u8, seed: u64) -> Self {
        Self {
            now: Instant::ZERO,
            hosts: (0..nodes).map(|me| host(me, nodes)).collect(),
            flying: BTreeMap::new(),
            serial: 0,
            seed: seed | 1,
            delay_us: 1000,
            lose_one_in: 0,
            double_one_in: 0,
            cuts: BTreeSet::new(),
            lost_in_row: BTreeMap::new(),
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 16) % below.max(1)
    }

    fn one_in(&mut self, of: u64) -> bool {
        of != 0 && self.draw(of) == 0
    }

    fn broadcast(&mut self, from: u8, bytes: &[u8]) {
        for to in (0..self.hosts.len() as u8).filter(|to| *to != from) {
            if self.cuts.contains(&(from, to)) {
                continue;
            }
            let lost = self.one_in(self.lose_one_in);
            let row = self.lost_in_row.entry((from, to)).or_default();
            *row = if lost && *row < 2 { *row + 1 } else { 0 };
            if *row > 0 {
                continue;
            }
            let copies = 1 + u64::from(self.one_in(self.double_one_in));
            for _ in 0..copies {
                let at = self.now.plus_us(200 + self.draw(self.delay_us));
                self.serial += 1;
                self.flying.insert((at, self.serial), (to, bytes.to_vec()));
            }
        }
    }

    /// Runs until `end`. A host that does not run gets nothing and does nothing.
    fn run(&mut self, end: Instant) {
        loop {
            let timers = self.hosts.iter().filter(|h| h.runs).map(|h| h.machine.poll_timeout());
            let next = timers.chain(self.flying.keys().next().map(|key| key.0)).min().unwrap();
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            while let Some(entry) = self.flying.first_entry().filter(|e| e.key().0 <= self.now) {
                let (to, bytes) = entry.remove();
                let host = &mut self.hosts[usize::from(to)];
                if host.runs {
                    let _ = host.receive(self.now, &bytes);
                }
            }
            for id in 0..self.hosts.len() as u8 {
                let host = &mut self.hosts[usize::from(id)];
                if !host.runs || host.machine.poll_timeout() > self.now {
                    continue;
                }
                host.timeout(self.now);
                if let Some(bytes) = host.heartbeat(self.now) {
                    self.broadcast(id, &bytes);
                }
            }
        }
        self.now = end;
    }

    fn at(&self, id: u8) -> &Interconnect {
        &self.hosts[usize::from(id)].machine
    }

    fn log(&self, id: u8) -> &[(u64, String)] {
        &self.hosts[usize::from(id)].log.0
    }
}

#[test]
fn design_10_an_idle_pair_sends_one_frame_per_heartbeat() {
    let mut net = Net::new(2, 1);
    net.run(ms(1000));
    let before = net.at(0).counters().sent();
    net.run(ms(11_000));
    assert_eq!(net.at(0).counters().sent() - before, 100);
    assert_eq!(net.log(0), &[(net.log(0)[0].0, "trust 1".to_string())]);
    assert_eq!(net.at(0).counters().dropped_total(), 0);
    assert!(net.at(0).heard(n(1), Incarnation(1)) && !net.at(0).heard(n(1), Incarnation(2)));
}

#[test]
fn a_newcomer_and_the_others_know_that_they_hear_each_other_within_a_quarter_of_a_heartbeat() {
    let mut net = Net::new(3, 1);
    net.hosts[2].runs = false;
    net.run(ms(5050));
    net.hosts[2] = Host::new(config(2, 3, 1), net.now);
    net.run(ms(5075));
    for id in 0..3 {
        assert!(net.at(id).reach().is_complete(NodeSet::first(3)), "as node {id} sees it");
        assert_eq!(net.at(id).hears_of(n(id)), net.at(id).hears());
    }
    assert!(net.at(0).peer(n(2)).heartbeat.is_some());
}

#[test]
fn design_7_silence_is_suspected_after_net_suspect_and_not_before() {
    let mut net = Net::new(2, 1);
    net.run(ms(1000));
    net.hosts[1].runs = false;
    let last = net.at(0).peer(n(1)).heard_at.unwrap();
    let due = last.plus_ms(Timing::DEFAULT.net_suspect);
    net.run(Instant(due.0 - 1));
    assert_eq!((net.at(0).hears(), net.log(0).len()), (set(&[1]), 1));
    net.run(due);
    assert_eq!(net.at(0).hears(), NodeSet::EMPTY);
    assert_eq!(net.at(0).hears_of(n(1)), NodeSet::EMPTY);
    assert_eq!(net.log(0)[1], (due.0 / 1000, "suspect 1".to_string()));
    assert!(due <= ms(1000 + 400 + 2));
    net.run(ms(3000));
    assert_eq!(net.log(0).len(), 2);
}

#[test]
fn design_7_a_one_way_cut_shows_on_both_sides() {
    let mut net = Net::new(3, 1);
    net.run(ms(1000));
    net.cuts.insert((0, 1));
    net.run(ms(1600));
    assert_eq!((net.at(0).hears(), net.at(1).hears()), (set(&[1, 2]), set(&[2])));
    for id in 0..3 {
        let reach = net.at(id).reach();
        if id != 1 {
            assert!(!reach.mutual(n(0), n(1)) && reach.mutual(n(0), n(2)) && reach.mutual(n(1), n(2)));
        }
    }
    let changed = net.at(2).reach().unchanged_since(NodeSet::first(3));
    assert!(changed > ms(1300) && changed < ms(1600));
    net.cuts.clear();
    net.run(ms(2000));
    assert!(net.at(2).reach().is_complete(NodeSet::first(3)));
    assert_eq!(net.at(2).reach().steady_with(n(0), NodeSet::first(3)), set(&[2]), "the link flapped");
    net.run(ms(5000));
    assert_eq!(net.at(2).reach().steady_with(n(0), NodeSet::first(3)), set(&[1, 2]));
}

#[test]
fn design_7_after_a_stall_of_my_own_all_clocks_restart() {
    let mut net = Net::new(3, 1);
    net.run(ms(1000));
    net.hosts[0].runs = false;
    net.run(ms(1500));
    net.hosts[2].runs = false;
    net.run(ms(6000));
    // Nothing was received meanwhile, and the deadlines of both peers are long past.
    net.hosts[0].runs = true;
    net.hosts[0].timeout(net.now);
    assert_eq!(net.at(0).hears(), set(&[1, 2]), "my stall proves nothing");
    net.run(ms(6399));
    assert_eq!(net.at(0).hears(), set(&[1, 2]));
    net.run(ms(6401));
    assert_eq!(net.at(0).hears(), set(&[1]), "but silence since then does");
}

#[test]
fn a_stall_is_more_than_two_heartbeats() {
    for (second_turn, alive) in [(400, false), (401, true)] {
        let (mut a, mut b) = (host(0, 2), host(1, 2));
        assert!(a.receive(ms(0), &b.heartbeat(ms(0)).unwrap()).is_ok());
        a.timeout(ms(200));
        a.timeout(ms(second_turn));
        assert_eq!(a.machine.heard(n(1), Incarnation(1)), alive, "{second_turn}");
    }
}

#[test]
fn a_heartbeat_that_claims_to_hear_strangers_is_cut_down_to_peers() {
    let mut a = host(0, 3);
    let mut b = Host::new(config(1, 64, 1), ms(0));
    b.machine.hears = NodeSet(u64::MAX);
    assert!(a.receive(ms(0), &b.heartbeat(ms(0)).unwrap()).is_ok());
    assert_eq!(a.machine.hears_of(n(1)), set(&[0, 2]));
    assert_eq!(a.machine.peer(n(1)).heartbeat.unwrap().hears, set(&[0, 2]));
}

#[test]
fn capacity_64_nodes_start_cold_and_all_hear_each_other() {
    let mut net = Net::new(64, 1);
    net.run(ms(120));
    for id in 0..64 {
        assert_eq!(net.at(id).hears(), NodeSet::first(64).without(n(id)));
        assert!(net.at(id).reach().is_complete(NodeSet::first(64)), "as node {id} sees it");
    }
    assert!(net.at(0).counters().sent() <= 14, "changes are told at most ten times per heartbeat");
    net.hosts[63].runs = false;
    net.run(ms(1000));
    assert!((0..63).all(|id| net.at(id).hears() == NodeSet::first(63).without(n(id))));
}

#[test]
fn a_change_of_whom_i_hear_is_told_soon_but_not_at_once_again() {
    let (mut a, mut b) = (host(0, 3), host(1, 3));
    assert!(a.heartbeat(ms(0)).is_some());
    assert!(a.receive(ms(2), &b.heartbeat(ms(2)).unwrap()).is_ok());
    assert_eq!(a.machine.poll_timeout(), ms(10), "a tenth of a heartbeat after the last");
    assert_eq!(a.heartbeat(ms(9)), None);
    assert!(a.heartbeat(ms(10)).is_some());
    assert_eq!(a.machine.poll_timeout(), ms(110));
    // A heard peer is reborn before its silence shows: whom I hear does not change, but the newborn must learn of it.
    let mut reborn = Host::new(config(1, 3, 2), ms(50));
    let first = reborn.heartbeat(ms(50)).unwrap();
    assert!(a.receive(ms(50), &first).is_ok());
    assert_eq!(a.machine.poll_timeout(), ms(50));
    assert!(a.heartbeat(ms(50)).is_some());
    assert_eq!(a.receive(ms(60), &first), Err(Drop::Replay));
    assert_eq!(a.machine.poll_timeout(), ms(150), "replays draw no heartbeats");
    for at in [150, 250, 350, 449] {
        a.timeout(ms(at));
        assert_eq!(a.heartbeat(ms(at)).is_some(), at < 449);
    }
    a.timeout(ms(450));
    assert!(a.machine.hears().is_empty());
    let told = a.heartbeat(ms(450)).unwrap();
    let told = Heartbeat::parse(Envelope::new_checked(&told).unwrap().payload()).unwrap();
    assert!(told.hears.is_empty() && !told.first);
    a.timeout(ms(499));
    assert!(a.receive(ms(499), &reborn.send(Destination::All, b"x")).is_ok());
    assert_eq!(a.machine.poll_timeout(), ms(499), "more than a tenth has passed");
}

#[test]
fn capacity_64_fits_16_kib() {
    let bytes = size_of::<Interconnect>();
    assert!(bytes <= 16 * 1024, "{bytes}");
}

#[test]
fn frames_of_an_older_incarnation_are_dropped_whoever_names_the_newer() {
    let (mut a, mut b, mut reborn) = (host(0, 2), host(1, 2), Host::new(config(1, 2, 2), Instant::ZERO));
    let (old, late) = (b.heartbeat(ms(0)).unwrap(), b.send(Destination::All, b"late"));
    assert!(a.receive(ms(1), &old).is_ok());
    assert!(a.receive(ms(2), &reborn.heartbeat(ms(2)).unwrap()).is_ok());
    assert!(a.machine.heard(n(1), Incarnation(2)));
    assert_eq!(a.receive(ms(3), &late), Err(Drop::OldIncarnation));
    a.machine.expect(n(1), Incarnation(3), None);
    assert!(a.machine.hears().is_empty() && a.machine.peer(n(1)).heartbeat.is_none());
    assert_eq!(a.receive(ms(4), &reborn.send(Destination::All, b"x")), Err(Drop::OldIncarnation));
    a.machine.expect(n(1), Incarnation(1), None);
    assert_eq!(a.machine.peer(n(1)).incarnation, Incarnation(3), "an old read changes nothing");
    a.timeout(ms(5));
    let log: Vec<_> = a.log.0.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(log, ["trust 1", "suspect 1"]);
    assert_eq!(a.machine.counters().dropped(Drop::OldIncarnation), 2);
}

#[test]
fn design_3_of_two_boots_with_one_incarnation_the_disk_names_the_right_one() {
    let (mut a, mut b) = (host(0, 2), host(1, 2));
    let mut twin = Host::new(Config { nonce: BootNonce(99), ..config(1, 2, 1) }, Instant::ZERO);
    assert!(a.receive(ms(1), &b.heartbeat(ms(1)).unwrap()).is_ok());
    assert_eq!(a.receive(ms(2), &twin.heartbeat(ms(2)).unwrap()), Err(Drop::Nonce));
    a.machine.expect(n(1), Incarnation(1), Some(BootNonce(99)));
    assert!(!a.machine.heard(n(1), Incarnation(1)));
    assert_eq!(a.receive(ms(3), &b.send(Destination::All, b"x")), Err(Drop::Nonce));
    assert_eq!(a.receive(ms(4), &twin.send(Destination::All, b"x")), Ok(b"x".to_vec()));
    a.machine.expect(n(1), Incarnation(1), None);
    assert!(a.machine.heard(n(1), Incarnation(1)));
}

#[test]
fn a_replayed_frame_is_dropped_and_counts_for_nothing() {
    let (mut a, mut b) = (host(0, 2), host(1, 2));
    let frames: Vec<_> = (0..70u8).map(|i| b.send(Destination::Node(n(0)), &[i])).collect();
    for i in (1..70).rev() {
        let taken = a.receive(ms(1), &frames[i]);
        assert_eq!(taken.is_ok(), i > 5, "the window is 64 wide");
    }
    for frame in &frames {
        assert_eq!(a.receive(ms(150), frame), Err(Drop::Replay));
    }
    assert_eq!(a.machine.counters().dropped(Drop::Replay), 75);
    a.timeout(ms(300));
    a.timeout(ms(401));
    assert!(a.machine.hears().is_empty(), "replays keep nobody alive");
}

#[test]
fn design_6_a_rebooted_receiver_refuses_what_was_sent_before_its_boot() {
    let (mut a, mut b) = (host(0, 2), host(1, 2));
    let old = a.send(Destination::All, b"old");
    assert!(b.receive(ms(1), &old).is_ok());
    let mut reborn = Host::new(config(1, 2, 2), ms(10));
    assert!(a.receive(ms(10), &reborn.heartbeat(ms(10)).unwrap()).is_ok());
    reborn.machine.expect(n(0), Incarnation(1), Some(BootNonce(1000)));
    reborn.machine.expect_floor(n(0), Incarnation(1), a.machine.frame_floor());
    assert_eq!(reborn.receive(ms(11), &old), Err(Drop::Replay));
    assert_eq!(reborn.receive(ms(12), &a.send(Destination::All, b"new")), Ok(b"new".to_vec()));
}

#[test]
fn the_floor_moves_in_steps_and_the_next_life_starts_above_all_counters() {
    let mut a = host(0, 2);
    let first = a.machine.frame_floor();
    for _ in 0..10 {
        a.send(Destination::All, b"");
    }
    assert_eq!(a.machine.frame_floor(), first);
    a.machine.counter = first + FLOOR_STEP - 1;
    a.send(Destination::All, b"");
    assert_eq!(a.machine.frame_floor(), first + FLOOR_STEP);
    a.machine.counter += FLOOR_STEP - 2;
    let last = Envelope::new_checked(&a.send(Destination::All, b"")).unwrap().repr().counter;
    let next = Interconnect::new(Config { counter_floor: a.machine.frame_floor(), ..config(0, 2, 2) }, ms(0));
    assert!(next.counter > last);
    let mut end = Host::new(Config { counter_floor: u64::MAX - 5, ..config(0, 2, 3) }, ms(0));
    assert_eq!(end.heartbeat(ms(0)), None);
    assert!(end.machine.poll_timeout() > ms(0), "no embedder spins on it");
}

#[test]
fn each_refusal_has_its_reason() {
    let mut a = host(0, 3);
    let frame = |config: Config, to: Destination| Host::new(config, ms(0)).send(to, b"hello");
    let from = |me: u8| config(me, 64, 1);
    let cases = [
        (frame(from(1), Destination::All), None),
        (frame(from(2), Destination::Node(n(0))), None),
        (frame(from(2), Destination::Node(n(1))), Some(Drop::NotForMe)),
        (frame(from(3), Destination::All), Some(Drop::Stranger)),
        (frame(Config { cluster: ClusterId([8; 16]), ..from(1) }, Destination::All), Some(Drop::Cluster)),
        (frame(config(1, 64, 0), Destination::All), Some(Drop::OldIncarnation)),
        (frame(from(0), Destination::All), Some(Drop::Own)),
        (frame(config(0, 64, 2), Destination::All), Some(Drop::Namesake)),
        (frame(Config { nonce: BootNonce(5), ..from(0) }, Destination::All), Some(Drop::Namesake)),
    ];
    for (bytes, refusal) in cases {
        assert_eq!(a.receive(ms(1), &bytes).err(), refusal);
    }
    let mut foreign = frame(from(1), Destination::All);
    foreign[4] = 2;
    assert_eq!(a.receive(ms(1), &foreign), Err(Drop::Version));
    assert_eq!(a.receive(ms(1), &foreign), Err(Drop::Version));
    let notes: Vec<_> = a.log.0.iter().map(|(_, text)| text.as_str()).filter(|t| !t.starts_with("trust")).collect();
    assert_eq!(
        notes,
        ["another machine sends as node 0: dropped", "node 1 speaks protocol version 2, this node 1: dropped"]
    );
    let no_heartbeat = Repr {
        channel: Channel::Heartbeat,
        ..*Envelope::new_checked(&frame(from(1), Destination::All)).unwrap().repr()
    };
    let mut out = [0; 200];
    let len = no_heartbeat.emit_plain(b"short", &mut out).unwrap();
    assert_eq!(a.receive(ms(1), &out[..len]), Err(Drop::Heartbeat));
    assert_eq!(a.machine.counters().dropped_total(), 10);
}

#[test]
fn each_send_error_uses_no_counter() {
    let mut a = host(0, 2);
    let mut out = [0; DATAGRAM_MAX];
    let before = a.machine.clone();
    let mut trace = Trace::new(ms(0), &mut a.clock, &mut a.log);
    let mut send = |to, payload: &[u8], room: usize| a.machine.send(to, payload, &mut trace, &mut out[..room]);
    assert_eq!(send(Destination::All, &[0; 1401], 1472), Err(SendError::TooLong { len: 1401, max: 1400 }));
    assert_eq!(send(Destination::All, b"abc", 74), Err(SendError::Buffer));
    assert_eq!(send(Destination::Node(n(0)), b"abc", 1472), Err(SendError::Nobody));
    assert_eq!(send(Destination::Node(n(2)), b"abc", 1472), Err(SendError::Nobody));
    assert_eq!(a.machine, before);
    assert_eq!(a.clock.lamport, 0);
}

#[test]
fn status_and_lamport_clock_travel() {
    let (mut a, mut b) = (host(0, 2), host(1, 2));
    b.clock.lamport = 500;
    let status = Status {
        state: quorate_base::NodeState::Joined,
        frozen: true,
        carrier: true,
        ballot: quorate_base::Ballot(65),
        is_master: true,
        committed: quorate_base::ViewName { ballot: quorate_base::Ballot(64), number: 9 },
    };
    b.machine.set_status(status);
    assert!(a.receive(ms(0), &b.heartbeat(ms(0)).unwrap()).is_ok());
    let heard = a.machine.peer(n(1)).heartbeat.unwrap();
    assert!(heard.first && heard.status == status);
    assert!(a.clock.lamport > 500);
    assert_eq!(b.heartbeat(ms(50)), None);
    b.machine.heartbeat_now();
    assert!(a.receive(ms(50), &b.heartbeat(ms(50)).unwrap()).is_ok());
    assert!(!a.machine.peer(n(1)).heartbeat.unwrap().first);
    assert_eq!(b.machine.poll_timeout(), ms(150));
}

/// Everything but the counters of drops and the time of the last run.
fn known(machine: &Interconnect) -> Interconnect {
    Interconnect { counters: Counters::default(), run_at: Instant::ZERO, noted: NodeSet::EMPTY, ..machine.clone() }
}

proptest! {
    #[test]
    fn any_bytes_change_nothing_but_a_counter(bytes in prop::collection::vec(any::<u8>(), 0..1600), magic: bool) {
        let mut a = host(0, 3);
        let before = known(&a.machine);
        let mut bytes = bytes;
        if magic && bytes.len() > 10 {
            bytes[..8].copy_from_slice(b"QRNT\x01\0\0\0");
        }
        prop_assert!(a.receive(ms(1), &bytes).is_err());
        prop_assert_eq!(known(&a.machine), before);
        prop_assert_eq!(a.machine.counters().dropped_total(), 1);
    }

    #[test]
    fn a_damaged_or_cut_off_frame_changes_nothing_but_a_counter(
        bit in 0usize..(HEADER_BYTES + 40 + TAG_BYTES) * 8,
        cut in prop::option::of(0usize..HEADER_BYTES + 40 + TAG_BYTES),
    ) {
        let (mut a, mut b) = (host(0, 3), host(1, 3));
        let mut bytes = b.heartbeat(ms(0)).unwrap();
        match cut {
            Some(len) => bytes.truncate(len),
            None => bytes[bit / 8] ^= 1 << (bit % 8),
        }
        let before = known(&a.machine);
        prop_assert!(a.receive(ms(1), &bytes).is_err());
        prop_assert_eq!(known(&a.machine), before);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_false_suspicion_while_at_most_two_frames_in_a_row_are_lost(seed: u64, nodes in 2u8..6) {
        let mut net = Net::new(nodes, seed);
        (net.delay_us, net.lose_one_in, net.double_one_in) = (60_000, 3, 5);
        net.run(ms(20_000));
        for id in 0..nodes {
            let log = net.log(id);
            prop_assert!(log.iter().all(|(_, text)| text.starts_with("trust")), "{log:?}");
            prop_assert_eq!(log.len(), usize::from(nodes) - 1);
        }
    }

    #[test]
    fn a_death_is_suspected_within_net_suspect_and_a_period_whatever_the_network_does(seed: u64, at in 1000u64..1200) {
        let mut net = Net::new(4, seed);
        (net.delay_us, net.lose_one_in, net.double_one_in) = (60_000, 3, 5);
        net.run(ms(at));
        net.hosts[3].runs = false;
        let bound = at + 400 + 100;
        net.run(ms(bound));
        for id in 0..3 {
            prop_assert_eq!(net.at(id).hears(), NodeSet::first(3).without(n(id)));
            prop_assert_eq!(net.log(id).iter().filter(|(_, t)| t == "suspect 3").count(), 1);
        }
    }

    #[test]
    fn a_machine_stalled_at_any_time_suspects_no_living_peer(seed: u64, at in 1000u64..1200, stall in 0u64..5000) {
        let mut net = Net::new(2, seed);
        net.run(ms(at));
        net.hosts[0].runs = false;
        net.run(ms(at + stall));
        net.hosts[0].runs = true;
        net.hosts[0].timeout(net.now);
        net.run(ms(at + stall + 2000));
        prop_assert_eq!(net.log(0).len(), 1, "{:?}", net.log(0));
        // The other one saw a stall that was longer than net_suspect, if it was, and heard it again.
        prop_assert_eq!(net.at(1).hears(), set(&[0]));
    }
}
