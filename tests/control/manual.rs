//! The manual page of pen against the program.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pen::command::cli::PenArgs;
use pen::command::verbs;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man/pen.1");
    fs::read_to_string(path).expect("the manual is there").replace("\\-", "-")
}

/// The first lines of its entries, without the marks of the typesetter.
fn tags(page: &str) -> Vec<String> {
    let tags = page.split("\n.TP\n").skip(1).filter_map(|tag| tag.lines().next());
    tags.map(|tag| tag.split_once(' ').map_or("", |(_, tag)| tag).replace('"', "")).collect()
}

#[test]
fn each_option_is_in_the_manual_and_the_reverse() {
    let mut command = PenArgs::definition();
    command.build();
    let typed: BTreeSet<String> = command
        .get_arguments()
        .flat_map(|arg| {
            let short = arg.get_short().map(|letter| format!("-{letter}"));
            short.into_iter().chain(arg.get_long().map(|word| format!("--{word}")))
        })
        .collect();
    let tags = tags(&page());
    let words = tags.iter().flat_map(|tag| tag.split([' ', ',']));
    let told = words.filter(|word| word.starts_with('-')).map(str::to_owned).collect();
    assert_eq!(typed, told);
}

#[test]
fn each_verb_is_in_the_manual() {
    let tags = tags(&page());
    for (usage, _) in verbs::help() {
        assert!(tags.contains(&usage), "{usage}");
    }
}
