//! Finds and reads the files of the tree.

use crate::source::Source;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The top of the tree that this crate stands in.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_path_buf()
}

/// Names of everything at the top.
///
/// # Errors
/// If the folder cannot be read.
pub fn top_names() -> io::Result<Vec<String>> {
    fs::read_dir(root())?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect()
}

/// All files, from the top of the tree, with `/`. What is built or recorded is not part of the tree.
///
/// # Errors
/// If a folder cannot be read.
pub fn files() -> io::Result<Vec<String>> {
    let root = root();
    let (mut files, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                if !matches!(name.as_str(), "target" | ".git" | "corpus" | "artifacts") {
                    folders.push(path);
                }
            } else if !name.ends_with(".jsonl") && name != ".git" {
                let path = path.strip_prefix(&root).unwrap_or(&path);
                files.push(path.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A file's text, `None` if it is not text.
///
/// # Errors
/// If it cannot be read.
pub fn text(path: &str) -> io::Result<Option<String>> {
    Ok(String::from_utf8(fs::read(root().join(path))?).ok())
}

/// All Rust files, with their test code told apart.
///
/// # Errors
/// If one cannot be read.
pub fn sources() -> io::Result<Vec<Source>> {
    let mut all = Vec::new();
    for path in files()?.into_iter().filter(|p| p.ends_with(".rs")) {
        if let Some(text) = text(&path)? {
            let only_tests = path.split('/').any(|part| part == "tests" || part == "tests.rs");
            all.push(Source::new(&path, &text, only_tests));
        }
    }
    // Modules that are declared for tests only, wherever their file stands.
    let declared: HashSet<String> = all.iter().flat_map(test_files).collect();
    for source in all.iter_mut().filter(|s| declared.contains(&s.path)) {
        source.product.clear();
    }
    Ok(all)
}

/// Where the files of this file's test modules can stand.
fn test_files(source: &Source) -> Vec<String> {
    let (folder, name) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let folder = match name {
        "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
        other => format!("{folder}/{}", other.trim_end_matches(".rs")),
    };
    let names = source.test_modules();
    names.iter().flat_map(|n| [format!("{folder}/{n}.rs"), format!("{folder}/{n}/mod.rs")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_modules_have_their_files() {
        let source = Source::new("kernel/a/src/lib.rs", "#[cfg(test)]\nmod fake;", false);
        assert_eq!(test_files(&source)[0], "kernel/a/src/fake.rs");
        let source = Source::new("kernel/a/src/b.rs", "#[cfg(test)]\nmod fake;", false);
        assert_eq!(test_files(&source)[0], "kernel/a/src/b/fake.rs");
    }
}
