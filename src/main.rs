//! Moat binary.
fn main() {}
