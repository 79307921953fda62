//! Options of the programs, and which of a command line are none.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::shell::program;

/// The programs of this workspace.
const PROGRAMS: [&str; 5] = ["pen", "penctl", "penlogd", "penlog", "mergelogs"];

/// Returns the options of each program, as `--help` names them.
pub(crate) fn of_all_programs() -> BTreeMap<&'static str, BTreeSet<String>> {
    PROGRAMS.into_iter().map(|name| (name, of(name))).collect()
}

fn of(name: &str) -> BTreeSet<String> {
    let output = Command::new(program(name)).arg("--help").output().expect("the program starts");
    let help = String::from_utf8(output.stdout).expect("help is text");
    let words = help.split(|c: char| c.is_whitespace() || matches!(c, ',' | '.' | '[' | '='));
    let options = words.filter(|word| word.starts_with('-') && word.len() > 1);
    options.map(|word| word.trim_end_matches("...").to_owned()).collect()
}

/// Returns the options of a command that its program does not have; none for commands of other programs. Text that begins
/// with an option has to be an option of any program.
pub(crate) fn unknown(
    command: &str,
    known: &BTreeMap<&'static str, BTreeSet<String>>,
) -> Vec<String> {
    let mut words = outside_of_quotes(command);
    let Some(first) = words.next() else { return Vec::new() };
    let all: BTreeSet<String>;
    let (options, first) = if let Some(options) = known.get(first.as_str()) {
        (options, None)
    } else if first.starts_with("--") {
        all = known.values().flatten().cloned().collect();
        (&all, Some(first))
    } else {
        return Vec::new();
    };
    let words = first
        .into_iter()
        .chain(words.take_while(|word| !matches!(word.as_str(), "|" | ">" | ";" | "#")));
    let shown = words.filter(|word| word.starts_with('-') && word.len() > 1);
    let shown = shown.map(|word| word.split('=').next().unwrap_or_default().to_owned());
    shown.filter(|option| !options.contains(option)).collect()
}

/// Returns the words of a command; a quoted part is left out, with what stands beside it.
fn outside_of_quotes(command: &str) -> impl Iterator<Item = String> {
    let mut bare = String::new();
    let mut quote = None;
    for c in command.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            Some(_) => {}
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None => bare.push(c),
        }
    }
    bare.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
}
