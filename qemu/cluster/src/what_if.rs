//! `cargo cluster sim FILE.toml --from IMAGE`: a scenario in the simulator with a real cluster's configuration (MISSION H9), before
//! it is done to that cluster.
//!
//! What the configuration decides comes from the image: how many nodes, which of them are disabled, their weights, the
//! time-outs, the fence. What the nodes have done does not: all are off, and the cluster has never been formed. Levels are the
//! file's; the image says how many there may be.

use std::path::Path;

use quorate_base::Timing;
use quorate_database::{Block, NodeConfig};
use quorate_image::Image;
use quorate_image::snapshot::Snapshot;
use quorate_scenario::Scenario;
use quorate_sim::Database;

use crate::end::End;

/// Reads a configuration, and makes each scenario one of that cluster. Of a file that is for several sizes, the right one is
/// left.
///
/// # Errors
/// If the image cannot be read, or a file contradicts it.
pub fn from_image(path: &Path, scenarios: &mut Vec<Scenario>) -> Result<Database, End> {
    let refused = |why: String| End::CannotRun(format!("--from {}: {why}; nothing was run", path.display()));
    let database = read(path).map_err(refused)?;
    let nodes = database.superblock.nodes;
    // Of each file the sizes that are not this cluster's; a file of one size must be of its.
    let sizes = scenarios.clone();
    let fits = |s: &Scenario| sizes.iter().any(|o| o.source.path == s.source.path && o.nodes == nodes);
    if let Some(other) = sizes.iter().find(|s| !fits(s)) {
        let file = other.source.path.display();
        return Err(refused(format!("{file} is for {} nodes, the image has {nodes}", other.nodes)));
    }
    scenarios.retain(|s| s.nodes == nodes);
    for scenario in scenarios {
        adopt(&database, scenario).map_err(|why| refused(format!("{} {why}", scenario.source.path.display())))?;
    }
    Ok(database)
}

fn read(path: &Path) -> Result<Database, String> {
    let image = Image::open(path, false).map_err(|e| e.to_string())?;
    let snapshot = Snapshot::read(&image).map_err(|e| e.to_string())?;
    snapshot.superblock.check_timing().map_err(|e| format!("its time-outs are not safe: {e}"))?;
    let config = |records: &quorate_image::snapshot::NodeRecords| match &records.config {
        Block::Good(config) => Ok(config.clone()),
        Block::Blank => Err(format!("node {} is not configured", records.node)),
        Block::Damaged(why) => Err(format!("the configuration of node {} is damaged: {why}", records.node)),
        Block::Unread | Block::Unreadable(_) => {
            Err(format!("the configuration of node {} is unreadable", records.node))
        }
    };
    let nodes = snapshot.nodes.iter().map(config).collect::<Result<Vec<NodeConfig>, String>>()?;
    Ok(Database { superblock: snapshot.superblock, nodes })
}

/// Makes a scenario one of that cluster.
fn adopt(database: &Database, scenario: &mut Scenario) -> Result<(), String> {
    let superblock = &database.superblock;
    if scenario.timing_said && scenario.timing != superblock.timing {
        return Err(format!(
            "says other time-outs than the image: {}",
            differences(scenario.timing, superblock.timing)
        ));
    }
    if scenario.fence_said && scenario.fence != superblock.fence {
        let (file, image) = (scenario.fence.name(), superblock.fence.name());
        return Err(format!("says fence = \"{file}\", the image says {image}"));
    }
    for node in quorate_base::NodeId::first(superblock.nodes) {
        // The membership level is one of them.
        let levels = 1 + scenario.levels.iter().filter(|l| l.is_on(node)).count();
        if levels > usize::from(superblock.levels_max) {
            let max = superblock.levels_max;
            return Err(format!("has {levels} levels on node {node}, the image allows {max}"));
        }
    }
    (scenario.timing, scenario.fence) = (superblock.timing, superblock.fence);
    Ok(())
}

fn differences(file: Timing, image: Timing) -> String {
    let both = file.entries().into_iter().zip(image.entries());
    let other = both.filter(|((_, a), (_, b))| a != b);
    other.map(|((name, a), (_, b))| format!("{name} is {a} ms, not {b}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_base::{FenceMethod, NodeId};
    use quorate_image::{CreateOptions, create, edit_node};
    use quorate_sim::run_scenario_from;
    use std::path::PathBuf;

    const START: &str = "[[step]]\ndo = \"start\"\nnode = \"all\"\n";
    const JOINED: &str = "[[step]]\nwait = \"state\"\nsubject = [0, 1, 2, 3]\nis = \"joined\"\nwithin_ms = 20000\n";

    struct Desk(tempfile::TempDir);

    impl Desk {
        fn new(timing: Timing) -> Self {
            let desk = Self(tempfile::tempdir().unwrap());
            let options = CreateOptions { nodes: 5, timing, seed: Some(1), ..CreateOptions::default() };
            create(&desk.image(), &options).unwrap();
            let disable = |config: &mut NodeConfig| (config.enabled, config.weight) = (false, 7);
            edit_node(&desk.image(), NodeId::new(4).unwrap(), disable).unwrap();
            desk
        }

        fn image(&self) -> PathBuf {
            self.0.path().join("cluster.img")
        }

        fn scenarios(&self, text: &str) -> Vec<Scenario> {
            let path = self.0.path().join("what.toml");
            std::fs::write(&path, text).unwrap();
            Scenario::read(&path).unwrap_or_else(|problems| panic!("{}", problems.render(false)))
        }

        fn refused(&self, text: &str) -> String {
            match from_image(&self.image(), &mut self.scenarios(text)) {
                Err(End::CannotRun(why)) => why,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn mission_h9_a_scenario_runs_with_the_images_nodes_and_time_outs() {
        let desk = Desk::new(Timing::FAST);
        let disabled = "[[step]]\nwait = \"panicked\"\nnode = 4\nreason = \"disabled\"\nwithin_ms = 9000\n";
        let mut scenarios = desk.scenarios(&format!("nodes = [5, 6]\n{START}{disabled}{JOINED}"));
        let database = from_image(&desk.image(), &mut scenarios).unwrap();
        assert_eq!(scenarios.len(), 1, "the size that is the image's");
        assert_eq!((scenarios[0].nodes, scenarios[0].timing), (5, Timing::FAST));
        assert_eq!(database.nodes.iter().map(|n| (n.enabled, n.weight)).next_back(), Some((false, 7)));
        let (outcome, _) = run_scenario_from(&scenarios[0], 1, Some(&database));
        assert!(outcome.ok(), "{:?}", outcome.failure);
        // Without the image the node is not disabled, and the same file fails.
        let (outcome, _) = run_scenario_from(&scenarios[0], 1, None);
        assert!(!outcome.ok());
    }

    #[test]
    fn a_file_that_contradicts_the_image_is_refused_by_name() {
        let desk = Desk::new(Timing::DEFAULT);
        let fast = format!("nodes = 5\ntiming = {{ profile = \"fast\" }}\n{START}");
        for (text, why) in [
            (format!("nodes = 3\n{START}"), "what.toml is for 3 nodes, the image has 5; nothing was run".to_owned()),
            (
                fast,
                format!(
                    "what.toml says other time-outs than the image: {}",
                    differences(Timing::FAST, Timing::DEFAULT)
                ),
            ),
            (
                format!("nodes = 5\nfence = \"reservation\"\n{START}"),
                "says fence = \"reservation\", the image says lease".to_owned(),
            ),
        ] {
            let refused = desk.refused(&text);
            assert!(refused.contains(&why), "{refused}");
        }
        assert!(differences(Timing::FAST, Timing::DEFAULT).contains(" ms, not "));
        // What the file does not say is the image's to say.
        let mut scenarios = desk.scenarios(&format!("nodes = 5\n{START}"));
        let database = from_image(&desk.image(), &mut scenarios).unwrap();
        assert_eq!((database.superblock.fence, scenarios[0].fence), (FenceMethod::Lease, FenceMethod::Lease));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let desk = Desk::new(Timing::DEFAULT);
        std::fs::write(desk.image(), vec![0; 4 << 20]).unwrap();
        assert!(desk.refused(&format!("nodes = 5\n{START}")).starts_with("--from "));
        std::fs::remove_file(desk.image()).unwrap();
        assert!(desk.refused(&format!("nodes = 5\n{START}")).contains("cluster.img"));
    }
}
