//! One session with one connection: login, commands one at a time, logout.
//!
//! ```text
//! security negotiation --AuthMethod=None--> operational negotiation --> full feature phase
//! command --immediate data, then whatever the target asks for--> Data-In … Response
//! ```
//! Deviation: an error ends the session (error recovery level 0), and nobody makes it anew but the caller.

use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::error::IscsiError;
use crate::pdu::{NO_TAG, Pdu, receive, send};
use crate::portal::Portal;

/// Bytes of one data segment that a target takes if it declares nothing else (RFC 7143 §13.12).
const SEGMENT_BYTES: usize = 8192;

/// Our keys of the operational negotiation: the plainest of everything.
const OPERATIONAL: &[u8] =
    b"HeaderDigest=None\0DataDigest=None\0ErrorRecoveryLevel=0\0InitialR2T=Yes\0ImmediateData=Yes\0\
MaxRecvDataSegmentLength=262144\0MaxBurstLength=262144\0FirstBurstLength=8192\0MaxConnections=1\0MaxOutstandingR2T=1\0\
DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0";

/// Answers of a login at most; two stages and a few rounds each.
const LOGIN_ROUNDS_MAX: u32 = 16;

/// Units that a command may be answered with at most.
const REPLY_PDUS_MAX: u32 = 4096;

/// A session in full feature phase. Dropping it logs out.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    address: String,
    lun: [u8; 8],
    task: u32,
    command: u32,
    expected_status: u32,
    immediate: bool,
}

/// How a command ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reply {
    /// SCSI status.
    pub status: u8,
    /// Sense data.
    pub sense: Vec<u8>,
    /// What it read.
    pub data: Vec<u8>,
}

/// A stage of the login (RFC 7143 §11.12.3).
const SECURITY: u8 = 0;
const OPERATION: u8 = 1;
const FULL_FEATURE: u8 = 3;

impl Session {
    /// Logs in at a target as initiator `name`. Nothing takes longer than `patience`, each for itself.
    ///
    /// # Errors
    /// If nobody answers, or the login is refused.
    pub fn login(portal: &Portal, name: &str, patience: Duration) -> Result<Self, IscsiError> {
        let address = portal.address();
        let unreachable = |error| IscsiError::Unreachable { address: address.clone(), error };
        let stream = connect(&address, patience).map_err(unreachable)?;
        let (lun, immediate) = (portal.lun_bytes(), true);
        let mut session = Self { stream, address, lun, task: 0, command: 1, expected_status: 0, immediate };
        let names =
            format!("InitiatorName={name}\0TargetName={}\0SessionType=Normal\0AuthMethod=None\0", portal.target);
        session.stage((SECURITY, OPERATION), names.as_bytes())?;
        let said = session.stage((OPERATION, FULL_FEATURE), OPERATIONAL)?;
        session.immediate = !said.split(|b| *b == 0).any(|pair| pair == b"ImmediateData=No");
        Ok(session)
    }

    /// One stage of the login: our keys, then rounds until the target goes on. Returns what it said.
    fn stage(&mut self, (from, to): (u8, u8), keys: &[u8]) -> Result<Vec<u8>, IscsiError> {
        let mut said = Vec::new();
        let mut keys = keys.to_vec();
        for _ in 0..LOGIN_ROUNDS_MAX {
            let mut request = Pdu::new(send::LOGIN | send::IMMEDIATE, 0x80 | from << 2 | to);
            // Any unique identifier: type "random" (RFC 7143 §11.12.5) and this process.
            request.set(8, &[0x80]);
            request.set(9, &std::process::id().to_be_bytes());
            request.set_word(24, self.command);
            request.set_word(28, self.expected_status);
            request.data = std::mem::take(&mut keys);
            self.send(&request)?;
            let answer = self.receive()?;
            if answer.opcode() != receive::LOGIN {
                return Err(IscsiError::Protocol("another answer than one to the login"));
            }
            if answer.header[36] != 0 {
                let why = refusal(answer.header[36], answer.header[37]);
                return Err(IscsiError::Refused { address: self.address.clone(), why });
            }
            self.expected_status = answer.word(24).wrapping_add(1);
            said.extend_from_slice(&answer.data);
            if answer.header[1] & 0x80 != 0 {
                return Ok(said);
            }
        }
        Err(IscsiError::Protocol("a login without an end"))
    }

    /// Carries out a command that writes `out` and reads up to `read` bytes.
    ///
    /// # Errors
    /// If the connection breaks. A status other than GOOD is a reply, not an error.
    pub fn execute(&mut self, cdb: &[u8], out: &[u8], read: usize) -> Result<Reply, IscsiError> {
        self.task = self.task.wrapping_add(1);
        let writes = if out.is_empty() { 0 } else { 0x20 };
        let reads = if read == 0 { 0 } else { 0x40 };
        let simple = 1;
        let mut request = Pdu::new(send::COMMAND, 0x80 | writes | reads | simple);
        request.set(8, &self.lun);
        request.set_word(16, self.task);
        request.set_word(20, out.len().max(read) as u32);
        request.set_word(24, self.command);
        request.set_word(28, self.expected_status);
        request.set(32, cdb);
        if self.immediate {
            request.data = out[..out.len().min(SEGMENT_BYTES)].to_vec();
        }
        self.command = self.command.wrapping_add(1);
        self.send(&request)?;
        self.reply(out, read)
    }

    fn reply(&mut self, out: &[u8], read: usize) -> Result<Reply, IscsiError> {
        let mut reply = Reply { data: vec![0; read], ..Reply::default() };
        let mut filled = 0;
        for _ in 0..REPLY_PDUS_MAX {
            let pdu = self.receive()?;
            match pdu.opcode() {
                receive::DATA => {
                    let at = pdu.word(40) as usize;
                    let place = at.checked_add(pdu.data.len()).and_then(|end| reply.data.get_mut(at..end));
                    place.ok_or(IscsiError::Protocol("data beyond what was asked for"))?.copy_from_slice(&pdu.data);
                    filled = filled.max(at + pdu.data.len());
                    if pdu.header[1] & 1 != 0 {
                        self.expected_status = pdu.word(24).wrapping_add(1);
                        reply.status = pdu.header[3];
                        break;
                    }
                }
                receive::RESPONSE => {
                    self.expected_status = pdu.word(24).wrapping_add(1);
                    if pdu.header[2] != 0 {
                        return Err(IscsiError::Protocol("the command was not carried out at the target"));
                    }
                    reply.status = pdu.header[3];
                    reply.sense = pdu.data.get(2..).unwrap_or_default().to_vec();
                    break;
                }
                receive::READY => self.hand_over(&pdu, out)?,
                receive::NOP => self.answer(&pdu)?,
                _ => return Err(IscsiError::Protocol("an answer to nothing that was asked")),
            }
        }
        reply.data.truncate(filled);
        Ok(reply)
    }

    /// Sends the part of the data that the target is ready for.
    fn hand_over(&mut self, ready: &Pdu, out: &[u8]) -> Result<(), IscsiError> {
        let (from, length) = (ready.word(40) as usize, ready.word(44) as usize);
        let part = from.checked_add(length).and_then(|end| out.get(from..end));
        let part = part.ok_or(IscsiError::Protocol("it asks for more data than the command has"))?;
        let pieces = part.chunks(SEGMENT_BYTES);
        let last = pieces.len().saturating_sub(1);
        for (number, piece) in pieces.enumerate() {
            let mut data = Pdu::new(send::DATA, if number == last { 0x80 } else { 0 });
            data.set(8, &self.lun);
            data.set_word(16, ready.word(16));
            data.set_word(20, ready.word(20));
            data.set_word(28, self.expected_status);
            data.set_word(36, number as u32);
            data.set_word(40, (from + number * SEGMENT_BYTES) as u32);
            data.data = piece.to_vec();
            self.send(&data)?;
        }
        Ok(())
    }

    /// Answers a target that asks whether anybody is there.
    fn answer(&mut self, ping: &Pdu) -> Result<(), IscsiError> {
        if ping.word(20) == NO_TAG {
            return Ok(());
        }
        let mut pong = Pdu::new(send::NOP | send::IMMEDIATE, 0x80);
        pong.set(8, &ping.header[8..16]);
        pong.set_word(16, NO_TAG);
        pong.set_word(20, ping.word(20));
        pong.set_word(24, self.command);
        pong.set_word(28, self.expected_status);
        self.send(&pong)
    }

    fn send(&mut self, pdu: &Pdu) -> Result<(), IscsiError> {
        pdu.write(&mut self.stream).map_err(|error| self.broken(error))
    }

    fn receive(&mut self) -> Result<Pdu, IscsiError> {
        Pdu::read(&mut self.stream).map_err(|error| self.broken(error))
    }

    fn broken(&self, error: io::Error) -> IscsiError {
        IscsiError::Unreachable { address: self.address.clone(), error }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // "Close the session"; whether the target hears it no longer matters.
        let mut logout = Pdu::new(send::LOGOUT | send::IMMEDIATE, 0x80);
        logout.set_word(16, self.task.wrapping_add(1));
        logout.set_word(24, self.command);
        logout.set_word(28, self.expected_status);
        if logout.write(&mut self.stream).is_ok() {
            let _ = self.stream.flush();
        }
    }
}

fn connect(address: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for place in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&place, patience) {
            Ok(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// RFC 7143 §11.13.5.
fn refusal(class: u8, detail: u8) -> &'static str {
    match (class, detail) {
        (1, _) => "it names another place (redirection is not followed)",
        (2, 1) => "it wants authentication (CHAP is not supported)",
        (2, 2) => "this initiator may not use that target",
        (2, 3) => "there is no such target",
        (2, 4) => "that target was removed",
        (2, _) => "it does not like the request",
        (3, 1) => "its service is unavailable",
        (3, 2) => "it is out of resources",
        _ => "it gives no known reason",
    }
}
