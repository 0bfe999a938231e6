//! Crash points outside of the tests: `cargo run -p quorate-sim --example crash -- NODES [pairs] [EVERY]`.

use quorate_sim::crash::{Script, points, run_points};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(nodes) = args.first().and_then(|a| a.parse::<u8>().ok()) else {
        eprintln!("give NODES [pairs] [EVERY]");
        std::process::exit(2);
    };
    let pairs = args.iter().any(|a| a == "pairs");
    let every = args.last().and_then(|a| a.parse().ok()).filter(|_| args.len() > 1).unwrap_or(1);
    for script in Script::ALL {
        let begun = std::time::Instant::now();
        let list = match points(script, nodes, pairs) {
            Ok(list) => list.into_iter().step_by(every).collect::<Vec<_>>(),
            Err(broken) => {
                println!("{}: {broken}", script.name());
                continue;
            }
        };
        let failed = run_points(&list, 1, &|_| {});
        println!("{}: {} points, {} failed, {:.1?}", script.name(), list.len(), failed.len(), begun.elapsed());
        for (i, broken) in failed.iter().take(5) {
            println!("  {}\n    at {} us: {}", list[*i], broken.at_us, broken.what);
        }
    }
}
