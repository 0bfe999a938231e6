//! Names of the cluster and of nodes: short printable texts that stand in records.

use core::fmt;

use crate::block::RecordError;
use crate::sealed::{Raw, put, reserved};

/// Bytes of a name at most.
pub const NAME_MAX: usize = 32;

/// A name: 1 to [`NAME_MAX`] bytes of UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(heapless::String<NAME_MAX>);

/// Why a text is no name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NameError {
    /// Nothing in it.
    Empty,
    /// More than [`NAME_MAX`] bytes.
    TooLong,
    /// A control character in it.
    Control,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name must not be empty"),
            Self::TooLong => write!(f, "a name has at most {NAME_MAX} bytes"),
            Self::Control => f.write_str("a name has no control characters"),
        }
    }
}

impl core::error::Error for NameError {}

impl Name {
    /// Checks a text.
    ///
    /// # Errors
    /// If it is no name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.chars().any(char::is_control) {
            return Err(NameError::Control);
        }
        heapless::String::try_from(text).map(Self).map_err(|_| NameError::TooLong)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Writes the text at `at`, [`NAME_MAX`] bytes wide, and its length at `len_at`.
    pub(crate) fn put(&self, raw: &mut Raw, len_at: usize, at: usize) {
        // The capacity is 32.
        raw[len_at] = self.0.len() as u8;
        put(raw, at, self.0.as_bytes());
    }

    /// Reads what [`Name::put`] wrote.
    pub(crate) fn get(raw: &Raw, len_at: usize, at: usize) -> Result<Self, RecordError> {
        const BAD: RecordError = RecordError::Field("name");
        let len = usize::from(raw[len_at]);
        if len > NAME_MAX {
            return Err(BAD);
        }
        reserved(raw, at + len, at + NAME_MAX).map_err(|_| BAD)?;
        let text = core::str::from_utf8(&raw[at..at + len]).map_err(|_| BAD)?;
        Self::new(text).map_err(|_| BAD)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_printable() {
        assert!(Name::new("a").is_ok() && Name::new(&"x".repeat(32)).is_ok());
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::new(&"x".repeat(33)), Err(NameError::TooLong));
        assert_eq!(Name::new("a\nb"), Err(NameError::Control));
    }
}
