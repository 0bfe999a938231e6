//! The rules of DESIGN 3 and 4 by name, so that the model checker can leave one out and show what it is for.
//!
//! Each use in the machine is one question, [`Rules::keep`]. Without the feature `rule-switches` the answer is the constant
//! `true` and what stands behind it is not compiled; with it, each machine has its own answer, all rules on unless told
//! otherwise, so that the feature changes nothing for anybody but the model checker.

/// A rule of the master lock, the ballot, the commit or the beat.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Rule {
    /// After Hold is written, all flags are read before anything is promised.
    LookAfterHold,
    /// Hold and the promise are never one step: a promise is not written beside a live Hold.
    HoldThenPromise,
    /// Who may not raise Hold writes Want and keeps it.
    WantKept,
    /// Precedence begins behind the last master.
    CyclicPrecedence,
    /// A flag is passed over only after `disk_suspect` of completed reads.
    PassOverSilent,
    /// A ballot is above all that were read of others.
    BallotAboveAll,
    /// A ballot is above one's own.
    BallotAboveOwn,
    /// A promise keeps the block's accepted ballot and view.
    PromiseKeepsAccepted,
    /// A higher promise stops the taking over and the commit.
    HigherPromiseStops,
    /// The view of the highest accepted ballot is taken.
    TakeHighestAccepted,
    /// It is accepted again under the own ballot before anything is built on it.
    AcceptUnderOwnBallot,
    /// After an accept all are read before it counts.
    LookAfterAccept,
    /// One change at a time.
    OneChangeAtATime,
    /// A master looks at all promises at every beat, also when idle.
    HoldingLooks,
    /// A mark counts for exactly (ballot, number).
    TrustByName,
    /// The predecessor of an accepted view is committed.
    Predecessor,
    /// What is read as accepted counts only after a later read without a higher promise.
    LaterRead,
    /// A foreign nonce in the own block ends this node, unwritten.
    ForeignNonceHalts,
    /// After the first own heartbeat the identity is read once more, before the ballot block is written.
    IdentityAfterBeat,
    /// A committed exclusion ends this node, unwritten.
    ExclusionHalts,
    /// The ballot slots are written in turn, so that a torn one leaves the other.
    AlternatingSlots,
    /// A torn slot leaves the truth to the other one only as that stands when it is read again.
    TornReadAgain,
    /// Unreadable is not empty.
    UnknownIsNotEmpty,
    /// Without a clean mark the ballot block waits until nothing of the old life can land.
    UncleanBirthWaits,
    /// The lease follows the view of the highest accepted ballot, not the committed one.
    RenewByHighestAccepted,
    /// The lease is renewed by a read that follows the heartbeat's write.
    SecondRead,
    /// The lease runs from the submission of the heartbeat.
    LeaseFromSubmission,
    /// Another life in a victim's heartbeat block proves nothing about the old one.
    NewLifeProvesNothing,
}

#[cfg(feature = "rule-switches")]
impl Rule {
    /// All of them.
    pub const ALL: [Self; 28] = [
        Self::LookAfterHold,
        Self::HoldThenPromise,
        Self::WantKept,
        Self::CyclicPrecedence,
        Self::PassOverSilent,
        Self::BallotAboveAll,
        Self::BallotAboveOwn,
        Self::PromiseKeepsAccepted,
        Self::HigherPromiseStops,
        Self::TakeHighestAccepted,
        Self::AcceptUnderOwnBallot,
        Self::LookAfterAccept,
        Self::OneChangeAtATime,
        Self::HoldingLooks,
        Self::TrustByName,
        Self::Predecessor,
        Self::LaterRead,
        Self::ForeignNonceHalts,
        Self::IdentityAfterBeat,
        Self::ExclusionHalts,
        Self::AlternatingSlots,
        Self::TornReadAgain,
        Self::UnknownIsNotEmpty,
        Self::UncleanBirthWaits,
        Self::RenewByHighestAccepted,
        Self::SecondRead,
        Self::LeaseFromSubmission,
        Self::NewLifeProvesNothing,
    ];
}

/// Which rules a machine keeps: all.
#[cfg(not(feature = "rule-switches"))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Rules;

#[cfg(not(feature = "rule-switches"))]
impl Rules {
    pub(crate) const ALL: Self = Self;

    #[expect(clippy::unused_self, reason = "with the feature it is asked")]
    pub(crate) const fn keep(self, _: Rule) -> bool {
        true
    }
}

/// Which rules a machine keeps.
#[cfg(feature = "rule-switches")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rules(u32);

#[cfg(feature = "rule-switches")]
impl Rules {
    /// All of them.
    pub const ALL: Self = Self(u32::MAX);

    /// All but one.
    #[must_use]
    pub const fn without(self, rule: Rule) -> Self {
        Self(self.0 & !(1 << rule as u32))
    }

    /// Whether a rule is kept.
    pub const fn keep(self, rule: Rule) -> bool {
        self.0 >> rule as u32 & 1 == 1
    }
}
