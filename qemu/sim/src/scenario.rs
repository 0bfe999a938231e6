//! Scenario files on virtual time: the same engine and the same judge as on QEMU, with the simulator as the world.
//!
//! It can do what QEMU can, but for the ends of a kernel that is none of its nodes' business (`panic`, `fault`): those are
//! refused by name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_base::{Ballot, ClusterId, HaltReason, NodeId, NodeSet, View, ViewName};
use quorate_database::sealed::{VERSION_AT, reseal};
use quorate_database::{BallotBlock, Heartbeat, NodeConfig, Region, Superblock, layout};
use quorate_launch::{BootPath, IDLE_LIMIT, LaunchError};
use quorate_node::ProbeLevel;
use quorate_scenario::backend::{Backend, DiskView, Trouble};
use quorate_scenario::model::{
    Action, Condition, DiskFault, ImageEdit, Inject, Install, MachineVerb, Records, StartOptions,
};
use quorate_scenario::{Outcome, Scenario, run};
use quorate_switch::Fault;
use quorate_trace::Line;
use serde_json::Value;

use crate::database::Database;
use crate::disk::{PathFaults, Trick};
use crate::faults::{Faults, LastWrite};
use crate::reservation::TargetKind;
use crate::slots::Slots;
use crate::world::{Broken, Setup, World};

/// As the node image says it.
const SHORT: &str = "its partition is shorter than a membership database";

/// The nearest word that a node has for what the bootstrap says.
const NO_KERNEL: &str = "no kernel in either slot";

/// Whose a foreign disk is.
const ANOTHER_CLUSTER: ClusterId = ClusterId(*b"another cluster!");

/// A cluster on virtual time in which a scenario is played.
#[derive(Debug)]
pub struct ScenarioWorld {
    world: World,
    nodes: u8,
    cluster: ClusterId,
    /// The nodes' slots, if they boot from them.
    slots: Option<Vec<Slots>>,
    /// There is no database on the disk to be found, or it has no room.
    unfit: Option<HaltReason>,
}

/// Plays a scenario in the simulator under a seed. Gives how it ended and the trace.
pub fn run_scenario(scenario: &Scenario, seed: u64) -> (Outcome, Vec<Arc<Line>>) {
    run_scenario_from(scenario, seed, None)
}

/// The same with a real cluster's configuration, which the scenario must not contradict.
pub fn run_scenario_from(scenario: &Scenario, seed: u64, from: Option<&Database>) -> (Outcome, Vec<Arc<Line>>) {
    let mut world = ScenarioWorld::from_database(scenario, seed, from);
    // What a `chaos` step draws is the seed's as well.
    let outcome = run(&Scenario { seed, ..scenario.clone() }, &mut world);
    (outcome, world.lines(0))
}

impl ScenarioWorld {
    /// For a scenario; the seed draws what the file leaves open.
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        Self::from_database(scenario, seed, None)
    }

    /// The same with a real cluster's configuration.
    pub fn from_database(scenario: &Scenario, seed: u64, from: Option<&Database>) -> Self {
        let faults = Faults::default();
        let setup = Setup {
            timing: scenario.timing,
            fence: scenario.fence,
            target: TargetKind {
                preempted: scenario.preempted.unwrap_or_default(),
                registrants: scenario.registrants.unwrap_or_default(),
                ..TargetKind::default()
            },
            levels: Vec::new(),
            keep_trace: true,
            faults,
            database: from.cloned(),
            ..Setup::new(seed, scenario.nodes)
        };
        let mut world = World::new(&setup);
        world.quiet();
        for node in NodeId::first(scenario.nodes) {
            let words = scenario.words(node, &StartOptions::default(), false);
            let levels = words.iter().filter_map(|word| ProbeLevel::parse(word.strip_prefix("level=")?).ok());
            world.set_levels(node.index(), levels.collect());
            world.set_groups(node.index(), scenario.groups);
        }
        let cluster = world.cluster();
        let slots = (scenario.boot == BootPath::Uefi).then(|| vec![Slots::default(); usize::from(scenario.nodes)]);
        Self { world, nodes: scenario.nodes, cluster, slots, unfit: None }
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

    fn slots_of(&mut self, node: NodeId) -> Option<&mut Slots> {
        self.slots.as_mut()?.get_mut(node.index())
    }

    fn set_foreign(&mut self) {
        self.edit_superblock(|s| s.cluster = ANOTHER_CLUSTER);
    }

    fn rule(&mut self, m: usize, write: bool, at: Option<Records>, count: Option<u32>, trick: Trick) {
        let at = at.map_or(0..layout::RECORDS, |at| at.first..at.first + at.count);
        self.world.disk.add_rule(m, write, at, count, trick);
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

/// Why what is about an iSCSI target is refused.
const NO_TARGET: &str = "the simulated disk is behind no target";

impl Backend for ScenarioWorld {
    fn refuses(&self, action: &Action) -> Option<String> {
        match action {
            Action::Disk { fault: DiskFault::Session, .. } | Action::TargetRestart { .. } => Some(NO_TARGET.to_owned()),
            Action::Command { text, .. } if matches!(text.as_str(), "panic" | "fault") => {
                Some(format!("`{text}` at the console: the simulator's kernel has no mistakes of its own"))
            }
            _ => None,
        }
    }

    fn refuses_condition(&self, condition: &Condition) -> Option<String> {
        matches!(condition, Condition::Keys { .. }).then(|| NO_TARGET.to_owned())
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
        let mut no_kernel = None;
        if let Some(slots) = self.slots_of(node) {
            match slots.boot() {
                Some((version, words)) => self.world.set_kernel(node.index(), version, words),
                None => no_kernel = Some(HaltReason::DatabaseDamaged { what: NO_KERNEL }),
            }
        }
        self.world.boot(node.index(), told, options.cluster);
        if let Some(reason) = self.unfit.or(no_kernel).or((!options.disk).then_some(HaltReason::NoDisk)) {
            self.world.end(node.index(), reason);
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
            MachineVerb::PauseAtIdle(ms) => {
                let idle = Duration::from_millis(ms.into());
                if !self.world.pause_at_idle(m, idle, IDLE_LIMIT).map_err(failed)? {
                    return Err(LaunchError::NeverIdle { machine: m, idle }.into());
                }
            }
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
        if text == "hang" {
            self.world.hang(node.index());
            return Ok("hang\nok".to_owned());
        }
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
            Some(DiskFault::Session) => return Err(Trouble::Broken(NO_TARGET.to_owned())),
            Some(DiskFault::Error { write, count: Some(count), at: None }) => {
                let path = self.world.disk.path(m);
                *(if write { &mut path.write_errors } else { &mut path.read_errors }) = count;
            }
            Some(DiskFault::Error { write, count, at }) => self.rule(m, write, at, count, Trick::Fail),
            Some(DiskFault::Tear { at: None, bytes: None }) => self.world.disk.path(m).tear = true,
            Some(DiskFault::Tear { at, bytes }) => self.rule(m, true, at, Some(1), Trick::Tear(bytes)),
            Some(DiskFault::Misdirect { write, at, to, count }) => {
                self.rule(m, write, Some(at), count, Trick::Redirect(to));
            }
            Some(DiskFault::Stale { at }) => self.world.disk.keep(m, at.first..at.first + at.count),
            Some(DiskFault::Lose { at, count }) => self.rule(m, true, at, count, Trick::Lose),
            Some(DiskFault::Swap) => self.world.disk.swap(m, ANOTHER_CLUSTER),
        }
        Ok(())
    }

    fn target_restart(&mut self, _: u32) -> Result<(), Trouble> {
        Err(Trouble::Broken(NO_TARGET.to_owned()))
    }

    fn keys(&mut self) -> Result<Vec<u64>, Trouble> {
        Err(Trouble::Broken(NO_TARGET.to_owned()))
    }

    fn inject(&mut self, inject: &Inject) -> Result<(), Trouble> {
        let (count, gap_us) = inject.schedule();
        if !inject.hostile.is_empty() {
            self.world.flood(&inject.hostile, count, gap_us);
            return Ok(());
        }
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
            // There is no partition table in the simulator: what becomes of it is the node image's word for it.
            ImageEdit::Erase | ImageEdit::Cut => self.unfit = Some(HaltReason::NoDisk),
            ImageEdit::Short => self.unfit = Some(HaltReason::DatabaseDamaged { what: SHORT }),
            ImageEdit::NoBackup => {}
            ImageEdit::DamageKernel(slot) => {
                if let Some(slots) = self.slots_of(node) {
                    slots.damage(slot);
                }
            }
            ImageEdit::BootSlot(slot) => {
                if let Some(slots) = self.slots_of(node) {
                    slots.choose(slot);
                }
            }
        }
        Ok(())
    }

    fn install_kernel(&mut self, node: NodeId, install: &Install) -> Result<(), Trouble> {
        if let Some(slots) = self.slots_of(node) {
            slots.install(install);
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
        Region::Spare if at >= layout::DOMAIN_FIRST => return vec!["domain".to_owned()],
        Region::Spare => return vec!["spare".to_owned()],
        Region::Config(n) => (n, Some("config")),
        Region::Domain(n, _) => (n, Some("domain")),
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
