//! The tree keeps its rules. Every finding names its place.

use quorate_tidy::rules::{FILE_RULES, UNSAFE_FILES, forbids_unsafe};
use quorate_tidy::source::words;
use quorate_tidy::{dependencies, documents, layout, tree};
use std::process::Command;

fn assert_none(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn the_top_level_is_as_agreed() {
    let names = tree::top_names().unwrap();
    let files: Vec<&str> = names.iter().map(String::as_str).filter(|n| !n.ends_with(".jsonl")).collect();
    assert_none("top level", layout::top_level(files));
}

#[test]
fn dependencies_point_one_way() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let output = Command::new(cargo).args(arguments).current_dir(tree::root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let packages = dependencies::from_metadata(&serde_json::from_slice(&output.stdout).unwrap()).unwrap();
    assert!(packages.len() > 10);
    assert_none("dependencies", dependencies::directions(&packages));
}

#[test]
fn every_source_file_keeps_the_rules() {
    let sources = tree::sources().unwrap();
    assert!(sources.len() > 50);
    for (name, rule) in FILE_RULES {
        assert_none(name, sources.iter().flat_map(rule).collect());
    }
}

#[test]
fn every_crate_forbids_unsafe() {
    let sources = tree::sources().unwrap();
    let roots = sources.iter().filter(|s| {
        // The fuzz targets' entry points are made by their macro.
        (s.path.ends_with("src/lib.rs") || s.path.ends_with("src/main.rs")) && !s.path.starts_with("qemu/fuzz/")
    });
    assert_none("forbid unsafe", roots.flat_map(forbids_unsafe).collect());
}

#[test]
fn no_file_is_named_for_unsafe_without_need() {
    let sources = tree::sources().unwrap();
    let has_unsafe = |path: &str| sources.iter().any(|s| s.path == path && words(&s.code, "unsafe").next().is_some());
    let idle = UNSAFE_FILES.into_iter().filter(|path| !has_unsafe(path));
    assert_none("named files", idle.map(str::to_owned).collect());
}

#[test]
fn names_manifests_and_texts_keep_the_rules() {
    let files = tree::files().unwrap();
    assert_none("names", files.iter().flat_map(|p| layout::plain_names(p)).collect());
    let (mut manifests, mut scenarios, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for path in &files {
        let Some(text) = tree::text(path).unwrap() else { continue };
        // The fuzz targets are a workspace of their own, which has no lints to inherit.
        if path.ends_with("Cargo.toml") && !path.starts_with("qemu/fuzz/") {
            manifests.extend(layout::manifest(path, &text));
        }
        if path.starts_with("qemu/scenarios/") && path.ends_with(".toml") {
            scenarios.extend(layout::scenario(path, &text));
        }
        places.extend(layout::no_local_places(path, &text));
    }
    assert_none("manifests", manifests);
    assert_none("scenarios", scenarios);
    assert_none("places", places);
}

#[test]
fn documents_name_what_is_there() {
    let files = tree::files().unwrap();
    let documents: Vec<&String> = files.iter().filter(|path| path.ends_with(".md")).collect();
    for named in ["README.md", "kernel/PROTOCOL.md", "kernel/GLOSSARY.md", "kernel/ARCHITECTURE.md", "kernel/README.md"]
    {
        assert!(documents.iter().any(|path| *path == named), "{named}");
    }
    let gone = |path: &&String| {
        let text = tree::text(path).unwrap().unwrap_or_default();
        documents::names_what_is_there(path, &text, &files)
    };
    assert_none("documents", documents.iter().flat_map(gone).collect());
}

/// Issue 6: what a hobby OS takes is to be seen at a glance.
#[test]
fn the_hobby_os_has_less_than_400_lines_of_code() {
    let is_code = |line: &&str| {
        let line = line.trim();
        !(line.is_empty() || line.starts_with("//") || line.starts_with("# ") || line.starts_with("/*"))
    };
    let files = tree::files().unwrap();
    let own = files.iter().filter(|path| path.starts_with("boot/hobby-os/") && !path.ends_with(".toml"));
    let lines = own.map(|path| tree::text(path).unwrap().unwrap_or_default().lines().filter(is_code).count());
    let lines: usize = lines.sum();
    assert!((100..400).contains(&lines), "{lines} lines");
}
