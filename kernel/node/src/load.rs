//! Messages that a console's job sends by itself, one after another, as many as are asked for: for tests and measurements.
//!
//! Each begins with `#` and its number, from 1 in each membership, so that whoever reads a trace sees a loss, a repetition or
//! an overtaking (`quorate-check`, rule `GroupRow`). How long each takes from its sending until a work thread of its own
//! sender has it again, in its place in the order, is counted in a histogram of fixed size.

use core::fmt::{self, Write};

use quorate_base::Instant;
use quorate_base::text::format_cut;
use quorate_groups::capacity::{MESSAGE_MAX, PART_MAX};
use quorate_groups::{Context, Engine, JobId, JobState, MemberId};

/// Own messages on their way at a time, at most.
pub const OUTSTANDING_MAX: usize = 64;

/// Loads of a node at a time, at most; each takes about 2 KiB.
pub const LOADS_MAX: usize = 4;

/// Sub-divisions of a power of two: a time is known to within 1/16 of it.
const FINE: u64 = 16;
const FINE_BITS: u32 = FINE.ilog2();

/// Up to 2²⁴ µs; what takes longer counts as that.
const OCTAVES: usize = 20;

/// How many messages took how long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Times {
    counts: [u32; FINE as usize * (OCTAVES + 1)],
    /// How many in all.
    pub count: u32,
}

impl Default for Times {
    fn default() -> Self {
        Self { counts: [0; FINE as usize * (OCTAVES + 1)], count: 0 }
    }
}

impl Times {
    /// One that took so many µs.
    pub fn add(&mut self, us: u64) {
        let at = match us.checked_ilog2() {
            Some(octave) if octave >= FINE_BITS => {
                FINE * u64::from(octave - FINE_BITS + 1) + ((us >> (octave - FINE_BITS)) & (FINE - 1))
            }
            _ => us,
        };
        let last = self.counts.len() - 1;
        if let Some(count) = self.counts.get_mut((at as usize).min(last)) {
            *count = count.saturating_add(1);
        }
        self.count = self.count.saturating_add(1);
    }

    /// So many in a thousand took at most so long, µs: the upper end of what is known.
    pub fn permille(&self, permille: u32) -> u64 {
        let wanted = (u64::from(self.count) * u64::from(permille)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (at, count) in (0u64..).zip(self.counts) {
            seen += u64::from(count);
            if seen >= wanted {
                return match at / FINE {
                    0 => at,
                    row => ((FINE + at % FINE + 1) << (row - 1)) - 1,
                };
            }
        }
        0
    }
}

/// One job's load.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Load {
    /// Whose.
    pub job: JobId,
    /// Length of each message, bytes; never shorter than its number.
    bytes: u16,
    /// At most so many are on their way at a time.
    outstanding: u8,
    /// So many more are to be sent.
    pub left: u32,
    /// So many were sent in this membership.
    pub sent: u32,
    /// So many of them came back.
    pub back: u32,
    /// The numbers of this run begin after it.
    since: u32,
    /// When the first was sent, and when the last came back.
    span: (Instant, Instant),
    at: [Instant; OUTSTANDING_MAX],
    /// How long they took.
    pub times: Times,
}

impl Load {
    /// Of a job that has sent nothing.
    pub(crate) fn new(job: JobId) -> Self {
        Self {
            job,
            bytes: 0,
            outstanding: 1,
            left: 0,
            sent: 0,
            back: 0,
            since: 0,
            span: (Instant::ZERO, Instant::ZERO),
            at: [Instant::ZERO; OUTSTANDING_MAX],
            times: Times::default(),
        }
    }

    /// So many more messages are to be sent. `outstanding`: as many at a time, at most [`OUTSTANDING_MAX`].
    pub(crate) fn ask(&mut self, count: u32, bytes: u16, outstanding: u8) {
        self.bytes = bytes.min(MESSAGE_MAX as u16);
        self.outstanding = outstanding.clamp(1, OUTSTANDING_MAX as u8);
        (self.left, self.since, self.times) = (count, self.sent, Times::default());
    }

    /// What was not sent yet is not sent any more.
    pub(crate) fn stop(&mut self) {
        self.left = 0;
    }

    /// Sends what has room. True if anything was sent.
    pub(crate) fn send(&mut self, engine: &mut Engine, ctx: &mut Context<'_>) -> bool {
        if !matches!(engine.job(self.job), Some(JobState::Member(_))) {
            return false;
        }
        let mut sent = false;
        while self.left > 0 && self.sent - self.back < u32::from(self.outstanding) {
            // One that is long is not put together in vain. There is room again when something was delivered.
            if usize::from(self.bytes) > PART_MAX && !engine.has_room(self.job, self.bytes.into()) {
                break;
            }
            let mut message = [b'.'; MESSAGE_MAX];
            let number = format_cut::<12>(format_args!("#{} ", self.sent + 1));
            if let Some(head) = message.get_mut(..number.len()) {
                head.copy_from_slice(number.as_bytes());
            }
            let message = message.get(..number.len().max(self.bytes.into())).unwrap_or_default();
            if engine.send(self.job, None, message, ctx).is_err() {
                break;
            }
            sent = true;
            self.left -= 1;
            if self.sent == self.since {
                self.span.0 = ctx.now;
            }
            self.at[self.sent as usize % OUTSTANDING_MAX] = ctx.now;
            self.sent += 1;
        }
        sent
    }

    /// A work thread of the job has a message.
    pub(crate) fn taken(&mut self, from: MemberId, bytes: &[u8], engine: &Engine, now: Instant) {
        let own = match engine.job(self.job) {
            Some(JobState::Member(id) | JobState::Leaving(id)) => id == from,
            _ => false,
        };
        if !own || bytes.first() != Some(&b'#') || self.back == self.sent {
            return;
        }
        self.times.add(now.since_us(self.at[self.back as usize % OUTSTANDING_MAX]));
        self.back += 1;
        self.span.1 = now;
    }

    /// Whether all that was asked for was sent and is back.
    pub fn is_done(&self) -> bool {
        self.left == 0 && self.back == self.sent
    }

    /// From the first message's sending to the last one's return, µs, and how many there were.
    pub fn span(&self) -> (u64, u32) {
        (self.span.1.since_us(self.span.0), self.back - self.since)
    }

    /// One line for the console.
    ///
    /// # Errors
    /// Only if `out` fails.
    pub(crate) fn write(&self, out: &mut dyn Write) -> fmt::Result {
        let (us, count) = self.span();
        let state = if self.is_done() { "done" } else { "under way" };
        writeln!(
            out,
            "load {state}: {count} of {} bytes in {us} us, {} left, {} on their way; p50 {} us, p99 {} us",
            self.bytes,
            self.left,
            self.sent - self.back,
            self.times.permille(500),
            self.times.permille(990)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_known_to_a_sixteenth() {
        let mut times = Times::default();
        assert_eq!(times.permille(500), 0);
        for us in 1..=1000 {
            times.add(us);
        }
        for (permille, exact) in [(10, 10), (500, 500), (990, 990), (1000, 1000)] {
            let known = times.permille(permille);
            assert!(known >= exact && known - exact <= exact / 16 + 1, "{permille}: {known}");
        }
        times.add(u64::MAX);
        assert!(times.permille(1000) >= 1 << 23, "what is off the scale stands at its end");
    }
}
