//! The adapter against a device of test code.

use super::*;
use quorate_bus::fake::{FakeDevice, FakeTransport};
use quorate_bus::port::VERSION_1;
use quorate_scsi::capacity::Geometry;
use quorate_scsi::cdb::Cdb;
use quorate_scsi::discovery::{Discovery, Progress};
use quorate_scsi::disk::{Config as DiskConfig, Disk};
use quorate_scsi::hba::{Address, Function};
use std::vec;
use std::vec::Vec as StdVec;

const AT: Address = Address { target: 0, lun: 0 };

fn config() -> [u8; 36] {
    let mut bytes = [0u8; 36];
    for (offset, value) in
        [(0, 1u32), (4, 126), (8, 0xffff), (12, 128), (16, 16), (20, 96), (24, 32), (28, 0x00ff_0000), (32, 16383)]
    {
        bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

fn adapter() -> (FakeDevice, VirtioScsi<FakeTransport>) {
    let offered = VERSION_1 | 1 << 29 | 0b111;
    let device = FakeDevice::new(DeviceType::ScsiHost, offered, &config(), &[256, 256, 256]);
    let adapter = VirtioScsi::new(device.port()).unwrap();
    (device, adapter)
}

fn response(response: u8, status: u8, residual: u32, sense: &[u8]) -> StdVec<u8> {
    let mut bytes = vec![0u8; RESPONSE_BYTES];
    bytes[0] = sense.len() as u8;
    bytes[4..8].copy_from_slice(&residual.to_le_bytes());
    bytes[10] = status;
    bytes[11] = response;
    bytes[12..12 + sense.len()].copy_from_slice(sense);
    bytes
}

fn command(cdb: Cdb, transfer: Transfer) -> Command {
    Command { address: AT, cdb, transfer }
}

#[test]
fn event_idx_is_not_negotiated() {
    let (device, adapter) = adapter();
    assert_eq!(device.agreed(), VERSION_1 | 0b110);
    assert_eq!(adapter.features(), VERSION_1 | 0b110);
    assert_eq!(device.notified(1), EVENTS);
}

#[test]
fn a_restart_gives_all_slots_back_and_listens_again() {
    let (device, mut adapter) = adapter();
    let read = command(Cdb::read(8, 1), Transfer::In(512));
    for slot in 0..SLOTS {
        adapter.submit(slot, &read, &mut || true).unwrap();
    }
    adapter.submit_task(Task { address: AT, function: Function::AbortSet, serial: 1 }).unwrap();
    adapter.restart().unwrap();
    assert_eq!(adapter.counters().restarts, 1);
    assert!((0..SLOTS).all(|slot| adapter.data(slot).is_some()));
    assert_eq!((adapter.poll(), adapter.poll_task(), adapter.poll_event()), (None, None, None));
    adapter.submit(3, &read, &mut || true).unwrap();
    let chain = device.take(2).unwrap();
    device.complete(2, chain, &response(0, 0, 0, &[]));
    assert_eq!(adapter.poll().unwrap().slot, 3);
    // All event buffers are there again.
    assert_eq!(core::iter::from_fn(|| device.take(1)).count(), EVENTS);
    // A device that does not come back is dead, and says so.
    device.set_config(20, 64);
    assert_eq!(adapter.restart(), Err(HbaError::Broken));
    assert_eq!(adapter.submit(0, &read, &mut || true), Err(HbaError::Broken));
}

#[test]
fn an_unusable_configuration_is_refused() {
    let mut bytes = config();
    bytes[20] = 64;
    let device = FakeDevice::new(DeviceType::ScsiHost, VERSION_1, &bytes, &[256; 3]);
    assert!(matches!(VirtioScsi::new(device.port()), Err(InitError::Config(_))));
    let device = FakeDevice::new(DeviceType::ScsiHost, VERSION_1, &bytes[..20], &[256; 3]);
    assert!(matches!(VirtioScsi::new(device.port()), Err(InitError::Port(PortError::ConfigTooSmall))));
    let device = FakeDevice::new(DeviceType::ScsiHost, VERSION_1, &config(), &[256, 256, 64]);
    assert!(matches!(VirtioScsi::new(device.port()), Err(InitError::Queue(QueueError::TooSmall { offered: 64 }))));
}

#[test]
fn data_goes_both_ways_and_the_slot_comes_back() {
    let (device, mut adapter) = adapter();
    adapter.data_mut(0).unwrap()[..512].fill(0x5a);
    let write = command(Cdb::write(8, 1, true), Transfer::Out(512));
    adapter.submit(0, &write, &mut || true).unwrap();
    assert!(adapter.data(0).is_none());
    let read = command(Cdb::read(8, 1), Transfer::In(512));
    adapter.submit(1, &read, &mut || true).unwrap();
    let first = device.take(2).unwrap();
    let second = device.take(2).unwrap();
    assert_eq!(first.readable.len(), REQUEST_BYTES + 512);
    assert_eq!(first.readable[19..21], [0x2a, 8]);
    assert_eq!(first.readable[REQUEST_BYTES], 0x5a);
    let mut answer = response(0, 0, 0, &[]);
    answer.extend([0xa5; 512]);
    device.complete(2, second, &answer);
    device.complete(2, first, &response(0, 0, 0, &[]));
    assert!(adapter.has_work());
    assert_eq!(adapter.poll().unwrap().slot, 1);
    assert_eq!(adapter.data(1).unwrap()[511], 0xa5);
    assert_eq!(adapter.poll().unwrap().slot, 0);
    assert_eq!(adapter.poll(), None);
}

#[test]
fn a_write_whose_length_counts_its_own_data_is_good_as_qemu_does_it() {
    let (device, mut adapter) = adapter();
    let write = command(Cdb::write(8, 1, true), Transfer::Out(512));
    adapter.submit(0, &write, &mut || true).unwrap();
    let chain = device.take(2).unwrap();
    device.write_answer(&chain, &response(0, 0, 0, &[]));
    device.push_used(2, u32::from(chain.head), (RESPONSE_BYTES + 512) as u32);
    let outcome = adapter.poll().unwrap();
    assert_eq!((outcome.response, outcome.status), (Response::Ok, 0));
    assert_eq!(adapter.violation(), None);
}

#[test]
fn an_answer_that_was_never_written_is_an_error() {
    let (device, mut adapter) = adapter();
    let ready = command(Cdb::test_unit_ready(), Transfer::None);
    adapter.submit(0, &ready, &mut || true).unwrap();
    let chain = device.take(2).unwrap();
    device.complete(2, chain, &[]);
    assert_eq!(adapter.poll().unwrap().response, Response::Unknown(0xff));
    assert_eq!(adapter.counters().bad_responses, 1);
}

#[test]
fn a_refused_guard_leaves_the_device_alone() {
    let (device, mut adapter) = adapter();
    let ready = command(Cdb::test_unit_ready(), Transfer::None);
    assert_eq!(adapter.submit(0, &ready, &mut || false), Err(HbaError::Refused));
    assert!(device.take(2).is_none());
    assert_eq!(device.notified(2), 0);
}

#[test]
fn an_abort_names_the_command_and_its_answer_carries_the_serial() {
    let (device, mut adapter) = adapter();
    let task = Task { address: AT, function: Function::Abort { slot: 2 }, serial: 77 };
    assert_eq!(adapter.submit_task(task), Err(HbaError::Unfit), "nothing to abort");
    let ready = command(Cdb::test_unit_ready(), Transfer::None);
    adapter.submit(2, &ready, &mut || true).unwrap();
    adapter.submit_task(task).unwrap();
    let sent = device.take(2).unwrap();
    let chain = device.take(0).unwrap();
    assert_eq!(chain.readable[16..24], sent.readable[8..16], "the same id");
    device.complete(0, chain, &[0]);
    assert_eq!(adapter.poll_task(), Some(TaskOutcome { task, confirmed: true }));
    assert_eq!(adapter.poll_task(), None);
}

#[test]
fn events_are_reported_and_their_buffers_given_back() {
    let (device, mut adapter) = adapter();
    for round in 0..3 * EVENTS {
        let chain = device.take(1).unwrap();
        assert_eq!(chain.writable_bytes(), EVENT_BYTES);
        device.complete(1, chain, &[3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x2a, 9, 0, 0]);
        assert!(matches!(adapter.poll_event(), Some(HbaEvent::ParametersChanged { asc: 0x2a, ascq: 9, .. })));
        assert_eq!(adapter.counters().events, round as u64 + 1);
    }
    let chain = device.take(1).unwrap();
    device.complete(1, chain, &[9, 9, 9, 9]);
    assert_eq!(adapter.poll_event(), None);
    assert_eq!(adapter.counters().unreadable_events, 1);
}

#[test]
fn a_token_out_of_range_kills_the_adapter_not_the_kernel() {
    let (device, mut adapter) = adapter();
    let ready = command(Cdb::test_unit_ready(), Transfer::None);
    adapter.submit(0, &ready, &mut || true).unwrap();
    device.push_used(2, 60_000, 4);
    assert_eq!(adapter.poll(), None);
    assert_eq!(adapter.violation(), Some(Violation::UnknownToken(60_000)));
    assert_eq!(adapter.poll_event(), Some(HbaEvent::Violation));
    assert_eq!(adapter.poll_event(), None);
    assert_eq!(adapter.submit(1, &ready, &mut || true), Err(HbaError::Broken));
}

/// Answers requests as a disk with one unit would.
fn serve(device: &FakeDevice, disk: &mut [u8]) {
    while let Some(chain) = device.take(2) {
        let cdb = &chain.readable[19..REQUEST_BYTES];
        let lba = u32::from_be_bytes([cdb[2], cdb[3], cdb[4], cdb[5]]) as usize * 512;
        let bytes = usize::from(u16::from_be_bytes([cdb[7], cdb[8]])) * 512;
        let good = response(0, 0, 0, &[]);
        let answer = match (chain.readable[1], cdb[0]) {
            (1.., _) => response(3, 0, 0, &[]),
            (_, 0xa0) => [good, vec![0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
            (_, 0x12) if cdb[1] == 0 => [good, vec![0; 36]].concat(),
            (_, 0x9e) => {
                let mut data = vec![0; 32];
                data[..8].copy_from_slice(&(disk.len() as u64 / 512 - 1).to_be_bytes());
                data[10] = 2;
                [good, data].concat()
            }
            (_, 0x28) => [good, disk[lba..lba + bytes].to_vec()].concat(),
            (_, 0x2a) => {
                disk[lba..lba + bytes].copy_from_slice(&chain.readable[REQUEST_BYTES..]);
                good
            }
            (_, 0x00) => good,
            _ => response(0, 2, 0, &[0x72, 5, 0x24, 0]),
        };
        device.complete(2, chain, &answer);
    }
}

#[test]
fn discovery_and_block_device_on_top() {
    let (device, mut adapter) = adapter();
    let mut disk = vec![0u8; 512 * 1024];
    let mut discovery = Discovery::new(3);
    let unit = loop {
        match discovery.poll(&mut adapter, 0) {
            Progress::Unit(unit) => break unit,
            Progress::Pending => serve(&device, &mut disk),
            Progress::Done => panic!("no disk"),
        }
    };
    assert_eq!(unit.geometry, Geometry { blocks: 1024, block_bytes: 512 });
    let config = DiskConfig::with_io_max_us(200_000);
    let mut block: Disk<_, 16> = Disk::new(adapter, &unit, config, || 0);
    for tag in 0..16 {
        block.submit_write(0, tag, &[tag as u8; 512], Default::default(), tag).unwrap();
    }
    serve(&device, &mut disk);
    for _ in 0..16 {
        assert!(block.poll(0).unwrap().result.is_ok());
    }
    block.submit_read(0, 0, 72, 99).unwrap();
    serve(&device, &mut disk);
    let completion = block.poll(0).unwrap();
    let data = completion.result.unwrap();
    assert_eq!(data.len(), 36 * 1024);
    assert_eq!(data[15 * 512], 15);
}
