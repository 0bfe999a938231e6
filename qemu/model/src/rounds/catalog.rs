//! The stories of rounds and barriers, and for each rule of DESIGN 5 the story that shows what it is for.
//!
//! A rule is left out for the whole process: one search at a time.

use quorate_membership::rules::{Rule, leave_out};

use super::{Order, Rounds};
use crate::explore::{Limits, Report, explore};

const JOIN: Rounds =
    Rounds { name: "rounds-join", joined: 2, orders: &[Order::Start(2)], crashes: 1, losses: 0, delays: 0 };
const LEAVE: Rounds =
    Rounds { name: "rounds-leave", joined: 3, orders: &[Order::Leave(0)], crashes: 1, losses: 0, delays: 0 };
/// The same of one that is not the master: while it leaves a level it may be needed there, for the forced leave of the dead.
const MEMBER_LEAVES: Rounds = Rounds { name: "rounds-member-leaves", orders: &[Order::Leave(1)], ..LEAVE };
const TURN_BACK: Rounds = Rounds {
    name: "rounds-turn-back",
    joined: 2,
    orders: &[Order::Start(2), Order::Leave(2)],
    crashes: 0,
    losses: 0,
    delays: 0,
};
const BOTH: Rounds = Rounds {
    name: "rounds-join-leave",
    joined: 2,
    orders: &[Order::Start(2), Order::Leave(1)],
    crashes: 0,
    losses: 0,
    delays: 0,
};
const LOST: Rounds = Rounds { name: "rounds-lost", losses: 1, ..JOIN };
const LATE: Rounds = Rounds { name: "rounds-late", crashes: 0, delays: 1, ..JOIN };
const TWO_DEATHS: Rounds = Rounds { name: "rounds-two-deaths", crashes: 2, ..JOIN };

/// All stories; whether one is told in short as well.
pub const STORIES: [(Rounds, bool); 8] = [
    (JOIN, true),
    (LEAVE, false),
    (MEMBER_LEAVES, false),
    (TURN_BACK, true),
    (BOTH, false),
    (LOST, false),
    (LATE, false),
    (TWO_DEATHS, false),
];

// What is spent is dropped, and that counts on it (`Letter::is_spent_at`).
const _: () = {
    let mut at = 0;
    while at < STORIES.len() {
        let story = &STORIES[at].0;
        assert!(story.crashes == 0 || story.delays == 0, "nothing that is late comes from the dead");
        at += 1;
    }
};

/// A rule that can be left out.
#[derive(Clone, Debug)]
pub struct Switch {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it says.
    pub rule: &'static str,
    /// Whether its counterexample lies far away: a minute.
    pub far: bool,
    of: Rule,
    story: Rounds,
}

const fn switch(name: &'static str, of: Rule, story: Rounds, far: bool, rule: &'static str) -> Switch {
    Switch { name, rule, far, of, story }
}

/// All rules of rounds and barriers.
pub const SWITCHES: [Switch; 13] = [
    switch("ack-of-this-step", Rule::AckOfThisStep, JOIN, false, "an acknowledgement counts for exactly its step"),
    switch("all-acknowledge", Rule::AllAcknowledge, JOIN, false, "all participants acknowledge before it goes on"),
    switch("forced-first", Rule::ForcedFirst, JOIN, false, "joins and leaves wait for a forced leave at their level"),
    switch("fenced-first", Rule::FencedFirst, JOIN, false, "level 20 and above hear of a forced leave after the fence"),
    switch("step-once", Rule::StepOnce, JOIN, false, "a level takes a step once"),
    switch("furthest-wins", Rule::FurthestWins, LOST, true, "after a takeover the furthest progress wins"),
    switch("all-answer", Rule::AllAnswer, JOIN, false, "a new master waits for all answers, or forces out first"),
    switch("rounds-keep-names", Rule::RoundsKeepTheirNames, JOIN, false, "known rounds are issued again verbatim"),
    switch(
        "joining-before-forced",
        Rule::JoiningBeforeForced,
        LOST,
        true,
        "a Joining that was not delivered is delivered, overtaken at once by Forced-Leaving",
    ),
    switch("struck-at-once", Rule::StruckAtOnce, JOIN, false, "the dead are struck from all awaited sets at once"),
    switch(
        "reversed-between-levels",
        Rule::ReversedBetweenLevels,
        TURN_BACK,
        false,
        "a join is reversed only between two levels",
    ),
    switch("view-first", Rule::ViewFirst, JOIN, false, "a notification counts only with the adopted view"),
    switch(
        "needed-until-the-end",
        Rule::NeededUntilTheEnd,
        MEMBER_LEAVES,
        false,
        "a leave ends at a level only when nobody there needs the leaver any more",
    ),
];

/// Large states: the queue of a breadth-first search would not fit.
const LIMITS: Limits = Limits { states: 20_000_000, fair_every: 1, fair_steps: 5000, depth_first: true };

/// Tells a story in every order, with all rules.
pub fn run(story: &Rounds) -> Report {
    explore(&mut story.clone(), LIMITS)
}

impl Switch {
    /// Tells its story without the rule.
    pub fn run(&self) -> Report {
        leave_out(Some(self.of));
        let report = explore(&mut self.story.clone(), LIMITS);
        leave_out(None);
        report
    }
}
