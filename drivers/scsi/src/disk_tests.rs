//! The block device machine against a scripted adapter, on virtual time.

use crate::capacity::Geometry;
use crate::discovery::{Discovery, Progress};
use crate::disk::*;
use crate::fake::{Behaviour, FakeHba, SLOTS};
use crate::hba::{Function, HbaEvent, Response};
use crate::judge::Cause;
use crate::sense::Key;
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

const IO_MAX_US: u64 = 200_000;
const DURABLE: Write = Write { durable: true, not_after_us: None };

fn disk_of(mut hba: FakeHba) -> TestDisk {
    let mut discovery = Discovery::new(1);
    let unit = loop {
        match discovery.poll(&mut hba, 0) {
            Progress::Unit(unit) => break unit,
            Progress::Pending => {}
            Progress::Done => panic!("no disk"),
        }
    };
    hba.opcodes.clear();
    NOW.set(0);
    Disk::new(hba, &unit, Config::with_io_max_us(IO_MAX_US), clock)
}

fn disk() -> TestDisk {
    disk_of(FakeHba::new(512, 1024))
}

fn script(disk: &mut TestDisk, behaviours: &[Behaviour]) {
    disk.hba_mut().script.extend(behaviours);
}

/// Runs on virtual time until nothing happens by itself; what completed, as (tag, failure).
fn settle(disk: &mut TestDisk, until_us: u64) -> Vec<(u64, Option<Cause>)> {
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

#[test]
fn what_was_written_is_read_on_both_block_sizes() {
    for block in [512u32, 4096] {
        let mut disk = disk_of(FakeHba::new(block, 256));
        let data = vec![0x5a; block as usize];
        disk.submit_write(0, 3, &data, DURABLE, 1).unwrap();
        assert_eq!(settle(&mut disk, 0), [(1, None)]);
        let blocks = 36 * 1024 / block;
        disk.submit_read(0, 0, blocks, 2).unwrap();
        let completion = disk.poll(0).unwrap();
        let read = completion.result.unwrap();
        assert_eq!(read.len(), 36 * 1024);
        assert_eq!(&read[3 * block as usize..4 * block as usize], &data[..]);
    }
}

#[test]
fn durable_writes_carry_fua_and_others_do_not() {
    let mut disk = disk();
    disk.submit_write(0, 0, &[1; 512], DURABLE, 1).unwrap();
    disk.submit_write(0, 1, &[1; 512], Write::default(), 2).unwrap();
    settle(&mut disk, 0);
    assert_eq!(disk.hba_mut().opcodes, [(0x2a, 8), (0x2a, 0)]);
}

#[test]
fn a_unit_that_refuses_fua_gets_synchronize_cache() {
    let mut disk = disk();
    disk.hba_mut().refuse_fua = true;
    disk.submit_write(0, 0, &[7; 512], DURABLE, 1).unwrap();
    assert_eq!(settle(&mut disk, 0), [(1, None)]);
    assert_eq!(disk.hba_mut().opcodes, [(0x2a, 8), (0x2a, 0), (0x35, 0)]);
    assert_eq!(disk.durability(), Durability::Synchronize);
    assert!(events(&mut disk).contains(&Event::FuaRefused));
    disk.hba_mut().opcodes.clear();
    disk.submit_write(0, 1, &[7; 512], DURABLE, 2).unwrap();
    settle(&mut disk, 0);
    assert_eq!(disk.hba_mut().opcodes, [(0x2a, 0), (0x35, 0)]);
}

#[test]
fn many_in_flight_complete_out_of_order() {
    let mut disk = disk();
    disk.hba_mut().reversed = true;
    for tag in 0..SLOTS as u64 {
        disk.submit_write(0, tag, &[tag as u8; 512], DURABLE, tag).unwrap();
    }
    assert_eq!(disk.submit_read(0, 0, 1, 99), Err(SubmitError::NoSlot));
    let done = settle(&mut disk, 0);
    let order: Vec<u64> = (0..SLOTS as u64).rev().collect();
    assert_eq!(done.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), order);
    for tag in 0..SLOTS {
        assert_eq!(disk.hba_mut().disk[tag * 512], tag as u8);
    }
    assert_eq!(disk.outstanding(), 0);
}

#[test]
fn the_fate_of_a_write_is_known_before_the_next_to_the_same_block() {
    let mut disk = disk();
    script(&mut disk, &[Behaviour::Hold]);
    disk.submit_write(0, 8, &[1; 1024], DURABLE, 1).unwrap();
    for lba in [7, 8, 9] {
        let result = disk.submit_write(0, lba, &[2; 1024], DURABLE, 2);
        assert_eq!(result, Err(SubmitError::WriteOutstanding), "lba {lba}");
    }
    disk.submit_write(0, 10, &[2; 512], DURABLE, 3).unwrap();
    disk.submit_read(0, 8, 2, 4).unwrap();
    disk.hba_mut().release(0);
    assert_eq!(settle(&mut disk, 0).len(), 3);
    disk.submit_write(0, 8, &[2; 512], DURABLE, 5).unwrap();
}

#[test]
fn requests_outside_the_unit_or_a_slot_are_refused() {
    let mut disk = disk();
    assert_eq!(disk.submit_read(0, 1024, 1, 0), Err(SubmitError::OutOfRange));
    assert_eq!(disk.submit_read(0, 1023, 2, 0), Err(SubmitError::OutOfRange));
    assert_eq!(disk.submit_read(0, u64::MAX, 2, 0), Err(SubmitError::OutOfRange));
    assert_eq!(disk.submit_read(0, 0, 0, 0), Err(SubmitError::OutOfRange));
    assert_eq!(disk.submit_read(0, 0, 73, 0), Err(SubmitError::TooLarge));
    assert_eq!(disk.submit_write(0, 0, &[0; 511], DURABLE, 0), Err(SubmitError::BadLength));
    assert_eq!(disk.submit_write(0, 0, &[], DURABLE, 0), Err(SubmitError::BadLength));
    assert_eq!(disk.submit_read(0, 1023, 1, 0), Ok(()));
}

#[test]
fn a_unit_attention_is_reported_and_the_request_tried_again() {
    let mut disk = disk();
    script(&mut disk, &[Behaviour::Sense([6, 0x29, 0]), Behaviour::Sense([6, 0x2a, 5])]);
    disk.submit_read(0, 0, 1, 1).unwrap();
    assert_eq!(settle(&mut disk, 0), [(1, None)]);
    let attentions: Vec<(u8, u8)> = events(&mut disk)
        .into_iter()
        .filter_map(|event| match event {
            Event::UnitAttention(sense) => Some((sense.asc, sense.ascq)),
            _ => None,
        })
        .collect();
    assert_eq!(attentions, [(0x29, 0), (0x2a, 5)]);
    assert_eq!(disk.counters().unit_attentions, 2);
}

#[test]
fn endless_unit_attentions_end_as_an_error() {
    let mut disk = disk();
    script(&mut disk, &[Behaviour::Sense([6, 0x29, 0]); 100]);
    disk.submit_read(0, 0, 1, 1).unwrap();
    let done = settle(&mut disk, 0);
    assert!(matches!(done[..], [(1, Some(Cause::Check(sense)))] if sense.key == Key::UnitAttention));
    assert_eq!(disk.hba_mut().opcodes.len(), 9);
}

#[test]
fn aborted_commands_are_tried_again_and_medium_errors_are_not() {
    let mut disk = disk();
    script(&mut disk, &[Behaviour::Sense([0xb, 0, 6]), Behaviour::Good]);
    disk.submit_read(0, 0, 1, 1).unwrap();
    assert_eq!(settle(&mut disk, 0), [(1, None)]);
    disk.hba_mut().unreadable = Some(5);
    disk.submit_read(0, 5, 1, 2).unwrap();
    let done = settle(&mut disk, 0);
    assert!(matches!(done[..], [(2, Some(Cause::Check(sense)))] if sense.key == Key::MediumError));
    assert_eq!(disk.hba_mut().opcodes.len(), 3);
}

#[test]
fn a_reservation_conflict_is_never_tried_again() {
    let mut disk = disk();
    script(&mut disk, &[Behaviour::Status(0x18)]);
    disk.submit_write(0, 0, &[1; 512], DURABLE, 1).unwrap();
    assert_eq!(settle(&mut disk, 0), [(1, Some(Cause::ReservationConflict))]);
    assert_eq!(disk.hba_mut().opcodes.len(), 1);
}

#[test]
fn a_busy_unit_is_asked_again_after_growing_pauses_until_patience_ends() {
    let mut disk = disk();
    script(&mut disk, &[Behaviour::Status(0x08), Behaviour::Status(0x28), Behaviour::Good]);
    disk.submit_read(0, 0, 1, 1).unwrap();
    assert_eq!(settle(&mut disk, u64::MAX), [(1, None)]);
    assert_eq!(NOW.get(), 500 + 1000);
    script(&mut disk, &[Behaviour::Status(0x08); 10_000]);
    disk.submit_read(NOW.get(), 0, 1, 2).unwrap();
    assert_eq!(settle(&mut disk, u64::MAX), [(2, Some(Cause::Busy))]);
    assert!(NOW.get() < 6_000_000);
}

#[test]
fn a_response_other_than_ok_is_an_error_with_status_good() {
    let mut disk = disk();
    script(&mut disk, &[Behaviour::Response(Response::Overrun)]);
    disk.submit_read(0, 0, 1, 1).unwrap();
    assert_eq!(settle(&mut disk, 0), [(1, Some(Cause::Hba(Response::Overrun)))]);
}

#[test]
fn a_short_transfer_is_an_error() {
    let mut disk = disk();
    script(&mut disk, &[Behaviour::Residual(12)]);
    disk.submit_read(0, 0, 1, 1).unwrap();
    assert_eq!(settle(&mut disk, 0), [(1, Some(Cause::Short { residual: 12 }))]);
}

#[test]
fn a_frozen_write_is_refused_at_the_doorbell() {
    let mut disk = disk();
    let limited = Write { durable: true, not_after_us: Some(1000) };
    NOW.set(1000);
    disk.submit_write(1000, 0, &[1; 512], limited, 1).unwrap();
    NOW.set(1001);
    // The caller's time is older than the clock at the doorbell: the clock counts.
    let result = disk.submit_write(999, 1, &[1; 512], limited, 2);
    assert_eq!(result, Err(SubmitError::Frozen));
    assert_eq!(settle(&mut disk, 1001), [(1, None)]);
    assert_eq!(disk.hba_mut().opcodes.len(), 1);
    assert_eq!(disk.hba_mut().disk[512], 0);
    assert_eq!(disk.counters().frozen, 1);
}

#[test]
fn a_retry_of_a_write_is_checked_again() {
    let mut disk = disk();
    script(&mut disk, &[Behaviour::Status(0x08)]);
    let limited = Write { durable: true, not_after_us: Some(100) };
    disk.submit_write(0, 0, &[1; 512], limited, 1).unwrap();
    assert_eq!(settle(&mut disk, u64::MAX), [(1, Some(Cause::Frozen))]);
    assert_eq!(disk.hba_mut().opcodes.len(), 1);
    assert_eq!(disk.hba_mut().disk[0], 0);
}

#[test]
fn an_overdue_write_is_aborted_and_its_fate_known() {
    let mut disk = disk();
    script(&mut disk, &[Behaviour::Hold]);
    disk.submit_write(0, 0, &[1; 512], DURABLE, 1).unwrap();
    assert_eq!(settle(&mut disk, IO_MAX_US - 1), []);
    assert_eq!(settle(&mut disk, IO_MAX_US), [(1, Some(Cause::TimedOut))]);
    assert!(matches!(disk.hba_mut().tasks[0].function, Function::Abort { slot: 0 }));
    assert_eq!(disk.hba_mut().disk[0], 0);
    assert_eq!(disk.outstanding(), 0);
    let seen = events(&mut disk);
    assert!(seen.contains(&Event::AbortConfirmed));
    assert!(seen.iter().any(|event| matches!(event, Event::Overdue { tag: 1, .. })));
}

#[test]
fn a_denied_abort_leads_to_a_reset() {
    let mut disk = disk();
    disk.hba_mut().confirm = None;
    script(&mut disk, &[Behaviour::Hold]);
    disk.submit_write(0, 0, &[1; 512], DURABLE, 1).unwrap();
    settle(&mut disk, IO_MAX_US);
    let abort = disk.hba_mut().tasks[0];
    disk.hba_mut().confirm = Some(true);
    disk.hba_mut().answer_task(abort, false);
    assert_eq!(settle(&mut disk, IO_MAX_US), [(1, Some(Cause::TimedOut))]);
    assert_eq!(disk.hba_mut().tasks[1].function, Function::ResetUnit);
    assert!(events(&mut disk).contains(&Event::ResetConfirmed));
    assert!(disk.is_settled());
}

#[test]
fn without_confirmation_the_write_stays_outstanding_however_long() {
    let mut disk = disk();
    disk.hba_mut().confirm = None;
    script(&mut disk, &[Behaviour::Hold]);
    disk.submit_write(0, 0, &[1; 512], DURABLE, 1).unwrap();
    assert_eq!(settle(&mut disk, 120_000_000), []);
    assert_eq!(disk.submit_write(NOW.get(), 0, &[2; 512], DURABLE, 2), Err(SubmitError::WriteOutstanding));
    // What comes meanwhile waits.
    disk.submit_read(NOW.get(), 5, 1, 3).unwrap();
    assert_eq!(settle(&mut disk, 120_000_000), []);
    let resets: Vec<_> =
        disk.hba_mut().tasks.iter().filter(|task| task.function == Function::ResetUnit).copied().collect();
    assert!(resets.len() >= 10);
    disk.hba_mut().answer_task(resets[0], true);
    let done = settle(&mut disk, NOW.get());
    assert_eq!(done, [(1, Some(Cause::TimedOut)), (3, None)]);
    // The adapter still has the slot: it is not used again.
    assert_eq!(disk.outstanding(), 1);
    disk.submit_write(NOW.get(), 0, &[3; 512], DURABLE, 4).unwrap();
    disk.hba_mut().bring_back(0, Response::Aborted);
    assert_eq!(settle(&mut disk, NOW.get()), [(4, None)]);
    assert_eq!(disk.outstanding(), 0);
}

/// Loses a slot: the abort is confirmed, the command does not come back.
fn lose_a_slot(disk: &mut TestDisk, tag: u64) {
    script(disk, &[Behaviour::Hold]);
    disk.submit_write(NOW.get(), tag, &[1; 512], DURABLE, tag).unwrap();
    assert_eq!(settle(disk, NOW.get() + IO_MAX_US), [(tag, Some(Cause::TimedOut))]);
    disk.hba_mut().held.clear();
}

#[test]
fn slots_that_do_not_come_back_are_had_back_by_a_reset_of_the_adapter() {
    let mut disk = disk();
    disk.hba_mut().abort_returns = false;
    for tag in 0..5 * SLOTS as u64 {
        lose_a_slot(&mut disk, tag);
    }
    assert_eq!(disk.hba_mut().restarts, 5 * SLOTS / (SLOTS / 2));
    assert!(events(&mut disk).contains(&Event::AdapterRestarted { slots: SLOTS / 2 }));
    disk.submit_read(NOW.get(), 0, 1, 999).unwrap();
    assert_eq!(settle(&mut disk, NOW.get()), [(999, None)]);
    assert_eq!(disk.outstanding(), 0);
}

#[test]
fn the_adapter_is_not_reset_while_a_command_is_under_way() {
    let mut disk = disk();
    disk.hba_mut().abort_returns = false;
    for tag in 0..SLOTS as u64 / 2 - 1 {
        lose_a_slot(&mut disk, tag);
    }
    script(&mut disk, &[Behaviour::Hold, Behaviour::Hold]);
    disk.submit_write(NOW.get(), 100, &[1; 512], DURABLE, 100).unwrap();
    NOW.set(NOW.get() + IO_MAX_US / 2);
    disk.submit_read(NOW.get(), 200, 1, 200).unwrap();
    let slot = disk.hba_mut().held[1].0;
    assert_eq!(settle(&mut disk, NOW.get() + IO_MAX_US / 2), [(100, Some(Cause::TimedOut))]);
    // What comes meanwhile waits for the reset.
    disk.submit_write(NOW.get(), 300, &[3; 512], DURABLE, 300).unwrap();
    assert_eq!(settle(&mut disk, NOW.get()), []);
    assert_eq!((disk.hba_mut().restarts, disk.hba_mut().disk[300 * 512]), (0, 0));
    disk.hba_mut().release(slot);
    assert_eq!(settle(&mut disk, NOW.get()), [(200, None), (300, None)]);
    assert_eq!((disk.hba_mut().restarts, disk.hba_mut().disk[300 * 512]), (1, 3));
}

#[test]
fn an_adapter_that_cannot_be_reset_goes_on_with_fewer_slots() {
    let mut disk = disk();
    disk.hba_mut().abort_returns = false;
    disk.hba_mut().no_restart = true;
    for tag in 0..SLOTS as u64 - 1 {
        lose_a_slot(&mut disk, tag);
    }
    assert!(events(&mut disk).contains(&Event::AdapterWorn));
    disk.submit_read(NOW.get(), 0, 1, 999).unwrap();
    assert_eq!(disk.submit_read(NOW.get(), 0, 1, 998), Err(SubmitError::NoSlot));
    assert_eq!(settle(&mut disk, NOW.get()), [(999, None)]);
}

#[test]
fn a_late_answer_counts_as_the_answer() {
    let mut disk = disk();
    disk.hba_mut().confirm = None;
    script(&mut disk, &[Behaviour::Hold]);
    disk.submit_write(0, 0, &[9; 512], DURABLE, 1).unwrap();
    settle(&mut disk, IO_MAX_US);
    disk.hba_mut().release(0);
    assert_eq!(settle(&mut disk, IO_MAX_US), [(1, None)]);
    assert!(events(&mut disk).contains(&Event::Late { tag: 1 }));
    assert!(disk.is_settled());
}

#[test]
fn a_stale_confirmation_says_nothing_about_a_later_request_in_the_slot() {
    let mut disk = disk();
    disk.hba_mut().confirm = None;
    script(&mut disk, &[Behaviour::Hold]);
    disk.submit_write(0, 0, &[1; 512], DURABLE, 1).unwrap();
    settle(&mut disk, IO_MAX_US);
    let stale = disk.hba_mut().tasks[0];
    disk.hba_mut().release(0);
    settle(&mut disk, IO_MAX_US);
    script(&mut disk, &[Behaviour::Hold]);
    disk.submit_write(NOW.get(), 1, &[2; 512], DURABLE, 2).unwrap();
    settle(&mut disk, 2 * IO_MAX_US);
    disk.hba_mut().answer_task(stale, true);
    assert_eq!(settle(&mut disk, 2 * IO_MAX_US), []);
    assert_eq!(disk.submit_write(NOW.get(), 1, &[3; 512], DURABLE, 3), Err(SubmitError::WriteOutstanding));
}

#[test]
fn a_reset_of_ours_does_not_fail_the_innocent() {
    let mut disk = disk();
    disk.hba_mut().confirm = None;
    script(&mut disk, &[Behaviour::Hold]);
    disk.submit_write(0, 0, &[1; 512], DURABLE, 1).unwrap();
    NOW.set(IO_MAX_US - 1);
    script(&mut disk, &[Behaviour::Hold]);
    disk.submit_write(NOW.get(), 1, &[2; 512], DURABLE, 2).unwrap();
    settle(&mut disk, IO_MAX_US);
    let abort = disk.hba_mut().tasks[0];
    disk.hba_mut().answer_task(abort, false);
    disk.hba_mut().confirm = Some(true);
    let done = settle(&mut disk, IO_MAX_US);
    assert!(done.contains(&(1, Some(Cause::TimedOut))));
    assert!(done.contains(&(2, None)));
    assert_eq!(disk.hba_mut().disk[512], 2);
}

#[test]
fn birth_clears_the_task_set_first() {
    let mut disk = disk();
    disk.hba_mut().confirm = None;
    disk.clear_task_set(0).unwrap();
    disk.submit_read(0, 0, 1, 1).unwrap();
    assert!(disk.poll(0).is_none());
    assert!(disk.hba_mut().opcodes.is_empty(), "it waits");
    let clear = disk.hba_mut().tasks[0];
    assert_eq!(clear.function, Function::AbortSet);
    disk.hba_mut().answer_task(clear, true);
    assert_eq!(settle(&mut disk, 0), [(1, None)]);
    assert!(events(&mut disk).contains(&Event::TaskSetCleared));
}

#[test]
fn changed_capacity_is_noticed() {
    let mut disk = disk();
    disk.hba_mut().disk.resize(512 * 2048, 0);
    script(&mut disk, &[Behaviour::Sense([6, 0x2a, 9])]);
    disk.submit_read(0, 0, 1, 1).unwrap();
    settle(&mut disk, 0);
    settle(&mut disk, 0);
    let old = Geometry { blocks: 1024, block_bytes: 512 };
    let new = Geometry { blocks: 2048, block_bytes: 512 };
    assert!(events(&mut disk).contains(&Event::GeometryChanged { old, new }));
    assert_eq!(disk.geometry(), new);
    disk.hba_mut().block_bytes = 4096;
    let address = disk.address();
    disk.hba_mut().events.push_back(HbaEvent::ParametersChanged { address, asc: 0x2a, ascq: 9 });
    settle(&mut disk, 0);
    settle(&mut disk, 0);
    assert_eq!(disk.submit_read(0, 0, 1, 2), Err(SubmitError::GeometryChanged));
}

#[test]
fn a_dead_adapter_is_an_error() {
    let mut disk = disk();
    disk.hba_mut().broken = true;
    assert_eq!(disk.submit_read(0, 0, 1, 1), Err(SubmitError::HbaBroken));
    assert_eq!(disk.outstanding(), 0);
}

#[test]
fn the_adapter_comes_back_when_nothing_is_outstanding() {
    let mut disk = disk();
    disk.submit_read(0, 0, 1, 1).unwrap();
    let mut disk = disk.into_hba().err().unwrap();
    settle(&mut disk, 0);
    assert!(disk.into_hba().is_ok());
}

#[derive(Clone, Debug)]
enum Act {
    Read(u64),
    Write(u64),
    Misbehave(Behaviour),
    Pass(u64),
    Release,
}

fn act() -> impl Strategy<Value = Act> {
    let behaviour = prop_oneof![
        Just(Behaviour::Hold),
        Just(Behaviour::Sense([6, 0x29, 0])),
        Just(Behaviour::Sense([0xb, 0, 6])),
        Just(Behaviour::Status(0x28)),
        Just(Behaviour::Response(Response::Overrun)),
        Just(Behaviour::Residual(3)),
    ];
    prop_oneof![
        (0u64..32).prop_map(Act::Read),
        (0u64..32).prop_map(Act::Write),
        behaviour.prop_map(Act::Misbehave),
        (0u64..300_000).prop_map(Act::Pass),
        Just(Act::Release),
    ]
}

proptest! {
    /// Every request that is taken ends exactly once, and no slot is lost, whatever the device does.
    #[test]
    fn every_request_ends_exactly_once(acts in proptest::collection::vec(act(), 1..200)) {
        let mut disk = disk();
        let mut open = Vec::new();
        let mut tag = 0;
        for act in acts {
            let now = NOW.get();
            match act {
                Act::Read(lba) => if disk.submit_read(now, lba, 1, tag).is_ok() {
                    open.push(tag);
                    tag += 1;
                },
                Act::Write(lba) => if disk.submit_write(now, lba, &[1; 512], DURABLE, tag).is_ok() {
                    open.push(tag);
                    tag += 1;
                },
                Act::Misbehave(behaviour) => disk.hba_mut().script.push_back(behaviour),
                Act::Pass(time) => {
                    for (done, _) in settle(&mut disk, now + time) {
                        let at = open.iter().position(|tag| *tag == done);
                        prop_assert!(at.is_some(), "{done} ended twice or never began");
                        open.remove(at.unwrap());
                    }
                    NOW.set(now + time);
                }
                Act::Release => if let Some((slot, _)) = disk.hba_mut().held.first().copied() {
                    disk.hba_mut().release(slot);
                },
            }
        }
        for (done, _) in settle(&mut disk, NOW.get() + 120_000_000) {
            open.retain(|tag| *tag != done);
        }
        prop_assert!(open.is_empty(), "never ended: {open:?}");
        prop_assert!(disk.is_settled());
        prop_assert!(disk.into_hba().is_ok());
    }
}
