//! Killed at any moment while it follows files, penlog loses no line and sends none twice.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::signal::Signal;
use pen_testing::random::SeededRandom;
use pen_testing::{TempFolder, wait_until};
use support::{RunningShipper, TestCollector, expect_each_once, lines, read};

/// Follows files that match a pattern, with a state file or without one.
fn follow(
    collector: &TestCollector,
    folder: &TempFolder,
    pattern: &str,
    more: &[&str],
) -> RunningShipper {
    let (state, pattern) = (folder.join("state"), folder.join(pattern));
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let mut args: Vec<String> = more.iter().map(|&word| word.to_owned()).collect();
    if !more.contains(&"--queue") {
        args.extend(["--state".into(), path(&state)]);
    }
    args.extend(["--follow".into(), path(&pattern)]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    RunningShipper::to(collector.addr, &args)
}

fn text(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| format!("line {number}\n")).collect()
}

#[test]
fn killed_again_and_again_it_ships_each_line_once() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    let mut random = SeededRandom::new(1);
    let mut came = Vec::new();
    let mut written = 0;
    for _ in 0..8 {
        let penlog = follow(&collector, &folder, "access.log", &["--from-start"]);
        for _ in 0..1 + random.below(4) {
            // A large part takes several shipments, and the kill hits any of them.
            let part = 1 + u32::try_from(random.below(20_000)).unwrap();
            folder.append("access.log", text(written..written + part));
            written += part;
            came.extend(collector.take(1 + random.below(part as usize / 2 + 1).min(1_000)));
        }
        penlog.kill();
        came.extend(collector.lines.try_iter());
    }
    let _penlog = follow(&collector, &folder, "access.log", &["--from-start"]);
    expect_each_once(&collector, came, written);
}

#[test]
fn a_rotation_while_it_is_killed_loses_and_doubles_nothing() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    let mut came = Vec::new();
    let mut written = 0;
    for round in 0..6 {
        let penlog = follow(&collector, &folder, "access.log*", &["--from-start"]);
        for turn in 0..3 {
            folder.append("access.log", text(written..written + 500));
            written += 500;
            if turn == 1 {
                came.extend(collector.take(1));
            }
            fs::rename(
                folder.join("access.log"),
                folder.join(format!("access.log.{round}.{turn}")),
            )
            .unwrap();
        }
        penlog.kill();
        folder.append("access.log", text(written..written + 500));
        written += 500;
        fs::rename(folder.join("access.log"), folder.join(format!("access.log.{round}.down")))
            .unwrap();
    }
    let _penlog = follow(&collector, &folder, "access.log*", &["--from-start"]);
    expect_each_once(&collector, came, written);
}

#[test]
fn without_a_state_file_it_goes_on_where_the_collector_says() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    folder.append("access.log", "one\ntwo\n");
    let penlog = follow(&collector, &folder, "access.log", &["--queue", "8", "--from-start"]);
    assert_eq!(collector.take(2), lines(&["one", "two"]));
    penlog.kill();
    folder.append("access.log", "three\n");
    // Not from the end, as a first run would.
    let _penlog = follow(&collector, &folder, "access.log", &["--queue", "8"]);
    assert_eq!(collector.take(1), lines(&["three"]));
}

#[test]
fn an_inode_that_is_used_again_while_it_is_down_is_another_file() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    folder.append("access.log", "one\ntwo\n");
    let penlog = follow(&collector, &folder, "access.log", &["--from-start"]);
    assert_eq!(collector.take(2).len(), 2);
    wait_until("the position", || read(&folder.join("state")).windows(3).any(|it| it == b" 8 "));
    penlog.kill();
    let path = folder.join("access.log");
    // The file is written anew in place, which has the same inode for sure and is more than some file systems give.
    let inode = fs::metadata(&path).unwrap().ino();
    fs::write(&path, "three\nfour\nfive\n").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    let penlog = follow(&collector, &folder, "access.log", &["--from-start"]);
    assert_eq!(collector.take(3), lines(&["three", "four", "five"]));
    penlog.says("begins otherwise");
    assert!(!penlog.said().contains("is gone"));
}

#[test]
fn a_file_that_is_truncated_and_has_outgrown_its_old_length_is_read_from_its_start() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    folder.append("access.log", "one\n");
    let penlog = follow(&collector, &folder, "access.log", &["--from-start"]);
    assert_eq!(collector.take(1), lines(&["one"]));
    // In one call, so that no look falls between.
    let path = folder.join("access.log");
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"two\nthree\n", 0).unwrap();
    assert_eq!(collector.take(2), lines(&["two", "three"]));
    penlog.says("was truncated: lines behind byte 4 are lost");
}

#[test]
fn a_file_that_is_truncated_and_begins_as_before_is_shipped_again_and_once() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    let path = folder.write("access.log", "one\ntwo\nthree\n");
    let mut penlog = follow(&collector, &folder, "access.log", &["--from-start"]);
    assert_eq!(collector.take(3), lines(&["one", "two", "three"]));
    for round in 0..3 {
        fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        folder.append("access.log", "one\n");
        assert_eq!(collector.take(1), lines(&["one"]), "round {round}");
        penlog.kill();
        folder.append("access.log", "two\n");
        penlog = follow(&collector, &folder, "access.log", &["--from-start"]);
        assert_eq!(collector.take(1), lines(&["two"]), "round {round}");
    }
    penlog.signal(Signal::SIGTERM);
    assert!(penlog.wait().success());
    assert!(collector.lines.try_recv().is_err(), "nothing comes twice");
}

#[test]
fn a_copy_that_was_made_while_it_was_down_is_read_behind_what_was_shipped() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    folder.append("access.log", "one\ntwo\n");
    let penlog = follow(&collector, &folder, "access.log*", &["--from-start"]);
    assert_eq!(collector.take(2), lines(&["one", "two"]));
    wait_until("the position", || read(&folder.join("state")).windows(3).any(|it| it == b" 8 "));
    penlog.kill();
    folder.append("access.log", "three\n");
    fs::copy(folder.join("access.log"), folder.join("access.log.1")).unwrap();
    fs::write(folder.join("access.log"), "four\n").unwrap();
    let penlog = follow(&collector, &folder, "access.log*", &["--from-start"]);
    let mut came = collector.take(2);
    came.sort();
    assert_eq!(came, lines(&["four", "three"]));
    // Killed once more: the copy is still known.
    penlog.kill();
    folder.append("access.log", "five\n");
    let mut penlog = follow(&collector, &folder, "access.log*", &["--from-start"]);
    assert_eq!(collector.take(1), lines(&["five"]));
    penlog.signal(Signal::SIGTERM);
    assert!(penlog.wait().success());
    assert!(collector.lines.try_recv().is_err(), "nothing comes twice");
}
