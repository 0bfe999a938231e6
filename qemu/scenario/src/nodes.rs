//! Node expressions: the words by which a scenario names nodes.

use std::collections::BTreeMap;
use std::fmt;

use quorate_base::{NodeId, NodeSet};

/// Names one or more nodes. Resolved when its step begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeExpr {
    /// `0` or `[0, 2]`.
    Ids(NodeSet),
    /// `"all"`: the configured nodes.
    All,
    /// `"all but 1"`: the configured nodes without these.
    AllBut(NodeSet),
    /// `"started"`: those whose machine runs.
    Started,
    /// `"master"`: the live node that holds the newest ballot.
    Master,
    /// `"others"`: live, without the master.
    Others,
    /// `"$name"`: what an earlier step saved.
    Saved(String),
}

impl NodeExpr {
    /// The node of that number alone.
    pub fn one(node: NodeId) -> Self {
        Self::Ids(NodeSet::only(node))
    }

    /// From a word, which is not `$name`.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "all" => Self::All,
            "started" => Self::Started,
            "master" => Self::Master,
            "others" => Self::Others,
            _ => return None,
        })
    }
}

impl fmt::Display for NodeExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ids(set) if set.len() == 1 => write!(f, "node {set}"),
            Self::Ids(set) => write!(f, "nodes {set}"),
            Self::All => f.write_str("all"),
            Self::AllBut(set) => write!(f, "all but {set}"),
            Self::Started => f.write_str("started"),
            Self::Master => f.write_str("master"),
            Self::Others => f.write_str("others"),
            Self::Saved(name) => write!(f, "${name}"),
        }
    }
}

/// What an expression is resolved against.
#[derive(Clone, Debug, Default)]
pub struct Cast {
    /// The configured nodes.
    pub configured: NodeSet,
    /// Those whose machine runs.
    pub started: NodeSet,
    /// Those that run, are not stopped from outside and have not halted.
    pub live: NodeSet,
    /// The live node that holds the newest ballot.
    pub master: Option<NodeId>,
    /// What steps saved.
    pub saved: BTreeMap<String, NodeSet>,
}

impl Cast {
    /// The nodes that are meant now.
    ///
    /// # Errors
    /// If there is no such node now, in words.
    pub fn resolve(&self, expr: &NodeExpr) -> Result<NodeSet, String> {
        let no_master = || format!("there is no master now (live nodes: {})", self.live);
        let set = match expr {
            NodeExpr::Ids(set) => *set,
            NodeExpr::All => self.configured,
            NodeExpr::AllBut(set) => self.configured.minus(*set),
            NodeExpr::Started => self.started,
            NodeExpr::Master => NodeSet::only(self.master.ok_or_else(no_master)?),
            NodeExpr::Others => self.live.without(self.master.ok_or_else(no_master)?),
            NodeExpr::Saved(name) => {
                self.saved.get(name).copied().ok_or_else(|| format!("the step that saves ${name} has not run"))?
            }
        };
        if set.is_empty() { Err(format!("\"{expr}\" is no node now")) } else { Ok(set) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(id: u8) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn cast() -> Cast {
        Cast {
            configured: NodeSet::first(4),
            started: NodeSet::first(3),
            live: NodeSet::first(2),
            master: Some(n(1)),
            saved: [("victim".to_owned(), NodeSet::only(n(3)))].into(),
        }
    }

    #[test]
    fn every_word_has_its_nodes() {
        let c = cast();
        assert_eq!(c.resolve(&NodeExpr::All), Ok(NodeSet::first(4)));
        assert_eq!(c.resolve(&NodeExpr::AllBut(NodeSet::first(2))), Ok(NodeSet::first(4).minus(NodeSet::first(2))));
        assert_eq!(c.resolve(&NodeExpr::Started), Ok(NodeSet::first(3)));
        assert_eq!(c.resolve(&NodeExpr::Master), Ok(NodeSet::only(n(1))));
        assert_eq!(c.resolve(&NodeExpr::Others), Ok(NodeSet::only(n(0))));
        assert_eq!(c.resolve(&NodeExpr::Saved("victim".into())), Ok(NodeSet::only(n(3))));
        assert_eq!(c.resolve(&NodeExpr::one(n(2))), Ok(NodeSet::only(n(2))));
    }

    #[test]
    fn what_is_not_there_is_said_in_words() {
        let c = Cast { master: None, ..cast() };
        assert!(c.resolve(&NodeExpr::Master).unwrap_err().contains("no master now"));
        assert!(c.resolve(&NodeExpr::Others).unwrap_err().contains("no master now"));
        assert!(c.resolve(&NodeExpr::Saved("x".into())).unwrap_err().contains("$x"));
        let lonely = Cast { live: NodeSet::only(n(1)), ..cast() };
        assert!(lonely.resolve(&NodeExpr::Others).unwrap_err().contains("others"));
    }
}
