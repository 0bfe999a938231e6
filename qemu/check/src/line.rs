//! One line of a trace, typed. Names, types and meanings are those of the harness contract ("Trace"); nothing here knows
//! the code that wrote the line. A line that does not fit is an error that names the field.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// One life of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Life {
    /// The node's id, `0..64`.
    pub node: u8,
    /// Its incarnation.
    pub inc: u32,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} (incarnation {})", self.node, self.inc)
    }
}

/// What a node is to the cluster, or at one level (EP p. 4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NodeState {
    /// No active member.
    Inactive,
    /// On its way in.
    Joining,
    /// A member.
    Joined,
    /// On its way out by its own will.
    Leaving,
    /// Being put out by the others.
    ForcedLeaving,
}

impl NodeState {
    /// Its name in a trace.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Joining => "joining",
            Self::Joined => "joined",
            Self::Leaving => "leaving",
            Self::ForcedLeaving => "forced-leaving",
        }
    }

    /// From its name in a trace.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Inactive, Self::Joining, Self::Joined, Self::Leaving, Self::ForcedLeaving]
            .into_iter()
            .find(|s| s.name() == name)
    }

    /// Joining, joined or leaving.
    pub fn is_member(self) -> bool {
        matches!(self, Self::Joining | Self::Joined | Self::Leaving)
    }
}

/// A kind of transition (EP Table 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Transition {
    /// Inactive to joined.
    Joining,
    /// Joined to inactive.
    Leaving,
    /// Anything to inactive, without the node.
    ForcedLeaving,
}

impl Transition {
    /// The subject's state while it lasts.
    pub fn during(self) -> NodeState {
        match self {
            Self::Joining => NodeState::Joining,
            Self::Leaving => NodeState::Leaving,
            Self::ForcedLeaving => NodeState::ForcedLeaving,
        }
    }

    /// Its name in a trace.
    pub fn name(self) -> &'static str {
        self.during().name()
    }

    /// From its name in a trace.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Joining, Self::Leaving, Self::ForcedLeaving].into_iter().find(|t| t.name() == name)
    }
}

/// A round's name, `ballot.sequence`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RoundName {
    /// The ballot under which it began.
    pub ballot: u64,
    /// Its number under that ballot.
    pub sequence: u64,
}

impl RoundName {
    /// From its name in a trace.
    pub fn from_name(name: &str) -> Option<Self> {
        let (ballot, sequence) = name.split_once('.')?;
        Some(Self { ballot: ballot.parse().ok()?, sequence: sequence.parse().ok()? })
    }
}

impl fmt::Display for RoundName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ballot, self.sequence)
    }
}

/// Barriers of a level: joining, leaving, forced-leaving.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Barriers {
    /// For a join.
    pub joining: u32,
    /// For a graceful leave.
    pub leaving: u32,
    /// For a forced leave.
    pub forced_leaving: u32,
}

impl Barriers {
    /// The count for one kind of transition.
    pub fn of(self, transition: Transition) -> u32 {
        match transition {
            Transition::Joining => self.joining,
            Transition::Leaving => self.leaving,
            Transition::ForcedLeaving => self.forced_leaving,
        }
    }
}

/// What the master lock did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LockPhase {
    /// The flag was raised.
    Want,
    /// Another's flag is in the way.
    Wait,
    /// This node is the master.
    Acquired,
    /// Given back.
    Released,
    /// Taken by a higher ballot.
    Lost,
}

/// On what a suspicion rests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Via {
    /// The interconnect.
    Net,
    /// The shared disk.
    Disk,
}

/// One step of a transition at one level, for one subject.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepEvent {
    /// The level's order.
    pub level: u16,
    /// The level's name.
    pub name: String,
    /// The round.
    pub round: RoundName,
    /// Whose transition.
    pub subject: Life,
    /// Which.
    pub transition: Transition,
    /// From 0.
    pub barrier: u32,
}

/// What has been waited for, for how long, and whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StallEvent {
    /// The step.
    pub step: StepEvent,
    /// Who has not acknowledged it.
    pub awaiting: Vec<u8>,
    /// For how long, ms.
    pub waited_ms: u64,
}

/// How a node is kept from the shared disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FenceMethod {
    /// Its lease is waited out.
    Lease,
    /// Its registration is preempted.
    Reservation,
}

/// What a line tells. Events that no rule looks at are [`What::Other`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are the contract's, named as there")]
pub enum What {
    /// Harness: a step begins.
    Step { verb: String, nodes: Vec<u8> },
    /// Harness: an expectation.
    Assert { what: String, ok: bool },
    /// Harness: the run ends.
    End { ok: bool },
    /// The first event of an incarnation.
    Boot,
    /// A level registered.
    Register { level: u16, name: String, barriers: Barriers },
    /// A level de-registered.
    Deregister { level: u16 },
    /// The master lock moved.
    Lock { phase: LockPhase, ballot: u64 },
    /// A committed view was adopted: state and incarnation by node.
    View { ballot: u64, view: u64, members: BTreeMap<u8, (NodeState, u32)> },
    /// The master began a round, or issued it again.
    Round { level: u16, round: RoundName, transitions: Vec<(Life, Transition)>, participants: Vec<u8> },
    /// A level was notified.
    Notify(StepEvent),
    /// A level's acknowledgement was accepted.
    Ack(StepEvent),
    /// An acknowledgement came too late.
    StaleAck(StepEvent),
    /// All have acknowledged.
    State { subject: Life, level: Option<u16>, is: NodeState },
    /// A peer fell silent.
    Suspect { peer: u8, via: Via },
    /// A peer is heard again.
    Trust { peer: u8, via: Via },
    /// No shared writes from here on.
    Freeze,
    /// Shared writes again.
    Thaw,
    /// The lease was renewed.
    Lease { issued_nt_us: u64, until_nt_us: u64 },
    /// A fence starts.
    FenceBegin { peer: Life, method: FenceMethod },
    /// A fence is through.
    Fence { peer: Life, method: FenceMethod, ok: bool },
    /// A join was refused.
    Refuse { peer: Life },
    /// A step has not been acknowledged for long.
    Waiting(StallEvent),
    /// A step has not been acknowledged within its level's deadline.
    Overdue(StallEvent),
    /// A shared block was written.
    SharedWrite { region: String, issued_nt_us: u64 },
    /// This node's part in the reservation: it stands, or else it is in doubt or gone.
    Reservation { stands: bool },
    /// An unwanted halt.
    Panic { reason: String },
    /// A wanted halt.
    Halt { reason: String },
    /// Something in the order of group services.
    Ordered(Ordered),
    /// How the machine's last life ended.
    Epitaph { last_inc: Option<u32> },
    /// Any other event, by its name.
    Other(String),
}

/// Something in the order of group services: the same at every node that delivers it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ordered {
    /// The frame's place.
    pub order: u64,
    /// The place in the frame.
    pub index: u64,
    /// The event with all its fields but those of the node that wrote it, as text.
    pub what: String,
    /// What of it the rules look at.
    pub topic: Topic,
}

/// A member of a group: the group, its node, its job.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Member {
    /// The group.
    pub group: String,
    /// The member's node.
    pub node: u8,
    /// Its job.
    pub job: String,
}

/// What the rules look at in something of the order.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "fields are named for what they are")]
pub enum Topic {
    /// A message; its number, if its text begins with `#` and one.
    Message { from: Member, number: Option<u64> },
    /// A member came or went.
    Change { member: Member, joined: bool },
    /// A protocol of this name began, or ended with its last round.
    Protocol { id: u64, ends: bool },
    /// A merge, named by its group and where it was asked for.
    Merge { of: (String, u64), phase: MergePhase },
    /// A request for a domain, or its answer.
    Ask { domain: String, ends: bool },
    /// Nothing.
    None,
}

/// How far a merge is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "fields are named for what they are")]
pub enum MergePhase {
    /// It began with so many members.
    Begins(u64),
    /// A subgroup's data.
    Data(u64),
    /// A round is through, in which so many went.
    Round { gone: u64 },
    /// It is done, with so many messages with data.
    Done(u64),
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Harness clock at receipt, µs since the run began.
    pub t_us: u64,
    /// The node; `None` is the harness.
    pub node: Option<u8>,
    /// The node's incarnation, `None` before it is known.
    pub inc: Option<u32>,
    /// The node's clock, µs since its boot. Zero on harness lines.
    pub nt_us: u64,
    /// Per node and incarnation, from 0.
    pub seq: u64,
    /// Lamport clock. Zero on harness lines.
    pub lc: u64,
    /// What happened.
    pub what: What,
}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// What is missing or of the wrong type, by the field's name.
    pub fn parse(v: &Value) -> Result<Self, String> {
        if !v.is_object() {
            return Err("a line is not an object".into());
        }
        let ev = text(v, "ev")?;
        let node = optional(v, "node", node_id)?;
        let inc = optional(v, "inc", number32)?;
        let (nt_us, lc) = match node {
            Some(_) => (number(v, "nt_us")?, number(v, "lc")?),
            None => {
                for field in ["inc", "nt_us", "lc"] {
                    if !field_of(v, field)?.is_null() {
                        return Err(format!("`{field}` of a harness line is not null"));
                    }
                }
                (0, 0)
            }
        };
        let what = what(v, ev)?;
        let of_harness = matches!(what, What::Step { .. } | What::Assert { .. } | What::End { .. });
        if of_harness != node.is_none() && !matches!(what, What::Other(_)) {
            return Err(format!("`{ev}` is not an event of {}", if of_harness { "a node" } else { "the harness" }));
        }
        Ok(Self { t_us: number(v, "t_us")?, node, inc, nt_us, seq: number(v, "seq")?, lc, what })
    }

    /// The life that wrote it, if it is a node's and its incarnation is known.
    pub fn life(&self) -> Option<Life> {
        Some(Life { node: self.node?, inc: self.inc? })
    }
}

fn what(v: &Value, ev: &str) -> Result<What, String> {
    Ok(match ev {
        "step" => {
            number(v, "index")?;
            What::Step { verb: text(v, "do")?.into(), nodes: node_ids(v, "nodes")? }
        }
        "assert" => What::Assert { what: text(v, "what")?.into(), ok: flag(v, "ok")? },
        "end" => What::End { ok: flag(v, "ok")? },
        "boot" => {
            text(v, "version")?;
            text(v, "cmdline")?;
            What::Boot
        }
        "register" => What::Register { level: level(v)?, name: text(v, "name")?.into(), barriers: barriers(v)? },
        "deregister" => What::Deregister { level: level(v)? },
        "lock" => What::Lock { phase: lock_phase(v)?, ballot: number(v, "ballot")? },
        "view" => What::View { ballot: number(v, "ballot")?, view: number(v, "view")?, members: members(v)? },
        "round" => What::Round {
            level: level(v)?,
            round: round(v)?,
            transitions: transitions(v)?,
            participants: node_ids(v, "participants")?,
        },
        "notify" => What::Notify(step(v)?),
        "ack" => What::Ack(step(v)?),
        "stale_ack" => What::StaleAck(step(v)?),
        "state" => What::State {
            subject: life(v, "subject", "subject_inc")?,
            level: optional(v, "level", |v, _| level(v))?,
            is: state(text(v, "is")?)?,
        },
        "suspect" => What::Suspect { peer: node_id(v, "peer")?, via: via(v)? },
        "trust" => What::Trust { peer: node_id(v, "peer")?, via: via(v)? },
        "freeze" | "thaw" => {
            text(v, "why")?;
            if ev == "freeze" { What::Freeze } else { What::Thaw }
        }
        "lease" => What::Lease { issued_nt_us: number(v, "issued_nt_us")?, until_nt_us: number(v, "until_nt_us")? },
        "fence_begin" | "fence" => fence(v, ev)?,
        "refuse" => {
            if text(v, "reason")?.is_empty() {
                return Err("`reason` is empty".into());
            }
            What::Refuse { peer: life(v, "peer", "peer_inc")? }
        }
        "shared_write" => {
            number(v, "lba")?;
            number(v, "blocks")?;
            What::SharedWrite { region: text(v, "region")?.into(), issued_nt_us: number(v, "issued_nt_us")? }
        }
        "waiting" => What::Waiting(stall(v)?),
        "overdue" => What::Overdue(stall(v)?),
        "panic" => What::Panic { reason: text(v, "reason")?.into() },
        "halt" => What::Halt { reason: text(v, "reason")?.into() },
        "epitaph" => epitaph(v)?,
        "group_epoch" | "group_message" | "group_change" | "ack_round" | "merge" => What::Ordered(ordered(v, ev)?),
        // A copy is each node's own.
        "domain" if text(v, "phase")? != "copy" => What::Ordered(ordered(v, ev)?),
        "reservation" => match text(v, "phase")? {
            "stands" => What::Reservation { stands: true },
            "doubt" | "absent" => What::Reservation { stands: false },
            other => return Err(format!("`phase` is \"{other}\"")),
        },
        other => What::Other(other.into()),
    })
}

fn ordered(v: &Value, ev: &str) -> Result<Ordered, String> {
    let order = number(v, "order")?;
    let index = if ev == "group_epoch" { 0 } else { number(v, "index")? };
    let own = |key: &str| !["t_us", "node", "inc", "nt_us", "seq", "lc"].contains(&key);
    let fields = v.as_object().ok_or("no object")?.iter().filter(|(key, _)| own(key));
    let what = fields.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
    Ok(Ordered { order, index, what, topic: topic(v, ev)? })
}

fn topic(v: &Value, ev: &str) -> Result<Topic, String> {
    let group = || text(v, "group").map(str::to_owned);
    let member =
        |node: &str| Ok::<_, String>(Member { group: group()?, node: node_id(v, node)?, job: text(v, "job")?.into() });
    Ok(match ev {
        "group_message" => Topic::Message { from: member("from")?, number: numbered(text(v, "text")?) },
        "group_change" => match text(v, "change")? {
            denied if denied.starts_with("denied") => Topic::None,
            change => Topic::Change { member: member("member")?, joined: change == "joined" },
        },
        "ack_round" => match text(v, "phase")? {
            "through" => Topic::None,
            phase => Topic::Protocol { id: number(v, "protocol")?, ends: phase == "last" },
        },
        "merge" => {
            let count = number(v, "number")?;
            let phase = match text(v, "phase")? {
                "begins" => MergePhase::Begins(count),
                "data" => MergePhase::Data(count),
                "round" => MergePhase::Round { gone: number(v, "gone")? },
                "done" => MergePhase::Done(count),
                other => return Err(format!("`phase` is \"{other}\"")),
            };
            Topic::Merge { of: (group()?, number(v, "merge")?), phase }
        }
        "domain" => Topic::Ask { domain: group()?, ends: text(v, "phase")? != "asked" },
        _ => Topic::None,
    })
}

/// The number of a message whose text begins with `#` and one.
pub fn numbered(text: &str) -> Option<u64> {
    let digits = text.strip_prefix('#')?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

fn epitaph(v: &Value) -> Result<What, String> {
    let how = text(v, "how")?;
    if !["halt", "panic", "bug", "exception", "watchdog", "reset"].contains(&how) {
        return Err(format!("`how` is \"{how}\""));
    }
    if text(v, "reason")?.is_empty() {
        return Err("`reason` is empty".into());
    }
    number(v, "last_nt_us")?;
    let events = field_of(v, "events")?.as_array().ok_or("`events` is not a list")?;
    for event in events {
        text(event, "ev")?;
        number(event, "nt_us")?;
        number(event, "seq")?;
    }
    Ok(What::Epitaph { last_inc: optional(v, "last_inc", number32)? })
}

fn fence(v: &Value, ev: &str) -> Result<What, String> {
    let method = match text(v, "method")? {
        "lease" => FenceMethod::Lease,
        "reservation" => FenceMethod::Reservation,
        other => return Err(format!("`method` is \"{other}\"")),
    };
    let (peer, ok) = (life(v, "peer", "peer_inc")?, flag(v, "ok")?);
    Ok(if ev == "fence" { What::Fence { peer, method, ok } } else { What::FenceBegin { peer, method } })
}

fn field_of<'v>(v: &'v Value, field: &str) -> Result<&'v Value, String> {
    v.get(field).ok_or_else(|| format!("`{field}` is missing"))
}

fn optional<T>(v: &Value, field: &str, read: impl Fn(&Value, &str) -> Result<T, String>) -> Result<Option<T>, String> {
    if field_of(v, field)?.is_null() { Ok(None) } else { read(v, field).map(Some) }
}

fn number(v: &Value, field: &str) -> Result<u64, String> {
    field_of(v, field)?.as_u64().ok_or_else(|| format!("`{field}` is not a whole number"))
}

fn number32(v: &Value, field: &str) -> Result<u32, String> {
    u32::try_from(number(v, field)?).map_err(|_| format!("`{field}` is too large"))
}

fn text<'v>(v: &'v Value, field: &str) -> Result<&'v str, String> {
    field_of(v, field)?.as_str().ok_or_else(|| format!("`{field}` is not a string"))
}

fn flag(v: &Value, field: &str) -> Result<bool, String> {
    field_of(v, field)?.as_bool().ok_or_else(|| format!("`{field}` is not true or false"))
}

fn as_node(id: u64) -> Option<u8> {
    u8::try_from(id).ok().filter(|id| *id < 64)
}

fn node_id(v: &Value, field: &str) -> Result<u8, String> {
    as_node(number(v, field)?).ok_or_else(|| format!("`{field}` is no node id"))
}

fn node_ids(v: &Value, field: &str) -> Result<Vec<u8>, String> {
    let list = field_of(v, field)?.as_array().ok_or_else(|| format!("`{field}` is not a list"))?;
    list.iter()
        .map(|id| id.as_u64().and_then(as_node).ok_or_else(|| format!("`{field}` has something that is no node id")))
        .collect()
}

fn level(v: &Value) -> Result<u16, String> {
    u16::try_from(number(v, "level")?).map_err(|_| "`level` is too large".to_owned())
}

fn life(v: &Value, node: &str, inc: &str) -> Result<Life, String> {
    Ok(Life { node: node_id(v, node)?, inc: number32(v, inc)? })
}

fn state(name: &str) -> Result<NodeState, String> {
    NodeState::from_name(name).ok_or_else(|| format!("\"{name}\" is no state"))
}

fn transition(v: &Value) -> Result<Transition, String> {
    let name = text(v, "transition")?;
    Transition::from_name(name).ok_or_else(|| format!("\"{name}\" is no transition that is ever notified"))
}

fn round(v: &Value) -> Result<RoundName, String> {
    let name = text(v, "round")?;
    RoundName::from_name(name).ok_or_else(|| format!("\"{name}\" is no round name"))
}

fn via(v: &Value) -> Result<Via, String> {
    match text(v, "via")? {
        "net" => Ok(Via::Net),
        "disk" => Ok(Via::Disk),
        other => Err(format!("`via` is \"{other}\"")),
    }
}

fn lock_phase(v: &Value) -> Result<LockPhase, String> {
    match text(v, "phase")? {
        "want" => Ok(LockPhase::Want),
        "wait" => Ok(LockPhase::Wait),
        "acquired" => Ok(LockPhase::Acquired),
        "released" => Ok(LockPhase::Released),
        "lost" => Ok(LockPhase::Lost),
        other => Err(format!("`phase` is \"{other}\"")),
    }
}

fn barriers(v: &Value) -> Result<Barriers, String> {
    let b = field_of(v, "barriers")?;
    let barriers = Barriers {
        joining: number32(b, "joining")?,
        leaving: number32(b, "leaving")?,
        forced_leaving: number32(b, "forced_leaving")?,
    };
    if barriers.joining == 0 || barriers.leaving == 0 || barriers.forced_leaving == 0 {
        return Err("`barriers` has a zero".into());
    }
    Ok(barriers)
}

fn members(v: &Value) -> Result<BTreeMap<u8, (NodeState, u32)>, String> {
    let states = field_of(v, "states")?.as_object().ok_or("`states` is not an object")?;
    let incs = field_of(v, "incs")?.as_object().ok_or("`incs` is not an object")?;
    if states.len() != incs.len() {
        return Err("`states` and `incs` are not of the same nodes".into());
    }
    let mut members = BTreeMap::new();
    for (id, name) in states {
        let node = id.parse().ok().and_then(as_node).ok_or_else(|| format!("\"{id}\" in `states` is no node id"))?;
        let is = state(name.as_str().ok_or("a state in `states` is not a string")?)?;
        members.insert(node, (is, number32(&v["incs"], id)?));
    }
    Ok(members)
}

fn transitions(v: &Value) -> Result<Vec<(Life, Transition)>, String> {
    let list = field_of(v, "transitions")?.as_array().ok_or("`transitions` is not a list")?;
    list.iter().map(|t| Ok((life(t, "subject", "subject_inc")?, transition(t)?))).collect()
}

fn stall(v: &Value) -> Result<StallEvent, String> {
    Ok(StallEvent { step: step(v)?, awaiting: node_ids(v, "awaiting")?, waited_ms: number(v, "waited_ms")? })
}

fn step(v: &Value) -> Result<StepEvent, String> {
    Ok(StepEvent {
        level: level(v)?,
        name: text(v, "name")?.into(),
        round: round(v)?,
        subject: life(v, "subject", "subject_inc")?,
        transition: transition(v)?,
        barrier: number32(v, "barrier")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn contract_each_line_has_the_common_fields() {
        let good = json!({"t_us": 1, "node": 0, "inc": 1, "nt_us": 5, "seq": 0, "lc": 3, "ev": "boot", "version": "v",
            "cmdline": ""});
        assert_eq!(Line::parse(&good).unwrap().what, What::Boot);
        for field in ["t_us", "node", "inc", "nt_us", "seq", "lc", "ev", "version"] {
            let mut bad = good.clone();
            bad.as_object_mut().unwrap().remove(field);
            assert!(Line::parse(&bad).unwrap_err().contains(field), "{field}");
            let mut bad = good.clone();
            bad[field] = json!([]);
            assert!(Line::parse(&bad).is_err(), "{field}");
        }
    }

    #[test]
    fn contract_harness_lines_have_null_inc_nt_us_lc() {
        let good = json!({"t_us": 1, "node": null, "inc": null, "nt_us": null, "seq": 0, "lc": null, "ev": "end",
            "ok": true});
        assert_eq!(Line::parse(&good).unwrap().what, What::End { ok: true });
        let mut bad = good;
        bad["lc"] = json!(1);
        assert!(Line::parse(&bad).is_err());
    }

    #[test]
    fn ep_table_1_inactive_and_joined_are_never_notified_alone() {
        for name in ["inactive", "joined"] {
            assert!(Transition::from_name(name).is_none());
        }
    }
}
