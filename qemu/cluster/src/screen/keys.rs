//! Keys: each does something to the view, or is a typed command for the selected node.

use quorate_base::{NodeId, NodeSet};
use quorate_launch::MachineState;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::facts::Facts;
use crate::commands::complete;

/// Lines by which a page of the log moves.
const PAGE: usize = 8;

/// What the user has chosen to see, and what is being typed.
#[derive(Clone, Debug)]
pub struct Ui {
    /// The selected node.
    pub selected: NodeId,
    /// Whose lines the log shows.
    pub filter: Option<NodeId>,
    /// The command line, while it is open.
    pub line: Option<String>,
    /// What Tab found.
    pub choices: Vec<String>,
    /// The help stands over everything.
    pub help: bool,
    /// So many lines of the log are below what is shown.
    pub scroll: usize,
    /// So many levels are left of what is shown.
    pub levels_left: usize,
    /// Lines typed before, and which of them is shown again.
    pub(super) history: Vec<String>,
    pub(super) back: usize,
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing beyond another look.
    Look,
    /// All is to be drawn anew.
    Redraw,
    /// A command.
    Line(String),
}

/// What is selected at first.
const FIRST: NodeId = match NodeId::new(0) {
    Some(node) => node,
    None => panic!("every cluster has a node 0"),
};

impl Default for Ui {
    fn default() -> Self {
        Self {
            selected: FIRST,
            filter: None,
            line: None,
            choices: Vec::new(),
            help: false,
            scroll: 0,
            levels_left: 0,
            history: Vec::new(),
            back: 0,
        }
    }
}

impl Ui {
    /// A key was pressed.
    pub fn key(&mut self, key: KeyEvent, facts: &Facts) -> Asked {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return self.control(key.code);
        }
        if self.help {
            self.help = false;
            return Asked::Look;
        }
        if self.line.is_some() { self.type_key(key.code, facts.nodes) } else { self.plain_key(key.code, facts) }
    }

    fn control(&mut self, code: KeyCode) -> Asked {
        match code {
            KeyCode::Char('c' | 'd') => return Asked::Line("quit".to_owned()),
            KeyCode::Char('l') => return Asked::Redraw,
            KeyCode::Char('u') => self.line = self.line.take().map(|_| String::new()),
            // A line that was ended before the terminal was taken over has a line feed, which is Ctrl-J now.
            KeyCode::Char('j') => return self.enter(),
            _ => {}
        }
        Asked::Look
    }

    fn type_key(&mut self, code: KeyCode, nodes: NodeSet) -> Asked {
        let Some(line) = &mut self.line else { return Asked::Look };
        self.choices.clear();
        match code {
            KeyCode::Enter => return self.enter(),
            KeyCode::Esc => self.line = None,
            // There is nothing left to take away.
            KeyCode::Backspace if line.is_empty() => self.line = None,
            KeyCode::Backspace => drop(line.pop()),
            KeyCode::Tab => {
                let completion = complete(line, nodes);
                *line = completion.line;
                self.choices = completion.choices;
            }
            KeyCode::Up if self.back < self.history.len() => {
                self.back += 1;
                line.clone_from(&self.history[self.history.len() - self.back]);
            }
            KeyCode::Down => {
                self.back = self.back.saturating_sub(1);
                let again = self.history.len().checked_sub(self.back).and_then(|at| self.history.get(at));
                *line = again.cloned().unwrap_or_default();
            }
            KeyCode::Char(c) => line.push(c),
            _ => {}
        }
        Asked::Look
    }

    fn enter(&mut self) -> Asked {
        self.choices.clear();
        self.back = 0;
        match self.line.take() {
            Some(line) if !line.trim().is_empty() => {
                self.history.push(line.clone());
                Asked::Line(line)
            }
            _ => Asked::Look,
        }
    }

    fn plain_key(&mut self, code: KeyCode, facts: &Facts) -> Asked {
        let n = self.selected;
        let open = |line: String| Some(line);
        match code {
            KeyCode::Char(':' | '/') => self.line = Some(String::new()),
            KeyCode::Char('c') => self.line = open(format!("cut {n} ")),
            KeyCode::Char('a') => self.line = open(format!("ask {n} ")),
            KeyCode::Char('?') => self.help = true,
            KeyCode::Char(digit @ '0'..='9') => self.select(u8::try_from(digit).unwrap_or(0) - b'0', facts.nodes),
            KeyCode::Up => self.select(n.get().saturating_sub(1), facts.nodes),
            KeyCode::Down => self.select(n.get().saturating_add(1), facts.nodes),
            KeyCode::Left => self.levels_left = self.levels_left.saturating_sub(1),
            KeyCode::Right => self.levels_left = (self.levels_left + 1).min(facts.levels().len().saturating_sub(1)),
            KeyCode::PageUp => self.scroll = (self.scroll + PAGE).min(facts.log.len()),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_sub(PAGE),
            KeyCode::Home => self.scroll = facts.log.len(),
            KeyCode::End => self.scroll = 0,
            KeyCode::Esc => (self.filter, self.scroll) = (None, 0),
            KeyCode::Char(key) => return self.verb(key, facts).map_or(Asked::Look, Asked::Line),
            _ => {}
        }
        Asked::Look
    }

    fn verb(&self, key: char, facts: &Facts) -> Option<String> {
        let n = self.selected;
        let machine = facts.machine(n);
        let paused = machine.is_some_and(|m| m.state == Some(MachineState::Paused));
        let stalled = machine.is_some_and(|m| m.stalled);
        Some(match key {
            'k' => format!("kill {n}"),
            'p' if paused => format!("resume {n}"),
            'p' => format!("pause {n}"),
            'r' => format!("restart {n}"),
            'l' => format!("leave {n}"),
            'h' => "heal".to_owned(),
            'd' if stalled => format!("unstall {n}"),
            'd' => format!("stall {n}"),
            's' => format!("status {n}"),
            'f' if self.filter == Some(n) => "log".to_owned(),
            'f' => format!("log {n}"),
            'q' => "quit".to_owned(),
            _ => return None,
        })
    }

    fn select(&mut self, node: u8, nodes: NodeSet) {
        if let Some(node) = NodeId::new(node).filter(|n| nodes.contains(*n)) {
            // A log that followed the selection goes on doing so.
            if self.filter == Some(self.selected) {
                self.filter = Some(node);
                self.scroll = 0;
            }
            self.selected = node;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{VERBS, parse};

    fn press(ui: &mut Ui, facts: &Facts, codes: &[KeyCode]) -> Vec<String> {
        let pressed = codes.iter().map(|code| ui.key(KeyEvent::new(*code, KeyModifiers::NONE), facts));
        pressed.filter_map(|asked| if let Asked::Line(line) = asked { Some(line) } else { None }).collect()
    }

    fn keys(text: &str) -> Vec<KeyCode> {
        text.chars().map(KeyCode::Char).collect()
    }

    fn facts() -> Facts {
        Facts::new(NodeSet::first(3), String::new())
    }

    #[test]
    fn a_key_is_a_command_for_the_selected_node() {
        let (mut ui, mut facts) = (Ui::default(), facts());
        let typed = press(&mut ui, &facts, &keys("2kprldshf"));
        assert_eq!(typed, ["kill 2", "pause 2", "restart 2", "leave 2", "stall 2", "status 2", "heal", "log 2"]);
        let machine = facts.machine_mut(NodeId::new(2).unwrap());
        machine.state = Some(MachineState::Paused);
        machine.stalled = true;
        ui.filter = Some(ui.selected);
        assert_eq!(press(&mut ui, &facts, &keys("pdf")), ["resume 2", "unstall 2", "log"]);
        assert_eq!(press(&mut ui, &facts, &keys("9k")), ["kill 2"], "there is no node 9");
        assert_eq!(press(&mut ui, &facts, &[KeyCode::Up, KeyCode::Char('k')]), ["kill 1"]);
        assert_eq!(ui.filter, NodeId::new(1), "the log follows the selection");
        assert_eq!(press(&mut ui, &facts, &keys("q")), ["quit"]);
    }

    #[test]
    fn every_verb_has_a_key_that_leads_to_it() {
        for verb in VERBS {
            let (mut ui, facts) = (Ui::default(), facts());
            let typed = press(&mut ui, &facts, &keys(verb.key));
            assert!(!typed.is_empty() || ui.line.is_some() || ui.help, "{}", verb.form());
            assert!(typed.iter().all(|line| parse(line, facts.nodes, None).is_ok()), "{typed:?}");
        }
    }

    #[test]
    fn the_command_line_completes_and_remembers() {
        let (mut ui, facts) = (Ui::default(), facts());
        let mut codes = keys(":ki");
        codes.extend([KeyCode::Tab, KeyCode::Char('1'), KeyCode::Enter]);
        assert_eq!(press(&mut ui, &facts, &codes), ["kill 1"]);
        assert_eq!(ui.line, None);
        let codes = [KeyCode::Char('c'), KeyCode::Tab];
        assert!(press(&mut ui, &facts, &codes).is_empty());
        assert_eq!((ui.line.as_deref(), ui.choices.join(" ")), (Some("cut 0 "), "1 2".to_owned()));
        assert_eq!(press(&mut ui, &facts, &[KeyCode::Char('2'), KeyCode::Enter]), ["cut 0 2"]);
        let again = [KeyCode::Char('/'), KeyCode::Up, KeyCode::Up, KeyCode::Down, KeyCode::Up, KeyCode::Enter];
        assert_eq!(press(&mut ui, &facts, &again), ["kill 1"]);
        let control = ui.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), &facts);
        assert_eq!(control, Asked::Line("quit".to_owned()));
    }
}
