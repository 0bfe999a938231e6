//! The driver against the made-up device.

use std::vec;

use smoltcp::phy::{Device as _, RxToken, TxToken};
use smoltcp::time::Instant;

use crate::fake::{Device, Fault, MAC};
use crate::registers::{
    BROADCASTS, CRC_REMOVED, CTRL, DONE, END_OF_PACKET, MULTICASTS, RAH, RAL, RCTL, RDLEN, RDT, RECEIVE_ON, TDLEN,
};
use crate::{Counters, E1000, FRAME_BYTES_MAX, InitError, RECEIVE, TOLD, TRANSMIT};

fn pair() -> (Device, E1000<Device>) {
    let device = Device::new();
    let adapter = device.driver().unwrap();
    (device, adapter)
}

/// The next frame, if there is one.
fn next(adapter: &mut E1000<Device>) -> Option<vec::Vec<u8>> {
    let (received, _) = adapter.receive(Instant::ZERO)?;
    Some(received.consume(<[u8]>::to_vec))
}

#[test]
fn it_is_reset_and_set_up_as_its_manual_asks() {
    let (device, adapter) = pair();
    assert_eq!(device.resets(), 1);
    assert_eq!(adapter.mac(), MAC);
    assert_eq!(device.word(RAL), 0x5100_5452);
    assert_eq!(device.word(RAH), 0x8000_0300);
    assert_eq!(device.word(CTRL), 0x61);
    assert_eq!(device.word(RCTL), RECEIVE_ON | MULTICASTS | BROADCASTS | CRC_REMOVED);
    assert_eq!((device.word(RDLEN), device.word(TDLEN)), (16 * RECEIVE as u32, 16 * TRANSMIT as u32));
    assert!(device.word(RDLEN).is_multiple_of(128) && device.word(TDLEN).is_multiple_of(128));
    assert_eq!(device.word(RDT), RECEIVE as u32 - 1);
    assert!(!device.line(), "the causes from before are gone");
}

#[test]
fn a_device_that_does_not_come_up_is_named() {
    let init = |fault, address| Device::with(fault, address).driver().err();
    assert_eq!(init(Fault::Absent, MAC), Some(InitError::Absent));
    assert_eq!(init(Fault::NoReset, MAC), Some(InitError::NoReset));
    assert_eq!(init(Fault::NoEeprom, MAC), Some(InitError::Eeprom { word: 0 }));
    assert_eq!(init(Fault::None, [0; 6]), Some(InitError::Address([0; 6])));
    assert_eq!(init(Fault::None, [0xff; 6]), Some(InitError::Address([0xff; 6])));
}

#[test]
fn an_answer_is_sent_from_within_the_receive_closure_and_both_rings_wrap() {
    let (device, mut adapter) = pair();
    for round in 0..3 * RECEIVE {
        assert!(device.deliver(&[round as u8; 60]));
        let (received, transmit) = adapter.receive(Instant::ZERO).unwrap();
        received.consume(|frame| transmit.consume(frame.len(), |answer| answer.copy_from_slice(frame)));
        assert_eq!(device.take_sent(), [[round as u8; 60]]);
    }
    assert!(next(&mut adapter).is_none());
    let frames = 3 * RECEIVE as u64;
    assert_eq!(*adapter.counters(), Counters { received: frames, sent: frames, ..Counters::default() });
}

#[test]
fn a_full_receive_ring_holds_all_but_one_descriptor_in_order_and_goes_on_afterwards() {
    let (device, mut adapter) = pair();
    for turn in 0..3_u8 {
        for n in 0..RECEIVE - 1 {
            assert!(device.deliver(&[turn, n as u8, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]), "{turn} {n}");
        }
        assert!(!device.deliver(&[0; 60]), "no room");
        for n in 0..RECEIVE - 1 {
            let frame = next(&mut adapter).unwrap();
            assert_eq!(frame[..2], [turn, n as u8]);
        }
        assert!(next(&mut adapter).is_none());
    }
}

#[test]
fn the_device_is_told_of_emptied_descriptors_by_the_dozen_and_of_all_when_no_frame_waits() {
    let (device, mut adapter) = pair();
    let end = RECEIVE as u32 - 1;
    for _ in 0..TOLD + 5 {
        assert!(device.deliver(&[1; 60]));
    }
    for _ in 1..TOLD {
        assert!(next(&mut adapter).is_some());
        assert_eq!(device.word(RDT), end);
    }
    assert!(next(&mut adapter).is_some());
    assert_eq!(device.word(RDT), TOLD as u32 - 1);
    for _ in 0..5 {
        assert!(next(&mut adapter).is_some());
        assert_eq!(device.word(RDT), TOLD as u32 - 1);
    }
    assert!(next(&mut adapter).is_none());
    assert_eq!(device.word(RDT), TOLD as u32 + 4);
    // What is skipped is given back, too.
    assert!(device.deliver_as(&[1; 60], 3 | DONE | END_OF_PACKET));
    assert!(next(&mut adapter).is_none());
    assert_eq!(device.word(RDT), TOLD as u32 + 5);
}

#[test]
fn frames_of_impossible_length_are_counted_and_skipped() {
    let (device, mut adapter) = pair();
    for len in [0, 13, FRAME_BYTES_MAX as u64 + 1, 2048, 2049, 0xffff] {
        assert!(device.deliver_as(&[1; 60], len | DONE | END_OF_PACKET));
    }
    assert!(device.deliver(&[2; FRAME_BYTES_MAX]));
    assert_eq!(next(&mut adapter).unwrap(), [2; FRAME_BYTES_MAX]);
    assert_eq!(adapter.counters().bad_length, 6);
    assert!(device.deliver(&[3; 14]));
    assert_eq!(next(&mut adapter).unwrap(), [3; 14]);
}

#[test]
fn a_frame_in_parts_is_dropped_with_all_its_parts() {
    let (device, mut adapter) = pair();
    for _ in 0..2 {
        assert!(device.deliver_as(&[1; 2048], 2048 | DONE));
    }
    assert!(device.deliver(&[1; 60]), "its end");
    assert!(device.deliver(&[2; 60]));
    assert_eq!(next(&mut adapter).unwrap(), [2; 60]);
    assert_eq!(adapter.counters().bad_length, 3);
}

#[test]
fn damaged_frames_are_counted_and_skipped() {
    let (device, mut adapter) = pair();
    for error in [0, 1, 2, 4, 7] {
        assert!(device.deliver_as(&[1; 60], 60 | DONE | END_OF_PACKET | 1 << (40 + error)));
    }
    // A TCP checksum that the device finds wrong is none of its business.
    assert!(device.deliver_as(&[2; 60], 60 | DONE | END_OF_PACKET | 1 << 45));
    assert_eq!(next(&mut adapter).unwrap(), [2; 60]);
    assert_eq!(adapter.counters().damaged, 5);
}

#[test]
fn descriptors_are_taken_in_order_whatever_the_device_writes_elsewhere() {
    let (device, mut adapter) = pair();
    device.scribble(1, u64::MAX);
    device.scribble(127, u64::MAX);
    assert!(!adapter.has_work() && next(&mut adapter).is_none());
    assert!(device.deliver(&[1; 60]));
    assert_eq!(next(&mut adapter).unwrap(), [1; 60]);
    // Now the next one is the scribbled one: an impossible length.
    assert!(next(&mut adapter).is_none());
    assert_eq!(adapter.counters().bad_length, 1);
}

#[test]
fn a_full_transmit_ring_is_back_pressure() {
    let (device, mut adapter) = pair();
    device.set_stuck(true);
    for n in 0..TRANSMIT - 1 {
        let transmit = adapter.transmit(Instant::ZERO).unwrap();
        transmit.consume(60, |frame| frame.fill(n as u8));
    }
    assert!(adapter.transmit(Instant::ZERO).is_none());
    assert!(device.deliver(&[9; 60]));
    assert!(adapter.receive(Instant::ZERO).is_none(), "the frame is kept");
    assert_eq!(adapter.counters().transmit_full, 2);
    device.set_stuck(false);
    let sent = device.take_sent();
    assert_eq!(sent.len(), TRANSMIT - 1);
    assert!(sent.iter().enumerate().all(|(n, frame)| *frame == [n as u8; 60]));
    assert_eq!(next(&mut adapter).unwrap(), [9; 60]);
    assert!(adapter.transmit(Instant::ZERO).is_some());
}

#[test]
fn an_oversized_frame_is_lost_not_a_panic() {
    let (device, mut adapter) = pair();
    for len in [FRAME_BYTES_MAX + 1, 2048, 2049, 1_000_000] {
        adapter.transmit(Instant::ZERO).unwrap().consume(len, |frame| frame.fill(1));
    }
    assert_eq!(adapter.counters().lost, 4);
    assert!(device.take_sent().is_empty());
    adapter.transmit(Instant::ZERO).unwrap().consume(FRAME_BYTES_MAX, |frame| frame.fill(2));
    assert_eq!(device.take_sent(), [[2; FRAME_BYTES_MAX]]);
}

#[test]
fn the_line_is_up_from_a_frame_until_it_is_acknowledged() {
    let (device, mut adapter) = pair();
    assert!(!adapter.acknowledge(), "another device's");
    assert!(device.deliver(&[1; 60]));
    assert!(device.line());
    assert!(adapter.acknowledge());
    assert!(!device.line() && !adapter.acknowledge());
    assert!(adapter.has_work(), "acknowledged is not taken");
    device.set_link(false);
    assert!(device.line() && adapter.acknowledge());
}

#[test]
fn the_line_is_raised_without_a_frame_and_acknowledged_once() {
    let (device, mut adapter) = pair();
    assert!(!device.line());
    adapter.raise();
    assert!(device.line());
    assert!(adapter.acknowledge());
    assert!(!device.line() && !adapter.acknowledge() && !adapter.has_work());
}

#[test]
fn carrier_is_read_from_the_status_and_a_device_that_is_gone_has_none() {
    let (device, mut adapter) = pair();
    assert!(adapter.has_carrier());
    device.set_link(false);
    assert!(!adapter.has_carrier());
    device.set_link(true);
    assert!(adapter.has_carrier());
    device.pull();
    assert!(!adapter.has_carrier() && !adapter.acknowledge());
    assert!(next(&mut adapter).is_none());
}
