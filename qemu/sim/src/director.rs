//! Carries out a plan: does each act in its time, ends what it began, heals everything, and waits until the cluster has
//! settled and stays so.
//!
//! ```text
//! boot ──▶ damage (the plan's acts) ──▶ heal ──▶ settled within a bound ──▶ quiet
//!                                        └─▶ settled without some nodes, or with some links cut ──┘
//! ```
//! Faults that overlap end each in its own time. Freezes stay within what the lease fence allows, unless the plan says
//! that only the views must be safe; that is held here, so that it also holds for every part of a plan.

use std::collections::BTreeMap;

use quorate_base::{ClusterId, FenceMethod, LevelOrder, NodeId, NodeSet, Timing};
use quorate_database::Region;
use quorate_switch::Fault;

use crate::faults::{Faults, LastWrite};
use crate::gathered::gathered;
use crate::lie::{Lack, Lie};
use crate::machine::Machine;
use crate::plan::{Act, Blow, Noise, Plan, Role, Who, parse_levels};
use crate::settle::{apart, one_of_two, settle};
use crate::waylay::{Aim, Spot};
use crate::world::{Broken, World};

/// How often the settling is looked at, and what ended meanwhile is booted again, µs.
pub(crate) const STEP_US: u64 = 5_000;

/// What is due at one moment.
#[derive(Clone, PartialEq, Debug)]
enum Due {
    Act(usize),
    /// Something that had a length may be over: look at all.
    Over,
    /// One more time down.
    Flap {
        from: NodeId,
        to: NodeId,
        times: u32,
        down_us: u64,
        up_us: u64,
    },
    /// A machine that is to boot after it left: is it off?
    Reboot {
        m: usize,
        boot: u64,
        after_us: u64,
    },
    Boot {
        m: usize,
        boot: u64,
    },
}

/// What lasts on one machine, each until a moment of the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Lasting {
    paused: Option<u64>,
    frozen: Option<u64>,
    stalled: Option<u64>,
    slow: Option<u64>,
    lacks: Option<u64>,
    /// When its last freeze ended.
    thawed: Option<u64>,
}

/// What is wrong with some links.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Damage {
    until: u64,
    from: NodeSet,
    to: NodeSet,
    oneway: bool,
    noise: Option<Noise>,
}

/// One plan under way.
#[derive(Debug)]
pub(crate) struct Director<'p> {
    plan: &'p Plan,
    due: BTreeMap<(u64, u64), Due>,
    order: u64,
    lasting: Vec<Lasting>,
    links: Vec<Damage>,
    bad: Vec<(u64, u64)>,
    /// A machine that is to be killed after so many more events.
    ambush: Option<(usize, u64, LastWrite)>,
    /// Who lies in wait.
    waylays: Vec<(Aim, Blow)>,
    /// Until when a ballot record was spoilt last.
    spoilt_until: u64,
    /// How many faults of each kind were made.
    pub injected: BTreeMap<&'static str, u64>,
}

/// The longest freeze, µs, that leaves the lease fence its proof: what `lease · 1.01 + io_max < dead · 0.99` has to spare.
pub(crate) fn freeze_max_us(timing: &Timing) -> u64 {
    let [lease, io_max, dead] = [timing.lease, timing.io_max, timing.dead].map(u64::from);
    (dead * 990).saturating_sub(lease * 1010 + io_max * 1000)
}

impl<'p> Director<'p> {
    pub fn new(plan: &'p Plan) -> Self {
        let mut director = Self {
            plan,
            due: BTreeMap::new(),
            order: 0,
            lasting: vec![Lasting::default(); usize::from(plan.nodes)],
            links: Vec::new(),
            bad: Vec::new(),
            ambush: None,
            waylays: Vec::new(),
            spoilt_until: 0,
            injected: BTreeMap::new(),
        };
        for (i, step) in plan.acts.iter().enumerate() {
            director.at(step.at_us, Due::Act(i));
        }
        director
    }

    /// The whole plan. Gives how long the settling took, µs.
    pub fn run(&mut self, world: &mut World) -> Result<u64, Box<Broken>> {
        let damage_us = self.plan.damage_us;
        loop {
            let next = self.due.keys().next().map_or(damage_us, |(at, _)| *at).min(damage_us);
            if !self.pass(world, next)? {
                // Who was struck recovers in its own time, which may come sooner.
                continue;
            }
            match self.due.first_entry().filter(|due| due.key().0 < damage_us) {
                Some(due) => {
                    let due = due.remove();
                    self.perform(world, due);
                }
                None => break,
            }
        }
        self.heal(world);
        self.settle(world)
    }

    fn at(&mut self, at: u64, due: Due) {
        self.order += 1;
        self.due.insert((at, self.order), due);
    }

    /// Lets time pass; what lies in wait strikes between two events. False if it did, before the time was over.
    fn pass(&mut self, world: &mut World, until: u64) -> Result<bool, Box<Broken>> {
        while self.ambush.is_some() || !self.waylays.is_empty() {
            if world.next_at() > until {
                break;
            }
            world.step()?;
            if let Some((victim, left, last)) = self.ambush {
                self.ambush = (left > 0).then(|| (victim, left - 1, last));
                if left == 0 {
                    world.kill(victim, last);
                }
            }
            if self.strike(world) {
                return Ok(false);
            }
        }
        world.run_until(until)?;
        Ok(true)
    }

    /// Strikes whoever is at the moment that somebody waits for. Whether it did.
    fn strike(&mut self, world: &mut World) -> bool {
        let mut struck = false;
        for spot in world.take_spots() {
            let Some(at) = self.waylays.iter_mut().position(|(aim, _)| aim.is_hit(&spot)) else { continue };
            let (_, blow) = self.waylays.swap_remove(at);
            self.blow(world, &spot, blow);
            struck = true;
        }
        world.watch(self.waylays.iter().map(|(aim, _)| *aim).collect());
        struck
    }

    fn blow(&mut self, world: &mut World, spot: &Spot, blow: Blow) {
        let (m, now) = (spot.machine, world.now);
        let node = Who::Node(m as u8);
        world.mark("waylay", &[m as u8], &blow.to_string());
        match blow {
            Blow::Pause(for_us) => self.stop(world, &Act::Pause { node, for_us }),
            Blow::Freeze(for_us) => self.stop(world, &Act::Freeze { node, for_us }),
            Blow::Stall(for_us) => self.stop(world, &Act::Stall { node, for_us }),
            Blow::Kill(last) => world.kill(m, last),
            Blow::Fail(lands) => world.disk.spoil_write(spot.request, lands),
            Blow::Spoil(for_us) => {
                // Ballots that cannot be read for longer than `dead`, one after the other, are lost ones (DESIGN 3).
                if now < self.spoilt_until + u64::from(self.plan.timing.dead) * 1000 {
                    return;
                }
                self.spoilt_until = now + for_us;
                world.disk.bad.spoil(spot.record);
                self.bad.push((now + for_us, spot.record));
                self.at(now + for_us, Due::Over);
            }
        }
    }

    fn perform(&mut self, world: &mut World, due: Due) {
        match due {
            Due::Act(i) => {
                if let Some(step) = self.plan.acts.get(i) {
                    self.act(world, &step.act);
                }
            }
            Due::Over => self.over(world),
            Due::Flap { from, to, times, down_us, up_us } => {
                self.damage_links(world, (NodeSet::only(from), NodeSet::only(to)), false, None, down_us);
                if times > 1 {
                    let next = Due::Flap { from, to, times: times - 1, down_us, up_us };
                    self.at(world.now + down_us + up_us, next);
                }
            }
            Due::Reboot { m, boot, after_us } => {
                let same = world.machine(m).filter(|machine| machine.boots == boot);
                match same.map(|machine| machine.node().is_some()) {
                    Some(true) => self.at(world.now + STEP_US, Due::Reboot { m, boot, after_us }),
                    Some(false) => self.at(world.now + after_us, Due::Boot { m, boot }),
                    None => {}
                }
            }
            Due::Boot { m, boot } => {
                if world.machine(m).is_some_and(|machine| machine.boots == boot) {
                    world.start(m);
                }
            }
        }
    }

    fn who(&self, world: &World, who: Who) -> Option<usize> {
        match who {
            Who::Node(n) => Some(usize::from(n)),
            Who::Role(Role::Master) => world.master().map(NodeId::index),
            Who::Role(Role::Any) => None,
        }
    }

    fn act(&mut self, world: &mut World, act: &Act) {
        if let Some(fault) = act.fault() {
            *self.injected.entry(fault).or_default() += 1;
        }
        match act {
            Act::Start { node } => world.start(usize::from(*node)),
            Act::Kill { node, last } => {
                if let Some(m) = self.who(world, *node) {
                    world.kill(m, *last);
                }
            }
            Act::KillAll { last } => (0..usize::from(self.plan.nodes)).for_each(|m| world.kill(m, *last)),
            Act::Ambush { node, events, last } => self.ambush = Some((usize::from(*node), *events, *last)),
            Act::Reset { node, last } => {
                let m = usize::from(*node);
                if world.machine(m).is_some_and(|machine| machine.node().is_some()) {
                    world.kill(m, *last);
                    world.start(m);
                }
            }
            Act::Waylay { node, moment, skip, blow } => {
                let machine = self.who(world, *node);
                if machine.is_some() || *node == Who::Role(Role::Any) {
                    self.waylays.push((Aim { machine, moment: *moment, left: *skip }, *blow));
                    world.watch(self.waylays.iter().map(|(aim, _)| *aim).collect());
                }
            }
            Act::Leave { node } => {
                if let Some(m) = self.who(world, *node) {
                    world.leave(m);
                }
            }
            Act::Reboot { node, after_us } => {
                if let Some(m) = self.who(world, *node)
                    && let Some(machine) = world.machine(m).filter(|machine| machine.node().is_some())
                {
                    let boot = machine.boots;
                    world.leave(m);
                    self.at(world.now, Due::Reboot { m, boot, after_us: *after_us });
                }
            }
            Act::Hang { node } => {
                if let Some(m) = self.who(world, *node) {
                    world.hang(m);
                }
            }
            Act::Pause { .. }
            | Act::Freeze { .. }
            | Act::Stall { .. }
            | Act::StallAll { .. }
            | Act::SlowDisk { .. } => {
                self.stop(world, act);
            }
            Act::DiskErrors { node, write, count } => {
                world.mark("disk_error", &[*node], if *write { "write" } else { "read" });
                let path = world.disk.path(usize::from(*node));
                *(if *write { &mut path.write_errors } else { &mut path.read_errors }) = *count;
            }
            Act::Tear { node } => {
                world.mark("disk_tear", &[*node], "");
                world.disk.path(usize::from(*node)).tear = true;
            }
            Act::Reconnect { node } => world.reconnect(usize::from(*node)),
            Act::UnitReset => world.reset_unit(),
            Act::TargetPower => world.lose_power(),
            Act::BadRecord { record, for_us } => {
                world.mark("bad_record", &[], &record.to_string());
                world.disk.bad.spoil(*record);
                self.bad.push((world.now + for_us, *record));
                self.at(world.now + for_us, Due::Over);
            }
            Act::Lie { node, record, lie, for_us } => self.lie(world, usize::from(*node), (*record, *lie), *for_us),
            Act::LackAll { for_us } => {
                (0..usize::from(self.plan.nodes)).for_each(|m| self.lack(world, m, Lack::Gone, *for_us));
            }
            Act::Lack { node, lack, for_us } => {
                if let Some(m) = self.who(world, *node) {
                    self.lack(world, m, *lack, *for_us);
                }
            }
            // Refused where it makes no sense; the trace says what came of it.
            Act::Register { node, word } => drop(world.register_level(usize::from(*node), word)),
            Act::Deregister { node, order, died } => {
                drop(world.deregister_level(usize::from(*node), LevelOrder(*order), *died));
            }
            Act::Stranger { frames } => {
                world.mark("inject", &[], &frames.to_string());
                (0..*frames).for_each(|_| world.stranger());
            }
            Act::Double { machine, node, for_us } => {
                let (m, n) = (usize::from(*machine), usize::from(*node));
                if world.start_double(m, n) {
                    self.stop(world, &Act::Pause { node: Who::Node(*node), for_us: *for_us });
                }
            }
            Act::Console { node, line } => drop(world.command(usize::from(*node), line)),
            Act::Levels { node, words } => world.set_levels(usize::from(*node), parse_levels(words)),
            _ => self.act_on_links(world, act),
        }
    }

    fn lie(&mut self, world: &mut World, m: usize, (record, lie): (u64, Lie), for_us: u64) {
        let until = world.now + for_us;
        if matches!(Region::of(record), Region::Ballot(..)) && lie.hides() {
            // As with records that nobody can read: hidden for longer than `dead`, one after the other, they are lost ones.
            if world.now < self.spoilt_until + u64::from(self.plan.timing.dead) * 1000 {
                return;
            }
            self.spoilt_until = until;
        }
        world.mark("disk_lie", &[m as u8], &format!("{}: {lie}", Region::of(record)));
        world.looks.blind = true;
        lie.begin(&mut world.disk, m, record, until);
    }

    fn lack(&mut self, world: &mut World, m: usize, lack: Lack, for_us: u64) {
        // A disk that is another one between a birth's reads, of blank records, and its one write cannot be told from it.
        let in_birth = |machine: &Machine| machine.node().is_some_and(|node| node.timing().is_none());
        if lack == Lack::Other && world.machine(m).is_some_and(in_birth) {
            return;
        }
        world.mark("disk_cut", &[m as u8], lack.name());
        match lack {
            Lack::Gone => world.disk.path(m).gone = true,
            Lack::Other => world.disk.swap(m, ClusterId(*b"another cluster!")),
        }
        world.looks.blind |= lack == Lack::Other;
        let until = world.now + for_us;
        if let Some(lasting) = self.lasting.get_mut(m) {
            lasting.lacks = lasting.lacks.max(Some(until));
        }
        self.at(until, Due::Over);
    }

    fn stop(&mut self, world: &mut World, act: &Act) {
        let now = world.now;
        let (who, for_us) = match act {
            Act::Pause { node, for_us } | Act::Freeze { node, for_us } | Act::Stall { node, for_us } => {
                (self.who(world, *node), *for_us)
            }
            Act::SlowDisk { node, for_us, .. } => (Some(usize::from(*node)), *for_us),
            Act::StallAll { for_us } => {
                for m in 0..self.lasting.len() {
                    self.stop(world, &Act::Stall { node: Who::Node(m as u8), for_us: *for_us });
                }
                return;
            }
            _ => return,
        };
        let Some((m, lasting)) = who.and_then(|m| Some((m, self.lasting.get_mut(m)?))) else { return };
        let until = Some(now + for_us);
        match act {
            Act::Pause { .. } => {
                world.pause(m);
                lasting.paused = lasting.paused.max(until);
            }
            Act::Freeze { .. } => {
                let mut for_us = for_us;
                if !self.plan.views_only && self.plan.fence == FenceMethod::Lease {
                    // Two short ones within one lease are as bad as a long one.
                    let apart = 2 * u64::from(self.plan.timing.dead) * 1000;
                    if lasting.frozen.is_some() || lasting.thawed.is_some_and(|at| now < at + apart) {
                        return;
                    }
                    for_us = for_us.min(freeze_max_us(&self.plan.timing));
                }
                world.freeze(m);
                lasting.frozen = lasting.frozen.max(Some(now + for_us));
                return self.at(now + for_us, Due::Over);
            }
            Act::SlowDisk { ms, .. } => {
                world.mark("disk_delay", &[m as u8], &ms.to_string());
                world.disk.path(m).delay_ms = *ms;
                lasting.slow = lasting.slow.max(until);
            }
            _ => {
                world.stall_disk(m);
                lasting.stalled = lasting.stalled.max(until);
            }
        }
        self.at(now + for_us, Due::Over);
    }

    fn act_on_links(&mut self, world: &mut World, act: &Act) {
        let all = NodeSet::first(self.plan.nodes);
        let only = |n: u8| NodeId::new(n).map(NodeSet::only).unwrap_or_default();
        match *act {
            Act::Cut { from, to, oneway, for_us } => {
                self.damage_links(world, (only(from), only(to)), oneway, None, for_us);
            }
            Act::Isolate { node, for_us } => self.damage_links(world, (only(node), all), false, None, for_us),
            Act::Split { last, for_us } => {
                let one: NodeSet = all.iter().filter(|n| n.get() <= last).collect();
                self.damage_links(world, (one, all.minus(one)), false, None, for_us);
            }
            Act::Flap { from, to, times, down_us, up_us } => {
                if let (Some(from), Some(to)) = (NodeId::new(from), NodeId::new(to)) {
                    self.perform(world, Due::Flap { from, to, times, down_us, up_us });
                }
            }
            Act::Silence { for_us } => self.damage_links(world, (all, all), true, None, for_us),
            Act::Noise { from, to, noise, for_us } => {
                self.damage_links(world, (only(from), only(to)), false, Some(noise), for_us);
            }
            _ => {}
        }
    }

    fn damage_links(
        &mut self,
        world: &mut World,
        (from, to): (NodeSet, NodeSet),
        oneway: bool,
        noise: Option<Noise>,
        for_us: u64,
    ) {
        let until = world.now + for_us;
        let ids: Vec<u8> = from.iter().map(NodeId::get).collect();
        let how = if oneway { "one way to" } else { "and" };
        world.mark(if noise.is_some() { "loss" } else { "cut" }, &ids, &format!("{how} {to}"));
        self.links.push(Damage { until, from, to, oneway, noise });
        self.at(until, Due::Over);
        self.set_links(world);
    }

    /// The links as they are to be now.
    fn set_links(&self, world: &mut World) {
        world.network.heal();
        for damage in &self.links {
            let faults = damage.noise.map_or(vec![Fault::Cut], faults_of);
            for a in damage.from {
                for b in damage.to.without(a) {
                    for fault in &faults {
                        world.network.set(a, b, *fault);
                        if !damage.oneway {
                            world.network.set(b, a, *fault);
                        }
                    }
                }
            }
        }
    }

    /// Ends what has lasted long enough.
    fn over(&mut self, world: &mut World) {
        let now = world.now;
        let is_over = |until: &mut Option<u64>| until.take_if(|until| *until <= now).is_some();
        for (m, lasting) in self.lasting.iter_mut().enumerate() {
            if is_over(&mut lasting.paused) {
                world.resume(m);
            }
            if is_over(&mut lasting.frozen) {
                world.thaw(m);
                lasting.thawed = Some(now);
            }
            if is_over(&mut lasting.slow) {
                world.disk.path(m).delay_ms = 0;
            }
            if is_over(&mut lasting.stalled) {
                world.heal_disk(m);
            }
            if is_over(&mut lasting.lacks) {
                let path = world.disk.path(m);
                (path.gone, path.other) = (false, None);
            }
        }
        self.bad.retain(|(until, record)| {
            if *until <= now {
                world.disk.bad.mend(*record);
            }
            *until > now
        });
        let before = self.links.len();
        self.links.retain(|damage| damage.until > now);
        if self.links.len() != before {
            world.mark("heal", &[], "links");
            self.set_links(world);
        }
    }

    fn heal(&mut self, world: &mut World) {
        world.mark("heal", &[], "everything");
        self.ambush = None;
        self.waylays.clear();
        world.watch(Vec::new());
        self.due.clear();
        self.links.clear();
        world.network.heal();
        let healthy = Faults::default();
        (world.disk.faults, world.network.faults) = (healthy.disk, healthy.net);
        world.disk.bad.mend_all();
        if let Some(target) = &mut world.disk.target {
            target.kind.lost_per_million = 0;
        }
        for m in 0..usize::from(self.plan.nodes) {
            let path = world.disk.path(m);
            path.mend();
            world.heal_disk(m);
            world.repair_first_life(m);
            world.resume(m);
            world.thaw(m);
            // Before it knows the time-outs a node's watchdog leaves it 30 s twice; that is no part of the bound.
            let in_birth = |machine: &Machine| machine.node().is_some_and(|node| node.timing().is_none());
            if world.machine(m).is_some_and(|machine| machine.hung_at.is_some() && in_birth(machine)) {
                world.kill(m, LastWrite::Lands);
            }
            // A life with other levels than planned ends: a level that hangs does so for as long as it lives.
            let planned = self.plan.levels_of(m);
            if world.machine(m).is_some_and(|machine| machine.levels != planned || machine.booted_with != planned) {
                world.kill(m, LastWrite::Lands);
                world.set_levels(m, planned);
            }
        }
    }

    /// Boots whatever is off until all are joined and stay so, if the plan says so first without some nodes or links.
    /// Gives how long the last took, µs.
    fn settle(&mut self, world: &mut World) -> Result<u64, Box<Broken>> {
        let (within, all) = (self.plan.settle_us(), NodeSet::first(self.plan.nodes));
        one_of_two(world, within)?;
        let off: NodeSet = self.plan.off.iter().filter_map(|n| NodeId::new(*n)).collect();
        let left = all.minus(off);
        if !off.is_empty() && !left.is_empty() {
            world.mark("off", &self.plan.off, "");
            off.iter().for_each(|n| world.kill(n.index(), LastWrite::Lands));
            settle(world, left, within)?;
        }
        if !self.plan.cuts.is_empty() {
            for cut in &self.plan.cuts {
                let only = |n: u8| NodeId::new(n).map(NodeSet::only).unwrap_or_default();
                self.damage_links(world, (only(cut.from), only(cut.to)), cut.oneway, None, u64::MAX / 2);
            }
            apart(world, &self.plan.cuts, within)?;
            self.links.clear();
            world.mark("heal", &[], "links");
            world.network.heal();
        }
        let took_us = settle(world, all, within)?;
        world.check_keys().map_err(|what| world.describe(what))?;
        if self.plan.groups {
            gathered(world)?;
        }
        Ok(took_us)
    }
}

fn faults_of(noise: Noise) -> Vec<Fault> {
    let percent = |n: u32| f64::from(n.min(100));
    vec![
        Fault::Loss { percent: percent(noise.loss) },
        Fault::Duplicate { percent: percent(noise.duplicate) },
        Fault::Reorder { percent: percent(noise.reorder) },
        Fault::Corrupt { percent: percent(noise.corrupt) },
        Fault::Delay { ms: noise.delay_ms, jitter_ms: noise.jitter_ms },
    ]
}
