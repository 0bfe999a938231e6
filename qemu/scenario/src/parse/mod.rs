//! From text to [`Scenario`]: the head of the file (name, nodes, timing, levels). Steps are in `step`, conditions in
//! `condition`.
//!
//! Nothing is guessed: an unknown key or word, a wrong type, a node that is not configured, a name that no earlier step
//! saved, are all errors with their place.

mod chaos;
mod condition;
mod disk;
mod step;
pub(crate) mod table;

use std::path::Path;

use quorate_base::capacity::{BARRIERS_MAX, LEVEL_NAME_MAX, LEVELS_MAX, NODES_MAX};
use quorate_base::timing::TimingError;
use quorate_base::{Barriers, FenceMethod, NodeId, NodeSet, Preempted, Registrants, Timing};
use quorate_launch::iscsi::Disk;
use quorate_launch::{BootPath, Nic};
use toml::de::DeTable;

use crate::model::{Level, Scenario};
use crate::nodes::NodeExpr;
use crate::source::{Problem, Problems, Source, Span};
use crate::words::CMDLINE_BYTES_MAX;
use step::Scope;
use table::{Findings, Table, Value, unknown};

/// Levels that are the kernel's own: a test subsystem cannot take their place.
const KERNEL_LEVELS: [u16; 1] = [0];

impl Scenario {
    /// Reads and parses a scenario file: one scenario for each number of nodes that its head names.
    ///
    /// # Errors
    /// All problems of the file; one if it cannot be read.
    pub fn read(path: &Path) -> Result<Vec<Self>, Problems> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse_all(Source::new(path, text)),
            Err(error) => {
                let source = Source::new(path, "");
                let message = format!("cannot read {}: {error}", path.display());
                let problem = Problem { message, span: 0..0, label: String::new(), help: None };
                Err(Problems { source, list: vec![problem] })
            }
        }
    }

    /// Parses a file: `nodes = [2, 3, 5]` makes three scenarios of it, `name-2`, `name-3` and `name-5`.
    ///
    /// # Errors
    /// All problems of the first number of nodes that has any, in the order of the text.
    pub fn parse_all(source: Source) -> Result<Vec<Self>, Problems> {
        let first = parse_size(source.clone(), 0)?;
        let mut all = vec![first];
        while all.len() < all[0].1 {
            all.push(parse_size(source.clone(), all.len())?);
        }
        Ok(all.into_iter().map(|(scenario, _)| scenario).collect())
    }

    /// Parses a scenario; of several numbers of nodes the first.
    ///
    /// # Errors
    /// All problems, in the order of the text.
    pub fn parse(source: Source) -> Result<Self, Problems> {
        parse_size(source, 0).map(|(scenario, _)| scenario)
    }
}

/// The scenario with the number of nodes at that place of the list, and how many numbers there are.
fn parse_size(source: Source, at: usize) -> Result<(Scenario, usize), Problems> {
    let findings = Findings::new();
    let scenario = parse_text(&source, &findings, at);
    let list = findings.finish();
    match scenario {
        Some(scenario) if list.is_empty() => Ok(scenario),
        _ => Err(Problems { source, list }),
    }
}

/// `nodes = 3`, or `nodes = [2, 3, 5]`: the one at that place, and how many there are.
fn sizes(top: &Table<'_>, at: usize) -> Option<(u8, usize)> {
    const RANGE: std::ops::RangeInclusive<i64> = 1..=NODES_MAX as i64;
    let Some(items) = top.value("nodes").and_then(|value| value.list()) else {
        let one = top.number_required("nodes", RANGE, "say how many nodes are configured: nodes = 3");
        return one.and_then(|(n, _)| u8::try_from(n).ok()).map(|n| (n, 1));
    };
    let mut sizes: Vec<u8> = Vec::new();
    for item in &items {
        match item.int().filter(|n| RANGE.contains(n)).and_then(|n| u8::try_from(n).ok()) {
            Some(n) if !sizes.contains(&n) => sizes.push(n),
            Some(n) => top.findings.add(item.span(), format!("`nodes` has {n} twice"), "once is enough"),
            None => {
                let what = item.int().map_or_else(|| item.kind().to_owned(), |n| n.to_string());
                top.findings.add(item.span(), format!("`nodes` has {what}, not 1 to {NODES_MAX} nodes"), "no cluster");
            }
        }
    }
    if items.is_empty() {
        top.findings.add(top.key_span("nodes"), "`nodes` is an empty list".to_owned(), "nodes = [2, 3, 5]");
    }
    sizes.get(at).map(|n| (*n, sizes.len()))
}

fn parse_text(source: &Source, findings: &Findings, at: usize) -> Option<(Scenario, usize)> {
    let text = source.text.clone();
    let document = match DeTable::parse(&text) {
        Ok(document) => document,
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            findings.add(span, format!("not TOML: {}", error.message().trim()), "here");
            return None;
        }
    };
    let whole = Span { start: 0, end: text.find('\n').unwrap_or(text.len()) };
    let top = Table::new(document.get_ref(), whole, "the scenario", (findings, source));
    let stem = source.path.file_stem().map_or_else(|| "scenario".to_owned(), |s| s.to_string_lossy().into_owned());
    let name = top.text("name").map_or(stem, |(name, _)| name.to_owned());
    let sizes = sizes(&top, at);
    let nodes = sizes.map(|(nodes, _)| nodes);
    let seed = top.number("seed", 0..=i64::MAX).map_or(1, |(n, _)| n.unsigned_abs());
    let block_size = block_size(&top);
    let disk = word(&top, "disk", &Disk::WORDS).unwrap_or_default();
    let fence = word(&top, "fence", &[FenceMethod::Lease, FenceMethod::Reservation].map(|m| (m.name(), m)));
    let (fence, fence_said) = (fence.unwrap_or_default(), fence.is_some());
    let preempted = word(&top, "preempted", &Preempted::ALL.map(|p| (p.name(), p)));
    let registrants = word(&top, "registrants", &Registrants::ALL.map(|r| (r.name(), r)));
    let timing_said = top.value("timing").is_some();
    let groups = top.flag("groups", false);
    let nic = word(&top, "nic", &Nic::WORDS).unwrap_or_default();
    let boot = word(&top, "boot", &BootPath::WORDS).unwrap_or_default();
    let timing = top.value("timing").map_or(Some(Timing::DEFAULT), |v| timing(v, Timing::DEFAULT, &top));
    // A wrong `nodes` must not turn every node of the file into a second error.
    let configured = NodeSet::first(nodes.unwrap_or(NODES_MAX as u8));
    let top_level_span = top.key_span("level");
    let levels = levels(&top, configured);
    let known = levels.iter().map(|l| (l.order, l.name.clone())).collect();
    let mut scope = Scope::new(configured, known, timing.unwrap_or(Timing::DEFAULT));
    let steps = match top.required("step", "add at least one [[step]]") {
        Some(value) => scope.steps(value, &top),
        None => Vec::new(),
    };
    top.finish();
    let ((nodes, sizes), timing) = (sizes?, timing?);
    let name = if sizes > 1 { format!("{name}-{nodes}") } else { name };
    let scenario = Scenario {
        source: source.clone(),
        name,
        nodes,
        seed,
        timing,
        timing_said,
        block_size,
        disk,
        fence,
        fence_said,
        preempted,
        registrants,
        groups,
        boot,
        nic,
        levels,
        steps,
    };
    if let Some((node, bytes)) = scenario.too_many_words() {
        let message = format!("the levels of node {node} need a kernel command line of {bytes} bytes");
        findings.add(top_level_span, message, format!("{CMDLINE_BYTES_MAX} are allowed: fewer levels, shorter names"));
    }
    Some((scenario, sizes))
}

fn block_size(top: &Table<'_>) -> u32 {
    match top.number("block_size", 512..=4096) {
        Some((4096, _)) => 4096,
        None | Some((512, _)) => 512,
        Some((n, span)) => {
            top.findings.add(span, format!("`block_size` is {n}, it must be 512 or 4096"), "512 or 4096");
            512
        }
    }
}

/// One of a few words; `None` if the file has none, or an unknown one, which is a finding.
fn word<T: Clone, const N: usize>(top: &Table<'_>, key: &'static str, known: &[(&'static str, T); N]) -> Option<T> {
    let (word, span) = top.text(key)?;
    let found = known.iter().find(|(name, _)| *name == word).map(|(_, value)| value.clone());
    if found.is_none() {
        unknown(top.findings, span, key, word, &known.each_ref().map(|(name, _)| *name));
    }
    found
}

/// A table of time-outs; what it does not name is as in `usual`.
fn timing(value: Value<'_>, usual: Timing, top: &Table<'_>) -> Option<Timing> {
    let table = Table::from_value(value, "[timing]", top.from())?;
    let mut timing = match table.text("profile") {
        None => usual,
        Some((name, span)) => Timing::profile(name).unwrap_or_else(|| {
            unknown(top.findings, span, "timing profile", name, &["default", "fast"]);
            Timing::DEFAULT
        }),
    };
    let mut whole = true;
    let fields: [(&'static str, &mut u32); 8] = [
        ("net_heartbeat", &mut timing.net_heartbeat),
        ("net_suspect", &mut timing.net_suspect),
        ("disk_heartbeat", &mut timing.disk_heartbeat),
        ("disk_suspect", &mut timing.disk_suspect),
        ("io_max", &mut timing.io_max),
        ("lease", &mut timing.lease),
        ("dead", &mut timing.dead),
        ("outage_grace", &mut timing.outage_grace),
    ];
    for (key, field) in fields {
        if table.has(key) {
            match table.number(key, 0..=3_600_000).and_then(|(n, _)| u32::try_from(n).ok()) {
                Some(n) => *field = n,
                None => whole = false,
            }
        } else {
            // Asked for, so that it counts as known.
            let _ = table.value(key);
        }
    }
    if whole && let Err(error) = timing.check() {
        let key = match error {
            TimingError::OutOfBounds { name, .. } => name,
            TimingError::LateWrite => "dead",
            TimingError::Hasty { suspect, .. } => suspect,
            TimingError::ShortLease => "lease",
        };
        let values = timing.entries().map(|(name, ms)| format!("{name} {ms}")).join(", ");
        let help = format!("in all, in ms: {values}");
        table.findings.add_help(table.key_span(key), error.to_string(), "these time-outs are not safe", help);
        whole = false;
    }
    table.finish();
    whole.then_some(timing)
}

fn levels(top: &Table<'_>, configured: NodeSet) -> Vec<Level> {
    let Some(value) = top.value("level") else { return Vec::new() };
    let Some(items) = value.list() else {
        top.findings.add(value.span(), "`level` is not a list of tables", "write [[level]]");
        return Vec::new();
    };
    let mut levels: Vec<Level> = Vec::new();
    for item in items {
        let Some(table) = Table::from_value(item, "[[level]]", top.from()) else { continue };
        let order_span = table.key_span("order");
        let name_span = table.key_span("name");
        let Some(level) = level(table, configured) else { continue };
        let meets = |l: &&Level| l.order == level.order && !on(l, configured).and(on(&level, configured)).is_empty();
        let with = |n: NodeId| levels.iter().filter(|l| l.is_on(n)).count();
        let orders = on(&level, configured).iter().map(with).max().unwrap_or(0);
        if let Some(other) = levels.iter().find(meets) {
            let message =
                format!("level order {} is used twice, by `{}` and `{}`", level.order, other.name, level.name);
            let help = "what differs from node to node is given once for each: with `only_on`, no node twice";
            top.findings.add_help(order_span, message, "orders are unique on a node", help);
        } else if levels.iter().any(|l| l.name == level.name && l.order != level.order) {
            top.findings.add(name_span, format!("two levels are named `{}`", level.name), "names are unique");
        } else if orders + KERNEL_LEVELS.len() >= LEVELS_MAX {
            top.findings.add(order_span, format!("more than {LEVELS_MAX} levels in all"), "this one is too many");
        } else {
            levels.push(level);
        }
    }
    levels.sort_by_key(|l| l.order);
    levels
}

/// The nodes that register a level.
fn on(level: &Level, configured: NodeSet) -> NodeSet {
    level.only_on.unwrap_or(configured)
}

fn level(table: Table<'_>, configured: NodeSet) -> Option<Level> {
    let order = table.number_required("order", 1..=i64::from(u16::MAX), "give it a place: order = 70");
    let order = order.and_then(|(n, _)| u16::try_from(n).ok());
    let name = table.text_required("name", "give it a name: name = \"probe\"").and_then(|(name, span)| {
        // It becomes one field of a word on the kernel command line.
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if name.is_empty() || name.len() > LEVEL_NAME_MAX || !plain {
            let message = format!("level name `{name}` must be 1 to {LEVEL_NAME_MAX} letters, digits, `-` or `_`");
            table.findings.add(span, message, "another name is needed");
            return None;
        }
        Some(name.to_owned())
    });
    let barriers = barriers(&table);
    let work_ms = table.number("work_ms", 0..=600_000).map_or(0, |(n, _)| u32::try_from(n).unwrap_or(0));
    let hang = node_list(&table, "hang", configured).unwrap_or(NodeSet::EMPTY);
    let only_on = node_list(&table, "only_on", configured);
    let hang_span = table.key_span("hang");
    if let Some(only) = only_on
        && !hang.is_subset(only)
    {
        let message = format!("`hang` names nodes {} that do not register this level", hang.minus(only));
        table.findings.add(hang_span, message, "`only_on` leaves them out");
    }
    let everywhere = table.flag("everywhere", only_on.is_none());
    let deadline_ms = table.number("deadline_ms", 1..=600_000).map_or(0, |(n, _)| u32::try_from(n).unwrap_or(0));
    table.finish();
    Some(Level { order: order?, name: name?, barriers, work_ms, hang, only_on, everywhere, deadline_ms })
}

fn barriers(level: &Table<'_>) -> Barriers {
    let Some(value) = level.value("barriers") else { return Barriers::ONE };
    let Some(table) = Table::from_value(value, "`barriers`", level.from()) else { return Barriers::ONE };
    let count = |key| {
        let number = table.number(key, 1..=i64::from(BARRIERS_MAX));
        number.and_then(|(n, _)| u8::try_from(n).ok()).unwrap_or(1)
    };
    let barriers =
        Barriers { joining: count("joining"), leaving: count("leaving"), forced_leaving: count("forced_leaving") };
    table.finish();
    barriers
}

/// A list of configured nodes, as levels have it: no words, for levels are there before anything runs.
fn node_list(table: &Table<'_>, key: &'static str, configured: NodeSet) -> Option<NodeSet> {
    let value = table.value(key)?;
    match node_expr(value, key, configured, table.findings)? {
        NodeExpr::Ids(set) => Some(set),
        NodeExpr::All => Some(configured),
        _ => {
            let message = format!("`{key}` must be a list of node numbers");
            table.findings.add(value.span(), message, "this is only known while the scenario runs");
            None
        }
    }
}

/// A node expression.
fn node_expr(value: Value<'_>, key: &str, configured: NodeSet, findings: &Findings) -> Option<NodeExpr> {
    let number = |item: &Value<'_>| {
        let Some(n) = item.int() else {
            findings.add(item.span(), format!("`{key}` has {} where a node number belongs", item.kind()), "no node");
            return None;
        };
        let id = u8::try_from(n).ok().and_then(NodeId::new).filter(|id| configured.contains(*id));
        if id.is_none() {
            let message = format!("node {n} is not configured");
            findings.add(item.span(), message, format!("this scenario has {}", id_range(configured)));
        }
        id
    };
    if value.int().is_some() {
        return number(&value).map(NodeExpr::one);
    }
    if let Some(items) = value.list() {
        if items.is_empty() {
            findings.add(value.span(), format!("`{key}` is an empty list"), "no node");
            return None;
        }
        let ids: Vec<Option<NodeId>> = items.iter().map(number).collect();
        return ids.into_iter().collect::<Option<NodeSet>>().map(NodeExpr::Ids);
    }
    let Some(word) = value.text() else {
        findings.add(value.span(), format!("`{key}` is {}, not a node", value.kind()), "no node");
        return None;
    };
    if let Some(name) = word.strip_prefix('$') {
        return Some(NodeExpr::Saved(name.to_owned()));
    }
    if let Some(list) = word.strip_prefix("all but ") {
        return all_but(list, value, configured, findings);
    }
    let expr = NodeExpr::from_word(word);
    if expr.is_none() {
        let words = ["all", "all but 0", "started", "master", "others", "$name"];
        unknown(findings, value.span(), "node", word, &words);
    }
    expr
}

/// The numbers behind `all but`, with commas between them.
fn all_but(list: &str, value: Value<'_>, configured: NodeSet, findings: &Findings) -> Option<NodeExpr> {
    let mut without = NodeSet::EMPTY;
    for word in list.split(',').map(str::trim) {
        let id = word.parse().ok().and_then(NodeId::new).filter(|id| configured.contains(*id));
        let Some(id) = id else {
            let message = format!("`{word}` behind `all but` is no configured node");
            findings.add(value.span(), message, format!("this scenario has {}", id_range(configured)));
            return None;
        };
        without.insert(id);
    }
    Some(NodeExpr::AllBut(without))
}

fn id_range(configured: NodeSet) -> String {
    match configured.len() {
        1 => "node 0 only".to_owned(),
        n => format!("nodes 0 to {}", n - 1),
    }
}
