//! What this node's jobs and copies owe to what runs in the tables: acknowledgements of merges, group data, votes, written
//! copies; and what becomes of jobs that do not come back.
//!
//! All of it follows from the tables alone, so that it is the same after any repetition, and no call has to remember to do it.

use quorate_base::Instant;

use crate::capacity::{REPEAT_US, THREADS_MAX};
use crate::domain::{AskPhase, DomainOp, Pending, Verdict, changed, verdict};
use crate::engine::{Context, Engine};
use crate::item::{Item, MemberId, Position, Reason, Stream};
use crate::job::{JobId, JobState};
use crate::told::{Hear, Told};
use quorate_database::DomainEntry;

impl Engine {
    /// Does what is owed.
    pub(crate) fn react(&mut self, ctx: &mut Context<'_>) {
        if self.fresh {
            return;
        }
        if self.draining {
            self.unregister_all();
        }
        self.put_out_overrun();
        self.see_steps(ctx.now);
        self.serve_merges();
        self.copies.load();
        if self.copies.is_loaded() {
            if self.announce && self.out.push(Stream::CONTROL, &Item::AskCopies).is_ok() {
                self.announce = false;
                self.copies.tell_all();
            }
            self.serve_asks(ctx);
            self.tell_copies();
        }
    }

    fn unregister_all(&mut self) {
        for at in 0..self.jobs.list.len() {
            let Some(job) = self.jobs.list.get(at) else { break };
            if let JobState::Member(id) = job.state {
                self.ask_to_leave(id);
            }
        }
    }

    pub(crate) fn ask_to_leave(&mut self, id: MemberId) -> bool {
        let Some(slot) = self.tables.member(id).map(|m| m.slot) else { return false };
        let asked = self.out.push(Stream::of_group(slot), &Item::Unregister { member: id }).is_ok();
        if let Some(job) = self.jobs.of_member(id).filter(|_| asked) {
            job.state = JobState::Leaving(id);
        }
        asked
    }

    fn put_out_overrun(&mut self) {
        let overrun = |j: &&crate::job::Job| j.overrun && !j.out;
        let Some((id, member)) = self.jobs.list.iter().find(overrun).and_then(|j| Some((j.id, j.member()?))) else {
            return;
        };
        self.put_out(id, member, Reason::Overrun);
    }

    /// Word goes out that a member is none any more (ACK claims 5 and 6).
    pub(crate) fn put_out(&mut self, id: JobId, member: MemberId, reason: Reason) -> bool {
        let taken = self.out.push(Stream::CONTROL, &Item::Out { member, reason }).is_ok();
        if let Some(job) = self.jobs.get_mut(id).filter(|_| taken) {
            job.out = true;
        }
        taken
    }

    /// Marks since when a step lies there for each work thread.
    fn see_steps(&mut self, now: Instant) {
        for at in 0..self.jobs.list.len() {
            for thread in 0..THREADS_MAX {
                let Some(id) = self.jobs.list.get(at).map(|j| j.id) else { return };
                let next = self.step_of(id, thread);
                if let Some(t) = self.jobs.list.get_mut(at).and_then(|j| j.threads.get_mut(usize::from(thread))) {
                    t.step = match (next, t.step) {
                        (Some((p, round)), Some(seen)) if (seen.0, seen.1) == (p, round) => Some(seen),
                        (Some((p, round)), _) => Some((p, round, now)),
                        (None, _) => None,
                    };
                }
            }
        }
    }

    /// The protocol and round that a work thread is to do its local work for.
    pub(crate) fn step_of(&self, id: JobId, thread: u8) -> Option<(Position, u16)> {
        let job = self.jobs.get(id)?;
        let member = job.member()?;
        let slot = self.tables.member(member)?.slot;
        let state = job.threads.get(usize::from(thread))?;
        let ours = |p: &&crate::ack::Protocol| {
            p.slot == slot
                && p.thread == thread
                && p.participants.contains(member.place)
                && p.id.order >= member.since
                && state.done != Some(p.id)
        };
        let p = self.tables.protocols.iter().find(ours)?;
        let due = p.awaiting.contains(member.place) && state.acked != Some((p.id, p.round));
        due.then_some((p.id, p.round))
    }

    /// SUB claims 1 to 7: in each round of a merge a leader whose subgroup's indicator is not set sends the group data; then,
    /// leader or not, the member acknowledges.
    fn serve_merges(&mut self) {
        for at in 0..self.tables.merges.len() {
            let Some(merge) = self.tables.merges.get(at).cloned() else { break };
            for member in self.tables.members_of(merge.slot) {
                let Some(job) = self.jobs.list.iter_mut().find(|j| j.member() == Some(member.id)) else { continue };
                if !merge.awaiting.contains(member.id.place) || job.merge == Some((merge.id, merge.round)) {
                    continue;
                }
                let sends =
                    merge.is_leader(member, self.tables.members_of(merge.slot)) && !merge.is_sent(member.subgroup);
                let (member, id) = (member.id, merge.id);
                if sends && job.data_sent != Some(id) {
                    let data = Item::GroupData { member, merge: id, bytes: &job.group_data };
                    if self.out.push(Stream::CONTROL, &data).is_err() {
                        return;
                    }
                    job.data_sent = Some(id);
                }
                let ack = Item::MergeAck { member, merge: id, round: merge.round };
                if self.out.push(Stream::CONTROL, &ack).is_err() {
                    return;
                }
                job.merge = Some((id, merge.round));
            }
        }
    }

    fn serve_asks(&mut self, ctx: &mut Context<'_>) {
        let asks = &self.tables.asks;
        self.voted.retain(|(id, _)| asks.iter().any(|p| p.id == *id));
        self.changed.retain(|id| asks.iter().any(|p| p.id == *id));
        self.copied.retain(|id| asks.iter().any(|p| p.id == *id));
        for at in 0..self.tables.asks.len() {
            let Some(pending) = self.tables.asks.get(at).cloned() else { break };
            if pending.phase == AskPhase::Writing {
                self.change_copy(&pending, ctx.outside);
            }
            if pending.awaiting.contains(self.me) && !self.voted.contains(&(pending.id, pending.phase)) {
                self.vote(&pending);
            }
        }
    }

    fn vote(&mut self, pending: &Pending) {
        let own = self.copies.get(&pending.ask.domain);
        let say = match pending.phase {
            AskPhase::Voting => verdict(own, self.me, pending.by, &pending.ask, self.copies.is_full()),
            AskPhase::Writing => {
                let is_new = matches!(pending.ask.op, DomainOp::Add(n) if n == self.me);
                let shows = own.is_some_and(|e| Some((e.birth, e.version)) >= pending.copy);
                // It kept its copy for others, and they all know by now: it has nothing to tell whoever is added.
                let is_gone = own.is_none() && !is_new && pending.holders.contains(self.me);
                if is_gone && matches!(pending.ask.op, DomainOp::Add(_)) {
                    return self.cast(pending, Verdict::NoCopy);
                }
                if !self.copies.is_durable() || (is_new && !shows) {
                    return;
                }
                Verdict::Written
            }
        };
        self.cast(pending, say);
    }

    fn cast(&mut self, pending: &Pending, say: Verdict) {
        if self.out.push(Stream::CONTROL, &Item::Vote { ask: pending.id, verdict: say }).is_ok() {
            // At most two for each request.
            let _ = self.voted.push((pending.id, pending.phase));
        }
    }

    /// A request was granted: this node's copy changes as every other does.
    fn change_copy(&mut self, pending: &Pending, hear: &mut dyn Hear) {
        if self.changed.contains(&pending.id) || pending.ask.op == DomainOp::Join {
            return;
        }
        // At most one for each request.
        let _ = self.changed.push(pending.id);
        let name = &pending.ask.domain;
        if let DomainOp::Create(nodes) = pending.ask.op {
            if nodes.contains(self.me) {
                let entry = DomainEntry {
                    name: name.clone(),
                    birth: pending.birth(),
                    version: 1,
                    nodes,
                    behind: nodes.minus(pending.told),
                    deleted: false,
                };
                self.copies.put(entry, hear);
            }
            return;
        }
        // Also a node that came since the request was made, if its copy is as old as theirs.
        let Some(own) = self.copies.get(name) else { return };
        let entry = changed(own, pending.by, pending.ask.op, pending.told);
        if Some((entry.birth, entry.version)) == pending.copy {
            // Who came back since the request was made had no vote: it is told by all, because each may be the last.
            let late = own.nodes.and(self.tables.roster.nodes()).minus(pending.told);
            let name = name.clone();
            self.copies.put(entry, hear);
            if !late.is_empty() {
                self.copies.tell(&name);
            }
        }
    }

    /// DOM claim 11: the list is replicated to the new node, by the lowest of those that have it.
    fn tell_copies(&mut self) {
        for pending in self.tables.asks.iter().filter(|p| p.phase == AskPhase::Writing) {
            if let DomainOp::Add(node) = pending.ask.op
                && pending.awaiting.contains(node)
                && pending.holders.and(self.tables.roster.nodes()).without(node).lowest() == Some(self.me)
                && !self.copied.contains(&pending.id)
            {
                self.copies.tell(&pending.ask.domain);
                // At most one for each request.
                let _ = self.copied.push(pending.id);
            }
        }
        while let Some(entry) = self.copies.next_to_tell() {
            let name = entry.name.clone();
            if self.out.push(Stream::CONTROL, &Item::Copy(entry)).is_err() {
                return;
            }
            self.copies.told(&name);
        }
    }

    /// Puts out the jobs whose work threads did not come back in time.
    pub(crate) fn check_deadlines(&mut self, ctx: &mut Context<'_>) {
        for at in 0..self.jobs.list.len() {
            let Some(job) = self.jobs.list.get(at) else { break };
            let (Some(member), false) = (job.member(), job.out) else { continue };
            let overdue =
                waits_since(job).is_some_and(|since| job.deadline_ms > 0 && ctx.now >= since.plus_ms(job.deadline_ms));
            let (id, name) = (job.id, job.name.clone());
            if overdue {
                if self.put_out(id, member, Reason::Deadline) {
                    self.tell(&Told::Slow { job: &name, out: true }, ctx);
                } else {
                    self.deadlines_at = ctx.now.plus_us(REPEAT_US);
                }
            }
        }
    }

    /// When the next deadline is over, or word of one that is has another chance.
    pub(crate) fn deadline(&self) -> Instant {
        let due = |j: &crate::job::Job| {
            let since = waits_since(j).filter(|_| j.deadline_ms > 0 && !j.out && j.member().is_some());
            since.map_or(Instant::FAR, |since| since.plus_ms(j.deadline_ms))
        };
        self.jobs.list.iter().map(due).min().unwrap_or(Instant::FAR).max(self.deadlines_at)
    }
}

/// Since when the longest thing lies there that a job's work threads have not taken or finished.
pub(crate) fn waits_since(job: &crate::job::Job) -> Option<Instant> {
    let steps = job.threads.iter().filter_map(|t| t.step.map(|(_, _, since)| since)).min();
    [steps, job.unread_since].into_iter().flatten().min()
}
