//! The disk operations, one after another: reads of the whole state area and the two kinds of write.
//!
//! A *scan* reads all configured nodes' records in chunks. A chunk that the medium cannot give is read again record by
//! record, so that one bad block does not hide its neighbours; any other failure ends the scan without a judgement.
//! Because only one request is under way, a scan that begins after a write's completion is a look *after* that write:
//! what Dekker, Disk Paxos and the lease all ask for.

use heapless::Vec;
use quorate_base::capacity::{READ_RECORDS_MAX, RECORD_BYTES, RECORD_PITCH};
use quorate_base::text::format_cut;
use quorate_base::{Ballot, DiskError, DiskOp, Event, HaltReason, Instant, NodeId, Trace, View, ViewName};
use quorate_database::layout::{self, Region};
use quorate_database::{BallotBlock, BallotHead, Block, Flag, Heartbeat, Predecessor, RecordError, newer_slot};

use crate::api::LockEvent;
use crate::ballot::Phase;
use crate::lock::{Farewell, MasterLock};
use crate::peer::Verdict;
use crate::rules::Rule;
use crate::trust::Marks;

/// The request that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Step {
    /// None.
    Idle,
    /// A read of a scan.
    Scan,
    /// The heartbeat write of a beat.
    Heartbeat,
    /// The read of the identity slots after the first heartbeat.
    Identity,
    /// A ballot write.
    Ballot {
        /// The same content again, because the newest slot went bad on the disk.
        repair: bool,
    },
}

/// What a scan is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Purpose {
    /// The read before a beat's write.
    #[default]
    BeatFirst,
    /// The read after it.
    BeatSecond,
    /// The read after a ballot write.
    Look,
}

/// An accepted view with what its block says about its predecessor.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Accepted {
    /// Under which ballot; [`Ballot::NONE`]: nothing was ever accepted.
    pub ballot: Ballot,
    /// The view.
    pub view: View,
    /// The one before it.
    pub predecessor: Predecessor,
}

impl Accepted {
    fn take(&mut self, block: &BallotBlock) {
        self.ballot = block.accepted;
        self.view.clone_from(&block.view);
        self.predecessor.clone_from(&block.predecessor);
    }

    pub(crate) fn name(&self) -> ViewName {
        ViewName { ballot: self.ballot, number: self.view.number }
    }
}

/// What the last complete scan showed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Look {
    /// Highest accepted ballot with its view.
    pub best: Accepted,
    /// Highest promise.
    pub promised: Ballot,
}

/// A scan that is under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Scan {
    pub purpose: Purpose,
    /// The next record to read, and how many are being read.
    pub next: u64,
    pub count: u16,
    /// Records below this are read one by one.
    pub single_below: u64,
    /// The slot 0 of the node whose slot 1 comes next, and its bytes if it is valid.
    pub first_slot: Block<BallotHead>,
    pub first_bytes: Vec<u8, RECORD_BYTES>,
    /// A slot of that node is damaged, and was not when it was read before.
    pub fresh_damage: bool,
    pub look: Look,
    /// No node's ballot block was unknown.
    pub complete: bool,
    /// This node's own ballot block is to be taken from the disk.
    pub adopt: bool,
    /// Own heartbeat block as it must be: this node may write it.
    pub own_heartbeat: bool,
    /// Own heartbeat block shows the last heartbeat that the disk took. Without that it gives no lease: the disk may have lost
    /// it, and then nobody else sees it either.
    pub own_shown: bool,
    /// The disk lost the last ballot that it took: what stands there counts, but nothing that waits for a look after a write.
    pub own_ballot_lost: bool,
    /// A record of another cluster was among them.
    pub foreign: bool,
    /// The last own ballot had been read as it was written when this scan began.
    pub own_seen_before: bool,
    /// What heartbeats named committed before this scan began.
    pub marks: Marks,
    /// How often the gate had turned when it began.
    pub gate_turns: u32,
}

impl MasterLock {
    pub(crate) fn begin_scan(&mut self, now: Instant, purpose: Purpose) {
        self.scan = Scan {
            purpose,
            next: layout::STATE_FIRST,
            complete: true,
            adopt: !self.own_known && self.ballot_open(now),
            marks: self.marks,
            own_seen_before: self.own_seen,
            gate_turns: self.gate_turns,
            ..Scan::default()
        };
        self.read_next(now);
    }

    pub(crate) fn scan_complete(&self) -> bool {
        self.scan.complete
    }

    fn scan_end(&self) -> u64 {
        layout::STATE_FIRST + layout::STATE_PER_NODE * u64::from(self.nodes)
    }

    fn read_next(&mut self, now: Instant) {
        let left = self.scan_end() - self.scan.next;
        let most = if self.scan.next < self.scan.single_below { 1 } else { READ_RECORDS_MAX as u64 };
        self.scan.count = left.min(most) as u16;
        self.request(now, Step::Scan, DiskOp::Read { first: self.scan.next, count: self.scan.count });
    }

    /// A request is done.
    pub(crate) fn completed(&mut self, now: Instant, result: Result<&[u8], DiskError>, trace: &mut Trace<'_>) {
        if let Err(error) = result {
            self.counters.errors += 1;
            self.lease.trouble(error);
            self.doubt(now, error, trace);
        }
        match core::mem::replace(&mut self.step, Step::Idle) {
            Step::Idle => {}
            Step::Scan => self.scan_completed(now, result, trace),
            Step::Heartbeat => self.heartbeat_completed(now, result.map(|_| ()), trace),
            Step::Identity => self.identity_completed(now, result),
            Step::Ballot { repair } => self.ballot_completed(now, repair, result.map(|_| ()), trace),
        }
    }

    fn scan_completed(&mut self, now: Instant, result: Result<&[u8], DiskError>, trace: &mut Trace<'_>) {
        let count = u64::from(self.scan.count);
        match result {
            Err(DiskError::Medium) if count > 1 => {
                self.scan.single_below = self.scan.next + count;
                return self.read_next(now);
            }
            Err(DiskError::Medium) => self.take_record(now, self.scan.next, Err(DiskError::Medium), trace),
            Err(_) => return self.pause(now),
            Ok(bytes) => {
                for i in 0..count {
                    let at = i as usize * RECORD_PITCH as usize;
                    let record = bytes.get(at..at + RECORD_BYTES).unwrap_or(&[]);
                    self.take_record(now, self.scan.next + i, Ok(record), trace);
                }
            }
        }
        if self.ended {
            return;
        }
        self.scan.next += count;
        if self.scan.next < self.scan_end() {
            return self.read_next(now);
        }
        self.scan_done(now, trace);
    }

    fn take_record(&mut self, now: Instant, at: u64, bytes: Result<&[u8], DiskError>, trace: &mut Trace<'_>) {
        match Region::of(at) {
            Region::Heartbeat(node) => {
                let block = match bytes {
                    Ok(bytes) => self.blanks.judge(bytes, Heartbeat::decode(bytes, self.cluster, node)),
                    Err(error) => Block::Unreadable(error),
                };
                self.note_bad(node, 0, at, &block, trace);
                self.take_heartbeat(now, node, &block, trace);
            }
            Region::Ballot(node, slot) => {
                let block = match bytes {
                    Ok(bytes) => self.blanks.judge(bytes, BallotBlock::decode_head(bytes, self.cluster, node, slot)),
                    Err(error) => Block::Unreadable(error),
                };
                self.note_bad(node, 1 + usize::from(slot & 1), at, &block, trace);
                let bytes = bytes.ok().filter(|_| block.good().is_some()).unwrap_or_default();
                if slot == 0 {
                    self.scan.first_slot = block;
                    self.scan.first_bytes.clear();
                    // A record, and as long as one.
                    let _ = self.scan.first_bytes.extend_from_slice(bytes);
                } else {
                    self.take_ballot(now, node, &block, bytes, trace);
                }
            }
            _ => {}
        }
    }

    fn note_bad<T>(&mut self, node: NodeId, which: usize, at: u64, block: &Block<T>, trace: &mut Trace<'_>) {
        let bad = block.is_unknown();
        // A record of another cluster is another disk's, or another partition's: nothing that was read with it is relied on.
        if matches!(block, Block::Damaged(RecordError::ForeignCluster)) {
            (self.scan.complete, self.scan.foreign, self.foreign) = (false, true, true);
        }
        let Some(was) = self.peers[node.index()].bad.get_mut(which) else { return };
        if core::mem::replace(was, bad) == bad {
            return;
        }
        self.scan.fresh_damage |= which > 0 && matches!(block, Block::Damaged(_));
        let region = Region::of(at);
        let text = match block {
            Block::Damaged(RecordError::Version(v)) => {
                format_cut::<96>(format_args!("{region} (record {at}) has format version {v}"))
            }
            Block::Damaged(error) => format_cut(format_args!("{region} (record {at}) is damaged: {error:?}")),
            Block::Unreadable(error) => format_cut(format_args!("{region} (record {at}) cannot be read: {error}")),
            _ => format_cut(format_args!("{region} (record {at}) reads well again")),
        };
        trace.event(Event::Note { what: &text });
    }

    // What shows less than was read before is named as well: an old block from elsewhere, or a lost write.
    fn note_stale(&mut self, node: NodeId, which: usize, at: u64, stale: bool, trace: &mut Trace<'_>) {
        let Some(was) = self.peers[node.index()].stale.get_mut(which) else { return };
        if core::mem::replace(was, stale) == stale {
            return;
        }
        let region = Region::of(at);
        let text = if stale {
            format_cut::<96>(format_args!("{region} (record {at}) is older than what was read there before"))
        } else {
            format_cut(format_args!("{region} (record {at}) is the newest again"))
        };
        trace.event(Event::Note { what: &text });
    }

    fn take_heartbeat(&mut self, now: Instant, node: NodeId, block: &Block<Heartbeat>, trace: &mut Trace<'_>) {
        let stale = self.peers[node.index()].is_stale(block);
        let mut timing = self.timing;
        if !self.rules.keep(Rule::PassOverSilent) {
            timing.disk_suspect = 0;
        }
        let peer = &mut self.peers[node.index()];
        let (changed, verdict) = peer.judge(block, &timing, now);
        if let Some(h) = block.good() {
            self.marks.raise(h.committed);
            if changed && node != self.me {
                trace.receive(h.lamport);
            }
        }
        if node == self.me {
            self.take_own_heartbeat(now, block);
        }
        let lost = |h: &Heartbeat| h.nonce == self.nonce && h.counter < self.counter_taken;
        let stale = stale || node == self.me && self.heartbeat_issued.is_some() && block.good().is_some_and(lost);
        self.note_stale(node, 0, layout::heartbeat(node), stale, trace);
        if node == self.me {
            return;
        }
        match verdict {
            Verdict::Same => {}
            Verdict::Suspect => trace.event(Event::Suspect { peer: node, via: quorate_base::event::Via::Disk }),
            Verdict::Trust => trace.event(Event::Trust { peer: node, via: quorate_base::event::Via::Disk }),
        }
    }

    // Whose heartbeat stands in this node's block? Only the nonce tells two machines of one node id apart.
    fn take_own_heartbeat(&mut self, now: Instant, block: &Block<Heartbeat>) {
        let first = self.heartbeat_issued.is_none();
        // A write that failed may or may not have landed; one that the disk took must stand there, and be seen there. A block
        // that cannot be read, or holds another record, shows nothing: the disk may hide that it lost the write.
        let shows = |h: &Heartbeat| h.nonce == self.nonce && h.counter >= self.counter_taken;
        self.scan.own_shown = block.good().is_some_and(shows);
        self.scan.own_heartbeat = match block {
            Block::Good(h) if h.nonce == self.nonce => true,
            Block::Good(h) if first && self.birth.nonce == Some(h.nonce) => true,
            Block::Good(_) if !self.rules.keep(Rule::ForeignNonceHalts) => true,
            Block::Good(h) => return self.end(HaltReason::ForeignNonce { found: h.nonce }),
            Block::Blank if first => true,
            Block::Blank => {
                return self.end(HaltReason::DatabaseDamaged { what: "this node's heartbeat block is blank" });
            }
            // As birth found it, or explained by a write of this node that failed; else another's hand is not excluded. A whole
            // record of another place or cluster is no write of this node's.
            _ => (self.heartbeat_doubt && !block.is_hidden()) || (first && self.birth.unknown),
        };
        // Another cluster's record is another disk, no other hand: it may be gone again, and till then nothing is written.
        let of_ours = matches!(block, Block::Damaged(error) if *error != RecordError::ForeignCluster);
        let damaged = of_ours && !self.scan.own_heartbeat;
        self.own_damaged_since = if damaged { self.own_damaged_since.min(now) } else { Instant::FAR };
        if damaged && now.since_us(self.own_damaged_since) >= u64::from(self.timing.dead) * 1000 {
            // It writes nothing there, so it will not get better; the next life begins with what it finds.
            self.end(HaltReason::DatabaseDamaged { what: "this node's heartbeat block holds what it did not write" });
        }
    }

    // The valid slot with the higher sequence counts; a torn or unreadable one was never committed (DESIGN 3). But a read
    // may fail in passing, or give a whole block of another place or of an earlier time, which no torn write leaves: what
    // the disk hides in any of these ways counts so only after `dead`. And the other slot is the truth only if
    // it was read after the damage was done: one read may show a slot from before a write and the other, torn, from
    // after two more. So a damage counts from the next read on. What this node wrote itself it knows.
    fn take_ballot(
        &mut self,
        now: Instant,
        node: NodeId,
        second: &Block<BallotHead>,
        second_bytes: &[u8],
        trace: &mut Trace<'_>,
    ) {
        let first = &core::mem::take(&mut self.scan.first_slot);
        let whole = !first.is_unknown() && !second.is_unknown();
        let slots = [first, second];
        let given = !slots.into_iter().any(|b| matches!(b, Block::Unreadable(_)));
        let sequence = slots.into_iter().filter_map(|b| b.good()).map(|b| b.sequence).max().unwrap_or(0);
        // Sequences only grow: both slots are readable, and the newest is not there any more.
        let stale = whole && sequence < self.peers[node.index()].sequence;
        self.note_stale(node, 1, layout::ballot(node, 0), stale, trace);
        let written = &mut self.peers[node.index()].written;
        // A slot that once had something in it is not blank again.
        let hidden = [0, 1].map(|s| slots[s].is_hidden() || written[s] && matches!(slots[s], Block::Blank));
        for (was, block) in written.iter_mut().zip(slots) {
            *was |= block.good().is_some();
        }
        let unreadable = hidden.contains(&true) || stale;
        let fresh = core::mem::take(&mut self.scan.fresh_damage) && self.rules.keep(Rule::TornReadAgain);
        if now.since_us(self.last_scan) > u64::from(self.timing.disk_suspect) * 1000 {
            // This node itself read nothing for long: that is no time in which the slot could not be read.
            self.peers[node.index()].slots_since = Instant::FAR;
        }
        let settled = self.peers[node.index()].judge_slots(unreadable, &self.timing, now) && !fresh;
        let mine = node == self.me && self.own_known;
        let unknown = first.is_unknown() && second.is_unknown();
        let known = mine || settled && !unknown || !self.rules.keep(Rule::UnknownIsNotEmpty);
        let slot = newer_slot(slots).unwrap_or(1);
        let chosen = slots[usize::from(slot)].good();
        self.scan.complete &= known;
        let peer = &mut self.peers[node.index()];
        peer.ballot_known = known;
        if let Some(block) = chosen {
            if block.sequence > peer.sequence {
                peer.sequence = block.sequence;
                peer.accepted = block.accepted_name();
                if node != self.me {
                    trace.receive(block.lamport);
                }
            }
            // What was once read as promised was durable: a slot that went bad since does not take it back.
            peer.promised = peer.promised.max(block.promised);
        }
        // What this node promised may stand where it cannot read it now.
        let promised = if node == self.me { peer.promised.max(self.own.promised) } else { peer.promised };
        self.scan.look.promised = self.scan.look.promised.max(promised);
        // The views are built where they tell something new.
        let best = self.scan.look.best.ballot;
        let wanted = chosen.is_some_and(|block| block.accepted > best) || node == self.me && self.scan.adopt;
        let bytes = if slot == 0 { &*self.scan.first_bytes } else { second_bytes };
        let decode = || BallotBlock::decode(bytes, self.cluster, node, slot);
        let whole = if wanted { decode() } else { Block::Unread };
        if node == self.me {
            let last_hidden = hidden[usize::from(self.own_slot & 1)];
            self.take_own_ballot((slot, chosen), whole.good(), known, (given, last_hidden));
            // What cannot be read may stand there, and exclude this node.
            if self.own_known && !(self.scan.own_ballot_lost && given) {
                if self.own.accepted > best {
                    self.scan.look.best.take(&self.own);
                }
                return;
            }
        }
        if let Block::Good(block) = &whole
            && block.accepted > best
        {
            self.scan.look.best.take(block);
        }
    }

    fn take_own_ballot(
        &mut self,
        (slot, chosen): (u8, Option<&BallotHead>),
        whole: Option<&BallotBlock>,
        known: bool,
        (given, last_hidden): (bool, bool),
    ) {
        let found = chosen.map_or(0, |b| b.sequence);
        let lost = given && found.saturating_add(1) < self.own.sequence;
        if self.scan.adopt && (lost || known && last_hidden && found < self.own.sequence) {
            // The write of unknown fate is at most one ahead of what the disk took before it: that is lost. Or the disk hides
            // for long whether it landed, and may show it again. The same content is written again.
            (self.own_known, self.own_stale, self.scan.own_ballot_lost) = (true, true, true);
            (self.scan.adopt, self.own_seen) = (false, false);
        } else if self.scan.adopt {
            if known {
                self.own = whole.cloned().unwrap_or_default();
                (self.own_slot, self.own_seen) = (slot, true);
            }
        } else if self.own_known {
            match chosen {
                Some(block) if block.sequence > self.own.sequence && self.rules.keep(Rule::ForeignNonceHalts) => {
                    self.end(if block.nonce == self.nonce {
                        HaltReason::Impossible { what: "this node's ballot block is newer than what it wrote" }
                    } else {
                        HaltReason::ForeignNonce { found: block.nonce }
                    });
                }
                // The newest slot went bad on the disk: it is written again, others must not take the older for the truth.
                _ => {
                    self.own_stale = found < self.own.sequence;
                    self.own_seen |= !self.own_stale;
                    // What the disk took and lost, or does not show, nobody has seen: this is no look after it.
                    self.scan.own_ballot_lost = self.own_stale && (given || !self.own_seen);
                }
            }
        }
    }

    fn scan_done(&mut self, now: Instant, trace: &mut Trace<'_>) {
        self.last_scan = now;
        self.foreign = self.scan.foreign;
        if self.foreign {
            // Another disk may have taken the last own write, and shows it: here it does not stand for that.
            self.own_seen = self.scan.own_seen_before;
        }
        if self.scan.complete {
            if self.scan.adopt {
                self.own_known = true;
                self.own_stale = false;
            }
            let previous = self.look.best.name();
            // What was once read as accepted was durable, too.
            if self.scan.look.best.name() >= self.look.best.name() {
                core::mem::swap(&mut self.look.best, &mut self.scan.look.best);
            }
            self.look.promised = self.scan.look.promised;
            self.highest = self.highest.max(self.look.promised);
            self.trust(previous);
            self.judge_exclusion(now);
            if !self.ended {
                self.renew(now, trace);
            }
            if !self.ended && !self.scan.own_ballot_lost {
                self.on_look(now, trace);
            }
            // What the look itself committed may exclude this node: a takeover takes what is accepted, whatever it says.
            if !self.ended && self.unjudged {
                self.judge_exclusion(now);
            }
            if !self.ended {
                self.clear(now);
            }
        } else {
            self.not_before = self.retry_at(now);
        }
        if self.ended {
            return;
        }
        match self.scan.purpose {
            Purpose::BeatFirst if self.scan.own_heartbeat && self.is_open() => self.begin_heartbeat(now, trace),
            Purpose::BeatFirst => self.pause(now),
            Purpose::BeatSecond => self.beat_done(now),
            Purpose::Look => {}
        }
    }

    fn beat_done(&mut self, now: Instant) {
        self.counters.beats += 1;
        self.event(LockEvent::Beat);
        if matches!(self.phase, Phase::Idle) && self.wants(now) {
            if self.scan.complete && self.may_raise() {
                self.kick = true;
            } else if self.hurry > 0 {
                // A tie: the others lower their flags within a few operations. Look again sooner than a beat from now.
                self.hurry -= 1;
                self.next_beat = self.next_beat.min(self.retry_at(now));
            }
        }
    }

    // Sooner than a beat from now, but not at once: the disk is not to be hammered.
    pub(crate) fn retry_at(&self, now: Instant) -> Instant {
        now.plus_ms((self.timing.disk_heartbeat / 8).max(1))
    }

    // A request failed, or this beat must not write. The next beat begins in its time.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.not_before = self.retry_at(now);
        if self.farewell != Farewell::No || self.releasing {
            self.next_beat = self.next_beat.min(self.not_before);
        }
    }

    fn begin_heartbeat(&mut self, now: Instant, trace: &mut Trace<'_>) {
        let last = self.farewell != Farewell::No;
        self.decide_flag(now, trace);
        if self.ended {
            return;
        }
        if last {
            self.farewell = Farewell::Writing;
            // Others rely on it that nothing is written after the clean mark.
            (self.lease.until, self.lease.writes_until) = (self.lease.until.min(now), self.lease.writes_until.min(now));
            (self.lease.had, self.lease.owed) = (false, None);
        }
        self.counter += 1;
        let heartbeat = Heartbeat {
            incarnation: self.incarnation,
            nonce: self.nonce,
            counter: self.counter,
            flag: self.flag,
            state: if last { quorate_base::NodeState::Inactive } else { self.status.state },
            frozen: self.lease.frozen,
            clean: last,
            carrier: self.status.carrier,
            hears: self.status.hears,
            committed: self.committed,
            frame_floor: self.status.frame_floor,
            lamport: trace.send(),
        };
        let record = heartbeat.encode(self.cluster, self.me);
        let at = layout::heartbeat(self.me);
        self.request(now, Step::Heartbeat, DiskOp::Write { at, record, not_after: None });
    }

    fn heartbeat_completed(&mut self, now: Instant, result: Result<(), DiskError>, trace: &mut Trace<'_>) {
        if result.is_err() {
            // It may have landed. The first read of the next beat shows it before the block is written again.
            self.heartbeat_doubt = true;
            if let Phase::Raised { written } = self.phase
                && !written
            {
                self.phase = Phase::Idle;
            }
            return self.pause(now);
        }
        self.trace_write(layout::heartbeat(self.me), trace);
        self.heartbeat_doubt = false;
        self.counter_taken = self.counter;
        if let Some(before) = self.heartbeat_issued {
            self.notice_gap(now, before);
        }
        self.heartbeat_issued = Some(if self.rules.keep(Rule::LeaseFromSubmission) { self.issued } else { now });
        if !self.rules.keep(Rule::SecondRead) {
            self.renew(now, trace);
        }
        self.hold_written();
        self.flag_written();
        if self.farewell == Farewell::Writing && self.flag == Flag::None {
            self.event(LockEvent::Farewell);
            self.ended = true;
            return;
        }
        if self.begin_identity(now) {
            return;
        }
        self.begin_scan(now, Purpose::BeatSecond);
    }

    pub(crate) fn trace_write(&self, at: u64, trace: &mut Trace<'_>) {
        if trace.writes() {
            let region = format_cut::<24>(format_args!("{}", Region::of(at)));
            let lba = self.geometry.first_lba + at * u64::from(self.geometry.blocks_per_record);
            trace.event(Event::SharedWrite { region: &region, lba, blocks: 1, issued: self.issued });
        }
    }
}
