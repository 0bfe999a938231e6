//! The list of faults: what stands where in the shipped code, what takes its place, and which rule that breaks.
//!
//! Invariant of a checked list: names are unique, and each `find` stands exactly once in its file.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use serde::Deserialize;

/// The list that belongs to this tree.
const SHIPPED: &str = include_str!("../mutations.toml");

/// One deliberate fault.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutation {
    /// Its name, in words joined by `-`.
    pub name: String,
    /// The file, from the top of the tree, with `/`.
    pub file: String,
    /// The rule of DESIGN or MISSION that it breaks, and how.
    pub breaks: String,
    /// What stands there.
    pub find: String,
    /// What takes its place.
    pub replace: String,
    /// The rule that it breaks, as `cargo cluster model --without RULE` has it: what no seed finds the model checker must find
    /// without that rule. For faults that need a few requests of two nodes in one order of very many.
    #[serde(default)]
    pub rule: Option<String>,
    /// Sizes of the clusters in which it is looked for; those of the campaign if there are none.
    #[serde(default)]
    pub nodes: Vec<u8>,
}

/// All faults.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// In the order in which they are tried: those of one file together, so that little is built anew between them.
    #[serde(rename = "mutation")]
    pub mutations: Vec<Mutation>,
}

/// What is wrong with a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ListError {
    /// It is not TOML of the right form.
    Form(String),
    /// Two entries have this name.
    NameTwice(String),
    /// Nothing would change.
    Nothing(String),
    /// The file of this entry cannot be read.
    Unreadable {
        /// The entry.
        name: String,
        /// The file, and why.
        why: String,
    },
    /// The text of this entry stands in its file so often, not once.
    Places {
        /// The entry.
        name: String,
        /// The file.
        file: String,
        /// How often.
        found: usize,
    },
    /// There is no entry of that name.
    Unknown(String),
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(why) => write!(f, "the list of mutations: {why}"),
            Self::NameTwice(name) => write!(f, "mutation {name}: there are two of that name"),
            Self::Nothing(name) => write!(f, "mutation {name}: it changes nothing"),
            Self::Unreadable { name, why } => write!(f, "mutation {name}: {why}"),
            Self::Places { name, file, found } => {
                write!(f, "mutation {name}: its text stands {found} times in {file}, it must stand there once")
            }
            Self::Unknown(name) => write!(f, "there is no mutation `{name}`; --list shows all"),
        }
    }
}

impl std::error::Error for ListError {}

impl Mutation {
    /// Whether it is one of group services: then every seed has them.
    pub fn is_of_groups(&self) -> bool {
        self.file.starts_with("kernel/groups/")
    }

    /// The file's text with the fault in it.
    ///
    /// # Errors
    /// [`ListError::Places`] if there is not exactly one place for it.
    pub fn apply(&self, text: &str) -> Result<String, ListError> {
        match text.matches(&self.find).count() {
            1 => Ok(text.replacen(&self.find, &self.replace, 1)),
            found => Err(ListError::Places { name: self.name.clone(), file: self.file.clone(), found }),
        }
    }
}

impl List {
    /// Reads a list. Of a text over several lines the first line break is not part of it, as TOML has it.
    ///
    /// # Errors
    /// What is wrong with it in itself.
    pub fn parse(text: &str) -> Result<Self, ListError> {
        let list: Self = toml::from_str(text).map_err(|e| ListError::Form(e.to_string()))?;
        let mut names = BTreeSet::new();
        for m in &list.mutations {
            if !names.insert(&m.name) {
                return Err(ListError::NameTwice(m.name.clone()));
            }
            if m.find == m.replace || m.find.is_empty() {
                return Err(ListError::Nothing(m.name.clone()));
            }
        }
        Ok(list)
    }

    /// The list that belongs to this tree.
    ///
    /// # Errors
    /// As [`List::parse`].
    pub fn shipped() -> Result<Self, ListError> {
        Self::parse(SHIPPED)
    }

    /// Holds every entry against the sources below `root`. Gives everything that is wrong.
    pub fn check(&self, root: &Path) -> Vec<ListError> {
        let check = |m: &Mutation| {
            let path = root.join(&m.file);
            let text = std::fs::read_to_string(&path).map_err(|error| ListError::Unreadable {
                name: m.name.clone(),
                why: format!("cannot read {}: {error}", m.file),
            })?;
            m.apply(&text).map(drop)
        };
        self.mutations.iter().filter_map(|m| check(m).err()).collect()
    }

    /// Those of these names; all, if none is named.
    ///
    /// # Errors
    /// [`ListError::Unknown`].
    pub fn only(&self, names: &[String]) -> Result<Vec<Mutation>, ListError> {
        if let Some(unknown) = names.iter().find(|n| self.mutations.iter().all(|m| m.name != **n)) {
            return Err(ListError::Unknown(unknown.clone()));
        }
        let wanted = |m: &&Mutation| names.is_empty() || names.contains(&m.name);
        Ok(self.mutations.iter().filter(wanted).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, find: &str, replace: &str) -> String {
        format!("[[mutation]]\nname = '{name}'\nfile = 'a.rs'\nbreaks = 'x'\nfind = '{find}'\nreplace = '{replace}'\n")
    }

    #[test]
    fn mistakes_of_the_list_are_named() {
        let two = entry("a", "x", "y") + &entry("a", "z", "y");
        assert_eq!(List::parse(&two), Err(ListError::NameTwice("a".into())));
        assert_eq!(List::parse(&entry("a", "x", "x")), Err(ListError::Nothing("a".into())));
        assert_eq!(List::parse(&entry("a", "", "x")), Err(ListError::Nothing("a".into())));
        assert!(matches!(List::parse("[[mutation]]\nname = 'a'\n"), Err(ListError::Form(_))));
        assert!(matches!(List::parse("[[mutation]]\nwhat = 'a'\n"), Err(ListError::Form(_))));
    }

    #[test]
    fn a_fault_has_exactly_one_place() {
        let list = List::parse(&entry("a", "one", "two")).unwrap();
        let m = &list.mutations[0];
        assert_eq!(m.apply("no, one, yes").unwrap(), "no, two, yes");
        for (text, found) in [("none", 1), ("nothing", 0), ("one one", 2)] {
            let places = ListError::Places { name: "a".into(), file: "a.rs".into(), found };
            match found {
                1 => assert!(m.apply(text).is_ok()),
                _ => assert_eq!(m.apply(text), Err(places)),
            }
        }
    }

    #[test]
    fn entries_are_chosen_by_name() {
        let list = List::parse(&(entry("a", "x", "y") + &entry("b", "x", "y"))).unwrap();
        assert_eq!(list.only(&[]).unwrap().len(), 2);
        assert_eq!(list.only(&["b".into()]).unwrap()[0].name, "b");
        assert_eq!(list.only(&["c".into()]), Err(ListError::Unknown("c".into())));
    }
}
