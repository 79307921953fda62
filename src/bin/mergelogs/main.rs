//! mergelogs.
fn main() {}
