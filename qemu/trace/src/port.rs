//! A trace port's bytes, taken apart: COBS frames with a zero behind each, in each frame one postcard record.
//!
//! The bytes come from a guest that may be reset or killed in mid-frame, so anything may stand between two zeros. What
//! is no record is counted and reported, never guessed at: the next zero begins anew.

use std::fmt;

use quorate_base::Record;

/// Longest frame that is kept. The longest record, a round of 64 transitions or a view of 64 nodes with long texts, is
/// below a quarter of this.
const FRAME_MAX: usize = 8192;

/// Something on the port that is no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// This many bytes between two zeros are no COBS frame.
    NotCobs(usize),
    /// A frame of this many bytes is no record.
    NotARecord(usize),
    /// This many bytes came without a zero.
    TooLong(usize),
    /// The stream ended this many bytes into a frame.
    CutOff(usize),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCobs(bytes) => write!(f, "trace port: {bytes} bytes that are no frame"),
            Self::NotARecord(bytes) => write!(f, "trace port: a frame of {bytes} bytes that is no record"),
            Self::TooLong(bytes) => write!(f, "trace port: {bytes} bytes without an end of frame"),
            Self::CutOff(bytes) => write!(f, "trace port: ended {bytes} bytes into a frame"),
        }
    }
}

/// Decodes one trace port. Make a new one for each connection.
#[derive(Clone, Debug, Default)]
pub struct PortDecoder {
    frame: Vec<u8>,
    /// Bytes of the current frame beyond [`FRAME_MAX`].
    overflow: usize,
    troubles: u64,
}

impl PortDecoder {
    /// At the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they came and hands out what they complete.
    pub fn push(&mut self, bytes: &[u8], mut out: impl FnMut(Result<&Record<'_>, Trouble>)) {
        for piece in bytes.split_inclusive(|b| *b == 0) {
            let (body, ends) = match piece.split_last() {
                Some((0, body)) => (body, true),
                _ => (piece, false),
            };
            let room = FRAME_MAX - self.frame.len();
            let (kept, lost) = body.split_at(body.len().min(room));
            self.frame.extend_from_slice(kept);
            self.overflow += lost.len();
            if ends {
                self.finish_frame(&mut out);
            }
        }
    }

    /// The stream ended.
    pub fn end(&mut self) -> Option<Trouble> {
        let left = self.frame.len() + self.overflow;
        self.frame.clear();
        self.overflow = 0;
        if left == 0 {
            return None;
        }
        self.troubles += 1;
        Some(Trouble::CutOff(left))
    }

    /// How often something was no record.
    pub fn troubles(&self) -> u64 {
        self.troubles
    }

    fn finish_frame(&mut self, out: &mut impl FnMut(Result<&Record<'_>, Trouble>)) {
        let length = self.frame.len() + self.overflow;
        let result = if self.overflow > 0 { Err(Trouble::TooLong(length)) } else { decode(&mut self.frame) };
        match result {
            Ok(Some(record)) => out(Ok(&record)),
            // Two zeros in a row: a node that starts sends one, to end what its former life left open.
            Ok(None) => {}
            Err(trouble) => {
                self.troubles += 1;
                out(Err(trouble));
            }
        }
        self.frame.clear();
        self.overflow = 0;
    }
}

fn decode(frame: &mut [u8]) -> Result<Option<Record<'_>>, Trouble> {
    let length = frame.len();
    if length == 0 {
        return Ok(None);
    }
    let report = cobs::decode_in_place(frame).map_err(|_| Trouble::NotCobs(length))?;
    let body = frame.get(..report).ok_or(Trouble::NotCobs(length))?;
    match postcard::take_from_bytes::<Record<'_>>(body) {
        Ok((record, [])) => Ok(Some(record)),
        _ => Err(Trouble::NotARecord(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use quorate_base::{Event, Incarnation, Instant};

    fn bytes(seq: u64, reason: &str) -> Vec<u8> {
        let event = Event::Note { what: reason };
        let record = Record { incarnation: Some(Incarnation(1)), at: Instant(7), seq, lamport: seq + 1, event };
        postcard::to_stdvec_cobs(&record).expect("memory")
    }

    fn push(decoder: &mut PortDecoder, bytes: &[u8]) -> Vec<Result<u64, Trouble>> {
        let mut out = Vec::new();
        decoder.push(bytes, |r| out.push(r.map(|r| r.seq)));
        out
    }

    #[test]
    fn records_come_out_however_the_bytes_are_cut() {
        let stream = [bytes(0, "a"), bytes(1, &"b".repeat(600)), bytes(2, "")].concat();
        for step in [1, 2, 7, stream.len()] {
            let mut decoder = PortDecoder::new();
            let got: Vec<_> = stream.chunks(step).flat_map(|c| push(&mut decoder, c)).collect();
            assert_eq!(got, [Ok(0), Ok(1), Ok(2)]);
            assert_eq!((decoder.end(), decoder.troubles()), (None, 0));
        }
    }

    #[test]
    fn a_frame_that_a_reset_cut_costs_only_itself() {
        let mut decoder = PortDecoder::new();
        let cut = bytes(0, "long enough to be cut");
        let stream = [&cut[..9], &[0], &bytes(1, "next life")].concat();
        let got = push(&mut decoder, &stream);
        assert!(matches!(got[..], [Err(Trouble::NotCobs(9) | Trouble::NotARecord(9)), Ok(1)]), "{got:?}");
        assert_eq!(push(&mut decoder, &cut[..5]), []);
        assert_eq!(decoder.end(), Some(Trouble::CutOff(5)));
        assert_eq!(decoder.troubles(), 2);
    }

    #[test]
    fn a_frame_without_end_is_bounded() {
        let mut decoder = PortDecoder::new();
        assert_eq!(push(&mut decoder, &[1; 3 * FRAME_MAX]), []);
        assert!(decoder.frame.len() <= FRAME_MAX);
        assert_eq!(push(&mut decoder, &[0]), [Err(Trouble::TooLong(3 * FRAME_MAX))]);
        assert_eq!(push(&mut decoder, &bytes(5, "x")), [Ok(5)]);
    }

    #[test]
    fn bytes_behind_a_record_make_the_frame_no_record() {
        let mut body = postcard::to_stdvec(&Record {
            incarnation: None,
            at: Instant(0),
            seq: 0,
            lamport: 0,
            event: Event::Halt { reason: "x" },
        })
        .expect("memory");
        body.push(7);
        let mut frame = vec![0; body.len() + 4];
        let length = cobs::encode(&body, &mut frame);
        frame.truncate(length);
        frame.push(0);
        assert_eq!(push(&mut PortDecoder::new(), &frame), [Err(Trouble::NotARecord(length))]);
    }

    proptest! {
        #[test]
        fn garbage_never_stops_the_decoder(noise in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut decoder = PortDecoder::new();
            push(&mut decoder, &noise);
            push(&mut decoder, &[0]);
            prop_assert_eq!(push(&mut decoder, &bytes(3, "ok")), [Ok(3)]);
        }

        #[test]
        fn one_damaged_byte_costs_at_most_two_records(at in 0usize..60, flip in 1u8..=255) {
            let one = bytes(1, "the record that is hit by chance");
            let mut stream = [one.clone(), bytes(2, "next"), bytes(3, "last")].concat();
            stream[at % one.len()] ^= flip;
            let got = push(&mut PortDecoder::new(), &stream);
            prop_assert_eq!(got.last(), Some(&Ok(3)));
        }
    }
}
