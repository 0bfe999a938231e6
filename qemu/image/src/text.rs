//! A dump as text for people.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use crate::check::Finding;
use crate::dump::{Dump, NodeDump};

/// The whole dump as lines.
pub fn render_text(dump: &Dump) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_dump(&mut out, dump);
    out
}

/// Findings as lines, one blank line between two; `sound` if there are none.
pub fn render_findings(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "the membership database is sound\n".to_owned();
    }
    let lines: Vec<String> = findings.iter().map(|f| format!("{f}\n")).collect();
    lines.join("\n")
}

fn write_dump(out: &mut String, d: &Dump) -> fmt::Result {
    writeln!(out, "cluster {} ({}), generation {}, format version {}", d.name, d.cluster, d.generation, d.version)?;
    writeln!(out, "cluster key: epoch {}, fingerprint {}", d.key_epoch, d.key_fingerprint)?;
    writeln!(
        out,
        "disk    {} bytes, blocks of {}, database at byte {}, {} bytes",
        d.disk.bytes, d.disk.block_size, d.disk.first_byte, d.disk.database_bytes
    )?;
    let timing: Vec<String> = d.timing.entries().iter().map(|(name, ms)| format!("{name} {ms}")).collect();
    writeln!(out, "timing  {} (ms)", timing.join(", "))?;
    if let Err(e) = d.timing.check() {
        writeln!(out, "        NOT SAFE: {e}")?;
    }
    writeln!(out, "{}", d.fence_line())?;
    match &d.active {
        None => writeln!(out, "active  nobody yet: no view was ever committed")?,
        Some(a) => {
            writeln!(out, "active  view {} of ballot {}: {}", a.view, a.ballot, members(&a.states, &a.incs))?;
            writeln!(out, "        {}", a.how)?;
        }
    }
    if let Some(why) = &d.damaged {
        writeln!(out, "DAMAGED {why}")?;
        writeln!(out, "        run `cargo cluster db check IMAGE --repair`")?;
    }
    for node in &d.nodes {
        writeln!(out)?;
        write_node(out, node)?;
    }
    Ok(())
}

fn write_node(out: &mut String, n: &NodeDump) -> fmt::Result {
    let name = n.name.as_deref().unwrap_or("?");
    let enabled = match n.enabled {
        Some(true) => "enabled",
        Some(false) => "DISABLED",
        None => "configuration unknown",
    };
    write!(out, "node {:<2} {name}, {enabled}", n.node)?;
    if let (Some(boot), Some(shutdown), Some(panic), Some(weight)) = (n.boot, n.on_shutdown, n.on_panic, n.weight) {
        write!(out, ", boots {boot}, on shutdown {shutdown}, on panic {panic}, weight {weight}")?;
    }
    writeln!(out)?;
    if n.uuid.is_some() || n.mac.is_some() {
        let or_none = |id: &Option<String>| id.clone().unwrap_or_else(|| "-".to_owned());
        writeln!(out, "  machine   uuid {}, nic {}", or_none(&n.uuid), or_none(&n.mac))?;
    }
    match (n.incarnation, &n.nonce) {
        (Some(0), _) => writeln!(out, "  identity  never booted")?,
        (Some(incarnation), Some(nonce)) => writeln!(out, "  identity  incarnation {incarnation}, nonce {nonce}")?,
        _ => writeln!(out, "  identity  unknown")?,
    }
    if let Some(h) = &n.heartbeat {
        let marks: Vec<&str> = [(h.frozen, "frozen"), (h.clean, "clean"), (!h.carrier, "no carrier")]
            .into_iter()
            .filter_map(|(is, word)| is.then_some(word))
            .collect();
        let marks = if marks.is_empty() { String::new() } else { format!(", {}", marks.join(", ")) };
        writeln!(
            out,
            "  heartbeat incarnation {}, counter {}, {}, lock flag {}{marks}, hears {:?}, knows view {} of ballot {}",
            h.incarnation, h.counter, h.state, h.flag, h.hears, h.committed.view, h.committed.ballot
        )?;
    }
    if let Some(b) = &n.ballot {
        writeln!(
            out,
            "  ballot    promised {}, accepted {}, view {}: {} (slot {}, sequence {})",
            b.promised,
            b.accepted,
            b.view,
            members(&b.states, &b.incs),
            b.slot,
            b.sequence
        )?;
    }
    for error in &n.errors {
        writeln!(out, "  DAMAGED   {error}")?;
    }
    Ok(())
}

/// `0 joined (3), 1 inactive (1)`; nodes that never were in are left out.
fn members(states: &BTreeMap<u8, &'static str>, incs: &BTreeMap<u8, u32>) -> String {
    let of = |n: &u8| incs.get(n).copied().unwrap_or(0);
    let known: Vec<String> =
        states.iter().filter(|(n, _)| of(n) > 0).map(|(n, state)| format!("{n} {state} ({})", of(n))).collect();
    if known.is_empty() { "nobody".to_owned() } else { known.join(", ") }
}
