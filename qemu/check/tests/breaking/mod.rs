//! Takes a good trace and breaks it in one way.

use crate::story::Story;
use quorate_check::{Checker, Options, Order, Report, Rule};
use serde_json::{Value, json};

/// A change of a trace.
pub type Break = fn(&mut Vec<Value>);

/// A good trace, broken in one way, and the rule that must catch it.
pub struct Case {
    pub name: &'static str,
    pub good: fn() -> Story,
    pub rule: Rule,
    pub options: Options,
    pub change: Break,
}

/// Cases that break one story, judged in Lamport order.
pub fn of(good: fn() -> Story, cases: &[(&'static str, Rule, Break)]) -> Vec<Case> {
    let options = Options::default();
    cases.iter().map(|(name, rule, change)| Case { name, good, rule: *rule, options, change: *change }).collect()
}

/// The same for what only shows where times are exact.
pub fn exact(good: fn() -> Story, cases: &[(&'static str, Rule, Break)]) -> Vec<Case> {
    let options = Options { order: Order::Receipt, ..Options::default() };
    of(good, cases).into_iter().map(|case| Case { options, ..case }).collect()
}

impl Case {
    /// What is wrong with it: the good trace must pass, the broken one be caught by the rule.
    pub fn wrong(&self) -> Option<String> {
        let mut lines = (self.good)().lines;
        let report = run(&lines, self.options);
        if !report.is_fine() {
            return Some(format!("{}: the good trace fails: {report}", self.name));
        }
        (self.change)(&mut lines);
        let report = run(&lines, self.options);
        let found = report.violations.iter().chain(&report.failed).any(|v| v.rule == self.rule);
        (!found).then(|| format!("{}: {} was not found, but\n{report}", self.name, self.rule))
    }
}

/// What the checker says.
pub fn run(lines: &[Value], options: Options) -> Report {
    let (mut checker, mut report) = (Checker::new(options), Report::default());
    for line in lines {
        report.add(checker.push_text(&line.to_string()));
    }
    report.add(checker.finish());
    report.counts = checker.counts();
    report
}

pub fn assert_fine(lines: &[Value], options: Options) -> Report {
    let report = run(lines, options);
    assert!(report.is_fine(), "{report}");
    report
}

/// Line number of the first line with these fields.
pub fn find(lines: &[Value], fields: &Value) -> usize {
    let matches = |l: &Value| fields.as_object().unwrap().iter().all(|(k, v)| &l[k] == v);
    lines.iter().position(matches).unwrap_or_else(|| panic!("no line with {fields}"))
}

/// Sets fields of the first line that has `fields`.
pub fn set(lines: &mut [Value], fields: Value, new: Value) {
    let at = find(lines, &fields);
    for (k, v) in new.as_object().unwrap() {
        lines[at][k] = v.clone();
    }
}

/// Takes out all lines with these fields and closes the holes in `seq`.
pub fn remove(lines: &mut Vec<Value>, fields: Value) {
    find(lines, &fields);
    let matches = |l: &Value| fields.as_object().unwrap().iter().all(|(k, v)| &l[k] == v);
    lines.retain(|l| !matches(l));
    crate::story::renumber(lines);
}

/// Puts a copy of the first line with `fields`, changed by `new`, `after` lines further on in the same stream.
pub fn copy(lines: &mut Vec<Value>, fields: Value, new: Value, after: usize) {
    let at = find(lines, &fields);
    let mut line = lines[at].clone();
    for (k, v) in new.as_object().unwrap() {
        line[k] = v.clone();
    }
    let same = |l: &Value| l["node"] == line["node"] && l["inc"] == line["inc"];
    let stream: Vec<usize> = (at..lines.len()).filter(|i| same(&lines[*i])).collect();
    let place = stream[after.min(stream.len() - 1)];
    for field in ["lc", "nt_us", "t_us"] {
        line[field] = lines[place][field].clone();
    }
    // Clocks of this stream move on by one, so that the copy has its own; all others stay behind causally.
    for l in lines.iter_mut() {
        if let Some(lc) = l["lc"].as_u64() {
            l["lc"] = json!(lc * 2);
        }
    }
    line["lc"] = json!(line["lc"].as_u64().map(|lc| lc * 2 + 1));
    lines.insert(place + 1, line);
    crate::story::renumber(lines);
}
