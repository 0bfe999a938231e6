//! How long it takes from a kill until the forced leave is done at all levels on all survivors, and a graceful leave.

use quorate_base::{FenceMethod, NodeId, NodeSet, NodeState, Timing};
use quorate_launch::iscsi::Disk;
use quorate_scenario::Trouble;
use quorate_scenario::qemu::WorldOptions;

use crate::report::{Report, median};
use crate::rig::{Bed, Rig, has_state, level, seconds};

/// Kill to forced leave done with the lease fence and default timing, s (DESIGN 10).
const TARGET_S: f64 = 1.5;

/// The same with the reservation fence, and with profile `fast` as well, s (DESIGN 10).
const RESERVATION_S: f64 = 0.7;
const RESERVATION_FAST_S: f64 = 0.10;

/// One durable disk operation on this platform at most, s: for "one disk heartbeat + 6 disk operations".
const DISK_OPERATION_S: f64 = 0.002;

/// What one kill took, s.
struct Sample {
    /// Until the forced leave was committed.
    noticed: f64,
    /// Until the fence held.
    fenced: f64,
    /// Until all survivors had it inactive.
    done: f64,
}

/// With what a failover is measured.
struct Setting<'a> {
    disk: &'a Disk,
    fence: FenceMethod,
    timing: Timing,
    /// What it is called, after the name of a row.
    name: String,
    /// Kill to forced leave done at most, s.
    target_s: f64,
}

/// Measures it `times` times for each kind of victim; with a target as well with the reservation fence.
pub(crate) fn run(times: u32, bed: Bed<'_>, disk: Option<&Disk>, report: &mut Report) -> Result<(), Trouble> {
    let usual = Setting {
        disk: &Disk::Image,
        fence: FenceMethod::Lease,
        timing: Timing::DEFAULT,
        name: String::new(),
        target_s: TARGET_S,
    };
    let mut rig = measure(times, &usual, bed, report)?;
    let mut leaves = Vec::new();
    for _ in 0..times {
        leaves.push(leave(&mut rig)?);
    }
    report.samples("failover", "graceful leave of a non-master, done everywhere", "s", leaves);
    drop(rig);
    let Some(disk) = disk else { return Ok(()) };
    let profiles = [("", Timing::DEFAULT, RESERVATION_S), (", fast", Timing::FAST, RESERVATION_FAST_S)];
    for (profile, timing, target_s) in profiles {
        let name = format!(" ({disk}, reservation{profile})");
        let setting = Setting { disk, fence: FenceMethod::Reservation, timing, name, target_s };
        measure(times, &setting, bed, report)?;
    }
    Ok(())
}

/// Kills nodes in one setting. Returns the cluster.
fn measure(times: u32, setting: &Setting<'_>, bed: Bed<'_>, report: &mut Report) -> Result<Rig, Trouble> {
    let options = WorldOptions {
        levels: vec![level(60, "probe-a", 1), level(70, "probe-b", 1)],
        disk: setting.disk.clone(),
        fence: setting.fence,
        timing: setting.timing,
        ..WorldOptions::new(3)
    };
    let mut rig = Rig::of(options, bed)?;
    rig.start_all()?;
    let (name, mut medians) = (&setting.name, Vec::new());
    for is_master in [false, true] {
        let mut samples = Vec::new();
        for _ in 0..times {
            samples.push(kill(&mut rig, is_master)?);
        }
        let who = if is_master { "the master" } else { "a non-master" };
        let of = |pick: fn(&Sample) -> f64| samples.iter().map(pick).collect::<Vec<f64>>();
        let done = of(|s| s.done);
        medians.push(median(&done));
        let row = report.samples("failover", &format!("kill of {who}: forced leave done everywhere{name}"), "s", done);
        row.at_most(setting.target_s, format!("<= {}", setting.target_s));
        report.samples(
            "failover",
            &format!("  of that until the forced leave is committed{name}"),
            "s",
            of(|s| s.noticed),
        );
        report.samples("failover", &format!("  of that until the fence holds{name}"), "s", of(|s| s.fenced));
    }
    if let [other, master] = medians[..] {
        let most = f64::from(setting.timing.disk_heartbeat) / 1000.0 + 6.0 * DISK_OPERATION_S;
        let row = report.single("failover", &format!("extra time for a new master{name}"), "s", master - other);
        row.at_most(most, "<= 1 disk heartbeat + 6 disk operations");
    }
    Ok(rig)
}

fn victim(rig: &mut Rig, is_master: bool) -> Result<NodeId, Trouble> {
    let master = rig.master()?;
    let other = rig.nodes.without(master).lowest().unwrap_or(master);
    Ok(if is_master { master } else { other })
}

fn kill(rig: &mut Rig, is_master: bool) -> Result<Sample, Trouble> {
    let victim = victim(rig, is_master)?;
    let survivors = rig.nodes.without(victim);
    let at = rig.kill(NodeSet::only(victim))?;
    let (mut noticed, mut fenced) = (None, None);
    let mut left = survivors;
    let last = rig.until("the forced leave", |line, _| {
        if has_state(line, victim, NodeState::ForcedLeaving) {
            noticed.get_or_insert(line.t_us);
        }
        if line.ev == "fence" {
            fenced.get_or_insert(line.t_us);
        }
        // Views from before the kill have it joined, so inactive is after it.
        if has_state(line, victim, NodeState::Inactive)
            && let Some(node) = line.node.and_then(NodeId::new)
        {
            left.remove(node);
        }
        left.is_empty()
    })?;
    rig.start(victim)?;
    rig.wait_joined(rig.nodes)?;
    let since = |t_us: Option<u64>| t_us.map_or(f64::NAN, |t| seconds(at, t));
    Ok(Sample { noticed: since(noticed), fenced: since(fenced), done: seconds(at, last.t_us) })
}

fn leave(rig: &mut Rig) -> Result<f64, Trouble> {
    let leaver = victim(rig, false)?;
    let survivors = rig.nodes.without(leaver);
    let at = rig.leave(leaver)?;
    let last = rig.wait_inactive(leaver, survivors)?;
    rig.kill(NodeSet::only(leaver))?;
    rig.start(leaver)?;
    rig.wait_joined(rig.nodes)?;
    Ok(seconds(at, last.t_us))
}
