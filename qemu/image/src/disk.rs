//! An image as a disk: its block size, its partition table, and the records of its membership database.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use quorate_base::capacity::{RECORD_BYTES, RECORD_PITCH};
use quorate_database::gpt::{ENTRY_BYTES, Found, GptError, HEADER_BYTES, Header, Search, table_checksum};
use quorate_database::kernel_slot::{KERNELS_TYPE, partition_bytes};
use quorate_database::layout::PARTITION_TYPE;
use quorate_database::sealed::Raw;

use crate::error::ImageError;
use crate::esp::{self, ESP_TYPE};

/// Bytes of a logical block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BlockSize {
    /// 512.
    #[default]
    B512,
    /// 4096.
    B4096,
}

impl BlockSize {
    /// Both.
    pub const ALL: [Self; 2] = [Self::B512, Self::B4096];

    /// In bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }

    /// From bytes.
    pub const fn from_bytes(bytes: u32) -> Option<Self> {
        match bytes {
            512 => Some(Self::B512),
            4096 => Some(Self::B4096),
            _ => None,
        }
    }
}

/// Which of the two copies of the partition table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// At the start of the disk.
    Primary,
    /// At its end.
    Backup,
}

/// One copy of the partition table: its header and its entries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableCopy {
    /// The header.
    pub header: Header,
    /// All entries.
    pub entries: Vec<u8>,
}

/// The partition table as it was found.
#[derive(Clone, Debug)]
pub struct PartitionTable {
    /// Block size under which it makes sense.
    pub block: BlockSize,
    /// The copy at the start.
    pub primary: Result<TableCopy, GptError>,
    /// The copy at the end.
    pub backup: Result<TableCopy, GptError>,
    /// Where the database is.
    pub found: Result<Found, GptError>,
}

/// An open image with a membership database.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    file: File,
    /// Bytes of the file.
    pub bytes: u64,
    /// Its partition table.
    pub table: PartitionTable,
    /// Where the database is.
    pub database: Found,
}

impl Image {
    /// Opens an image and finds its database.
    ///
    /// # Errors
    /// If it cannot be opened, has no partition table or no database, or ends before the database does.
    pub fn open(path: &Path, writable: bool) -> Result<Self, ImageError> {
        let io = || ImageError::io(path, "open");
        let file = OpenOptions::new().read(true).write(writable).open(path).map_err(io())?;
        let bytes = file.metadata().map_err(io())?.len();
        let table = PartitionTable::read(&file, bytes).map_err(ImageError::NoPartitionTable)?;
        let database = match table.found {
            Ok(found) => found,
            Err(e) => return Err(ImageError::NoDatabase(e)),
        };
        match database.first_byte.checked_add(database.bytes) {
            Some(needed) if needed <= bytes => {}
            needed => return Err(ImageError::Truncated { needed: needed.unwrap_or(u64::MAX), has: bytes }),
        }
        Ok(Self { path: path.to_owned(), file, bytes, table, database })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Byte offset of a record in the file.
    pub const fn offset(&self, record: u64) -> u64 {
        self.database.first_byte + record * RECORD_PITCH
    }

    /// A record's bytes.
    ///
    /// # Errors
    /// If the file cannot be read there.
    pub fn read(&self, record: u64) -> Result<Raw, ImageError> {
        let mut raw = [0; RECORD_BYTES];
        self.file.read_exact_at(&mut raw, self.offset(record)).map_err(ImageError::io(&self.path, "read"))?;
        Ok(raw)
    }

    /// All `RECORD_PITCH` bytes of a record's place.
    ///
    /// # Errors
    /// If the file cannot be read there.
    pub fn read_pitch(&self, record: u64) -> Result<[u8; RECORD_PITCH as usize], ImageError> {
        let mut pitch = [0; RECORD_PITCH as usize];
        self.file.read_exact_at(&mut pitch, self.offset(record)).map_err(ImageError::io(&self.path, "read"))?;
        Ok(pitch)
    }

    /// Writes a record and zeros to the end of its pitch.
    ///
    /// # Errors
    /// If the file cannot be written there.
    pub fn write(&self, record: u64, raw: &Raw) -> Result<(), ImageError> {
        let mut pitch = [0; RECORD_PITCH as usize];
        pitch[..RECORD_BYTES].copy_from_slice(raw);
        self.file.write_all_at(&pitch, self.offset(record)).map_err(ImageError::io(&self.path, "write"))
    }

    /// The kernels' partition, if there is one, whole inside the file.
    pub fn kernels(&self) -> Option<Found> {
        self.partition(KERNELS_TYPE, partition_bytes(0))
    }

    /// The UEFI bootstrap in the boot partition; `None` if the image has no such partition.
    ///
    /// # Errors
    /// If the partition has no file system with a bootstrap in it.
    pub fn bootstrap(&self) -> Option<Result<Vec<u8>, ImageError>> {
        let found = self.partition(ESP_TYPE, 1)?;
        let content = esp::bootstrap(&self.file, found.first_byte, found.bytes);
        Some(content.map_err(ImageError::io(&self.path, "read the boot partition of")))
    }

    fn partition(&self, kind: [u8; 16], bytes_min: u64) -> Option<Found> {
        let copy = self.table.primary.as_ref().or(self.table.backup.as_ref()).ok()?;
        let mut search = Search::of(&copy.header, self.table.block.bytes(), kind, bytes_min);
        search.entries(&copy.entries);
        let found = search.finish().ok()?;
        found.first_byte.checked_add(found.bytes).filter(|end| *end <= self.bytes).map(|_| found)
    }

    /// Bytes from anywhere in the file.
    ///
    /// # Errors
    /// If the file cannot be read there.
    pub(crate) fn read_bytes(&self, at: u64, length: usize) -> Result<Vec<u8>, ImageError> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at).map_err(ImageError::io(&self.path, "read"))?;
        Ok(bytes)
    }

    /// Writes bytes anywhere in the file.
    ///
    /// # Errors
    /// If the file cannot be written there.
    pub(crate) fn write_bytes(&self, at: u64, bytes: &[u8]) -> Result<(), ImageError> {
        self.file.write_all_at(bytes, at).map_err(ImageError::io(&self.path, "write"))
    }

    /// Rewrites one copy of the partition table from the other.
    ///
    /// # Errors
    /// If the other is damaged too, the copy's place is outside of the file, or the file cannot be written.
    pub fn restore_table(&mut self, side: Side) -> Result<(), ImageError> {
        let from = match side {
            Side::Primary => &self.table.backup,
            Side::Backup => &self.table.primary,
        };
        let from = from.as_ref().map_err(|e| ImageError::NoPartitionTable(*e))?;
        let copy = from.counterpart(self.table.block);
        let end = (copy.header.at.max(copy.header.table)).saturating_add(1);
        let needed = end.saturating_mul(u64::from(self.table.block.bytes()));
        if needed > self.bytes {
            return Err(ImageError::Truncated { needed, has: self.bytes });
        }
        copy.write(&self.file, self.table.block).map_err(ImageError::io(&self.path, "write"))?;
        self.table = PartitionTable::read(&self.file, self.bytes).map_err(ImageError::NoPartitionTable)?;
        Ok(())
    }

    /// Gives the database's partition another length, in both copies of the table that are valid.
    pub(crate) fn set_database_blocks(&self, blocks: u64) -> Result<(), ImageError> {
        let block = self.table.block;
        for copy in [&self.table.primary, &self.table.backup].into_iter().flatten() {
            let mut copy = copy.clone();
            let stride = copy.header.entry_bytes as usize;
            let entries = copy.entries.chunks_exact_mut(stride.max(ENTRY_BYTES));
            for entry in entries.filter(|entry| entry.starts_with(&PARTITION_TYPE)) {
                // UEFI 2.10 table 5.6: the first and the last block, inclusive.
                let Some(first) = entry.get(32..).and_then(|rest| rest.first_chunk()) else { continue };
                let last = u64::from_le_bytes(*first) + blocks - 1;
                if let Some(place) = entry.get_mut(40..48) {
                    place.copy_from_slice(&last.to_le_bytes());
                }
            }
            copy.header.table_crc = table_checksum(&copy.entries);
            copy.write(&self.file, block).map_err(ImageError::io(&self.path, "write"))?;
        }
        self.sync()
    }

    /// Makes everything that was written durable.
    ///
    /// # Errors
    /// If the operating system cannot.
    pub fn sync(&self) -> Result<(), ImageError> {
        self.file.sync_all().map_err(ImageError::io(&self.path, "sync"))
    }
}

impl TableCopy {
    /// A table of `entries` (a multiple of the block size) on a disk of `blocks` blocks, primary side.
    pub(crate) fn new(block: BlockSize, blocks: u64, disk_guid: [u8; 16], entries: Vec<u8>) -> Self {
        let len = entries.len() as u64 / u64::from(block.bytes());
        let header = Header {
            at: 1,
            other: blocks - 1,
            first_usable: 2 + len,
            last_usable: blocks - 2 - len,
            disk_guid,
            table: 2,
            entries: (entries.len() / quorate_database::gpt::ENTRY_BYTES) as u32,
            entry_bytes: quorate_database::gpt::ENTRY_BYTES as u32,
            table_crc: table_checksum(&entries),
        };
        Self { header, entries }
    }

    /// The same table for the other end of the disk.
    pub(crate) fn counterpart(&self, block: BlockSize) -> Self {
        let header = &self.header;
        let len = (self.entries.len() as u64).div_ceil(u64::from(block.bytes()));
        let table = if header.other == 1 { 2 } else { header.other.saturating_sub(len) };
        Self { header: Header { at: header.other, other: header.at, table, ..*header }, entries: self.entries.clone() }
    }

    pub(crate) fn write(&self, file: &File, block: BlockSize) -> std::io::Result<()> {
        let size = u64::from(block.bytes());
        let mut first = vec![0; block.bytes() as usize];
        for (to, from) in first.iter_mut().zip(self.header.encode()) {
            *to = from;
        }
        // The entries first: a header whose entries are not there yet is seen by their checksum.
        file.write_all_at(&self.entries, self.header.table.saturating_mul(size))?;
        file.write_all_at(&first, self.header.at.saturating_mul(size))
    }

    fn read(file: &File, block: BlockSize, at: u64) -> Result<Self, GptError> {
        let size = u64::from(block.bytes());
        let mut first = vec![0; block.bytes() as usize];
        let start = at.checked_mul(size).ok_or(GptError::Signature)?;
        file.read_exact_at(&mut first, start).map_err(|_| GptError::Signature)?;
        let header = Header::decode(&first, at)?;
        let start = header.table.checked_mul(size).ok_or(GptError::TableChecksum)?;
        // At most TABLE_BYTES_MAX: the header was checked.
        let len = usize::try_from(header.table_bytes()).map_err(|_| GptError::TableChecksum)?;
        let mut entries = vec![0; len];
        file.read_exact_at(&mut entries, start).map_err(|_| GptError::TableChecksum)?;
        if table_checksum(&entries) != header.table_crc {
            return Err(GptError::TableChecksum);
        }
        Ok(Self { header, entries })
    }

    fn search(&self, block: BlockSize) -> Result<Found, GptError> {
        let mut search = Search::new(&self.header, block.bytes());
        search.entries(&self.entries);
        search.finish()
    }
}

impl PartitionTable {
    /// Looks for a table with blocks of 512, then of 4096 bytes.
    fn read(file: &File, bytes: u64) -> Result<Self, GptError> {
        let mut why = GptError::Signature;
        for block in BlockSize::ALL {
            let size = u64::from(block.bytes());
            let primary = TableCopy::read(file, block, 1);
            let last = (bytes / size).saturating_sub(1);
            let backup_at = primary.as_ref().map_or(last, |p| p.header.other);
            let backup = TableCopy::read(file, block, backup_at);
            let found = match primary.as_ref().or(backup.as_ref()) {
                Ok(copy) => copy.search(block),
                Err(_) => {
                    why = primary.err().filter(|e| *e != GptError::Signature).unwrap_or(why);
                    continue;
                }
            };
            return Ok(Self { block, primary, backup, found });
        }
        Err(why)
    }
}

/// The first 512 bytes of a disk with a GPT: one partition of type EEh over all of it (UEFI 2.10 § 5.2.3).
pub(crate) fn protective_mbr(blocks: u64) -> [u8; 512] {
    let mut mbr = [0; 512];
    let len = u32::try_from(blocks - 1).unwrap_or(u32::MAX);
    mbr[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    mbr[454..458].copy_from_slice(&1u32.to_le_bytes());
    mbr[458..462].copy_from_slice(&len.to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}

const _: () = assert!(HEADER_BYTES <= 512);
