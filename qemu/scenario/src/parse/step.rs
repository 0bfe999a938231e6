//! Steps: verbs and their keys.

use std::collections::BTreeSet;

use quorate_base::{NodeId, NodeSet, Timing};
use quorate_database::KernelSlot;
use quorate_database::kernel_slot::VERSION_MAX;
use quorate_switch::{Fault, Hostile, pcap};

use super::condition::{CONDITIONS, condition, regex};
use super::node_expr;
use super::table::{Table, Value, unknown};
use super::word;
use crate::model::{Action, ImageEdit, Inject, Install, Kernel, MachineVerb, StartOptions, Step, StepKind};
use crate::nodes::NodeExpr;
use crate::source::Span;

/// The verbs of `do`.
const VERBS: [&str; 34] = [
    "start",
    "kill",
    "pause",
    "resume",
    "freeze",
    "thaw",
    "reset",
    "leave",
    "command",
    "cut",
    "loss",
    "duplicate",
    "reorder",
    "corrupt",
    "delay",
    "heal",
    "disk_cut",
    "disk_delay",
    "disk_error",
    "disk_tear",
    "disk_misdirect",
    "disk_stale",
    "disk_lose",
    "disk_swap",
    "disk_heal",
    "session_cut",
    "target_restart",
    "inject",
    "snapshot",
    "sleep",
    "repeat",
    "image",
    "install_kernel",
    "chaos",
];

/// The slots of a node, as `slot` names them.
const SLOTS: [(&str, KernelSlot); 2] = [("a", KernelSlot::A), ("b", KernelSlot::B)];

/// The longest wait or sleep, ms.
const TIME_MAX_MS: i64 = 3_600_000;

/// The longest idle time of a disk that a pause may wait for, ms. More lies between two beats with no time-outs that anybody
/// uses.
const DISK_IDLE_MAX_MS: i64 = 1000;

/// Steps at most, nested ones counted once. Guards the harness against a file that is no scenario.
const STEPS_MAX: u32 = 10_000;

/// What a step can refer to.
#[derive(Debug)]
pub(super) struct Scope {
    /// The configured nodes.
    pub configured: NodeSet,
    /// Levels: order and name, the kernel's own included.
    pub levels: Vec<(u16, String)>,
    /// What the database is created with.
    pub timing: Timing,
    /// Names under which earlier steps saved nodes.
    pub names: BTreeSet<String>,
    /// Names under which earlier steps saved snapshots.
    pub snapshots: BTreeSet<String>,
    next_index: u32,
}

impl Scope {
    pub(super) fn new(configured: NodeSet, mut levels: Vec<(u16, String)>, timing: Timing) -> Self {
        levels.insert(0, (0, "membership".to_owned()));
        Self { configured, levels, timing, names: BTreeSet::new(), snapshots: BTreeSet::new(), next_index: 0 }
    }

    /// A node expression; `$name` must have been saved by an earlier step.
    pub(super) fn nodes(&mut self, value: Value<'_>, key: &str, table: &Table<'_>) -> Option<NodeExpr> {
        let expr = node_expr(value, key, self.configured, table.findings)?;
        if let NodeExpr::Saved(name) = &expr {
            self.known_name(name, value.span(), table)?;
        }
        Some(expr)
    }

    /// A finding unless an earlier step saved nodes under that name.
    pub(super) fn known_name(&self, name: &str, span: Span, table: &Table<'_>) -> Option<()> {
        if self.names.contains(name) {
            return Some(());
        }
        let known: Vec<String> = self.names.iter().map(|n| format!("${n}")).collect();
        let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
        let message = format!("${name} is never saved by an earlier step");
        let help = format!("saved before this step: {known}; a step saves with save = \"{name}\"");
        table.findings.add_help(span, message, "not saved", help);
        None
    }

    /// A list of steps.
    pub(super) fn steps(&mut self, value: Value<'_>, table: &Table<'_>) -> Vec<Step> {
        let Some(items) = value.list() else {
            let message = format!("the steps are {}, not a list of tables", value.kind());
            table.findings.add(value.span(), message, "write [[step]], or steps = [{ … }]");
            return Vec::new();
        };
        if items.is_empty() {
            table.findings.add(value.span(), "there are no steps", "at least one is needed");
        }
        items.into_iter().filter_map(|item| self.step(item, table)).collect()
    }

    fn step(&mut self, value: Value<'_>, outer: &Table<'_>) -> Option<Step> {
        let table = Table::from_value(value, "a step", outer.from())?;
        let index = self.next_index;
        self.next_index += 1;
        if index >= STEPS_MAX {
            table.findings.add(table.span(), format!("more than {STEPS_MAX} steps"), "too many");
            return None;
        }
        let kinds: Vec<&str> = ["do", "wait", "expect"].into_iter().filter(|k| table.has(k)).collect();
        let [kind] = kinds.as_slice() else {
            let message = if kinds.is_empty() {
                "a step needs one of `do`, `wait`, `expect`".to_owned()
            } else {
                format!("a step has only one of `do`, `wait`, `expect`; this one has {}", kinds.join(" and "))
            };
            table.findings.add(table.span(), message, "this step");
            return None;
        };
        let (word, word_span) = table.text(kind)?;
        let table = table.named(format!("a `{word}` step"));
        let what = what(&table, kind, word);
        let known: &[&str] = if *kind == "do" { &VERBS } else { &CONDITIONS };
        if !known.contains(&word) {
            unknown(table.findings, word_span, if *kind == "do" { "verb" } else { "condition" }, word, known);
            return None;
        }
        let step_kind = match *kind {
            "do" => self.action(word, &table).map(StepKind::Do),
            "wait" => {
                let within = table.number_required("within_ms", 1..=TIME_MAX_MS, "a wait ends: within_ms = 5000");
                let condition = condition(word, &table, self);
                let within_ms = within.map(|(ms, _)| ms.unsigned_abs());
                within_ms.zip(condition).map(|(within_ms, condition)| StepKind::Wait { condition, within_ms })
            }
            _ => condition(word, &table, self).map(StepKind::Expect),
        };
        let save = self.save(word, &table);
        let span = table.span();
        // After an error not every key was asked for; then only the error is reported.
        if step_kind.is_some() {
            table.finish();
        }
        Some(Step { index, span, what, kind: step_kind?, save })
    }

    fn save(&mut self, word: &str, table: &Table<'_>) -> Option<String> {
        let Some((name, span)) = table.text("save") else {
            if word == "snapshot" && !table.has("save") {
                let message = "a `snapshot` step has no `save`";
                table.findings.add_help(table.span(), message, "`save` is missing here", "save = \"before\"");
            }
            return None;
        };
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if name.is_empty() || !plain {
            table.findings.add(span, format!("`{name}` is no name"), "letters, digits, `_` and `-`, without `$`");
            return None;
        }
        let (mine, other) = match word {
            "snapshot" => (&mut self.snapshots, &self.names),
            _ => (&mut self.names, &self.snapshots),
        };
        if other.contains(name) {
            table.findings.add(span, format!("${name} names nodes and a snapshot"), "choose another name");
            return None;
        }
        if !names_something(word) {
            let message = format!("a `{word}` step hits no node that could be saved");
            table.findings.add(span, message, "nothing to save");
            return None;
        }
        mine.insert(name.to_owned());
        Some(name.to_owned())
    }

    fn action(&mut self, verb: &str, table: &Table<'_>) -> Option<Action> {
        if let Some(verb) = machine_verb(verb) {
            let node = self.target(table);
            let verb = if verb == MachineVerb::Pause { pause(table) } else { Some(verb) };
            return Some(Action::Machine { verb: verb?, node: node? });
        }
        match verb {
            "start" => self.start(table),
            "command" => {
                let node = self.target(table);
                let text = table.text_required("text", "what to type: text = \"status\"");
                let reply = regex(table, "reply");
                if let Some((text, span)) = &text
                    && (text.trim().is_empty() || text.contains(['\n', '\r']))
                {
                    table.findings.add(span.clone(), "`text` must be one line", "one line");
                }
                if let Some((text, _)) = &text {
                    self.level_at_run_time(text);
                }
                Some(Action::Command { node: node?, text: text?.0.to_owned(), reply: reply? })
            }
            "cut" | "loss" | "duplicate" | "reorder" | "corrupt" | "delay" => self.link(verb, table),
            "heal" => {
                let (from, to) = self.between(table)?;
                Some(Action::Heal { from, to })
            }
            "disk_cut" | "disk_delay" | "disk_error" | "disk_tear" | "disk_misdirect" | "disk_stale" | "disk_lose"
            | "disk_swap" | "session_cut" => {
                let node = self.target(table);
                let fault = super::disk::disk_fault(verb, table, self.configured);
                Some(Action::Disk { fault: fault?, node: node? })
            }
            "target_restart" => {
                let off = if table.has("off_ms") { table.number("off_ms", 0..=TIME_MAX_MS)?.0 } else { 0 };
                Some(Action::TargetRestart { off_ms: u32::try_from(off).ok()? })
            }
            "disk_heal" => Some(Action::DiskHeal { node: self.target(table)? }),
            "inject" => inject(table).map(Action::Inject),
            "snapshot" => Some(Action::Snapshot),
            "sleep" => {
                let (ms, _) = table.number_required("ms", 0..=TIME_MAX_MS, "how long: ms = 500")?;
                Some(Action::Sleep { ms: ms.unsigned_abs() })
            }
            "repeat" => {
                let times = table.number_required("times", 1..=100_000, "how often: times = 10");
                let steps = table.required("steps", "what: steps = [{ do = \"…\" }]");
                let steps = steps.map(|v| self.steps(v, table));
                Some(Action::Repeat { times: u32::try_from(times?.0).ok()?, steps: steps? })
            }
            "image" => self.image(table),
            "install_kernel" => {
                let node = self.target(table);
                let slot = slot(table);
                let version = version(table);
                let boot = table.flag("boot", true);
                Some(Action::InstallKernel { node: node?, install: Install { slot: slot?, version: version?, boot } })
            }
            "chaos" => {
                let node = if table.has("node") { self.target(table) } else { Some(NodeExpr::All) };
                let chaos = super::chaos::chaos(table);
                Some(Action::Chaos { chaos: chaos?, node: node? })
            }
            _ => None,
        }
    }

    /// The `node` that a verb needs.
    fn target(&mut self, table: &Table<'_>) -> Option<NodeExpr> {
        let value = table.required("node", "say which: node = 0, node = [0, 2], node = \"all\"")?;
        self.nodes(value, "node", table)
    }

    fn start(&mut self, table: &Table<'_>) -> Option<Action> {
        let node = self.target(table);
        // Not only configured ids: a machine that boots under one that the database does not have is a test of that.
        let as_node = table.number("as", 0..=63).and_then(|(n, _)| u8::try_from(n).ok().and_then(NodeId::new));
        let options = StartOptions {
            as_node,
            disk: table.flag("disk", true),
            identity: table.flag("identity", true),
            cluster: table.flag("cluster", false),
            kernel: word(table, "kernel", &Kernel::WORDS).unwrap_or_default(),
        };
        if as_node.is_some() && !options.identity {
            table.findings.add(table.key_span("as"), "`as` needs `identity`", "contradicts `identity = false`");
        }
        Some(Action::Start { node: node?, options })
    }

    /// `register ORDER:NAME:…`: later steps may name that level. Whether the rest is right is for the node to say.
    fn level_at_run_time(&mut self, text: &str) {
        let Some(word) = text.trim().strip_prefix("register ") else { return };
        let mut fields = word.trim().split(':');
        if let (Some(Ok(order)), Some(name)) = (fields.next().map(str::parse), fields.next())
            && self.levels.iter().all(|(known, _)| *known != order)
        {
            self.levels.push((order, name.to_owned()));
        }
    }

    fn image(&mut self, table: &Table<'_>) -> Option<Action> {
        let words: Vec<&str> = ImageEdit::ALL.iter().map(|(word, _, _)| *word).collect();
        let (word, span) = table.text_required("edit", "say how: edit = \"disable\"")?;
        let Some((_, edit, of_node)) = ImageEdit::ALL.iter().find(|(known, _, _)| *known == word) else {
            unknown(table.findings, span, "edit", word, &words);
            return None;
        };
        let node = if *of_node { Some(self.target(table)?) } else { None };
        let edit = match edit {
            ImageEdit::Weight(_) => {
                let (weight, _) = table.number_required("weight", 0..=255, "how heavy: weight = 200")?;
                ImageEdit::Weight(u8::try_from(weight).ok()?)
            }
            ImageEdit::Timing(_) => {
                let value = table.required("timing", "say which: timing = { lease = 700 }")?;
                ImageEdit::Timing(super::timing(value, self.timing, table)?)
            }
            ImageEdit::DamageKernel(_) => ImageEdit::DamageKernel(slot(table)?),
            ImageEdit::BootSlot(_) => ImageEdit::BootSlot(slot(table)?),
            other => *other,
        };
        Some(Action::Image { edit, node })
    }

    /// `from` and `to`, each `"all"` if it is not given.
    fn between(&mut self, table: &Table<'_>) -> Option<(NodeExpr, NodeExpr)> {
        let mut side = |key: &str| match table.value(key) {
            None => Some(NodeExpr::All),
            Some(value) => self.nodes(value, key, table),
        };
        let (from, to) = (side("from"), side("to"));
        from.zip(to)
    }

    fn link(&mut self, verb: &str, table: &Table<'_>) -> Option<Action> {
        let between = self.between(table);
        let percent = || {
            let value = table.required("percent", "how many of a hundred: percent = 10")?;
            let percent = value.real().filter(|n| (0.0..=100.0).contains(n));
            if percent.is_none() {
                table.findings.add(value.span(), "`percent` must be a number from 0 to 100", "0 to 100");
            }
            percent
        };
        let millis = |key: &str| table.number(key, 0..=60_000).and_then(|(n, _)| u32::try_from(n).ok());
        let fault = match verb {
            "loss" => percent().map(|percent| Fault::Loss { percent }),
            "duplicate" => percent().map(|percent| Fault::Duplicate { percent }),
            "reorder" => percent().map(|percent| Fault::Reorder { percent }),
            "corrupt" => percent().map(|percent| Fault::Corrupt { percent }),
            "delay" => {
                table.required("ms", "by how much: ms = 20");
                let jitter_ms = millis("jitter_ms").unwrap_or(0);
                millis("ms").map(|ms| Fault::Delay { ms, jitter_ms })
            }
            _ => {
                if !table.has("from") && !table.has("to") {
                    let help = "from = 0 cuts node 0 from all others";
                    table.findings.add_help(table.span(), "a `cut` step has no `from`", "`from` is missing", help);
                }
                Some(Fault::Cut)
            }
        };
        // Without a direction given a fault is one on the link, so both ways.
        let oneway = table.flag("oneway", false);
        let (from, to) = between?;
        Some(Action::Link { fault: fault?, from, to, oneway })
    }
}

/// What the step says, in one line.
fn what(table: &Table<'_>, kind: &str, word: &str) -> String {
    let mut keys = table.keys();
    keys.sort_by_key(|(_, span)| span.start);
    let mut text = format!("{kind} {word}");
    for (key, _) in keys {
        if key == kind || key == "steps" {
            continue;
        }
        if let Some(value) = table.any(&key) {
            text.push_str(&format!(" {key}={}", table.source.excerpt(&value.span())));
        }
    }
    text
}

/// The `slot` that a step needs.
fn slot(table: &Table<'_>) -> Option<KernelSlot> {
    table.required("slot", "say which: slot = \"b\"")?;
    word(table, "slot", &SLOTS)
}

/// What a kernel is to say of its version, if the step says it. The outer `None` is a finding.
fn version(table: &Table<'_>) -> Option<Option<String>> {
    let Some((text, span)) = table.text("version") else { return Some(None) };
    if text.is_empty() || text.len() > VERSION_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let message = format!("`{text}` is no version: 1 to {VERSION_MAX} letters, digits and signs, no blanks");
        table.findings.add(span, message, "another one is needed");
        return None;
    }
    Some(Some(text.to_owned()))
}

fn machine_verb(verb: &str) -> Option<MachineVerb> {
    use MachineVerb::{Freeze, Kill, Leave, Pause, Reset, Resume, Thaw};
    [Kill, Pause, Resume, Freeze, Thaw, Reset, Leave].into_iter().find(|v| v.name() == verb)
}

/// A pause: at once, or between two of the node's requests. `None` is a finding.
fn pause(table: &Table<'_>) -> Option<MachineVerb> {
    if !table.has("disk_idle_ms") {
        return Some(MachineVerb::Pause);
    }
    let (ms, _) = table.number("disk_idle_ms", 1..=DISK_IDLE_MAX_MS)?;
    u32::try_from(ms).ok().map(MachineVerb::PauseAtIdle)
}

/// Whether a step with that word resolves nodes, or makes a snapshot, that `save` can keep.
fn names_something(word: &str) -> bool {
    !matches!(word, "sleep" | "repeat" | "inject" | "target_restart" | "unchanged" | "no_event" | "order")
}

fn inject(table: &Table<'_>) -> Option<Inject> {
    let rate = table.number("rate", 1..=1_000_000).and_then(|(n, _)| u32::try_from(n).ok());
    let for_ms = table.number("for_ms", 1..=TIME_MAX_MS).and_then(|(n, _)| u32::try_from(n).ok());
    if for_ms.is_some() && rate.is_none() {
        let message = "`for_ms` without `rate`: how many frames per second?";
        table.findings.add_help(table.key_span("for_ms"), message, "needs a rate", "rate = 100");
    }
    let (hex, file) = (table.value("hex"), table.text("file"));
    if let Some(kinds) = table.value("hostile") {
        if hex.is_some() || file.is_some() {
            let message = "an `inject` step needs either `hex`, `file` or `hostile`";
            table.findings.add(table.span(), message, "exactly one of them");
            return None;
        }
        let hostile = hostile_kinds(kinds, table)?;
        if rate.is_none() || for_ms.is_none() {
            let message = "hostile frames need `rate` and `for_ms`";
            table.findings.add_help(
                kinds.span(),
                message,
                "how many a second, how long?",
                "rate = 10000, for_ms = 3000",
            );
            return None;
        }
        return Some(Inject { frames: Vec::new(), hostile, rate, for_ms });
    }
    let frames = match (hex, file) {
        (Some(value), None) => hex_frames(value, table)?,
        (None, Some((name, span))) => {
            let path = table.source.folder().join(name);
            match std::fs::read(&path)
                .map_err(|e| e.to_string())
                .and_then(|bytes| pcap::read(&bytes).map_err(|e| e.to_string()))
            {
                Ok(frames) if frames.is_empty() => {
                    table.findings.add(span, format!("{} has no frame", path.display()), "this file");
                    return None;
                }
                Ok(frames) => frames,
                Err(why) => {
                    let message = format!("cannot take frames from {}: {why}", path.display());
                    table.findings.add(span, message, "this file");
                    return None;
                }
            }
        }
        _ => {
            let message = "an `inject` step needs either `hex`, `file` or `hostile`";
            table.findings.add(table.span(), message, "exactly one of them");
            return None;
        }
    };
    Some(Inject { frames, hostile: Vec::new(), rate, for_ms })
}

/// `"all"`, or a list of kinds.
fn hostile_kinds(value: Value<'_>, table: &Table<'_>) -> Option<Vec<Hostile>> {
    if value.text() == Some("all") {
        return Some(Hostile::ALL.map(|(_, kind)| kind).to_vec());
    }
    let items = value.list().unwrap_or_else(|| vec![value]);
    let mut kinds = Vec::new();
    for item in items {
        let Some(kind) = item.text().and_then(Hostile::named) else {
            let known = Hostile::ALL.map(|(name, _)| name).join(", ");
            let message = format!("`hostile` must be \"all\" or a list of: {known}");
            table.findings.add(item.span(), message, "not a kind of frame");
            return None;
        };
        kinds.push(kind);
    }
    if kinds.is_empty() {
        table.findings.add(value.span(), "`hostile` has no kind", "at least one");
        return None;
    }
    Some(kinds)
}

fn hex_frames(value: Value<'_>, table: &Table<'_>) -> Option<Vec<Vec<u8>>> {
    let items = value.list().unwrap_or_else(|| vec![value]);
    let mut frames = Vec::new();
    for item in items {
        let bytes = item.text().and_then(from_hex).filter(|b| (1..=65_535).contains(&b.len()));
        let Some(bytes) = bytes else {
            let message = "`hex` must be pairs of hexadecimal digits, 1 to 65535 bytes; blanks are allowed";
            table.findings.add(item.span(), message, "not a frame");
            return None;
        };
        frames.push(bytes);
    }
    if frames.is_empty() {
        table.findings.add(value.span(), "`hex` has no frame", "at least one");
        return None;
    }
    Some(frames)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let digits = digits?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    Some(pairs.map(|p| p.iter().fold(0, |byte, d| byte << 4 | d)).collect())
}
