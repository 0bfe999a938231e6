//! What a node tells an operator: `status` and `waits` at the console, and at 3 a.m. why a node is out, what is being waited
//! for and since when.

use core::fmt::{self, Write};

use quorate_base::{FenceMethod, Instant, LevelOrder, NodeId, NodeState, Transition};
use quorate_interconnect::Drop;
use quorate_membership::LevelStatus;
use quorate_membership::fence::Fence;
use quorate_membership::master::Master;
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
        live.write_waits(now, None, out)?;
        live.write_counters(out)
    }

    /// Writes the answer to `counters`: what the interconnect sent, took and dropped, the latter by reason.
    ///
    /// # Errors
    /// Only if `out` fails.
    pub fn write_counters(&self, out: &mut dyn Write) -> fmt::Result {
        let Some(live) = self.live() else { return writeln!(out, "no interconnect yet, or no more") };
        let net = live.net.counters();
        writeln!(out, "sent heartbeats {} messages {}", net.heartbeats_sent, net.messages_sent)?;
        writeln!(
            out,
            "taken heartbeats {} messages {} introductions {}",
            net.heartbeats_received, net.messages_received, net.introductions
        )?;
        for reason in Drop::ALL.into_iter().filter(|reason| net.dropped(*reason) > 0) {
            writeln!(out, "dropped {reason} {}", net.dropped(reason))?;
        }
        writeln!(out, "dropped {}", net.dropped_total())
    }

    /// Writes the answer to `waits`: what is being waited for, since when, and whose turn it is. All of it as this node
    /// knows it; the master knows most.
    ///
    /// # Errors
    /// Only if `out` fails.
    pub fn write_waits(&self, now: Instant, out: &mut dyn Write) -> fmt::Result {
        let lines = match (self.halted(), self.birth_waits_for(), self.live()) {
            (Some(reason), _, _) => return writeln!(out, "halted: {reason}"),
            (None, Some(waits), _) => return writeln!(out, "waits: being born: {waits}"),
            (None, None, Some(live)) => live.write_waits(now, None, out)?,
            (None, None, None) => 0,
        };
        if lines == 0 { writeln!(out, "nothing is waited for") } else { Ok(()) }
    }
}

/// What a forced leave waits for before the fence is through.
fn write_fence(fence: &Fence, now: Instant, out: &mut dyn Write) -> fmt::Result {
    write!(out, "{}", fence.waits_for())?;
    match fence.method() {
        FenceMethod::Lease if fence.due() != Instant::FAR => {
            writeln!(out, ", in {} ms", fence.due().since_us(now) / 1000)
        }
        FenceMethod::Lease | FenceMethod::Reservation => writeln!(out),
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
        for level in self.membership.member().levels() {
            if let Some(LevelStatus::Refused(reason)) = self.membership.level_status(level.order) {
                writeln!(out, "level {} ({}) refused: {reason}", level.order, level.name)?;
            }
        }
        let outside = self.membership.outside();
        if !outside.is_empty() {
            writeln!(out, "outside of the reach set: {outside}")?;
        }
        match self.lock.registration() {
            None => writeln!(out, "fence: lease, no proof against suspension"),
            Some(registration) => {
                write!(out, "fence: reservation, own key {}", registration.key())?;
                writeln!(out, "{}", if self.lock.is_open() { "" } else { ", IN DOUBT: nothing is written" })
            }
        }
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

    /// What is being waited for, since when, and whose turn it is: all of it, or what is about one node. Gives the number of
    /// lines.
    pub(crate) fn write_waits(&self, now: Instant, of: Option<NodeId>, out: &mut dyn Write) -> Result<u32, fmt::Error> {
        let mut lines = 0;
        if self.lock.frozen(now) {
            lines += 1;
            writeln!(out, "waits: the shared disk: a full beat gives the lease back")?;
        }
        if self.membership.state() == NodeState::Inactive && of.is_none_or(|n| n == self.me) {
            lines += 1;
            let for_ms = now.since_us(self.since) / 1000;
            match self.membership.ballot().node() {
                Some(master) => writeln!(out, "waits: to be let in by the master, node {master}, for {for_ms} ms")?,
                None => writeln!(out, "waits: a master, or the lock, for {for_ms} ms")?,
            }
        }
        lines += self.write_own_steps(now, of, out)?;
        if let Some(master) = self.membership.master() {
            lines += self.write_master_waits(master, now, of, out)?;
        }
        Ok(lines)
    }

    /// What this node's own levels were told: what they owe, and what they did while others have not.
    fn write_own_steps(&self, now: Instant, of: Option<NodeId>, out: &mut dyn Write) -> Result<u32, fmt::Error> {
        let member = self.membership.member();
        let mut lines = 0;
        let own = of.is_none_or(|n| n == self.me);
        for (level, transition, wished) in member.pending().filter(|_| own) {
            lines += 1;
            let for_ms = now.since_us(wished) / 1000;
            let level = self.named(level.order);
            writeln!(out, "waits: level {level} {transition}: for {for_ms} ms the master's turn to begin it")?;
        }
        let steps = NodeId::first(self.nodes).flat_map(|n| [(n, member.step(n)), (n, member.local_step(n))]);
        for (n, step) in steps.filter(|(n, _)| of.is_none_or(|of| of == *n)) {
            let Some((step, acked)) = step else { continue };
            lines += 1;
            let told_ms = now.since_us(step.since) / 1000;
            write!(
                out,
                "waits: node {n} {} at level {} barrier {} round {}: told {told_ms} ms ago, ",
                step.subject.transition,
                self.named(step.level),
                step.barrier,
                step.round
            )?;
            match (acked, self.membership.master().is_some()) {
                (false, _) => writeln!(out, "this node's level has not acknowledged")?,
                (true, false) => writeln!(out, "acknowledged here, others' turn")?,
                (true, true) => writeln!(out, "acknowledged here")?,
            }
        }
        Ok(lines)
    }

    /// What the master waits for.
    fn write_master_waits(
        &self,
        master: &Master,
        now: Instant,
        of: Option<NodeId>,
        out: &mut dyn Write,
    ) -> Result<u32, fmt::Error> {
        let mut lines = 0;
        if !master.unanswered().is_empty() {
            lines += 1;
            let for_ms = master.takeover_ms(now);
            writeln!(out, "waits: takeover: for {for_ms} ms no answer from node {}", master.unanswered())?;
        }
        let own = |n| (n, master.progress(n), master.waited_ms(n, now));
        let local = |n| (n, master.local_progress(n), master.local_waited_ms(n, now));
        let asked = NodeId::first(self.nodes).filter(|n| of.is_none_or(|of| of == *n));
        for (n, progress, for_ms) in asked.flat_map(|n| [own(n), local(n)]) {
            let Some(p) = progress else { continue };
            lines += 1;
            write!(out, "waits: node {n} {}", p.transition)?;
            let fence = master.fence(n).filter(|_| p.transition == Transition::ForcedLeaving);
            match p.at {
                At::Running { level, round, barrier, awaiting } => {
                    write!(out, " at level {} barrier {barrier} round {round}: for {for_ms} ms ", self.named(level))?;
                    if p.ending {
                        writeln!(out, "node {awaiting} to hear that it is through")?;
                    } else if awaiting.is_empty() {
                        writeln!(out, "the other transitions there")?;
                    } else {
                        writeln!(out, "no acknowledgement from node {awaiting}")?;
                    }
                }
                At::Waiting(level) => {
                    write!(out, " before level {}: for {for_ms} ms ", self.named(level))?;
                    match fence.filter(|fence| !fence.lets(level)) {
                        Some(fence) => write_fence(fence, now, out)?,
                        None => writeln!(out, "the round there")?,
                    }
                }
                At::Done => match fence {
                    Some(fence) if !fence.is_through() => {
                        write!(out, ": for {for_ms} ms ")?;
                        write_fence(fence, now, out)?;
                    }
                    _ => writeln!(out, ": for {for_ms} ms the view to be committed")?,
                },
            }
        }
        Ok(lines)
    }

    /// A level as it is shown: its order, and its name if this node has it.
    fn named(&self, order: LevelOrder) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| match self.membership.member().levels().iter().find(|l| l.order == order) {
            Some(level) => write!(f, "{order} ({})", level.name),
            None => write!(f, "{order}"),
        })
    }

    fn write_counters(&self, out: &mut dyn Write) -> fmt::Result {
        let net = self.net.counters();
        writeln!(
            out,
            "frames sent {} received {} dropped {}{}; disk reads {} writes {}",
            net.sent(),
            net.received(),
            net.dropped_total(),
            ByReason(net),
            self.lock.reads(),
            self.lock.writes()
        )
    }
}

/// The reasons for which frames were dropped, in brackets.
struct ByReason<'a>(&'a quorate_interconnect::Counters);

impl fmt::Display for ByReason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = " (";
        for reason in Drop::ALL {
            let n = self.0.dropped(reason);
            if n > 0 {
                write!(f, "{before}{reason} {n}")?;
                before = ", ";
            }
        }
        if before == " (" { Ok(()) } else { f.write_str(")") }
    }
}
