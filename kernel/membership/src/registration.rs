//! Registration of levels: the static ones before the node asks to join, run-time ones at any time after (EP p. 5: "before a
//! node joins, interested subsystems register"; EP p. 6: the event manager registers once the kernel levels are through).
//!
//! ```text
//! register ─▶ wanted ──joining, at this level only──▶ joined ──leaving, at this level only──▶ de-registered
//!               └─ refused by name (other barriers …): stays, and says so, until it is de-registered
//! any ──died──▶ de-registered here at once; the others take a forced leave at this level only
//! ```
//! The node stays joined in the view all the while. A wish is repeated to whoever is master until it is through: the step of
//! the level itself says so, or a [`LevelOutcome`]. A request carries a serial number, so that one that comes late undoes
//! nothing. A leave of the node takes its run-time levels along; each is de-registered when the node has left it.

use core::fmt;

use heapless::Vec;
use quorate_base::capacity::LEVELS_MAX;
use quorate_base::event::{Event, Trace};
use quorate_base::halt::RefuseReason;
use quorate_base::{Ballot, Instant, LevelDecl, LevelName, LevelOrder, NodeSet, NodeState, Transition};

use crate::member::{Level, Member, RunTime};
use crate::message::{LevelOffer, LevelOutcome, LevelRequest, LevelResult, LevelWish};

/// Why a level could not be registered. Nothing is registered then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegisterError {
    /// Another level of this node has this order.
    OrderTaken,
    /// More than `LEVELS_MAX`, those among them whose end the others have not seen through yet.
    Full,
    /// A barrier count outside `1..=BARRIERS_MAX`.
    Barriers,
    /// No name, or one that is too long.
    Name,
    /// At run time: the order is below `LevelOrder::USER_FROM`, or not above every static level of this node.
    Order,
    /// The node is leaving.
    Leaving,
    /// The node is not alive: being born, or halted.
    NotAlive,
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OrderTaken => f.write_str("another level of this node has this order"),
            Self::Full => write!(f, "this node has {LEVELS_MAX} levels already"),
            Self::Barriers => f.write_str("a level needs 1 to 16 barriers of each kind"),
            Self::Name => f.write_str("a level's name has 1 to 16 bytes"),
            Self::Order => f.write_str("a run-time level's order is 100 or more, and above every static level"),
            Self::Leaving => f.write_str("the node is leaving"),
            Self::NotAlive => f.write_str("the node is not alive"),
        }
    }
}

impl core::error::Error for RegisterError {}

/// How a run-time level goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deregister {
    /// It takes part in its own leave.
    Graceful,
    /// What served it is gone: the others recover.
    Died,
}

/// Why a level could not be de-registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeregisterError {
    /// No level of this order.
    Unknown,
    /// It was not registered at run time.
    Static,
    /// The node is leaving, and takes it along.
    Leaving,
    /// The node is not alive: being born, or halted.
    NotAlive,
}

impl fmt::Display for DeregisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no level of this node has this order"),
            Self::Static => f.write_str("this level was not registered at run time"),
            Self::Leaving => f.write_str("the node is leaving, and takes the level along"),
            Self::NotAlive => f.write_str("the node is not alive"),
        }
    }
}

impl core::error::Error for DeregisterError {}

/// How a level of this node stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LevelStatus {
    /// What the node is there: inactive until its join is told.
    At(NodeState),
    /// The master refused it. It stays so until it is de-registered.
    Refused(RefuseReason),
}

impl Member {
    /// Registers a static level (EP p. 5).
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn register(&mut self, decl: &LevelDecl<'_>, trace: &mut Trace<'_>) -> Result<(), RegisterError> {
        self.insert(decl, None, trace)
    }

    /// Registers a level at run time. It joins by itself once the node is joined. `began`: the node has begun to join.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn register_run_time(
        &mut self,
        decl: &LevelDecl<'_>,
        began: bool,
        trace: &mut Trace<'_>,
    ) -> Result<(), RegisterError> {
        let highest = self.levels.iter().filter(|l| l.run_time.is_none()).map(|l| l.order).max();
        if decl.order < LevelOrder::USER_FROM || highest.is_some_and(|highest| decl.order <= highest) {
            let taken = self.levels.iter().any(|l| l.order == decl.order);
            return Err(if taken { RegisterError::OrderTaken } else { RegisterError::Order });
        }
        if self.levels.len() + self.died.len() >= LEVELS_MAX {
            return Err(RegisterError::Full);
        }
        let since = self.serial.saturating_add(1);
        self.insert(
            decl,
            Some(RunTime { told: began, was_in: false, unwanted: false, refused: None, since, wished: trace.now }),
            trace,
        )
    }

    fn insert(
        &mut self,
        decl: &LevelDecl<'_>,
        run_time: Option<RunTime>,
        trace: &mut Trace<'_>,
    ) -> Result<(), RegisterError> {
        if !decl.barriers.is_valid() {
            return Err(RegisterError::Barriers);
        }
        let name = LevelName::try_from(decl.name).map_err(|_| RegisterError::Name)?;
        if name.is_empty() {
            return Err(RegisterError::Name);
        }
        let at = self.levels.iter().position(|l| l.order >= decl.order).unwrap_or(self.levels.len());
        if self.levels.get(at).is_some_and(|l| l.order == decl.order) {
            return Err(RegisterError::OrderTaken);
        }
        self.levels.insert(at, Level::new(decl, name, run_time)).map_err(|_| RegisterError::Full)?;
        if run_time.is_none_or(|r| r.told) {
            trace.event(Event::Register { level: decl.order, name: decl.name, barriers: decl.barriers });
        }
        Ok(())
    }

    /// The node has begun to join: what was registered before is told.
    pub(crate) fn tell_registrations(&mut self, trace: &mut Trace<'_>) {
        for l in &mut self.levels {
            if let Some(run_time) = l.run_time.as_mut().filter(|r| !r.told) {
                run_time.told = true;
                trace.event(Event::Register { level: l.order, name: &l.name, barriers: l.barriers });
            }
        }
    }

    /// De-registers a run-time level. `joined`: the node is joined or leaving, so that others may know of the level.
    ///
    /// # Errors
    /// [`DeregisterError`].
    pub fn deregister(
        &mut self,
        order: LevelOrder,
        how: Deregister,
        joined: bool,
        trace: &mut Trace<'_>,
    ) -> Result<(), DeregisterError> {
        let since = self.serial.saturating_add(1);
        let level = self.levels.iter_mut().find(|l| l.order == order).ok_or(DeregisterError::Unknown)?;
        let run_time = level.run_time.as_mut().ok_or(DeregisterError::Static)?;
        // Nobody else knows of one that was refused, or that could not ask yet.
        let alone = run_time.refused.is_some() || !joined;
        match how {
            _ if alone => self.drop_level(order, trace),
            Deregister::Graceful => {
                (run_time.unwanted, run_time.since, run_time.wished) = (true, since, trace.now);
            }
            Deregister::Died => {
                let offer = LevelOffer { present: NodeSet::EMPTY, ..level.offer() };
                if self.died.iter().all(|(died, _)| died.order != order) {
                    // Never full: `register_run_time` counts them.
                    let _ = self.died.push((offer, since));
                }
                self.drop_level(order, trace);
            }
        }
        Ok(())
    }

    /// The level is gone from this node.
    fn drop_level(&mut self, order: LevelOrder, trace: &mut Trace<'_>) {
        let Some(at) = self.levels.iter().position(|l| l.order == order) else { return };
        let level = self.levels.remove(at);
        if level.run_time.is_none_or(|r| r.told) {
            trace.event(Event::Deregister { level: order, name: &level.name, barriers: level.barriers });
        }
        self.forget_level(order);
    }

    /// De-registers each run-time level that this node has left.
    pub(crate) fn retire(&mut self, trace: &mut Trace<'_>) {
        let me = self.me;
        let mut left: Vec<LevelOrder, LEVELS_MAX> = Vec::new();
        for l in self.levels.iter_mut().rev() {
            let Some(run_time) = &mut l.run_time else { continue };
            let inside = l.vector.state(me) != NodeState::Inactive;
            run_time.was_in |= inside;
            if run_time.was_in && !inside {
                // Never full: one per level.
                let _ = left.push(l.order);
            }
        }
        for order in left {
            self.drop_level(order, trace);
        }
    }

    /// The node ends: its run-time levels are de-registered, the highest first (MISSION A3).
    pub fn deregister_all(&mut self, trace: &mut Trace<'_>) {
        while let Some(order) = self.levels.iter().rev().find(|l| l.run_time.is_some()).map(|l| l.order) {
            self.drop_level(order, trace);
        }
    }

    /// How a level of this node stands.
    pub fn level_status(&self, order: LevelOrder) -> Option<LevelStatus> {
        let level = self.levels.iter().find(|l| l.order == order)?;
        let refused = level.run_time.and_then(|r| r.refused);
        Some(refused.map_or(LevelStatus::At(level.vector.state(self.me)), LevelStatus::Refused))
    }

    /// Levels that the master has not begun to take in or out, with what they want and when they first said so.
    pub fn pending(&self) -> impl Iterator<Item = (&Level, Transition, Instant)> + '_ {
        let under_way = self.local_step(self.me).map(|(step, _)| step.level);
        self.levels.iter().filter(move |l| Some(l.order) != under_way).filter_map(|l| {
            let wish = l.run_time.filter(|r| r.refused.is_none())?;
            let outside = l.vector.state(self.me) == NodeState::Inactive;
            match (wish.unwanted, outside) {
                (true, _) => Some((l, Transition::Leaving, wish.wished)),
                (false, true) => Some((l, Transition::Joining, wish.wished)),
                (false, false) => None,
            }
        })
    }

    fn wishes(&self, leaving: bool) -> impl Iterator<Item = LevelWish> + '_ {
        let died = self.died.iter().map(|(died, _)| LevelWish::Died(died.order));
        // The master takes one after the other: while a step of one is under way here, it needs no reminder.
        let busy = leaving || self.local_step(self.me).is_some();
        let asks = |unwanted: bool| {
            let mine =
                move |l: &&Level| !busy && l.run_time.is_some_and(|r| r.unwanted == unwanted && r.refused.is_none());
            self.levels.iter().filter(mine)
        };
        let leaves = asks(true).map(|l| LevelWish::Leave(l.order));
        let joins = asks(false)
            .filter(|l| l.vector.state(self.me) == NodeState::Inactive)
            .filter(|l| self.died.iter().all(|(died, _)| died.order != l.order))
            .map(|l| LevelWish::Join(l.offer()));
        died.chain(leaves).chain(joins)
    }

    /// Whether there is something to ask the master for. A leaving node only tells of deaths.
    pub fn has_wishes(&self, leaving: bool) -> bool {
        self.wishes(leaving).next().is_some()
    }

    /// The next request to the master of `ballot`.
    pub fn level_request(&mut self, ballot: Ballot, leaving: bool) -> LevelRequest {
        self.serial = self.serial.saturating_add(1);
        let mut wishes = Vec::new();
        for wish in self.wishes(leaving) {
            // Never full: `register_run_time` counts the dead among the levels.
            let _ = wishes.push(wish);
        }
        LevelRequest { ballot, serial: self.serial, wishes }
    }

    /// What became of wishes.
    pub fn on_level_result(&mut self, result: &LevelResult, trace: &mut Trace<'_>) {
        for (order, outcome) in &result.results {
            let wanted = self.levels.iter_mut().find(|l| {
                let out = l.vector.state(self.me) == NodeState::Inactive;
                l.order == *order && out && l.run_time.is_some_and(|r| r.since <= result.serial)
            });
            match (outcome, wanted.and_then(|l| l.run_time.as_mut())) {
                (LevelOutcome::Gone, wanted) => {
                    let unwanted = wanted.is_some_and(|r| r.unwanted);
                    let before = self.died.len();
                    self.died.retain(|(died, since)| died.order != *order || *since > result.serial);
                    if unwanted && before == self.died.len() {
                        self.drop_level(*order, trace);
                    }
                }
                (LevelOutcome::Refused(reason), Some(run_time)) if !run_time.unwanted => {
                    run_time.refused = Some(*reason);
                }
                (LevelOutcome::Refused(_), _) => {}
            }
        }
    }
}
