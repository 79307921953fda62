//! The manual page against the program.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::support::run;

fn page() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/man/penlogd.1")
}

/// Words that are options: `-x` and `--word`.
fn options(text: &str) -> BTreeSet<String> {
    let is_option = |word: &&str| {
        let name = word.trim_start_matches('-');
        let dashes = word.len() - name.len();
        (dashes == 1 && name.len() == 1 || dashes == 2 && name.len() > 1)
            && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-')
    };
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(is_option)
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_option_is_in_the_manual_and_the_reverse() {
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    let help: String = help
        .lines()
        .filter(|line| line.trim_start().starts_with('-'))
        .map(|line| line.split("  ").find(|part| !part.is_empty()).unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let manual = std::fs::read_to_string(page()).unwrap().replace("\\-", "-");
    let tags: Vec<_> = manual.split("\n.TP\n").skip(1).collect();
    let tags = tags.iter().filter_map(|tag| tag.lines().next()).collect::<Vec<_>>().join("\n");
    assert_eq!(options(&help), options(&tags));
}

#[test]
fn the_manual_is_well_formed() {
    let Ok(output) = Command::new("groff").args(["-man", "-ww", "-z"]).arg(page()).output() else {
        println!("skipped: groff is not installed");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
