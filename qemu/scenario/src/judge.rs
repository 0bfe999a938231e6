//! Whether a condition holds, and if not, what is missing: which node lacks what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_base::{NodeId, NodeSet, NodeState, ReservationKey};
use quorate_trace::Line;

use crate::backend::{Backend, DiskView, Trouble};
use crate::belief::Beliefs;
use crate::model::Condition;
use crate::nodes::{Cast, NodeExpr};
use crate::pattern::{Pattern, substitute};

/// Everything known at one moment.
#[derive(Debug)]
pub struct Moment<'a> {
    /// What the nodes believe.
    pub beliefs: &'a Beliefs,
    /// Who is who.
    pub cast: &'a Cast,
    /// All lines so far.
    pub lines: &'a [Arc<Line>],
    /// How many lines there were when the last `do` step began.
    pub last_do: usize,
    /// Snapshots by name: region to hash.
    pub snapshots: &'a BTreeMap<String, BTreeMap<String, String>>,
}

/// A condition's outcome.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// What is missing; it holds if nothing is.
    pub missing: Vec<String>,
    /// The nodes that it is about, for `save` and for reports.
    pub nodes: NodeSet,
}

impl Verdict {
    /// Whether the condition holds.
    pub fn holds(&self) -> bool {
        self.missing.is_empty()
    }

    fn lacks(nodes: NodeSet, what: impl Into<String>) -> Self {
        Self { missing: vec![what.into()], nodes }
    }
}

/// Judges a condition at a moment.
///
/// # Errors
/// If the disk had to be looked at and cannot be read.
pub fn judge(condition: &Condition, at: &Moment<'_>, world: &mut dyn Backend) -> Result<Verdict, Trouble> {
    let outcome = match condition {
        Condition::State { subject, is, level, node } => return state(subject, *is, *level, node.as_ref(), at, world),
        Condition::Master { is } => master(is.as_ref(), at),
        Condition::Panicked { node, reason } => at.cast.resolve(node).map(|nodes| {
            let missing = nodes.iter().filter_map(|n| not_panicked(n, reason.as_ref(), at)).collect();
            Verdict { missing, nodes }
        }),
        Condition::Event(pattern) => first(pattern, at).map(|found| match found {
            Some((_, line)) => Verdict { missing: Vec::new(), nodes: node_of(line) },
            None => Verdict::lacks(about(pattern, at), format!("no event {pattern}")),
        }),
        Condition::EventOnEach(pattern) => on_each(pattern, at),
        Condition::NoEvent(pattern) => first(pattern, at).map(|found| match found {
            Some((_, line)) => Verdict::lacks(node_of(line), format!("there is: {}", show(line))),
            None => Verdict::default(),
        }),
        Condition::Order { first: a, then: b } => order(a, b, at),
        Condition::OrderOfAll { every: a, then: b } => order_of_all(a, b, at),
        Condition::Keys { node } => return keys(node.as_ref(), at, world),
        Condition::Unchanged { snapshot, region, except } => {
            return unchanged(snapshot, region, except, at, world);
        }
    };
    Ok(outcome.unwrap_or_else(|why| Verdict::lacks(NodeSet::EMPTY, why)))
}

/// A line for people, with its node.
pub fn show(line: &Line) -> String {
    let who = line.node.map_or_else(|| "harness".to_owned(), |n| format!("node {n}"));
    let mut text = format!("{:8.3} s {who}: {}", line.t_us as f64 / 1e6, line.ev);
    for (key, value) in &line.fields {
        match value {
            serde_json::Value::String(s) => text.push_str(&format!(" {key}={s}")),
            other => text.push_str(&format!(" {key}={other}")),
        }
    }
    text
}

fn node_of(line: &Line) -> NodeSet {
    line.node.and_then(NodeId::new).map_or(NodeSet::EMPTY, NodeSet::only)
}

fn about(pattern: &Pattern, at: &Moment<'_>) -> NodeSet {
    pattern.node.as_ref().and_then(|n| at.cast.resolve(n).ok()).unwrap_or(NodeSet::EMPTY)
}

/// The first line that a pattern takes, and its number.
fn first<'a>(pattern: &Pattern, at: &Moment<'a>) -> Result<Option<(usize, &'a Arc<Line>)>, String> {
    let from = if pattern.since_start { 0 } else { at.last_do };
    for (number, line) in at.lines.iter().enumerate().skip(from) {
        if pattern.accepts(line, at.cast)? {
            return Ok(Some((number, line)));
        }
    }
    Ok(None)
}

fn on_each(pattern: &Pattern, at: &Moment<'_>) -> Result<Verdict, String> {
    let mut left = match &pattern.node {
        Some(nodes) => at.cast.resolve(nodes)?,
        None => NodeSet::EMPTY,
    };
    let all = left;
    for (_, line) in every(pattern, at)? {
        left = left.minus(node_of(line));
    }
    let missing = left.iter().map(|n| format!("no event {pattern} on node {n}")).collect();
    Ok(Verdict { missing, nodes: if left.is_empty() { all } else { left } })
}

/// All lines that a pattern takes, and their numbers.
fn every<'a>(pattern: &Pattern, at: &Moment<'a>) -> Result<Vec<(usize, &'a Line)>, String> {
    let from = if pattern.since_start { 0 } else { at.last_do };
    let mut lines = Vec::new();
    for (number, line) in at.lines.iter().enumerate().skip(from) {
        if pattern.accepts(line, at.cast)? {
            lines.push((number, line.as_ref()));
        }
    }
    Ok(lines)
}

fn order(a: &Pattern, b: &Pattern, at: &Moment<'_>) -> Result<Verdict, String> {
    let nodes = about(a, at).or(about(b, at));
    let (first_a, first_b) = (first(a, at)?, first(b, at)?);
    let (Some((number_a, line_a)), Some((number_b, line_b))) = (first_a, first_b) else {
        let none = [(first_a, a), (first_b, b)].into_iter().filter(|(found, _)| found.is_none());
        return Ok(Verdict { missing: none.map(|(_, p)| format!("no event {p}")).collect(), nodes });
    };
    if is_before((number_a, line_a.as_ref()), (number_b, line_b.as_ref())) {
        return Ok(Verdict { missing: Vec::new(), nodes });
    }
    let missing = format!("the order is the other way round: {}; only then: {}", show(line_b), show(line_a));
    Ok(Verdict::lacks(nodes, missing))
}

/// Across nodes the Lamport clocks decide, for lines of two nodes reach the harness in any order; harness lines have none,
/// and lines of one node come in order.
fn is_before(a: (usize, &Line), b: (usize, &Line)) -> bool {
    match (a.1.lc, b.1.lc) {
        (Some(x), Some(y)) if a.1.node != b.1.node => x < y,
        _ => a.0 < b.0,
    }
}

fn order_of_all(a: &Pattern, b: &Pattern, at: &Moment<'_>) -> Result<Verdict, String> {
    let nodes = about(a, at).or(about(b, at));
    let (all_a, all_b) = (every(a, at)?, every(b, at)?);
    let seen: NodeSet = all_a.iter().fold(NodeSet::EMPTY, |seen, (_, line)| seen.or(node_of(line)));
    let without = about(a, at).minus(seen);
    let mut missing = Vec::new();
    if !without.is_empty() {
        missing.push(format!("no event {a} on {without}"));
    }
    for (pattern, none) in [(a, all_a.is_empty()), (b, all_b.is_empty())] {
        if none {
            missing.push(format!("no event {pattern}"));
        }
    }
    let wrong = all_a.iter().find_map(|a| all_b.iter().find(|b| !is_before(*a, **b)).map(|b| (a, b)));
    if let Some(((_, late), (_, early))) = wrong {
        missing.push(format!("the order is the other way round: {}; only then: {}", show(early), show(late)));
    }
    Ok(Verdict { missing, nodes })
}

fn not_panicked(node: NodeId, reason: Option<&regex::Regex>, at: &Moment<'_>) -> Option<String> {
    match (&at.beliefs.life(node).end, reason) {
        (Some(end), Some(want)) if end.panic && !want.is_match(&end.reason) => {
            Some(format!("node {node} panicked, but with another reason than /{want}/: {}", end.reason))
        }
        (Some(end), _) if end.panic => None,
        (Some(end), _) => Some(format!("node {node} did not panic, it halted: {}", end.reason)),
        (None, _) if !at.cast.started.contains(node) => Some(format!("node {node} did not panic; it does not run")),
        (None, _) => Some(format!("node {node} did not panic; it runs")),
    }
}

fn master(is: Option<&NodeExpr>, at: &Moment<'_>) -> Result<Verdict, String> {
    let live = at.cast.live;
    let holders: NodeSet = live.iter().filter(|n| at.beliefs.life(*n).holds.is_some()).collect();
    let mut missing = Vec::new();
    match holders.len() {
        0 => missing.push(format!("no live node holds the master lock (live: {live})")),
        1 => {}
        _ => missing.push(format!("nodes {holders} each hold the master lock")),
    }
    if let (Some(holder), 1) = (holders.lowest(), holders.len()) {
        let ballot = at.beliefs.life(holder).holds.unwrap_or(0);
        for node in live {
            let seen = at.beliefs.life(node).view.as_ref().map(|v| v.ballot);
            match seen {
                Some(b) if b == ballot => {}
                Some(b) => missing.push(format!("node {node} follows ballot {b}, node {holder} holds ballot {ballot}")),
                // A node that is not in yet follows nobody.
                None if !member_anywhere(node, at) => {}
                None => missing.push(format!("node {node} has adopted no view yet")),
            }
        }
        if let Some(expr) = is {
            let wanted = at.cast.resolve(expr)?;
            if !wanted.contains(holder) {
                missing.push(format!("the master is node {holder}, not {expr}"));
            }
        }
    }
    Ok(Verdict { missing, nodes: holders })
}

/// Whether any live node has this node's present life as a member.
fn member_anywhere(node: NodeId, at: &Moment<'_>) -> bool {
    let inc = at.beliefs.life(node).inc;
    let has = |n: NodeId| at.beliefs.life(n).sees(node, None).is_some_and(|(s, i)| s.is_member() && Some(i) == inc);
    at.cast.live.iter().any(has)
}

fn state(
    subject: &NodeExpr,
    is: NodeState,
    level: Option<u16>,
    by: Option<&NodeExpr>,
    at: &Moment<'_>,
    world: &mut dyn Backend,
) -> Result<Verdict, Trouble> {
    let resolved = at.cast.resolve(subject).and_then(|s| Ok((s, by.map(|b| at.cast.resolve(b)).transpose()?)));
    let (subjects, given) = match resolved {
        Ok(found) => found,
        Err(why) => return Ok(Verdict::lacks(NodeSet::EMPTY, why)),
    };
    let mut viewers = given.unwrap_or_else(|| at.beliefs.joined(at.cast.live));
    let registered = |n: &NodeId| level.is_none_or(|l| at.beliefs.life(*n).levels.contains_key(&l));
    let mut missing = Vec::new();
    if viewers.is_empty() && level.is_none() {
        let disk = world.disk_view()?;
        // A live node that is joined on the disk is a viewer, though it has not traced that view yet.
        viewers = at.cast.live.iter().filter(|n| joined_on_disk(*n, &disk, at)).collect();
        if viewers.is_empty() {
            for s in subjects {
                let seen = disk.nodes.get(&s.get()).copied().unwrap_or_default();
                missing.extend(differs(s, is, Some(seen), at).map(|what| format!("the disk has {what}")));
            }
            return Ok(Verdict { missing, nodes: subjects });
        }
    }
    let at_level: NodeSet = viewers.iter().filter(registered).collect();
    if at_level.is_empty() {
        let which = level.map_or_else(String::new, |l| format!(" that has level {l}"));
        missing.push(format!("there is no live joined node{which} to see it (live: {})", at.cast.live));
    }
    for viewer in at_level {
        if given.is_some() && !at.cast.live.contains(viewer) {
            missing.push(format!("node {viewer} is to see it, but does not run"));
            continue;
        }
        for s in subjects {
            let seen = at.beliefs.life(viewer).sees(s, level);
            missing.extend(differs(s, is, seen, at).map(|what| format!("node {viewer} sees {what}")));
        }
    }
    if let (false, Some(level)) = (missing.is_empty(), level) {
        missing.iter_mut().for_each(|m| m.push_str(&format!(" at level {level}")));
    }
    Ok(Verdict { missing, nodes: subjects.or(at_level) })
}

fn joined_on_disk(node: NodeId, disk: &DiskView, at: &Moment<'_>) -> bool {
    let own = at.beliefs.life(node).inc;
    disk.nodes.get(&node.get()).is_some_and(|(state, inc)| *state == NodeState::Joined && own == Some(*inc))
}

/// How what is seen of a subject differs from what it is to be; `None` if it does not. Only the subject's present life
/// counts, or its last one if it does not run.
fn differs(subject: NodeId, is: NodeState, seen: Option<(NodeState, u32)>, at: &Moment<'_>) -> Option<String> {
    let life = at.beliefs.life(subject);
    let Some((state, inc)) = seen else { return Some(format!("nothing of node {subject} yet, it must be {is}")) };
    let counted = match life.inc {
        Some(own) if own == inc => state,
        // It sees another life: of this one nothing.
        Some(_) => NodeState::Inactive,
        None if at.cast.live.contains(subject) => {
            return Some(format!("node {subject} {state}, but that node has not said yet which incarnation it is"));
        }
        None => state,
    };
    if counted == is {
        return None;
    }
    let other = match life.inc {
        Some(own) if own != inc => format!(" (it knows incarnation {inc}, {state}; node {subject} is now {own})"),
        _ => String::new(),
    };
    Some(format!("node {subject} {counted}, not {is}{other}"))
}

/// Whether a region's name is meant by a name that may end in `*`.
fn names_region(pattern: &str, region: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(head) => region.starts_with(head),
        None => pattern == region,
    }
}

fn keys(node: Option<&NodeExpr>, at: &Moment<'_>, world: &mut dyn Backend) -> Result<Verdict, Trouble> {
    let wanted = match node.map_or(Ok(at.cast.live), |expr| at.cast.resolve(expr)) {
        Ok(nodes) => nodes,
        Err(why) => return Ok(Verdict::lacks(NodeSet::EMPTY, why)),
    };
    let found: BTreeSet<u64> = world.keys()?.into_iter().collect();
    let owner = |key| ReservationKey(key).owner().map(|o| (o.node.get(), o.incarnation.0));
    let owners: Vec<_> = found.iter().map(|key| (*key, owner(*key))).collect();
    let is_of = |node: NodeId, owner: Option<(u8, u32)>| {
        owner.is_some_and(|(n, inc)| n == node.get() && Some(inc) == at.beliefs.life(node).inc)
    };
    let without = wanted.iter().filter(|n| !owners.iter().any(|(_, owner)| is_of(*n, *owner)));
    let mut missing: Vec<String> = without.map(|n| format!("node {n} has no key at the target")).collect();
    for (key, owner) in &owners {
        if !wanted.iter().any(|n| is_of(n, *owner)) {
            let whose =
                owner.map_or_else(|| "nobody".to_owned(), |(node, inc)| format!("node {node}, incarnation {inc}"));
            missing.push(format!("the target has key {key:016x} of {whose}"));
        }
    }
    Ok(Verdict { missing, nodes: wanted })
}

fn unchanged(
    snapshot: &str,
    region: &[String],
    except: &[String],
    at: &Moment<'_>,
    world: &mut dyn Backend,
) -> Result<Verdict, Trouble> {
    let names = |list: &[String]| list.iter().map(|w| substitute(w, at.cast)).collect::<Result<Vec<_>, _>>();
    let (wanted, except) = match (names(region), names(except)) {
        (Ok(wanted), Ok(except)) => (wanted, except),
        (Err(why), _) | (_, Err(why)) => return Ok(Verdict::lacks(NodeSet::EMPTY, why)),
    };
    let Some(before) = at.snapshots.get(snapshot) else {
        return Ok(Verdict::lacks(NodeSet::EMPTY, format!("the snapshot ${snapshot} has not been made")));
    };
    let now = world.regions()?;
    let all: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let meant = |r: &String| {
        (wanted.is_empty() || wanted.iter().any(|w| names_region(w, r))) && !except.iter().any(|w| names_region(w, r))
    };
    let mut missing: Vec<String> = all
        .iter()
        .filter(|r| meant(r) && before.get(**r) != now.get(**r))
        .map(|r| format!("region {r} has changed since snapshot ${snapshot}"))
        .collect();
    for word in &wanted {
        // A region that is nowhere on the disk cannot change: that is a mistake, not a success.
        if !all.iter().any(|r| names_region(word, r)) {
            missing.push(format!("there is no region `{word}` on the disk"));
        }
    }
    Ok(Verdict { missing, nodes: NodeSet::EMPTY })
}
