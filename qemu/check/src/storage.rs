//! The shared disk: fences, leases, writes; and what each node says of itself and its peers (DESIGN 7).
//!
//! Lamport clocks do not show that a write came *after* a fence (a smaller clock does, a larger one may be chance), and
//! the harness sees a write only when its line arrives. So on QEMU a write is judged by its own node's lease and by what
//! that node knew; only in the simulator, where a line's time is the event's time, by the fence itself.

use crate::line::{Life, Line, Via, What};
use crate::rule::{Findings, Rule};
use std::collections::HashMap;

#[derive(Debug, Default)]
struct Own {
    lease_until_nt_us: Option<u64>,
    frozen: Option<bool>,
    silent: HashMap<(u8, Via), bool>,
    /// When it adopted a view that puts it out, by its own clock.
    put_out_nt_us: Option<u64>,
}

/// Fences and leases.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    own: HashMap<Life, Own>,
    /// First Lamport clock and harness time of a fence that holds.
    fenced: HashMap<Life, (u64, u64)>,
    pub(crate) fences: u64,
    pub(crate) writes: u64,
    pub(crate) leases: u64,
}

impl Storage {
    /// Whether a fence of this life was through before `lc`.
    pub(crate) fn fenced_before(&self, life: Life, lc: u64) -> bool {
        self.fenced.get(&life).is_some_and(|(at, _)| *at < lc)
    }

    /// This life adopted a view in which it is being put out.
    pub(crate) fn on_put_out(&mut self, life: Life, nt_us: u64) {
        self.own.entry(life).or_default().put_out_nt_us.get_or_insert(nt_us);
    }

    /// Looks at one line of `life`. `exact`: times of lines are times of events.
    pub(crate) fn on_line(&mut self, life: Life, line: &Line, exact: bool, out: &mut Findings) {
        match &line.what {
            What::Fence { peer, ok: true } => {
                self.fences += 1;
                let first = self.fenced.entry(*peer).or_insert((line.lc, line.t_us));
                first.0 = first.0.min(line.lc);
            }
            What::Lease { issued_nt_us, until_nt_us } => {
                self.leases += 1;
                if until_nt_us < issued_nt_us {
                    out.add(Rule::Lease, "a lease that ends before it begins");
                }
                self.own.entry(life).or_default().lease_until_nt_us = Some(*until_nt_us);
            }
            What::SharedWrite { region, issued_nt_us } => {
                self.writes += 1;
                self.check_write(life, line, (region, *issued_nt_us), exact, out);
            }
            What::Freeze | What::Thaw => {
                let frozen = matches!(line.what, What::Freeze);
                let own = self.own.entry(life).or_default();
                if own.frozen == Some(frozen) {
                    out.add(Rule::FreezeThaw, if frozen { "frozen twice" } else { "thawed twice" });
                }
                own.frozen = Some(frozen);
            }
            What::Suspect { peer, via } | What::Trust { peer, via } => {
                let silent = matches!(line.what, What::Suspect { .. });
                let own = self.own.entry(life).or_default();
                if own.silent.insert((*peer, *via), silent) == Some(silent) {
                    let verb = if silent { "suspected" } else { "trusted" };
                    out.add(Rule::SuspectTrust, format!("node {peer} is {verb} twice via {via:?}"));
                }
            }
            _ => {}
        }
    }

    fn check_write(&mut self, life: Life, line: &Line, (region, issued): (&str, u64), exact: bool, out: &mut Findings) {
        // The heartbeat is the one block that a node may still write: a write of it may be on its way at any time.
        if region == format!("heartbeat.{}", life.node) {
            return;
        }
        let own = self.own.entry(life).or_default();
        if let Some(until) = own.lease_until_nt_us.filter(|until| issued > *until) {
            out.add(Rule::Lease, format!("{region} was written at {issued} µs, the lease ended at {until} µs"));
        }
        if own.put_out_nt_us.is_some_and(|at| issued > at) {
            out.add(Rule::WriteAfterFence, format!("{region} was written by a node that knew that it was put out"));
        }
        if exact {
            let issued_t_us = line.t_us.saturating_sub(line.nt_us.saturating_sub(issued));
            if let Some((_, fenced)) = self.fenced.get(&life).filter(|(_, fenced)| issued_t_us > *fenced) {
                let what =
                    format!("{region} was written at {issued_t_us} µs of the run, the fence held from {fenced} µs");
                out.add(Rule::WriteAfterFence, what);
            }
        }
    }
}
