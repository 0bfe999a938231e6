//! A disk of any content, searched for a partition: the search ends, and asks only for blocks of the disk.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_scsi::capacity::Geometry;
use quorate_scsi::gpt::{Guid, Next, Search};

fuzz_target!(|input: (u64, bool, Vec<Option<Vec<u8>>>)| {
    let (blocks, large, reads) = input;
    let geometry = Geometry { blocks, block_bytes: if large { 4096 } else { 512 } };
    let mut search = Search::new(Guid([1; 16]), geometry);
    for data in reads {
        let Next::Read { lba, blocks: count } = search.next() else { return };
        if let Some(end) = lba.checked_add(u64::from(count)) {
            assert!(end <= blocks.max(2), "{lba}+{count} of {blocks}");
        }
        search.on_blocks(data.as_deref());
    }
});
