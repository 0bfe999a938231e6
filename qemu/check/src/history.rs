//! One history of views, and the master lock: what all nodes' `view` and `lock` events say together (DESIGN 3 to 5).
//!
//! Lines come here in an order that respects causality. A view is committed once and for all, so one number has one
//! content whoever announces it under whatever ballot; a later number never has an older ballot, because a newer ballot
//! starts from the highest accepted view and shuts the older ones out. The *times* at which two nodes report an
//! acquisition prove nothing about each other, so ballots of acquisitions are compared only with what the same node knew.

use crate::form::Lives;
use crate::line::{Life, Line, LockPhase, NodeState, What};
use crate::map::Map;
use crate::rule::{Findings, Rule};
use std::collections::{BTreeMap, BTreeSet};

/// State and incarnation by node.
pub type Members = BTreeMap<u8, (NodeState, u32)>;

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
    /// Lamport clock and ballot of the first line that showed it.
    first: (u64, u64),
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
    lives: Map<Life, LifeState>,
    /// First Lamport clock at which a view showed this life in this state, and the ballot of that view.
    seen: Map<(Life, NodeState), (u64, u64)>,
    member_inc_max: Map<u8, u32>,
    holders: BTreeMap<u64, Life>,
    /// Who was thought silent, or stood still: from then on a ballot decides, and any number of nodes may believe to hold.
    doubted: bool,
    /// Lives that held the lock and were ended from outside: their lowered flag may stand on the disk, untold.
    fallen: BTreeSet<Life>,
    /// Whether a life's last lines may be missing (never in the simulator).
    streams_may_be_cut: bool,
}

impl History {
    /// `streams_may_be_cut`: a killed life's last lines may be missing.
    pub(crate) fn new(streams_may_be_cut: bool) -> Self {
        Self { streams_may_be_cut, ..Self::default() }
    }

    /// Whether lines may be missing from the end of a life that was killed.
    pub(crate) fn may_be_cut(&self) -> bool {
        self.streams_may_be_cut
    }

    /// Whether this life took part in anything yet: what it registers from here on, it registers at run time.
    pub(crate) fn has_begun(&self, life: Life) -> bool {
        self.lives.contains_key(&life)
    }

    /// The highest ballot that this life is known to have known.
    pub(crate) fn ballot_known(&self, life: Life) -> u64 {
        self.lives.get(&life).map_or(0, |s| s.ballot_known)
    }

    /// The ballot under which this life holds the lock.
    pub(crate) fn held(&self, life: Life) -> Option<u64> {
        self.lives.get(&life)?.held
    }

    /// The newest view and who is in it.
    pub(crate) fn newest_view(&self) -> Option<(u64, &Members)> {
        self.views.last_key_value().map(|(number, known)| (*number, &known.members))
    }

    /// The newest view that this life adopted.
    pub(crate) fn adopted_number(&self, life: Life) -> Option<u64> {
        Some(self.lives.get(&life)?.view?.0)
    }

    /// How many different views there were.
    pub(crate) fn views(&self) -> usize {
        self.views.len()
    }

    /// The Lamport clock at which a view first showed this life in this state.
    pub(crate) fn seen(&self, life: Life, state: NodeState) -> Option<u64> {
        self.seen.get(&(life, state)).map(|(lc, _)| *lc)
    }

    /// The ballot of the view that first showed this life in this state.
    pub(crate) fn seen_under(&self, life: Life, state: NodeState) -> Option<u64> {
        self.seen.get(&(life, state)).map(|(_, ballot)| *ballot)
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

    /// Somebody was suspected, or stood still, or the run did something that may lead to that.
    pub(crate) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Nodes were ended from outside.
    pub(crate) fn fell(&mut self, nodes: &[u8]) {
        self.fallen.extend(self.holders.values().filter(|holder| nodes.contains(&holder.node)));
    }

    /// DESIGN 4: without wrong suspicion there is one master. A life that ended without a word holds nothing once its node
    /// has another.
    fn check_one_holder(&self, life: Life, phase: LockPhase, lives: &Lives, out: &mut Findings) {
        if phase == LockPhase::Lost && self.held(life).is_some() {
            out.add(Rule::TwoMasters, "the lock is lost, and nobody was ever suspected");
        }
        if phase != LockPhase::Acquired {
            return;
        }
        for holder in self.holders.values().filter(|holder| **holder != life && self.held(**holder).is_some()) {
            let newer = lives.keys().any(|other| other.node == holder.node && other.inc > holder.inc);
            if !newer && !self.fallen.contains(holder) && !lives.get(holder).is_none_or(|end| end.ended) {
                out.add(Rule::TwoMasters, format!("{holder} holds the lock, and nobody was ever suspected"));
            }
        }
    }

    /// Looks at a lock event.
    pub(crate) fn on_lock(&mut self, life: Life, (phase, ballot): (LockPhase, u64), lives: &Lives, out: &mut Findings) {
        if !self.doubted {
            self.check_one_holder(life, phase, lives, out);
        }
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
        self.doubted |= frozen;
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
        let at = (line.lc, *ballot);
        // Views come mostly again and again; in an order that respects causality the first is the earliest.
        if self.views.get(view).is_none_or(|known| known.first.0 > at.0 || known.first.1 > at.1) {
            for (node, (state, inc)) in members {
                self.note_seen(Life { node: *node, inc: *inc }, *state, at);
            }
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
                self.check_booted(members, line.lc, lives, out);
                let (ballot_min, ballot_max) = (*ballot, *ballot);
                let known = Known { members: members.clone(), first: at, ballot_min, ballot_max };
                self.views.insert(*view, known);
                self.check_successor(view.saturating_add(1), at, out);
                self.check_successor(*view, at, out)
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

    fn note_seen(&mut self, life: Life, state: NodeState, (lc, ballot): (u64, u64)) {
        let first = self.seen.entry((life, state)).or_insert((lc, ballot));
        *first = (first.0.min(lc), first.1.min(ballot));
    }

    /// Nobody joins who has not booted: its `boot` came before, unless its last lines are missing.
    fn check_booted(&self, members: &Members, lc: u64, lives: &Lives, out: &mut Findings) {
        for (node, (state, inc)) in members {
            let life = Life { node: *node, inc: *inc };
            if *state == NodeState::Joining && !lives.contains_key(&life) && !self.cut(life, lc, lives) {
                out.add(Rule::NewIncarnation, format!("{life} joins and has not booted"));
            }
        }
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
    fn check_successor(&mut self, number: u64, at: (u64, u64), out: &mut Findings) -> Vec<Change> {
        let Some(before) = number.checked_sub(1).and_then(|n| self.views.get(&n)) else { return Vec::new() };
        let Some(after) = self.views.get(&number) else { return Vec::new() };
        if before.members.len() != after.members.len() {
            out.add(Rule::ViewChange, format!("view {number} is of other nodes than the one before"));
        }
        if before.members == after.members {
            out.add(Rule::ViewChange, format!("view {number} changes nothing"));
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
            self.note_seen(change.life, change.to, at);
        }
        changes
    }
}

/// What is wrong with a view as the successor of another, if anything; the first thing is enough. `inc_max`: the highest
/// incarnation that each node had as a member before.
pub fn wrong_successor(before: &Members, after: &Members, inc_max: &BTreeMap<u8, u32>) -> Option<String> {
    if before.keys().ne(after.keys()) {
        return Some("it is of other nodes".into());
    }
    if before == after {
        return Some("it changes nothing".into());
    }
    let mut out = Findings::default();
    for ((node, (from, old_inc)), (to, inc)) in before.iter().zip(after.values()) {
        let known = inc_max.get(node).copied().unwrap_or(0);
        check_change(0, Life { node: *node, inc: *inc }, (*from, *old_inc, known), *to, &mut out);
    }
    out.take().into_iter().next().map(|violation| violation.what)
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
