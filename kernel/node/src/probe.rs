//! The named test levels of scenarios: a level that takes a stated time for its work, and on chosen nodes never finishes a
//! join (EP Fig. 13).
//!
//! A word `level=ORDER:NAME:JOINING:LEAVING:FORCED_LEAVING:WORK_MS:HANG:EVERYWHERE[:DEADLINE_MS]` on the command line
//! declares one; the same word after `register` at the console registers one at run time.

use core::fmt;

use heapless::Vec;
use quorate_base::capacity::{LEVEL_NAME_MAX, LEVELS_MAX, NODES_MAX};
use quorate_base::{Barriers, Instant, LevelDecl, LevelName, LevelOrder, NodeSet, Transition};
use quorate_membership::Change;

use crate::node::{Node, Ports};

/// What a scenario declares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbeLevel {
    /// Its order.
    pub order: LevelOrder,
    /// Its name.
    pub name: LevelName,
    /// Its barriers.
    pub barriers: Barriers,
    /// How long it works on a notification, ms.
    pub work_ms: u32,
    /// It never acknowledges a join.
    pub hang: bool,
    /// Every node has it.
    pub everywhere: bool,
    /// The level's deadline for a step, ms; 0: none.
    pub deadline_ms: u32,
}

/// Why a word does not declare a level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProbeWordError {
    /// Neither eight nor nine fields.
    Fields,
    /// A field, counted from 1, is no number or outside its bounds.
    Number(u8),
    /// The name is empty or too long.
    Name,
    /// Barriers outside `1..=BARRIERS_MAX`.
    Barriers,
}

impl fmt::Display for ProbeWordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fields => f.write_str(
                "a level takes ORDER:NAME:JOINING:LEAVING:FORCED_LEAVING:WORK_MS:HANG:EVERYWHERE[:DEADLINE_MS]",
            ),
            Self::Number(field) => write!(f, "field {field} of a level is no number in its bounds"),
            Self::Name => write!(f, "a level needs a name of 1 to {LEVEL_NAME_MAX} bytes"),
            Self::Barriers => f.write_str("a level needs 1 to 16 barriers of each kind"),
        }
    }
}

impl core::error::Error for ProbeWordError {}

impl ProbeLevel {
    /// Parses the value of a `level=` word.
    ///
    /// # Errors
    /// See [`ProbeWordError`].
    pub fn parse(word: &str) -> Result<Self, ProbeWordError> {
        let fields: Vec<&str, 10> = word.splitn(10, ':').collect();
        let (required, deadline) = match fields[..] {
            [ref required @ .., deadline] if required.len() == 8 => (required, deadline),
            ref required => (required, "0"),
        };
        let [order, name, joining, leaving, forced, work, hang, everywhere] = *required else {
            return Err(ProbeWordError::Fields);
        };
        fn number<T: core::str::FromStr>(text: &str, field: u8) -> Result<T, ProbeWordError> {
            text.parse().map_err(|_| ProbeWordError::Number(field))
        }
        let flag = |text: &str, field| match text {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(ProbeWordError::Number(field)),
        };
        let level = Self {
            order: LevelOrder(number(order, 1)?),
            name: LevelName::try_from(name).map_err(|_| ProbeWordError::Name)?,
            barriers: Barriers {
                joining: number(joining, 3)?,
                leaving: number(leaving, 4)?,
                forced_leaving: number(forced, 5)?,
            },
            work_ms: number(work, 6)?,
            hang: flag(hang, 7)?,
            everywhere: flag(everywhere, 8)?,
            deadline_ms: number(deadline, 9)?,
        };
        if level.name.is_empty() {
            return Err(ProbeWordError::Name);
        }
        if !level.barriers.is_valid() {
            return Err(ProbeWordError::Barriers);
        }
        if level.order == LevelOrder::MEMBERSHIP {
            return Err(ProbeWordError::Number(1));
        }
        Ok(level)
    }

    /// How it registers.
    pub fn decl(&self) -> LevelDecl<'_> {
        LevelDecl {
            order: self.order,
            name: &self.name,
            barriers: self.barriers,
            everywhere: self.everywhere,
            deadline_ms: self.deadline_ms,
        }
    }
}

/// The level at work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    level: ProbeLevel,
    /// It came at run time: it goes with its level.
    run_time: bool,
    work: Vec<(Instant, Change), NODES_MAX>,
    /// Whom it was told to recover, in all.
    recover: NodeSet,
}

impl Probe {
    /// With nothing to do.
    pub const fn new(level: ProbeLevel) -> Self {
        Self { level, run_time: false, work: Vec::new(), recover: NodeSet::EMPTY }
    }

    /// When it has something to do.
    pub fn poll_timeout(&self) -> Instant {
        self.work.iter().map(|(due, _)| *due).min().unwrap_or(Instant::FAR)
    }

    /// Takes what there is for it and acknowledges what is due. True if it did anything.
    pub fn poll(&mut self, now: Instant, node: &mut Node, ports: &mut Ports<'_>) -> bool {
        let mut did = false;
        if let Some(notification) = node.take_notification(self.level.order) {
            did = true;
            self.recover = self.recover.or(notification.recover);
            for change in notification.changes.iter().filter(|c| !c.overtaken) {
                // A later notification of a node ends the work on an earlier one (EP Table 1).
                self.work.retain(|(_, c)| c.subject.node != change.subject.node);
                if self.level.hang && change.subject.transition == Transition::Joining {
                    continue;
                }
                // Never full: one entry per node.
                let _ = self.work.push((now.plus_ms(self.level.work_ms), *change));
            }
        }
        while let Some(at) = self.work.iter().position(|(due, _)| *due <= now) {
            did = true;
            let (_, change) = self.work.swap_remove(at);
            node.acknowledge(now, self.level.order, &change, ports);
        }
        did
    }
}

/// The test levels of one node: those that it was started with, and those that came at run time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Probes(Vec<Probe, LEVELS_MAX>);

impl Probes {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one whose level was registered at run time. It goes when the node has the level no more.
    ///
    /// # Errors
    /// The level, if there are `LEVELS_MAX` already.
    pub fn add(&mut self, level: ProbeLevel) -> Result<(), ProbeLevel> {
        self.0.push(Probe { run_time: true, ..Probe::new(level) }).map_err(|probe| probe.level)
    }

    /// Ends one: it acknowledges nothing any more.
    pub fn remove(&mut self, order: LevelOrder) {
        self.0.retain(|probe| probe.level.order != order);
    }

    /// Whether there is no room for another one.
    pub fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// Ends those whose level is gone: what they still worked on is nobody's business any more.
    pub fn sweep(&mut self, node: &Node) {
        let Some(membership) = node.membership() else { return };
        let levels = membership.member().levels();
        self.0.retain(|probe| !probe.run_time || levels.iter().any(|l| l.order == probe.level.order));
    }

    /// Which level was told to recover whom, with its first join after a formation.
    pub fn recover(&self) -> impl Iterator<Item = (LevelOrder, NodeSet)> + '_ {
        self.0.iter().filter(|probe| !probe.run_time).map(|probe| (probe.level.order, probe.recover))
    }

    /// When one has something to do.
    pub fn poll_timeout(&self) -> Instant {
        self.0.iter().map(Probe::poll_timeout).min().unwrap_or(Instant::FAR)
    }

    /// Lets each do what it can. True if one did anything.
    pub fn poll(&mut self, now: Instant, node: &mut Node, ports: &mut Ports<'_>) -> bool {
        if self.0.iter().any(|probe| probe.run_time) {
            self.sweep(node);
        }
        let mut did = false;
        for probe in &mut self.0 {
            did |= probe.poll(now, node, ports);
        }
        did
    }
}

impl FromIterator<ProbeLevel> for Probes {
    /// Takes `LEVELS_MAX` at most, which is as many as a node takes.
    fn from_iter<T: IntoIterator<Item = ProbeLevel>>(levels: T) -> Self {
        Self(levels.into_iter().take(LEVELS_MAX).map(Probe::new).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_word_is_parsed_and_each_mistake_is_named() {
        let good = ProbeLevel::parse("70:probe:2:1:3:20:0:1").unwrap();
        assert_eq!((good.order.0, good.name.as_str(), good.work_ms), (70, "probe", 20));
        assert_eq!(good.barriers, Barriers { joining: 2, leaving: 1, forced_leaving: 3 });
        assert!(good.everywhere && !good.hang && good.deadline_ms == 0);
        assert_eq!(ProbeLevel::parse("70:probe:2:1:3:20:0:1:1500").unwrap().deadline_ms, 1500);
        for (word, error) in [
            ("70:probe:2:1:3:20:0", ProbeWordError::Fields),
            ("70:probe:2:1:3:20:0:1:9:9", ProbeWordError::Fields),
            ("70:probe:2:1:3:20:0:1:", ProbeWordError::Number(9)),
            ("x:probe:2:1:3:20:0:1", ProbeWordError::Number(1)),
            ("0:probe:2:1:3:20:0:1", ProbeWordError::Number(1)),
            ("70::2:1:3:20:0:1", ProbeWordError::Name),
            ("70:a-name-of-17-byte:2:1:3:20:0:1", ProbeWordError::Name),
            ("70:probe:0:1:3:20:0:1", ProbeWordError::Barriers),
            ("70:probe:2:1:300:20:0:1", ProbeWordError::Number(5)),
            ("70:probe:2:1:3:20:2:1", ProbeWordError::Number(7)),
        ] {
            assert_eq!(ProbeLevel::parse(word), Err(error), "{word}");
        }
    }
}
