//! The list that belongs to this tree fits the tree.

use std::path::Path;

use quorate_mutate::{List, Tree};

fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Issue "Mutation check": a list of at least 25.
#[test]
fn every_entry_has_its_one_place_in_the_sources() {
    let list = List::shipped().unwrap();
    assert!(list.mutations.len() >= 25);
    let wrong: Vec<String> = list.check(root()).iter().map(ToString::to_string).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_entry_names_the_rule_it_breaks_and_a_file_of_the_protocol() {
    let files =
        ["master-lock", "membership", "node", "interconnect", "database", "groups"].map(|c| format!("kernel/{c}/src/"));
    for m in List::shipped().unwrap().mutations {
        assert!(m.breaks.contains("DESIGN") || m.breaks.contains("MISSION"), "{}: {}", m.name, m.breaks);
        assert!(files.iter().any(|f| m.file.starts_with(f)), "{}: {}", m.name, m.file);
        assert!(m.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{}", m.name);
    }
}

#[test]
fn every_crate_of_the_protocol_has_entries() {
    let list = List::shipped().unwrap();
    for name in ["master-lock", "membership", "node", "interconnect", "database", "groups"] {
        let folder = format!("kernel/{name}/");
        assert!(list.mutations.iter().any(|m| m.file.starts_with(&folder)), "{name}");
    }
}

#[test]
fn every_entry_goes_in_and_out_again_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let list = List::shipped().unwrap();
    for m in &list.mutations {
        let to = dir.path().join("tree").join(&m.file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(root().join(&m.file), to).unwrap();
    }
    // A copy of a copy of the touched files alone: the whole tree is large.
    let mut tree = Tree::copy(&dir.path().join("tree"), &dir.path().join("copy")).unwrap();
    for m in &list.mutations {
        let read = || std::fs::read_to_string(dir.path().join("copy").join(&m.file)).unwrap();
        let before = read();
        tree.apply(m).unwrap().unwrap();
        assert_ne!(read(), before, "{}", m.name);
        tree.restore().unwrap();
        assert_eq!(read(), before, "{}", m.name);
    }
}
