//! Seeded runs: everything at once, then quiet, then everything must have ended well. A failing run names its seed;
//! `GROUPS_SEED=<seed>` runs only that one, `GROUPS_SEEDS=<n>` n times as many.

use crate::engine::number;
use crate::world::{MS, Net, Threads, World, n};
use quorate_base::{NodeId, NodeSet, NodeState};
use quorate_database::DomainEntry;
use quorate_groups::capacity::MESSAGE_MAX;
use quorate_groups::{CallError, DomainOp, JobId, JobState, Registration};
use std::collections::HashMap;

const GROUPS: [&str; 3] = ["alpha", "beta", "gamma"];
const DOMAINS: [&str; 3] = ["payroll", "orders", "beta"];

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("GROUPS_SEED").ok().and_then(|s| s.parse().ok()) {
        Some(seed) => vec![seed],
        None => {
            let more = std::env::var("GROUPS_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
            (0..count * more).collect()
        }
    }
}

/// What a run does.
#[derive(Clone, Copy)]
struct Mix {
    nodes: u8,
    acts: u64,
    kills: u64,
    domains: u64,
    slow: u64,
}

fn run(name: &str, count: u64, mix: Mix) {
    let (mut delivered, mut merges, mut rounds, mut answers, mut deaths) = (0, 0, 0, 0, 0);
    let seeds = seeds(count);
    let count = seeds.len();
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut r = Run::new(seed, mix);
            r.play();
            r.end();
            let c = &r.w.check;
            (c.messages(), c.merged.len(), c.rounds.len(), c.answers.len(), r.deaths)
        });
        match outcome {
            Ok((m, g, a, d, k)) => {
                delivered += m;
                merges += g;
                rounds += a;
                answers += d;
                deaths += k;
            }
            Err(_) => {
                panic!("{name}: replay with GROUPS_SEED={seed} cargo test -p quorate-groups --test virtual_time {name}")
            }
        }
    }
    if std::env::var("GROUPS_SEED").is_err() {
        // A run in which nothing happens proves nothing.
        assert!(delivered > count && rounds > 0 && merges > 0, "{delivered} {rounds} {merges}");
        assert!(mix.domains == 0 || answers > 0);
        assert!(mix.kills == 0 || deaths > count / 4);
    }
    println!(
        "{count} seeds: {delivered} messages, {rounds} rounds, {merges} merges, {answers} answers, {deaths} deaths"
    );
}

struct Run {
    w: World,
    mix: Mix,
    jobs: Vec<(NodeId, JobId)>,
    sent: HashMap<(NodeId, JobId), u64>,
    deaths: usize,
}

impl Run {
    fn new(seed: u64, mix: Mix) -> Self {
        let mut w = World::new(mix.nodes, seed);
        w.net = match w.chance.below(4) {
            0 => Net::CALM,
            1 => Net { delay_us: (20, 400), lost_permille: 0, doubled_permille: 0 },
            2 => Net { delay_us: (20, 2000), lost_permille: 10, doubled_permille: 10 },
            _ => Net { delay_us: (20, 3000), lost_permille: 150, doubled_permille: 50 },
        };
        for id in 0..mix.nodes {
            if w.chance.below(3) > 0 || id == 0 {
                w.start(n(id));
            }
        }
        Self { w, mix, jobs: Vec::new(), sent: HashMap::new(), deaths: 0 }
    }

    fn play(&mut self) {
        self.w.run_for(20 * MS);
        for _ in 0..self.mix.acts {
            self.act();
            let pause = match self.w.chance.below(4) {
                0 => 0,
                1 => self.w.chance.below(200),
                2 => self.w.chance.below(3 * MS),
                _ => self.w.chance.below(10 * MS),
            };
            self.w.run_for(pause);
        }
    }

    fn any_node(&mut self) -> Option<NodeId> {
        let up = self.w.running();
        let i = self.w.chance.below(up.len() as u64) as usize;
        up.get(i).copied()
    }

    fn any_job(&mut self) -> Option<(NodeId, JobId)> {
        let alive: Vec<_> = self
            .jobs
            .iter()
            .copied()
            .filter(|(node, job)| self.w.is_up(*node) && self.w.up(*node).engine.job(*job).is_some())
            .collect();
        let i = self.w.chance.below(alive.len() as u64) as usize;
        alive.get(i).copied()
    }

    fn act(&mut self) {
        let mix = self.mix;
        let total = 100 + mix.kills + mix.domains;
        match self.w.chance.below(total) {
            0..15 => self.register(false),
            15..60 => self.burst(),
            60..72 => {
                if let Some((node, job)) = self.any_job() {
                    let thread = self.w.chance.below(2) as u8;
                    let _ = self.w.call(node, |e, ctx| e.start(job, thread, b"go", ctx));
                }
            }
            72..82 => {
                if let Some((node, job)) = self.any_job() {
                    let _ = self.w.call(node, |e, ctx| {
                        let _ = e.set_group_data(job, b"data");
                        e.merge(job, ctx)
                    });
                }
            }
            82..86 => {
                if let Some((node, job)) = self.any_job() {
                    let _ = self.w.call(node, |e, ctx| e.fault(job, 7, ctx));
                }
            }
            86..90 => {
                if let Some((node, job)) = self.any_job() {
                    let _ = self.w.call(node, |e, ctx| e.unregister(job, ctx));
                }
            }
            90..94 => {
                // A thread that hangs; its job has a deadline or not.
                if let Some((node, job)) = self.any_job()
                    && self.w.chance.below(100) < mix.slow
                {
                    let hang = Threads { hang: true, ..Threads::default() };
                    self.w.nodes[node.index()].as_mut().unwrap().threads.insert(job, hang);
                }
            }
            94..100 => {
                let down: Vec<u8> = (0..mix.nodes).filter(|i| !self.w.is_up(n(*i))).collect();
                let i = self.w.chance.below(down.len() as u64) as usize;
                if let Some(id) = down.get(i) {
                    self.start(n(*id));
                }
            }
            k if k < 100 + mix.kills => self.end_a_node(),
            _ => self.domain(),
        }
    }

    fn start(&mut self, node: NodeId) {
        self.jobs.retain(|(n, _)| *n != node);
        self.sent.retain(|(n, _), _| *n != node);
        self.w.start(node);
    }

    fn end_a_node(&mut self) {
        let Some(node) = self.any_node() else { return };
        match self.w.chance.below(6) {
            0 => self.w.leave(node),
            1 => {
                // Put out while it lives: it goes on for a while.
                self.w.evict(node);
                let pause = self.w.chance.below(5 * MS);
                self.w.run_for(pause);
                self.w.kill(node, 0);
                self.deaths += 1;
            }
            k => {
                let notice = if k == 2 { self.w.chance.below(100) } else { self.w.chance.below(20 * MS) };
                self.w.kill(node, notice);
                self.deaths += 1;
                if k == 5 {
                    // It is back before anybody noticed: its old life is put out first.
                    self.w.run_for(notice + 1);
                    if !self.w.is_up(node) {
                        self.start(node);
                    }
                }
            }
        }
    }

    fn register(&mut self, of_domain: bool) {
        let Some(node) = self.any_node() else { return };
        let names = if of_domain { DOMAINS } else { GROUPS };
        let group = names[self.w.chance.below(3) as usize];
        let job = ["a", "b", "c"][self.w.chance.below(3) as usize];
        let subgroup = self.w.chance.below(3) as u8;
        let deadline_ms = 20 + self.w.chance.below(50) as u32;
        let r = Registration { group, job, subgroup, deadline_ms, of_domain };
        if let Ok(id) = self.w.call(node, |e, ctx| e.register(&r, ctx)) {
            self.jobs.push((node, id));
            let threads = Threads {
                work_us: 20 + self.w.chance.below(500),
                rounds: 1 + self.w.chance.below(4) as u16,
                take_us: self.w.chance.below(300),
                hang: false,
            };
            if let Some(up) = &mut self.w.nodes[node.index()] {
                up.threads.insert(id, threads);
            }
        }
        if !self.w.is_up(node) {
            return;
        }
        let gone: Vec<_> = self.w.up(node).engine.jobs().map(|(id, ..)| id).collect();
        for id in gone {
            self.w.nodes[node.index()].as_mut().unwrap().engine.release(id);
        }
    }

    fn burst(&mut self) {
        let Some((node, job)) = self.any_job() else { return };
        let Some(JobState::Member(_)) = self.w.up(node).engine.job(job) else { return };
        // Mostly messages that share frames; now and then long ones, in parts.
        let (count, size) = match self.w.chance.below(6) {
            0 => (1 + self.w.chance.below(4), self.w.chance.below(MESSAGE_MAX as u64 - 7) as usize),
            _ => (1 + self.w.chance.below(20), self.w.chance.below(1200) as usize),
        };
        for _ in 0..count {
            if !self.w.is_up(node) {
                return;
            }
            let next = self.sent.get(&(node, job)).copied().unwrap_or(0) + 1;
            let bytes = number(next, size);
            match self.w.call(node, |e, ctx| e.send(job, None, &bytes, ctx)) {
                Ok(()) => drop(self.sent.insert((node, job), next)),
                Err(CallError::Full | CallError::NoMember) => return,
                Err(e) => panic!("{e}"),
            }
        }
    }

    fn domain(&mut self) {
        let Some(node) = self.any_node() else { return };
        let domain = DOMAINS[self.w.chance.below(3) as usize];
        let other = n(self.w.chance.below(u64::from(self.mix.nodes)) as u8);
        let op = match self.w.chance.below(10) {
            0..3 => DomainOp::Create(NodeSet(self.w.chance.next()).and(NodeSet::first(self.mix.nodes))),
            3 | 4 => DomainOp::Add(other),
            5 => DomainOp::Remove(other),
            6 => DomainOp::Leave,
            7 if self.w.chance.below(2) == 0 => DomainOp::Delete,
            _ => return self.register(true),
        };
        let _ = self.w.call(node, |e, ctx| e.ask(op, domain, ctx));
    }

    /// Faults stop; what runs must end.
    fn end(&mut self) {
        self.w.net = Net::CALM;
        self.w.settle();
        assert!(self.w.membership.is_quiet(), "{}", self.w.describe());
        let up: Vec<NodeId> = self.w.running();
        let mut order = None;
        for node in &up {
            let e = &self.w.up(*node).engine;
            assert_eq!(self.w.membership.state[node.index()], NodeState::Joined, "{node:?}\n{}", self.w.describe());
            let t = e.tables();
            let of_all = (t.order, t.members.clone());
            assert_eq!(*order.get_or_insert(of_all.clone()), of_all, "{}", self.w.describe());
            assert!(t.protocols.is_empty(), "a round hangs: {:?}\n{}", t.protocols, self.w.describe());
            assert!(t.merges.is_empty(), "a merge hangs: {:?}\n{}", t.merges, self.w.describe());
            assert!(t.asks.is_empty(), "a request hangs: {:?}", t.asks);
            assert_eq!(e.queues(), (0, 0, 0), "{}", self.w.describe());
            assert!(e.copies().is_durable());
            let life = self.w.up(*node).life;
            self.w.check.check_taken(*node, life, e);
        }
        // What a member that is still there sent was delivered.
        for (node, job) in &self.jobs {
            if self.w.is_up(*node)
                && let Some(JobState::Member(id)) = self.w.up(*node).engine.job(*job)
            {
                let sent = self.sent.get(&(*node, *job)).copied().unwrap_or(0);
                assert_eq!(self.w.check.delivered(id) as u64, sent, "{node:?} {job:?}");
            }
        }
        self.check_domains(&up);
        for node in up {
            let life = self.w.up(node).life;
            self.w.check.ended(node, life);
        }
    }

    /// Copies converge: whoever a living copy lists has one like it.
    fn check_domains(&self, up: &[NodeId]) {
        for a in up {
            for entry in self.w.up(*a).engine.copies().entries().iter().filter(|e| !e.deleted) {
                assert!(entry.nodes.contains(*a) || !entry.behind.is_empty(), "{a:?} keeps {entry:?}");
                for b in up.iter().filter(|b| entry.nodes.contains(**b)) {
                    let copy = self.w.up(*b).engine.copies().get(&entry.name);
                    // Who may not know it yet each remembers for itself, with too many rather than too few.
                    let said = |e: &DomainEntry| (e.birth, e.version, e.nodes, e.deleted);
                    assert_eq!(copy.map(said), Some(said(entry)), "{a:?} and {b:?}\n{}", self.w.describe());
                    assert!(!entry.behind.contains(*b), "{b:?} has it: {entry:?}");
                }
            }
        }
        assert_eq!(self.w.check.differ, 0, "copies of equal age differed");
    }
}

#[test]
fn messages_and_rounds_of_three_nodes() {
    run("messages_and_rounds_of_three_nodes", 300, Mix { nodes: 3, acts: 60, kills: 0, domains: 0, slow: 0 });
}

#[test]
fn three_nodes_that_die_and_come_back() {
    run("three_nodes_that_die_and_come_back", 600, Mix { nodes: 3, acts: 80, kills: 10, domains: 0, slow: 50 });
}

#[test]
fn five_nodes_with_everything() {
    run("five_nodes_with_everything", 600, Mix { nodes: 5, acts: 100, kills: 14, domains: 20, slow: 30 });
}

#[test]
fn a_cluster_that_goes_down_and_comes_back() {
    // So many deaths that often nobody is left.
    run("a_cluster_that_goes_down_and_comes_back", 300, Mix { nodes: 3, acts: 100, kills: 40, domains: 40, slow: 0 });
}
