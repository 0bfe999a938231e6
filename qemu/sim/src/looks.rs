//! What must have been read before something is written, held against what each machine really asks of the disk (DESIGN 4);
//! and which views are committed in truth.
//!
//! - A ballot is promised only after a look that began when Hold was durable.
//! - A view is accepted under a ballot only after a look that began when the promise was durable, and the next one only after
//!   a look that began when the one before was.
//! - A promise keeps what is accepted.
//! - A ballot slot that is found torn, and was not at the look before, is read again before it counts (DESIGN 3).
//! - A node adopts a view under a name only if that is committed: no higher promise had landed before its accept did.
//!   Whoever promises higher reads after that, finds it, and can commit nothing else in its place (Gafni and Lamport 2003).
//! - A node suspects another by the disk only after `disk_suspect` of reads of its own that showed the same heartbeat,
//!   with no stand-still of its own among them (DESIGN 7).
//! - A node suspects another that goes on by the network only `net_suspect` after its own last stand-still (DESIGN 7).
//! - A node takes no frame of a life of which its own beats have read that it is over (DESIGN 6).
//! - A lease is as long as the cluster says, and is given only by a look that began when the heartbeat was durable, and not
//!   against an exclusion that was accepted before that (DESIGN 4, beat).
//! - The lease fence is through `dead` after the first read that showed the victim's last heartbeat, or after it began; or the
//!   victim's clean mark stands (DESIGN 7).
//!
//! A *look* reads the heartbeat and both ballot slots of all configured nodes. Outcomes show a forgotten look only if
//! somebody else writes in that very millisecond; this shows it each time.

use std::collections::{BTreeMap, BTreeSet};

use quorate_base::capacity::{NODES_MAX, RECORD_BYTES, RECORD_PITCH};
use quorate_base::{
    Ballot, BootNonce, ClusterId, DiskError, DiskOp, DiskTag, Incarnation, NodeId, Timing, View, ViewName,
};
use quorate_database::layout::{self, Region, STATE_PER_NODE};
use quorate_database::sealed::BODY_AT;
use quorate_database::{BallotBlock, BallotHead, Blanks, Block, Flag, Heartbeat, Raw};
use quorate_interconnect::envelope::{Envelope, Repr};

use crate::recorder::Claim;

const RECORDS: usize = NODES_MAX * STATE_PER_NODE as usize;

/// A set of records of the state area.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Records([u64; RECORDS.div_ceil(64)]);

impl Records {
    fn index(at: u64) -> Option<usize> {
        let first = layout::heartbeat(NodeId::first(1).next()?);
        usize::try_from(at.checked_sub(first)?).ok().filter(|i| *i < RECORDS)
    }

    fn set(&mut self, at: u64, is_in: bool) {
        let Some(i) = Self::index(at) else { return };
        self.0[i / 64] = self.0[i / 64] & !(1 << (i % 64)) | u64::from(is_in) << (i % 64);
    }

    fn has(&self, at: u64) -> bool {
        Self::index(at).is_some_and(|i| self.0[i / 64] >> (i % 64) & 1 == 1)
    }

    /// Whether the records of the first `nodes` nodes are all in.
    fn is_whole(&self, nodes: u8) -> bool {
        (0..usize::from(nodes) * STATE_PER_NODE as usize).all(|i| self.0[i / 64] >> (i % 64) & 1 == 1)
    }
}

/// What a ballot write is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Promise,
    /// Under a ballot for the first time: what was found.
    Accept,
    /// A further view.
    Proposal,
    /// The same as before.
    Again,
}

impl Kind {
    fn of(before: &BallotHead, now: &BallotHead) -> Option<Self> {
        let same_view = (now.accepted, now.number) == (before.accepted, before.number);
        if same_view && now.promised == before.promised {
            Some(Self::Again)
        } else if same_view && now.promised > before.promised {
            Some(Self::Promise)
        } else if now.accepted == now.promised && now.promised == before.promised && before.accepted < now.accepted {
            Some(Self::Accept)
        } else if now.accepted == before.accepted && now.promised == before.promised && now.number > before.number {
            Some(Self::Proposal)
        } else {
            None
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Writing {
    Heartbeat(Flag),
    Ballot,
}

/// How a node's heartbeat looks to a reader, times by the reader's own clock, µs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Still {
    /// The newest that was read, and by the first read that showed it.
    newest: Option<(Incarnation, BootNonce, u64)>,
    first_us: u64,
    /// The first read since then, and since a stand-still of the reader's own, good or bad.
    since_us: Option<u64>,
    /// The first bad one since then, if all were bad after it.
    bad_us: Option<u64>,
    /// The reader has that life put out: from when on it knew, and when it had first read what it knew then as the newest.
    excluded: Option<(Incarnation, u64, u64)>,
    /// How many leases the reader had been given when it first read of the life that is the newest.
    leases: u64,
    /// The last life whose clean mark was read. Its successor may have written over that since.
    clean: Option<Incarnation>,
}

impl Still {
    /// Whether a heartbeat can follow the newest: none other does its writer write.
    fn follows(&self, h: &Heartbeat) -> bool {
        self.newest.is_none_or(|(incarnation, nonce, counter)| {
            h.incarnation >= incarnation && (h.nonce != nonce || h.counter >= counter)
        })
    }
}

/// What a machine's life has read and written.
#[derive(Clone, Debug, Default)]
struct Sight {
    boot: u64,
    /// The last ballot write that was asked for, and whether it was answered well.
    head: Option<(BallotHead, bool)>,
    /// The last one that was answered well, or what the life found.
    sound: Option<BallotHead>,
    flag: Flag,
    writing: Option<(DiskTag, Writing)>,
    /// Reads that began after the last write was answered.
    reading: BTreeSet<DiskTag>,
    since_hold: Option<Records>,
    since_ballot: Option<Records>,
    /// What could not be read or was damaged when it was read last.
    bad: Records,
    /// The headers, with the checksums, of the ballot slots that were read well last: the same ones need no second look.
    headers: BTreeMap<u64, [u8; BODY_AT]>,
    /// By node.
    still: BTreeMap<u8, Still>,
    /// By victim: from when on the wait for its lease counts.
    fences: BTreeMap<u8, u64>,
    /// The life that writes.
    me: Option<(NodeId, Incarnation)>,
    /// The nonce of the heartbeat that it asked to be written last, and of the one that was answered well last.
    nonces: (Option<BootNonce>, Option<BootNonce>),
    /// After that it read another's heartbeat in its own block.
    foreign: bool,
    since_beat: Records,
    /// It was excluded by what was accepted when its last heartbeat was answered.
    excluded: bool,
    /// When a read was answered last.
    read_us: u64,
    /// Leases so far: a beat was completed for each.
    leases: u64,
    /// The last turn: by the run's time, and by the own clock.
    turn_us: (u64, u64),
    /// The last stand-still: its beginning by the run's time, its end by the own clock.
    stood_us: Option<(u64, u64)>,
    /// By node: the newest life that it was heard of, and since when in the run.
    heard: BTreeMap<u8, (Incarnation, u64)>,
}

impl Sight {
    fn watch(&mut self, at: u64, node: NodeId, block: &Block<Heartbeat>, now_us: u64) {
        if let (Some(h), Some((me, _)), Some(own)) = (block.good(), self.me, self.nonces.1) {
            self.foreign |= me == node && h.nonce != own;
        }
        let still = self.still.entry(node.get()).or_default();
        let good = block.good().filter(|h| still.follows(h));
        if let Some(h) = good {
            let seen = (h.incarnation, h.nonce, h.counter);
            if still.newest.is_none_or(|(life, nonce, _)| (life, nonce) != (h.incarnation, h.nonce)) {
                still.leases = self.leases;
            }
            if still.newest.replace(seen) != Some(seen) {
                (still.first_us, still.since_us) = (now_us, None);
            }
            if h.clean {
                still.clean = Some(h.incarnation);
            }
            still.bad_us = None;
        } else if still.newest.is_some() || !matches!(block, Block::Blank) {
            still.bad_us.get_or_insert(now_us);
        }
        still.since_us.get_or_insert(now_us);
        self.bad.set(at, still.bad_us.is_some());
    }

    /// A record was read; it counts if the read began after what was written last was durable.
    fn read(&mut self, at: u64, counts: bool) {
        if !counts {
            return;
        }
        self.since_beat.set(at, true);
        for records in [&mut self.since_hold, &mut self.since_ballot].into_iter().flatten() {
            records.set(at, true);
        }
    }

    /// What was read does not count, unless the look was whole already.
    fn unread(&mut self, places: [u64; 2], nodes: u8) {
        let looks = [&mut self.since_hold, &mut self.since_ballot].into_iter().flatten();
        for records in looks.filter(|records| !records.is_whole(nodes)) {
            places.iter().for_each(|at| records.set(*at, false));
        }
    }

    /// Whether a ballot slot is torn that was not when it was read last.
    fn finds_torn(&mut self, at: u64, decode: impl FnOnce() -> Block<BallotHead>, raw: &[u8]) -> bool {
        let header = raw.first_chunk().copied();
        let same = header.is_some() && self.headers.get(&at) == header.as_ref();
        let torn = !same && matches!(decode(), Block::Damaged(_));
        if torn {
            self.headers.remove(&at);
        } else if let Some(header) = header.filter(|_| !same) {
            self.headers.insert(at, header);
        }
        let fresh = torn && !self.bad.has(at);
        self.bad.set(at, torn);
        fresh
    }
}

/// Each node's heartbeat as somebody read it last, and its bytes: a beat is written once and read by everybody.
#[derive(Debug)]
struct Beats(Vec<(Raw, Block<Heartbeat>)>);

impl Beats {
    fn decode(&mut self, raw: &[u8], cluster: ClusterId, node: NodeId) -> Block<Heartbeat> {
        let (Some(last), Some(raw)) = (self.0.get_mut(node.index()), raw.first_chunk()) else {
            return Heartbeat::decode(raw, cluster, node);
        };
        if last.0 != *raw {
            *last = (*raw, Heartbeat::decode(raw, cluster, node));
        }
        last.1
    }
}

/// All machines' looks, and the views that are committed in truth.
#[derive(Debug)]
pub(crate) struct Looks {
    cluster: ClusterId,
    /// What stands where a node has not written yet.
    pub blanks: Blanks,
    nodes: u8,
    timing: Timing,
    sights: Vec<Sight>,
    beats: Beats,
    /// By node, the highest promise that landed: for good, but for what its writer takes with it when it dies.
    promised: Vec<Ballot>,
    committed: BTreeSet<(Ballot, u64)>,
    /// Views that were accepted below a promise that had landed.
    overtaken: BTreeSet<(Ballot, u64)>,
    /// The view that was accepted under the highest ballot.
    best: (Ballot, View),
    /// Where it landed, as what, and whether anybody read that.
    best_at: (u64, [u8; BODY_AT], bool),
    /// The one before it.
    before_best: (Ballot, View),
    /// The disk lied about a record: what a machine was given is not what stands there, and nothing is held from here on.
    pub blind: bool,
}

impl Looks {
    pub fn new(cluster: ClusterId, blanks: Blanks, nodes: u8, timing: Timing) -> Self {
        Self {
            cluster,
            blanks,
            nodes,
            timing,
            sights: vec![Sight::default(); usize::from(nodes)],
            beats: Beats(vec![([0; RECORD_BYTES], Block::Blank); usize::from(nodes)]),
            promised: vec![Ballot::NONE; usize::from(nodes)],
            committed: BTreeSet::new(),
            overtaken: BTreeSet::new(),
            best: (Ballot::NONE, View::EMPTY),
            best_at: (0, [0; BODY_AT], false),
            before_best: (Ballot::NONE, View::EMPTY),
            blind: false,
        }
    }

    fn head(&self, raw: &[u8], at: u64) -> Option<BallotHead> {
        let Region::Ballot(node, slot) = Region::of(at) else { return None };
        BallotBlock::decode_head(raw, self.cluster, node, slot).good().copied()
    }

    /// A machine asks something of the disk. `stands` reads a record as it stands there. Says what was not read before.
    pub fn asked<'d>(
        &mut self,
        (m, boot): (usize, u64),
        tag: DiskTag,
        op: &DiskOp,
        stands: impl Fn(u64) -> Option<&'d [u8]>,
    ) -> Option<String> {
        let asked = match op {
            DiskOp::Read { .. } => None,
            DiskOp::Write { at, record, .. } => match Region::of(*at) {
                Region::Heartbeat(n) => {
                    let block = Heartbeat::decode(record, self.cluster, n);
                    if let (Some(h), Some(sight)) = (block.good(), self.sights.get_mut(m)) {
                        sight.me = Some((n, h.incarnation));
                        sight.nonces.0 = Some(h.nonce);
                    }
                    block.good().map(|h| (n, Writing::Heartbeat(h.flag), None))
                }
                Region::Ballot(n, _) => self.head(record, *at).map(|head| (n, Writing::Ballot, Some(head))),
                _ => None,
            },
        };
        let before = asked.and_then(|(n, ..)| {
            let slots = [0, 1].map(|slot| layout::ballot(n, slot));
            slots.iter().filter_map(|at| self.head(stands(*at)?, *at)).max_by_key(|head| head.sequence)
        });
        let nodes = self.nodes;
        let sight = self.sights.get_mut(m)?;
        if sight.boot != boot {
            *sight = Sight { boot, ..Sight::default() };
        }
        let Some((_, writing, head)) = asked else {
            if matches!(op, DiskOp::Read { .. }) {
                sight.reading.insert(tag);
            }
            return None;
        };
        if matches!(writing, Writing::Heartbeat(_)) && sight.foreign {
            return Some(format!("node {m} writes its heartbeat over that of another life, which it had read there"));
        }
        sight.writing = Some((tag, writing));
        let head = head?;
        // One that failed may have landed or not.
        let sound = *sight.sound.get_or_insert(before.unwrap_or_default());
        let before = sight.head.map_or(sound, |(head, _)| head);
        let was_answered = sight.head.is_none_or(|(_, answered)| answered);
        let kind = Kind::of(&before, &head).or_else(|| Kind::of(&sound, &head));
        // The same again as what was durable, whatever failed in between, is no new content to look after.
        let sound_again = Kind::of(&sound, &head) == Some(Kind::Again);
        sight.head = Some((head, sound_again || was_answered && kind == Some(Kind::Again)));
        let whole = |records: &Option<Records>| records.is_some_and(|records| records.is_whole(nodes));
        let (missing, what) = match kind {
            Some(Kind::Again) => return None,
            Some(Kind::Promise) => (!whole(&sight.since_hold), "promises without a look after Hold"),
            Some(Kind::Accept) => (!whole(&sight.since_ballot), "accepts without a look after its promise"),
            Some(Kind::Proposal) => {
                (!whole(&sight.since_ballot), "proposes without a look after what it accepted before")
            }
            None => (true, "writes a ballot block that follows from nothing before it"),
        };
        missing.then(|| format!("node {m} {what}: {before:?}, then {head:?}"))
    }

    /// A machine is told, at `now_us` of its own clock, the outcome of what it asked.
    pub fn answered(
        &mut self,
        (m, boot): (usize, u64),
        now_us: u64,
        tag: DiskTag,
        op: &DiskOp,
        result: Result<&[u8], DiskError>,
    ) {
        let (cluster, blanks, nodes, best) = (self.cluster, self.blanks, self.nodes, &self.best.1);
        // A stand-still: two beats and, for clocks and the turn that notices, a little.
        let still_us = u64::from(self.timing.disk_heartbeat) * 2100;
        let Some(sight) = self.sights.get_mut(m).filter(|sight| sight.boot == boot) else { return };
        if matches!(op, DiskOp::Read { .. }) {
            if now_us.saturating_sub(std::mem::replace(&mut sight.read_us, now_us)) > still_us {
                sight.still.values_mut().for_each(|still| (still.since_us, still.bad_us) = (None, None));
            }
            if let (DiskOp::Read { first, count: 1 }, Err(e)) = (op, result) {
                match Region::of(*first) {
                    Region::Heartbeat(node) => sight.watch(*first, node, &Block::Unreadable(e), now_us),
                    _ => sight.bad.set(*first, true),
                }
            }
        }
        match op {
            DiskOp::Write { .. } => {
                let Some((_, writing)) = sight.writing.take_if(|(of, _)| *of == tag) else { return };
                sight.reading.clear();
                match writing {
                    Writing::Heartbeat(flag) if result.is_ok() => {
                        if flag != Flag::Hold {
                            sight.since_hold = None;
                        } else if sight.flag != Flag::Hold {
                            sight.since_hold = Some(Records::default());
                        }
                        (sight.flag, sight.nonces.1) = (flag, sight.nonces.0);
                        sight.since_beat = Records::default();
                        sight.excluded = sight.me.is_some_and(|(n, life)| best.excludes(n, life));
                    }
                    Writing::Heartbeat(_) => {}
                    Writing::Ballot => {
                        if let Some((head, answered)) = &mut sight.head {
                            // The same content again, that was durable before, changes nothing.
                            if !*answered {
                                sight.since_ballot = Some(Records::default());
                            }
                            *answered = result.is_ok();
                            sight.sound = sight.sound.filter(|_| !*answered).or(Some(*head));
                        }
                    }
                }
            }
            DiskOp::Read { first, count } => {
                let counts = sight.reading.remove(&tag);
                match result {
                    Ok(bytes) => {
                        for (i, raw) in bytes.chunks(RECORD_PITCH as usize).take(usize::from(*count)).enumerate() {
                            let at = first + i as u64;
                            self.best_at.2 |= at == self.best_at.0 && raw.starts_with(&self.best_at.1);
                            match Region::of(at) {
                                Region::Heartbeat(node) if node.get() < nodes => {
                                    let block = blanks.judge(raw, self.beats.decode(raw, cluster, node));
                                    sight.watch(at, node, &block, now_us);
                                    sight.read(at, counts);
                                }
                                Region::Ballot(node, slot) if node.get() < nodes => {
                                    // What failed and is read afterwards stands there, as if it had been answered well.
                                    let mine = sight.me.is_some_and(|(me, _)| me == node);
                                    if let Some((head, answered @ false)) = &mut sight.head
                                        && mine
                                        && counts
                                    {
                                        *answered =
                                            BallotBlock::decode_head(raw, cluster, node, slot).good() == Some(head);
                                        sight.sound = sight.sound.filter(|_| !*answered).or(Some(*head));
                                    }
                                    let fresh = sight.finds_torn(
                                        at,
                                        || BallotBlock::decode_head(raw, cluster, node, slot),
                                        raw,
                                    );
                                    if fresh {
                                        // The other slot may be from before what tore this one.
                                        sight.unread([0, 1].map(|slot| layout::ballot(node, slot)), nodes);
                                    } else {
                                        sight.read(at, counts);
                                    }
                                }
                                _ => {}
                            }
                        }
                    }
                    // One that cannot be read is judged by time, not by a look.
                    Err(_) if *count == 1 => sight.read(*first, counts),
                    Err(_) => {}
                }
            }
        }
    }

    /// A machine's node takes a turn, at `run_us` of the run and `now_us` of its own clock.
    pub fn turns(&mut self, (m, boot): (usize, u64), run_us: u64, now_us: u64) {
        let longest_us = u64::from(self.timing.net_heartbeat) * 2000;
        let Some(sight) = self.sights.get_mut(m) else { return };
        if sight.boot != boot {
            *sight = Sight { boot, turn_us: (run_us, now_us), ..Sight::default() };
        }
        let (began_us, before) = std::mem::replace(&mut sight.turn_us, (run_us, now_us));
        if now_us.saturating_sub(before) > longest_us {
            sight.stood_us = Some((began_us, now_us));
        }
    }

    /// Whether a machine's last read of a record showed nothing that is one.
    pub fn finds_bad(&self, m: usize, at: u64) -> bool {
        self.sights.get(m).is_some_and(|sight| sight.bad.has(at))
    }

    /// A machine's node takes a datagram for genuine. Says so if that life is over, by what it had read two beats ago.
    pub fn takes(&mut self, m: usize, datagram: &[u8]) -> Option<String> {
        let frame = Envelope::new_checked(datagram).ok()?;
        let Repr { from, incarnation, nonce, .. } = *frame.repr();
        let sight = self.sights.get_mut(m)?;
        let now = (incarnation, sight.turn_us.0);
        let heard = sight.heard.entry(from.get()).or_insert(now);
        if heard.0 < incarnation {
            *heard = now;
        }
        let still = sight.still.get(&from.get())?;
        let (life, of_life, _) = still.newest?;
        let is_over = incarnation < life || incarnation == life && nonce != of_life;
        (is_over && sight.leases >= still.leases + 2).then(|| {
            format!("node {m} takes a datagram of life {incarnation} of node {from}, and had read of life {life}")
        })
    }

    /// A machine's node says, at `now_us` of its own clock, what rests on what it read. Tells what it had not read.
    /// `ended`: whether a life's clean mark stands. `life`: which life of a node goes on.
    pub fn claimed(
        &mut self,
        m: usize,
        now_us: u64,
        claim: Claim,
        ended: impl Fn(NodeId, Incarnation) -> bool,
        life: impl Fn(NodeId) -> Option<Incarnation>,
    ) -> Option<String> {
        let Timing { net_suspect, disk_suspect, lease, dead, .. } = self.timing;
        let sight = self.sights.get_mut(m)?;
        match claim {
            Claim::Silent(peer) => {
                let still = sight.still.get(&peer.get()).copied().unwrap_or_default();
                // A block that cannot be read is judged by time.
                let (from_us, limit_ms) = still.bad_us.map_or((still.since_us, disk_suspect), |us| (Some(us), dead));
                let looked_us = from_us.map_or(0, |from_us| now_us.saturating_sub(from_us));
                let early = looked_us < u64::from(limit_ms) * 1000;
                early
                    .then(|| format!("node {m} suspects node {peer} by the disk after {looked_us} us of its own looks"))
            }
            Claim::Unheard(peer) => {
                let (began_us, stood_us) = sight.stood_us?;
                let listened_us = now_us.saturating_sub(stood_us);
                // A new life of it, and one that ended, is told at once, whether it is heard or read of; also that of another
                // machine which is gone again.
                let known = sight.heard.get(&peer.get()).filter(|(_, since_us)| *since_us <= began_us);
                let read = sight.still.get(&peer.get()).and_then(|still| still.newest).map(|(life, ..)| life);
                let same_life = known
                    .is_some_and(|(heard, _)| life(peer) == Some(*heard) && read.is_none_or(|read| read <= *heard));
                let early = same_life && listened_us < u64::from(net_suspect) * 1000;
                early.then(|| {
                    format!("node {m} suspects node {peer} by the network {listened_us} us after its own stand-still")
                })
            }
            Claim::Lease { lasts_us } => {
                sight.leases += 1;
                if lasts_us > u64::from(lease) * 1000 {
                    return Some(format!("a lease of {lasts_us} us for node {m}, the cluster's is {lease} ms"));
                }
                if !sight.since_beat.is_whole(self.nodes) {
                    return Some(format!("a lease for node {m} without a look after its heartbeat"));
                }
                let excluded = sight.excluded && sight.me.is_some_and(|(n, life)| self.best.1.excludes(n, life));
                excluded.then(|| format!("a lease for node {m}, which the highest accepted view leaves out"))
            }
            Claim::Excluded(peer, life) => {
                let still = sight.still.entry(peer.get()).or_default();
                if still.excluded.is_none_or(|(before, ..)| before != life) {
                    // Another life may write there before the wait is over, or before it even begins: what it is now counts.
                    let first_us = still.newest.map_or(now_us, |_| still.first_us);
                    still.excluded = Some((life, now_us, first_us));
                }
                None
            }
            Claim::FenceBegins(peer) => {
                let still = sight.still.get(&peer.get()).copied().unwrap_or_default();
                let now_first_us = still.newest.map_or(now_us, |_| still.first_us);
                // No lease is given after the exclusion.
                let (excluded_us, first_us) =
                    still.excluded.map_or((now_us, now_first_us), |(_, us, first_us)| (us, first_us.min(now_first_us)));
                sight.fences.insert(peer.get(), first_us.min(excluded_us).min(now_us));
                None
            }
            Claim::Fenced(peer, life) => {
                let from_us = sight.fences.remove(&peer.get()).unwrap_or(now_us);
                let waited_us = now_us.saturating_sub(from_us);
                let read_clean = sight.still.get(&peer.get()).is_some_and(|still| still.clean == Some(life));
                let early = waited_us < u64::from(dead) * 1000 && !read_clean && !ended(peer, life);
                early.then(|| format!("node {m} fenced node {peer} after {waited_us} us, before {dead} ms were over"))
            }
            // That is the target's to say.
            Claim::Removed(..) => None,
        }
    }

    /// A ballot record landed.
    pub fn landed(&mut self, at: u64, raw: &[u8]) {
        let Some(head) = self.head(raw, at) else { return };
        if head.accepted == head.promised {
            let name = (head.accepted, head.number);
            let overtaken = self.promised.iter().any(|promised| *promised > head.accepted);
            if overtaken { &mut self.overtaken } else { &mut self.committed }.insert(name);
        }
        if let Region::Ballot(node, slot) = Region::of(at)
            && head.accepted == head.promised
            && let name = (head.accepted, head.number)
            && let best = (self.best.0, self.best.1.number)
            && name >= best
            && let Block::Good(block) = BallotBlock::decode(raw, self.cluster, node, slot)
            && let Some(header) = raw.first_chunk()
        {
            self.best_at = (at, *header, name == best && self.best_at.2);
            let before = std::mem::replace(&mut self.best, (block.accepted, block.view));
            if name > best {
                self.before_best = before;
            }
        }
        if let Region::Ballot(node, _) = Region::of(at)
            && let Some(promised) = self.promised.get_mut(node.index())
        {
            *promised = head.promised.max(*promised);
        }
    }

    /// The last life of a node is dead. A promise of it that is nowhere on the disk any more (the write that was to repair
    /// its record was torn) binds nobody: nothing was accepted under it, nor ever will be. The same of a view that was
    /// accepted, if nobody read it. `stands` reads a record as it stands there; what lands late counts then.
    pub fn died<'d>(&mut self, node: NodeId, stands: impl Fn(u64) -> Option<&'d [u8]>) {
        let slots = [0, 1].map(|slot| layout::ballot(node, slot));
        let heads = slots.map(|at| self.head(stands(at)?, at));
        let best = (self.best.0, self.best.1.number);
        let best_stands = heads.iter().flatten().any(|head| (head.accepted, head.number) == best);
        if slots.contains(&self.best_at.0) && !best_stands && !self.best_at.2 {
            self.best = self.before_best.clone();
        }
        let left = heads.iter().flatten().map(|head| head.promised).max().unwrap_or(Ballot::NONE);
        let Some(promised) = self.promised.get_mut(node.index()).filter(|promised| **promised > left) else { return };
        let accepted = [&self.committed, &self.overtaken].into_iter().flatten().any(|(ballot, _)| ballot == promised);
        if accepted {
            return;
        }
        *promised = left;
        let highest = self.promised.iter().copied().max().unwrap_or(Ballot::NONE);
        let free = self.overtaken.split_off(&(highest, 0));
        self.committed.extend(free);
    }

    /// A node adopted a view. Says so if that is not committed.
    pub fn adopted(&self, node: u8, name: ViewName) -> Option<String> {
        let is_committed = self.blind || self.committed.contains(&(name.ballot, name.number));
        (!is_committed).then(|| {
            format!("node {node} adopts view {} of ballot {}, which is not committed", name.number, name.ballot)
        })
    }
}
