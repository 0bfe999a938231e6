//! Group services: every node delivers the same, in the same order, without a gap (MISSION F1, virtual synchrony), and each
//! subgroup's data comes once in a merge (MISSION F4). What a member numbers comes without a hole and in its order; only members
//! are heard; and what began ends (ACK rounds, merges, requests for domains), where a run says that it has settled.
//!
//! A place in the order is (frame, place in the frame, how many events of that node before it there). Who begins later (a node
//! that joined) begins in the middle; a life that ended may have lost its last lines: between a life's first and last place
//! nothing may be missing.

use std::collections::BTreeMap;

use crate::line::{Life, Member, MergePhase, Ordered, Topic};
use crate::map::Map;
use crate::rule::{Findings, Rule};

type Place = (u64, u64, u32);

#[derive(Debug, Default)]
struct Delivered {
    first: Option<Place>,
    last: Place,
    count: u64,
    /// Members that it saw come, with the number of their last numbered message; `None`: it saw them go.
    members: BTreeMap<Member, Option<u64>>,
    /// Protocols that began here and did not end, by name, and how many of one name.
    protocols: BTreeMap<u64, i64>,
    /// Merges that began here and did not end.
    merges: BTreeMap<(String, u64), Merging>,
    /// Requests for domains without an answer.
    asks: BTreeMap<String, i64>,
}

/// A merge under way, as one life sees it.
#[derive(Debug, Default)]
struct Merging {
    /// Members that are not gone.
    left: u64,
    /// Messages with data.
    data: u64,
}

/// What is known of the order.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    order: BTreeMap<Place, String>,
    lives: Map<Life, Delivered>,
    /// Messages with group data, by merge and subgroup; those that are counted at this place already.
    data: BTreeMap<((String, u64), u64), Place>,
    /// Lives whose violations are reported already.
    wrong: Map<Life, bool>,
}

impl Groups {
    /// One event in the order.
    pub(crate) fn on_ordered(&mut self, life: Life, event: &Ordered, out: &mut Findings) {
        let own = self.lives.entry(life).or_default();
        let (order, index, before) = own.last;
        let again = own.first.is_some() && (order, index) == (event.order, event.index);
        let place = (event.order, event.index, if again { before + 1 } else { 0 });
        if own.first.is_some() && place <= own.last {
            return self.report(
                life,
                Rule::GroupOrder,
                format!("{life} goes back from place {order} to {}", event.order),
                out,
            );
        }
        own.first.get_or_insert(place);
        (own.last, own.count) = (place, own.count + 1);
        match self.order.get(&place) {
            Some(known) if *known != event.what => {
                let what = format!("{life} delivered {} at place {order}, others {known}", event.what);
                self.report(life, Rule::GroupOrder, what, out);
            }
            Some(_) => {}
            None => {
                self.order.insert(place, event.what.clone());
            }
        }
        self.on_topic(life, place, &event.topic, out);
    }

    fn on_topic(&mut self, life: Life, place: Place, topic: &Topic, out: &mut Findings) {
        let Some(own) = self.lives.get_mut(&life) else { return };
        let wrong = match topic {
            Topic::Message { from, number } => own.on_message(from, *number),
            Topic::Change { member, joined } => own.on_change(member, *joined),
            Topic::Protocol { id, ends } => {
                count(&mut own.protocols, *id, *ends);
                None
            }
            Topic::Ask { domain, ends } => {
                count(&mut own.asks, domain.clone(), *ends);
                None
            }
            Topic::Merge { of, phase } => match (own.on_merge(of, *phase), phase) {
                (None, MergePhase::Data(subgroup))
                    if *self.data.entry((of.clone(), *subgroup)).or_insert(place) != place =>
                {
                    let what = format!("the data of subgroup {subgroup} twice in merge {} of {}", of.1, of.0);
                    Some((Rule::GroupData, what))
                }
                (wrong, _) => wrong,
            },
            Topic::None => None,
        };
        if let Some((rule, what)) = wrong {
            self.report(life, rule, format!("{life}, place {}: {what}", place.0), out);
        }
    }

    fn report(&mut self, life: Life, rule: Rule, what: String, out: &mut Findings) {
        // What follows from one wrong place would hide it.
        if !std::mem::replace(self.wrong.entry(life).or_default(), true) {
            out.add(rule, what);
        }
    }

    /// The trace ends: no life left out what others delivered.
    pub(crate) fn finish(&mut self, out: &mut Findings) {
        for (life, own) in &self.lives {
            let Some(first) = own.first else { continue };
            let between = self.order.range(first..=own.last).count() as u64;
            if between != own.count && !self.wrong.get(life).copied().unwrap_or_default() {
                let what = format!("{life} delivered {} of {between} things from place {} on", own.count, first.0);
                out.add(Rule::GroupGap, what);
            }
        }
    }

    /// What began at a life and has not ended there.
    pub(crate) fn all_open(&self) -> impl Iterator<Item = (Life, String)> + '_ {
        self.lives.iter().flat_map(|(life, own)| {
            let protocols = own.protocols.iter().filter(|(_, n)| **n > 0).map(|(id, _)| format!("protocol {id}"));
            let merges = own.merges.keys().map(|(group, id)| format!("merge {id} of {group}"));
            let asks = own.asks.iter().filter(|(_, n)| **n > 0).map(|(d, _)| format!("a request for domain {d}"));
            protocols.chain(merges).chain(asks).map(|what| (*life, what))
        })
    }

    /// How many things were delivered, each counted once.
    pub(crate) fn places(&self) -> u64 {
        self.order.len() as u64
    }
}

/// One more that began, or ended. What began before this life heard of it does not count.
fn count<K: Ord>(open: &mut BTreeMap<K, i64>, key: K, ends: bool) {
    if !ends {
        *open.entry(key).or_default() += 1;
    } else if let Some(n) = open.get_mut(&key) {
        *n -= 1;
        if *n <= 0 {
            open.remove(&key);
        }
    }
}

impl Delivered {
    fn on_message(&mut self, from: &Member, number: Option<u64>) -> Option<(Rule, String)> {
        let Member { group, node, job } = from;
        match (self.members.get_mut(from), number) {
            (Some(None), _) => {
                Some((Rule::GroupMember, format!("a message in {group} of {job} on node {node}, which is no member")))
            }
            (Some(Some(last)), Some(number)) => {
                let due = *last + 1;
                *last = number;
                let what = || format!("{job} on node {node} in {group}: message {number} where {due} is due");
                (number != due).then(|| (Rule::GroupRow, what()))
            }
            // A member since before this life heard of the group: it begins in the middle of its row.
            (None, Some(number)) => {
                self.members.insert(from.clone(), Some(number));
                None
            }
            (_, None) => None,
        }
    }

    fn on_change(&mut self, member: &Member, joined: bool) -> Option<(Rule, String)> {
        let before = self.members.insert(member.clone(), joined.then_some(0));
        let Member { group, node, job } = member;
        let wrong = match before {
            Some(Some(_)) if joined => "came, and was there",
            Some(None) if !joined => "went, and was not there",
            _ => return None,
        };
        Some((Rule::GroupMember, format!("{job} on node {node} {wrong} in {group}")))
    }

    fn on_merge(&mut self, of: &(String, u64), phase: MergePhase) -> Option<(Rule, String)> {
        if let MergePhase::Begins(members) = phase {
            self.merges.insert(of.clone(), Merging { left: members, data: 0 });
            return None;
        }
        // One that began before this life heard of it.
        let merging = self.merges.get_mut(of)?;
        match phase {
            MergePhase::Begins(_) => {}
            MergePhase::Data(_) => merging.data += 1,
            MergePhase::Round { gone } => {
                merging.left = merging.left.saturating_sub(gone);
                if merging.left == 0 {
                    self.merges.remove(of);
                }
            }
            MergePhase::Done(count) => {
                let data = merging.data;
                self.merges.remove(of);
                if count != data {
                    let what =
                        format!("merge {} of {} counts {count} messages with data, there were {data}", of.1, of.0);
                    return Some((Rule::GroupData, what));
                }
            }
        }
        None
    }
}
