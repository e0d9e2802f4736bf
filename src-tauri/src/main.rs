//! ModelForge.
fn main() {}
