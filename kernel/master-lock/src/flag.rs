//! Dekker's flags for N nodes, in the Eisenberg–McGuire manner, on single-writer blocks (DESIGN 4).
//!
//! ```text
//!        wants, free            look: no other Hold
//! None ──────────────► Hold ─────────────────────────► promise …
//!   │                   ▲ │ look: another live Hold
//!   │ wants, not free   │ ▼
//!   └────────────────► Want   (kept until free: no live Hold, no live Want that precedes)
//! ```
//! Precedence runs cyclically from the node after the last master, which is the node of the highest ballot, so that
//! *turn* needs no block. Deviation from Eisenberg and McGuire 1972: a silent node's flag is passed over; being wrong
//! about that costs churn, not safety, because the ballot stands under the flags.

use quorate_base::{Event, Instant, LockPhase, NodeId, Trace};
use quorate_database::Flag;

use crate::api::LockEvent;
use crate::ballot::Phase;
use crate::lock::{Farewell, MasterLock};
use crate::rules::Rule;

/// How far `node` stands behind the turn, `0..nodes`; less precedes.
pub(crate) fn place(node: NodeId, last_master: Option<NodeId>, nodes: u8) -> u16 {
    let n = u16::from(nodes.max(1));
    let first = last_master.map_or(0, |m| (u16::from(m.get()) + 1) % n);
    (u16::from(node.get()) + n - first % n) % n
}

impl MasterLock {
    /// Whether this node may raise its flag at all.
    pub(crate) fn wants(&self, now: Instant) -> bool {
        self.want
            && !self.releasing
            && self.farewell == Farewell::No
            && self.own_known
            && !self.frozen(now)
            && !self.look.best.view.excludes(self.me, self.incarnation)
    }

    /// Another live node's flag; a block that cannot be read may hide a Hold until it counts as silent.
    fn live_flag(&self, node: NodeId) -> Flag {
        let peer = &self.peers[node.index()];
        if node == self.me || peer.is_silent() {
            return Flag::None;
        }
        match &peer.heartbeat {
            None => Flag::Hold,
            Some(h) => h.flag,
        }
    }

    pub(crate) fn other_holds(&self) -> bool {
        NodeId::first(self.nodes).any(|n| self.live_flag(n) == Flag::Hold)
    }

    /// By the last scan no live node holds, and no live Want precedes.
    pub(crate) fn may_raise(&self) -> bool {
        let turn = self.look.promised.node().filter(|_| self.rules.keep(Rule::CyclicPrecedence));
        let mine = place(self.me, turn, self.nodes);
        !self.other_holds()
            && !NodeId::first(self.nodes).any(|n| self.live_flag(n) == Flag::Want && place(n, turn, self.nodes) < mine)
    }

    /// Nobody that waits precedes this node, and whoever holds is not the master: several raised their flags at once, and
    /// will lower them within a few operations. All others wait for this node then, so it must not wait for its next beat.
    fn is_next_of_a_tie(&self) -> bool {
        let turn = self.look.promised.node();
        let mine = place(self.me, turn, self.nodes);
        let precedes = |n: NodeId| self.live_flag(n) == Flag::Want && place(n, turn, self.nodes) < mine;
        let master_holds = turn.is_some_and(|n| self.live_flag(n) == Flag::Hold);
        !master_holds && !NodeId::first(self.nodes).any(precedes)
    }

    /// Which flag the heartbeat that is about to be written carries.
    pub(crate) fn decide_flag(&mut self, now: Instant, trace: &mut Trace<'_>) {
        let was = self.flag;
        let leaving = self.farewell != Farewell::No;
        self.flag = match self.phase {
            _ if leaving => {
                self.give_up(trace);
                Flag::None
            }
            // A change that is being committed is finished before the lock is given back.
            Phase::Master { .. } if self.releasing && self.proposal.is_none() => {
                self.give_up(trace);
                Flag::None
            }
            Phase::Master { .. } => Flag::Hold,
            _ if !self.wants(now) => {
                self.phase = Phase::Idle;
                Flag::None
            }
            Phase::Idle if self.scan_complete() => {
                if self.may_raise() {
                    self.phase = Phase::Raised { written: false };
                    Flag::Hold
                } else if self.rules.keep(Rule::WantKept) {
                    if was == Flag::None && self.is_next_of_a_tie() {
                        self.hurry = 4;
                    }
                    Flag::Want
                } else {
                    Flag::None
                }
            }
            Phase::Idle => was.min(Flag::Want),
            _ => Flag::Hold,
        };
        let ballot = self.highest;
        if was == Flag::None && self.flag != Flag::None {
            trace.event(Event::Lock { phase: LockPhase::Want, ballot });
        }
        if was != Flag::Want && self.flag == Flag::Want {
            trace.event(Event::Lock { phase: LockPhase::Wait, ballot });
        }
    }

    // Whatever was being done under the lock ends here; what was proposed may or may not become committed. The trace says so
    // now, not when the flag's write is answered: by then another may have read it and be master.
    fn give_up(&mut self, trace: &mut Trace<'_>) {
        if let Phase::Master { ballot, .. } = self.phase {
            self.releasing = true;
            self.drop_proposal(ballot);
            trace.event(Event::Lock { phase: LockPhase::Released, ballot });
        }
        self.phase = Phase::Idle;
    }

    /// The heartbeat with the decided flag is durable.
    pub(crate) fn flag_written(&mut self) {
        if !self.releasing || matches!(self.phase, Phase::Master { .. }) {
            return;
        }
        self.releasing = false;
        self.event(LockEvent::Released);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence_runs_cyclically_from_the_node_after_the_last_master() {
        let n = |i| NodeId::new(i).unwrap();
        assert_eq!([0, 1, 2].map(|i| place(n(i), None, 3)), [0, 1, 2]);
        assert_eq!([0, 1, 2].map(|i| place(n(i), Some(n(0)), 3)), [2, 0, 1]);
        assert_eq!([0, 1, 2].map(|i| place(n(i), Some(n(2)), 3)), [0, 1, 2]);
        // A last master that is no longer configured.
        assert_eq!([0, 1, 2].map(|i| place(n(i), Some(n(9)), 3)), [2, 0, 1]);
    }
}
