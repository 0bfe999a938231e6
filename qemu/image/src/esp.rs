//! The boot partition: an EFI system partition with a FAT file system, and in it the UEFI bootstrap.
//!
//! Written once, when the image is made. Nodes and their bootstraps never write it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use crate::disk::BlockSize;

/// Partition type GUID of an EFI system partition as it stands in a GPT entry (UEFI 2.10 table 5.7).
pub const ESP_TYPE: [u8; 16] =
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
/// Bytes of the partition: FAT16 with blocks of 512 and of 4096 bytes (at least 4085 clusters).
pub const ESP_BYTES: u64 = 40 << 20;
/// Folders to the bootstrap, where firmware looks on a disk that it knows nothing of (UEFI 2.10 § 3.5.1.1).
const FOLDERS: [&str; 2] = ["EFI", "BOOT"];
/// The bootstrap's name there.
const FILE: &str = "BOOTX64.EFI";

/// Makes the file system and puts the bootstrap into it. The partition must be zeros.
pub(crate) fn make(file: &File, at: u64, block: BlockSize, volume_id: u32, bootstrap: &[u8]) -> io::Result<()> {
    let mut part = Part { file, at, bytes: ESP_BYTES, position: 0 };
    let sector = u16::try_from(block.bytes()).map_err(io::Error::other)?;
    let options = fatfs::FormatVolumeOptions::new()
        .bytes_per_sector(sector)
        .bytes_per_cluster(block.bytes().max(2048))
        .fat_type(fatfs::FatType::Fat16)
        .volume_id(volume_id)
        .volume_label(*b"QUORATE    ");
    fatfs::format_volume(&mut part, options)?;
    part.position = 0;
    let volume = fatfs::FileSystem::new(&mut part, fatfs::FsOptions::new())?;
    {
        let mut folder = volume.root_dir();
        for name in FOLDERS {
            folder = folder.create_dir(name)?;
        }
        let mut app = folder.create_file(FILE)?;
        app.truncate()?;
        app.write_all(bootstrap)?;
        app.flush()?;
    }
    volume.unmount()
}

/// The bootstrap that stands in a boot partition.
pub(crate) fn bootstrap(file: &File, at: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let volume = fatfs::FileSystem::new(Part { file, at, bytes, position: 0 }, fatfs::FsOptions::new())?;
    let mut content = Vec::new();
    volume.root_dir().open_file(&[&FOLDERS[..], &[FILE]].concat().join("/"))?.read_to_end(&mut content)?;
    Ok(content)
}

/// A partition as a stream.
struct Part<'f> {
    file: &'f File,
    at: u64,
    bytes: u64,
    position: u64,
}

impl Part<'_> {
    fn fits(&self, length: usize) -> usize {
        let left = self.bytes.saturating_sub(self.position);
        usize::try_from(left).map_or(length, |left| left.min(length))
    }
}

impl Read for Part<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.fits(into.len());
        let into = into.get_mut(..length).unwrap_or_default();
        let done = self.file.read_at(into, self.at + self.position)?;
        self.position += done as u64;
        Ok(done)
    }
}

impl Write for Part<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let length = self.fits(from.len());
        let done = self.file.write_at(from.get(..length).unwrap_or_default(), self.at + self.position)?;
        self.position += done as u64;
        Ok(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Part<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
        };
        self.position = to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
