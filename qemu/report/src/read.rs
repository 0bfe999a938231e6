//! A trace file, line by line (harness contract, "Trace").

use std::fmt;
use std::io;
use std::path::Path;

use quorate_trace::Line;

use crate::align::align;

/// A trace's lines, in the order in which they happened on the harness's clock, as far as that can be known.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The lines. `t_us` is when they happened, not when they were received.
    pub lines: Vec<Line>,
    /// The last line was cut off (the run was killed, the disk was full): its number, from 1. It is none of `lines`.
    pub cut_off: Option<usize>,
    /// Lines that are no trace lines, as they stand in the file. They are none of `lines`.
    pub damaged: Vec<Damaged>,
}

/// A line that is no trace line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damaged {
    /// Which, from 1.
    pub number: usize,
    /// Why: a few words, 160 characters at most.
    pub why: String,
}

/// A reason may quote the line, which may have any length: no more of it than a line of a terminal or of the page.
const WHY_MAX: usize = 160;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is no trace line: {}", self.number, self.why)
    }
}

/// Why a file is no trace.
#[derive(Debug)]
pub enum ReadError {
    /// It cannot be read.
    File(io::Error),
    /// There is no line in it.
    Empty,
    /// None of its lines is a trace line: the first of them.
    NoLine(Damaged),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(f, "cannot be read: {error}"),
            Self::Empty => f.write_str("there is no line in it"),
            Self::NoLine(first) => write!(f, "no line of it is one of a trace; {first}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl Trace {
    /// Of lines as they were received.
    pub fn new(mut lines: Vec<Line>) -> Self {
        align(&mut lines);
        Self { lines, ..Self::default() }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        Self::parse(&std::fs::read(path).map_err(ReadError::File)?)
    }

    /// Reads a file's bytes. Empty lines are passed over; a last line without an end that is no trace line was cut off; any
    /// other that is none is left out, and named.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadError> {
        let (mut lines, mut cut_off, mut damaged) = (Vec::new(), None, Vec::new());
        let ended = bytes.ends_with(b"\n");
        let count = bytes.split(|b| *b == b'\n').count();
        for (i, bytes) in bytes.split(|b| *b == b'\n').enumerate() {
            let number = i + 1;
            let line = match std::str::from_utf8(bytes) {
                Ok(text) if text.trim().is_empty() => continue,
                Ok(text) => Line::parse(text).map_err(|why| why.to_string()),
                Err(_) => Err("it is not UTF-8".to_owned()),
            };
            match line {
                Ok(line) => lines.push(line),
                Err(_) if number == count && !ended && number > 1 => cut_off = Some(number),
                Err(why) => damaged.push(Damaged { number, why: why.chars().take(WHY_MAX).collect() }),
            }
        }
        match damaged.first() {
            Some(first) if lines.is_empty() => Err(ReadError::NoLine(first.clone())),
            None if lines.is_empty() => Err(ReadError::Empty),
            _ => Ok(Self { cut_off, damaged, ..Self::new(lines) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"t_us":1,"node":2,"inc":3,"nt_us":4,"seq":5,"lc":6,"ev":"note","what":"x"}"#;

    #[test]
    fn damaged_lines_are_left_out_and_named_by_their_numbers() {
        let mut bytes = format!("{LINE}\n\n{{\"t_us\":1}}\n").into_bytes();
        bytes.extend([0xff, b'\n']);
        bytes.extend(format!("{LINE}\n\"{}\"\n{LINE}\n", "x".repeat(9_000)).bytes());
        let trace = Trace::parse(&bytes).unwrap();
        assert_eq!((trace.lines.len(), trace.cut_off), (3, None));
        let told: Vec<String> = trace.damaged.iter().map(Damaged::to_string).collect();
        assert_eq!(told[0], "line 3 is no trace line: field `node` is missing or of the wrong kind");
        assert_eq!(told[1], "line 4 is no trace line: it is not UTF-8");
        assert!(told[2].starts_with("line 6 is no trace line: no JSON object: "), "{}", told[2]);
        assert!(told[2].len() < 200 && told.len() == 3, "{told:?}");
        // One is cut off as well.
        bytes.truncate(bytes.len() - 10);
        let trace = Trace::parse(&bytes).unwrap();
        assert_eq!((trace.lines.len(), trace.cut_off, trace.damaged.len()), (2, Some(7), 3));
    }

    #[test]
    fn a_last_line_that_was_cut_off_is_left_out_and_told() {
        let whole = format!("{LINE}\n{LINE}\n");
        assert_eq!(Trace::parse(whole.as_bytes()).unwrap().cut_off, None);
        let cut = &whole[..whole.len() - 10];
        let trace = Trace::parse(cut.as_bytes()).unwrap();
        assert_eq!((trace.lines.len(), trace.cut_off), (1, Some(2)));
        assert_eq!(trace.damaged, []);
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
        assert!(matches!(Trace::parse(b"name = \"waits\""), Err(ReadError::NoLine(Damaged { number: 1, .. }))));
        let cut = Trace::parse(b"{\"t_us\":1}\n{\"t_us\":1").unwrap_err();
        let first = "line 1 is no trace line: field `node` is missing or of the wrong kind";
        assert_eq!(cut.to_string(), format!("no line of it is one of a trace; {first}"));
        assert!(matches!(Trace::read(Path::new("no such file")), Err(ReadError::File(_))));
    }
}
