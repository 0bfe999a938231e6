//! Runs a range of seeds outside of the tests: `cargo run -p quorate-sim --example seeds -- NODES FROM TO [TRACE]`. Goes on
//! after a failure; with TRACE the last seed's trace is written there. `light` or `full` instead of TRACE sets the faults,
//! `lease` or `reservation` as a fifth the fence, `groups` as any of them adds group services with traffic.

use quorate_base::FenceMethod;
use quorate_sim::{Faults, RunOptions, run_seed};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| args.get(i).and_then(|a| a.parse::<u64>().ok());
    let (Some(nodes), Some(from), Some(to)) = (number(0), number(1), number(2)) else {
        eprintln!("give NODES FROM TO [TRACE]");
        std::process::exit(2);
    };
    let faults = match args.get(3).map(String::as_str) {
        Some("light") => Some(Faults::light()),
        Some("full") => Some(Faults::full()),
        _ => None,
    };
    let fence = match args.get(4).map(String::as_str) {
        Some("lease") => Some(FenceMethod::Lease),
        Some("reservation") => Some(FenceMethod::Reservation),
        _ => None,
    };
    let groups = args.iter().any(|a| a == "groups").then_some(true);
    let path = args.get(3).filter(|path| faults.is_none() && *path != "-" && *path != "groups");
    let options = RunOptions { keep_trace: path.is_some(), faults, fence, groups, ..RunOptions::default() };
    let began = std::time::Instant::now();
    let mut delivered = 0;
    let (mut failed, mut virtual_us, mut slowest, mut nearest) = (0, 0, (0, 0), (0, 0));
    for seed in from..to {
        let trace = match run_seed(seed, nodes as u8, &options) {
            Ok(outcome) => {
                virtual_us += outcome.virtual_us;
                delivered += outcome.counts.group_places;
                slowest = slowest.max((outcome.settled_us, seed));
                nearest = nearest.max((outcome.settled_us * 100 / outcome.settle_bound_us, seed));
                outcome.trace
            }
            Err(failure) => {
                failed += 1;
                if to - from == 1 {
                    println!("{failure}");
                } else {
                    println!("seed {seed}: at {} us: {}", failure.broken.at_us, failure.broken.what);
                }
                failure.trace
            }
        };
        if let Some(path) = path
            && let Err(error) = std::fs::write(path, trace.join("\n") + "\n")
        {
            eprintln!("{path}: {error}");
        }
    }
    let ratio = virtual_us as f64 / began.elapsed().as_micros() as f64;
    println!(
        "{} of {} failed; slowest settling {slowest:?}, {nearest:?} % of its bound; {ratio:.0} times real time; {delivered} \
         things of groups delivered",
        failed,
        to - from
    );
}
