//! What is typed at a running cluster, and the terminal on which it is shown.
//!
//! On a terminal the lines scroll, and under them stands a panel (the table and the prompt) that is drawn again in place.
//! Without one, lines are printed and commands are read from the standard input.

use std::io::{self, BufRead, Write};
use std::sync::mpsc::{Receiver, channel};

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::{cursor, event, queue, terminal};
use quorate_base::{NodeId, NodeSet};
use quorate_trace::TraceStore;

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
    /// Mends all links.
    Heal,
    /// A node's own status.
    Status(NodeId),
    /// The list of commands.
    Help,
    /// The end.
    Quit,
}

/// The list of commands.
pub const HELP: [&str; 10] = [
    "kill N       end node N's process at once",
    "pause N      stop it (SIGSTOP)",
    "resume N     let it go on",
    "restart N    start it again",
    "leave N      leave gracefully",
    "cut A B      cut the link between A and B",
    "heal         mend all links",
    "status N     what node N says itself",
    "help         this list",
    "quit         end everything",
];

/// Understands a line.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &str, nodes: NodeSet) -> Result<Typed, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let node = |word: &str| {
        let id = word.parse().ok().and_then(NodeId::new).filter(|n| nodes.contains(*n));
        id.ok_or_else(|| format!("`{word}` is no node of this cluster (nodes: {nodes})"))
    };
    Ok(match words.as_slice() {
        ["kill", n] => Typed::Kill(node(n)?),
        ["pause", n] => Typed::Pause(node(n)?),
        ["resume", n] => Typed::Resume(node(n)?),
        ["restart" | "start", n] => Typed::Restart(node(n)?),
        ["leave", n] => Typed::Leave(node(n)?),
        ["cut", a, b] => Typed::Cut(node(a)?, node(b)?),
        ["heal"] => Typed::Heal,
        ["status", n] => Typed::Status(node(n)?),
        ["help" | "?"] => Typed::Help,
        ["quit" | "exit" | "q"] => Typed::Quit,
        _ => return Err(format!("`{}` is no command; try `help`", line.trim())),
    })
}

/// What came from the keyboard.
#[derive(Debug)]
enum Key {
    Line(String),
    Edit(String),
    End,
}

/// Shows lines and a panel, and takes what is typed.
#[derive(Debug)]
pub struct Console {
    keys: Receiver<Key>,
    terminal: Option<Raw>,
    typed: String,
    /// What stands there now: the panel with the prompt.
    drawn: Vec<String>,
}

/// The terminal in raw mode, until dropped.
#[derive(Debug)]
struct Raw;

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = terminal::disable_raw_mode();
    }
}

impl Console {
    /// Takes the terminal over, unless lines are wanted. Each line that is typed wakes those who wait at `store`.
    pub fn open(plain: bool, store: &TraceStore) -> Self {
        let (send, keys) = channel();
        let store = store.clone();
        let terminal = (!plain && terminal::enable_raw_mode().is_ok()).then_some(Raw);
        let raw = terminal.is_some();
        // The thread ends with the process: a read from a terminal cannot be called off.
        let reader = move || {
            let deliver = |key| {
                let delivered = send.send(key).is_ok();
                store.wake();
                delivered
            };
            if raw { read_keys(deliver) } else { read_lines(deliver) }
        };
        let _ = std::thread::Builder::new().name("keys".into()).spawn(reader);
        Self { keys, terminal, typed: String::new(), drawn: Vec::new() }
    }

    /// Lines typed since the last call. `quit` stands for Ctrl-C.
    pub fn typed(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for key in self.keys.try_iter() {
            match key {
                Key::Line(line) => {
                    self.typed.clear();
                    lines.push(line);
                }
                Key::Edit(line) => self.typed = line,
                Key::End => lines.push("quit".to_owned()),
            }
        }
        lines.retain(|l| !l.trim().is_empty());
        lines
    }

    /// Prints lines and draws the panel under them.
    pub fn show(&mut self, lines: &[String], panel: &[String]) {
        // Nothing can be done if the terminal is gone; the next read of it ends the command.
        let _ = if self.terminal.is_some() { self.draw(lines, panel) } else { print_all(lines) };
    }

    fn draw(&mut self, lines: &[String], panel: &[String]) -> io::Result<()> {
        let width = terminal::size().map_or(80, |(w, _)| usize::from(w)).max(1);
        let prompt = format!("> {}", self.typed);
        // A line that wraps would make the panel higher than it is counted.
        let cut = |line: &String| line.chars().take(width - 1).collect::<String>();
        let wanted: Vec<String> = panel.iter().chain([&prompt]).map(cut).collect();
        if lines.is_empty() && wanted == self.drawn {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        // The cursor stands at the prompt, under the empty line and the panel.
        if let height @ 1.. = self.drawn.len() {
            queue!(out, cursor::MoveUp(u16::try_from(height).unwrap_or(u16::MAX)))?;
        }
        queue!(out, cursor::MoveToColumn(0), terminal::Clear(terminal::ClearType::FromCursorDown))?;
        for line in lines {
            write!(out, "{line}\r\n")?;
        }
        write!(out, "\r\n{}", wanted.join("\r\n"))?;
        self.drawn = wanted;
        out.flush()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if self.terminal.is_some() {
            print!("\r\n");
        }
    }
}

fn print_all(lines: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    out.flush()
}

fn read_lines(deliver: impl Fn(Key) -> bool) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        if !deliver(Key::Line(line)) {
            return;
        }
    }
}

fn read_keys(deliver: impl Fn(Key) -> bool) {
    let mut line = String::new();
    while let Ok(event) = event::read() {
        let Event::Key(key) = event else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let typed = match key.code {
            KeyCode::Char('c' | 'd') if control => Key::End,
            KeyCode::Char('u') if control => {
                line.clear();
                Key::Edit(line.clone())
            }
            KeyCode::Backspace => {
                line.pop();
                Key::Edit(line.clone())
            }
            KeyCode::Enter => Key::Line(std::mem::take(&mut line)),
            // A line that was ended before the terminal was taken over has a line feed, which is Ctrl-J now.
            KeyCode::Char('j') if control => Key::Line(std::mem::take(&mut line)),
            KeyCode::Char(_) if control => continue,
            KeyCode::Char(c) => {
                line.push(c);
                Key::Edit(line.clone())
            }
            _ => continue,
        };
        if !deliver(typed) {
            return;
        }
    }
    deliver(Key::End);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_list_is_understood() {
        let nodes = NodeSet::first(3);
        for help in HELP {
            let command: String = help.chars().take(12).collect();
            let line = command.replace(['N', 'A'], "1").replace('B', "2");
            assert!(parse(&line, nodes).is_ok(), "{line}");
        }
        let n = |id| NodeId::new(id).unwrap();
        assert_eq!(parse(" cut 0  2 ", nodes), Ok(Typed::Cut(n(0), n(2))));
    }

    #[test]
    fn what_is_no_command_is_said() {
        let nodes = NodeSet::first(3);
        assert!(parse("kill 3", nodes).unwrap_err().contains("`3` is no node of this cluster (nodes: 0 1 2)"));
        assert!(parse("kill", nodes).unwrap_err().contains("try `help`"));
        assert!(parse("explode 1", nodes).unwrap_err().contains("`explode 1` is no command"));
    }
}
