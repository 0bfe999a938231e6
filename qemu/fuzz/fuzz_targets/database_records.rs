//! Any block as any record of the membership database: an error or a record that encodes to one that reads the same.
//! The checksum is put right first, so that what stands behind it is reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_base::{ClusterId, NodeId};
use quorate_database::{BallotBlock, Block, Heartbeat, Identity, NodeConfig, Superblock, sealed};

fuzz_target!(|input: (u8, u8, [u8; 512])| {
    let (node, slot, mut raw) = input;
    let (Some(node), slot) = (NodeId::new(node & 63), slot & 1) else { return };
    let cluster = ClusterId([7; 16]);
    for place in
        [None, Some(Superblock::place(slot)), Some(BallotBlock::place(node, slot)), Some(Identity::place(node, slot))]
    {
        match place {
            // As it is, but for the checksum.
            None => sealed::reseal(&mut raw),
            // In a right frame.
            Some(place) => sealed::seal(&mut raw, cluster, place),
        }
        let _ = sealed::header(&raw);
        if let Block::Good(record) = Superblock::decode(&raw, slot) {
            let _ = record.check_timing();
            assert!(matches!(Superblock::decode(&record.encode(slot), slot), Block::Good(again) if again == record));
        }
        if let Block::Good(record) = BallotBlock::decode(&raw, cluster, node, slot) {
            if let Ok(encoded) = record.encode(cluster, node, slot) {
                assert!(
                    matches!(BallotBlock::decode(&encoded, cluster, node, slot), Block::Good(again) if again == record)
                );
            }
        }
        let _ = BallotBlock::decode_head(&raw, cluster, node, slot);
        if let Block::Good(record) = Identity::decode(&raw, cluster, node, slot) {
            let encoded = record.encode(cluster, node, slot);
            assert!(matches!(Identity::decode(&encoded, cluster, node, slot), Block::Good(again) if again == record));
        }
        if let Block::Good(record) = Heartbeat::decode(&raw, cluster, node) {
            let encoded = record.encode(cluster, node);
            assert!(matches!(Heartbeat::decode(&encoded, cluster, node), Block::Good(again) if again == record));
        }
        if let Block::Good(record) = NodeConfig::decode(&raw, cluster, node) {
            let encoded = record.encode(cluster, node);
            assert!(matches!(NodeConfig::decode(&encoded, cluster, node), Block::Good(again) if again == record));
        }
    }
});
