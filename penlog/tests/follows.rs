//! Files that are followed, through every rotation.

mod support;

use std::fs;

use nix::sys::signal::Signal;
use pen_testing::{TempFolder, wait_until};
use support::{RunningShipper, TestCollector, lines, read};

fn follow(
    collector: &TestCollector,
    folder: &TempFolder,
    pattern: &str,
    more: &[&str],
) -> RunningShipper {
    let pattern = folder.join(pattern);
    let mut args = more.to_vec();
    args.extend(["--follow", pattern.to_str().expect("UTF-8")]);
    RunningShipper::to(collector.addr, &args)
}

/// Waits until this one is followed, from its end: nothing else would show that.
fn wait_until_followed(collector: &TestCollector, folder: &TempFolder, name: &str) {
    wait_until("a line", || {
        folder.append(name, "ready?\n");
        collector.lines.recv_timeout(std::time::Duration::from_millis(300)).is_ok()
    });
    while collector.lines.recv_timeout(std::time::Duration::from_millis(300)).is_ok() {}
}

#[test]
fn it_begins_at_the_end_and_goes_on_with_what_is_added() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    folder.append("access.log", "old\n");
    let mut penlog = follow(&collector, &folder, "access.log", &[]);
    wait_until_followed(&collector, &folder, "access.log");
    folder.append("access.log", "one\ntw");
    assert_eq!(collector.take(1), lines(&["one"]));
    folder.append("access.log", "o\n");
    assert_eq!(collector.take(1), lines(&["two"]));
    penlog.signal(Signal::SIGTERM);
    assert!(penlog.wait().success());
}

#[test]
fn a_file_that_is_renamed_is_read_to_its_end_and_the_new_one_from_its_start() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    folder.append("access.log", "one\n");
    let _penlog = follow(&collector, &folder, "access.log", &["--from-start"]);
    assert_eq!(collector.take(1), lines(&["one"]));
    fs::rename(folder.join("access.log"), folder.join("access.log.1")).unwrap();
    // The web server goes on with the old file until it is told to open the new one.
    folder.append("access.log.1", "two\n");
    assert_eq!(collector.take(1), lines(&["two"]));
    folder.append("access.log", "three\n");
    assert_eq!(collector.take(1), lines(&["three"]));
    folder.append("access.log.1", "a straggler\n");
    assert_eq!(collector.take(1), lines(&["a straggler"]));
}

#[test]
fn a_file_that_is_truncated_is_read_from_its_start() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    folder.append("access.log", "a first line that is rather long\n");
    let _penlog = follow(&collector, &folder, "access.log", &["--from-start"]);
    assert_eq!(collector.take(1).len(), 1);
    fs::File::options().write(true).open(folder.join("access.log")).unwrap().set_len(0).unwrap();
    folder.append("access.log", "two\n");
    assert_eq!(collector.take(1), lines(&["two"]));
}

#[test]
fn a_copy_of_a_followed_file_is_not_sent_again() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    folder.append("access.log", "one\ntwo\n");
    let penlog = follow(&collector, &folder, "access.log*", &["--from-start"]);
    assert_eq!(collector.take(2), lines(&["one", "two"]));
    // An editor makes a copy.
    fs::copy(folder.join("access.log"), folder.join("access.log~")).unwrap();
    penlog.says("access.log~ is a copy of ");
    // logrotate copies the file and truncates it.
    folder.append("access.log", "three\n");
    assert_eq!(collector.take(1), lines(&["three"]));
    fs::copy(folder.join("access.log"), folder.join("access.log.1")).unwrap();
    fs::File::create(folder.join("access.log")).unwrap();
    folder.append("access.log", "four\n");
    assert_eq!(collector.take(1), lines(&["four"]));
    penlog.says("copytruncate loses lines");
    folder.append("access.log", "five\n");
    assert_eq!(collector.take(1), lines(&["five"]));
}

#[test]
fn files_that_appear_later_are_found_by_the_pattern() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    folder.append("a.access.log", "old\n");
    let _penlog = follow(&collector, &folder, "*.access.log", &[]);
    wait_until_followed(&collector, &folder, "a.access.log");
    folder.append("b.access.log", "one\n");
    folder.append("b.error.log", "not this\n");
    folder.append("b.access.log.gz", "nor this\n");
    assert_eq!(collector.take(1), lines(&["one"]));
    folder.append("a.access.log", "two\n");
    assert_eq!(collector.take(1), lines(&["two"]));
    // Renamed within the pattern it is the same file still.
    fs::rename(folder.join("a.access.log"), folder.join("c.access.log")).unwrap();
    folder.append("c.access.log", "three\n");
    assert_eq!(collector.take(1), lines(&["three"]));
}

#[test]
fn with_a_state_file_nothing_is_lost_or_sent_twice_between_runs() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    let state = folder.join("state");
    let more = ["--from-start", "--state", state.to_str().unwrap()];
    folder.append("access.log", "one\ntwo\n");
    let mut penlog = follow(&collector, &folder, "access.log", &more);
    assert_eq!(collector.take(2), lines(&["one", "two"]));
    penlog.signal(Signal::SIGTERM);
    assert!(penlog.wait().success());

    folder.append("access.log", "three\n");
    fs::rename(folder.join("access.log"), folder.join("access.log.1")).unwrap();
    folder.append("access.log", "four\n");
    let mut penlog = follow(&collector, &folder, "access.log", &more);
    let mut came = collector.take(2);
    came.sort();
    assert_eq!(came, lines(&["four", "three"]));
    penlog.signal(Signal::SIGTERM);
    assert!(penlog.wait().success());
    assert!(collector.lines.try_recv().is_err(), "nothing comes twice");
}

#[test]
fn killed_it_goes_on_behind_the_last_line_that_arrived() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    let state = folder.join("state");
    let more = ["--from-start", "--state", state.to_str().unwrap()];
    folder.append("access.log", "one\n");
    let penlog = follow(&collector, &folder, "access.log", &more);
    assert_eq!(collector.take(1), lines(&["one"]));
    wait_until("the position", || read(&state).windows(3).any(|text| text == b" 4 "));
    drop(penlog);
    folder.append("access.log", "two\n");
    let _penlog = follow(&collector, &folder, "access.log", &more);
    assert_eq!(collector.take(1), lines(&["two"]));
}

#[test]
fn a_file_waits_when_the_queue_is_full_and_nothing_is_dropped() {
    let folder = TempFolder::new();
    let addr = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut text = String::new();
    for number in 0..40_000 {
        text.push_str(&format!("{number:0>249}\n"));
    }
    folder.append("access.log", &text);
    let path = folder.join("access.log");
    let args = ["--queue", "2", "--from-start", "--follow", path.to_str().unwrap()];
    let mut penlog = RunningShipper::to(addr, &args);
    penlog.says("cannot reach");
    let collector = TestCollector::on(std::net::UdpSocket::bind(addr).unwrap(), 0);
    let came = collector.take(40_000);
    assert!(came.iter().zip(text.lines()).all(|(line, text)| line == text.as_bytes()));
    penlog.signal(Signal::SIGTERM);
    assert!(penlog.wait().success());
    assert_eq!(collector.seen().counts.dropped, 0);
}
