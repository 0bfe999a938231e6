//! Why nothing can be done with an image.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use quorate_database::gpt::GptError;
use quorate_database::{RecordError, SuperblockError};

/// Why nothing can be done with an image. The text says what to do where there is something.
#[derive(Debug)]
pub enum ImageError {
    /// The operating system refused.
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// How it failed.
        source: io::Error,
    },
    /// The file exists and is not to be overwritten.
    Exists(PathBuf),
    /// What was asked for cannot be made.
    Options(String),
    /// Neither end of the image has a valid GPT, with blocks of 512 or of 4096 bytes.
    NoPartitionTable(GptError),
    /// The GPT is valid and has no usable membership database.
    NoDatabase(GptError),
    /// The file ends before what its GPT names.
    Truncated {
        /// Bytes that the file would have to have.
        needed: u64,
        /// Bytes that it has.
        has: u64,
    },
    /// No superblock to go by.
    Superblock(SuperblockError),
    /// A record that was to be changed is not valid.
    Record {
        /// Its region's name.
        region: String,
        /// What is wrong with it.
        error: Option<RecordError>,
    },
}

impl ImageError {
    pub(crate) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, doing, source }
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, doing, source } => write!(f, "cannot {doing} {}: {source}", path.display()),
            Self::Exists(path) => {
                write!(f, "{} exists already: remove it first, or choose another name", path.display())
            }
            Self::Options(what) => f.write_str(what),
            Self::NoPartitionTable(e) => write!(f, "no disk image with a membership database: {e}"),
            Self::NoDatabase(e) => write!(f, "the disk has a partition table, but {e}"),
            Self::Truncated { needed, has } => write!(
                f,
                "the image is truncated: it has {has} bytes and would need {needed}; copy it again from where it came"
            ),
            Self::Superblock(e) => write!(f, "{e}"),
            Self::Record { region, error: Some(e) } => write!(f, "{region}: {e}"),
            Self::Record { region, error: None } => write!(f, "{region}: blank"),
        }
    }
}

impl std::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
