//! A disk in memory, and what the whole path makes of one that is damaged in every way.

extern crate std;

use std::vec;
use std::vec::Vec;

use quorate_base::capacity::RECORD_PITCH;
use quorate_base::{
    Ballot, ClusterId, FenceMethod, Incarnation, NodeId, NodeState, Preempted, Registrants, Timing, View, ViewName,
};
use quorate_database::gpt::{Entry, Header, table_checksum};
use quorate_database::kernel_slot::{Checksum, KERNELS_TYPE, partition_bytes};
use quorate_database::layout::{PARTITION_BYTES, PARTITION_TYPE};
use quorate_database::{
    BallotBlock, Blanks, BootChoice, ClusterKey, Heartbeat, InstalledKernel, KernelSlot, MachineId, Name, NodeConfig,
    Predecessor, Raw, Superblock, layout,
};

use crate::disk::{Blocks, Database, ReadFailed};
use crate::elf;
use crate::node::superblock;
use crate::slot::Bad;
use crate::{Machine, Refusal, Standing, ThisNode, choose, command_line, standing, this_node};

pub(crate) const CLUSTER: ClusterId = ClusterId(*b"0123456789abcdef");
const NODES: u8 = 3;
const DATABASE_AT: u64 = 1 << 20;
const KERNELS_AT: u64 = DATABASE_AT + PARTITION_BYTES;
const MEMORY: usize = 64 << 10;

/// A disk.
#[derive(Clone)]
pub(crate) struct Fake {
    pub bytes: Vec<u8>,
    block: u32,
    /// Blocks that cannot be read.
    pub bad: Vec<u64>,
}

impl Blocks for Fake {
    fn block_bytes(&self) -> u32 {
        self.block
    }

    fn blocks(&self) -> u64 {
        self.bytes.len() as u64 / u64::from(self.block)
    }

    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), ReadFailed> {
        let size = u64::from(self.block);
        assert!((into.len() as u64).is_multiple_of(size), "whole blocks are read");
        let count = into.len() as u64 / size;
        if self.bad.iter().any(|b| (first..first + count).contains(b)) {
            return Err(ReadFailed);
        }
        let at = usize::try_from(first * size).map_err(|_| ReadFailed)?;
        into.copy_from_slice(self.bytes.get(at..at + into.len()).ok_or(ReadFailed)?);
        Ok(())
    }
}

pub(crate) fn node(n: u8) -> NodeId {
    NodeId::new(n).unwrap()
}

fn config(n: u8) -> NodeConfig {
    let machine = MachineId { uuid: Some([n + 1; 16]), mac: Some([n + 101; 6]) };
    NodeConfig { machine, ..NodeConfig::named(Name::new("x").unwrap()) }
}

impl Fake {
    /// A disk with a database of three nodes; all have the little kernel in slot A.
    pub(crate) fn new(block: u32) -> Self {
        let size = u64::from(block);
        let bytes = KERNELS_AT + partition_bytes(NODES) + (1 << 20);
        let mut fake = Self { bytes: vec![0; bytes as usize], block, bad: Vec::new() };
        let entry = |kind, guid, at: u64, bytes: u64| Entry {
            kind,
            guid: [guid; 16],
            first: at / size,
            last: (at + bytes) / size - 1,
        };
        let mut entries = vec![0; 16 << 10];
        entries[..128].copy_from_slice(&entry(PARTITION_TYPE, 1, DATABASE_AT, PARTITION_BYTES).encode("d"));
        entries[128..256].copy_from_slice(&entry(KERNELS_TYPE, 2, KERNELS_AT, partition_bytes(NODES)).encode("k"));
        let (last, length) = (bytes / size - 1, entries.len() as u64 / size);
        for (at, other, table) in [(1, last, 2), (last, 1, last - length)] {
            let header = Header {
                at,
                other,
                first_usable: 2 + length,
                last_usable: last - length - 1,
                disk_guid: [3; 16],
                table,
                entries: 128,
                entry_bytes: 128,
                table_crc: table_checksum(&entries),
            };
            fake.write(at * size, &header.encode());
            fake.write(table * size, &entries);
        }
        let superblock = Superblock {
            generation: 1,
            cluster: CLUSTER,
            name: Name::new("test").unwrap(),
            timing: Timing::DEFAULT,
            nodes: NODES,
            levels_max: 32,
            fence: FenceMethod::Lease,
            preempted: Preempted::Lingers,
            registrants: Registrants::All,
            blanks: Default::default(),
            key: ClusterKey([7; 32]),
            key_epoch: 0,
        };
        for copy in [0, 1] {
            fake.put(layout::superblock(copy), &superblock.encode(copy));
        }
        for n in 0..NODES {
            fake.configure(n, &config(n));
            fake.install(n, KernelSlot::A, &elf::tests::kernel());
        }
        fake
    }

    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        let at = at as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn put(&mut self, record: u64, raw: &Raw) {
        self.write(DATABASE_AT + record * RECORD_PITCH, raw);
    }

    pub(crate) fn configure(&mut self, n: u8, config: &NodeConfig) {
        self.put(layout::config(node(n)), &config.encode(CLUSTER, node(n)));
    }

    pub(crate) fn install(&mut self, n: u8, slot: KernelSlot, kernel: &[u8]) {
        let installed = InstalledKernel {
            sequence: 1,
            bytes: kernel.len() as u32,
            checksum: Checksum::of(kernel),
            version: "0.1.0".try_into().unwrap(),
            words: "groups=1".try_into().unwrap(),
        };
        self.write(KERNELS_AT + slot.kernel_at(node(n)), kernel);
        self.write(KERNELS_AT + slot.record_at(node(n)), &installed.encode(CLUSTER, node(n), slot));
    }

    fn machine(n: u8) -> Machine {
        Machine { uuid: Some([n + 1; 16]), macs: [[n + 101; 6]].into_iter().collect() }
    }

    fn this(&mut self, machine: &Machine) -> Result<(Database, ThisNode), Refusal> {
        let database = Database::find(self).map_err(Refusal::NoDatabase)?;
        let superblock = superblock(self, &database)?;
        let this = this_node(self, &database, &superblock, machine)?;
        Ok((database, this))
    }

    /// The whole path for a machine: its kernel's command line, with one word of its own.
    pub(crate) fn boot(&mut self, machine: &Machine) -> Result<std::string::String, Refusal> {
        let (database, this) = self.this(machine)?;
        let mut memory = vec![0; MEMORY];
        let chosen = choose(self, &database, CLUSTER, &this, &mut memory, |_| true)?;
        assert_eq!(chosen.kernel.version, "0.1.0");
        command_line::line(CLUSTER, &this, &chosen, &["x=1"]).map(|line| line.as_str().into())
    }
}

const SURE: &str = "node=1 cluster=30313233-3435-3637-3839-616263646566";

fn good(fake: &mut Fake) -> std::string::String {
    fake.boot(&Fake::machine(1)).unwrap()
}

#[test]
fn a_node_boots_the_slot_of_its_record_on_disks_of_both_kinds() {
    for block in [512, 4096] {
        let mut fake = Fake::new(block);
        assert_eq!(good(&mut fake), std::format!("{SURE} slot=a groups=1 x=1"));
        fake.install(1, KernelSlot::B, &elf::tests::kernel());
        fake.configure(1, &NodeConfig { boot: BootChoice::SlotB, ..config(1) });
        assert_eq!(good(&mut fake), std::format!("{SURE} slot=b groups=1 x=1"));
        // One table is enough.
        fake.write(u64::from(block), &[0; 512]);
        assert_eq!(good(&mut fake), std::format!("{SURE} slot=b groups=1 x=1"));
        let last = fake.blocks() - 1;
        fake.bad.push(last);
        assert!(matches!(fake.boot(&Fake::machine(1)), Err(Refusal::NoDatabase(_))));
    }
}

#[test]
fn a_kernel_that_is_no_good_is_passed_over_with_a_reason() {
    let base = {
        let mut fake = Fake::new(512);
        fake.install(1, KernelSlot::B, &elf::tests::kernel());
        fake.configure(1, &NodeConfig { boot: BootChoice::SlotB, ..config(1) });
        fake
    };
    let (record_at, kernel_at) =
        (KERNELS_AT + KernelSlot::B.record_at(node(1)), KERNELS_AT + KernelSlot::B.kernel_at(node(1)));
    let mut flipped = base.clone();
    flipped.bytes[kernel_at as usize + 4242] ^= 0x10;
    assert_eq!(good(&mut flipped), std::format!("{SURE} slot=a passed_over=b:wrong-checksum groups=1 x=1"));
    let mut torn = base.clone();
    torn.bytes[record_at as usize + 50] ^= 1;
    assert_eq!(good(&mut torn), std::format!("{SURE} slot=a passed_over=b:damaged-record groups=1 x=1"));
    let mut absent = base.clone();
    absent.write(record_at, &[0; 512]);
    assert_eq!(good(&mut absent), std::format!("{SURE} slot=a passed_over=b:absent groups=1 x=1"));
    let mut unreadable = base.clone();
    unreadable.bad.push(kernel_at / 512 + 3);
    assert_eq!(good(&mut unreadable), std::format!("{SURE} slot=a passed_over=b:unreadable groups=1 x=1"));
    let mut other = base.clone();
    other.install(1, KernelSlot::B, b"#!/bin/sh\n");
    assert_eq!(good(&mut other), std::format!("{SURE} slot=a passed_over=b:not-elf groups=1 x=1"));
    // An install that stopped between the kernel and its record leaves the record blank, or with the old checksum.
    let mut half = base.clone();
    half.write(kernel_at, &[0; 512]);
    assert_eq!(good(&mut half), std::format!("{SURE} slot=a passed_over=b:wrong-checksum groups=1 x=1"));
}

#[test]
fn if_neither_slot_is_good_it_is_refused_with_both_reasons() {
    let mut fake = Fake::new(512);
    fake.bytes[(KERNELS_AT + KernelSlot::A.kernel_at(node(1))) as usize] ^= 1;
    let refusal = fake.boot(&Fake::machine(1)).unwrap_err();
    assert_eq!(refusal, Refusal::NoKernel(node(1), [Bad::Checksum, Bad::Absent]));
    let said = std::format!("{refusal}; {}", refusal.advice());
    for part in ["node 1", "slot a: wrong checksum", "slot b: empty", "image install-kernel --node 1 --slot a IMAGE"] {
        assert!(said.contains(part), "{said}");
    }
    // The reasons stay with their slots, whichever was tried first.
    fake.configure(1, &NodeConfig { boot: BootChoice::SlotB, ..config(1) });
    assert_eq!(fake.boot(&Fake::machine(1)), Err(Refusal::NoKernel(node(1), [Bad::Checksum, Bad::Absent])));
    let (database, this) = Fake::new(512).this(&Fake::machine(0)).unwrap();
    let mut memory = vec![0; MEMORY];
    let full = choose(&mut Fake::new(512), &database, CLUSTER, &this, &mut memory, |_| false);
    assert_eq!(full, Err(Refusal::NoKernel(node(0), [Bad::Memory, Bad::Absent])));
}

#[test]
fn who_must_not_boot_is_refused() {
    let mut fake = Fake::new(512);
    let stranger = Machine { uuid: Some([99; 16]), macs: Default::default() };
    assert_eq!(fake.boot(&stranger), Err(Refusal::NotConfigured));
    let mixed = Machine { uuid: Some([1; 16]), macs: [[103; 6]].into_iter().collect() };
    assert_eq!(fake.boot(&mixed), Err(Refusal::Ambiguous(node(0), node(2))));
    fake.configure(1, &NodeConfig { enabled: false, ..config(1) });
    assert_eq!(fake.boot(&Fake::machine(1)), Err(Refusal::Disabled(node(1))));
    fake.configure(1, &NodeConfig { boot: BootChoice::Nothing, ..config(1) });
    assert_eq!(fake.boot(&Fake::machine(1)), Err(Refusal::Nothing(node(1))));
    // A record that is not valid may be this machine's; one that is another's is no trouble.
    fake.put(layout::config(node(1)), &[0xee; 512]);
    assert!(matches!(fake.boot(&Fake::machine(1)), Err(Refusal::Record(id, Some(_))) if id == node(1)));
    assert!(fake.boot(&Fake::machine(0)).is_ok());
    fake.put(layout::config(node(1)), &[0; 512]);
    assert_eq!(fake.boot(&Fake::machine(1)), Err(Refusal::NotConfigured));
    for copy in [0, 1] {
        fake.put(layout::superblock(copy), &[0; 512]);
    }
    assert!(matches!(fake.boot(&Fake::machine(0)), Err(Refusal::Superblock(_))));
}

#[test]
fn a_disk_made_before_there_were_kernels_says_so() {
    let mut fake = Fake::new(512);
    let mut entries = fake.bytes[1024..1024 + (16 << 10)].to_vec();
    entries[128..256].fill(0);
    let mut header = Header::decode(&fake.bytes[512..1024], 1).unwrap();
    header.table_crc = table_checksum(&entries);
    fake.write(512, &header.encode());
    fake.write(1024, &entries);
    assert!(matches!(fake.boot(&Fake::machine(1)), Err(Refusal::NoKernels(..))));
}

fn ask(fake: &mut Fake) -> Standing {
    let database = Database::find(fake).unwrap();
    let superblock = superblock(fake, &database).unwrap();
    standing(fake, &database, &superblock)
}

#[test]
fn zeros_are_damage_where_blanks_are_sealed() {
    for (blanks, unknown) in [(Blanks::Zeros, 0), (Blanks::Sealed, 1)] {
        let mut fake = Fake::new(512);
        let database = Database::find(&mut fake).unwrap();
        let sealed = Superblock { blanks, ..superblock(&mut fake, &database).unwrap() };
        for copy in [0, 1] {
            fake.put(layout::superblock(copy), &sealed.encode(copy));
        }
        for (at, raw) in blanks.records(CLUSTER, NODES) {
            fake.put(at, &raw);
        }
        assert_eq!(ask(&mut fake), Standing::default(), "{blanks:?}");
        fake.put(layout::heartbeat(node(1)), &[0; 512]);
        assert_eq!(ask(&mut fake).unknown, unknown, "{blanks:?}");
        // A view that node 2 accepted: node 1 may have promised above it in the slots that are zeros now.
        let ballot = Ballot::NONE.next_for(node(2)).unwrap();
        let (before, view) = (View::empty(4), View::empty(5));
        let predecessor = Predecessor { ballot, view: before.clone() };
        let (promised, accepted) = (ballot, ballot);
        let accepted =
            BallotBlock { sequence: 1, promised, accepted, view: view.clone(), predecessor, ..BallotBlock::default() };
        fake.put(layout::ballot(node(2), 0), &accepted.encode(CLUSTER, node(2), 0).unwrap());
        assert_eq!(ask(&mut fake).view, Some((ballot, view.clone())), "{blanks:?}");
        for slot in [0, 1] {
            fake.put(layout::ballot(node(1), slot), &[0; 512]);
        }
        let trusted = if blanks == Blanks::Sealed { before } else { view };
        assert_eq!(ask(&mut fake).view, Some((ballot, trusted)), "{blanks:?}");
    }
}

#[test]
fn the_standing_is_the_newest_view_that_may_be_trusted() {
    let mut fake = Fake::new(512);
    assert_eq!(ask(&mut fake).view, None);
    let ballot = Ballot::NONE.next_for(node(2)).unwrap();
    let mut before = View::empty(4);
    before.set(node(2), NodeState::Joined, Incarnation(1));
    let mut view = View::empty(5);
    view.set(node(2), NodeState::Joined, Incarnation(1));
    view.set(node(0), NodeState::Joined, Incarnation(3));
    let block = BallotBlock {
        incarnation: Incarnation(1),
        sequence: 9,
        promised: ballot,
        accepted: ballot,
        view: view.clone(),
        predecessor: Predecessor { ballot, view: before.clone() },
        ..BallotBlock::default()
    };
    fake.put(layout::ballot(node(2), 0), &block.encode(CLUSTER, node(2), 0).unwrap());
    let quiet = ask(&mut fake);
    assert_eq!((quiet.view.clone(), quiet.master()), (Some((ballot, view.clone())), Some(node(2))));
    // A promise above: it may not be committed, its predecessor is.
    let higher = ballot.next_for(node(0)).unwrap();
    let promise = BallotBlock { sequence: 1, promised: higher, ..BallotBlock::default() };
    fake.put(layout::ballot(node(0), 1), &promise.encode(CLUSTER, node(0), 1).unwrap());
    assert_eq!(ask(&mut fake).view, Some((ballot, before)));
    // A heartbeat names it.
    let committed = ViewName { ballot, number: 5 };
    let heartbeat = Heartbeat { incarnation: Incarnation(3), committed, ..Heartbeat::default() };
    fake.put(layout::heartbeat(node(0)), &heartbeat.encode(CLUSTER, node(0)));
    assert_eq!(ask(&mut fake).view, Some((ballot, view)));
    fake.put(layout::heartbeat(node(1)), &[1; 512]);
    assert_eq!(ask(&mut fake).unknown, 1);
}

#[test]
fn a_line_that_is_too_long_is_refused_not_cut() {
    let (database, this) = Fake::new(512).this(&Fake::machine(0)).unwrap();
    let mut memory = vec![0; MEMORY];
    let chosen = choose(&mut Fake::new(512), &database, CLUSTER, &this, &mut memory, |_| true).unwrap();
    let long = "y".repeat(1024);
    assert_eq!(command_line::line(CLUSTER, &this, &chosen, &[&long]), Err(Refusal::CommandLine(node(0))));
}

proptest::proptest! {
    #[test]
    fn whatever_stands_on_the_disk_there_is_an_answer(
        damage: Vec<(u32, u8)>, gone: Vec<u16>, cut in 0_usize..40 << 20
    ) {
        let mut fake = Fake::new(512);
        let length = fake.bytes.len();
        for (at, byte) in damage {
            // Mostly where something stands.
            let at = at as usize % length;
            let at = if at.is_multiple_of(3) { at } else { at % (6 << 20) };
            fake.bytes[at] = byte;
        }
        fake.bad.extend(gone.into_iter().map(u64::from));
        if cut.is_multiple_of(5) {
            fake.bytes.truncate(cut / 512 * 512);
        }
        let _ = fake.boot(&Fake::machine(1));
    }
}
