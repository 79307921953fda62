//! What the kernel says of a running collector's rights, and what it refuses.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use nix::sys::signal::Signal;
use nix::unistd::{Uid, chown};
use pen_testing::TempFolder;

use crate::support::{RunningCollector, line, run, wait_for_file};

/// `CAP_DAC_OVERRIDE`, which root keeps to open the logs of others.
const OPEN_ALL: u64 = 1 << 1;

/// The fields of all threads in `/proc/PID/task/*/status`.
fn status(pid: u32, field: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let status = threads.map(|thread| {
        let text = fs::read_to_string(thread.expect("a thread").path().join("status"));
        text.expect("it runs")
    });
    let value = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
        line.expect("the kernel has the field").to_owned()
    };
    status.map(value).collect()
}

fn capabilities(pid: u32, field: &str) -> u64 {
    let sets: Vec<_> = status(pid, field);
    sets.iter().map(|set| u64::from_str_radix(set, 16).expect("hexadecimal")).fold(0, |a, b| a | b)
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_string_lossy().into_owned()
}

#[test]
fn the_kernel_says_that_nothing_is_left_but_what_is_needed() {
    let folder = TempFolder::new();
    let [log, explain, journal, pid] =
        ["log", "why", "journal", "pid"].map(|name| path(folder.path(), name));
    let args =
        ["-l", &log, "--explain", &explain, "--journal", &journal, "-p", &pid, "--wait", "10"];
    let collector = RunningCollector::start(&args);
    collector.send("127.0.0.2", &[&line("10.0.0.1", "GET /a HTTP/1.1")]);
    wait_for_file(Path::new(&log), |text| text.contains("/a"));
    let id = collector.pid();
    assert!(status(id, "NoNewPrivs").iter().all(|value| value == "1"));
    let kept = if Uid::effective().is_root() { OPEN_ALL } else { 0 };
    for set in ["CapEff", "CapPrm"] {
        assert_eq!(capabilities(id, set), kept, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(capabilities(id, set), 0, "{set}");
    }
    if Uid::effective().is_root() {
        assert_eq!(capabilities(id, "CapBnd"), 0);
        collector.wait_for_once("runs as root: name a user");
    }
    collector.wait_for_once("sandbox: ");
    let (code, _, said) = collector.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(!Path::new(&pid).exists(), "the pid file is removed from inside: {said}");
}

#[test]
fn a_log_beyond_its_folder_is_refused_by_the_kernel_and_without_a_sandbox_is_not() {
    for is_open in [false, true] {
        let folder = TempFolder::new();
        for name in ["site", "site/logs", "outside"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        let (log, outside) = (folder.join("site/logs/log"), folder.join("outside/log"));
        let name = log.to_string_lossy().into_owned();
        let more: &[&str] = if is_open { &["--no-sandbox"] } else { &[] };
        let collector = RunningCollector::start(&[&["-l", &name, "--wait", "10"], more].concat());
        let said = collector.said();
        assert_eq!(said.contains("sandbox: "), !is_open, "{said}");
        if !is_open && said.contains("has no landlock") {
            return;
        }
        collector.send("127.0.0.2", &[&line("10.0.0.1", "GET /a HTTP/1.1")]);
        wait_for_file(&log, |text| text.contains("/a"));
        fs::rename(&log, folder.join("site/logs/log.1")).unwrap();
        symlink(&outside, &log).unwrap();
        collector.signal(Signal::SIGHUP);
        if is_open {
            wait_for_file(&outside, |_| outside.exists());
            continue;
        }
        collector.wait_for("Permission denied");
        assert!(!outside.exists());
        collector.send("127.0.0.2", &[&line("10.0.0.1", "GET /b HTTP/1.1")]);
        fs::remove_file(&log).unwrap();
        wait_for_file(&log, |text| text.contains("/b"));
        let (code, _, said) = collector.stop();
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn a_log_behind_a_link_is_written_rotated_and_written_again_after_a_restart() {
    let folder = TempFolder::new();
    for name in ["logs", "disk"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    let (log, real) = (folder.join("logs/log"), folder.join("disk/log"));
    symlink("../disk/log", &log).unwrap();
    let (name, journal) = (path(folder.path(), "logs/log"), path(folder.path(), "journal"));
    for round in 0..2 {
        let collector =
            RunningCollector::start(&["-l", &name, "--journal", &journal, "--wait", "10"]);
        for part in ["a", "b"] {
            let request = format!("/{round}{part}");
            collector.send("127.0.0.2", &[&line("10.0.0.1", &format!("GET {request} HTTP/1.1"))]);
            wait_for_file(&real, |text| text.contains(&request));
            fs::rename(&real, folder.join(format!("disk/log.{round}{part}"))).unwrap();
            collector.signal(Signal::SIGHUP);
            wait_for_file(&real, |_| real.exists());
        }
        let (code, _, said) = collector.stop();
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn root_gives_a_new_journal_to_the_user_that_it_becomes() {
    if !Uid::effective().is_root() {
        return;
    }
    let folder = TempFolder::new();
    let nobody = Uid::from_raw(65_534);
    fs::create_dir(folder.join("logs")).unwrap();
    chown(&folder.join("logs"), Some(nobody), None).unwrap();
    open_to_all(folder.path());
    let [log, journal, pid] = ["logs/log", "journal", "pid"].map(|name| path(folder.path(), name));
    let args = ["-u", "65534", "-l", &log, "--journal", &journal, "-p", &pid, "--wait", "10"];
    for request in ["/a", "/b"] {
        let collector = RunningCollector::start(&args);
        collector.send("127.0.0.2", &[&line("10.0.0.1", &format!("GET {request} HTTP/1.1"))]);
        wait_for_file(Path::new(&log), |text| text.contains(request));
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"] {
            assert_eq!(capabilities(collector.pid(), set), 0, "{set}");
        }
        assert_eq!(fs::metadata(&journal).unwrap().uid(), nobody.as_raw());
        assert_eq!(fs::metadata(&log).unwrap().mode() & 0o777, 0o640);
        let (code, _, said) = collector.stop();
        assert_eq!(code, Some(0), "{said}");
        assert!(!said.contains("runs as root"), "{said}");
    }
}

/// Lets other users reach a folder.
fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder, mode).expect("it is this test's");
}

#[test]
fn a_journal_in_a_missing_folder_is_named_with_what_to_do() {
    let folder = TempFolder::new();
    let [log, journal] = ["log", "no/journal"].map(|name| path(folder.path(), name));
    let output = run(&["-f", "-l", &log, "--journal", &journal, "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected = format!("the folder {0} is missing (mkdir -p {0})", path(folder.path(), "no"));
    assert!(said.contains(&expected), "{said}");
    let journal = path(folder.path(), "journal");
    fs::create_dir(&journal).unwrap();
    let log = format!("{journal}/00000000000000000000.journal");
    let output = run(&["-f", "-l", &log, "--journal", &journal, "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("it is in the journal"), "{said}");
}
