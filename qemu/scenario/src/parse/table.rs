//! Typed access to one TOML table: every key is asked for by name, and what was not asked for is an error that names it.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::source::{Problem, Source, Span};

/// Gathers problems over one file.
#[derive(Debug)]
pub struct Findings {
    list: RefCell<Vec<Problem>>,
}

impl Findings {
    /// None yet.
    pub fn new() -> Self {
        Self { list: RefCell::new(Vec::new()) }
    }

    /// One more.
    pub fn add(&self, span: Span, message: impl Into<String>, label: impl Into<String>) {
        self.push(Problem { message: message.into(), span, label: label.into(), help: None });
    }

    /// One more, with what to do about it.
    pub fn add_help(&self, span: Span, message: impl Into<String>, label: impl Into<String>, help: impl Into<String>) {
        self.push(Problem { message: message.into(), span, label: label.into(), help: Some(help.into()) });
    }

    fn push(&self, problem: Problem) {
        self.list.borrow_mut().push(problem);
    }

    /// All, in the order of the file.
    pub fn finish(self) -> Vec<Problem> {
        let mut list = self.list.into_inner();
        list.sort_by_key(|p| (p.span.start, p.span.end));
        list
    }
}

/// A value and its place.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// The value.
    pub value: &'a DeValue<'a>,
    start: usize,
    end: usize,
}

impl<'a> Value<'a> {
    /// Of a parsed document.
    pub fn of(spanned: &'a Spanned<DeValue<'a>>) -> Self {
        let span = spanned.span();
        Self { value: spanned.get_ref(), start: span.start, end: span.end }
    }

    /// Its place.
    pub fn span(&self) -> Span {
        self.start..self.end
    }

    /// As a whole number.
    pub fn int(&self) -> Option<i64> {
        match self.value {
            DeValue::Integer(i) => i64::from_str_radix(&i.as_str().replace('_', ""), i.radix()).ok(),
            _ => None,
        }
    }

    /// As a number.
    pub fn real(&self) -> Option<f64> {
        match self.value {
            DeValue::Integer(_) => self.int().map(|n| n as f64),
            DeValue::Float(f) => f.as_str().replace('_', "").parse().ok(),
            _ => None,
        }
    }

    /// As a text.
    pub fn text(&self) -> Option<&'a str> {
        match self.value {
            DeValue::String(s) => Some(s.as_ref()),
            _ => None,
        }
    }

    /// As a list.
    pub fn list(&self) -> Option<Vec<Value<'a>>> {
        match self.value {
            DeValue::Array(a) => Some(a.iter().map(Value::of).collect()),
            _ => None,
        }
    }

    /// What kind of value it is, in words.
    pub fn kind(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }
}

/// One table of the file.
#[derive(Debug)]
pub struct Table<'a> {
    map: &'a DeTable<'a>,
    span: Span,
    /// What it is, for messages: "a `kill` step".
    what: String,
    asked: RefCell<Vec<String>>,
    /// Where problems go.
    pub findings: &'a Findings,
    /// The file.
    pub source: &'a Source,
}

impl<'a> Table<'a> {
    /// A table at a place.
    pub fn new(map: &'a DeTable<'a>, span: Span, what: impl Into<String>, from: (&'a Findings, &'a Source)) -> Self {
        Self { map, span, what: what.into(), asked: RefCell::new(Vec::new()), findings: from.0, source: from.1 }
    }

    /// The table in a value; a finding if it is none.
    pub fn from_value(value: Value<'a>, what: &str, from: (&'a Findings, &'a Source)) -> Option<Self> {
        match value.value {
            DeValue::Table(map) => Some(Self::new(map, value.span(), what, from)),
            _ => {
                from.0.add(
                    value.span(),
                    format!("{what} is {}, not a table", value.kind()),
                    "a table is expected here",
                );
                None
            }
        }
    }

    /// Gives it another name for messages, now that more is known.
    #[must_use]
    pub fn named(mut self, what: impl Into<String>) -> Self {
        self.what = what.into();
        self
    }

    /// Its place.
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    /// Where problems go, and the file: what a table within it needs.
    pub fn from(&self) -> (&'a Findings, &'a Source) {
        (self.findings, self.source)
    }

    /// Whether it has a key, without asking for it.
    pub fn has(&self, key: &str) -> bool {
        self.map.iter().any(|(k, _)| k.get_ref() == key)
    }

    /// All keys with their places.
    pub fn keys(&self) -> Vec<(String, Span)> {
        self.map.iter().map(|(k, _)| (k.get_ref().to_string(), k.span())).collect()
    }

    /// A key's place; the table's if it is not there.
    pub fn key_span(&self, key: &str) -> Span {
        self.map.iter().find(|(k, _)| k.get_ref() == key).map_or_else(|| self.span(), |(k, _)| k.span())
    }

    /// The value of a key whose name is known only now.
    pub fn any(&self, key: &str) -> Option<Value<'a>> {
        self.map.iter().find(|(k, _)| k.get_ref() == key).map(|(_, v)| Value::of(v))
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<Value<'a>> {
        self.asked.borrow_mut().push(key.to_owned());
        self.any(key)
    }

    /// The value of a key that must be there.
    pub fn required(&self, key: &str, example: &str) -> Option<Value<'a>> {
        let value = self.value(key);
        if value.is_none() {
            let message = format!("{} has no `{key}`", self.what);
            self.findings.add_help(self.span(), message, format!("`{key}` is missing here"), example);
        }
        value
    }

    fn wrong(&self, key: &str, value: &Value<'_>, wanted: &str) {
        let message = format!("`{key}` of {} is {}, not {wanted}", self.what, value.kind());
        self.findings.add(value.span(), message, format!("{wanted} is expected here"));
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<(&'a str, Span)> {
        let value = self.value(key)?;
        let text = value.text();
        if text.is_none() {
            self.wrong(key, &value, "a string");
        }
        text.map(|t| (t, value.span()))
    }

    /// A text that must be there.
    pub fn text_required(&self, key: &str, example: &str) -> Option<(&'a str, Span)> {
        self.required(key, example)?;
        self.text(key)
    }

    /// A truth value.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        match self.value(key) {
            None => default,
            Some(Value { value: DeValue::Boolean(b), .. }) => *b,
            Some(other) => {
                self.wrong(key, &other, "true or false");
                default
            }
        }
    }

    /// A whole number within bounds.
    pub fn number(&self, key: &str, bounds: RangeInclusive<i64>) -> Option<(i64, Span)> {
        let value = self.value(key)?;
        let Some(n) = value.int() else {
            self.wrong(key, &value, "a whole number");
            return None;
        };
        if !bounds.contains(&n) {
            let (from, to) = (bounds.start(), bounds.end());
            let message = format!("`{key}` of {} is {n}, it must be {from} to {to}", self.what);
            self.findings.add(value.span(), message, format!("{from} to {to} is allowed"));
            return None;
        }
        Some((n, value.span()))
    }

    /// A whole number that must be there.
    pub fn number_required(&self, key: &str, bounds: RangeInclusive<i64>, example: &str) -> Option<(i64, Span)> {
        self.required(key, example)?;
        self.number(key, bounds)
    }

    /// Every key that nobody asked for is a finding.
    pub fn finish(self) {
        let mut asked = self.asked.into_inner();
        asked.sort_unstable();
        asked.dedup();
        let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
        for (key, _) in self.map.iter() {
            if !asked.contains(&key.get_ref().as_ref()) {
                unknown(self.findings, key.span(), &format!("key in {}", self.what), key.get_ref(), &asked);
            }
        }
    }
}

/// A finding about a word that is none of those that are known; it names the nearest.
pub fn unknown(findings: &Findings, span: Span, kind: &str, word: &str, known: &[&str]) {
    let near = known.iter().min_by_key(|k| distance(word, k)).filter(|k| distance(word, k) <= 2.max(k.len() / 3));
    let help = match near {
        Some(near) => format!("did you mean `{near}`? Known here: {}", known.join(", ")),
        None => format!("known here: {}", known.join(", ")),
    };
    findings.add_help(span, format!("unknown {kind}: `{word}`"), "not known here", help);
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut last = i;
        let mut left = i + 1;
        for (slot, cb) in row.iter_mut().skip(1).zip(&b) {
            let cost = (last + usize::from(ca != *cb)).min(left + 1).min(*slot + 1);
            last = std::mem::replace(slot, cost);
            left = cost;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kill", "kill"), 0);
        assert_eq!(distance("kil", "kill"), 1);
        assert_eq!(distance("resmue", "resume"), 2);
        assert_eq!(distance("", "abc"), 3);
    }
}
