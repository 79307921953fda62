//! The manual page of pen against the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pen::command::verbs;
use pen_testing::manual::{assert_manual_matches_help, entries};

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man/pen.1")
}

#[test]
fn the_manual_matches_the_help() {
    assert_manual_matches_help(&mut Command::new(env!("CARGO_BIN_EXE_pen")), &page(), &[]);
}

#[test]
fn each_verb_is_in_the_manual() {
    let text = fs::read_to_string(page()).expect("the manual exists").replace("\\-", "-");
    let entries = entries(&text);
    for (usage, _) in verbs::help() {
        assert!(entries.contains(&usage), "{usage}");
    }
}
