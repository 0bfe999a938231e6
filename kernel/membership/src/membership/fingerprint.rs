//! What a machine is apart from its clocks and counters of sendings, for a model checker: two machines that are equal in it
//! do the same with the same messages. Compiled for the model checker only.

use core::hash::{Hash, Hasher};

use quorate_base::Instant;

use super::Membership;
use crate::fence::Fence;
use crate::master::Master;
use crate::member::Member;

impl Membership {
    /// Hashes everything but clocks: when somebody is asked again, since when something lasts, numbers of sendings.
    pub fn hash_without_clocks(&self, hasher: &mut impl Hasher) {
        (self.ballot, self.name, &self.view, self.adopted, self.outside, self.leaving).hash(hasher);
        (self.refused, self.hears, self.leads, self.asked, self.halt).hash(hasher);
        self.member.hash_without_clocks(hasher);
        if let Some(master) = &self.master {
            master.hash_without_clocks(hasher);
        }
    }
}

impl Member {
    fn hash_without_clocks(&self, hasher: &mut impl Hasher) {
        self.levels.hash(hasher);
        for (slot, step) in self.steps.iter().enumerate() {
            if let Some(step) = step {
                (slot, step.without_clock()).hash(hasher);
            }
        }
        for (n, round) in self.joins.iter().enumerate().filter(|(_, round)| round.is_some()) {
            (n, round).hash(hasher);
        }
        (&self.rounds, &self.acks, &self.died).hash(hasher);
    }
}

impl Master {
    fn hash_without_clocks(&self, hasher: &mut impl Hasher) {
        (self.ballot, &self.view, &self.map, &self.rounds, &self.takeover, self.recover).hash(hasher);
        (self.next_round, self.leaves, self.condemned, self.reversing, self.proposed, self.halt).hash(hasher);
        for (slot, progress) in self.progress.iter().enumerate().filter(|(_, p)| p.is_some()) {
            (slot, progress).hash(hasher);
        }
        for (n, fence) in self.fences.iter().enumerate() {
            let open = |f: &Fence| (f.due() != Instant::FAR, f.means);
            (n, fence.as_ref().map(open)).hash(hasher);
        }
        for n in quorate_base::NodeId::first(self.nodes) {
            self.asked_by(n).hash(hasher);
        }
    }
}
