//! A node's log: defmt frames, decoded with the node image's own table.
//!
//! The bytes come from a guest that may be reset in mid-frame. rzcobs frames recover at the next zero; what cannot be
//! decoded is counted.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use defmt_decoder::{DecodeError, Location, StreamDecoder, Table};

/// Why a node image's log cannot be decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogError {
    /// No ELF file, or its table of log texts is damaged.
    BadImage(String),
    /// The image was built without a log.
    NoTable,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadImage(why) => write!(f, "the node image's log table cannot be read: {why}"),
            Self::NoTable => f.write_str("the node image has no log table"),
        }
    }
}

impl std::error::Error for LogError {}

/// One line of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogLine {
    /// The node's own time, as its image formats it; empty if it has none.
    pub time: String,
    /// `trace`, `debug`, `info`, `warn`, `error`, or empty.
    pub level: &'static str,
    /// What.
    pub text: String,
    /// `file:line`, empty if the image does not say.
    pub place: String,
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12} {:5} {}", self.time, self.level, self.text)?;
        if !self.place.is_empty() {
            write!(f, "  ({})", self.place)?;
        }
        Ok(())
    }
}

/// A node image's log table. Shared by all nodes that run the image.
pub struct LogTable {
    table: Table,
    /// `file:line` of each log statement.
    places: BTreeMap<u64, String>,
}

impl fmt::Debug for LogTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogTable").field("places", &self.places.len()).finish_non_exhaustive()
    }
}

impl LogTable {
    /// From the bytes of the node image's ELF file. Places are told relative to `root`, the folder it was built in.
    ///
    /// # Errors
    /// If the file is damaged or has no log table.
    pub fn new(elf: &[u8], root: &Path) -> Result<Self, LogError> {
        let bad = |e: &dyn fmt::Display| LogError::BadImage(e.to_string());
        let table = Table::parse(elf).map_err(|e| bad(&e))?.ok_or(LogError::NoTable)?;
        // Without debug information there are no places; the texts are still good.
        let locations = table.get_locations(elf).unwrap_or_default();
        let places = locations.into_iter().map(|(index, at)| (index, place(&at, root))).collect();
        Ok(Self { table, places })
    }

    /// A decoder for one node's log port.
    pub fn stream(&self) -> LogStream<'_> {
        LogStream { table: self, decoder: self.table.new_stream_decoder(), malformed: 0 }
    }
}

/// Decodes one log port. Make a new one for each connection.
pub struct LogStream<'t> {
    table: &'t LogTable,
    decoder: Box<dyn StreamDecoder + Send + Sync + 't>,
    malformed: u64,
}

impl fmt::Debug for LogStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStream").field("malformed", &self.malformed).finish_non_exhaustive()
    }
}

impl LogStream<'_> {
    /// Takes bytes as they came and hands out the lines that they complete.
    pub fn push(&mut self, bytes: &[u8], mut out: impl FnMut(LogLine)) {
        self.decoder.received(bytes);
        loop {
            // The decoder trusts its input in places: damaged arguments must cost a line, not the run.
            let step = catch_unwind(AssertUnwindSafe(|| self.step()));
            match step {
                Ok(Step::Line(line)) => out(line),
                Ok(Step::Malformed) => self.malformed += 1,
                Ok(Step::Empty) => return,
                Err(_) => {
                    self.malformed += 1;
                    self.decoder = self.table.table.new_stream_decoder();
                    return;
                }
            }
        }
    }

    /// How many frames could not be decoded.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    fn step(&mut self) -> Step {
        match self.decoder.decode() {
            Ok(frame) => Step::Line(LogLine {
                time: frame.display_timestamp().map(|t| t.to_string()).unwrap_or_default(),
                level: frame.level().map_or("", |l| l.as_str()),
                text: frame.display_message().to_string(),
                place: self.table.places.get(&frame.index()).cloned().unwrap_or_default(),
            }),
            Err(DecodeError::Malformed) => Step::Malformed,
            Err(DecodeError::UnexpectedEof) => Step::Empty,
        }
    }
}

enum Step {
    Line(LogLine),
    Malformed,
    Empty,
}

fn place(location: &Location, root: &Path) -> String {
    let file = location.file.strip_prefix(root).unwrap_or(&location.file);
    format!("{}:{}", file.display(), location.line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        assert!(matches!(LogTable::new(b"not an ELF file", Path::new("/")), Err(LogError::BadImage(_))));
        let own = std::fs::read(std::env::current_exe().expect("path")).expect("this test's own file");
        assert_eq!(LogTable::new(&own, Path::new("/")).err(), Some(LogError::NoTable));
    }
}
