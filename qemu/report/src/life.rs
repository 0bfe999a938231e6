//! Nodes from the outside: each life from its boot to its end, who was master when, what stood still, what was done to them.

use quorate_trace::Line;
use serde::Serialize;

use crate::timeline::{id, ids};

/// How a life ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LifeEnd {
    /// Unwanted (EP's panic).
    Panic,
    /// Wanted.
    Halt,
    /// The harness ended its machine.
    Killed,
    /// The same node booted again, and the trace does not say what was before.
    Gone,
    /// It lived when the trace ended.
    Alive,
}

/// One life of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Life {
    /// The node.
    pub node: u8,
    /// Its incarnation; `None` if it ended before it knew it.
    pub inc: Option<u32>,
    /// Its first line, µs.
    pub from_us: u64,
    /// Its end, or the trace's, µs.
    pub to_us: u64,
    /// How it ended.
    pub end: LifeEnd,
    /// In the node's words, or in the harness's.
    pub reason: String,
}

/// The master lock in one node's hands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Term {
    /// The node.
    pub node: u8,
    /// Its incarnation.
    pub inc: Option<u32>,
    /// The ballot.
    pub ballot: u64,
    /// When it was acquired, µs.
    pub from_us: u64,
    /// When it was given back, lost, ended with its holder's life, or was overtaken by a higher ballot; or the trace's end,
    /// µs.
    pub to_us: u64,
    /// Which of these: `released`, `lost`, `ended`, `overtaken`, `open`.
    pub end: &'static str,
}

/// What lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SpellKind {
    /// The node's lease had run out.
    Frozen,
    /// Its machine was stopped.
    Paused,
    /// It fenced a peer.
    Fence,
}

/// A time in which something lasted at a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Spell {
    /// The node.
    pub node: u8,
    /// What.
    pub kind: SpellKind,
    /// Why, or whom it is about.
    pub what: String,
    /// µs.
    pub from_us: u64,
    /// µs.
    pub to_us: u64,
    #[serde(skip)]
    open: bool,
    #[serde(skip)]
    peer: Option<u8>,
}

/// A step of the harness.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Fault {
    /// Its verb.
    pub verb: String,
    /// The nodes that it hit.
    pub nodes: Vec<u8>,
    /// The step as it was written.
    pub what: String,
    /// `fault`, `repair`, `act`.
    pub kind: &'static str,
    /// When it began, µs.
    pub from_us: u64,
    /// When what lasts (a cut link) was healed, or the trace's end; `from_us` for what does not last, µs.
    pub to_us: u64,
    #[serde(skip)]
    open: bool,
}

impl Fault {
    /// As the scenario has it, or its verb and its nodes.
    pub fn told(&self) -> String {
        match self.what.strip_prefix("do ") {
            Some(step) => step.to_owned(),
            None => {
                let nodes: Vec<String> = self.nodes.iter().map(u8::to_string).collect();
                format!("{} {} {}", self.verb, nodes.join(" "), self.what).trim_end().to_owned()
            }
        }
    }
}

/// Steps that hurt, and for how long: until `heal`, until `disk_heal`, or at once.
fn kind_of(verb: &str) -> &'static str {
    match verb {
        "heal" | "disk_heal" | "resume" | "thaw" => "repair",
        "start" | "leave" | "command" | "sleep" | "snapshot" | "repeat" => "act",
        _ => "fault",
    }
}

/// Steps after which a node lives no more, whatever it still says.
pub(crate) fn ends_lives(verb: &str) -> bool {
    matches!(verb, "kill" | "reset" | "hang" | "panic" | "fault")
}

fn is_link(verb: &str) -> bool {
    matches!(verb, "cut" | "loss" | "duplicate" | "reorder" | "corrupt" | "delay")
}

fn is_disk(verb: &str) -> bool {
    verb.starts_with("disk_") && verb != "disk_heal"
}

/// Gathers lives and what is about whole nodes.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    pub lives: Vec<Life>,
    pub terms: Vec<Term>,
    pub spells: Vec<Spell>,
    pub faults: Vec<Fault>,
}

impl Lives {
    pub fn take(&mut self, line: &Line) {
        match line.node {
            None if line.ev == "step" => self.step(line),
            None => {}
            Some(node) => {
                self.live(node, line);
                self.of_node(node, line);
            }
        }
    }

    /// The life that a node's line belongs to: it begins, or lasts at least until now.
    fn live(&mut self, node: u8, line: &Line) {
        let t = line.t_us;
        let last = self.lives.iter().rposition(|l| l.node == node);
        if let Some(i) = last {
            let life = &mut self.lives[i];
            // A node that is being born learns its incarnation on the way.
            if life.inc == line.inc || (life.inc.is_none() && life.end == LifeEnd::Alive) {
                life.inc = line.inc;
                if life.end == LifeEnd::Killed || life.end == LifeEnd::Alive {
                    life.to_us = t;
                }
                return;
            }
            if life.end == LifeEnd::Alive {
                self.end(node, t, LifeEnd::Gone, "");
            }
        }
        let life = Life { node, inc: line.inc, from_us: t, to_us: t, end: LifeEnd::Alive, reason: String::new() };
        self.lives.push(life);
    }

    fn of_node(&mut self, node: u8, line: &Line) {
        let t = line.t_us;
        match line.ev.as_str() {
            "panic" => self.end(node, t, LifeEnd::Panic, line.text("reason").unwrap_or_default()),
            "halt" => self.end(node, t, LifeEnd::Halt, line.text("reason").unwrap_or_default()),
            "lock" => self.lock(node, line),
            "freeze" => self.begin(node, SpellKind::Frozen, line.text("why").unwrap_or_default(), None, t),
            "thaw" => self.close(node, SpellKind::Frozen, None, t),
            "fence_begin" => {
                let peer = id(line, "peer");
                let method = line.text("method").unwrap_or_default();
                let of = peer.map_or_else(String::new, |p| format!("node {p} by {method}"));
                self.begin(node, SpellKind::Fence, &of, peer, t);
            }
            "fence" => self.close(node, SpellKind::Fence, id(line, "peer"), t),
            _ => {}
        }
    }

    fn lock(&mut self, node: u8, line: &Line) {
        let (t, ballot) = (line.t_us, line.uint("ballot").unwrap_or(0));
        match line.text("phase") {
            Some("acquired") => {
                self.end_terms(t, "overtaken", |term| term.node == node || term.ballot < ballot);
                self.terms.push(Term { node, inc: line.inc, ballot, from_us: t, to_us: t, end: "open" });
            }
            Some("released") => self.end_terms(t, "released", |term| term.node == node),
            Some("lost") => self.end_terms(t, "lost", |term| term.node == node),
            _ => {}
        }
    }

    fn end_terms(&mut self, t: u64, end: &'static str, of: impl Fn(&Term) -> bool) {
        for term in self.terms.iter_mut().filter(|term| term.end == "open" && of(term)) {
            (term.to_us, term.end) = (t, end);
        }
    }

    /// A node's life is over, and what lasted in it.
    fn end(&mut self, node: u8, t: u64, end: LifeEnd, reason: &str) {
        if let Some(life) = self.lives.iter_mut().rev().find(|l| l.node == node)
            && (life.end == LifeEnd::Alive || life.end == LifeEnd::Killed)
        {
            (life.to_us, life.end, life.reason) = (t, end, reason.to_owned());
        }
        self.end_terms(t, "ended", |term| term.node == node);
        self.close(node, SpellKind::Frozen, None, t);
        for spell in self.spells.iter_mut().filter(|s| s.open && s.node == node) {
            (spell.to_us, spell.open) = (t, false);
        }
    }

    fn begin(&mut self, node: u8, kind: SpellKind, what: &str, peer: Option<u8>, t: u64) {
        let what = what.to_owned();
        self.spells.push(Spell { node, kind, what, from_us: t, to_us: t, open: true, peer });
    }

    fn close(&mut self, node: u8, kind: SpellKind, peer: Option<u8>, t: u64) {
        let same = |s: &&mut Spell| s.open && s.node == node && s.kind == kind && s.peer == peer;
        for spell in self.spells.iter_mut().filter(same) {
            (spell.to_us, spell.open) = (t, false);
        }
    }

    fn step(&mut self, line: &Line) {
        let (t, nodes) = (line.t_us, ids(line, "nodes"));
        let verb = line.text("do").unwrap_or_default();
        let what = line.text("what").unwrap_or_default();
        for node in &nodes {
            match verb {
                verb if ends_lives(verb) => self.end(*node, t, LifeEnd::Killed, verb),
                "pause" | "freeze" => self.begin(*node, SpellKind::Paused, verb, None, t),
                "resume" | "thaw" => self.close(*node, SpellKind::Paused, None, t),
                _ => {}
            }
        }
        let heals = |fault: &Fault| match verb {
            "heal" => is_link(&fault.verb) || what.contains("everything"),
            "disk_heal" => is_disk(&fault.verb) && fault.nodes.iter().any(|n| nodes.contains(n)),
            _ => false,
        };
        for fault in self.faults.iter_mut().filter(|f| f.open && heals(f)) {
            (fault.to_us, fault.open) = (t, false);
        }
        let open = is_link(verb) || is_disk(verb);
        let (verb, what) = (verb.to_owned(), what.to_owned());
        let kind = kind_of(&verb);
        self.faults.push(Fault { verb, nodes, what, kind, from_us: t, to_us: t, open });
    }

    /// The trace ends.
    pub fn finish(&mut self, t: u64) {
        self.lives.iter_mut().filter(|l| l.end == LifeEnd::Alive).for_each(|l| l.to_us = t);
        self.terms.iter_mut().filter(|term| term.end == "open").for_each(|term| term.to_us = t);
        self.spells.iter_mut().filter(|s| s.open).for_each(|s| s.to_us = t);
        self.faults.iter_mut().filter(|f| f.open).for_each(|f| f.to_us = t);
    }
}
