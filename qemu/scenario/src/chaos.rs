//! What a `chaos` step may do, how often, and for how long: drawn from a seed, so that the same file does the same things
//! as far as the cluster's own timing allows.
//!
//! Lengths are drawn around the limits of DESIGN 7 (`net_suspect`, `disk_suspect`, `io_max`, `lease`, `dead`): just under,
//! just over, or anything up to a few times `dead`. Nothing is drawn that breaks what the lease fence rests on: a clock
//! stands still only for as long as `lease · 1.01 + io_max < dead · 0.99` has to spare, and seldom.

use quorate_base::Timing;
use quorate_switch::{Fault, Rng};

/// One kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// The machine ends at once, and starts again later.
    Kill,
    /// All end at once.
    KillAll,
    /// The reset button.
    Reset,
    /// A graceful leave, and a start later.
    Leave,
    /// The processor stands still, the clock runs on.
    Pause,
    /// The machine stands still with its clock, for as long as the lease fence allows.
    Freeze,
    /// Two nodes, or one and all others, are cut from each other.
    Cut,
    /// The same in one direction.
    CutOneWay,
    /// A bad cable: loss, duplicates, overtaking, flipped bits, delay.
    Noise,
    /// One node's disk requests do not complete.
    DiskStall,
    /// Nobody's do.
    Outage,
    /// Each takes longer, some longer than `io_max`.
    DiskDelay,
    /// The next reads or writes fail.
    DiskError,
    /// The next write stops half way and the node dies.
    DiskTear,
    /// The device is removed, and comes back.
    DiskGone,
}

impl Kind {
    /// All, by their word in scenario files, and how often each is drawn if a step does not say.
    pub const ALL: [(&'static str, Self, u32); 15] = [
        ("kill", Self::Kill, 6),
        ("kill_all", Self::KillAll, 1),
        ("reset", Self::Reset, 2),
        ("leave", Self::Leave, 4),
        ("pause", Self::Pause, 5),
        ("freeze", Self::Freeze, 2),
        ("cut", Self::Cut, 4),
        ("cut_oneway", Self::CutOneWay, 3),
        ("noise", Self::Noise, 4),
        ("disk_stall", Self::DiskStall, 5),
        ("outage", Self::Outage, 2),
        ("disk_delay", Self::DiskDelay, 3),
        ("disk_error", Self::DiskError, 4),
        ("disk_tear", Self::DiskTear, 2),
        ("disk_gone", Self::DiskGone, 2),
    ];

    /// The word in scenario files.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind, _)| *kind == self).map_or("", |(name, _, _)| name)
    }

    /// Whether the harness must stand between the machines and the disk for it.
    pub fn needs_disk_faults(self) -> bool {
        matches!(self, Self::DiskStall | Self::Outage | Self::DiskDelay | Self::DiskError | Self::DiskTear)
    }
}

/// A `chaos` step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chaos {
    /// For how long faults are made, ms.
    pub for_ms: u64,
    /// In the place of the scenario's seed.
    pub seed: Option<u64>,
    /// Mean distance between two faults, ms.
    pub every_ms: u64,
    /// After so long everything is healed, and all must be joined before it goes on, ms.
    pub settle_every_ms: u64,
    /// Within how long they must be, ms.
    pub settle_ms: u64,
    /// Kinds and how often each is drawn.
    pub kinds: Vec<(Kind, u32)>,
}

/// Draws faults.
#[derive(Clone, Debug)]
pub struct Draws {
    rng: Rng,
    timing: Timing,
}

impl Draws {
    /// For a seed and the cluster's time-outs.
    pub fn new(seed: u64, timing: Timing) -> Self {
        Self { rng: Rng::new(seed), timing }
    }

    /// A number from `least` to `most`.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.rng.below(most.saturating_sub(least) + 1)
    }

    /// One of a list; `None` if it is empty.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        of.get(usize::try_from(self.rng.below(of.len() as u64)).ok()?).copied()
    }

    /// Which kind comes next.
    pub fn kind(&mut self, chaos: &Chaos) -> Option<Kind> {
        let total = chaos.kinds.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut at = self.rng.below(total);
        for (kind, weight) in &chaos.kinds {
            if at < u64::from(*weight) {
                return Some(*kind);
            }
            at -= u64::from(*weight);
        }
        None
    }

    /// The time to the next fault, ms: from nothing to twice the mean.
    pub fn gap_ms(&mut self, every_ms: u64) -> u64 {
        self.between(0, 2 * every_ms)
    }

    /// How long something lasts, ms.
    pub fn length_ms(&mut self) -> u64 {
        let t = self.timing;
        let limits = [t.net_suspect, t.disk_suspect, t.io_max, t.lease, t.dead].map(u64::from);
        let limit = self.pick(&limits).unwrap_or(1);
        let near = self.between(1, limit / 20 + 1);
        match self.rng.below(5) {
            0 | 1 => limit.saturating_sub(near),
            2 | 3 => limit + near,
            _ => self.between(1, 5 * u64::from(t.dead)),
        }
    }

    /// How long a clock may stand still, ms: half of what the inequality of DESIGN 7 has to spare, so that a harness that
    /// is a little late does no wrong.
    pub fn freeze_ms(&mut self) -> u64 {
        let [lease, io_max, dead] = [self.timing.lease, self.timing.io_max, self.timing.dead].map(u64::from);
        let spare = (dead * 99).saturating_sub(lease * 101 + io_max * 100) / 100;
        self.between(1, (spare / 2).max(1))
    }

    /// How much longer each disk request takes, ms: some within `io_max`, some not.
    pub fn delay_ms(&mut self) -> u32 {
        let io_max = u64::from(self.timing.io_max);
        u32::try_from(self.between(io_max / 4, io_max + io_max / 20)).unwrap_or(u32::MAX)
    }

    /// What a bad cable does.
    pub fn noise(&mut self) -> Fault {
        let percent = |n: u64| n as f64;
        match self.rng.below(5) {
            0 => Fault::Loss { percent: percent(self.between(1, 60)) },
            1 => Fault::Duplicate { percent: percent(self.between(1, 50)) },
            2 => Fault::Reorder { percent: percent(self.between(1, 50)) },
            3 => Fault::Corrupt { percent: percent(self.between(1, 30)) },
            _ => {
                let [ms, jitter_ms] = [self.between(0, 20), self.between(0, 200)].map(|ms| ms as u32);
                Fault::Delay { ms, jitter_ms }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chaos() -> Chaos {
        let kinds = Kind::ALL.map(|(_, kind, weight)| (kind, weight)).to_vec();
        Chaos { for_ms: 1, seed: None, every_ms: 1000, settle_every_ms: 1, settle_ms: 1, kinds }
    }

    #[test]
    fn every_kind_is_drawn_as_often_as_it_weighs() {
        let chaos = chaos();
        let mut draws = Draws::new(7, Timing::DEFAULT);
        let total: u32 = chaos.kinds.iter().map(|(_, weight)| weight).sum();
        let mut seen = std::collections::BTreeMap::<Kind, u32>::new();
        let rounds = 200 * total;
        (0..rounds).for_each(|_| *seen.entry(draws.kind(&chaos).unwrap()).or_default() += 1);
        for (name, kind, weight) in Kind::ALL {
            let n = seen.get(&kind).copied().unwrap_or(0);
            assert!((weight * 150..weight * 250).contains(&n), "{name}: {n} of {rounds}");
            assert_eq!(kind.name(), name);
        }
    }

    #[test]
    fn design_7_a_clock_stands_still_for_less_than_the_inequality_has_to_spare() {
        for timing in [Timing::DEFAULT, Timing::FAST] {
            let spare = (timing.dead * 99 - timing.lease * 101 - timing.io_max * 100) / 100;
            let mut draws = Draws::new(3, timing);
            assert!((0..1000).all(|_| draws.freeze_ms() <= u64::from(spare) / 2));
        }
    }

    #[test]
    fn lengths_stand_on_both_sides_of_every_limit() {
        let t = Timing::DEFAULT;
        let mut draws = Draws::new(1, t);
        let lengths: Vec<u64> = (0..2000).map(|_| draws.length_ms()).collect();
        for limit in [t.net_suspect, t.io_max, t.lease, t.dead].map(u64::from) {
            let near = limit / 20 + 1;
            assert!(lengths.iter().any(|l| (limit - near..limit).contains(l)), "under {limit}");
            assert!(lengths.iter().any(|l| (limit + 1..=limit + near).contains(l)), "over {limit}");
        }
    }
}
