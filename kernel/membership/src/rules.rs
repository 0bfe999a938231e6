//! The rules of DESIGN 5 by name, so that the model checker can leave one out and show what it is for.
//!
//! Each use in the machine is one question, `keep`. Without the feature `rule-switches` the answer is the constant `true`;
//! with it all rules are on unless the model checker says otherwise, so that the feature changes nothing for anybody else.

/// A rule of rounds and barriers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Rule {
    /// An acknowledgement is for (level, round, subject, barrier), and counts for nothing else.
    AckOfThisStep,
    /// All participants acknowledge before it goes on.
    AllAcknowledge,
    /// Joins and leaves not yet begun at a level wait for a forced leave there.
    ForcedFirst,
    /// A forced leave waits for the fence at level 20 and above.
    FencedFirst,
    /// A level takes a step once.
    StepOnce,
    /// After a takeover the furthest progress wins.
    FurthestWins,
    /// A new master waits until all members have answered or are out.
    AllAnswer,
    /// Known rounds are issued again under their own names.
    RoundsKeepTheirNames,
    /// A Joining that was not delivered yet is delivered, overtaken at once by Forced-Leaving.
    JoiningBeforeForced,
    /// The dead are struck from all awaited sets at once.
    StruckAtOnce,
    /// A join is reversed between two levels only.
    ReversedBetweenLevels,
    /// A notification counts only with the view that this node has adopted.
    ViewFirst,
    /// A node's leave ends at a level only when nobody there needs its acknowledgement any more.
    NeededUntilTheEnd,
}

/// Whether a rule is kept.
#[cfg(not(feature = "rule-switches"))]
pub(crate) const fn keep(_: Rule) -> bool {
    true
}

#[cfg(feature = "rule-switches")]
mod switches {
    use core::sync::atomic::{AtomicU32, Ordering};

    use super::Rule;

    /// One bit for each rule that is left out. One model is searched at a time in a process, whatever its threads.
    static LEFT_OUT: AtomicU32 = AtomicU32::new(0);

    /// Whether a rule is kept.
    pub(crate) fn keep(rule: Rule) -> bool {
        LEFT_OUT.load(Ordering::Relaxed) >> rule as u32 & 1 == 0
    }

    /// Leaves a rule out from now on, in this process; with `None` all are kept again.
    pub fn leave_out(rule: Option<Rule>) {
        LEFT_OUT.store(rule.map_or(0, |rule| 1 << rule as u32), Ordering::Relaxed);
    }
}

#[cfg(feature = "rule-switches")]
pub(crate) use switches::keep;
#[cfg(feature = "rule-switches")]
pub use switches::leave_out;
