//! The state vector of each level: what it was told of every node, held against EP Fig. 2 and Table 1 (MISSION A1, A7).
//!
//! ```text
//!            ┌──── all acknowledged ────▶ Joined ───▶ Leaving ──┐
//! Inactive ──▶ Joining                      │            │      │ all acknowledged
//!    ▲            └───────▶ ForcedLeaving ◀─┴────────────┘      │
//!    └───── all acknowledged ────┴──────────────────────────────┘
//! ```
//!
//! A newcomer's starting vector is not written out. So a subject of which a level was told nothing is what it was when the
//! level was told of anything first: joined there if its own join was through by then and no leave, inactive if not.

use crate::ledger::{At, Ledger, Progress};
use crate::line::{Life, NodeState, StepEvent, Transition};
use crate::map::Map;
use crate::rule::{Findings, Rule};

/// All vectors, by node and level.
#[derive(Debug, Default)]
pub(crate) struct Vectors {
    told: Map<(Life, u16), Vec<(Life, NodeState)>>,
    /// When a level was first told of anything: the rest of that vector is where it starts from.
    came: Map<(Life, u16), u64>,
}

impl Vectors {
    /// What a level was told of a subject, if it was told anything.
    pub(crate) fn told(&self, life: Life, level: u16, subject: Life) -> Option<NodeState> {
        let told = self.told.get(&(life, level))?;
        told.iter().find(|(of, _)| *of == subject).map(|(_, state)| *state)
    }

    /// Levels of `life` below `level` that were told of a subject and do not have it inactive.
    pub(crate) fn unfinished_below<'a>(
        &'a self,
        life: Life,
        level: u16,
        subject: Life,
        levels: impl Iterator<Item = u16> + 'a,
    ) -> impl Iterator<Item = u16> + 'a {
        use NodeState::{Joined, Joining, Leaving};
        levels.filter(move |l| *l < level && matches!(self.told(life, *l, subject), Some(Joining | Joined | Leaving)))
    }

    /// A notification.
    pub(crate) fn on_notify(
        &mut self,
        life: Life,
        event: &StepEvent,
        ledger: &mut Ledger,
        at: At<'_>,
        out: &mut Findings,
    ) {
        use NodeState::{ForcedLeaving, Inactive, Joined, Joining, Leaving};
        let (level, subject) = (event.level, event.subject);
        let first = !self.came.contains_key(&(life, level));
        self.came.entry((life, level)).or_insert(at.lc);
        let is = self.state(life, level, subject, ledger, at);
        let told = self.told(life, level, subject).is_some();
        // What a node that was put out while it stood still takes from its queue then is about the time before.
        let late = || at.history.seen_before(life, ForcedLeaving, at.lc);
        let legal = match (event.transition, event.barrier) {
            // What it was is not told of a level that came while the subject was being put out: the join comes first.
            (Transition::Joining, 0) => is == Inactive || !told && (is == ForcedLeaving || is == Joined && late()),
            // Joined it is when all have acknowledged, whether or not the level was told (Table 1, second column).
            (Transition::Leaving, 0) if is == Joining => {
                let join = (subject, Transition::Joining, level);
                matches!(ledger.transition_through(join, event.round.ballot, at), Progress::Through(_))
            }
            (Transition::Leaving, 0) => is == Joined,
            // With its first notification a level gets its starting vector, and what changes in it.
            (Transition::ForcedLeaving, 0) => first || matches!(is, Joining | Joined | Leaving | ForcedLeaving),
            (transition, _) => is == transition.during(),
        };
        if !legal {
            let what = format!(
                "{} of {subject}, barrier {}, at level {level}, which has it {}",
                event.transition.name(),
                event.barrier,
                is.name()
            );
            out.add(Rule::TableOne, what);
        }
        self.set(life, level, subject, event.transition.during());
    }

    /// A state was reported. `all_acked` is judged elsewhere; here it must follow what was told, and be said once.
    pub(crate) fn on_state(&mut self, life: Life, level: u16, subject: Life, to: NodeState, out: &mut Findings) {
        use NodeState::{ForcedLeaving, Inactive, Joined, Joining, Leaving};
        let from = self.told(life, level, subject);
        let what = || format!("{subject} is {} at level {level}", to.name());
        match (from, to) {
            (Some(is), _) if is == to => out.add(Rule::StateTwice, format!("{}, as it was before", what())),
            (Some(Joining), Joined) | (Some(Leaving | ForcedLeaving), Inactive) => {}
            // Whom nobody can be told of: a level that came later, or after a loss of all power.
            (None, _) => {}
            // A level that its own node has left hears of nothing any more.
            _ if matches!(self.told(life, level, life), Some(Leaving | Inactive)) => {}
            (Some(is), _) => {
                out.add(Rule::TableOne, format!("{}, but the level was told {} last", what(), is.name()));
            }
        }
        self.set(life, level, subject, to);
    }

    /// The level of this node is gone, and its vector with it.
    pub(crate) fn gone(&mut self, life: Life, level: u16) {
        self.told.remove(&(life, level));
        self.came.remove(&(life, level));
    }

    /// A leave of this subject from the level is through everywhere: whoever was told of it has it inactive.
    pub(crate) fn left(&mut self, level: u16, subject: Life) {
        let cells = self.told.iter_mut().filter(|((_, l), _)| *l == level).flat_map(|(_, told)| told);
        for (_, is) in cells.filter(|(of, _)| *of == subject) {
            if matches!(is, NodeState::Leaving | NodeState::ForcedLeaving) {
                *is = NodeState::Inactive;
            }
        }
    }

    /// The subject begins at this level anew. A node that the others put out while it stood still may yet say what it did
    /// about the time before: it has the subject as its level had it when that came.
    pub(crate) fn begins_again(&mut self, level: u16, subject: Life, ledger: &mut Ledger, at: At<'_>) {
        let here: Vec<Life> = self.came.keys().filter(|(_, l)| *l == level).map(|(life, _)| *life).collect();
        let is_out = |life: &Life| at.history.seen_before(*life, NodeState::ForcedLeaving, at.lc);
        for life in here.into_iter().filter(|life| *life != subject && is_out(life)) {
            if self.told(life, level, subject).is_none()
                && self.presumed(life, level, subject, ledger, at) == NodeState::Joined
            {
                self.set(life, level, subject, NodeState::Joined);
            }
        }
    }

    fn set(&mut self, life: Life, level: u16, subject: Life, state: NodeState) {
        let told = self.told.entry((life, level)).or_default();
        match told.iter_mut().find(|(of, _)| *of == subject) {
            Some((_, is)) => *is = state,
            None => told.push((subject, state)),
        }
    }

    /// What a level has a subject as: what it was told, or else what the subject was when the level itself came.
    pub(crate) fn state(&self, life: Life, level: u16, subject: Life, ledger: &mut Ledger, at: At<'_>) -> NodeState {
        self.told(life, level, subject).unwrap_or_else(|| self.presumed(life, level, subject, ledger, at))
    }

    fn presumed(&self, life: Life, level: u16, subject: Life, ledger: &mut Ledger, at: At<'_>) -> NodeState {
        let Some(came) = self.came.get(&(life, level)).copied() else { return NodeState::Inactive };
        // A join waits until the forced leave has passed the level (DESIGN 5): the subject is inactive there then. Where
        // nobody lived who could be asked, and so nobody acknowledged, nothing shows how far it was.
        let round = ledger.newest(life, Transition::Joining, level, u64::MAX).and_then(|name| ledger.rounds.get(&name));
        if let Some(began) = round.map(|round| round.lc) {
            let forced = (subject, Transition::ForcedLeaving, level);
            let before = At { lc: began, ..at };
            if matches!(ledger.transition_through(forced, u64::MAX, before), Progress::Through(1..)) {
                return NodeState::Inactive;
            }
        }
        if at.history.seen_before(subject, NodeState::ForcedLeaving, came) {
            return NodeState::ForcedLeaving;
        }
        let before = At { lc: came, ..at };
        // A round that began after the level came is another matter: a new master names the join anew that it does not know
        // to be through, in case somebody was not told of it (DESIGN 5).
        let mut through = |transition, least| {
            let round = ledger.newest_begun((subject, transition, level), came);
            let through = round.map(|name| ledger.round_through(name, subject, transition, before));
            through.is_some_and(|progress| matches!(progress, Progress::Through(last) if last >= least))
        };
        // Whoever joins acknowledges that itself. Of a round that nobody acknowledged nobody but its master ever knew.
        let joined = through(Transition::Joining, 1)
            && !through(Transition::Leaving, 0)
            && !through(Transition::ForcedLeaving, 0);
        if joined { NodeState::Joined } else { NodeState::Inactive }
    }
}
