//! The disk that a run's nodes share, as the harness has it: an image file, a target of our own that serves that file, or
//! somebody else's target and a copy of what matters there.
//!
//! The harness's tools (dump, check, hashes, edits) work on a file. Behind our own targets the file is the disk. From a
//! foreign unit both partition tables and the database are copied before each look, and written back after each edit.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use quorate_base::FenceMethod;
use quorate_database::layout::PARTITION_BYTES;
use quorate_image::{BlockSize, CreateOptions, ImageError};
use quorate_iscsi::{IscsiError, Portal, Reservation, Unit};
use quorate_launch::Tools;
use quorate_launch::iscsi::{Disk, OUTSIDER, Target};

use crate::backend::Trouble;

/// How long a target may take to answer the harness.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes at the beginning of a disk that the harness looks at: the primary table, and the database where `create` puts it.
const HEAD_BYTES: u64 = (1 << 20) + PARTITION_BYTES;

/// Bytes at its end: the backup table, for blocks of up to 4096 bytes.
const TAIL_BYTES: u64 = 64 << 10;

/// Types of reservation that fence, as bits of REPORT CAPABILITIES: Write Exclusive for registrants only, or for all
/// registrants (SPC-4 table 49).
const FENCING_TYPES: u16 = 0x2000 | 0x8000;

/// The shared disk.
#[derive(Debug)]
pub(crate) struct Shared {
    // Dropped first: nobody serves the image any more when it is removed.
    target: Option<Target>,
    foreign: Option<Portal>,
    image: PathBuf,
    own: bool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.target = None;
        if self.own {
            let _ = std::fs::remove_file(&self.image);
        }
    }
}

fn broken(error: impl std::fmt::Display) -> Trouble {
    Trouble::Broken(error.to_string())
}

fn temporary_image() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("quorate-disk-{}-{count}.img", std::process::id()))
}

impl Shared {
    /// Finds or makes the disk. A database is created with `create`, in blocks of `block_size`, where there is none: in an
    /// image that is not there yet, and on a foreign unit that is empty.
    ///
    /// # Errors
    /// If the disk is not one for a cluster, or not one for this fence method.
    pub(crate) fn new(
        disk: &Disk,
        given: Option<&Path>,
        create: &CreateOptions,
        block_size: u32,
        tools: &Tools,
    ) -> Result<Self, Trouble> {
        let fence = create.fence;
        if fence == FenceMethod::Reservation && *disk == Disk::Image {
            let advice = "give --disk tgt, --disk lio or --disk iscsi://HOST:PORT/IQN/LUN";
            return Err(Trouble::Broken(format!(
                "an image that QEMU opens has no reservations to fence with: {advice}"
            )));
        }
        let image = given.map_or_else(temporary_image, Path::to_owned);
        let mut shared = Self { target: None, foreign: None, own: given.is_none(), image };
        if let (Disk::Iscsi(portal), Some(_)) = (disk, &create.bootstrap) {
            // Only its database is looked at and written, not what machines boot from.
            return Err(Trouble::Broken(format!(
                "{portal} is not ours: machines boot by UEFI from an image, tgt or lio only"
            )));
        }
        if let Disk::Iscsi(portal) = disk {
            shared.foreign = Some(portal.clone());
            shared.adopt(portal, create)?;
            shared.sees_reservations(portal, fence)?;
            return Ok(shared);
        }
        if shared.own || !shared.image.exists() {
            let block_size = BlockSize::from_bytes(block_size)
                .ok_or_else(|| Trouble::Broken(format!("no disk has blocks of {block_size} bytes")))?;
            // An own one may have been left behind by a process of the same number that was killed.
            let create = CreateOptions { block_size, overwrite: shared.own, ..create.clone() };
            quorate_image::create(&shared.image, &create).map_err(broken)?;
        }
        shared.target = Target::start(disk, &shared.image, block_size, &tools.programs)?;
        if let Some(target) = &shared.target {
            shared.sees_reservations(&target.portal(), fence)?;
        }
        Ok(shared)
    }

    /// The file: the disk itself, or the newest copy.
    pub(crate) fn image(&self) -> &Path {
        &self.image
    }

    /// Where nodes find the disk, if not in the file.
    pub(crate) fn portal(&self) -> Option<Portal> {
        self.foreign.clone().or_else(|| self.target.as_ref().map(Target::portal))
    }

    /// Makes the file show what is on the disk now.
    ///
    /// # Errors
    /// If a foreign target does not answer.
    pub(crate) fn refresh(&self) -> Result<(), Trouble> {
        match &self.foreign {
            Some(portal) => open(portal).and_then(|mut unit| pull(&mut unit, &self.image)).map_err(broken),
            None => Ok(()),
        }
    }

    /// Makes the disk what the file is, after an edit.
    ///
    /// # Errors
    /// If a foreign target does not answer.
    pub(crate) fn publish(&self) -> Result<(), Trouble> {
        match &self.foreign {
            Some(portal) => open(portal).and_then(|mut unit| push(&mut unit, &self.image)).map_err(broken),
            None => Ok(()),
        }
    }

    /// Lets our own target lose power for a time.
    ///
    /// # Errors
    /// If it is not ours, or does not come back.
    pub(crate) fn restart(&mut self, off: Duration) -> Result<(), Trouble> {
        match &mut self.target {
            Some(target) => Ok(target.restart(off)?),
            None => Err(Trouble::Broken("there is no target of ours to restart".to_owned())),
        }
    }

    /// The keys that are registered.
    ///
    /// # Errors
    /// If the disk has no persistent reservations, or does not answer.
    pub(crate) fn keys(&self) -> Result<Vec<u64>, Trouble> {
        let portal = self.portal().ok_or_else(|| Trouble::Broken("an image has no reservations".to_owned()))?;
        open(&portal).and_then(|mut unit| Ok(unit.keys()?)).map_err(broken)
    }

    /// A foreign unit's database is used; one is made where the unit is empty; anything else is left alone.
    fn adopt(&self, portal: &Portal, create: &CreateOptions) -> Result<(), Trouble> {
        let mut unit = open(portal).map_err(broken)?;
        if unit.bytes() < HEAD_BYTES + (1 << 20) {
            return Err(Trouble::Broken(format!("{portal} has {} bytes: too small for a database", unit.bytes())));
        }
        pull(&mut unit, &self.image).map_err(broken)?;
        let error = match quorate_image::dump(&self.image) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if !is_empty(&self.image).map_err(broken)? {
            return Err(Trouble::Broken(format!(
                "{portal} is not empty and holds no membership database ({error}): left alone"
            )));
        }
        let size = BlockSize::from_bytes(unit.block_size());
        let block_size =
            size.ok_or_else(|| Trouble::Broken(format!("{portal} has blocks of {} bytes", unit.block_size())))?;
        // Whole MiB, so that the backup table stands where the unit ends only if that is one: else behind it nothing is.
        let bytes = unit.bytes();
        let create = CreateOptions { block_size, bytes, overwrite: true, ..create.clone() };
        quorate_image::create(&self.image, &create).map_err(broken)?;
        push(&mut unit, &self.image).map_err(broken)
    }

    fn sees_reservations(&self, portal: &Portal, fence: FenceMethod) -> Result<(), Trouble> {
        if fence == FenceMethod::Lease {
            return Ok(());
        }
        let mut unit = open(portal).map_err(broken)?;
        let lacks = |why: String| {
            Trouble::Broken(format!("{portal} cannot fence by reservation: {why}; use fence = \"lease\""))
        };
        let abilities = unit.abilities().map_err(|error| lacks(error.to_string()))?;
        if abilities.types & FENCING_TYPES == 0 {
            return Err(lacks(format!("it has none of the types that are needed (mask {:04x})", abilities.types)));
        }
        match unit.reservation().map_err(|error| lacks(error.to_string()))? {
            Some(Reservation { kind, key }) if kind != 5 && kind != 7 => {
                Err(lacks(format!("somebody else holds it, with a reservation of type {kind} and key {key:016x}")))
            }
            _ => Ok(()),
        }
    }
}

/// What goes wrong on the way between a unit and its copy.
#[derive(Debug)]
enum CopyError {
    Iscsi(IscsiError),
    File(std::io::Error),
    Image(ImageError),
}

impl std::fmt::Display for CopyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Iscsi(error) => error.fmt(f),
            Self::File(error) => write!(f, "the copy of the shared disk: {error}"),
            Self::Image(error) => error.fmt(f),
        }
    }
}

impl From<IscsiError> for CopyError {
    fn from(error: IscsiError) -> Self {
        Self::Iscsi(error)
    }
}

impl From<std::io::Error> for CopyError {
    fn from(error: std::io::Error) -> Self {
        Self::File(error)
    }
}

impl From<ImageError> for CopyError {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

fn open(portal: &Portal) -> Result<Unit, CopyError> {
    Ok(Unit::open(portal, OUTSIDER, PATIENCE)?)
}

/// The parts of a disk of that size which are copied: place and length.
fn parts(bytes: u64) -> [(u64, u64); 2] {
    let head = HEAD_BYTES.min(bytes);
    let tail = TAIL_BYTES.min(bytes - head);
    [(0, head), (bytes - tail, tail)]
}

fn pull(unit: &mut Unit, image: &Path) -> Result<(), CopyError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(image)?;
    file.set_len(unit.bytes())?;
    for (at, length) in parts(unit.bytes()) {
        let mut bytes = vec![0; length as usize];
        unit.read(at, &mut bytes)?;
        file.write_all_at(&bytes, at)?;
    }
    Ok(())
}

fn push(unit: &mut Unit, image: &Path) -> Result<(), CopyError> {
    let file = File::open(image)?;
    for (at, length) in parts(unit.bytes()) {
        let (mut bytes, mut there) = (vec![0; length as usize], vec![0; length as usize]);
        file.read_exact_at(&mut bytes, at)?;
        unit.read(at, &mut there)?;
        // Only what differs, a record at a time: a node may be writing beside it.
        for (number, (new, old)) in bytes.chunks(4096).zip(there.chunks(4096)).enumerate() {
            if new != old {
                unit.write(at + number as u64 * 4096, new)?;
            }
        }
    }
    Ok(())
}

fn is_empty(image: &Path) -> Result<bool, CopyError> {
    let file = File::open(image)?;
    let size = file.metadata()?.len();
    for (at, length) in parts(size) {
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, at)?;
        if bytes.iter().any(|b| *b != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_disk_do_not_meet_and_lie_within_it() {
        for bytes in [HEAD_BYTES + 4096, HEAD_BYTES + TAIL_BYTES, 1 << 30] {
            let [(first, head), (second, tail)] = parts(bytes);
            assert!(first == 0 && head <= second && second + tail == bytes, "{bytes}");
        }
    }
}
