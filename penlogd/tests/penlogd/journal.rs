//! A collector with a journal: killed, restarted, its log cut, rotated and removed.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use pen_testing::{TempFolder, wait_until};

use crate::support::{RunningCollector, line, run, wait_for_file};

/// A folder with a log and a journal.
struct Site {
    folder: TempFolder,
    log: PathBuf,
}

impl Site {
    fn new() -> Self {
        let folder = TempFolder::new();
        let log = folder.join("log");
        Self { folder, log }
    }

    fn start(&self) -> RunningCollector {
        let [log, journal] = [&self.log, &self.folder.join("journal")].map(|path| text(path));
        RunningCollector::start(&["-l", &log, "--journal", &journal, "--wait", "10"])
    }

    /// Sends numbered lines and waits until they are in the log.
    fn send(&self, collector: &RunningCollector, numbers: std::ops::Range<u32>) {
        let lines: Vec<String> = numbers.clone().map(numbered).collect();
        collector.send("127.0.0.2", &lines.iter().map(String::as_str).collect::<Vec<_>>());
        for number in numbers {
            wait_for_file(&self.log, |text| text.contains(&numbered(number)));
        }
    }

    fn kill(collector: RunningCollector) {
        collector.signal(Signal::SIGKILL);
        assert_eq!(collector.wait().0, None);
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn numbered(number: u32) -> String {
    line("10.0.0.1", &format!("GET /{number}/ HTTP/1.1"))
}

fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers.map(numbered).collect()
}

#[test]
fn after_a_kill_each_line_is_there_once_and_a_torn_one_is_whole() {
    let site = Site::new();
    let collector = site.start();
    site.send(&collector, 0..20);
    Site::kill(collector);
    // As if the kill had come in the middle of the last two lines.
    let whole = fs::read_to_string(&site.log).unwrap();
    fs::write(&site.log, &whole.as_bytes()[..whole.len() - 70]).unwrap();
    let collector = site.start();
    site.send(&collector, 18..20);
    site.send(&collector, 20..25);
    let (code, _, said) = collector.stop();
    assert_eq!(code, Some(0), "{said}");
    let written = fs::read_to_string(&site.log).unwrap();
    let mut found: Vec<&str> = written.lines().collect();
    found.sort_by_key(|line| line.split('/').nth(3).and_then(|number| number.parse::<u32>().ok()));
    // A line without numbers cannot be known as sent before: 18 and 19 were sent twice.
    let expected =
        lines(0..18) + &lines(18..19).repeat(2) + &lines(19..20).repeat(2) + &lines(20..25);
    assert_eq!(found, expected.lines().collect::<Vec<_>>(), "{said}");
    assert!(said.contains("datagrams of earlier runs"), "{said}");
    assert!(!said.contains("DOES NOT ADD UP"), "{said}");
}

#[test]
fn a_log_that_was_rotated_before_the_kill_and_after_it_gets_no_line_again() {
    let site = Site::new();
    let collector = site.start();
    site.send(&collector, 0..5);
    let (first, second) = (site.folder.join("log.1"), site.folder.join("log.2"));
    fs::rename(&site.log, &first).unwrap();
    collector.signal(Signal::SIGHUP);
    collector.wait_for("reopened");
    site.send(&collector, 5..10);
    Site::kill(collector);
    fs::rename(&site.log, &second).unwrap();
    let collector = site.start();
    site.send(&collector, 10..15);
    let (_, _, said) = collector.stop();
    for (path, numbers) in [(&first, 0..5), (&second, 5..10), (&site.log, 10..15)] {
        assert_eq!(fs::read_to_string(path).unwrap(), lines(numbers), "{said}");
    }
}

#[test]
fn a_log_that_was_cut_or_removed_meanwhile_is_said_and_the_doubtful_lines_come_again() {
    for is_cut in [true, false] {
        let site = Site::new();
        site.folder.write("log", lines(90..99));
        let collector = site.start();
        site.send(&collector, 0..5);
        Site::kill(collector);
        match is_cut {
            true => drop(OpenOptions::new().write(true).truncate(true).open(&site.log).unwrap()),
            false => fs::remove_file(&site.log).unwrap(),
        }
        let collector = site.start();
        collector.wait_for_once(if is_cut { "was cut" } else { "is gone" });
        collector.stop();
        assert_eq!(fs::read_to_string(&site.log).unwrap(), lines(0..5), "{is_cut}");
    }
}

#[test]
fn a_damaged_journal_blocks_no_start_and_is_said() {
    let site = Site::new();
    let collector = site.start();
    site.send(&collector, 0..5);
    Site::kill(collector);
    let segments = || {
        let entries = fs::read_dir(site.folder.join("journal")).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    // A start makes the next segment, so that damage in the first one is no torn end.
    site.start().stop();
    let first = &segments()[0];
    let mut bytes = fs::read(first).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(first, bytes).unwrap();
    let mut last = OpenOptions::new().append(true).open(segments().last().unwrap()).unwrap();
    last.write_all(&[7; 100]).unwrap();
    let collector = site.start();
    collector.wait_for_once("is damaged: ");
    site.send(&collector, 5..10);
    collector.stop();
    assert!(fs::read_to_string(&site.log).unwrap().ends_with(&lines(5..10)));
}

#[test]
fn a_journal_is_of_one_collector_and_needs_a_plain_file() {
    let site = Site::new();
    let _running = site.start();
    let [log, journal] = [&site.log, &site.folder.join("journal")].map(|path| text(path));
    for (arguments, expected) in [
        (["-l", &log, "--journal", &journal], "another penlogd uses it"),
        (["-l", "/dev/null", "--journal", &text(&site.folder.join("other"))], "a plain file"),
        (["-l", &log, "--journal", &log], "is no folder"),
    ] {
        let output = run(&[&["-f", "--listen", "127.0.0.1:0"], &arguments[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn files_that_are_not_of_the_journal_do_no_harm() {
    let site = Site::new();
    let journal = site.folder.join("journal");
    let victim = site.folder.write("victim", "precious\n");
    site.start().stop();
    for name in ["18446744073709551615.journal", "09000000000000000000.journal", "notes.txt"] {
        fs::write(journal.join(name), "").unwrap();
    }
    let collector = site.start();
    site.send(&collector, 0..5);
    collector.stop();
    assert_eq!(fs::read_to_string(&site.log).unwrap(), lines(0..5));
    let link = journal.join("04000000000000000000.journal");
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    let output = run(&[
        "-f",
        "--listen",
        "127.0.0.1:0",
        "-l",
        &text(&site.log),
        "--journal",
        &text(&journal),
    ]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("it is no plain file"), "{said}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious\n");
}

#[test]
fn a_journal_that_has_its_size_takes_nothing_more_and_says_so() {
    let site = Site::new();
    let [log, journal] = [&site.log, &site.folder.join("journal")].map(|path| text(path));
    let collector =
        RunningCollector::start(&["-l", &log, "--journal", &journal, "--journal-size", "16"]);
    let long = format!("{}\n", "x".repeat(60_000));
    let flood = || collector.send("127.0.0.2", &[long.as_str(); 40]);
    wait_until("the journal is full", || {
        flood();
        collector.said().contains("more than --journal-size says")
    });
    let size = || -> u64 {
        let entries = fs::read_dir(site.folder.join("journal")).expect("a folder");
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    // What had been read already is still written.
    (0..20).for_each(|_| flood());
    assert!(size() < 24 << 20, "{}", size());
    Site::kill(collector);
}
