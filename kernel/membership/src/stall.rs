//! What the master waits for, since when, and what it does when a level takes longer than it declared (MISSION A: a level
//! that does not acknowledge is seen, reported, and after its deadline its node is forced out).
//!
//! ```text
//! told ──1, 2, 4, 8 … s──▶ `waiting`      told ──the level's deadline──▶ `overdue`: forced out, or this node's own halt
//! ```
//! Invariants:
//! - a wait begins when this master told the step; it begins anew after a freeze, and after a stand-still of this node,
//!   because what came in meanwhile has not been looked at yet;
//! - a node that says it is frozen is not put out by a deadline: its levels may not write, and the evidence of DESIGN 7
//!   decides about it;
//! - this node never puts itself out by a view: it halts, and whoever takes over finds the step where it stands.

use quorate_base::event::{Event, Stall, StepEvent, Subject};
use quorate_base::{Ballot, HaltReason, Instant, LevelOrder, NodeId, NodeSet, RoundId, Timing, Transition};

use crate::context::Context;
use crate::fence::Fence;
use crate::master::Master;
use crate::member::Member;
use crate::transition::{At, Progress, SLOTS, local, slots};

/// The first report of a wait, ms; each later one after twice the time. A level that works properly takes milliseconds.
const REPORT_FIRST_MS: u32 = 1000;

/// Where a transition stands, without the set of those who owe an acknowledgement: that shrinks while the wait goes on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Position {
    transition: Transition,
    level: Option<LevelOrder>,
    /// Of no master between two rounds.
    round: RoundId,
    barrier: u8,
    ending: bool,
}

impl Position {
    fn of(p: &Progress) -> Self {
        let (round, barrier) = match p.at {
            At::Running { round, barrier, .. } => (round, barrier),
            At::Waiting(_) | At::Done => (RoundId { ballot: Ballot::NONE, sequence: 0 }, 0),
        };
        Self { transition: p.transition, level: p.level(), round, barrier, ending: p.ending }
    }
}

/// One transition's present position, and since when it stands there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Watch {
    at: Position,
    since: Instant,
    /// So long after `since` the level's deadline began to count: what came before has had its consequence, or nobody could
    /// help it.
    judged_ms: u32,
    /// So long after `since` it is reported next.
    report_ms: u32,
}

impl Watch {
    fn begin(at: Position, now: Instant) -> Self {
        Self { at, since: now, judged_ms: 0, report_ms: REPORT_FIRST_MS }
    }
}

/// The waits of a master.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Stalls {
    watches: [Option<Watch>; SLOTS],
    /// The last look; `FAR` while there is nothing to look at.
    seen_at: Instant,
    due: Instant,
}

impl Stalls {
    pub(crate) const NONE: Self = Self { watches: [None; SLOTS], seen_at: Instant::FAR, due: Instant::FAR };

    /// When there is something to report or to judge.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    fn waited_ms(&self, slot: usize, now: Instant) -> u64 {
        self.watches[slot].map_or(0, |w| now.since_us(w.since) / 1000)
    }

    /// Nobody's time counts that passed until now.
    pub(crate) fn restart(&mut self, now: Instant) {
        for watch in self.watches.iter_mut().flatten() {
            *watch = Watch::begin(watch.at, now);
        }
    }

    /// After a stand-still of this node (longer than two beats without a turn) all waits begin anew. `any`: there are waits.
    fn look(&mut self, now: Instant, any: bool, timing: &Timing) {
        if self.seen_at != Instant::FAR && now > self.seen_at.plus_ms(2 * timing.disk_heartbeat) {
            self.restart(now);
        }
        self.seen_at = if any { now } else { Instant::FAR };
    }

    fn follow(&mut self, slot: usize, progress: Option<&Progress>, now: Instant) {
        let watch = &mut self.watches[slot];
        match progress.map(Position::of) {
            None => *watch = None,
            Some(at) if watch.is_some_and(|w| w.at == at) => {}
            Some(at) => *watch = Some(Watch::begin(at, now)),
        }
    }
}

impl Master {
    /// For how long a node's own transition has stood where it stands, ms.
    pub fn waited_ms(&self, n: NodeId, now: Instant) -> u64 {
        self.stalls.waited_ms(n.index(), now)
    }

    /// The same of its local one.
    pub fn local_waited_ms(&self, n: NodeId, now: Instant) -> u64 {
        self.stalls.waited_ms(local(n), now)
    }

    /// For how long the answers to the takeover have been awaited, ms.
    pub fn takeover_ms(&self, now: Instant) -> u64 {
        now.since_us(self.began) / 1000
    }

    /// The fence of a node, if levels wait for it.
    pub fn fence(&self, n: NodeId) -> Option<&Fence> {
        self.fences[n.index()].as_ref().filter(|fence| !fence.lets(LevelOrder::USER_FROM))
    }

    /// Reports and judges the waits. Called with every turn in which this master may act.
    pub(crate) fn watch_stalls(&mut self, ctx: &mut Context<'_, '_>, member: &Member) {
        let mut any = false;
        for (slot, _) in slots(self.nodes) {
            any |= self.progress[slot].is_some();
            self.stalls.follow(slot, self.progress[slot].as_ref(), ctx.now);
        }
        self.stalls.look(ctx.now, any, &self.timing);
        if !any {
            self.stalls.due = Instant::FAR;
            return;
        }
        let mut due = Instant::FAR;
        for (slot, n) in slots(self.nodes) {
            due = due.min(self.watch_one(slot, n, ctx, member));
        }
        self.stalls.due = due;
    }

    /// Gives the time of the next look at this step.
    fn watch_one(&mut self, slot: usize, n: NodeId, ctx: &mut Context<'_, '_>, member: &Member) -> Instant {
        let (Some(p), Some(watch)) = (self.progress[slot], self.stalls.watches[slot]) else {
            return Instant::FAR;
        };
        let At::Running { level, round, barrier, awaiting } = p.at else { return Instant::FAR };
        // A transition that is ending waits for managers, not for a level.
        if awaiting.is_empty() || p.ending {
            return Instant::FAR;
        }
        let mut watch = watch;
        let subject = Subject { node: n, incarnation: p.incarnation, transition: p.transition };
        let name = member.levels().iter().find(|l| l.order == level).map_or("", |l| l.name.as_str());
        let step = StepEvent { level, name, round, subject, barrier };
        let waited_ms = ctx.now.since_us(watch.since) / 1000;
        if waited_ms >= watch.report_ms.into() {
            ctx.trace.event(Event::Waiting(Stall { step, awaiting, waited_ms }));
            while waited_ms >= watch.report_ms.into() && watch.report_ms < u32::MAX {
                watch.report_ms = watch.report_ms.saturating_mul(2);
            }
        }
        let mut due = watch.since.plus_ms(watch.report_ms);
        let deadline_ms = self.map.get(level).map_or(0, |e| e.deadline_ms);
        if deadline_ms != 0 {
            let judged = |watch: &Watch| watch.since.plus_ms(watch.judged_ms).plus_ms(deadline_ms);
            if ctx.now >= judged(&watch) {
                watch.judged_ms = u32::try_from(waited_ms).unwrap_or(u32::MAX);
                let late: NodeSet = awaiting.iter().filter(|owes| !says_frozen(*owes, ctx)).collect();
                if !late.is_empty() {
                    ctx.trace.event(Event::Overdue(Stall { step, awaiting: late, waited_ms }));
                    self.overdue(level.0, late);
                }
            }
            due = due.min(judged(&watch));
        }
        self.stalls.watches[slot] = Some(watch);
        due
    }

    fn overdue(&mut self, level: u16, late: NodeSet) {
        if late.contains(self.me) {
            // The others' lateness is the next master's business: nothing that this node began now would be finished.
            self.halt = Some(HaltReason::LevelOverdue { level });
        } else {
            self.condemn(late);
        }
    }
}

/// Whether a node's frames or its block say that its lease has run out.
fn says_frozen(n: NodeId, ctx: &Context<'_, '_>) -> bool {
    let block = ctx.lock.peer(n).heartbeat.as_ref().is_some_and(|h| h.frozen);
    block || ctx.net.peer(n).heartbeat.as_ref().is_some_and(|h| h.status.frozen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_base::Incarnation;

    fn ms(ms: u64) -> Instant {
        Instant(ms * 1000)
    }

    fn running(barrier: u8, awaiting: NodeSet) -> Progress {
        let round = RoundId { ballot: Ballot(65), sequence: 1 };
        let at = At::Running { level: LevelOrder(70), round, barrier, awaiting };
        Progress { at, ..Progress::new(Transition::Joining, Incarnation(1), None) }
    }

    fn since(stalls: &Stalls, n: NodeId) -> Option<Instant> {
        stalls.watches[n.index()].map(|w| w.since)
    }

    #[test]
    fn a_wait_goes_on_while_acknowledgements_come_and_begins_anew_with_each_barrier() {
        let n = NodeId::new(2).unwrap();
        let mut stalls = Stalls::NONE;
        stalls.follow(n.index(), Some(&running(0, NodeSet::first(3))), ms(100));
        stalls.follow(n.index(), Some(&running(0, NodeSet::first(1))), ms(700));
        assert_eq!(since(&stalls, n), Some(ms(100)));
        stalls.follow(n.index(), Some(&running(1, NodeSet::first(3))), ms(900));
        assert_eq!(since(&stalls, n), Some(ms(900)));
        let forced = Progress { transition: Transition::ForcedLeaving, ..running(1, NodeSet::first(3)) };
        stalls.follow(n.index(), Some(&forced), ms(950));
        assert_eq!(since(&stalls, n), Some(ms(950)));
        stalls.follow(n.index(), None, ms(1000));
        assert_eq!(since(&stalls, n), None);
    }

    #[test]
    fn a_stand_still_of_this_node_is_nobody_elses_waiting_time() {
        let n = NodeId::new(2).unwrap();
        let timing = Timing::DEFAULT;
        let step = running(0, NodeSet::first(3));
        let mut stalls = Stalls::NONE;
        let beats = u64::from(2 * timing.disk_heartbeat);
        stalls.follow(n.index(), Some(&step), ms(100));
        stalls.look(ms(100), true, &timing);
        // Up to two beats between two turns are the pace of an idle node.
        stalls.look(ms(100 + beats), true, &timing);
        assert_eq!(since(&stalls, n), Some(ms(100)));
        stalls.look(ms(101 + 2 * beats), true, &timing);
        assert_eq!(since(&stalls, n), Some(ms(101 + 2 * beats)));
        stalls.restart(ms(5000));
        assert_eq!(since(&stalls, n), Some(ms(5000)), "a thaw");
        // Nothing to look at for long, then something: that is no stand-still.
        stalls.follow(n.index(), None, ms(5000));
        stalls.look(ms(5000), false, &timing);
        stalls.follow(n.index(), Some(&step), ms(90_000));
        stalls.look(ms(90_000), true, &timing);
        assert_eq!(since(&stalls, n), Some(ms(90_000)));
    }
}
