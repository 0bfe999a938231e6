//! The rules by name, and a violation of one.

use crate::line::Line;
use std::fmt;

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident,)+) => {
        /// A rule that every trace has to keep. The comment says what is wrong when it is reported.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Rule {
            $($(#[$doc])* $rule,)+
        }

        impl Rule {
            /// All rules: a test holds that each of them is broken by some trace and caught.
            pub const ALL: &[Self] = &[$(Self::$rule),+];
        }
    };
}

rules! {
    /// A line lacks a field, has one of the wrong type, or the harness clock went back.
    Form,
    /// `seq` has a hole or a repetition.
    Seq,
    /// `boot` is not the first event of an incarnation, or is not only that.
    BootFirst,
    /// `lc` did not grow within an incarnation.
    Lamport,
    /// `nt_us` went back within an incarnation.
    NodeClock,
    /// A node's incarnation did not grow.
    IncarnationGrows,
    /// A line from an incarnation after its `panic` or `halt`, or after a newer one began.
    AfterHalt,
    /// A new incarnation although nothing ended the old one.
    Restart,
    /// `end` is missing or not the last line.
    EndLast,
    /// One view number with two contents.
    OneHistory,
    /// A view number was left out.
    ViewGap,
    /// A node adopted an older view after a newer one.
    ViewOrder,
    /// Ballots and view numbers contradict each other: a view of an older ballot follows one of a newer.
    ViewBallot,
    /// A change between two views that no transition makes (EP p. 4, Fig. 2).
    ViewChange,
    /// A new incarnation in a view while the old one was not inactive, or one that is not newer (MISSION A9).
    NewIncarnation,
    /// One ballot was acquired by two nodes, or twice.
    OneMaster,
    /// Two nodes held the lock at a time, or one lost it, though nobody was ever suspected and nothing stood still.
    TwoMasters,
    /// A node acquired a ballot that is not above all that it knew.
    BallotGrows,
    /// A node acted as the master without holding the lock, or while frozen.
    NotMaster,
    /// A node obeyed a master although it knew a newer ballot.
    OldMaster,
    /// A node that knows that it was put out went on (MISSION A11).
    Excluded,
    /// A round's name stands for two different rounds.
    RoundChanged,
    /// A round leaves out a participant, or has one that cannot take part.
    Participants,
    /// A join or a graceful leave began at a level where another round or a forced leave was under way.
    RoundOverlap,
    /// A round or a notification of a transition that no committed view shows.
    NotCommitted,
    /// A notification or acknowledgement that its round does not have.
    UnknownRound,
    /// A level that is not registered, or under another name or with other barriers.
    NotRegistered,
    /// A level of the kernel came or went at run time, one of user space below a static one, or one that is left at a halt.
    RunTimeLevel,
    /// A barrier beyond what the level registered.
    BarrierCount,
    /// A level was notified of the same step twice.
    StepTwice,
    /// A barrier was notified before all participants acknowledged the one before.
    BarrierOrder,
    /// A level was notified before the level before it was through at all participants.
    LevelOrder,
    /// A level of the subject was left out.
    LevelSkipped,
    /// A re-notification that EP Table 1 does not allow.
    TableOne,
    /// An acknowledgement without its notification, or a second one.
    AckWithoutNotify,
    /// An acknowledgement was refused as late although nothing overtook it.
    StaleAck,
    /// A forced leave was notified above what the survivors had heard of the node (EP Fig. 13–15, MISSION A10).
    TooHigh,
    /// A view ends a transition that is not through at every level.
    LostTransition,
    /// A leave was committed while a notification of its node was outstanding.
    LeaveTooSoon,
    /// Something is still under way, though the run says that the cluster has settled.
    Unfinished,
    /// A state was reported before all participants acknowledged.
    StateEarly,
    /// A state was reported twice.
    StateTwice,
    /// A wait was reported for nobody, too soon, or for what is not outstanding.
    Waiting,
    /// What was overdue was not put out, or its master went on.
    Overdue,
    /// A forced leave without a fence, or notified at level 20 or above before it.
    Fence,
    /// A fence by lease ended before its victim's lease did.
    FenceEarly,
    /// Services were told of a forced leave before the victim's lease had certainly run out.
    ServicesEarly,
    /// A node that was put out wrote something shared.
    WriteAfterFence,
    /// A write, also of the own heartbeat, that was issued while the own registration with the reservation was in doubt.
    Doubt,
    /// A shared write after the lease had run out, or while frozen.
    Lease,
    /// A lease that does not run from the submission of a write of its own heartbeat (DESIGN 4).
    LeaseStart,
    /// `freeze` and `thaw` do not alternate.
    FreezeThaw,
    /// `suspect` and `trust` of one peer on one path do not alternate.
    SuspectTrust,
    /// Two nodes delivered something else at one place of group services' order, or one went back in it (MISSION F1).
    GroupOrder,
    /// A node left out what others delivered between two things that it delivered.
    GroupGap,
    /// The data of a subgroup was sent twice in one merge, or a merge's count is not that of its data (MISSION F4).
    GroupData,
    /// Of a member's numbered messages one is missing, comes twice, or overtook another.
    GroupRow,
    /// A message of one that is no member (any more), or one came twice, or one went that was none (MISSION F1).
    GroupMember,
    /// The harness: an expectation did not hold.
    Assert,
    /// The harness: the run as a whole failed.
    End,
}

impl Rule {
    /// Whether it is the scenario's expectation that failed, not the cluster's own rules.
    pub fn is_harness(self) -> bool {
        matches!(self, Self::Assert | Self::End)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A broken rule, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// The line in the trace, from 1; 0 for the trace as a whole.
    pub line: u64,
    /// The node that wrote the line.
    pub node: Option<u8>,
    /// Its incarnation.
    pub inc: Option<u32>,
    /// The line's number in its stream.
    pub seq: Option<u64>,
    /// What is wrong, in words.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.rule)?;
        if self.line > 0 {
            write!(f, "line {}", self.line)?;
        }
        if let (Some(node), Some(seq)) = (self.node, self.seq) {
            write!(f, ", node {node}")?;
            if let Some(inc) = self.inc {
                write!(f, " (incarnation {inc})")?;
            }
            write!(f, ", seq {seq}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Where in the trace.
#[derive(Clone, Copy, Default, Debug)]
struct Place {
    line: u64,
    node: Option<u8>,
    inc: Option<u32>,
    seq: Option<u64>,
}

/// Where the rules put what they find, with the line that is being looked at.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    place: Option<Place>,
    found: Vec<Violation>,
    /// What could not be proved because a killed node's last lines are missing.
    pub(crate) tolerated: u64,
}

impl Findings {
    /// From here on the findings belong to this line.
    pub(crate) fn at(&mut self, line: u64, of: Option<&Line>) {
        self.place =
            Some(Place { line, node: of.and_then(|l| l.node), inc: of.and_then(|l| l.inc), seq: of.map(|l| l.seq) });
    }

    /// The line that is being looked at.
    pub(crate) fn line(&self) -> u64 {
        self.place.as_ref().map_or(0, |place| place.line)
    }

    /// Reports a violation.
    pub(crate) fn add(&mut self, rule: Rule, what: impl Into<String>) {
        let Place { line, node, inc, seq } = self.place.unwrap_or_default();
        self.found.push(Violation { rule, line, node, inc, seq, what: what.into() });
    }

    /// Takes everything that was found since the last call.
    pub(crate) fn take(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.found)
    }
}
