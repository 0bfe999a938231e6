//! Draws a plan from a seed: the cluster, its faults, and what is done to it at which moment.
//!
//! Lengths are drawn around the limits of DESIGN 7 (`net_suspect`, `disk_suspect`, `io_max`, `lease`, `dead`), just under
//! and just over each, because that is where a decision turns.

use quorate_base::{FenceMethod, NodeId, Preempted, Registrants, Timing};
use quorate_database::layout;

use crate::director::freeze_max_us;
use crate::faults::{Faults, LastWrite};
use crate::lie::{Lack, Lie};
use crate::plan::{Act, Blow, Broke, Moment, Noise, Plan, Role, Step, Who};
use crate::random::Random;
use crate::reservation::TargetKind;
use crate::run::RunOptions;
use crate::traffic;

/// What kind of act.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Start,
    Kill,
    KillAll,
    Reset,
    Leave,
    Reboot,
    Pause,
    Freeze,
    Stall,
    StallAll,
    SlowDisk,
    DiskErrors,
    Tear,
    BadRecord,
    Lie,
    Lack,
    LackAll,
    Cut,
    CutOneWay,
    Isolate,
    Split,
    Flap,
    Silence,
    Noise,
    Stranger,
    Register,
    Deregister,
    Levels,
    WaylayBallot,
    WaylayHeartbeat,
    Double,
}

impl Kind {
    /// Whether it makes a sound node look dead, or the disk lie.
    fn is_rough(self) -> bool {
        use Kind::{BadRecord, DiskErrors, Double, Freeze, Lack, LackAll, Lie, Pause, SlowDisk, Stall, StallAll, Tear};
        matches!(self, Double | Pause | Freeze | Stall | StallAll | SlowDisk | DiskErrors | Tear | BadRecord)
            || matches!(self, Lie | Lack | LackAll)
    }
}

/// How often each is drawn. Boots outweigh ends, so that there is mostly a cluster to damage.
const WEIGHTS: [(Kind, u64); 31] = [
    (Kind::Start, 36),
    (Kind::Kill, 12),
    (Kind::KillAll, 1),
    (Kind::Reset, 4),
    (Kind::Leave, 6),
    (Kind::Reboot, 4),
    (Kind::Pause, 8),
    (Kind::Freeze, 3),
    (Kind::Stall, 6),
    (Kind::StallAll, 1),
    (Kind::SlowDisk, 2),
    (Kind::DiskErrors, 3),
    (Kind::Tear, 2),
    (Kind::BadRecord, 3),
    (Kind::Lie, 8),
    (Kind::Lack, 2),
    (Kind::LackAll, 1),
    (Kind::Cut, 4),
    (Kind::CutOneWay, 4),
    (Kind::Isolate, 2),
    (Kind::Split, 2),
    (Kind::Flap, 2),
    (Kind::Silence, 1),
    (Kind::Noise, 3),
    (Kind::Stranger, 1),
    (Kind::Register, 5),
    (Kind::Deregister, 4),
    (Kind::Levels, 1),
    (Kind::WaylayBallot, 16),
    (Kind::WaylayHeartbeat, 6),
    (Kind::Double, 2),
];

/// The levels that a cluster has unless its plan draws others.
const USUAL: [&str; 2] = ["30:lower:1:1:1:0:0:1", "70:probe:2:1:3:5:0:1"];

struct Draw {
    random: Random,
    nodes: u8,
    timing: Timing,
    views_only: bool,
    calm: bool,
    levels: Vec<Vec<String>>,
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64, nodes: u8, options: &RunOptions) -> Self {
        // Its draws are its own, so that the world's do not depend on them.
        let mut random = Random::new(seed.rotate_left(32) ^ 0x5c4e);
        let drawn = random.pick(&[Faults::default(), Faults::light(), Faults::full()]).unwrap_or_default();
        let mut faults = options.faults.unwrap_or(drawn);
        let calm = options.faults.is_none() && random.below(8) == 0;
        // DESIGN 7 allows clocks that differ by one per cent.
        let clock_ppm = if random.below(2) == 0 || calm { 0 } else { 10_000 };
        let timing = draw_timing(&mut random);
        let views_only = options.faults.is_none() && !calm && random.below(8) == 0;
        if views_only {
            faults.disk.late_us = 3 * u64::from(timing.dead) * 1000;
        }
        if calm {
            faults.disk = Faults::default().disk;
        }
        let levels = draw_levels(&mut random, nodes);
        let (off, cuts) = draw_rest(&mut random, nodes);
        let mut draw = Draw { random, nodes, timing, views_only, calm, levels };
        let damage_us = options.damage_ms * 1000;
        let mut acts = draw.acts(damage_us);
        if !calm {
            acts.extend(draw_hangs(seed, nodes, damage_us));
            acts.sort_by_key(|step| step.at_us);
        }
        let mut levels = draw.levels;
        // Apart, so that the method changes nothing of the rest.
        let mut random = Random::new(seed.rotate_left(17) ^ 0xfe_4ce);
        let drawn = if random.below(3) == 0 { FenceMethod::Reservation } else { FenceMethod::Lease };
        let fence = options.fence.unwrap_or(drawn);
        let target = draw_target(&mut random, seed, calm);
        if fence == FenceMethod::Reservation {
            draw_target_faults(&mut random, &mut acts, nodes, damage_us, calm);
            if !calm {
                acts.extend(draw_slow_victim(seed, nodes, damage_us, timing));
                acts.sort_by_key(|step| step.at_us);
            }
        }
        let groups = options.groups.unwrap_or_else(|| traffic::is_drawn(seed));
        if groups {
            acts.extend(traffic::draw(seed, nodes, damage_us));
            acts.sort_by_key(|step| step.at_us);
            levels.iter_mut().for_each(|words| above_groups(words));
            let declared = acts.iter_mut().filter_map(|step| match &mut step.act {
                Act::Levels { words, .. } => Some(words),
                _ => None,
            });
            declared.for_each(|words| above_groups(words));
        }
        Self {
            nodes,
            seed,
            damage_us,
            clock_ppm,
            views_only,
            calm,
            groups,
            off,
            cuts,
            levels,
            fence,
            target,
            timing,
            faults,
            acts,
        }
    }
}

/// Level 10 is group services'.
fn above_groups(words: &mut [String]) {
    for word in words {
        if let Some(rest) = word.strip_prefix("10:") {
            *word = format!("15:{rest}");
        }
    }
}

/// Kernels that hang, in every other run. From a generator of their own: what else a seed draws does not depend on them.
fn draw_hangs(seed: u64, nodes: u8, damage_us: u64) -> Vec<Step> {
    let mut random = Random::new(seed.rotate_left(16) ^ 0x4a76);
    (0..random.below(4).saturating_sub(1))
        .map(|_| {
            let node = if random.below(3) == 0 {
                Who::Role(Role::Master)
            } else {
                Who::Node(random.below(u64::from(nodes)) as u8)
            };
            Step { at_us: random.below(damage_us.max(1)), act: Act::Hang { node } }
        })
        .collect()
}

/// Any mixture of what targets can do.
fn draw_target(random: &mut Random, seed: u64, calm: bool) -> TargetKind {
    // From a generator of its own: what else a seed draws does not depend on it.
    let mut apart = Random::new(seed.rotate_left(19) ^ 0x7a_6e7);
    let mut other = |most: u64| apart.below(most) == 0;
    let preempted = if other(2) { Preempted::Ends } else { Preempted::Lingers };
    let registrants = if other(3) { Registrants::Only } else { Registrants::All };
    let [fresh_nexus, forgets_holder] = [other(2), other(3) && !calm];
    let mut one = |most: u64| random.below(most) == 0;
    let [all_registrants, abort, persist] = [!one(3), !one(3), !one(2)];
    let lost_per_million = if calm || one(2) { 0 } else { 50_000 };
    // Without PREEMPT AND ABORT each fence resets the unit, and a sound node whose requests that ends looks dead for a while.
    TargetKind {
        all_registrants,
        abort: abort || calm,
        persist,
        preempted,
        registrants,
        fresh_nexus,
        forgets_holder,
        lost_per_million,
    }
}

/// What happens to a target and its nexuses.
fn draw_target_faults(random: &mut Random, acts: &mut Vec<Step>, nodes: u8, damage_us: u64, calm: bool) {
    let count = if calm { 0 } else { random.below(6) };
    for _ in 0..count {
        let at_us = random.below(damage_us.max(1));
        let act = match random.below(8) {
            0..=4 => Act::Reconnect { node: random.below(u64::from(nodes)) as u8 },
            5 | 6 => Act::UnitReset,
            _ => Act::TargetPower,
        };
        acts.push(Step { at_us, act });
    }
    if !calm && random.below(2) == 0 {
        let node = Who::Node(random.below(u64::from(nodes)) as u8);
        let for_us = random.between(500_000, 6_000_000);
        acts.push(Step { at_us: random.below(damage_us.max(1)), act: Act::Freeze { node, for_us } });
    }
    acts.sort_by_key(|step| step.at_us);
}

/// In every third run a node is cut off whose requests take most of `io_max` each, so that one is mostly under way when it is
/// put out. From a generator of its own.
fn draw_slow_victim(seed: u64, nodes: u8, damage_us: u64, timing: Timing) -> Vec<Step> {
    let mut random = Random::new(seed.rotate_left(20) ^ 0x51_037);
    if random.below(3) > 0 {
        return Vec::new();
    }
    let (node, at_us) = (random.below(u64::from(nodes)) as u8, random.below(damage_us.max(1)));
    let for_us = u64::from(random.between(3, 8) as u32 * timing.net_suspect) * 1000;
    let slow = Act::SlowDisk { node, ms: timing.io_max * 6 / 10, for_us };
    vec![Step { at_us, act: slow }, Step { at_us, act: Act::Isolate { node, for_us } }]
}

/// Mostly a profile; or time-outs between which nothing is left to spare, so that one that is a little off is too short.
fn draw_timing(random: &mut Random) -> Timing {
    match random.below(10) {
        0 | 1 => return Timing::FAST,
        2 => return tight(Timing::DEFAULT),
        3 => {}
        _ => return Timing::DEFAULT,
    }
    let beat = random.pick(&[20, 50, 200]).unwrap_or(20);
    let net = beat / 2;
    tight(Timing {
        net_heartbeat: net,
        net_suspect: random.between(2, 4) as u32 * net,
        disk_heartbeat: beat,
        disk_suspect: 2 * beat,
        io_max: random.between(u64::from(beat) / 2, 2 * u64::from(beat)) as u32,
        lease: random.between(2 * u64::from(beat) + 1, 5 * u64::from(beat)) as u32,
        ..Timing::DEFAULT
    })
}

/// The shortest `dead` that the inequality of DESIGN 7 allows.
fn tight(timing: Timing) -> Timing {
    Timing { dead: (timing.lease * 101 + timing.io_max * 100) / 99 + 1, ..timing }
}

/// What is not healed at once: nothing, some nodes, or some links.
fn draw_rest(random: &mut Random, nodes: u8) -> (Vec<u8>, Vec<Broke>) {
    let mut one = |below: u8| random.below(u64::from(below)) as u8;
    match one(4) {
        0 if nodes > 1 => {
            // Fewer than all.
            let (first, count) = (one(nodes), 1 + one(nodes - 1));
            ((0..count).map(|i| (first + i) % nodes).collect(), Vec::new())
        }
        1 if nodes > 1 => {
            let mut cut = || {
                let from = one(nodes);
                Broke { from, to: (from + 1 + one(nodes - 1)) % nodes, oneway: one(3) == 0 }
            };
            (Vec::new(), vec![cut(), cut()])
        }
        _ => (Vec::new(), Vec::new()),
    }
}

/// Mostly the usual; or levels that work for long, so that other things happen meanwhile, and one that only some have.
fn draw_levels(random: &mut Random, nodes: u8) -> Vec<Vec<String>> {
    if random.below(4) > 0 {
        return vec![USUAL.map(str::to_owned).to_vec(); usize::from(nodes)];
    }
    let [short, long] = [random.below(20), random.below(200)];
    // Longer than a step takes on a sound node, so that only one that stands still or hangs is overdue.
    let deadline = if random.below(2) == 0 { String::new() } else { format!(":{}", random.between(1_000, 4_000)) };
    let everywhere = [format!("10:first:2:2:2:{short}:0:1{deadline}"), format!("60:second:1:3:2:{long}:0:1{deadline}")];
    let some = format!("80:some:2:1:1:{short}:0:0{deadline}");
    (0..nodes)
        .map(|_| {
            let here = (random.below(2) == 0).then(|| some.clone());
            everywhere.iter().cloned().chain(here).collect()
        })
        .collect()
}

impl Draw {
    fn acts(&mut self, damage_us: u64) -> Vec<Step> {
        let mut acts = Vec::new();
        for node in 0..self.nodes {
            if self.random.below(4) > 0 {
                acts.push(Step { at_us: 0, act: Act::Start { node } });
            }
        }
        let mut at_us = 0;
        loop {
            // Mostly busy times, now and then a pause in which something may end.
            let wait = if self.random.below(5) == 0 { 3_000_000 } else { 400_000 };
            at_us += self.random.below(wait);
            if at_us >= damage_us {
                return acts;
            }
            let act = self.act();
            acts.push(Step { at_us, act });
            if self.random.below(4) == 0 {
                let (node, events, last) = (self.node(), self.random.below(600), self.last_write());
                acts.push(Step { at_us, act: Act::Ambush { node, events, last } });
            }
        }
    }

    fn kind(&mut self) -> Kind {
        let calm = self.calm;
        let weights = || WEIGHTS.into_iter().filter(|(kind, _)| !(calm && kind.is_rough()));
        let total = weights().map(|(_, weight)| weight).sum();
        let mut at = self.random.below(total);
        for (kind, weight) in weights() {
            if at < weight {
                return kind;
            }
            at -= weight;
        }
        Kind::Start
    }

    fn node(&mut self) -> u8 {
        self.random.below(u64::from(self.nodes)) as u8
    }

    /// Mostly any node; the master more often than by chance.
    fn who(&mut self) -> Who {
        if self.random.below(5) == 0 { Who::Role(Role::Master) } else { Who::Node(self.node()) }
    }

    /// Two nodes; the same one twice if there is but one.
    fn pair(&mut self) -> (u8, u8) {
        let from = self.node();
        let to = self.random.below(u64::from(self.nodes.max(2) - 1)) as u8;
        (from, if to >= from && self.nodes > 1 { to + 1 } else { to })
    }

    fn last_write(&mut self) -> LastWrite {
        let all = [LastWrite::Lands, LastWrite::Lost, LastWrite::Torn, LastWrite::Late];
        let kinds = if self.views_only { 4 } else { 3 };
        self.random.pick(&all[..kinds]).unwrap_or_default()
    }

    /// A length, µs: just under or just over one of the limits, or anything up to a few seconds.
    fn length(&mut self) -> u64 {
        let t = self.timing;
        let limits = [t.net_suspect, t.disk_suspect, t.io_max, t.lease, t.dead].map(|ms| u64::from(ms) * 1000);
        let limit = self.random.pick(&limits).unwrap_or(1);
        let near = self.random.between(1, limit / 20 + 1);
        match self.random.below(5) {
            0 | 1 => limit - near,
            2 | 3 => limit + near,
            _ => self.random.below(5 * u64::from(t.dead) * 1000),
        }
    }

    fn act(&mut self) -> Act {
        match self.kind() {
            Kind::Start => Act::Start { node: self.node() },
            Kind::Kill => Act::Kill { node: self.who(), last: self.last_write() },
            Kind::KillAll => Act::KillAll { last: self.last_write() },
            Kind::Reset => Act::Reset { node: self.node(), last: self.last_write() },
            Kind::Leave => Act::Leave { node: self.who() },
            Kind::Reboot => Act::Reboot { node: self.who(), after_us: self.random.below(500_000) },
            Kind::Pause => Act::Pause { node: self.who(), for_us: self.length() },
            Kind::Freeze => Act::Freeze { node: self.who(), for_us: self.freeze_length() },
            Kind::Stall => Act::Stall { node: self.who(), for_us: self.length() },
            Kind::StallAll => Act::StallAll { for_us: self.length() },
            Kind::SlowDisk => self.slow_disk(),
            Kind::DiskErrors => {
                let (write, count) = (self.random.below(2) == 0, self.random.between(1, 20) as u32);
                Act::DiskErrors { node: self.node(), write, count }
            }
            Kind::Tear => Act::Tear { node: self.node() },
            Kind::BadRecord => self.bad_record(),
            Kind::Lie => {
                let (node, record, lie, for_us) =
                    Lie::draw(&mut self.random, self.nodes, &self.timing, self.views_only);
                Act::Lie { node, record, lie, for_us }
            }
            Kind::Lack => {
                let lack = if self.random.below(2) == 0 { Lack::Gone } else { Lack::Other };
                Act::Lack { node: self.who(), lack, for_us: self.length() }
            }
            Kind::LackAll => Act::LackAll { for_us: self.length() },
            Kind::Cut => self.cut(false),
            Kind::CutOneWay => self.cut(true),
            Kind::Isolate => Act::Isolate { node: self.node(), for_us: self.length() },
            Kind::Split => Act::Split { last: self.node(), for_us: self.length() },
            Kind::Flap => self.flap(),
            Kind::Silence => Act::Silence { for_us: self.length() },
            Kind::Noise => self.noise(),
            Kind::Stranger => Act::Stranger { frames: self.random.between(1, 200) as u32 },
            Kind::Register => Act::Register { node: self.node(), word: self.run_time_word() },
            Kind::Deregister => {
                let died = self.random.below(2) == 0;
                Act::Deregister { node: self.node(), order: self.run_time_order(), died }
            }
            Kind::Levels => self.other_levels(),
            Kind::WaylayBallot => self.waylay_ballot(),
            Kind::WaylayHeartbeat => self.waylay_heartbeat(),
            Kind::Double => {
                let (machine, node) = self.pair();
                Act::Double { machine, node, for_us: self.long() * 2 }
            }
        }
    }

    /// Long enough that somebody notices: from a suspicion to well over a death, µs.
    fn long(&mut self) -> u64 {
        let t = self.timing;
        self.random.between(u64::from(t.disk_suspect), u64::from(t.dead) * 5 / 4) * 1000
    }

    /// Whoever writes ballots is master or wants to be.
    fn waylay_ballot(&mut self) -> Act {
        let moment = self.random.pick(&[Moment::BallotAsked, Moment::BallotSubmitted, Moment::BallotLanded]);
        let moment = moment.filter(|_| !self.calm).unwrap_or(Moment::BallotSubmitted);
        let blow = match (moment, self.random.below(10)) {
            _ if self.calm => Blow::Kill(self.last_write()),
            // As long as it takes to be put out and fenced.
            (Moment::BallotAsked, _) => {
                let dead = u64::from(self.timing.dead);
                Blow::Pause(self.random.between(dead / 2, 3 * dead) * 1000)
            }
            (_, 0..=2) => Blow::Pause(self.long()),
            (_, 3) if self.views_only => Blow::Freeze(self.long()),
            (_, 3 | 4) => Blow::Stall(self.long()),
            (_, 5 | 6) => Blow::Kill(self.last_write()),
            (_, 7 | 8) => Blow::Fail(self.random.below(2) == 0),
            _ => Blow::Spoil(self.random.below(u64::from(self.timing.dead) * 900)),
        };
        let node = if self.random.below(3) == 0 { self.who() } else { Who::Role(Role::Any) };
        Act::Waylay { node, moment, skip: self.random.below(4) as u32, blow }
    }

    /// Mostly the master's.
    fn waylay_heartbeat(&mut self) -> Act {
        let moment = self.random.pick(&[Moment::HeartbeatSubmitted, Moment::HeartbeatLanded]);
        let blow = match self.random.below(6) {
            _ if self.calm => Blow::Kill(self.last_write()),
            0 | 1 => Blow::Pause(self.long()),
            2 if self.views_only => Blow::Freeze(self.long()),
            2 | 3 => Blow::Stall(self.long()),
            4 => Blow::Fail(self.random.below(2) == 0),
            _ => Blow::Kill(self.last_write()),
        };
        let node = if self.random.below(2) == 0 { Who::Role(Role::Master) } else { self.who() };
        Act::Waylay {
            node,
            moment: moment.unwrap_or(Moment::HeartbeatSubmitted),
            skip: self.random.below(4) as u32,
            blow,
        }
    }

    fn cut(&mut self, oneway: bool) -> Act {
        let (from, to) = self.pair();
        Act::Cut { from, to, oneway, for_us: self.length() }
    }

    fn flap(&mut self) -> Act {
        let (from, to) = self.pair();
        let [down_us, up_us] = [self.length(), self.length()];
        Act::Flap { from, to, times: self.random.between(2, 8) as u32, down_us, up_us }
    }

    fn noise(&mut self) -> Act {
        let (from, to) = self.pair();
        let [loss, duplicate, reorder, corrupt] = [60, 50, 50, 30].map(|most| self.random.below(most) as u32);
        let [delay_ms, jitter_ms] = [20, 300].map(|most| self.random.below(most) as u32);
        let noise = Noise { loss, duplicate, reorder, corrupt, delay_ms, jitter_ms };
        Act::Noise { from, to, noise, for_us: self.length() }
    }

    /// As long as the lease fence allows; longer ones only where it is not asked for.
    fn freeze_length(&mut self) -> u64 {
        if self.views_only { self.length() } else { self.random.below(freeze_max_us(&self.timing)) }
    }

    /// So slow that some requests are done just within `io_max` and some are not.
    fn slow_disk(&mut self) -> Act {
        let io_max = u64::from(self.timing.io_max);
        let ms = self.random.between(io_max / 4, io_max + io_max / 20) as u32;
        Act::SlowDisk { node: self.node(), ms, for_us: self.length() }
    }

    /// A heartbeat block that stays bad for as long as it likes; a ballot block for shorter than `dead`: what is
    /// unreadable for longer was never committed, as far as the others know (DESIGN 3), and no cluster outlives the loss
    /// of committed views.
    fn bad_record(&mut self) -> Act {
        let node = NodeId::new(self.node());
        let Some(node) = node else { return Act::KillAll { last: LastWrite::Lands } };
        let short = self.random.below(u64::from(self.timing.dead) * 900);
        match self.random.below(6) {
            0 => Act::BadRecord { record: layout::ballot(node, 0), for_us: short },
            1 => Act::BadRecord { record: layout::ballot(node, 1), for_us: short },
            2 => Act::BadRecord { record: layout::identity(node, 0), for_us: self.length() },
            3 => Act::BadRecord { record: layout::superblock(1), for_us: self.length() },
            _ => Act::BadRecord { record: layout::heartbeat(node), for_us: self.length() },
        }
    }

    /// One of two orders, so that nodes meet at a level.
    fn run_time_order(&mut self) -> u16 {
        self.random.pick(&[100, 120]).unwrap_or(100)
    }

    /// Mostly the same declaration everywhere; now and then one that the others refuse.
    fn run_time_word(&mut self) -> String {
        let order = self.run_time_order();
        let joining = if self.random.below(8) == 0 { 3 } else { 1 };
        format!("{order}:run{order}:{joining}:1:2:{}:0:0", self.random.below(30))
    }

    /// A level that hangs, one with other barriers, or the planned ones again.
    fn other_levels(&mut self) -> Act {
        let node = self.node();
        let mut words = self.levels.get(usize::from(node)).cloned().unwrap_or_default();
        let which = self.random.below(words.len().max(1) as u64) as usize;
        let field = match self.random.below(3) {
            0 => Some((6, "1")),
            1 => Some((2, "4")),
            _ => None,
        };
        if let (Some((field, value)), Some(word)) = (field, words.get_mut(which)) {
            let mut fields: Vec<&str> = word.split(':').collect();
            if let Some(place) = fields.get_mut(field) {
                *place = value;
            }
            *word = fields.join(":");
        }
        Act::Levels { node, words }
    }
}
