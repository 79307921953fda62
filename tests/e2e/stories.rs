//! The stories of `fixtures/`: what `mergelogs` makes of them is kept as snapshots.

use std::path::{Path, PathBuf};
use std::process::Command;

use pen_bench::ActionError;
use pen_bench::stage::{Mark, TempFolder, Truth, marks, run_to_end, sibling};

/// The log, and beside each line how its client was found.
#[test]
fn stories_merge_as_they_did() {
    for (story, webs) in [("shop", 3), ("long-urls", 2), ("junk", 2)] {
        let merged = merge(story, webs).unwrap();
        let mut text = String::new();
        for (line, how) in merged.log.split_inclusive(|&b| b == b'\n').zip(&merged.explained) {
            let line = String::from_utf8_lossy(line);
            let short: String = line.trim_end().chars().take(120).collect();
            text += &format!("{:<8} {short}\n", String::from_utf8_lossy(&how.certainty));
        }
        insta::with_settings!({ omit_expression => true }, {
            insta::assert_snapshot!(story, text);
        });
    }
}

#[test]
fn stories_lose_no_line_and_name_nobody_wrongly_for_certain() {
    for (story, webs) in [("shop", 3), ("long-urls", 2), ("junk", 2)] {
        let merged = merge(story, webs).unwrap();
        let mut truth = Truth::default();
        for number in 1..=webs {
            truth.add(&folder(story).join(format!("web{number}/truth.log"))).unwrap();
        }
        let score = truth.score(&merged.log, Some(&merged.explained));
        assert_eq!((score.lost(), score.doubled, score.strange), (0, 0, 0), "{story}: {score:?}");
        assert_eq!(score.certain_wrong, 0, "{story}: {score:?}");
        if story == "shop" {
            assert!(score.right * 100 >= score.lines * 90, "{story}: {score:?}");
        }
    }
}

struct Merged {
    log: Vec<u8>,
    explained: Vec<Mark>,
}

fn merge(story: &str, webs: usize) -> Result<Merged, ActionError> {
    let (here, scratch) = (folder(story), TempFolder::new());
    let explain = scratch.join("explain");
    let mut command = Command::new(sibling("mergelogs")?);
    command.arg("-p").arg(here.join("pen.log")).arg("--explain").arg(&explain);
    for number in 1..=webs {
        let logs = here.join(format!("web{number}/access.log*"));
        command.arg(format!("127.0.1.{number}:{}", logs.display()));
    }
    let log = run_to_end(&mut command)?;
    let explained = marks(&explain)?;
    Ok(Merged { log, explained })
}

fn folder(story: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(story)
}
