//! Levels: the subsystems that are taken through transitions, in a global order (EP p. 5).

use core::fmt;
use serde::{Deserialize, Serialize};

use crate::capacity::{BARRIERS_MAX, LEVEL_NAME_MAX, LEVELS_MAX};
use crate::state::Transition;

/// Place of a subsystem in the global transition order: lower levels are those that others depend on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct LevelOrder(pub u16);

impl LevelOrder {
    /// The membership manager's own level.
    pub const MEMBERSHIP: Self = Self(0);
    /// The lowest level that touches what a dead node owned: the fence must be through before it hears of a forced
    /// leave (DESIGN 7).
    pub const FENCED_FROM: Self = Self(20);
    /// The lowest level of user space, where a victim's services must certainly have ended (DESIGN 7).
    pub const USER_FROM: Self = Self(100);
}

impl fmt::Display for LevelOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A level's name, at most [`LEVEL_NAME_MAX`] bytes.
pub type LevelName = heapless::String<LEVEL_NAME_MAX>;

/// How many barriers a level has per transition type, each at least 1 and at most [`BARRIERS_MAX`] (EP p. 8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Barriers {
    /// For a join.
    pub joining: u8,
    /// For a graceful leave.
    pub leaving: u8,
    /// For a forced leave.
    pub forced_leaving: u8,
}

impl Barriers {
    /// One of each: no phases.
    pub const ONE: Self = Self { joining: 1, leaving: 1, forced_leaving: 1 };

    /// The count for a transition type.
    pub const fn of(self, transition: Transition) -> u8 {
        match transition {
            Transition::Joining => self.joining,
            Transition::Leaving => self.leaving,
            Transition::ForcedLeaving => self.forced_leaving,
        }
    }

    /// Every count is in `1..=BARRIERS_MAX`.
    pub const fn is_valid(self) -> bool {
        const fn ok(n: u8) -> bool {
            n >= 1 && n <= BARRIERS_MAX
        }
        ok(self.joining) && ok(self.leaving) && ok(self.forced_leaving)
    }
}

impl Default for Barriers {
    fn default() -> Self {
        Self::ONE
    }
}

/// What a subsystem declares when it registers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LevelDecl<'a> {
    /// Its place in the order.
    pub order: LevelOrder,
    /// Its name, at most [`LEVEL_NAME_MAX`] bytes.
    pub name: &'a str,
    /// Its barriers; all nodes must declare the same.
    pub barriers: Barriers,
    /// Whether every node must have it (kernel levels), or only some do (scenario levels with `only_on`).
    pub everywhere: bool,
    /// A node whose level has not acknowledged a step for so long is forced out, ms; 0: never. All nodes must declare the
    /// same.
    pub deadline_ms: u32,
}

impl<'a> LevelDecl<'a> {
    /// A level that stands on every node, with one barrier of each kind.
    pub const fn new(order: u16, name: &'a str) -> Self {
        Self { order: LevelOrder(order), name, barriers: Barriers::ONE, everywhere: true, deadline_ms: 0 }
    }

    /// The same with other barriers.
    #[must_use]
    pub const fn barriers(self, joining: u8, leaving: u8, forced_leaving: u8) -> Self {
        Self { barriers: Barriers { joining, leaving, forced_leaving }, ..self }
    }

    /// The same with a deadline for each step, ms; 0: none.
    #[must_use]
    pub const fn deadline_ms(self, deadline_ms: u32) -> Self {
        Self { deadline_ms, ..self }
    }
}

/// A static table of levels, checked when it is built: in a `const` a mistake does not compile.
///
/// ```
/// use quorate_base::level::{LevelDecl, LevelTable};
/// const LEVELS: LevelTable<2> = LevelTable::new([LevelDecl::new(0, "membership"), LevelDecl::new(70, "mine")]);
/// assert_eq!(LEVELS.levels()[1].name, "mine");
/// ```
/// ```compile_fail
/// use quorate_base::level::{LevelDecl, LevelTable};
/// const LEVELS: LevelTable<2> = LevelTable::new([LevelDecl::new(70, "mine"), LevelDecl::new(0, "membership")]);
/// # let _ = LEVELS;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LevelTable<const N: usize>([LevelDecl<'static>; N]);

impl<const N: usize> LevelTable<N> {
    /// Checks the table.
    ///
    /// # Panics
    /// If orders are not unique and ascending, the first is not the membership level (0), a barrier count is outside
    /// `1..=BARRIERS_MAX`, a name is empty or too long, or there are more than [`LEVELS_MAX`] levels.
    pub const fn new(levels: [LevelDecl<'static>; N]) -> Self {
        assert!(N >= 1 && N <= LEVELS_MAX, "a level table has 1 to LEVELS_MAX levels");
        assert!(levels[0].order.0 == 0, "the first level is the membership level, order 0");
        let mut i = 0;
        while i < N {
            assert!(levels[i].barriers.is_valid(), "a level has 1 to BARRIERS_MAX barriers of each kind");
            assert!(
                !levels[i].name.is_empty() && levels[i].name.len() <= LEVEL_NAME_MAX,
                "a level's name has 1 to LEVEL_NAME_MAX bytes"
            );
            if i > 0 {
                assert!(levels[i - 1].order.0 < levels[i].order.0, "level orders are unique and ascending");
            }
            i += 1;
        }
        Self(levels)
    }

    /// The levels, ascending.
    pub const fn levels(&self) -> &[LevelDecl<'static>; N] {
        &self.0
    }
}
