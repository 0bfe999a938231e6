//! What each node believes, from its own trace alone: its life, the view it adopted, the lock, each level's state vector.
//!
//! Also the live view of `cluster up` stands on this.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use quorate_base::capacity::NODES_MAX;
use quorate_base::{NodeId, NodeSet, NodeState};
use quorate_trace::Line;
use serde_json::Value;

/// How many of a node's last lines are kept for the report of a failure.
const RECENT_LINES: usize = 10;

/// How a life ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    /// Unwanted (EP's panic), else a wanted halt.
    pub panic: bool,
    /// In the node's words.
    pub reason: String,
}

/// A view as a node adopted it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SeenView {
    /// Its ballot.
    pub ballot: u64,
    /// Its number.
    pub number: u64,
    /// State and incarnation of the configured nodes.
    pub nodes: BTreeMap<u8, (NodeState, u32)>,
}

impl SeenView {
    /// From a `view` line.
    pub fn of(line: &Line) -> Option<Self> {
        let mut nodes = BTreeMap::new();
        let incs = line.fields.get("incs")?;
        for (node, state) in line.fields.get("states")?.as_object()? {
            let inc = incs.get(node).and_then(Value::as_u64).and_then(|i| u32::try_from(i).ok()).unwrap_or(0);
            nodes.insert(node.parse().ok()?, (state_of(state.as_str()?)?, inc));
        }
        Some(Self { ballot: line.uint("ballot")?, number: line.uint("view")?, nodes })
    }

    /// State and incarnation of a node.
    pub fn of_node(&self, node: NodeId) -> (NodeState, u32) {
        self.nodes.get(&node.get()).copied().unwrap_or_default()
    }
}

/// The state of that name.
pub fn state_of(name: &str) -> Option<NodeState> {
    (0..5).filter_map(NodeState::from_u8).find(|s| s.name() == name)
}

/// One life of a node, as far as it is traced.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// Its incarnation, once `boot` is traced.
    pub inc: Option<u32>,
    /// When `boot` was received.
    pub boot_us: Option<u64>,
    /// How it ended.
    pub end: Option<End>,
    /// The newest view it adopted.
    pub view: Option<SeenView>,
    /// Under which ballot it holds the master lock.
    pub holds: Option<u64>,
    /// The levels it registered, by order.
    pub levels: BTreeMap<u16, String>,
    /// Those of them that came at run time: the view says nothing about who is there.
    run_time: BTreeSet<u16>,
    /// The newest that a level saw of a subject: incarnation and state.
    at: BTreeMap<(u16, u8), (u32, NodeState)>,
    /// The last lines.
    pub recent: VecDeque<Arc<Line>>,
}

impl Life {
    /// State and incarnation of a subject as this life sees it, as a whole or at one of its levels. `None` while it
    /// has adopted no view.
    ///
    /// A level that was told nothing of a subject yet has it as the view has it: "a newcomer's starting vector is not
    /// written out" (harness contract).
    pub fn sees(&self, subject: NodeId, level: Option<u16>) -> Option<(NodeState, u32)> {
        let whole = self.view.as_ref().map(|v| v.of_node(subject));
        let Some(level) = level else { return whole };
        match (self.at.get(&(level, subject.get())), whole) {
            (Some((inc, state)), Some((_, view_inc))) if *inc >= view_inc => Some((*state, *inc)),
            (Some((inc, state)), None) => Some((*state, *inc)),
            (_, Some((_, inc))) if self.run_time.contains(&level) => Some((NodeState::Inactive, inc)),
            // Joining and not told yet: at this level it is not in.
            (_, Some((NodeState::Joining, inc))) => Some((NodeState::Inactive, inc)),
            // On its way out and not told yet: at this level it is still in.
            (_, Some((NodeState::Leaving | NodeState::ForcedLeaving, inc))) => Some((NodeState::Joined, inc)),
            (_, whole) => whole,
        }
    }
}

/// What all nodes believe.
#[derive(Clone, Debug)]
pub struct Beliefs {
    lives: Vec<Life>,
}

impl Default for Beliefs {
    fn default() -> Self {
        Self { lives: vec![Life::default(); NODES_MAX] }
    }
}

impl Beliefs {
    /// A node's present life, or its last one.
    pub fn life(&self, node: NodeId) -> &Life {
        static NONE: Life = Life {
            inc: None,
            boot_us: None,
            end: None,
            view: None,
            holds: None,
            levels: BTreeMap::new(),
            run_time: BTreeSet::new(),
            at: BTreeMap::new(),
            recent: VecDeque::new(),
        };
        self.lives.get(node.index()).unwrap_or(&NONE)
    }

    /// A node is about to be started or reset: what it believed is gone, and late lines of its old life do not count.
    pub fn begin(&mut self, node: NodeId) {
        if let Some(life) = self.lives.get_mut(node.index()) {
            *life = Life::default();
        }
    }

    /// Takes one line into account.
    pub fn take(&mut self, line: &Arc<Line>) {
        let Some(life) = line.node.and_then(|n| self.lives.get_mut(usize::from(n))) else { return };
        if line.ev == "boot" && line.inc >= life.inc {
            *life = Life { inc: line.inc, boot_us: Some(line.t_us), ..Life::default() };
        } else if line.inc != life.inc && line.inc.is_some() {
            // Late, from before a reset.
            return;
        }
        if life.recent.len() == RECENT_LINES {
            life.recent.pop_front();
        }
        life.recent.push_back(line.clone());
        life.take(line);
        self.starting_vector(line);
    }

    /// A node that is in at a run-time level has there, of all others, what they have of themselves: its starting vector is
    /// not written out.
    fn starting_vector(&mut self, line: &Line) {
        let (Some(me), Some(level)) = (line.node, level_of(line)) else { return };
        if line.ev != "state" || line.uint("subject") != Some(me.into()) || line.text("is") != Some("joined") {
            return;
        }
        let known: Vec<((u16, u8), (u32, NodeState))> = (0_u8..)
            .zip(&self.lives)
            .filter(|(n, _)| *n != me)
            .filter_map(|(n, life)| life.at.get(&(level, n)).map(|seen| ((level, n), *seen)))
            .collect();
        if let Some(life) = self.lives.get_mut(usize::from(me)).filter(|life| life.run_time.contains(&level)) {
            life.at.extend(known);
        }
    }

    /// Who of `live` holds the newest ballot.
    pub fn master(&self, live: NodeSet) -> Option<NodeId> {
        live.iter().filter_map(|n| self.life(n).holds.map(|b| (b, n))).max().map(|(_, n)| n)
    }

    /// The newest view that any of `live` has adopted.
    pub fn newest_view(&self, live: NodeSet) -> Option<&SeenView> {
        live.iter().filter_map(|n| self.life(n).view.as_ref()).max_by_key(|v| (v.number, v.ballot))
    }

    /// Those of `live` whose present life is joined in the newest view, whether or not they have adopted it already.
    pub fn joined(&self, live: NodeSet) -> NodeSet {
        let Some(view) = self.newest_view(live) else { return NodeSet::EMPTY };
        let is_joined = |n: NodeId| {
            let (state, inc) = view.of_node(n);
            state == NodeState::Joined && self.life(n).inc == Some(inc)
        };
        live.iter().filter(|n| is_joined(*n)).collect()
    }
}

impl Life {
    fn take(&mut self, line: &Line) {
        let reason = || line.text("reason").unwrap_or("no reason given").to_owned();
        match line.ev.as_str() {
            "panic" => self.end = Some(End { panic: true, reason: reason() }),
            "halt" => self.end = Some(End { panic: false, reason: reason() }),
            "view" => {
                if let Some(view) = SeenView::of(line) {
                    self.adopt(view);
                }
            }
            "lock" => match line.text("phase") {
                Some("acquired") => self.holds = line.uint("ballot"),
                Some("released" | "lost") => self.holds = None,
                _ => {}
            },
            "register" => {
                if let Some(level) = level_of(line) {
                    self.levels.insert(level, line.text("name").unwrap_or("").to_owned());
                    // The static ones are registered before anything else.
                    if self.view.is_some() {
                        self.run_time.insert(level);
                    }
                }
            }
            "deregister" => {
                if let Some(level) = level_of(line) {
                    self.levels.remove(&level);
                    self.run_time.remove(&level);
                    self.at.retain(|(at, _), _| *at != level);
                }
            }
            "notify" => {
                // A transition has the name of the state that lasts with it.
                let state = line.text("transition").and_then(state_of);
                self.at_level(line, state);
            }
            "state" => {
                let state = line.text("is").and_then(state_of);
                self.at_level(line, state);
            }
            _ => {}
        }
    }

    /// A node that has just become joined is through at every level that had begun, one that has become inactive is so
    /// at all: the view may come before the word of the last level.
    fn adopt(&mut self, view: SeenView) {
        for (node, (state, inc)) in &view.nodes {
            let before = self.view.as_ref().and_then(|v| v.nodes.get(node));
            if before == Some(&(*state, *inc)) || !matches!(state, NodeState::Joined | NodeState::Inactive) {
                continue;
            }
            for ((level, subject), seen) in &mut self.at {
                let bound = *state == NodeState::Inactive || !self.run_time.contains(level);
                if subject == node && seen.0 <= *inc && bound {
                    *seen = (*inc, *state);
                }
            }
        }
        self.view = Some(view);
    }

    fn at_level(&mut self, line: &Line, state: Option<NodeState>) {
        let subject = line.uint("subject").and_then(|n| u8::try_from(n).ok());
        let inc = line.uint("subject_inc").and_then(|n| u32::try_from(n).ok());
        if let (Some(level), Some(subject), Some(inc), Some(state)) = (level_of(line), subject, inc, state) {
            let entry = self.at.entry((level, subject)).or_insert((inc, state));
            if inc >= entry.0 {
                *entry = (inc, state);
            }
        }
    }
}

fn level_of(line: &Line) -> Option<u16> {
    line.uint("level").and_then(|n| u16::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn beliefs(lines: &[(u8, &str, Value)]) -> Beliefs {
        let mut beliefs = Beliefs::default();
        for (node, ev, fields) in lines {
            let mut line = json!({"t_us": 0, "node": node, "inc": 1, "nt_us": 0, "seq": 0, "lc": 0, "ev": ev});
            if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
                line.extend(fields.clone());
            }
            beliefs.take(&Arc::new(Line::parse(&line.to_string()).unwrap()));
        }
        beliefs
    }

    #[test]
    fn who_is_in_at_a_run_time_level_is_not_in_the_view() {
        let n = |id| NodeId::new(id).unwrap();
        let level = |order: u16| json!({"level": order, "name": "x", "barriers": {}});
        let view = json!({"ballot": 65, "view": 3, "states": {"0": "joined", "1": "joined"}, "incs": {"0": 1, "1": 1}});
        let joined = |subject: u8| json!({"subject": subject, "subject_inc": 1, "level": 120, "is": "joined"});
        let mut lines = vec![];
        for node in [0, 1] {
            lines.push((node, "boot", json!({"version": "", "cmdline": ""})));
            lines.push((node, "register", level(70)));
            lines.push((node, "view", view.clone()));
        }
        lines.push((0, "register", level(120)));
        let seen = |b: &Beliefs, by, of, level| b.life(n(by)).sees(n(of), Some(level)).map(|(state, _)| state);
        let before = beliefs(&lines);
        assert_eq!(seen(&before, 0, 0, 70), Some(NodeState::Joined), "a static level goes with the view");
        assert_eq!(seen(&before, 0, 0, 120), Some(NodeState::Inactive), "registered, and not in yet");
        lines.push((0, "state", joined(0)));
        lines.push((1, "register", level(120)));
        lines.push((1, "state", joined(1)));
        let after = beliefs(&lines);
        assert_eq!(seen(&after, 1, 0, 120), Some(NodeState::Joined), "the starting vector is not written out");
        assert_eq!(seen(&after, 0, 1, 120), Some(NodeState::Inactive), "node 0 has said nothing of it");
        lines.push((1, "deregister", level(120)));
        assert!(!beliefs(&lines).life(n(1)).levels.contains_key(&120));
    }
}
