//! What a job's threads call.
//!
//! The main thread registers, hears, and signals faults; work threads take messages, do the steps of protocols, and send. No
//! call waits: what finds no room is refused, and may be tried again.

use core::fmt;

use heapless::Vec;
use quorate_base::Instant;

use crate::capacity::{GROUP_DATA_MAX, MESSAGE_MAX, PART_MAX, PROTOCOL_BYTES_MAX, THREADS_MAX};
use crate::domain::{DomainAsk, DomainOp};
use crate::engine::{Context, Engine};
use crate::item::{Item, Items, MemberId, Name, Position, Reason, Stream};
use crate::job::{Change, JobId, JobState};
use crate::member::{MemberSet, SUBGROUPS_MAX};
use crate::outbox::{Full, Put};

/// Why a call has no effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallError {
    /// No such job, or it is no member (yet, or any more).
    NoMember,
    /// There are `JOBS_MAX` jobs, or one of that name is registered in that group.
    Jobs,
    /// No room in the stream: members have not taken what was sent before. To be tried again.
    Full,
    /// Longer than allowed, in bytes.
    TooLong {
        /// The most that is allowed.
        max: usize,
    },
    /// A name is empty, or a number out of its bounds.
    Value,
    /// There is nothing of that kind to acknowledge.
    NothingDue,
    /// This node leaves.
    Leaving,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMember => f.write_str("no member"),
            Self::Jobs => f.write_str("no room for a job of that name"),
            Self::Full => f.write_str("no room: members have not taken what was sent before"),
            Self::TooLong { max } => write!(f, "longer than {max} bytes"),
            Self::Value => f.write_str("a name is empty, or a number out of its bounds"),
            Self::NothingDue => f.write_str("nothing to acknowledge"),
            Self::Leaving => f.write_str("this node leaves"),
        }
    }
}

impl core::error::Error for CallError {}

impl From<Full> for CallError {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

/// How a job registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registration<'a> {
    /// To become a member of this group.
    pub group: &'a str,
    /// Under this name.
    pub job: &'a str,
    /// Coming with this subgroup, `0..SUBGROUPS_MAX`.
    pub subgroup: u8,
    /// A work thread that does not return within so many ms puts the job out; 0: never.
    pub deadline_ms: u32,
    /// By the Join_Member interface of the domain of the group's name.
    pub of_domain: bool,
}

/// The local work between two ACK rounds that a work thread is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkStep {
    /// Of which protocol.
    pub protocol: Position,
    /// Before which round, from 0.
    pub round: u16,
    /// Who started it.
    pub by: MemberId,
    /// Members that went during the round before.
    pub gone: MemberSet,
    /// What the protocol was started with.
    pub bytes: Vec<u8, PROTOCOL_BYTES_MAX>,
}

/// The next message for a job.
struct NextMessage {
    /// The place of the frame in which it begins.
    begins: u64,
    from: MemberId,
    /// It is for this job alone.
    private: bool,
    /// Its last frame, and where in that it ends; `None`: not all of it is there yet.
    end: Option<(u64, usize)>,
}

/// What a work thread takes next, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// A message; its bytes are in the buffer.
    Message {
        /// From whom.
        from: MemberId,
        /// The place of the frame in which it begins.
        order: u64,
        /// To this job alone.
        private: bool,
    },
    /// A membership change.
    Change(Change),
}

impl Engine {
    /// A job registers to become a member of a group (ACK claim 7). It is one once [`Engine::job`] says so.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn register(&mut self, r: &Registration<'_>, ctx: &mut Context<'_>) -> Result<JobId, CallError> {
        if self.draining {
            return Err(CallError::Leaving);
        }
        let name = |text: &str| Name::try_from(text).ok().filter(|n| !n.is_empty()).ok_or(CallError::Value);
        let (group, job) = (name(r.group)?, name(r.job)?);
        let alive = |s: JobState| !matches!(s, JobState::Denied(_) | JobState::Gone(_));
        if r.subgroup >= SUBGROUPS_MAX {
            return Err(CallError::Value);
        }
        if self.jobs.list.iter().any(|j| j.group == group && j.name == job && alive(j.state)) {
            return Err(CallError::Jobs);
        }
        if self.out.is_full(Stream::CONTROL) {
            return Err(CallError::Full);
        }
        let id = self.jobs.add(&group, &job, r.of_domain, r.deadline_ms).ok_or(CallError::Jobs)?;
        let asked = if r.of_domain {
            self.out.push(Stream::CONTROL, &Item::Ask(DomainAsk { op: DomainOp::Join, domain: group, job }))
        } else {
            self.out.push(Stream::CONTROL, &Item::Register { group, job, subgroup: r.subgroup })
        };
        if asked.is_err() {
            self.jobs.list.retain(|j| j.id != id);
            return Err(CallError::Full);
        }
        self.turn(ctx);
        Ok(id)
    }

    /// How a job stands.
    pub fn job(&self, id: JobId) -> Option<JobState> {
        self.jobs.get(id).map(|j| j.state)
    }

    /// All jobs of this node: which, in which group, under which name, how it stands, and since when its work threads owe
    /// something.
    pub fn jobs(&self) -> impl Iterator<Item = (JobId, &Name, &Name, JobState, Option<Instant>)> + '_ {
        self.jobs.list.iter().map(|j| (j.id, &j.group, &j.name, j.state, crate::react::waits_since(j)))
    }

    /// A job that is gone or was denied has been seen to: its place is free.
    pub fn release(&mut self, id: JobId) {
        self.jobs.list.retain(|j| j.id != id || !matches!(j.state, JobState::Denied(_) | JobState::Gone(_)));
    }

    fn member(&self, id: JobId) -> Result<(MemberId, Stream), CallError> {
        let job = self.jobs.get(id).ok_or(CallError::NoMember)?;
        let JobState::Member(member) = job.state else { return Err(CallError::NoMember) };
        let slot = self.tables.member(member).ok_or(CallError::NoMember)?.slot;
        Ok((member, Stream::of_group(slot)))
    }

    /// Leaves the group once all that it sent is delivered.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn unregister(&mut self, id: JobId, ctx: &mut Context<'_>) -> Result<(), CallError> {
        let (member, _) = self.member(id)?;
        if !self.ask_to_leave(member) {
            return Err(CallError::Full);
        }
        self.turn(ctx);
        Ok(())
    }

    /// The main thread signals that a work thread failed: the job is unregistered at once, and the engine tells the group
    /// (ACK claims 1, 5, 6).
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn fault(&mut self, id: JobId, number: u16, ctx: &mut Context<'_>) -> Result<(), CallError> {
        let member = self.jobs.get(id).and_then(|j| j.member()).ok_or(CallError::NoMember)?;
        if !self.put_out(id, member, Reason::Fault(number)) {
            return Err(CallError::Full);
        }
        self.turn(ctx);
        Ok(())
    }

    /// Sends a message to the group, or to one member of it: a reply.
    ///
    /// # Errors
    /// See [`CallError`]; with [`CallError::Full`] nothing was taken.
    pub fn send(
        &mut self,
        id: JobId,
        to: Option<MemberId>,
        bytes: &[u8],
        ctx: &mut Context<'_>,
    ) -> Result<(), CallError> {
        let (member, stream) = self.member(id)?;
        if bytes.len() > MESSAGE_MAX {
            return Err(CallError::TooLong { max: MESSAGE_MAX });
        }
        if bytes.len() > PART_MAX {
            self.out.push_parts(stream, member, to, bytes)?;
        } else if self.out.push(stream, &Item::Data { member, to, bytes })? == Put::Joined {
            // The frame that it stands in waits for more.
            return Ok(());
        }
        self.turn(ctx);
        Ok(())
    }

    /// Whether a message of so many bytes would be taken now for certain: whoever is to send a long one need not put it together
    /// in vain. A short one may be taken even if this is false, in the frame that waits for more.
    pub fn has_room(&self, id: JobId, bytes: usize) -> bool {
        self.member(id).is_ok_and(|(_, stream)| self.out.has_room_for(stream, bytes))
    }

    /// Starts a protocol that one work thread of every member runs.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn start(&mut self, id: JobId, thread: u8, bytes: &[u8], ctx: &mut Context<'_>) -> Result<(), CallError> {
        let (member, _) = self.member(id)?;
        if bytes.len() > PROTOCOL_BYTES_MAX {
            return Err(CallError::TooLong { max: PROTOCOL_BYTES_MAX });
        }
        if thread >= THREADS_MAX {
            return Err(CallError::Value);
        }
        self.out.push(Stream::CONTROL, &Item::Start { member, thread, bytes })?;
        self.turn(ctx);
        Ok(())
    }

    /// The step that a work thread is to do now. The same until it is acknowledged.
    pub fn step(&self, id: JobId, thread: u8) -> Option<WorkStep> {
        let (protocol, round) = self.step_of(id, thread)?;
        let p = self.tables.protocols.iter().find(|p| p.id == protocol)?;
        Some(WorkStep { protocol, round, by: p.by, gone: p.gone_before, bytes: p.bytes.clone() })
    }

    /// The ACK round: the work thread is through with its step. The next one is there once every member that takes part has
    /// acknowledged or is none any more. `done`: this member takes no part in further rounds.
    ///
    /// # Errors
    /// [`CallError::NothingDue`] if there is no step; see [`CallError`].
    pub fn ack_round(&mut self, id: JobId, thread: u8, done: bool, ctx: &mut Context<'_>) -> Result<(), CallError> {
        let member = self.jobs.get(id).and_then(|j| j.member()).ok_or(CallError::NoMember)?;
        let (protocol, round) = self.step_of(id, thread).ok_or(CallError::NothingDue)?;
        self.out.push(Stream::CONTROL, &Item::Ack { member, protocol, round, done })?;
        if let Some(t) = self.jobs.get_mut(id).and_then(|j| j.threads.get_mut(usize::from(thread))) {
            t.acked = Some((protocol, round));
            if done {
                t.done = Some(protocol);
            }
        }
        self.turn(ctx);
        Ok(())
    }

    /// The data that this member sends for its subgroup if it leads it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn set_group_data(&mut self, id: JobId, bytes: &[u8]) -> Result<(), CallError> {
        let job = self.jobs.get_mut(id).ok_or(CallError::NoMember)?;
        job.group_data = Vec::from_slice(bytes).map_err(|_| CallError::TooLong { max: GROUP_DATA_MAX })?;
        Ok(())
    }

    /// Asks for a merge of the group's subgroups (SUB claim 1).
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn merge(&mut self, id: JobId, ctx: &mut Context<'_>) -> Result<(), CallError> {
        let (member, _) = self.member(id)?;
        self.out.push(Stream::CONTROL, &Item::MergeRequest { member })?;
        self.turn(ctx);
        Ok(())
    }

    /// Invokes an interface of a domain. Join_Member goes by [`Engine::register`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn ask(&mut self, op: DomainOp, domain: &str, ctx: &mut Context<'_>) -> Result<(), CallError> {
        let domain = Name::try_from(domain).ok().filter(|n| !n.is_empty()).ok_or(CallError::Value)?;
        if op == DomainOp::Join {
            return Err(CallError::Value);
        }
        self.out.push(Stream::CONTROL, &Item::Ask(DomainAsk { op, domain, job: Name::new() }))?;
        self.turn(ctx);
        Ok(())
    }

    /// A work thread takes the next message or change, if there is one. It lies there until it is taken, however long a thread
    /// is busy; meanwhile the group's senders are slowed, and nobody else.
    pub fn take(&mut self, id: JobId, out: &mut Vec<u8, MESSAGE_MAX>, ctx: &mut Context<'_>) -> Option<Taken> {
        let next = self.next_message(id);
        let begins = next.as_ref().map(|n| n.begins);
        let taken = if self.change_is_next(id, next.as_ref()) {
            self.jobs.get_mut(id)?.changes.pop_front().map(Taken::Change)
        } else {
            let NextMessage { begins, from, private, end } = next?;
            let end = end?;
            self.copy_message(id, begins, from, end, out)?;
            if let Some(job) = self.jobs.get_mut(id) {
                job.cursor = end;
            }
            Some(Taken::Message { from, order: begins, private })
        };
        let next = self.next_message(id);
        let more = next.as_ref().is_some_and(|n| n.end.is_some()) || self.change_is_next(id, next.as_ref());
        if let Some(job) = self.jobs.get_mut(id) {
            job.unread_since = more.then_some(ctx.now);
        }
        // While the frame has more for this job nothing changes for anybody else.
        if next.map(|n| n.begins) != begins {
            self.drop_taken(None);
            self.turn(ctx);
        }
        taken
    }

    /// Whether there is something to take.
    pub fn has_next(&self, id: JobId) -> bool {
        let next = self.next_message(id);
        next.as_ref().is_some_and(|n| n.end.is_some()) || self.change_is_next(id, next.as_ref())
    }

    /// Whether a change stands before the next message. What happens between the parts of a message comes after it.
    fn change_is_next(&self, id: JobId, next: Option<&NextMessage>) -> bool {
        let change = self.jobs.get(id).and_then(|j| j.changes.front()).map(|c| c.at.order);
        change.is_some_and(|change| next.is_none_or(|next| change < next.begins))
    }

    /// The next message for a job.
    fn next_message(&self, id: JobId) -> Option<NextMessage> {
        let job = self.jobs.get(id)?;
        let member = job.member()?;
        let slot = self.tables.member(member)?.slot;
        let (from, at) = job.cursor;
        // A message in parts that has begun.
        let mut open: Option<NextMessage> = None;
        let frames = self.store.iter_from(from).take_while(|f| f.order <= self.tables.order);
        for f in frames.filter(|f| f.stream.slot() == Some(slot)) {
            let start = if f.order == from { at } else { 0 };
            for (range, item) in Items::from(&f.body, start) {
                let (sender, to, part) = match item {
                    Item::Data { member, to, .. } => (member, to, None),
                    Item::Part { member, to, offset, more, .. } => (member, to, Some((offset, more))),
                    _ => continue,
                };
                if to.is_some_and(|to| to != member) {
                    continue;
                }
                let end = Some((f.order, range.end));
                let whole = NextMessage { begins: f.order, from: sender, private: to.is_some(), end };
                match (part, &mut open) {
                    (None, _) | (Some((0, false)), _) => return Some(whole),
                    (Some((0, true)), open) => *open = Some(NextMessage { end: None, ..whole }),
                    (Some((_, more)), Some(begun)) if begun.from == sender => {
                        if !more {
                            return Some(NextMessage { begins: begun.begins, ..whole });
                        }
                    }
                    // Its beginning was before this member's time.
                    (Some(_), open) => *open = None,
                }
            }
        }
        // Whose sender is no member any more is never finished.
        let partial = self.tables.partial.get(usize::from(slot)).and_then(Option::as_ref);
        open.filter(|begun| partial.is_some_and(|p| p.member == begun.from))
    }

    fn copy_message(
        &self,
        id: JobId,
        begins: u64,
        from: MemberId,
        (last, end): (u64, usize),
        out: &mut Vec<u8, MESSAGE_MAX>,
    ) -> Option<()> {
        let job = self.jobs.get(id)?;
        let slot = self.tables.member(job.member()?)?.slot;
        out.clear();
        let frames = self.store.iter_from(begins).take_while(|f| f.order <= last);
        for f in frames.filter(|f| f.stream.slot() == Some(slot)) {
            let start = if job.cursor.0 == f.order { job.cursor.1 } else { 0 };
            for (range, item) in Items::from(&f.body, start) {
                match item {
                    Item::Part { member, offset, bytes, .. } if member == from => {
                        // One that began before and was not finished does not count.
                        out.truncate(usize::from(offset));
                        out.extend_from_slice(bytes).ok()?;
                    }
                    Item::Data { bytes, .. } if (f.order, range.end) == (last, end) => {
                        out.clear();
                        out.extend_from_slice(bytes).ok()?;
                    }
                    _ => {}
                }
                if (f.order, range.end) == (last, end) {
                    return Some(());
                }
            }
        }
        None
    }

    /// Drops the delivered frames that no job of this node is to take any more. `unread`: the time, if there may be new ones,
    /// to be marked as that since when they lie there.
    pub(crate) fn drop_taken(&mut self, unread: Option<Instant>) {
        // Per job of a group: its group's slot, and the first frame that it still needs.
        let mut needs: Vec<(u8, u64), { crate::capacity::JOBS_MAX }> = Vec::new();
        for at in 0..self.jobs.list.len() {
            let Some(job) = self.jobs.list.get(at) else { break };
            let slot = job.member().and_then(|m| self.tables.member(m)).map(|m| m.slot);
            let (Some(slot), Some(next)) = (slot, self.next_message(job.id)) else { continue };
            // One per job.
            let _ = needs.push((slot, next.begins));
            if let Some(job) = self.jobs.list.get_mut(at).filter(|_| next.end.is_some()) {
                job.unread_since = job.unread_since.or(unread);
            }
        }
        let applied = self.tables.order;
        self.store.retain(|f| {
            f.order > applied
                || f.stream.slot().is_some_and(|slot| needs.iter().any(|(s, order)| *s == slot && f.order >= *order))
        });
    }
}
