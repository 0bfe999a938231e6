//! The epitaph: what a life of a node leaves in memory for the next one, so that a death can be explained that nobody saw.
//! (The idea is that of Hubris' ring buffers and of its kernel's epitaph.)
//!
//! A region of RAM that a reset leaves alone, never the shared disk. A life writes its trace events into it as they happen,
//! the newest over the oldest, each as typed as on the trace port; and at its end, if it sees its end coming, a last word.
//! The next life reads it once, tells it (log, trace event `epitaph`, console), and begins the region anew for itself. A
//! kernel that hangs has no last word: the events are the word, and the watchdog says that it was the watchdog.
//!
//! ```text
//! 0     magic "QREP"  version 1 (u16)  0 (u16)  nonce of the life (u64)  0 …                    CRC at 60
//! 64    the last word: how (u8)  incarnation known (u8)  bytes of the reason (u16)  incarnation (u32)  at (u64, µs)
//!       nonce (u64)  reason (≤ 192)  0 …                                                        CRC at 508
//! 512   30 slots of 256 bytes: bytes of the record (u16)  0 (u16, u32)  serial (u64)  nonce (u64)  record (≤ 228)  0 …
//!                                                                                               CRC at 252 of the slot
//! ```
//! Numbers are little endian, CRCs are CRC-32C of all that stands before them in their part, records are postcard.
//!
//! Invariants: any bytes can be read, and give an epitaph only if the head is whole; a part that a reset tore is left out;
//! nothing of an older life is taken for the last one's, because each part carries the life's nonce.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod reader;
mod recorder;

pub use reader::{EVENTS_BYTES_MAX, Epitaph, records};
pub use recorder::Recorder;

use crc::{CRC_32_ISCSI, Crc, Table};

/// Bytes of the region: two pages.
pub const REGION_BYTES: usize = 8192;

/// Bytes of a reason at most; what is longer is cut. A halt's reason has the same limit in the trace.
pub const REASON_BYTES_MAX: usize = 192;

/// The region.
pub type Region = [u8; REGION_BYTES];

const MAGIC: [u8; 4] = *b"QREP";
const VERSION: u16 = 1;

/// Where the parts are, in bytes.
const HEAD: core::ops::Range<usize> = 0..64;
const LAST_WORD: core::ops::Range<usize> = 64..512;
const SLOTS_AT: usize = 512;
const SLOT_BYTES: usize = 256;
const SLOTS: usize = (REGION_BYTES - SLOTS_AT) / SLOT_BYTES;

/// Bytes before the record in a slot, and before the reason in the last word.
const SLOT_HEAD_BYTES: usize = 24;
const WORD_HEAD_BYTES: usize = 24;
const CRC_BYTES: usize = 4;
/// The longest record that a slot keeps.
const RECORD_BYTES_MAX: usize = SLOT_BYTES - SLOT_HEAD_BYTES - CRC_BYTES;

const _: () = assert!(WORD_HEAD_BYTES + REASON_BYTES_MAX + CRC_BYTES <= LAST_WORD.end - LAST_WORD.start);

static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

/// How a life ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum How {
    /// As it was asked to.
    Halt,
    /// EP's panic: it was put out, or had to end itself.
    Panic,
    /// A mistake in the kernel, found by itself (a Rust panic).
    Bug,
    /// A processor exception.
    Exception,
    /// Without a last word, and the watchdog says that it reset the machine.
    Watchdog,
    /// Without a last word, by a reset from outside.
    Reset,
}

impl How {
    /// The word in the trace.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Halt => "halt",
            Self::Panic => "panic",
            Self::Bug => "bug",
            Self::Exception => "exception",
            Self::Watchdog => "watchdog",
            Self::Reset => "reset",
        }
    }

    /// As it stands in a last word; the other two never have one.
    const fn code(self) -> u8 {
        match self {
            Self::Halt => 1,
            Self::Panic => 2,
            Self::Bug => 3,
            Self::Exception => 4,
            Self::Watchdog => 5,
            Self::Reset => 6,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        [Self::Halt, Self::Panic, Self::Bug, Self::Exception].into_iter().find(|how| how.code() == code)
    }
}

/// Closes a part with its checksum.
fn seal(part: &mut [u8]) {
    if let Some((body, crc)) = part.split_last_chunk_mut::<CRC_BYTES>() {
        *crc = CRC.checksum(body).to_le_bytes();
    }
}

/// What stands before the checksum, if that is right.
fn opened(part: &[u8]) -> Option<&[u8]> {
    let (body, crc) = part.split_last_chunk::<CRC_BYTES>()?;
    (CRC.checksum(body).to_le_bytes() == *crc).then_some(body)
}

/// Bytes `at..at + N` as an array.
fn bytes<const N: usize>(body: &[u8], at: usize) -> Option<[u8; N]> {
    body.get(at..)?.first_chunk().copied()
}
