//! A node's record as the checker reads it, without the detour over JSON: the simulator lives on this path.
//!
//! What is seldom goes the long way. A run that keeps its trace compares both ways for every line
//! ([`Recorder`](crate::recorder::Recorder)), so that the short one cannot come to say something else.

use std::fmt::{Display, Write};

use quorate_base::event::{Event, GroupPlace, LockPhase, Members, Record, StepEvent, Subject, Via};
use quorate_base::{Incarnation, NodeId, NodeState, RoundId, Transition};
use quorate_check::{self as check, Ordered, Topic, What, numbered};

/// The line, if its event is one of the frequent ones.
pub(crate) fn line(t_us: u64, node: u8, record: &Record<'_>) -> Option<check::Line> {
    Some(check::Line {
        t_us,
        node: Some(node),
        inc: record.incarnation.map(|i| i.0),
        nt_us: record.at.0,
        seq: record.seq,
        lc: record.lamport,
        what: what(&record.event)?,
    })
}

fn what(event: &Event<'_>) -> Option<What> {
    Some(match event {
        Event::Lease { issued, until } => What::Lease { issued_nt_us: issued.0, until_nt_us: until.0 },
        Event::SharedWrite { region, issued, .. } => {
            What::SharedWrite { region: (*region).to_owned(), issued_nt_us: issued.0 }
        }
        Event::Notify(e) => What::Notify(step(e)),
        Event::Ack(e) => What::Ack(step(e)),
        Event::State { subject, incarnation, level, is } => {
            What::State { subject: life(*subject, *incarnation), level: level.map(|l| l.0), is: state(*is) }
        }
        Event::View { name, members: all } => {
            What::View { ballot: name.ballot.0, view: name.number, members: members(all) }
        }
        Event::Round { level, round: name, transitions, participants } => What::Round {
            level: level.0,
            round: round(*name),
            transitions: transitions.iter().map(subject).collect(),
            participants: participants.iter().map(NodeId::get).collect(),
        },
        Event::Lock { phase, ballot } => What::Lock { phase: lock_phase(*phase), ballot: ballot.0 },
        Event::Suspect { peer, via: on } => What::Suspect { peer: peer.get(), via: via(*on) },
        Event::Trust { peer, via: on } => What::Trust { peer: peer.get(), via: via(*on) },
        Event::GroupMessage { .. } | Event::GroupChange { .. } | Event::AckRound { .. } => {
            What::Ordered(ordered(event)?)
        }
        _ => return None,
    })
}

/// What comes often in the order of group services.
fn ordered(event: &Event<'_>) -> Option<Ordered> {
    let mut text = Text::default();
    let (at, topic) = match event {
        Event::GroupMessage { at, from, job, to, bytes, text: said } => {
            text.put("bytes", bytes).quote("ev", "group_message").put("from", from.get()).place(at).quote("job", job);
            text.put("order", at.order).quote("text", said);
            match to {
                Some(to) => text.put("to", to.get()),
                None => text.put("to", "null"),
            };
            (at, Topic::Message { from: member(at, *from, job), number: numbered(said) })
        }
        Event::GroupChange { at, member: node, job, change } => {
            text.quote("change", change).quote("ev", "group_change").place(at).quote("job", job);
            text.put("member", node.get()).put("order", at.order);
            let topic = if change.starts_with("denied") {
                Topic::None
            } else {
                Topic::Change { member: member(at, *node, job), joined: *change == "joined" }
            };
            (at, topic)
        }
        Event::AckRound { at, protocol, phase, round, members } => {
            text.quote("ev", "ack_round").place(at).put("members", members).put("order", at.order);
            text.quote("phase", phase).put("protocol", protocol).put("round", round);
            let topic = match *phase {
                "through" => Topic::None,
                phase => Topic::Protocol { id: *protocol, ends: phase == "last" },
            };
            (at, topic)
        }
        _ => return None,
    };
    Some(Ordered { order: at.order, index: at.index.into(), what: text.0, topic })
}

fn member(at: &GroupPlace<'_>, node: NodeId, job: &str) -> check::Member {
    check::Member { group: at.group.to_owned(), node: node.get(), job: job.to_owned() }
}

/// An event's fields as the checker writes them: by name, in the order of the names, values as in JSON.
#[derive(Default)]
struct Text(String);

impl Text {
    fn put(&mut self, name: &str, value: impl Display) -> &mut Self {
        let space = if self.0.is_empty() { "" } else { " " };
        // Writing into a String cannot fail.
        let _ = write!(self.0, "{space}{name}={value}");
        self
    }

    fn quote(&mut self, name: &str, value: &str) -> &mut Self {
        if value.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
            self.put(name, format_args!("\"{value}\""))
        } else {
            self.put(name, serde_json::Value::from(value))
        }
    }

    /// Group and index, which are neighbours in every event.
    fn place(&mut self, at: &GroupPlace<'_>) -> &mut Self {
        self.quote("group", at.group).put("index", at.index)
    }
}

fn step(e: &StepEvent<'_>) -> check::StepEvent {
    let (subject, transition) = subject(&e.subject);
    check::StepEvent {
        level: e.level.0,
        name: e.name.to_owned(),
        round: round(e.round),
        subject,
        transition,
        barrier: e.barrier.into(),
    }
}

fn life(node: NodeId, incarnation: Incarnation) -> check::Life {
    check::Life { node: node.get(), inc: incarnation.0 }
}

fn round(id: RoundId) -> check::RoundName {
    check::RoundName { ballot: id.ballot.0, sequence: id.sequence.into() }
}

fn subject(subject: &Subject) -> (check::Life, check::Transition) {
    let transition = match subject.transition {
        Transition::Joining => check::Transition::Joining,
        Transition::Leaving => check::Transition::Leaving,
        Transition::ForcedLeaving => check::Transition::ForcedLeaving,
    };
    (life(subject.node, subject.incarnation), transition)
}

fn members(all: &Members) -> std::collections::BTreeMap<u8, (check::NodeState, u32)> {
    (0..).zip(all).map(|(node, (is, incarnation))| (node, (state(*is), incarnation.0))).collect()
}

fn state(is: NodeState) -> check::NodeState {
    match is {
        NodeState::Inactive => check::NodeState::Inactive,
        NodeState::Joining => check::NodeState::Joining,
        NodeState::Joined => check::NodeState::Joined,
        NodeState::Leaving => check::NodeState::Leaving,
        NodeState::ForcedLeaving => check::NodeState::ForcedLeaving,
    }
}

fn lock_phase(phase: LockPhase) -> check::LockPhase {
    match phase {
        LockPhase::Want => check::LockPhase::Want,
        LockPhase::Wait => check::LockPhase::Wait,
        LockPhase::Acquired => check::LockPhase::Acquired,
        LockPhase::Released => check::LockPhase::Released,
        LockPhase::Lost => check::LockPhase::Lost,
    }
}

fn via(via: Via) -> check::Via {
    match via {
        Via::Net => check::Via::Net,
        Via::Disk => check::Via::Disk,
    }
}
