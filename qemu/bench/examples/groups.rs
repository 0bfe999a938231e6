//! Group services under load without QEMU: in virtual time, and as three host processes.
//!
//! `cargo run --release --package quorate-bench --example groups [short]`

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.as_slice() {
        [what, id, disk, ports] if what == "host-node" => {
            let ports: Vec<u16> = ports.split(',').filter_map(|port| port.parse().ok()).collect();
            quorate_bench::native::live(id.parse().unwrap_or(u8::MAX), Path::new(disk), &ports)
                .map_err(|e| e.to_string())
        }
        _ => measure(args.iter().any(|a| a == "short")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn measure(short: bool) -> Result<(), String> {
    let host = std::env::current_exe().map_err(|error| error.to_string())?;
    let report = quorate_bench::without_qemu(short, &host).map_err(|trouble| format!("{trouble:?}"))?;
    print!("{}", report.table());
    Ok(())
}
