//! Messages between the nodes of a story: what they say, whether it still means anything, and what tells two apart.

use std::rc::Rc;

use quorate_base::{Ballot, NodeId, ViewName};
use quorate_interconnect::envelope::{Envelope, Repr};
use quorate_interconnect::seal::SealKey;
use quorate_interconnect::{Channel, Opened, PAYLOAD_MAX};
use quorate_membership::Membership;
use quorate_membership::message::Message;

use super::cluster::KEY;
use crate::explore::Hash128;

/// A frame that a node sent, opened.
#[derive(Debug)]
pub struct Frame {
    /// As it was sealed.
    pub bytes: Box<[u8]>,
    /// What it is about.
    pub channel: Channel,
    payload: Box<[u8]>,
    /// What it says, without the counters of this one sending.
    pub said: u128,
    /// A notification's view and its number under that ballot: an older one that comes after a newer one is ignored.
    pub sequence: Option<(ViewName, u32)>,
    weight: Weight,
}

impl Frame {
    /// Opens what a node of the model sealed.
    pub fn new(bytes: &[u8]) -> Self {
        let mut payload = Opened::new();
        let opened = Envelope::new_checked(bytes).and_then(|envelope| {
            let Repr { from, incarnation, nonce, .. } = *envelope.repr();
            envelope.open(&SealKey::derive(&KEY, from, incarnation, nonce), &mut payload)?;
            Ok(*envelope.repr())
        });
        // Sealed, each sending of a message would look like another message.
        let repr = opened.unwrap_or_else(|why| unreachable!("a frame of the model's own that does not open: {why:?}"));
        let payload = payload.as_slice().into();
        let (channel, weight) = (repr.channel, Weight::Request);
        let mut frame = Self { bytes: bytes.into(), channel, payload, said: 0, sequence: None, weight };
        let message = frame.message();
        frame.weight = message.as_ref().map_or(weight, Weight::of);
        let mut buffer = [0; PAYLOAD_MAX];
        let mut said = &frame.payload[..];
        if let Some(Message::Notify(mut notify)) = message {
            frame.sequence = Some((notify.view, notify.sequence));
            notify.sequence = 0;
            said = Message::Notify(notify).encode(&mut buffer).unwrap_or(said);
        }
        frame.said = Hash128::of(&(repr.from, repr.incarnation, said));
        frame
    }

    /// The message; `None`: a heartbeat.
    fn message(&self) -> Option<Message> {
        let decode = || {
            Message::decode(&self.payload).unwrap_or_else(|why| unreachable!("a message that does not decode: {why}"))
        };
        (self.channel == Channel::Membership).then(decode)
    }
}

/// By what a message is obeyed or ignored.
#[derive(Clone, Copy, Debug)]
enum Weight {
    /// A view, by its name.
    View(ViewName),
    /// A master says it under its ballot.
    Master(Ballot),
    /// It answers the master under that ballot.
    ToMaster(Ballot),
    /// Whoever asks is heard.
    Request,
}

impl Weight {
    fn of(message: &Message) -> Self {
        match message {
            Message::View(m) => Self::View(m.name),
            Message::Notify(m) => Self::Master(m.view.ballot),
            Message::Query { ballot } => Self::Master(*ballot),
            Message::Refuse(m) => Self::Master(m.ballot),
            Message::LevelResult(m) => Self::Master(m.ballot),
            Message::Ack { ballot, .. } | Message::AnswerLevels { ballot, .. } => Self::ToMaster(*ballot),
            Message::Answer(m) => Self::ToMaster(m.ballot),
            Message::JoinRequest(_) | Message::LeaveRequest | Message::ViewRequest | Message::LevelRequest(_) => {
                Self::Request
            }
        }
    }
}

/// A membership message on its way.
#[derive(Clone, Debug)]
pub struct Letter {
    /// To whom.
    pub to: NodeId,
    /// From whom.
    pub from: NodeId,
    /// The frame.
    pub frame: Rc<Frame>,
}

impl Letter {
    /// Whether the addressee will make nothing of a message, whenever it comes. What it has heard of ballots and views only
    /// grows while it lives:
    /// - under a lower ballot than it has heard of it obeys no master, nor is it one again: what an answer was for is over;
    /// - a view that it has adopted, or a newer one, it learns no more.
    ///
    /// That the frame would show its sender alive says nothing new either: with heartbeats that arrive as they are sent, who
    /// lives is heard, and before anybody is found silent time must pass, for which the wire must be empty. It would say
    /// something if one that is late came from the dead: no story has both.
    pub fn is_spent_at(&self, membership: &Membership) -> bool {
        let (ballot, adopted) = (membership.ballot(), membership.view().0);
        match self.frame.weight {
            Weight::View(name) => {
                name.ballot < ballot || (name.ballot == ballot && (name == adopted || name.number < adopted.number))
            }
            Weight::Master(under) => under < ballot,
            Weight::ToMaster(under) => {
                under < ballot && membership.master().is_none_or(|master| master.ballot() != under)
            }
            Weight::Request => false,
        }
    }

    /// What it is, in words.
    pub fn tell(&self) -> String {
        let what = self.frame.message().map_or_else(String::new, |message| match message {
            Message::Notify(n) => format!("Notify {} level {} {:?}", n.round.id, n.round.level, n.steps),
            Message::Ack { entries, .. } => format!("Ack {entries:?}"),
            Message::View(v) => format!("View {} of {}", v.name.number, v.name.ballot),
            other => format!("{other:?}").split(['(', ' ', '{']).next().unwrap_or_default().to_owned(),
        });
        format!("{what} from {} to {}", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use quorate_base::{BootNonce, Incarnation, LevelOrder, NodeSet, RoundId};
    use quorate_interconnect::Destination;
    use quorate_membership::message::{Notify, Round};

    use super::super::cluster::CLUSTER;
    use super::*;

    fn frame(counter: u64, message: &Message) -> Frame {
        let (from, incarnation, nonce) = (NodeId::first(1).next().expect("a node"), Incarnation(1), BootNonce(1));
        let repr = Repr {
            epoch: 0,
            channel: Channel::Membership,
            from,
            to: Destination::All,
            incarnation,
            nonce,
            cluster: CLUSTER,
            counter,
            lamport: 10 * counter,
        };
        let (mut payload, mut bytes) = ([0; PAYLOAD_MAX], [0; 1500]);
        let payload = message.encode(&mut payload).expect("it fits");
        let key = SealKey::derive(&KEY, from, incarnation, nonce);
        let n = repr.emit(payload, &key, &mut bytes).expect("it fits");
        Frame::new(&bytes[..n])
    }

    #[test]
    fn sendings_of_one_message_are_one_message() {
        let query = |ballot| Message::Query { ballot: Ballot(ballot) };
        let first = frame(1, &query(64));
        assert_ne!(first.bytes, frame(2, &query(64)).bytes, "sealed under another counter");
        assert_eq!(first.said, frame(2, &query(64)).said);
        assert_ne!(first.said, frame(1, &query(128)).said);
    }

    #[test]
    fn a_notification_is_the_same_whatever_its_number() {
        let notify = |sequence| {
            Message::Notify(Notify {
                view: ViewName::default(),
                sequence,
                round: Round {
                    id: RoundId::default(),
                    level: LevelOrder(60),
                    participants: NodeSet::EMPTY,
                    subjects: Default::default(),
                },
                steps: Default::default(),
                vector: Default::default(),
                recover: NodeSet::EMPTY,
            })
        };
        let (older, newer) = (frame(1, &notify(3)), frame(2, &notify(4)));
        assert_eq!(older.said, newer.said);
        assert!(older.sequence < newer.sequence);
    }
}
