//! Group services on a node: level 10's thread of control, the engine's way to the link and the disk, its trace events, and the
//! jobs that the console's words make.
//!
//! The engine stands beside the [`Node`], not in it: its frames take more memory than everything else of the node. Whoever
//! embeds a node and wants group services declares [`quorate_groups::LEVEL`] among its levels and polls a [`Groups`] after each
//! call, as it does its other levels.

use quorate_base::event::{Event, GroupEpoch, GroupPlace};
use quorate_base::text::format_cut;
use quorate_base::{Incarnation, Instant};
use quorate_groups::capacity::{JOBS_MAX, MESSAGE_MAX, THREADS_MAX};
use quorate_groups::{ChangeKind, Config, Context, Engine, Hear, JobId, LEVEL, Outside, Taken, Told};

use crate::load::{LOADS_MAX, Load};
use crate::node::{Node, Ports};

/// How the threads of a job behave that the console made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Threads {
    pub job: JobId,
    /// They end a protocol after so many rounds.
    pub rounds: u16,
    /// Local work takes so long, ms.
    pub work_ms: u32,
    /// They never return.
    pub hang: bool,
    /// When the step at hand is through, per thread.
    due: [Option<Instant>; THREADS_MAX as usize],
}

/// Group services of one node.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    engine: Option<Engine>,
    life: Option<Incarnation>,
    threads: heapless::Vec<Threads, JOBS_MAX>,
    loads: heapless::Vec<Load, LOADS_MAX>,
    /// Messages were taken, and how far this node is was not said.
    unsaid: bool,
}

impl Groups {
    /// Of a node that is not born yet.
    pub const fn new() -> Self {
        Self { engine: None, life: None, threads: heapless::Vec::new(), loads: heapless::Vec::new(), unsaid: false }
    }

    /// The engine, once the node lives.
    pub fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    /// When it has something to do.
    pub fn poll_timeout(&self) -> Instant {
        let Some(engine) = &self.engine else { return Instant::FAR };
        let due = self.threads.iter().flat_map(|t| t.due.iter().flatten()).min();
        engine.poll_timeout().min(due.copied().unwrap_or(Instant::FAR))
    }

    /// Does what there is to do: messages, notifications, acknowledgements, the disk, time, the jobs' threads. True if it did
    /// anything.
    pub fn poll(&mut self, now: Instant, node: &mut Node, ports: &mut Ports<'_>) -> bool {
        if self.engine.is_none() || self.life != node.incarnation() {
            self.begin(node);
        }
        let Some(engine) = self.engine.as_mut() else { return false };
        let mut did = false;
        if self.unsaid && !node.has_group_message() {
            (did, self.unsaid) = (true, false);
            node.with_groups(now, ports, |outside| engine.say_how_far(&mut Context { now, outside }));
        }
        while let Some((from, life, payload)) = node.take_group_message() {
            self.unsaid = false;
            did = true;
            let more = node.has_group_message();
            let receive = |outside: &mut dyn Outside| {
                let ctx = &mut Context { now, outside };
                if more {
                    engine.receive_one_of_many(from, life, &payload, ctx);
                } else {
                    engine.receive(from, life, &payload, ctx);
                }
            };
            node.with_groups(now, ports, receive);
        }
        if let Some(notification) = node.take_notification(LEVEL.order) {
            did = true;
            let notified = |outside: &mut dyn Outside| engine.notified(&notification, &mut Context { now, outside });
            node.with_groups(now, ports, notified);
        }
        if let Some(result) = node.take_group_disk() {
            did = true;
            let result = result.as_deref().map_err(|error| *error);
            node.with_groups(now, ports, |outside| engine.on_disk(result, &mut Context { now, outside }));
        }
        if engine.poll_timeout() <= now {
            did = true;
            node.with_groups(now, ports, |outside| engine.handle_timeout(&mut Context { now, outside }));
        }
        did |= self.work(now, node, ports);
        let Some(engine) = self.engine.as_mut() else { return did };
        if node.group_disk_is_free()
            && let Some(op) = engine.poll_disk(now)
        {
            did = true;
            node.begin_group_disk(now, op);
        }
        while let Some(change) = engine.poll_acknowledge() {
            did = true;
            node.acknowledge(now, LEVEL.order, &change, ports);
        }
        did
    }

    /// Takes what came if the node has no room for more of it. Whoever gives a node several datagrams in a row calls this after
    /// each, so that none is lost for want of room. What others need not know at once is said by the [`Groups::poll`] after
    /// them.
    pub fn make_room(&mut self, now: Instant, node: &mut Node, ports: &mut Ports<'_>) {
        if node.has_room_for_group_message() {
            return;
        }
        if self.life != node.incarnation() {
            return;
        }
        let Some(engine) = self.engine.as_mut() else { return };
        while let Some((from, life, payload)) = node.take_group_message() {
            self.unsaid = true;
            let receive = |outside: &mut dyn Outside| {
                engine.receive_one_of_many(from, life, &payload, &mut Context { now, outside });
            };
            node.with_groups(now, ports, receive);
        }
    }

    // Kept apart: what it builds is large, and its stack is needed once in the node's life.
    #[inline(never)]
    fn begin(&mut self, node: &Node) {
        let Some(live) = node.live() else { return };
        let Some(incarnation) = node.incarnation() else { return };
        let config = Config { me: live.me, incarnation, cluster: live.cluster, nodes: live.nodes };
        self.engine = Some(Engine::new(&config));
        self.life = Some(incarnation);
        self.threads.clear();
        self.loads.clear();
    }

    /// Calls the engine from a job. `None` if the node does not live.
    pub(crate) fn call<R>(
        &mut self,
        now: Instant,
        node: &mut Node,
        ports: &mut Ports<'_>,
        f: impl FnOnce(&mut Engine, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let engine = self.engine.as_mut()?;
        node.with_groups(now, ports, |outside| f(engine, &mut Context { now, outside }))
    }

    /// How the threads of a job are to behave.
    pub(crate) fn set_threads(&mut self, job: JobId, rounds: u16, work_ms: u32, hang: bool) {
        let threads = Threads { job, rounds, work_ms, hang, due: [None; THREADS_MAX as usize] };
        match self.threads.iter_mut().find(|t| t.job == job) {
            Some(place) => *place = threads,
            // At most one for each job: those of jobs that are no more are swept.
            None => drop(self.threads.push(threads)),
        }
    }

    /// What jobs send by themselves.
    pub fn loads(&self) -> &[Load] {
        &self.loads
    }

    /// A job that the console made sends so many messages by itself. False if there are [`LOADS_MAX`] jobs that do.
    pub(crate) fn set_load(&mut self, job: JobId, count: u32, bytes: u16, outstanding: u8) -> bool {
        if self.loads.iter().all(|l| l.job != job) && self.loads.push(Load::new(job)).is_err() {
            return false;
        }
        if let Some(load) = self.loads.iter_mut().find(|l| l.job == job) {
            load.ask(count, bytes, outstanding);
        }
        true
    }

    /// The work threads of the console's jobs: they take what lies there and acknowledge their steps.
    fn work(&mut self, now: Instant, node: &mut Node, ports: &mut Ports<'_>) -> bool {
        let Some(engine) = self.engine.as_mut() else { return false };
        self.threads.retain(|t| engine.job(t.job).is_some());
        self.loads.retain(|l| engine.job(l.job).is_some());
        let mut did = false;
        let hangs = |job: JobId| self.threads.iter().any(|t| t.job == job && t.hang);
        // A thread that does not return sends nothing any more.
        self.loads.iter_mut().filter(|l| hangs(l.job)).for_each(Load::stop);
        for t in self.threads.iter_mut().filter(|t| !t.hang) {
            let mut bytes = heapless::Vec::<u8, MESSAGE_MAX>::new();
            let mut load = self.loads.iter_mut().find(|l| l.job == t.job);
            while engine.has_next(t.job) {
                let take = |outside: &mut dyn Outside| engine.take(t.job, &mut bytes, &mut Context { now, outside });
                let Some(taken) = node.with_groups(now, ports, take).flatten() else { break };
                if let (Taken::Message { from, .. }, Some(load)) = (taken, load.as_deref_mut()) {
                    load.taken(from, &bytes, engine, now);
                }
                did = true;
            }
            if let Some(load) = load {
                let send = |outside: &mut dyn Outside| load.send(engine, &mut Context { now, outside });
                did |= node.with_groups(now, ports, send).unwrap_or(false);
            }
            for (thread, due) in (0..).zip(&mut t.due) {
                let Some(step) = engine.step(t.job, thread) else {
                    *due = None;
                    continue;
                };
                if *due.get_or_insert(now.plus_ms(t.work_ms)) > now {
                    continue;
                }
                let done = step.round.saturating_add(1) >= t.rounds;
                let ack =
                    |outside: &mut dyn Outside| engine.ack_round(t.job, thread, done, &mut Context { now, outside });
                if matches!(node.with_groups(now, ports, ack), Some(Ok(()))) {
                    (*due, did) = (None, true);
                } else {
                    // No room at the moment.
                    *due = Some(now.plus_ms(1));
                }
            }
        }
        did
    }
}

/// What is told, as trace events.
pub(crate) fn trace_told(told: &Told<'_>, trace: &mut quorate_base::Trace<'_>, me: quorate_base::NodeId) {
    let place = |group, at: &quorate_groups::Position| GroupPlace { group, order: at.order, index: at.index };
    let event = match told {
        Told::Roster { at, epoch, roster } => Event::GroupEpoch {
            order: at.order,
            epoch: GroupEpoch { counter: epoch.counter, node: epoch.node },
            nodes: roster.nodes(),
        },
        Told::Message { at, group, from, to_node, bytes, len, .. } => {
            let text = bytes.get(..bytes.len().min(32)).unwrap_or_default();
            let text = core::str::from_utf8(text).ok().filter(|t| !t.chars().any(char::is_control));
            Event::GroupMessage {
                at: place(group, at),
                from: from.node,
                job: &from.name,
                to: *to_node,
                bytes: *len as u32,
                text: text.unwrap_or_default(),
            }
        }
        Told::Change { at, group, member, kind } => {
            let change = match kind {
                ChangeKind::Joined => "joined",
                ChangeKind::Left(reason) => reason.name(),
            };
            Event::GroupChange { at: place(group, at), member: member.node, job: &member.name, change }
        }
        Told::Denied { at, node, group, job, why } => {
            let change = format_cut::<40>(format_args!("denied: {}", why.name()));
            trace.event(Event::GroupChange { at: place(group, at), member: *node, job, change: &change });
            return;
        }
        Told::Protocol { at, group, participants, .. } => Event::AckRound {
            at: place(group, at),
            protocol: at.order,
            phase: "begins",
            round: 0,
            members: participants.len(),
        },
        Told::Round { at, group, protocol, round, gone, last } => Event::AckRound {
            at: place(group, at),
            protocol: protocol.order,
            phase: if *last { "last" } else { "through" },
            round: *round,
            members: gone.len(),
        },
        _ => return trace_merges_and_domains(told, trace, me),
    };
    trace.event(event);
}

fn trace_merges_and_domains(told: &Told<'_>, trace: &mut quorate_base::Trace<'_>, me: quorate_base::NodeId) {
    let place = |group, at: &quorate_groups::Position| GroupPlace { group, order: at.order, index: at.index };
    let merge = |at, merge, phase, from, number, gone| Event::Merge { at, merge, phase, from, number, gone };
    let nobody = quorate_base::NodeSet::EMPTY;
    match told {
        Told::MergeBegins { at, group, participants } => {
            trace.event(merge(place(group, at), at.order, "begins", None, participants.len(), 0));
        }
        Told::GroupData { at, group, merge: id, from, .. } => {
            let number = u32::from(from.subgroup);
            trace.event(merge(place(group, at), id.order, "data", Some(from.node), number, 0));
        }
        Told::MergeRound { at, group, merge: id, round, gone } => {
            trace.event(merge(place(group, at), id.order, "round", None, u32::from(*round), gone.len()));
        }
        Told::Merged { at, group, merge: id, data_messages } => {
            trace.event(merge(place(group, at), id.order, "done", None, u32::from(*data_messages), 0));
        }
        Told::Ask { at, by, ask } => {
            let (at, op) = (place(&ask.domain, at), ask.op.name());
            trace.event(Event::Domain { at, phase: "asked", op, by: *by, why: "", version: 0, nodes: nobody });
        }
        Told::Answer { at, by, what, refused, .. } => {
            let (at, op) = (place(&what.domain, at), what.op.name());
            let why = refused.map(|why| format_cut::<64>(format_args!("{why}"))).unwrap_or_default();
            let phase = if refused.is_some() { "refused" } else { "answered" };
            trace.event(Event::Domain { at, phase, op, by: *by, why: &why, version: 0, nodes: nobody });
        }
        Told::Copy { entry } => {
            let at = GroupPlace { group: &entry.name, order: entry.birth.order, index: entry.birth.index };
            let op = if entry.deleted { "delete" } else { "" };
            let (version, nodes) = (entry.version, entry.nodes);
            trace.event(Event::Domain { at, phase: "copy", op, by: me, why: "", version, nodes });
        }
        Told::CopiesDiffer { mine, .. } => {
            let text = format_cut::<96>(format_args!("copies of domain {} of equal age differ", mine.name));
            trace.event(Event::Note { what: &text });
        }
        Told::Slow { job, .. } => {
            let text = format_cut::<96>(format_args!("job {job} did not return within its deadline: put out"));
            trace.event(Event::Note { what: &text });
        }
        _ => {}
    }
}

/// Hears for the trace and posts for the engine.
pub(crate) struct Around<'a, 't> {
    pub live: &'a mut crate::live::Live,
    pub post: &'a mut dyn quorate_membership::Post,
    pub trace: &'a mut quorate_base::Trace<'t>,
}

impl quorate_groups::Post for Around<'_, '_> {
    fn post(&mut self, to: quorate_interconnect::Destination, payload: &[u8]) {
        self.live.post_group(to, payload, self.post, self.trace);
    }
}

impl Hear for Around<'_, '_> {
    fn hear(&mut self, told: &Told<'_>) {
        trace_told(told, self.trace, self.live.me);
    }
}
