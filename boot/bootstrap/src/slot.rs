//! Chooses the kernel: the slot that the node's record names, or the other one if that is no good.
//!
//! Each slot is read whole, its checksum looked at, and the file taken for a kernel; the first that passes all is booted.

use core::fmt;

use quorate_base::ClusterId;
use quorate_base::capacity::RECORD_PITCH;
use quorate_database::kernel_slot::{Checksum, SLOT_BYTES};
use quorate_database::{Block, InstalledKernel, KernelSlot, RecordError};

use crate::disk::{Blocks, Database, PITCH, ReadFailed, block, read_at};
use crate::elf::{ElfError, KernelFile};
use crate::node::ThisNode;
use crate::refusal::Refusal;

/// Bytes that are read and summed at a time.
const PIECE: usize = 256 << 10;

/// Why the kernel in a slot is not booted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Bad {
    /// Nothing is installed, or an install stopped half way.
    Absent,
    /// Its record is damaged.
    Record(RecordError),
    /// The disk cannot be read there, or ends before.
    Unreadable,
    /// The bytes are not those that were installed.
    Checksum,
    /// It is no kernel for this bootstrap.
    Elf(ElfError),
    /// Memory where it belongs is not free, as who loads it found out.
    Memory,
}

impl Bad {
    /// In one word, for the command line of the kernel that is booted instead.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Record(_) => "damaged-record",
            Self::Unreadable => "unreadable",
            Self::Checksum => "wrong-checksum",
            Self::Elf(error) => error.word(),
            Self::Memory => "no-memory",
        }
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("empty"),
            Self::Record(error) => write!(f, "its record is damaged: {error}"),
            Self::Unreadable => f.write_str("it cannot be read"),
            Self::Checksum => f.write_str("wrong checksum: damaged, or an install that was not finished"),
            Self::Elf(error) => error.fmt(f),
            Self::Memory => f.write_str("the firmware keeps memory that it must be loaded to"),
        }
    }
}

/// The kernel that is booted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen<'m> {
    /// From which slot.
    pub slot: KernelSlot,
    /// Its record.
    pub installed: InstalledKernel,
    /// The file.
    pub kernel: KernelFile<'m>,
    /// Why the slot that the node's record names was passed over, if it was.
    pub passed_over: Option<(KernelSlot, Bad)>,
}

/// The kernel for a node. `memory` takes the file; it needs [`SLOT_BYTES`]. `fits` has the last word on a kernel that is sound: whether the
/// memory where it belongs is free.
///
/// # Errors
/// If neither slot has one, or nothing is to be booted.
pub fn choose<'m>(
    disk: &mut dyn Blocks,
    database: &Database,
    cluster: ClusterId,
    node: &ThisNode,
    memory: &'m mut [u8],
    mut fits: impl FnMut(&KernelFile<'_>) -> bool,
) -> Result<Chosen<'m>, Refusal> {
    let first = node.config.boot.slot().ok_or(Refusal::Nothing(node.id))?;
    if let Err(error) = database.kernels {
        return Err(Refusal::NoKernels(node.id, error));
    }
    let mut bad = [Bad::Absent; 2];
    let mut sound = None;
    for (place, slot) in bad.iter_mut().zip([first, first.other()]) {
        match look(disk, database, cluster, node, slot, memory, &mut fits) {
            Ok(installed) => {
                sound = Some((slot, installed));
                break;
            }
            Err(why) => *place = why,
        }
    }
    let [first_bad, second_bad] = bad;
    let neither = || match first {
        KernelSlot::A => Refusal::NoKernel(node.id, [first_bad, second_bad]),
        KernelSlot::B => Refusal::NoKernel(node.id, [second_bad, first_bad]),
    };
    let (slot, installed) = sound.ok_or_else(neither)?;
    let passed_over = (slot != first).then_some((first, first_bad));
    let file = memory.get(..installed.bytes as usize).ok_or_else(neither)?;
    let kernel = KernelFile::parse(file).map_err(|_| neither())?;
    Ok(Chosen { slot, installed, kernel, passed_over })
}

/// Reads a slot's kernel to the start of `memory` and looks at it.
///
/// # Errors
/// Why it is not to be booted.
pub fn look(
    disk: &mut dyn Blocks,
    database: &Database,
    cluster: ClusterId,
    node: &ThisNode,
    slot: KernelSlot,
    memory: &mut [u8],
    fits: &mut dyn FnMut(&KernelFile<'_>) -> bool,
) -> Result<InstalledKernel, Bad> {
    let partition = database.kernels.map_err(|_| Bad::Absent)?;
    let (record_at, kernel_at) = (slot.record_at(node.id), slot.kernel_at(node.id));
    // Written as differences: a partition is as long as its table says.
    if partition.bytes < RECORD_PITCH + record_at || partition.bytes < SLOT_BYTES + kernel_at {
        return Err(Bad::Absent);
    }
    let mut place = [0; PITCH];
    let outcome = read_at(disk, partition.first_byte + record_at, &mut place);
    let installed = match block(outcome, || InstalledKernel::decode(&place, cluster, node.id, slot)) {
        Block::Good(installed) => installed,
        Block::Blank => return Err(Bad::Absent),
        Block::Damaged(error) => return Err(Bad::Record(error)),
        Block::Unread | Block::Unreadable(_) => return Err(Bad::Unreadable),
    };
    let file = memory.get_mut(..installed.bytes as usize).ok_or(Bad::Memory)?;
    let mut sum = Checksum::default();
    let mut at = partition.first_byte + kernel_at;
    for piece in file.chunks_mut(PIECE) {
        read_at(disk, at, piece).map_err(|ReadFailed| Bad::Unreadable)?;
        sum.add(piece);
        at += piece.len() as u64;
    }
    if sum.finish() != installed.checksum {
        return Err(Bad::Checksum);
    }
    let kernel = KernelFile::parse(file).map_err(Bad::Elf)?;
    if fits(&kernel) { Ok(installed) } else { Err(Bad::Memory) }
}
