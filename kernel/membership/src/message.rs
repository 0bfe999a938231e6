//! Membership datagrams: small, idempotent, repeated until answered (DESIGN 6). Encoded with postcard; what does not
//! decode completely is dropped and counted. The envelope around them names sender, incarnation and cluster.
//!
//! Invariant: a master's message carries its ballot; a node obeys only the highest ballot it has seen (DESIGN 4).

use heapless::Vec;
use quorate_base::capacity::{LEVELS_MAX, NODES_MAX};
use quorate_base::event::{Members, Subject};
use quorate_base::halt::RefuseReason;
use quorate_base::{
    Ballot, Barriers, Incarnation, LevelOrder, NodeId, NodeSet, NodeState, RoundId, Timing, View, ViewName,
};
use serde::{Deserialize, Serialize};

/// Rounds that may be under way at a time. With more, an answer to a takeover would not fit one datagram; what does not
/// fit waits.
pub const ROUNDS_MAX: usize = 16;

/// Version of these messages. A joiner with another one is refused by name.
pub const PROTOCOL_VERSION: u16 = 1;

/// One level as a node declares it to the master.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LevelOffer {
    /// Its order.
    pub order: LevelOrder,
    /// Its barriers.
    pub barriers: Barriers,
    /// Whether every node must have it.
    pub everywhere: bool,
    /// Nodes that are not inactive at this level, as this node knows it.
    pub present: NodeSet,
}

/// A node's levels, ascending.
pub type LevelOffers = Vec<LevelOffer, LEVELS_MAX>;

/// Outsider to master: let me in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinRequest {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub protocol: u16,
    /// The time-outs that it works with.
    pub timing: Timing,
    /// Its levels.
    pub levels: LevelOffers,
}

/// Master to joiner: no.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Refuse {
    /// Under this ballot.
    pub ballot: Ballot,
    /// Which life of the joiner.
    pub incarnation: Incarnation,
    /// Why.
    pub reason: RefuseReason,
}

/// Master to all: this view is committed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ViewMessage {
    /// The name, by which it is committed.
    pub name: ViewName,
    /// The configured nodes.
    pub members: Members,
}

impl ViewMessage {
    /// The message that announces `view`.
    pub fn new(name: ViewName, view: &View, nodes: u8) -> Self {
        let mut members = Members::new();
        for n in NodeId::first(nodes) {
            // Never full: `first` yields NODES_MAX at most.
            let _ = members.push((view.state(n), view.incarnation(n)));
        }
        Self { name, members }
    }

    /// The view that it announces.
    pub fn view(&self) -> View {
        let mut view = View::empty(self.name.number);
        for (n, (state, incarnation)) in NodeId::all().zip(&self.members) {
            view.set(n, *state, *incarnation);
        }
        view
    }
}

/// One subject's position in a [`Notify`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepAt {
    /// Which of the round's subjects, by its place in the list.
    pub subject: u8,
    /// The barrier to work on.
    pub barrier: u8,
    /// For a forced leave: the highest level that it goes to.
    pub top: LevelOrder,
    /// For a forced leave that overtakes a join at this very level: the join's round. A manager that had not delivered
    /// the Joining yet delivers it first (DESIGN 5).
    pub overtakes: Option<RoundId>,
}

/// The state vector of one level, as sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct VectorSets {
    /// Joining there.
    pub joining: NodeSet,
    /// Joined there.
    pub joined: NodeSet,
    /// Leaving there.
    pub leaving: NodeSet,
    /// Being forced out there.
    pub forced: NodeSet,
}

impl VectorSets {
    /// One node's state.
    pub fn state(&self, node: NodeId) -> NodeState {
        if self.forced.contains(node) {
            NodeState::ForcedLeaving
        } else if self.leaving.contains(node) {
            NodeState::Leaving
        } else if self.joining.contains(node) {
            NodeState::Joining
        } else if self.joined.contains(node) {
            NodeState::Joined
        } else {
            NodeState::Inactive
        }
    }

    /// Puts one node's state in.
    pub fn insert(&mut self, node: NodeId, state: NodeState) {
        match state {
            NodeState::Inactive => {}
            NodeState::Joining => self.joining = self.joining.with(node),
            NodeState::Joined => self.joined = self.joined.with(node),
            NodeState::Leaving => self.leaving = self.leaving.with(node),
            NodeState::ForcedLeaving => self.forced = self.forced.with(node),
        }
    }
}

/// A set of transitions at one level, and who takes part. Fixed when it begins (DESIGN 5).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Round {
    /// Its name.
    pub id: RoundId,
    /// The level.
    pub level: LevelOrder,
    /// Whose levels must acknowledge.
    pub participants: NodeSet,
    /// The transitions.
    pub subjects: Vec<Subject, NODES_MAX>,
}

/// Master to a participant: notify your level.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notify {
    /// The view that this rests on; its ballot is the master's.
    pub view: ViewName,
    /// Grows with each message of this kind under one ballot: an older one is ignored.
    pub sequence: u32,
    /// The round.
    pub round: Round,
    /// Where its subjects that are still in it stand.
    pub steps: Vec<StepAt, NODES_MAX>,
    /// The level's whole vector.
    pub vector: VectorSets,
    /// Nodes whose last life ended without a clean mark before the cluster formed: to be recovered with the first join.
    pub recover: NodeSet,
}

/// One acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct AckEntry {
    /// The level.
    pub level: LevelOrder,
    /// The round.
    pub round: RoundId,
    /// Whose transition.
    pub subject: Subject,
    /// The barrier.
    pub barrier: u8,
}

/// A step as a member knows it, in an [`Answer`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KnownStep {
    /// Whose transition.
    pub subject: Subject,
    /// Which of the answer's rounds, by its place in the list.
    pub round: u8,
    /// The barrier that was notified.
    pub barrier: u8,
    /// Whether the level acknowledged it.
    pub acked: bool,
    /// For a forced leave: the highest level that it goes to.
    pub top: LevelOrder,
}

/// Member to a new master: what I know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The new master's ballot.
    pub ballot: Ballot,
    /// My steps.
    pub steps: Vec<KnownStep, NODES_MAX>,
    /// The rounds that they belong to.
    pub rounds: Vec<Round, ROUNDS_MAX>,
}

/// Every membership message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "messages live on the stack for one call; there is no allocator")]
pub enum Message {
    /// Let me in.
    JoinRequest(JoinRequest),
    /// No.
    Refuse(Refuse),
    /// Let me go.
    LeaveRequest,
    /// This is committed.
    View(ViewMessage),
    /// Tell me the newest view.
    ViewRequest,
    /// Notify your level.
    Notify(Notify),
    /// My levels acknowledge; the ballot is the round's master's.
    Ack {
        /// Whose rounds.
        ballot: Ballot,
        /// What.
        entries: Vec<AckEntry, NODES_MAX>,
    },
    /// A new master asks what you know.
    Query {
        /// Its ballot. An answer is a promise to ignore lower ones.
        ballot: Ballot,
    },
    /// First part of the answer: the levels of the node.
    AnswerLevels {
        /// The new master's ballot.
        ballot: Ballot,
        /// The levels.
        levels: LevelOffers,
    },
    /// Second part of the answer: what it knows of transitions.
    Answer(Answer),
}

impl Message {
    /// Encodes into `buffer`.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn encode<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a [u8], postcard::Error> {
        postcard::to_slice(self, buffer).map(|bytes| &*bytes)
    }

    /// Decodes; every byte must be used.
    ///
    /// # Errors
    /// If it is no message, or more than one.
    pub fn decode(bytes: &[u8]) -> Result<Self, postcard::Error> {
        match postcard::take_from_bytes(bytes)? {
            (message, []) => Ok(message),
            _ => Err(postcard::Error::DeserializeBadEncoding),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use quorate_base::Transition;
    use quorate_base::capacity::DATAGRAM_MAX;

    fn full_round(sequence: u32) -> Round {
        Round {
            id: RoundId { ballot: Ballot(u64::MAX >> 8), sequence },
            level: LevelOrder(200),
            participants: NodeSet::first(64),
            subjects: NodeId::all()
                .map(|node| Subject { node, incarnation: Incarnation(300), transition: Transition::Joining })
                .collect(),
        }
    }

    /// The envelope takes less than this of a datagram.
    const ENVELOPE: usize = 128;

    #[test]
    fn a_full_round_of_64_nodes_fits_a_datagram() {
        let steps =
            (0..64).map(|subject| StepAt { subject, barrier: 15, top: LevelOrder(200), overtakes: None }).collect();
        let m = Message::Notify(Notify {
            view: ViewName { ballot: Ballot(u64::MAX >> 8), number: u64::MAX },
            sequence: u32::MAX,
            round: full_round(1),
            steps,
            vector: VectorSets { joined: NodeSet::first(64), ..VectorSets::default() },
            recover: NodeSet::first(64),
        });
        let mut buffer = [0; DATAGRAM_MAX - ENVELOPE];
        let bytes = m.encode(&mut buffer).unwrap();
        assert_eq!(Message::decode(bytes).unwrap(), m);
    }

    #[test]
    fn an_answer_with_every_subject_fits_a_datagram() {
        let mut rounds: Vec<Round, ROUNDS_MAX> = Vec::new();
        for i in 0..ROUNDS_MAX {
            let mut r = full_round(i as u32 + 1);
            r.subjects.retain(|s| s.node.index() % ROUNDS_MAX == i);
            rounds.push(r).unwrap();
        }
        let steps = NodeId::all()
            .map(|node| KnownStep {
                subject: Subject { node, incarnation: Incarnation(300), transition: Transition::ForcedLeaving },
                round: (node.index() % ROUNDS_MAX) as u8,
                barrier: 3,
                acked: true,
                top: LevelOrder(200),
            })
            .collect();
        let m = Message::Answer(Answer { ballot: Ballot(u64::MAX >> 8), steps, rounds });
        let mut buffer = [0; DATAGRAM_MAX - ENVELOPE];
        let bytes = m.encode(&mut buffer).unwrap();
        assert_eq!(Message::decode(bytes).unwrap(), m);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(m) = Message::decode(&bytes) {
                let mut buffer = [0; 2048];
                prop_assert!(m.encode(&mut buffer).is_ok());
            }
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut buffer = [0; 16];
        let len = Message::ViewRequest.encode(&mut buffer).unwrap().len();
        assert!(Message::decode(&buffer[..len]).is_ok());
        assert!(Message::decode(&buffer[..len + 1]).is_err());
    }
}
