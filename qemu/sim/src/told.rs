//! What a node said in its turn, held against what its machine had read (`looks`) and what stands on the disk.

use quorate_base::{Ballot, Incarnation, Instant, NodeId, NodeSet, NodeState};
use quorate_database::{Block, Heartbeat, layout};
use quorate_node::Node;

use crate::machine::Machine;
use crate::recorder::{Adopted, Claim};
use crate::world::{Formed, World};

impl World {
    /// What a node's turn said, against what it read and what stands on the disk.
    pub(crate) fn check_told(&mut self, m: usize, now: Instant) {
        let cluster = self.cluster();
        while let Some(Adopted { node, name, joining }) = self.recorder.adopted.pop() {
            let unborn = joining.iter().find(|(n, incarnation)| {
                // What another's stray write destroyed says nothing.
                let stands = self.disk.record(layout::heartbeat(*n)).map(|raw| Heartbeat::decode(raw, cluster, *n));
                matches!(stands, Some(Block::Good(h)) if h.incarnation < *incarnation)
            });
            let what = unborn.map(|(n, incarnation)| {
                format!("view {} lets node {n} in, and its heartbeat does not stand for {incarnation}", name.number)
            });
            if let Some(what) = what.or_else(|| self.looks.adopted(node, name)) {
                self.fail(what);
            }
        }
        for claim in std::mem::take(&mut self.recorder.claims) {
            let ended = |n: NodeId, life: Incarnation| {
                let block = self.disk.record(layout::heartbeat(n)).map(|raw| Heartbeat::decode(raw, cluster, n));
                matches!(block, Some(Block::Good(h)) if h.clean && h.incarnation == life)
            };
            // With two machines under one node id nobody knows who was heard.
            let life = |n: NodeId| {
                let machine = self.machines.iter().find(|machine| machine.plays == n && machine.node().is_some())?;
                machine.node()?.incarnation().filter(|_| self.double.is_none() && machine.hung_at.is_none())
            };
            if let Some(what) = self.looks.claimed(m, now.0, claim, ended, life).filter(|_| !self.looks.blind) {
                self.fail(what);
            }
            if let Claim::Removed(victim, life) = claim
                && let Some(target) = &self.disk.target
                && !target.has_preempted(victim, life)
            {
                self.fail(format!("node {m} fenced {life} of node {victim} by its key, which nobody preempted"));
            }
        }
        let Some(machine) = self.machines.get_mut(m) else { return };
        let ballot = machine.node().and_then(Node::membership).map_or(Ballot::NONE, |membership| membership.ballot());
        let before = std::mem::replace(&mut machine.obeys, (machine.boots, ballot));
        if before.0 == machine.boots && ballot < before.1 && machine.node().is_some_and(|node| node.halted().is_none())
        {
            self.fail(format!("node {m} obeys ballot {ballot} after {}", before.1));
        }
    }

    /// A node that left has written its last, and that is its clean mark (DESIGN 3). Where the disk lied, or two machines write
    /// under one node id, what stands there says nothing.
    pub(crate) fn check_left(&mut self, m: usize) {
        if self.looks.blind || self.double.is_some() {
            return;
        }
        // Whose registration is gone when it learns that it was let go does not write it any more, also where the target forgot
        // the reservation with it and would let everybody write.
        if self.disk.target.as_ref().is_some_and(|target| !target.has_registered(m)) {
            return;
        }
        let Some(machine) = self.machines.get(m) else { return };
        let Some(life) = machine.node().and_then(Node::incarnation) else { return };
        let block = self.disk.record(layout::heartbeat(machine.plays));
        let block = block.map(|raw| Heartbeat::decode(raw, self.cluster(), machine.plays));
        if matches!(block, Some(Block::Good(h)) if h.incarnation < life || h.incarnation == life && !h.clean) {
            self.fail(format!("node {m} left, and the clean mark of its life {life} does not stand"));
        }
    }

    /// What a node promised, if it is dead.
    pub(crate) fn check_promises(&mut self, n: NodeId) {
        if !self.machines.iter().any(|machine| machine.node.is_some() && machine.plays == n) {
            let disk = &self.disk;
            self.looks.died(n, |at| disk.record(at).map(|raw| &raw[..]));
        }
    }

    /// A life whose fence is through may not write.
    pub(crate) fn check_fenced(&mut self, m: usize) {
        let Some(machine) = self.machines.get(m) else { return };
        let Some(node) = machine.node() else { return };
        let Some(incarnation) = node.incarnation() else { return };
        // One that the reservation shuts out may not know it yet: the disk refuses it.
        if self.recorder.views_only || self.recorder.shut_out.contains(&(machine.plays, incarnation)) {
            return;
        }
        // Nor may one know that is not registered any more, whoever removed its key: its own clock may have stood still.
        if self.disk.target.as_ref().is_some_and(|target| !target.may_write(m)) {
            return;
        }
        if self.recorder.fenced.contains(&(machine.plays, incarnation)) && node.may_write(machine.clock(self.now)) {
            self.fail(format!("node {m} may write although its fence is through"));
        }
    }

    /// If this machine's node just became master of a cluster that has no members: whom its levels must recover. Only
    /// what is certain: nodes that are off for so long that it has read their last word, and its own former life.
    pub(crate) fn note_formation(&mut self, m: usize) {
        let Some(machine) = self.machines.get(m).filter(|machine| machine.plays == machine.id) else { return };
        let Some(membership) = machine.node().and_then(Node::membership) else { return };
        if membership.master().is_none() || !membership.view().1.members().is_empty() {
            return;
        }
        let long_off = |other: &&Machine| other.node().is_none() && other.ended_at + 2_000_000 < self.now;
        // Of one that was in no view it knows nothing but from its heartbeat, if it can read that.
        let read = |n: NodeId| {
            membership.view().1.incarnation(n) != Incarnation::NEVER || !self.looks.finds_bad(m, layout::heartbeat(n))
        };
        let sure = |n: &NodeId| !self.disk.bad.holds(layout::heartbeat(*n)) && read(*n);
        let mut unclean: NodeSet =
            self.machines.iter().filter(long_off).map(|o| o.id).filter(|n| self.is_unclean(*n)).filter(sure).collect();
        if machine.born_unclean {
            unclean.insert(machine.id);
        }
        self.formed = Some(Formed { machine: m, boot: machine.boots, unclean });
    }

    /// The first node is joined in the cluster that a master formed: its levels were told.
    pub(crate) fn check_formed(&mut self, m: usize) {
        let Some(formed) = self.formed else { return };
        let former = self.machines.get(formed.machine).filter(|machine| machine.boots == formed.boot);
        let term = former.and_then(Machine::node).and_then(Node::membership).and_then(|s| s.master());
        let Some(ballot) = term.map(|master| master.ballot()) else {
            // Whoever is master now forms the cluster.
            self.formed = None;
            return;
        };
        let Some(machine) = self.machines.get(m) else { return };
        let Some(membership) = machine.node().and_then(Node::membership) else { return };
        if membership.state() != NodeState::Joined || membership.view().0.ballot != ballot {
            return;
        }
        let untold = machine.probes.recover().find(|(_, told)| !formed.unclean.minus(*told).is_empty());
        if let Some((level, told)) = untold {
            let unclean = formed.unclean;
            self.fail(format!(
                "level {level} of node {m} was told to recover {told} with its first join, not {unclean}"
            ));
        }
        self.formed = None;
    }
}
