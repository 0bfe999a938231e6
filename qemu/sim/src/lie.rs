//! What the disk may lie about a record, to one machine: fail it, give another place's or an older one, answer a write that
//! it loses or puts elsewhere. And that it is not there for a while, or is another cluster's.
//!
//! What a cluster must bear is drawn in every plan with disk faults. Two lies break what it rests on, that a read gives the
//! last durable write: an older ballot, which is never drawn, and an older heartbeat, which makes a live node look still,
//! and is drawn only where the views alone must be safe.

use std::fmt;

use quorate_base::Timing;
use quorate_database::{Region, layout};
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, Trick};
use crate::random::Random;

/// What the disk does with one record of one machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lie {
    /// Its reads fail.
    ReadFails,
    /// Its writes fail.
    WriteFails,
    /// Its reads give that record.
    ReadFrom(u64),
    /// Its reads give what stands there when it begins.
    ReadOld,
    /// Its writes are answered as done, and are lost.
    WriteLost,
    /// Its next write lands there.
    WriteTo(u64),
}

/// What is wrong with a machine's disk as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// It is not there.
    Gone,
    /// It is another cluster's.
    Other,
}

impl Lie {
    /// Its name in counts.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadFails => "record_read_error",
            Self::WriteFails => "record_write_error",
            Self::ReadFrom(_) => "misdirected_read",
            Self::ReadOld => "stale_read",
            Self::WriteLost => "lost_write",
            Self::WriteTo(_) => "misdirected_write",
        }
    }

    /// Begins, for one machine, until a moment of the run.
    pub(crate) fn begin(self, disk: &mut Disk, machine: usize, record: u64, until_us: u64) {
        let (at, read, write) = (record..record + 1, false, true);
        match self {
            Self::ReadFails => disk.add_rule(machine, read, at, None, Trick::Fail),
            Self::WriteFails => disk.add_rule(machine, write, at, None, Trick::Fail),
            Self::ReadFrom(from) => disk.add_rule(machine, read, at, None, Trick::Redirect(from)),
            Self::ReadOld => disk.keep(machine, at),
            Self::WriteLost => disk.add_rule(machine, write, at, None, Trick::Lose),
            Self::WriteTo(to) => disk.add_rule(machine, write, at, Some(1), Trick::Redirect(to)),
        }
        if let Some(rule) = disk.path(machine).rules.last_mut() {
            rule.until_us = until_us;
        }
    }

    /// Whether it hides what a ballot slot holds.
    pub(crate) fn hides(self) -> bool {
        matches!(self, Self::ReadFails | Self::ReadFrom(_) | Self::ReadOld)
    }

    /// Draws one about a node's own record or another's, and for how long, µs: a ballot is hidden for shorter than `dead`,
    /// for what is hidden for longer counts as never written (DESIGN 3).
    pub(crate) fn draw(random: &mut Random, nodes: u8, timing: &Timing, views_only: bool) -> (u8, u64, Self, u64) {
        let any = |random: &mut Random| random.below(u64::from(nodes));
        let (own, n, other, slot) = (any(random), any(random), any(random), random.below(2));
        let short = random.below(u64::from(timing.dead) * 900);
        let long = random.below(3 * u64::from(timing.dead) * 1000);
        let (record, lie, for_us) = match random.below(if views_only { 9 } else { 8 }) {
            0 => (ballot(n, slot), Self::ReadFails, short),
            1 => (heartbeat(n), Self::ReadFails, long),
            2 => (if slot == 0 { heartbeat(own) } else { ballot(own, 1) }, Self::WriteFails, long),
            3 => {
                let from = [ballot(other, 1 - slot), ballot(n, 1 - slot), heartbeat(n)];
                (ballot(n, slot), Self::ReadFrom(random.pick(&from).unwrap_or(0)), short)
            }
            4 => {
                let from = [layout::RECORDS - 1, ballot(n, slot), identity(n, slot)];
                (heartbeat(n), Self::ReadFrom(random.pick(&from).unwrap_or(0)), long)
            }
            5 => (heartbeat(own), Self::WriteLost, long),
            6 => (ballot(own, slot), Self::WriteLost, short),
            7 => (heartbeat(own), Self::WriteTo(if slot == 0 { heartbeat(other) } else { layout::RECORDS - 2 }), long),
            _ => (heartbeat(n), Self::ReadOld, long),
        };
        (own as u8, record, lie, for_us)
    }
}

fn heartbeat(node: u64) -> u64 {
    layout::STATE_FIRST + layout::STATE_PER_NODE * node
}

fn ballot(node: u64, slot: u64) -> u64 {
    heartbeat(node) + 1 + slot
}

fn identity(node: u64, slot: u64) -> u64 {
    layout::IDENTITY_FIRST + 2 * node + slot
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |record: u64| format!("record {record} ({})", Region::of(record));
        match self {
            Self::ReadFails => f.write_str("reads fail"),
            Self::WriteFails => f.write_str("writes fail"),
            Self::ReadFrom(from) => write!(f, "reads give {}", place(*from)),
            Self::ReadOld => f.write_str("reads give what stands there now"),
            Self::WriteLost => f.write_str("writes are lost"),
            Self::WriteTo(to) => write!(f, "the next write lands in {}", place(*to)),
        }
    }
}

impl Lack {
    /// Its name in counts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "disk_gone",
            Self::Other => "disk_swapped",
        }
    }
}
