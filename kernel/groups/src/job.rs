//! The jobs of this node, as the engine keeps them (ACK claims 1–26).
//!
//! ```text
//! asked ──Register delivered──▶ member ──Unregister or Out delivered, node put out──▶ gone
//!    └──denied──▶ gone
//! ```
//! A job's main thread hears everything at once ([`crate::told`]). For its work threads the engine keeps what they are to take:
//! messages in the store, membership changes here, protocol steps in the tables; so nothing is missed while one is busy, and
//! one that does not come back is seen by the time since which something lies there for it.

use heapless::{Deque, Vec};
use quorate_base::{Instant, NodeId};

use crate::capacity::{CHANGES_MAX, GROUP_DATA_MAX, JOBS_MAX, THREADS_MAX};
use crate::item::{MemberId, Name, Position, Reason};
use crate::member::Member;
use crate::told::{ChangeKind, Denied, Told};

/// A job of this node, until it is released.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct JobId {
    place: u8,
    /// Jobs that had the place before.
    generation: u32,
}

/// How a job stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum JobState {
    /// It asked to become a member.
    Asked,
    /// It is one.
    Member(MemberId),
    /// It is one, and asked to be none any more.
    Leaving(MemberId),
    /// It became none.
    Denied(Denied),
    /// It is none any more.
    Gone(Reason),
}

/// A membership change as work threads take it, in its place among the messages.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Change {
    /// Where in the order.
    pub at: Position,
    /// Who.
    pub member: MemberId,
    /// What.
    pub kind: ChangeKind,
}

/// What one work thread does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Thread {
    /// The step that lies there for it, and since when.
    pub step: Option<(Position, u16, Instant)>,
    /// The last step that it is through with.
    pub acked: Option<(Position, u16)>,
    /// The protocol that it takes no part in any more.
    pub done: Option<Position>,
}

/// A job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub id: JobId,
    pub group: Name,
    pub name: Name,
    pub of_domain: bool,
    pub state: JobState,
    /// 0: none.
    pub deadline_ms: u32,
    pub group_data: Vec<u8, GROUP_DATA_MAX>,
    /// Messages before this frame, and before this byte of it, are taken.
    pub cursor: (u64, usize),
    pub changes: Deque<Change, CHANGES_MAX>,
    /// It let too many gather.
    pub overrun: bool,
    /// Since when something lies there that it has not taken.
    pub unread_since: Option<Instant>,
    pub threads: [Thread; THREADS_MAX as usize],
    /// The last round of a merge that it acknowledged, and whether it sent its subgroup's data in that merge.
    pub merge: Option<(Position, u16)>,
    pub data_sent: Option<Position>,
    /// Word that it is out is on its way.
    pub out: bool,
}

impl Job {
    /// Its membership.
    pub fn member(&self) -> Option<MemberId> {
        match self.state {
            JobState::Member(id) | JobState::Leaving(id) => Some(id),
            _ => None,
        }
    }
}

/// All jobs of this node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jobs {
    pub list: Vec<Job, JOBS_MAX>,
    generation: u32,
}

impl Jobs {
    pub fn get(&self, id: JobId) -> Option<&Job> {
        self.list.iter().find(|j| j.id == id)
    }

    pub fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.list.iter_mut().find(|j| j.id == id)
    }

    /// The job that has that membership.
    pub fn of_member(&mut self, id: MemberId) -> Option<&mut Job> {
        self.list.iter_mut().find(|j| j.member() == Some(id))
    }

    /// A new one. `None` if there are `JOBS_MAX`.
    pub fn add(&mut self, group: &Name, name: &Name, of_domain: bool, deadline_ms: u32) -> Option<JobId> {
        let place = (0..JOBS_MAX as u8).find(|p| self.list.iter().all(|j| j.id.place != *p))?;
        self.generation = self.generation.wrapping_add(1);
        let id = JobId { place, generation: self.generation };
        let job = Job {
            id,
            group: group.clone(),
            name: name.clone(),
            of_domain,
            state: JobState::Asked,
            deadline_ms,
            group_data: Vec::new(),
            cursor: (0, 0),
            changes: Deque::new(),
            overrun: false,
            unread_since: None,
            threads: [Thread::default(); THREADS_MAX as usize],
            merge: None,
            data_sent: None,
            out: false,
        };
        self.list.push(job).ok().map(|()| id)
    }

    /// The main threads hear what was delivered, at once.
    pub fn hear(&mut self, me: NodeId, now: Instant, told: &Told<'_>) {
        match told {
            Told::Change { at, group, member, kind } => {
                self.on_change(me, *at, group, member, *kind);
                self.note_change(now, *at, group, member.id, *kind);
            }
            Told::Denied { node, group, job, why, .. } if *node == me => {
                let asked = |j: &&mut Job| j.state == JobState::Asked && j.group == **group && j.name == **job;
                if let Some(job) = self.list.iter_mut().find(asked) {
                    job.state = JobState::Denied(*why);
                }
            }
            Told::Answer { by, what, refused: Some(_), .. } if *by == me => {
                let asked = |j: &&mut Job| {
                    j.of_domain && j.state == JobState::Asked && j.group == what.domain && j.name == what.job
                };
                if matches!(what.op, crate::domain::DomainOp::Join)
                    && let Some(job) = self.list.iter_mut().find(asked)
                {
                    job.state = JobState::Denied(Denied::Domain);
                }
            }
            _ => {}
        }
    }

    fn on_change(&mut self, me: NodeId, at: Position, group: &Name, member: &Member, kind: ChangeKind) {
        match kind {
            ChangeKind::Joined if member.node == me => {
                let asked = |j: &&mut Job| j.state == JobState::Asked && j.group == *group && j.name == member.name;
                if let Some(job) = self.list.iter_mut().find(asked) {
                    job.state = JobState::Member(member.id);
                    // Messages of this very frame's stream come in later frames: a register item stands in a control frame.
                    job.cursor = (at.order + 1, 0);
                }
            }
            ChangeKind::Left(reason) => {
                if let Some(job) = self.of_member(member.id) {
                    job.state = JobState::Gone(reason);
                }
            }
            ChangeKind::Joined => {}
        }
    }

    fn note_change(&mut self, now: Instant, at: Position, group: &Name, member: MemberId, kind: ChangeKind) {
        for job in self.list.iter_mut().filter(|j| j.group == *group && j.member().is_some()) {
            if job.changes.push_back(Change { at, member, kind }).is_err() {
                job.overrun = true;
            }
            job.unread_since.get_or_insert(now);
        }
    }
}
