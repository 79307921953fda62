//! The manual page against the program.

use std::path::Path;
use std::process::Command;

use pen_testing::manual::assert_manual_matches_help;

#[test]
fn the_manual_matches_the_help() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/man/penlog.1");
    let mut penlog = Command::new(env!("CARGO_BIN_EXE_penlog"));
    assert_manual_matches_help(&mut penlog, &page, &[]);
}
