//! What may be typed at a running cluster: the verbs, their operands, completion. The same on the plain console and in the live
//! view's command line.

use quorate_base::{NodeId, NodeSet};

/// A typed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Ends a node's process.
    Kill(NodeId),
    /// SIGSTOP.
    Pause(NodeId),
    /// SIGCONT.
    Resume(NodeId),
    /// Starts it again; kills it before if it runs.
    Restart(NodeId),
    /// A graceful leave.
    Leave(NodeId),
    /// Cuts the link between two nodes.
    Cut(NodeId, NodeId),
    /// Mends the link between two nodes, or all.
    Heal(Option<(NodeId, NodeId)>),
    /// A node's disk answers no more.
    Stall(NodeId),
    /// It does again.
    Unstall(NodeId),
    /// A node's own status.
    Status(NodeId),
    /// Anything else at a node's console.
    Ask(NodeId, String),
    /// Only what is about one node is shown in the log, or everything.
    Log(Option<NodeId>),
    /// The list of commands.
    Help,
    /// The end.
    Quit,
}

/// What a verb is followed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operands {
    None,
    Node,
    TwoNodes,
    MaybeTwoNodes,
    MaybeNode,
    NodeAndText,
}

impl Operands {
    fn shown(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Node => " N",
            Self::TwoNodes => " A B",
            Self::MaybeTwoNodes => " [A B]",
            Self::MaybeNode => " [N]",
            Self::NodeAndText => " N TEXT",
        }
    }

    /// How many node numbers may follow.
    fn nodes(self) -> usize {
        match self {
            Self::None => 0,
            Self::Node | Self::MaybeNode | Self::NodeAndText => 1,
            Self::TwoNodes | Self::MaybeTwoNodes => 2,
        }
    }
}

/// A verb: its word, its operands, its key in the live view (for the selected node), what it does.
#[derive(Clone, Copy, Debug)]
pub struct Verb {
    word: &'static str,
    operands: Operands,
    /// The key in the live view.
    pub key: &'static str,
    does: &'static str,
}

impl Verb {
    /// The verb with its operands.
    pub fn form(&self) -> String {
        format!("{}{}", self.word, self.operands.shown())
    }

    /// What it does.
    pub fn does(&self) -> &'static str {
        self.does
    }
}

const fn verb(word: &'static str, operands: Operands, key: &'static str, does: &'static str) -> Verb {
    Verb { word, operands, key, does }
}

/// All verbs, in the order of the help.
pub const VERBS: [Verb; 14] = [
    verb("kill", Operands::Node, "k", "end node N's process at once"),
    verb("pause", Operands::Node, "p", "stop it (SIGSTOP)"),
    verb("resume", Operands::Node, "p", "let it go on"),
    verb("restart", Operands::Node, "r", "start it again"),
    verb("leave", Operands::Node, "l", "leave gracefully"),
    verb("cut", Operands::TwoNodes, "c", "cut the link between A and B"),
    verb("heal", Operands::MaybeTwoNodes, "h", "mend the link between A and B, or all links"),
    verb("stall", Operands::Node, "d", "node N's disk answers no more"),
    verb("unstall", Operands::Node, "d", "it answers again"),
    verb("status", Operands::Node, "s", "what node N says itself"),
    verb("ask", Operands::NodeAndText, "a", "anything at node N's console, as `ask 0 why 2`"),
    verb("log", Operands::MaybeNode, "f", "only node N's lines in the log, or all (live view)"),
    verb("help", Operands::None, "?", "this list"),
    verb("quit", Operands::None, "q", "end everything"),
];

/// The list of commands.
pub fn help() -> Vec<String> {
    let nodes = "N, A, B       a node's number, or `master`".to_owned();
    VERBS.iter().map(|v| format!("{:<12} {}", v.form(), v.does)).chain([nodes]).collect()
}

impl Typed {
    /// What it does to the cluster, as the verb of a scenario, and to which nodes; `None`: nothing.
    pub fn step(&self) -> Option<(&'static str, NodeSet)> {
        let one = NodeSet::only;
        Some(match self {
            Self::Kill(n) => ("kill", one(*n)),
            Self::Pause(n) => ("pause", one(*n)),
            Self::Resume(n) => ("resume", one(*n)),
            Self::Leave(n) => ("leave", one(*n)),
            Self::Cut(a, b) => ("cut", one(*a).with(*b)),
            Self::Heal(between) => ("heal", between.map_or(NodeSet::EMPTY, |(a, b)| one(a).with(b))),
            Self::Stall(n) => ("disk_cut", one(*n)),
            Self::Unstall(n) => ("disk_heal", one(*n)),
            Self::Status(n) | Self::Ask(n, _) => ("command", one(*n)),
            // Two steps: the end of the one life, the start of the next.
            Self::Restart(_) | Self::Log(_) | Self::Help | Self::Quit => return None,
        })
    }
}

/// Understands a line. `master`: whom the live nodes take for it, if they agree.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &str, nodes: NodeSet, master: Option<NodeId>) -> Result<Typed, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let node = |word: &str| {
        if word == "master" {
            return master.ok_or_else(|| "there is no master on which all live nodes agree".to_owned());
        }
        let id = word.parse().ok().and_then(NodeId::new).filter(|n| nodes.contains(*n));
        id.ok_or_else(|| format!("`{word}` is no node of this cluster (nodes: {nodes}, or master)"))
    };
    let pair = |a: &str, b: &str| match (node(a)?, node(b)?) {
        (a, b) if a == b => Err(format!("node {a} has no link to itself")),
        pair => Ok(pair),
    };
    Ok(match words.as_slice() {
        ["kill", n] => Typed::Kill(node(n)?),
        ["pause", n] => Typed::Pause(node(n)?),
        ["resume", n] => Typed::Resume(node(n)?),
        ["restart" | "start", n] => Typed::Restart(node(n)?),
        ["leave", n] => Typed::Leave(node(n)?),
        ["cut", a, b] => pair(a, b).map(|(a, b)| Typed::Cut(a, b))?,
        ["heal"] => Typed::Heal(None),
        ["heal", a, b] => Typed::Heal(Some(pair(a, b)?)),
        ["stall", n] => Typed::Stall(node(n)?),
        ["unstall", n] => Typed::Unstall(node(n)?),
        ["status", n] => Typed::Status(node(n)?),
        ["ask", n, text, rest @ ..] => {
            let text = rest.iter().fold((*text).to_owned(), |text, word| format!("{text} {word}"));
            // As it is typed in a shell.
            let bare = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
            Typed::Ask(node(n)?, bare.unwrap_or(&text).to_owned())
        }
        ["log"] => Typed::Log(None),
        ["log", n] => Typed::Log(Some(node(n)?)),
        ["help" | "?"] => Typed::Help,
        ["quit" | "exit" | "q"] => Typed::Quit,
        [word, ..] => {
            return Err(match VERBS.iter().find(|v| v.word == *word) {
                Some(verb) => format!("`{}` is not how it is typed: {}; try `help`", line.trim(), verb.form()),
                None => format!("`{}` is no command; try `help`", line.trim()),
            });
        }
        [] => return Err("nothing was typed; try `help`".to_owned()),
    })
}

/// What could come next in a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// The line, as far as it can only go on in one way.
    pub line: String,
    /// Where there are several: which.
    pub choices: Vec<String>,
}

/// Completes the last word of `line`: a verb, or a node's number.
pub fn complete(line: &str, nodes: NodeSet) -> Completion {
    let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let (before, word) = line.split_at(start);
    let done: Vec<&str> = before.split_whitespace().collect();
    let candidates: Vec<String> = match done.as_slice() {
        [] => VERBS.iter().map(|v| v.word.to_owned()).collect(),
        [verb, typed @ ..] => match VERBS.iter().find(|v| v.word == *verb) {
            Some(verb) if typed.len() < verb.operands.nodes() => {
                let other = |n: &String| !typed.contains(&n.as_str());
                nodes.iter().map(|n| n.to_string()).filter(other).collect()
            }
            _ => Vec::new(),
        },
    };
    let fit: Vec<String> = candidates.into_iter().filter(|c| c.starts_with(word)).collect();
    match fit.as_slice() {
        [] => Completion { line: line.to_owned(), choices: Vec::new() },
        [only] => Completion { line: format!("{before}{only} "), choices: Vec::new() },
        [first, ..] => {
            let shared = |n: &usize| fit.iter().all(|f| f.get(..*n) == first.get(..*n));
            let length = (word.len()..=first.len()).take_while(shared).last().unwrap_or(word.len());
            Completion { line: format!("{before}{}", &first[..length]), choices: fit }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(id: u8) -> NodeId {
        NodeId::new(id).unwrap()
    }

    #[test]
    fn every_command_of_the_list_is_understood() {
        let nodes = NodeSet::first(3);
        for verb in VERBS {
            let form = verb.form();
            let line = form.replace(['[', ']'], "").replace("TEXT", "why 2").replace(['N', 'A'], "1").replace('B', "2");
            assert!(parse(&line, nodes, Some(n(2))).is_ok(), "{line}");
            assert!(help().iter().any(|l| l.starts_with(&form) && l.ends_with(verb.does())), "{form}");
        }
        assert_eq!(parse(" cut 0  2 ", nodes, Some(n(2))), Ok(Typed::Cut(n(0), n(2))));
        assert_eq!(parse("heal", nodes, Some(n(2))), Ok(Typed::Heal(None)));
        for line in ["ask 1 why  2", "ask 1 \"why 2\"", "ask 1 'why 2'"] {
            assert_eq!(parse(line, nodes, None), Ok(Typed::Ask(n(1), "why 2".to_owned())));
        }
        assert_eq!(parse("kill master", nodes, Some(n(2))), Ok(Typed::Kill(n(2))));
        assert!(parse("kill master", nodes, None).unwrap_err().contains("no master"));
    }

    #[test]
    fn what_is_no_command_is_said() {
        let nodes = NodeSet::first(3);
        assert!(
            parse("kill 3", nodes, Some(n(2)))
                .unwrap_err()
                .contains("`3` is no node of this cluster (nodes: 0 1 2, or master)")
        );
        assert!(parse("kill", nodes, Some(n(2))).unwrap_err().contains("kill N; try `help`"));
        assert!(parse("cut 1 1", nodes, Some(n(2))).unwrap_err().contains("no link to itself"));
        assert!(parse("explode 1", nodes, Some(n(2))).unwrap_err().contains("`explode 1` is no command"));
        assert!(parse("  ", nodes, Some(n(2))).unwrap_err().contains("nothing was typed"));
    }

    #[test]
    fn tab_completes_verbs_and_nodes_and_lists_what_is_open() {
        let nodes = NodeSet::first(3);
        let whole = |line: &str| complete(line, nodes).line;
        assert_eq!(whole("ki"), "kill ");
        assert_eq!(
            complete("re", nodes),
            Completion { line: "res".into(), choices: vec!["resume".into(), "restart".into()] }
        );
        assert_eq!(whole("resu"), "resume ");
        assert_eq!(complete("cut 0 ", nodes).choices, ["1", "2"], "a node has no link to itself");
        assert_eq!(whole("kill 1"), "kill 1 ");
        assert_eq!(complete("kill 1 ", nodes), Completion { line: "kill 1 ".into(), choices: Vec::new() });
        assert_eq!(complete("explode ", nodes).choices.len(), 0);
        assert_eq!(complete("", nodes).choices.len(), VERBS.len());
        let many = NodeSet::first(12);
        assert_eq!(
            complete("kill 1", many),
            Completion { line: "kill 1".into(), choices: vec!["1".into(), "10".into(), "11".into()] }
        );
    }
}
