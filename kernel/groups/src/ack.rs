//! ACK rounds (ACK claims 2, 7, 9, 14): a protocol does local work only between rounds; a round is through when every member
//! that takes part has acknowledged it or is no member any more.
//!
//! ```text
//! started ──▶ local work ──ack──▶ waits ──all acknowledged or gone──▶ local work … ──done──▶ over
//! ```
//! Invariants: acknowledgements and membership changes stand in one order, so every node ends a round at the same place with
//! the same outcome; a round awaits members only, so none hangs once whoever owes it is out.

use quorate_base::NodeId;
use serde::{Deserialize, Serialize};

use crate::capacity::PROTOCOL_BYTES_MAX;
use crate::item::{MemberId, Position};
use crate::member::MemberSet;

/// A protocol that runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Protocol {
    /// Its name: where it was started.
    pub id: Position,
    /// The group's slot.
    pub slot: u8,
    /// For which work thread of each member.
    pub thread: u8,
    /// Who started it.
    pub by: MemberId,
    /// That one's node.
    pub node: NodeId,
    /// Members that take part: those of the group when it was started, less those that are done or gone.
    pub participants: MemberSet,
    /// The round that is under way, from 0.
    pub round: u16,
    /// Who owes its acknowledgement.
    pub awaiting: MemberSet,
    /// Who went during it.
    pub gone: MemberSet,
    /// Who went during the round before: its outcome.
    pub gone_before: MemberSet,
    /// What it was started with.
    pub bytes: heapless::Vec<u8, PROTOCOL_BYTES_MAX>,
}

/// A round that is through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoundEnd {
    /// Which.
    pub round: u16,
    /// Who went during it.
    pub gone: MemberSet,
    /// Nobody takes part any more.
    pub last: bool,
}

impl Protocol {
    /// An acknowledgement. Gives the round that is through with it.
    pub fn acknowledge(&mut self, place: u8, round: u16, done: bool) -> Option<RoundEnd> {
        if round != self.round || !self.awaiting.remove(place) {
            return None;
        }
        if done {
            self.participants.remove(place);
        }
        self.end_round()
    }

    /// A member is gone. Gives the round that is through with it.
    pub fn strike(&mut self, place: u8) -> Option<RoundEnd> {
        let awaited = self.awaiting.remove(place);
        if self.participants.remove(place) {
            self.gone.insert(place);
        }
        if awaited { self.end_round() } else { None }
    }

    fn end_round(&mut self) -> Option<RoundEnd> {
        if !self.awaiting.is_empty() {
            return None;
        }
        let end = RoundEnd { round: self.round, gone: self.gone, last: self.participants.is_empty() };
        self.gone_before = core::mem::take(&mut self.gone);
        self.awaiting = self.participants;
        // After 2¹⁶ rounds the numbers begin again; a member is one round behind at most.
        self.round = self.round.wrapping_add(1);
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(places: &[u8]) -> Protocol {
        let participants: MemberSet = places.iter().copied().collect();
        Protocol {
            id: Position::default(),
            slot: 0,
            thread: 0,
            by: MemberId { place: 0, since: 0 },
            node: NodeId::new(0).unwrap(),
            participants,
            round: 0,
            awaiting: participants,
            gone: MemberSet::EMPTY,
            gone_before: MemberSet::EMPTY,
            bytes: heapless::Vec::new(),
        }
    }

    #[test]
    fn ack_claim_2_a_round_is_through_when_all_acknowledged_or_left() {
        let mut p = protocol(&[1, 2, 3]);
        assert_eq!(p.acknowledge(1, 0, false), None);
        assert_eq!(p.acknowledge(1, 0, false), None, "once only");
        assert_eq!(p.acknowledge(2, 1, false), None, "of another round");
        assert_eq!(p.acknowledge(2, 0, false), None);
        let gone: MemberSet = [3].into_iter().collect();
        assert_eq!(p.strike(3), Some(RoundEnd { round: 0, gone, last: false }));
        assert_eq!((p.round, p.awaiting.len(), p.gone_before), (1, 2, gone));
        assert_eq!(p.strike(3), None);
        assert_eq!(p.acknowledge(1, 1, true), None);
        assert_eq!(p.strike(1), None, "who is done takes no part");
        assert_eq!(p.acknowledge(2, 1, true), Some(RoundEnd { round: 1, gone: MemberSet::EMPTY, last: true }));
    }

    #[test]
    fn a_member_that_acknowledged_and_goes_in_the_same_round_is_named() {
        let mut p = protocol(&[1, 2]);
        assert_eq!(p.acknowledge(1, 0, false), None);
        assert_eq!(p.strike(1), None);
        let gone: MemberSet = [1].into_iter().collect();
        assert_eq!(p.acknowledge(2, 0, false), Some(RoundEnd { round: 0, gone, last: false }));
    }
}
