//! The kernel command line: `key=value` words separated by blanks.
//!
//! A word is a key of lower-case letters, digits, hyphens and underscores, an equals sign and a value that is not empty. Anything else is refused by name, so
//! that a typing error in a cluster's start script never starts a node under wrong settings.

use core::fmt;
use heapless::{String, Vec};

/// Longest command line, in bytes. QEMU allows more; ours are far below 200 bytes. A longer one is refused, never cut.
pub const CMDLINE_BYTES_MAX: usize = 1024;

/// Longest part of an offending word that an error repeats, in bytes.
const WORD_SHOWN_BYTES_MAX: usize = 64;

/// Keys that make a list: each word adds to it.
const REPEATABLE: [&str; 1] = ["level"];

/// A command line all of whose words have the form `key=value`, with no key twice but `level`, which makes a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandLine {
    text: String<CMDLINE_BYTES_MAX>,
}

/// One word of a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<'a> {
    /// What is set: lower-case letters, digits, hyphens and underscores.
    pub key: &'a str,
    /// To what: not empty, free of blanks.
    pub value: &'a str,
}

/// Why a command line is refused. The word is shown up to its 64th byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLineError {
    /// More than [`CMDLINE_BYTES_MAX`] bytes.
    TooLong,
    /// Not UTF-8, or a control character in it.
    NotText,
    /// A word that is not `key=value`.
    NotKeyValue(String<WORD_SHOWN_BYTES_MAX>),
    /// A key that appears a second time.
    Twice(String<WORD_SHOWN_BYTES_MAX>),
    /// A key nobody knows.
    UnknownKey(String<WORD_SHOWN_BYTES_MAX>),
    /// A value that is no number of the expected size.
    NotANumber(String<WORD_SHOWN_BYTES_MAX>),
}

impl CommandLine {
    /// Checks a boot loader's bytes (without a terminating zero) and keeps a copy.
    pub fn parse(bytes: &[u8]) -> Result<Self, CommandLineError> {
        if bytes.len() > CMDLINE_BYTES_MAX {
            return Err(CommandLineError::TooLong);
        }
        let text = core::str::from_utf8(bytes).map_err(|_| CommandLineError::NotText)?;
        if text.chars().any(char::is_control) {
            return Err(CommandLineError::NotText);
        }
        for (position, word) in text.split_whitespace().enumerate() {
            let key = split(word).ok_or_else(|| CommandLineError::NotKeyValue(shown(word)))?.key;
            let before = text.split_whitespace().take(position).filter_map(split);
            if !REPEATABLE.contains(&key) && before.into_iter().any(|earlier| earlier.key == key) {
                return Err(CommandLineError::Twice(shown(word)));
            }
        }
        let text = String::try_from(text).map_err(|_| CommandLineError::TooLong)?;
        Ok(Self { text })
    }

    /// The line as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// All words in the order they were given.
    pub fn words(&self) -> Words<'_> {
        Words { rest: self.text.split_whitespace() }
    }

    /// The value of `key`, if it is set.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.words().find(|word| word.key == key).map(|word| word.value)
    }

    /// The value of `key` as a decimal number, if it is set. Fails when it is not a number that fits.
    pub fn number<T: core::str::FromStr>(&self, key: &str) -> Result<Option<T>, CommandLineError> {
        let Some(word) = self.words().find(|word| word.key == key) else {
            return Ok(None);
        };
        let digits_only = word.value.bytes().all(|byte| byte.is_ascii_digit());
        match word.value.parse() {
            Ok(number) if digits_only => Ok(Some(number)),
            _ => Err(CommandLineError::NotANumber(shown_word(word))),
        }
    }

    /// Refuses the line if it has a key that is not in `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), CommandLineError> {
        match self.words().find(|word| !known.contains(&word.key)) {
            Some(word) => Err(CommandLineError::UnknownKey(shown_word(word))),
            None => Ok(()),
        }
    }
}

/// The words of a checked command line.
#[derive(Debug, Clone)]
pub struct Words<'a> {
    rest: core::str::SplitWhitespace<'a>,
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        // Every word was checked by `parse`, so nothing is skipped here.
        self.rest.by_ref().find_map(split)
    }
}

fn split(word: &str) -> Option<Word<'_>> {
    let (key, value) = word.split_once('=')?;
    let key_is_good =
        key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'));
    (!key.is_empty() && key_is_good && !value.is_empty()).then_some(Word { key, value })
}

/// As much of `word` as an error can carry, cut at a character boundary.
fn shown(word: &str) -> String<WORD_SHOWN_BYTES_MAX> {
    let mut bytes = Vec::new();
    let mut encoded = [0; 4];
    for character in word.chars() {
        if bytes.extend_from_slice(character.encode_utf8(&mut encoded).as_bytes()).is_err() {
            break;
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

fn shown_word(word: Word<'_>) -> String<WORD_SHOWN_BYTES_MAX> {
    let mut text = shown(word.key);
    for part in ["=", word.value] {
        for character in part.chars() {
            if text.push(character).is_err() {
                return text;
            }
        }
    }
    text
}

impl fmt::Display for CommandLineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "command line longer than {CMDLINE_BYTES_MAX} bytes"),
            Self::NotText => f.write_str("command line is not text"),
            Self::NotKeyValue(word) => write!(f, "command line: '{word}' is not key=value"),
            Self::Twice(word) => write!(f, "command line: '{word}' sets its key a second time"),
            Self::UnknownKey(word) => write!(f, "command line: '{word}' sets an unknown key"),
            Self::NotANumber(word) => write!(f, "command line: '{word}' needs a number that fits"),
        }
    }
}

impl core::error::Error for CommandLineError {}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::ToString;

    fn line(text: &str) -> CommandLine {
        CommandLine::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn words_come_in_order() {
        let line = line("  node=3 cluster=abc\u{e9}  x-1=a=b ");
        let words: std::vec::Vec<_> = line.words().map(|w| (w.key, w.value)).collect();
        assert_eq!(words, [("node", "3"), ("cluster", "abc\u{e9}"), ("x-1", "a=b")]);
        assert_eq!(line.number::<u8>("node"), Ok(Some(3)));
        assert_eq!(line.number::<u8>("missing"), Ok(None));
        assert_eq!(line.value("cluster"), Some("abc\u{e9}"));
    }

    #[test]
    fn empty_line_has_no_words() {
        assert_eq!(line("").words().count(), 0);
        assert_eq!(line("   ").words().count(), 0);
    }

    #[test]
    fn bad_words_are_named() {
        for bad in ["node", "=3", "node=", "Node=3", "no.de=3"] {
            let text = std::format!("a=1 {bad}");
            let error = CommandLine::parse(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
        let error = CommandLine::parse(b"node=1 node=2").unwrap_err();
        assert!(matches!(&error, CommandLineError::Twice(word) if word == "node=2"));
        assert_eq!(line("level=1 level=2").words().count(), 2, "levels make a list");
        assert!(line("node=1 foo=2").only(&["node"]).unwrap_err().to_string().contains("foo=2"));
        assert_eq!(line("node=1").only(&["node", "x"]), Ok(()));
    }

    #[test]
    fn numbers_that_do_not_fit_are_named() {
        for bad in ["256", "-1", "+1", "0x1", "1.0"] {
            let text = std::format!("node={bad}");
            assert!(line(&text).number::<u8>("node").unwrap_err().to_string().contains(&text));
        }
    }

    #[test]
    fn length_and_bytes_are_checked() {
        let long = [b'a'; CMDLINE_BYTES_MAX + 1];
        assert_eq!(CommandLine::parse(&long), Err(CommandLineError::TooLong));
        assert_eq!(CommandLine::parse(&[0xff, 0xfe]), Err(CommandLineError::NotText));
        assert_eq!(CommandLine::parse(b"a=1\0b=2"), Err(CommandLineError::NotText));
        let word = "\u{e9}".repeat(100);
        assert!(matches!(CommandLine::parse(word.as_bytes()), Err(CommandLineError::NotKeyValue(w)) if w.len() == 64));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_or_are_all_words(bytes: std::vec::Vec<u8>) {
            if let Ok(line) = CommandLine::parse(&bytes) {
                assert_eq!(line.words().count(), line.as_str().split_whitespace().count());
            }
        }

        #[test]
        fn good_words_come_back(key in "[a-z0-9-]{1,20}", value in "[!-~]{1,40}") {
            let line = line(&std::format!("  {key}={value} "));
            assert_eq!(line.value(&key), Some(&*value));
        }
    }
}
