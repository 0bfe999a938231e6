//! Times as people read them.

use std::fmt;

/// A duration, µs, with three digits that count: `17 µs`, `1.42 ms`, `298 ms`, `12.5 s`.
pub(crate) struct Took(pub u64);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0;
        let (value, unit) = match us {
            0..1_000 => return write!(f, "{us} µs"),
            1_000..1_000_000 => (us as f64 / 1e3, "ms"),
            _ => (us as f64 / 1e6, "s"),
        };
        match value {
            ..9.995 => write!(f, "{value:.2} {unit}"),
            ..99.95 => write!(f, "{value:.1} {unit}"),
            _ => write!(f, "{value:.0} {unit}"),
        }
    }
}

/// A moment of the run, µs since it began, in s with a digit for each ms.
pub(crate) struct At(pub u64);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s", self.0 as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_three_digits_that_count() {
        let texts = [0, 999, 1_000, 41_061, 298_400, 999_999, 1_403_803, 12_500_000, 3_600_000_000];
        let texts = texts.map(|us| Took(us).to_string());
        assert_eq!(texts, ["0 µs", "999 µs", "1.00 ms", "41.1 ms", "298 ms", "1000 ms", "1.40 s", "12.5 s", "3600 s"]);
        assert_eq!(At(1_403_803).to_string(), "1.404 s");
    }
}
