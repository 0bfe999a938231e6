//! Tells what a right cluster of three nodes does, as a trace.

mod groups;
mod levels;
mod takeovers;

pub use groups::group_services;
pub use levels::{overdue, run_time_level, run_time_level_across_a_takeover, service_of_a_dead_node};
pub use takeovers::{deposed_master, deposed_master_waits, one_level_further, round_that_nobody_knows};

use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// A trace under way.
pub struct Story {
    /// What is told so far.
    pub lines: Vec<Value>,
    t_us: u64,
    lc: [u64; 3],
    inc: [u32; 3],
    states: [&'static str; 3],
    incs: [u32; 3],
    view: u64,
    ballot: u64,
    master: usize,
    sequence: u64,
    booted_us: [u64; 3],
    levels: Vec<(u16, &'static str, [u32; 3])>,
    rounds: BTreeMap<String, Value>,
}

/// Gives each stream `seq` from 0 without holes.
pub fn renumber(lines: &mut [Value]) {
    let mut next: HashMap<String, u64> = HashMap::new();
    for line in lines {
        let seq = next.entry(format!("{}.{}", line["node"], line["inc"])).or_default();
        line["seq"] = json!(*seq);
        *seq += 1;
    }
}

fn count(barriers: [u32; 3], transition: &str) -> u32 {
    match transition {
        "joining" => barriers[0],
        "leaving" => barriers[1],
        _ => barriers[2],
    }
}

impl Story {
    /// Before the first line.
    pub fn new(levels: &[(u16, &'static str, [u32; 3])]) -> Self {
        Self {
            lines: Vec::new(),
            t_us: 0,
            lc: [0; 3],
            inc: [0; 3],
            states: ["inactive"; 3],
            incs: [0; 3],
            view: 0,
            ballot: 0,
            master: 0,
            sequence: 0,
            booted_us: [0; 3],
            levels: levels.to_vec(),
            rounds: BTreeMap::new(),
        }
    }

    fn push(&mut self, common: Value, fields: Value) {
        self.t_us += 100;
        let mut line = common;
        line["t_us"] = json!(self.t_us);
        line["seq"] = json!(0);
        for (k, v) in fields.as_object().unwrap() {
            line[k] = v.clone();
        }
        self.lines.push(line);
    }

    fn harness(&mut self, fields: Value) {
        self.push(json!({"node": null, "inc": null, "nt_us": null, "lc": null}), fields);
    }

    fn step(&mut self, verb: &str, nodes: &[usize]) {
        self.harness(json!({"ev": "step", "index": 0, "do": verb, "nodes": nodes, "what": verb}));
    }

    fn tell(&mut self, node: usize, fields: Value) {
        self.lc[node] += 1;
        let nt_us = self.t_us + 100 - self.booted_us[node];
        self.push(json!({"node": node, "inc": self.inc[node], "nt_us": nt_us, "lc": self.lc[node]}), fields);
    }

    /// A message: the receiver's clock takes the sender's into account.
    fn send(&mut self, from: usize, to: usize) {
        self.lc[from] += 1;
        self.lc[to] = self.lc[to].max(self.lc[from]) + 1;
    }

    fn start(&mut self, nodes: &[usize]) {
        self.step("start", nodes);
        for node in nodes.iter().copied() {
            self.inc[node] += 1;
            self.lc[node] = 0;
            self.booted_us[node] = self.t_us;
            self.tell(node, json!({"ev": "boot", "version": "1", "cmdline": format!("node={node}")}));
            for (level, name, b) in self.levels.clone() {
                let barriers = json!({"joining": b[0], "leaving": b[1], "forced_leaving": b[2]});
                self.tell(node, json!({"ev": "register", "level": level, "name": name, "barriers": barriers}));
            }
        }
    }

    /// Nobody takes the lock from another whom it does not take for silent.
    fn acquire(&mut self, node: usize, ballot: u64) {
        let peer = self.master;
        let known = |l: &Value| l["ev"] == "suspect" && l["node"] == node && l["peer"] == peer && l["via"] == "disk";
        if self.ballot > 0 && peer != node && !self.lines.iter().any(known) {
            self.tell(node, json!({"ev": "suspect", "peer": peer, "via": "disk"}));
        }
        self.tell(node, json!({"ev": "lock", "phase": "want", "ballot": self.ballot}));
        (self.ballot, self.master) = (ballot, node);
        self.tell(node, json!({"ev": "lock", "phase": "acquired", "ballot": ballot}));
    }

    /// The master commits states, all live members adopt the view.
    fn commit(&mut self, changes: &[(usize, &'static str)], live: &[usize]) {
        self.view += 1;
        for (node, state) in changes {
            self.states[*node] = state;
            if *state == "joining" {
                self.incs[*node] = self.inc[*node];
                self.send(*node, self.master);
            }
        }
        self.announce(live);
    }

    fn announce(&mut self, live: &[usize]) {
        let by_id = |f: &dyn Fn(usize) -> Value| Value::Object((0..3).map(|n| (n.to_string(), f(n))).collect());
        let states = by_id(&|n| json!(self.states[n]));
        let incs = by_id(&|n| json!(self.incs[n]));
        let mut all = vec![self.master];
        all.extend(live.iter().filter(|n| **n != self.master));
        for node in all {
            self.send(self.master, node);
            let view = json!({"ev": "view", "ballot": self.ballot, "view": self.view, "states": states, "incs": incs});
            self.tell(node, view);
        }
    }

    fn round(&mut self, level: u16, transition: &str, subjects: &[usize], participants: &[usize]) -> String {
        self.sequence += 1;
        let name = format!("{}.{}", self.ballot, self.sequence);
        let transitions: Vec<Value> = subjects
            .iter()
            .map(|s| json!({"subject": s, "subject_inc": self.incs[*s], "transition": transition}))
            .collect();
        let round = json!({"ev": "round", "level": level, "round": name, "transitions": transitions,
            "participants": participants});
        self.rounds.insert(name.clone(), round.clone());
        self.tell(self.master, round);
        name
    }

    fn at_step(&mut self, ev: &str, node: usize, name: &str, subject: usize, barrier: u32) {
        let round = &self.rounds[name];
        let level = round["level"].as_u64().unwrap() as u16;
        let level_name = self.levels.iter().find(|l| l.0 == level).unwrap().1;
        let line = json!({"ev": ev, "level": level, "name": level_name, "round": name, "subject": subject,
            "subject_inc": self.incs[subject], "transition": round["transitions"][0]["transition"],
            "barrier": barrier});
        if ev == "notify" {
            self.send(self.master, node);
        }
        self.tell(node, line);
        if ev == "ack" {
            self.send(node, self.master);
        }
    }

    /// A transition at one level, through all its barriers.
    fn through(&mut self, level: u16, transition: &str, subjects: &[usize], participants: &[usize]) {
        let name = self.round(level, transition, subjects, participants);
        let barriers = self.levels.iter().find(|l| l.0 == level).unwrap().2;
        for barrier in 0..count(barriers, transition) {
            for ev in ["notify", "ack"] {
                for node in participants {
                    for subject in subjects {
                        self.at_step(ev, *node, &name, *subject, barrier);
                    }
                }
            }
        }
        self.states_at(level, transition, subjects, participants);
    }

    fn states_at(&mut self, level: u16, transition: &str, subjects: &[usize], participants: &[usize]) {
        let is = if transition == "joining" { "joined" } else { "inactive" };
        for node in participants {
            self.send(self.master, *node);
            for s in subjects {
                let state =
                    json!({"ev": "state", "subject": s, "subject_inc": self.incs[*s], "level": level, "is": is});
                self.tell(*node, state);
            }
        }
    }

    fn whole(&mut self, subject: usize, is: &str, live: &[usize]) {
        for node in live {
            let state = json!({"ev": "state", "subject": subject, "subject_inc": self.incs[subject], "level": null,
                "is": is});
            self.tell(*node, state);
        }
    }

    fn join(&mut self, subjects: &[usize], live: &[usize]) {
        let levels: Vec<u16> = self.levels.iter().map(|l| l.0).collect();
        self.join_at(&levels, subjects, live);
    }

    fn join_at(&mut self, levels: &[u16], subjects: &[usize], live: &[usize]) {
        self.commit(&subjects.iter().map(|s| (*s, "joining")).collect::<Vec<_>>(), live);
        for level in levels {
            self.through(*level, "joining", subjects, live);
        }
        self.commit(&subjects.iter().map(|s| (*s, "joined")).collect::<Vec<_>>(), live);
        for subject in subjects {
            self.whole(*subject, "joined", live);
        }
    }

    fn fence(&mut self, peer: usize) {
        let fence = |ev| json!({"ev": ev, "peer": peer, "peer_inc": self.incs[peer], "method": "lease", "ok": true});
        let (begin, end) = (fence("fence_begin"), fence("fence"));
        self.tell(self.master, begin);
        self.tell(self.master, end);
    }

    fn end(mut self) -> Self {
        self.harness(json!({"ev": "assert", "index": 1, "what": "all joined", "ok": true}));
        self.harness(json!({"ev": "end", "ok": true}));
        renumber(&mut self.lines);
        self
    }
}

/// EP Fig. 3–12, then a master that is killed in the middle of a leave, and comes back.
pub fn whole_life() -> Story {
    let mut s = Story::new(&[(20, "dlm", [1, 1, 1]), (70, "probe", [2, 1, 3])]);
    s.start(&[0]);
    s.acquire(0, 64);
    s.join(&[0], &[0]);
    s.start(&[1, 2]);
    s.join(&[1, 2], &[0, 1, 2]);
    // A graceful leave.
    s.commit(&[(2, "leaving")], &[0, 1, 2]);
    for level in [70, 20] {
        s.through(level, "leaving", &[2], &[0, 1, 2]);
    }
    s.commit(&[(2, "inactive")], &[0, 1, 2]);
    s.whole(2, "inactive", &[0, 1]);
    s.tell(2, json!({"ev": "halt", "reason": "left"}));
    s.start(&[2]);
    s.join(&[2], &[0, 1, 2]);
    // The master dies while node 2 leaves again: node 1 has acknowledged, node 2 has not.
    s.commit(&[(2, "leaving")], &[0, 1, 2]);
    let leave = s.round(70, "leaving", &[2], &[0, 1, 2]);
    for node in [0, 1, 2] {
        s.at_step("notify", node, &leave, 2, 0);
    }
    s.at_step("ack", 1, &leave, 2, 0);
    s.step("kill", &[0]);
    for node in [1, 2] {
        s.tell(node, json!({"ev": "suspect", "peer": 0, "via": "net"}));
        s.tell(node, json!({"ev": "suspect", "peer": 0, "via": "disk"}));
    }
    s.acquire(1, 129);
    s.announce(&[1, 2]);
    s.commit(&[(0, "forced-leaving")], &[1, 2]);
    s.tell(1, s.rounds[&leave].clone());
    s.at_step("ack", 2, &leave, 2, 0);
    s.states_at(70, "leaving", &[2], &[1, 2]);
    s.fence(0);
    s.through(20, "forced-leaving", &[0], &[1, 2]);
    s.through(70, "forced-leaving", &[0], &[1]);
    s.through(20, "leaving", &[2], &[1, 2]);
    s.commit(&[(0, "inactive")], &[1, 2]);
    s.whole(0, "inactive", &[1, 2]);
    s.commit(&[(2, "inactive")], &[1, 2]);
    s.tell(2, json!({"ev": "halt", "reason": "left"}));
    s.start(&[0]);
    s.join(&[0], &[0, 1]);
    s.end()
}

/// EP Fig. 13–15: node 1 hangs in its join at level 70 of 20, 70 and `top`; its forced leave climbs up to `last`.
pub fn fig_13_to_15(top: u16, last: u16) -> Story {
    let mut s = Story::new(&[(20, "dlm", [1, 1, 1]), (70, "sfs", [2, 1, 1]), (top, "events", [1, 1, 1])]);
    s.start(&[0, 1]);
    s.acquire(0, 64);
    s.join(&[0], &[0]);
    s.commit(&[(1, "joining")], &[0, 1]);
    s.through(20, "joining", &[1], &[0, 1]);
    let hung = s.round(70, "joining", &[1], &[0, 1]);
    for node in [0, 1] {
        s.at_step("notify", node, &hung, 1, 0);
    }
    s.at_step("ack", 0, &hung, 1, 0);
    s.step("cut", &[1]);
    s.commit(&[(1, "forced-leaving")], &[0]);
    s.tell(1, json!({"ev": "panic", "reason": "put out"}));
    s.fence(1);
    for level in [20, 70, top] {
        if level <= last {
            s.through(level, "forced-leaving", &[1], &[0]);
        }
    }
    s.commit(&[(1, "inactive")], &[0]);
    s.whole(1, "inactive", &[0]);
    s.end()
}

/// All nodes are killed and come back: the first master puts all old lives out in one view (DESIGN 5).
pub fn power_loss() -> Story {
    let mut s = Story::new(&[(20, "dlm", [1, 1, 1])]);
    s.start(&[0, 1, 2]);
    s.acquire(0, 64);
    s.join(&[0, 1, 2], &[0, 1, 2]);
    s.step("kill", &[0, 1, 2]);
    s.start(&[0, 1, 2]);
    s.lc = [900, 910, 920];
    s.acquire(2, 130);
    s.commit(&[(0, "forced-leaving"), (1, "forced-leaving"), (2, "forced-leaving")], &[2]);
    for peer in [0, 1, 2] {
        s.fence(peer);
        // Nobody is left to be notified.
        s.states_at(20, "forced-leaving", &[peer], &[2]);
    }
    s.commit(&[(0, "inactive"), (1, "inactive"), (2, "inactive")], &[2]);
    s.join(&[0, 1, 2], &[0, 1, 2]);
    s.end()
}
