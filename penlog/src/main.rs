//! penlog.
fn main() {}
