//! The machine: its state, its inputs and outputs, and what is done next.

use heapless::Vec;
use quorate_base::capacity::NODES_MAX;
use quorate_base::{
    Ballot, BootNonce, ClusterId, DiskOp, DiskTag, HaltReason, Incarnation, Instant, NodeId, ReservationOp, Timing,
    Trace, View, ViewName,
};
use quorate_database::{BallotBlock, Blanks, Flag};

use crate::api::{Config, Counters, DiskGeometry, Input, LockEvent, Output, ProposeError, Status};
use crate::ballot::Phase;
use crate::cycle::{Look, Purpose, Scan, Step};
use crate::gate::Gate;
use crate::identity::Guarded;
use crate::lease::Lease;
use crate::peer::Peer;
use crate::registration::Registration;
use crate::rules::{Rule, Rules};
use crate::trust::Marks;

/// How many tags from `first_tag` on the machine uses. One request is under way at a time; the rest makes a late
/// completion of an older one recognisable.
pub const TAGS: u32 = 256;

/// Events between two drains. One input makes fewer than half as many.
const EVENTS_MAX: usize = 16;

/// Whether the last heartbeat is to be written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Farewell {
    /// No.
    No,
    /// By the next beat. A heartbeat that is under way when it is asked for is not the last.
    Asked,
    /// Whatever heartbeat is under way or follows is the last.
    Writing,
}

/// This node's traffic with the state area of the membership database. See the crate's page.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MasterLock {
    // Who.
    pub(crate) me: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) nonce: BootNonce,
    pub(crate) cluster: ClusterId,
    pub(crate) nodes: u8,
    pub(crate) timing: Timing,
    pub(crate) blanks: Blanks,
    pub(crate) geometry: DiskGeometry,
    pub(crate) rules: Rules,
    first_tag: u32,
    // The one request that is under way, and when the next one is due.
    pub(crate) step: Step,
    pub(crate) tag: u32,
    pub(crate) issued: Instant,
    pub(crate) next_beat: Instant,
    pub(crate) kick: bool,
    pub(crate) not_before: Instant,
    pub(crate) wake: Instant,
    pub(crate) hurry: u8,
    // What the disk showed.
    pub(crate) peers: [Peer; NODES_MAX],
    pub(crate) scan: Scan,
    pub(crate) last_scan: Instant,
    pub(crate) look: Look,
    pub(crate) marks: Marks,
    pub(crate) highest: Ballot,
    // This node's own blocks.
    pub(crate) birth: Birth,
    /// The identity, and whether it is to be read once more.
    pub(crate) identity: Option<Guarded>,
    pub(crate) counter: u64,
    pub(crate) flag: Flag,
    pub(crate) heartbeat_issued: Option<Instant>,
    pub(crate) heartbeat_doubt: bool,
    /// The counter of the last heartbeat that the disk took.
    pub(crate) counter_taken: u64,
    /// Its heartbeat block holds what it did not write since; [`Instant::FAR`]: it does not.
    pub(crate) own_damaged_since: Instant,
    pub(crate) own: BallotBlock,
    pub(crate) own_slot: u8,
    pub(crate) own_known: bool,
    pub(crate) own_stale: bool,
    /// A read showed what was written last: it stands, and a view in it may be committed.
    pub(crate) own_seen: bool,
    /// The last reads showed a record of another cluster: nothing is written there.
    pub(crate) foreign: bool,
    pub(crate) quarantine: Option<Instant>,
    // The lock.
    pub(crate) phase: Phase,
    pub(crate) want: bool,
    pub(crate) releasing: bool,
    pub(crate) farewell: Farewell,
    pub(crate) proposal: Option<View>,
    pub(crate) lease: Lease,
    pub(crate) status: Status,
    pub(crate) committed: ViewName,
    pub(crate) view: View,
    pub(crate) unjudged: bool,
    /// A committed view let this node go right after one in which it was leaving.
    pub(crate) let_go: bool,
    // The reservation, if the cluster fences by it.
    pub(crate) registration: Option<Registration>,
    pub(crate) gate: Gate,
    /// How often the gate or the registration turned: what a scan shows counts for where it began.
    pub(crate) gate_turns: u32,
    pub(crate) command: Option<ReservationOp>,
    // Out.
    request: Option<(DiskTag, DiskOp)>,
    events: Vec<LockEvent, EVENTS_MAX>,
    halt: Option<HaltReason>,
    pub(crate) ended: bool,
    pub(crate) counters: Counters,
}

/// What the first beat may find in this node's own heartbeat block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Birth {
    /// The old life's nonce, if its heartbeat was valid.
    pub nonce: Option<BootNonce>,
    /// The old life.
    pub incarnation: Option<Incarnation>,
    /// Birth could not read it.
    pub unknown: bool,
}

impl MasterLock {
    /// For a new life of this node. The first beat begins with the first [`Input::Tick`].
    pub fn new(config: Config, now: Instant) -> Self {
        let Config { me, incarnation, nonce, cluster, nodes, timing, first_tag, blanks, own, geometry } = config;
        let old = own.heartbeat.good();
        let highest = own.ballots.iter().filter_map(|b| b.good()).map(|b| b.promised).max().unwrap_or(Ballot::NONE);
        Self {
            me,
            incarnation,
            nonce,
            cluster,
            nodes: nodes.min(NODES_MAX as u8),
            timing,
            blanks,
            geometry,
            rules: Rules::ALL,
            first_tag,
            step: Step::Idle,
            tag: 0,
            issued: now,
            next_beat: now,
            kick: true,
            not_before: now,
            wake: Instant::FAR,
            hurry: 0,
            peers: [Peer::UNREAD; NODES_MAX],
            scan: Scan::default(),
            last_scan: now,
            look: Look::default(),
            marks: Marks::default(),
            highest,
            birth: Birth {
                nonce: old.map(|h| h.nonce),
                incarnation: old.map(|h| h.incarnation),
                unknown: own.heartbeat.is_unknown(),
            },
            identity: None,
            counter: 0,
            flag: Flag::None,
            heartbeat_issued: None,
            heartbeat_doubt: false,
            counter_taken: 0,
            own_damaged_since: Instant::FAR,
            own: BallotBlock::default(),
            own_slot: 1,
            own_known: false,
            own_stale: false,
            own_seen: false,
            foreign: false,
            quarantine: if own.clean { None } else { Some(now.plus_ms(timing.dead)) },
            phase: Phase::Idle,
            want: false,
            releasing: false,
            farewell: Farewell::No,
            proposal: None,
            lease: Lease::NONE,
            status: Status::default(),
            committed: ViewName::default(),
            view: View::EMPTY,
            unjudged: false,
            let_go: false,
            registration: None,
            gate: Gate::Open,
            gate_turns: 0,
            command: None,
            request: None,
            events: Vec::new(),
            halt: None,
            ended: false,
            counters: Counters::default(),
        }
    }

    /// Takes one input. Outputs are drained by [`poll_output`](Self::poll_output) before the next call.
    pub fn handle(&mut self, now: Instant, input: Input<'_>, trace: &mut Trace<'_>) {
        if self.ended {
            return;
        }
        self.notice_stall(now);
        self.notice_freeze(now, trace);
        if self.unjudged {
            self.judge_exclusion(now);
        }
        if !self.ended {
            self.notice_higher_ballot(trace);
        }
        if self.ended {
            return;
        }
        match input {
            Input::Disk { tag, result } if tag == self.current_tag() && self.step != Step::Idle => {
                self.completed(now, result, trace);
                // A lease that was given so late that it is over already.
                self.notice_freeze(now, trace);
            }
            Input::Reservation(result) => self.reservation_answered(now, result, trace),
            Input::Disk { .. } | Input::Tick => {}
        }
        if self.ended {
            return;
        }
        if self.step == Step::Idle {
            self.begin_next(now, trace);
        }
        self.poll_registration(now);
    }

    /// The next output, if any. Requests come last, so that what led to them is known first.
    pub fn poll_output(&mut self) -> Option<Output> {
        if !self.events.is_empty() {
            return Some(Output::Event(self.events.remove(0)));
        }
        if let Some(op) = self.take_command() {
            return Some(Output::Reservation(op));
        }
        if let Some(reason) = self.halt.take() {
            return Some(Output::Halt(reason));
        }
        self.request.take().map(|(tag, op)| Output::Disk { tag, op })
    }

    /// When [`Input::Tick`] is due; [`Instant::FAR`] if only a completion can go on.
    pub fn poll_timeout(&self) -> Instant {
        if self.ended {
            return Instant::FAR;
        }
        let end = if self.lease.had { Some(self.lease.until) } else { self.lease.owed };
        let freeze = end.filter(|_| !self.lease.frozen).unwrap_or(Instant::FAR).min(self.registration_due());
        if self.step != Step::Idle {
            return freeze;
        }
        if self.kick {
            return Instant::ZERO;
        }
        freeze.min(self.next_beat).min(self.wake)
    }

    /// What the next heartbeats say about this node.
    pub fn set_status(&mut self, status: Status) {
        self.status = status;
    }

    /// Whether this node may want the lock. Membership decides: joined; joining only if no joined node is alive; inside
    /// the set that the reach sets leave. Taking the wish back while master gives the lock back.
    pub fn contend(&mut self, want: bool) {
        if self.want == want {
            return;
        }
        self.want = want;
        match self.phase {
            Phase::Idle if !want && self.flag == Flag::None => {}
            Phase::Master { .. } if !want => self.begin_release(),
            _ => self.beat_soon(),
        }
    }

    // The next heartbeat is to say something new. The one of a beat that has just begun is soon enough.
    fn beat_soon(&mut self) {
        let beginning = self.step == Step::Scan && self.scan.purpose == Purpose::BeatFirst;
        self.kick |= !beginning;
    }

    /// Gives the lock back: [`LockEvent::Released`] when it is durable. A view that is being committed is finished
    /// first. Ends the wish for the lock; [`contend`](Self::contend) may renew it.
    pub fn release(&mut self) {
        self.want = false;
        self.begin_release();
    }

    fn begin_release(&mut self) {
        self.releasing = true;
        self.beat_soon();
    }

    /// Commits the next view under the held ballot. [`LockEvent::Committed`] or [`LockEvent::Unknown`] follows.
    ///
    /// # Errors
    /// See [`ProposeError`]; nothing was begun.
    pub fn propose(&mut self, view: View) -> Result<(), ProposeError> {
        self.may_propose(&view)?;
        if let (Phase::Master { written, .. }, Some(_)) = (&mut self.phase, &self.proposal) {
            // Only without the rule *one change at a time*: the next is written over what was not looked after.
            *written = false;
        }
        self.proposal = Some(view);
        self.wake = Instant::ZERO;
        Ok(())
    }

    /// Writes the last heartbeat: clean mark, no flag, inactive. [`LockEvent::Farewell`] when it is durable; nothing is
    /// written after it.
    pub fn farewell(&mut self) {
        self.want = false;
        if self.farewell == Farewell::No {
            self.farewell = Farewell::Asked;
        }
        self.beat_soon();
    }

    /// A message from the master named this view committed.
    pub fn note_committed(&mut self, name: ViewName, view: &View) {
        if name.number == view.number {
            self.note_ballot(name.ballot);
            self.learn(name, view);
        }
    }

    /// The newest view that is known to be committed.
    pub fn committed(&self) -> (ViewName, &View) {
        (self.committed, &self.view)
    }

    /// The ballot, while this node is master: acquired, neither lost nor given back. It may be frozen, see
    /// [`may_act`](Self::may_act).
    pub fn master(&self) -> Option<Ballot> {
        match self.phase {
            Phase::Master { ballot, .. } if !self.ended => Some(ballot),
            _ => None,
        }
    }

    /// Whether this node may send and propose as master: it is master and its lease is valid. A master that forms the
    /// cluster and is in no view yet is bounded in the same way, see `lease.rs`.
    pub fn may_act(&self, now: Instant) -> bool {
        self.master().is_some() && now < self.lease.writes_until
    }

    /// Whether this node's lease has run out. A node that is in no view yet has none and is not frozen.
    pub fn frozen(&self, now: Instant) -> bool {
        let end = if self.lease.had { Some(self.lease.until) } else { self.lease.owed };
        end.is_some_and(|end| now >= end)
    }

    /// Whether it was noticed that the lease ran out: this machine has taken the consequences, and no beat has given it a new
    /// one. Not so while it ran out but the machine has not had its turn since.
    pub fn knows_frozen(&self) -> bool {
        self.lease.frozen
    }

    /// When the lease ends, or ended. [`Instant::ZERO`] if there never was one.
    pub fn lease_until(&self) -> Instant {
        self.lease.until
    }

    /// Whose database it is.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The highest ballot that was seen anywhere, on disk or in messages.
    pub fn highest_promise(&self) -> Ballot {
        self.highest
    }

    /// The next beat is due at once: somebody is to be seen whom the last read did not show yet. More beats than one per
    /// `disk_heartbeat` harm nobody.
    pub fn beat_now(&mut self, now: Instant) {
        self.next_beat = self.next_beat.min(now);
    }

    /// A message carried this ballot.
    pub fn note_ballot(&mut self, ballot: Ballot) {
        self.highest = self.highest.max(ballot);
    }

    /// What is known of a node from the disk.
    pub fn peer(&self, node: NodeId) -> &Peer {
        &self.peers[node.index()]
    }

    /// Whether the disk evidence says that a node is silent (DESIGN 7): unchanged over `disk_suspect` of this node's
    /// completed reads; unreadable through `dead`; at once if its block is blank or clean.
    pub fn disk_silent(&self, node: NodeId) -> bool {
        self.peers[node.index()].is_silent()
    }

    /// Disk reads begun.
    pub fn reads(&self) -> u64 {
        self.counters.reads
    }

    /// Disk writes begun.
    pub fn writes(&self) -> u64 {
        self.counters.writes
    }

    /// Beats completed.
    pub fn beats(&self) -> u64 {
        self.counters.beats
    }

    /// Requests that failed.
    pub fn errors(&self) -> u64 {
        self.counters.errors
    }

    /// This node's flag, as last written or about to be.
    pub fn flag(&self) -> Flag {
        self.flag
    }

    /// Whether a rule is kept: always, but where the model checker leaves it out.
    pub fn keeps(&self, rule: Rule) -> bool {
        self.rules.keep(rule)
    }

    /// Whether the wait for the old life's writes (no clean mark) is over, so that this node may contend.
    pub fn ballot_open(&self, now: Instant) -> bool {
        !self.rules.keep(Rule::UncleanBirthWaits) || self.quarantine.is_none_or(|until| now >= until)
    }

    // What is done next, when no request is under way: a beat that is due, else what the ballot waits for.
    fn begin_next(&mut self, now: Instant, trace: &mut Trace<'_>) {
        self.wake = Instant::FAR;
        if self.kick || now >= self.next_beat {
            self.begin_beat(now);
        } else if now < self.not_before {
            // A request failed a moment ago: do not hammer the disk.
            self.wake = self.not_before;
        } else if self.own_stale && self.needs_write(now) {
            // A look that finds less than what was written counts for nothing: the repair comes first.
            self.begin_ballot_write(now, trace);
        } else if self.needs_look() || self.needs_clearance() {
            self.begin_scan(now, Purpose::Look);
        } else if self.needs_write(now) {
            self.begin_ballot_write(now, trace);
        }
    }

    fn begin_beat(&mut self, now: Instant) {
        self.kick = false;
        self.next_beat = now.plus_ms(self.timing.disk_heartbeat);
        self.begin_scan(now, Purpose::BeatFirst);
    }

    pub(crate) fn current_tag(&self) -> DiskTag {
        DiskTag(self.first_tag.wrapping_add(self.tag % TAGS))
    }

    /// Begins the one request.
    pub(crate) fn request(&mut self, now: Instant, step: Step, op: DiskOp) {
        match op {
            DiskOp::Read { .. } => self.counters.reads += 1,
            DiskOp::Write { .. } => self.counters.writes += 1,
        }
        self.tag = self.tag.wrapping_add(1);
        self.step = step;
        self.issued = now;
        self.request = Some((self.current_tag(), op));
    }

    pub(crate) fn event(&mut self, event: LockEvent) {
        if self.events.push(event).is_err() {
            self.end(HaltReason::Impossible { what: "the events of the master lock were not drained" });
        }
    }

    /// Halts: nothing is written from here on.
    pub(crate) fn end(&mut self, reason: HaltReason) {
        if !self.ended {
            self.ended = true;
            self.halt = Some(reason);
            self.command = None;
            self.request = None;
            self.step = Step::Idle;
        }
    }
}
