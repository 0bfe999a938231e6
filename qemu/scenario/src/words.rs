//! The kernel command line of a node: what the harness tells it beside what stands on the disk.

use quorate_base::NodeId;

use crate::model::{Level, Scenario, StartOptions};

/// Longest command line that a node image takes, bytes.
pub const CMDLINE_BYTES_MAX: usize = 1024;

/// Console words that end a node's kernel. A node image obeys them only if its command line says so.
pub const TEST_COMMANDS: [&str; 3] = ["hang", "panic", "fault"];

/// The word, if it is one that ends a node's kernel.
pub fn ends_the_kernel(text: &str) -> Option<&'static str> {
    TEST_COMMANDS.into_iter().find(|word| *word == text)
}

/// The words for `node`: who it is, its test levels, whether it traces writes.
///
/// Which cluster it is of ([`StartOptions::cluster`]) is added by whoever knows the cluster's id.
pub fn words(levels: &[Level], node: NodeId, options: &StartOptions, trace_writes: bool) -> Vec<String> {
    let mut words = Vec::new();
    if options.identity {
        words.push(format!("node={}", options.as_node.unwrap_or(node)));
    }
    words.extend(levels.iter().filter(|l| l.is_on(node)).map(|l| level_word(l, node)));
    if trace_writes {
        words.push("trace_writes=1".to_owned());
    }
    words
}

/// `level=ORDER:NAME:JOINING:LEAVING:FORCED:WORK_MS:HANG:EVERYWHERE`, the last two 0 or 1, and `:DEADLINE_MS` if it has one.
fn level_word(level: &Level, node: NodeId) -> String {
    let b = level.barriers;
    let mut word = format!(
        "level={}:{}:{}:{}:{}:{}:{}:{}",
        level.order,
        level.name,
        b.joining,
        b.leaving,
        b.forced_leaving,
        level.work_ms,
        u8::from(level.hang.contains(node)),
        u8::from(level.everywhere),
    );
    if level.deadline_ms != 0 {
        word.push_str(&format!(":{}", level.deadline_ms));
    }
    word
}

impl Scenario {
    /// The words for one of its nodes.
    pub fn words(&self, node: NodeId, options: &StartOptions, trace_writes: bool) -> Vec<String> {
        let mut words = words(&self.levels, node, options, trace_writes);
        if self.groups {
            words.push("groups=1".to_owned());
        }
        words
    }

    /// The first node whose command line would be too long, and how long it would be.
    pub fn too_many_words(&self) -> Option<(NodeId, usize)> {
        NodeId::first(self.nodes)
            .map(|n| (n, self.words(n, &StartOptions::default(), true).join(" ").len()))
            .find(|(_, bytes)| *bytes > CMDLINE_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_base::{Barriers, NodeSet};

    #[test]
    fn a_node_gets_its_levels_and_its_identity() {
        let n = |id| NodeId::new(id).unwrap();
        let level = |order, only_on: Option<NodeSet>| Level {
            order,
            name: "probe".into(),
            barriers: Barriers { joining: 2, leaving: 1, forced_leaving: 3 },
            work_ms: 20,
            hang: NodeSet::only(n(2)),
            everywhere: only_on.is_none(),
            only_on,
            deadline_ms: 0,
        };
        let levels = [level(60, None), level(70, Some(NodeSet::only(n(1))))];
        let usual = StartOptions::default();
        assert_eq!(words(&levels, n(2), &usual, false), ["node=2", "level=60:probe:2:1:3:20:1:1"]);
        assert_eq!(
            words(&levels, n(1), &usual, true)[1..],
            ["level=60:probe:2:1:3:20:0:1", "level=70:probe:2:1:3:20:0:0", "trace_writes=1"]
        );
        let late = [Level { deadline_ms: 1500, everywhere: true, ..level(70, Some(NodeSet::only(n(1)))) }];
        assert_eq!(words(&late, n(1), &usual, false)[1..], ["level=70:probe:2:1:3:20:0:1:1500"]);
        let other = StartOptions { as_node: Some(n(1)), ..usual };
        assert_eq!(words(&[], n(0), &other, false), ["node=1"]);
        let nameless = StartOptions { identity: false, ..usual };
        assert!(words(&[], n(0), &nameless, false).is_empty());
    }
}
