//! A disk as the firmware gives it, the partitions on it, and the records in them.

use core::fmt;

use quorate_base::DiskError;
use quorate_base::capacity::RECORD_PITCH;
use quorate_database::gpt::{Found, GptError, Header, Search};
use quorate_database::kernel_slot::{KERNELS_TYPE, partition_bytes};
use quorate_database::{Block, layout};

/// Bytes of a record's place, and of the pieces in which tables are read. A multiple of both block sizes.
pub const PITCH: usize = RECORD_PITCH as usize;

/// A read of the disk failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReadFailed;

impl fmt::Display for ReadFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the firmware cannot read the disk")
    }
}

impl core::error::Error for ReadFailed {}

/// A disk that can be read. There is no way to write one: several machines read it at once, and nodes that run write it.
pub trait Blocks {
    /// Bytes of a logical block.
    fn block_bytes(&self) -> u32;

    /// How many blocks.
    fn blocks(&self) -> u64;

    /// Reads whole blocks from block `first` on.
    ///
    /// # Errors
    /// If the disk cannot, or has no such blocks.
    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), ReadFailed>;
}

/// A disk with a membership database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Database {
    /// Where the database is.
    pub records: Found,
    /// Where the kernels are, or why there are none. A database is as good without.
    pub kernels: Result<Found, GptError>,
}

impl Database {
    /// Looks for one. Of the two copies of the partition table the first good one counts.
    ///
    /// # Errors
    /// If there is none in a sound place, or the table is damaged.
    pub fn find(disk: &mut dyn Blocks) -> Result<Self, GptError> {
        if !matches!(disk.block_bytes(), 512 | 4096) || disk.blocks() < 3 {
            return Err(GptError::Signature);
        }
        let backup = disk.blocks() - 1;
        match table(disk, 1) {
            Err(first) => table(disk, backup).map_err(|_| first),
            found => found,
        }
    }

    /// Reads the place of a record of the database.
    pub fn record(&self, disk: &mut dyn Blocks, number: u64, into: &mut [u8; PITCH]) -> Result<(), ReadFailed> {
        let end = (number + 1) * RECORD_PITCH;
        if number >= layout::RECORDS || end > self.records.bytes {
            return Err(ReadFailed);
        }
        read_at(disk, self.records.first_byte + number * RECORD_PITCH, into)
    }
}

/// What stands at a place of which `outcome` tells how its read went.
pub(crate) fn block<T>(outcome: Result<(), ReadFailed>, decode: impl FnOnce() -> Block<T>) -> Block<T> {
    match outcome {
        Ok(()) => decode(),
        Err(ReadFailed) => Block::Unreadable(DiskError::Medium),
    }
}

/// Reads bytes from a multiple of the block size on. What is beyond the last whole block of `into` is read by a block of its own.
///
/// # Errors
/// If the disk cannot, or the place is none.
pub fn read_at(disk: &mut dyn Blocks, byte: u64, into: &mut [u8]) -> Result<(), ReadFailed> {
    let size = disk.block_bytes() as usize;
    if size == 0 || size > PITCH || !byte.is_multiple_of(size as u64) {
        return Err(ReadFailed);
    }
    let first = byte / size as u64;
    let whole = into.len() / size;
    let end = first.checked_add(into.len().div_ceil(size) as u64);
    if end.is_none_or(|end| end > disk.blocks()) {
        return Err(ReadFailed);
    }
    let (blocks, rest) = into.split_at_mut(whole * size);
    if !blocks.is_empty() {
        disk.read(first, blocks)?;
    }
    if !rest.is_empty() {
        let mut last = [0; PITCH];
        let last = last.get_mut(..size).ok_or(ReadFailed)?;
        disk.read(first + whole as u64, last)?;
        rest.copy_from_slice(last.get(..rest.len()).ok_or(ReadFailed)?);
    }
    Ok(())
}

/// The partitions by the copy of the table whose header stands in block `at`.
fn table(disk: &mut dyn Blocks, at: u64) -> Result<Database, GptError> {
    let size = disk.block_bytes();
    let mut piece = [0; PITCH];
    let head = piece.get_mut(..size as usize).ok_or(GptError::Signature)?;
    disk.read(at, head).map_err(|ReadFailed| GptError::Signature)?;
    let header = Header::decode(head, at)?;
    let mut records = Search::new(&header, size);
    let mut kernels = Search::of(&header, size, KERNELS_TYPE, partition_bytes(0));
    let start = header.table.checked_mul(u64::from(size)).ok_or(GptError::TableChecksum)?;
    // At most TABLE_BYTES_MAX, and whole entries: the header was checked. An entry that is longer than a piece is not read.
    let bytes = header.table_bytes();
    if header.entry_bytes as usize > PITCH {
        return Err(GptError::Field("entry_bytes"));
    }
    let mut done = 0;
    while done < bytes {
        let length = usize::try_from(bytes - done).map_or(PITCH, |left| left.min(PITCH));
        let part = piece.get_mut(..length).ok_or(GptError::TableChecksum)?;
        read_at(disk, start + done, part).map_err(|ReadFailed| GptError::TableChecksum)?;
        records.entries(part);
        kernels.entries(part);
        done += length as u64;
    }
    Ok(Database { records: records.finish()?, kernels: kernels.finish() })
}
