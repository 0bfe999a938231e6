//! Which transitions are under way, at which barrier, and who has acknowledged: from the trace's `round`, `notify` and `ack`.

use std::collections::BTreeMap;

use quorate_base::{NodeId, NodeSet, NodeState};
use quorate_scenario::belief::state_of;
use quorate_trace::Line;

/// Rounds whose participants are remembered; a cluster of 64 nodes has fewer under way.
const ROUNDS_MAX: usize = 256;

/// A barrier that a transition stands at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The subject's life.
    pub inc: u32,
    /// The state that lasts with the transition.
    pub transition: Option<NodeState>,
    /// Barrier, from 0.
    pub barrier: u64,
    /// Who takes part; nobody while the round is not traced.
    pub participants: NodeSet,
    /// Who has acknowledged.
    pub acked: NodeSet,
    /// When this barrier was first told, µs of the harness.
    pub since_us: u64,
    /// The level's name.
    pub name: String,
    round: String,
}

impl Step {
    /// Who has not acknowledged yet.
    pub fn awaiting(&self) -> NodeSet {
        self.participants.minus(self.acked)
    }
}

/// All that is under way.
#[derive(Debug, Default)]
pub struct Steps {
    /// By level and subject.
    at: BTreeMap<(u16, u8), Step>,
    /// By level and round, in the order of receipt.
    rounds: Vec<((u16, String), NodeSet)>,
}

impl Steps {
    /// What a subject does at a level.
    pub fn at(&self, level: u16, subject: NodeId) -> Option<&Step> {
        self.at.get(&(level, subject.get()))
    }

    /// All of it: level, subject, step.
    pub fn all(&self) -> impl Iterator<Item = (u16, u8, &Step)> {
        self.at.iter().map(|((level, subject), step)| (*level, *subject, step))
    }

    /// A node is started: nothing of it is under way.
    pub fn begin(&mut self, node: NodeId) {
        self.at.retain(|(_, subject), _| *subject != node.get());
    }

    /// Takes one line into account.
    pub fn take(&mut self, line: &Line) {
        match line.ev.as_str() {
            "round" => self.round(line),
            "notify" => drop(self.told(line)),
            "ack" => {
                if let (Some(node), Some(step)) = (line.node.and_then(NodeId::new), self.told(line)) {
                    step.acked.insert(node);
                }
            }
            "state" => {
                let lasting = |state| matches!(state, NodeState::Joined | NodeState::Inactive);
                if let (Some((level, subject, inc)), true) =
                    (place(line), line.text("is").and_then(state_of).is_some_and(lasting))
                {
                    self.at.retain(|at, step| *at != (level, subject) || step.inc > inc);
                }
            }
            "view" => self.view(line),
            _ => {}
        }
    }

    fn round(&mut self, line: &Line) {
        let (Some(level), Some(round)) = (level_of(line), line.text("round")) else { return };
        let nodes = line.fields.get("participants").and_then(|p| p.as_array());
        let node = |value: &serde_json::Value| value.as_u64().and_then(|n| u8::try_from(n).ok()).and_then(NodeId::new);
        let participants: NodeSet = nodes.into_iter().flatten().filter_map(node).collect();
        for step in self.at.iter_mut().filter(|((l, _), s)| *l == level && s.round == round).map(|(_, step)| step) {
            step.participants = participants;
        }
        if self.rounds.len() == ROUNDS_MAX {
            self.rounds.remove(0);
        }
        self.rounds.push(((level, round.to_owned()), participants));
    }

    /// The step that a `notify` or `ack` is about; `None` for one that is over.
    fn told(&mut self, line: &Line) -> Option<&mut Step> {
        let (level, subject, inc) = place(line)?;
        let (round, barrier) = (line.text("round")?, line.uint("barrier")?);
        let transition = line.text("transition").and_then(state_of);
        let known = self.rounds.iter().rev().find(|((l, r), _)| *l == level && r == round);
        let new = Step {
            inc,
            transition,
            barrier,
            participants: known.map_or(NodeSet::EMPTY, |(_, nodes)| *nodes),
            acked: NodeSet::EMPTY,
            since_us: line.t_us,
            name: line.text("name").unwrap_or("").to_owned(),
            round: round.to_owned(),
        };
        // An acknowledgement begins nothing: it may come after the end of its step.
        if line.ev == "ack" {
            let step = self.at.get_mut(&(level, subject))?;
            return (step.inc == inc && step.round == round && step.barrier == barrier).then_some(step);
        }
        let step = self.at.entry((level, subject)).or_insert_with(|| new.clone());
        let newer = step.inc < inc || step.inc == inc && (step.round != round || step.barrier < barrier);
        if newer {
            *step = new;
        }
        Some(step)
    }

    /// Who has become joined or inactive in a committed view is through everywhere.
    fn view(&mut self, line: &Line) {
        let Some(view) = quorate_scenario::belief::SeenView::of(line) else { return };
        self.at.retain(|(_, subject), step| {
            let (state, inc) = view.nodes.get(subject).copied().unwrap_or_default();
            let lasting = match state {
                NodeState::Joined => step.transition == Some(NodeState::Joining),
                NodeState::Inactive => step.transition != Some(NodeState::Joining),
                _ => false,
            };
            !(lasting && inc >= step.inc)
        });
    }
}

fn level_of(line: &Line) -> Option<u16> {
    line.uint("level").and_then(|l| u16::try_from(l).ok())
}

fn place(line: &Line) -> Option<(u16, u8, u32)> {
    let subject = u8::try_from(line.uint("subject")?).ok()?;
    Some((level_of(line)?, subject, u32::try_from(line.uint("subject_inc")?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::tests::line;
    use serde_json::json;

    fn told(ev: &str, node: u8, barrier: u64) -> std::sync::Arc<Line> {
        line(
            u64::from(node),
            json!({"node": node, "ev": ev, "barrier": barrier, "level": 70, "name": "probe-b", "round": "65.5",
                "subject": 2, "subject_inc": 1, "transition": "joining"}),
        )
    }

    #[test]
    fn a_barrier_is_passed_when_all_participants_have_acknowledged() {
        let two = NodeId::new(2).unwrap();
        let mut steps = Steps::default();
        steps.take(&line(
            1,
            json!({"node": 1, "ev": "round", "level": 70, "participants": [0, 1, 2], "round": "65.5",
            "transitions": []}),
        ));
        steps.take(&told("notify", 1, 0));
        steps.take(&told("ack", 1, 0));
        steps.take(&told("notify", 0, 0));
        let step = steps.at(70, two).unwrap();
        assert_eq!((step.barrier, step.participants.len(), step.awaiting().to_string()), (0, 3, "0 2".to_owned()));
        steps.take(&told("notify", 0, 1));
        steps.take(&told("ack", 2, 0));
        let step = steps.at(70, two).unwrap();
        assert_eq!(
            (step.barrier, step.acked),
            (1, NodeSet::EMPTY),
            "a late word of the first barrier is not of the second"
        );
        let state = json!({"node": 0, "ev": "state", "is": "joined", "level": 70, "subject": 2, "subject_inc": 1});
        steps.take(&line(9, state));
        assert_eq!(steps.at(70, two), None);
        steps.take(&told("ack", 2, 1));
        assert_eq!(steps.at(70, two), None, "nor does it begin anything");
    }

    #[test]
    fn a_committed_view_ends_what_it_confirms() {
        let mut steps = Steps::default();
        steps.take(&told("notify", 0, 1));
        let view = |state: &str| {
            line(9, json!({"node": 0, "ev": "view", "ballot": 65, "view": 6, "states": {"2": state}, "incs": {"2": 1}}))
        };
        steps.take(&view("joining"));
        assert_eq!(steps.all().count(), 1);
        steps.take(&view("joined"));
        assert_eq!(steps.all().count(), 0);
    }
}
