//! What tests and scenarios do to an image on purpose: damage, changed records, and hashes of its regions.

use std::collections::BTreeMap;
use std::path::Path;

use crc::{CRC_64_XZ, Crc};
use quorate_base::capacity::RECORD_BYTES;
use quorate_base::{ClusterId, NodeId};
use quorate_database::layout::{self, RECORDS};
use quorate_database::sealed::{CLUSTER_AT, VERSION_AT, header, reseal};
use quorate_database::{Block, NodeConfig, Region, Superblock};

use crate::disk::Image;
use crate::error::ImageError;
use crate::snapshot::{Snapshot, superblocks};

/// How a record is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// One bit is turned, counted from the record's start (modulo its length).
    Flip(u32),
    /// Its second half is zeros, as after a power cut in the middle of a write.
    Torn,
    /// Every byte is this.
    Fill(u8),
    /// The record of another place of the same kind stands there: a misdirected write.
    Misplaced,
}

/// The record number of a region's place; spare has none.
pub fn record_of(region: Region) -> Option<u64> {
    Some(match region {
        Region::Superblock(copy) => layout::superblock(copy),
        Region::Config(n) => layout::config(n),
        Region::Identity(n, slot) => layout::identity(n, slot),
        Region::Heartbeat(n) => layout::heartbeat(n),
        Region::Ballot(n, slot) => layout::ballot(n, slot),
        Region::Domain(n, slot) => layout::domain(n, slot),
        Region::Spare => return None,
    })
}

/// Damages one record.
///
/// # Errors
/// If the image cannot be opened or written, or the region has no record.
pub fn damage(path: &Path, region: Region, how: Damage) -> Result<(), ImageError> {
    let image = Image::open(path, true)?;
    let Some(record) = record_of(region) else {
        return Err(ImageError::Options("the spare region has no record to damage".to_owned()));
    };
    let mut raw = image.read(record)?;
    match how {
        Damage::Flip(bit) => {
            let bit = bit as usize % (8 * RECORD_BYTES);
            if let Some(byte) = raw.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Damage::Torn => raw.iter_mut().skip(RECORD_BYTES / 2).for_each(|b| *b = 0),
        Damage::Fill(byte) => raw = [byte; RECORD_BYTES],
        Damage::Misplaced => raw = image.read(neighbour(region).unwrap_or(record))?,
    }
    image.write(record, &raw)?;
    image.sync()
}

fn neighbour(region: Region) -> Option<u64> {
    let other = |n: NodeId| NodeId::new(n.get() ^ 1);
    record_of(match region {
        Region::Superblock(copy) => Region::Superblock(1 - copy.min(1)),
        Region::Config(n) => Region::Config(other(n)?),
        Region::Identity(n, slot) => Region::Identity(other(n)?, slot),
        Region::Heartbeat(n) => Region::Heartbeat(other(n)?),
        Region::Ballot(n, slot) => Region::Ballot(other(n)?, slot),
        Region::Domain(n, slot) => Region::Domain(other(n)?, slot),
        Region::Spare => Region::Spare,
    })
}

/// A hash of each region by its name (hexadecimal CRC-64): `superblock`, `config.N`, `identity.N`, `heartbeat.N` and
/// `ballot.N` of the configured nodes, `config` and `identity` over all nodes, `domain` and `domain.N`, and `spare` for the rest of the
/// database.
///
/// # Errors
/// If the image cannot be read or has no superblock.
pub fn region_hashes(path: &Path) -> Result<BTreeMap<String, String>, ImageError> {
    static CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);
    let image = Image::open(path, false)?;
    let copies = superblocks(&image)?;
    let nodes = Superblock::newest([&copies[0], &copies[1]]).map_err(ImageError::Superblock)?.nodes;
    let mut digests = BTreeMap::new();
    for record in 0..RECORDS {
        let pitch = image.read_pitch(record)?;
        for name in names_of(record, nodes) {
            digests.entry(name).or_insert_with(|| CRC.digest()).update(&pitch);
        }
    }
    Ok(digests.into_iter().map(|(name, digest)| (name, format!("{:016x}", digest.finalize()))).collect())
}

fn names_of(record: u64, nodes: u8) -> Vec<String> {
    let region = Region::of(record);
    let (node, all) = match region {
        Region::Superblock(_) => return vec![region.to_string()],
        Region::Spare if record >= layout::DOMAIN_FIRST => return vec!["domain".to_owned()],
        Region::Spare => return vec!["spare".to_owned()],
        Region::Config(n) => (n, Some("config")),
        Region::Domain(n, _) => (n, Some("domain")),
        Region::Identity(n, _) => (n, Some("identity")),
        Region::Heartbeat(n) | Region::Ballot(n, _) => (n, None),
    };
    let own = if node.get() < nodes { region.to_string() } else { "spare".to_owned() };
    all.map(str::to_owned).into_iter().chain([own]).collect()
}

/// Changes the superblock as an administrator would: next generation, both copies.
///
/// # Errors
/// If the image cannot be read or written, or has no superblock.
pub fn edit_superblock(path: &Path, change: impl FnOnce(&mut Superblock)) -> Result<(), ImageError> {
    let image = Image::open(path, true)?;
    let mut superblock = Snapshot::read(&image)?.superblock;
    superblock.generation = superblock.generation.saturating_add(1);
    change(&mut superblock);
    for copy in [1, 0] {
        image.write(layout::superblock(copy), &superblock.encode(copy))?;
    }
    image.sync()
}

/// Changes a node's configuration: disables it, gives it a machine identity, …
///
/// # Errors
/// If the image cannot be read or written, or the node has no valid configuration.
pub fn edit_node(path: &Path, node: NodeId, change: impl FnOnce(&mut NodeConfig)) -> Result<(), ImageError> {
    let image = Image::open(path, true)?;
    let cluster = Snapshot::read(&image)?.superblock.cluster;
    let at = layout::config(node);
    let mut config = match NodeConfig::decode(&image.read(at)?, cluster, node) {
        Block::Good(config) => config,
        Block::Damaged(e) => {
            return Err(ImageError::Record { region: Region::Config(node).to_string(), error: Some(e) });
        }
        Block::Blank | Block::Unread | Block::Unreadable(_) => {
            return Err(ImageError::Record { region: Region::Config(node).to_string(), error: None });
        }
    };
    change(&mut config);
    image.write(at, &config.encode(cluster, node))?;
    image.sync()
}

/// Gives every record another cluster id: a foreign disk.
///
/// # Errors
/// If the image cannot be read or written.
pub fn set_cluster(path: &Path, cluster: ClusterId) -> Result<(), ImageError> {
    rewrite(path, 0..RECORDS, |raw| {
        for (to, from) in raw.iter_mut().skip(CLUSTER_AT).zip(cluster.0) {
            *to = from;
        }
    })
}

/// Gives both copies of the superblock another format version, with a right checksum.
///
/// # Errors
/// If the image cannot be read or written.
pub fn set_version(path: &Path, version: u16) -> Result<(), ImageError> {
    rewrite(path, 0..2, |raw| {
        for (to, from) in raw.iter_mut().skip(VERSION_AT).zip(version.to_le_bytes()) {
            *to = from;
        }
    })
}

/// Makes the database's partition half as long as a database is, in both partition tables.
///
/// # Errors
/// If the image cannot be read or written.
pub fn shorten(path: &Path) -> Result<(), ImageError> {
    let image = Image::open(path, true)?;
    let blocks = image.database.bytes / u64::from(image.table.block.bytes());
    image.set_database_blocks(blocks / 2)
}

/// Changes and seals again every record in `records` that is sealed.
fn rewrite(
    path: &Path,
    records: std::ops::Range<u64>,
    change: impl Fn(&mut [u8; RECORD_BYTES]),
) -> Result<(), ImageError> {
    let image = Image::open(path, true)?;
    for record in records {
        let mut raw = image.read(record)?;
        if header(&raw).is_some() {
            change(&mut raw);
            reseal(&mut raw);
            image.write(record, &raw)?;
        }
    }
    image.sync()
}
