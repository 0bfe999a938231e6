//! A rate from a counter that is read now and then.

use std::collections::VecDeque;

/// A rate is taken over so long, µs: short enough to move, long enough for ten heartbeats.
const SPAN_US: u64 = 2_000_000;

/// Readings closer together than this are one, µs.
const GAP_US: u64 = 200_000;

/// One counter's last readings.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    readings: VecDeque<(u64, u64)>,
}

impl Meter {
    /// The counter stands at `total` now. One that runs backwards has begun anew.
    pub fn read(&mut self, now_us: u64, total: u64) {
        match self.readings.back() {
            Some((_, before)) if *before > total => self.readings.clear(),
            Some((at, _)) if now_us < at + GAP_US => return,
            _ => {}
        }
        self.readings.push_back((now_us, total));
        // One older than the span is kept: the rate is over at least it.
        while self.readings.get(1).is_some_and(|(at, _)| at + SPAN_US <= now_us) {
            self.readings.pop_front();
        }
    }

    /// Per second; `None` with fewer than two readings, or if the last one is old.
    pub fn per_second(&self, now_us: u64) -> Option<f64> {
        let ((from_us, from), (to_us, to)) = (self.readings.front()?, self.readings.back()?);
        if to_us <= from_us || to_us + 2 * SPAN_US < now_us {
            return None;
        }
        Some((to - from) as f64 * 1e6 / (to_us - from_us) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_over_the_last_two_seconds_and_grows_old() {
        let mut meter = Meter::default();
        assert_eq!(meter.per_second(0), None);
        (0..=10).for_each(|s| meter.read(s * 1_000_000, s * 10));
        assert_eq!(meter.per_second(10_000_000), Some(10.0));
        meter.read(11_000_000, 200);
        assert_eq!(meter.per_second(11_000_000), Some(55.0));
        assert_eq!(meter.per_second(16_000_000), None);
        meter.read(12_000_000, 3);
        assert_eq!(meter.per_second(12_000_000), None, "it has begun anew");
    }
}
