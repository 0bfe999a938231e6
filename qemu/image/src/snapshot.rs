//! All records of a database, read once, the ballots twice.

use quorate_base::{Ballot, NodeId};
use quorate_database::layout;
use quorate_database::{BallotBlock, Block, Heartbeat, Identity, NodeConfig, Superblock, newer_slot};

use crate::disk::Image;
use crate::error::ImageError;

/// A node's records.
#[derive(Clone, Debug)]
pub struct NodeRecords {
    /// Whose.
    pub node: NodeId,
    /// Its configuration.
    pub config: Block<NodeConfig>,
    /// Its identity slots.
    pub identity: [Block<Identity>; 2],
    /// Its heartbeat.
    pub heartbeat: Block<Heartbeat>,
    /// Its ballot slots.
    pub ballots: [Block<BallotBlock>; 2],
}

impl NodeRecords {
    /// The ballot slot that counts.
    pub fn newest_ballot(&self) -> Option<(u8, &BallotBlock)> {
        let [a, b] = &self.ballots;
        let slot = newest_slot([a, b])?;
        let block = if slot == 0 { a } else { b };
        block.good().map(|b| (slot, b))
    }

    /// The highest promise, [`Ballot::NONE`] if it never wrote one, `None` if nothing is known.
    pub fn promised(&self) -> Option<Ballot> {
        promised([&self.ballots[0], &self.ballots[1]])
    }
}

/// A database's records.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Both copies.
    pub copies: [Block<Superblock>; 2],
    /// The one that counts.
    pub superblock: Superblock,
    /// The configured nodes' records.
    pub nodes: Vec<NodeRecords>,
    /// The highest promise of all nodes in a second read of all ballots; `None` if a node's is not known.
    pub promised_later: Option<Ballot>,
}

impl Snapshot {
    /// Reads all of it.
    ///
    /// # Errors
    /// If there is no superblock to go by, or the file cannot be read.
    pub fn read(image: &Image) -> Result<Self, ImageError> {
        let copies = superblocks(image)?;
        let superblock = Superblock::newest([&copies[0], &copies[1]]).map_err(ImageError::Superblock)?.clone();
        let mut nodes = Vec::new();
        for node in NodeId::first(superblock.nodes) {
            nodes.push(node_records(image, &superblock, node)?);
        }
        let mut promised_later = Some(Ballot::NONE);
        for node in NodeId::first(superblock.nodes) {
            let [a, b] = ballots(image, &superblock, node)?;
            promised_later = promised_later.zip(promised([&a, &b])).map(|(x, y)| x.max(y));
        }
        Ok(Self { copies, superblock, nodes, promised_later })
    }
}

/// Both copies of the superblock.
///
/// # Errors
/// If the file cannot be read.
pub fn superblocks(image: &Image) -> Result<[Block<Superblock>; 2], ImageError> {
    Ok([
        Superblock::decode(&image.read(layout::superblock(0))?, 0),
        Superblock::decode(&image.read(layout::superblock(1))?, 1),
    ])
}

fn node_records(image: &Image, superblock: &Superblock, node: NodeId) -> Result<NodeRecords, ImageError> {
    let (cluster, blanks) = (superblock.cluster, superblock.blanks);
    let identity = |slot: u8| {
        let raw = image.read(layout::identity(node, slot))?;
        Ok::<_, ImageError>(blanks.judge(&raw, Identity::decode(&raw, cluster, node, slot)))
    };
    let heartbeat = image.read(layout::heartbeat(node))?;
    Ok(NodeRecords {
        node,
        config: NodeConfig::decode(&image.read(layout::config(node))?, cluster, node),
        identity: [identity(0)?, identity(1)?],
        heartbeat: blanks.judge(&heartbeat, Heartbeat::decode(&heartbeat, cluster, node)),
        ballots: ballots(image, superblock, node)?,
    })
}

fn ballots(image: &Image, superblock: &Superblock, node: NodeId) -> Result<[Block<BallotBlock>; 2], ImageError> {
    let ballot = |slot: u8| {
        let raw = image.read(layout::ballot(node, slot))?;
        Ok(superblock.blanks.judge(&raw, BallotBlock::decode(&raw, superblock.cluster, node, slot)))
    };
    Ok([ballot(0)?, ballot(1)?])
}

fn newest_slot(slots: [&Block<BallotBlock>; 2]) -> Option<u8> {
    let [a, b] = slots.map(|s| match s.good() {
        Some(block) => Block::Good(block.head()),
        None => Block::Unread,
    });
    newer_slot([&a, &b])
}

fn promised(slots: [&Block<BallotBlock>; 2]) -> Option<Ballot> {
    if slots.iter().all(|s| matches!(s, Block::Blank)) {
        return Some(Ballot::NONE);
    }
    let slot = newest_slot(slots)?;
    slots.get(usize::from(slot)).and_then(|s| s.good()).map(|b| b.promised)
}
