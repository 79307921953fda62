//! The manual page against the program.

use std::path::Path;

use pen_testing::manual::assert_manual_matches_help;

use crate::support::program;

#[test]
fn the_manual_matches_the_help() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/man/penlogd.1");
    assert_manual_matches_help(&mut program(), &page, &[]);
}
