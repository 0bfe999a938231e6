//! What a document names is there: files by their paths, and the targets of its links.

/// Folders at the top: a path that begins with one begins at the top of the tree.
const TOP: [&str; 5] = ["kernel/", "drivers/", "arch/", "boot/", "qemu/"];

/// Endings of files that stand in the tree. Others may be what a command makes.
const KINDS: [&str; 4] = [".rs", ".md", ".s", ".toml"];

/// What a document at `path` names and `files`, the tree's, have not: links, and paths in code and commands.
pub fn names_what_is_there(path: &str, text: &str, files: &[String]) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut found = Vec::new();
    for (i, line) in lines_outside_fences(text) {
        let targets = targets(line).filter(|target| !is_there(&joined(folder, target), files));
        found.extend(targets.map(|target| format!("{path}:{i}: there is no {target}")));
    }
    let (prose, fences) = apart(text);
    let spans = prose.split('`').skip(1).step_by(2);
    let words = fences.split_whitespace().filter(|word| is_from_top(word) && KINDS.iter().any(|k| word.ends_with(k)));
    for name in spans.chain(words).filter(|name| is_path(name)) {
        for name in alternatives(name) {
            if !(if is_from_top(&name) { is_there(&name, files) } else { is_somewhere(&name, files) }) {
                found.push(format!("{path}: there is no {name}"));
            }
        }
    }
    found
}

/// Numbers, from 1, and texts of the lines that are not code.
fn lines_outside_fences(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// A document's prose, and the code that stands between.
fn apart(text: &str) -> (String, String) {
    let prose: Vec<(usize, &str)> = lines_outside_fences(text).collect();
    let is_prose = |number| prose.binary_search_by_key(&number, |(i, _)| *i).is_ok();
    let fences = (1..).zip(text.lines()).filter(|(i, _)| !is_prose(*i)).map(|(_, line)| line);
    let fences: Vec<&str> = fences.collect();
    (prose.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n"), fences.join("\n"))
}

/// Where a line's links and pictures lead inside the tree.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let marks = [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"'), ("href=\"", '"')];
    let all = marks.into_iter().flat_map(move |(mark, end)| {
        line.match_indices(mark).filter_map(move |(at, _)| line[at + mark.len()..].split(end).next())
    });
    let inside = all.filter(|target| !target.contains("://") && !target.starts_with('#'));
    inside.map(|target| target.split('#').next().unwrap_or(target))
}

/// A target as seen from a folder, from the top of the tree.
fn joined(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn is_from_top(name: &str) -> bool {
    TOP.iter().any(|top| name.starts_with(top))
}

/// Whether a piece of code is the path of something in the tree.
fn is_path(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-{},*".contains(c);
    let kind = KINDS.iter().any(|kind| name.ends_with(kind) && name.len() > kind.len());
    name.chars().all(plain) && (kind || is_from_top(name))
}

/// The paths of `a/{b,c}`.
fn alternatives(name: &str) -> Vec<String> {
    match name.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
        Some((before, (list, after))) => list.split(',').map(|one| format!("{before}{one}{after}")).collect(),
        None => vec![name.to_owned()],
    }
}

/// Whether there is such a file or folder; a `*` at the end stands for anything.
fn is_there(path: &str, files: &[String]) -> bool {
    let path = path.trim_end_matches('/');
    files.iter().any(|file| match path.strip_suffix('*') {
        Some(start) => file.starts_with(start),
        None => file.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
    })
}

/// Whether a file has this path at the end of its own; a crate's `src` may be left out.
fn is_somewhere(name: &str, files: &[String]) -> bool {
    let ends = |file: &str| file.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
    files.iter().any(|file| ends(file) || ends(&file.replace("/src/", "/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let files = ["README.md", "kernel/README.md", "kernel/a/src/b.rs", "kernel/a/src/c/d.rs", "qemu/x/e.toml"];
        names_what_is_there("kernel/README.md", text, &files.map(str::to_owned))
    }

    #[test]
    fn links_lead_to_something() {
        let fine = "[a](../README.md) [b](a/src/b.rs#there) [c](a) [d](https://example.org/x.md) [e](#f)";
        assert_eq!(found(fine), [""; 0]);
        assert_eq!(
            found("x\n[a](README) [b](b.rs)"),
            ["kernel/README.md:2: there is no README", "kernel/README.md:2: there is no b.rs"]
        );
        assert_eq!(found("<img src=\"a/p.png\" srcset=\"../README.md\">").len(), 1);
        assert_eq!(found("```text\n[a](b)\n```\n[a](b)"), ["kernel/README.md:4: there is no b"]);
    }

    #[test]
    fn paths_in_code_are_files_of_the_tree() {
        let fine = "`kernel/a` `kernel/a/src/{b,c/d}.rs` `kernel/a/src/*` `qemu/x/` `b.rs` `a/b.rs` `c/d.rs` `e.toml`\n\
                    `cargo cluster run qemu/y.toml` `.rs` `out/p.png` `a / b.rs`";
        assert_eq!(found(fine), [""; 0]);
        for gone in ["kernel/b", "kernel/a/src/{b,e}.rs", "kernel/a/src/e*", "e.rs", "x/b.rs", "qemu/x/f/"] {
            assert_eq!(found(&format!("It is `{gone}` here.")).len(), 1, "{gone}");
        }
        // A piece of code may go over a line's end.
        assert_eq!(found("`a\nb` and `e.rs`").len(), 1);
        assert_eq!(found("```sh\ncargo cluster run qemu/x/e.toml qemu/x/f.toml --trace qemu/t.jsonl\n```").len(), 1);
    }
}
