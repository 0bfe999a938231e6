//! What the command prints. A reader that has seen enough (`… | head`) closes its end: what is printed then goes nowhere, and the
//! command goes on to its end and its usual exit status. The standard macros would panic.
//!
//! The macros here have their names and stand before all other modules, so that none prints otherwise.

/// As the standard one, but for a reader that is gone.
macro_rules! print {
    ($($arg:tt)*) => { $crate::out::put(std::io::stdout().lock(), format_args!($($arg)*)) };
}

/// As the standard one, but for a reader that is gone.
macro_rules! println {
    () => { $crate::out::put(std::io::stdout().lock(), format_args!("\n")) };
    ($($arg:tt)*) => { $crate::out::put(std::io::stdout().lock(), format_args!("{}\n", format_args!($($arg)*))) };
}

/// As the standard one, but for a reader that is gone.
macro_rules! eprint {
    ($($arg:tt)*) => { $crate::out::put(std::io::stderr().lock(), format_args!($($arg)*)) };
}

/// As the standard one, but for a reader that is gone.
macro_rules! eprintln {
    () => { $crate::out::put(std::io::stderr().lock(), format_args!("\n")) };
    ($($arg:tt)*) => { $crate::out::put(std::io::stderr().lock(), format_args!("{}\n", format_args!($($arg)*))) };
}

/// Writes, and leaves it at that if it cannot be written.
pub(crate) fn put(mut to: impl std::io::Write, what: std::fmt::Arguments<'_>) {
    let _ = to.write_fmt(what).and_then(|()| to.flush());
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind, Write};

    /// A pipe whose reader is gone.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(Error::from(ErrorKind::BrokenPipe))
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_nobody_reads_is_no_panic() {
        super::put(Closed, format_args!("one {}", 2));
        let mut text = Vec::new();
        super::put(&mut text, format_args!("one {}", 2));
        assert_eq!(text, b"one 2");
    }
}
