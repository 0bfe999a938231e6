//! Shrinks one seed: `cargo run -p quorate-sim --example shrink -- NODES SEED`. Prints the short plan and the end of its
//! trace.

use quorate_sim::{RunOptions, run_seed, shrink};

fn main() {
    let args: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let [nodes, seed] = args[..] else {
        eprintln!("give NODES SEED");
        std::process::exit(2);
    };
    let options =
        RunOptions { groups: std::env::args().any(|a| a == "groups").then_some(true), ..RunOptions::default() };
    match run_seed(seed, nodes as u8, &options) {
        Ok(_) => println!("seed {seed} holds"),
        Err(failure) => {
            println!("{}", failure.broken.what);
            let short = shrink(&failure, &options, 3000);
            println!("{}", short.failure.broken);
            println!("{} of {} acts, {} runs", short.failure.plan.acts.len(), short.acts_before, short.runs);
            match short.failure.plan.to_text() {
                Ok(text) => println!("{text}"),
                Err(error) => println!("{error}"),
            }
            short.failure.plan.acts.iter().for_each(|step| println!("{step}"));
        }
    }
}
