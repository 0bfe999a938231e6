//! Arithmetic of counters and time: rates from two samples, scaling without division by 64-bit products that overflow.

/// A rate as a fraction `per / 2^32`, to turn counts of one clock into another's by a multiplication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Target units per 2^32 source units.
    per_2_32: u64,
}

impl Scale {
    /// So many target units in so many source units. `None` if that is no rate or one too large.
    pub fn new(target: u64, source: u64) -> Option<Self> {
        let per_2_32 = (u128::from(target) << 32).checked_div(u128::from(source))?;
        let per_2_32 = u64::try_from(per_2_32).ok()?;
        (per_2_32 > 0).then_some(Self { per_2_32 })
    }

    /// Converts a count, rounded down; saturates.
    pub fn convert(self, source: u64) -> u64 {
        let product = (u128::from(source) * u128::from(self.per_2_32)) >> 32;
        u64::try_from(product).unwrap_or(u64::MAX)
    }
}

/// Ticks per second from a count over a number of reference ticks of `period_fs` femtoseconds. `None` if no time has passed.
pub fn hertz(count: u64, reference_ticks: u64, period_fs: u64) -> Option<u64> {
    const FS_PER_S: u128 = 1_000_000_000_000_000;
    let elapsed_fs = u128::from(reference_ticks) * u128::from(period_fs);
    // Counts of a calibration are below 2^40, so the product fits.
    let hertz = u128::from(count).checked_mul(FS_PER_S)?.checked_div(elapsed_fs)?;
    u64::try_from(hertz).ok().filter(|hertz| *hertz > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_from_samples() {
        // HPET of 100 MHz over 10 ms, a 2.45 GHz counter.
        assert_eq!(hertz(24_500_000, 1_000_000, 10_000_000), Some(2_450_000_000));
        assert_eq!(hertz(5, 0, 10_000_000), None);
        assert_eq!(hertz(0, 5, 10_000_000), None);
    }

    #[test]
    fn scaling_keeps_a_microsecond_over_a_year() {
        let scale = Scale::new(1_000_000, 2_450_000_000).unwrap();
        assert_eq!(scale.convert(0), 0);
        let year_s: u64 = 365 * 86_400;
        let us = scale.convert(year_s * 2_450_000_000);
        // The factor is cut at 2^-32: below 1 part in 10^6.
        assert!(us.abs_diff(year_s * 1_000_000) < year_s, "{us}");
        assert!(scale.convert(u64::MAX) > year_s);
    }

    #[test]
    fn impossible_rates_are_refused() {
        assert_eq!(Scale::new(1, 0), None);
        assert_eq!(Scale::new(0, 1), None);
        assert_eq!(Scale::new(u64::MAX, 1), None);
        assert_eq!(Scale::new(1 << 40, 1), None);
        assert_eq!(Scale::new(1 << 31, 1).unwrap().convert(u64::MAX), u64::MAX);
    }
}
