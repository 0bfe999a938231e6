//! The rules of levels, rounds and barriers (EP p. 5 to 8, Fig. 2, Table 1; DESIGN 5; MISSION A4 to A10).
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
use crate::rule::{Findings, Rule};
use crate::storage::Storage;
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
#[derive(Debug)]
pub(crate) struct Around<'a> {
    pub(crate) lc: u64,
    pub(crate) history: &'a History,
    pub(crate) storage: &'a Storage,
    pub(crate) lives: &'a Lives,
}

impl<'a> Around<'a> {
    fn at(&self) -> At<'a> {
        At { lc: self.lc, history: self.history, lives: self.lives }
    }

    fn at_lc(&self, lc: u64) -> At<'a> {
        At { lc, ..self.at() }
    }

    fn master_cut(&self, ballot: u64) -> bool {
        self.history.master_cut(ballot, self.lc, self.lives)
    }

    fn newest_master_cut(&self) -> bool {
        self.history.newest_master_cut(self.lc, self.lives)
    }
}

/// The rules, with what they remember.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub(crate) ledger: Ledger,
    /// What a node reported of another at a level.
    reported: HashMap<(Life, u16), BTreeMap<Life, NodeState>>,
    pub(crate) counts: StepCounts,
}

impl Steps {
    /// A level registered.
    pub(crate) fn on_register(&mut self, life: Life, reg: (u16, &str, Barriers), lc: u64, out: &mut Findings) {
        let (level, name, barriers) = reg;
        let levels = self.ledger.registered.entry(life).or_default();
        if levels.get(&level).is_some_and(|r| r.gone_lc.is_none()) {
            out.add(Rule::NotRegistered, format!("level {level} is registered twice"));
        }
        levels.insert(level, Registered { name: name.into(), barriers, lc, gone_lc: None });
    }

    /// A level went.
    pub(crate) fn on_deregister(&mut self, life: Life, level: u16, lc: u64, out: &mut Findings) {
        match self.ledger.registered.entry(life).or_default().get_mut(&level) {
            Some(r) if r.gone_lc.is_none() => r.gone_lc = Some(lc),
            _ => out.add(Rule::NotRegistered, format!("level {level} goes, but is not there")),
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
        if let Some(known) = self.ledger.rounds.get(&name) {
            let same = known.level == level
                && known.transitions.iter().eq(&BTreeSet::from_iter(transitions.iter().copied()))
                && known.participants.keys().eq(&BTreeSet::from_iter(participants.iter().copied()));
            if !same {
                out.add(Rule::RoundChanged, format!("round {name} was another one before"));
            }
            return;
        }
        let adopted = around.history.adopted(life);
        let inc_of = |node: &u8| Some(adopted?.get(node)?.1);
        let round = Round {
            level,
            transitions: transitions.iter().copied().collect(),
            participants: participants.iter().map(|node| (*node, inc_of(node))).collect(),
        };
        if held == Some(name.ballot) {
            self.check_participants(life, name, &round, around, out);
        } else if held.is_some() && !around.master_cut(name.ballot) {
            out.add(Rule::NotMaster, format!("a new round {name} under ballot {held:?}"));
        }
        for (subject, transition) in &round.transitions {
            self.check_committed(*subject, *transition, (level, name), around, out);
            if level >= USER_FROM && *transition == Transition::Joining {
                self.ledger.forget(*subject, level);
            }
        }
        self.ledger.add_round(name, round);
    }

    /// A level was notified.
    pub(crate) fn on_notify(&mut self, life: Life, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        self.counts.notifies += 1;
        let known = self.check_in_round(life, event, around, out);
        self.check_registered(life, event, around, out);
        self.check_committed(event.subject, event.transition, (event.level, event.round), around, out);
        self.check_table_one(life, event, around, out);
        self.check_fence(event, around, out);
        if event.transition == Transition::ForcedLeaving {
            self.check_too_high(event, around, out);
        }
        if !self.ledger.add_notify(life, event) {
            out.add(Rule::StepTwice, format!("{} was notified before", words(event)));
        }
        if event.barrier > 0 {
            if known {
                self.check_barrier(event, around, out);
            }
        } else if event.transition == Transition::Leaving {
            self.check_levels_above(event, around, out);
        } else {
            self.check_levels_below(event, around, out);
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
            if !around.history.seen_before(subject, is, around.lc) {
                out.add(Rule::StateEarly, format!("{subject} is {} in no view", is.name()));
            }
            return;
        };
        self.reported.entry((life, level)).or_default().insert(subject, is);
        let ended_by = match is {
            NodeState::Joined => [Some(Transition::Joining), None],
            NodeState::Inactive => [Some(Transition::Leaving), Some(Transition::ForcedLeaving)],
            _ => return,
        };
        let (mut rounds, mut missing) = (false, Vec::new());
        for transition in ended_by.into_iter().flatten() {
            match self.ledger.transition_through(subject, transition, level, around.at()) {
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
        if (knew || joins) && !around.newest_master_cut() {
            out.add(Rule::StateEarly, format!("{subject} is {} at level {level} without a round", is.name()));
        }
    }

    /// A committed view ends or begins something.
    pub(crate) fn on_change(&mut self, change: Change, around: &Around<'_>, members: &Members, out: &mut Findings) {
        match (change.from, change.to) {
            (_, NodeState::Joined) => self.check_join_complete(change.life, around, out),
            (NodeState::Leaving, NodeState::Inactive) => self.check_leave_complete(change.life, around, out),
            (NodeState::ForcedLeaving, NodeState::Inactive) => {
                self.check_forced_leave_complete(change.life, around, members, out);
            }
            _ => {}
        }
    }

    fn check_participants(
        &self,
        master: Life,
        name: RoundName,
        round: &Round,
        around: &Around<'_>,
        out: &mut Findings,
    ) {
        let Some(view) = around.history.adopted(master) else { return };
        let leaves =
            |node: u8| round.transitions.iter().any(|(s, t)| s.node == node && *t == Transition::ForcedLeaving);
        for (subject, transition) in &round.transitions {
            // A join that a forced leave overtakes may be named without its subject, which is dead.
            let alive = view.get(&subject.node).is_some_and(|(state, _)| state.is_member());
            let inside = round.participants.contains_key(&subject.node);
            if *transition != Transition::ForcedLeaving && alive && !inside {
                out.add(Rule::Participants, format!("round {name} is without its subject, {subject}"));
            }
        }
        for (node, inc) in &round.participants {
            let member = view.get(node).is_some_and(|(state, _)| state.is_member());
            if !member {
                out.add(Rule::Participants, format!("round {name} has node {node}, which is no member"));
            } else if let Some(inc) = inc {
                let life = Life { node: *node, inc: *inc };
                let here = self.ledger.registered.get(&life).is_none_or(|levels| levels.contains_key(&round.level));
                if !here {
                    out.add(Rule::NotRegistered, format!("round {name} has {life}, without level {}", round.level));
                }
            }
        }
        // Whom this master itself reported as joined at this level has to take part; who has left it must not.
        for (life, state) in self.reported.get(&(master, round.level)).into_iter().flatten() {
            let member = view.get(&life.node).is_some_and(|(s, inc)| s.is_member() && *inc == life.inc);
            let here = self.ledger.level(*life, round.level, around.lc).is_some();
            let inside = round.participants.contains_key(&life.node);
            if !member || !here || leaves(life.node) {
                continue;
            }
            if *state == NodeState::Joined && !inside {
                out.add(Rule::Participants, format!("round {name} is without {life}, which is joined at its level"));
            } else if *state == NodeState::Inactive && inside {
                out.add(Rule::Participants, format!("round {name} has {life}, which has left its level"));
            }
        }
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
        let seen = |state| around.history.seen_before(subject, state, around.lc);
        if seen(transition.during()) || (level >= USER_FROM && seen(NodeState::Joined)) {
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
        if !round.participants.contains_key(&life.node) {
            out.add(Rule::UnknownRound, format!("round {} is not for node {}", event.round, life.node));
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

    fn check_table_one(&mut self, life: Life, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        let (level, subject) = (event.level, event.subject);
        let had = |t| self.ledger.was_notified(life, level, subject, t);
        match event.transition {
            Transition::ForcedLeaving => return,
            _ if had(Transition::ForcedLeaving) => {
                out.add(Rule::TableOne, format!("{} after its forced leave", words(event)));
                return;
            }
            Transition::Joining if had(Transition::Leaving) => {
                out.add(Rule::TableOne, format!("{} after its leave", words(event)));
                return;
            }
            Transition::Joining => return,
            Transition::Leaving => {}
        }
        // A level completes its join before it is asked to leave (EP p. 5).
        let joins: Vec<u16> = self.ledger.levels_of(subject, Transition::Joining).collect();
        for at_level in joins {
            let progress = self.ledger.transition_through(subject, Transition::Joining, at_level, around.at());
            if let Progress::Missing(nodes) = progress
                && !self.nobody_knows(event.subject, Transition::Joining, at_level, around)
            {
                let what = format!("{} while its join at level {at_level} waits for nodes {nodes:?}", words(event));
                out.add(Rule::TableOne, what);
            }
        }
    }

    fn check_fence(&self, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        let of_node = around.history.seen_before(event.subject, NodeState::ForcedLeaving, around.lc);
        if event.transition != Transition::ForcedLeaving || event.level < FENCED_FROM || !of_node {
            return;
        }
        if !around.storage.fenced_before(event.subject, around.lc) && !around.master_cut(event.round.ballot) {
            out.add(Rule::Fence, format!("{} before its fence", words(event)));
        }
    }

    /// EP Fig. 13 to 15: no level hears of a forced leave that cannot have heard of the node.
    fn check_too_high(&mut self, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        let (level, subject) = (event.level, event.subject);
        let Some(forced_lc) = around.history.seen(subject, NodeState::ForcedLeaving) else { return };
        if level >= USER_FROM {
            return;
        }
        // A leave that has gone on to a lower level is through at this one.
        let left = self.ledger.heard(subject, Transition::Leaving);
        if left.is_some_and(|levels| levels.contains(&level) && levels.range(..level).next().is_some()) {
            out.add(Rule::TooHigh, format!("{}, though it had left this level", words(event)));
        }
        let here = |levels: &BTreeSet<u16>| levels.contains(&level);
        if around.history.seen(subject, NodeState::Joined).is_some()
            || !around.lives.contains_key(&subject)
            || self.ledger.heard(subject, Transition::Joining).is_some_and(here)
        {
            return;
        }
        let mut below: Vec<u16> = self.ledger.levels_of(subject, Transition::Joining).filter(|l| *l < level).collect();
        if let Some(levels) = self.ledger.registered.get(&subject) {
            below.extend(levels.range(1..level.max(1)).map(|(l, _)| *l));
        }
        for lower in below {
            let progress = self.ledger.transition_through(subject, Transition::Joining, lower, around.at_lc(forced_lc));
            let may_have_heard = self.may_have_heard(event, lower, &progress, around);
            if !matches!(progress, Progress::Through(_)) && !may_have_heard && !around.master_cut(event.round.ballot) {
                let what = format!("{}, though its join had not got beyond level {lower}", words(event));
                out.add(Rule::TooHigh, what);
                return;
            }
        }
    }

    /// DESIGN 5: after a takeover rounds that no survivor knows never existed.
    fn nobody_knows(&self, subject: Life, transition: Transition, level: u16, around: &Around<'_>) -> bool {
        let Some((_, round)) = self.ledger.newest_round(subject, transition, level) else { return false };
        let knows = |(node, inc): (&u8, &Option<u32>)| {
            let life = inc.map(|inc| Life { node: *node, inc });
            life.is_some_and(|life| {
                self.ledger.was_notified(life, level, subject, transition)
                    && !around.history.seen_before(life, NodeState::ForcedLeaving, around.lc)
            })
        };
        !round.participants.iter().any(knows)
    }

    /// The same for the round below a step that a later master began. And a step of a deposed master, who does not know it
    /// yet and has only itself to notify, has nothing to do with a round of its successor.
    fn never_existed(&self, event: &StepEvent, level: u16, around: &Around<'_>) -> bool {
        match self.ledger.newest_round(event.subject, event.transition, level) {
            None => false,
            Some((name, _)) if name.ballot > event.round.ballot => true,
            Some((name, _)) => {
                name.ballot < event.round.ballot && self.nobody_knows(event.subject, event.transition, level, around)
            }
        }
    }

    /// DESIGN 5: after a takeover a level counts as having heard if all that did not acknowledge the level below are dead:
    /// nobody who lives knows whether they did.
    fn may_have_heard(&self, event: &StepEvent, lower: u16, progress: &Progress, around: &Around<'_>) -> bool {
        let Progress::Missing(nodes) = progress else { return false };
        let Some((name, round)) = self.ledger.newest_round(event.subject, Transition::Joining, lower) else {
            return false;
        };
        let out = |node: &u8| {
            let life = round.participants.get(node).copied().flatten().map(|inc| Life { node: *node, inc });
            life.is_some_and(|life| around.history.seen_before(life, NodeState::ForcedLeaving, around.lc))
        };
        name.ballot < event.round.ballot && nodes.iter().all(out)
    }

    fn check_barrier(&mut self, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        self.counts.barriers_ordered += 1;
        let before = Step { barrier: event.barrier - 1, ..Step::from(event) };
        if let Progress::Missing(nodes) = self.ledger.missing(event.round, before, around.at()) {
            let what = format!("{} before nodes {nodes:?} acknowledged barrier {}", words(event), before.barrier);
            out.add(Rule::BarrierOrder, what);
        }
    }

    /// Joins and forced leaves climb.
    fn check_levels_below(&mut self, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        let mut below: BTreeSet<u16> =
            self.ledger.levels_of(event.subject, event.transition).filter(|l| *l < event.level).collect();
        if event.transition == Transition::Joining
            && let Some(levels) = self.ledger.registered.get(&event.subject)
        {
            below.extend(levels.range(1..event.level.clamp(1, USER_FROM)).map(|(l, _)| *l));
        }
        for lower in below {
            self.check_level_through(event, lower, around, out);
        }
    }

    /// Graceful leaves descend.
    fn check_levels_above(&mut self, event: &StepEvent, around: &Around<'_>, out: &mut Findings) {
        let mut above: BTreeSet<u16> =
            self.ledger.levels_of(event.subject, Transition::Leaving).filter(|l| *l > event.level).collect();
        let heard = |l: &u16| *l > event.level && !self.nobody_knows(event.subject, Transition::Joining, *l, around);
        above.extend(self.ledger.levels_of(event.subject, Transition::Joining).filter(heard));
        for upper in above {
            let gone = self.ledger.level(event.subject, upper, around.lc).is_none();
            let left = self.ledger.heard(event.subject, Transition::Leaving).is_some_and(|l| l.contains(&upper));
            if !gone || left {
                self.check_level_through(event, upper, around, out);
            }
        }
    }

    fn check_level_through(&mut self, event: &StepEvent, level: u16, around: &Around<'_>, out: &mut Findings) {
        self.counts.levels_ordered += 1;
        match self.ledger.transition_through(event.subject, event.transition, level, around.at()) {
            Progress::Through(_) => {}
            Progress::Missing(_) if self.never_existed(event, level, around) => {}
            Progress::Missing(nodes) => {
                let what = format!("{} before nodes {nodes:?} were through at level {level}", words(event));
                out.add(Rule::LevelOrder, what);
            }
            Progress::NoRound if around.master_cut(event.round.ballot) => out.tolerated += 1,
            Progress::NoRound => {
                out.add(Rule::LevelSkipped, format!("{}, but level {level} was left out", words(event)));
            }
        }
    }

    fn check_join_complete(&mut self, life: Life, around: &Around<'_>, out: &mut Findings) {
        let began = around.history.seen(life, NodeState::Joining).unwrap_or(0);
        let levels: Vec<u16> = match self.ledger.registered.get(&life) {
            Some(levels) => levels.range(..USER_FROM).filter(|(_, r)| r.lc < began).map(|(l, _)| *l).collect(),
            None => return,
        };
        for level in levels {
            let progress = self.ledger.transition_through(life, Transition::Joining, level, around.at());
            self.report_lost(life, ("join", level), progress, around, out);
        }
    }

    fn check_leave_complete(&mut self, life: Life, around: &Around<'_>, out: &mut Findings) {
        let heard = |l: &u16| *l < USER_FROM && !self.nobody_knows(life, Transition::Joining, *l, around);
        let levels: Vec<u16> = self.ledger.levels_of(life, Transition::Joining).filter(heard).collect();
        for level in levels {
            let progress = self.ledger.transition_through(life, Transition::Leaving, level, around.at());
            self.report_lost(life, ("leave", level), progress, around, out);
        }
    }

    fn report_lost(
        &self,
        life: Life,
        (name, level): (&str, u16),
        progress: Progress,
        around: &Around<'_>,
        out: &mut Findings,
    ) {
        match progress {
            Progress::Through(_) => {}
            Progress::Missing(nodes) => {
                let what = format!("the {name} of {life} ends, but nodes {nodes:?} are not through at level {level}");
                out.add(Rule::LostTransition, what);
            }
            // The membership manager's own level may do without rounds.
            Progress::NoRound if level == 0 => {}
            Progress::NoRound if around.newest_master_cut() => out.tolerated += 1,
            Progress::NoRound => {
                out.add(Rule::LostTransition, format!("the {name} of {life} ends, but level {level} was left out"));
            }
        }
    }

    /// Every survivor that knew the dead node at a level has acknowledged its forced leave there.
    fn check_forced_leave_complete(&mut self, dead: Life, around: &Around<'_>, members: &Members, out: &mut Findings) {
        if !around.storage.fenced_before(dead, around.lc) && !around.newest_master_cut() {
            out.add(Rule::Fence, format!("the forced leave of {dead} ends without a fence"));
        }
        let Some(forced_lc) = around.history.seen(dead, NodeState::ForcedLeaving) else { return };
        for (node, (state, inc)) in members {
            let survivor = Life { node: *node, inc: *inc };
            let was_there = around.history.seen_before(survivor, NodeState::Joining, forced_lc);
            if *node == dead.node || !state.is_member() || !was_there {
                continue;
            }
            let levels: Vec<u16> = match self.ledger.registered.get(&survivor) {
                Some(levels) => levels.range(..USER_FROM).map(|(l, _)| *l).collect(),
                None => continue,
            };
            for level in levels {
                let knew = self.ledger.was_notified(survivor, level, dead, Transition::Joining)
                    || self.both_joined(survivor, dead, level, around.at_lc(forced_lc));
                // Who came to the level after the dead one had left it never knew it there.
                let left = matches!(
                    self.ledger.transition_through(dead, Transition::Leaving, level, around.at_lc(forced_lc)),
                    Progress::Through(_)
                );
                let done = !knew
                    || left
                    || self.ledger.was_notified(survivor, level, survivor, Transition::Leaving)
                    || self.ledger.acked_last(survivor, level, dead, Transition::Leaving, around.lc)
                    || self.ledger.acked_last(survivor, level, dead, Transition::ForcedLeaving, around.lc)
                    || around.history.cut(survivor, around.lc, around.lives);
                if !done {
                    let what =
                        format!("the forced leave of {dead} ends, but {survivor} is not through at level {level}");
                    out.add(Rule::LostTransition, what);
                }
            }
        }
    }

    fn both_joined(&mut self, a: Life, b: Life, level: u16, at: At<'_>) -> bool {
        [a, b].into_iter().all(|life| {
            matches!(self.ledger.transition_through(life, Transition::Joining, level, at), Progress::Through(_))
        })
    }
}

fn words(event: &StepEvent) -> String {
    let StepEvent { level, subject, transition, barrier, .. } = event;
    format!("{} of {subject} at level {level}, barrier {barrier}", transition.name())
}
