//! The master's commands to the disk's reservation: one at a time, for all fences together; and the keys of lives that are
//! long over are removed.
//!
//! Invariants
//! - A key is preempted only after a committed view shut its life out; which is for good, so that a command that lands late,
//!   after this master was deposed, does no harm.
//! - Nothing is concluded from READ KEYS unless the own registration stands by then: else the disk may have forgotten all
//!   of them, and the reservation with them.
//! - The key of a life that is newer than the view's is never touched: it is being born.

use heapless::Vec;
use quorate_base::capacity::NODES_MAX;
use quorate_base::event::Event;
use quorate_base::reservation::{Keys, ReservationAnswer};
use quorate_base::{
    DiskError, Incarnation, Instant, NodeId, NodeState, Preempted, ReservationError, ReservationKey, ReservationOp,
};

use super::keys::{Hunt, Settling, key_of};
use super::{Fence, Means};
use crate::context::Context;
use crate::master::Master;

/// Pause after a command that failed, µs: about a disk operation.
const RETRY_US: u64 = 10_000;
/// Stale keys that are removed after one reading of them; the rest with the next.
const STALE_MAX: usize = 8;

/// What is asked of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Command {
    /// A reservation command.
    Reservation(ReservationOp),
    /// The read of a node's heartbeat block.
    Heartbeat(NodeId),
}

/// What the answer is to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Asked {
    Keys {
        /// Sent before the commit, perhaps.
        early: bool,
    },
    Preempt {
        node: NodeId,
        key: ReservationKey,
        abort: bool,
    },
    Stale,
    Reset,
    Heartbeat(NodeId),
}

/// What is not about one victim.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Sweep {
    /// The disk has PREEMPT AND ABORT, as far as is known.
    abort: bool,
    /// A view that forces somebody out is being committed: the keys are read meanwhile.
    early: bool,
    /// What that reading showed of nodes that are to go.
    seen: [Option<ReservationKey>; NODES_MAX],
    /// The keys are to be looked through for stale ones, from then on; [`Instant::FAR`]: they are not.
    tidy_at: Instant,
    stale: Vec<(NodeId, Incarnation, ReservationKey), STALE_MAX>,
    retry_at: Instant,
    /// When the next command is due, if nothing but time is waited for.
    pub(crate) wake: Instant,
}

impl Sweep {
    /// At the beginning of a term: whoever went before may have left something.
    pub(crate) const NEW: Self = Self {
        abort: true,
        early: false,
        seen: [None; NODES_MAX],
        tidy_at: Instant::ZERO,
        stale: Vec::new(),
        retry_at: Instant::ZERO,
        wake: Instant::FAR,
    };

    /// A view that forces somebody out is proposed.
    pub(crate) fn expect(&mut self) {
        self.early = true;
        self.seen = [None; NODES_MAX];
    }

    /// A view was committed.
    pub(crate) fn committed(&mut self) {
        self.early = false;
        self.tidy_at = Instant::ZERO;
    }

    /// The key of `n`, if it was read while its exclusion was being committed.
    pub(crate) fn take_seen(&mut self, n: NodeId) -> Option<ReservationKey> {
        self.seen[n.index()].take()
    }
}

fn hunt(fence: &mut Option<Fence>) -> Option<&mut Hunt> {
    match fence {
        Some(Fence { means: Means::Reservation(hunt), .. }) => Some(hunt),
        _ => None,
    }
}

impl Master {
    /// The next command, if one is due. Asked only while this master may act and none is under way.
    pub(crate) fn next_command(&mut self, ctx: &mut Context<'_, '_>) -> Option<(Asked, Command)> {
        self.sweep.wake = Instant::FAR;
        let registration = ctx.lock.registration()?;
        if !registration.stands() {
            // It is being seen to; the turn in which it stands again comes here.
            return None;
        }
        let (own, kind) = (registration.key(), registration.kind());
        let asked = self.wanted()?;
        let due = if asked == (Asked::Keys { early: false }) && !self.hunts_for_keys() {
            self.sweep.retry_at.max(self.sweep.tidy_at)
        } else {
            self.sweep.retry_at
        };
        if ctx.now < due {
            self.sweep.wake = due;
            return None;
        }
        let command = match asked {
            Asked::Keys { early } => {
                self.sweep.early &= !early;
                Command::Reservation(ReservationOp::ReadKeys)
            }
            Asked::Preempt { node, key, abort } => {
                let incarnation = self.view.incarnation(node);
                ctx.trace.event(Event::Preempt { peer: node, incarnation, key, abort });
                Command::Reservation(ReservationOp::Preempt { key: own, victim: key, kind, abort })
            }
            Asked::Stale => {
                let (peer, incarnation, key) = self.sweep.stale.pop()?;
                ctx.trace.event(Event::Preempt { peer, incarnation, key, abort: false });
                Command::Reservation(ReservationOp::Preempt { key: own, victim: key, kind, abort: false })
            }
            Asked::Reset => Command::Reservation(ReservationOp::ResetUnit),
            Asked::Heartbeat(node) => Command::Heartbeat(node),
        };
        Some((asked, command))
    }

    /// What is to be asked next: keys that are to go first, the proof of all of them at once after that.
    fn wanted(&mut self) -> Option<Asked> {
        let abort = self.sweep.abort;
        let mut reset = false;
        for n in NodeId::first(self.nodes) {
            match hunt(&mut self.fences[n.index()]) {
                Some(Hunt::Found(key)) => return Some(Asked::Preempt { node: n, key: *key, abort }),
                Some(Hunt::Unended(_)) => reset = true,
                _ => {}
            }
        }
        if reset {
            return Some(Asked::Reset);
        }
        if self.hunts_for_keys() {
            return Some(Asked::Keys { early: false });
        }
        let unsettled = |n: &NodeId| self.fences[n.index()].as_ref().is_some_and(Fence::wants_read);
        if let Some(n) = NodeId::first(self.nodes).find(unsettled) {
            return Some(Asked::Heartbeat(n));
        }
        if self.sweep.early {
            return Some(Asked::Keys { early: true });
        }
        if !self.sweep.stale.is_empty() {
            return Some(Asked::Stale);
        }
        (self.sweep.tidy_at != Instant::FAR).then_some(Asked::Keys { early: false })
    }

    fn hunts_for_keys(&mut self) -> bool {
        self.fences.iter_mut().filter_map(hunt).any(|hunt| hunt.wants_keys())
    }

    /// A reservation command is done.
    pub(crate) fn command_answered(
        &mut self,
        asked: Asked,
        result: Result<&ReservationAnswer, ReservationError>,
        ctx: &mut Context<'_, '_>,
    ) {
        match result {
            Ok(ReservationAnswer::Keys(keys)) => {
                if let Asked::Keys { early } = asked {
                    self.take_keys(keys, early, ctx);
                }
            }
            Ok(_) => self.command_done(asked, ctx),
            Err(error) => {
                self.sweep.retry_at = ctx.now.plus_us(RETRY_US);
                self.command_failed(asked, error, ctx);
            }
        }
    }

    fn command_done(&mut self, asked: Asked, ctx: &mut Context<'_, '_>) {
        match asked {
            Asked::Preempt { node, key, abort } => {
                ctx.lock.check_reservation(ctx.now);
                if let Some(fence) = &mut self.fences[node.index()]
                    && fence.means == Means::Reservation(Hunt::Found(key))
                {
                    fence.settling = Settling::begin(ctx.now, self.preempted, &self.timing);
                    // A reset ends everybody's commands. Where order ends them there is no need of it.
                    let ends = abort || self.preempted == Preempted::Ends;
                    fence.means = Means::Reservation(if ends { Hunt::Removed(key) } else { Hunt::Unended(key) });
                }
            }
            Asked::Stale => ctx.lock.check_reservation(ctx.now),
            Asked::Reset => {
                for hunt in self.fences.iter_mut().filter_map(hunt) {
                    if let Hunt::Unended(key) = *hunt {
                        *hunt = Hunt::Removed(key);
                    }
                }
            }
            Asked::Keys { .. } | Asked::Heartbeat(_) => {}
        }
    }

    fn command_failed(&mut self, asked: Asked, error: ReservationError, ctx: &mut Context<'_, '_>) {
        if let ReservationError::Attention(attention) = error {
            // It was not executed. What the attention means for this node's own registration is seen to first.
            self.sweep.retry_at = ctx.now;
            ctx.lock.attention(ctx.now, attention, ctx.trace);
            return;
        }
        match (asked, error) {
            (Asked::Preempt { abort: true, .. }, ReservationError::Unsupported) => {
                self.sweep.abort = false;
                self.sweep.retry_at = ctx.now;
            }
            (Asked::Preempt { node, key, .. }, error) => {
                if let Some(hunt) = hunt(&mut self.fences[node.index()])
                    && *hunt == Hunt::Found(key)
                {
                    *hunt = match error {
                        ReservationError::Conflict => Hunt::Sought,
                        ReservationError::Unsupported => Hunt::Absent,
                        _ => Hunt::Unsure(key),
                    };
                }
            }
            (Asked::Reset, ReservationError::Unsupported) => {
                for hunt in self.fences.iter_mut().filter_map(hunt) {
                    if let Hunt::Unended(_) = *hunt {
                        *hunt = Hunt::Absent;
                    }
                }
            }
            // Read again, or reset again.
            (Asked::Keys { .. } | Asked::Stale | Asked::Reset | Asked::Heartbeat(_), _) => {}
        }
    }

    fn take_keys(&mut self, keys: &Keys, early: bool, ctx: &mut Context<'_, '_>) {
        let Some(registration) = ctx.lock.registration().filter(|r| r.stands()) else { return };
        let own = registration.key();
        if !keys.keys.contains(&own) {
            self.sweep.retry_at = ctx.now.plus_us(RETRY_US);
            return ctx.lock.not_registered(ctx.now, ctx.trace);
        }
        for n in NodeId::first(self.nodes) {
            let incarnation = self.view.incarnation(n);
            let beat = ctx.lock.peer(n).heartbeat.as_ref();
            let nonce = beat.filter(|h| h.incarnation == incarnation).map(|h| h.nonce);
            let found = key_of(keys, n, incarnation, nonce);
            let (preempted, timing) = (self.preempted, &self.timing);
            if let Some(Fence { means: Means::Reservation(hunt), settling, .. }) = &mut self.fences[n.index()] {
                let was = core::mem::replace(hunt, hunt.take_keys(found, early));
                if *hunt == Hunt::Absent && was != Hunt::Absent {
                    *settling = Settling::begin(ctx.now, preempted, timing);
                }
            } else if early && self.condemned.contains(n) {
                self.sweep.seen[n.index()] = found;
            }
        }
        if !early {
            self.take_stale(keys, own, ctx);
        }
    }

    /// Keys of lives that are over and need no fence: older than the view's, or the view's and let go.
    fn take_stale(&mut self, keys: &Keys, own: ReservationKey, ctx: &Context<'_, '_>) {
        self.sweep.stale.clear();
        let mut rest = false;
        for key in keys.keys.iter().filter(|key| **key != own) {
            let Some(owner) = key.owner().filter(|o| o.node.get() < self.nodes) else { continue };
            let (n, incarnation) = (owner.node, self.view.incarnation(owner.node));
            let is_stale = if owner.incarnation == incarnation && self.view.state(n) == NodeState::Inactive {
                // Its clean mark may still be on its way.
                let said = ctx.lock.peer(n).heartbeat.as_ref().is_some_and(|h| h.incarnation > incarnation || h.clean);
                let over = said || ctx.lock.disk_silent(n);
                rest |= !over;
                over
            } else {
                owner.incarnation < incarnation
            };
            if is_stale {
                rest |= self.sweep.stale.push((n, owner.incarnation, *key)).is_err();
            }
        }
        let next = ctx.now.plus_ms(self.timing.disk_heartbeat);
        self.sweep.tidy_at = if rest || !self.sweep.stale.is_empty() { next } else { Instant::FAR };
    }

    /// The read of a victim's heartbeat block is done.
    pub(crate) fn heartbeat_read(&mut self, n: NodeId, result: Result<&[u8], DiskError>, ctx: &mut Context<'_, '_>) {
        match (result, &mut self.fences[n.index()]) {
            // What the medium cannot give was looked for there, in its order.
            (Ok(_) | Err(DiskError::Medium), Some(fence)) if fence.wants_read() => fence.settling.take_read(),
            (Err(_), Some(_)) => self.sweep.retry_at = ctx.now.plus_us(RETRY_US),
            _ => {}
        }
    }
}
