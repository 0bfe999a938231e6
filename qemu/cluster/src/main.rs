//! cluster command
fn main() {}
