//! The tables: groups, members, what runs in them. A state machine whose only inputs are the items of the order, so that the
//! tables of all nodes are equal at equal places.
//!
//! Invariants: nothing here depends on the node that it runs on; an item that a correct node could not have made, or whose
//! member is gone meanwhile, has no effect, everywhere alike; every member is on a node of the roster.

use heapless::Vec;
use quorate_base::capacity::NODES_MAX;
use quorate_base::{NodeId, NodeSet};
use serde::{Deserialize, Serialize};

use crate::ack::{Protocol, RoundEnd};
use crate::capacity::{GROUPS_MAX, MEMBERS_MAX, PROTOCOLS_MAX, THREADS_MAX};
use crate::domain::{DomainAsk, DomainOp, Pending, Progress, Refusal, Verdict};
use crate::epoch::{EpochId, Roster};
use crate::item::{Item, MemberId, Name, Position, Reason, STREAMS, Stream};
use crate::member::{Member, MemberSet, SUBGROUPS_MAX};
use crate::merge::{Merge, MergeRoundEnd};
use crate::told::{ChangeKind, Denied, Hear, Told};

/// Requests for domains that are under way at a time, at most.
pub const ASKS_MAX: usize = 8;

/// A group. It exists while it has members.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Its slot, which is also that of its streams.
    pub slot: u8,
    /// Its name.
    pub name: Name,
    /// Its members join by a domain's Join_Member.
    pub of_domain: bool,
}

/// Bytes of a long message that are kept for whoever is told of it.
pub const HEAD_MAX: usize = 32;

/// A message of which not all parts are there yet.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Partial {
    /// From whom.
    pub member: MemberId,
    /// That one's node.
    pub node: NodeId,
    /// The frame in which it begins.
    pub begins: u64,
    /// How many bytes are there.
    pub len: u16,
    /// The first of them.
    pub head: Vec<u8, HEAD_MAX>,
}

/// The tables.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Tables {
    /// The engines that take part, as of here.
    pub roster: Roster,
    /// How far they are: the order of the last frame.
    pub order: u64,
    /// The groups.
    pub groups: Vec<Group, GROUPS_MAX>,
    /// The members of all groups, by place.
    pub members: Vec<Member, MEMBERS_MAX>,
    /// Protocols, in the order in which they were started.
    pub protocols: Vec<Protocol, PROTOCOLS_MAX>,
    /// Merges, one per group at most.
    pub merges: Vec<Merge, GROUPS_MAX>,
    /// Requests for domains, in the order in which they were made.
    pub asks: Vec<Pending, ASKS_MAX>,
    /// Nodes of the roster that have said, since they have the state, that they hear what is told of domains.
    pub caught_up: NodeSet,
    /// Per slot, how many frames with messages there were.
    pub data_frames: [u32; GROUPS_MAX],
    /// Per slot, the message of which not all parts are there yet.
    pub partial: [Option<Partial>; GROUPS_MAX],
    /// Per node and stream, the number of its last frame.
    streams: Vec<[u32; STREAMS], NODES_MAX>,
}

impl Tables {
    /// A group by name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|g| g.name == name)
    }

    /// A group by slot.
    pub fn group_at(&self, slot: u8) -> Option<&Group> {
        self.groups.iter().find(|g| g.slot == slot)
    }

    /// A member.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.iter().find(|m| m.id == id)
    }

    /// Members of one group.
    pub fn members_of(&self, slot: u8) -> impl Iterator<Item = &Member> + Clone {
        self.members.iter().filter(move |m| m.slot == slot)
    }

    /// The places of one group's members.
    pub fn places_of(&self, slot: u8) -> MemberSet {
        self.members_of(slot).map(|m| m.id.place).collect()
    }

    /// The number of the last frame of a node's stream.
    pub fn last_frame(&self, node: NodeId, stream: Stream) -> u32 {
        self.streams.get(node.index()).and_then(|s| s.get(stream.index())).copied().unwrap_or(0)
    }

    /// A frame is applied; its items follow. Number 0: the sequencer's own frame with a roster, of no stream.
    pub fn begin_frame(&mut self, order: u64, node: NodeId, stream: Stream, number: u32) {
        self.order = order;
        if number == 0 {
            return;
        }
        while self.streams.len() <= node.index() {
            // At most NODES_MAX.
            if self.streams.push([0; STREAMS]).is_err() {
                break;
            }
        }
        if let Some(last) = self.streams.get_mut(node.index()).and_then(|s| s.get_mut(stream.index())) {
            *last = number;
        }
        if let Some(frames) = stream.slot().and_then(|slot| self.data_frames.get_mut(usize::from(slot))) {
            *frames = frames.wrapping_add(1);
        }
    }

    /// Applies one item of `node`. `stream`: where it stood. True if it is a message that counts.
    pub fn apply(&mut self, at: Position, node: NodeId, stream: Stream, item: &Item<'_>, hear: &mut dyn Hear) -> bool {
        let on_node = |id: &MemberId| self.member(*id).filter(|m| m.node == node).cloned();
        match item {
            Item::Roster { epoch, roster, left } => self.on_roster(at, *epoch, roster, *left, hear),
            Item::Register { group, job, subgroup } => {
                if let Err(why) = self.add_member(at, node, group, job, *subgroup, false, hear) {
                    hear.hear(&Told::Denied { at, node, group, job, why });
                }
            }
            Item::Out { member, reason } => {
                if let Some(m) = on_node(member) {
                    self.drop_member(at, m.id, *reason, hear);
                }
            }
            Item::Unregister { member } => {
                if let Some(m) = on_node(member).filter(|m| stream.slot() == Some(m.slot)) {
                    self.drop_member(at, m.id, Reason::Unregistered, hear);
                }
            }
            Item::Data { member, to, bytes } => {
                let Some(m) = on_node(member).filter(|m| stream.slot() == Some(m.slot)) else { return false };
                if let Some(group) = self.group_at(m.slot) {
                    let to_node = to.and_then(|to| self.member(to)).map(|m| m.node);
                    let (group, begins, len) = (&group.name, at.order, bytes.len());
                    hear.hear(&Told::Message { at, begins, len, group, from: &m, to: *to, to_node, bytes });
                    return true;
                }
            }
            Item::Part { member, to, offset, more, bytes } => {
                if let Some(m) = on_node(member).filter(|m| stream.slot() == Some(m.slot)) {
                    return self.on_part(at, &m, *to, (*offset, *more, bytes), hear);
                }
            }
            Item::Start { member, thread, bytes } => {
                if let Some(m) = on_node(member) {
                    self.on_start(at, &m, *thread, bytes, hear);
                }
            }
            Item::Ack { member, protocol, round, done } => {
                if let Some(m) = on_node(member)
                    && let Some(p) = self.protocols.iter_mut().find(|p| p.id == *protocol && p.slot == m.slot)
                    && let Some(end) = p.acknowledge(m.id.place, *round, *done)
                {
                    self.on_round_end(at, *protocol, end, hear);
                }
            }
            Item::MergeRequest { member } => {
                if let Some(m) = on_node(member) {
                    self.on_merge_request(at, &m, hear);
                }
            }
            Item::GroupData { member, merge, bytes } => {
                if let Some(m) = on_node(member) {
                    self.on_group_data(at, &m, *merge, bytes, hear);
                }
            }
            Item::MergeAck { member, merge, round } => {
                if let Some(m) = on_node(member)
                    && let Some(running) = self.merges.iter_mut().find(|r| r.id == *merge && r.slot == m.slot)
                    && let Some(end) = running.acknowledge(m.id.place, *round)
                {
                    self.on_merge_round_end(at, *merge, end, hear);
                }
            }
            Item::Ask(ask) => self.on_ask(at, node, ask, hear),
            Item::Vote { ask, verdict } => self.on_vote(at, node, *ask, *verdict, hear),
            // The copies are each node's own.
            Item::Copy(_) => {}
            Item::AskCopies => drop(self.caught_up.insert(node)),
        }
        false
    }

    /// A part of a message. False if it is none that can come here.
    fn on_part(
        &mut self,
        at: Position,
        from: &Member,
        to: Option<MemberId>,
        (offset, more, bytes): (u16, bool, &[u8]),
        hear: &mut dyn Hear,
    ) -> bool {
        let group = self.group_at(from.slot).map(|g| g.name.clone());
        let to_node = to.and_then(|to| self.member(to)).map(|m| m.node);
        let Some(place) = self.partial.get_mut(usize::from(from.slot)) else { return false };
        if offset == 0 {
            let head = Vec::from_slice(bytes.get(..bytes.len().min(HEAD_MAX)).unwrap_or_default()).unwrap_or_default();
            *place = Some(Partial { member: from.id, node: from.node, begins: at.order, len: 0, head });
        }
        let Some(partial) = place.as_mut().filter(|p| p.member == from.id && p.len == offset) else { return false };
        partial.len = partial.len.saturating_add(bytes.len() as u16);
        if !more && let (Some(whole), Some(group)) = (place.take(), group) {
            let Partial { begins, len, head, .. } = &whole;
            let (begins, len, group, bytes) = (*begins, usize::from(*len), &group, &**head);
            hear.hear(&Told::Message { at, begins, len, group, from, to, to_node, bytes });
        }
        true
    }

    fn on_roster(&mut self, at: Position, epoch: EpochId, roster: &Roster, left: NodeSet, hear: &mut dyn Hear) {
        let stay = self.roster.common(roster);
        for node in self.roster.nodes().minus(stay) {
            let reason = if left.contains(node) { Reason::NodeLeft } else { Reason::NodeFailed };
            while let Some(id) = self.members.iter().find(|m| m.node == node).map(|m| m.id) {
                self.drop_member(at, id, reason, hear);
            }
            for ask in &mut self.asks {
                ask.strike(node);
            }
        }
        for node in self.roster.nodes().or(roster.nodes()).minus(stay) {
            if let Some(streams) = self.streams.get_mut(node.index()) {
                *streams = [0; STREAMS];
            }
        }
        self.caught_up = self.caught_up.and(stay);
        self.roster = roster.clone();
        hear.hear(&Told::Roster { at, epoch, roster });
        self.step_asks(at, hear);
    }

    #[expect(clippy::too_many_arguments, reason = "a register item, taken apart")]
    fn add_member(
        &mut self,
        at: Position,
        node: NodeId,
        group: &Name,
        job: &Name,
        subgroup: u8,
        of_domain: bool,
        hear: &mut dyn Hear,
    ) -> Result<(), Denied> {
        let slot = match self.group(group) {
            Some(g) if g.of_domain != of_domain => return Err(Denied::Domain),
            Some(g) => g.slot,
            None => {
                let free = |slot: &u8| self.group_at(*slot).is_none();
                (0..GROUPS_MAX as u8).find(free).ok_or(Denied::TooManyGroups)?
            }
        };
        if self.members_of(slot).any(|m| m.node == node && m.name == *job) {
            return Err(Denied::NameTaken);
        }
        let free = |place: &u8| self.members.iter().all(|m| m.id.place != *place);
        let place = (0..MEMBERS_MAX as u8).find(free).ok_or(Denied::TooManyMembers)?;
        if self.group_at(slot).is_none() {
            let new = Group { slot, name: group.clone(), of_domain };
            self.groups.push(new).map_err(|_| Denied::TooManyGroups)?;
        }
        let id = MemberId { place, since: at.order };
        let member = Member { id, slot, node, name: job.clone(), subgroup: subgroup % SUBGROUPS_MAX };
        hear.hear(&Told::Change { at, group, member: &member, kind: ChangeKind::Joined });
        // There is a free place.
        let _ = self.members.push(member);
        Ok(())
    }

    /// Takes a member out: of its group, and of all that runs in it.
    fn drop_member(&mut self, at: Position, id: MemberId, reason: Reason, hear: &mut dyn Hear) {
        let Some(index) = self.members.iter().position(|m| m.id == id) else { return };
        let member = self.members.swap_remove(index);
        // What it did not finish nobody gets.
        if let Some(partial) = self.partial.get_mut(usize::from(member.slot)) {
            partial.take_if(|p| p.member == id);
        }
        if let Some(group) = self.group_at(member.slot) {
            hear.hear(&Told::Change { at, group: &group.name, member: &member, kind: ChangeKind::Left(reason) });
        }
        let mut next = 0;
        while let Some(p) = self.protocols.get_mut(next) {
            let (protocol, ours) = (p.id, p.slot == member.slot);
            if let Some(end) = p.strike(id.place).filter(|_| ours) {
                self.on_round_end(at, protocol, end, hear);
            }
            // Where one is over the next has its place.
            next += usize::from(self.protocols.get(next).is_some_and(|p| p.id == protocol));
        }
        let mut next = 0;
        while let Some(m) = self.merges.get_mut(next) {
            let merge = m.id;
            if let Some(end) = m.strike(id.place) {
                self.on_merge_round_end(at, merge, end, hear);
            }
            next += usize::from(self.merges.get(next).is_some_and(|m| m.id == merge));
        }
        if self.members_of(member.slot).next().is_none() {
            self.groups.retain(|g| g.slot != member.slot);
        }
    }

    fn on_start(&mut self, at: Position, by: &Member, thread: u8, bytes: &[u8], hear: &mut dyn Hear) {
        let Some(group) = self.group_at(by.slot).map(|g| g.name.clone()) else { return };
        let participants = self.places_of(by.slot);
        let protocol = Protocol {
            id: at,
            slot: by.slot,
            thread: thread % THREADS_MAX,
            by: by.id,
            node: by.node,
            participants,
            round: 0,
            awaiting: participants,
            gone: MemberSet::EMPTY,
            gone_before: MemberSet::EMPTY,
            bytes: Vec::from_slice(bytes).unwrap_or_default(),
        };
        if self.protocols.push(protocol).is_err() {
            let why = Denied::TooManyProtocols;
            hear.hear(&Told::Denied { at, node: by.node, group: &group, job: &by.name, why });
            return;
        }
        let (by, thread) = (by.id, thread % THREADS_MAX);
        hear.hear(&Told::Protocol { at, group: &group, by, thread, participants });
    }

    fn on_round_end(&mut self, at: Position, protocol: Position, end: RoundEnd, hear: &mut dyn Hear) {
        let slot = self.protocols.iter().find(|p| p.id == protocol).map(|p| p.slot);
        if let Some(group) = slot.and_then(|slot| self.group_at(slot)) {
            let RoundEnd { round, gone, last } = end;
            hear.hear(&Told::Round { at, group: &group.name, protocol, round, gone, last });
        }
        if end.last {
            self.protocols.retain(|p| p.id != protocol);
        }
    }

    fn on_merge_request(&mut self, at: Position, by: &Member, hear: &mut dyn Hear) {
        let Some(group) = self.group_at(by.slot).map(|g| g.name.clone()) else { return };
        let participants = self.places_of(by.slot);
        let merge = Merge::new(at, by.slot, participants);
        if self.merges.iter().any(|m| m.slot == by.slot) || self.merges.push(merge).is_err() {
            hear.hear(&Told::Denied { at, node: by.node, group: &group, job: &by.name, why: Denied::Merging });
            return;
        }
        hear.hear(&Told::MergeBegins { at, group: &group, participants });
    }

    fn on_group_data(&mut self, at: Position, from: &Member, merge: Position, bytes: &[u8], hear: &mut dyn Hear) {
        let running = self.merges.iter_mut().find(|m| m.id == merge && m.slot == from.slot);
        let Some(running) = running.filter(|m| m.participants.contains(from.id.place)) else { return };
        running.received(from.subgroup);
        if let Some(group) = self.group_at(from.slot) {
            hear.hear(&Told::GroupData { at, group: &group.name, merge, from, bytes });
        }
    }

    fn on_merge_round_end(&mut self, at: Position, merge: Position, end: MergeRoundEnd, hear: &mut dyn Hear) {
        let Some(index) = self.merges.iter().position(|m| m.id == merge) else { return };
        let Some(running) = self.merges.get(index).cloned() else { return };
        let group = self.group_at(running.slot).map(|g| g.name.clone()).unwrap_or_default();
        let MergeRoundEnd { round, gone } = end;
        hear.hear(&Told::MergeRound { at, group: &group, merge, round, gone });
        if running.participants.is_empty() {
            self.merges.swap_remove(index);
        } else if gone.is_empty() {
            self.merges.swap_remove(index);
            let takes_part = |m: &Member| m.slot == running.slot && running.participants.contains(m.id.place);
            let one = self.members.iter().filter(|m| takes_part(m)).map(|m| m.subgroup).min().unwrap_or(0);
            for m in self.members.iter_mut().filter(|m| takes_part(m)) {
                m.subgroup = one;
            }
            hear.hear(&Told::Merged { at, group: &group, merge, data_messages: running.data_messages });
        }
    }

    fn on_ask(&mut self, at: Position, node: NodeId, ask: &DomainAsk, hear: &mut dyn Hear) {
        hear.hear(&Told::Ask { at, by: node, ask });
        let empty = matches!(ask.op, DomainOp::Create(nodes) if nodes.is_empty()) || ask.domain.is_empty();
        let busy = self.asks.iter().any(|p| p.ask.domain == ask.domain);
        let pending = Pending::new(at, node, ask.clone(), self.roster.nodes());
        let refused = if empty {
            Some(Refusal::Empty)
        } else if busy || self.asks.push(pending).is_err() {
            Some(Refusal::Busy)
        } else {
            None
        };
        if refused.is_some() {
            hear.hear(&Told::Answer { at, ask: at, by: node, what: ask, refused });
        }
    }

    fn on_vote(&mut self, at: Position, node: NodeId, ask: Position, verdict: Verdict, hear: &mut dyn Hear) {
        if let Some(pending) = self.asks.iter_mut().find(|p| p.id == ask) {
            pending.vote(node, verdict);
        }
        self.step_asks(at, hear);
    }

    fn step_asks(&mut self, at: Position, hear: &mut dyn Hear) {
        let running = self.roster.nodes();
        let mut next = 0;
        while let Some(pending) = self.asks.get_mut(next) {
            match pending.step(running) {
                Progress::Waits => next += 1,
                Progress::Decided => {
                    let (by, ask) = (pending.by, pending.ask.clone());
                    if let Err(refused) = self.on_decided(at, by, &ask, hear)
                        && let Some(pending) = self.asks.get_mut(next)
                    {
                        pending.refused = Some(refused);
                    }
                }
                Progress::Over(refused) => {
                    // The order is that in which they were made.
                    let over = self.asks.remove(next);
                    let refused = refused.or(over.refused);
                    hear.hear(&Told::Answer { at, ask: over.id, by: over.by, what: &over.ask, refused });
                }
            }
        }
    }

    /// What a granted request changes in the group of the domain, at once.
    fn on_decided(&mut self, at: Position, by: NodeId, ask: &DomainAsk, hear: &mut dyn Hear) -> Result<(), Refusal> {
        let gone = match ask.op {
            DomainOp::Create(_) | DomainOp::Add(_) => return Ok(()),
            DomainOp::Join => {
                let added = self.add_member(at, by, &ask.domain, &ask.job, 0, true, hear);
                return added.map_err(|_| Refusal::Group);
            }
            DomainOp::Leave => NodeSet::only(by),
            DomainOp::Remove(node) => NodeSet::only(node),
            DomainOp::Delete => NodeSet(u64::MAX),
        };
        let Some(slot) = self.group(&ask.domain).filter(|g| g.of_domain).map(|g| g.slot) else { return Ok(()) };
        let goes = |m: &&Member| m.slot == slot && gone.contains(m.node);
        while let Some(id) = self.members.iter().find(goes).map(|m| m.id) {
            self.drop_member(at, id, Reason::Removed, hear);
        }
        Ok(())
    }
}
