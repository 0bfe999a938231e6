//! Domains (DOM claims 1–23): persistent objects, unique in the cluster by name, each listing all potential members of the
//! group of its name; each member has its own copy.
//!
//! An interface is invoked by a request in the order. Every node looks in its own copy and votes (DOM claims 1, 3, 19); if
//! all that have one grant it, every copy is changed, durably, before the answer. So the copies of nodes that run change
//! alike; a node that was away has an older one, and takes the newer when it comes back ([`DomainEntry::is_newer`]). The
//! members' jobs are told apart by their nodes (DOM claims 7, 16).
//!
//! ```text
//! asked ──all vote──▶ refused
//!                └──▶ decided ──all have written──▶ answered
//! ```
//! Deviation from DOM: claim 9's "at least one list" is not enough for a join; claim 19's "each" is kept.

use core::fmt;

use quorate_base::{NodeId, NodeSet};
pub use quorate_database::domain_block::{Birth, DomainEntry};
use serde::{Deserialize, Serialize};

use crate::item::{Name, Position};

/// What is asked of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum DomainOp {
    /// Create: it does not exist, and is to list these nodes (DOM claim 8i).
    Create(NodeSet),
    /// Add_Member: a potential member more; the list is replicated to it (DOM claim 11).
    Add(NodeId),
    /// Join_Member: the asking node's job becomes an active member (DOM claims 3, 19).
    Join,
    /// Leave_Member: the asking node is taken off every list (DOM claim 10).
    Leave,
    /// Remove_Member: another node is taken off every list.
    Remove(NodeId),
    /// Delete: it does not exist any more.
    Delete,
}

impl DomainOp {
    /// The interface's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Add(_) => "add",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Remove(_) => "remove",
            Self::Delete => "delete",
        }
    }
}

/// A request.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct DomainAsk {
    /// What.
    pub op: DomainOp,
    /// Of which domain.
    pub domain: Name,
    /// For Join_Member: the job.
    pub job: Name,
}

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// No running node has a copy of it.
    NoDomain,
    /// There is one of that name already.
    Exists,
    /// The node is not listed, in the copy of this node.
    NotListed(NodeId),
    /// The node is listed already.
    Listed,
    /// A node that would have to keep a copy has no room for it.
    Full(NodeId),
    /// Copies differ; they are reconciled, and the request may be repeated.
    CopiesDiffer,
    /// Another request for the same domain is under way, or there are too many.
    Busy,
    /// Who asked is gone.
    Gone,
    /// The group of that name cannot take the job.
    Group,
    /// A list without nodes.
    Empty,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDomain => f.write_str("no such domain"),
            Self::Exists => f.write_str("the domain exists"),
            Self::NotListed(n) => write!(f, "not listed in the copy of node {n}"),
            Self::Listed => f.write_str("listed already"),
            Self::Full(n) => write!(f, "node {n} has no room for another domain"),
            Self::CopiesDiffer => f.write_str("copies differ and are being reconciled"),
            Self::Busy => f.write_str("another request is under way"),
            Self::Gone => f.write_str("who asked is gone"),
            Self::Group => f.write_str("the group cannot take the job"),
            Self::Empty => f.write_str("a domain lists at least one node"),
        }
    }
}

impl core::error::Error for Refusal {}

/// What a node says of a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Verdict {
    /// It has no copy: it is no member's node, and has no say. Once the request is decided: it has none any more, and whoever
    /// is added has its copy from another.
    NoCopy,
    /// Its copy allows it.
    Granted {
        /// Which domain of that name its copy is of.
        id: Birth,
        /// How old it is.
        version: u32,
    },
    /// Its copy forbids it.
    Refused(Refusal),
    /// Its copy shows the decided change, durably.
    Written,
}

/// How far a request is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum AskPhase {
    /// Nodes look in their copies.
    Voting,
    /// Granted: copies are written.
    Writing,
}

/// A request under way, the same in the tables of every node.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Pending {
    /// Its name: where it was made.
    pub id: Position,
    /// By which node.
    pub by: NodeId,
    /// What.
    pub ask: DomainAsk,
    /// How far it is.
    pub phase: AskPhase,
    /// Nodes that owe a vote, or word that they have written.
    pub awaiting: NodeSet,
    /// Nodes that have a copy.
    pub holders: NodeSet,
    /// Of which domain, and how old, the copies are; once it is decided: as they are to be.
    pub copy: Option<(Birth, u32)>,
    /// Once it is decided: nodes whose copies change with it.
    pub told: NodeSet,
    /// The first refusal.
    pub refused: Option<Refusal>,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Votes are missing.
    Waits,
    /// All have voted: it is granted, and copies are to be changed.
    Decided,
    /// It is over.
    Over(Option<Refusal>),
}

impl Pending {
    /// A request that was just made.
    pub fn new(id: Position, by: NodeId, ask: DomainAsk, voters: NodeSet) -> Self {
        Self {
            id,
            by,
            ask,
            phase: AskPhase::Voting,
            awaiting: voters,
            holders: NodeSet::EMPTY,
            copy: None,
            told: NodeSet::EMPTY,
            refused: None,
        }
    }

    /// The birth of the domain that a Create makes.
    pub fn birth(&self) -> Birth {
        Birth { order: self.id.order, index: self.id.index }
    }

    /// A node's vote.
    pub fn vote(&mut self, node: NodeId, verdict: Verdict) {
        let writing = self.phase == AskPhase::Writing;
        let fits =
            if writing { matches!(verdict, Verdict::Written | Verdict::NoCopy) } else { verdict != Verdict::Written };
        if !fits || !self.awaiting.remove(node) {
            return;
        }
        match verdict {
            Verdict::NoCopy if writing => drop(self.holders.remove(node)),
            Verdict::NoCopy | Verdict::Written => {
                // Who asks to join must be listed in its own copy as well.
                if verdict == Verdict::NoCopy && node == self.by && self.ask.op == DomainOp::Join {
                    self.refuse(Refusal::NotListed(node));
                }
            }
            Verdict::Granted { id, version } => {
                self.holders.insert(node);
                match self.copy {
                    Some(copy) if copy != (id, version) => self.refuse(Refusal::CopiesDiffer),
                    _ => self.copy = Some((id, version)),
                }
            }
            Verdict::Refused(why) => self.refuse(why),
        }
    }

    fn refuse(&mut self, why: Refusal) {
        self.refused = self.refused.or(Some(why));
    }

    /// A node is gone.
    pub fn strike(&mut self, node: NodeId) {
        self.awaiting.remove(node);
        // What they held when it was decided they have changed by then: each does so with the decision.
        self.holders.remove(node);
        if self.phase == AskPhase::Voting && node == self.by {
            self.refuse(Refusal::Gone);
        }
    }

    /// Goes on if nobody is awaited any more. `running`: the nodes of the roster.
    pub fn step(&mut self, running: NodeSet) -> Progress {
        if !self.awaiting.is_empty() {
            // A list that nobody has any more cannot be replicated.
            let lost = matches!(self.ask.op, DomainOp::Add(node) if self.holders.without(node).is_empty());
            let writes = self.phase == AskPhase::Writing;
            return if lost && writes { Progress::Over(Some(Refusal::NoDomain)) } else { Progress::Waits };
        }
        if self.phase == AskPhase::Writing {
            return Progress::Over(None);
        }
        if let Some(why) = self.refused {
            return Progress::Over(Some(why));
        }
        let creates = matches!(self.ask.op, DomainOp::Create(_));
        match (creates, self.copy.filter(|_| !self.holders.is_empty())) {
            (false, None) => return Progress::Over(Some(Refusal::NoDomain)),
            (true, _) => self.copy = Some((self.birth(), 1)),
            (false, Some((id, version))) if self.ask.op != DomainOp::Join => {
                self.copy = Some((id, version.saturating_add(1)));
            }
            _ => {}
        }
        self.phase = AskPhase::Writing;
        self.awaiting = match self.ask.op {
            DomainOp::Join => NodeSet::EMPTY,
            DomainOp::Create(nodes) => nodes.and(running),
            DomainOp::Add(node) => self.holders.or(NodeSet::only(node)).and(running),
            DomainOp::Leave | DomainOp::Remove(_) | DomainOp::Delete => self.holders,
        };
        self.told = self.holders.or(self.awaiting);
        Progress::Decided
    }
}

/// What a node says of a request from its own copy alone. `full`: it has no room for another domain.
pub fn verdict(own: Option<&DomainEntry>, me: NodeId, by: NodeId, ask: &DomainAsk, full: bool) -> Verdict {
    let Some(own) = own.filter(|e| !e.deleted) else {
        let wanted = match ask.op {
            DomainOp::Create(nodes) => nodes.contains(me),
            DomainOp::Add(node) => node == me,
            _ => false,
        };
        return if wanted && full { Verdict::Refused(Refusal::Full(me)) } else { Verdict::NoCopy };
    };
    let listed = |n: NodeId| own.nodes.contains(n);
    let refused = match ask.op {
        DomainOp::Create(_) => Some(Refusal::Exists),
        DomainOp::Add(n) if listed(n) => Some(Refusal::Listed),
        DomainOp::Join | DomainOp::Leave if !listed(by) => Some(Refusal::NotListed(me)),
        DomainOp::Remove(n) if !listed(n) => Some(Refusal::NotListed(me)),
        _ => None,
    };
    refused.map_or(Verdict::Granted { id: own.birth, version: own.version }, Verdict::Refused)
}

/// A copy after a decided change. `told`: the nodes whose copies change with it; whoever else the old or the new list has is
/// behind.
pub fn changed(own: &DomainEntry, by: NodeId, op: DomainOp, told: NodeSet) -> DomainEntry {
    let mut entry = own.clone();
    entry.version = own.version.saturating_add(1);
    match op {
        DomainOp::Add(node) => drop(entry.nodes.insert(node)),
        DomainOp::Leave => drop(entry.nodes.remove(by)),
        DomainOp::Remove(node) => drop(entry.nodes.remove(node)),
        DomainOp::Delete => entry.nodes = NodeSet::EMPTY,
        DomainOp::Create(_) | DomainOp::Join => {}
    }
    // Also when the last one left: there is nobody who could join any more.
    entry.deleted = entry.nodes.is_empty();
    entry.behind = own.behind.or(own.nodes).or(entry.nodes).minus(told);
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(id: u8) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn ask(op: DomainOp) -> DomainAsk {
        DomainAsk { op, domain: Name::try_from("d").unwrap(), job: Name::new() }
    }

    fn entry(nodes: &[u8]) -> DomainEntry {
        DomainEntry {
            name: Name::try_from("d").unwrap(),
            birth: Birth { order: 7, index: 0 },
            version: 3,
            nodes: nodes.iter().map(|i| n(*i)).collect(),
            behind: NodeSet::EMPTY,
            deleted: false,
        }
    }

    const GRANTED: Verdict = Verdict::Granted { id: Birth { order: 7, index: 0 }, version: 3 };

    #[test]
    fn dom_claims_1_to_4_each_interface_looks_in_the_own_copy() {
        let own = entry(&[0, 1]);
        let say = |op, by: u8| verdict(Some(&own), n(0), n(by), &ask(op), false);
        assert_eq!(say(DomainOp::Join, 1), GRANTED);
        assert_eq!(say(DomainOp::Join, 2), Verdict::Refused(Refusal::NotListed(n(0))));
        assert_eq!(say(DomainOp::Leave, 2), Verdict::Refused(Refusal::NotListed(n(0))));
        assert_eq!(say(DomainOp::Leave, 1), GRANTED);
        assert_eq!(say(DomainOp::Add(n(1)), 0), Verdict::Refused(Refusal::Listed));
        assert_eq!(say(DomainOp::Add(n(2)), 0), GRANTED);
        assert_eq!(say(DomainOp::Remove(n(2)), 0), Verdict::Refused(Refusal::NotListed(n(0))));
        assert_eq!(say(DomainOp::Remove(n(1)), 0), GRANTED);
        assert_eq!(say(DomainOp::Create(own.nodes), 0), Verdict::Refused(Refusal::Exists));
        assert_eq!(say(DomainOp::Delete, 5), GRANTED);
        assert_eq!(verdict(None, n(3), n(1), &ask(DomainOp::Join), false), Verdict::NoCopy);
        let full = verdict(None, n(3), n(1), &ask(DomainOp::Add(n(3))), true);
        assert_eq!(full, Verdict::Refused(Refusal::Full(n(3))));
    }

    #[test]
    fn dom_claim_19_one_copy_that_does_not_list_the_requestor_refuses_the_join() {
        let mut p = Pending::new(Position::default(), n(1), ask(DomainOp::Join), NodeSet::first(3));
        p.vote(n(0), GRANTED);
        p.vote(n(1), GRANTED);
        assert_eq!(p.step(NodeSet::first(3)), Progress::Waits);
        let mut other = p.clone();
        p.vote(n(2), Verdict::NoCopy);
        assert_eq!(p.step(NodeSet::first(3)), Progress::Decided);
        assert_eq!(p.step(NodeSet::first(3)), Progress::Over(None));
        other.vote(n(2), Verdict::Refused(Refusal::NotListed(n(2))));
        assert_eq!(other.step(NodeSet::first(3)), Progress::Over(Some(Refusal::NotListed(n(2)))));
    }

    #[test]
    fn a_requestor_without_a_copy_or_with_an_older_one_is_refused() {
        let mut p = Pending::new(Position::default(), n(1), ask(DomainOp::Join), NodeSet::first(2));
        p.vote(n(0), GRANTED);
        p.vote(n(1), Verdict::NoCopy);
        assert_eq!(p.step(NodeSet::first(2)), Progress::Over(Some(Refusal::NotListed(n(1)))));
        let mut p = Pending::new(Position::default(), n(1), ask(DomainOp::Join), NodeSet::first(2));
        p.vote(n(0), GRANTED);
        p.vote(n(1), Verdict::Granted { id: Birth { order: 7, index: 0 }, version: 2 });
        assert_eq!(p.step(NodeSet::first(2)), Progress::Over(Some(Refusal::CopiesDiffer)));
    }

    #[test]
    fn dom_claims_10_11_20_and_21_lists_are_updated() {
        let own = entry(&[0, 1]);
        let after = |op| changed(&own, n(1), op, NodeSet::only(n(0)));
        assert_eq!(after(DomainOp::Add(n(5))).nodes, own.nodes.with(n(5)));
        assert_eq!(after(DomainOp::Leave).nodes, NodeSet::only(n(0)));
        assert_eq!(after(DomainOp::Leave).behind, NodeSet::only(n(1)), "kept until it knows");
        assert_eq!(after(DomainOp::Remove(n(0))).nodes, NodeSet::only(n(1)));
        let deleted = after(DomainOp::Delete);
        assert!(deleted.deleted && deleted.behind == NodeSet::only(n(1)) && deleted.version == 4);
    }

    #[test]
    fn a_node_that_goes_is_not_waited_for_and_what_is_decided_stays() {
        let mut p = Pending::new(Position::default(), n(1), ask(DomainOp::Delete), NodeSet::first(3));
        p.vote(n(0), GRANTED);
        p.strike(n(1));
        p.vote(n(2), GRANTED);
        assert_eq!(p.step(NodeSet::first(3)), Progress::Over(Some(Refusal::Gone)));
        let mut p = Pending::new(Position::default(), n(1), ask(DomainOp::Delete), NodeSet::first(3));
        for node in 0..3 {
            p.vote(n(node), GRANTED);
        }
        assert_eq!(p.step(NodeSet::first(3)), Progress::Decided);
        p.strike(n(1));
        p.vote(n(0), Verdict::Written);
        p.vote(n(2), Verdict::Written);
        assert_eq!(p.step(NodeSet::first(3)), Progress::Over(None));
    }

    /// The lowest of those that had a copy when they voted has none any more: it kept it for others. It says so, and the next
    /// is the one to replicate it; if there is no next, nothing can be replicated.
    #[test]
    fn dom_claim_11_who_has_no_copy_any_more_does_not_replicate_it() {
        let everybody = NodeSet::first(3);
        let mut p = Pending::new(Position::default(), n(1), ask(DomainOp::Add(n(2))), everybody);
        p.vote(n(0), GRANTED);
        p.vote(n(1), GRANTED);
        p.vote(n(2), Verdict::NoCopy);
        assert_eq!((p.step(everybody), p.awaiting), (Progress::Decided, everybody));
        p.vote(n(0), Verdict::NoCopy);
        assert_eq!((p.holders.lowest(), p.step(everybody)), (Some(n(1)), Progress::Waits));
        let mut nobody = p.clone();
        nobody.vote(n(1), Verdict::NoCopy);
        assert_eq!(nobody.step(everybody), Progress::Over(Some(Refusal::NoDomain)));
        p.vote(n(1), Verdict::Written);
        p.vote(n(2), Verdict::Written);
        assert_eq!(p.step(everybody), Progress::Over(None));
    }
}
