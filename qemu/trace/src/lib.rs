//! What a run leaves behind: a node's trace port decoded, one line per event, one clock for all lines.
//!
//! * [`PortDecoder`] turns the bytes of a trace port into records.
//! * [`Line`] is one line of a trace file: from a record, from the harness, to and from JSON.
//! * [`TraceStore`] keeps a run's lines, stamps them, writes them to a file and wakes those who wait for one.
//! * [`LogTable`] and [`LogStream`] decode a node's log.
#![forbid(unsafe_code)]

mod line;
mod log;
mod port;
mod record;
mod store;

pub use line::{Line, LineError};
pub use log::{LogError, LogLine, LogStream, LogTable};
pub use port::{PortDecoder, Trouble};
pub use store::{Mark, TraceStore};
