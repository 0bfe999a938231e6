//! Tells dependents where the kernel's linker script is (`DEP_QUORATE_KERNEL_LAYOUT_SCRIPT` in their build scripts).

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    println!("cargo::rerun-if-changed=kernel.ld");
    println!("cargo::metadata=SCRIPT={folder}/kernel.ld");
}
