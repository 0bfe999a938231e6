//! The keys of a `chaos` step.

use super::table::{Table, unknown};
use crate::chaos::{Chaos, Kind};

/// The longest, ms: a week.
const FOR_MAX_MS: i64 = 7 * 24 * 3_600_000;

/// How often a kind may be drawn, against the others.
const WEIGHT_MAX: i64 = 1000;

/// A `chaos` step.
pub(super) fn chaos(table: &Table<'_>) -> Option<Chaos> {
    let for_ms = table.number_required("for_ms", 1..=FOR_MAX_MS, "for how long: for_ms = 60000");
    let seed = table.number("seed", 0..=i64::MAX).map(|(n, _)| n.unsigned_abs());
    let ms = |key: &str, usual: u64, most: i64| {
        if table.has(key) {
            table.number(key, 1..=most).map(|(n, _)| n.unsigned_abs())
        } else {
            // Asked for, so that it counts as known.
            let _ = table.value(key);
            Some(usual)
        }
    };
    let every_ms = ms("every_ms", 2_000, 600_000);
    let settle_every_ms = ms("settle_every_ms", 30_000, FOR_MAX_MS);
    let settle_ms = ms("settle_ms", 60_000, 600_000);
    let kinds = kinds(table);
    Some(Chaos {
        for_ms: for_ms?.0.unsigned_abs(),
        seed,
        every_ms: every_ms?,
        settle_every_ms: settle_every_ms?,
        settle_ms: settle_ms?,
        kinds: kinds?,
    })
}

/// `kinds = { kill = 4, pause = 1 }`: these only; without it all.
fn kinds(table: &Table<'_>) -> Option<Vec<(Kind, u32)>> {
    let Some(value) = table.value("kinds") else {
        return Some(Kind::ALL.map(|(_, kind, weight)| (kind, weight)).to_vec());
    };
    let of = Table::from_value(value, "`kinds`", table.from())?;
    let words = Kind::ALL.map(|(word, _, _)| word);
    let mut kinds = Vec::new();
    let mut whole = true;
    for (key, span) in of.keys() {
        let Some((word, kind, _)) = Kind::ALL.into_iter().find(|(word, _, _)| *word == key) else {
            unknown(table.findings, span, "kind of fault", &key, &words);
            whole = false;
            continue;
        };
        match of.number(word, 0..=WEIGHT_MAX).and_then(|(n, _)| u32::try_from(n).ok()) {
            Some(0) => {}
            Some(weight) => kinds.push((kind, weight)),
            None => whole = false,
        }
    }
    if whole && kinds.is_empty() {
        table.findings.add(value.span(), "`kinds` has no kind of fault with a weight", "nothing can happen");
        whole = false;
    }
    kinds.sort_unstable();
    whole.then_some(kinds)
}
