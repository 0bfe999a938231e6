//! A cluster inside of one program: three threads, a file as their shared disk, UDP on the loopback interface.
//!
//! `cargo run --package quorate-node --example threads [FILE]`

mod cluster;
mod embedding;

use cluster::Said;

fn main() -> std::io::Result<()> {
    let temporary = std::env::temp_dir().join(format!("quorate-threads-{}.img", std::process::id()));
    let path = std::env::args_os().nth(1).map_or(temporary, Into::into);
    let story = cluster::play(&path)?;
    for (node, said) in story {
        match said {
            Said::Told { subject, transition, joined } => {
                println!("node {node}: node {subject} is {transition}; joined there: {joined}");
            }
            Said::Together => println!("node {node}: all are joined"),
            Said::Ended(reason) => println!("node {node}: halted: {reason}"),
        }
    }
    Ok(())
}
