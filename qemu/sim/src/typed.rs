//! A node's record as the checker reads it, without the detour over JSON: the simulator lives on this path.
//!
//! What is seldom goes the long way. A run that keeps its trace compares both ways for every line
//! ([`Recorder`](crate::recorder::Recorder)), so that the short one cannot come to say something else.

use quorate_base::event::{Event, LockPhase, Members, Record, StepEvent, Subject, Via};
use quorate_base::{Incarnation, NodeId, NodeState, RoundId, Transition};
use quorate_check::{self as check, What};

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
        _ => return None,
    })
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
