//! What a node says of itself at its console (`status`), as far as the live view shows it.

use std::collections::BTreeMap;

/// What a node knows of another's heartbeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Since the last verified frame, ms.
    pub net_ms: Option<u64>,
    /// For so long the counter on the disk stands still, ms; over completed reads.
    pub disk_ms: Option<u64>,
}

/// What a node says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// It is not there yet: what it waits for.
    pub born: Option<String>,
    /// What is left of its lease, ms.
    pub lease_ms: Option<u64>,
    /// Why it was not let in.
    pub refused: Option<String>,
    /// What it waits for, each without the word itself.
    pub waits: Vec<String>,
    /// By peer.
    pub peers: BTreeMap<u8, Heard>,
    /// Reads and writes of its disk.
    pub disk: Option<(u64, u64)>,
}

impl Said {
    /// Reads the answer to `status`. What is not understood is left out: an unknown word is no error.
    pub fn parse(text: &str) -> Self {
        let mut said = Self::default();
        for line in text.lines().map(str::trim) {
            if let Some(waits) = line.strip_prefix("being born: ") {
                said.born = Some(waits.to_owned());
            } else if let Some(what) = line.strip_prefix("waits: ") {
                said.waits.push(what.to_owned());
            } else if let Some(why) = line.strip_prefix("join refused: ") {
                said.refused = Some(why.to_owned());
            } else if let Some(ms) = line.strip_prefix("lease ").and_then(|l| l.strip_suffix(" ms")) {
                said.lease_ms = ms.parse().ok();
            } else if line.starts_with("frames sent ") {
                said.disk = number_after(line, "disk reads ").zip(number_after(line, " writes "));
            } else if let Some((node, rest)) = line.strip_prefix("node ").and_then(|l| l.split_once(' '))
                && let (Ok(node), true) = (node.parse(), rest.contains(" incarnation "))
                && rest.contains(", ")
            {
                let (net_ms, disk_ms) = (number_after(rest, ", heard "), number_after(rest, "still for "));
                said.peers.insert(node, Heard { net_ms, disk_ms });
            }
        }
        said
    }
}

/// The number that stands right after `words`.
fn number_after(line: &str, words: &str) -> Option<u64> {
    let rest = line.split_once(words)?.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_base::{NodeId, NodeSet};
    use quorate_scenario::Scenario;
    use quorate_scenario::backend::Backend;
    use quorate_scenario::belief::Beliefs;
    use quorate_scenario::model::StartOptions;
    use quorate_sim::ScenarioWorld;

    /// The node's own code answers, in the simulator: if its words change, this fails.
    #[test]
    fn a_real_node_is_understood() {
        let path = quorate_launch::workspace_root().join("qemu/scenarios/kill-the-master.toml");
        let scenario = Scenario::read(&path).expect("a scenario").remove(0);
        let mut world = ScenarioWorld::new(&scenario, 1);
        let nodes = NodeSet::first(scenario.nodes);
        let mut beliefs = Beliefs::default();
        let mut seen = 0;
        nodes.iter().for_each(|n| world.start(n, &StartOptions::default()).expect("started"));
        let zero = NodeId::new(0).expect("small");
        assert!(Said::parse(&world.command(zero, "status").expect("an answer")).born.is_some());
        while beliefs.joined(nodes) != nodes {
            assert!(world.now_us() < 60_000_000, "they are not joined");
            world.wait(seen, world.now_us() + 100_000).expect("goes on");
            for line in world.lines(seen) {
                seen += 1;
                beliefs.take(&line);
            }
        }
        let until_us = world.now_us() + 2_000_000;
        while world.now_us() < until_us {
            world.wait(usize::MAX, until_us).expect("goes on");
        }
        let text = world.command(zero, "status").expect("an answer");
        let said = Said::parse(&text);
        assert!(said.lease_ms.is_some_and(|ms| ms > 0), "{text}");
        assert_eq!((said.born, said.refused), (None, None), "{text}");
        assert!(said.disk.is_some_and(|(reads, writes)| reads > 10 && writes > 10), "{text}");
        assert_eq!(said.peers.len(), nodes.len() - 1, "{text}");
        for heard in said.peers.values() {
            assert!(heard.net_ms.is_some_and(|ms| ms < 1000) && heard.disk_ms.is_some_and(|ms| ms < 2000), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_there() {
        let said = Said::parse("being born: the superblock\nok");
        assert_eq!(said, Said { born: Some("the superblock".into()), ..Said::default() });
        assert_eq!(Said::parse("halted: left\n"), Said::default());
        let said =
            Said::parse("node 1 inactive incarnation 0, never heard, disk: never wrote\r\nnode 2 joined incarnation 1");
        assert_eq!(said.peers.get(&1), Some(&Heard::default()));
        assert_eq!(said.peers.get(&2), None, "that is itself");
    }
}
