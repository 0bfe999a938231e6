//! Makes an image: partition table and an empty membership database.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use quorate_base::capacity::{LEVELS_MAX, NODES_MAX, RECORD_PITCH};
use quorate_base::{ClusterId, FenceMethod, NodeId, Preempted, Registrants, Timing};
use quorate_database::gpt::{ENTRY_BYTES, Entry};
use quorate_database::kernel_slot::{KERNELS_TYPE, partition_bytes};
use quorate_database::layout::{self, PARTITION_BYTES, PARTITION_TYPE};
use quorate_database::{Blanks, ClusterKey, MachineId, Name, NodeConfig, Superblock};

use crate::disk::{BlockSize, Image, TableCopy, protective_mbr};
use crate::error::ImageError;
use crate::esp::{self, ESP_BYTES, ESP_TYPE};
use crate::random::Random;

/// First byte of the database's partition: 1 MiB, aligned to whatever the medium has.
pub const DATABASE_AT: u64 = 1 << 20;
/// Bytes of an image if nothing else is asked for: 128 MiB, sparse, with room for a boot partition and for volumes.
pub const IMAGE_BYTES: u64 = 128 << 20;
/// Bytes of an image at least: the database between the two partition tables, each within 1 MiB.
pub const IMAGE_BYTES_MIN: u64 = DATABASE_AT + PARTITION_BYTES + (1 << 20);
/// First byte of the boot partition, behind the database.
pub const ESP_AT: u64 = DATABASE_AT + PARTITION_BYTES;
/// First byte of the kernels' partition, behind that.
pub const KERNELS_AT: u64 = ESP_AT + ESP_BYTES;
/// What a bootable image leaves for later layers at least.
const LATER_BYTES: u64 = 64 << 20;
/// Bytes of the partition table's entries: 128 of 128 bytes.
const TABLE_BYTES: usize = 128 * ENTRY_BYTES;

/// What to make.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Configured nodes, 1 to 64.
    pub nodes: u8,
    /// The cluster's name.
    pub name: String,
    /// Time-outs; refused if they are not safe.
    pub timing: Timing,
    /// Fence method.
    pub fence: FenceMethod,
    /// What the disk makes of the commands of a node whose registration was preempted.
    pub preempted: Preempted,
    /// Who holds the reservation.
    pub registrants: Registrants,
    /// Bytes of the image, a multiple of 1 MiB; see [`bootable_bytes`].
    pub bytes: u64,
    /// The UEFI bootstrap (`BOOTX64.EFI`): with it the image has a boot partition and one for kernels. `None`: the database alone.
    pub bootstrap: Option<Vec<u8>>,
    /// Block size of the disk that the image stands for.
    pub block_size: BlockSize,
    /// Machine identities of nodes 0, 1, …; those beyond the end have none.
    pub machines: Vec<MachineId>,
    /// Seed of cluster id, key and GUIDs, for an image that comes out the same again. `None` for a real cluster.
    pub seed: Option<u64>,
    /// Replace an existing file.
    pub overwrite: bool,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            nodes: 3,
            name: "quorate".to_owned(),
            timing: Timing::DEFAULT,
            fence: FenceMethod::Lease,
            preempted: Preempted::default(),
            registrants: Registrants::default(),
            bytes: IMAGE_BYTES,
            bootstrap: None,
            block_size: BlockSize::B512,
            machines: Vec::new(),
            seed: None,
            overwrite: false,
        }
    }
}

/// What was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Whose it is.
    pub cluster: ClusterId,
    /// The cluster's name.
    pub name: String,
    /// Configured nodes.
    pub nodes: u8,
    /// Bytes of the image.
    pub bytes: u64,
    /// Block size.
    pub block_size: u32,
    /// First byte of the database.
    pub database_at: u64,
}

/// Bytes of an image that these many nodes boot from, with space for later layers.
pub fn bootable_bytes(nodes: u8) -> u64 {
    IMAGE_BYTES.max(KERNELS_AT + partition_bytes(nodes) + LATER_BYTES)
}

/// The partitions: type, own GUID, first byte, bytes, name.
type Partition = ([u8; 16], [u8; 16], u64, u64, &'static str);

/// Makes an image at `path`.
///
/// # Errors
/// If an option cannot be, the file exists and is not to be overwritten, or it cannot be written.
pub fn create(path: &Path, options: &CreateOptions) -> Result<Summary, ImageError> {
    let superblock_of = check(options)?;
    let mut random = Random::new(options.seed).map_err(ImageError::io(Path::new("/dev/urandom"), "read"))?;
    let io = || ImageError::io(path, "make");
    let superblock = superblock_of(ClusterId(random.uuid().map_err(io())?), ClusterKey(random.bytes().map_err(io())?));
    let (disk_guid, partition_guid) = (random.uuid().map_err(io())?, random.uuid().map_err(io())?);

    let mut open = OpenOptions::new();
    open.read(true).write(true);
    if options.overwrite {
        open.create(true).truncate(true)
    } else {
        open.create_new(true)
    };
    let file = open.open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => ImageError::Exists(path.to_owned()),
        _ => ImageError::io(path, "make")(e),
    })?;
    file.set_len(options.bytes).map_err(io())?;

    let block = options.block_size;
    let size = u64::from(block.bytes());
    let blocks = options.bytes / size;
    let mut partitions: Vec<Partition> =
        vec![(PARTITION_TYPE, partition_guid, DATABASE_AT, PARTITION_BYTES, "membership database")];
    let mut volume_id = [0; 4];
    if options.bootstrap.is_some() {
        let (esp, kernels) = (random.uuid().map_err(io())?, random.uuid().map_err(io())?);
        volume_id = random.bytes().map_err(io())?;
        partitions.push((ESP_TYPE, esp, ESP_AT, ESP_BYTES, "boot"));
        partitions.push((KERNELS_TYPE, kernels, KERNELS_AT, partition_bytes(options.nodes), "kernels"));
    }
    let mut entries = vec![0; TABLE_BYTES];
    for (place, (kind, guid, at, bytes, name)) in entries.chunks_exact_mut(ENTRY_BYTES).zip(partitions) {
        let entry = Entry { kind, guid, first: at / size, last: (at + bytes) / size - 1 };
        place.copy_from_slice(&entry.encode(name));
    }
    let primary = TableCopy::new(block, blocks, disk_guid, entries);
    file.write_all_at(&protective_mbr(blocks), 0).map_err(io())?;
    primary.counterpart(block).write(&file, block).map_err(io())?;
    primary.write(&file, block).map_err(io())?;
    if let Some(bootstrap) = &options.bootstrap {
        esp::make(&file, ESP_AT, block, u32::from_le_bytes(volume_id), bootstrap).map_err(io())?;
    }
    drop(file);

    let image = Image::open(path, true)?;
    for (at, blank) in superblock.blanks.records(superblock.cluster, options.nodes) {
        image.write(at, &blank)?;
    }
    for node in NodeId::first(options.nodes) {
        let name = Name::new(&format!("node-{node}")).map_err(|e| ImageError::Options(e.to_string()))?;
        let machine = options.machines.get(node.index()).copied().unwrap_or_default();
        let config = NodeConfig { machine, ..NodeConfig::named(name) };
        image.write(layout::config(node), &config.encode(superblock.cluster, node))?;
    }
    // Last: an image without superblock is no database yet.
    for copy in [1, 0] {
        image.write(layout::superblock(copy), &superblock.encode(copy))?;
    }
    image.sync()?;
    Ok(Summary {
        cluster: superblock.cluster,
        name: options.name.clone(),
        nodes: options.nodes,
        bytes: options.bytes,
        block_size: block.bytes(),
        database_at: image.database.first_byte,
    })
}

/// Checks the options; the superblock then only wants its ids.
fn check(options: &CreateOptions) -> Result<impl FnOnce(ClusterId, ClusterKey) -> Superblock, ImageError> {
    let bad = |what: String| Err(ImageError::Options(what));
    let nodes = options.nodes;
    if !(1..=NODES_MAX).contains(&usize::from(nodes)) {
        return bad(format!("a cluster has 1 to {NODES_MAX} nodes, not {nodes}"));
    }
    let name = match Name::new(&options.name) {
        Ok(name) => name,
        Err(e) => return bad(format!("cluster name {:?}: {e}", options.name)),
    };
    if let Err(e) = options.timing.check() {
        return bad(e.to_string());
    }
    if options.bytes < IMAGE_BYTES_MIN || !options.bytes.is_multiple_of(1 << 20) {
        return bad(format!(
            "an image has a multiple of 1 MiB, at least {IMAGE_BYTES_MIN} bytes, not {}",
            options.bytes
        ));
    }
    let boot = KERNELS_AT + partition_bytes(nodes) + (1 << 20);
    if options.bootstrap.is_some() && options.bytes < boot {
        return bad(format!("an image that {nodes} nodes boot from has at least {boot} bytes, not {}", options.bytes));
    }
    if options.machines.len() > usize::from(nodes) {
        return bad(format!("{} machine identities for {nodes} nodes", options.machines.len()));
    }
    for (i, a) in options.machines.iter().enumerate() {
        if let Some(j) = options.machines.iter().skip(i + 1).position(|b| a.meets(b)) {
            return bad(format!("nodes {i} and {} have the same machine identity", i + 1 + j));
        }
    }
    let &CreateOptions { timing, fence, preempted, registrants, .. } = options;
    Ok(move |cluster, key| Superblock {
        generation: 1,
        cluster,
        name,
        timing,
        nodes,
        levels_max: LEVELS_MAX as u8,
        fence,
        preempted,
        registrants,
        blanks: Blanks::Sealed,
        key,
        key_epoch: 0,
    })
}

const _: () = assert!(ESP_AT.is_multiple_of(1 << 20) && KERNELS_AT.is_multiple_of(1 << 20));
const _: () = assert!(DATABASE_AT.is_multiple_of(RECORD_PITCH) && (TABLE_BYTES as u64) * 2 < DATABASE_AT);
