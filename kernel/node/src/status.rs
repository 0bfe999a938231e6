//! What a node tells an operator: `status` at the console, and at 3 a.m. why a node is out and what is being waited for.

use core::fmt::{self, Write};

use quorate_base::{Instant, NodeId, NodeState, Transition};
use quorate_membership::transition::At;

use crate::live::Live;
use crate::node::Node;

impl Node {
    /// Writes the answer to `status`.
    ///
    /// # Errors
    /// Only if `out` fails.
    pub fn write_status(&self, now: Instant, out: &mut dyn Write) -> fmt::Result {
        if let Some(reason) = self.halted() {
            return writeln!(out, "halted: {reason}");
        }
        if let Some(waits) = self.birth_waits_for() {
            return writeln!(out, "being born: {waits}");
        }
        let Some(live) = self.live() else { return Ok(()) };
        live.write_head(now, out)?;
        live.write_nodes(now, out)?;
        live.write_waits(out)?;
        live.write_counters(out)
    }
}

impl Live {
    fn write_head(&self, now: Instant, out: &mut dyn Write) -> fmt::Result {
        let (name, view) = self.membership.view();
        let me = self.me;
        write!(out, "node {me} {}", self.membership.state())?;
        match self.membership.ballot().node() {
            _ if self.lock.may_act(now) => write!(out, ", master")?,
            Some(master) => write!(out, ", master is node {master}")?,
            None => write!(out, ", no master known")?,
        }
        if self.membership.is_leaving() {
            write!(out, ", leave asked for")?;
        }
        writeln!(out)?;
        writeln!(out, "view {} ballot {}", view.number, name.ballot)?;
        if self.lock.frozen(now) {
            writeln!(out, "FROZEN: the lease has run out; thaws with a full beat")?;
        } else if self.lock.lease_until() > now {
            writeln!(out, "lease {} ms", self.lock.lease_until().since_us(now) / 1000)?;
        }
        if let Some(refused) = self.membership.refused() {
            writeln!(out, "join refused: {}", refused.reason)?;
        }
        let outside = self.membership.outside();
        if !outside.is_empty() {
            writeln!(out, "outside of the reach set: {outside}")?;
        }
        writeln!(out, "fence: lease, no proof against suspension")
    }

    fn write_nodes(&self, now: Instant, out: &mut dyn Write) -> fmt::Result {
        let (_, view) = self.membership.view();
        for n in NodeId::first(self.nodes) {
            write!(out, "node {n} {} incarnation {}", view.state(n), view.incarnation(n))?;
            if n != self.me {
                match self.net.peer(n).heard_at {
                    Some(at) => write!(out, ", heard {} ms ago", now.since_us(at) / 1000)?,
                    None => write!(out, ", never heard")?,
                }
                let peer = self.lock.peer(n);
                match &peer.heartbeat {
                    Some(h) if h.clean => write!(out, ", disk: clean mark")?,
                    Some(h) => write!(out, ", disk: beat {}, still for {} ms", h.counter, peer.still_us / 1000)?,
                    None if peer.readable => write!(out, ", disk: never wrote")?,
                    None => write!(out, ", disk: unreadable")?,
                }
            }
            for level in self.membership.member().levels() {
                let state = self.membership.member().state_at(level.order, n).unwrap_or_default();
                if state != NodeState::Inactive {
                    write!(out, " {}={state}", level.order)?;
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// What is being waited for, and whose turn it is.
    fn write_waits(&self, out: &mut dyn Write) -> fmt::Result {
        let Some(master) = self.membership.master() else { return Ok(()) };
        if !master.unanswered().is_empty() {
            writeln!(out, "waits: takeover, no answer yet from {}", master.unanswered())?;
        }
        for n in NodeId::first(self.nodes) {
            let Some(p) = master.progress(n) else { continue };
            match p.at {
                At::Running { level, round, barrier, awaiting } => writeln!(
                    out,
                    "waits: node {n} {} at level {level} barrier {barrier} round {round}: no acknowledgement yet from {awaiting}",
                    p.transition
                )?,
                At::Waiting(level) if p.transition == Transition::ForcedLeaving => {
                    writeln!(out, "waits: node {n} forced-leaving before level {level}: the fence")?;
                }
                At::Waiting(level) => {
                    writeln!(out, "waits: node {n} {} before level {level}: the round there", p.transition)?;
                }
                At::Done => writeln!(out, "waits: node {n} {}: the view to be committed", p.transition)?,
            }
        }
        Ok(())
    }

    fn write_counters(&self, out: &mut dyn Write) -> fmt::Result {
        let net = self.net.counters();
        writeln!(
            out,
            "frames sent {} received {} dropped {}; disk reads {} writes {}",
            net.sent(),
            net.received(),
            net.dropped_total(),
            self.lock.reads(),
            self.lock.writes()
        )
    }
}
