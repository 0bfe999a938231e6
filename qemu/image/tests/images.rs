//! Images: made, read by another GPT implementation, dumped, damaged in every record, repaired, truncated, foreign.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use quorate_base::{Ballot, BootNonce, ClusterId, Incarnation, NodeId, NodeState, Timing, View, ViewName};
use quorate_database::layout::{self, PARTITION_BYTES, PARTITION_TYPE_TEXT};
use quorate_database::{BallotBlock, Heartbeat, Identity, MachineId, Predecessor, Region};
use quorate_image::create::{DATABASE_AT, IMAGE_BYTES_MIN};
use quorate_image::tamper::record_of;
use quorate_image::text::render_findings;
use quorate_image::*;

fn node(n: u8) -> NodeId {
    NodeId::new(n).unwrap()
}

fn options(block_size: BlockSize) -> CreateOptions {
    CreateOptions { bytes: IMAGE_BYTES_MIN, seed: Some(7), block_size, ..CreateOptions::default() }
}

/// A directory that goes away, with an image in it.
fn image() -> (tempfile::TempDir, PathBuf) {
    image_of(&options(BlockSize::B512))
}

fn image_of(options: &CreateOptions) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shared.img");
    create(&path, options).unwrap();
    (dir, path)
}

fn cluster(path: &Path) -> ClusterId {
    ClusterId(parse_uuid(&dump(path).unwrap().cluster).unwrap())
}

fn view(number: u64, entries: &[(u8, NodeState, u32)]) -> View {
    let mut view = View::EMPTY;
    view.number = number;
    for (n, state, incarnation) in entries {
        view.set(node(*n), *state, Incarnation(*incarnation));
    }
    view
}

fn write_ballot(
    path: &Path,
    n: u8,
    slot: u8,
    sequence: u64,
    (promised, accepted): (u64, u64),
    views: [&View; 2],
    before: u64,
) {
    let [view, predecessor] = views.map(Clone::clone);
    let block = BallotBlock {
        incarnation: Incarnation(1),
        nonce: BootNonce(5),
        sequence,
        promised: Ballot(promised),
        accepted: Ballot(accepted),
        view,
        predecessor: Predecessor { ballot: Ballot(before), view: predecessor },
        lamport: 40,
    };
    let raw = block.encode(cluster(path), node(n), slot).unwrap();
    Image::open(path, true).unwrap().write(layout::ballot(node(n), slot), &raw).unwrap();
}

fn write_heartbeat(path: &Path, n: u8, committed: (u64, u64)) {
    let heartbeat = Heartbeat {
        incarnation: Incarnation(1),
        nonce: BootNonce(5),
        counter: 9,
        state: NodeState::Joined,
        committed: ViewName { ballot: Ballot(committed.0), number: committed.1 },
        lamport: 41,
        ..Heartbeat::default()
    };
    let raw = heartbeat.encode(cluster(path), node(n));
    Image::open(path, true).unwrap().write(layout::heartbeat(node(n)), &raw).unwrap();
}

fn write_identity(path: &Path, n: u8, slot: u8, incarnation: u32) {
    let identity = Identity {
        incarnation: Incarnation(incarnation),
        nonce: BootNonce(u64::from(incarnation) << 8 | 5),
        machine: MachineId { uuid: Some([n + 1; 16]), mac: None },
        nexus_reset: false,
    };
    let raw = identity.encode(cluster(path), node(n), slot);
    Image::open(path, true).unwrap().write(layout::identity(node(n), slot), &raw).unwrap();
}

/// An image after a run: nodes 0 and 1 joined, view 2 committed under node 0's ballot 64, known to both.
fn used_image() -> (tempfile::TempDir, PathBuf) {
    let (dir, path) = image();
    let before = view(1, &[(0, NodeState::Joined, 1)]);
    let now = view(2, &[(0, NodeState::Joined, 1), (1, NodeState::Joined, 1)]);
    for n in [0, 1] {
        write_identity(&path, n, 0, 1);
        write_heartbeat(&path, n, (64, 2));
    }
    write_ballot(&path, 0, 0, 1, (64, 64), [&before, &view(0, &[])], 0);
    write_ballot(&path, 0, 1, 2, (64, 64), [&now, &before], 64);
    (dir, path)
}

fn problems(path: &Path, repair: bool) -> Vec<Finding> {
    check(path, repair).unwrap()
}

#[test]
fn another_gpt_implementation_reads_both_block_sizes() {
    for (block, lb) in
        [(BlockSize::B512, gpt::disk::LogicalBlockSize::Lb512), (BlockSize::B4096, gpt::disk::LogicalBlockSize::Lb4096)]
    {
        let (_dir, path) = image_of(&options(block));
        let disk = gpt::GptConfig::new().logical_block_size(lb).only_valid_headers(true).open(&path).unwrap();
        assert!(disk.primary_header().is_ok() && disk.backup_header().is_ok());
        let partition = disk.partitions().values().next().unwrap();
        assert_eq!(disk.partitions().len(), 1);
        assert_eq!(partition.part_type_guid.guid.to_string().to_uppercase(), PARTITION_TYPE_TEXT);
        assert_eq!(partition.bytes_start(lb).unwrap(), DATABASE_AT);
        assert_eq!(partition.bytes_len(lb).unwrap(), PARTITION_BYTES);
        assert_eq!(partition.name, "membership database");
        let mut file = fs::File::open(&path).unwrap();
        gpt::mbr::ProtectiveMBR::from_disk(&mut file, lb).unwrap();
        assert_eq!(dump(&path).unwrap().disk.block_size, block.bytes());
        assert_eq!(problems(&path, false), []);
    }
}

#[test]
fn golden_image() {
    let (_dir, path) = image();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, IMAGE_BYTES_MIN);
    assert_eq!(bytes[510..512], [0x55, 0xaa]);
    assert_eq!(bytes[446..462], [0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0xff, 0x2f, 0, 0]);
    assert_eq!(&bytes[512..520], b"EFI PART");
    assert_eq!(&bytes[bytes.len() - 512..][..8], b"EFI PART");
    assert_eq!(bytes[1024..1040], layout::PARTITION_TYPE);
    let database = &bytes[DATABASE_AT as usize..];
    assert_eq!(&database[..8], b"QRDB\x01\0\x01\xff");
    assert_eq!(&database[4096..][..8], b"QRDB\x01\0\x01\xff");
    assert_eq!(&database[8 * 4096..][..8], b"QRDB\x01\0\x02\x00");
    assert_eq!(&database[10 * 4096 + 40..][..6], b"node-2");
    // What no node has written yet is sealed (identities, then heartbeats and ballots of three nodes); all else is zeros.
    let zeros = |from: usize, to: usize| database[from * 4096..to * 4096].iter().all(|b| *b == 0);
    assert!(zeros(11, 72) && zeros(78, 208) && zeros(217, PARTITION_BYTES as usize / 4096));
    for at in (72..78).chain(208..217) {
        assert_eq!(&database[at * 4096..][..6], b"QRDB\x01\0", "record {at}");
        assert!(database[at * 4096 + 32..][..4064].iter().all(|b| *b == 0));
    }
    let hash = crc::Crc::<u64>::new(&crc::CRC_64_XZ).checksum(&bytes);
    assert_eq!(
        format!("{hash:016x}"),
        GOLDEN_IMAGE,
        "the bytes of a new image changed: a new format version, unless older images go on to mean what they meant"
    );
}

/// CRC-64/XZ of the image of seed 7, 512-byte blocks, three nodes, default timing.
const GOLDEN_IMAGE: &str = "3b953cd23f9f581a";

#[test]
fn an_image_without_a_seed_is_never_made_twice() {
    let (_a, a) = image_of(&CreateOptions { seed: None, ..options(BlockSize::B512) });
    let (_b, b) = image_of(&CreateOptions { seed: None, ..options(BlockSize::B512) });
    assert_ne!(dump(&a).unwrap().cluster, dump(&b).unwrap().cluster);
}

#[test]
fn options_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.img");
    let good = options(BlockSize::B512);
    let twice = MachineId { uuid: None, mac: Some([1; 6]) };
    for (bad, says) in [
        (CreateOptions { nodes: 0, ..good.clone() }, "1 to 64 nodes"),
        (CreateOptions { nodes: 65, ..good.clone() }, "1 to 64 nodes"),
        (CreateOptions { name: String::new(), ..good.clone() }, "empty"),
        (CreateOptions { name: "x".repeat(33), ..good.clone() }, "at most 32"),
        (CreateOptions { bytes: 1 << 20, ..good.clone() }, "at least"),
        (CreateOptions { bytes: IMAGE_BYTES_MIN + 1, ..good.clone() }, "multiple of 1 MiB"),
        (CreateOptions { timing: Timing { lease: 1100, ..Timing::DEFAULT }, ..good.clone() }, "lease"),
        (CreateOptions { machines: vec![twice, MachineId::default(), twice], ..good.clone() }, "nodes 0 and 2"),
        (CreateOptions { machines: vec![MachineId::default(); 4], ..good.clone() }, "4 machine identities"),
    ] {
        let error = create(&path, &bad).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(!path.exists());
    }
    create(&path, &good).unwrap();
    assert!(matches!(create(&path, &good), Err(ImageError::Exists(_))));
    create(&path, &CreateOptions { overwrite: true, ..good }).unwrap();
}

#[test]
fn a_full_cluster_has_all_64_places() {
    let (_dir, path) = image_of(&CreateOptions { nodes: 64, ..options(BlockSize::B4096) });
    assert_eq!(dump(&path).unwrap().nodes.len(), 64);
    assert_eq!(problems(&path, false), []);
}

#[test]
fn a_new_database_has_no_view_and_nobody_booted() {
    let (_dir, path) = image();
    let d = dump(&path).unwrap();
    assert_eq!((d.active.clone(), d.damaged.clone(), d.nodes.len()), (None, None, 3));
    assert!(d.nodes.iter().all(|n| n.incarnation == Some(0) && n.heartbeat.is_none() && n.ballot.is_none()));
    let text = render_text(&d);
    assert!(text.contains("never booted") && text.contains("fence   lease, no proof against suspension"), "{text}");
}

#[test]
fn the_dump_spells_views_as_the_trace_does() {
    let (_dir, path) = used_image();
    let json: serde_json::Value = serde_json::from_str(&render_json(&dump(&path).unwrap())).unwrap();
    assert_eq!(json["active"]["ballot"], 64);
    assert_eq!(json["active"]["view"], 2);
    assert_eq!(json["active"]["states"], serde_json::json!({"0": "joined", "1": "joined", "2": "inactive"}));
    assert_eq!(json["active"]["incs"], serde_json::json!({"0": 1, "1": 1, "2": 0}));
    assert_eq!(json["timing"]["net_heartbeat"], 100);
    assert_eq!(json["nodes"][0]["ballot"]["promised"], 64);
    assert_eq!(json["nodes"][0]["ballot"]["view"], 2);
    assert_eq!(json["nodes"][0]["heartbeat"]["committed"]["view"], 2);
    assert_eq!(json["nodes"][1]["nonce"], "0000000000000105");
    assert_eq!(json["nodes"][2]["heartbeat"], serde_json::Value::Null);
    let text = render_text(&dump(&path).unwrap());
    assert!(text.contains("active  view 2 of ballot 64: 0 joined (1), 1 joined (1)"), "{text}");
    assert_eq!(problems(&path, false), []);
}

#[test]
fn what_is_only_accepted_is_not_shown_as_committed() {
    let (_dir, path) = used_image();
    // Node 1 promised 129, node 0 then accepted view 3 under 64: nobody may say that it is committed.
    let two = view(2, &[(0, NodeState::Joined, 1), (1, NodeState::Joined, 1)]);
    let three = view(3, &[(0, NodeState::Joined, 1), (1, NodeState::ForcedLeaving, 1)]);
    write_ballot(&path, 0, 0, 3, (64, 64), [&three, &two], 64);
    write_ballot(&path, 1, 0, 1, (129, 0), [&view(0, &[]), &view(0, &[])], 0);
    for n in [0, 1] {
        write_heartbeat(&path, n, (64, 1));
    }
    let active = dump(&path).unwrap().active.unwrap();
    assert_eq!((active.view, active.ballot), (2, 64));
    assert!(active.how.contains("predecessor"), "{}", active.how);
    // Without that promise it is, by the second read; and with a mark that names it, whatever the promises.
    write_ballot(&path, 1, 0, 2, (60, 0), [&view(0, &[]), &view(0, &[])], 0);
    let active = dump(&path).unwrap().active.unwrap();
    assert_eq!(active.view, 3);
    assert!(active.how.contains("no node has a higher promise"), "{}", active.how);
    write_ballot(&path, 1, 0, 3, (129, 0), [&view(0, &[]), &view(0, &[])], 0);
    write_heartbeat(&path, 2, (64, 3));
    let active = dump(&path).unwrap().active.unwrap();
    assert!(active.view == 3 && active.how.contains("heartbeat of node 2"), "{}", active.how);
}

#[test]
fn a_promise_that_cannot_be_read_leaves_the_accepted_view_open() {
    let (_dir, path) = used_image();
    let two = view(2, &[(0, NodeState::Joined, 1), (1, NodeState::Joined, 1)]);
    let three = view(3, &[(0, NodeState::Joined, 1)]);
    write_ballot(&path, 0, 0, 3, (64, 64), [&three, &two], 64);
    assert_eq!(dump(&path).unwrap().active.unwrap().view, 3);
    damage(&path, Region::Ballot(node(1), 0), Damage::Fill(0xee)).unwrap();
    assert_eq!(dump(&path).unwrap().active.unwrap().view, 2);
}

#[test]
fn every_damaged_record_is_named_with_its_place_and_repaired() {
    let regions = [
        (Region::Superblock(0), "superblock copy 0"),
        (Region::Superblock(1), "superblock copy 1"),
        (Region::Config(node(1)), "config.1"),
        (Region::Identity(node(1), 0), "identity.1 slot 0"),
        (Region::Heartbeat(node(1)), "heartbeat.1"),
        (Region::Ballot(node(0), 0), "ballot.0 slot 0"),
        (Region::Ballot(node(0), 1), "ballot.0 slot 1"),
    ];
    for (region, name) in regions {
        for how in [Damage::Flip(300), Damage::Torn, Damage::Fill(0xa5), Damage::Misplaced] {
            let (_dir, path) = used_image();
            let before = region_hashes(&path).unwrap();
            damage(&path, region, how).unwrap();
            if region_hashes(&path).is_ok_and(|after| after == before) {
                continue; // A record whose second half is zeros anyway.
            }
            if matches!((region, how), (Region::Ballot(..), Damage::Misplaced)) {
                continue; // Node 1 has no ballot: the place is blank.
            }
            let found = problems(&path, false);
            let finding = found.iter().find(|f| f.what == name).unwrap_or_else(|| panic!("{name} {how:?}: {found:?}"));
            let at = DATABASE_AT + 4096 * record_of(region).unwrap();
            assert_eq!(finding.place, Some((at, 512)), "{name}");
            assert!(finding.repaired.is_none() && finding.to_string().contains("help: "), "{finding}");
            assert!(dump(&path).is_ok());
            let repaired = problems(&path, true);
            assert!(repaired.iter().all(|f| f.repaired.is_some()), "{}", render_findings(&repaired));
            assert_eq!(problems(&path, false), [], "{name} {how:?}");
        }
    }
}

#[test]
fn a_reset_identity_never_goes_back_to_an_old_life() {
    let (_dir, path) = used_image();
    write_identity(&path, 1, 1, 2);
    write_heartbeat(&path, 1, (64, 2));
    damage(&path, Region::Identity(node(1), 0), Damage::Fill(1)).unwrap();
    problems(&path, true);
    assert_eq!(dump(&path).unwrap().nodes[1].incarnation, Some(2));
    for slot in [0, 1] {
        damage(&path, Region::Identity(node(1), slot), Damage::Fill(1)).unwrap();
    }
    assert_eq!(dump(&path).unwrap().nodes[1].incarnation, None);
    assert!(problems(&path, false).iter().all(|f| f.severity == Severity::Error));
    problems(&path, true);
    assert_eq!(dump(&path).unwrap().nodes[1].incarnation, Some(1), "the heartbeat's and the view's");
    assert_eq!(problems(&path, false), []);
}

#[test]
fn a_lost_later_life_is_taken_from_the_heartbeat() {
    let (_dir, path) = used_image();
    write_identity(&path, 1, 1, 2);
    let later = Heartbeat { incarnation: Incarnation(2), nonce: BootNonce(77), ..Heartbeat::default() };
    let raw = later.encode(cluster(&path), node(1));
    Image::open(&path, true).unwrap().write(layout::heartbeat(node(1)), &raw).unwrap();
    damage(&path, Region::Identity(node(1), 1), Damage::Torn).unwrap();
    damage(&path, Region::Identity(node(1), 1), Damage::Fill(1)).unwrap();
    assert_eq!(dump(&path).unwrap().nodes[1].incarnation, Some(1));
    problems(&path, true);
    let d = dump(&path).unwrap();
    assert_eq!((d.nodes[1].incarnation, d.nodes[1].nonce.as_deref()), (Some(2), Some("000000000000004d")));
}

#[test]
fn a_mark_under_a_later_ballot_is_not_met_by_an_older_acceptance() {
    let (_dir, path) = used_image();
    // View 2 was tried under 64 and committed, with other content, under 129 by node 1, whose block is lost.
    let none = view(0, &[]);
    write_ballot(&path, 2, 0, 1, (258, 0), [&none, &none], 0);
    write_heartbeat(&path, 0, (64, 1));
    write_heartbeat(&path, 1, (129, 2));
    let d = dump(&path).unwrap();
    assert_eq!(d.active.unwrap().view, 1);
    assert!(d.damaged.unwrap().contains("view 2 of ballot 129"));
}

#[test]
fn a_reset_heartbeat_has_no_clean_mark() {
    let (_dir, path) = used_image();
    damage(&path, Region::Heartbeat(node(1)), Damage::Torn).unwrap();
    damage(&path, Region::Heartbeat(node(1)), Damage::Fill(3)).unwrap();
    problems(&path, true);
    let heartbeat = dump(&path).unwrap().nodes.swap_remove(1).heartbeat.unwrap();
    assert!(!heartbeat.clean && heartbeat.state == "joined" && heartbeat.committed.view == 2);
}

#[test]
fn a_mark_without_its_view_is_database_damaged_until_repaired() {
    let (_dir, path) = used_image();
    write_heartbeat(&path, 1, (129, 7));
    let found = problems(&path, false);
    assert_eq!(found.len(), 1);
    assert!(found[0].problem.contains("database damaged: heartbeat.1 names view 7 of ballot 129"), "{}", found[0]);
    assert!(render_text(&dump(&path).unwrap()).contains("DAMAGED"));
    let repaired = problems(&path, true);
    assert!(repaired[0].repaired.as_ref().unwrap().contains("view 8"), "{}", repaired[0]);
    assert_eq!(problems(&path, false), []);
    let active = dump(&path).unwrap().active.unwrap();
    assert!(active.view == 8 && active.ballot > 129);
    assert_eq!(
        (active.states[&0], active.states[&1], active.states[&2]),
        ("forced-leaving", "forced-leaving", "inactive")
    );
}

#[test]
fn a_lost_ballot_that_a_heartbeat_names_is_database_damaged() {
    let (_dir, path) = used_image();
    for slot in [0, 1] {
        damage(&path, Region::Ballot(node(0), slot), Damage::Fill(9)).unwrap();
    }
    let found = problems(&path, false);
    assert_eq!(found.iter().filter(|f| f.what.starts_with("ballot.0")).count(), 2);
    assert!(found.iter().any(|f| f.problem.contains("database damaged")));
    problems(&path, true);
    assert_eq!(problems(&path, false), []);
    assert_eq!(dump(&path).unwrap().active.unwrap().view, 3);
}

#[test]
fn either_partition_table_is_restored_from_the_other() {
    for block in BlockSize::ALL {
        let size = u64::from(block.bytes());
        let last = IMAGE_BYTES_MIN / size - 1;
        let places =
            [("gpt primary", 1), ("gpt primary", 2), ("gpt backup", last), ("gpt backup", last - 16 * 1024 / size)];
        for (name, at) in places {
            let (_dir, path) = image_of(&options(block));
            let sound = fs::read(&path).unwrap();
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[0x5a; 64], at * size).unwrap();
            assert!(dump(&path).is_ok(), "{name} {at}");
            let found = problems(&path, false);
            assert_eq!(found.iter().map(|f| f.what.as_str()).collect::<Vec<_>>(), [name]);
            assert!(problems(&path, true)[0].repaired.is_some());
            assert_eq!(problems(&path, false), []);
            assert!(fs::read(&path).unwrap() == sound, "{name} {at}");
        }
    }
}

#[test]
fn zeros_where_a_node_never_wrote_are_named_and_sealed_again() {
    let (_dir, path) = image();
    let tampered = Image::open(&path, true).unwrap();
    for (at, region) in [(layout::heartbeat(node(1)), "heartbeat.1"), (layout::ballot(node(1), 0), "ballot.1 slot 0")] {
        tampered.write(at, &[0; 512]).unwrap();
        let found = problems(&path, false);
        assert_eq!(found.len(), 1, "{}", render_findings(&found));
        let text = render_findings(&found);
        assert!(
            text.contains(region) && text.contains("zeros, where even what was never written has a seal"),
            "{text}"
        );
        problems(&path, true);
        assert!(problems(&path, false).is_empty());
    }
}

#[test]
fn superblocks_that_differ_are_named_and_the_newer_one_wins() {
    let (_dir, path) = image();
    let old = fs::read(&path).unwrap();
    edit_superblock(&path, |s| s.nodes = 2).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&old[DATABASE_AT as usize..][..4096], DATABASE_AT).unwrap();
    let found = problems(&path, false);
    assert_eq!(found.len(), 1);
    assert!(found[0].what == "superblock copy 0" && found[0].problem.contains("generation 1, the other copy has 2"));
    assert_eq!(dump(&path).unwrap().nodes.len(), 2);
    problems(&path, true);
    assert_eq!(problems(&path, false), []);
    assert_eq!(dump(&path).unwrap().generation, 2);
}

#[test]
fn without_a_superblock_nothing_is_guessed() {
    let (_dir, path) = image();
    for copy in [0, 1] {
        damage(&path, Region::Superblock(copy), Damage::Flip(900)).unwrap();
    }
    assert!(matches!(dump(&path), Err(ImageError::Superblock(_))));
    let found = problems(&path, true);
    assert!(found.len() == 1 && found[0].severity == Severity::Error && found[0].repaired.is_none());
}

#[test]
fn refused_identities_can_be_made() {
    let (_dir, path) = image();
    edit_node(&path, node(1), |c| c.enabled = false).unwrap();
    edit_node(&path, node(2), |c| c.machine.uuid = Some([7; 16])).unwrap();
    let d = dump(&path).unwrap();
    assert_eq!((d.nodes[0].enabled, d.nodes[1].enabled), (Some(true), Some(false)));
    assert_eq!(d.nodes[2].uuid.as_deref(), Some("07070707-0707-0707-0707-070707070707"));
    edit_node(&path, node(0), |c| c.machine.uuid = Some([7; 16])).unwrap();
    assert!(problems(&path, false)[0].problem.contains("nodes 0 and 2 have the same machine identity"));
    edit_node(&path, node(0), |c| c.machine.uuid = None).unwrap();
    set_cluster(&path, ClusterId([9; 16])).unwrap();
    assert_eq!(cluster(&path), ClusterId([9; 16]));
    assert_eq!(problems(&path, false), []);
    set_version(&path, 2).unwrap();
    let error = dump(&path).unwrap_err().to_string();
    assert!(error.contains("wrong format version 2"), "{error}");
    assert!(problems(&path, false)[0].advice.contains("version of this program"));
}

#[test]
fn unsafe_time_outs_are_found() {
    let (_dir, path) = image();
    edit_superblock(&path, |s| s.timing.lease = 1100).unwrap();
    let found = problems(&path, true);
    assert!(found.len() == 1 && found[0].repaired.is_none() && found[0].problem.contains("lease"));
    assert!(render_text(&dump(&path).unwrap()).contains("NOT SAFE"));
}

#[test]
fn a_write_changes_the_hash_of_its_region_only() {
    let (_dir, path) = image();
    let before = region_hashes(&path).unwrap();
    for name in
        ["superblock", "config", "config.0", "identity", "identity.2", "heartbeat.1", "ballot.2", "domain", "spare"]
    {
        assert!(before.contains_key(name), "{name}");
    }
    write_heartbeat(&path, 1, (0, 0));
    write_identity(&path, 2, 1, 1);
    let after = region_hashes(&path).unwrap();
    let changed: Vec<&str> =
        after.iter().filter(|(n, h)| before.get(*n) != Some(*h)).map(|(n, _)| n.as_str()).collect();
    assert_eq!(changed, ["heartbeat.1", "identity", "identity.2"]);
}

#[test]
fn a_truncated_image_is_named_at_every_length() {
    let (_dir, path) = image();
    let whole = fs::read(&path).unwrap();
    let database_end = DATABASE_AT + PARTITION_BYTES;
    let lengths =
        [0, 1, 511, 512, 513, 1024, 4096, 17_000, DATABASE_AT, DATABASE_AT + 100, database_end - 1, database_end];
    for len in lengths.into_iter().chain([IMAGE_BYTES_MIN - 1, IMAGE_BYTES_MIN - 20_000]) {
        fs::write(&path, &whole[..len as usize]).unwrap();
        let found = problems(&path, true);
        assert!(!found.is_empty() && found.iter().any(|f| f.severity == Severity::Error), "{len}: {found:?}");
        assert_eq!(dump(&path).is_ok(), len >= database_end, "{len}");
        if len > 20_000 {
            assert!(found.iter().any(|f| f.problem.contains("truncated")), "{len}: {}", render_findings(&found));
        }
        assert_eq!(fs::read(&path).unwrap(), whole[..len as usize], "a truncated image is not written to");
    }
}

#[test]
fn foreign_files_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    assert!(matches!(dump(&path), Err(ImageError::Io { .. })));
    assert!(matches!(check(&path, false), Err(ImageError::Io { .. })));
    for bytes in [vec![], vec![0; 1 << 20], b"hello".to_vec(), vec![0xff; 70_000]] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(dump(&path), Err(ImageError::NoPartitionTable(_))));
        assert!(region_hashes(&path).is_err());
        let found = problems(&path, false);
        assert!(found.len() == 1 && found[0].what == "image" && found[0].advice.contains("db create"));
    }
    // A disk with a partition table and nothing of ours on it.
    fs::write(&path, vec![0; 4 << 20]).unwrap();
    let mut other = gpt::GptConfig::new().writable(true).create(&path).unwrap();
    other.add_partition("root", 1 << 20, gpt::partition_types::LINUX_FS, 0, None).unwrap();
    other.write().unwrap();
    assert!(matches!(dump(&path), Err(ImageError::NoDatabase(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// Whatever bytes change in whatever block: no panic, and after a repair only findings that no repair can remove.
    #[test]
    fn any_damage_is_survived(hits in prop::collection::vec((0u64..450, 0u64..4096, any::<u8>()), 1..12), ends in any::<bool>()) {
        let (_dir, path) = used_image();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        for (record, at, byte) in hits {
            // Every third hit falls on the partition tables.
            let at = match record % 3 {
                0 if ends => record % 2 * (IMAGE_BYTES_MIN - 4096) + at,
                _ => DATABASE_AT + record * 4096 + at % 512,
            };
            file.write_all_at(&[byte; 3], at.min(IMAGE_BYTES_MIN - 3)).unwrap();
        }
        let _ = dump(&path).map(|d| (render_text(&d), render_json(&d)));
        let repaired = check(&path, true).unwrap();
        let left = check(&path, false).unwrap();
        if dump(&path).is_ok() {
            prop_assert!(left.iter().all(|f| f.repaired.is_none() && repaired.iter().any(|r| r.what == f.what)), "{}", render_findings(&left));
        } else {
            prop_assert!(!left.is_empty());
        }
    }
}
