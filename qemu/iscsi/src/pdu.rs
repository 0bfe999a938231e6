//! Protocol data units: a header of 48 bytes and a data segment (RFC 7143 §11). No additional headers, no digests.

use std::io::{self, Read, Write};

/// Bytes of a basic header segment.
pub const HEADER_BYTES: usize = 48;

/// Data that a unit may bring: what we declare, and more than any answer to our commands.
pub const DATA_MAX: usize = 256 << 10;

/// An initiator task tag, or target transfer tag, that stands for none.
pub const NO_TAG: u32 = 0xffff_ffff;

/// Opcodes of what we send (RFC 7143 §11.2.1.2).
pub mod send {
    /// NOP-Out.
    pub const NOP: u8 = 0x00;
    /// SCSI Command.
    pub const COMMAND: u8 = 0x01;
    /// Login Request.
    pub const LOGIN: u8 = 0x03;
    /// SCSI Data-Out.
    pub const DATA: u8 = 0x05;
    /// Logout Request.
    pub const LOGOUT: u8 = 0x06;
    /// To be carried out ahead of the sequence.
    pub const IMMEDIATE: u8 = 0x40;
}

/// Opcodes of what the target sends.
pub mod receive {
    /// NOP-In.
    pub const NOP: u8 = 0x20;
    /// SCSI Response.
    pub const RESPONSE: u8 = 0x21;
    /// Login Response.
    pub const LOGIN: u8 = 0x23;
    /// SCSI Data-In.
    pub const DATA: u8 = 0x25;
    /// Ready To Transfer.
    pub const READY: u8 = 0x31;
}

/// One unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pdu {
    /// The header; its length fields are set when it is sent.
    pub header: [u8; HEADER_BYTES],
    /// The data segment, without padding.
    pub data: Vec<u8>,
}

impl Pdu {
    /// With an opcode and its flags (byte 1).
    pub fn new(opcode: u8, flags: u8) -> Self {
        let mut header = [0; HEADER_BYTES];
        (header[0], header[1]) = (opcode, flags);
        Self { header, data: Vec::new() }
    }

    /// What it is, without the immediate bit.
    pub fn opcode(&self) -> u8 {
        self.header[0] & 0x3f
    }

    /// A field of four bytes.
    pub fn word(&self, at: usize) -> u32 {
        self.header.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
    }

    /// Sets a field of four bytes.
    pub fn set_word(&mut self, at: usize, value: u32) {
        self.set(at, &value.to_be_bytes());
    }

    /// Sets a field. One that does not fit the header is a bug of ours and is left out.
    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        if let Some(field) = self.header.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    }

    /// Sends it.
    ///
    /// # Errors
    /// The stream's.
    pub fn write(&self, stream: &mut impl Write) -> io::Result<()> {
        let mut bytes = self.header.to_vec();
        let length = (self.data.len() as u32).to_be_bytes();
        bytes[4..8].copy_from_slice(&[0, length[1], length[2], length[3]]);
        bytes.extend_from_slice(&self.data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        stream.write_all(&bytes)
    }

    /// Receives one.
    ///
    /// # Errors
    /// The stream's, or a unit that is longer than allowed.
    pub fn read(stream: &mut impl Read) -> io::Result<Self> {
        let mut header = [0; HEADER_BYTES];
        stream.read_exact(&mut header)?;
        let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
        if length > DATA_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a data segment that is too long"));
        }
        let mut more = vec![0; usize::from(header[4]) * 4];
        stream.read_exact(&mut more)?;
        let mut data = vec![0; length.next_multiple_of(4)];
        stream.read_exact(&mut data)?;
        data.truncate(length);
        Ok(Self { header, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_unit_is_its_header_its_data_and_padding() {
        let mut pdu = Pdu::new(send::COMMAND, 0x80);
        pdu.set_word(16, 0x0102_0304);
        pdu.data = b"hello".to_vec();
        let mut bytes = Vec::new();
        pdu.write(&mut bytes).unwrap();
        assert_eq!(bytes.len(), HEADER_BYTES + 8);
        assert_eq!(bytes[..8], [1, 0x80, 0, 0, 0, 0, 0, 5]);
        assert_eq!(bytes[16..20], [1, 2, 3, 4]);
        assert_eq!(bytes[48..], *b"hello\0\0\0");
        let read = Pdu::read(&mut bytes.as_slice()).unwrap();
        assert_eq!((read.opcode(), read.word(16), read.data), (1, 0x0102_0304, b"hello".to_vec()));
    }

    #[test]
    fn a_length_that_nobody_would_send_is_refused_before_memory_is_taken_for_it() {
        let mut bytes = [0; HEADER_BYTES];
        bytes[5] = 0xff;
        assert_eq!(Pdu::read(&mut bytes.as_slice()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_unit_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pdu::read(&mut bytes.as_slice());
        }
    }
}
