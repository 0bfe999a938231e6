//! Subgroup merge (SUB claims 1–24): each subgroup's leader sends its group data, once.
//!
//! ```text
//! request ──▶ indicators cleared ──▶ leaders by local determination ──▶ leaders whose indicator is not set send
//!    ▲ again if anybody went                                                        │
//!    └──────────────────── ACK round ◀── everybody acknowledges ────────────────────┘──▶ no failures: merged
//! ```
//! Requests, data, acknowledgements and membership changes stand in one order, so each member's local determination comes to
//! the same result, and a leader's data always stands before its acknowledgement. Whatever a leader that died had sent either
//! stands in the order before its death, and then its successor's indicator is set, or it never will.

use serde::{Deserialize, Serialize};

use crate::item::Position;
use crate::member::{Member, MemberSet};

/// A merge that runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Merge {
    /// Its name: where it was asked for.
    pub id: Position,
    /// The group's slot.
    pub slot: u8,
    /// Members that take part: those of the group when it was asked for, less those that are gone.
    pub participants: MemberSet,
    /// The indicators (SUB claim 3): bit *s* is set once the data of subgroup *s* was received.
    pub indicators: u32,
    /// How many messages with group data there were.
    pub data_messages: u16,
    /// The round that is under way, from 0.
    pub round: u16,
    /// Who owes its acknowledgement.
    pub awaiting: MemberSet,
    /// Who went during it.
    pub gone: MemberSet,
}

/// A round that is through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MergeRoundEnd {
    /// Which.
    pub round: u16,
    /// Who went during it; if nobody did, the merge is done.
    pub gone: MemberSet,
}

impl Merge {
    /// One that begins: all indicators are cleared (SUB claim 3a).
    pub fn new(id: Position, slot: u8, participants: MemberSet) -> Self {
        Self {
            id,
            slot,
            participants,
            indicators: 0,
            data_messages: 0,
            round: 0,
            awaiting: participants,
            gone: MemberSet::EMPTY,
        }
    }

    /// Whether the data of a subgroup was received (SUB claim 2).
    pub const fn is_sent(&self, subgroup: u8) -> bool {
        self.indicators >> (subgroup & 31) & 1 == 1
    }

    /// Group data of a subgroup is received (SUB claim 3b).
    pub fn received(&mut self, subgroup: u8) {
        self.indicators |= 1 << (subgroup & 31);
        self.data_messages = self.data_messages.saturating_add(1);
    }

    /// Local determination (SUB claims 1a, 8, 9): whether a member is the lowest-named of its subgroup's.
    pub fn is_leader<'m>(&self, member: &Member, members: impl IntoIterator<Item = &'m Member>) -> bool {
        let mut of_subgroup = members
            .into_iter()
            .filter(|m| m.slot == self.slot && m.subgroup == member.subgroup && self.participants.contains(m.id.place));
        of_subgroup.all(|m| m.rank() >= member.rank())
    }

    /// An acknowledgement. Gives the round that is through with it.
    pub fn acknowledge(&mut self, place: u8, round: u16) -> Option<MergeRoundEnd> {
        if round != self.round || !self.awaiting.remove(place) {
            return None;
        }
        self.end_round()
    }

    /// A member is gone (SUB claim 5). Gives the round that is through with it.
    pub fn strike(&mut self, place: u8) -> Option<MergeRoundEnd> {
        let awaited = self.awaiting.remove(place);
        if self.participants.remove(place) {
            self.gone.insert(place);
        }
        if awaited { self.end_round() } else { None }
    }

    fn end_round(&mut self) -> Option<MergeRoundEnd> {
        if !self.awaiting.is_empty() {
            return None;
        }
        let end = MergeRoundEnd { round: self.round, gone: core::mem::take(&mut self.gone) };
        if !end.gone.is_empty() {
            self.awaiting = self.participants;
            self.round = self.round.wrapping_add(1);
        }
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{MemberId, Name};
    use quorate_base::NodeId;

    fn member(place: u8, name: &str, node: u8, subgroup: u8) -> Member {
        Member {
            id: MemberId { place, since: 1 },
            slot: 0,
            node: NodeId::new(node).unwrap(),
            name: Name::try_from(name).unwrap(),
            subgroup,
        }
    }

    #[test]
    fn sub_claims_8_and_9_the_lowest_named_member_of_a_subgroup_leads_it() {
        let all = [member(0, "b", 0, 1), member(1, "a", 3, 1), member(2, "a", 2, 1), member(3, "0", 1, 2)];
        let mut merge = Merge::new(Position::default(), 0, (0..4).collect());
        let leads = |merge: &Merge| all.each_ref().map(|m| merge.is_leader(m, &all));
        assert_eq!(leads(&merge), [false, false, true, true]);
        merge.strike(2);
        assert_eq!(leads(&merge)[..2], [false, true]);
        merge.strike(1);
        assert!(leads(&merge)[0]);
    }

    #[test]
    fn sub_claim_15_rounds_are_repeated_until_one_is_without_failures() {
        let mut merge = Merge::new(Position::default(), 0, (0..3).collect());
        assert!(!merge.is_sent(1));
        merge.received(1);
        assert!(merge.is_sent(1) && !merge.is_sent(2));
        assert_eq!(merge.acknowledge(0, 0), None);
        assert_eq!(merge.strike(1), None);
        let gone: MemberSet = [1].into_iter().collect();
        assert_eq!(merge.acknowledge(2, 0), Some(MergeRoundEnd { round: 0, gone }));
        assert_eq!((merge.round, merge.awaiting.len()), (1, 2));
        assert_eq!(merge.acknowledge(0, 1), None);
        assert_eq!(merge.acknowledge(2, 1), Some(MergeRoundEnd { round: 1, gone: MemberSet::EMPTY }));
    }
}
