//! Each event's name and fields in a trace line, spelled as the harness contract spells them.

use quorate_base::event::{Event, LockPhase, Members, Stall, StepEvent, Subject, Via};
use quorate_base::{Barriers, FenceMethod, Incarnation, Instant, LevelOrder, NodeId};
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

/// An event's name and its own fields.
pub fn fields(event: &Event<'_>) -> (&'static str, Fields) {
    let (ev, value) = match event {
        Event::Boot { version, cmdline } => ("boot", json!({"version": version, "cmdline": cmdline})),
        Event::Register { level, name, barriers } => ("register", level_fields(*level, name, *barriers)),
        Event::Deregister { level, name, barriers } => ("deregister", level_fields(*level, name, *barriers)),
        Event::Lock { phase, ballot } => ("lock", json!({"phase": phase_name(*phase), "ballot": ballot.0})),
        Event::View { name, members } => (
            "view",
            json!({"ballot": name.ballot.0, "view": name.number, "states": states(members), "incs": incs(members)}),
        ),
        Event::Round { level, round, transitions, participants } => (
            "round",
            json!({
                "level": level.0,
                "round": round.to_string(),
                "transitions": transitions.iter().map(subject).collect::<Vec<_>>(),
                "participants": participants.iter().map(NodeId::get).collect::<Vec<_>>(),
            }),
        ),
        Event::Notify(step) => ("notify", step_fields(step)),
        Event::Ack(step) => ("ack", step_fields(step)),
        Event::StaleAck(step) => ("stale_ack", step_fields(step)),
        Event::State { subject, incarnation, level, is } => (
            "state",
            json!({
                "subject": subject.get(),
                "subject_inc": incarnation.0,
                "level": level.map(|l| l.0),
                "is": is.name(),
            }),
        ),
        Event::Suspect { peer, via } => ("suspect", json!({"peer": peer.get(), "via": via_name(*via)})),
        Event::Trust { peer, via } => ("trust", json!({"peer": peer.get(), "via": via_name(*via)})),
        Event::Freeze { why } => ("freeze", json!({"why": why})),
        Event::Thaw { why } => ("thaw", json!({"why": why})),
        Event::Lease { issued, until } => ("lease", json!({"issued_nt_us": issued.0, "until_nt_us": until.0})),
        Event::FenceBegin { peer, incarnation, method, ok } => {
            ("fence_begin", fence(*peer, *incarnation, *method, *ok))
        }
        Event::Fence { peer, incarnation, method, ok } => ("fence", fence(*peer, *incarnation, *method, *ok)),
        Event::Refuse { peer, incarnation, reason } => {
            ("refuse", json!({"peer": peer.get(), "peer_inc": incarnation.0, "reason": reason}))
        }
        Event::SharedWrite { region, lba, blocks, issued } => ("shared_write", write(region, *lba, *blocks, *issued)),
        Event::Panic { reason } => ("panic", json!({"reason": reason})),
        Event::Halt { reason } => ("halt", json!({"reason": reason})),
        Event::Note { what } => ("note", json!({"what": what})),
        Event::Waiting(stall) => ("waiting", stall_fields(stall)),
        Event::Overdue(stall) => ("overdue", stall_fields(stall)),
    };
    match value {
        Value::Object(fields) => (ev, fields),
        // Every arm above makes an object.
        _ => (ev, Fields::new()),
    }
}

fn level_fields(level: LevelOrder, name: &str, barriers: Barriers) -> Value {
    json!({
        "level": level.0,
        "name": name,
        "barriers": {
            "joining": barriers.joining,
            "leaving": barriers.leaving,
            "forced_leaving": barriers.forced_leaving,
        },
    })
}

fn step_fields(step: &StepEvent<'_>) -> Value {
    json!({
        "level": step.level.0,
        "name": step.name,
        "round": step.round.to_string(),
        "subject": step.subject.node.get(),
        "subject_inc": step.subject.incarnation.0,
        "transition": step.subject.transition.name(),
        "barrier": step.barrier,
    })
}

/// A step's fields, who owes its acknowledgement, and for how long.
fn stall_fields(stall: &Stall<'_>) -> Value {
    let mut value = step_fields(&stall.step);
    if let Value::Object(fields) = &mut value {
        fields.insert("awaiting".to_owned(), json!(stall.awaiting.iter().map(NodeId::get).collect::<Vec<_>>()));
        fields.insert("waited_ms".to_owned(), json!(stall.waited_ms));
    }
    value
}

fn subject(subject: &Subject) -> Value {
    json!({
        "subject": subject.node.get(),
        "subject_inc": subject.incarnation.0,
        "transition": subject.transition.name(),
    })
}

fn states(members: &Members) -> Fields {
    members.iter().enumerate().map(|(node, (state, _))| (node.to_string(), json!(state.name()))).collect()
}

fn incs(members: &Members) -> Fields {
    members.iter().enumerate().map(|(node, (_, inc))| (node.to_string(), json!(inc.0))).collect()
}

fn fence(peer: NodeId, incarnation: Incarnation, method: FenceMethod, ok: bool) -> Value {
    json!({"peer": peer.get(), "peer_inc": incarnation.0, "method": method.name(), "ok": ok})
}

fn write(region: &str, lba: u64, blocks: u32, issued: Instant) -> Value {
    json!({"region": region, "lba": lba, "blocks": blocks, "issued_nt_us": issued.0})
}

fn phase_name(phase: LockPhase) -> &'static str {
    match phase {
        LockPhase::Want => "want",
        LockPhase::Wait => "wait",
        LockPhase::Acquired => "acquired",
        LockPhase::Released => "released",
        LockPhase::Lost => "lost",
    }
}

fn via_name(via: Via) -> &'static str {
    match via {
        Via::Net => "net",
        Via::Disk => "disk",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Line;
    use quorate_base::{Ballot, NodeSet, NodeState, Record, RoundId, Transition, View};

    fn node(n: u8) -> NodeId {
        NodeId::new(n).expect("small")
    }

    fn json_of(event: Event<'_>) -> String {
        let record = Record { incarnation: Some(Incarnation(3)), at: Instant(900), seq: 4, lamport: 17, event };
        let text = Line::of_record(1000, 2, &record).to_json();
        let head = r#"{"t_us":1000,"node":2,"inc":3,"nt_us":900,"seq":4,"lc":17,"ev":"#;
        text.strip_prefix(head).expect("the fields that every line has").to_string()
    }

    fn step() -> StepEvent<'static> {
        StepEvent {
            level: LevelOrder(70),
            name: "probe",
            round: RoundId { ballot: Ballot(65), sequence: 3 },
            subject: Subject { node: node(1), incarnation: Incarnation(7), transition: Transition::ForcedLeaving },
            barrier: 2,
        }
    }

    #[test]
    fn contract_boot_and_levels() {
        let barriers = Barriers { joining: 2, leaving: 1, forced_leaving: 3 };
        let (level, name) = (LevelOrder(70), "probe");
        let rest = r#""barriers":{"forced_leaving":3,"joining":2,"leaving":1},"level":70,"name":"probe"}"#;
        assert_eq!(json_of(Event::Register { level, name, barriers }), format!(r#""register",{rest}"#));
        assert_eq!(json_of(Event::Deregister { level, name, barriers }), format!(r#""deregister",{rest}"#));
        let boot = Event::Boot { version: "0.1.0", cmdline: "node=2" };
        assert_eq!(json_of(boot), r#""boot","cmdline":"node=2","version":"0.1.0"}"#);
    }

    #[test]
    fn contract_lock() {
        let names = [
            (LockPhase::Want, "want"),
            (LockPhase::Wait, "wait"),
            (LockPhase::Acquired, "acquired"),
            (LockPhase::Released, "released"),
            (LockPhase::Lost, "lost"),
        ];
        for (phase, name) in names {
            let line = json_of(Event::Lock { phase, ballot: Ballot(65) });
            assert_eq!(line, format!(r#""lock","ballot":65,"phase":"{name}"}}"#));
        }
    }

    #[test]
    fn contract_view() {
        let mut view = View::EMPTY;
        view.number = 5;
        view.set(node(0), NodeState::Joined, Incarnation(3));
        view.set(node(1), NodeState::ForcedLeaving, Incarnation(2));
        let line = json_of(Event::view(Ballot(65), &view, 3));
        let want = r#""view","ballot":65,"incs":{"0":3,"1":2,"2":0},"states":{"0":"joined","1":"forced-leaving","2":"inactive"},"view":5}"#;
        assert_eq!(line, want);
    }

    #[test]
    fn contract_round() {
        let mut transitions = heapless::Vec::new();
        transitions.push(step().subject).expect("room");
        let participants = NodeSet::only(node(0)).with(node(2));
        let round = RoundId { ballot: Ballot(65), sequence: 3 };
        let line = json_of(Event::Round { level: LevelOrder(0), round, transitions, participants });
        let want = r#""round","level":0,"participants":[0,2],"round":"65.3","transitions":[{"subject":1,"subject_inc":7,"transition":"forced-leaving"}]}"#;
        assert_eq!(line, want);
    }

    #[test]
    fn contract_notify_ack_stale_ack() {
        let rest = r#""barrier":2,"level":70,"name":"probe","round":"65.3","subject":1,"subject_inc":7,"transition":"forced-leaving"}"#;
        assert_eq!(json_of(Event::Notify(step())), format!(r#""notify",{rest}"#));
        assert_eq!(json_of(Event::Ack(step())), format!(r#""ack",{rest}"#));
        assert_eq!(json_of(Event::StaleAck(step())), format!(r#""stale_ack",{rest}"#));
    }

    #[test]
    fn a_stall_is_its_step_with_who_owes_it_and_since_when() {
        let stall = Stall { step: step(), awaiting: NodeSet::only(node(0)).with(node(2)), waited_ms: 1000 };
        let rest = r#""awaiting":[0,2],"barrier":2,"level":70,"name":"probe","round":"65.3","subject":1,"subject_inc":7,"transition":"forced-leaving","waited_ms":1000}"#;
        assert_eq!(json_of(Event::Waiting(stall)), format!(r#""waiting",{rest}"#));
        assert_eq!(json_of(Event::Overdue(stall)), format!(r#""overdue",{rest}"#));
    }

    #[test]
    fn contract_state() {
        let (subject, incarnation, is) = (node(1), Incarnation(7), NodeState::Leaving);
        let whole = json_of(Event::State { subject, incarnation, level: None, is });
        assert_eq!(whole, r#""state","is":"leaving","level":null,"subject":1,"subject_inc":7}"#);
        let level = json_of(Event::State { subject, incarnation, level: Some(LevelOrder(0)), is });
        assert_eq!(level, r#""state","is":"leaving","level":0,"subject":1,"subject_inc":7}"#);
    }

    #[test]
    fn contract_suspect_trust_freeze_thaw() {
        let peer = node(1);
        assert_eq!(json_of(Event::Suspect { peer, via: Via::Net }), r#""suspect","peer":1,"via":"net"}"#);
        assert_eq!(json_of(Event::Trust { peer, via: Via::Disk }), r#""trust","peer":1,"via":"disk"}"#);
        assert_eq!(json_of(Event::Freeze { why: "lease" }), r#""freeze","why":"lease"}"#);
        assert_eq!(json_of(Event::Thaw { why: "beat" }), r#""thaw","why":"beat"}"#);
    }

    #[test]
    fn contract_lease_fence_refuse_write() {
        let (peer, incarnation) = (node(1), Incarnation(7));
        let lease = json_of(Event::Lease { issued: Instant(5), until: Instant(9) });
        assert_eq!(lease, r#""lease","issued_nt_us":5,"until_nt_us":9}"#);
        let begin = json_of(Event::FenceBegin { peer, incarnation, method: FenceMethod::Lease, ok: true });
        assert_eq!(begin, r#""fence_begin","method":"lease","ok":true,"peer":1,"peer_inc":7}"#);
        let fence = json_of(Event::Fence { peer, incarnation, method: FenceMethod::Reservation, ok: false });
        assert_eq!(fence, r#""fence","method":"reservation","ok":false,"peer":1,"peer_inc":7}"#);
        let refuse = json_of(Event::Refuse { peer, incarnation, reason: "not heard by node 2" });
        assert_eq!(refuse, r#""refuse","peer":1,"peer_inc":7,"reason":"not heard by node 2"}"#);
        let write = json_of(Event::SharedWrite { region: "heartbeat.3", lba: 88, blocks: 1, issued: Instant(5) });
        assert_eq!(write, r#""shared_write","blocks":1,"issued_nt_us":5,"lba":88,"region":"heartbeat.3"}"#);
    }

    #[test]
    fn contract_panic_halt_note() {
        assert_eq!(json_of(Event::Panic { reason: "put out" }), r#""panic","reason":"put out"}"#);
        assert_eq!(json_of(Event::Halt { reason: "left" }), r#""halt","reason":"left"}"#);
        assert_eq!(json_of(Event::Note { what: "a \"b\"" }), r#""note","what":"a \"b\""}"#);
    }

    #[test]
    fn a_node_without_incarnation_has_null() {
        let event = Event::Panic { reason: "no disk" };
        let record = Record { incarnation: None, at: Instant(1), seq: 0, lamport: 1, event };
        let line = Line::of_record(5, 0, &record);
        assert_eq!(line.get("inc"), Some(Value::Null));
        assert_eq!(Line::parse(&line.to_json()), Ok(line));
    }
}
