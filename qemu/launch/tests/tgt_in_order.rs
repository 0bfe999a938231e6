//! A `tgtd` of our own carries out reads and writes in the order in which it accepted them: what a preempted initiator had under
//! way is over when a read that was sent after the answer to PREEMPT comes back. The databases that the harness makes on it say
//! so (`--preempted ends`), and the fence builds on it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_iscsi::{Session, Unit};
use quorate_launch::Tools;
use quorate_launch::iscsi::{Disk, Target, prepare};

const BLOCK_BYTES: u64 = 512;
/// Blocks of one write: long enough for a preemption to come in the middle of it.
const BLOCKS: u32 = 16 << 11;
const UNIT_BYTES: u64 = 64 << 20;
/// Preemptions, spread over the time that such a write takes.
const ROUNDS: u32 = 40;
const PATIENCE: Duration = Duration::from_secs(30);
const VICTIM: u64 = 0x5102;
const MASTER: u64 = 0x5100;

/// Service actions of PERSISTENT RESERVE OUT.
const RESERVE: u8 = 1;
const PREEMPT: u8 = 4;
const REGISTER_AND_IGNORE: u8 = 6;

/// A PERSISTENT RESERVE OUT, repeated while a unit attention is what it meets; its status.
fn reserve_out(session: &mut Session, action: u8, key: u64, action_key: u64) -> u8 {
    let registrants_only = 5;
    let mut cdb = [0; 10];
    (cdb[0], cdb[1], cdb[2], cdb[8]) = (0x5f, action, registrants_only, 24);
    let mut list = [0; 24];
    list[..8].copy_from_slice(&key.to_be_bytes());
    list[8..16].copy_from_slice(&action_key.to_be_bytes());
    loop {
        let reply = session.execute(&cdb, &list, 0).unwrap();
        // Sense key 6.
        if reply.status != 2 || reply.sense.get(2).is_none_or(|byte| byte & 15 != 6) {
            return reply.status;
        }
    }
}

/// One long write of bytes like this, durable when it is answered; its status.
fn write(session: &mut Session, byte: u8) -> u8 {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x8a, 0x08);
    cdb[10..14].copy_from_slice(&BLOCKS.to_be_bytes());
    session.execute(&cdb, &vec![byte; BLOCKS as usize * BLOCK_BYTES as usize], 0).unwrap().status
}

fn last_byte(unit: &mut Unit) -> u8 {
    let mut block = [0; BLOCK_BYTES as usize];
    unit.read((u64::from(BLOCKS) - 1) * BLOCK_BYTES, &mut block).unwrap();
    block[0]
}

#[test]
fn a_read_after_the_preemption_comes_after_everything_that_was_accepted_before() {
    let mut tools = Tools {
        qemu: "qemu-system-x86_64".into(),
        image: Default::default(),
        elf: Arc::new([]),
        log: None,
        programs: Default::default(),
        uefi: None,
    };
    if let Err(why) = prepare(&Disk::Tgt, &mut tools, &mut |line| println!("{line}")) {
        return println!("skipped: there is no tgt to try: {why}");
    }
    let image = Path::new(env!("CARGO_TARGET_TMPDIR")).join("in-order.img");
    std::fs::File::create(&image).unwrap().set_len(UNIT_BYTES).unwrap();
    let target = Target::start(&Disk::Tgt, &image, BLOCK_BYTES as u32, &tools.programs).unwrap().unwrap();
    let portal = target.portal();
    let mut master = Session::login(&portal, "iqn.2025-01.invalid.quorate:master", PATIENCE).unwrap();
    let mut victim = Session::login(&portal, "iqn.2025-01.invalid.quorate:victim", PATIENCE).unwrap();
    let mut reader = Unit::open(&portal, "iqn.2025-01.invalid.quorate:reader", PATIENCE).unwrap();
    assert_eq!(reserve_out(&mut master, REGISTER_AND_IGNORE, 0, MASTER), 0);
    assert_eq!(reserve_out(&mut master, RESERVE, MASTER, 0), 0);
    assert_eq!(reserve_out(&mut victim, REGISTER_AND_IGNORE, 0, VICTIM), 0);
    let began = Instant::now();
    assert_eq!(write(&mut victim, 0), 0);
    let takes = began.elapsed();
    let (mut accepted, mut refused) = (0, 0);
    for round in 1..=ROUNDS {
        // The attention of the last preemption is taken here.
        assert_eq!(reserve_out(&mut victim, REGISTER_AND_IGNORE, 0, VICTIM), 0);
        let byte = round as u8;
        let writing = std::thread::spawn(move || {
            let status = write(&mut victim, byte);
            (victim, status)
        });
        std::thread::sleep(takes * round / ROUNDS);
        assert_eq!(reserve_out(&mut master, PREEMPT, MASTER, VICTIM), 0);
        let seen = last_byte(&mut reader);
        let (session, status) = writing.join().unwrap();
        victim = session;
        let left = last_byte(&mut reader);
        assert_eq!(left, seen, "round {round}: a write landed after the read that followed the preemption");
        if status == 0 { accepted += 1 } else { refused += 1 }
    }
    println!("{ROUNDS} preemptions within {takes:?}: {accepted} writes accepted before, {refused} refused");
    assert!(accepted > 0, "no write was accepted before its preemption: nothing was tried");
    drop(target);
    std::fs::remove_file(&image).unwrap();
}
