//! The active membership as the disk tells it: the newest committed view, and from what that is known (DESIGN 4, "what
//! a reader may trust").

use std::fmt;

use quorate_base::{Ballot, NodeId, View, ViewName};

use crate::snapshot::{NodeRecords, Snapshot};

/// From what it is known that a view is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// This node's heartbeat names it.
    Mark(NodeId),
    /// It is the predecessor of what this node accepted under this ballot.
    Predecessor(NodeId, Ballot),
    /// This node accepted it, and a later read of all ballots showed no higher promise.
    Quiet(NodeId),
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark(node) => write!(f, "named as committed in the heartbeat of node {node}"),
            Self::Predecessor(node, ballot) => {
                write!(f, "predecessor of the view that node {node} accepted under ballot {ballot}")
            }
            Self::Quiet(node) => write!(f, "accepted by node {node}, and no node has a higher promise"),
        }
    }
}

/// A committed view.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Active {
    /// The ballot under which it stands on the disk.
    pub ballot: Ballot,
    /// The view.
    pub view: View,
    /// From what it is known.
    pub evidence: Evidence,
}

/// What the disk says of the active membership.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Committed {
    /// The newest view that is known to be committed and whose content is there; `None` before the first.
    pub active: Option<Active>,
    /// A heartbeat names a committed view that nothing on the disk is as new as: the database is damaged.
    pub lost: Option<(NodeId, ViewName)>,
}

/// Finds the newest committed view.
pub fn committed(snapshot: &Snapshot) -> Committed {
    let marks: Vec<(NodeId, ViewName)> =
        snapshot.nodes.iter().filter_map(|n| n.heartbeat.good().map(|h| (n.node, h.committed))).collect();
    let views: Vec<Active> =
        snapshot.nodes.iter().flat_map(|n| views_of(n, &marks, snapshot.promised_later)).flatten().collect();
    let held: Vec<ViewName> = snapshot.nodes.iter().flat_map(held_names).collect();
    let covers = |mark: &ViewName| {
        mark.number == 0
            || held.iter().any(|h| h.number > mark.number || (h.number == mark.number && h.ballot >= mark.ballot))
    };
    let lost =
        marks.iter().filter(|(_, mark)| !covers(mark)).max_by_key(|(_, mark)| (mark.number, mark.ballot)).copied();
    Committed { active: views.into_iter().max_by_key(rank), lost }
}

/// Newer first; of two ways to know the same view the plainer one.
fn rank(active: &Active) -> (u64, Ballot, u8) {
    let plainness = match active.evidence {
        Evidence::Mark(_) => 2,
        Evidence::Quiet(_) => 1,
        Evidence::Predecessor(..) => 0,
    };
    (active.view.number, active.ballot, plainness)
}

/// Every view that stands on the disk, committed or not, by name.
fn held_names(node: &NodeRecords) -> impl Iterator<Item = ViewName> {
    node.ballots.iter().filter_map(|b| b.good()).flat_map(|b| [b.accepted_name(), b.predecessor.name()])
}

/// The committed views that a node's ballot slots hold.
fn views_of(node: &NodeRecords, marks: &[(NodeId, ViewName)], promised_later: Option<Ballot>) -> Vec<Option<Active>> {
    let mut found = Vec::new();
    for block in node.ballots.iter().filter_map(|b| b.good()) {
        let accepted = |evidence| Active { ballot: block.accepted, view: block.view.clone(), evidence };
        let name = block.accepted_name();
        if block.accepted != Ballot::NONE {
            // What is accepted for a number under the committing ballot or a higher one is what was committed.
            let mark = marks.iter().find(|(_, m)| m.number == name.number && m.number > 0 && m.ballot <= name.ballot);
            found.push(mark.map(|(by, _)| accepted(Evidence::Mark(*by))));
            let quiet = name.number > 0 && promised_later.is_some_and(|p| p <= block.accepted);
            found.push(quiet.then(|| accepted(Evidence::Quiet(node.node))));
        }
        let before = &block.predecessor;
        found.push((before.view.number > 0).then(|| Active {
            ballot: before.ballot,
            view: before.view.clone(),
            evidence: Evidence::Predecessor(node.node, block.accepted),
        }));
    }
    found
}
