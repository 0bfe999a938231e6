//! Each event's name and fields in a trace line, spelled as the harness contract spells them.

use quorate_base::event::{Event, GroupPlace, LockPhase, Members, Stall, StepEvent, Subject, Via};
use quorate_base::{Barriers, FenceMethod, Incarnation, Instant, LevelOrder, NodeId, Record};
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
        Event::Epitaph { incarnation, how, reason, at, events } => (
            "epitaph",
            json!({
                "last_inc": incarnation.map(|i| i.0),
                "how": how,
                "reason": reason,
                "last_nt_us": at.0,
                "events": quorate_epitaph::records(events).map(|record| last_event(&record)).collect::<Vec<_>>(),
            }),
        ),
        Event::RegisterKey { key } => ("register_key", json!({"key": key.to_string()})),
        Event::Reservation { phase, kind } => ("reservation", json!({"phase": phase.name(), "kind": kind.name()})),
        Event::Preempt { peer, incarnation, key, abort } => {
            ("preempt", json!({"peer": peer.get(), "peer_inc": incarnation.0, "key": key.to_string(), "abort": abort}))
        }
        Event::GroupEpoch { .. }
        | Event::GroupMessage { .. }
        | Event::GroupChange { .. }
        | Event::AckRound { .. }
        | Event::Domain { .. }
        | Event::Merge { .. } => of_groups(event),
    };
    match value {
        Value::Object(fields) => (ev, fields),
        // Every arm above makes an object.
        _ => (ev, Fields::new()),
    }
}

/// The same for the events of group services; no other comes here.
fn of_groups(event: &Event<'_>) -> (&'static str, Value) {
    match event {
        Event::GroupEpoch { order, epoch, nodes } => (
            "group_epoch",
            json!({
                "order": order,
                "epoch": format!("{}.{}", epoch.counter, epoch.node),
                "nodes": nodes.iter().map(NodeId::get).collect::<Vec<_>>(),
            }),
        ),
        Event::GroupMessage { at, from, job, to, bytes, text } => (
            "group_message",
            placed(
                at,
                json!({"from": from.get(), "job": job, "to": to.map(NodeId::get), "bytes": bytes, "text": text}),
            ),
        ),
        Event::GroupChange { at, member, job, change } => {
            ("group_change", placed(at, json!({"member": member.get(), "job": job, "change": change})))
        }
        Event::AckRound { at, protocol, phase, round, members } => {
            ("ack_round", placed(at, json!({"protocol": protocol, "phase": phase, "round": round, "members": members})))
        }
        Event::Domain { at, phase, op, by, why, version, nodes } => (
            "domain",
            placed(
                at,
                json!({
                    "phase": phase,
                    "op": op,
                    "by": by.get(),
                    "why": why,
                    "version": version,
                    "nodes": nodes.iter().map(NodeId::get).collect::<Vec<_>>(),
                }),
            ),
        ),
        Event::Merge { at, merge, phase, from, number, gone } => (
            "merge",
            placed(
                at,
                json!({
                    "merge": merge,
                    "phase": phase,
                    "from": from.map(NodeId::get),
                    "number": number,
                    "gone": gone,
                }),
            ),
        ),
        _ => ("note", json!({})),
    }
}

/// An event of a life that is over, as its own line would have had it, less what all lines of that life share.
fn last_event(record: &Record<'_>) -> Value {
    let (ev, mut own) = fields(&record.event);
    own.insert("nt_us".to_owned(), json!(record.at.0));
    own.insert("seq".to_owned(), json!(record.seq));
    own.insert("lc".to_owned(), json!(record.lamport));
    own.insert("ev".to_owned(), json!(ev));
    Value::Object(own)
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

/// The fields of something in the order of group services.
fn placed(at: &GroupPlace<'_>, mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.insert("group".to_owned(), json!(at.group));
        fields.insert("order".to_owned(), json!(at.order));
        fields.insert("index".to_owned(), json!(at.index));
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
    use quorate_base::{Ballot, BootNonce, NodeSet, NodeState, RoundId, Transition, View};
    use quorate_epitaph::{Epitaph, REGION_BYTES, Recorder};

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
    fn the_reservations_events() {
        use quorate_base::event::ReservationPhase;
        use quorate_base::reservation::ReservationType;
        use quorate_base::{BootNonce, ReservationKey};
        let key = ReservationKey::new(node(1), Incarnation(7), BootNonce(0xbeef));
        assert_eq!(json_of(Event::RegisterKey { key }), r#""register_key","key":"510100000007beef"}"#);
        let kind = ReservationType::WriteExclusiveAllRegistrants;
        for (phase, name) in [
            (ReservationPhase::Stands, "stands"),
            (ReservationPhase::Doubt, "doubt"),
            (ReservationPhase::Absent, "absent"),
        ] {
            let want = format!(r#""reservation","kind":"write-exclusive-all-registrants","phase":"{name}"}}"#);
            assert_eq!(json_of(Event::Reservation { phase, kind }), want);
        }
        let preempt = json_of(Event::Preempt { peer: node(1), incarnation: Incarnation(7), key, abort: true });
        assert_eq!(preempt, r#""preempt","abort":true,"key":"510100000007beef","peer":1,"peer_inc":7}"#);
    }

    #[test]
    fn the_events_of_group_services() {
        let at = GroupPlace { group: "g", order: 7, index: 1 };
        let place = r#""group":"g","index":1"#;
        let message = Event::GroupMessage { at, from: node(1), job: "j", to: None, bytes: 2, text: "hi" };
        let want = format!(r#""group_message","bytes":2,"from":1,{place},"job":"j","order":7,"text":"hi","to":null}}"#);
        assert_eq!(json_of(message), want);
        let change = Event::GroupChange { at, member: node(2), job: "j", change: "fault" };
        let want = format!(r#""group_change","change":"fault",{place},"job":"j","member":2,"order":7}}"#);
        assert_eq!(json_of(change), want);
        let round = Event::AckRound { at, protocol: 5, phase: "through", round: 0, members: 1 };
        let want = format!(r#""ack_round",{place},"members":1,"order":7,"phase":"through","protocol":5,"round":0}}"#);
        assert_eq!(json_of(round), want);
        let epoch = quorate_base::event::GroupEpoch { counter: 9, node: node(0) };
        let epoch = Event::GroupEpoch { order: 7, epoch, nodes: NodeSet::first(2) };
        assert_eq!(json_of(epoch), r#""group_epoch","epoch":"9.0","nodes":[0,1],"order":7}"#);
        let merge = Event::Merge { at, merge: 6, phase: "data", from: Some(node(1)), number: 2, gone: 0 };
        let want = format!(r#""merge","from":1,"gone":0,{place},"merge":6,"number":2,"order":7,"phase":"data"}}"#);
        assert_eq!(json_of(merge), want);
        let nodes = NodeSet::first(1);
        let domain = Event::Domain { at, phase: "copy", op: "", by: node(0), why: "", version: 3, nodes };
        let want =
            format!(r#""domain","by":0,{place},"nodes":[0],"op":"","order":7,"phase":"copy","version":3,"why":""}}"#);
        assert_eq!(json_of(domain), want);
    }

    #[test]
    fn contract_panic_halt_note() {
        assert_eq!(json_of(Event::Panic { reason: "put out" }), r#""panic","reason":"put out"}"#);
        assert_eq!(json_of(Event::Halt { reason: "left" }), r#""halt","reason":"left"}"#);
        assert_eq!(json_of(Event::Note { what: "a \"b\"" }), r#""note","what":"a \"b\""}"#);
    }

    #[test]
    fn an_epitaph_has_the_last_events_as_they_were() {
        let mut region = Box::new([0; REGION_BYTES]);
        let mut recorder = Recorder::begin(&mut region, BootNonce(7));
        let event = Event::Freeze { why: "lease" };
        recorder.record(&Record { incarnation: Some(Incarnation(2)), at: Instant(80), seq: 9, lamport: 12, event });
        let epitaph = Epitaph::read(&region, true).expect("just written");
        let want = r#""epitaph","events":[{"ev":"freeze","lc":12,"nt_us":80,"seq":9,"why":"lease"}],"how":"watchdog","last_inc":2,"last_nt_us":80,"reason":"no last word: reset by the watchdog"}"#;
        assert_eq!(json_of(epitaph.event()), want);
        let none = Event::Epitaph { incarnation: None, how: "reset", reason: "", at: Instant(0), events: &[1, 2, 3] };
        let want = r#""epitaph","events":[],"how":"reset","last_inc":null,"last_nt_us":0,"reason":""}"#;
        assert_eq!(json_of(none), want);
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
