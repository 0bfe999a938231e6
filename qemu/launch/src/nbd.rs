//! The server side of the network block device protocol, as far as QEMU uses it: bytes in and out, no policy.
//!
//! Fixed newstyle handshake, one export, simple replies. What a request does to the disk is decided in [`crate::disk`].
//!
//! Source: the NBD protocol description (doc/proto.md of the NBD project).

use std::io::{self, ErrorKind, Read, Write};

const MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;

const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;

const ACKNOWLEDGED: u32 = 1;
const INFORMATION: u32 = 3;
const UNSUPPORTED: u32 = 0x8000_0001;

const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

/// Flags of the export: they are there, it can be flushed, writes can be durable.
const EXPORT_FLAGS: u16 = 1 | 4 | 8;

const COMMAND_FUA: u16 = 1;

/// Bytes of one option at most.
const OPTION_BYTES_MAX: u32 = 4096;

/// Bytes of one request at most: what is offered to the client.
pub const REQUEST_BYTES_MAX: u32 = 4 << 20;

/// An I/O error, as the protocol numbers it.
pub const ERROR_IO: u32 = 5;

/// A malformed request, as the protocol numbers it.
pub const ERROR_INVALID: u32 = 22;

/// What a client wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Bytes from a place.
    Read {
        /// Where.
        offset: u64,
        /// How many.
        length: u32,
    },
    /// Bytes to a place.
    Write {
        /// Where.
        offset: u64,
        /// Which.
        bytes: Vec<u8>,
        /// Answered only when they would survive a power failure.
        durable: bool,
    },
    /// Everything written before is to survive a power failure.
    Flush,
    /// Something that was not offered, or is too long.
    Unknown,
}

/// One request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The client's name for it.
    pub handle: u64,
    /// What it wants.
    pub command: Command,
}

/// Agrees with a client on an export of `size` bytes. False if the client went away in an orderly manner.
///
/// # Errors
/// If the connection breaks or the client speaks something else.
pub fn greet(stream: &mut (impl Read + Write), size: u64) -> io::Result<bool> {
    stream.write_all(&[&MAGIC.to_be_bytes()[..], &OPTION_MAGIC.to_be_bytes()].concat())?;
    stream.write_all(&(FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes())?;
    let client_flags = u32::from_be_bytes(take(stream)?);
    loop {
        if u64::from_be_bytes(take(stream)?) != OPTION_MAGIC {
            return Err(other("no option where one must be"));
        }
        let option = u32::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        if length > OPTION_BYTES_MAX {
            return Err(other("an option that is too long"));
        }
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data)?;
        match option {
            OPTION_EXPORT_NAME => {
                stream.write_all(&[&size.to_be_bytes()[..], &EXPORT_FLAGS.to_be_bytes()].concat())?;
                if client_flags & u32::from(NO_ZEROES) == 0 {
                    stream.write_all(&[0; 124])?;
                }
                return Ok(true);
            }
            OPTION_GO | OPTION_INFO => {
                let export = [&INFO_EXPORT.to_be_bytes()[..], &size.to_be_bytes(), &EXPORT_FLAGS.to_be_bytes()];
                option_reply(stream, option, INFORMATION, &export.concat())?;
                let sizes = [1, 4096, REQUEST_BYTES_MAX].map(u32::to_be_bytes).concat();
                option_reply(stream, option, INFORMATION, &[&INFO_BLOCK_SIZE.to_be_bytes()[..], &sizes].concat())?;
                option_reply(stream, option, ACKNOWLEDGED, &[])?;
                if option == OPTION_GO {
                    return Ok(true);
                }
            }
            OPTION_ABORT => {
                option_reply(stream, option, ACKNOWLEDGED, &[])?;
                return Ok(false);
            }
            _ => option_reply(stream, option, UNSUPPORTED, &[])?,
        }
    }
}

/// The next request; `None` when the client says goodbye.
///
/// # Errors
/// If the connection breaks or the client speaks something else.
pub fn request(stream: &mut impl Read) -> io::Result<Option<Request>> {
    if u32::from_be_bytes(take(stream)?) != REQUEST_MAGIC {
        return Err(other("no request where one must be"));
    }
    let flags = u16::from_be_bytes(take(stream)?);
    let kind = u16::from_be_bytes(take(stream)?);
    let handle = u64::from_be_bytes(take(stream)?);
    let offset = u64::from_be_bytes(take(stream)?);
    let length = u32::from_be_bytes(take(stream)?);
    let command = match kind {
        0 if length <= REQUEST_BYTES_MAX => Command::Read { offset, length },
        1 => {
            if length > REQUEST_BYTES_MAX {
                // The bytes follow the request: without taking them the stream cannot be read on.
                return Err(other("a write that is too long"));
            }
            let mut bytes = vec![0; length as usize];
            stream.read_exact(&mut bytes)?;
            Command::Write { offset, bytes, durable: flags & COMMAND_FUA != 0 }
        }
        2 => return Ok(None),
        3 => Command::Flush,
        _ => Command::Unknown,
    };
    Ok(Some(Request { handle, command }))
}

/// Answers a request: the bytes that were read (none for other requests), or an error number.
///
/// # Errors
/// If the connection breaks.
pub fn reply(stream: &mut impl Write, handle: u64, outcome: Result<&[u8], u32>) -> io::Result<()> {
    let (error, bytes) = match outcome {
        Ok(bytes) => (0, bytes),
        Err(error) => (error, &[][..]),
    };
    let head = [&REPLY_MAGIC.to_be_bytes()[..], &error.to_be_bytes(), &handle.to_be_bytes()];
    stream.write_all(&[&head.concat(), bytes].concat())
}

fn option_reply(stream: &mut impl Write, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let head = [option, kind, data.len() as u32].map(u32::to_be_bytes).concat();
    stream.write_all(&[&OPTION_REPLY_MAGIC.to_be_bytes()[..], &head, data].concat())
}

fn take<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn other(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    /// What a client says, and what it is told.
    struct Talk(Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Talk {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Talk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn talk(bytes: &[u8]) -> Talk {
        Talk(Cursor::new(bytes.to_vec()), Vec::new())
    }

    fn option(number: u32, data: &[u8]) -> Vec<u8> {
        [&OPTION_MAGIC.to_be_bytes()[..], &number.to_be_bytes(), &(data.len() as u32).to_be_bytes(), data].concat()
    }

    #[test]
    fn nbd_handshake_with_go_after_something_unknown() {
        let client = [&3u32.to_be_bytes()[..], &option(8, &[]), &option(OPTION_GO, &[0; 6])].concat();
        let mut stream = talk(&client);
        assert!(greet(&mut stream, 0x1234).expect("a good client"));
        let said = stream.1;
        assert_eq!(&said[..18], b"NBDMAGICIHAVEOPT\x00\x03");
        assert_eq!(
            &said[18..38],
            [&OPTION_REPLY_MAGIC.to_be_bytes()[..], &[0, 0, 0, 8, 0x80, 0, 0, 1, 0, 0, 0, 0]].concat()
        );
        assert_eq!(said[38 + 20..38 + 32], [0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0, 13]);
        assert_eq!(said[said.len() - 12..], [0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn nbd_requests_and_replies() {
        let head = |kind: u16, flags: u16, length: u32| {
            let head = [&REQUEST_MAGIC.to_be_bytes()[..], &flags.to_be_bytes(), &kind.to_be_bytes()].concat();
            [&head[..], &7u64.to_be_bytes(), &512u64.to_be_bytes(), &length.to_be_bytes()].concat()
        };
        let stream =
            [head(0, 0, 4096), head(1, 1, 2), vec![8, 9], head(3, 0, 0), head(4, 0, 1), head(2, 0, 0)].concat();
        let mut stream = Cursor::new(stream);
        let mut next = || request(&mut stream).expect("good").map(|r| (r.handle, r.command));
        assert_eq!(next(), Some((7, Command::Read { offset: 512, length: 4096 })));
        assert_eq!(next(), Some((7, Command::Write { offset: 512, bytes: vec![8, 9], durable: true })));
        assert_eq!(next(), Some((7, Command::Flush)));
        assert_eq!(next(), Some((7, Command::Unknown)));
        assert_eq!(next(), None);
        let mut out = Vec::new();
        reply(&mut out, 7, Ok(&[1])).expect("memory");
        reply(&mut out, 8, Err(ERROR_IO)).expect("memory");
        assert_eq!(
            out,
            [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 1]
                .iter()
                .chain(&[0x67, 0x44, 0x66, 0x98, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 8])
                .copied()
                .collect::<Vec<u8>>()
        );
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_nothing_worse(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = greet(&mut talk(&noise), 1);
            let _ = request(&mut Cursor::new(noise));
        }
    }
}
