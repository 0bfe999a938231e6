//! Conditions of `wait` and `expect`.

use quorate_base::NodeState;
use regex::Regex;

use super::step::Scope;
use super::table::{Table, Value, unknown};
use crate::model::{Condition, RegionNames};
use crate::pattern::{EVENTS, FieldKind, Pattern, Want};

/// The conditions' words.
pub(super) const CONDITIONS: [&str; 8] =
    ["state", "master", "panicked", "event", "no_event", "order", "keys", "unchanged"];

const STATES: [&str; 5] = ["inactive", "joining", "joined", "leaving", "forced-leaving"];

/// The condition of that word; `table` is the whole step. `None` after a finding.
pub(super) fn condition(word: &str, table: &Table<'_>, scope: &mut Scope) -> Option<Condition> {
    match word {
        "state" => state(table, scope),
        "master" => {
            let is = table.value("is").map(|v| scope.nodes(v, "is", table));
            Some(Condition::Master { is: optional(is)? })
        }
        "panicked" => {
            let node = table.required("node", "say which: node = \"$victim\"");
            let node = node.and_then(|v| scope.nodes(v, "node", table));
            let reason = regex(table, "reason")?;
            Some(Condition::Panicked { node: node?, reason })
        }
        "event" => {
            let each = table.flag("each", false);
            let pattern = pattern(table, scope, &["wait", "expect", "within_ms", "save", "each"])?;
            if each && pattern.node.is_none() {
                table.findings.add(table.key_span("each"), "`each` needs `node`", "on each of which nodes?");
                return None;
            }
            Some(if each { Condition::EventOnEach(pattern) } else { Condition::Event(pattern) })
        }
        "no_event" => pattern(table, scope, &["wait", "expect", "within_ms", "save"]).map(Condition::NoEvent),
        "order" => {
            let mut side = |key: &'static str| {
                let value = table.required(key, "give both events: first = { ev = \"…\" }, then = { ev = \"…\" }")?;
                let inner = Table::from_value(value, &format!("`{key}`"), table.from())?;
                pattern(&inner, scope, &[])
            };
            if table.has("every") {
                let (every, then) = (side("every"), side("then"));
                return Some(Condition::OrderOfAll { every: every?, then: then? });
            }
            let (first, then) = (side("first"), side("then"));
            Some(Condition::Order { first: first?, then: then? })
        }
        "keys" => {
            let node = table.value("node").map(|v| scope.nodes(v, "node", table));
            Some(Condition::Keys { node: optional(node)? })
        }
        "unchanged" => unchanged(table, scope),
        _ => None,
    }
}

/// `None` for a value that is there but wrong.
fn optional<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(inner) => inner.map(Some),
    }
}

fn state(table: &Table<'_>, scope: &mut Scope) -> Option<Condition> {
    let subject = table.required("subject", "say of whom: subject = \"all\"");
    let subject = subject.and_then(|v| scope.nodes(v, "subject", table));
    let is = table.text_required("is", "say which: is = \"joined\"").and_then(|(word, span)| {
        let state = (0..5).filter_map(NodeState::from_u8).find(|s| s.name() == word);
        if state.is_none() {
            unknown(table.findings, span, "state", word, &STATES);
        }
        state
    });
    let level = table.value("level").map(|v| level(v, table, scope));
    let node = table.value("node").map(|v| scope.nodes(v, "node", table));
    Some(Condition::State { subject: subject?, is: is?, level: optional(level)?, node: optional(node)? })
}

/// A level by its order or its name.
fn level(value: Value<'_>, table: &Table<'_>, scope: &Scope) -> Option<u16> {
    let found = match (value.int(), value.text()) {
        (Some(n), _) => u16::try_from(n).ok().filter(|n| scope.levels.iter().any(|(order, _)| order == n)),
        (_, Some(name)) => scope.levels.iter().find(|(_, known)| known == name).map(|(order, _)| *order),
        _ => None,
    };
    if found.is_none() {
        let known: Vec<String> = scope.levels.iter().map(|(order, name)| format!("{order} ({name})")).collect();
        let word = table.source.excerpt(&value.span());
        let help = format!("known here: {}", known.join(", "));
        table.findings.add_help(value.span(), format!("unknown level: {word}"), "no level of this scenario", help);
    }
    found
}

/// An optional regular expression. `None` if it is there but wrong.
pub(super) fn regex(table: &Table<'_>, key: &'static str) -> Option<Option<Regex>> {
    let value = table.value(key);
    match (table.text(key), value) {
        (Some((text, span)), _) => compiled(text, key, span, table).map(Some),
        (None, None) => Some(None),
        (None, Some(_)) => None,
    }
}

fn compiled(text: &str, key: &str, span: crate::source::Span, table: &Table<'_>) -> Option<Regex> {
    match Regex::new(text) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let why = error.to_string().lines().last().unwrap_or("").trim().to_owned();
            table.findings.add(span, format!("`{key}` is no regular expression: {why}"), "not a regular expression");
            None
        }
    }
}

fn unchanged(table: &Table<'_>, scope: &mut Scope) -> Option<Condition> {
    let snapshot = table.text_required("snapshot", "name the snapshot: snapshot = \"$before\"");
    let snapshot = snapshot.and_then(|(word, span)| {
        let name = word.strip_prefix('$').unwrap_or(word);
        if !scope.snapshots.contains(name) {
            let message = format!("no earlier `snapshot` step saves ${name}");
            table.findings.add_help(span, message, "never saved", format!("do = \"snapshot\", save = \"{name}\""));
            return None;
        }
        Some(name.to_owned())
    });
    let region = regions(table, "region", scope);
    let except = regions(table, "except", scope);
    Some(Condition::Unchanged { snapshot: snapshot?, region: region?, except: except? })
}

/// Families of regions in the database (harness contract, `shared_write`).
const REGIONS: [&str; 7] = ["superblock", "config", "identity", "heartbeat", "ballot", "domain", "spare"];

fn regions(table: &Table<'_>, key: &'static str, scope: &mut Scope) -> Option<RegionNames> {
    let Some(value) = table.value(key) else { return Some(Vec::new()) };
    let items = value.list().unwrap_or_else(|| vec![value]);
    let mut names = Vec::new();
    for item in items {
        let Some(word) = item.text() else {
            table.findings.add(item.span(), format!("`{key}` has {}, not a region", item.kind()), "no region");
            return None;
        };
        if let Some((_, name)) = word.split_once('$') {
            scope.known_name(name, item.span(), table)?;
        }
        let family = word.split(['.', '*']).next().unwrap_or("");
        if !(word == "*" || REGIONS.contains(&family)) {
            unknown(table.findings, item.span(), "region", word, &REGIONS);
            return None;
        }
        names.push(word.to_owned());
    }
    Some(names)
}

/// An event pattern in a step or in a table of its own; `others` are the step's own keys.
fn pattern(table: &Table<'_>, scope: &mut Scope, others: &[&str]) -> Option<Pattern> {
    let node = table.value("node").map(|v| scope.nodes(v, "node", table));
    let ev = events(table);
    let since_start = match table.text("since") {
        Some(("start", _)) => true,
        Some((word, span)) => {
            unknown(table.findings, span, "`since`", word, &["start"]);
            false
        }
        None => false,
    };
    let ev = ev?;
    let known: Vec<(&'static str, FieldKind)> = EVENTS
        .iter()
        .filter(|(name, _)| ev.iter().any(|e| e == name))
        .flat_map(|(_, fields)| fields.iter().copied())
        .chain([("inc", FieldKind::Int)])
        .collect();
    let mut fields = Vec::new();
    let mut whole = true;
    for (key, span) in table.keys() {
        if matches!(key.as_str(), "node" | "ev" | "since") || others.contains(&key.as_str()) {
            continue;
        }
        let Some((name, kind)) = known.iter().find(|(name, _)| *name == key) else {
            let mut names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            names.sort_unstable();
            names.dedup();
            // Asked for, so that it is not reported a second time as an unknown key.
            let _ = table.value(&key);
            whole = false;
            unknown(table.findings, span, &format!("field of `{}`", ev.join("` or `")), &key, &names);
            continue;
        };
        match table.value(name).and_then(|v| want(v, *kind, name, table, scope)) {
            Some(want) => fields.push((key, want)),
            None => whole = false,
        }
    }
    whole.then_some(Pattern { node: optional(node)?, ev, fields, since_start })
}

fn events(table: &Table<'_>) -> Option<Vec<String>> {
    let value = table.required("ev", "say which: ev = \"view\"")?;
    let items = value.list().unwrap_or_else(|| vec![value]);
    let mut names = Vec::new();
    for item in items {
        let Some(word) = item.text() else {
            table.findings.add(item.span(), format!("`ev` has {}, not a name", item.kind()), "no event");
            return None;
        };
        if !EVENTS.iter().any(|(name, _)| *name == word) {
            let known: Vec<&str> = EVENTS.iter().map(|(name, _)| *name).collect();
            unknown(table.findings, item.span(), "event", word, &known);
            return None;
        }
        names.push(word.to_owned());
    }
    Some(names)
}

/// What a field must be, by the field's kind.
fn want(value: Value<'_>, kind: FieldKind, key: &str, table: &Table<'_>, scope: &mut Scope) -> Option<Want> {
    if kind == FieldKind::Node {
        return scope.nodes(value, key, table).map(Want::Nodes);
    }
    if let Some(items) = value.list() {
        let wants: Vec<Option<Want>> = items.into_iter().map(|v| want(v, kind, key, table, scope)).collect();
        return wants.into_iter().collect::<Option<Vec<_>>>().map(Want::Any);
    }
    let found = match kind {
        FieldKind::Int => value.int().map(Want::Int),
        FieldKind::Word => value.text().map(|t| Want::Text(t.to_owned())),
        FieldKind::Sentence => match value.text() {
            Some(text) => return compiled(text, key, value.span(), table).map(Want::Matches),
            None => None,
        },
        FieldKind::Flag => match value.value {
            toml::de::DeValue::Boolean(b) => Some(Want::Flag(*b)),
            _ => None,
        },
        FieldKind::Level if value.text() == Some("none") => Some(Want::Null),
        FieldKind::Level => return level(value, table, scope).map(|order| Want::Int(order.into())),
        FieldKind::WordByNode => return by_node(value, FieldKind::Word, key, table, scope),
        FieldKind::IntByNode => return by_node(value, FieldKind::Int, key, table, scope),
        FieldKind::Free | FieldKind::Node => None,
    };
    if found.is_none() {
        let message = format!("field `{key}` cannot be compared with {}", value.kind());
        table.findings.add(value.span(), message, "wrong type for this field");
    }
    found
}

/// `{ "0" = "joined", "$victim" = "inactive" }`.
fn by_node(value: Value<'_>, kind: FieldKind, key: &str, table: &Table<'_>, scope: &mut Scope) -> Option<Want> {
    let inner = Table::from_value(value, &format!("`{key}`"), table.from())?;
    let mut entries = Vec::new();
    for (node, span) in inner.keys() {
        if let Some(name) = node.strip_prefix('$') {
            scope.known_name(name, span, table)?;
        } else if !scope.configured.iter().any(|id| id.to_string() == node) {
            table.findings.add(span, format!("node {node} is not configured"), "no node of this scenario");
            return None;
        }
        let entry = inner.any(&node)?;
        entries.push((node, want(entry, kind, key, table, scope)?));
    }
    Some(Want::Table(entries))
}
