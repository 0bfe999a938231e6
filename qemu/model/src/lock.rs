//! Master lock, ballot and view commit: the shipped machine on 2 or 3 nodes, in every order (DESIGN 4).
//!
//! Time: each node's clock moves only by its own beats, so that any node can be as slow against any other as the search
//! likes, and suspicion, right or wrong, arises by itself. A calm model leaves out the runs in which a live node's counter
//! stands still through another's `disk_suspect`: there no suspicion is wrong, and there is one master at a time.
//!
//! Steps: a read samples its blocks one by one, in any order. A sample matters only against a write to that very block, so it is
//! not a step of its own: each landing write chooses which of the reads under way have seen the old block, and what a
//! read has not seen when it ends it sees then. That is exactly the runs in which the samples are steps, in fewer states. A write lands
//! and is completed in one step, because its completion moves nobody but its node. A crash loses a write that was under way,
//! lands it, tears it, or leaves it open: then it lands at any later step, until the restart ends it. A restart on a machine whose
//! old requests are not ended leaves it open until `dead` of the new life has passed.
//!
//! What is committed the model knows by itself: a view is chosen when it lands accepted at *b* and no promise above *b*
//! stands on the disk. Whatever a machine takes for committed must have been chosen.

use std::fmt::Write as _;

use quorate_base::{Ballot, BootNonce, HaltReason, Incarnation, Timing};
use quorate_database::Flag;
use quorate_master_lock::{Detail, Rules};

use crate::explore::{Hash128, Model, Violation};
use crate::machine::{
    BLANK, BLOCKS_MAX, Event, Machines, NOBODY, NODES_MAX, Policy, RecordId, Request, TORN, ViewId, name_of, node_id,
};

/// What is checked where any suspicion may arise.
pub const INVARIANTS: [&str; 11] = [
    ONE_HISTORY,
    CHAIN,
    TRUST,
    NO_DEPOSED_COMMIT,
    ONE_PER_BALLOT,
    HALTS,
    EMERGES,
    "a higher promise that was read deposes",
    "nothing is promised below what was read",
    "committed exclusion → halt unwritten",
    "who reads an accepted view knows its predecessor",
];
/// What is checked where no suspicion is wrong.
pub const CALM_INVARIANTS: [&str; 13] = [
    OVERTAKING,
    ONE_AT_A_TIME,
    NOT_DEPOSED,
    ONE_HISTORY,
    CHAIN,
    TRUST,
    NO_DEPOSED_COMMIT,
    ONE_PER_BALLOT,
    HALTS,
    "a higher promise that was read deposes",
    "nothing is promised below what was read",
    "committed exclusion → halt unwritten",
    "who reads an accepted view knows its predecessor",
];
const ONE_HISTORY: &str = "one history of views: each number has one content";
const CHAIN: &str = "one history of views: each is built on the one before";
const TRUST: &str = "nobody trusts an uncommitted view";
const NO_DEPOSED_COMMIT: &str = "no commit by a deposed master";
const ONE_PER_BALLOT: &str = "one master per ballot";
const ONE_AT_A_TIME: &str = "without wrong suspicion one master at a time";
const NOT_DEPOSED: &str = "without wrong suspicion no live master is deposed";
const OVERTAKING: &str = "a standing Want is overtaken a bounded number of times";
const HALTS: &str = "no node halts but for being put out";
const EMERGES: &str = "when suspicion stops a master emerges";

/// Views at most.
const VIEWS_MAX: usize = 6;

/// The rules of the disk port, which the model itself keeps or leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Port {
    /// A write's completion says that it is durable: what reads after it sees it.
    pub durable: bool,
    /// The fate of a write is known before the next one to that node's blocks begins.
    pub one_write: bool,
}

/// What a run may contain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Nodes, 2 or 3.
    pub nodes: usize,
    /// No ballot above this round.
    pub rounds: u64,
    /// No view above this number.
    pub views: u64,
    /// Crashes in a run.
    pub crashes: u8,
    /// Restarts in a run; the same node's or different nodes'.
    pub restarts: u8,
    /// Requests that fail, with their fate unknown to the node, in a run.
    pub failures: u8,
    /// Times that the lock is given back in a run.
    pub releases: u8,
    /// Crashes may tear the write.
    pub tears: bool,
    /// Restarts may leave the old write open.
    pub open_restarts: bool,
    /// No suspicion is wrong.
    pub calm: bool,
    /// Others that may become master twice while a Want stands; checked in calm runs with releases.
    pub overtakings: u8,
    /// A node that notices that something cannot be may halt: to see what comes where it does not notice.
    pub halts: bool,
    /// Bit n: node n contends; the others only read and beat.
    pub contenders: u8,
    /// Beats of each node in one life, the first not counted; `u8::MAX`: any number.
    pub beats: [u8; NODES_MAX],
}

impl Bounds {
    /// Nothing goes wrong.
    pub const fn quiet(nodes: usize) -> Self {
        Self {
            nodes,
            rounds: 2,
            views: 2,
            crashes: 0,
            restarts: 0,
            failures: 0,
            releases: 0,
            tears: false,
            open_restarts: false,
            calm: false,
            overtakings: u8::MAX,
            halts: false,
            contenders: u8::MAX,
            beats: [u8::MAX; NODES_MAX],
        }
    }
}

/// What a node has under way at the disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Op {
    None,
    /// Bit n of `seen`: block n was sampled before somebody wrote it again.
    Read {
        seen: u16,
        blocks: [RecordId; BLOCKS_MAX],
    },
    Write {
        at: u8,
        record: RecordId,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Node {
    local: u32,
    op: Op,
    /// A write that nobody waits for any more and that may still land.
    late: Option<(u8, RecordId)>,
    life: u8,
    out: bool,
    /// How often others became master since its Want stands.
    overtaken: u8,
    /// Beats of this life.
    beats: u8,
}

/// One state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    nodes: [Node; NODES_MAX],
    disk: [RecordId; BLOCKS_MAX],
    crashes: u8,
    restarts: u8,
    failures: u8,
    releases: u8,
    /// Per number, the content that was chosen and the highest ballot under which it was.
    chosen: [Option<ViewId>; VIEWS_MAX + 1],
    /// Ballots that had a master.
    masters: u64,
    /// A write landed late.
    late: bool,
    /// In calm runs: by how much node m's clock moved since n's heartbeat landed, in beats.
    still: [[u8; NODES_MAX]; NODES_MAX],
}

/// What a crash does to a write that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is lost.
    Lost,
    /// It landed.
    Landed,
    /// The block is neither the old nor the new one.
    Torn,
    /// It may land later.
    Open,
}

/// Bit n: the read that node n has under way saw the block before this write landed.
pub type Seen = u8;

/// What can happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// A node does its next step: its next beat, the end of its read, its write.
    Go(u8, Seen),
    /// A node dies.
    Crash(u8, Fate, Seen),
    /// An old write lands.
    Late(u8, Seen),
    /// A node's next life begins; false: what is open stays open for a while.
    Restart(u8, bool),
    /// A request fails; if it is a write, it did not land.
    Fail(u8),
    /// A write fails, but landed.
    FailLanded(u8, Seen),
    /// Without the rule *one write at a time*: the write is reported as failed and is still under way.
    FailOpen(u8),
    /// Without the rule *durable before the read*: the write is reported as done and is still under way.
    Early(u8),
    /// The master gives the lock back.
    Release(u8),
}

/// The model.
#[derive(Debug)]
pub struct LockModel {
    name: String,
    bounds: Bounds,
    port: Port,
    all: Machines,
}

impl LockModel {
    /// With these bounds, rules and port.
    pub fn new(name: &str, bounds: Bounds, rules: Rules, port: Port) -> Self {
        let hasty = !rules.keep(quorate_master_lock::Rule::OneChangeAtATime);
        let policy = Policy { views: bounds.views, contenders: bounds.contenders, admits: true, evicts: true, hasty };
        // Enough to tell older from newer; who misses as many beats takes a live node for a silent one.
        let counters = if bounds.calm { CALM_COUNTERS } else { 4 };
        let all = Machines::new(bounds.nodes, BEATS, policy, rules, Detail { counters, changed_at: false });
        Self { name: name.to_owned(), bounds, port, all }
    }

    /// The machines that were met.
    pub fn machines(&self) -> &Machines {
        &self.all
    }

    fn is_alive(state: &State, n: usize) -> bool {
        state.nodes[n].local != NOBODY
    }

    /// What came of an event of node `n`.
    fn apply(&mut self, state: &mut State, n: usize, outcome: u32) -> Result<(), Violation> {
        let outcome = self.all.outcome(outcome).clone();
        // The next beat begins at once, unless clocks are compared: to have begun a read restricts nothing.
        let idle = outcome.request == Request::None && outcome.local != NOBODY && outcome.halted.is_none();
        state.nodes[n].local = outcome.local;
        state.nodes[n].op = match outcome.request {
            Request::None => Op::None,
            Request::Read => Op::Read { seen: 0, blocks: [BLANK; BLOCKS_MAX] },
            Request::Write { at, record, .. } => Op::Write { at, record },
        };
        if let Some(violation) = outcome.violation {
            return Err(violation);
        }
        if let Some(ballot) = outcome.acquired {
            let bit = 1 << ((ballot.0 >> 6) * 4 + (ballot.0 & 63)).min(63);
            if state.masters & bit != 0 {
                return Err(Violation::new(
                    ONE_PER_BALLOT,
                    format!("node {n} is master under {ballot:?}, which had one"),
                ));
            }
            state.masters |= bit;
            for (m, other) in state.nodes.iter_mut().enumerate().take(self.bounds.nodes) {
                if m != n {
                    other.overtaken = other.overtaken.saturating_add(u8::from(other.overtaken != NO_WANT));
                }
            }
        }
        match outcome.halted {
            None => {}
            Some(HaltReason::PutOut { .. }) => state.nodes[n].out = true,
            // With an open restart the old life's late write can be seen as another machine's hand.
            Some(HaltReason::ForeignNonce { .. }) if self.bounds.open_restarts => state.nodes[n].out = true,
            Some(_) if self.bounds.halts => state.nodes[n].out = true,
            Some(reason) => return Err(Violation::new(HALTS, format!("node {n} halts: {reason}"))),
        }
        if self.bounds.calm {
            self.move_clock(state, n, outcome.moved_us);
            if outcome.lost && !state.late {
                return Err(Violation::new(NOT_DEPOSED, format!("node {n} was master and sees a higher promise")));
            }
        }
        self.check(state, n, outcome.committed || outcome.acquired.is_some())?;
        if idle && !self.bounds.calm {
            self.count_beat(state, n);
            let due = self.all.answer(state.nodes[n].local, Event::Due);
            return self.apply(state, n, due);
        }
        Ok(())
    }

    fn check(&self, state: &State, n: usize, as_master: bool) -> Result<(), Violation> {
        let node = &state.nodes[n];
        if node.local != NOBODY
            && let Some((name, view)) = self.all.local(node.local).facts.committed
            && state.chosen[(name.number as usize).min(VIEWS_MAX)] != Some(view)
        {
            let invariant = if as_master { NO_DEPOSED_COMMIT } else { TRUST };
            let what = format!("node {n} takes {} {} for committed", name_of(name), self.all.members(view));
            return Err(Violation::new(invariant, what));
        }
        if self.bounds.calm {
            let acting = |m: &usize| Self::is_alive(state, *m) && self.all.local(state.nodes[*m].local).facts.acting;
            let masters: Vec<_> = (0..self.bounds.nodes).filter(acting).collect();
            if masters.len() > 1 {
                return Err(Violation::new(ONE_AT_A_TIME, format!("nodes {masters:?} act as master")));
            }
            let patience = self.bounds.overtakings;
            let tired = |n: &&Node| n.overtaken != NO_WANT && n.overtaken > patience && n.local != NOBODY;
            if patience != u8::MAX && state.nodes.iter().any(|n| tired(&n)) {
                let what = "another became master again and again while a Want stood";
                return Err(Violation::new(OVERTAKING, what));
            }
        }
        Ok(())
    }

    fn count_beat(&self, state: &mut State, n: usize) {
        if self.bounds.beats[n] != u8::MAX {
            state.nodes[n].beats = state.nodes[n].beats.saturating_add(1);
        }
    }

    fn move_clock(&self, state: &mut State, m: usize, us: u64) {
        let beats = (us / (u64::from(BEATS.disk_heartbeat) * 1000)).min(200) as u8;
        for n in 0..self.bounds.nodes {
            let alive = Self::is_alive(state, n);
            let still = &mut state.still[m][n];
            if n != m && alive && *still != u8::MAX {
                *still = (*still + beats).min(UNBORN);
            }
        }
    }

    /// No live node stood still through another's `disk_suspect`, after which a suspicion may be wrong. Whoever has not beaten
    /// yet is suspected by nobody and may take longer, as long as counters tell newer from older.
    fn is_calm(&self, state: &State) -> bool {
        let nodes = 0..self.bounds.nodes;
        let has_beaten = |n: usize| {
            let heartbeat = self.all.content(state.disk[3 * n]).heartbeat;
            heartbeat.is_some_and(|h| h.incarnation.0 == u32::from(state.nodes[n].life))
        };
        !nodes.clone().any(|m| {
            nodes.clone().any(|n| {
                let still = state.still[m][n];
                Self::is_alive(state, n)
                    && Self::is_alive(state, m)
                    && still != u8::MAX
                    && still >= if has_beaten(n) { SUSPECT } else { UNBORN }
            })
        })
    }

    /// The reads that have yet to see a block.
    fn readers(state: &State, at: u8) -> Seen {
        let reads = |n: &Node| matches!(n.op, Op::Read { seen, .. } if seen >> at & 1 == 0);
        state.nodes.iter().enumerate().filter(|(_, n)| reads(n)).fold(0, |all, (m, _)| all | 1 << m)
    }

    /// A block changes; these reads saw the old one.
    fn overwrite(state: &mut State, at: u8, record: RecordId, saw: Seen) {
        let old = std::mem::replace(&mut state.disk[usize::from(at)], record);
        for (m, node) in state.nodes.iter_mut().enumerate() {
            if let Op::Read { seen, blocks } = &mut node.op
                && saw >> m & 1 == 1
            {
                *seen |= 1 << at;
                blocks[usize::from(at)] = old;
            }
        }
    }

    /// A write lands. What is chosen by it?
    fn land(&mut self, state: &mut State, at: u8, record: RecordId, saw: Seen) -> Result<(), Violation> {
        let n = usize::from(at / 3);
        Self::overwrite(state, at, record, saw);
        let content = *self.all.content(record);
        if let Some(h) = content.heartbeat {
            for m in 0..self.bounds.nodes {
                state.still[m][n] = if self.bounds.calm { 0 } else { u8::MAX };
            }
            let overtaken = &mut state.nodes[n].overtaken;
            let counts = self.bounds.overtakings != u8::MAX && h.flag == Flag::Want;
            *overtaken = match *overtaken {
                _ if !counts => NO_WANT,
                NO_WANT => 0,
                count => count,
            };
        }
        let Some(b) = content.ballot else { return Ok(()) };
        let promised = (0..self.bounds.nodes).filter_map(|m| self.all.newest(&state.disk, m)).map(|b| b.promised).max();
        if b.name.ballot == Ballot::NONE || b.promised != b.name.ballot || promised > Some(b.name.ballot) {
            return Ok(());
        }
        // Newer than what else stands in this node's block, else nobody sees it.
        if self.all.newest(&state.disk, n) != Some(b) {
            return Ok(());
        }
        let number = (b.name.number as usize).min(VIEWS_MAX);
        let before = number.checked_sub(1).and_then(|k| state.chosen[k]);
        if let Some(known) = before.filter(|known| number > 0 && *known != b.predecessor) {
            let (built, known) = (self.all.members(b.predecessor), self.all.members(known));
            return Err(Violation::new(CHAIN, format!("{} is built on {built}, not on {known}", name_of(b.name))));
        }
        match state.chosen[number] {
            Some(known) if known != b.view => {
                let (new, known) = (self.all.members(b.view), self.all.members(known));
                let what = format!("{} is committed with {new}, after {known}", name_of(b.name));
                Err(Violation::new(ONE_HISTORY, what))
            }
            _ => {
                state.chosen[number] = Some(b.view);
                Ok(())
            }
        }
    }

    fn go(&mut self, state: &State, n: usize, saw: Seen) -> Result<State, Violation> {
        let mut next = *state;
        let event = match state.nodes[n].op {
            Op::None => {
                self.count_beat(&mut next, n);
                Event::Due
            }
            Op::Read { seen, mut blocks } => {
                for at in (0..3 * self.bounds.nodes).filter(|at| seen >> at & 1 == 0) {
                    blocks[at] = state.disk[at];
                }
                Event::Read(0, blocks)
            }
            Op::Write { at, record } => {
                self.land(&mut next, at, record, saw)?;
                Event::Wrote(0)
            }
        };
        let outcome = self.all.answer(state.nodes[n].local, event);
        self.apply(&mut next, n, outcome)?;
        Ok(next)
    }

    fn crash(&mut self, state: &State, n: usize, fate: Fate, saw: Seen) -> Result<State, Violation> {
        let mut next = *state;
        next.crashes += 1;
        if let Op::Write { at, record } = state.nodes[n].op {
            match fate {
                Fate::Lost => {}
                Fate::Landed => self.land(&mut next, at, record, saw)?,
                Fate::Torn => Self::overwrite(&mut next, at, TORN, saw),
                Fate::Open => next.nodes[n].late = Some((at, record)),
            }
        }
        let node = &mut next.nodes[n];
        (node.local, node.op, node.overtaken) = (NOBODY, Op::None, NO_WANT);
        Ok(next)
    }

    fn start(&mut self, state: &mut State, n: usize) -> Result<(), Violation> {
        let node = &mut state.nodes[n];
        node.life += 1;
        (node.out, node.beats) = (false, 0);
        if self.bounds.calm {
            state.still.iter_mut().for_each(|still| still[n] = 0);
        }
        let node = &mut state.nodes[n];
        let (life, blank) = (node.life, state.disk[3 * n] == BLANK && node.life == 1);
        let nonce = BootNonce(u64::from(life) * 10 + n as u64);
        let outcome = self.all.born(n, Incarnation(u32::from(life)), nonce, &state.disk, blank);
        self.apply(state, n, outcome)
    }

    fn master_stands(&self, state: &State) -> bool {
        let promised = (0..self.bounds.nodes).filter_map(|m| self.all.newest(&state.disk, m)).map(|b| b.promised).max();
        (0..self.bounds.nodes).any(|n| {
            let facts = Self::is_alive(state, n).then(|| self.all.local(state.nodes[n].local).facts);
            facts.is_some_and(|f| f.acting && f.master == promised)
        })
    }
}

/// No Want stands.
const NO_WANT: u8 = u8::MAX;
/// The default time-outs, with the beat as the unit of time: so a beat is also the shortest pause.
const BEATS: Timing = Timing {
    net_heartbeat: 1,
    net_suspect: 2,
    disk_heartbeat: 1,
    disk_suspect: 2,
    io_max: 1,
    lease: 4,
    dead: 6,
    outage_grace: 150,
};
/// `disk_suspect` in beats.
const SUSPECT: u8 = BEATS.disk_suspect as u8;
/// Heartbeat counters count modulo this where no suspicion is wrong.
const CALM_COUNTERS: u64 = 16;
/// So many beats of others a node may miss before its first one there: with those that it may miss afterwards less than half
/// of what tells a newer counter from an older one.
const UNBORN: u8 = CALM_COUNTERS as u8 / 2 - 1 - SUSPECT;

impl Model for LockModel {
    type State = State;
    type Action = Action;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn bounds(&self) -> String {
        let b = &self.bounds;
        let mut text = format!("{} nodes, ballots to round {}, views to {}", b.nodes, b.rounds, b.views);
        for (count, what) in [
            (b.crashes, "crashes"),
            (b.restarts, "restarts"),
            (b.failures, "failed requests"),
            (b.releases, "releases"),
        ] {
            let _ = write!(text, ", {count} {what}");
        }
        if b.crashes > 0 {
            text += ", writes lost, landed or late";
        }
        if b.tears {
            text += ", torn";
        }
        if b.open_restarts {
            text += ", late also after the restart";
        }
        text += if b.calm { ", no wrong suspicion" } else { ", any suspicion" };
        let readers = (0..b.nodes).filter(|n| b.contenders >> n & 1 == 0).count();
        if readers > 0 {
            let _ = write!(text, ", {readers} of them only a reader");
        }
        let count = |beats: &u8| if *beats == u8::MAX { "any number of".to_owned() } else { beats.to_string() };
        let mut counts: Vec<_> = b.beats[..b.nodes].iter().map(count).collect();
        if counts.iter().all(|c| *c == counts[0]) {
            counts.truncate(1);
        }
        let _ = write!(text, ", {} beats per life after the first", counts.join("/"));
        text
    }

    fn invariants(&self) -> &'static [&'static str] {
        match (self.bounds.calm, self.bounds.overtakings) {
            (false, _) => &INVARIANTS,
            // Overtaking is counted only where the lock is given back.
            (true, u8::MAX) => &CALM_INVARIANTS[1..],
            (true, _) => &CALM_INVARIANTS,
        }
    }

    fn initial(&mut self) -> Result<Vec<State>, Violation> {
        let node = Node { local: NOBODY, op: Op::None, late: None, life: 0, out: false, overtaken: NO_WANT, beats: 0 };
        let mut chosen = [None; VIEWS_MAX + 1];
        chosen[0] = Some(0);
        let mut state = State {
            nodes: [node; NODES_MAX],
            disk: [BLANK; BLOCKS_MAX],
            crashes: 0,
            restarts: 0,
            failures: 0,
            releases: 0,
            chosen,
            masters: 0,
            late: false,
            still: [[u8::MAX; NODES_MAX]; NODES_MAX],
        };
        for n in 0..self.bounds.nodes {
            self.start(&mut state, n)?;
        }
        Ok(vec![state])
    }

    fn key(&self, state: &State) -> u128 {
        Hash128::of(state)
    }

    fn actions(&mut self, state: &State, actions: &mut Vec<Action>) {
        let b = self.bounds;
        let subsets = |readers: Seen| (0..=readers).filter(move |saw| saw & !readers == 0);
        for n in 0..b.nodes {
            let (node, id) = (&state.nodes[n], n as u8);
            let writing = if let Op::Write { at, .. } = node.op { Some(Self::readers(state, at)) } else { None };
            if let Some((at, _)) = node.late {
                actions.extend(subsets(Self::readers(state, at)).map(|saw| Action::Late(id, saw)));
            }
            if node.local == NOBODY {
                if !node.out && node.life > 0 && state.restarts < b.restarts {
                    actions.push(Action::Restart(id, true));
                    if node.late.is_some_and(|(at, _)| at % 3 != 0) && b.open_restarts {
                        actions.push(Action::Restart(id, false));
                    }
                }
                continue;
            }
            // A node whose beats are used up stands still for ever, as one that is paused.
            if node.beats <= b.beats[n] {
                actions.extend(subsets(writing.unwrap_or(0)).map(|saw| Action::Go(id, saw)));
            }
            if state.crashes < b.crashes {
                actions.push(Action::Crash(id, Fate::Lost, 0));
                if let Some(readers) = writing {
                    actions.extend(subsets(readers).map(|saw| Action::Crash(id, Fate::Landed, saw)));
                    if b.tears {
                        actions.extend(subsets(readers).map(|saw| Action::Crash(id, Fate::Torn, saw)));
                    }
                    actions.extend(node.late.is_none().then_some(Action::Crash(id, Fate::Open, 0)));
                }
            }
            if state.failures < b.failures && node.op != Op::None {
                actions.push(Action::Fail(id));
                if let Some(readers) = writing {
                    actions.extend(subsets(readers).map(|saw| Action::FailLanded(id, saw)));
                    actions.extend((!self.port.one_write && node.late.is_none()).then_some(Action::FailOpen(id)));
                }
            }
            if writing.is_some() && !self.port.durable && node.late.is_none() {
                actions.push(Action::Early(id));
            }
            if state.releases < b.releases && self.all.local(node.local).facts.acting {
                actions.push(Action::Release(id));
            }
        }
    }

    fn step(&mut self, state: &State, action: Action) -> Result<Option<State>, Violation> {
        let mut next = *state;
        match action {
            Action::Go(n, saw) => next = self.go(state, usize::from(n), saw)?,
            Action::Crash(n, fate, saw) => next = self.crash(state, usize::from(n), fate, saw)?,
            Action::Late(n, saw) => {
                let Some((at, record)) = next.nodes[usize::from(n)].late.take() else { return Ok(None) };
                next.late = true;
                self.land(&mut next, at, record, saw)?;
            }
            Action::Restart(n, ended) => {
                next.restarts += 1;
                if ended {
                    next.nodes[usize::from(n)].late = None;
                }
                self.start(&mut next, usize::from(n))?;
            }
            Action::Fail(n) | Action::FailLanded(n, _) => {
                next.failures += 1;
                let node = usize::from(n);
                if let (Op::Write { at, record }, Action::FailLanded(_, saw)) = (state.nodes[node].op, action) {
                    self.land(&mut next, at, record, saw)?;
                }
                let outcome = self.all.answer(state.nodes[node].local, Event::Failed(0));
                self.apply(&mut next, node, outcome)?;
            }
            Action::FailOpen(n) | Action::Early(n) => {
                let node = usize::from(n);
                let Op::Write { at, record } = state.nodes[node].op else { return Ok(None) };
                next.nodes[node].late = Some((at, record));
                let early = matches!(action, Action::Early(_));
                next.failures += u8::from(!early);
                let event = if early { Event::Wrote(0) } else { Event::Failed(0) };
                let outcome = self.all.answer(state.nodes[node].local, event);
                self.apply(&mut next, node, outcome)?;
            }
            Action::Release(n) => {
                next.releases += 1;
                let node = usize::from(n);
                // Nothing but a wish: what is under way goes on.
                let outcome = self.all.answer(state.nodes[node].local, Event::Release);
                let (local, request) = (self.all.outcome(outcome).local, self.all.outcome(outcome).request);
                if state.nodes[node].op == Op::None && request != Request::None {
                    self.apply(&mut next, node, outcome)?;
                } else {
                    next.nodes[node].local = local;
                }
            }
        }
        // After `dead` of the new life nothing of the old one lands any more: it has landed or is lost before.
        for n in 0..self.bounds.nodes {
            let node = &next.nodes[n];
            if self.port.durable
                && self.port.one_write
                && node.late.is_some()
                && node.local != NOBODY
                && !self.all.local(node.local).facts.quarantined
            {
                return Ok(None);
            }
        }
        if self.bounds.calm && !self.is_calm(&next) {
            return Ok(None);
        }
        Ok(Some(next))
    }

    fn is_within(&self, state: &State) -> bool {
        state.nodes.iter().filter(|n| n.local != NOBODY).all(|n| {
            let facts = &self.all.local(n.local).facts;
            facts.highest.0 >> 6 <= self.bounds.rounds
        })
    }

    fn tell(&mut self, before: &State, action: Action, after: Option<&State>) -> String {
        let under_way = |n: u8| match before.nodes[usize::from(n)].op {
            Op::None => "begins a beat".to_owned(),
            Op::Read { seen: 0, .. } => "ends its read".to_owned(),
            Op::Read { seen, blocks } => {
                let old = (0..BLOCKS_MAX as u8).filter(|at| seen >> at & 1 == 1);
                let old: Vec<_> = old.map(|at| self.all.tell(at, blocks[usize::from(at)])).collect();
                format!("ends its read, which saw earlier [{}]", old.join("; "))
            }
            Op::Write { at, record } => format!("writes {}", self.all.tell(at, record)),
        };
        let mut text = match action {
            Action::Go(n, _) => format!("node {n} {}", under_way(n)),
            Action::Crash(n, fate, _) => format!("node {n} crashes; it {}: {fate:?}", under_way(n)),
            Action::Late(n, _) => match before.nodes[usize::from(n)].late {
                Some((at, record)) => format!("late: what node {n} wrote lands: {}", self.all.tell(at, record)),
                None => format!("late: nothing of node {n}"),
            },
            Action::Restart(n, ended) => {
                format!(
                    "node {n} starts again, {}",
                    if ended { "old requests ended" } else { "an old write still open" }
                )
            }
            Action::Fail(n) => format!("node {n} {}: fails, nothing landed", under_way(n)),
            Action::FailLanded(n, _) => format!("node {n} {}: fails, but landed", under_way(n)),
            Action::FailOpen(n) => format!("node {n} {}: reported as failed, still under way", under_way(n)),
            Action::Early(n) => format!("node {n} {}: reported as done, not landed yet", under_way(n)),
            Action::Release(n) => format!("node {n} gives the lock back"),
        };
        let Some(after) = after else { return text };
        for n in 0..self.bounds.nodes {
            let facts = |state: &State| Self::is_alive(state, n).then(|| self.all.local(state.nodes[n].local).facts);
            let (old, new) = (facts(before).unwrap_or_default(), facts(after).unwrap_or_default());
            match (old.master, new.master) {
                (None, Some(ballot)) => text += &format!(" → node {n} is master under {ballot:?}"),
                (Some(_), None) => text += &format!(" → node {n} is no longer master"),
                _ => {}
            }
            if let Some((name, view)) = new.committed.filter(|_| new.committed != old.committed) {
                text += &format!(" → node {} knows {} {}", node_id(n), name_of(name), self.all.members(view));
            }
            if after.nodes[n].out && !before.nodes[n].out {
                text += &format!(" → node {n} halts: put out");
            }
        }
        text
    }

    fn turns(&self) -> u32 {
        // In a calm model a fair run would have to keep the calm.
        if self.bounds.calm { 0 } else { self.bounds.nodes as u32 }
    }

    fn fair(&mut self, state: &State, turn: u32) -> Result<Option<State>, Violation> {
        let n = turn as usize;
        let mut next = *state;
        next.nodes[n].late = None;
        if Self::is_alive(state, n) {
            return self.go(&next, n, 0).map(Some);
        }
        let nobody = (0..self.bounds.nodes).all(|m| !Self::is_alive(state, m));
        if nobody {
            self.start(&mut next, n)?;
        }
        Ok(Some(next))
    }

    fn is_goal(&self, state: &State) -> bool {
        self.master_stands(state)
    }

    fn liveness(&self) -> &'static str {
        EMERGES
    }
}
