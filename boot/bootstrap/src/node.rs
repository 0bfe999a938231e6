//! Finds this machine's node on a disk with a membership database.

use heapless::Vec;
use quorate_base::NodeId;
use quorate_base::capacity::NODES_MAX;
use quorate_database::{Block, FindError, NodeConfig, Superblock, layout};

use crate::disk::{Blocks, Database, PITCH, block};
use crate::machine::Machine;
use crate::refusal::Refusal;

/// Which node this machine is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThisNode {
    /// Its id.
    pub id: NodeId,
    /// Its record.
    pub config: NodeConfig,
}

/// The superblock that counts.
///
/// # Errors
/// If there is none.
pub fn superblock(disk: &mut dyn Blocks, database: &Database) -> Result<Superblock, Refusal> {
    let mut place = [0; PITCH];
    let mut copy = |copy: u8| {
        let outcome = database.record(disk, layout::superblock(copy), &mut place);
        block(outcome, || Superblock::decode(&place, copy))
    };
    let (first, second) = (copy(0), copy(1));
    Superblock::newest([&first, &second]).cloned().map_err(Refusal::Superblock)
}

/// Finds the node whose record names `machine`, and looks whether it may boot.
///
/// # Errors
/// If it is none, or must not.
pub fn this_node(
    disk: &mut dyn Blocks,
    database: &Database,
    superblock: &Superblock,
    machine: &Machine,
) -> Result<ThisNode, Refusal> {
    let mut place = [0; PITCH];
    let mut configs: Vec<(NodeId, NodeConfig), NODES_MAX> = Vec::new();
    let mut unknown = None;
    for node in NodeId::first(superblock.nodes) {
        let outcome = database.record(disk, layout::config(node), &mut place);
        match block(outcome, || NodeConfig::decode(&place, superblock.cluster, node)) {
            // There is room for as many as a superblock can configure.
            Block::Good(config) => drop(configs.push((node, config))),
            Block::Blank => {}
            Block::Damaged(error) => unknown = unknown.or(Some(Refusal::Record(node, Some(error)))),
            Block::Unread | Block::Unreadable(_) => unknown = unknown.or(Some(Refusal::Record(node, None))),
        }
    }
    let found = machine.find(configs.iter().map(|(node, config)| (*node, config)));
    let id = found.map_err(|error| match error {
        // It may be the one that cannot be read.
        FindError::NotConfigured => unknown.unwrap_or(Refusal::NotConfigured),
        FindError::Ambiguous(a, b) => Refusal::Ambiguous(a, b),
    })?;
    let found = configs.into_iter().find(|(node, _)| *node == id);
    let (id, config) = found.ok_or(Refusal::NotConfigured)?;
    if !config.enabled {
        return Err(Refusal::Disabled(id));
    }
    Ok(ThisNode { id, config })
}
