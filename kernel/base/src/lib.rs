//! Words that every other crate of the cluster uses: who (`NodeId`, `Incarnation`, `NodeSet`), when (`Instant`,
//! `Timing`), in what state (`NodeState`, `Transition`, `View`), under whom (`Ballot`), what happened (`Event`), why it
//! ended (`HaltReason`), and the port traits through which the outside world is reached.
//!
//! Nothing here acts. No clock, no I/O, no allocator.
#![no_std]
#![forbid(unsafe_code)]

pub mod ballot;
pub mod capacity;
pub mod event;
pub mod halt;
pub mod id;
pub mod level;
pub mod port;
pub mod reservation;
pub mod state;
pub mod text;
pub mod time;
pub mod timing;
pub mod view;

pub use ballot::{Ballot, RoundId};
pub use event::{Event, LockPhase, Record, Trace, TraceSink};
pub use halt::HaltReason;
pub use id::{BootNonce, ClusterId, ClusterKey, Incarnation, NodeId, NodeSet};
pub use level::{Barriers, LevelDecl, LevelName, LevelOrder};
pub use port::{Clock, DiskError, DiskOp, DiskTag, FenceMethod, SharedDisk};
pub use reservation::{Attention, Preempted, Registrants, ReservationError, ReservationKey, ReservationOp};
pub use state::{NodeState, Transition};
pub use time::Instant;
pub use timing::Timing;
pub use view::{View, ViewName};
