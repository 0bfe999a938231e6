//! One line of a trace file.
//!
//! Every line has `t_us`, `node`, `inc`, `nt_us`, `seq`, `lc` and `ev`, in this order, then the fields of the event. What
//! a line has not (the harness has no incarnation and no Lamport clock) is null, never left out.

use std::fmt;

use quorate_base::Record;
use serde_json::{Map, Value, json};

use crate::record;

/// One line.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    /// Harness clock at receipt, µs since the run began.
    pub t_us: u64,
    /// The node; `None` for the harness itself.
    pub node: Option<u8>,
    /// That node's incarnation, once it knows it.
    pub inc: Option<u32>,
    /// That node's clock, µs since its boot.
    pub nt_us: Option<u64>,
    /// Per node and incarnation, from 0; the harness counts its own lines.
    pub seq: u64,
    /// Lamport clock.
    pub lc: Option<u64>,
    /// What happened.
    pub ev: String,
    /// The event's own fields.
    pub fields: Map<String, Value>,
}

/// Why a text is no trace line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LineError {
    /// Not JSON, or no JSON object.
    NotAnObject(String),
    /// A field that every line has is missing or of the wrong kind.
    Field(&'static str),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject(why) => write!(f, "no JSON object: {why}"),
            Self::Field(name) => write!(f, "field `{name}` is missing or of the wrong kind"),
        }
    }
}

impl std::error::Error for LineError {}

impl Line {
    /// The line of a node's record that was received at `t_us`.
    pub fn of_record(t_us: u64, node: u8, record: &Record<'_>) -> Self {
        let (ev, fields) = record::fields(&record.event);
        Self {
            t_us,
            node: Some(node),
            inc: record.incarnation.map(|i| i.0),
            nt_us: Some(record.at.0),
            seq: record.seq,
            lc: Some(record.lamport),
            ev: ev.into(),
            fields,
        }
    }

    /// A line of the harness itself.
    pub fn of_harness(t_us: u64, seq: u64, ev: &str, fields: Map<String, Value>) -> Self {
        Self { t_us, node: None, inc: None, nt_us: None, seq, lc: None, ev: ev.into(), fields }
    }

    /// A field by name, also one of those that every line has.
    pub fn get(&self, name: &str) -> Option<Value> {
        Some(match name {
            "t_us" => json!(self.t_us),
            "node" => json!(self.node),
            "inc" => json!(self.inc),
            "nt_us" => json!(self.nt_us),
            "seq" => json!(self.seq),
            "lc" => json!(self.lc),
            "ev" => json!(self.ev),
            _ => return self.fields.get(name).cloned(),
        })
    }

    /// An unsigned field of the event.
    pub fn uint(&self, name: &str) -> Option<u64> {
        self.fields.get(name)?.as_u64()
    }

    /// A text field of the event.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }

    /// The line as JSON, without a line end.
    pub fn to_json(&self) -> String {
        let head = [
            ("t_us", json!(self.t_us)),
            ("node", json!(self.node)),
            ("inc", json!(self.inc)),
            ("nt_us", json!(self.nt_us)),
            ("seq", json!(self.seq)),
            ("lc", json!(self.lc)),
            ("ev", json!(self.ev)),
        ];
        let rest = self.fields.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let mut text = String::from("{");
        for (name, value) in head.into_iter().chain(rest) {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&Value::from(name).to_string());
            text.push(':');
            text.push_str(&value.to_string());
        }
        text.push('}');
        text
    }

    /// Reads a line back.
    ///
    /// # Errors
    /// If it is no JSON object with the fields that every line has.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let mut fields: Map<String, Value> =
            serde_json::from_str(text).map_err(|e| LineError::NotAnObject(e.to_string()))?;
        let mut take = |name: &'static str| fields.remove(name).ok_or(LineError::Field(name));
        let t_us = take("t_us")?.as_u64().ok_or(LineError::Field("t_us"))?;
        let node = small(take("node")?, "node")?;
        let inc = small(take("inc")?, "inc")?;
        let nt_us = optional(take("nt_us")?, "nt_us")?;
        let seq = take("seq")?.as_u64().ok_or(LineError::Field("seq"))?;
        let lc = optional(take("lc")?, "lc")?;
        let Value::String(ev) = take("ev")? else { return Err(LineError::Field("ev")) };
        Ok(Self { t_us, node, inc, nt_us, seq, lc, ev, fields })
    }
}

fn optional(value: Value, name: &'static str) -> Result<Option<u64>, LineError> {
    match value {
        Value::Null => Ok(None),
        value => value.as_u64().map(Some).ok_or(LineError::Field(name)),
    }
}

fn small<T: TryFrom<u64>>(value: Value, name: &'static str) -> Result<Option<T>, LineError> {
    optional(value, name)?.map(|n| T::try_from(n).map_err(|_| LineError::Field(name))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harness_line_has_nulls_where_it_knows_nothing() {
        let Value::Object(fields) = json!({"index": 0, "do": "kill", "nodes": [1]}) else { unreachable!() };
        let line = Line::of_harness(12, 3, "step", fields);
        let text = r#"{"t_us":12,"node":null,"inc":null,"nt_us":null,"seq":3,"lc":null,"ev":"step","do":"kill","index":0,"nodes":[1]}"#;
        assert_eq!(line.to_json(), text);
        assert_eq!(Line::parse(text), Ok(line));
    }

    #[test]
    fn what_is_no_trace_line_is_refused_by_name() {
        assert!(matches!(Line::parse("[]"), Err(LineError::NotAnObject(_))));
        assert!(matches!(Line::parse("{"), Err(LineError::NotAnObject(_))));
        assert_eq!(Line::parse(r#"{"t_us":-1}"#), Err(LineError::Field("t_us")));
        let text = r#"{"t_us":1,"node":256,"inc":null,"nt_us":null,"seq":3,"lc":null,"ev":"x"}"#;
        assert_eq!(Line::parse(text), Err(LineError::Field("node")));
        assert_eq!(Line::parse(&text.replace("256", "25").replace("\"x\"", "1")), Err(LineError::Field("ev")));
    }

    #[test]
    fn fields_are_found_by_name() {
        let text = r#"{"t_us":1,"node":2,"inc":3,"nt_us":4,"seq":5,"lc":6,"ev":"lock","phase":"want","ballot":64}"#;
        let line = Line::parse(text).expect("a line");
        assert_eq!(line.get("inc"), Some(json!(3)));
        assert_eq!((line.uint("ballot"), line.text("phase")), (Some(64), Some("want")));
        assert_eq!(line.get("nothing"), None);
    }
}
