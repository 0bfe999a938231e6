//! The named test levels of scenarios: a level that takes a stated time for its work, and on chosen nodes never finishes a
//! join (EP Fig. 13).
//!
//! A word `level=ORDER:NAME:JOINING:LEAVING:FORCED_LEAVING:WORK_MS:HANG:EVERYWHERE` on the command line declares one.

use core::fmt;

use heapless::Vec;
use quorate_base::capacity::{LEVEL_NAME_MAX, NODES_MAX};
use quorate_base::{Barriers, Instant, LevelDecl, LevelName, LevelOrder, Transition};
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
}

/// Why a word does not declare a level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProbeWordError {
    /// Not eight fields.
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
                "level= takes ORDER:NAME:JOINING:LEAVING:FORCED_LEAVING:WORK_MS:HANG:EVERYWHERE, eight fields",
            ),
            Self::Number(field) => write!(f, "level= field {field} is no number in its bounds"),
            Self::Name => write!(f, "level= needs a name of 1 to {LEVEL_NAME_MAX} bytes"),
            Self::Barriers => f.write_str("level= needs 1 to 16 barriers of each kind"),
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
        let fields: Vec<&str, 9> = word.splitn(9, ':').collect();
        let [order, name, joining, leaving, forced, work, hang, everywhere] = fields[..] else {
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
        LevelDecl { order: self.order, name: &self.name, barriers: self.barriers, everywhere: self.everywhere }
    }
}

/// The level at work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    level: ProbeLevel,
    work: Vec<(Instant, Change), NODES_MAX>,
}

impl Probe {
    /// With nothing to do.
    pub const fn new(level: ProbeLevel) -> Self {
        Self { level, work: Vec::new() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_word_is_parsed_and_each_mistake_is_named() {
        let good = ProbeLevel::parse("70:probe:2:1:3:20:0:1").unwrap();
        assert_eq!((good.order.0, good.name.as_str(), good.work_ms), (70, "probe", 20));
        assert_eq!(good.barriers, Barriers { joining: 2, leaving: 1, forced_leaving: 3 });
        assert!(good.everywhere && !good.hang);
        for (word, error) in [
            ("70:probe:2:1:3:20:0", ProbeWordError::Fields),
            ("70:probe:2:1:3:20:0:1:9", ProbeWordError::Fields),
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
