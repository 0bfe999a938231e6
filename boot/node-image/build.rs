//! Links the image with the kernel's layout and defmt's section for log strings, and sets the log level.

use std::env;

/// What is compiled in unless `DEFMT_LOG` says otherwise.
const LOG_LEVEL: &str = "info";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DEFMT_LOG");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let script = env::var("DEP_QUORATE_KERNEL_LAYOUT_SCRIPT").expect("quorate-arch-x86_64 names its linker script");
    println!("cargo::rustc-link-arg-bins=-T{script}");
    println!("cargo::rustc-link-arg-bins=-Tdefmt.x");
    // For this crate only; the libraries' levels come from the environment of the build.
    if env::var_os("DEFMT_LOG").is_none() {
        println!("cargo::rustc-env=DEFMT_LOG={LOG_LEVEL}");
    }
}
