//! Kernels in an image: install one in a node's slot, choose what a node boots, list what is there.
//!
//! All of it may be done while nodes run: nodes never read or write their slots, and one that boots at that moment finds the
//! slot whole or known not to be (see `quorate_database::kernel_slot`).

use std::fmt;
use std::path::Path;

use quorate_base::NodeId;
use quorate_base::capacity::RECORD_BYTES;
use quorate_bootstrap::{Bad, ElfError, KernelFile};
use quorate_database::gpt::Found;
use quorate_database::kernel_slot::{Checksum, SLOT_BYTES, VERSION_MAX, WORDS_MAX};
use quorate_database::sealed::Raw;
use quorate_database::{Block, BootChoice, InstalledKernel, KernelSlot, MachineId};

use crate::disk::Image;
use crate::error::ImageError;
use crate::snapshot::Snapshot;
use crate::tamper::edit_node;

/// Why a kernel is not installed, or the slots cannot be told.
#[derive(Debug)]
pub enum KernelError {
    /// The image cannot be used.
    Image(ImageError),
    /// The image has no partition for kernels.
    NoPartition,
    /// The image's partition has no place for this node.
    NoPlace(NodeId),
    /// The database has no such node.
    NoNode {
        /// Which.
        node: NodeId,
        /// How many it configures.
        nodes: u8,
    },
    /// It is no kernel.
    Elf(ElfError),
    /// It is longer than a slot.
    TooLong(usize),
    /// A version or words that do not fit their field, or are no text for it.
    Field(&'static str),
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(error) => error.fmt(f),
            Self::NoPartition => {
                f.write_str("the image has no partition for kernels: make one with `cargo cluster db create IMAGE`")
            }
            Self::NoPlace(node) => write!(f, "the image's partition for kernels ends before node {node}"),
            Self::NoNode { node, nodes } => {
                write!(f, "there is no node {node}: the image configures 0 to {}", nodes - 1)
            }
            Self::Elf(error) => write!(f, "no kernel for a node: {error}"),
            Self::TooLong(bytes) => write!(f, "the kernel needs {bytes} bytes, a slot has {SLOT_BYTES}"),
            Self::Field("version") => {
                write!(f, "a version has 1 to {VERSION_MAX} letters, digits and signs, no blanks")
            }
            Self::Field(_) => write!(f, "words for the command line are KEY=VALUE, at most {WORDS_MAX} bytes in all"),
        }
    }
}

impl std::error::Error for KernelError {}

impl From<ImageError> for KernelError {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

/// A slot as it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotState {
    /// Whose.
    pub node: NodeId,
    /// Which.
    pub slot: KernelSlot,
    /// Whether this node boots this one first.
    pub chosen: bool,
    /// Its record, if that is valid.
    pub installed: Option<InstalledKernel>,
    /// Why it would not be booted.
    pub bad: Option<Bad>,
}

/// What of an ELF file a node's kernel is: all that is loaded, without symbols and what is for debugging. It is still an ELF file.
///
/// # Errors
/// If it is no kernel, or too long.
pub fn loadable(elf: &[u8]) -> Result<Vec<u8>, KernelError> {
    let kernel = KernelFile::parse(elf).map_err(KernelError::Elf)?;
    let mut loadable = elf.get(..kernel.used_bytes).unwrap_or(elf).to_vec();
    // The table of sections is not there any more: its place, its count, and the index of their names (gABI, "ELF Header").
    for range in [40..48, 60..64] {
        loadable.get_mut(range).unwrap_or_default().fill(0);
    }
    if loadable.len() as u64 > SLOT_BYTES {
        return Err(KernelError::TooLong(loadable.len()));
    }
    Ok(loadable)
}

/// The same kernel with another label: what it says of its version is only data to it.
///
/// # Errors
/// If it is no kernel, or the label does not fit.
pub fn relabelled(elf: &[u8], version: &str) -> Result<Vec<u8>, KernelError> {
    let at = KernelFile::parse(elf).map_err(KernelError::Elf)?.version_at;
    if version.is_empty() || version.len() > VERSION_MAX || !version.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(KernelError::Field("version"));
    }
    let mut other = elf.to_vec();
    let field = other.get_mut(at..at + VERSION_MAX).ok_or(KernelError::Field("version"))?;
    field.fill(0);
    field.iter_mut().zip(version.bytes()).for_each(|(to, from)| *to = from);
    Ok(other)
}

/// Installs a kernel in a node's slot, and gives its record. Until it is there whole the slot is known to be no good.
///
/// # Errors
/// If it is no kernel, there is no such place, or the image cannot be written.
pub fn install(
    path: &Path,
    node: NodeId,
    slot: KernelSlot,
    elf: &[u8],
    words: &str,
) -> Result<InstalledKernel, KernelError> {
    let plain = words.split_whitespace().all(|word| word.contains('=')) && !words.chars().any(char::is_control);
    let words = heapless::String::try_from(words).ok().filter(|_| plain).ok_or(KernelError::Field("words"))?;
    let kernel = loadable(elf)?;
    let version = KernelFile::parse(&kernel).map_err(KernelError::Elf)?.version;
    let version = heapless::String::try_from(version).map_err(|_| KernelError::Field("version"))?;
    let image = Image::open(path, true)?;
    let (snapshot, partition) = (Snapshot::read(&image)?, place(&image, node)?);
    known(&snapshot, node)?;
    let cluster = snapshot.superblock.cluster;
    let record_at = partition.first_byte + slot.record_at(node);
    let before = InstalledKernel::decode(&image.read_bytes(record_at, RECORD_BYTES)?, cluster, node, slot);
    let sequence = before.good().map_or(0, |before| before.sequence).saturating_add(1);
    let installed = InstalledKernel {
        sequence,
        bytes: u32::try_from(kernel.len()).map_err(|_| KernelError::TooLong(kernel.len()))?,
        checksum: Checksum::of(&kernel),
        version,
        words,
    };
    image.write_bytes(record_at, &[0; RECORD_BYTES])?;
    image.sync()?;
    image.write_bytes(partition.first_byte + slot.kernel_at(node), &kernel)?;
    image.sync()?;
    image.write_bytes(record_at, &installed.encode(cluster, node, slot))?;
    image.sync()?;
    Ok(installed)
}

/// Chooses what a node boots.
///
/// # Errors
/// If there is no such node, or the image cannot be written.
pub fn choose(path: &Path, node: NodeId, choice: BootChoice) -> Result<(), KernelError> {
    known(&Snapshot::read(&Image::open(path, false)?)?, node)?;
    Ok(edit_node(path, node, |config| config.boot = choice)?)
}

/// Says which machine a node is.
///
/// # Errors
/// If there is no such node, or the image cannot be written.
pub fn set_machine(path: &Path, node: NodeId, machine: MachineId) -> Result<(), KernelError> {
    known(&Snapshot::read(&Image::open(path, false)?)?, node)?;
    Ok(edit_node(path, node, |config| config.machine = machine)?)
}

/// Turns a bit of the kernel in a slot, as a disk may.
///
/// # Errors
/// If there is no such place, or the image cannot be written.
pub fn damage(path: &Path, node: NodeId, slot: KernelSlot) -> Result<(), KernelError> {
    const WHERE: u64 = 0x4321;
    let image = Image::open(path, true)?;
    let at = place(&image, node)?.first_byte + slot.kernel_at(node) + WHERE;
    let byte = image.read_bytes(at, 1)?.first().copied().unwrap_or(0);
    image.write_bytes(at, &[byte ^ 0x10])?;
    Ok(image.sync()?)
}

/// All slots of all nodes, each looked at as the bootstrap would.
///
/// # Errors
/// If the image cannot be read, or has no kernels.
pub fn list(path: &Path) -> Result<Vec<SlotState>, KernelError> {
    let image = Image::open(path, false)?;
    let snapshot = Snapshot::read(&image)?;
    let mut all = Vec::new();
    for records in &snapshot.nodes {
        let node = records.node;
        let partition = place(&image, node)?;
        let chosen = records.config.good().and_then(|config| config.boot.slot());
        for slot in KernelSlot::ALL {
            let raw: Vec<u8> = image.read_bytes(partition.first_byte + slot.record_at(node), RECORD_BYTES)?;
            let (installed, bad) = match InstalledKernel::decode(&raw, snapshot.superblock.cluster, node, slot) {
                Block::Good(installed) => {
                    let at = partition.first_byte + slot.kernel_at(node);
                    let kernel = image.read_bytes(at, installed.bytes as usize)?;
                    let bad = if Checksum::of(&kernel) == installed.checksum {
                        KernelFile::parse(&kernel).err().map(Bad::Elf)
                    } else {
                        Some(Bad::Checksum)
                    };
                    (Some(installed), bad)
                }
                Block::Damaged(error) => (None, Some(Bad::Record(error))),
                Block::Blank | Block::Unread | Block::Unreadable(_) => (None, Some(Bad::Absent)),
            };
            all.push(SlotState { node, slot, chosen: chosen == Some(slot), installed, bad });
        }
    }
    Ok(all)
}

/// The partition, if it has room for this node.
fn place(image: &Image, node: NodeId) -> Result<Found, KernelError> {
    let partition = image.kernels().ok_or(KernelError::NoPartition)?;
    let fits = partition.bytes >= KernelSlot::B.kernel_at(node) + SLOT_BYTES;
    if fits { Ok(partition) } else { Err(KernelError::NoPlace(node)) }
}

fn known(snapshot: &Snapshot, node: NodeId) -> Result<(), KernelError> {
    let nodes = snapshot.superblock.nodes;
    if node.get() < nodes { Ok(()) } else { Err(KernelError::NoNode { node, nodes }) }
}

const _: () = assert!(size_of::<Raw>() == RECORD_BYTES);
