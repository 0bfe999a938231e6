//! The rules of levels and rounds (EP p. 5 to 8, Fig. 2, Table 1; DESIGN 5; MISSION A1 to A10): what a round is, who takes
//! part, what may be said in it. In what order: `order`; forced leaves: `forced`; each level's state vector: `vector`.
//!
//! An acknowledgement travels to the master before the master sends what depends on it, so in every legal trace its
//! Lamport clock is smaller than that of every notification that depends on it, on whatever node.
//!
//! Tolerated, because it cannot be told from a broken rule: an acknowledgement that is missing from the end of a life that
//! ended without `panic` or `halt` before the notification in question (its last lines may be lost), and what a master
//! may have written before it was killed that way.

use crate::form::Lives;
use crate::history::{Change, History, Members};
use crate::ledger::{At, Ledger, Progress, Registered, Round, Step};
use crate::line::{Barriers, Life, NodeState, RoundName, StepEvent, Transition};
use crate::map::Map;
use crate::rule::{Findings, Rule};
use crate::storage::Storage;
use crate::vector::Vectors;
use std::collections::BTreeSet;

/// The first level that touches what a dead node owned (DESIGN 7).
pub(crate) const FENCED_FROM: u16 = 20;
/// The first level of user space: registered at run time, joined by itself (DESIGN 5).
pub(crate) const USER_FROM: u16 = 100;

/// How often each kind of rule was applied: a trace that exercises nothing proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct StepCounts {
    pub(crate) rounds: u64,
    pub(crate) notifies: u64,
    pub(crate) acks: u64,
    pub(crate) states: u64,
    pub(crate) barriers_ordered: u64,
    pub(crate) levels_ordered: u64,
}

/// Everything else that a rule looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a> {
    pub(crate) lc: u64,
    /// When the line was written, by the harness clock.
    pub(crate) t_us: u64,
    pub(crate) history: &'a History,
    pub(crate) storage: &'a Storage,
    pub(crate) lives: &'a Lives,
}

impl<'a> Around<'a> {
    pub(crate) fn at(&self) -> At<'a> {
        At { lc: self.lc, history: self.history, lives: self.lives }
    }

    pub(crate) fn master_cut(&self, ballot: u64) -> bool {
        self.history.master_cut(ballot, self.lc, self.lives)
    }

    pub(crate) fn newest_master_cut(&self) -> bool {
        self.history.newest_master_cut(self.lc, self.lives)
    }

    pub(crate) fn seen(&self, life: Life, state: NodeState) -> bool {
        self.history.seen_before(life, state, self.lc)
    }
}

/// The rules, with what they remember.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub(crate) ledger: Ledger,
    pub(crate) vectors: Vectors,
    /// Rounds of joins and graceful leaves that were not known to be through when they were last looked at, by level.
    gathering: Map<u16, BTreeSet<RoundName>>,
    /// Run-time levels whose join has begun, by node.
    begun: Map<Life, BTreeSet<u16>>,
    pub(crate) counts: StepCounts,
}

impl Steps {
    /// A level registered.
    pub(crate) fn on_register(
        &mut self,
        life: Life,
        reg: (u16, &str, Barriers),
        around: &Around<'_>,
        out: &mut Findings,
    ) {
        let (level, name, barriers) = reg;
        let at_run_time = around.history.has_begun(life);
        let levels = self.ledger.registered.entry(life).or_default();
        if levels.get(&level).is_some_and(|r| r.gone_lc.is_none()) {
            out.add(Rule::NotRegistered, format!("level {level} is registered twice"));
        }
        let static_top = levels.iter().rev().find(|(_, r)| !r.at_run_time).map(|(l, _)| *l);
        if at_run_time && level < USER_FROM {
            out.add(Rule::RunTimeLevel, format!("level {level} of the kernel is registered at run time"));
        } else if at_run_time && static_top.is_some_and(|top| top >= level) {
            out.add(Rule::RunTimeLevel, format!("level {level} is registered at run time, below {static_top:?}"));
        }
        levels.insert(
            level,
            Registered { name: name.into(), barriers, lc: around.lc, gone_lc: None, at_run_time, waits: at_run_time },
        );
        if let Some(begun) = self.begun.get_mut(&life) {
            begun.remove(&level);
        }
    }

    /// A level went.
    pub(crate) fn on_deregister(&mut self, life: Life, level: u16, around: &Around<'_>, out: &mut Findings) {
        match self.ledger.registered.entry(life).or_default().get_mut(&level) {
            Some(r) if r.gone_lc.is_none() => r.gone_lc = Some(around.lc),
            _ => out.add(Rule::NotRegistered, format!("level {level} goes, but is not there")),
        }
        if level < USER_FROM {
            out.add(Rule::RunTimeLevel, format!("level {level} of the kernel goes"));
        }
        self.vectors.gone(life, level);
        self.ledger.forget_own(life, level);
    }

    /// A wanted halt (MISSION A3: levels of user space are de-registered when their node leaves).
    pub(crate) fn on_halt(&mut self, life: Life, out: &mut Findings) {
        let Some(levels) = self.ledger.registered.get(&life) else { return };
        for (level, _) in levels.iter().filter(|(_, r)| r.at_run_time && r.gone_lc.is_none()) {
            out.add(Rule::RunTimeLevel, format!("{life} halts, and level {level} was not de-registered"));
        }
    }

    /// The master begins a round, or issues it again.
    pub(crate) fn on_round(
        &mut self,
        life: Life,
        (name, level): (RoundName, u16),
        (transitions, participants): (&[(Life, Transition)], &[u8]),
        around: &Around<'_>,
        out: &mut Findings,
    ) {
        self.counts.rounds += 1;
        let held = around.history.acts_as_master(life, "a round", out);
        if let Some(known) = self.ledger.rounds.get_mut(&name) {
            let same = known.level == level
                && known.transitions.iter().eq(&BTreeSet::from_iter(transitions.iter().copied()))
                && known.participants.keys().eq(&BTreeSet::from_iter(participants.iter().copied()));
            if !same {
                out.add(Rule::RoundChanged, format!("round {name} was another one before"));
            }
            known.issued = known.issued.max(held.unwrap_or_default());
            return;
        }
        let adopted = around.history.adopted(life);
        let inc_of = |node: &u8| Some(adopted?.get(node)?.1);
        let round = Round {
            level,
            transitions: transitions.iter().copied().collect(),
            participants: participants.iter().map(|node| (*node, inc_of(node))).collect(),
            issued: held.unwrap_or(name.ballot).max(name.ballot),
            lc: around.lc,
        };
        for (subject, transition) in &round.transitions {
            self.check_committed(*subject, *transition, (level, name), around, out);
            self.begin_again(*subject, *transition, level, around);
        }
        if held == Some(name.ballot) {
            self.check_subjects(life, name, &round, around, out);
            self.check_participants(life, name, &round, around, out);
            self.check_gathering(life, name, &round, around, out);
        } else if held.is_some() && !around.master_cut(name.ballot) {
            out.add(Rule::NotMaster, format!("a new round {name} under ballot {held:?}"));
        }
        self.ledger.add_round(name, round);
    }

    /// A level was notified.
    pub(crate) fn on_notify(&mut self, life: Life, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        self.counts.notifies += 1;
        let known = self.check_in_round(life, event, around, out);
        if !known && around.master_cut(event.round.ballot) {
            // The line of the round was lost with its master: the first one who is told shows that it has begun.
            self.begin_again(event.subject, event.transition, event.level, around);
        }
        self.check_registered(life, event, around, out);
        self.check_committed(event.subject, event.transition, (event.level, event.round), around, out);
        self.check_join_done(event, around, out);
        if event.transition == Transition::ForcedLeaving {
            self.check_fence(event, around, out);
            self.check_services(event, around, out);
            self.check_too_high(event, around, out);
            self.check_levels_left_behind(life, event, around, out);
        }
        self.vectors.on_notify(life, event, &mut self.ledger, around.at(), out);
        if !self.ledger.add_notify(life, event) {
            out.add(Rule::StepTwice, format!("{} was notified before", words(event)));
        }
        if event.barrier > 0 {
            if known {
                self.check_barrier(event, around, out);
            }
        } else if !self.is_local(event.subject, event.transition, event.level, around) {
            if event.transition == Transition::Leaving {
                self.check_levels_above(event, around, out);
            } else {
                self.check_levels_below(event, around, out);
            }
        }
    }

    /// A level acknowledged.
    pub(crate) fn on_ack(&mut self, life: Life, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        self.counts.acks += 1;
        match self.ledger.notified.get(&(life, Step::from(event))) {
            None => out.add(Rule::AckWithoutNotify, format!("{} was not notified", words(event))),
            Some(round) if *round != event.round => {
                out.add(Rule::AckWithoutNotify, format!("{} was notified in round {round}", words(event)));
            }
            Some(_) => {}
        }
        if event.transition != Transition::ForcedLeaving
            && self.ledger.was_notified(life, event.level, event.subject, Transition::ForcedLeaving)
        {
            out.add(Rule::TableOne, format!("{} is acknowledged after the forced leave overtook it", words(event)));
        }
        if !self.ledger.add_ack(life, event, around.lc) {
            out.add(Rule::AckWithoutNotify, format!("{} is acknowledged twice", words(event)));
        }
    }

    /// An acknowledgement came too late: only of what was told, and then acknowledged, overtaken or ended.
    pub(crate) fn on_stale_ack(&mut self, life: Life, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        let step = Step::from(event);
        if !self.ledger.notified.contains_key(&(life, step)) {
            // The level may be gone, and come again, since it was told.
            if self.ledger.registered.get(&life).is_none_or(|l| l.get(&event.level).is_none_or(|r| !r.at_run_time)) {
                out.add(Rule::AckWithoutNotify, format!("{} was not notified", words(event)));
            }
            return;
        }
        let overtaken = self.ledger.has_acked(life, step)
            || self.vectors.told(life, event.level, event.subject) != Some(event.transition.during())
            || around.seen(event.subject, NodeState::ForcedLeaving) && event.transition != Transition::ForcedLeaving
            || around.seen(event.subject, NodeState::Inactive)
            || self.ledger.level(life, event.level, around.lc).is_none();
        if !overtaken {
            out.add(Rule::StaleAck, format!("{} is refused as late, but nothing overtook it", words(event)));
        }
    }

    /// A state was reported.
    pub(crate) fn on_state(
        &mut self,
        life: Life,
        (subject, level, is): (Life, Option<u16>, NodeState),
        around: &Around<'_>,
        out: &mut Findings,
    ) {
        self.counts.states += 1;
        let Some(level) = level else {
            if !around.seen(subject, is) {
                out.add(Rule::StateEarly, format!("{subject} is {} in no view", is.name()));
            }
            return;
        };
        let ended_by = match is {
            NodeState::Joined => [Some(Transition::Joining), None],
            NodeState::Inactive => [Some(Transition::Leaving), Some(Transition::ForcedLeaving)],
            _ => {
                out.add(Rule::StateEarly, format!("{} is no end of a transition", is.name()));
                return;
            }
        };
        self.vectors.on_state(life, level, subject, is, out);
        let (mut rounds, mut missing) = (false, Vec::new());
        for transition in ended_by.into_iter().flatten() {
            match self.ledger.transition_through((subject, transition, level), u64::MAX, around.at()) {
                Progress::Through(_) => return,
                Progress::Missing(nodes) => {
                    rounds = true;
                    missing = nodes;
                }
                Progress::NoRound => {}
            }
        }
        if rounds {
            let what = format!("{subject} is {} at level {level}, but nodes {missing:?} are not through", is.name());
            out.add(Rule::StateEarly, what);
            return;
        }
        // Without survivors that know the dead node there is nobody to ask, and so no round (DESIGN 5, total power loss);
        // and a node that lacks a level has no rounds there.
        let knew = self.ledger.was_notified(life, level, subject, Transition::Joining);
        let joins = is == NodeState::Joined && self.ledger.level(subject, level, around.lc).is_some();
        // Who has left the level itself, as all there have acknowledged, is asked nothing any more.
        let leave = self.ledger.transition_through((life, Transition::Leaving, level), u64::MAX, around.at());
        let has_left = matches!(leave, Progress::Through(_));
        if (knew && !has_left || joins) && !around.newest_master_cut() {
            out.add(Rule::StateEarly, format!("{subject} is {} at level {level} without a round", is.name()));
        }
    }

    /// A committed view ends or begins something. `ballot`: the one under which it was announced first.
    pub(crate) fn on_change(
        &mut self,
        change: Change,
        ballot: u64,
        around: &Around<'_>,
        members: &Members,
        out: &mut Findings,
    ) {
        match (change.from, change.to) {
            (_, NodeState::Joined) => self.check_join_complete(change.life, around, out),
            (NodeState::Leaving, NodeState::Inactive) => self.check_leave_complete(change.life, ballot, around, out),
            (NodeState::ForcedLeaving, NodeState::Inactive) => {
                self.check_forced_leave_complete(change.life, around, members, out);
            }
            (_, NodeState::Leaving) => self.check_leave_begins(change.life, around, out),
            _ => {}
        }
    }

    /// Whether a transition is that of one level alone, while its node stays what it is.
    pub(crate) fn is_local(&self, subject: Life, transition: Transition, level: u16, around: &Around<'_>) -> bool {
        level >= USER_FROM
            && match transition {
                Transition::Joining => {
                    let here = self.ledger.registered.get(&subject).and_then(|levels| levels.get(&level));
                    here.is_some_and(|r| r.at_run_time) || around.seen(subject, NodeState::Joined)
                }
                t => !around.seen(subject, t.during()),
            }
    }

    /// A level that was registered again in the same life joins anew.
    fn begin_again(&mut self, subject: Life, transition: Transition, level: u16, around: &Around<'_>) {
        let run_time = self.ledger.registered.get(&subject).and_then(|l| l.get(&level)).is_some_and(|r| r.at_run_time);
        if !run_time || transition != Transition::Joining || !self.begun.entry(subject).or_default().insert(level) {
            return;
        }
        if let Some(here) = self.ledger.registered.get_mut(&subject).and_then(|l| l.get_mut(&level)) {
            here.waits = false;
        }
        for leave in [Transition::Leaving, Transition::ForcedLeaving] {
            let progress = self.ledger.transition_through((subject, leave, level), u64::MAX, around.at());
            if matches!(progress, Progress::Through(_)) {
                self.vectors.left(level, subject);
            }
        }
        self.vectors.begins_again(level, subject, &mut self.ledger, around.at());
        self.ledger.forget(subject, level);
    }

    /// A round is of transitions that its master's own view shows, with their subjects.
    fn check_subjects(
        &mut self,
        master: Life,
        name: RoundName,
        round: &Round,
        around: &Around<'_>,
        out: &mut Findings,
    ) {
        use NodeState::{ForcedLeaving, Joined, Joining, Leaving};
        let Some(view) = around.history.adopted(master) else { return };
        for (subject, transition) in &round.transitions {
            let state = view.get(&subject.node).filter(|(_, inc)| *inc == subject.inc).map(|(state, _)| *state);
            let user = round.level >= USER_FROM;
            let right = match (transition, state) {
                (_, Some(state)) if state == transition.during() => true,
                // After a takeover, so that it may be overtaken at once where it had not been delivered (DESIGN 5).
                (Transition::Joining, Some(ForcedLeaving)) => {
                    let heard = match self.ledger.newest(*subject, *transition, round.level, name.ballot) {
                        Some(known) => known.ballot < name.ballot,
                        None => self.may_have_heard(*subject, round.level, name.ballot, around),
                    };
                    heard && !round.participants.contains_key(&subject.node)
                }
                // At a level of user space, while the node stays what it is.
                (Transition::Joining | Transition::Leaving, Some(Joined)) => user,
                (Transition::ForcedLeaving, Some(Joining | Joined | Leaving)) => user,
                _ => false,
            };
            if !right {
                let what = format!("round {name}: {} of {subject}, which the view has as {state:?}", transition.name());
                out.add(Rule::NotCommitted, what);
            }
            let inside = round.participants.contains_key(&subject.node);
            if *transition == Transition::ForcedLeaving && inside && state == Some(ForcedLeaving) {
                out.add(Rule::Participants, format!("round {name} asks {subject}, which it puts out"));
            } else if *transition != Transition::ForcedLeaving && !inside && state != Some(ForcedLeaving) {
                out.add(Rule::Participants, format!("round {name} is without its subject, {subject}"));
            }
        }
    }

    /// DESIGN 5: joined at that level, plus the joining ones in the round, minus the forced-out.
    fn check_participants(
        &mut self,
        master: Life,
        name: RoundName,
        round: &Round,
        around: &Around<'_>,
        out: &mut Findings,
    ) {
        let Some(view) = around.history.adopted(master) else { return };
        let level = round.level;
        for (node, inc) in &round.participants {
            if !view.get(node).is_some_and(|(state, _)| state.is_member()) {
                out.add(Rule::Participants, format!("round {name} has node {node}, which is no member"));
            } else if let Some(inc) = inc {
                let life = Life { node: *node, inc: *inc };
                let here = self.ledger.registered.get(&life).is_none_or(|levels| levels.contains_key(&level));
                if !here {
                    out.add(Rule::NotRegistered, format!("round {name} has {life}, without level {level}"));
                }
            }
        }
        for (node, (state, inc)) in view {
            let life = Life { node: *node, inc: *inc };
            let subject = round.transitions.iter().any(|(s, _)| *s == life);
            if !state.is_member() || subject || self.ledger.level(life, level, around.lc).is_none() {
                continue;
            }
            let inside = round.participants.contains_key(node);
            let joins = self.ledger.newest(life, Transition::Joining, level, name.ballot).is_some();
            let leaves = [Transition::Leaving, Transition::ForcedLeaving]
                .into_iter()
                .any(|t| self.ledger.newest(life, t, level, name.ballot).is_some());
            if inside && !joins && !around.master_cut(name.ballot) && !around.history.may_be_cut() {
                out.add(Rule::Participants, format!("round {name} has {life}, which has not come to its level"));
            }
            let told = self.vectors.told(master, level, life) == Some(NodeState::Inactive);
            if inside && leaves && (told || self.has_left(life, level, name.ballot, around)) {
                out.add(Rule::Participants, format!("round {name} has {life}, which has left its level"));
            }
            if !inside && joins && !leaves {
                let joined = (life, Transition::Joining, level);
                let through = self.ledger.transition_through(joined, name.ballot, around.at());
                // Its last acknowledgement may be under way, but not its reports of what the master told it since.
                let known = self.ledger.knowing(life, Transition::Joining, level).contains(&life);
                if matches!(through, Progress::Through(_)) && known {
                    out.add(
                        Rule::Participants,
                        format!("round {name} is without {life}, which is joined at its level"),
                    );
                }
            }
        }
    }

    /// Whether a node that leaves is known to be through at this level: it was told to leave a lower one.
    fn has_left(&self, life: Life, level: u16, ballot: u64, around: &Around<'_>) -> bool {
        around.seen(life, NodeState::Leaving)
            && self
                .ledger
                .levels_of(life, Transition::Leaving, ballot)
                .into_iter()
                .any(|l| l < level && !self.ledger.knowing(life, Transition::Leaving, l).is_empty())
            && !self.ledger.nobody_knows((life, Transition::Leaving, level), ballot, around.at())
    }

    /// DESIGN 5: what arrives while a level's round is under way waits for the next one; a join or graceful leave that has
    /// not begun at a level waits for a forced leave that has not passed it.
    fn check_gathering(
        &mut self,
        master: Life,
        name: RoundName,
        round: &Round,
        around: &Around<'_>,
        out: &mut Findings,
    ) {
        let Some(view) = around.history.adopted(master) else { return };
        let put_out = |life: &Life| view.get(&life.node) == Some(&(NodeState::ForcedLeaving, life.inc));
        if round.transitions.iter().all(|(subject, t)| *t == Transition::ForcedLeaving || put_out(subject)) {
            return;
        }
        let level = round.level;
        let mut running = self.gathering.remove(&level).unwrap_or_default();
        running.retain(|old| old.ballot > name.ballot || self.still_runs(*old, name.ballot, around, out, name));
        running.insert(name);
        self.gathering.insert(level, running);
        for (node, (state, inc)) in view {
            let dead = Life { node: *node, inc: *inc };
            if *state != NodeState::ForcedLeaving {
                continue;
            }
            let forced = (dead, Transition::ForcedLeaving, level);
            let left = (dead, Transition::Leaving, level);
            if matches!(self.ledger.transition_through(left, name.ballot, around.at()), Progress::Through(_)) {
                continue;
            }
            let waits = match self.ledger.transition_through(forced, name.ballot, around.at()) {
                Progress::Through(_) => false,
                Progress::Missing(_) => !self.ledger.nobody_knows(forced, name.ballot, around.at()),
                // It has yet to come here, if anybody who lives was told of the dead one here.
                Progress::NoRound => round
                    .lives()
                    .filter(|life| !round.transitions.contains(&(*life, Transition::Joining)))
                    .any(|life| {
                        use NodeState::{Joined, Joining, Leaving};
                        matches!(self.vectors.told(life, level, dead), Some(Joining | Joined | Leaving))
                    }),
            };
            if waits {
                out.add(Rule::RoundOverlap, format!("round {name} begins before the forced leave of {dead} passed"));
            }
        }
    }

    /// Whether an older round has transitions that are not through, which is wrong. Gives whether to look at it again.
    fn still_runs(
        &mut self,
        old: RoundName,
        ballot: u64,
        around: &Around<'_>,
        out: &mut Findings,
        name: RoundName,
    ) -> bool {
        let Some(round) = self.ledger.rounds.get(&old) else { return false };
        let (level, transitions) = (round.level, round.transitions.clone());
        for (subject, transition) in transitions {
            let of = (subject, transition, level);
            if transition == Transition::ForcedLeaving
                || around.seen(subject, NodeState::ForcedLeaving)
                || self.ledger.newest(subject, transition, level, u64::MAX) != Some(old)
                || self.ledger.level(subject, level, around.lc).is_none()
            {
                continue;
            }
            if let Progress::Missing(nodes) = self.ledger.round_through(old, subject, transition, around.at())
                && !self.ledger.nobody_knows(of, ballot, around.at())
            {
                let what = format!("round {name} begins at level {level}, but {old} waits for nodes {nodes:?}");
                out.add(Rule::RoundOverlap, what);
            }
        }
        false
    }

    /// A transition exists once a view shows it; at levels of user space also that of one level alone.
    fn check_committed(
        &self,
        subject: Life,
        transition: Transition,
        (level, round): (u16, RoundName),
        around: &Around<'_>,
        out: &mut Findings,
    ) {
        let run_time = self.ledger.registered.get(&subject).and_then(|l| l.get(&level)).is_some_and(|r| r.at_run_time);
        let during = around.seen(subject, transition.during()) && !(run_time && transition == Transition::Joining);
        if during || (level >= USER_FROM && around.seen(subject, NodeState::Joined)) {
            return;
        }
        if !around.master_cut(round.ballot) {
            out.add(Rule::NotCommitted, format!("{} of {subject} stands in no view before", transition.name()));
        }
    }

    fn check_in_round(&self, life: Life, event: &StepEvent, around: &Around<'_>, out: &mut Findings) -> bool {
        let Some(round) = self.ledger.rounds.get(&event.round) else {
            if !around.master_cut(event.round.ballot) {
                out.add(Rule::UnknownRound, format!("round {} was not begun", event.round));
            }
            return false;
        };
        if round.level != event.level || !round.transitions.contains(&(event.subject, event.transition)) {
            out.add(Rule::UnknownRound, format!("round {} has no {}", event.round, words(event)));
            return false;
        }
        // Another life of a participant is another participant: it cannot know the steps before.
        if round.participants.get(&life.node).is_none_or(|inc| inc.is_some_and(|inc| inc != life.inc)) {
            out.add(Rule::UnknownRound, format!("round {} is not for {life}", event.round));
        }
        // DESIGN 4: nodes obey only the highest ballot that they have seen.
        let known = around.history.ballot_known(life);
        // What a forced leave overtakes is delivered under the name that it had (Table 1).
        let overtaken = event.transition == Transition::Joining && around.seen(event.subject, NodeState::ForcedLeaving);
        if round.issued < known && !overtaken && !around.master_cut(known) {
            let what = format!("{} of ballot {}, though {life} knew ballot {known}", words(event), round.issued);
            out.add(Rule::OldMaster, what);
        }
        true
    }

    fn check_registered(&self, life: Life, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        let Some(here) = self.ledger.level(life, event.level, around.lc) else {
            out.add(Rule::NotRegistered, format!("level {} is notified, but not registered here", event.level));
            return;
        };
        if here.name != event.name {
            out.add(Rule::NotRegistered, format!("level {} is registered as \"{}\"", event.level, here.name));
        }
        let count = here.barriers.of(event.transition);
        if event.barrier >= count {
            let what = format!("barrier {} of {count} for {}", event.barrier, event.transition.name());
            out.add(Rule::BarrierCount, what);
        }
        let all = self.ledger.barriers_in(event.round, event.level);
        if all.is_some_and(|all| all != here.barriers) {
            out.add(Rule::NotRegistered, format!("level {} has other barriers on another participant", event.level));
        }
    }
}

pub(crate) fn words(event: &StepEvent) -> String {
    let StepEvent { level, subject, transition, barrier, .. } = event;
    format!("{} of {subject} at level {level}, barrier {barrier}", transition.name())
}
