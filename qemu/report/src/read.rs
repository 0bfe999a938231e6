//! A trace file, line by line (harness contract, "Trace").

use std::fmt;
use std::io;
use std::path::Path;

use quorate_trace::{Line, LineError};

use crate::align::align;

/// A trace's lines, in the order in which they happened on the harness's clock, as far as that can be known.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The lines. `t_us` is when they happened, not when they were received.
    pub lines: Vec<Line>,
    /// The last line was cut off (the run was killed, the disk was full): its number, from 1. It is none of `lines`.
    pub cut_off: Option<usize>,
}

/// Why a file is no trace.
#[derive(Debug)]
pub enum ReadError {
    /// It cannot be read.
    File(io::Error),
    /// There is no line in it.
    Empty,
    /// A line is no trace line.
    Line {
        /// Which, from 1.
        number: usize,
        /// Why.
        why: LineError,
    },
    /// A line is no UTF-8.
    Text {
        /// Which, from 1.
        number: usize,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(f, "cannot be read: {error}"),
            Self::Empty => f.write_str("there is no line in it"),
            Self::Line { number, why } => write!(f, "line {number} is no trace line: {why}"),
            Self::Text { number } => write!(f, "line {number} is no trace line: it is not UTF-8"),
        }
    }
}

impl std::error::Error for ReadError {}

impl Trace {
    /// Of lines as they were received.
    pub fn new(mut lines: Vec<Line>) -> Self {
        align(&mut lines);
        Self { lines, cut_off: None }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        Self::parse(&std::fs::read(path).map_err(ReadError::File)?)
    }

    /// Reads a file's bytes. Empty lines are passed over; a last line without an end that is no trace line was cut off.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadError> {
        let (mut lines, mut cut_off) = (Vec::new(), None);
        let ended = bytes.ends_with(b"\n");
        let count = bytes.split(|b| *b == b'\n').count();
        for (i, bytes) in bytes.split(|b| *b == b'\n').enumerate() {
            let number = i + 1;
            let line = match std::str::from_utf8(bytes) {
                Ok(text) if text.trim().is_empty() => continue,
                Ok(text) => Line::parse(text).map_err(|why| ReadError::Line { number, why }),
                Err(_) => Err(ReadError::Text { number }),
            };
            match line {
                Ok(line) => lines.push(line),
                Err(_) if number == count && !ended && number > 1 => cut_off = Some(number),
                Err(error) => return Err(error),
            }
        }
        if lines.is_empty() { Err(ReadError::Empty) } else { Ok(Self { cut_off, ..Self::new(lines) }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"t_us":1,"node":2,"inc":3,"nt_us":4,"seq":5,"lc":6,"ev":"note","what":"x"}"#;

    #[test]
    fn a_damaged_line_is_named_by_its_number() {
        let text = format!("{LINE}\n\n{{\"t_us\":1}}\n{LINE}\n");
        let error = Trace::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "line 3 is no trace line: field `node` is missing or of the wrong kind");
        let mut bytes = format!("{LINE}\n").into_bytes();
        bytes.extend([0xff, b'\n']);
        assert!(matches!(Trace::parse(&bytes), Err(ReadError::Text { number: 2 })));
    }

    #[test]
    fn a_last_line_that_was_cut_off_is_left_out_and_told() {
        let whole = format!("{LINE}\n{LINE}\n");
        assert_eq!(Trace::parse(whole.as_bytes()).unwrap().cut_off, None);
        let cut = &whole[..whole.len() - 10];
        let trace = Trace::parse(cut.as_bytes()).unwrap();
        assert_eq!((trace.lines.len(), trace.cut_off), (1, Some(2)));
        // In the middle of a character.
        let mut bytes = format!("{LINE}\n").into_bytes();
        bytes.extend("{\"what\":\"µ".as_bytes());
        bytes.pop();
        assert_eq!(Trace::parse(&bytes).unwrap().cut_off, Some(2));
        // Whole, only its end is missing.
        let trace = Trace::parse(whole.trim_end().as_bytes()).unwrap();
        assert_eq!((trace.lines.len(), trace.cut_off), (2, None));
    }

    #[test]
    fn what_is_no_trace_at_all_is_refused() {
        assert!(matches!(Trace::parse(b""), Err(ReadError::Empty)));
        assert!(matches!(Trace::parse(b"\n \n"), Err(ReadError::Empty)));
        assert!(matches!(Trace::parse(b"name = \"waits\""), Err(ReadError::Line { number: 1, .. })));
        assert!(matches!(Trace::read(Path::new("no such file")), Err(ReadError::File(_))));
    }
}
