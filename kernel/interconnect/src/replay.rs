//! The window of frame counters seen of one life of a peer: each counter is taken once, those that are too old to tell
//! are refused. (The anti-replay window of RFC 4303 §3.4.3, 64 wide.)

/// Width of the window in frames. A frame that more than this many later ones of the same sender have overtaken is
/// lost; senders repeat what matters.
pub const WINDOW: u64 = 64;

/// Counters seen. Starts empty with each life of the peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ReplayWindow {
    /// One above the highest counter seen; 0: none yet.
    next: u64,
    /// Bit `i`: counter `next - 1 - i` was seen.
    seen: u64,
    /// Counters below it are refused: the sender used them before this node began to listen.
    floor: u64,
}

impl ReplayWindow {
    /// Whether [`take`](Self::take) would take that counter.
    pub fn admits(&self, counter: u64) -> bool {
        // The last counter of all is never used: there would be no next one.
        let Some(after) = counter.checked_add(1) else { return false };
        if counter < self.floor {
            return false;
        }
        let behind = self.next.saturating_sub(after);
        after > self.next || (behind < WINDOW && self.seen >> behind & 1 == 0)
    }

    /// Takes a counter. False if it was seen, is too old, or is below the floor: then nothing changes.
    pub fn take(&mut self, counter: u64) -> bool {
        if !self.admits(counter) {
            return false;
        }
        let after = counter + 1;
        if after > self.next {
            let ahead = after - self.next;
            self.seen = if ahead < WINDOW { self.seen << ahead | 1 } else { 1 };
            self.next = after;
        } else {
            self.seen |= 1 << (self.next - after);
        }
        true
    }

    /// Refuses counters below `floor` from now on. It is never lowered.
    pub fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn rfc_4303_window_edges() {
        let mut w = ReplayWindow::default();
        assert!(w.take(0));
        assert!(!w.take(0));
        assert!(w.take(63));
        assert!(w.take(1), "63 less 62 is inside");
        assert!(!w.take(0), "seen, inside");
        assert!(w.take(64));
        assert!(!w.take(0), "64 behind: outside");
        assert!(w.take(2));
        assert!(!w.take(u64::MAX));
        assert!(w.take(u64::MAX - 1));
        assert!(!w.take(3));
        w.raise_floor(u64::MAX - 10);
        assert!(!w.take(u64::MAX - 11));
        assert!(w.take(u64::MAX - 10));
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(counters in prop::collection::vec(0u64..300, 0..200)) {
            let (mut w, mut seen) = (ReplayWindow::default(), BTreeSet::new());
            for c in counters {
                let fresh = seen.last().is_none_or(|top| c + WINDOW > *top) && !seen.contains(&c);
                prop_assert_eq!(w.admits(c), fresh);
                prop_assert_eq!(w.take(c), fresh);
                if fresh {
                    seen.insert(c);
                }
            }
        }
    }
}
