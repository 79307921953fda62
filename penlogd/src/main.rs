//! penlogd.
fn main() {}
