//! Persistent reservations of two and more initiators at one unit, on virtual time.

use crate::disk::*;
use crate::fake::{Behaviour, FakeHba, SLOTS};
use crate::fake_target::Shared;
use crate::hba::{Function, Hba, Response};
use crate::judge::Cause;
use crate::registrations::{Capabilities, FullStatus, Holder, Keys};
use crate::reservation::{Change, Key, Kind, Report};
use crate::{capacity::Geometry, discovery};
use proptest::prelude::*;
use std::cell::Cell;
use std::vec;
use std::vec::Vec;

std::thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
}

fn clock() -> u64 {
    NOW.get()
}

type TestDisk = Disk<FakeHba, SLOTS>;
type Done = Vec<(u64, Option<Cause>)>;

const IO_MAX_US: u64 = 200_000;
const KIND: Kind = Kind::WriteExclusiveAllRegistrants;
const DURABLE: Write = Write { durable: true, not_after_us: None };

fn key(at: usize) -> Key {
    Key(0x5155_0000_0000_0001 + at as u64)
}

/// So many initiators at one unit of 64 blocks.
fn initiators(count: usize) -> (Shared, Vec<TestDisk>) {
    NOW.set(0);
    let ways = Shared::unit(count, 64);
    let unit = discovery::Unit {
        address: crate::hba::Address { target: 0, lun: 0 },
        inquiry: Default::default(),
        designators: Default::default(),
        serial: Default::default(),
        limits: Default::default(),
        geometry: Geometry { blocks: 64, block_bytes: 512 },
    };
    let config = Config { reservations: true, ..Config::with_io_max_us(IO_MAX_US) };
    let disks = ways.iter().map(|way| Disk::new(FakeHba::at(way.clone()), &unit, config, clock)).collect();
    (ways[0].clone(), disks)
}

/// Two registered initiators at a reserved unit.
fn reserved() -> (Shared, TestDisk, TestDisk) {
    let (unit, mut disks) = initiators(2);
    for (at, disk) in disks.iter_mut().enumerate() {
        assert_eq!(change(disk, Change::RegisterAnyway { new: key(at), persist: true }), None);
    }
    assert_eq!(change(&mut disks[0], Change::Reserve { key: key(0), kind: KIND }), None);
    let second = disks.pop().unwrap();
    (unit, disks.pop().unwrap(), second)
}

/// Runs until nothing happens by itself before `until_us`.
fn settle(disk: &mut TestDisk, until_us: u64) -> Done {
    let mut done = Vec::new();
    loop {
        let now = NOW.get();
        while let Some(completion) = disk.poll(now) {
            done.push((completion.tag, completion.result.err().map(|error| error.cause)));
        }
        if disk.hba_mut().has_outcome() {
            continue;
        }
        match disk.poll_timeout() {
            Some(at) if at <= until_us => NOW.set(now.max(at)),
            _ => return done,
        }
    }
}

fn events(disk: &mut TestDisk) -> Vec<Event> {
    core::iter::from_fn(|| disk.poll_event()).collect()
}

fn attentions(disk: &mut TestDisk) -> Vec<(u8, u8)> {
    let sense = |event| match event {
        Event::UnitAttention(sense) => Some((sense.asc, sense.ascq)),
        _ => None,
    };
    events(disk).into_iter().filter_map(sense).collect()
}

fn failure(disk: &mut TestDisk) -> Option<Cause> {
    match settle(disk, NOW.get() + IO_MAX_US)[..] {
        [(77, failure)] => failure,
        ref other => panic!("one completion was expected: {other:?}"),
    }
}

fn change(disk: &mut TestDisk, change: Change) -> Option<Cause> {
    disk.submit_change(NOW.get(), &change, 77).unwrap();
    failure(disk)
}

fn write(disk: &mut TestDisk, lba: u64, byte: u8) -> Option<Cause> {
    disk.submit_write(NOW.get(), lba, &[byte; 512], DURABLE, 77).unwrap();
    failure(disk)
}

fn preempt_and_abort(disk: &mut TestDisk, own: Key, victim: Key) -> Option<Cause> {
    change(disk, Change::PreemptAndAbort { key: own, victim, kind: KIND })
}

fn report(disk: &mut TestDisk, report: Report, bytes: u16) -> Vec<u8> {
    disk.submit_report(NOW.get(), report, bytes, 77).unwrap();
    for _ in 0..100 {
        if let Some(completion) = disk.poll(NOW.get()) {
            return completion.result.unwrap().to_vec();
        }
    }
    panic!("no answer");
}

fn keys(disk: &mut TestDisk) -> Vec<Key> {
    let data = report(disk, Report::Keys, Keys::bytes_for(64));
    let keys = Keys::parse(&data).unwrap();
    assert!(keys.is_whole());
    keys.iter().collect()
}

fn is_attention(failure: Option<Cause>, code: (u8, u8)) -> bool {
    failure.and_then(|cause| cause.attention()).is_some_and(|sense| (sense.asc, sense.ascq) == code)
}

#[test]
fn register_reserve_and_every_report() {
    let (_, mut first, mut second) = reserved();
    assert_eq!(keys(&mut first), [key(0), key(1)]);
    let holder = Holder::parse(&report(&mut second, Report::Reservation, Holder::BYTES)).unwrap();
    assert_eq!(holder.reservation.unwrap().kind, Ok(KIND));
    assert_eq!(holder.generation, 2);
    let found = Capabilities::parse(&report(&mut first, Report::Capabilities, Capabilities::BYTES)).unwrap();
    assert_eq!(found.shut_out_writers(), Some(KIND));
    let data = report(&mut first, Report::FullStatus, 4096);
    let status = FullStatus::parse(&data).unwrap();
    assert!(status.is_whole());
    let holders = status.iter().filter(|registration| registration.holds.is_some());
    assert_eq!(holders.map(|r| r.initiator.iscsi_name().unwrap()).collect::<Vec<_>>(), [b"iqn.n0", b"iqn.n1"]);
    // A list that does not fit is cut, and known to be.
    let cut = report(&mut first, Report::Keys, Keys::bytes_for(1));
    assert_eq!(Keys::parse(&cut).unwrap().has(key(1)), None);
}

#[test]
fn what_an_earlier_request_left_in_the_buffer_is_no_answer() {
    let (_, mut first, _) = reserved();
    assert_eq!(write(&mut first, 0, 0xff), None);
    // Less is sent than is said to be sent.
    first.hba_mut().script.push_back(Behaviour::Status(0));
    let data = report(&mut first, Report::Keys, 64);
    assert_eq!(data, [0; 64]);
}

#[test]
fn an_evicted_initiator_meets_an_attention_then_conflicts_and_its_commands_are_ended() {
    let (unit, mut first, mut second) = reserved();
    second.hba_mut().script.push_back(Behaviour::Hold);
    second.submit_write(0, 5, &[9; 512], DURABLE, 1).unwrap();
    assert_eq!(preempt_and_abort(&mut first, key(0), key(1)), None);
    assert_eq!(keys(&mut first), [key(0)]);
    // Ended without a status: nothing hangs, the abort of what does not exist confirms it.
    second.hba_mut().release(0);
    assert_eq!(settle(&mut second, NOW.get() + IO_MAX_US), [(1, Some(Cause::TimedOut))]);
    assert_eq!(unit.look().disk[5 * 512], 0);
    assert!(is_attention(write(&mut second, 5, 1), (0x2a, 5)));
    assert_eq!(write(&mut second, 5, 2), Some(Cause::ReservationConflict));
    assert_eq!(unit.look().disk[5 * 512], 0);
    // Reads go on.
    second.submit_read(NOW.get(), 5, 1, 77).unwrap();
    assert_eq!(failure(&mut second), None);
    assert_eq!(attentions(&mut second), [(0x2a, 5)]);
}

#[test]
fn without_preempt_and_abort_preempt_and_a_reset_do_the_same() {
    let (unit, mut first, mut second) = reserved();
    unit.with(|target| target.knows_abort = false);
    second.hba_mut().script.push_back(Behaviour::Hold);
    second.submit_write(0, 5, &[9; 512], DURABLE, 1).unwrap();
    let refused = preempt_and_abort(&mut first, key(0), key(1));
    assert!(refused.is_some_and(|cause| cause.is_unknown_command()));
    assert_eq!(keys(&mut first), [key(0), key(1)], "nothing was done");
    assert_eq!(change(&mut first, Change::Preempt { key: key(0), victim: key(1), kind: KIND }), None);
    first.submit_reset(NOW.get(), 77).unwrap();
    assert_eq!(failure(&mut first), None);
    assert!(events(&mut first).contains(&Event::ResetConfirmed));
    assert!(first.is_settled());
    second.hba_mut().release(0);
    assert_eq!(unit.look().disk[5 * 512], 0, "the reset ended it");
    assert_eq!(settle(&mut second, NOW.get() + IO_MAX_US), [(1, Some(Cause::TimedOut))]);
    assert_eq!(keys(&mut first), [key(0)]);
}

#[test]
fn preempt_alone_lets_a_write_on_its_way_land() {
    // Why the reset, or the abort, belongs to it.
    let (unit, mut first, mut second) = reserved();
    second.hba_mut().script.push_back(Behaviour::Hold);
    second.submit_write(0, 5, &[9; 512], DURABLE, 1).unwrap();
    assert_eq!(change(&mut first, Change::Preempt { key: key(0), victim: key(1), kind: KIND }), None);
    second.hba_mut().release(0);
    assert_eq!(unit.look().disk[5 * 512], 9);
}

#[test]
fn an_absent_key_is_a_conflict_and_not_a_success() {
    let (_, mut first, _) = reserved();
    assert_eq!(preempt_and_abort(&mut first, key(0), Key(7)), Some(Cause::ReservationConflict));
    assert_eq!(keys(&mut first), [key(0), key(1)]);
}

#[test]
fn an_attention_eats_a_change_and_nothing_was_changed() {
    for code in [(0x29, 0), (0x29, 7), (0x2a, 3), (0x2a, 4), (0x2a, 5)] {
        let (unit, mut disks) = initiators(1);
        unit.with(|target| target.nexuses[0].attentions.push_back([6, code.0, code.1]));
        let register = Change::RegisterAnyway { new: key(0), persist: false };
        assert!(is_attention(change(&mut disks[0], register), code), "{code:?}");
        assert_eq!(disks[0].hba_mut().opcodes.len(), 1, "not repeated");
        assert_eq!(keys(&mut disks[0]), []);
        assert_eq!(attentions(&mut disks[0]), [code]);
        assert_eq!(change(&mut disks[0], register), None);
        assert_eq!(keys(&mut disks[0]), [key(0)]);
    }
}

#[test]
fn an_attention_about_something_else_is_repeated() {
    let (unit, mut disks) = initiators(1);
    unit.with(|target| target.nexuses[0].attentions.extend([[6, 0x3f, 0x0e], [6, 0x2f, 0]]));
    assert_eq!(change(&mut disks[0], Change::RegisterAnyway { new: key(0), persist: false }), None);
    assert_eq!(attentions(&mut disks[0]), [(0x3f, 0x0e), (0x2f, 0)]);
}

#[test]
fn attentions_of_reads_are_events_and_of_writes_and_flushes_failures() {
    let (unit, mut first, _) = reserved();
    unit.with(|target| target.nexuses[0].attentions.push_back([6, 0x29, 3]));
    first.submit_read(0, 0, 1, 77).unwrap();
    // It is known before the read is completed.
    assert!(first.poll(0).is_none());
    assert_eq!(first.take_attention().map(|sense| (sense.asc, sense.ascq)), Some((0x29, 3)));
    assert_eq!(failure(&mut first), None);
    assert_eq!(first.take_attention(), None);
    assert_eq!(attentions(&mut first), [(0x29, 3)]);
    unit.with(|target| target.nexuses[0].attentions.push_back([6, 0x2a, 4]));
    assert!(is_attention(write(&mut first, 0, 1), (0x2a, 4)));
    assert_eq!(first.take_attention(), None, "the write has told it");
    assert_eq!(unit.look().disk[0], 0);
    // A flush: the write has landed, and its user looks at the reservation all the same.
    let mut config = Config { durability: Durability::Synchronize, ..Config::with_io_max_us(IO_MAX_US) };
    config.reservations = true;
    let (unit, mut disks) = initiators(1);
    let hba = disks.pop().unwrap().into_hba().ok().unwrap();
    let unit_data = discovery::Unit {
        address: hba.address,
        inquiry: Default::default(),
        designators: Default::default(),
        serial: Default::default(),
        limits: Default::default(),
        geometry: Geometry { blocks: 64, block_bytes: 512 },
    };
    let mut disk = Disk::new(hba, &unit_data, config, clock);
    disk.hba_mut().script.extend([Behaviour::Good, Behaviour::Sense([6, 0x29, 0])]);
    assert!(is_attention(write(&mut disk, 0, 4), (0x29, 0)));
    assert_eq!(unit.look().disk[0], 4);
}

#[test]
fn while_reservations_are_not_in_use_attentions_are_tried_again() {
    let (unit, mut disks) = initiators(1);
    disks[0].set_config(Config::with_io_max_us(IO_MAX_US));
    unit.with(|target| target.nexuses[0].attentions.extend([[6, 0x29, 0], [6, 0x2a, 3]]));
    assert_eq!(write(&mut disks[0], 0, 1), None);
    unit.with(|target| target.nexuses[0].attentions.push_back([6, 0x29, 0]));
    assert_eq!(change(&mut disks[0], Change::RegisterAnyway { new: key(0), persist: false }), None);
    assert_eq!(unit.look().nexuses[0].changes, 1);
}

#[test]
fn a_change_of_unknown_fate_is_never_repeated() {
    // The change was carried out, its answer says otherwise: a second one would fail or harm.
    let cases = [
        Behaviour::Sense([0xb, 0, 6]),
        Behaviour::Response(Response::Reset),
        Behaviour::Response(Response::Aborted),
        Behaviour::Response(Response::TransportFailure),
        Behaviour::Status(0x40),
    ];
    for behaviour in cases {
        let (_, mut disks) = initiators(1);
        disks[0].hba_mut().script.push_back(behaviour);
        assert!(change(&mut disks[0], Change::RegisterAnyway { new: key(0), persist: false }).is_some());
        assert_eq!(disks[0].hba_mut().opcodes.len(), 1, "{behaviour:?}");
    }
    // Busy and full say that it was not.
    let (unit, mut disks) = initiators(1);
    disks[0].hba_mut().script.extend([Behaviour::Status(0x08), Behaviour::Status(0x28)]);
    assert_eq!(change(&mut disks[0], Change::RegisterAnyway { new: key(0), persist: false }), None);
    assert_eq!(unit.look().nexuses[0].changes, 1);
}

#[test]
fn a_lost_answer_is_a_time_out_and_the_keys_tell() {
    let (unit, mut disks) = initiators(1);
    disks[0].hba_mut().script.push_back(Behaviour::Mute);
    let register = Change::RegisterAnyway { new: key(0), persist: false };
    assert_eq!(change(&mut disks[0], register), Some(Cause::TimedOut));
    assert_eq!(unit.look().nexuses[0].changes, 1);
    assert_eq!(keys(&mut disks[0]), [key(0)]);
    // And one that the unit never saw.
    disks[0].hba_mut().script.push_back(Behaviour::Hold);
    assert_eq!(change(&mut disks[0], Change::Clear { key: key(0) }), Some(Cause::TimedOut));
    assert_eq!(keys(&mut disks[0]), [key(0)]);
}

#[test]
fn a_reset_by_another_initiator_freezes_nobody() {
    let (unit, mut first, mut second) = reserved();
    second.hba_mut().script.extend([Behaviour::Hold, Behaviour::Hold, Behaviour::Hold]);
    second.submit_write(0, 1, &[1; 512], DURABLE, 1).unwrap();
    second.submit_read(0, 2, 1, 2).unwrap();
    second.submit_change(0, &Change::Reserve { key: key(1), kind: KIND }, 3).unwrap();
    first.submit_reset(0, 9).unwrap();
    assert_eq!(settle(&mut first, 0), [(9, None)]);
    // All three were ended without a status. Each ends here after io_max by its abort.
    let mut done = settle(&mut second, 2 * IO_MAX_US);
    done.sort_unstable_by_key(|(tag, _)| *tag);
    let timed_out = Some(Cause::TimedOut);
    assert_eq!(done, [(1, timed_out), (2, timed_out), (3, timed_out)]);
    assert!(second.is_settled());
    assert_eq!(second.outstanding(), 0);
    assert!(second.hba_mut().tasks.iter().all(|task| matches!(task.function, Function::Abort { .. })));
    // Then the attention, then all is as it was: a reset ends no registration.
    assert!(is_attention(write(&mut second, 1, 1), (0x29, 3)));
    assert_eq!(write(&mut second, 1, 1), None);
    assert_eq!(unit.look().disk[512], 1);
    assert_eq!(keys(&mut second), [key(0), key(1)]);
}

#[test]
fn a_reset_that_was_asked_for_is_one_that_was_sent_afterwards() {
    let (_, mut first, _) = reserved();
    first.hba_mut().confirm = None;
    first.submit_reset(0, 1).unwrap();
    settle(&mut first, 0);
    first.submit_reset(0, 2).unwrap();
    settle(&mut first, 0);
    assert_eq!(first.hba_mut().tasks.len(), 1, "one at a time");
    let earlier = first.hba_mut().tasks[0];
    first.hba_mut().answer_task(earlier, true);
    assert_eq!(settle(&mut first, 0), [(1, None)]);
    assert_eq!(first.hba_mut().tasks.len(), 2);
    let later = first.hba_mut().tasks[1];
    first.hba_mut().answer_task(earlier, true);
    assert_eq!(settle(&mut first, 0), [], "a stale confirmation");
    first.hba_mut().answer_task(later, true);
    assert_eq!(settle(&mut first, 0), [(2, None)]);
}

#[test]
fn a_denied_reset_that_was_asked_for_is_a_failure() {
    let (_, mut first, _) = reserved();
    first.hba_mut().confirm = Some(false);
    first.submit_reset(0, 77).unwrap();
    assert_eq!(failure(&mut first), Some(Cause::ResetDenied));
    assert!(first.is_settled());
    assert_eq!(write(&mut first, 0, 1), None);
}

#[test]
fn own_commands_under_way_survive_an_own_reset() {
    let (unit, mut first, _) = reserved();
    first.hba_mut().script.extend([Behaviour::Hold, Behaviour::Hold]);
    first.submit_write(0, 1, &[1; 512], DURABLE, 1).unwrap();
    first.submit_read(0, 2, 1, 2).unwrap();
    first.submit_reset(0, 3).unwrap();
    let mut done = settle(&mut first, 0);
    done.sort_unstable_by_key(|(tag, _)| *tag);
    // The write was sent again and met the reset's attention; a read goes on.
    assert!(is_attention(done[0].1, (0x29, 3)));
    assert_eq!(done[1..], [(2, None), (3, None)]);
    assert_eq!(unit.look().disk[512], 0);
}

#[test]
fn registrants_only_ends_with_its_holder_and_all_registrants_does_not() {
    for (kind, reserved_after) in
        [(Kind::WriteExclusiveRegistrantsOnly, false), (Kind::WriteExclusiveAllRegistrants, true)]
    {
        let (unit, mut disks) = initiators(2);
        for (at, disk) in disks.iter_mut().enumerate() {
            assert_eq!(change(disk, Change::Register { key: Key::NONE, new: key(at), persist: false }), None);
        }
        assert_eq!(change(&mut disks[0], Change::Reserve { key: key(0), kind }), None);
        assert_eq!(change(&mut disks[0], Change::Register { key: key(0), new: Key::NONE, persist: false }), None);
        assert_eq!(unit.look().reserved.is_some(), reserved_after);
        let told = unit.look().nexuses[1].attentions.front().copied();
        assert_eq!(told, (!reserved_after).then_some([6, 0x2a, 4]));
        // A holder that was preempted hands the reservation over.
        let (unit, mut disks) = initiators(2);
        for (at, disk) in disks.iter_mut().enumerate() {
            assert_eq!(change(disk, Change::RegisterAnyway { new: key(at), persist: false }), None);
        }
        assert_eq!(change(&mut disks[0], Change::Reserve { key: key(0), kind }), None);
        assert_eq!(change(&mut disks[1], Change::PreemptAndAbort { key: key(1), victim: key(0), kind }), None);
        assert_eq!(unit.look().reserved.map(|(_, kind)| kind), Some(kind));
        assert_eq!(write(&mut disks[1], 0, 1), None);
        assert!(is_attention(write(&mut disks[0], 0, 2), (0x2a, 5)));
        assert_eq!(write(&mut disks[0], 0, 2), Some(Cause::ReservationConflict));
    }
}

#[test]
fn release_and_clear() {
    let (unit, mut first, mut second) = reserved();
    let wrong = Change::Release { key: key(0), kind: Kind::WriteExclusive };
    assert!(matches!(change(&mut first, wrong), Some(Cause::Check(sense)) if (sense.asc, sense.ascq) == (0x26, 4)));
    assert_eq!(change(&mut first, Change::Release { key: key(0), kind: KIND }), None);
    assert_eq!(unit.look().reserved, None);
    assert!(is_attention(write(&mut second, 0, 1), (0x2a, 4)));
    assert_eq!(change(&mut first, Change::Clear { key: key(0) }), None);
    assert_eq!(keys(&mut first), []);
    assert!(is_attention(write(&mut second, 0, 1), (0x2a, 3)));
    // Nothing is reserved: everybody writes.
    assert_eq!(write(&mut second, 0, 1), None);
    assert_eq!(change(&mut second, Change::Reserve { key: key(1), kind: KIND }), Some(Cause::ReservationConflict));
}

#[derive(Clone, Debug)]
enum Act {
    Register(usize),
    RegisterAnyway(usize),
    Unregister(usize),
    Reserve(usize),
    Release(usize),
    Clear(usize),
    Preempt(usize),
    Evict(usize),
    Write(usize, u64),
    Read(usize, u64),
    Reset(usize),
    Misbehave(usize, Behaviour),
    Deliver(usize),
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let behaviour = prop_oneof![
        4 => Just(Behaviour::Hold),
        2 => Just(Behaviour::Mute),
        1 => Just(Behaviour::Sense([6, 0x29, 0])),
        1 => Just(Behaviour::Sense([0xb, 0, 6])),
        1 => Just(Behaviour::Status(0x28)),
        1 => Just(Behaviour::Response(Response::TransportFailure)),
    ];
    let who = 0usize..2;
    prop_oneof![
        2 => who.clone().prop_map(Act::Register),
        4 => who.clone().prop_map(Act::RegisterAnyway),
        1 => who.clone().prop_map(Act::Unregister),
        3 => who.clone().prop_map(Act::Reserve),
        1 => who.clone().prop_map(Act::Release),
        1 => who.clone().prop_map(Act::Clear),
        1 => who.clone().prop_map(Act::Preempt),
        4 => who.clone().prop_map(Act::Evict),
        6 => (who.clone(), 0u64..8).prop_map(|(who, lba)| Act::Write(who, lba)),
        2 => (who.clone(), 0u64..8).prop_map(|(who, lba)| Act::Read(who, lba)),
        1 => who.clone().prop_map(Act::Reset),
        6 => (who.clone(), behaviour).prop_map(|(who, behaviour)| Act::Misbehave(who, behaviour)),
        2 => who.prop_map(Act::Deliver),
        4 => (0u64..300_000).prop_map(Act::Pass),
    ]
}

/// What the test knows of an initiator's requests.
#[derive(Default)]
struct Account {
    open: Vec<u64>,
    /// Changes that ended well, and those whose fate stayed open.
    changes_good: usize,
    changes_open: usize,
    writes_good: usize,
    /// Writes that the unit had carried out when this initiator was put out.
    writes_when_out: Option<usize>,
    /// The requests that are a step of putting the other out.
    evicting: Vec<u64>,
}

struct Run {
    unit: Shared,
    disks: Vec<TestDisk>,
    accounts: [Account; 2],
    tag: u64,
}

impl Run {
    fn new(knows_abort: bool) -> Self {
        let (unit, disks) = initiators(2);
        unit.with(|target| target.knows_abort = knows_abort);
        Self { unit, disks, accounts: [Account::default(), Account::default()], tag: 0 }
    }

    fn act(&mut self, act: &Act) {
        let (now, tag) = (NOW.get(), self.tag);
        let change = |disk: &mut TestDisk, change: Change| disk.submit_change(now, &change, tag);
        let (who, taken) = match *act {
            Act::Register(who) => {
                (who, change(&mut self.disks[who], Change::Register { key: Key::NONE, new: key(who), persist: false }))
            }
            Act::RegisterAnyway(who) => {
                (who, change(&mut self.disks[who], Change::RegisterAnyway { new: key(who), persist: false }))
            }
            Act::Unregister(who) => {
                (who, change(&mut self.disks[who], Change::Register { key: key(who), new: Key::NONE, persist: false }))
            }
            Act::Reserve(who) => (who, change(&mut self.disks[who], Change::Reserve { key: key(who), kind: KIND })),
            Act::Release(who) => (who, change(&mut self.disks[who], Change::Release { key: key(who), kind: KIND })),
            Act::Clear(who) => (who, change(&mut self.disks[who], Change::Clear { key: key(who) })),
            Act::Preempt(who) => {
                let preempt = Change::Preempt { key: key(who), victim: key(1 - who), kind: KIND };
                (who, change(&mut self.disks[who], preempt))
            }
            Act::Evict(who) => {
                let abort = Change::PreemptAndAbort { key: key(who), victim: key(1 - who), kind: KIND };
                let taken = change(&mut self.disks[who], abort);
                self.accounts[who].evicting.extend(taken.is_ok().then_some(tag));
                (who, taken)
            }
            Act::Write(who, lba) => (who, self.disks[who].submit_write(now, lba, &[1; 512], Write::default(), tag)),
            Act::Read(who, lba) => (who, self.disks[who].submit_read(now, lba, 1, tag)),
            Act::Reset(who) => (who, self.disks[who].submit_reset(now, tag)),
            Act::Misbehave(who, behaviour) => {
                self.disks[who].hba_mut().script.push_back(behaviour);
                return;
            }
            Act::Deliver(who) => {
                if let Some((slot, _)) = self.disks[who].hba_mut().held.first().copied() {
                    self.disks[who].hba_mut().release(slot);
                }
                return self.look();
            }
            Act::Pass(time) => {
                NOW.set(now + time);
                return self.settle();
            }
        };
        if taken.is_ok() {
            self.accounts[who].open.push(tag);
            self.tag += 1;
        }
        self.look();
    }

    /// Takes what has come, at this instant.
    fn settle(&mut self) {
        for _ in 0..200 {
            let mut quiet = true;
            for who in 0..2 {
                while let Some(completion) = self.disks[who].poll(NOW.get()) {
                    let (tag, operation) = (completion.tag, completion.operation);
                    let failure = completion.result.err().map(|error| error.cause);
                    self.on_end(who, tag, operation, failure);
                    quiet = false;
                }
                let due = self.disks[who].poll_timeout().is_some_and(|at| at <= NOW.get());
                quiet &= !due && !self.disks[who].hba_mut().has_outcome();
                self.look();
            }
            if quiet {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn on_end(&mut self, who: usize, tag: u64, operation: Operation, failure: Option<Cause>) {
        let at = self.accounts[who].open.iter().position(|open| *open == tag);
        self.accounts[who].open.remove(at.expect("ended twice, or never begun"));
        let not_done = failure.is_some_and(|cause| {
            cause == Cause::ReservationConflict || cause.attention().is_some() || cause.is_unknown_command()
        });
        match (operation, failure) {
            (Operation::Change(_), None) => self.accounts[who].changes_good += 1,
            (Operation::Change(_), Some(_)) if not_done => {}
            (Operation::Change(_), Some(_)) => self.accounts[who].changes_open += 1,
            (Operation::Write, None) => self.accounts[who].writes_good += 1,
            _ => {}
        }
        let step = self.accounts[who].evicting.iter().position(|step| *step == tag);
        if step.map(|at| self.accounts[who].evicting.remove(at)).is_some() {
            self.on_eviction_step(who, operation, failure);
        }
    }

    /// PREEMPT AND ABORT, or where it is not known PREEMPT and a reset.
    fn on_eviction_step(&mut self, who: usize, operation: Operation, failure: Option<Cause>) {
        let (now, tag) = (NOW.get(), self.tag);
        let next = match (operation, failure) {
            (Operation::Change(Change::PreemptAndAbort { key, victim, kind }), Some(cause))
                if cause.is_unknown_command() =>
            {
                self.disks[who].submit_change(now, &Change::Preempt { key, victim, kind }, tag)
            }
            (Operation::Change(Change::Preempt { .. }), None) => self.disks[who].submit_reset(now, tag),
            (_, None) => return self.on_evicted(1 - who),
            (_, Some(_)) => return,
        };
        if next.is_ok() {
            self.accounts[who].open.push(tag);
            self.accounts[who].evicting.push(tag);
            self.tag += 1;
        }
    }

    /// Unless it has registered again meanwhile, it is out.
    fn on_evicted(&mut self, victim: usize) {
        let target = self.unit.look();
        if target.nexuses[victim].key.is_none() && target.reserved.is_some() {
            self.accounts[victim].writes_when_out = Some(target.nexuses[victim].writes);
        }
    }

    /// What must hold at every instant.
    fn look(&mut self) {
        let target = self.unit.look();
        for (who, account) in self.accounts.iter_mut().enumerate() {
            let nexus = &target.nexuses[who];
            if nexus.key.is_some() || target.reserved.is_none() {
                account.writes_when_out = None;
            }
            if let Some(writes) = account.writes_when_out {
                assert_eq!(nexus.writes, writes, "a write landed after its initiator was put out");
            }
            assert!(account.writes_good <= nexus.writes);
            assert!(account.changes_good <= nexus.changes, "a change was reported done and was not");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// Every request ends once; what is reported done was done once, what is reported not done was not;
    /// after an eviction nothing of the victim lands.
    #[test]
    fn two_initiators(knows_abort: bool, acts in proptest::collection::vec(act(), 1..120)) {
        let mut run = Run::new(knows_abort);
        for act in [Act::RegisterAnyway(0), Act::RegisterAnyway(1), Act::Pass(0), Act::Reserve(0), Act::Pass(0)] {
            run.act(&act);
        }
        for act in &acts {
            run.act(act);
        }
        for disk in &mut run.disks {
            disk.hba_mut().script.clear();
        }
        for _ in 0..400 {
            NOW.set(NOW.get() + 50_000);
            run.settle();
        }
        let target = run.unit.look();
        for (who, account) in run.accounts.iter().enumerate() {
            prop_assert!(account.open.is_empty(), "{who} never ended: {:?}", account.open);
            let (good, open, done) = (account.changes_good, account.changes_open, target.nexuses[who].changes);
            prop_assert!(good <= done && done <= good + open, "{who}: {good} good, {open} open, {done} done");
        }
        drop(target);
        for disk in run.disks {
            prop_assert!(disk.is_settled());
            prop_assert_eq!(disk.outstanding(), 0);
        }
    }
}

#[test]
fn more_keys_than_nodes() {
    let (_, mut disks) = initiators(100);
    for (at, disk) in disks.iter_mut().enumerate() {
        assert_eq!(change(disk, Change::RegisterAnyway { new: key(at), persist: false }), None);
    }
    let data = report(&mut disks[0], Report::Keys, Keys::bytes_for(128));
    let found: Vec<Key> = Keys::parse(&data).unwrap().iter().collect();
    assert_eq!(found, (0..100).map(key).collect::<Vec<_>>());
    assert!(usize::from(Keys::bytes_for(128)) <= disks[0].hba_mut().slot_bytes());
}
