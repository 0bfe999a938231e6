//! Runs a plan from a file: `cargo run -p quorate-sim --example replay -- FILE [TRACE]`.

use quorate_sim::{Plan, RunOptions, run_plan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let file = args.first().ok_or("give FILE [TRACE]")?;
    let plan = Plan::parse(&std::fs::read_to_string(file)?)?;
    plan.acts.iter().for_each(|step| println!("{step}"));
    let options = RunOptions { keep_trace: args.len() > 1, ..RunOptions::default() };
    let trace = match run_plan(&plan, &options) {
        Ok(outcome) => {
            println!("held, settled after {} us", outcome.settled_us);
            outcome.trace
        }
        Err(failure) => {
            println!("{}", failure.broken);
            failure.trace
        }
    };
    if let Some(path) = args.get(1) {
        std::fs::write(path, trace.join("\n") + "\n")?;
    }
    Ok(())
}
