//! The operator's words: one line in, text out. The same interpreter answers at a node's console in the kernel image, in the
//! simulator and in an embedder's kernel.
//!
//! Every answer ends with a line `ok`, or is one line that says what was wrong.

use core::fmt::{self, Write};

use quorate_base::{Instant, LevelOrder};
use quorate_membership::{Deregister, RegisterError};

use crate::group_words::{self, Words};
use crate::groups::Groups;
use crate::node::{Node, Ports};
use crate::probe::{ProbeLevel, Probes};

/// Longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 128;

const HELP: &str = "\
status            who is in, who is master, what is being waited for
waits             what is being waited for, since when, and whose turn it is
why NODE          why a node is out, or what its transition waits for
who-is-master     who is master, under which ballot, since when
history           the last transitions, how long they took, and why
counters          frames sent, taken and dropped, by reason
leave             leave the cluster gracefully, then halt
epitaph           how this machine's last life ended, and its last events
register WORD     register a test level at run time; WORD as in level=WORD
deregister ORDER  let a run-time level leave
drop ORDER        as if the process that serves a run-time level had died
help              this list
";

/// What a line is said to.
pub struct Console<'a, 'p> {
    /// The node.
    pub node: &'a mut Node,
    /// Its test levels: those of the command line, and those that `register` adds.
    pub probes: &'a mut Probes,
    /// Its group services, if it has any.
    pub groups: Option<&'a mut Groups>,
    /// What the node may use.
    pub ports: &'a mut Ports<'p>,
}

impl Console<'_, '_> {
    /// Does what `line` says and writes the answer.
    ///
    /// # Errors
    /// Only if `out` fails.
    pub fn run(&mut self, now: Instant, line: &str, out: &mut dyn Write) -> fmt::Result {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim()));
        if let Some(groups) = self.groups.as_deref_mut() {
            let mut words = Words { now, node: self.node, groups, ports: self.ports };
            if let Some(done) = words.run(word, rest, out) {
                return done;
            }
        }
        match (word, rest) {
            ("status", "") => self.node.write_status(now, out)?,
            ("waits", "") => self.node.write_waits(now, out)?,
            ("why", node) => {
                let Some(node) = self.node.known(node) else {
                    return match self.node.nodes() {
                        Some(nodes) => {
                            writeln!(
                                out,
                                "'{node}' is no node of this cluster; try 'why 0' to 'why {}'",
                                nodes.saturating_sub(1)
                            )
                        }
                        None => self.node.write_not_in(out),
                    };
                };
                self.node.write_why(now, node, out)?;
            }
            ("who-is-master", "") => self.node.write_who_is_master(now, out)?,
            ("history", "") => self.node.write_history(now, out)?,
            ("counters", "") => self.node.write_counters(out)?,
            ("help", "") => {
                out.write_str(HELP)?;
                if self.groups.is_some() {
                    out.write_str(group_words::HELP)?;
                }
            }
            ("epitaph", "") => match self.node.epitaph() {
                Some(epitaph) => epitaph.write(out)?,
                None => writeln!(out, "no epitaph: this machine's last life left none")?,
            },
            ("leave", "") => {
                // Said first: a node that was never in ends within the call.
                out.write_str("leaving\nok\n")?;
                self.node.leave(now, self.ports);
                return Ok(());
            }
            ("register", word) => return self.register(now, word, out),
            ("deregister", order) => return self.deregister(now, order, Deregister::Graceful, out),
            ("drop", order) => return self.deregister(now, order, Deregister::Died, out),
            ("status" | "waits" | "who-is-master" | "history" | "counters" | "help" | "epitaph" | "leave", more) => {
                return writeln!(out, "'{word}' takes nothing, not '{more}'; try 'help'");
            }
            _ => return writeln!(out, "unknown command '{line}'; try 'help'"),
        }
        out.write_str("ok\n")
    }

    fn register(&mut self, now: Instant, word: &str, out: &mut dyn Write) -> fmt::Result {
        let level = match ProbeLevel::parse(word) {
            Ok(level) => level,
            Err(error) => return writeln!(out, "{error}"),
        };
        let order = level.order;
        self.probes.sweep(self.node);
        if self.probes.is_full() {
            return writeln!(out, "level {order}: {}", RegisterError::Full);
        }
        match self.node.register(now, &level.decl(), self.ports) {
            Ok(()) => {
                // There is room: it was asked above.
                let _ = self.probes.add(level);
                out.write_str("ok\n")
            }
            Err(error) => writeln!(out, "level {order}: {error}"),
        }
    }

    fn deregister(&mut self, now: Instant, order: &str, how: Deregister, out: &mut dyn Write) -> fmt::Result {
        let Ok(order) = order.parse().map(LevelOrder) else {
            return writeln!(out, "'{order}' is no level's order");
        };
        match self.node.deregister(now, order, how, self.ports) {
            Ok(()) => {
                self.probes.sweep(self.node);
                out.write_str("ok\n")
            }
            Err(error) => writeln!(out, "level {order}: {error}"),
        }
    }
}
