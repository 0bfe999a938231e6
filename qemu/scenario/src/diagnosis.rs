//! What the person at 3 a.m. needs: of each node, what it believes, what it last did, and what it says itself.

use quorate_base::{NodeId, NodeSet};

use crate::backend::Backend;
use crate::belief::Beliefs;
use crate::judge::show;
use crate::nodes::Cast;

/// Lines about the nodes; with a world, their own answer to `status` too.
pub fn diagnose(nodes: NodeSet, beliefs: &Beliefs, cast: &Cast, world: Option<&mut dyn Backend>) -> Vec<String> {
    let mut world = world;
    let mut lines = Vec::new();
    for node in nodes {
        lines.push(describe(node, beliefs, cast));
        lines.extend(beliefs.life(node).recent.iter().map(|l| format!("      {}", show(l))));
        if let Some(world) = world.as_deref_mut()
            && cast.live.contains(node)
        {
            lines.push(match world.command(node, "status") {
                Ok(text) => format!("    its own status:\n{}", indent(&text)),
                Err(why) => format!("    its console says nothing: {why}"),
            });
        }
    }
    lines
}

fn describe(node: NodeId, beliefs: &Beliefs, cast: &Cast) -> String {
    let life = beliefs.life(node);
    let inc = life.inc.map_or_else(|| "unknown".to_owned(), |i| i.to_string());
    let machine = match &life.end {
        Some(end) if end.panic => format!("panicked: {}", end.reason),
        Some(end) => format!("halted: {}", end.reason),
        None if !cast.started.contains(node) => "does not run".to_owned(),
        None if !cast.live.contains(node) => "stopped from outside".to_owned(),
        None => "runs".to_owned(),
    };
    let view = match &life.view {
        Some(v) => {
            let states: Vec<String> = v.nodes.iter().map(|(n, (s, i))| format!("{n} {s} (inc {i})")).collect();
            format!("view {} of ballot {}: {}", v.number, v.ballot, states.join(", "))
        }
        None => "no view yet".to_owned(),
    };
    format!("  node {node}, incarnation {inc}, {machine}; {view}; its last events:")
}

fn indent(text: &str) -> String {
    text.trim_end().lines().map(|l| format!("      {}", l.trim_end())).collect::<Vec<_>>().join("\n")
}
