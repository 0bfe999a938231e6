//! The living side: writes events as they happen, and the last word.

use core::fmt::Arguments;
use core::sync::atomic::{Ordering, compiler_fence};

use quorate_base::text::format_cut;
use quorate_base::{BootNonce, Event, Incarnation, Instant, Record};

use crate::{
    HEAD, How, LAST_WORD, MAGIC, REASON_BYTES_MAX, RECORD_BYTES_MAX, Region, SLOT_BYTES, SLOT_HEAD_BYTES, SLOTS,
    SLOTS_AT, VERSION, WORD_HEAD_BYTES, seal,
};

/// Stands for an event that does not fit a slot: a command line of hundreds of bytes, a view of 64 nodes whose
/// incarnations have five digits.
const LONGER: &str = "(an event longer than the ring keeps)";

/// Writes one life's part of history. The region is its own until the machine is reset.
#[derive(Debug)]
pub struct Recorder<'r> {
    region: &'r mut Region,
    nonce: BootNonce,
    serial: u64,
    incarnation: Option<Incarnation>,
}

impl<'r> Recorder<'r> {
    /// A life begins. What the region held is gone: it was read before. `nonce` is this life's alone.
    pub fn begin(region: &'r mut Region, nonce: BootNonce) -> Self {
        region.fill(0);
        let recorder = Self { region, nonce, serial: 0, incarnation: None };
        if let Some(head) = recorder.region.get_mut(HEAD) {
            put(head, 0, &MAGIC);
            put(head, 4, &VERSION.to_le_bytes());
            put(head, 8, &nonce.0.to_le_bytes());
            seal(head);
        }
        settle();
        recorder
    }

    /// An event happened.
    pub fn record(&mut self, record: &Record<'_>) {
        self.incarnation = record.incarnation;
        let at = SLOTS_AT + (self.serial % SLOTS as u64) as usize * SLOT_BYTES;
        let Some(slot) = self.region.get_mut(at..at + SLOT_BYTES) else { return };
        slot.fill(0);
        let place = SLOT_HEAD_BYTES..SLOT_HEAD_BYTES + RECORD_BYTES_MAX;
        let longer = Record { event: Event::Note { what: LONGER }, ..*record };
        let written =
            slot.get_mut(place.clone()).and_then(|room| postcard::to_slice(record, room).ok().map(|r| r.len()));
        let length = match written {
            Some(length) => length,
            None => {
                let Some(room) = slot.get_mut(place) else { return };
                room.fill(0);
                postcard::to_slice(&longer, room).map_or(0, |r| r.len())
            }
        };
        put(slot, 0, &(length as u16).to_le_bytes());
        put(slot, 8, &self.serial.to_le_bytes());
        put(slot, 16, &self.nonce.0.to_le_bytes());
        seal(slot);
        self.serial += 1;
        settle();
    }

    /// The life ends, and knows it. A second one takes the place of the first.
    pub fn last_word(&mut self, how: How, at: Instant, reason: Arguments<'_>) {
        let mut text = format_cut::<REASON_BYTES_MAX>(reason);
        while text.ends_with(char::is_whitespace) {
            text.pop();
        }
        let Some(word) = self.region.get_mut(LAST_WORD) else { return };
        word.fill(0);
        put(word, 0, &[how.code(), u8::from(self.incarnation.is_some())]);
        put(word, 2, &(text.len() as u16).to_le_bytes());
        put(word, 4, &self.incarnation.unwrap_or(Incarnation::NEVER).0.to_le_bytes());
        put(word, 8, &at.0.to_le_bytes());
        put(word, 16, &self.nonce.0.to_le_bytes());
        put(word, WORD_HEAD_BYTES, text.as_bytes());
        seal(word);
        settle();
    }
}

/// Puts bytes into a part. All places are inside by construction, see the layout.
fn put(part: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = part.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Nothing reads the region in this life: the writes must not be put off past what may be the kernel's last instruction.
fn settle() {
    compiler_fence(Ordering::SeqCst);
}
