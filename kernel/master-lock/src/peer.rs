//! What is known of a node from its blocks, and the disk evidence about it (DESIGN 4 *passing over*, DESIGN 7).
//!
//! Evidence is a clock that only this node's completed reads move: a counter that stood still while this node did not
//! look says nothing. [`Peer::judge`] is called at each completed read of the heartbeat and nowhere else.

use quorate_base::{Ballot, Instant, Timing, ViewName};
use quorate_database::{Block, Heartbeat};

/// A node, as its blocks show it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Peer {
    /// Its last valid heartbeat.
    pub heartbeat: Option<Heartbeat>,
    /// Whether the last read of its heartbeat block gave a valid or a blank one.
    pub readable: bool,
    /// Completion of the first read that showed this heartbeat.
    pub changed_at: Instant,
    /// For how long, in µs, the heartbeat stood still over this node's own completed reads.
    pub still_us: u64,
    /// The highest promise that was read of it.
    pub promised: Ballot,
    /// What its ballot block has accepted.
    pub accepted: ViewName,
    /// Evidence counts from here; [`Instant::FAR`]: from the next read on.
    pub(crate) since: Instant,
    /// Its heartbeat block could not be read since; [`Instant::FAR`]: it was.
    pub(crate) unreadable_since: Instant,
    /// Judged silent at the last read.
    pub(crate) silent: bool,
    /// A suspicion was traced and not taken back.
    suspected: bool,
    /// One of its ballot slots could not be read since; [`Instant::FAR`]: both were read.
    pub(crate) slots_since: Instant,
    /// Which of its ballot slots were read with something in them. No writer makes one blank again.
    pub(crate) written: [bool; 2],
    /// Highest sequence of its ballot slots.
    pub(crate) sequence: u64,
    /// Its ballot block was known at the last read.
    pub(crate) ballot_known: bool,
    /// Which of its three records were no valid ones at the last read (a change is traced, and a fresh damage of a slot is looked at twice).
    pub(crate) bad: [bool; 3],
    /// Whether its heartbeat, and its ballot, were older at the last read than what was read before (a change is traced).
    pub(crate) stale: [bool; 2],
}

/// What a read of a heartbeat changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Nothing that needs a trace.
    Same,
    /// It fell silent.
    Suspect,
    /// It moves again.
    Trust,
}

impl Default for Peer {
    fn default() -> Self {
        Self::UNREAD
    }
}

impl Peer {
    /// Before the first read.
    pub(crate) const UNREAD: Self = Self {
        heartbeat: None,
        readable: false,
        changed_at: Instant::ZERO,
        still_us: 0,
        promised: Ballot::NONE,
        accepted: ViewName { ballot: Ballot::NONE, number: 0 },
        since: Instant::FAR,
        silent: false,
        suspected: false,
        slots_since: Instant::FAR,
        unreadable_since: Instant::FAR,
        written: [false; 2],
        sequence: 0,
        ballot_known: false,
        bad: [false; 3],
        stale: [false; 2],
    };

    /// Whether the last read judged it silent.
    pub const fn is_silent(&self) -> bool {
        self.silent
    }

    /// All evidence against it is void: this node itself stalled.
    pub(crate) fn restart(&mut self) {
        self.since = Instant::FAR;
        self.unreadable_since = Instant::FAR;
        self.still_us = 0;
        self.silent = self.silent_at_once();
    }

    /// Blank and clean blocks need no watching: nobody is behind them.
    fn silent_at_once(&self) -> bool {
        match &self.heartbeat {
            None => self.readable,
            Some(h) => h.clean && self.readable,
        }
    }

    /// Takes one completed read of the ballot slots. False while one of them cannot be read, but not yet through `dead`.
    pub(crate) fn judge_slots(&mut self, unreadable: bool, timing: &Timing, now: Instant) -> bool {
        if !unreadable {
            self.slots_since = Instant::FAR;
            return true;
        }
        self.slots_since = self.slots_since.min(now);
        now.since_us(self.slots_since) >= u64::from(timing.dead) * 1000
    }

    /// Whether the block shows less than what was read of it before: an older heartbeat of that life, one of an earlier
    /// life, or none. Its writer never does that. The disk gave an old block, or lost a write: no sign of life, nor of death.
    pub(crate) fn is_stale(&self, block: &Block<Heartbeat>) -> bool {
        match (&self.heartbeat, block) {
            (Some(old), Block::Good(h)) => {
                h.incarnation < old.incarnation || h.nonce == old.nonce && h.counter < old.counter
            }
            (Some(_), Block::Blank) => true,
            _ => false,
        }
    }

    /// Takes one completed read of the heartbeat block. True as the first value if the block showed a heartbeat that was
    /// not seen before.
    pub(crate) fn judge(&mut self, block: &Block<Heartbeat>, timing: &Timing, now: Instant) -> (bool, Verdict) {
        let mut changed = false;
        match block {
            _ if self.is_stale(block) => self.readable = false,
            Block::Good(h) => {
                let same = self.heartbeat.as_ref().is_some_and(|old| {
                    (old.incarnation, old.nonce, old.counter) == (h.incarnation, h.nonce, h.counter)
                });
                self.readable = true;
                if !same {
                    changed = true;
                    self.heartbeat = Some(*h);
                    self.changed_at = now;
                    self.since = now;
                }
            }
            Block::Blank => {
                self.readable = true;
                self.heartbeat = None;
            }
            Block::Unread | Block::Damaged(_) | Block::Unreadable(_) => self.readable = false,
        }
        if self.since == Instant::FAR {
            self.since = now;
        }
        self.still_us = now.since_us(self.since);
        self.unreadable_since = if self.readable { Instant::FAR } else { self.unreadable_since.min(now) };
        let at_once = self.silent_at_once();
        let (still_us, limit_ms) = if self.readable {
            (self.still_us, timing.disk_suspect)
        } else {
            (now.since_us(self.unreadable_since), timing.dead)
        };
        self.silent = at_once || still_us >= u64::from(limit_ms) * 1000;
        let verdict = if changed && self.suspected && !at_once {
            self.suspected = false;
            Verdict::Trust
        } else if self.silent && !at_once && !self.suspected {
            self.suspected = true;
            Verdict::Suspect
        } else {
            Verdict::Same
        };
        (changed, verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_base::{BootNonce, DiskError, Incarnation};

    fn beat(counter: u64) -> Block<Heartbeat> {
        Block::Good(Heartbeat { incarnation: Incarnation(1), nonce: BootNonce(9), counter, ..Heartbeat::default() })
    }

    const T: Timing = Timing::DEFAULT;
    const fn ms(n: u32) -> Instant {
        Instant::ZERO.plus_ms(n)
    }

    #[test]
    fn silent_after_disk_suspect_of_completed_reads_and_trusted_when_it_moves() {
        let mut p = Peer::UNREAD;
        assert_eq!(p.judge(&beat(1), &T, ms(1000)), (true, Verdict::Same));
        assert_eq!(p.judge(&beat(1), &T, ms(1399)), (false, Verdict::Same));
        assert!(!p.is_silent());
        assert_eq!(p.judge(&beat(1), &T, ms(1400)), (false, Verdict::Suspect));
        assert!(p.is_silent());
        assert_eq!(p.changed_at, ms(1000));
        assert_eq!(p.judge(&beat(2), &T, ms(1500)), (true, Verdict::Trust));
        assert!(!p.is_silent());
    }

    #[test]
    fn blank_and_clean_are_silent_at_once_and_untraced() {
        let mut p = Peer::UNREAD;
        assert_eq!(p.judge(&Block::Blank, &T, ms(1)), (false, Verdict::Same));
        assert!(p.is_silent());
        let clean = Heartbeat { clean: true, counter: 5, ..Heartbeat::default() };
        assert_eq!(p.judge(&Block::Good(clean), &T, ms(2)), (true, Verdict::Same));
        assert!(p.is_silent());
    }

    #[test]
    fn unreadable_is_silent_only_after_dead() {
        let mut p = Peer::UNREAD;
        let bad = Block::Unreadable(DiskError::Medium);
        p.judge(&beat(1), &T, ms(0));
        p.judge(&bad, &T, ms(200));
        p.judge(&bad, &T, ms(1399));
        assert!(!p.is_silent());
        p.judge(&bad, &T, ms(1400));
        assert!(p.is_silent());
    }

    #[test]
    fn an_older_heartbeat_or_none_is_no_sign_of_life_nor_of_death() {
        let mut p = Peer::UNREAD;
        p.judge(&beat(7), &T, ms(0));
        let other_life =
            Heartbeat { incarnation: Incarnation(0), nonce: BootNonce(1), counter: 9, ..Heartbeat::default() };
        for (at, old) in [(200, beat(6)), (400, Block::Good(other_life)), (600, Block::Blank)] {
            assert_eq!(p.judge(&old, &T, ms(at)), (false, Verdict::Same));
            assert!(!p.readable && !p.is_silent());
        }
        assert_eq!(p.judge(&beat(8), &T, ms(800)), (true, Verdict::Same));
        p.judge(&beat(6), &T, ms(1000));
        assert_eq!(p.judge(&beat(6), &T, ms(2200)), (false, Verdict::Suspect), "unreadable through dead");
    }

    #[test]
    fn a_stall_of_my_own_voids_the_evidence() {
        let mut p = Peer::UNREAD;
        p.judge(&beat(1), &T, ms(0));
        p.judge(&beat(1), &T, ms(400));
        assert!(p.is_silent());
        p.restart();
        assert!(!p.is_silent());
        p.judge(&beat(1), &T, ms(5000));
        assert!(!p.is_silent());
        assert_eq!(p.judge(&beat(1), &T, ms(5400)), (false, Verdict::Same), "it was suspected before: no second trace");
        assert!(p.is_silent());
    }
}
