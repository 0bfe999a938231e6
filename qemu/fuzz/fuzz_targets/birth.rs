//! Any bytes as what a booting node reads of the membership database: it is born or halts with a reason, and asks for
//! nothing outside of the database meanwhile.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_base::capacity::RECORD_PITCH;
use quorate_base::{BootNonce, ClusterId, DiskError, DiskOp, Instant, NodeId, Timing};
use quorate_database::sealed::{self, Raw};
use quorate_database::{
    BallotBlock, Blanks, ClusterKey, Heartbeat, Identity, MachineId, Name, NodeConfig, Superblock, layout,
};
use quorate_node::Boot;
use quorate_node::birth::{Birth, BirthOutput};

/// What stands at a place: a byte says what, the rest is its own.
type Piece = (u8, [u8; 96]);

fuzz_target!(|input: (u8, Vec<Piece>)| {
    let (told, pieces) = input;
    let cluster = ClusterId([7; 16]);
    let boot = Boot {
        node: NodeId::new(told & 3),
        machine: MachineId { uuid: Some([1; 16]), mac: None },
        nonce: BootNonce(9),
        cluster: (told & 4 == 0).then_some(cluster),
        geometry: Default::default(),
        trace_writes: false,
    };
    let mut birth = Birth::new(boot);
    let mut pieces = pieces.into_iter();
    let mut now = Instant::ZERO;
    for _ in 0..200 {
        now = now.max(birth.poll_timeout().min(now.plus_ms(60_000)));
        let op = match birth.poll(now) {
            Some(BirthOutput::Disk(_, op)) => op,
            Some(BirthOutput::Halt(reason)) => return drop(reason.to_string()),
            // What a registration answers is fuzzed with the driver.
            Some(BirthOutput::Born | BirthOutput::Reservation(_)) | None => return,
        };
        let done = match op {
            DiskOp::Write { at, .. } => {
                assert!(at < layout::RECORDS);
                birth.completed(now, Ok(&[]))
            }
            DiskOp::Read { first, count } => {
                assert!(first + u64::from(count) <= layout::RECORDS && count > 0);
                let mut bytes = vec![0; usize::from(count) * RECORD_PITCH as usize];
                let mut failed = None;
                for (i, place) in bytes.chunks_exact_mut(RECORD_PITCH as usize).enumerate() {
                    let Some(piece) = pieces.next() else { continue };
                    match record(first + i as u64, piece, cluster, told) {
                        Some(raw) => place[..raw.len()].copy_from_slice(&raw),
                        None => failed = Some(DiskError::Medium),
                    }
                }
                birth.completed(now, failed.map_or(Ok(&bytes), Err))
            }
        };
        match done {
            Some(BirthOutput::Halt(reason)) => return drop(reason.to_string()),
            Some(BirthOutput::Born) => {
                let born = birth.take_born().expect("it said so");
                assert!(born.me.get() < born.superblock.nodes && born.superblock.check_timing().is_ok());
                return;
            }
            _ => {}
        }
    }
});

/// A right record of its place, one with other fields, one of another place, nothing, or an error.
fn record(at: u64, (what, own): Piece, cluster: ClusterId, told: u8) -> Option<Raw> {
    let region = layout::Region::of(at);
    let name = || Name::new("fuzzed").expect("a name");
    let mut raw = match region {
        layout::Region::Superblock(copy) => Superblock {
            generation: 1,
            cluster,
            name: name(),
            timing: Timing::DEFAULT,
            nodes: 4,
            levels_max: 32,
            fence: Default::default(),
            preempted: Default::default(),
            registrants: Default::default(),
            blanks: if told & 8 == 0 { Blanks::Zeros } else { Blanks::Sealed },
            key: ClusterKey([7; 32]),
            key_epoch: 0,
        }
        .encode(copy),
        layout::Region::Config(n) => NodeConfig::named(name()).encode(cluster, n),
        layout::Region::Identity(n, slot) => {
            let machine = MachineId { uuid: Some([own[0]; 16]), mac: None };
            let incarnation = quorate_base::Incarnation(1 + u32::from(own[1]));
            Identity { incarnation, nonce: BootNonce(own[2].into()), machine, nexus_reset: false }
                .encode(cluster, n, slot)
        }
        layout::Region::Heartbeat(n) => Heartbeat::default().encode(cluster, n),
        layout::Region::Ballot(n, slot) => BallotBlock::default().encode(cluster, n, slot).expect("an empty one fits"),
        layout::Region::Domain(..) | layout::Region::Spare => [0; 512],
    };
    match what % 8 {
        0 => return Some([0; 512]),
        1 => return None,
        // Its own fields, in a right frame.
        2 | 3 => {
            let length = own.len().min(if what % 8 == 2 { 16 } else { 96 });
            raw[32..32 + length].copy_from_slice(&own[..length]);
            sealed::reseal(&mut raw);
        }
        // A frame of its own.
        4 => {
            raw[..32].copy_from_slice(&own[..32]);
            sealed::reseal(&mut raw);
        }
        5 => raw[usize::from(own[0])] ^= own[1],
        _ => {}
    }
    Some(raw)
}
