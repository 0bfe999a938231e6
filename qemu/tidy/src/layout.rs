//! The tree by names, manifests and text files (DESIGN 1, STYLE 6, 15).

/// What may stand at the top besides `target`, which is not part of the tree.
const TOP: [&str; 11] = [
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "README.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "kernel",
    "drivers",
    "arch",
    "boot",
    "qemu",
];

/// Hidden ones.
const TOP_HIDDEN: [&str; 6] = [".cargo", ".ci", ".git", ".gitignore", ".gitattributes", ".rustfmt.toml"];

/// Crates that have Cargo features, with the reason.
const FEATURES: [&str; 2] = [
    // `rule-switches`: the model checker leaves out a rule; nothing else may.
    "kernel/master-lock/Cargo.toml",
    "kernel/membership/Cargo.toml",
];

/// The top level is the user's.
pub fn top_level<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<String> {
    let names = names.into_iter().filter(|n| *n != "target" && !TOP.contains(n) && !TOP_HIDDEN.contains(n));
    names.map(|n| format!("{n}: does not belong at the top of the tree")).collect()
}

/// Names that say nothing.
pub fn plain_names(path: &str) -> Vec<String> {
    let empty = |part: &str| {
        let stem = part.split('.').next().unwrap_or(part);
        matches!(stem, "util" | "utils" | "common" | "misc" | "helpers") || part == "manager.rs"
    };
    path.split('/').filter(|part| empty(part)).map(|part| format!("{path}: `{part}` names no idea")).collect()
}

/// A crate takes the workspace's lints and has no features.
pub fn manifest(path: &str, text: &str) -> Vec<String> {
    let Ok(manifest) = text.parse::<toml::Table>() else { return vec![format!("{path}: is not TOML")] };
    if !manifest.contains_key("package") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let lints = manifest.get("lints").and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool);
    if lints != Some(true) {
        found.push(format!("{path}: without `[lints] workspace = true`"));
    }
    if manifest.contains_key("features") && !FEATURES.contains(&path) {
        found.push(format!("{path}: has Cargo features"));
    }
    found
}

/// A scenario is TOML. (That it is a right one, the scenario crate's own tests say.)
pub fn scenario(path: &str, text: &str) -> Vec<String> {
    match text.parse::<toml::Table>() {
        Ok(_) => Vec::new(),
        Err(error) => vec![format!("{path}: {error}")],
    }
}

/// Nothing in the tree depends on one machine: no home folders, no private registry.
pub fn no_local_places(path: &str, text: &str) -> Vec<String> {
    // Put together here, so that this file does not find itself.
    let folders = ["work", "home", "root", "Users"].map(|f| format!("/{f}/"));
    let public = format!("{}+https://github.com/rust-lang/crates.io-index", "registry");
    let foreign = [format!("{}+http", "registry"), format!("{}+http", "sparse"), format!("[{}.", "source")];
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let own = folders.iter().any(|f| {
            line.match_indices(f.as_str()).any(|(at, _)| {
                // A path from the root, not the middle of a longer one or of an address.
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '}' | '*'))
            })
        });
        let registry = foreign.iter().any(|f| line.contains(f.as_str())) && !line.contains(&public);
        if own || registry {
            found.push(format!("{path}:{}: a place of one machine: {}", i + 1, line.trim()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn design_1_top_level() {
        assert!(top_level(["kernel", ".git", "target", "README.md"]).is_empty());
        assert_eq!(top_level(["docs", "notes.txt"]).len(), 2);
    }

    #[test]
    fn style_6_plain_names() {
        for path in ["kernel/util/src/lib.rs", "qemu/a/src/common.rs", "kernel/a/manager.rs", "a/misc"] {
            assert_eq!(plain_names(path).len(), 1, "{path}");
        }
        assert!(plain_names("boot/event-manager/src/utility.rs").is_empty());
    }

    #[test]
    fn style_15_manifest() {
        assert!(manifest("Cargo.toml", "[workspace]").is_empty());
        assert!(manifest("a/Cargo.toml", "[package]\n[lints]\nworkspace = true").is_empty());
        assert_eq!(manifest("a/Cargo.toml", "[package]\n[features]\nx = []").len(), 2);
        assert_eq!(manifest("a/Cargo.toml", "[package").len(), 1);
    }

    #[test]
    fn scenarios_are_toml() {
        assert!(scenario("a.toml", "name = \"a\"").is_empty());
        assert_eq!(scenario("a.toml", "name = a").len(), 1);
    }

    #[test]
    fn no_local_places_in_text() {
        let folder = ["", "home", "me"].join("/");
        let home = format!("see {folder}/notes");
        assert_eq!(no_local_places("a.md", &home).len(), 1);
        let private = format!("source = \"{}+https://mirror.example/index\"", "registry");
        assert_eq!(no_local_places("Cargo.lock", &private).len(), 1);
        let public = format!("source = \"{}+https://github.com/rust-lang/crates.io-index\"", "registry");
        assert!(no_local_places("Cargo.lock", &public).is_empty());
        assert!(no_local_places("a.md", &format!("https://example.org{folder}")).is_empty());
    }
}
