//! What the engine tells its node, in the one order in which every node is told it.
//!
//! Who hears is the main thread of each of the node's jobs, and whoever else wants to know (a trace, a checker). Hearing is
//! local and waits for nothing (ACK claims 3 and 4): what work threads need later the engine keeps for them.

use quorate_base::{NodeId, NodeSet};

use crate::domain::{DomainAsk, DomainEntry, Refusal};
use crate::epoch::{EpochId, Roster};
use crate::item::{MemberId, Name, Position, Reason};
use crate::member::{Member, MemberSet};

/// What changed in a group's membership.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChangeKind {
    /// It became a member.
    Joined,
    /// It is no member any more.
    Left(Reason),
}

/// Why a request to become a member, or to start something, has no effect. Every node comes to the same answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Denied {
    /// There are `GROUPS_MAX` groups.
    TooManyGroups,
    /// There are `MEMBERS_MAX` members.
    TooManyMembers,
    /// The group has a member of that name on that node.
    NameTaken,
    /// The group belongs to a domain: its members join by Join_Member.
    Domain,
    /// `PROTOCOLS_MAX` protocols run or wait.
    TooManyProtocols,
    /// The group is being merged already.
    Merging,
}

impl Denied {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooManyGroups => "too many groups",
            Self::TooManyMembers => "too many members",
            Self::NameTaken => "the name is taken",
            Self::Domain => "the group belongs to a domain",
            Self::TooManyProtocols => "too many protocols",
            Self::Merging => "a merge is under way",
        }
    }
}

/// One thing that is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told<'a> {
    /// The engine's roster.
    Roster {
        /// Where in the order.
        at: Position,
        /// The epoch that begins with it.
        epoch: EpochId,
        /// Who is in it.
        roster: &'a Roster,
    },
    /// A membership change message.
    Change {
        /// Where in the order.
        at: Position,
        /// The group.
        group: &'a Name,
        /// The member.
        member: &'a Member,
        /// What.
        kind: ChangeKind,
    },
    /// A request of a job without effect.
    Denied {
        /// Where in the order.
        at: Position,
        /// Whose node asked.
        node: NodeId,
        /// The group.
        group: &'a Name,
        /// The job.
        job: &'a Name,
        /// Why.
        why: Denied,
    },
    /// A group message.
    Message {
        /// Where in the order: of one in parts the last.
        at: Position,
        /// The frame in which it begins. Members that came after it are not told it.
        begins: u64,
        /// Its length.
        len: usize,
        /// The group.
        group: &'a Name,
        /// From whom.
        from: &'a Member,
        /// To one member alone.
        to: Option<MemberId>,
        /// That one's node, if it is still a member.
        to_node: Option<NodeId>,
        /// The message; of one in parts its first bytes (`tables::HEAD_MAX`), the whole is there for those that take it.
        bytes: &'a [u8],
    },
    /// A protocol begins.
    Protocol {
        /// Its name: where it was started.
        at: Position,
        /// The group.
        group: &'a Name,
        /// Who started it.
        by: MemberId,
        /// For which work thread.
        thread: u8,
        /// Who takes part.
        participants: MemberSet,
    },
    /// An ACK round is through.
    Round {
        /// Where in the order.
        at: Position,
        /// The group.
        group: &'a Name,
        /// The protocol.
        protocol: Position,
        /// Which round, from 0.
        round: u16,
        /// Who went during it.
        gone: MemberSet,
        /// The protocol is over: nobody takes part in a further round.
        last: bool,
    },
    /// A merge was asked for, and begins.
    MergeBegins {
        /// Its name: where it was asked for.
        at: Position,
        /// The group.
        group: &'a Name,
        /// Who takes part.
        participants: MemberSet,
    },
    /// Group data of a subgroup came (SUB claim 3b). To be processed once the merge is done (claim 4c).
    GroupData {
        /// Where in the order.
        at: Position,
        /// The group.
        group: &'a Name,
        /// Of which merge.
        merge: Position,
        /// From which leader.
        from: &'a Member,
        /// The data.
        bytes: &'a [u8],
    },
    /// A round of a merge is through.
    MergeRound {
        /// Where in the order.
        at: Position,
        /// The group.
        group: &'a Name,
        /// Of which merge.
        merge: Position,
        /// Which round, from 0.
        round: u16,
        /// Who went during it: another round follows if there is anybody.
        gone: MemberSet,
    },
    /// All subgroups' data is there and a round was without failures: they are one subgroup now.
    Merged {
        /// Where in the order.
        at: Position,
        /// The group.
        group: &'a Name,
        /// Which merge.
        merge: Position,
        /// How many messages with group data it took.
        data_messages: u16,
    },
    /// An interface of a domain was invoked.
    Ask {
        /// Where in the order.
        at: Position,
        /// By which node.
        by: NodeId,
        /// What.
        ask: &'a DomainAsk,
    },
    /// It ended, and where it was granted every copy that is to show it shows it, durably.
    Answer {
        /// Where in the order.
        at: Position,
        /// Which.
        ask: Position,
        /// By which node.
        by: NodeId,
        /// What.
        what: &'a DomainAsk,
        /// How.
        refused: Option<Refusal>,
    },
    /// This node's own copy of a domain changed.
    Copy {
        /// It.
        entry: &'a DomainEntry,
    },
    /// Two copies of equal age differ. The rule took one.
    CopiesDiffer {
        /// This node's.
        mine: &'a DomainEntry,
        /// The other one.
        other: &'a DomainEntry,
    },
    /// The state that others had before this node joined is there.
    CaughtUp {
        /// As of which place.
        order: u64,
    },
    /// A job of this node does not take its messages, or a work thread does not return.
    Slow {
        /// The job.
        job: &'a Name,
        /// Put out for it now.
        out: bool,
    },
    /// Nodes that hold a group's senders back.
    Waits {
        /// The group.
        group: &'a Name,
        /// For whom.
        nodes: NodeSet,
    },
}

/// Takes what is told.
pub trait Hear {
    /// At once, without waiting.
    fn hear(&mut self, told: &Told<'_>);
}
