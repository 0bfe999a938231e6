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

use crate::transition::{Overtaken, SLOTS};

/// Rounds that may be under way at a time. With more, an answer to a takeover would not fit one datagram; what does not
/// fit waits.
pub const ROUNDS_MAX: usize = 16;

/// Steps in one part of an answer to a takeover.
pub const ANSWER_STEPS_MAX: usize = 32;

/// Bytes that a part of an answer may take: a datagram less the envelope and some room.
const ANSWER_BYTES_MAX: usize = 1280;

/// Forced leaves that begin in one round at most: each may carry the step that it overtakes, and all must fit a datagram.
pub const FORCED_AT_ONCE_MAX: usize = 32;

/// Version of these messages. A joiner with another one is refused by name.
pub const PROTOCOL_VERSION: u16 = 2;

/// The number of [`Message::JoinRequest`] among the messages, in every version.
const JOIN_REQUEST: u32 = 0;

/// One level as a node declares it to the master.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct LevelOffer {
    /// Its order.
    pub order: LevelOrder,
    /// Its barriers.
    pub barriers: Barriers,
    /// Whether every node must have it.
    pub everywhere: bool,
    /// Its deadline for a step, ms; 0: none.
    pub deadline_ms: u32,
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
    /// Of the node, or of one level alone.
    pub scope: Scope,
    /// For a forced leave: the highest level that it goes to.
    pub top: LevelOrder,
    /// For a forced leave: the step that it overtakes, at this level or above. Known at every level, so that a survivor
    /// can tell a new master.
    pub overtakes: Option<Overtaken>,
    /// The addressee took part in the join that is overtaken. If it had not delivered that Joining, it delivers it first.
    pub took_part: bool,
}

/// What a step belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Scope {
    /// The node's own transition, which the view shows.
    Node,
    /// A transition of the node at this level alone.
    Local,
    /// The same, and all have acknowledged its last barrier: the managers are told that it is through, and acknowledge.
    LocalEnd,
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
    /// It is a transition at one level alone.
    pub local: bool,
    /// Which of the answer's rounds, by its place in the list.
    pub round: u8,
    /// The barrier that was notified.
    pub barrier: u8,
    /// Whether the level acknowledged it.
    pub acked: bool,
    /// For a forced leave: the highest level that it goes to.
    pub top: LevelOrder,
    /// For a forced leave: the step that it overtakes.
    pub overtakes: Option<Overtaken>,
}

/// The last local transition of a node that a member knows to be through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// The round in which it was.
    pub round: RoundId,
}

/// Member to a new master: what I know, in as many parts as it takes. A part is taken only after the one before it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The new master's ballot.
    pub ballot: Ballot,
    /// The first place for transitions (see [`SLOTS`]) that this part tells of.
    pub first: u8,
    /// The first one that it does not tell of any more; [`SLOTS`] in the last part.
    pub next: u8,
    /// My steps.
    pub steps: Vec<KnownStep, ANSWER_STEPS_MAX>,
    /// The rounds that they belong to.
    pub rounds: Vec<Round, ROUNDS_MAX>,
    /// Local transitions that are through here.
    pub ended: Vec<Ended, ANSWER_STEPS_MAX>,
}

impl Answer {
    /// A part that tells of nothing yet.
    pub fn begin(ballot: Ballot, first: u8) -> Self {
        let (steps, rounds, ended) = (Vec::new(), Vec::new(), Vec::new());
        Self { ballot, first, next: first, steps, rounds, ended }
    }

    /// Whether it is the last part.
    pub fn is_last(&self) -> bool {
        usize::from(self.next) >= SLOTS
    }

    /// Adds a step with its round. False if there is no room for it in this part.
    pub fn push(&mut self, step: KnownStep, round: &Round) -> bool {
        let at = self.rounds.iter().position(|r| r.id == round.id);
        let more = STEP_BYTES + if at.is_none() { round_bytes(round) } else { 0 };
        // A part that has nothing yet takes any step: a round of all nodes fits a datagram.
        if self.bytes() + more > ANSWER_BYTES_MAX && !(self.steps.is_empty() && self.ended.is_empty()) {
            return false;
        }
        let at = at.or_else(|| self.rounds.push(round.clone()).ok().map(|()| self.rounds.len() - 1));
        at.is_some_and(|at| self.steps.push(KnownStep { round: at as u8, ..step }).is_ok())
    }

    /// Adds a local transition that is through. False if there is no room for it in this part.
    pub fn push_ended(&mut self, ended: Ended) -> bool {
        self.bytes() + ENDED_BYTES <= ANSWER_BYTES_MAX && self.ended.push(ended).is_ok()
    }

    fn bytes(&self) -> usize {
        let rounds: usize = self.rounds.iter().map(round_bytes).sum();
        rounds + self.steps.len() * STEP_BYTES + self.ended.len() * ENDED_BYTES
    }
}

/// Bytes of a [`KnownStep`] at most, with the longest varints.
const STEP_BYTES: usize = 36;
/// Bytes of an [`Ended`] at most.
const ENDED_BYTES: usize = 21;

/// Bytes of a [`Round`] at most.
fn round_bytes(round: &Round) -> usize {
    29 + 7 * round.subjects.len()
}

/// What a node wants of a level that it serves at run time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LevelWish {
    /// To join there.
    Join(LevelOffer),
    /// To leave there.
    Leave(LevelOrder),
    /// What served it has died: the others recover.
    Died(LevelOrder),
}

/// Member to master: what I want of my run-time levels. Repeated until it is through.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LevelRequest {
    /// The master that is asked.
    pub ballot: Ballot,
    /// Grows with each request of one life: an older one is ignored.
    pub serial: u32,
    /// Deaths first, then leaves, then joins.
    pub wishes: Vec<LevelWish, LEVELS_MAX>,
}

/// What became of a wish that needs no transition (any more).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum LevelOutcome {
    /// Nobody has the node at that level.
    Gone,
    /// The level cannot join.
    Refused(RefuseReason),
}

/// Master to member: what became of wishes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LevelResult {
    /// Under this ballot.
    pub ballot: Ballot,
    /// Of which life.
    pub incarnation: Incarnation,
    /// The request that this answers.
    pub serial: u32,
    /// Each level with its outcome.
    pub results: Vec<(LevelOrder, LevelOutcome), LEVELS_MAX>,
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
        /// Which of them, by place, died: the others are not through with that yet.
        died: u32,
    },
    /// The rest of the answer: what it knows of transitions.
    Answer(Answer),
    /// What I want of my run-time levels.
    LevelRequest(LevelRequest),
    /// What became of it.
    LevelResult(LevelResult),
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

/// The version of a request to join that speaks another one: number of the message and version stand first in every
/// version, so that its sender can be refused by name.
pub(crate) fn other_version(bytes: &[u8]) -> Option<u16> {
    let ((kind, protocol), _): ((u32, u16), _) = postcard::take_from_bytes(bytes).ok()?;
    (kind == JOIN_REQUEST && protocol != PROTOCOL_VERSION).then_some(protocol)
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
            (0..64).map(|subject| StepAt { subject, barrier: 15, top: LevelOrder(200), ..step_at(None) }).collect();
        fits(&Message::Notify(notify(full_round(1), steps)));
    }

    fn step_at(overtakes: Option<Overtaken>) -> StepAt {
        StepAt { subject: 63, barrier: 15, scope: Scope::Node, top: LevelOrder(u16::MAX), overtakes, took_part: true }
    }

    fn notify(round: Round, steps: Vec<StepAt, NODES_MAX>) -> Notify {
        Notify {
            view: ViewName { ballot: Ballot(u64::MAX >> 8), number: u64::MAX },
            sequence: u32::MAX,
            round,
            steps,
            vector: VectorSets { joined: NodeSet::first(64), ..VectorSets::default() },
            recover: NodeSet::first(64),
        }
    }

    /// The longest numbers that can be.
    fn overtaken() -> Overtaken {
        let round = Some(RoundId { ballot: Ballot(u64::MAX >> 8), sequence: u32::MAX });
        Overtaken { level: LevelOrder(u16::MAX), was: NodeState::Joining, round }
    }

    fn fits(m: &Message) {
        let mut buffer = [0; DATAGRAM_MAX - ENVELOPE];
        let bytes = m.encode(&mut buffer).unwrap();
        assert_eq!(Message::decode(bytes).unwrap(), *m);
    }

    #[test]
    fn as_many_forced_leaves_as_begin_at_once_fit_a_datagram_with_what_they_overtake() {
        let mut round = full_round(1);
        round.subjects.truncate(FORCED_AT_ONCE_MAX);
        let steps = round.subjects.iter().map(|_| step_at(Some(overtaken()))).collect();
        fits(&Message::Notify(notify(round, steps)));
    }

    #[test]
    fn the_wishes_for_all_levels_and_their_outcomes_fit_a_datagram() {
        let offer = LevelOffer {
            order: LevelOrder(u16::MAX),
            barriers: Barriers { joining: 16, leaving: 16, forced_leaving: 16 },
            everywhere: false,
            deadline_ms: u32::MAX,
            present: NodeSet::first(64),
        };
        let wishes = (0..LEVELS_MAX).map(|_| LevelWish::Join(offer)).collect();
        let ballot = Ballot(u64::MAX >> 8);
        fits(&Message::LevelRequest(LevelRequest { ballot, serial: u32::MAX, wishes }));
        let refused = LevelOutcome::Refused(RefuseReason::Barriers { level: u16::MAX });
        let results = (0..LEVELS_MAX).map(|_| (LevelOrder(u16::MAX), refused)).collect();
        fits(&Message::LevelResult(LevelResult {
            ballot,
            incarnation: Incarnation(u32::MAX),
            serial: u32::MAX,
            results,
        }));
    }

    #[test]
    fn an_answer_with_every_subject_fits_datagrams() {
        let mut rounds: Vec<Round, ROUNDS_MAX> = Vec::new();
        for i in 0..ROUNDS_MAX {
            let mut r = full_round(i as u32 + 1);
            r.subjects.retain(|s| s.node.index() % ROUNDS_MAX == i);
            rounds.push(r).unwrap();
        }
        let mut told = 0;
        let mut part = Answer::begin(Ballot(u64::MAX >> 8), 0);
        for node in NodeId::all() {
            let step = KnownStep {
                subject: Subject { node, incarnation: Incarnation(u32::MAX), transition: Transition::ForcedLeaving },
                local: true,
                round: 0,
                barrier: 15,
                acked: true,
                top: LevelOrder(u16::MAX),
                overtakes: Some(overtaken()),
            };
            let round = &rounds[node.index() % ROUNDS_MAX];
            if !part.push(step, round) {
                fits(&Message::Answer(part.clone()));
                told += part.steps.len();
                part = Answer::begin(part.ballot, node.get());
                assert!(part.push(step, round));
            }
        }
        fits(&Message::Answer(part.clone()));
        assert_eq!(told + part.steps.len(), 64, "every step is in one part");
    }

    /// Rounds that list all nodes, though most have gone on: each part takes as many as fit.
    #[test]
    fn a_part_of_an_answer_takes_any_one_round_and_never_too_many() {
        let step = |i: u32| KnownStep {
            subject: full_round(i).subjects[i as usize],
            local: false,
            round: 0,
            barrier: 0,
            acked: false,
            top: LevelOrder(0),
            overtakes: Some(overtaken()),
        };
        let mut part = Answer::begin(Ballot(u64::MAX >> 8), 0);
        let taken = (0..16).filter(|i| part.push(step(*i), &full_round(i + 1))).count();
        assert!((1..16).contains(&taken), "{taken}");
        let ended =
            Ended { node: NodeId::all().last().unwrap(), incarnation: Incarnation(u32::MAX), round: full_round(1).id };
        while part.push_ended(ended) {}
        fits(&Message::Answer(part));
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
