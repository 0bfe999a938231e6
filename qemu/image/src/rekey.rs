//! Gives a cluster a new key, offline: the old one is then nowhere on the disk.
//!
//! Copy 1 of the superblock first, then copy 0, as every change of it: whenever this is interrupted, one copy is whole, and
//! the newer one counts. Run again, it makes the next key.

use std::fmt;
use std::path::Path;

use quorate_base::{ClusterKey, Incarnation, NodeId, NodeSet};
use quorate_database::{Block, layout};
use quorate_interconnect::seal::fingerprint;

use crate::disk::Image;
use crate::error::ImageError;
use crate::random::Random;
use crate::snapshot::Snapshot;

/// What became of the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rekeyed {
    /// The superblock's generation.
    pub generation: u64,
    /// The new key's epoch.
    pub epoch: u8,
    /// What may be shown of the key before …
    pub before: u64,
    /// … and of the new one.
    pub now: u64,
}

/// Why the key stays.
#[derive(Debug)]
pub enum RekeyError {
    /// The image cannot be read or written.
    Image(ImageError),
    /// These nodes' heartbeats have no clean mark or cannot be read: they may run. A node that runs keeps the key of its
    /// boot, and neither hears nor is heard by one that boots later.
    NotClean(NodeSet),
}

impl fmt::Display for RekeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(error) => error.fmt(f),
            Self::NotClean(nodes) => write!(
                f,
                "node {nodes}: the heartbeat has no clean mark; a node that runs would keep the old key. Let all nodes leave, or \
                 say --force if they are off for certain"
            ),
        }
    }
}

impl std::error::Error for RekeyError {}

impl From<ImageError> for RekeyError {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

/// Puts a new key from the operating system's randomness into both copies of the superblock.
///
/// # Errors
/// If a node may run and it is not to be done all the same, or if the image cannot be read or written.
pub fn rekey(path: &Path, force: bool) -> Result<Rekeyed, RekeyError> {
    let mut random = Random::new(None).map_err(ImageError::io(Path::new("/dev/urandom"), "read"))?;
    let image = Image::open(path, true)?;
    let snapshot = Snapshot::read(&image)?;
    let running = may_run(&snapshot);
    if !force && !running.is_empty() {
        return Err(RekeyError::NotClean(running));
    }
    let mut superblock = snapshot.superblock.clone();
    let before = fingerprint(&superblock.key);
    superblock.key = ClusterKey(random.bytes().map_err(ImageError::io(Path::new("/dev/urandom"), "read"))?);
    superblock.key_epoch = superblock.key_epoch.wrapping_add(1);
    superblock.generation += 1;
    for copy in [1, 0] {
        image.write(layout::superblock(copy), &superblock.encode(copy))?;
        image.sync()?;
    }
    let now = fingerprint(&superblock.key);
    Ok(Rekeyed { generation: superblock.generation, epoch: superblock.key_epoch, before, now })
}

/// The nodes that wrote a heartbeat and no clean mark, or whose heartbeat cannot be read.
fn may_run(snapshot: &Snapshot) -> NodeSet {
    let off = |node: NodeId| {
        snapshot.nodes.iter().filter(|n| n.node == node).any(|n| match n.heartbeat.good() {
            Some(heartbeat) => heartbeat.clean || heartbeat.incarnation == Incarnation::NEVER,
            None => matches!(n.heartbeat, Block::Blank),
        })
    };
    NodeId::first(snapshot.superblock.nodes).filter(|n| !off(*n)).collect()
}
