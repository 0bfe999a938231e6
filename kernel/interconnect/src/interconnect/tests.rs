//! Machines on virtual time with a network that loses, delays, doubles, reorders and cuts.

use super::*;
use crate::envelope::HEADER_BYTES;
use proptest::prelude::*;
use quorate_base::capacity::DATAGRAM_MAX;
use quorate_base::event::TraceClock;
use quorate_base::{Record, TraceSink};
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

const CLUSTER: ClusterId = ClusterId([7; 16]);
const KEY: ClusterKey = ClusterKey([0x6b; 32]);

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
        let mut opened = Opened::new();
        self.machine.receive(now, bytes, &mut opened, &mut trace).map(|received| match received {
            Received::Heartbeat { .. } => Vec::new(),
            Received::Introduction { .. } => b"introduction".to_vec(),
            Received::Halted { .. } => b"halted".to_vec(),
            Received::Message { payload, .. } => payload.to_vec(),
        })
    }

    /// As if that life had answered this one.
    fn knows(mut self, other: &Host) -> Self {
        let (me, incarnation, nonce) = (other.machine.me, other.machine.incarnation, other.machine.nonce);
        let peer = &mut self.machine.peers[me.index()];
        peer.begin(incarnation, Some(nonce));
        peer.proven = true;
        self
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
        key: KEY,
        key_epoch: 5,
        nodes,
        timing: Timing::DEFAULT,
        counter_floor: 0,
    }
}

fn host(me: u8, nodes: u8) -> Host {
    Host::new(config(me, nodes, 1), Instant::ZERO)
}

/// Nodes 0 and 1 of so many, which have answered each other.
fn pair(nodes: u8) -> (Host, Host) {
    let (a, b) = (host(0, nodes), host(1, nodes));
    (host(0, nodes).knows(&b), host(1, nodes).knows(&a))
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
        let (mut a, mut b) = pair(2);
        assert!(a.receive(ms(0), &b.heartbeat(ms(0)).unwrap()).is_ok());
        a.timeout(ms(200));
        a.timeout(ms(second_turn));
        assert_eq!(a.machine.heard(n(1), Incarnation(1)), alive, "{second_turn}");
    }
}

#[test]
fn a_heartbeat_that_claims_to_hear_strangers_is_cut_down_to_peers() {
    let mut b = Host::new(config(1, 64, 1), ms(0));
    let mut a = host(0, 3).knows(&b);
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
    let (mut a, mut b) = pair(3);
    assert!(a.heartbeat(ms(0)).is_some());
    assert!(a.receive(ms(2), &b.heartbeat(ms(2)).unwrap()).is_ok());
    assert_eq!(a.machine.poll_timeout(), ms(10), "a tenth of a heartbeat after the last");
    assert_eq!(a.heartbeat(ms(9)), None);
    assert!(a.heartbeat(ms(10)).is_some());
    assert_eq!(a.machine.poll_timeout(), ms(110));
    // A heard peer is reborn before its silence shows: the newborn must learn soon that this node lives.
    let mut reborn = Host::new(config(1, 3, 2), ms(50));
    let first = reborn.heartbeat(ms(50)).unwrap();
    assert_eq!(a.receive(ms(50), &first), Ok(b"introduction".to_vec()));
    assert!(a.machine.hears().is_empty(), "the life before is over");
    assert_eq!(a.machine.poll_timeout(), ms(50));
    let answer = a.heartbeat(ms(50)).unwrap();
    assert_eq!(a.receive(ms(51), &first), Err(Drop::Replay));
    assert_eq!(a.machine.poll_timeout(), ms(150), "replays draw no heartbeats");
    assert!(reborn.receive(ms(52), &answer).unwrap().is_empty());
    assert_eq!(reborn.machine.poll_timeout(), ms(60));
    assert!(a.receive(ms(60), &reborn.heartbeat(ms(60)).unwrap()).unwrap().is_empty());
    assert_eq!((a.machine.hears(), a.machine.poll_timeout()), (set(&[1]), ms(60)));
    for at in [60, 160, 260, 360, 459] {
        a.timeout(ms(at));
        assert_eq!(a.heartbeat(ms(at)).is_some(), at < 459);
    }
    a.timeout(ms(460));
    assert!(a.machine.hears().is_empty());
    let told = a.heartbeat(ms(460)).unwrap();
    let (told, _) = Heartbeat::parse(&opened(&a, &told)).map(|(h, a)| (h, a.of(n(1)))).unwrap();
    assert!(told.hears.is_empty() && !told.first);
    a.timeout(ms(509));
    assert!(a.receive(ms(509), &reborn.send(Destination::All, b"x")).is_ok());
    assert_eq!(a.machine.poll_timeout(), ms(509), "more than a tenth has passed");
}

/// What a host sealed.
fn opened(of: &Host, frame: &[u8]) -> Opened {
    let mut out = Opened::new();
    Envelope::new_checked(frame).unwrap().open(&of.machine.key, &mut out).unwrap();
    out
}

#[test]
fn capacity_64_fits_16_kib() {
    let bytes = size_of::<Interconnect>();
    assert!(bytes <= 16 * 1024, "{bytes}");
}

#[test]
fn frames_of_an_older_incarnation_are_dropped_whoever_names_the_newer() {
    let (mut a, mut b) = pair(2);
    let mut reborn = Host::new(config(1, 2, 2), Instant::ZERO).knows(&a);
    let (old, late) = (b.heartbeat(ms(0)).unwrap(), b.send(Destination::All, b"late"));
    assert!(a.receive(ms(1), &old).is_ok());
    meet(&mut a, &mut reborn, ms(2));
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

/// Both say who they are and answer each other.
fn meet(a: &mut Host, b: &mut Host, now: Instant) {
    let say = |from: &mut Host, to: &mut Host| {
        from.machine.beat_due = now;
        let frame = from.heartbeat(now).unwrap();
        let _ = to.receive(now, &frame);
    };
    for _ in 0..2 {
        say(a, b);
        say(b, a);
    }
}

#[test]
fn design_3_of_two_boots_with_one_incarnation_the_disk_names_the_right_one() {
    let (mut a, mut b) = pair(2);
    let mut twin = Host::new(Config { nonce: BootNonce(99), ..config(1, 2, 1) }, Instant::ZERO).knows(&a);
    assert!(a.receive(ms(1), &b.heartbeat(ms(1)).unwrap()).is_ok());
    assert_eq!(a.receive(ms(2), &twin.heartbeat(ms(2)).unwrap()), Err(Drop::Nonce));
    a.machine.expect(n(1), Incarnation(1), Some(BootNonce(99)));
    assert!(!a.machine.heard(n(1), Incarnation(1)));
    assert_eq!(a.receive(ms(3), &b.send(Destination::All, b"x")), Err(Drop::Nonce));
    assert_eq!(a.receive(ms(4), &twin.send(Destination::All, b"x")), Err(Drop::Unproven));
    meet(&mut a, &mut twin, ms(5));
    assert_eq!(a.receive(ms(6), &twin.send(Destination::All, b"x")), Ok(b"x".to_vec()));
    a.machine.expect(n(1), Incarnation(1), None);
    assert!(a.machine.heard(n(1), Incarnation(1)));
}

#[test]
fn of_two_boots_that_the_disk_does_not_name_the_first_that_answers_counts() {
    let mut a = host(0, 2);
    let mut dead = Host::new(Config { nonce: BootNonce(99), ..config(1, 2, 1) }, Instant::ZERO);
    let captured = dead.heartbeat(ms(0)).unwrap();
    assert_eq!(a.receive(ms(1), &captured), Ok(b"introduction".to_vec()));
    let mut b = host(1, 2);
    meet(&mut a, &mut b, ms(2));
    assert!(a.machine.heard(n(1), Incarnation(1)) && a.machine.peer(n(1)).nonce == Some(BootNonce(1001)));
    assert_eq!(a.receive(ms(3), &captured), Err(Drop::Nonce));
}

#[test]
fn a_replayed_frame_is_dropped_and_counts_for_nothing() {
    let (mut a, mut b) = pair(2);
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
    let (mut a, mut b) = pair(2);
    let old: Vec<_> = (0..200).map(|_| a.send(Destination::All, b"old")).collect();
    let old_beat = a.heartbeat(ms(0)).unwrap();
    assert!(old.iter().all(|frame| b.receive(ms(1), frame).is_ok()));
    // Node 1 boots again. Nobody has told it anything: neither the disk nor, yet, node 0.
    let mut reborn = Host::new(config(1, 2, 2), ms(10));
    for frame in &old {
        assert_eq!(reborn.receive(ms(10), frame), Err(Drop::Unproven));
    }
    assert_eq!(reborn.receive(ms(10), &old_beat), Ok(b"introduction".to_vec()));
    assert!(reborn.machine.hears().is_empty());
    let between = a.send(Destination::All, b"between");
    meet(&mut reborn, &mut a, ms(12));
    assert_eq!((reborn.machine.hears(), a.machine.hears()), (set(&[0]), set(&[1])));
    for frame in old.iter().chain([&old_beat, &between]) {
        assert_eq!(reborn.receive(ms(13), frame), Err(Drop::Replay), "below the answer");
    }
    assert_eq!(reborn.receive(ms(14), &a.send(Destination::All, b"new")), Ok(b"new".to_vec()));
}

#[test]
fn design_6_what_is_below_the_floor_on_the_disk_is_dropped_unopened() {
    let (mut a, b) = pair(2);
    let mut old = a.send(Destination::All, b"old");
    let last = old.len() - 1;
    old[last] ^= 1;
    let mut reborn = Host::new(config(1, 2, 2), ms(10));
    assert_eq!(reborn.receive(ms(10), &old), Err(Drop::Tag), "it is opened");
    a.machine.expect(n(1), Incarnation(2), None);
    reborn.machine.expect(n(0), Incarnation(1), Some(a.machine.nonce));
    reborn.machine.expect_floor(n(0), Incarnation(1), a.machine.frame_floor());
    assert_eq!(reborn.receive(ms(11), &old), Err(Drop::Replay), "it is not");
    drop(b);
}

#[test]
fn an_answer_to_another_boot_proves_nothing() {
    let (mut a, mut b) = pair(2);
    // Node 0 answers the life of node 1 that is over.
    assert!(a.receive(ms(0), &b.heartbeat(ms(0)).unwrap()).is_ok());
    let to_the_dead = a.heartbeat(ms(1)).unwrap();
    let (_, answer) = Heartbeat::parse(&opened(&a, &to_the_dead)).map(|(h, a)| (h, a.of(n(1)))).unwrap();
    assert_eq!(answer, Some(BootNonce(1001)));
    let mut reborn = Host::new(config(1, 2, 2), ms(10));
    assert_eq!(reborn.receive(ms(10), &to_the_dead), Ok(b"introduction".to_vec()));
    assert!(reborn.machine.hears().is_empty() && !reborn.machine.peer(n(0)).proven);
}

#[test]
fn an_answer_is_repeated_until_it_is_heard_and_not_for_ever() {
    let (mut a, mut b) = (host(0, 2), host(1, 2));
    assert!(a.receive(ms(0), &b.heartbeat(ms(0)).unwrap()).is_ok());
    let answers = |a: &Host, frame: &[u8]| Heartbeat::parse(&opened(a, frame)).unwrap().1.of(n(1)).is_some();
    for at in [0, 100, 200, 300] {
        let frame = a.heartbeat(ms(at)).unwrap();
        assert!(answers(&a, &frame), "the ones before were lost");
    }
    let frame = a.heartbeat(ms(400)).unwrap();
    assert!(!answers(&a, &frame), "who says nothing for net_suspect is not waited for");
    meet(&mut a, &mut b, ms(500));
    a.machine.beat_due = ms(500);
    let frame = a.heartbeat(ms(500)).unwrap();
    assert!(!answers(&a, &frame), "it says that it hears");
}

#[test]
fn design_7_who_says_that_it_halted_is_silent_at_once_and_stays_so() {
    let mut net = Net::new(3, 1);
    net.run(ms(1000));
    let mut out = [0; DATAGRAM_MAX];
    let late = net.hosts[1].send(Destination::All, b"late");
    let b = &mut net.hosts[1];
    let mut trace = Trace::new(ms(1000), &mut b.clock, &mut b.log);
    let len = b.machine.halt(ms(1000), &mut trace, &mut out).unwrap();
    assert_eq!(b.heartbeat(ms(5000)), None, "nothing comes after it");
    b.runs = false;
    let a = &mut net.hosts[0];
    assert!(!a.machine.halted(n(1), Incarnation(1)));
    assert_eq!(a.receive(ms(1001), &out[..len]), Ok(b"halted".to_vec()));
    a.timeout(ms(1001));
    assert_eq!(a.machine.hears(), set(&[2]));
    assert_eq!(a.log.0.last().unwrap(), &(1001, "suspect 1".to_string()));
    assert!(a.machine.halted(n(1), Incarnation(1)) && !a.machine.halted(n(1), Incarnation(2)));
    assert!(!a.machine.halted(n(2), Incarnation(1)) && !a.machine.halted(n(2), Incarnation(0)));
    assert_eq!(a.receive(ms(1002), &late), Err(Drop::OldIncarnation), "overtaken");
    assert_eq!(a.receive(ms(1002), &out[..len]), Err(Drop::OldIncarnation));
    let mut twin = a.machine.clone();
    twin.expect(n(1), Incarnation(1), Some(BootNonce(99)));
    assert!(!twin.halted(n(1), Incarnation(1)), "another machine has that incarnation");
    // A new life begins with a clean slate; what is known of the one before stays known.
    net.hosts[1] = Host::new(config(1, 3, 2), ms(1002));
    net.run(ms(1100));
    assert_eq!(net.at(0).hears(), set(&[1, 2]));
    assert!(net.at(0).halted(n(1), Incarnation(1)) && !net.at(0).halted(n(1), Incarnation(2)));
}

#[test]
fn a_halt_that_is_not_of_this_time_says_nothing() {
    let (mut a, mut b) = pair(2);
    let mut out = [0; DATAGRAM_MAX];
    let mut trace = Trace::new(ms(0), &mut b.clock, &mut b.log);
    let len = b.machine.halt(ms(0), &mut trace, &mut out).unwrap();
    // Node 0 boots again: it cannot tell when that was sent, and node 1's life may be another by now.
    let mut reborn = Host::new(config(0, 2, 2), ms(10));
    assert_eq!(reborn.receive(ms(10), &out[..len]), Ok(b"introduction".to_vec()));
    assert!(!reborn.machine.halted(n(1), Incarnation(1)));
    assert_eq!(a.receive(ms(1), &out[..len]), Ok(b"halted".to_vec()));
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
    let frame = |config: Config, to: Destination| Host::new(config, ms(0)).send(to, b"hello");
    let from = |me: u8| config(me, 64, 1);
    let mut a = host(0, 3).knows(&Host::new(from(1), ms(0)));
    let cases = [
        (frame(from(1), Destination::All), None),
        (frame(from(2), Destination::Node(n(0))), Some(Drop::Unproven)),
        (frame(from(2), Destination::Node(n(1))), Some(Drop::NotForMe)),
        (frame(from(3), Destination::All), Some(Drop::Stranger)),
        (frame(Config { cluster: ClusterId([8; 16]), ..from(1) }, Destination::All), Some(Drop::Cluster)),
        (frame(Config { key_epoch: 4, ..from(1) }, Destination::All), Some(Drop::Epoch)),
        (frame(Config { key: ClusterKey([1; 32]), ..config(1, 64, 2) }, Destination::All), Some(Drop::Tag)),
        (frame(config(1, 64, 0), Destination::All), Some(Drop::OldIncarnation)),
        (frame(from(1), Destination::All), Some(Drop::Replay)),
        (frame(Config { nonce: BootNonce(5), ..from(1) }, Destination::All), Some(Drop::Nonce)),
        (frame(from(0), Destination::All), Some(Drop::Own)),
        (frame(config(0, 64, 2), Destination::All), Some(Drop::Namesake)),
        (frame(Config { nonce: BootNonce(5), ..from(0) }, Destination::All), Some(Drop::Namesake)),
        (frame(Config { key: ClusterKey([1; 32]), ..config(0, 64, 2) }, Destination::All), Some(Drop::Tag)),
    ];
    for (bytes, refusal) in cases {
        assert_eq!(a.receive(ms(1), &bytes).err(), refusal);
    }
    let mut foreign = frame(from(1), Destination::All);
    foreign[4] = 3;
    assert_eq!(a.receive(ms(1), &foreign), Err(Drop::Version));
    let mut plain = frame(from(1), Destination::All);
    plain[5] = 0;
    assert_eq!(a.receive(ms(1), &plain), Err(Drop::Flags));
    let mut b = Host::new(from(1), ms(0));
    b.machine.counter += 1;
    let sample = b.send(Destination::All, b"x");
    let no_heartbeat = Repr { channel: Channel::Heartbeat, ..*Envelope::new_checked(&sample).unwrap().repr() };
    let mut out = [0; 200];
    let len = no_heartbeat.emit(b"short", &b.machine.key, &mut out).unwrap();
    assert_eq!(a.receive(ms(1), &out[..len]), Err(Drop::Heartbeat));
    let notes: Vec<_> = a.log.0.iter().map(|(_, text)| text.as_str()).filter(|t| !t.starts_with("trust")).collect();
    assert_eq!(
        notes,
        [
            "bad frames as from node 3: stranger; 1 dropped",
            "bad frames as from node 1: cluster; 1 dropped",
            "node 1 seals with key epoch 4, this node with 5; 1 dropped",
            "frames of node 1 do not verify: other key?; 1 dropped",
            "bad frames as from node 1: nonce; 1 dropped",
            "another machine sends as node 0; 1 dropped",
            "node 1 speaks protocol version 3, this node 2; 1 dropped",
            "bad frames: flags; 1 dropped",
            "bad frames as from node 1: heartbeat; 1 dropped",
        ]
    );
}

#[test]
fn a_flood_is_noted_once_a_second() {
    let mut a = host(0, 2);
    let mut forged = host(1, 2).send(Destination::All, b"hello");
    for ms_from_start in 0..2500u64 {
        forged[60] = ms_from_start as u8;
        forged[61] = (ms_from_start >> 8) as u8;
        assert_eq!(a.receive(ms(ms_from_start), &forged), Err(Drop::Tag));
        assert!(a.receive(ms(ms_from_start), b"garbage").is_err());
    }
    let notes: Vec<_> = a.log.0.iter().map(|(at, text)| (*at, text.as_str())).collect();
    let expected: Vec<_> = [(0, 1), (1000, 1001), (2000, 2001)]
        .iter()
        .flat_map(|(at, count)| {
            let tag = format!("frames of node 1 do not verify: other key?; {count} dropped");
            [(*at, tag), (*at, format!("bad frames: short; {count} dropped"))]
        })
        .collect();
    assert_eq!(notes, expected.iter().map(|(at, text)| (*at, text.as_str())).collect::<Vec<_>>());
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
    let (mut a, mut b) = pair(2);
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
    Interconnect {
        counters: Counters::default(),
        run_at: Instant::ZERO,
        noted_at: [None; Drop::ALL.len()],
        ..machine.clone()
    }
}

proptest! {
    #[test]
    fn any_bytes_change_nothing_but_a_counter(bytes in prop::collection::vec(any::<u8>(), 0..1600), magic: bool) {
        let mut a = host(0, 3);
        let before = known(&a.machine);
        let mut bytes = bytes;
        if magic && bytes.len() > 10 {
            bytes[..8].copy_from_slice(b"QRNT\x02\x01\0\x05");
        }
        prop_assert!(a.receive(ms(1), &bytes).is_err());
        prop_assert_eq!(known(&a.machine), before);
        prop_assert_eq!(a.machine.counters().dropped_total(), 1);
    }

    #[test]
    fn a_damaged_or_cut_off_frame_changes_nothing_but_a_counter(
        bit in 0usize..(HEADER_BYTES + 48 + TAG_BYTES) * 8,
        cut in prop::option::of(0usize..HEADER_BYTES + 48 + TAG_BYTES),
    ) {
        let (mut a, mut b) = pair(3);
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
