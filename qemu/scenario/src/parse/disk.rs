//! The keys of disk faults: what goes wrong, with which requests, at which regions.

use quorate_base::{NodeId, NodeSet};
use quorate_database::layout;

use super::table::{Table, unknown};
use crate::model::{DiskFault, Records};
use crate::source::Span;

/// First records of a region, for messages.
const REGIONS: [&str; 5] = ["superblock", "config.N", "identity.N", "heartbeat.N", "ballot.N"];

/// A disk fault by its verb.
pub(super) fn disk_fault(verb: &str, table: &Table<'_>, configured: NodeSet) -> Option<DiskFault> {
    match verb {
        "disk_cut" => match table.text("mode") {
            None => Some(DiskFault::Stall),
            Some(("stall", _)) => Some(DiskFault::Stall),
            Some(("gone", _)) => Some(DiskFault::Gone),
            Some((word, span)) => {
                unknown(table.findings, span, "mode", word, &["stall", "gone"]);
                None
            }
        },
        "disk_delay" => {
            let (ms, _) = table.number_required("ms", 0..=60_000, "by how much: ms = 50")?;
            u32::try_from(ms).ok().map(DiskFault::Delay)
        }
        "disk_error" => {
            let write = table.required("op", "which: op = \"read\" or \"write\"").and_then(|_| is_write(table, false));
            let count = count(table, Some(1));
            let at = region(table, "region", configured);
            Some(DiskFault::Error { write: write?, count: count?, at: at? })
        }
        "disk_tear" => {
            let bytes = table.number("bytes", 1..=511).and_then(|(n, _)| u32::try_from(n).ok());
            let whole = bytes.is_some() || !table.has("bytes");
            let at = region(table, "region", configured)?;
            whole.then_some(DiskFault::Tear { at, bytes })
        }
        "disk_misdirect" => {
            let write = is_write(table, false);
            let count = count(table, None);
            let at = region_required(table, "region", configured);
            let to = region_required(table, "to", configured);
            let (at, to) = (at?, to?);
            if at.count != to.count {
                let message = format!("`region` has {} records and `to` has {}", at.count, to.count);
                table.findings.add(table.key_span("to"), message, "as many are needed");
                return None;
            }
            if at.first == to.first {
                table.findings.add(table.key_span("to"), "`to` is the same place as `region`", "another place");
                return None;
            }
            Some(DiskFault::Misdirect { write: write?, at, to: to.first, count: count? })
        }
        "disk_stale" => Some(DiskFault::Stale { at: region_required(table, "region", configured)? }),
        "disk_lose" => {
            let count = count(table, Some(1));
            let at = region(table, "region", configured);
            Some(DiskFault::Lose { at: at?, count: count? })
        }
        "session_cut" => Some(DiskFault::Session),
        _ => Some(DiskFault::Swap),
    }
}

/// `op`: reads or writes.
fn is_write(table: &Table<'_>, usual: bool) -> Option<bool> {
    if !table.has("op") {
        // Asked for, so that it counts as known.
        let _ = table.value("op");
        return Some(usual);
    }
    match table.text("op")? {
        ("read", _) => Some(false),
        ("write", _) => Some(true),
        (word, span) => {
            unknown(table.findings, span, "op", word, &["read", "write"]);
            None
        }
    }
}

/// `count`: a number, or `"all"`.
fn count(table: &Table<'_>, usual: Option<u32>) -> Option<Option<u32>> {
    let Some(value) = table.value("count") else { return Some(usual) };
    match value.text() {
        Some("all") => Some(None),
        Some(word) => {
            unknown(table.findings, value.span(), "count", word, &["all"]);
            None
        }
        None => table.number("count", 1..=1_000_000).and_then(|(n, _)| u32::try_from(n).ok()).map(Some),
    }
}

fn region_required(table: &Table<'_>, key: &str, configured: NodeSet) -> Option<Records> {
    table.required(key, &format!("say which: {key} = \"heartbeat.1\""))?;
    region(table, key, configured)?
}

/// A region of the database; the outer `None` is an error.
fn region(table: &Table<'_>, key: &str, configured: NodeSet) -> Option<Option<Records>> {
    if !table.has(key) {
        let _ = table.value(key);
        return Some(None);
    }
    let (name, span) = table.text(key)?;
    match records(name, configured) {
        Ok(records) => Some(Some(records)),
        Err(why) => {
            wrong(table, span, name, why);
            None
        }
    }
}

fn wrong(table: &Table<'_>, span: Span, name: &str, why: &str) {
    let help = format!(
        "known here: {}; of `superblock`, `identity.N` and `ballot.N` one copy or slot: `.0` or `.1` at the end",
        REGIONS.join(", ")
    );
    table.findings.add_help(
        span,
        format!("`{name}` is no region of the membership database: {why}"),
        "not known here",
        help,
    );
}

/// `superblock`, `superblock.1`, `config.2`, `identity.0`, `identity.0.1`, `heartbeat.1`, `ballot.0`, `ballot.0.1`.
fn records(name: &str, configured: NodeSet) -> Result<Records, &'static str> {
    let mut words = name.split('.');
    let kind = words.next().unwrap_or("");
    let slot = |words: &mut dyn Iterator<Item = &str>| match words.next() {
        None => Ok(None),
        Some("0") => Ok(Some(0)),
        Some("1") => Ok(Some(1)),
        Some(_) => Err("a copy or slot is 0 or 1"),
    };
    let node = |words: &mut dyn Iterator<Item = &str>| {
        let word = words.next().ok_or("whose? a node number belongs behind the dot")?;
        let node = word.parse().ok().and_then(NodeId::new).filter(|n| configured.contains(*n));
        node.ok_or("that node is not configured")
    };
    let slots = |of: &dyn Fn(u8) -> u64, slot: Option<u8>| match slot {
        Some(slot) => Records { first: of(slot), count: 1 },
        None => Records { first: of(0), count: 2 },
    };
    let records = match kind {
        "superblock" => slots(&layout::superblock, slot(&mut words)?),
        "config" => Records { first: layout::config(node(&mut words)?), count: 1 },
        "heartbeat" => Records { first: layout::heartbeat(node(&mut words)?), count: 1 },
        "identity" => {
            let n = node(&mut words)?;
            slots(&|slot| layout::identity(n, slot), slot(&mut words)?)
        }
        "ballot" => {
            let n = node(&mut words)?;
            slots(&|slot| layout::ballot(n, slot), slot(&mut words)?)
        }
        _ => return Err("no such kind"),
    };
    if words.next().is_some() { Err("too many dots") } else { Ok(records) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_records() {
        let n = |id| NodeId::new(id).unwrap();
        let three = NodeSet::first(3);
        let at = |first, count| Ok(Records { first, count });
        assert_eq!(records("superblock", three), at(0, 2));
        assert_eq!(records("superblock.1", three), at(1, 1));
        assert_eq!(records("config.2", three), at(layout::config(n(2)), 1));
        assert_eq!(records("identity.1", three), at(layout::identity(n(1), 0), 2));
        assert_eq!(records("heartbeat.0", three), at(layout::heartbeat(n(0)), 1));
        assert_eq!(records("ballot.2.1", three), at(layout::ballot(n(2), 1), 1));
        for bad in ["", "ballot", "ballot.3", "ballot.x", "heartbeat.0.1", "ballot.0.2", "ballot.0.1.0", "spare"] {
            assert!(records(bad, three).is_err(), "{bad}");
        }
    }
}
