//! The answers to `why NODE`, `who-is-master` and `history` at the console: what an operator asks when something is not as it
//! should be. All of it as this node knows it, from its view, the disk and the interconnect; where another node knows more, the
//! answer says which.

use core::fmt::{self, Write};

use quorate_base::{Instant, NodeId, NodeState};

use crate::history::{Entry, What};
use crate::live::Live;
use crate::node::Node;

impl Node {
    /// How many nodes are configured, once the node lives.
    pub(crate) fn nodes(&self) -> Option<u8> {
        self.live().map(|l| l.nodes)
    }

    /// The configured node of that number.
    pub(crate) fn known(&self, number: &str) -> Option<NodeId> {
        let nodes = self.nodes()?;
        number.parse().ok().and_then(NodeId::new).filter(|n| n.get() < nodes)
    }

    /// Writes, in one line, why this node can say nothing of the cluster: it is being born, or has halted.
    ///
    /// # Errors
    /// Only if `out` fails.
    pub(crate) fn write_not_in(&self, out: &mut dyn Write) -> fmt::Result {
        match (self.halted(), self.birth_waits_for()) {
            (Some(reason), _) => writeln!(out, "this node has halted: {reason}; ask another"),
            (None, Some(waits)) => writeln!(out, "this node is being born: {waits}"),
            (None, None) => writeln!(out, "this node knows of no cluster"),
        }
    }

    /// Writes the answer to `why NODE`: why it is out, or what its transition waits for, since when, and whose turn it is.
    ///
    /// # Errors
    /// Only if `out` fails.
    pub fn write_why(&self, now: Instant, node: NodeId, out: &mut dyn Write) -> fmt::Result {
        let Some(live) = self.live() else { return self.write_not_in(out) };
        let (_, view) = live.membership.view();
        let (state, incarnation) = (view.state(node), view.incarnation(node));
        write!(out, "node {node} is ")?;
        match state {
            NodeState::Joined => write!(out, "in: joined as incarnation {incarnation}")?,
            NodeState::Inactive => write!(out, "out")?,
            _ => write!(out, "{state}, incarnation {incarnation}")?,
        }
        writeln!(out, " (view {})", view.number)?;
        if let Some(entry) = self.history().last_of(node) {
            write_entry(entry, now, out)?;
        }
        match state {
            NodeState::Joined | NodeState::Inactive if node == live.me => {
                live.write_own_case(out)?;
                live.write_waits(now, Some(node), out)?;
            }
            NodeState::Joined => {
                live.write_doubts(node, now, out)?;
                live.write_waits(now, Some(node), out)?;
            }
            NodeState::Inactive => live.write_out(node, now, out)?,
            _ => {
                let lines = live.write_waits(now, Some(node), out)?;
                live.write_who_knows(lines, out)?;
            }
        }
        Ok(())
    }

    /// Writes the answer to `who-is-master`.
    ///
    /// # Errors
    /// Only if `out` fails.
    pub fn write_who_is_master(&self, now: Instant, out: &mut dyn Write) -> fmt::Result {
        let Some(live) = self.live() else { return self.write_not_in(out) };
        let (_, view) = live.membership.view();
        let ballot = live.membership.ballot();
        let Some(master) = ballot.node() else {
            return writeln!(out, "no master is known; view {}", view.number);
        };
        write!(out, "node {master} is master: ballot {ballot}, view {}", view.number)?;
        if let Some(since) = self.history().master_since(ballot) {
            write!(out, ", known for {} ms", now.since_us(since) / 1000)?;
        }
        writeln!(out)?;
        if master == live.me && !live.lock.may_act(now) {
            return writeln!(out, "but it may not act now: its lease has run out, or another took the lock");
        }
        if master != live.me {
            live.write_doubts(master, now, out)?;
        }
        Ok(())
    }

    /// Writes the answer to `history`: the last transitions, oldest first.
    ///
    /// # Errors
    /// Only if `out` fails.
    pub fn write_history(&self, now: Instant, out: &mut dyn Write) -> fmt::Result {
        if self.history().entries().next().is_none() {
            return writeln!(out, "nothing yet: this life of the node has seen no transition");
        }
        self.history().entries().try_for_each(|entry| write_entry(entry, now, out))
    }
}

fn write_entry(entry: &Entry, now: Instant, out: &mut dyn Write) -> fmt::Result {
    write!(out, "{} ms ago: ", now.since_us(entry.at) / 1000)?;
    match entry.what {
        What::Master { ballot } => match ballot.node() {
            Some(node) => writeln!(out, "node {node} is master, ballot {ballot}"),
            None => writeln!(out, "no master is known"),
        },
        What::Transition { subject, incarnation, state, cause, end, skipped } => {
            write!(out, "node {subject} {state}, incarnation {incarnation}: {cause}; ")?;
            match end {
                None => writeln!(out, "under way"),
                Some((_, is)) if skipped => writeln!(out, "then {is}, how long it took was not seen"),
                Some((end, is)) => writeln!(out, "after {} ms {is}", end.since_us(entry.at) / 1000),
            }
        }
    }
}

impl Live {
    /// What may be wrong with this node itself.
    fn write_own_case(&self, out: &mut dyn Write) -> fmt::Result {
        match self.membership.refused() {
            Some(refused) => writeln!(out, "the master refuses it: {}", refused.reason),
            None => Ok(()),
        }
    }

    /// What speaks against a node that is in.
    fn write_doubts(&self, n: NodeId, now: Instant, out: &mut dyn Write) -> fmt::Result {
        let peer = self.lock.peer(n);
        if self.lock.disk_silent(n) {
            writeln!(out, "but its heartbeat on the disk stands still for {} ms", peer.still_us / 1000)?;
        }
        if !self.net.hears().contains(n) {
            self.write_not_heard(n, now, out)?;
        }
        if self.membership.outside().contains(n) {
            writeln!(out, "but it is outside of the set of nodes that all hear each other: it will be put out")?;
        }
        Ok(())
    }

    fn write_not_heard(&self, n: NodeId, now: Instant, out: &mut dyn Write) -> fmt::Result {
        match self.net.peer(n).heard_at {
            Some(at) => writeln!(out, "but this node does not hear it: last frame {} ms ago", now.since_us(at) / 1000),
            None => writeln!(out, "but this node has never heard it"),
        }
    }

    /// Why another node is out, by what stands on the disk and what is heard.
    fn write_out(&self, n: NodeId, now: Instant, out: &mut dyn Write) -> fmt::Result {
        let peer = self.lock.peer(n);
        match &peer.heartbeat {
            None if peer.readable => {
                return writeln!(
                    out,
                    "it has never lived: it was never started, or halts at its birth, and then its own console says why"
                );
            }
            None => return writeln!(out, "its heartbeat block is unreadable: nothing is known of it"),
            Some(h) if h.clean => {
                return writeln!(
                    out,
                    "its last life, incarnation {}, left gracefully: it was not started again",
                    h.incarnation
                );
            }
            Some(h) if self.lock.disk_silent(n) => {
                let still_ms = peer.still_us / 1000;
                return writeln!(
                    out,
                    "it does not run, or cannot write: the heartbeat of incarnation {} stands still for {still_ms} ms",
                    h.incarnation
                );
            }
            Some(h) => writeln!(out, "it runs, as incarnation {}: its heartbeat moves", h.incarnation)?,
        }
        let silent = !self.net.hears().contains(n);
        if silent {
            self.write_not_heard(n, now, out)?;
        }
        if self.membership.outside().contains(n) {
            writeln!(out, "not all nodes hear it: it would not be let in")?;
        }
        let lines = self.write_waits(now, Some(n), out)?;
        if silent || lines > 0 {
            return Ok(());
        }
        writeln!(out, "it will be let in, or is refused; then its own console says why")
    }

    /// Who can say what this node cannot.
    fn write_who_knows(&self, lines: u32, out: &mut dyn Write) -> fmt::Result {
        match self.membership.ballot().node() {
            _ if self.membership.master().is_some() => Ok(()),
            Some(master) if lines == 0 => {
                writeln!(out, "this node has no part in it now; the master, node {master}, knows more")
            }
            Some(master) => writeln!(out, "the master, node {master}, knows more"),
            None => writeln!(out, "no master is known: it waits for one"),
        }
    }
}
