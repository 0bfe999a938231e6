//! One history of views, and the master lock: what all nodes' `view` and `lock` events say together (DESIGN 3 to 5).
//!
//! Lines come here in an order that respects causality. A view is committed once and for all, so one number has one
//! content whoever announces it under whatever ballot; a later number never has an older ballot, because a newer ballot
//! starts from the highest accepted view and shuts the older ones out. The *times* at which two nodes report an
//! acquisition prove nothing about each other, so ballots of acquisitions are compared only with what the same node knew.

use crate::form::Lives;
use crate::line::{Life, Line, LockPhase, NodeState, What};
use crate::rule::{Findings, Rule};
use std::collections::{BTreeMap, HashMap};

/// State and incarnation by node.
pub(crate) type Members = BTreeMap<u8, (NodeState, u32)>;

/// What changed for one node from a view to its successor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    pub(crate) life: Life,
    pub(crate) from: NodeState,
    pub(crate) to: NodeState,
}

#[derive(Debug)]
struct Known {
    members: Members,
    ballot_min: u64,
    ballot_max: u64,
}

#[derive(Debug, Default)]
struct LifeState {
    view: Option<(u64, u64)>,
    ballot_known: u64,
    held: Option<u64>,
    frozen: bool,
}

/// Views and ballots.
#[derive(Debug, Default)]
pub(crate) struct History {
    views: BTreeMap<u64, Known>,
    lives: HashMap<Life, LifeState>,
    /// First Lamport clock at which a view showed this life in this state.
    seen: HashMap<(Life, NodeState), u64>,
    member_inc_max: HashMap<u8, u32>,
    holders: BTreeMap<u64, Life>,
    /// Whether a life's last lines may be missing (never in the simulator).
    streams_may_be_cut: bool,
}

impl History {
    /// `streams_may_be_cut`: a killed life's last lines may be missing.
    pub(crate) fn new(streams_may_be_cut: bool) -> Self {
        Self { streams_may_be_cut, ..Self::default() }
    }

    /// How many different views there were.
    pub(crate) fn views(&self) -> usize {
        self.views.len()
    }

    /// The Lamport clock at which a view first showed this life in this state.
    pub(crate) fn seen(&self, life: Life, state: NodeState) -> Option<u64> {
        self.seen.get(&(life, state)).copied()
    }

    /// Whether a view before `lc` showed it in this state.
    pub(crate) fn seen_before(&self, life: Life, state: NodeState, lc: u64) -> bool {
        self.seen(life, state).is_some_and(|at| at < lc)
    }

    /// The members of the newest view that this life adopted.
    pub(crate) fn adopted(&self, life: Life) -> Option<&Members> {
        let (number, _) = self.lives.get(&life)?.view?;
        self.views.get(&number).map(|k| &k.members)
    }

    /// The members of a view by its number.
    pub(crate) fn members(&self, number: u64) -> Option<&Members> {
        self.views.get(&number).map(|k| &k.members)
    }

    /// Whether lines of `life` before `lc` may be missing: it ended without a word before that.
    pub(crate) fn cut(&self, life: Life, lc: u64, lives: &Lives) -> bool {
        self.streams_may_be_cut && lives.get(&life).is_none_or(|end| !end.ended && end.lc < lc)
    }

    /// Whether the master of `ballot`, or the newest one, may have lost lines before `lc`.
    pub(crate) fn master_cut(&self, ballot: u64, lc: u64, lives: &Lives) -> bool {
        if !self.streams_may_be_cut {
            return false;
        }
        match self.holders.get(&ballot) {
            Some(holder) => self.cut(*holder, lc, lives) || self.newest_master_cut(lc, lives),
            // Its `acquired` is lost, if anybody's last lines are.
            None => lives.values().any(|end| !end.ended && end.lc < lc),
        }
    }

    /// Whether the newest known master may have lost lines before `lc`.
    pub(crate) fn newest_master_cut(&self, lc: u64, lives: &Lives) -> bool {
        self.holders.last_key_value().is_some_and(|(_, life)| self.cut(*life, lc, lives))
    }

    /// Looks at a lock event.
    pub(crate) fn on_lock(&mut self, life: Life, phase: LockPhase, ballot: u64, out: &mut Findings) {
        let state = self.lives.entry(life).or_default();
        match phase {
            LockPhase::Want | LockPhase::Wait => {}
            LockPhase::Acquired => {
                if let Some(holder) = self.holders.get(&ballot) {
                    out.add(Rule::OneMaster, format!("ballot {ballot} was acquired by {holder} already"));
                } else {
                    self.holders.insert(ballot, life);
                }
                // Equal: others may prove its view committed, and tell it, before its own look is done.
                if ballot < state.ballot_known {
                    out.add(Rule::BallotGrows, format!("ballot {ballot} after {} was known", state.ballot_known));
                }
                state.ballot_known = state.ballot_known.max(ballot);
                state.held = Some(ballot);
            }
            LockPhase::Released | LockPhase::Lost => {
                if let (LockPhase::Released, Some(held)) = (phase, state.held)
                    && held != ballot
                {
                    out.add(Rule::NotMaster, format!("ballot {ballot} is released, {held} is held"));
                }
                state.held = None;
            }
        }
    }

    /// A node froze or thawed.
    pub(crate) fn on_freeze(&mut self, life: Life, frozen: bool) {
        self.lives.entry(life).or_default().frozen = frozen;
    }

    /// A node does what only the master may: `what`, under the ballot it holds. Gives that ballot.
    pub(crate) fn acts_as_master(&self, life: Life, what: &str, out: &mut Findings) -> Option<u64> {
        let state = self.lives.get(&life);
        let held = state.and_then(|s| s.held);
        if held.is_none() {
            out.add(Rule::NotMaster, format!("{what} by a node that does not hold the master lock"));
        } else if state.is_some_and(|s| s.frozen) {
            out.add(Rule::NotMaster, format!("{what} by a master that is frozen"));
        }
        held
    }

    /// Looks at a view event. Gives the changes if the view is new and its predecessor known.
    pub(crate) fn on_view(&mut self, life: Life, line: &Line, lives: &Lives, out: &mut Findings) -> Vec<Change> {
        let What::View { ballot, view, members } = &line.what else { return Vec::new() };
        self.adopt(life, *ballot, *view, out);
        for (node, (state, inc)) in members {
            self.note_seen(Life { node: *node, inc: *inc }, *state, line.lc);
        }
        let changes = match self.views.get_mut(view) {
            Some(known) => {
                if known.members != *members {
                    out.add(Rule::OneHistory, format!("view {view} has another content than it had before"));
                }
                known.ballot_min = known.ballot_min.min(*ballot);
                known.ballot_max = known.ballot_max.max(*ballot);
                Vec::new()
            }
            None => {
                self.check_gap(*view, *ballot, line.lc, lives, out);
                let known = Known { members: members.clone(), ballot_min: *ballot, ballot_max: *ballot };
                self.views.insert(*view, known);
                self.check_successor(view.saturating_add(1), line.lc, out);
                self.check_successor(*view, line.lc, out)
            }
        };
        self.check_ballots(*view, *ballot, out);
        changes
    }

    fn adopt(&mut self, life: Life, ballot: u64, view: u64, out: &mut Findings) {
        let state = self.lives.entry(life).or_default();
        if let Some((last, last_ballot)) = state.view
            && (view < last || (view == last && ballot < last_ballot))
        {
            let what = format!("view {view} of ballot {ballot} after view {last} of ballot {last_ballot}");
            out.add(Rule::ViewOrder, what);
            return;
        }
        state.view = Some((view, ballot));
        state.ballot_known = state.ballot_known.max(ballot);
    }

    fn note_seen(&mut self, life: Life, state: NodeState, lc: u64) {
        let first = self.seen.entry((life, state)).or_insert(lc);
        *first = (*first).min(lc);
    }

    fn check_gap(&self, view: u64, ballot: u64, lc: u64, lives: &Lives, out: &mut Findings) {
        let Some((last, known)) = self.views.last_key_value() else { return };
        if view <= *last || view - last == 1 {
            return;
        }
        if self.master_cut(ballot, lc, lives) || self.master_cut(known.ballot_max, lc, lives) {
            out.tolerated += 1;
        } else {
            out.add(Rule::ViewGap, format!("view {view} follows view {last}"));
        }
    }

    fn check_ballots(&self, view: u64, ballot: u64, out: &mut Findings) {
        if let Some((before, known)) = self.views.range(..view).next_back()
            && known.ballot_max > ballot
        {
            let what = format!("view {view} under ballot {ballot}, but view {before} under {}", known.ballot_max);
            out.add(Rule::ViewBallot, what);
        }
        if let Some((after, known)) = self.views.range(view.saturating_add(1)..).next()
            && known.ballot_min < ballot
        {
            let what = format!("view {view} under ballot {ballot}, but view {after} under {}", known.ballot_min);
            out.add(Rule::ViewBallot, what);
        }
    }

    /// Compares view `number` with its predecessor, if both are known.
    fn check_successor(&mut self, number: u64, lc: u64, out: &mut Findings) -> Vec<Change> {
        let Some(before) = number.checked_sub(1).and_then(|n| self.views.get(&n)) else { return Vec::new() };
        let Some(after) = self.views.get(&number) else { return Vec::new() };
        if before.members.len() != after.members.len() {
            out.add(Rule::ViewChange, format!("view {number} is of other nodes than the one before"));
        }
        let mut changes = Vec::new();
        for (node, (to, inc)) in &after.members {
            let Some((from, old_inc)) = before.members.get(node) else { continue };
            let inc_max = self.member_inc_max.get(node).copied().unwrap_or(0);
            check_change(number, Life { node: *node, inc: *inc }, (*from, *old_inc, inc_max), *to, out);
            if from != to {
                // Whose state it was: an inactive node may stand there with any incarnation.
                let inc = if *to == NodeState::Inactive { *old_inc } else { *inc };
                changes.push(Change { life: Life { node: *node, inc }, from: *from, to: *to });
            }
        }
        for (node, (state, inc)) in &after.members {
            if *state != NodeState::Inactive {
                let max = self.member_inc_max.entry(*node).or_insert(0);
                *max = (*max).max(*inc);
            }
        }
        for change in &changes {
            self.note_seen(change.life, change.to, lc);
        }
        changes
    }
}

/// One node's change of state from a view to the next (EP p. 4 and Fig. 2; MISSION A8, A9).
fn check_change(
    view: u64,
    life: Life,
    (from, old_inc, inc_max): (NodeState, u32, u32),
    to: NodeState,
    out: &mut Findings,
) {
    use NodeState::{ForcedLeaving, Inactive, Joined, Joining, Leaving};
    let legal = match (from, to) {
        (a, b) if a == b => true,
        // A newcomer; a leave asked for while joining; the three transitions; anything that dies.
        (Inactive, Joining)
        | (Joining, Joined | Leaving | ForcedLeaving)
        | (Joined, Leaving | ForcedLeaving)
        | (Leaving, Inactive | ForcedLeaving)
        | (ForcedLeaving, Inactive) => true,
        _ => false,
    };
    if !legal {
        out.add(Rule::ViewChange, format!("view {view}: node {} from {} to {}", life.node, from.name(), to.name()));
    }
    if from != Inactive && to != Inactive && old_inc != life.inc {
        let what = format!(
            "view {view}: incarnation {} of node {} is {} while {old_inc} was still {}",
            life.inc,
            life.node,
            to.name(),
            from.name()
        );
        out.add(Rule::NewIncarnation, what);
    }
    if from == Inactive && to != Inactive && life.inc <= inc_max {
        let what = format!("view {view}: incarnation {} of node {} joins after {inc_max}", life.inc, life.node);
        out.add(Rule::NewIncarnation, what);
    }
}
