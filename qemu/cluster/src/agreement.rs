//! Whether the disk agrees with the trace after a run: the active membership on the disk is the last view that was
//! adopted.

use std::collections::BTreeMap;

use quorate_image::Dump;
use quorate_scenario::belief::SeenView;
use quorate_trace::Line;

/// How the disk differs from the trace; `None` if it does not.
///
/// A view may be committed by a node that is killed before it can trace it, so the disk may be one view ahead.
pub fn difference<'a>(dump: &Dump, lines: impl IntoIterator<Item = &'a Line>) -> Option<String> {
    let views = lines.into_iter().filter(|l| l.ev == "view").filter_map(SeenView::of);
    let last = views.max_by_key(|v| (v.number, v.ballot));
    let (Some(active), Some(seen)) = (&dump.active, &last) else {
        return match (&dump.active, last) {
            (None, Some(v)) => Some(format!("the trace has view {}, the disk has none", v.number)),
            // A view that nobody lived to trace.
            (Some(a), None) if a.view > 1 => Some(format!("the disk has view {}, the trace has none", a.view)),
            _ => None,
        };
    };
    if active.view == seen.number + 1 {
        return None;
    }
    if active.view != seen.number {
        return Some(format!("the disk has view {}, the trace ends with view {}", active.view, seen.number));
    }
    let on_disk: BTreeMap<u8, (String, u32)> = active
        .states
        .iter()
        .map(|(n, state)| (*n, ((*state).to_owned(), active.incs.get(n).copied().unwrap_or(0))))
        .collect();
    let traced: BTreeMap<u8, (String, u32)> =
        seen.nodes.iter().map(|(n, (state, inc))| (*n, (state.name().to_owned(), *inc))).collect();
    if on_disk == traced {
        return None;
    }
    Some(format!("view {}: the disk has {on_disk:?}, the trace has {traced:?}", seen.number))
}
