//! What the seal costs, and whether a stranger who sends 10,000 frames a second delays anything.
//!
//! | | |
//! |---|---|
//! | seal, open | one frame on this host: cipher and tag, without copies |
//! | calm, flooded | a node leaves and joins again, another is killed and joins again, on QEMU, in one cluster: first without and then under frames of all hostile kinds |
//!
//! A node's processor time is that of its QEMU: what interpreting the guest costs.

use std::hint::black_box;
use std::time::{Duration, Instant};

use quorate_base::{BootNonce, ClusterKey, Incarnation, NodeId};
use quorate_interconnect::envelope::HEADER_BYTES;
use quorate_interconnect::seal::SealKey;
use quorate_scenario::Trouble;
use quorate_scenario::backend::Backend;
use quorate_scenario::model::Inject;
use quorate_switch::{Hostile, PortCounters};

use crate::report::{Report, median};
use crate::rig::{Bed, Rig, level, seconds};

/// Hostile frames a second.
const RATE: u32 = 10_000;
/// The frames come for so much longer than transitions begin, s.
const LONGER_S: u32 = 15;
/// No transition may take so much longer for them, s.
const DELAY_S: f64 = 0.1;
/// Frames for one figure of the cipher.
const FRAMES: u32 = 20_000;

/// The transitions that are timed.
const WHAT: [&str; 4] = ["leave", "join after it", "kill: forced leave done", "join after that"];

/// Measures it; under frames for `span_s` seconds.
pub(crate) fn run(span_s: u32, bed: Bed<'_>, report: &mut Report) -> Result<(), Trouble> {
    cipher(report);
    let mut rig = Rig::new(3, vec![level(60, "probe-a", 1), level(70, "probe-b", 1)], bed)?;
    rig.start_all()?;
    let load = Load::of(&rig);
    let calm = cycles(&mut rig, 0)?;
    load.report("calm", &rig, report);
    let begun_us = rig.world.now_us();
    let until_us = begun_us + u64::from(span_s) * 1_000_000;
    let hostile = Hostile::ALL.map(|(_, kind)| kind).to_vec();
    // Whatever begins within the span ends under frames, too.
    let for_ms = Some((span_s + LONGER_S) * 1000);
    rig.world.inject(&Inject { frames: Vec::new(), hostile, rate: Some(RATE), for_ms })?;
    let load = Load::of(&rig);
    let flooded = cycles(&mut rig, until_us)?;
    load.report(&format!("under {RATE} frames/s"), &rig, report);
    let sent = rig.world.cluster().switch().hostile_frames();
    let span = seconds(begun_us, rig.world.now_us());
    for (i, what) in WHAT.into_iter().enumerate() {
        let of = |cycles: &[[f64; 4]]| cycles.iter().map(|cycle| cycle[i]).collect::<Vec<f64>>();
        let (before, under) = (of(&calm), of(&flooded));
        let delay = median(&under) - median(&before);
        report.samples("wire", &format!("{what}: calm"), "s", before);
        report.samples("wire", &format!("{what}: under {RATE} frames/s"), "s", under);
        report.single("wire", "  delay", "s", delay).at_most(DELAY_S, format!("<= {DELAY_S}"));
    }
    report.single("wire", "hostile frames sent", "per s", sent as f64 / span);
    for node in rig.nodes {
        let counters = rig.world.command(node, "counters")?;
        for (reason, n) in dropped(&counters) {
            report.single("wire", &format!("node {node}, this life: dropped, {reason}"), "frames", n as f64);
        }
    }
    Ok(())
}

/// What one moment's counters say of each node.
#[derive(Debug)]
struct Load {
    at_us: u64,
    ports: Vec<(PortCounters, Duration)>,
}

impl Load {
    fn of(rig: &Rig) -> Self {
        let cluster = rig.world.cluster();
        let port = |node: NodeId| {
            let cpu = cluster.usage(node.index()).map_or(Duration::ZERO, |usage| usage.cpu);
            (cluster.switch().counters(node.index()), cpu)
        };
        Self { at_us: rig.world.now_us(), ports: rig.nodes.iter().map(port).collect() }
    }

    /// What became of the frames to each node since.
    fn report(&self, when: &str, rig: &Rig, report: &mut Report) {
        let now = Self::of(rig);
        let span = seconds(self.at_us, now.at_us);
        for (node, ((a, a_cpu), (b, b_cpu))) in rig.nodes.iter().zip(self.ports.iter().zip(&now.ports)) {
            let mut add = |what: &str, n: f64, unit: &'static str| {
                report.single("wire", &format!("node {node}, {when}: {what}"), unit, n);
            };
            add("frames given to its NIC", (b.sent - a.sent) as f64 / span, "per s");
            add("frames that its NIC did not take", (b.dropped_full - a.dropped_full) as f64 / span, "per s");
            add("frames while it was off", (b.dropped_absent - a.dropped_absent) as f64 / span, "per s");
            // The QEMU of a node that was killed meanwhile is another process.
            if let Some(cpu) = b_cpu.checked_sub(*a_cpu) {
                add("processor time of its QEMU", cpu.as_secs_f64() / span * 100.0, "% of a core");
            }
        }
    }
}

/// Leave, join, kill, join, over and over until that time, but thrice at least; each took how long, s.
fn cycles(rig: &mut Rig, until_us: u64) -> Result<Vec<[f64; 4]>, Trouble> {
    let mut cycles = Vec::new();
    while cycles.len() < 3 || rig.world.now_us() < until_us {
        let master = rig.master()?;
        let mut others = rig.nodes.without(master).iter();
        let (Some(leaver), Some(victim)) = (others.next(), others.next()) else {
            return Err(Trouble::Failed("bench wire: three nodes are needed".to_owned()));
        };
        let at = rig.leave(leaver)?;
        let left = seconds(at, rig.wait_inactive(leaver, rig.nodes.without(leaver))?.t_us);
        rig.kill(quorate_base::NodeSet::only(leaver))?;
        let joined = join(rig, leaver)?;
        let at = rig.kill(quorate_base::NodeSet::only(victim))?;
        let forced = seconds(at, rig.wait_inactive(victim, rig.nodes.without(victim))?.t_us);
        cycles.push([left, joined, forced, join(rig, victim)?]);
    }
    Ok(cycles)
}

fn join(rig: &mut Rig, node: NodeId) -> Result<f64, Trouble> {
    let at = rig.start(node)?;
    rig.wait_joined(rig.nodes)?;
    Ok(seconds(at, rig.world.now_us()))
}

/// The lines `dropped REASON N` of the console's answer.
fn dropped(counters: &str) -> impl Iterator<Item = (&str, u64)> {
    counters.lines().filter_map(|line| {
        let (reason, n) = line.strip_prefix("dropped ")?.rsplit_once(' ')?;
        Some((reason, n.trim().parse().ok()?))
    })
}

/// One frame of a heartbeat and one of the longest, sealed and opened; and one that does not open.
fn cipher(report: &mut Report) {
    let Some(node) = NodeId::new(0) else { return };
    let key = SealKey::derive(&ClusterKey([1; 32]), node, Incarnation(1), BootNonce(2));
    let header = [0; HEADER_BYTES];
    let per_frame = |took: Duration| took.as_nanos() as f64 / f64::from(FRAMES);
    for bytes in [48, 1400] {
        let mut payload = vec![7; bytes];
        let mut add = |what: &str, ns: f64| {
            report.single("wire", &format!("{what} a payload of {bytes} bytes, this host"), "ns", ns);
        };
        let began = Instant::now();
        for counter in 0..FRAMES {
            black_box(key.seal(u64::from(counter), &header, black_box(&mut payload)));
        }
        add("seal", per_frame(began.elapsed()));
        let sealed: Vec<_> = (0..FRAMES.min(1000))
            .filter_map(|counter| {
                let mut payload = vec![7; bytes];
                key.seal(u64::from(counter), &header, &mut payload).map(|tag| (counter, payload, tag))
            })
            .collect();
        let mut took = Duration::ZERO;
        for _ in 0..FRAMES / 1000 {
            let mut copies = sealed.clone();
            let began = Instant::now();
            for (counter, payload, tag) in &mut copies {
                assert!(black_box(key.open(u64::from(*counter), &header, payload, tag)), "it opens");
            }
            took += began.elapsed();
        }
        add("open", per_frame(took));
        let began = Instant::now();
        for counter in 0..FRAMES {
            assert!(!black_box(key.open(u64::from(counter), &header, black_box(&mut payload), &[0; 16])));
        }
        add("refuse", per_frame(began.elapsed()));
    }
    let began = Instant::now();
    for incarnation in 0..FRAMES {
        black_box(SealKey::derive(&ClusterKey([1; 32]), node, Incarnation(incarnation), BootNonce(2)));
    }
    report.single("wire", "derive the key of a life, this host", "ns", per_frame(began.elapsed()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_frames_are_read_from_the_console() {
        let counters = "sent heartbeats 3 messages 4\ndropped tag 12\ndropped not-for-me 7\ndropped 19\nok\n";
        assert_eq!(dropped(counters).collect::<Vec<_>>(), [("tag", 12), ("not-for-me", 7)]);
    }

    #[test]
    fn the_cipher_has_figures() {
        let mut report = Report::default();
        cipher(&mut report);
        assert_eq!(report.rows.len(), 7);
        assert!(report.rows.iter().all(|row| row.value > 0.0), "{}", report.table());
    }
}
