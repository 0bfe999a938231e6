//! The next life's side: what the region tells.

use core::fmt::{self, Write};

use heapless::{String, Vec};
use quorate_base::{BootNonce, Event, Incarnation, Instant, Record};

use crate::{
    HEAD, How, LAST_WORD, MAGIC, REASON_BYTES_MAX, RECORD_BYTES_MAX, Region, SLOT_BYTES, SLOT_HEAD_BYTES, SLOTS,
    SLOTS_AT, VERSION, WORD_HEAD_BYTES, bytes, opened,
};

/// Bytes of the last events at most: those that are older than fits are left out. So the whole fits one frame of the trace
/// port.
pub const EVENTS_BYTES_MAX: usize = 1400;

/// How the machine's last life ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Epitaph {
    /// That life's incarnation, if it knew it.
    pub incarnation: Option<Incarnation>,
    /// How it ended.
    pub how: How,
    /// Why, in its own words; or that it has no last word.
    pub reason: String<REASON_BYTES_MAX>,
    /// When, by its own clock. Without a last word: when its last event happened.
    pub at: Instant,
    /// Its last events, oldest first: see [`records`].
    events: Vec<u8, EVENTS_BYTES_MAX>,
}

/// A slot that is whole.
#[derive(Clone, Copy)]
struct Slot<'r> {
    serial: u64,
    record: &'r [u8],
}

struct LastWord<'r> {
    how: How,
    incarnation: Option<Incarnation>,
    at: Instant,
    reason: &'r str,
}

impl Epitaph {
    /// Reads what the last life left. `fired`: the watchdog says that it was it that reset the machine. `None` if no life
    /// left anything: power was off, or memory was cleared.
    pub fn read(region: &Region, fired: bool) -> Option<Self> {
        let nonce = head(region)?;
        let mut slots: Vec<Slot<'_>, SLOTS> =
            region.get(SLOTS_AT..)?.chunks_exact(SLOT_BYTES).filter_map(|part| slot(part, nonce)).collect();
        slots.sort_unstable_by_key(|slot| slot.serial);
        let newest = slots.last().and_then(|slot| decoded(slot.record));
        let (incarnation, at) = newest.map_or((None, Instant::ZERO), |record| (record.incarnation, record.at));
        let mut epitaph = Self { incarnation, how: How::Reset, reason: String::new(), at, events: newest_of(&slots) };
        let reason = match last_word(region, nonce) {
            Some(word) => {
                (epitaph.incarnation, epitaph.how, epitaph.at) = (word.incarnation, word.how, word.at);
                word.reason
            }
            None if fired => {
                epitaph.how = How::Watchdog;
                "no last word: reset by the watchdog"
            }
            None => "no last word: reset from outside",
        };
        // Fits: a longer one would not have been read.
        let _ = epitaph.reason.push_str(reason);
        Some(epitaph)
    }

    /// Its last events, oldest first.
    pub fn events(&self) -> impl Iterator<Item = Record<'_>> {
        records(&self.events)
    }

    /// As the trace tells it.
    pub fn event(&self) -> Event<'_> {
        Event::Epitaph {
            incarnation: self.incarnation,
            how: self.how.name(),
            reason: &self.reason,
            at: self.at,
            events: &self.events,
        }
    }

    /// As a person reads it: a line about the end, then a line for each of the last events.
    ///
    /// # Errors
    /// Only if `out` fails.
    pub fn write(&self, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "{self}")?;
        for record in self.events() {
            writeln!(out, "  at {} us: {:?}", record.at.0, record.event)?;
        }
        Ok(())
    }
}

impl fmt::Display for Epitaph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation {
            Some(incarnation) => write!(f, "epitaph of incarnation {incarnation}")?,
            None => f.write_str("epitaph of a life that did not know its incarnation")?,
        }
        write!(f, ": {} at {} us: {}", self.how.name(), self.at.0, self.reason)
    }
}

/// The records in the `events` of an epitaph: each behind its length (u16, little endian), in postcard. What is no record
/// ends them.
pub fn records(mut events: &[u8]) -> impl Iterator<Item = Record<'_>> {
    core::iter::from_fn(move || {
        let length = usize::from(u16::from_le_bytes(bytes(events, 0)?));
        let record = events.get(2..2 + length)?;
        events = events.get(2 + length..)?;
        decoded(record)
    })
}

fn decoded(record: &[u8]) -> Option<Record<'_>> {
    match postcard::take_from_bytes(record) {
        Ok((record, [])) => Some(record),
        _ => None,
    }
}

/// The nonce of the life that the region is about.
fn head(region: &Region) -> Option<BootNonce> {
    let body = opened(region.get(HEAD)?)?;
    let whole = bytes(body, 0) == Some(MAGIC) && bytes(body, 4) == Some(VERSION.to_le_bytes());
    if whole { bytes(body, 8).map(|nonce| BootNonce(u64::from_le_bytes(nonce))) } else { None }
}

fn slot(part: &[u8], nonce: BootNonce) -> Option<Slot<'_>> {
    let body = opened(part)?;
    if bytes(body, 16) != Some(nonce.0.to_le_bytes()) {
        return None;
    }
    let length = usize::from(u16::from_le_bytes(bytes(body, 0)?));
    let record = body.get(SLOT_HEAD_BYTES..SLOT_HEAD_BYTES + length.min(RECORD_BYTES_MAX))?;
    decoded(record)?;
    Some(Slot { serial: u64::from_le_bytes(bytes(body, 8)?), record })
}

fn last_word(region: &Region, nonce: BootNonce) -> Option<LastWord<'_>> {
    let body = opened(region.get(LAST_WORD)?)?;
    if bytes(body, 16) != Some(nonce.0.to_le_bytes()) {
        return None;
    }
    let [how, known] = bytes(body, 0)?;
    let length = usize::from(u16::from_le_bytes(bytes(body, 2)?));
    let reason = body.get(WORD_HEAD_BYTES..WORD_HEAD_BYTES + length).filter(|r| r.len() <= REASON_BYTES_MAX)?;
    Some(LastWord {
        how: How::of_code(how)?,
        incarnation: (known == 1).then_some(Incarnation(u32::from_le_bytes(bytes(body, 4)?))),
        at: Instant(u64::from_le_bytes(bytes(body, 8)?)),
        reason: core::str::from_utf8(reason).ok()?,
    })
}

/// The newest slots whose records fit together, oldest first.
fn newest_of(slots: &[Slot<'_>]) -> Vec<u8, EVENTS_BYTES_MAX> {
    let mut room = EVENTS_BYTES_MAX;
    let mut from = slots.len();
    for slot in slots.iter().rev() {
        let Some(left) = room.checked_sub(2 + slot.record.len()) else { break };
        room = left;
        from -= 1;
    }
    let mut events = Vec::new();
    for slot in slots.iter().skip(from) {
        // They fit: it was counted.
        let _ = events.extend_from_slice(&(slot.record.len() as u16).to_le_bytes());
        let _ = events.extend_from_slice(slot.record);
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{REGION_BYTES, Recorder};
    use quorate_base::{Ballot, Instant, NodeId, event::Via};
    use std::boxed::Box;
    use std::string::{String as Text, ToString};
    use std::vec::Vec as List;

    const NONCE: BootNonce = BootNonce(0x1122_3344_5566_7788);

    fn region() -> Box<Region> {
        Box::new([0; REGION_BYTES])
    }

    fn record(n: u64, event: Event<'_>) -> Record<'_> {
        Record { incarnation: Some(Incarnation(3)), at: Instant(1000 + n), seq: n, lamport: 2 * n, event }
    }

    fn note(recorder: &mut Recorder<'_>, n: u64) {
        let what = std::format!("note {n}");
        recorder.record(&record(n, Event::Note { what: &what }));
    }

    fn seqs(epitaph: &Epitaph) -> List<u64> {
        epitaph.events().map(|record| record.seq).collect()
    }

    #[test]
    fn a_life_that_saw_its_end_tells_why() {
        let mut region = region();
        let mut recorder = Recorder::begin(&mut region, NONCE);
        for n in 0..5 {
            note(&mut recorder, n);
        }
        recorder.last_word(How::Panic, Instant(77), format_args!("put out: view {}\n", 9));
        // The watchdog may have ended a halt that was under way: the last word counts.
        for fired in [false, true] {
            let epitaph = Epitaph::read(&region, fired).unwrap();
            assert_eq!((epitaph.incarnation, epitaph.how), (Some(Incarnation(3)), How::Panic));
            assert_eq!((epitaph.reason.as_str(), epitaph.at), ("put out: view 9", Instant(77)));
            assert_eq!(seqs(&epitaph), [0, 1, 2, 3, 4]);
            let first = epitaph.events().next().unwrap();
            assert_eq!(first, record(0, Event::Note { what: "note 0" }));
        }
        let mut text = Text::new();
        Epitaph::read(&region, false).unwrap().write(&mut text).unwrap();
        assert!(text.starts_with("epitaph of incarnation 3: panic at 77 us: put out: view 9\n"), "{text}");
        assert_eq!(text.lines().count(), 6);
    }

    #[test]
    fn a_hang_has_no_last_word_but_its_events() {
        let mut region = region();
        let mut recorder = Recorder::begin(&mut region, NONCE);
        recorder.record(&record(8, Event::Suspect { peer: NodeId::new(1).unwrap(), via: Via::Disk }));
        recorder.record(&record(9, Event::Freeze { why: "because" }));
        let hung = Epitaph::read(&region, true).unwrap();
        assert_eq!((hung.incarnation, hung.how, hung.at), (Some(Incarnation(3)), How::Watchdog, Instant(1009)));
        assert_eq!(hung.reason, "no last word: reset by the watchdog");
        assert_eq!(seqs(&hung), [8, 9]);
        let reset = Epitaph::read(&region, false).unwrap();
        assert_eq!((reset.how, reset.reason.as_str()), (How::Reset, "no last word: reset from outside"));
    }

    #[test]
    fn the_newest_events_are_kept_in_order() {
        let mut region = region();
        let mut recorder = Recorder::begin(&mut region, NONCE);
        for n in 0..1000 {
            note(&mut recorder, n);
        }
        let epitaph = Epitaph::read(&region, true).unwrap();
        assert_eq!(seqs(&epitaph), (970..1000).collect::<List<u64>>());
    }

    #[test]
    fn what_is_too_long_for_a_slot_says_so_and_what_is_too_much_is_left_out() {
        let mut region = region();
        let mut recorder = Recorder::begin(&mut region, NONCE);
        let long = "x".repeat(400);
        recorder.record(&record(0, Event::Boot { version: "1", cmdline: &long }));
        let most = "y".repeat(200);
        for n in 1..20 {
            recorder.record(&record(n, Event::Note { what: &most }));
        }
        recorder.record(&record(20, Event::Lock { phase: quorate_base::LockPhase::Want, ballot: Ballot(1) }));
        let seen = Epitaph::read(&region, true).unwrap();
        assert_eq!(seqs(&seen), [14, 15, 16, 17, 18, 19, 20], "1400 bytes");
        let mut region = Box::new([0; REGION_BYTES]);
        let mut recorder = Recorder::begin(&mut region, NONCE);
        recorder.record(&record(0, Event::Boot { version: "1", cmdline: &long }));
        recorder.last_word(How::Bug, Instant(1), format_args!("{long}"));
        let seen = Epitaph::read(&region, true).unwrap();
        assert!(matches!(seen.events().next().unwrap().event, Event::Note { what } if what.contains("longer")));
        assert_eq!(seen.reason.len(), REASON_BYTES_MAX);
    }

    #[test]
    fn the_next_life_finds_nothing_of_the_one_before_the_last() {
        let mut region = region();
        let mut recorder = Recorder::begin(&mut region, NONCE);
        for n in 0..100 {
            note(&mut recorder, n);
        }
        recorder.last_word(How::Bug, Instant(5), format_args!("old"));
        let old = region.clone();
        let _ = Recorder::begin(&mut region, BootNonce(9));
        let epitaph = Epitaph::read(&region, false).unwrap();
        assert_eq!((epitaph.incarnation, seqs(&epitaph).len()), (None, 0));
        assert!(epitaph.to_string().contains("did not know its incarnation: reset at 0 us"));
        // Even if all of the old one but the head came back.
        region[HEAD.end..].copy_from_slice(&old[HEAD.end..]);
        assert_eq!(Epitaph::read(&region, false), Some(epitaph));
    }

    #[test]
    fn golden_bytes() {
        let mut region = region();
        let mut recorder = Recorder::begin(&mut region, NONCE);
        recorder.record(&record(2, Event::Note { what: "hi" }));
        recorder.last_word(How::Exception, Instant(0x0102), format_args!("#PF"));
        let hex =
            |range: core::ops::Range<usize>| region[range].iter().map(|b| std::format!("{b:02x}")).collect::<Text>();
        assert_eq!(hex(0..16), concat!("51524550", "0100", "0000", "8877665544332211"));
        assert_eq!(
            hex(64..91),
            concat!("04", "01", "0300", "03000000", "0201000000000000", "8877665544332211", "235046")
        );
        assert_eq!(hex(512..536), concat!("0a00", "000000000000", "0000000000000000", "8877665544332211"));
        assert_eq!(hex(536..546), concat!("0103", "ea07", "02", "04", "15", "026869"));
        for (crc, body) in [(60, 0..60), (508, 64..508), (764, 512..764)] {
            assert_eq!(region[crc..crc + 4], crate::CRC.checksum(&region[body]).to_le_bytes());
        }
        // "123456789", the check value of CRC-32C.
        assert_eq!(crate::CRC.checksum(b"123456789"), 0xe306_9283);
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_none(seed: [u8; 32], step in 1usize..31) {
            let mut region = region();
            for (i, byte) in region.iter_mut().enumerate() {
                *byte = seed[i % 32].wrapping_mul((i / 32) as u8).wrapping_add(seed[(i * step) % 32]);
            }
            assert_eq!(Epitaph::read(&region, true), None);
        }

        #[test]
        fn a_torn_part_is_left_out_and_nothing_else(at in 0usize..REGION_BYTES, flip in 1u8..) {
            let mut region = region();
            let mut recorder = Recorder::begin(&mut region, NONCE);
            for n in 0..40 {
                note(&mut recorder, n);
            }
            recorder.last_word(How::Bug, Instant(5), format_args!("why"));
            region[at] ^= flip;
            let epitaph = Epitaph::read(&region, false);
            match (at, epitaph) {
                (0..64, epitaph) => assert_eq!(epitaph, None),
                (64..512, Some(epitaph)) => {
                    assert_eq!((epitaph.how, epitaph.incarnation), (How::Reset, Some(Incarnation(3))));
                    assert_eq!(seqs(&epitaph).len(), 30);
                }
                (_, Some(epitaph)) => {
                    assert_eq!((epitaph.how, epitaph.reason.as_str()), (How::Bug, "why"));
                    assert_eq!(seqs(&epitaph).len(), 29);
                }
                (_, None) => panic!("one part is torn, and nothing is left"),
            }
        }

        #[test]
        fn any_events_can_be_read(bytes: List<u8>) {
            assert!(records(&bytes).count() <= bytes.len());
        }
    }
}
