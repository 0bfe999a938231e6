//! What every Rust file keeps (STYLE 1, 7, 9, 11, 12).

use crate::source::{Source, closing, words};

/// Lines of a file at most, its tests not counted: more is two ideas.
pub const FILE_LINES_MAX: usize = 800;

/// Lines of a function at most: about two screens.
pub const FUNCTION_LINES_MAX: usize = 100;

/// How many lines above an `unsafe` its reason may stand: a comment of a few lines above a statement of a few lines.
const SAFETY_LINES: usize = 12;

/// A rule for one file: what is wrong, each with its place.
pub type FileRule = fn(&Source) -> Vec<String>;

/// All of them, by name.
pub const FILE_RULES: [(&str, FileRule); 7] = [
    ("file size", file_size),
    ("function size", function_size),
    ("header", header),
    ("unsafe has a reason", unsafe_has_a_reason),
    ("unsafe stands where it may", unsafe_in_its_place),
    ("nothing is left over", nothing_left_over),
    ("no unwrap", no_unwrap),
];

fn at(source: &Source, place: usize, what: &str) -> String {
    format!("{}:{}: {what}", source.path, source.line_of(place))
}

/// A file has one idea.
pub fn file_size(source: &Source) -> Vec<String> {
    let lines = source.product_lines();
    let what = format!("{}: {lines} lines without tests, {FILE_LINES_MAX} are allowed", source.path);
    if lines > FILE_LINES_MAX { vec![what] } else { Vec::new() }
}

/// A function can be read at once.
pub fn function_size(source: &Source) -> Vec<String> {
    let code = &source.product;
    let mut found = Vec::new();
    for place in words(code, "fn") {
        let Some(body) = code[place..].find(['{', ';']).map(|n| place + n) else { continue };
        if !code[body..].starts_with('{') {
            continue;
        }
        let lines = source.line_of(closing(code, body)) - source.line_of(place) + 1;
        if lines > FUNCTION_LINES_MAX {
            let name: String = code[place..body].chars().take(60).collect();
            found.push(at(source, place, &format!("{name:?}: {lines} lines, {FUNCTION_LINES_MAX} are allowed")));
        }
    }
    found
}

/// A file says what it is for.
pub fn header(source: &Source) -> Vec<String> {
    let first = source.text.lines().find(|l| !l.trim().is_empty());
    if first.is_some_and(|l| l.starts_with("//!")) {
        Vec::new()
    } else {
        vec![format!("{}: does not begin with `//!`", source.path)]
    }
}

/// Each `unsafe` block and implementation says why it is sound. (What the caller of an `unsafe fn` must keep, clippy asks
/// for; in an implementation of a foreign trait the trait says it.)
pub fn unsafe_has_a_reason(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for place in words(&source.code, "unsafe") {
        let rest = source.code[place + "unsafe".len()..].trim_start();
        if !rest.starts_with('{') && !rest.starts_with("impl") {
            continue;
        }
        let line = source.line_of(place);
        let above = lines.iter().take(line).skip(line.saturating_sub(SAFETY_LINES + 1));
        if !above.clone().any(|l| l.contains("SAFETY:")) {
            found.push(at(source, place, "`unsafe` without `SAFETY:`"));
        }
    }
    found
}

/// Crates whose purpose is hardware.
pub const UNSAFE_CRATES: [&str; 2] = ["arch/x86_64/", "drivers/bus/"];

/// Other files in which `unsafe` may stand, in crates that therefore cannot forbid it as a whole.
pub const UNSAFE_FILES: [&str; 11] = [
    // The hobby OS: its HPET; its entry, ports and memory.
    "boot/hobby-os/src/clock.rs",
    "boot/hobby-os/src/machine.rs",
    // Tells the bus how addresses are translated.
    "boot/node-image/src/devices.rs",
    // Takes the ports of a node that ends.
    "boot/node-image/src/end.rs",
    // The executor's entry point, called by its C name, and its storage.
    "boot/node-image/src/executor.rs",
    // The defmt logger: a trait that is unsafe to implement.
    "boot/node-image/src/log.rs",
    // The serial ports by their I/O addresses.
    "boot/node-image/src/ports.rs",
    // The UEFI bootstrap: the firmware's services and tables; the jump into the kernel; the serial ports by their I/O addresses.
    "boot/uefi/src/firmware.rs",
    "boot/uefi/src/leave.rs",
    "boot/uefi/src/ports.rs",
    // A fake register back end: a trait that is unsafe to implement.
    "drivers/serial/tests/port.rs",
];

/// `unsafe` stands only in the hardware crates and the named files.
pub fn unsafe_in_its_place(source: &Source) -> Vec<String> {
    let allowed = UNSAFE_CRATES.iter().any(|c| source.path.starts_with(c)) || UNSAFE_FILES.contains(&&*source.path);
    if allowed {
        return Vec::new();
    }
    words(&source.code, "unsafe").map(|place| at(source, place, "`unsafe` here")).collect()
}

/// No unfinished work, no debugging aid, no test that is never run.
pub fn nothing_left_over(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for word in ["todo", "unimplemented", "dbg"] {
        for place in words(&source.code, word) {
            if source.code[place + word.len()..].starts_with('!') {
                found.push(at(source, place, &format!("`{word}!`")));
            }
        }
    }
    for place in words(&source.code, "ignore") {
        if source.code[..place].trim_end().ends_with("#[") {
            found.push(at(source, place, "a test that is never run"));
        }
    }
    found
}

/// In the kernel and the drivers nothing that comes from outside may end a node by accident.
pub fn no_unwrap(source: &Source) -> Vec<String> {
    if !source.path.starts_with("kernel/") && !source.path.starts_with("drivers/") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for pattern in [".unwrap()", ".expect("] {
        // A method of that name that takes no message is another one.
        let message = |place: &usize| source.text[place + pattern.len()..].trim_start().starts_with(['"', '&']);
        let places = source.product.match_indices(pattern).map(|(place, _)| place);
        let places = places.filter(|place| pattern.ends_with(')') || message(place));
        found.extend(places.map(|place| at(source, place, pattern)));
    }
    found
}

/// A crate that needs no `unsafe` forbids it.
pub fn forbids_unsafe(root: &Source) -> Vec<String> {
    let folder = root.path.trim_end_matches("src/lib.rs").trim_end_matches("src/main.rs");
    // A test file is a crate of its own.
    let named = |f: &&str| f.strip_prefix(folder).is_some_and(|f| f.starts_with("src/"));
    let exempt = UNSAFE_CRATES.contains(&folder) || UNSAFE_FILES.iter().any(named);
    if exempt || root.code.contains("#![forbid(unsafe_code)]") {
        return Vec::new();
    }
    vec![format!("{}: without `#![forbid(unsafe_code)]`", root.path)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::new(path, text, false)
    }

    #[test]
    fn style_1_file_size() {
        let long = "fn a() {}\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(file_size(&source("a.rs", &long)).len(), 1);
        let tested = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert!(file_size(&source("a.rs", &tested)).is_empty());
    }

    #[test]
    fn style_1_function_size() {
        let body = |lines: usize| format!("fn short();\nfn a() {{\n{}}}\n", "    b(); {}\n".repeat(lines));
        assert_eq!(function_size(&source("a.rs", &body(FUNCTION_LINES_MAX - 2))), [""; 0]);
        assert_eq!(function_size(&source("a.rs", &body(FUNCTION_LINES_MAX - 1))).len(), 1);
    }

    #[test]
    fn style_1_header() {
        assert!(header(&source("a.rs", "\n//! What.\n")).is_empty());
        assert_eq!(header(&source("a.rs", "// What.\n")).len(), 1);
    }

    #[test]
    fn style_11_unsafe_has_a_reason() {
        assert_eq!(unsafe_has_a_reason(&source("a.rs", "let a = unsafe { b() };")).len(), 1);
        assert_eq!(unsafe_has_a_reason(&source("a.rs", "unsafe impl A for B {}")).len(), 1);
        assert!(unsafe_has_a_reason(&source("a.rs", "// SAFETY: c.\nlet a = unsafe { b() };")).is_empty());
        let far = format!("// SAFETY: c.\n{}unsafe {{ b() }}", "\n".repeat(SAFETY_LINES + 1));
        assert_eq!(unsafe_has_a_reason(&source("a.rs", &far)).len(), 1);
    }

    #[test]
    fn style_11_unsafe_in_its_place() {
        assert!(unsafe_in_its_place(&source("drivers/bus/src/dma.rs", "unsafe {}")).is_empty());
        assert_eq!(unsafe_in_its_place(&source("kernel/base/src/id.rs", "unsafe {}")).len(), 1);
        assert!(unsafe_in_its_place(&source("kernel/base/src/id.rs", "// unsafe\n#![forbid(unsafe_code)]")).is_empty());
    }

    #[test]
    fn style_11_forbids_unsafe() {
        assert_eq!(forbids_unsafe(&source("kernel/base/src/lib.rs", "//! A.")).len(), 1);
        assert!(forbids_unsafe(&source("kernel/base/src/lib.rs", "#![forbid(unsafe_code)]")).is_empty());
        assert!(forbids_unsafe(&source("drivers/bus/src/lib.rs", "//! A.")).is_empty());
        assert!(forbids_unsafe(&source("boot/node-image/src/main.rs", "//! A.")).is_empty());
        assert_eq!(forbids_unsafe(&source("drivers/serial/src/lib.rs", "//! A.")).len(), 1);
    }

    #[test]
    fn style_15_nothing_left_over() {
        for text in ["todo!()", "unimplemented!()", "dbg!(a)", "#[ignore]", "#[ignore = \"slow\"]"] {
            assert_eq!(nothing_left_over(&source("a.rs", text)).len(), 1, "{text}");
        }
        assert!(nothing_left_over(&source("a.rs", "// todo!()\nfn ignore() {}")).is_empty());
    }

    #[test]
    fn style_9_no_unwrap() {
        assert_eq!(no_unwrap(&source("kernel/a.rs", "a.unwrap(); b.expect(\"c\");")).len(), 2);
        assert!(no_unwrap(&source("qemu/a.rs", "a.unwrap();")).is_empty());
        assert!(no_unwrap(&source("kernel/a.rs", "#[cfg(test)]\nmod t { fn a() { b.unwrap(); } }")).is_empty());
        assert!(no_unwrap(&source("kernel/a.rs", "a.unwrap_or(b); net.expect(node, incarnation);")).is_empty());
    }
}
