//! A unit with persistent reservations that several [`FakeHba`](crate::fake::FakeHba)s share: registrations, reservation,
//! conflicts, unit attentions, aborted commands. (SPC-4 § 5.13; it follows the standard, and where
//! targets differ it is as strict as the strictest)

use crate::bytes::be64;
use crate::reservation::{Key, Kind};
use std::cell::{Ref, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

/// How the unit answers what it knows of reservations.
pub(crate) enum Answer {
    Good(Vec<u8>),
    Check([u8; 3]),
    Conflict,
}

const INVALID_ACTION: Answer = Answer::Check([5, 0x24, 0]);
const INVALID_PARAMETER: Answer = Answer::Check([5, 0x26, 0]);
const INVALID_RELEASE: Answer = Answer::Check([5, 0x26, 4]);
const RESERVATIONS_PREEMPTED: [u8; 3] = [6, 0x2a, 3];
const RESERVATIONS_RELEASED: [u8; 3] = [6, 0x2a, 4];
const REGISTRATIONS_PREEMPTED: [u8; 3] = [6, 0x2a, 5];
const RESET: [u8; 3] = [6, 0x29, 3];

/// What the unit knows of an initiator.
#[derive(Default)]
pub(crate) struct Nexus {
    pub(crate) key: Option<Key>,
    pub(crate) attentions: VecDeque<[u8; 3]>,
    /// Its commands were ended, and it does not know yet.
    ended: bool,
    /// Changes that were carried out.
    pub(crate) changes: usize,
    /// Writes that were carried out.
    pub(crate) writes: usize,
}

pub(crate) struct Target {
    pub(crate) disk: Vec<u8>,
    pub(crate) nexuses: Vec<Nexus>,
    /// Holder and kind; the holder means nothing where all hold it.
    pub(crate) reserved: Option<(usize, Kind)>,
    pub(crate) generation: u32,
    pub(crate) knows_abort: bool,
}

impl Target {
    fn attend(&mut self, to: usize, attention: [u8; 3]) {
        self.nexuses[to].attentions.push_back(attention);
    }

    fn is_holder(&self, at: usize) -> bool {
        self.nexuses[at].key.is_some()
            && self.reserved.is_some_and(|(holder, kind)| kind.is_held_by_all() || holder == at)
    }

    /// Ends a registration, and with it what depends on it.
    fn unregister(&mut self, at: usize, attention: Option<[u8; 3]>) {
        let held = self.is_holder(at);
        self.nexuses[at].key = None;
        if let Some(attention) = attention {
            self.attend(at, attention);
        }
        let Some((_, kind)) = self.reserved.filter(|_| held) else {
            return;
        };
        let registered = self.nexuses.iter().any(|nexus| nexus.key.is_some());
        if kind.is_held_by_all() && registered {
            return;
        }
        self.reserved = None;
        if kind == Kind::WriteExclusiveRegistrantsOnly || kind == Kind::ExclusiveAccessRegistrantsOnly {
            self.tell_registered(at, RESERVATIONS_RELEASED);
        }
    }

    fn tell_registered(&mut self, but: usize, attention: [u8; 3]) {
        for other in 0..self.nexuses.len() {
            if other != but && self.nexuses[other].key.is_some() {
                self.attend(other, attention);
            }
        }
    }

    fn conflicts(&self, from: usize, cdb: &[u8]) -> bool {
        let Some((_, kind)) = self.reserved else {
            return false;
        };
        let exclusive = matches!(
            kind,
            Kind::ExclusiveAccess | Kind::ExclusiveAccessRegistrantsOnly | Kind::ExclusiveAccessAllRegistrants
        );
        let shut_out = match cdb[0] {
            0x2a | 0x8a | 0x35 => true,
            0x28 | 0x88 => exclusive,
            _ => false,
        };
        let single = matches!(kind, Kind::WriteExclusive | Kind::ExclusiveAccess);
        let allowed = self.is_holder(from) || (!single && self.nexuses[from].key.is_some());
        shut_out && !allowed
    }

    fn change(&mut self, from: usize, cdb: &[u8], list: &[u8]) -> Answer {
        let (own, other) = (Key(be64(list, 0).unwrap()), Key(be64(list, 8).unwrap()));
        let kind = Kind::from_code(cdb[2]);
        let action = cdb[1] & 0x1f;
        let registered = self.nexuses[from].key;
        if action == 5 && !self.knows_abort {
            return INVALID_ACTION;
        }
        match action {
            0 if registered.unwrap_or(Key::NONE) != own => return Answer::Conflict,
            1..=5 if registered != Some(own) => return Answer::Conflict,
            0..=6 => {}
            _ => return INVALID_ACTION,
        }
        let answer = match (action, kind) {
            (0 | 6, _) => self.register(from, other),
            (1, Some(kind)) => self.reserve(from, kind),
            (2, Some(kind)) => self.release(from, kind),
            (3, _) => {
                self.tell_registered(from, RESERVATIONS_PREEMPTED);
                self.nexuses.iter_mut().for_each(|nexus| nexus.key = None);
                self.reserved = None;
                self.generation += 1;
                Answer::Good(vec![])
            }
            (4 | 5, Some(kind)) => self.preempt(from, other, kind, action == 5),
            _ => INVALID_ACTION,
        };
        if matches!(answer, Answer::Good(_)) {
            self.nexuses[from].changes += 1;
        }
        answer
    }

    fn register(&mut self, from: usize, new: Key) -> Answer {
        self.generation += 1;
        if new == Key::NONE {
            self.unregister(from, None);
        } else {
            self.nexuses[from].key = Some(new);
        }
        Answer::Good(vec![])
    }

    fn reserve(&mut self, from: usize, kind: Kind) -> Answer {
        match self.reserved {
            None => self.reserved = Some((from, kind)),
            Some((_, present)) if present == kind && self.is_holder(from) => {}
            Some(_) => return Answer::Conflict,
        }
        Answer::Good(vec![])
    }

    fn release(&mut self, from: usize, kind: Kind) -> Answer {
        match self.reserved {
            Some((_, present)) if self.is_holder(from) => {
                if present != kind {
                    return INVALID_RELEASE;
                }
                self.reserved = None;
                if kind != Kind::WriteExclusive && kind != Kind::ExclusiveAccess {
                    self.tell_registered(from, RESERVATIONS_RELEASED);
                }
            }
            _ => {}
        }
        Answer::Good(vec![])
    }

    fn preempt(&mut self, from: usize, victim: Key, kind: Kind, abort: bool) -> Answer {
        let by_all = self.reserved.is_some_and(|(_, kind)| kind.is_held_by_all());
        if victim == Key::NONE && !by_all {
            return INVALID_PARAMETER;
        }
        let is_victim = |nexus: &Nexus| nexus.key.is_some_and(|key| victim == Key::NONE || key == victim);
        let victims: Vec<usize> = (0..self.nexuses.len()).filter(|at| is_victim(&self.nexuses[*at])).collect();
        if victims.is_empty() {
            return Answer::Conflict;
        }
        let takes_over =
            victim == Key::NONE || self.reserved.is_some_and(|(holder, _)| !by_all && victims.contains(&holder));
        self.generation += 1;
        if takes_over {
            self.reserved = None;
        }
        for at in victims.into_iter().filter(|at| *at != from) {
            self.unregister(at, Some(REGISTRATIONS_PREEMPTED));
            if abort {
                self.nexuses[at].ended = true;
            }
        }
        if takes_over {
            self.reserved = Some((from, kind));
        }
        Answer::Good(vec![])
    }

    fn report(&self, action: u8) -> Answer {
        let header = |body: Vec<u8>| {
            let len = body.len() as u32;
            Answer::Good([&self.generation.to_be_bytes()[..], &len.to_be_bytes(), &body].concat())
        };
        let registered = self.nexuses.iter().enumerate().filter_map(|(at, nexus)| Some((at, nexus.key?)));
        match action {
            0 => header(registered.flat_map(|(_, key)| key.0.to_be_bytes()).collect()),
            1 => header(self.reserved.map_or(vec![], |(holder, kind)| {
                let key = if kind.is_held_by_all() { None } else { self.nexuses[holder].key };
                let mut body = key.unwrap_or(Key::NONE).0.to_be_bytes().to_vec();
                body.extend([0, 0, 0, 0, 0, kind.code(), 0, 0]);
                body
            })),
            2 => Answer::Good(vec![0, 8, 0x1d, 0x90, 0xea, 1, 0, 0]),
            3 => header(registered.flat_map(|(at, key)| self.describe(at, key)).collect()),
            _ => INVALID_ACTION,
        }
    }

    fn describe(&self, at: usize, key: Key) -> Vec<u8> {
        let mut bytes = key.0.to_be_bytes().to_vec();
        let (holds, kind) = match self.reserved {
            Some((_, kind)) if self.is_holder(at) => (1, kind.code()),
            _ => (0, 0),
        };
        bytes.extend([0, 0, 0, 0, holds, kind, 0, 0, 0, 0, 0, 1, 0, 0, 0, 12]);
        bytes.extend([5, 0, 0, 8, b'i', b'q', b'n', b'.', b'n', b'0' + at as u8, 0, 0]);
        bytes
    }
}

/// One initiator's way to the unit.
#[derive(Clone)]
pub(crate) struct Shared {
    target: Rc<RefCell<Target>>,
    from: usize,
}

impl Shared {
    /// A unit of 512-byte blocks, and the ways of `initiators` to it.
    pub(crate) fn unit(initiators: usize, blocks: usize) -> Vec<Self> {
        let target = Rc::new(RefCell::new(Target {
            disk: vec![0; blocks * 512],
            nexuses: (0..initiators).map(|_| Nexus::default()).collect(),
            reserved: None,
            generation: 0,
            knows_abort: true,
        }));
        (0..initiators).map(|from| Self { target: target.clone(), from }).collect()
    }

    /// The unit, to look at.
    pub(crate) fn look(&self) -> Ref<'_, Target> {
        self.target.borrow()
    }

    /// The unit, to change from outside.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Target) -> R) -> R {
        act(&mut self.target.borrow_mut())
    }

    pub(crate) fn disk_bytes(&self) -> usize {
        self.target.borrow().disk.len()
    }

    pub(crate) fn swap_disk(&mut self, disk: &mut Vec<u8>) {
        core::mem::swap(&mut self.target.borrow_mut().disk, disk);
    }

    /// Unit attention or conflict, as the command arrives. INQUIRY and REPORT LUNS pass both.
    pub(crate) fn admit(&mut self, cdb: &[u8]) -> Option<Answer> {
        let mut target = self.target.borrow_mut();
        if matches!(cdb[0], 0x12 | 0xa0) {
            return None;
        }
        if let Some(attention) = target.nexuses[self.from].attentions.pop_front() {
            return Some(Answer::Check(attention));
        }
        target.conflicts(self.from, cdb).then_some(Answer::Conflict)
    }

    /// Carries out what is about reservations; `None`: it is something else, which is carried out now.
    pub(crate) fn execute(&mut self, cdb: &[u8], out: &[u8]) -> Option<Answer> {
        let mut target = self.target.borrow_mut();
        match cdb[0] {
            0x5e => Some(target.report(cdb[1] & 0x1f)),
            0x5f => Some(target.change(self.from, cdb, out)),
            0x2a | 0x8a => {
                target.nexuses[self.from].writes += 1;
                None
            }
            _ => None,
        }
    }

    /// LOGICAL UNIT RESET by this initiator: its own commands are given back by its adapter, all others'
    /// are ended without a status. Registrations and reservation stay. (SPC-4 § 5.13.5)
    pub(crate) fn reset(&mut self) {
        let mut target = self.target.borrow_mut();
        for (at, nexus) in target.nexuses.iter_mut().enumerate() {
            nexus.ended |= at != self.from;
            nexus.attentions.clear();
            nexus.attentions.push_back(RESET);
        }
    }

    pub(crate) fn take_ended(&mut self) -> bool {
        core::mem::take(&mut self.target.borrow_mut().nexuses[self.from].ended)
    }
}
