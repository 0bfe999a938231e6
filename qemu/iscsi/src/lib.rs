//! A small iSCSI initiator for the harness: an outsider who looks at a cluster's disk. It reads and writes blocks, and
//! reads what is registered and reserved there; it never registers a key.
//!
//! ```text
//! Portal::parse("iscsi://…")  ->  Session::login()  ->  Unit::open()  .read() .write() .keys() .reservation()
//! ```
//! One session, one connection, one command at a time, no digests, no authentication.
//!
//! Source: RFC 7143 (iSCSI), SPC-4, SBC-3.
#![forbid(unsafe_code)]

mod error;
mod pdu;
mod portal;
mod session;
mod unit;

pub use error::IscsiError;
pub use portal::{Portal, PortalError};
pub use session::Session;
pub use unit::{Abilities, Reservation, Unit};
