//! The rounds and barriers of membership, on the shipped node: three nodes, two levels with barriers beside membership, all
//! orders of messages and acknowledgements, with nodes that die at any moment, messages lost and messages late.

pub mod catalog;
mod cluster;
mod letter;
mod monitor;

use quorate_base::NodeId;

use self::cluster::{Cluster, NODES};
use self::monitor::{INVARIANTS, SETTLES};
use crate::explore::{Hash128, Model, Violation};

/// What is asked for, in this order, each at any moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Order {
    /// Boot it.
    Start(u8),
    /// Leave gracefully.
    Leave(u8),
    /// Boot it again once it has died.
    Again(u8),
}

/// A story that is told in every order.
#[derive(Clone, Debug)]
pub struct Rounds {
    /// Its name.
    pub name: &'static str,
    /// Nodes that are joined before it begins.
    pub joined: u8,
    /// What is asked for.
    pub orders: &'static [Order],
    /// So many nodes die, each at any moment.
    pub crashes: u8,
    /// So many messages are lost.
    pub losses: u8,
    /// So many messages are delayed until any later moment.
    pub delays: u8,
}

/// One state.
#[derive(Clone, Debug)]
pub struct State {
    cluster: Cluster,
    /// Orders that were given.
    given: usize,
    crashes: u8,
    losses: u8,
    delays: u8,
    /// Nodes that died and are not to come back.
    dead: quorate_base::NodeSet,
}

/// What can happen.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// A message on the wire arrives.
    Deliver(usize),
    /// A delayed one does.
    DeliverLate(usize),
    /// One is lost.
    Lose(usize),
    /// One is delayed.
    Delay(usize),
    /// A level acknowledges.
    Acknowledge(NodeId, usize),
    /// The next order is given.
    Give,
    /// A node dies.
    Crash(NodeId),
    /// Time passes.
    Advance,
}

fn id(n: u8) -> NodeId {
    // Node numbers of this file are below 64.
    NodeId::new(n).unwrap_or_else(|| unreachable!("node {n}"))
}

impl Rounds {
    fn give(&self, s: &mut State) -> Result<bool, Violation> {
        let Some(order) = self.orders.get(s.given).copied() else { return Ok(false) };
        match order {
            Order::Start(n) | Order::Again(n) if s.cluster.runs(id(n)) => return Ok(false),
            Order::Again(n) if !s.dead.contains(id(n)) => return Ok(false),
            Order::Start(n) | Order::Again(n) => s.cluster.start(id(n))?,
            Order::Leave(n) => s.cluster.leave(id(n))?,
        }
        s.given += 1;
        Ok(true)
    }

    /// What comes of an action, with everything that is still on the wire.
    fn act(&self, s: &State, action: Action) -> Result<Option<State>, Violation> {
        let mut next = s.clone();
        match action {
            Action::Deliver(at) => {
                let letter = next.cluster.wire.remove(at);
                next.cluster.deliver(&letter)?;
            }
            Action::DeliverLate(at) => {
                let letter = next.cluster.held.remove(at);
                next.cluster.deliver(&letter)?;
            }
            Action::Lose(at) => {
                next.cluster.wire.remove(at);
                next.losses -= 1;
            }
            Action::Delay(at) => {
                let letter = next.cluster.wire.remove(at);
                next.cluster.held.push(letter);
                next.delays -= 1;
            }
            Action::Acknowledge(n, at) => next.cluster.acknowledge(n, at)?,
            Action::Give => {
                if !self.give(&mut next)? {
                    return Ok(None);
                }
            }
            Action::Crash(n) => {
                next.cluster.crash(n);
                next.dead.insert(n);
                next.crashes -= 1;
            }
            Action::Advance => match next.cluster.advance()? {
                Some(cluster) => next.cluster = cluster,
                None => return Ok(None),
            },
        }
        Ok(Some(next))
    }
}

impl Model for Rounds {
    type State = State;
    type Action = Action;

    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn bounds(&self) -> String {
        let (deaths, losses, delays) = (self.crashes, self.losses, self.delays);
        format!(
            "{NODES} nodes, levels 0, 60 (barriers 2/1/1) and 70 (1/2/2), {} joined before, then {:?} at any moment; \
             deaths {deaths}, lost messages {losses}, late messages {delays}",
            self.joined, self.orders
        )
    }

    fn invariants(&self) -> &'static [&'static str] {
        &INVARIANTS
    }

    fn initial(&mut self) -> Result<Vec<State>, Violation> {
        let mut cluster = Cluster::new();
        for n in NodeId::first(self.joined) {
            cluster.start(n)?;
        }
        let mut state = State {
            cluster,
            given: self.orders.len(),
            crashes: self.crashes,
            losses: self.losses,
            delays: self.delays,
            dead: quorate_base::NodeSet::EMPTY,
        };
        for _ in 0..10_000 {
            if self.is_goal(&state) {
                state.given = 0;
                return Ok(vec![state]);
            }
            match self.fair(&state, 0)? {
                Some(next) => state = next,
                None => break,
            }
        }
        Err(Violation::new(SETTLES, format!("the story cannot begin: {}", state.cluster.tell())))
    }

    fn key(&self, s: &State) -> u128 {
        use std::hash::Hash;
        let mut hasher = Hash128::default();
        (s.given, s.crashes, s.losses, s.delays).hash(&mut hasher);
        s.cluster.key(&mut hasher);
        hasher.key()
    }

    fn actions(&mut self, s: &State, actions: &mut Vec<Action>) {
        for at in 0..s.cluster.wire.len() {
            actions.push(Action::Deliver(at));
            if s.losses > 0 {
                actions.push(Action::Lose(at));
            }
            if s.delays > 0 {
                actions.push(Action::Delay(at));
            }
        }
        actions.extend((0..s.cluster.held.len()).map(Action::DeliverLate));
        actions.extend(s.cluster.working().map(|(n, at, _, _)| Action::Acknowledge(n, at)));
        if s.given < self.orders.len() {
            actions.push(Action::Give);
        }
        if s.crashes > 0 {
            actions.extend(NodeId::first(NODES).filter(|n| s.cluster.runs(*n)).map(Action::Crash));
        }
        if s.cluster.wire.is_empty() {
            actions.push(Action::Advance);
        }
    }

    fn step(&mut self, s: &State, action: Action) -> Result<Option<State>, Violation> {
        let mut next = self.act(s, action)?;
        if let Some(next) = &mut next {
            next.cluster.drop_spent();
        }
        Ok(next)
    }

    fn is_within(&self, _: &State) -> bool {
        true
    }

    fn tell(&mut self, before: &State, action: Action, after: Option<&State>) -> String {
        let what = match action {
            Action::Deliver(at) => {
                before.cluster.wire.get(at).map_or_else(String::new, |l| format!("arrives: {}", l.tell()))
            }
            Action::DeliverLate(at) => {
                before.cluster.held.get(at).map_or_else(String::new, |l| format!("arrives late: {}", l.tell()))
            }
            Action::Lose(at) => {
                before.cluster.wire.get(at).map_or_else(String::new, |l| format!("is lost: {}", l.tell()))
            }
            Action::Delay(at) => {
                before.cluster.wire.get(at).map_or_else(String::new, |l| format!("is delayed: {}", l.tell()))
            }
            Action::Acknowledge(n, at) => {
                let work = before.cluster.working().find(|(m, i, _, _)| *m == n && *i == at);
                work.map_or_else(String::new, |(_, _, level, change)| {
                    let s = change.subject;
                    format!(
                        "node {n}, level {level} acknowledges node {} {} barrier {}",
                        s.node, s.transition, change.barrier
                    )
                })
            }
            Action::Give => format!("asked for: {:?}", self.orders.get(before.given)),
            Action::Crash(n) => format!("node {n} dies"),
            Action::Advance => "time passes".to_owned(),
        };
        match after {
            Some(after) => format!("{what}\n      {}", after.cluster.tell()),
            None => what,
        }
    }

    fn fair(&mut self, s: &State, _: u32) -> Result<Option<State>, Violation> {
        let action = if !s.cluster.wire.is_empty() {
            Action::Deliver(0)
        } else if !s.cluster.held.is_empty() {
            Action::DeliverLate(0)
        } else if let Some((n, at, _, _)) = s.cluster.working().next() {
            Action::Acknowledge(n, at)
        } else if s.given < self.orders.len() {
            Action::Give
        } else {
            Action::Advance
        };
        match (self.step(s, action)?, action) {
            (Some(next), _) => Ok(Some(next)),
            // It cannot be given any more: the node is gone.
            (None, Action::Give) => Ok(Some(State { given: s.given + 1, ..s.clone() })),
            (None, _) => Err(Violation::new(SETTLES, format!("nothing happens any more: {}", s.cluster.tell()))),
        }
    }

    fn turns(&self) -> u32 {
        1
    }

    fn is_goal(&self, s: &State) -> bool {
        s.given >= self.orders.len() && s.cluster.is_settled()
    }

    fn liveness(&self) -> &'static str {
        SETTLES
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What nodes, levels, disk and judge can be in a story, whatever is on the wire; and how many states that takes.
    fn reached(story: &Rounds, step: impl Fn(&mut Rounds, &State, Action) -> Option<State>) -> (BTreeSet<u128>, usize) {
        let mut story = story.clone();
        let mut open = story.initial().expect("the story begins");
        let mut seen: BTreeSet<u128> = open.iter().map(|s| story.key(s)).collect();
        let (mut reached, mut actions) = (BTreeSet::new(), Vec::new());
        while let Some(state) = open.pop() {
            let mut bare = state.clone();
            bare.cluster.wire.clear();
            bare.cluster.held.clear();
            reached.insert(story.key(&bare));
            actions.clear();
            story.actions(&state, &mut actions);
            let next = actions.iter().filter_map(|action| step(&mut story, &state, *action));
            let next: Vec<State> = next.collect();
            open.extend(next.into_iter().filter(|s| seen.insert(story.key(s))));
        }
        (reached, seen.len())
    }

    #[test]
    fn what_is_spent_would_change_nothing() {
        let death = Rounds { name: "", joined: 3, orders: &[], crashes: 1, losses: 0, delays: 0 };
        let lost = Rounds { joined: 2, orders: &[Order::Start(2)], crashes: 0, losses: 1, ..death };
        let late = Rounds { losses: 0, delays: 1, ..lost };
        for story in [death, lost, late] {
            let holds = |next: Result<Option<State>, Violation>| next.expect("it holds");
            let (with, more) = reached(&story, |story, s, action| holds(story.act(s, action)));
            let (without, fewer) = reached(&story, |story, s, action| holds(story.step(s, action)));
            assert!(fewer < more, "{fewer} of {more} states");
            let differ = with.symmetric_difference(&without).count();
            assert_eq!(differ, 0, "of {}", with.len());
        }
    }
}
