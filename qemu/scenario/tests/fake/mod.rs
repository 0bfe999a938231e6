//! A world that does what a test tells it: lines are scheduled by actions, time is a number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_base::{NodeId, NodeSet};
use quorate_scenario::Scenario;
use quorate_scenario::backend::{Backend, DiskView, Trouble};
use quorate_scenario::model::{Action, Condition, DiskFault, ImageEdit, Inject, Install, MachineVerb, StartOptions};
use quorate_scenario::source::Source;
use quorate_switch::Fault;
use quorate_trace::Line;
use serde_json::{Value, json};

#[derive(Default)]
pub struct Fake {
    pub now_us: u64,
    pub lines: Vec<Arc<Line>>,
    /// When, and which line of which node.
    pub due: BTreeMap<(u64, usize), Arc<Line>>,
    /// What follows an action: its words, and lines after so many ms.
    pub reactions: Vec<(String, Vec<(u64, Value)>)>,
    pub running: BTreeSet<u8>,
    /// What was done, in words.
    pub done: Vec<String>,
    pub replies: BTreeMap<String, String>,
    pub refused: Option<&'static str>,
    pub disk: DiskView,
    pub keys: Vec<u64>,
    pub regions: BTreeMap<String, String>,
    /// Regions after the next snapshot.
    pub regions_later: Option<BTreeMap<String, String>>,
    pub interrupt: bool,
    /// How long a machine may take to its first word, µs.
    pub firmware_us: u64,
    pub finished: bool,
    pub seq: u64,
    pub count: usize,
}

impl Fake {
    /// After the action `words` these lines come, each after so many ms.
    pub fn on(mut self, words: &str, lines: Vec<(u64, Value)>) -> Self {
        self.reactions.push((words.to_owned(), lines));
        self
    }

    fn did(&mut self, words: String) {
        if let Some(at) = self.reactions.iter().position(|(w, _)| *w == words) {
            let (_, lines) = self.reactions.remove(at);
            for (ms, line) in lines {
                let t_us = self.now_us + ms * 1000;
                self.count += 1;
                self.due.insert((t_us, self.count), Arc::new(parse(t_us, self.count, line)));
            }
        }
        self.done.push(words);
        self.deliver();
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= self.now_us
        {
            self.lines.push(entry.remove());
        }
    }
}

fn parse(t_us: u64, count: usize, line: Value) -> Line {
    let mut whole = json!({"t_us": t_us, "inc": 1, "nt_us": t_us, "seq": 0, "lc": count});
    let (Some(whole_map), Value::Object(line)) = (whole.as_object_mut(), line) else { panic!("not an object") };
    whole_map.extend(line);
    Line::parse(&whole.to_string()).unwrap()
}

impl Backend for Fake {
    fn refuses(&self, action: &Action) -> Option<String> {
        (Some(action.verb()) == self.refused).then(|| "the fake has none".to_owned())
    }
    fn refuses_condition(&self, _: &Condition) -> Option<String> {
        None
    }
    fn now_us(&self) -> u64 {
        self.now_us
    }
    fn lines(&self, from: usize) -> Vec<Arc<Line>> {
        self.lines.get(from..).unwrap_or_default().to_vec()
    }
    fn wait(&mut self, seen: usize, until_us: u64) -> Result<(), Trouble> {
        if self.interrupt {
            return Err(Trouble::Interrupted);
        }
        let next = self.due.keys().next().map_or(u64::MAX, |(t, _)| *t);
        if self.lines.len() <= seen || seen == usize::MAX {
            self.now_us = self.now_us.max(next.min(until_us));
        }
        self.deliver();
        Ok(())
    }
    fn say(&mut self, ev: &str, fields: Value) {
        assert_eq!(ev == "end", self.finished, "no node may write a line after `end`");
        let Value::Object(fields) = fields else { panic!("not an object") };
        self.lines.push(Arc::new(Line::of_harness(self.now_us, self.seq, ev, fields)));
        self.seq += 1;
    }
    fn runs(&self, node: NodeId) -> bool {
        self.running.contains(&node.get())
    }
    fn start(&mut self, node: NodeId, options: &StartOptions) -> Result<(), Trouble> {
        self.running.insert(node.get());
        let extra = match options {
            StartOptions { as_node: Some(id), .. } => format!(" as {id}"),
            StartOptions { disk: false, .. } => " without disk".to_owned(),
            StartOptions { identity: false, .. } => " without identity".to_owned(),
            _ => String::new(),
        };
        self.did(format!("start {node}{extra}"));
        Ok(())
    }
    fn kill(&mut self, nodes: NodeSet) -> Result<(), Trouble> {
        self.running.retain(|n| !nodes.iter().any(|k| k.get() == *n));
        self.did(format!("kill {nodes}"));
        Ok(())
    }
    fn machine(&mut self, verb: MachineVerb, node: NodeId) -> Result<(), Trouble> {
        self.did(format!("{} {node}", verb.name()));
        Ok(())
    }
    fn command(&mut self, node: NodeId, text: &str) -> Result<String, Trouble> {
        self.did(format!("command {node} {text}"));
        self.replies.get(text).cloned().ok_or_else(|| Trouble::Failed(format!("node {node} says nothing")))
    }
    fn link(&mut self, fault: Fault, from: NodeSet, to: NodeSet, oneway: bool) -> Result<(), Trouble> {
        self.did(format!("{fault:?} from {from} to {to}{}", if oneway { " oneway" } else { "" }));
        Ok(())
    }
    fn heal(&mut self, between: Option<(NodeSet, NodeSet)>) -> Result<(), Trouble> {
        self.did(between.map_or_else(|| "heal all".to_owned(), |(a, b)| format!("heal {a} to {b}")));
        Ok(())
    }
    fn install_kernel(&mut self, node: NodeId, install: &Install) -> Result<(), Trouble> {
        let version = install.version.as_deref().unwrap_or("as built");
        self.did(format!("install {node} {} {version}{}", install.slot, if install.boot { " boot" } else { "" }));
        Ok(())
    }
    fn firmware_us(&self) -> u64 {
        self.firmware_us
    }
    fn disk(&mut self, fault: Option<DiskFault>, node: NodeId) -> Result<(), Trouble> {
        self.did(fault.map_or_else(|| format!("disk_heal {node}"), |f| format!("{f:?} {node}")));
        Ok(())
    }
    fn target_restart(&mut self, off_ms: u32) -> Result<(), Trouble> {
        self.did(format!("target_restart {off_ms}"));
        Ok(())
    }
    fn keys(&mut self) -> Result<Vec<u64>, Trouble> {
        Ok(self.keys.clone())
    }
    fn inject(&mut self, inject: &Inject) -> Result<(), Trouble> {
        self.did(format!("inject {:?} {:?} {:?}", inject.frames, inject.hostile, inject.schedule()));
        Ok(())
    }
    fn edit(&mut self, edit: ImageEdit, node: Option<NodeId>) -> Result<(), Trouble> {
        self.did(format!("image {edit:?} {node:?}"));
        Ok(())
    }
    fn regions(&mut self) -> Result<BTreeMap<String, String>, Trouble> {
        let now = self.regions.clone();
        if let Some(later) = self.regions_later.take() {
            self.regions = later;
        }
        Ok(now)
    }
    fn disk_view(&mut self) -> Result<DiskView, Trouble> {
        Ok(self.disk.clone())
    }
    fn finish(&mut self) -> Result<(), Trouble> {
        self.finished = true;
        Ok(())
    }
}

/// A scenario of three nodes with levels 60 and 70 and these steps.
pub fn scenario(steps: &str) -> Scenario {
    let head = "nodes = 3\n[[level]]\norder = 60\nname = \"low\"\n[[level]]\norder = 70\nname = \"high\"\n";
    let source = Source::new("test.toml", format!("{head}{steps}"));
    Scenario::parse(source).unwrap_or_else(|p| panic!("{p}"))
}

/// A node's `boot` line.
pub fn boot(node: u8, inc: u32) -> Value {
    json!({"ev": "boot", "node": node, "inc": inc, "version": "1", "cmdline": ""})
}

/// A node's `view` line.
pub fn view(node: u8, inc: u32, ballot: u64, number: u64, states: [&str; 3], incs: [u32; 3]) -> Value {
    json!({"ev": "view", "node": node, "inc": inc, "ballot": ballot, "view": number,
        "states": {"0": states[0], "1": states[1], "2": states[2]},
        "incs": {"0": incs[0], "1": incs[1], "2": incs[2]}})
}

/// A node's `lock` line.
pub fn lock(node: u8, phase: &str, ballot: u64) -> Value {
    json!({"ev": "lock", "node": node, "phase": phase, "ballot": ballot})
}

/// What three nodes trace until all are joined under node 0's ballot 64; to be scheduled.
pub fn all_joined() -> Vec<(u64, Value)> {
    let mut lines = Vec::new();
    for n in 0..3 {
        lines.push((1, boot(n, 1)));
    }
    lines.push((2, lock(0, "acquired", 64)));
    for n in 0..3 {
        for (level, name) in [(0, "membership"), (60, "low"), (70, "high")] {
            lines.push((3, json!({"ev": "register", "node": n, "level": level, "name": name, "barriers": {}})));
        }
        lines.push((4, view(n, 1, 64, 1, ["joining"; 3], [1; 3])));
    }
    for n in 0..3 {
        lines.push((10 + u64::from(n), view(n, 1, 64, 2, ["joined"; 3], [1; 3])));
    }
    lines
}
