//! What carries group traffic better: datagrams, or a stream of TCP for each pair of nodes (DESIGN 6).
//!
//! Three nodes in one process, on the simulator's switch: one that is not the sequencer sends, the sequencer gives out the
//! places, a message is through when its sender has it back and knows that all hold it ([`party`]). Frames, sealing, windows and
//! what is said are the same with both carriers ([`carrier`]); the product has datagrams only.
//!
//! | | |
//! |---|---|
//! | virtual time | a frame takes 20 to 120 µs, the wire has no end of room and processors cost nothing: latency, frames and bytes, what a lost frame costs |
//! | processor time | a frame takes 50 µs; what all three nodes compute for a flood, in this thread's processor time: seal, stacks, order, and the in-process wire |
//!
//! smoltcp's TCP repeats after 1 s at the soonest, by a constant of its own. So that the comparison is not one with that
//! constant, streams are measured under loss a second time with TCP's clock running a hundred times faster: it then repeats
//! after 10 ms, as group services do. No product can have that without a change of smoltcp. And it drops a segment whose
//! acknowledgement is older than the last one, with its data, so that frames that overtake each other cost a repetition each.

mod carrier;
mod cluster;
mod party;

use quorate_scenario::Trouble;

use crate::report::{Report, median};
use crate::sim::Clock;
use cluster::Cluster;
use party::Load;

/// Nodes. The first is the sequencer.
const NODES: usize = 3;
/// Who sends.
const SENDER: usize = 1;
/// Who only listens.
const LISTENER: usize = 2;

/// A carrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Datagrams,
    /// TCP whose clock runs so many times faster than time.
    Streams {
        speed: u64,
    },
}

impl Kind {
    const ALL: [Self; 3] = [Self::Datagrams, Self::Streams { speed: 1 }, Self::Streams { speed: 100 }];

    /// With TCP as it is.
    const PLAIN: [Self; 2] = [Self::Datagrams, Self::Streams { speed: 1 }];

    const fn name(self) -> &'static str {
        match self {
            Self::Datagrams => "datagrams",
            Self::Streams { speed: 1 } => "streams",
            Self::Streams { .. } => "streams, TCP repeats after 10 ms",
        }
    }
}

/// How the wire is.
#[derive(Clone, Copy, Debug)]
struct Wire {
    name: &'static str,
    loss_per_million: u32,
    /// Whether frames of one link keep their order.
    in_order: bool,
}

const WIRES: [Wire; 3] = [
    Wire { name: "no loss", loss_per_million: 0, in_order: true },
    Wire { name: "no loss, frames overtake", loss_per_million: 0, in_order: false },
    Wire { name: "1 % loss", loss_per_million: 10_000, in_order: true },
];

/// A frame's time in virtual time, µs: the simulator's.
const DELAY_US: (u64, u64) = (20, 120);
/// And where processor time is measured: what is sent in one turn comes in one.
const STEADY_US: (u64, u64) = (50, 50);

const fn load(bytes: usize, outstanding: usize, batched: bool) -> Load {
    Load { bytes, outstanding, batched }
}

/// What is sent, by name, and how many messages in virtual time and for processor time.
const LOADS: [(&str, Load, u32, u32); 5] = [
    ("64 B, one outstanding", load(64, 1, true), 1000, 0),
    ("64 B, flood", load(64, 64, true), 8000, 60_000),
    ("64 B, flood, a frame each", load(64, 64, false), 4000, 20_000),
    ("1 KiB, flood", load(1024, 64, true), 2000, 10_000),
    ("16 KiB, flood", load(16_384, 64, true), 200, 1000),
];

/// Frames that are lost, one in each trial.
const TRIALS: u32 = 21;
/// How often processor time is measured.
const ROUNDS: u32 = 7;

/// Measures both.
pub(crate) fn run(short: bool, report: &mut Report) -> Result<(), Trouble> {
    let part = if short { 4 } else { 1 };
    for wire in WIRES {
        let kinds = if wire.loss_per_million > 0 { &Kind::ALL[..] } else { &Kind::PLAIN };
        for (what, load, count, _) in LOADS {
            for kind in kinds {
                virtual_time(*kind, wire, what, load, count / part, report)?;
            }
        }
    }
    for (what, load, count, _) in [LOADS[0], LOADS[1], LOADS[4]] {
        for kind in Kind::ALL {
            let gaps: Result<Vec<f64>, Trouble> =
                (0..TRIALS / part).map(|trial| gap_ms(kind, load, (count / 4).max(20), trial)).collect();
            report.samples("streams", &format!("one frame lost: {what}: {}: longest gap", kind.name()), "ms", gaps?);
        }
    }
    for (what, load, _, count) in LOADS.into_iter().filter(|(.., count)| *count > 0) {
        processor_time(what, load, count / part, report)?;
    }
    Ok(())
}

/// One flood or one chain of messages in virtual time.
fn virtual_time(
    kind: Kind,
    wire: Wire,
    what: &str,
    load: Load,
    count: u32,
    report: &mut Report,
) -> Result<(), Trouble> {
    let mut cluster = Cluster::new(kind, DELAY_US, wire.in_order, 1)?;
    cluster.set_loss(wire.loss_per_million);
    let began = cluster.now;
    cluster.load(&[SENDER], load, count)?;
    let took_s = cluster.now.since_us(began) as f64 / 1e6;
    let Some(party) = cluster.party(SENDER) else { return Ok(()) };
    let took_us = &party.took_us;
    let name = format!("{}: {what}: {}", wire.name, kind.name());
    if load.outstanding == 1 {
        report.samples("streams", &format!("{name}: latency"), "us", took_us.clone());
        let mut sorted = took_us.clone();
        sorted.sort_by(f64::total_cmp);
        let p99 = sorted.get(sorted.len() * 99 / 100).copied().unwrap_or(f64::NAN);
        report.single("streams", "  p99", "us", p99);
    } else {
        report.single("streams", &name, "msg/s", (f64::from(count) / took_s).round());
    }
    let each = |n: u64| n as f64 / f64::from(count);
    report.single("streams", "  frames sent by all nodes", "per message", each(cluster.traffic.sent));
    report.single("streams", "  frames that came to nodes", "per message", each(cluster.traffic.came));
    report.single("streams", "  bytes sent by all nodes", "per message", each(cluster.traffic.bytes));
    Ok(())
}

/// The longest time without a message at its sender when one frame of the sequencer does not reach the third node, ms.
fn gap_ms(kind: Kind, load: Load, count: u32, trial: u32) -> Result<f64, Trouble> {
    let mut cluster = Cluster::new(kind, DELAY_US, true, u64::from(trial) + 1)?;
    cluster.lose = Some((0, LISTENER, 20 + trial));
    cluster.load(&[SENDER], load, count)?;
    match (cluster.lose, cluster.party(SENDER)) {
        (None, Some(party)) => Ok(party.gap_us as f64 / 1000.0),
        _ => Err(Trouble::Failed("bench streams: no frame was lost".to_owned())),
    }
}

/// What a flood costs with each, in turns, so that whatever else the machine does falls on both.
fn processor_time(what: &str, load: Load, count: u32, report: &mut Report) -> Result<(), Trouble> {
    let mut took = Kind::PLAIN.map(|kind| (kind, Vec::new()));
    for _ in 0..ROUNDS {
        for (kind, took) in &mut took {
            took.push(us_each(*kind, load, count)?);
        }
    }
    let medians = took.each_ref().map(|(_, took)| median(took));
    for (kind, took) in took {
        let each = median(&took);
        let name = format!("processor time of all nodes: {what}: {}", kind.name());
        report.samples("streams", &name, "us per message", took);
        report.single("streams", "  in a second of it", "msg", (1e6 / each).round());
    }
    report.single("streams", "  streams to datagrams", "x", medians[1] / medians[0]);
    Ok(())
}

/// The three nodes' processor time for a message, µs.
fn us_each(kind: Kind, load: Load, count: u32) -> Result<f64, Trouble> {
    let mut cluster = Cluster::new(kind, STEADY_US, true, 1)?;
    cluster.load(&[SENDER], load, count / 10)?;
    let clock = Clock::start();
    cluster.load(&[SENDER], load, count)?;
    Ok(clock.seconds() * 1e6 / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use party::Delivered;

    /// What each node delivered, in its order.
    fn delivered(kind: Kind, loss_per_million: u32, in_order: bool, from: &[usize], load: Load) -> Vec<Vec<Delivered>> {
        let mut cluster = Cluster::new(kind, DELAY_US, in_order, 5).unwrap();
        cluster.set_loss(loss_per_million);
        cluster.load(from, load, 300).unwrap();
        (0..NODES).map(|node| cluster.party(node).unwrap().delivered.clone()).collect()
    }

    /// Whether a node delivered what those nodes sent, each one's in its order.
    fn is_all(delivered: &[Delivered], from: &[usize], bytes: usize) -> bool {
        let of = |node: usize| delivered.iter().filter(move |d| d.0 == node).map(|d| d.1);
        // Four were sent by each before.
        let whole = from.iter().all(|node| of(*node).eq(5..305));
        whole && delivered.len() == from.len() * 300 && delivered.iter().all(|d| d.2 == bytes)
    }

    #[test]
    fn both_carriers_deliver_the_same_messages_in_the_same_order() {
        for (loss, in_order) in [(0, true), (0, false), (10_000, true), (10_000, false)] {
            for load in [load(64, 64, true), load(64, 64, false), load(3000, 8, true)] {
                let one = Kind::ALL.map(|kind| delivered(kind, loss, in_order, &[SENDER], load));
                assert!(one.iter().flatten().all(|node| *node == one[0][0]), "{load:?}, {loss}");
                assert!(is_all(&one[0][0], &[SENDER], load.bytes), "{load:?}, {loss}");
                for kind in Kind::ALL {
                    let all = delivered(kind, loss, in_order, &[0, 1, 2], load);
                    assert!(all.iter().all(|node| *node == all[0]), "{kind:?}, {load:?}, {loss}");
                    assert!(is_all(&all[0], &[0, 1, 2], load.bytes), "{kind:?}, {load:?}, {loss}");
                }
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_figures() {
        let figures = || {
            let mut report = Report::default();
            for kind in Kind::ALL {
                virtual_time(kind, WIRES[2], LOADS[1].0, LOADS[1].1, 500, &mut report).unwrap();
            }
            report
        };
        assert_eq!(figures(), figures());
    }

    #[test]
    fn a_frame_to_all_goes_once_as_a_datagram_and_twice_in_streams() {
        let bytes = |kind| {
            let mut cluster = Cluster::new(kind, DELAY_US, true, 1).unwrap();
            cluster.load(&[0], load(16_384, 64, true), 20).unwrap();
            cluster.traffic.bytes
        };
        let (datagrams, streams) = (bytes(Kind::Datagrams), bytes(Kind::Streams { speed: 1 }));
        assert!(datagrams > 20 * 16_384 && datagrams < 20 * 16_384 * 3 / 2, "{datagrams}");
        assert!(streams > 2 * 20 * 16_384 && streams < 20 * 16_384 * 3, "{streams}");
    }
}
