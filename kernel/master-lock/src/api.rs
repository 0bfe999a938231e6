//! What goes into the machine and what comes out of it.

use quorate_base::reservation::ReservationAnswer;
use quorate_base::{
    Ballot, BootNonce, ClusterId, DiskError, DiskOp, DiskTag, HaltReason, Incarnation, NodeId, NodeSet, NodeState,
    ReservationError, ReservationOp, Timing, ViewName,
};
use quorate_database::{BallotBlock, Blanks, Block, Heartbeat};

/// What the birth of this incarnation read of its own records before it wrote its identity (DESIGN 3).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct OwnRecords {
    /// The last heartbeat of the old life.
    pub heartbeat: Block<Heartbeat>,
    /// Both ballot slots.
    pub ballots: [Block<BallotBlock>; 2],
    /// The old life ended with a clean mark, or there was none. If false, the ballot block is neither written nor relied
    /// on until the old life's forced leave is done or `dead` has passed.
    pub clean: bool,
}

/// Where the database stands on the disk. Only for the trace of shared writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct DiskGeometry {
    /// The logical block at which the database's partition begins.
    pub first_lba: u64,
    /// Logical blocks from one record to the next.
    pub blocks_per_record: u32,
}

/// What the machine has to know for its whole life.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// This life.
    pub incarnation: Incarnation,
    /// This boot.
    pub nonce: BootNonce,
    /// The cluster whose records count.
    pub cluster: ClusterId,
    /// Configured nodes: `0..nodes`.
    pub nodes: u8,
    /// The cluster's time-outs.
    pub timing: Timing,
    /// The tags of this machine's requests are `first_tag..first_tag + TAGS`.
    pub first_tag: u32,
    /// What stands in the database where a node has not written yet.
    pub blanks: Blanks,
    /// What birth read.
    pub own: OwnRecords,
    /// For the trace.
    pub geometry: DiskGeometry,
}

/// What this node tells about itself in its next heartbeats.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Status {
    /// Its overall state by the newest view that it knows.
    pub state: NodeState,
    /// Whom it hears on the interconnect.
    pub hears: NodeSet,
    /// Its NIC has a link.
    pub carrier: bool,
    /// All frame counters that it used are below this.
    pub frame_floor: u64,
}

/// One input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input<'a> {
    /// Time passed ([`MasterLock::poll_timeout`](crate::MasterLock::poll_timeout) was reached), or a method set something.
    Tick,
    /// A request is done: for a read with the bytes of its records, each at the start of its pitch.
    Disk {
        /// Which.
        tag: DiskTag,
        /// How it ended. No answer may come while the fate of the request is open (DESIGN 3, *one write at a time*).
        result: Result<&'a [u8], DiskError>,
    },
    /// The command of the own registration is done.
    Reservation(Result<&'a ReservationAnswer, ReservationError>),
}

/// One output.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(clippy::large_enum_variant, reason = "a record travels by value: there is no allocator")]
pub enum Output {
    /// Begin a disk request. At most one is under way.
    Disk {
        /// To be given back with its completion.
        tag: DiskTag,
        /// What.
        op: DiskOp,
    },
    /// Begin a command of the own registration. At most one is under way, beside the disk request.
    Reservation(ReservationOp),
    /// Something changed.
    Event(LockEvent),
    /// The node must halt. Nothing comes after it.
    Halt(HaltReason),
}

/// What changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LockEvent {
    /// A beat is complete, the peers' records are fresh.
    Beat,
    /// This node is master.
    Acquired {
        /// Under which ballot.
        ballot: Ballot,
        /// The newest view, accepted again under this ballot and so committed.
        name: ViewName,
    },
    /// A higher promise was seen: this node is no longer master.
    Lost {
        /// The promise.
        to: Ballot,
    },
    /// The lock was given back; durable.
    Released,
    /// The proposed view is committed.
    Committed {
        /// It.
        name: ViewName,
    },
    /// The lock was lost while a view was proposed: another may yet commit it. Tell nobody yes or no.
    Unknown {
        /// It.
        name: ViewName,
    },
    /// A newer committed view became known from the disk.
    Learned {
        /// It.
        name: ViewName,
    },
    /// The lease has run out.
    Frozen,
    /// A full beat gave the lease back.
    Thawed,
    /// The clean mark is durable; nothing is written after it.
    Farewell,
}

/// Why a view was not taken for a commit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProposeError {
    /// This node is not master.
    NotMaster,
    /// A change is under way: one at a time.
    Busy,
    /// The number is not the committed view's plus one; that would be this.
    NotNext(u64),
    /// More incarnations change than the ballot block's undo record holds.
    TooManyChanges,
}

impl core::fmt::Display for ProposeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotMaster => f.write_str("this node is not master"),
            Self::Busy => f.write_str("another view is being committed"),
            Self::NotNext(number) => write!(f, "the next view has number {number}"),
            Self::TooManyChanges => f.write_str("too many changes in one view"),
        }
    }
}

impl core::error::Error for ProposeError {}

/// Counts for `status`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Counters {
    /// Disk reads begun.
    pub reads: u64,
    /// Disk writes begun.
    pub writes: u64,
    /// Beats completed.
    pub beats: u64,
    /// Requests that failed.
    pub errors: u64,
}
