//! The live view: a line for every change, and a table of nodes and levels.

use std::collections::{BTreeMap, BTreeSet};

use quorate_base::{NodeId, NodeSet, NodeState};
use quorate_scenario::belief::{Beliefs, SeenView, state_of};
use quorate_trace::Line;

/// A line for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// It.
    pub text: String,
    /// Whom it is about; nobody: everybody.
    pub about: NodeSet,
    /// Something is lost: a node, a lease, the sight of a node.
    pub grave: bool,
}

impl Told {
    /// About everybody.
    pub fn all(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// Turns trace lines into lines for people; tells each fact once, though every node traces it.
#[derive(Debug, Default)]
pub struct Changes {
    views: BTreeSet<u64>,
    states: BTreeSet<(u8, u32, Option<u64>, String)>,
    before: BTreeMap<u8, (NodeState, u32)>,
    levels: BTreeMap<u64, String>,
    started: BTreeMap<u8, u64>,
    ways: BTreeMap<u8, Way>,
}

/// A node's way to joined: what was reached and when, µs after its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    inc: u32,
    stations: Vec<(String, u64)>,
}

impl Changes {
    /// A machine is started now.
    pub fn started(&mut self, node: NodeId, now_us: u64) {
        self.started.insert(node.get(), now_us);
        self.ways.remove(&node.get());
    }

    /// What a line tells that is new.
    pub fn take(&mut self, line: &Line) -> Vec<Told> {
        let Some(node) = line.node else {
            return match line.ev.as_str() {
                "note" => vec![Told::all(said(line, format!("harness: {}", line.text("what").unwrap_or(""))))],
                _ => Vec::new(),
            };
        };
        let reason = || line.text("reason").or(line.text("why")).or(line.text("what")).unwrap_or("");
        let peer = || line.uint("peer").unwrap_or(0);
        let what = match line.ev.as_str() {
            "boot" => {
                self.station(node, line.inc.unwrap_or(0), "boot", line.t_us);
                format!("node {node} booted, incarnation {}", line.inc.unwrap_or(0))
            }
            "register" => {
                if let (Some(level), Some(name)) = (line.uint("level"), line.text("name")) {
                    self.levels.insert(level, name.to_owned());
                }
                return Vec::new();
            }
            "lock" => match line.text("phase") {
                Some("acquired") => format!("node {node} is master, ballot {}", line.uint("ballot").unwrap_or(0)),
                Some("released") => format!("node {node} gave the master lock back"),
                Some("lost") => format!("node {node} lost the master lock"),
                _ => return Vec::new(),
            },
            "view" => return self.view(line),
            "state" => match self.state(line) {
                Some(what) => what,
                None => return Vec::new(),
            },
            "suspect" => format!("node {node} no longer hears node {} ({})", peer(), line.text("via").unwrap_or("")),
            "trust" => format!("node {node} hears node {} ({})", peer(), line.text("via").unwrap_or("")),
            "freeze" => format!("node {node} FROZEN: {}", reason()),
            "thaw" => format!("node {node} thawed: {}", reason()),
            "fence" => format!("node {node} fenced node {} ({})", peer(), line.text("method").unwrap_or("")),
            "refuse" => format!("node {node} refused node {}: {}", peer(), reason()),
            "panic" => format!("node {node} PANICKED: {}", reason()),
            "halt" => format!("node {node} halted: {}", reason()),
            "epitaph" => format!("node {node} on its last life: {}: {}", line.text("how").unwrap_or(""), reason()),
            "note" => format!("node {node}: {}", reason()),
            _ => return Vec::new(),
        };
        let grave = matches!(line.ev.as_str(), "suspect" | "freeze" | "fence" | "panic" | "halt");
        let whom = |name: &str| line.uint(name).and_then(|n| u8::try_from(n).ok());
        // What is told of a subject's state is about the subject, whoever traced it first.
        let about = if line.ev == "state" { [whom("subject"), None] } else { [Some(node), whom("peer")] };
        let about = about.into_iter().flatten().filter_map(NodeId::new).collect();
        vec![Told { text: said(line, what), about, grave }]
    }

    fn view(&mut self, line: &Line) -> Vec<Told> {
        let Some(view) = SeenView::of(line).filter(|v| self.views.insert(v.number)) else { return Vec::new() };
        let mut lines = Vec::new();
        for (node, now) in &view.nodes {
            let before = self.before.insert(*node, *now).unwrap_or_default();
            if before != *now {
                let (state, inc) = now;
                let text = said(line, format!("node {node} {state} (incarnation {inc}, view {})", view.number));
                let about = NodeId::new(*node).into_iter().collect();
                lines.push(Told { text, about, grave: *state == NodeState::ForcedLeaving });
                if *state == NodeState::Joined {
                    self.station(*node, *inc, "joined", line.t_us);
                }
            }
        }
        lines
    }

    fn state(&mut self, line: &Line) -> Option<String> {
        let subject = u8::try_from(line.uint("subject")?).ok()?;
        let inc = u32::try_from(line.uint("subject_inc")?).ok()?;
        let level = line.uint("level")?;
        let is = line.text("is")?;
        if !self.states.insert((subject, inc, Some(level), is.to_owned())) {
            return None;
        }
        let name = self.levels.get(&level).cloned().unwrap_or_else(|| "?".to_owned());
        if state_of(is) == Some(NodeState::Joined) {
            self.station(subject, inc, &name, line.t_us);
        }
        Some(format!("node {subject} {is} at level {level} {name}"))
    }

    fn station(&mut self, node: u8, inc: u32, what: &str, t_us: u64) {
        let after = t_us.saturating_sub(self.started.get(&node).copied().unwrap_or(0));
        let way = self.ways.entry(node).or_default();
        if inc > way.inc {
            *way = Way { inc, stations: Vec::new() };
        }
        if inc == way.inc && !way.stations.iter().any(|(station, _)| station == what) {
            way.stations.push((what.to_owned(), after));
        }
    }

    /// Each node's way to joined, one line each.
    pub fn ways(&self) -> Vec<String> {
        let line = |(node, way): (&u8, &Way)| {
            let stations: Vec<String> =
                way.stations.iter().map(|(what, us)| format!("{what} {:.2} s", *us as f64 / 1e6)).collect();
            format!("node {node}: {}", stations.join(" > "))
        };
        self.ways.iter().map(line).collect()
    }
}

fn said(line: &Line, what: String) -> String {
    format!("{:8.3} s  {what}", line.t_us as f64 / 1e6)
}

/// Who runs, and how, for the table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machines {
    /// All.
    pub configured: NodeSet,
    /// Those with a process.
    pub running: NodeSet,
    /// Those that are stopped from outside.
    pub stopped: NodeSet,
}

/// The table of nodes and levels.
pub fn table(beliefs: &Beliefs, machines: Machines) -> Vec<String> {
    let live: NodeSet =
        machines.running.minus(machines.stopped).iter().filter(|n| beliefs.life(*n).end.is_none()).collect();
    let master = beliefs.master(live);
    let levels: BTreeMap<u16, &String> =
        machines.configured.iter().flat_map(|n| beliefs.life(n).levels.iter().map(|(l, name)| (*l, name))).collect();
    let mut rows = vec![vec!["node".to_owned(), "machine".to_owned(), "inc".to_owned(), "as a whole".to_owned()]];
    rows[0].extend(levels.iter().map(|(order, name)| format!("{order} {name}")));
    for node in machines.configured {
        let life = beliefs.life(node);
        let machine = match &life.end {
            Some(end) if end.panic && machines.running.contains(node) => "panicked",
            Some(_) if machines.running.contains(node) => "halted",
            _ if machines.stopped.contains(node) => "paused",
            _ if machines.running.contains(node) => "runs",
            _ => "off",
        };
        let star = if master == Some(node) { " *" } else { "" };
        let mut row = vec![format!("{node}{star}"), machine.to_owned()];
        row.push(life.inc.map_or_else(|| "-".to_owned(), |i| i.to_string()));
        let cell = |level| seen(node, level, master, live, beliefs).map_or("-", NodeState::name).to_owned();
        row.push(cell(None));
        row.extend(levels.keys().map(|l| cell(Some(*l))));
        rows.push(row);
    }
    aligned(&rows)
}

/// A node's state as the master sees it, else as any live node does.
pub fn seen(
    node: NodeId,
    level: Option<u16>,
    master: Option<NodeId>,
    live: NodeSet,
    beliefs: &Beliefs,
) -> Option<NodeState> {
    let viewers = master.into_iter().chain(live.iter());
    let (state, inc) = viewers.into_iter().find_map(|v| beliefs.life(v).sees(node, level))?;
    // Of another life than the present one nothing is said.
    if beliefs.life(node).inc.is_some_and(|own| own > inc) { Some(NodeState::Inactive) } else { Some(state) }
}

fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:w$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn line(t_ms: u64, mut json: Value) -> Arc<Line> {
        let common = json!({"t_us": t_ms * 1000, "inc": 1, "nt_us": 0, "seq": 0, "lc": 0});
        if let (Some(to), Some(from)) = (json.as_object_mut(), common.as_object()) {
            for (key, value) in from {
                to.entry(key).or_insert(value.clone());
            }
        }
        Arc::new(Line::parse(&json.to_string()).unwrap())
    }

    fn run() -> Vec<Arc<Line>> {
        let view = |node: u8, t, number: u64, state: &str| {
            let (states, incs) = (json!({"0": state, "1": "inactive"}), json!({"0": 1, "1": 0}));
            line(t, json!({"node": node, "ev": "view", "ballot": 64, "view": number, "states": states, "incs": incs}))
        };
        let at = |node: u8, t, level: u16| {
            line(
                t,
                json!({"node": node, "ev": "state", "subject": 0, "subject_inc": 1, "level": level, "is": "joined"}),
            )
        };
        vec![
            line(200, json!({"node": 0, "ev": "boot", "version": "1", "cmdline": ""})),
            line(201, json!({"node": 0, "ev": "register", "level": 60, "name": "probe-a", "barriers": {}})),
            line(300, json!({"node": 0, "ev": "lock", "phase": "acquired", "ballot": 64})),
            view(0, 310, 1, "joining"),
            at(0, 330, 60),
            at(1, 331, 60),
            view(0, 350, 2, "joined"),
            view(1, 351, 2, "joined"),
        ]
    }

    #[test]
    fn each_fact_is_told_once() {
        let mut changes = Changes::default();
        changes.started(NodeId::new(0).unwrap(), 100_000);
        let told: Vec<String> = run().iter().flat_map(|l| changes.take(l)).map(|told| told.text).collect();
        let want = [
            "   0.200 s  node 0 booted, incarnation 1",
            "   0.300 s  node 0 is master, ballot 64",
            "   0.310 s  node 0 joining (incarnation 1, view 1)",
            "   0.330 s  node 0 joined at level 60 probe-a",
            "   0.350 s  node 0 joined (incarnation 1, view 2)",
        ];
        assert_eq!(told, want);
        assert_eq!(changes.ways(), ["node 0: boot 0.10 s > probe-a 0.23 s > joined 0.25 s"]);
    }

    #[test]
    fn the_table_has_a_column_for_every_level() {
        let mut beliefs = Beliefs::default();
        run().iter().for_each(|l| beliefs.take(l));
        let first = NodeSet::first(1);
        let machines = Machines { configured: NodeSet::first(2), running: first, stopped: NodeSet::EMPTY };
        let want = [
            "node  machine  inc  as a whole  60 probe-a",
            "0 *   runs     1    joined      joined",
            "1     off      -    inactive    inactive",
        ];
        assert_eq!(table(&beliefs, machines), want);
        let paused = table(&beliefs, Machines { stopped: first, ..machines });
        assert!(paused[1].starts_with("0     paused"), "{paused:?}");
    }
}
