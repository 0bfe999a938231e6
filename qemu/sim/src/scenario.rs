//! Scenario files on virtual time: the same engine and the same judge as on QEMU, with the simulator as the world.
//!
//! It can do everything that QEMU can: nothing is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_base::{Ballot, ClusterId, HaltReason, NodeId, NodeSet, View, ViewName};
use quorate_database::sealed::{VERSION_AT, reseal};
use quorate_database::{BallotBlock, Heartbeat, NodeConfig, Region, Superblock, layout};
use quorate_node::ProbeLevel;
use quorate_scenario::backend::{Backend, DiskView, Trouble};
use quorate_scenario::model::{Action, DiskFault, ImageEdit, Inject, MachineVerb, StartOptions};
use quorate_scenario::{Outcome, Scenario, run};
use quorate_switch::Fault;
use quorate_trace::Line;
use serde_json::Value;

use crate::disk::PathFaults;
use crate::faults::{Faults, LastWrite};
use crate::world::{Broken, Setup, World};

/// First spare record that later layers use; the ones before are spare for good.
const DOMAIN_FIRST: u64 = 400;

/// A cluster on virtual time in which a scenario is played.
#[derive(Debug)]
pub struct ScenarioWorld {
    world: World,
    nodes: u8,
    cluster: ClusterId,
    /// There is no database on the disk to be found.
    erased: bool,
}

/// Plays a scenario in the simulator under a seed. Gives how it ended and the trace.
pub fn run_scenario(scenario: &Scenario, seed: u64) -> (Outcome, Vec<Arc<Line>>) {
    let mut world = ScenarioWorld::new(scenario, seed);
    let outcome = run(scenario, &mut world);
    (outcome, world.lines(0))
}

impl ScenarioWorld {
    /// For a scenario; the seed draws what the file leaves open.
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        let faults = Faults::default();
        let setup = Setup {
            timing: scenario.timing,
            levels: Vec::new(),
            keep_trace: true,
            faults,
            ..Setup::new(seed, scenario.nodes)
        };
        let mut world = World::new(&setup);
        world.quiet();
        for node in NodeId::first(scenario.nodes) {
            let words = scenario.words(node, &StartOptions::default(), false);
            let levels = words.iter().filter_map(|word| ProbeLevel::parse(word.strip_prefix("level=")?).ok());
            world.set_levels(node.index(), levels.collect());
        }
        let cluster = world.cluster();
        Self { world, nodes: scenario.nodes, cluster, erased: false }
    }

    fn each_link(&mut self, from: NodeSet, to: NodeSet, mut change: impl FnMut(&mut World, NodeId, NodeId)) {
        for a in from {
            for b in to.without(a) {
                change(&mut self.world, a, b);
            }
        }
    }

    fn put(&mut self, at: u64, change: impl FnOnce(&mut quorate_database::Raw)) {
        if let Some(mut raw) = self.world.disk.record(at).copied() {
            change(&mut raw);
            self.world.disk.put(at, raw);
        }
    }

    fn edit_config(&mut self, node: NodeId, change: impl FnOnce(&mut NodeConfig)) {
        let raw = self.world.disk.record(layout::config(node)).copied().unwrap_or([0; 512]);
        if let Some(mut config) = NodeConfig::decode(&raw, self.cluster, node).good().cloned() {
            change(&mut config);
            self.world.disk.put(layout::config(node), config.encode(self.cluster, node));
        }
    }

    fn edit_superblock(&mut self, change: impl Fn(&mut Superblock)) {
        for copy in [0, 1] {
            let raw = self.world.disk.record(layout::superblock(copy)).copied().unwrap_or([0; 512]);
            if let Some(mut superblock) = Superblock::decode(&raw, copy).good().cloned() {
                change(&mut superblock);
                self.world.disk.put(layout::superblock(copy), superblock.encode(copy));
            }
        }
    }

    fn set_foreign(&mut self) {
        self.edit_superblock(|s| s.cluster = ClusterId(*b"another cluster!"));
    }

    fn set_timing(&mut self, timing: quorate_base::Timing) {
        self.edit_superblock(|s| {
            s.generation = s.generation.saturating_add(1);
            s.timing = timing;
        });
    }
}

fn failed(broken: Box<Broken>) -> Trouble {
    Trouble::Failed(broken.to_string())
}

impl Backend for ScenarioWorld {
    fn refuses(&self, _: &Action) -> Option<String> {
        None
    }

    fn now_us(&self) -> u64 {
        self.world.now
    }

    fn lines(&self, from: usize) -> Vec<Arc<Line>> {
        self.world.kept().get(from..).unwrap_or_default().to_vec()
    }

    fn wait(&mut self, seen: usize, until_us: u64) -> Result<(), Trouble> {
        let running = self.world.running();
        while self.world.kept().len() <= seen && self.world.running() == running {
            if self.world.next_at() > until_us {
                return self.world.run_until(until_us).map_err(failed);
            }
            self.world.step().map_err(failed)?;
        }
        Ok(())
    }

    fn say(&mut self, ev: &str, fields: Value) {
        self.world.say(ev, fields);
    }

    fn runs(&self, node: NodeId) -> bool {
        self.world.running().contains(node)
    }

    fn start(&mut self, node: NodeId, options: &StartOptions) -> Result<(), Trouble> {
        let told = options.identity.then_some(options.as_node.unwrap_or(node));
        self.world.boot(node.index(), told, options.cluster);
        if !options.disk || self.erased {
            self.world.end(node.index(), HaltReason::NoDisk);
        }
        Ok(())
    }

    fn kill(&mut self, nodes: NodeSet) -> Result<(), Trouble> {
        nodes.iter().for_each(|n| self.world.kill(n.index(), LastWrite::Lands));
        Ok(())
    }

    fn machine(&mut self, verb: MachineVerb, node: NodeId) -> Result<(), Trouble> {
        let m = node.index();
        match verb {
            MachineVerb::Kill => self.world.kill(m, LastWrite::Lands),
            MachineVerb::Pause => self.world.pause(m),
            MachineVerb::Resume => self.world.resume(m),
            MachineVerb::Reset => {
                self.world.kill(m, LastWrite::Lands);
                self.world.start(m);
            }
            MachineVerb::Leave => self.world.leave(m),
            MachineVerb::Freeze => self.world.freeze(m),
            MachineVerb::Thaw => self.world.thaw(m),
        }
        Ok(())
    }

    fn command(&mut self, node: NodeId, text: &str) -> Result<String, Trouble> {
        let silent = || Trouble::Failed(format!("node {node} does not answer at its console"));
        // As the harness reads it from a serial port.
        self.world.command(node.index(), text).map(|reply| reply.trim_end().to_owned()).ok_or_else(silent)
    }

    fn link(&mut self, fault: Fault, from: NodeSet, to: NodeSet, oneway: bool) -> Result<(), Trouble> {
        self.each_link(from, to, |world, a, b| {
            world.network.set(a, b, fault);
            if !oneway {
                world.network.set(b, a, fault);
            }
        });
        Ok(())
    }

    fn heal(&mut self, between: Option<(NodeSet, NodeSet)>) -> Result<(), Trouble> {
        match between {
            None => self.world.network.heal(),
            Some((from, to)) => self.each_link(from, to, |world, a, b| world.network.heal_between(a, b)),
        }
        Ok(())
    }

    fn disk(&mut self, fault: Option<DiskFault>, node: NodeId) -> Result<(), Trouble> {
        let m = node.index();
        match fault {
            None => {
                self.world.heal_disk(m);
                *self.world.disk.path(m) = PathFaults::default();
            }
            Some(DiskFault::Stall) => self.world.stall_disk(m),
            Some(DiskFault::Gone) => self.world.disk.path(m).gone = true,
            Some(DiskFault::Delay(ms)) => self.world.disk.path(m).delay_ms = ms,
            Some(DiskFault::Error { write: true, count }) => self.world.disk.path(m).write_errors = count,
            Some(DiskFault::Error { write: false, count }) => self.world.disk.path(m).read_errors = count,
            Some(DiskFault::Tear) => self.world.disk.path(m).tear = true,
        }
        Ok(())
    }

    fn inject(&mut self, inject: &Inject) -> Result<(), Trouble> {
        let (count, gap_us) = inject.schedule();
        let begun = self.world.now;
        for (i, frame) in (0..count).zip(inject.frames.iter().cycle()) {
            self.world.run_until(begun + i * gap_us).map_err(failed)?;
            self.world.inject_frame(frame);
        }
        Ok(())
    }

    fn edit(&mut self, edit: ImageEdit, node: Option<NodeId>) -> Result<(), Trouble> {
        let node = node.or_else(|| NodeId::first(1).next());
        let Some(node) = node else { return Ok(()) };
        match edit {
            ImageEdit::Disable => self.edit_config(node, |c| c.enabled = false),
            ImageEdit::Enable => self.edit_config(node, |c| c.enabled = true),
            ImageEdit::Weight(weight) => self.edit_config(node, |c| c.weight = weight),
            ImageEdit::Timing(timing) => self.set_timing(timing),
            ImageEdit::Unconfigure => self.put(layout::config(node), |raw| raw.fill(0)),
            ImageEdit::DamageSuperblock => [0, 1].iter().for_each(|c| self.put(*c, |raw| raw[100] ^= 1)),
            ImageEdit::Version => {
                for at in 0..layout::RECORDS {
                    self.put(at, |raw| {
                        if raw.iter().any(|b| *b != 0) {
                            raw[VERSION_AT] = 0xee;
                            reseal(raw);
                        }
                    });
                }
            }
            ImageEdit::Foreign => self.set_foreign(),
            ImageEdit::Erase => self.erased = true,
        }
        Ok(())
    }

    fn regions(&mut self) -> Result<BTreeMap<String, String>, Trouble> {
        // FNV-1a over a region's records: equal hashes are only ever compared within one run.
        let mut hashes = BTreeMap::new();
        for at in 0..layout::RECORDS {
            let Some(raw) = self.world.disk.record(at) else { continue };
            for name in names_of(at, self.nodes) {
                let hash = hashes.entry(name).or_insert(0xcbf2_9ce4_8422_2325_u64);
                *hash = raw.iter().fold(*hash, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3));
            }
        }
        Ok(hashes.into_iter().map(|(name, hash)| (name, format!("{hash:016x}"))).collect())
    }

    fn disk_view(&mut self) -> Result<DiskView, Trouble> {
        let Some((name, view)) = committed(&self.world, self.cluster, self.nodes) else {
            return Ok(DiskView::default());
        };
        let nodes = NodeId::first(self.nodes).map(|n| (n.get(), (view.state(n), view.incarnation(n).0))).collect();
        Ok(DiskView { ballot: name.ballot.0, number: name.number, nodes })
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        self.kill(NodeSet::first(self.nodes))?;
        self.world.finish().map_err(failed)
    }
}

/// As on an image: `superblock`, `config.N` and `config`, …, `domain`, `spare`.
fn names_of(at: u64, nodes: u8) -> Vec<String> {
    let region = Region::of(at);
    let (node, all) = match region {
        Region::Superblock(_) => return vec![region.to_string()],
        Region::Spare if at >= DOMAIN_FIRST => return vec!["domain".to_owned()],
        Region::Spare => return vec!["spare".to_owned()],
        Region::Config(n) => (n, Some("config")),
        Region::Identity(n, _) => (n, Some("identity")),
        Region::Heartbeat(n) | Region::Ballot(n, _) => (n, None),
    };
    let own = if node.get() < nodes { region.to_string() } else { "spare".to_owned() };
    all.map(str::to_owned).into_iter().chain([own]).collect()
}

/// The newest view that is committed by what stands on the disk (DESIGN 4, what a reader may trust).
fn committed(world: &World, cluster: ClusterId, nodes: u8) -> Option<(ViewName, View)> {
    let record = |at| world.disk.record(at).copied().unwrap_or([0; 512]);
    let blocks: Vec<BallotBlock> = NodeId::first(nodes)
        .flat_map(|n| [0, 1].map(|slot| BallotBlock::decode(&record(layout::ballot(n, slot)), cluster, n, slot)))
        .filter_map(|b| b.good().cloned())
        .collect();
    let marks: Vec<ViewName> = NodeId::first(nodes)
        .filter_map(|n| Heartbeat::decode(&record(layout::heartbeat(n)), cluster, n).good().map(|h| h.committed))
        .collect();
    let promised = blocks.iter().map(|b| b.promised).max().unwrap_or(Ballot::NONE);
    let accepted = blocks.iter().filter(|b| b.accepted != Ballot::NONE);
    let mut views: Vec<(ViewName, View)> = Vec::new();
    for block in accepted {
        let name = block.accepted_name();
        if marks.contains(&name) || promised <= name.ballot {
            views.push((name, block.view.clone()));
        }
        if block.predecessor.name().ballot != Ballot::NONE {
            views.push((block.predecessor.name(), block.predecessor.view.clone()));
        }
    }
    views.into_iter().max_by_key(|(name, _)| (name.number, name.ballot))
}
