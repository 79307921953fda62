//! Rotated and packed while penlog is down, a log loses no line and doubles none.

mod support;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use pen_testing::random::SeededRandom;
use pen_testing::{TempFolder, wait_until};
use support::{RunningShipper, TestCollector, expect_each_once, lines, read};

/// Follows files that match a pattern, and remembers how far.
fn follow(collector: &TestCollector, folder: &TempFolder, pattern: &str) -> RunningShipper {
    let path = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
    let (state, pattern) = (path("state"), path(pattern));
    RunningShipper::to(collector.addr, &["--from-start", "--state", &state, "--follow", &pattern])
}

fn text(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| format!("line {number}\n")).collect()
}

/// Renames a file, dates it, and packs it as logrotate does.
fn pack(folder: &TempFolder, from: &str, to: &str, age: u64) {
    let path = rename(folder, from, to, age);
    let status = Command::new("gzip").arg(path).status().expect("gzip is installed");
    assert!(status.success());
}

fn rename(folder: &TempFolder, from: &str, to: &str, age: u64) -> PathBuf {
    let path = folder.join(to);
    fs::rename(folder.join(from), &path).expect("it is there");
    let written = SystemTime::now() - Duration::from_secs(age);
    File::options()
        .append(true)
        .open(&path)
        .and_then(|it| it.set_modified(written))
        .expect("a date");
    path
}

/// Follows `access.log` with so many lines, and kills penlog when all have come.
fn ship_and_kill(collector: &TestCollector, folder: &TempFolder, count: u32) -> Vec<Vec<u8>> {
    folder.append("access.log", text(0..count));
    let penlog = follow(collector, folder, "access.log");
    let came = collector.take(count as usize);
    wait_for_position(folder);
    penlog.kill();
    came
}

fn wait_for_position(folder: &TempFolder) {
    let is_named = || read(&folder.join("state")).windows(8).any(|it| it == b"\nstream ");
    wait_until("the position", is_named);
}

#[test]
fn a_log_that_is_packed_while_it_is_down_is_read_to_its_end() {
    for pattern in ["access.log", "access.log*"] {
        let (collector, folder) = (TestCollector::start(), TempFolder::new());
        // From before penlog was there, and from long before.
        folder.write("access.log", "ancient\n");
        pack(&folder, "access.log", "access.log.7", 100_000);
        folder.append("access.log", text(0..500));
        let penlog = follow(&collector, &folder, pattern);
        let came = collector.take(200);
        wait_for_position(&folder);
        penlog.kill();
        folder.append("access.log", text(500..1_500));
        pack(&folder, "access.log", "access.log.1", 60);
        folder.append("access.log", text(1_500..2_000));
        let _penlog = follow(&collector, &folder, pattern);
        expect_each_once(&collector, came, 2_000);
    }
}

#[test]
fn what_was_begun_and_rotated_while_it_is_down_is_read_in_whole() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    let came = ship_and_kill(&collector, &folder, 500);
    for (number, is_packed) in [(1, true), (2, false), (3, true)] {
        let (name, age) = (format!("access.log.{}", 4 - number), u64::from(100 - number));
        if is_packed {
            pack(&folder, "access.log", &name, age);
        } else {
            rename(&folder, "access.log", &name, age);
        }
        folder.append("access.log", text(number * 500..(number + 1) * 500));
    }
    folder.append("access.log.old", "not a rotated file\n");
    folder.append("access_ssl.log.1", "another log\n");
    let _penlog = follow(&collector, &folder, "access.log");
    expect_each_once(&collector, came, 2_000);
}

#[test]
fn killed_while_it_reads_packed_copies_it_ships_each_line_once() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    let mut random = SeededRandom::new(1);
    let mut came = ship_and_kill(&collector, &folder, 1_000);
    let mut written = 1_000;
    for round in 0..6_u32 {
        folder.append("access.log", text(written..written + 20_000));
        written += 20_000;
        let age = u64::from(1_000 - round);
        pack(&folder, "access.log", &format!("access.log-{:08}", 20_261_201 + round), age);
        folder.append("access.log", text(written..written + 1_000));
        written += 1_000;
        let penlog = follow(&collector, &folder, "access.log");
        came.extend(collector.take(1 + random.below(15_000)));
        penlog.kill();
        came.extend(collector.lines.try_iter());
    }
    let _penlog = follow(&collector, &folder, "access.log");
    expect_each_once(&collector, came, written);
}

#[test]
fn logs_that_begin_with_the_same_line_are_each_read() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    folder.append("access.log", "time client\n");
    let mut came = ship_and_kill(&collector, &folder, 1);
    folder.append("access.log", text(1..500));
    rename(&folder, "access.log", "access.log.2", 60);
    folder.append("access.log", format!("time client\n{}", text(500..1_000)));
    pack(&folder, "access.log", "access.log.1", 30);
    folder.append("access.log", format!("time client\n{}", text(1_000..1_500)));
    let _penlog = follow(&collector, &folder, "access.log");
    came.extend(collector.take(1_503 - came.len()));
    came.retain(|line| line != b"time client");
    expect_each_once(&collector, came, 1_500);
}

#[test]
fn a_copy_that_was_packed_before_the_log_was_truncated_is_read_to_its_end() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    let came = ship_and_kill(&collector, &folder, 500);
    folder.append("access.log", text(500..1_000));
    fs::copy(folder.join("access.log"), folder.join("copy")).unwrap();
    fs::write(folder.join("access.log"), text(1_000..1_500)).unwrap();
    pack(&folder, "copy", "access.log.1", 10);
    let _penlog = follow(&collector, &folder, "access.log");
    expect_each_once(&collector, came, 1_500);
}

#[test]
fn a_damaged_copy_is_said_and_stops_nothing() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    folder.append("access.log", "one\n");
    let penlog = follow(&collector, &folder, "access.log");
    assert_eq!(collector.take(1), lines(&["one"]));
    wait_for_position(&folder);
    penlog.kill();
    folder.append("access.log", text(0..50_000));
    pack(&folder, "access.log", "access.log.1", 10);
    let packed = folder.join("access.log.1.gz");
    let bytes = read(&packed);
    fs::write(&packed, &bytes[..bytes.len() / 2]).unwrap();
    folder.append("access.log", "two\n");
    let penlog = follow(&collector, &folder, "access.log");
    penlog.says("cannot be unpacked");
    let mut came = Vec::new();
    while came.last().is_none_or(|line| line != b"two") {
        came.extend(collector.take(1));
    }
    came.extend(collector.lines.try_iter());
    let numbers: Vec<_> = came.into_iter().filter(|line| line != b"two").collect();
    let expected: Vec<_> = text(0..50_000).lines().map(Vec::from).take(numbers.len()).collect();
    assert!(numbers == expected && !numbers.is_empty(), "{} lines", numbers.len());
}
