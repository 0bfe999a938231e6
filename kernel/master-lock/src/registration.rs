//! This node's own registration with the reservation of the shared disk: how it comes about, and what becomes of it when
//! the disk says that something happened to it (DESIGN 7, *the fence*; SPC-4 §5.13).
//!
//! ```text
//! birth  Capabilities ─► Register ─► Prove ─► Held? ──one stands──────────────► Stands
//!                          ▲ attention  │ absent  │ none                          │
//!                          └────────────┴─────────│──► Reserve ─► Held?           │
//!                                                 └──► type 0, this node's: Take ─► Held?
//! life                                            │                  attention    │ conflict
//!        Keys? ◄─────────────────────────────────────────────────────────────────┤
//!          │ absent ─► Look ◄──────────────────────────────────────────────────────┘
//!          │ present    │ a look at the views that begins now does not shut this life out
//!          ▼            ▼
//!        Held?        Register ─► Prove ─► Held? ─► Stands
//! ```
//! Invariants
//! - A registration is believed when READ KEYS shows it, never because the command was answered: a UNIT ATTENTION eats a
//!   PERSISTENT RESERVE OUT, and a reply may be lost.
//! - After birth it registers only after a look at the views that began when the doubt did; and after each registration
//!   nothing is written before another look ([`MasterLock`](crate::MasterLock) holds that, see `gate.rs`).
//! - A conflict of an own write leads to a new registration also if the key is listed: a target may list the key of a nexus
//!   that is gone (tgt after a reconnect).
//! - While it stands it may be looked at again, keys and reservation: a target may forget both and tell nobody. The master does
//!   so every second and after each key that it removed. That puts nothing in doubt before the answer does.
//! - A reservation of type 0 is none: a target that knows no more who holds it takes a node that registers for the holder (tgt).
//!   RESERVE meets a conflict then; so that node preempts its own key, which makes it the holder. If it does not, because it is
//!   gone, another preempts the key in its place. Was it only slow, it finds that it is not registered, and registers again.
//! - It neither releases nor unregisters, not even when its node leaves or was put out: the others' registrations may be lost
//!   at that moment, and with the last one the reservation ends. The master removes what is left over.

use quorate_base::reservation::{Held, Keys, ReservationAnswer, ReservationCapabilities, ReservationType};
use quorate_base::{Instant, Registrants, ReservationError, ReservationKey, ReservationOp};

/// Pause after a command that failed, µs: about a disk operation, so that the disk is not hammered.
const RETRY_US: u64 = 10_000;
/// Pause between two looks at a registration that stands, µs: a target that forgot it is noticed within about that, and it costs
/// two commands that move no data.
const CHECK_US: u64 = 1_000_000;
/// Looks at a reservation of type 0 until another node than the one that the target takes for the holder mends it. Each has its
/// pause, so half a second at least: for those few commands that is long.
const LOST_MAX: u8 = 50;
/// Commands of a birth that fail in a row before the node gives up. Attentions count, too: there are a few at most.
const TRIES_MAX: u8 = 16;

/// What is being done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Step {
    /// REPORT CAPABILITIES.
    Capabilities,
    /// REGISTER AND IGNORE EXISTING KEY.
    Register,
    /// READ KEYS after it.
    Prove,
    /// READ KEYS: is it still there?
    Keys,
    /// READ RESERVATION: does one stand?
    Held,
    /// RESERVE.
    Reserve,
    /// PREEMPT of the key that the target takes for the holder's: of this node.
    Take(ReservationKey),
    /// A look at the views is awaited.
    Look,
    /// Registered, and a reservation stands.
    Stands,
}

/// What of a registration that stands is being looked at again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Check {
    /// Nothing.
    No,
    /// READ KEYS, then READ RESERVATION.
    Keys,
    /// READ RESERVATION.
    Held,
}

/// Why a birth cannot register.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// The disk has no reservations that fence.
    Unsupported,
    /// A reservation of another type stands: not this cluster's.
    Foreign(ReservationType),
    /// The disk fails.
    Failed(ReservationError),
}

/// What changed with an answer; for the trace.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// READ KEYS shows the own key after it was registered.
    Registered,
    /// READ KEYS does not show it.
    Absent,
    /// A unit attention came in place of the answer.
    Doubt,
    /// Registered, and a reservation stands.
    Stands,
}

/// The machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Registration {
    key: ReservationKey,
    registrants: Registrants,
    kind: ReservationType,
    persist: bool,
    step: Step,
    check: Check,
    /// When it is looked at again by itself.
    check_at: Instant,
    /// Until it stands for the first time it may register without a look at the views: no view knows this life.
    born: bool,
    /// A command is under way.
    asked: bool,
    /// Something happened while a command was under way: nothing that was read before counts.
    again: bool,
    retry_at: Instant,
    tries: u8,
    /// How often in a row a reservation of type 0 was seen.
    lost: u8,
    refusal: Option<Refusal>,
}

impl Registration {
    /// Begins with what the disk can do. `registrants`: who is to hold the reservation.
    pub const fn new(key: ReservationKey, registrants: Registrants) -> Self {
        Self {
            key,
            registrants,
            kind: ReservationType::WriteExclusiveRegistrantsOnly,
            persist: false,
            step: Step::Capabilities,
            check: Check::No,
            check_at: Instant::FAR,
            born: false,
            asked: false,
            again: false,
            retry_at: Instant::ZERO,
            tries: 0,
            lost: 0,
            refusal: None,
        }
    }

    /// The own key.
    pub const fn key(&self) -> ReservationKey {
        self.key
    }

    /// The type of the cluster's reservation.
    pub const fn kind(&self) -> ReservationType {
        self.kind
    }

    /// Registered, a reservation stands, and nothing has happened since that puts it in doubt.
    pub const fn stands(&self) -> bool {
        matches!(self.step, Step::Stands)
    }

    /// It stands, and no look at it is under way.
    pub fn is_sure(&self) -> bool {
        self.stands() && self.check == Check::No
    }

    /// A key was removed: does the reservation still stand?
    pub fn check(&mut self, now: Instant) {
        if self.step == Step::Stands {
            self.again = self.asked;
            self.retry_at = now;
            if self.check == Check::No {
                self.check = Check::Held;
            }
        }
    }

    /// Whether it is looked at every second: this node is the master.
    pub fn watch(&mut self, now: Instant, watched: bool) {
        if !watched {
            self.check_at = Instant::FAR;
        } else if self.check_at == Instant::FAR {
            self.check_at = now.plus_us(CHECK_US);
        }
    }

    /// It waits for a look at the views: [`looked`](Self::looked).
    pub const fn awaits_look(&self) -> bool {
        matches!(self.step, Step::Look)
    }

    /// Why it cannot come about; only in a birth.
    pub const fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// When [`poll`](Self::poll) is due.
    pub fn poll_timeout(&self) -> Instant {
        match self.step {
            Step::Look => Instant::FAR,
            Step::Stands if self.check == Check::No && !self.asked => self.check_at,
            _ if self.asked || self.refusal.is_some() => Instant::FAR,
            _ => self.retry_at,
        }
    }

    /// The next command, if one is due. One is under way at a time.
    pub fn poll(&mut self, now: Instant) -> Option<ReservationOp> {
        if now < self.poll_timeout() {
            return None;
        }
        let op = match self.step {
            Step::Capabilities => ReservationOp::Capabilities,
            Step::Register => ReservationOp::Register { key: Some(self.key), persist: self.persist },
            Step::Prove | Step::Keys => ReservationOp::ReadKeys,
            Step::Held => ReservationOp::ReadReservation,
            Step::Reserve => ReservationOp::Reserve { key: self.key, kind: self.kind },
            Step::Take(victim) => ReservationOp::Preempt { key: self.key, victim, kind: self.kind, abort: false },
            Step::Stands if self.check == Check::Held => ReservationOp::ReadReservation,
            Step::Stands => {
                self.check = Check::Keys;
                ReservationOp::ReadKeys
            }
            Step::Look => return None,
        };
        self.asked = true;
        self.again = false;
        Some(op)
    }

    /// A write of this node met RESERVATION CONFLICT: it may have been put out.
    pub fn conflict(&mut self) {
        self.doubt(if self.born { Step::Look } else { Step::Register });
    }

    /// A unit attention reached this node: it may have been put out, or the disk may have forgotten everything.
    pub fn attention(&mut self) {
        if !matches!(self.step, Step::Look) {
            self.doubt(if self.born { Step::Keys } else { Step::Register });
        }
    }

    fn doubt(&mut self, step: Step) {
        if self.step == Step::Capabilities {
            return;
        }
        self.again = self.asked;
        self.check = Check::No;
        self.step = step;
    }

    /// A look at the views, begun while it was awaited, does not shut this life out.
    pub fn looked(&mut self) {
        if self.step == Step::Look {
            self.step = Step::Register;
        }
    }

    /// A command is done.
    pub fn answered(&mut self, now: Instant, result: Result<&ReservationAnswer, ReservationError>) -> Option<Change> {
        if !core::mem::take(&mut self.asked) {
            return None;
        }
        if core::mem::take(&mut self.again) {
            // What it says is from before the doubt.
            return None;
        }
        match result {
            Ok(answer) => {
                self.tries = 0;
                self.take(now, answer)
            }
            Err(error) => {
                self.failed(now, error);
                (self.born && matches!(error, ReservationError::Attention(_))).then_some(Change::Doubt)
            }
        }
    }

    fn take(&mut self, now: Instant, answer: &ReservationAnswer) -> Option<Change> {
        match (self.step, answer) {
            (Step::Capabilities, ReservationAnswer::Capabilities(can)) => {
                self.take_capabilities(*can);
                None
            }
            // GOOD proves nothing: see the keys.
            (Step::Register, ReservationAnswer::Done) => {
                self.step = Step::Prove;
                None
            }
            (Step::Prove | Step::Keys, ReservationAnswer::Keys(keys)) => Some(self.take_keys(now, keys)),
            (Step::Stands, ReservationAnswer::Keys(keys)) if keys.keys.contains(&self.key) => {
                (self.check, self.retry_at) = (Check::Held, now);
                None
            }
            (Step::Stands, ReservationAnswer::Keys(keys)) => Some(self.take_keys(now, keys)),
            (Step::Held | Step::Stands, ReservationAnswer::Reservation(held)) => self.take_held(now, *held),
            (Step::Reserve | Step::Take(_), ReservationAnswer::Done) => {
                self.step = Step::Held;
                None
            }
            // An answer to another question: the port's mistake.
            _ => {
                self.failed(now, ReservationError::Device);
                None
            }
        }
    }

    fn take_capabilities(&mut self, can: ReservationCapabilities) {
        match can.best(self.registrants) {
            Some(kind) => {
                self.kind = kind;
                self.persist = can.persist_through_power_loss;
                self.step = Step::Register;
            }
            None => self.refusal = Some(Refusal::Unsupported),
        }
    }

    fn take_keys(&mut self, now: Instant, keys: &Keys) -> Change {
        if keys.keys.contains(&self.key) {
            let proved = self.step == Step::Prove;
            self.step = Step::Held;
            if proved { Change::Registered } else { Change::Stands }
        } else {
            self.check = Check::No;
            self.step = if self.born { Step::Look } else { Step::Register };
            self.retry_at = now.plus_us(RETRY_US);
            Change::Absent
        }
    }

    fn take_held(&mut self, now: Instant, held: Option<Held>) -> Option<Change> {
        self.check = Check::No;
        match held {
            None => {
                self.step = Step::Reserve;
                None
            }
            Some(Held { kind, .. }) if kind.fences() => {
                self.kind = kind;
                self.born = true;
                self.lost = 0;
                self.check_at = if self.check_at == Instant::FAR { Instant::FAR } else { now.plus_us(CHECK_US) };
                self.step = Step::Stands;
                Some(Change::Stands)
            }
            Some(Held { kind: ReservationType::Other(0), holder }) => {
                self.take_lost(now, holder);
                None
            }
            Some(Held { kind, .. }) if !self.born => {
                self.refusal = Some(Refusal::Foreign(kind));
                None
            }
            // Somebody took the disk away from the cluster: it stays as it is until that is over.
            Some(_) => {
                self.step = Step::Keys;
                self.retry_at = now.plus_us(RETRY_US);
                None
            }
        }
    }

    /// A reservation of type 0 is shown, with this key.
    fn take_lost(&mut self, now: Instant, holder: ReservationKey) {
        self.lost = self.lost.saturating_add(1);
        self.retry_at = now.plus_us(RETRY_US);
        let node = |key: ReservationKey| key.owner().map(|owner| owner.node);
        self.step =
            if node(holder) == node(self.key) || self.lost >= LOST_MAX { Step::Take(holder) } else { Step::Held };
        if !self.born && self.lost >= 2 * LOST_MAX {
            self.refusal = Some(Refusal::Foreign(ReservationType::Other(0)));
        }
    }

    fn failed(&mut self, now: Instant, error: ReservationError) {
        self.tries = self.tries.saturating_add(1);
        self.retry_at = now.plus_us(RETRY_US);
        match error {
            ReservationError::Attention(_) => {
                // Nothing was done; and what was read before is from before what happened.
                self.retry_at = now;
                self.check = Check::No;
                if !matches!(self.step, Step::Capabilities | Step::Look) {
                    self.step = if self.born && self.step != Step::Register { Step::Keys } else { Step::Register };
                }
            }
            // An older disk: the type of registrants only is what all have that have any.
            ReservationError::Unsupported if self.step == Step::Capabilities => {
                self.take_capabilities(ReservationCapabilities { registrants_only: true, ..Default::default() });
            }
            ReservationError::Unsupported if !self.born => self.refusal = Some(Refusal::Unsupported),
            // Another's RESERVE came first; or this node is not registered any more.
            ReservationError::Conflict if matches!(self.step, Step::Reserve | Step::Take(_)) => self.step = Step::Keys,
            // Done or not: see the keys. (In a birth an absent key is registered again.)
            ReservationError::TimedOut | ReservationError::Gone | ReservationError::Device
                if self.step == Step::Register =>
            {
                self.step = Step::Prove;
            }
            _ => {}
        }
        if !self.born && self.tries >= TRIES_MAX && self.refusal.is_none() {
            self.refusal = Some(Refusal::Failed(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_base::reservation::Attention;
    use quorate_base::{BootNonce, Incarnation, NodeId};

    use super::*;

    const OP_KEYS: ReservationOp = ReservationOp::ReadKeys;
    const OP_HELD: ReservationOp = ReservationOp::ReadReservation;
    const AR: ReservationType = ReservationType::WriteExclusiveAllRegistrants;

    fn own() -> ReservationKey {
        ReservationKey::new(NodeId::new(2).unwrap(), Incarnation(3), BootNonce(0xabcd))
    }

    fn register() -> ReservationOp {
        ReservationOp::Register { key: Some(own()), persist: true }
    }

    fn keys(keys: &[ReservationKey]) -> ReservationAnswer {
        ReservationAnswer::Keys(Keys { keys: keys.iter().copied().collect(), ..Keys::default() })
    }

    fn held(holder: ReservationKey, kind: ReservationType) -> ReservationAnswer {
        ReservationAnswer::Reservation(Some(Held { holder, kind }))
    }

    /// Asks until nothing is due; each command must be the next of `script`, and gets its answer.
    fn play(r: &mut Registration, script: &[(ReservationOp, Result<ReservationAnswer, ReservationError>)]) {
        for (expected, answer) in script {
            let now = r.poll_timeout();
            assert_eq!(r.poll(now), Some(*expected));
            assert_eq!(r.poll(now), None, "one at a time");
            let _ = r.answered(now, answer.as_ref().map_err(|e| *e));
        }
    }

    fn capabilities() -> ReservationAnswer {
        ReservationAnswer::Capabilities(ReservationCapabilities {
            all_registrants: true,
            registrants_only: true,
            persist_through_power_loss: true,
        })
    }

    fn standing(kind: ReservationType, holder: ReservationKey) -> Registration {
        let mut r = Registration::new(own(), Registrants::All);
        play(
            &mut r,
            &[
                (ReservationOp::Capabilities, Ok(capabilities())),
                (register(), Ok(ReservationAnswer::Done)),
                (OP_KEYS, Ok(keys(&[own()]))),
                (OP_HELD, Ok(held(holder, kind))),
            ],
        );
        assert!(r.stands());
        r
    }

    #[test]
    fn design_7_a_birth_registers_proves_and_reserves_if_nobody_has() {
        let mut r = Registration::new(own(), Registrants::All);
        play(
            &mut r,
            &[
                (ReservationOp::Capabilities, Ok(capabilities())),
                (register(), Ok(ReservationAnswer::Done)),
                (OP_KEYS, Ok(keys(&[own()]))),
                (OP_HELD, Ok(ReservationAnswer::Reservation(None))),
                (ReservationOp::Reserve { key: own(), kind: AR }, Err(ReservationError::Conflict)),
                (OP_KEYS, Ok(keys(&[own()]))),
                (OP_HELD, Ok(held(ReservationKey(0), AR))),
            ],
        );
        assert!(r.stands() && r.poll_timeout() == Instant::FAR);
    }

    #[test]
    fn spc_4_an_attention_eats_the_registration_and_it_is_sent_again() {
        let eaten = Err(ReservationError::Attention(Attention::Reset));
        let mut r = Registration::new(own(), Registrants::All);
        play(
            &mut r,
            &[
                (ReservationOp::Capabilities, eaten.clone()),
                (ReservationOp::Capabilities, Ok(capabilities())),
                (register(), eaten.clone()),
                (register(), eaten),
                (register(), Ok(ReservationAnswer::Done)),
                (OP_KEYS, Ok(keys(&[own()]))),
            ],
        );
    }

    #[test]
    fn design_7_a_lost_reply_is_resolved_by_reading() {
        for (found, next) in [(&[own()][..], OP_HELD), (&[][..], register())] {
            let mut r = Registration::new(own(), Registrants::All);
            play(
                &mut r,
                &[
                    (ReservationOp::Capabilities, Ok(capabilities())),
                    (register(), Err(ReservationError::TimedOut)),
                    (OP_KEYS, Ok(keys(found))),
                ],
            );
            assert_eq!(r.poll(r.poll_timeout()), Some(next));
        }
    }

    #[test]
    fn design_7_after_a_conflict_nothing_is_registered_before_a_look_at_the_views() {
        let mut r = standing(AR, ReservationKey(0));
        r.conflict();
        assert!(r.awaits_look() && !r.stands());
        assert_eq!((r.poll_timeout(), r.poll(Instant::FAR)), (Instant::FAR, None));
        r.looked();
        play(&mut r, &[(register(), Ok(ReservationAnswer::Done)), (OP_KEYS, Ok(keys(&[own()])))]);
        play(&mut r, &[(OP_HELD, Ok(held(ReservationKey(0), AR)))]);
        assert!(r.stands());
    }

    #[test]
    fn design_7_after_an_attention_a_key_that_is_there_is_kept_and_one_that_is_not_waits_for_a_look() {
        let mut r = standing(AR, ReservationKey(0));
        r.attention();
        play(&mut r, &[(OP_KEYS, Ok(keys(&[own()]))), (OP_HELD, Ok(held(ReservationKey(0), AR)))]);
        assert!(r.stands());
        r.attention();
        play(&mut r, &[(OP_KEYS, Ok(keys(&[])))]);
        assert!(r.awaits_look());
        // The target lost its power: the reservation is gone with the registrations.
        r.looked();
        play(
            &mut r,
            &[
                (register(), Ok(ReservationAnswer::Done)),
                (OP_KEYS, Ok(keys(&[own()]))),
                (OP_HELD, Ok(ReservationAnswer::Reservation(None))),
                (ReservationOp::Reserve { key: own(), kind: AR }, Ok(ReservationAnswer::Done)),
                (OP_HELD, Ok(held(ReservationKey(0), AR))),
            ],
        );
        assert!(r.stands());
    }

    #[test]
    fn a_registration_that_stands_is_looked_at_again_and_is_in_doubt_only_by_the_answer() {
        let standing = || standing(AR, ReservationKey(0));
        // After a key was removed: only the reservation.
        let mut r = standing();
        r.check(Instant::ZERO);
        assert!(r.stands() && !r.is_sure());
        play(&mut r, &[(OP_HELD, Ok(held(ReservationKey(0), AR)))]);
        assert!(r.is_sure() && r.poll_timeout() == Instant::FAR);
        r.check(Instant::ZERO);
        let reserve = ReservationOp::Reserve { key: own(), kind: AR };
        play(&mut r, &[(OP_HELD, Ok(ReservationAnswer::Reservation(None))), (reserve, Ok(ReservationAnswer::Done))]);
        assert!(!r.stands(), "it is reserved again, and that is to be seen");
        play(&mut r, &[(OP_HELD, Ok(held(ReservationKey(0), AR)))]);
        assert!(r.is_sure());
        // The master's, every second.
        r.watch(Instant::ZERO, true);
        assert_eq!(r.poll_timeout(), Instant::ZERO.plus_us(CHECK_US));
        play(&mut r, &[(OP_KEYS, Ok(keys(&[own()]))), (OP_HELD, Ok(held(ReservationKey(0), AR)))]);
        assert!(r.is_sure() && r.poll_timeout() == Instant::ZERO.plus_us(2 * CHECK_US));
        play(&mut r, &[(OP_KEYS, Ok(keys(&[])))]);
        assert!(r.awaits_look(), "forgotten: what the views say comes first");
        // What was asked before the key was removed says nothing of it.
        let mut r = standing();
        r.check(Instant::ZERO);
        assert_eq!(r.poll(Instant::ZERO.plus_us(1)), Some(OP_HELD));
        r.check(Instant::ZERO.plus_us(2));
        assert_eq!(r.answered(Instant::ZERO.plus_us(3), Ok(&held(ReservationKey(0), AR))), None);
        assert!(!r.is_sure());
        // An attention in place of the answer puts it in doubt.
        assert_eq!(r.poll(Instant::ZERO.plus_us(3)), Some(OP_HELD));
        let eaten = r.answered(Instant::ZERO.plus_us(4), Err(ReservationError::Attention(Attention::Reset)));
        assert_eq!((eaten, r.stands()), (Some(Change::Doubt), false));
    }

    #[test]
    fn a_reservation_of_type_0_is_taken_by_the_node_that_stands_for_its_holder_and_by_others_when_it_does_not() {
        let lost = ReservationType::Other(0);
        let take = |victim| ReservationOp::Preempt { key: own(), victim, kind: AR, abort: false };
        let before = |r: &mut Registration| {
            let begin = [(ReservationOp::Capabilities, Ok(capabilities())), (register(), Ok(ReservationAnswer::Done))];
            play(r, &begin);
            play(r, &[(OP_KEYS, Ok(keys(&[own()])))]);
        };
        let mut r = Registration::new(own(), Registrants::All);
        before(&mut r);
        play(&mut r, &[(OP_HELD, Ok(held(own(), lost))), (take(own()), Ok(ReservationAnswer::Done))]);
        play(&mut r, &[(OP_HELD, Ok(held(ReservationKey(0), AR)))]);
        assert!(r.is_sure());
        let other = ReservationKey::new(NodeId::new(1).unwrap(), Incarnation(3), BootNonce(1));
        let mut r = Registration::new(own(), Registrants::All);
        before(&mut r);
        for _ in 0..LOST_MAX {
            play(&mut r, &[(OP_HELD, Ok(held(other, lost)))]);
        }
        play(&mut r, &[(take(other), Ok(ReservationAnswer::Done)), (OP_HELD, Ok(held(ReservationKey(0), AR)))]);
        assert!(r.is_sure());
    }

    #[test]
    fn what_was_asked_before_a_doubt_does_not_answer_it() {
        let mut r = standing(AR, ReservationKey(0));
        r.attention();
        assert_eq!(r.poll(Instant::ZERO), Some(OP_KEYS));
        r.attention();
        assert_eq!(r.answered(Instant::ZERO, Ok(&keys(&[own()]))), None);
        assert_eq!(r.poll(r.poll_timeout()), Some(OP_KEYS), "it is read again");
        r.conflict();
        let _ = r.answered(Instant::ZERO, Ok(&keys(&[own()])));
        assert!(r.awaits_look());
    }

    #[test]
    fn a_disk_that_cannot_fence_is_refused_and_a_foreign_reservation_named() {
        let mut r = Registration::new(own(), Registrants::All);
        let none = ReservationAnswer::Capabilities(ReservationCapabilities::default());
        play(&mut r, &[(ReservationOp::Capabilities, Ok(none))]);
        assert_eq!(r.refusal(), Some(Refusal::Unsupported));
        let mut r = Registration::new(own(), Registrants::All);
        play(&mut r, &[(ReservationOp::Capabilities, Err(ReservationError::Unsupported))]);
        let op = ReservationOp::Register { key: Some(own()), persist: false };
        play(&mut r, &[(op, Err(ReservationError::Unsupported))]);
        assert_eq!(r.refusal(), Some(Refusal::Unsupported));
        let mut r = Registration::new(own(), Registrants::All);
        play(&mut r, &[(ReservationOp::Capabilities, Ok(capabilities())), (register(), Ok(ReservationAnswer::Done))]);
        let other = ReservationType::Other(3);
        play(&mut r, &[(OP_KEYS, Ok(keys(&[own()]))), (OP_HELD, Ok(held(ReservationKey(1), other)))]);
        assert_eq!(r.refusal(), Some(Refusal::Foreign(other)));
    }
}
