//! What must hold, checked on what every node was told, after every step.

use quorate_base::{Incarnation, NodeId};
use quorate_groups::tables::{HEAD_MAX, Tables};
use quorate_groups::{ChangeKind, Engine, JobId, JobState, MemberId, Position, Reason, Told};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

type Life = (NodeId, Incarnation);

/// A message as a job took it: from whom, in which frame it begins, how long it is, and its first bytes.
type Took = (MemberId, u64, usize, Vec<u8>);

fn head(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(HEAD_MAX)].to_vec()
}

/// A message as it was told: in which group, to whom, and what a job must take.
type Known = (String, Option<MemberId>, Took);

/// In which group, on which node, since when, until when and why.
type Membership = (String, NodeId, Position, Option<(Position, Reason)>);

/// What one life was told.
#[derive(Debug, Default)]
struct Lived {
    /// Places in the order, with what was told there, as texts.
    told: BTreeMap<u64, Vec<String>>,
    /// The state that it began with, and how far it came.
    from: u64,
    to: u64,
    member: bool,
}

#[derive(Debug, Default)]
pub struct Check {
    lives: HashMap<Life, Lived>,
    /// What the first that delivered a place was told there, and how its tables were after it.
    order: BTreeMap<u64, Vec<String>>,
    tables: HashMap<u64, u64>,
    /// Messages as they stand in the order.
    messages: BTreeMap<Position, Known>,
    seen: HashSet<(MemberId, Vec<u8>)>,
    /// Of each member the number of its last message in the order.
    last: HashMap<MemberId, u64>,
    /// What each job's work threads took.
    taken: HashMap<(NodeId, Incarnation, JobId), Vec<Took>>,
    /// When each member came and went, in which group.
    pub members: HashMap<MemberId, Membership>,
    /// Group data messages per merge and leader's subgroup; merges that are done.
    pub data: HashMap<(Position, u8), u32>,
    pub merged: HashMap<Position, u16>,
    pub merges: HashSet<Position>,
    pub rounds: Vec<(Position, u16, u32, bool)>,
    pub answers: Vec<(Position, String, Option<quorate_groups::Refusal>)>,
    pub differ: u32,
}

fn hash(tables: &Tables) -> u64 {
    let mut h = DefaultHasher::new();
    tables.hash(&mut h);
    h.finish()
}

impl Check {
    pub fn hear(&mut self, node: NodeId, life: Incarnation, told: &Told<'_>) {
        let at = match told {
            Told::Roster { at, .. }
            | Told::Change { at, .. }
            | Told::Denied { at, .. }
            | Told::Message { at, .. }
            | Told::Protocol { at, .. }
            | Told::Round { at, .. }
            | Told::MergeBegins { at, .. }
            | Told::GroupData { at, .. }
            | Told::MergeRound { at, .. }
            | Told::Merged { at, .. }
            | Told::Ask { at, .. }
            | Told::Answer { at, .. } => *at,
            Told::CopiesDiffer { .. } => {
                self.differ += 1;
                return;
            }
            Told::CaughtUp { order } => {
                let lived = self.lives.entry((node, life)).or_default();
                (lived.from, lived.to) = (*order, *order);
                return;
            }
            Told::Copy { .. } | Told::Slow { .. } | Told::Waits { .. } => return,
        };
        let lived = self.lives.entry((node, life)).or_default();
        let text = format!("{told:?}");
        let here = lived.told.entry(at.order).or_default();
        here.push(text.clone());
        let place = here.len() - 1;
        let first = self.order.entry(at.order).or_default();
        match first.get(place) {
            Some(known) => assert_eq!(*known, text, "{node:?} {life:?} was told something else at {}", at.order),
            None => {
                first.push(text);
                self.first(at, told);
            }
        }
    }

    /// What is told for the first time anywhere.
    fn first(&mut self, at: Position, told: &Told<'_>) {
        match told {
            Told::Message { group, from, to, bytes, begins, len, .. } => {
                let known = (group.to_string(), *to, (from.id, *begins, *len, head(bytes)));
                assert!(self.messages.insert(at, known).is_none());
                assert!(self.seen.insert((from.id, bytes.to_vec())), "doubled: {from:?} {bytes:?} at {at:?}");
                if let Some((number, _)) = bytes.split_first_chunk::<8>() {
                    let number = u64::from_le_bytes(*number);
                    let last = self.last.entry(from.id).or_default();
                    assert_eq!(number, *last + 1, "lost or out of order: {from:?} at {at:?}");
                    *last = number;
                }
            }
            Told::Change { group, member, kind, .. } => match kind {
                ChangeKind::Joined => {
                    let known = (group.to_string(), member.node, at, None);
                    assert!(self.members.insert(member.id, known).is_none());
                }
                ChangeKind::Left(reason) => {
                    let known = self.members.get_mut(&member.id).expect("it joined before");
                    assert!(known.3.replace((at, *reason)).is_none(), "left twice");
                }
            },
            Told::MergeBegins { .. } => drop(self.merges.insert(at)),
            Told::GroupData { merge, from, .. } => {
                let count = self.data.entry((*merge, from.subgroup)).or_default();
                *count += 1;
                assert_eq!(*count, 1, "group data of subgroup {} twice in {merge:?}", from.subgroup);
            }
            Told::Merged { merge, data_messages, .. } => {
                assert!(self.merged.insert(*merge, *data_messages).is_none());
            }
            Told::Round { protocol, round, gone, last, .. } => {
                self.rounds.push((*protocol, *round, gone.len(), *last));
            }
            Told::Answer { ask, what, refused, .. } => {
                self.answers.push((*ask, format!("{} {}", what.op.name(), what.domain), *refused));
            }
            _ => {}
        }
    }

    /// A node's engine after a call.
    pub fn look(&mut self, node: NodeId, life: Incarnation, engine: &Engine) {
        if !engine.is_caught_up() {
            return;
        }
        let tables = engine.tables();
        let lived = self.lives.entry((node, life)).or_default();
        if lived.to == 0 {
            (lived.from, lived.to) = (tables.order, tables.order);
            // It may have begun from nothing and delivered in the same call.
            if let Some((first, _)) = lived.told.first_key_value() {
                lived.from = first - 1;
            }
        }
        assert!(tables.order >= lived.to, "{node:?} goes back");
        lived.to = tables.order;
        lived.member |= tables.roster.has(node, life);
        let now = hash(tables);
        let known = *self.tables.entry(tables.order).or_insert(now);
        assert_eq!(known, now, "{node:?}: other tables at {}\n{tables:#?}", tables.order);
    }

    pub fn was_member(&self, node: NodeId, life: Incarnation) -> bool {
        self.lives.get(&(node, life)).is_some_and(|l| l.member)
    }

    /// A life ended: it was told everything, in its time.
    pub fn ended(&mut self, node: NodeId, life: Incarnation) {
        let Some(lived) = self.lives.get(&(node, life)) else { return };
        for (order, told) in self.order.range(lived.from..=lived.to).filter(|(order, _)| **order > lived.from) {
            assert_eq!(lived.told.get(order), Some(told), "{node:?} {life:?} missed something at {order}");
        }
    }

    pub fn took(&mut self, node: NodeId, life: Incarnation, job: JobId, from: MemberId, order: u64, bytes: &[u8]) {
        self.taken.entry((node, life, job)).or_default().push((from, order, bytes.len(), head(bytes)));
        if let Some((number, rest)) = bytes.split_first_chunk::<8>().filter(|_| bytes.len() > HEAD_MAX) {
            let whole = super::engine::number(u64::from_le_bytes(*number), bytes.len() - 8);
            assert!(whole[8..] == *rest, "{node:?} {job:?} took other bytes than were sent");
        }
    }

    pub fn log_of(&self, node: NodeId, life: Incarnation) -> Vec<String> {
        self.lives.get(&(node, life)).map(|l| l.told.values().flatten().cloned().collect()).unwrap_or_default()
    }

    /// How many messages of a member were delivered.
    pub fn delivered(&self, from: MemberId) -> usize {
        self.messages.values().filter(|m| m.2.0 == from).count()
    }

    /// What a job took is what was sent to its group in its time, in order; all of it if it is a member still.
    pub fn check_taken(&self, node: NodeId, life: Incarnation, engine: &Engine) {
        for (job, _, _, state, _) in engine.jobs() {
            let member = match state {
                JobState::Member(id) => id,
                _ => continue,
            };
            let (group, _, since, _) = &self.members[&member];
            // One that began before it came is not for it, even if it ended after that.
            let due: Vec<Took> = self
                .messages
                .range(*since..)
                .filter(|(_, m)| m.0 == *group && m.1.is_none_or(|to| to == member) && m.2.1 > since.order)
                .map(|(_, m)| m.2.clone())
                .collect();
            let took = self.taken.get(&(node, life, job)).cloned().unwrap_or_default();
            assert_eq!(took.len(), due.len(), "{node:?} {job:?} took another number of messages");
            assert_eq!(took, due, "{node:?} {job:?} took other messages");
        }
    }

    pub fn messages(&self) -> usize {
        self.messages.len()
    }
}
