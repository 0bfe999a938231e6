//! A new cluster key, offline.

use std::path::Path;

use quorate_base::{BootNonce, ClusterId, Incarnation, NodeId, NodeSet};
use quorate_database::{ClusterKey, Heartbeat, Superblock, layout};
use quorate_image::create::IMAGE_BYTES_MIN;
use quorate_image::{
    CreateOptions, Image, RekeyError, check, create, dump, parse_uuid, rekey, render_json, render_text,
};

fn superblock(path: &Path, copy: u8) -> Superblock {
    let raw = Image::open(path, false).unwrap().read(layout::superblock(copy)).unwrap();
    Superblock::decode(&raw, copy).good().unwrap().clone()
}

fn beat(path: &Path, n: u8, clean: bool) {
    let cluster = ClusterId(parse_uuid(&dump(path).unwrap().cluster).unwrap());
    let node = NodeId::new(n).unwrap();
    let heartbeat = Heartbeat { incarnation: Incarnation(1), nonce: BootNonce(5), clean, ..Heartbeat::default() };
    Image::open(path, true).unwrap().write(layout::heartbeat(node), &heartbeat.encode(cluster, node)).unwrap();
}

fn everything(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn holds(haystack: &[u8], key: &ClusterKey) -> bool {
    haystack.windows(32).any(|window| window == key.0)
}

#[test]
fn the_new_key_is_in_both_copies_and_the_old_one_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shared.img");
    create(&path, &CreateOptions { bytes: IMAGE_BYTES_MIN, ..CreateOptions::default() }).unwrap();
    let old = superblock(&path, 0);
    assert!(holds(&everything(&path), &old.key), "it is looked for rightly");
    beat(&path, 1, true);
    let done = rekey(&path, false).unwrap();
    let new = superblock(&path, 0);
    assert_eq!(new, superblock(&path, 1));
    assert_ne!(new.key, old.key);
    assert_eq!((new.generation, new.key_epoch), (old.generation + 1, old.key_epoch + 1));
    assert_eq!((done.generation, done.epoch), (new.generation, new.key_epoch));
    assert_ne!(done.before, done.now);
    assert_eq!(Superblock { key: old.key, generation: 1, key_epoch: 0, ..new.clone() }, old, "nothing else changed");
    assert!(!holds(&everything(&path), &old.key));
    assert!(check(&path, false).unwrap().is_empty());
    let again = rekey(&path, false).unwrap();
    assert_eq!((again.before, again.epoch), (done.now, 2));
}

#[test]
fn not_while_a_node_may_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shared.img");
    create(&path, &CreateOptions { bytes: IMAGE_BYTES_MIN, ..CreateOptions::default() }).unwrap();
    beat(&path, 0, true);
    beat(&path, 2, false);
    let before = everything(&path);
    let refused = rekey(&path, false).unwrap_err();
    assert!(matches!(&refused, RekeyError::NotClean(nodes) if *nodes == NodeSet::only(NodeId::new(2).unwrap())));
    assert!(refused.to_string().starts_with("node 2: the heartbeat has no clean mark"), "{refused}");
    assert_eq!(everything(&path), before, "nothing was written");
    assert_eq!(rekey(&path, true).unwrap().epoch, 1);
    // A heartbeat that cannot be read may be a running node's.
    let image = Image::open(&path, true).unwrap();
    image.write(layout::heartbeat(NodeId::new(2).unwrap()), &[0x55; 512]).unwrap();
    assert!(matches!(rekey(&path, false), Err(RekeyError::NotClean(_))));
    assert!(matches!(rekey(dir.path(), false), Err(RekeyError::Image(_))));
}

#[test]
fn a_dump_shows_a_fingerprint_and_never_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = [1, 2].map(|seed| {
        let path = dir.path().join(format!("{seed}.img"));
        create(&path, &CreateOptions { bytes: IMAGE_BYTES_MIN, seed: Some(seed), ..CreateOptions::default() }).unwrap();
        path
    });
    let [a, b] = [&one, &other].map(|path| dump(path).unwrap());
    assert_ne!(a.key_fingerprint, b.key_fingerprint);
    assert_eq!(a.key_fingerprint, dump(&one).unwrap().key_fingerprint);
    let (text, json) = (render_text(&a), render_json(&a));
    assert!(text.contains(&format!("cluster key: epoch 0, fingerprint {}", a.key_fingerprint)), "{text}");
    let key = superblock(&one, 0).key.0;
    for width in [4, 8, 32] {
        let hex: String = key.iter().take(width).map(|byte| format!("{byte:02x}")).collect();
        assert!(!text.contains(&hex) && !json.contains(&hex));
    }
}
