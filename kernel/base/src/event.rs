//! Trace events: everything that an outside checker needs to know, typed. The field names on the host are those of the
//! harness contract; the wire form is postcard, framed by COBS, on the node's trace port.
//!
//! Machines do not queue events: they hand them to the [`Trace`] that each call is given, which stamps them with the
//! node's clock, sequence number and Lamport clock and passes them to the outside's [`TraceSink`].

use serde::{Deserialize, Serialize};

use crate::ballot::{Ballot, RoundId};
use crate::capacity::NODES_MAX;
use crate::id::{Incarnation, NodeId, NodeSet};
use crate::level::{Barriers, LevelOrder};
use crate::port::FenceMethod;
use crate::reservation::{ReservationKey, ReservationType};
use crate::state::{NodeState, Transition};
use crate::time::Instant;
use crate::view::{View, ViewName};

/// What the master lock is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum LockPhase {
    /// The node raised its flag.
    Want,
    /// It waits for another node's flag.
    Wait,
    /// The ballot is promised and the newest view accepted under it: this node is the master.
    Acquired,
    /// Given back.
    Released,
    /// A higher promise was seen.
    Lost,
}

/// What a suspicion rests on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Via {
    /// Frames.
    Net,
    /// Heartbeat blocks.
    Disk,
}

/// How this node's part in the reservation stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ReservationPhase {
    /// Registered, and a reservation stands.
    Stands,
    /// A conflict or a unit attention: nothing is written until it stands again and the views were looked at.
    Doubt,
    /// The own key is not registered any more.
    Absent,
}

impl ReservationPhase {
    /// The name in traces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stands => "stands",
            Self::Doubt => "doubt",
            Self::Absent => "absent",
        }
    }
}

/// One transition in a round.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Subject {
    /// The node in transition.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Which transition.
    pub transition: Transition,
}

/// A view's states and incarnations of the configured nodes, `0..` in order, as the trace carries it.
pub type Members = heapless::Vec<(NodeState, Incarnation), NODES_MAX>;

/// One step of a transition at one level, as notified and acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct StepEvent<'a> {
    /// The level's order.
    pub level: LevelOrder,
    /// The level's name.
    pub name: &'a str,
    /// The round.
    pub round: RoundId,
    /// Whose transition.
    pub subject: Subject,
    /// Which barrier, from 0.
    pub barrier: u8,
}

/// A step that was told and is not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Stall<'a> {
    /// Which. The name is empty if this node itself has no such level.
    #[serde(borrow)]
    pub step: StepEvent<'a>,
    /// Who owes the acknowledgement.
    pub awaiting: NodeSet,
    /// For how long, ms.
    pub waited_ms: u64,
}

/// One event. Names and fields as in the harness contract.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Event<'a> {
    /// First event of an incarnation.
    Boot {
        /// Version of the node image.
        version: &'a str,
        /// Kernel command line.
        cmdline: &'a str,
    },
    /// A level registered.
    Register {
        /// The level's order.
        level: LevelOrder,
        /// Its name.
        name: &'a str,
        /// Its barriers.
        barriers: Barriers,
    },
    /// A level de-registered.
    Deregister {
        /// The level's order.
        level: LevelOrder,
        /// Its name.
        name: &'a str,
        /// Its barriers.
        barriers: Barriers,
    },
    /// The master lock moved.
    Lock {
        /// What it does.
        phase: LockPhase,
        /// Under which ballot (for want and wait: the highest that was seen).
        ballot: Ballot,
    },
    /// This node adopted a committed view.
    View {
        /// Ballot and number.
        name: ViewName,
        /// All configured nodes.
        members: Members,
    },
    /// The master began (or issued again) a round.
    Round {
        /// The level's order.
        level: LevelOrder,
        /// The round.
        round: RoundId,
        /// Its transitions.
        transitions: heapless::Vec<Subject, NODES_MAX>,
        /// Whose levels must acknowledge.
        participants: NodeSet,
    },
    /// A level was notified.
    #[serde(borrow)]
    Notify(StepEvent<'a>),
    /// The manager accepted a level's acknowledgement.
    Ack(StepEvent<'a>),
    /// A level acknowledged what was overtaken meanwhile.
    StaleAck(StepEvent<'a>),
    /// A subject's state after all nodes have acknowledged, at one level or as a whole.
    State {
        /// The node.
        subject: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
        /// The level's order; `None` for the node as a whole.
        level: Option<LevelOrder>,
        /// The state.
        is: NodeState,
    },
    /// A peer fell silent.
    Suspect {
        /// The peer.
        peer: NodeId,
        /// On which path.
        via: Via,
    },
    /// A peer is heard again.
    Trust {
        /// The peer.
        peer: NodeId,
        /// On which path.
        via: Via,
    },
    /// This node's lease ran out: it writes nothing shared but its heartbeat.
    Freeze {
        /// Why.
        why: &'a str,
    },
    /// A full beat gave the lease back.
    Thaw {
        /// Why.
        why: &'a str,
    },
    /// The lease was renewed (only with writes traced).
    Lease {
        /// When the heartbeat write was submitted.
        issued: Instant,
        /// When the lease ends.
        until: Instant,
    },
    /// A fence begins.
    FenceBegin {
        /// The victim.
        peer: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
        /// How.
        method: FenceMethod,
        /// Always true here; the field is the contract's.
        ok: bool,
    },
    /// A fence is through.
    Fence {
        /// The victim.
        peer: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
        /// How.
        method: FenceMethod,
        /// Whether it holds.
        ok: bool,
    },
    /// The master refused a join.
    Refuse {
        /// The joiner.
        peer: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
        /// Why.
        reason: &'a str,
    },
    /// A shared record was written (only with writes traced).
    SharedWrite {
        /// The region's name, `heartbeat.3`.
        region: &'a str,
        /// First logical block on the disk.
        lba: u64,
        /// How many logical blocks.
        blocks: u32,
        /// When it was submitted.
        issued: Instant,
    },
    /// An unwanted halt (EP's panic).
    Panic {
        /// Why.
        reason: &'a str,
    },
    /// A wanted halt.
    Halt {
        /// Why.
        reason: &'a str,
    },
    /// Something that a person may want to know at 3 a.m.: a damaged block, a refused message, a slow disk.
    Note {
        /// What, where, whose.
        what: &'a str,
    },
    /// The master: a told step has not been acknowledged for long. At 1, 2, 4, 8 … s.
    Waiting(Stall<'a>),
    /// The master: a told step has not been acknowledged within the level's deadline; those who owe it are forced out.
    Overdue(Stall<'a>),
    /// How this machine's last life ended: told once, after `boot`.
    Epitaph {
        /// That life's incarnation, if it knew it.
        incarnation: Option<Incarnation>,
        /// `halt`, `panic`, `bug`, `exception`, `watchdog` or `reset`.
        how: &'a str,
        /// Why, in its own words.
        reason: &'a str,
        /// When, by its own clock.
        at: Instant,
        /// Its last events: records, each behind its length. The epitaph's crate reads them.
        events: &'a [u8],
    },
    /// READ KEYS shows this life's key.
    RegisterKey {
        /// It.
        key: ReservationKey,
    },
    /// This node's part in the reservation changed.
    Reservation {
        /// To what.
        phase: ReservationPhase,
        /// The reservation's type.
        kind: ReservationType,
    },
    /// The master removes a key from the reservation.
    Preempt {
        /// Whose.
        peer: NodeId,
        /// Of which life.
        incarnation: Incarnation,
        /// The key.
        key: ReservationKey,
        /// With what that life has under way.
        abort: bool,
    },
    /// Group services begin another epoch, with these nodes.
    GroupEpoch {
        /// The place in the order.
        order: u64,
        /// Its name.
        epoch: GroupEpoch,
        /// Who is in it.
        nodes: NodeSet,
    },
    /// This node delivered a group message.
    GroupMessage {
        /// Where in the order.
        at: GroupPlace<'a>,
        /// The sender's node.
        from: NodeId,
        /// Its job.
        job: &'a str,
        /// To the member on this node alone.
        to: Option<NodeId>,
        /// Its length, bytes.
        bytes: u32,
        /// As much of it as is text, at most 32 bytes.
        text: &'a str,
    },
    /// A group's membership changed.
    GroupChange {
        /// Where in the order.
        at: GroupPlace<'a>,
        /// The member's node.
        member: NodeId,
        /// Its job.
        job: &'a str,
        /// `joined`, or why it is none any more; `denied: …` if it never was one.
        change: &'a str,
    },
    /// A protocol began, or one of its ACK rounds is through.
    AckRound {
        /// Where in the order.
        at: GroupPlace<'a>,
        /// The protocol: where it began.
        protocol: u64,
        /// `begins`, `through` or `last`.
        phase: &'a str,
        /// Which round, from 0.
        round: u16,
        /// How many members take part, or went during the round.
        members: u32,
    },
    /// A request for a domain, its answer, or this node's new copy.
    Domain {
        /// Where in the order; the name is the domain's.
        at: GroupPlace<'a>,
        /// `asked`, `answered`, `refused` or `copy`.
        phase: &'a str,
        /// Which interface; of a copy empty.
        op: &'a str,
        /// Who asked; of a copy this node.
        by: NodeId,
        /// Why it was refused.
        why: &'a str,
        /// Of a copy: its version.
        version: u32,
        /// Of a copy: whom it lists.
        nodes: NodeSet,
    },
    /// A merge of subgroups goes on.
    Merge {
        /// Where in the order.
        at: GroupPlace<'a>,
        /// Which: where it was asked for.
        merge: u64,
        /// `begins`, `data`, `round` or `done`.
        phase: &'a str,
        /// Data: the sender's node.
        from: Option<NodeId>,
        /// Data: the subgroup. Round: which. Begins: how many members. Done: how many messages with data.
        number: u32,
        /// Round: who went.
        gone: u32,
    },
}

/// An epoch of group services.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GroupEpoch {
    /// Larger is later.
    pub counter: u64,
    /// Who orders in it.
    pub node: NodeId,
}

/// A place in the order of group services.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GroupPlace<'a> {
    /// The group.
    pub group: &'a str,
    /// The frame.
    pub order: u64,
    /// The place in the frame.
    pub index: u16,
}

impl Event<'_> {
    /// A view event of the first `nodes` nodes.
    pub fn view(ballot: Ballot, view: &View, nodes: u8) -> Event<'static> {
        let mut members = Members::new();
        for n in NodeId::first(nodes) {
            // Cannot be full: `first` yields at most NODES_MAX nodes.
            let _ = members.push((view.state(n), view.incarnation(n)));
        }
        Event::View { name: ViewName { ballot, number: view.number }, members }
    }
}

/// One stamped event, as it goes over the trace port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record<'a> {
    /// This life of the node; `None` while it is not known.
    pub incarnation: Option<Incarnation>,
    /// This node's clock.
    pub at: Instant,
    /// Per node and incarnation, from 0, no holes.
    pub seq: u64,
    /// Lamport clock.
    pub lamport: u64,
    /// What happened.
    #[serde(borrow)]
    pub event: Event<'a>,
}

/// Where stamped events go. The outside supplies it: a serial port, a file, a checker.
pub trait TraceSink {
    /// Takes one event. It must not lose any.
    fn record(&mut self, record: &Record<'_>);
}

/// Drops everything: for tools that ask a machine something outside of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTrace;

impl TraceSink for NoTrace {
    fn record(&mut self, _: &Record<'_>) {}
}

/// The counters behind a node's stamps. Kept by the node for its whole life.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TraceClock {
    /// This life, once known.
    pub incarnation: Option<Incarnation>,
    /// The next sequence number.
    pub seq: u64,
    /// Lamport clock: the last value used.
    pub lamport: u64,
    /// Whether shared writes and leases are traced.
    pub writes: bool,
}

/// Stamps events with this call's time and passes them on.
pub struct Trace<'a> {
    /// The call's time.
    pub now: Instant,
    clock: &'a mut TraceClock,
    sink: &'a mut dyn TraceSink,
}

impl<'a> Trace<'a> {
    /// For one call.
    pub fn new(now: Instant, clock: &'a mut TraceClock, sink: &'a mut dyn TraceSink) -> Self {
        Self { now, clock, sink }
    }

    /// Records one event. Ticks the Lamport clock.
    pub fn event(&mut self, event: Event<'_>) {
        self.clock.lamport += 1;
        let record = Record {
            incarnation: self.clock.incarnation,
            at: self.now,
            seq: self.clock.seq,
            lamport: self.clock.lamport,
            event,
        };
        self.clock.seq += 1;
        self.sink.record(&record);
    }

    /// Whether shared writes and leases are to be traced.
    pub fn writes(&self) -> bool {
        self.clock.writes
    }

    /// Ticks the Lamport clock for something that is sent (a message, a block on the disk); the value goes with it.
    pub fn send(&mut self) -> u64 {
        self.clock.lamport += 1;
        self.clock.lamport
    }

    /// Takes the Lamport clock of something that was received into account.
    pub fn receive(&mut self, lamport: u64) {
        // Saturating: a damaged block that passed its checksum must not be able to make the clock wrap.
        self.clock.lamport = self.clock.lamport.max(lamport.min(u64::MAX >> 1)).saturating_add(1);
    }
}

impl core::fmt::Debug for Trace<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Trace").field("now", &self.now).field("clock", &self.clock).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_wire_form() {
        let id = NodeId::new(2).unwrap();
        let mut view = View::EMPTY;
        view.set(id, NodeState::Joined, Incarnation(7));
        let step = StepEvent {
            level: LevelOrder(70),
            name: "probe",
            round: RoundId { ballot: Ballot(65), sequence: 3 },
            subject: Subject { node: id, incarnation: Incarnation(7), transition: Transition::Joining },
            barrier: 1,
        };
        for event in [
            Event::Boot { version: "0.1.0", cmdline: "node=2" },
            Event::view(Ballot(65), &view, 3),
            Event::Notify(step),
            Event::Panic { reason: "put out" },
        ] {
            let record = Record { incarnation: Some(Incarnation(7)), at: Instant(12), seq: 1, lamport: 9, event };
            let mut buf = [0u8; 1024];
            let bytes = postcard::to_slice_cobs(&record, &mut buf).unwrap();
            let back: Record<'_> = postcard::from_bytes_cobs(bytes).unwrap();
            assert_eq!(back, record);
        }
    }

    #[test]
    fn stamps_have_no_holes_and_the_lamport_clock_only_grows() {
        struct Check(u64, u64);
        impl TraceSink for Check {
            fn record(&mut self, r: &Record<'_>) {
                assert_eq!(r.seq, self.0);
                assert!(r.lamport > self.1);
                (self.0, self.1) = (r.seq + 1, r.lamport);
            }
        }
        let (mut clock, mut sink) = (TraceClock::default(), Check(0, 0));
        let mut t = Trace::new(Instant::ZERO, &mut clock, &mut sink);
        t.event(Event::Note { what: "a" });
        t.receive(100);
        t.event(Event::Note { what: "b" });
        let sent = t.send();
        t.event(Event::Note { what: "c" });
        assert!(sent > 101);
        t.receive(u64::MAX);
        t.event(Event::Note { what: "d" });
    }
}
