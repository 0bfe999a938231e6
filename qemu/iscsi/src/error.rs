//! What can go wrong between the harness and a target.

use std::fmt;
use std::io;

/// Why something could not be done at a target.
#[derive(Debug)]
pub enum IscsiError {
    /// Nobody answers there, or the connection broke.
    Unreachable {
        /// Where, `host:port`.
        address: String,
        /// How it failed.
        error: io::Error,
    },
    /// The target refused the login.
    Refused {
        /// Where.
        address: String,
        /// The reason, RFC 7143 §11.13.5.
        why: &'static str,
    },
    /// It said something that the protocol does not have, or that we cannot do.
    Protocol(&'static str),
    /// A command ended with another status than GOOD.
    Command {
        /// The command's name.
        command: &'static str,
        /// SCSI status.
        status: u8,
        /// Sense key, additional code and qualifier, if there is sense data.
        sense: Option<(u8, u8, u8)>,
    },
}

impl fmt::Display for IscsiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { address, error } => write!(f, "no iSCSI target answers at {address}: {error}"),
            Self::Refused { address, why } => write!(f, "the iSCSI target at {address} refuses the login: {why}"),
            Self::Protocol(what) => write!(f, "the iSCSI target does not keep the protocol: {what}"),
            Self::Command { command, status: 0x18, .. } => write!(f, "{command}: reservation conflict"),
            Self::Command { command, status, sense: None } => write!(f, "{command}: status {status:#04x}"),
            Self::Command { command, sense: Some((key, code, qualifier)), .. } => {
                write!(f, "{command}: sense {key:x}/{code:02x}/{qualifier:02x}")
            }
        }
    }
}

impl std::error::Error for IscsiError {}
