//! A manual page against the `--help` of its program.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Asserts that a manual page describes exactly the options that `program --help` prints, and that groff formats the
/// page without a warning. `also` names options that the page may describe although the help is silent about them.
///
/// # Panics
/// If page and help differ, if groff warns, or if either cannot be read. Without groff that part is skipped.
#[track_caller]
pub fn assert_manual_matches_help(program: &mut Command, page: &Path, also: &[&str]) {
    let output = program.arg("--help").output().expect("the program is built");
    let help = String::from_utf8(output.stdout).expect("the help is UTF-8");
    let text = fs::read_to_string(page).expect("the manual page exists").replace("\\-", "-");
    let mut described = options_of_manual(&text);
    described.retain(|option| !also.contains(&option.as_str()));
    assert_eq!(options_of_help(&help), described, "--help on the left, {} right", page.display());
    assert_well_formed(page);
}

/// Returns the first lines of the entries (`.TP`) of a page, without fonts and quotes.
#[must_use]
pub fn entries(page: &str) -> Vec<String> {
    let tags = page.split("\n.TP\n").skip(1).filter_map(|entry| entry.lines().next());
    tags.map(|tag| tag.split_once(' ').map_or("", |(_, tag)| tag).replace('"', "")).collect()
}

fn assert_well_formed(page: &Path) {
    let Ok(output) = Command::new("groff").args(["-man", "-ww", "-z"]).arg(page).output() else {
        eprintln!("skipped: groff is not installed");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "groff on {}", page.display());
}

/// The options before the first gap of two spaces in each line of the help that begins with a dash.
fn options_of_help(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    lines.flat_map(|line| options(line.split("  ").next().unwrap_or_default())).collect()
}

fn options_of_manual(page: &str) -> BTreeSet<String> {
    entries(page).iter().flat_map(|entry| options(entry)).collect()
}

/// Returns the words of `text` that are options: `-x` and `--word`.
fn options(text: &str) -> impl Iterator<Item = String> {
    let is_option = |word: &&str| {
        let name = word.trim_start_matches('-');
        let dashes = word.len() - name.len();
        (dashes == 1 && name.len() == 1 || dashes == 2 && name.len() > 1)
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(is_option)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_in_help_and_manual() {
        let help = "Usage: x [-v]\n\nOptions:\n  -v, --verbose  More, as with -q\n      --long-one <N>\n  -4             IPv4\n";
        let page = ".SH OPTIONS\n.TP\n.BR -v \", \" --verbose\nMore.\n.TP\n.BI \"--long-one \" N\n.TP\n.B -4\n.TP\n.B word\n";
        let expected = ["--long-one", "--verbose", "-4", "-v"].map(str::to_owned);
        assert_eq!(options_of_help(help), BTreeSet::from(expected.clone()));
        assert_eq!(options_of_manual(page), BTreeSet::from(expected));
    }
}
