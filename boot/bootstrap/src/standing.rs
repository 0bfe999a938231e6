//! How the cluster stands, by what is on the disk: the newest view that may be trusted as committed, and whose ballot it is under.
//!
//! What a reader may trust, DESIGN 4: of all accepted views only that of the highest ballot needs to be looked at. It is
//! committed if a heartbeat names exactly it, or a *later* read of all ballots shows no promise above; else its predecessor is.

use heapless::Vec;
use quorate_base::capacity::NODES_MAX;
use quorate_base::{Ballot, NodeId, View, ViewName};
use quorate_database::{BallotBlock, BallotHead, Block, Heartbeat, Superblock, layout, newer_slot};

use crate::disk::{Blocks, Database, PITCH, block};

/// What is known of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// The newest committed view, and the ballot under which it stands; `None` before the first.
    pub view: Option<(Ballot, View)>,
    /// Nodes whose records cannot be used.
    pub unknown: u8,
}

impl Standing {
    /// Who was master when the view was committed.
    pub fn master(&self) -> Option<NodeId> {
        self.view.as_ref().and_then(|(ballot, _)| ballot.node())
    }
}

/// Reads heartbeats and ballots of all configured nodes, the ballots twice.
pub fn standing(disk: &mut dyn Blocks, database: &Database, superblock: &Superblock) -> Standing {
    let (cluster, blanks) = (superblock.cluster, superblock.blanks);
    let mut standing = Standing::default();
    let mut place = [0; PITCH];
    let mut marks: Vec<ViewName, NODES_MAX> = Vec::new();
    let mut best: Option<BallotBlock> = None;
    for node in NodeId::first(superblock.nodes) {
        let outcome = database.record(disk, layout::heartbeat(node), &mut place);
        match block(outcome, || blanks.judge(&place, Heartbeat::decode(&place, cluster, node))) {
            // There is room for as many as a superblock can configure.
            Block::Good(heartbeat) => drop(marks.push(heartbeat.committed)),
            Block::Blank => {}
            _ => standing.unknown += 1,
        }
        for slot in [0, 1] {
            let outcome = database.record(disk, layout::ballot(node, slot), &mut place);
            let found = block(outcome, || BallotBlock::decode(&place, cluster, node, slot));
            if let Block::Good(found) = found
                && found.accepted != Ballot::NONE
                && best.as_ref().is_none_or(|b| rank(&found) > rank(b))
            {
                best = Some(found);
            }
        }
    }
    let Some(best) = best else { return standing };
    let marked = marks.contains(&best.accepted_name());
    let quiet = promised(disk, database, superblock, &mut place).is_some_and(|later| later <= best.accepted);
    standing.view = if best.view.number > 0 && (marked || quiet) {
        Some((best.accepted, best.view))
    } else {
        Some((best.predecessor.ballot, best.predecessor.view)).filter(|(_, view)| view.number > 0)
    };
    standing
}

fn rank(block: &BallotBlock) -> (Ballot, u64) {
    (block.accepted, block.view.number)
}

/// The highest promise of all; `None` if one is not known.
fn promised(
    disk: &mut dyn Blocks,
    database: &Database,
    superblock: &Superblock,
    place: &mut [u8; PITCH],
) -> Option<Ballot> {
    let mut highest = Ballot::NONE;
    for node in NodeId::first(superblock.nodes) {
        let mut head = |slot: u8| -> Block<BallotHead> {
            let outcome = database.record(disk, layout::ballot(node, slot), place);
            let judge = |found| superblock.blanks.judge(place, found);
            block(outcome, || judge(BallotBlock::decode_head(place, superblock.cluster, node, slot)))
        };
        let (first, second) = (head(0), head(1));
        let newest = match newer_slot([&first, &second]) {
            Some(0) => first.good(),
            Some(_) => second.good(),
            None if first == Block::Blank && second == Block::Blank => continue,
            None => return None,
        };
        highest = highest.max(newest?.promised);
    }
    Some(highest)
}
