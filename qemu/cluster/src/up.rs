//! `cargo cluster up`: boots a cluster and shows it.

use std::io::IsTerminal;

use quorate_base::{Barriers, NodeId, NodeSet, NodeState};
use quorate_launch::iscsi::prepare;
use quorate_launch::{BootPath, MachineState, SetupOptions, setup, uefi};
use quorate_scenario::Trouble;
use quorate_scenario::backend::Backend;
use quorate_scenario::diagnosis::diagnose;
use quorate_scenario::model::{DiskFault, Level, MachineVerb, StartOptions};
use quorate_scenario::nodes::Cast;
use quorate_scenario::qemu::{World, WorldOptions};
use quorate_switch::Fault;
use quorate_trace::TraceStore;
use serde_json::json;

use crate::arguments::UpOptions;
use crate::ask::{Asked, Question};
use crate::commands::{Typed, help, parse};
use crate::console::Console;
use crate::end::End;
use crate::play::{progress, set_up};
use crate::screen::facts::Facts;
use crate::screen::status::Said;
use crate::screen::{Screen, is_drawable};
use crate::view::{Changes, Machines, Told, table};
use crate::watch::Watch;

/// With --plain all nodes must be joined after so long, µs; a cold start takes two seconds on a slow host.
const JOIN_MAX_US: u64 = 120_000_000;

/// A wait for news ends after so long at the latest, µs: the live view's clock moves.
const LOOK_US: u64 = 250_000;

/// Pictures are so far apart at least, µs: a burst of news is one picture.
const PICTURE_US: u64 = 50_000;

/// Nodes and counters are asked so often, µs …
const ASK_US: u64 = 500_000;

/// … and so often while a node is on its way in or out.
const ASK_MOVING_US: u64 = 200_000;

/// Runs `up`.
pub fn up(options: &UpOptions) -> End {
    let mut tools = match setup(&SetupOptions::default(), &mut set_up) {
        Ok(tools) => tools,
        Err(error) => return error.into(),
    };
    let machines = &options.machines;
    let (disk, image) = machines.disk.clone().map_or_else(Default::default, |d| (d.disk, d.image));
    if let Err(error) = prepare(&disk, &mut tools, &mut progress) {
        return error.into();
    }
    let boot = machines.boot.map(BootPath::from).unwrap_or_default();
    if boot == BootPath::Uefi
        && let Err(error) = uefi(&mut tools, &mut set_up)
    {
        return error.into();
    }
    let stdio = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    let plain = options.plain || !stdio || !is_drawable();
    let iscsi = disk.is_iscsi();
    let world = WorldOptions {
        levels: probes(),
        // Only a disk behind the harness can be stalled.
        disk_faults: !plain || options.keep,
        accel: machines.accel.into(),
        boot,
        nic: machines.nic.map(Into::into).unwrap_or_default(),
        disk,
        image,
        fence: options.fence.into(),
        preempted: options.preempted.map(Into::into),
        registrants: options.registrants.map(Into::into),
        keep_logs: machines.keep_logs.clone(),
        trace: machines.trace.clone(),
        ..WorldOptions::new(options.nodes)
    };
    let mut world = match World::new(world, &tools) {
        Ok(world) => world,
        Err(trouble) => return trouble.into(),
    };
    // The first thing that is taken down again: who asks must not wait for a cluster that is gone.
    let asked = match Asked::listen(world.run_dir(), world.store()) {
        Ok(asked) => asked,
        Err(error) => return End::CannotRun(format!("cannot listen for `cargo cluster ask`: {error}")),
    };
    let nodes = NodeSet::first(options.nodes);
    let fence = quorate_base::FenceMethod::from(options.fence).name();
    let front = if plain { Ok(Front::Plain(Console::open(world.store()))) } else { Front::full(nodes, world.store()) };
    let front = match front {
        Ok(front) => front,
        Err(error) => return End::CannotRun(format!("cannot draw on this terminal: {error}; try --plain")),
    };
    let mut live = Live {
        nodes,
        until_joined: plain && !options.keep,
        iscsi,
        seen: 0,
        facts: Facts::new(nodes, format!("fence {fence} · {}", world.cluster().accel().name())),
        changes: Changes::default(),
        front,
        asked_us: 0,
        drawn_us: 0,
        steps: 0,
        asked,
    };
    let outcome = live.run(&mut world);
    world.say("end", json!({ "ok": matches!(outcome, Ok(End::Held)) }));
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

/// Where it is shown.
enum Front {
    Plain(Console),
    Full(Box<Screen>, Watch),
}

impl Front {
    fn full(nodes: NodeSet, store: &TraceStore) -> std::io::Result<Self> {
        Ok(Self::Full(Box::new(Screen::open(store)?), Watch::start(nodes, store)))
    }
}

struct Live {
    nodes: NodeSet,
    until_joined: bool,
    iscsi: bool,
    seen: usize,
    facts: Facts,
    changes: Changes,
    front: Front,
    asked_us: u64,
    drawn_us: u64,
    /// Steps that stand in the trace so far.
    steps: u64,
    asked: Asked,
}

impl Live {
    fn run(&mut self, world: &mut World) -> Result<End, Trouble> {
        for node in self.nodes {
            self.start(node, world)?;
        }
        let deadline_us = world.now_us() + JOIN_MAX_US;
        loop {
            self.take(world);
            if self.until_joined && self.all_joined() {
                return Ok(self.joined());
            }
            if self.until_joined && (world.now_us() >= deadline_us || self.none_can_join()) {
                return Ok(self.not_joined(world));
            }
            for question in self.asked.take() {
                question.answer(self.ask(&question, world));
            }
            let typed = match &mut self.front {
                Front::Plain(console) => console.typed(),
                Front::Full(screen, _) => screen.typed(&self.facts),
            };
            for line in typed {
                self.say(format!("> {line}"));
                match parse(&line, self.nodes, self.cast().master) {
                    Ok(Typed::Quit) => return Ok(End::Held),
                    Ok(command) => self.obey(&command, line.trim(), world),
                    Err(why) => self.say(why),
                }
                self.take(world);
            }
            self.measure(world);
            let until_us = self.show(world);
            match world.wait(self.seen, until_us) {
                Err(Trouble::Interrupted) if !self.until_joined => return Ok(End::Held),
                other => other?,
            }
        }
    }

    fn take(&mut self, world: &World) {
        for line in world.lines(self.seen) {
            self.seen += 1;
            self.facts.take(&line, &mut self.changes);
        }
        self.facts.now_us = world.now_us();
        for node in self.nodes {
            self.facts.machine_mut(node).state = Some(world.cluster().state(node.index()));
        }
    }

    fn say(&mut self, text: impl Into<String>) {
        self.facts.tell(Told::all(text));
    }

    /// Reads the counters and asks the nodes; takes what they answered.
    fn measure(&mut self, world: &World) {
        let Front::Full(_, watch) = &self.front else { return };
        let now_us = self.facts.now_us;
        for answer in watch.take() {
            let said = answer.status.as_deref().map(Said::parse);
            let machine = self.facts.machine_mut(answer.node);
            // QEMU passes commands on to a target without counting all of them.
            let disk = if self.iscsi { said.as_ref().and_then(|s| s.disk) } else { answer.disk };
            if let Some((reads, writes)) = disk {
                machine.disk.0.read(now_us, reads);
                machine.disk.1.read(now_us, writes);
            }
            if let Some(said) = said {
                machine.said = Some((now_us, said));
            }
        }
        let gap_us = if self.facts.is_moving() { ASK_MOVING_US } else { ASK_US };
        if now_us < self.asked_us + gap_us {
            return;
        }
        self.asked_us = now_us;
        for node in self.nodes {
            let counters = world.cluster().switch().counters(node.index());
            let machine = self.facts.machine_mut(node);
            machine.frames.0.read(now_us, counters.received);
            machine.frames.1.read(now_us, counters.sent);
            watch.ask(node, world.cluster().probe(node.index()));
        }
    }

    fn machines(&self) -> Machines {
        let paused = |n: &NodeId| self.facts.machine(*n).is_some_and(|m| m.state == Some(MachineState::Paused));
        let stopped = self.nodes.iter().filter(paused).collect();
        Machines { configured: self.nodes, running: self.facts.running(), stopped }
    }

    fn cast(&self) -> Cast {
        let live = self.facts.live();
        let (started, master) = (self.facts.running(), self.facts.beliefs.master(live));
        Cast { configured: self.nodes, started, live, master, ..Cast::default() }
    }

    /// Shows what is new; gives when to look again at the latest, µs.
    fn show(&mut self, world: &World) -> u64 {
        let now_us = world.now_us();
        match &mut self.front {
            Front::Plain(console) => {
                console.show(self.facts.log.drain(..).map(|told| told.text));
                now_us + LOOK_US
            }
            Front::Full(screen, _) if screen.is_touched() || now_us >= self.drawn_us + PICTURE_US => {
                screen.show(&self.facts);
                self.drawn_us = now_us;
                now_us + LOOK_US
            }
            Front::Full(..) => self.drawn_us + PICTURE_US,
        }
    }

    /// Every node has adopted a view in which all are joined in their present life.
    fn all_joined(&self) -> bool {
        let beliefs = &self.facts.beliefs;
        let incs: Vec<_> = self.nodes.iter().map(|n| (n, beliefs.life(n).inc)).collect();
        let sees = |viewer: NodeId| {
            let life = beliefs.life(viewer);
            incs.iter()
                .all(|(n, inc)| life.sees(*n, None).is_some_and(|(s, i)| s == NodeState::Joined && Some(i) == *inc))
        };
        self.cast().live == self.nodes && self.nodes.iter().all(sees)
    }

    fn none_can_join(&self) -> bool {
        self.cast().live != self.nodes
    }

    fn joined(&mut self) -> End {
        let master = self.cast().master.map_or_else(|| "nobody".to_owned(), |n| format!("node {n}"));
        let ways = self.changes.ways();
        let table = table(&self.facts.beliefs, self.machines());
        let last = format!("all {} nodes are joined; the master is {master}", self.nodes.len());
        let empty = || std::iter::once(String::new());
        empty().chain(ways).chain(empty()).chain(table).chain(empty()).chain([last]).for_each(|line| self.say(line));
        self.print();
        End::Held
    }

    fn not_joined(&mut self, world: &mut World) -> End {
        let cast = self.cast();
        let joined = self.facts.beliefs.joined(cast.live);
        table(&self.facts.beliefs, self.machines()).into_iter().for_each(|line| self.say(line));
        diagnose(self.nodes, &self.facts.beliefs, &cast, Some(world)).into_iter().for_each(|line| self.say(line));
        self.print();
        let missing = self.nodes.minus(joined);
        End::Failed(Some(format!("not joined: node {missing}; the lines above say what each node last did")))
    }

    fn print(&mut self) {
        if let Front::Plain(console) = &self.front {
            console.show(self.facts.log.drain(..).map(|told| told.text));
        }
    }

    /// What was typed stands in the trace as a scenario's step does: the checker asks who ended a life.
    fn step(&mut self, verb: &str, nodes: NodeSet, what: &str, world: &mut World) {
        let ids: Vec<u8> = nodes.iter().map(NodeId::get).collect();
        world.say("step", json!({ "index": self.steps, "do": verb, "nodes": ids, "what": what }));
        self.steps += 1;
    }

    fn start(&mut self, node: NodeId, world: &mut World) -> Result<(), Trouble> {
        self.step("start", NodeSet::only(node), "", world);
        self.facts.begin(node, world.now_us());
        self.changes.started(node, world.now_us());
        world.start(node, &StartOptions::default())
    }

    /// What a node's console says.
    fn ask(&self, question: &Question, world: &mut World) -> Result<String, String> {
        let node = match question.node.as_str() {
            "master" => self.cast().master.ok_or("there is no master on which all live nodes agree")?,
            number => {
                let id = number.parse().ok().and_then(NodeId::new).filter(|n| self.nodes.contains(*n));
                id.ok_or_else(|| format!("`{number}` is no node of this cluster (nodes: {}, or master)", self.nodes))?
            }
        };
        if !world.runs(node) {
            return Err(format!("node {node} does not run"));
        }
        if self.machines().stopped.contains(node) {
            return Err(format!("node {node} is paused and cannot answer"));
        }
        world.command(node, &question.text).map_err(|trouble| trouble.to_string())
    }

    fn obey(&mut self, command: &Typed, line: &str, world: &mut World) {
        if let Some((verb, nodes)) = command.step() {
            self.step(verb, nodes, if verb == "command" { line } else { "" }, world);
        }
        let outcome = match command {
            Typed::Kill(n) => world.kill(NodeSet::only(*n)),
            Typed::Pause(n) => world.machine(MachineVerb::Pause, *n),
            Typed::Resume(n) => world.machine(MachineVerb::Resume, *n),
            Typed::Restart(n) => {
                if world.runs(*n) {
                    self.step("kill", NodeSet::only(*n), "", world);
                }
                world.kill(NodeSet::only(*n)).and_then(|()| {
                    self.take(world);
                    self.start(*n, world)
                })
            }
            Typed::Leave(n) => world.machine(MachineVerb::Leave, *n),
            Typed::Cut(a, b) => world.link(Fault::Cut, NodeSet::only(*a), NodeSet::only(*b), false),
            Typed::Heal(between) => world.heal(between.map(|(a, b)| (NodeSet::only(a), NodeSet::only(b)))),
            Typed::Stall(n) => world.disk(Some(DiskFault::Stall), *n),
            Typed::Unstall(n) => world.disk(None, *n),
            Typed::Status(n) => self.console(*n, "status", world),
            Typed::Ask(n, text) => self.console(*n, text, world),
            Typed::Log(filter) => {
                self.filter(*filter);
                Ok(())
            }
            Typed::Help => {
                match &mut self.front {
                    Front::Full(screen, _) => screen.ui.help = true,
                    Front::Plain(_) => help().into_iter().for_each(|l| self.say(format!("    {l}"))),
                }
                Ok(())
            }
            Typed::Quit => Ok(()),
        };
        if let Err(why) = outcome {
            self.say(format!("    that did not work: {why}"));
            return;
        }
        match command {
            Typed::Cut(a, b) => self.facts.set_cut(*a, *b, true),
            Typed::Heal(Some((a, b))) => self.facts.set_cut(*a, *b, false),
            Typed::Heal(None) => self.facts.cuts.clear(),
            Typed::Stall(n) => self.facts.machine_mut(*n).stalled = true,
            Typed::Unstall(n) => self.facts.machine_mut(*n).stalled = false,
            _ => {}
        }
    }

    /// What a node answers at its console goes to the log.
    fn console(&mut self, node: NodeId, text: &str, world: &mut World) -> Result<(), Trouble> {
        for line in world.command(node, text)?.lines() {
            let (text, about) = (format!("    {}", line.trim_end()), NodeSet::only(node));
            self.facts.tell(Told { text, about, grave: false });
        }
        Ok(())
    }

    fn filter(&mut self, node: Option<NodeId>) {
        match &mut self.front {
            Front::Full(screen, _) => {
                screen.ui.filter = node;
                screen.ui.scroll = 0;
            }
            Front::Plain(_) => self.say("    all lines are printed here; only the live view shows some of them"),
        }
    }
}
