//! Any bytes as the partition table that the database is found by. The header's checksum is put right first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_database::gpt::{Entry, Header, Search, table_checksum};

fuzz_target!(|input: (u64, bool, Vec<u8>, Vec<u8>)| {
    let (at, large, mut block, table) = input;
    block.resize(if large { 4096 } else { 512 }, 0);
    block[..8].copy_from_slice(b"EFI PART");
    block[12..16].copy_from_slice(&92u32.to_le_bytes());
    block[24..32].copy_from_slice(&at.to_le_bytes());
    block[88..92].copy_from_slice(&table_checksum(&table).to_le_bytes());
    block[16..20].fill(0);
    let sum = table_checksum(&block[..92]);
    block[16..20].copy_from_slice(&sum.to_le_bytes());
    if let Ok(header) = Header::decode(&block, at) {
        let mut search = Search::new(&header, if large { 4096 } else { 512 });
        for part in table.chunks((header.entry_bytes as usize).max(1) * 3) {
            search.entries(part);
        }
        let _ = search.finish();
    }
    let _ = Entry::decode(&table);
});
