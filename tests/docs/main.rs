//! README, the guide, the design pages and the pages for contributors: their commands run, their options exist, and
//! their links lead somewhere.
//!
//! A block with the language `sh` is run by `sh -eu` in a folder of its document, where `fixtures`, `docs`, `tools` and
//! `target/release` are. The programs of this workspace come first on the path. `cargo` and `install` are stand-ins:
//! packages, binaries, tests and files have to exist, and nothing is built or copied.
//!
//! A comment before a block changes how it is run:
//!
//! - `<!-- test: starts -->`: each command is a program that keeps running. The program has to say that it is ready and
//!   has to exit with 0 after SIGTERM. [`adapt`] lists which names of the document stand for addresses here.
//!
//! A block with any other language, or without one, is not run. If it, or text in backticks, begins with a program of
//! this workspace, the options have to be options of that program.

mod examples;
mod markdown;
mod options;
mod shell;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use markdown::Document;
use shell::{Loghost, Shell};

/// The root of the repository.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Returns all documents, with paths from the root of the repository.
fn documents() -> Vec<Document> {
    let mut paths: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md"].iter().map(PathBuf::from).collect();
    for folder in ["docs/guide", "docs/design"] {
        let files = fs::read_dir(Path::new(ROOT).join(folder)).expect("the folder is there");
        let names = files.map(|file| file.expect("the folder can be read").file_name());
        let pages: BTreeSet<_> = names
            .filter(|name| Path::new(name).extension().is_some_and(|end| end == "md"))
            .collect();
        paths.extend(pages.into_iter().map(|name| Path::new(folder).join(name)));
    }
    paths.into_iter().map(Document::read).collect()
}

#[test]
fn commands_in_the_documents_run() {
    let loghost = Loghost::start();
    let mut run = 0;
    for document in documents() {
        let shell = Shell::new();
        for block in document.blocks.iter().filter(|block| block.language == "sh") {
            let place = format!("{}:{}", document.path.display(), block.line);
            match block.test.as_deref() {
                None => shell.run(&block.text, &place),
                Some("starts") => {
                    for command in commands(&block.text) {
                        shell.start(&command, &loghost, &place);
                    }
                }
                Some(other) => panic!("{place}: unknown test comment {other:?}"),
            }
            run += 1;
        }
    }
    assert!(run > 20, "only {run} blocks were found");
}

/// Returns the commands of a block: one for each line, with continued lines joined.
fn commands(text: &str) -> Vec<String> {
    text.replace("\\\n", " ").lines().map(str::to_owned).collect()
}

#[test]
fn options_in_the_documents_exist() {
    let known = options::of_all_programs();
    let mut unknown = Vec::new();
    for document in documents() {
        let texts = document.blocks.iter().map(|block| &block.text).chain(&document.spans);
        for command in texts.flat_map(|text| commands(text)) {
            if command.starts_with('-') && !document.is_for_users() {
                continue;
            }
            for option in options::unknown(&command, &known) {
                unknown.push(format!("{}: {option} in `{command}`", document.path.display()));
            }
        }
    }
    assert!(unknown.is_empty(), "no such options:\n{}", unknown.join("\n"));
}

#[test]
fn links_and_paths_in_the_documents_lead_somewhere() {
    let all = documents();
    let mut lost = Vec::new();
    for document in &all {
        let folder = document.path.parent().expect("a document is in a folder");
        for link in &document.links {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { document.path.clone() } else { tidy(&folder.join(file)) };
            if !Path::new(ROOT).join(&target).exists() {
                lost.push(format!("{}: {link}", document.path.display()));
            } else if !heading.is_empty()
                && !all
                    .iter()
                    .any(|it| it.path == target && it.headings.iter().any(|h| h == heading))
            {
                lost.push(format!("{}: {link}: no such heading", document.path.display()));
            }
        }
        for path in document.spans.iter().filter(|span| is_path(span)) {
            if !Path::new(ROOT).join(path).exists() {
                lost.push(format!("{}: `{path}`", document.path.display()));
            }
        }
    }
    assert!(lost.is_empty(), "these lead nowhere:\n{}", lost.join("\n"));
}

/// Returns `path` without `..`.
fn tidy(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        if part.as_os_str() == ".." {
            out.pop();
        } else {
            out.push(part);
        }
    }
    out
}

/// Whether text in backticks is a path in the repository, not a pattern and not a command.
fn is_path(span: &str) -> bool {
    const FOLDERS: [&str; 14] = [
        "bench/",
        "demo/",
        "daemon/",
        "docs/",
        "fixtures/",
        "fuzz/",
        "mergelogs/",
        "penlog/",
        "penlogd/",
        "records/",
        "src/",
        "testing/",
        "tests/",
        "tools/",
    ];
    FOLDERS.iter().any(|folder| span.starts_with(folder)) && !span.contains(['*', ' ', '{', '…'])
}
