//! The simulated target's persistent reservations: registrations by nexus, the reservation, unit attentions (SPC-4 §5.13).
//!
//! A nexus is a machine's port. It stays the same when the machine boots again, or each boot is one of its own: then the
//! registration of the one before stays, and nobody is behind it but what it still has under way. What a command does is decided here at the
//! moment it reaches the target; when that is, and whether its answer gets back, is `commands.rs`.
//!
//! Invariants
//! - a write of a nexus that is not registered is refused while a reservation stands;
//! - the preemption of a nexus ends nothing that the target had accepted of it: that still lands, within `io_max` or, where
//!   preempted commands end, before any read or write that comes later; only PREEMPT AND ABORT of a target where they end
//!   does away with it;
//! - a pending unit attention is the answer to the next command of that nexus, whatever it was; that is not executed.

use std::collections::{BTreeSet, VecDeque};

use quorate_base::reservation::{Attention, Held, Keys, ReservationAnswer, ReservationCapabilities, ReservationType};
use quorate_base::{Incarnation, NodeId, Preempted, Registrants, ReservationError, ReservationKey, ReservationOp};
use serde::{Deserialize, Serialize};

/// What kind of target it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetKind {
    /// It has the type of all registrants.
    pub all_registrants: bool,
    /// It has PREEMPT AND ABORT.
    pub abort: bool,
    /// Registrations and reservation survive the loss of its power.
    pub persist: bool,
    /// What becomes of what it had accepted of a nexus that is preempted. Stands in the superblock.
    pub preempted: Preempted,
    /// Whom the cluster lets hold the reservation. Stands in the superblock.
    pub registrants: Registrants,
    /// Each boot of a machine is another nexus.
    pub fresh_nexus: bool,
    /// Of all holders it keeps one in mind, as tgt does; once that is preempted, it takes the nexus that registers next for it,
    /// with a reservation of type 0.
    pub forgets_holder: bool,
    /// So many commands in a million are executed and their answer is lost, or are lost themselves.
    pub lost_per_million: u32,
}

impl Default for TargetKind {
    /// As LIO is.
    fn default() -> Self {
        Self {
            all_registrants: true,
            abort: true,
            persist: true,
            preempted: Preempted::Lingers,
            registrants: Registrants::All,
            fresh_nexus: false,
            forgets_holder: false,
            lost_per_million: 0,
        }
    }
}

/// A nexus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Nexus {
    /// Whose port it is.
    pub machine: usize,
    /// It is of a boot before this one.
    pub former: bool,
}

/// What a command does to requests that are under way.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Ends {
    /// Nothing.
    #[default]
    None,
    /// Those of these nexuses are ended.
    Of(Vec<Nexus>),
    /// These nexuses are not registered any more; what was accepted of them is not ended.
    Out(Vec<Nexus>),
    /// Everybody's.
    All,
}

/// The target's side.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub kind: TargetKind,
    /// By nexus.
    registered: Vec<Option<ReservationKey>>,
    /// Keys that are still listed though their nexus is gone.
    ghosts: Vec<(Nexus, ReservationKey)>,
    held: Option<Reservation>,
    /// Whom it took for a holder that is gone.
    mistaken: Vec<ReservationKey>,
    generation: u32,
    attentions: Vec<VecDeque<Attention>>,
    /// Keys that were preempted, ever.
    preempted: BTreeSet<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Reservation {
    /// Its key, of registrants only; of all registrants, of the one that the target keeps in mind. `None`: that was preempted.
    holder: Option<ReservationKey>,
    kind: ReservationType,
}

impl Target {
    pub fn new(nexuses: usize, kind: TargetKind) -> Self {
        // The first command after power on.
        let attentions = vec![VecDeque::from([Attention::Reset]); nexuses];
        Self {
            kind,
            registered: vec![None; nexuses],
            ghosts: Vec::new(),
            held: None,
            mistaken: Vec::new(),
            generation: 0,
            attentions,
            preempted: BTreeSet::new(),
        }
    }

    /// A unit attention waits for a nexus: it is the answer to what it asks now.
    pub fn attention(&mut self, nexus: usize) -> Option<Attention> {
        self.attentions.get_mut(nexus)?.pop_front()
    }

    /// Whether it once took this key's nexus for a holder that was gone.
    pub fn mistook(&self, key: ReservationKey) -> bool {
        self.mistaken.contains(&key)
    }

    /// Whether a nexus is registered.
    pub fn has_registered(&self, nexus: usize) -> bool {
        self.registered.get(nexus).copied().flatten().is_some()
    }

    /// Whether a write of a nexus is carried out.
    pub fn may_write(&self, nexus: usize) -> bool {
        self.held.is_none() || self.has_registered(nexus)
    }

    /// The same of what a boot before this one still has under way.
    pub fn former_may_write(&self, machine: usize) -> bool {
        let registered = |(nexus, _): &(Nexus, _)| nexus.former && nexus.machine == machine;
        if self.kind.fresh_nexus {
            self.held.is_none() || self.ghosts.iter().any(registered)
        } else {
            self.may_write(machine)
        }
    }

    /// The registered keys, with those that are only listed.
    pub fn keys(&self) -> Vec<ReservationKey> {
        self.registered.iter().flatten().chain(self.ghosts.iter().map(|(_, key)| key)).copied().collect()
    }

    /// Whether the key of this life was preempted.
    pub fn has_preempted(&self, node: NodeId, life: Incarnation) -> bool {
        let owners = self.preempted.iter().filter_map(|key| ReservationKey(*key).owner());
        owners.into_iter().any(|owner| (owner.node, owner.incarnation) == (node, life))
    }

    /// The type of the reservation that stands.
    pub fn standing(&self) -> Option<ReservationType> {
        self.held.map(|held| held.kind)
    }

    fn tell(&mut self, nexus: usize, attention: Attention) {
        let Some(queue) = self.attentions.get_mut(nexus) else { return };
        if queue.back() != Some(&attention) {
            queue.push_back(attention);
        }
    }

    fn tell_all_but(&mut self, but: usize, attention: Attention) {
        for nexus in (0..self.registered.len()).filter(|nexus| *nexus != but) {
            self.tell(nexus, attention);
        }
    }

    /// A machine boots, and its port logs in anew: its next command is told so.
    pub fn log_in(&mut self, machine: usize) {
        if self.kind.fresh_nexus
            && let Some(key) = self.registered.get_mut(machine).and_then(Option::take)
        {
            self.ghosts.push((Nexus { machine, former: true }, key));
        }
        self.tell(machine, Attention::Reset);
    }

    /// The nexus is lost and made again, and its registration does not come with it: the key stays listed (tgt).
    pub fn reconnect(&mut self, nexus: usize) {
        if let Some(key) = self.registered.get_mut(nexus).and_then(Option::take) {
            self.ghosts.push((Nexus { machine: nexus, former: false }, key));
        }
        self.tell(nexus, Attention::Reset);
    }

    /// Registrations and reservation are gone.
    pub fn forget(&mut self) {
        self.registered.fill(None);
        self.ghosts.clear();
        self.held = None;
    }

    /// The target loses its power and comes back.
    pub fn lose_power(&mut self) {
        if !self.kind.persist {
            self.forget();
        }
        for queue in &mut self.attentions {
            queue.clear();
            queue.push_back(Attention::Reset);
        }
    }

    /// A LOGICAL UNIT RESET: registrations and reservation stay.
    pub fn reset_unit(&mut self) {
        (0..self.registered.len()).for_each(|nexus| self.tell(nexus, Attention::Reset));
    }

    /// A command of a nexus, no attention pending.
    pub fn execute(&mut self, nexus: usize, op: &ReservationOp) -> (Result<ReservationAnswer, ReservationError>, Ends) {
        let mut ends = Ends::None;
        let answer = match op {
            ReservationOp::Capabilities => Ok(ReservationAnswer::Capabilities(ReservationCapabilities {
                all_registrants: self.kind.all_registrants,
                registrants_only: true,
                persist_through_power_loss: self.kind.persist,
            })),
            ReservationOp::ReadKeys => {
                let mut keys = Keys { generation: self.generation, ..Keys::default() };
                for key in self.keys() {
                    keys.more |= keys.keys.push(key).is_err();
                }
                Ok(ReservationAnswer::Keys(keys))
            }
            ReservationOp::ReadReservation => Ok(ReservationAnswer::Reservation(self.held.map(|held| Held {
                holder: match held.kind {
                    ReservationType::WriteExclusiveAllRegistrants => ReservationKey(0),
                    _ => held.holder.unwrap_or(ReservationKey(0)),
                },
                kind: held.kind,
            }))),
            ReservationOp::Register { key: Some(key), .. } => {
                self.generation += 1;
                match (self.registered[nexus].replace(*key), &mut self.held) {
                    // It is taken for the one that is gone.
                    (None, Some(held @ Reservation { holder: None, .. })) => {
                        *held = Reservation { holder: Some(*key), kind: ReservationType::Other(0) };
                        self.mistaken.push(*key);
                    }
                    // A holder that registers another key holds by that one.
                    (Some(old), Some(held)) if held.holder == Some(old) => {
                        held.holder = Some(*key);
                        if held.kind == ReservationType::Other(0) {
                            self.mistaken.push(*key);
                        }
                    }
                    _ => {}
                }
                Ok(ReservationAnswer::Done)
            }
            ReservationOp::Register { key: None, .. } => {
                self.generation += 1;
                self.unregister(nexus);
                Ok(ReservationAnswer::Done)
            }
            ReservationOp::Reserve { key, kind } => self.reserve(nexus, *key, *kind),
            ReservationOp::Preempt { abort: true, .. } if !self.kind.abort => Err(ReservationError::Unsupported),
            ReservationOp::Preempt { key, victim, kind, abort } => {
                self.preempt(nexus, *key, *victim, *kind).map(|gone| {
                    ends = match self.kind.preempted {
                        Preempted::Ends if *abort => Ends::Of(gone),
                        Preempted::Ends | Preempted::Lingers => Ends::Out(gone),
                    };
                    ReservationAnswer::Done
                })
            }
            ReservationOp::ResetUnit => {
                self.reset_unit();
                ends = Ends::All;
                Ok(ReservationAnswer::Done)
            }
        };
        (answer, ends)
    }

    fn is_registered(&self, nexus: usize, key: ReservationKey) -> bool {
        self.registered.get(nexus).copied().flatten() == Some(key)
    }

    fn unregister(&mut self, nexus: usize) {
        let key = self.registered[nexus].take();
        let Some(held) = self.held else { return };
        let ends = match held.kind {
            ReservationType::WriteExclusiveAllRegistrants => self.registered.iter().all(Option::is_none),
            _ => held.holder == key,
        };
        if ends {
            self.held = None;
            self.tell_all_but(nexus, Attention::ReservationsReleased);
        }
    }

    fn reserve(
        &mut self,
        nexus: usize,
        key: ReservationKey,
        kind: ReservationType,
    ) -> Result<ReservationAnswer, ReservationError> {
        if !self.is_registered(nexus, key) {
            return Err(ReservationError::Conflict);
        }
        match self.held {
            None => {
                self.held = Some(Reservation { holder: Some(key), kind });
                Ok(ReservationAnswer::Done)
            }
            Some(held) if held.kind == kind => match kind {
                ReservationType::WriteExclusiveAllRegistrants => Ok(ReservationAnswer::Done),
                _ if held.holder == Some(key) => Ok(ReservationAnswer::Done),
                _ => Err(ReservationError::Conflict),
            },
            Some(_) => Err(ReservationError::Conflict),
        }
    }

    /// Gives the nexuses whose registration it removed.
    fn preempt(
        &mut self,
        nexus: usize,
        key: ReservationKey,
        victim: ReservationKey,
        kind: ReservationType,
    ) -> Result<Vec<Nexus>, ReservationError> {
        if !self.is_registered(nexus, key) || !self.keys().contains(&victim) {
            return Err(ReservationError::Conflict);
        }
        self.generation += 1;
        self.preempted.insert(victim.0);
        let mut gone: Vec<Nexus> =
            self.ghosts.extract_if(.., |(_, key)| *key == victim).map(|(nexus, _)| nexus).collect();
        for n in 0..self.registered.len() {
            // Who preempts itself stays registered.
            if self.is_registered(n, victim) && n != nexus {
                self.registered[n] = None;
                self.tell(n, Attention::RegistrationsPreempted);
                gone.push(Nexus { machine: n, former: false });
            }
        }
        if let Some(held) = &mut self.held
            && held.holder == Some(victim)
        {
            let of_all = held.kind == ReservationType::WriteExclusiveAllRegistrants;
            held.holder = if of_all && self.kind.forgets_holder { None } else { Some(key) };
            held.kind = if of_all { held.kind } else { kind };
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AR: ReservationType = ReservationType::WriteExclusiveAllRegistrants;
    const RO: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

    fn key(n: u64) -> ReservationKey {
        ReservationKey(n)
    }

    fn done(target: &mut Target, nexus: usize, op: ReservationOp) {
        assert_eq!(target.execute(nexus, &op).0, Ok(ReservationAnswer::Done), "{op:?}");
    }

    /// Three nexuses, the first two registered; the first reserved.
    fn reserved(kind: ReservationType) -> Target {
        let mut target = Target::new(3, TargetKind::default());
        for nexus in 0..3 {
            assert_eq!(target.attention(nexus), Some(Attention::Reset));
            assert_eq!(target.attention(nexus), None);
        }
        for nexus in 0..2 {
            let op = ReservationOp::Register { key: Some(key(1 + nexus as u64)), persist: true };
            done(&mut target, nexus, op);
        }
        done(&mut target, 0, ReservationOp::Reserve { key: key(1), kind });
        target
    }

    fn preempt(abort: bool, kind: ReservationType) -> ReservationOp {
        ReservationOp::Preempt { key: key(2), victim: key(1), kind, abort }
    }

    #[test]
    fn spc_4_only_the_registered_write() {
        for kind in [AR, RO] {
            let target = reserved(kind);
            assert_eq!([0, 1, 2].map(|nexus| target.may_write(nexus)), [true, true, false]);
        }
    }

    #[test]
    fn spc_4_preempt_and_abort_ends_the_requests_and_tells_the_victim() {
        for kind in [AR, RO] {
            let mut target = reserved(kind);
            target.kind.preempted = Preempted::Ends;
            let (answer, ends) = target.execute(1, &preempt(true, kind));
            let first = Nexus { machine: 0, former: false };
            assert_eq!((answer, ends), (Ok(ReservationAnswer::Done), Ends::Of(vec![first])));
            assert!(!target.may_write(0) && target.may_write(1));
            assert_eq!(target.attention(0), Some(Attention::RegistrationsPreempted));
            assert_eq!(target.standing(), Some(kind), "the preemptor holds it");
            let (again, _) = target.execute(1, &preempt(true, kind));
            assert_eq!(again, Err(ReservationError::Conflict), "no such key any more");
        }
        let mut target = reserved(AR);
        assert!(matches!(target.execute(1, &preempt(false, AR)).1, Ends::Out(_)), "PREEMPT leaves what is under way");
        assert!(
            matches!(reserved(AR).execute(1, &preempt(true, AR)).1, Ends::Out(_)),
            "so does a target where it lingers"
        );
        let mut tgt = Target { kind: TargetKind { abort: false, ..TargetKind::default() }, ..reserved(AR) };
        assert_eq!(tgt.execute(1, &preempt(true, AR)).0, Err(ReservationError::Unsupported));
        assert!(tgt.may_write(0));
    }

    #[test]
    fn spc_4_a_holder_of_registrants_only_that_unregisters_takes_the_reservation_with_it() {
        let unregister = ReservationOp::Register { key: None, persist: true };
        let mut target = reserved(RO);
        done(&mut target, 0, unregister);
        assert_eq!(target.standing(), None);
        assert_eq!(target.attention(1), Some(Attention::ReservationsReleased));
        let mut target = reserved(AR);
        done(&mut target, 0, unregister);
        assert_eq!(target.standing(), Some(AR), "another registrant holds it");
        done(&mut target, 1, unregister);
        assert_eq!(target.standing(), None);
    }

    #[test]
    fn a_reconnect_loses_the_registration_and_keeps_the_key_listed() {
        let mut target = reserved(AR);
        target.reconnect(0);
        assert!(!target.may_write(0) && target.keys().contains(&key(1)));
        done(&mut target, 0, ReservationOp::Register { key: Some(key(1)), persist: true });
        assert!(target.may_write(0));
        done(&mut target, 1, preempt(true, AR));
        assert!(!target.may_write(0) && !target.keys().contains(&key(1)), "both went");
    }

    #[test]
    fn each_boot_is_a_nexus_of_its_own_where_the_target_sees_it_so() {
        let mut target = reserved(RO);
        target.kind.fresh_nexus = true;
        target.log_in(0);
        assert!(!target.may_write(0) && target.former_may_write(0), "it is not registered; what the old one sent is");
        let register = ReservationOp::Register { key: Some(key(9)), persist: true };
        done(&mut target, 0, register);
        assert_eq!(target.keys(), [key(9), key(2), key(1)]);
        let (_, ends) = target.execute(1, &preempt(false, RO));
        assert_eq!(ends, Ends::Out(vec![Nexus { machine: 0, former: true }]));
        assert!(target.may_write(0) && !target.former_may_write(0));
    }

    #[test]
    fn tgt_takes_the_next_that_registers_for_the_holder_that_was_preempted_and_only_that_one_can_mend_it() {
        let mut target = reserved(AR);
        target.kind.forgets_holder = true;
        done(&mut target, 1, preempt(false, AR));
        assert_eq!(target.standing(), Some(AR));
        done(&mut target, 2, ReservationOp::Register { key: Some(key(3)), persist: true });
        let held = Held { holder: key(3), kind: ReservationType::Other(0) };
        let shown = target.execute(1, &ReservationOp::ReadReservation).0;
        assert_eq!(shown, Ok(ReservationAnswer::Reservation(Some(held))));
        assert!(!target.may_write(0), "it still keeps others out");
        for (nexus, own) in [(1, key(2)), (2, key(3))] {
            let reserve = ReservationOp::Reserve { key: own, kind: AR };
            assert_eq!(target.execute(nexus, &reserve).0, Err(ReservationError::Conflict));
        }
        // Its next life, on the same nexus, takes that over with the registration.
        let mut later = target.clone();
        done(&mut later, 2, ReservationOp::Register { key: Some(key(4)), persist: true });
        assert_eq!([3, 4, 1].map(|k| later.mistook(key(k))), [true, true, false]);
        done(&mut target, 2, ReservationOp::Preempt { key: key(3), victim: key(3), kind: AR, abort: false });
        assert_eq!(target.standing(), Some(AR));
        assert!(target.may_write(2), "who preempts itself stays registered");
    }

    #[test]
    fn a_target_that_loses_its_power_forgets_unless_it_persists() {
        for persist in [true, false] {
            let mut target = reserved(AR);
            target.kind.persist = persist;
            target.lose_power();
            assert_eq!(target.standing().is_some(), persist);
            assert_eq!(target.keys().len(), if persist { 2 } else { 0 });
            assert_eq!(target.attention(2), Some(Attention::Reset));
        }
    }
}
