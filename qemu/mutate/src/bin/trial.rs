//! The program that is built with one fault in it: runs seeds and says which is the first that breaks.
//!
//! `quorate-mutate-trial FROM TO NODES[,NODES…] [SEED:NODES …]`: seeds `FROM..TO`, each with every number of nodes but for
//! the pairs that are to be left out. A line before each run, `run SEED NODES`; at the end `held`, or `found SEED NODES`
//! and what was wrong.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use quorate_sim::{RunOptions, run_seed};

struct Arguments {
    seeds: std::ops::Range<u64>,
    nodes: Vec<u8>,
    left_out: BTreeSet<(u64, u8)>,
}

fn arguments() -> Option<Arguments> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, nodes, left_out @ ..] = words.as_slice() else { return None };
    let pair = |word: &String| {
        let (seed, nodes) = word.split_once(':')?;
        Some((seed.parse().ok()?, nodes.parse().ok()?))
    };
    Some(Arguments {
        seeds: from.parse().ok()?..to.parse().ok()?,
        nodes: nodes.split(',').map(|n| n.parse().ok()).collect::<Option<_>>()?,
        left_out: left_out.iter().map(pair).collect::<Option<_>>()?,
    })
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("give FROM TO NODES[,NODES] [SEED:NODES ...]");
        return ExitCode::from(2);
    };
    let panicked = Arc::new(Mutex::new(String::new()));
    let note = panicked.clone();
    std::panic::set_hook(Box::new(move |info| {
        *note.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
    }));
    for seed in arguments.seeds {
        for &nodes in arguments.nodes.iter().filter(|n| !arguments.left_out.contains(&(seed, **n))) {
            println!("run {seed} {nodes}");
            let run = || run_seed(seed, nodes, &RunOptions::default());
            let what = match catch_unwind(AssertUnwindSafe(run)) {
                Ok(Ok(_)) => continue,
                Ok(Err(failure)) => failure.broken.what,
                Err(_) => format!("panic: {}", panicked.lock().unwrap_or_else(PoisonError::into_inner)),
            };
            println!("found {seed} {nodes} {}", what.replace(['\n', '\r'], " "));
            return ExitCode::from(1);
        }
    }
    println!("held");
    ExitCode::SUCCESS
}
