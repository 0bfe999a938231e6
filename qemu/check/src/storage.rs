//! The shared disk: fences, leases, writes; and what each node says of itself and its peers (DESIGN 7).
//!
//! Lamport clocks do not show that a write came *after* a fence (a smaller clock does, a larger one may be chance), and
//! the harness sees a write only when its line arrives. So on QEMU a write is judged by its own node's lease and by what
//! that node knew; only in the simulator, where a line's time is the event's time, by the fence itself.
//!
//! Clocks differ by up to one per cent (DESIGN 7): a lease that runs so many µs more by its node's clock has run out on
//! another's only when 100/101 of them are over at the very least, and only that is held against anybody.

use crate::line::{FenceMethod, Life, Line, LockPhase, Via, What};
use crate::map::Map;
use crate::rule::{Findings, Rule};

/// Leases that a write may have been issued under. A write is aborted long before so many more beats.
const LEASES: usize = 8;

/// Lines of two nodes are received in the order of their events but for so many µs.
const RECEIPT_US: u64 = 50_000;

/// Writes of a heartbeat that a lease may begin with: the look after the write comes before the next write.
const BEATS: usize = 4;

#[derive(Debug, Default)]
struct Own {
    /// When the last writes of its heartbeat were issued, by its own clock.
    beats: Vec<u64>,
    /// The last leases: from when on it was known, until when it runs, by its own clock.
    leases: Vec<(u64, u64)>,
    /// The soonest moment of the run at which the last lease may be over.
    lease_end_t_us: Option<u64>,
    frozen: Option<bool>,
    /// When it froze last, and when that ended, by its own clock.
    froze_nt_us: Option<u64>,
    thawed_nt_us: Option<u64>,
    silent: Vec<((u8, Via), bool)>,
    /// When its registration was last in doubt, and when it stood again, by its own clock.
    doubt_nt_us: Option<u64>,
    stands_nt_us: Option<u64>,
    /// The least that the moment of the run at which a line of its was received is ahead of its own clock.
    offset_us: Option<u64>,
    /// When its newest write was issued, by its own clock: it may be judged before the fence is known.
    wrote_nt_us: Option<u64>,
    /// When it adopted a view that puts it out, by its own clock.
    put_out_nt_us: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Fenced {
    lc: u64,
    t_us: u64,
    method: FenceMethod,
}

/// Fences and leases.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    own: Map<Life, Own>,
    /// The first fence of a life that holds.
    fenced: Map<Life, Fenced>,
    /// When the reservation shut a life out: nothing of it lands any more, not even a heartbeat.
    shut_out: Map<Life, u64>,
    /// Fences under way: who, of whom.
    begun: Vec<(Life, Life)>,
    /// Lives that know that they were put out.
    put_out: Vec<Life>,
    pub(crate) fences: u64,
    pub(crate) writes: u64,
    pub(crate) leases: u64,
}

impl Storage {
    /// Whether a fence of this life was through before `lc`.
    pub(crate) fn fenced_before(&self, life: Life, lc: u64) -> bool {
        self.fenced.get(&life).is_some_and(|fenced| fenced.lc < lc)
    }

    /// The soonest moment of the run at which this life's last lease may be over. Only where times are exact.
    pub(crate) fn lease_end(&self, life: Life) -> Option<u64> {
        self.own.get(&life)?.lease_end_t_us
    }

    /// This life adopted a view in which it is being put out.
    pub(crate) fn on_put_out(&mut self, life: Life, nt_us: u64) {
        self.own.entry(life).or_default().put_out_nt_us.get_or_insert(nt_us);
        self.put_out.push(life);
    }

    /// Looks at one line of `life`. `exact`: times of lines are times of events.
    pub(crate) fn on_line(&mut self, life: Life, line: &Line, exact: bool, out: &mut Findings) {
        if !self.put_out.is_empty() && self.put_out.contains(&life) {
            self.after_put_out(life, line, out);
        }
        let ahead = line.t_us.saturating_sub(line.nt_us);
        let offset = &mut self.own.entry(life).or_default().offset_us;
        *offset = Some(offset.map_or(ahead, |offset| offset.min(ahead)));
        match &line.what {
            // One that says itself that it ends needs no waiting out.
            What::Panic { .. } | What::Halt { .. } => {
                if let Some(own) = self.own.get_mut(&life) {
                    own.lease_end_t_us = None;
                }
            }
            What::FenceBegin { peer, .. } => self.begun.push((life, *peer)),
            What::Fence { peer, method, ok } => self.on_fence(life, line, (*peer, *method, *ok), exact, out),
            What::Lease { issued_nt_us, until_nt_us } => {
                self.on_lease(life, line, (*issued_nt_us, *until_nt_us), exact, out);
            }
            What::SharedWrite { region, issued_nt_us } => {
                self.writes += 1;
                self.check_write(life, line, (region, *issued_nt_us), exact, out);
            }
            What::Reservation { stands } => {
                let own = self.own.entry(life).or_default();
                if *stands {
                    own.stands_nt_us = Some(line.nt_us);
                } else if own.doubt_nt_us.is_none() || own.stands_nt_us.is_some() {
                    (own.doubt_nt_us, own.stands_nt_us) = (Some(line.nt_us), None);
                }
            }
            What::Freeze | What::Thaw => {
                let frozen = matches!(line.what, What::Freeze);
                let own = self.own.entry(life).or_default();
                if own.frozen.unwrap_or(false) == frozen {
                    out.add(Rule::FreezeThaw, if frozen { "frozen twice" } else { "thawed, but not frozen" });
                }
                own.frozen = Some(frozen);
                if frozen {
                    (own.froze_nt_us, own.thawed_nt_us) = (Some(line.nt_us), None);
                } else {
                    own.thawed_nt_us = Some(line.nt_us);
                }
            }
            What::Suspect { peer, via } | What::Trust { peer, via } => {
                let silent = matches!(line.what, What::Suspect { .. });
                let own = self.own.entry(life).or_default();
                let known = own.silent.iter_mut().find(|(of, _)| *of == (*peer, *via));
                if known.as_ref().is_some_and(|(_, was)| *was == silent) {
                    let verb = if silent { "suspected" } else { "trusted" };
                    out.add(Rule::SuspectTrust, format!("node {peer} is {verb} twice via {via:?}"));
                }
                match known {
                    Some((_, was)) => *was = silent,
                    None => own.silent.push(((*peer, *via), silent)),
                }
            }
            _ => {}
        }
    }

    /// MISSION A11: it panics as soon as it notices.
    fn after_put_out(&mut self, life: Life, line: &Line, out: &mut Findings) {
        match &line.what {
            What::Panic { .. } | What::Halt { .. } => self.put_out.retain(|known| *known != life),
            // What it lets go of, what it notes, and a write that was on its way and is only reported now.
            What::Deregister { .. }
            | What::Freeze
            | What::Reservation { .. }
            | What::SharedWrite { .. }
            | What::Other(_) => {}
            What::Lock { phase: LockPhase::Released | LockPhase::Lost, .. } => {}
            // What that view says of whole nodes.
            What::State { level: None, .. } => {}
            _ => out.add(Rule::Excluded, "it knew that it was put out, and went on"),
        }
    }

    fn on_fence(
        &mut self,
        life: Life,
        line: &Line,
        (peer, method, ok): (Life, FenceMethod, bool),
        exact: bool,
        out: &mut Findings,
    ) {
        let begun = self.begun.len();
        self.begun.retain(|known| *known != (life, peer));
        if self.begun.len() == begun {
            out.add(Rule::Fence, format!("the fence of {peer} was not begun"));
        }
        if !ok {
            return;
        }
        self.fences += 1;
        let first = self.fenced.entry(peer).or_insert(Fenced { lc: line.lc, t_us: line.t_us, method });
        first.lc = first.lc.min(line.lc);
        if method == FenceMethod::Reservation {
            let shut_us = *self.shut_out.entry(peer).or_insert(line.t_us);
            let own = self.own.get(&peer).filter(|_| !exact);
            let wrote = own.and_then(|own| Some(own.wrote_nt_us? + own.offset_us?)).unwrap_or(0);
            if wrote.saturating_sub(RECEIPT_US) > shut_us {
                let what =
                    format!("{peer} wrote at {wrote} µs of the run, the reservation had shut it out at {shut_us} µs");
                out.add(Rule::WriteAfterFence, what);
            }
        }
        let until = self.own.get(&peer).and_then(|own| own.lease_end_t_us);
        if let Some(until) = until.filter(|until| exact && method == FenceMethod::Lease && line.t_us < *until) {
            let what = format!("{peer} is fenced at {} µs, its lease runs until {until} µs of the run", line.t_us);
            out.add(Rule::FenceEarly, what);
        }
    }

    fn on_lease(&mut self, life: Life, line: &Line, (issued, until): (u64, u64), exact: bool, out: &mut Findings) {
        self.leases += 1;
        if until < issued {
            out.add(Rule::Lease, "a lease that ends before it begins");
        }
        // One that stood still may learn late of a lease that was over long ago.
        let end = line.t_us.saturating_add(until.saturating_sub(line.nt_us) / 101 * 100);
        let late = until > line.nt_us && self.fenced.get(&life).is_some_and(|f| f.method == FenceMethod::Lease);
        if exact && late {
            out.add(Rule::FenceEarly, format!("a lease until {end} µs of the run, of one that is fenced by lease"));
        }
        let own = self.own.entry(life).or_default();
        if !own.beats.contains(&issued) {
            out.add(Rule::LeaseStart, format!("a lease from {issued} µs, when no heartbeat was submitted"));
        }
        if own.leases.last().is_some_and(|(_, last)| until < *last) {
            out.add(Rule::Lease, "a lease that ends before the one that it follows");
        }
        if own.leases.len() == LEASES {
            own.leases.remove(0);
        }
        own.leases.push((line.nt_us, until));
        if exact {
            own.lease_end_t_us = own.lease_end_t_us.max(Some(end));
        }
    }

    /// What the reservation forbids: any write of a life that it shut out, and any that is issued in doubt.
    ///
    /// When a write was issued is told by its node's own clock. On QEMU that is carried over to the run's by the least delay
    /// that any line of that life had; a clock that stood still since only makes the write look older.
    fn check_reservation(
        &mut self,
        life: Life,
        line: &Line,
        (region, issued): (&str, u64),
        exact: bool,
        out: &mut Findings,
    ) {
        let own = self.own.entry(life).or_default();
        own.wrote_nt_us = own.wrote_nt_us.max(Some(issued));
        let in_doubt = own.doubt_nt_us.is_some_and(|doubt| issued > doubt)
            && own.stands_nt_us.is_none_or(|stands| issued < stands);
        if in_doubt {
            out.add(Rule::Doubt, format!("{region} was written at {issued} µs, when its registration was in doubt"));
        }
        let Some(shut_us) = self.shut_out.get(&life).copied() else { return };
        let issued_t_us = if exact {
            line.t_us.saturating_sub(line.nt_us.saturating_sub(issued))
        } else {
            (issued + own.offset_us.unwrap_or(0)).saturating_sub(RECEIPT_US)
        };
        if issued_t_us > shut_us {
            let what = format!(
                "{region} was written at {issued_t_us} µs of the run, the reservation had shut it out at {shut_us} µs"
            );
            out.add(Rule::WriteAfterFence, what);
        }
    }

    fn check_write(&mut self, life: Life, line: &Line, (region, issued): (&str, u64), exact: bool, out: &mut Findings) {
        self.check_reservation(life, line, (region, issued), exact, out);
        // The heartbeat is the one block that a node may still write: a write of it may be on its way at any time.
        let own_heartbeat = region.strip_prefix("heartbeat.").and_then(|n| n.parse().ok()) == Some(life.node);
        let own = self.own.entry(life).or_default();
        if own_heartbeat {
            if own.beats.len() == BEATS {
                own.beats.remove(0);
            }
            own.beats.push(issued);
            return;
        }
        // The lease that was known when the write was issued; none at all before the first.
        let lease = own.leases.iter().rev().find(|(known, _)| *known <= issued);
        if let Some((_, until)) = lease.filter(|(_, until)| issued > *until) {
            out.add(Rule::Lease, format!("{region} was written at {issued} µs, the lease ended at {until} µs"));
        }
        let was_frozen = own.froze_nt_us.is_some_and(|froze| issued > froze)
            && own.thawed_nt_us.is_none_or(|thawed| issued < thawed);
        if was_frozen {
            out.add(Rule::Lease, format!("{region} was written at {issued} µs by a frozen node"));
        }
        if own.put_out_nt_us.is_some_and(|at| issued > at) {
            out.add(Rule::WriteAfterFence, format!("{region} was written by a node that knew that it was put out"));
        }
        if exact {
            let issued_t_us = line.t_us.saturating_sub(line.nt_us.saturating_sub(issued));
            if let Some(Fenced { t_us, .. }) = self.fenced.get(&life).filter(|fenced| issued_t_us > fenced.t_us) {
                let what =
                    format!("{region} was written at {issued_t_us} µs of the run, the fence held from {t_us} µs");
                out.add(Rule::WriteAfterFence, what);
            }
        }
    }
}
