//! Capture files in the classic pcap form: written for people with a packet analyser, read for frames to inject.
//!
//! Source: the pcap file format (draft-ietf-opsawg-pcap). Captures are written little-endian with µs; all four
//! combinations of byte order and resolution are read.

use std::fmt;
use std::io::{self, Write};

const MAGIC_US: u32 = 0xa1b2_c3d4;
const MAGIC_NS: u32 = 0xa1b2_3c4d;
const LINK_ETHERNET: u32 = 1;
const HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 16;

/// Longest frame that is read or written. Larger than any datagram that the switch takes.
const FRAME_MAX: u32 = 65_536;

/// Writes frames to a capture.
#[derive(Debug)]
pub struct Writer<W: Write>(W);

impl<W: Write> Writer<W> {
    /// Begins a capture.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC_US.to_le_bytes())?;
        out.write_all(&2u16.to_le_bytes())?;
        out.write_all(&4u16.to_le_bytes())?;
        out.write_all(&[0; 8])?;
        out.write_all(&FRAME_MAX.to_le_bytes())?;
        out.write_all(&LINK_ETHERNET.to_le_bytes())?;
        Ok(Self(out))
    }

    /// Adds a frame that came in `at_us` µs after the capture's start.
    ///
    /// # Errors
    /// Those of the underlying writer.
    pub fn frame(&mut self, at_us: u64, frame: &[u8]) -> io::Result<()> {
        let frame = frame.get(..FRAME_MAX as usize).unwrap_or(frame);
        let length = frame.len() as u32;
        self.0.write_all(&((at_us / 1_000_000) as u32).to_le_bytes())?;
        self.0.write_all(&((at_us % 1_000_000) as u32).to_le_bytes())?;
        self.0.write_all(&length.to_le_bytes())?;
        self.0.write_all(&length.to_le_bytes())?;
        self.0.write_all(frame)
    }

    /// Hands buffered bytes on.
    ///
    /// # Errors
    /// Those of the underlying writer.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Why a file is no usable capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PcapError {
    /// It does not begin with a pcap header.
    NotPcap,
    /// Its frames are not Ethernet; the link type that it names.
    NotEthernet(u32),
    /// It ends within a record; how many whole frames came before.
    CutOff(usize),
    /// A record claims a length that no frame has; its number, from 0.
    TooLong(usize),
}

impl fmt::Display for PcapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPcap => f.write_str("not a pcap file (pcapng is not read)"),
            Self::NotEthernet(link) => write!(f, "frames of link type {link}, not Ethernet"),
            Self::CutOff(frames) => write!(f, "cut off after {frames} whole frames"),
            Self::TooLong(frame) => write!(f, "frame {frame} claims more than {FRAME_MAX} bytes"),
        }
    }
}

impl std::error::Error for PcapError {}

/// The frames of a capture.
///
/// # Errors
/// If the bytes are no capture of Ethernet frames.
pub fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, PcapError> {
    let header = bytes.get(..HEADER_BYTES).ok_or(PcapError::NotPcap)?;
    let little = [MAGIC_US, MAGIC_NS].contains(&word(header, 0, true).ok_or(PcapError::NotPcap)?);
    let big = [MAGIC_US, MAGIC_NS].contains(&word(header, 0, false).ok_or(PcapError::NotPcap)?);
    if !little && !big {
        return Err(PcapError::NotPcap);
    }
    let link = word(header, 20, little).ok_or(PcapError::NotPcap)? & 0xffff;
    if link != LINK_ETHERNET {
        return Err(PcapError::NotEthernet(link));
    }
    let mut frames = Vec::new();
    let mut rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
    while !rest.is_empty() {
        let length = word(rest, 8, little).ok_or(PcapError::CutOff(frames.len()))?;
        if length > FRAME_MAX {
            return Err(PcapError::TooLong(frames.len()));
        }
        let end = RECORD_HEADER_BYTES + length as usize;
        let frame = rest.get(RECORD_HEADER_BYTES..end).ok_or(PcapError::CutOff(frames.len()))?;
        frames.push(frame.to_vec());
        rest = rest.get(end..).unwrap_or_default();
    }
    Ok(frames)
}

fn word(bytes: &[u8], at: usize, little: bool) -> Option<u32> {
    let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes).expect("memory");
        writer.frame(1_500_000, &[1, 2, 3]).expect("memory");
        writer.frame(2_000_000, &[4; 60]).expect("memory");
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = capture();
        assert_eq!(&bytes[..8], [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0]);
        assert_eq!(read(&bytes), Ok(vec![vec![1, 2, 3], vec![4; 60]]));
    }

    #[test]
    fn damaged_captures_are_refused_by_name() {
        let bytes = capture();
        assert_eq!(read(&[]), Err(PcapError::NotPcap));
        assert_eq!(read(&[0; 64]), Err(PcapError::NotPcap));
        assert_eq!(read(&bytes[..bytes.len() - 1]), Err(PcapError::CutOff(1)));
        assert_eq!(read(&bytes[..30]), Err(PcapError::CutOff(0)));
        let mut other = bytes.clone();
        other[20] = 113;
        assert_eq!(read(&other), Err(PcapError::NotEthernet(113)));
        let mut long = bytes;
        long[35] = 0xff;
        assert_eq!(read(&long), Err(PcapError::TooLong(0)));
    }

    #[test]
    fn big_endian_captures_are_read() {
        let mut bytes = vec![0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4];
        bytes.extend([0; 8]);
        bytes.extend(65_536u32.to_be_bytes());
        bytes.extend(1u32.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend(2u32.to_be_bytes());
        bytes.extend(2u32.to_be_bytes());
        bytes.extend([7, 8]);
        assert_eq!(read(&bytes), Ok(vec![vec![7, 8]]));
    }
}
