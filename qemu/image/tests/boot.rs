//! Images that machines boot from: partitions as other tools see them, the file system, the slots.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use quorate_base::NodeId;
use quorate_bootstrap::{Bad, KernelFile};
use quorate_database::kernel_slot::{KERNELS_TYPE_TEXT, SLOT_BYTES, partition_bytes};
use quorate_database::{BootChoice, KernelSlot};
use quorate_image::create::{ESP_AT, KERNELS_AT};
use quorate_image::esp::ESP_BYTES;
use quorate_image::kernels::{self, KernelError};
use quorate_image::{BlockSize, CreateOptions, Image, bootable_bytes, create};

fn node(n: u8) -> NodeId {
    NodeId::new(n).unwrap()
}

/// What stands for the bootstrap: longer than a cluster of the file system.
fn bootstrap() -> Vec<u8> {
    (0..100_000_u32).map(|n| (n * 7 % 251) as u8).collect()
}

fn image(block_size: BlockSize) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shared.img");
    let options = CreateOptions {
        block_size,
        bytes: KERNELS_AT + partition_bytes(3) + (1 << 20),
        bootstrap: Some(bootstrap()),
        seed: Some(7),
        ..CreateOptions::default()
    };
    create(&path, &options).unwrap();
    (dir, path)
}

/// A kernel of one segment with the notes in it, and something behind that is not loaded.
fn kernel(version: &str) -> Vec<u8> {
    let mut elf = vec![0; 0x9000];
    let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0, 1, 0, 0, 0]);
    put(32, &64_u64.to_le_bytes());
    put(40, &0x8800_u64.to_le_bytes());
    put(54, &[56, 0, 2, 0, 64, 0, 9, 0, 8, 0]);
    for (at, kind) in [(64, 1_u8), (120, 4)] {
        let bytes: u64 = if kind == 1 { 0x7000 } else { 80 };
        put(at, &[kind, 0, 0, 0, 5, 0, 0, 0]);
        for (i, value) in [0x1000, 0x10_2000, 0x10_2000, bytes, bytes].into_iter().enumerate() {
            put(at + 8 + 8 * i, &u64::to_le_bytes(value));
        }
    }
    put(0x1000, b"\x08\0\0\0\x08\0\0\0\x01\0\0\0Quorate\0");
    put(0x1014, &0x10_2100_u64.to_le_bytes());
    put(0x101c, b"\x08\0\0\0\x20\0\0\0\x02\0\0\0Quorate\0");
    put(0x1030, version.as_bytes());
    elf
}

#[test]
fn other_tools_see_three_partitions_in_both_block_sizes() {
    for (block_size, theirs) in
        [(BlockSize::B512, gpt::disk::LogicalBlockSize::Lb512), (BlockSize::B4096, gpt::disk::LogicalBlockSize::Lb4096)]
    {
        let (_dir, path) = image(block_size);
        let disk = gpt::GptConfig::new().logical_block_size(theirs).open(&path).unwrap();
        let mut seen: Vec<_> = disk
            .partitions()
            .values()
            .map(|p| {
                (
                    p.bytes_start(theirs).unwrap(),
                    p.bytes_len(theirs).unwrap(),
                    p.part_type_guid.guid.to_string(),
                    p.name.clone(),
                )
            })
            .collect();
        seen.sort();
        let [_, boot, kernels] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!((boot.0, boot.1, boot.3.as_str()), (ESP_AT, ESP_BYTES, "boot"));
        assert_eq!(boot.2.to_uppercase(), "C12A7328-F81F-11D2-BA4B-00A0C93EC93B");
        assert_eq!((kernels.0, kernels.3.as_str()), (KERNELS_AT, "kernels"));
        assert_eq!(kernels.2.to_uppercase(), KERNELS_TYPE_TEXT);
        assert!(bootable_bytes(3) >= kernels.0 + kernels.1 + (58 << 20), "space for later layers");
    }
}

#[test]
fn the_bootstrap_stands_where_firmware_looks_and_a_seed_makes_the_same_image() {
    for block_size in BlockSize::ALL {
        let (_dir, path) = image(block_size);
        let found = Image::open(&path, false).unwrap().bootstrap().unwrap().unwrap();
        assert_eq!(found, bootstrap());
        // The FAT's own words: sector size, and the type.
        let file = fs::File::open(&path).unwrap();
        let mut sector = [0; 512];
        file.read_exact_at(&mut sector, ESP_AT).unwrap();
        assert_eq!(u32::from(u16::from_le_bytes([sector[11], sector[12]])), block_size.bytes());
        assert_eq!((&sector[54..59], &sector[510..]), (&b"FAT16"[..], &[0x55, 0xaa][..]));
        let (_again, other) = image(block_size);
        assert!(fs::read(&path).unwrap() == fs::read(&other).unwrap(), "{block_size:?}");
    }
}

#[test]
fn a_kernel_is_installed_without_what_is_not_loaded_and_chosen() {
    let (_dir, path) = image(BlockSize::B512);
    let elf = kernel("0.1.0");
    let installed = kernels::install(&path, node(2), KernelSlot::B, &elf, "groups=1").unwrap();
    assert_eq!((installed.sequence, installed.bytes, installed.version.as_str()), (1, 0x8000, "0.1.0"));
    let other = kernels::relabelled(&elf, "0.2.0-next").unwrap();
    assert_eq!(KernelFile::parse(&other).unwrap().version, "0.2.0-next");
    let again = kernels::install(&path, node(2), KernelSlot::B, &other, "").unwrap();
    assert_eq!((again.sequence, again.version.as_str()), (2, "0.2.0-next"));
    kernels::choose(&path, node(2), BootChoice::SlotB).unwrap();
    let list = kernels::list(&path).unwrap();
    assert_eq!(list.len(), 6);
    for state in &list {
        let is_b_of_2 = (state.node, state.slot) == (node(2), KernelSlot::B);
        assert_eq!(state.bad, if is_b_of_2 { None } else { Some(Bad::Absent) }, "{state:?}");
        let first = if state.node == node(2) { KernelSlot::B } else { KernelSlot::A };
        assert_eq!(state.chosen, state.slot == first);
    }
    kernels::damage(&path, node(2), KernelSlot::B).unwrap();
    assert_eq!(kernels::list(&path).unwrap()[5].bad, Some(Bad::Checksum));
}

#[test]
fn an_install_that_stops_half_way_is_found_out() {
    let (_dir, path) = image(BlockSize::B512);
    kernels::install(&path, node(0), KernelSlot::A, &kernel("1"), "").unwrap();
    let before = fs::read(&path).unwrap();
    kernels::install(&path, node(0), KernelSlot::A, &kernels::relabelled(&kernel("1"), "2").unwrap(), "").unwrap();
    let after = fs::read(&path).unwrap();
    let record = KERNELS_AT as usize + KernelSlot::A.record_at(node(0)) as usize;
    let place = KERNELS_AT as usize + KernelSlot::A.kernel_at(node(0)) as usize;
    let put = |image: &[u8]| fs::write(&path, image).unwrap();
    // The record blanked, the kernel old, half new, new; then the record written, and the kernel lost with the power.
    for kernel_bytes in [0, 0x1032, 0x8000] {
        let mut half = before.clone();
        half[record..record + 512].fill(0);
        half[place..place + kernel_bytes].copy_from_slice(&after[place..place + kernel_bytes]);
        put(&half);
        assert_eq!(kernels::list(&path).unwrap()[0].bad, Some(Bad::Absent), "{kernel_bytes} bytes");
    }
    let mut lost = after.clone();
    lost[place..place + 0x8000].copy_from_slice(&before[place..place + 0x8000]);
    put(&lost);
    assert_eq!(kernels::list(&path).unwrap()[0].bad, Some(Bad::Checksum));
    let mut torn = after;
    torn[record + 100..record + 512].fill(0xff);
    put(&torn);
    assert!(matches!(kernels::list(&path).unwrap()[0].bad, Some(Bad::Record(_))));
}

#[test]
fn what_cannot_be_installed_is_said_and_nothing_is_written() {
    let (_dir, path) = image(BlockSize::B512);
    let before = fs::read(&path).unwrap();
    let error = |n, elf: &[u8], words: &str| kernels::install(&path, node(n), KernelSlot::A, elf, words).unwrap_err();
    assert!(matches!(error(0, b"MZ", ""), KernelError::Elf(_)));
    assert!(matches!(error(3, &kernel("1"), ""), KernelError::NoPlace(_)));
    assert!(error(0, &kernel("1"), "groups").to_string().contains("KEY=VALUE"));
    assert!(error(0, &kernel("1"), &"a=1 ".repeat(70)).to_string().contains("256 bytes"));
    let mut long = kernel("1");
    long.resize(0x1000 + SLOT_BYTES as usize, 0);
    long.splice(64 + 32..64 + 48, [SLOT_BYTES.to_le_bytes(), SLOT_BYTES.to_le_bytes()].concat());
    assert!(matches!(error(0, &long, ""), KernelError::TooLong(_)));
    assert!(matches!(kernels::relabelled(&kernel("1"), "a b"), Err(KernelError::Field("version"))));
    assert!(kernels::choose(&path, node(3), BootChoice::SlotA).unwrap_err().to_string().contains("no node 3"));
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn an_image_made_before_has_no_place_for_kernels_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.img");
    create(&path, &CreateOptions::default()).unwrap();
    let error = kernels::install(&path, node(0), KernelSlot::A, &kernel("1"), "").unwrap_err();
    assert!(error.to_string().contains("no partition for kernels"), "{error}");
    assert!(matches!(kernels::list(&path), Err(KernelError::NoPartition)));
    assert!(Image::open(&path, false).unwrap().bootstrap().is_none());
    let small = CreateOptions { bootstrap: Some(bootstrap()), nodes: 64, ..CreateOptions::default() };
    let error = create(&dir.path().join("small.img"), &small).unwrap_err();
    assert!(error.to_string().contains("64 nodes boot from"), "{error}");
}
