//! What the offline repair puts in the place of damaged records, from what the rest of the disk still knows. It never
//! invents a membership: what it cannot know it treats as dead, to be forced out and recovered.

use quorate_base::{Ballot, BootNonce, Incarnation, NodeState, View, ViewName};
use quorate_database::layout;
use quorate_database::sealed::{Place, Raw};
use quorate_database::{BallotBlock, Block, Heartbeat, Identity, LastLife, MachineId, Name, NodeConfig, Predecessor};

use crate::active::committed;
use crate::disk::Image;
use crate::error::ImageError;
use crate::snapshot::{NodeRecords, Snapshot};

/// A configuration with defaults; the machine is taken from the node's identity.
pub(crate) fn config(image: &Image, snapshot: &Snapshot, node: &NodeRecords) -> Result<String, ImageError> {
    let name = Name::new(&format!("node-{}", node.node)).map_err(|e| ImageError::Options(e.to_string()))?;
    let machine = last_life(node).map(|i| i.machine).unwrap_or_default();
    // Two records with one machine would make both unfindable.
    let taken = snapshot.nodes.iter().filter_map(|n| n.config.good()).any(|c| c.machine.meets(&machine));
    let machine = if taken { MachineId::default() } else { machine };
    let config = NodeConfig { machine, ..NodeConfig::named(name) };
    image.write(layout::config(node.node), &config.encode(snapshot.superblock.cluster, node.node))?;
    Ok("written anew with defaults: enabled, name, weight and boot choice may have been others".to_owned())
}

/// An identity slot: blank if the other one is known to be the last life, else the highest life that is found anywhere.
pub(crate) fn identity(image: &Image, snapshot: &Snapshot, node: &NodeRecords, slot: u8) -> Result<String, ImageError> {
    let highest = highest_life(snapshot, node);
    let at = layout::identity(node.node, slot);
    let other = last_life(node);
    if highest == Incarnation::NEVER || other.is_some_and(|i| i.incarnation >= highest) {
        image.write(at, &blank(snapshot, Identity::place(node.node, slot)))?;
        return Ok(format!("blanked: incarnation {highest} is the last one that is found anywhere"));
    }
    let heard = node.heartbeat.good().filter(|h| h.incarnation == highest);
    let machine = other.map(|i| i.machine).or(node.config.good().map(|c| c.machine)).unwrap_or_default();
    let identity =
        Identity { incarnation: highest, nonce: heard.map_or(BootNonce(0), |h| h.nonce), machine, nexus_reset: false };
    image.write(at, &identity.encode(snapshot.superblock.cluster, node.node, slot))?;
    Ok(format!("written anew with incarnation {highest}, the last one that is found anywhere"))
}

/// A heartbeat: silent, not clean, naming the newest view that is known to be committed.
pub(crate) fn heartbeat(image: &Image, snapshot: &Snapshot, node: &NodeRecords) -> Result<String, ImageError> {
    let life = last_life(node);
    let active = committed(snapshot).active;
    let incarnation = highest_life(snapshot, node);
    let heartbeat = Heartbeat {
        incarnation,
        nonce: life.filter(|i| i.incarnation == incarnation).map_or(BootNonce(0), |i| i.nonce),
        state: active.as_ref().map_or(NodeState::Inactive, |a| a.view.state(node.node)),
        committed: active.map_or(ViewName::default(), |a| ViewName { ballot: a.ballot, number: a.view.number }),
        lamport: highest_lamport(snapshot),
        ..Heartbeat::default()
    };
    if incarnation == Incarnation::NEVER {
        image.write(layout::heartbeat(node.node), &blank(snapshot, Heartbeat::place(node.node)))?;
        return Ok("blanked: the node never booted".to_owned());
    }
    image.write(layout::heartbeat(node.node), &heartbeat.encode(snapshot.superblock.cluster, node.node))?;
    Ok(format!("written anew for incarnation {incarnation} without the clean mark: it will be forced out first"))
}

/// A next view in which every node that ever lived is forced out: the view that `lost` names is gone, and with it who
/// was in. Whoever forms the cluster recovers all of them.
pub(crate) fn history(image: &Image, snapshot: &Snapshot, lost: ViewName) -> Result<String, ImageError> {
    let cluster = snapshot.superblock.cluster;
    let Some(writer) = snapshot.nodes.first() else {
        return Ok("nothing: no node is configured".to_owned());
    };
    let highest = snapshot
        .nodes
        .iter()
        .flat_map(|n| n.ballots.iter().filter_map(|b| b.good()).map(|b| b.promised.max(b.accepted)))
        .chain(snapshot.nodes.iter().filter_map(|n| n.heartbeat.good()).map(|h| h.committed.ballot))
        .fold(lost.ballot, Ballot::max);
    let number = snapshot
        .nodes
        .iter()
        .filter_map(|n| n.heartbeat.good())
        .map(|h| h.committed.number)
        .fold(lost.number, u64::max);
    let (Some(ballot), Some(next)) = (highest.next_for(writer.node), number.checked_add(1)) else {
        return Err(ImageError::Options("the history's numbers are used up: create the database anew".to_owned()));
    };
    let mut view = View::EMPTY;
    for node in &snapshot.nodes {
        let incarnation = highest_life(snapshot, node);
        if incarnation != Incarnation::NEVER {
            view.set(node.node, NodeState::ForcedLeaving, incarnation);
        }
    }
    let mut before = view.clone();
    (view.number, before.number) = (next, number);
    let last = writer.newest_ballot();
    let block = BallotBlock {
        incarnation: highest_life(snapshot, writer),
        nonce: last_life(writer).map_or(BootNonce(0), |i| i.nonce),
        sequence: last.map_or(1, |(_, b)| b.sequence.saturating_add(1)),
        promised: ballot,
        accepted: ballot,
        view,
        predecessor: Predecessor { ballot: lost.ballot, view: before },
        lamport: highest_lamport(snapshot).saturating_add(1),
    };
    let slot = last.map_or(0, |(slot, _)| 1 - slot.min(1));
    let raw = block.encode(cluster, writer.node, slot).map_err(|e| ImageError::Options(e.to_string()))?;
    image.write(layout::ballot(writer.node, slot), &raw)?;
    Ok(format!(
        "view {next} of ballot {ballot} written to ballot.{}: every node that ever lived is forced out",
        writer.node
    ))
}

/// What stands in a place where nothing was written yet.
fn blank(snapshot: &Snapshot, place: Place) -> Raw {
    snapshot.superblock.blanks.record(snapshot.superblock.cluster, place)
}

fn last_life(node: &NodeRecords) -> Option<Identity> {
    let [a, b] = &node.identity;
    match Identity::last_life([a, b]) {
        LastLife::Known { identity, .. } => Some(identity),
        LastLife::Never | LastLife::Unknown => None,
    }
}

/// The highest incarnation of a node that any record names.
fn highest_life(snapshot: &Snapshot, node: &NodeRecords) -> Incarnation {
    let own = node.identity.iter().filter_map(|b| b.good()).map(|i| i.incarnation);
    let beat = node.heartbeat.good().map(|h| h.incarnation);
    let written = node.ballots.iter().filter_map(|b| b.good()).map(|b| b.incarnation);
    let seen = snapshot.nodes.iter().flat_map(|n| &n.ballots).filter_map(|b| b.good());
    let seen = seen.map(|b| b.view.incarnation(node.node).max(b.predecessor.view.incarnation(node.node)));
    own.chain(beat).chain(written).chain(seen).fold(Incarnation::NEVER, Incarnation::max)
}

fn highest_lamport(snapshot: &Snapshot) -> u64 {
    let beats = snapshot.nodes.iter().filter_map(|n| n.heartbeat.good()).map(|h| h.lamport);
    let ballots = snapshot.nodes.iter().flat_map(|n| &n.ballots).filter_map(Block::good).map(|b| b.lamport);
    beats.chain(ballots).max().unwrap_or(0)
}
