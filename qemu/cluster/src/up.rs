//! `cargo cluster up`: boots a cluster and shows it.

use std::io::IsTerminal;

use quorate_base::{Barriers, NodeId, NodeSet, NodeState};
use quorate_launch::{SetupOptions, setup};
use quorate_scenario::Trouble;
use quorate_scenario::backend::Backend;
use quorate_scenario::belief::Beliefs;
use quorate_scenario::diagnosis::diagnose;
use quorate_scenario::model::{Level, MachineVerb, StartOptions};
use quorate_scenario::nodes::Cast;
use quorate_scenario::qemu::{World, WorldOptions};
use quorate_switch::Fault;

use crate::arguments::UpOptions;
use crate::console::{Console, HELP, Typed, parse};
use crate::end::End;
use crate::play::progress;
use crate::view::{Changes, Machines, table};

/// With --plain all nodes must be joined after so long, µs; a cold start takes two seconds on a slow host.
const JOIN_MAX_US: u64 = 120_000_000;

/// A wait for news ends after so long at the latest, µs.
const LOOK_US: u64 = 1_000_000;

/// Runs `up`.
pub fn up(options: &UpOptions) -> End {
    let tools = match setup(&SetupOptions::default(), &mut progress) {
        Ok(tools) => tools,
        Err(error) => return error.into(),
    };
    let machines = &options.machines;
    let world = WorldOptions {
        levels: probes(),
        accel: machines.accel.into(),
        nic: machines.nic.into(),
        disk: machines.disk.clone(),
        keep_logs: machines.keep_logs.clone(),
        trace: machines.trace.clone(),
        ..WorldOptions::new(options.nodes)
    };
    let mut world = match World::new(world, &tools) {
        Ok(world) => world,
        Err(trouble) => return trouble.into(),
    };
    let plain = options.plain || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal();
    let console = Console::open(plain, world.store());
    let mut live = Live {
        nodes: NodeSet::first(options.nodes),
        until_joined: plain && !options.keep,
        seen: 0,
        beliefs: Beliefs::default(),
        changes: Changes::default(),
        stopped: NodeSet::EMPTY,
        lines: Vec::new(),
        console,
    };
    let outcome = live.run(&mut world);
    // The terminal must be itself again before the last lines.
    drop(live);
    let finished = world.finish().and_then(|()| world.flush());
    match outcome.and_then(|end| finished.map(|()| end)) {
        Ok(end) => end,
        Err(trouble) => trouble.into(),
    }
}

/// The two levels that stand for what is to come.
fn probes() -> Vec<Level> {
    let level = |order, name: &str, joining| Level {
        order,
        name: name.to_owned(),
        barriers: Barriers { joining, ..Barriers::ONE },
        work_ms: 0,
        hang: NodeSet::EMPTY,
        only_on: None,
        everywhere: true,
        deadline_ms: 0,
    };
    vec![level(60, "probe-a", 1), level(70, "probe-b", 2)]
}

struct Live {
    nodes: NodeSet,
    until_joined: bool,
    seen: usize,
    beliefs: Beliefs,
    changes: Changes,
    stopped: NodeSet,
    lines: Vec<String>,
    console: Console,
}

impl Live {
    fn run(&mut self, world: &mut World) -> Result<End, Trouble> {
        for node in self.nodes {
            self.start(node, world)?;
        }
        let deadline_us = world.now_us() + JOIN_MAX_US;
        loop {
            self.take(world);
            if self.until_joined && self.all_joined(world) {
                return Ok(self.joined(world));
            }
            if self.until_joined && (world.now_us() >= deadline_us || self.none_can_join(world)) {
                return Ok(self.not_joined(world));
            }
            for line in self.console.typed() {
                self.lines.push(format!("> {line}"));
                match parse(&line, self.nodes) {
                    Ok(Typed::Quit) => return Ok(End::Held),
                    Ok(command) => self.obey(&command, world),
                    Err(why) => self.lines.push(why),
                }
            }
            self.show(world);
            let until_us = world.now_us() + LOOK_US;
            match world.wait(self.seen, until_us) {
                Err(Trouble::Interrupted) if !self.until_joined => return Ok(End::Held),
                other => other?,
            }
        }
    }

    fn take(&mut self, world: &World) {
        for line in world.lines(self.seen) {
            self.seen += 1;
            self.lines.extend(self.changes.take(&line));
            self.beliefs.take(&line);
        }
    }

    fn machines(&self, world: &World) -> Machines {
        let running = self.nodes.iter().filter(|n| world.runs(*n)).collect();
        Machines { configured: self.nodes, running, stopped: self.stopped }
    }

    fn cast(&self, world: &World) -> Cast {
        let machines = self.machines(world);
        let ended: NodeSet = self.nodes.iter().filter(|n| self.beliefs.life(*n).end.is_some()).collect();
        let live = machines.running.minus(self.stopped).minus(ended);
        let master = self.beliefs.master(live);
        Cast { configured: self.nodes, started: machines.running, live, master, ..Cast::default() }
    }

    fn show(&mut self, world: &World) {
        let panel = table(&self.beliefs, self.machines(world));
        self.console.show(&std::mem::take(&mut self.lines), &panel);
    }

    /// Every node has adopted a view in which all are joined in their present life.
    fn all_joined(&self, world: &World) -> bool {
        let incs: Vec<_> = self.nodes.iter().map(|n| (n, self.beliefs.life(n).inc)).collect();
        let sees = |viewer: NodeId| {
            let life = self.beliefs.life(viewer);
            incs.iter()
                .all(|(n, inc)| life.sees(*n, None).is_some_and(|(s, i)| s == NodeState::Joined && Some(i) == *inc))
        };
        self.cast(world).live == self.nodes && self.nodes.iter().all(sees)
    }

    fn none_can_join(&self, world: &World) -> bool {
        self.cast(world).live != self.nodes
    }

    fn joined(&mut self, world: &World) -> End {
        let master = self.cast(world).master.map_or_else(|| "nobody".to_owned(), |n| format!("node {n}"));
        self.lines.push(String::new());
        self.lines.extend(self.changes.ways());
        self.lines.push(String::new());
        self.lines.extend(table(&self.beliefs, self.machines(world)));
        self.lines.push(String::new());
        self.lines.push(format!("all {} nodes are joined; the master is {master}", self.nodes.len()));
        self.show(world);
        End::Held
    }

    fn not_joined(&mut self, world: &mut World) -> End {
        let cast = self.cast(world);
        let joined = self.beliefs.joined(cast.live);
        self.lines.extend(table(&self.beliefs, self.machines(world)));
        self.lines.extend(diagnose(self.nodes, &self.beliefs, &cast, Some(world)));
        self.show(world);
        let missing = self.nodes.minus(joined);
        End::Failed(Some(format!("not joined: node {missing}; the lines above say what each node last did")))
    }

    fn start(&mut self, node: NodeId, world: &mut World) -> Result<(), Trouble> {
        self.beliefs.begin(node);
        self.stopped.remove(node);
        self.changes.started(node, world.now_us());
        world.start(node, &StartOptions::default())
    }

    fn obey(&mut self, command: &Typed, world: &mut World) {
        let outcome = match command {
            Typed::Kill(n) => world.kill(NodeSet::only(*n)),
            Typed::Pause(n) => world.machine(MachineVerb::Pause, *n),
            Typed::Resume(n) => world.machine(MachineVerb::Resume, *n),
            Typed::Restart(n) => world.kill(NodeSet::only(*n)).and_then(|()| {
                self.take(world);
                self.start(*n, world)
            }),
            Typed::Leave(n) => world.machine(MachineVerb::Leave, *n),
            Typed::Cut(a, b) => world.link(Fault::Cut, NodeSet::only(*a), NodeSet::only(*b), false),
            Typed::Heal => world.heal(None),
            Typed::Status(n) => world.command(*n, "status").map(|text| {
                self.lines.extend(text.lines().map(|l| format!("    {}", l.trim_end())));
            }),
            Typed::Help => {
                self.lines.extend(HELP.map(|l| format!("    {l}")));
                Ok(())
            }
            Typed::Quit => Ok(()),
        };
        match (outcome, command) {
            (Err(why), _) => self.lines.push(format!("    that did not work: {why}")),
            (Ok(()), Typed::Pause(n)) => drop(self.stopped.insert(*n)),
            (Ok(()), Typed::Resume(n) | Typed::Kill(n)) => drop(self.stopped.remove(*n)),
            (Ok(()), _) => {}
        }
    }
}
