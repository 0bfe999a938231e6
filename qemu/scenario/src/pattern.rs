//! Patterns for trace events: which node, which event, which fields.

use std::fmt;

use quorate_base::NodeId;
use quorate_trace::Line;
use regex::Regex;
use serde_json::Value;

use crate::nodes::{Cast, NodeExpr};

/// What an event must look like.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// Whose; `None`: anybody's, the harness's too.
    pub node: Option<NodeExpr>,
    /// One of these names.
    pub ev: Vec<String>,
    /// And these fields.
    pub fields: Vec<(String, Want)>,
    /// Counted since the run began, else since the last `do` step began.
    pub since_start: bool,
}

/// What a field must be.
#[derive(Clone, Debug)]
pub enum Want {
    /// This number.
    Int(i64),
    /// This text.
    Text(String),
    /// A text that matches.
    Matches(Regex),
    /// This truth value.
    Flag(bool),
    /// One of these nodes.
    Nodes(NodeExpr),
    /// Null: `"none"` in a scenario.
    Null,
    /// One of these.
    Any(Vec<Want>),
    /// A table that has at least these entries. A key `$name` stands for the one node saved so.
    Table(Vec<(String, Want)>),
}

impl Want {
    /// Whether a traced value is as wanted.
    ///
    /// # Errors
    /// If a node expression in it is no node now.
    pub fn accepts(&self, value: &Value, cast: &Cast) -> Result<bool, String> {
        if let Value::Array(items) = value {
            for item in items {
                if self.accepts(item, cast)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        Ok(match self {
            Self::Int(n) => value.as_i64() == Some(*n),
            Self::Text(t) => value.as_str() == Some(t),
            Self::Matches(r) => value.as_str().is_some_and(|s| r.is_match(s)),
            Self::Flag(b) => value.as_bool() == Some(*b),
            Self::Null => value.is_null(),
            Self::Nodes(expr) => {
                let set = cast.resolve(expr)?;
                value.as_u64().is_some_and(|n| set.iter().any(|id| u64::from(id.get()) == n))
            }
            Self::Any(wants) => {
                for want in wants {
                    if want.accepts(value, cast)? {
                        return Ok(true);
                    }
                }
                false
            }
            Self::Table(entries) => {
                for (key, want) in entries {
                    let key = substitute(key, cast)?;
                    let Some(entry) = value.get(&key) else { return Ok(false) };
                    if !want.accepts(entry, cast)? {
                        return Ok(false);
                    }
                }
                value.is_object()
            }
        })
    }
}

/// Puts the id of the one saved node in the place of `$name` at the end of a word.
///
/// # Errors
/// If nothing, or more than one node, was saved under that name.
pub fn substitute(word: &str, cast: &Cast) -> Result<String, String> {
    let Some((before, name)) = word.split_once('$') else { return Ok(word.to_owned()) };
    let set = cast.resolve(&NodeExpr::Saved(name.to_owned()))?;
    match (set.lowest(), set.len()) {
        (Some(node), 1) => Ok(format!("{before}{node}")),
        _ => Err(format!("${name} is more than one node ({set}); here it must be one")),
    }
}

impl Pattern {
    /// Whether a line is as wanted.
    ///
    /// # Errors
    /// If a node expression in it is no node now.
    pub fn accepts(&self, line: &Line, cast: &Cast) -> Result<bool, String> {
        if !self.ev.contains(&line.ev) {
            return Ok(false);
        }
        if let Some(expr) = &self.node {
            let set = cast.resolve(expr)?;
            if !line.node.and_then(NodeId::new).is_some_and(|n| set.contains(n)) {
                return Ok(false);
            }
        }
        for (field, want) in &self.fields {
            let value = line.get(field).unwrap_or(Value::Null);
            if !want.accepts(&value, cast)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(n) => write!(f, "{n}"),
            Self::Text(t) => f.write_str(t),
            Self::Matches(r) => write!(f, "/{r}/"),
            Self::Flag(b) => write!(f, "{b}"),
            Self::Null => f.write_str("none"),
            Self::Nodes(expr) => write!(f, "{expr}"),
            Self::Any(wants) => {
                for (i, want) in wants.iter().enumerate() {
                    write!(f, "{}{want}", if i == 0 { "" } else { " or " })?;
                }
                Ok(())
            }
            Self::Table(entries) => {
                f.write_str("{")?;
                for (key, want) in entries {
                    write!(f, " {key}={want}")?;
                }
                f.write_str(" }")
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.ev.join("` or `"))?;
        for (field, want) in &self.fields {
            write!(f, " {field}={want}")?;
        }
        if let Some(node) = &self.node {
            write!(f, " of {node}")?;
        }
        f.write_str(if self.since_start { " since the start" } else { " since the last `do`" })
    }
}

/// How a field of an event is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A whole number.
    Int,
    /// One of a few words, or a name.
    Word,
    /// A sentence: compared by regular expression.
    Sentence,
    /// True or false.
    Flag,
    /// A node, or a list of them.
    Node,
    /// A level's order; `"none"` is null.
    Level,
    /// A node's number to a word.
    WordByNode,
    /// A node's number to a whole number.
    IntByNode,
    /// Anything.
    Free,
}

/// The events of the trace and their fields (harness contract, *Trace*). A pattern that names another event or field
/// is an error: it could never match, and a `no_event` could never fail.
pub const EVENTS: &[(&str, &[(&str, FieldKind)])] = {
    use FieldKind::{Flag, Free, Int, IntByNode, Level, Node, Sentence, Word, WordByNode};
    const LEVEL: &[(&str, FieldKind)] = &[("level", Level), ("name", Word), ("barriers", Free)];
    const STEP: &[(&str, FieldKind)] = &[
        ("level", Level),
        ("name", Word),
        ("round", Word),
        ("subject", Node),
        ("subject_inc", Int),
        ("transition", Word),
        ("barrier", Int),
    ];
    const STALL: &[(&str, FieldKind)] = &[
        ("level", Level),
        ("name", Word),
        ("round", Word),
        ("subject", Node),
        ("subject_inc", Int),
        ("transition", Word),
        ("barrier", Int),
        ("awaiting", Node),
        ("waited_ms", Int),
    ];
    const GROUP_MESSAGE: &[(&str, FieldKind)] = &[
        ("group", Word),
        ("order", Int),
        ("index", Int),
        ("from", Node),
        ("job", Word),
        ("to", Node),
        ("bytes", Int),
        ("text", Word),
    ];
    const ACK_ROUND: &[(&str, FieldKind)] = &[
        ("group", Word),
        ("order", Int),
        ("index", Int),
        ("protocol", Int),
        ("phase", Word),
        ("round", Int),
        ("members", Int),
    ];
    const DOMAIN: &[(&str, FieldKind)] = &[
        ("group", Word),
        ("order", Int),
        ("index", Int),
        ("phase", Word),
        ("op", Word),
        ("by", Node),
        ("why", Sentence),
        ("version", Int),
        ("nodes", Node),
    ];
    const MERGE: &[(&str, FieldKind)] = &[
        ("group", Word),
        ("order", Int),
        ("index", Int),
        ("merge", Int),
        ("phase", Word),
        ("from", Node),
        ("number", Int),
        ("gone", Int),
    ];
    const PEER: &[(&str, FieldKind)] = &[("peer", Node), ("via", Word)];
    const FENCE: &[(&str, FieldKind)] = &[("peer", Node), ("peer_inc", Int), ("method", Word), ("ok", Flag)];
    &[
        ("step", &[("index", Int), ("do", Word), ("nodes", Node), ("what", Sentence)]),
        ("assert", &[("index", Int), ("what", Sentence), ("ok", Flag)]),
        ("end", &[("ok", Flag)]),
        ("boot", &[("version", Word), ("cmdline", Sentence)]),
        ("register", LEVEL),
        ("deregister", LEVEL),
        ("lock", &[("phase", Word), ("ballot", Int)]),
        ("view", &[("ballot", Int), ("view", Int), ("states", WordByNode), ("incs", IntByNode)]),
        ("round", &[("level", Level), ("round", Word), ("transitions", Free), ("participants", Node)]),
        ("notify", STEP),
        ("ack", STEP),
        ("stale_ack", STEP),
        ("state", &[("subject", Node), ("subject_inc", Int), ("level", Level), ("is", Word)]),
        ("suspect", PEER),
        ("trust", PEER),
        ("freeze", &[("why", Sentence)]),
        ("thaw", &[("why", Sentence)]),
        ("lease", &[("issued_nt_us", Int), ("until_nt_us", Int)]),
        ("fence_begin", FENCE),
        ("fence", FENCE),
        ("register_key", &[("key", Word)]),
        ("reservation", &[("phase", Word), ("kind", Word)]),
        ("preempt", &[("peer", Node), ("peer_inc", Int), ("key", Word), ("abort", Flag)]),
        ("refuse", &[("peer", Node), ("peer_inc", Int), ("reason", Sentence)]),
        ("shared_write", &[("region", Word), ("lba", Int), ("blocks", Int), ("issued_nt_us", Int)]),
        ("panic", &[("reason", Sentence)]),
        ("halt", &[("reason", Sentence)]),
        ("note", &[("what", Sentence)]),
        ("waiting", STALL),
        ("overdue", STALL),
        ("group_epoch", &[("order", Int), ("epoch", Word), ("nodes", Node)]),
        ("group_message", GROUP_MESSAGE),
        (
            "group_change",
            &[("group", Word), ("order", Int), ("index", Int), ("member", Node), ("job", Word), ("change", Word)],
        ),
        ("ack_round", ACK_ROUND),
        ("domain", DOMAIN),
        ("merge", MERGE),
        ("epitaph", &[("last_inc", Int), ("how", Word), ("reason", Sentence), ("last_nt_us", Int), ("events", Free)]),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_base::NodeSet;
    use serde_json::json;

    fn line() -> Line {
        let json = json!({"t_us": 1, "node": 1, "inc": 2, "nt_us": 1, "seq": 0, "lc": 1, "ev": "view", "ballot": 65,
            "view": 4, "states": {"0": "joined", "1": "leaving"}, "participants": [0, 2], "level": null});
        Line::parse(&json.to_string()).unwrap()
    }

    fn cast() -> Cast {
        let saved = [("one".to_owned(), NodeSet::only(NodeId::new(1).unwrap())), ("two".into(), NodeSet::first(2))];
        Cast { configured: NodeSet::first(3), saved: saved.into(), ..Cast::default() }
    }

    fn accepts(fields: Vec<(&str, Want)>) -> bool {
        let fields = fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let p = Pattern { node: None, ev: vec!["boot".into(), "view".into()], fields, since_start: true };
        p.accepts(&line(), &cast()).unwrap()
    }

    #[test]
    fn each_kind_of_field_is_compared() {
        let word = |w: &str| Want::Text(w.into());
        assert!(accepts(vec![("ballot", Want::Int(65)), ("inc", Want::Int(2))]));
        assert!(!accepts(vec![("ballot", Want::Int(66))]));
        assert!(accepts(vec![("level", Want::Null)]));
        assert!(!accepts(vec![("ballot", Want::Null)]));
        assert!(accepts(vec![("states", Want::Table(vec![("$one".into(), word("leaving"))]))]));
        assert!(!accepts(vec![("states", Want::Table(vec![("0".into(), word("leaving"))]))]));
        assert!(!accepts(vec![("states", Want::Table(vec![("7".into(), word("joined"))]))]));
        assert!(accepts(vec![("participants", Want::Nodes(NodeExpr::All))]));
        assert!(!accepts(vec![("participants", Want::Nodes(NodeExpr::Saved("one".into())))]));
        assert!(accepts(vec![("view", Want::Any(vec![Want::Int(3), Want::Int(4)]))]));
    }

    #[test]
    fn node_and_name_must_match() {
        let mut p = Pattern { node: None, ev: vec!["boot".into()], fields: vec![], since_start: true };
        assert!(!p.accepts(&line(), &cast()).unwrap());
        p.ev = vec!["view".into()];
        assert!(p.accepts(&line(), &cast()).unwrap());
        p.node = Some(NodeExpr::one(NodeId::new(0).unwrap()));
        assert!(!p.accepts(&line(), &cast()).unwrap());
        p.node = Some(NodeExpr::Master);
        assert!(p.accepts(&line(), &cast()).is_err());
    }

    #[test]
    fn a_saved_node_stands_in_a_word_only_if_it_is_one() {
        assert_eq!(substitute("heartbeat.$one", &cast()), Ok("heartbeat.1".into()));
        assert_eq!(substitute("config", &cast()), Ok("config".into()));
        assert!(substitute("heartbeat.$two", &cast()).unwrap_err().contains("more than one"));
    }
}
