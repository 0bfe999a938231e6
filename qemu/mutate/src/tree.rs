//! A copy of the sources in which one fault at a time stands.
//!
//! Invariant: outside of [`Tree::apply`] and [`Tree::restore`] the copy is the tree; a file is written only if its content
//! changes, so that cargo builds only what the fault touches.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::list::{ListError, Mutation};

/// What is not needed: builds, history, and the fuzz targets, which are a workspace of their own with large corpora.
const LEFT_OUT: [&str; 3] = ["target", ".git", "fuzz"];

/// A copy, and what was changed in it.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    changed: Option<(PathBuf, String)>,
}

impl Tree {
    /// Brings the copy at `root` to the state of the sources at `from`.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn copy(from: &Path, root: &Path) -> io::Result<Self> {
        let mut seen = BTreeSet::new();
        for path in files(from, Path::new(""))? {
            write_if_new(&root.join(&path), &fs::read(from.join(&path))?)?;
            seen.insert(path);
        }
        for path in files(root, Path::new(""))?.into_iter().filter(|path| !seen.contains(path)) {
            fs::remove_file(root.join(path))?;
        }
        Ok(Self { root: root.to_owned(), changed: None })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Puts a fault in, in the place of the one before.
    ///
    /// # Errors
    /// The list's mistake, as text; or that a file cannot be read or written.
    pub fn apply(&mut self, mutation: &Mutation) -> io::Result<Result<(), ListError>> {
        self.restore()?;
        let path = self.root.join(&mutation.file);
        let text = fs::read_to_string(&path)?;
        let faulty = match mutation.apply(&text) {
            Ok(faulty) => faulty,
            Err(error) => return Ok(Err(error)),
        };
        fs::write(&path, faulty)?;
        self.changed = Some((path, text));
        Ok(Ok(()))
    }

    /// Takes the fault out again.
    ///
    /// # Errors
    /// If the file cannot be written; then the fault is still in.
    pub fn restore(&mut self) -> io::Result<()> {
        if let Some((path, text)) = &self.changed {
            fs::write(path, text)?;
            self.changed = None;
        }
        Ok(())
    }
}

/// All files below, as paths from `root`.
fn files(root: &Path, below: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(root.join(below)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (name, path) = (entry.file_name(), below.join(entry.file_name()));
        if LEFT_OUT.iter().any(|out| name == *out) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(files(root, &path)?);
        } else if kind.is_file() && path.extension().is_none_or(|e| e != "jsonl") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn write_if_new(path: &Path, content: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutation(file: &str, find: &str, replace: &str) -> Mutation {
        Mutation {
            name: "m".into(),
            file: file.into(),
            breaks: String::new(),
            find: find.into(),
            replace: replace.into(),
            rule: None,
            nodes: Vec::new(),
        }
    }

    #[test]
    fn a_fault_goes_into_the_copy_only_and_out_again() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/target")).unwrap();
        fs::write(from.join("a/b.rs"), "one two").unwrap();
        fs::write(from.join("c.rs"), "three").unwrap();
        fs::write(from.join("a/target/x"), "").unwrap();
        let mut tree = Tree::copy(&from, &to).unwrap();
        let read = |path: &str| fs::read_to_string(to.join(path)).unwrap();
        assert!(!to.join("a/target").exists());
        tree.apply(&mutation("a/b.rs", "two", "2")).unwrap().unwrap();
        assert_eq!((read("a/b.rs"), read("c.rs")), ("one 2".into(), "three".into()));
        tree.apply(&mutation("c.rs", "three", "3")).unwrap().unwrap();
        assert_eq!((read("a/b.rs"), read("c.rs")), ("one two".into(), "3".into()));
        assert!(tree.apply(&mutation("c.rs", "four", "4")).unwrap().is_err());
        assert_eq!((read("a/b.rs"), read("c.rs")), ("one two".into(), "three".into()));
        assert_eq!(fs::read_to_string(from.join("a/b.rs")).unwrap(), "one two");
    }

    #[test]
    fn what_is_gone_in_the_sources_goes_in_the_copy_and_nothing_else_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(&from).unwrap();
        fs::write(from.join("a"), "1").unwrap();
        fs::write(from.join("b"), "2").unwrap();
        Tree::copy(&from, &to).unwrap();
        let written = fs::metadata(to.join("b")).unwrap().modified().unwrap();
        fs::remove_file(from.join("a")).unwrap();
        Tree::copy(&from, &to).unwrap();
        assert!(!to.join("a").exists());
        assert_eq!(fs::metadata(to.join("b")).unwrap().modified().unwrap(), written);
    }
}
