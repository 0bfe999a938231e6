//! What engines say to each other: idempotent, repeated until it is answered. Encoded with postcard; what does not decode
//! completely is dropped and counted. The envelope names sender and incarnation.

use quorate_base::NodeId;
use serde::{Deserialize, Serialize};

use crate::capacity::GROUPS_MAX;
use crate::epoch::{EpochId, Roster};
use crate::item::Stream;

/// One message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message<'a> {
    /// Member to sequencer: give this frame of mine a place.
    Submit {
        /// In which epoch.
        epoch: EpochId,
        /// Of which of my streams.
        stream: Stream,
        /// Its number in that, from 1.
        number: u32,
        /// Its items.
        #[serde(with = "crate::bytes", borrow)]
        body: &'a [u8],
    },
    /// Sequencer to all: a frame and its place. To the one who calls up an epoch: a frame that it lacks.
    Ordered {
        /// In which epoch.
        epoch: EpochId,
        /// The place.
        order: u64,
        /// Whose frame.
        node: NodeId,
        /// Of which of its streams.
        stream: Stream,
        /// Its number in that; 0 for a roster.
        number: u32,
        /// Its items.
        #[serde(with = "crate::bytes", borrow)]
        body: &'a [u8],
    },
    /// All to all: how far I am.
    Status {
        /// In which epoch.
        epoch: EpochId,
        /// I have all frames up to this place.
        held: u64,
        /// I have delivered all frames up to this place.
        applied: u64,
        /// Per group's slot, how many frames with messages nobody of mine needs any more.
        taken: [u32; GROUPS_MAX],
        /// I wait for something: tell me how far you are.
        asks: bool,
    },
    /// A leader to those that are to be in an epoch: promise it.
    Collect {
        /// The epoch.
        epoch: EpochId,
        /// Who is to be in it.
        roster: Roster,
    },
    /// The answer: I take nothing of earlier epochs any more.
    Collected {
        /// The promised epoch.
        epoch: EpochId,
        /// The last epoch that I was in.
        installed: Option<EpochId>,
        /// I have all frames up to this place.
        held: u64,
        /// I have no state yet.
        fresh: bool,
    },
    /// The other answer: I have promised a later one.
    Outbid {
        /// Which was asked for.
        epoch: EpochId,
        /// The later one.
        promised: EpochId,
    },
    /// A leader to whoever has most: I lack this frame.
    Fetch {
        /// The promised epoch.
        epoch: EpochId,
        /// The frame's place.
        order: u64,
    },
    /// A leader to those in an epoch: all have promised; it begins.
    Install {
        /// The epoch.
        epoch: EpochId,
        /// Who is in it.
        roster: Roster,
        /// All frames of earlier epochs up to this place count, none above.
        cut: u64,
        /// Who gives the state to those that have none; nobody if nobody has any.
        source: Option<NodeId>,
    },
    /// A part of the state, to one that has none.
    Snapshot {
        /// In which epoch.
        epoch: EpochId,
        /// The state after the frame at this place.
        order: u64,
        /// Which part, from 0.
        part: u8,
        /// Of how many.
        parts: u8,
        /// Its bytes.
        #[serde(with = "crate::bytes", borrow)]
        bytes: &'a [u8],
    },
}

impl Message<'_> {
    /// Encodes it. `None` if it does not fit.
    pub fn encode<'b>(&self, out: &'b mut [u8]) -> Option<&'b [u8]> {
        postcard::to_slice(self, out).ok().map(|bytes| &*bytes)
    }
}

/// Decodes a message, which must be whole and without anything after it.
pub fn decode(bytes: &[u8]) -> Option<Message<'_>> {
    let (message, rest) = postcard::take_from_bytes::<Message<'_>>(bytes).ok()?;
    let sound = match &message {
        Message::Collect { roster, .. } | Message::Install { roster, .. } => roster.is_sound(),
        Message::Snapshot { part, parts, .. } => part < parts,
        _ => true,
    };
    (rest.is_empty() && sound).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::BODY_MAX;
    use proptest::prelude::*;
    use quorate_base::Incarnation;
    use quorate_interconnect::envelope::PAYLOAD_MAX;

    #[test]
    fn the_largest_messages_fit_a_datagram() {
        let epoch = EpochId { counter: u64::MAX, node: NodeId::new(63).unwrap() };
        let mut roster = Roster::new();
        for n in NodeId::all() {
            roster.put(n, Incarnation(u32::MAX));
        }
        let stream = Stream::of_group(7);
        let body = &[7; BODY_MAX];
        let node = epoch.node;
        for message in [
            Message::Ordered { epoch, order: u64::MAX, node, stream, number: u32::MAX, body },
            Message::Submit { epoch, stream, number: u32::MAX, body },
            Message::Install { epoch, roster, cut: u64::MAX, source: Some(node) },
            Message::Status { epoch, held: u64::MAX, applied: u64::MAX, taken: [u32::MAX; 8], asks: true },
        ] {
            let mut out = [0; PAYLOAD_MAX];
            let bytes = message.encode(&mut out).unwrap();
            assert_eq!(decode(bytes), Some(message));
        }
    }

    #[test]
    fn protocol_md_messages_of_group_services_golden_bytes() {
        let epoch = EpochId { counter: 0x80, node: NodeId::new(2).unwrap() };
        let mut out = [0; 64];
        let submit = Message::Submit { epoch, stream: Stream::CONTROL, number: 1, body: b"ab" };
        assert_eq!(submit.encode(&mut out), Some(&[0, 0x80, 1, 2, 0, 1, 2, b'a', b'b'][..]));
        let fetch = Message::Fetch { epoch, order: 5 };
        assert_eq!(fetch.encode(&mut out), Some(&[6, 0x80, 1, 2, 5][..]));
        assert_eq!(decode(&[6, 0x80, 1, 2, 5, 0]), None, "nothing may follow");
        assert_eq!(decode(&[6, 0x80, 1, 64, 5]), None, "no such node");
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
            if let Some(Message::Submit { body, .. } | Message::Ordered { body, .. }) = decode(&bytes) {
                crate::item::items(body).count();
            }
            crate::item::items(&bytes).count();
        }
    }
}
