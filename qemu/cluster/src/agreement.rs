//! Whether the disk agrees with the trace after a run: the active membership on the disk is the last view that was
//! adopted.

use std::collections::BTreeMap;

use quorate_image::dump::ActiveDump;
use quorate_scenario::belief::SeenView;
use quorate_trace::Line;

/// How the disk differs from the trace; `None` if it does not.
///
/// A view may be committed by a node that is killed before it can trace it, so the disk may be one view ahead.
pub fn difference<'a>(active: Option<&ActiveDump>, lines: impl IntoIterator<Item = &'a Line>) -> Option<String> {
    let views = lines.into_iter().filter(|l| l.ev == "view").filter_map(SeenView::of);
    let last = views.max_by_key(|v| (v.number, v.ballot));
    let (Some(active), Some(seen)) = (active, &last) else {
        return match (active, last) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn disk(view: u64, state: &'static str, inc: u32) -> ActiveDump {
        ActiveDump { ballot: 64, view, states: [(0, state)].into(), incs: [(0, inc)].into(), how: String::new() }
    }

    fn views(numbers: &[u64]) -> Vec<Line> {
        let line = |n: &u64| {
            let json = json!({"t_us": 1, "node": 0, "inc": 1, "nt_us": 1, "seq": 0, "lc": 1, "ev": "view", "ballot": 64,
                "view": n, "states": {"0": "joined"}, "incs": {"0": 1}});
            Line::parse(&json.to_string()).unwrap()
        };
        numbers.iter().map(line).collect()
    }

    #[test]
    fn the_disk_has_the_last_view_of_the_trace_or_one_more() {
        let of = |active: Option<ActiveDump>, lines: &[u64]| difference(active.as_ref(), &views(lines));
        assert_eq!(of(Some(disk(3, "joined", 1)), &[2, 3]), None);
        assert_eq!(of(Some(disk(4, "inactive", 1)), &[2, 3]), None);
        assert_eq!(of(None, &[]), None);
        assert!(of(Some(disk(2, "joined", 1)), &[2, 3]).unwrap().contains("the disk has view 2"));
        assert!(of(Some(disk(5, "joined", 1)), &[2, 3]).unwrap().contains("the disk has view 5"));
        assert!(of(Some(disk(3, "inactive", 1)), &[3]).unwrap().contains("view 3: the disk has"));
        assert!(of(Some(disk(3, "joined", 2)), &[3]).unwrap().contains("view 3: the disk has"));
        assert!(of(None, &[1]).unwrap().contains("the disk has none"));
        assert!(of(Some(disk(2, "joined", 1)), &[]).unwrap().contains("the trace has none"));
    }
}
