//! Whether the disk agrees with the trace after a run: the active membership on the disk is the last view that was
//! adopted, or one more that its master was killed over before it could trace it.
//!
//! What that one more may be is judged by the checker's own rule for two views in a row, and by what the trace shows: a
//! life that joins has booted, and the ballot belongs to a node that ran and is not older than the last one.

use std::collections::{BTreeMap, BTreeSet};

use quorate_check::{Members, NodeState, wrong_successor};
use quorate_image::dump::ActiveDump;
use quorate_scenario::belief::SeenView;
use quorate_trace::Line;

/// A ballot is a round and the node whose it is: 64 × round + node.
const NODES_PER_ROUND: u64 = 64;

/// What the trace says.
#[derive(Default)]
struct Traced {
    last: Option<SeenView>,
    /// The highest incarnation of each node that was a member.
    inc_max: BTreeMap<u8, u32>,
    booted: BTreeSet<(u8, u32)>,
}

impl Traced {
    fn of<'a>(lines: impl IntoIterator<Item = &'a Line>) -> Self {
        let mut traced = Self::default();
        for line in lines {
            traced.booted.extend(line.node.zip(line.inc));
            let Some(view) = (line.ev == "view").then(|| SeenView::of(line)).flatten() else { continue };
            for (node, (state, inc)) in members_of(&view) {
                if state != NodeState::Inactive {
                    let max = traced.inc_max.entry(node).or_default();
                    *max = inc.max(*max);
                }
            }
            if traced.last.as_ref().is_none_or(|last| (last.number, last.ballot) < (view.number, view.ballot)) {
                traced.last = Some(view);
            }
        }
        traced
    }

    /// What is wrong with a view that follows the last one of the trace, if anything.
    fn wrong_next(&self, disk: &ActiveDump, on_disk: &Members) -> Option<String> {
        let nobody = on_disk.keys().map(|node| (*node, (NodeState::Inactive, 0))).collect();
        let (before, ballot) = self.last.as_ref().map_or((nobody, 0), |last| (members_of(last), last.ballot));
        if let Some(why) = wrong_successor(&before, on_disk, &self.inc_max) {
            return Some(why);
        }
        let joins = |(node, (state, inc)): (&u8, &(NodeState, u32))| {
            *state == NodeState::Joining && !self.booted.contains(&(*node, *inc))
        };
        if let Some((node, (_, inc))) = on_disk.iter().find(|entry| joins(*entry)) {
            return Some(format!("incarnation {inc} of node {node} joins and has not booted"));
        }
        let writer = disk.ballot % NODES_PER_ROUND;
        if disk.ballot < ballot || !self.booted.iter().any(|(node, _)| u64::from(*node) == writer) {
            return Some(format!("ballot {} after {ballot}, and node {writer} as its master", disk.ballot));
        }
        None
    }
}

/// How the disk differs from the trace; `None` if it does not.
pub fn difference<'a>(active: Option<&ActiveDump>, lines: impl IntoIterator<Item = &'a Line>) -> Option<String> {
    let traced = Traced::of(lines);
    let number = traced.last.as_ref().map(|last| last.number);
    let Some(active) = active else {
        return number.filter(|n| *n > 0).map(|n| format!("the trace has view {n}, the disk has none"));
    };
    let on_disk = match members_on(active) {
        Ok(members) => members,
        Err(what) => return Some(what),
    };
    if active.view == number.unwrap_or(0) + 1 {
        let why = traced.wrong_next(active, &on_disk)?;
        return Some(format!("the disk has view {}, which the trace does not lead to: {why}", active.view));
    }
    let Some(seen) = &traced.last else {
        return Some(format!("the disk has view {}, the trace has none", active.view)).filter(|_| active.view > 0);
    };
    if active.view != seen.number {
        return Some(format!("the disk has view {}, the trace ends with view {}", active.view, seen.number));
    }
    let in_trace = members_of(seen);
    (on_disk != in_trace).then(|| format!("view {}: the disk has {on_disk:?}, the trace has {in_trace:?}", seen.number))
}

fn members_of(view: &SeenView) -> Members {
    let of = |(node, (state, inc)): (&u8, &(quorate_base::NodeState, u32))| {
        Some((*node, (NodeState::from_name(state.name())?, *inc)))
    };
    view.nodes.iter().filter_map(of).collect()
}

fn members_on(active: &ActiveDump) -> Result<Members, String> {
    let of = |(node, name): (&u8, &&'static str)| {
        let state = NodeState::from_name(name).ok_or_else(|| format!("the disk has node {node} as \"{name}\""))?;
        let inc = active.incs.get(node).copied().ok_or_else(|| format!("the disk has node {node} without a life"))?;
        Ok((*node, (state, inc)))
    };
    active.states.iter().map(of).collect()
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

    fn of(active: Option<ActiveDump>, lines: &[u64]) -> Option<String> {
        difference(active.as_ref(), &views(lines))
    }

    #[test]
    fn the_disk_has_the_last_view_of_the_trace() {
        assert_eq!(of(Some(disk(3, "joined", 1)), &[2, 3]), None);
        assert_eq!(of(None, &[]), None);
        assert!(of(Some(disk(2, "joined", 1)), &[2, 3]).unwrap().contains("the disk has view 2"));
        assert!(of(Some(disk(5, "joined", 1)), &[2, 3]).unwrap().contains("the disk has view 5"));
        assert!(of(Some(disk(3, "inactive", 1)), &[3]).unwrap().contains("view 3: the disk has"));
        assert!(of(Some(disk(3, "joined", 2)), &[3]).unwrap().contains("view 3: the disk has"));
        assert!(of(Some(disk(3, "happy", 1)), &[3]).unwrap().contains("\"happy\""));
        assert!(of(None, &[1]).unwrap().contains("the disk has none"));
        assert!(of(Some(disk(2, "joined", 1)), &[]).unwrap().contains("the trace has none"));
    }

    #[test]
    fn one_view_more_is_what_the_last_one_may_become() {
        for (state, inc, right) in [
            ("leaving", 1, true),
            ("forced-leaving", 1, true),
            ("joined", 1, false),
            ("joining", 1, false),
            ("inactive", 1, false),
            ("forced-leaving", 2, false),
        ] {
            let found = of(Some(disk(4, state, inc)), &[2, 3]);
            assert_eq!(found.is_none(), right, "{state} {inc}: {found:?}");
        }
        // By a ballot that is older, or a master that never ran.
        for ballot in [0, 65] {
            assert!(of(Some(ActiveDump { ballot, ..disk(4, "leaving", 1) }), &[3]).unwrap().contains("ballot"));
        }
    }

    #[test]
    fn the_first_view_that_nobody_lived_to_trace_is_a_join() {
        let boot = json!({"t_us": 1, "node": 0, "inc": 1, "nt_us": 1, "seq": 0, "lc": 1, "ev": "boot", "version": "",
            "cmdline": ""});
        let boot = [Line::parse(&boot.to_string()).unwrap()];
        assert_eq!(difference(Some(&disk(1, "joining", 1)), &boot), None);
        assert!(difference(Some(&disk(1, "joining", 2)), &boot).unwrap().contains("has not booted"));
        assert!(difference(Some(&disk(1, "joined", 1)), &boot).unwrap().contains("does not lead to"));
    }
}
