//! The operator's words for group services, at the same console: what stands, and jobs and domains made by hand.
//!
//! A job that the console made has threads that take every message and acknowledge every step; `work` says how.

use core::fmt::{self, Write};

use quorate_base::{Instant, NodeId, NodeSet};
use quorate_groups::capacity::MESSAGE_MAX;
use quorate_groups::{CallError, DomainOp, Engine, JobId, JobState, Registration};

use crate::groups::Groups;
use crate::load::OUTSTANDING_MAX;
use crate::node::{Node, Ports};

/// What `help` says of them.
pub(crate) const HELP: &str = "\
groups            the engine, all groups and domains
group NAME        a group: its members, protocols, merges, and whom its senders wait for
job register GROUP JOB [SUBGROUP [DEADLINE_MS]]   a job of this node becomes a member
job join DOMAIN JOB                               the same by Join_Member
job unregister|merge GROUP JOB
job send GROUP JOB TEXT     job fault GROUP JOB NUMBER
job load GROUP JOB COUNT BYTES [OUTSTANDING]      it sends messages by itself; without numbers: how that goes
job start GROUP JOB THREAD  job work GROUP JOB ROUNDS WORK_MS, or hang
domain create NAME NODE...  domain add|remove NAME NODE
domain leave|delete NAME
";

/// The node and its group services.
pub(crate) struct Words<'a, 'p> {
    pub now: Instant,
    pub node: &'a mut Node,
    pub groups: &'a mut Groups,
    pub ports: &'a mut Ports<'p>,
}

/// Why a line does nothing.
enum Wrong {
    Words,
    Job,
    Call(CallError),
}

impl From<CallError> for Wrong {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl Words<'_, '_> {
    /// Does what a line says, if its first word is one of these. `None` if it is not.
    pub fn run(&mut self, word: &str, rest: &str, out: &mut dyn Write) -> Option<fmt::Result> {
        if !matches!(word, "groups" | "group" | "job" | "domain") {
            return None;
        }
        if self.groups.engine().is_none() {
            return Some(writeln!(out, "no group services: the node is not born, or was started without them"));
        }
        Some(match (word, rest) {
            ("groups", "") => self.write_groups(out).and_then(|()| out.write_str("ok\n")),
            ("group", name) if !name.is_empty() => self.write_group(name, out),
            ("job", rest) => match self.load_of(rest) {
                Some(load) => load.write(out).and_then(|()| out.write_str("ok\n")),
                None => answer(self.job(rest), out),
            },
            ("domain", rest) => answer(self.domain(rest), out),
            _ => writeln!(out, "'{word} {rest}' is not understood; try 'help'"),
        })
    }

    fn call<R>(
        &mut self,
        f: impl FnOnce(&mut Engine, &mut quorate_groups::Context<'_>) -> Result<R, CallError>,
    ) -> Result<R, Wrong> {
        let called = self.groups.call(self.now, self.node, self.ports, f);
        Ok(called.unwrap_or(Err(CallError::NoMember))?)
    }

    fn find(&self, group: &str, job: &str) -> Result<JobId, Wrong> {
        let engine = self.groups.engine().ok_or(Wrong::Job)?;
        let lives = |s| !matches!(s, JobState::Denied(_) | JobState::Gone(_));
        let found = engine.jobs().find(|(_, g, j, state, _)| *g == group && *j == job && lives(*state));
        found.map(|(id, ..)| id).ok_or(Wrong::Job)
    }

    /// `load GROUP JOB` and nothing after it asks how that goes.
    fn load_of(&self, rest: &str) -> Option<&crate::load::Load> {
        let mut words = rest.split_whitespace();
        let (Some("load"), Some(group), Some(job), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return None;
        };
        let id = self.find(group, job).ok()?;
        self.groups.loads().iter().find(|l| l.job == id)
    }

    fn job(&mut self, rest: &str) -> Result<(), Wrong> {
        let mut words = rest.split_whitespace();
        let (Some(verb), Some(group), Some(name)) = (words.next(), words.next(), words.next()) else {
            return Err(Wrong::Words);
        };
        let mut number = |default: Option<u32>| match words.next() {
            None => default.ok_or(Wrong::Words),
            Some(word) => word.parse::<u32>().map_err(|_| Wrong::Words),
        };
        match verb {
            "register" | "join" => {
                let (subgroup, deadline_ms) = (number(Some(0))?, number(Some(0))?);
                let subgroup = u8::try_from(subgroup).map_err(|_| Wrong::Words)?;
                let of_domain = verb == "join";
                self.release_gone();
                let r = Registration { group, job: name, subgroup, deadline_ms, of_domain };
                let id = self.call(|e, ctx| e.register(&r, ctx))?;
                self.groups.set_threads(id, 1, 0, false);
                self.call(|e, _| e.set_group_data(id, name.as_bytes()))
            }
            "unregister" => {
                let id = self.find(group, name)?;
                self.call(|e, ctx| e.unregister(id, ctx))
            }
            "merge" => {
                let id = self.find(group, name)?;
                self.call(|e, ctx| e.merge(id, ctx))
            }
            "fault" => {
                let fault = u16::try_from(number(None)?).map_err(|_| Wrong::Words)?;
                let id = self.find(group, name)?;
                self.call(|e, ctx| e.fault(id, fault, ctx))
            }
            "start" => {
                let thread = u8::try_from(number(None)?).map_err(|_| Wrong::Words)?;
                let id = self.find(group, name)?;
                self.call(|e, ctx| e.start(id, thread, name.as_bytes(), ctx))
            }
            "send" => {
                let text = words.next().ok_or(Wrong::Words)?;
                let from = text.as_ptr() as usize - rest.as_ptr() as usize;
                let text = rest.get(from..).unwrap_or(text).trim_end();
                let id = self.find(group, name)?;
                self.call(|e, ctx| e.send(id, None, text.as_bytes(), ctx))
            }
            "load" => {
                let (count, bytes) = (number(None)?, number(None)?);
                let outstanding = number(Some(OUTSTANDING_MAX as u32))?;
                let bytes = u16::try_from(bytes).ok().filter(|b| usize::from(*b) <= MESSAGE_MAX);
                let bytes = bytes.ok_or(CallError::TooLong { max: MESSAGE_MAX })?;
                let outstanding = u8::try_from(outstanding).map_err(|_| Wrong::Words)?;
                let id = self.find(group, name)?;
                if self.groups.set_load(id, count, bytes, outstanding) { Ok(()) } else { Err(CallError::Full.into()) }
            }
            "work" => {
                let id = self.find(group, name)?;
                let hang = rest.ends_with(" hang");
                let (rounds, work_ms) = if hang { (1, 0) } else { (number(None)?, number(None)?) };
                let rounds = u16::try_from(rounds).map_err(|_| Wrong::Words)?;
                self.groups.set_threads(id, rounds, work_ms, hang);
                Ok(())
            }
            _ => Err(Wrong::Words),
        }
    }

    /// Jobs that are no more make room.
    fn release_gone(&mut self) {
        let gone = |s| matches!(s, JobState::Denied(_) | JobState::Gone(_));
        while let Some(id) =
            self.groups.engine().and_then(|e| e.jobs().find(|(.., state, _)| gone(*state)).map(|(id, ..)| id))
        {
            let _ = self.call(|e, _| {
                e.release(id);
                Ok(())
            });
        }
    }

    fn domain(&mut self, rest: &str) -> Result<(), Wrong> {
        let mut words = rest.split_whitespace();
        let (Some(verb), Some(name)) = (words.next(), words.next()) else { return Err(Wrong::Words) };
        let mut nodes = NodeSet::EMPTY;
        for word in words {
            nodes.insert(word.parse().ok().and_then(NodeId::new).ok_or(Wrong::Words)?);
        }
        let op = match (verb, nodes.lowest(), nodes.len()) {
            ("create", Some(_), _) => DomainOp::Create(nodes),
            ("add", Some(node), 1) => DomainOp::Add(node),
            ("remove", Some(node), 1) => DomainOp::Remove(node),
            ("leave", None, _) => DomainOp::Leave,
            ("delete", None, _) => DomainOp::Delete,
            _ => return Err(Wrong::Words),
        };
        self.call(|e, ctx| e.ask(op, name, ctx))
    }

    fn write_groups(&self, out: &mut dyn Write) -> fmt::Result {
        let Some(engine) = self.groups.engine() else { return Ok(()) };
        match engine.epoch() {
            None => writeln!(out, "no epoch yet")?,
            Some((epoch, roster)) => {
                let flushing = if engine.is_flushing() { ", and waits for the next one" } else { "" };
                writeln!(out, "epoch {epoch} of nodes {}, node {} orders{flushing}", roster.nodes(), epoch.node)?;
            }
        }
        let (behind, kept, own) = engine.queues();
        let order = engine.tables().order;
        writeln!(
            out,
            "delivered to {order}; {behind} frames to deliver, {kept} kept for jobs, {own} own on their way"
        )?;
        let c = engine.counters();
        writeln!(
            out,
            "frames: {} delivered, {} repeated, {} waited, {} messages dropped; {} epochs",
            c.delivered, c.repeated, c.waited, c.dropped, c.epochs
        )?;
        for group in &engine.tables().groups {
            let members = engine.tables().members_of(group.slot).count();
            let kind = if group.of_domain { "domain group" } else { "group" };
            writeln!(out, "{kind} {}: {members} members", group.name)?;
        }
        for e in engine.copies().entries() {
            let state = if e.deleted { "deleted" } else { "lists nodes" };
            let nodes = if e.deleted { e.behind } else { e.nodes };
            writeln!(out, "domain {}: version {}, {state} {nodes}", e.name, e.version)?;
        }
        if !engine.copies().is_durable() {
            writeln!(out, "domains are being written")?;
        }
        Ok(())
    }

    fn write_group(&self, name: &str, out: &mut dyn Write) -> fmt::Result {
        let Some(engine) = self.groups.engine() else { return Ok(()) };
        let tables = engine.tables();
        let Some(group) = tables.group(name) else { return writeln!(out, "no group '{name}'") };
        for m in tables.members_of(group.slot) {
            writeln!(out, "member {} on node {}, subgroup {}", m.name, m.node, m.subgroup)?;
        }
        for p in tables.protocols.iter().filter(|p| p.slot == group.slot) {
            let owes = tables.members_of(group.slot).filter(|m| p.awaiting.contains(m.id.place));
            write!(out, "protocol {}, ACK round {}, waits for", p.id.order, p.round)?;
            for m in owes {
                write!(out, " {} on node {}", m.name, m.node)?;
            }
            writeln!(out)?;
        }
        for m in tables.merges.iter().filter(|m| m.slot == group.slot) {
            writeln!(out, "merge {}, round {}, waits for {} members", m.id.order, m.round, m.awaiting.len())?;
        }
        let slow = engine.holds_back(group.slot);
        if !slow.is_empty() {
            writeln!(out, "senders wait for nodes {slow}")?;
        }
        for (_, g, job, state, since) in engine.jobs().filter(|j| *j.1 == group.name) {
            write!(out, "here: {g}/{job}: {state:?}")?;
            match since {
                Some(since) => writeln!(out, ", its threads owe something for {} ms", self.now.since_us(since) / 1000)?,
                None => writeln!(out)?,
            }
        }
        out.write_str("ok\n")
    }
}

fn answer(done: Result<(), Wrong>, out: &mut dyn Write) -> fmt::Result {
    match done {
        Ok(()) => out.write_str("ok\n"),
        Err(Wrong::Words) => writeln!(out, "not understood; try 'help'"),
        Err(Wrong::Job) => writeln!(out, "no such job on this node"),
        Err(Wrong::Call(error)) => writeln!(out, "{error}"),
    }
}
