//! What each stream keeps by itself, checked in the order of receipt: form, numbering, clocks, lives.
//!
//! A node's lines come over one port, so the order of receipt is the order in which that node wrote them. Lines of
//! different nodes are compared nowhere here. A node that the harness killed, reset or stopped may have lost its last
//! lines; a hole in the middle is never tolerated.

use crate::line::{Life, Line, What};
use crate::map::{Map, Set};
use crate::rule::{Findings, Rule};

/// After these a life may end without a word, and the guest may come back as another one: by the harness, or by a watchdog.
const ENDS_LIVES: &[&str] = &["kill", "reset", "pause", "freeze", "disk_tear", "hang", "panic", "fault"];

/// How much of a life is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LifeEnd {
    /// The last Lamport clock that was seen of it.
    pub(crate) lc: u64,
    /// Whether it ended by `panic` or `halt`: then nothing of it is missing.
    pub(crate) ended: bool,
}

/// All lives that wrote a line.
pub(crate) type Lives = Map<Life, LifeEnd>;

#[derive(Debug)]
struct Stream {
    inc: Option<u32>,
    next_seq: u64,
    lc: u64,
    nt_us: u64,
    ended: bool,
    /// The harness killed, reset or stopped it.
    hit: bool,
}

/// The rules of form.
#[derive(Debug, Default)]
pub(crate) struct Form {
    t_us: u64,
    harness_seq: u64,
    end_seen: bool,
    streams: Map<u8, Stream>,
    incs: Map<u8, u32>,
    hit_before_boot: Set<u8>,
    pub(crate) lives: Lives,
}

impl Form {
    /// Looks at one line. `faults_in_trace`: every kill stands in the trace as a harness line.
    pub(crate) fn check(&mut self, line: &Line, faults_in_trace: bool, out: &mut Findings) {
        if self.end_seen {
            out.add(Rule::EndLast, "a line after `end`");
        }
        if line.t_us < self.t_us {
            out.add(Rule::Form, format!("the harness clock went back from {} to {} µs", self.t_us, line.t_us));
        }
        self.t_us = line.t_us;
        match line.node {
            None => self.harness_line(line, out),
            Some(node) => {
                self.node_line(node, line, faults_in_trace, out);
                if let Some(life) = line.life() {
                    let ended = matches!(line.what, What::Panic { .. } | What::Halt { .. });
                    let end = self.lives.entry(life).or_insert(LifeEnd { lc: 0, ended: false });
                    *end = LifeEnd { lc: end.lc.max(line.lc), ended: end.ended || ended };
                }
            }
        }
    }

    /// Whether the run's `end` was seen.
    pub(crate) fn has_end(&self) -> bool {
        self.end_seen
    }

    fn harness_line(&mut self, line: &Line, out: &mut Findings) {
        if line.seq != self.harness_seq {
            out.add(Rule::Seq, format!("harness line {} where {} was due", line.seq, self.harness_seq));
        }
        self.harness_seq = line.seq.saturating_add(1);
        match &line.what {
            What::Step { verb, nodes } if ENDS_LIVES.contains(&verb.as_str()) => {
                for node in nodes {
                    match self.streams.get_mut(node) {
                        Some(stream) if !stream.ended && !stream.hit => stream.hit = true,
                        // Started, but its first line is still on its way.
                        _ => _ = self.hit_before_boot.insert(*node),
                    }
                }
            }
            What::Assert { what, ok: false } => out.add(Rule::Assert, what.clone()),
            What::End { ok } => {
                self.end_seen = true;
                if !ok {
                    out.add(Rule::End, "the run failed");
                }
            }
            _ => {}
        }
    }

    fn node_line(&mut self, node: u8, line: &Line, faults_in_trace: bool, out: &mut Findings) {
        let ends = matches!(line.what, What::Panic { .. } | What::Halt { .. });
        if line.inc.is_none() && !ends && !matches!(line.what, What::Other(_)) {
            out.add(Rule::Form, "only the halt of a node that does not know its incarnation has a null `inc`");
        }
        let begins = match self.streams.get(&node) {
            None => true,
            Some(s) if s.inc != line.inc => true,
            // The same incarnation again, which is wrong, or one more that never knew its incarnation.
            Some(s) => line.seq == 0 && s.next_seq > 0 && (line.inc.is_none() || matches!(line.what, What::Boot)),
        };
        if begins {
            if let (Some(inc), Some(last)) = (line.inc, self.incs.get(&node))
                && inc < *last
                && self.streams.get(&node).is_some_and(|s| s.inc == Some(*last))
            {
                out.add(Rule::AfterHalt, format!("a line of incarnation {inc} after incarnation {last} began"));
                return;
            }
            self.begin(node, line, faults_in_trace, out);
        } else if matches!(line.what, What::Boot) {
            out.add(Rule::BootFirst, "`boot` in the middle of an incarnation");
        }
        let Some(stream) = self.streams.get_mut(&node) else { return };
        if let What::Epitaph { last_inc } = line.what {
            // Told once, right after `boot`, and of a life before this one.
            if stream.next_seq != 1 || last_inc >= line.inc && last_inc.is_some() {
                out.add(Rule::Form, format!("an epitaph of incarnation {last_inc:?} as line {}", line.seq));
            }
        }
        if stream.ended {
            out.add(Rule::AfterHalt, "a line after `panic` or `halt`");
        }
        if line.seq != stream.next_seq {
            out.add(Rule::Seq, format!("`seq` {} where {} was due", line.seq, stream.next_seq));
        }
        if !begins && line.lc <= stream.lc {
            out.add(Rule::Lamport, format!("`lc` {} after {}", line.lc, stream.lc));
        }
        if !begins && line.nt_us < stream.nt_us {
            out.add(Rule::NodeClock, format!("`nt_us` {} after {}", line.nt_us, stream.nt_us));
        }
        (stream.next_seq, stream.lc, stream.nt_us) = (line.seq.saturating_add(1), line.lc, line.nt_us);
        stream.ended |= ends;
    }

    fn begin(&mut self, node: u8, line: &Line, faults_in_trace: bool, out: &mut Findings) {
        if let Some(inc) = line.inc {
            if !matches!(line.what, What::Boot) {
                out.add(Rule::BootFirst, format!("the first event of incarnation {inc} is not `boot`"));
            }
            if let Some(last) = self.incs.get(&node).filter(|last| inc <= **last) {
                out.add(Rule::IncarnationGrows, format!("incarnation {inc} after {last}"));
            }
            self.incs.insert(node, inc);
        }
        if let Some(old) = self.streams.get(&node)
            && faults_in_trace
            && !old.ended
            && !old.hit
        {
            out.add(Rule::Restart, "a new life, but nothing ended the old one");
        }
        let hit = self.hit_before_boot.remove(&node);
        let stream = Stream { inc: line.inc, next_seq: 0, lc: 0, nt_us: 0, ended: false, hit };
        self.streams.insert(node, stream);
    }
}
